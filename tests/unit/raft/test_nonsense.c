/*
 * test_nonsense.c -- messages that no replica ever sent. The core may do anything but stop, loop or
 * touch memory that is not its own: what peers send is decoded elsewhere, but its values are foreign.
 */
#include <stdlib.h>

#include "node/base/blob.h"
#include "node/base/hash.h"
#include "node/base/invariant.h"
#include "node/raft/raft.h"
#include "tests/lib/test.h"

#define RUNS  400u
#define STEPS 400u
#define MARKS 64u

struct world {
    struct rng rng;
    struct raft_view view;
};

/* Whether it was accepted or refused does not matter here. */
static void any_answer(struct status st)
{
    UNUSED(st);
}

static bool moody_for(void *ctx, store_id store, uint64_t *epoch_out)
{
    struct world *w = ctx;

    *epoch_out = 1 + rng_below(&w->rng, 2);
    return (store.v + rng_below(&w->rng, 3)) % 3 != 0;
}

static void moody_from(void *ctx, store_id store, uint64_t *epoch_out, struct hts *expiration_out)
{
    struct world *w = ctx;

    UNUSED(store);
    *epoch_out = rng_below(&w->rng, 3);
    *expiration_out = hts_ms(rng_below(&w->rng, 2000));
}

/* Mostly small numbers, so that they meet; sometimes absurd ones. */
static uint64_t any_number(struct world *w)
{
    static const uint64_t edges[] = {0,          UINT64_MAX,        UINT64_MAX - 1,
                                     UINT32_MAX, (uint64_t)1 << 62, ((uint64_t)1 << 62) + 1};

    return rng_below(&w->rng, 60) == 0 ? edges[rng_below(&w->rng, ARRAY_COUNT(edges))]
                                       : rng_below(&w->rng, 12);
}

static void throw_message(struct world *w, struct raft *r)
{
    const struct raft_state st = raft_get_state(r);
    struct raft_entry entries[4];
    struct raft_conf conf;
    struct raft_msg m;

    memset(&m, 0, sizeof(m));
    memset(&conf, 0, sizeof(conf));
    m.type = (enum raft_msg_type)rng_below(&w->rng, 14);
    m.from.v = (uint32_t)rng_below(&w->rng, 5);
    m.to.v = rng_below(&w->rng, 30) == 0 ? 2 : 1;
    m.term = rng_below(&w->rng, 3) == 0 ? any_number(w) : st.term + rng_below(&w->rng, 2);
    m.index = rng_below(&w->rng, 2) == 0 ? any_number(w) : st.last;
    m.log_term = rng_below(&w->rng, 2) == 0 ? any_number(w) : st.term;
    m.commit = any_number(w);
    m.match = any_number(w);
    m.hint_index = any_number(w);
    m.hint_term = any_number(w);
    m.support_epoch = any_number(w);
    m.truncate_hint = any_number(w);
    m.reject = rng_below(&w->rng, 3) == 0;
    m.transfer = rng_below(&w->rng, 3) == 0;
    m.entries_count = (uint32_t)rng_below(&w->rng, ARRAY_COUNT(entries));
    m.entries = rng_below(&w->rng, 40) == 0 ? NULL : entries;
    for (uint32_t i = 0; i < m.entries_count; i++) {
        entries[i] = (struct raft_entry){
            .index = rng_below(&w->rng, 20) == 0 ? any_number(w) : m.index + 1 + i,
            .term = rng_below(&w->rng, 4) == 0 ? any_number(w) : m.log_term + i % 2,
            .kind = (enum raft_entry_kind)rng_below(&w->rng, 3),
            .payload = blob_copy(BYTES_LIT("x")),
        };
    }
    conf.count = (uint32_t)rng_below(&w->rng, 5);
    for (uint32_t i = 0; i < conf.count; i++) {
        conf.peers[i] = (struct raft_peer){{i + (uint32_t)rng_below(&w->rng, 2)},
                                           {i + 1},
                                           (enum raft_peer_type)rng_below(&w->rng, 4)};
    }
    m.conf = rng_below(&w->rng, 4) == 0 ? NULL : &conf;
    any_answer(raft_step(r, &m));
    for (uint32_t i = 0; i < m.entries_count; i++) {
        blob_release(entries[i].payload);
    }
}

