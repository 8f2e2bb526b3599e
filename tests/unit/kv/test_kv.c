/* Finding the leaseholder, and what may be repeated. */
#include <stdlib.h>

#include "node/base/codec.h"
#include "tests/unit/kv/kv_rig.h"

static const struct rig_answer yes = {.code = STATUS_OK};
static const struct rig_answer not_leader = {.code = STATUS_NOT_LEADER};
static const struct rig_answer silent = {.silent = true};

static struct rig_answer hint(uint32_t store)
{
    return (struct rig_answer){.code = STATUS_NOT_LEADER, .hint = store};
}

static struct rig_answer code(enum status_code c)
{
    return (struct rig_answer){.code = c};
}

TEST(kv, a_hint_leads_to_the_leaseholder_and_is_remembered)
{
    struct rig r;

    rig_start(&r);
    rig_answer(&r, 1, hint(4));
    rig_answer(&r, 2, not_leader);
    rig_answer(&r, 3, yes);
    EXPECT_OK(rig_put(&r));
    EXPECT_EQ(1, r.nodes[1].asked);
    EXPECT_EQ(1, r.nodes[3].asked);
    EXPECT_OK(rig_put(&r));
    EXPECT_EQ(1, r.nodes[1].asked);
    EXPECT_EQ(0, r.nodes[2].asked);
    EXPECT_EQ(2, r.nodes[3].asked);
    rig_stop(&r);
}

/* Nobody knows who leads: each is asked once per round. */
TEST(kv, without_a_hint_every_replica_is_asked)
{
    struct rig r;
    struct kv_stats stats;

    rig_start(&r);
    rig_answer(&r, 1, not_leader);
    rig_answer(&r, 2, not_leader);
    rig_answer(&r, 3, not_leader);
    rig_answer(&r, 3, yes);
    EXPECT_OK(rig_put(&r));
    EXPECT_EQ(2, r.nodes[1].asked);
    EXPECT_EQ(2, r.nodes[3].asked);
    kv_get_stats(r.kv, &stats);
    EXPECT_EQ(1, stats.retries);
    rig_stop(&r);
}

/* The leader that was remembered is gone: the others are asked although nobody gives a hint. */
TEST(kv, a_dead_leader_is_forgotten_by_reads)
{
    struct rig r;

    rig_start(&r);
    rig_answer(&r, 1, yes);
    rig_answer(&r, 2, yes);
    EXPECT_OK(rig_get(&r));
    r.c.nodes[1].cut = true;
    EXPECT_OK(rig_get(&r));
    EXPECT_EQ(1, r.nodes[1].asked);
    EXPECT_EQ(1, r.nodes[2].asked);
    EXPECT_OK(rig_get(&r));
    EXPECT_EQ(2, r.nodes[2].asked);
    rig_stop(&r);
}

/* The write that met its death is ambiguous and never repeated; the next one goes elsewhere. */
TEST(kv, a_write_without_an_answer_is_ambiguous_once)
{
    struct rig r;

    rig_start(&r);
    rig_answer(&r, 1, yes);
    rig_answer(&r, 1, silent);
    rig_answer(&r, 2, yes);
    EXPECT_OK(rig_put(&r));
    EXPECT_CODE(STATUS_AMBIGUOUS, rig_put(&r));
    EXPECT_EQ(2, rig_asked(&r));
    rig_answer(&r, 1, not_leader);
    EXPECT_OK(rig_put(&r));
    rig_stop(&r);
}

/* Whatever goes wrong behind the moment a write has left, it may have run. */
TEST(kv, failures_behind_the_sending_of_a_write_are_ambiguous)
{
    static const enum status_code refusals[] = {STATUS_MEMORY, STATUS_CORRUPT, STATUS_UNAVAILABLE,
                                                STATUS_TIMEOUT, STATUS_CLOSED};

    for (size_t i = 0; i < ARRAY_COUNT(refusals); i++) {
        struct rig r;

        rig_start(&r);
        rig_answer(&r, 1, (struct rig_answer){.refuse = refusals[i]});
        rig_answer(&r, 2, yes);
        EXPECT_CODE(STATUS_AMBIGUOUS, rig_put(&r));
        EXPECT_EQ(1, rig_asked(&r));
        rig_stop(&r);
    }
}

