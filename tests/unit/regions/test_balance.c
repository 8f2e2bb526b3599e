/* Evening out: who gives, who takes, and that it ends. */
#include "node/base/hash.h"
#include "regions/placement/balance.h"
#include "tests/lib/test.h"

#define STORES 9

static void init(struct topology_store stores[STORES], struct topology *t)
{
    static const char *const places[] = {
        "region=us,zone=a", "region=us,zone=b", "region=us,zone=c",
        "region=eu,zone=a", "region=eu,zone=b", "region=eu,zone=c",
        "region=ap,zone=a", "region=ap,zone=b", "region=ap,zone=c"};

    for (uint32_t i = 0; i < STORES; i++) {
        stores[i] = (struct topology_store){.id = {i + 1}, .node = {i + 1}, .load_known = true};
        status_ignore(locality_parse(bytes_str(places[i]), NULL, &stores[i].locality));
    }
    *t = (struct topology){.stores = stores, .count = STORES};
}

TEST(balance, a_replica_moves_to_the_emptiest_store_of_as_good_a_place)
{
    struct topology_store stores[STORES];
    struct topology t;
    const struct placement_voters v = {.stores = {{1}, {4}, {7}}, .count = 3};
    struct placement_step step;

    init(stores, &t);
    for (uint32_t i = 0; i < STORES; i++) {
        stores[i].ranges = 50;
    }
    stores[3].ranges = 100;
    stores[4].ranges = 40;
    stores[1].ranges = 10; /* Emptier, but a second one in us would be less diverse. */
    step = placement_rebalance(&t, &v, (store_id){7});
    EXPECT_EQ(PLACEMENT_REPLACE, step.kind);
    EXPECT_EQ(4, step.remove.v);
    EXPECT_EQ(5, step.add.v);
    stores[4].health = TOPOLOGY_SUSPECT;
    EXPECT_EQ(6, placement_rebalance(&t, &v, (store_id){7}).add.v);
}

TEST(balance, the_leader_and_stores_of_unknown_load_stay)
{
    struct topology_store stores[STORES];
    struct topology t;
    const struct placement_voters v = {.stores = {{1}, {4}, {7}}, .count = 3};

    init(stores, &t);
    stores[0].ranges = 100;
    EXPECT_EQ(PLACEMENT_STAY, placement_rebalance(&t, &v, (store_id){1}).kind);
    EXPECT_EQ(PLACEMENT_REPLACE, placement_rebalance(&t, &v, (store_id){4}).kind);
    stores[0].load_known = false;
    EXPECT_EQ(PLACEMENT_STAY, placement_rebalance(&t, &v, (store_id){4}).kind);
}

/* Every range takes one move at a time: it must come to rest, even, with no diversity lost. */
TEST(balance, many_moves_come_to_rest)
{
    struct topology_store stores[STORES];
    struct topology t;
    struct placement_voters v[90];
    struct rng rng;
    uint32_t moves = 0;
    bool moved = true;

    rng_seed(&rng, 7);
    init(stores, &t);
    for (uint32_t i = 0; i < 90; i++) {
        v[i] = (struct placement_voters){.stores = {{1}, {4}, {7}}, .count = 3};
        stores[0].ranges++;
        stores[3].ranges++;
        stores[6].ranges++;
    }
    for (uint32_t round = 0; round < 2000 && moved; round++) {
        moved = false;
        for (uint32_t i = 0; i < 90; i++) {
            const store_id leader = v[i].stores[rng_below(&rng, 3)];
            const struct placement_step step = placement_rebalance(&t, &v[i], leader);

            if (step.kind != PLACEMENT_REPLACE) {
                continue;
            }
            for (uint32_t k = 0; k < 3; k++) {
                v[i].stores[k] = v[i].stores[k].v == step.remove.v ? step.add : v[i].stores[k];
            }
            stores[step.remove.v - 1].ranges--;
            stores[step.add.v - 1].ranges++;
            moved = true;
            moves++;
        }
    }
    EXPECT_FALSE(moved);
    EXPECT_TRUE(moves < 300);
    for (uint32_t i = 0; i < STORES; i++) {
        EXPECT_TRUE(stores[i].ranges >= 24 && stores[i].ranges <= 37);
    }
}

