/*
 * txn.h -- a transaction as SQL sees it.
 *
 * Writes are buffered here and visible to the transaction's own reads. What it locks is locked in the
 * memory of leaseholders; what it read is remembered. txn_commit() sends everything: one batch when all
 * stands in one range, otherwise intents and a staged record in parallel, one round either way. The
 * transaction is serializable, or read committed: then every statement has its own snapshot, and the
 * commit depends only on what was locked or written.
 *
 * Owner:   a session; the struct lives in the arena given to txn_begin(). What goes on behind the commit
 *          (settling intents) belongs to the shard's txn_service.
 * Source:  protocol reference 5; node/docs/0007; CockroachDB's parallel commits; Kung and Robinson, "On
 *          Optimistic Methods for Concurrency Control" (1981).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/arena.h"
#include "node/base/bytes.h"
#include "node/base/hts.h"
#include "node/base/status.h"
#include "node/range/request.h"

struct kv;
struct shard;
struct txn;
struct txn_service;

#define TXN_WRITES_MAX     100000u
#define TXN_BYTES_MAX      ((size_t)64 << 20)
#define TXN_READ_SPANS_MAX 10000u /* Beyond, neighbours become one. */

/* Heartbeats of transactions that hold locks, and clean-up behind commits. One per shard, in its slot;
 * txn_begin() needs it for transactions that lock or write over several ranges. */
NOYIELD NODISCARD struct status txn_service_create(struct shard *shard, struct kv *kv,
                                                   struct txn_service **out);
/* Waits for clean-up that is under way, as long as the deadline allows; the rest is left to others. */
MAYYIELD void txn_service_stop(struct txn_service *s, uint64_t deadline_ns);
NOYIELD void txn_service_destroy(struct txn_service *s);

/* Deliberate bugs of coordinators, in builds with DSQL_PLANTS. */
enum txn_plant {
    TXN_PLANT_COMMIT_PUSHED = 1, /* intents above the staged timestamp do not matter */
    TXN_PLANT_NO_VALIDATION = 2, /* what was read is not looked at again before a later commit */
    TXN_PLANT_NO_REFRESH = 4,    /* nor before the snapshot moves */
};
NOYIELD void txn_service_plant(struct txn_service *s, uint32_t plants);

enum txn_isolation {
    TXN_SERIALIZABLE = 0,
    TXN_READ_COMMITTED = 1,
};

struct txn_lock {
    enum mvcc_strength strength; /* MVCC_SHARED or MVCC_EXCLUSIVE; MVCC_NONE: a plain read. */
    enum range_wait wait;
};

struct txn_options {
    enum txn_isolation isolation;
    uint64_t lock_timeout_ns; /* 0: none. */
    /* When the first try of this transaction began, txn_began() of it: only what was written until then
     * can be uncertain, so a reader among many writers comes to an end. Zero: now. */
    struct hts began;
    struct hts as_of;     /* Read only, at this time; any near replica may answer. Zero: present. */
    bool implicit;        /* One statement: insert conditions may be left to the commit. */
    bool read_only;       /* Writes are refused with STATUS_INVALID. */
    uint64_t deadline_ns; /* Monotonic, of all its requests; DEADLINE_NONE. */
};

NOYIELD NODISCARD struct status txn_begin(struct kv *kv, struct arena *arena,
                                          const struct txn_options *o, struct txn **out);

/* *found false: no such key. The value lives in `arena`, own writes included.
 * Errors of all reads: STATUS_TXN_RETRY, STATUS_UNAVAILABLE, STATUS_TIMEOUT, STATUS_CANCELLED,
 * STATUS_TOO_LARGE, STATUS_MEMORY. */
MAYYIELD NODISCARD struct status txn_get(struct txn *t, struct bytes key, struct arena *arena,
                                         bool *found, struct bytes *value_out);

struct txn_row {
    struct bytes key;
    struct bytes value;
};

