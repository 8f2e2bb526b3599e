/*
 * test_engine.c -- both engines against each other, and each against what only it can suffer.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "node/base/codec.h"
#include "node/base/hash.h"
#include "node/storage/engine/engine.h"
#include "node/storage/engine/space.h"
#include "node/storage/key/key.h"
#include "tests/lib/test.h"
#include "tests/unit/storage/tmpdir.h"

static struct bytes b(const char *s)
{
    return bytes_str(s);
}

static struct engine_options small_options(const char *path)
{
    return (struct engine_options){.path = path,
                                   .block_cache_bytes = 1 << 20,
                                   .memtable_bytes = 256 << 10,
                                   .create_if_missing = true};
}

static struct status put_one(struct engine *e, enum engine_cf cf, const char *k, const char *v,
                             bool sync)
{
    struct engine_batch batch;
    struct status st = OK;

    engine_batch_init(&batch);
    TRY_OUT(engine_batch_put(&batch, cf, b(k), b(v)));
    TRY_OUT(engine_write(e, &batch, sync));
out:
    engine_batch_deinit(&batch);
    return st;
}

/* ---- batches --------------------------------------------------------------------------------- */

TEST(engine_batch, encodes_and_walks)
{
    struct engine_batch batch;
    struct engine_op op;
    struct bytes rest;
    bool bad = true;

    engine_batch_init(&batch);
    EXPECT_OK(engine_batch_put(&batch, ENGINE_CF_RAFT, b("k"), b("v")));
    EXPECT_OK(engine_batch_delete(&batch, ENGINE_CF_STATE, b("d")));
    EXPECT_OK(engine_batch_delete_range(&batch, ENGINE_CF_STATE, b("a"), b("c")));
    EXPECT_OK(engine_batch_delete_range(&batch, ENGINE_CF_STATE, b("a"), b("a")));
    EXPECT_EQ(3, batch.count);
    rest = buf_bytes(&batch.ops);
    EXPECT_TRUE(engine_ops_next(&rest, &op, &bad));
    EXPECT_EQ(ENGINE_OP_PUT, op.kind);
    EXPECT_EQ(ENGINE_CF_RAFT, op.cf);
    EXPECT_BYTES_EQ(b("v"), op.value);
    EXPECT_TRUE(engine_ops_next(&rest, &op, &bad));
    EXPECT_EQ(ENGINE_OP_DELETE, op.kind);
    EXPECT_TRUE(engine_ops_next(&rest, &op, &bad));
    EXPECT_BYTES_EQ(b("c"), op.value);
    EXPECT_FALSE(engine_ops_next(&rest, &op, &bad));
    EXPECT_FALSE(bad);
    engine_batch_deinit(&batch);
}

TEST(engine_batch, refuses_what_the_library_asserts_on)
{
    static uint8_t large[ENGINE_KEY_MAX + 1];
    struct engine_batch batch;

    engine_batch_init(&batch);
    EXPECT_CODE(STATUS_INVALID, engine_batch_put(&batch, ENGINE_CF_STATE, b(""), b("v")));
    EXPECT_CODE(STATUS_INVALID, engine_batch_delete_range(&batch, ENGINE_CF_STATE, b("b"), b("a")));
    EXPECT_CODE(STATUS_INVALID,
                engine_batch_delete(&batch, ENGINE_CF_STATE, bytes_of(large, sizeof(large))));
    EXPECT_OK(engine_batch_delete(&batch, ENGINE_CF_STATE, bytes_of(large, sizeof(large) - 1)));
    EXPECT_EQ(1, batch.count);
    engine_batch_deinit(&batch);
}

/* A batch beyond its limit refuses and stays as it was. */
TEST(engine_batch, full_batch_is_unchanged)
{
    struct engine_batch batch;
    size_t before = 0;

    engine_batch_init(&batch);
    batch.ops.limit = 64;
    while (status_ok(engine_batch_put(&batch, ENGINE_CF_STATE, b("key"), b("value")))) {
        before = batch.ops.len;
    }
    EXPECT_EQ(before, batch.ops.len);
    EXPECT_CODE(STATUS_MEMORY, engine_batch_put(&batch, ENGINE_CF_STATE, b("key"), b("value")));
    engine_batch_deinit(&batch);
}

