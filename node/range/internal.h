/*
 * internal.h -- the store and its replicas, shared by the files of this folder.
 */
#pragma once

#include "node/base/list.h"
#include "node/base/log.h"
#include "node/base/map.h"
#include "node/base/tree.h"
#include "node/range/closed/closed.h"
#include "node/range/closed/side.h"
#include "node/range/command.h"
#include "node/range/conflict/finished.h"
#include "node/range/conflict/latch.h"
#include "node/range/conflict/lock_table.h"
#include "node/range/conflict/tscache.h"
#include "node/range/store.h"
#include "node/range/txn/recent.h"
#include "node/runtime/fiber.h"
#include "node/storage/key/key.h"
#include "node/storage/mvcc/mvcc.h"

#define RANGE_TICK_NS              ((uint64_t)100000000)
#define RANGE_WRITES_INFLIGHT_MAX  2u
#define RANGE_PENDING_BYTES_MAX    ((size_t)32 << 20) /* Of the next write; then replicas wait. */
#define RANGE_APPLY_ENTRIES_MAX    256u
#define RANGE_ADMITTED_MAX         4096u              /* Writes of a range that are under way, */
#define RANGE_ADMITTED_BYTES_MAX   ((size_t)15 << 20) /* and what they write. */
#define RANGE_SNAPSHOT_CHUNK_BYTES ((size_t)512 << 10)
#define RANGE_SNAPSHOT_CHUNK_MAX   ((size_t)4 << 20)
#define RANGE_SNAPSHOT_RATE        ((uint64_t)128 << 20) /* Bytes per second that a store sends. */
#define RANGE_SNAPSHOTS_OUT_MAX    2u
#define RANGE_SNAPSHOTS_IN_MAX     2u

enum replica_life {
    REPLICA_UNINIT,     /* Created by a message: term and vote only, no keys. */
    REPLICA_INIT,       /* Holds the range's data. */
    REPLICA_INSTALLING, /* A snapshot replaces it: nothing can be read, see replica/install.c. */
    REPLICA_REMOVED,    /* Tombstone written; freed when nothing refers to it. */
};

#define RANGE_ASK_LEVELS 9u /* Doublings from 12 s to 51 min. */

struct replica;
struct range_load;
struct range_checksum;
struct gc_protections;
struct store_write;
struct snapshot_in;
struct snapshot_install;

/* A command on its way. Freed when it has applied or can never. */
struct proposal {
    struct list link; /* Of the replica, in order of appending: term, then index. */
    uint64_t index;
    uint64_t term;
    uint64_t applied_term;     /* Of the entry that took its place in the log; 0: none yet. */
    struct completion *waiter; /* NULL: nobody waits any more. */
    struct status *outcome;    /* Of the waiter. */
    bool answered;
    struct closed_write write; /* While its timestamp is chosen and it is not appended. */
    bool latched;
    struct replica *admitted_by; /* NULL: it does not count; see replica/admit.c. */
    size_t admitted_bytes;
    struct latch_guard guard;
    struct latch_point points[]; /* Then the keys' bytes. */
};

/* Writes that are under way; see replica/admit.c. */
struct admission {
    uint32_t count;
    size_t bytes;
    struct wait_queue queue;
};

struct replica {
    struct store *store;
    range_id range;
    replica_id id;
    enum replica_life life;
    struct range_desc desc; /* Its keys in desc_keys; zero while UNINIT. */
    uint8_t *desc_keys;
    struct tree_node id_node;  /* Of store.by_id. */
    struct tree_node key_node; /* Of store.by_key, once it has keys. */

    struct raft *raft;
    struct raft_view view;
    struct list dirty_link;
    struct list awake_link; /* Of store.awake_replicas; empty: it sleeps and is not ticked. */
    struct list ask_link;   /* Of one of store.ask; see change/gone.c. */
    struct list grave_link; /* REMOVED: of the store, until the tombstone is durable. */
    replica_id last_from;   /* Who spoke last: answers reach even those the descriptor misses. */
    store_id last_from_store;
    uint64_t ask_tick; /* When to ask whether it still is a member. */
    uint32_t refs;     /* Writes and fibers that point here. */
    bool dirty;        /* Of store.dirty. */
    bool truncating;   /* A truncation of the log is in a write. */

