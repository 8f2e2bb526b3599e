/*
 * raft.h -- consensus of one range as a pure state machine: messages in, a Ready out.
 *
 * The core does no I/O, reads no clock and starts no timer. Its owner (node/range) feeds it
 * messages, ticks and completions and carries out what raft_ready() prescribes, in this order:
 *
 *   1. send msgs_now;
 *   2. write hard_state, the snapshot and entries to the log (delete the stale suffix) as one unit,
 *      synced when must_sync; when that and all before it is durable call raft_append_done(mark) if
 *      has_mark, and send msgs_after_append;
 *   3. apply (apply_after, apply_upto], in order, and call raft_apply_done().
 *
 * Writes are asynchronous: further Readys may be taken while earlier appends are on their way, as
 * long as they become durable in the order of the Readys. A Ready with a mark may hold nothing to
 * write: its completion then only has to wait for the writes before it.
 * Nothing that promises durability leaves before what it promises is durable (invariant I-2.1).
 *
 * Leader leases: the core also runs fortification (Fortify/FortifyResp/DeFortify). Who supports whom
 * comes from store liveness through struct raft_view; the core derives `lead support until` (LSU),
 * the time until which a quorum has promised not to elect anybody else.
 *
 * Memory: raft_create() allocates; entries are shared blobs; everything handed out by raft_ready()
 * is borrowed until raft_advance().
 * Runs on: the shard of the replica. Nothing yields.
 * Source:  Ongaro's thesis (chapters 3, 4, 6, 9.6, 10); asynchronous storage writes and leader
 *          fortification as described in the public documents of etcd and CockroachDB.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "node/base/blob.h"
#include "node/base/hts.h"
#include "node/base/ids.h"
#include "node/base/status.h"

struct raft;

#define RAFT_PEERS_MAX             16
#define RAFT_APP_BYTES_TARGET      ((size_t)64 << 10) /* Payload of one App; one entry may be larger. */
#define RAFT_APP_ENTRIES_MAX       128
#define RAFT_INFLIGHT_MSGS_MAX     256
#define RAFT_INFLIGHT_BYTES_MAX    ((size_t)8 << 20)
#define RAFT_UNCOMMITTED_BYTES_MAX ((size_t)16 << 20)

enum raft_role {
    RAFT_FOLLOWER,
    RAFT_PRE_CANDIDATE,
    RAFT_CANDIDATE,
    RAFT_LEADER,
};

enum raft_peer_type {
    RAFT_VOTER,
    RAFT_LEARNER,        /* Receives the log, does not count (also every non-voter). */
    RAFT_VOTER_INCOMING, /* Joint: counts in the new half only. */
    RAFT_VOTER_DEMOTING, /* Joint: counts in the old half only, becomes a learner. Campaigns only when
                            the others had their chance; as leader it must transfer away. */
};

struct raft_peer {
    replica_id id;
    store_id store;
    enum raft_peer_type type;
};

/* A configuration is joint iff it has an incoming or demoting peer. Sorted by id. */
struct raft_conf {
    struct raft_peer peers[RAFT_PEERS_MAX];
    uint32_t count;
};

/* What the core must know about an entry; the payload is the owner's business. */
enum raft_entry_kind {
    RAFT_ENTRY_NORMAL,
    RAFT_ENTRY_CONF, /* Changes the configuration when it applies: at most one unapplied. */
};

struct raft_entry {
    uint64_t index;
    uint64_t term;
    enum raft_entry_kind kind;
    struct blob *payload; /* May be NULL (empty). Shared. */
};

/* Durable before any message that depends on it, except `commit`, which may lag. */
struct raft_hard_state {
    uint64_t term;
    replica_id vote;     /* 0: none in this term. */
    replica_id lead;     /* Whom this replica fortified, 0: nobody. */
    uint64_t lead_epoch; /* Store-liveness epoch of that support, 0: none. */
    uint64_t commit;
};

