/*
 * evaluate.c -- a batch on the leaseholder: latches, evaluation, append gate, answer.
 *
 *   read    lease? -> wait for evaluated writes at or below the timestamp -> read -> answer
 *   write   latches -> choose the commit timestamp -> read, refresh and write against the engine ->
 *           append gate -> wait for the commit -> answer; latches go when the command has applied
 *
 * Timestamps come from one clock and one thread: a commit timestamp is higher than every read
 * timestamp that was given out before it, so no read below it can have missed it. Reads of earlier
 * leaders are below the start of our lease.
 *
 * Evaluation reads only memory. When it needs the disk it is repeated as a whole on the io lane;
 * its timestamps are fixed by then, and what others evaluate meanwhile is above them.
 */
#include <stdlib.h>

#include "node/base/codec.h"
#include "node/base/invariant.h"
#include "node/range/internal.h"
#include "node/rpc/pb_arena.h"

#define BATCH_ARENA_MAX   ((size_t)64 << 20)
#define SERVE_DEADLINE_NS ((uint64_t)10000000000)

/* Everything evaluation touches: usable on another thread while its fiber waits. */
struct eval {
    struct engine *engine;
    enum engine_tier tier;
    const struct range_batch *batch;
    struct hts read_ts;
    struct hts commit_ts; /* Zero: nothing is written. */
    bool no_intents;
    bool skip_refresh; /* Planted bug. */
    struct arena *arena;
    struct engine_batch *ops;
    struct mvcc_stats stats;
    struct range_result *result;
    struct status st;
};

struct scan_rows {
    struct buf rows;
    uint32_t count;
};

static struct status scan_row(void *ctx, struct bytes key, struct bytes value, struct hts ts)
{
    struct scan_rows *out = ctx;

    UNUSED(ts);
    TRY(buf_append_lp(&out->rows, key));
    TRY(buf_append_lp(&out->rows, value));
    out->count++;
    return OK;
}

static struct status locked(void)
{
    return FAIL(STATUS_UNSUPPORTED, "locks of distributed transactions are not supported yet");
}

static struct status eval_get(struct eval *e, struct mvcc_reader *reader,
                              const struct range_request *q, struct range_response *out)
{
    const struct mvcc_read opt = {.ts = e->read_ts, .no_intents = e->no_intents};
    struct mvcc_value value;
    struct mvcc_conflict conflict = {0};

    TRY(mvcc_get(reader, q->key, &opt, e->arena, &value, &conflict));
    if (conflict.kind != MVCC_CONFLICT_NONE) {
        return locked();
    }
    out->found = value.found;
    out->value = value.value;
    return OK;
}

static struct status eval_scan(struct eval *e, struct mvcc_reader *reader,
                               const struct range_request *q, struct range_response *out)
{
    const struct mvcc_read opt = {.ts = e->read_ts, .no_intents = e->no_intents};
    struct scan_rows rows = {.rows = {.limit = 2 * RANGE_SCAN_BYTES_MAX}};
    struct mvcc_scan scan = {
        .start = q->key,
        .end = q->end,
        .reverse = q->reverse,
        .rows_max = q->rows_max,
        .bytes_max = q->bytes_max == 0 ? RANGE_SCAN_BYTES_DEFAULT : q->bytes_max,
        .row_fn = scan_row,
        .ctx = &rows,
    };
    struct mvcc_scan_result result = {0};
    struct mvcc_conflict conflict = {0};
    struct status st = OK;

    scan.bytes_max = scan.bytes_max > RANGE_SCAN_BYTES_MAX ? RANGE_SCAN_BYTES_MAX : scan.bytes_max;
    TRY_OUT(mvcc_scan(reader, &scan, &opt, e->arena, &result, &conflict));
    if (conflict.kind != MVCC_CONFLICT_NONE) {
        TRY_OUT(locked());
    }
    TRY_OUT(bytes_dup(e->arena, buf_bytes(&rows.rows), &out->rows));
    out->rows_count = rows.count;
    out->more = result.more;
    out->resume = result.resume;
out:
    buf_deinit(&rows.rows);
    return st;
}

static struct status eval_refresh(struct eval *e, struct mvcc_reader *reader,
                                  const struct range_request *q)
{
    struct mvcc_conflict conflict = {0};

    if (e->skip_refresh) {
        return OK;
    }
    TRY(mvcc_refresh(reader, q->key, q->end, e->read_ts, e->commit_ts, NULL, e->arena, &conflict));
    if (conflict.kind == MVCC_CONFLICT_LOCKED) {
        return locked();
    }
    return conflict.kind == MVCC_CONFLICT_NONE
               ? OK
               : FAIL(STATUS_TXN_RETRY, "what the transaction read has changed since");
}

