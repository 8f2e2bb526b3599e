/* Disks that fail, writes that wait, stores that find damage. */
#include "node/base/invariant.h"
#include "node/range/internal.h"
#include "tests/unit/range/cluster.h"

static const char *const key = "\x88k\x88";

static struct cluster_call put_call(struct cluster *c, const char *k, uint64_t timeout_ms)
{
    return (struct cluster_call){
        .node = &c->nodes[0],
        .one = {.op = RANGE_OP_PUT, .key = bytes_str(k), .value = BYTES_LIT("v")},
        .timeout_ms = timeout_ms};
}

/* Nothing is acknowledged behind a failed write, and nothing later is believed. */
TEST(failures, a_failed_write_ends_the_store)
{
    struct cluster c;
    struct cluster_call call;
    enum status_code code = STATUS_OK;

    cluster_start(&c, 1);
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, key, "v"));
    memdisk_fail_writes(c.nodes[0].disk, STATUS_IO);
    call = put_call(&c, key, 200);
    cluster_call_start(&call);
    EXPECT_TRUE(cluster_call_wait(&call, 1000));
    EXPECT_CODE(STATUS_AMBIGUOUS, call.st);
    cluster_call_end(&call);
    EXPECT_EQ(1, c.nodes[0].fatal);
    EXPECT_EQ(1, fake_world_errors_logged(c.world));
    memdisk_fail_writes(c.nodes[0].disk, STATUS_OK);
    EXPECT_EQ(STATUS_NOT_LEADER, cluster_put(&c, 0, key, "w"));
    EXPECT_TRUE(cluster_get(&c, 0, key, &code) == NULL);
    EXPECT_EQ(STATUS_NOT_LEADER, code);
    cluster_run_ms(&c, 1000);
    EXPECT_EQ(1, c.nodes[0].fatal);
    cluster_stop(&c);
}

/* Two writes are under way; the first fails. The second ends well, but stands behind a hole. */
TEST(failures, a_later_write_that_ends_well_proves_nothing)
{
    struct cluster c;
    struct cluster_call first;
    struct cluster_call second;
    struct env *env = NULL;

    cluster_start(&c, 1);
    env = shard_env(c.nodes[0].shard);
    first = put_call(&c,
                     "\x88"
                     "a\x88",
                     100);
    second = put_call(&c,
                      "\x88"
                      "b\x88",
                      100);
    fake_env_hold(env, FAKE_HOLD_JOBS);
    cluster_call_start(&first);
    cluster_run_ms(&c, 1);
    cluster_call_start(&second);
    cluster_run_ms(&c, 1);
    memdisk_fail_writes(c.nodes[0].disk, STATUS_DISK_FULL);
    fake_env_let_through(env, 1);
    cluster_run_ms(&c, 1);
    EXPECT_EQ(1, c.nodes[0].fatal);
    memdisk_fail_writes(c.nodes[0].disk, STATUS_OK);
    fake_env_hold(env, FAKE_HOLD_NOTHING);
    EXPECT_TRUE(cluster_call_wait(&first, 200));
    EXPECT_TRUE(cluster_call_wait(&second, 200));
    EXPECT_CODE(STATUS_AMBIGUOUS, first.st);
    EXPECT_CODE(STATUS_AMBIGUOUS, second.st);
    cluster_call_end(&first);
    cluster_call_end(&second);
    cluster_stop(&c);
}

/* Answers follow their own write, not a later one. */
TEST(failures, writes_are_answered_one_after_the_other)
{
    struct cluster c;
    struct cluster_call first;
    struct cluster_call second;
    struct env *env = NULL;

    cluster_start(&c, 1);
    env = shard_env(c.nodes[0].shard);
    first = put_call(&c,
                     "\x88"
                     "a\x88",
                     5000);
    second = put_call(&c,
                      "\x88"
                      "b\x88",
                      5000);
    fake_env_hold(env, FAKE_HOLD_JOBS);
    cluster_call_start(&first);
    cluster_run_ms(&c, 1);
    cluster_call_start(&second);
    cluster_run_ms(&c, 1);
    EXPECT_FALSE(first.done || second.done);
    fake_env_let_through(env, 1);
    cluster_run_ms(&c, 1);
    EXPECT_TRUE(first.done);
    EXPECT_FALSE(second.done);
    fake_env_hold(env, FAKE_HOLD_NOTHING);
    EXPECT_TRUE(cluster_call_wait(&second, 200));
    EXPECT_OK(first.st);
    EXPECT_OK(second.st);
    cluster_call_end(&first);
    cluster_call_end(&second);
    cluster_stop(&c);
}

