/* Replicas come and go, also when it is interrupted. */
#include "node/range/internal.h"
#include "tests/unit/range/cluster.h"

static const char *const key = "\x88k\x88";

static bool voters(struct cluster *c, uint32_t nodes, uint32_t count)
{
    bool ok = true;

    cluster_start(c, nodes);
    for (uint32_t i = 1; i < count; i++) {
        ok = ok && cluster_add_voter(c, 0, i) == STATUS_OK;
    }
    return ok && cluster_put(c, 0, key, "v1") == STATUS_OK;
}

static enum range_replica_type type_of(struct cluster *c, uint32_t i, uint32_t of)
{
    struct store_range_info info;
    const struct range_replica *r = NULL;
    struct arena arena;
    enum range_replica_type type = RANGE_REPLICA_TYPE_COUNT;

    arena_init(&arena, 0);
    if (store_find_range(c->nodes[i].store, (range_id){RANGE_FIRST_ID}, &arena, &info)) {
        r = range_desc_find(&info.desc, (store_id){of + 1});
        type = r == NULL ? RANGE_REPLICA_TYPE_COUNT : r->type;
    }
    arena_deinit(&arena);
    return type;
}

TEST(membership, what_is_done_already_is_no_error)
{
    struct cluster c;

    EXPECT_TRUE(voters(&c, 3, 2));
    EXPECT_EQ(STATUS_OK, cluster_add_voter(&c, 0, 1));
    EXPECT_EQ(STATUS_OK, cluster_remove(&c, 0, 2));
    EXPECT_EQ(2, cluster_voters(&c, 0));
    cluster_stop(&c);
}

TEST(membership, only_the_leaseholder_changes_and_never_removes_itself)
{
    struct cluster c;

    EXPECT_TRUE(voters(&c, 3, 2));
    EXPECT_EQ(STATUS_NOT_LEADER, cluster_add_voter(&c, 1, 2));
    EXPECT_EQ(STATUS_NOT_LEADER, cluster_remove(&c, 1, 0));
    EXPECT_EQ(STATUS_NOT_LEADER, cluster_transfer(&c, 1, 0));
    EXPECT_EQ(STATUS_INVALID, cluster_remove(&c, 0, 0));
    EXPECT_EQ(STATUS_INVALID, cluster_transfer(&c, 0, 2));
    EXPECT_EQ(STATUS_INVALID, cluster_transfer(&c, 0, 0));
    cluster_stop(&c);
}

/* The first leader is cut off as soon as node 1 has applied the joint configuration. */
static bool cut_when_joint(void *ctx, const struct cluster_frame *f)
{
    struct cluster *c = ctx;

    UNUSED(f);
    if (type_of(c, 1, 3) == RANGE_VOTER_INCOMING) {
        c->nodes[0].cut = true;
    }
    return !c->nodes[0].cut || f->from != 0;
}

/* The leader dies between the two configurations: whoever leads next can finish, and nothing else. */
TEST(membership, a_joint_configuration_survives_its_leader)
{
    struct cluster c;
    struct cluster_call call;
    int leader = -1;

    EXPECT_TRUE(voters(&c, 4, 3));
    c.filter = cut_when_joint;
    c.filter_ctx = &c;
    call = (struct cluster_call){.node = &c.nodes[0], .kind = CLUSTER_ADD_VOTER, .target = 3};
    cluster_call_start(&call);
    EXPECT_TRUE(cluster_call_wait(&call, 10000));
    EXPECT_FALSE(status_ok(call.st));
    cluster_call_end(&call);
    c.filter = NULL;
    EXPECT_TRUE(c.nodes[0].cut);
    leader = cluster_wait_leaseholder(&c);
    EXPECT_TRUE(leader > 0);
    EXPECT_EQ(RANGE_VOTER_INCOMING, type_of(&c, (uint32_t)leader, 3));
    EXPECT_EQ(STATUS_INVALID, cluster_remove(&c, (uint32_t)leader, 0));
    EXPECT_EQ(STATUS_OK, cluster_add_voter(&c, (uint32_t)leader, 3));
    EXPECT_EQ(4, cluster_voters(&c, (uint32_t)leader));
    c.nodes[0].cut = false;
    cluster_run_ms(&c, 3000);
    EXPECT_TRUE(cluster_digests_equal(&c));
    cluster_stop(&c);
}