static struct status eval_write(struct eval *e, struct mvcc_writer *w,
                                const struct range_request *q)
{
    const struct mvcc_write op = {
        .key = q->key,
        .value = q->value,
        .tombstone = q->op == RANGE_OP_DELETE || q->op == RANGE_OP_ABSENT,
        .ts = e->commit_ts,
        .expect = q->op == RANGE_OP_INSERT || q->op == RANGE_OP_ABSENT ? MVCC_EXPECT_ABSENT
                                                                       : MVCC_EXPECT_ANY,
    };
    struct mvcc_written written;
    struct mvcc_conflict conflict = {0};

    TRY(mvcc_put(w, &op, &written, &conflict));
    switch (conflict.kind) {
    case MVCC_CONFLICT_NONE:
        return OK;
    case MVCC_CONFLICT_CONDITION:
        return FAIL(STATUS_EXISTS, "the key exists already");
    case MVCC_CONFLICT_LOCKED:
        return locked();
    case MVCC_CONFLICT_TOO_OLD:
    case MVCC_CONFLICT_UNCERTAIN:
    case MVCC_CONFLICT_REPLAY:
        break;
    }
    return FAIL(STATUS_TXN_RETRY, "a newer version of the key exists");
}

static struct status eval_request(struct eval *e, struct mvcc_reader *reader, struct mvcc_writer *w,
                                  uint32_t i)
{
    const struct range_request *q = &e->batch->requests[i];

    e->result->conflict = i;
    switch (q->op) {
    case RANGE_OP_GET:
        return eval_get(e, reader, q, &e->result->responses[i]);
    case RANGE_OP_SCAN:
        return eval_scan(e, reader, q, &e->result->responses[i]);
    case RANGE_OP_PUT:
    case RANGE_OP_INSERT:
    case RANGE_OP_DELETE:
    case RANGE_OP_ABSENT:
        return eval_write(e, w, q);
    case RANGE_OP_REFRESH:
        return eval_refresh(e, reader, q);
    default:
        break;
    }
    return FAIL(STATUS_UNSUPPORTED, "transactions over ranges are not supported yet");
}

/* The whole batch, once. STATUS_WOULD_BLOCK: repeat with ENGINE_TIER_ANY where that may block. */
static struct status eval_run(struct eval *e)
{
    struct mvcc_reader reader;
    struct mvcc_writer writer;
    struct status st = OK;

    engine_batch_clear(e->ops);
    mvcc_reader_init(&reader, e->engine, NULL, e->tier);
    mvcc_writer_init(&writer, &reader, e->ops, e->arena);
    writer.no_intents = e->no_intents;
    for (uint32_t i = 0; i < e->batch->count; i++) {
        TRY_OUT(eval_request(e, &reader, &writer, i));
    }
    e->stats = writer.stats;
out:
    mvcc_reader_deinit(&reader);
    return st;
}

static void eval_blocking(void *arg)
{
    struct eval *e = arg;

    e->tier = ENGINE_TIER_ANY;
    e->st = eval_run(e);
}

/* Yields only when the disk is needed. */
MAYYIELD static struct status evaluate(struct eval *e)
{
    struct status st = eval_run(e);

    if (st.code == STATUS_WOULD_BLOCK) {
        fiber_run_blocking(ENV_LANE_IO, eval_blocking, e);
        st = e->st;
    }
    return st;
}

/* ---- checks ------------------------------------------------------------------------------------- */

static void set_hint(struct replica *r, struct range_result *out)
{
    const struct range_replica *leader =
        range_desc_find_id(&r->desc, raft_get_state(r->raft).leader);

    if (leader != NULL && leader->id.v != r->id.v) {
        out->hint_node = leader->node;
        out->hint_store = leader->store;
    }
}

/* Requests come from other nodes, and a scan without an end would leave the range. */
static bool well_formed(const struct range_request *q)
{
    switch (q->op) {
    case RANGE_OP_SCAN:
        return bytes_cmp(q->key, q->end) < 0;
    case RANGE_OP_REFRESH:
        return q->end.len == 0 || bytes_cmp(q->key, q->end) < 0;
    case RANGE_OP_GET:
    case RANGE_OP_PUT:
    case RANGE_OP_INSERT:
    case RANGE_OP_DELETE:
    case RANGE_OP_ABSENT:
        return q->end.len == 0;
    default:
        break;
    }
    return false;
}

