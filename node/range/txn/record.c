/*
 * record.c -- the record by which a transaction over several ranges is committed or not.
 *
 * It lies at the anchor's range as an unversioned value: PENDING, STAGING or COMMITTED. An aborted
 * transaction has no record: what keeps another from being made is a marker in the leaseholder's memory,
 * or, when the lease has moved since, that the transaction is older than the lease.
 *
 *     no record --heartbeat--> PENDING --stage--> STAGING --end, recover--> COMMITTED --end--> removed
 *         |                       |                  |
 *         +------ push, end ------+----- recover ----+--> removed, marked as finished
 *
 * Evaluation is pure: markers are read before (struct eval) and written when the command has committed.
 *
 * Source: protocol reference 5.4, 5.9; node/docs/0007.
 */
#include "node/base/codec.h"
#include "node/range/replica/eval.h"

#define RECORD_FORMAT   1u
#define RECORD_KEYS_MAX 1000000u

/* ---- stored form -------------------------------------------------------------------------------- */

static struct status put_hts(struct buf *b, struct hts ts)
{
    TRY(buf_append_varint(b, ts.wall));
    return buf_append_varint(b, ts.logical);
}

static struct hts read_hts(struct reader *r)
{
    const uint64_t wall = read_varint(r);

    return (struct hts){wall, (uint32_t)read_varint(r)};
}

/* What END_TXN says of the keys, beside the state. */
static struct status record_encode(const struct range_txn_info *t, const struct key_span *spans,
                                   uint32_t spans_count, struct buf *out)
{
    TRY(buf_append_u8(out, RECORD_FORMAT));
    TRY(buf_append_u8(out, (uint8_t)t->status));
    TRY(put_hts(out, t->ts));
    TRY(put_hts(out, t->min_ts));
    TRY(put_hts(out, t->last_heartbeat));
    TRY(buf_append_varint(out, t->priority));
    TRY(buf_append_varint(out, t->in_flight_count));
    for (uint32_t i = 0; i < t->in_flight_count; i++) {
        TRY(buf_append_lp(out, t->in_flight[i]));
    }
    TRY(buf_append_varint(out, spans_count));
    for (uint32_t i = 0; i < spans_count; i++) {
        TRY(buf_append_lp(out, spans[i].start));
        TRY(buf_append_lp(out, spans[i].end));
    }
    return OK;
}

static struct status decode_keys(struct reader *r, struct arena *arena, struct range_txn_info *t)
{
    const uint64_t count = read_varint(r);
    struct bytes *keys = NULL;

    if (r->bad || count > RECORD_KEYS_MAX) {
        return FAIL(STATUS_CORRUPT, "damaged transaction record");
    }
    keys = ARENA_ARRAY(arena, struct bytes, count + 1);
    if (keys == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    for (uint64_t i = 0; i < count; i++) {
        keys[i] = read_lp_bytes(r);
    }
    t->in_flight = keys;
    t->in_flight_count = (uint32_t)count;
    return OK;
}

/* Borrows from `b` and the arena. */
static struct status record_decode(struct bytes b, struct arena *arena, struct range_txn_info *t,
                                   struct key_span **spans_out, uint32_t *spans_count)
{
    struct reader r = reader_of(b);
    const uint8_t format = read_u8(&r);
    struct key_span *spans = NULL;
    uint64_t count = 0;

    t->has_record = true;
    t->status = (enum range_txn_status)read_u8(&r);
    t->ts = read_hts(&r);
    t->min_ts = read_hts(&r);
    t->last_heartbeat = read_hts(&r);
    t->priority = (uint32_t)read_varint(&r);
    TRY(decode_keys(&r, arena, t));
    count = read_varint(&r);
    if (r.bad || format != RECORD_FORMAT || t->status >= RANGE_TXN_ABORTED ||
        count > RECORD_KEYS_MAX) {
        return FAIL(STATUS_CORRUPT, "damaged transaction record");
    }
    spans = ARENA_ARRAY(arena, struct key_span, count + 1);
    if (spans == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    for (uint64_t i = 0; i < count; i++) {
        spans[i].start = read_lp_bytes(&r);
        spans[i].end = read_lp_bytes(&r);
    }
    *spans_out = spans;
    *spans_count = (uint32_t)count;
    return r.bad ? FAIL(STATUS_CORRUPT, "damaged transaction record") : OK;
}

struct status record__decode(struct bytes stored, struct arena *arena, struct range_txn_info *out,
                             struct key_span **spans, uint32_t *spans_count)
{
    *out = (struct range_txn_info){0};
    return record_decode(stored, arena, out, spans, spans_count);
}

/* ---- against the engine ------------------------------------------------------------------------- */

struct stored {
    struct range_txn_info info;
    struct key_span *spans;
    uint32_t spans_count;
};

static struct status load(struct engine *engine, enum engine_tier tier, struct bytes anchor,
                          struct uuid txn, struct arena *arena, struct stored *out)
{
    struct buf mem = {0};
    struct key_enc k;
    struct bytes key;
    struct bytes value;
    struct status st = OK;