/* The same with a learner that had not caught up. */
TEST(membership, an_orphaned_learner_is_promoted_or_dropped)
{
    struct cluster c;
    struct cluster_call call;
    int leader = -1;

    EXPECT_TRUE(voters(&c, 4, 3));
    c.nodes[3].cut = true;
    call = (struct cluster_call){.node = &c.nodes[0], .kind = CLUSTER_ADD_VOTER, .target = 3};
    call.timeout_ms = 2000;
    cluster_call_start(&call);
    EXPECT_TRUE(cluster_call_wait(&call, 3000));
    EXPECT_CODE(STATUS_TIMEOUT, call.st);
    cluster_call_end(&call);
    EXPECT_EQ(RANGE_LEARNER, type_of(&c, 0, 3));
    cluster_crash(&c, 0, 0);
    cluster_run_ms(&c, 6000);
    leader = cluster_wait_leaseholder(&c);
    EXPECT_TRUE(leader > 0);
    EXPECT_EQ(STATUS_OK, cluster_remove(&c, (uint32_t)leader, 3));
    c.nodes[3].cut = false;
    EXPECT_EQ(STATUS_OK, cluster_add_voter(&c, (uint32_t)leader, 3));
    EXPECT_EQ(RANGE_VOTER, type_of(&c, (uint32_t)leader, 3));
    cluster_restart(&c, 0);
    cluster_run_ms(&c, 5000);
    EXPECT_TRUE(cluster_digests_equal(&c));
    cluster_stop(&c);
}

/* A second change waits for nobody: it is refused. */
TEST(membership, one_change_at_a_time)
{
    struct cluster c;
    struct cluster_call call;

    EXPECT_TRUE(voters(&c, 4, 2));
    c.nodes[3].cut = true;
    call = (struct cluster_call){.node = &c.nodes[0], .kind = CLUSTER_ADD_VOTER, .target = 3};
    call.timeout_ms = 1000;
    cluster_call_start(&call);
    cluster_run_ms(&c, 100);
    EXPECT_EQ(STATUS_OVERLOADED, cluster_add_voter(&c, 0, 2));
    EXPECT_EQ(STATUS_OVERLOADED, cluster_transfer(&c, 0, 1));
    EXPECT_TRUE(cluster_call_wait(&call, 2000));
    cluster_call_end(&call);
    EXPECT_EQ(STATUS_OK, cluster_transfer(&c, 0, 1));
    cluster_stop(&c);
}

static void stop_fiber(void *arg)
{
    struct cluster_node *n = arg;

    store_stop(n->store);
    n->up = false;
}

static bool stops_within(struct cluster *c, uint32_t i, uint64_t ms)
{
    struct cluster_node *n = &c->nodes[i];

    if (!status_ok(fiber_spawn(n->shard, "stop", stop_fiber, n))) {
        return false;
    }
    for (uint64_t k = 0; k < ms && n->up; k++) {
        cluster_run_ms(c, 1);
    }
    return !n->up;
}

static void destroy_node(struct cluster *c, uint32_t i)
{
    struct cluster_node *n = &c->nodes[i];

    shard_enter(n->shard);
    store_destroy(n->store);
    rpc_destroy(n->rpc);
    shard_leave(n->shard);
}

/* A change that waits for a dead store must not keep ours from stopping. */
TEST(membership, a_change_under_way_ends_when_the_store_stops)
{
    struct cluster c;
    struct cluster_call call;

    EXPECT_TRUE(voters(&c, 4, 3));
    c.nodes[3].cut = true;
    call = (struct cluster_call){.node = &c.nodes[0], .kind = CLUSTER_ADD_VOTER, .target = 3};
    call.timeout_ms = 60000;
    cluster_call_start(&call);
    cluster_run_ms(&c, 500);
    EXPECT_TRUE(stops_within(&c, 0, 50));
    EXPECT_TRUE(call.done);
    EXPECT_CODE(STATUS_CANCELLED, call.st);
    cluster_call_end(&call);
    destroy_node(&c, 0);
    cluster_stop(&c);
}

TEST(membership, a_snapshot_under_way_ends_when_the_store_stops)
{
    struct cluster c;
    struct cluster_call call;

    EXPECT_TRUE(voters(&c, 3, 1));
    call = (struct cluster_call){.node = &c.nodes[0], .kind = CLUSTER_ADD_VOTER, .target = 2};
    call.timeout_ms = 60000;
    cluster_call_start(&call);
    for (int i = 0; i < 1000 && type_of(&c, 0, 2) != RANGE_LEARNER; i++) {
        cluster_run_ms(&c, 1);
    }
    c.nodes[2].cut = true;
    cluster_run_ms(&c, 700); /* Its chunk is lost: the call would wait for 20 s. */
    EXPECT_TRUE(stops_within(&c, 0, 50));
    cluster_call_end(&call);
    destroy_node(&c, 0);
    cluster_stop(&c);
}

static bool drop_raft_to(void *ctx, const struct cluster_frame *f)
{
    const uint32_t *to = ctx;

    return f->type != RPC_TYPE_RAFT || f->to != *to;
}

