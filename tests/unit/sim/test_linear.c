/* The judge is judged: histories with known verdicts, and all small ones against the naive twin. */
#include "node/base/hash.h"
#include "tests/lib/test.h"
#include "tests/sim/linear.h"

#define OPS_MAX 7

static struct op reads(uint64_t called, uint64_t returned, int64_t value)
{
    return (struct op){.kind = OP_READ,
                       .outcome = OP_OK,
                       .found = value != 0,
                       .result = value,
                       .called = called,
                       .returned = returned};
}

static struct op writes(uint64_t called, uint64_t returned, int64_t value)
{
    return (struct op){.kind = OP_WRITE,
                       .outcome = returned == OP_NEVER ? OP_UNKNOWN : OP_OK,
                       .arg = value,
                       .called = called,
                       .returned = returned};
}

static enum linear_verdict judge(struct op *ops, size_t count)
{
    const struct op *list[OPS_MAX] = {NULL};

    for (size_t i = 0; i < count; i++) {
        list[i] = &ops[i];
    }
    return linear_check(list, count);
}

TEST(linear, an_empty_history_is_fine)
{
    EXPECT_EQ(LINEAR_YES, judge(NULL, 0));
}

TEST(linear, a_read_after_a_write_sees_it)
{
    struct op good[] = {writes(1, 2, 7), reads(3, 4, 7)};
    struct op stale[] = {writes(1, 2, 7), reads(3, 4, 0)};

    EXPECT_EQ(LINEAR_YES, judge(good, 2));
    EXPECT_EQ(LINEAR_NO, judge(stale, 2));
}

TEST(linear, two_reads_do_not_go_back)
{
    struct op ops[] = {writes(1, 2, 7), writes(3, 10, 8), reads(4, 5, 8), reads(6, 7, 7)};

    EXPECT_EQ(LINEAR_NO, judge(ops, 4));
}

/* It may show at any time after its call, or never; but once seen it stays. */
TEST(linear, an_unknown_write_may_come_late_or_never)
{
    struct op late[] = {writes(1, OP_NEVER, 7), reads(2, 3, 0), reads(4, 5, 7)};
    struct op never[] = {writes(1, OP_NEVER, 7), reads(2, 3, 0), reads(4, 5, 0)};
    struct op back[] = {writes(1, OP_NEVER, 7), reads(2, 3, 7), reads(4, 5, 0)};
    struct op early[] = {reads(1, 2, 7), writes(3, OP_NEVER, 7)};

    EXPECT_EQ(LINEAR_YES, judge(late, 3));
    EXPECT_EQ(LINEAR_YES, judge(never, 3));
    EXPECT_EQ(LINEAR_NO, judge(back, 3));
    EXPECT_EQ(LINEAR_NO, judge(early, 2));
}

TEST(linear, a_refused_compare_and_set_is_a_read)
{
    struct op refused = {.kind = OP_CAS,
                         .outcome = OP_REFUSED,
                         .expect = 5,
                         .arg = 9,
                         .found = true,
                         .result_known = true,
                         .result = 7,
                         .called = 3,
                         .returned = 4};
    struct op ops[] = {writes(1, 2, 7), refused};

    EXPECT_EQ(LINEAR_YES, judge(ops, 2));
    ops[1].result = 8;
    EXPECT_EQ(LINEAR_NO, judge(ops, 2));
    ops[1].result_known = false; /* All we know: it was not 5. */
    EXPECT_EQ(LINEAR_YES, judge(ops, 2));
    ops[1].expect = 7;
    EXPECT_EQ(LINEAR_NO, judge(ops, 2));
}

static struct op random_op(struct rng *r, uint64_t steps)
{
    struct op o = {.kind = (enum op_kind)rng_below(r, 3), .outcome = OP_OK};

    o.arg = (int64_t)rng_between(r, 1, 3);
    o.expect = (int64_t)rng_between(r, 1, 3);
    o.result = (int64_t)rng_below(r, 4);
    o.found = o.result != 0;
    o.called = rng_below(r, steps);
    o.returned = o.called + 1 + rng_below(r, steps - o.called);
    if (o.kind == OP_CAS && rng_permille(r, 400)) {
        o.outcome = OP_REFUSED;
        o.result_known = rng_permille(r, 500);
    }
    if (o.kind != OP_READ && o.outcome == OP_OK && rng_permille(r, 250)) {
        o.outcome = OP_UNKNOWN;
        o.returned = OP_NEVER;
    }
    /* Steps are unique in a real history. */
    o.called = 2 * o.called * OPS_MAX;
    o.returned = o.returned == OP_NEVER ? OP_NEVER : 2 * o.returned * OPS_MAX;
    return o;
}

TEST(linear, agrees_with_trying_all_orders)
{
    struct rng r;
    unsigned yes = 0;

    rng_seed(&r, 42);
    for (unsigned round = 0; round < 20000; round++) {
        struct op ops[OPS_MAX];
        const struct op *list[OPS_MAX] = {NULL};
        const size_t count = 2 + rng_below(&r, OPS_MAX - 1);
        bool naive = false;

        for (size_t i = 0; i < count; i++) {
            ops[i] = random_op(&r, 6);
            ops[i].called += 2 * i;
            ops[i].returned += ops[i].returned == OP_NEVER ? 0 : 2 * i + 1;
            list[i] = &ops[i];
        }
        naive = linear_check_naive(list, count);
        yes += naive ? 1 : 0;
        EXPECT_EQ(naive ? LINEAR_YES : LINEAR_NO, linear_check(list, count));
    }
    EXPECT_TRUE(yes > 1000 && yes < 19000); /* Both verdicts were tried. */
}

/* A real register was asked, each operation somewhere between its call and its return: whatever the
 * overlaps, there is an order. Long enough for every mistake in remembering states. */
TEST(linear, finds_the_order_of_long_true_histories)
{
    enum {
        LONG = 300
    };
    static struct op ops[LONG];
    static const struct op *list[LONG];
    struct rng r;

    rng_seed(&r, 5);
    for (unsigned round = 0; round < 300; round++) {
        int64_t value = 0;
        const uint64_t width = 1 + rng_below(&r, 4);

        for (unsigned i = 0; i < LONG; i++) {
            const uint64_t at = 1000 * ((uint64_t)i + 10);
            struct op *o = &ops[i];

            *o = (struct op){.kind = (enum op_kind)rng_below(&r, 3), .outcome = OP_OK};
            o->called = at - rng_below(&r, 1000 * width);
            o->returned = at + 1 + rng_below(&r, 1000 * width);
            o->arg = (int64_t)i + 1;
            if (o->kind == OP_CAS) {
                o->expect = value;
                o->kind = value == 0 ? OP_WRITE : OP_CAS;
            }
            o->found = value != 0;
            o->result = value;
            value = o->kind == OP_READ ? value : o->arg;
            if (o->kind != OP_READ && rng_permille(&r, 20)) {
                o->outcome = OP_UNKNOWN;
                o->returned = OP_NEVER;
            }
            list[i] = o;
        }
        EXPECT_EQ(LINEAR_YES, linear_check(list, LONG));
    }
}
