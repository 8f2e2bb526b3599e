/* Old versions go; what can be read at or above the threshold stays as it was. */
#include <stdlib.h>

#include "node/base/invariant.h"
#include "node/range/internal.h"
#include "tests/unit/range/cluster.h"
#include "tests/unit/range/txn_rig.h"

#define SECOND ((uint64_t)1000000000)

struct collect {
    struct cluster_node *node;
    struct store_gc_options options;
    struct store_gc_result result;
    struct status st;
    bool done;
};

static void collect_fiber(void *arg)
{
    struct collect *x = arg;

    x->st = store_gc(x->node->store, (range_id){RANGE_FIRST_ID}, &x->options,
                     env_mono_ns(shard_env(x->node->shard)) + 5 * SECOND, &x->result);
    x->done = true;
}

static struct collect collect(struct cluster *c, uint32_t i, uint64_t ttl_ns)
{
    struct collect x = {
        .node = &c->nodes[i],
        .options = {.ttl_ns = ttl_ns, .intent_age_ns = 60 * SECOND, .record_age_ns = 60 * SECOND}};

    INVARIANT(status_ok(fiber_spawn(c->nodes[i].shard, "gc", collect_fiber, &x)));
    for (int n = 0; n < 10000 && !x.done; n++) {
        cluster_run_ms(c, 1);
    }
    INVARIANT(x.done);
    return x;
}

static struct hts now(struct cluster *c, uint32_t i)
{
    struct hts ts;

    shard_enter(c->nodes[i].shard);
    ts = hclock_hts(hlc_now(&c->nodes[i].hlc));
    shard_leave(c->nodes[i].shard);
    return ts;
}

/* Protections are known up to the present. */
static void know(struct cluster *c, const struct store_protection *list, uint32_t count)
{
    for (uint32_t i = 0; i < c->count; i++) {
        EXPECT_OK(store_set_protected(c->nodes[i].store, now(c, i), list, count));
    }
}

static struct replica *replica_of(struct cluster *c, uint32_t i)
{
    return store__find(c->nodes[i].store, (range_id){RANGE_FIRST_ID});
}

static int64_t versions(struct cluster *c, uint32_t i)
{
    return replica_of(c, i)->applied.stats.val_count;
}

/* The range's statistics are what a recount gives. */
static bool stats_agree(struct cluster *c, uint32_t i)
{
    struct mvcc_reader r;
    struct mvcc_stats have = replica_of(c, i)->applied.stats;
    struct mvcc_stats count;
    bool same = false;

    mvcc_reader_init(&r, c->nodes[i].engine, NULL, ENGINE_TIER_ANY);
    INVARIANT(status_ok(mvcc_stats_compute(&r, KEY_MIN, KEY_MAX, &count)));
    mvcc_reader_deinit(&r);
    same = memcmp(&have, &count, sizeof(have)) == 0;
    if (!same) {
        printf("live %ld/%ld keys %ld/%ld versions %ld/%ld\n", (long)have.live_count,
               (long)count.live_count, (long)have.key_count, (long)count.key_count,
               (long)have.val_count, (long)count.val_count);
    }
    return same;
}

static bool three_voters(struct cluster *c)
{
    cluster_start(c, 3);
    return cluster_add_voter(c, 0, 1) == STATUS_OK && cluster_add_voter(c, 0, 2) == STATUS_OK;
}

static enum status_code delete (struct cluster *c, const char *key) {
    struct cluster_call call = {.node = &c->nodes[0],
                                .one = {.op = RANGE_OP_DELETE, .key = bytes_str(key)}};

        cluster_call_start(&call); INVARIANT(cluster_call_wait(&call, 5000));
        cluster_call_end(&call); return call.st.code;
}

static const char *const a = "\x88"
                             "a\x88";
static const char *const b = "\x88"
                             "b\x88";

