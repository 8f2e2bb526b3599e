/*
 * ids.h -- ids that the compiler keeps apart. Zero is never a valid id.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    uint32_t v;
} node_id;

typedef struct {
    uint32_t v;
} store_id;

typedef struct {
    uint64_t v;
} range_id;

/* Never reused within a range. */
typedef struct {
    uint32_t v;
} replica_id;

/* 16 random bytes, RFC 4122 version 4. */
struct uuid {
    uint8_t b[16];
};

static inline bool uuid_eq(struct uuid a, struct uuid b)
{
    return memcmp(a.b, b.b, sizeof(a.b)) == 0;
}

static inline bool uuid_is_zero(struct uuid a)
{
    return uuid_eq(a, (struct uuid){{0}});
}
