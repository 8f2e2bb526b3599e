/*
 * test_mvcc_model.c -- random histories against the naive model, on both engines.
 *
 * A step is one batch of a few writes, compared one by one, then applied; after it every kind of
 * read is compared, and the counts kept by differences with a recount.
 */
#include <stdlib.h>

#include "node/base/hash.h"
#include "node/storage/key/key.h"
#include "node/storage/mvcc/mvcc.h"
#include "tests/lib/test.h"
#include "tests/unit/storage/mvcc_model.h"
#include "tests/unit/storage/tmpdir.h"

#define TIME_MAX 400

struct world {
    struct rng rng;
    struct arena arena; /* Reset every step. */
    struct engine *engine;
    struct engine_batch batch;
    struct model model;
    struct mvcc_stats stats;
    struct mvcc_txn txns[MODEL_TXNS];
    struct mvcc_seq_range ignored[MODEL_TXNS][MVCC_IGNORED_MAX];
    uint8_t next_id;
    uint64_t now;
    const char *what; /* The operation under comparison, for the message. */
};

/* Lengths differ; none is a prefix of another (rule PF). */
static struct bytes key_of(uint32_t i)
{
    static const char *const keys[MODEL_KEYS] = {
        "\x88\x89\x10",         "\x88\x89\x11\x88",    "\x88\x89\x12\xff\xff\x88",
        "\x88\x89\x13\x00\x00", "\x88\x8a\x10",        "\x88\x8b\x88",
        "\x89\xfe\x88",         "\x8a\x88\x88\x88\x88"};
    static const size_t lens[MODEL_KEYS] = {3, 4, 6, 5, 3, 3, 3, 5};

    return bytes_of(keys[i], lens[i]);
}

static struct bytes one_byte(uint8_t v)
{
    static uint8_t all[256];

    all[v] = v;
    return bytes_of(&all[v], 1);
}

static struct hts random_ts(struct world *w)
{
    return (struct hts){rng_between(&w->rng, 1, w->now), (uint32_t)rng_below(&w->rng, 2)};
}

static void start_txn(struct world *w, int t)
{
    struct mvcc_txn *txn = &w->txns[t];

    *txn = (struct mvcc_txn){.id = {{(uint8_t)(t + 1), ++w->next_id}},
                             .anchor_key = key_of((uint32_t)t),
                             .priority = 7,
                             .ignored = w->ignored[t]};
    txn->read_ts = (struct hts){w->now, 0};
    txn->write_ts = txn->read_ts;
    txn->min_ts = txn->read_ts;
}

/* ---- comparing writes ------------------------------------------------------------------------ */

static struct mvcc_write random_write(struct world *w, uint32_t key, int who)
{
    struct mvcc_write op = {.key = key_of(key),
                            .value = one_byte((uint8_t)rng_below(&w->rng, 4)),
                            .tombstone = rng_permille(&w->rng, 250),
                            .ts = {w->now, (uint32_t)rng_below(&w->rng, 2)},
                            .bump = rng_permille(&w->rng, 500)};

    if (rng_permille(&w->rng, 300)) {
        op.expect = (enum mvcc_expect)rng_below(&w->rng, 5);
        op.expected = one_byte((uint8_t)rng_below(&w->rng, 4));
    }
    if (rng_permille(&w->rng, 100)) {
        op.newest_max = random_ts(w);
    }
    if (rng_permille(&w->rng, 300)) {
        op.local_ts = random_ts(w);
    }
    if (rng_permille(&w->rng, 200)) {
        op.ts = random_ts(w);
    }
    if (who >= 0) {
        op.txn = &w->txns[who];
        if (!rng_permille(&w->rng, 100)) {
            w->txns[who].seq++; /* Otherwise it is a replay. */
        }
    }
    return op;
}

static bool compare_put(struct world *w, struct mvcc_writer *writer)
{
    const uint32_t key = (uint32_t)rng_below(&w->rng, MODEL_KEYS);
    const int who = (int)rng_below(&w->rng, MODEL_TXNS + 1) - 1;
    const struct mvcc_write op = random_write(w, key, who);
    const uint32_t count = w->batch.count;
    const struct model_put want = model_put(&w->model, key, &op, who);
    struct mvcc_conflict conflict;
    struct mvcc_written got;

    w->what = "put";
    if (!status_ok(mvcc_put(writer, &op, &got, &conflict)) || conflict.kind != want.conflict) {
        return false;
    }
    if (conflict.kind != MVCC_CONFLICT_NONE) {
        return w->batch.count == count;
    }
    if (who >= 0) {
        w->txns[who].write_ts = hts_max(w->txns[who].write_ts, got.ts);
    }
    return hts_eq(got.ts, want.out.ts) && got.bumped == want.out.bumped &&
           got.replayed == want.out.replayed && got.had_value == want.out.had_value;
}

