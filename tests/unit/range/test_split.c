/* Ranges that become two. */
#include "node/base/invariant.h"
#include "node/range/internal.h"
#include "tests/unit/range/topology.h"

#define K(c) "\x88" c "\x88"

static bool voters(struct cluster *c, uint32_t nodes, uint32_t count)
{
    bool ok = true;

    cluster_start(c, nodes);
    for (uint32_t i = 1; i < count; i++) {
        ok = ok && cluster_add_voter(c, 0, i) == STATUS_OK;
    }
    return ok;
}

static void put_letters(struct cluster *c)
{
    for (char l = 'a'; l <= 'j'; l++) {
        const char key[] = {(char)0x88, l, (char)0x88, '\0'};
        const char value[] = {l, '\0'};

        EXPECT_EQ(STATUS_OK, topo_put(c, key, value));
    }
}

static void expect_letters(struct cluster *c)
{
    for (char l = 'a'; l <= 'j'; l++) {
        const char key[] = {(char)0x88, l, (char)0x88, '\0'};
        const char value[] = {l, '\0'};
        enum status_code code = STATUS_OK;

        EXPECT_STREQ(value, topo_get(c, key, &code));
    }
}

static struct replica *at(struct cluster *c, uint32_t node, const char *key)
{
    return store__find_key(c->nodes[node].store, bytes_str(key));
}

TEST(split, both_halves_serve_what_the_whole_held)
{
    struct cluster c;
    uint64_t left = 0;
    uint64_t right = 0;

    EXPECT_TRUE(voters(&c, 1, 1));
    put_letters(&c);
    EXPECT_EQ(STATUS_OK, topo_split(&c, K("e")));
    EXPECT_EQ(0, topo_wait_leads(&c, K("d"), &left));
    EXPECT_EQ(0, topo_wait_leads(&c, K("e"), &right));
    EXPECT_EQ(1, left);
    EXPECT_EQ(2, right);
    expect_letters(&c);
    EXPECT_TRUE(topo_settles(&c, 2000));
    EXPECT_EQ(2, topo_ranges(&c));
    EXPECT_TRUE(topo_index_is_right(&c));
    EXPECT_TRUE(topo_counts_are_right(&c));
    EXPECT_EQ(2, at(&c, 0, K("a"))->desc.generation);
    EXPECT_EQ(2, at(&c, 0, K("e"))->desc.generation);
    EXPECT_TRUE(hts_less(HTS_ZERO, at(&c, 0, K("e"))->applied.floor));
    cluster_stop(&c);
}

TEST(split, on_every_store_and_over_a_restart_of_all)
{
    struct cluster c;

    EXPECT_TRUE(voters(&c, 3, 3));
    put_letters(&c);
    EXPECT_EQ(STATUS_OK, topo_split(&c, K("e")));
    EXPECT_EQ(STATUS_OK, topo_split(&c, K("h")));
    EXPECT_EQ(STATUS_OK, topo_put(&c, K("i"), "i"));
    EXPECT_TRUE(topo_settles(&c, 3000));
    EXPECT_EQ(3, topo_ranges(&c));
    for (uint32_t i = 0; i < 3; i++) {
        cluster_crash(&c, i, 0);
    }
    for (uint32_t i = 0; i < 3; i++) {
        cluster_restart(&c, i);
    }
    EXPECT_TRUE(topo_settles(&c, 15000));
    EXPECT_EQ(3, topo_ranges(&c));
    EXPECT_TRUE(topo_index_is_right(&c));
    EXPECT_TRUE(topo_counts_are_right(&c));
    expect_letters(&c);
    cluster_stop(&c);
}