TEST(engine_batch, append_checks_first)
{
    const uint8_t inverted[] = {3, 1, 1, 'b', 1, 'a'};
    struct engine_batch from;
    struct engine_batch to;

    engine_batch_init(&from);
    engine_batch_init(&to);
    EXPECT_OK(engine_batch_put(&from, ENGINE_CF_RAFT, b("k"), b("v")));
    EXPECT_CODE(STATUS_CORRUPT, engine_batch_append(&to, buf_bytes(&from.ops), true));
    EXPECT_EQ(0, to.ops.len);
    EXPECT_OK(engine_batch_append(&to, buf_bytes(&from.ops), false));
    EXPECT_EQ(1, to.count);
    for (size_t cut = 1; cut < from.ops.len; cut++) {
        EXPECT_CODE(STATUS_CORRUPT, engine_batch_append(&to, bytes_of(from.ops.ptr, cut), false));
    }
    EXPECT_CODE(STATUS_CORRUPT,
                engine_batch_append(&to, bytes_of(inverted, sizeof(inverted)), false));
    EXPECT_EQ(1, to.count);
    engine_batch_deinit(&from);
    engine_batch_deinit(&to);
}

/* ---- the twins against each other ------------------------------------------------------------ */

struct twins {
    char path[64];
    struct memdisk *disk;
    struct engine *mem;
    struct engine *rocks;
    struct arena arena;
    struct rng rng;
};

static bool twins_open(struct twins *t)
{
    const struct engine_options o = small_options(t->path);

    return status_ok(engine_open_mem(t->disk, &t->mem)) &&
           status_ok(engine_open_rocksdb(&o, &t->arena, &t->rocks));
}

#define TWIN_KEY_MAX 48

/* Few distinct bytes and short lengths, so that keys collide, are prefixes, and straddle bounds. */
static struct bytes random_bound(struct rng *r, uint8_t out[TWIN_KEY_MAX])
{
    static const uint8_t lead[] = {0x01, 0x02, 0x03, 0x04, 0x88, 0x89};
    static const uint8_t alphabet[] = {0x00, 0x01, 0x61, 0xFF};
    const size_t len = rng_between(r, 0, 20);

    out[0] = lead[rng_below(r, sizeof(lead))];
    for (size_t i = 1; i <= len; i++) {
        out[i] = alphabet[rng_below(r, sizeof(alphabet))];
    }
    return bytes_of(out, len + 1);
}

/* Prefix-free, as all stored keys are: lead, escaped bytes, and what its kind has behind it. */
static struct bytes random_key(struct rng *r, uint8_t out[TWIN_KEY_MAX])
{
    const uint8_t mode = (uint8_t)rng_below(r, 5);
    const uint8_t lead[] = {0x01, 0x02, 0x03, 0x04, 0x88};
    const uint8_t body[] = {0x00, 0x61, 0xFF};
    uint8_t plain[3];
    const size_t len = rng_below(r, sizeof(plain));
    struct key_enc e;
    struct bytes key = BYTES_EMPTY;

    for (size_t i = 0; i < len; i++) {
        plain[i] = body[rng_below(r, sizeof(body))];
    }
    key_enc_init(&e, out, TWIN_KEY_MAX);
    key_enc_byte(&e, lead[mode]);
    key_enc_escaped(&e, bytes_of(plain, len));
    if (lead[mode] == 0x02) {
        key_enc_byte(&e, rng_permille(r, 500) ? KEY_LOCAL_DESCRIPTOR : KEY_LOCAL_PROBE);
    }
    if (lead[mode] == 0x03) {
        key_enc_byte(&e, (uint8_t)rng_between(r, 1, 3));
        key_enc_raw(&e, bytes_of("0123456789abcdef", 16));
    } else if (key_is_versioned(bytes_of(e.ptr, e.len))) {
        key_enc_version(&e, (struct hts){rng_below(r, 4), 0});
    }
    /* Fits: 1 + 3 * 2 + 2 + 17 bytes. */
    return status_ok(key_enc_finish(&e, &key)) ? key : BYTES_EMPTY;
}

