/* Ranges that become one again. */
#include "node/base/hash.h"
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

/* Two ranges with a boundary at e, both led by node 0. */
static bool halves(struct cluster *c, uint32_t nodes)
{
    bool ok = voters(c, nodes, nodes);

    put_letters(c);
    ok = ok && topo_split(c, K("e")) == STATUS_OK && topo_settles(c, 5000);
    if (ok && topo_leads(c, K("a"), NULL) != 0) {
        ok = topo_transfer(c, K("a"), 0) == STATUS_OK;
    }
    if (ok && topo_leads(c, K("e"), NULL) != 0) {
        ok = topo_transfer(c, K("e"), 0) == STATUS_OK;
    }
    return ok && topo_wait_leads(c, K("a"), NULL) == 0 && topo_wait_leads(c, K("e"), NULL) == 0;
}

TEST(merge, the_left_range_takes_over_the_right_one)
{
    struct cluster c;

    EXPECT_TRUE(halves(&c, 3));
    EXPECT_EQ(STATUS_OK, topo_put(&c, K("i"), "i"));
    EXPECT_EQ(STATUS_OK, topo_merge(&c, K("a")));
    EXPECT_TRUE(topo_settles(&c, 5000));
    EXPECT_EQ(1, topo_ranges(&c));
    EXPECT_EQ(1, at(&c, 0, K("i"))->range.v);
    EXPECT_TRUE(topo_index_is_right(&c));
    EXPECT_TRUE(topo_counts_are_right(&c));
    expect_letters(&c);
    for (uint32_t i = 0; i < 3; i++) {
        EXPECT_TRUE(replica__buried(c.nodes[i].store, (range_id){2}, (replica_id){1000}));
        cluster_crash(&c, i, 0);
    }
    for (uint32_t i = 0; i < 3; i++) {
        cluster_restart(&c, i);
    }
    EXPECT_TRUE(topo_settles(&c, 15000));
    EXPECT_EQ(1, topo_ranges(&c));
    EXPECT_TRUE(topo_counts_are_right(&c));
    expect_letters(&c);
    cluster_stop(&c);
}

/* What others have read of the right side is below whatever is written there later. */
TEST(merge, the_floor_rises_to_the_freeze)
{
    struct cluster c;
    struct hts before;

    EXPECT_TRUE(halves(&c, 1));
    before = hclock_hts(hlc_now(&c.nodes[0].hlc));
    EXPECT_EQ(STATUS_OK, topo_merge(&c, K("a")));
    EXPECT_TRUE(hts_less(before, at(&c, 0, K("i"))->floor));
    EXPECT_TRUE(hts_less(before, at(&c, 0, K("i"))->applied.floor));
    cluster_stop(&c);
}

TEST(merge, split_and_merged_again_and_again)
{
    struct cluster c;

    EXPECT_TRUE(halves(&c, 3));
    for (int i = 0; i < 5; i++) {
        EXPECT_EQ(STATUS_OK, topo_merge(&c, K("a")));
        EXPECT_EQ(STATUS_OK, topo_split(&c, K("e")));
        EXPECT_TRUE(topo_settles(&c, 5000));
        EXPECT_EQ(2, topo_ranges(&c));
        if (topo_leads(&c, K("e"), NULL) != 0) {
            EXPECT_EQ(STATUS_OK, topo_transfer(&c, K("e"), 0));
        }
    }
    EXPECT_TRUE(topo_index_is_right(&c));
    EXPECT_TRUE(topo_counts_are_right(&c));
    expect_letters(&c);
    cluster_stop(&c);
}

