/* Transactions over ranges at one leaseholder: intents, records, recovery, locks. */
#include "node/base/invariant.h"
#include "node/range/internal.h"
#include "tests/unit/range/cluster.h"

#define REQUESTS_MAX 8
#define KEY_A        BYTES_LIT("\x88/a")
#define KEY_B        BYTES_LIT("\x88/b")
#define KEY_C        BYTES_LIT("\x88/c")

struct ask {
    struct cluster *cluster;
    struct cluster_call call;
    struct range_request requests[REQUESTS_MAX];
    struct range_txn_args args[REQUESTS_MAX];
    uint32_t count;
};

static struct hts now_of(struct cluster *c)
{
    return hclock_hts(hlc_now(&c->nodes[0].hlc));
}

static struct ask ask_init(struct cluster *c)
{
    return (struct ask){.cluster = c, .call = {.node = &c->nodes[0]}};
}

static void add(struct ask *a, enum range_op op, struct bytes key, struct range_txn_args args)
{
    a->args[a->count] = args;
    a->requests[a->count] = (struct range_request){.op = op, .key = key, .value = BYTES_LIT("v")};
    if (range_op_on_txn(op)) {
        a->requests[a->count].args = &a->args[a->count];
    }
    a->count++;
}

static enum status_code run(struct ask *a)
{
    a->call.batch.requests = a->requests;
    a->call.batch.count = a->count;
    a->call.timeout_ms = 1000;
    for (uint32_t i = 0; i < a->count; i++) {
        if (a->requests[i].args != NULL) {
            a->requests[i].args = &a->args[i];
        }
    }
    cluster_call_start(&a->call);
    INVARIANT(cluster_call_wait(&a->call, 10000));
    return a->call.st.code;
}

static void end(struct ask *a)
{
    cluster_call_end(&a->call);
    a->count = 0;
}

static struct uuid txn_id(uint8_t n)
{
    return (struct uuid){{n}};
}

/* A batch of transaction n that began at `ts`, anchored at A. */
static struct ask of_txn(struct cluster *c, uint8_t n, struct hts ts)
{
    struct ask a = ask_init(c);

    a.call.batch.txn =
        (struct range_batch_txn){.id = txn_id(n), .anchor = KEY_A, .min_ts = ts, .write_ts = ts};
    a.call.batch.read_ts = ts;
    a.call.batch.intents = true;
    return a;
}

static struct range_txn_args end_as(uint8_t n, enum range_txn_status status, struct hts ts)
{
    static const struct key_span span = {{(const uint8_t *)"\x88/b", 3}, {NULL, 0}};

    return (struct range_txn_args){.txn = txn_id(n),
                                   .anchor = KEY_A,
                                   .status = status,
                                   .ts = ts,
                                   .spans = &span,
                                   .spans_count = 1,
                                   .in_flight = &span.start,
                                   .in_flight_count = 1};
}

/* Lays an intent of transaction n on `key`; where it stands. */
static struct hts lay(struct cluster *c, uint8_t n, struct bytes key, struct hts ts)
{
    struct ask a = of_txn(c, n, ts);
    struct hts at;

    add(&a, RANGE_OP_PUT, key, (struct range_txn_args){0});
    INVARIANT(run(&a) == STATUS_OK);
    at = a.call.result.commit_ts;
    end(&a);
    return at;
}

/* END_TXN; how the transaction stands afterwards. Code in *code. */
static struct range_txn_info end_txn(struct cluster *c, uint8_t n, struct hts min_ts,
                                     struct range_txn_args args, enum status_code *code)
{
    struct ask a = of_txn(c, n, min_ts);
    struct range_txn_info info = {0};

    add(&a, RANGE_OP_END_TXN, KEY_A, args);
    *code = run(&a);
    if (*code == STATUS_OK) {
        info = *a.call.result.responses[0].txn;
        info.in_flight = NULL;
    }
    end(&a);
    return info;
}

static enum status_code resolve(struct cluster *c, uint8_t n, struct bytes key,
                                enum range_txn_status status, struct hts ts)
{
    struct ask a = ask_init(c);
    enum status_code code = STATUS_OK;

    add(&a, RANGE_OP_RESOLVE, key,
        (struct range_txn_args){.txn = txn_id(n), .anchor = KEY_A, .status = status, .ts = ts});
    code = run(&a);
    end(&a);
    return code;
}