static bool random_write(struct twins *t)
{
    struct engine_batch batch;
    const uint64_t ops = rng_between(&t->rng, 1, 12);
    bool good = true;

    engine_batch_init(&batch);
    for (uint64_t i = 0; i < ops && good; i++) {
        const enum engine_cf cf = (enum engine_cf)rng_below(&t->rng, ENGINE_CF_COUNT);
        uint8_t k1[TWIN_KEY_MAX];
        uint8_t k2[TWIN_KEY_MAX];
        const struct bytes key = random_key(&t->rng, k1);
        const struct bytes other = random_key(&t->rng, k2);
        const uint64_t what = rng_below(&t->rng, 100);

        if (what < 70) {
            good = status_ok(engine_batch_put(&batch, cf, key, other));
        } else if (what < 95) {
            good = status_ok(engine_batch_delete(&batch, cf, key));
        } else {
            const bool order = bytes_cmp(key, other) <= 0;

            good = status_ok(
                engine_batch_delete_range(&batch, cf, order ? key : other, order ? other : key));
        }
    }
    good = good && status_ok(engine_write(t->mem, &batch, false)) &&
           status_ok(engine_write(t->rocks, &batch, rng_permille(&t->rng, 20)));
    engine_batch_deinit(&batch);
    return good;
}

static bool same_position(const struct engine_iter *a, const struct engine_iter *c)
{
    return engine_iter_valid(a) == engine_iter_valid(c) && status_ok(engine_iter_status(a)) &&
           status_ok(engine_iter_status(c)) && bytes_eq(engine_iter_key(a), engine_iter_key(c)) &&
           bytes_eq(engine_iter_value(a), engine_iter_value(c));
}

/* One random move on both. */
static bool same_move(struct twins *t, struct engine_iter *a, struct engine_iter *c, bool prefix)
{
    uint8_t mem[TWIN_KEY_MAX];
    const struct bytes key = prefix ? random_key(&t->rng, mem) : random_bound(&t->rng, mem);

    switch (rng_below(&t->rng, prefix ? 3 : 8)) {
    case 0:
        engine_iter_seek(a, key);
        engine_iter_seek(c, key);
        break;
    case 3:
        engine_iter_seek_first(a);
        engine_iter_seek_first(c);
        break;
    case 4:
        engine_iter_seek_last(a);
        engine_iter_seek_last(c);
        break;
    case 5:
        engine_iter_seek_prev(a, key);
        engine_iter_seek_prev(c, key);
        break;
    case 6:
    case 7:
        engine_iter_prev(a);
        engine_iter_prev(c);
        break;
    default:
        engine_iter_next(a);
        engine_iter_next(c);
        break;
    }
    return same_position(a, c);
}

static bool same_walk(struct twins *t, const struct engine_snap *ms, const struct engine_snap *rs)
{
    uint8_t lo[TWIN_KEY_MAX];
    uint8_t hi[TWIN_KEY_MAX];
    struct engine_iter_options o = {.cf = (enum engine_cf)rng_below(&t->rng, ENGINE_CF_COUNT)};
    struct engine_iter *a = NULL;
    struct engine_iter *c = NULL;
    bool good = false;

    o.prefix = o.cf == ENGINE_CF_STATE && rng_permille(&t->rng, 300);
    if (!o.prefix && rng_permille(&t->rng, 500)) {
        o.lower = random_bound(&t->rng, lo);
    }
    if (!o.prefix && rng_permille(&t->rng, 500)) {
        o.upper = random_bound(&t->rng, hi); /* Also below the lower one: then nothing is there. */
    }
    o.snap = ms;
    good = status_ok(engine_iter_open(t->mem, &o, &a));
    o.snap = rs;
    good = good && status_ok(engine_iter_open(t->rocks, &o, &c));
    for (int i = 0; i < 24 && good; i++) {
        good = same_move(t, a, c, o.prefix);
    }
    engine_iter_close(a);
    engine_iter_close(c);
    return good;
}

static bool same_get(struct twins *t)
{
    uint8_t mem[TWIN_KEY_MAX];
    const struct bytes key = random_key(&t->rng, mem);
    const enum engine_cf cf = (enum engine_cf)rng_below(&t->rng, ENGINE_CF_COUNT);
    struct bytes x = BYTES_EMPTY;
    struct bytes y = BYTES_EMPTY;
    const struct status a = engine_get(t->mem, cf, key, ENGINE_TIER_ANY, &t->arena, &x);
    const struct status c = engine_get(t->rocks, cf, key, ENGINE_TIER_ANY, &t->arena, &y);

    return a.code == c.code && bytes_eq(x, y);
}

static bool same_digest(struct twins *t)
{
    uint64_t x = 0;
    uint64_t y = 1;

    return status_ok(engine_digest(t->mem, NULL, b(""), b(""), &x)) &&
           status_ok(engine_digest(t->rocks, NULL, b(""), b(""), &y)) && x == y;
}

