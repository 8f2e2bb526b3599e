/* Nobody writes below a read: the cache against a list of all reads. */
#include <stdlib.h>

#include "node/base/hash.h"
#include "node/base/invariant.h"
#include "node/range/conflict/tscache.h"
#include "tests/lib/test.h"

#define KEYS      60
#define READS_MAX 4000

struct read {
    struct bytes start;
    struct bytes end;
    struct hts ts;
    struct uuid reader;
};

/* Keys in order; some agree in more bytes than segments keep. */
struct world {
    struct tscache *cache;
    char keys[KEYS][160];
    struct read reads[READS_MAX];
    uint32_t count;
    struct rng rng;
};

static struct uuid owner(uint64_t n)
{
    return (struct uuid){{(uint8_t)n}};
}

static struct world *world_create(struct tscache_options o, uint64_t seed)
{
    struct world *w = calloc(1, sizeof(*w));

    INVARIANT(w != NULL);
    for (int i = 0; i < KEYS; i++) {
        char *k = w->keys[i];

        memset(k, 'm', 130);
        if (i % 3 != 0) {
            (void)snprintf(k, sizeof(w->keys[i]), "%c%02d", i < 30 ? 'a' : 'z', i);
        } else {
            (void)snprintf(k + (i < 30 ? 90 : 130), 20, "%02d", i);
        }
    }
    rng_seed(&w->rng, seed);
    INVARIANT(status_ok(tscache_create(&o, &w->cache)));
    return w;
}

static void world_destroy(struct world *w)
{
    tscache_destroy(w->cache);
    free(w);
}

static struct bytes random_key(struct world *w)
{
    return bytes_str(w->keys[rng_below(&w->rng, KEYS)]);
}

static struct hts random_ts(struct world *w)
{
    /* Time goes on, and some look back. */
    return (struct hts){1000 + w->count + rng_below(&w->rng, 300), (uint32_t)rng_below(&w->rng, 3)};
}

static void read_something(struct world *w, uint32_t owners)
{
    struct read *r = &w->reads[w->count++];

    r->start = random_key(w);
    r->end = rng_permille(&w->rng, 500) ? BYTES_EMPTY : random_key(w);
    r->ts = random_ts(w);
    r->reader = owner(rng_below(&w->rng, owners));
    if (r->end.len > 0 && bytes_cmp(r->end, r->start) < 0) {
        const struct bytes swap = r->start;

        r->start = r->end;
        r->end = swap;
    }
    tscache_read(w->cache, r->start, r->end, r->ts, r->reader);
}

static bool covers(const struct read *r, struct bytes key)
{
    if (r->end.len == 0) {
        return bytes_eq(r->start, key);
    }
    return bytes_cmp(r->start, key) <= 0 && bytes_cmp(key, r->end) < 0;
}

static struct hts oracle(const struct world *w, struct bytes key, struct uuid writer)
{
    struct hts ts = HTS_ZERO;

    for (uint32_t i = 0; i < w->count; i++) {
        const struct read *r = &w->reads[i];

        if (covers(r, key) && (uuid_is_zero(r->reader) || !uuid_eq(r->reader, writer))) {
            ts = hts_max(ts, r->ts);
        }
    }
    return ts;
}

/* In a small cache, with and without forgetting: never below what was read. */
TEST(tscache, is_never_below_a_read)
{
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct world *w = world_create(
            (struct tscache_options){.points = 16, .spans = seed % 2 == 0 ? 8 : 64, .markers = 4},
            seed);
        struct hts before[KEYS] = {{0}};
        bool fine = true;

        while (w->count < READS_MAX && fine) {
            const uint64_t k = rng_below(&w->rng, KEYS);
            const struct bytes key = bytes_str(w->keys[k]);
            const struct uuid writer = owner(rng_below(&w->rng, 5));
            struct hts ts;

            read_something(w, 4);
            if (seed >= 5 && rng_permille(&w->rng, 10)) {
                tscache_forget_below(w->cache, (struct hts){900 + w->count, 0});
            }
            ts = tscache_max(w->cache, key, owner(0));
            fine = hts_less_eq(oracle(w, key, writer), tscache_max(w->cache, key, writer)) &&
                   hts_less_eq(before[k], ts);
            before[k] = ts;
        }
        world_destroy(w);
        EXPECT_TRUE(fine);
    }
}

