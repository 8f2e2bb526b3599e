/*
 * evaluate.c -- the requests of a batch against the engine.
 *
 * Evaluation only reads the engine and fills a batch of changes; it takes no decision that depends on
 * anything but its struct eval. Requests run in order. The first that meets an obstacle ends it: the
 * caller waits, moves the timestamp, or gives up, and starts again.
 */
#include "node/base/codec.h"
#include "node/base/invariant.h"
#include "node/range/replica/eval.h"

#define RESOLVE_KEYS_MAX 10000u /* Of one span; the rest is left to the next request. */

struct scan_rows {
    struct buf rows;
    uint32_t count;
    struct hts newest;
};

static struct status scan_row(void *ctx, struct bytes key, struct bytes value, struct hts ts)
{
    struct scan_rows *out = ctx;

    TRY(buf_append_lp(&out->rows, key));
    TRY(buf_append_lp(&out->rows, value));
    out->newest = hts_max(out->newest, ts);
    out->count++;
    return OK;
}

/* What a conflict of storage means; e->conflict keeps what to wait for. */
static struct status obstacle(struct eval *e, const struct mvcc_conflict *c)
{
    switch (c->kind) {
    case MVCC_CONFLICT_NONE:
        return OK;
    case MVCC_CONFLICT_LOCKED:
        e->conflict = *c;
        return FAIL(STATUS_LOCKED, "another transaction is writing the key");
    case MVCC_CONFLICT_UNCERTAIN:
        e->result->uncertain_ts = c->ts;
        return FAIL(STATUS_UNCERTAIN, "a value may have been written before the read");
    case MVCC_CONFLICT_CONDITION:
        return FAIL(STATUS_EXISTS, "the key exists already");
    case MVCC_CONFLICT_TOO_OLD:
        e->conflict = *c;
        return FAIL(STATUS_TXN_RETRY, "a newer version of the key exists");
    case MVCC_CONFLICT_REPLAY:
        break;
    }
    return FAIL(STATUS_INVALID, "a transaction wrote one key twice");
}

static struct mvcc_read read_options(const struct eval *e)
{
    return (struct mvcc_read){
        .ts = e->latest ? HTS_MAX : e->read_ts,
        .global_limit = e->latest ? HTS_ZERO : e->batch->txn.global_limit,
        .local_limit = e->local_limit,
        .txn = uuid_is_zero(e->txn.id) ? NULL : &e->txn,
        .no_intents = e->no_intents,
        .skip_locked = e->skip,
    };
}

/* SKIP LOCKED: is another transaction writing this key? */
static struct status written_by_others(struct eval *e, struct mvcc_reader *reader, struct bytes key,
                                       bool *is)
{
    struct mvcc_lock *locks = NULL;
    uint32_t count = 0;
    bool more = false;

    *is = false;
    if (e->skip && !e->no_intents) {
        TRY(mvcc_locks(reader, key, BYTES_EMPTY, MVCC_EXCLUSIVE, &e->txn.id, e->arena, &locks,
                       &count, &more));
        *is = count > 0;
    }
    return OK;
}

/* Takes out rows that others are writing. */
static struct status drop_written(struct eval *e, struct mvcc_reader *reader,
                                  struct scan_rows *rows)
{
    struct reader r = reader_of(buf_bytes(&rows->rows));
    struct buf kept = {.limit = rows->rows.limit};
    const uint32_t count = rows->count;
    struct status st = OK;

    if (!e->skip || e->no_intents) {
        return OK;
    }
    rows->count = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct bytes key = read_lp_bytes(&r);
        const struct bytes value = read_lp_bytes(&r);
        bool written = false;

        TRY_OUT(written_by_others(e, reader, key, &written));
        if (!written) {
            TRY_OUT(buf_append_lp(&kept, key));
            TRY_OUT(buf_append_lp(&kept, value));
            rows->count++;
        }
    }
    buf_deinit(&rows->rows);
    rows->rows = kept;
    return OK;
out:
    buf_deinit(&kept);
    return st;
}

static struct status eval_get(struct eval *e, struct mvcc_reader *reader,
                              const struct range_request *q, struct range_response *out)
{
    const struct mvcc_read opt = read_options(e);
    struct mvcc_value value;
    struct mvcc_conflict conflict = {0};
    bool written = false;

    TRY(mvcc_get(reader, q->key, &opt, e->arena, &value, &conflict));
    TRY(obstacle(e, &conflict));
    TRY(written_by_others(e, reader, q->key, &written));
    if (written) {
        return OK; /* As if not found. */
    }
    e->newest = hts_max(e->newest, value.ts);
    out->found = value.found;
    out->value = value.value;
    return OK;
}

static struct status eval_scan(struct eval *e, struct mvcc_reader *reader,
                               const struct range_request *q, struct range_response *out)
{
    const struct mvcc_read opt = read_options(e);
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
    TRY_OUT(obstacle(e, &conflict));
    TRY_OUT(drop_written(e, reader, &rows));
    TRY_OUT(bytes_dup(e->arena, buf_bytes(&rows.rows), &out->rows));
    e->newest = hts_max(e->newest, rows.newest);
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
    const struct hts to = hts_is_zero(e->commit_ts) ? e->batch->txn.write_ts : e->commit_ts;
    const struct hts from = hts_is_zero(q->since) ? e->read_ts : q->since;
    struct mvcc_conflict conflict = {0};

    if (e->skip_refresh || hts_less_eq(to, from)) {
        return OK;
    }
    TRY(mvcc_refresh(reader, q->key, q->end, from, to, uuid_is_zero(e->txn.id) ? NULL : &e->txn,
                     e->arena, &conflict));
    if (conflict.kind == MVCC_CONFLICT_TOO_OLD) {
        return FAIL(STATUS_TXN_RETRY, "what the transaction read has changed since");
    }
    return obstacle(e, &conflict);
}