enum raft_msg_type {
    RAFT_MSG_APP,      /* term, index/log_term = prev, entries, commit, match of the receiver */
    RAFT_MSG_APP_RESP, /* index = acknowledged (durable), reject + hint_index/hint_term, commit */
    RAFT_MSG_PRE_VOTE, /* term = the term it would campaign at, index/log_term = last entry; all four
                          vote messages: commit, hint_term = term of the entry at commit */
    RAFT_MSG_PRE_VOTE_RESP, /* reject */
    RAFT_MSG_VOTE,          /* as PRE_VOTE, plus transfer */
    RAFT_MSG_VOTE_RESP,     /* reject */
    RAFT_MSG_HEARTBEAT, /* commit, capped at match; sent only while support does not cover a peer */
    RAFT_MSG_HEARTBEAT_RESP, /* commit of the sender; carries no index (B-2.1) */
    RAFT_MSG_SNAP, /* index/log_term of the snapshot, conf. As output: "please send one" */
    RAFT_MSG_TIMEOUT_NOW,
    RAFT_MSG_FORTIFY,
    RAFT_MSG_FORTIFY_RESP, /* reject, support_epoch */
    RAFT_MSG_DE_FORTIFY,
};

struct raft_msg {
    enum raft_msg_type type;
    replica_id from;
    replica_id to;
    uint64_t term;
    uint64_t index;
    uint64_t log_term;
    uint64_t commit;
    uint64_t match;
    uint64_t hint_index;
    uint64_t hint_term;
    uint64_t support_epoch;
    uint64_t truncate_hint; /* APP: entries at or below may be deleted by the receiver. */
    bool reject;
    bool transfer; /* VOTE: the leader of the term before asked for this campaign. */
    const struct raft_entry *entries;
    uint32_t entries_count;
    const struct raft_conf *conf; /* SNAP only. */
};

/*
 * What store liveness and the clock say now; the owner keeps it current, the core only reads.
 * Both functions are memory reads.
 */
struct raft_view {
    void *ctx;
    /* This store's own support for `store`: true when live, with its epoch. */
    bool (*support_for)(void *ctx, store_id store, uint64_t *epoch_out);
    /* Support this store has from `store` (itself included): epoch 0 when none. Expiration in our
     * own clock. For itself: own epoch and own durable max_requested. */
    void (*support_from)(void *ctx, store_id store, uint64_t *epoch_out,
                         struct hts *expiration_out);
    struct hts now; /* HLC of the shard, refreshed before every call that may use it. */
};

/* The log below what the core holds in memory. Answers must not change what is durable. */
struct raft_log_reader {
    void *ctx;
    /* Term of a stored entry or of the truncation point; 0 when not available (truncated). */
    uint64_t (*term)(void *ctx, uint64_t index);
    /* Up to `max` entries from `lo` on, at most `bytes_max` of payload but at least one when there
     * is one; payload references pass to the caller. Errors: STATUS_NOT_FOUND when truncated. */
    struct status (*entries)(void *ctx, uint64_t lo, uint32_t max, size_t bytes_max,
                             struct raft_entry *out, uint32_t *count_out);
};

struct raft_options {
    replica_id self;
    store_id store;
    struct raft_conf conf;             /* From the applied range descriptor. */
    struct raft_hard_state hard_state; /* As stored. */
    uint64_t truncated_index;          /* The stored log is (truncated_index, last_index]. */
    uint64_t truncated_term;
    uint64_t last_index; /* All of it durable. */
    uint64_t applied_index;
    const struct raft_view *view; /* Borrowed for life. */
    struct raft_log_reader log;
    uint32_t election_ticks;        /* Base election timeout in ticks, > 0. */
    uint32_t election_jitter_ticks; /* Up to this many more, drawn from `seed`. */
    uint32_t heartbeat_ticks;       /* Probe and heartbeat interval in ticks, > 0. */
    uint64_t seed;
    uint32_t plants; /* RAFT_PLANT_* bits: planted bugs, simulator builds only. */
};

/* Deliberate bugs that the simulator must find; compiled in only with DSQL_PLANTS. */
enum raft_plant {
    RAFT_PLANT_VOTE_TWICE = 1 << 0,           /* forgets whom it voted for */
    RAFT_PLANT_ACK_BEFORE_DURABLE = 1 << 1,   /* AppResp with the in-memory last index */
    RAFT_PLANT_COMMIT_OLD_TERM = 1 << 2,      /* counts replicas of an entry of an older term */
    RAFT_PLANT_NO_TRUNCATE_CONFLICT = 1 << 3, /* keeps a conflicting suffix */
    RAFT_PLANT_IGNORE_SUPPORT = 1 << 4,       /* votes although it supports a live leader */
    RAFT_PLANT_MINORITY_COMMIT = 1 << 5,      /* commits with one acknowledgement fewer */
    RAFT_PLANT_LEARNER_COUNTS = 1 << 6,       /* counts learners toward commit */
};

