/* Promises about the past: in the log and aside, over restarts and leases; and who reads by them. */
#include <stdlib.h>

#include "node/base/invariant.h"
#include "node/range/closed/resolved.h"
#include "node/range/internal.h"
#include "tests/unit/range/cluster.h"

#define KEY "\x88k\x88"

/* ---- the tracker -------------------------------------------------------------------------------- */

/* A write that is not appended yet holds the promise just below itself. */
TEST(closed, is_held_back_by_a_write_under_evaluation)
{
    struct closed_ts c;
    struct closed_write a = {0};
    struct closed_write b = {0};

    closed_init(&c);
    EXPECT_HTS_EQ(HTS_MAX, closed_low(&c));
    closed_track(&c, &a, hts_ms(6500));
    closed_track(&c, &b, hts_ms(6500)); /* Another one of the same time. */
    EXPECT_HTS_EQ(hts_prev(hts_ms(6500)), closed_assign(&c, hts_ms(7000), hts_ms(9000)));
    closed_untrack(&a);
    EXPECT_HTS_EQ(hts_prev(hts_ms(6500)), closed_assign(&c, hts_ms(7000), hts_ms(9000)));
    closed_untrack(&b);
    closed_untrack(&b); /* Twice is harmless. */
    EXPECT_HTS_EQ(hts_ms(7000), closed_assign(&c, hts_ms(7000), hts_ms(9000)));
}

/* A write may be moved up; the promise follows. */
TEST(closed, follows_a_write_that_moves)
{
    struct closed_ts c;
    struct closed_write a = {0};

    closed_init(&c);
    closed_track(&c, &a, hts_ms(10));
    closed_track(&c, &a, hts_ms(20));
    EXPECT_HTS_EQ(hts_ms(20), closed_low(&c));
    EXPECT_HTS_EQ(hts_prev(hts_ms(20)), closed_assign(&c, hts_ms(30), hts_ms(90)));
    closed_untrack(&a);
    EXPECT_EQ(0, c.writes.count);
}

/* Whoever is elected next starts at LSU: nothing at or above it is ours to promise. */
TEST(closed, stays_below_what_the_voters_have_promised)
{
    struct closed_ts c;

    closed_init(&c);
    EXPECT_HTS_EQ(hts_prev(hts_ms(50)), closed_assign(&c, hts_ms(70), hts_ms(50)));
    EXPECT_HTS_EQ(hts_prev(hts_ms(50)), closed_assign(&c, hts_ms(70), HTS_ZERO)); /* Never falls. */
    EXPECT_HTS_EQ(hts_prev(hts_ms(50)), closed_assign(&c, hts_ms(10), hts_ms(90)));
}

/* Against a plain list: a promise never passes a tracked write, and never falls. */
TEST(closed, never_passes_a_write)
{
    struct closed_ts c;
    struct closed_write w[40];
    struct hts before = HTS_ZERO;
    struct rng rng;

    memset(w, 0, sizeof(w));
    rng_seed(&rng, 3);
    closed_init(&c);
    for (uint64_t now = 1000; now < 9000; now++) {
        struct closed_write *x = &w[rng_below(&rng, ARRAY_COUNT(w))];
        struct hts low = HTS_MAX;
        struct hts promise;

        if (x->in != NULL && rng_permille(&rng, 700)) {
            closed_untrack(x);
        } else {
            closed_track(&c, x, hts_max(hts_next(c.assigned), hts_ms(now - rng_below(&rng, 500))));
        }
        for (size_t i = 0; i < ARRAY_COUNT(w); i++) {
            low = w[i].in != NULL ? hts_min(low, w[i].ts) : low;
        }
        EXPECT_HTS_EQ(low, closed_low(&c));
        promise = closed_assign(&c, hts_ms(now - 300), HTS_MAX);
        EXPECT_TRUE(hts_less(promise, low));
        EXPECT_TRUE(hts_less_eq(before, promise));
        before = promise;
    }
}

/* ---- stores ------------------------------------------------------------------------------------- */

static void start(struct cluster *c)
{
    cluster_start_with(c, 3,
                       (struct cluster_options){.closed_lag_ms = 300, .side_interval_ms = 50});
    INVARIANT(cluster_put(c, 0, KEY, "v1") == STATUS_OK);
    INVARIANT(cluster_add_voter(c, 0, 1) == STATUS_OK);
    INVARIANT(cluster_add_voter(c, 0, 2) == STATUS_OK);
    cluster_run_ms(c, 500);
}