/* A follower whose disk fails is gone; the others go on, and it catches up in its next life. */
TEST(failures, a_follower_without_a_disk)
{
    struct cluster c;

    cluster_start(&c, 3);
    EXPECT_EQ(STATUS_OK, cluster_add_voter(&c, 0, 1));
    EXPECT_EQ(STATUS_OK, cluster_add_voter(&c, 0, 2));
    memdisk_fail_writes(c.nodes[1].disk, STATUS_IO);
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, key, "v1"));
    cluster_run_ms(&c, 3000);
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, key, "v2"));
    EXPECT_TRUE(c.nodes[1].fatal == 1);
    cluster_crash(&c, 1, 0);
    memdisk_fail_writes(c.nodes[1].disk, STATUS_OK);
    cluster_restart(&c, 1);
    cluster_run_ms(&c, 4000);
    EXPECT_TRUE(cluster_digests_equal(&c));
    cluster_stop(&c);
}

/* Reads that want the disk are repeated on another thread: nothing else changes. */
TEST(failures, cold_reads)
{
    struct cluster c;
    enum status_code code = STATUS_OK;

    cluster_start(&c, 1);
    memdisk_cold_reads(c.nodes[0].disk, 500, 3);
    for (int i = 0; i < 30; i++) {
        char value[] = {(char)('a' + i % 26), '\0'};

        EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, key, value));
        EXPECT_STREQ(value, cluster_get(&c, 0, key, &code));
    }
    cluster_stop(&c);
}

/* Whatever of the unsynced writes survives a power cut, the store comes up with all that was
 * acknowledged. */
TEST(failures, any_prefix_of_unsynced_writes_may_survive)
{
    for (uint32_t keep = 0; keep < 6; keep++) {
        struct cluster c;
        enum status_code code = STATUS_OK;

        cluster_start(&c, 1);
        for (int i = 0; i < 5; i++) {
            EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, key, i == 4 ? "last" : "v"));
        }
        cluster_crash(&c, 0, keep);
        cluster_restart(&c, 0);
        EXPECT_EQ(0, cluster_wait_leaseholder(&c));
        EXPECT_STREQ("last", cluster_get(&c, 0, key, &code));
        cluster_stop(&c);
    }
}

/* ---- damage that a start must notice ------------------------------------------------------------- */

struct damage {
    struct cluster c;
    struct store *store;
};

static void damage_begin(struct damage *d)
{
    cluster_start(&d->c, 1);
    INVARIANT(cluster_put(&d->c, 0, key, "v1") == STATUS_OK);
    INVARIANT(cluster_put(&d->c, 0, key, "v2") == STATUS_OK);
    cluster_crash(&d->c, 0, 1000);
    INVARIANT(status_ok(engine_open_mem(d->c.nodes[0].disk, &d->c.nodes[0].engine)));
}

static void write_raw(struct damage *d, enum engine_cf cf, struct bytes k, struct bytes value)
{
    struct engine_batch b;

    engine_batch_init(&b);
    INVARIANT(status_ok(value.ptr == NULL ? engine_batch_delete(&b, cf, k)
                                          : engine_batch_put(&b, cf, k, value)));
    INVARIANT(status_ok(engine_write(d->c.nodes[0].engine, &b, true)));
    engine_batch_deinit(&b);
}

/* The code with which a store on this engine refuses to start. */
static enum status_code start_code(struct damage *d)
{
    struct cluster_node *n = &d->c.nodes[0];
    const struct rpc_transport nowhere = {.ctx = n};
    struct store_options o = {.hlc = &n->hlc, .ident = {{{7}}, {1}, {1}}};
    enum status_code code = STATUS_OK;

    n->shard = fake_world_add_shard(d->c.world);
    shard_enter(n->shard);
    hlc_init(&n->hlc, shard_env(n->shard), HLC_MAX_OFFSET_NS_DEFAULT);
    INVARIANT(status_ok(rpc_create(&(struct rpc_options){n->shard, &n->hlc, nowhere}, &n->rpc)));
    o.shard = n->shard;
    o.rpc = n->rpc;
    o.engine = n->engine;
    code = store_create(&o, NULL, &d->store).code;
    rpc_destroy(n->rpc);
    shard_leave(n->shard);
    return code;
}

