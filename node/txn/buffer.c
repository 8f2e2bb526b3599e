/*
 * buffer.c -- writes that wait for the commit.
 *
 * They stand in a list in order of time (savepoints are positions in it) and in an index sorted by key that
 * points to the newest write of each key.
 *
 * Invariant: index holds exactly the newest write of every key in writes[0..count), ascending.
 */
#include "node/base/invariant.h"
#include "node/txn/internal.h"

/* A commit is one batch: a refresh and a write per key, the spans that were read, the record. */
_Static_assert(TXN_WRITES_MAX + TXN_READ_SPANS_MAX + 1 <= RANGE_REQUESTS_MAX,
               "a commit fits a batch");

uint32_t txn__index_find(const struct txn *t, struct bytes key)
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

struct write *txn__find_write(const struct txn *t, struct bytes key)
{
    const uint32_t i = txn__index_find(t, key);

    if (i < t->index_count && bytes_eq(t->writes[t->index[i]].key, key)) {
        return &t->writes[t->index[i]];
    }
    return NULL;
}

/* Points the index at writes[n]. There is room. */
static void index_add(struct txn *t, uint32_t n)
{
    const uint32_t i = txn__index_find(t, t->writes[n].key);

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
    const struct write *before = txn__find_write(t, key);

    INVARIANT(!t->ended);
    if (t->o.read_only) {
        return FAIL(STATUS_INVALID, "cannot write in a read-only transaction");
    }
    if (t->count >= TXN_WRITES_MAX) {
        return FAIL(STATUS_TOO_LARGE, "a transaction writes at most 100000 times");
    }
    if (key.len + value.len > TXN_BYTES_MAX - t->bytes) {
        return FAIL(STATUS_TOO_LARGE, "a transaction writes at most 64 MiB");
    }
    if (before != NULL && (before->kind == WRITE_INSERT || before->kind == WRITE_UNDONE)) {
        /* What the insert expects still has to be checked. */
        w.kind = kind == WRITE_DELETE ? WRITE_UNDONE : WRITE_INSERT;
    }
    /* What was seen first counts: a later statement sees our own write, not what others did below it. */
    w.since = before != NULL                         ? before->since
              : t->o.isolation == TXN_READ_COMMITTED ? t->read_ts
                                                     : HTS_ZERO;
    TRY(bytes_dup(t->arena, key, &w.key));
    TRY(bytes_dup(t->arena, value, &w.value));
    if (t->count == t->cap) {
        TRY(txn__grow(t->arena, (void **)&t->writes, &t->cap, sizeof(t->writes[0]),
                      2 * TXN_WRITES_MAX));
    }
    if (t->index_count == t->index_cap) {
        TRY(txn__grow(t->arena, (void **)&t->index, &t->index_cap, sizeof(t->index[0]),
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
    const struct write *before = txn__find_write(t, key);
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
