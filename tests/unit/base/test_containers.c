/* Arenas, buffers, maps, timestamps, cursors: limits and edges. */
#include "node/base/codec.h"
#include "node/base/hash.h"
#include "node/base/list.h"
#include "node/base/map.h"
#include "tests/lib/test.h"

static int defer_log[4];
static int defer_count;

static void note_defer(void *arg)
{
    defer_log[defer_count++] = *(int *)arg;
}

TEST(arena, runs_deferred_calls_newest_first)
{
    static int one = 1;
    static int two = 2;
    struct arena a;

    defer_count = 0;
    arena_init(&a, 0);
    EXPECT_OK(arena_defer(&a, note_defer, &one));
    EXPECT_OK(arena_defer(&a, note_defer, &two));
    arena_deinit(&a);
    EXPECT_EQ(2, defer_count);
    EXPECT_EQ(2, defer_log[0]);
    EXPECT_EQ(1, defer_log[1]);
}

/* The limit is an error of the request, and what was allocated before stays usable. */
TEST(arena, refuses_beyond_its_limit)
{
    struct arena a;
    char *p = NULL;

    arena_init(&a, 4096);
    p = arena_strdup(&a, "kept");
    EXPECT_TRUE(arena_alloc(&a, 1 << 20, 1) == NULL);
    EXPECT_STREQ("kept", p);
    arena_deinit(&a);
}

TEST(arena, charges_children_to_the_parent)
{
    struct arena parent;
    struct arena child;

    arena_init(&parent, 8192);
    arena_init_child(&child, &parent, 0);
    EXPECT_TRUE(arena_alloc(&child, 3000, 8) != NULL);
    EXPECT_TRUE(parent.used_bytes >= 3000);
    EXPECT_TRUE(arena_alloc(&child, 60000, 8) == NULL);
    arena_deinit(&child);
    EXPECT_EQ(0, parent.used_bytes);
    arena_deinit(&parent);
}

TEST(arena, keeps_one_chunk_over_reset)
{
    struct arena a;

    arena_init(&a, 0);
    EXPECT_TRUE(arena_alloc(&a, 100, 64) != NULL);
    EXPECT_TRUE(arena_alloc(&a, 5000, 64) != NULL);
    arena_reset(&a);
    EXPECT_TRUE(a.used_bytes > 0);
    EXPECT_TRUE(((uintptr_t)arena_alloc(&a, 10, 64) & 63) == 0);
    arena_deinit(&a);
}

TEST(buf, stops_at_its_limit)
{
    struct buf b;

    buf_init(&b, 1000);
    EXPECT_OK(buf_printf(&b, "%s-%d", "x", 42));
    EXPECT_BYTES_EQ(BYTES_LIT("x-42"), buf_bytes(&b));
    EXPECT_CODE(STATUS_MEMORY, buf_reserve(&b, 2000));
    buf_deinit(&b);
}

/* Against a naive twin: an array indexed by key. */
TEST(map, agrees_with_an_array)
{
    static int present[512];
    static int value;
    struct map m;
    struct rng r;

    memset(present, 0, sizeof(present));
    rng_seed(&r, 7);
    map_init(&m, 10000);
    for (int i = 0; i < 20000; i++) {
        const uint64_t key = rng_below(&r, 512);

        if (rng_permille(&r, 500)) {
            EXPECT_OK(map_put(&m, key, &value));
            present[key] = 1;
        } else {
            EXPECT_EQ(present[key], map_remove(&m, key) != NULL);
            present[key] = 0;
        }
    }
    for (uint64_t k = 0; k < 512; k++) {
        EXPECT_EQ(present[k], map_get(&m, k) != NULL);
    }
    map_deinit(&m);
}

TEST(map, refuses_beyond_its_maximum)
{
    static int value;
    struct map m;

    map_init(&m, 2);
    EXPECT_OK(map_put(&m, 1, &value));
    EXPECT_OK(map_put(&m, 2, &value));
    EXPECT_OK(map_put(&m, 2, &value));
    EXPECT_CODE(STATUS_OVERLOADED, map_put(&m, 3, &value));
    map_deinit(&m);
}

TEST(hts, orders_and_steps)
{
    const struct hts a = {5, UINT32_MAX};

    EXPECT_TRUE(hts_less(a, hts_next(a)));
    EXPECT_HTS_EQ(((struct hts){6, 0}), hts_next(a));
    EXPECT_HTS_EQ(a, hts_prev(hts_next(a)));
    EXPECT_HTS_EQ(HTS_ZERO, hts_prev(HTS_ZERO));
    EXPECT_HTS_EQ(HTS_MAX, hts_next(HTS_MAX));
}

TEST(codec, varints_round_trip_and_reject_overflow)
{
    const uint64_t values[] = {0, 1, 127, 128, 300, UINT32_MAX, UINT64_MAX};
    const uint8_t too_long[] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02};
    struct reader bad = reader_of(bytes_of(too_long, sizeof(too_long)));

    for (size_t i = 0; i < ARRAY_COUNT(values); i++) {
        uint8_t tmp[VARINT_MAX];
        struct reader r = reader_of(bytes_of(tmp, varint_put(tmp, values[i])));

        EXPECT_TRUE(read_varint(&r) == values[i]);
        EXPECT_FALSE(r.bad);
        EXPECT_EQ(0, r.rest.len);
    }
    (void)read_varint(&bad);
    EXPECT_TRUE(bad.bad);
}

TEST(codec, a_failed_read_fails_all_later_ones)
{
    struct reader r = reader_of(BYTES_LIT("abc"));

    (void)read_be32(&r);
    EXPECT_TRUE(r.bad);
    EXPECT_EQ(0, read_u8(&r));
    EXPECT_EQ(0, read_lp_bytes(&r).len);
}

TEST(list, removing_twice_is_harmless)
{
    struct list head;
    struct list item;

    list_init(&head);
    list_push_back(&head, &item);
    list_remove(&item);
    list_remove(&item);
    EXPECT_TRUE(list_empty(&head));
    EXPECT_TRUE(list_pop_front(&head) == NULL);
}
