/* How transactions wait for transactions, and how they stop when they wait for each other. */
#include "node/base/invariant.h"
#include "tests/unit/range/ranges.h"
#include "tests/unit/range/txn_rig.h"

#define MEMBERS_MAX 20
#define ROUNDS_MAX  200

/* Of the first range, or one range each when there are several. */
static struct bytes key_of(const struct cluster_node *node, uint32_t n)
{
    static uint8_t mem[20][8];
    static const char names[20][4] = {"\x88/a", "\x88/b", "\x88/c", "\x88/d", "\x88/e",
                                      "\x88/f", "\x88/g", "\x88/h", "\x88/i", "\x88/j",
                                      "\x88/k", "\x88/l", "\x88/m", "\x88/n", "\x88/o",
                                      "\x88/p", "\x88/q", "\x88/r", "\x88/s", "\x88/t"};

    return node->cluster->count == 1 ? bytes_of(names[n], 3) : rig_key(mem[n], n, 'k');
}

static void start(struct cluster *c)
{
    cluster_start(c, 1);
    for (uint32_t i = 0; i < 20; i++) {
        char key[4] = {0};

        memcpy(key, key_of(&c->nodes[0], i).ptr, 3);
        INVARIANT(cluster_put(c, 0, key, "v") == STATUS_OK);
    }
    rig_connect(c);
}

/* A client that takes two steps, and begins anew when it is told to. */
struct member {
    struct cluster_node *node;
    uint32_t number;
    uint32_t priority;
    uint32_t first;
    uint32_t second;
    bool intents;
    bool again;     /* Until it succeeds, */
    uint32_t more;  /* and that many times more. */
    bool only_lock; /* Keys of several ranges cannot be committed in one batch. */
    struct rng *rng;
    uint32_t deadlocks;
    uint32_t retries;
    struct status st;
    uint64_t done_ms;
};

MAYYIELD static struct status step(const struct member *m, const struct rig_txn *t, uint32_t key)
{
    return m->intents ? rig_write(t, key_of(m->node, key))
                      : rig_lock(t, key_of(m->node, key), MVCC_EXCLUSIVE);
}

MAYYIELD static struct status attempt(struct member *m)
{
    struct rig_txn t = rig_begin(m->node, m->number, key_of(m->node, m->first));
    const struct bytes keys[] = {key_of(m->node, m->first), key_of(m->node, m->second)};
    struct status st = OK;

    t.priority = m->priority;
    st = step(m, &t, m->first);
    if (status_ok(st)) {
        st = fiber_sleep(10000000);
    }
    if (status_ok(st)) {
        st = step(m, &t, m->second);
    }
    if (status_ok(st) && !m->intents && !m->only_lock) {
        st = rig_commit(&t, keys, 2);
    } else {
        const struct status ended = rig_abort(&t, keys, 2);

        st = status_ok(st) ? ended : st;
    }
    return st;
}

static void member_body(void *arg)
{
    struct member *m = arg;
    uint32_t successes = 0;

    for (uint32_t i = 0; i < ROUNDS_MAX; i++) {
        m->st = attempt(m);
        m->deadlocks += m->st.code == STATUS_DEADLOCK ? 1 : 0;
        m->retries += m->st.code == STATUS_TXN_RETRY ? 1 : 0;
        successes += status_ok(m->st) ? 1 : 0;
        if (!m->again || successes > m->more) {
            break;
        }
        m->number = (uint32_t)rng_next(m->rng);
        m->priority++;                       /* Who has lost more often goes first. */
        status_ignore(fiber_sleep(5000000)); /* Only a pause. */
    }
    m->done_ms = env_mono_ns(shard_env(m->node->shard)) / 1000000;
}

static uint32_t run_members(struct cluster *c, struct member *m, uint32_t count, uint32_t ms)
{
    uint32_t done = 0;

    for (uint32_t i = 0; i < count; i++) {
        m[i].node = &c->nodes[i % c->count];
        m[i].priority = m[i].priority == 0 ? 1 : m[i].priority;
        INVARIANT(status_ok(fiber_spawn(m[i].node->shard, "member", member_body, &m[i])));
    }
    for (uint32_t t = 0; t < ms && done < count; t++) {
        cluster_run_ms(c, 1);
        done = 0;
        for (uint32_t i = 0; i < count; i++) {
            done += m[i].done_ms != 0 ? 1 : 0;
        }
    }
    return done;
}

