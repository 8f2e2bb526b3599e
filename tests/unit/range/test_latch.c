/* Who goes first among requests of one range. */
#include <stdlib.h>

#include "node/base/hash.h"
#include "node/base/invariant.h"
#include "node/range/conflict/latch.h"
#include "tests/lib/env_fake.h"
#include "tests/lib/test.h"

#define KEYS_MAX 4

struct rig {
    struct fake_world *world;
    struct shard *shard;
    struct latches *latches;
};

static void rig_start(struct rig *r)
{
    r->world = fake_world_create();
    r->shard = fake_world_add_shard(r->world);
    r->latches = malloc(sizeof(*r->latches));
    INVARIANT(r->latches != NULL);
    latches_init(r->latches);
}

static void rig_stop(struct rig *r)
{
    INVARIANT(list_empty(&r->latches->guards));
    INVARIANT(r->latches->guards_count == 0);
    latches_trim(r->latches);
    fake_world_destroy(r->world);
    free(r->latches);
}

/* A request on a fiber of its own: keys as letters of `keys`; a reader has `end`. */
struct request {
    struct rig *rig;
    const char *keys;
    const char *end; /* Reader of [keys, end); "": of the key `keys`. NULL: a writer. */
    struct hts ts;
    uint64_t deadline_ns;
    struct latch_point points[KEYS_MAX];
    struct latch_guard guard;
    struct fiber *fiber;
    struct status st;
    bool done; /* Got the latches, or waited for all writers. */
};

static void body(void *arg)
{
    struct request *q = arg;

    q->fiber = fiber_current();
    if (q->end != NULL) {
        q->st = latch_wait_read(q->rig->latches, NULL, bytes_str(q->keys), bytes_str(q->end), q->ts,
                                q->deadline_ns);
    } else {
        q->st = latch_acquire(q->rig->latches, &q->guard, q->deadline_ns);
    }
    q->done = true;
}

static void launch(struct rig *r, struct request *q)
{
    q->rig = r;
    q->deadline_ns = q->deadline_ns == 0 ? DEADLINE_NONE : q->deadline_ns;
    q->guard.points = q->points;
    q->guard.count = q->end != NULL ? 0 : (uint32_t)strlen(q->keys);
    for (uint32_t i = 0; i < q->guard.count; i++) {
        q->points[i].key = bytes_of(q->keys + i, 1);
    }
    INVARIANT(status_ok(fiber_spawn(r->shard, "request", body, q)));
    fake_world_settle(r->world);
}

static void release(struct rig *r, struct request *q)
{
    shard_enter(r->shard);
    latch_release(r->latches, &q->guard);
    shard_leave(r->shard);
    shard_env(r->shard)->ops->wake_at(shard_env(r->shard), 0);
    fake_world_settle(r->world);
}

TEST(latch, writers_of_one_key_take_turns_in_order)
{
    struct rig r;
    struct request q[4] = {{.keys = "a"}, {.keys = "a"}, {.keys = "b"}, {.keys = "a"}};

    rig_start(&r);
    for (int i = 0; i < 4; i++) {
        launch(&r, &q[i]);
    }
    EXPECT_TRUE(q[0].done && q[2].done);
    EXPECT_FALSE(q[1].done || q[3].done);
    release(&r, &q[0]);
    EXPECT_TRUE(q[1].done);
    EXPECT_FALSE(q[3].done);
    release(&r, &q[1]);
    EXPECT_TRUE(q[3].done);
    release(&r, &q[2]);
    release(&r, &q[3]);
    rig_stop(&r);
}

/* No overtaking: c waits for b although b itself waits. */
TEST(latch, who_waits_is_not_overtaken)
{
    struct rig r;
    struct request a = {.keys = "x"};
    struct request b = {.keys = "xy"};
    struct request c = {.keys = "y"};

    rig_start(&r);
    launch(&r, &a);
    launch(&r, &b);
    launch(&r, &c);
    EXPECT_TRUE(a.done && !b.done && !c.done);
    release(&r, &a);
    EXPECT_TRUE(b.done && !c.done);
    release(&r, &b);
    EXPECT_TRUE(c.done);
    release(&r, &c);
    rig_stop(&r);
}

/* A batch may write one key twice. */
TEST(latch, one_key_twice_in_one_request)
{
    struct rig r;
    struct request a = {.keys = "xx"};
    struct request b = {.keys = "xyx"};
    struct request c = {.keys = "x"};

    rig_start(&r);
    launch(&r, &a);
    EXPECT_TRUE(a.done);
    launch(&r, &b);
    launch(&r, &c);
    release(&r, &a);
    EXPECT_TRUE(b.done && !c.done);
    release(&r, &b);
    EXPECT_TRUE(c.done);
    release(&r, &c);
    rig_stop(&r);
}

