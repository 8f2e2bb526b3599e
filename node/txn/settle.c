/*
 * settle.c -- what goes on behind a transaction that has ended.
 *
 *   committed   the record says so -> every intent becomes a value, locks go -> the record goes
 *   aborted     the record goes, none can be made -> intents and locks go
 *   unknown     find out, then as above
 *
 * The order matters: as long as the record is only STAGING the intents are the proof, and must not be
 * touched; and the record must stay as long as somebody may meet an intent and ask.
 *
 * None of it has to succeed: whoever meets what was left settles it on contact, and the record lists the spans
 * for the collector. So every step that fails ends the job.
 */
#include <stdlib.h>

#include "node/storage/key/key.h"
#include "node/txn/internal.h"

#define SETTLE_CHUNK 512u /* Keys of one batch. */

/* ---- the job ------------------------------------------------------------------------------------ */

static size_t copy_bytes(uint8_t **at, struct bytes src, struct bytes *out)
{
    *out = bytes_of(*at, src.len);
    if (src.len > 0) {
        memcpy(*at, src.ptr, src.len);
    }
    *at += src.len;
    return src.len;
}

static size_t bytes_needed(const struct txn *t, bool writes, uint32_t *count)
{
    size_t bytes = t->ref.anchor.len;

    *count = t->held_count + (writes ? t->index_count : 0);
    for (uint32_t i = 0; writes && i < t->index_count; i++) {
        bytes += t->writes[t->index[i]].key.len;
    }
    for (uint32_t i = 0; i < t->held_count; i++) {
        bytes += t->held[i].span.start.len + t->held[i].span.end.len;
    }
    return bytes;
}

struct settle *txn__settle_create(const struct txn *t, bool writes)
{
    uint32_t count = 0;
    const size_t bytes = bytes_needed(t, writes, &count);
    struct settle *s = calloc(1, sizeof(*s) + count * sizeof(s->spans[0]) + bytes);
    uint8_t *at = NULL;

    if (s == NULL) {
        return NULL;
    }
    at = (uint8_t *)&s->spans[count];
    list_init(&s->link);
    s->ref = t->ref;
    s->bytes = sizeof(*s) + count * sizeof(s->spans[0]) + bytes;
    (void)copy_bytes(&at, t->ref.anchor, &s->ref.anchor);
    for (uint32_t i = 0; writes && i < t->index_count; i++) {
        (void)copy_bytes(&at, t->writes[t->index[i]].key, &s->spans[s->count++].start);
    }
    for (uint32_t i = 0; i < t->held_count; i++) {
        (void)copy_bytes(&at, t->held[i].span.start, &s->spans[s->count].start);
        (void)copy_bytes(&at, t->held[i].span.end, &s->spans[s->count++].end);
    }
    return s;
}

void txn__settle_destroy(struct settle *s)
{
    free(s);
}

static int span_order(const void *a, const void *b)
{
    const struct span *x = a;
    const struct span *y = b;

    return bytes_cmp(x->start, y->start);
}

struct status txn__settle_spans(const struct span *spans, uint32_t count, struct arena *arena,
                                struct key_span **out, uint32_t *count_out)
{
    const uint32_t each = (count + SETTLE_SPANS_MAX - 1) / SETTLE_SPANS_MAX;
    struct span *sorted = ARENA_ARRAY(arena, struct span, (size_t)count + 1);
    struct key_span *made = ARENA_ARRAY(arena, struct key_span, SETTLE_SPANS_MAX);

    *count_out = 0;
    if (sorted == NULL || made == NULL) {
        return txn__no_memory();
    }
    if (count > 0) {
        memcpy(sorted, spans, count * sizeof(sorted[0]));
        qsort(sorted, count, sizeof(sorted[0]), span_order);
    }
    for (uint32_t i = 0; i < count; i += each) {
        const uint32_t last = (i + each < count ? i + each : count) - 1;
        struct key_span *s = &made[(*count_out)++];

        s->start = sorted[i].start;
        s->end = sorted[last].end;
        if (s->end.len == 0 && (last > i)) {
            TRY(key_after(arena, sorted[last].start, &s->end));
        }
    }
    *out = made;
    return OK;
}

/* ---- steps -------------------------------------------------------------------------------------- */

MAYYIELD static struct status end_record(struct settle *s, enum range_txn_status status,
                                         bool settled, struct arena *arena)
{
    struct range_txn_args args = {.status = status, .ts = s->ts};
    struct key_span *spans = NULL;
    struct range_txn_info info;

    if (!settled) {
        TRY(txn__settle_spans(s->spans, s->count, arena, &spans, &args.spans_count));
        args.spans = spans;
    }
    TRY(txn__ask_record(&s->ref, RANGE_OP_END_TXN, &args, DEADLINE_NONE, arena, &info));
    return info.status == status ? OK : FAIL(STATUS_TXN_RETRY, "the record says otherwise");
}

MAYYIELD static struct status find_out(struct settle *s, struct arena *arena)
{
    bool committed = false;

    TRY(txn__recover(&s->ref, DEADLINE_NONE, arena, &committed, &s->ts));
    s->outcome = committed ? RANGE_TXN_COMMITTED : RANGE_TXN_ABORTED;
    s->decided = committed;
    s->record = false; /* Of an aborted one: it is gone. */
    return OK;
}

MAYYIELD static struct status resolve_chunk(struct settle *s, uint32_t from, uint32_t count)
{
    const struct range_txn_args args = {
        .txn = s->ref.id, .anchor = s->ref.anchor, .status = s->outcome, .ts = s->ts};
    struct range_request *requests = NULL;
    struct range_batch b = {.count = count};
    struct range_result result;
    struct arena arena;
    struct status st = OK;

    arena_init(&arena, 0);
    requests = ARENA_ARRAY(&arena, struct range_request, count);
    if (requests == NULL) {
        TRY_OUT(txn__no_memory());
    }
    for (uint32_t i = 0; i < count; i++) {
        requests[i] = (struct range_request){.op = RANGE_OP_RESOLVE,
                                             .key = s->spans[from + i].start,
                                             .end = s->spans[from + i].end,
                                             .args = &args};
    }
    b.requests = requests;
    TRY_OUT(kv_send(s->ref.kv, &b, DEADLINE_NONE, &arena, &result));
out:
    arena_deinit(&arena);
    return st.code == STATUS_OK ? OK : FAIL(st.code, "could not settle all keys");
}

MAYYIELD static struct status run(struct settle *s, struct arena *arena)
{
    if (s->outcome == RANGE_TXN_PENDING) {
        TRY(find_out(s, arena));
    }
    if (s->outcome == RANGE_TXN_COMMITTED && !s->decided) {
        TRY(end_record(s, RANGE_TXN_COMMITTED, false, arena));
    }
    if (s->outcome == RANGE_TXN_ABORTED && s->record) {
        TRY(end_record(s, RANGE_TXN_ABORTED, false, arena));
    }
    for (uint32_t i = 0; i < s->count; i += SETTLE_CHUNK) {
        const uint32_t left = s->count - i;

        TRY(resolve_chunk(s, i, left < SETTLE_CHUNK ? left : SETTLE_CHUNK));
    }
    return s->outcome == RANGE_TXN_COMMITTED ? end_record(s, RANGE_TXN_COMMITTED, true, arena) : OK;
}

void txn__settle_run(struct settle *s)
{
    struct arena arena;

    arena_init(&arena, 0);
    status_ignore(run(s, &arena)); /* What is left is settled by whoever meets it. */
    arena_deinit(&arena);
}
