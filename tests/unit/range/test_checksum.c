/* Replicas are compared; one that differs from the majority stops. */
#include "node/base/invariant.h"
#include "node/range/internal.h"
#include "tests/unit/range/cluster.h"

#define SECOND ((uint64_t)1000000000)

static const char *const key = "\x88k\x88";

struct check {
    struct cluster_node *node;
    struct store_consistency result;
    struct status st;
    bool done;
};

static void check_fiber(void *arg)
{
    struct check *x = arg;

    x->st =
        store_check_consistency(x->node->store, (range_id){RANGE_FIRST_ID},
                                env_mono_ns(shard_env(x->node->shard)) + 5 * SECOND, &x->result);
    x->done = true;
}

static void begin(struct cluster *c, uint32_t i, struct check *x)
{
    *x = (struct check){.node = &c->nodes[i]};
    INVARIANT(status_ok(fiber_spawn(c->nodes[i].shard, "check", check_fiber, x)));
}

static struct check check(struct cluster *c, uint32_t i)
{
    struct check x;

    begin(c, i, &x);
    for (int n = 0; n < 10000 && !x.done; n++) {
        cluster_run_ms(c, 1);
    }
    INVARIANT(x.done);
    return x;
}

static void three_voters(struct cluster *c)
{
    cluster_start(c, 3);
    INVARIANT(cluster_add_voter(c, 0, 1) == STATUS_OK && cluster_add_voter(c, 0, 2) == STATUS_OK);
    INVARIANT(cluster_put(c, 0, key, "v") == STATUS_OK);
}

/* A disk that lies: one row of one replica is another. */
static void damage(struct cluster *c, uint32_t i)
{
    struct engine_batch b;

    engine_batch_init(&b);
    INVARIANT(status_ok(
        engine_batch_put(&b, ENGINE_CF_STATE, BYTES_LIT("\x88zzzzzzzzzzzzzzz"), BYTES_LIT("x"))));
    INVARIANT(status_ok(engine_write(c->nodes[i].engine, &b, true)));
    engine_batch_deinit(&b);
}

TEST(checksum, equal_replicas_compare_equal_while_others_write)
{
    struct cluster c;
    struct store_stats st;
    struct cluster_call calls[40];
    struct check x;

    three_voters(&c);
    for (uint32_t n = 0; n < ARRAY_COUNT(calls); n++) {
        static char keys[ARRAY_COUNT(calls)][5];

        memcpy(keys[n], key, 4);
        keys[n][1] = (char)('a' + n % 20);
        calls[n] = (struct cluster_call){
            .node = &c.nodes[0],
            .one = {.op = RANGE_OP_PUT, .key = bytes_str(keys[n]), .value = BYTES_LIT("w")}};
        cluster_call_start(&calls[n]);
        if (n == 10) {
            begin(&c, 0, &x);
        }
        if (n % 3 == 0) {
            cluster_run_ms(&c, 1);
        }
    }
    for (uint32_t n = 0; n < ARRAY_COUNT(calls); n++) {
        EXPECT_TRUE(cluster_call_wait(&calls[n], 5000));
        EXPECT_OK(calls[n].st);
        cluster_call_end(&calls[n]);
    }
    for (int n = 0; n < 5000 && !x.done; n++) {
        cluster_run_ms(&c, 1);
    }
    EXPECT_TRUE(x.done);
    EXPECT_OK(x.st);
    EXPECT_EQ(3, x.result.compared);
    EXPECT_EQ(0, x.result.missing + x.result.differing);
    EXPECT_TRUE(x.result.index > RANGE_FIRST_INDEX);
    x = check(&c, 0);
    EXPECT_OK(x.st);
    EXPECT_EQ(3, x.result.compared);
    store_get_stats(c.nodes[0].store, &st);
    EXPECT_EQ(2, st.consistency_checks);
    EXPECT_EQ(0, st.inconsistencies);
    EXPECT_TRUE(cluster_digests_equal(&c));
    EXPECT_EQ(0, fake_world_errors_logged(c.world));
    cluster_stop(&c);
}

TEST(checksum, who_differs_from_the_majority_stops)
{
    for (uint32_t bad = 0; bad < 2; bad++) { /* Leaseholder, follower. */
        struct cluster c;
        struct store_stats st;
        struct check x;

        three_voters(&c);
        damage(&c, bad);
        x = check(&c, 0);
        EXPECT_OK(x.st);
        EXPECT_EQ(3, x.result.compared);
        EXPECT_EQ(1, x.result.differing);
        cluster_run_ms(&c, 100);
        for (uint32_t i = 0; i < 3; i++) {
            EXPECT_EQ(i == bad, c.nodes[i].fatal == 1);
        }
        EXPECT_TRUE(fake_world_errors_logged(c.world) > 0);
        store_get_stats(c.nodes[0].store, &st);
        EXPECT_EQ(1, st.inconsistencies);
        cluster_run_ms(&c, 8000);
        c.nodes[bad].cut = true;
        cluster_run_ms(&c, 8000);
        EXPECT_TRUE(cluster_wait_leaseholder(&c) != (int)bad);
        EXPECT_EQ(STATUS_OK, cluster_put(&c, (uint32_t)cluster_leaseholder(&c), key, "goes on"));
        cluster_stop(&c);
    }
}

/* Two that differ: nobody knows who is right. One that is away is missing. */
TEST(checksum, without_a_majority_it_is_only_reported)
{
    struct cluster c;
    struct check x;

    three_voters(&c);
    c.nodes[2].cut = true;
    x = check(&c, 0);
    EXPECT_OK(x.st);
    EXPECT_EQ(2, x.result.compared);
    EXPECT_EQ(1, x.result.missing);
    EXPECT_EQ(0, x.result.differing);
    damage(&c, 1);
    x = check(&c, 0);
    EXPECT_OK(x.st);
    EXPECT_EQ(2, x.result.differing);
    EXPECT_EQ(0, x.result.digest);
    EXPECT_EQ(0, c.nodes[0].fatal + c.nodes[1].fatal);
    EXPECT_TRUE(fake_world_errors_logged(c.world) > 0);
    EXPECT_CODE(STATUS_NOT_LEADER, check(&c, 1).st);
    cluster_stop(&c);
}

/* A peer that is cut off would be waited for: not when the store stops. */
TEST(checksum, a_stop_ends_it)
{
    struct cluster c;
    struct check x;

    three_voters(&c);
    c.nodes[2].cut = true;
    begin(&c, 0, &x);
    cluster_run_ms(&c, 200);
    EXPECT_FALSE(x.done);
    cluster_stop(&c); /* Would find that the store does not stop. */
    EXPECT_TRUE(x.done);
    EXPECT_CODE(STATUS_CANCELLED, x.st);
}

TEST(checksum, one_at_a_time)
{
    struct cluster c;
    struct check first;
    struct check second;

    three_voters(&c);
    begin(&c, 0, &first);
    begin(&c, 0, &second);
    cluster_run_ms(&c, 500);
    EXPECT_TRUE(first.done && second.done);
    EXPECT_OK(first.st);
    EXPECT_CODE(STATUS_OVERLOADED, second.st);
    EXPECT_EQ(3, first.result.compared);
    cluster_stop(&c);
}
