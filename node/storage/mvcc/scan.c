/*
 * scan.c -- ranges of keys, forward and backward, and the walks over the lock table.
 *
 * Two iterators run side by side: one over the versions of the span, one over its locks. Locks are
 * few, so the second usually ends at once; it is moved only when the first has reached its next
 * key. An intent always has a version, hence no lock is passed unseen.
 *
 * Forward, the versions of a key come newest first and the first that is taken is delivered in
 * place, without a copy. Backward they come oldest first: the best so far is copied to a buffer
 * that all rows of the scan share, and after BACK_STEPS_MAX steps a seek finds the right version
 * instead.
 *
 * Superseded versions are stepped over up to SKIP_STEPS_MAX times (a step is a tenth of a seek),
 * then a seek leaps to the next key.
 */
#include "node/base/invariant.h"
#include "node/storage/mvcc/read_internal.h"

#define SKIP_STEPS_MAX 8
#define BACK_STEPS_MAX 8

struct scan_state {
    const struct mvcc_scan *scan;
    const struct mvcc_read *opt;
    struct arena *arena;
    struct engine_iter *data;
    struct engine_iter *locks; /* NULL: the span has none. */
    struct buf key;            /* The user key under judgement. */
    struct buf value;          /* Backward: the best version so far, as stored. */
    struct buf bound;          /* Targets of seeks. */
    struct mvcc_scan_result *result;
    struct mvcc_conflict *conflict;
    bool done;
};

static struct status set_buf(struct buf *b, struct bytes v)
{
    buf_clear(b);
    return buf_append_bytes(b, v);
}

static bool at_key(const struct engine_iter *it, struct bytes key, struct hts *ts)
{
    struct bytes user;

    return engine_iter_valid(it) && key_split_version(engine_iter_key(it), &user, ts) &&
           bytes_eq(user, key);
}

/* Reads the user key of the data iterator into s->key. */
static struct status load_key(struct scan_state *s)
{
    struct bytes user;
    struct hts ts;

    if (!key_split_version(engine_iter_key(s->data), &user, &ts)) {
        return FAIL(STATUS_CORRUPT, "key without a version among versioned keys");
    }
    return set_buf(&s->key, user);
}

/* ---- locks ----------------------------------------------------------------------------------- */

/* Moves the lock iterator to the INTENT of `key`, or beyond the key if there is none. */
static struct status find_lock(struct scan_state *s, struct bytes key, struct mvcc__lock *l,
                               bool *found)
{
    *found = false;
    while (s->locks != NULL && engine_iter_valid(s->locks)) {
        int c = 0;

        TRY(mvcc__lock_decode(engine_iter_key(s->locks), engine_iter_value(s->locks), l));
        c = bytes_cmp(l->pub.key, key);
        if (c == 0 && l->pub.strength == MVCC_INTENT) {
            *found = true;
            return OK;
        }
        if (s->scan->reverse ? c < 0 : c > 0) {
            return OK;
        }
        if (s->scan->reverse) {
            engine_iter_prev(s->locks);
        } else {
            engine_iter_next(s->locks);
        }
    }
    return s->locks == NULL ? OK : engine_iter_status(s->locks);
}

/* After the first conflict the rows are void: only further locks are worth reporting, and only when
 * the scan would certainly reach them. */
static struct status collect_locks(struct scan_state *s)
{
    struct mvcc__intent unused;
    struct mvcc__lock l;
    bool full = s->scan->rows_max > 0 || s->scan->bytes_max > 0;

    while (!full) {
        if (s->scan->reverse) {
            engine_iter_prev(s->locks);
        } else {
            engine_iter_next(s->locks);
        }
        if (!engine_iter_valid(s->locks)) {
            return engine_iter_status(s->locks);
        }
        TRY(mvcc__lock_decode(engine_iter_key(s->locks), engine_iter_value(s->locks), &l));
        if (l.pub.strength == MVCC_INTENT &&
            mvcc__judge_intent(&l, s->opt, &unused) == MVCC__LOCKED) {
            TRY(mvcc__conflict_add(s->arena, &l.pub, s->conflict, &full));
        }
    }
    return OK;
}

