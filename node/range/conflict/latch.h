/*
 * latch.h -- order among requests of one range that touch the same keys.
 *
 * A writer holds latches on its keys from before it evaluates until its command has applied; writers
 * of one key take turns in order of arrival. A reader at timestamp T waits only for writers that have
 * evaluated at or below T and are not applied yet: whatever evaluates later gets a higher timestamp.
 * Nobody who holds a latch and has evaluated waits for another latch, so there are no cycles.
 *
 * Owner:   one struct latches per replica.
 * Source:  the idea is CockroachDB's spanlatch; one thread per range makes it a list and a hash.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/bytes.h"
#include "node/base/hts.h"
#include "node/base/list.h"
#include "node/base/status.h"
#include "node/runtime/fiber.h"

#define LATCH_BUCKETS    1024u
#define LATCH_GUARDS_MAX 20000u

struct latch_guard;

/* One key of a writer. */
struct latch_point {
    struct list bucket_link;
    struct latch_guard *guard;
    struct bytes key;
    uint64_t hash;
};

/* Latches of one write request. Embedded in its owner; the points array is the owner's memory and
 * both live until latch_release(). */
struct latch_guard {
    struct list link; /* Of all guards, in order of arrival. */
    uint64_t sequence;
    struct latch_point *points;
    uint32_t count;
    uint32_t blockers; /* Earlier guards' points on our keys that are not released. */
    bool evaluated;
    struct hts ts; /* Of the writes, once evaluated. */
    struct completion ready;
    struct wait_queue readers;
};

struct latches {
    struct list *buckets; /* LATCH_BUCKETS, while used; NULL: no guard has come yet. */
    struct list guards;
    uint32_t guards_count;
    uint64_t next_sequence;
};

/* Allocates nothing before the first guard. */
NOYIELD void latches_init(struct latches *l);
/* Gives memory back, unless there are guards. */
NOYIELD void latches_trim(struct latches *l);

/*
 * Takes latches on keys[count], waiting for earlier writers of the same keys.
 * Errors:  STATUS_OVERLOADED  LATCH_GUARDS_MAX requests are under way; STATUS_MEMORY;
 *          STATUS_TIMEOUT, STATUS_CANCELLED: nothing is held then.
 */
MAYYIELD NODISCARD struct status latch_acquire(struct latches *l, struct latch_guard *g,
                                               uint64_t deadline_ns);
/* The writes were evaluated at this timestamp: from now on readers at or above it wait. */
NOYIELD void latch_evaluated(struct latch_guard *g, struct hts ts);
/* The effects are visible, or certainly will never be. Wakes who waits. */
NOYIELD void latch_release(struct latches *l, struct latch_guard *g);

/* True when a reader of [start, end) (end empty: of one key) at ts must wait for someone else than
 * `self` (may be NULL); latch_wait_read() waits for all such. */
NOYIELD bool latch_blocks_read(struct latches *l, const struct latch_guard *self,
                               struct bytes start, struct bytes end, struct hts ts);
MAYYIELD NODISCARD struct status latch_wait_read(struct latches *l, const struct latch_guard *self,
                                                 struct bytes start, struct bytes end,
                                                 struct hts ts, uint64_t deadline_ns);
