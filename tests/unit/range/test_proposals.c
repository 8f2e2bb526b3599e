/* Writes on their way: who is answered, when, and with what. */
#include "node/base/invariant.h"
#include "tests/unit/range/cluster.h"

static const char *const key = "\x88k\x88";

static struct cluster_call put_call(struct cluster *c, uint32_t i, const char *k)
{
    return (struct cluster_call){
        .node = &c->nodes[i],
        .one = {.op = RANGE_OP_PUT, .key = bytes_str(k), .value = BYTES_LIT("v")}};
}

static bool three_voters(struct cluster *c)
{
    cluster_start(c, 3);
    return cluster_put(c, 0, key, "v1") == STATUS_OK && cluster_add_voter(c, 0, 1) == STATUS_OK &&
           cluster_add_voter(c, 0, 2) == STATUS_OK;
}

static void stop_fiber(void *arg)
{
    struct cluster_node *n = arg;

    store_stop(n->store);
    n->up = false;
}

/* The fiber that waits is woken by a cancel; before it runs, the store stops and ends its proposal.
 * The outcome stands on the fiber's stack, the proposal is gone. */
TEST(proposals, an_outcome_between_a_cancel_and_its_fiber_counts)
{
    struct cluster c;
    struct cluster_call call;

    cluster_start(&c, 1);
    call = put_call(&c, 0, key);
    fake_world_hold_jobs(c.world, true);
    cluster_call_start(&call);
    cluster_run_ms(&c, 5);
    EXPECT_TRUE(!call.done && call.fiber != NULL);
    EXPECT_OK(fiber_spawn(c.nodes[0].shard, "stop", stop_fiber, &c.nodes[0]));
    fiber_cancel(call.fiber);
    fake_world_settle(c.world);
    fake_world_hold_jobs(c.world, false);
    EXPECT_TRUE(cluster_call_wait(&call, 100));
    EXPECT_CODE(STATUS_AMBIGUOUS, call.st);
    cluster_call_end(&call);
    cluster_run_ms(&c, 10);
    EXPECT_FALSE(c.nodes[0].up);
    shard_enter(c.nodes[0].shard);
    store_destroy(c.nodes[0].store);
    rpc_destroy(c.nodes[0].rpc);
    shard_leave(c.nodes[0].shard);
    cluster_stop(&c);
}

TEST(proposals, a_write_that_nobody_waits_for_still_applies)
{
    struct cluster c;
    struct cluster_call call;
    enum status_code code = STATUS_OK;

    cluster_start(&c, 1);
    call = put_call(&c, 0, key);
    call.timeout_ms = 20;
    fake_world_hold_jobs(c.world, true);
    cluster_call_start(&call);
    EXPECT_TRUE(cluster_call_wait(&call, 100));
    EXPECT_CODE(STATUS_AMBIGUOUS, call.st);
    cluster_call_end(&call);
    fake_world_hold_jobs(c.world, false);
    cluster_run_ms(&c, 10);
    EXPECT_STREQ("v", cluster_get(&c, 0, key, &code));
    cluster_stop(&c);
}

/*
 * A leader that is cut off appends writes that nobody else gets. Others write less than that, then it
 * leads again: its old proposals stand behind the end of the log. They must neither keep their keys
 * latched nor keep the new ones from being answered.
 */
TEST(proposals, overwritten_ones_are_answered_before_their_index_comes_round)
{
    struct cluster c;
    struct cluster_call lost[6];
    static const char *const keys[6] = {"\x88"
                                        "a\x88",
                                        "\x88"
                                        "b\x88",
                                        "\x88"
                                        "c\x88",
                                        "\x88"
                                        "d\x88",
                                        "\x88"
                                        "e\x88",
                                        "\x88"
                                        "f\x88"};
    int leader = -1;

    EXPECT_TRUE(three_voters(&c));
    c.nodes[0].cut = true;
    for (int i = 0; i < 6; i++) {
        lost[i] = put_call(&c, 0, keys[i]);
        lost[i].timeout_ms = 60000;
        cluster_call_start(&lost[i]);
    }
    cluster_run_ms(&c, 5000);
    leader = cluster_wait_leaseholder(&c);
    EXPECT_TRUE(leader > 0);
    c.nodes[0].cut = false;
    cluster_run_ms(&c, 2000);
    for (int i = 0; i < 6; i++) {
        EXPECT_TRUE(lost[i].done);
        EXPECT_CODE(STATUS_NOT_PROPOSED, lost[i].st);
        cluster_call_end(&lost[i]);
    }
    EXPECT_EQ(STATUS_OK, cluster_transfer(&c, (uint32_t)leader, 0));
    EXPECT_EQ(0, cluster_wait_leaseholder(&c));
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, keys[5], "v"));
    cluster_run_ms(&c, 500);
    EXPECT_TRUE(cluster_digests_equal(&c));
    cluster_stop(&c);
}

/* Answered at commit, before the disk of the leader has it: a quorum of others is enough. */
TEST(proposals, a_quorum_without_the_leader_is_enough)
{
    struct cluster c;
    struct cluster_call call;

    EXPECT_TRUE(three_voters(&c));
    call = put_call(&c, 0, key);
    cluster_call_start(&call);
    EXPECT_TRUE(cluster_call_wait(&call, 1000));
    EXPECT_OK(call.st);
    cluster_call_end(&call);
    cluster_stop(&c);
}

/* A reader of a key that is being written waits for the write, and sees it. */
TEST(proposals, a_read_waits_for_an_earlier_write)
{
    struct cluster c;
    struct cluster_call write;
    struct cluster_call read = {.one = {.op = RANGE_OP_GET, .key = BYTES_LIT("\x88k\x88")}};

    cluster_start(&c, 1);
    read.node = &c.nodes[0];
    write = put_call(&c, 0, key);
    fake_world_hold_jobs(c.world, true);
    cluster_call_start(&write);
    cluster_run_ms(&c, 2);
    cluster_call_start(&read);
    EXPECT_FALSE(cluster_call_wait(&read, 100));
    fake_world_hold_jobs(c.world, false);
    EXPECT_TRUE(cluster_call_wait(&read, 100));
    EXPECT_OK(read.st);
    EXPECT_TRUE(read.result.responses[0].found);
    EXPECT_TRUE(write.done);
    cluster_call_end(&write);
    cluster_call_end(&read);
    cluster_stop(&c);
}