static bool twins_round(struct twins *t)
{
    struct engine_snap *ms = NULL;
    struct engine_snap *rs = NULL;
    bool good = status_ok(engine_snap_acquire(t->mem, &ms)) &&
                status_ok(engine_snap_acquire(t->rocks, &rs));

    for (int i = 0; i < 40 && good; i++) {
        good = random_write(t) && same_get(t) && same_walk(t, NULL, NULL) && same_walk(t, ms, rs);
    }
    good = good && same_digest(t);
    engine_snap_release(t->mem, ms);
    engine_snap_release(t->rocks, rs);
    engine_close(t->mem);
    engine_close(t->rocks);
    t->mem = NULL;
    t->rocks = NULL;
    arena_reset(&t->arena);
    return good && twins_open(t) && same_digest(t);
}

TEST(engine, both_give_the_same_answers)
{
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct twins t = {.disk = NULL};
        bool good = false;

        arena_init(&t.arena, 0);
        rng_seed(&t.rng, seed);
        EXPECT_TRUE(tmpdir_make(t.path));
        EXPECT_OK(memdisk_create(&t.disk));
        good = twins_open(&t);
        for (int round = 0; round < 4 && good; round++) {
            good = twins_round(&t);
        }
        engine_close(t.mem);
        engine_close(t.rocks);
        memdisk_destroy(t.disk);
        arena_deinit(&t.arena);
        tmpdir_remove(t.path);
        if (!good) {
            test_fail(__FILE__, __LINE__, "engines differ, seed %" PRIu64, seed);
            return;
        }
    }
}

/* ---- the twin's disk ------------------------------------------------------------------------- */

static bool holds(struct engine *e, const char *key)
{
    struct arena arena;
    struct bytes v = BYTES_EMPTY;
    bool found = false;

    arena_init(&arena, 0);
    found = status_ok(engine_get(e, ENGINE_CF_STATE, b(key), ENGINE_TIER_ANY, &arena, &v));
    arena_deinit(&arena);
    return found;
}

TEST(memdisk, crash_keeps_a_prefix_of_the_unsynced_writes)
{
    for (uint32_t keep = 0; keep <= 3; keep++) {
        struct memdisk *d = NULL;
        struct engine *e = NULL;

        EXPECT_OK(memdisk_create(&d));
        EXPECT_OK(engine_open_mem(d, &e));
        EXPECT_OK(put_one(e, ENGINE_CF_STATE, "a", "1", false));
        EXPECT_OK(put_one(e, ENGINE_CF_STATE, "b", "1", true)); /* Makes both durable. */
        EXPECT_EQ(0, memdisk_unsynced(d));
        EXPECT_OK(put_one(e, ENGINE_CF_STATE, "c", "1", false));
        EXPECT_OK(put_one(e, ENGINE_CF_STATE, "d", "1", false));
        EXPECT_EQ(2, memdisk_unsynced(d));
        memdisk_crash(d, keep);
        EXPECT_CODE(STATUS_IO, put_one(e, ENGINE_CF_STATE, "x", "1", true));
        engine_close(e);
        EXPECT_OK(engine_open_mem(d, &e));
        EXPECT_TRUE(holds(e, "a"));
        EXPECT_TRUE(holds(e, "b"));
        EXPECT_EQ(keep >= 1, holds(e, "c"));
        EXPECT_EQ(keep >= 2, holds(e, "d"));
        EXPECT_FALSE(holds(e, "x"));
        engine_close(e);
        memdisk_destroy(d);
    }
}

TEST(memdisk, closing_without_a_crash_loses_nothing)
{
    struct memdisk *d = NULL;
    struct engine *e = NULL;

    EXPECT_OK(memdisk_create(&d));
    EXPECT_OK(engine_open_mem(d, &e));
    EXPECT_OK(put_one(e, ENGINE_CF_STATE, "a", "1", false));
    engine_close(e);
    EXPECT_OK(engine_open_mem(d, &e));
    EXPECT_TRUE(holds(e, "a"));
    engine_close(e);
    memdisk_destroy(d);
}

TEST(memdisk, forgotten_syncs_lose_what_was_acknowledged)
{
    struct memdisk *d = NULL;
    struct engine *e = NULL;

    EXPECT_OK(memdisk_create(&d));
    EXPECT_OK(engine_open_mem(d, &e));
    memdisk_forget_syncs(d, true);
    EXPECT_OK(put_one(e, ENGINE_CF_STATE, "a", "1", true));
    EXPECT_EQ(1, memdisk_unsynced(d));
    memdisk_crash(d, 0);
    engine_close(e);
    EXPECT_OK(engine_open_mem(d, &e));
    EXPECT_FALSE(holds(e, "a"));
    engine_close(e);
    memdisk_destroy(d);
}

