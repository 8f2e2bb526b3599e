/*
 * kv.h -- one keyspace over all ranges: which range holds a key, which replica leads it.
 *
 * Descriptors are cached; a stale one costs a round trip, never a wrong answer, because every server
 * checks. The first range, which holds the addressing data, is known by gossip; others are looked up
 * in meta2. A request goes to the replica that led last, follows hints, and is repeated where that
 * is safe: a read always, a write only when it certainly did not run.
 *
 * Runs on: the shard; calls yield.
 * Source:  protocol reference 10.3, 10.4 and the error taxonomy in 0.4.
 */
#pragma once

#include <stdint.h>

#include "node/base/arena.h"
#include "node/base/status.h"
#include "node/range/request.h"
#include "node/range/store.h"
#include "node/rpc/rpc.h"

struct kv;

#define KV_CACHE_MAX           100000u
#define KV_DEADLINE_NS_DEFAULT ((uint64_t)10000000000)

struct kv_options {
    struct shard *shard;
    struct rpc *rpc;
    struct hlc *hlc;
};

NOYIELD NODISCARD struct status kv_create(const struct kv_options *o, struct kv **out);
NOYIELD void kv_destroy(struct kv *kv);

/* The store of this shard, once it exists: its replicas are asked without a message. NULL: gone. */
NOYIELD void kv_set_store(struct kv *kv, struct store *store, store_id id);
/* The first range as gossip knows it; older generations are ignored. */
NOYIELD void kv_set_first_range(struct kv *kv, const struct range_desc *d);
/* NULL before anything is known. Borrowed until the next call that yields. */
NOYIELD const struct range_desc *kv_first_range(const struct kv *kv);

/*
 * Sends a batch whose keys are all in one range; the batch's range and generation are filled in. The
 * result lives in the arena; its `st` equals the status returned.
 *
 * deadline_ns: monotonic; DEADLINE_NONE: KV_DEADLINE_NS_DEFAULT from now.
 * Errors:  STATUS_UNSUPPORTED  the keys are of several ranges;
 *          STATUS_TXN_RETRY, STATUS_EXISTS, STATUS_INVALID, STATUS_MEMORY: of the range;
 *          STATUS_AMBIGUOUS    a write may or may not have run;
 *          STATUS_UNAVAILABLE, STATUS_TIMEOUT: no leaseholder in time, certainly nothing written;
 *          STATUS_CANCELLED.
 */
MAYYIELD NODISCARD struct status kv_send(struct kv *kv, struct range_batch *b, uint64_t deadline_ns,
                                         struct arena *arena, struct range_result *out);

struct kv_stats {
    uint64_t batches;
    uint64_t batches_local;
    uint64_t batches_remote;
    uint64_t retries;
    uint64_t lookups;
    uint64_t cached;
};
NOYIELD void kv_get_stats(const struct kv *kv, struct kv_stats *out);