TEST(kv, an_unreadable_answer_to_a_write_is_ambiguous)
{
    struct rig r;

    rig_start(&r);
    rig_answer(&r, 1, (struct rig_answer){.garbage = true});
    rig_answer(&r, 2, yes);
    EXPECT_CODE(STATUS_AMBIGUOUS, rig_put(&r));
    EXPECT_EQ(1, rig_asked(&r));
    rig_stop(&r);
}

TEST(kv, reads_go_on_behind_every_silence)
{
    struct rig r;

    rig_start(&r);
    rig_answer(&r, 1, (struct rig_answer){.garbage = true});
    rig_answer(&r, 2, silent);
    rig_answer(&r, 3, yes);
    EXPECT_OK(rig_get(&r));
    EXPECT_EQ(3, rig_asked(&r));
    rig_stop(&r);
}

/* Refused before anything could run: full queues, nodes that are starting. */
TEST(kv, certain_refusals_of_a_write_are_repeated)
{
    static const enum status_code refusals[] = {STATUS_OVERLOADED, STATUS_UNSUPPORTED};

    for (size_t i = 0; i < ARRAY_COUNT(refusals); i++) {
        struct rig r;

        rig_start(&r);
        rig_answer(&r, 1, (struct rig_answer){.refuse = refusals[i]});
        rig_answer(&r, 2, not_leader);
        rig_answer(&r, 3, yes);
        EXPECT_OK(rig_put(&r));
        rig_stop(&r);
    }
}

/* Answers of a leaseholder that promise that nothing was written. */
TEST(kv, writes_are_repeated_when_they_certainly_did_not_run)
{
    static const enum status_code codes[] = {STATUS_NOT_PROPOSED, STATUS_OVERLOADED,
                                             STATUS_TIMEOUT};

    for (size_t i = 0; i < ARRAY_COUNT(codes); i++) {
        struct rig r;

        rig_start(&r);
        rig_answer(&r, 1, code(codes[i]));
        rig_answer(&r, 1, yes);
        EXPECT_OK(rig_put(&r));
        EXPECT_EQ(2, r.nodes[1].asked);
        rig_stop(&r);
    }
}

TEST(kv, what_concerns_the_caller_is_handed_on)
{
    static const enum status_code codes[] = {STATUS_TXN_RETRY, STATUS_EXISTS,
                                             STATUS_INVALID,   STATUS_MEMORY,
                                             STATUS_AMBIGUOUS, STATUS_UNSUPPORTED};

    for (size_t i = 0; i < ARRAY_COUNT(codes); i++) {
        struct rig r;

        rig_start(&r);
        rig_answer(&r, 1, code(codes[i]));
        EXPECT_CODE(codes[i], rig_put(&r));
        EXPECT_EQ(1, rig_asked(&r));
        rig_stop(&r);
    }
}

TEST(kv, nobody_leads_until_the_deadline)
{
    struct rig r;
    struct rig_call call = {.request = {.op = RANGE_OP_PUT, .key = BYTES_LIT("\x88k\x88")},
                            .deadline_ms = 300};

    rig_start(&r);
    for (uint32_t i = 1; i < RIG_NODES; i++) {
        rig_answer(&r, i, code(i == 2 ? STATUS_RANGE_NOT_FOUND : STATUS_NOT_LEADER));
    }
    EXPECT_CODE(STATUS_UNAVAILABLE, rig_send(&r, &call));
    EXPECT_TRUE(r.nodes[1].asked > 2);
    EXPECT_TRUE(r.nodes[1].asked < 30); /* Pauses grow. */
    rig_stop(&r);
}