/* The owner goes on as always: takes Readys, completes marks later and in order. */
static void run_owner(struct world *w, struct raft *r, struct raft_mark *marks, uint32_t *count)
{
    struct raft_ready rd;

    if (raft_has_ready(r) && *count < MARKS) {
        raft_ready(r, &rd);
        if (rd.has_mark) {
            marks[(*count)++] = rd.mark;
        }
        raft_advance(r);
        if (rd.apply_upto > rd.apply_after && rng_below(&w->rng, 2) == 0) {
            raft_apply_done(r, rd.apply_upto);
        }
    }
    if (*count > 0 && rng_below(&w->rng, 2) == 0) {
        raft_append_done(r, marks[0]);
        (*count)--;
        memmove(marks, marks + 1, *count * sizeof(marks[0]));
    }
}

static uint64_t no_term(void *ctx, uint64_t index)
{
    UNUSED(ctx);
    UNUSED(index);
    return 0;
}

static struct status no_entries(void *ctx, uint64_t lo, uint32_t max, size_t bytes_max,
                                struct raft_entry *out, uint32_t *count_out)
{
    UNUSED(ctx);
    UNUSED(lo);
    UNUSED(max);
    UNUSED(bytes_max);
    UNUSED(out);
    *count_out = 0;
    return FAIL(STATUS_NOT_FOUND, "nothing stored");
}

static uint32_t one_run(uint64_t seed)
{
    struct world w;
    struct raft_options o = {
        .self = {1},
        .store = {1},
        .log = {NULL, no_term, no_entries},
        .election_ticks = 3,
        .election_jitter_ticks = 2,
        .heartbeat_ticks = 1,
        .seed = seed,
    };
    struct raft_mark marks[MARKS];
    uint32_t marks_count = 0;
    uint32_t led = 0;
    struct raft *r = NULL;

    rng_seed(&w.rng, seed);
    w.view = (struct raft_view){&w, moody_for, moody_from, HTS_ZERO};
    o.view = &w.view;
    for (uint32_t i = 0; i < 3; i++) {
        o.conf.peers[i] = (struct raft_peer){{i + 1}, {i + 1}, RAFT_VOTER};
    }
    o.conf.count = 3;
    INVARIANT(status_ok(raft_create(&o, &r)));
    for (uint32_t i = 0; i < STEPS; i++) {
        struct raft_entry e = {.kind = (enum raft_entry_kind)rng_below(&w.rng, 2)};

        w.view.now = hts_ms(i * 10);
        throw_message(&w, r);
        run_owner(&w, r, marks, &marks_count);
        if (rng_below(&w.rng, 4) == 0) {
            raft_tick(r);
        }
        if (rng_below(&w.rng, 8) == 0) {
            raft_campaign(r);
        }
        any_answer(raft_propose(r, &e, 1));
        any_answer(raft_transfer_begin(r, (replica_id){2}));
        any_answer(raft_propose_revoke(r, &e));
        any_answer(raft_transfer_finish(r));
        raft_transfer_abort(r);
        raft_report_snapshot(r, (replica_id){(uint32_t)rng_below(&w.rng, 5)}, i % 2 == 0);
        raft_report_unreachable(r, (replica_id){(uint32_t)rng_below(&w.rng, 5)});
        raft_support_changed(r, (store_id){(uint32_t)rng_below(&w.rng, 5)});
        (void)raft_lead_support_until(r);
        (void)raft_quiet(r);
        (void)raft_truncate_hint(r);
        led += raft_get_state(r).role == RAFT_LEADER ? 1 : 0;
    }
    raft_destroy(r);
    return led;
}

TEST(nonsense, from_peers_never_stops_the_core)
{
    uint32_t led = 0;

    for (uint64_t seed = 1; seed <= RUNS; seed++) {
        led += one_run(seed);
    }
    EXPECT_TRUE(led > RUNS); /* The leader's side was exercised as well. */
}
