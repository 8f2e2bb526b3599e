/*
 * sim.h -- a handful of replicas of one range in memory: disks, a network, store liveness and clocks
 * that do only what a test tells them to.
 *
 * Used by the scripts (test_scripts.c: every step by hand, with a trace) and by the randomised checker
 * (test_random.c: every step by dice). The checks of the protocol's invariants run inside, at every
 * step: the first one that is broken is kept in sim.violation.
 *
 * A node's slot is where it lives (store = slot + 1). Its replica id is slot + 1 + 16 * incarnation, so
 * that a replica that was removed comes back as another.
 */
#pragma once

#include "node/base/hash.h"
#include "node/raft/raft.h"
#include "tests/lib/test.h"

#define SIM_NODES_MAX   9
#define SIM_INDEX_FIRST 10 /* As for a new range: its log begins behind (10, term 5). */
#define SIM_TERM_FIRST  5
#define SIM_TICK_NS     ((uint64_t)100000000)
#define SIM_SUPPORT_NS  ((uint64_t)3000000000)

/* What a replica has applied: enough to notice any difference. */
struct sim_applied {
    uint64_t index;
    uint64_t term;
    uint64_t hash;
    struct raft_conf conf;
};

struct sim_disk {
    struct raft_hard_state hs;
    uint64_t truncated_index;
    uint64_t truncated_term;
    struct raft_entry *log; /* [0] is at truncated_index + 1. */
    uint32_t log_count;
    uint32_t log_cap;
    struct sim_applied applied;
};

/* A write on its way to the disk: lost in a crash. */
struct sim_write {
    struct sim_write *next;
    bool has_hs;
    struct raft_hard_state hs;
    bool has_snapshot;
    struct sim_applied snapshot;
    struct raft_entry *entries;
    uint32_t entries_count;
    uint64_t stale_first;
    uint64_t stale_last;
    bool has_mark;
    struct raft_mark mark;
    struct raft_msg *msgs;
    uint32_t msgs_count;
    bool has_applied;
    struct sim_applied applied;
};

struct sim_packet {
    struct raft_msg m;
    struct raft_entry *entries; /* Owned. */
    struct raft_conf conf;
};

/* One direction of store liveness: `requester` supported by `supporter`. */
struct sim_support {
    uint64_t epoch; /* Durable at the supporter. */
    struct hts expiration;
    uint64_t from_epoch; /* What the requester knows. */
    struct hts from_expiration;
};

struct sim;

struct sim_node {
    struct sim *sim;
    uint32_t slot;
    replica_id id;       /* 0: never existed or removed. */
    struct raft *r;      /* NULL: down. */
    uint64_t boot_at_ns; /* Down until then. */
    bool booting;
    struct raft_view view;
    struct sim_disk disk;
    struct sim_write *writes;
    struct sim_write **writes_end;
    struct sim_applied mem; /* Applied, or on its way to the disk. */
    uint64_t own_epoch;
    struct hts max_requested; /* Durable. */
    bool hold_writes;         /* Scripts: writes complete only by command. */
    uint64_t commit_seen;
    uint64_t led_term;
    uint64_t lease_term; /* Its START was proposed in this term. */
    uint64_t transfer_deadline_ns;
};

/* What the whole group agreed on, by index. */
struct sim_fact {
    uint64_t term;
    uint64_t payload_hash;
    uint64_t commit_term; /* Smallest term in which somebody was seen to know. 0: not committed. */
    uint64_t state_hash;
    bool applied;
    bool is_conf;
    struct raft_conf conf; /* After this index. */
};

struct sim_term {
    uint32_t leader; /* Replica id. */
    struct hts lsu;
    bool released; /* By a transfer. */
};

struct sim_written; /* Table of every (index, term) ever appended. */

struct sim {
    struct sim_node nodes[SIM_NODES_MAX];
    uint32_t count;
    uint64_t now_ns;
    struct sim_support support[SIM_NODES_MAX][SIM_NODES_MAX]; /* [requester][supporter] */
    bool cut[SIM_NODES_MAX][SIM_NODES_MAX];                   /* [from][to] */
    struct sim_packet *packets;
    uint32_t packets_count;
    uint32_t packets_cap;
    struct sim_fact *facts; /* [index - SIM_INDEX_FIRST] */
    uint32_t facts_count;
    uint32_t facts_cap;
    struct sim_applied newest; /* The furthest that anybody applied. */
    struct sim_term *terms;
    uint32_t terms_count;
    struct sim_written *written;
    uint32_t written_count;
    uint32_t written_cap;
    uint32_t used_id[SIM_NODES_MAX]; /* Last replica id of each slot. */
    uint32_t plants;
    uint64_t seed;
    uint64_t snapshots; /* Installed. */
    uint64_t payloads;
    struct buf *trace; /* NULL: none. */
    char violation[256];
};

void sim_init(struct sim *s, uint32_t voters, uint32_t learners, uint64_t seed, uint32_t plants);
void sim_deinit(struct sim *s);

bool sim_broken(const struct sim *s);
void sim_violate(struct sim *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
void sim_trace(struct sim *s, const char *fmt, ...) PRINTF_LIKE(2, 3);

struct sim_node *sim_find(struct sim *s, replica_id id); /* NULL when no such replica exists. */
bool sim_is_leader(const struct sim_node *n);

/* Takes the Ready of a node: sends, queues the write. False when there was none. */
bool sim_ready(struct sim_node *n);
/* The oldest write becomes durable. False when there was none. */
bool sim_write_done(struct sim_node *n);
/* Delivers packet i (removing it unless `keep`). */
void sim_deliver(struct sim *s, uint32_t i, bool keep);
void sim_drop(struct sim *s, uint32_t i);
void sim_crash(struct sim_node *n);
/* From the disk; at once, or when its own promises have passed (boot_at_ns). */
void sim_restart(struct sim_node *n);
void sim_boot_if_due(struct sim_node *n);
/* Proposes a payload of the text; conf NULL for a normal entry. */
struct status sim_propose(struct sim_node *n, const char *text, const struct raft_conf *conf);
/* Begins and appends the revocation; then sim_transfer_poll() until it is over. */
struct status sim_transfer(struct sim_node *n, replica_id target);
void sim_transfer_poll(struct sim_node *n);
/* Drops the stored log up to index (at most what is durably applied). */
void sim_truncate(struct sim_node *n, uint64_t index);

/* Moves the one clock that all nodes share. */
void sim_set_time(struct sim *s, uint64_t now_ns);

/* Store liveness by hand. */
void sim_support(struct sim *s, uint32_t requester, uint32_t supporter, struct hts until);
void sim_withdraw(struct sim *s, uint32_t requester, uint32_t supporter);
void sim_support_changed(struct sim_node *n, uint32_t slot);

/* Runs the checks on a node whose core was just called. */
void sim_observe(struct sim_node *n);
