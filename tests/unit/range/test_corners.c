/* Situations that a healthy cluster rarely meets. */
#include "node/base/codec.h"
#include "node/base/invariant.h"
#include "node/range/internal.h"
#include "node/rpc/pb_arena.h"
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

static struct replica *replica_of(struct cluster *c, uint32_t i)
{
    return store__find(c->nodes[i].store, (range_id){RANGE_FIRST_ID});
}

/* ---- leases -------------------------------------------------------------------------------------- */

TEST(corners, who_does_not_lead_says_who_does)
{
    struct cluster c;
    struct cluster_call get = {.one = {.op = RANGE_OP_GET, .key = BYTES_LIT("\x88k\x88")}};
    struct cluster_call put = {.one = {.op = RANGE_OP_PUT, .key = BYTES_LIT("\x88k\x88")}};

    EXPECT_TRUE(voters(&c, 3, 3));
    get.node = &c.nodes[2];
    cluster_call_start(&get);
    EXPECT_TRUE(cluster_call_wait(&get, 100));
    EXPECT_CODE(STATUS_NOT_LEADER, get.st);
    EXPECT_EQ(1, get.result.hint_store.v);
    EXPECT_EQ(1, get.result.hint_node.v);
    cluster_call_end(&get);
    put.node = &c.nodes[1];
    cluster_call_start(&put);
    EXPECT_TRUE(cluster_call_wait(&put, 100));
    EXPECT_CODE(STATUS_NOT_LEADER, put.st);
    EXPECT_EQ(1, put.result.hint_store.v);
    cluster_call_end(&put);
    cluster_stop(&c);
}

static bool drop_liveness(void *ctx, const struct cluster_frame *f)
{
    UNUSED(ctx);
    return f->type != RPC_TYPE_LIVENESS;
}

/* Raft goes on, but nobody promises anything any more: nothing may be served. */
TEST(corners, without_support_nothing_is_served)
{
    struct cluster c;
    enum status_code code = STATUS_OK;

    EXPECT_TRUE(voters(&c, 3, 3));
    c.filter = drop_liveness;
    cluster_run_ms(&c, 2200);
    EXPECT_TRUE(cluster_get(&c, 0, key, &code) == NULL);
    EXPECT_EQ(STATUS_NOT_LEADER, code);
    EXPECT_EQ(-1, cluster_leaseholder(&c));
    c.filter = NULL;
    EXPECT_TRUE(cluster_wait_leaseholder(&c) >= 0);
    cluster_stop(&c);
}

/* The leader is cut off while it hands over. */
TEST(corners, leadership_moves_during_a_transfer)
{
    struct cluster c;
    struct cluster_call call;

    EXPECT_TRUE(voters(&c, 3, 3));
    c.latency_ms = 50;
    call = (struct cluster_call){.node = &c.nodes[0], .kind = CLUSTER_TRANSFER, .target = 2};
    cluster_call_start(&call);
    cluster_run_ms(&c, 2);
    c.nodes[0].cut = true;
    c.latency_ms = 0;
    EXPECT_TRUE(cluster_call_wait(&call, 5000));
    EXPECT_FALSE(status_ok(call.st));
    cluster_call_end(&call);
    cluster_run_ms(&c, 5000);
    EXPECT_TRUE(cluster_leaseholder(&c) > 0);
    c.nodes[0].cut = false;
    cluster_run_ms(&c, 2000);
    EXPECT_TRUE(cluster_digests_equal(&c));
    cluster_stop(&c);
}

/* A transfer waits until the writes before it have applied. */
TEST(corners, a_transfer_waits_for_writes_under_way)
{
    struct cluster c;
    struct cluster_call put;
    struct cluster_call move;

    EXPECT_TRUE(voters(&c, 3, 3));
    c.latency_ms = 100;
    put = (struct cluster_call){
        .node = &c.nodes[0],
        .one = {.op = RANGE_OP_PUT, .key = BYTES_LIT("\x88x"), .value = BYTES_LIT("v")}};
    move = (struct cluster_call){.node = &c.nodes[0], .kind = CLUSTER_TRANSFER, .target = 1};
    cluster_call_start(&put);
    cluster_run_ms(&c, 1);
    cluster_call_start(&move);
    EXPECT_TRUE(cluster_call_wait(&put, 2000));
    EXPECT_OK(put.st);
    EXPECT_TRUE(cluster_call_wait(&move, 3000));
    EXPECT_OK(move.st);
    cluster_call_end(&put);
    cluster_call_end(&move);
    c.latency_ms = 0;
    cluster_run_ms(&c, 500);
    EXPECT_EQ(1, cluster_leaseholder(&c));
    cluster_stop(&c);
}

