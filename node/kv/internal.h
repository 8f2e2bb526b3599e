/*
 * internal.h -- the addressing cache and the sending loop, shared by the files of this folder.
 */
#pragma once

#include "node/kv/kv.h"

struct cached_range {
    struct arena arena;
    struct range_desc desc;
    store_id leader; /* 0: not known. */
    bool used;       /* Since the hand of eviction passed by. */
};

struct kv {
    struct kv_options o;
    struct store *store;
    store_id store_id;
    struct cached_range **ranges; /* Sorted by start; they do not overlap. */
    uint32_t count;
    uint32_t cap;
    uint32_t hand;              /* Of eviction. */
    struct cached_range *first; /* The first range; owned here, not in `ranges`. */
    struct kv_stats stats;
};

/* ---- cache.c ---- */
/* The cached range that holds the key, NULL when none is known. Valid until the cache changes. */
NOYIELD struct cached_range *kv__cache_find(struct kv *kv, struct bytes key);
/* Remembers a descriptor unless a newer one covers some of its keys. Without memory nothing happens. */
NOYIELD void kv__cache_insert(struct kv *kv, const struct range_desc *d);
NOYIELD void kv__cache_evict(struct kv *kv, struct bytes key);
NOYIELD void kv__cache_clear(struct kv *kv);
/* Descriptors that a server sent; the first range among them too. */
NOYIELD void kv__learn(struct kv *kv, const struct range_desc *descs, uint32_t count);

/* ---- lookup.c ---- */
/* Asks the index of ranges for the descriptor of a key and puts it into the cache. */
MAYYIELD NODISCARD struct status kv__lookup(struct kv *kv, struct bytes key, uint64_t deadline_ns,
                                            struct arena *arena);
