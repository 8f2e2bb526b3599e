/* What happens to a request that meets a lock. */
#include "node/base/invariant.h"
#include "tests/unit/range/txn_rig.h"

#define KEY_A  BYTES_LIT("\x88/a")
#define KEY_B  BYTES_LIT("\x88/b")
#define KEY_C  BYTES_LIT("\x88/c")
#define ANCHOR BYTES_LIT("\x88/m")

static void start(struct cluster *c)
{
    cluster_start(c, 1);
    INVARIANT(cluster_put(c, 0, "\x88/a", "v") == STATUS_OK);
    INVARIANT(cluster_put(c, 0, "\x88/b", "v") == STATUS_OK);
    INVARIANT(cluster_put(c, 0, "\x88/c", "v") == STATUS_OK);
    rig_connect(c);
}

/* Runs body(act) on a fiber of node 0. */
struct act {
    struct cluster *c;
    void (*body)(struct act *a);
    struct rig_txn t;
    struct bytes key;
    struct range_batch batch;
    struct status st;
    struct hts intents_at; /* Zero: when it began. */
    bool found;
    struct range_txn_info info;
    uint64_t took_ms;
    bool done;
};

static void act_body(void *arg)
{
    struct act *a = arg;
    const uint64_t before = env_mono_ns(shard_env(a->c->nodes[0].shard));

    a->body(a);
    a->took_ms = (env_mono_ns(shard_env(a->c->nodes[0].shard)) - before) / 1000000;
    a->done = true;
}

static void launch(struct act *a, void (*body)(struct act *a))
{
    a->body = body;
    a->done = false;
    INVARIANT(status_ok(fiber_spawn(a->c->nodes[0].shard, "act", act_body, a)));
    cluster_run_ms(a->c, 1);
}

static void finish(struct act *a)
{
    for (uint32_t i = 0; i < 20000 && !a->done; i++) {
        cluster_run_ms(a->c, 1);
    }
    INVARIANT(a->done);
}

static void run(struct act *a, void (*body)(struct act *a))
{
    launch(a, body);
    finish(a);
}

static struct act act_of(struct cluster *c, uint8_t number, struct bytes key)
{
    struct act a = {.c = c, .key = key};

    shard_enter(c->nodes[0].shard);
    a.t = rig_begin(&c->nodes[0], number, ANCHOR);
    shard_leave(c->nodes[0].shard);
    return a;
}

static void do_lock(struct act *a)
{
    a->st = rig_lock(&a->t, a->key, MVCC_EXCLUSIVE);
}

static void do_write(struct act *a)
{
    a->t.write_ts = a->intents_at;
    a->st = rig_write(&a->t, a->key);
}

static void do_abort(struct act *a)
{
    a->st = rig_abort(&a->t, &a->key, 1);
}

/* Only the record: the key is not settled. */
static void do_end(struct act *a)
{
    a->st = rig_end(&a->t, RANGE_TXN_COMMITTED, a->t.min_ts, &a->key, 1, &a->info);
}

static void do_stage(struct act *a)
{
    const struct bytes keys[] = {KEY_A, KEY_B};

    a->st = rig_end(&a->t, RANGE_TXN_STAGING, a->t.min_ts, keys, 2, &a->info);
}

/* A locking read with the options of a->batch. */
static void do_lock_as_told(struct act *a)
{
    const struct range_request q = {.op = RANGE_OP_GET, .key = a->key, .lock = MVCC_EXCLUSIVE};
    struct range_batch b = a->batch;

    b.txn = (struct range_batch_txn){.id = a->t.id, .anchor = ANCHOR, .min_ts = a->t.min_ts};
    b.can_forward = true;
    a->st = rig_one(&a->c->nodes[0], b, &q, &a->found, NULL);
}

static void do_read(struct act *a)
{
    const struct range_request q = {.op = RANGE_OP_GET, .key = a->key};

    a->st = rig_one(&a->c->nodes[0], a->batch, &q, &a->found, NULL);
}

