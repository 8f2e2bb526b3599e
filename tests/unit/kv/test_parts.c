/* Batches over several ranges: where the parts go, what comes back, what is repeated. Stores 2, 3 and 4 hold a
 * range each: up to m, from m to t, from t on. */
#include "node/base/invariant.h"
#include "node/kv/internal.h"
#include "tests/unit/kv/kv_rig.h"

#define K(text) BYTES_LIT("\x88" text)

static const struct rig_answer yes = {.code = STATUS_OK};
static const struct uuid TXN = {{9, 9}};

static void three_ranges(struct rig *r)
{
    const struct bytes bounds[] = {K(""), K("m"), K("t"), KEY_MAX};

    rig_start(r);
    r->first.end = bounds[0];
    r->first.generation++;
    kv_set_first_range(r->kv, &r->first);
    for (uint32_t i = 0; i < 3; i++) {
        const struct range_desc d = {.id = {7 + i},
                                     .start = bounds[i],
                                     .end = bounds[i + 1],
                                     .replicas = {{{2 + i}, {2 + i}, {1}, RANGE_VOTER}},
                                     .replicas_count = 1,
                                     .next_replica = 2,
                                     .generation = 8};

        kv__cache_insert(r->kv, d.start, &d);
        r->nodes[i + 1].log = NULL;
    }
}

static struct rig_call call_of(const struct range_request *requests, uint32_t count)
{
    return (struct rig_call){.batch = {.requests = requests, .count = count}};
}

static struct rig_call intents_of(const struct range_request *requests, uint32_t count)
{
    struct rig_call call = call_of(requests, count);

    call.batch.intents = true;
    call.batch.txn.id = TXN;
    call.batch.txn.anchor = K("a");
    return call;
}

static const char *log_of(struct rig *r, uint32_t node)
{
    return r->nodes[node].log == NULL ? "" : r->nodes[node].log;
}

/* ---- cutting ------------------------------------------------------------------------------------- */

TEST(parts, reads_come_back_in_the_order_of_the_requests)
{
    const struct range_request q[] = {{.op = RANGE_OP_GET, .key = K("z")},
                                      {.op = RANGE_OP_GET, .key = K("a")},
                                      {.op = RANGE_OP_GET, .key = K("p")},
                                      {.op = RANGE_OP_GET, .key = K("b")},
                                      {.op = RANGE_OP_GET, .key = K("t")}};
    struct rig_call call = call_of(q, ARRAY_COUNT(q));
    struct rig r;

    three_ranges(&r);
    rig_answer(&r, 1, yes);
    rig_answer(&r, 2, yes);
    rig_answer(&r, 3, yes);
    EXPECT_OK(rig_send(&r, &call));
    for (uint32_t i = 0; i < ARRAY_COUNT(q); i++) {
        EXPECT_TRUE(call.result.responses[i].found);
        EXPECT_BYTES_EQ(q[i].key, call.result.responses[i].value);
    }
    EXPECT_STREQ("7:get a,get b", log_of(&r, 1));
    EXPECT_STREQ("8:get p", log_of(&r, 2));
    EXPECT_STREQ("9:get z,get t", log_of(&r, 3));
    EXPECT_EQ(3, call.call.parts);
    EXPECT_FALSE(call.call.wrote);
    /* All at one time, which the leaseholders could not have agreed upon. */
    EXPECT_FALSE(hts_is_zero(call.result.read_ts));
    EXPECT_HTS_EQ(r.nodes[1].last.read_ts, r.nodes[3].last.read_ts);
    EXPECT_HTS_EQ(call.result.read_ts, r.nodes[2].last.read_ts);
    rig_stop(&r);
}

