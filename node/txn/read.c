/*
 * read.c -- reading, and locking what is read.
 *
 * Own writes come from the buffer; everything else is read at the transaction's snapshot. Nobody has chosen
 * that before the first read: the leaseholder takes its present. A value that may have been written before the
 * transaction began, by a clock that is ahead of ours, must not be missed: the range says UNCERTAIN, and the
 * snapshot moves up to it, after what was read so far has been refreshed. The same happens when a locking read
 * finds a newer version than the snapshot holds: what is locked is the newest.
 *
 * What was locked is remembered for its release. When a locking read fails half way nobody knows what it
 * got; then all it asked for is released.
 *
 * Invariant: every read of committed data is covered by a recorded span before its result is used.
 */
#include "node/base/codec.h"
#include "node/base/invariant.h"
#include "node/storage/key/key.h"
#include "node/txn/internal.h"

#define MOVES_MAX        20u /* Of the snapshot, for one read. */
#define LOCK_PATIENCE_NS ((uint64_t)300000000000)

static const struct txn_lock no_lock = {.strength = MVCC_NONE};

/* ---- sending ------------------------------------------------------------------------------------ */

static struct status doomed(void)
{
    return FAIL(STATUS_TXN_RETRY, "the transaction was aborted by another one");
}

/* What no transaction can wait for: an end to all waiting, also without a deadline of the statement. */
static uint64_t give_up_ns(const struct txn *t, const struct txn_lock *lock)
{
    const uint64_t now = env_mono_ns(shard_env(kv_shard(t->kv)));
    uint64_t until = DEADLINE_NONE;

    if (lock->strength == MVCC_NONE) {
        return t->o.deadline_ns;
    }
    until = now + (t->o.lock_timeout_ns > 0 ? t->o.lock_timeout_ns : LOCK_PATIENCE_NS);
    return t->o.deadline_ns < until ? t->o.deadline_ns : until;
}

/* The snapshot moves up to `to`, if what was read allows. */
MAYYIELD static struct status move_snapshot(struct txn *t, struct hts to)
{
    if (hts_less_eq(to, t->read_ts)) {
        return FAIL(STATUS_TXN_RETRY, "a value of the past is uncertain");
    }
    if (t->has_read) {
        return txn__refresh(t, to);
    }
    TRY(txn__wait_clock(t->kv, to));
    t->read_ts = to;
    return OK;
}

MAYYIELD static struct status send_once(struct txn *t, const struct txn_lock *lock,
                                        struct range_request *requests, uint32_t count,
                                        uint64_t deadline_ns, struct arena *arena,
                                        struct range_result *out)
{
    struct range_batch b = {
        .read_ts = t->read_ts,
        .requests = requests,
        .count = count,
        .txn = txn__batch_txn(t),
        .can_forward = !t->has_read && hts_is_zero(t->o.as_of),
        .follower = !hts_is_zero(t->o.as_of),
        .wait = lock->wait,
        .lock_wait_ns = t->o.lock_timeout_ns,
    };
    struct kv_call call = {.deadline_ns = deadline_ns, .observed = &t->seen};

    return kv_send_call(t->kv, &b, &call, arena, out);
}

/* Sends reads at the snapshot, and moves it where it must. */
MAYYIELD static struct status send_reads(struct txn *t, const struct txn_lock *lock,
                                         struct range_request *requests, uint32_t count,
                                         struct arena *arena, struct range_result *out)
{
    const uint64_t give_up = give_up_ns(t, lock);
    struct env *env = shard_env(kv_shard(t->kv));
    struct status st = OK;

