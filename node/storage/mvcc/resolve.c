/*
 * resolve.c -- what becomes of intents, and of versions nobody can read any more.
 *
 * Committing keeps the version where it is, or moves it to the commit timestamp; the clock reading
 * at which it was first written stays with it, because a reader judges its uncertainty by that.
 * When the last writes to the key were rolled back to a savepoint, the newest surviving one of the
 * history is what commits. Aborting removes version and lock. Everything here may be repeated.
 *
 * An intent above the commit of its transaction is a duplicate of a write, delivered late: a transaction
 * commits only at or above all its writes. It is removed. Intents of a later epoch than the commit's cannot
 * be: they are reported as damage rather than resolved either way.
 */
#include "node/base/invariant.h"
#include "node/storage/mvcc/write_internal.h"

/* The locks that a transaction holds on a key: one of each strength at most. */
struct held_locks {
    bool has[MVCC_INTENT + 1];
    size_t stored_len[MVCC_INTENT + 1];
    uint32_t epoch[MVCC_INTENT + 1];
    uint32_t seq[MVCC_INTENT + 1];
    struct mvcc__lock intent; /* In the arena. */
};

static struct status find_held(struct mvcc_writer *w, struct bytes key, struct uuid txn,
                               struct held_locks *out)
{
    const struct uuid lowest = {{0}};
    uint8_t stack[MVCC_STACK_KEY];
    struct mvcc__cursor c;
    struct mvcc__lock l;
    struct bytes target;

    memset(out, 0, sizeof(*out));
    TRY(mvcc__lock_key(w->arena, stack, key, MVCC_NONE, lowest, &target));
    TRY(mvcc__cursor_seek(&c, w->reader, mvcc__overlay_of(w, key), key_filter_prefix(target),
                          target));
    while (c.valid) {
        TRY(mvcc__lock_decode(c.key, c.value, &l));
        if (uuid_eq(l.pub.txn_id, txn)) {
            out->has[l.pub.strength] = true;
            out->stored_len[l.pub.strength] = c.value.len;
            out->epoch[l.pub.strength] = l.pub.epoch;
            out->seq[l.pub.strength] = l.pub.seq;
        }
        if (uuid_eq(l.pub.txn_id, txn) && l.pub.strength == MVCC_INTENT) {
            out->intent = l;
            TRY(mvcc__lock_dup(w->arena, &l.pub, &out->intent.pub));
            TRY(bytes_dup(w->arena, l.history, &out->intent.history));
        }
        TRY(mvcc__cursor_next(&c));
    }
    return OK;
}

static struct status drop_lock(struct mvcc_writer *w, struct bytes key, enum mvcc_strength strength,
                               struct uuid txn, size_t stored_len)
{
    uint8_t stack[MVCC_STACK_KEY];
    struct bytes phys;

    TRY(mvcc__lock_key(w->arena, stack, key, strength, txn, &phys));
    mvcc__count_lock(w, key, stored_len, -1);
    return mvcc__emit_delete(w, key, phys);
}

/* Version and lock go; the version below becomes the newest again. */
static struct status remove_intent(struct mvcc_writer *w, struct bytes key,
                                   const struct mvcc__state *s)
{
    mvcc__count_newest(w, key, &s->provisional, -1);
    mvcc__count_newest(w, key, &s->committed, 1);
    mvcc__count_intent(w, key, s->provisional.stored_len, -1);
    TRY(mvcc__drop_version(w, key, &s->provisional));
    return drop_lock(w, key, MVCC_INTENT, s->lock.pub.txn_id, s->own_stored_len);
}