/* Replicas that point at each other must not keep us from pausing. */
TEST(kv, hints_in_a_circle_end_in_a_pause)
{
    struct rig r;
    struct rig_call call = {.request = {.op = RANGE_OP_GET, .key = BYTES_LIT("\x88k\x88")},
                            .deadline_ms = 200};

    rig_start(&r);
    rig_answer(&r, 1, hint(3));
    rig_answer(&r, 2, hint(2));
    rig_answer(&r, 3, hint(2));
    EXPECT_CODE(STATUS_UNAVAILABLE, rig_send(&r, &call));
    EXPECT_TRUE(rig_asked(&r) < 60);
    rig_stop(&r);
}

TEST(kv, a_mismatch_teaches_the_new_descriptor)
{
    struct rig r;
    struct range_desc newer;

    rig_start(&r);
    newer = r.first;
    newer.generation++;
    newer.replicas_count = 1;
    newer.replicas[0] = r.first.replicas[2];
    rig_answer(&r, 1, (struct rig_answer){.code = STATUS_RANGE_MISMATCH, .desc = &newer});
    rig_answer(&r, 3, yes);
    EXPECT_OK(rig_put(&r));
    EXPECT_EQ(1, r.nodes[1].asked);
    EXPECT_EQ(1, r.nodes[3].asked);
    EXPECT_EQ(6, kv_first_range(r.kv)->generation);
    rig_stop(&r);
}

/* A server and the index that insist on what cannot be: no answer, but an end. */
TEST(kv, descriptors_that_contradict_themselves_end_at_the_deadline)
{
    struct rig r;

    rig_start(&r);
    rig_answer(&r, 1, (struct rig_answer){.code = STATUS_RANGE_MISMATCH, .desc = &r.first});
    EXPECT_CODE(STATUS_TIMEOUT, rig_put(&r));
    EXPECT_TRUE(rig_asked(&r) < 200);
    rig_stop(&r);
}

TEST(kv, nothing_is_sent_before_the_first_range_is_known)
{
    struct rig r;
    struct rig_call call = {.request = {.op = RANGE_OP_GET, .key = BYTES_LIT("\x88k\x88")},
                            .deadline_ms = 50};
    struct kv *empty = NULL;
    struct kv *full = NULL;

    rig_start(&r);
    EXPECT_OK(kv_create(
        &(struct kv_options){r.c.nodes[0].shard, r.c.nodes[0].rpc, &r.c.nodes[0].hlc}, &empty));
    EXPECT_TRUE(kv_first_range(empty) == NULL);
    full = r.kv;
    r.kv = empty;
    EXPECT_CODE(STATUS_UNAVAILABLE, rig_send(&r, &call));
    r.kv = full;
    kv_destroy(empty);
    kv_destroy(NULL);
    rig_stop(&r);
}

/* No voter to ask is no success without a result. */
TEST(kv, a_range_without_voters_is_unavailable)
{
    struct rig r;
    struct range_desc d;
    struct rig_call call = {.request = {.op = RANGE_OP_GET, .key = BYTES_LIT("\x88k\x88")},
                            .deadline_ms = 50};

    rig_start(&r);
    d = r.first;
    d.generation++;
    for (uint32_t i = 0; i < d.replicas_count; i++) {
        d.replicas[i].type = i == 0 ? RANGE_NON_VOTER : RANGE_LEARNER;
    }
    kv_set_first_range(r.kv, &d);
    EXPECT_CODE(STATUS_UNAVAILABLE, rig_send(&r, &call));
    EXPECT_EQ(0, rig_asked(&r));
    rig_stop(&r);
}

TEST(kv, older_and_foreign_descriptors_of_the_first_range_are_ignored)
{
    struct rig r;
    struct range_desc d;

    rig_start(&r);
    d = r.first;
    d.generation = 4;
    d.replicas_count = 1;
    kv_set_first_range(r.kv, &d);
    EXPECT_EQ(3, kv_first_range(r.kv)->replicas_count);
    d.generation = 9;
    d.id.v = 2;
    kv_set_first_range(r.kv, &d);
    EXPECT_EQ(3, kv_first_range(r.kv)->replicas_count);
    rig_stop(&r);
}