TEST(memdisk, writes_fail_and_reads_turn_cold_on_demand)
{
    struct memdisk *d = NULL;
    struct engine *e = NULL;
    struct arena arena;
    struct bytes v = BYTES_EMPTY;

    arena_init(&arena, 0);
    EXPECT_OK(memdisk_create(&d));
    EXPECT_OK(engine_open_mem(d, &e));
    memdisk_fail_writes(d, STATUS_DISK_FULL);
    EXPECT_CODE(STATUS_DISK_FULL, put_one(e, ENGINE_CF_STATE, "a", "1", true));
    memdisk_fail_writes(d, STATUS_OK);
    EXPECT_OK(put_one(e, ENGINE_CF_STATE, "a", "1", true));
    memdisk_cold_reads(d, 1000, 1);
    EXPECT_CODE(STATUS_WOULD_BLOCK,
                engine_get(e, ENGINE_CF_STATE, b("a"), ENGINE_TIER_CACHE, &arena, &v));
    EXPECT_OK(engine_get(e, ENGINE_CF_STATE, b("a"), ENGINE_TIER_ANY, &arena, &v));
    engine_close(e);
    memdisk_destroy(d);
    arena_deinit(&arena);
}

/* What a dying process still does while it is torn down is seen by itself only. */
TEST(memdisk, abandoned_engine_goes_on_without_its_disk)
{
    struct memdisk *d = NULL;
    struct engine *old = NULL;
    struct engine *e = NULL;

    EXPECT_OK(memdisk_create(&d));
    EXPECT_OK(engine_open_mem(d, &old));
    EXPECT_OK(put_one(old, ENGINE_CF_STATE, "a", "1", true));
    EXPECT_OK(put_one(old, ENGINE_CF_STATE, "b", "1", false));
    memdisk_abandon(d, 0);
    EXPECT_OK(engine_open_mem(d, &e));
    EXPECT_OK(put_one(old, ENGINE_CF_STATE, "c", "1", true));
    EXPECT_TRUE(holds(old, "b"));
    EXPECT_TRUE(holds(old, "c"));
    EXPECT_TRUE(holds(e, "a"));
    EXPECT_FALSE(holds(e, "b"));
    EXPECT_FALSE(holds(e, "c"));
    engine_close(old);
    engine_close(e);
    memdisk_destroy(d);
}

/* The list of unsynced images is bounded: the oldest become durable by themselves. */
TEST(memdisk, unsynced_writes_are_bounded)
{
    struct memdisk *d = NULL;
    struct engine *e = NULL;

    EXPECT_OK(memdisk_create(&d));
    EXPECT_OK(engine_open_mem(d, &e));
    EXPECT_OK(put_one(e, ENGINE_CF_STATE, "first", "1", false));
    for (int i = 0; i < 4096; i++) {
        EXPECT_OK(put_one(e, ENGINE_CF_STATE, "k", "1", false));
    }
    EXPECT_EQ(4096, memdisk_unsynced(d));
    memdisk_crash(d, 0);
    engine_close(e);
    EXPECT_OK(engine_open_mem(d, &e));
    EXPECT_TRUE(holds(e, "first"));
    EXPECT_FALSE(holds(e, "k"));
    engine_close(e);
    memdisk_destroy(d);
}

/* ---- RocksDB's own troubles ------------------------------------------------------------------ */

struct store {
    char path[64];
    struct arena arena;
    struct engine *e;
};

static bool store_open(struct store *s)
{
    const struct engine_options o = small_options(s->path);

    return status_ok(engine_open_rocksdb(&o, &s->arena, &s->e));
}

static bool store_init(struct store *s)
{
    *s = (struct store){.e = NULL};
    arena_init(&s->arena, 0);
    return tmpdir_make(s->path) && store_open(s);
}

static void store_deinit(struct store *s)
{
    engine_close(s->e);
    arena_deinit(&s->arena);
    tmpdir_remove(s->path);
}