/* Fills `intent` from the lock on the current key; a conflict ends the scan. */
static struct status scan_intent(struct scan_state *s, struct mvcc__intent *intent)
{
    enum mvcc__verdict verdict = MVCC__TAKE;
    struct mvcc__lock l;
    bool found = false;
    bool full = false;

    *intent = (struct mvcc__intent){.view = MVCC__NO_INTENT};
    TRY(find_lock(s, buf_bytes(&s->key), &l, &found));
    if (!found) {
        return OK;
    }
    verdict = mvcc__judge_intent(&l, s->opt, intent);
    s->done = verdict != MVCC__TAKE;
    if (verdict == MVCC__STALE) {
        return mvcc__conflict_at(s->arena, MVCC_CONFLICT_REPLAY, l.pub.key, l.pub.write_ts,
                                 s->conflict);
    }
    if (verdict == MVCC__LOCKED) {
        TRY(mvcc__conflict_add(s->arena, &l.pub, s->conflict, &full));
        return full ? OK : collect_locks(s);
    }
    return OK;
}

/* ---- rows ------------------------------------------------------------------------------------ */

static struct status deliver(struct scan_state *s, struct bytes value, struct hts ts)
{
    const struct mvcc_scan *scan = s->scan;
    struct mvcc_scan_result *res = s->result;
    const struct bytes key = buf_bytes(&s->key);

    TRY(scan->row_fn(scan->ctx, key, value, ts));
    res->rows++;
    res->bytes += key.len + value.len;
    if ((scan->rows_max == 0 || res->rows < scan->rows_max) &&
        (scan->bytes_max == 0 || res->bytes < scan->bytes_max)) {
        return OK;
    }
    s->done = true;
    res->more = true;
    /* Backward the key itself is the new end: an exclusive bound K is below all versions of K. */
    return scan->reverse ? bytes_dup(s->arena, key, &res->resume)
                         : key_after(s->arena, key, &res->resume);
}

static struct status deliver_version(struct scan_state *s, const struct mvcc_version *v,
                                     struct hts ts)
{
    return (v->flags & MVCC_FLAG_TOMBSTONE) != 0 ? OK : deliver(s, v->payload, ts);
}

static struct status deliver_old(struct scan_state *s, const struct mvcc__intent *intent)
{
    return intent->old_tombstone ? OK : deliver(s, intent->old_value, intent->ts);
}

static struct status uncertain(struct scan_state *s, struct hts ts, struct hts local_ts)
{
    s->done = true;
    return mvcc__conflict_uncertain(s->arena, buf_bytes(&s->key), ts, local_ts, s->conflict);
}

/* Seeks the data iterator to key | ts. */
static struct status seek_version(struct scan_state *s, struct hts ts)
{
    uint8_t suffix[KEY_VERSION_SIZE];

    key_version_put(suffix, ts);
    TRY(set_buf(&s->bound, buf_bytes(&s->key)));
    TRY(buf_append(&s->bound, suffix, sizeof(suffix)));
    engine_iter_seek(s->data, buf_bytes(&s->bound));
    return OK;
}

/* From anywhere among the key's versions, newest first: delivers the one that is taken, if any. */
static struct status take_forward(struct scan_state *s, const struct mvcc__intent *intent)
{
    const struct bytes key = buf_bytes(&s->key);
    struct hts ts;