TEST(gc, replaced_versions_and_tombstones_go_everywhere)
{
    struct cluster c;
    enum status_code code = STATUS_OK;
    struct collect x;
    int64_t before = 0;

    EXPECT_TRUE(three_voters(&c));
    for (int i = 0; i < 5; i++) {
        EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, a, i == 4 ? "last" : "v"));
        EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, b, "v"));
    }
    EXPECT_EQ(STATUS_OK, delete (&c, b));
    cluster_run_ms(&c, 3000);
    before = versions(&c, 0);
    x = collect(&c, 0, 0); /* Nobody has said what is protected. */
    EXPECT_OK(x.st);
    EXPECT_EQ(0, x.result.versions);
    EXPECT_TRUE(hts_is_zero(x.result.threshold));
    know(&c, NULL, 0);
    x = collect(&c, 0, 3600 * SECOND); /* Too young. */
    EXPECT_OK(x.st);
    EXPECT_EQ(0, x.result.versions);
    know(&c, NULL, 0);
    x = collect(&c, 0, SECOND);
    EXPECT_OK(x.st);
    EXPECT_TRUE(x.result.versions >= 10);
    cluster_run_ms(&c, 500);
    EXPECT_TRUE(versions(&c, 0) <= before - 10);
    EXPECT_STREQ("last", cluster_get(&c, 0, a, &code));
    EXPECT_STREQ("", cluster_get(&c, 0, b, &code));
    for (uint32_t i = 0; i < 3; i++) {
        EXPECT_TRUE(stats_agree(&c, i));
        EXPECT_TRUE(hts_eq(x.result.threshold, replica_of(&c, i)->gc_threshold));
        EXPECT_OK(gc__check_read(replica_of(&c, i), x.result.threshold));
        EXPECT_CODE(STATUS_INVALID,
                    gc__check_read(replica_of(&c, i), hts_prev(x.result.threshold)));
    }
    EXPECT_TRUE(cluster_digests_equal(&c));
    EXPECT_EQ(0, fake_world_errors_logged(c.world));
    cluster_stop(&c);
}

TEST(gc, protections_hold_and_old_knowledge_stops_it)
{
    struct cluster c;
    struct store_protection p = {.start = BYTES_LIT("\x88"), .end = BYTES_LIT("\x89")};
    struct store_protection elsewhere = {.start = BYTES_LIT("\xff\x01"),
                                         .end = BYTES_LIT("\xff\x02")};
    const range_id range = {RANGE_FIRST_ID};
    struct collect x;
    struct hts early;

    cluster_start(&c, 1);
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, a, "1"));
    cluster_run_ms(&c, 1000);
    p.ts = now(&c, 0);
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, a, "2"));
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, a, "3"));
    know(&c, NULL, 0);
    early = now(&c, 0);
    EXPECT_CODE(STATUS_UNAVAILABLE, store_protection_holds(c.nodes[0].store, range, p.ts, early));
    cluster_run_ms(&c, 5000);
    know(&c, &p, 1);
    EXPECT_OK(store_protection_holds(c.nodes[0].store, range, p.ts, early));
    x = collect(&c, 0, SECOND);
    EXPECT_OK(x.st);
    EXPECT_TRUE(hts_eq(hts_prev(p.ts), x.result.threshold));
    EXPECT_OK(store_protection_holds(c.nodes[0].store, range, p.ts, early));
#ifdef DSQL_PLANTS
    c.nodes[0].store->o.plants = STORE_PLANT_GC_BELOW_PROTECTED;
    x = collect(&c, 0, SECOND);
    EXPECT_TRUE(hts_less(p.ts, x.result.threshold)); /* The bug that the check below is for. */
    EXPECT_CODE(STATUS_INVALID, store_protection_holds(c.nodes[0].store, range, p.ts, early));
    c.nodes[0].store->o.plants = 0;
#endif
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, a, "4"));
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, a, "5"));
    early = replica_of(&c, 0)->gc_threshold;
    know(&c, &elsewhere, 1);
    x = collect(&c, 0, 30 * SECOND);
    EXPECT_TRUE(hts_eq(early, x.result.threshold)); /* It never falls. */
    cluster_run_ms(&c, 60000);
    x = collect(&c, 0, 30 * SECOND); /* What is protected is known as of a minute ago. */
    EXPECT_TRUE(hts_eq(early, x.result.threshold));
    EXPECT_CODE(STATUS_OVERLOADED,
                store_set_protected(c.nodes[0].store, early, &p, STORE_PROTECTIONS_MAX + 1));
    EXPECT_CODE(STATUS_NOT_LEADER,
                store_protection_holds(c.nodes[0].store, (range_id){9}, early, early));
    cluster_stop(&c);
}

