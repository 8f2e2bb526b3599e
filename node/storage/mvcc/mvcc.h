/*
 * mvcc.h -- versions and intents over the engine.
 *
 * A version is `user_key | ~ts -> header payload`; the newest sorts first. A transaction that has
 * not ended writes its provisional value as an ordinary version at its write timestamp plus an
 * INTENT lock (0x03 user_key strength txn): while that lock exists nobody else sees the version.
 *
 * Reads never wait and never guess: what stands in the way (locks of others, values inside the
 * uncertainty interval, versions too new for a write) comes back in a struct mvcc_conflict, and the
 * caller in node/range waits, pushes or restarts. A status other than OK means that the engine or
 * the bytes failed, or STATUS_WOULD_BLOCK: the read wanted the disk in ENGINE_TIER_CACHE; repeat
 * the whole call with a reader of ENGINE_TIER_ANY on a thread that may block.
 *
 * Writers append to a struct engine_batch. They see the engine and what they themselves have put
 * into the same struct mvcc_writer (point operations only: a scan does not see the batch).
 *
 * Threads: a reader belongs to the thread that made it; nothing yields.
 * Source:  protocol reference 1.3, 1.6, 4.4, 4.5, 5.5, 5.8, 5.12.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "node/base/arena.h"
#include "node/base/bytes.h"
#include "node/base/hts.h"
#include "node/base/ids.h"
#include "node/base/status.h"
#include "node/storage/engine/engine.h"

#define MVCC_KEY_MAX     ((size_t)32 << 10)
#define MVCC_LOCKS_MAX   64   /* Locks that one call reports. */
#define MVCC_IGNORED_MAX 128  /* Rolled-back ranges of sequence numbers of a transaction. */
#define MVCC_HISTORY_MAX 1024 /* Earlier values of one intent. */

enum mvcc_strength {
    MVCC_NONE = 0, /* Plain read. */
    MVCC_SHARED = 1,
    MVCC_EXCLUSIVE = 2,
    MVCC_INTENT = 3,
};

/* Both ends included. */
struct mvcc_seq_range {
    uint32_t from;
    uint32_t to;
};

/* What evaluation needs of a transaction. Borrowed throughout. */
struct mvcc_txn {
    struct uuid id;
    struct bytes anchor_key;
    uint32_t epoch;
    uint32_t seq; /* Of this request: reads see own writes with seq at most this. */
    uint32_t priority;
    uint8_t iso; /* Opaque here; stored for pushers. */
    struct hts min_ts;
    struct hts read_ts;
    struct hts write_ts;
    const struct mvcc_seq_range *ignored; /* Sorted, disjoint. */
    uint32_t ignored_count;
};

/* A lock as stored, decoded. */
struct mvcc_lock {
    struct bytes key; /* User key. */
    enum mvcc_strength strength;
    struct uuid txn_id;
    struct bytes anchor_key;
    uint32_t epoch;
    uint32_t seq;
    uint32_t priority;
    uint8_t iso;
    struct hts write_ts; /* INTENT: where the provisional version stands. */
    struct hts min_ts;
};

enum mvcc_conflict_kind {
    MVCC_CONFLICT_NONE,
    MVCC_CONFLICT_LOCKED,    /* locks[]: others' locks. */
    MVCC_CONFLICT_UNCERTAIN, /* ts, local_ts: a version perhaps written before we read. */
    MVCC_CONFLICT_TOO_OLD,   /* ts: a version of this key at or above the write. */
    MVCC_CONFLICT_CONDITION, /* found, actual, ts: what a conditional write met instead. */
    MVCC_CONFLICT_REPLAY,    /* A repeated write (same seq) with another value, or a stale epoch. */
};

struct mvcc_conflict {
    enum mvcc_conflict_kind kind;
    struct bytes key; /* In the arena. */
    struct hts ts;
    struct hts local_ts;
    bool found;
    struct bytes actual;     /* In the arena. */
    struct mvcc_lock *locks; /* In the arena, by key; at most MVCC_LOCKS_MAX. */
    uint32_t lock_count;
};

/* ---- reading --------------------------------------------------------------------------------- */