/* Reads at `ts` (zero: now) as transaction n; true when found. */
static bool reads(struct cluster *c, uint8_t n, struct bytes key, struct hts ts,
                  enum status_code *code)
{
    struct ask a = ask_init(c);
    bool found = false;

    a.call.batch.read_ts = ts;
    a.call.batch.txn.id = txn_id(n);
    add(&a, RANGE_OP_GET, key, (struct range_txn_args){0});
    *code = run(&a);
    found = *code == STATUS_OK && a.call.result.responses[0].found;
    end(&a);
    return found;
}

TEST(txn, an_intent_becomes_a_value_when_its_transaction_commits)
{
    struct cluster c;
    struct hts at;
    enum status_code code = STATUS_OK;

    cluster_start_with(&c, 1, (struct cluster_options){.no_send = true}); /* Nobody is pushed. */
    at = lay(&c, 1, KEY_A, now_of(&c));
    (void)reads(&c, 0, KEY_A, HTS_ZERO, &code);
    EXPECT_EQ(STATUS_TIMEOUT, code); /* It waits for the transaction. */
    EXPECT_FALSE(reads(&c, 0, KEY_A, hts_prev(at), &code));
    EXPECT_EQ(STATUS_OK, code);
    EXPECT_EQ(STATUS_OK, resolve(&c, 1, KEY_A, RANGE_TXN_COMMITTED, at));
    EXPECT_TRUE(reads(&c, 0, KEY_A, HTS_ZERO, &code));
    EXPECT_FALSE(reads(&c, 0, KEY_A, hts_prev(at), &code));
    at = lay(&c, 2, KEY_B, now_of(&c));
    EXPECT_EQ(STATUS_OK, resolve(&c, 2, KEY_B, RANGE_TXN_ABORTED, HTS_ZERO));
    EXPECT_FALSE(reads(&c, 0, KEY_B, HTS_ZERO, &code));
    EXPECT_EQ(STATUS_OK, code);
    cluster_stop(&c);
}

TEST(txn, intents_land_above_what_others_have_read)
{
    struct cluster c;
    const struct hts early = {0};
    struct hts begin;
    struct hts read_at;
    enum status_code code = STATUS_OK;

    UNUSED(early);
    cluster_start(&c, 1);
    begin = now_of(&c);
    cluster_run_ms(&c, 10);
    read_at = now_of(&c);
    (void)reads(&c, 9, KEY_A, read_at, &code);
    EXPECT_EQ(STATUS_OK, code);
    EXPECT_HTS_EQ(hts_next(read_at), lay(&c, 1, KEY_A, begin));
    EXPECT_HTS_EQ(begin, lay(&c, 1, KEY_B, begin)); /* Nobody read that one. */
    (void)reads(&c, 2, KEY_C, read_at, &code);
    EXPECT_HTS_EQ(read_at, lay(&c, 2, KEY_C, read_at)); /* Its own read. */
    cluster_stop(&c);
}

TEST(txn, staging_is_refused_when_reads_would_have_to_move)
{
    struct cluster c;
    struct ask a;
    struct hts begin;
    enum status_code code = STATUS_OK;

    cluster_start(&c, 1);
    begin = now_of(&c);
    cluster_run_ms(&c, 10);
    (void)reads(&c, 9, KEY_A, now_of(&c), &code);
    for (int forward = 0; forward < 2; forward++) {
        a = of_txn(&c, (uint8_t)(1 + forward), begin);
        a.call.batch.can_forward = forward == 1;
        add(&a, RANGE_OP_PUT, forward == 1 ? KEY_C : KEY_A, (struct range_txn_args){0});
        add(&a, RANGE_OP_END_TXN, KEY_A, end_as((uint8_t)(1 + forward), RANGE_TXN_STAGING, begin));
        EXPECT_EQ(STATUS_OK, run(&a));
        if (forward == 0) {
            EXPECT_EQ(RANGE_TXN_PENDING, a.call.result.responses[1].txn->status);
            EXPECT_TRUE(hts_less(begin, a.call.result.responses[1].txn->ts));
        } else {
            EXPECT_EQ(RANGE_TXN_STAGING, a.call.result.responses[1].txn->status);
        }
        end(&a);
    }
    cluster_stop(&c);
}