static struct fiber *running(struct rig_call *call)
{
    return call->fiber;
}

TEST(kv, cancelling_a_read_says_so_and_a_write_is_ambiguous)
{
    struct rig r;
    struct rig_call read = {.request = {.op = RANGE_OP_GET, .key = BYTES_LIT("\x88k\x88")}};
    struct rig_call write = {.request = {.op = RANGE_OP_PUT, .key = BYTES_LIT("\x88k\x88")}};

    rig_start(&r);
    rig_answer(&r, 1, silent);
    rig_answer(&r, 2, silent);
    rig_send_start(&r, &read);
    rig_send_start(&r, &write);
    fiber_cancel(running(&read));
    fiber_cancel(running(&write));
    cluster_run_ms(&r.c, 2);
    EXPECT_TRUE(read.done && write.done);
    EXPECT_CODE(STATUS_CANCELLED, read.st);
    EXPECT_CODE(STATUS_AMBIGUOUS, write.st);
    rig_stop(&r);
}

/* ---- the cache ----------------------------------------------------------------------------------- */

/* A meta2 row as a scan answers it. */
static struct bytes meta_row(struct rig *r, const struct range_desc *d)
{
    struct buf desc = {0};
    struct buf row = {0};
    struct bytes out = BYTES_EMPTY;

    status_ignore(range_desc_encode(d, &desc));
    status_ignore(buf_append_lp(&row, BYTES_LIT("\x05k")));
    status_ignore(buf_append_lp(&row, buf_bytes(&desc)));
    status_ignore(bytes_dup(&r->arena, buf_bytes(&row), &out));
    buf_deinit(&desc);
    buf_deinit(&row);
    return out;
}

/* The first range ends before user data; the second holds it on store 3. */
static struct range_desc split_off(struct rig *r)
{
    struct range_desc second = {.id = {7},
                                .start = BYTES_LIT("\x80"),
                                .end = KEY_MAX,
                                .replicas = {{{3}, {3}, {1}, RANGE_VOTER}},
                                .replicas_count = 1,
                                .next_replica = 2,
                                .generation = 8};

    r->first.end = second.start;
    r->first.generation++;
    r->first.replicas_count = 1;
    kv_set_first_range(r->kv, &r->first);
    return second;
}

TEST(kv, unknown_keys_are_looked_up_in_meta2_once)
{
    struct rig r;
    struct range_desc second;
    struct kv_stats stats;

    rig_start(&r);
    second = split_off(&r);
    rig_answer(&r, 1, (struct rig_answer){.rows = meta_row(&r, &second)});
    rig_answer(&r, 2, yes);
    EXPECT_OK(rig_put(&r));
    EXPECT_EQ(7, r.nodes[2].last_range.v);
    EXPECT_OK(rig_put(&r));
    kv_get_stats(r.kv, &stats);
    EXPECT_EQ(1, stats.lookups);
    EXPECT_EQ(1, stats.cached);
    rig_stop(&r);
}

/* The rows of meta2 stand on a range of their own: its descriptor is asked for in meta1. */
TEST(kv, a_range_of_meta2_is_looked_up_in_meta1)
{
    struct rig r;
    struct range_desc index = {.id = {9},
                               .start = BYTES_LIT("\x05"),
                               .end = BYTES_LIT("\x80"),
                               .replicas = {{{4}, {4}, {1}, RANGE_VOTER}},
                               .replicas_count = 1,
                               .next_replica = 2,
                               .generation = 8};
    struct range_desc second;
    struct kv_stats stats;

    rig_start(&r);
    second = split_off(&r);
    r.first.end = index.start;
    r.first.generation++;
    kv_set_first_range(r.kv, &r.first);
    rig_answer(&r, 1, (struct rig_answer){.rows = meta_row(&r, &index)});
    rig_answer(&r, 3, (struct rig_answer){.rows = meta_row(&r, &second)});
    rig_answer(&r, 2, yes);
    EXPECT_OK(rig_put(&r));
    EXPECT_EQ(RANGE_FIRST_ID, r.nodes[1].last_range.v);
    EXPECT_EQ(0x04, r.nodes[1].last.requests[0].key.ptr[0]);
    EXPECT_EQ(9, r.nodes[3].last_range.v);
    EXPECT_EQ(0x05, r.nodes[3].last.requests[0].key.ptr[0]);
    EXPECT_EQ(7, r.nodes[2].last_range.v);
    kv_get_stats(r.kv, &stats);
    EXPECT_EQ(2, stats.lookups);
    EXPECT_EQ(2, stats.cached);
    EXPECT_OK(rig_put(&r)); /* All known now. */
    EXPECT_EQ(1, r.nodes[1].asked);
    rig_stop(&r);
}