/*
 * A consistent view: of `snap` if given, otherwise each iterator's view is that of its first use.
 * It keeps its iterators open between calls (opening one costs as much as a seek), so it is a
 * matter of one request and pins memory while it lives. Fields belong to mvcc.
 */
struct mvcc_reader {
    struct engine *engine;
    const struct engine_snap *snap;
    enum engine_tier tier;
    struct engine_iter *points; /* Prefix mode over `state`. */
};

/* snap may be NULL. Opens nothing yet. */
NOYIELD void mvcc_reader_init(struct mvcc_reader *r, struct engine *e,
                              const struct engine_snap *snap, enum engine_tier tier);
NOYIELD void mvcc_reader_deinit(struct mvcc_reader *r);
/* Drops the open iterators, so that the next call sees what has been written since. */
NOYIELD void mvcc_reader_refresh(struct mvcc_reader *r);

struct mvcc_read {
    struct hts ts; /* The newest version at or below is read. */
    /* Versions in (ts, global_limit] whose local_ts is at most local_limit are uncertain. Zero
     * limits: no uncertainty interval. */
    struct hts global_limit;
    struct hts local_limit;
    const struct mvcc_txn *txn; /* NULL: none, no own intents. */
    bool no_intents;            /* The caller knows that the span holds no INTENT locks. */
    bool skip_locked;           /* Read below foreign intents as if absent (read committed after
                                   a push; SKIP LOCKED): no LOCKED conflicts. */
};

struct mvcc_value {
    bool found;         /* False: never written, or deleted. */
    bool own_intent;    /* The value is this transaction's own provisional one. */
    struct bytes value; /* In the arena. */
    struct hts ts;      /* Of the version (or tombstone), zero when there is none. */
};

/* Reads one key. Errors: engine's, STATUS_CORRUPT (checksum, header), STATUS_MEMORY,
 * STATUS_INVALID (key longer than MVCC_KEY_MAX). */
NOYIELD NODISCARD struct status mvcc_get(struct mvcc_reader *r, struct bytes key,
                                         const struct mvcc_read *opt, struct arena *arena,
                                         struct mvcc_value *out, struct mvcc_conflict *conflict);

/* Called per row in scan order; the bytes are borrowed until it returns. A status other than OK
 * ends the scan with it. */
typedef struct status mvcc_row_fn(void *ctx, struct bytes key, struct bytes value, struct hts ts);

struct mvcc_scan {
    struct bytes start;
    struct bytes end; /* Exclusive. */
    bool reverse;
    uint64_t rows_max; /* 0: no limit. */
    size_t bytes_max;  /* Of keys and values; 0: no limit. At least one row is delivered. */
    mvcc_row_fn *row_fn;
    void *ctx;
};

struct mvcc_scan_result {
    uint64_t rows;
    size_t bytes;
    bool more;           /* A limit ended the scan: continue at `resume`. */
    struct bytes resume; /* In the arena. Forward: the new start. Reverse: the new exclusive end. */
};

/* Rows delivered before a conflict was met are void: the caller discards them and repeats. */
NOYIELD NODISCARD struct status mvcc_scan(struct mvcc_reader *r, const struct mvcc_scan *scan,
                                          const struct mvcc_read *opt, struct arena *arena,
                                          struct mvcc_scan_result *out,
                                          struct mvcc_conflict *conflict);

/*
 * May the reads of a transaction in [start, end) move from `from` to `to`? Conflict LOCKED: an
 * intent of another transaction with a timestamp in (from, to]; TOO_OLD: a committed version there.
 * For a single key pass end empty.
 */
NOYIELD NODISCARD struct status mvcc_refresh(struct mvcc_reader *r, struct bytes start,
                                             struct bytes end, struct hts from, struct hts to,
                                             const struct mvcc_txn *txn, struct arena *arena,
                                             struct mvcc_conflict *conflict);

/* Locks of other transactions than `txn` (NULL: all) in [start, end) that keep out a request of
 * strength `want`; end empty: one key. *more: there are further ones above the last reported. */
NOYIELD NODISCARD struct status mvcc_locks(struct mvcc_reader *r, struct bytes start,
                                           struct bytes end, enum mvcc_strength want,
                                           const struct uuid *txn, struct arena *arena,
                                           struct mvcc_lock **out, uint32_t *count_out,
                                           bool *more_out);

