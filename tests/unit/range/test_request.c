/* What transactions over ranges add to batches and results, as bytes: there, back, and refused. */
#include "node/base/hash.h"
#include "node/range/request.h"
#include "tests/lib/test.h"

static const struct uuid ID_A = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};
static const struct uuid ID_B = {{255, 2}};
static const struct bytes KEYS[] = {
    {(const uint8_t *)"k1", 2}, {(const uint8_t *)"k22", 3}, {(const uint8_t *)"k", 1}};
static const struct key_span SPANS[] = {{{(const uint8_t *)"a", 1}, {(const uint8_t *)"c", 1}},
                                        {{(const uint8_t *)"d", 1}, {NULL, 0}}};

static struct range_txn_args full_args(void)
{
    return (struct range_txn_args){.txn = ID_A,
                                   .anchor = BYTES_LIT("anchor"),
                                   .status = RANGE_TXN_STAGING,
                                   .ts = {10, 1},
                                   .min_ts = {9, 2},
                                   .seen_ts = {9, 3},
                                   .push = RANGE_PUSH_ABORT,
                                   .force = true,
                                   .pusher = ID_B,
                                   .pusher_anchor = BYTES_LIT("other"),
                                   .pusher_priority = 77,
                                   .wait_ns = 123456789012,
                                   .in_flight = KEYS,
                                   .in_flight_count = ARRAY_COUNT(KEYS),
                                   .spans = SPANS,
                                   .spans_count = ARRAY_COUNT(SPANS)};
}

static void expect_args(const struct range_txn_args *a, const struct range_txn_args *b)
{
    EXPECT_TRUE(uuid_eq(a->txn, b->txn));
    EXPECT_BYTES_EQ(a->anchor, b->anchor);
    EXPECT_EQ(a->status, b->status);
    EXPECT_HTS_EQ(a->ts, b->ts);
    EXPECT_HTS_EQ(a->min_ts, b->min_ts);
    EXPECT_HTS_EQ(a->seen_ts, b->seen_ts);
    EXPECT_EQ(a->push, b->push);
    EXPECT_EQ(a->force, b->force);
    EXPECT_TRUE(uuid_eq(a->pusher, b->pusher));
    EXPECT_BYTES_EQ(a->pusher_anchor, b->pusher_anchor);
    EXPECT_EQ(a->pusher_priority, b->pusher_priority);
    EXPECT_EQ(a->wait_ns, b->wait_ns);
    EXPECT_EQ(a->in_flight_count, b->in_flight_count);
    for (uint32_t i = 0; i < a->in_flight_count; i++) {
        EXPECT_BYTES_EQ(a->in_flight[i], b->in_flight[i]);
    }
    EXPECT_EQ(a->spans_count, b->spans_count);
    for (uint32_t i = 0; i < a->spans_count; i++) {
        EXPECT_BYTES_EQ(a->spans[i].start, b->spans[i].start);
        EXPECT_BYTES_EQ(a->spans[i].end, b->spans[i].end);
    }
}

static struct status there_and_back(const struct range_batch *b, struct arena *arena,
                                    struct range_batch *out)
{
    struct bytes bytes;

    TRY(range_batch_encode(b, arena, &bytes));
    return range_batch_decode(bytes, arena, out);
}

TEST(request, batches_of_transactions)
{
    const struct range_txn_args args = full_args();
    const struct range_txn_args bare = {.txn = ID_B};
    const struct range_request requests[] = {
        {.op = RANGE_OP_GET, .key = BYTES_LIT("k"), .lock = MVCC_EXCLUSIVE, .since = {6, 7}},
        {.op = RANGE_OP_END_TXN, .key = BYTES_LIT("anchor"), .args = &args},
        {.op = RANGE_OP_HEARTBEAT, .key = BYTES_LIT("anchor"), .args = &bare},
    };
    const struct range_batch b = {.range = {4},
                                  .requests = requests,
                                  .count = ARRAY_COUNT(requests),
                                  .txn = {.id = ID_A,
                                          .anchor = BYTES_LIT("anchor"),
                                          .priority = 5,
                                          .read_committed = true,
                                          .min_ts = {1, 1},
                                          .write_ts = {2, 2},
                                          .global_limit = {3, 3},
                                          .local_limit = {4, 4}},
                                  .intents = true,
                                  .can_forward = true,
                                  .replay = true,
                                  .follower = true,
                                  .wait = RANGE_WAIT_SKIP,
                                  .lock_wait_ns = 99};
    struct range_batch back;
    struct arena arena;

    arena_init(&arena, 0);
    EXPECT_OK(there_and_back(&b, &arena, &back));
    EXPECT_TRUE(uuid_eq(ID_A, back.txn.id));
    EXPECT_BYTES_EQ(b.txn.anchor, back.txn.anchor);
    EXPECT_EQ(5, back.txn.priority);
    EXPECT_TRUE(back.txn.read_committed);
    EXPECT_HTS_EQ(b.txn.min_ts, back.txn.min_ts);
    EXPECT_HTS_EQ(b.txn.write_ts, back.txn.write_ts);
    EXPECT_HTS_EQ(b.txn.global_limit, back.txn.global_limit);
    EXPECT_HTS_EQ(b.txn.local_limit, back.txn.local_limit);
    EXPECT_TRUE(back.intents && back.can_forward && back.replay && back.follower);
    EXPECT_EQ(RANGE_WAIT_SKIP, back.wait);
    EXPECT_EQ(99, back.lock_wait_ns);
    EXPECT_EQ(MVCC_EXCLUSIVE, back.requests[0].lock);
    EXPECT_HTS_EQ(requests[0].since, back.requests[0].since);
    EXPECT_TRUE(hts_is_zero(back.requests[1].since));
    EXPECT_TRUE(back.requests[0].args == NULL);
    expect_args(&args, back.requests[1].args);
    expect_args(&bare, back.requests[2].args);
    arena_deinit(&arena);
}