TEST(gc, the_threshold_survives_restarts_and_travels_in_snapshots)
{
    struct cluster c;
    struct collect x;

    cluster_start(&c, 2);
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, a, "1"));
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, a, "2"));
    cluster_run_ms(&c, 2000);
    know(&c, NULL, 0);
    x = collect(&c, 0, SECOND);
    EXPECT_OK(x.st);
    EXPECT_FALSE(hts_is_zero(x.result.threshold));
    EXPECT_EQ(STATUS_OK, cluster_add_voter(&c, 0, 1));
    cluster_run_ms(&c, 500);
    EXPECT_TRUE(hts_eq(x.result.threshold, replica_of(&c, 1)->gc_threshold));
    cluster_crash(&c, 1, 0);
    cluster_restart(&c, 1);
    EXPECT_TRUE(hts_eq(x.result.threshold, replica_of(&c, 1)->gc_threshold));
    cluster_stop(&c);
}

TEST(gc, reads_below_the_threshold_are_refused)
{
    struct cluster c;
    struct collect x;
    struct cluster_call call;

    cluster_start(&c, 1);
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, a, "1"));
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, a, "2"));
    cluster_run_ms(&c, 3000);
    know(&c, NULL, 0);
    x = collect(&c, 0, SECOND);
    EXPECT_OK(x.st);
    for (int below = 0; below < 2; below++) {
        call = (struct cluster_call){.node = &c.nodes[0],
                                     .one = {.op = RANGE_OP_GET, .key = bytes_str(a)}};
        call.batch.read_ts = below != 0 ? hts_prev(x.result.threshold) : x.result.threshold;
        cluster_call_start(&call);
        EXPECT_TRUE(cluster_call_wait(&call, 1000));
        EXPECT_CODE(below != 0 ? STATUS_INVALID : STATUS_OK, call.st);
        cluster_call_end(&call);
    }
    cluster_stop(&c);
}

TEST(gc, only_the_leaseholder_collects)
{
    struct cluster c;

    EXPECT_TRUE(three_voters(&c));
    know(&c, NULL, 0);
    EXPECT_CODE(STATUS_NOT_LEADER, collect(&c, 1, 0).st);
    cluster_stop(&c);
}

/* More versions of a key than one command takes. */
TEST(gc, a_key_with_very_many_versions_goes_in_pieces)
{
    struct cluster c;
    struct engine_batch batch;
    struct mvcc_stats stats;
    struct mvcc_reader r;
    struct collect x;
    enum status_code code = STATUS_OK;
    const uint32_t count = 25000;

    cluster_start(&c, 1);
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, b, "v"));
    engine_batch_init(&batch);
    for (uint32_t i = 0; i < count; i++) {
        const struct mvcc_version v = {.payload = BYTES_LIT("x")};
        struct buf value = {0};
        uint8_t mem[64];
        struct key_enc k;
        struct bytes key;

        key_enc_init(&k, mem, sizeof(mem));
        key_enc_raw(&k, bytes_str(a));
        key_enc_version(&k, hts_ms(10 + i));
        INVARIANT(status_ok(key_enc_finish(&k, &key)));
        INVARIANT(status_ok(mvcc_version_encode(&value, bytes_str(a), hts_ms(10 + i), &v)));
        INVARIANT(status_ok(engine_batch_put(&batch, ENGINE_CF_STATE, key, buf_bytes(&value))));
        buf_deinit(&value);
    }
    EXPECT_OK(engine_write(c.nodes[0].engine, &batch, true));
    engine_batch_deinit(&batch);
    mvcc_reader_init(&r, c.nodes[0].engine, NULL, ENGINE_TIER_ANY);
    EXPECT_OK(mvcc_stats_compute(&r, KEY_MIN, KEY_MAX, &stats));
    mvcc_reader_deinit(&r);
    replica_of(&c, 0)->applied.stats = stats;
    replica_of(&c, 0)->submitted.stats = stats;
    know(&c, NULL, 0);
    x = collect(&c, 0, SECOND);
    EXPECT_OK(x.st);
    EXPECT_TRUE(x.result.versions >= count - 1);
    EXPECT_TRUE(x.result.keys >= 3); /* The same one again and again. */
    cluster_run_ms(&c, 100);
    EXPECT_TRUE(stats_agree(&c, 0));
    EXPECT_STREQ("x", cluster_get(&c, 0, a, &code));
    cluster_stop(&c);
}