/* Exactly one gives way, the one with the lowest (priority, id), and soon. */
static bool one_victim(struct cluster *c, uint32_t members, bool intents, uint32_t low, uint32_t ms)
{
    struct member m[MEMBERS_MAX] = {{0}};
    bool good = true;

    for (uint32_t i = 0; i < members; i++) {
        m[i].number = 10 + i;
        m[i].priority = i == low ? 1 : 2;
        m[i].first = i;
        m[i].second = (i + 1) % members;
        m[i].intents = intents;
    }
    good = run_members(c, m, members, ms) == members;
    for (uint32_t i = 0; i < members; i++) {
        good = good && m[i].st.code == (i == low ? STATUS_DEADLOCK : STATUS_OK);
    }
    for (uint32_t i = 0; i < members && !good; i++) {
        printf("member %u: %s at %llu ms\n", i, status_text(m[i].st),
               (unsigned long long)m[i].done_ms);
    }
    cluster_run_ms(c, 4000);
    for (uint32_t i = 0; i < c->count; i++) {
        const struct push_waits *p = &c->nodes[i].store->pushes;

        good = good && p->count == 0 && p->sent == 0;
    }
    return good;
}

static bool one_victim_here(uint32_t members, bool intents, uint32_t low)
{
    struct cluster c;
    bool good = false;

    start(&c);
    good = one_victim(&c, members, intents, low, 500);
    cluster_stop(&c);
    return good;
}

/* Every key, every anchor and every coordinator is on another store than its neighbours. */
static bool one_victim_across(uint32_t members, uint32_t low)
{
    struct cluster c;
    bool good = false;

    rig_start_ranges(&c, members);
    c.latency_ms = 20;
    good = one_victim(&c, members, true, low, 3000);
    cluster_stop(&c);
    return good;
}

TEST(push, a_cycle_of_locks_costs_one_transaction)
{
    for (uint32_t members = 2; members <= 6; members++) {
        EXPECT_TRUE(one_victim_here(members, false, members / 2));
    }
}

TEST(push, a_cycle_of_intents_costs_one_transaction)
{
    EXPECT_TRUE(one_victim_here(2, true, 0));
    EXPECT_TRUE(one_victim_here(3, true, 2));
}

TEST(push, cycles_across_stores_are_found)
{
    EXPECT_TRUE(one_victim_across(2, 1));
    EXPECT_TRUE(one_victim_across(3, 0));
    EXPECT_TRUE(one_victim_across(6, 4));
}

/* Everybody gets through in the end, whatever order they take the keys in. */
TEST(push, twenty_transactions_on_five_hot_keys)
{
    struct cluster c;
    struct member m[20] = {{0}};
    struct rng rng;
    uint32_t rounds = 0;
    uint64_t last = 0;

    start(&c);
    rng_seed(&rng, 11);
    for (uint32_t i = 0; i < 20; i++) {
        m[i].number = 10 + i;
        m[i].first = (uint32_t)rng_below(&rng, 5);
        m[i].second = (m[i].first + 1 + (uint32_t)rng_below(&rng, 4)) % 5;
        m[i].again = true;
        m[i].rng = &rng;
    }
    EXPECT_EQ(20, run_members(&c, m, 20, 30000));
    for (uint32_t i = 0; i < 20; i++) {
        EXPECT_OK(m[i].st);
        EXPECT_EQ(0, m[i].retries);
        rounds += m[i].deadlocks;
        last = m[i].done_ms > last ? m[i].done_ms : last;
    }
    EXPECT_TRUE(rounds > 0 && last < 10000);
    cluster_run_ms(&c, 2500);
    EXPECT_EQ(0, c.nodes[0].store->pushes.count);
    cluster_stop(&c);
}

