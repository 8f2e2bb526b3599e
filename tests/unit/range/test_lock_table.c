/* Who holds, who waits, and who is woken. */
#include <stdlib.h>

#include "node/base/hash.h"
#include "node/base/invariant.h"
#include "node/range/conflict/lock_table.h"
#include "tests/lib/env_fake.h"
#include "tests/lib/test.h"

static struct uuid id(uint8_t n)
{
    return (struct uuid){{n}};
}

/* Transaction n; 0: none. */
static struct lock_owner owner(uint8_t n)
{
    return (struct lock_owner){
        .txn = id(n), .anchor = n == 0 ? BYTES_EMPTY : BYTES_LIT("anchor"), .priority = n};
}

static struct bytes letter(const char *s)
{
    return bytes_of(s, 1);
}

static struct lock_table *create(void)
{
    struct lock_table *t = NULL;

    INVARIANT(status_ok(lock_table_create(&t)));
    return t;
}

static void acquire(struct lock_table *t, uint8_t txn, enum mvcc_strength s, const char *key)
{
    const struct lock_owner who = owner(txn);

    lock_table_acquire(t, &who, s, letter(key), hts_ms(1));
    lock_table_check(t);
}

static struct status discover(struct lock_table *t, uint8_t txn, const char *key, uint64_t ms)
{
    const struct mvcc_lock lock = {.key = letter(key),
                                   .strength = MVCC_INTENT,
                                   .txn_id = id(txn),
                                   .anchor_key = BYTES_LIT("anchor"),
                                   .write_ts = hts_ms(ms)};

    return lock_table_discovered(t, &lock);
}

static struct status enqueue(struct lock_table *t, struct lock_waiter *w, uint8_t txn,
                             enum mvcc_strength s, const char *key)
{
    const struct lock_owner who = owner(txn);
    const struct status st = lock_table_enqueue(t, w, &who, s, letter(key));

    lock_table_check(t);
    return st;
}

/* Who is in the way of txn at a key: its number, 100 more if it only waits; 0: nobody. */
static int in_way(struct lock_table *t, const struct lock_waiter *w, uint8_t txn,
                  enum mvcc_strength s, const char *key, uint64_t ms)
{
    const struct lock_owner who = owner(txn);
    const struct lock_want want = {.key = letter(key), .strength = s, .ts = hts_ms(ms)};
    struct lock_blocker b;

    if (!lock_table_conflict(t, w, &who, &want, 1, &b)) {
        return 0;
    }
    return b.owner.txn.b[0] + (b.is_waiter ? 100 : 0);
}

/* The matrix at the head of lock_table.h. */
TEST(lock_table, what_excludes_what)
{
    static const bool table[4][4] = {/* want NONE, SHARED, EXCLUSIVE, INTENT */
                                     [MVCC_SHARED] = {false, false, true, true},
                                     [MVCC_EXCLUSIVE] = {false, true, true, true},
                                     [MVCC_INTENT] = {true, true, true, true}};

    for (int held = MVCC_SHARED; held <= MVCC_INTENT; held++) {
        for (int want = MVCC_NONE; want <= MVCC_INTENT; want++) {
            struct lock_table *t = create();

            acquire(t, 1, (enum mvcc_strength)held, "k");
            EXPECT_EQ(table[held][want] ? 1 : 0,
                      in_way(t, NULL, 2, (enum mvcc_strength)want, "k", 1));
            EXPECT_EQ(0, in_way(t, NULL, 1, (enum mvcc_strength)want, "k", 1));
            EXPECT_EQ(0, in_way(t, NULL, 2, (enum mvcc_strength)want, "j", 1));
            lock_table_destroy(t);
        }
    }
}

TEST(lock_table, an_intent_concerns_readers_at_or_above_it)
{
    struct lock_table *t = create();

    EXPECT_OK(discover(t, 1, "k", 10));
    EXPECT_EQ(0, in_way(t, NULL, 2, MVCC_NONE, "k", 9));
    EXPECT_EQ(1, in_way(t, NULL, 2, MVCC_NONE, "k", 10));
    lock_table_update(t, id(1), letter("k"), BYTES_EMPTY, hts_ms(20));
    EXPECT_EQ(0, in_way(t, NULL, 2, MVCC_NONE, "k", 19));
    EXPECT_EQ(1, in_way(t, NULL, 2, MVCC_NONE, "k", 20));
    lock_table_update(t, id(1), letter("k"), BYTES_EMPTY, HTS_ZERO);
    EXPECT_EQ(0, in_way(t, NULL, 2, MVCC_NONE, "k", 20));
    EXPECT_EQ(0, lock_table_keys(t));
    lock_table_destroy(t);
}

