/* Planted forks, double owners and skew are found; what only looks strange is not. */
#include "tests/lib/test.h"
#include "tests/sim/anomaly.h"

static char why[512];

static struct op op(enum op_kind kind, enum op_outcome outcome, uint64_t key, uint64_t called,
                    uint64_t returned)
{
    return (struct op){
        .kind = kind, .outcome = outcome, .key = key, .called = called, .returned = returned};
}

static struct op sees(uint64_t group, int64_t mask, uint64_t called, uint64_t returned)
{
    struct op o = op(OP_FORK_READ, OP_OK, group, called, returned);

    o.result = mask;
    return o;
}

static struct op claim(enum op_outcome outcome, uint64_t key, int64_t row, uint64_t called,
                       uint64_t returned)
{
    struct op o = op(OP_UNIQUE, outcome, key, called, returned);

    o.arg = row;
    return o;
}

static struct op owner(uint64_t key, int64_t by_index, int64_t by_table, uint64_t called)
{
    struct op o = op(OP_UNIQUE_READ, OP_OK, key, called, called + 1);

    o.found = by_index != 0;
    o.result = by_index;
    o.expect = by_table;
    return o;
}

static bool forks(const struct op *ops, size_t count)
{
    return anomaly_check_forks(ops, count, why, sizeof(why));
}

static bool unique(const struct op *ops, size_t count)
{
    return anomaly_check_unique(ops, count, why, sizeof(why));
}

TEST(anomaly, readers_of_a_chain_are_fine)
{
    const struct op ops[] = {
        op(OP_FORK_WRITE, OP_OK, 4, 1, 50),
        op(OP_FORK_WRITE, OP_UNKNOWN, 5, 1, OP_NEVER),
        sees(1, 0, 2, 3),
        sees(1, 2, 4, 9),
        sees(1, 3, 5, 8),
        sees(2, 0, 60, 61), /* Another group. */
    };

    EXPECT_TRUE(forks(ops, 6));
}

TEST(anomaly, a_long_fork_is_found)
{
    const struct op ops[] = {
        op(OP_FORK_WRITE, OP_OK, 4, 1, 50),
        op(OP_FORK_WRITE, OP_OK, 5, 1, 50),
        sees(1, 1, 2, 9),
        sees(1, 2, 2, 9),
    };

    EXPECT_FALSE(forks(ops, 4));
    EXPECT_TRUE(forks(ops, 3));
}

TEST(anomaly, items_are_neither_missed_nor_invented)
{
    const struct op missed[] = {op(OP_FORK_WRITE, OP_OK, 4, 1, 2), sees(1, 0, 3, 4)};
    const struct op refused[] = {op(OP_FORK_WRITE, OP_FAILED, 4, 1, 2), sees(1, 1, 3, 4)};
    const struct op early[] = {op(OP_FORK_WRITE, OP_OK, 4, 5, 6), sees(1, 1, 3, 4)};

    EXPECT_FALSE(forks(missed, 2));
    EXPECT_FALSE(forks(refused, 2));
    EXPECT_FALSE(forks(early, 2));
}

TEST(anomaly, one_owner_and_good_refusals_are_fine)
{
    const struct op ops[] = {
        claim(OP_OK, 7, 1, 1, 20),
        claim(OP_REFUSED, 7, 2, 2, 3),
        claim(OP_FAILED, 7, 3, 2, 3),
        claim(OP_UNKNOWN, 8, 4, 2, OP_NEVER),
        claim(OP_REFUSED, 8, 5, 30, 31),
        owner(7, 1, 1, 40),
        owner(8, 4, 4, 40),
        owner(9, 0, 0, 40),
    };

    EXPECT_TRUE(unique(ops, 8));
}

TEST(anomaly, two_owners_are_found)
{
    const struct op ops[] = {claim(OP_OK, 7, 1, 1, 20), claim(OP_OK, 7, 2, 1, 20)};

    EXPECT_FALSE(unique(ops, 2));
}

TEST(anomaly, refusals_need_a_reason)
{
    const struct op nobody[] = {claim(OP_REFUSED, 7, 1, 1, 2)};
    const struct op failed[] = {claim(OP_FAILED, 7, 2, 1, 20), claim(OP_REFUSED, 7, 1, 1, 2)};
    const struct op later[] = {claim(OP_OK, 7, 2, 5, 6), claim(OP_REFUSED, 7, 1, 1, 2)};

    EXPECT_FALSE(unique(nobody, 1));
    EXPECT_FALSE(unique(failed, 2));
    EXPECT_FALSE(unique(later, 2));
}

TEST(anomaly, index_and_table_agree_with_what_was_told)
{
    const struct op torn[] = {claim(OP_OK, 7, 1, 1, 2), owner(7, 1, 2, 5)};
    const struct op gone[] = {claim(OP_OK, 7, 1, 1, 2), owner(7, 0, 0, 5)};
    const struct op other[] = {claim(OP_OK, 7, 1, 1, 2), claim(OP_UNKNOWN, 7, 2, 1, OP_NEVER),
                               owner(7, 2, 2, 5)};
    const struct op failed[] = {claim(OP_FAILED, 7, 1, 1, 2), owner(7, 1, 1, 5)};

    EXPECT_FALSE(unique(torn, 2));
    EXPECT_FALSE(unique(gone, 2));
    EXPECT_FALSE(unique(other, 3));
    EXPECT_FALSE(unique(failed, 2));
}

TEST(anomaly, both_sides_off_is_skew)
{
    struct op ops[] = {op(OP_SKEW, OP_OK, 1, 1, 2), op(OP_SKEW, OP_FAILED, 1, 1, 2)};

    ops[0].result = 1;
    EXPECT_TRUE(anomaly_check_skew(ops, 2, why, sizeof(why)));
    ops[0].result = 0;
    EXPECT_FALSE(anomaly_check_skew(ops, 2, why, sizeof(why)));
}

static struct op past(int64_t time, int64_t near, int64_t leader)
{
    struct op o = op(OP_PAST, OP_OK, 3, 1, 2);

    o.arg = time;
    o.result = near;
    o.expect = leader;
    return o;
}

TEST(anomaly, the_past_does_not_change)
{
    const struct op fine[] = {past(10, 5, 5), past(10, 5, 5), past(11, 6, 6)};
    const struct op changed[] = {past(10, 5, 5), past(10, 6, 6)};
    const struct op lagging[] = {past(10, 5, 6)};

    EXPECT_TRUE(anomaly_check_past(fine, 3, why, sizeof(why)));
    EXPECT_FALSE(anomaly_check_past(changed, 2, why, sizeof(why)));
    EXPECT_FALSE(anomaly_check_past(lagging, 1, why, sizeof(why)));
}