TEST(txn, a_record_lives_from_staging_to_settlement)
{
    struct cluster c;
    struct range_txn_args settled;
    struct range_txn_info t;
    struct hts ts;
    enum status_code code = STATUS_OK;

    cluster_start(&c, 1);
    ts = now_of(&c);
    t = end_txn(&c, 1, ts, end_as(1, RANGE_TXN_STAGING, ts), &code);
    EXPECT_EQ(RANGE_TXN_STAGING, t.status);
    EXPECT_EQ(1, t.in_flight_count);
    t = end_txn(&c, 1, ts, end_as(1, RANGE_TXN_COMMITTED, ts), &code);
    EXPECT_EQ(RANGE_TXN_COMMITTED, t.status);
    t = end_txn(&c, 1, ts, end_as(1, RANGE_TXN_STAGING, ts), &code);
    EXPECT_EQ(RANGE_TXN_COMMITTED, t.status); /* Who stages again hears so. */
    t = end_txn(&c, 1, ts, end_as(1, RANGE_TXN_ABORTED, HTS_ZERO), &code);
    EXPECT_EQ(RANGE_TXN_COMMITTED, t.status); /* Too late. */
    settled = end_as(1, RANGE_TXN_COMMITTED, ts);
    settled.spans_count = 0;
    t = end_txn(&c, 1, ts, settled, &code);
    EXPECT_EQ(RANGE_TXN_COMMITTED, t.status);
    (void)end_txn(&c, 1, ts, end_as(1, RANGE_TXN_STAGING, ts), &code);
    EXPECT_EQ(STATUS_TXN_ABORTED, code); /* A late duplicate makes no new record. */
    cluster_stop(&c);
}

TEST(txn, an_aborted_transaction_gets_no_record_any_more)
{
    struct cluster c;
    struct range_txn_info t;
    struct hts ts;
    enum status_code code = STATUS_OK;

    cluster_start(&c, 1);
    ts = now_of(&c);
    t = end_txn(&c, 1, ts, end_as(1, RANGE_TXN_ABORTED, HTS_ZERO), &code);
    EXPECT_EQ(RANGE_TXN_ABORTED, t.status);
    (void)end_txn(&c, 1, ts, end_as(1, RANGE_TXN_STAGING, ts), &code);
    EXPECT_EQ(STATUS_TXN_ABORTED, code);
    /* Nor one that is older than the lease: its markers may be forgotten. */
    (void)end_txn(&c, 2, (struct hts){1, 0}, end_as(2, RANGE_TXN_STAGING, ts), &code);
    EXPECT_EQ(STATUS_TXN_ABORTED, code);
    cluster_stop(&c);
}

static struct range_txn_info recover(struct cluster *c, uint8_t n, struct hts ts,
                                     enum range_txn_status outcome)
{
    struct ask a = ask_init(c);
    struct range_txn_info info = {0};

    add(&a, RANGE_OP_RECOVER, KEY_A,
        (struct range_txn_args){.txn = txn_id(n), .anchor = KEY_A, .status = outcome, .ts = ts});
    INVARIANT(run(&a) == STATUS_OK);
    info = *a.call.result.responses[0].txn;
    end(&a);
    return info;
}

TEST(txn, recovery_decides_what_is_staged_at_that_timestamp_only)
{
    struct cluster c;
    struct hts ts;
    enum status_code code = STATUS_OK;

    cluster_start(&c, 1);
    ts = now_of(&c);
    (void)end_txn(&c, 1, ts, end_as(1, RANGE_TXN_STAGING, ts), &code);
    EXPECT_EQ(RANGE_TXN_STAGING, recover(&c, 1, hts_next(ts), RANGE_TXN_ABORTED).status);
    EXPECT_EQ(RANGE_TXN_COMMITTED, recover(&c, 1, ts, RANGE_TXN_COMMITTED).status);
    EXPECT_EQ(RANGE_TXN_COMMITTED, recover(&c, 1, ts, RANGE_TXN_ABORTED).status);
    (void)end_txn(&c, 2, ts, end_as(2, RANGE_TXN_STAGING, ts), &code);
    EXPECT_EQ(RANGE_TXN_ABORTED, recover(&c, 2, ts, RANGE_TXN_ABORTED).status);
    (void)end_txn(&c, 2, ts, end_as(2, RANGE_TXN_STAGING, ts), &code);
    EXPECT_EQ(STATUS_TXN_ABORTED, code);
    cluster_stop(&c);
}