/* The index's own boundaries go the same way. */
TEST(merge, ranges_of_the_index)
{
    struct cluster c;
    static const char *const keys[] = {"\x05",
                                       "\x05\x88"
                                       "e",
                                       "\x06", K("c")};

    EXPECT_TRUE(voters(&c, 1, 1));
    put_letters(&c);
    for (size_t i = 0; i < 4; i++) {
        EXPECT_EQ(STATUS_OK, topo_split(&c, keys[i]));
        EXPECT_TRUE(topo_settles(&c, 3000));
    }
    EXPECT_EQ(5, topo_ranges(&c));
    while (topo_ranges(&c) > 1) {
        EXPECT_EQ(STATUS_OK, topo_merge(&c, "\x04"));
        EXPECT_TRUE(topo_settles(&c, 3000));
        EXPECT_TRUE(topo_index_is_right(&c));
    }
    expect_letters(&c);
    cluster_stop(&c);
}

TEST(merge, what_cannot_be_merged_is_refused)
{
    struct cluster c;

    EXPECT_TRUE(halves(&c, 2));
    EXPECT_EQ(STATUS_INVALID, topo_merge(&c, K("e"))); /* The last one. */
    EXPECT_EQ(STATUS_OK, topo_transfer(&c, K("e"), 1));
    EXPECT_TRUE(topo_wait_leads(&c, K("e"), NULL) == 1);
    EXPECT_EQ(STATUS_NOT_LEADER, topo_merge(&c, K("a")));
    EXPECT_EQ(STATUS_OK, topo_transfer(&c, K("e"), 0));
    EXPECT_TRUE(topo_wait_leads(&c, K("e"), NULL) == 0);
    EXPECT_EQ(STATUS_OK, topo_remove(&c, K("e"), 1));
    EXPECT_EQ(STATUS_INVALID, topo_merge(&c, K("a"))); /* Other stores. */
    EXPECT_TRUE(topo_settles(&c, 5000));
    EXPECT_EQ(2, topo_ranges(&c));
    expect_letters(&c);
    cluster_stop(&c);
}

/* One store does not answer: the right side must not stay frozen. */
TEST(merge, one_that_cannot_freeze_everywhere_is_cancelled)
{
    struct cluster c;
    struct cluster_call call;
    uint64_t generation = 0;

    EXPECT_TRUE(halves(&c, 3));
    generation = at(&c, 0, K("a"))->desc.generation;
    c.nodes[2].cut = true;
    call = (struct cluster_call){.node = &c.nodes[0], .kind = CLUSTER_MERGE, .timeout_ms = 1500};
    cluster_call_start(&call);
    EXPECT_TRUE(cluster_call_wait(&call, 8000));
    EXPECT_CODE(STATUS_TIMEOUT, call.st);
    cluster_call_end(&call);
    EXPECT_EQ(generation + 1, at(&c, 0, K("a"))->desc.generation);
    EXPECT_EQ(0, at(&c, 0, K("e"))->applied.freeze.index);
    EXPECT_EQ(STATUS_OK, topo_put(&c, K("i"), "i"));
    c.nodes[2].cut = false;
    EXPECT_TRUE(topo_settles(&c, 15000));
    EXPECT_EQ(2, topo_ranges(&c));
    EXPECT_EQ(STATUS_OK, topo_merge(&c, K("a")));
    EXPECT_TRUE(topo_settles(&c, 5000));
    EXPECT_EQ(1, topo_ranges(&c));
    expect_letters(&c);
    cluster_stop(&c);
}

/* A store that is known to be gone: nothing is frozen at all. */
TEST(merge, needs_all_stores_alive)
{
    struct cluster c;

    EXPECT_TRUE(halves(&c, 3));
    c.nodes[2].cut = true;
    cluster_run_ms(&c, 5000);
    EXPECT_EQ(STATUS_UNAVAILABLE, topo_merge(&c, K("a")));
    EXPECT_EQ(0, at(&c, 0, K("e"))->applied.freeze.index);
    EXPECT_EQ(STATUS_OK, topo_put(&c, K("i"), "i"));
    cluster_stop(&c);
}

