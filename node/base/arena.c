/*
 * arena.c -- a bump allocator with a limit, a parent to charge, and deferred calls.
 *
 * Chunks are malloc()ed, so that the address sanitizer sees each of them; inside a chunk nothing is
 * ever freed alone. Under the sanitizer every allocation larger than a page gets a chunk of its own.
 */
#include "node/base/arena.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/base/invariant.h"

#define CHUNK_FIRST ((size_t)1 << 10)
#define CHUNK_MAX   ((size_t)256 << 10)

struct arena_chunk {
    struct arena_chunk *older;
    size_t size; /* Of the whole allocation, header included. */
    _Alignas(64) uint8_t data[];
};

struct arena_defer {
    struct arena_defer *older;
    void (*fn)(void *arg);
    void *arg;
};

static bool charge(struct arena *a, size_t size)
{
    for (struct arena *p = a; p != NULL; p = p->parent) {
        if (size > p->limit_bytes - p->used_bytes) {
            return false;
        }
    }
    for (struct arena *p = a; p != NULL; p = p->parent) {
        p->used_bytes += size;
    }
    return true;
}

static void discharge(struct arena *a, size_t size)
{
    for (struct arena *p = a; p != NULL; p = p->parent) {
        INVARIANT(p->used_bytes >= size);
        p->used_bytes -= size;
    }
}

static void run_defers(struct arena *a)
{
    while (a->defers != NULL) {
        struct arena_defer *d = a->defers;

        a->defers = d->older;
        d->fn(d->arg);
    }
}

void arena_init(struct arena *a, size_t limit_bytes)
{
    *a = (struct arena){.limit_bytes = limit_bytes == 0 ? ARENA_LIMIT_DEFAULT : limit_bytes};
}

void arena_init_child(struct arena *a, struct arena *parent, size_t limit_bytes)
{
    arena_init(a, limit_bytes);
    a->parent = parent;
}

static void free_chunks_until(struct arena *a, struct arena_chunk *keep)
{
    struct arena_chunk *c = a->chunks;

    while (c != NULL) {
        struct arena_chunk *older = c->older;

        if (c != keep) {
            discharge(a, c->size);
            free(c);
        }
        c = older;
    }
    a->chunks = keep;
}

void arena_deinit(struct arena *a)
{
    run_defers(a);
    free_chunks_until(a, NULL);
    a->next = NULL;
    a->end = NULL;
}

void arena_reset(struct arena *a)
{
    struct arena_chunk *largest = NULL;

    run_defers(a);
    for (struct arena_chunk *c = a->chunks; c != NULL; c = c->older) {
        if (c->size <= CHUNK_MAX && (largest == NULL || c->size > largest->size)) {
            largest = c;
        }
    }
    free_chunks_until(a, largest);
    if (largest == NULL) {
        a->next = NULL;
        a->end = NULL;
        return;
    }
    largest->older = NULL;
    a->next = largest->data;
    a->end = (uint8_t *)largest + largest->size;
}

static bool add_chunk(struct arena *a, size_t need)
{
    size_t size = a->chunks == NULL ? CHUNK_FIRST : a->chunks->size * 2;
    struct arena_chunk *c = NULL;

    if (need > SIZE_MAX / 2) {
        return false;
    }
    size = size > CHUNK_MAX ? CHUNK_MAX : size;
    while (size < need + sizeof(struct arena_chunk)) {
        size *= 2;
    }
    if (!charge(a, size)) {
        return false;
    }
    c = aligned_alloc(64, (size + 63) & ~(size_t)63);
    if (c == NULL) {
        discharge(a, size);
        return false;
    }
    c->older = a->chunks;
    c->size = size;
    a->chunks = c;
    a->next = c->data;
    a->end = (uint8_t *)c + size;
    return true;
}

void *arena_alloc(struct arena *a, size_t size, size_t align)
{
    uintptr_t at = ((uintptr_t)a->next + (align - 1)) & ~(uintptr_t)(align - 1);

    INVARIANT(align != 0 && (align & (align - 1)) == 0 && align <= 64);
    if (a->next == NULL || at > (uintptr_t)a->end || size > (uintptr_t)a->end - at) {
        if (size > SIZE_MAX / 4 || !add_chunk(a, size + align)) {
            return NULL;
        }
        at = ((uintptr_t)a->next + (align - 1)) & ~(uintptr_t)(align - 1);
    }
    a->next = (uint8_t *)at + size; /* NOLINT(performance-no-int-to-ptr) */
    return a->next - size;
}

void *arena_calloc(struct arena *a, size_t count, size_t size)
{
    size_t total = 0;
    void *p = NULL;

    if (__builtin_mul_overflow(count, size, &total)) {
        return NULL;
    }
    p = arena_alloc(a, total, 16);
    if (p != NULL) {
        memset(p, 0, total);
    }
    return p;
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
    char *p = arena_alloc(a, n + 1, 1);

    if (p != NULL) {
        memcpy(p, s, n);
        p[n] = '\0';
    }
    return p;
}

char *arena_strdup(struct arena *a, const char *s)
{
    return arena_strndup(a, s, strlen(s));
}

const char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list args;
    va_list again;
    int n = 0;
    char *p = NULL;

    va_start(args, fmt);
    va_copy(again, args);
    n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n >= 0) {
        p = arena_alloc(a, (size_t)n + 1, 1);
    }
    if (p != NULL) {
        (void)vsnprintf(p, (size_t)n + 1, fmt, again);
    }
    va_end(again);
    return p == NULL ? "out of memory" : p;
}

struct status arena_defer(struct arena *a, void (*fn)(void *arg), void *arg)
{
    struct arena_defer *d = arena_alloc(a, sizeof(*d), _Alignof(struct arena_defer));

    if (d == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    *d = (struct arena_defer){.older = a->defers, .fn = fn, .arg = arg};
    a->defers = d;
    return OK;
}
