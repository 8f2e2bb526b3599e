/*
 * engine.c -- the front of both engines: dispatch, argument checks, bounds.
 *
 * RocksDB's library asserts on misuse (moving an invalid iterator, inverted bounds) and would take
 * the process down. All such calls are caught here, once, for both implementations, and answered in
 * the same way; that is also what makes comparing the two in tests meaningful.
 *
 * Positions are cached in the base of the iterator: asking for key and value costs no call.
 */
#include "node/base/hash.h"
#include "node/base/invariant.h"
#include "node/storage/engine/engine_internal.h"

void engine_close(struct engine *e)
{
    if (e != NULL) {
        e->v->close(e);
    }
}

struct status engine_write(struct engine *e, const struct engine_batch *b, bool sync)
{
    return e->v->write(e, b, sync);
}

struct status engine_get(struct engine *e, enum engine_cf cf, struct bytes key,
                         enum engine_tier tier, struct arena *arena, struct bytes *out)
{
    INVARIANT((unsigned)cf < ENGINE_CF_COUNT);
    *out = BYTES_EMPTY;
    if (key.len == 0) {
        return FAIL(STATUS_NOT_FOUND, "no such key");
    }
    return e->v->get(e, cf, key, tier, arena, out);
}

struct status engine_snap_acquire(struct engine *e, struct engine_snap **out)
{
    *out = NULL;
    return e->v->snap_acquire(e, out);
}

void engine_snap_release(struct engine *e, struct engine_snap *s)
{
    if (s != NULL) {
        e->v->snap_release(e, s);
    }
}

void engine_get_stats(struct engine *e, struct engine_stats *out)
{
    memset(out, 0, sizeof(*out));
    e->v->get_stats(e, out);
}

/* ---- iterators ------------------------------------------------------------------------------- */

static struct bytes copy_to(uint8_t *dst, struct bytes src)
{
    if (src.len > 0) {
        memcpy(dst, src.ptr, src.len);
    }
    return bytes_of(dst, src.len);
}

void engine__iter_init(struct engine_iter *it, const struct engine_iter_vtable *v,
                       const struct engine_iter_options *o, uint8_t *bounds)
{
    it->v = v;
    it->prefix = o->prefix;
    it->lower = copy_to(bounds, o->lower);
    it->upper = copy_to(bounds + o->lower.len, o->upper);
    it->st = OK;
}

struct status engine_iter_open(struct engine *e, const struct engine_iter_options *o,
                               struct engine_iter **out)
{
    INVARIANT((unsigned)o->cf < ENGINE_CF_COUNT);
    *out = NULL;
    if (o->lower.len > ENGINE_KEY_MAX || o->upper.len > ENGINE_KEY_MAX) {
        return FAIL(STATUS_INVALID, "iterator bound is too long");
    }
    if (o->prefix && o->cf != ENGINE_CF_STATE) {
        return FAIL(STATUS_INVALID, "prefix iterators are for replicated keys");
    }
    return e->v->iter_open(e, o, out);
}

void engine_iter_close(struct engine_iter *it)
{
    if (it != NULL) {
        it->v->close(it);
    }
}

static void invalidate(struct engine_iter *it, struct status st)
{
    it->valid = false;
    it->key = BYTES_EMPTY;
    it->value = BYTES_EMPTY;
    it->st = st;
}

/* An empty or inverted span holds nothing; the library need not be asked. */
static bool nothing_within(const struct engine_iter *it)
{
    return it->upper.len > 0 && bytes_cmp(it->lower, it->upper) >= 0;
}

static bool backwards_refused(struct engine_iter *it)
{
    if (it->prefix) {
        invalidate(it, FAIL(STATUS_INVALID, "prefix iterators only go forward"));
    }
    return it->prefix;
}

void engine_iter_seek(struct engine_iter *it, struct bytes key)
{
    if (nothing_within(it) || (it->upper.len > 0 && bytes_cmp(key, it->upper) >= 0)) {
        invalidate(it, OK);
        return;
    }
    it->v->seek(it, bytes_cmp(key, it->lower) < 0 ? it->lower : key);
}

void engine_iter_seek_prev(struct engine_iter *it, struct bytes key)
{
    if (backwards_refused(it)) {
        return;
    }
    if (nothing_within(it) || bytes_cmp(key, it->lower) < 0) {
        invalidate(it, OK);
        return;
    }
    if (it->upper.len > 0 && bytes_cmp(key, it->upper) >= 0) {
        it->v->seek_last(it);
        return;
    }
    it->v->seek_prev(it, key);
}

void engine_iter_seek_first(struct engine_iter *it)
{
    if (it->prefix) {
        invalidate(it, FAIL(STATUS_INVALID, "prefix iterators need a key to seek"));
        return;
    }
    if (nothing_within(it)) {
        invalidate(it, OK);
        return;
    }
    it->v->seek_first(it);
}

void engine_iter_seek_last(struct engine_iter *it)
{
    if (backwards_refused(it)) {
        return;
    }
    if (nothing_within(it)) {
        invalidate(it, OK);
        return;
    }
    it->v->seek_last(it);
}

void engine_iter_next(struct engine_iter *it)
{
    if (it->valid) {
        it->v->forward(it);
    }
}

void engine_iter_prev(struct engine_iter *it)
{
    if (it->valid && !backwards_refused(it)) {
        it->v->backward(it);
    }
}

bool engine_iter_valid(const struct engine_iter *it)
{
    return it->valid;
}

struct status engine_iter_status(const struct engine_iter *it)
{
    return it->st;
}

struct bytes engine_iter_key(const struct engine_iter *it)
{
    return it->key;
}

struct bytes engine_iter_value(const struct engine_iter *it)
{
    return it->value;
}

/* ---- digest ---------------------------------------------------------------------------------- */

struct status engine_digest(struct engine *e, const struct engine_snap *snap, struct bytes start,
                            struct bytes end, uint64_t *out)
{
    const struct engine_iter_options o = {
        .cf = ENGINE_CF_STATE, .lower = start, .upper = end, .snap = snap};
    struct engine_iter *it = NULL;
    struct status st = OK;
    uint64_t digest = 0;

    *out = 0;
    TRY_OUT(engine_iter_open(e, &o, &it));
    for (engine_iter_seek_first(it); engine_iter_valid(it); engine_iter_next(it)) {
        /* Each hash seeds the next: order and the border between key and value count. */
        digest = hash64(it->key, digest);
        digest = hash64(it->value, digest + it->key.len);
    }
    TRY_OUT(engine_iter_status(it));
    *out = digest;
out:
    engine_iter_close(it);
    return st;
}