    *out = (struct stored){.info.id = txn};
    key_enc_init_buf(&k, &mem);
    key_enc_txn_record(&k, anchor, txn);
    TRY_OUT(key_enc_finish(&k, &key));
    st = engine_get(engine, ENGINE_CF_STATE, key, tier, arena, &value);
    if (st.code == STATUS_NOT_FOUND) {
        st = OK;
        goto out;
    }
    TRY_OUT(st);
    TRY_OUT(record_decode(value, arena, &out->info, &out->spans, &out->spans_count));
out:
    buf_deinit(&mem);
    return st;
}

/* Writes the record; status ABORTED: removes it. */
static struct status store_record(struct eval *e, struct bytes anchor, const struct stored *s)
{
    struct buf mem = {0};
    struct buf value = {0};
    struct key_enc k;
    struct bytes key;
    struct status st = OK;

    key_enc_init_buf(&k, &mem);
    key_enc_txn_record(&k, anchor, s->info.id);
    TRY_OUT(key_enc_finish(&k, &key));
    if (s->info.status == RANGE_TXN_ABORTED) {
        TRY_OUT(engine_batch_delete(e->ops, ENGINE_CF_STATE, key));
    } else {
        TRY_OUT(record_encode(&s->info, s->spans, s->spans_count, &value));
        TRY_OUT(engine_batch_put(e->ops, ENGINE_CF_STATE, key, buf_bytes(&value)));
    }
    e->record_changed = true;
    e->record_finished =
        s->info.status == RANGE_TXN_ABORTED || s->info.status == RANGE_TXN_COMMITTED;
out:
    buf_deinit(&mem);
    buf_deinit(&value);
    return st;
}

static struct status answer(struct eval *e, const struct range_txn_info *t,
                            struct range_response *out)
{
    struct range_txn_info *copy = ARENA_NEW(e->arena, struct range_txn_info);

    if (copy == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    *copy = *t;
    out->txn = copy;
    return OK;
}

static struct status aborted(void)
{
    return FAIL(STATUS_TXN_ABORTED,
                "the transaction was aborted by another one, or its leaseholder "
                "changed before it was staged");
}

/* May its record be written: is it there, or may it be made? */
static bool alive(const struct eval *e, const struct stored *s)
{
    return s->info.has_record || (e->may_create && !e->marker.finished);
}

/* ---- END_TXN ------------------------------------------------------------------------------------ */

static struct status stage(struct eval *e, const struct range_request *q, struct stored *s,
                           struct range_response *out)
{
    const struct range_txn_args *a = q->args;
    const struct hts pushed = hts_is_zero(e->marker.pushed) || s->info.status == RANGE_TXN_STAGING
                                  ? HTS_ZERO
                                  : hts_next(e->marker.pushed);
    const struct hts ts = hts_max(hts_max(a->ts, e->laid), pushed);

    if (s->info.status == RANGE_TXN_STAGING && hts_less(a->ts, s->info.ts)) {
        e->over = true; /* Late: it has been staged higher since. */
        return answer(e, &s->info, out);
    }
    if (hts_less(a->ts, ts) && !e->batch->can_forward) {
        s->info.status = RANGE_TXN_PENDING;
        s->info.ts = ts;
        return answer(e, &s->info, out);
    }
    s->info.status = RANGE_TXN_STAGING;
    s->info.ts = ts;
    s->info.min_ts = e->batch->txn.min_ts;
    s->info.priority = e->batch->txn.priority;
    s->info.last_heartbeat = e->now;
    s->info.in_flight = a->in_flight;
    s->info.in_flight_count = a->in_flight_count;
    s->spans = (struct key_span *)(uintptr_t)a->spans;
    s->spans_count = a->spans_count;
    e->laid = ts;
    TRY(store_record(e, q->key, s));
    return answer(e, &s->info, out);
}

static struct status commit(struct eval *e, const struct range_request *q, struct stored *s,
                            struct range_response *out)
{
    const struct range_txn_args *a = q->args;

