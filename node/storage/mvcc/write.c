/*
 * write.c -- laying versions and locks.
 *
 * A write looks at the key once: its locks, its own intent, the newest version. Then it decides, in
 * this order:
 *   1. locks of others are in the way                       -> LOCKED
 *   2. our own intent is of a newer epoch                    -> REPLAY
 *   3. our own intent has seen this sequence number already  -> done, or REPLAY if it differs
 *   4. a committed version is newer than the write may bear  -> TOO_OLD, or lay it above (bump)
 *   5. the condition on the value does not hold              -> CONDITION
 * and only then touches the batch. A bare write moves above a newer version and lets the
 * transaction refresh; a conditional one has based its answer on what it read, and cannot.
 *
 * INVARIANTs: 1. a key has at most one INTENT lock, and exactly one version at its timestamp, the
 * newest of the key (I-1.5); 2. an intent never moves to a lower timestamp.
 *
 * All bytes that are looked at may stand in the batch's buffer, which moves when it grows: what is
 * needed is encoded into the arena before the first change.
 */
#include "node/base/invariant.h"
#include "node/storage/mvcc/write_internal.h"

#define VERSION_OVERHEAD 17 /* flags, local timestamp, checksum */
#define LOCK_OVERHEAD    (2 + 5 * VARINT_MAX + 24)
#define HISTORY_OVERHEAD (2 * VARINT_MAX + 1)

void mvcc_writer_init(struct mvcc_writer *w, struct mvcc_reader *r, struct engine_batch *batch,
                      struct arena *arena)
{
    INVARIANT(r->snap == NULL);
    *w = (struct mvcc_writer){.reader = r, .batch = batch, .arena = arena};
}

struct status mvcc_writer_get(struct mvcc_writer *w, struct bytes key, const struct mvcc_read *opt,
                              struct mvcc_value *out, struct mvcc_conflict *conflict)
{
    return mvcc__get(w->reader, mvcc__overlay_of(w, key), key, opt, w->arena, out, conflict);
}

struct status mvcc__scratch(struct arena *arena, size_t cap, struct buf *out)
{
    uint8_t *mem = arena_alloc(arena, cap, 1);

    if (mem == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a write");
    }
    /* A full buffer at its limit: it is never grown, so never freed. */
    *out = (struct buf){.ptr = mem, .cap = cap, .limit = cap};
    return OK;
}

struct status mvcc__encode_version(struct arena *arena, struct bytes key, struct hts ts,
                                   const struct mvcc_version *v, struct bytes *out)
{
    struct buf b;

    TRY(mvcc__scratch(arena, v->payload.len + VERSION_OVERHEAD, &b));
    TRY(mvcc_version_encode(&b, key, ts, v));
    *out = buf_bytes(&b);
    return OK;
}

struct status mvcc__encode_lock(struct arena *arena, const struct mvcc__lock *l,
                                const struct mvcc__old *add, struct bytes *out)
{
    const size_t added = add == NULL ? 0 : add->value.len + HISTORY_OVERHEAD;
    struct mvcc__lock counted = *l;
    struct buf b;

    counted.history_count += add == NULL ? 0 : 1;
    TRY(mvcc__scratch(arena, LOCK_OVERHEAD + l->pub.anchor_key.len + l->history.len + added, &b));
    TRY(mvcc__lock_encode(&b, &counted));
    if (add != NULL) {
        TRY(mvcc__history_append(&b, add));
    }
    *out = buf_bytes(&b);
    return OK;
}

/* ---- what stands at the key ------------------------------------------------------------------ */

/* Goes over all locks on the key: others' into the conflict, our own INTENT into the state. */
static struct status look_at_locks(struct mvcc_writer *w, struct bytes key,
                                   struct mvcc__overlay overlay, enum mvcc_strength want,
                                   const struct uuid *txn, struct mvcc__state *s,
                                   struct mvcc_conflict *conflict)
{
    const struct uuid lowest = {{0}};
    uint8_t stack[MVCC_STACK_KEY];
    struct mvcc__cursor c;
    struct mvcc__lock l;
    struct bytes target;
    bool full = false;

    TRY(mvcc__lock_key(w->arena, stack, key, MVCC_NONE, lowest, &target));
    TRY(mvcc__cursor_seek(&c, w->reader, overlay, key_filter_prefix(target), target));
    while (c.valid && !full) {
        TRY(mvcc__lock_decode(c.key, c.value, &l));
        if (txn == NULL || !uuid_eq(l.pub.txn_id, *txn)) {
            if (mvcc__excludes(l.pub.strength, want)) {
                TRY(mvcc__conflict_add(w->arena, &l.pub, conflict, &full));
            }
        } else if (l.pub.strength == MVCC_INTENT) {
            s->own = true;
            s->own_stored_len = c.value.len;
            TRY(mvcc__lock_dup(w->arena, &l.pub, &s->lock.pub));
            TRY(bytes_dup(w->arena, l.history, &s->lock.history));
            s->lock.history_count = l.history_count;
        }
        TRY(mvcc__cursor_next(&c));
    }
    return OK;
}

