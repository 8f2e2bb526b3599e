/*
 * split.c -- [a,b) becomes [a,m) and [m,b).
 *
 * The leaseholder lets requests wait (hold.c), counts what will stand on the right, and proposes one
 * command with both descriptors. Applying it shrinks the replica of every store and makes its right-hand
 * neighbour there (birth.c). Between the last thing served as one range and the first served by the right
 * side lies the command: whoever leads the right side has applied it, so that his clock has passed
 * everything that was read before; the command carries that time as well, as the floor of leases.
 *
 *     drained at index i          i+1: SPLIT(left, right, counts, floor)
 *     -------------------------|------------------------------------> left, serves on when applied
 *                                  '- index 10, term 5 -------------> right, campaigns beside the leaseholder
 *
 * Source: node/docs/0006; protocol reference 10.5, 2.11.
 */
#include "node/base/codec.h"
#include "node/base/invariant.h"
#include "node/range/change/change.h"

#define SPLIT_KEY_MAX ((size_t)8 << 10)
#define FOLLOWERS_NS \
    ((uint64_t)2000000000) /* Followers that lag are waited for at most this long. */
#define LOOK_AGAIN_NS ((uint64_t)50000000)
#define ADDRESS_NS    ((uint64_t)2000000000)
#define ID_TRIES      20u

/* ---- ids of ranges ------------------------------------------------------------------------------- */

/* Reads the counter and moves it on, if nobody did meanwhile (STATUS_TXN_RETRY). */
MAYYIELD static struct status take_id_once(struct store *s, struct bytes key, uint64_t deadline_ns,
                                           struct arena *arena, range_id *out)
{
    uint8_t next[8];
    struct range_request get = {.op = RANGE_OP_GET, .key = key};
    struct range_request move[2] = {
        {.op = RANGE_OP_REFRESH, .key = key},
        {.op = RANGE_OP_PUT, .key = key, .value = bytes_of(next, sizeof(next))},
    };
    struct range_batch b = {.requests = &get, .count = 1};
    struct range_result result;

    TRY(change__send(s, &b, deadline_ns, arena, &result));
    out->v = RANGE_FIRST_ID + 1;
    if (result.responses[0].found) {
        if (result.responses[0].value.len != sizeof(next)) {
            return FAIL(STATUS_CORRUPT, "damaged counter of range ids");
        }
        out->v = be64_get(result.responses[0].value.ptr);
    }
    be64_put(next, out->v + 1);
    b = (struct range_batch){.requests = move, .count = 2, .read_ts = result.read_ts};
    return change__send(s, &b, deadline_ns, arena, &result);
}

MAYYIELD static struct status take_id(struct store *s, uint64_t deadline_ns, struct arena *arena,
                                      range_id *out)
{
    uint8_t mem[KEY_STACK_SIZE];
    struct key_enc k;
    struct bytes key;
    struct status st = OK;

    key_enc_init(&k, mem, sizeof(mem));
    key_enc_system(&k, KEY_SYSTEM_ID);
    key_enc_escaped(&k, BYTES_LIT("range"));
    TRY(key_enc_finish(&k, &key));
    for (uint32_t i = 0; i < ID_TRIES; i++) {
        st = take_id_once(s, key, deadline_ns, arena, out);
        if (st.code != STATUS_TXN_RETRY && st.code != STATUS_AMBIGUOUS) {
            return st;
        }
    }
    return st; /* An id whose fate is unknown is never used. */
}

/* ---- where --------------------------------------------------------------------------------------- */

static struct bytes row_start(struct bytes key)
{
    struct bytes prefix;
    uint32_t family = 0;

    return key.len > 0 && key.ptr[0] >= KEY_PREFIX_SQL_MIN &&
                   status_ok(key_row_split(key, &prefix, &family))
               ? prefix
               : key;
}

