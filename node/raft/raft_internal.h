/*
 * raft_internal.h -- what the files of this folder share. See raft.h for the contract.
 *
 * Naming: raft__x() is folder-wide. Each file owns the fields named after it in struct raft; others
 * read them freely and change them through its functions.
 */
#pragma once

#include "node/base/hash.h"
#include "node/base/invariant.h"
#include "node/raft/raft.h"

/* Foreign terms and indexes above this are nonsense: adding to them could wrap. */
#define RAFT__NUMBER_MAX       ((uint64_t)1 << 62)
#define RAFT__OUTBOX_MAX       4096u
#define RAFT__TRANSFER_LAG_MAX 64u /* How far a transfer target may be behind. */

/*
 * The log: (truncated_index, last], of which [first, last] is in memory.
 *
 *   truncated < ... stored only ... < first <= ... <= last
 *   applied <= stable <= handed <= last       (after a snapshot is accepted: stable catches up later)
 *
 * Invariant: everything below `first` is stored and durable; slots hold one reference per entry.
 */
struct raft__log {
    struct raft_log_reader reader;
    struct raft_entry *slots;
    uint32_t head;
    uint32_t count;
    uint32_t cap;
    uint64_t first;     /* Index of slots[head]. */
    uint64_t base_term; /* Term of first - 1. */
    uint64_t truncated_index;
    uint64_t truncated_term;
    uint64_t handed;      /* Entries up to here were given to the owner. */
    uint64_t stored_last; /* Highest index that the owner was told to store and not to delete. */
    uint64_t stable;      /* Durable. */
    uint64_t mark_seq;    /* Last mark handed out. */
    uint64_t done_seq;    /* Last mark completed. */
    uint64_t void_seq;    /* Marks up to here are from before the log was last rewritten. */
    bool pinned;          /* The outstanding Ready points into slots. */
    struct raft_entry *pinned_slots; /* What the outstanding Ready points into after a change. */
    uint32_t pinned_head;
    uint32_t pinned_count;
};

NOYIELD struct status raft__log_init(struct raft__log *l, const struct raft_options *o);
NOYIELD void raft__log_deinit(struct raft__log *l);
NOYIELD uint64_t raft__log_last(const struct raft__log *l);
NOYIELD uint64_t raft__log_last_term(const struct raft__log *l);
/* False when the index is outside [truncated, last] or cannot be read. */
NOYIELD bool raft__log_term(const struct raft__log *l, uint64_t index, uint64_t *term_out);
NOYIELD bool raft__log_matches(const struct raft__log *l, uint64_t index, uint64_t term);
/* Entry in memory; index must be in [first, last]. */
NOYIELD const struct raft_entry *raft__log_at(const struct raft__log *l, uint64_t index);
/* Largest index <= `index` whose term is <= `term` (or unknown). The search of rule 2.4.5. */
NOYIELD uint64_t raft__log_hint(const struct raft__log *l, uint64_t index, uint64_t term,
                                uint64_t *term_out);
/* Makes the following cut (if cut) and append of count entries unable to fail. */
NOYIELD NODISCARD struct status raft__log_reserve(struct raft__log *l, uint32_t count, bool cut);
/* Drops everything from index on. Wants raft__log_reserve(.., true) before. */
NOYIELD void raft__log_cut(struct raft__log *l, uint64_t index, uint64_t prev_term);
/* Takes over one reference of the payload. Wants raft__log_reserve() before. */
NOYIELD void raft__log_push(struct raft__log *l, struct raft_entry e);
/* A mark for everything handed out so far. */
NOYIELD struct raft_mark raft__log_mark(struct raft__log *l);
/* True when it proves that the log as it is now is durable up to mark.last_index. */
NOYIELD bool raft__log_mark_done(struct raft__log *l, struct raft_mark mark);
/* Empties the log: it now begins behind (index, term), which is not durable yet. */
NOYIELD void raft__log_restore(struct raft__log *l, uint64_t index, uint64_t term);
NOYIELD void raft__log_drop_memory(struct raft__log *l, uint64_t upto);
/* Gives back the array when it is empty. */
NOYIELD void raft__log_trim(struct raft__log *l);
NOYIELD void raft__log_unpin(struct raft__log *l);
/* True when a configuration entry is, or may be, in (after, upto]. */
NOYIELD bool raft__log_may_have_conf(const struct raft__log *l, uint64_t after, uint64_t upto);

/* Messages that left the leader and are not acknowledged; see progress.c. */
struct raft__inflight {
    uint64_t last_index;
    uint64_t bytes;
};

