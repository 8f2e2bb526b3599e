/*
 * follower.c -- reads of the settled past, by any replica.
 *
 * A read at or below the closed timestamp needs nobody's leave: no later write can change what it sees. It is
 * served from one engine snapshot, together with the AppliedState that stands in the same snapshot: state that
 * was read before would be right too, but older; state that was read after the data would promise what the
 * data does not hold yet. What is closed aside is therefore taken before the snapshot: the engine is never
 * behind what has applied.
 *
 * Provisional values cannot be judged here. Whoever meets an intent at or below his timestamp, or a value in
 * his interval of uncertainty, is sent to the leaseholder; so is who reads too close to the present.
 *
 * The descriptor in memory decides which keys belong to the range. A snapshot may be ahead of it by what the
 * writer's thread has just written: then the generations must agree.
 */
#include "node/base/invariant.h"
#include "node/range/closed/resolved.h"
#include "node/range/internal.h"
#include "node/range/replica/eval.h"

/* The past as one engine snapshot holds it. */
struct past {
    struct store *store;
    struct replica *replica;
    struct engine_snap *snap;
    enum engine_tier tier;
    uint64_t index;      /* Applied, when the snapshot was taken: */
    uint64_t generation; /* of the descriptor then. */
    struct hts closed;   /* Then; after past_open(): of the snapshot. */
    struct applied_state state;
    struct status st;
};

static void past_close(struct past *p)
{
    engine_snap_release(p->store->engine, p->snap);
}

static void read_state_blocking(void *arg)
{
    struct past *p = arg;

    p->st = store__read_applied(p->store->engine, p->snap, ENGINE_TIER_ANY, p->replica->range,
                                &p->state);
}

/* The snapshot first, then the state in it. The caller holds the replica and closes, also on failure. */
MAYYIELD static struct status past_open(struct past *p, struct replica *r)
{
    *p = (struct past){.store = r->store,
                       .replica = r,
                       .index = r->applied.index,
                       .generation = r->desc.generation,
                       .closed = closed__effective(r)};
    TRY(engine_snap_acquire(r->store->engine, &p->snap));
    p->st = store__read_applied(r->store->engine, p->snap, ENGINE_TIER_CACHE, r->range, &p->state);
    if (p->st.code == STATUS_WOULD_BLOCK) {
        fiber_run_blocking(ENV_LANE_IO, read_state_blocking, p);
    }
    if (p->st.code == STATUS_NOT_FOUND) {
        return FAIL(STATUS_NOT_LEADER, "the replica is gone");
    }
    TRY(p->st);
    if (p->state.freeze.index != 0 ||
        (p->state.index != p->index && p->state.generation != p->generation)) {
        return FAIL(STATUS_NOT_LEADER, "the range is changing");
    }
    p->closed = hts_max(p->closed, p->state.closed_ts);
    return OK;
}

/* ---- reads -------------------------------------------------------------------------------------- */

static bool only_reads(const struct range_batch *b)
{
    for (uint32_t i = 0; i < b->count; i++) {
        const struct range_request *q = &b->requests[i];

        if ((q->op != RANGE_OP_GET && q->op != RANGE_OP_SCAN) || q->lock != MVCC_NONE) {
            return false;
        }
    }
    return !hts_is_zero(b->read_ts);
}

static bool is_closed(const struct past *p, struct hts ts)
{
#ifdef DSQL_PLANTS
    if ((p->store->o.plants & STORE_PLANT_FOLLOWER_AHEAD) != 0) {
        return true;
    }
#endif
    return hts_less_eq(ts, p->closed);
}

MAYYIELD static struct status read_past(const struct past *p, const struct range_batch *b,
                                        struct arena *arena, struct range_result *out)
{
    struct eval e = {
        .engine = p->store->engine,
        .snap = p->snap,
        .tier = ENGINE_TIER_CACHE,
        .batch = b,
        .read_ts = b->read_ts,
        .local_limit = b->txn.global_limit, /* Our clock says nothing about the leaseholder's. */
        .no_intents = p->state.stats.intent_count == 0 && p->state.stats.lock_count == 0,
        .arena = arena,
        .result = out,
    };
    struct engine_batch none;
    bool yielded = false;
    struct status st = OK;