/* Its first range answers; the rest is said to be left. */
TEST(parts, a_scan_is_cut_to_its_first_range)
{
    struct rig_call call = {
        .request = {.op = RANGE_OP_SCAN, .key = K("c"), .end = K("x"), .rows_max = 9}};
    struct rig r;

    three_ranges(&r);
    rig_answer(&r, 1, yes);
    rig_answer(&r, 2, yes);
    rig_answer(&r, 3, yes);
    EXPECT_OK(rig_send(&r, &call));
    EXPECT_STREQ("7:scan c..m", log_of(&r, 1));
    EXPECT_TRUE(call.result.responses[0].more);
    EXPECT_BYTES_EQ(K("m"), call.result.responses[0].resume);
    call.request.reverse = true;
    EXPECT_OK(rig_send(&r, &call));
    EXPECT_STREQ("9:scan t..x", log_of(&r, 3));
    EXPECT_TRUE(call.result.responses[0].more);
    EXPECT_BYTES_EQ(K("t"), call.result.responses[0].resume);
    call.request.end = K("t"); /* The key t itself is another range's. */
    EXPECT_OK(rig_send(&r, &call));
    EXPECT_STREQ("8:scan m..t", log_of(&r, 2));
    EXPECT_BYTES_EQ(K("m"), call.result.responses[0].resume);
    call.request.end = K("m");
    EXPECT_OK(rig_send(&r, &call));
    EXPECT_STREQ("7:scan c..m 7:scan c..m", log_of(&r, 1));
    EXPECT_FALSE(call.result.responses[0].more);
    rig_stop(&r);
}

TEST(parts, spans_of_refreshes_fall_into_pieces)
{
    const struct range_request q[] = {
        {.op = RANGE_OP_REFRESH, .key = K("c"), .end = K("x")},
        {.op = RANGE_OP_REFRESH, .key = K("n")},
        {.op = RANGE_OP_REFRESH, .key = K("m"), .end = K("t")},
    };
    struct rig_call call = call_of(q, ARRAY_COUNT(q));
    struct rig r;

    three_ranges(&r);
    rig_answer(&r, 1, yes);
    rig_answer(&r, 2, yes);
    rig_answer(&r, 3, yes);
    EXPECT_OK(rig_send(&r, &call));
    EXPECT_STREQ("7:refresh c..m", log_of(&r, 1));
    EXPECT_STREQ("8:refresh m..t,refresh n,refresh m..t", log_of(&r, 2));
    EXPECT_STREQ("9:refresh t..x", log_of(&r, 3));
    rig_stop(&r);
}

/* Servers settle one span at a time. */
TEST(parts, spans_to_settle_travel_alone)
{
    const struct range_txn_args args = {.txn = {{9, 9}}};
    const struct range_request q[] = {
        {.op = RANGE_OP_RESOLVE, .key = K("a"), .args = &args},
        {.op = RANGE_OP_RESOLVE, .key = K("b"), .end = K("c"), .args = &args},
        {.op = RANGE_OP_RESOLVE, .key = K("d"), .args = &args},
        {.op = RANGE_OP_RESOLVE, .key = K("e"), .end = K("n"), .args = &args},
    };
    struct rig_call call = call_of(q, ARRAY_COUNT(q));
    struct rig r;

    three_ranges(&r);
    rig_answer(&r, 1, yes);
    rig_answer(&r, 2, yes);
    EXPECT_OK(rig_send(&r, &call));
    EXPECT_EQ(5, call.call.parts);
    EXPECT_STREQ("8:resolve m..n", log_of(&r, 2));
    rig_stop(&r);
}

/* A write and the refresh of its key are one decision. */
TEST(parts, a_write_stays_with_the_refresh_of_its_key)
{
    uint8_t *big = calloc(1, RANGE_COMMAND_MAX / 2);
    const struct bytes value = bytes_of(big, RANGE_COMMAND_MAX / 2);
    const struct range_request q[] = {
        {.op = RANGE_OP_REFRESH, .key = K("a")},
        {.op = RANGE_OP_PUT, .key = K("a"), .value = value},
        {.op = RANGE_OP_REFRESH, .key = K("b")},
        {.op = RANGE_OP_PUT, .key = K("b"), .value = BYTES_LIT("small")},
        {.op = RANGE_OP_PUT, .key = K("c"), .value = value},
    };
    struct rig_call call = intents_of(q, ARRAY_COUNT(q));
    struct rig r;

    three_ranges(&r);
    rig_answer(&r, 1, yes);
    EXPECT_OK(rig_send(&r, &call));
    EXPECT_STREQ("7:refresh a,put a,refresh b,put b 7:put c", log_of(&r, 1));
    rig_stop(&r);
    free(big);
}