    struct applied_state applied;   /* Visible to reads. */
    struct applied_state submitted; /* Handed to the writer. */
    uint64_t locks_index; /* Last index submitted before or after which it had intents or locks. */
    uint64_t truncated_index;
    uint64_t truncated_term;
    uint64_t log_bytes; /* Roughly, since the truncation point. */

    uint64_t serving_term; /* Lease of this term is applied here; 0: none. */
    struct hts lease_start_ts;
    uint64_t lease_proposed_term;
    uint64_t lease_retry_term; /* The lease of this term could not be started yet; 0: none. */
    uint64_t revoked_index;    /* A revocation of ours is in the log here; 0: none. */

    struct latches latches;
    bool inherits;   /* Born of a split while the lease of the whole was held here. */
    bool lease_open; /* The lease is held here; what follows belongs to it. */
    uint64_t lease_since_ns;
    struct lock_table *locks; /* NULL: nobody has locked or waited yet. */
    struct hts known_since;   /* Commits above were applied here one by one; see txn/recent.h. */
    struct hts inherited_floor;
    struct hts floor; /* Likewise: everything read before is below (lease start, merges). */
    struct closed_ts closed;
    struct list proposals;
    uint32_t proposals_count;
    struct admission admission;
    struct wait_queue progress; /* Woken whenever raft moved on. */

    struct snapshot_in *snap_in;
    struct snapshot_install *install; /* While a large one is written. */
    uint32_t installs;                /* Whoever reads over a wait compares: was it replaced? */
    uint32_t snapshots_out;           /* Fibers. */
    struct list outgoing;             /* Peers with a snapshot under way, see snapshot.c. */
    bool collecting;                  /* store_gc() is under way. */
    bool changing;           /* A membership change or transfer is under way: one at a time. */
    struct range_load *load; /* NULL: nothing was served since the lease began. */
    struct hts gc_threshold; /* Reads below fail. Ahead of what is applied, never behind. */
    struct range_checksum *checksum; /* NULL: never asked for. */

    /* Splits and merges; see change/. */
    bool held;                 /* Nothing is served until the change is decided. */
    uint64_t hold_index;       /* Of the change in the log; 0: not appended yet. */
    uint64_t hold_term;        /* Likewise. */
    struct wait_queue serving; /* Requests that wait meanwhile. */
    bool unborn;               /* Right half of a split, not written yet: it is mute. */
    bool absorbed;             /* REMOVED: the range is no more, no id of it comes back. */
    uint64_t young_until_ns;   /* Peers that do not know of the split yet need no snapshot. */
    bool addressing;           /* A fiber tells the index. */
    bool settling;             /* A fiber ends a merge that stopped half way. */
    uint32_t change_ticks;     /* Until these are tried again. */
    struct raft_hard_state hard_state; /* As given to the last write. */
};

/* What must happen once a write is durable, per replica. */
struct write_item {
    struct list link;
    struct replica *replica; /* NULL: liveness. */
    bool has_mark;
    struct raft_mark mark;
    uint64_t liveness_version;
    bool applied; /* `state` became visible. */
    struct applied_state state;
    bool lease_started;
    uint64_t lease_term;
    struct hts lease_ts;
    bool snapshot;                      /* A snapshot was installed. */
    bool chunk;                         /* A chunk of one was written. */
    bool install_step;                  /* The next one may follow. */
    struct rpc_reply_to snapshot_reply; /* Of the first two. */
    struct blob *desc;                  /* A new descriptor, encoded. */
    struct replica *born;               /* SPLIT: the right half. Holds a reference. */
    uint64_t truncated_index;           /* The log was cut there; 0: no. */
    uint64_t truncated_term;
    uint64_t checksum_index; /* A digest is to be taken; 0: no. The write has nothing behind it. */
};

/* Raft messages that wait for the end of the turn or of a write. */
struct outbox_msg {
    struct list link;
    store_id to;
    range_id range;
    struct raft_msg msg;
    struct raft_entry entries[]; /* References are owned. */
};

struct outbox {
    struct list msgs;
    uint32_t count;
};

/* Pushes that wait at anchors of this store; see txn/push.c. Zero is empty. */
#define PUSH_BUCKETS   256u
#define PUSH_WAITS_MAX 4096u
struct push_wait;
struct push_waits {
    struct push_wait *buckets[PUSH_BUCKETS]; /* By pushee. */
    uint32_t count;
    uint32_t sent; /* Pushes of this store that are under way; see conflict/wait.c. */
};