/* A small disk keeps room for its memtables, a large one 1 GiB besides. */
TEST(engine_space, reserve_grows_with_the_disk_up_to_a_limit)
{
    const uint64_t gib = (uint64_t)1 << 30;

    EXPECT_EQ(4 * 100, engine__space_reserve(0, 100));
    EXPECT_EQ(gib / 32 + 4 * 100, engine__space_reserve(gib, 100));
    EXPECT_EQ(gib + 4 * 100, engine__space_reserve(32 * gib, 100));
    EXPECT_EQ(gib + 4 * 100, engine__space_reserve(1000 * gib, 100));
}

/* Memtables larger than the disk: the store is refused with the figures, before anything is written. */
TEST(engine_space, a_disk_that_is_too_small_is_refused_in_words)
{
    struct store s;
    struct engine_options o;
    struct engine *e = NULL;
    struct status st = OK;

    EXPECT_TRUE(store_init(&s));
    o = small_options(s.path);
    o.memtable_bytes = (size_t)1 << 60;
    st = engine_open_rocksdb(&o, &s.arena, &e);
    EXPECT_EQ(STATUS_DISK_FULL, st.code);
    EXPECT_TRUE(strstr(st.msg, "MiB are needed to work") != NULL);
    store_deinit(&s);
}

TEST(engine_space, asks_again_after_some_writing)
{
    struct store s;
    struct engine_space space;

    EXPECT_TRUE(store_init(&s));
    EXPECT_OK(engine__space_open(&space, s.path, 0, &s.arena));
    EXPECT_OK(engine__space_take(&space, (size_t)1 << 20));
    space.reserve_bytes = UINT64_MAX; /* As if others had filled the disk. */
    EXPECT_OK(engine__space_take(&space, (size_t)100 << 10));
    EXPECT_OK(engine__space_take(&space, (size_t)100 << 10));
    EXPECT_CODE(STATUS_DISK_FULL, engine__space_take(&space, (size_t)100 << 10));
    EXPECT_CODE(STATUS_DISK_FULL, engine__space_take(&space, 1));
    engine__space_close(&space);
    engine__space_close(&space);
    EXPECT_OK(engine__space_open(&space, "/nonexistent", 0, &s.arena));
    EXPECT_OK(engine__space_take(&space, (size_t)1 << 20));
    store_deinit(&s);
}

TEST(rocksdb, missing_store_is_not_made_unless_asked)
{
    struct store s;
    struct engine_options o;
    struct engine *e = NULL;
    char path[80];

    EXPECT_TRUE(store_init(&s));
    (void)snprintf(path, sizeof(path), "%s/none", s.path);
    o = small_options(path);
    o.create_if_missing = false;
    EXPECT_CODE(STATUS_IO, engine_open_rocksdb(&o, &s.arena, &e));
    EXPECT_TRUE(e == NULL);
    store_deinit(&s);
}

/* Another process on the same path is told so in words. */
TEST(rocksdb, second_process_is_refused)
{
    struct store s;
    int status = -1;
    pid_t pid = -1;

    EXPECT_TRUE(store_init(&s));
    pid = fork();
    if (pid == 0) {
        const struct engine_options o = small_options(s.path);
        struct engine *e = NULL;
        struct arena arena;
        struct status st;

        arena_init(&arena, 0);
        st = engine_open_rocksdb(&o, &arena, &e);
        _exit(st.code == STATUS_IO && strstr(st.msg, "in use by another process") ? 0 : 1);
    }
    EXPECT_TRUE(pid > 0);
    EXPECT_EQ(pid, waitpid(pid, &status, 0));
    EXPECT_EQ(0, status);
    store_deinit(&s);
}

/* A process that dies without closing keeps even unsynced writes: the log is in the page cache. */
TEST(rocksdb, writes_survive_the_death_of_the_process)
{
    struct store s;
    int status = -1;
    pid_t pid = -1;

    EXPECT_TRUE(store_init(&s));
    engine_close(s.e);
    s.e = NULL;
    pid = fork();
    if (pid == 0) {
        const bool good = store_open(&s) &&
                          status_ok(put_one(s.e, ENGINE_CF_STATE, "synced", "1", true)) &&
                          status_ok(put_one(s.e, ENGINE_CF_STATE, "unsynced", "1", false));

        _exit(good ? 0 : 1);
    }
    EXPECT_TRUE(pid > 0);
    EXPECT_EQ(pid, waitpid(pid, &status, 0));
    EXPECT_EQ(0, status);
    EXPECT_TRUE(store_open(&s));
    EXPECT_TRUE(holds(s.e, "synced"));
    EXPECT_TRUE(holds(s.e, "unsynced"));
    store_deinit(&s);
}