/* ---- the log ------------------------------------------------------------------------------------- */

/* What a follower missed while it was away has left the leader's memory: it is read back. */
TEST(corners, entries_are_read_back_from_disk)
{
    struct cluster c;

    EXPECT_TRUE(voters(&c, 3, 3));
    c.nodes[2].cut = true;
    for (int i = 0; i < 50; i++) {
        EXPECT_EQ(STATUS_OK,
                  cluster_put(&c, 0, (char[]){(char)0x88, (char)('a' + i % 26), 0}, "v"));
    }
    cluster_run_ms(&c, 1000);
    c.nodes[2].cut = false;
    cluster_run_ms(&c, 3000);
    EXPECT_TRUE(cluster_digests_equal(&c));
    cluster_stop(&c);
}

/* Entries that a cut off leader appended are replaced: what stood behind the new end is deleted, too. */
TEST(corners, a_longer_tail_is_replaced_by_a_shorter_one)
{
    struct cluster c;
    struct cluster_call lost[8];
    static const uint8_t keys[8] = {0x88, 0x89, 0x8a, 0x8b, 0x8c, 0x8d, 0x8e, 0x8f};
    int leader = -1;

    EXPECT_TRUE(voters(&c, 3, 3));
    c.nodes[0].cut = true;
    for (int i = 0; i < 8; i++) {
        lost[i] = (struct cluster_call){
            .node = &c.nodes[0],
            .one = {.op = RANGE_OP_PUT, .key = bytes_of(&keys[i], 1), .value = BYTES_LIT("v")},
            .timeout_ms = 500};
        cluster_call_start(&lost[i]);
    }
    cluster_run_ms(&c, 6000);
    leader = cluster_wait_leaseholder(&c);
    EXPECT_TRUE(leader > 0);
    EXPECT_EQ(STATUS_OK, cluster_put(&c, (uint32_t)leader, key, "v2"));
    c.nodes[0].cut = false;
    cluster_run_ms(&c, 2000);
    for (int i = 0; i < 8; i++) {
        EXPECT_TRUE(lost[i].done);
        EXPECT_CODE(STATUS_AMBIGUOUS, lost[i].st);
        cluster_call_end(&lost[i]);
    }
    EXPECT_TRUE(cluster_digests_equal(&c));
    cluster_crash(&c, 0, 0);
    cluster_restart(&c, 0); /* Finds no entry behind the end of its log. */
    cluster_run_ms(&c, 4000);
    EXPECT_TRUE(cluster_digests_equal(&c));
    cluster_stop(&c);
}

/* ---- members ------------------------------------------------------------------------------------- */

static void send_raft(struct cluster *c, uint32_t from, uint32_t to, const Dsql__Pb__RaftMsg *m)
{
    Dsql__Pb__RaftMsg copy = *m;
    Dsql__Pb__RaftMsg *pointers = &copy;
    Dsql__Pb__RaftBatch batch;
    struct bytes parts[2];
    uint8_t prefix[VARINT_MAX];
    struct arena arena;

    arena_init(&arena, 0);
    dsql__pb__raft_batch__init(&batch);
    batch.msgs = &pointers;
    batch.n_msgs = 1;
    INVARIANT(status_ok(pb_pack(&batch.base, &arena, &parts[1])));
    parts[0] = bytes_of(prefix, varint_put(prefix, parts[1].len));
    shard_enter(c->nodes[from].shard);
    status_ignore(rpc_send(c->nodes[from].rpc, (struct rpc_to){{to + 1}, {to + 1}, 0},
                           RPC_TYPE_RAFT, parts, 2));
    shard_leave(c->nodes[from].shard);
    arena_deinit(&arena);
    cluster_run_ms(c, 2);
}