/* No transaction: a put of its own. */
static void do_put(struct act *a)
{
    const struct range_request q = {.op = RANGE_OP_PUT, .key = a->key, .value = BYTES_LIT("p")};

    a->st = rig_one(&a->c->nodes[0], a->batch, &q, NULL, NULL);
}

static struct status send_fails(void *ctx, struct range_batch *b, uint64_t deadline_ns,
                                struct arena *arena, struct range_result *out)
{
    UNUSED(ctx);
    UNUSED(b);
    UNUSED(deadline_ns);
    UNUSED(arena);
    UNUSED(out);
    return FAIL(STATUS_UNAVAILABLE, "nobody there");
}

TEST(wait, nowait_is_refused_at_once)
{
    struct cluster c;
    struct act holder;
    struct act other;

    start(&c);
    holder = act_of(&c, 1, KEY_A);
    other = act_of(&c, 2, KEY_A);
    other.batch.wait = RANGE_WAIT_ERROR;
    run(&holder, do_lock);
    EXPECT_OK(holder.st);
    run(&other, do_lock_as_told);
    EXPECT_CODE(STATUS_LOCKED, other.st);
    EXPECT_EQ(0, other.took_ms);
    cluster_stop(&c);
}

/* What a finished transaction has left behind is no lock. */
TEST(wait, nowait_passes_who_is_over)
{
    struct cluster c;
    struct act holder;
    struct act other;

    start(&c);
    holder = act_of(&c, 1, KEY_A);
    other = act_of(&c, 2, KEY_A);
    other.batch.wait = RANGE_WAIT_ERROR;
    run(&holder, do_write);
    run(&holder, do_end);
    EXPECT_OK(holder.st);
    run(&other, do_lock_as_told);
    EXPECT_OK(other.st);
    EXPECT_TRUE(other.found);
    cluster_stop(&c);
}

TEST(wait, lock_timeout)
{
    struct cluster c;
    struct act holder;
    struct act other;

    start(&c);
    holder = act_of(&c, 1, KEY_A);
    other = act_of(&c, 2, KEY_A);
    other.batch.lock_wait_ns = 70000000;
    run(&holder, do_lock);
    run(&other, do_lock_as_told);
    EXPECT_CODE(STATUS_LOCKED, other.st);
    EXPECT_EQ(70, other.took_ms);
    cluster_run_ms(&c, 2);
    EXPECT_EQ(0, c.nodes[0].store->pushes.count); /* Nor is it an edge any more. */
    EXPECT_EQ(0, c.nodes[0].store->pushes.sent);
    cluster_stop(&c);
}

/* Although a push is under way that would take seconds. */
TEST(wait, a_released_lock_is_noticed_at_once)
{
    struct cluster c;
    struct act holder;
    struct act other;
    struct act third;

    start(&c);
    holder = act_of(&c, 1, KEY_A);
    other = act_of(&c, 2, KEY_A);
    third = act_of(&c, 0, KEY_A);
    run(&holder, do_lock);
    launch(&other, do_lock);
    launch(&third, do_put);
    cluster_run_ms(&c, 200);
    EXPECT_EQ(2, c.nodes[0].store->pushes.count);
    EXPECT_FALSE(other.done || third.done);
    run(&holder, do_abort);
    cluster_run_ms(&c, 1);
    EXPECT_TRUE(other.done);
    EXPECT_OK(other.st);
    EXPECT_FALSE(third.done); /* Behind it. */
    run(&other, do_abort);
    finish(&third);
    EXPECT_OK(third.st);
    cluster_run_ms(&c, 10);
    EXPECT_EQ(0, c.nodes[0].store->pushes.sent);
    cluster_stop(&c);
}

