/*
 * engine.h -- an ordered key-value store with two column families.
 *
 * `raft` holds what is unreplicated (log, hard states, store ident), `state` what is replicated and
 * byte-identical on all replicas at equal applied index. Keys are compared bytewise. Two
 * implementations stand behind one vtable: RocksDB, and an in-memory twin for the simulator that
 * models what a crash may lose. They are tested against each other.
 *
 * Threads: engine_write() blocks and runs on the writer lane of the shard only (one writer at a
 *          time); reads may run on the shard or on the io-pool, iterators on the thread that opened
 *          them. A write is visible to reads that start after it returned.
 * Source:  RocksDB wiki (WAL, read tiers, prefix seek); traps in node/storage/README.md.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "node/base/arena.h"
#include "node/base/bytes.h"
#include "node/base/status.h"

enum engine_cf {
    ENGINE_CF_RAFT,
    ENGINE_CF_STATE,
    ENGINE_CF_COUNT
};

struct engine;
struct engine_iter;
struct engine_snap;

/*
 * A list of changes, in our own encoding: it is what a replicated command carries, so that it is
 * independent of the engine and of its version. Per change: op(1) cf(1) varint(len) key, and for
 * PUT varint(len) value, for DELETE_RANGE varint(len) end (exclusive).
 */
struct engine_batch {
    struct buf ops;
    uint32_t count;
};

NOYIELD void engine_batch_init(struct engine_batch *b);
NOYIELD void engine_batch_deinit(struct engine_batch *b);
NOYIELD void engine_batch_clear(struct engine_batch *b);
#define ENGINE_KEY_MAX ((size_t)64 << 10)

/* Errors of all: STATUS_INVALID for an empty key or one beyond ENGINE_KEY_MAX, and for a range
 * whose end is below its start (start == end adds nothing); STATUS_MEMORY beyond the buffer's
 * limit. The batch is unchanged then. */
NOYIELD NODISCARD struct status engine_batch_put(struct engine_batch *b, enum engine_cf cf,
                                                 struct bytes key, struct bytes value);
NOYIELD NODISCARD struct status engine_batch_delete(struct engine_batch *b, enum engine_cf cf,
                                                    struct bytes key);
NOYIELD NODISCARD struct status engine_batch_delete_range(struct engine_batch *b, enum engine_cf cf,
                                                          struct bytes start, struct bytes end);
/* Appends already encoded changes (of a command). Checks them first: STATUS_CORRUPT leaves `b` as
 * it was. `state_only` refuses changes of the raft family. */
NOYIELD NODISCARD struct status engine_batch_append(struct engine_batch *b, struct bytes ops,
                                                    bool state_only);

enum engine_op_kind {
    ENGINE_OP_PUT = 1,
    ENGINE_OP_DELETE = 2,
    ENGINE_OP_DELETE_RANGE = 3,
};

struct engine_op {
    enum engine_op_kind kind;
    enum engine_cf cf;
    struct bytes key;
    struct bytes value; /* PUT: value. DELETE_RANGE: exclusive end. */
};

/* Walks encoded changes; *rest starts as all of them. False at the end or, with *bad, on damage. */
NOYIELD bool engine_ops_next(struct bytes *rest, struct engine_op *out, bool *bad);

struct engine_options {
    const char *path;         /* Directory; created when missing. Ignored by the twin. */
    size_t block_cache_bytes; /* 0: 64 MiB. */
    size_t memtable_bytes;    /* Per column family, at least 256 KiB. 0: 16 MiB. */
    bool create_if_missing;
};

/* Errors: STATUS_IO (locked by another process, no permission),
 * STATUS_CORRUPT, STATUS_DISK_FULL. */
NOYIELD NODISCARD struct status engine_open_rocksdb(const struct engine_options *o,
                                                    struct arena *msg_arena, struct engine **out);
NOYIELD void engine_close(struct engine *e); /* Accepts NULL. All iterators are closed before. */

/*
 * Applies a batch atomically; with `sync` it is durable on return, together with everything written
 * before. Blocks: writer lane only. Errors are final for this process (STATUS_IO, STATUS_DISK_FULL,
 * STATUS_CORRUPT): the caller stops the store, it never retries a failed sync.
 */
NOYIELD NODISCARD struct status engine_write(struct engine *e, const struct engine_batch *b,
                                             bool sync);

enum engine_tier {
    ENGINE_TIER_ANY,   /* May read the disk. */
    ENGINE_TIER_CACHE, /* Memory only: STATUS_WOULD_BLOCK when the disk is needed. */
};