static bool compare_lock(struct world *w, struct mvcc_writer *writer)
{
    const uint32_t key = (uint32_t)rng_below(&w->rng, MODEL_KEYS);
    const int who = (int)rng_below(&w->rng, MODEL_TXNS);
    const enum mvcc_strength strength = (enum mvcc_strength)rng_between(&w->rng, 1, 2);
    struct mvcc_conflict conflict;

    w->what = "lock";
    w->txns[who].seq++;
    return status_ok(mvcc_lock(writer, key_of(key), strength, &w->txns[who], &conflict)) &&
           conflict.kind == model_lock(&w->model, key, strength, &w->txns[who], who);
}

static bool resolve_all(struct world *w, struct mvcc_writer *writer, int who,
                        const struct mvcc_resolve *how)
{
    for (uint32_t key = 0; key < MODEL_KEYS; key++) {
        bool got = false;

        if (!status_ok(mvcc_resolve(writer, key_of(key), how, &got)) ||
            got != model_resolve(&w->model, key, how, who)) {
            return false;
        }
    }
    return true;
}

static bool compare_end(struct world *w, struct mvcc_writer *writer)
{
    const int who = (int)rng_below(&w->rng, MODEL_TXNS);
    struct mvcc_txn *txn = &w->txns[who];
    const struct mvcc_resolve how = {
        .txn_id = txn->id,
        .epoch = txn->epoch,
        .resolution = rng_permille(&w->rng, 600) ? MVCC_COMMIT : MVCC_ABORT,
        .ts = rng_permille(&w->rng, 300) ? (struct hts){w->now + 1, 0} : txn->write_ts,
        .ignored = txn->ignored,
        .ignored_count = txn->ignored_count};

    w->what = "end";
    if (!resolve_all(w, writer, who, &how)) {
        return false;
    }
    start_txn(w, who);
    return true;
}

static bool compare_push(struct world *w, struct mvcc_writer *writer)
{
    const int who = (int)rng_below(&w->rng, MODEL_TXNS);
    const uint32_t key = (uint32_t)rng_below(&w->rng, MODEL_KEYS);
    struct mvcc_txn *txn = &w->txns[who];
    const struct mvcc_resolve how = {.txn_id = txn->id,
                                     .epoch = txn->epoch,
                                     .resolution = MVCC_PUSH,
                                     .ts = {w->now, 1},
                                     .ignored = txn->ignored,
                                     .ignored_count = txn->ignored_count};
    bool got = false;

    w->what = "push";
    txn->write_ts = hts_max(txn->write_ts, how.ts);
    return status_ok(mvcc_resolve(writer, key_of(key), &how, &got)) &&
           got == model_resolve(&w->model, key, &how, who);
}

static bool compare_gc(struct world *w, struct mvcc_writer *writer)
{
    const uint32_t key = (uint32_t)rng_below(&w->rng, MODEL_KEYS);
    const struct hts threshold = random_ts(w);
    uint32_t got = 0;

    w->what = "gc";
    return status_ok(mvcc_gc(writer, key_of(key), threshold, &got)) &&
           got == model_gc(&w->model, key, threshold);
}

/* Savepoints and restarts happen at the coordinator. */
static void change_txn(struct world *w)
{
    const int who = (int)rng_below(&w->rng, MODEL_TXNS);
    struct mvcc_txn *txn = &w->txns[who];

    if (rng_permille(&w->rng, 700) && txn->seq > 0 && txn->ignored_count < MVCC_IGNORED_MAX) {
        const uint32_t last =
            txn->ignored_count == 0 ? 0 : w->ignored[who][txn->ignored_count - 1].to;

        if (txn->seq > last) {
            w->ignored[who][txn->ignored_count++] = (struct mvcc_seq_range){
                (uint32_t)rng_between(&w->rng, last + 1, txn->seq), txn->seq};
            txn->seq++;
        }
        return;
    }
    txn->epoch++;
    txn->ignored_count = 0;
    txn->read_ts = (struct hts){w->now, 0};
    txn->write_ts = hts_max(txn->write_ts, txn->read_ts);
}