/* One engine write of the store: everything that one or more turns produced. */
struct store_write {
    struct env_job job;
    struct list link; /* Of store.sealed. */
    bool wants_snap;  /* An engine snapshot is taken as soon as it is written. */
    struct engine_snap *snap;
    struct store *store;
    struct engine_batch batch;
    uint64_t seq;
    bool sync;
    bool synced; /* It was to be. */
    struct list items;
    struct outbox outbox;
    struct status st;
};

struct store {
    struct store_options o;
    struct shard *shard;
    struct engine *engine;
    struct hlc *hlc;
    struct map replicas;
    struct tree by_id;                 /* The same, in order of id, */
    struct tree by_key;                /* and those with keys in order of their start. */
    struct list awake_replicas;        /* Those that need ticks. */
    struct list ask[RANGE_ASK_LEVELS]; /* Followers by how often they ask; see change/gone.c. */
    uint64_t ticks;
    struct list dirty;
    struct list graves;   /* Removed replicas whose tombstone is not durable yet. */
    struct outbox outbox; /* To send at the end of this turn. */
    struct list
        sealed; /* Writes that are complete and wait for the writer, in front of `pending`. */
    struct store_write *pending;
    uint32_t writes_inflight;
    struct liveness *liveness;
    struct tscache *tscache;
    struct recent *recent;
    struct side *side; /* Closed timestamps of idle ranges. */
    struct finished_txns finished;
    struct push_waits pushes;
    struct hts quiet_until; /* No Raft before: own promises of the life before. */
    bool awake;
    struct shard_timer tick;
    uint64_t next_tick_ns;
    struct buf block;                                      /* Entries of the frame being built. */
    struct raft_entry apply_page[RANGE_APPLY_ENTRIES_MAX]; /* Of apply__submit(). */
    struct arena scratch; /* For one handler or hook; reset behind it. */
    struct engine_batch eval_batch;
    struct store_probe probe;
    struct gc_protections *protections; /* NULL: never told. */
    struct store_stats stats;
    uint32_t snapshots_out;
    uint32_t snapshots_queued;       /* Streams that wait for their turn. */
    struct wait_queue snapshot_turn; /* Where they do. */
    uint64_t snapshot_free_ns;       /* When the next chunk may leave. */
    struct list incoming;            /* Snapshots that come in. */
    struct list maintenance;         /* Fibers, see maintain/work.c. */
    struct list change_work;         /* Fibers, see change/change.c. */
    uint32_t change_fibers;
    uint32_t questions;  /* Being answered, see change/ask.c. */
    uint64_t write_seq;  /* Of the pending write, or the last one. */
    uint64_t synced_seq; /* Up to this one all are durable. */
    bool stopping;
    bool failed;            /* A write failed: nothing may be written, said or answered any more. */
    struct wait_queue idle; /* A write or a fiber ended. */
    uint32_t fibers;        /* That are inside. */
};

/* ---- store.c ---- */
NOYIELD struct store_write *store__pending(struct store *s);
/* Nothing more goes into the pending write: what follows is another, behind it. */
NOYIELD void store__seal(struct store *s);
NOYIELD void store__mark_dirty(struct replica *r);
NOYIELD void store__fatal(struct store *s, struct status why);
NOYIELD struct write_item *store__add_item(struct store_write *w, struct replica *r);
NOYIELD struct replica *store__find(struct store *s, range_id id);
/* Everything written so far, and what the fiber put into the pending write, is durable. The pending write
 * is not empty. Errors: those of waiting, STATUS_IO. */
MAYYIELD NODISCARD struct status store__wait_synced(struct store *s, uint64_t deadline_ns);
/* A replica enters the maps, or leaves them. Errors: STATUS_OVERLOADED, STATUS_MEMORY. */
NOYIELD NODISCARD struct status store__enter(struct replica *r);
NOYIELD void store__leave(struct replica *r);
/* It has a descriptor now: makes it known by its start key. Replicas with equal start keys are not:
 * the first stays. */
