/* Whole stores: one alone, three that replicate, crash, move and hand over. */
#include "tests/unit/range/cluster.h"

TEST(store, a_single_store_writes_and_reads)
{
    struct cluster c;
    enum status_code code = STATUS_OK;

    cluster_start(&c, 1);
    EXPECT_EQ(0, cluster_leaseholder(&c));
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, "\x88k\x88", "v1"));
    EXPECT_STREQ("v1", cluster_get(&c, 0, "\x88k\x88", &code));
    EXPECT_STREQ("", cluster_get(&c, 0, "\x88other\x88", &code));
    EXPECT_EQ(0, fake_world_errors_logged(c.world));
    cluster_stop(&c);
}

/* What was acknowledged was synced: nothing unsynced has to survive. */
TEST(store, acknowledged_writes_survive_a_power_cut)
{
    struct cluster c;
    enum status_code code = STATUS_OK;

    cluster_start(&c, 1);
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, "\x88k\x88", "v1"));
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, "\x88k\x88", "v2"));
    cluster_crash(&c, 0, 0);
    cluster_restart(&c, 0);
    cluster_run_ms(&c, 6000);
    EXPECT_EQ(0, cluster_leaseholder(&c));
    EXPECT_STREQ("v2", cluster_get(&c, 0, "\x88k\x88", &code));
    cluster_stop(&c);
}

static bool three_voters(struct cluster *c)
{
    cluster_start(c, 3);
    return cluster_put(c, 0, "\x88k\x88", "v1") == STATUS_OK &&
           cluster_add_voter(c, 0, 1) == STATUS_OK && cluster_add_voter(c, 0, 2) == STATUS_OK;
}

TEST(store, voters_are_added_and_hold_the_same_bytes)
{
    struct cluster c;

    EXPECT_TRUE(three_voters(&c));
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, "\x88l\x88", "v2"));
    cluster_run_ms(&c, 1000);
    EXPECT_TRUE(cluster_digests_equal(&c));
    cluster_stop(&c);
}

TEST(store, another_voter_takes_over_when_the_leaseholder_dies)
{
    struct cluster c;
    enum status_code code = STATUS_OK;
    int leader = -1;

    EXPECT_TRUE(three_voters(&c));
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, "\x88k\x88", "v2"));
    cluster_crash(&c, 0, 0);
    cluster_run_ms(&c, 5000);
    leader = cluster_leaseholder(&c);
    EXPECT_TRUE(leader > 0);
    EXPECT_STREQ("v2", cluster_get(&c, (uint32_t)leader, "\x88k\x88", &code));
    EXPECT_EQ(STATUS_OK, cluster_put(&c, (uint32_t)leader, "\x88k\x88", "v3"));
    cluster_restart(&c, 0);
    cluster_run_ms(&c, 5000);
    EXPECT_TRUE(cluster_digests_equal(&c));
    cluster_stop(&c);
}

/* A leaseholder that is cut off stops serving before another one starts. */
TEST(store, a_cut_off_leaseholder_refuses_to_serve)
{
    struct cluster c;
    enum status_code code = STATUS_OK;

    EXPECT_TRUE(three_voters(&c));
    c.nodes[0].cut = true;
    cluster_run_ms(&c, 5000);
    EXPECT_TRUE(cluster_leaseholder(&c) > 0); /* Asserts that it is the only one. */
    EXPECT_TRUE(cluster_get(&c, 0, "\x88k\x88", &code) == NULL);
    EXPECT_EQ(STATUS_NOT_LEADER, code);
    c.nodes[0].cut = false;
    cluster_run_ms(&c, 3000);
    cluster_stop(&c);
}

TEST(store, the_lease_is_handed_over_at_once)
{
    struct cluster c;
    enum status_code code = STATUS_OK;

    EXPECT_TRUE(three_voters(&c));
    EXPECT_EQ(STATUS_OK, cluster_transfer(&c, 0, 2));
    cluster_run_ms(&c, 100);
    EXPECT_EQ(2, cluster_leaseholder(&c));
    EXPECT_STREQ("v1", cluster_get(&c, 2, "\x88k\x88", &code));
    cluster_stop(&c);
}

TEST(store, a_removed_replica_is_gone)
{
    struct cluster c;
    uint64_t index = 0;
    uint64_t digest = 0;

    EXPECT_TRUE(three_voters(&c));
    EXPECT_EQ(STATUS_OK, cluster_remove(&c, 0, 1));
    cluster_run_ms(&c, 1000);
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, "\x88k\x88", "v2"));
    EXPECT_OK(store_range_digest(c.nodes[2].store, (range_id){RANGE_FIRST_ID}, &index, &digest));
    EXPECT_EQ(STATUS_OK, cluster_add_voter(&c, 0, 1));
    cluster_run_ms(&c, 1000);
    EXPECT_TRUE(cluster_digests_equal(&c));
    cluster_stop(&c);
}
