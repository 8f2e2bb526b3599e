/*
 * test_parts.c -- quorums against a naive twin, in-flight limits, and the log in memory.
 */
#include <stdlib.h>

#include "node/base/blob.h"
#include "node/raft/raft_internal.h"
#include "tests/lib/test.h"

/* Naive: what holds for a half is whatever some majority of it has; try all subsets. */
static bool in_new(enum raft_peer_type t)
{
    return t == RAFT_VOTER || t == RAFT_VOTER_INCOMING;
}

static bool in_old(enum raft_peer_type t)
{
    return t == RAFT_VOTER || t == RAFT_VOTER_DEMOTING;
}

static bool majority(const struct raft_conf *c, uint32_t subset,
                     bool (*member)(enum raft_peer_type))
{
    uint32_t size = 0;
    uint32_t have = 0;

    for (uint32_t i = 0; i < c->count; i++) {
        size += member(c->peers[i].type) ? 1 : 0;
        have += member(c->peers[i].type) && (subset >> i & 1) != 0 ? 1 : 0;
    }
    return have * 2 > size;
}

static uint64_t naive_commit(const struct raft_conf *c, const uint64_t *match)
{
    uint64_t best = 0;

    for (uint32_t subset = 0; subset < 1u << c->count; subset++) {
        uint64_t least = UINT64_MAX;

        for (uint32_t i = 0; i < c->count; i++) {
            least = (subset >> i & 1) != 0 && match[i] < least ? match[i] : least;
        }
        if (least > best && least != UINT64_MAX && majority(c, subset, in_old) &&
            majority(c, subset, in_new)) {
            best = least;
        }
    }
    return best;
}

static struct raft_conf random_conf(struct rng *rng)
{
    struct raft_conf c = {.count = 1 + (uint32_t)rng_below(rng, 7)};

    for (uint32_t i = 0; i < c.count; i++) {
        c.peers[i] = (struct raft_peer){
            {i + 1}, {i + 1}, (enum raft_peer_type)(i == 0 ? 0 : rng_below(rng, 4))};
    }
    return c;
}

TEST(conf, commit_votes_and_support_agree_with_trying_all_subsets)
{
    struct rng rng;

    rng_seed(&rng, 7);
    for (int round = 0; round < 2000; round++) {
        const struct raft_conf c = random_conf(&rng);
        uint64_t match[RAFT_PEERS_MAX] = {0};
        struct hts until[RAFT_PEERS_MAX];
        uint8_t votes[RAFT_PEERS_MAX] = {0};
        uint32_t granted = 0;
        uint32_t open = 0;
        enum raft__vote_result want = RAFT__VOTES_PENDING;

        memset(until, 0, sizeof(until));
        for (uint32_t i = 0; i < c.count; i++) {
            match[i] = rng_below(&rng, 6);
            until[i] = hts_ms(match[i]);
            votes[i] = (uint8_t)rng_below(&rng, 3);
            granted |= votes[i] == RAFT__VOTE_GRANTED ? 1u << i : 0;
            open |= votes[i] == RAFT__VOTE_NONE ? 1u << i : 0;
        }
        EXPECT_TRUE(raft__conf_valid(&c));
        EXPECT_EQ(naive_commit(&c, match), raft__conf_commit(&c, match, 0));
        EXPECT_HTS_EQ(hts_ms(naive_commit(&c, match)), raft__conf_support(&c, until));
        if (majority(&c, granted, in_old) && majority(&c, granted, in_new)) {
            want = RAFT__VOTES_WON;
        } else if (!majority(&c, granted | open, in_old) || !majority(&c, granted | open, in_new)) {
            want = RAFT__VOTES_LOST;
        }
        EXPECT_EQ(want, raft__conf_votes(&c, votes));
    }
}

TEST(conf, sixteen_peers_are_the_limit)
{
    struct raft_conf c = {.count = RAFT_PEERS_MAX};

    for (uint32_t i = 0; i < RAFT_PEERS_MAX; i++) {
        c.peers[i] = (struct raft_peer){{i + 1}, {i + 1}, RAFT_VOTER};
    }
    EXPECT_TRUE(raft__conf_valid(&c));
    c.count = RAFT_PEERS_MAX + 1;
    EXPECT_FALSE(raft__conf_valid(&c));
    c.count = 2;
    c.peers[0].type = RAFT_LEARNER;
    c.peers[1].type = RAFT_VOTER_INCOMING; /* Nobody in the old half. */
    EXPECT_FALSE(raft__conf_valid(&c));
}

