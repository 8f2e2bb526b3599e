/*
 * change.c -- what all changes of a range have in common.
 *
 * A range changes by one command in its own log that carries the new descriptor (node/docs/0006). The
 * leaseholder proposes it; what it finds half done by an earlier leaseholder it ends by itself: it
 * tells the index of ranges about the descriptor (address.c), and finds out what became of a merge that
 * froze the range (settle.c).
 */
#include "node/range/change/change.h"

#include "node/base/invariant.h"

#define SEND_NS ((uint64_t)2000000000) /* At most, so that stops and moved leases are seen. */

#define RETRY_TICKS       1u  /* Between attempts to tell the index. */
#define SETTLE_TICKS      30u /* A merge that goes on ends well before. */
#define WORK_NS           ((uint64_t)5000000000)
#define CHANGE_FIBERS_MAX 64u /* Of a store, so that thousands of ranges take turns. */

struct status change__put_desc(struct replica *r, const struct range_desc *d, bool gone,
                               struct mvcc_writer *w)
{
    struct buf key = {0};
    struct buf value = {0};
    struct key_enc k;
    struct mvcc_write op = {.tombstone = gone, .ts = hclock_hts(hlc_now(r->store->hlc))};
    struct mvcc_written written;
    struct mvcc_conflict conflict = {0};
    struct status st = OK;

    TRY_OUT(range_desc_encode(d, &value));
    op.value = gone ? BYTES_EMPTY : buf_bytes(&value);
    key_enc_init_buf(&k, &key);
    key_enc_local(&k, d->start, KEY_LOCAL_DESCRIPTOR);
    TRY_OUT(key_enc_finish(&k, &op.key));
    TRY_OUT(mvcc_put(w, &op, &written, &conflict));
    if (conflict.kind != MVCC_CONFLICT_NONE) {
        TRY_OUT(FAIL(STATUS_TXN_RETRY, "the range descriptor was written in our future"));
    }
out:
    buf_deinit(&key);
    buf_deinit(&value);
    return st;
}

struct status change__wait_generation(struct replica *r, uint64_t generation, uint64_t term,
                                      uint64_t deadline_ns)
{
    for (;;) {
        const struct raft_state rs = raft_get_state(r->raft);

        if (r->life != REPLICA_INIT) {
            return FAIL(STATUS_NOT_LEADER, "the replica was removed during a change of the range");
        }
        if (r->desc.generation >= generation) {
            return OK;
        }
        if (rs.role != RAFT_LEADER || rs.term != term) {
            return FAIL(STATUS_NOT_LEADER, "leadership moved during a change of the range");
        }
        TRY(replica__wait_progress(r, deadline_ns));
    }
}

MAYYIELD static struct status send_here(struct store *s, struct range_batch *b,
                                        uint64_t deadline_ns, struct arena *arena,
                                        struct range_result *out)
{
    struct replica *r = store__find_key(s, b->requests[0].key);

    *out = (struct range_result){0};
    if (r == NULL) {
        return FAIL(STATUS_UNAVAILABLE, "this store knows no way to other ranges");
    }
    b->range = r->range;
    b->generation = r->desc.generation;
    store_execute(s, b, deadline_ns, arena, out);
    return out->st;
}

struct status change__send(struct store *s, struct range_batch *b, uint64_t deadline_ns,
                           struct arena *arena, struct range_result *out)
{
    const uint64_t soon = env_mono_ns(shard_env(s->shard)) + SEND_NS;
    const uint64_t until = deadline_ns < soon ? deadline_ns : soon;

    if (s->stopping) {
        return FAIL(STATUS_CANCELLED, "the store is stopping");
    }
    return s->o.send != NULL ? s->o.send(s->o.send_ctx, b, until, arena, out)
                             : send_here(s, b, until, arena, out);
}

