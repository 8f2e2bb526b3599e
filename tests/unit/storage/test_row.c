/*
 * test_row.c -- rows out and in again.
 */
#include "node/base/hash.h"
#include "node/storage/key/row.h"
#include "tests/lib/test.h"

static struct key_row_column random_column(struct rng *r, uint32_t id)
{
    struct key_row_column c = {.id = id,
                               .kind = (enum key_row_kind)rng_below(r, KEY_ROW_KIND_COUNT)};

    switch (c.kind) {
    case KEY_ROW_INT:
        c.v.i = (int64_t)(rng_next(r) >> rng_below(r, 64)) * (rng_permille(r, 500) ? 1 : -1);
        break;
    case KEY_ROW_FLOAT:
        c.v.f = (double)(int64_t)rng_next(r);
        break;
    case KEY_ROW_BYTES:
    case KEY_ROW_NUMERIC:
        c.v.b = bytes_of("some bytes", rng_below(r, 10));
        break;
    case KEY_ROW_UUID:
        c.v.uuid = (struct uuid){{(uint8_t)rng_next(r)}};
        break;
    case KEY_ROW_INTERVAL:
        c.v.interval = (struct key_row_interval){INT32_MIN, INT32_MAX, INT64_MIN};
        break;
    case KEY_ROW_TIMETZ:
        c.v.timetz = (struct key_row_timetz){INT64_MAX, INT32_MIN};
        break;
    case KEY_ROW_FALSE:
    case KEY_ROW_TRUE:
    case KEY_ROW_KIND_COUNT:
        break;
    }
    return c;
}

static bool same_column(const struct key_row_column *a, const struct key_row_column *b)
{
    if (a->id != b->id || a->kind != b->kind) {
        return false;
    }
    switch (a->kind) {
    case KEY_ROW_INT:
        return a->v.i == b->v.i;
    case KEY_ROW_FLOAT:
        return a->v.f == b->v.f;
    case KEY_ROW_BYTES:
    case KEY_ROW_NUMERIC:
        return bytes_eq(a->v.b, b->v.b);
    case KEY_ROW_UUID:
        return uuid_eq(a->v.uuid, b->v.uuid);
    case KEY_ROW_INTERVAL:
        return a->v.interval.months == b->v.interval.months &&
               a->v.interval.days == b->v.interval.days && a->v.interval.us == b->v.interval.us;
    case KEY_ROW_TIMETZ:
        return a->v.timetz.us == b->v.timetz.us && a->v.timetz.zone_s == b->v.timetz.zone_s;
    case KEY_ROW_FALSE:
    case KEY_ROW_TRUE:
    case KEY_ROW_KIND_COUNT:
        break;
    }
    return true;
}

TEST(key_row, comes_back_as_it_was_put)
{
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct key_row_column in[20];
        struct key_row_column out;
        struct key_row_enc e;
        struct key_row_dec d;
        struct buf b;
        struct rng r;
        uint32_t id = 0;

        rng_seed(&r, seed);
        buf_init(&b, 0);
        key_row_enc_init(&e, &b);
        for (size_t i = 0; i < ARRAY_COUNT(in); i++) {
            id += (uint32_t)rng_between(&r, 1, rng_permille(&r, 100) ? 100000 : 3);
            in[i] = random_column(&r, id);
            EXPECT_OK(key_row_put(&e, &in[i]));
        }
        key_row_dec_init(&d, buf_bytes(&b));
        for (size_t i = 0; i < ARRAY_COUNT(in); i++) {
            EXPECT_TRUE(key_row_next(&d, &out));
            EXPECT_TRUE(same_column(&in[i], &out));
        }
        EXPECT_FALSE(key_row_next(&d, &out));
        EXPECT_FALSE(d.r.bad);
        for (size_t cut = 0; cut < b.len; cut++) { /* A cut row ends early or is damaged. */
            key_row_dec_init(&d, bytes_of(b.ptr, cut));
            while (key_row_next(&d, &out)) {
            }
        }
        buf_deinit(&b);
    }
}

TEST(key_row, refuses_disorder_and_leaves_the_row_whole)
{
    const uint8_t bytes[300] = {0};
    const struct key_row_column two = {.id = 2, .kind = KEY_ROW_TRUE};
    const struct key_row_column zero = {.id = 0, .kind = KEY_ROW_TRUE};
    const struct key_row_column large = {
        .id = 3, .kind = KEY_ROW_BYTES, .v.b = bytes_of(bytes, sizeof(bytes))};
    struct key_row_enc e;
    struct buf b;

    buf_init(&b, 256);
    key_row_enc_init(&e, &b);
    EXPECT_CODE(STATUS_INVALID, key_row_put(&e, &zero));
    EXPECT_OK(key_row_put(&e, &two));
    EXPECT_CODE(STATUS_INVALID, key_row_put(&e, &two));
    EXPECT_CODE(STATUS_MEMORY, key_row_put(&e, &large));
    EXPECT_EQ(1, b.len);
    buf_deinit(&b);
}

TEST(key_row, damage_is_told_from_the_end)
{
    const char *const bad[] = {"\x0f", "\x01",
                               "\x14\x05"
                               "abc",
                               "\x15"
                               "short",
                               "\x16\xff"};
    struct key_row_column c;

    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        struct key_row_dec d;

        key_row_dec_init(&d, bytes_str(bad[i]));
        EXPECT_FALSE(key_row_next(&d, &c));
        EXPECT_TRUE(d.r.bad);
    }
}
