/*
 * key.c -- the encoder, and the two building blocks of all keys: ordered integers and escaped
 * strings.
 *
 * uvar: small ids take one byte, and the length of longer ones is part of the first byte, so that
 * more bytes always mean a larger value. esc: a zero byte becomes 00 FF and the string ends in 00
 * 01; a string that ends early therefore sorts before everything that continues, whatever follows
 * in the key. Both are canonical: one value, one encoding, and the decoders refuse any other, so
 * that equal keys and equal values are the same thing.
 */
#include "node/base/invariant.h"
#include "node/storage/key/key_internal.h"

void key_enc_init_buf(struct key_enc *e, struct buf *b)
{
    *e = (struct key_enc){.ptr = b->ptr == NULL ? NULL : b->ptr + b->len, .buf = b, .base = b->len};
}

uint8_t *key__grow(struct key_enc *e, size_t n)
{
    uint8_t *p = NULL;

    if (e->full) {
        return NULL;
    }
    if (e->buf == NULL) {
        if (n > e->cap - e->len) {
            e->full = true;
            return NULL;
        }
        p = e->ptr + e->len;
        e->len += n;
        return p;
    }
    if (!status_ok(buf_reserve(e->buf, n))) {
        e->full = true;
        return NULL;
    }
    e->buf->len += n;
    e->ptr = e->buf->ptr + e->base;
    e->len = e->buf->len - e->base;
    return e->ptr + e->len - n;
}

struct status key_enc_finish(struct key_enc *e, struct bytes *out)
{
    *out = BYTES_EMPTY;
    if (e->full) {
        return FAIL(STATUS_MEMORY, "key is too long");
    }
    *out = bytes_of(e->ptr, e->len);
    return OK;
}

void key__direct(struct key_enc *e, enum key_order o, size_t mark)
{
    if ((o & KEY_DESC) == 0 || e->full) {
        return;
    }
    for (size_t i = mark; i < e->len; i++) {
        e->ptr[i] = (uint8_t)~e->ptr[i];
    }
}

void key_enc_raw(struct key_enc *e, struct bytes b)
{
    uint8_t *p = key__grow(e, b.len);

    if (p != NULL && b.len > 0) {
        memcpy(p, b.ptr, b.len);
    }
}

void key_enc_byte(struct key_enc *e, uint8_t b)
{
    uint8_t *p = key__grow(e, 1);

    if (p != NULL) {
        p[0] = b;
    }
}

void key_enc_uvar(struct key_enc *e, uint64_t v)
{
    const unsigned n = v <= UVAR_SMALL_MAX ? 0 : key__bytes_of(v);
    uint8_t *p = key__grow(e, 1 + n);

    if (p == NULL) {
        return;
    }
    p[0] = n == 0 ? (uint8_t)(UVAR_ZERO + v) : (uint8_t)(UVAR_BYTES + n);
    for (unsigned i = 0; i < n; i++) {
        p[1 + i] = (uint8_t)(v >> (8 * (n - 1 - i)));
    }
}

uint64_t key__read_be(struct reader *r, uint8_t mask, unsigned n)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < n; i++) {
        v = v << 8 | key__read(r, mask);
    }
    return v;
}

uint64_t key_dec_uvar(struct reader *r)
{
    const uint8_t first = read_u8(r);
    uint64_t v = 0;
    unsigned n = 0;

    if (r->bad || first < UVAR_ZERO || first > UVAR_BYTES + 8) {
        r->bad = true;
        return 0;
    }
    if (first <= UVAR_ZERO + UVAR_SMALL_MAX) {
        return (uint64_t)(first - UVAR_ZERO);
    }
    n = (unsigned)(first - UVAR_BYTES);
    v = key__read_be(r, 0, n);
    r->bad = r->bad || v <= UVAR_SMALL_MAX || key__bytes_of(v) != n;
    return r->bad ? 0 : v;
}

void key_enc_escaped(struct key_enc *e, struct bytes b)
{
    size_t zeros = 0;
    uint8_t *p = NULL;

    for (size_t i = 0; i < b.len; i++) {
        zeros += b.ptr[i] == 0 ? 1 : 0;
    }
    p = key__grow(e, b.len + zeros + 2);
    if (p == NULL) {
        return;
    }
    if (zeros == 0 && b.len > 0) {
        memcpy(p, b.ptr, b.len);
        p += b.len;
    } else {
        for (size_t i = 0; i < b.len; i++) {
            *p++ = b.ptr[i];
            if (b.ptr[i] == ESC_BYTE) {
                *p++ = ESC_ZERO;
            }
        }
    }
    p[0] = ESC_BYTE;
    p[1] = ESC_TERM;
}

bool key__escaped_extent(const struct reader *r, uint8_t mask, size_t *raw_len, size_t *plain_len)
{
    const struct bytes b = r->rest;
    size_t plain = 0;
    size_t i = 0;

    while (i + 1 < b.len) {
        const uint8_t c = b.ptr[i] ^ mask;
        const uint8_t next = b.ptr[i + 1] ^ mask;

        if (c == ESC_BYTE && next == ESC_TERM) {
            *raw_len = i;
            *plain_len = plain;
            return true;
        }
        if (c == ESC_BYTE && next != ESC_ZERO) {
            return false;
        }
        i += c == ESC_BYTE ? 2 : 1;
        plain++;
    }
    return false;
}

struct bytes key__read_escaped(struct reader *r, uint8_t mask, struct arena *arena)
{
    size_t raw_len = 0;
    size_t plain_len = 0;
    struct bytes raw = BYTES_EMPTY;
    uint8_t *p = NULL;

    if (r->bad || !key__escaped_extent(r, mask, &raw_len, &plain_len)) {
        r->bad = true;
        return BYTES_EMPTY;
    }
    raw = read_bytes(r, raw_len + 2);
    if (r->bad || arena == NULL || plain_len == 0) {
        return BYTES_EMPTY;
    }
    p = arena_alloc(arena, plain_len, 1);
    if (p == NULL) {
        r->bad = true;
        return BYTES_EMPTY;
    }
    for (size_t i = 0, n = 0; n < plain_len; n++) {
        p[n] = raw.ptr[i] ^ mask;
        i += p[n] == ESC_BYTE ? 2 : 1;
    }
    return bytes_of(p, plain_len);
}

struct bytes key_dec_escaped(struct reader *r, struct arena *arena)
{
    return key__read_escaped(r, 0, arena);
}

void key_enc_version(struct key_enc *e, struct hts ts)
{
    uint8_t *p = key__grow(e, KEY_VERSION_SIZE);

    if (p != NULL) {
        key_version_put(p, ts);
    }
}