static Dsql__Pb__RaftMsg raft_msg(uint32_t range, uint32_t from, uint32_t to,
                                  enum raft_msg_type type)
{
    Dsql__Pb__RaftMsg m;

    dsql__pb__raft_msg__init(&m);
    m.range_id = range;
    m.from = from;
    m.to = to;
    m.type = (uint32_t)type;
    m.term = 1;
    return m;
}

static uint32_t replica_id_on(struct cluster *c, uint32_t node, uint32_t range)
{
    const struct replica *r = store__find(c->nodes[node].store, (range_id){range});

    return r == NULL ? 0 : r->id.v;
}

/* A message to a later incarnation buries the earlier one; one to an earlier incarnation is late. */
TEST(corners, incarnations_of_a_replica)
{
    struct cluster c;
    Dsql__Pb__RaftMsg m;

    cluster_start(&c, 2);
    m = raft_msg(50, 1, 2, RAFT_MSG_VOTE);
    send_raft(&c, 0, 1, &m);
    EXPECT_EQ(2, replica_id_on(&c, 1, 50));
    m = raft_msg(50, 1, 5, RAFT_MSG_HEARTBEAT);
    send_raft(&c, 0, 1, &m);
    EXPECT_EQ(5, replica_id_on(&c, 1, 50));
    m = raft_msg(50, 1, 2, RAFT_MSG_APP);
    send_raft(&c, 0, 1, &m);
    EXPECT_EQ(5, replica_id_on(&c, 1, 50));
    /* Answers, snapshots, nobody and nothing bring no replica to life. */
    m = raft_msg(51, 1, 2, RAFT_MSG_APP_RESP);
    send_raft(&c, 0, 1, &m);
    m = raft_msg(51, 1, 2, RAFT_MSG_SNAP);
    send_raft(&c, 0, 1, &m);
    m = raft_msg(51, 1, 0, RAFT_MSG_APP);
    send_raft(&c, 0, 1, &m);
    m = raft_msg(51, 1, 2, RAFT_MSG_APP);
    m.type = 77;
    send_raft(&c, 0, 1, &m);
    m.type = RANGE_MSG_MEMBER;
    send_raft(&c, 0, 1, &m);
    EXPECT_EQ(0, replica_id_on(&c, 1, 51));
    m = raft_msg(0, 1, 2, RAFT_MSG_APP);
    send_raft(&c, 0, 1, &m);
    EXPECT_EQ(0, replica_id_on(&c, 1, 0));
    cluster_stop(&c);
}

/* Entries that the block does not hold. */
TEST(corners, damaged_raft_messages_are_dropped)
{
    struct cluster c;
    Dsql__Pb__RaftMsg m;

    cluster_start(&c, 2);
    m = raft_msg(50, 1, 2, RAFT_MSG_APP);
    m.entries_count = 3;
    send_raft(&c, 0, 1, &m);
    EXPECT_EQ(0, replica_id_on(&c, 1, 50));
    m.block_bytes = 100;
    send_raft(&c, 0, 1, &m);
    EXPECT_EQ(0, replica_id_on(&c, 1, 50));
    m.entries_count = UINT32_MAX;
    m.block_bytes = UINT32_MAX;
    send_raft(&c, 0, 1, &m);
    EXPECT_EQ(0, replica_id_on(&c, 1, 50));
    cluster_stop(&c);
}

/* An empty replica that nobody knows any more asks who called it to life. */
TEST(corners, an_empty_replica_that_was_dropped_goes)
{
    struct cluster c;
    Dsql__Pb__RaftMsg m;

    EXPECT_TRUE(voters(&c, 3, 3));
    EXPECT_EQ(STATUS_OK, cluster_remove(&c, 0, 2));
    EXPECT_EQ(STATUS_OK, cluster_add_voter(&c, 0, 2));
    EXPECT_EQ(STATUS_OK, cluster_remove(&c, 0, 2));
    cluster_run_ms(&c, 500);
    EXPECT_FALSE(cluster_has_replica(&c, 2));
    /* Id 5 was never given out: the leader does not know better yet. */
    m = raft_msg(RANGE_FIRST_ID, 1, 5, RAFT_MSG_HEARTBEAT);
    send_raft(&c, 0, 2, &m);
    EXPECT_EQ(5, replica_id_on(&c, 2, RANGE_FIRST_ID));
    cluster_run_ms(&c, 13000);
    EXPECT_EQ(5, replica_id_on(&c, 2, RANGE_FIRST_ID));
    EXPECT_EQ(STATUS_OK, cluster_add_voter(&c, 0, 2)); /* Takes id 5 and fills it. */
    EXPECT_EQ(STATUS_OK, cluster_remove(&c, 0, 2));
    cluster_run_ms(&c, 500);
    EXPECT_FALSE(cluster_has_replica(&c, 2));
    cluster_stop(&c);
}