NOYIELD void store__enter_keys(struct replica *r);
/* The replica with keys that stands at or before `key` and holds it, or NULL. */
NOYIELD struct replica *store__find_key(struct store *s, struct bytes key);
/* Neighbours of a replica with keys, in order of start keys, adjacent or not; or NULL. */
NOYIELD struct replica *store__right_of(const struct replica *r);
/* The first one that starts at or behind `key`. */
NOYIELD struct replica *store__first_from(struct store *s, struct bytes key);
NOYIELD struct replica *store__left_of(const struct replica *r);

/* The applied state as `snap` has it: the engine may be ahead of the replica, whose last write has ended
 * on the writer's thread and is not known here yet. Errors: STATUS_NOT_FOUND, STATUS_WOULD_BLOCK. */
NOYIELD NODISCARD struct status store__read_applied(struct engine *e,
                                                    const struct engine_snap *snap,
                                                    enum engine_tier tier, range_id range,
                                                    struct applied_state *out);

/* ---- outbox.c ---- */
NOYIELD void outbox__init(struct outbox *o);
NOYIELD void outbox__clear(struct outbox *o);
NOYIELD void outbox__add(struct outbox *o, struct replica *r, const struct raft_msg *m);
/* To a store that the descriptor may not know. */
NOYIELD void outbox__add_to(struct outbox *o, struct replica *r, store_id to,
                            const struct raft_msg *m);
NOYIELD void outbox__send(struct store *s, struct outbox *o);
NOYIELD void outbox__on_raft(void *store, const struct rpc_message *m);

/* ---- change/gone.c ---- */
/* Range messages beside those of the core: numbers behind enum raft_msg_type, forever. */
enum range_msg_type {
    RANGE_MSG_MEMBER = 100, /* Am I still a member? Answered only if not. */
    RANGE_MSG_GONE = 101,   /* You were removed. */
};
/* Once per tick of the store: costs what is due, not what exists. */
NOYIELD void gone__tick(struct store *s);
/* A message of a peer arrived. */
NOYIELD void gone__heard(struct replica *r);
/* True when the sender was removed from the range; it is told. */
NOYIELD bool gone__check_sender(struct replica *r, replica_id from, store_id from_store);
/* Tells a replica that was just dropped. */
NOYIELD void gone__tell(struct replica *r, store_id store, replica_id id);
/* We were removed. */
NOYIELD void gone__told(struct replica *r);

/* ---- change/hold.c ---- */
/*
 * Is serving held back by a change of the range? Then no request may read or be appended: it gives up its
 * latches, waits, and begins anew with bounds and lease. proposal__append() answers
 * STATUS_WOULD_BLOCK to commands of requests meanwhile.
 */
NOYIELD bool change__held(const struct replica *r);
/* Until serving goes on. Errors: STATUS_OVERLOADED (it took too long; nothing was done),
 * STATUS_CANCELLED. */
MAYYIELD NODISCARD struct status change__wait_serving(struct replica *r, uint64_t deadline_ns);
/* From now on nothing new is appended by requests; returns when what was appended has applied. The caller
 * has begun a change. On failure serving goes on. */
MAYYIELD NODISCARD struct status change__hold(struct replica *r, uint64_t deadline_ns);
/* The change stands in the log, as its last entry: held until its fate is known here. */
NOYIELD void change__hold_until_applied(struct replica *r);
/* It was not appended: serving goes on. */
NOYIELD void change__release(struct replica *r);
/* Something applied, or the role changed: ends the hold when its reason is gone. */
NOYIELD void change__look_at_hold(struct replica *r);

/* ---- change/change.c, split.c, merge.c ---- */
/* Into the pending write, beside the ops of the command. */
NOYIELD NODISCARD struct status change__apply_split(struct replica *r, const struct command *c,
                                                    struct store_write *w, struct write_item *item);
NOYIELD NODISCARD struct status change__apply_merge(struct replica *r, const struct raft_entry *e,
                                                    const struct command *c, struct store_write *w,
                                                    struct write_item *item);