/* ---- a shadow of the history -------------------------------------------------------------------- */

#define KEYS  12
#define STEPS 250

struct version {
    struct hts ts;
    uint32_t key;
    char value[8]; /* Empty: deleted. */
};

static void step_write(struct cluster *c, struct rng *rng, struct version *v, uint32_t n)
{
    char key[] = {(char)0x88, 'k', (char)('a' + rng_below(rng, KEYS)), (char)0x88, '\0'};
    struct cluster_call call = {.node = &c->nodes[0]};
    const bool gone = rng_below(rng, 4) == 0;

    *v = (struct version){.key = (uint32_t)(key[2] - 'a')};
    snprintf(v->value, sizeof(v->value), "%u", n);
    call.one = (struct range_request){.op = gone ? RANGE_OP_DELETE : RANGE_OP_PUT,
                                      .key = bytes_str(key),
                                      .value = gone ? BYTES_EMPTY : bytes_str(v->value)};
    cluster_call_start(&call);
    INVARIANT(cluster_call_wait(&call, 5000));
    INVARIANT(status_ok(call.st));
    v->ts = call.result.commit_ts;
    v->value[0] = gone ? '\0' : v->value[0];
    cluster_call_end(&call);
}

/* Every key at a time at or above the threshold, in the engine of node i. */
static bool history_stands(struct cluster *c, uint32_t i, const struct version *all, uint32_t count,
                           struct hts at)
{
    struct mvcc_reader r;
    struct arena arena;
    bool same = true;

    arena_init(&arena, 0);
    mvcc_reader_init(&r, c->nodes[i].engine, NULL, ENGINE_TIER_ANY);
    for (uint32_t k = 0; k < KEYS; k++) {
        char key[] = {(char)0x88, 'k', (char)('a' + k), (char)0x88, '\0'};
        const struct mvcc_read opt = {.ts = at};
        const char *want = "";
        struct mvcc_value v;
        struct mvcc_conflict conflict;

        for (uint32_t n = 0; n < count; n++) {
            want = all[n].key == k && hts_less_eq(all[n].ts, at) ? all[n].value : want;
        }
        INVARIANT(status_ok(mvcc_get(&r, bytes_str(key), &opt, &arena, &v, &conflict)));
        same = same && v.found == (want[0] != '\0') &&
               (!v.found || bytes_eq(v.value, bytes_str(want)));
    }
    mvcc_reader_deinit(&r);
    arena_deinit(&arena);
    return same;
}

TEST(gc, what_is_at_or_above_the_threshold_never_changes)
{
    for (uint64_t seed = 1; seed <= 3; seed++) {
        static struct version all[STEPS];
        struct hts threshold = HTS_ZERO;
        struct cluster c;
        struct rng rng;

        rng_seed(&rng, seed);
        cluster_start(&c, 2);
        EXPECT_EQ(STATUS_OK, cluster_add_voter(&c, 0, 1));
        for (uint32_t n = 0; n < STEPS; n++) {
            step_write(&c, &rng, &all[n], n);
            cluster_run_ms(&c, rng_below(&rng, 100));
            if (rng_below(&rng, 12) == 0) {
                struct collect x;

                know(&c, NULL, 0);
                x = collect(&c, 0, rng_below(&rng, 3 * SECOND));
                EXPECT_OK(x.st);
                EXPECT_FALSE(hts_less(x.result.threshold, threshold));
                threshold = x.result.threshold;
                EXPECT_TRUE(history_stands(&c, 0, all, n + 1, threshold));
                EXPECT_TRUE(history_stands(&c, 0, all, n + 1, all[n].ts));
                EXPECT_TRUE(
                    history_stands(&c, 0, all, n + 1, hts_max(threshold, all[n - n / 3].ts)));
            }
        }
        cluster_run_ms(&c, 500);
        EXPECT_TRUE(history_stands(&c, 1, all, STEPS, threshold));
        EXPECT_TRUE(stats_agree(&c, 0));
        EXPECT_TRUE(stats_agree(&c, 1));
        EXPECT_TRUE(cluster_digests_equal(&c));
        cluster_stop(&c);
    }
}

