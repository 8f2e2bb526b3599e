/* Replicas that are brought up to date with the range as a whole. */
#include "node/base/codec.h"
#include "node/base/invariant.h"
#include "node/range/internal.h"
#include "node/rpc/pb_arena.h"
#include "tests/unit/range/cluster.h"

static const char *const key = "\x88k\x88";

static bool voters(struct cluster *c, uint32_t nodes, uint32_t count)
{
    bool ok = true;

    cluster_start(c, nodes);
    for (uint32_t i = 1; i < count; i++) {
        ok = ok && cluster_add_voter(c, 0, i) == STATUS_OK;
    }
    return ok;
}

/* Enough to make the leader cut its log. */
static bool put_many(struct cluster *c, uint32_t i, int count)
{
    static char value[1000];

    memset(value, 'v', sizeof(value) - 1);
    for (int n = 0; n < count; n++) {
        char k[] = {(char)0x88, 'a', (char)('a' + n % 20), (char)0x88, '\0'};

        if (cluster_put(c, i, k, value) != STATUS_OK) {
            return false;
        }
    }
    return true;
}

static uint64_t snapshots_sent(struct cluster *c, uint32_t i)
{
    struct store_stats stats;

    store_get_stats(c->nodes[i].store, &stats);
    return stats.snapshots_sent;
}

TEST(snapshot, a_follower_behind_the_log_gets_one)
{
    struct cluster c = {0};
    struct store_stats stats;
    uint64_t before = 0;

    EXPECT_TRUE(voters(&c, 3, 3));
    for (int i = 0; i < 3; i++) {
        c.nodes[i].store->o.log_bytes_max = 4000;
    }
    before = snapshots_sent(&c, 0);
    c.nodes[2].cut = true;
    cluster_run_ms(&c, 4000); /* Its support is gone: it does not hold the log any more. */
    c.latency_ms = 20;        /* The leader is busy when ticks come by. */
    EXPECT_TRUE(put_many(&c, 0, 60));
    c.latency_ms = 0;
    cluster_run_ms(&c, 2000);
    EXPECT_TRUE(store__find(c.nodes[0].store, (range_id){RANGE_FIRST_ID})->truncated_index > 20);
    c.nodes[2].cut = false;
    cluster_run_ms(&c, 4000);
    EXPECT_TRUE(snapshots_sent(&c, 0) > before);
    store_get_stats(c.nodes[2].store, &stats);
    EXPECT_EQ(2, stats.snapshots_installed);
    EXPECT_TRUE(cluster_digests_equal(&c));
    EXPECT_TRUE(put_many(&c, 0, 3));
    cluster_run_ms(&c, 1000);
    EXPECT_TRUE(cluster_digests_equal(&c));
    cluster_stop(&c);
}

static bool no_raft_to_2(void *ctx, const struct cluster_frame *f)
{
    UNUSED(ctx);
    return f->to != 2 || f->type != RPC_TYPE_RAFT;
}

/* Its store lives, but it takes nothing: it does not hold the log of the others for ever. */
TEST(snapshot, a_slow_but_live_follower_is_cut_off)
{
    struct cluster c = {0};

    EXPECT_TRUE(voters(&c, 3, 3));
    for (int i = 0; i < 3; i++) {
        c.nodes[i].store->o.log_bytes_max = 4000;
    }
    c.filter = no_raft_to_2;
    c.latency_ms = 10;
    EXPECT_TRUE(put_many(&c, 0, 12));
    EXPECT_TRUE(store__find(c.nodes[0].store, (range_id){RANGE_FIRST_ID})->log_bytes > 8000);
    EXPECT_TRUE(put_many(&c, 0, 60)); /* Of 1,000 bytes each: far above four times the limit. */
    for (uint32_t i = 0; i < 2; i++) {
        EXPECT_TRUE(store__find(c.nodes[i].store, (range_id){RANGE_FIRST_ID})->log_bytes < 24000);
    }
    c.filter = NULL;
    c.latency_ms = 0;
    cluster_run_ms(&c, 5000);
    EXPECT_TRUE(cluster_digests_equal(&c));
    EXPECT_TRUE(snapshots_sent(&c, 0) >= 3);
    cluster_stop(&c);
}