static void damage_end(struct damage *d)
{
    cluster_stop(&d->c);
}

TEST(failures, a_missing_log_entry_is_noticed)
{
    struct damage d;
    uint8_t mem[KEY_RAFT_LOG_SIZE];

    damage_begin(&d);
    write_raw(&d, ENGINE_CF_RAFT, key_raft_log(mem, (range_id){1}, 12), BYTES_EMPTY);
    EXPECT_EQ(STATUS_CORRUPT, start_code(&d));
    damage_end(&d);
}

TEST(failures, a_lost_tail_below_what_was_applied_is_noticed)
{
    struct damage d;
    uint8_t mem[KEY_RAFT_LOG_SIZE];

    damage_begin(&d);
    for (uint64_t i = 11; i < 30; i++) {
        write_raw(&d, ENGINE_CF_RAFT, key_raft_log(mem, (range_id){1}, i), BYTES_EMPTY);
    }
    EXPECT_EQ(STATUS_CORRUPT, start_code(&d));
    damage_end(&d);
}

TEST(failures, damaged_records_are_noticed)
{
    static const enum key_raft_tag tags[] = {KEY_RAFT_HARD_STATE, KEY_RAFT_IDENT,
                                             KEY_RAFT_TRUNCATED};

    for (size_t i = 0; i <= ARRAY_COUNT(tags) + 3; i++) {
        struct damage d;
        uint8_t mem[KEY_RAFT_LOG_SIZE];
        uint8_t stack[KEY_STACK_SIZE];
        struct key_enc k;
        struct bytes bytes;

        damage_begin(&d);
        if (i < ARRAY_COUNT(tags)) {
            write_raw(&d, ENGINE_CF_RAFT, key_raft(mem, (range_id){1}, tags[i]), BYTES_LIT("\xff"));
        } else if (i == ARRAY_COUNT(tags)) {
            write_raw(&d, ENGINE_CF_STATE, key_range_record(mem, (range_id){1}, KEY_RANGE_APPLIED),
                      BYTES_LIT("\xff"));
        } else if (i == ARRAY_COUNT(tags) + 1) {
            write_raw(&d, ENGINE_CF_RAFT, key_raft_log(mem, (range_id){1}, 12), BYTES_LIT("\x05"));
        } else if (i == ARRAY_COUNT(tags) + 2) {
            write_raw(&d, ENGINE_CF_RAFT, BYTES_LIT("Rubbish"), BYTES_LIT("x"));
        } else {
            key_enc_init(&k, stack, sizeof(stack));
            key_enc_store(&k, KEY_STORE_LIVENESS);
            EXPECT_OK(key_enc_finish(&k, &bytes));
            write_raw(&d, ENGINE_CF_RAFT, bytes, BYTES_LIT("\xff"));
        }
        EXPECT_EQ(STATUS_CORRUPT, start_code(&d));
        damage_end(&d);
    }
}

TEST(failures, identities)
{
    struct damage d;
    struct store_ident id;
    struct engine *fresh = NULL;
    struct memdisk *disk = NULL;
    uint8_t stack[KEY_STACK_SIZE];
    struct key_enc k;
    struct bytes bytes;
    uint64_t bound = 0;

    damage_begin(&d);
    EXPECT_OK(store_read_ident(d.c.nodes[0].engine, &id));
    EXPECT_EQ(1, id.store.v);
    EXPECT_OK(store_read_clock_bound(d.c.nodes[0].engine, &bound));
    EXPECT_TRUE(bound > 1700000000000000000u);
    EXPECT_OK(memdisk_create(&disk));
    EXPECT_OK(engine_open_mem(disk, &fresh));
    EXPECT_CODE(STATUS_NOT_FOUND, store_read_ident(fresh, &id));
    EXPECT_OK(store_read_clock_bound(fresh, &bound));
    EXPECT_EQ(0, bound);
    engine_close(fresh);
    memdisk_destroy(disk);
    key_enc_init(&k, stack, sizeof(stack));
    key_enc_store(&k, KEY_STORE_IDENT);
    EXPECT_OK(key_enc_finish(&k, &bytes));
    write_raw(&d, ENGINE_CF_RAFT, bytes, BYTES_LIT("\x01short"));
    EXPECT_CODE(STATUS_CORRUPT, store_read_ident(d.c.nodes[0].engine, &id));
    damage_end(&d);
}
