/*
 * store.h -- a shard's replicas, their logs on one engine, and the promises between stores.
 *
 * The store feeds Raft with messages and ticks, makes durable what all its replicas produced in one
 * turn with one write, applies commands, and evaluates requests on replicas that hold the lease.
 *
 * Runs on: the shard. The engine's writes run on the writer lane.
 * Source:  protocol reference 2.5-2.12 and 3.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/ids.h"
#include "node/base/status.h"
#include "node/range/descriptor.h"
#include "node/range/lease/liveness.h"
#include "node/range/request.h"
#include "node/rpc/rpc.h"
#include "node/storage/engine/engine.h"

struct store;

#define STORE_RANGES_MAX 200000u

/* Identity of a store on disk, in the raft family under `S i`. */
struct store_ident {
    struct uuid cluster;
    node_id node;
    store_id store;
};

/* Reads it. Errors: STATUS_NOT_FOUND (a new store), STATUS_CORRUPT, STATUS_IO. */
NOYIELD NODISCARD struct status store_read_ident(struct engine *e, struct store_ident *out);
/* Writes it, synced. Blocks: before the shard runs, or on a lane. */
NOYIELD NODISCARD struct status store_write_ident(struct engine *e, const struct store_ident *id);
/* Wall time that the clock of this store's last life may have reached; 0 for a new store. Blocks. */
NOYIELD NODISCARD struct status store_read_clock_bound(struct engine *e, uint64_t *wall_out);
/* Makes `id`'s store hold the first range, covering all keys, with itself as only voter; with its
 * ident, synced. Blocks likewise. */
NOYIELD NODISCARD struct status store_bootstrap(struct engine *e, const struct store_ident *id,
                                                struct hts now);

struct store_options {
    struct shard *shard;
    struct hlc *hlc;
    struct rpc *rpc;
    struct engine *engine; /* Borrowed; outlives the store. */
    struct store_ident ident;
    struct liveness_options liveness;
    uint32_t election_ticks;        /* Of 100 ms; 0: 10. */
    uint32_t election_jitter_ticks; /* 0: 10. */
    uint32_t plants;                /* STORE_PLANT_*, builds with DSQL_PLANTS. */
    uint32_t raft_plants;
    uint32_t liveness_plants;
    uint64_t log_bytes_max; /* Log kept for slow followers; 0: 16 MiB. */
    /* A write failed or acked data is lost: this process must stop at once. Never returns control to
     * the store's logic; the default aborts. */
    void (*on_fatal)(void *ctx, struct status why);
    /* Which nodes exist: where a peer's store lives. False: unknown. */
    bool (*node_of_store)(void *node_ctx, store_id store, node_id *out);
    void *ctx;      /* Of on_fatal. */
    void *node_ctx; /* Of node_of_store. */
};

enum store_plant {
    STORE_PLANT_NO_SYNC = 1,            /* log writes are not synced */
    STORE_PLANT_READ_WITHOUT_LEASE = 2, /* serves reads whatever the lease says */
    STORE_PLANT_APPLY_TWICE = 4,        /* a restarted replica applies its last command again */
    STORE_PLANT_SKIP_LATCH = 8,         /* readers do not wait for writers */
    STORE_PLANT_LOSE_TAIL = 16,         /* recovery silently drops the last log entry */
    STORE_PLANT_NO_VOTE_PERSIST = 32,   /* the hard state is not written */
    STORE_PLANT_REFRESH_NOTHING = 64,   /* commits do not check what was read */
    STORE_PLANT_REORDER_APPLY = 128,    /* swaps neighbouring commands when applying */
    STORE_PLANT_SERVE_TO_THE_END = 256, /* uses a lease to its last moment, whatever the clocks */
};

/*
 * Recovers all replicas. Raft messages are not handled before the promises of the life before have
 * run out (up to the support duration).
 * Errors: STATUS_CORRUPT (message names what), STATUS_IO, STATUS_MEMORY.
 */
