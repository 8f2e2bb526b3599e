/* Each class of anomaly is planted in a small history and has to be found under its name; histories of
 * a serial execution are fine, whatever order their transactions were called in. */
#include "node/base/hash.h"
#include "tests/lib/test.h"
#include "tests/sim/append.h"

#define OPS   6
#define TXNS  64
#define ITEMS 256

struct lists {
    struct append_txn txns[TXNS];
    struct append_op ops[TXNS][OPS];
    uint64_t items[TXNS][OPS][ITEMS];
    size_t count;
    char why[512];
};

static uint32_t begin(struct lists *l, uint64_t called, uint64_t returned)
{
    const uint32_t t = (uint32_t)l->count++;

    l->txns[t] = (struct append_txn){
        .outcome = returned == OP_NEVER ? OP_UNKNOWN : OP_OK,
        .id = t,
        .called = called,
        .returned = returned,
        .ops = l->ops[t],
    };
    return t;
}

static void add(struct lists *l, uint32_t t, uint64_t key, uint64_t value)
{
    l->ops[t][l->txns[t].count++] =
        (struct append_op){.kind = APPEND_ADD, .key = key, .value = value, .done = true};
}

/* The list is the decimal digits of `digits`, read from the left; 0: empty. */
static void sees(struct lists *l, uint32_t t, uint64_t key, uint64_t digits)
{
    const uint32_t i = l->txns[t].count++;
    uint64_t rest = digits;
    uint32_t n = 0;

    for (; rest > 0; rest /= 10) {
        n++;
    }
    l->ops[t][i] = (struct append_op){
        .kind = APPEND_READ, .key = key, .list = l->items[t][i], .count = n, .done = true};
    for (rest = digits; n > 0; rest /= 10) {
        l->items[t][i][--n] = rest % 10;
    }
}

static enum append_anomaly judge(struct lists *l)
{
    return append_check(l->txns, l->count, l->why, sizeof(l->why));
}

#define EXPECT_ANOMALY(want, l)                                                    \
    do {                                                                           \
        EXPECT_STREQ(append_anomaly_name(want), append_anomaly_name(judge(&(l)))); \
    } while (0)

/* All at once, unless said otherwise: nobody came before anybody in time. */
#define AT_ONCE 1, 100

TEST(append, an_empty_history_is_fine)
{
    struct lists l = {.count = 0};

    EXPECT_ANOMALY(APPEND_FINE, l);
}

TEST(append, a_serial_history_is_fine)
{
    struct lists l = {.count = 0};
    uint32_t t = begin(&l, 1, 2);

    add(&l, t, 1, 1);
    t = begin(&l, 3, 4);
    sees(&l, t, 1, 1);
    add(&l, t, 1, 2);
    sees(&l, t, 1, 12);
    add(&l, t, 2, 3);
    t = begin(&l, 5, 6);
    sees(&l, t, 1, 12);
    sees(&l, t, 2, 3);
    EXPECT_ANOMALY(APPEND_FINE, l);
}

TEST(append, garbage_and_duplicates_are_found)
{
    struct lists g = {.count = 0};
    struct lists d = {.count = 0};
    struct lists wrong_list = {.count = 0};

    sees(&g, begin(&g, AT_ONCE), 1, 7);
    EXPECT_ANOMALY(APPEND_GARBAGE, g);
    add(&d, begin(&d, AT_ONCE), 1, 7);
    sees(&d, begin(&d, AT_ONCE), 1, 77);
    EXPECT_ANOMALY(APPEND_DUPLICATE, d);
    add(&wrong_list, begin(&wrong_list, AT_ONCE), 1, 7);
    sees(&wrong_list, begin(&wrong_list, AT_ONCE), 2, 7);
    EXPECT_ANOMALY(APPEND_GARBAGE, wrong_list);
}

TEST(append, a_transaction_sees_itself_and_repeats_its_reads)
{
    struct lists own = {.count = 0};
    struct lists twice = {.count = 0};
    uint32_t t = begin(&own, AT_ONCE);

    add(&own, t, 1, 1);
    sees(&own, t, 1, 0);
    EXPECT_ANOMALY(APPEND_INTERNAL, own);
    add(&twice, begin(&twice, AT_ONCE), 1, 1);
    t = begin(&twice, AT_ONCE);
    sees(&twice, t, 1, 0);
    sees(&twice, t, 1, 1);
    EXPECT_ANOMALY(APPEND_INTERNAL, twice);
    twice.txns[t].read_committed = true;
    EXPECT_ANOMALY(APPEND_FINE, twice);
}

TEST(append, aborted_reads_are_g1a)
{
    struct lists l = {.count = 0};
    const uint32_t t = begin(&l, AT_ONCE);

    add(&l, t, 1, 1);
    l.txns[t].outcome = OP_FAILED;
    sees(&l, begin(&l, AT_ONCE), 1, 1);
    EXPECT_ANOMALY(APPEND_G1A, l);
}