/* The lock of one transaction on a key. *found false: none of that strength. */
NOYIELD NODISCARD struct status mvcc_lock_get(struct mvcc_reader *r, struct bytes key,
                                              enum mvcc_strength strength, struct uuid txn,
                                              struct arena *arena, struct mvcc_lock *out,
                                              bool *found);

/* ---- writing --------------------------------------------------------------------------------- */

/* Counts of a span as differences; they add up to what a recount of the span would give. */
struct mvcc_stats {
    int64_t live_count; /* Keys whose newest version is no tombstone. */
    int64_t live_bytes; /* Of those: key, and newest version with its suffix and header. */
    int64_t key_count;  /* Distinct user keys. */
    int64_t key_bytes;  /* Of user keys, plus 12 per version. */
    int64_t val_count;  /* Versions. */
    int64_t val_bytes;
    int64_t intent_count;
    int64_t intent_bytes; /* Of provisional values. */
    int64_t lock_count;   /* Lock table entries of any strength. */
    int64_t lock_bytes;
};

NOYIELD void mvcc_stats_add(struct mvcc_stats *s, const struct mvcc_stats *delta);
/* Recounts a range's spans of data and locks, for splits and checks. */
NOYIELD NODISCARD struct status mvcc_stats_compute(struct mvcc_reader *r, struct bytes start,
                                                   struct bytes end, struct mvcc_stats *out);

struct mvcc_pending; /* Where in the batch the changes of each key stand. */

/* Writes of one request or batch. Everything is allocated in `arena`, which outlives it. */
struct mvcc_writer {
    struct mvcc_reader *reader; /* Of the newest state: no snapshot. */
    struct engine_batch *batch;
    struct arena *arena;
    struct mvcc_stats stats; /* Differences so far. */
    bool no_intents;         /* As in struct mvcc_read; own writes of this batch are still seen. */
    struct mvcc_pending *pending;
};

/* Refuses nothing; deinit is not needed. */
NOYIELD void mvcc_writer_init(struct mvcc_writer *w, struct mvcc_reader *r,
                              struct engine_batch *batch, struct arena *arena);

enum mvcc_expect {
    MVCC_EXPECT_ANY,
    MVCC_EXPECT_ABSENT,
    MVCC_EXPECT_VALUE, /* Exactly `expected`. */
    MVCC_EXPECT_ABSENT_OR_VALUE,
    MVCC_EXPECT_PRESENT,
};

struct mvcc_write {
    struct bytes key;
    struct bytes value; /* Ignored when `tombstone`. */
    bool tombstone;
    struct hts ts; /* Without txn. With one, txn->write_ts counts. */
    struct hts
        local_ts; /* Clock of the leaseholder; stored only if below the version's. Zero: none. */
    const struct mvcc_txn *txn; /* NULL: a committed version at once (1PC). */
    enum mvcc_expect expect;
    struct bytes expected;
    struct hts newest_max; /* Not zero: TOO_OLD if the newest committed version is above this
                              (what an optimistic writer has read at). */
    bool bump;             /* A blind write may be laid just above a newer version. */
    bool omit_cdc;
    bool imported;
};

struct mvcc_written {
    struct hts ts;  /* Where the version was laid: may be above what was asked for. */
    bool bumped;    /* Above a newer version: the transaction must refresh. */
    bool replayed;  /* This very write was there already: nothing was done. */
    bool had_value; /* The key had a live value before, as seen by this writer. */
};

/*
 * Puts, deletes or conditionally puts one key. With a transaction it lays an intent; own earlier
 * intents go into its history. A conditional write looks at what the transaction itself would see,
 * and at the newest committed version otherwise; on a version above the read timestamp it is
 * TOO_OLD, never bumped. On a conflict the batch is unchanged.
 */
NOYIELD NODISCARD struct status mvcc_put(struct mvcc_writer *w, const struct mvcc_write *op,
                                         struct mvcc_written *out, struct mvcc_conflict *conflict);