/* Truncated logs and installed snapshots are what a restarted store finds. */
TEST(snapshot, all_restart_behind_a_truncated_log)
{
    struct cluster c = {0};
    enum status_code code = STATUS_OK;
    int leader = -1;

    EXPECT_TRUE(voters(&c, 3, 3));
    for (int i = 0; i < 3; i++) {
        c.nodes[i].store->o.log_bytes_max = 4000;
    }
    EXPECT_TRUE(put_many(&c, 0, 30));
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, key, "last"));
    for (uint32_t i = 0; i < 3; i++) {
        cluster_crash(&c, i, 0);
    }
    for (uint32_t i = 0; i < 3; i++) {
        cluster_restart(&c, i);
    }
    leader = cluster_wait_leaseholder(&c);
    EXPECT_TRUE(leader >= 0);
    EXPECT_STREQ("last", cluster_get(&c, (uint32_t)leader, key, &code));
    EXPECT_EQ(STATUS_OK, cluster_put(&c, (uint32_t)leader, key, "new"));
    cluster_run_ms(&c, 2000);
    EXPECT_TRUE(cluster_digests_equal(&c));
    cluster_stop(&c);
}

/* Frames twice and in any order: chunks, appends and votes. */
TEST(snapshot, frames_arrive_twice_and_in_any_order)
{
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct cluster c = {0};

        cluster_start(&c, 3);
        rng_seed(&c.rng, seed);
        c.duplicate = true;
        c.reorder = true;
        EXPECT_TRUE(put_many(&c, 0, 20));
        EXPECT_EQ(STATUS_OK, cluster_add_voter(&c, 0, 1));
        EXPECT_EQ(STATUS_OK, cluster_add_voter(&c, 0, 2));
        EXPECT_TRUE(put_many(&c, 0, 20));
        EXPECT_EQ(STATUS_OK, cluster_transfer(&c, 0, 2));
        cluster_run_ms(&c, 500);
        EXPECT_EQ(2, cluster_leaseholder(&c));
        EXPECT_TRUE(put_many(&c, 2, 5));
        EXPECT_EQ(STATUS_OK, cluster_remove(&c, 2, 0));
        cluster_run_ms(&c, 1500);
        EXPECT_TRUE(cluster_digests_equal(&c));
        EXPECT_EQ(0, c.nodes[0].fatal + c.nodes[1].fatal + c.nodes[2].fatal);
        cluster_stop(&c);
    }
}

/* A value of several chunks. */
TEST(snapshot, many_chunks)
{
    struct cluster c = {0};
    struct cluster_call call;
    static char big[400000];

    cluster_start(&c, 2);
    memset(big, 'x', sizeof(big) - 1);
    for (int i = 0; i < 5; i++) {
        char k[] = {(char)0x88, 'b', (char)('a' + i), (char)0x88, '\0'};

        EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, k, big));
    }
    call = (struct cluster_call){.node = &c.nodes[0], .kind = CLUSTER_ADD_VOTER, .target = 1};
    cluster_call_start(&call);
    EXPECT_TRUE(cluster_call_wait(&call, 5000));
    EXPECT_OK(call.st);
    cluster_call_end(&call);
    cluster_run_ms(&c, 1000);
    EXPECT_TRUE(cluster_digests_equal(&c));
    cluster_stop(&c);
}

/* ---- large ones, and crashes on the way ---------------------------------------------------------- */

#define BIG 4

/* Values of a chunk each, until chunks grow. */
static bool put_big(struct cluster *c, uint32_t i, char fill)
{
    static char big[520000];

    memset(big, fill, sizeof(big) - 1);
    for (int n = 0; n < BIG; n++) {
        char k[] = {(char)0x88, 'b', (char)('a' + n), (char)0x88, '\0'};

        if (cluster_put(c, i, k, big) != STATUS_OK) {
            return false;
        }
    }
    return true;
}

static uint64_t installed(struct cluster *c, uint32_t i)
{
    struct store_stats stats;

    store_get_stats(c->nodes[i].store, &stats);
    return stats.snapshots_installed;
}

