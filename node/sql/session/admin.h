/*
 * admin.h -- what SQL wants done to ranges, by whoever embeds it: the server, or a test.
 *
 * Every call finds the replica that leads the range, on whichever node it is.
 *
 * Runs on: a fiber of the session's shard.
 */
#pragma once

#include <stdint.h>

#include "node/base/arena.h"
#include "node/base/bytes.h"
#include "node/base/status.h"

#define SQL_ADMIN_TIMEOUT_NS ((uint64_t)10000000000)

/* A range as SHOW RANGES prints it. */
struct sql_range {
    uint64_t id;
    struct bytes start;       /* Inclusive. */
    struct bytes end;         /* Exclusive. */
    uint32_t leaseholder;     /* Store; 0: nobody says that it leads it. */
    const uint32_t *replicas; /* Stores, voters first. */
    uint32_t replicas_count;
};

struct sql_admin {
    void *ctx;
    /* Cuts the range that holds `key` there; OK when there is a border already. Errors: of
     * store_split() but NOT_LEADER, and STATUS_UNAVAILABLE. */
    MAYYIELD struct status (*split)(void *ctx, struct bytes key);
    /* Hands the lease of a range to a store. Errors: of store_transfer_lease() likewise. */
    MAYYIELD struct status (*transfer)(void *ctx, uint64_t range, uint32_t store);
    /* Ranges that overlap [start, end), in order of keys, in the arena. */
    MAYYIELD struct status (*ranges)(void *ctx, struct bytes start, struct bytes end,
                                     struct arena *arena, struct sql_range **out, uint32_t *count);
};