static bool in_range(const struct replica *r, const struct range_request *q)
{
    return range_desc_contains(&r->desc, q->key) &&
           (q->end.len == 0 || bytes_cmp(q->end, r->desc.end) <= 0);
}

static struct status check_bounds(struct replica *r, const struct range_batch *b,
                                  struct arena *arena, struct range_result *out)
{
    struct range_desc *copy = NULL;

    for (uint32_t i = 0; i < b->count; i++) {
        if (!well_formed(&b->requests[i])) {
            return FAIL(STATUS_INVALID, "a request with an impossible span");
        }
        if (in_range(r, &b->requests[i])) {
            continue;
        }
        copy = ARENA_NEW(arena, struct range_desc);
        if (copy != NULL && status_ok(range_desc_dup(arena, &r->desc, copy))) {
            out->descs = copy;
            out->descs_count = 1;
        }
        return FAIL(STATUS_RANGE_MISMATCH, "the key is not of this range");
    }
    return OK;
}

static struct status check_serve(struct replica *r, struct hts ts, struct range_result *out)
{
    if (r->life == REPLICA_INIT && !r->store->stopping && change__held(r)) {
        return FAIL(STATUS_WOULD_BLOCK, "a change of the range came in between");
    }
    const struct status st = r->life == REPLICA_INIT && !r->store->stopping && !r->store->failed
                                 ? lease__check(r, ts)
                                 : FAIL(STATUS_NOT_LEADER, "this replica does not hold the lease");

    if (!status_ok(st) && r->life == REPLICA_INIT) {
        set_hint(r, out);
    }
    return st;
}

static bool skips_latches(const struct replica *r)
{
#ifdef DSQL_PLANTS
    return (r->store->o.plants & STORE_PLANT_SKIP_LATCH) != 0;
#else
    UNUSED(r);
    return false;
#endif
}

/* ---- reads -------------------------------------------------------------------------------------- */

static bool reads(enum range_op op)
{
    return op == RANGE_OP_GET || op == RANGE_OP_SCAN || op == RANGE_OP_REFRESH;
}

/* Waits until no evaluated write at or below ts stands in the way. *yielded: check again. */
MAYYIELD static struct status wait_for_writes(struct replica *r, const struct range_batch *b,
                                              const struct latch_guard *self, struct hts ts,
                                              uint64_t deadline_ns, bool *yielded)
{
    *yielded = false;
    for (uint32_t i = 0; i < b->count && !skips_latches(r); i++) {
        const struct range_request *q = &b->requests[i];

        if (reads(q->op) && latch_blocks_read(&r->latches, self, q->key, q->end, ts)) {
            *yielded = true;
            TRY(latch_wait_read(&r->latches, self, q->key, q->end, ts, deadline_ns));
        }
    }
    return OK;
}

static struct eval eval_of(struct replica *r, const struct range_batch *b, struct arena *arena,
                           struct range_result *out)
{
    return (struct eval){
#ifdef DSQL_PLANTS
        .skip_refresh = (r->store->o.plants & STORE_PLANT_REFRESH_NOTHING) != 0,
#endif
        .engine = r->store->engine,
        .tier = ENGINE_TIER_CACHE,
        .batch = b,
        .read_ts = b->read_ts,
        .no_intents = r->submitted.stats.intent_count == 0 && r->submitted.stats.lock_count == 0,
        .arena = arena,
        .result = out,
    };
}

/* Nobody may read what is still to come: writes get the clock's time, and would land below the read. */
static struct status choose_read_ts(struct replica *r, const struct range_batch *b, struct hts *out)
{
    const struct hts now = hclock_hts(hlc_now(r->store->hlc));

    *out = hts_is_zero(b->read_ts) ? now : b->read_ts;
    return hts_less(now, *out) ? FAIL(STATUS_INVALID, "a read timestamp in the future") : OK;
}

MAYYIELD static struct status read_batch(struct replica *r, const struct range_batch *b,
                                         uint64_t deadline_ns, struct arena *arena,
                                         struct range_result *out)
{
    struct eval e = eval_of(r, b, arena, out);
    struct engine_batch none;
    bool yielded = false;
    struct status st = OK;