/* Queues, pushes and locks in memory vanish with each lease that moves; nobody is left behind. */
TEST(push, hot_keys_whose_leases_move)
{
    struct cluster c;
    struct member m[20] = {{0}};
    struct rng rng;
    uint32_t done = 0;
    uint32_t moves = 0;

    rig_start_ranges(&c, 5);
    c.latency_ms = 2;
    rng_seed(&rng, 12);
    for (uint32_t i = 0; i < 20; i++) {
        m[i].number = 10 + i;
        m[i].priority = 1;
        m[i].first = (uint32_t)rng_below(&rng, 5);
        m[i].second = (m[i].first + 1 + (uint32_t)rng_below(&rng, 4)) % 5;
        m[i].intents = i % 4 != 0;
        m[i].again = true;
        m[i].rng = &rng;
        m[i].only_lock = true;
        m[i].more = 19;
        m[i].node = &c.nodes[i % 3];
        INVARIANT(status_ok(fiber_spawn(m[i].node->shard, "member", member_body, &m[i])));
    }
    for (uint32_t round = 0; round < 300 && done < 20; round++) {
        moves +=
            rig_move_lease(&c, RANGES_ID(rng_below(&rng, 5)), (uint32_t)rng_below(&rng, 3)) ? 0 : 1;
        cluster_run_ms(&c, 100);
        done = 0;
        for (uint32_t i = 0; i < 20; i++) {
            done += m[i].done_ms != 0 ? 1 : 0;
        }
    }
    EXPECT_TRUE(moves > 20);
    EXPECT_EQ(20, done);
    cluster_run_ms(&c, 6000);
    for (uint32_t i = 0; i < 3; i++) {
        EXPECT_EQ(0, c.nodes[i].store->pushes.count);
        EXPECT_EQ(0, c.nodes[i].store->pushes.sent);
    }
    cluster_stop(&c);
}

/* ---- one push at a time -------------------------------------------------------------------------- */

/* Something on a fiber of node 0: a push, or what changes the pushee. */
struct pusher {
    struct cluster *c;
    struct range_txn_args args;
    enum range_op op;
    struct bytes anchor;
    struct status st;
    bool found;
    struct range_txn_info info;
    uint64_t took_ms;
    bool done;
};

static void pusher_body(void *arg)
{
    struct pusher *p = arg;
    struct cluster_node *n = &p->c->nodes[0];
    const struct range_request q = {.op = p->op, .key = p->anchor, .args = &p->args};
    const uint64_t before = env_mono_ns(shard_env(n->shard));

    p->st = rig_one(n, (struct range_batch){0}, &q, &p->found, &p->info);
    p->took_ms = (env_mono_ns(shard_env(n->shard)) - before) / 1000000;
    p->done = true;
}

static void launch(struct pusher *p)
{
    INVARIANT(status_ok(fiber_spawn(p->c->nodes[0].shard, "pusher", pusher_body, p)));
    cluster_run_ms(p->c, 1);
}

static void finish(struct pusher *p)
{
    for (uint32_t i = 0; i < 20000 && !p->done; i++) {
        cluster_run_ms(p->c, 1);
    }
    INVARIANT(p->done);
}

static struct uuid number(uint8_t n)
{
    return (struct uuid){{n}};
}

/* Of transaction 1, that began now, for at most two seconds. */
static struct pusher pusher_of(struct cluster *c, enum range_push kind)
{
    return (struct pusher){.c = c,
                           .op = RANGE_OP_PUSH,
                           .anchor = key_of(&c->nodes[0], 0),
                           .args = {.txn = number(1),
                                    .push = kind,
                                    .min_ts = rig_now(&c->nodes[0]),
                                    .pusher = number(9),
                                    .wait_ns = 2000000000}};
}

/* END_TXN or a heartbeat of transaction 1. */
static struct pusher changer_of(struct cluster *c, enum range_op op, enum range_txn_status status)
{
    struct pusher p = pusher_of(c, RANGE_PUSH_TOUCH);

    p.op = op;
    p.args = (struct range_txn_args){
        .txn = number(1), .anchor = p.anchor, .status = status, .ts = rig_now(&c->nodes[0])};
    return p;
}