/* Writes until a file may not grow any further; the status of the write that failed. */
static enum status_code write_into_limit(struct store *s)
{
    const struct rlimit limit = {.rlim_cur = 200000, .rlim_max = 200000};
    static char value[4096];
    struct status st = OK;

    memset(value, 'v', sizeof(value) - 1);
    (void)signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0 || !store_open(s)) {
        return STATUS_INVALID;
    }
    for (int i = 0; i < 1000 && status_ok(st); i++) {
        st = put_one(s->e, ENGINE_CF_STATE, "key", value, i % 4 == 0);
    }
    return st.code;
}

/* A write that the system refuses comes back as a status, and so does every later one. */
TEST(rocksdb, refused_write_is_final)
{
    struct store s;
    int status = -1;
    pid_t pid = -1;

    EXPECT_TRUE(store_init(&s));
    engine_close(s.e);
    s.e = NULL;
    pid = fork();
    if (pid == 0) {
        const enum status_code first = write_into_limit(&s);
        const struct status again =
            s.e == NULL ? OK : put_one(s.e, ENGINE_CF_STATE, "key", "v", true);

        _exit((first == STATUS_IO || first == STATUS_DISK_FULL) && !status_ok(again) ? 0 : 1);
    }
    EXPECT_TRUE(pid > 0);
    EXPECT_EQ(pid, waitpid(pid, &status, 0));
    EXPECT_EQ(0, status);
    EXPECT_TRUE(store_open(&s)); /* What was acknowledged before is there. */
    EXPECT_TRUE(holds(s.e, "key"));
    store_deinit(&s);
}

static bool fill_and_close(struct store *s)
{
    char key[32];

    for (int i = 0; i < 400; i++) {
        char value[2000];

        memset(value, 'a' + i % 26, sizeof(value) - 1);
        value[sizeof(value) - 1] = '\0';
        (void)snprintf(key, sizeof(key), "\x88key%06d-version12", i);
        if (!status_ok(put_one(s->e, ENGINE_CF_STATE, key, value, i % 50 == 0))) {
            return false;
        }
    }
    if (!status_ok(put_one(s->e, ENGINE_CF_STATE, "last", "1", true))) {
        return false;
    }
    engine_close(s->e);
    s->e = NULL;
    return true;
}

/* Inverts bytes in the middle of every file whose name contains `part`; how many files. */
static int damage_files(const char *dir, const char *part)
{
    DIR *d = opendir(dir);
    int files = 0;

    for (struct dirent *ent = d == NULL ? NULL : readdir(d); ent != NULL; ent = readdir(d)) {
        char path[400];
        uint8_t page[64];
        struct stat sb;
        int fd = -1;

        (void)snprintf(path, sizeof(path), "%s/%s", dir, ent->d_name);
        if (strstr(ent->d_name, part) == NULL || stat(path, &sb) != 0 || sb.st_size < 256) {
            continue;
        }
        fd = open(path, O_RDWR);
        if (pread(fd, page, sizeof(page), sb.st_size / 3) == (ssize_t)sizeof(page)) {
            for (size_t i = 0; i < sizeof(page); i++) {
                page[i] ^= 0x5A;
            }
            files += pwrite(fd, page, sizeof(page), sb.st_size / 3) == (ssize_t)sizeof(page);
        }
        (void)close(fd);
    }
    if (d != NULL) {
        (void)closedir(d);
    }
    return files;
}

/* Damage is found at the opening or by the first read that meets it; nothing crashes. */
static struct status open_and_read_all(struct store *s)
{
    const struct engine_options o = small_options(s->path);
    uint64_t digest = 0;

    TRY(engine_open_rocksdb(&o, &s->arena, &s->e));
    return engine_digest(s->e, NULL, b(""), b(""), &digest);
}

TEST(rocksdb, damaged_table_is_corrupt)
{
    struct store s;

    EXPECT_TRUE(store_init(&s));
    EXPECT_TRUE(fill_and_close(&s));
    EXPECT_TRUE(damage_files(s.path, ".sst") > 0);
    EXPECT_CODE(STATUS_CORRUPT, open_and_read_all(&s));
    store_deinit(&s);
}

TEST(rocksdb, damaged_manifest_is_corrupt)
{
    struct store s;

    EXPECT_TRUE(store_init(&s));
    EXPECT_TRUE(fill_and_close(&s));
    EXPECT_TRUE(damage_files(s.path, "MANIFEST") > 0);
    EXPECT_CODE(STATUS_CORRUPT, open_and_read_all(&s));
    store_deinit(&s);
}

