/* The intrusive ordered set, compared with an array of flags. */
#include "node/base/attributes.h"
#include "node/base/hash.h"
#include "node/base/tree.h"
#include "tests/lib/test.h"

#define ITEMS 300u

struct item {
    struct tree_node node;
    uint32_t key;
};

static int compare(const struct tree_node *node, const void *key)
{
    const uint32_t a = CONTAINER_OF(node, const struct item, node)->key;
    const uint32_t b = *(const uint32_t *)key;

    return a < b ? -1 : a > b;
}

static uint32_t key_of(const struct tree_node *node)
{
    return node == NULL ? UINT32_MAX : CONTAINER_OF(node, const struct item, node)->key;
}

/* Walks both ways and searches for every key, present or not. */
static bool agrees(const struct tree *t, const bool *in)
{
    uint32_t below = UINT32_MAX;
    const struct tree_node *at = tree_first(t);

    for (uint32_t k = 0; k < ITEMS; k++) {
        uint32_t above = k;

        while (above < ITEMS && !in[above]) {
            above++;
        }
        above = above == ITEMS ? UINT32_MAX : above;
        below = in[k] ? k : below;
        if (key_of(tree_at_or_after(t, &k)) != above || key_of(tree_at_or_before(t, &k)) != below ||
            (tree_find(t, &k) != NULL) != in[k]) {
            return false;
        }
        if (in[k]) {
            if (key_of(at) != k ||
                (tree_next(at) != NULL && key_of(tree_prev(tree_next(at))) != k)) {
                return false;
            }
            at = tree_next(at);
        }
    }
    return at == NULL;
}

static uint32_t depth_of(const struct tree_node *node)
{
    uint32_t depth = 0;

    for (; node != NULL; node = node->parent) {
        depth++;
    }
    return depth;
}

TEST(tree, behaves_like_a_sorted_set)
{
    struct item items[ITEMS] = {0};
    bool in[ITEMS] = {false};
    struct tree t;
    struct rng rng;
    size_t count = 0;

    rng_seed(&rng, 5);
    tree_init(&t, compare);
    EXPECT_TRUE(agrees(&t, in));
    for (int step = 0; step < 4000; step++) {
        const uint32_t k = (uint32_t)rng_below(&rng, ITEMS);

        items[k].key = k;
        if (in[k]) {
            tree_remove(&t, &items[k].node);
            tree_remove(&t, &items[k].node); /* Twice is harmless. */
            count--;
        } else {
            EXPECT_TRUE(tree_insert(&t, &items[k].node, &k));
            count++;
        }
        in[k] = !in[k];
        EXPECT_EQ(in[k], tree_linked(&items[k].node));
        EXPECT_EQ(count, t.count);
        if (step % 50 == 0) {
            EXPECT_TRUE(agrees(&t, in));
        }
    }
    EXPECT_TRUE(agrees(&t, in));
}

TEST(tree, refuses_equals_and_stays_shallow_in_order)
{
    struct item items[ITEMS] = {0};
    struct item twin = {.key = 7};
    uint32_t deepest = 0;
    struct tree t;

    tree_init(&t, compare);
    for (uint32_t k = 0; k < ITEMS; k++) {
        items[k].key = k;
        EXPECT_TRUE(tree_insert(&t, &items[k].node, &k));
    }
    EXPECT_FALSE(tree_insert(&t, &twin.node, &twin.key));
    EXPECT_FALSE(tree_linked(&twin.node));
    for (uint32_t k = 0; k < ITEMS; k++) {
        const uint32_t depth = depth_of(&items[k].node);

        deepest = depth > deepest ? depth : deepest;
    }
    EXPECT_TRUE(deepest < 40);
}