static struct replica *replica_of(struct cluster *c, uint32_t i)
{
    return store__find(c->nodes[i].store, (range_id){RANGE_FIRST_ID});
}

static struct hts closed_of(struct cluster *c, uint32_t i)
{
    return closed__effective(replica_of(c, i));
}

static struct hts now_of(struct cluster *c, uint32_t i)
{
    return hclock_hts(hlc_now(&c->nodes[i].hlc));
}

/* How far node i's replica is behind its clock. */
static uint64_t behind_ms(struct cluster *c, uint32_t i)
{
    return (now_of(c, i).wall - closed_of(c, i).wall) / 1000000;
}

/* Idle: nothing of Raft moves, and yet all replicas follow the clock. */
TEST(closed, advances_on_idle_ranges_without_waking_them)
{
    struct cluster c;
    uint64_t index = 0;

    start(&c);
    cluster_run_ms(&c, 6000);
    index = replica_of(&c, 0)->applied.index;
    for (int i = 0; i < 40; i++) {
        cluster_run_ms(&c, 100);
        for (uint32_t n = 0; n < 3; n++) {
            EXPECT_TRUE(behind_ms(&c, n) <= 300 + 50 + 10);
            EXPECT_TRUE(behind_ms(&c, n) >= 300);
            EXPECT_TRUE(list_empty(&replica_of(&c, n)->awake_link));
        }
    }
    EXPECT_EQ(index, replica_of(&c, 0)->applied.index);
    cluster_stop(&c);
}

/* Busy: the log carries it. */
TEST(closed, advances_with_writes)
{
    struct cluster c;

    start(&c);
    c.filter = cluster_drop_closed;
    for (int i = 0; i < 30; i++) {
        EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, KEY, "v2"));
        cluster_run_ms(&c, 30);
    }
    EXPECT_TRUE(behind_ms(&c, 1) <= 450);
    EXPECT_HTS_EQ(replica_of(&c, 1)->applied.closed_ts, closed_of(&c, 1));
    EXPECT_HTS_EQ(replica_of(&c, 0)->applied.closed_ts, replica_of(&c, 2)->applied.closed_ts);
    cluster_stop(&c);
}

/* A message that is lost may have taken a range out: nothing moves before all has been repeated. */
TEST(closed, a_gap_stops_a_stream_until_it_is_repeated)
{
    struct cluster c;
    struct hts before;
    struct side_stats stats;

    start(&c);
    c.filter = cluster_drop_closed;
    cluster_run_ms(&c, 60);
    before = closed_of(&c, 1);
    cluster_run_ms(&c, 1000);
    EXPECT_HTS_EQ(before, closed_of(&c, 1));
    c.filter = NULL;
    cluster_run_ms(&c, 200);
    EXPECT_TRUE(behind_ms(&c, 1) <= 360);
    side__get_stats(c.nodes[1].store, &stats);
    EXPECT_TRUE(stats.gaps > 0);
    cluster_stop(&c);
}

/* While a write is on its way nothing is closed at or above it, by nobody. */
TEST(closed, waits_for_a_write_on_its_way)
{
    struct cluster c;
    struct proposal *p = NULL;
    struct hts ts;

    start(&c);
    p = proposal__create(NULL, 0);
    ts = hts_next(closed__assigned(replica_of(&c, 0)));
    closed__track(replica_of(&c, 0), p, ts);
    cluster_run_ms(&c, 1000);
    for (uint32_t n = 0; n < 3; n++) {
        EXPECT_TRUE(hts_less(closed_of(&c, n), ts));
    }
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, KEY, "v2"));
    cluster_run_ms(&c, 100);
    EXPECT_HTS_EQ(hts_prev(ts), closed_of(&c, 1));
    proposal__free(p); /* Given up. */
    cluster_run_ms(&c, 200);
    EXPECT_TRUE(behind_ms(&c, 1) <= 360);
    cluster_stop(&c);
}

