/*
 * hlc.h -- the hybrid logical clock of a node's shard.
 *
 * Gives timestamps that follow causality and stay within max_offset of true time as long as every
 * node's clock does. Only readings of other clocks (struct hclock) forward it, never MVCC timestamps.
 * The clock never runs past a persisted upper bound, so that it is strictly increasing over restarts.
 *
 * Source: Kulkarni et al., "Logical Physical Clocks" (2014); protocol rules in node/runtime/README.md.
 */
#pragma once

#include <stdint.h>

#include "node/base/hts.h"
#include "node/base/status.h"
#include "node/runtime/env.h"

#define HLC_MAX_OFFSET_NS_DEFAULT 250000000u

struct hlc {
    struct env *env;
    struct hclock last;
    uint64_t upper_bound_wall; /* Durable: now() never passes it. UINT64_MAX: no bound kept. */
    uint64_t max_offset_ns;
    uint64_t rejected; /* Remote readings too far ahead. */
};

NOYIELD void hlc_init(struct hlc *c, struct env *env, uint64_t max_offset_ns);

/* A new reading, greater than all before. At the upper bound the wall stands still and the logical
 * part counts on; hlc_bound_near() tells in time to extend it. */
NOYIELD struct hclock hlc_now(struct hlc *c);

/* Forwards to a remote reading. Errors: STATUS_INVALID when it is more than max_offset ahead of the
 * physical clock: the message must be dropped. STATUS_UNAVAILABLE when it is beyond the upper bound:
 * drop it too, extend the bound; the peer repeats. */
NOYIELD NODISCARD struct status hlc_update(struct hlc *c, struct hclock remote);

/* Upper bound made durable by the caller; never lowered. */
NOYIELD void hlc_set_upper_bound(struct hlc *c, uint64_t wall);
NOYIELD bool hlc_bound_near(const struct hlc *c, uint64_t within_ns);