/* ---- comparing reads ------------------------------------------------------------------------- */

static struct mvcc_read random_read(struct world *w, int who)
{
    struct mvcc_read opt = {.ts = random_ts(w)};

    if (who >= 0) {
        opt.txn = &w->txns[who];
    }
    if (rng_permille(&w->rng, 300)) {
        opt.global_limit = (struct hts){opt.ts.wall + rng_below(&w->rng, 30), 0};
        opt.local_limit = rng_permille(&w->rng, 500) ? opt.global_limit : random_ts(w);
    }
    opt.skip_locked = rng_permille(&w->rng, 200);
    return opt;
}

static bool same_get(const struct model_get *want, const struct mvcc_value *got,
                     const struct mvcc_conflict *conflict)
{
    if (conflict->kind != want->conflict || want->conflict != MVCC_CONFLICT_NONE) {
        return conflict->kind == want->conflict;
    }
    return got->found == want->value.present && hts_eq(got->ts, want->ts) &&
           got->own_intent == want->own &&
           (!got->found || (got->value.len == 1 && got->value.ptr[0] == want->value.v));
}

static bool compare_get(struct world *w, struct mvcc_reader *r, struct mvcc_writer *writer)
{
    const uint32_t key = (uint32_t)rng_below(&w->rng, MODEL_KEYS);
    const int who = (int)rng_below(&w->rng, MODEL_TXNS + 1) - 1;
    const struct mvcc_read opt = random_read(w, who);
    const struct model_get want = model_get(&w->model, key, &opt, who);
    struct mvcc_conflict conflict;
    struct mvcc_value got;

    w->what = writer != NULL ? "get in a batch" : "get";
    return status_ok(writer != NULL ? mvcc_writer_get(writer, key_of(key), &opt, &got, &conflict)
                                    : mvcc_get(r, key_of(key), &opt, &w->arena, &got, &conflict)) &&
           same_get(&want, &got, &conflict);
}

struct rows {
    uint32_t count;
    uint32_t keys[MODEL_KEYS];
    uint8_t values[MODEL_KEYS];
};

static struct status add_row(void *ctx, struct bytes key, struct bytes value, struct hts ts)
{
    struct rows *rows = ctx;

    UNUSED(ts);
    for (uint32_t i = 0; i < MODEL_KEYS; i++) {
        if (bytes_eq(key, key_of(i)) && rows->count < MODEL_KEYS && value.len == 1) {
            rows->keys[rows->count] = i;
            rows->values[rows->count++] = value.ptr[0];
            return OK;
        }
    }
    return FAIL(STATUS_CORRUPT, "row of an unknown key");
}

/* Rows and first conflict that the model sees from key `i` on in the scan's direction. */
static enum mvcc_conflict_kind model_scan(const struct world *w, uint32_t lo, uint32_t hi,
                                          const struct mvcc_scan *scan, const struct mvcc_read *opt,
                                          int who, struct rows *rows)
{
    for (uint32_t n = lo; n < hi; n++) {
        const uint32_t key = scan->reverse ? hi - 1 - (n - lo) : n;
        const struct model_get g = model_get(&w->model, key, opt, who);

        if (g.conflict != MVCC_CONFLICT_NONE) {
            return g.conflict;
        }
        if (g.value.present) {
            rows->keys[rows->count] = key;
            rows->values[rows->count++] = g.value.v;
        }
        if (scan->rows_max > 0 && rows->count == scan->rows_max) {
            break;
        }
    }
    return MVCC_CONFLICT_NONE;
}

static bool same_rows(const struct rows *a, const struct rows *b)
{
    if (a->count != b->count) {
        return false;
    }
    for (uint32_t i = 0; i < a->count; i++) {
        if (a->keys[i] != b->keys[i] || a->values[i] != b->values[i]) {
            return false;
        }
    }
    return true;
}

