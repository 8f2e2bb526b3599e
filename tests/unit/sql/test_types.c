/*
 * test_types.c -- text and binary forms there and back, order, hashes.
 */
#include <math.h>

#include "node/base/hash.h"
#include "node/sql/types/type_io.h"
#include "tests/lib/test.h"

#define ROUNDS 20000

struct forms {
    struct arena arena;
    struct sql_error err;
    struct type_settings settings;
    struct type_io io;
};

static void forms_init(struct forms *f)
{
    memset(f, 0, sizeof(*f));
    arena_init(&f->arena, 0);
    f->settings = TYPE_SETTINGS_DEFAULT;
    f->io = (struct type_io){
        .arena = &f->arena, .err = &f->err, .position = -1, .settings = &f->settings};
}

static bool same(enum type_phys phys, union datum a, union datum b)
{
    return datum_cmp(phys, a, b) == 0 && datum_hash(phys, a, 7) == datum_hash(phys, b, 7);
}

/* Text and binary of a value read back as the value. */
static bool there_and_back(struct forms *f, oid type, union datum d)
{
    const enum type_phys phys = type_find(type)->phys;
    char scratch[TYPE_OUT_SIZE];
    union datum back = {.bytes = {NULL, 0}};
    struct bytes text = type_out_text(type, d, &f->settings, scratch);

    if (!status_ok(type_in_text(&f->io, type, -1, text, &back)) || !same(phys, d, back)) {
        return false;
    }
    text = type_out_binary(type, d, scratch);
    return status_ok(type_in_binary(&f->io, type, -1, text, &back)) && same(phys, d, back);
}

TEST(types, integers_there_and_back)
{
    static const int64_t limits[][3] = {{TYPE_INT2, INT16_MIN, INT16_MAX},
                                        {TYPE_INT4, INT32_MIN, INT32_MAX},
                                        {TYPE_INT8, INT64_MIN, INT64_MAX},
                                        {TYPE_OID, 0, UINT32_MAX},
                                        {TYPE_BOOL, 0, 1}};
    struct forms f;
    struct rng r;

    forms_init(&f);
    rng_seed(&r, 1);
    for (size_t i = 0; i < ARRAY_COUNT(limits); i++) {
        const oid type = (oid)limits[i][0];

        EXPECT_TRUE(there_and_back(&f, type, (union datum){.i64 = limits[i][1]}));
        EXPECT_TRUE(there_and_back(&f, type, (union datum){.i64 = limits[i][2]}));
        for (int k = 0; k < 1000 && type != TYPE_BOOL; k++) {
            const uint64_t span = (uint64_t)limits[i][2] - (uint64_t)limits[i][1];
            const uint64_t v = rng_next(&r) % (span == UINT64_MAX ? span : span + 1);

            EXPECT_TRUE(there_and_back(
                &f, type, (union datum){.i64 = (int64_t)((uint64_t)limits[i][1] + v)}));
        }
    }
    arena_deinit(&f.arena);
}

/* Every bit pattern that is a number survives its shortest text. */
TEST(types, doubles_there_and_back)
{
    struct forms f;
    struct rng r;

    forms_init(&f);
    rng_seed(&r, 2);
    for (int i = 0; i < ROUNDS; i++) {
        const uint64_t bits = rng_next(&r);
        union datum d = {.bytes = {NULL, 0}};

        memcpy(&d.f64, &bits, sizeof(bits));
        EXPECT_TRUE(there_and_back(&f, TYPE_FLOAT8, d));
    }
    for (int e = -324; e <= 308; e++) {
        EXPECT_TRUE(there_and_back(&f, TYPE_FLOAT8, (union datum){.f64 = pow(10, e)}));
        EXPECT_TRUE(there_and_back(&f, TYPE_FLOAT8, (union datum){.f64 = ldexp(1, e)}));
    }
    arena_deinit(&f.arena);
}