/* One part must not commit without the other. */
TEST(parts, writes_at_once_over_several_ranges_are_not_sent)
{
    const struct range_request q[] = {{.op = RANGE_OP_REFRESH, .key = K("p")},
                                      {.op = RANGE_OP_PUT, .key = K("a")}};
    struct rig_call call = call_of(q, ARRAY_COUNT(q));
    struct rig r;

    three_ranges(&r);
    EXPECT_CODE(STATUS_RANGE_MISMATCH, rig_send(&r, &call));
    EXPECT_EQ(0, rig_asked(&r));
    EXPECT_FALSE(call.call.wrote);
    EXPECT_TRUE(kv_same_range(r.kv, K("a"), K("b")));
    EXPECT_FALSE(kv_same_range(r.kv, K("a"), K("m")));
    rig_stop(&r);
}

/* Nor when a split is learnt from a refusal. */
TEST(parts, writes_at_once_over_a_range_that_was_split_are_not_sent)
{
    const struct range_request q[] = {{.op = RANGE_OP_PUT, .key = K("a")},
                                      {.op = RANGE_OP_PUT, .key = K("k")}};
    struct rig_call call = call_of(q, ARRAY_COUNT(q));
    struct range_desc right = {.id = {20},
                               .start = K("h"),
                               .end = K("m"),
                               .replicas = {{{3}, {3}, {1}, RANGE_VOTER}},
                               .replicas_count = 1,
                               .next_replica = 2,
                               .generation = 9};
    struct range_desc left = right;
    struct rig r;

    three_ranges(&r);
    left.id.v = 7;
    left.start = K("");
    left.end = K("h");
    kv__cache_insert(r.kv, K("h"), &right);
    left.generation = 7;
    left.end = K("m");
    kv__cache_insert(r.kv, K("a"), &left); /* Known only as far as the right half leaves it. */
    EXPECT_CODE(STATUS_RANGE_MISMATCH, rig_send(&r, &call));
    EXPECT_EQ(0, rig_asked(&r));
    rig_stop(&r);
}

TEST(parts, too_many_writes_for_one_command_go_as_several)
{
    struct range_request q[] = {{.op = RANGE_OP_PUT, .key = K("a")},
                                {.op = RANGE_OP_PUT, .key = K("b")},
                                {.op = RANGE_OP_PUT, .key = K("c")}};
    struct rig_call call = intents_of(q, ARRAY_COUNT(q));
    uint8_t *big = calloc(1, RANGE_COMMAND_MAX / 3);
    struct rig r;

    three_ranges(&r);
    for (uint32_t i = 0; i < ARRAY_COUNT(q); i++) {
        q[i].value = bytes_of(big, RANGE_COMMAND_MAX / 3);
    }
    rig_answer(&r, 1, yes);
    EXPECT_OK(rig_send(&r, &call));
    EXPECT_EQ(2, call.call.parts);
    EXPECT_STREQ("7:put a,put b 7:put c", log_of(&r, 1));
    call = call_of(q, ARRAY_COUNT(q));
    EXPECT_CODE(STATUS_RANGE_MISMATCH, rig_send(&r, &call));
    rig_stop(&r);
    free(big);
}

/* ---- staging ------------------------------------------------------------------------------------- */

static const struct range_request staged[] = {
    {.op = RANGE_OP_PUT, .key = K("a")},
    {.op = RANGE_OP_PUT, .key = K("b")},
    {.op = RANGE_OP_DELETE, .key = K("n")},
    {.op = RANGE_OP_INSERT, .key = K("x")},
    {.op = RANGE_OP_END_TXN,
     .key = K("a"),
     .args = &(const struct range_txn_args){.txn = {{9, 9}}, .status = RANGE_TXN_STAGING}},
};

TEST(parts, a_staged_record_lists_the_writes_of_other_parts)
{
    struct rig_call call = intents_of(staged, ARRAY_COUNT(staged));
    const struct range_txn_args *args = NULL;
    struct rig r;

    three_ranges(&r);
    rig_answer(&r, 1, (struct rig_answer){.commit_ts = {5, 0}});
    rig_answer(&r, 2, (struct rig_answer){.commit_ts = {7, 0}});
    rig_answer(&r, 3, (struct rig_answer){.commit_ts = {6, 0}});
    EXPECT_OK(rig_send(&r, &call));
    EXPECT_STREQ("7:put a,put b,end a", log_of(&r, 1));
    args = r.nodes[1].last.requests[2].args;
    EXPECT_EQ(2, args->in_flight_count);
    EXPECT_BYTES_EQ(K("n"), args->in_flight[0]);
    EXPECT_BYTES_EQ(K("x"), args->in_flight[1]);
    EXPECT_TRUE(call.call.wrote);
    EXPECT_HTS_EQ(((struct hts){7, 0}), call.result.commit_ts);
    rig_stop(&r);
}