/* A scan, and its continuation until the end when a limit cuts it. */
static bool compare_scan(struct world *w, struct mvcc_reader *r)
{
    const int who = (int)rng_below(&w->rng, MODEL_TXNS + 1) - 1;
    const struct mvcc_read opt = random_read(w, who);
    uint32_t lo = (uint32_t)rng_below(&w->rng, MODEL_KEYS);
    uint32_t hi = (uint32_t)rng_between(&w->rng, lo, MODEL_KEYS);
    struct mvcc_scan scan = {.start = key_of(lo),
                             .end = hi == MODEL_KEYS ? KEY_MAX : key_of(hi),
                             .reverse = rng_permille(&w->rng, 500),
                             .rows_max = rng_below(&w->rng, 4),
                             .row_fn = add_row};

    w->what = scan.reverse ? "scan backward" : "scan forward";
    for (;;) {
        struct rows want = {.count = 0};
        struct rows got = {.count = 0};
        const enum mvcc_conflict_kind kind = model_scan(w, lo, hi, &scan, &opt, who, &want);
        struct mvcc_conflict conflict;
        struct mvcc_scan_result res;

        scan.ctx = &got;
        if (!status_ok(mvcc_scan(r, &scan, &opt, &w->arena, &res, &conflict)) ||
            conflict.kind != kind) {
            return false;
        }
        if (kind != MVCC_CONFLICT_NONE) {
            return true;
        }
        if (!same_rows(&want, &got) || res.rows != got.count) {
            return false;
        }
        if (!res.more) {
            return scan.rows_max == 0 || got.count < scan.rows_max;
        }
        if (scan.reverse) {
            scan.end = res.resume;
            hi = got.keys[got.count - 1];
        } else {
            scan.start = res.resume;
            lo = got.keys[got.count - 1] + 1;
        }
    }
}

static bool compare_refresh(struct world *w, struct mvcc_reader *r)
{
    const int who = (int)rng_below(&w->rng, MODEL_TXNS + 1) - 1;
    const uint32_t lo = (uint32_t)rng_below(&w->rng, MODEL_KEYS);
    const uint32_t hi = (uint32_t)rng_between(&w->rng, lo, MODEL_KEYS);
    const struct hts from = random_ts(w);
    const struct hts to = hts_add_ns(from, rng_below(&w->rng, 60));
    const bool point = rng_permille(&w->rng, 400);
    enum mvcc_conflict_kind want = MVCC_CONFLICT_NONE;
    struct mvcc_conflict conflict;

    w->what = point ? "refresh a key" : "refresh a span";
    for (uint32_t k = lo; k < (point ? lo + 1 : hi) && want == MVCC_CONFLICT_NONE; k++) {
        want = model_refresh(&w->model, k, from, to, who);
    }
    return status_ok(mvcc_refresh(
               r, key_of(lo), point ? BYTES_EMPTY : (hi == MODEL_KEYS ? KEY_MAX : key_of(hi)), from,
               to, who < 0 ? NULL : &w->txns[who], &w->arena, &conflict)) &&
           conflict.kind == want;
}

static bool compare_locks(struct world *w, struct mvcc_reader *r)
{
    const int who = (int)rng_below(&w->rng, MODEL_TXNS + 1) - 1;
    const uint32_t lo = (uint32_t)rng_below(&w->rng, MODEL_KEYS);
    const enum mvcc_strength want = (enum mvcc_strength)rng_below(&w->rng, 4);
    const bool point = rng_permille(&w->rng, 500);
    struct mvcc_lock *locks = NULL;
    uint32_t count = 0;
    uint32_t expect = 0;
    bool more = false;

    w->what = "locks";
    for (uint32_t k = lo; k < (point ? lo + 1 : MODEL_KEYS); k++) {
        expect += model_locks(&w->model, k, want, who);
    }
    return status_ok(mvcc_locks(r, key_of(lo), point ? BYTES_EMPTY : KEY_MAX, want,
                                who < 0 ? NULL : &w->txns[who].id, &w->arena, &locks, &count,
                                &more)) &&
           count == expect && !more;
}

static bool compare_query(struct world *w, struct mvcc_writer *writer)
{
    const int who = (int)rng_below(&w->rng, MODEL_TXNS);
    const uint32_t key = (uint32_t)rng_below(&w->rng, MODEL_KEYS);
    const uint32_t epoch = (uint32_t)rng_below(&w->rng, w->txns[who].epoch + 2);
    const uint32_t seq = (uint32_t)rng_below(&w->rng, w->txns[who].seq + 2);
    const struct hts ts = hts_add_ns(random_ts(w), rng_below(&w->rng, 5));
    enum mvcc_intent_state got = MVCC_INTENT_MISSING;
    struct hts intent_ts;

    w->what = "query intent";
    return status_ok(mvcc_query_intent(writer, key_of(key), w->txns[who].id, epoch, seq, ts, &got,
                                       &intent_ts)) &&
           got == model_query(&w->model, key, who, epoch, seq, ts);
}