/* No chunk and no marker is left in the raft family. */
static bool spool_is_empty(struct cluster *c, uint32_t i)
{
    uint8_t lower[KEY_RAFT_SIZE];
    uint8_t upper[KEY_RAFT_SIZE];
    const range_id range = {RANGE_FIRST_ID};
    struct engine_iter_options io = {.cf = ENGINE_CF_RAFT,
                                     .lower = key_raft(lower, range, KEY_RAFT_SNAP_PENDING),
                                     .upper = key_raft(upper, range, KEY_RAFT_TRUNCATED)};
    struct engine_iter *it = NULL;
    bool empty = false;

    INVARIANT(status_ok(engine_iter_open(c->nodes[i].engine, &io, &it)));
    engine_iter_seek_first(it);
    empty = !engine_iter_valid(it);
    engine_iter_close(it);
    return empty;
}

/* Node 2 is a voter that has missed so much that only a snapshot helps. */
static void fall_behind(struct cluster *c)
{
    INVARIANT(voters(c, 3, 3));
    INVARIANT(put_big(c, 0, 'o'));
    for (int i = 0; i < 3; i++) {
        c->nodes[i].store->o.log_bytes_max = 4000;
    }
    cluster_run_ms(c, 500);
    c->nodes[2].cut = true;
    cluster_run_ms(c, 4000);
    c->latency_ms = 20;
    INVARIANT(put_many(c, 0, 40));
    INVARIANT(put_big(c, 0, 'n'));
    c->latency_ms = 0;
    cluster_run_ms(c, 2000);
}

/*
 * Power is cut after the n-th job of the receiver, with all, some or none of its unsynced writes lost. Whatever
 * the moment: the store starts, the replica is the old or the new one and never half of both, and it ends up
 * like the others.
 */
static bool crash_at(uint32_t job, uint32_t keep, bool *was_over)
{
    struct cluster c = {0};
    struct env *env = NULL;
    uint64_t before = 0;
    bool ok = true;

    fall_behind(&c);
    before = installed(&c, 2);
    env = shard_env(c.nodes[2].shard);
    fake_env_hold(env, FAKE_HOLD_JOBS);
    c.nodes[2].cut = false;
    for (uint32_t n = 0; n < job; n++) {
        fake_env_let_through(env, 1);
        cluster_run_ms(&c, 100); /* Also the leader's probes need their time. */
    }
    *was_over = installed(&c, 2) > before && spool_is_empty(&c, 2);
    c.nodes[2].cut = true;
    memdisk_crash(c.nodes[2].disk, keep);
    fake_env_hold(env, FAKE_HOLD_NOTHING); /* What is still to be written never is. */
    cluster_crash(&c, 2, keep);
    cluster_restart(&c, 2);
    cluster_run_ms(&c, 6000);
    for (int n = 0; n < 40 && !cluster_digests_equal(&c); n++) {
        cluster_run_ms(&c, 1000); /* The sender may have to give up a call first. */
    }
    ok = cluster_digests_equal(&c) && c.nodes[2].fatal == 0 && spool_is_empty(&c, 2);
    c.nodes[1].cut = true;     /* Its vote and its acknowledgements count. */
    cluster_run_ms(&c, 30000); /* A leader that still waits for an answer gives up. */
    ok = ok && cluster_wait_leaseholder(&c) >= 0 &&
         cluster_put(&c, (uint32_t)cluster_leaseholder(&c), key, "after") == STATUS_OK;
    cluster_stop(&c);
    return ok;
}

TEST(snapshot, power_is_cut_at_every_step_of_a_large_one)
{
    static const uint32_t keeps[] = {1000, 0, 1};
    bool was_over = false;
    uint32_t job = 1;

    for (; !was_over && job < 200; job++) {
        EXPECT_TRUE(crash_at(job, keeps[job % ARRAY_COUNT(keeps)], &was_over));
    }
    EXPECT_TRUE(job > 2 * BIG); /* It had that many steps. */
    EXPECT_TRUE(was_over);
}

