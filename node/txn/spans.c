/*
 * spans.c -- what a transaction has read, and moving its snapshot.
 *
 * The snapshot may move up when nothing that was read has changed in between: every span is refreshed, which
 * also keeps others from writing there below the new time. Spans are kept in order of reading; pages of one
 * scan grow together. When there are too many, neighbours become one: that refuses more than it must, but
 * never less.
 */
#include <stdlib.h>

#include "node/base/invariant.h"
#include "node/storage/key/key.h"
#include "node/txn/internal.h"

static int span_order(const void *a, const void *b)
{
    const struct span *x = a;
    const struct span *y = b;

    return bytes_cmp(x->start, y->start);
}

static struct status end_of(struct arena *arena, const struct span *s, struct bytes *out)
{
    *out = s->end;
    return s->end.len > 0 ? OK : key_after(arena, s->start, out);
}

/* Halves the list: neighbours in key order become one span, with what lies between them. */
static struct status condense(struct txn *t)
{
    uint32_t kept = 0;

    if (t->spans == NULL) {
        return OK;
    }
    qsort(t->spans, t->spans_count, sizeof(t->spans[0]), span_order);
    for (uint32_t i = 0; i + 1 < t->spans_count; i += 2) {
        struct span both = {.start = t->spans[i].start};
        struct bytes first;
        struct bytes second;

        TRY(end_of(t->arena, &t->spans[i], &first));
        TRY(end_of(t->arena, &t->spans[i + 1], &second));
        both.end = bytes_cmp(first, second) > 0 ? first : second;
        t->spans[kept++] = both;
    }
    if (t->spans_count % 2 == 1) {
        t->spans[kept++] = t->spans[t->spans_count - 1];
    }
    t->spans_count = kept;
    return OK;
}

/* The next page of a scan, in either direction. */
static bool continues(const struct span *s, struct bytes start, struct bytes end, bool *backwards)
{
    *backwards = end.len > 0 && bytes_eq(end, s->start);
    return s->end.len > 0 && end.len > 0 && (*backwards || bytes_eq(start, s->end));
}

struct status txn__add_span(struct txn *t, struct bytes start, struct bytes end)
{
    struct span *last = t->spans_count == 0 ? NULL : &t->spans[t->spans_count - 1];
    struct span s;
    bool backwards = false;

    if (!hts_is_zero(t->o.as_of)) {
        return OK; /* The past does not change. */
    }
    if (last != NULL && bytes_eq(last->start, start) && bytes_eq(last->end, end)) {
        return OK;
    }
    if (last != NULL && continues(last, start, end, &backwards)) {
        return backwards ? bytes_dup(t->arena, start, &last->start)
                         : bytes_dup(t->arena, end, &last->end);
    }
    if (t->spans_count == TXN_READ_SPANS_MAX) {
        TRY(condense(t));
    }
    TRY(bytes_dup(t->arena, start, &s.start));
    TRY(bytes_dup(t->arena, end, &s.end));
    if (t->spans_count == t->spans_cap) {
        TRY(txn__grow(t->arena, (void **)&t->spans, &t->spans_cap, sizeof(t->spans[0]),
                      2 * TXN_READ_SPANS_MAX));
    }
    t->spans[t->spans_count++] = s;
    return OK;
}

struct status txn__wait_clock(struct kv *kv, struct hts ts)
{
    struct hts now = kv_now(kv);

    while (hts_less(now, ts)) {
        TRY(fiber_sleep(ts.wall > now.wall ? ts.wall - now.wall : 1000));
        now = kv_now(kv);
    }
    return OK;
}

struct status txn__refresh(struct txn *t, struct hts to)
{
    struct range_batch b = {.read_ts = t->read_ts, .txn = txn__batch_txn(t)};
    struct kv_call call = {.deadline_ns = t->o.deadline_ns, .observed = &t->seen};
    struct range_request *requests = NULL;
    struct range_result result;
    struct arena arena;
    struct status st = OK;

    arena_init(&arena, 0);
    TRY_OUT(txn__wait_clock(t->kv, to));
    requests = ARENA_ARRAY(&arena, struct range_request, (size_t)t->spans_count + 1);
    if (requests == NULL) {
        TRY_OUT(txn__no_memory());
    }
    for (uint32_t i = 0; i < t->spans_count && !txn__plant(t, TXN_PLANT_NO_REFRESH); i++) {
        requests[i] = (struct range_request){
            .op = RANGE_OP_REFRESH, .key = t->spans[i].start, .end = t->spans[i].end};
    }
    b.requests = requests;
    b.count = txn__plant(t, TXN_PLANT_NO_REFRESH) ? 0 : t->spans_count;
    b.txn.write_ts = to;
    if (b.count > 0) {
        TRY_OUT(kv_send_call(t->kv, &b, &call, &arena, &result));
    }
    t->read_ts = to;
out:
    st = txn__keep_message(t->arena, st);
    arena_deinit(&arena);
    return st;
}