TEST(types, timestamps_there_and_back)
{
    static const char *const zones[] = {"UTC", "+02", "-05:30", "15:59"};
    struct forms f;
    struct rng r;

    forms_init(&f);
    rng_seed(&r, 3);
    for (size_t z = 0; z < 3; z++) {
        EXPECT_TRUE(time_zone_parse(zones[z], &f.settings.zone));
        for (int i = 0; i < ROUNDS / 4; i++) {
            const uint64_t span = (uint64_t)(TIMESTAMP_END - 1) - (uint64_t)TIMESTAMP_MIN;
            const int64_t us = (int64_t)((uint64_t)TIMESTAMP_MIN + rng_next(&r) % span);

            if (us < TIMESTAMP_MIN + 86400000000 || us > TIMESTAMP_END - 86400000000) {
                continue; /* A local day off the ends does not read back. */
            }
            EXPECT_TRUE(there_and_back(&f, TYPE_TIMESTAMPTZ, (union datum){.i64 = us}));
        }
    }
    EXPECT_TRUE(there_and_back(&f, TYPE_TIMESTAMPTZ, (union datum){.i64 = TIMESTAMP_INFINITY}));
    EXPECT_TRUE(
        there_and_back(&f, TYPE_TIMESTAMPTZ, (union datum){.i64 = TIMESTAMP_MINUS_INFINITY}));
    arena_deinit(&f.arena);
}

TEST(types, binary_of_the_wrong_size_is_refused)
{
    static const oid types[] = {TYPE_BOOL, TYPE_INT2,   TYPE_INT4,       TYPE_INT8,
                                TYPE_OID,  TYPE_FLOAT8, TYPE_TIMESTAMPTZ};
    const uint8_t zero[16] = {0};
    struct forms f;
    union datum d;

    forms_init(&f);
    for (size_t i = 0; i < ARRAY_COUNT(types); i++) {
        EXPECT_CODE(STATUS_SQL_ERROR, type_in_binary(&f.io, types[i], -1, bytes_of(zero, 0), &d));
        EXPECT_STREQ("08P01", f.err.sqlstate);
        EXPECT_CODE(STATUS_SQL_ERROR, type_in_binary(&f.io, types[i], -1, bytes_of(zero, 16), &d));
        EXPECT_STREQ("22P03", f.err.sqlstate);
    }
    EXPECT_CODE(STATUS_SQL_ERROR, type_in_binary(&f.io, TYPE_NUMERIC, -1, bytes_of(zero, 8), &d));
    EXPECT_STREQ("0A000", f.err.sqlstate);
    arena_deinit(&f.arena);
}

TEST(types, strings_must_be_utf8)
{
    static const char *const bad[] = {
        "\xff", "a\x80", "\xc3", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82"};
    struct forms f;
    union datum d;

    forms_init(&f);
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        EXPECT_CODE(STATUS_SQL_ERROR, type_in_text(&f.io, TYPE_TEXT, -1, bytes_str(bad[i]), &d));
        EXPECT_STREQ("22021", f.err.sqlstate);
    }
    EXPECT_CODE(STATUS_SQL_ERROR, type_in_binary(&f.io, TYPE_TEXT, -1, BYTES_LIT("a\0b"), &d));
    EXPECT_STREQ("invalid byte sequence for encoding \"UTF8\": 0x00", f.err.message);
    EXPECT_OK(type_in_text(&f.io, TYPE_TEXT, -1, BYTES_LIT("\xf0\x9f\x98\x80"), &d));
    EXPECT_EQ(1, utf8_length(d.bytes));
    arena_deinit(&f.arena);
}

TEST(types, zones_as_they_are_shown)
{
    static const char *const rows[][2] = {{"UTC", "UTC"},      {"utc", "UTC"},
                                          {"+02", "<+02>-02"}, {"-05:30", "<-05:30>+05:30"},
                                          {"2", "<+02>-02"},   {"<+02>-02", "<+02>-02"}};
    static const char *const bad[] = {"", "Mars/Olympus", "+99", "+1:99", "25"};
    struct time_zone z;

    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        EXPECT_TRUE(time_zone_parse(rows[i][0], &z));
        EXPECT_STREQ(rows[i][1], z.name);
    }
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        EXPECT_FALSE(time_zone_parse(bad[i], &z));
    }
}

/* Order of double precision: PostgreSQL's. */
TEST(types, doubles_have_a_total_order)
{
    const double rising[] = {-INFINITY, -1, 0, 5e-324, 1, INFINITY, NAN};

    for (size_t i = 0; i < ARRAY_COUNT(rising); i++) {
        for (size_t k = 0; k < ARRAY_COUNT(rising); k++) {
            const int want = i < k ? -1 : i > k;

            EXPECT_EQ(want, float8_cmp(rising[i], rising[k]));
        }
    }
    EXPECT_EQ(0, float8_cmp(-0.0, 0.0));
    EXPECT_EQ(datum_hash(PHYS_F64, (union datum){.f64 = -0.0}, 1),
              datum_hash(PHYS_F64, (union datum){.f64 = 0.0}, 1));
}
