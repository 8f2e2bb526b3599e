/*
 * test_mvcc.c -- the edges of mvcc that random histories do not reach: damage, limits, failures.
 */
#include "node/base/hash.h"
#include "node/storage/key/key.h"
#include "node/storage/mvcc/mvcc.h"
#include "tests/lib/test.h"

struct bed {
    struct memdisk *disk;
    struct engine *engine;
    struct arena arena;
    struct engine_batch batch;
    struct mvcc_reader reader;
    struct mvcc_writer writer;
};

static bool bed_init(struct bed *b)
{
    memset(b, 0, sizeof(*b));
    arena_init(&b->arena, 0);
    engine_batch_init(&b->batch);
    if (!status_ok(memdisk_create(&b->disk)) || !status_ok(engine_open_mem(b->disk, &b->engine))) {
        return false;
    }
    mvcc_reader_init(&b->reader, b->engine, NULL, ENGINE_TIER_ANY);
    mvcc_writer_init(&b->writer, &b->reader, &b->batch, &b->arena);
    return true;
}

static void bed_deinit(struct bed *b)
{
    mvcc_reader_deinit(&b->reader);
    engine_batch_deinit(&b->batch);
    engine_close(b->engine);
    memdisk_destroy(b->disk);
    arena_deinit(&b->arena);
}

/* Applies what the writer has put together and starts a new one. */
static struct status bed_apply(struct bed *b)
{
    struct status st = engine_write(b->engine, &b->batch, false);

    engine_batch_clear(&b->batch);
    mvcc_reader_refresh(&b->reader);
    mvcc_writer_init(&b->writer, &b->reader, &b->batch, &b->arena);
    return st;
}

static struct mvcc_txn txn_at(uint8_t id, uint64_t ms)
{
    return (struct mvcc_txn){.id = {{id}},
                             .anchor_key = BYTES_LIT("\x88\x88k"),
                             .seq = 1,
                             .min_ts = hts_ms(ms),
                             .read_ts = hts_ms(ms),
                             .write_ts = hts_ms(ms)};
}

/* Lays one write that must succeed. */
static struct status put(struct bed *b, struct bytes key, const char *value, struct hts ts,
                         const struct mvcc_txn *txn)
{
    const struct mvcc_write op = {.key = key, .value = bytes_str(value), .ts = ts, .txn = txn};
    struct mvcc_conflict conflict;
    struct mvcc_written out;

    TRY(mvcc_put(&b->writer, &op, &out, &conflict));
    return conflict.kind == MVCC_CONFLICT_NONE ? OK : FAIL(STATUS_EXISTS, "conflict");
}

static struct bytes numbered_key(uint8_t mem[16], uint32_t n)
{
    mem[0] = 0x88;
    mem[1] = 0x89;
    mem[2] = 'k';
    be32_put(mem + 3, n);
    return bytes_of(mem, 7);
}

/* ---- stored forms ------------------------------------------------------------------------------ */

TEST(mvcc_version, keeps_what_it_was_given)
{
    const struct bytes key = BYTES_LIT("\x88key");
    const uint8_t all_flags[] = {0, MVCC_FLAG_OMIT_CDC, MVCC_FLAG_IMPORTED};

    for (size_t i = 0; i < 2 * ARRAY_COUNT(all_flags); i++) {
        const struct mvcc_version in = {.flags = all_flags[i % ARRAY_COUNT(all_flags)],
                                        .local_ts = hts_ms(i < ARRAY_COUNT(all_flags) ? 5 : 20),
                                        .payload = BYTES_LIT("payload")};
        struct mvcc_version out = {.flags = 0};
        struct buf b;

        buf_init(&b, 0);
        EXPECT_OK(mvcc_version_encode(&b, key, hts_ms(10), &in));
        EXPECT_OK(mvcc_version_decode(key, hts_ms(10), buf_bytes(&b), &out));
        EXPECT_BYTES_EQ(in.payload, out.payload);
        EXPECT_EQ(in.flags, out.flags & (MVCC_FLAG_OMIT_CDC | MVCC_FLAG_IMPORTED));
        /* A clock reading that is not below the version's time says nothing and is not kept. */
        EXPECT_HTS_EQ(i < ARRAY_COUNT(all_flags) ? hts_ms(5) : hts_ms(10), out.local_ts);
        buf_deinit(&b);
    }
}