    for (int steps = 0; at_key(s->data, key, &ts); steps++) {
        enum mvcc__verdict verdict = MVCC__SKIP;
        struct mvcc_version v;

        TRY(mvcc__judge_version(key, ts, engine_iter_value(s->data), s->opt, intent, &v, &verdict));
        if (verdict == MVCC__TAKE) {
            return deliver_version(s, &v, ts);
        }
        if (verdict == MVCC__UNCERTAIN) {
            return uncertain(s, ts, v.local_ts);
        }
        if (steps == SKIP_STEPS_MAX && hts_less(mvcc__read_limit(s->opt), ts)) {
            TRY(seek_version(s, mvcc__read_limit(s->opt)));
        } else {
            engine_iter_next(s->data);
        }
    }
    return engine_iter_status(s->data);
}

/* Leaves all versions of the current key behind. */
static struct status next_key(struct scan_state *s)
{
    const struct bytes key = buf_bytes(&s->key);
    struct hts ts;

    for (int steps = 0; at_key(s->data, key, &ts); steps++) {
        if (steps < SKIP_STEPS_MAX) {
            engine_iter_next(s->data);
            continue;
        }
        struct key_enc e;
        struct bytes after;

        buf_clear(&s->bound);
        key_enc_init_buf(&e, &s->bound);
        key_enc_after(&e, key);
        TRY(key_enc_finish(&e, &after));
        engine_iter_seek(s->data, after);
    }
    return engine_iter_status(s->data);
}

static struct status scan_forward(struct scan_state *s)
{
    engine_iter_seek_first(s->data);
    while (engine_iter_valid(s->data) && !s->done) {
        struct mvcc__intent intent;

        TRY(load_key(s));
        TRY(scan_intent(s, &intent));
        if (s->done) {
            return OK;
        }
        if (intent.view == MVCC__OLD) {
            TRY(deliver_old(s, &intent));
        } else {
            TRY(take_forward(s, &intent));
        }
        if (!s->done) {
            TRY(next_key(s));
        }
    }
    return engine_iter_status(s->data);
}

/* ---- backward -------------------------------------------------------------------------------- */

/* Too many versions to walk: seek the newest that matters, and afterwards to the key before. */
static struct status take_by_seek(struct scan_state *s, const struct mvcc__intent *intent)
{
    const struct hts limit = mvcc__read_limit(s->opt);

    TRY(seek_version(s, intent->view == MVCC__CURRENT ? hts_max(limit, intent->ts) : limit));
    TRY(take_forward(s, intent));
    if (!s->done) {
        engine_iter_seek_prev(s->data, buf_bytes(&s->key));
    }
    return engine_iter_status(s->data);
}

/* From the oldest version upwards; the last one that would be taken wins. Leaves the iterator on
 * the key before. */
static struct status take_backward(struct scan_state *s, const struct mvcc__intent *intent)
{
    const struct bytes key = buf_bytes(&s->key);
    struct hts best_ts = HTS_ZERO;
    bool found = false;
    struct mvcc_version v;
    struct hts ts;

    for (int steps = 0; at_key(s->data, key, &ts); steps++) {
        enum mvcc__verdict verdict = MVCC__SKIP;

        if (steps == BACK_STEPS_MAX) {
            return take_by_seek(s, intent);
        }
        TRY(mvcc__judge_version(key, ts, engine_iter_value(s->data), s->opt, intent, &v, &verdict));
        if (verdict == MVCC__UNCERTAIN) {
            return uncertain(s, ts, v.local_ts);
        }
        if (verdict == MVCC__TAKE) {
            TRY(set_buf(&s->value, engine_iter_value(s->data)));
            best_ts = ts;
            found = true;
        }
        engine_iter_prev(s->data);
    }
    TRY(engine_iter_status(s->data));
    if (!found) {
        return OK;
    }
    TRY(mvcc_version_decode(key, best_ts, buf_bytes(&s->value), &v));
    return deliver_version(s, &v, best_ts);
}