/* A new descriptor is in force. born: the right half of a split, or NULL. */
NOYIELD void change__applied(struct replica *r, struct replica *born);
/* Once per tick of an awake replica: goes on with what an earlier leaseholder left half done. */
NOYIELD void change__tick(struct replica *r);
/* There is such work: it must not fall asleep. */
NOYIELD bool change__wants_ticks(const struct replica *r);
/* Does another replica of this store hold keys of a snapshot's descriptor, and needs them? */
NOYIELD bool change__in_the_way(const struct replica *r, const struct range_desc *d);
/* What was merged away before the snapshot was taken goes. The way is free. */
NOYIELD void change__subsume(struct replica *r, const struct range_desc *d, struct store_write *w);
/* What the replica's data covers, a split that is not visible yet considered; empty: nothing. */
NOYIELD struct key_span change__keys_held(const struct replica *r);
/* A frozen replica that hears of nobody looks for itself whether it was merged away. */
NOYIELD void change__settle_later(struct replica *r);
/* Ends the fibers that do it: the store stops. */
NOYIELD void change__stop(struct store *s);
/* Questions of other stores about ranges: RPC_TYPE_RANGE. */
NOYIELD void change__on_ask(void *store, const struct rpc_message *m);

/* ---- replica/replica.c ---- */
NOYIELD NODISCARD struct status replica__create(struct store *s, range_id range, replica_id id,
                                                struct replica **out);
NOYIELD NODISCARD struct status replica__load(struct store *s, range_id range, struct bytes ident);
NOYIELD void replica__destroy(struct replica *r);
NOYIELD void replica__acquire(struct replica *r);
NOYIELD void replica__release(struct replica *r);
NOYIELD void replica__handle_ready(struct replica *r);
NOYIELD void replica__write_done(struct store *s, struct write_item *item);
NOYIELD void replica__remove(struct replica *r);
/* The same, and no replica of its range will ever be on this store again. */
NOYIELD void replica__remove_for_ever(struct replica *r, struct store_write *w);
/* It leaves the maps and is freed when nothing refers to it; its records are the caller's business. */
NOYIELD void replica__retire(struct replica *r);
/* Deletes log and records, leaves a tombstone: ids below next_id never come back. */
NOYIELD NODISCARD struct status replica__put_raft_removal(struct replica *r, uint64_t next_id,
                                                          struct engine_batch *b);
/* Is a tombstone in the way of this id, written or on its way? */
NOYIELD bool replica__buried(struct store *s, range_id range, replica_id id);
/* The right half of a split, unborn, with the records that the caller writes. */
NOYIELD NODISCARD struct status replica__create_right(struct store *s, const struct range_desc *d,
                                                      replica_id id, const struct applied_state *a,
                                                      const struct raft_hard_state *h,
                                                      struct replica **out);
NOYIELD NODISCARD struct status replica__hard_state_encode(const struct raft_hard_state *h,
                                                           struct buf *out);
/* Until raft moved on. Errors: those of waiting; STATUS_CANCELLED when the store stops. */
MAYYIELD NODISCARD struct status replica__wait_progress(struct replica *r, uint64_t deadline_ns);
/* A change of membership or lease begins: finds the leaseholder and keeps it and the store alive until
 * replica__end_change(). Errors: STATUS_NOT_LEADER, STATUS_OVERLOADED (one is under way). */
NOYIELD NODISCARD struct status replica__begin_change(struct store *s, range_id range,
                                                      struct replica **out);
NOYIELD void replica__end_change(struct replica *r);
NOYIELD void replica__refresh_view(struct replica *r);
NOYIELD NODISCARD struct status replica__set_desc(struct replica *r, const struct range_desc *d);
/* The descriptor as the engine, or an engine snapshot of it, has it. Reads the disk. */
NOYIELD NODISCARD struct status replica__read_desc(struct engine *e, const struct engine_snap *snap,
                                                   struct bytes start_key, struct arena *arena,
                                                   struct range_desc *out);
NOYIELD NODISCARD struct status replica__ident_encode(const struct replica *r,
                                                      struct bytes start_key, struct buf *out);

/* ---- replica/apply.c ---- */
NOYIELD void apply__submit(struct replica *r, uint64_t lo, uint64_t hi);
NOYIELD void apply__resolve_proposals(struct replica *r, uint64_t upto);
NOYIELD void apply__fail_proposals(struct replica *r, struct status why);
NOYIELD void apply__answer_committed(struct replica *r);
/* Is there no intent and no lock in the engine? It shows what was applied, and perhaps some or all of what was
 * submitted since: neither of the two alone can tell. */
NOYIELD bool apply__no_locks(const struct replica *r);

