/*
 * request.h -- what one may ask of a range, and what it answers.
 *
 * A batch is evaluated atomically at one read timestamp; its writes, if any, commit together at one
 * commit timestamp (1PC). REFRESH requests make the commit depend on nothing having changed in a span
 * since the read timestamp.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/bytes.h"
#include "node/base/hts.h"
#include "node/base/ids.h"
#include "node/base/status.h"
#include "node/range/descriptor.h"

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
    RANGE_OP_COUNT
};

struct range_request {
    enum range_op op;
    struct bytes key;
    struct bytes end;   /* SCAN, REFRESH: exclusive. */
    struct bytes value; /* PUT, INSERT. */
    uint32_t rows_max;  /* SCAN; 0: no limit. */
    uint32_t bytes_max; /* SCAN; 0: RANGE_SCAN_BYTES_DEFAULT. */
    bool reverse;       /* SCAN. */
};

#define RANGE_SCAN_BYTES_DEFAULT (1u << 20)
#define RANGE_SCAN_BYTES_MAX     (8u << 20)

struct range_batch {
    range_id range;
    uint64_t generation;     /* Of the descriptor by which it was routed; for diagnosis. */
    struct hts read_ts;      /* Zero: the leaseholder chooses its present. */
    struct hts commit_limit; /* Zero: none. A commit above it fails with STATUS_TXN_RETRY. */
    const struct range_request *requests;
    uint32_t count;
};

/* Rows of a scan: per row varint length, key, varint length, value. */
struct range_response {
    bool found; /* GET. */
    struct bytes value;
    struct bytes rows;
    uint32_t rows_count;
    bool more;
    struct bytes resume; /* Where the scan continues: new start, or new end when reverse. */
};

/*
 * Codes of `st`: OK; NOT_LEADER (hint set when known), RANGE_MISMATCH (descs set), RANGE_NOT_FOUND,
 * NOT_PROPOSED and OVERLOADED: certainly not executed; TXN_RETRY (a refresh failed), EXISTS
 * (request number `conflict` met a row), INVALID, MEMORY: not executed; AMBIGUOUS: unknown.
 */
struct range_result {
    struct status st;
    struct hts read_ts;
    struct hts commit_ts;
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
