/* Bytes of commands, states, log records, descriptors, batches and results: there and back, and damaged. */
#include "node/base/hash.h"
#include "node/base/invariant.h"
#include "node/range/command.h"
#include "node/range/request.h"
#include "tests/lib/test.h"

static struct range_desc desc(void)
{
    return (struct range_desc){.id = {7},
                               .start = BYTES_LIT("\x88"
                                                  "a"),
                               .end = BYTES_LIT("\x88"
                                                "m"),
                               .replicas = {{{1}, {11}, {3}, RANGE_VOTER},
                                            {{2}, {12}, {1}, RANGE_VOTER_DEMOTING},
                                            {{3}, {13}, {2}, RANGE_VOTER_INCOMING},
                                            {{4}, {14}, {5}, RANGE_LEARNER},
                                            {{5}, {15}, {4}, RANGE_NON_VOTER}},
                               .replicas_count = 5,
                               .next_replica = 6,
                               .generation = 99};
}

static bool desc_eq(const struct range_desc *a, const struct range_desc *b)
{
    bool eq = a->id.v == b->id.v && bytes_eq(a->start, b->start) && bytes_eq(a->end, b->end) &&
              a->replicas_count == b->replicas_count && a->next_replica == b->next_replica &&
              a->generation == b->generation;

    for (uint32_t i = 0; eq && i < a->replicas_count; i++) {
        eq = memcmp(&a->replicas[i], &b->replicas[i], sizeof(a->replicas[i])) == 0;
    }
    return eq;
}

TEST(codec, descriptors)
{
    const struct range_desc d = desc();
    struct range_desc back;
    struct raft_conf conf;
    struct arena arena;
    struct buf b = {0};

    arena_init(&arena, 0);
    EXPECT_OK(range_desc_encode(&d, &b));
    EXPECT_OK(range_desc_decode(buf_bytes(&b), &arena, &back));
    EXPECT_TRUE(desc_eq(&d, &back));
    EXPECT_TRUE(range_desc_contains(&d, BYTES_LIT("\x88"
                                                  "a")));
    EXPECT_FALSE(range_desc_contains(&d, BYTES_LIT("\x88"
                                                   "m")));
    EXPECT_TRUE(range_desc_is_joint(&d));
    EXPECT_TRUE(range_desc_find(&d, (store_id){99}) == NULL);
    EXPECT_TRUE(range_desc_find_id(&d, (replica_id){99}) == NULL);
    range_desc_conf(&d, &conf);
    EXPECT_EQ(5, conf.count);
    for (uint32_t i = 0; i < conf.count; i++) {
        EXPECT_EQ(i + 1, conf.peers[i].id.v); /* Sorted. */
    }
    EXPECT_EQ(RAFT_VOTER_DEMOTING, conf.peers[0].type);
    EXPECT_EQ(RAFT_VOTER_INCOMING, conf.peers[1].type);
    EXPECT_EQ(RAFT_VOTER, conf.peers[2].type);
    EXPECT_EQ(RAFT_LEARNER, conf.peers[3].type);
    EXPECT_EQ(RAFT_LEARNER, conf.peers[4].type);
    buf_deinit(&b);
    arena_deinit(&arena);
}

/* What no descriptor of ours would say, in both forms. */
static enum status_code both_forms(const struct range_desc *d)
{
    struct range_desc back;
    Dsql__Pb__RangeDesc pb;
    Dsql__Pb__ReplicaDesc replicas[RAFT_PEERS_MAX];
    Dsql__Pb__ReplicaDesc *pointers[RAFT_PEERS_MAX];
    struct arena arena;
    struct buf b = {0};
    struct status stored = OK;
    struct status wire = OK;