TEST(lock_table, a_span_meets_what_lies_in_it)
{
    const struct lock_owner who = owner(2);
    struct lock_want want = {
        .key = BYTES_LIT("b"), .end = BYTES_LIT("d"), .strength = MVCC_NONE, .ts = HTS_MAX};
    struct lock_table *t = create();
    struct lock_blocker b;

    EXPECT_OK(discover(t, 1, "a", 1));
    EXPECT_OK(discover(t, 1, "d", 1));
    acquire(t, 1, MVCC_EXCLUSIVE, "c"); /* No matter to a plain read. */
    EXPECT_FALSE(lock_table_conflict(t, NULL, &who, &want, 1, &b));
    want.strength = MVCC_SHARED;
    EXPECT_TRUE(lock_table_conflict(t, NULL, &who, &want, 1, &b));
    EXPECT_BYTES_EQ(BYTES_LIT("c"), b.key);
    want.strength = MVCC_NONE;
    want.end = BYTES_LIT("e");
    EXPECT_TRUE(lock_table_conflict(t, NULL, &who, &want, 1, &b));
    EXPECT_BYTES_EQ(BYTES_LIT("d"), b.key);
    lock_table_destroy(t);
}

/* A released key belongs to the first in the queue, even before that one has noticed. */
TEST(lock_table, first_come_first_served)
{
    struct lock_table *t = create();
    struct lock_waiter w[3] = {{.sequence = 0}};

    acquire(t, 1, MVCC_EXCLUSIVE, "k");
    EXPECT_OK(enqueue(t, &w[0], 2, MVCC_EXCLUSIVE, "k"));
    EXPECT_OK(enqueue(t, &w[1], 0, MVCC_INTENT, "k"));
    EXPECT_OK(enqueue(t, &w[2], 3, MVCC_SHARED, "k"));
    EXPECT_EQ(3, lock_table_waiters(t));
    lock_table_release_all(t, id(1));
    EXPECT_TRUE(w[0].woken && !w[1].woken && !w[2].woken);
    EXPECT_EQ(102, in_way(t, NULL, 4, MVCC_SHARED, "k", 1));
    EXPECT_EQ(0, in_way(t, &w[0], 2, MVCC_EXCLUSIVE, "k", 1));
    acquire(t, 2, MVCC_EXCLUSIVE, "k");
    lock_table_leave(&w[0]);
    EXPECT_FALSE(w[1].woken);
    lock_table_release_all(t, id(2));
    EXPECT_TRUE(w[1].woken && !w[2].woken);
    lock_table_leave(&w[1]);
    EXPECT_TRUE(w[2].woken);
    lock_table_leave(&w[2]);
    lock_table_leave(&w[2]); /* Twice does no harm. */
    EXPECT_EQ(0, lock_table_keys(t));
    lock_table_destroy(t);
}

TEST(lock_table, sharers_pass_together_and_wait_behind_a_locker)
{
    struct lock_table *t = create();
    struct lock_waiter w[4] = {{.sequence = 0}};

    acquire(t, 1, MVCC_EXCLUSIVE, "k");
    EXPECT_OK(enqueue(t, &w[0], 2, MVCC_SHARED, "k"));
    EXPECT_OK(enqueue(t, &w[1], 3, MVCC_SHARED, "k"));
    EXPECT_OK(enqueue(t, &w[2], 4, MVCC_EXCLUSIVE, "k"));
    EXPECT_OK(enqueue(t, &w[3], 5, MVCC_SHARED, "k"));
    lock_table_release_all(t, id(1));
    EXPECT_TRUE(w[0].woken && w[1].woken && !w[2].woken && !w[3].woken);
    acquire(t, 2, MVCC_SHARED, "k");
    acquire(t, 3, MVCC_SHARED, "k");
    lock_table_leave(&w[0]);
    lock_table_leave(&w[1]);
    EXPECT_FALSE(w[2].woken || w[3].woken);
    lock_table_leave(&w[2]); /* Gives up. */
    EXPECT_TRUE(w[3].woken);
    lock_table_leave(&w[3]);
    lock_table_destroy(t);
}