static struct status check_key(const struct replica *r, struct bytes key)
{
    if (key.len > SPLIT_KEY_MAX) {
        return FAIL(STATUS_INVALID, "the key is too long to split a range at");
    }
    if (key.len > 0 && key.ptr[0] == KEY_PREFIX_META1) {
        return FAIL(STATUS_INVALID, "the root of the index of ranges is not split");
    }
    if (bytes_cmp(r->desc.start, key) >= 0 || bytes_cmp(key, r->desc.end) >= 0) {
        return FAIL(STATUS_INVALID, "the key is not inside of the range");
    }
    return range_desc_is_joint(&r->desc)
               ? FAIL(STATUS_OVERLOADED, "a change of the range's members is half done")
               : OK;
}

/* ---- the command --------------------------------------------------------------------------------- */

struct split {
    struct replica *r;
    struct bytes key;
    range_id id;
    struct range_desc left;
    struct range_desc right;
    struct mvcc_stats counts; /* Of the right side. */
    struct status st;
};

static void count_right(void *arg)
{
    struct split *sp = arg;
    struct mvcc_reader reader;

    mvcc_reader_init(&reader, sp->r->store->engine, NULL, ENGINE_TIER_ANY);
    sp->st = mvcc_stats_compute(&reader, sp->right.start, sp->right.end, &sp->counts);
    mvcc_reader_deinit(&reader);
}

/* Descriptors of both halves, in the arena: the right one has fresh replica ids. */
static struct status make_halves(struct split *sp, struct arena *arena)
{
    TRY(range_desc_dup(arena, &sp->r->desc, &sp->left));
    sp->right = sp->left;
    sp->right.id = sp->id;
    sp->right.start = sp->key;
    for (uint32_t i = 0; i < sp->right.replicas_count; i++) {
        sp->right.replicas[i].id.v = i + 1;
    }
    sp->right.next_replica = sp->right.replicas_count + 1;
    sp->left.end = sp->key;
    sp->left.generation++;
    sp->right.generation = sp->left.generation;
    return OK;
}

static struct mvcc_stats negative(const struct mvcc_stats *s)
{
    return (struct mvcc_stats){-s->live_count, -s->live_bytes, -s->key_count,    -s->key_bytes,
                               -s->val_count,  -s->val_bytes,  -s->intent_count, -s->intent_bytes,
                               -s->lock_count, -s->lock_bytes};
}

/* Nothing was served since the range is held: this moment is above all of it. */
static struct status append_split(struct split *sp, struct arena *arena)
{
    struct replica *r = sp->r;
    struct command c = {.kind = COMMAND_SPLIT,
                        .start_ts = hclock_hts(hlc_now(r->store->hlc)),
                        .stats = negative(&sp->counts),
                        .right_stats = sp->counts,
                        .generation = r->desc.generation};
    struct engine_batch ops;
    struct mvcc_reader reader;
    struct mvcc_writer w;
    struct buf left = {0};
    struct buf right = {0};
    struct status st = OK;

    engine_batch_init(&ops);
    mvcc_reader_init(&reader, r->store->engine, NULL, ENGINE_TIER_ANY);
    mvcc_writer_init(&w, &reader, &ops, arena);
    w.no_intents = true;
    TRY_OUT(lease__check(r, HTS_ZERO));
    TRY_OUT(change__put_desc(r, &sp->left, false, &w));
    TRY_OUT(change__put_desc(r, &sp->right, false, &w));
    TRY_OUT(gc__put_threshold(&ops, sp->id, r->gc_threshold));
    TRY_OUT(range_desc_encode(&sp->left, &left));
    TRY_OUT(range_desc_encode(&sp->right, &right));
    c.desc = buf_bytes(&left);
    c.right = buf_bytes(&right);
    c.ops = buf_bytes(&ops.ops);
    /* The members do not change with it, but it must not overtake a change of theirs either. */
    TRY_OUT(proposal__append(r, &c, RAFT_ENTRY_NORMAL, raft_get_state(r->raft).term, NULL));
    change__hold_until_applied(r);
out:
    mvcc_reader_deinit(&reader);
    engine_batch_deinit(&ops);
    buf_deinit(&left);
    buf_deinit(&right);
    return st;
}