TEST(push, a_touch_only_looks)
{
    struct cluster c;
    struct pusher p;

    start(&c);
    p = pusher_of(&c, RANGE_PUSH_TOUCH);
    launch(&p);
    finish(&p);
    EXPECT_OK(p.st);
    EXPECT_EQ(RANGE_TXN_PENDING, p.info.status);
    EXPECT_EQ(0, p.took_ms);
    cluster_stop(&c);
}

/* The marker stays: whoever asks later hears of it, and commits above. */
TEST(push, a_pending_transaction_is_pushed_above_a_reader)
{
    struct cluster c;
    struct pusher p;

    start(&c);
    p = pusher_of(&c, RANGE_PUSH_TIMESTAMP);
    p.args.ts = rig_now(&c.nodes[0]);
    launch(&p);
    finish(&p);
    EXPECT_OK(p.st);
    EXPECT_EQ(RANGE_TXN_PENDING, p.info.status);
    EXPECT_HTS_EQ(p.args.ts, p.info.ts);
    EXPECT_EQ(0, p.took_ms);
    EXPECT_HTS_EQ(p.args.ts, tscache_marker_of(c.nodes[0].store->tscache, number(1)).pushed);
    cluster_stop(&c);
}

TEST(push, waits_as_long_as_it_was_told_to)
{
    struct cluster c;
    struct pusher p;

    start(&c);
    p = pusher_of(&c, RANGE_PUSH_ABORT);
    launch(&p);
    EXPECT_EQ(1, c.nodes[0].store->pushes.count);
    finish(&p);
    EXPECT_OK(p.st);
    EXPECT_EQ(RANGE_TXN_PENDING, p.info.status);
    EXPECT_EQ(2000, p.took_ms);
    EXPECT_EQ(0, c.nodes[0].store->pushes.count);
    cluster_stop(&c);
}

/* Aborted by its own coordinator: who waits hears it at once. */
TEST(push, is_woken_when_the_pushee_ends)
{
    struct cluster c;
    struct pusher p;
    struct pusher end;

    start(&c);
    p = pusher_of(&c, RANGE_PUSH_ABORT);
    launch(&p);
    cluster_run_ms(&c, 300);
    EXPECT_FALSE(p.done);
    end = changer_of(&c, RANGE_OP_END_TXN, RANGE_TXN_ABORTED);
    launch(&end);
    finish(&end);
    cluster_run_ms(&c, 2);
    EXPECT_TRUE(p.done);
    EXPECT_OK(p.st);
    EXPECT_EQ(RANGE_TXN_ABORTED, p.info.status);
    cluster_stop(&c);
}

/* Five seconds after it began, or after its last heartbeat. */
TEST(push, who_shows_no_life_is_aborted)
{
    struct cluster c;
    struct pusher p;
    struct pusher old;

    start(&c);
    old = pusher_of(&c, RANGE_PUSH_TOUCH);
    cluster_run_ms(&c, 4900);
    p = old;
    launch(&p);
    finish(&p);
    EXPECT_EQ(RANGE_TXN_PENDING, p.info.status);
    cluster_run_ms(&c, 200);
    p = old;
    launch(&p);
    finish(&p);
    EXPECT_EQ(RANGE_TXN_ABORTED, p.info.status);
    EXPECT_TRUE(tscache_marker_of(c.nodes[0].store->tscache, number(1)).finished);
    cluster_stop(&c);
}

/* A client of the rig that has a record. */
struct staged {
    struct cluster *c;
    struct rig_txn t;
    bool heartbeat;
    struct hts ts;
    struct range_txn_info info;
    struct status st;
};

static void staged_body(void *arg)
{
    struct staged *s = arg;
    const struct bytes keys[] = {key_of(&s->c->nodes[0], 1)};

    s->t = rig_begin(&s->c->nodes[0], 0x01000000, key_of(&s->c->nodes[0], 0));
    s->ts = s->t.min_ts;
    s->st = s->heartbeat ? rig_heartbeat(&s->t)
                         : rig_end(&s->t, RANGE_TXN_STAGING, s->ts, keys, 1, &s->info);
}