/* A demotion that stopped half way is turned round by adding the replica again. */
TEST(corners, a_demoted_voter_comes_back)
{
    struct cluster c;
    struct range_desc d;
    struct arena arena;

    EXPECT_TRUE(voters(&c, 3, 3));
    arena_init(&arena, 0);
    /* As a leader that died in between would have left it: the same on all replicas. */
    for (uint32_t i = 0; i < 3; i++) {
        struct raft_conf conf;

        EXPECT_OK(range_desc_dup(&arena, &replica_of(&c, i)->desc, &d));
        d.replicas[2].type = RANGE_VOTER_DEMOTING;
        EXPECT_OK(replica__set_desc(replica_of(&c, i), &d));
        range_desc_conf(&d, &conf);
        shard_enter(c.nodes[i].shard);
        raft_apply_conf(replica_of(&c, i)->raft, &conf);
        shard_leave(c.nodes[i].shard);
    }
    EXPECT_EQ(STATUS_INVALID, cluster_remove(&c, 0, 1));
    EXPECT_EQ(STATUS_OK, cluster_add_voter(&c, 0, 2));
    EXPECT_EQ(3, cluster_voters(&c, 0));
    arena_deinit(&arena);
    cluster_stop(&c);
}

TEST(corners, a_range_has_a_limit_of_replicas)
{
    struct cluster c;
    struct range_desc d;
    struct arena arena;

    EXPECT_TRUE(voters(&c, 3, 2));
    arena_init(&arena, 0);
    EXPECT_OK(range_desc_dup(&arena, &replica_of(&c, 0)->desc, &d));
    while (d.replicas_count < RAFT_PEERS_MAX) {
        d.replicas[d.replicas_count] = (struct range_replica){
            {90}, {90 + d.replicas_count}, {d.next_replica++}, RANGE_NON_VOTER};
        d.replicas_count++;
    }
    EXPECT_OK(replica__set_desc(replica_of(&c, 0), &d));
    EXPECT_EQ(STATUS_INVALID, cluster_add_voter(&c, 0, 2));
    arena_deinit(&arena);
    cluster_stop(&c);
}

/* ---- snapshots ----------------------------------------------------------------------------------- */

static bool hold_snapshots(void *ctx, const struct cluster_frame *f)
{
    UNUSED(ctx);
    return f->type != RPC_TYPE_SNAPSHOT;
}

static void stop_fiber(void *arg)
{
    struct cluster_node *n = arg;

    store_stop(n->store);
    n->up = false;
}

/* A chunk that nobody answers would keep the store for 20 s. */
TEST(corners, a_stream_under_way_is_cut_when_the_store_stops)
{
    struct cluster c;
    struct cluster_call call;

    EXPECT_TRUE(voters(&c, 3, 1));
    c.filter = hold_snapshots;
    call = (struct cluster_call){
        .node = &c.nodes[0], .kind = CLUSTER_ADD_VOTER, .target = 2, .timeout_ms = 60000};
    cluster_call_start(&call);
    cluster_run_ms(&c, 1000);
    EXPECT_FALSE(list_empty(&replica_of(&c, 0)->outgoing));
    EXPECT_OK(fiber_spawn(c.nodes[0].shard, "stop", stop_fiber, &c.nodes[0]));
    cluster_run_ms(&c, 20);
    EXPECT_FALSE(c.nodes[0].up);
    EXPECT_TRUE(call.done);
    cluster_call_end(&call);
    shard_enter(c.nodes[0].shard);
    store_destroy(c.nodes[0].store);
    rpc_destroy(c.nodes[0].rpc);
    shard_leave(c.nodes[0].shard);
    cluster_stop(&c);
}

