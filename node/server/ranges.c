/*
 * ranges.c -- looking after every range that is led here.
 *
 * A walk over the store's ranges in order of id, a few per tick: a full round takes about ten seconds, or
 * goes on at once while rounds find something to do. For each range, the first of these that applies: end a
 * merge that stopped half way, tell the index, put replicas and lease where they should be, split what has
 * grown too large, merge what has stayed too small. One step, then the next range: what is decided on is
 * never older than that.
 */
#include "node/server/node_internal.h"

#define STEP_NS          ((uint64_t)30000000000)
#define ROUND_TICKS      40u /* Of NODE_REPLICATE_NS: a round when nothing happens. */
#define BUSY_RANGES      128u
#define SPLIT_REQUESTS_S 2500.0 /* A range that serves more is split by its load. */
#define SETTLE_NS        ((uint64_t)1000000000)

static uint64_t bytes_of_range(const struct store_range_info *info)
{
    const int64_t bytes = info->stats.key_bytes + info->stats.val_bytes + info->stats.lock_bytes;

    return bytes < 0 ? 0 : (uint64_t)bytes;
}

static uint64_t bytes_max(const struct node *n)
{
    return n->o.range_bytes_max == 0 ? NODE_RANGE_BYTES_MAX : n->o.range_bytes_max;
}

static uint64_t merge_after(const struct node *n)
{
    return n->o.merge_after_ns == 0 ? NODE_MERGE_AFTER_NS : n->o.merge_after_ns;
}

static MAYYIELD struct status split(struct node *n, const struct store_range_info *info,
                                    uint64_t deadline_ns, bool *did)
{
    const bool large = bytes_of_range(info) > bytes_max(n);
    const bool hot =
        info->load.requests_per_s > SPLIT_REQUESTS_S && bytes_of_range(info) > bytes_max(n) / 64;
    struct arena arena;
    struct bytes key;
    struct status st = OK;

    if (!large && !hot) {
        return OK;
    }
    arena_init(&arena, 0);
    TRY_OUT(store_split_key(n->store, info->desc.id, &arena, &key));
    *did = true;
    TRY_OUT(store_split(n->store, info->desc.id, key, deadline_ns));
out:
    arena_deinit(&arena);
    return st.code == STATUS_RANGE_TOO_SMALL ? OK : st; /* One large row: nothing to do about it. */
}

/* Both small, quiet, led here and on the same stores, for long enough. */
static bool may_merge(const struct store_range_info *a, const struct store_range_info *b,
                      uint64_t limit)
{
    bool same = a->desc.replicas_count == b->desc.replicas_count;

    for (uint32_t i = 0; same && i < a->desc.replicas_count; i++) {
        const struct range_replica *r = range_desc_find(&b->desc, a->desc.replicas[i].store);

        same = r != NULL && r->type == a->desc.replicas[i].type;
    }
    return same && a->leaseholder && b->leaseholder && bytes_eq(a->desc.end, b->desc.start) &&
           bytes_of_range(a) + bytes_of_range(b) < limit / 4 &&
           a->load.requests_per_s + b->load.requests_per_s < SPLIT_REQUESTS_S / 2;
}

static MAYYIELD struct status merge(struct node *n, const struct store_range_info *info,
                                    struct arena *arena, uint64_t deadline_ns, bool *did)
{
    struct store_range_info right;

    if (info->lease_age_ns < merge_after(n) ||
        !store_range_at(n->store, info->desc.end, arena, &right) ||
        right.lease_age_ns < merge_after(n) || !may_merge(info, &right, bytes_max(n))) {
        return OK;
    }
    *did = true;
    return store_merge(n->store, info->desc.id, deadline_ns);
}

static MAYYIELD struct status look_after(struct node *n, const struct topology *t,
                                         const struct store_range_info *info, struct arena *arena,
                                         bool *did)
{
    const uint64_t deadline = env_mono_ns(shard_env(n->shard)) + STEP_NS;

    if (info->frozen) {
        *did = true;
        return store_settle_merge(n->store, info->desc.id, deadline);
    }
    if (!info->addressed) {
        *did = true;
        return store_address(n->store, info->desc.id, deadline);
    }
    if (t->count > 1) {
        TRY(replicate__step(n, t, info, did));
    }
    if (!*did) {
        TRY(split(n, info, deadline, did));
    }
    return *did ? OK : merge(n, info, arena, deadline, did);
}

/* ---- the walk ----------------------------------------------------------------------------------- */

/* A round is over: what it counted is what we tell of ourselves. */
static void end_round(struct node *n)
{
    struct range_walk *w = &n->walk;

    w->sum.store = n->ident.store;
    w->sum.heard_ns = shard_now_ns(n->shard);
    w->own = w->sum;
    w->sum = (struct store_load){0};
    w->busy = w->did;
    w->did = false;
    w->at = (range_id){0};
}

static void count(struct range_walk *w, const struct store_range_info *info)
{
    w->sum.ranges++;
    if (info->leaseholder) {
        w->sum.leases++;
        w->sum.requests_per_s += (uint64_t)info->load.requests_per_s;
    }
}

static uint32_t ranges_per_tick(const struct node *n)
{
    const uint32_t slow = n->walk.own.ranges / ROUND_TICKS + 8;

    return n->walk.busy && slow < BUSY_RANGES ? BUSY_RANGES : slow;
}

/* The next few ranges. */
static MAYYIELD void walk(struct node *n)
{
    struct range_walk *w = &n->walk;
    struct store_range_info info;
    struct arena arena;
    struct topology t;

    arena_init(&arena, 0);
    if (!status_ok(replicate__topology(n, &arena, &t))) {
        arena_deinit(&arena);
        return;
    }
    for (uint32_t left = ranges_per_tick(n); left > 0 && !n->stopping; left--) {
        bool did = false;
        struct status st = OK;

        if (!store_next_range(n->store, w->at, &arena, &info)) {
            end_round(n);
            break;
        }
        w->at = info.desc.id;
        count(w, &info);
        if (!info.leaseholder) {
            continue;
        }
        st = look_after(n, &t, &info, &arena, &did); /* Yields: what follows is looked up anew. */
        if (st.code == STATUS_OVERLOADED || st.code == STATUS_NOT_LEADER ||
            st.code == STATUS_UNAVAILABLE) {
            LOG_DEBUG("ranges.not_yet", U64("range", info.desc.id.v), STR("why", status_text(st)));
        } else if (!status_ok(st)) {
            LOG_WARN("ranges.step_failed", U64("range", info.desc.id.v),
                     STR("why", status_text(st)));
        }
        w->did = w->did || did;
        if (did && info.desc.id.v == RANGE_FIRST_ID && n->primary) {
            n->gossip_to_all = true; /* It may have moved. */
            shard_timer_arm_in(n->shard, &n->gossip_timer, 0);
        }
    }
    arena_deinit(&arena);
}

void ranges__fiber(void *node)
{
    struct node *n = node;

    n->walk.busy = true;
    while (!n->stopping && status_ok(fiber_sleep(NODE_REPLICATE_NS))) {
        /* Joining nodes come in bunches: the first placement of a new cluster waits until they stop. */
        if (shard_now_ns(n->shard) >= n->registry_changed_ns + SETTLE_NS) {
            walk(n);
        } else {
            n->walk.busy = true;
        }
    }
    node__fiber_ended(n);
}