/* Without a quorum the range cannot be drained: it does not go on waiting for that. */
TEST(merge, what_cannot_be_drained_is_given_up)
{
    struct cluster c;
    struct cluster_call put;
    struct cluster_call split;

    EXPECT_TRUE(halves(&c, 3));
    c.nodes[1].cut = true;
    c.nodes[2].cut = true;
    put = (struct cluster_call){
        .node = &c.nodes[0],
        .timeout_ms = 500,
        .one = {.op = RANGE_OP_PUT, .key = BYTES_LIT(K("a")), .value = BYTES_LIT("x")}};
    cluster_call_start(&put);
    cluster_run_ms(&c, 1);
    split =
        (struct cluster_call){.node = &c.nodes[0], .kind = CLUSTER_SPLIT, .key = BYTES_LIT(K("c"))};
    cluster_call_start(&split);
    EXPECT_TRUE(cluster_call_wait(&put, 1000));
    EXPECT_TRUE(cluster_call_wait(&split, 6000));
    EXPECT_FALSE(status_ok(split.st));
    EXPECT_FALSE(at(&c, 0, K("a"))->held);
    cluster_call_end(&put);
    cluster_call_end(&split);
    c.nodes[1].cut = false;
    c.nodes[2].cut = false;
    EXPECT_TRUE(topo_settles(&c, 15000));
    cluster_stop(&c);
}

/* Requests for the right side wait, and are told to look elsewhere. */
TEST(merge, requests_wait_for_the_end)
{
    struct cluster c;
    struct cluster_call calls[12];
    struct cluster_call merge;

    EXPECT_TRUE(halves(&c, 3));
    c.latency_ms = 5;
    merge = (struct cluster_call){.node = &c.nodes[0], .kind = CLUSTER_MERGE};
    cluster_call_start(&merge);
    for (int i = 0; i < 12; i++) {
        static const char *const keys[] = {K("a"), K("i")};

        calls[i] = (struct cluster_call){.node = &c.nodes[0],
                                         .kind = CLUSTER_SEND,
                                         .one = {.op = i < 6 ? RANGE_OP_PUT : RANGE_OP_GET,
                                                 .key = bytes_str(keys[i % 2]),
                                                 .value = i < 6 ? BYTES_LIT("x") : BYTES_EMPTY}};
        cluster_call_start(&calls[i]);
        cluster_run_ms(&c, 5);
    }
    EXPECT_TRUE(cluster_call_wait(&merge, 5000));
    EXPECT_OK(merge.st);
    cluster_call_end(&merge);
    for (int i = 0; i < 12; i++) {
        EXPECT_TRUE(cluster_call_wait(&calls[i], 5000));
        EXPECT_OK(calls[i].st);
        cluster_call_end(&calls[i]);
    }
    c.latency_ms = 0;
    EXPECT_TRUE(topo_settles(&c, 3000));
    EXPECT_EQ(1, topo_ranges(&c));
    cluster_stop(&c);
}

static void crash_during_merge(uint32_t node, uint64_t ms)
{
    struct cluster c;
    struct cluster_call call;
    uint32_t ranges = 0;

    EXPECT_TRUE(halves(&c, 3));
    c.latency_ms = 2;
    call = (struct cluster_call){.node = &c.nodes[0], .kind = CLUSTER_MERGE, .timeout_ms = 3000};
    cluster_call_start(&call);
    cluster_run_ms(&c, ms);
    cluster_crash(&c, node, (uint32_t)(ms % 4));
    c.latency_ms = 0;
    EXPECT_TRUE(cluster_call_wait(&call, 11000));
    cluster_call_end(&call);
    EXPECT_TRUE(topo_settles(&c, 20000)); /* The others alone. */
    cluster_restart(&c, node);
    EXPECT_TRUE(topo_settles(&c, 20000));
    ranges = topo_ranges(&c);
    EXPECT_TRUE(ranges == 1 || ranges == 2);
    EXPECT_TRUE(topo_index_is_right(&c));
    EXPECT_TRUE(topo_counts_are_right(&c));
    expect_letters(&c);
    EXPECT_EQ(STATUS_OK, topo_put(&c, K("i"), "new"));
    cluster_stop(&c);
}