/* What was promised stands after a restart of everybody, as far as the log has it. */
TEST(closed, survives_restarts_in_the_log)
{
    struct cluster c;
    struct hts logged;

    start(&c);
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, KEY, "v2"));
    cluster_run_ms(&c, 100);
    logged = replica_of(&c, 1)->applied.closed_ts;
    EXPECT_FALSE(hts_is_zero(logged));
    for (uint32_t i = 0; i < 3; i++) {
        cluster_crash(&c, i, 1000);
    }
    for (uint32_t i = 0; i < 3; i++) {
        cluster_restart(&c, i);
    }
    EXPECT_HTS_EQ(logged, closed_of(&c, 1));
    cluster_run_ms(&c, 8000);
    EXPECT_TRUE(cluster_leaseholder(&c) >= 0);
    for (uint32_t n = 0; n < 3; n++) {
        EXPECT_TRUE(behind_ms(&c, n) <= 360);
    }
    cluster_stop(&c);
}

/* Never falls, whoever leads; and a new leader goes on soon. */
TEST(closed, goes_on_over_leases)
{
    struct cluster c;
    struct hts before[3] = {{0}};

    start(&c);
    for (uint32_t round = 0; round < 6; round++) {
        const int at = cluster_wait_leaseholder(&c);
        const uint32_t to = ((uint32_t)at + 1) % 3;

        EXPECT_TRUE(at >= 0);
        (void)cluster_put(&c, (uint32_t)at, KEY, "v");
        EXPECT_EQ(STATUS_OK, cluster_transfer(&c, (uint32_t)at, to));
        for (int i = 0; i < 20; i++) {
            cluster_run_ms(&c, 30);
            for (uint32_t n = 0; n < 3; n++) {
                EXPECT_TRUE(hts_less_eq(before[n], closed_of(&c, n)));
                before[n] = closed_of(&c, n);
            }
        }
        EXPECT_TRUE(behind_ms(&c, (uint32_t)at) <= 400);
    }
    EXPECT_EQ(0, fake_world_errors_logged(c.world));
    cluster_stop(&c);
}

/* Who is cut off promises nothing at or above the time from which another may lead. */
TEST(closed, of_a_lost_leader_stays_below_the_next_lease)
{
    struct cluster c;
    struct hts start_ts;
    int at = -1;

    start(&c);
    c.nodes[0].cut = true;
    cluster_run_ms(&c, 6000);
    at = cluster_leaseholder(&c);
    EXPECT_TRUE(at > 0);
    start_ts = replica_of(&c, (uint32_t)at)->applied.lease_start_ts;
    EXPECT_TRUE(hts_less(closed_of(&c, 0), start_ts));
    EXPECT_TRUE(hts_less(hts_add_ns(closed_of(&c, 0), 300000000), now_of(&c, 0)));
    EXPECT_TRUE(hts_less(start_ts, closed_of(&c, (uint32_t)at)));
    c.nodes[0].cut = false;
    cluster_run_ms(&c, 3000);
    EXPECT_TRUE(behind_ms(&c, 0) <= 360);
    cluster_stop(&c);
}

/* A follower that was away hears everything again; one that never had the range learns of it. */
TEST(closed, a_follower_that_returns_is_told_everything)
{
    struct cluster c;

    start(&c);
    cluster_crash(&c, 2, 1000);
    cluster_run_ms(&c, 3000);
    cluster_restart(&c, 2);
    cluster_run_ms(&c, 8000);
    EXPECT_TRUE(behind_ms(&c, 2) <= 360);
    EXPECT_EQ(STATUS_OK, cluster_remove(&c, 0, 1));
    cluster_run_ms(&c, 1000);
    EXPECT_EQ(STATUS_OK, cluster_add_voter(&c, 0, 1));
    cluster_run_ms(&c, 1000);
    EXPECT_TRUE(behind_ms(&c, 1) <= 360);
    cluster_stop(&c);
}

/* Intents wanted in the settled past are laid above it. */
TEST(closed, moves_late_writes_up)
{
    struct cluster c;
    struct cluster_call call = {
        .one = {.op = RANGE_OP_PUT, .key = bytes_str(KEY), .value = BYTES_LIT("p")},
        .batch = {.intents = true, .txn = {.id = {{1}}, .anchor = bytes_str(KEY)}}};
    struct hts closed;

    start(&c);
    closed = closed_of(&c, 0);
    call.node = &c.nodes[0];
    call.batch.read_ts = hts_prev(closed);
    call.batch.txn.min_ts = hts_prev(closed);
    call.batch.txn.write_ts = hts_prev(closed);
    cluster_call_start(&call);
    EXPECT_TRUE(cluster_call_wait(&call, 1000));
    EXPECT_OK(call.st);
    EXPECT_TRUE(hts_less(closed, call.result.commit_ts));
    EXPECT_TRUE(hts_less(call.result.commit_ts, hts_add_ns(closed, 100000000)));
    cluster_call_end(&call);
    cluster_stop(&c);
}