/* Nothing is read from a replica that is half written. */
TEST(snapshot, an_installing_replica_serves_and_says_nothing)
{
    struct cluster c = {0};
    struct env *env = NULL;
    struct replica *r = NULL;
    enum status_code code = STATUS_OK;
    bool seen = false;

    fall_behind(&c);
    env = shard_env(c.nodes[2].shard);
    fake_env_hold(env, FAKE_HOLD_JOBS);
    c.nodes[2].cut = false;
    for (int n = 0; n < 200 && !seen; n++) {
        fake_env_let_through(env, 1);
        cluster_run_ms(&c, 100);
        r = store__find(c.nodes[2].store, (range_id){RANGE_FIRST_ID});
        seen = r->life == REPLICA_INSTALLING && r->install != NULL;
    }
    EXPECT_TRUE(seen);
    EXPECT_TRUE(cluster_get(&c, 2, key, &code) == NULL);
    EXPECT_EQ(STATUS_NOT_LEADER, code);
    shard_enter(c.nodes[2].shard);
    gone__told(r); /* Must not tear down what is being written. */
    shard_leave(c.nodes[2].shard);
    EXPECT_TRUE(r->life == REPLICA_INSTALLING);
    fake_env_hold(env, FAKE_HOLD_NOTHING);
    cluster_run_ms(&c, 3000);
    EXPECT_TRUE(cluster_digests_equal(&c));
    EXPECT_TRUE(spool_is_empty(&c, 2));
    cluster_stop(&c);
}

/* A store that is stopped, or whose disk fails, in the middle of it comes to an end. */
TEST(snapshot, stores_stop_in_the_middle_of_one)
{
    for (int fail = 0; fail < 2; fail++) {
        for (uint32_t jobs = 8; jobs < 20; jobs += 3) {
            struct cluster c = {0};
            struct env *env = NULL;

            fall_behind(&c);
            env = shard_env(c.nodes[2].shard);
            fake_env_hold(env, FAKE_HOLD_JOBS);
            c.nodes[2].cut = false;
            for (uint32_t n = 0; n < jobs; n++) {
                fake_env_let_through(env, 1);
                cluster_run_ms(&c, 100);
            }
            if (fail != 0) {
                memdisk_fail_writes(c.nodes[2].disk, STATUS_IO);
            }
            fake_env_hold(env, FAKE_HOLD_NOTHING);
            cluster_run_ms(&c, fail != 0 ? 500 : 0);
            EXPECT_EQ(fail != 0, c.nodes[2].fatal > 0);
            cluster_stop(&c);
        }
    }
}

static uint64_t generation(struct cluster *c, uint32_t i)
{
    return store__find(c->nodes[i].store, (range_id){RANGE_FIRST_ID})->desc.generation;
}

static uint64_t engine_generation(struct cluster *c, uint32_t i)
{
    struct range_desc d = {.generation = 0};
    struct arena arena;
    uint64_t g = 0;

    arena_init(&arena, 0);
    if (status_ok(replica__read_desc(c->nodes[i].engine, NULL, KEY_MIN, &arena, &d))) {
        g = d.generation;
    }
    arena_deinit(&arena);
    return g;
}

/*
 * The engine holds a new descriptor, the replica has not heard yet that the write has ended, and now a
 * snapshot is taken. Its index is behind the change: what the receiver gets as descriptor must be so, too,
 * since it will never apply that entry.
 */
TEST(snapshot, the_descriptor_is_that_of_the_snapshot)
{
    struct cluster c = {0};
    struct cluster_call call;
    struct replica *r = NULL;
    struct env *env = NULL;
    uint64_t now = 0;

    EXPECT_TRUE(voters(&c, 4, 2));
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, key, "v"));
    env = shard_env(c.nodes[0].shard);
    r = store__find(c.nodes[0].store, (range_id){RANGE_FIRST_ID});
    now = generation(&c, 0);
    c.nodes[3].cut = true;
    /* One learner is there already, but has seen nothing yet. */
    c.nodes[2].cut = true;
    call = (struct cluster_call){.node = &c.nodes[0], .kind = CLUSTER_ADD_VOTER, .target = 2};
    call.timeout_ms = 300;
    cluster_call_start(&call);
    EXPECT_TRUE(cluster_call_wait(&call, 1000));
    cluster_call_end(&call);
    EXPECT_EQ(now + 1, generation(&c, 0));
    /* The next change reaches the engine, not the replica. */
    fake_env_hold(env, FAKE_HOLD_DONE);
    call = (struct cluster_call){.node = &c.nodes[0], .kind = CLUSTER_ADD_VOTER, .target = 3};
    call.timeout_ms = 3000;
    cluster_call_start(&call);
    for (int i = 0; i < 200 && engine_generation(&c, 0) == now + 1; i++) {
        fake_env_let_through(env, 1);
        cluster_run_ms(&c, 1);
    }
    fake_env_let_through(env, 0);
    EXPECT_EQ(now + 2, engine_generation(&c, 0));
    EXPECT_EQ(now + 1, generation(&c, 0));
    shard_enter(c.nodes[0].shard);
    snapshot__send(r, range_desc_find(&r->desc, (store_id){3})->id);
    shard_leave(c.nodes[0].shard);
    c.nodes[2].cut = false;
    cluster_run_ms(&c, 5);
    EXPECT_EQ(now + 1, generation(&c, 0));
    fake_env_hold(env, FAKE_HOLD_NOTHING);
    cluster_run_ms(&c, 1500);
    EXPECT_EQ(now + 2, generation(&c, 2));
    EXPECT_TRUE(cluster_call_wait(&call, 5000));
    cluster_call_end(&call);
    cluster_stop(&c);
}