/* Replaces the provisional version by `v` at `ts`, which may be the same or later. */
static struct status move_version(struct mvcc_writer *w, struct bytes key,
                                  const struct mvcc__state *s, struct hts ts,
                                  const struct mvcc_version *v, struct mvcc__held *laid)
{
    mvcc__count_newest(w, key, &s->provisional, -1);
    if (hts_eq(ts, s->provisional.ts)) {
        mvcc__count_version(w, key, s->provisional.stored_len, -1);
    } else {
        TRY(mvcc__drop_version(w, key, &s->provisional));
    }
    TRY(mvcc__lay_version(w, key, ts, v, laid));
    mvcc__count_newest(w, key, laid, 1);
    return OK;
}

/* The write that survives the rollbacks, as a version; false: none does. */
static bool surviving(const struct mvcc__state *s, const struct mvcc_resolve *how,
                      struct mvcc_version *v, bool *changed)
{
    struct mvcc__old old;

    *v = s->provisional.v;
    *changed = mvcc__seq_ignored(how->ignored, how->ignored_count, s->lock.pub.seq);
    if (!*changed) {
        return true;
    }
    if (!mvcc__history_find(&s->lock, UINT32_MAX, how->ignored, how->ignored_count, &old)) {
        return false;
    }
    v->flags =
        (uint8_t)((v->flags & ~MVCC_FLAG_TOMBSTONE) | (old.tombstone ? MVCC_FLAG_TOMBSTONE : 0));
    v->payload = old.value;
    return true;
}

static struct status commit_intent(struct mvcc_writer *w, struct bytes key,
                                   const struct mvcc__state *s, const struct mvcc_resolve *how)
{
    struct mvcc__held laid;
    struct mvcc_version v = {.flags = 0};
    bool changed = false;

    if (hts_less(how->ts, s->lock.pub.write_ts)) {
        return remove_intent(w, key, s); /* A late duplicate of a write that was settled already. */
    }
    if (s->lock.pub.epoch > how->epoch) {
        return FAIL(STATUS_CORRUPT, "intent is of a later epoch than the commit");
    }
    if (!surviving(s, how, &v, &changed)) {
        return remove_intent(w, key, s);
    }
    if (changed || !hts_eq(how->ts, s->lock.pub.write_ts)) {
        TRY(move_version(w, key, s, how->ts, &v, &laid));
    }
    mvcc__count_intent(w, key, s->provisional.stored_len, -1);
    return drop_lock(w, key, MVCC_INTENT, s->lock.pub.txn_id, s->own_stored_len);
}

static struct status push_intent(struct mvcc_writer *w, struct bytes key,
                                 const struct mvcc__state *s, const struct mvcc_resolve *how)
{
    struct mvcc__lock l = s->lock;
    uint8_t stack[MVCC_STACK_KEY];
    struct mvcc__held laid;
    struct bytes stored;
    struct bytes phys;

    if (hts_less_eq(how->ts, s->lock.pub.write_ts)) {
        return OK;
    }
    l.pub.write_ts = how->ts;
    TRY(mvcc__encode_lock(w->arena, &l, NULL, &stored));
    TRY(mvcc__lock_key(w->arena, stack, key, MVCC_INTENT, l.pub.txn_id, &phys));
    TRY(move_version(w, key, s, how->ts, &s->provisional.v, &laid));
    TRY(mvcc__emit_put(w, key, phys, stored));
    mvcc__count_lock(w, key, s->own_stored_len, -1);
    mvcc__count_lock(w, key, stored.len, 1);
    mvcc__count_intent(w, key, s->provisional.stored_len, -1);
    mvcc__count_intent(w, key, laid.stored_len, 1);
    return OK;
}

static struct status resolve_intent(struct mvcc_writer *w, struct bytes key,
                                    const struct held_locks *held, const struct mvcc_resolve *how)
{
    struct mvcc__state s = {
        .own = true, .lock = held->intent, .own_stored_len = held->stored_len[MVCC_INTENT]};

    TRY(mvcc__look_at_versions(w, key, mvcc__overlay_of(w, key), &s));
    if (how->resolution == MVCC_ABORT || s.lock.pub.epoch < how->epoch) {
        return remove_intent(w, key, &s);
    }
    return how->resolution == MVCC_COMMIT ? commit_intent(w, key, &s, how)
                                          : push_intent(w, key, &s, how);
}