/* The record's range was split: what it no longer holds is promised, too. Only that part goes again. */
TEST(parts, a_part_that_met_another_range_is_cut_again)
{
    struct rig_call call = intents_of(staged, ARRAY_COUNT(staged));
    const struct range_txn_args *args = NULL;
    struct range_desc left = {.id = {7},
                              .start = K(""),
                              .end = K("b"),
                              .replicas = {{{2}, {2}, {1}, RANGE_VOTER}},
                              .replicas_count = 1,
                              .next_replica = 2,
                              .generation = 9};
    const struct range_desc right = {.id = {20},
                                     .start = K("b"),
                                     .end = K("m"),
                                     .replicas = {{{4}, {4}, {1}, RANGE_VOTER}},
                                     .replicas_count = 1,
                                     .next_replica = 2,
                                     .generation = 9};
    struct rig r;

    three_ranges(&r);
    rig_answer(&r, 1, (struct rig_answer){.code = STATUS_RANGE_MISMATCH, .desc = &left});
    rig_answer(&r, 1, yes);
    rig_answer(&r, 2, yes);
    rig_answer(&r, 3, yes);
    kv__cache_insert(r.kv, K("b"), &right);
    kv__cache_evict(r.kv, K("a"));
    left.end = K("m");
    left.generation = 7;
    kv__cache_insert(r.kv, K("a"), &left);
    left.end = K("b");
    left.generation = 9;
    EXPECT_OK(rig_send(&r, &call));
    EXPECT_STREQ("7:put a,end a 7:put a,end a", log_of(&r, 1));
    EXPECT_STREQ("8:delete n", log_of(&r, 2));
    EXPECT_EQ(2, r.nodes[3].asked);
    args = r.nodes[1].last.requests[1].args;
    EXPECT_EQ(3, args->in_flight_count);
    EXPECT_BYTES_EQ(K("b"), args->in_flight[0]);
    rig_stop(&r);
}

/* ---- lost answers -------------------------------------------------------------------------------- */

TEST(parts, intents_without_an_answer_are_sent_again_as_replay)
{
    struct rig_call call = intents_of(staged, ARRAY_COUNT(staged));
    struct rig r;

    three_ranges(&r);
    rig_answer(&r, 1, yes);
    rig_answer(&r, 2, (struct rig_answer){.silent = true});
    rig_answer(&r, 2, yes);
    rig_answer(&r, 3, (struct rig_answer){.code = STATUS_AMBIGUOUS});
    rig_answer(&r, 3, yes);
    EXPECT_OK(rig_send(&r, &call));
    EXPECT_FALSE(r.nodes[1].last.replay);
    EXPECT_TRUE(r.nodes[2].last.replay);
    EXPECT_TRUE(r.nodes[3].last.replay);
    EXPECT_EQ(2, r.nodes[1].asked); /* The second time for the index: has range 8 moved? */
    rig_stop(&r);
}

/* The refusal may be the consequence of the first attempt: of a commit, even. */
TEST(parts, a_replay_that_is_refused_is_ambiguous)
{
    const enum status_code codes[] = {STATUS_EXISTS, STATUS_TXN_RETRY, STATUS_AMBIGUOUS};

    for (size_t i = 0; i < ARRAY_COUNT(codes); i++) {
        struct rig_call call = intents_of(staged, ARRAY_COUNT(staged));
        struct rig r;

        three_ranges(&r);
        rig_answer(&r, 1, yes);
        rig_answer(&r, 2, (struct rig_answer){.silent = true});
        rig_answer(&r, 2, (struct rig_answer){.code = codes[i]});
        rig_answer(&r, 3, yes);
        EXPECT_CODE(STATUS_AMBIGUOUS, rig_send(&r, &call));
        EXPECT_TRUE(call.call.wrote);
        rig_stop(&r);
    }
}

