/* Which nodes exist: rows from anywhere, in any order, any number of times. */
#include "node/base/hash.h"
#include "node/rpc/pb_arena.h"
#include "node/server/registry.h"
#include "tests/lib/test.h"

static struct node_desc row(uint32_t id, uint64_t generation)
{
    struct node_desc d = {.id = {id}, .generation = generation, .stores_count = 2, .pid = id};

    (void)snprintf(d.rpc_address, sizeof(d.rpc_address), "host%u:%u", id, (unsigned)generation);
    (void)snprintf(d.region, sizeof(d.region), "r%u", id % 3);
    d.stores[0].v = 10 * id;
    d.stores[1].v = 10 * id + 1;
    return d;
}

TEST(registry, the_higher_generation_wins)
{
    struct registry r;
    struct node_desc d = row(3, 5);

    registry_init(&r);
    EXPECT_TRUE(registry_merge(&r, &d));
    EXPECT_FALSE(registry_merge(&r, &d));
    d = row(3, 4);
    EXPECT_FALSE(registry_merge(&r, &d));
    EXPECT_EQ(5, registry_find(&r, (node_id){3})->generation);
    d = row(3, 6);
    EXPECT_TRUE(registry_merge(&r, &d));
    EXPECT_STREQ("host3:6", registry_find(&r, (node_id){3})->rpc_address);
    EXPECT_EQ(1, r.count);
    registry_deinit(&r);
}

TEST(registry, impossible_rows_are_no_news)
{
    struct registry r;
    struct node_desc d = row(0, 1);

    registry_init(&r);
    EXPECT_FALSE(registry_merge(&r, &d));
    d = row(1, 1);
    d.stores_count = REGISTRY_STORES_MAX + 1;
    EXPECT_FALSE(registry_merge(&r, &d));
    EXPECT_EQ(0, r.count);
    EXPECT_TRUE(registry_find(&r, (node_id){1}) == NULL);
    EXPECT_TRUE(registry_find_store(&r, (store_id){10}) == NULL);
    registry_deinit(&r);
}

TEST(registry, it_is_full_at_its_limit)
{
    struct registry r;
    struct node_desc d;

    registry_init(&r);
    for (uint32_t i = REGISTRY_NODES_MAX; i >= 1; i--) {
        d = row(i, 1);
        EXPECT_TRUE(registry_merge(&r, &d));
    }
    d = row(REGISTRY_NODES_MAX + 1, 1);
    EXPECT_FALSE(registry_merge(&r, &d));
    d = row(1, 2);
    EXPECT_TRUE(registry_merge(&r, &d));
    for (uint32_t i = 1; i < r.count; i++) {
        EXPECT_TRUE(r.nodes[i - 1].id.v < r.nodes[i].id.v);
    }
    EXPECT_EQ(7, registry_find_store(&r, (store_id){71})->id.v);
    registry_deinit(&r);
}

/* Whoever knows the same has the same digest, however he learnt it. */
TEST(registry, the_digest_depends_on_what_is_known_only)
{
    struct registry a;
    struct registry b;
    struct rng rng;

    rng_seed(&rng, 11);
    registry_init(&a);
    registry_init(&b);
    EXPECT_EQ(a.digest, b.digest);
    for (int i = 0; i < 500; i++) {
        const struct node_desc d = row(1 + (uint32_t)rng_below(&rng, 9), 1 + rng_below(&rng, 9));

        (void)registry_merge(&a, &d);
    }
    for (uint32_t i = 0; i < a.count; i++) {
        EXPECT_TRUE(i == 0 || a.digest != b.digest);
        (void)registry_merge(&b, &a.nodes[a.count - 1 - i]);
    }
    EXPECT_EQ(a.count, b.count);
    EXPECT_TRUE(a.digest == b.digest);
    a.nodes[0].generation++;
    EXPECT_TRUE(registry_merge(&b, &a.nodes[0]));
    EXPECT_TRUE(a.digest != b.digest);
    registry_deinit(&a);
    registry_deinit(&b);
}

TEST(registry, rows_go_over_the_wire)
{
    struct node_desc d = row(4, 9);
    struct node_desc back;
    Dsql__Pb__NodeDesc pb;
    struct arena arena;
    char big[REGISTRY_TEXT_MAX + 2];
    uint32_t stores[REGISTRY_STORES_MAX + 1] = {0};

    arena_init(&arena, 0);
    EXPECT_OK(node_desc_to_pb(&d, &arena, &pb));
    EXPECT_TRUE(node_desc_from_pb(&pb, &back));
    EXPECT_EQ(d.id.v, back.id.v);
    EXPECT_EQ(d.generation, back.generation);
    EXPECT_EQ(d.pid, back.pid);
    EXPECT_STREQ(d.rpc_address, back.rpc_address);
    EXPECT_STREQ(d.sql_address, back.sql_address);
    EXPECT_STREQ(d.http_address, back.http_address);
    EXPECT_STREQ(d.region, back.region);
    EXPECT_STREQ(d.zone, back.zone);
    EXPECT_EQ(d.stores_count, back.stores_count);
    for (uint32_t i = 0; i < d.stores_count; i++) {
        EXPECT_EQ(d.stores[i].v, back.stores[i].v);
    }
    memset(big, 'x', sizeof(big));
    big[REGISTRY_TEXT_MAX + 1] = '\0';
    pb.rpc_address = big;
    EXPECT_FALSE(node_desc_from_pb(&pb, &back));
    pb.rpc_address = big + 1; /* Just fits. */
    EXPECT_TRUE(node_desc_from_pb(&pb, &back));
    pb.zone = big + 1;
    EXPECT_FALSE(node_desc_from_pb(&pb, &back));
    pb.zone = NULL;
    EXPECT_TRUE(node_desc_from_pb(&pb, &back));
    EXPECT_STREQ("", back.zone);
    pb.stores = stores;
    pb.n_stores = REGISTRY_STORES_MAX + 1;
    EXPECT_FALSE(node_desc_from_pb(&pb, &back));
    arena_deinit(&arena);
}
