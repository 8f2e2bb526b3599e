/*
 * txn_fake.c -- see txn_fake.h.
 */
#include "tests/unit/catalog/txn_fake.h"

#include <stdlib.h>

#include "node/base/invariant.h"
#include "node/runtime/fiber.h"

#define FAKE_WRITES_MAX 4096u
#define FAKE_SPANS_MAX  1024u

struct fake_write {
    struct bytes key;
    struct bytes value; /* ptr NULL: delete. */
    bool insert;
};

struct fake_span {
    struct bytes start;
    struct bytes end; /* Empty: one key. */
};

struct txn {
    struct kv *kv;
    struct arena *arena;
    struct txn_options o;
    struct hts ts;
    struct hts limit;
    struct hts began;
    struct fake_write writes[FAKE_WRITES_MAX];
    uint32_t writes_count;
    struct fake_span spans[FAKE_SPANS_MAX];
    uint32_t spans_count;
    struct bytes conflict;
};

void fake_kv_init(struct kv *kv, struct hlc *hlc)
{
    *kv = (struct kv){.hlc = hlc};
    arena_init(&kv->arena, (size_t)1 << 30);
}

void fake_kv_deinit(struct kv *kv)
{
    free(kv->rows);
    arena_deinit(&kv->arena);
}

uint32_t fake_kv_rows(const struct kv *kv)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < kv->count; i++) {
        n += kv->rows[i].value.ptr != NULL ? 1 : 0;
    }
    return n;
}

static struct bytes keep(struct arena *arena, struct bytes b)
{
    struct bytes out = BYTES_EMPTY;
    const struct status st = bytes_dup(arena, b, &out);

    INVARIANT(status_ok(st));
    return out.len == 0 ? BYTES_LIT("") : out;
}

static uint32_t position(const struct kv *kv, struct bytes key)
{
    uint32_t i = 0;

    while (i < kv->count && bytes_cmp(kv->rows[i].key, key) < 0) {
        i++;
    }
    return i;
}

static void store(struct kv *kv, struct bytes key, struct bytes value, struct hts ts)
{
    const uint32_t at = position(kv, key);

    if (at == kv->count || !bytes_eq(kv->rows[at].key, key)) {
        if (kv->count == kv->cap) {
            kv->cap = kv->cap == 0 ? 64 : 2 * kv->cap;
            kv->rows = realloc(kv->rows, kv->cap * sizeof(*kv->rows));
            INVARIANT(kv->rows != NULL);
        }
        memmove(&kv->rows[at + 1], &kv->rows[at], (kv->count - at) * sizeof(*kv->rows));
        kv->rows[at].key = keep(&kv->arena, key);
        kv->count++;
    }
    kv->rows[at].value = value.ptr == NULL ? value : keep(&kv->arena, value);
    kv->rows[at].changed = ts;
}

void fake_kv_put(struct kv *kv, struct bytes key, struct bytes value)
{
    store(kv, key, value, hclock_hts(hlc_now(kv->hlc)));
}

static struct status fault(struct kv *kv)
{
    if (kv->fail_in > 0 && --kv->fail_in == 0) {
        return FAIL(kv->fail, "as asked");
    }
    return kv->fail_always == STATUS_OK ? OK : FAIL(kv->fail_always, "as asked");
}

struct status txn_begin(struct kv *kv, struct arena *arena, const struct txn_options *o,
                        struct txn **out)
{
    struct txn *t = ARENA_NEW(arena, struct txn);

    if (t == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a transaction");
    }
    t->kv = kv;
    t->arena = arena;
    t->o = *o;
    t->limit = HTS_MAX;
    t->began = hts_is_zero(o->began) ? hclock_hts(hlc_now(kv->hlc)) : o->began;
    kv->begun = *o;
    *out = t;
    return OK;
}

static struct status read_begin(struct txn *t, struct bytes start, struct bytes end)
{
    t->kv->reads++;
    TRY(fault(t->kv));
    if (hts_is_zero(t->ts)) {
        t->ts = hclock_hts(hlc_now(t->kv->hlc));
    }
    if (t->kv->read_takes_ns > 0) {
        TRY(fiber_sleep(t->kv->read_takes_ns));
    }
    INVARIANT(t->spans_count < FAKE_SPANS_MAX);
    t->spans[t->spans_count++] =
        (struct fake_span){keep(t->arena, start), end.len == 0 ? BYTES_EMPTY : keep(t->arena, end)};
    return OK;
}

static bool in_span(const struct fake_span *s, struct bytes key)
{
    if (s->end.len == 0) {
        return bytes_eq(s->start, key);
    }
    return bytes_cmp(s->start, key) <= 0 && bytes_cmp(key, s->end) < 0;
}

