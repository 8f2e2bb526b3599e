/* Descriptors survive the way through bytes, and foreign bytes are refused. */
#include "node/base/hash.h"
#include "node/catalog/desc_codec.h"
#include "tests/lib/test.h"

static void set_name(char *out, const char *name)
{
    memcpy(out, name, strlen(name) + 1);
}

static void column(struct column_desc *c, uint32_t id, const char *name, uint32_t type)
{
    *c = (struct column_desc){.id = id, .type = type, .typmod = -1};
    set_name(c->name, name);
}

/* id int8 primary key, note varchar(10) default 'x', gone (attnum 3 was dropped), at timestamptz */
static void example(struct table_desc *d, struct column_desc columns[3])
{
    *d = (struct table_desc){.id = 16384, .version = 7, .schema = 2200};
    set_name(d->name, "events");
    column(&columns[0], 1, "id", 20);
    columns[0].not_null = true;
    column(&columns[1], 2, "note", 1043);
    columns[1].typmod = 14;
    columns[1].has_default = true;
    columns[1].default_text = "'x'";
    column(&columns[2], 4, "at", 1184);
    d->columns = columns;
    d->columns_count = 3;
    d->primary = (struct index_desc){.id = 1, .unique = true, .columns_count = 2};
    set_name(d->primary.name, "events_pkey");
    d->primary.columns[0].column = 1;
    d->primary.columns[1].column = 4;
    d->primary.columns[1].desc = true;
}

TEST(desc_codec, round_trip_keeps_everything)
{
    struct column_desc columns[3];
    struct table_desc d;
    struct table_desc back;
    struct buf b = {0};
    struct arena arena;

    arena_init(&arena, 0);
    example(&d, columns);
    EXPECT_OK(desc_encode(&d, &b));
    EXPECT_OK(desc_decode(buf_bytes(&b), &arena, &back));
    EXPECT_EQ(16384, back.id);
    EXPECT_EQ(7, back.version);
    EXPECT_EQ(2200, back.schema);
    EXPECT_STREQ("events", back.name);
    EXPECT_EQ(3, back.columns_count);
    EXPECT_TRUE(back.columns[0].not_null);
    EXPECT_FALSE(back.columns[0].has_default);
    EXPECT_EQ(-1, back.columns[0].typmod);
    EXPECT_EQ(14, back.columns[1].typmod);
    EXPECT_STREQ("'x'", back.columns[1].default_text);
    EXPECT_EQ(4, back.columns[2].id);
    EXPECT_EQ(1184, back.columns[2].type);
    EXPECT_EQ(2, back.primary.columns_count);
    EXPECT_EQ(4, back.primary.columns[1].column);
    EXPECT_TRUE(back.primary.columns[1].desc);
    EXPECT_FALSE(back.hidden_rowid);
    buf_deinit(&b);
    arena_deinit(&arena);
}

TEST(desc_codec, every_cut_is_corrupt)
{
    struct column_desc columns[3];
    struct table_desc d;
    struct table_desc back;
    struct buf b = {0};
    struct arena arena;

    arena_init(&arena, 0);
    example(&d, columns);
    EXPECT_OK(desc_encode(&d, &b));
    for (size_t n = 0; n < b.len; n++) {
        EXPECT_CODE(STATUS_CORRUPT, desc_decode(bytes_of(b.ptr, n), &arena, &back));
    }
    EXPECT_OK(buf_append_u8(&b, 0));
    EXPECT_CODE(STATUS_CORRUPT, desc_decode(buf_bytes(&b), &arena, &back));
    buf_deinit(&b);
    arena_deinit(&arena);
}

/* Flipped bits never crash; what still decodes passes the check again. */
TEST(desc_codec, damage_is_found_or_harmless)
{
    struct column_desc columns[3];
    struct table_desc d;
    struct table_desc back;
    struct buf b = {0};
    struct arena arena;
    struct rng rng;

    arena_init(&arena, 0);
    rng_seed(&rng, 42);
    example(&d, columns);
    EXPECT_OK(desc_encode(&d, &b));
    for (int i = 0; i < 20000; i++) {
        const size_t at = (size_t)rng_below(&rng, b.len);
        const uint8_t was = b.ptr[at];
        struct status st = OK;

        b.ptr[at] = (uint8_t)rng_next(&rng);
        st = desc_decode(buf_bytes(&b), &arena, &back);
        EXPECT_TRUE(st.code == STATUS_OK || st.code == STATUS_CORRUPT);
        if (st.code == STATUS_OK) {
            EXPECT_OK(desc_check(&back));
        }
        b.ptr[at] = was;
        arena_reset(&arena);
    }
    buf_deinit(&b);
    arena_deinit(&arena);
}

/* A few bytes that promise many columns may not allocate for them. */
TEST(desc_codec, count_is_compared_with_what_is_there)
{
    const uint8_t bytes[] = {1, 1, 1, 1, 1, 'a', 0, 0xC0, 0x0C, 0, 0, 0};
    struct table_desc back;
    struct arena arena;

    arena_init(&arena, 2048);
    EXPECT_CODE(STATUS_CORRUPT, desc_decode(bytes_of(bytes, sizeof(bytes)), &arena, &back));
    arena_deinit(&arena);
}

TEST(desc_codec, inconsistent_descriptors_are_not_written)
{
    struct column_desc columns[3];
    struct table_desc d;
    struct buf b = {0};

    example(&d, columns);
    columns[1].id = 1;
    EXPECT_CODE(STATUS_INVALID, desc_encode(&d, &b)); /* Same id twice. */
    example(&d, columns);
    columns[2].name[0] = 0;
    EXPECT_CODE(STATUS_INVALID, desc_encode(&d, &b));
    example(&d, columns);
    d.primary.columns[0].column = 3;
    EXPECT_CODE(STATUS_INVALID, desc_encode(&d, &b)); /* No such column. */
    example(&d, columns);
    d.primary.columns[1].column = 1;
    EXPECT_CODE(STATUS_INVALID, desc_encode(&d, &b)); /* A column twice. */
    example(&d, columns);
    columns[1].default_text = NULL;
    EXPECT_CODE(STATUS_INVALID, desc_encode(&d, &b));
    example(&d, columns);
    d.columns_count = 0;
    EXPECT_CODE(STATUS_INVALID, desc_encode(&d, &b));
    EXPECT_EQ(0, b.len);
    buf_deinit(&b);
}

TEST(desc_codec, name_of_the_longest_length_fits)
{
    struct column_desc columns[3];
    struct table_desc d;
    struct table_desc back;
    struct buf b = {0};
    struct arena arena;

    arena_init(&arena, 0);
    example(&d, columns);
    memset(d.name, 'n', CATALOG_NAME_MAX);
    d.name[CATALOG_NAME_MAX] = 0;
    EXPECT_OK(desc_encode(&d, &b));
    EXPECT_OK(desc_decode(buf_bytes(&b), &arena, &back));
    EXPECT_STREQ(d.name, back.name);
    buf_deinit(&b);
    arena_deinit(&arena);
}