/* Does the batch depend on something? Then no write may go above the time up to which that was checked: it
 * comes back and all is checked again, up to there. */
static bool validates(const struct range_batch *b)
{
    for (uint32_t i = 0; i < b->count; i++) {
        if (b->requests[i].op == RANGE_OP_REFRESH) {
            return true;
        }
    }
    return false;
}

static struct status eval_write(struct eval *e, struct mvcc_writer *w,
                                const struct range_request *q)
{
    const bool conditional = q->op == RANGE_OP_INSERT || q->op == RANGE_OP_ABSENT;
    const struct mvcc_write op = {
        .key = q->key,
        .value = q->value,
        .tombstone = q->op == RANGE_OP_DELETE || q->op == RANGE_OP_ABSENT,
        .ts = e->commit_ts,
        .local_ts = e->now,
        .txn = e->batch->intents ? &e->txn : NULL,
        .expect = conditional ? MVCC_EXPECT_ABSENT : MVCC_EXPECT_ANY,
        .bump = e->batch->intents && !conditional && !e->batch->replay && !e->validates,
    };
    struct mvcc_written written;
    struct mvcc_conflict conflict = {0};

    TRY(mvcc_put(w, &op, &written, &conflict));
    if (conflict.kind == MVCC_CONFLICT_NONE && e->batch->intents) {
        e->laid = hts_max(e->laid, written.ts);
    }
    return obstacle(e, &conflict);
}

static struct status eval_query_intent(struct mvcc_writer *w, const struct range_request *q,
                                       struct range_response *out)
{
    enum mvcc_intent_state state = MVCC_INTENT_MISSING;
    struct hts at;

    TRY(mvcc_query_intent(w, q->key, q->args->txn, 0, RANGE_TXN_SEQ, q->args->ts, &state, &at));
    out->found = state == MVCC_INTENT_FOUND;
    return OK;
}

static struct status eval_resolve(struct eval *e, struct mvcc_writer *w,
                                  const struct range_request *q)
{
    const struct mvcc_resolve how = {
        .txn_id = q->args->txn,
        .resolution = q->args->status == RANGE_TXN_COMMITTED ? MVCC_COMMIT
                      : q->args->status == RANGE_TXN_ABORTED ? MVCC_ABORT
                                                             : MVCC_PUSH,
        .ts = q->args->ts,
    };
    struct bytes resume;
    uint32_t count = 0;
    bool resolved = false;

    if (e->no_intents) {
        return OK;
    }
    return q->end.len == 0
               ? mvcc_resolve(w, q->key, &how, &resolved)
               : mvcc_resolve_range(w, q->key, q->end, &how, RESOLVE_KEYS_MAX, &count, &resume);
}

static struct status eval_request(struct eval *e, struct mvcc_reader *reader, struct mvcc_writer *w,
                                  uint32_t i)
{
    const struct range_request *q = &e->batch->requests[i];
    struct range_response *out = &e->result->responses[i];

    e->result->conflict = i;
    switch (q->op) {
    case RANGE_OP_GET:
        return eval_get(e, reader, q, out);
    case RANGE_OP_SCAN:
        return eval_scan(e, reader, q, out);
    case RANGE_OP_PUT:
    case RANGE_OP_INSERT:
    case RANGE_OP_DELETE:
    case RANGE_OP_ABSENT:
        return eval_write(e, w, q);
    case RANGE_OP_REFRESH:
        return eval_refresh(e, reader, q);
    case RANGE_OP_QUERY_INTENT:
        return eval_query_intent(w, q, out);
    case RANGE_OP_END_TXN:
        return eval_end_txn(e, q, out);
    case RANGE_OP_HEARTBEAT:
        return eval_heartbeat(e, q, out);
    case RANGE_OP_RECOVER:
        return eval_recover(e, q, out);
    case RANGE_OP_RESOLVE:
        return eval_resolve(e, w, q);
    case RANGE_OP_PUSH:
    case RANGE_OP_QUERY_TXN:
    case RANGE_OP_QUERY_COMMIT:
    case RANGE_OP_COUNT:
        break;
    }
    return FAIL(STATUS_INVALID, "unknown request");
}

struct status eval_run(struct eval *e)
{
    struct mvcc_reader reader;
    struct mvcc_writer writer = {0};
    struct status st = OK;

    engine_batch_clear(e->ops);
    e->conflict = (struct mvcc_conflict){0};
    e->laid = HTS_ZERO;
    e->newest = HTS_ZERO;
    e->record_changed = false;
    e->record_finished = false;
    e->over = false;
    e->validates = validates(e->batch);
    mvcc_reader_init(&reader, e->engine, e->snap, e->tier);
    if (e->snap == NULL) { /* Who reads the past writes nothing. */
        mvcc_writer_init(&writer, &reader, e->ops, e->arena);
    }
    writer.no_intents = e->no_intents;
    for (uint32_t i = 0; i < e->batch->count; i++) {
        TRY_OUT(eval_request(e, &reader, &writer, i));
    }
    e->stats = writer.stats;
    if (e->over) {
        engine_batch_clear(e->ops);
        e->stats = (struct mvcc_stats){0};
    }
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

struct status evaluate(struct eval *e, bool *yielded)
{
    struct status st = eval_run(e);

    *yielded = st.code == STATUS_WOULD_BLOCK;
    if (*yielded) {
        fiber_run_blocking(ENV_LANE_IO, eval_blocking, e);
        st = e->st;
    }
    return st;
}
