/*
 * record.c -- a transaction's record, from where its coordinator stands.
 *
 * When the answer to a commit got lost nobody here knows whether the transaction is committed: the record may
 * be STAGING, all its intents may be there, others may have decided it meanwhile. So the coordinator does what
 * anybody may do who finds it abandoned (node/docs/0007): asks the record; when it is STAGING, asks for every
 * key that it lists, which prevents the missing ones for ever, and decides accordingly. When there is no
 * record it sees to it that there will be none.
 */
#include "node/txn/internal.h"

struct status txn__ask_record(const struct txn_ref *ref, enum range_op op,
                              struct range_txn_args *args, uint64_t deadline_ns,
                              struct arena *arena, struct range_txn_info *out)
{
    const struct range_request q = {.op = op, .key = ref->anchor, .args = args};
    struct range_batch b = {.requests = &q,
                            .count = 1,
                            .txn = {.id = ref->id,
                                    .anchor = ref->anchor,
                                    .priority = ref->priority,
                                    .min_ts = ref->min_ts}};
    struct range_result result;

    args->txn = ref->id;
    args->anchor = ref->anchor;
    args->min_ts = ref->min_ts;
    TRY(kv_send(ref->kv, &b, deadline_ns, arena, &result));
    if (result.responses[0].txn == NULL) {
        return FAIL(STATUS_CORRUPT, "a record without an answer");
    }
    *out = *result.responses[0].txn;
    return OK;
}

/* Are all intents there that a staged record lists? Those that are not never will be. */
MAYYIELD static struct status query_intents(const struct txn_ref *ref,
                                            const struct range_txn_info *staged,
                                            uint64_t deadline_ns, struct arena *arena, bool *all)
{
    const struct range_txn_args args = {.txn = ref->id, .anchor = ref->anchor, .ts = staged->ts};
    struct range_request *requests =
        ARENA_ARRAY(arena, struct range_request, (size_t)staged->in_flight_count + 1);
    struct range_batch b = {.requests = requests, .count = staged->in_flight_count};
    struct range_result result;

    *all = true;
    if (requests == NULL) {
        return txn__no_memory();
    }
    for (uint32_t i = 0; i < staged->in_flight_count; i++) {
        requests[i] = (struct range_request){
            .op = RANGE_OP_QUERY_INTENT, .key = staged->in_flight[i], .args = &args};
    }
    if (b.count == 0) {
        return OK;
    }
    TRY(kv_send(ref->kv, &b, deadline_ns, arena, &result));
    for (uint32_t i = 0; i < b.count; i++) {
        *all = *all && result.responses[i].found;
    }
    return OK;
}

/* One look at the record and one step. *over: it is decided. */
MAYYIELD static struct status recover_step(const struct txn_ref *ref, uint64_t deadline_ns,
                                           struct arena *arena, struct range_txn_info *info)
{
    struct range_txn_args look = {0}; /* A staged time of zero: changes nothing. */
    struct range_txn_args args = {.push = RANGE_PUSH_ABORT, .status = RANGE_TXN_ABORTED};
    bool all = false;

    TRY(txn__ask_record(ref, RANGE_OP_RECOVER, &look, deadline_ns, arena, info));
    switch (info->status) {
    case RANGE_TXN_COMMITTED:
    case RANGE_TXN_ABORTED:
        return OK;
    case RANGE_TXN_PENDING: /* A staged one is left as it is: then we come here again. */
        return txn__ask_record(ref, RANGE_OP_END_TXN, &args, deadline_ns, arena, info);
    case RANGE_TXN_STAGING:
        break;
    }
    TRY(query_intents(ref, info, deadline_ns, arena, &all));
    args = (struct range_txn_args){.status = all ? RANGE_TXN_COMMITTED : RANGE_TXN_ABORTED,
                                   .ts = info->ts};
    return txn__ask_record(ref, RANGE_OP_RECOVER, &args, deadline_ns, arena, info);
}

struct status txn__recover(const struct txn_ref *ref, uint64_t deadline_ns, struct arena *arena,
                           bool *committed, struct hts *ts)
{
    struct env *env = shard_env(kv_shard(ref->kv));
    const uint64_t latest = env_mono_ns(env) + KV_DEADLINE_NS_DEFAULT;
    const uint64_t until = deadline_ns < latest ? deadline_ns : latest;

    while (env_mono_ns(env) < until) {
        struct range_txn_info info = {0};
        const struct status st = recover_step(ref, until, arena, &info);

        if (st.code == STATUS_CANCELLED) {
            break;
        }
        if (status_ok(st) &&
            (info.status == RANGE_TXN_COMMITTED || info.status == RANGE_TXN_ABORTED)) {
            *committed = info.status == RANGE_TXN_COMMITTED;
            *ts = info.ts;
            return OK;
        }
        if (!status_ok(st) && !status_ok(fiber_sleep(20000000))) {
            break;
        }
    }
    return FAIL(STATUS_AMBIGUOUS, "an answer to the commit was lost, and the transaction's record "
                                  "cannot be reached");
}
