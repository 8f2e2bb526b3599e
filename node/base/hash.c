/*
 * hash.c -- thin over xxHash, compiled in so that its names cannot meet another copy's.
 */
#define XXH_INLINE_ALL
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#include <xxhash.h>
#pragma GCC diagnostic pop

#include "node/base/hash.h"
#include "node/base/invariant.h"

uint64_t hash64(struct bytes b, uint64_t seed)
{
    return XXH3_64bits_withSeed(b.len == 0 ? (const uint8_t *)"" : b.ptr, b.len, seed);
}

uint64_t hash64_chained(struct bytes head, const struct bytes *parts, uint32_t count, uint64_t seed)
{
    XXH3_state_t state;

    XXH3_INITSTATE(&state);
    (void)XXH3_64bits_reset_withSeed(&state, seed); /* Fails for a NULL state only. */
    (void)XXH3_64bits_update(&state, head.len == 0 ? (const uint8_t *)"" : head.ptr, head.len);
    for (uint32_t i = 0; i < count; i++) {
        if (parts[i].len > 0) {
            (void)XXH3_64bits_update(&state, parts[i].ptr, parts[i].len);
        }
    }
    return XXH3_64bits_digest(&state);
}

struct hash128 hash128(struct bytes b, uint64_t seed)
{
    const XXH128_hash_t h =
        XXH3_128bits_withSeed(b.len == 0 ? (const uint8_t *)"" : b.ptr, b.len, seed);

    return (struct hash128){h.high64, h.low64};
}

static uint64_t splitmix(uint64_t *x)
{
    uint64_t z = (*x += 0x9E3779B97F4A7C15u);

    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static uint64_t rotl(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

void rng_seed(struct rng *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        r->s[i] = splitmix(&seed);
    }
}

uint64_t rng_next(struct rng *r)
{
    const uint64_t result = rotl(r->s[1] * 5, 7) * 9;
    const uint64_t t = r->s[1] << 17;

    r->s[2] ^= r->s[0];
    r->s[3] ^= r->s[1];
    r->s[1] ^= r->s[2];
    r->s[0] ^= r->s[3];
    r->s[2] ^= t;
    r->s[3] = rotl(r->s[3], 45);
    return result;
}

uint64_t rng_below(struct rng *r, uint64_t n)
{
    INVARIANT(n > 0);
    return (uint64_t)(((unsigned __int128)rng_next(r) * n) >> 64);
}

uint64_t rng_between(struct rng *r, uint64_t lo, uint64_t hi)
{
    INVARIANT(lo <= hi);
    return hi - lo == UINT64_MAX ? rng_next(r) : lo + rng_below(r, hi - lo + 1);
}

bool rng_permille(struct rng *r, uint32_t permille)
{
    return rng_below(r, 1000) < permille;
}