TEST(parts, nobody_answers_a_part_until_the_deadline)
{
    struct rig_call call = intents_of(staged, ARRAY_COUNT(staged));
    struct rig r;

    three_ranges(&r);
    rig_answer(&r, 1, yes);
    rig_answer(&r, 2, (struct rig_answer){.silent = true});
    rig_answer(&r, 3, yes);
    call.deadline_ms = 6000;
    EXPECT_CODE(STATUS_AMBIGUOUS, rig_send(&r, &call));
    rig_stop(&r);
}

/* ---- failures ------------------------------------------------------------------------------------ */

TEST(parts, the_caller_hears_of_the_failure_that_counts)
{
    const struct {
        enum status_code at[3];
        enum status_code want;
        uint32_t conflict;
    } cases[] = {
        {{STATUS_EXISTS, STATUS_TXN_RETRY, STATUS_OK}, STATUS_TXN_RETRY, 2},
        {{STATUS_OK, STATUS_EXISTS, STATUS_EXISTS}, STATUS_EXISTS, 2},
        {{STATUS_OK, STATUS_OK, STATUS_EXISTS}, STATUS_EXISTS, 3},
        {{STATUS_DEADLOCK, STATUS_TXN_RETRY, STATUS_EXISTS}, STATUS_DEADLOCK, 0},
        {{STATUS_OK, STATUS_LOCKED, STATUS_OK}, STATUS_LOCKED, 2},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct rig_call call = intents_of(staged, ARRAY_COUNT(staged));
        struct rig r;

        three_ranges(&r);
        for (uint32_t k = 0; k < 3; k++) {
            rig_answer(&r, k + 1,
                       (struct rig_answer){.code = cases[i].at[k], .uncertain_ts = {k + 1, 0}});
        }
        EXPECT_CODE(cases[i].want, rig_send(&r, &call));
        EXPECT_EQ(cases[i].conflict, call.result.conflict);
        EXPECT_TRUE(call.call.wrote ==
                    (cases[i].at[0] == STATUS_OK || cases[i].at[1] == STATUS_OK ||
                     cases[i].at[2] == STATUS_OK));
        EXPECT_HTS_EQ(((struct hts){3, 0}), call.result.uncertain_ts);
        rig_stop(&r);
    }
}

/* The parts work in the memory of who sent them: nobody leaves before they have ended. */
TEST(parts, cancelling_ends_all_parts)
{
    struct rig_call call = intents_of(staged, ARRAY_COUNT(staged));
    struct rig r;

    three_ranges(&r);
    for (uint32_t i = 1; i <= 3; i++) {
        rig_answer(&r, i, (struct rig_answer){.silent = true});
    }
    rig_send_start(&r, &call);
    cluster_run_ms(&r.c, 20);
    EXPECT_FALSE(call.done);
    fiber_cancel(call.fiber);
    cluster_run_ms(&r.c, 20);
    EXPECT_TRUE(call.done);
    EXPECT_CODE(STATUS_AMBIGUOUS, call.st);
    EXPECT_EQ(3, rig_asked(&r));
    rig_stop(&r);
}

/* ---- clocks and followers ------------------------------------------------------------------------ */

TEST(parts, the_first_reading_of_each_clock_limits_uncertainty)
{
    const struct range_request q[] = {{.op = RANGE_OP_GET, .key = K("a")},
                                      {.op = RANGE_OP_GET, .key = K("p")}};
    struct kv_observed seen = {.count = 0};
    struct rig_call call = call_of(q, ARRAY_COUNT(q));
    struct rig r;

    three_ranges(&r);
    rig_answer(&r, 1, (struct rig_answer){.now = {50, 0}});
    rig_answer(&r, 1, (struct rig_answer){.now = {60, 0}});
    rig_answer(&r, 2, yes);
    call.call.observed = &seen;
    call.batch.txn.global_limit = (struct hts){99, 0};
    EXPECT_OK(rig_send(&r, &call));
    EXPECT_TRUE(hts_is_zero(r.nodes[1].last.txn.local_limit));
    EXPECT_EQ(1, seen.count);
    EXPECT_OK(rig_send(&r, &call));
    EXPECT_HTS_EQ(((struct hts){50, 0}), r.nodes[1].last.txn.local_limit);
    EXPECT_TRUE(hts_is_zero(r.nodes[2].last.txn.local_limit));
    EXPECT_EQ(1, seen.count);
    EXPECT_HTS_EQ(((struct hts){50, 0}), seen.at[0].now);
    rig_stop(&r);
}

