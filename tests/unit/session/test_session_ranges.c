/* Statements about ranges: what reaches the one who carries them out, and what comes back. */
#include "node/base/invariant.h"
#include "node/sql/session/admin.h"
#include "node/sql/session/session_internal.h"
#include "tests/unit/session/session_rig.h"

#define SESSION_TEST(name)           \
    static void name(struct rig *r); \
    TEST(session_ranges, name)       \
    {                                \
        with_session(name);          \
    }                                \
    static void name(struct rig *r)

struct fake_admin {
    struct sql_admin base;
    uint32_t splits;
    uint8_t key[64]; /* Of the last one. */
    size_t key_len;
    uint64_t range;
    uint32_t store;
    enum status_code fail;
};

static struct status fake_split(void *ctx, struct bytes key)
{
    struct fake_admin *f = ctx;

    if (f->fail != STATUS_OK) {
        return FAIL(f->fail, "as asked");
    }
    f->splits++;
    f->key_len = key.len < sizeof(f->key) ? key.len : 0;
    memcpy(f->key, key.ptr, f->key_len);
    return OK;
}

static struct status fake_transfer(void *ctx, uint64_t range, uint32_t store)
{
    struct fake_admin *f = ctx;

    f->range = range;
    f->store = store;
    return f->fail == STATUS_OK ? OK : FAIL(f->fail, "as asked");
}

/* Two ranges: one that begins before the table, and one from the last split to the end of all. */
static struct status fake_ranges(void *ctx, struct bytes start, struct bytes end,
                                 struct arena *arena, struct sql_range **out, uint32_t *count)
{
    static const uint32_t stores[] = {3, 1, 2};
    struct fake_admin *f = ctx;
    struct sql_range *r = ARENA_ARRAY(arena, struct sql_range, 2);

    INVARIANT(bytes_cmp(start, end) < 0);
    r[0] = (struct sql_range){.id = 1, .end = bytes_of(f->key, f->key_len), .leaseholder = 3};
    r[1] = (struct sql_range){.id = 7, .start = bytes_of(f->key, f->key_len)};
    r[0].replicas = stores;
    r[0].replicas_count = 3;
    *out = r;
    *count = 2;
    return OK;
}

static struct fake_admin with_admin(void)
{
    return (struct fake_admin){
        .base = {.split = fake_split, .transfer = fake_transfer, .ranges = fake_ranges}};
}

static void embed(struct rig *r, struct fake_admin *f)
{
    f->base.ctx = f;
    r->sql->o.admin = &f->base;
}

SESSION_TEST(splits_reach_the_keys_of_their_rows)
{
    struct fake_admin f = with_admin();

    embed(r, &f);
    EXPECT_STREQ("42P01!", query(r, "alter table missing split at values ('a')"));
    EXPECT_TRUE(strstr(query(r, "alter table t split at values ('a'), ('k')"), "SPLIT 2") != NULL);
    EXPECT_EQ(2, f.splits);
    EXPECT_TRUE(strstr(query(r, "show ranges from table t"), "null '/k' SHOW 2") != NULL);
}

SESSION_TEST(splits_that_make_no_sense_are_refused)
{
    struct fake_admin f = with_admin();

    embed(r, &f);
    EXPECT_STREQ("(key) 42601!", query(r, "alter table t split at values ('a', 'b')"));
    EXPECT_STREQ("(key) 22004!", query(r, "alter table t split at values (null)"));
    EXPECT_STREQ("0A000!", query(r, "alter table t split at select 1"));
    EXPECT_STREQ("0A000!", query(r, "alter index t@i split at values ('a')"));
    EXPECT_STREQ("42601!", query(r, "alter table t split at values ("));
    EXPECT_STREQ("BEGIN 25001!", query(r, "begin; alter table t split at values ('a')"));
    EXPECT_STREQ("ROLLBACK", query(r, "rollback"));
    f.fail = STATUS_OVERLOADED;
    EXPECT_STREQ("(key) 53400!", query(r, "alter table t split at values ('a')"));
    f.fail = STATUS_RANGE_TOO_SMALL;
    EXPECT_STREQ("(key) 55000!", query(r, "alter table t split at values ('a')"));
    EXPECT_EQ(0, f.splits);
}

SESSION_TEST(leases_are_handed_over_by_number)
{
    struct fake_admin f = with_admin();

    embed(r, &f);
    EXPECT_STREQ("ALTER RANGE", query(r, "alter range 12 relocate lease to 3"));
    EXPECT_EQ(12, f.range);
    EXPECT_EQ(3, f.store);
    EXPECT_STREQ("22023!", query(r, "alter range 12 relocate lease to 0"));
    EXPECT_STREQ("42601!", query(r, "alter range 12 relocate lease to 3 4"));
    EXPECT_STREQ("0A000!", query(r, "alter range 12 relocate voters to 3"));
}

SESSION_TEST(without_a_server_they_are_refused_by_name)
{
    EXPECT_STREQ("0A000!", query(r, "show ranges from table t"));
    EXPECT_STREQ("SHOW RANGES is not supported yet", r->message);
    EXPECT_STREQ("0A000!", query(r, "alter table t split at values ('a')"));
    EXPECT_STREQ("0A000!", query(r, "alter range 1 relocate lease to 2"));
}