/* A reader waits a moment, pushes, and the writer commits above it. */
TEST(wait, a_reader_goes_below_a_pending_writer)
{
    struct cluster c;
    struct act writer;
    struct act reader;

    start(&c);
    writer = act_of(&c, 1, KEY_A);
    run(&writer, do_write);
    cluster_run_ms(&c, 1);
    reader = act_of(&c, 0, KEY_A);
    reader.batch.read_ts = rig_now(&c.nodes[0]);
    run(&reader, do_read);
    EXPECT_OK(reader.st);
    EXPECT_TRUE(reader.found);
    EXPECT_TRUE(reader.took_ms >= 5 && reader.took_ms < 20);
    run(&writer, do_end);
    EXPECT_OK(writer.st);
    EXPECT_EQ(RANGE_TXN_PENDING, writer.info.status); /* Its timestamp is too low now. */
    EXPECT_TRUE(hts_less(reader.batch.read_ts, writer.info.ts));
    cluster_stop(&c);
}

/* The coordinator died: five seconds later its locks are gone. */
TEST(wait, what_the_dead_have_locked_is_freed)
{
    struct cluster c;
    struct act dead;
    struct act locker;
    struct act writer;

    start(&c);
    dead = act_of(&c, 1, KEY_A);
    run(&dead, do_lock);
    dead.key = KEY_B;
    run(&dead, do_write);
    locker = act_of(&c, 0, KEY_A);
    writer = act_of(&c, 0, KEY_B);
    launch(&locker, do_put);
    launch(&writer, do_put);
    finish(&locker);
    finish(&writer);
    EXPECT_OK(locker.st);
    EXPECT_OK(writer.st);
    EXPECT_TRUE(locker.took_ms > 4900 && locker.took_ms < 5500);
    EXPECT_TRUE(writer.took_ms > 4900 && writer.took_ms < 5500);
    cluster_stop(&c);
}

/* Heartbeats begin a second after the first lock: until then the lock itself is the sign of life. */
TEST(wait, who_locks_late_in_its_life_is_not_taken_for_dead)
{
    struct cluster c;
    struct act holder;
    struct act writer;
    struct act other;

    start(&c);
    holder = act_of(&c, 1, KEY_A);
    writer = act_of(&c, 2, KEY_B);
    cluster_run_ms(&c, 20000);
    run(&holder, do_lock);
    EXPECT_OK(holder.st);
    other = act_of(&c, 0, KEY_A);
    launch(&other, do_put);
    cluster_run_ms(&c, 900);
    EXPECT_FALSE(other.done);
    run(&holder, do_abort);
    finish(&other);
    EXPECT_OK(other.st);
    writer.t.min_ts = holder.t.min_ts;
    writer.intents_at = rig_now(&c.nodes[0]);
    run(&writer, do_write);
    other.key = KEY_B;
    launch(&other, do_put);
    cluster_run_ms(&c, 900);
    EXPECT_FALSE(other.done);
    finish(&other);
    EXPECT_OK(other.st);
    EXPECT_TRUE(other.took_ms > 4500 && other.took_ms < 5500);
    cluster_stop(&c);
}

/* It had staged, and everything is there: it is committed, whoever says so first. */
TEST(wait, a_staged_transaction_without_coordinator_is_recovered)
{
    struct cluster c;
    struct act dead;
    struct act reader;

    start(&c);
    dead = act_of(&c, 1, KEY_A);
    run(&dead, do_write);
    dead.key = KEY_B;
    run(&dead, do_write);
    EXPECT_OK(dead.st);
    run(&dead, do_stage);
    EXPECT_EQ(RANGE_TXN_STAGING, dead.info.status);
    reader = act_of(&c, 0, KEY_A);
    run(&reader, do_read);
    EXPECT_OK(reader.st);
    EXPECT_TRUE(reader.took_ms > 4500 && reader.took_ms < 5500);
    reader.key = KEY_B;
    run(&reader, do_read); /* Now it is known. */
    EXPECT_OK(reader.st);
    EXPECT_TRUE(reader.took_ms < 5);
    EXPECT_EQ(RANGE_TXN_COMMITTED, finished_find(&c.nodes[0].store->finished, dead.t.id)->status);
    cluster_stop(&c);
}

