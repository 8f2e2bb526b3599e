/*
 * blob.h -- immutable bytes on the heap that several owners of one shard share by counting.
 *
 * Log entries are blobs: the log, the messages to every peer and the apply queue point to one copy.
 * The count is not atomic: a blob never crosses threads.
 */
#pragma once

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "node/base/bytes.h"
#include "node/base/invariant.h"

struct blob {
    uint32_t refs;
    uint32_t len;
    uint8_t data[];
};

/* One reference, contents undefined; NULL when memory is out. */
static inline struct blob *blob_alloc(uint32_t len)
{
    struct blob *b = malloc(sizeof(*b) + len);

    if (b != NULL) {
        b->refs = 1;
        b->len = len;
    }
    return b;
}

static inline struct blob *blob_copy(struct bytes src)
{
    struct blob *b = src.len > UINT32_MAX ? NULL : blob_alloc((uint32_t)src.len);

    if (b != NULL && src.len > 0) {
        memcpy(b->data, src.ptr, src.len);
    }
    return b;
}

/* NULL stays NULL. */
static inline struct blob *blob_acquire(struct blob *b)
{
    if (b != NULL) {
        b->refs++;
    }
    return b;
}

/* Accepts NULL. */
static inline void blob_release(struct blob *b)
{
    if (b != NULL) {
        INVARIANT(b->refs > 0);
        if (--b->refs == 0) {
            free(b);
        }
    }
}

static inline struct bytes blob_bytes(const struct blob *b)
{
    return b == NULL ? BYTES_EMPTY : (struct bytes){b->data, b->len};
}