TEST(merge, the_leaseholder_crashes_at_any_moment)
{
    for (uint64_t ms = 1; ms < 60; ms += 4) {
        crash_during_merge(0, ms);
    }
}

TEST(merge, a_follower_crashes_at_any_moment)
{
    for (uint64_t ms = 2; ms < 60; ms += 5) {
        crash_during_merge(2, ms);
    }
}

/* All stores lose power: what the log says is done. */
TEST(merge, everybody_crashes_at_any_moment)
{
    for (uint64_t ms = 2; ms < 60; ms += 5) {
        struct cluster c;
        struct cluster_call call;

        EXPECT_TRUE(halves(&c, 3));
        c.latency_ms = 2;
        call = (struct cluster_call){.node = &c.nodes[0], .kind = CLUSTER_MERGE};
        cluster_call_start(&call);
        cluster_run_ms(&c, ms);
        for (uint32_t i = 0; i < 3; i++) {
            cluster_crash(&c, i, (uint32_t)((ms + i) % 3));
        }
        EXPECT_TRUE(cluster_call_wait(&call, 11000));
        cluster_call_end(&call);
        c.latency_ms = 0;
        for (uint32_t i = 0; i < 3; i++) {
            cluster_restart(&c, i);
        }
        EXPECT_TRUE(topo_settles(&c, 25000));
        EXPECT_TRUE(topo_index_is_right(&c));
        EXPECT_TRUE(topo_counts_are_right(&c));
        expect_letters(&c);
        cluster_stop(&c);
    }
}

static bool no_raft_to_2(void *ctx, const struct cluster_frame *f)
{
    UNUSED(ctx);
    return f->type != RPC_TYPE_RAFT || f->to != 2;
}

/* A store that missed the MERGE, and the log behind it, gets the wide range; what it still holds of the
 * right one goes. */
TEST(merge, a_snapshot_subsumes_the_right_side)
{
    struct cluster c;
    struct cluster_call call;
    static char value[1000];

    EXPECT_TRUE(halves(&c, 3));
    for (int i = 0; i < 3; i++) {
        c.nodes[i].store->o.log_bytes_max = 4000;
    }
    call = (struct cluster_call){.node = &c.nodes[0], .kind = CLUSTER_MERGE};
    c.latency_ms = 5;
    cluster_call_start(&call);
    while (at(&c, 2, K("e"))->applied.freeze.index == 0) {
        cluster_run_ms(&c, 1);
        EXPECT_FALSE(call.done);
    }
    c.filter = no_raft_to_2;
    EXPECT_TRUE(cluster_call_wait(&call, 5000));
    EXPECT_OK(call.st);
    cluster_call_end(&call);
    c.latency_ms = 0;
    c.nodes[2].cut = true;
    c.filter = NULL;
    cluster_run_ms(&c, 4000);
    memset(value, 'v', 200);
    c.latency_ms = 10;
    for (int i = 0; i < 80; i++) {
        EXPECT_EQ(STATUS_OK, topo_put(&c, i % 2 == 0 ? K("aa") : K("ii"), value));
    }
    c.latency_ms = 0;
    cluster_run_ms(&c, 1000);
    EXPECT_TRUE(at(&c, 2, K("e"))->range.v == 2);
    c.nodes[2].cut = false;
    EXPECT_TRUE(topo_settles(&c, 30000));
    EXPECT_EQ(1, topo_ranges(&c));
    EXPECT_EQ(1, at(&c, 2, K("i"))->range.v);
    expect_letters(&c);
    cluster_stop(&c);
}