/* The probe sees rising timestamps of every replica, and no write that applies at or below one. */
struct watcher {
    struct hts closed[4];
    bool fell;
    uint32_t calls;
};

static void on_closed(void *ctx, store_id s, range_id r, struct hts ts)
{
    struct watcher *w = ctx;

    w->fell = w->fell || (r.v == RANGE_FIRST_ID && !hts_less(w->closed[s.v], ts));
    w->closed[s.v] = ts;
    w->calls++;
}

TEST(closed, is_shown_to_the_probe)
{
    struct cluster c;
    struct watcher w = {0};
    const struct store_probe probe = {.ctx = &w, .closed = on_closed};

    start(&c);
    for (uint32_t i = 0; i < 3; i++) {
        store_set_probe(c.nodes[i].store, &probe);
    }
    for (int i = 0; i < 10; i++) {
        EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, KEY, "v2"));
        cluster_run_ms(&c, 200);
    }
    EXPECT_FALSE(w.fell);
    EXPECT_TRUE(w.calls > 60);
    for (uint32_t n = 0; n < 3; n++) {
        EXPECT_HTS_EQ(w.closed[n + 1], closed_of(&c, n));
    }
    cluster_stop(&c);
}

/* ---- what arrives ------------------------------------------------------------------------------- */

struct side_msg {
    uint64_t incarnation;
    uint64_t seq;
    bool full;
    struct hts closed;
    uint64_t removed[2];
    size_t removed_count;
    uint64_t added[7];
    size_t added_count;
};

/* Hands node 1 (the second) a message as if from store `from`. */
static void tell_second(struct cluster *c, uint32_t from, struct side_msg m)
{
    Dsql__Pb__ClosedSide pb;
    Dsql__Pb__Hts closed;
    uint8_t mem[256];
    const struct cluster_node *n = &c->nodes[1];
    struct rpc_message frame = {.type = RPC_TYPE_CLOSED, .from_store = {from}};

    dsql__pb__closed_side__init(&pb);
    dsql__pb__hts__init(&closed);
    closed.wall = m.closed.wall;
    closed.logical = m.closed.logical;
    pb.incarnation = m.incarnation;
    pb.seq = m.seq;
    pb.full = m.full;
    pb.closed = hts_is_zero(m.closed) ? NULL : &closed;
    pb.removed = m.removed;
    pb.n_removed = m.removed_count;
    pb.added = m.added;
    pb.n_added = m.added_count;
    frame.body = bytes_of(mem, dsql__pb__closed_side__pack(&pb, mem));
    shard_enter(n->shard);
    side__on_message(n->store, &frame);
    shard_leave(n->shard);
}

