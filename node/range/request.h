/*
 * request.h -- what one may ask of a range, and what it answers.
 *
 * A batch is evaluated atomically at one read timestamp. Its writes commit together at one commit
 * timestamp (1PC), or are laid as intents of a transaction (`intents`). REFRESH requests make the batch
 * depend on nothing having changed in a span since the read timestamp.
 *
 * Source: protocol reference 5; node/docs/0007 says what differs.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/bytes.h"
#include "node/base/hts.h"
#include "node/base/ids.h"
#include "node/base/status.h"
#include "node/range/descriptor.h"
#include "node/storage/key/key.h"
#include "node/storage/mvcc/mvcc.h"

#define RANGE_REQUESTS_MAX 120000u
#define RANGE_COMMAND_MAX  ((size_t)8 << 20) /* Bytes of one replicated command. */

enum range_op {
    RANGE_OP_GET = 1,
    RANGE_OP_SCAN = 2,
    RANGE_OP_PUT = 3,
    RANGE_OP_INSERT = 4, /* Expects the key to be absent at the commit timestamp. */
    RANGE_OP_DELETE = 5,
    RANGE_OP_REFRESH = 6, /* [key, end); end empty: the single key. */
    RANGE_OP_ABSENT = 7,  /* Expects the key to be absent and leaves it so: an insert undone. */

    /* Of transactions. `key` is where it is routed: the anchor, or the key in question; `args` set. */
    RANGE_OP_QUERY_INTENT = 8,  /* Is the intent there at or below ts? If not it is prevented. */
    RANGE_OP_END_TXN = 9,       /* STAGING, COMMITTED or ABORTED; last in its batch. See below. */
    RANGE_OP_HEARTBEAT = 10,    /* Creates a PENDING record, or moves its last_heartbeat. */
    RANGE_OP_PUSH = 11,         /* Alone in its batch; waits at most `wait_ns` for a change. */
    RANGE_OP_QUERY_TXN = 12,    /* What the record says, and who waits for that transaction. */
    RANGE_OP_RECOVER = 13,      /* Decides a STAGING record that nobody looks after. */
    RANGE_OP_RESOLVE = 14,      /* [key, end) alone in its batch, or one key: settles intents, frees
                                  locks. */
    RANGE_OP_QUERY_COMMIT = 15, /* Alone in its batch: was the 1PC batch of `txn`, sent at min_ts,
                                   with `key` among its writes, committed? If not it never will be. */
    RANGE_OP_COUNT
};

/*
 * QUERY_COMMIT answers COMMITTED at ts, ABORTED, or PENDING: nobody here knows any more.
 *
 * END_TXN writes the record and answers how the transaction stands now:
 *   STAGING    as asked for; or PENDING at `ts`: some write of the batch, or a push, made it land higher
 *              than asked for, and reads have to be refreshed first: nothing is staged;
 *   COMMITTED  also when that was so before, by recovery: the batch's writes are not repeated then. Without
 *              spans all is settled: the record is removed.
 *   ABORTED    when asked for: the record is removed, no other can be made.
 * An aborted transaction that asks for anything else gets STATUS_TXN_ABORTED.
 */
enum range_txn_status {
    RANGE_TXN_PENDING = 0, /* Also: no record, and it may still come. */
    RANGE_TXN_STAGING = 1,
    RANGE_TXN_COMMITTED = 2,
    RANGE_TXN_ABORTED = 3,
};

enum range_push {
    RANGE_PUSH_TOUCH = 0, /* Only how it stands; ends it when it has expired. */
    RANGE_PUSH_TIMESTAMP = 1,
    RANGE_PUSH_ABORT = 2,
};

