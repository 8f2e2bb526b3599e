/*
 * test_life.c -- creating, the single voter, proposals and their limits.
 */
#include <stdlib.h>

#include "node/raft/raft.h"
#include "tests/lib/test.h"

/* A store that everybody supports for ever. */
static bool always_for(void *ctx, store_id store, uint64_t *epoch_out)
{
    UNUSED(ctx);
    UNUSED(store);
    *epoch_out = 1;
    return true;
}

static void always_from(void *ctx, store_id store, uint64_t *epoch_out, struct hts *expiration_out)
{
    UNUSED(ctx);
    UNUSED(store);
    *epoch_out = 1;
    *expiration_out = hts_ms(1000);
}

static struct raft_view always(void)
{
    return (struct raft_view){NULL, always_for, always_from, hts_ms(10)};
}

static struct raft_options options(const struct raft_view *v, uint32_t peers)
{
    struct raft_options o = {
        .self = {1},
        .store = {1},
        .view = v,
        .election_ticks = 4,
        .election_jitter_ticks = 4,
        .heartbeat_ticks = 1,
        .seed = 1,
    };

    for (uint32_t i = 0; i < peers; i++) {
        o.conf.peers[i] = (struct raft_peer){{i + 1}, {i + 1}, RAFT_VOTER};
    }
    o.conf.count = peers;
    return o;
}

static void settle(struct raft *r)
{
    while (raft_has_ready(r)) {
        struct raft_ready rd;

        raft_ready(r, &rd);
        if (rd.has_mark) {
            raft_append_done(r, rd.mark);
        }
        if (rd.apply_upto > rd.apply_after) {
            raft_apply_done(r, rd.apply_upto);
        }
        raft_advance(r);
    }
}

TEST(raft, a_single_voter_elects_itself_and_commits)
{
    const struct raft_view v = always();
    const struct raft_options o = options(&v, 1);
    struct raft_entry e = {.kind = RAFT_ENTRY_NORMAL};
    struct raft_ready rd;
    struct raft *r = NULL;

    EXPECT_OK(raft_create(&o, &r));
    raft_campaign(r);
    raft_ready(r, &rd);
    EXPECT_TRUE(rd.must_sync);
    EXPECT_TRUE(rd.has_mark);
    EXPECT_EQ(1, rd.hard_state.vote.v);
    raft_advance(r);
    EXPECT_EQ(RAFT_CANDIDATE, raft_get_state(r).role); /* Its own vote is not durable yet. */
    raft_append_done(r, rd.mark);
    EXPECT_EQ(RAFT_LEADER, raft_get_state(r).role);
    raft_ready(r, &rd);
    EXPECT_TRUE(rd.role_changed);
    raft_advance(r);

    EXPECT_OK(raft_propose(r, &e, 1));
    EXPECT_EQ(1, e.index);
    EXPECT_EQ(1, e.term);
    raft_ready(r, &rd);
    EXPECT_EQ(1, rd.entries_count);
    EXPECT_EQ(rd.apply_after, rd.apply_upto);
    raft_advance(r);
    raft_append_done(r, rd.mark);
    EXPECT_EQ(1, raft_get_state(r).commit);
    raft_ready(r, &rd);
    EXPECT_EQ(0, rd.apply_after);
    EXPECT_EQ(1, rd.apply_upto);
    raft_advance(r);
    EXPECT_FALSE(raft_quiet(r));
    raft_apply_done(r, 1);
    settle(r);
    EXPECT_TRUE(raft_quiet(r));
    EXPECT_HTS_EQ(hts_ms(1000), raft_lead_support_until(r));
    raft_destroy(r);
}

TEST(raft, options_that_contradict_themselves_are_refused)
{
    const struct raft_view v = always();
    struct raft_options o = options(&v, 3);
    struct raft *r = NULL;

    o.applied_index = 1; /* Above last_index. */
    EXPECT_CODE(STATUS_INVALID, raft_create(&o, &r));
    o = options(&v, 3);
    o.conf.peers[1].id.v = 1; /* Twice. */
    EXPECT_CODE(STATUS_INVALID, raft_create(&o, &r));
    o = options(&v, 3);
    o.view = NULL;
    EXPECT_CODE(STATUS_INVALID, raft_create(&o, &r));
    o = options(&v, 3);
    o.hard_state.commit = 1;
    EXPECT_CODE(STATUS_INVALID, raft_create(&o, &r));
    o = options(&v, 3);
    o.last_index = 1; /* No reader. */
    EXPECT_CODE(STATUS_INVALID, raft_create(&o, &r));
    raft_destroy(NULL);
}

TEST(raft, an_uninitialised_replica_never_campaigns)
{
    const struct raft_view v = always();
    const struct raft_options o = options(&v, 0);
    struct raft *r = NULL;

    EXPECT_OK(raft_create(&o, &r));
    raft_campaign(r);
    for (int i = 0; i < 100; i++) {
        raft_tick(r);
    }
    EXPECT_EQ(RAFT_FOLLOWER, raft_get_state(r).role);
    EXPECT_EQ(0, raft_get_state(r).term);
    raft_destroy(r);
}

TEST(raft, proposals_are_limited_and_refused_by_name)
{
    const struct raft_view v = always();
    const struct raft_options o = options(&v, 1);
    struct raft_entry conf[2] = {{.kind = RAFT_ENTRY_CONF}, {.kind = RAFT_ENTRY_CONF}};
    struct raft_entry e = {.kind = RAFT_ENTRY_NORMAL};
    struct raft *r = NULL;

    EXPECT_OK(raft_create(&o, &r));
    EXPECT_CODE(STATUS_NOT_LEADER, raft_propose(r, &e, 1));
    raft_campaign(r);
    settle(r);
    EXPECT_CODE(STATUS_INVALID, raft_propose(r, &e, 0));
    EXPECT_CODE(STATUS_NOT_PROPOSED, raft_propose(r, conf, 2));
    EXPECT_OK(raft_propose(r, conf, 1));
    EXPECT_CODE(STATUS_NOT_PROPOSED, raft_propose(r, conf, 1));
    settle(r);
    EXPECT_OK(raft_propose(r, conf, 1));

    /* One entry may always pass; the next waits until it is committed. */
    e.payload = blob_alloc((uint32_t)RAFT_UNCOMMITTED_BYTES_MAX);
    EXPECT_OK(raft_propose(r, &e, 1));
    e.payload = blob_alloc(1);
    EXPECT_CODE(STATUS_OVERLOADED, raft_propose(r, &e, 1));

    /* A leader of a later term inherits the tail, and its first entry, which commits it, may pass. */
    EXPECT_OK(raft_step(r, &(struct raft_msg){.type = RAFT_MSG_APP,
                                              .from = {2},
                                              .to = {1},
                                              .term = raft_get_state(r).term + 1,
                                              .index = 1u << 20,
                                              .log_term = 1}));
    EXPECT_EQ(RAFT_FOLLOWER, raft_get_state(r).role);
    raft_campaign(r);
    settle(r);
    EXPECT_EQ(RAFT_LEADER, raft_get_state(r).role);
    EXPECT_TRUE(raft_get_state(r).commit < raft_get_state(r).last);
    EXPECT_OK(raft_propose(r, &e, 1));
    e.payload = blob_alloc(1);
    EXPECT_CODE(STATUS_OVERLOADED, raft_propose(r, &e, 1));
    settle(r);
    EXPECT_OK(raft_propose(r, &e, 1));
    raft_destroy(r);
}
