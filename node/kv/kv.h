/*
 * kv.h -- one keyspace over all ranges: which range holds a key, which replica leads it.
 *
 * Descriptors are cached; a stale one costs a round trip, never a wrong answer, because every server
 * checks. The first range, which holds the addressing data, is known by gossip; others are looked up
 * in meta2. A request goes to the replica that led last, follows hints, and is repeated where that
 * is safe: a read always, an intent too (it says that it is a replay), any other write only when it
 * certainly did not run.
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
#define KV_PARTS_MAX           4096u /* Of one batch. */
#define KV_PARTS_AT_ONCE       32u   /* That are under way together. */

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

/* Readings of other stores' clocks that one transaction has seen, each the first: what was written there
 * later was written after the transaction began. Bounded; who finds no place is just not known. */
#define KV_OBSERVED_MAX 16u
struct kv_observed {
    struct hts own; /* Of this node, when the transaction began. */
    struct {
        store_id store;
        struct hts now;
    } at[KV_OBSERVED_MAX];
    uint32_t count;
};

/* One kv_send_call(). Zeroed but for what is wanted. */
struct kv_call {
    uint64_t deadline_ns;         /* Monotonic; DEADLINE_NONE: KV_DEADLINE_NS_DEFAULT from now. */
    struct kv_observed *observed; /* In and out; fills txn.local_limit. NULL: nothing is known. */
    uint32_t parts;               /* Out: to how many ranges, or pieces of one, it went. */
    bool wrote;                   /* Out: some write or record was, or may have been, written. */
};

/*
 * Sends a batch to whichever ranges hold its keys; its range and generation are filled in. What lies in
 * several ranges is cut: the parts go in parallel, the answers come back as one, in the order of the
 * requests. A SCAN is cut to its first range (the last when it goes backwards) and says `more`. Spans of
 * REFRESH and RESOLVE are cut into pieces. An END_TXN that says STAGING is given, besides the keys in flight
 * that it names, those of all writes of this batch that go elsewhere. Too many writes for one command go
 * as several.
 *
 * What travels in parts is not atomic: writes must be intents. A batch with other writes over several
 * ranges is not sent at all: STATUS_RANGE_MISMATCH. A zero read timestamp becomes this node's present when
 * there are several ranges.
 *
 * The result lives in the arena; its `st` equals the status returned. Of several failures the certain ones
 * come first, TXN_RETRY and its like before EXISTS, then the earlier request. commit_ts and uncertain_ts are
 * the highest of all parts.
 *
 * Errors:  STATUS_RANGE_MISMATCH  writes that are not intents lie in several ranges, or are too much for
 *                                 one command; nothing was sent;
 *          STATUS_TXN_RETRY, STATUS_UNCERTAIN, STATUS_EXISTS, STATUS_LOCKED, STATUS_DEADLOCK,
 *          STATUS_INVALID, STATUS_MEMORY: of a range. Other parts may have laid their intents: see
 *                                 kv_call.wrote;
 *          STATUS_AMBIGUOUS       a write or a record may or may not have been written;
 *          STATUS_UNAVAILABLE, STATUS_TIMEOUT: no leaseholder in time; likewise;
 *          STATUS_CANCELLED.
 */
MAYYIELD NODISCARD struct status kv_send_call(struct kv *kv, struct range_batch *b,
                                              struct kv_call *call, struct arena *arena,
                                              struct range_result *out);
/* The same, for who needs nothing but the result. */
MAYYIELD NODISCARD struct status kv_send(struct kv *kv, struct range_batch *b, uint64_t deadline_ns,
                                         struct arena *arena, struct range_result *out);

/* Does one range hold both keys, as far as this shard has heard? False when it does not know. */
NOYIELD bool kv_same_range(struct kv *kv, struct bytes a, struct bytes b);

/* This node's present, and how far other clocks may be ahead of it. */
NOYIELD struct hts kv_now(struct kv *kv);
NOYIELD uint64_t kv_max_offset_ns(const struct kv *kv);
NOYIELD struct shard *kv_shard(const struct kv *kv);

struct kv_stats {
    uint64_t batches;
    uint64_t batches_local;
    uint64_t batches_remote;
    uint64_t retries;
    uint64_t lookups;
    uint64_t cut; /* Batches that went in several parts. */
    uint64_t cached;
};
NOYIELD void kv_get_stats(const struct kv *kv, struct kv_stats *out);
