/* Leases, names and changes of tables, over transactions on a sorted array. */
#include "node/catalog/catalog.h"
#include "node/catalog/catalog_key.h"
#include "node/runtime/fiber.h"
#include "node/runtime/hlc.h"
#include "node/storage/key/key.h"
#include "tests/lib/env_fake.h"
#include "tests/lib/test.h"
#include "tests/unit/catalog/txn_fake.h"

/* Two nodes' catalogs over one store. */
struct rig {
    struct fake_world *world;
    struct shard *shard;
    struct hlc hlc;
    struct kv kv;
    struct catalog *a;
    struct catalog *b;
    void (*body)(struct rig *r);
    bool done;
};

static void run_body(void *arg)
{
    struct rig *r = arg;

    r->body(r);
    r->done = true;
}

/* Runs body on a fiber and moves the clock until it has ended. */
static void with_rig(void (*body)(struct rig *r))
{
    struct rig r = {.body = body};

    r.world = fake_world_create();
    r.shard = fake_world_add_shard(r.world);
    hlc_init(&r.hlc, shard_env(r.shard), 250000000);
    hlc_set_upper_bound(&r.hlc, UINT64_MAX);
    fake_kv_init(&r.kv, &r.hlc);
    EXPECT_OK(catalog_create(r.shard, &r.kv, &r.hlc, &r.a));
    EXPECT_OK(catalog_create(r.shard, &r.kv, &r.hlc, &r.b));
    catalog_set_node(r.a, 1);
    catalog_set_node(r.b, 2);
    EXPECT_OK(fiber_spawn(r.shard, "test", run_body, &r));
    for (int i = 0; i < 1000 && !r.done; i++) {
        fake_world_advance(r.world, 100000000);
    }
    EXPECT_TRUE(r.done);
    catalog_stop(r.a);
    catalog_stop(r.b);
    fake_world_settle(r.world);
    EXPECT_TRUE(catalog_stopped(r.a) && catalog_stopped(r.b));
    catalog_destroy(r.a);
    catalog_destroy(r.b);
    fake_kv_deinit(&r.kv);
    fake_world_destroy(r.world);
}

static void make_table(struct table_desc *d, struct column_desc *column, const char *name)
{
    *column = (struct column_desc){.id = 1, .type = 20, .typmod = -1, .not_null = true};
    (void)snprintf(column->name, sizeof(column->name), "id");
    *d = (struct table_desc){.schema = 2200, .columns = column, .columns_count = 1};
    (void)snprintf(d->name, sizeof(d->name), "%s", name);
    d->primary = (struct index_desc){.id = 1, .unique = true, .columns_count = 1};
    (void)snprintf(d->primary.name, sizeof(d->primary.name), "pkey");
    d->primary.columns[0].column = 1;
}

static struct status create(struct catalog *c, const char *name)
{
    struct column_desc column;
    struct table_desc d;

    make_table(&d, &column, name);
    return catalog_create_table(c, &d);
}

static void create_and_acquire(struct rig *r)
{
    struct table_desc *d = NULL;
    struct table_desc *same = NULL;
    uint64_t reads = 0;

    EXPECT_CODE(STATUS_NOT_FOUND, catalog_acquire(r->a, "t", &d));
    EXPECT_OK(create(r->a, "t"));
    EXPECT_CODE(STATUS_EXISTS, create(r->b, "t"));
    EXPECT_CODE(STATUS_WOULD_BLOCK, catalog_acquire_cached(r->b, "t", &d));
    EXPECT_OK(catalog_acquire(r->b, "t", &d));
    EXPECT_EQ(CATALOG_FIRST_TABLE_ID, d->id);
    EXPECT_EQ(1, d->version);
    EXPECT_STREQ("t", d->name);
    reads = r->kv.reads;
    EXPECT_OK(catalog_acquire(r->b, "t", &same)); /* From the cache. */
    EXPECT_TRUE(same == d);
    EXPECT_EQ(reads, r->kv.reads);
    EXPECT_OK(create(r->b, "u"));
    catalog_release(r->b, same);
    EXPECT_OK(catalog_acquire(r->b, "u", &same));
    EXPECT_EQ(CATALOG_FIRST_TABLE_ID + 1, same->id);
    catalog_release(r->b, same);
    catalog_release(r->b, d);
}

TEST(catalog, table_is_found_after_its_creation)
{
    with_rig(create_and_acquire);
}