/* A pending transaction keeps its plain locks, unless they were taken in what it has
 * rolled back. */
static bool plain_lock_goes(const struct held_locks *held, enum mvcc_strength strength,
                            const struct mvcc_resolve *how)
{
    return how->resolution != MVCC_PUSH || held->epoch[strength] < how->epoch ||
           mvcc__seq_ignored(how->ignored, how->ignored_count, held->seq[strength]);
}

struct status mvcc_resolve(struct mvcc_writer *w, struct bytes key, const struct mvcc_resolve *how,
                           bool *resolved)
{
    struct held_locks held;

    *resolved = false;
    TRY(mvcc__check_key(key));
    TRY(find_held(w, key, how->txn_id, &held));
    for (enum mvcc_strength s = MVCC_SHARED; s < MVCC_INTENT; s = (enum mvcc_strength)(s + 1)) {
        if (held.has[s] && plain_lock_goes(&held, s, how)) {
            TRY(drop_lock(w, key, s, how->txn_id, held.stored_len[s]));
        }
    }
    if (!held.has[MVCC_INTENT]) {
        return OK;
    }
    *resolved = true;
    return resolve_intent(w, key, &held, how);
}

/* ---- spans ----------------------------------------------------------------------------------- */

static struct status open_lock_span(struct mvcc_writer *w, struct bytes start, struct bytes end,
                                    struct engine_iter **out)
{
    struct engine_iter_options o = {.cf = ENGINE_CF_STATE, .tier = w->reader->tier};

    if (bytes_cmp(start, KEY_MIN) < 0 || end.len == 0 || bytes_cmp(end, KEY_MAX) > 0) {
        return FAIL(STATUS_INVALID, "span is not one of versioned keys");
    }
    TRY(mvcc__lock_bound(w->arena, start, &o.lower));
    TRY(mvcc__lock_bound(w->arena, end, &o.upper));
    return engine_iter_open(w->reader->engine, &o, out);
}

struct status mvcc_resolve_range(struct mvcc_writer *w, struct bytes start, struct bytes end,
                                 const struct mvcc_resolve *how, uint32_t keys_max,
                                 uint32_t *resolved_count, struct bytes *resume)
{
    struct engine_iter *it = NULL;
    struct bytes last = BYTES_EMPTY;
    struct status st = OK;
    uint32_t keys = 0;

    *resolved_count = 0;
    *resume = BYTES_EMPTY;
    TRY_OUT(open_lock_span(w, start, end, &it));
    for (engine_iter_seek_first(it); engine_iter_valid(it); engine_iter_next(it)) {
        struct bytes key;
        uint8_t strength = 0;
        struct uuid txn;
        bool resolved = false;

        if (!key_split_lock(engine_iter_key(it), &key, &strength, &txn)) {
            st = FAIL(STATUS_CORRUPT, "lock key is damaged");
            goto out;
        }
        if (!uuid_eq(txn, how->txn_id) || bytes_eq(key, last)) {
            continue; /* One call resolves all strengths of a key. */
        }
        TRY_OUT(bytes_dup(w->arena, key, &last));
        if (keys == keys_max) {
            *resume = last;
            goto out;
        }
        TRY_OUT(mvcc_resolve(w, last, how, &resolved));
        *resolved_count += resolved ? 1 : 0;
        keys++;
    }
    TRY_OUT(engine_iter_status(it));
out:
    engine_iter_close(it);
    return st;
}

/* ---- questions ------------------------------------------------------------------------------- */

struct status mvcc_query_intent(struct mvcc_writer *w, struct bytes key, struct uuid txn,
                                uint32_t epoch, uint32_t seq, struct hts ts,
                                enum mvcc_intent_state *out, struct hts *intent_ts)
{
    struct mvcc__lock l;
    bool found = false;