static struct status keep_version(struct arena *arena, struct bytes key, struct hts ts,
                                  struct bytes stored, struct mvcc__held *out)
{
    out->exists = true;
    out->ts = ts;
    out->stored_len = stored.len;
    TRY(mvcc_version_decode(key, ts, stored, &out->v));
    return bytes_dup(arena, out->v.payload, &out->v.payload);
}

struct status mvcc__look_at_versions(struct mvcc_writer *w, struct bytes key,
                                     struct mvcc__overlay overlay, struct mvcc__state *s)
{
    uint8_t stack[MVCC_STACK_KEY];
    struct mvcc__cursor c;
    struct bytes target;

    TRY(mvcc__version_key(w->arena, stack, key, HTS_MAX, &target));
    TRY(mvcc__cursor_seek(&c, w->reader, overlay, key, target));
    while (c.valid && !s->committed.exists) {
        struct bytes user;
        struct hts ts;

        if (!key_split_version(c.key, &user, &ts) || user.len != key.len) {
            break;
        }
        if (s->own && hts_eq(ts, s->lock.pub.write_ts)) {
            TRY(keep_version(w->arena, key, ts, c.value, &s->provisional));
        } else {
            TRY(keep_version(w->arena, key, ts, c.value, &s->committed));
        }
        TRY(mvcc__cursor_next(&c));
    }
    if (s->own && !s->provisional.exists) {
        return FAIL(STATUS_CORRUPT, "intent without a version");
    }
    return OK;
}

struct status mvcc__look(struct mvcc_writer *w, struct bytes key, enum mvcc_strength want,
                         const struct uuid *txn, struct mvcc__state *s,
                         struct mvcc_conflict *conflict)
{
    const struct mvcc__overlay overlay = mvcc__overlay_of(w, key);

    memset(s, 0, sizeof(*s));
    if (!w->no_intents || overlay.ops != NULL) {
        TRY(look_at_locks(w, key, overlay, want, txn, s, conflict));
    }
    return conflict->kind != MVCC_CONFLICT_NONE ? OK : mvcc__look_at_versions(w, key, overlay, s);
}

/* ---- counting -------------------------------------------------------------------------------- */

void mvcc_stats_add(struct mvcc_stats *s, const struct mvcc_stats *d)
{
    s->live_count += d->live_count;
    s->live_bytes += d->live_bytes;
    s->key_count += d->key_count;
    s->key_bytes += d->key_bytes;
    s->val_count += d->val_count;
    s->val_bytes += d->val_bytes;
    s->intent_count += d->intent_count;
    s->intent_bytes += d->intent_bytes;
    s->lock_count += d->lock_count;
    s->lock_bytes += d->lock_bytes;
}

void mvcc__count_newest(struct mvcc_writer *w, struct bytes key, const struct mvcc__held *newest,
                        int sign)
{
    const int64_t key_len = (int64_t)key.len;

    if (!mvcc__is_counted(key) || !newest->exists) {
        return;
    }
    w->stats.key_count += sign;
    w->stats.key_bytes += sign * key_len;
    if ((newest->v.flags & MVCC_FLAG_TOMBSTONE) == 0) {
        w->stats.live_count += sign;
        w->stats.live_bytes += sign * (key_len + KEY_VERSION_SIZE + (int64_t)newest->stored_len);
    }
}

void mvcc__count_version(struct mvcc_writer *w, struct bytes key, size_t stored_len, int sign)
{
    if (mvcc__is_counted(key)) {
        w->stats.key_bytes += sign * KEY_VERSION_SIZE;
        w->stats.val_count += sign;
        w->stats.val_bytes += sign * (int64_t)stored_len;
    }
}

void mvcc__count_lock(struct mvcc_writer *w, struct bytes key, size_t stored_len, int sign)
{
    if (mvcc__is_counted(key)) {
        w->stats.lock_count += sign;
        w->stats.lock_bytes += sign * (int64_t)(1 + key.len + KEY_LOCK_SUFFIX + stored_len);
    }
}

void mvcc__count_intent(struct mvcc_writer *w, struct bytes key, size_t stored_len, int sign)
{
    if (mvcc__is_counted(key)) {
        w->stats.intent_count += sign;
        w->stats.intent_bytes += sign * (int64_t)stored_len;
    }
}