/* Identifies what an append made durable; see raft_append_done(). Opaque to the owner. */
struct raft_mark {
    uint64_t last_index;
    uint64_t seq; /* Counts marks: those from before the log was rewritten prove nothing. */
};

struct raft_ready {
    bool hard_state_changed;
    struct raft_hard_state hard_state;
    bool must_sync; /* Entries, or term/vote/lead/lead_epoch changed. */

    const struct raft_entry *entries; /* Append these; delete every stored index above the last. */
    uint32_t entries_count;
    uint64_t stale_first; /* Stored indexes [stale_first, stale_last] must be deleted; */
    uint64_t stale_last;  /* none when stale_first > stale_last. */
    bool has_mark;        /* Call raft_append_done(mark). Set with must_sync and with
                                          msgs_after_append. */
    struct raft_mark mark;

    bool has_snapshot; /* A received snapshot was accepted: install it, dropping the
                                          stored log, before `entries` are appended. */
    uint64_t snapshot_index;
    uint64_t snapshot_term;

    const struct raft_msg *msgs_now;
    uint32_t msgs_now_count;
    const struct raft_msg *msgs_after_append;
    uint32_t msgs_after_append_count;

    uint64_t apply_after; /* Apply (apply_after, apply_upto]: committed and durable. */
    uint64_t apply_upto;

    bool role_changed; /* role, term or leader differ from the last Ready. */
};

struct raft_state {
    enum raft_role role;
    uint64_t term;
    replica_id leader; /* 0: unknown. */
    uint64_t commit;
    uint64_t applied;
    uint64_t stable; /* Durable last index. */
    uint64_t last;
    bool transferring;
    bool stepping_down;
};

enum raft_progress_state {
    RAFT_PROGRESS_PROBE,
    RAFT_PROGRESS_REPLICATE,
    RAFT_PROGRESS_SNAPSHOT,
};

struct raft_progress {
    enum raft_progress_state state;
    uint64_t match;
    uint64_t next;
    bool recent_active;
    bool fortified; /* At the current epoch of its store. */
};

/* Life. A replica without a snapshot yet ("uninitialised") has an empty conf and log at index 0; it
 * may vote but never campaigns. Errors: STATUS_MEMORY, STATUS_INVALID for inconsistent options. */
NOYIELD NODISCARD struct status raft_create(const struct raft_options *o, struct raft **out);
NOYIELD void raft_destroy(struct raft *r); /* Accepts NULL. */

/* One tick of the owner's timer; only awake replicas are ticked. */
NOYIELD void raft_tick(struct raft *r);

/* A message of a peer. Entries' payloads are acquired, not copied. Foreign bytes were already
 * decoded; nonsensical values are ignored with STATUS_INVALID, never trusted or asserted. */
NOYIELD NODISCARD struct status raft_step(struct raft *r, const struct raft_msg *m);

/* Starts an election without waiting for the timer: pre-vote first, and all conditions of 3.5 hold
 * (no supported leader, support from a quorum, no unapplied configuration change). Otherwise nothing
 * happens. A single voter wins as soon as the next mark is done. */
NOYIELD void raft_campaign(struct raft *r);

/*
 * Appends entries of the leader; index and term are filled in, payload references pass to the core
 * on success and stay with the caller on failure.
 *
 * Errors:  STATUS_NOT_LEADER    not leader, or stepping down.
 *          STATUS_NOT_PROPOSED  a transfer is under way, or a second configuration change.
 *                               or the promise (LSU) lags behind what was shown (conf changes).
 *          STATUS_OVERLOADED    RAFT_UNCOMMITTED_BYTES_MAX are under way.
 *          STATUS_INVALID       count is 0.
 *          STATUS_MEMORY        nothing was appended.
 */
NOYIELD NODISCARD struct status raft_propose(struct raft *r, struct raft_entry *entries,
                                             uint32_t count);

NOYIELD bool raft_has_ready(const struct raft *r);
/* Every raft_ready() is followed by one raft_advance(), after which its memory is free again. Other
 * calls may come in between. */