    arena_init(&arena, 0);
    INVARIANT(status_ok(range_desc_encode(d, &b)));
    stored = range_desc_decode(buf_bytes(&b), &arena, &back);
    range_desc_to_pb(d, &pb, replicas, pointers);
    wire = range_desc_from_pb(&pb, &arena, &back);
    INVARIANT(stored.code == wire.code);
    INVARIANT(!status_ok(wire) || desc_eq(d, &back));
    buf_deinit(&b);
    arena_deinit(&arena);
    return wire.code;
}

TEST(codec, impossible_descriptors_are_refused)
{
    struct range_desc d = desc();

    EXPECT_EQ(STATUS_OK, both_forms(&d));
    d.id.v = 0;
    EXPECT_EQ(STATUS_CORRUPT, both_forms(&d));
    d = desc();
    d.end = d.start;
    EXPECT_EQ(STATUS_CORRUPT, both_forms(&d));
    d = desc();
    d.replicas[1].store = d.replicas[0].store;
    EXPECT_EQ(STATUS_CORRUPT, both_forms(&d));
    d = desc();
    d.replicas[1].id = d.replicas[0].id;
    EXPECT_EQ(STATUS_CORRUPT, both_forms(&d));
    d = desc();
    d.replicas[2].id.v = d.next_replica;
    EXPECT_EQ(STATUS_CORRUPT, both_forms(&d));
    d = desc();
    d.replicas[2].node.v = 0;
    EXPECT_EQ(STATUS_CORRUPT, both_forms(&d));
    d = desc();
    d.replicas[2].type = RANGE_REPLICA_TYPE_COUNT;
    EXPECT_EQ(STATUS_CORRUPT, both_forms(&d));
    d = desc();
    d.replicas_count = 0;
    EXPECT_EQ(STATUS_CORRUPT, both_forms(&d));
    d = desc();
    d.replicas[0].type = RANGE_LEARNER; /* Nobody votes in the new half but who comes in. */
    EXPECT_EQ(STATUS_OK, both_forms(&d));
    d.replicas[2].type = RANGE_LEARNER;
    EXPECT_EQ(STATUS_CORRUPT, both_forms(&d));
}

static struct command command(void)
{
    return (struct command){.kind = COMMAND_CONF,
                            .start_ts = {UINT64_MAX, UINT32_MAX},
                            .target = {5},
                            .stats = {.live_count = -3, .live_bytes = INT64_MIN, .lock_bytes = 7},
                            .desc = BYTES_LIT("descriptor"),
                            .ops = BYTES_LIT("changes")};
}

TEST(codec, commands)
{
    const struct command c = command();
    struct command back;
    struct buf b = {0};

    EXPECT_OK(command_encode(&c, &b));
    EXPECT_OK(command_decode(buf_bytes(&b), &back));
    EXPECT_EQ(c.kind, back.kind);
    EXPECT_HTS_EQ(c.start_ts, back.start_ts);
    EXPECT_EQ(c.target.v, back.target.v);
    EXPECT_EQ(0, memcmp(&c.stats, &back.stats, sizeof(c.stats)));
    EXPECT_BYTES_EQ(c.desc, back.desc);
    EXPECT_BYTES_EQ(c.ops, back.ops);
    b.ptr[1] = COMMAND_KIND_COUNT;
    EXPECT_CODE(STATUS_CORRUPT, command_decode(buf_bytes(&b), &back));
    b.ptr[1] = 0;
    EXPECT_CODE(STATUS_CORRUPT, command_decode(buf_bytes(&b), &back));
    b.ptr[1] = COMMAND_NOOP;
    b.ptr[0] = 9;
    EXPECT_CODE(STATUS_CORRUPT, command_decode(buf_bytes(&b), &back));
    buf_deinit(&b);
}