    *out = MVCC_INTENT_MISSING;
    *intent_ts = HTS_ZERO;
    TRY(mvcc__check_key(key));
    TRY(mvcc__find_intent(w->reader, mvcc__overlay_of(w, key), key, w->arena, &l, &found));
    if (!found || !uuid_eq(l.pub.txn_id, txn) || l.pub.epoch < epoch) {
        return OK;
    }
    *intent_ts = l.pub.write_ts;
    if (l.pub.epoch > epoch || hts_less(ts, l.pub.write_ts)) {
        *out = MVCC_INTENT_MOVED;
    } else if (l.pub.seq >= seq) {
        *out = MVCC_INTENT_FOUND;
    }
    return OK;
}

/* ---- garbage --------------------------------------------------------------------------------- */

struct gc_walk {
    struct hts threshold;
    bool have_intent;
    struct hts intent_ts;
    bool covered;  /* A version at or below the threshold has been met: older ones are garbage. */
    uint32_t left; /* Versions that stay. */
    struct mvcc__held newest;
};

/* Is this version, met from newest to oldest, garbage? */
static bool is_garbage(struct gc_walk *g, const struct mvcc__held *held)
{
    if ((g->have_intent && hts_eq(held->ts, g->intent_ts)) || hts_less(g->threshold, held->ts)) {
        return false;
    }
    if (g->covered) {
        return true;
    }
    g->covered = true; /* What readers at the threshold see; nothing to see if it is a tombstone. */
    return (held->v.flags & MVCC_FLAG_TOMBSTONE) != 0;
}

/* The cursor's bytes may stand in the batch, so garbage is collected first and
 * deleted afterwards. */
static struct status gc_collect(struct mvcc_writer *w, struct bytes key, struct gc_walk *g,
                                struct buf *garbage)
{
    uint8_t stack[MVCC_STACK_KEY];
    struct mvcc__cursor c;
    struct bytes target;

    TRY(mvcc__version_key(w->arena, stack, key, HTS_MAX, &target));
    TRY(mvcc__cursor_seek(&c, w->reader, mvcc__overlay_of(w, key), key, target));
    while (c.valid) {
        struct mvcc__held held = {.exists = true, .stored_len = c.value.len};
        struct bytes user;

        if (!key_split_version(c.key, &user, &held.ts) || user.len != key.len) {
            break;
        }
        TRY(mvcc_version_decode(key, held.ts, c.value, &held.v));
        if (!g->newest.exists) {
            g->newest = held;
        }
        if (is_garbage(g, &held)) {
            TRY(buf_append(garbage, &held, sizeof(held)));
        } else {
            g->left++;
        }
        TRY(mvcc__cursor_next(&c));
    }
    return OK;
}

struct status mvcc_gc(struct mvcc_writer *w, struct bytes key, struct hts threshold,
                      uint32_t *deleted)
{
    struct gc_walk g = {.threshold = threshold};
    struct mvcc__lock l;
    struct buf garbage;
    struct status st = OK;

    *deleted = 0;
    buf_init(&garbage, 0);
    TRY_OUT(mvcc__check_key(key));
    TRY_OUT(
        mvcc__find_intent(w->reader, mvcc__overlay_of(w, key), key, w->arena, &l, &g.have_intent));
    g.intent_ts = g.have_intent ? l.pub.write_ts : HTS_ZERO;
    TRY_OUT(gc_collect(w, key, &g, &garbage));
    for (size_t off = 0; off < garbage.len; off += sizeof(struct mvcc__held)) {
        struct mvcc__held held;

        memcpy(&held, garbage.ptr + off, sizeof(held));
        TRY_OUT(mvcc__drop_version(w, key, &held));
        (*deleted)++;
    }
    if (*deleted > 0 && g.left == 0) {
        /* Only a tombstone can be the newest and go. */
        mvcc__count_newest(w, key, &g.newest, -1);
    }
out:
    buf_deinit(&garbage);
    return st;
}
