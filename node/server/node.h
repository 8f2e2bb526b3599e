/*
 * node.h -- one shard's part of a server, put together: rpc, store, kv, sql.
 *
 * It knows neither sockets nor RocksDB: engine, transport and clock are handed in, so that the same
 * code runs in dsqld (server/process.c) and in dsqlsim. Its life:
 *
 *     create -> [identity: read, bootstrap or join] -> [wait for clocks] -> ready -> stop -> destroy
 *
 * The primary shard of a process (index 0) finds the identity and hands it, the registry and the
 * first range's descriptor to the other shards as parcels.
 *
 * Runs on: its shard.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/kv/kv.h"
#include "node/range/store.h"
#include "node/rpc/rpc.h"
#include "node/runtime/hlc.h"
#include "node/runtime/shard.h"
#include "node/server/registry.h"
#include "node/sql/session/session.h"

struct node;

#define NODE_JOIN_MAX   32u
#define NODE_SHARDS_MAX 64u

struct node_options {
    struct shard *shard;
    struct engine *engine; /* Borrowed. */
    struct rpc_transport transport;
    struct node_desc self;                 /* Addresses, locality, pid; ids are filled in. */
    const char *join[NODE_JOIN_MAX];       /* "host:port"; borrowed for life. */
    uint32_t join_count;                   /* 0: an empty store starts a new cluster. */
    uint32_t shards_count;                 /* Of the process; stores it needs. */
    struct shard *shards[NODE_SHARDS_MAX]; /* All of them; [0] is the primary's. */
    uint64_t max_offset_ns;                /* 0: HLC_MAX_OFFSET_NS_DEFAULT. */
    struct liveness_options liveness;
    uint32_t voters_wanted;   /* Replicas of a range; 0: by the number of nodes. */
    uint64_t range_bytes_max; /* A larger range is split; 0: 256 MiB. */
    uint64_t merge_after_ns;  /* Neighbours stay small for that long before they merge; 0: 5 min. */
    uint64_t dead_after_ns;   /* Silence after which a node's replicas are replaced; 0: 5 min. */
    uint64_t gc_ttl_ns;       /* Old versions are kept that long; 0: 4 h. */
    uint64_t intent_age_ns;   /* Intents that nobody has settled by then are; 0: 2 h. */
    uint64_t check_period_ns; /* Replicas are compared that often; 0: 24 h. */
    uint64_t log_bytes_max;   /* These five as of a store; 0: its default. */
    uint64_t closed_lag_ns;
    uint64_t side_interval_ns;
    uint32_t election_ticks;
    uint32_t election_jitter_ticks;
    uint32_t store_plants; /* Simulator only. */
    uint32_t raft_plants;
    uint32_t liveness_plants;
    uint32_t txn_plants;
    struct store_probe probe; /* Simulator only. */
    /* The identity is known and SQL works (or why it never will). Once. */
    void (*on_ready)(void *ctx, struct status st);
    /* This process must stop now: acked data may be lost. */
    void (*on_fatal)(void *ctx, struct status why);
    void *ctx;
};

/* Starts; on_ready() follows. Errors: STATUS_MEMORY. */
NOYIELD NODISCARD struct status node_create(const struct node_options *o, struct node **out);

/* Drains: hands leases over (within deadline), refuses new work, waits for what runs. */
MAYYIELD void node_stop(struct node *n, uint64_t deadline_ns);
/* After node_stop() returned, or at once in a simulated crash after fiber_cancel_all() has emptied the
 * shard of fibers. */
NOYIELD void node_destroy(struct node *n);

NOYIELD bool node_is_ready(const struct node *n);
/* Starts to compare the replicas of a range led here; the outcome is logged and counted.
 * Errors: STATUS_UNAVAILABLE, STATUS_OVERLOADED, STATUS_MEMORY. */
NOYIELD NODISCARD struct status node_check_range(struct node *n, range_id range);
/* NULL before it is ready. */
NOYIELD struct store *node_store(struct node *n);
NOYIELD struct kv *node_kv(struct node *n);
NOYIELD struct sql *node_sql(struct node *n);
NOYIELD struct rpc *node_rpc(struct node *n);
NOYIELD const struct registry *node_registry(const struct node *n);
NOYIELD struct store_ident node_ident(const struct node *n);
NOYIELD struct hlc *node_hlc(struct node *n);
/* Is that node alive as far as this one knows? Itself always. */
NOYIELD bool node_peer_live(struct node *n, node_id id);
