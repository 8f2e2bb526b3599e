/*
 * recover.c -- what became of a transaction whose coordinator is gone.
 *
 * A STAGING record says: committed, if every key listed has its intent at or below the staged timestamp.
 * Whoever needs to know asks for each of them. An intent that is missing is prevented at the same moment,
 * by entering a read of nobody at that timestamp: its write can only land higher from now on, where it does
 * not count. Then the answer is the same for everybody who asks, and the record may say it.
 *
 * Source: protocol reference 5.9; CockroachDB's parallel commits.
 */
#include "node/base/invariant.h"
#include "node/range/internal.h"

/* *all: every listed key has its intent. */
MAYYIELD static struct status query_intents(struct store *s, struct bytes anchor,
                                            const struct range_txn_info *t, uint64_t deadline_ns,
                                            struct arena *arena, bool *all)
{
    const struct range_txn_args args = {.txn = t->id, .anchor = anchor, .ts = t->ts};
    struct range_request *requests =
        ARENA_ARRAY(arena, struct range_request, (size_t)t->in_flight_count + 1);
    struct range_batch b = {.requests = requests, .count = t->in_flight_count};
    struct range_result result;

    *all = true;
    if (t->in_flight_count == 0) {
        return OK;
    }
    if (requests == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    for (uint32_t i = 0; i < t->in_flight_count; i++) {
        requests[i] = (struct range_request){
            .op = RANGE_OP_QUERY_INTENT, .key = t->in_flight[i], .args = &args};
    }
    TRY(s->o.send(s->o.send_ctx, &b, deadline_ns, arena, &result));
    for (uint32_t i = 0; i < t->in_flight_count; i++) {
        *all = *all && result.responses[i].found;
    }
    return OK;
}

struct status recover__txn(struct store *s, struct bytes anchor,
                           const struct range_txn_info *staging, uint64_t deadline_ns,
                           struct arena *arena, struct range_txn_info *out)
{
    struct range_txn_args args = {.txn = staging->id, .anchor = anchor, .ts = staging->ts};
    struct range_request q = {.op = RANGE_OP_RECOVER, .key = anchor, .args = &args};
    struct range_batch b = {.requests = &q, .count = 1};
    struct range_result result;
    bool all = false;

    INVARIANT(staging->status == RANGE_TXN_STAGING);
    if (s->o.send == NULL) {
        return FAIL(STATUS_UNSUPPORTED, "this store cannot send to other ranges");
    }
    TRY(query_intents(s, anchor, staging, deadline_ns, arena, &all));
#ifdef DSQL_PLANTS
    all = all || (s->o.plants & STORE_PLANT_RECOVER_BLINDLY) != 0;
#endif
    args.status = all ? RANGE_TXN_COMMITTED : RANGE_TXN_ABORTED;
    TRY(s->o.send(s->o.send_ctx, &b, deadline_ns, arena, &result));
    if (result.responses[0].txn == NULL) {
        return FAIL(STATUS_CORRUPT, "a recovery without an answer");
    }
    *out = *result.responses[0].txn;
    LOG_DEBUG("txn.recovered", U64("intents", staging->in_flight_count), U64("all", all ? 1 : 0),
              U64("status", out->status));
    return OK;
}