/* ---- the fiber ----------------------------------------------------------------------------------- */

static bool followers_ready(struct replica *r)
{
    for (uint32_t i = 0; i < r->desc.replicas_count; i++) {
        const struct range_replica *peer = &r->desc.replicas[i];
        struct raft_progress pr;

        if (peer->id.v != r->id.v && store_peer_live(r->store, peer->store) &&
            (!raft_get_progress(r->raft, peer->id, &pr) || pr.state != RAFT_PROGRESS_REPLICATE)) {
            return false;
        }
    }
    return true;
}

/* A follower that needs a snapshot now would need one of each half. */
MAYYIELD static struct status wait_for_followers(struct replica *r)
{
    for (uint64_t ns = 0; ns < FOLLOWERS_NS && !followers_ready(r); ns += LOOK_AGAIN_NS) {
        TRY(fiber_sleep(LOOK_AGAIN_NS));
        if (r->life != REPLICA_INIT || r->store->stopping) {
            return FAIL(STATUS_NOT_LEADER, "the range left this store meanwhile");
        }
    }
    return OK;
}

/* While requests wait. We yield, but leadership is checked again before anything is proposed. */
MAYYIELD static struct status split_held(struct split *sp, uint64_t deadline_ns,
                                         struct arena *arena)
{
    struct replica *r = sp->r;
    uint64_t term = 0;
    struct status st = OK;

    TRY(change__hold(r, deadline_ns));
    TRY_OUT(check_key(r, sp->key));
    term = raft_get_state(r->raft).term;
    TRY_OUT(make_halves(sp, arena));
    fiber_run_blocking(ENV_LANE_IO, count_right, sp);
    TRY_OUT(sp->st);
    if (r->life != REPLICA_INIT || raft_get_state(r->raft).term != term ||
        r->desc.generation + 1 != sp->left.generation) {
        TRY_OUT(FAIL(STATUS_NOT_LEADER, "leadership moved while the range was split"));
    }
    TRY_OUT(append_split(sp, arena));
    return change__wait_generation(r, sp->left.generation, term, deadline_ns);
out:
    change__release(r);
    return st;
}

MAYYIELD static struct status split(struct replica *r, struct bytes key, uint64_t deadline_ns,
                                    struct arena *arena)
{
    struct split sp = {.r = r};
    const uint64_t now = env_mono_ns(shard_env(r->store->shard));

    TRY(bytes_dup(arena, row_start(key), &sp.key));
    TRY(check_key(r, sp.key));
    TRY(address__ensure(r, now + ADDRESS_NS < deadline_ns ? now + ADDRESS_NS : deadline_ns));
    TRY(wait_for_followers(r));
    TRY(take_id(r->store, deadline_ns, arena, &sp.id));
    return split_held(&sp, deadline_ns, arena);
}

struct status store_split(struct store *s, range_id range, struct bytes key, uint64_t deadline_ns)
{
    struct replica *r = NULL;
    struct arena arena;
    struct status st = OK;

    TRY(replica__begin_change(s, range, &r));
    arena_init(&arena, 0);
    st = split(r, key, deadline_ns, &arena);
    arena_deinit(&arena);
    replica__end_change(r);
    return st;
}

/* ---- applying ------------------------------------------------------------------------------------ */

struct status change__apply_split(struct replica *r, const struct command *c, struct store_write *w,
                                  struct write_item *item)
{
    struct applied_state initial = {.index = RANGE_FIRST_INDEX,
                                    .term = RANGE_FIRST_TERM,
                                    .closed_ts = r->submitted.closed_ts, /* Of this entry. */
                                    .stats = c->right_stats,
                                    .floor = c->start_ts};
    struct arena arena;
    struct range_desc right;
    struct status st = OK;