/* The target does not get the revocation: after a second the leaseholder goes on as before. */
TEST(membership, a_transfer_that_does_not_arrive_is_taken_back)
{
    struct cluster c;
    uint32_t target = 2;
    enum status_code code = STATUS_OK;

    EXPECT_TRUE(voters(&c, 3, 3));
    c.filter = drop_raft_to;
    c.filter_ctx = &target;
    EXPECT_EQ(STATUS_TIMEOUT, cluster_transfer(&c, 0, 2));
    c.filter = NULL;
    cluster_run_ms(&c, 1000);
    EXPECT_EQ(0, cluster_leaseholder(&c));
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, key, "v2"));
    EXPECT_STREQ("v2", cluster_get(&c, 0, key, &code));
    EXPECT_EQ(STATUS_OK, cluster_transfer(&c, 0, 2));
    cluster_run_ms(&c, 200);
    EXPECT_EQ(2, cluster_leaseholder(&c));
    cluster_stop(&c);
}

/* Starting a lease could not be proposed: the next tick tries again. */
TEST(membership, a_lease_that_could_not_start_is_tried_again)
{
    struct cluster c;
    struct replica *r = NULL;

    EXPECT_TRUE(voters(&c, 1, 1));
    r = store__find(c.nodes[0].store, (range_id){RANGE_FIRST_ID});
    r->serving_term = 0;
    r->lease_proposed_term = 0;
    r->lease_retry_term = raft_get_state(r->raft).term;
    EXPECT_EQ(-1, cluster_leaseholder(&c));
    cluster_run_ms(&c, 200);
    EXPECT_EQ(0, cluster_leaseholder(&c));
    cluster_stop(&c);
}

/*
 * A replica was removed, its tombstone is not written yet, and a late message of a candidate arrives: it
 * must not come to life again under its old id, without its votes.
 */
TEST(membership, a_removed_replica_does_not_come_back_before_its_tombstone)
{
    struct cluster c;
    struct env *env = NULL;
    struct replica *r = NULL;
    uint32_t old_id = 0;

    EXPECT_TRUE(voters(&c, 3, 3));
    env = shard_env(c.nodes[1].shard);
    r = store__find(c.nodes[1].store, (range_id){RANGE_FIRST_ID});
    old_id = r->id.v;
    fake_env_hold(env, FAKE_HOLD_JOBS);
    shard_enter(c.nodes[1].shard);
    replica__remove(r);
    shard_leave(c.nodes[1].shard);
    EXPECT_FALSE(cluster_has_replica(&c, 1));
    {
        struct replica *again = NULL;

        shard_enter(c.nodes[1].shard);
        EXPECT_CODE(STATUS_NOT_FOUND, replica__create(c.nodes[1].store, (range_id){RANGE_FIRST_ID},
                                                      (replica_id){old_id}, &again));
        shard_leave(c.nodes[1].shard);
    }
    cluster_run_ms(&c, 300); /* The leader goes on sending to it. */
    EXPECT_FALSE(cluster_has_replica(&c, 1));
    fake_env_hold(env, FAKE_HOLD_NOTHING);
    cluster_run_ms(&c, 300);
    EXPECT_FALSE(cluster_has_replica(&c, 1));
    cluster_stop(&c);
}

static bool drop_raft_from_and_to(void *ctx, const struct cluster_frame *f)
{
    const uint32_t *node = ctx;

    return f->type != RPC_TYPE_RAFT || (f->to != *node && f->from != *node);
}

/* It never gets the entry that removes it, nor the message that tells: some time later it asks. */
TEST(membership, a_removed_replica_that_heard_nothing_asks_and_goes)
{
    struct cluster c;
    uint32_t cut = 2;

    EXPECT_TRUE(voters(&c, 3, 3));
    c.filter = drop_raft_from_and_to;
    c.filter_ctx = &cut;
    EXPECT_EQ(STATUS_OK, cluster_remove(&c, 0, 2));
    c.filter = NULL;
    cluster_run_ms(&c, 5000);
    EXPECT_TRUE(cluster_has_replica(&c, 2));
    cluster_run_ms(&c, 10000);
    EXPECT_FALSE(cluster_has_replica(&c, 2));
    EXPECT_TRUE(cluster_has_replica(&c, 1));
    EXPECT_EQ(2, cluster_voters(&c, 0));
    cluster_stop(&c);
}

/* Sleeping replicas ask as well, and go on sleeping. */
TEST(membership, members_that_ask_stay)
{
    struct cluster c;

    EXPECT_TRUE(voters(&c, 3, 3));
    cluster_run_ms(&c, 60000);
    EXPECT_EQ(0, cluster_leaseholder(&c));
    EXPECT_TRUE(cluster_has_replica(&c, 1) && cluster_has_replica(&c, 2));
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, key, "v2"));
    cluster_run_ms(&c, 500);
    EXPECT_TRUE(cluster_digests_equal(&c));
    cluster_stop(&c);
}
