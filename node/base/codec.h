/*
 * codec.h -- bytes of integers with explicit order, and varints.
 *
 * Writers take a buffer that is large enough; readers take a cursor that checks its bounds.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "node/base/bytes.h"

#define VARINT_MAX 10 /* Bytes of the longest LEB128 uint64. */

static inline void be16_put(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static inline void be32_put(uint8_t *p, uint32_t v)
{
    v = __builtin_bswap32(v);
    memcpy(p, &v, 4);
}

static inline void be64_put(uint8_t *p, uint64_t v)
{
    v = __builtin_bswap64(v);
    memcpy(p, &v, 8);
}

static inline uint16_t be16_get(const uint8_t *p)
{
    return (uint16_t)((p[0] << 8) | p[1]);
}

static inline uint32_t be32_get(const uint8_t *p)
{
    uint32_t v = 0;

    memcpy(&v, p, 4);
    return __builtin_bswap32(v);
}

static inline uint64_t be64_get(const uint8_t *p)
{
    uint64_t v = 0;

    memcpy(&v, p, 8);
    return __builtin_bswap64(v);
}

/* LEB128 into p[VARINT_MAX]; returns the bytes written. */
static inline size_t varint_put(uint8_t *p, uint64_t v)
{
    size_t n = 0;

    while (v >= 0x80) {
        p[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    p[n++] = (uint8_t)v;
    return n;
}

/* Cursor over foreign bytes: a failed read leaves `bad` set, and every later read fails too. */
struct reader {
    struct bytes rest;
    bool bad;
};

static inline struct reader reader_of(struct bytes b)
{
    return (struct reader){b, false};
}

static inline bool reader_take(struct reader *r, size_t n, const uint8_t **out)
{
    if (r->bad || n > r->rest.len) {
        r->bad = true;
        *out = NULL;
        return false;
    }
    *out = r->rest.ptr;
    if (n > 0) {
        r->rest = bytes_skip(r->rest, n);
    }
    return true;
}

static inline uint8_t read_u8(struct reader *r)
{
    const uint8_t *p = NULL;

    return reader_take(r, 1, &p) ? p[0] : 0;
}

static inline uint16_t read_be16(struct reader *r)
{
    const uint8_t *p = NULL;

    return reader_take(r, 2, &p) ? be16_get(p) : 0;
}

static inline uint32_t read_be32(struct reader *r)
{
    const uint8_t *p = NULL;

    return reader_take(r, 4, &p) ? be32_get(p) : 0;
}

static inline uint64_t read_be64(struct reader *r)
{
    const uint8_t *p = NULL;

    return reader_take(r, 8, &p) ? be64_get(p) : 0;
}

static inline uint64_t read_varint(struct reader *r)
{
    uint64_t v = 0;
    unsigned shift = 0;

    for (;;) {
        const uint8_t b = read_u8(r);

        if (r->bad) {
            return 0;
        }
        if (shift == 63 && b > 1) {
            r->bad = true;
            return 0;
        }
        v |= (uint64_t)(b & 0x7F) << shift;
        if ((b & 0x80) == 0) {
            return v;
        }
        shift += 7;
        if (shift > 63) {
            r->bad = true;
            return 0;
        }
    }
}

/* n bytes, borrowed. */
static inline struct bytes read_bytes(struct reader *r, size_t n)
{
    const uint8_t *p = NULL;

    return reader_take(r, n, &p) ? bytes_of(p, n) : BYTES_EMPTY;
}

/* A varint length, then that many bytes, borrowed. */
static inline struct bytes read_lp_bytes(struct reader *r)
{
    const uint64_t n = read_varint(r);

    if (!r->bad && n > r->rest.len) {
        r->bad = true;
    }
    return r->bad ? BYTES_EMPTY : read_bytes(r, (size_t)n);
}

static inline struct status buf_append_varint(struct buf *b, uint64_t v)
{
    uint8_t tmp[VARINT_MAX];

    return buf_append(b, tmp, varint_put(tmp, v));
}

static inline struct status buf_append_be32(struct buf *b, uint32_t v)
{
    uint8_t tmp[4];

    be32_put(tmp, v);
    return buf_append(b, tmp, sizeof(tmp));
}

static inline struct status buf_append_be64(struct buf *b, uint64_t v)
{
    uint8_t tmp[8];

    be64_put(tmp, v);
    return buf_append(b, tmp, sizeof(tmp));
}

static inline struct status buf_append_lp(struct buf *b, struct bytes v)
{
    TRY(buf_append_varint(b, v.len));
    return buf_append_bytes(b, v);
}