    out->responses = ARENA_ARRAY(arena, struct range_response, (size_t)b->count + 1);
    if (out->responses == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    engine_batch_init(&none);
    e.ops = &none;
    st = evaluate(&e, &yielded);
    engine_batch_deinit(&none);
    if (st.code == STATUS_LOCKED || st.code == STATUS_UNCERTAIN) {
        out->uncertain_ts = HTS_ZERO;
        return FAIL(STATUS_NOT_LEADER, "a value that only the leaseholder can judge");
    }
    TRY(st);
    TRY(gc__check_read(p->replica, b->read_ts));
    out->read_ts = b->read_ts;
    return OK;
}

struct status follower__read(struct replica *r, const struct range_batch *b, struct arena *arena,
                             struct range_result *out)
{
    const struct hts need = hts_max(b->read_ts, b->txn.global_limit);
    struct past p = {.store = r->store};
    struct status st = OK;

    if (!only_reads(b)) {
        return FAIL(STATUS_NOT_LEADER, "only reads of a given time need no leaseholder");
    }
    TRY_OUT(past_open(&p, r));
    if (!is_closed(&p, need)) {
        TRY_OUT(FAIL(STATUS_NOT_LEADER, "the time is not closed here yet"));
    }
    TRY_OUT(read_past(&p, b, arena, out));
out:
    past_close(&p);
    return st;
}

/* ---- resolved timestamps ------------------------------------------------------------------------ */

struct earliest {
    const struct past *past;
    struct key_span span;
    struct hts ts; /* Of the earliest intent; HTS_MAX: none. */
    struct status st;
};

static struct status find_earliest(struct earliest *x, struct arena *arena)
{
    struct mvcc_reader reader;
    struct mvcc_lock *locks = NULL;
    struct buf from = {0};
    uint32_t count = 0;
    bool more = true;
    struct status st = OK;

    mvcc_reader_init(&reader, x->past->store->engine, x->past->snap, ENGINE_TIER_ANY);
    TRY_OUT(buf_append_bytes(&from, x->span.start));
    while (more) {
        arena_reset(arena);
        TRY_OUT(mvcc_locks(&reader, buf_bytes(&from), x->span.end, MVCC_NONE, NULL, arena, &locks,
                           &count, &more));
        for (uint32_t i = 0; i < count; i++) {
            x->ts = locks[i].strength == MVCC_INTENT ? hts_min(x->ts, locks[i].write_ts) : x->ts;
        }
        more = more && count > 0;
        if (more) {
            buf_clear(&from);
            TRY_OUT(buf_append_bytes(&from, locks[count - 1].key));
            TRY_OUT(buf_append_u8(&from, 0));
        }
    }
out:
    mvcc_reader_deinit(&reader);
    buf_deinit(&from);
    return st;
}

static void find_earliest_blocking(void *arg)
{
    struct earliest *x = arg;
    struct arena arena;

    arena_init(&arena, 0);
    x->st = find_earliest(x, &arena);
    arena_deinit(&arena);
}

MAYYIELD static struct status resolved_of(struct replica *r, struct key_span span, struct hts *out)
{
    struct past p = {.store = r->store};
    struct earliest x = {.past = &p, .span = span, .ts = HTS_MAX};
    struct status st = OK;

    TRY_OUT(past_open(&p, r));
    if (p.state.stats.intent_count != 0) {
        fiber_run_blocking(ENV_LANE_IO, find_earliest_blocking, &x);
        TRY_OUT(x.st);
    }
    *out = hts_min(p.closed, hts_prev(x.ts));
out:
    past_close(&p);
    return st;
}

struct status store_resolved_ts(struct store *s, range_id range, struct key_span span,
                                struct hts *out)
{
    struct replica *r = store__find(s, range);
    struct status st = OK;

    if (r == NULL || s->stopping) {
        return FAIL(STATUS_RANGE_NOT_FOUND, "no such range on this store");
    }
    if (r->life != REPLICA_INIT) {
        return FAIL(STATUS_NOT_LEADER, "this replica has no data");
    }
    if (bytes_cmp(span.start, span.end) >= 0 || !range_desc_contains(&r->desc, span.start) ||
        bytes_cmp(r->desc.end, span.end) < 0) {
        return FAIL(STATUS_RANGE_MISMATCH, "the span is not of this range");
    }
    replica__acquire(r);
    s->fibers++;
    st = resolved_of(r, span, out);
    s->fibers--;
    replica__release(r);
    wait_queue_wake_all(&s->idle);
    return st;
}