    if (s->info.status != RANGE_TXN_STAGING && !hts_is_zero(e->marker.pushed) &&
        hts_less_eq(a->ts, e->marker.pushed)) {
        s->info.status = RANGE_TXN_PENDING;
        s->info.ts = hts_next(e->marker.pushed);
        return answer(e, &s->info, out);
    }
    if (s->info.status == RANGE_TXN_STAGING && hts_less(a->ts, s->info.ts)) {
        return answer(e, &s->info, out);
    }
    s->info.status = a->spans_count == 0 ? RANGE_TXN_ABORTED : RANGE_TXN_COMMITTED;
    s->info.ts = a->ts;
    s->info.min_ts = e->batch->txn.min_ts;
    s->info.last_heartbeat = e->now;
    s->info.in_flight_count = 0;
    s->spans = (struct key_span *)(uintptr_t)a->spans;
    s->spans_count = a->spans_count;
    TRY(store_record(e, q->key, s)); /* ABORTED stands for "remove". */
    s->info.status = RANGE_TXN_COMMITTED;
    return answer(e, &s->info, out);
}

/* It had committed before: its coordinator hears so, or says that all is settled. */
static struct status committed_before(struct eval *e, const struct range_request *q,
                                      struct stored *s, struct range_response *out)
{
    e->over = q->args->status == RANGE_TXN_STAGING;
    if (q->args->status == RANGE_TXN_COMMITTED && q->args->spans_count == 0) {
        s->info.status = RANGE_TXN_ABORTED;
        TRY(store_record(e, q->key, s));
        s->info.status = RANGE_TXN_COMMITTED;
    }
    return answer(e, &s->info, out);
}

struct status eval_end_txn(struct eval *e, const struct range_request *q,
                           struct range_response *out)
{
    struct stored s;

    TRY(load(e->engine, e->tier, q->key, q->args->txn, e->arena, &s));
    if (s.info.status == RANGE_TXN_COMMITTED) {
        return committed_before(e, q, &s, out);
    }
    switch (q->args->status) {
    case RANGE_TXN_STAGING:
        return alive(e, &s) ? stage(e, q, &s, out) : aborted();
    case RANGE_TXN_COMMITTED:
        return alive(e, &s) ? commit(e, q, &s, out) : aborted();
    case RANGE_TXN_ABORTED:
        if (s.info.status == RANGE_TXN_STAGING && q->args->push == RANGE_PUSH_ABORT) {
            return answer(e, &s.info,
                          out); /* Others must find out first whether it is committed. */
        }
        s.info.status = RANGE_TXN_ABORTED;
        if (s.info.has_record) {
            TRY(store_record(e, q->key, &s));
        }
        e->record_changed = true;
        e->record_finished = true;
        return answer(e, &s.info, out);
    case RANGE_TXN_PENDING:
        break;
    }
    return FAIL(STATUS_INVALID, "a transaction cannot end as pending");
}

/* ---- HEARTBEAT, RECOVER ------------------------------------------------------------------------- */

struct status eval_heartbeat(struct eval *e, const struct range_request *q,
                             struct range_response *out)
{
    struct stored s;

    TRY(load(e->engine, e->tier, q->key, q->args->txn, e->arena, &s));
    if (s.info.status == RANGE_TXN_COMMITTED) {
        return answer(e, &s.info, out);
    }
    if (!alive(e, &s)) {
        s.info.status = RANGE_TXN_ABORTED;
        return answer(e, &s.info, out);
    }
    if (!s.info.has_record) {
        s.info.min_ts = e->batch->txn.min_ts;
        s.info.priority = e->batch->txn.priority;
    }
    s.info.last_heartbeat = e->now;
    TRY(store_record(e, q->key, &s));
    return answer(e, &s.info, out);
}

struct status eval_recover(struct eval *e, const struct range_request *q,
                           struct range_response *out)
{
    struct stored s;

    TRY(load(e->engine, e->tier, q->key, q->args->txn, e->arena, &s));
    if (!s.info.has_record && !alive(e, &s)) {
        s.info.status = RANGE_TXN_ABORTED;
    }
    if (s.info.status == RANGE_TXN_STAGING && hts_eq(s.info.ts, q->args->ts)) {
        s.info.status = q->args->status;
        s.info.in_flight_count = 0;
        TRY(store_record(e, q->key, &s));
    }
    return answer(e, &s.info, out);
}

/* ---- for who asks on the shard ------------------------------------------------------------------ */

struct status record__key(struct bytes anchor, struct uuid txn, struct arena *arena,
                          struct bytes *out)
{
    struct buf mem = {0};
    struct key_enc k;
    struct bytes key;
    struct status st = OK;