/* ---- replica/admit.c ---- */
/* Waits until there is room for a write of about that many bytes; it counts until proposal__free().
 * Errors: STATUS_OVERLOADED, STATUS_NOT_LEADER, those of waiting. */
MAYYIELD NODISCARD struct status admit__write(struct replica *r, struct proposal *p, size_t bytes,
                                              uint64_t deadline_ns);
NOYIELD void admit__done(struct proposal *p);

/* ---- replica/propose.c ---- */
/* With latches on these keys, copied. NULL: out of memory. */
NOYIELD struct proposal *proposal__create(const struct bytes *keys, uint32_t count);
NOYIELD void proposal__free(struct proposal *p);
/* Appends under the append gate; on success the proposal belongs to the replica. */
NOYIELD NODISCARD struct status proposal__append(struct replica *r, const struct command *c,
                                                 enum raft_entry_kind kind, uint64_t term,
                                                 struct proposal *p);
/* Waits for the outcome. Errors: STATUS_NOT_PROPOSED (overwritten), STATUS_AMBIGUOUS. */
MAYYIELD NODISCARD struct status proposal__wait(struct proposal *p, struct completion *c,
                                                const struct status *outcome, uint64_t deadline_ns);

/* ---- conflict/wait.c ---- */
/*
 * Waits until a request that was blocked may be tried again: queues up at the blocker's key, pushes the
 * holder when its patience ends, settles what turns out to be finished. Holds no latches. `w` stays in the
 * queue until lock_table_leave().
 * Errors:  STATUS_LOCKED (NOWAIT, lock timeout), STATUS_DEADLOCK, STATUS_TXN_RETRY (the asking
 *          transaction was aborted), STATUS_OVERLOADED, STATUS_NOT_LEADER, STATUS_TIMEOUT,
 *          STATUS_CANCELLED.
 */
MAYYIELD NODISCARD struct status wait__blocked(struct replica *r, const struct range_batch *b,
                                               struct lock_waiter *w,
                                               const struct lock_blocker *blocker,
                                               enum mvcc_strength want, uint64_t deadline_ns);

/* ---- txn/push.c ---- */
/* RANGE_OP_PUSH at the anchor's leaseholder: waits at most args->wait_ns for a change, and watches for
 * cycles of waits meanwhile. The response says how the pushee stands. Errors: STATUS_DEADLOCK: the
 * pusher is the one to give way; STATUS_TXN_RETRY: the pusher was aborted. */
MAYYIELD NODISCARD struct status push__serve(struct replica *r, const struct range_request *q,
                                             uint64_t deadline_ns, struct arena *arena,
                                             struct range_response *out);
/* RANGE_OP_QUERY_TXN: how the transaction stands, and who waits for it. */
MAYYIELD NODISCARD struct status push__serve_query(struct replica *r, const struct range_request *q,
                                                   struct arena *arena, struct range_response *out);
/* Its record or marker changed: pushes that wait for it look again. */
NOYIELD void push__changed(struct replica *r, struct uuid txn);
/* The lease is gone: whoever waits here goes elsewhere. */
NOYIELD void push__stop(struct replica *r);
/* The pusher needs no answer any more; its push, if it waits on this store, ends. */
NOYIELD void push__withdraw(struct store *s, struct uuid pushee, struct uuid pusher);

/* ---- txn/record.c ---- */
/* The key of a record, in the arena. */
NOYIELD NODISCARD struct status record__key(struct bytes anchor, struct uuid txn,
                                            struct arena *arena, struct bytes *out);
NOYIELD NODISCARD struct status record__decode(struct bytes stored, struct arena *arena,
                                               struct range_txn_info *out, struct key_span **spans,
                                               uint32_t *spans_count);
/* Below, markers of transactions may have been forgotten. */
NOYIELD struct hts record__floor(const struct replica *r);
/* Might a transaction that began then still get a record here? */
NOYIELD bool record__may_create(const struct replica *r, struct hts min_ts);
/*
 * How a transaction stands here: its record, or what the markers say without one. Waits for commands on
 * the record that are under way; what it says is true until the caller yields. Serve checks are the
 * caller's.
 */
MAYYIELD NODISCARD struct status record__read(struct replica *r, struct bytes anchor,
                                              struct uuid txn, struct hts min_ts,
                                              uint64_t deadline_ns, struct arena *arena,
                                              struct range_txn_info *out);