/* The one who asked for the merge is gone: whoever leads the frozen range finds out. */
TEST(merge, a_frozen_range_is_settled_by_its_next_leader)
{
    struct cluster c;
    struct cluster_call call;

    EXPECT_TRUE(halves(&c, 3));
    call = (struct cluster_call){.node = &c.nodes[0], .kind = CLUSTER_MERGE};
    c.latency_ms = 10;
    cluster_call_start(&call);
    while (at(&c, 1, K("e"))->applied.freeze.index == 0) {
        cluster_run_ms(&c, 1);
    }
    cluster_crash(&c, 0, 0);
    c.latency_ms = 0;
    cluster_call_end(&call);
    EXPECT_TRUE(topo_settles(&c, 20000));
    EXPECT_TRUE(topo_ranges(&c) == 1 || topo_ranges(&c) == 2);
    expect_letters(&c);
    EXPECT_EQ(STATUS_OK, topo_put(&c, K("i"), "new"));
    cluster_restart(&c, 0);
    EXPECT_TRUE(topo_settles(&c, 20000));
    cluster_stop(&c);
}

/* ---- everything at random ------------------------------------------------------------------------ */

#define STORM_KEYS 12

struct storm {
    struct cluster c;
    struct rng rng;
    char values[STORM_KEYS][8];
    uint32_t writes;
};

static const char *storm_key(uint32_t i)
{
    static char key[4] = {(char)0x88, 'a', (char)0x88, '\0'};

    key[1] = (char)('a' + i);
    return key;
}

static void storm_write(struct storm *s)
{
    const uint32_t i = (uint32_t)rng_below(&s->rng, STORM_KEYS);
    char value[8];
    enum status_code code = STATUS_OK;

    snprintf(value, sizeof(value), "%u", s->writes++);
    code = topo_put(&s->c, storm_key(i), value);
    if (code == STATUS_OK || code == STATUS_AMBIGUOUS) {
        memcpy(s->values[i], value, sizeof(value));
    }
    if (code == STATUS_AMBIGUOUS) { /* Whatever it is now, it stays. */
        const char *now = topo_get(&s->c, storm_key(i), &code);

        if (now != NULL) {
            snprintf(s->values[i], sizeof(s->values[i]), "%s", now);
        }
    }
}

static void storm_step(struct storm *s)
{
    const char *key = storm_key((uint32_t)rng_below(&s->rng, STORM_KEYS));
    const uint32_t node = (uint32_t)rng_below(&s->rng, 3);

    switch (rng_below(&s->rng, 10)) {
    case 0:
    case 1:
        (void)topo_split(&s->c, key);
        break;
    case 2:
    case 3:
    case 4:
        (void)topo_merge(&s->c, key);
        break;
    case 5:
    case 6:
        (void)topo_transfer(&s->c, key, node);
        break;
    case 7:
        cluster_crash(&s->c, node, (uint32_t)rng_below(&s->rng, 4));
        cluster_run_ms(&s->c, rng_below(&s->rng, 3000));
        cluster_restart(&s->c, node);
        break;
    case 8:
        s->c.nodes[node].cut = true;
        cluster_run_ms(&s->c, rng_below(&s->rng, 3000));
        s->c.nodes[node].cut = false;
        break;
    default:
        s->c.latency_ms = rng_below(&s->rng, 5);
        s->c.reorder = rng_below(&s->rng, 3) == 0;
        break;
    }
}

TEST(merge, a_storm_of_splits_merges_transfers_and_crashes)
{
    for (uint64_t seed = 1; seed <= 6; seed++) {
        static struct storm s;

        s = (struct storm){0};
        EXPECT_TRUE(voters(&s.c, 3, 3));
        rng_seed(&s.rng, seed);
        rng_seed(&s.c.rng, seed);
        for (int i = 0; i < 40; i++) {
            storm_step(&s);
            for (int k = 0; k < 3; k++) {
                storm_write(&s);
            }
        }
        s.c.latency_ms = 0;
        s.c.reorder = false;
        EXPECT_TRUE(topo_settles(&s.c, 60000));
        EXPECT_TRUE(topo_index_is_right(&s.c));
        EXPECT_TRUE(topo_counts_are_right(&s.c));
        for (uint32_t i = 0; i < STORM_KEYS; i++) {
            enum status_code code = STATUS_OK;

            EXPECT_STREQ(s.values[i], topo_get(&s.c, storm_key(i), &code));
        }
        cluster_stop(&s.c);
    }
}