TEST(txn, a_missing_intent_is_prevented)
{
    struct cluster c;
    struct ask a;
    struct hts ts;

    cluster_start(&c, 1);
    ts = now_of(&c);
    (void)lay(&c, 1, KEY_A, ts);
    a = ask_init(&c);
    add(&a, RANGE_OP_QUERY_INTENT, KEY_A, (struct range_txn_args){.txn = txn_id(1), .ts = ts});
    add(&a, RANGE_OP_QUERY_INTENT, KEY_B, (struct range_txn_args){.txn = txn_id(1), .ts = ts});
    EXPECT_EQ(STATUS_OK, run(&a));
    EXPECT_TRUE(a.call.result.responses[0].found);
    EXPECT_FALSE(a.call.result.responses[1].found);
    end(&a);
    EXPECT_TRUE(hts_less(ts, lay(&c, 1, KEY_B, ts)));
    cluster_stop(&c);
}

TEST(txn, a_repeated_write_never_lands_higher)
{
    struct cluster c;
    struct ask a;
    struct hts ts;
    enum status_code code = STATUS_OK;

    cluster_start(&c, 1);
    ts = now_of(&c);
    (void)lay(&c, 1, KEY_A, ts);
    cluster_run_ms(&c, 5);
    (void)reads(&c, 9, KEY_B, now_of(&c), &code);
    for (int i = 0; i < 2; i++) {
        a = of_txn(&c, 1, ts);
        a.call.batch.replay = true;
        add(&a, RANGE_OP_PUT, i == 0 ? KEY_A : KEY_B, (struct range_txn_args){0});
        EXPECT_EQ(i == 0 ? STATUS_OK : STATUS_AMBIGUOUS, run(&a));
        EXPECT_TRUE(i == 1 || hts_eq(ts, a.call.result.commit_ts));
        end(&a);
    }
    cluster_stop(&c);
}

TEST(txn, heartbeats_keep_a_record)
{
    struct cluster c;
    struct ask a;
    struct hts ts;

    cluster_start(&c, 1);
    ts = now_of(&c);
    a = of_txn(&c, 1, ts);
    for (int i = 0; i < 2; i++) {
        add(&a, RANGE_OP_HEARTBEAT, KEY_A, (struct range_txn_args){.txn = txn_id(1)});
        EXPECT_EQ(STATUS_OK, run(&a));
        EXPECT_EQ(RANGE_TXN_PENDING, a.call.result.responses[0].txn->status);
        EXPECT_TRUE(hts_less(ts, a.call.result.responses[0].txn->last_heartbeat));
        end(&a);
        cluster_run_ms(&c, 5);
    }
    cluster_stop(&c);
}

/* GET with an exclusive lock. */
static enum status_code lock_key(struct cluster *c, uint8_t n, struct bytes key,
                                 enum range_wait wait, bool *found)
{
    struct ask a = ask_init(c);
    enum status_code code = STATUS_OK;

    a.call.batch.txn = (struct range_batch_txn){.id = txn_id(n), .anchor = key};
    a.call.batch.txn.min_ts = now_of(c);
    a.call.batch.wait = wait;
    add(&a, RANGE_OP_GET, key, (struct range_txn_args){0});
    a.requests[0].lock = MVCC_EXCLUSIVE;
    code = run(&a);
    *found = code == STATUS_OK && a.call.result.responses[0].found;
    end(&a);
    return code;
}

TEST(txn, locked_rows_are_skipped_or_waited_for)
{
    struct cluster c;
    struct ask a;
    bool found = false;

    cluster_start(&c, 1);
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, "\x88/a", "1"));
    EXPECT_EQ(STATUS_OK, lock_key(&c, 1, KEY_A, RANGE_WAIT_BLOCK, &found));
    EXPECT_TRUE(found);
    EXPECT_EQ(STATUS_OK, lock_key(&c, 1, KEY_A, RANGE_WAIT_BLOCK, &found)); /* Its own. */
    EXPECT_EQ(STATUS_OK, lock_key(&c, 2, KEY_A, RANGE_WAIT_SKIP, &found));
    EXPECT_FALSE(found);
    /* A one-round commit of the holder frees it. */
    a = ask_init(&c);
    a.call.batch.txn.id = txn_id(1);
    add(&a, RANGE_OP_PUT, KEY_A, (struct range_txn_args){0});
    EXPECT_EQ(STATUS_OK, run(&a));
    end(&a);
    EXPECT_EQ(STATUS_OK, lock_key(&c, 2, KEY_A, RANGE_WAIT_SKIP, &found));
    EXPECT_TRUE(found);
    cluster_stop(&c);
}

