/*
 * leftovers.c -- what transactions have left behind.
 *
 * A coordinator settles its intents and removes its record behind the client's back; whoever meets an intent
 * in the way settles it as well. What nobody meets after a coordinator died is found here: intents and
 * records are looked for on the io lane, a bounded number at a time, and each is dealt with by the same
 * requests that everybody uses.
 *
 *     old intent   PUSH its transaction at the anchor, RECOVER it when it is STAGING, RESOLVE the key
 *     old record   COMMITTED: RESOLVE all that it wrote, then END_TXN without spans removes it
 *                  otherwise: PUSH it to an end; what is left of it goes in the next round
 *
 * A record goes only after every one of its spans has been resolved as often as the largest transaction
 * needs: an intent without a record would be taken as aborted.
 *
 * Source: protocol reference 12.3.8.
 */
#include <stdlib.h>

#include "node/base/codec.h"
#include "node/range/internal.h"

#define FOUND_MAX     200u    /* In one step. */
#define LOOKED_MAX    100000u /* Likewise, at keys. */
#define CALL_NS       ((uint64_t)10000000000)
#define RESOLVE_CALLS (RANGE_REQUESTS_MAX / 10000u + 1) /* A call settles 10,000 keys. */

struct found {
    bool record; /* Otherwise an intent. */
    struct bytes key;
    struct bytes anchor;
    struct uuid txn;
    struct hts min_ts;
    /* Of records. */
    struct range_txn_info info;
    struct key_span *spans;
    uint32_t spans_count;
};

struct settling {
    struct replica *replica;
    struct hts intents_before;
    struct hts records_before;
    uint64_t deadline_ns;
    struct store_gc_result *result;
    struct key_span spans[KEY_RANGE_SPANS];
    struct arena span_arena;
    int span;            /* KEY_RANGE_SPANS - 1: done; the last one holds data. */
    struct buf position; /* Empty: its start. */
    struct arena arena;
    struct found found[FOUND_MAX];
    uint32_t count;
    struct status st;
};

/* ---- finding, on the io lane -------------------------------------------------------------------- */

static struct status look_at_lock(struct settling *x, struct bytes key, struct bytes stored)
{
    struct found *f = &x->found[x->count];
    struct mvcc_lock l;

    TRY(mvcc_lock_decode(key, stored, &l));
    if (l.strength != MVCC_INTENT || hts_less_eq(x->intents_before, l.write_ts)) {
        return OK;
    }
    *f = (struct found){.txn = l.txn_id, .min_ts = l.min_ts};
    TRY(bytes_dup(&x->arena, l.key, &f->key));
    TRY(bytes_dup(&x->arena, l.anchor_key, &f->anchor));
    x->count++;
    return OK;
}

/* 0x02 esc(anchor) term tag, and for records of transactions the id. */
static struct status look_at_local(struct settling *x, struct bytes key, struct bytes stored)
{
    struct found *f = &x->found[x->count];
    struct reader r = reader_of(key);
    struct bytes id;
    struct bytes copy;

    (void)read_u8(&r);
    *f = (struct found){.record = true, .anchor = key_dec_escaped(&r, &x->arena)};
    if (read_u8(&r) != KEY_LOCAL_TXN) {
        return OK;
    }
    id = read_bytes(&r, sizeof(f->txn.b));
    if (r.bad || r.rest.len != 0) {
        return FAIL(STATUS_CORRUPT, "damaged key of a transaction record");
    }
    memcpy(f->txn.b, id.ptr, sizeof(f->txn.b));
    TRY(bytes_dup(&x->arena, stored, &copy));
    TRY(record__decode(copy, &x->arena, &f->info, &f->spans, &f->spans_count));
    f->info.id = f->txn;
    f->min_ts = f->info.min_ts;
    x->count += hts_less(f->info.last_heartbeat, x->records_before) ? 1 : 0;
    return OK;
}

static bool is_lock_span(int span)
{
    return span == 2 || span == 3;
}

static struct status look(struct settling *x, struct engine_iter *it)
{
    uint32_t looked = 0;