    key_enc_init_buf(&k, &mem);
    key_enc_txn_record(&k, anchor, txn);
    TRY_OUT(key_enc_finish(&k, &key));
    TRY_OUT(bytes_dup(arena, key, out));
out:
    buf_deinit(&mem);
    return st;
}

struct load_job {
    struct engine *engine;
    struct bytes anchor;
    struct uuid txn;
    struct arena *arena;
    struct stored *out;
    struct status st;
};

static void load_blocking(void *arg)
{
    struct load_job *j = arg;

    j->st = load(j->engine, ENGINE_TIER_ANY, j->anchor, j->txn, j->arena, j->out);
}

struct hts record__floor(const struct replica *r)
{
    return hts_max(r->floor, tscache_marker_floor(r->store->tscache));
}

bool record__may_create(const struct replica *r, struct hts min_ts)
{
#ifdef DSQL_PLANTS
    if ((r->store->o.plants & STORE_PLANT_RECORD_REBORN) != 0) {
        return true;
    }
#endif
    return hts_less(record__floor(r), min_ts);
}

/* One look without a command under way on the record. *again: it yielded, and things may have changed. */
MAYYIELD static struct status look(struct replica *r, struct bytes key, struct load_job *job,
                                   uint64_t deadline_ns, bool *again)
{
    const uint64_t applied = r->applied.index;
    struct status st = OK;

    *again = false;
    if (latch_blocks_read(&r->latches, NULL, key, BYTES_EMPTY, HTS_MAX)) {
        TRY(latch_wait_read(&r->latches, NULL, key, BYTES_EMPTY, HTS_MAX, deadline_ns));
        *again = true;
        return OK;
    }
    st = load(job->engine, ENGINE_TIER_CACHE, job->anchor, job->txn, job->arena, job->out);
    if (st.code == STATUS_WOULD_BLOCK) {
        fiber_run_blocking(ENV_LANE_IO, load_blocking, job);
        st = job->st;
        *again = applied != r->applied.index ||
                 latch_blocks_read(&r->latches, NULL, key, BYTES_EMPTY, HTS_MAX);
    }
    return st;
}

struct status record__read(struct replica *r, struct bytes anchor, struct uuid txn,
                           struct hts min_ts, uint64_t deadline_ns, struct arena *arena,
                           struct range_txn_info *out)
{
    struct stored s;
    struct load_job job = {
        .engine = r->store->engine, .anchor = anchor, .txn = txn, .arena = arena, .out = &s};
    struct tscache_marker marker;
    struct bytes key;
    bool again = true;

    TRY(record__key(anchor, txn, arena, &key));
    while (again) {
        TRY(look(r, key, &job, deadline_ns, &again));
    }
    *out = s.info;
    marker = tscache_marker_of(r->store->tscache, txn);
    if (!out->has_record) {
        out->min_ts = min_ts;
        out->ts = marker.pushed;
        out->status = marker.finished || !record__may_create(r, min_ts) ? RANGE_TXN_ABORTED
                                                                        : RANGE_TXN_PENDING;
    } else if (out->status == RANGE_TXN_PENDING) {
        out->ts = hts_max(out->ts, marker.pushed);
    }
    return OK;
}

struct status record__abort(struct replica *r, struct bytes anchor, struct uuid txn,
                            uint64_t deadline_ns, struct arena *arena, struct range_txn_info *out)
{
    const struct range_txn_args args = {
        .txn = txn, .anchor = anchor, .status = RANGE_TXN_ABORTED, .push = RANGE_PUSH_ABORT};
    const struct range_request q = {.op = RANGE_OP_END_TXN, .key = anchor, .args = &args};
    const struct range_batch b = {.range = r->range, .requests = &q, .count = 1};
    struct range_result result;

    TRY(record__read(r, anchor, txn, HTS_ZERO, deadline_ns, arena, out));
    if (out->has_record && out->status != RANGE_TXN_PENDING) {
        return OK;
    }
    if (!out->has_record) {
        tscache_mark_finished(r->store->tscache, txn, hclock_hts(hlc_now(r->store->hlc)));
        push__changed(r, txn);
        out->status = RANGE_TXN_ABORTED;
        return OK;
    }
    store_execute(r->store, &b, deadline_ns, arena, &result);
    TRY(result.st);
    if (result.responses[0].txn != NULL) {
        *out = *result.responses[0].txn;
    }
    return OK;
}