/* Of the operations on transactions; each uses what it needs. */
struct range_txn_args {
    struct uuid txn;
    struct bytes anchor;          /* RESOLVE, QUERY_INTENT: where its record is. */
    enum range_txn_status status; /* END_TXN: to be; RESOLVE: outcome (PENDING: move up to ts);
                                     RECOVER: COMMITTED if all intents were found, else ABORTED. */
    struct hts ts;     /* Commit, staged, resolved timestamp; PUSH TIMESTAMP: above it. */
    struct hts min_ts; /* PUSH: of the pushee, as its lock says. */
    /* PUSH */
    struct hts seen_ts; /* Of the pushee: a sign of life where its lock is. */
    enum range_push push;
    bool force;         /* Abort whatever its priority: it is part of a cycle. */
    struct uuid pusher; /* Zero: not a transaction. */
    struct bytes pusher_anchor;
    uint32_t pusher_priority;
    uint64_t wait_ns;
    /* END_TXN STAGING: keys of this transaction's intents in other batches. */
    const struct bytes *in_flight;
    uint32_t in_flight_count;
    /* END_TXN: everything it wrote, for who cleans up; one range at a time is [start, end). */
    const struct key_span *spans;
    uint32_t spans_count;
};

struct range_request {
    enum range_op op;
    struct bytes key;
    struct bytes end;        /* SCAN, REFRESH: exclusive. */
    struct bytes value;      /* PUT, INSERT. */
    uint32_t rows_max;       /* SCAN; 0: no limit. */
    uint32_t bytes_max;      /* SCAN; 0: RANGE_SCAN_BYTES_DEFAULT. */
    bool reverse;            /* SCAN. */
    enum mvcc_strength lock; /* GET, SCAN of a transaction: lock what is found. */
    struct hts since;        /* REFRESH: instead of the batch's read_ts, when not zero. */
    const struct range_txn_args *args;
};

#define RANGE_SCAN_BYTES_DEFAULT (1u << 20)
#define RANGE_SCAN_BYTES_MAX     (8u << 20)

/* The transaction on whose behalf a batch comes. */
struct range_batch_txn {
    struct uuid id; /* Zero: none; reads only, or a 1PC batch that holds no locks. */
    struct bytes anchor;
    uint32_t priority;
    bool read_committed;
    struct hts min_ts; /* When it began; never moves. */
    struct hts
        write_ts; /* Where its intents shall stand, at least; of a 1PC batch with an id: when it
                            was sent. */
    struct hts
        global_limit; /* Values up to it may have been written before it began. Zero: certain. */
    struct hts local_limit; /* The same by the clock of the node asked, when known; else zero. */
};

enum range_wait {
    RANGE_WAIT_BLOCK = 0,
    RANGE_WAIT_ERROR = 1, /* NOWAIT: STATUS_LOCKED. */
    RANGE_WAIT_SKIP = 2,  /* SKIP LOCKED: locked rows are left out. */
};

struct range_batch {
    range_id range;
    uint64_t generation;     /* Of the descriptor by which it was routed; for diagnosis. */
    struct hts read_ts;      /* Zero: the leaseholder chooses its present. */
    struct hts commit_limit; /* Zero: none. A commit above it fails with STATUS_TXN_RETRY. */
    const struct range_request *requests;
    uint32_t count;
    struct range_batch_txn txn;
    bool intents;     /* Writes are laid as intents of txn, not committed. */
    bool can_forward; /* Nothing was read: the timestamp may move up on the spot. */
    bool replay;   /* Sent before, fate unknown: intents no higher than asked for, or AMBIGUOUS. */
    bool follower; /* Any replica may answer, as far as its closed timestamp goes. */
    enum range_wait wait;
    uint64_t lock_wait_ns; /* lock_timeout; 0: none. */
};

#define RANGE_TXN_SEQ        1u /* Of every intent: a transaction writes a key once. */
#define TXN_EXPIRY_NS        ((uint64_t)5000000000) /* Of a transaction that shows no life. */
#define TXN_HEARTBEAT_NS     ((uint64_t)1000000000)
#define TXN_STAGED_BYTES_MAX ((size_t)64 << 10) /* Of keys listed in a STAGING record. */