/* Point read into the arena. Errors: STATUS_NOT_FOUND, STATUS_WOULD_BLOCK, STATUS_IO,
 * STATUS_CORRUPT, STATUS_MEMORY. */
NOYIELD NODISCARD struct status engine_get(struct engine *e, enum engine_cf cf, struct bytes key,
                                           enum engine_tier tier, struct arena *arena,
                                           struct bytes *out);

NOYIELD NODISCARD struct status engine_snap_acquire(struct engine *e, struct engine_snap **out);
NOYIELD void engine_snap_release(struct engine *e, struct engine_snap *s); /* Accepts NULL. */

struct engine_iter_options {
    enum engine_cf cf;
    struct bytes lower;             /* Inclusive; copied. */
    struct bytes upper;             /* Exclusive; copied. Empty: no bound. */
    const struct engine_snap *snap; /* NULL: now. */
    enum engine_tier tier;
    bool prefix; /* Forward only; from each seek it ends where key_filter_prefix() of the sought key
                    does, and bloom filters spare the search for what does not exist. */
};

/* After open the position is undefined: seek first. Never walks outside the bounds. */
NOYIELD NODISCARD struct status engine_iter_open(struct engine *e,
                                                 const struct engine_iter_options *o,
                                                 struct engine_iter **out);
NOYIELD void engine_iter_close(struct engine_iter *it);                       /* Accepts NULL. */
NOYIELD void engine_iter_seek(struct engine_iter *it, struct bytes key);      /* First >= key. */
NOYIELD void engine_iter_seek_prev(struct engine_iter *it, struct bytes key); /* Last <= key. */
NOYIELD void engine_iter_seek_first(struct engine_iter *it);
NOYIELD void engine_iter_seek_last(struct engine_iter *it);
NOYIELD void engine_iter_next(struct engine_iter *it);
NOYIELD void engine_iter_prev(struct engine_iter *it);
/* False at the end and on an error: ask engine_iter_status(). */
NOYIELD bool engine_iter_valid(const struct engine_iter *it);
NOYIELD struct status engine_iter_status(const struct engine_iter *it);
/* Borrowed until the iterator moves. */
NOYIELD struct bytes engine_iter_key(const struct engine_iter *it);
NOYIELD struct bytes engine_iter_value(const struct engine_iter *it);

/* Writer lane or io-pool: the library's properties take its mutex. Approximate. */
struct engine_stats {
    uint64_t live_bytes;
    uint64_t memtable_bytes;
    uint64_t cache_bytes;
    uint64_t files;
    uint64_t writes;
    uint64_t syncs;
    bool write_stalled;
};

NOYIELD void engine_get_stats(struct engine *e, struct engine_stats *out);

/* Digest of everything in `state` within [start, end) (end empty: to the last key): equal on equal
 * contents, for both implementations. snap may be NULL. Reads the disk. */
NOYIELD NODISCARD struct status engine_digest(struct engine *e, const struct engine_snap *snap,
                                              struct bytes start, struct bytes end, uint64_t *out);

/* ---- the in-memory twin -------------------------------------------------------------------- */

/* What survives lives outside the engine: a memdisk outlives crashes of the engine on top of it. */
struct memdisk;

NOYIELD NODISCARD struct status memdisk_create(struct memdisk **out);
NOYIELD void memdisk_destroy(struct memdisk *d);

/* Opens the twin with the contents of the disk: all writes, unless a crash took some. One engine
 * per disk at a time. */
NOYIELD NODISCARD struct status engine_open_mem(struct memdisk *d, struct engine **out);

/* Power is cut: of the writes since the last sync the first `keep` batches stay, the rest is gone,
 * and the engine on top may only be closed. */
NOYIELD void memdisk_crash(struct memdisk *d, uint32_t keep);
/* The same for a process that dies while its memory has still to be torn down in order: the engine on
 * top goes on in memory, and nothing it writes reaches the disk. Another may be opened meanwhile. */
NOYIELD void memdisk_abandon(struct memdisk *d, uint32_t keep);
/* Batches written and not yet synced. */
NOYIELD uint32_t memdisk_unsynced(const struct memdisk *d);
/* Planted bug: syncs do nothing from now on. */
NOYIELD void memdisk_forget_syncs(struct memdisk *d, bool on);
/* Every later write fails with this code (STATUS_OK: no more). */
NOYIELD void memdisk_fail_writes(struct memdisk *d, enum status_code code);
/* Reads with ENGINE_TIER_CACHE answer STATUS_WOULD_BLOCK that often, to exercise the detour. */
NOYIELD void memdisk_cold_reads(struct memdisk *d, uint32_t permille, uint64_t seed);
