/* The hybrid clock: increasing, bounded, and not to be dragged along. */
#include "node/base/hash.h"
#include "node/runtime/hlc.h"
#include "tests/lib/env_fake.h"
#include "tests/lib/test.h"

#define MS ((uint64_t)1000000)

struct fixture {
    struct fake_world *w;
    struct env *e;
    struct hlc c;
};

static void fixture_init(struct fixture *f)
{
    f->w = fake_world_create();
    f->e = fake_world_add_env(f->w);
    fake_env_set_wall(f->e, 1000 * MS);
    hlc_init(&f->c, f->e, HLC_MAX_OFFSET_NS_DEFAULT);
}

TEST(hlc, counts_while_the_wall_stands_still_or_steps_back)
{
    struct fixture f;

    fixture_init(&f);
    EXPECT_HTS_EQ(((struct hts){1000 * MS, 0}), hclock_hts(hlc_now(&f.c)));
    EXPECT_HTS_EQ(((struct hts){1000 * MS, 1}), hclock_hts(hlc_now(&f.c)));
    fake_env_set_wall(f.e, 900 * MS);
    EXPECT_HTS_EQ(((struct hts){1000 * MS, 2}), hclock_hts(hlc_now(&f.c)));
    fake_env_set_wall(f.e, 1001 * MS);
    EXPECT_HTS_EQ(((struct hts){1001 * MS, 0}), hclock_hts(hlc_now(&f.c)));
    fake_world_destroy(f.w);
}

TEST(hlc, follows_a_peer_within_the_offset)
{
    struct fixture f;

    fixture_init(&f);
    EXPECT_OK(hlc_update(&f.c, (struct hclock){1000 * MS + HLC_MAX_OFFSET_NS_DEFAULT, 5}));
    EXPECT_HTS_EQ(((struct hts){1250 * MS, 6}), hclock_hts(hlc_now(&f.c)));
    EXPECT_OK(hlc_update(&f.c, (struct hclock){1, 0})); /* Behind: nothing to do. */
    EXPECT_HTS_EQ(((struct hts){1250 * MS, 7}), hclock_hts(hlc_now(&f.c)));
    EXPECT_EQ(0, f.c.rejected);
    fake_world_destroy(f.w);
}

TEST(hlc, rejects_a_peer_too_far_ahead)
{
    struct fixture f;

    fixture_init(&f);
    EXPECT_CODE(STATUS_INVALID,
                hlc_update(&f.c, (struct hclock){1000 * MS + HLC_MAX_OFFSET_NS_DEFAULT + 1, 0}));
    EXPECT_CODE(STATUS_INVALID, hlc_update(&f.c, (struct hclock){UINT64_MAX, UINT32_MAX}));
    EXPECT_CODE(STATUS_INVALID, hlc_update(&f.c, (struct hclock){1000 * MS, UINT32_MAX}));
    EXPECT_EQ(3, f.c.rejected);
    EXPECT_HTS_EQ(((struct hts){1000 * MS, 0}), hclock_hts(hlc_now(&f.c)));
    fake_world_destroy(f.w);
}

TEST(hlc, never_passes_its_upper_bound)
{
    struct fixture f;

    fixture_init(&f);
    EXPECT_FALSE(hlc_bound_near(&f.c, UINT64_MAX));
    hlc_set_upper_bound(&f.c, 1005 * MS);
    EXPECT_FALSE(hlc_bound_near(&f.c, 4 * MS));
    EXPECT_TRUE(hlc_bound_near(&f.c, 5 * MS));
    fake_env_set_wall(f.e, 1100 * MS);
    EXPECT_TRUE(hlc_bound_near(&f.c, 0));
    EXPECT_HTS_EQ(((struct hts){1005 * MS, 0}), hclock_hts(hlc_now(&f.c)));
    EXPECT_HTS_EQ(((struct hts){1005 * MS, 1}), hclock_hts(hlc_now(&f.c)));
    EXPECT_CODE(STATUS_UNAVAILABLE, hlc_update(&f.c, (struct hclock){1006 * MS, 0}));
    hlc_set_upper_bound(&f.c, 1004 * MS); /* Never lowered. */
    EXPECT_HTS_EQ(((struct hts){1005 * MS, 2}), hclock_hts(hlc_now(&f.c)));
    hlc_set_upper_bound(&f.c, 2000 * MS);
    EXPECT_HTS_EQ(((struct hts){1100 * MS, 0}), hclock_hts(hlc_now(&f.c)));
    fake_world_destroy(f.w);
}

TEST(hlc, carries_into_the_wall_only_below_the_bound)
{
    struct fixture f;

    fixture_init(&f);
    f.c.last = (struct hclock){2000 * MS, (uint32_t)1 << 31};
    EXPECT_HTS_EQ(((struct hts){2000 * MS + 1, 0}), hclock_hts(hlc_now(&f.c)));
    f.c.last = (struct hclock){2000 * MS, (uint32_t)1 << 31};
    f.c.upper_bound_wall = 2000 * MS;
    EXPECT_HTS_EQ(((struct hts){2000 * MS, ((uint32_t)1 << 31) + 1}), hclock_hts(hlc_now(&f.c)));
    fake_world_destroy(f.w);
}

/* Two clocks that exchange readings under jumping walls: every reading is above all that it knows. */
TEST(hlc, readings_increase_along_messages)
{
    struct fixture f;
    struct env *other = NULL;
    struct hlc c[2];
    struct rng rng;

    fixture_init(&f);
    other = fake_world_add_env(f.w);
    hlc_init(&c[0], f.e, HLC_MAX_OFFSET_NS_DEFAULT);
    hlc_init(&c[1], other, HLC_MAX_OFFSET_NS_DEFAULT);
    rng_seed(&rng, 42);
    for (int i = 0; i < 20000; i++) {
        const uint64_t from = rng_below(&rng, 2);
        struct hclock sent;

        if (rng_permille(&rng, 200)) {
            fake_env_set_wall(from == 0 ? f.e : other, (1000 + rng_below(&rng, 300)) * MS);
        }
        sent = hlc_now(&c[from]);
        if (status_ok(hlc_update(&c[1 - from], sent))) {
            EXPECT_TRUE(hts_less(hclock_hts(sent), hclock_hts(hlc_now(&c[1 - from]))));
        }
    }
    fake_world_destroy(f.w);
}