    for (engine_iter_seek_first(it); engine_iter_valid(it); engine_iter_next(it)) {
        if (x->count == FOUND_MAX || looked++ == LOOKED_MAX) {
            buf_clear(&x->position);
            return buf_append_bytes(&x->position, engine_iter_key(it));
        }
        TRY(is_lock_span(x->span) ? look_at_lock(x, engine_iter_key(it), engine_iter_value(it))
                                  : look_at_local(x, engine_iter_key(it), engine_iter_value(it)));
    }
    TRY(engine_iter_status(it));
    buf_clear(&x->position);
    x->span++;
    return OK;
}

static void look_blocking(void *arg)
{
    struct settling *x = arg;
    struct engine_iter_options io = {
        .cf = ENGINE_CF_STATE,
        .lower = x->position.len > 0 ? buf_bytes(&x->position) : x->spans[x->span].start,
        .upper = x->spans[x->span].end,
    };
    struct engine_iter *it = NULL;

    arena_reset(&x->arena);
    x->count = 0;
    x->st = engine_iter_open(x->replica->store->engine, &io, &it);
    if (status_ok(x->st)) {
        x->st = look(x, it);
        engine_iter_close(it);
    }
}

/* ---- dealing with it ---------------------------------------------------------------------------- */

MAYYIELD static struct status ask_range(struct settling *x, const struct range_request *q,
                                        struct arena *arena, struct range_response **out)
{
    struct store *s = x->replica->store;
    struct range_batch b = {.requests = q, .count = 1};
    struct range_result result = {.st = OK};
    const uint64_t deadline = env_mono_ns(shard_env(s->shard)) + CALL_NS;

    TRY(s->o.send(s->o.send_ctx, &b, deadline < x->deadline_ns ? deadline : x->deadline_ns, arena,
                  &result));
    TRY(result.st);
    *out = &result.responses[0];
    return OK;
}

/* How its transaction ended, after it was told to. PENDING: it lives. */
MAYYIELD static struct status end_txn(struct settling *x, const struct found *f,
                                      struct arena *arena, struct range_txn_info *out)
{
    const struct range_txn_args args = {
        .txn = f->txn, .anchor = f->anchor, .min_ts = f->min_ts, .push = RANGE_PUSH_ABORT};
    const struct range_request q = {.op = RANGE_OP_PUSH, .key = f->anchor, .args = &args};
    struct range_response *response = NULL;

    TRY(ask_range(x, &q, arena, &response));
    if (response->txn == NULL) {
        return FAIL(STATUS_CORRUPT, "a push without an answer");
    }
    *out = *response->txn;
    if (out->status == RANGE_TXN_STAGING && response->found) {
        const struct range_txn_info staging = *out;

        return recover__txn(x->replica->store, f->anchor, &staging, x->deadline_ns, arena, out);
    }
    return OK;
}

MAYYIELD static struct status resolve(struct settling *x, const struct found *f, struct key_span at,
                                      enum range_txn_status status, struct hts ts)
{
    const struct range_txn_args args = {
        .txn = f->txn, .anchor = f->anchor, .status = status, .ts = ts};
    const struct range_request q = {
        .op = RANGE_OP_RESOLVE, .key = at.start, .end = at.end, .args = &args};
    const uint32_t calls = at.end.len == 0 ? 1 : RESOLVE_CALLS;
    struct range_response *response = NULL;
    struct status st = OK;

    for (uint32_t i = 0; status_ok(st) && i < calls; i++) {
        struct arena arena;

        arena_init(&arena, 0);
        st = ask_range(x, &q, &arena, &response);
        arena_deinit(&arena);
    }
    /* Its message may have lived in the arena. */
    return status_ok(st) ? OK : FAIL(st.code, "an intent could not be settled");
}

MAYYIELD static struct status settle_intent(struct settling *x, const struct found *f)
{
    struct range_txn_info info = {.status = RANGE_TXN_PENDING};
    struct arena arena;
    struct status st = OK;

    arena_init(&arena, 0);
    st = end_txn(x, f, &arena, &info);
    arena_deinit(&arena);
    if (!status_ok(st)) {
        return FAIL(st.code, "the transaction of an old intent could not be ended");
    }
    if (info.status == RANGE_TXN_COMMITTED || info.status == RANGE_TXN_ABORTED) {
        TRY(resolve(x, f, (struct key_span){f->key, BYTES_EMPTY}, info.status, info.ts));
        x->result->intents++;
    }
    return OK;
}