TEST(codec, commands_that_change_ranges)
{
    struct command c = command();
    struct command back;

    c.right = BYTES_LIT("other descriptor");
    c.right_stats = (struct mvcc_stats){.live_count = 3, .lock_bytes = -9};
    c.left.v = UINT64_MAX;
    c.generation = 77;
    c.freeze_index = 88;
    for (int kind = COMMAND_SPLIT; kind < COMMAND_KIND_COUNT; kind++) {
        struct buf b = {0};

        c.kind = (enum command_kind)kind;
        EXPECT_OK(command_encode(&c, &b));
        EXPECT_OK(command_decode(buf_bytes(&b), &back));
        EXPECT_EQ(kind, back.kind);
        EXPECT_BYTES_EQ(c.desc, back.desc);
        EXPECT_BYTES_EQ(c.ops, back.ops);
        EXPECT_BYTES_EQ(c.right, back.right);
        EXPECT_EQ(0, memcmp(&c.right_stats, &back.right_stats, sizeof(c.right_stats)));
        EXPECT_EQ(c.left.v, back.left.v);
        EXPECT_EQ(c.generation, back.generation);
        EXPECT_EQ(c.freeze_index, back.freeze_index);
        buf_deinit(&b);
    }
}

TEST(codec, applied_states)
{
    const struct applied_state a = {.index = 12,
                                    .term = 5,
                                    .lease = LEASE_REVOKED,
                                    .lease_term = 4,
                                    .lease_holder = {3},
                                    .lease_start_ts = {77, 8},
                                    .lease_sequence = 6,
                                    .stats = {.val_bytes = -1, .intent_count = 5},
                                    .generation = 9,
                                    .addressed = true,
                                    .merge_index = 11,
                                    .floor = {13, 14},
                                    .freeze = {15, {16, 17}, {18}, 19}};
    struct applied_state back;
    struct buf b = {0};

    EXPECT_OK(applied_state_encode(&a, &b));
    EXPECT_OK(applied_state_decode(buf_bytes(&b), &back));
    EXPECT_EQ(a.index, back.index);
    EXPECT_EQ(a.lease, back.lease);
    EXPECT_HTS_EQ(a.lease_start_ts, back.lease_start_ts);
    EXPECT_EQ(a.lease_sequence, back.lease_sequence);
    EXPECT_EQ(0, memcmp(&a.stats, &back.stats, sizeof(a.stats)));
    EXPECT_EQ(a.generation, back.generation);
    EXPECT_TRUE(back.addressed);
    EXPECT_EQ(a.merge_index, back.merge_index);
    EXPECT_HTS_EQ(a.floor, back.floor);
    EXPECT_EQ(a.freeze.index, back.freeze.index);
    EXPECT_HTS_EQ(a.freeze.ts, back.freeze.ts);
    EXPECT_EQ(a.freeze.left.v, back.freeze.left.v);
    EXPECT_EQ(a.freeze.generation, back.freeze.generation);
    EXPECT_OK(buf_append_u8(&b, 0));
    EXPECT_CODE(STATUS_CORRUPT, applied_state_decode(buf_bytes(&b), &back));
    b.ptr[3] = 9; /* The lease's kind. */
    EXPECT_CODE(STATUS_CORRUPT, applied_state_decode(bytes_of(b.ptr, b.len - 1), &back));
    buf_deinit(&b);
}