struct txn_scan {
    struct bytes start; /* Inclusive. */
    struct bytes end;   /* Exclusive. */
    bool reverse;
    uint32_t rows_max; /* 0: TXN_SCAN_ROWS_MAX. */
    struct txn_lock lock;
    /* Out: rows in order, in the arena; `more` tells that the span is not exhausted, and start (or
     * end, when reverse) has moved so that the same struct continues the scan. */
    struct txn_row *rows;
    uint32_t rows_count;
    bool more;
};
#define TXN_SCAN_ROWS_MAX 1024u

MAYYIELD NODISCARD struct status txn_scan(struct txn *t, struct txn_scan *scan,
                                          struct arena *arena);

/* Many point reads in one round trip. found[i] tells; values[i] in `arena`. */
MAYYIELD NODISCARD struct status txn_multi_get(struct txn *t, const struct bytes *keys,
                                               uint32_t count, struct arena *arena, bool *found,
                                               struct bytes *values);

/* The same, locking what is found. Errors besides: STATUS_LOCKED (NOWAIT, lock timeout), STATUS_DEADLOCK.
 * With RANGE_WAIT_SKIP a locked row is as if not found. */
MAYYIELD NODISCARD struct status txn_multi_get_locked(struct txn *t, const struct txn_lock *lock,
                                                      const struct bytes *keys, uint32_t count,
                                                      struct arena *arena, bool *found,
                                                      struct bytes *values);

/* For locks that are asked for from now on; 0: none. */
NOYIELD void txn_set_lock_timeout(struct txn *t, uint64_t lock_timeout_ns);

/* READ COMMITTED: a statement begins, its snapshot is taken at its first read. A statement that failed
 * with STATUS_TXN_RETRY may be run again after rolling back to its savepoint, as long as the client has
 * seen nothing of it. Otherwise nothing. */
NOYIELD void txn_statement(struct txn *t);
/* The same for a statement that runs again: a new snapshot, and what was written since its first try is
 * not uncertain. */
NOYIELD void txn_statement_again(struct txn *t);

/* Buffers a write; key and value are copied. Errors: STATUS_TOO_LARGE (limits above), STATUS_MEMORY,
 * STATUS_INVALID. */
NOYIELD NODISCARD struct status txn_put(struct txn *t, struct bytes key, struct bytes value);
NOYIELD NODISCARD struct status txn_delete(struct txn *t, struct bytes key);

/*
 * Writes a key that must not exist. In an implicit transaction the check is left to the commit, which
 * then fails with STATUS_EXISTS and names the key; otherwise it reads the key now.
 * Errors:  STATUS_EXISTS; those of reads and writes.
 */
MAYYIELD NODISCARD struct status txn_insert(struct txn *t, struct bytes key, struct bytes value);

/* The commit timestamp must not pass this one (a schema that was read is good until then): otherwise
 * the commit fails with STATUS_TXN_RETRY. The lowest call wins. */
NOYIELD void txn_limit_commit_ts(struct txn *t, struct hts limit);

/*
 * Ends the transaction; it may not be used afterwards, except for txn_conflict_key().
 * Errors:  STATUS_TXN_RETRY   what was read has changed: run it again;
 *          STATUS_EXISTS      a txn_insert() met a row, see txn_conflict_key();
 *          STATUS_AMBIGUOUS   committed or not, nobody here knows;
 *          others: certainly not committed.
 */
MAYYIELD NODISCARD struct status txn_commit(struct txn *t);
/* Drops everything. Locks are freed behind its back. */
NOYIELD void txn_rollback(struct txn *t);

/* Savepoints by position in the write buffer: rolling back forgets later writes (not reads). */
NOYIELD uint64_t txn_savepoint(const struct txn *t);
NOYIELD void txn_rollback_to(struct txn *t, uint64_t savepoint);

NOYIELD struct bytes txn_conflict_key(const struct txn *t);
/* Read timestamp, HTS_ZERO before the first read; after a commit with writes the commit's. */
NOYIELD struct hts txn_ts(const struct txn *t);
/* When it, or its first try, began, by this node's clock. */
NOYIELD struct hts txn_began(const struct txn *t);
NOYIELD bool txn_has_writes(const struct txn *t);
