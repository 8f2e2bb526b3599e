/*
 * read_internal.h -- the judgement on one key, shared by point reads and scans.
 */
#pragma once

#include "node/storage/mvcc/mvcc_internal.h"

/* What an INTENT lock makes of the version at its timestamp. */
enum mvcc__view {
    MVCC__NO_INTENT,
    MVCC__CURRENT, /* Ours: read it, whatever the read timestamp. */
    MVCC__OLD,     /* Ours: read an earlier write instead. */
    MVCC__HIDDEN,  /* Not for us: look below. */
};

struct mvcc__intent {
    enum mvcc__view view;
    struct hts ts;
    bool old_tombstone;
    struct bytes old_value; /* Borrowed from the lock. */
};

enum mvcc__verdict {
    MVCC__SKIP,
    MVCC__TAKE,
    MVCC__LOCKED,
    MVCC__STALE,
    MVCC__UNCERTAIN,
};

/* The newest timestamp that matters to a read. */
NOYIELD struct hts mvcc__read_limit(const struct mvcc_read *opt);

/* TAKE: `out` says how to go on. LOCKED, STALE: a conflict. */
NOYIELD enum mvcc__verdict mvcc__judge_intent(const struct mvcc__lock *l,
                                              const struct mvcc_read *opt,
                                              struct mvcc__intent *out);

/* SKIP: go on with an older one. TAKE, UNCERTAIN: `v` is decoded. */
NOYIELD NODISCARD struct status mvcc__judge_version(
    struct bytes key, struct hts ts, struct bytes stored, const struct mvcc_read *opt,
    const struct mvcc__intent *intent, struct mvcc_version *v, enum mvcc__verdict *out);

NOYIELD NODISCARD struct status mvcc__conflict_uncertain(struct arena *arena, struct bytes key,
                                                         struct hts ts, struct hts local_ts,
                                                         struct mvcc_conflict *c);
NOYIELD NODISCARD struct status mvcc__conflict_at(struct arena *arena, enum mvcc_conflict_kind kind,
                                                  struct bytes key, struct hts ts,
                                                  struct mvcc_conflict *c);
