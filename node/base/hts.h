/*
 * hts.h -- timestamps: struct hts is any MVCC timestamp, struct hclock a reading of some node's clock.
 *
 * Only a struct hclock may move a clock forward; that two types exist makes the compiler enforce it
 * (a future MVCC timestamp must never drag a clock along). Order: wall, then logical.
 *
 * Units: wall in nanoseconds since the Unix epoch; logical counts within one wall reading.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/attributes.h"

struct hts {
    uint64_t wall;
    uint32_t logical;
};

struct hclock {
    uint64_t wall;
    uint32_t logical;
};

#define HTS_ZERO ((struct hts){0, 0})
#define HTS_MAX  ((struct hts){UINT64_MAX, UINT32_MAX})

static inline int hts_cmp(struct hts a, struct hts b)
{
    if (a.wall != b.wall) {
        return a.wall < b.wall ? -1 : 1;
    }
    return a.logical == b.logical ? 0 : (a.logical < b.logical ? -1 : 1);
}

static inline bool hts_less(struct hts a, struct hts b)
{
    return hts_cmp(a, b) < 0;
}

static inline bool hts_less_eq(struct hts a, struct hts b)
{
    return hts_cmp(a, b) <= 0;
}

static inline bool hts_eq(struct hts a, struct hts b)
{
    return hts_cmp(a, b) == 0;
}

static inline bool hts_is_zero(struct hts a)
{
    return a.wall == 0 && a.logical == 0;
}

static inline struct hts hts_max(struct hts a, struct hts b)
{
    return hts_less(a, b) ? b : a;
}

static inline struct hts hts_min(struct hts a, struct hts b)
{
    return hts_less(a, b) ? a : b;
}

/* The next representable timestamp; HTS_MAX stays. */
static inline struct hts hts_next(struct hts a)
{
    if (a.logical == UINT32_MAX) {
        return a.wall == UINT64_MAX ? a : (struct hts){a.wall + 1, 0};
    }
    return (struct hts){a.wall, a.logical + 1};
}

/* The previous representable timestamp; HTS_ZERO stays. */
static inline struct hts hts_prev(struct hts a)
{
    if (a.logical > 0) {
        return (struct hts){a.wall, a.logical - 1};
    }
    return a.wall == 0 ? a : (struct hts){a.wall - 1, UINT32_MAX};
}

/* `ns` later, logical kept; stops at the largest wall. */
static inline struct hts hts_add_ns(struct hts a, uint64_t ns)
{
    return (struct hts){a.wall > UINT64_MAX - ns ? UINT64_MAX : a.wall + ns, a.logical};
}

static inline struct hts hts_ms(uint64_t ms)
{
    return (struct hts){ms * 1000000u, 0};
}

static inline struct hts hclock_hts(struct hclock c)
{
    return (struct hts){c.wall, c.logical};
}
