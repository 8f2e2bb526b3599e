/*
 * txn.c -- an optimistic transaction: reads at one timestamp, a buffer of writes, one batch to commit.
 *
 * Writes stand in a list in order of time (savepoints are positions in it) and in an index sorted by
 * key that points to the newest write of each key. Reads look into the index first; scans merge it
 * with what the range returns. At commit every span that was read becomes a REFRESH request and every
 * indexed write a write request of one batch; the leaseholder evaluates all of it at one instant.
 *
 * Invariants
 *   1. index holds exactly the newest write of every key in writes[0..count), ascending.
 *   2. Every read of committed data is covered by a recorded span.
 */
#include "node/txn/txn.h"

#include <stdlib.h>

#include "node/base/codec.h"
#include "node/base/invariant.h"
#include "node/kv/kv.h"
#include "node/runtime/fiber.h"
#include "node/storage/key/key.h"

/* A commit is one batch. */
_Static_assert(TXN_WRITES_MAX + TXN_READ_SPANS_MAX <= RANGE_REQUESTS_MAX, "a commit fits a batch");

enum write_kind {
    WRITE_PUT,
    WRITE_INSERT, /* The commit checks that the key is absent. */
    WRITE_DELETE,
    WRITE_UNDONE, /* Inserted and deleted again: the commit still checks that the key is absent. */
};

static bool leaves_row(enum write_kind kind)
{
    return kind == WRITE_PUT || kind == WRITE_INSERT;
}

struct write {
    enum write_kind kind;
    struct bytes key;
    struct bytes value;
};

struct span {
    struct bytes start;
    struct bytes end; /* Empty: the single key. */
};

struct txn {
    struct kv *kv;
    struct arena *arena;
    struct txn_options o;
    struct hts read_ts;
    struct hts commit_ts;
    struct hts commit_limit; /* Zero: none. */
    struct write *writes;
    uint32_t count;
    uint32_t cap;
    uint32_t *index;
    uint32_t index_count;
    uint32_t index_cap;
    size_t bytes;
    struct span *spans;
    uint32_t spans_count;
    uint32_t spans_cap;
    struct bytes conflict_key;
    bool ended;
};

struct status txn_begin(struct kv *kv, struct arena *arena, const struct txn_options *o,
                        struct txn **out)
{
    struct txn *t = ARENA_NEW(arena, struct txn);

