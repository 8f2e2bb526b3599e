/* What a store remembers of commits. */
#include "node/base/hash.h"
#include "node/range/txn/recent.h"
#include "tests/lib/test.h"

static struct uuid id_of(uint64_t n)
{
    struct uuid id = {{1}};
    const uint64_t h = n * UINT64_C(0x9E3779B97F4A7C15);

    memcpy(id.b, &h, sizeof(h));
    memcpy(id.b + 8, &n, 7);
    return id;
}

TEST(recent, what_was_noted_is_found)
{
    struct recent *c = NULL;
    struct hts ts = HTS_ZERO;

    EXPECT_OK(recent_create((struct hts){5, 0}, &c));
    EXPECT_FALSE(recent_find(c, id_of(1), &ts));
    recent_note(c, (struct uuid){{0}}, (struct hts){6, 0}); /* No id: not kept. */
    for (uint64_t i = 1; i < 1000; i++) {
        recent_note(c, id_of(i), (struct hts){10 + i, 0});
    }
    recent_note(c, id_of(1), (struct hts){99, 0});
    for (uint64_t i = 1; i < 1000; i++) {
        EXPECT_TRUE(recent_find(c, id_of(i), &ts));
        EXPECT_EQ(10 + i, ts.wall);
    }
    EXPECT_FALSE(recent_find(c, id_of(1000), &ts));
    EXPECT_EQ(5, recent_since(c).wall);
    recent_destroy(c);
}

TEST(recent, the_oldest_go_and_the_bound_tells)
{
    const uint64_t total = RECENT_COMMITS_MAX + 5000;
    struct recent *c = NULL;
    struct hts ts = HTS_ZERO;

    EXPECT_OK(recent_create(HTS_ZERO, &c));
    for (uint64_t i = 1; i <= total; i++) {
        recent_note(c, id_of(i), (struct hts){i, 0});
    }
    EXPECT_EQ(5000, recent_since(c).wall);
    for (uint64_t i = 1; i <= total; i++) {
        EXPECT_EQ(i > 5000, recent_find(c, id_of(i), &ts));
    }
    recent_destroy(c);
}