static bool lose_first_chunk(void *ctx, const struct cluster_frame *f)
{
    return f->type != RPC_TYPE_SNAPSHOT || (*(uint32_t *)ctx)++ > 0;
}

/* The first stream breaks; the peer must not be forgotten. */
TEST(corners, a_failed_stream_is_tried_again)
{
    struct cluster c;
    struct cluster_call call;
    uint32_t chunks = 0;

    EXPECT_TRUE(voters(&c, 3, 1));
    c.filter = lose_first_chunk;
    c.filter_ctx = &chunks;
    call = (struct cluster_call){
        .node = &c.nodes[0], .kind = CLUSTER_ADD_VOTER, .target = 2, .timeout_ms = 60000};
    cluster_call_start(&call);
    EXPECT_TRUE(cluster_call_wait(&call, 25000));
    EXPECT_OK(call.st);
    EXPECT_TRUE(chunks > 1);
    cluster_call_end(&call);
    cluster_stop(&c);
}

/* One that could not even start is reported as failed: the core asks again. */
TEST(corners, a_stream_that_does_not_start_is_reported)
{
    struct cluster c;
    struct raft_progress pr;
    struct replica *r = NULL;

    EXPECT_TRUE(voters(&c, 3, 3));
    r = replica_of(&c, 0);
    shard_enter(c.nodes[0].shard);
    snapshot__send(r, (replica_id){99});
    shard_leave(c.nodes[0].shard);
    EXPECT_TRUE(list_empty(&r->outgoing));
    EXPECT_TRUE(raft_get_progress(r->raft, r->desc.replicas[1].id, &pr));
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, key, "v2"));
    cluster_stop(&c);
}

/* ---- the simulator's eyes ------------------------------------------------------------------------ */

struct seen {
    uint32_t leaders;
    uint32_t leases;
    uint32_t served;
    uint32_t applied;
    uint32_t votes;
};

static void saw_leader(void *ctx, store_id s, range_id r, uint64_t term)
{
    UNUSED(s);
    UNUSED(r);
    UNUSED(term);
    ((struct seen *)ctx)->leaders++;
}

static void saw_lease(void *ctx, store_id s, range_id r, uint64_t term, struct hts start_ts)
{
    UNUSED(start_ts);
    UNUSED(s);
    UNUSED(r);
    UNUSED(term);
    ((struct seen *)ctx)->leases++;
}

static void saw_served(void *ctx, store_id s, range_id r, uint64_t term, struct hts need)
{
    UNUSED(need);
    UNUSED(s);
    UNUSED(r);
    UNUSED(term);
    ((struct seen *)ctx)->served++;
}

static void saw_applied(void *ctx, store_id s, range_id r, uint64_t index, uint64_t term,
                        struct bytes command)
{
    UNUSED(s);
    UNUSED(r);
    UNUSED(index);
    UNUSED(term);
    UNUSED(command);
    ((struct seen *)ctx)->applied++;
}

static void saw_vote(void *ctx, store_id s, range_id r, uint64_t term, replica_id vote)
{
    UNUSED(s);
    UNUSED(r);
    UNUSED(term);
    UNUSED(vote);
    ((struct seen *)ctx)->votes++;
}

TEST(corners, probes_see_elections_leases_reads_and_commands)
{
    struct cluster c;
    struct seen seen = {0};
    const struct store_probe probe = {.ctx = &seen,
                                      .became_leader = saw_leader,
                                      .served = saw_served,
                                      .lease_started = saw_lease,
                                      .applied = saw_applied,
                                      .voted = saw_vote};
    enum status_code code = STATUS_OK;

    EXPECT_TRUE(voters(&c, 3, 3));
    for (int i = 0; i < 3; i++) {
        store_set_probe(c.nodes[i].store, &probe);
    }
    EXPECT_STREQ("v1", cluster_get(&c, 0, key, &code));
    EXPECT_TRUE(seen.served > 0);
    EXPECT_EQ(STATUS_OK, cluster_transfer(&c, 0, 1));
    cluster_run_ms(&c, 500);
    EXPECT_EQ(1, seen.leaders);
    EXPECT_EQ(1, seen.leases);
    EXPECT_TRUE(seen.votes >= 2);
    EXPECT_TRUE(seen.applied >= 6); /* Revocation and start, on three. */
    cluster_stop(&c);
}

