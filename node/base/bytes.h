/*
 * bytes.h -- borrowed views of bytes, and a bounded growing buffer.
 *
 * A `struct bytes` owns nothing: keep it beyond the call only after bytes_dup(). A `struct buf`
 * owns heap memory, doubles up to its limit and is freed by buf_deinit().
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "node/base/status.h"

struct arena;

struct bytes {
    const uint8_t *ptr; /* May be NULL when len is 0. */
    size_t len;
};

#define BYTES_EMPTY    ((struct bytes){(const uint8_t *)0, 0})
#define BYTES_LIT(lit) ((struct bytes){(const uint8_t *)(lit), sizeof(lit) - 1})

static inline struct bytes bytes_of(const void *ptr, size_t len)
{
    return (struct bytes){(const uint8_t *)ptr, len};
}

static inline struct bytes bytes_str(const char *s)
{
    return (struct bytes){(const uint8_t *)s, strlen(s)};
}

/* memcmp order; a prefix sorts before what extends it. Negative, 0 or positive. */
static inline int bytes_cmp(struct bytes a, struct bytes b)
{
    const size_t n = a.len < b.len ? a.len : b.len;
    const int c = n == 0 ? 0 : memcmp(a.ptr, b.ptr, n);

    if (c != 0) {
        return c;
    }
    return a.len == b.len ? 0 : (a.len < b.len ? -1 : 1);
}

static inline bool bytes_eq(struct bytes a, struct bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool bytes_starts_with(struct bytes b, struct bytes prefix)
{
    return b.len >= prefix.len && (prefix.len == 0 || memcmp(b.ptr, prefix.ptr, prefix.len) == 0);
}

static inline struct bytes bytes_skip(struct bytes b, size_t n)
{
    return (struct bytes){b.ptr + n, b.len - n};
}

/* Copies into the arena. Errors: STATUS_MEMORY. */
NOYIELD NODISCARD struct status bytes_dup(struct arena *arena, struct bytes src, struct bytes *out);

/* A buffer that grows up to limit bytes; {0} plus a limit is a valid empty one. */
struct buf {
    uint8_t *ptr;
    size_t len;
    size_t cap;
    size_t limit; /* 0 means BUF_LIMIT_DEFAULT. */
};

#define BUF_LIMIT_DEFAULT ((size_t)64 << 20)

NOYIELD void buf_init(struct buf *b, size_t limit);
NOYIELD void buf_deinit(struct buf *b); /* Also leaves a valid empty buffer. */

/* Makes room for n more bytes behind len. Errors: STATUS_MEMORY when the limit would be passed. */
NOYIELD NODISCARD struct status buf_reserve(struct buf *b, size_t n);
NOYIELD NODISCARD struct status buf_append(struct buf *b, const void *src, size_t n);
NOYIELD NODISCARD struct status buf_append_bytes(struct buf *b, struct bytes src);
NOYIELD NODISCARD struct status buf_append_str(struct buf *b, const char *s);
NOYIELD NODISCARD struct status buf_append_u8(struct buf *b, uint8_t v);
NOYIELD NODISCARD struct status buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);

static inline struct bytes buf_bytes(const struct buf *b)
{
    return (struct bytes){b->ptr, b->len};
}

static inline void buf_clear(struct buf *b)
{
    b->len = 0;
}