/* One range, far above the present so that nothing else moves it. Stores 4 and 5 are made up. */
TEST(side, believes_streams_without_gaps_and_higher_terms)
{
    struct cluster c;
    const struct hts base = hts_ms(5000000000000);
    uint64_t index = 0;
    uint64_t term = 0;
    struct side_msg m = {.incarnation = 9, .seq = 1, .full = true, .closed = base};

    start(&c);
    index = replica_of(&c, 1)->applied.index;
    term = raft_get_state(replica_of(&c, 1)->raft).term;
    m.added[0] = RANGE_FIRST_ID;
    m.added[1] = index;
    m.added[2] = term + 1;
    m.added_count = 3;
    tell_second(&c, 4, m);
    EXPECT_HTS_EQ(base, closed_of(&c, 1));

    /* A lower term does not take it away, nor does it count. */
    m.added[2] = term;
    m.closed = hts_add_ns(base, 50);
    tell_second(&c, 5, m);
    EXPECT_HTS_EQ(base, closed_of(&c, 1));

    /* The next in order moves it without naming it; a copy, an older one and one after a gap do not. */
    m = (struct side_msg){.incarnation = 9, .seq = 2, .closed = hts_add_ns(base, 1)};
    tell_second(&c, 4, m);
    EXPECT_HTS_EQ(hts_add_ns(base, 1), closed_of(&c, 1));
    m.closed = hts_add_ns(base, 2);
    tell_second(&c, 4, m);
    m.seq = 4;
    tell_second(&c, 4, m);
    m.incarnation = 8;
    m.seq = 3;
    tell_second(&c, 4, m);
    EXPECT_HTS_EQ(hts_add_ns(base, 1), closed_of(&c, 1));

    /* Repeated from scratch after a restart of the sender, without the range: what was, stays. */
    m = (struct side_msg){.incarnation = 10, .seq = 1, .full = true, .closed = hts_add_ns(base, 3)};
    tell_second(&c, 4, m);
    EXPECT_HTS_EQ(hts_add_ns(base, 1), closed_of(&c, 1));

    /* An index that has not been applied yet waits. */
    m.seq = 2;
    m.full = false;
    m.closed = hts_add_ns(base, 4);
    m.added[0] = RANGE_FIRST_ID;
    m.added[1] = index + 1;
    m.added[2] = term + 1;
    m.added_count = 3;
    tell_second(&c, 4, m);
    EXPECT_HTS_EQ(hts_add_ns(base, 1), closed_of(&c, 1));
    c.filter = cluster_drop_closed;
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, KEY, "v2"));
    cluster_run_ms(&c, 50);
    EXPECT_HTS_EQ(hts_add_ns(base, 4), closed_of(&c, 1));

    /* Removed: the timestamp of this message is not its any more. */
    m = (struct side_msg){.incarnation = 10, .seq = 3, .closed = hts_add_ns(base, 5)};
    m.removed[0] = RANGE_FIRST_ID;
    m.removed[1] = 77; /* Nobody has heard of it. */
    m.removed_count = 2;
    tell_second(&c, 4, m);
    EXPECT_HTS_EQ(hts_add_ns(base, 4), closed_of(&c, 1));
    cluster_stop(&c);
}

TEST(side, drops_what_makes_no_sense)
{
    struct cluster c;
    struct hts before;
    struct side_msg m = {.incarnation = 9, .seq = 1, .full = true, .closed = hts_ms(5000000000000)};
    const struct rpc_message garbage = {
        .type = RPC_TYPE_CLOSED, .from_store = {4}, .body = BYTES_LIT("\xff\xff\xff")};

    start(&c);
    before = closed_of(&c, 1);
    m.added[0] = RANGE_FIRST_ID;
    m.added_count = 2; /* Not a triple. */
    tell_second(&c, 4, m);
    m.added[2] = 100;
    m.added_count = 3;
    m.seq = 0;
    tell_second(&c, 4, m);
    m.seq = 1;
    m.closed = HTS_ZERO;
    tell_second(&c, 4, m);
    shard_enter(c.nodes[1].shard);
    side__on_message(c.nodes[1].store, &garbage);
    shard_leave(c.nodes[1].shard);
    EXPECT_HTS_EQ(before, closed_of(&c, 1));
    cluster_stop(&c);
}

/* ---- readers ------------------------------------------------------------------------------------ */

/* What node i says KEY is at ts, as a follower; "" when absent, NULL when it sends us away. */
static const char *read_at(struct cluster *c, uint32_t i, struct hts ts)
{
    static char out[32];
    struct cluster_call call = {.node = &c->nodes[i],
                                .one = {.op = RANGE_OP_GET, .key = bytes_str(KEY)},
                                .batch = {.read_ts = ts, .follower = true}};
    const char *answer = out;

    cluster_call_start(&call);
    INVARIANT(cluster_call_wait(&call, 10000));
    memset(out, 0, sizeof(out));
    if (!status_ok(call.st)) {
        answer = call.st.code == STATUS_NOT_LEADER ? NULL : "error";
    } else if (call.result.responses[0].found) {
        memcpy(out, call.result.responses[0].value.ptr, call.result.responses[0].value.len);
    }
    cluster_call_end(&call);
    return answer;
}