TEST(split, what_cannot_be_split_is_refused)
{
    struct cluster c;
    static char far[10000];

    EXPECT_TRUE(voters(&c, 2, 2));
    EXPECT_EQ(STATUS_INVALID, topo_split(&c, "\x04"));
    EXPECT_EQ(STATUS_INVALID, topo_split(&c, "\x04zz"));
    memset(far, 0x88, sizeof(far) - 1);
    EXPECT_EQ(STATUS_INVALID, topo_split(&c, far));
    EXPECT_EQ(STATUS_OK, topo_split(&c, K("e")));
    EXPECT_EQ(STATUS_INVALID, topo_split(&c, K("e"))); /* It starts there. */
    {
        struct cluster_call call = {
            .node = &c.nodes[1], .kind = CLUSTER_SPLIT, .key = BYTES_LIT("\x88w\x88")};

        cluster_call_start(&call);
        EXPECT_TRUE(cluster_call_wait(&call, 1000));
        EXPECT_CODE(STATUS_NOT_LEADER, call.st);
        cluster_call_end(&call);
        call = (struct cluster_call){
            .node = &c.nodes[0], .kind = CLUSTER_SPLIT, .key = BYTES_LIT("\x88w\x88")};
        cluster_call_start(&call);
        EXPECT_TRUE(cluster_call_wait(&call, 1000));
        EXPECT_CODE(STATUS_INVALID, call.st); /* Of the first range no more. */
        cluster_call_end(&call);
    }
    EXPECT_EQ(2, topo_ranges(&c));
    cluster_stop(&c);
}

/* The index's own keys may be split, in meta2 and between its levels. */
TEST(split, the_index_is_split_as_well)
{
    struct cluster c;
    static const char *const keys[] = {K("e"),
                                       "\x06",
                                       "\x05\x88"
                                       "c",
                                       "\x05",
                                       "\x05\x88"
                                       "g",
                                       K("c"),
                                       K("g"),
                                       K("i")};

    EXPECT_TRUE(voters(&c, 1, 1));
    put_letters(&c);
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        EXPECT_EQ(STATUS_OK, topo_split(&c, keys[i]));
        EXPECT_TRUE(topo_settles(&c, 3000));
    }
    EXPECT_EQ(9, topo_ranges(&c));
    EXPECT_TRUE(topo_index_is_right(&c));
    expect_letters(&c);
    cluster_stop(&c);
}

/* Requests that come while the range drains wait, and are served by the half that has their key. */
TEST(split, requests_wait_and_go_on)
{
    struct cluster c;
    struct cluster_call calls[16];
    struct cluster_call split;

    EXPECT_TRUE(voters(&c, 3, 3));
    put_letters(&c);
    c.latency_ms = 5;
    split =
        (struct cluster_call){.node = &c.nodes[0], .kind = CLUSTER_SPLIT, .key = BYTES_LIT(K("e"))};
    cluster_call_start(&split);
    for (int i = 0; i < 16; i++) {
        static const char *const keys[] = {K("a"), K("i")};

        calls[i] = (struct cluster_call){.node = &c.nodes[0],
                                         .kind = CLUSTER_SEND,
                                         .one = {.op = i < 8 ? RANGE_OP_PUT : RANGE_OP_GET,
                                                 .key = bytes_str(keys[i % 2]),
                                                 .value = i < 8 ? BYTES_LIT("x") : BYTES_EMPTY}};
        cluster_call_start(&calls[i]);
        cluster_run_ms(&c, 3);
    }
    EXPECT_TRUE(cluster_call_wait(&split, 3000));
    EXPECT_OK(split.st);
    cluster_call_end(&split);
    for (int i = 0; i < 16; i++) {
        EXPECT_TRUE(cluster_call_wait(&calls[i], 3000));
        if (calls[i].st.code != STATUS_RANGE_MISMATCH) { /* It waited at the left half. */
            EXPECT_OK(calls[i].st);
        } else {
            EXPECT_EQ(1, i % 2);
            EXPECT_EQ(2, calls[i].result.descs_count); /* It was told where to go. */
        }
        cluster_call_end(&calls[i]);
    }
    c.latency_ms = 0;
    EXPECT_TRUE(topo_settles(&c, 3000));
    cluster_stop(&c);
}