/* Aborts it: marks it finished and, if there is a record, writes ABORTED through the log. A STAGING or
 * COMMITTED record stays as it is; *out says how it stands afterwards. */
MAYYIELD NODISCARD struct status record__abort(struct replica *r, struct bytes anchor,
                                               struct uuid txn, uint64_t deadline_ns,
                                               struct arena *arena, struct range_txn_info *out);

/* ---- txn/recover.c ---- */
/* Decides a STAGING record whose coordinator is gone (or must give way); see node/docs/0007. Sends to
 * other ranges. *out: COMMITTED or ABORTED, or how it stands if it moved on meanwhile. */
MAYYIELD NODISCARD struct status recover__txn(struct store *s, struct bytes anchor,
                                              const struct range_txn_info *staging,
                                              uint64_t deadline_ns, struct arena *arena,
                                              struct range_txn_info *out);

/* ---- closed/closed.c ---- */
/* Writes below stand; new ones must land above it. */
NOYIELD struct hts closed__assigned(const struct replica *r);
/* A write's timestamp is chosen: nothing at or above it is closed until it is appended or given up. */
NOYIELD void closed__track(struct replica *r, struct proposal *p, struct hts ts);
NOYIELD void closed__untrack(struct replica *r, struct proposal *p);
/* Up to when this replica can serve reads by itself, from what has applied. */
NOYIELD struct hts closed__effective(const struct replica *r);
/* What shall be closed now, as far as writes and leases allow. */
NOYIELD struct hts closed__target(const struct store *s);
/* The promise of an entry about to be appended in this term; its write is untracked. */
NOYIELD struct hts closed__attach(struct replica *r, enum command_kind kind, uint64_t term);
/* Entries have been applied. */
NOYIELD void closed__applied(struct replica *r);
/* The effective one may have risen. */
NOYIELD void closed__tell(struct replica *r);
/* The replica goes. */
NOYIELD void closed__forget(struct replica *r);

/* ---- closed/follower.c ---- */
/* A batch of plain reads at a given time, within the bounds of the range, from what is settled here. The
 * caller holds the replica. Errors: STATUS_NOT_LEADER: the leaseholder has to be asked (*out may hold
 * anything); STATUS_INVALID (collected already), others of evaluation. */
MAYYIELD NODISCARD struct status follower__read(struct replica *r, const struct range_batch *b,
                                                struct arena *arena, struct range_result *out);

/* ---- replica/remote.c ---- */
NOYIELD void range__on_batch(void *store, const struct rpc_message *m);

/* ---- lease/lease.c ---- */
NOYIELD void lease__role_changed(struct replica *r);
/* Starts the lease when an earlier attempt could not be proposed. */
NOYIELD void lease__retry(struct replica *r);
/* The lease of the present term has begun here at `ts`: what was read elsewhere is below. */
NOYIELD void lease__opened(struct replica *r, struct hts ts);
/* It has ended, or may have: locks, waiters and pushes go. May be called when there is none. */
NOYIELD void lease__closed(struct replica *r);
/* May this replica serve at `ts` now? Errors: STATUS_NOT_LEADER. */
NOYIELD NODISCARD struct status lease__check(struct replica *r, struct hts ts);

/* ---- maintain/load.c ---- */
/* What one batch took; counts add up. */
struct load_sample {
    uint64_t requests;
    uint64_t bytes_read;
    uint64_t bytes_written;
    uint64_t cpu_ns; /* Of evaluation on the shard, waits excluded. */
};
/* A batch was served here. Cheap; without memory it is forgotten. */
NOYIELD void load__note(struct replica *r, const struct load_sample *x);
NOYIELD struct store_range_load load__read(const struct replica *r);
/* The lease begins or ends here. */
NOYIELD void load__reset(struct replica *r);

/* ---- maintain/gc.c ---- */
/* Whoever has read the range at read_ts asks when done, without a yield in between: was all of it still
 * there? Errors: STATUS_INVALID. */
NOYIELD NODISCARD struct status gc__check_read(const struct replica *r, struct hts read_ts);
/* The record of a range's threshold; zero: none. The right half of a split starts with that of the left, the
 * union of a merge with the higher one. */
NOYIELD NODISCARD struct status gc__put_threshold(struct engine_batch *b, range_id range,
                                                  struct hts threshold);
