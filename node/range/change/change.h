/*
 * change.h -- splits, merges and the index of ranges: what the files of this folder tell each other.
 */
#pragma once

#include <stdlib.h>

#include "node/range/internal.h"

/* ---- change.c ---- */
/* Writes the descriptor's row on the range itself, or its end (`gone`). */
NOYIELD NODISCARD struct status change__put_desc(struct replica *r, const struct range_desc *d,
                                                 bool gone, struct mvcc_writer *w);
/* Until the descriptor has this generation here. Errors: STATUS_NOT_LEADER (leadership of `term` is gone,
 * the outcome unknown), those of waiting. */
MAYYIELD NODISCARD struct status change__wait_generation(struct replica *r, uint64_t generation,
                                                         uint64_t term, uint64_t deadline_ns);
/* A batch to whichever range holds its keys; without a way to others, to one of this store. Gives up after
 * some seconds at the latest. Errors: also STATUS_CANCELLED (the store is stopping). */
MAYYIELD NODISCARD struct status change__send(struct store *s, struct range_batch *b,
                                              uint64_t deadline_ns, struct arena *arena,
                                              struct range_result *out);

/* ---- address.c ---- */
/* Tells the index of the present descriptor; once. Errors: STATUS_OVERLOADED (somebody else does),
 * STATUS_UNAVAILABLE (the left neighbour is not recorded yet), STATUS_NOT_LEADER, those of sending. */
MAYYIELD NODISCARD struct status address__run(struct replica *r, uint64_t deadline_ns);
/* Until it is told. Errors: STATUS_OVERLOADED (not in time), STATUS_NOT_LEADER, STATUS_CANCELLED. */
MAYYIELD NODISCARD struct status address__ensure(struct replica *r, uint64_t deadline_ns);

/* ---- settle.c ---- */
/* Finds out what became of the merge for which the range is frozen, and thaws it when nothing did. */
MAYYIELD NODISCARD struct status settle__merge(struct replica *r, uint64_t deadline_ns);

/* ---- birth.c ---- */
/* The right half of a split comes to be on this store, or its keys are dropped where it was removed
 * already. Into the pending write; *out NULL: not kept. */
NOYIELD NODISCARD struct status birth__right(struct store *s, const struct range_desc *right,
                                             const struct applied_state *initial,
                                             struct store_write *w, struct replica **out);
/* Its write is done. `lead`: campaign at once. */
NOYIELD void birth__done(struct replica *r, bool lead);
/* The replica was merged away: its records go, nobody of that range ever comes back. Its keys stay. */
NOYIELD NODISCARD struct status birth__absorb(struct replica *r, struct store_write *w);

/* ---- ask.c ---- */
enum ask_fate {
    ASK_FATE_UNKNOWN = 0, /* Not the leaseholder of the left range, or it is being decided. */
    ASK_FATE_MERGED = 1,
    ASK_FATE_CANCELLED = 2, /* The merge has not come about and never will. */
};
/* Until every store of the range's descriptor, or a quorum of its voters, has applied `index` of its log
 * and that is durable. Errors: STATUS_TIMEOUT, STATUS_NOT_LEADER (it was removed here), STATUS_CANCELLED. */
MAYYIELD NODISCARD struct status ask__applied(struct replica *r, uint64_t index, bool all,
                                              uint64_t deadline_ns);
/* Asks one store, perhaps this one, what became of the merge of the frozen range r. */
MAYYIELD NODISCARD struct status ask__fate(struct replica *r, const struct range_replica *at,
                                           uint64_t deadline_ns, enum ask_fate *out);

/* ---- merge.c ---- */
/* The left range's side of that question; when it is open it is cancelled. */
MAYYIELD NODISCARD struct status merge__fate(struct store *s, range_id left, uint64_t generation,
                                             struct bytes key, uint64_t deadline_ns,
                                             enum ask_fate *out);