/* What is not said comes back as zero: no transaction is not some transaction. */
TEST(request, batches_of_nobody)
{
    const struct range_request q = {.op = RANGE_OP_GET, .key = BYTES_LIT("k")};
    const struct range_batch b = {.range = {4}, .requests = &q, .count = 1};
    struct range_batch back;
    struct arena arena;

    arena_init(&arena, 0);
    EXPECT_OK(there_and_back(&b, &arena, &back));
    EXPECT_TRUE(uuid_is_zero(back.txn.id));
    EXPECT_TRUE(hts_is_zero(back.txn.global_limit));
    EXPECT_FALSE(back.intents || back.can_forward || back.replay || back.follower);
    EXPECT_EQ(RANGE_WAIT_BLOCK, back.wait);
    EXPECT_EQ(MVCC_NONE, back.requests[0].lock);
    arena_deinit(&arena);
}

struct refusal {
    const char *what;
    struct range_request request;
    struct range_txn_args args;
    bool has_args;
    enum range_wait wait;
};

TEST(request, impossible_fields_are_refused)
{
    static const struct key_span upside_down = {{(const uint8_t *)"b", 1},
                                                {(const uint8_t *)"a", 1}};
    static const struct key_span nowhere = {{NULL, 0}, {(const uint8_t *)"a", 1}};
    static const struct bytes no_key = {NULL, 0};
    const struct refusal cases[] = {
        {"lock", {.op = RANGE_OP_GET, .lock = MVCC_INTENT}, .has_args = false},
        {"wait", {.op = RANGE_OP_GET}, .wait = RANGE_WAIT_SKIP + 1},
        {"args of a get", {.op = RANGE_OP_GET}, .args = {.txn = ID_A}, .has_args = true},
        {"push without args", {.op = RANGE_OP_PUSH}, .has_args = false},
        {"nobody's record", {.op = RANGE_OP_END_TXN}, .has_args = true},
        {"status", {.op = RANGE_OP_END_TXN}, {.txn = ID_A, .status = 4}, true, 0},
        {"push", {.op = RANGE_OP_PUSH}, {.txn = ID_A, .push = 3}, true, 0},
        {"empty key",
         {.op = RANGE_OP_END_TXN},
         {.txn = ID_A, .in_flight = &no_key, .in_flight_count = 1},
         true,
         0},
        {"span",
         {.op = RANGE_OP_END_TXN},
         {.txn = ID_A, .spans = &upside_down, .spans_count = 1},
         true,
         0},
        {"no start",
         {.op = RANGE_OP_END_TXN},
         {.txn = ID_A, .spans = &nowhere, .spans_count = 1},
         true,
         0},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct range_request q = cases[i].request;
        const struct range_batch b = {
            .range = {4}, .requests = &q, .count = 1, .wait = cases[i].wait};
        struct range_batch back;
        struct arena arena;

        arena_init(&arena, 0);
        q.key = BYTES_LIT("k");
        q.args = cases[i].has_args ? &cases[i].args : NULL;
        if (there_and_back(&b, &arena, &back).code != STATUS_CORRUPT) {
            printf("not refused: %s\n", cases[i].what);
            EXPECT_TRUE(false);
        }
        arena_deinit(&arena);
    }
}

/* An id of a wrong size: bytes that no encoder of ours makes. */
TEST(request, ids_of_a_wrong_size_are_refused)
{
    uint8_t short_id[15] = {1};
    Dsql__Pb__BatchTxn txn;
    Dsql__Pb__Request request;
    Dsql__Pb__Request *requests = &request;
    Dsql__Pb__BatchRequest pb;
    struct range_batch back;
    uint8_t mem[256];
    struct arena arena;

    arena_init(&arena, 0);
    dsql__pb__batch_txn__init(&txn);
    dsql__pb__request__init(&request);
    dsql__pb__batch_request__init(&pb);
    request.op = RANGE_OP_GET;
    request.key = (ProtobufCBinaryData){1, short_id};
    txn.id = (ProtobufCBinaryData){sizeof(short_id), short_id};
    pb.txn = &txn;
    pb.requests = &requests;
    pb.n_requests = 1;
    EXPECT_CODE(
        STATUS_CORRUPT,
        range_batch_decode(bytes_of(mem, dsql__pb__batch_request__pack(&pb, mem)), &arena, &back));
    arena_deinit(&arena);
}