/* One intent is missing: aborted, and the values are as before. */
TEST(wait, half_a_transaction_is_recovered_as_aborted)
{
    struct cluster c;
    struct act dead;
    struct act reader;

    start(&c);
    dead = act_of(&c, 1, KEY_A);
    run(&dead, do_write);
    run(&dead, do_stage);
    EXPECT_EQ(RANGE_TXN_STAGING, dead.info.status);
    reader = act_of(&c, 0, KEY_A);
    run(&reader, do_read);
    EXPECT_OK(reader.st);
    EXPECT_EQ(RANGE_TXN_ABORTED, finished_find(&c.nodes[0].store->finished, dead.t.id)->status);
    cluster_stop(&c);
}

/* The second intent of somebody who is over costs no question. */
TEST(wait, who_is_over_is_remembered)
{
    struct cluster c;
    struct act writer;
    struct act other;
    uint32_t sent = 0;

    start(&c);
    writer = act_of(&c, 1, KEY_A);
    run(&writer, do_write);
    writer.key = KEY_B;
    run(&writer, do_write);
    run(&writer, do_end);
    EXPECT_EQ(RANGE_TXN_COMMITTED, writer.info.status);
    other = act_of(&c, 0, KEY_A);
    run(&other, do_put);
    EXPECT_OK(other.st);
    EXPECT_TRUE(other.took_ms >= 30 && other.took_ms < 50);
    sent = rig_sent();
    other.key = KEY_B;
    run(&other, do_put);
    EXPECT_OK(other.st);
    EXPECT_TRUE(other.took_ms < 5);
    EXPECT_EQ(1, rig_sent() - sent); /* The put itself. */
    cluster_stop(&c);
}

/* Nobody waits at a store that has lost the lease. */
TEST(wait, the_end_of_the_lease_ends_waits)
{
    struct cluster c;
    struct act holder;
    struct act other;

    start(&c);
    holder = act_of(&c, 1, KEY_A);
    run(&holder, do_lock);
    other = act_of(&c, 2, KEY_A);
    launch(&other, do_lock);
    cluster_run_ms(&c, 100);
    EXPECT_FALSE(other.done);
    shard_enter(c.nodes[0].shard);
    {
        struct replica *r = store__find(c.nodes[0].store, (range_id){RANGE_FIRST_ID});

        lock_table_destroy(r->locks); /* As lease__closed() does; the lock is forgotten. */
        r->locks = NULL;
    }
    shard_leave(c.nodes[0].shard);
    finish(&other);
    EXPECT_OK(other.st); /* Sent again by the rig. */
    EXPECT_TRUE(other.took_ms < 200);
    cluster_stop(&c);
}

/* No anchor can be reached for a while: the push is repeated until one answers. */
TEST(wait, pushes_that_fail_are_repeated)
{
    struct cluster c;
    struct act writer;
    struct act other;

    start(&c);
    writer = act_of(&c, 1, KEY_A);
    run(&writer, do_write);
    run(&writer, do_end);
    EXPECT_EQ(RANGE_TXN_COMMITTED, writer.info.status);
    other = act_of(&c, 0, KEY_A);
    c.nodes[0].store->o.send = send_fails;
    launch(&other, do_put);
    cluster_run_ms(&c, 1000);
    EXPECT_FALSE(other.done);
    rig_connect(&c);
    c.nodes[0].store->pushes.sent += 2000; /* As many as a store may have under way. */
    cluster_run_ms(&c, 300);
    EXPECT_FALSE(other.done);
    c.nodes[0].store->pushes.sent -= 2000;
    cluster_run_ms(&c, 150);
    EXPECT_TRUE(other.done);
    EXPECT_OK(other.st);
    cluster_stop(&c);
}