/* The end of a lease is renewed without a change: same object, same generation. */
static void lease_renewed(struct rig *r)
{
    struct table_desc *d = NULL;
    struct table_desc *again = NULL;
    uint64_t generation = 0;

    EXPECT_OK(create(r->a, "t"));
    EXPECT_OK(catalog_acquire(r->a, "t", &d));
    EXPECT_TRUE(catalog_still_valid(r->a, d));
    generation = catalog_generation(r->a);
    EXPECT_OK(fiber_sleep(CATALOG_LEASE_NS + 1));
    EXPECT_FALSE(catalog_still_valid(r->a, d));
    EXPECT_CODE(STATUS_WOULD_BLOCK, catalog_acquire_cached(r->a, "t", &again));
    EXPECT_OK(catalog_acquire(r->a, "t", &again));
    EXPECT_TRUE(again == d);
    EXPECT_TRUE(catalog_still_valid(r->a, d));
    EXPECT_EQ(generation, catalog_generation(r->a));
    catalog_release(r->a, again);
    catalog_release(r->a, d);
}

TEST(catalog, lease_is_renewed_in_place)
{
    with_rig(lease_renewed);
}

/* What another node dropped and made anew under the same name is another table. */
static void replaced_elsewhere(struct rig *r)
{
    struct table_desc *old = NULL;
    struct table_desc *now = NULL;
    uint64_t generation = 0;

    EXPECT_OK(create(r->a, "t"));
    EXPECT_OK(catalog_acquire(r->a, "t", &old));
    generation = catalog_generation(r->a);
    EXPECT_OK(catalog_drop_table(r->b, "t"));
    EXPECT_FALSE(catalog_still_valid(r->a, old)); /* The drop has waited for it. */
    EXPECT_OK(create(r->b, "t"));
    EXPECT_OK(catalog_acquire(r->a, "t", &now));
    EXPECT_TRUE(now != old);
    EXPECT_TRUE(now->id > old->id);
    EXPECT_TRUE(generation != catalog_generation(r->a));
    EXPECT_STREQ("t", old->name); /* Still whole for who holds it. */
    catalog_release(r->a, old);
    catalog_release(r->a, now);
}

TEST(catalog, replaced_table_is_another_one)
{
    with_rig(replaced_elsewhere);
}

/* DROP answers when no lease taken before it can be valid anywhere. */
static void drop_waits(struct rig *r)
{
    struct table_desc *held = NULL;
    struct table_desc *gone = NULL;
    struct hts until = HTS_ZERO;

    EXPECT_OK(create(r->a, "t"));
    EXPECT_OK(catalog_acquire(r->b, "t", &held));
    until = hts_add_ns(held->valid_until, r->hlc.max_offset_ns);
    EXPECT_OK(catalog_drop_table(r->a, "t"));
    EXPECT_TRUE(hts_less(until, hclock_hts(hlc_now(&r->hlc))));
    EXPECT_FALSE(catalog_still_valid(r->b, held));
    EXPECT_CODE(STATUS_NOT_FOUND, catalog_drop_table(r->a, "t"));
    EXPECT_CODE(STATUS_NOT_FOUND, catalog_acquire(r->b, "t", &gone));
    catalog_release(r->b, held);
}

TEST(catalog, drop_waits_for_leases)
{
    with_rig(drop_waits);
}

/* Nobody else has ever used it: nothing to wait for. */
static void drop_at_once(struct rig *r)
{
    struct table_desc *held = NULL;
    uint64_t before = 0;

    EXPECT_OK(create(r->a, "t"));
    EXPECT_OK(catalog_acquire(r->a, "t", &held));
    before = fake_world_now_ns(r->world);
    EXPECT_OK(catalog_drop_table(r->a, "t"));
    EXPECT_EQ(before, fake_world_now_ns(r->world));
    EXPECT_FALSE(catalog_still_valid(r->a, held));
    catalog_release(r->a, held);
    EXPECT_EQ(1, fake_kv_rows(&r->kv)); /* The id counter. */
}

TEST(catalog, drop_of_an_own_table_waits_for_nobody)
{
    with_rig(drop_at_once);
}

/* A lease that comes in while the table is dropped: one of the two transactions runs again. */
struct racer {
    struct rig *r;
    bool done;
    enum status_code code;
};

static void race_acquire(void *arg)
{
    struct racer *x = arg;
    struct table_desc *d = NULL;
    const struct status st = catalog_acquire(x->r->b, "t", &d);

    x->code = st.code;
    if (status_ok(st)) {
        catalog_release(x->r->b, d);
    }
    x->done = true;
}

static void drop_races(struct rig *r)
{
    for (uint64_t delay = 0; delay < 9; delay++) {
        struct racer x = {.r = r};
        const uint64_t before = fake_world_now_ns(r->world);
        uint64_t took = 0;

        EXPECT_OK(create(r->a, "t"));
        r->kv.read_takes_ns = 4000000;
        EXPECT_OK(fiber_spawn(r->shard, "racer", race_acquire, &x));
        EXPECT_OK(fiber_sleep(delay * 1000000));
        EXPECT_OK(catalog_drop_table(r->a, "t"));
        took = fake_world_now_ns(r->world) - before;
        r->kv.read_takes_ns = 0;
        while (!x.done) {
            EXPECT_OK(fiber_sleep(1000000));
        }
        /* Either it had a lease and we have waited, or it never saw the table. */
        EXPECT_TRUE(x.code == STATUS_OK || x.code == STATUS_NOT_FOUND);
        EXPECT_TRUE(x.code == STATUS_NOT_FOUND || took > CATALOG_LEASE_NS);
    }
}