TEST(append, intermediate_reads_are_g1b)
{
    struct lists l = {.count = 0};
    const uint32_t t = begin(&l, AT_ONCE);

    add(&l, t, 1, 1);
    add(&l, t, 1, 2);
    sees(&l, begin(&l, AT_ONCE), 1, 1);
    sees(&l, begin(&l, AT_ONCE), 1, 12);
    EXPECT_ANOMALY(APPEND_G1B, l);
}

TEST(append, different_orders_are_incompatible)
{
    struct lists l = {.count = 0};

    add(&l, begin(&l, AT_ONCE), 1, 1);
    add(&l, begin(&l, AT_ONCE), 1, 2);
    sees(&l, begin(&l, AT_ONCE), 1, 12);
    sees(&l, begin(&l, AT_ONCE), 1, 21);
    EXPECT_ANOMALY(APPEND_INCOMPATIBLE, l);
}

/* Both append to two lists, and each comes first in one of them. */
TEST(append, a_cycle_of_writes_is_g0)
{
    struct lists l = {.count = 0};
    const uint32_t a = begin(&l, AT_ONCE);
    const uint32_t b = begin(&l, AT_ONCE);

    add(&l, a, 1, 1);
    add(&l, a, 2, 3);
    add(&l, b, 1, 2);
    add(&l, b, 2, 4);
    sees(&l, begin(&l, AT_ONCE), 1, 12);
    sees(&l, begin(&l, AT_ONCE), 2, 43);
    EXPECT_ANOMALY(APPEND_G0, l);
}

/* Each sees what the other wrote. */
TEST(append, a_circle_of_information_is_g1c)
{
    struct lists l = {.count = 0};
    const uint32_t a = begin(&l, AT_ONCE);
    const uint32_t b = begin(&l, AT_ONCE);

    add(&l, a, 1, 1);
    sees(&l, a, 2, 2);
    add(&l, b, 2, 2);
    sees(&l, b, 1, 1);
    EXPECT_ANOMALY(APPEND_G1C, l);
    l.txns[a].read_committed = true; /* Not even there. */
    l.txns[b].read_committed = true;
    EXPECT_ANOMALY(APPEND_G1C, l);
}

/* Half of a transaction is seen; or two append to what both have read. */
TEST(append, read_skew_and_lost_updates_are_g_single)
{
    struct lists skew = {.count = 0};
    struct lists lost = {.count = 0};
    uint32_t t = begin(&skew, AT_ONCE);

    add(&skew, t, 1, 1);
    add(&skew, t, 2, 2);
    t = begin(&skew, AT_ONCE);
    sees(&skew, t, 1, 1);
    sees(&skew, t, 2, 0);
    sees(&skew, begin(&skew, AT_ONCE), 2, 2);
    EXPECT_ANOMALY(APPEND_G_SINGLE, skew);
    skew.txns[t].read_committed = true;
    EXPECT_ANOMALY(APPEND_FINE, skew);

    for (uint64_t i = 1; i <= 2; i++) {
        t = begin(&lost, AT_ONCE);
        sees(&lost, t, 1, 0);
        add(&lost, t, 1, i);
    }
    sees(&lost, begin(&lost, AT_ONCE), 1, 12);
    EXPECT_ANOMALY(APPEND_G_SINGLE, lost);
}

/* An element that committed and that nobody has seen still is behind what was read. */
TEST(append, half_a_commit_is_g_single)
{
    struct lists l = {.count = 0};
    uint32_t t = begin(&l, 1, OP_NEVER);

    add(&l, t, 1, 1);
    add(&l, t, 2, 2);
    t = begin(&l, AT_ONCE);
    sees(&l, t, 1, 1);
    sees(&l, t, 2, 0);
    EXPECT_ANOMALY(APPEND_G_SINGLE, l);
}

TEST(append, write_skew_is_g2_item)
{
    struct lists l = {.count = 0};
    uint32_t t = begin(&l, AT_ONCE);

    sees(&l, t, 1, 0);
    add(&l, t, 2, 2);
    t = begin(&l, AT_ONCE);
    sees(&l, t, 2, 0);
    add(&l, t, 1, 1);
    t = begin(&l, AT_ONCE);
    sees(&l, t, 1, 1);
    sees(&l, t, 2, 2);
    EXPECT_ANOMALY(APPEND_G2_ITEM, l);
}

TEST(append, a_long_fork_is_g2_item)
{
    struct lists l = {.count = 0};
    uint32_t t = 0;

    add(&l, begin(&l, AT_ONCE), 1, 1);
    add(&l, begin(&l, AT_ONCE), 2, 2);
    t = begin(&l, AT_ONCE);
    sees(&l, t, 1, 1);
    sees(&l, t, 2, 0);
    t = begin(&l, AT_ONCE);
    sees(&l, t, 1, 0);
    sees(&l, t, 2, 2);
    EXPECT_ANOMALY(APPEND_G2_ITEM, l);
}