/* Otherwise the holder would wait for people who wait for it. */
TEST(lock_table, a_holder_of_shared_that_wants_more_goes_in_front)
{
    struct lock_table *t = create();
    struct lock_waiter w[2] = {{.sequence = 0}};
    struct lock_blocker b[4];

    acquire(t, 1, MVCC_SHARED, "k");
    acquire(t, 2, MVCC_SHARED, "k");
    EXPECT_OK(enqueue(t, &w[0], 3, MVCC_EXCLUSIVE, "k"));
    EXPECT_OK(enqueue(t, &w[1], 2, MVCC_EXCLUSIVE, "k"));
    EXPECT_EQ(1, lock_table_blockers(&w[1], b, 4));
    EXPECT_TRUE(uuid_eq(id(1), b[0].owner.txn) && !b[0].is_waiter);
    EXPECT_EQ(2, lock_table_blockers(&w[0], b, 4));
    lock_table_release_all(t, id(1));
    EXPECT_TRUE(w[1].woken && !w[0].woken);
    EXPECT_EQ(0, in_way(t, &w[1], 2, MVCC_EXCLUSIVE, "k", 1));
    acquire(t, 2, MVCC_EXCLUSIVE, "k");
    lock_table_leave(&w[1]);
    EXPECT_FALSE(w[0].woken);
    lock_table_release_all(t, id(2));
    EXPECT_TRUE(w[0].woken);
    lock_table_leave(&w[0]);
    lock_table_destroy(t);
}

/* It became a holder while it was waiting (another request of its transaction). */
TEST(lock_table, promotion_is_seen_when_the_lock_comes_later)
{
    struct lock_table *t = create();
    struct lock_waiter w[2] = {{.sequence = 0}};

    acquire(t, 1, MVCC_SHARED, "k");
    EXPECT_OK(enqueue(t, &w[0], 2, MVCC_EXCLUSIVE, "k"));
    EXPECT_OK(enqueue(t, &w[1], 3, MVCC_EXCLUSIVE, "k"));
    acquire(t, 3, MVCC_SHARED, "k");
    lock_table_release_all(t, id(1));
    EXPECT_TRUE(w[1].woken && !w[0].woken);
    lock_table_leave(&w[1]);
    lock_table_leave(&w[0]);
    lock_table_destroy(t);
}

/* Between two locks of one key a request may wait elsewhere: its turn is kept. */
TEST(lock_table, arrival_counts_over_all_waits)
{
    struct lock_table *t = create();
    struct lock_waiter w[2] = {{.sequence = 0}};

    acquire(t, 1, MVCC_EXCLUSIVE, "a");
    acquire(t, 1, MVCC_EXCLUSIVE, "b");
    EXPECT_OK(enqueue(t, &w[0], 2, MVCC_INTENT, "a"));
    EXPECT_OK(enqueue(t, &w[1], 3, MVCC_INTENT, "b"));
    EXPECT_OK(enqueue(t, &w[0], 2, MVCC_INTENT, "b"));
    lock_table_release_all(t, id(1));
    EXPECT_TRUE(w[0].woken && !w[1].woken);
    lock_table_leave(&w[0]);
    EXPECT_TRUE(w[1].woken);
    lock_table_leave(&w[1]);
    lock_table_destroy(t);
}

