/*
 * command.h -- what stands in the log of a range, and how far it has been applied.
 *
 * A command is a header and a list of engine changes to the state family. Applying is total and
 * deterministic: whatever could fail was decided at evaluation, on the leader.
 *
 * Both forms are our own bytes behind a format number: they are compared between replicas.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/bytes.h"
#include "node/base/hts.h"
#include "node/base/ids.h"
#include "node/base/status.h"
#include "node/storage/mvcc/mvcc.h"

enum command_kind {
    COMMAND_WRITE = 1,        /* ops. */
    COMMAND_LEASE_START = 2,  /* start_ts: the lease of this entry's term begins. */
    COMMAND_LEASE_REVOKE = 3, /* start_ts: when the holder stopped serving; target. */
    COMMAND_CONF = 4,         /* ops and the new descriptor. */
    COMMAND_NOOP = 5,
    /* Changes of ranges, see change/ and node/docs/0006. */
    COMMAND_SPLIT = 6,    /* ops, descriptors of both halves, what the right one starts with. */
    COMMAND_FREEZE = 7,   /* The range serves nothing until it is merged away, or: */
    COMMAND_UNFREEZE = 8, /* the freeze with this index is over. */
    COMMAND_MERGE = 9,    /* ops, the new descriptor, and that of the range that goes. */
    COMMAND_CANCEL_MERGE = 10, /* ops, the same descriptor with a higher generation. */
    COMMAND_ADDRESSED = 11,    /* The index knows the descriptor of this generation. */
    /* Maintenance, see maintain/. */
    COMMAND_GC_THRESHOLD = 20, /* ops; start_ts: reads below fail from now on. */
    COMMAND_CHECKSUM = 21,     /* Take a digest of all that is replicated, here. */
    COMMAND_KIND_COUNT
};

/* Decoded form; bytes are borrowed. */
struct command {
    enum command_kind kind;
    struct hts start_ts;
    replica_id target;       /* Lease: holder, or whom it is handed to. */
    struct hts closed_ts;    /* No later entry writes at or below. Zero: as before. */
    struct mvcc_stats stats; /* Deltas. */
    struct bytes desc;       /* CONF, SPLIT, MERGE, CANCEL_MERGE: encoded descriptor. */
    struct bytes ops;        /* Encoded engine changes. */
    struct uuid txn;         /* WRITE: whose one-round commit it is, at start_ts; zero: of none. */

    /* Of changes of ranges. SPLIT: start_ts is when the range stopped serving. FREEZE likewise. */
    struct bytes right;            /* SPLIT, MERGE: encoded descriptor of the right-hand range. */
    struct mvcc_stats right_stats; /* SPLIT: of the right side, part of the whole before. */
    range_id left;                 /* FREEZE: who wants to absorb this range. */
    uint64_t generation;           /* FREEZE: of that range; ADDRESSED: of the descriptor. */
    uint64_t freeze_index;         /* UNFREEZE, MERGE: in the log of the frozen range. */
};

/* Does the command carry a new descriptor? */
static inline bool command_has_desc(enum command_kind kind)
{
    return kind == COMMAND_CONF || kind == COMMAND_SPLIT || kind == COMMAND_MERGE ||
           kind == COMMAND_CANCEL_MERGE;
}

NOYIELD NODISCARD struct status command_encode(const struct command *c, struct buf *out);
/* Errors: STATUS_CORRUPT. The ops themselves are checked when they are appended to a batch. */
NOYIELD NODISCARD struct status command_decode(struct bytes b, struct command *out);

enum lease_kind {
    LEASE_NONE = 0,
    LEASE_STARTED = 1,
    LEASE_REVOKED = 2,
};

/* A range that waits to be merged into its left neighbour. */
struct range_freeze {
    uint64_t index; /* Of the FREEZE in this range's log; 0: not frozen. */
    struct hts ts;  /* When it stopped serving. */
    range_id left;
    uint64_t generation; /* Of the left range: only with it can the merge still come about. */
};

/* Written in the same batch as every apply. */
struct applied_state {
    uint64_t index;
    uint64_t term;
    enum lease_kind lease;
    uint64_t lease_term;
    replica_id lease_holder;
    struct hts lease_start_ts;
    uint64_t lease_sequence; /* Counts lease starts. */
    struct hts closed_ts;    /* Of the entries so far. */
    struct mvcc_stats stats;
    uint64_t generation;  /* Of the descriptor. */
    bool addressed;       /* The index knows it; before that it does not change again. */
    uint64_t merge_index; /* Of a MERGE since the range was addressed; 0: none. */
    struct hts floor;     /* Leases start above: what others have served of these keys is below. */
    struct range_freeze freeze;
};

NOYIELD NODISCARD struct status applied_state_encode(const struct applied_state *a,
                                                     struct buf *out);
NOYIELD NODISCARD struct status applied_state_decode(struct bytes b, struct applied_state *out);

/* A log entry as stored: term, kind of the core, checksum, payload. */
NOYIELD NODISCARD struct status log_record_encode(uint64_t term, uint8_t kind, struct bytes payload,
                                                  struct buf *out);
NOYIELD NODISCARD struct status log_record_decode(struct bytes b, uint64_t *term, uint8_t *kind,
                                                  struct bytes *payload);