TEST(kv, a_range_that_moved_is_looked_up_again)
{
    struct rig r;
    struct range_desc second;
    struct range_desc moved;

    rig_start(&r);
    second = split_off(&r);
    moved = second;
    moved.generation++;
    moved.replicas[0] = (struct range_replica){{4}, {4}, {2}, RANGE_VOTER};
    moved.next_replica = 3;
    rig_answer(&r, 1, (struct rig_answer){.rows = meta_row(&r, &second)});
    rig_answer(&r, 1, (struct rig_answer){.rows = meta_row(&r, &moved)});
    rig_answer(&r, 2, yes);
    rig_answer(&r, 2, code(STATUS_RANGE_NOT_FOUND));
    rig_answer(&r, 3, yes);
    EXPECT_OK(rig_put(&r));
    EXPECT_OK(rig_put(&r));
    EXPECT_EQ(1, r.nodes[3].asked);
    rig_stop(&r);
}

TEST(kv, a_missing_or_damaged_meta2_row_is_no_answer)
{
    struct rig r;
    struct rig_call call = {.request = {.op = RANGE_OP_GET, .key = BYTES_LIT("\x88k\x88")},
                            .deadline_ms = 100};
    struct kv_stats stats;

    rig_start(&r);
    (void)split_off(&r);
    rig_answer(&r, 1, (struct rig_answer){.rows = BYTES_EMPTY});
    rig_answer(&r, 1, (struct rig_answer){.rows = BYTES_LIT("\x02kk\x03xyz")});
    EXPECT_FALSE(status_ok(rig_send(&r, &call)));
    kv_get_stats(r.kv, &stats);
    EXPECT_EQ(0, stats.cached);
    rig_stop(&r);
}

/* Descriptors learnt from refusals replace what they overlap, unless that is newer. */
TEST(kv, overlapping_descriptors_are_replaced_by_newer_ones)
{
    struct rig r;
    struct range_desc left;
    struct range_desc right;
    struct range_desc stale;
    struct kv_stats stats;

    rig_start(&r);
    left = split_off(&r);
    right = left;
    left.end = BYTES_LIT("\x88m");
    left.generation = 9;
    right.id.v = 8;
    right.start = left.end;
    right.generation = 9;
    stale = left;
    stale.end = KEY_MAX;
    stale.generation = 8;
    rig_answer(&r, 1, (struct rig_answer){.rows = meta_row(&r, &stale)});
    rig_answer(&r, 2, (struct rig_answer){.code = STATUS_RANGE_MISMATCH, .desc = &right});
    rig_answer(&r, 2, (struct rig_answer){.code = STATUS_RANGE_MISMATCH, .desc = &stale});
    rig_answer(&r, 2, yes);
    rig_answer(&r, 1, (struct rig_answer){.rows = meta_row(&r, &left)});
    EXPECT_OK(rig_put(&r));
    kv_get_stats(r.kv, &stats);
    EXPECT_EQ(2, stats.cached);
    EXPECT_EQ(7, r.nodes[2].last_range.v);
    rig_stop(&r);
}

