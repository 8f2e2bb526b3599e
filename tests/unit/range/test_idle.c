/*
 * Replicas that do nothing cost nothing. A release build does this with 10,000 ranges and prints what a
 * replica takes.
 */
#include <malloc.h>
#include <stdio.h>
#include <time.h>

#include "node/base/invariant.h"
#include "node/range/internal.h"
#include "tests/unit/range/cluster.h"
#include "tests/unit/range/ranges.h"

#ifdef DSQL_DEBUG
#define RANGES 150u
#else
#define RANGES 10000u
#endif

#define FEW 30u

struct traffic {
    uint64_t frames;
    uint64_t raft_bytes;
    uint64_t bytes;
    long us; /* Of CPU. */
};

static bool count_frame(void *ctx, const struct cluster_frame *f)
{
    struct traffic *t = ctx;

    t->frames++;
    t->bytes += f->bytes.len;
    t->raft_bytes += f->type == RPC_TYPE_RAFT ? f->bytes.len : 0;
    return true;
}

static uint32_t awake(const struct store *s)
{
    uint32_t count = 0;

    LIST_FOREACH(it, &s->awake_replicas) {
        count++;
    }
    return count;
}

static bool all_asleep(struct cluster *c)
{
    return awake(c->nodes[0].store) + awake(c->nodes[1].store) + awake(c->nodes[2].store) == 0;
}

/* Three stores with a replica of every range each, until nothing moves any more. */
static void start(struct cluster *c, uint32_t ranges)
{
    cluster_start(c, 3);
    for (uint32_t i = 0; i < 3; i++) {
        cluster_crash(c, i, 1000);
        INVARIANT(status_ok(engine_open_mem(c->nodes[i].disk, &c->nodes[i].engine)));
        ranges_write(c->nodes[i].engine, i + 1, 3, ranges);
        engine_close(c->nodes[i].engine);
        cluster_restart(c, i);
    }
    for (int i = 0; i < 300; i++) {
        cluster_run_ms(c, 100);
        if (i > 60 && all_asleep(c)) {
            return;
        }
    }
}

static uint32_t led(struct cluster *c)
{
    uint64_t leases = 0;

    for (uint32_t i = 0; i < 3; i++) {
        struct store_stats st;

        store_get_stats(c->nodes[i].store, &st);
        leases += st.leases;
    }
    return (uint32_t)leases;
}

/* What ten idle seconds take. */
static struct traffic idle_traffic(struct cluster *c)
{
    const clock_t begin = clock();
    struct traffic t = {0};

    c->filter = count_frame;
    c->filter_ctx = &t;
    cluster_run_ms(c, 10000);
    c->filter = NULL;
    t.us = (long)((clock() - begin) * 1000000 / CLOCKS_PER_SEC);
    return t;
}

/* What the three stores hold: they end. */
static size_t end_stores(struct cluster *c)
{
    const size_t before = mallinfo2().uordblks;

    for (uint32_t i = 0; i < 3; i++) {
        cluster_crash(c, i, 0);
    }
    return before - mallinfo2().uordblks;
}

/* Only in release builds do numbers mean anything. */
static void print_cost(const struct traffic *few, const struct traffic *many, size_t bytes)
{
#ifdef DSQL_DEBUG
    UNUSED(few);
    UNUSED(many);
    UNUSED(bytes);
#else
    printf("10 s of %u idle replicas: %ld us of CPU, of %u: %ld us; each takes %zu bytes (%zu of "
           "them struct replica, %zu a descriptor)\n",
           3 * RANGES, many->us, 3 * FEW, few->us, bytes / (3 * (RANGES - FEW)),
           sizeof(struct replica), sizeof(struct range_desc));
#endif
}

TEST(idle, ranges_that_rest_send_nothing_and_are_not_ticked)
{
    struct cluster c;
    struct traffic few;
    struct traffic many;
    size_t fixed = 0;

    start(&c, FEW); /* Enough for every store to lead some. */
    EXPECT_TRUE(all_asleep(&c));
    cluster_run_ms(&c, 50000);
    few = idle_traffic(&c);
    fixed = end_stores(&c);
    cluster_stop(&c);

    start(&c, RANGES);
    EXPECT_TRUE(all_asleep(&c));
    EXPECT_EQ(RANGES + 1, led(&c));
    cluster_run_ms(&c, 50000); /* Between two times at which followers ask whether they belong. */
    EXPECT_TRUE(all_asleep(&c));
    many = idle_traffic(&c);
    EXPECT_TRUE(all_asleep(&c));
    EXPECT_EQ(0, many.raft_bytes);
    EXPECT_TRUE(many.bytes * 100 <= few.bytes * 105);
    print_cost(&few, &many, end_stores(&c) - fixed);
    cluster_stop(&c);
}