    INVARIANT(!t->ended);
    for (uint32_t moves = 0; moves < MOVES_MAX;) {
        const bool patient = lock->strength != MVCC_NONE && t->o.deadline_ns == DEADLINE_NONE;

        if (t->doomed) {
            return doomed();
        }
        st = send_once(t, lock, requests, count, patient ? DEADLINE_NONE : t->o.deadline_ns, arena,
                       out);
        if (status_ok(st)) {
            t->read_ts = hts_max(t->read_ts, out->read_ts);
            t->has_read = true;
            return OK;
        }
        if (st.code == STATUS_UNCERTAIN) {
            TRY(move_snapshot(t, out->uncertain_ts));
            moves++;
        } else if (st.code != STATUS_TIMEOUT || !patient || env_mono_ns(env) >= give_up) {
            break;
        }
    }
    if (st.code == STATUS_UNCERTAIN) {
        return FAIL(STATUS_TXN_RETRY, "the read met ever newer values");
    }
    if (st.code == STATUS_TIMEOUT && lock->strength != MVCC_NONE && t->o.lock_timeout_ns > 0 &&
        t->o.deadline_ns > give_up) {
        return FAIL(STATUS_LOCKED, "the lock timeout has passed");
    }
    return st;
}

/* ---- locks -------------------------------------------------------------------------------------- */

static struct status add_held(struct txn *t, struct bytes start, struct bytes end, struct hts since)
{
    struct held h = {.since = since};

    if (t->held_count == TXN_LOCKS_MAX) {
        return FAIL(STATUS_TOO_LARGE, "a transaction locks at most 100000 rows");
    }
    TRY(bytes_dup(t->arena, start, &h.span.start));
    TRY(bytes_dup(t->arena, end, &h.span.end));
    if (t->held_count == t->held_cap) {
        TRY(txn__grow(t->arena, (void **)&t->held, &t->held_cap, sizeof(t->held[0]),
                      2 * TXN_LOCKS_MAX));
    }
    t->held[t->held_count++] = h;
    return OK;
}

static struct hts seen_at(const struct txn *t)
{
    return t->o.isolation == TXN_READ_COMMITTED ? t->read_ts : HTS_ZERO;
}

/* Before anything is locked: somebody to hold it, and somebody to say that he lives. */
static struct status prepare_lock(struct txn *t, const struct txn_lock *lock, struct bytes key)
{
    if (lock->strength == MVCC_NONE) {
        return t->o.read_only || t->o.implicit ? OK : txn__identify(t, key);
    }
    if (t->o.read_only) {
        return FAIL(STATUS_INVALID, "cannot lock rows in a read-only transaction");
    }
    TRY(txn__identify(t, key));
    txn__service_enter(t);
    return OK;
}

/* Found rows are locked; of a request that failed any part may be. */
static struct status remember_locks(struct txn *t, const struct range_request *requests,
                                    uint32_t count, const struct range_result *result,
                                    struct status st)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct range_request *q = &requests[i];
        struct reader rows;

        if (!status_ok(st)) {
            TRY(add_held(t, q->key, q->end, HTS_ZERO));
            continue;
        }
        if (q->op == RANGE_OP_GET && result->responses[i].found) {
            TRY(add_held(t, q->key, BYTES_EMPTY, seen_at(t)));
        }
        rows = reader_of(result->responses[i].rows);
        for (uint32_t k = 0; q->op == RANGE_OP_SCAN && k < result->responses[i].rows_count; k++) {
            const struct bytes key = read_lp_bytes(&rows);

            (void)read_lp_bytes(&rows);
            if (!rows.bad) {
                TRY(add_held(t, key, BYTES_EMPTY, seen_at(t)));
            }
        }
    }
    return OK;
}

/* A read of any kind, with all that it leaves behind. */
MAYYIELD static struct status read_locking(struct txn *t, const struct txn_lock *lock,
                                           struct range_request *requests, uint32_t count,
                                           struct arena *arena, struct range_result *out)
{
    struct status st = OK;
    struct status kept = OK;

    TRY(prepare_lock(t, lock, requests[0].key));
    for (uint32_t i = 0; i < count; i++) {
        requests[i].lock = lock->strength;
    }
    st = send_reads(t, lock, requests, count, arena, out);
    if (lock->strength != MVCC_NONE) {
        kept = remember_locks(t, requests, count, out, st);
    }
    return status_ok(st) ? kept : st;
}