/* Cycles of waits are found through holders, from everywhere in the queue. */
TEST(lock_table, whom_to_push)
{
    struct lock_table *t = create();
    struct lock_waiter w[4] = {{.sequence = 0}};
    const struct lock_owner unanchored = {.txn = id(9)};
    struct lock_blocker b[8];

    acquire(t, 1, MVCC_SHARED, "k");
    acquire(t, 2, MVCC_SHARED, "k");
    EXPECT_OK(enqueue(t, &w[0], 0, MVCC_INTENT, "k"));
    EXPECT_EQ(2, lock_table_blockers(&w[0], b, 8));
    EXPECT_TRUE(uuid_eq(id(1), b[0].owner.txn) && uuid_eq(id(2), b[1].owner.txn));
    EXPECT_FALSE(b[0].is_waiter);
    EXPECT_EQ(1, lock_table_blockers(&w[0], b, 1));
    EXPECT_OK(enqueue(t, &w[1], 3, MVCC_SHARED, "k")); /* They would let it pass; who waits not. */
    EXPECT_EQ(2, lock_table_blockers(&w[1], b, 8));
    EXPECT_OK(enqueue(t, &w[2], 2, MVCC_EXCLUSIVE, "k"));
    EXPECT_EQ(1, lock_table_blockers(&w[2], b, 8));
    EXPECT_TRUE(uuid_eq(id(1), b[0].owner.txn));
    lock_table_acquire(t, &unanchored, MVCC_EXCLUSIVE, letter("j"), HTS_ZERO);
    EXPECT_OK(enqueue(t, &w[3], 3, MVCC_EXCLUSIVE, "j"));
    EXPECT_EQ(0, lock_table_blockers(&w[3], b, 8)); /* Nobody could be asked. */
    for (int i = 0; i < 4; i++) {
        lock_table_leave(&w[i]);
        EXPECT_EQ(0, lock_table_blockers(&w[i], b, 8));
    }
    lock_table_destroy(t);
}

TEST(lock_table, queues_are_bounded)
{
    struct lock_table *t = create();
    struct lock_waiter *many = calloc(LOCK_QUEUE_MAX + 1, sizeof(*many));

    INVARIANT(many != NULL);
    acquire(t, 1, MVCC_EXCLUSIVE, "k");
    for (uint32_t i = 0; i < LOCK_QUEUE_MAX; i++) {
        const struct lock_owner who = owner((uint8_t)(2 + i % 200));

        EXPECT_OK(lock_table_enqueue(t, &many[i], &who, MVCC_EXCLUSIVE, letter("k")));
    }
    EXPECT_CODE(STATUS_OVERLOADED, enqueue(t, &many[LOCK_QUEUE_MAX], 2, MVCC_EXCLUSIVE, "k"));
    EXPECT_TRUE(strstr(enqueue(t, &many[LOCK_QUEUE_MAX], 2, MVCC_EXCLUSIVE, "k").msg,
                       "LOCK_QUEUE_MAX") != NULL);
    EXPECT_OK(enqueue(t, &many[3], 5, MVCC_EXCLUSIVE, "k")); /* Who is in it stays. */
    lock_table_leave(&many[0]);
    EXPECT_OK(enqueue(t, &many[LOCK_QUEUE_MAX], 2, MVCC_EXCLUSIVE, "k"));
    lock_table_destroy(t);
    free(many);
}

static void fill(struct lock_table *t, uint32_t from, uint32_t count, bool intent)
{
    const struct lock_owner who = owner(1);

    for (uint32_t i = from; i < from + count; i++) {
        char key[16];
        const int len = snprintf(key, sizeof(key), "n%06u", i);

        lock_table_acquire(t, &who, intent ? MVCC_INTENT : MVCC_EXCLUSIVE,
                           bytes_of(key, (size_t)len), hts_ms(1));
    }
}

/* What somebody waits for stays; of the others intents go first: they are in storage. */
TEST(lock_table, a_full_table_forgets_what_nobody_waits_for)
{
    struct lock_table *t = create();
    struct lock_waiter w = {.sequence = 0};

    EXPECT_OK(discover(t, 2, "a", 1));
    EXPECT_OK(enqueue(t, &w, 3, MVCC_EXCLUSIVE, "a"));
    acquire(t, 2, MVCC_EXCLUSIVE, "b");
    EXPECT_OK(discover(t, 2, "c", 1));
    fill(t, 0, LOCK_TABLE_KEYS_MAX - 3, false);
    EXPECT_EQ(LOCK_TABLE_KEYS_MAX, lock_table_keys(t));
    fill(t, LOCK_TABLE_KEYS_MAX, 1, false);
    EXPECT_EQ(2, in_way(t, NULL, 4, MVCC_SHARED, "b", 1));
    EXPECT_EQ(0, in_way(t, NULL, 4, MVCC_SHARED, "c", 1));
    fill(t, LOCK_TABLE_KEYS_MAX + 1, 1, false);
    EXPECT_EQ(0, in_way(t, NULL, 4, MVCC_SHARED, "b", 1));
    EXPECT_EQ(2, in_way(t, NULL, 4, MVCC_SHARED, "a", 1));
    EXPECT_EQ(LOCK_TABLE_KEYS_MAX, lock_table_keys(t));
    lock_table_check(t);
    lock_table_leave(&w);
    lock_table_release_all(t, id(1));
    lock_table_release_all(t, id(2));
    EXPECT_EQ(0, lock_table_keys(t));
    lock_table_destroy(t);
}