TEST(balance, leases_follow_load_then_numbers)
{
    struct topology_store stores[STORES];
    struct topology t;
    const struct placement_voters v = {.stores = {{1}, {4}, {7}}, .count = 3};

    init(stores, &t);
    EXPECT_EQ(1, placement_choose_lease(&t, &v, (store_id){1}, 0).v);
    stores[0].leases = 10;
    stores[3].leases = 8;
    stores[6].leases = 2;
    EXPECT_EQ(7, placement_choose_lease(&t, &v, (store_id){1}, 0).v);
    EXPECT_EQ(4, placement_choose_lease(&t, &v, (store_id){4}, 5000).v); /* Load says: stay. */
    stores[3].requests_per_s = 20000;
    stores[0].requests_per_s = 6000;
    EXPECT_EQ(7, placement_choose_lease(&t, &v, (store_id){4}, 5000).v);
    /* A range that is all the load there is has no better place. */
    stores[3].requests_per_s = 5000;
    stores[0].requests_per_s = 0;
    EXPECT_EQ(4, placement_choose_lease(&t, &v, (store_id){4}, 5000).v);
}

/* What a store knows of the others, and to whom it has given since it heard. */
struct view {
    struct topology_store stores[STORES];
    bool given[STORES];
};

static void hear(struct view *v, const struct topology_store *real, uint32_t of)
{
    v->stores[of].ranges = real[of].ranges;
    v->given[of] = false;
}

/* Every store decides by old news, one move with each other store until it hears of that again. */
TEST(balance, many_givers_with_old_news_come_to_rest)
{
    static struct view views[STORES];
    struct topology_store real[STORES];
    struct placement_voters v[300];
    struct topology t;
    struct rng rng;
    uint32_t late_moves = 0;

    rng_seed(&rng, 3);
    init(real, &t);
    for (uint32_t i = 0; i < 300; i++) {
        v[i] = (struct placement_voters){.stores = {{1}, {4}, {7}}, .count = 3};
        real[0].ranges++;
        real[3].ranges++;
        real[6].ranges++;
    }
    for (uint32_t s = 0; s < STORES; s++) {
        memcpy(views[s].stores, real, sizeof(real));
    }
    for (uint32_t round = 0; round < 12000; round++) {
        const uint32_t i = (uint32_t)rng_below(&rng, 300);
        const store_id leader = v[i].stores[rng_below(&rng, 3)];
        struct view *mine = &views[leader.v - 1];
        const struct topology seen = {.stores = mine->stores, .count = STORES};
        const struct placement_step step = placement_rebalance(&seen, &v[i], leader);

        if (step.kind == PLACEMENT_REPLACE && !mine->given[step.add.v - 1] &&
            !mine->given[step.remove.v - 1]) {
            for (uint32_t k = 0; k < 3; k++) {
                v[i].stores[k] = v[i].stores[k].v == step.remove.v ? step.add : v[i].stores[k];
            }
            real[step.remove.v - 1].ranges--;
            real[step.add.v - 1].ranges++;
            mine->given[step.add.v - 1] = true;
            mine->given[step.remove.v - 1] = true;
            late_moves += round > 10000 ? 1 : 0;
        }
        hear(&views[rng_below(&rng, STORES)], real, (uint32_t)rng_below(&rng, STORES));
        hear(mine, real, leader.v - 1);
    }
    EXPECT_EQ(0, late_moves);
    for (uint32_t i = 0; i < STORES; i++) {
        EXPECT_TRUE(real[i].ranges >= 85 && real[i].ranges <= 118);
    }
}