TEST(codec, log_records_notice_every_flipped_bit)
{
    struct bytes payload = BYTES_LIT("some command");
    struct buf b = {0};
    uint64_t term = 0;
    uint8_t kind = 0;

    EXPECT_OK(log_record_encode(300, 1, payload, &b));
    EXPECT_OK(log_record_decode(buf_bytes(&b), &term, &kind, &payload));
    EXPECT_EQ(300, term);
    EXPECT_EQ(1, kind);
    EXPECT_BYTES_EQ(BYTES_LIT("some command"), payload);
    for (size_t bit = 0; bit < b.len * 8; bit++) {
        b.ptr[bit / 8] ^= (uint8_t)(1u << bit % 8);
        EXPECT_CODE(STATUS_CORRUPT, log_record_decode(buf_bytes(&b), &term, &kind, &payload));
        b.ptr[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    buf_deinit(&b);
}

TEST(codec, batches)
{
    const struct range_request requests[] = {
        {.op = RANGE_OP_GET, .key = BYTES_LIT("k")},
        {.op = RANGE_OP_SCAN,
         .key = BYTES_LIT("a"),
         .end = BYTES_LIT("z"),
         .rows_max = 5,
         .bytes_max = 6,
         .reverse = true},
        {.op = RANGE_OP_INSERT, .key = BYTES_LIT("i"), .value = BYTES_LIT("value")},
        {.op = RANGE_OP_ABSENT, .key = BYTES_LIT("n")},
    };
    const struct range_batch b = {.range = {4},
                                  .generation = 8,
                                  .read_ts = {5, 6},
                                  .commit_limit = {7, 0},
                                  .requests = requests,
                                  .count = ARRAY_COUNT(requests)};
    struct range_batch back;
    struct range_batch none = b;
    struct arena arena;
    struct bytes bytes;

    arena_init(&arena, 0);
    EXPECT_OK(range_batch_encode(&b, &arena, &bytes));
    EXPECT_OK(range_batch_decode(bytes, &arena, &back));
    EXPECT_EQ(4, back.range.v);
    EXPECT_HTS_EQ(b.read_ts, back.read_ts);
    EXPECT_HTS_EQ(b.commit_limit, back.commit_limit);
    EXPECT_EQ(b.count, back.count);
    for (uint32_t i = 0; i < b.count; i++) {
        EXPECT_EQ(requests[i].op, back.requests[i].op);
        EXPECT_BYTES_EQ(requests[i].key, back.requests[i].key);
        EXPECT_BYTES_EQ(requests[i].end, back.requests[i].end);
        EXPECT_BYTES_EQ(requests[i].value, back.requests[i].value);
        EXPECT_EQ(requests[i].rows_max, back.requests[i].rows_max);
        EXPECT_EQ(requests[i].bytes_max, back.requests[i].bytes_max);
        EXPECT_EQ(requests[i].reverse, back.requests[i].reverse);
    }
    none.count = 0;
    EXPECT_OK(range_batch_encode(&none, &arena, &bytes));
    EXPECT_CODE(STATUS_CORRUPT, range_batch_decode(bytes, &arena, &back));
    arena_deinit(&arena);
}

TEST(codec, batches_with_impossible_requests_are_refused)
{
    struct range_request q = {.op = RANGE_OP_GET, .key = BYTES_LIT("k")};
    const struct range_batch b = {.range = {4}, .requests = &q, .count = 1};
    struct range_batch back;
    struct arena arena;
    struct bytes bytes;

    arena_init(&arena, 0);
    q.op = RANGE_OP_COUNT;
    EXPECT_OK(range_batch_encode(&b, &arena, &bytes));
    EXPECT_CODE(STATUS_CORRUPT, range_batch_decode(bytes, &arena, &back));
    q.op = 0;
    EXPECT_OK(range_batch_encode(&b, &arena, &bytes));
    EXPECT_CODE(STATUS_CORRUPT, range_batch_decode(bytes, &arena, &back));
    q = (struct range_request){.op = RANGE_OP_GET};
    EXPECT_OK(range_batch_encode(&b, &arena, &bytes));
    EXPECT_CODE(STATUS_CORRUPT, range_batch_decode(bytes, &arena, &back));
    arena_deinit(&arena);
}

TEST(codec, results)
{
    struct range_response responses[] = {
        {.found = true, .value = BYTES_LIT("v")},
        {.rows = BYTES_LIT("rows"), .rows_count = 2, .more = true, .resume = BYTES_LIT("r")}};
    const struct range_desc d = desc();
    const struct range_result ok = {.read_ts = {1, 2}, .commit_ts = {3, 4}, .responses = responses};
    const struct range_result bad = {.st = FAIL(STATUS_RANGE_MISMATCH, "elsewhere"),
                                     .conflict = 3,
                                     .hint_node = {8},
                                     .hint_store = {9},
                                     .descs = &d,
                                     .descs_count = 1};
    struct range_result back;
    struct arena arena;
    struct bytes bytes;

    arena_init(&arena, 0);
    EXPECT_OK(range_result_encode(&ok, 2, &arena, &bytes));
    EXPECT_OK(range_result_decode(bytes, 2, &arena, &back));
    EXPECT_OK(back.st);
    EXPECT_HTS_EQ(ok.commit_ts, back.commit_ts);
    EXPECT_TRUE(back.responses[0].found);
    EXPECT_BYTES_EQ(BYTES_LIT("rows"), back.responses[1].rows);
    EXPECT_TRUE(back.responses[1].more);
    EXPECT_CODE(STATUS_CORRUPT, range_result_decode(bytes, 1, &arena, &back));
    EXPECT_OK(range_result_encode(&bad, 2, &arena, &bytes));
    EXPECT_OK(range_result_decode(bytes, 2, &arena, &back));
    EXPECT_CODE(STATUS_RANGE_MISMATCH, back.st);
    EXPECT_STREQ("elsewhere", back.st.msg);
    EXPECT_EQ(3, back.conflict);
    EXPECT_EQ(9, back.hint_store.v);
    EXPECT_TRUE(desc_eq(&d, &back.descs[0]));
    arena_deinit(&arena);
}

TEST(codec, memory_runs_out_without_harm)
{
    struct range_response responses[8] = {{.found = true}};
    const struct range_desc d = desc();
    const struct range_result r = {.responses = responses, .descs = &d, .descs_count = 1};
    struct range_request requests[8] = {{.op = RANGE_OP_GET}};
    const struct range_batch b = {.requests = requests, .count = 8};

    for (size_t limit = 1024; limit < 8192; limit += 1024) {
        struct arena arena;
        struct bytes bytes;

        arena_init(&arena, limit);
        status_ignore(range_result_encode(&r, 8, &arena, &bytes));
        status_ignore(range_batch_encode(&b, &arena, &bytes));
        arena_deinit(&arena);
    }
}

/* Damaged bytes of every kind: an error or some value, never more. */
static void decode_all(struct bytes b)
{
    struct range_desc d;
    struct range_batch batch;
    struct range_result result;
    struct command c;
    struct applied_state a;
    struct bytes payload;
    struct arena arena;
    uint64_t term = 0;
    uint8_t kind = 0;

    arena_init(&arena, 1 << 20);
    status_ignore(range_desc_decode(b, &arena, &d));
    status_ignore(range_batch_decode(b, &arena, &batch));
    status_ignore(range_result_decode(b, 1, &arena, &result));
    status_ignore(command_decode(b, &c));
    status_ignore(applied_state_decode(b, &a));
    status_ignore(log_record_decode(b, &term, &kind, &payload));
    arena_deinit(&arena);
}

TEST(codec, damaged_bytes_never_crash)
{
    const struct range_desc d = desc();
    const struct command c = command();
    const struct applied_state a = {.index = 1000, .stats = {.live_count = -5}};
    struct buf sources[3] = {{0}};
    struct rng rng;

    rng_seed(&rng, 3);
    EXPECT_OK(range_desc_encode(&d, &sources[0]));
    EXPECT_OK(command_encode(&c, &sources[1]));
    EXPECT_OK(applied_state_encode(&a, &sources[2]));
    for (int round = 0; round < 20000; round++) {
        const struct buf *src = &sources[round % 3];
        uint8_t bytes[256];
        const size_t n = (size_t)rng_below(&rng, src->len + 1);

        memcpy(bytes, src->ptr, n);
        for (uint64_t k = rng_below(&rng, 4); n > 0 && k > 0; k--) {
            bytes[rng_below(&rng, n)] = (uint8_t)rng_next(&rng);
        }
        decode_all(bytes_of(bytes, n));
    }
    for (int i = 0; i < 3; i++) {
        buf_deinit(&sources[i]);
    }
}
