/* Batches on a leaseholder: what is refused, what is answered, and by whom. */
#include "node/base/codec.h"
#include "node/base/invariant.h"
#include "node/range/internal.h"
#include "tests/unit/range/cluster.h"

#define REQUESTS_MAX 8

struct batch {
    struct cluster_call call;
    struct range_request requests[REQUESTS_MAX];
    uint32_t count;
};

static void batch_init(struct batch *b, struct cluster *c, uint32_t node)
{
    *b = (struct batch){.call = {.node = &c->nodes[node]}};
}

static void add(struct batch *b, struct range_request q)
{
    b->requests[b->count++] = q;
}

static struct status run(struct batch *b)
{
    b->call.batch.requests = b->requests;
    b->call.batch.count = b->count;
    cluster_call_start(&b->call);
    INVARIANT(cluster_call_wait(&b->call, 10000));
    return b->call.st;
}

static void end(struct batch *b)
{
    cluster_call_end(&b->call);
    b->count = 0;
}

static enum status_code run_one(struct cluster *c, struct range_request q)
{
    struct batch b;
    struct status st = OK;

    batch_init(&b, c, 0);
    add(&b, q);
    st = run(&b);
    end(&b);
    return st.code;
}

TEST(evaluate, impossible_requests_are_refused)
{
    struct cluster c;
    const struct bytes a = BYTES_LIT("\x88"
                                     "a");
    const struct bytes b = BYTES_LIT("\x88"
                                     "b");

    cluster_start(&c, 1);
    EXPECT_EQ(STATUS_INVALID, run_one(&c, (struct range_request){.op = RANGE_OP_SCAN, .key = a}));
    EXPECT_EQ(STATUS_INVALID,
              run_one(&c, (struct range_request){.op = RANGE_OP_SCAN, .key = b, .end = a}));
    EXPECT_EQ(STATUS_INVALID,
              run_one(&c, (struct range_request){.op = RANGE_OP_REFRESH, .key = b, .end = b}));
    EXPECT_EQ(STATUS_INVALID,
              run_one(&c, (struct range_request){.op = RANGE_OP_GET, .key = a, .end = b}));
    EXPECT_EQ(STATUS_INVALID,
              run_one(&c, (struct range_request){.op = RANGE_OP_PUT, .key = a, .end = b}));
    EXPECT_EQ(STATUS_INVALID, run_one(&c, (struct range_request){.op = RANGE_OP_COUNT, .key = a}));
    EXPECT_EQ(STATUS_OK,
              run_one(&c, (struct range_request){.op = RANGE_OP_SCAN, .key = a, .end = b}));
    cluster_stop(&c);
}

TEST(evaluate, foreign_keys_are_answered_with_the_descriptor)
{
    struct cluster c;
    struct batch b;

    cluster_start(&c, 1);
    batch_init(&b, &c, 0);
    add(&b, (struct range_request){.op = RANGE_OP_GET, .key = BYTES_LIT("\x02x")});
    EXPECT_CODE(STATUS_RANGE_MISMATCH, run(&b));
    EXPECT_EQ(1, b.call.result.descs_count);
    EXPECT_EQ(RANGE_FIRST_ID, b.call.result.descs[0].id.v);
    end(&b);
    EXPECT_EQ(STATUS_RANGE_MISMATCH,
              run_one(&c, (struct range_request){.op = RANGE_OP_SCAN,
                                                 .key = BYTES_LIT("\x88"),
                                                 .end = BYTES_LIT("\xff\x01")}));
    cluster_stop(&c);
}

TEST(evaluate, unknown_ranges_and_replicas_without_data)
{
    struct cluster c;
    struct range_batch batch = {.range = {77}};
    struct range_result result;
    struct replica *r = NULL;
    struct arena arena;

    cluster_start(&c, 2);
    arena_init(&arena, 0);
    shard_enter(c.nodes[1].shard);
    store_execute(c.nodes[1].store, &batch, 1, &arena, &result);
    EXPECT_CODE(STATUS_RANGE_NOT_FOUND, result.st);
    EXPECT_OK(replica__create(c.nodes[1].store, (range_id){77}, (replica_id){2}, &r));
    store_execute(c.nodes[1].store, &batch, 1, &arena, &result);
    EXPECT_CODE(STATUS_NOT_LEADER, result.st);
    shard_leave(c.nodes[1].shard);
    arena_deinit(&arena);
    cluster_run_ms(&c, 10);
    cluster_stop(&c);
}