/* Reads a key as this writer sees it, its own writes included. */
NOYIELD NODISCARD struct status mvcc_writer_get(struct mvcc_writer *w, struct bytes key,
                                                const struct mvcc_read *opt, struct mvcc_value *out,
                                                struct mvcc_conflict *conflict);

/* Stores a replicated SHARED or EXCLUSIVE lock. Conflict LOCKED when somebody else's is in
 * the way. */
NOYIELD NODISCARD struct status mvcc_lock(struct mvcc_writer *w, struct bytes key,
                                          enum mvcc_strength strength, const struct mvcc_txn *txn,
                                          struct mvcc_conflict *conflict);

enum mvcc_resolution {
    MVCC_COMMIT, /* Move the version to ts if it is elsewhere, drop the lock. */
    MVCC_ABORT,  /* Delete version and lock. */
    MVCC_PUSH,   /* Still pending: move version and lock up to ts. */
};

struct mvcc_resolve {
    struct uuid txn_id;
    uint32_t epoch; /* Of the outcome: intents of older epochs are aborted. */
    enum mvcc_resolution resolution;
    struct hts ts; /* COMMIT, PUSH. */
    const struct mvcc_seq_range *ignored;
    uint32_t ignored_count;
};

/* Resolves the locks of a transaction on a key; nothing to do is OK. *resolved: an INTENT was
 * there. */
NOYIELD NODISCARD struct status mvcc_resolve(struct mvcc_writer *w, struct bytes key,
                                             const struct mvcc_resolve *how, bool *resolved);

/* Likewise for [start, end), at most keys_max keys; resume empty when done. */
NOYIELD NODISCARD struct status mvcc_resolve_range(struct mvcc_writer *w, struct bytes start,
                                                   struct bytes end, const struct mvcc_resolve *how,
                                                   uint32_t keys_max, uint32_t *resolved_count,
                                                   struct bytes *resume);

enum mvcc_intent_state {
    MVCC_INTENT_MISSING,
    MVCC_INTENT_FOUND, /* Same epoch, seq at least the asked one, at or below ts. */
    MVCC_INTENT_MOVED, /* Of this transaction, at a higher timestamp or epoch. */
};

/* QueryIntent of the protocol: seq 0 asks for any. */
NOYIELD NODISCARD struct status mvcc_query_intent(struct mvcc_writer *w, struct bytes key,
                                                  struct uuid txn, uint32_t epoch, uint32_t seq,
                                                  struct hts ts, enum mvcc_intent_state *out,
                                                  struct hts *intent_ts);

/* Deletes what no reader at or above `threshold` can see: all versions of `key` below the newest
 * one at or below it, and that one too if it is a tombstone. Intents are never touched. */
NOYIELD NODISCARD struct status mvcc_gc(struct mvcc_writer *w, struct bytes key,
                                        struct hts threshold, uint32_t *deleted);

/* ---- stored forms ---------------------------------------------------------------------------- */

enum mvcc_flags {
    MVCC_FLAG_TOMBSTONE = 1,
    MVCC_FLAG_LOCAL_TS = 2,
    MVCC_FLAG_CHECKSUM = 4, /* 32 bits of XXH3 over user key and payload. */
    MVCC_FLAG_OMIT_CDC = 8,
    MVCC_FLAG_IMPORTED = 16,
    MVCC_FLAG_ALL = 31,
};

/* A version's value taken apart, borrowed. */
struct mvcc_version {
    uint8_t flags;
    struct hts local_ts; /* The version's own when none is stored. */
    struct bytes payload;
};

/* For backfills, feeds and checks that walk the engine themselves. Errors: STATUS_CORRUPT. */
NOYIELD NODISCARD struct status mvcc_version_decode(struct bytes key, struct hts ts,
                                                    struct bytes stored, struct mvcc_version *out);
NOYIELD NODISCARD struct status mvcc_version_encode(struct buf *b, struct bytes key, struct hts ts,
                                                    const struct mvcc_version *v);
/* Errors: STATUS_CORRUPT. Borrowed from the arguments. */
NOYIELD NODISCARD struct status mvcc_lock_decode(struct bytes lock_key, struct bytes stored,
                                                 struct mvcc_lock *out);
