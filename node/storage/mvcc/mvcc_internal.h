/*
 * mvcc_internal.h -- shared by the files of mvcc.
 */
#pragma once

#include "node/base/codec.h"
#include "node/storage/key/key.h"
#include "node/storage/mvcc/mvcc.h"

#define MVCC_STACK_KEY 512 /* Longer physical keys are built in the arena. */

/* ---- stored locks ---------------------------------------------------------------------------- */

/* A decoded lock and its earlier values, still encoded. */
struct mvcc__lock {
    struct mvcc_lock pub;
    struct bytes history; /* Oldest first: varint seq, u8 tombstone, value with its length. */
    uint32_t history_count;
};

struct mvcc__old {
    uint32_t seq;
    bool tombstone;
    struct bytes value;
};

NOYIELD NODISCARD struct status mvcc__lock_decode(struct bytes lock_key, struct bytes stored,
                                                  struct mvcc__lock *out);
/* Appends the stored form. */
NOYIELD NODISCARD struct status mvcc__lock_encode(struct buf *b, const struct mvcc__lock *l);
NOYIELD NODISCARD struct status mvcc__history_append(struct buf *b, const struct mvcc__old *o);
/* rest starts as the history; false at the end. Damage was found when the lock was decoded. */
NOYIELD bool mvcc__history_next(struct reader *rest, struct mvcc__old *out);

NOYIELD bool mvcc__seq_ignored(const struct mvcc_seq_range *ignored, uint32_t count, uint32_t seq);

/* The newest earlier value with seq at most `seq_max` that is not ignored. */
NOYIELD bool mvcc__history_find(const struct mvcc__lock *l, uint32_t seq_max,
                                const struct mvcc_seq_range *ignored, uint32_t count,
                                struct mvcc__old *out);

/* Copies what the conflict must keep. */
NOYIELD NODISCARD struct status mvcc__lock_dup(struct arena *arena, const struct mvcc_lock *l,
                                               struct mvcc_lock *out);
/* Adds a lock to the conflict, which becomes LOCKED; *full when no further one fits. */
NOYIELD NODISCARD struct status mvcc__conflict_add(struct arena *arena, const struct mvcc_lock *l,
                                                   struct mvcc_conflict *c, bool *full);

/* Does a lock of strength `held` keep out a request of another transaction for `want`? */
NOYIELD bool mvcc__excludes(enum mvcc_strength held, enum mvcc_strength want);

/* ---- what a writer has put into its batch ---------------------------------------------------- */

/* A change of one physical key: the newest one per key. Offsets into the batch. */
struct mvcc__op {
    struct mvcc__op *next;
    size_t key_off;
    size_t key_len;
    size_t value_off;
    size_t value_len;
    bool deleted;
};

/* The engine with the writer's changes of one key laid over it; ops NULL: the engine alone. */
struct mvcc__overlay {
    const struct engine_batch *batch;
    const struct mvcc__op *ops;
};

NOYIELD struct mvcc__overlay mvcc__overlay_of(const struct mvcc_writer *w, struct bytes key);
NOYIELD NODISCARD struct status mvcc__emit_put(struct mvcc_writer *w, struct bytes key,
                                               struct bytes phys, struct bytes value);
NOYIELD NODISCARD struct status mvcc__emit_delete(struct mvcc_writer *w, struct bytes key,
                                                  struct bytes phys);

/* ---- point cursor ---------------------------------------------------------------------------- */

/* Walks the versions of one key, or the locks on one key, through the overlay. Only one cursor of a
 * reader is in use at a time: they share its iterator. */
struct mvcc__cursor {
    struct engine_iter *it;
    struct mvcc__overlay overlay;
    struct bytes prefix;
    struct bytes target;
    const struct mvcc__op *at;   /* The current entry comes from the batch. */
    const struct mvcc__op *last; /* Entries of the batch up to here have been passed. */
    bool valid;
    struct bytes key;
    struct bytes value;
};

/* First entry at or above `target`, all within `prefix`; both borrowed while the cursor is used. */
NOYIELD NODISCARD struct status mvcc__cursor_seek(struct mvcc__cursor *c, struct mvcc_reader *r,
                                                  struct mvcc__overlay o, struct bytes prefix,
                                                  struct bytes target);
NOYIELD NODISCARD struct status mvcc__cursor_next(struct mvcc__cursor *c);

/* ---- physical keys --------------------------------------------------------------------------- */

/* key | ts, in `stack` if it fits, else in the arena. */
NOYIELD NODISCARD struct status mvcc__version_key(struct arena *arena,
                                                  uint8_t stack[MVCC_STACK_KEY], struct bytes key,
                                                  struct hts ts, struct bytes *out);
/* 0x03 key strength txn. */
NOYIELD NODISCARD struct status mvcc__lock_key(struct arena *arena, uint8_t stack[MVCC_STACK_KEY],
                                               struct bytes key, enum mvcc_strength strength,
                                               struct uuid txn, struct bytes *out);
/* 0x03 bound: where the locks of a span start or end. */
NOYIELD NODISCARD struct status mvcc__lock_bound(struct arena *arena, struct bytes bound,
                                                 struct bytes *out);
/* Errors: STATUS_INVALID. */
NOYIELD NODISCARD struct status mvcc__check_key(struct bytes key);

/* ---- reading shared by readers and writers --------------------------------------------------- */

NOYIELD NODISCARD struct status mvcc__get(struct mvcc_reader *r, struct mvcc__overlay overlay,
                                          struct bytes key, const struct mvcc_read *opt,
                                          struct arena *arena, struct mvcc_value *out,
                                          struct mvcc_conflict *conflict);

/* The INTENT lock on a key, if any, borrowed from the cursor's position. */
NOYIELD NODISCARD struct status mvcc__find_intent(struct mvcc_reader *r,
                                                  struct mvcc__overlay overlay, struct bytes key,
                                                  struct arena *arena, struct mvcc__lock *out,
                                                  bool *found);

/* Bookkeeping of keys outside of ranges' own data (local keys) is not part of their counts. */
static inline bool mvcc__is_counted(struct bytes key)
{
    return key.len > 0 && key.ptr[0] >= KEY_PREFIX_META1;
}