    TRY(choose_read_ts(r, b, &e.read_ts));
    TRY(check_serve(r, e.read_ts, out));
    TRY(wait_for_writes(r, b, NULL, e.read_ts, deadline_ns, &yielded));
    if (yielded) {
        TRY(check_serve(r, e.read_ts, out)); /* The lease may have moved while we waited. */
    }
    engine_batch_init(&none);
    e.ops = &none;
    st = evaluate(&e);
    engine_batch_deinit(&none);
    out->read_ts = e.read_ts;
    /* It may have yielded. What others wrote meanwhile is above our timestamp; but of a replica that was
     * removed there is nothing left to read. */
    return r->life == REPLICA_INIT ? st : check_serve(r, e.read_ts, out);
}

/* ---- writes ------------------------------------------------------------------------------------- */

/* A commit timestamp below which nothing that we read is still under way; checked without a yield
 * before it is used. */
MAYYIELD static struct status choose_commit_ts(struct replica *r, const struct range_batch *b,
                                               struct proposal *p, uint64_t deadline_ns,
                                               struct range_result *out, struct hts *ts_out)
{
    bool yielded = true;

    while (yielded) {
        *ts_out = hclock_hts(hlc_now(r->store->hlc));
        TRY(check_serve(r, *ts_out, out));
        TRY(wait_for_writes(r, b, &p->guard, *ts_out, deadline_ns, &yielded));
    }
    latch_evaluated(&p->guard, *ts_out);
    if (!hts_is_zero(b->commit_limit) && hts_less(b->commit_limit, *ts_out)) {
        return FAIL(STATUS_TXN_RETRY, "the schema that the transaction used has expired");
    }
    return OK;
}

MAYYIELD static struct status propose_and_wait(struct replica *r, struct eval *e,
                                               struct proposal *p, uint64_t term,
                                               uint64_t deadline_ns, bool *appended,
                                               struct range_result *out)
{
    const struct command c = {
        .kind = COMMAND_WRITE, .stats = e->stats, .ops = buf_bytes(&e->ops->ops)};
    struct completion done = {0};
    struct status outcome = OK;

    /* The append gate: nothing below yields until the entry is in the core. */
    TRY(check_serve(r, e->commit_ts, out));
    p->waiter = &done;
    p->outcome = &outcome;
    TRY(proposal__append(r, &c, RAFT_ENTRY_NORMAL, term, p));
    *appended = true;
    return proposal__wait(p, &done, &outcome, deadline_ns);
}

MAYYIELD static struct status write_latched(struct replica *r, const struct range_batch *b,
                                            struct proposal *p, uint64_t deadline_ns,
                                            struct arena *arena, bool *appended,
                                            struct range_result *out)
{
    struct eval e = eval_of(r, b, arena, out);
    const uint64_t term = raft_get_state(r->raft).term;
    struct engine_batch ops;
    struct status st = OK;

    engine_batch_init(&ops);
    ops.ops.limit = RANGE_COMMAND_MAX;
    e.ops = &ops;
    TRY_OUT(choose_read_ts(r, b, &e.read_ts)); /* Zero becomes the commit timestamp below. */
    TRY_OUT(choose_commit_ts(r, b, p, deadline_ns, out, &e.commit_ts));
    if (hts_is_zero(b->read_ts)) {
        e.read_ts = e.commit_ts;
    }
    TRY_OUT(evaluate(&e));
    out->read_ts = e.read_ts;
    out->commit_ts = e.commit_ts;
    TRY_OUT(propose_and_wait(r, &e, p, term, deadline_ns, appended, out));
out:
    engine_batch_deinit(&ops);
    return st;
}

MAYYIELD static struct status write_batch(struct replica *r, const struct range_batch *b,
                                          uint64_t deadline_ns, struct arena *arena,
                                          struct range_result *out)
{
    struct proposal *p = NULL;
    bool appended = false;
    struct status st = check_serve(r, HTS_ZERO, out);

    if (!status_ok(st)) {
        return st;
    }
    p = proposal__create(b);
    if (p == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    st = latch_acquire(&r->latches, &p->guard, deadline_ns);
    if (!status_ok(st)) {
        proposal__free(p);
        return st;
    }
    p->latched = true;
    st = write_latched(r, b, p, deadline_ns, arena, &appended, out);
    if (!appended) { /* Otherwise it belongs to the log and is freed when it applies. */
        latch_release(&r->latches, &p->guard);
        proposal__free(p);
    }
    return st;
}

/* ---- entrance ----------------------------------------------------------------------------------- */

static bool has_writes(const struct range_batch *b)
{
    for (uint32_t i = 0; i < b->count; i++) {
        if (range_op_writes(b->requests[i].op)) {
            return true;
        }
    }
    return false;
}

MAYYIELD static struct status execute(struct replica *r, const struct range_batch *b,
                                      uint64_t deadline_ns, struct arena *arena,
                                      struct range_result *out)
{
    struct status st = FAIL(STATUS_WOULD_BLOCK, "not tried yet");