TEST(request, results_of_transactions)
{
    const struct range_txn_wait waits[] = {{ID_B, ID_A, 7}, {ID_A, ID_B, 8}};
    const struct range_txn_info info = {.id = ID_A,
                                        .has_record = true,
                                        .status = RANGE_TXN_COMMITTED,
                                        .ts = {5, 1},
                                        .min_ts = {4, 1},
                                        .last_heartbeat = {6, 1},
                                        .priority = 3,
                                        .in_flight = KEYS,
                                        .in_flight_count = ARRAY_COUNT(KEYS),
                                        .waits = waits,
                                        .waits_count = ARRAY_COUNT(waits)};
    struct range_response responses[] = {{.txn = &info}, {.found = true}};
    const struct range_result ok = {
        .uncertain_ts = {1, 2}, .now = {3, 4}, .server = {5}, .responses = responses};
    struct range_result back;
    const struct range_txn_info *i = NULL;
    struct arena arena;
    struct bytes bytes;

    arena_init(&arena, 0);
    EXPECT_OK(range_result_encode(&ok, 2, &arena, &bytes));
    EXPECT_OK(range_result_decode(bytes, 2, &arena, &back));
    EXPECT_HTS_EQ(ok.uncertain_ts, back.uncertain_ts);
    EXPECT_HTS_EQ(ok.now, back.now);
    EXPECT_EQ(5, back.server.v);
    EXPECT_TRUE(back.responses[1].txn == NULL);
    i = back.responses[0].txn;
    EXPECT_TRUE(i != NULL && i->has_record && uuid_eq(ID_A, i->id));
    EXPECT_EQ(RANGE_TXN_COMMITTED, i->status);
    EXPECT_HTS_EQ(info.ts, i->ts);
    EXPECT_HTS_EQ(info.min_ts, i->min_ts);
    EXPECT_HTS_EQ(info.last_heartbeat, i->last_heartbeat);
    EXPECT_EQ(3, i->priority);
    EXPECT_EQ(3, i->in_flight_count);
    EXPECT_BYTES_EQ(KEYS[1], i->in_flight[1]);
    EXPECT_EQ(2, i->waits_count);
    EXPECT_TRUE(uuid_eq(ID_B, i->waits[0].waiter) && uuid_eq(ID_A, i->waits[0].holder));
    EXPECT_EQ(8, i->waits[1].waiter_priority);
    arena_deinit(&arena);
}

TEST(request, results_with_impossible_transactions_are_refused)
{
    struct range_txn_info info = {.id = ID_A, .status = 4};
    struct range_response response = {.txn = &info};
    const struct range_result r = {.responses = &response};
    struct range_result back;
    struct arena arena;
    struct bytes bytes;

    arena_init(&arena, 0);
    EXPECT_OK(range_result_encode(&r, 1, &arena, &bytes));
    EXPECT_CODE(STATUS_CORRUPT, range_result_decode(bytes, 1, &arena, &back));
    info = (struct range_txn_info){.id = ID_A, .in_flight = &(struct bytes){0}};
    info.in_flight_count = 1;
    EXPECT_OK(range_result_encode(&r, 1, &arena, &bytes));
    EXPECT_CODE(STATUS_CORRUPT, range_result_decode(bytes, 1, &arena, &back));
    info = (struct range_txn_info){.id = ID_A, .waits_count = RANGE_TXN_WAITS_MAX + 1};
    info.waits = ARENA_ARRAY(&arena, struct range_txn_wait, RANGE_TXN_WAITS_MAX + 1);
    EXPECT_OK(range_result_encode(&r, 1, &arena, &bytes));
    EXPECT_CODE(STATUS_CORRUPT, range_result_decode(bytes, 1, &arena, &back));
    arena_deinit(&arena);
}

TEST(request, memory_runs_out_and_bytes_are_damaged_without_harm)
{
    const struct range_txn_args args = full_args();
    const struct range_request q = {
        .op = RANGE_OP_END_TXN, .key = BYTES_LIT("anchor"), .args = &args};
    const struct range_batch b = {
        .range = {4}, .requests = &q, .count = 1, .txn = {.id = ID_A, .write_ts = {2, 2}}};
    struct arena whole;
    struct bytes bytes;
    struct rng rng;

    rng_seed(&rng, 7);
    arena_init(&whole, 0);
    EXPECT_OK(range_batch_encode(&b, &whole, &bytes));
    for (uint32_t i = 0; i < 3000; i++) {
        const size_t bit = rng_below(&rng, bytes.len * 8);
        uint8_t *byte = (uint8_t *)(uintptr_t)bytes.ptr + bit / 8;
        struct range_batch back;
        struct arena arena;
        struct bytes again;

        arena_init(&arena, i % 3 == 0 ? 4096 : 0);
        *byte ^= (uint8_t)(1u << bit % 8);
        status_ignore(range_batch_decode(bytes, &arena, &back));
        status_ignore(range_batch_encode(&b, &arena, &again));
        *byte ^= (uint8_t)(1u << bit % 8);
        arena_deinit(&arena);
    }
    arena_deinit(&whole);
}