/* ---- what others may send ------------------------------------------------------------------------ */

struct chunk {
    Dsql__Pb__SnapshotChunk pb;
    struct buf pairs;
    struct range_desc desc;
};

static void chunk_init(struct chunk *k, uint32_t to_replica)
{
    *k = (struct chunk){
        .desc = {.id = {RANGE_FIRST_ID},
                 .start = KEY_MIN,
                 .end = KEY_MAX,
                 .replicas = {{{1}, {1}, {1}, RANGE_VOTER}, {{2}, {2}, {2}, RANGE_LEARNER}},
                 .replicas_count = 2,
                 .next_replica = 3,
                 .generation = 2}};
    dsql__pb__snapshot_chunk__init(&k->pb);
    k->pb.snap_uuid = pb_binary(BYTES_LIT("0123456789abcdef"));
    k->pb.last = true;
    k->pb.range_id = RANGE_FIRST_ID;
    k->pb.from_replica = 1;
    k->pb.to_replica = to_replica;
    k->pb.index = 500;
    k->pb.term = 7;
    k->pb.raft_term = 9;
}

static void chunk_pair(struct chunk *k, struct bytes pair_key, struct bytes value)
{
    INVARIANT(status_ok(buf_append_lp(&k->pairs, pair_key)));
    INVARIANT(status_ok(buf_append_lp(&k->pairs, value)));
    k->pb.pairs++;
}

static void chunk_state(struct chunk *k, uint64_t index)
{
    const struct applied_state a = {.index = index, .term = 7};
    struct buf value = {0};
    uint8_t mem[KEY_RANGE_ID_SIZE];

    INVARIANT(status_ok(applied_state_encode(&a, &value)));
    chunk_pair(k, key_range_record(mem, (range_id){RANGE_FIRST_ID}, KEY_RANGE_APPLIED),
               buf_bytes(&value));
    buf_deinit(&value);
}

struct offer {
    struct cluster *c;
    struct chunk *chunk;
    struct status st;
    bool done;
};

static void offer_fiber(void *arg)
{
    struct offer *o = arg;
    struct cluster_node *n = &o->c->nodes[0];
    Dsql__Pb__RangeDesc desc;
    Dsql__Pb__ReplicaDesc replicas[RAFT_PEERS_MAX];
    Dsql__Pb__ReplicaDesc *pointers[RAFT_PEERS_MAX];
    struct arena arena;
    struct bytes parts[3];
    struct bytes reply;
    uint8_t prefix[VARINT_MAX];

    arena_init(&arena, 0);
    range_desc_to_pb(&o->chunk->desc, &desc, replicas, pointers);
    o->chunk->pb.desc = o->chunk->pb.seq == 0 ? &desc : NULL;
    if (o->chunk->pb.checksum == 0) {
        o->chunk->pb.checksum = hash64(buf_bytes(&o->chunk->pairs), 0);
    }
    INVARIANT(status_ok(pb_pack(&o->chunk->pb.base, &arena, &parts[1])));
    parts[0] = bytes_of(prefix, varint_put(prefix, parts[1].len));
    parts[2] = buf_bytes(&o->chunk->pairs);
    o->st = rpc_call(n->rpc, (struct rpc_to){{2}, {2}, RPC_CLASS_BULK}, RPC_TYPE_SNAPSHOT, parts, 3,
                     env_mono_ns(shard_env(n->shard)) + 1000000000u, &arena, &reply);
    arena_deinit(&arena);
    o->done = true;
}