/* ---- deciding -------------------------------------------------------------------------------- */

struct put_plan {
    const struct mvcc_write *op;
    struct mvcc__state state;
    bool same_epoch; /* The own intent belongs to this attempt. */
    bool visible;    /* The key has a value as seen by this write. */
    struct bytes visible_value;
    struct hts visible_ts;
    struct hts ts; /* Where the new version goes. */
};

/* What the transaction itself would read here. */
static void see_value(struct put_plan *p)
{
    const struct mvcc_txn *txn = p->op->txn;
    const struct mvcc__held *seen = &p->state.committed;
    struct mvcc__old old;

    if (p->same_epoch) {
        if (!mvcc__seq_ignored(txn->ignored, txn->ignored_count, p->state.lock.pub.seq)) {
            seen = &p->state.provisional;
        } else if (mvcc__history_find(&p->state.lock, UINT32_MAX, txn->ignored, txn->ignored_count,
                                      &old)) {
            p->visible = !old.tombstone;
            p->visible_value = old.value;
            p->visible_ts = p->state.lock.pub.write_ts;
            return;
        }
    }
    p->visible = seen->exists && (seen->v.flags & MVCC_FLAG_TOMBSTONE) == 0;
    p->visible_value = p->visible ? seen->v.payload : BYTES_EMPTY;
    p->visible_ts = seen->ts;
}

static bool writes_same(const struct mvcc_write *op, bool tombstone, struct bytes value)
{
    return op->tombstone == tombstone && (tombstone || bytes_eq(op->value, value));
}

/* This sequence number was written before: with the same value nothing is left to do. */
static bool is_replay_of_same(const struct put_plan *p)
{
    const struct mvcc__held *cur = &p->state.provisional;
    const uint32_t seq = p->op->txn->seq;
    struct reader r = reader_of(p->state.lock.history);
    struct mvcc__old old;

    if (seq == p->state.lock.pub.seq) {
        return writes_same(p->op, (cur->v.flags & MVCC_FLAG_TOMBSTONE) != 0, cur->v.payload);
    }
    while (mvcc__history_next(&r, &old)) {
        if (old.seq == seq) {
            return writes_same(p->op, old.tombstone, old.value);
        }
    }
    return false;
}

static struct status conflict_of(struct mvcc_writer *w, enum mvcc_conflict_kind kind,
                                 const struct put_plan *p, struct hts ts, struct mvcc_conflict *c)
{
    c->kind = kind;
    c->ts = ts;
    c->found = p->visible;
    c->actual = p->visible_value; /* In the arena already. */
    return bytes_dup(w->arena, p->op->key, &c->key);
}

/* Is a committed version newer than this write bears where it is? Moves p->ts when it may. */
static bool too_old(struct put_plan *p, struct mvcc_written *out)
{
    const struct mvcc_write *op = p->op;
    const struct mvcc__held *newest = &p->state.committed;

    if (!newest->exists) {
        return false;
    }
    if (!hts_is_zero(op->newest_max) && hts_less(op->newest_max, newest->ts)) {
        return true;
    }
    if (op->expect != MVCC_EXPECT_ANY && op->txn != NULL && !p->same_epoch &&
        hts_less(op->txn->read_ts, newest->ts)) {
        return true;
    }
    if (hts_less(newest->ts, p->ts)) {
        return false;
    }
    if (!op->bump || op->expect != MVCC_EXPECT_ANY) {
        return true;
    }
    p->ts = hts_next(newest->ts);
    out->bumped = true;
    return false;
}

static bool condition_holds(const struct put_plan *p)
{
    const bool equal = p->visible && bytes_eq(p->visible_value, p->op->expected);

    switch (p->op->expect) {
    case MVCC_EXPECT_ANY:
        return true;
    case MVCC_EXPECT_ABSENT:
        return !p->visible;
    case MVCC_EXPECT_VALUE:
        return equal;
    case MVCC_EXPECT_ABSENT_OR_VALUE:
        return !p->visible || equal;
    case MVCC_EXPECT_PRESENT:
        return p->visible;
    }
    return false;
}

/* Steps 2 to 5 of the head of this file. *go: the write is to be laid. */
static struct status decide(struct mvcc_writer *w, struct put_plan *p, struct mvcc_written *out,
                            struct mvcc_conflict *conflict, bool *go)
{
    const struct mvcc_txn *txn = p->op->txn;
    const struct mvcc_lock *own = &p->state.lock.pub;

