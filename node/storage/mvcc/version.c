/*
 * version.c -- the stored forms of versions and locks.
 *
 * A version's value: flags(1) [local_ts(12)] [checksum(4)] payload. The checksum covers the user
 * key too: a block that the engine returns for the wrong key is noticed. It leaves out the
 * timestamp, because an intent moves when it is pushed or committed. The local timestamp is stored
 * only when it is below the version's: equal ones say nothing new.
 *
 * A lock's value (strength and transaction are in its key):
 *   form(1) iso(1) epoch seq priority (varints) write_ts(12) min_ts(12) anchor count history...
 * The history holds what the transaction had written at this key before in the same epoch, oldest
 * first, so that rolling back to a savepoint finds the value as of then.
 */
#include "node/base/hash.h"
#include "node/base/invariant.h"
#include "node/storage/mvcc/mvcc_internal.h"

#define LOCK_FORM 1

static uint32_t checksum(struct bytes key, struct bytes payload)
{
    return (uint32_t)hash64(payload, hash64(key, 0));
}

static struct hts read_hts(struct reader *r)
{
    const uint64_t wall = read_be64(r);

    return (struct hts){wall, read_be32(r)};
}

static struct status append_hts(struct buf *b, struct hts ts)
{
    TRY(buf_append_be64(b, ts.wall));
    return buf_append_be32(b, ts.logical);
}

struct status mvcc_version_decode(struct bytes key, struct hts ts, struct bytes stored,
                                  struct mvcc_version *out)
{
    struct reader r = reader_of(stored);
    uint32_t sum = 0;

    out->flags = read_u8(&r);
    out->local_ts = (out->flags & MVCC_FLAG_LOCAL_TS) != 0 ? read_hts(&r) : ts;
    sum = (out->flags & MVCC_FLAG_CHECKSUM) != 0 ? read_be32(&r) : 0;
    out->payload = r.rest;
    if (r.bad || (out->flags & ~MVCC_FLAG_ALL) != 0) {
        return FAIL(STATUS_CORRUPT, "header of a version is damaged");
    }
    if ((out->flags & MVCC_FLAG_TOMBSTONE) != 0 && out->payload.len > 0) {
        return FAIL(STATUS_CORRUPT, "tombstone carries a value");
    }
    if ((out->flags & MVCC_FLAG_CHECKSUM) != 0 && sum != checksum(key, out->payload)) {
        return FAIL(STATUS_CORRUPT, "checksum of a version does not match");
    }
    return OK;
}

struct status mvcc_version_encode(struct buf *b, struct bytes key, struct hts ts,
                                  const struct mvcc_version *v)
{
    const bool local = !hts_is_zero(v->local_ts) && hts_less(v->local_ts, ts);
    const unsigned keep = MVCC_FLAG_TOMBSTONE | MVCC_FLAG_OMIT_CDC | MVCC_FLAG_IMPORTED;
    const uint8_t flags =
        (uint8_t)((v->flags & keep) | MVCC_FLAG_CHECKSUM | (local ? MVCC_FLAG_LOCAL_TS : 0u));

    INVARIANT((v->flags & MVCC_FLAG_TOMBSTONE) == 0 || v->payload.len == 0);
    TRY(buf_append_u8(b, flags));
    if (local) {
        TRY(append_hts(b, v->local_ts));
    }
    TRY(buf_append_be32(b, checksum(key, v->payload)));
    return buf_append_bytes(b, v->payload);
}

/* ---- locks ----------------------------------------------------------------------------------- */

bool mvcc__history_next(struct reader *rest, struct mvcc__old *out)
{
    uint64_t seq = 0;
    uint8_t tombstone = 0;

    if (rest->bad || rest->rest.len == 0) {
        return false;
    }
    seq = read_varint(rest);
    tombstone = read_u8(rest);
    out->seq = (uint32_t)seq;
    out->tombstone = tombstone != 0;
    out->value = read_lp_bytes(rest);
    rest->bad = rest->bad || seq > UINT32_MAX || tombstone > 1;
    return !rest->bad;
}

struct status mvcc__history_append(struct buf *b, const struct mvcc__old *o)
{
    TRY(buf_append_varint(b, o->seq));
    TRY(buf_append_u8(b, o->tombstone ? 1 : 0));
    return buf_append_lp(b, o->value);
}

/* The entries are as many as promised and in order. */
static bool history_is_whole(const struct mvcc__lock *l)
{
    struct reader r = reader_of(l->history);
    struct mvcc__old o = {.seq = 0};
    uint32_t count = 0;
    uint32_t last = 0;

    while (mvcc__history_next(&r, &o)) {
        if (count > 0 && o.seq <= last) {
            return false;
        }
        last = o.seq;
        count++;
    }
    return !r.bad && count == l->history_count && (count == 0 || last < l->pub.seq);
}

static uint32_t read_u32(struct reader *r)
{
    const uint64_t v = read_varint(r);

    r->bad = r->bad || v > UINT32_MAX;
    return (uint32_t)v;
}

struct status mvcc__lock_decode(struct bytes lock_key, struct bytes stored, struct mvcc__lock *out)
{
    struct reader r = reader_of(stored);
    uint8_t strength = 0;
    bool good = key_split_lock(lock_key, &out->pub.key, &strength, &out->pub.txn_id);