/* A leader that dies wakes its followers and nobody else; the rest goes on sleeping. */
TEST(idle, a_lost_store_wakes_whom_it_concerns)
{
    struct cluster c;
    enum status_code code = STATUS_OK;

    start(&c, 20);
    EXPECT_TRUE(all_asleep(&c));
    c.nodes[2].cut = true;
    cluster_run_ms(&c, 12000);
    EXPECT_TRUE(awake(c.nodes[0].store) + awake(c.nodes[1].store) == 0); /* Two of three suffice. */
    c.nodes[2].cut = false;
    cluster_run_ms(&c, 12000);
    EXPECT_TRUE(all_asleep(&c));
    EXPECT_EQ(21, led(&c));
    EXPECT_TRUE(cluster_get(&c, (uint32_t)cluster_leaseholder(&c), "\x88k\x88", &code) != NULL);
    cluster_stop(&c);
}

TEST(idle, ranges_are_found_by_id_and_by_key)
{
    struct cluster c;
    struct store *s = NULL;
    struct store_range_info info;
    struct arena arena;
    range_id at = {0};
    uint32_t count = 0;
    uint8_t mem[8];

    start(&c, 20);
    s = c.nodes[0].store;
    arena_init(&arena, 0);
    while (store_next_range(s, at, &arena, &info)) {
        EXPECT_TRUE(info.desc.id.v > at.v);
        at = info.desc.id;
        count++;
    }
    EXPECT_EQ(21, count);
    EXPECT_EQ(RANGES_ID(7).v, store__find_key(s, ranges_start(mem, 7))->range.v);
    EXPECT_EQ(RANGES_ID(8).v, store__right_of(store__find_key(s, ranges_start(mem, 7)))->range.v);
    EXPECT_EQ(RANGES_ID(6).v, store__left_of(store__find_key(s, ranges_start(mem, 7)))->range.v);
    EXPECT_TRUE(store__right_of(store__find_key(s, ranges_start(mem, 19))) == NULL);
    EXPECT_TRUE(store__find_key(s, ranges_start(mem, 20)) == NULL);
    EXPECT_EQ(RANGE_FIRST_ID, store__find_key(s, BYTES_LIT("\x88"))->range.v);
    EXPECT_TRUE(store__left_of(store__find_key(s, BYTES_LIT("\x88"))) == NULL);
    arena_deinit(&arena);
    cluster_stop(&c);
}

TEST(idle, load_is_counted_over_ten_seconds)
{
    struct cluster c;
    struct replica *r = NULL;
    const struct load_sample x = {
        .requests = 2, .bytes_read = 10, .bytes_written = 3, .cpu_ns = 1000};

    cluster_start(&c, 1);
    r = store__find(c.nodes[0].store, (range_id){RANGE_FIRST_ID});
    load__reset(r);
    EXPECT_EQ(0, load__read(r).requests);
    for (int i = 0; i < 20; i++) {
        load__note(r, &x);
        cluster_run_ms(&c, 1000);
    }
    EXPECT_EQ(40, load__read(r).requests);
    EXPECT_EQ(200, load__read(r).bytes_read);
    EXPECT_EQ(60, load__read(r).bytes_written);
    EXPECT_EQ(20000, load__read(r).cpu_ns);
    EXPECT_TRUE(load__read(r).requests_per_s >= 1.7 && load__read(r).requests_per_s <= 2.1);
    EXPECT_TRUE(load__read(r).cpu_ns_per_s >= 850 && load__read(r).cpu_ns_per_s <= 1050);
    cluster_run_ms(&c, 15000);
    EXPECT_TRUE(load__read(r).requests_per_s == 0);
    load__note(r, &x);
    EXPECT_TRUE(load__read(r).requests_per_s > 0.1 && load__read(r).requests_per_s < 0.3);
    load__reset(r);
    EXPECT_EQ(0, load__read(r).requests);
    cluster_stop(&c);
}