TEST(txn, a_row_being_committed_is_skipped_too)
{
    struct cluster c;
    struct hts at;
    bool found = false;

    cluster_start(&c, 1);
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, "\x88/a", "1"));
    at = lay(&c, 1, KEY_A, now_of(&c));
    EXPECT_EQ(STATUS_OK, lock_key(&c, 2, KEY_A, RANGE_WAIT_SKIP, &found));
    EXPECT_FALSE(found);
    EXPECT_EQ(STATUS_OK, resolve(&c, 1, KEY_A, RANGE_TXN_COMMITTED, at));
    EXPECT_EQ(STATUS_OK, lock_key(&c, 2, KEY_A, RANGE_WAIT_SKIP, &found));
    EXPECT_TRUE(found);
    cluster_stop(&c);
}

TEST(txn, a_span_is_settled_at_once)
{
    struct cluster c;
    struct ask a;
    struct hts ts;
    enum status_code code = STATUS_OK;

    cluster_start_with(&c, 1, (struct cluster_options){.no_send = true}); /* Nobody is pushed. */
    ts = now_of(&c);
    (void)lay(&c, 1, KEY_A, ts);
    (void)lay(&c, 1, KEY_B, ts);
    (void)lay(&c, 2, KEY_C, ts);
    a = ask_init(&c);
    add(&a, RANGE_OP_RESOLVE, BYTES_LIT("\x88/"),
        (struct range_txn_args){.txn = txn_id(1), .status = RANGE_TXN_COMMITTED, .ts = ts});
    a.requests[0].end = BYTES_LIT("\x88/d");
    EXPECT_EQ(STATUS_OK, run(&a));
    end(&a);
    EXPECT_TRUE(reads(&c, 0, KEY_A, HTS_ZERO, &code));
    EXPECT_TRUE(reads(&c, 0, KEY_B, HTS_ZERO, &code));
    (void)reads(&c, 0, KEY_C, HTS_ZERO, &code);
    EXPECT_EQ(STATUS_TIMEOUT, code);
    cluster_stop(&c);
}

static struct range_txn_info query_commit(struct cluster *c, uint8_t n, struct hts sent)
{
    struct ask a = ask_init(c);
    struct range_txn_info info = {0};

    add(&a, RANGE_OP_QUERY_COMMIT, KEY_A,
        (struct range_txn_args){.txn = txn_id(n), .min_ts = sent});
    INVARIANT(run(&a) == STATUS_OK);
    info = *a.call.result.responses[0].txn;
    end(&a);
    return info;
}

static enum status_code commit_at_once(struct cluster *c, uint8_t n, struct hts sent,
                                       struct hts *commit_ts)
{
    struct ask a = ask_init(c);
    enum status_code code = STATUS_OK;

    a.call.batch.txn = (struct range_batch_txn){.id = txn_id(n), .write_ts = sent};
    add(&a, RANGE_OP_PUT, KEY_A, (struct range_txn_args){0});
    code = run(&a);
    *commit_ts = a.call.result.commit_ts;
    end(&a);
    return code;
}

TEST(txn, what_became_of_a_one_round_commit_can_be_asked)
{
    struct cluster c;
    struct range_txn_info t;
    struct hts sent;
    struct hts commit_ts;

    cluster_start(&c, 1);
    sent = now_of(&c);
    EXPECT_EQ(STATUS_OK, commit_at_once(&c, 1, sent, &commit_ts));
    t = query_commit(&c, 1, sent);
    EXPECT_EQ(RANGE_TXN_COMMITTED, t.status);
    EXPECT_HTS_EQ(commit_ts, t.ts);
    /* Not there: then it must not come any more, however late it arrives. */
    EXPECT_EQ(RANGE_TXN_ABORTED, query_commit(&c, 2, sent).status);
    EXPECT_EQ(STATUS_TXN_ABORTED, commit_at_once(&c, 2, sent, &commit_ts));
    /* Before this store began to remember nobody knows. */
    EXPECT_EQ(RANGE_TXN_PENDING, query_commit(&c, 3, (struct hts){1, 0}).status);
    cluster_stop(&c);
}