/* ---- what transactions leave behind ------------------------------------------------------------- */

struct leftovers {
    struct cluster_node *node;
    struct hts ts; /* Of the commit that nobody has settled. */
    bool done;
};

/* One that committed, one that was staged in full, one that is only an intent, one that still lives. */
static void leave_fiber(void *arg)
{
    static const char *const names[] = {"\x88/a", "\x88/b", "\x88/c", "\x88/d"};
    struct leftovers *l = arg;
    struct range_txn_info info;
    struct bytes keys[4];

    for (uint32_t i = 0; i < 4; i++) {
        keys[i] = bytes_str(names[i]);
    }
    for (uint32_t i = 0; i < 3; i++) {
        const struct rig_txn t = rig_begin(l->node, i + 1, keys[i]);

        INVARIANT(status_ok(rig_write(&t, keys[i])));
        if (i < 2) {
            INVARIANT(status_ok(rig_end(&t, RANGE_TXN_STAGING, t.min_ts, &keys[i], 1, &info)));
        }
        if (i == 0) {
            INVARIANT(status_ok(rig_end(&t, RANGE_TXN_COMMITTED, info.ts, &keys[i], 1, &info)));
            l->ts = info.ts;
        }
    }
    l->done = true;
}

static void young_fiber(void *arg)
{
    struct leftovers *l = arg;
    const struct rig_txn t = rig_begin(l->node, 9, BYTES_LIT("\x88/d"));

    INVARIANT(status_ok(rig_heartbeat(&t)));
    INVARIANT(status_ok(rig_write(&t, BYTES_LIT("\x88/d"))));
    l->done = true;
}

static void run_on(struct cluster *c, struct leftovers *l, void (*fn)(void *arg))
{
    l->done = false;
    INVARIANT(status_ok(fiber_spawn(l->node->shard, "leave", fn, l)));
    for (int n = 0; n < 5000 && !l->done; n++) {
        cluster_run_ms(c, 1);
    }
    INVARIANT(l->done);
}

TEST(gc, what_transactions_left_behind_is_settled)
{
    struct cluster c;
    struct leftovers l;
    struct collect x;
    enum status_code code = STATUS_OK;

    cluster_start(&c, 1);
    rig_connect(&c);
    l = (struct leftovers){.node = &c.nodes[0]};
    run_on(&c, &l, leave_fiber);
    cluster_run_ms(&c, 10);
    EXPECT_EQ(3, replica_of(&c, 0)->applied.stats.intent_count);
    x = collect(&c, 0, 3600 * SECOND);
    EXPECT_OK(x.st);
    EXPECT_EQ(0, x.result.intents + x.result.records); /* All of it is young. */
    cluster_run_ms(&c, 70000);
    run_on(&c, &l, young_fiber);
    x = collect(&c, 0, 3600 * SECOND);
    EXPECT_OK(x.st);
    EXPECT_EQ(1, x.result.records);
    EXPECT_EQ(2, x.result.intents); /* That of the first went with its record. */
    cluster_run_ms(&c, 10);
    EXPECT_EQ(1, replica_of(&c, 0)->applied.stats.intent_count);
    EXPECT_STREQ("w", cluster_get(&c, 0, "\x88/a", &code));
    EXPECT_STREQ("w", cluster_get(&c, 0, "\x88/b", &code));
    EXPECT_STREQ("", cluster_get(&c, 0, "\x88/c", &code));
    cluster_run_ms(&c, 70000);
    x = collect(&c, 0, 3600 * SECOND);
    EXPECT_OK(x.st);
    EXPECT_EQ(1,
              x.result.records); /* Recovered the last time; this time its record is old enough. */
    EXPECT_EQ(1, x.result.intents);
    cluster_run_ms(&c, 10);
    EXPECT_EQ(0, replica_of(&c, 0)->applied.stats.intent_count);
    EXPECT_STREQ("", cluster_get(&c, 0, "\x88/d", &code));
    EXPECT_TRUE(stats_agree(&c, 0));
    cluster_stop(&c);
}