/* The leaseholder's power goes at any moment: both halves exist, or the whole does. */
TEST(split, a_crash_at_any_moment)
{
    for (uint64_t ms = 0; ms < 40; ms += 3) {
        struct cluster c;
        struct cluster_call call;
        uint32_t ranges = 0;

        EXPECT_TRUE(voters(&c, 3, 3));
        put_letters(&c);
        c.latency_ms = 2;
        call = (struct cluster_call){
            .node = &c.nodes[0], .kind = CLUSTER_SPLIT, .key = BYTES_LIT(K("e"))};
        cluster_call_start(&call);
        cluster_run_ms(&c, ms);
        cluster_crash(&c, 0, (uint32_t)(ms % 3));
        c.latency_ms = 0;
        cluster_call_wait(&call, 1000);
        cluster_call_end(&call);
        EXPECT_TRUE(topo_settles(&c, 15000));
        cluster_restart(&c, 0);
        EXPECT_TRUE(topo_settles(&c, 15000));
        ranges = topo_ranges(&c);
        EXPECT_TRUE(ranges == 1 || ranges == 2);
        EXPECT_TRUE(topo_index_is_right(&c));
        EXPECT_TRUE(topo_counts_are_right(&c));
        expect_letters(&c);
        cluster_stop(&c);
    }
}

/* A follower's power goes: it applies the split again, or finds both halves. */
TEST(split, a_follower_crashes_at_any_moment)
{
    for (uint64_t ms = 0; ms < 40; ms += 3) {
        struct cluster c;
        struct cluster_call call;

        EXPECT_TRUE(voters(&c, 3, 3));
        put_letters(&c);
        c.latency_ms = 2;
        call = (struct cluster_call){
            .node = &c.nodes[0], .kind = CLUSTER_SPLIT, .key = BYTES_LIT(K("e"))};
        cluster_call_start(&call);
        cluster_run_ms(&c, ms);
        cluster_crash(&c, 2, (uint32_t)(ms % 4));
        c.latency_ms = 0;
        EXPECT_TRUE(cluster_call_wait(&call, 9000));
        EXPECT_OK(call.st);
        cluster_call_end(&call);
        cluster_restart(&c, 2);
        EXPECT_TRUE(topo_settles(&c, 15000));
        EXPECT_EQ(2, topo_ranges(&c));
        expect_letters(&c);
        cluster_stop(&c);
    }
}

/* Peers of the right half vote before they know of the split: their promise is kept by the replica that the
 * split makes. */
TEST(split, a_replica_that_messages_made_becomes_the_right_half)
{
    struct cluster c;
    struct env *env = NULL;
    uint64_t term = 0;

    EXPECT_TRUE(voters(&c, 3, 3));
    put_letters(&c);
    env = shard_env(c.nodes[2].shard);
    fake_env_hold(env, FAKE_HOLD_JOBS); /* It hears everything and writes nothing. */
    EXPECT_EQ(STATUS_OK, topo_split(&c, K("e")));
    cluster_run_ms(&c, 600);
    EXPECT_TRUE(store__find(c.nodes[2].store, (range_id){2}) != NULL);
    EXPECT_EQ(REPLICA_UNINIT, store__find(c.nodes[2].store, (range_id){2})->life);
    term = raft_get_state(store__find(c.nodes[2].store, (range_id){2})->raft).term;
    fake_env_hold(env, FAKE_HOLD_NOTHING);
    EXPECT_TRUE(topo_settles(&c, 10000));
    EXPECT_TRUE(raft_get_state(at(&c, 2, K("e"))->raft).term >= term);
    expect_letters(&c);
    cluster_stop(&c);
}