TEST(lock_table, many_holders_of_one_key)
{
    struct lock_table *t = create();
    struct lock_owner who = owner(1);

    for (uint32_t i = 0; i < 2000; i++) {
        who.txn.b[1] = (uint8_t)(i & 0xff);
        who.txn.b[2] = (uint8_t)(i >> 8);
        lock_table_acquire(t, &who, MVCC_SHARED, letter("k"), hts_ms(1));
    }
    EXPECT_EQ(1, lock_table_keys(t));
    for (uint32_t i = 0; i < 2000; i++) {
        EXPECT_EQ(1, in_way(t, NULL, 2, MVCC_EXCLUSIVE, "k", 1));
        who.txn.b[1] = (uint8_t)(i & 0xff);
        who.txn.b[2] = (uint8_t)(i >> 8);
        lock_table_release_all(t, who.txn);
    }
    EXPECT_EQ(0, lock_table_keys(t));
    lock_table_destroy(t);
}

/* ---- fibers ------------------------------------------------------------------------------------- */

struct sleeper {
    struct lock_table *t;
    const char *key;
    uint8_t txn;
    uint64_t deadline_ns;
    struct lock_waiter w;
    struct status st;
    bool done;
};

static void sleep_body(void *arg)
{
    struct sleeper *s = arg;

    s->st = enqueue(s->t, &s->w, s->txn, MVCC_EXCLUSIVE, s->key);
    if (status_ok(s->st)) {
        s->st = lock_table_wait(&s->w, s->deadline_ns);
    }
    s->done = true;
}

/* Time outs, nudges, a table that is cut and one that goes away. */
TEST(lock_table, how_waits_end)
{
    struct fake_world *world = fake_world_create();
    struct shard *shard = fake_world_add_shard(world);
    struct lock_table *t = create();
    struct sleeper s[4] = {{.t = t, .key = "a", .txn = 2, .deadline_ns = DEADLINE_NONE},
                           {.t = t, .key = "b", .txn = 3, .deadline_ns = DEADLINE_NONE},
                           {.t = t, .key = "c", .txn = 4, .deadline_ns = 1},
                           {.t = t, .key = "a", .txn = 5, .deadline_ns = DEADLINE_NONE}};

    acquire(t, 1, MVCC_EXCLUSIVE, "a");
    acquire(t, 1, MVCC_EXCLUSIVE, "b");
    acquire(t, 1, MVCC_EXCLUSIVE, "c");
    for (int i = 0; i < 4; i++) {
        EXPECT_OK(fiber_spawn(shard, "sleeper", sleep_body, &s[i]));
    }
    fake_world_settle(world);
    EXPECT_TRUE(s[2].done && !s[0].done && !s[1].done && !s[3].done);
    EXPECT_CODE(STATUS_TIMEOUT, s[2].st);
    EXPECT_TRUE(s[2].w.table == t);
    shard_enter(shard);
    lock_table_drop_from(t, letter("b"));
    lock_table_check(t);
    lock_table_nudge(&s[0].w);
    shard_leave(shard);
    fake_world_advance(world, 1000000);
    EXPECT_TRUE(s[1].done && s[0].done && !s[3].done);
    EXPECT_CODE(STATUS_NOT_LEADER, s[1].st);
    EXPECT_CODE(STATUS_NOT_LEADER, lock_table_wait(&s[1].w, DEADLINE_NONE));
    EXPECT_OK(s[0].st);
    EXPECT_FALSE(s[0].w.woken || s[0].w.wake.done); /* Armed again. */
    EXPECT_TRUE(s[2].w.table == NULL);
    shard_enter(shard);
    lock_table_destroy(t);
    shard_leave(shard);
    fake_world_advance(world, 1000000);
    EXPECT_TRUE(s[3].done);
    EXPECT_CODE(STATUS_NOT_LEADER, s[3].st);
    lock_table_leave(&s[3].w);
    fake_world_destroy(world);
}