static enum status_code offer(struct cluster *c, struct chunk *k)
{
    struct offer o = {.c = c, .chunk = k};

    INVARIANT(status_ok(fiber_spawn(c->nodes[0].shard, "offer", offer_fiber, &o)));
    for (int i = 0; i < 1500 && !o.done; i++) {
        cluster_run_ms(c, 1);
    }
    INVARIANT(o.done);
    buf_deinit(&k->pairs);
    return o.st.code;
}

/* An empty replica 2 of the first range on node 1, that nobody speaks to. */
static void lone_replica(struct cluster *c)
{
    struct replica *r = NULL;

    cluster_start(c, 2);
    shard_enter(c->nodes[1].shard);
    INVARIANT(status_ok(
        replica__create(c->nodes[1].store, (range_id){RANGE_FIRST_ID}, (replica_id){2}, &r)));
    shard_leave(c->nodes[1].shard);
    cluster_run_ms(c, 10);
}

TEST(snapshot, damaged_ones_are_refused)
{
    struct cluster c = {0};
    struct chunk k;

    lone_replica(&c);
    chunk_init(&k, 2);
    EXPECT_EQ(STATUS_CORRUPT, offer(&c, &k)); /* No applied state. */
    chunk_init(&k, 2);
    chunk_state(&k, 499);
    EXPECT_EQ(STATUS_CORRUPT, offer(&c, &k)); /* Of another index. */
    chunk_init(&k, 2);
    chunk_state(&k, 500);
    chunk_pair(&k,
               BYTES_LIT("\x01\0\0\0\0\0\0\0\x05"
                         "a"),
               BYTES_LIT("x"));
    EXPECT_EQ(STATUS_CORRUPT, offer(&c, &k)); /* Another range's record. */
    chunk_init(&k, 2);
    chunk_state(&k, 500);
    k.pb.checksum = 1;
    EXPECT_EQ(STATUS_CORRUPT, offer(&c, &k));
    chunk_init(&k, 2);
    chunk_state(&k, 500);
    k.pb.pairs++;
    EXPECT_EQ(STATUS_CORRUPT, offer(&c, &k)); /* Fewer pairs than it says. */
    chunk_init(&k, 2);
    k.pb.range_id = 4;
    EXPECT_EQ(STATUS_NOT_FOUND, offer(&c, &k));
    chunk_init(&k, 7);
    EXPECT_EQ(STATUS_NOT_FOUND, offer(&c, &k));
    chunk_init(&k, 2);
    k.pb.seq = 1;
    EXPECT_EQ(STATUS_INVALID, offer(&c, &k)); /* No beginning. */
    chunk_init(&k, 2);
    k.desc.id.v = 4;
    EXPECT_EQ(STATUS_CORRUPT, offer(&c, &k));
    chunk_init(&k, 2);
    k.pb.snap_uuid = pb_binary(BYTES_LIT("short"));
    EXPECT_EQ(STATUS_CORRUPT, offer(&c, &k));
    chunk_init(&k, 2);
    chunk_state(&k, 500);
    k.desc.replicas_count = 1; /* We are no member: the core refuses. */
    EXPECT_EQ(STATUS_INVALID, offer(&c, &k));
    EXPECT_EQ(0, c.nodes[1].fatal);
    chunk_init(&k, 2);
    chunk_state(&k, 500);
    k.desc.replicas_count = 2;
    EXPECT_EQ(STATUS_OK, offer(&c, &k));
    cluster_stop(&c);
}