TEST(catalog, lease_during_a_drop_is_seen_or_refused)
{
    with_rig(drop_races);
}

/* A lease in use is renewed before it ends; nobody waits. */
static void renewed_ahead(struct rig *r)
{
    struct table_desc *d = NULL;
    struct hts first = HTS_ZERO;
    uint64_t commits = 0;

    EXPECT_OK(create(r->a, "t"));
    EXPECT_OK(catalog_acquire(r->a, "t", &d));
    first = d->valid_until;
    commits = r->kv.commits;
    for (int i = 0; i < 50; i++) {
        EXPECT_OK(fiber_sleep(CATALOG_LEASE_NS / 10));
        EXPECT_TRUE(catalog_still_valid(r->a, d));
    }
    EXPECT_TRUE(hts_less(first, d->valid_until));
    EXPECT_EQ(commits, r->kv.commits); /* Renewing only reads. */
    r->kv.fail = STATUS_UNAVAILABLE;   /* A renewal that fails costs a warning, and is repeated. */
    r->kv.fail_in = 1;
    for (int i = 0; i < 50; i++) {
        EXPECT_OK(fiber_sleep(CATALOG_LEASE_NS / 10));
        EXPECT_TRUE(catalog_still_valid(r->a, d));
    }
    EXPECT_EQ(0, r->kv.fail_in);
    catalog_release(r->a, d);
}

TEST(catalog, lease_in_use_is_renewed_ahead)
{
    with_rig(renewed_ahead);
}

static void put_row(struct kv *kv, uint32_t table, uint32_t n)
{
    uint8_t memory[64];
    struct bytes key = BYTES_EMPTY;
    struct key_enc e;

    key_enc_init(&e, memory, sizeof(memory));
    key_enc_index(&e, table, 1);
    key_enc_int(&e, KEY_ASC, n);
    key_enc_family(&e, 0);
    EXPECT_OK(key_enc_finish(&e, &key));
    fake_kv_put(kv, key, BYTES_LIT("row"));
}

/* More rows than one transaction deletes; those of the neighbours stay. */
static void drop_deletes_rows(struct rig *r)
{
    uint32_t before = 0;

    EXPECT_OK(create(r->a, "t"));
    EXPECT_OK(create(r->a, "u"));
    before = fake_kv_rows(&r->kv);
    put_row(&r->kv, CATALOG_FIRST_TABLE_ID - 1, 1);
    put_row(&r->kv, CATALOG_FIRST_TABLE_ID + 1, 1);
    for (uint32_t i = 0; i < 1200; i++) {
        put_row(&r->kv, CATALOG_FIRST_TABLE_ID, i);
    }
    EXPECT_OK(catalog_drop_table(r->a, "t"));
    EXPECT_EQ(before - 2 + 2, fake_kv_rows(&r->kv)); /* Name and descriptor gone, two rows came. */
}

TEST(catalog, drop_deletes_the_rows_of_the_table)
{
    with_rig(drop_deletes_rows);
}

static void list_all(struct rig *r)
{
    struct table_desc **tables = NULL;
    struct arena arena;
    uint32_t count = 9;

    arena_init(&arena, 0);
    EXPECT_OK(catalog_list(r->a, &arena, &tables, &count));
    EXPECT_EQ(0, count);
    EXPECT_OK(create(r->a, "b"));
    EXPECT_OK(create(r->a, "a"));
    EXPECT_OK(create(r->a, "ab"));
    EXPECT_OK(catalog_list(r->b, &arena, &tables, &count));
    EXPECT_EQ(3, count);
    EXPECT_STREQ("a", tables[0]->name);
    EXPECT_STREQ("ab", tables[1]->name);
    EXPECT_STREQ("b", tables[2]->name);
    EXPECT_EQ(CATALOG_FIRST_TABLE_ID, tables[2]->id);
    arena_deinit(&arena);
}

TEST(catalog, list_is_ordered_by_name)
{
    with_rig(list_all);
}

