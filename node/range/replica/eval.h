/*
 * eval.h -- one evaluation of a batch against the engine.
 *
 * Everything it needs from the shard's state is copied in before, so that it may run on the io lane when
 * the engine wants the disk. What stands in its way comes back as data, not as a wait.
 */
#pragma once

#include "node/range/internal.h"

struct eval {
    struct engine *engine;
    const struct engine_snap *snap; /* NULL: the newest state. */
    enum engine_tier tier;
    const struct range_batch *batch;
    struct hts read_ts;
    struct hts local_limit; /* Of uncertainty, by our clock. */
    struct hts commit_ts;   /* Zero: nothing is written. Intents: where they are laid at least. */
    struct hts now;
    bool latest;       /* Locking reads see the newest versions, whatever their time. */
    bool skip;         /* And leave out what others are writing. */
    bool no_intents;   /* The range holds none. */
    bool skip_refresh; /* Planted bug. */
    bool validates;    /* The batch has a REFRESH. */
    struct mvcc_txn txn;
    /* What the shard knows of the transaction whose record the batch touches. */
    struct tscache_marker marker;
    bool may_create; /* Its record, if there is none. */
    struct arena *arena;
    struct engine_batch *ops;

    /* Results. */
    struct mvcc_stats stats;
    struct range_result *result;
    struct mvcc_conflict conflict; /* LOCKED: wait for these. TOO_OLD: lay intents above ts. */
    struct hts laid;               /* The highest intent. */
    struct hts newest;             /* latest: the highest version seen. */
    bool record_changed;
    bool record_finished; /* Committed or aborted: no other may be created. */
    bool over;            /* The transaction had committed before: nothing was done. */
    struct status st;
};

/* The whole batch, once. STATUS_WOULD_BLOCK: repeat with ENGINE_TIER_ANY where that may block.
 * STATUS_LOCKED with conflict.kind LOCKED, STATUS_TXN_RETRY with kind TOO_OLD, STATUS_UNCERTAIN. */
NOYIELD NODISCARD struct status eval_run(struct eval *e);
/* Yields only when the disk is needed; *yielded tells. */
MAYYIELD NODISCARD struct status evaluate(struct eval *e, bool *yielded);

/* ---- txn/record.c ---- */
NOYIELD NODISCARD struct status eval_end_txn(struct eval *e, const struct range_request *q,
                                             struct range_response *out);
NOYIELD NODISCARD struct status eval_heartbeat(struct eval *e, const struct range_request *q,
                                               struct range_response *out);
NOYIELD NODISCARD struct status eval_recover(struct eval *e, const struct range_request *q,
                                             struct range_response *out);