/* A write takes the clock's time and would land below what was read there. */
TEST(evaluate, nobody_reads_the_future)
{
    struct cluster c;
    struct batch b;

    cluster_start(&c, 1);
    batch_init(&b, &c, 0);
    add(&b, (struct range_request){.op = RANGE_OP_GET, .key = BYTES_LIT("\x88k")});
    b.call.batch.read_ts = hts_add_ns(hclock_hts(hlc_now(&c.nodes[0].hlc)), 500000000);
    EXPECT_CODE(STATUS_INVALID, run(&b));
    end(&b);
    add(&b, (struct range_request){.op = RANGE_OP_PUT, .key = BYTES_LIT("\x88k")});
    EXPECT_CODE(STATUS_INVALID, run(&b));
    end(&b);
    b.call.batch.read_ts = hclock_hts(hlc_now(&c.nodes[0].hlc));
    add(&b, (struct range_request){.op = RANGE_OP_GET, .key = BYTES_LIT("\x88k")});
    EXPECT_OK(run(&b));
    EXPECT_HTS_EQ(b.call.batch.read_ts, b.call.result.read_ts);
    end(&b);
    cluster_stop(&c);
}

TEST(evaluate, a_batch_reads_writes_and_checks_at_once)
{
    struct cluster c;
    struct batch b;
    struct hts read_ts;

    cluster_start(&c, 1);
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0,
                                     "\x88"
                                     "a",
                                     "1"));
    batch_init(&b, &c, 0);
    add(&b, (struct range_request){.op = RANGE_OP_GET,
                                   .key = BYTES_LIT("\x88"
                                                    "a")});
    EXPECT_OK(run(&b));
    read_ts = b.call.result.read_ts;
    end(&b);
    b.call.batch.read_ts = read_ts;
    add(&b, (struct range_request){.op = RANGE_OP_REFRESH,
                                   .key = BYTES_LIT("\x88"
                                                    "a")});
    add(&b, (struct range_request){.op = RANGE_OP_GET,
                                   .key = BYTES_LIT("\x88"
                                                    "a")});
    add(&b, (struct range_request){.op = RANGE_OP_INSERT,
                                   .key = BYTES_LIT("\x88"
                                                    "b"),
                                   .value = BYTES_LIT("2")});
    add(&b, (struct range_request){.op = RANGE_OP_ABSENT,
                                   .key = BYTES_LIT("\x88"
                                                    "c")});
    EXPECT_OK(run(&b));
    EXPECT_BYTES_EQ(BYTES_LIT("1"), b.call.result.responses[1].value);
    EXPECT_TRUE(hts_less(read_ts, b.call.result.commit_ts));
    end(&b);
    /* Now b is there: the second request is in the way, and nothing of the batch is done. */
    b.call.batch.read_ts = HTS_ZERO;
    add(&b, (struct range_request){.op = RANGE_OP_DELETE,
                                   .key = BYTES_LIT("\x88"
                                                    "a")});
    add(&b, (struct range_request){.op = RANGE_OP_ABSENT,
                                   .key = BYTES_LIT("\x88"
                                                    "b")});
    EXPECT_CODE(STATUS_EXISTS, run(&b));
    EXPECT_EQ(1, b.call.result.conflict);
    end(&b);
    b.call.batch.read_ts = read_ts;
    add(&b, (struct range_request){.op = RANGE_OP_REFRESH,
                                   .key = BYTES_LIT("\x88"
                                                    "a"),
                                   .end = BYTES_LIT("\x88"
                                                    "z")});
    add(&b, (struct range_request){.op = RANGE_OP_DELETE,
                                   .key = BYTES_LIT("\x88"
                                                    "a")});
    EXPECT_CODE(STATUS_TXN_RETRY, run(&b));
    end(&b);
    b.call.batch.read_ts = HTS_ZERO;
    b.call.batch.commit_limit = read_ts;
    add(&b, (struct range_request){.op = RANGE_OP_DELETE,
                                   .key = BYTES_LIT("\x88"
                                                    "a")});
    EXPECT_CODE(STATUS_TXN_RETRY, run(&b));
    end(&b);
    cluster_stop(&c);
}

