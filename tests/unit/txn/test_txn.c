/* One transaction beside others, over a store in memory. */
#include <stdlib.h>

#include "tests/unit/txn/txn_rig.h"

#define K(text) BYTES_LIT("\x88" text)

#define TXN_TEST(name)                      \
    static void body_##name(struct rig *r); \
    TEST(txn, name)                         \
    {                                       \
        rig_run(body_##name);               \
    }                                       \
    static void body_##name(struct rig *r)

/* ---- own writes ---------------------------------------------------------------------------------- */

TXN_TEST(reads_see_own_writes_and_nobody_else_does)
{
    struct txn *t = rig_begin(r);
    struct txn *other = NULL;

    EXPECT_EQ(STATUS_OK, rig_put(r, "a", "old"));
    EXPECT_OK(txn_put(t, K("a"), BYTES_LIT("new")));
    EXPECT_OK(txn_put(t, K("b"), BYTES_LIT("1")));
    EXPECT_STREQ("new", rig_get(r, t, "a"));
    EXPECT_STREQ("", rig_get(r, t, "c"));
    other = rig_begin(r);
    EXPECT_STREQ("old", rig_get(r, other, "a"));
    EXPECT_STREQ("", rig_get(r, other, "b"));
    EXPECT_TRUE(txn_has_writes(t));
    EXPECT_FALSE(txn_has_writes(other));
    EXPECT_OK(txn_commit(t));
    EXPECT_STREQ("old", rig_get(r, other, "a")); /* At its own timestamp. */
    EXPECT_STREQ("new", rig_get(r, rig_begin(r), "a"));
    EXPECT_OK(txn_commit(other));
}

TXN_TEST(deletes_hide_rows_of_both_kinds)
{
    struct txn *t = rig_begin(r);

    EXPECT_EQ(STATUS_OK, rig_put(r, "a", "1"));
    EXPECT_OK(txn_delete(t, K("a")));
    EXPECT_OK(txn_put(t, K("b"), BYTES_LIT("2")));
    EXPECT_OK(txn_delete(t, K("b")));
    EXPECT_STREQ("", rig_get(r, t, "a"));
    EXPECT_STREQ("", rig_get(r, t, "b"));
    EXPECT_STREQ("", rig_scan(r, t, "a", "z", false, 0));
    EXPECT_OK(txn_commit(t));
    EXPECT_STREQ("", rig_scan(r, rig_begin(r), "a", "z", false, 0));
}

TXN_TEST(scans_merge_own_writes_in_both_directions_and_in_pieces)
{
    struct txn *t = NULL;
    static const char *const stored[] = {"a", "c", "e", "g", "i"};

    for (size_t i = 0; i < ARRAY_COUNT(stored); i++) {
        EXPECT_EQ(STATUS_OK, rig_put(r, stored[i], "0"));
    }
    t = rig_begin(r);
    EXPECT_OK(txn_put(t, K("b"), BYTES_LIT("1")));
    EXPECT_OK(txn_put(t, K("c"), BYTES_LIT("1")));
    EXPECT_OK(txn_delete(t, K("e")));
    EXPECT_OK(txn_put(t, K("h"), BYTES_LIT("1")));
    EXPECT_OK(txn_put(t, K("z"), BYTES_LIT("1")));
    for (uint32_t rows = 0; rows <= 6; rows++) {
        EXPECT_STREQ("a=0 b=1 c=1 g=0 h=1 i=0", rig_scan(r, t, "a", "z", false, rows));
        EXPECT_STREQ("i=0 h=1 g=0 c=1 b=1 a=0", rig_scan(r, t, "a", "z", true, rows));
        EXPECT_STREQ("b=1 c=1", rig_scan(r, t, "b", "e", false, rows));
        EXPECT_STREQ("c=1 b=1", rig_scan(r, t, "b", "e", true, rows));
        EXPECT_STREQ("", rig_scan(r, t, "d", "d", false, rows));
        EXPECT_STREQ("", rig_scan(r, t, "e", "d", false, rows));
    }
    txn_rollback(t);
}

/* Own keys between stored ones, the same key twice, and slices of one text. */
TXN_TEST(many_point_reads_mix_own_and_stored)
{
    struct txn *t = NULL;
    const char *text = "\x88"
                       "abcd";
    const struct bytes keys[] = {
        K("a"), K("b"), K("a"), K("c"), bytes_of(text, 2), bytes_of(text, 3), K("d")};
    bool found[ARRAY_COUNT(keys)];
    struct bytes values[ARRAY_COUNT(keys)];

    EXPECT_EQ(STATUS_OK, rig_put(r, "a", "A"));
    EXPECT_EQ(STATUS_OK, rig_put(r, "ab", "AB"));
    EXPECT_EQ(STATUS_OK, rig_put(r, "c", "C"));
    t = rig_begin(r);
    EXPECT_OK(txn_put(t, K("a"), BYTES_LIT("own")));
    EXPECT_OK(txn_delete(t, K("c")));
    EXPECT_OK(txn_multi_get(t, keys, ARRAY_COUNT(keys), &r->arena, found, values));
    EXPECT_BYTES_EQ(BYTES_LIT("own"), values[0]);
    EXPECT_FALSE(found[1]);
    EXPECT_BYTES_EQ(BYTES_LIT("own"), values[2]);
    EXPECT_FALSE(found[3]);
    EXPECT_BYTES_EQ(BYTES_LIT("own"), values[4]);
    EXPECT_TRUE(found[5]);
    EXPECT_BYTES_EQ(BYTES_LIT("AB"), values[5]);
    EXPECT_FALSE(found[6]);
    EXPECT_OK(txn_multi_get(t, keys, 0, &r->arena, found, values));
    EXPECT_OK(txn_commit(t));
}

TXN_TEST(savepoints_forget_later_writes)
{
    struct txn *t = rig_begin(r);
    uint64_t one = 0;
    uint64_t two = 0;

    EXPECT_OK(txn_put(t, K("a"), BYTES_LIT("1")));
    one = txn_savepoint(t);
    EXPECT_OK(txn_put(t, K("a"), BYTES_LIT("2")));
    EXPECT_OK(txn_put(t, K("b"), BYTES_LIT("2")));
    two = txn_savepoint(t);
    EXPECT_OK(txn_delete(t, K("a")));
    EXPECT_STREQ("b=2", rig_scan(r, t, "a", "z", false, 0));
    txn_rollback_to(t, two);
    EXPECT_STREQ("a=2 b=2", rig_scan(r, t, "a", "z", false, 0));
    txn_rollback_to(t, one);
    EXPECT_STREQ("a=1", rig_scan(r, t, "a", "z", false, 0));
    EXPECT_OK(txn_put(t, K("c"), BYTES_LIT("3")));
    EXPECT_OK(txn_commit(t));
    EXPECT_STREQ("a=1 c=3", rig_scan(r, rig_begin(r), "a", "z", false, 0));
}

TXN_TEST(rolling_back_to_nothing_leaves_nothing_to_commit)
{
    struct txn *t = rig_begin(r);

    EXPECT_OK(txn_put(t, K("a"), BYTES_LIT("1")));
    txn_rollback_to(t, 0);
    EXPECT_FALSE(txn_has_writes(t));
    EXPECT_OK(txn_commit(t));
    EXPECT_STREQ("", rig_get(r, rig_begin(r), "a"));
}

/* ---- beside others ------------------------------------------------------------------------------- */

TXN_TEST(a_read_that_has_changed_is_a_retry)
{
    struct txn *t = rig_begin(r);

    EXPECT_EQ(STATUS_OK, rig_put(r, "a", "1"));
    EXPECT_STREQ("1", rig_get(r, t, "a"));
    EXPECT_OK(txn_put(t, K("b"), BYTES_LIT("x")));
    EXPECT_EQ(STATUS_OK, rig_put(r, "a", "2"));
    EXPECT_CODE(STATUS_TXN_RETRY, txn_commit(t));
    EXPECT_STREQ("", rig_get(r, rig_begin(r), "b"));
}

TXN_TEST(a_row_that_appears_in_a_scanned_span_is_a_retry)
{
    struct txn *t = rig_begin(r);
    struct txn *u = NULL;

    EXPECT_STREQ("", rig_scan(r, t, "a", "k", false, 0));
    EXPECT_OK(txn_put(t, K("x"), BYTES_LIT("1")));
    EXPECT_EQ(STATUS_OK, rig_put(r, "f", "1"));
    EXPECT_CODE(STATUS_TXN_RETRY, txn_commit(t));
    /* Just outside of the span. */
    u = rig_begin(r);
    EXPECT_STREQ("f=1", rig_scan(r, u, "a", "k", true, 0));
    EXPECT_OK(txn_put(u, K("x"), BYTES_LIT("1")));
    EXPECT_EQ(STATUS_OK, rig_put(r, "k", "1"));
    EXPECT_OK(txn_commit(u));
}

/* Only as far as the scan got: what lies behind its limit was not read. */
TXN_TEST(a_limited_scan_depends_on_what_it_has_covered)
{
    for (int reverse = 0; reverse < 2; reverse++) {
        struct txn *t = NULL;
        struct txn_scan scan = {
            .start = K("a"), .end = K("f"), .rows_max = 2, .reverse = reverse != 0};

        for (int k = 'b'; k <= 'e'; k++) {
            EXPECT_EQ(STATUS_OK, rig_put(r, (char[]){(char)k, '\0'}, "1"));
        }
        t = rig_begin(r);
        EXPECT_OK(txn_scan(t, &scan, &r->arena));
        EXPECT_EQ(2, scan.rows_count);
        EXPECT_TRUE(scan.more);
        EXPECT_OK(txn_put(t, K("x"), BYTES_LIT("1")));
        EXPECT_EQ(STATUS_OK, rig_put(r, reverse != 0 ? "b" : "e", "2"));
        EXPECT_OK(txn_commit(t));
    }
}

TXN_TEST(blind_writes_do_not_conflict)
{
    struct txn *t = rig_begin(r);

    EXPECT_OK(txn_put(t, K("a"), BYTES_LIT("1")));
    EXPECT_EQ(STATUS_OK, rig_put(r, "a", "2"));
    EXPECT_OK(txn_commit(t));
    EXPECT_STREQ("1", rig_get(r, rig_begin(r), "a"));
}

/* Write skew: both read what the other writes. One of them has to run again. */
TXN_TEST(two_that_read_each_others_writes_do_not_both_commit)
{
    struct txn *t = rig_begin(r);
    struct txn *u = rig_begin(r);

    EXPECT_STREQ("", rig_get(r, t, "a"));
    EXPECT_STREQ("", rig_get(r, u, "b"));
    EXPECT_OK(txn_put(t, K("b"), BYTES_LIT("1")));
    EXPECT_OK(txn_put(u, K("a"), BYTES_LIT("1")));
    EXPECT_OK(txn_commit(t));
    EXPECT_CODE(STATUS_TXN_RETRY, txn_commit(u));
}

TXN_TEST(a_read_only_transaction_refuses_writes_and_ends_without_a_message)
{
    struct txn *t = rig_begin_with(r, (struct txn_options){.read_only = true});
    struct kv_stats before;
    struct kv_stats after;

    EXPECT_EQ(STATUS_OK, rig_put(r, "a", "1"));
    EXPECT_STREQ("1", rig_get(r, t, "a"));
    EXPECT_EQ(STATUS_OK, rig_put(r, "a", "2"));
    EXPECT_STREQ("1", rig_get(r, t, "a"));
    EXPECT_CODE(STATUS_INVALID, txn_put(t, K("b"), BYTES_LIT("1")));
    EXPECT_CODE(STATUS_INVALID, txn_delete(t, K("b")));
    EXPECT_CODE(STATUS_INVALID, txn_insert(t, K("b"), BYTES_LIT("1")));
    kv_get_stats(r->kv, &before);
    EXPECT_OK(txn_commit(t));
    kv_get_stats(r->kv, &after);
    EXPECT_EQ(before.batches, after.batches);
}

/* ---- inserts ------------------------------------------------------------------------------------- */

TXN_TEST(an_explicit_insert_looks_at_once)
{
    struct txn *t = NULL;

    EXPECT_EQ(STATUS_OK, rig_put(r, "a", "1"));
    t = rig_begin(r);
    EXPECT_CODE(STATUS_EXISTS, txn_insert(t, K("a"), BYTES_LIT("2")));
    EXPECT_BYTES_EQ(K("a"), txn_conflict_key(t));
    EXPECT_OK(txn_insert(t, K("b"), BYTES_LIT("2")));
    EXPECT_CODE(STATUS_EXISTS, txn_insert(t, K("b"), BYTES_LIT("3")));
    EXPECT_OK(txn_delete(t, K("a")));
    EXPECT_OK(txn_insert(t, K("a"), BYTES_LIT("4")));
    EXPECT_OK(txn_commit(t));
    EXPECT_STREQ("a=4 b=2", rig_scan(r, rig_begin(r), "a", "z", false, 0));
}

/* Between the look and the commit somebody else was faster: run again, then it is told. */
TXN_TEST(an_explicit_insert_that_lost_a_race_is_a_retry)
{
    struct txn *t = rig_begin(r);

    EXPECT_OK(txn_insert(t, K("a"), BYTES_LIT("2")));
    EXPECT_EQ(STATUS_OK, rig_put(r, "a", "1"));
    EXPECT_CODE(STATUS_TXN_RETRY, txn_commit(t));
}

TXN_TEST(an_implicit_insert_is_checked_by_the_commit)
{
    const struct txn_options implicit = {.implicit = true};
    struct txn *t = NULL;

    EXPECT_EQ(STATUS_OK, rig_put(r, "b", "1"));
    t = rig_begin_with(r, implicit);
    EXPECT_OK(txn_insert(t, K("a"), BYTES_LIT("2")));
    EXPECT_OK(txn_insert(t, K("b"), BYTES_LIT("2")));
    EXPECT_CODE(STATUS_EXISTS, txn_insert(t, K("b"), BYTES_LIT("3")));
    EXPECT_CODE(STATUS_EXISTS, txn_commit(t));
    EXPECT_BYTES_EQ(K("b"), txn_conflict_key(t));
    EXPECT_TRUE(hts_is_zero(txn_ts(t))); /* It read nothing and wrote nothing. */
    EXPECT_STREQ("b=1", rig_scan(r, rig_begin(r), "a", "z", false, 0));
}

/* A put over an insert keeps what the insert expects. */
TXN_TEST(an_implicit_insert_keeps_its_condition_when_it_is_overwritten)
{
    const struct txn_options implicit = {.implicit = true};
    struct txn *t = NULL;

    EXPECT_EQ(STATUS_OK, rig_put(r, "a", "1"));
    t = rig_begin_with(r, implicit);
    EXPECT_OK(txn_insert(t, K("a"), BYTES_LIT("2")));
    EXPECT_OK(txn_put(t, K("a"), BYTES_LIT("3")));
    EXPECT_CODE(STATUS_EXISTS, txn_commit(t));
    t = rig_begin_with(r, implicit);
    EXPECT_OK(txn_insert(t, K("b"), BYTES_LIT("2")));
    EXPECT_OK(txn_put(t, K("b"), BYTES_LIT("3")));
    EXPECT_STREQ("3", rig_get(r, t, "b"));
    EXPECT_OK(txn_commit(t));
    EXPECT_STREQ("a=1 b=3", rig_scan(r, rig_begin(r), "a", "z", false, 0));
}

/* Inserted and deleted in one statement: the row that was there before must not be deleted. */
TXN_TEST(an_insert_that_was_undone_still_expects_an_absent_key)
{
    const struct txn_options implicit = {.implicit = true};
    struct txn *t = NULL;

    EXPECT_EQ(STATUS_OK, rig_put(r, "a", "1"));
    t = rig_begin_with(r, implicit);
    EXPECT_OK(txn_insert(t, K("a"), BYTES_LIT("2")));
    EXPECT_OK(txn_delete(t, K("a")));
    EXPECT_STREQ("", rig_get(r, t, "a"));
    EXPECT_CODE(STATUS_EXISTS, txn_commit(t));
    EXPECT_BYTES_EQ(K("a"), txn_conflict_key(t));
    EXPECT_STREQ("1", rig_get(r, rig_begin(r), "a"));
    t = rig_begin_with(r, implicit);
    EXPECT_OK(txn_insert(t, K("b"), BYTES_LIT("2")));
    EXPECT_OK(txn_delete(t, K("b")));
    EXPECT_STREQ("a=1", rig_scan(r, t, "a", "z", false, 0));
    EXPECT_OK(txn_commit(t));
    t = rig_begin_with(r, implicit);
    EXPECT_OK(txn_insert(t, K("c"), BYTES_LIT("2")));
    EXPECT_OK(txn_delete(t, K("c")));
    EXPECT_OK(txn_insert(t, K("c"), BYTES_LIT("3")));
    EXPECT_OK(txn_commit(t));
    EXPECT_STREQ("a=1 c=3", rig_scan(r, rig_begin(r), "a", "z", false, 0));
}

/* What was read is stale and a row is in the way: the statement has to run again to know. */
TXN_TEST(a_stale_read_comes_before_an_existing_row)
{
    struct txn *t = rig_begin_with(r, (struct txn_options){.implicit = true});

    EXPECT_STREQ("", rig_get(r, t, "next"));
    EXPECT_OK(txn_insert(t, K("row1"), BYTES_LIT("x")));
    EXPECT_EQ(STATUS_OK, rig_put(r, "next", "2"));
    EXPECT_EQ(STATUS_OK, rig_put(r, "row1", "theirs"));
    EXPECT_CODE(STATUS_TXN_RETRY, txn_commit(t));
}

/* ---- limits -------------------------------------------------------------------------------------- */

TXN_TEST(a_commit_above_its_limit_is_a_retry)
{
    struct txn *t = rig_begin(r);
    struct hts ts = HTS_ZERO;

    EXPECT_STREQ("", rig_get(r, t, "a"));
    ts = txn_ts(t);
    EXPECT_FALSE(hts_is_zero(ts));
    txn_limit_commit_ts(t, hts_add_ns(ts, 1000000000));
    txn_limit_commit_ts(t, ts); /* The lowest counts. */
    txn_limit_commit_ts(t, hts_add_ns(ts, 2000000000));
    EXPECT_OK(txn_put(t, K("a"), BYTES_LIT("1")));
    EXPECT_CODE(STATUS_TXN_RETRY, txn_commit(t));
    EXPECT_HTS_EQ(ts, txn_ts(t));
    t = rig_begin(r);
    EXPECT_STREQ("", rig_get(r, t, "a"));
    txn_limit_commit_ts(t, hts_add_ns(txn_ts(t), 60000000000));
    EXPECT_OK(txn_put(t, K("a"), BYTES_LIT("1")));
    EXPECT_OK(txn_commit(t));
    EXPECT_TRUE(hts_less(ts, txn_ts(t)));
}

TXN_TEST(too_many_bytes_are_refused_and_rolling_back_makes_room)
{
    struct txn *t = rig_begin(r);
    char *big = calloc(1, TXN_BYTES_MAX);
    const struct bytes almost = bytes_of(big, TXN_BYTES_MAX - 2);
    const uint64_t start = txn_savepoint(t);

    EXPECT_CODE(STATUS_TOO_LARGE, txn_put(t, K("a"), bytes_of(big, TXN_BYTES_MAX - 1)));
    EXPECT_OK(txn_put(t, K("a"), almost));
    EXPECT_CODE(STATUS_TOO_LARGE, txn_put(t, K("b"), BYTES_EMPTY));
    txn_rollback_to(t, start);
    EXPECT_OK(txn_put(t, K("b"), BYTES_LIT("1")));
    EXPECT_OK(txn_commit(t));
    free(big);
}

TXN_TEST(too_many_writes_are_refused)
{
    struct txn *t = rig_begin(r);

    for (uint32_t i = 0; i < TXN_WRITES_MAX; i++) {
        EXPECT_OK(txn_put(t, K("a"), BYTES_EMPTY));
    }
    EXPECT_CODE(STATUS_TOO_LARGE, txn_put(t, K("a"), BYTES_EMPTY));
    EXPECT_OK(txn_commit(t));
}

static void read_many_keys(struct rig *r, struct txn *t)
{
    for (uint32_t i = 0; i <= TXN_READ_SPANS_MAX; i++) {
        EXPECT_STREQ("", rig_get(r, t, arena_printf(&r->arena, "k%06u", 2 * i)));
    }
    EXPECT_OK(txn_put(t, K("b"), BYTES_LIT("1")));
}

/* Then neighbours become one: what lies between them counts as read, too. */
TXN_TEST(too_many_spans_become_coarser)
{
    struct txn *t = rig_begin(r);

    read_many_keys(r, t);
    EXPECT_EQ(STATUS_OK, rig_put(r, "k", "below"));
    EXPECT_EQ(STATUS_OK, rig_put(r, "l", "above"));
    EXPECT_OK(txn_commit(t));
    t = rig_begin(r);
    read_many_keys(r, t);
    EXPECT_EQ(STATUS_OK, rig_put(r, "k000001", "between"));
    EXPECT_CODE(STATUS_TXN_RETRY, txn_commit(t));
}

TXN_TEST(keys_outside_of_all_ranges_are_refused)
{
    struct txn *t = rig_begin(r);

    EXPECT_OK(txn_put(t, BYTES_LIT("\x02x"), BYTES_LIT("1")));
    EXPECT_FALSE(status_ok(txn_commit(t)));
}

TXN_TEST(a_deadline_in_the_past_is_no_success)
{
    struct txn *t = rig_begin_with(r, (struct txn_options){.deadline_ns = 1});

    EXPECT_TRUE(rig_get(r, t, "a") == NULL);
    EXPECT_OK(txn_put(t, K("a"), BYTES_LIT("1")));
    EXPECT_CODE(STATUS_UNAVAILABLE, txn_commit(t));
    EXPECT_STREQ("", rig_get(r, rig_begin(r), "a"));
}