static struct status scan_backward(struct scan_state *s)
{
    engine_iter_seek_last(s->data);
    while (engine_iter_valid(s->data) && !s->done) {
        struct mvcc__intent intent;

        TRY(load_key(s));
        TRY(scan_intent(s, &intent));
        if (s->done) {
            return OK;
        }
        if (intent.view == MVCC__OLD) {
            TRY(deliver_old(s, &intent));
            engine_iter_seek_prev(s->data, buf_bytes(&s->key));
        } else {
            TRY(take_backward(s, &intent));
        }
    }
    return engine_iter_status(s->data);
}

/* ---- opening --------------------------------------------------------------------------------- */

static struct status open_span(struct mvcc_reader *r, struct bytes start, struct bytes end,
                               struct engine_iter **out)
{
    const struct engine_iter_options o = {
        .cf = ENGINE_CF_STATE, .lower = start, .upper = end, .snap = r->snap, .tier = r->tier};

    return engine_iter_open(r->engine, &o, out);
}

/* Spans are of versioned keys: what lies below has other shapes. */
static struct status check_span(struct bytes start, struct bytes end)
{
    if (bytes_cmp(start, KEY_MIN) < 0 || end.len == 0 || bytes_cmp(end, KEY_MAX) > 0 ||
        start.len > MVCC_KEY_MAX + KEY_AFTER_SIZE || end.len > MVCC_KEY_MAX + KEY_AFTER_SIZE) {
        return FAIL(STATUS_INVALID, "span is not one of versioned keys");
    }
    return OK;
}

static struct status open_locks(struct mvcc_reader *r, struct bytes start, struct bytes end,
                                struct arena *arena, struct engine_iter **out)
{
    struct bytes lower;
    struct bytes upper;

    TRY(mvcc__lock_bound(arena, start, &lower));
    TRY(mvcc__lock_bound(arena, end, &upper));
    return open_span(r, lower, upper, out);
}

static struct status open_scan_locks(struct scan_state *s, struct mvcc_reader *r)
{
    if (s->opt->no_intents) {
        return OK;
    }
    TRY(open_locks(r, s->scan->start, s->scan->end, s->arena, &s->locks));
    if (s->scan->reverse) {
        engine_iter_seek_last(s->locks);
    } else {
        engine_iter_seek_first(s->locks);
    }
    if (!engine_iter_valid(s->locks)) {
        TRY(engine_iter_status(s->locks));
        engine_iter_close(s->locks);
        s->locks = NULL;
    }
    return OK;
}

struct status mvcc_scan(struct mvcc_reader *r, const struct mvcc_scan *scan,
                        const struct mvcc_read *opt, struct arena *arena,
                        struct mvcc_scan_result *out, struct mvcc_conflict *conflict)
{
    struct scan_state s = {
        .scan = scan, .opt = opt, .arena = arena, .result = out, .conflict = conflict};
    struct status st = OK;

    memset(out, 0, sizeof(*out));
    memset(conflict, 0, sizeof(*conflict));
    buf_init(&s.key, 0);
    buf_init(&s.value, 0);
    buf_init(&s.bound, 0);
    TRY_OUT(check_span(scan->start, scan->end));
    TRY_OUT(open_scan_locks(&s, r));
    TRY_OUT(open_span(r, scan->start, scan->end, &s.data));
    TRY_OUT(scan->reverse ? scan_backward(&s) : scan_forward(&s));
out:
    engine_iter_close(s.data);
    engine_iter_close(s.locks);
    buf_deinit(&s.key);
    buf_deinit(&s.value);
    buf_deinit(&s.bound);
    return st;
}

/* ---- refreshing ------------------------------------------------------------------------------ */

/* A version in the window is a conflict unless it is our own provisional one. */
static struct status judge_refresh(struct mvcc_reader *r, struct bytes key, struct hts ts,
                                   const struct mvcc_txn *txn, struct arena *arena,
                                   struct mvcc_conflict *conflict)
{
    const struct mvcc__overlay none = {NULL, NULL};
    struct mvcc__lock l;
    bool found = false;
    bool full = false;