TEST(follower, reads_what_is_closed_and_nothing_else)
{
    struct cluster c;
    struct hts before;
    struct hts now;

    start(&c);
    before = now_of(&c, 1);
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, KEY, "v2"));
    cluster_run_ms(&c, 10);
    now = now_of(&c, 1);
    EXPECT_TRUE(read_at(&c, 1, before) == NULL); /* Too close to the present. */
    EXPECT_TRUE(read_at(&c, 1, HTS_ZERO) == NULL);
    EXPECT_STREQ("v2", read_at(&c, 0, now)); /* The leaseholder serves whatever it is asked. */
    cluster_run_ms(&c, 500);
    EXPECT_STREQ("v1", read_at(&c, 1, before));
    EXPECT_STREQ("v2", read_at(&c, 2, now));
    EXPECT_STREQ("v2", read_at(&c, 1, closed_of(&c, 1)));
    EXPECT_TRUE(read_at(&c, 1, hts_next(closed_of(&c, 1))) == NULL);
    EXPECT_STREQ("", read_at(&c, 1, hts_ms(2)));
    cluster_stop(&c);
}

/* A cut-off follower goes on serving what it had closed. */
TEST(follower, needs_nobody_for_the_past)
{
    struct cluster c;
    struct hts ts;

    start(&c);
    ts = closed_of(&c, 2);
    c.nodes[2].cut = true;
    cluster_run_ms(&c, 5000);
    EXPECT_STREQ("v1", read_at(&c, 2, ts));
    EXPECT_TRUE(read_at(&c, 2, now_of(&c, 2)) == NULL);
    cluster_stop(&c);
}

/* Reads that must look twice go as far as their interval, and locks or writes go to the leaseholder. */
TEST(follower, leaves_to_the_leaseholder_what_it_cannot_judge)
{
    struct cluster c;
    struct cluster_call call = {.one = {.op = RANGE_OP_GET, .key = bytes_str(KEY)},
                                .batch = {.follower = true}};

    start(&c);
    call.node = &c.nodes[1];
    call.batch.read_ts = closed_of(&c, 1);
    call.batch.txn.global_limit = hts_add_ns(call.batch.read_ts, 250000000);
    cluster_call_start(&call);
    EXPECT_TRUE(cluster_call_wait(&call, 1000));
    EXPECT_EQ(STATUS_NOT_LEADER, call.st.code);
    EXPECT_EQ(1, call.result.hint_store.v);
    cluster_call_end(&call);
    call.batch.txn.global_limit = HTS_ZERO;
    call.batch.txn.id = (struct uuid){{1}};
    call.one.lock = MVCC_EXCLUSIVE;
    cluster_call_start(&call);
    EXPECT_TRUE(cluster_call_wait(&call, 1000));
    EXPECT_EQ(STATUS_NOT_LEADER, call.st.code);
    cluster_call_end(&call);
    cluster_stop(&c);
}

/* Lays an intent on KEY at the leaseholder; false: it could not. */
static bool lay_intent(struct cluster *c, uint8_t txn, struct hts ts)
{
    struct cluster_call call = {
        .node = &c->nodes[0],
        .one = {.op = RANGE_OP_PUT, .key = bytes_str(KEY), .value = BYTES_LIT("p")},
        .batch = {.read_ts = ts,
                  .intents = true,
                  .txn = {.id = {{txn}}, .anchor = bytes_str(KEY), .min_ts = ts, .write_ts = ts}}};
    bool laid = false;

    cluster_call_start(&call);
    laid = cluster_call_wait(&call, 1000) && status_ok(call.st);
    cluster_call_end(&call);
    return laid;
}

struct resolved_call {
    struct cluster_node *node;
    struct key_span span;
    struct hts ts;
    struct status st;
    bool done;
};

static void resolved_fiber(void *arg)
{
    struct resolved_call *q = arg;

    q->st = store_resolved_ts(q->node->store, (range_id){RANGE_FIRST_ID}, q->span, &q->ts);
    q->done = true;
}

static enum status_code resolved(struct cluster *c, uint32_t i, struct key_span span,
                                 struct hts *out)
{
    struct resolved_call q = {.node = &c->nodes[i], .span = span};

    INVARIANT(status_ok(fiber_spawn(c->nodes[i].shard, "resolved", resolved_fiber, &q)));
    for (int k = 0; k < 100 && !q.done; k++) {
        cluster_run_ms(c, 1);
    }
    INVARIANT(q.done);
    *out = q.ts;
    return q.st.code;
}