/* A statement that is cancelled leaves neither a place in the queue nor a push. */
TEST(wait, a_cancelled_request_leaves_nothing_behind)
{
    struct cluster c;
    struct act holder;
    struct cluster_call call = {.one = {.op = RANGE_OP_PUT, .key = KEY_A}};
    struct replica *r = NULL;

    start(&c);
    holder = act_of(&c, 1, KEY_A);
    run(&holder, do_lock);
    call.node = &c.nodes[0];
    call.batch.txn = (struct range_batch_txn){.id = {{5}}, .anchor = ANCHOR};
    cluster_call_start(&call);
    cluster_run_ms(&c, 100);
    r = store__find(c.nodes[0].store, (range_id){RANGE_FIRST_ID});
    EXPECT_EQ(1, lock_table_waiters(r->locks));
    EXPECT_EQ(1, c.nodes[0].store->pushes.sent);
    shard_enter(c.nodes[0].shard);
    fiber_cancel(call.fiber);
    shard_leave(c.nodes[0].shard);
    EXPECT_TRUE(cluster_call_wait(&call, 5));
    EXPECT_CODE(STATUS_CANCELLED, call.st);
    cluster_run_ms(&c, 2);
    EXPECT_EQ(0, lock_table_waiters(r->locks));
    EXPECT_EQ(0, c.nodes[0].store->pushes.sent);
    EXPECT_EQ(0, c.nodes[0].store->pushes.count);
    cluster_call_end(&call);
    cluster_stop(&c);
}

/* Deadlines of requests hold in queues as well. */
TEST(wait, a_request_waits_no_longer_than_it_may)
{
    struct cluster c;
    struct act holder;
    struct cluster_call call = {.one = {.op = RANGE_OP_PUT, .key = KEY_A}, .timeout_ms = 250};

    start(&c);
    holder = act_of(&c, 1, KEY_A);
    run(&holder, do_lock);
    call.node = &c.nodes[0];
    cluster_call_start(&call);
    EXPECT_TRUE(cluster_call_wait(&call, 260));
    EXPECT_CODE(STATUS_TIMEOUT, call.st);
    cluster_call_end(&call);
    cluster_stop(&c);
}

/* Nobody can be asked: who waits still gets its turn when the lock is released. */
TEST(wait, without_a_way_to_other_ranges)
{
    struct cluster c;
    struct act holder;
    struct act other;

    start(&c);
    holder = act_of(&c, 1, KEY_A);
    other = act_of(&c, 2, KEY_A);
    run(&holder, do_lock);
    c.nodes[0].store->o.send = NULL;
    launch(&other, do_lock);
    cluster_run_ms(&c, 500);
    EXPECT_FALSE(other.done);
    run(&holder, do_abort);
    finish(&other);
    EXPECT_OK(other.st);
    cluster_stop(&c);
}

/* The oldest of a set goes first; an outcome is never forgotten by being told again. */
TEST(finished, remembers_and_forgets)
{
    static struct finished_txns f;
    uint32_t known = 0;

    EXPECT_TRUE(finished_find(&f, (struct uuid){{0}}) == NULL);
    for (uint32_t i = 1; i <= 3 * FINISHED_SETS * FINISHED_WAYS; i++) {
        const struct uuid id = {{(uint8_t)i, (uint8_t)(i >> 8), (uint8_t)(i >> 16)}};

        finished_add(&f, id, RANGE_TXN_COMMITTED, hts_ms(i));
        finished_add(&f, id, RANGE_TXN_ABORTED, HTS_ZERO); /* Its record has gone. */
        EXPECT_TRUE(finished_find(&f, id) != NULL);
        EXPECT_EQ(RANGE_TXN_COMMITTED, finished_find(&f, id)->status);
        EXPECT_HTS_EQ(hts_ms(i), finished_find(&f, id)->ts);
    }
    for (uint32_t i = 1; i <= 3 * FINISHED_SETS * FINISHED_WAYS; i++) {
        const struct uuid id = {{(uint8_t)i, (uint8_t)(i >> 8), (uint8_t)(i >> 16)}};

        known += finished_find(&f, id) != NULL ? 1 : 0;
    }
    EXPECT_TRUE(known > 4000 && known <= FINISHED_SETS * FINISHED_WAYS); /* Some sets got few. */
}