/* A reader waits for writers that have evaluated at or below its timestamp, and for nobody else. */
TEST(latch, readers_wait_by_timestamp)
{
    struct rig r;
    struct request w = {.keys = "k"};
    struct request early = {.keys = "k", .end = "", .ts = hts_ms(9)};
    struct request late = {.keys = "k", .end = "", .ts = hts_ms(10)};
    struct request before = {.keys = "k", .end = "", .ts = hts_ms(20)};
    struct request span = {.keys = "a", .end = "z", .ts = hts_ms(30)};
    struct request beside = {.keys = "a", .end = "k", .ts = hts_ms(30)};
    struct request behind = {.keys = "l", .end = "z", .ts = hts_ms(30)};

    rig_start(&r);
    launch(&r, &w);
    launch(&r, &before);
    EXPECT_TRUE(before.done); /* It will evaluate above everything that was read by then. */
    latch_evaluated(&w.guard, hts_ms(10));
    launch(&r, &early);
    EXPECT_TRUE(early.done);
    launch(&r, &late);
    launch(&r, &span);
    launch(&r, &beside);
    launch(&r, &behind);
    EXPECT_FALSE(late.done || span.done);
    EXPECT_TRUE(beside.done && behind.done);
    EXPECT_TRUE(latch_blocks_read(r.latches, NULL, BYTES_LIT("k"), BYTES_EMPTY, hts_ms(10)));
    EXPECT_FALSE(latch_blocks_read(r.latches, &w.guard, BYTES_LIT("k"), BYTES_EMPTY, hts_ms(10)));
    release(&r, &w);
    EXPECT_TRUE(late.done && span.done);
    EXPECT_OK(late.st);
    rig_stop(&r);
}

/* Several writers stand in the way, one after the other. */
TEST(latch, a_reader_looks_again)
{
    struct rig r;
    struct request a = {.keys = "a"};
    struct request b = {.keys = "b"};
    struct request span = {.keys = "a", .end = "c", .ts = hts_ms(30)};

    rig_start(&r);
    launch(&r, &a);
    launch(&r, &b);
    latch_evaluated(&a.guard, hts_ms(1));
    latch_evaluated(&b.guard, hts_ms(2));
    launch(&r, &span);
    release(&r, &a);
    EXPECT_FALSE(span.done);
    release(&r, &b);
    EXPECT_TRUE(span.done);
    rig_stop(&r);
}

/* Whoever gives up leaves no trace: those behind it move up. */
TEST(latch, giving_up_while_waiting)
{
    struct rig r;
    struct request a = {.keys = "x"};
    struct request b = {.keys = "xy"};
    struct request c = {.keys = "y"};
    struct request d = {.keys = "x", .deadline_ns = 1};
    struct request reader = {.keys = "x", .end = "", .ts = hts_ms(5)};

    rig_start(&r);
    launch(&r, &a);
    launch(&r, &b);
    launch(&r, &c);
    launch(&r, &d);
    EXPECT_CODE(STATUS_TIMEOUT, d.st);
    latch_evaluated(&a.guard, hts_ms(1));
    launch(&r, &reader);
    fiber_cancel(b.fiber);
    fiber_cancel(reader.fiber);
    fake_world_settle(r.world);
    EXPECT_CODE(STATUS_CANCELLED, b.st);
    EXPECT_CODE(STATUS_CANCELLED, reader.st);
    EXPECT_TRUE(c.done);
    EXPECT_OK(c.st);
    release(&r, &c);
    release(&r, &a);
    rig_stop(&r);
}

TEST(latch, too_many_requests_are_refused)
{
    struct rig r;
    struct request last = {.keys = "x"};
    struct latch_guard *many = calloc(LATCH_GUARDS_MAX, sizeof(*many));

    rig_start(&r);
    for (uint32_t i = 0; i < LATCH_GUARDS_MAX; i++) { /* Without keys nobody waits. */
        EXPECT_OK(latch_acquire(r.latches, &many[i], DEADLINE_NONE));
    }
    launch(&r, &last);
    EXPECT_CODE(STATUS_OVERLOADED, last.st);
    for (uint32_t i = 0; i < LATCH_GUARDS_MAX; i++) {
        latch_release(r.latches, &many[i]);
    }
    free(many);
    rig_stop(&r);
}

/* Random requests beside a naive twin: nobody is inside together with an earlier one of the same key, and
 * everybody gets in. */
TEST(latch, random_requests)
{
    struct rig r;
    struct request q[40];
    char keys[40][3];
    bool inside[40] = {false};
    struct rng rng;

    rng_seed(&rng, 5);
    rig_start(&r);
    for (int i = 0; i < 40; i++) {
        keys[i][0] = (char)('a' + rng_below(&rng, 5));
        keys[i][1] = (char)('a' + rng_below(&rng, 5));
        keys[i][2] = '\0';
        q[i] = (struct request){.keys = keys[i]};
        launch(&r, &q[i]);
    }
    for (int left = 40; left > 0;) {
        int out = -1;

        for (int i = 0; i < 40; i++) {
            const bool first = q[i].done && !inside[i];

            for (int k = 0; first && k < i; k++) {
                EXPECT_TRUE(strpbrk(keys[k], keys[i]) == NULL || q[k].st.code == STATUS_TIMEOUT);
            }
            inside[i] = inside[i] || first;
            out = inside[i] && q[i].st.code == STATUS_OK && (out < 0 || rng_below(&rng, 2) == 0)
                      ? i
                      : out;
        }
        EXPECT_TRUE(out >= 0);
        release(&r, &q[out]);
        q[out].st = FAIL(STATUS_TIMEOUT, "released");
        left--;
    }
    rig_stop(&r);
}
