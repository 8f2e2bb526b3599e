/*
 * commit.c -- how a transaction ends.
 *
 *   nothing written             there is nothing to decide; locks are let go
 *   one range holds everything  one batch: what was read is unchanged, write: one command (1PC). Without an
 *                               answer the next leaseholder is asked
 *   several ranges              intents and a STAGING record leave together. It is committed when the record
 *                               stands at ts and every intent at or below ts: all answers said so
 *
 *        stage ----all at or below ts---------------------------------> committed at ts
 *          |  \---some higher, or the record was pushed--> refresh reads --> COMMITTED record --> committed
 *          |                                                   |changed          |aborted by others
 *          |                                                   v                 v
 *          +--refused---------------------------------------> ABORTED <----------+
 *          +--answer lost--> record.c finds out
 *
 * A record is written COMMITTED, not staged again, once all intents are known to stand: nothing is left to
 * be proved. The same for what is too large to be listed: intents first, then the record.
 *
 * What is validated. SERIALIZABLE: everything read, up to the commit timestamp; the first attempt stages at
 * the snapshot itself, where there is nothing to refresh. READ COMMITTED: keys that were locked or written, each
 * since the snapshot of the statement that saw it. A written key's check rides in front of its write: they are
 * one command, so a staged record never stands on a write that was not checked. Keys that were only locked are
 * refreshed before anything is staged, since the record alone must decide.
 *
 * Behind the answer to the client the record and the intents are settled by settle.c.
 */
#include "node/base/invariant.h"
#include "node/txn/internal.h"

#define ATTEMPTS_MAX   10u /* To end above pushes. */
#define IDENTITIES_MAX 3u
#define LISTED_PART_MAX \
    ((size_t)4 << 20) /* Writes of one range beyond it may take several commands. */

static enum range_op write_op(enum write_kind kind)
{
    switch (kind) {
    case WRITE_PUT:
        return RANGE_OP_PUT;
    case WRITE_INSERT:
        return RANGE_OP_INSERT;
    case WRITE_UNDONE:
        return RANGE_OP_ABSENT;
    case WRITE_DELETE:
        break;
    }
    return RANGE_OP_DELETE;
}

static bool is_rc(const struct txn *t)
{
    return t->o.isolation == TXN_READ_COMMITTED;
}

/* ---- what is validated -------------------------------------------------------------------------- */

/* READ COMMITTED: what was locked and then written is checked with the write. What is left are the keys
 * that were only locked: *count of held[]. */
static void sort_out_held(struct txn *t, struct held *only, uint32_t *count)
{
    *count = 0;
    for (uint32_t i = 0; is_rc(t) && i < t->held_count; i++) {
        struct write *w = NULL;

        if (hts_is_zero(t->held[i].since)) {
            continue;
        }
        w = txn__find_write(t, t->held[i].span.start);
        if (w == NULL) {
            only[(*count)++] = t->held[i];
        } else if (hts_is_zero(w->since) || hts_less(t->held[i].since, w->since)) {
            w->since = t->held[i].since;
        }
    }
}

/* A commit under way. */
struct commit {
    struct txn *t;
    struct held *only; /* READ COMMITTED: locked and not written. */
    uint32_t only_count;
    struct range_request *requests;
    uint32_t count;
    struct hts ts; /* Where it shall commit. */
    bool wrote;    /* There may be intents or a record. */
    bool decided;  /* The record says COMMITTED. */
};

static bool must_validate(const struct commit *c)
{
    return is_rc(c->t) ? c->only_count > 0 : c->t->spans_count > 0;
}

static void add_validation(struct commit *c)
{
    const struct txn *t = c->t;

    for (uint32_t i = 0; !is_rc(t) && i < t->spans_count; i++) {
        c->requests[c->count++] = (struct range_request){
            .op = RANGE_OP_REFRESH, .key = t->spans[i].start, .end = t->spans[i].end};
    }
    for (uint32_t i = 0; i < c->only_count; i++) {
        c->requests[c->count++] = (struct range_request){.op = RANGE_OP_REFRESH,
                                                         .key = c->only[i].span.start,
                                                         .end = c->only[i].span.end,
                                                         .since = c->only[i].since};
    }
}