NOYIELD NODISCARD struct status gc__decode_threshold(struct bytes value, struct hts *out);
NOYIELD NODISCARD struct status gc__load_threshold(struct replica *r, struct arena *arena);
NOYIELD void gc__destroy(struct store *s);

/* ---- maintain/work.c ---- */
/* On the stack of a fiber that maintains a range. */
struct maintain_work {
    struct list link; /* Of store.maintenance. */
    struct replica *replica;
    struct fiber *fiber;
};
/* Keeps replica and store alive until work__end(); the fiber is cancelled, for good, when the store stops.
 * Errors: STATUS_CANCELLED (it does). */
NOYIELD NODISCARD struct status work__begin(struct maintain_work *w, struct replica *r);
NOYIELD void work__end(struct maintain_work *w);
NOYIELD void work__stop(struct store *s);

/* ---- maintain/checksum.c ---- */
/* The command with this index was written, and `snap` (owned; may be NULL) was taken behind it. */
NOYIELD void checksum__applied(struct replica *r, uint64_t index, struct engine_snap *snap);
NOYIELD void checksum__on_ask(void *store, const struct rpc_message *m);
NOYIELD void checksum__destroy(struct replica *r);

/* ---- maintain/leftovers.c ---- */
/* Settles what transactions have left behind in the range. */
MAYYIELD NODISCARD struct status leftovers__settle(struct replica *r,
                                                   const struct store_gc_options *o,
                                                   uint64_t deadline_ns,
                                                   struct store_gc_result *out);

/* ---- replica/snapshot.c ---- */
NOYIELD void snapshot__send(struct replica *r, replica_id peer);
/* Ends the streams that are under way. */
NOYIELD void snapshot__stop(struct replica *r);

/* ---- replica/receive.c ---- */
NOYIELD void snapshot__on_chunk(void *store, const struct rpc_message *m);
/* The core has accepted what was offered. Sets r->install when more writes than this one are needed: then the
 * rest of the Ready belongs to it. */
NOYIELD void snapshot__install(struct replica *r, const struct raft_ready *rd,
                               struct store_write *w);
/* Behind a Ready: what the core did not take is answered and dropped. */
NOYIELD void snapshot__settle(struct replica *r);
NOYIELD void snapshot__drop(struct replica *r);
NOYIELD void snapshot__chunk_written(struct replica *r, const struct rpc_reply_to *reply);

/* ---- replica/install.c ---- */
/* What a snapshot puts in the place of what. Bytes are borrowed. */
struct install_plan {
    uint64_t index;
    uint64_t term;
    uint64_t chunks;        /* In the spool; 0: it is all in one write. */
    struct key_span old;    /* Of the range as it was here; empty: nothing. */
    struct range_desc desc; /* As it will be. */
};
NOYIELD NODISCARD struct status install__put_chunk(struct engine_batch *b, range_id range,
                                                   uint64_t seq, struct bytes block);
NOYIELD NODISCARD struct status install__delete_spool(struct engine_batch *b, range_id range);
NOYIELD NODISCARD struct status install__delete_old(struct engine_batch *b,
                                                    const struct install_plan *p);
NOYIELD NODISCARD struct status install__put_last(struct engine_batch *b,
                                                  const struct install_plan *p, replica_id id);
/* From the spool. Failure is fatal for the store: the core believes in it. */
NOYIELD NODISCARD struct status install__start(struct replica *r, const struct install_plan *p,
                                               const struct applied_state *state,
                                               const struct rpc_reply_to *reply,
                                               struct store_write *w);
/* Is this call the one that is answered at the end? */
NOYIELD bool install__answers(const struct replica *r, const struct rpc_message *m);
/* What goes with the last write: entries, messages, a mark. */
NOYIELD struct engine_batch *install__last_batch(struct replica *r);
NOYIELD struct outbox *install__outbox(struct replica *r);
NOYIELD void install__set_mark(struct replica *r, struct raft_mark mark);
/* A step is durable. */
NOYIELD void install__next(struct replica *r);
/* The store stops or has failed. */
NOYIELD void install__stop(struct replica *r);
NOYIELD void install__destroy(struct replica *r);
/* Before a replica is loaded: finishes what a crash has interrupted. Blocks. */
NOYIELD NODISCARD struct status install__recover(struct store *s, range_id range, replica_id id,
                                                 bool *done);