TEST(append, what_was_acknowledged_is_there)
{
    struct lists lost = {.count = 0};
    struct lists stale = {.count = 0};
    struct lists back = {.count = 0};
    struct lists order = {.count = 0};

    add(&lost, begin(&lost, 1, 2), 1, 1);
    sees(&lost, begin(&lost, 3, 4), 1, 0);
    EXPECT_ANOMALY(APPEND_LOST, lost);

    add(&stale, begin(&stale, 1, 2), 1, 1);
    sees(&stale, begin(&stale, 3, 4), 1, 0);
    sees(&stale, begin(&stale, 5, 6), 1, 1);
    EXPECT_ANOMALY(APPEND_STALE, stale);

    add(&back, begin(&back, 1, 20), 1, 1);
    sees(&back, begin(&back, 3, 4), 1, 1);
    sees(&back, begin(&back, 5, 6), 1, 0);
    EXPECT_ANOMALY(APPEND_STALE, back);

    add(&order, begin(&order, 1, 2), 1, 1);
    add(&order, begin(&order, 3, 4), 1, 2);
    sees(&order, begin(&order, 5, 6), 1, 21);
    EXPECT_ANOMALY(APPEND_STALE, order);
}

TEST(append, nobody_reads_the_future)
{
    struct lists l = {.count = 0};

    sees(&l, begin(&l, 1, 2), 1, 1);
    add(&l, begin(&l, 3, 4), 1, 1);
    EXPECT_ANOMALY(APPEND_FUTURE, l);
}

/* Time binds per key only: a later transaction on another key may come first (causal reverse). */
TEST(append, other_keys_may_overtake)
{
    struct lists l = {.count = 0};
    uint32_t t = 0;

    add(&l, begin(&l, 1, 2), 1, 1);
    add(&l, begin(&l, 3, 4), 2, 2);
    t = begin(&l, 2, 10); /* Was called before the first returned. */
    l.txns[t].called = 1;
    sees(&l, t, 1, 0);
    sees(&l, t, 2, 2);
    sees(&l, begin(&l, 11, 12), 1, 1);
    EXPECT_ANOMALY(APPEND_FINE, l);
}

TEST(append, an_unknown_transaction_may_have_happened_or_not)
{
    struct lists never = {.count = 0};
    struct lists late = {.count = 0};

    add(&never, begin(&never, 1, OP_NEVER), 1, 1);
    sees(&never, begin(&never, 3, 4), 1, 0);
    EXPECT_ANOMALY(APPEND_FINE, never);
    add(&late, begin(&late, 1, OP_NEVER), 1, 1);
    sees(&late, begin(&late, 3, 4), 1, 0);
    sees(&late, begin(&late, 5, 6), 1, 1);
    EXPECT_ANOMALY(APPEND_FINE, late);
}

/* ---- random histories ----------------------------------------------------------------------------- */

#define LISTS 4

/* A serial execution; calls and returns overlap around the moment of each transaction. */
static void play(struct lists *l, struct rng *r)
{
    uint64_t state[LISTS][ITEMS];
    uint32_t length[LISTS] = {0};
    uint64_t next = 0;

    l->count = 0;
    for (uint64_t i = 0; i < 40; i++) {
        const uint64_t now = 100 + 10 * i;
        const uint32_t t = begin(l, now - rng_below(r, 60), now + rng_below(r, 60));
        const uint64_t ops = rng_between(r, 1, OPS);

        l->txns[t].count = 0;
        for (uint64_t k = 0; k < ops; k++) {
            const uint64_t key = rng_below(r, LISTS);
            const uint32_t n = l->txns[t].count;

            if (rng_permille(r, 500)) {
                state[key][length[key]++] = ++next;
                add(l, t, key, next);
                continue;
            }
            l->ops[t][n] = (struct append_op){.kind = APPEND_READ,
                                              .key = key,
                                              .list = l->items[t][n],
                                              .count = length[key],
                                              .done = true};
            memcpy(l->items[t][n], state[key], length[key] * sizeof(uint64_t));
            l->txns[t].count++;
        }
    }
}

TEST(append, serial_executions_are_fine)
{
    static struct lists l;

    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct rng r;

        rng_seed(&r, seed);
        memset(&l, 0, sizeof(l));
        play(&l, &r);
        if (judge(&l) != APPEND_FINE) {
            test_fail(__FILE__, __LINE__, "seed %d: %s", (int)seed, l.why);
            return;
        }
    }
}

/* An element taken out of one list that was read, where a longer one was read too, never goes
 * unnoticed. */
TEST(append, a_hole_is_noticed)
{
    static struct lists l;
    uint32_t tried = 0;

    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct append_op *o = NULL;
        struct rng r;

        rng_seed(&r, seed);
        memset(&l, 0, sizeof(l));
        play(&l, &r);
        o = &l.ops[20 + rng_below(&r, 10)][0];
        if (o->kind != APPEND_READ || o->count < 2) {
            continue;
        }
        memmove(o->list, o->list + 1, (o->count - 1) * sizeof(o->list[0]));
        o->count--;
        tried++;
        EXPECT_TRUE(judge(&l) != APPEND_FINE);
    }
    EXPECT_TRUE(tried > 50);
}