static void add_writes(struct commit *c)
{
    const struct txn *t = c->t;

    for (uint32_t i = 0; i < t->index_count; i++) {
        const struct write *w = &t->writes[t->index[i]];

        if (!hts_is_zero(w->since)) {
            c->requests[c->count++] =
                (struct range_request){.op = RANGE_OP_REFRESH, .key = w->key, .since = w->since};
        }
        c->requests[c->count++] =
            (struct range_request){.op = write_op(w->kind), .key = w->key, .value = w->value};
    }
}

/* Room for everything that any batch of this commit holds. */
static struct status prepare(struct commit *c)
{
    struct txn *t = c->t;
    const size_t most = (size_t)t->spans_count + t->held_count + 2 * (size_t)t->index_count + 1;

    if (is_rc(t) && t->held_count > 0) {
        c->only = ARENA_ARRAY(t->arena, struct held, t->held_count);
        if (c->only == NULL) {
            return txn__no_memory();
        }
        sort_out_held(t, c->only, &c->only_count);
    }
    c->requests = ARENA_ARRAY(t->arena, struct range_request, most);
    return c->requests == NULL ? txn__no_memory() : OK;
}

/* Nothing of what has to hold has changed up to `to`. */
MAYYIELD static struct status validate(struct commit *c, struct hts to)
{
    struct txn *t = c->t;
    struct range_batch b = {.read_ts = to, .txn = txn__batch_txn(t)};
    struct range_result result;

    if (!must_validate(c) || txn__plant(t, TXN_PLANT_NO_VALIDATION)) {
        return OK;
    }
    if (!is_rc(t)) {
        return hts_less_eq(to, t->read_ts) ? OK : txn__refresh(t, to);
    }
    TRY(txn__wait_clock(t->kv, to));
    c->count = 0;
    add_validation(c);
    b.requests = c->requests;
    b.count = c->count;
    b.txn.write_ts = to;
    return kv_send(t->kv, &b, t->o.deadline_ns, t->arena, &result);
}

/* ---- one range ---------------------------------------------------------------------------------- */

static struct status name_conflict(struct commit *c, struct status st,
                                   const struct range_result *result)
{
    if (st.code == STATUS_EXISTS && result->conflict < c->count) {
        c->t->conflict_key = c->requests[result->conflict].key;
    }
    return st;
}

/* The leaseholder did not answer. Whoever leads now has applied all that was committed, and remembers it: what
 * it does not know did not come about, and will not any more. */
MAYYIELD static struct status ask_commit(struct txn *t, struct hts sent, struct status ambiguous)
{
    const struct range_txn_args args = {.txn = t->ref.id, .anchor = t->ref.anchor, .min_ts = sent};
    const struct range_request q = {
        .op = RANGE_OP_QUERY_COMMIT, .key = t->writes[t->index[0]].key, .args = &args};
    struct range_batch b = {.requests = &q, .count = 1};
    struct range_result result;

    if (!status_ok(kv_send(t->kv, &b, t->o.deadline_ns, t->arena, &result)) ||
        result.responses[0].txn == NULL) {
        return ambiguous;
    }
    switch (result.responses[0].txn->status) {
    case RANGE_TXN_COMMITTED:
        t->commit_ts = result.responses[0].txn->ts;
        return OK;
    case RANGE_TXN_ABORTED:
        return FAIL(STATUS_TXN_ABORTED, "an answer to the commit was lost; nothing was committed");
    case RANGE_TXN_PENDING:
    case RANGE_TXN_STAGING:
        break;
    }
    return ambiguous;
}

/* What was read first: a row that is in the way of an insert does not matter when the transaction has to
 * run again anyway. STATUS_RANGE_MISMATCH: it takes more than one range. */