struct raft__progress {
    enum raft_progress_state state;
    uint64_t match;
    uint64_t next;            /* Invariant: next > match. */
    uint64_t acked_commit;    /* What the peer said it knows. */
    uint64_t sent_commit;     /* What it will know once the last App arrived. */
    uint64_t snapshot_index;  /* SNAPSHOT: the snapshot asked for is at this index or above. */
    uint64_t fortified_epoch; /* Store epoch that the peer's promise names; 0: none. */
    bool recent_active;       /* Heard from since the last quorum check. */
    bool heard;               /* Heard from since the last probe interval. */
    bool probe_sent;          /* PROBE: wait for an answer or for the next interval. */
    bool ping;                /* REPLICATE: send an App even if there is nothing new. */
    struct raft__inflight *ring;
    uint32_t ring_cap;
    uint32_t ring_head;
    uint32_t ring_count;
    uint64_t ring_bytes;
};

NOYIELD void raft__progress_init(struct raft__progress *p, uint64_t last);
NOYIELD void raft__progress_deinit(struct raft__progress *p);
/* Gives back the ring when nothing is in flight. */
NOYIELD void raft__progress_trim(struct raft__progress *p);
NOYIELD void raft__progress_probe(struct raft__progress *p);
NOYIELD void raft__progress_replicate(struct raft__progress *p);
NOYIELD void raft__progress_snapshot(struct raft__progress *p, uint64_t index);
/* True when nothing with entries may be sent now. */
NOYIELD bool raft__progress_paused(const struct raft__progress *p);
/* Records an App with entries up to last_index. */
NOYIELD void raft__progress_sent(struct raft__progress *p, uint64_t last_index, uint64_t bytes);
/* True when it taught us something. */
NOYIELD bool raft__progress_ack(struct raft__progress *p, uint64_t index);
/* A rejected App with prev = rejected; `next` is where to try again. False when stale. */
NOYIELD bool raft__progress_reject(struct raft__progress *p, uint64_t rejected, uint64_t hint);

enum raft__vote {
    RAFT__VOTE_NONE,
    RAFT__VOTE_GRANTED,
    RAFT__VOTE_REFUSED,
};

enum raft__vote_result {
    RAFT__VOTES_PENDING,
    RAFT__VOTES_WON,
    RAFT__VOTES_LOST,
};

/* Exists while this replica is leader (allocated before it campaigns, so that winning cannot fail).
 * peers[] runs parallel to conf.peers[]. */
struct raft__leader {
    struct raft__progress peers[RAFT_PEERS_MAX];
    struct hts lsu_max;    /* Largest promise that was ever shown in this term. */
    uint64_t pending_conf; /* At or below may be an unapplied configuration change. */
    uint64_t uncommitted_bytes;
    replica_id transfer_target; /* 0: no transfer. */
    uint64_t revoke_index;      /* 0: not appended yet. */
    bool stepping_down;
    uint64_t down_term; /* Highest term heard while stepping down. */
};

/* A snapshot that was accepted and is not installed yet. */
struct raft__snapshot {
    uint64_t index;
    uint64_t term;
    bool handed;
    struct raft_conf conf;
};

struct raft__outbox {
    struct raft_msg *msgs;
    uint32_t count;
    uint32_t cap;
};

/* Entries read back for a peer that is far behind; freed by raft_advance(). */
struct raft__chunk {
    struct raft__chunk *next;
    uint32_t count;
    struct raft_entry entries[RAFT_APP_ENTRIES_MAX];
};

struct raft {
    replica_id self;
    store_id store;
    const struct raft_view *view;
    uint32_t election_ticks;
    uint32_t election_jitter_ticks;
    uint32_t heartbeat_ticks;
    uint32_t plants;
    struct rng rng;

    enum raft_role role;
    replica_id leader;         /* Of this term, as far as heard; 0: unknown. */
    struct raft_hard_state hs; /* Now. */
    struct raft_hard_state hs_handed;
    struct raft_conf conf;
    struct raft__log log;
    uint64_t applied;
    uint64_t apply_handed;
    uint64_t truncate_hint; /* As the leader said. */
    struct raft__snapshot *snapshot;

    uint32_t elapsed;              /* Ticks since a leader was heard, or the last quorum check. */
    uint32_t timeout;              /* Election at this many. */
    uint32_t beat_elapsed;         /* Ticks since the last probe interval. */
    uint8_t votes[RAFT_PEERS_MAX]; /* enum raft__vote, parallel to conf.peers. */
    bool transfer_campaign;        /* This candidacy was asked for by the leader. */
    bool self_vote_wanted;         /* The own vote waits for its Ready ... */
    uint64_t self_vote_seq;        /* ... and then for this mark. */
    uint64_t defortify_term;       /* Led this term; tell the followers that it is over. 0: no. */
    struct raft__leader *lead;     /* Also allocated while campaigning. */