/* Where nothing had to be forgotten the answer to anybody is exact, however spans overlap. */
TEST(tscache, is_exact_while_there_is_room)
{
    for (uint64_t seed = 11; seed <= 14; seed++) {
        struct world *w = world_create((struct tscache_options){0}, seed);
        bool fine = true;

        /* Long keys are cut; short ones only. */
        for (int i = 0; i < KEYS; i++) {
            (void)snprintf(w->keys[i], sizeof(w->keys[i]), "k%02d", i);
        }
        while (w->count < READS_MAX / 2 && fine) {
            const struct bytes key = random_key(w);

            read_something(w, 3);
            fine = hts_eq(oracle(w, key, owner(0)), tscache_max(w->cache, key, owner(0)));
        }
        world_destroy(w);
        EXPECT_TRUE(fine);
    }
}

static struct hts max_of(struct tscache *c, const char *key, uint64_t writer)
{
    return tscache_max(c, bytes_str(key), owner(writer));
}

static void do_read(struct tscache *c, const char *start, const char *end, uint64_t ms,
                    uint64_t reader)
{
    tscache_read(c, bytes_str(start), bytes_str(end), hts_ms(ms), owner(reader));
}

/* A transaction commits at the timestamp of its reads unless others have read there as well. */
TEST(tscache, own_reads_do_not_stand_in_the_way)
{
    const struct tscache_options o = {0};
    struct tscache *c = NULL;

    EXPECT_OK(tscache_create(&o, &c));
    do_read(c, "a", "", 10, 1);
    do_read(c, "a", "", 20, 2);
    do_read(c, "a", "", 15, 1);
    EXPECT_HTS_EQ(hts_ms(15), max_of(c, "a", 2));
    EXPECT_HTS_EQ(hts_ms(20), max_of(c, "a", 1));
    EXPECT_HTS_EQ(hts_ms(20), max_of(c, "a", 0));
    do_read(c, "a", "", 20, 3); /* Two at the same time: nobody's. */
    EXPECT_HTS_EQ(hts_ms(20), max_of(c, "a", 2));

    do_read(c, "b", "d", 10, 1);
    do_read(c, "c", "e", 30, 2);
    EXPECT_HTS_EQ(HTS_ZERO, max_of(c, "b", 1));
    EXPECT_HTS_EQ(hts_ms(10), max_of(c, "b", 2));
    EXPECT_HTS_EQ(hts_ms(10), max_of(c, "c", 2));
    EXPECT_HTS_EQ(hts_ms(30), max_of(c, "c", 1));
    EXPECT_HTS_EQ(HTS_ZERO, max_of(c, "e", 1)); /* Ends are exclusive. */
    EXPECT_HTS_EQ(HTS_ZERO, max_of(c, "ax", 1));
    do_read(c, "x", "x", 40, 2); /* Empty: nothing was read. */
    EXPECT_HTS_EQ(HTS_ZERO, max_of(c, "x", 1));
    tscache_destroy(c);
}

/* The next key is not read by who reads one key as a span. */
TEST(tscache, a_span_of_one_key_is_a_point)
{
    const struct tscache_options o = {0};
    struct tscache *c = NULL;

    EXPECT_OK(tscache_create(&o, &c));
    tscache_read(c, BYTES_LIT("a"), BYTES_LIT("a\0"), hts_ms(5), owner(1));
    EXPECT_HTS_EQ(hts_ms(5), max_of(c, "a", 2));
    EXPECT_HTS_EQ(HTS_ZERO, tscache_max(c, BYTES_LIT("a\0"), owner(2)));
    tscache_destroy(c);
}

/* Keys that cannot be kept whole: the span grows, at worst over everything behind it. */
TEST(tscache, long_keys_are_cut_on_the_safe_side)
{
    const struct tscache_options o = {0};
    struct tscache *c = NULL;
    uint8_t start[200];
    uint8_t end[200];

    memset(start, 'k', sizeof(start));
    memset(end, 0xff, sizeof(end));
    EXPECT_OK(tscache_create(&o, &c));
    tscache_read(c, bytes_of(start, 150), bytes_of(start, 160), hts_ms(5), owner(1));
    EXPECT_HTS_EQ(hts_ms(5), tscache_max(c, bytes_of(start, 155), owner(2)));
    EXPECT_HTS_EQ(HTS_ZERO, max_of(c, "j", 2));
    EXPECT_HTS_EQ(HTS_ZERO, max_of(c, "l", 2));
    tscache_read(c, bytes_of(end, 150), bytes_of(end, 160), hts_ms(6), owner(1));
    EXPECT_HTS_EQ(hts_ms(6), max_of(c, "j", 2));
    tscache_destroy(c);
}