    *go = false;
    p->same_epoch = p->state.own && own->epoch == txn->epoch;
    p->ts = txn == NULL ? p->op->ts : txn->write_ts;
    see_value(p);
    out->had_value = p->visible;
    if (p->state.own && own->epoch > txn->epoch) {
        return conflict_of(w, MVCC_CONFLICT_REPLAY, p, own->write_ts, conflict);
    }
    if (p->same_epoch && txn->seq <= own->seq) {
        out->replayed = true;
        out->ts = own->write_ts;
        return is_replay_of_same(p)
                   ? OK
                   : conflict_of(w, MVCC_CONFLICT_REPLAY, p, own->write_ts, conflict);
    }
    if (too_old(p, out)) {
        return conflict_of(w, MVCC_CONFLICT_TOO_OLD, p, p->state.committed.ts, conflict);
    }
    if (!condition_holds(p)) {
        return conflict_of(w, MVCC_CONFLICT_CONDITION, p, p->visible_ts, conflict);
    }
    if (p->state.own) {
        p->ts = hts_max(p->ts, own->write_ts); /* Also of an older epoch: pushes are kept. */
    }
    *go = true;
    return OK;
}

/* ---- laying ---------------------------------------------------------------------------------- */

static struct mvcc__lock new_lock(const struct put_plan *p)
{
    const struct mvcc_txn *txn = p->op->txn;
    struct mvcc__lock l = {.pub = {.key = p->op->key,
                                   .strength = MVCC_INTENT,
                                   .txn_id = txn->id,
                                   .anchor_key = txn->anchor_key,
                                   .epoch = txn->epoch,
                                   .seq = txn->seq,
                                   .priority = txn->priority,
                                   .iso = txn->iso,
                                   .write_ts = p->ts,
                                   .min_ts = txn->min_ts}};

    if (p->same_epoch) {
        l.history = p->state.lock.history;
        l.history_count = p->state.lock.history_count;
    }
    return l;
}

static struct status lay_lock(struct mvcc_writer *w, const struct put_plan *p)
{
    const struct mvcc__held *cur = &p->state.provisional;
    const struct mvcc__old old = {.seq = p->state.lock.pub.seq,
                                  .tombstone = (cur->v.flags & MVCC_FLAG_TOMBSTONE) != 0,
                                  .value = cur->v.payload};
    const struct mvcc__lock l = new_lock(p);
    uint8_t stack[MVCC_STACK_KEY];
    struct bytes phys;
    struct bytes stored;

    if (p->same_epoch && l.history_count == MVCC_HISTORY_MAX) {
        return FAIL(STATUS_OVERLOADED, "a transaction writes one key too often");
    }
    TRY(mvcc__lock_key(w->arena, stack, p->op->key, MVCC_INTENT, l.pub.txn_id, &phys));
    TRY(mvcc__encode_lock(w->arena, &l, p->same_epoch ? &old : NULL, &stored));
    TRY(mvcc__emit_put(w, p->op->key, phys, stored));
    if (p->state.own) {
        mvcc__count_lock(w, p->op->key, p->state.own_stored_len, -1);
        mvcc__count_intent(w, p->op->key, cur->stored_len, -1);
    }
    mvcc__count_lock(w, p->op->key, stored.len, 1);
    return OK;
}

struct status mvcc__drop_version(struct mvcc_writer *w, struct bytes key,
                                 const struct mvcc__held *held)
{
    uint8_t stack[MVCC_STACK_KEY];
    struct bytes phys;

    TRY(mvcc__version_key(w->arena, stack, key, held->ts, &phys));
    mvcc__count_version(w, key, held->stored_len, -1);
    return mvcc__emit_delete(w, key, phys);
}

struct status mvcc__lay_version(struct mvcc_writer *w, struct bytes key, struct hts ts,
                                const struct mvcc_version *v, struct mvcc__held *laid)
{
    uint8_t stack[MVCC_STACK_KEY];
    struct bytes stored;
    struct bytes phys;

    TRY(mvcc__encode_version(w->arena, key, ts, v, &stored));
    TRY(mvcc__version_key(w->arena, stack, key, ts, &phys));
    TRY(mvcc__emit_put(w, key, phys, stored));
    mvcc__count_version(w, key, stored.len, 1);
    *laid = (struct mvcc__held){.exists = true, .ts = ts, .stored_len = stored.len, .v = *v};
    return OK;
}