static void conflicts(struct rig *r)
{
    struct table_desc *d = NULL;

    r->kv.fail_commit = STATUS_TXN_RETRY;
    r->kv.fail_commits = 5;
    EXPECT_OK(create(r->a, "t"));
    EXPECT_EQ(0, r->kv.fail_commits);
    r->kv.fail_commits = 1000;
    EXPECT_CODE(STATUS_TXN_RETRY, create(r->a, "u")); /* Not for ever. */
    r->kv.fail_commits = 0;
    r->kv.fail = STATUS_UNAVAILABLE;
    r->kv.fail_in = 2;
    EXPECT_CODE(STATUS_UNAVAILABLE, catalog_acquire(r->a, "t", &d));
    EXPECT_OK(catalog_acquire(r->a, "t", &d));
    catalog_release(r->a, d);
}

TEST(catalog, conflicts_are_repeated_and_failures_are_told)
{
    with_rig(conflicts);
}

/* A commit that nobody answered for is looked up by the id that only we can have taken. */
static void ambiguous(struct rig *r)
{
    r->kv.fail_commit = STATUS_AMBIGUOUS;
    r->kv.fail_commits = 1;
    r->kv.fail_after = 1; /* The id. */
    r->kv.commit_anyway = true;
    EXPECT_OK(create(r->a, "t"));
    EXPECT_EQ(0, r->kv.fail_commits);
    r->kv.fail_commits = 1;
    r->kv.fail_after = 1;
    r->kv.commit_anyway = false;
    EXPECT_CODE(STATUS_AMBIGUOUS, create(r->a, "u"));
}

TEST(catalog, ambiguous_creation_is_looked_up)
{
    with_rig(ambiguous);
}

/* ---- one read for many fibers ---- */

struct reader_fiber {
    struct rig *r;
    uint32_t *left;
    enum status_code code;
};

static void acquire_once(void *arg)
{
    struct reader_fiber *f = arg;
    struct table_desc *d = NULL;
    const struct status st = catalog_acquire(f->r->a, "t", &d);

    f->code = st.code;
    if (status_ok(st)) {
        catalog_release(f->r->a, d);
    }
    (*f->left)--;
}

static void thundering_herd(struct rig *r)
{
    struct reader_fiber fibers[20];
    uint32_t left = ARRAY_COUNT(fibers);
    uint64_t reads = 0;

    EXPECT_OK(create(r->b, "t"));
    r->kv.read_takes_ns = 1000000;
    reads = r->kv.reads;
    for (uint32_t i = 0; i < ARRAY_COUNT(fibers); i++) {
        fibers[i] = (struct reader_fiber){.r = r, .left = &left};
        EXPECT_OK(fiber_spawn(r->shard, "reader", acquire_once, &fibers[i]));
    }
    while (left > 0) {
        EXPECT_OK(fiber_sleep(1000000));
    }
    EXPECT_EQ(reads + 2, r->kv.reads); /* Name and descriptor, once. */
    for (uint32_t i = 0; i < ARRAY_COUNT(fibers); i++) {
        EXPECT_EQ(STATUS_OK, fibers[i].code);
    }
}

TEST(catalog, many_fibers_share_one_read)
{
    with_rig(thundering_herd);
}

static void damaged(struct rig *r)
{
    struct catalog_key k;
    struct table_desc *d = NULL;

    EXPECT_OK(create(r->a, "t"));
    fake_kv_put(&r->kv, catalog_key_descriptor(&k, CATALOG_FIRST_TABLE_ID), BYTES_LIT("\x01junk"));
    EXPECT_CODE(STATUS_CORRUPT, catalog_acquire(r->b, "t", &d));
    fake_kv_put(&r->kv, catalog_key_name(&k, 2200, "t"), BYTES_LIT("x"));
    EXPECT_CODE(STATUS_CORRUPT, catalog_acquire(r->b, "t", &d));
}

TEST(catalog, damaged_records_are_told)
{
    with_rig(damaged);
}

static void rowids(struct rig *r)
{
    int64_t last = 0;

    catalog_set_node(r->a, 3);
    catalog_set_node(r->b, 4);
    for (int i = 0; i < 1000; i++) {
        const int64_t a = catalog_unique_rowid(r->a);
        const int64_t b = catalog_unique_rowid(r->b);

        EXPECT_TRUE(a > last);
        EXPECT_TRUE(a != b);
        last = a;
    }
}

TEST(catalog, rowids_rise_and_differ_between_nodes)
{
    with_rig(rowids);
}

static void long_names(struct rig *r)
{
    char name[80];
    struct table_desc *d = NULL;

    memset(name, 'n', sizeof(name));
    name[64] = 0;
    EXPECT_CODE(STATUS_NOT_FOUND, catalog_acquire(r->a, name, &d));
    EXPECT_CODE(STATUS_NOT_FOUND, catalog_drop_table(r->a, name));
    name[63] = 0;
    EXPECT_OK(create(r->a, name));
    EXPECT_OK(catalog_acquire(r->a, name, &d));
    catalog_release(r->a, d);
}

TEST(catalog, names_of_63_bytes_work_and_64_do_not_exist)
{
    with_rig(long_names);
}