/* ---- beside a naive twin ------------------------------------------------------------------------ */

#define TXNS    6 /* 1..5; 0 is none. */
#define KEYS    4
#define WAITERS 12

struct model_waiter {
    bool queued;
    bool woken;
    uint8_t txn;
    int key;
    enum mvcc_strength strength;
    uint64_t sequence;
};

struct model {
    struct lock_table *t;
    struct rng rng;
    enum mvcc_strength held[TXNS][KEYS]; /* MVCC_NONE: not. */
    uint64_t ts[TXNS][KEYS];             /* Of intents. */
    struct model_waiter m[WAITERS];
    struct lock_waiter w[WAITERS];
    uint64_t next_sequence;
};

static const char *const KEY_NAMES[KEYS] = {"a", "b", "c", "d"};

static bool model_excludes(enum mvcc_strength held, enum mvcc_strength want)
{
    if (want == MVCC_NONE) {
        return held == MVCC_INTENT;
    }
    return held != MVCC_NONE && !(held == MVCC_SHARED && want == MVCC_SHARED);
}

static bool model_blocked(const struct model *m, int self, uint8_t txn, int key,
                          enum mvcc_strength want, uint64_t sequence, uint64_t ms)
{
    const bool holds = txn != 0 && m->held[txn][key] != MVCC_NONE;

    for (uint8_t i = 1; i < TXNS; i++) {
        if (i != txn && model_excludes(m->held[i][key], want) &&
            (want != MVCC_NONE || m->ts[i][key] <= ms)) {
            return true;
        }
    }
    for (int i = 0; i < WAITERS && want != MVCC_NONE; i++) {
        const struct model_waiter *v = &m->m[i];
        const bool v_holds = v->txn != 0 && v->queued && m->held[v->txn][key] != MVCC_NONE;
        const bool ahead = holds != v_holds ? v_holds : v->sequence < sequence;

        if (i != self && v->queued && v->key == key && v->strength != MVCC_NONE && ahead &&
            model_excludes(v->strength, want) && !(txn != 0 && v->txn == txn)) {
            return true;
        }
    }
    return false;
}

/* Whoever is free is woken; everything else is as the table says. */
static void model_compare(struct model *m, int readers_of_key)
{
    uint32_t waiters = 0;

    for (int i = 0; i < WAITERS; i++) {
        struct model_waiter *v = &m->m[i];

        if (!v->queued) {
            continue;
        }
        waiters++;
        if ((v->strength == MVCC_NONE && v->key == readers_of_key) ||
            !model_blocked(m, i, v->txn, v->key, v->strength, v->sequence, UINT64_MAX)) {
            v->woken = true;
        }
        INVARIANT(v->woken == m->w[i].woken);
    }
    INVARIANT(waiters == lock_table_waiters(m->t));
    lock_table_check(m->t);
}

static void model_hold(struct model *m, uint8_t txn, int key, enum mvcc_strength s, uint64_t ms)
{
    enum mvcc_strength *held = &m->held[txn][key];

    if (s == MVCC_INTENT) {
        m->ts[txn][key] = *held == MVCC_INTENT && m->ts[txn][key] > ms ? m->ts[txn][key] : ms;
    }
    *held = s > *held ? s : *held;
}

/* A request: waits if something is in the way, otherwise takes its lock. */
static void model_request(struct model *m, int i)
{
    struct model_waiter *v = &m->m[i];
    const uint64_t ms = rng_below(&m->rng, 30);
    const uint64_t seq = v->sequence == 0 ? UINT64_MAX : v->sequence;
    const bool blocked = model_blocked(m, i, v->txn, v->key, v->strength, seq, ms);

    INVARIANT(blocked == (in_way(m->t, &m->w[i], v->txn, v->strength, KEY_NAMES[v->key], ms) != 0));
    if (blocked) {
        INVARIANT(status_ok(enqueue(m->t, &m->w[i], v->txn, v->strength, KEY_NAMES[v->key])));
        v->sequence = v->sequence == 0 ? m->next_sequence++ : v->sequence;
        v->queued = true;
        v->woken = false;
        return;
    }
    if (v->txn != 0 && v->strength != MVCC_NONE && v->strength != MVCC_INTENT) {
        const struct lock_owner who = owner(v->txn);

        lock_table_acquire(m->t, &who, v->strength, letter(KEY_NAMES[v->key]), hts_ms(ms));
        model_hold(m, v->txn, v->key, v->strength, ms);
        model_compare(m, -1);
    }
    lock_table_leave(&m->w[i]);
    *v = (struct model_waiter){0};
    m->w[i] = (struct lock_waiter){.sequence = 0};
}