/* Two come in at a time. One whose sender has fallen silent gives its place up. */
TEST(snapshot, others_are_told_to_come_later)
{
    struct cluster c = {0};
    struct chunk k;

    lone_replica(&c);
    for (uint64_t range = 1; range <= 4; range++) {
        struct replica *r = NULL;

        shard_enter(c.nodes[1].shard);
        if (range > 1) {
            INVARIANT(status_ok(
                replica__create(c.nodes[1].store, (range_id){range}, (replica_id){2}, &r)));
        }
        shard_leave(c.nodes[1].shard);
        cluster_run_ms(&c, range == 4 ? 31000 : 10);
        chunk_init(&k, 2);
        k.pb.range_id = range;
        k.desc.id.v = range;
        k.pb.last = false;
        EXPECT_EQ(range == 3 ? STATUS_OVERLOADED : STATUS_OK, offer(&c, &k));
    }
    EXPECT_TRUE(store__find(c.nodes[1].store, (range_id){1})->snap_in == NULL);
    EXPECT_TRUE(store__find(c.nodes[1].store, (range_id){4})->snap_in != NULL);
    EXPECT_EQ(0, c.nodes[1].fatal);
    cluster_stop(&c);
}

/* Once taken, a repetition is no news, and an older leader has nothing to say. */
TEST(snapshot, old_ones_are_not_installed)
{
    struct cluster c = {0};
    struct chunk k;
    struct store_stats stats;

    lone_replica(&c);
    chunk_init(&k, 2);
    chunk_state(&k, 500);
    EXPECT_EQ(STATUS_OK, offer(&c, &k));
    chunk_init(&k, 2);
    chunk_state(&k, 500);
    EXPECT_EQ(STATUS_OK, offer(&c, &k));
    chunk_init(&k, 2);
    k.pb.index = 600;
    k.pb.raft_term = 8;
    chunk_state(&k, 600);
    EXPECT_EQ(STATUS_NOT_LEADER, offer(&c, &k));
    store_get_stats(c.nodes[1].store, &stats);
    EXPECT_EQ(1, stats.snapshots_installed);
    cluster_stop(&c);
}

/* While one is offered to the core nothing else takes its place, whatever comes in. */
TEST(snapshot, the_beginning_of_another_does_not_disturb)
{
    struct cluster c = {0};
    struct chunk k;

    lone_replica(&c);
    c.duplicate = true;
    chunk_init(&k, 2);
    chunk_state(&k, 500);
    EXPECT_EQ(STATUS_OK, offer(&c, &k));
    EXPECT_EQ(0, c.nodes[1].fatal);
    EXPECT_TRUE(store__find(c.nodes[1].store, (range_id){RANGE_FIRST_ID})->life == REPLICA_INIT);
    cluster_stop(&c);
}

/* The log had everything, only unknown to be committed: nothing is installed, and the sender hears so. */
TEST(snapshot, one_that_the_log_already_holds)
{
    struct cluster c = {0};
    struct chunk k;
    struct raft_entry entries[5];
    struct raft_msg app = {.type = RAFT_MSG_APP,
                           .from = {1},
                           .to = {2},
                           .term = 9,
                           .index = 500,
                           .log_term = 7,
                           .commit = 500,
                           .entries = entries,
                           .entries_count = 5};
    struct replica *r = NULL;
    struct store_stats stats;

    lone_replica(&c);
    chunk_init(&k, 2);
    chunk_state(&k, 500);
    EXPECT_EQ(STATUS_OK, offer(&c, &k));
    r = store__find(c.nodes[1].store, (range_id){RANGE_FIRST_ID});
    for (uint64_t i = 0; i < 5; i++) {
        entries[i] = (struct raft_entry){.index = 501 + i, .term = 7};
    }
    shard_enter(c.nodes[1].shard);
    EXPECT_OK(raft_step(r->raft, &app));
    store__mark_dirty(r);
    shard_leave(c.nodes[1].shard);
    cluster_run_ms(&c, 5);
    EXPECT_EQ(500, raft_get_state(r->raft).commit);
    chunk_init(&k, 2);
    k.pb.index = 505;
    chunk_state(&k, 505);
    EXPECT_EQ(STATUS_OK, offer(&c, &k));
    EXPECT_EQ(505, raft_get_state(r->raft).commit);
    store_get_stats(c.nodes[1].store, &stats);
    EXPECT_EQ(1, stats.snapshots_installed);
    cluster_stop(&c);
}