MAYYIELD static struct status commit_at_once(struct commit *c)
{
    struct txn *t = c->t;
    struct range_batch b = {.read_ts = is_rc(t) ? HTS_ZERO : t->read_ts,
                            .commit_limit = t->commit_limit,
                            .lock_wait_ns = t->o.lock_timeout_ns};
    struct range_result result;
    struct status st = OK;

    txn__identify_by_write(t);
    b.txn = txn__batch_txn(t);
    b.txn.global_limit = HTS_ZERO;
    b.txn.write_ts = kv_now(t->kv);
    add_validation(c);
    add_writes(c);
    b.requests = c->requests;
    b.count = c->count;
    st = kv_send(t->kv, &b, t->o.deadline_ns, t->arena, &result);
    if (status_ok(st)) {
        t->commit_ts = result.commit_ts;
    }
    return st.code == STATUS_AMBIGUOUS ? ask_commit(t, b.txn.write_ts, st)
                                       : name_conflict(c, st, &result);
}

/* ---- several ranges ----------------------------------------------------------------------------- */

static struct status check_limit(const struct commit *c)
{
    if (!hts_is_zero(c->t->commit_limit) && hts_less(c->t->commit_limit, c->ts)) {
        return FAIL(STATUS_TXN_RETRY, "the schema that the transaction used has expired");
    }
    return OK;
}

/* Where everything that was seen is valid already; or now, when nothing was. */
static struct hts first_ts(const struct commit *c)
{
    struct hts ts = c->t->read_ts;

    if (!must_validate(c)) {
        return kv_now(c->t->kv);
    }
    for (uint32_t i = 0; i < c->only_count; i++) {
        ts = hts_max(ts, c->only[i].since);
    }
    return ts;
}

/* Can the record list the keys of all other ranges? */
static bool can_be_listed(const struct txn *t)
{
    const bool one_command = t->bytes < LISTED_PART_MAX;
    size_t bytes = 0;

    for (uint32_t i = 0; i < t->index_count; i++) {
        const struct bytes key = t->writes[t->index[i]].key;

        if (!one_command || !kv_same_range(t->kv, t->ref.anchor, key)) {
            bytes += key.len;
        }
    }
    return bytes <= TXN_STAGED_BYTES_MAX;
}

static struct status record_args(const struct commit *c, enum range_txn_status status,
                                 struct range_txn_args *out)
{
    const struct txn *t = c->t;
    struct span *keys = ARENA_ARRAY(t->arena, struct span, t->index_count);
    struct key_span *spans = NULL;

    if (keys == NULL) {
        return txn__no_memory();
    }
    for (uint32_t i = 0; i < t->index_count; i++) {
        keys[i].start = t->writes[t->index[i]].key;
    }
    *out = (struct range_txn_args){.txn = t->ref.id,
                                   .anchor = t->ref.anchor,
                                   .status = status,
                                   .ts = c->ts,
                                   .min_ts = t->ref.min_ts};
    TRY(txn__settle_spans(keys, t->index_count, t->arena, &spans, &out->spans_count));
    out->spans = spans;
    return OK;
}

/* Sends all intents, and the record if it can list them. *info: how it stands then. */
MAYYIELD static struct status send_intents(struct commit *c, struct range_result *result,
                                           struct range_txn_info *info)
{
    struct txn *t = c->t;
    const bool staging = can_be_listed(t);
    struct kv_call call = {.deadline_ns = t->o.deadline_ns};
    struct range_txn_args args;
    struct range_batch b = {.read_ts = c->ts,
                            .txn = txn__batch_txn(t),
                            .intents = true,
                            .can_forward = !must_validate(c) && hts_is_zero(t->commit_limit),
                            .lock_wait_ns = t->o.lock_timeout_ns};
    struct status st = OK;

    *info = (struct range_txn_info){0};
    c->count = 0;
    add_writes(c);
    if (staging) {
        TRY(record_args(c, RANGE_TXN_STAGING, &args));
        c->requests[c->count++] =
            (struct range_request){.op = RANGE_OP_END_TXN, .key = t->ref.anchor, .args = &args};
    }
    b.txn.write_ts = c->ts;
    b.txn.global_limit = HTS_ZERO;
    b.requests = c->requests;
    b.count = c->count;
    st = kv_send_call(t->kv, &b, &call, t->arena, result);
    c->wrote = call.wrote;
    TRY(st);
    if (staging && result->responses[c->count - 1].txn != NULL) {
        *info = *result->responses[c->count - 1].txn;
    }
    return OK;
}

