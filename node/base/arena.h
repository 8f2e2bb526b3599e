/*
 * arena.h -- memory that dies together.
 *
 * One arena per request, statement or batch; freed or reset as a whole. What is not memory but dies
 * with the request hangs on it by arena_defer(). An arena has a limit; passing it is an error of the
 * caller's request (STATUS_MEMORY), not a crash. Chunks double from 1 KiB up to 256 KiB.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "node/base/bytes.h"
#include "node/base/status.h"

struct arena_chunk;
struct arena_defer;

/* Embedded in its owner; the fields belong to arena.c. */
struct arena {
    struct arena_chunk *chunks; /* Newest first. */
    struct arena_defer *defers; /* Newest first. */
    uint8_t *next;
    uint8_t *end;
    size_t used_bytes;  /* Sum of the chunks' sizes. */
    size_t limit_bytes; /* used_bytes never passes it. */
    struct arena *parent;
};

#define ARENA_LIMIT_DEFAULT ((size_t)64 << 20)

/* limit_bytes 0 means ARENA_LIMIT_DEFAULT. Allocates nothing. */
NOYIELD void arena_init(struct arena *a, size_t limit_bytes);

/* A child is charged to its parent as well; it must be deinitialised before the parent is reset. */
NOYIELD void arena_init_child(struct arena *a, struct arena *parent, size_t limit_bytes);

/* Runs the deferred calls, newest first, and frees everything. The arena may be used again. */
NOYIELD void arena_deinit(struct arena *a);

/* Like arena_deinit() but keeps the largest chunk, so that a warm arena calls no allocator. */
NOYIELD void arena_reset(struct arena *a);

/* `size` bytes aligned to `align` (a power of two up to 64); not zeroed. NULL at the limit. */
NOYIELD NODISCARD void *arena_alloc(struct arena *a, size_t size, size_t align);

/* count * size zeroed bytes, aligned for any type; NULL at the limit or on overflow. */
NOYIELD NODISCARD void *arena_calloc(struct arena *a, size_t count, size_t size);

#define ARENA_NEW(a, type)      ((type *)arena_calloc((a), 1, sizeof(type)))
#define ARENA_ARRAY(a, type, n) ((type *)arena_calloc((a), (n), sizeof(type)))

/* Zero-terminated copies; NULL at the limit. */
NOYIELD NODISCARD char *arena_strdup(struct arena *a, const char *s);
NOYIELD NODISCARD char *arena_strndup(struct arena *a, const char *s, size_t n);

/* Formatted text in the arena. At the limit: the literal "out of memory", never NULL. */
NOYIELD const char *arena_printf(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Calls fn(arg) when the arena is reset or deinitialised. Errors: STATUS_MEMORY; fn not kept. */
NOYIELD NODISCARD struct status arena_defer(struct arena *a, void (*fn)(void *arg), void *arg);