/* Keys that another replica of the store holds stay where they are. */
TEST(snapshot, one_that_overlaps_another_range_is_refused)
{
    struct cluster c = {0};
    struct chunk k;
    struct replica *r = NULL;

    lone_replica(&c);
    chunk_init(&k, 2);
    chunk_state(&k, 500);
    EXPECT_EQ(STATUS_OK, offer(&c, &k));
    shard_enter(c.nodes[1].shard);
    EXPECT_OK(replica__create(c.nodes[1].store, (range_id){9}, (replica_id){2}, &r));
    shard_leave(c.nodes[1].shard);
    chunk_init(&k, 2);
    k.pb.range_id = 9;
    k.desc.id.v = 9;
    k.desc.start = BYTES_LIT("\x90");
    k.desc.end = BYTES_LIT("\x91");
    {
        const struct applied_state a = {.index = 500, .term = 7};
        struct buf value = {0};
        uint8_t mem[KEY_RANGE_ID_SIZE];

        EXPECT_OK(applied_state_encode(&a, &value));
        chunk_pair(&k, key_range_record(mem, (range_id){9}, KEY_RANGE_APPLIED), buf_bytes(&value));
        buf_deinit(&value);
    }
    EXPECT_EQ(STATUS_RANGE_MISMATCH, offer(&c, &k)); /* It may be a split that is still to come. */
    EXPECT_TRUE(r->life == REPLICA_UNINIT);
    cluster_stop(&c);
}

/* What a leader put into the log and cannot be applied: this store must stop, not guess. */
static uint32_t fatal_of_entry(enum raft_entry_kind kind, const struct command *command,
                               struct bytes raw)
{
    struct cluster c = {0};
    struct chunk k;
    struct buf payload = {0};
    struct raft_entry entry = {.index = 501, .term = 9, .kind = kind};
    const struct raft_msg app = {.type = RAFT_MSG_APP,
                                 .from = {1},
                                 .to = {2},
                                 .term = 9,
                                 .index = 500,
                                 .log_term = 7,
                                 .commit = 501,
                                 .entries = &entry,
                                 .entries_count = 1};
    struct replica *r = NULL;
    uint32_t fatal = 0;

    lone_replica(&c);
    chunk_init(&k, 2);
    chunk_state(&k, 500);
    INVARIANT(offer(&c, &k) == STATUS_OK);
    r = store__find(c.nodes[1].store, (range_id){RANGE_FIRST_ID});
    if (command != NULL) {
        INVARIANT(status_ok(command_encode(command, &payload)));
    } else {
        INVARIANT(status_ok(buf_append_bytes(&payload, raw)));
    }
    entry.payload = payload.len == 0 ? NULL : blob_copy(buf_bytes(&payload));
    shard_enter(c.nodes[1].shard);
    INVARIANT(status_ok(raft_step(r->raft, &app)));
    store__mark_dirty(r);
    shard_leave(c.nodes[1].shard);
    cluster_run_ms(&c, 10);
    fatal = c.nodes[1].fatal;
    INVARIANT(fatal > 0 || r->applied.index == 501);
    blob_release(entry.payload);
    buf_deinit(&payload);
    cluster_stop(&c);
    return fatal;
}

TEST(snapshot, commands_that_cannot_be_applied_end_the_store)
{
    const struct command raft_family = {.kind = COMMAND_WRITE,
                                        .ops = BYTES_LIT("\x01\x00\x01k\x01v")};
    const struct command bad_desc = {.kind = COMMAND_CONF, .desc = BYTES_LIT("\x01\x02")};
    const struct command noop = {.kind = COMMAND_NOOP};

    EXPECT_EQ(0, fatal_of_entry(RAFT_ENTRY_NORMAL, NULL, BYTES_EMPTY));
    EXPECT_EQ(0, fatal_of_entry(RAFT_ENTRY_NORMAL, &noop, BYTES_EMPTY));
    EXPECT_EQ(1, fatal_of_entry(RAFT_ENTRY_NORMAL, NULL, BYTES_LIT("\xff\xff")));
    EXPECT_EQ(1, fatal_of_entry(RAFT_ENTRY_NORMAL, &raft_family, BYTES_EMPTY));
    EXPECT_EQ(1, fatal_of_entry(RAFT_ENTRY_CONF, &bad_desc, BYTES_EMPTY));
}