static void stage(struct staged *s)
{
    INVARIANT(status_ok(fiber_spawn(s->c->nodes[0].shard, "staged", staged_body, s)));
    cluster_run_ms(s->c, 50);
    INVARIANT(status_ok(s->st));
}

TEST(push, heartbeats_keep_a_transaction_alive)
{
    struct cluster c;
    struct staged s = {.c = &c, .heartbeat = true};
    struct pusher p;

    start(&c);
    stage(&s);
    cluster_run_ms(&c, 4000);
    stage(&s);
    cluster_run_ms(&c, 4000);
    p = pusher_of(&c, RANGE_PUSH_TOUCH);
    p.args.min_ts = hts_ms(1);
    launch(&p);
    finish(&p);
    EXPECT_EQ(RANGE_TXN_PENDING, p.info.status);
    cluster_run_ms(&c, 2000);
    p = pusher_of(&c, RANGE_PUSH_ABORT);
    launch(&p);
    finish(&p);
    EXPECT_EQ(RANGE_TXN_ABORTED, p.info.status); /* Through the log: it had a record. */
    EXPECT_TRUE(p.took_ms < 100);
    cluster_stop(&c);
}

TEST(push, force_aborts_at_once)
{
    struct cluster c;
    struct staged s = {.c = &c, .heartbeat = true};
    struct pusher p;

    start(&c);
    stage(&s);
    p = pusher_of(&c, RANGE_PUSH_ABORT);
    p.args.force = true;
    launch(&p);
    finish(&p);
    EXPECT_EQ(RANGE_TXN_ABORTED, p.info.status);
    EXPECT_TRUE(p.took_ms < 100);
    cluster_stop(&c);
}

/* Committed or not: that is not known here. The pusher finds out once the coordinator seems dead. */
TEST(push, a_staging_transaction_is_left_to_recovery)
{
    struct cluster c;
    struct staged s = {.c = &c};
    struct pusher p;

    start(&c);
    stage(&s);
    EXPECT_EQ(RANGE_TXN_STAGING, s.info.status);
    p = pusher_of(&c, RANGE_PUSH_TIMESTAMP);
    p.args.ts = rig_now(&c.nodes[0]);
    launch(&p);
    finish(&p);
    EXPECT_OK(p.st);
    EXPECT_TRUE(p.info.status == RANGE_TXN_STAGING && !p.found);
    EXPECT_EQ(2000, p.took_ms);
    p = pusher_of(&c, RANGE_PUSH_ABORT);
    p.args.force = true;
    launch(&p);
    finish(&p);
    EXPECT_TRUE(p.info.status == RANGE_TXN_STAGING && p.found);
    EXPECT_TRUE(p.took_ms < 10);
    cluster_run_ms(&c, 3000);
    p = pusher_of(&c, RANGE_PUSH_ABORT);
    launch(&p);
    finish(&p);
    EXPECT_TRUE(p.info.status == RANGE_TXN_STAGING && p.found);
    EXPECT_TRUE(p.took_ms < 10);
    cluster_stop(&c);
}

TEST(push, nobody_pushes_himself)
{
    struct cluster c;
    struct pusher p;

    start(&c);
    p = pusher_of(&c, RANGE_PUSH_ABORT);
    p.args.pusher = p.args.txn;
    launch(&p);
    finish(&p);
    EXPECT_CODE(STATUS_INVALID, p.st);
    cluster_stop(&c);
}

/* Full: refused. Gone: woken early. */
TEST(push, waits_are_bounded_and_can_be_withdrawn)
{
    struct cluster c;
    struct pusher p;
    struct store *s = NULL;

    start(&c);
    s = c.nodes[0].store;
    s->pushes.count += PUSH_WAITS_MAX;
    p = pusher_of(&c, RANGE_PUSH_ABORT);
    launch(&p);
    finish(&p);
    EXPECT_CODE(STATUS_OVERLOADED, p.st);
    s->pushes.count -= PUSH_WAITS_MAX;
    p = pusher_of(&c, RANGE_PUSH_ABORT);
    launch(&p);
    shard_enter(c.nodes[0].shard);
    push__withdraw(s, number(1), number(8));
    push__withdraw(s, number(2), number(9));
    shard_leave(c.nodes[0].shard);
    cluster_run_ms(&c, 5);
    EXPECT_FALSE(p.done);
    shard_enter(c.nodes[0].shard);
    push__withdraw(s, number(1), number(9));
    shard_leave(c.nodes[0].shard);
    cluster_run_ms(&c, 5);
    EXPECT_TRUE(p.done);
    EXPECT_OK(p.st);
    EXPECT_EQ(0, s->pushes.count);
    cluster_stop(&c);
}