/* ---- histories ------------------------------------------------------------------------------- */

static bool compare_stats(struct world *w, struct mvcc_reader *r)
{
    struct mvcc_stats recount;

    w->what = "stats";
    return status_ok(mvcc_stats_compute(r, KEY_MIN, KEY_MAX, &recount)) &&
           memcmp(&recount, &w->stats, sizeof(recount)) == 0;
}

static bool write_step(struct world *w, struct mvcc_reader *r)
{
    struct mvcc_writer writer;
    const uint64_t ops = rng_between(&w->rng, 1, 5);
    bool good = true;

    engine_batch_clear(&w->batch);
    mvcc_writer_init(&writer, r, &w->batch, &w->arena);
    for (uint64_t i = 0; i < ops && good; i++) {
        const uint64_t what = rng_below(&w->rng, 100);

        if (what < 60) {
            good = compare_put(w, &writer);
        } else if (what < 70) {
            good = compare_lock(w, &writer);
        } else if (what < 80) {
            good = compare_end(w, &writer);
        } else if (what < 88) {
            good = compare_push(w, &writer);
        } else if (what < 95) {
            good = compare_gc(w, &writer);
        } else {
            change_txn(w);
        }
        good = good && compare_get(w, r, &writer) && compare_query(w, &writer);
    }
    mvcc_stats_add(&w->stats, &writer.stats);
    return good && status_ok(engine_write(w->engine, &w->batch, false));
}

static bool read_step(struct world *w, struct mvcc_reader *r)
{
    bool good = compare_stats(w, r);

    for (int i = 0; i < 4 && good; i++) {
        good = compare_get(w, r, NULL) && compare_scan(w, r) && compare_refresh(w, r) &&
               compare_locks(w, r);
    }
    return good;
}

static bool room_left(const struct world *w)
{
    for (uint32_t k = 0; k < MODEL_KEYS; k++) {
        if (w->model.keys[k].version_count + 8 > MODEL_VERSIONS ||
            w->model.keys[k].write_count + 8 > MODEL_WRITES) {
            return false;
        }
    }
    return true;
}

static bool run_history(struct world *w, int steps)
{
    bool good = true;

    for (int t = 0; t < MODEL_TXNS; t++) {
        start_txn(w, t);
    }
    for (int i = 0; i < steps && good && room_left(w); i++) {
        struct mvcc_reader r;

        w->now += rng_below(&w->rng, 3);
        mvcc_reader_init(&r, w->engine, NULL, ENGINE_TIER_ANY);
        good = write_step(w, &r);
        mvcc_reader_refresh(&r);
        good = good && read_step(w, &r);
        mvcc_reader_deinit(&r);
        arena_reset(&w->arena);
    }
    return good;
}

static void run_seed(uint64_t seed, struct engine *e, int steps)
{
    struct world *w = calloc(1, sizeof(*w));
    bool good = false;

    rng_seed(&w->rng, seed);
    arena_init(&w->arena, 0);
    engine_batch_init(&w->batch);
    w->engine = e;
    w->now = 10;
    good = run_history(w, steps);
    if (!good) {
        test_fail(__FILE__, __LINE__, "%s differs from the model, seed %" PRIu64, w->what, seed);
    }
    engine_batch_deinit(&w->batch);
    arena_deinit(&w->arena);
    free(w);
}

TEST(mvcc, agrees_with_the_model_in_memory)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct memdisk *d = NULL;
        struct engine *e = NULL;

        EXPECT_OK(memdisk_create(&d));
        EXPECT_OK(engine_open_mem(d, &e));
        run_seed(seed, e, 120);
        engine_close(e);
        memdisk_destroy(d);
    }
}

TEST(mvcc, agrees_with_the_model_on_rocksdb)
{
    for (uint64_t seed = 101; seed <= 104; seed++) {
        struct engine_options o = {.memtable_bytes = 64 << 10, .create_if_missing = true};
        struct engine *e = NULL;
        struct arena arena;
        char path[64];

        arena_init(&arena, 0);
        EXPECT_TRUE(tmpdir_make(path));
        o.path = path;
        EXPECT_OK(engine_open_rocksdb(&o, &arena, &e));
        run_seed(seed, e, 120);
        engine_close(e);
        tmpdir_remove(path);
        arena_deinit(&arena);
    }
}