/* Limits of scans come from other nodes: they are cut to what an answer may hold. */
TEST(evaluate, scans_are_cut_by_rows_and_bytes)
{
    struct cluster c;
    struct batch b;
    static char big[300000];

    memset(big, 'v', sizeof(big) - 1);
    cluster_start(&c, 1);
    for (int k = 'a'; k < 'h'; k++) {
        EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, (char[]){(char)0x88, (char)k, '\0'}, big));
    }
    batch_init(&b, &c, 0);
    add(&b, (struct range_request){
                .op = RANGE_OP_SCAN, .key = BYTES_LIT("\x88"), .end = BYTES_LIT("\x89")});
    add(&b, (struct range_request){.op = RANGE_OP_SCAN,
                                   .key = BYTES_LIT("\x88"),
                                   .end = BYTES_LIT("\x89"),
                                   .bytes_max = UINT32_MAX,
                                   .reverse = true});
    add(&b, (struct range_request){.op = RANGE_OP_SCAN,
                                   .key = BYTES_LIT("\x88"),
                                   .end = BYTES_LIT("\x89"),
                                   .rows_max = 1});
    EXPECT_OK(run(&b));
    EXPECT_TRUE(b.call.result.responses[0].more);
    EXPECT_TRUE(b.call.result.responses[0].rows_count < 5);
    EXPECT_FALSE(b.call.result.responses[1].more);
    EXPECT_EQ(7, b.call.result.responses[1].rows_count);
    EXPECT_EQ(1, b.call.result.responses[2].rows_count);
    EXPECT_TRUE(b.call.result.responses[2].more);
    end(&b);
    cluster_stop(&c);
}

/* ---- from another node --------------------------------------------------------------------------- */

struct remote {
    struct cluster *c;
    struct range_batch batch;
    struct bytes raw; /* Sent instead of the batch. */
    struct arena arena;
    struct range_result result;
    struct status st; /* Of the call. */
    bool done;
};

static void remote_fiber(void *arg)
{
    struct remote *q = arg;
    struct cluster_node *n = &q->c->nodes[1];
    struct bytes body = q->raw;
    struct bytes reply;

    if (body.len == 0) {
        INVARIANT(status_ok(range_batch_encode(&q->batch, &q->arena, &body)));
    }
    q->st = rpc_call(n->rpc, (struct rpc_to){{1}, {1}, RPC_CLASS_NORMAL}, RPC_TYPE_BATCH, &body, 1,
                     env_mono_ns(shard_env(n->shard)) + 5000000000u, &q->arena, &reply);
    if (status_ok(q->st)) {
        INVARIANT(status_ok(range_result_decode(reply, q->batch.count, &q->arena, &q->result)));
    }
    q->done = true;
}

static struct status remote(struct remote *q)
{
    arena_init(&q->arena, (size_t)256 << 20);
    INVARIANT(status_ok(fiber_spawn(q->c->nodes[1].shard, "remote", remote_fiber, q)));
    for (int i = 0; i < 6000 && !q->done; i++) {
        cluster_run_ms(q->c, 1);
    }
    INVARIANT(q->done);
    return q->st;
}

TEST(evaluate, requests_of_other_nodes)
{
    struct cluster c;
    struct range_request q = {
        .op = RANGE_OP_PUT, .key = BYTES_LIT("\x88k"), .value = BYTES_LIT("v")};
    struct remote r = {.c = &c, .batch = {.range = {1}, .requests = &q, .count = 1}};
    enum status_code code = STATUS_OK;

    cluster_start(&c, 2);
    EXPECT_OK(remote(&r));
    EXPECT_OK(r.result.st);
    EXPECT_STREQ("v", cluster_get(&c, 0, "\x88k", &code));
    arena_deinit(&r.arena);
    r = (struct remote){.c = &c, .raw = BYTES_LIT("\xff\xff\xff")};
    EXPECT_CODE(STATUS_CORRUPT, remote(&r));
    arena_deinit(&r.arena);
    cluster_stop(&c);
}