    struct raft__outbox now;
    struct raft__outbox after;
    struct raft__outbox out_now; /* Lent to the owner until raft_advance(). */
    struct raft__outbox out_after;
    struct raft__chunk *chunks;
    bool flush; /* Leader: look for Apps to send. */
    bool ready_out;
    enum raft_role role_handed;
    uint64_t term_handed;
    replica_id leader_handed;
};

/* conf.c */
NOYIELD bool raft__conf_valid(const struct raft_conf *c);
NOYIELD bool raft__conf_equal(const struct raft_conf *a, const struct raft_conf *b);
/* Position of a peer, or -1. */
NOYIELD int raft__conf_find(const struct raft_conf *c, replica_id id);
NOYIELD bool raft__is_voter(enum raft_peer_type t); /* Counts in some half. */
/* All three take an array parallel to c->peers and answer for both halves of a joint conf. */
NOYIELD uint64_t raft__conf_commit(const struct raft_conf *c, const uint64_t *match,
                                   uint32_t plants);
NOYIELD enum raft__vote_result raft__conf_votes(const struct raft_conf *c, const uint8_t *votes);
NOYIELD struct hts raft__conf_support(const struct raft_conf *c, const struct hts *expirations);

/* raft.c */
NOYIELD bool raft__planted(const struct raft *r, enum raft_plant plant);
NOYIELD void raft__send(struct raft *r,
                        struct raft_msg m); /* from, and term if 0, are filled in. */
NOYIELD struct raft_msg *raft__outbox_push(struct raft__outbox *box);
NOYIELD void raft__commit_to(struct raft *r, uint64_t index);

/* election.c */
enum raft__campaign {
    RAFT__CAMPAIGN_ORDINARY,
    RAFT__CAMPAIGN_TRANSFER,
};
NOYIELD void raft__become_follower(struct raft *r, uint64_t term, replica_id leader);
NOYIELD void raft__restart_timer(struct raft *r, uint32_t elapsed);
NOYIELD void raft__try_campaign(struct raft *r, enum raft__campaign how);
NOYIELD void raft__handle_vote_request(struct raft *r, const struct raft_msg *m);
NOYIELD void raft__handle_vote_response(struct raft *r, const struct raft_msg *m);
/* A vote message says what its sender knows to be committed: see election.c. */
NOYIELD void raft__learn_commit(struct raft *r, const struct raft_msg *m);
NOYIELD void raft__count_self_vote(struct raft *r);
NOYIELD void raft__step_down(struct raft *r, uint64_t term);
NOYIELD void raft__step_down_if_due(struct raft *r);
NOYIELD void raft__tick_check_quorum(struct raft *r);
NOYIELD void raft__free_leader(struct raft *r);

/* replicate.c */
NOYIELD NODISCARD struct status raft__handle_app(struct raft *r, const struct raft_msg *m);
NOYIELD void raft__handle_heartbeat(struct raft *r, const struct raft_msg *m);
NOYIELD NODISCARD struct status raft__handle_snapshot(struct raft *r, const struct raft_msg *m);
NOYIELD NODISCARD struct status raft__handle_app_resp(struct raft *r, const struct raft_msg *m);
NOYIELD void raft__handle_heartbeat_resp(struct raft *r, const struct raft_msg *m);
NOYIELD void raft__maybe_commit(struct raft *r);
NOYIELD void raft__flush(struct raft *r);
NOYIELD void raft__tick_probe(struct raft *r);

/* fortify.c */
NOYIELD bool raft__supporting(const struct raft *r);
NOYIELD void raft__check_support_end(struct raft *r);
NOYIELD bool raft__peer_live(const struct raft *r, uint32_t at);
NOYIELD bool raft__peer_fortified(const struct raft *r, uint32_t at);
NOYIELD void raft__fortify_peer(struct raft *r, uint32_t at);
NOYIELD void raft__handle_fortify(struct raft *r, const struct raft_msg *m);
NOYIELD void raft__handle_fortify_resp(struct raft *r, const struct raft_msg *m);
NOYIELD void raft__handle_defortify(struct raft *r, const struct raft_msg *m);
NOYIELD void raft__broadcast_defortify(struct raft *r);
NOYIELD bool raft__defortify_due(struct raft *r);
NOYIELD struct hts raft__lsu_now(const struct raft *r);

/* transfer.c */
NOYIELD void raft__handle_timeout_now(struct raft *r, const struct raft_msg *m);
NOYIELD NODISCARD struct status raft__append_own(struct raft *r, struct raft_entry *entries,
                                                 uint32_t count);