/* ---- points ------------------------------------------------------------------------------------- */

struct status txn_get(struct txn *t, struct bytes key, struct arena *arena, bool *found,
                      struct bytes *value_out)
{
    return txn_multi_get(t, &key, 1, arena, found, value_out);
}

struct status txn_multi_get(struct txn *t, const struct bytes *keys, uint32_t count,
                            struct arena *arena, bool *found, struct bytes *values)
{
    return txn_multi_get_locked(t, &no_lock, keys, count, arena, found, values);
}

struct status txn_multi_get_locked(struct txn *t, const struct txn_lock *lock,
                                   const struct bytes *keys, uint32_t count, struct arena *arena,
                                   bool *found, struct bytes *values)
{
    struct range_request one = {0};
    struct range_request *requests = &one;
    struct range_result result = {0};
    uint32_t asked = 0;

    if (count > 1) {
        requests = ARENA_ARRAY(arena, struct range_request, count);
        if (requests == NULL) {
            return txn__no_memory();
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct write *w = t->count == 0 ? NULL : txn__find_write(t, keys[i]);

        found[i] = w != NULL && leaves_row(w->kind);
        values[i] = found[i] ? w->value : BYTES_EMPTY;
        if (w == NULL) {
            requests[asked++] = (struct range_request){.op = RANGE_OP_GET, .key = keys[i]};
            TRY(txn__add_span(t, keys[i], BYTES_EMPTY));
        }
    }
    if (asked == 0) {
        return OK;
    }
    TRY(read_locking(t, lock, requests, asked, arena, &result));
    for (uint32_t i = 0, n = 0; i < count; i++) {
        if (t->count == 0 || txn__find_write(t, keys[i]) == NULL) {
            found[i] = result.responses[n].found;
            values[i] = result.responses[n].value;
            n++;
        }
    }
    return OK;
}

/* ---- scans -------------------------------------------------------------------------------------- */

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

/* One page: as far as one range goes. */
MAYYIELD static struct status scan_page(struct txn *t, struct txn_scan *scan, struct arena *arena)
{
    struct range_request q = {
        .op = RANGE_OP_SCAN,
        .key = scan->start,
        .end = scan->end,
        .rows_max = scan->rows_max == 0 ? TXN_SCAN_ROWS_MAX : scan->rows_max,
        .reverse = scan->reverse,
    };
    struct range_result result = {0};
    struct merge m = {.reverse = scan->reverse};
    struct txn_row row;
    struct bytes start;
    struct bytes end;

    TRY(read_locking(t, &scan->lock, &q, 1, arena, &result));
    covered_part(scan, &result.responses[0], &start, &end);
    TRY(txn__add_span(t, start, end));
    m.rows = reader_of(result.responses[0].rows);
    m.rows_left = result.responses[0].rows_count;
    m.lo = txn__index_find(t, start);
    m.hi = txn__index_find(t, end);
    scan->rows = ARENA_ARRAY(arena, struct txn_row, m.rows_left + (m.hi - m.lo) + 1);
    if (scan->rows == NULL) {
        return txn__no_memory();
    }
    merge_advance(&m);
    while (merge_next(t, &m, &row)) {
        scan->rows[scan->rows_count++] = row;
    }
    return m.rows.bad ? FAIL(STATUS_CORRUPT, "damaged rows in a scan's response") : OK;
}

struct status txn_scan(struct txn *t, struct txn_scan *scan, struct arena *arena)
{
    bool more = bytes_cmp(scan->start, scan->end) < 0;

    scan->rows_count = 0;
    scan->more = false;
    while (more && scan->rows_count == 0) { /* Ranges without rows are passed over. */
        TRY(scan_page(t, scan, arena));
        scan->more = scan->more && bytes_cmp(scan->start, scan->end) < 0;
        more = scan->more;
    }
    return OK;
}