static struct status lay(struct mvcc_writer *w, const struct put_plan *p)
{
    const struct mvcc_write *op = p->op;
    const struct mvcc__held *before = p->state.own ? &p->state.provisional : &p->state.committed;
    const unsigned flags = (op->tombstone ? MVCC_FLAG_TOMBSTONE : 0u) |
                           (op->omit_cdc ? MVCC_FLAG_OMIT_CDC : 0u) |
                           (op->imported ? MVCC_FLAG_IMPORTED : 0u);
    const struct mvcc_version v = {.flags = (uint8_t)flags,
                                   .local_ts = op->local_ts,
                                   .payload = op->tombstone ? BYTES_EMPTY : op->value};
    struct mvcc__held laid;

    mvcc__count_newest(w, op->key, before, -1);
    if (op->txn != NULL) {
        TRY(lay_lock(w, p));
    }
    if (p->state.own) {
        if (hts_eq(p->state.provisional.ts, p->ts)) {
            mvcc__count_version(w, op->key, p->state.provisional.stored_len, -1);
        } else {
            TRY(mvcc__drop_version(w, op->key, &p->state.provisional));
        }
    }
    TRY(mvcc__lay_version(w, op->key, p->ts, &v, &laid));
    mvcc__count_newest(w, op->key, &laid, 1);
    if (op->txn != NULL) {
        mvcc__count_intent(w, op->key, laid.stored_len, 1);
    }
    return OK;
}

struct status mvcc_put(struct mvcc_writer *w, const struct mvcc_write *op, struct mvcc_written *out,
                       struct mvcc_conflict *conflict)
{
    struct put_plan p = {.op = op};
    bool go = false;

    memset(out, 0, sizeof(*out));
    memset(conflict, 0, sizeof(*conflict));
    TRY(mvcc__check_key(op->key));
    TRY(mvcc__look(w, op->key, MVCC_INTENT, op->txn == NULL ? NULL : &op->txn->id, &p.state,
                   conflict));
    if (conflict->kind != MVCC_CONFLICT_NONE) {
        return OK;
    }
    TRY(decide(w, &p, out, conflict, &go));
    if (!go) {
        return OK;
    }
    out->ts = p.ts;
    return lay(w, &p);
}

/* ---- locks ----------------------------------------------------------------------------------- */

/* The stored lock of this transaction and strength, decoded, and how long it was. */
static struct status own_lock(struct mvcc_writer *w, struct bytes key, struct bytes phys,
                              struct mvcc__lock *l, size_t *stored_len, bool *found)
{
    struct mvcc__cursor c;

    TRY(mvcc__cursor_seek(&c, w->reader, mvcc__overlay_of(w, key), key_filter_prefix(phys), phys));
    *found = c.valid && bytes_eq(c.key, phys);
    *stored_len = c.value.len;
    return *found ? mvcc__lock_decode(c.key, c.value, l) : OK;
}

struct status mvcc_lock(struct mvcc_writer *w, struct bytes key, enum mvcc_strength strength,
                        const struct mvcc_txn *txn, struct mvcc_conflict *conflict)
{
    const struct mvcc__lock l = {.pub = {.key = key,
                                         .strength = strength,
                                         .txn_id = txn->id,
                                         .anchor_key = txn->anchor_key,
                                         .epoch = txn->epoch,
                                         .seq = txn->seq,
                                         .priority = txn->priority,
                                         .iso = txn->iso,
                                         .write_ts = txn->write_ts,
                                         .min_ts = txn->min_ts}};
    struct mvcc__state state = {.own = false};
    uint8_t stack[MVCC_STACK_KEY];
    struct mvcc__lock old;
    size_t old_len = 0;
    bool found = false;
    struct bytes stored;
    struct bytes phys;

    INVARIANT(strength == MVCC_SHARED || strength == MVCC_EXCLUSIVE);
    memset(conflict, 0, sizeof(*conflict));
    TRY(mvcc__check_key(key));
    TRY(look_at_locks(w, key, mvcc__overlay_of(w, key), strength, &txn->id, &state, conflict));
    if (conflict->kind != MVCC_CONFLICT_NONE) {
        return OK;
    }
    TRY(mvcc__lock_key(w->arena, stack, key, strength, txn->id, &phys));
    TRY(own_lock(w, key, phys, &old, &old_len, &found));
    if (found && old.pub.epoch == txn->epoch &&
        !mvcc__seq_ignored(txn->ignored, txn->ignored_count, old.pub.seq)) {
        return OK; /* Held already, and from an earlier statement: it survives more rollbacks. */
    }
    TRY(mvcc__encode_lock(w->arena, &l, NULL, &stored));
    TRY(mvcc__emit_put(w, key, phys, stored));
    if (found) {
        mvcc__count_lock(w, key, old_len, -1);
    }
    mvcc__count_lock(w, key, stored.len, 1);
    return OK;
}
