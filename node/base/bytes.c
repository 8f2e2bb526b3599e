/*
 * bytes.c -- copies into arenas and a growing buffer with a limit.
 */
#include "node/base/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "node/base/arena.h"

#define BUF_FIRST_CAP 256u

struct status bytes_dup(struct arena *arena, struct bytes src, struct bytes *out)
{
    uint8_t *copy = NULL;

    if (src.len == 0) {
        *out = BYTES_EMPTY;
        return OK;
    }
    copy = arena_alloc(arena, src.len, 1);
    if (copy == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    memcpy(copy, src.ptr, src.len);
    *out = bytes_of(copy, src.len);
    return OK;
}

void buf_init(struct buf *b, size_t limit)
{
    *b = (struct buf){.limit = limit};
}

void buf_deinit(struct buf *b)
{
    free(b->ptr);
    *b = (struct buf){.limit = b->limit};
}

struct status buf_reserve(struct buf *b, size_t n)
{
    const size_t limit = b->limit == 0 ? BUF_LIMIT_DEFAULT : b->limit;
    size_t cap = b->cap == 0 ? BUF_FIRST_CAP : b->cap;
    uint8_t *grown = NULL;

    if (b->len > limit || n > limit - b->len) {
        return FAIL(STATUS_MEMORY, "buffer limit reached");
    }
    if (n <= b->cap - b->len) {
        return OK;
    }
    while (cap - b->len < n) {
        cap *= 2;
    }
    grown = realloc(b->ptr, cap);
    if (grown == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    b->ptr = grown;
    b->cap = cap;
    return OK;
}

struct status buf_append(struct buf *b, const void *src, size_t n)
{
    TRY(buf_reserve(b, n));
    if (n > 0) {
        memcpy(b->ptr + b->len, src, n);
    }
    b->len += n;
    return OK;
}

struct status buf_append_bytes(struct buf *b, struct bytes src)
{
    return buf_append(b, src.ptr, src.len);
}

struct status buf_append_str(struct buf *b, const char *s)
{
    return buf_append(b, s, strlen(s));
}

struct status buf_append_u8(struct buf *b, uint8_t v)
{
    return buf_append(b, &v, 1);
}

struct status buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list args;
    va_list again;
    int n = 0;
    struct status st = OK;

    va_start(args, fmt);
    va_copy(again, args);
    n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n < 0) {
        va_end(again);
        return FAIL(STATUS_INVALID, "bad format");
    }
    st = buf_reserve(b, (size_t)n + 1);
    if (status_ok(st)) {
        (void)vsnprintf((char *)b->ptr + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
    return st;
}