/* END_TXN without spans: all is settled, the record goes. */
MAYYIELD static struct status remove_record(struct settling *x, const struct found *f)
{
    const struct range_txn_args args = {
        .txn = f->txn, .anchor = f->anchor, .status = RANGE_TXN_COMMITTED, .ts = f->info.ts};
    const struct range_request q = {.op = RANGE_OP_END_TXN, .key = f->anchor, .args = &args};
    const struct range_batch b = {
        .range = x->replica->range,
        .requests = &q,
        .count = 1,
        .intents = true,
        .txn = {.id = f->txn, .anchor = f->anchor, .min_ts = f->min_ts, .write_ts = f->info.ts},
    };
    struct range_result result;
    struct arena arena;

    arena_init(&arena, 0);
    store_execute(x->replica->store, &b, x->deadline_ns, &arena, &result);
    arena_deinit(&arena);
    if (!status_ok(result.st)) {
        return FAIL(result.st.code, "a transaction record could not be removed");
    }
    x->result->records++;
    return OK;
}

MAYYIELD static struct status settle_record(struct settling *x, const struct found *f)
{
    struct range_txn_info info;
    struct arena arena;
    struct status st = OK;

    if (f->info.status != RANGE_TXN_COMMITTED) {
        arena_init(&arena, 0);
        st = end_txn(x, f, &arena, &info);
        arena_deinit(&arena);
        return status_ok(st) ? OK : FAIL(st.code, "an old transaction could not be ended");
    }
    for (uint32_t i = 0; i < f->spans_count; i++) {
        TRY(resolve(x, f, f->spans[i], RANGE_TXN_COMMITTED, f->info.ts));
    }
    return remove_record(x, f);
}

/* One that fails must not keep the others from being settled. */
MAYYIELD static struct status deal_with_found(struct settling *x)
{
    struct status first = OK;

    for (uint32_t i = 0; i < x->count; i++) {
        const struct status st =
            x->found[i].record ? settle_record(x, &x->found[i]) : settle_intent(x, &x->found[i]);

        first = status_ok(first) ? st : first;
        TRY(lease__check(x->replica, HTS_ZERO)); /* We yielded. */
    }
    return first;
}

static struct hts before(struct store *s, uint64_t age_ns)
{
    const struct hts now = hclock_hts(hlc_now(s->hlc));

    return (struct hts){now.wall > age_ns ? now.wall - age_ns : 0, 0};
}

/* Spans 1 (range-local) and, where there may be any, 2 and 3 (locks). */
MAYYIELD static struct status run(struct settling *x)
{
    struct replica *r = x->replica;
    struct status first = OK;

    TRY(key_range_spans(&x->span_arena, r->range, r->desc.start, r->desc.end, x->spans));
    for (x->span = 1; x->span < KEY_RANGE_SPANS - 1;) {
        if (is_lock_span(x->span) && r->applied.stats.lock_count == 0 &&
            r->applied.stats.intent_count == 0) {
            break;
        }
        fiber_run_blocking(ENV_LANE_IO, look_blocking, x);
        TRY(x->st);
        TRY(lease__check(r, HTS_ZERO));
        if (x->count > 0) {
            const struct status st = deal_with_found(x);

            first = status_ok(first) ? st : first;
        }
    }
    return first;
}

struct status leftovers__settle(struct replica *r, const struct store_gc_options *o,
                                uint64_t deadline_ns, struct store_gc_result *out)
{
    struct settling *x = NULL;
    struct status st = OK;

    if (r->store->o.send == NULL) {
        return OK; /* Alone in the world: what is met is settled by whoever meets it. */
    }
    x = calloc(1, sizeof(*x));
    if (x == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    x->replica = r;
    x->result = out;
    x->deadline_ns = deadline_ns;
    x->intents_before = before(r->store, o->intent_age_ns);
    x->records_before = before(r->store, o->record_age_ns);
    arena_init(&x->arena, 0);
    arena_init(&x->span_arena, 0);
    st = run(x);
    arena_deinit(&x->arena);
    arena_deinit(&x->span_arena);
    buf_deinit(&x->position);
    free(x);
    return st;
}