static const struct fake_write *own_write(const struct txn *t, struct bytes key)
{
    for (uint32_t i = t->writes_count; i > 0; i--) {
        if (bytes_eq(t->writes[i - 1].key, key)) {
            return &t->writes[i - 1];
        }
    }
    return NULL;
}

static struct status lookup(struct txn *t, struct bytes key, struct bytes *value)
{
    const struct fake_write *w = own_write(t, key);
    const uint32_t at = position(t->kv, key);

    *value = BYTES_EMPTY;
    if (w != NULL) {
        *value = w->value;
        return OK;
    }
    if (at < t->kv->count && bytes_eq(t->kv->rows[at].key, key)) {
        if (hts_less(t->ts, t->kv->rows[at].changed)) {
            return FAIL(STATUS_TXN_RETRY, "read of a newer value");
        }
        *value = t->kv->rows[at].value;
    }
    return OK;
}

struct status txn_get(struct txn *t, struct bytes key, struct arena *arena, bool *found,
                      struct bytes *value_out)
{
    struct bytes value = BYTES_EMPTY;

    TRY(read_begin(t, key, BYTES_EMPTY));
    TRY(lookup(t, key, &value));
    *found = value.ptr != NULL;
    if (*found) {
        *value_out = keep(arena, value);
    }
    return OK;
}

struct status txn_multi_get(struct txn *t, const struct bytes *keys, uint32_t count,
                            struct arena *arena, bool *found, struct bytes *values)
{
    for (uint32_t i = 0; i < count; i++) {
        TRY(txn_get(t, keys[i], arena, &found[i], &values[i]));
    }
    return OK;
}

struct status txn_multi_get_locked(struct txn *t, const struct txn_lock *lock,
                                   const struct bytes *keys, uint32_t count, struct arena *arena,
                                   bool *found, struct bytes *values)
{
    INVARIANT(lock->strength == MVCC_SHARED || lock->strength == MVCC_EXCLUSIVE);
    t->kv->locks += count;
    return txn_multi_get(t, keys, count, arena, found, values);
}

/* A new snapshot; what was read before is validated no more. */
void txn_statement(struct txn *t)
{
    t->kv->statements++;
    if (t->o.isolation == TXN_READ_COMMITTED) {
        t->ts = HTS_ZERO;
        t->spans_count = 0;
    }
}

void txn_set_lock_timeout(struct txn *t, uint64_t lock_timeout_ns)
{
    t->kv->begun.lock_timeout_ns = lock_timeout_ns;
}

void txn_statement_again(struct txn *t)
{
    txn_statement(t);
}

struct hts txn_began(const struct txn *t)
{
    return t->began;
}

static int compare_keys(const void *a, const void *b)
{
    return bytes_cmp(*(const struct bytes *)a, *(const struct bytes *)b);
}

/* All keys of the span, stored or written, in order and once. */
static uint32_t keys_of(struct txn *t, const struct fake_span *span, struct bytes **out)
{
    const uint32_t cap = t->kv->count + t->writes_count;
    struct bytes *keys = calloc(cap + 1, sizeof(*keys));
    uint32_t all = 0;
    uint32_t n = 0;

    INVARIANT(keys != NULL);
    for (uint32_t i = 0; i < t->kv->count; i++) {
        keys[all] = t->kv->rows[i].key;
        all += in_span(span, keys[all]) ? 1 : 0;
    }
    for (uint32_t i = 0; i < t->writes_count; i++) {
        keys[all] = t->writes[i].key;
        all += in_span(span, keys[all]) ? 1 : 0;
    }
    qsort(keys, all, sizeof(*keys), compare_keys);
    for (uint32_t i = 0; i < all; i++) {
        if (n == 0 || !bytes_eq(keys[n - 1], keys[i])) {
            keys[n++] = keys[i];
        }
    }
    *out = keys;
    return n;
}

/* The key with a zero byte behind it: good enough where no key is a prefix of another. */
static struct bytes behind(struct arena *arena, struct bytes key)
{
    uint8_t *p = arena_alloc(arena, key.len + 1, 1);

    INVARIANT(p != NULL);
    memcpy(p, key.ptr, key.len);
    p[key.len] = 0;
    return bytes_of(p, key.len + 1);
}

struct status txn_scan(struct txn *t, struct txn_scan *scan, struct arena *arena)
{
    const struct fake_span span = {scan->start, scan->end};
    const uint32_t max = scan->rows_max == 0 ? TXN_SCAN_ROWS_MAX : scan->rows_max;
    struct bytes *keys = NULL;
    struct status st = OK;
    uint32_t count = 0;

