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
    COMMAND_KIND_COUNT
};

/* Decoded form; bytes are borrowed. */
struct command {
    enum command_kind kind;
    struct hts start_ts;
    replica_id target;       /* Lease: holder, or whom it is handed to. */
    struct mvcc_stats stats; /* Deltas. */
    struct bytes desc;       /* CONF: encoded descriptor. */
    struct bytes ops;        /* Encoded engine changes. */
};

NOYIELD NODISCARD struct status command_encode(const struct command *c, struct buf *out);
/* Errors: STATUS_CORRUPT. The ops themselves are checked when they are appended to a batch. */
NOYIELD NODISCARD struct status command_decode(struct bytes b, struct command *out);

enum lease_kind {
    LEASE_NONE = 0,
    LEASE_STARTED = 1,
    LEASE_REVOKED = 2,
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
    struct mvcc_stats stats;
};

NOYIELD NODISCARD struct status applied_state_encode(const struct applied_state *a,
                                                     struct buf *out);
NOYIELD NODISCARD struct status applied_state_decode(struct bytes b, struct applied_state *out);

/* A log entry as stored: term, kind of the core, checksum, payload. */
NOYIELD NODISCARD struct status log_record_encode(uint64_t term, uint8_t kind, struct bytes payload,
                                                  struct buf *out);
NOYIELD NODISCARD struct status log_record_decode(struct bytes b, uint64_t *term, uint8_t *kind,
                                                  struct bytes *payload);
