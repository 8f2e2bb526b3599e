/*
 * bounds.c -- where keys end: successors, prefixes, the spans of a range, addresses.
 *
 * With versions behind every key the usual successor K|00 is wrong: K's own versions are longer and
 * sort behind it. Thirteen FF bytes exceed any version of twelve, and no storable key lies between,
 * because none extends K (rule PF).
 *
 * Locks on range-local keys (a split locks the local descriptor) have the user key 02 esc(anchor)..
 * inside, and so lie at 03 02 esc(anchor)..: a span of their own among those that a range owns. The
 * keys 03 04.. and above hold the locks on all other keys. Ranges start at KEY_MIN = 04, hence the
 * two never overlap.
 */
#include "node/base/invariant.h"
#include "node/storage/key/key_internal.h"

static const uint8_t after_suffix[KEY_AFTER_SIZE] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
                                                     0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};

void key_enc_after(struct key_enc *e, struct bytes key)
{
    key_enc_raw(e, key);
    key_enc_raw(e, bytes_of(after_suffix, sizeof(after_suffix)));
}

struct status key_after(struct arena *arena, struct bytes key, struct bytes *out)
{
    const size_t len = key.len + KEY_AFTER_SIZE;
    void *mem = arena_alloc(arena, len, 1);
    struct key_enc e;

    if (mem == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a key");
    }
    key_enc_init(&e, mem, len);
    key_enc_after(&e, key);
    return key_enc_finish(&e, out);
}

void key_enc_prefix_end(struct key_enc *e, struct bytes prefix)
{
    size_t n = prefix.len;
    uint8_t *p = NULL;

    while (n > 0 && prefix.ptr[n - 1] == 0xFF) {
        n--;
    }
    p = key__grow(e, n);
    if (p != NULL && n > 0) {
        memcpy(p, prefix.ptr, n);
        p[n - 1]++;
    }
}

struct status key_prefix_end(struct arena *arena, struct bytes prefix, struct bytes *out)
{
    void *mem = arena_alloc(arena, prefix.len + 1, 1);
    struct key_enc e;

    if (mem == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a key");
    }
    key_enc_init(&e, mem, prefix.len);
    key_enc_prefix_end(&e, prefix);
    return key_enc_finish(&e, out);
}

/* Length of `02 esc(anchor) term tag`, or 0 when the key is not that long. */
static size_t local_len(struct bytes key)
{
    const struct reader r = reader_of(bytes_skip(key, 1));
    size_t raw_len = 0;
    size_t plain_len = 0;

    if (!key__escaped_extent(&r, 0, &raw_len, &plain_len)) {
        return 0;
    }
    return 1 + raw_len + 2 < key.len ? 1 + raw_len + 2 + 1 : 0;
}

static bool local_is_versioned(struct bytes key, size_t len)
{
    return len > 0 && key.ptr[len - 1] == KEY_LOCAL_DESCRIPTOR;
}

bool key_is_versioned(struct bytes key)
{
    if (key.len == 0) {
        return false;
    }
    if (key.ptr[0] == KEY_PREFIX_LOCAL) {
        return local_is_versioned(key, local_len(key));
    }
    return key.ptr[0] >= KEY_PREFIX_META1;
}

static struct bytes without(struct bytes b, size_t suffix)
{
    return b.len > suffix ? bytes_of(b.ptr, b.len - suffix) : b;
}

struct bytes key_filter_prefix(struct bytes phys)
{
    if (phys.len == 0) {
        return phys;
    }
    switch (phys.ptr[0]) {
    case KEY_PREFIX_RANGE_ID:
        return phys;
    case KEY_PREFIX_LOCAL: {
        const size_t len = local_len(phys);

        return local_is_versioned(phys, len) && phys.len == len + KEY_VERSION_SIZE
                   ? bytes_of(phys.ptr, len)
                   : phys;
    }
    case KEY_PREFIX_LOCK:
        return phys.len > 1 + KEY_LOCK_SUFFIX ? without(phys, KEY_LOCK_SUFFIX) : phys;
    default:
        return without(phys, KEY_VERSION_SIZE);
    }
}

/* 0x02 or 0x03 0x02, then esc(bound) without a terminator: below every anchor at or above bound. */
static struct status escaped_bound(struct arena *arena, struct bytes lead, struct bytes bound,
                                   struct bytes *out)
{
    const size_t cap = lead.len + 2 * bound.len + 2;
    void *mem = arena_alloc(arena, cap, 1);
    struct key_enc e;

    if (mem == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a key");
    }
    key_enc_init(&e, mem, cap);
    key_enc_raw(&e, lead);
    key_enc_escaped(&e, bound);
    TRY(key_enc_finish(&e, out));
    out->len -= 2;
    return OK;
}

static struct status prefixed(struct arena *arena, uint8_t lead, struct bytes key,
                              struct bytes *out)
{
    uint8_t *p = arena_alloc(arena, key.len + 1, 1);

    if (p == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a key");
    }
    p[0] = lead;
    if (key.len > 0) {
        memcpy(p + 1, key.ptr, key.len);
    }
    *out = bytes_of(p, key.len + 1);
    return OK;
}

static struct status range_id_span(struct arena *arena, range_id r, struct key_span *out)
{
    uint8_t p[9] = {KEY_PREFIX_RANGE_ID};

    be64_put(p + 1, r.v);
    TRY(bytes_dup(arena, bytes_of(p, sizeof(p)), &out->start));
    return key_prefix_end(arena, out->start, &out->end);
}

struct status key_range_spans(struct arena *arena, range_id r, struct bytes start, struct bytes end,
                              struct key_span out[KEY_RANGE_SPANS])
{
    const struct bytes local = BYTES_LIT("\x02");
    const struct bytes local_lock = BYTES_LIT("\x03\x02");

    INVARIANT(bytes_cmp(start, KEY_MIN) >= 0);
    INVARIANT(bytes_cmp(start, end) < 0);
    INVARIANT(bytes_cmp(end, KEY_MAX) <= 0);
    TRY(range_id_span(arena, r, &out[0]));
    TRY(escaped_bound(arena, local, start, &out[1].start));
    TRY(escaped_bound(arena, local, end, &out[1].end));
    TRY(escaped_bound(arena, local_lock, start, &out[2].start));
    TRY(escaped_bound(arena, local_lock, end, &out[2].end));
    TRY(prefixed(arena, KEY_PREFIX_LOCK, start, &out[3].start));
    TRY(prefixed(arena, KEY_PREFIX_LOCK, end, &out[3].end));
    TRY(bytes_dup(arena, start, &out[4].start));
    return bytes_dup(arena, end, &out[4].end);
}

struct status key_address(struct arena *arena, struct bytes key, struct bytes *out)
{
    struct reader r;

    *out = key;
    if (key.len > 0 && key.ptr[0] == KEY_PREFIX_LOCK) {
        if (key.len <= 1 + KEY_LOCK_SUFFIX) {
            return FAIL(STATUS_CORRUPT, "lock key is too short");
        }
        key = bytes_of(key.ptr + 1, key.len - 1 - KEY_LOCK_SUFFIX);
        *out = key;
    }
    if (key.len == 0 || key.ptr[0] == KEY_PREFIX_RANGE_ID || key.ptr[0] == KEY_PREFIX_LOCK) {
        return FAIL(STATUS_INVALID, "key has no address");
    }
    if (key.ptr[0] != KEY_PREFIX_LOCAL) {
        return OK;
    }
    r = reader_of(bytes_skip(key, 1));
    *out = key_dec_escaped(&r, arena);
    return r.bad ? FAIL(STATUS_CORRUPT, "local key is damaged") : OK;
}
