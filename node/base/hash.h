/*
 * hash.h -- XXH3 for hash tables and checksums of what we store or send, and a seeded generator.
 */
#pragma once

#include <stdint.h>

#include "node/base/bytes.h"

struct hash128 {
    uint64_t hi;
    uint64_t lo;
};

NOYIELD uint64_t hash64(struct bytes b, uint64_t seed);
/* The hash64() of `head` and the parts behind it, as if they were one piece. */
NOYIELD uint64_t hash64_chained(struct bytes head, const struct bytes *parts, uint32_t count,
                                uint64_t seed);
NOYIELD struct hash128 hash128(struct bytes b, uint64_t seed);

/* xoshiro256**: quality for simulation and jitter, not for secrets. */
struct rng {
    uint64_t s[4];
};

NOYIELD void rng_seed(struct rng *r, uint64_t seed);
NOYIELD uint64_t rng_next(struct rng *r);

/* Uniform in [0, n); n > 0. */
NOYIELD uint64_t rng_below(struct rng *r, uint64_t n);

/* Uniform in [lo, hi], both included. */
NOYIELD uint64_t rng_between(struct rng *r, uint64_t lo, uint64_t hi);

/* True with probability permille / 1000. */
NOYIELD bool rng_permille(struct rng *r, uint32_t permille);