/* All intents stand at or below c->ts. Validates up to there and writes the record, higher if need be. */
MAYYIELD static struct status commit_explicitly(struct commit *c)
{
    struct txn *t = c->t;

    for (uint32_t i = 0; i < ATTEMPTS_MAX; i++) {
        struct range_txn_args args;
        struct range_txn_info info;

        TRY(check_limit(c));
        TRY(validate(c, c->ts));
        TRY(record_args(c, RANGE_TXN_COMMITTED, &args));
        TRY(txn__ask_record(&t->ref, RANGE_OP_END_TXN, &args, t->o.deadline_ns, t->arena, &info));
        if (info.status == RANGE_TXN_COMMITTED) {
            c->ts = info.ts;
            c->decided = true;
            return OK;
        }
        c->ts = hts_max(hts_next(c->ts), info.ts); /* It was pushed. */
    }
    return FAIL(STATUS_TXN_RETRY, "others pushed the transaction again and again");
}

MAYYIELD static struct status stage_and_commit(struct commit *c)
{
    struct range_result result = {0};
    struct range_txn_info info;

    c->ts = first_ts(c);
    TRY(check_limit(c));
    if (is_rc(c->t)) {
        TRY(validate(c, c->ts));
    }
    TRY(name_conflict(c, send_intents(c, &result, &info), &result));
    if (info.status == RANGE_TXN_COMMITTED) { /* By others, who found it complete. */
        c->ts = info.ts;
        c->decided = true;
        return OK;
    }
    if (info.status == RANGE_TXN_STAGING &&
        (hts_less_eq(result.commit_ts, info.ts) || txn__plant(c->t, TXN_PLANT_COMMIT_PUSHED))) {
        c->ts = info.ts;
        return OK;
    }
    c->ts = hts_max(c->ts, hts_max(result.commit_ts, info.ts));
    return commit_explicitly(c);
}

/* Leaves the rest to others. Unknown: with outcome PENDING. */
MAYYIELD static void leave_to_settle(struct commit *c, enum range_txn_status outcome)
{
    struct settle *s = txn__settle_create(c->t, true);

    if (s != NULL) {
        s->outcome = outcome;
        s->ts = c->ts;
        s->record = true;
        s->decided = c->decided;
        txn__service_settle(c->t->service, s);
    }
}

/* Some part was refused: nothing is committed. But a late duplicate of that part might be granted what was
 * refused; before the client hears of the failure the record must say that it is one. */
MAYYIELD static struct status abort_record(struct commit *c, struct status why)
{
    struct txn *t = c->t;
    struct range_txn_args args = {.status = RANGE_TXN_ABORTED};
    struct range_txn_info info;
    const struct status st =
        txn__ask_record(&t->ref, RANGE_OP_END_TXN, &args, t->o.deadline_ns, t->arena, &info);

    if (!status_ok(st)) {
        return FAIL(STATUS_AMBIGUOUS, "a commit failed, and its record cannot be reached");
    }
    if (info.status == RANGE_TXN_COMMITTED) { /* It was. Somebody else has seen it already. */
        c->ts = info.ts;
        c->decided = true;
        return OK;
    }
    return why;
}

MAYYIELD static struct status find_out(struct commit *c)
{
    struct txn *t = c->t;
    bool committed = false;

    TRY(txn__recover(&t->ref, t->o.deadline_ns, t->arena, &committed, &c->ts));
    c->decided = committed;
    return committed ? OK
                     : FAIL(STATUS_TXN_ABORTED,
                            "an answer to the commit was lost; nothing was committed");
}