/* ---- giving up ----------------------------------------------------------------------------------- */

/* A writer that waits in vain for another one has written nothing, and says so. */
TEST(corners, a_writer_that_waits_too_long_has_written_nothing)
{
    struct cluster c;
    struct cluster_call first = {
        .one = {.op = RANGE_OP_PUT, .key = BYTES_LIT("\x88k\x88"), .value = BYTES_LIT("first")}};
    struct cluster_call second = {
        .one = {.op = RANGE_OP_PUT, .key = BYTES_LIT("\x88k\x88"), .value = BYTES_LIT("second")},
        .timeout_ms = 50};
    enum status_code code = STATUS_OK;

    EXPECT_TRUE(voters(&c, 1, 1));
    first.node = &c.nodes[0];
    second.node = &c.nodes[0];
    fake_world_hold_jobs(c.world, true);
    cluster_call_start(&first);
    cluster_run_ms(&c, 1);
    cluster_call_start(&second);
    EXPECT_TRUE(cluster_call_wait(&second, 100));
    EXPECT_CODE(STATUS_TIMEOUT, second.st);
    cluster_call_end(&second);
    fake_world_hold_jobs(c.world, false);
    EXPECT_TRUE(cluster_call_wait(&first, 100));
    EXPECT_OK(first.st);
    cluster_call_end(&first);
    EXPECT_STREQ("first", cluster_get(&c, 0, key, &code));
    cluster_stop(&c);
}

struct stopping {
    struct cluster_node *node;
    struct fiber *fiber;
    bool done;
};

static void patient_stop(void *arg)
{
    struct stopping *s = arg;

    s->fiber = fiber_current();
    store_stop(s->node->store);
    s->done = true;
}

/* In a crash all fibers are cancelled: who waits for the last write must not spin. */
TEST(corners, stopping_ends_when_its_fiber_is_cancelled)
{
    struct cluster c;
    struct cluster_call put = {
        .one = {.op = RANGE_OP_PUT, .key = BYTES_LIT("\x88k\x88"), .value = BYTES_LIT("v")}};
    struct stopping first;
    struct stopping second;

    EXPECT_TRUE(voters(&c, 1, 1));
    put.node = &c.nodes[0];
    first = (struct stopping){.node = &c.nodes[0]};
    second = first;
    fake_world_hold_jobs(c.world, true);
    cluster_call_start(&put);
    cluster_run_ms(&c, 1);
    EXPECT_OK(fiber_spawn(c.nodes[0].shard, "stop", patient_stop, &first));
    cluster_run_ms(&c, 10);
    EXPECT_FALSE(first.done);
    fiber_cancel(first.fiber);
    cluster_run_ms(&c, 1);
    EXPECT_TRUE(first.done);
    EXPECT_TRUE(put.done);
    EXPECT_CODE(STATUS_AMBIGUOUS, put.st);
    cluster_call_end(&put);
    fake_world_hold_jobs(c.world, false);
    EXPECT_OK(fiber_spawn(c.nodes[0].shard, "stop", patient_stop, &second));
    cluster_run_ms(&c, 10);
    EXPECT_TRUE(second.done);
    cluster_stop(&c);
}

/* A store that stops has nothing to say to anybody. */
TEST(corners, a_stopped_store_refuses_everything)
{
    struct cluster c;
    struct stopping stop;
    enum status_code code = STATUS_OK;

    EXPECT_TRUE(voters(&c, 2, 2));
    stop = (struct stopping){.node = &c.nodes[0]};
    EXPECT_OK(fiber_spawn(c.nodes[0].shard, "stop", patient_stop, &stop));
    cluster_run_ms(&c, 10);
    EXPECT_TRUE(stop.done);
    EXPECT_TRUE(cluster_get(&c, 0, key, &code) == NULL);
    EXPECT_EQ(STATUS_RANGE_NOT_FOUND, code);
    EXPECT_EQ(STATUS_NOT_LEADER, cluster_transfer(&c, 0, 1));
    EXPECT_EQ(STATUS_NOT_LEADER, cluster_add_voter(&c, 0, 1));
    cluster_run_ms(&c, 3000); /* Messages of the other one are dropped. */
    cluster_stop(&c);
}