/* Every single damaged bit is noticed, and so is the right value under the wrong key. */
TEST(mvcc_version, damage_is_noticed)
{
    const struct mvcc_version in = {.local_ts = hts_ms(5), .payload = BYTES_LIT("payload")};
    struct mvcc_version out = {.flags = 0};
    struct buf b;

    buf_init(&b, 0);
    EXPECT_OK(mvcc_version_encode(&b, BYTES_LIT("\x88key"), hts_ms(10), &in));
    EXPECT_CODE(STATUS_CORRUPT,
                mvcc_version_decode(BYTES_LIT("\x88kez"), hts_ms(10), buf_bytes(&b), &out));
    for (size_t bit = 13 * 8; bit < b.len * 8; bit++) { /* Behind flags and local timestamp. */
        b.ptr[bit / 8] ^= (uint8_t)(1 << bit % 8);
        EXPECT_CODE(STATUS_CORRUPT,
                    mvcc_version_decode(BYTES_LIT("\x88key"), hts_ms(10), buf_bytes(&b), &out));
        b.ptr[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t cut = 0; cut < b.len; cut++) {
        EXPECT_CODE(STATUS_CORRUPT, mvcc_version_decode(BYTES_LIT("\x88key"), hts_ms(10),
                                                        bytes_of(b.ptr, cut), &out));
    }
    b.ptr[0] |= 0x80;
    EXPECT_CODE(STATUS_CORRUPT,
                mvcc_version_decode(BYTES_LIT("\x88key"), hts_ms(10), buf_bytes(&b), &out));
    EXPECT_CODE(STATUS_CORRUPT, mvcc_version_decode(BYTES_LIT("\x88key"), hts_ms(10),
                                                    BYTES_LIT("\x01value"), &out));
    buf_deinit(&b);
}

TEST(mvcc, damaged_version_fails_the_read)
{
    const struct bytes key = BYTES_LIT("\x88\x89k");
    const struct mvcc_read opt = {.ts = hts_ms(20)};
    struct mvcc_conflict conflict;
    struct mvcc_value v;
    uint8_t phys[32];
    struct bed b;

    EXPECT_TRUE(bed_init(&b));
    memcpy(phys, key.ptr, key.len);
    key_version_put(phys + key.len, hts_ms(10));
    EXPECT_OK(engine_batch_put(&b.batch, ENGINE_CF_STATE, bytes_of(phys, key.len + 12),
                               BYTES_LIT("\x04....value")));
    EXPECT_OK(bed_apply(&b));
    EXPECT_CODE(STATUS_CORRUPT, mvcc_get(&b.reader, key, &opt, &b.arena, &v, &conflict));
    bed_deinit(&b);
}

TEST(mvcc, damaged_lock_fails_reads_and_writes)
{
    const struct bytes key = BYTES_LIT("\x88\x89k");
    const struct mvcc_txn txn = txn_at(1, 10);
    const struct mvcc_read opt = {.ts = hts_ms(20)};
    struct mvcc_conflict conflict;
    struct mvcc_value v;
    struct mvcc_lock l;
    struct bytes stored = BYTES_EMPTY;
    struct bytes lock_key = BYTES_EMPTY;
    struct key_enc e;
    uint8_t mem[64];
    struct bed b;

    EXPECT_TRUE(bed_init(&b));
    EXPECT_OK(put(&b, key, "v", HTS_ZERO, &txn));
    EXPECT_OK(bed_apply(&b));
    key_enc_init(&e, mem, sizeof(mem));
    key_enc_lock(&e, key, MVCC_INTENT, txn.id);
    EXPECT_OK(key_enc_finish(&e, &lock_key));
    EXPECT_OK(engine_get(b.engine, ENGINE_CF_STATE, lock_key, ENGINE_TIER_ANY, &b.arena, &stored));
    EXPECT_OK(mvcc_lock_decode(lock_key, stored, &l));
    EXPECT_BYTES_EQ(key, l.key);
    for (size_t cut = 0; cut < stored.len; cut++) {
        EXPECT_CODE(STATUS_CORRUPT, mvcc_lock_decode(lock_key, bytes_of(stored.ptr, cut), &l));
    }
    EXPECT_OK(engine_batch_put(&b.batch, ENGINE_CF_STATE, lock_key,
                               bytes_of(stored.ptr, stored.len - 1)));
    EXPECT_OK(bed_apply(&b));
    EXPECT_CODE(STATUS_CORRUPT, mvcc_get(&b.reader, key, &opt, &b.arena, &v, &conflict));
    EXPECT_CODE(STATUS_CORRUPT, put(&b, key, "w", HTS_ZERO, &txn));
    bed_deinit(&b);
}

/* ---- limits ------------------------------------------------------------------------------------ */

TEST(mvcc, keys_are_bounded_and_long_ones_work)
{
    static uint8_t large[MVCC_KEY_MAX + 1];
    const struct mvcc_read opt = {.ts = hts_ms(20)};
    struct mvcc_conflict conflict;
    struct mvcc_value v;
    struct bed b;

    EXPECT_TRUE(bed_init(&b));
    large[0] = 0x88;
    EXPECT_CODE(STATUS_INVALID, put(&b, bytes_of(large, MVCC_KEY_MAX + 1), "v", hts_ms(1), NULL));
    EXPECT_CODE(STATUS_INVALID, put(&b, BYTES_EMPTY, "v", hts_ms(1), NULL));
    EXPECT_OK(put(&b, bytes_of(large, MVCC_KEY_MAX), "v", hts_ms(1), NULL));
    EXPECT_OK(bed_apply(&b));
    EXPECT_OK(mvcc_get(&b.reader, bytes_of(large, MVCC_KEY_MAX), &opt, &b.arena, &v, &conflict));
    EXPECT_TRUE(v.found);
    bed_deinit(&b);
}

TEST(mvcc, history_of_an_intent_is_bounded)
{
    const struct bytes key = BYTES_LIT("\x88\x89k");
    struct mvcc_txn txn = txn_at(1, 10);
    struct bed b;

    EXPECT_TRUE(bed_init(&b));
    for (uint32_t i = 0; i <= MVCC_HISTORY_MAX; i++) {
        txn.seq = i + 1;
        EXPECT_OK(put(&b, key, "v", HTS_ZERO, &txn));
        if (i % 16 == 0) {
            EXPECT_OK(bed_apply(&b));
            arena_reset(&b.arena);
        }
    }
    txn.seq++;
    EXPECT_CODE(STATUS_OVERLOADED, put(&b, key, "v", HTS_ZERO, &txn));
    bed_deinit(&b);
}

static struct status ignore_row(void *ctx, struct bytes key, struct bytes value, struct hts ts)
{
    UNUSED(ctx);
    UNUSED(key);
    UNUSED(value);
    UNUSED(ts);
    return OK;
}

/* One call reports at most MVCC_LOCKS_MAX locks; limited scans only the first that is in the way. */
TEST(mvcc, locks_in_the_way_are_bounded)
{
    const struct mvcc_txn txn = txn_at(1, 10);
    const struct mvcc_read opt = {.ts = hts_ms(20)};
    struct mvcc_scan scan = {.start = KEY_MIN, .end = KEY_MAX, .row_fn = ignore_row};
    struct mvcc_scan_result res;
    struct mvcc_conflict conflict;
    struct mvcc_lock *locks = NULL;
    uint32_t count = 0;
    bool more = false;
    uint8_t mem[16];
    struct bed b;

    EXPECT_TRUE(bed_init(&b));
    for (uint32_t i = 0; i < MVCC_LOCKS_MAX + 1; i++) {
        EXPECT_OK(put(&b, numbered_key(mem, i), "v", HTS_ZERO, &txn));
    }
    EXPECT_OK(bed_apply(&b));
    for (int reverse = 0; reverse < 2; reverse++) {
        scan.reverse = reverse != 0;
        EXPECT_OK(mvcc_scan(&b.reader, &scan, &opt, &b.arena, &res, &conflict));
        EXPECT_EQ(MVCC_CONFLICT_LOCKED, conflict.kind);
        EXPECT_EQ(MVCC_LOCKS_MAX, conflict.lock_count);
        EXPECT_EQ(0, res.rows);
    }
    scan.rows_max = 1;
    EXPECT_OK(mvcc_scan(&b.reader, &scan, &opt, &b.arena, &res, &conflict));
    EXPECT_EQ(1, conflict.lock_count);
    EXPECT_OK(
        mvcc_locks(&b.reader, KEY_MIN, KEY_MAX, MVCC_NONE, NULL, &b.arena, &locks, &count, &more));
    EXPECT_EQ(MVCC_LOCKS_MAX, count);
    EXPECT_TRUE(more);
    bed_deinit(&b);
}

TEST(mvcc, spans_below_versioned_keys_are_refused)
{
    const struct mvcc_read opt = {.ts = hts_ms(20)};
    const struct mvcc_scan low = {.start = BYTES_LIT("\x02"), .end = KEY_MAX, .row_fn = ignore_row};
    const struct mvcc_scan open = {.start = KEY_MIN, .row_fn = ignore_row};
    struct mvcc_scan_result res;
    struct mvcc_conflict conflict;
    struct mvcc_stats stats;
    struct bed b;

    EXPECT_TRUE(bed_init(&b));
    EXPECT_CODE(STATUS_INVALID, mvcc_scan(&b.reader, &low, &opt, &b.arena, &res, &conflict));
    EXPECT_CODE(STATUS_INVALID, mvcc_scan(&b.reader, &open, &opt, &b.arena, &res, &conflict));
    EXPECT_CODE(STATUS_INVALID, mvcc_stats_compute(&b.reader, BYTES_EMPTY, KEY_MAX, &stats));
    EXPECT_CODE(STATUS_INVALID, mvcc_refresh(&b.reader, BYTES_LIT("\x01"), KEY_MAX, hts_ms(1),
                                             hts_ms(2), NULL, &b.arena, &conflict));
    bed_deinit(&b);
}

/* ---- scans ------------------------------------------------------------------------------------- */

struct collected {
    uint32_t rows;
    uint32_t stop_at;
    size_t len;
    char text[64];
};

static struct status collect(void *ctx, struct bytes key, struct bytes value, struct hts ts)
{
    struct collected *c = ctx;

    UNUSED(key);
    UNUSED(ts);
    if (++c->rows == c->stop_at) {
        return FAIL(STATUS_CANCELLED, "enough");
    }
    if (c->len + value.len < sizeof(c->text)) { /* The last byte stays zero. */
        memcpy(c->text + c->len, value.ptr, value.len);
        c->len += value.len;
    }
    return OK;
}

/* Far more versions than a scan steps over: it seeks, in both directions, and finds the right ones. */
TEST(mvcc, scans_leap_over_many_versions)
{
    uint8_t mem[16];
    struct bed b;

    EXPECT_TRUE(bed_init(&b));
    for (uint32_t key = 0; key < 3; key++) {
        for (uint64_t ms = 1; ms <= 60; ms++) {
            const char value[] = {(char)('a' + key), (char)('0' + ms % 10), '\0'};

            EXPECT_OK(put(&b, numbered_key(mem, key), value, hts_ms(ms), NULL));
        }
    }
    EXPECT_OK(bed_apply(&b));
    for (uint64_t ms = 1; ms <= 60; ms++) {
        for (int reverse = 0; reverse < 2; reverse++) {
            struct collected c = {.rows = 0};
            const struct mvcc_read opt = {.ts = hts_ms(ms)};
            const struct mvcc_scan scan = {.start = KEY_MIN,
                                           .end = KEY_MAX,
                                           .reverse = reverse != 0,
                                           .row_fn = collect,
                                           .ctx = &c};
            const char d = (char)('0' + ms % 10);
            const char forward[] = {'a', d, 'b', d, 'c', d, '\0'};
            const char backward[] = {'c', d, 'b', d, 'a', d, '\0'};
            struct mvcc_scan_result res;
            struct mvcc_conflict conflict;

            EXPECT_OK(mvcc_scan(&b.reader, &scan, &opt, &b.arena, &res, &conflict));
            EXPECT_STREQ(reverse ? backward : forward, c.text);
            EXPECT_FALSE(res.more);
        }
        struct mvcc_conflict conflict;

        EXPECT_OK(mvcc_refresh(&b.reader, KEY_MIN, KEY_MAX, hts_ms(ms), hts_ms(ms + 1), NULL,
                               &b.arena, &conflict));
        EXPECT_EQ(ms < 60 ? MVCC_CONFLICT_TOO_OLD : MVCC_CONFLICT_NONE, conflict.kind);
    }
    bed_deinit(&b);
}

TEST(mvcc, scan_stops_at_bytes_and_at_its_callback)
{
    const struct mvcc_read opt = {.ts = hts_ms(20)};
    struct collected c = {.rows = 0};
    struct mvcc_scan scan = {.start = KEY_MIN,
                             .end = KEY_MAX,
                             .bytes_max = 1, /* One row is always delivered. */
                             .row_fn = collect,
                             .ctx = &c};
    struct mvcc_scan_result res;
    struct mvcc_conflict conflict;
    uint8_t mem[16];
    struct bed b;

    EXPECT_TRUE(bed_init(&b));
    for (uint32_t key = 0; key < 3; key++) {
        EXPECT_OK(put(&b, numbered_key(mem, key), "v", hts_ms(1), NULL));
    }
    EXPECT_OK(bed_apply(&b));
    EXPECT_OK(mvcc_scan(&b.reader, &scan, &opt, &b.arena, &res, &conflict));
    EXPECT_EQ(1, res.rows);
    EXPECT_EQ(8, res.bytes);
    EXPECT_TRUE(res.more);
    scan.start = res.resume;
    scan.bytes_max = 16;
    EXPECT_OK(mvcc_scan(&b.reader, &scan, &opt, &b.arena, &res, &conflict));
    EXPECT_EQ(2, res.rows);
    scan.start = KEY_MIN;
    scan.bytes_max = 0;
    c = (struct collected){.stop_at = 2};
    EXPECT_CODE(STATUS_CANCELLED, mvcc_scan(&b.reader, &scan, &opt, &b.arena, &res, &conflict));
    EXPECT_EQ(1, res.rows);
    bed_deinit(&b);
}

/* ---- reads that would block ---------------------------------------------------------------------- */

/* Whatever step of a read finds the cache cold, the answer is WOULD_BLOCK, and repeating the call with
 * leave to block gives the full answer. */
TEST(mvcc, cold_reads_can_be_repeated)
{
    const struct bytes key = BYTES_LIT("\x88\x89k");
    const struct mvcc_read opt = {.ts = hts_ms(20)};
    struct collected c = {.rows = 0};
    const struct mvcc_scan scan = {.start = KEY_MIN, .end = KEY_MAX, .row_fn = collect, .ctx = &c};
    struct mvcc_scan_result res;
    struct mvcc_conflict conflict;
    struct mvcc_reader cold;
    struct mvcc_value v;
    int blocked = 0;
    struct bed b;

    EXPECT_TRUE(bed_init(&b));
    EXPECT_OK(put(&b, key, "v", hts_ms(1), NULL));
    EXPECT_OK(bed_apply(&b));
    memdisk_cold_reads(b.disk, 300, 1);
    for (int i = 0; i < 100; i++) {
        struct status st = OK;

        mvcc_reader_init(&cold, b.engine, NULL, ENGINE_TIER_CACHE);
        st = mvcc_get(&cold, key, &opt, &b.arena, &v, &conflict);
        EXPECT_TRUE(st.code == STATUS_WOULD_BLOCK || (status_ok(st) && v.found));
        blocked += status_ok(st) ? 0 : 1;
        st = mvcc_scan(&cold, &scan, &opt, &b.arena, &res, &conflict);
        EXPECT_TRUE(st.code == STATUS_WOULD_BLOCK || (status_ok(st) && res.rows == 1));
        mvcc_reader_deinit(&cold);
        EXPECT_OK(mvcc_get(&b.reader, key, &opt, &b.arena, &v, &conflict));
        EXPECT_TRUE(v.found);
    }
    EXPECT_TRUE(blocked > 10 && blocked < 90);
    bed_deinit(&b);
}

/* ---- resolution ---------------------------------------------------------------------------------- */

TEST(mvcc, span_is_resolved_in_steps)
{
    const struct mvcc_txn txn = txn_at(1, 10);
    const struct mvcc_txn other = txn_at(2, 10);
    const struct mvcc_resolve how = {.txn_id = txn.id, .resolution = MVCC_COMMIT, .ts = hts_ms(12)};
    struct mvcc_conflict conflict;
    struct bytes start = KEY_MIN;
    uint32_t total = 0;
    uint8_t mem[16];
    struct bed b;

    EXPECT_TRUE(bed_init(&b));
    for (uint32_t i = 0; i < 10; i++) {
        EXPECT_OK(put(&b, numbered_key(mem, i), "v", HTS_ZERO, i % 5 == 4 ? &other : &txn));
    }
    EXPECT_OK(mvcc_lock(&b.writer, numbered_key(mem, 20), MVCC_SHARED, &txn, &conflict));
    EXPECT_OK(bed_apply(&b));
    for (int step = 0; start.len > 0; step++) {
        struct bytes resume = BYTES_EMPTY;
        uint32_t n = 0;

        EXPECT_TRUE(step < 10);
        EXPECT_OK(mvcc_resolve_range(&b.writer, start, KEY_MAX, &how, 3, &n, &resume));
        EXPECT_TRUE(n <= 3);
        total += n;
        EXPECT_OK(bed_apply(&b));
        start = resume;
    }
    EXPECT_EQ(8, total);
    struct mvcc_lock *locks = NULL;
    uint32_t count = 0;
    bool more = false;

    EXPECT_OK(mvcc_locks(&b.reader, KEY_MIN, KEY_MAX, MVCC_INTENT, NULL, &b.arena, &locks, &count,
                         &more));
    EXPECT_EQ(2, count); /* The other transaction's. */
    bed_deinit(&b);
}

TEST(mvcc, impossible_commits_are_damage)
{
    const struct bytes key = BYTES_LIT("\x88\x89k");
    struct mvcc_txn txn = txn_at(1, 10);
    struct mvcc_resolve how = {.txn_id = txn.id, .resolution = MVCC_COMMIT, .ts = hts_ms(9)};
    bool resolved = false;
    struct bed b;

    EXPECT_TRUE(bed_init(&b));
    txn.epoch = 3;
    EXPECT_OK(put(&b, key, "v", HTS_ZERO, &txn));
    EXPECT_OK(bed_apply(&b));
    how.epoch = 2;
    how.ts = hts_ms(10);
    EXPECT_CODE(STATUS_CORRUPT, mvcc_resolve(&b.writer, key, &how, &resolved));
    how.epoch = 3;
    how.ts = hts_ms(9); /* A duplicate of a write that came late: it goes. */
    EXPECT_OK(mvcc_resolve(&b.writer, key, &how, &resolved));
    EXPECT_OK(bed_apply(&b));
    EXPECT_TRUE(resolved);
    bed_deinit(&b);
}

/* B-4.2: a version that is moved to a later commit keeps the clock reading of when it was written. */
TEST(mvcc, moved_version_keeps_its_local_timestamp)
{
    const struct bytes key = BYTES_LIT("\x88\x89k");
    const struct mvcc_txn txn = txn_at(1, 95);
    const struct mvcc_resolve how = {
        .txn_id = txn.id, .resolution = MVCC_COMMIT, .ts = hts_ms(105)};
    const struct mvcc_read opt = {
        .ts = hts_ms(100), .global_limit = hts_ms(200), .local_limit = hts_ms(100)};
    struct mvcc_conflict conflict;
    struct mvcc_value v;
    bool resolved = false;
    struct bed b;

    EXPECT_TRUE(bed_init(&b));
    EXPECT_OK(put(&b, key, "v", HTS_ZERO, &txn));
    EXPECT_OK(bed_apply(&b));
    EXPECT_OK(mvcc_resolve(&b.writer, key, &how, &resolved));
    EXPECT_OK(bed_apply(&b));
    /* A reader that observed the node at 100 must not take the version for certain. */
    EXPECT_OK(mvcc_get(&b.reader, key, &opt, &b.arena, &v, &conflict));
    EXPECT_EQ(MVCC_CONFLICT_UNCERTAIN, conflict.kind);
    EXPECT_HTS_EQ(hts_ms(105), conflict.ts);
    EXPECT_HTS_EQ(hts_ms(95), conflict.local_ts);
    bed_deinit(&b);
}

/* Local descriptors are versioned and locked like rows, but are no part of a range's counts. */
TEST(mvcc, local_keys_take_intents_and_are_not_counted)
{
    const struct mvcc_txn txn = txn_at(1, 10);
    const struct mvcc_resolve how = {.txn_id = txn.id, .resolution = MVCC_COMMIT, .ts = hts_ms(10)};
    const struct mvcc_read opt = {.ts = hts_ms(20)};
    const struct mvcc_stats none = {.live_count = 0};
    struct mvcc_conflict conflict;
    struct bytes key = BYTES_EMPTY;
    struct mvcc_lock lock;
    struct mvcc_value v;
    struct key_enc e;
    bool found = false;
    uint8_t mem[32];
    struct bed b;

    EXPECT_TRUE(bed_init(&b));
    key_enc_init(&e, mem, sizeof(mem));
    key_enc_local(&e, BYTES_LIT("\x88\x89"), KEY_LOCAL_DESCRIPTOR);
    EXPECT_OK(key_enc_finish(&e, &key));
    EXPECT_OK(put(&b, key, "descriptor", HTS_ZERO, &txn));
    EXPECT_EQ(0, memcmp(&none, &b.writer.stats, sizeof(none)));
    EXPECT_OK(bed_apply(&b));
    EXPECT_OK(mvcc_get(&b.reader, key, &opt, &b.arena, &v, &conflict));
    EXPECT_EQ(MVCC_CONFLICT_LOCKED, conflict.kind);
    EXPECT_OK(mvcc_lock_get(&b.reader, key, MVCC_INTENT, txn.id, &b.arena, &lock, &found));
    EXPECT_TRUE(found);
    EXPECT_HTS_EQ(hts_ms(10), lock.write_ts);
    EXPECT_OK(mvcc_resolve(&b.writer, key, &how, &found));
    EXPECT_OK(bed_apply(&b));
    EXPECT_OK(mvcc_get(&b.reader, key, &opt, &b.arena, &v, &conflict));
    EXPECT_BYTES_EQ(BYTES_LIT("descriptor"), v.value);
    EXPECT_OK(mvcc_lock_get(&b.reader, key, MVCC_INTENT, txn.id, &b.arena, &lock, &found));
    EXPECT_FALSE(found);
    bed_deinit(&b);
}

/* ---- failures ------------------------------------------------------------------------------------ */

/* One of everything, in an arena that ends anywhere: STATUS_MEMORY, and never worse. */
static struct status everything(struct bed *b, struct arena *arena)
{
    const struct mvcc_txn txn = txn_at(1, 10);
    const struct mvcc_resolve how = {.txn_id = txn.id, .resolution = MVCC_PUSH, .ts = hts_ms(12)};
    const struct mvcc_read opt = {.ts = hts_ms(5)};
    const struct mvcc_scan scan = {.start = KEY_MIN, .end = KEY_MAX, .row_fn = ignore_row};
    struct mvcc_scan_result res;
    struct mvcc_conflict conflict;
    struct mvcc_writer w;
    struct mvcc_written out;
    bool resolved = false;
    uint8_t mem[16];

    engine_batch_clear(&b->batch);
    mvcc_writer_init(&w, &b->reader, &b->batch, arena);
    for (uint32_t i = 0; i < 40; i++) {
        const struct mvcc_write op = {
            .key = numbered_key(mem, i), .value = BYTES_LIT("value"), .txn = &txn};

        TRY(mvcc_put(&w, &op, &out, &conflict));
        TRY(mvcc_resolve(&w, op.key, &how, &resolved));
    }
    TRY(mvcc_scan(&b->reader, &scan, &opt, arena, &res, &conflict));
    return mvcc_refresh(&b->reader, KEY_MIN, KEY_MAX, hts_ms(1), hts_ms(5), &txn, arena, &conflict);
}

TEST(mvcc, running_out_of_memory_is_a_status)
{
    struct status st = FAIL(STATUS_MEMORY, "not tried");
    int failures = 0;
    struct bed b;

    EXPECT_TRUE(bed_init(&b));
    for (size_t limit = 1024; st.code == STATUS_MEMORY; limit += 1024) {
        struct arena arena;

        EXPECT_TRUE(limit < (1 << 20));
        arena_init(&arena, limit);
        st = everything(&b, &arena);
        failures += status_ok(st) ? 0 : 1;
        arena_deinit(&arena);
    }
    EXPECT_OK(st);
    EXPECT_TRUE(failures > 3);
    bed_deinit(&b);
}