/* A store that slept through the split and through the log gets each half as a snapshot. */
TEST(split, a_store_that_was_away_gets_both_halves)
{
    struct cluster c;
    static char value[1000];

    EXPECT_TRUE(voters(&c, 3, 3));
    put_letters(&c);
    for (int i = 0; i < 3; i++) {
        c.nodes[i].store->o.log_bytes_max = 4000;
    }
    c.nodes[2].cut = true;
    cluster_run_ms(&c, 4000);
    EXPECT_EQ(STATUS_OK, topo_split(&c, K("e")));
    memset(value, 'v', 200);
    c.latency_ms = 10; /* The leaders are busy when ticks come by. */
    for (int i = 0; i < 60; i++) {
        EXPECT_EQ(STATUS_OK, topo_put(&c, K("aa"), value));
        EXPECT_EQ(STATUS_OK, topo_put(&c, K("ii"), value));
    }
    c.latency_ms = 0;
    cluster_run_ms(&c, 1000);
    EXPECT_TRUE(at(&c, 0, K("a"))->truncated_index > 20);
    c.nodes[2].cut = false;
    EXPECT_TRUE(topo_settles(&c, 20000));
    expect_letters(&c);
    EXPECT_EQ(0, c.nodes[2].fatal);
    cluster_stop(&c);
}

/* The right half moved away from a store before that store knew of the split. */
TEST(split, a_right_half_that_was_removed_already)
{
    struct cluster c;

    EXPECT_TRUE(voters(&c, 4, 4));
    put_letters(&c);
    c.nodes[3].cut = true;
    EXPECT_EQ(STATUS_OK, topo_split(&c, K("e")));
    EXPECT_TRUE(topo_wait_leads(&c, K("e"), NULL) >= 0);
    EXPECT_TRUE(topo_settles(&c, 5000));
    EXPECT_EQ(STATUS_OK, topo_remove(&c, K("e"), 3));
    c.nodes[3].cut = false;
    EXPECT_TRUE(topo_settles(&c, 60000));
    EXPECT_TRUE(at(&c, 3, K("a")) != NULL);
    EXPECT_TRUE(at(&c, 3, K("e")) == NULL);
    expect_letters(&c);
    cluster_stop(&c);
}

MAYYIELD static void find_key_fiber(void *arg)
{
    struct cluster_call *call = arg;

    call->st = store_split_key(call->node->store, (range_id){1}, &call->arena, &call->key);
    call->done = true;
}

static struct status split_key(struct cluster *c, struct cluster_call *call)
{
    *call = (struct cluster_call){.node = &c->nodes[0]};
    arena_init(&call->arena, 0);
    INVARIANT(status_ok(fiber_spawn(c->nodes[0].shard, "key", find_key_fiber, call)));
    INVARIANT(cluster_call_wait(call, 1000));
    return call->st;
}

TEST(split, a_key_in_the_middle_of_the_data)
{
    struct cluster c;
    struct cluster_call call;
    static char value[200];

    EXPECT_TRUE(voters(&c, 1, 1));
    memset(value, 'v', sizeof(value) - 1);
    for (char l = 'a'; l <= 'y'; l++) {
        const char key[] = {(char)0x88, l, (char)0x88, '\0'};

        EXPECT_EQ(STATUS_OK, topo_put(&c, key, value));
    }
    EXPECT_OK(split_key(&c, &call));
    EXPECT_TRUE(bytes_cmp(BYTES_LIT(K("j")), call.key) < 0);
    EXPECT_TRUE(bytes_cmp(call.key, BYTES_LIT(K("p"))) < 0);
    cluster_call_end(&call);
    cluster_stop(&c);
}

TEST(split, meta1_is_never_in_the_middle)
{
    struct cluster c;
    struct cluster_call call;

    EXPECT_TRUE(voters(&c, 1, 1));
    if (status_ok(split_key(&c, &call))) {
        EXPECT_TRUE(call.key.ptr[0] >= 0x05);
    }
    cluster_call_end(&call);
    cluster_stop(&c);
}