static void model_arrive_or_retry(struct model *m)
{
    const int i = (int)rng_below(&m->rng, WAITERS);
    struct model_waiter *v = &m->m[i];

    if (v->queued && !v->woken) {
        return;
    }
    if (!v->queued) {
        v->txn = (uint8_t)rng_below(&m->rng, TXNS);
        v->key = (int)rng_below(&m->rng, KEYS);
        v->strength = (enum mvcc_strength)rng_below(&m->rng, 4);
    } else if (rng_below(&m->rng, 4) == 0) { /* Its next obstacle is another key. */
        const int other = (int)rng_below(&m->rng, KEYS);

        if (model_blocked(m, i, v->txn, other, v->strength, v->sequence, UINT64_MAX)) {
            v->key = other;
        }
    }
    model_request(m, i);
}

static void model_release(struct model *m, uint8_t txn, int key)
{
    if (key < 0) {
        lock_table_release_all(m->t, id(txn));
    } else {
        lock_table_update(m->t, id(txn), letter(KEY_NAMES[key]), BYTES_EMPTY, HTS_ZERO);
    }
    for (int k = 0; k < KEYS; k++) {
        m->held[txn][k] = key < 0 || key == k ? MVCC_NONE : m->held[txn][k];
        m->ts[txn][k] = m->held[txn][k] == MVCC_NONE ? 0 : m->ts[txn][k];
    }
}

static void model_step(struct model *m)
{
    const uint8_t txn = (uint8_t)(1 + rng_below(&m->rng, TXNS - 1));
    const int key = (int)rng_below(&m->rng, KEYS);
    const uint64_t ms = rng_below(&m->rng, 30);
    int moved = -1;

    switch (rng_below(&m->rng, 12)) {
    case 0:
        model_release(m, txn, -1);
        break;
    case 1:
    case 2:
        model_release(m, txn, key);
        break;
    case 3: {
        const int i = (int)rng_below(&m->rng, WAITERS);

        lock_table_leave(&m->w[i]); /* Gives up. */
        m->m[i] = (struct model_waiter){0};
        m->w[i] = (struct lock_waiter){.sequence = 0};
        break;
    }
    case 4:
        INVARIANT(status_ok(discover(m->t, txn, KEY_NAMES[key], ms)));
        model_hold(m, txn, key, MVCC_INTENT, ms);
        break;
    case 5:
        lock_table_update(m->t, id(txn), letter(KEY_NAMES[key]), BYTES_EMPTY, hts_ms(ms + 1));
        if (m->held[txn][key] == MVCC_INTENT && m->ts[txn][key] < ms + 1) {
            m->ts[txn][key] = ms + 1;
            moved = key;
        }
        break;
    default:
        model_arrive_or_retry(m);
    }
    model_compare(m, moved);
}

TEST(lock_table, random_steps_beside_a_naive_twin)
{
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct model m = {.next_sequence = 1};

        m.t = create();
        rng_seed(&m.rng, seed);
        for (int i = 0; i < 1500; i++) {
            model_step(&m);
        }
        /* When every transaction ends, everybody gets through. */
        for (uint8_t txn = 1; txn < TXNS; txn++) {
            model_release(&m, txn, -1);
        }
        for (int round = 0; round < WAITERS; round++) {
            for (int i = 0; i < WAITERS; i++) {
                if (m.w[i].woken) {
                    lock_table_leave(&m.w[i]);
                }
            }
        }
        EXPECT_EQ(0, lock_table_waiters(m.t));
        EXPECT_EQ(0, lock_table_keys(m.t));
        lock_table_destroy(m.t);
    }
}