    TRY(mvcc__find_intent(r, none, key, arena, &l, &found));
    if (!found || !hts_eq(l.pub.write_ts, ts)) {
        return mvcc__conflict_at(arena, MVCC_CONFLICT_TOO_OLD, key, ts, conflict);
    }
    if (txn != NULL && uuid_eq(l.pub.txn_id, txn->id)) {
        return OK;
    }
    return mvcc__conflict_add(arena, &l.pub, conflict, &full);
}

/* All versions of the span within (from, to]. */
static struct status refresh_span(struct scan_state *s, struct mvcc_reader *r, struct hts from,
                                  struct hts to)
{
    engine_iter_seek_first(s->data);
    while (engine_iter_valid(s->data)) {
        struct hts ts;

        TRY(load_key(s));
        for (int steps = 0; at_key(s->data, buf_bytes(&s->key), &ts); steps++) {
            if (hts_less_eq(ts, from)) {
                break;
            }
            if (hts_less_eq(ts, to)) {
                TRY(judge_refresh(r, buf_bytes(&s->key), ts, s->opt->txn, s->arena, s->conflict));
                if (s->conflict->kind != MVCC_CONFLICT_NONE) {
                    return OK;
                }
            }
            if (steps == SKIP_STEPS_MAX && hts_less(to, ts)) {
                TRY(seek_version(s, to));
            } else {
                engine_iter_next(s->data);
            }
        }
        TRY(engine_iter_status(s->data));
        TRY(next_key(s));
    }
    return engine_iter_status(s->data);
}

static struct status refresh_key(struct mvcc_reader *r, struct bytes key, struct hts from,
                                 struct hts to, const struct mvcc_txn *txn, struct arena *arena,
                                 struct mvcc_conflict *conflict)
{
    const struct mvcc__overlay none = {NULL, NULL};
    uint8_t stack[MVCC_STACK_KEY];
    struct mvcc__cursor c;
    struct bytes target;
    struct bytes user;
    struct hts at = to;
    struct hts ts;

    TRY(mvcc__check_key(key));
    for (;;) {
        TRY(mvcc__version_key(arena, stack, key, at, &target));
        TRY(mvcc__cursor_seek(&c, r, none, key, target));
        if (!c.valid || !key_split_version(c.key, &user, &ts) || hts_less_eq(ts, from)) {
            return OK;
        }
        /* Looking for the lock moves the iterator: the next round seeks below this version. */
        TRY(judge_refresh(r, key, ts, txn, arena, conflict));
        if (conflict->kind != MVCC_CONFLICT_NONE || hts_is_zero(ts)) {
            return OK;
        }
        at = hts_prev(ts);
    }
}

struct status mvcc_refresh(struct mvcc_reader *r, struct bytes start, struct bytes end,
                           struct hts from, struct hts to, const struct mvcc_txn *txn,
                           struct arena *arena, struct mvcc_conflict *conflict)
{
    const struct mvcc_scan scan = {.start = start, .end = end};
    const struct mvcc_read opt = {.ts = to, .txn = txn};
    struct scan_state s = {.scan = &scan, .opt = &opt, .arena = arena, .conflict = conflict};
    struct status st = OK;

    memset(conflict, 0, sizeof(*conflict));
    if (end.len == 0) {
        return refresh_key(r, start, from, to, txn, arena, conflict);
    }
    buf_init(&s.key, 0);
    buf_init(&s.bound, 0);
    TRY_OUT(check_span(start, end));
    TRY_OUT(open_span(r, start, end, &s.data));
    TRY_OUT(refresh_span(&s, r, from, to));
out:
    engine_iter_close(s.data);
    buf_deinit(&s.key);
    buf_deinit(&s.bound);
    return st;
}

/* ---- locks of a span ------------------------------------------------------------------------- */