TEST(progress, messages_and_bytes_in_flight_are_bounded)
{
    struct raft__progress p;

    raft__progress_init(&p, 10);
    EXPECT_FALSE(raft__progress_paused(&p));
    p.match = 10;
    raft__progress_replicate(&p);
    for (uint64_t i = 0; i < RAFT_INFLIGHT_MSGS_MAX; i++) {
        EXPECT_FALSE(raft__progress_paused(&p));
        raft__progress_sent(&p, 11 + i, 1);
    }
    EXPECT_TRUE(raft__progress_paused(&p));
    EXPECT_TRUE(raft__progress_ack(&p, 11));
    EXPECT_FALSE(raft__progress_paused(&p));
    EXPECT_FALSE(raft__progress_ack(&p, 11)); /* Nothing new. */

    EXPECT_TRUE(raft__progress_ack(&p, 10 + RAFT_INFLIGHT_MSGS_MAX));
    raft__progress_sent(&p, p.next, RAFT_INFLIGHT_BYTES_MAX - 1);
    EXPECT_FALSE(raft__progress_paused(&p));
    raft__progress_sent(&p, p.next, 1);
    EXPECT_TRUE(raft__progress_paused(&p));
    EXPECT_TRUE(raft__progress_ack(&p, p.next - 1));
    EXPECT_FALSE(raft__progress_paused(&p));
    raft__progress_deinit(&p);
}

TEST(progress, stale_rejects_are_ignored)
{
    struct raft__progress p;

    raft__progress_init(&p, 10);
    EXPECT_FALSE(raft__progress_reject(&p, 9, 5)); /* We asked about 10. */
    EXPECT_TRUE(raft__progress_reject(&p, 10, 5));
    EXPECT_EQ(6, p.next);
    EXPECT_TRUE(raft__progress_reject(&p, 5, 9)); /* Never forward. */
    EXPECT_EQ(5, p.next);
    EXPECT_TRUE(raft__progress_ack(&p, 4));
    raft__progress_replicate(&p);
    EXPECT_FALSE(raft__progress_reject(&p, 4, 0)); /* It acknowledged 4 already. */
    EXPECT_TRUE(raft__progress_reject(&p, 6, 0));
    EXPECT_EQ(RAFT_PROGRESS_PROBE, p.state);
    EXPECT_EQ(5, p.next);
    raft__progress_snapshot(&p, 20);
    EXPECT_TRUE(raft__progress_paused(&p));
    EXPECT_FALSE(raft__progress_reject(&p, 4, 0));
    raft__progress_probe(&p);
    EXPECT_EQ(21, p.next); /* It has at least the snapshot. */
    raft__progress_deinit(&p);
}

static bool live_for(void *ctx, store_id store, uint64_t *epoch_out)
{
    UNUSED(ctx);
    UNUSED(store);
    *epoch_out = 1;
    return true;
}

static void live_from(void *ctx, store_id store, uint64_t *epoch_out, struct hts *expiration_out)
{
    UNUSED(ctx);
    UNUSED(store);
    *epoch_out = 1;
    *expiration_out = hts_ms(1000);
}

static struct raft_entry entry(uint64_t index, uint64_t term, const char *text)
{
    return (struct raft_entry){index, term, RAFT_ENTRY_NORMAL, blob_copy(bytes_str(text))};
}

/* What a Ready lends stays as it was until raft_advance(), whatever happens to the log meanwhile. */
TEST(log, a_lent_ready_survives_a_rewrite_of_the_log)
{
    const struct raft_view v = {NULL, live_for, live_from, hts_ms(10)};
    struct raft_options o = {.self = {1},
                             .store = {1},
                             .view = &v,
                             .election_ticks = 5,
                             .heartbeat_ticks = 1,
                             .conf = {.count = 3}};
    struct raft_entry old[2] = {entry(1, 1, "old1"), entry(2, 1, "old2")};
    struct raft_entry new[1] = {entry(1, 2, "new1")};
    struct raft_msg m = {.type = RAFT_MSG_APP,
                         .from = {2},
                         .to = {1},
                         .term = 1,
                         .entries = old,
                         .entries_count = 2};
    struct raft_ready rd;
    struct raft_mark first;
    struct raft *r = NULL;

    for (uint32_t i = 0; i < 3; i++) {
        o.conf.peers[i] = (struct raft_peer){{i + 1}, {i + 1}, RAFT_VOTER};
    }
    EXPECT_OK(raft_create(&o, &r));
    EXPECT_OK(raft_step(r, &m));
    raft_ready(r, &rd);
    first = rd.mark;
    EXPECT_EQ(2, rd.entries_count);

    m.from.v = 3;
    m.term = 2;
    m.entries = new;
    m.entries_count = 1;
    EXPECT_OK(raft_step(r, &m));
    EXPECT_BYTES_EQ(BYTES_LIT("old1"), blob_bytes(rd.entries[0].payload));
    EXPECT_BYTES_EQ(BYTES_LIT("old2"), blob_bytes(rd.entries[1].payload));
    raft_advance(r);

    raft_ready(r, &rd);
    EXPECT_EQ(1, rd.entries_count);
    EXPECT_BYTES_EQ(BYTES_LIT("new1"), blob_bytes(rd.entries[0].payload));
    EXPECT_EQ(2, rd.stale_first);
    EXPECT_EQ(2, rd.stale_last);
    raft_advance(r);
    raft_append_done(r, first);
    EXPECT_EQ(0, raft_get_state(r).stable); /* The first write proves nothing any more. */
    raft_append_done(r, rd.mark);
    EXPECT_EQ(1, raft_get_state(r).stable);
    raft_destroy(r);
    blob_release(old[0].payload);
    blob_release(old[1].payload);
    blob_release(new[0].payload);
}