/* Who waits at a store that is no leaseholder any more must go elsewhere. */
TEST(push, the_end_of_the_lease_sends_pushes_away)
{
    struct cluster c;
    struct pusher p;

    start(&c);
    p = pusher_of(&c, RANGE_PUSH_ABORT);
    launch(&p);
    shard_enter(c.nodes[0].shard);
    push__stop(store__find(c.nodes[0].store, (range_id){RANGE_FIRST_ID}));
    shard_leave(c.nodes[0].shard);
    finish(&p);
    EXPECT_OK(p.st); /* The rig sends it again: the lease is still here. */
    EXPECT_TRUE(p.took_ms > 2000);
    cluster_stop(&c);
}

/* The victim cannot see the cycle: it told no anchor, at which to ask. Who waits for it helps. */
TEST(push, a_victim_that_does_not_give_way_is_aborted)
{
    struct cluster c;
    struct pusher p;
    struct pusher victim;

    start(&c);
    p = pusher_of(&c, RANGE_PUSH_ABORT); /* 9 waits for 1. */
    p.args.pusher_anchor = p.anchor;
    p.args.pusher_priority = 5;
    victim = pusher_of(&c, RANGE_PUSH_ABORT); /* 1 waits for 9. */
    victim.args.txn = number(9);
    victim.args.pusher = number(1);
    launch(&p);
    launch(&victim);
    finish(&p);
    EXPECT_OK(p.st);
    EXPECT_EQ(RANGE_TXN_ABORTED, p.info.status);
    EXPECT_TRUE(p.took_ms > 200 && p.took_ms < 1000);
    finish(&victim);
    EXPECT_OK(victim.st);
    cluster_stop(&c);
}

/* A push also hears that its own transaction was aborted meanwhile. */
TEST(push, a_pusher_that_was_aborted_waits_no_longer)
{
    struct cluster c;
    struct pusher p;
    struct pusher end;

    start(&c);
    p = pusher_of(&c, RANGE_PUSH_ABORT);
    p.args.pusher_anchor = p.anchor;
    launch(&p);
    end = changer_of(&c, RANGE_OP_END_TXN, RANGE_TXN_ABORTED);
    end.args.txn = number(9);
    launch(&end);
    finish(&p);
    EXPECT_CODE(STATUS_TXN_RETRY, p.st);
    EXPECT_TRUE(p.took_ms < 100);
    finish(&end);
    cluster_stop(&c);
}

/* Edges between transactions whose anchors are here are followed without asking. */
TEST(push, a_question_is_answered_with_all_edges)
{
    struct cluster c;
    struct pusher ab;
    struct pusher bc;
    struct pusher q;

    start(&c);
    ab = pusher_of(&c, RANGE_PUSH_ABORT); /* 9 waits for 1. */
    bc = pusher_of(&c, RANGE_PUSH_ABORT); /* 8 waits for 9. */
    bc.args.txn = number(9);
    bc.args.pusher = number(8);
    launch(&ab);
    launch(&bc);
    q = pusher_of(&c, RANGE_PUSH_TOUCH);
    q.op = RANGE_OP_QUERY_TXN;
    launch(&q);
    finish(&q);
    EXPECT_OK(q.st);
    EXPECT_TRUE(q.found);
    EXPECT_EQ(2, q.info.waits_count);
    q.args.txn = number(8);
    q.done = false;
    launch(&q);
    finish(&q);
    EXPECT_FALSE(q.found);
    EXPECT_EQ(0, q.info.waits_count);
    finish(&ab);
    finish(&bc);
    cluster_stop(&c);
}