/* An answer that does not fit a message: a read says so; a write was done and is not denied. */
TEST(evaluate, answers_that_are_too_large)
{
    struct cluster c;
    struct range_request requests[REQUESTS_MAX];
    struct remote r;
    static char big[4000000];
    enum status_code code = STATUS_OK;

    memset(big, 'v', sizeof(big) - 1);
    cluster_start(&c, 2);
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0,
                                     "\x88"
                                     "big",
                                     big));
    for (int i = 0; i < 6; i++) {
        requests[i] = (struct range_request){.op = RANGE_OP_GET,
                                             .key = BYTES_LIT("\x88"
                                                              "big")};
    }
    requests[6] = (struct range_request){
        .op = RANGE_OP_PUT, .key = BYTES_LIT("\x88k"), .value = BYTES_LIT("done")};
    r = (struct remote){.c = &c, .batch = {.range = {1}, .requests = requests, .count = 6}};
    EXPECT_CODE(STATUS_MEMORY, remote(&r));
    arena_deinit(&r.arena);
    r = (struct remote){.c = &c, .batch = {.range = {1}, .requests = requests, .count = 7}};
    EXPECT_CODE(STATUS_AMBIGUOUS, remote(&r));
    arena_deinit(&r.arena);
    EXPECT_STREQ("done", cluster_get(&c, 0, "\x88k", &code));
    cluster_stop(&c);
}

/* Requests that have not had a turn yet when the store stops. */
TEST(evaluate, requests_in_the_door_when_the_store_stops)
{
    struct cluster c;
    struct range_request q = {.op = RANGE_OP_GET, .key = BYTES_LIT("\x88k")};
    struct range_batch batch = {.range = {1}, .requests = &q, .count = 1};
    struct rpc_message m = {.type = RPC_TYPE_BATCH, .from_node = {2}, .from_store = {2}};
    struct arena arena;

    cluster_start(&c, 2);
    arena_init(&arena, 0);
    EXPECT_OK(range_batch_encode(&batch, &arena, &m.body));
    shard_enter(c.nodes[0].shard);
    for (int i = 0; i < 10; i++) {
        range__on_batch(c.nodes[0].store, &m);
    }
    shard_leave(c.nodes[0].shard);
    EXPECT_EQ(10, c.nodes[0].store->fibers);
    cluster_stop(&c); /* Waits for them. */
    arena_deinit(&arena);
}

/* ---- looking in ---------------------------------------------------------------------------------- */

TEST(evaluate, what_a_store_tells_of_itself)
{
    struct cluster c;
    struct store_range_info info;
    struct store_stats stats;
    struct arena arena;
    uint64_t index = 0;
    uint64_t digest = 0;

    cluster_start(&c, 2);
    arena_init(&arena, 0);
    EXPECT_EQ(STATUS_OK, cluster_add_voter(&c, 0, 1));
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, "\x88k", "v"));
    cluster_run_ms(&c, 500);
    EXPECT_TRUE(store_next_range(c.nodes[0].store, (range_id){0}, &arena, &info));
    EXPECT_TRUE(info.leaseholder);
    EXPECT_EQ(2, info.desc.replicas_count);
    EXPECT_EQ(3, info.stats.live_count); /* The descriptor in meta1 and meta2, the row. */
    EXPECT_FALSE(store_next_range(c.nodes[0].store, info.desc.id, &arena, &info));
    EXPECT_FALSE(store_find_range(c.nodes[0].store, (range_id){9}, &arena, &info));
    EXPECT_TRUE(store_find_range(c.nodes[1].store, (range_id){1}, &arena, &info));
    EXPECT_FALSE(info.leaseholder);
    EXPECT_TRUE(store_peer_live(c.nodes[0].store, (store_id){2}));
    EXPECT_FALSE(store_peer_live(c.nodes[0].store, (store_id){3}));
    EXPECT_CODE(STATUS_RANGE_NOT_FOUND,
                store_range_digest(c.nodes[0].store, (range_id){9}, &index, &digest));
    store_get_stats(c.nodes[0].store, &stats);
    EXPECT_EQ(1, stats.replicas);
    EXPECT_EQ(1, stats.leases);
    EXPECT_EQ(0, stats.proposals_open);
    EXPECT_TRUE(stats.syncs > 0 && stats.writes >= stats.syncs);
    arena_deinit(&arena);
    cluster_stop(&c);
}
