/* Round trips: the shipped example, what is refused, and the way between two places. */
#include <stdlib.h>

#include "regions/topology/rtt.h"
#include "tests/lib/test.h"

struct fixture {
    struct arena arena;
    struct rtt_matrix m;
};

static struct fixture *fixture_create(void)
{
    struct fixture *f = calloc(1, sizeof(*f));

    if (f == NULL) {
        abort();
    }
    arena_init(&f->arena, 0);
    return f;
}

static void fixture_destroy(struct fixture *f)
{
    arena_deinit(&f->arena);
    free(f);
}

/* Microseconds one way, -1 when a region is unknown. */
static int64_t way(struct fixture *f, const char *from, const char *to)
{
    struct locality a;
    struct locality b;
    uint32_t us = 0;

    if (!status_ok(locality_parse(bytes_str(from), &f->arena, &a)) ||
        !status_ok(locality_parse(bytes_str(to), &f->arena, &b))) {
        return -2;
    }
    return status_ok(rtt_one_way(&f->m, &a, &b, &us)) ? (int64_t)us : -1;
}

/* The example is what the demo and the simulator promise: 66, 64 and 146 ms. */
TEST(rtt, reads_the_shipped_triangle)
{
    struct fixture *f = fixture_create();
    char text[4096];
    FILE *file = fopen("regions/examples/us-eu-ap.rtt", "rb");
    size_t len = 0;

    EXPECT_TRUE(file != NULL);
    len = fread(text, 1, sizeof(text), file);
    (void)fclose(file);
    EXPECT_OK(rtt_parse(bytes_of(text, len), &f->arena, &f->m));
    EXPECT_EQ(3, f->m.count);
    EXPECT_EQ(33000, way(f, "region=us-east-1,zone=a", "region=eu-west-1,zone=a"));
    EXPECT_EQ(32000, way(f, "region=eu-west-1", "region=ap-southeast-1"));
    EXPECT_EQ(73000, way(f, "region=us-east-1", "region=ap-southeast-1"));
    EXPECT_EQ(73000, way(f, "region=ap-southeast-1", "region=us-east-1"));
    EXPECT_EQ(600, way(f, "region=us-east-1,zone=a", "region=us-east-1,zone=b"));
    EXPECT_EQ(150, way(f, "region=us-east-1,zone=a", "region=us-east-1,zone=a"));
    EXPECT_EQ(150, way(f, "region=us-east-1", "region=us-east-1"));
    EXPECT_EQ(-1, way(f, "region=us-east-1", "region=mars"));
    EXPECT_EQ(150, way(f, "region=mars", "region=mars"));
    fixture_destroy(f);
}

TEST(rtt, refuses_other_lines)
{
    static const struct {
        const char *text;
        const char *why;
    } cases[] = {
        {"", "round trips inside a zone and a region are missing"},
        {"zone 1\nzone 2\n", "line 2: it was already there"},
        {"zone x\n", "line 1: not a time in milliseconds"},
        {"zone 1.2345", "line 1: not a time in milliseconds"},
        {"zone .5", "line 1: not a time in milliseconds"},
        {"zone 5.", "line 1: not a time in milliseconds"},
        {"zone -1", "line 1: not a time in milliseconds"},
        {"zone 60000.001", "line 1: not a time in milliseconds"},
        {"zone 99999999999999999999999999", "line 1: not a time in milliseconds"},
        {"\n# only a comment\nplanet 3",
         "line 3: not \"zone MS\", \"region MS\" or \"REGION REGION MS\""},
        {"a b c d", "line 1: not \"zone MS\", \"region MS\" or \"REGION REGION MS\""},
        {"a", "line 1: not \"zone MS\", \"region MS\" or \"REGION REGION MS\""},
        {"a a 5", "line 1: a region has no round trip to itself; say \"region\""},
        {"a b 5\nb a 5", "line 2: the pair was already there"},
        {"zone 1\nregion 1\na b 5\nb c 5", "round trip between \"a\" and \"c\" is missing"},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct fixture *f = fixture_create();
        const struct status st = rtt_parse(bytes_str(cases[i].text), &f->arena, &f->m);

        EXPECT_EQ(STATUS_INVALID, st.code);
        EXPECT_STREQ(cases[i].why, st.msg);
        EXPECT_EQ(0, f->m.count);
        fixture_destroy(f);
    }
}

/* A minute is the longest; blanks, tabs, carriage returns and comments do not matter. */
TEST(rtt, accepts_limits_and_layout)
{
    struct fixture *f = fixture_create();

    EXPECT_OK(rtt_parse(BYTES_LIT("\tzone  0#x\r\n\r\nregion 60000\n"), &f->arena, &f->m));
    EXPECT_EQ(0, f->m.zone_us);
    EXPECT_EQ(RTT_MAX_US, f->m.region_us);
    EXPECT_EQ(0, f->m.count);
    fixture_destroy(f);
}

/* As many regions as fit, and one more. */
TEST(rtt, limits_regions)
{
    struct fixture *f = fixture_create();
    struct buf text;

    buf_init(&text, 0);
    EXPECT_OK(buf_append_str(&text, "zone 1\nregion 1\n"));
    for (int a = 0; a < RTT_REGIONS_MAX; a++) {
        for (int b = a + 1; b < RTT_REGIONS_MAX; b++) {
            EXPECT_OK(buf_printf(&text, "r%d r%d 10\n", a, b));
        }
    }
    EXPECT_OK(rtt_parse(buf_bytes(&text), &f->arena, &f->m));
    EXPECT_EQ(RTT_REGIONS_MAX, f->m.count);
    EXPECT_OK(buf_append_str(&text, "r0 another 10\n"));
    EXPECT_CODE(STATUS_INVALID, rtt_parse(buf_bytes(&text), &f->arena, &f->m));
    buf_deinit(&text);
    fixture_destroy(f);
}
