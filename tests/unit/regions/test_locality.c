/* Localities: what is read, what is refused and why, how far apart two of them are. */
#include "regions/locality/locality.h"
#include "tests/lib/test.h"

static struct status parse(const char *text, struct locality *out)
{
    static struct arena arena;

    arena_deinit(&arena);
    arena_init(&arena, 0);
    return locality_parse(bytes_str(text), &arena, out);
}

TEST(locality, reads_and_writes_tiers)
{
    struct locality l;
    char text[LOCALITY_TEXT_MAX];

    EXPECT_OK(parse("region=us-east-1,zone=us-east-1a,rack=7.B_x", &l));
    EXPECT_EQ(3, l.count);
    EXPECT_STREQ("us-east-1", locality_region(&l));
    EXPECT_STREQ("us-east-1a", locality_zone(&l));
    EXPECT_STREQ("7.B_x", locality_value(&l, "rack"));
    EXPECT_TRUE(locality_value(&l, "dc") == NULL);
    locality_format(&l, text, sizeof(text));
    EXPECT_STREQ("region=us-east-1,zone=us-east-1a,rack=7.B_x", text);
}

TEST(locality, format_cuts_to_fit)
{
    struct locality l;
    char text[10];

    EXPECT_OK(parse("region=eu,zone=a", &l));
    locality_format(&l, text, sizeof(text));
    EXPECT_STREQ("region=eu", text);
    locality_format(&l, text, 1);
    EXPECT_STREQ("", text);
}

TEST(locality, refuses_what_is_not_exactly_one)
{
    static const struct {
        const char *text;
        const char *why;
    } cases[] = {
        {"", "locality \"\" is invalid: a key is empty"},
        {"region", "locality \"region\" is invalid: a tier is not key=value"},
        {"region=", "locality \"region=\" is invalid: a value is empty"},
        {"=eu", "locality \"=eu\" is invalid: a key is empty"},
        {"zone=a", "locality \"zone=a\" is invalid: the first tier is not the region"},
        {"zone=a,region=eu",
         "locality \"zone=a,region=eu\" is invalid: the first tier is not the region"},
        {"region=eu,", "locality \"region=eu,\" is invalid: a key is empty"},
        {"region=eu,region=us",
         "locality \"region=eu,region=us\" is invalid: a key stands there twice"},
        {"region=e u", "locality \"region=e u\" is invalid: a value has a character other than "
                       "letters, digits, '_', '-' and '.'"},
        {"Region=eu",
         "locality \"Region=eu\" is invalid: a key has a character other than a-z, 0-9, "
         "'_' and '-'"},
        {"region=eu,averyveryverylongkey=1",
         "locality \"region=eu,averyveryverylongkey=1\" is invalid: a key is too long"},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct locality l = {.count = 77};
        const struct status st = parse(cases[i].text, &l);

        EXPECT_EQ(STATUS_INVALID, st.code);
        EXPECT_STREQ(cases[i].why, st.msg);
        EXPECT_EQ(77, l.count); /* Unchanged. */
    }
}

/* At the limit it is read, one beyond it is refused. */
TEST(locality, limits_at_the_edge)
{
    char text[256];
    struct locality l;

    EXPECT_OK(parse("region=r,a=1,b=2,c=3,d=4,e=5", &l));
    EXPECT_EQ(LOCALITY_TIERS_MAX, l.count);
    EXPECT_CODE(STATUS_INVALID, parse("region=r,a=1,b=2,c=3,d=4,e=5,f=6", &l));

    (void)snprintf(text, sizeof(text), "region=%0*d", LOCALITY_VALUE_MAX, 1);
    EXPECT_OK(parse(text, &l));
    (void)snprintf(text, sizeof(text), "region=%0*d", LOCALITY_VALUE_MAX + 1, 1);
    EXPECT_CODE(STATUS_INVALID, parse(text, &l));
}

TEST(locality, diversity_is_the_share_of_tiers_that_differ)
{
    static const struct {
        const char *a;
        const char *b;
        uint32_t want;
    } cases[] = {
        {"region=eu,zone=a", "region=eu,zone=a", 0},
        {"region=eu,zone=a", "region=eu,zone=b", 500},
        {"region=eu,zone=a", "region=us,zone=a", 1000},
        {"region=eu", "region=eu,zone=a", 500},
        {"region=eu,zone=a,rack=1", "region=eu,zone=a,rack=2", 333},
        {"region=eu,rack=a", "region=eu,zone=a", 500}, /* Other keys are other places. */
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct locality a;
        struct locality b;

        EXPECT_OK(parse(cases[i].a, &a));
        EXPECT_OK(parse(cases[i].b, &b));
        EXPECT_EQ(cases[i].want, locality_diversity(&a, &b));
        EXPECT_EQ(cases[i].want, locality_diversity(&b, &a));
        EXPECT_EQ(cases[i].want == 0, locality_eq(&a, &b));
    }
}