#define RANGE_TXN_WAITS_MAX 256u /* Of one answer. */

/* A transaction that waits for another one: an edge of the graph in which deadlocks are cycles. */
struct range_txn_wait {
    struct uuid waiter;
    struct uuid holder;
    uint32_t waiter_priority;
};

/* How a transaction stands, as its record, or what is known without one, says. */
struct range_txn_info {
    struct uuid id;
    bool has_record;
    enum range_txn_status status;
    struct hts ts; /* STAGING, COMMITTED: its commit's; PENDING: it will commit above. */
    struct hts min_ts;
    struct hts last_heartbeat;
    uint32_t priority;
    const struct bytes *in_flight; /* STAGING. */
    uint32_t in_flight_count;
    const struct range_txn_wait *waits; /* QUERY_TXN: that end at it, directly or not. */
    uint32_t waits_count;
};

/* Rows of a scan: per row varint length, key, varint length, value. */
struct range_response {
    bool found; /* GET; QUERY_INTENT; PUSH: it is STAGING and must be recovered; QUERY_TXN:
                   somebody waits for it. */
    struct bytes value;
    struct bytes rows;
    uint32_t rows_count;
    bool more;
    struct bytes resume; /* Where the scan continues: new start, or new end when reverse. */
    const struct range_txn_info *txn; /* END_TXN, HEARTBEAT, PUSH, QUERY_TXN, RECOVER. */
};

/*
 * Codes of `st`, besides those below: LOCKED (NOWAIT, lock_timeout); DEADLOCK (the transaction was chosen
 * to break a cycle); UNCERTAIN (read at or above uncertain_ts instead); TXN_RETRY also says that the
 * transaction was aborted by another one. None of them wrote anything.
 * OK; NOT_LEADER (hint set when known), RANGE_MISMATCH (descs set), RANGE_NOT_FOUND,
 * NOT_PROPOSED and OVERLOADED: certainly not executed; TXN_RETRY (a refresh failed), EXISTS
 * (request number `conflict` met a row), INVALID, MEMORY: not executed; AMBIGUOUS: unknown.
 */
struct range_result {
    struct status st;
    struct hts read_ts;
    struct hts commit_ts; /* Of 1PC; of intents: where they stand, perhaps above what was asked. */
    struct hts uncertain_ts; /* STATUS_UNCERTAIN. */
    struct hts now;          /* The server's clock: everything later was written later. */
    node_id server;          /* Whose clock. */
    uint32_t conflict;
    node_id hint_node;
    store_id hint_store;
    const struct range_desc *descs;
    uint32_t descs_count;
    struct range_response *responses; /* One per request. */
};

static inline bool range_op_writes(enum range_op op)
{
    return op == RANGE_OP_PUT || op == RANGE_OP_INSERT || op == RANGE_OP_DELETE ||
           op == RANGE_OP_ABSENT;
}

static inline bool range_op_on_txn(enum range_op op)
{
    return op >= RANGE_OP_QUERY_INTENT && op < RANGE_OP_COUNT;
}

/* Wire form of both. Decoded values borrow from `b` or live in the arena.
 * Errors: STATUS_CORRUPT, STATUS_MEMORY. */
NOYIELD NODISCARD struct status range_batch_encode(const struct range_batch *b, struct arena *arena,
                                                   struct bytes *out);
NOYIELD NODISCARD struct status range_batch_decode(struct bytes b, struct arena *arena,
                                                   struct range_batch *out);
NOYIELD NODISCARD struct status range_result_encode(const struct range_result *r, uint32_t count,
                                                    struct arena *arena, struct bytes *out);
/* `count` responses are expected when the status is OK. */
NOYIELD NODISCARD struct status range_result_decode(struct bytes b, uint32_t count,
                                                    struct arena *arena, struct range_result *out);