/* The right half begins beside the leaseholder, who knows what was read. */
static bool campaigns(struct replica *r, struct replica *born)
{
    const bool leader = raft_get_state(r->raft).role == RAFT_LEADER;

#ifdef DSQL_PLANTS
    if ((r->store->o.plants & STORE_PLANT_SPLIT_FORGETS_READS) != 0) {
        born->inherits = true; /* From nobody. */
        born->inherited_floor = HTS_ZERO;
        return !leader;
    }
#else
    UNUSED(born);
#endif
    return leader;
}

void change__applied(struct replica *r, struct replica *born)
{
    if (r->locks != NULL) {
        lock_table_drop_from(r->locks, r->desc.end);
    }
    /* What others have served of the keys that came with a merge. */
    r->floor = hts_max(r->floor, r->applied.floor);
    if (born != NULL && r->lease_open) {
        /* What was read of its keys stands in this store's cache: its first lease, if it begins here, has
         * not to fear the reads of others but those before our own. */
        born->inherits = true;
        born->inherited_floor = r->floor;
    }
    if (born != NULL) {
        birth__done(born, campaigns(r, born));
    }
}

/* ---- what is left over -------------------------------------------------------------------------- */

static bool unaddressed(const struct replica *r)
{
    return r->life == REPLICA_INIT && !r->applied.addressed && r->applied.freeze.index == 0;
}

bool change__wants_ticks(const struct replica *r)
{
    return (unaddressed(r) || r->applied.freeze.index != 0) &&
           raft_get_state(r->raft).role == RAFT_LEADER;
}

/* A fiber's work on a replica, which it keeps alive. */
struct work {
    struct list link;    /* Of store.change_work. */
    struct fiber *fiber; /* NULL: not running yet. */
    struct replica *replica;
    bool settle;
};

MAYYIELD static void work_fiber(void *arg)
{
    struct work *w = arg;
    struct replica *r = w->replica;
    struct store *s = r->store;
    const uint64_t deadline = env_mono_ns(shard_env(s->shard)) + WORK_NS;
    struct status st = OK;

    w->fiber = fiber_current();
    if (r->life == REPLICA_INIT && !s->stopping) {
        st = w->settle ? settle__merge(r, deadline) : address__run(r, deadline);
    }
    if (!status_ok(st)) {
        LOG_DEBUG("range.change_left_over", U64("range", r->range.v), STR("why", status_text(st)));
    }
    list_remove(&w->link);
    free(w);
    s->change_fibers--;
    s->fibers--;
    replica__release(r);
    wait_queue_wake_all(&s->idle);
}

static void start_work(struct replica *r, bool settle)
{
    struct store *s = r->store;
    struct work *w = s->change_fibers < CHANGE_FIBERS_MAX ? malloc(sizeof(*w)) : NULL;

    if (w == NULL) {
        return; /* At a later tick. */
    }
    *w = (struct work){.replica = r, .settle = settle};
    if (!status_ok(fiber_spawn(s->shard, "range.change", work_fiber, w))) {
        free(w);
        return;
    }
    list_push_back(&s->change_work, &w->link);
    s->change_fibers++;
    s->fibers++;
    replica__acquire(r);
}

void change__stop(struct store *s)
{
    LIST_FOREACH(it, &s->change_work) {
        struct work *w = LIST_ENTRY(it, struct work, link);

        if (w->fiber != NULL) {
            fiber_cancel(w->fiber); /* One that has not started yet sees that the store stops. */
        }
    }
}

void change__settle_later(struct replica *r)
{
    if (r->life == REPLICA_INIT && r->applied.freeze.index != 0 && !r->settling &&
        !r->store->stopping) {
        start_work(r, true);
    }
}

void change__tick(struct replica *r)
{
    if (!change__wants_ticks(r) || r->store->stopping) {
        r->change_ticks = 0;
        return;
    }
    r->change_ticks++;
    if (unaddressed(r)) {
        if (r->change_ticks >= RETRY_TICKS && !r->addressing && !r->changing) {
            r->change_ticks = 0;
            start_work(r, false);
        }
    } else if (r->change_ticks >= SETTLE_TICKS && !r->settling && !r->changing) {
        r->change_ticks = 0;
        start_work(r, true);
    }
}