    TRY(read_begin(t, scan->start, scan->end));
    count = keys_of(t, &span, &keys);
    scan->rows = ARENA_ARRAY(arena, struct txn_row, max);
    INVARIANT(scan->rows != NULL);
    scan->rows_count = 0;
    scan->more = false;
    for (uint32_t n = 0; n < count; n++) {
        const struct bytes key = keys[scan->reverse ? count - 1 - n : n];
        struct bytes value = BYTES_EMPTY;

        TRY_OUT(lookup(t, key, &value));
        if (value.ptr == NULL) {
            continue;
        }
        if (scan->rows_count == max) {
            scan->more = true;
            break;
        }
        scan->rows[scan->rows_count++] = (struct txn_row){keep(arena, key), keep(arena, value)};
    }
    if (scan->more && scan->reverse) {
        scan->end = scan->rows[scan->rows_count - 1].key;
    } else if (scan->more) {
        scan->start = behind(arena, scan->rows[scan->rows_count - 1].key);
    }
out:
    free(keys);
    return st;
}

static struct status add_write(struct txn *t, struct bytes key, struct bytes value, bool insert)
{
    if (t->o.read_only) {
        return FAIL(STATUS_INVALID, "write in a read-only transaction");
    }
    if (t->writes_count == FAKE_WRITES_MAX) {
        return FAIL(STATUS_MEMORY, "too many writes");
    }
    t->writes[t->writes_count++] = (struct fake_write){
        keep(t->arena, key), value.ptr == NULL ? value : keep(t->arena, value), insert};
    return OK;
}

struct status txn_put(struct txn *t, struct bytes key, struct bytes value)
{
    return add_write(t, key, value.ptr == NULL ? BYTES_LIT("") : value, false);
}

struct status txn_delete(struct txn *t, struct bytes key)
{
    return add_write(t, key, BYTES_EMPTY, false);
}

struct status txn_insert(struct txn *t, struct bytes key, struct bytes value)
{
    const struct fake_write *own = own_write(t, key);
    struct bytes old = BYTES_EMPTY;
    bool found = false;

    if (own != NULL) {
        found = own->value.ptr != NULL;
    } else if (!t->o.implicit) {
        TRY(txn_get(t, key, t->arena, &found, &old));
    }
    if (found) {
        t->conflict = keep(t->arena, key);
        return FAIL(STATUS_EXISTS, "key exists");
    }
    return add_write(t, key, value.ptr == NULL ? BYTES_LIT("") : value, own == NULL);
}

void txn_limit_commit_ts(struct txn *t, struct hts limit)
{
    t->limit = hts_min(t->limit, limit);
}

static struct status check_commit(struct txn *t, struct hts ts)
{
    for (uint32_t i = 0; i < t->kv->count; i++) {
        const struct fake_row *row = &t->kv->rows[i];

        for (uint32_t k = 0; k < t->spans_count; k++) {
            if (in_span(&t->spans[k], row->key) && hts_less(t->ts, row->changed)) {
                return FAIL(STATUS_TXN_RETRY, "what was read has changed");
            }
        }
        for (uint32_t k = 0; k < t->writes_count; k++) {
            if (t->writes[k].insert && row->value.ptr != NULL &&
                bytes_eq(t->writes[k].key, row->key)) {
                t->conflict = t->writes[k].key;
                return FAIL(STATUS_EXISTS, "key exists");
            }
        }
    }
    return hts_less(t->limit, ts) ? FAIL(STATUS_TXN_RETRY, "descriptor lease is over") : OK;
}

struct status txn_commit(struct txn *t)
{
    struct kv *kv = t->kv;
    const struct hts ts = hclock_hts(hlc_now(kv->hlc));
    struct status st = OK;

    if (t->writes_count == 0) {
        return OK;
    }
    TRY(fault(kv));
    TRY(check_commit(t, ts));
    if (kv->fail_commits > 0 && kv->fail_after > 0) {
        kv->fail_after--;
    } else if (kv->fail_commits > 0) {
        kv->fail_commits--;
        st = FAIL(kv->fail_commit, "as asked");
        if (!kv->commit_anyway) {
            return st;
        }
    }
    for (uint32_t i = 0; i < t->writes_count; i++) {
        store(kv, t->writes[i].key, t->writes[i].value, ts);
    }
    kv->commits++;
    t->ts = ts;
    return st;
}

void txn_rollback(struct txn *t)
{
    t->writes_count = 0;
}

uint64_t txn_savepoint(const struct txn *t)
{
    return t->writes_count;
}

void txn_rollback_to(struct txn *t, uint64_t savepoint)
{
    INVARIANT(savepoint <= t->writes_count);
    t->writes_count = (uint32_t)savepoint;
}

struct bytes txn_conflict_key(const struct txn *t)
{
    return t->conflict;
}

struct hts txn_ts(const struct txn *t)
{
    return t->ts;
}

bool txn_has_writes(const struct txn *t)
{
    return t->writes_count > 0;
}
