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
/* Remembers a descriptor for the keys around `key`, which it covers, as far as no newer one covers them.
 * Without memory nothing happens. */
NOYIELD void kv__cache_insert(struct kv *kv, struct bytes key, const struct range_desc *d);
/* The one that holds the keys just in front of `end`. */
NOYIELD struct cached_range *kv__cache_find_before(struct kv *kv, struct bytes end);
NOYIELD void kv__cache_evict(struct kv *kv, struct bytes key);
NOYIELD void kv__cache_clear(struct kv *kv);
/* Descriptors that a server sent; the first range among them too. */
NOYIELD void kv__learn(struct kv *kv, const struct range_desc *descs, uint32_t count);

/* ---- lookup.c ---- */
/* Asks the index of ranges for the descriptor of a key and puts it into the cache. */
MAYYIELD NODISCARD struct status kv__lookup(struct kv *kv, struct bytes key, uint64_t deadline_ns,
                                            struct arena *arena);

/* ---- send.c ---- */
/* Would a repetition find out about an earlier attempt? False: writes that are committed at once. */
NOYIELD bool kv__is_repeatable(const struct range_batch *b);
/* Writes, or a record that decides: without an answer the fate matters. */
NOYIELD bool kv__is_write(const struct range_batch *b);
/* Sends a batch to the one range that holds it. STATUS_RANGE_MISMATCH: it lies in several, or the range
 * has changed; nothing ran, but for earlier attempts when b->replay is set. out->st is not set. */
MAYYIELD NODISCARD struct status kv__send_range(struct kv *kv, struct range_batch *b,
                                                const struct kv_call *call, struct arena *arena,
                                                struct range_result *out);
/* Pause before the n-th further round; half of it random so that many do not march in step. */
MAYYIELD NODISCARD struct status kv__pause(struct kv *kv, uint32_t round);

/* ---- cut.c ---- */
/* A piece of a batch that lies in one range, with its answer. */
struct kv_part {
    struct range_batch batch;
    struct range_request *requests; /* Those of the batch. */
    uint32_t *origin;               /* Of each: its number in the batch of the caller. */
    struct range_result result;
    enum {
        KV_PART_WAITS,
        KV_PART_DONE,
        KV_PART_CUT
    } state; /* CUT: others have taken its place. */
};

struct kv_parts {
    const struct range_batch *whole;
    struct kv_part *parts;
    uint32_t count;
    uint32_t *home; /* Of each request of the whole: its part; only of requests for one key. */
};

/* Cuts requests[count] into parts, which are added. Yields when descriptors are looked up.
 * Errors: STATUS_MEMORY (also: KV_PARTS_MAX), STATUS_UNAVAILABLE and others of lookups. */
MAYYIELD NODISCARD struct status kv__cut(struct kv *kv, struct kv_parts *p,
                                         const struct range_batch *b, const uint32_t *origin,
                                         uint64_t deadline_ns, struct arena *arena);
/* Answers of all parts as one. */
NOYIELD NODISCARD struct status kv__merge(const struct kv_parts *p, struct arena *arena,
                                          struct range_result *out);