/* The library opens such a store without complaint (rocksdb#6288); the sync mark tells. */
TEST(rocksdb, damaged_log_is_corrupt)
{
    struct store s;

    EXPECT_TRUE(store_init(&s));
    EXPECT_TRUE(fill_and_close(&s));
    EXPECT_TRUE(damage_files(s.path, ".log") > 0);
    EXPECT_CODE(STATUS_CORRUPT, open_and_read_all(&s));
    store_deinit(&s);
}

/* Without its CURRENT file the library would start a new, empty database in the old place. */
TEST(rocksdb, lost_current_file_is_corrupt)
{
    struct store s;
    char path[80];

    EXPECT_TRUE(store_init(&s));
    EXPECT_TRUE(fill_and_close(&s));
    (void)snprintf(path, sizeof(path), "%s/CURRENT", s.path);
    EXPECT_EQ(0, unlink(path));
    EXPECT_CODE(STATUS_CORRUPT, open_and_read_all(&s));
    store_deinit(&s);
}

TEST(rocksdb, reports_what_it_uses)
{
    struct engine_stats stats;
    struct store s;

    EXPECT_TRUE(store_init(&s));
    EXPECT_OK(put_one(s.e, ENGINE_CF_STATE, "k", "v", true));
    EXPECT_OK(put_one(s.e, ENGINE_CF_RAFT, "k", "v", false));
    engine_get_stats(s.e, &stats);
    EXPECT_EQ(2, stats.writes);
    EXPECT_EQ(1, stats.syncs);
    EXPECT_TRUE(stats.memtable_bytes > 0);
    EXPECT_FALSE(stats.write_stalled);
    store_deinit(&s);
}

/* After a restart nothing is in the block cache: a read in memory only says so. */
TEST(rocksdb, cold_read_would_block)
{
    struct bytes v = BYTES_EMPTY;
    struct store s;

    EXPECT_TRUE(store_init(&s));
    EXPECT_TRUE(fill_and_close(&s));
    EXPECT_TRUE(store_open(&s));
    EXPECT_CODE(STATUS_WOULD_BLOCK, engine_get(s.e, ENGINE_CF_STATE, b("\x88key000001-version12"),
                                               ENGINE_TIER_CACHE, &s.arena, &v));
    EXPECT_OK(engine_get(s.e, ENGINE_CF_STATE, b("\x88key000001-version12"), ENGINE_TIER_ANY,
                         &s.arena, &v));
    EXPECT_OK(engine_get(s.e, ENGINE_CF_STATE, b("\x88key000001-version12"), ENGINE_TIER_CACHE,
                         &s.arena, &v));
    EXPECT_EQ(1999, v.len);
    store_deinit(&s);
}

/* ---- iterators ------------------------------------------------------------------------------- */

TEST(engine, prefix_iterators_refuse_to_go_back)
{
    const struct engine_iter_options o = {.cf = ENGINE_CF_STATE, .prefix = true};
    const struct engine_iter_options raft = {.cf = ENGINE_CF_RAFT, .prefix = true};
    struct engine_iter *it = NULL;
    struct memdisk *d = NULL;
    struct engine *e = NULL;

    EXPECT_OK(memdisk_create(&d));
    EXPECT_OK(engine_open_mem(d, &e));
    EXPECT_CODE(STATUS_INVALID, engine_iter_open(e, &raft, &it));
    EXPECT_OK(engine_iter_open(e, &o, &it));
    engine_iter_seek_last(it);
    EXPECT_CODE(STATUS_INVALID, engine_iter_status(it));
    engine_iter_seek_prev(it, b("a"));
    EXPECT_CODE(STATUS_INVALID, engine_iter_status(it));
    engine_iter_seek_first(it);
    EXPECT_CODE(STATUS_INVALID, engine_iter_status(it));
    engine_iter_seek(it, b("a"));
    EXPECT_OK(engine_iter_status(it));
    EXPECT_FALSE(engine_iter_valid(it));
    engine_iter_next(it); /* Moving an invalid iterator does nothing; the library would assert. */
    engine_iter_prev(it);
    engine_iter_close(it);
    engine_iter_close(NULL);
    engine_snap_release(e, NULL);
    engine_close(e);
    engine_close(NULL);
    memdisk_destroy(d);
}