/* The oldest go first; what they said becomes true of everything. */
TEST(tscache, eviction_raises_the_floor_to_old_reads_only)
{
    const struct tscache_options o = {.spans = 100};
    struct tscache *c = NULL;
    char start[16];
    char end[20];

    EXPECT_OK(tscache_create(&o, &c));
    for (uint64_t i = 0; i < 5000; i++) {
        (void)snprintf(start, sizeof(start), "%05u", (unsigned)(i * 7919 % 10000));
        (void)snprintf(end, sizeof(end), "%sx", start);
        do_read(c, start, end, 1000 + i, 1);
        EXPECT_HTS_EQ(hts_ms(1000 + i), max_of(c, start, 2));
        EXPECT_TRUE(hts_less_eq(max_of(c, "unread", 2), hts_ms(i < 100 ? 0 : 1000 + i - 49)));
    }
    EXPECT_TRUE(hts_less(hts_ms(5800), max_of(c, "unread", 2)));
    tscache_destroy(c);
}

TEST(tscache, forgets_on_request)
{
    const struct tscache_options o = {0};
    struct tscache *c = NULL;

    EXPECT_OK(tscache_create(&o, &c));
    do_read(c, "a", "c", 10, 1);
    do_read(c, "d", "f", 20, 1);
    tscache_forget_below(c, hts_ms(20));
    EXPECT_HTS_EQ(hts_prev(hts_ms(20)), max_of(c, "a", 1));
    EXPECT_HTS_EQ(hts_ms(20), max_of(c, "d", 2));
    tscache_forget_below(c, hts_ms(5)); /* Never back. */
    EXPECT_HTS_EQ(hts_prev(hts_ms(20)), max_of(c, "a", 1));
    tscache_destroy(c);
}

TEST(tscache, markers_say_what_became_of_a_transaction)
{
    const struct tscache_options o = {.markers = 3};
    struct tscache *c = NULL;

    EXPECT_OK(tscache_create(&o, &c));
    tscache_mark_pushed(c, owner(1), hts_ms(50), hts_ms(1));
    tscache_mark_pushed(c, owner(1), hts_ms(40), hts_ms(2)); /* Never lower. */
    tscache_mark_finished(c, owner(2), hts_ms(3));
    tscache_mark_pushed(c, owner(2), hts_ms(60), hts_ms(4));
    EXPECT_HTS_EQ(hts_ms(50), tscache_marker_of(c, owner(1)).pushed);
    EXPECT_FALSE(tscache_marker_of(c, owner(1)).finished);
    EXPECT_TRUE(tscache_marker_of(c, owner(2)).finished);
    EXPECT_HTS_EQ(hts_ms(60), tscache_marker_of(c, owner(2)).pushed);
    EXPECT_FALSE(tscache_marker_of(c, owner(3)).finished);
    EXPECT_HTS_EQ(HTS_ZERO, tscache_marker_floor(c));

    /* Used again, 1 is younger than 2: that one makes room. */
    tscache_mark_finished(c, owner(3), hts_ms(5));
    tscache_mark_pushed(c, owner(1), hts_ms(70), hts_ms(6));
    tscache_mark_finished(c, owner(4), hts_ms(7));
    EXPECT_FALSE(tscache_marker_of(c, owner(2)).finished);
    EXPECT_HTS_EQ(hts_next(hts_ms(4)), tscache_marker_floor(c));
    EXPECT_HTS_EQ(hts_ms(70), tscache_marker_of(c, owner(1)).pushed);
    EXPECT_TRUE(tscache_marker_of(c, owner(3)).finished);
    tscache_destroy(c);
}

/* Whatever is forgotten was made below the floor. */
TEST(tscache, markers_are_remembered_or_below_the_floor)
{
    const struct tscache_options o = {.markers = 100};
    struct tscache *c = NULL;
    uint64_t made[256] = {0};
    struct hts floor = HTS_ZERO;
    struct rng rng;

    rng_seed(&rng, 5);
    EXPECT_OK(tscache_create(&o, &c));
    for (uint64_t now = 1; now < 20000; now++) {
        const uint64_t txn = rng_below(&rng, 256);
        const uint64_t asked = rng_below(&rng, 256);

        tscache_mark_finished(c, owner(txn), hts_ms(now));
        made[txn] = now;
        EXPECT_TRUE(hts_less_eq(floor, tscache_marker_floor(c)));
        floor = tscache_marker_floor(c);
        EXPECT_TRUE(made[asked] == 0 || tscache_marker_of(c, owner(asked)).finished ||
                    hts_less(hts_ms(made[asked]), floor));
        EXPECT_TRUE(now < 200 || hts_less(hts_ms(now - 200), floor));
    }
    tscache_destroy(c);
}