NOYIELD void raft_ready(struct raft *r, struct raft_ready *out);
NOYIELD void raft_advance(struct raft *r);

/* The Ready with this mark and all before it are durable. Proves nothing about a log that another
 * leader rewrote meanwhile (B-2.2). After a snapshot: the snapshot is installed. */
NOYIELD void raft_append_done(struct raft *r, struct raft_mark mark);
NOYIELD void raft_apply_done(struct raft *r, uint64_t index);

/* The applied descriptor says so now. A leader that is no voter any more steps down only after its
 * promise has ended. */
NOYIELD void raft_apply_conf(struct raft *r, const struct raft_conf *conf);

/* Store liveness of a peer's store changed: support given, withdrawn or run out, in either direction.
 * Extensions of running support need no call. */
NOYIELD void raft_support_changed(struct raft *r, store_id store);

NOYIELD void raft_report_unreachable(struct raft *r, replica_id peer);
/* A snapshot that MSG_SNAP asked for was delivered (ok) or failed. Owed for every MSG_SNAP: until then
 * the peer gets nothing else. */
NOYIELD void raft_report_snapshot(struct raft *r, replica_id peer, bool ok);

/*
 * Cooperative transfer in two steps (protocol of leases): begin refuses further proposals; the owner
 * appends its revocation through raft_propose_revoke(), and when that is committed and the target
 * has it, calls finish, which sends TimeoutNow, steps down and releases the voters. Abort resumes.
 * Errors: STATUS_INVALID when the target is no caught-up voter or (finish) the revocation is not
 * committed yet, STATUS_NOT_LEADER. After a successful finish there is no way back.
 */
NOYIELD NODISCARD struct status raft_transfer_begin(struct raft *r, replica_id target);
NOYIELD NODISCARD struct status raft_propose_revoke(struct raft *r, struct raft_entry *entry);
NOYIELD NODISCARD struct status raft_transfer_finish(struct raft *r);
NOYIELD void raft_transfer_abort(struct raft *r);

/* Time until which a quorum promised not to elect another leader: the largest value seen in this
 * term (LSU_max); HTS_ZERO when not leader. */
NOYIELD struct hts raft_lead_support_until(struct raft *r);

/* True when the leader has nothing to send and every supported peer acknowledged everything: it
 * needs no ticks until something happens. For a follower: it supports a live leader and has applied
 * everything. */
NOYIELD bool raft_quiet(const struct raft *r);

/* A quiet core gives back what it keeps for work: queues, and entries that are stored and applied. */
NOYIELD void raft_trim(struct raft *r);

NOYIELD struct raft_state raft_get_state(const struct raft *r);
NOYIELD const struct raft_conf *raft_get_conf(const struct raft *r);
/* False when the peer is unknown or this replica is not leader. */
NOYIELD bool raft_get_progress(const struct raft *r, replica_id peer, struct raft_progress *out);

/* Entries at or below may be deleted: min of what is applied here, Match of live peers and snapshots
 * under way; on a follower what the leader said last. */
NOYIELD uint64_t raft_truncate_hint(const struct raft *r);
/* The same when the log has become too long: peers that want its older half are cut off, and will need a
 * snapshot, although they live. */
NOYIELD uint64_t raft_truncate_cut(const struct raft *r);
/* The owner deleted the stored log up to and including index. */
NOYIELD void raft_log_truncated(struct raft *r, uint64_t index, uint64_t term);
/* Memory below `index` may be dropped: it is stored. Entries above `applied` are kept anyway. */
NOYIELD void raft_cache_release(struct raft *r, uint64_t index);

/* Entries lo..hi (both included) that are in the log, at most `max`, for applying. References pass to
 * the caller. Errors: STATUS_NOT_FOUND, also when a snapshot that was accepted after the Ready that
 * asked for them has replaced the log: the snapshot holds their effects. Errors of the reader. */
NOYIELD NODISCARD struct status raft_read_entries(struct raft *r, uint64_t lo, uint64_t hi,
                                                  uint32_t max, struct raft_entry *out,
                                                  uint32_t *count_out);
NOYIELD const char *raft_role_text(enum raft_role role);
NOYIELD const char *raft_msg_type_text(enum raft_msg_type type);