/* A replica with a log of two entries of term 1, the second a configuration change, all durable. */
struct stored {
    struct raft_entry entries[2];
};

static uint64_t stored_term(void *ctx, uint64_t index)
{
    UNUSED(ctx);
    return index <= 2 ? 1 : 0;
}

static struct status stored_entries(void *ctx, uint64_t lo, uint32_t max, size_t bytes_max,
                                    struct raft_entry *out, uint32_t *count_out)
{
    const struct stored *s = ctx;

    UNUSED(bytes_max);
    for (*count_out = 0; lo <= 2 && *count_out < max; lo++) {
        out[(*count_out)++] = s->entries[lo - 1];
    }
    return OK;
}

/* Somebody else's vote message tells what is committed; what is committed but not applied forbids to
 * campaign when a configuration change is among it. */
TEST(election, commit_indexes_travel_with_votes_and_unapplied_changes_forbid_to_campaign)
{
    const struct raft_view v = {NULL, live_for, live_from, hts_ms(10)};
    struct stored disk = {{{1, 1, RAFT_ENTRY_NORMAL, NULL}, {2, 1, RAFT_ENTRY_CONF, NULL}}};
    struct raft_options o = {.self = {1},
                             .store = {1},
                             .view = &v,
                             .hard_state = {.term = 1},
                             .last_index = 2,
                             .log = {&disk, stored_term, stored_entries},
                             .election_ticks = 5,
                             .heartbeat_ticks = 1,
                             .conf = {.count = 3}};
    struct raft_msg m = {.type = RAFT_MSG_PRE_VOTE,
                         .from = {2},
                         .to = {1},
                         .term = 2,
                         .index = 1,
                         .log_term = 1,
                         .commit = 2,
                         .hint_term = 3};
    struct raft_ready rd;
    struct raft *r = NULL;

    for (uint32_t i = 0; i < 3; i++) {
        o.conf.peers[i] = (struct raft_peer){{i + 1}, {i + 1}, RAFT_VOTER};
    }
    EXPECT_OK(raft_create(&o, &r));
    EXPECT_OK(raft_step(r, &m));
    EXPECT_EQ(0, raft_get_state(r).commit); /* Another entry is committed there. */
    m.hint_term = 1;
    EXPECT_OK(raft_step(r, &m));
    EXPECT_EQ(2, raft_get_state(r).commit);

    raft_campaign(r);
    EXPECT_EQ(RAFT_FOLLOWER, raft_get_state(r).role);
    raft_ready(r, &rd);
    EXPECT_EQ(2, rd.apply_upto);
    EXPECT_EQ(2, rd.msgs_now_count + rd.msgs_after_append_count);
    EXPECT_TRUE(rd.msgs_now[0].reject); /* Its log is shorter than ours. */
    raft_advance(r);
    raft_apply_done(r, 2);
    raft_campaign(r);
    EXPECT_EQ(RAFT_PRE_CANDIDATE, raft_get_state(r).role);
    raft_destroy(r);
}

TEST(log, entries_are_read_for_applying_and_not_beyond)
{
    const struct raft_view v = {NULL, live_for, live_from, hts_ms(10)};
    const struct raft_options o = {.self = {1},
                                   .store = {1},
                                   .view = &v,
                                   .election_ticks = 5,
                                   .heartbeat_ticks = 1,
                                   .conf = {.peers = {{{1}, {1}, RAFT_VOTER}}, .count = 1}};
    struct raft_entry e[3];
    struct raft_entry got[3];
    struct raft_ready rd;
    uint32_t count = 0;
    struct raft *r = NULL;

    EXPECT_OK(raft_create(&o, &r));
    raft_campaign(r);
    raft_ready(r, &rd);
    raft_advance(r);
    raft_append_done(r, rd.mark);
    for (uint32_t i = 0; i < 3; i++) {
        e[i] = entry(0, 0, i == 0 ? "a" : i == 1 ? "b" : "c");
    }
    EXPECT_OK(raft_propose(r, e, 3));
    EXPECT_OK(raft_read_entries(r, 1, 3, 2, got, &count));
    EXPECT_EQ(2, count);
    EXPECT_BYTES_EQ(BYTES_LIT("b"), blob_bytes(got[1].payload));
    blob_release(got[0].payload);
    blob_release(got[1].payload);
    EXPECT_CODE(STATUS_NOT_FOUND, raft_read_entries(r, 0, 1, 2, got, &count));
    EXPECT_CODE(STATUS_NOT_FOUND, raft_read_entries(r, 3, 4, 2, got, &count));

    raft_cache_release(r, 3); /* Nothing is applied yet: all of it stays. */
    EXPECT_OK(raft_read_entries(r, 1, 1, 1, got, &count));
    blob_release(got[0].payload);
    raft_destroy(r);
}