/* Adds what is in the way; *more when it no longer fits. */
static struct status add_lock(const struct mvcc_lock *l, enum mvcc_strength want,
                              const struct uuid *txn, struct arena *arena,
                              struct mvcc_conflict *found, bool *more)
{
    bool full = false;

    if ((txn != NULL && uuid_eq(l->txn_id, *txn)) || !mvcc__excludes(l->strength, want)) {
        return OK;
    }
    if (found->lock_count == MVCC_LOCKS_MAX) {
        *more = true;
        return OK;
    }
    return mvcc__conflict_add(arena, l, found, &full);
}

static struct status key_locks(struct mvcc_reader *r, struct bytes key, enum mvcc_strength want,
                               const struct uuid *txn, struct arena *arena,
                               struct mvcc_conflict *found, bool *more)
{
    const struct mvcc__overlay none = {NULL, NULL};
    const struct uuid lowest = {{0}};
    uint8_t stack[MVCC_STACK_KEY];
    struct mvcc__cursor c;
    struct mvcc__lock l;
    struct bytes target;

    TRY(mvcc__check_key(key));
    TRY(mvcc__lock_key(arena, stack, key, MVCC_NONE, lowest, &target));
    TRY(mvcc__cursor_seek(&c, r, none, key_filter_prefix(target), target));
    while (c.valid && !*more) {
        TRY(mvcc__lock_decode(c.key, c.value, &l));
        TRY(add_lock(&l.pub, want, txn, arena, found, more));
        TRY(mvcc__cursor_next(&c));
    }
    return OK;
}

static struct status span_locks(struct engine_iter *it, enum mvcc_strength want,
                                const struct uuid *txn, struct arena *arena,
                                struct mvcc_conflict *found, bool *more)
{
    struct mvcc__lock l;

    for (engine_iter_seek_first(it); engine_iter_valid(it) && !*more; engine_iter_next(it)) {
        TRY(mvcc__lock_decode(engine_iter_key(it), engine_iter_value(it), &l));
        TRY(add_lock(&l.pub, want, txn, arena, found, more));
    }
    return engine_iter_status(it);
}

struct status mvcc_locks(struct mvcc_reader *r, struct bytes start, struct bytes end,
                         enum mvcc_strength want, const struct uuid *txn, struct arena *arena,
                         struct mvcc_lock **out, uint32_t *count_out, bool *more_out)
{
    struct mvcc_conflict found = {.kind = MVCC_CONFLICT_NONE};
    struct engine_iter *it = NULL;
    struct status st = OK;

    *out = NULL;
    *count_out = 0;
    *more_out = false;
    if (end.len == 0) {
        TRY_OUT(key_locks(r, start, want, txn, arena, &found, more_out));
    } else {
        TRY_OUT(check_span(start, end));
        TRY_OUT(open_locks(r, start, end, arena, &it));
        TRY_OUT(span_locks(it, want, txn, arena, &found, more_out));
    }
    *out = found.locks;
    *count_out = found.lock_count;
out:
    engine_iter_close(it);
    return st;
}

struct status mvcc_lock_get(struct mvcc_reader *r, struct bytes key, enum mvcc_strength strength,
                            struct uuid txn, struct arena *arena, struct mvcc_lock *out,
                            bool *found)
{
    const struct mvcc__overlay none = {NULL, NULL};
    uint8_t stack[MVCC_STACK_KEY];
    struct mvcc__cursor c;
    struct mvcc__lock l;
    struct bytes target;

    *found = false;
    TRY(mvcc__check_key(key));
    TRY(mvcc__lock_key(arena, stack, key, strength, txn, &target));
    TRY(mvcc__cursor_seek(&c, r, none, key_filter_prefix(target), target));
    if (!c.valid || !bytes_eq(c.key, target)) {
        return OK;
    }
    TRY(mvcc__lock_decode(c.key, c.value, &l));
    *found = true;
    return mvcc__lock_dup(arena, &l.pub, out);
}