/* An intent bounds what is resolved, and sends readers at or above it away. */
TEST(follower, stops_at_an_intent)
{
    struct cluster c;
    const struct key_span all = {BYTES_LIT("\x88"), BYTES_LIT("\x89")};
    const struct key_span other = {BYTES_LIT("\x88l"), BYTES_LIT("\x89")};
    struct hts laid;
    struct hts ts;

    start(&c);
    laid = now_of(&c, 0);
    EXPECT_TRUE(lay_intent(&c, 1, laid));
    cluster_run_ms(&c, 1000);
    EXPECT_TRUE(hts_less(laid, closed_of(&c, 1)));
    EXPECT_TRUE(read_at(&c, 1, laid) == NULL);
    EXPECT_STREQ("v1", read_at(&c, 1, hts_prev(laid)));
    EXPECT_EQ(STATUS_OK, resolved(&c, 1, all, &ts));
    EXPECT_HTS_EQ(hts_prev(laid), ts);
    EXPECT_EQ(STATUS_OK, resolved(&c, 1, other, &ts));
    EXPECT_TRUE(hts_less(laid, ts));
    EXPECT_EQ(STATUS_RANGE_MISMATCH, resolved(&c, 1, (struct key_span){{0}, {0}}, &ts));
    cluster_stop(&c);
}

/* Followers against the truth: what one has answered for a time stays the answer for that time, everywhere,
 * whatever is written and whoever leads. */
TEST(follower, never_serves_what_a_later_write_changes)
{
    struct cluster c;
    struct {
        struct hts ts;
        char value[32];
    } seen[200];
    uint32_t count = 0;
    uint32_t served = 0;

    start(&c);
    c.latency_ms = 7;
    c.reorder = true;
    for (int round = 0; round < 150; round++) {
        const int at = cluster_wait_leaseholder(&c);
        const uint32_t i = (uint32_t)rng_below(&c.rng, 3);
        const struct hts ts = hts_add_ns(now_of(&c, i), 0);
        char value[16];
        const char *got = NULL;

        (void)snprintf(value, sizeof(value), "w%d", round);
        if (rng_permille(&c.rng, 700)) {
            (void)cluster_put(&c, (uint32_t)at, KEY, value);
        }
        if (rng_permille(&c.rng, 50)) {
            (void)cluster_transfer(&c, (uint32_t)at, ((uint32_t)at + 1) % 3);
        }
        seen[count].ts = (struct hts){ts.wall - 300000000u - rng_below(&c.rng, 80000000), 0};
        got = read_at(&c, i, seen[count].ts);
        if (got != NULL && (int)i != cluster_leaseholder(&c)) {
            (void)snprintf(seen[count].value, sizeof(seen[count].value), "%s", got);
            count++;
        }
        served += got != NULL ? 1 : 0;
        cluster_run_ms(&c, rng_below(&c.rng, 40));
    }
    cluster_run_ms(&c, 1000);
    EXPECT_TRUE(count > 40);
    EXPECT_TRUE(served > count);
    for (uint32_t k = 0; k < count; k++) {
        EXPECT_STREQ(seen[k].value, read_at(&c, k % 3, seen[k].ts));
    }
    cluster_stop(&c);
}

/* ---- planted bugs ------------------------------------------------------------------------------- */

#ifdef DSQL_PLANTS
static void start_planted(struct cluster *c, uint32_t plants)
{
    cluster_start_with(
        c, 1,
        (struct cluster_options){.closed_lag_ms = 300, .side_interval_ms = 50, .plants = plants});
    INVARIANT(cluster_put(c, 0, KEY, "v1") == STATUS_OK);
}

/* The bugs that the simulator has to find do what they are for. */
TEST(closed, plants_break_what_they_name)
{
    struct cluster c;
    struct proposal *p = NULL;
    struct hts ts;

    start_planted(&c, STORE_PLANT_CLOSE_IN_FLIGHT);
    p = proposal__create(NULL, 0);
    ts = now_of(&c, 0);
    closed__track(replica_of(&c, 0), p, ts);
    cluster_run_ms(&c, 1000);
    EXPECT_TRUE(hts_less(ts, closed_of(&c, 0)));
    proposal__free(p);
    cluster_stop(&c);

    start_planted(&c, STORE_PLANT_FOLLOWER_AHEAD);
    ts = hts_add_ns(now_of(&c, 0), 1000000000000);
    EXPECT_STREQ("v1", read_at(&c, 0, ts)); /* Of a future that is not written yet. */
    cluster_stop(&c);
}
#endif
