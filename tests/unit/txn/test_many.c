/* Transactions over several ranges: all or nothing, at one time, whatever gets lost. */
#include "node/base/hash.h"
#include "node/base/invariant.h"
#include "node/txn/internal.h"
#include "tests/unit/txn/many_rig.h"

#define K(text) BYTES_LIT("\x88" text)

#define MANY_TEST(name, splits)              \
    static void body_##name(struct many *m); \
    TEST(many, name)                         \
    {                                        \
        many_run(splits, body_##name);       \
    }                                        \
    static void body_##name(struct many *m)

static const struct txn_options plain = {.isolation = TXN_SERIALIZABLE};
static const struct txn_options committed = {.isolation = TXN_READ_COMMITTED};

/* ---- one round ----------------------------------------------------------------------------------- */

MANY_TEST(two_ranges_commit_in_one_round_and_nothing_is_left, "m")
{
    struct txn *t = NULL;
    uint64_t rounds = 0;

    EXPECT_EQ(STATUS_OK, many_put_two(m, "a", "n", "0"));
    EXPECT_TRUE(many_settles(m));
    t = many_begin(m, plain);
    EXPECT_EQ(STATUS_OK, many_put(t, "a", "1"));
    EXPECT_EQ(STATUS_OK, many_put(t, "b", "1"));
    EXPECT_EQ(STATUS_OK, many_put(t, "z", "1"));
    EXPECT_OK(txn_delete(t, K("n")));
    rounds = m->rounds;
    EXPECT_OK(txn_commit(t));
    EXPECT_EQ(rounds + 1, m->rounds);
    EXPECT_STREQ("a=1 b=1 z=1", many_all(m));
    EXPECT_TRUE(many_settles(m));
    EXPECT_STREQ("a=1 b=1 z=1", many_all(m));
    EXPECT_FALSE(hts_is_zero(txn_ts(t)));
}

/* A transaction of one range costs one message, as ever. */
MANY_TEST(one_range_is_one_message, "m")
{
    struct txn *t = NULL;
    uint32_t before = 0;

    EXPECT_EQ(STATUS_OK, many_put_two(m, "a", "n", "0"));
    EXPECT_TRUE(many_settles(m));
    many_sleep_ms(100);
    before = m->requests;
    t = many_begin(m, (struct txn_options){.implicit = true});
    EXPECT_OK(txn_insert(t, K("p"), BYTES_LIT("1")));
    EXPECT_EQ(STATUS_OK, many_put(t, "n", "1"));
    EXPECT_OK(txn_commit(t));
    EXPECT_EQ(before + 1, m->requests);
    t = many_begin(m, (struct txn_options){.implicit = true, .read_only = true});
    EXPECT_STREQ("1", many_get(m, t, "p"));
    EXPECT_OK(txn_commit(t));
    EXPECT_EQ(before + 2, m->requests);
    many_sleep_ms(100);
    EXPECT_EQ(before + 2, m->requests);
}

MANY_TEST(ten_ranges, "bdfhjlnpr")
{
    const char *text = NULL;

    for (int round = 0; round < 3; round++) {
        struct txn *t = many_begin(m, plain);
        char value[2] = {(char)('0' + round), '\0'};

        text = "";
        for (char l = 'a'; l <= 't'; l++) {
            const char key[] = {l, '\0'};

            EXPECT_EQ(STATUS_OK, many_put(t, key, value));
            text = arena_printf(&m->arena, "%s%s%c=%s", text, l == 'a' ? "" : " ", l, value);
        }
        EXPECT_OK(txn_commit(t));
        EXPECT_STREQ(text, many_all(m));
    }
    EXPECT_TRUE(many_settles(m));
    EXPECT_STREQ(text, many_all(m));
    EXPECT_STREQ(text, many_scan(m, many_begin(m, plain), false, 3));
}

MANY_TEST(scans_run_over_ranges_in_both_directions, "dgm")
{
    struct txn *t = many_begin(m, plain);

    EXPECT_STREQ("", many_all(m));
    for (const char *k = "bchnz"; *k != '\0'; k++) {
        const char key[] = {*k, '\0'};

        EXPECT_EQ(STATUS_OK, many_put(t, key, "1"));
    }
    EXPECT_OK(txn_commit(t));
    t = many_begin(m, plain);
    EXPECT_EQ(STATUS_OK, many_put(t, "e", "2"));
    EXPECT_OK(txn_delete(t, K("h")));
    for (uint32_t rows = 0; rows < 4; rows++) {
        EXPECT_STREQ("b=1 c=1 e=2 n=1 z=1", many_scan(m, t, false, rows));
        EXPECT_STREQ("z=1 n=1 e=2 c=1 b=1", many_scan(m, t, true, rows));
    }
    txn_rollback(t);
}

/* Keys that do not fit into a record: intents first, the record behind them. */
MANY_TEST(a_transaction_too_large_to_be_listed, "m")
{
    struct txn *t = many_begin(m, plain);
    char key[40];

    for (int i = 0; i < 3000; i++) {
        (void)snprintf(key, sizeof(key), "%c%030d", i % 2 == 0 ? 'a' : 'n', i);
        EXPECT_EQ(STATUS_OK, many_put(t, key, "v"));
    }
    EXPECT_OK(txn_commit(t));
    EXPECT_STREQ("v", many_get(m, many_begin(m, plain), key));
    EXPECT_TRUE(many_settles(m));
    EXPECT_STREQ("v", many_get(m, many_begin(m, plain), key));
}

/* ---- refusals ------------------------------------------------------------------------------------ */

MANY_TEST(a_row_in_the_way_in_one_range_stops_all, "m")
{
    struct txn *t = many_begin(m, (struct txn_options){.implicit = true});

    EXPECT_EQ(STATUS_OK, many_put_two(m, "n", "o", "0"));
    EXPECT_OK(txn_insert(t, K("a"), BYTES_LIT("1")));
    EXPECT_OK(txn_insert(t, K("n"), BYTES_LIT("1")));
    EXPECT_CODE(STATUS_EXISTS, txn_commit(t));
    EXPECT_BYTES_EQ(K("n"), txn_conflict_key(t));
    EXPECT_STREQ("n=0 o=0", many_all(m));
    EXPECT_TRUE(many_settles(m));
    EXPECT_STREQ("n=0 o=0", many_all(m));
}

/* Somebody has read what is written, later: the commit moves up, if what it read still holds there. */
MANY_TEST(a_pushed_transaction_refreshes_and_commits_above, "m")
{
    struct txn *t = NULL;
    struct hts read_ts;

    EXPECT_EQ(STATUS_OK, many_put_two(m, "a", "n", "0"));
    t = many_begin(m, plain);
    EXPECT_STREQ("0", many_get(m, t, "a"));
    read_ts = txn_ts(t);
    many_sleep_ms(5);
    EXPECT_STREQ("a=0 n=0", many_all(m));
    EXPECT_EQ(STATUS_OK, many_put(t, "b", "1"));
    EXPECT_EQ(STATUS_OK, many_put(t, "n", "1"));
    EXPECT_OK(txn_commit(t));
    EXPECT_TRUE(hts_less(read_ts, txn_ts(t)));
    EXPECT_STREQ("a=0 b=1 n=1", many_all(m));
    EXPECT_TRUE(many_settles(m));
}

MANY_TEST(a_pushed_transaction_whose_reads_have_changed_leaves_nothing, "m")
{
    struct txn *t = NULL;

    EXPECT_EQ(STATUS_OK, many_put_two(m, "a", "n", "0"));
    t = many_begin(m, plain);
    EXPECT_STREQ("0", many_get(m, t, "a"));
    EXPECT_EQ(STATUS_OK, many_put_two(m, "a", "x", "9"));
    EXPECT_STREQ("a=9 n=0 x=9", many_all(m));
    EXPECT_EQ(STATUS_OK, many_put(t, "b", "1"));
    EXPECT_EQ(STATUS_OK, many_put(t, "n", "1"));
    EXPECT_CODE(STATUS_TXN_RETRY, txn_commit(t));
    EXPECT_STREQ("a=9 n=0 x=9", many_all(m));
    EXPECT_TRUE(many_settles(m));
    EXPECT_STREQ("a=9 n=0 x=9", many_all(m));
}

/* Write skew: each reads what the other writes. */
MANY_TEST(two_that_read_what_the_other_writes_do_not_both_commit, "m")
{
    struct txn *t = NULL;
    struct txn *u = NULL;
    enum status_code codes[2];

    EXPECT_EQ(STATUS_OK, many_put_two(m, "a", "n", "0"));
    t = many_begin(m, plain);
    u = many_begin(m, plain);
    EXPECT_STREQ("0", many_get(m, t, "a"));
    EXPECT_STREQ("0", many_get(m, t, "n"));
    EXPECT_STREQ("0", many_get(m, u, "a"));
    EXPECT_STREQ("0", many_get(m, u, "n"));
    EXPECT_EQ(STATUS_OK, many_put(t, "a", "t"));
    EXPECT_EQ(STATUS_OK, many_put(t, "b", "t"));
    EXPECT_EQ(STATUS_OK, many_put(t, "z", "t"));
    EXPECT_EQ(STATUS_OK, many_put(u, "n", "u"));
    EXPECT_EQ(STATUS_OK, many_put(u, "c", "u"));
    codes[0] = txn_commit(t).code;
    codes[1] = txn_commit(u).code;
    EXPECT_EQ(STATUS_OK, codes[0]);
    EXPECT_EQ(STATUS_TXN_RETRY, codes[1]);
    EXPECT_TRUE(many_settles(m));
}

MANY_TEST(a_limit_of_the_commit_holds_over_ranges, "m")
{
    struct txn *t = many_begin(m, plain);

    EXPECT_STREQ("", many_get(m, t, "a"));
    txn_limit_commit_ts(t, txn_ts(t));
    many_sleep_ms(2);
    EXPECT_STREQ("", many_all(m));
    EXPECT_EQ(STATUS_OK, many_put(t, "b", "1"));
    EXPECT_EQ(STATUS_OK, many_put(t, "n", "1"));
    EXPECT_CODE(STATUS_TXN_RETRY, txn_commit(t));
    EXPECT_STREQ("", many_all(m));
    EXPECT_TRUE(many_settles(m));
}

/* ---- lost answers -------------------------------------------------------------------------------- */

/* Each answer to a commit in turn, and then several at once: never half, never told wrong. */
static void lose(struct many *m, uint32_t from, uint32_t count, int n)
{
    char value[12];
    enum status_code code = STATUS_OK;
    const char *a = NULL;
    const char *z = NULL;

    (void)snprintf(value, sizeof(value), "%d", n);
    m->drop_from = m->replies + from;
    m->drop_count = count;
    code = many_put_two(m, "a", "n", value);
    m->drop_count = 0;
    EXPECT_TRUE(code == STATUS_OK || code == STATUS_TXN_RETRY);
    a = many_get(m, many_begin(m, plain), "a");
    z = many_get(m, many_begin(m, plain), "n");
    EXPECT_STREQ(a, z);
    EXPECT_EQ(code == STATUS_OK, strcmp(a, value) == 0);
    EXPECT_TRUE(many_settles(m));
}

MANY_TEST(lost_answers_are_found_out, "m")
{
    int n = 0;

    EXPECT_EQ(STATUS_OK, many_put_two(m, "a", "n", "0"));
    EXPECT_TRUE(many_settles(m));
    for (uint32_t from = 0; from < 6; from++) {
        lose(m, from, 1, ++n);
    }
    for (uint32_t count = 2; count < 5; count++) {
        lose(m, 0, count, ++n);
    }
}

/* The gateway is cut off right behind its commit: others decide what became of it. */
MANY_TEST(others_recover_what_was_abandoned, "m")
{
    struct txn *t = NULL;
    const char *all = NULL;

    EXPECT_EQ(STATUS_OK, many_put_two(m, "a", "n", "0"));
    EXPECT_TRUE(many_settles(m));
    t = many_begin(m,
                   (struct txn_options){.deadline_ns = env_mono_ns(shard_env(m->c.nodes[1].shard)) +
                                                       3000000000u});
    EXPECT_EQ(STATUS_OK, many_put(t, "a", "1"));
    EXPECT_EQ(STATUS_OK, many_put(t, "n", "1"));
    m->drop_from = m->replies;
    m->drop_count = UINT32_MAX / 2;
    EXPECT_CODE(STATUS_AMBIGUOUS, txn_commit(t));
    m->drop_count = 0;
    all = many_all(m); /* Waits until the record has expired, or the service is done. */
    EXPECT_STREQ("a=1 n=1", all);
    EXPECT_TRUE(many_settles(m));
    EXPECT_STREQ(all, many_all(m));
}

/* ---- locks --------------------------------------------------------------------------------------- */

struct locker {
    struct many *m;
    struct txn *t;
    const char *key;
    enum status_code code;
    bool done;
};

static void lock_fiber(void *arg)
{
    struct locker *l = arg;

    (void)many_lock(l->m, l->t, l->key, &l->code);
    l->done = true;
    many_ended(l->m);
}

MANY_TEST(whoever_closes_a_circle_of_waits_hears_of_it, "m")
{
    struct txn *t = many_begin(m, plain);
    struct txn *u = many_begin(m, plain);
    struct locker a = {.m = m, .t = t, .key = "n"};
    struct locker b = {.m = m, .t = u, .key = "a"};
    enum status_code code = STATUS_OK;

    EXPECT_EQ(STATUS_OK, many_put_two(m, "a", "n", "0"));
    EXPECT_TRUE(many_settles(m));
    EXPECT_STREQ("0", many_lock(m, t, "a", &code));
    EXPECT_STREQ("0", many_lock(m, u, "n", &code));
    many_spawn(m, lock_fiber, &a);
    many_spawn(m, lock_fiber, &b);
    for (int i = 0; i < 4000 && !a.done && !b.done; i++) {
        many_sleep_ms(1);
    }
    EXPECT_TRUE(a.done != b.done);
    EXPECT_EQ(STATUS_DEADLOCK, a.done ? a.code : b.code);
    txn_rollback(a.done ? t : u);
    many_join(m);
    EXPECT_EQ(STATUS_DEADLOCK, a.code == STATUS_OK ? b.code : a.code);
    EXPECT_EQ(STATUS_OK, a.code == STATUS_OK ? a.code : b.code);
    txn_rollback(a.code == STATUS_OK ? t : u);
}

MANY_TEST(locks_hold_while_their_owner_lives_and_go_with_it, "m")
{
    struct txn *t = many_begin(m, plain);
    struct txn *u = many_begin(m, (struct txn_options){.lock_timeout_ns = 50000000});
    const struct txn_lock nowait = {.strength = MVCC_EXCLUSIVE, .wait = RANGE_WAIT_ERROR};
    const struct txn_lock skip = {.strength = MVCC_EXCLUSIVE, .wait = RANGE_WAIT_SKIP};
    const struct bytes keys[] = {K("a"), K("n")};
    struct bytes values[2];
    bool found[2];
    enum status_code code = STATUS_OK;

    EXPECT_EQ(STATUS_OK, many_put_two(m, "a", "n", "0"));
    EXPECT_TRUE(many_settles(m));
    EXPECT_STREQ("0", many_lock(m, t, "a", &code));
    many_sleep_ms(9000); /* Longer than anybody without heartbeats would be believed alive. */
    EXPECT_CODE(STATUS_LOCKED, txn_multi_get_locked(u, &nowait, keys, 2, &m->arena, found, values));
    EXPECT_TRUE(many_lock(m, u, "a", &code) == NULL);
    EXPECT_EQ(STATUS_LOCKED, code);
    EXPECT_OK(txn_multi_get_locked(u, &skip, keys, 2, &m->arena, found, values));
    EXPECT_FALSE(found[0]);
    EXPECT_TRUE(found[1]);
    EXPECT_EQ(STATUS_OK, many_put(t, "a", "1"));
    EXPECT_EQ(STATUS_OK, many_put(t, "b", "1"));
    EXPECT_OK(txn_commit(t));
    many_sleep_ms(50);
    txn_rollback(u);
    many_sleep_ms(50);
    u = many_begin(m, plain);
    EXPECT_OK(txn_multi_get_locked(u, &nowait, keys, 2, &m->arena, found, values));
    EXPECT_BYTES_EQ(BYTES_LIT("1"), values[0]);
    EXPECT_OK(txn_commit(u));
    EXPECT_TRUE(many_settles(m));
}

/* ---- read committed ------------------------------------------------------------------------------ */

MANY_TEST(statements_see_what_was_committed_before_them, "m")
{
    struct txn *t = many_begin(m, committed);

    EXPECT_EQ(STATUS_OK, many_put_two(m, "a", "n", "0"));
    EXPECT_STREQ("0", many_get(m, t, "a"));
    EXPECT_EQ(STATUS_OK, many_put_two(m, "a", "n", "1"));
    EXPECT_STREQ("0", many_get(m, t, "n"));
    txn_statement(t);
    EXPECT_STREQ("1", many_get(m, t, "a"));
    EXPECT_STREQ("1", many_get(m, t, "n"));
    EXPECT_EQ(STATUS_OK, many_put(t, "b", "t"));
    EXPECT_EQ(STATUS_OK, many_put(t, "o", "t"));
    EXPECT_EQ(STATUS_OK, many_put_two(m, "a", "n", "2")); /* What was only read does not matter. */
    EXPECT_OK(txn_commit(t));
    EXPECT_STREQ("a=2 b=t n=2 o=t", many_all(m));
    EXPECT_TRUE(many_settles(m));
}

/* In one range and in two; what the statement saw of a key that it writes must be the newest. */
MANY_TEST(an_update_on_an_old_snapshot_is_not_lost, "m")
{
    const char *const others[] = {"b", "o"};

    for (int i = 0; i < 2; i++) {
        struct txn *t = many_begin(m, committed);

        EXPECT_EQ(STATUS_OK, many_put_two(m, "a", "n", "0"));
        txn_statement(t);
        EXPECT_STREQ("0", many_get(m, t, "a"));
        EXPECT_EQ(STATUS_OK, many_put_two(m, "a", "n", "1"));
        EXPECT_EQ(STATUS_OK, many_put(t, "a", "lost"));
        EXPECT_EQ(STATUS_OK, many_put(t, others[i], "t"));
        EXPECT_CODE(STATUS_TXN_RETRY, txn_commit(t));
        EXPECT_STREQ("a=1 n=1", many_all(m));
        EXPECT_TRUE(many_settles(m));
    }
}

/* The check of a key holds up to where the write of the key lands, however high that is. */
MANY_TEST(a_write_does_not_jump_over_what_its_check_would_have_found, "m")
{
    struct txn *t = many_begin(m, committed);
    struct range_request q[] = {{.op = RANGE_OP_REFRESH, .key = K("a")},
                                {.op = RANGE_OP_PUT, .key = K("a"), .value = BYTES_LIT("lost")}};
    struct range_batch b = {.requests = q, .count = 2, .intents = true, .can_forward = true};
    struct range_result result;

    EXPECT_EQ(STATUS_OK, many_put_two(m, "a", "n", "0"));
    EXPECT_STREQ("0", many_get(m, t, "a"));
    EXPECT_OK(txn__identify(t, K("a")));
    q[0].since = txn_ts(t);
    b.txn = txn__batch_txn(t);
    b.txn.write_ts = hts_next(txn_ts(t));
    EXPECT_EQ(STATUS_OK, many_put_two(m, "a", "n", "1"));
    EXPECT_TRUE(many_settles(m));
    EXPECT_CODE(STATUS_TXN_RETRY, kv_send(m->kv, &b, DEADLINE_NONE, &m->arena, &result));
    EXPECT_STREQ("a=1 n=1", many_all(m));
    EXPECT_TRUE(many_settles(m));
}

/* A row that is locked is seen as it is now, and stays so until the end. */
MANY_TEST(locked_rows_are_the_newest_and_keep_others_out, "m")
{
    struct txn *t = many_begin(m, committed);
    struct txn *u = many_begin(m, committed);
    struct locker waits = {.m = m, .t = u, .key = "a"};
    enum status_code code = STATUS_OK;

    EXPECT_EQ(STATUS_OK, many_put_two(m, "a", "n", "0"));
    txn_statement(t);
    EXPECT_STREQ("0", many_lock(m, t, "a", &code));
    txn_statement(u);
    many_spawn(m, lock_fiber, &waits);
    many_sleep_ms(20);
    EXPECT_FALSE(waits.done);
    EXPECT_EQ(STATUS_OK, many_put(t, "a", "1"));
    EXPECT_EQ(STATUS_OK, many_put(t, "n", "1"));
    EXPECT_OK(txn_commit(t));
    many_join(m);
    EXPECT_EQ(STATUS_OK, waits.code);
    EXPECT_STREQ("1", many_lock(m, u, "a", &code));
    EXPECT_EQ(STATUS_OK, many_put(u, "a", "2"));
    EXPECT_EQ(STATUS_OK, many_put(u, "n", "2"));
    EXPECT_OK(txn_commit(u));
    EXPECT_STREQ("a=2 n=2", many_all(m));
    EXPECT_TRUE(many_settles(m));
}

/* Asks as a range asks that has a waiter: the record of t, or its locks, from outside. */
static struct status meddle(struct many *m, const struct txn *t, enum range_op op,
                            struct range_txn_args args, struct bytes key)
{
    const struct range_request q = {.op = op, .key = key, .args = &args};
    struct range_batch b = {.requests = &q, .count = 1};
    struct range_result result;

    args.txn = t->ref.id;
    args.anchor = t->ref.anchor;
    args.min_ts = t->ref.min_ts;
    return kv_send(m->kv, &b, DEADLINE_NONE, &m->arena, &result);
}

/* Locks are for waiting only. Here they are lost, and somebody is faster; only the commit can tell. */
MANY_TEST(a_locked_row_that_changed_all_the_same_stops_the_commit, "m")
{
    for (int i = 0; i < 2; i++) {
        struct txn *t = many_begin(m, committed);
        enum status_code code = STATUS_OK;

        EXPECT_EQ(STATUS_OK, many_put_two(m, "a", "n", "0"));
        EXPECT_TRUE(many_settles(m));
        EXPECT_STREQ("0", many_lock(m, t, "a", &code));
        txn_statement(t);
        EXPECT_OK(meddle(m, t, RANGE_OP_RESOLVE,
                         (struct range_txn_args){.status = RANGE_TXN_ABORTED}, K("a")));
        EXPECT_STREQ("0", many_get(m, t, "n"));
        EXPECT_EQ(STATUS_OK, many_put(t, "b", "1"));
        EXPECT_EQ(STATUS_OK, many_put(t, "o", "1"));
        if (i == 1) { /* What the lock kept out comes; and a reader, or t would commit before it. */
            EXPECT_EQ(STATUS_OK, many_put_two(m, "a", "n", "9"));
            EXPECT_STREQ("a=9 b=1 n=9 o=1", many_all(m));
        }
        EXPECT_EQ(i == 0 ? STATUS_OK : STATUS_TXN_RETRY, txn_commit(t).code);
        EXPECT_STREQ(i == 0 ? "a=0 b=1 n=0 o=1" : "a=9 b=1 n=9 o=1", many_all(m));
        EXPECT_TRUE(many_settles(m));
    }
}

/* Aborted by others while it was idle: a heartbeat finds out, and the next statement says so. Its locks are
 * gone; what they protected has changed, and the commit sees it. */
MANY_TEST(an_aborted_transaction_hears_of_it, "m")
{
    struct txn *t = many_begin(m, plain);
    struct bytes value;
    bool found = false;
    enum status_code code = STATUS_OK;

    EXPECT_EQ(STATUS_OK, many_put_two(m, "a", "n", "0"));
    EXPECT_STREQ("0", many_lock(m, t, "a", &code));
    EXPECT_OK(meddle(m, t, RANGE_OP_PUSH,
                     (struct range_txn_args){.push = RANGE_PUSH_ABORT, .force = true}, K("a")));
    many_sleep_ms(2500);
    EXPECT_CODE(STATUS_TXN_RETRY, txn_get(t, K("n"), &m->arena, &found, &value));
    EXPECT_EQ(STATUS_OK, many_put_two(m, "a", "n", "9"));
    EXPECT_EQ(STATUS_OK, many_put(t, "a", "1"));
    EXPECT_EQ(STATUS_OK, many_put(t, "o", "1"));
    EXPECT_CODE(STATUS_TXN_RETRY, txn_commit(t));
    EXPECT_STREQ("a=9 n=9", many_all(m));
    EXPECT_TRUE(many_settles(m));
}

/* Losing one's identity is not losing one's case: nothing has changed, so the commit goes on as another. */
MANY_TEST(an_aborted_transaction_commits_under_another_id, "m")
{
    struct txn *t = many_begin(m, plain);
    struct uuid id;
    enum status_code code = STATUS_OK;

    EXPECT_EQ(STATUS_OK, many_put_two(m, "a", "n", "0"));
    EXPECT_STREQ("0", many_lock(m, t, "a", &code));
    EXPECT_EQ(STATUS_OK, many_put(t, "a", "1"));
    EXPECT_EQ(STATUS_OK, many_put(t, "n", "1"));
    id = t->ref.id;
    EXPECT_OK(meddle(m, t, RANGE_OP_PUSH,
                     (struct range_txn_args){.push = RANGE_PUSH_ABORT, .force = true}, K("a")));
    EXPECT_OK(txn_commit(t));
    EXPECT_FALSE(uuid_eq(id, t->ref.id));
    EXPECT_STREQ("a=1 n=1", many_all(m));
    EXPECT_TRUE(many_settles(m));
}

/* ---- deadlines and ends -------------------------------------------------------------------------- */

static struct txn_options soon(struct many *m, uint64_t ms)
{
    return (struct txn_options){.deadline_ns =
                                    env_mono_ns(shard_env(m->c.nodes[1].shard)) + ms * 1000000u};
}

MANY_TEST(nobody_waits_for_a_lock_beyond_the_deadline, "m")
{
    struct txn *t = many_begin(m, plain);
    struct txn *u = NULL;
    enum status_code code = STATUS_OK;

    EXPECT_EQ(STATUS_OK, many_put_two(m, "a", "n", "0"));
    EXPECT_STREQ("0", many_lock(m, t, "a", &code));
    u = many_begin(m, soon(m, 300));
    EXPECT_TRUE(many_lock(m, u, "a", &code) == NULL);
    EXPECT_EQ(STATUS_TIMEOUT, code);
    txn_rollback(u);
    u = many_begin(m, soon(m, 300));
    EXPECT_EQ(STATUS_OK, many_put(u, "a", "1"));
    EXPECT_EQ(STATUS_OK, many_put(u, "n", "1"));
    EXPECT_FALSE(status_ok(txn_commit(u)));
    txn_rollback(t);
    EXPECT_TRUE(many_settles(m));
    EXPECT_STREQ("a=0 n=0", many_all(m));
}

/* Nothing of it is sent any more. */
MANY_TEST(a_transaction_that_is_too_late_writes_nothing, "m")
{
    struct txn *t = NULL;

    EXPECT_EQ(STATUS_OK, many_put_two(m, "a", "n", "0"));
    t = many_begin(m, soon(m, 10));
    EXPECT_EQ(STATUS_OK, many_put(t, "a", "1"));
    EXPECT_EQ(STATUS_OK, many_put(t, "n", "1"));
    many_sleep_ms(20);
    EXPECT_FALSE(status_ok(txn_commit(t)));
    EXPECT_STREQ("a=0 n=0", many_all(m));
    EXPECT_TRUE(many_settles(m));
}

/* Rolling back, and committing without having written, let go. So does a commit in one range of what is
 * locked in another. */
MANY_TEST(locks_go_with_every_end, "m")
{
    const struct txn_lock nowait = {.strength = MVCC_EXCLUSIVE, .wait = RANGE_WAIT_ERROR};
    const struct bytes keys[] = {K("a"), K("n")};
    struct bytes values[2];
    bool found[2];

    EXPECT_EQ(STATUS_OK, many_put_two(m, "a", "n", "0"));
    EXPECT_TRUE(many_settles(m));
    for (int i = 0; i < 3; i++) {
        struct txn *t = many_begin(m, plain);

        EXPECT_OK(txn_multi_get_locked(t, &nowait, keys, 2, &m->arena, found, values));
        if (i == 0) {
            txn_rollback(t);
        } else {
            EXPECT_TRUE(i != 2 || many_put(t, "b", "1") == STATUS_OK);
            EXPECT_OK(txn_commit(t));
        }
        many_sleep_ms(50);
    }
    EXPECT_STREQ("a=0 b=1 n=0", many_all(m));
}

/* A locking scan over ranges locks what it found, row by row. */
MANY_TEST(scans_lock_what_they_find, "m")
{
    struct txn *t = many_begin(m, plain);
    struct txn *u = many_begin(m, plain);
    struct txn_scan scan = {.start = K("a"), .end = K("{"), .lock = {.strength = MVCC_SHARED}};
    const struct txn_lock nowait = {.strength = MVCC_EXCLUSIVE, .wait = RANGE_WAIT_ERROR};
    const struct txn_lock share = {.strength = MVCC_SHARED, .wait = RANGE_WAIT_ERROR};
    const struct bytes free_key = K("b");
    const struct bytes far_key = K("n");
    struct bytes value;
    bool found = false;
    uint32_t rows = 0;

    EXPECT_EQ(STATUS_OK, many_put_two(m, "a", "n", "0"));
    EXPECT_TRUE(many_settles(m));
    do {
        EXPECT_OK(txn_scan(t, &scan, &m->arena));
        rows += scan.rows_count;
    } while (scan.more);
    EXPECT_EQ(2, rows);
    EXPECT_OK(txn_multi_get_locked(u, &nowait, &free_key, 1, &m->arena, &found, &value));
    EXPECT_OK(txn_multi_get_locked(u, &share, &far_key, 1, &m->arena, &found, &value));
    EXPECT_CODE(STATUS_LOCKED,
                txn_multi_get_locked(u, &nowait, &far_key, 1, &m->arena, &found, &value));
    txn_rollback(t);
    txn_rollback(u);
}

/* ---- the past ------------------------------------------------------------------------------------ */

MANY_TEST(the_past_is_as_it_was, "m")
{
    struct txn *t = many_begin(m, plain);
    struct txn *past = NULL;

    EXPECT_EQ(STATUS_OK, many_put_two(m, "a", "n", "0"));
    EXPECT_STREQ("a=0 n=0", many_scan(m, t, false, 0));
    past = many_begin(m, (struct txn_options){.as_of = txn_ts(t)});
    EXPECT_OK(txn_commit(t));
    EXPECT_EQ(STATUS_OK, many_put_two(m, "a", "n", "1"));
    EXPECT_STREQ("a=0 n=0", many_scan(m, past, false, 1));
    EXPECT_EQ(STATUS_INVALID, many_put(past, "a", "x"));
    EXPECT_OK(txn_commit(past));
}

/* ---- many at once -------------------------------------------------------------------------------- */

#define ACCOUNTS 6
#define BANKERS  5

struct banker {
    struct many *m;
    struct rng rng;
    uint32_t transfers;
    bool rc;
};

static bool read_balance(struct many *m, struct txn *t, bool lock, uint32_t account, int *out)
{
    const char key[] = {(char)('a' + (char)account * 4), '\0'};
    enum status_code code = STATUS_OK;
    const char *text = lock ? many_lock(m, t, key, &code) : many_get(m, t, key);

    *out = text == NULL ? 0 : atoi(text);
    return text != NULL;
}

static bool write_balance(struct txn *t, uint32_t account, int balance)
{
    const char key[] = {(char)('a' + (char)account * 4), '\0'};
    char value[12];

    (void)snprintf(value, sizeof(value), "%d", balance);
    return many_put(t, key, value) == STATUS_OK;
}

static bool transfer(struct banker *b)
{
    const struct txn_options o = b->rc ? committed : plain;
    const uint32_t from = (uint32_t)rng_below(&b->rng, ACCOUNTS);
    const uint32_t to = (from + 1 + (uint32_t)rng_below(&b->rng, ACCOUNTS - 1)) % ACCOUNTS;
    const bool lock = b->rc || rng_permille(&b->rng, 500);
    struct txn *t = many_begin(b->m, o);
    int x = 0;
    int y = 0;

    if (read_balance(b->m, t, lock, from, &x) && read_balance(b->m, t, lock, to, &y) &&
        write_balance(t, from, x - 1) && write_balance(t, to, y + 1)) {
        return status_ok(txn_commit(t));
    }
    txn_rollback(t);
    return false;
}

static void banker_fiber(void *arg)
{
    struct banker *b = arg;

    for (uint32_t tries = 0; b->transfers < 8 && tries < 400; tries++) {
        b->transfers += transfer(b) ? 1 : 0;
        many_sleep_ms(rng_below(&b->rng, 4));
    }
    many_ended(b->m);
}

static int total(struct many *m, struct txn *t)
{
    int sum = 0;

    for (uint32_t i = 0; i < ACCOUNTS; i++) {
        int x = 0;

        if (!read_balance(m, t, false, i, &x)) {
            return -1;
        }
        sum += x;
    }
    return sum;
}

static void start_bankers(struct many *m, struct banker *bankers, uint64_t seed)
{
    struct txn *t = many_begin(m, plain);

    for (uint32_t i = 0; i < ACCOUNTS; i++) {
        EXPECT_TRUE(write_balance(t, i, 100));
    }
    EXPECT_OK(txn_commit(t));
    for (uint32_t i = 0; i < BANKERS; i++) {
        bankers[i] = (struct banker){.m = m, .rc = i >= 3};
        rng_seed(&bankers[i].rng, seed + i);
        many_spawn(m, banker_fiber, &bankers[i]);
    }
}

/* The sum of all accounts is the same in every snapshot. At least `least` are taken. */
static void watch_bankers(struct many *m, uint32_t least)
{
    uint32_t sums = 0;

    while (m->workers > 0) {
        const int sum = total(m, many_begin(m, (struct txn_options){.read_only = true}));

        EXPECT_TRUE(sum == -1 || sum == 100 * ACCOUNTS);
        sums += sum > 0 ? 1 : 0;
        many_sleep_ms(1);
    }
    m->drop_permille = 0;
    EXPECT_EQ(100 * ACCOUNTS, total(m, many_begin(m, plain)));
    EXPECT_TRUE(many_settles(m));
    EXPECT_EQ(100 * ACCOUNTS, total(m, many_begin(m, plain)));
    EXPECT_TRUE(sums >= least);
}

MANY_TEST(money_is_neither_made_nor_lost, "ejm")
{
    struct banker bankers[BANKERS];

    start_bankers(m, bankers, 100);
    watch_bankers(m, 5);
    for (uint32_t i = 0; i < BANKERS; i++) {
        EXPECT_EQ(8, bankers[i].transfers);
    }
}

/* Nor when every thirtieth message is lost: a transfer may be in doubt, its halves are not. */
MANY_TEST(money_is_safe_on_a_bad_line, "ejm")
{
    struct banker bankers[BANKERS];

    start_bankers(m, bankers, 200);
    m->drop_permille = 30;
    watch_bankers(m, 0);
}
