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
    uint64_t log_bytes_max;    /* Log kept for slow followers; 0: 16 MiB. */
    uint64_t closed_lag_ns;    /* Reads that much in the past need no leaseholder; 0: 3 s. */
    uint64_t side_interval_ns; /* How often idle ranges are closed, less than a quarter of the lag;
                                  0: 200 ms. */
    /* A write failed or acked data is lost: this process must stop at once. Never returns control to
     * the store's logic; the default aborts. */
    void (*on_fatal)(void *ctx, struct status why);
    /* Which nodes exist: where a peer's store lives. False: unknown. */
    bool (*node_of_store)(void *node_ctx, store_id store, node_id *out);
    /* Sends a batch to whichever range holds its keys: range and generation are filled in. Needed by
     * everything that concerns other ranges: pushes, recovery, clean-up, ids for splits, addressing. */
    MAYYIELD struct status (*send)(void *send_ctx, struct range_batch *b, uint64_t deadline_ns,
                                   struct arena *arena, struct range_result *out);
    void *send_ctx;
    void *ctx;      /* Of on_fatal. */
    void *node_ctx; /* Of node_of_store. */
};

enum store_plant {
    STORE_PLANT_NO_SYNC = 1,              /* log writes are not synced */
    STORE_PLANT_READ_WITHOUT_LEASE = 2,   /* serves reads whatever the lease says */
    STORE_PLANT_APPLY_TWICE = 4,          /* a restarted replica applies its last command again */
    STORE_PLANT_SKIP_LATCH = 8,           /* readers do not wait for writers */
    STORE_PLANT_LOSE_TAIL = 16,           /* recovery silently drops the last log entry */
    STORE_PLANT_NO_VOTE_PERSIST = 32,     /* the hard state is not written */
    STORE_PLANT_REFRESH_NOTHING = 64,     /* commits do not check what was read */
    STORE_PLANT_REORDER_APPLY = 128,      /* swaps neighbouring commands when applying */
    STORE_PLANT_SERVE_TO_THE_END = 256,   /* uses a lease to its last moment, whatever the clocks */
    STORE_PLANT_RECOVER_BLINDLY = 1 << 9, /* recovery commits without asking for the intents */
    STORE_PLANT_RECOVER_NO_PREVENT = 1 << 10,  /* a missing intent may still arrive */
    STORE_PLANT_NO_TSCACHE = 1 << 11,          /* intents land below reads */
    STORE_PLANT_NO_LEASE_FLOOR = 1 << 12,      /* a new lease does not know of earlier reads */
    STORE_PLANT_SPLIT_FORGETS_READS = 1 << 13, /* nor does the right half of a split */
    STORE_PLANT_CLOSE_IN_FLIGHT = 1 << 14,    /* closes a timestamp at which a write is evaluated */
    STORE_PLANT_FOLLOWER_AHEAD = 1 << 15,     /* a follower reads above its closed timestamp */
    STORE_PLANT_GC_BELOW_PROTECTED = 1 << 16, /* garbage collection ignores protections */
    STORE_PLANT_RECORD_REBORN = 1 << 17,      /* a record is created although the txn was aborted */
    STORE_PLANT_MERGE_NO_FREEZE = 1 << 18,    /* the right side goes on serving during a merge */
    STORE_PLANT_RESOLVE_EARLY = 1 << 19,      /* intents of a STAGING txn are taken as committed */
    STORE_PLANT_PUSH_IGNORED = 1 << 20,       /* a commit does not look at the push marker */
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

/*
 * Splits the range at `key` (cut down to the start of a row). Returns when both halves exist; their
 * addressing follows by itself.
 * Errors: STATUS_NOT_LEADER, STATUS_INVALID (not inside; meta1 is not split), STATUS_RANGE_TOO_SMALL,
 * STATUS_OVERLOADED (another change is under way, or addressing is behind), STATUS_TIMEOUT.
 */
MAYYIELD NODISCARD struct status store_split(struct store *s, range_id range, struct bytes key,
                                             uint64_t deadline_ns);
/* A key about in the middle of the range's data, at the start of a row, in the arena.
 * Errors: STATUS_RANGE_TOO_SMALL. */
MAYYIELD NODISCARD struct status store_split_key(struct store *s, range_id range,
                                                 struct arena *arena, struct bytes *out);
/* Merges the range with its right neighbour. Both must stand on the same stores with both leases here.
 * Errors: as of store_split(); STATUS_UNAVAILABLE (a store of theirs is not live). */
MAYYIELD NODISCARD struct status store_merge(struct store *s, range_id range, uint64_t deadline_ns);
/* Has the index of ranges (meta) been told of the present descriptor? */
NOYIELD bool store_is_addressed(struct store *s, range_id range);
/* Tells it. Called by the store itself after changes; a queue repeats it where that failed. */
MAYYIELD NODISCARD struct status store_address(struct store *s, range_id range,
                                               uint64_t deadline_ns);
/* Ends a merge that stopped half way, on the frozen range. OK when there is nothing to do. */
MAYYIELD NODISCARD struct status store_settle_merge(struct store *s, range_id range,
                                                    uint64_t deadline_ns);

/* Use of a range since the lease began here, and over the last seconds. */
struct store_range_load {
    uint64_t requests;
    uint64_t bytes_read;
    uint64_t bytes_written;
    uint64_t cpu_ns;
    double requests_per_s; /* Over the last 10 s. */
    double cpu_ns_per_s;
};

struct store_range_info {
    struct range_desc desc; /* In the arena. */
    replica_id replica;
    enum raft_role role;
    bool leaseholder;
    uint64_t term;
    uint64_t applied;
    uint64_t commit;
    uint64_t lease_sequence;
    uint64_t lease_age_ns; /* Since the lease began here; 0: it is not held here. */
    bool addressed;
    bool frozen;
    struct hts closed_ts;
    struct store_range_load load;
    struct mvcc_stats stats;
};

/* The replica of the lowest range id above `after` (zero: the first); false at the end. */
NOYIELD bool store_next_range(struct store *s, range_id after, struct arena *arena,
                              struct store_range_info *out);
NOYIELD bool store_find_range(struct store *s, range_id id, struct arena *arena,
                              struct store_range_info *out);
/* The replica here that holds `key`. */
NOYIELD bool store_range_at(struct store *s, struct bytes key, struct arena *arena,
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

/* Somebody relies on what was there at `ts`, in [start, end). Borrowed. */
struct store_protection {
    struct bytes start;
    struct bytes end;
    struct hts ts;
};

#define STORE_PROTECTIONS_MAX 10000u

/* What is protected, as it was known everywhere at as_of: replaces what was said before. Before the first
 * call nothing is collected. Errors: STATUS_OVERLOADED, STATUS_MEMORY. */
NOYIELD NODISCARD struct status store_set_protected(struct store *s, struct hts as_of,
                                                    const struct store_protection *list,
                                                    uint32_t count);
/* Does a protection of `ts` that was committed at `created` hold on this range, which is led here?
 * Errors: STATUS_NOT_LEADER; STATUS_UNAVAILABLE (not known here yet: ask again); STATUS_INVALID (too late:
 * it is gone). */
NOYIELD NODISCARD struct status store_protection_holds(struct store *s, range_id range,
                                                       struct hts ts, struct hts created);

struct store_gc_options {
    uint64_t ttl_ns;        /* Versions are kept this long after they were replaced. */
    uint64_t intent_age_ns; /* Intents older than this are settled, */
    uint64_t record_age_ns; /* and records of transactions that showed no life for this long. */
    bool keep_versions;     /* Do only that: looking for versions reads the whole range. */
};
#define STORE_GC_TTL_NS_DEFAULT        ((uint64_t)4 * 3600 * 1000000000)
#define STORE_GC_INTENT_AGE_NS_DEFAULT ((uint64_t)2 * 3600 * 1000000000)
#define STORE_GC_RECORD_AGE_NS_DEFAULT ((uint64_t)3600 * 1000000000)

struct store_gc_result {
    struct hts threshold; /* Reads below fail now; zero: none was set. */
    uint64_t keys;
    uint64_t versions;
    uint64_t intents; /* Settled. */
    uint64_t records; /* Removed. */
};

/* Collects the garbage of a range that is led here. Ends early, with what was done in *out, on errors:
 * STATUS_NOT_LEADER, STATUS_RANGE_NOT_FOUND, STATUS_RANGE_MISMATCH (it changed meanwhile),
 * STATUS_OVERLOADED, STATUS_TIMEOUT, STATUS_WOULD_BLOCK (a change is under way). */
MAYYIELD NODISCARD struct status store_gc(struct store *s, range_id range,
                                          const struct store_gc_options *o, uint64_t deadline_ns,
                                          struct store_gc_result *out);

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
    uint64_t consistency_checks;
    uint64_t inconsistencies; /* Of them. Each is an error that somebody must look at. */
    uint64_t bytes_live;
};
NOYIELD void store_get_stats(struct store *s, struct store_stats *out);

struct store_consistency {
    uint64_t index;    /* As of which the replicas were compared. */
    uint64_t digest;   /* Of the majority; 0: there is none. */
    uint32_t compared; /* Replicas. */
    uint32_t missing;  /* Those that gave no digest. */
    uint32_t
        differing; /* Not 0: an error was logged, and stores with what the majority does not have stop. */
};

/* Compares all replicas of a range that is led here. Errors: STATUS_NOT_LEADER, STATUS_RANGE_NOT_FOUND,
 * STATUS_OVERLOADED (one is under way), STATUS_WOULD_BLOCK (a change of the range is), STATUS_AMBIGUOUS,
 * STATUS_CANCELLED. */
MAYYIELD NODISCARD struct status store_check_consistency(struct store *s, range_id range,
                                                         uint64_t deadline_ns,
                                                         struct store_consistency *out);

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
    /* This replica may serve reads up to ts from now on. No command that applies later, anywhere, writes
     * a new value (resolving an intent that stands there already is none) at or below it. */
    void (*closed)(void *ctx, store_id s, range_id r, struct hts ts);
};
NOYIELD void store_set_probe(struct store *s, const struct store_probe *probe);