NOYIELD NODISCARD struct status store_create(const struct store_options *o, struct arena *msg_arena,
                                             struct store **out);
/* No write is under way and no fiber is inside: call store_stop() first. The rpc still exists. */
NOYIELD void store_destroy(struct store *s);
/* Fails what waits, stops timers; returns after the last write and the last fiber have ended. A fiber
 * that is cancelled meanwhile returns early: only where all fibers are being ended (a crash). */
MAYYIELD void store_stop(struct store *s);

/* Peers that exist: heartbeats go to them. */
NOYIELD NODISCARD struct status store_add_peer(struct store *s, store_id peer);

/*
 * Evaluates a batch on this store's replica. The result's memory is in the arena.
 * deadline_ns: monotonic. A write whose fate is unknown by then is STATUS_AMBIGUOUS.
 */
MAYYIELD void store_execute(struct store *s, const struct range_batch *b, uint64_t deadline_ns,
                            struct arena *arena, struct range_result *out);

struct store_range_info {
    struct range_desc desc; /* In the arena. */
    replica_id replica;
    enum raft_role role;
    bool leaseholder;
    uint64_t term;
    uint64_t applied;
    uint64_t commit;
    uint64_t lease_sequence;
    struct mvcc_stats_view {
        int64_t live_count;
        int64_t live_bytes;
    } stats;
};

/* i-th replica in order of range id; false at the end. */
NOYIELD bool store_range_info(struct store *s, uint32_t i, struct arena *arena,
                              struct store_range_info *out);
NOYIELD bool store_find_range(struct store *s, range_id id, struct arena *arena,
                              struct store_range_info *out);

/* Is that store alive as far as this one knows (it supports us now)? */
NOYIELD bool store_peer_live(struct store *s, store_id peer);

/*
 * Changes the membership of a range that this store leads, one replica per call: adds a voter
 * (learner, snapshot, then joint configuration), or removes one. Returns when it is done.
 * Errors: STATUS_NOT_LEADER, STATUS_INVALID, STATUS_TIMEOUT, STATUS_UNAVAILABLE.
 */
MAYYIELD NODISCARD struct status store_add_voter(struct store *s, range_id range, node_id node,
                                                 store_id store, uint64_t deadline_ns);
MAYYIELD NODISCARD struct status store_remove_replica(struct store *s, range_id range,
                                                      store_id store, uint64_t deadline_ns);
/* Hands the lease to another voter. Errors as above. */
MAYYIELD NODISCARD struct status store_transfer_lease(struct store *s, range_id range,
                                                      store_id target, uint64_t deadline_ns);

struct store_stats {
    uint64_t replicas;
    uint64_t leases;
    uint64_t writes; /* Engine writes. */
    uint64_t syncs;
    uint64_t entries;  /* Log entries appended. */
    uint64_t commands; /* Applied. */
    uint64_t proposals_open;
    uint64_t snapshots_sent;
    uint64_t snapshots_installed;
    uint64_t bytes_live;
};
NOYIELD void store_get_stats(struct store *s, struct store_stats *out);

/* Digest of the replicated state of a range and the index it belongs to, for comparing replicas.
 * Errors: STATUS_RANGE_NOT_FOUND. */
NOYIELD NODISCARD struct status store_range_digest(struct store *s, range_id range,
                                                   uint64_t *index_out, uint64_t *digest_out);

/* What the simulator checks at every turn; NULL functions are not called. */
struct store_probe {
    void *ctx;
    void (*became_leader)(void *ctx, store_id s, range_id r, uint64_t term);
    void (*served)(void *ctx, store_id s, range_id r, uint64_t term, struct hts need);
    void (*lease_started)(void *ctx, store_id s, range_id r, uint64_t term, struct hts start_ts);
    void (*applied)(void *ctx, store_id s, range_id r, uint64_t index, uint64_t term,
                    struct bytes command);
    void (*voted)(void *ctx, store_id s, range_id r, uint64_t term, replica_id vote);
};
NOYIELD void store_set_probe(struct store *s, const struct store_probe *probe);