/* The one that is asked first cannot: then the leaseholder is, and is not forgotten. */
TEST(parts, followers_are_asked_before_the_leaseholder)
{
    struct rig_call call = {
        .batch = {.requests = &(struct range_request){.op = RANGE_OP_GET, .key = K("q")},
                  .count = 1,
                  .follower = true}};
    struct range_desc d = {.id = {8},
                           .start = K("m"),
                           .end = K("t"),
                           .replicas = {{{2}, {2}, {1}, RANGE_NON_VOTER},
                                        {{3}, {3}, {2}, RANGE_VOTER},
                                        {{4}, {4}, {3}, RANGE_VOTER}},
                           .replicas_count = 3,
                           .next_replica = 4,
                           .generation = 9};
    struct rig r;

    three_ranges(&r);
    kv__cache_insert(r.kv, d.start, &d);
    kv__cache_find(r.kv, K("q"))->leader.v = 4;
    rig_answer(&r, 1, yes);
    rig_answer(&r, 1, (struct rig_answer){.code = STATUS_NOT_LEADER});
    rig_answer(&r, 3, yes);
    EXPECT_OK(rig_send(&r, &call));
    EXPECT_EQ(1, r.nodes[1].asked);
    EXPECT_EQ(0, r.nodes[3].asked);
    EXPECT_EQ(4, kv__cache_find(r.kv, K("q"))->leader.v);
    EXPECT_OK(rig_send(&r, &call));
    EXPECT_EQ(2, r.nodes[1].asked);
    EXPECT_EQ(1, r.nodes[3].asked);
    EXPECT_EQ(0, r.nodes[2].asked);
    call.batch.follower = false;
    EXPECT_OK(rig_send(&r, &call));
    EXPECT_EQ(2, r.nodes[1].asked);
    rig_stop(&r);
}

/* ---- the cache ----------------------------------------------------------------------------------- */

/* An old row of the index is good for the keys of which nothing newer is known. */
TEST(parts, old_descriptors_are_cut_down_to_what_they_are_good_for)
{
    const struct range_desc d = {.id = {50}, .start = K("a"), .end = K("z"), .generation = 3};
    struct cached_range *c = NULL;
    struct rig r;

    three_ranges(&r);
    kv__cache_evict(r.kv, K("p"));
    kv__cache_insert(r.kv, K("a"), &d); /* All newer there. */
    EXPECT_EQ(7, kv__cache_find(r.kv, K("a"))->desc.id.v);
    EXPECT_TRUE(kv__cache_find(r.kv, K("p")) == NULL);
    kv__cache_insert(r.kv, K("p"), &d);
    c = kv__cache_find(r.kv, K("p"));
    EXPECT_EQ(50, c->desc.id.v);
    EXPECT_BYTES_EQ(K("m"), c->desc.start);
    EXPECT_BYTES_EQ(K("t"), c->desc.end);
    EXPECT_EQ(50, kv__cache_find_before(r.kv, K("t"))->desc.id.v);
    EXPECT_EQ(9, kv__cache_find(r.kv, K("t"))->desc.id.v);
    rig_stop(&r);
}

/* Full: what was not used lately makes room. */
TEST(parts, the_cache_is_bounded)
{
    char start[16];
    char end[16];
    struct kv_stats stats;
    struct rig r;

    three_ranges(&r);
    for (uint32_t i = 0; i < KV_CACHE_MAX + 50; i++) {
        struct range_desc d = {.id = {100 + i}, .generation = 20};

        (void)snprintf(start, sizeof(start),
                       "\x88"
                       "n%08u",
                       i);
        (void)snprintf(end, sizeof(end),
                       "\x88"
                       "n%08u",
                       i + 1);
        d.start = bytes_str(start);
        d.end = bytes_str(end);
        kv__cache_insert(r.kv, d.start, &d);
        EXPECT_TRUE(kv__cache_find(r.kv, K("z")) != NULL);
    }
    kv_get_stats(r.kv, &stats);
    EXPECT_EQ(KV_CACHE_MAX, stats.cached);
    EXPECT_EQ(9, kv__cache_find(r.kv, K("z"))->desc.id.v);
    EXPECT_EQ(100 + KV_CACHE_MAX + 49, kv__cache_find(r.kv, bytes_str(start))->desc.id.v);
    rig_stop(&r);
}