    if (t == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    t->kv = kv;
    t->arena = arena;
    t->o = *o;
    *out = t;
    return OK;
}

/* Doubles an array in the arena; the old one stays until the arena goes. */
static struct status grow(struct arena *arena, void **array, uint32_t *cap, size_t item_size,
                          uint32_t max)
{
    const uint32_t next = *cap == 0 ? 8 : *cap * 2;
    void *grown = NULL;

    if (*cap >= max) {
        return FAIL(STATUS_MEMORY, "the transaction is too large");
    }
    grown = arena_calloc(arena, next, item_size);
    if (grown == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    if (*cap > 0) {
        memcpy(grown, *array, *cap * item_size);
    }
    *array = grown;
    *cap = next;
    return OK;
}

/* ---- the write buffer --------------------------------------------------------------------------- */

/* First position in the index whose key is not below `key`. */
static uint32_t index_find(const struct txn *t, struct bytes key)
{
    uint32_t lo = 0;
    uint32_t hi = t->index_count;

    if (hi > 0 && bytes_cmp(t->writes[t->index[hi - 1]].key, key) < 0) {
        return hi; /* Rows mostly come in order. */
    }
    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;

        if (bytes_cmp(t->writes[t->index[mid]].key, key) < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

static const struct write *find_write(const struct txn *t, struct bytes key)
{
    const uint32_t i = index_find(t, key);

    if (i < t->index_count && bytes_eq(t->writes[t->index[i]].key, key)) {
        return &t->writes[t->index[i]];
    }
    return NULL;
}

/* Points the index at writes[n]. There is room. */
static void index_add(struct txn *t, uint32_t n)
{
    const uint32_t i = index_find(t, t->writes[n].key);

    if (i < t->index_count && bytes_eq(t->writes[t->index[i]].key, t->writes[n].key)) {
        t->index[i] = n;
        return;
    }
    memmove(&t->index[i + 1], &t->index[i], (t->index_count - i) * sizeof(t->index[0]));
    t->index[i] = n;
    t->index_count++;
}

static struct status add_write(struct txn *t, enum write_kind kind, struct bytes key,
                               struct bytes value)
{
    struct write w = {.kind = kind};
    const struct write *before = find_write(t, key);

    INVARIANT(!t->ended);
    if (t->o.read_only) {
        return FAIL(STATUS_INVALID, "cannot write in a read-only transaction");
    }
    if (key.len + value.len > TXN_BYTES_MAX - t->bytes || t->count >= TXN_WRITES_MAX) {
        return FAIL(STATUS_MEMORY, "the transaction writes too much at once");
    }
    if (before != NULL && (before->kind == WRITE_INSERT || before->kind == WRITE_UNDONE)) {
        /* What the insert expects still has to be checked. */
        w.kind = kind == WRITE_DELETE ? WRITE_UNDONE : WRITE_INSERT;
    }
    TRY(bytes_dup(t->arena, key, &w.key));
    TRY(bytes_dup(t->arena, value, &w.value));
    if (t->count == t->cap) {
        TRY(grow(t->arena, (void **)&t->writes, &t->cap, sizeof(t->writes[0]), 2 * TXN_WRITES_MAX));
    }
    if (t->index_count == t->index_cap) {
        TRY(grow(t->arena, (void **)&t->index, &t->index_cap, sizeof(t->index[0]),
                 2 * TXN_WRITES_MAX));
    }
    t->writes[t->count] = w;
    index_add(t, t->count);
    t->count++;
    t->bytes += key.len + value.len;
    return OK;
}

struct status txn_put(struct txn *t, struct bytes key, struct bytes value)
{
    return add_write(t, WRITE_PUT, key, value);
}

struct status txn_delete(struct txn *t, struct bytes key)
{
    return add_write(t, WRITE_DELETE, key, BYTES_EMPTY);
}

static struct status exists(struct txn *t, struct bytes key)
{
    TRY(bytes_dup(t->arena, key, &t->conflict_key));
    return FAIL(STATUS_EXISTS, "the key exists already");
}

struct status txn_insert(struct txn *t, struct bytes key, struct bytes value)
{
    const struct write *before = find_write(t, key);
    struct bytes ignored;
    bool found = false;

    if (before != NULL) {
        return leaves_row(before->kind) ? exists(t, key) : add_write(t, WRITE_PUT, key, value);
    }
    if (t->o.implicit) {
        return add_write(t, WRITE_INSERT, key, value);
    }
    TRY(txn_get(t, key, t->arena, &found, &ignored));
    return found ? exists(t, key) : add_write(t, WRITE_PUT, key, value);
}

uint64_t txn_savepoint(const struct txn *t)
{
    return t->count;
}

void txn_rollback_to(struct txn *t, uint64_t savepoint)
{
    INVARIANT(savepoint <= t->count);
    t->count = (uint32_t)savepoint;
    t->index_count = 0;
    t->bytes = 0;
    for (uint32_t i = 0; i < t->count; i++) {
        index_add(t, i);
        t->bytes += t->writes[i].key.len + t->writes[i].value.len;
    }
}

/* ---- reads -------------------------------------------------------------------------------------- */

static struct status add_span(struct txn *t, struct bytes start, struct bytes end)
{
    struct span s;

    if (t->o.read_only) {
        return OK; /* Nothing will depend on it. */
    }
    if (t->spans_count == TXN_READ_SPANS_MAX) {
        return FAIL(STATUS_MEMORY, "the transaction reads in too many places");
    }
    TRY(bytes_dup(t->arena, start, &s.start));
    TRY(bytes_dup(t->arena, end, &s.end));
    if (t->spans_count == t->spans_cap) {
        TRY(grow(t->arena, (void **)&t->spans, &t->spans_cap, sizeof(t->spans[0]),
                 2 * TXN_READ_SPANS_MAX));
    }
    t->spans[t->spans_count++] = s;
    return OK;
}

MAYYIELD static struct status send_reads(struct txn *t, struct range_request *requests,
                                         uint32_t count, struct arena *arena,
                                         struct range_result *out)
{
    struct range_batch b = {.read_ts = t->read_ts, .requests = requests, .count = count};

    INVARIANT(!t->ended);
    TRY(kv_send(t->kv, &b, t->o.deadline_ns, arena, out));
    if (hts_is_zero(t->read_ts)) {
        t->read_ts = out->read_ts;
    }
    return OK;
}

struct status txn_get(struct txn *t, struct bytes key, struct arena *arena, bool *found,
                      struct bytes *value_out)
{
    return txn_multi_get(t, &key, 1, arena, found, value_out);
}

struct status txn_multi_get(struct txn *t, const struct bytes *keys, uint32_t count,
                            struct arena *arena, bool *found, struct bytes *values)
{
    struct range_request one = {0};
    struct range_request *requests = &one;
    struct range_result result;
    uint32_t asked = 0;

    if (count > 1) {
        requests = ARENA_ARRAY(arena, struct range_request, count);
        if (requests == NULL) {
            return FAIL(STATUS_MEMORY, "memory limit reached");
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct write *w = t->count == 0 ? NULL : find_write(t, keys[i]);

        found[i] = w != NULL && leaves_row(w->kind);
        values[i] = found[i] ? w->value : BYTES_EMPTY;
        if (w == NULL) {
            requests[asked++] = (struct range_request){.op = RANGE_OP_GET, .key = keys[i]};
            TRY(add_span(t, keys[i], BYTES_EMPTY));
        }
    }
    if (asked == 0) {
        return OK;
    }
    TRY(send_reads(t, requests, asked, arena, &result));
    for (uint32_t i = 0, n = 0; i < count; i++) {
        if (t->count == 0 || find_write(t, keys[i]) == NULL) {
            found[i] = result.responses[n].found;
            values[i] = result.responses[n].value;
            n++;
        }
    }
    return OK;
}

/* Rows of the range and of the buffer, merged in scan order. */
struct merge {
    struct reader rows; /* Of the response. */
    uint32_t rows_left;
    struct txn_row next;
    bool has_next;
    bool reverse;
    uint32_t lo; /* Index positions [lo, hi) lie inside the span. */
    uint32_t hi;
};

static void merge_advance(struct merge *m)
{
    m->has_next = m->rows_left > 0;
    if (m->has_next) {
        m->rows_left--;
        m->next.key = read_lp_bytes(&m->rows);
        m->next.value = read_lp_bytes(&m->rows);
        m->has_next = !m->rows.bad;
    }
}

/* The next row, own writes replacing stored ones; false at the end. */
static bool merge_next(const struct txn *t, struct merge *m, struct txn_row *out)
{
    for (;;) {
        const bool has_own = m->lo < m->hi;
        const struct write *own =
            has_own ? &t->writes[t->index[m->reverse ? m->hi - 1 : m->lo]] : NULL;
        int c = 0;

        if (!has_own && !m->has_next) {
            return false;
        }
        c = !has_own ? 1 : (!m->has_next ? -1 : bytes_cmp(own->key, m->next.key));
        c = has_own && m->has_next && m->reverse ? -c : c;
        if (c > 0) {
            *out = m->next;
            merge_advance(m);
            return true;
        }
        if (c == 0) {
            merge_advance(m);
        }
        m->hi -= m->reverse ? 1 : 0;
        m->lo += m->reverse ? 0 : 1;
        if (leaves_row(own->kind)) {
            *out = (struct txn_row){own->key, own->value};
            return true;
        }
    }
}

/* The part of the span that the response covers; the rest is left in `scan`. */
static void covered_part(struct txn_scan *scan, const struct range_response *resp,
                         struct bytes *start, struct bytes *end)
{
    *start = scan->start;
    *end = scan->end;
    scan->more = resp->more;
    if (!resp->more) {
        return;
    }
    if (scan->reverse) {
        *start = resp->resume;
        scan->end = resp->resume;
    } else {
        *end = resp->resume;
        scan->start = resp->resume;
    }
}

struct status txn_scan(struct txn *t, struct txn_scan *scan, struct arena *arena)
{
    struct range_request q = {
        .op = RANGE_OP_SCAN,
        .key = scan->start,
        .end = scan->end,
        .rows_max = scan->rows_max == 0 ? TXN_SCAN_ROWS_MAX : scan->rows_max,
        .reverse = scan->reverse,
    };
    struct range_result result;
    struct merge m = {.reverse = scan->reverse};
    struct txn_row row;
    struct bytes start;
    struct bytes end;

    scan->rows_count = 0;
    scan->more = false;
    if (bytes_cmp(scan->start, scan->end) >= 0) {
        return OK;
    }
    TRY(send_reads(t, &q, 1, arena, &result));
    covered_part(scan, &result.responses[0], &start, &end);
    TRY(add_span(t, start, end));
    m.rows = reader_of(result.responses[0].rows);
    m.rows_left = result.responses[0].rows_count;
    m.lo = index_find(t, start);
    m.hi = index_find(t, end);
    scan->rows = ARENA_ARRAY(arena, struct txn_row, m.rows_left + (m.hi - m.lo) + 1);
    if (scan->rows == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    merge_advance(&m);
    while (merge_next(t, &m, &row)) {
        scan->rows[scan->rows_count++] = row;
    }
    return m.rows.bad ? FAIL(STATUS_CORRUPT, "damaged rows in a scan's response") : OK;
}

/* ---- end ---------------------------------------------------------------------------------------- */

void txn_limit_commit_ts(struct txn *t, struct hts limit)
{
    if (hts_is_zero(t->commit_limit) || hts_less(limit, t->commit_limit)) {
        t->commit_limit = limit;
    }
}

static enum range_op write_op(enum write_kind kind)
{
    switch (kind) {
    case WRITE_PUT:
        return RANGE_OP_PUT;
    case WRITE_INSERT:
        return RANGE_OP_INSERT;
    case WRITE_UNDONE:
        return RANGE_OP_ABSENT;
    case WRITE_DELETE:
        break;
    }
    return RANGE_OP_DELETE;
}

/* What was read first: a row that is in the way of an insert does not matter when the transaction has to
 * run again anyway. */
static void fill_commit(const struct txn *t, struct range_request *requests, struct range_batch *b)
{
    for (uint32_t i = 0; i < t->spans_count; i++) {
        requests[b->count++] = (struct range_request){
            .op = RANGE_OP_REFRESH, .key = t->spans[i].start, .end = t->spans[i].end};
    }
    for (uint32_t i = 0; i < t->index_count; i++) {
        const struct write *w = &t->writes[t->index[i]];

        requests[b->count++] =
            (struct range_request){.op = write_op(w->kind), .key = w->key, .value = w->value};
    }
    b->requests = requests;
}

struct status txn_commit(struct txn *t)
{
    const uint32_t count = t->spans_count + t->index_count;
    struct range_request *requests = NULL;
    struct range_batch b = {.read_ts = t->read_ts, .commit_limit = t->commit_limit};
    struct range_result result;
    struct status st = OK;

    INVARIANT(!t->ended);
    t->ended = true;
    if (t->index_count == 0) {
        return OK;
    }
    requests = ARENA_ARRAY(t->arena, struct range_request, count);
    if (requests == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    fill_commit(t, requests, &b);
    st = kv_send(t->kv, &b, t->o.deadline_ns, t->arena, &result);
    if (status_ok(st)) {
        t->commit_ts = result.commit_ts;
    }
    if (st.code == STATUS_EXISTS && result.conflict < b.count) {
        t->conflict_key = requests[result.conflict].key;
    }
    return st;
}

void txn_rollback(struct txn *t)
{
    t->ended = true;
}

struct bytes txn_conflict_key(const struct txn *t)
{
    return t->conflict_key;
}

struct hts txn_ts(const struct txn *t)
{
    return hts_is_zero(t->commit_ts) ? t->read_ts : t->commit_ts;
}

bool txn_has_writes(const struct txn *t)
{
    return t->index_count > 0;
}