    arena_init(&arena, 0);
    TRY_OUT(range_desc_decode(c->right, &arena, &right));
    initial.generation = right.generation;
#ifdef DSQL_PLANTS
    if ((r->store->o.plants & STORE_PLANT_SPLIT_FORGETS_READS) != 0) {
        initial.floor = HTS_ZERO;
    }
#endif
    TRY_OUT(birth__right(r->store, &right, &initial, w, &item->born));
    if (item->born != NULL) {
        item->born->gc_threshold = r->gc_threshold;
        replica__acquire(item->born);
    }
out:
    arena_deinit(&arena);
    return st;
}

/* ---- a key in the middle ------------------------------------------------------------------------- */

struct middle {
    struct replica *r;
    struct bytes start;
    struct bytes end;
    uint64_t half_bytes;
    struct buf key;
    struct status st;
};

/*
 * Walks the versions until half of the data lies to the left, and takes the next row's start that leaves
 * a key on both sides. Old versions count: they are what makes a range large.
 */
static struct status walk(struct middle *m, struct engine_iter *it)
{
    struct bytes first = BYTES_EMPTY;
    struct buf first_row = {0};
    uint64_t bytes = 0;
    struct status st = OK;

    for (engine_iter_seek_first(it); engine_iter_valid(it); engine_iter_next(it)) {
        struct bytes key;
        struct hts ts;

        if (!key_split_version(engine_iter_key(it), &key, &ts)) {
            TRY_OUT(FAIL(STATUS_CORRUPT, "key without a version among versioned keys"));
        }
        key = row_start(key);
        if (first.len == 0) {
            TRY_OUT(buf_append_bytes(&first_row, key));
            first = buf_bytes(&first_row);
        }
        if (bytes >= m->half_bytes && bytes_cmp(key, first) > 0 && bytes_cmp(key, m->start) > 0 &&
            key.ptr[0] > KEY_PREFIX_META1) {
            buf_clear(&m->key);
            TRY_OUT(buf_append_bytes(&m->key, key));
            goto out;
        }
        bytes += engine_iter_key(it).len + engine_iter_value(it).len;
    }
    TRY_OUT(engine_iter_status(it));
    st = FAIL(STATUS_RANGE_TOO_SMALL, "no row leaves half of the data to its left");
out:
    buf_deinit(&first_row);
    return st;
}

static void find_middle(void *arg)
{
    struct middle *m = arg;
    struct engine_iter_options io = {
        .cf = ENGINE_CF_STATE, .lower = m->start, .upper = m->end, .tier = ENGINE_TIER_ANY};
    struct engine_iter *it = NULL;

    m->st = engine_iter_open(m->r->store->engine, &io, &it);
    if (status_ok(m->st)) {
        m->st = walk(m, it);
    }
    engine_iter_close(it);
}

struct status store_split_key(struct store *s, range_id range, struct arena *arena,
                              struct bytes *out)
{
    struct replica *r = store__find(s, range);
    struct middle m = {.r = r};
    struct status st = OK;

    if (r == NULL || r->life != REPLICA_INIT || s->stopping) {
        return FAIL(STATUS_RANGE_NOT_FOUND, "no such range on this store");
    }
    m.half_bytes = (uint64_t)(r->applied.stats.key_bytes + r->applied.stats.val_bytes) / 2;
    TRY(bytes_dup(arena, r->desc.start, &m.start));
    TRY(bytes_dup(arena, r->desc.end, &m.end));
    replica__acquire(r);
    s->fibers++;
    fiber_run_blocking(ENV_LANE_IO, find_middle, &m);
    s->fibers--;
    replica__release(r);
    wait_queue_wake_all(&s->idle);
    st = status_ok(m.st) ? bytes_dup(arena, buf_bytes(&m.key), out) : m.st;
    buf_deinit(&m.key);
    return st;
}