    good = good && strength >= MVCC_SHARED && strength <= MVCC_INTENT;
    good = read_u8(&r) == LOCK_FORM && good;
    out->pub.strength = (enum mvcc_strength)strength;
    out->pub.iso = read_u8(&r);
    out->pub.epoch = read_u32(&r);
    out->pub.seq = read_u32(&r);
    out->pub.priority = read_u32(&r);
    out->pub.write_ts = read_hts(&r);
    out->pub.min_ts = read_hts(&r);
    out->pub.anchor_key = read_lp_bytes(&r);
    out->history_count = read_u32(&r);
    out->history = r.rest;
    if (!good || r.bad || !history_is_whole(out)) {
        return FAIL(STATUS_CORRUPT, "lock is damaged");
    }
    return OK;
}

struct status mvcc_lock_decode(struct bytes lock_key, struct bytes stored, struct mvcc_lock *out)
{
    struct mvcc__lock l;

    TRY(mvcc__lock_decode(lock_key, stored, &l));
    *out = l.pub;
    return OK;
}

struct status mvcc__lock_encode(struct buf *b, const struct mvcc__lock *l)
{
    TRY(buf_append_u8(b, LOCK_FORM));
    TRY(buf_append_u8(b, l->pub.iso));
    TRY(buf_append_varint(b, l->pub.epoch));
    TRY(buf_append_varint(b, l->pub.seq));
    TRY(buf_append_varint(b, l->pub.priority));
    TRY(append_hts(b, l->pub.write_ts));
    TRY(append_hts(b, l->pub.min_ts));
    TRY(buf_append_lp(b, l->pub.anchor_key));
    TRY(buf_append_varint(b, l->history_count));
    return buf_append_bytes(b, l->history);
}

bool mvcc__seq_ignored(const struct mvcc_seq_range *ignored, uint32_t count, uint32_t seq)
{
    for (uint32_t i = 0; i < count; i++) {
        if (seq >= ignored[i].from && seq <= ignored[i].to) {
            return true;
        }
    }
    return false;
}

bool mvcc__history_find(const struct mvcc__lock *l, uint32_t seq_max,
                        const struct mvcc_seq_range *ignored, uint32_t count, struct mvcc__old *out)
{
    struct reader r = reader_of(l->history);
    struct mvcc__old o;
    bool found = false;

    while (mvcc__history_next(&r, &o)) {
        if (o.seq <= seq_max && !mvcc__seq_ignored(ignored, count, o.seq)) {
            *out = o;
            found = true;
        }
    }
    return found;
}

struct status mvcc__lock_dup(struct arena *arena, const struct mvcc_lock *l, struct mvcc_lock *out)
{
    *out = *l;
    TRY(bytes_dup(arena, l->key, &out->key));
    return bytes_dup(arena, l->anchor_key, &out->anchor_key);
}

struct status mvcc__conflict_add(struct arena *arena, const struct mvcc_lock *l,
                                 struct mvcc_conflict *c, bool *full)
{
    if (c->locks == NULL) {
        c->locks = ARENA_ARRAY(arena, struct mvcc_lock, MVCC_LOCKS_MAX);
        if (c->locks == NULL) {
            return FAIL(STATUS_MEMORY, "no memory for locks in the way");
        }
    }
    if (c->lock_count < MVCC_LOCKS_MAX) {
        TRY(mvcc__lock_dup(arena, l, &c->locks[c->lock_count]));
        c->lock_count++;
    }
    if (c->kind == MVCC_CONFLICT_NONE) {
        c->kind = MVCC_CONFLICT_LOCKED;
        c->key = c->locks[0].key;
        c->ts = l->write_ts;
    }
    *full = c->lock_count == MVCC_LOCKS_MAX;
    return OK;
}

bool mvcc__excludes(enum mvcc_strength held, enum mvcc_strength want)
{
    switch (want) {
    case MVCC_NONE:
        return held == MVCC_INTENT;
    case MVCC_SHARED:
        return held != MVCC_SHARED;
    case MVCC_EXCLUSIVE:
    case MVCC_INTENT:
        return true;
    }
    return true;
}

/* ---- physical keys --------------------------------------------------------------------------- */

struct status mvcc__check_key(struct bytes key)
{
    if (key.len == 0 || key.len > MVCC_KEY_MAX) {
        return FAIL(STATUS_INVALID, "key is empty or too long");
    }
    return OK;
}

static struct status room(struct arena *arena, uint8_t stack[MVCC_STACK_KEY], size_t len,
                          struct key_enc *e)
{
    uint8_t *mem = len <= MVCC_STACK_KEY ? stack : arena_alloc(arena, len, 1);

    if (mem == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a key");
    }
    key_enc_init(e, mem, len);
    return OK;
}

struct status mvcc__version_key(struct arena *arena, uint8_t stack[MVCC_STACK_KEY],
                                struct bytes key, struct hts ts, struct bytes *out)
{
    struct key_enc e;

    TRY(room(arena, stack, key.len + KEY_VERSION_SIZE, &e));
    key_enc_raw(&e, key);
    key_enc_version(&e, ts);
    return key_enc_finish(&e, out);
}

struct status mvcc__lock_key(struct arena *arena, uint8_t stack[MVCC_STACK_KEY], struct bytes key,
                             enum mvcc_strength strength, struct uuid txn, struct bytes *out)
{
    struct key_enc e;

    TRY(room(arena, stack, 1 + key.len + KEY_LOCK_SUFFIX, &e));
    key_enc_lock(&e, key, (uint8_t)strength, txn);
    return key_enc_finish(&e, out);
}

struct status mvcc__lock_bound(struct arena *arena, struct bytes bound, struct bytes *out)
{
    uint8_t *p = arena_alloc(arena, bound.len + 1, 1);

    if (p == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a key");
    }
    p[0] = KEY_PREFIX_LOCK;
    if (bound.len > 0) {
        memcpy(p + 1, bound.ptr, bound.len);
    }
    *out = bytes_of(p, bound.len + 1);
    return OK;
}