    /* A split or merge comes in between: what was checked does not hold any more. */
    while (st.code == STATUS_WOULD_BLOCK) {
        TRY(change__wait_serving(r, deadline_ns));
        if (r->life != REPLICA_INIT) {
            return FAIL(STATUS_NOT_LEADER, "this replica has no data");
        }
        TRY(check_bounds(r, b, arena, out));
        out->responses = ARENA_ARRAY(arena, struct range_response, (size_t)b->count + 1);
        if (out->responses == NULL) {
            return FAIL(STATUS_MEMORY, "memory limit reached");
        }
        st = has_writes(b) ? write_batch(r, b, deadline_ns, arena, out)
                           : read_batch(r, b, deadline_ns, arena, out);
    }
    return st;
}

void store_execute(struct store *s, const struct range_batch *b, uint64_t deadline_ns,
                   struct arena *arena, struct range_result *out)
{
    struct replica *r = store__find(s, b->range);

    *out = (struct range_result){0};
    if (r == NULL || s->stopping) {
        out->st = FAIL(STATUS_RANGE_NOT_FOUND, "no such range on this store");
        return;
    }
    replica__acquire(r);
    s->fibers++;
    out->st = execute(r, b, deadline_ns, arena, out);
    s->fibers--;
    replica__release(r);
    if (s->stopping) {
        wait_queue_wake_all(&s->idle);
    }
}

/* ---- requests of other nodes -------------------------------------------------------------------- */

struct remote_batch {
    struct store *store;
    struct rpc_reply_to reply;
    struct arena arena;
    struct bytes body; /* In the arena. */
};

/* An answer that does not fit must not say that nothing was done: a write stands in the log by now. */
static struct status encode_answer(struct remote_batch *rb, const struct range_batch *b,
                                   struct range_result *result, struct bytes *body)
{
    const struct status st = range_result_encode(result, b->count, &rb->arena, body);

    if (status_ok(st) && body->len <= RPC_BODY_MAX) {
        return OK;
    }
    if (!status_ok(result->st)) {
        return result->st; /* Without its hints. */
    }
    return has_writes(b) ? FAIL(STATUS_AMBIGUOUS, "the write was done, its answer cannot be sent")
                         : FAIL(STATUS_MEMORY, "the answer is larger than a message may be");
}

MAYYIELD static void serve_remote(void *arg)
{
    struct remote_batch *rb = arg;
    struct store *s = rb->store;
    struct range_batch b;
    struct range_result result = {0};
    struct bytes body;
    struct status st = range_batch_decode(rb->body, &rb->arena, &b);

    if (status_ok(st)) {
        const uint64_t deadline = env_mono_ns(shard_env(s->shard)) + SERVE_DEADLINE_NS;

        store_execute(s, &b, deadline, &rb->arena, &result);
        st = encode_answer(rb, &b, &result, &body);
    }
    rpc_reply(s->o.rpc, &rb->reply, st, &body, status_ok(st) ? 1 : 0);
    arena_deinit(&rb->arena);
    free(rb);
    s->fibers--;
    wait_queue_wake_all(&s->idle);
}

void range__on_batch(void *store, const struct rpc_message *m)
{
    struct store *s = store;
    const struct rpc_reply_to reply = rpc_reply_to(m);
    struct remote_batch *rb = calloc(1, sizeof(*rb));
    struct status st = OK;

    if (rb == NULL) {
        rpc_reply(s->o.rpc, &reply, FAIL(STATUS_MEMORY, "out of memory"), NULL, 0);
        return;
    }
    rb->store = s;
    rb->reply = reply;
    arena_init(&rb->arena, BATCH_ARENA_MAX);
    TRY_OUT(bytes_dup(&rb->arena, m->body, &rb->body));
    TRY_OUT(fiber_spawn(s->shard, "range.batch", serve_remote, rb));
    s->fibers++; /* Also while it waits for its first turn. */
    return;
out:
    rpc_reply(s->o.rpc, &reply, st, NULL, 0);
    arena_deinit(&rb->arena);
    free(rb);
}