MAYYIELD static struct status commit_by_record(struct commit *c)
{
    struct txn *t = c->t;
    struct status st = OK;

    txn__identify_by_write(t);
    txn__service_enter(t);
    st = stage_and_commit(c);
    if (st.code == STATUS_AMBIGUOUS) {
        st = find_out(c);
    } else if (!status_ok(st) && c->wrote) {
        st = abort_record(c, st);
    }
    if (status_ok(st)) {
        t->commit_ts = c->ts;
        leave_to_settle(c, RANGE_TXN_COMMITTED);
    } else if (st.code == STATUS_AMBIGUOUS) {
        leave_to_settle(c, RANGE_TXN_PENDING);
    } else if (c->wrote || t->held_count > 0) {
        leave_to_settle(c, RANGE_TXN_ABORTED);
    }
    return st;
}

/* ---- the end ------------------------------------------------------------------------------------ */

/* Has a heartbeat been sent, which leaves a record? */
static bool may_have_record(const struct txn *t)
{
    return t->held_count > 0 &&
           env_mono_ns(shard_env(kv_shard(t->kv))) - t->holds_since_ns >= TXN_HEARTBEAT_NS;
}

/* Is anything left behind a commit in one range? That range has let go all locks of its own. */
static bool holds_elsewhere(const struct txn *t, bool committed)
{
    for (uint32_t i = 0; i < t->held_count; i++) {
        if (!committed ||
            !kv_same_range(t->kv, t->writes[t->index[0]].key, t->held[i].span.start)) {
            return true;
        }
    }
    return may_have_record(t);
}

/* Locks and perhaps a record that decides nothing: whatever became of the transaction. */
static struct settle *let_go(const struct txn *t)
{
    struct settle *s = t->held_count == 0 ? NULL : txn__settle_create(t, false);

    if (s != NULL) {
        s->outcome = RANGE_TXN_ABORTED;
        s->record = may_have_record(t);
    }
    return s;
}

MAYYIELD static struct status commit_once(struct txn *t)
{
    struct commit c = {.t = t};
    struct status st = OK;
    struct settle *s = NULL;

    if (t->doomed) {
        st = FAIL(STATUS_TXN_ABORTED, "the transaction was aborted by another one");
    } else {
        TRY(prepare(&c));
        st = commit_at_once(&c);
        if (st.code == STATUS_RANGE_MISMATCH) {
            return commit_by_record(&c);
        }
    }
    s = holds_elsewhere(t, status_ok(st)) ? let_go(t) : NULL;
    if (s != NULL) {
        txn__service_settle(t->service, s);
    }
    return st;
}

/*
 * A transaction may lose its identity without fault of its own: the lease of its anchor has moved, or an
 * answer was lost and it made sure that nothing was committed. Its writes stand here, and what it read is
 * validated by whoever commits: so it tries again as another one.
 */
MAYYIELD static struct status commit_writes(struct txn *t)
{
    struct status st = commit_once(t);

    for (uint32_t i = 0; st.code == STATUS_TXN_ABORTED && i < IDENTITIES_MAX; i++) {
        txn__renew(t);
        st = commit_once(t);
    }
    return st.code == STATUS_TXN_ABORTED ? FAIL(STATUS_TXN_RETRY, status_text(st)) : st;
}

struct status txn_commit(struct txn *t)
{
    struct status st = OK;

    INVARIANT(!t->ended);
    t->ended = true;
    if (t->index_count > 0) {
        st = commit_writes(t);
    } else {
        struct settle *s = let_go(t);

        if (s != NULL) {
            txn__service_settle(t->service, s);
        }
    }
    txn__service_leave(t);
    if (status_ok(st) && !hts_is_zero(t->commit_ts)) {
        /* The client shall not see others miss what it knows to be committed. */
        status_ignore(txn__wait_clock(t->kv, t->commit_ts));
    }
    return st;
}

void txn_rollback(struct txn *t)
{
    struct settle *s = t->ended ? NULL : let_go(t);

    t->ended = true;
    txn__service_leave(t);
    if (s != NULL) {
        txn__service_settle_later(t->service, s);
    }
}