TEST(kv, cached_ranges_are_found_by_key)
{
    struct rig r;
    struct range_desc left;
    struct range_desc right;
    struct rig_call far = {.request = {.op = RANGE_OP_GET, .key = BYTES_LIT("\x88z\x88")}};

    rig_start(&r);
    left = split_off(&r);
    right = left;
    left.end = BYTES_LIT("\x88m");
    right.id.v = 8;
    right.start = left.end;
    right.replicas[0] = (struct range_replica){{4}, {4}, {1}, RANGE_VOTER};
    rig_answer(&r, 1, (struct rig_answer){.rows = meta_row(&r, &left)});
    rig_answer(&r, 1, (struct rig_answer){.rows = meta_row(&r, &right)});
    rig_answer(&r, 2, yes);
    rig_answer(&r, 3, yes);
    for (int i = 0; i < 3; i++) {
        EXPECT_OK(rig_get(&r));
        EXPECT_OK(rig_send(&r, &far));
    }
    EXPECT_EQ(7, r.nodes[2].last_range.v);
    EXPECT_EQ(8, r.nodes[3].last_range.v);
    EXPECT_EQ(2, r.nodes[1].asked);
    rig_stop(&r);
}

TEST(kv, a_write_that_is_too_large_to_be_sent_is_refused)
{
    struct rig r;
    char *big = calloc(1, RPC_BODY_MAX + 1);
    struct rig_call call = {.request = {.op = RANGE_OP_PUT,
                                        .key = BYTES_LIT("\x88k\x88"),
                                        .value = bytes_of(big, RPC_BODY_MAX)}};

    rig_start(&r);
    rig_answer(&r, 1, yes);
    EXPECT_CODE(STATUS_INVALID, rig_send(&r, &call));
    EXPECT_EQ(0, rig_asked(&r));
    rig_stop(&r);
    free(big);
}

/* A write to a leader that looks dead would most likely end ambiguous: it goes to the living, and waits for
 * one of them to lead. A read tries the dead last. */
TEST(kv, writes_are_not_sent_to_stores_that_look_dead)
{
    struct rig r;

    rig_start(&r);
    kv_set_store(r.kv, r.c.nodes[0].store, (store_id){1});
    rig_answer(&r, 1, yes);
    EXPECT_OK(rig_put(&r));
    r.c.nodes[1].cut = true;
    cluster_run_ms(&r.c, 3000);
    rig_answer(&r, 2, hint(2)); /* It still believes in the dead one. */
    rig_answer(&r, 2, not_leader);
    rig_answer(&r, 3, hint(2));
    rig_answer(&r, 3, yes);
    EXPECT_OK(rig_put(&r));
    EXPECT_EQ(1, r.nodes[1].asked);
    EXPECT_EQ(2, r.nodes[3].asked);
    rig_stop(&r);
}

TEST(kv, reads_ask_stores_that_look_dead_last)
{
    struct rig r;

    rig_start(&r);
    kv_set_store(r.kv, r.c.nodes[0].store, (store_id){1});
    r.c.nodes[1].cut = true;
    cluster_run_ms(&r.c, 3000);
    r.c.nodes[1].cut = false;
    rig_answer(&r, 1, yes);
    rig_answer(&r, 2, not_leader);
    rig_answer(&r, 3, not_leader);
    EXPECT_OK(rig_get(&r));
    EXPECT_EQ(3, rig_asked(&r));
    rig_stop(&r);
}

/* The store of this shard is asked without a message. */
TEST(kv, the_own_store_is_asked_directly)
{
    struct rig r;
    struct range_desc own;
    struct kv_stats stats;

    rig_start(&r);
    kv_set_store(r.kv, r.c.nodes[0].store, (store_id){1});
    own = r.first;
    own.generation++;
    own.replicas_count = 1;
    own.replicas[0] = (struct range_replica){{1}, {1}, {1}, RANGE_VOTER};
    kv_set_first_range(r.kv, &own);
    EXPECT_OK(rig_put(&r));
    EXPECT_OK(rig_get(&r));
    kv_get_stats(r.kv, &stats);
    EXPECT_EQ(2, stats.batches_local);
    EXPECT_EQ(0, stats.batches_remote);
    rig_stop(&r);
}
