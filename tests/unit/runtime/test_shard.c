/* Turns: timers, tasks, hooks and parcels, and who is current when. */
#include "node/base/hash.h"
#include "node/runtime/fiber.h"
#include "node/runtime/shard_internal.h"
#include "tests/lib/env_fake.h"
#include "tests/lib/test.h"

#define MS ((uint64_t)1000000)

struct probe {
    struct shard_task task;
    struct shard_timer timer;
    struct shard_parcel parcel;
    struct shard *s;
    struct probe *other;
    char id;
    int left;
    char *trace; /* Shared by the probes of a test. */
    size_t *len;
    uint64_t fired_ns;
};

static char trace[64];
static size_t trace_len;

static void trace_reset(void)
{
    memset(trace, 0, sizeof(trace));
    trace_len = 0;
}

static void trace_add(char c)
{
    if (trace_len + 1 < sizeof(trace)) {
        trace[trace_len++] = c;
    }
}

static void timer_fn(struct shard_timer *t)
{
    struct probe *p = CONTAINER_OF(t, struct probe, timer);

    trace_add(p->id);
    p->fired_ns = shard_now_ns(p->s);
    if (p->left-- > 0) {
        shard_timer_arm(p->s, &p->timer, 0);
    }
    if (p->other != NULL) {
        shard_timer_disarm(p->s, &p->other->timer);
    }
}

TEST(shard, equal_timers_fire_in_order_of_arming)
{
    struct fake_world *w = fake_world_create();
    struct shard *s = fake_world_add_shard(w);
    struct probe p[5] = {{.id = 'a'}, {.id = 'b'}, {.id = 'c'}, {.id = 'd'}, {.id = 'e'}};
    const uint64_t start = fake_world_now_ns(w);

    trace_reset();
    for (int i = 0; i < 5; i++) {
        p[i].s = s;
        p[i].timer.fn = timer_fn;
        shard_timer_arm(s, &p[i].timer, start + 2 * MS);
    }
    shard_timer_arm(s, &p[1].timer, start + 2 * MS); /* Armed again: last now. */
    shard_timer_arm_in(s, &p[4].timer, MS);
    shard_timer_disarm(s, &p[2].timer);
    shard_timer_disarm(s, &p[2].timer);
    fake_world_advance(w, 2 * MS - 1);
    EXPECT_STREQ("e", trace);
    fake_world_advance(w, 1);
    EXPECT_STREQ("eadb", trace);
    EXPECT_TRUE(p[0].fired_ns == start + 2 * MS);
    fake_world_destroy(w);
}

/* A timer that keeps arming itself for the past fires once a turn, and the clock still moves on. */
TEST(shard, timer_in_the_past_fires_in_the_next_turn)
{
    struct fake_world *w = fake_world_create();
    struct shard *s = fake_world_add_shard(w);
    struct probe p = {.s = s, .id = 'x', .left = 3, .timer = {.fn = timer_fn}};
    struct shard_stats stats;

    trace_reset();
    shard_timer_arm(s, &p.timer, 0);
    fake_world_advance(w, MS);
    EXPECT_STREQ("xxxx", trace);
    shard_get_stats(s, &stats);
    EXPECT_TRUE(stats.turns >= 4);
    EXPECT_EQ(0, stats.timers_armed);
    fake_world_destroy(w);
}

/* A timer may disarm another that is due in the same turn. */
TEST(shard, timer_disarms_another_that_is_due)
{
    struct fake_world *w = fake_world_create();
    struct shard *s = fake_world_add_shard(w);
    struct probe b = {.s = s, .id = 'b', .timer = {.fn = timer_fn}};
    struct probe a = {.s = s, .id = 'a', .timer = {.fn = timer_fn}, .other = &b};

    trace_reset();
    shard_timer_arm_in(s, &a.timer, MS);
    shard_timer_arm_in(s, &b.timer, MS);
    fake_world_advance(w, MS);
    EXPECT_STREQ("a", trace);
    fake_world_destroy(w);
}

/* The heap against a linear search: random arming, moving, disarming, popping. */
TEST(shard, timer_heap_agrees_with_a_linear_search)
{
    enum {
        TIMERS = 200
    };
    static struct shard_timer timers[TIMERS];
    struct timer_heap h;
    struct rng rng;
    uint64_t now = 0;

    rng_seed(&rng, 7);
    timer_heap_init(&h);
    memset(timers, 0, sizeof(timers));
    for (int step = 0; step < 20000; step++) {
        struct shard_timer *t = &timers[rng_below(&rng, TIMERS)];
        struct shard_timer *want = NULL;

        if (rng_permille(&rng, 600)) {
            timer_heap_put(&h, t, now + rng_below(&rng, 50));
            continue;
        }
        if (rng_permille(&rng, 300)) {
            timer_heap_remove(&h, t);
            EXPECT_EQ(0, t->heap_slot);
            continue;
        }
        now += rng_below(&rng, 5);
        for (int i = 0; i < TIMERS; i++) {
            struct shard_timer *c = &timers[i];

            if (c->heap_slot != 0 && c->at_ns <= now &&
                (want == NULL || c->at_ns < want->at_ns ||
                 (c->at_ns == want->at_ns && c->order < want->order))) {
                want = c;
            }
        }
        EXPECT_TRUE(timer_heap_pop_due(&h, now) == want);
    }
    timer_heap_deinit(&h);
}

static void task_fn(struct shard_task *t)
{
    struct probe *p = CONTAINER_OF(t, struct probe, task);

    trace_add(p->id);
    if (p->left-- > 0) {
        shard_post(p->s, &p->task);
    }
    if (p->other != NULL) {
        shard_unpost(p->s, &p->other->task);
    }
}

TEST(shard, task_posted_twice_runs_once)
{
    struct fake_world *w = fake_world_create();
    struct shard *s = fake_world_add_shard(w);
    struct probe a = {.s = s, .id = 'a', .left = 1, .task = {.fn = task_fn}};
    struct probe b = {.s = s, .id = 'b', .task = {.fn = task_fn}};
    struct probe c = {.s = s, .id = 'c', .task = {.fn = task_fn}};

    trace_reset();
    shard_post(s, &a.task);
    shard_post(s, &b.task);
    shard_post(s, &a.task);
    shard_post(s, &c.task);
    shard_unpost(s, &c.task);
    shard_unpost(s, &c.task);
    fake_world_settle(w);
    EXPECT_STREQ("aba", trace);
    fake_world_destroy(w);
}

/* Taking back a task works also while the batch that holds it runs. */
TEST(shard, task_takes_back_one_behind_it)
{
    struct fake_world *w = fake_world_create();
    struct shard *s = fake_world_add_shard(w);
    struct probe b = {.s = s, .id = 'b', .task = {.fn = task_fn}};
    struct probe a = {.s = s, .id = 'a', .task = {.fn = task_fn}, .other = &b};
    struct probe c = {.s = s, .id = 'c', .task = {.fn = task_fn}};

    trace_reset();
    shard_post(s, &a.task);
    shard_post(s, &b.task);
    shard_post(s, &c.task);
    fake_world_settle(w);
    EXPECT_STREQ("ac", trace);
    fake_world_destroy(w);
}

static void slow_task_fn(struct shard_task *t)
{
    struct probe *p = CONTAINER_OF(t, struct probe, task);

    trace_add(p->id);
    fake_world_pass((struct fake_world *)(void *)p->trace, SHARD_TURN_BUDGET_NS / 4);
}

static bool hook_bar(void *ctx)
{
    UNUSED(ctx);
    trace_add('|');
    return false;
}

/* Past its budget a turn ends, hooks run, and the rest follows in the same order. */
TEST(shard, budget_splits_a_long_batch)
{
    struct fake_world *w = fake_world_create();
    struct shard *s = fake_world_add_shard(w);
    struct probe p[20];

    trace_reset();
    EXPECT_OK(shard_add_hook(s, hook_bar, NULL));
    for (int i = 0; i < 20; i++) {
        p[i] = (struct probe){
            .s = s, .id = (char)('a' + i), .task = {.fn = slow_task_fn}, .trace = (char *)w};
        shard_post(s, &p[i].task);
    }
    fake_world_settle(w);
    EXPECT_STREQ("abcdefgh|ijklmnop|qrst|", trace);
    fake_world_destroy(w);
}

struct hook {
    char id;
    int again;
};

static bool hook_fn(void *ctx)
{
    struct hook *h = ctx;

    trace_add(h->id);
    return h->again-- > 0;
}

TEST(shard, hooks_run_last_and_may_ask_for_another_turn)
{
    struct fake_world *w = fake_world_create();
    struct shard *s = fake_world_add_shard(w);
    struct hook a = {.id = 'A'};
    struct hook b = {.id = 'B', .again = 1};
    struct probe t = {.s = s, .id = 't', .task = {.fn = task_fn}};

    trace_reset();
    EXPECT_OK(shard_add_hook(s, hook_fn, &a));
    EXPECT_OK(shard_add_hook(s, hook_fn, &b));
    shard_post(s, &t.task);
    fake_world_settle(w);
    EXPECT_STREQ("tBABA", trace);
    for (int i = 2; i < SHARD_HOOKS_MAX; i++) {
        EXPECT_OK(shard_add_hook(s, hook_fn, &a));
    }
    EXPECT_CODE(STATUS_OVERLOADED, shard_add_hook(s, hook_fn, &a));
    shard_remove_hooks(s, &a);
    EXPECT_OK(shard_add_hook(s, hook_fn, &a));
    fake_world_destroy(w);
}

static void parcel_deliver(struct shard *to, struct shard_parcel *p)
{
    struct probe *probe = CONTAINER_OF(p, struct probe, parcel);

    if (to != NULL && to == shard_current() && to == probe->s) {
        trace_add(probe->id);
    } else {
        trace_add(to == NULL ? '0' : '?');
    }
}

TEST(shard, parcels_arrive_in_order_on_the_other_shard)
{
    struct fake_world *w = fake_world_create();
    struct shard *a = fake_world_add_shard(w);
    struct shard *b = fake_world_add_shard(w);
    struct probe p[3] = {{.s = b, .id = '1'}, {.s = b, .id = '2'}, {.s = a, .id = '3'}};

    trace_reset();
    EXPECT_EQ(0, shard_index(a));
    EXPECT_EQ(1, shard_index(b));
    for (int i = 0; i < 3; i++) {
        p[i].parcel.deliver = parcel_deliver;
        EXPECT_OK(shard_post_remote(p[i].s, &p[i].parcel));
    }
    fake_world_settle(w);
    EXPECT_STREQ("312", trace);
    EXPECT_OK(shard_post_remote(b, &p[0].parcel));
    fake_world_destroy(w); /* Settles first. */
    EXPECT_STREQ("3121", trace);
}

static unsigned parcels_released;

static void parcel_release(struct shard *to, struct shard_parcel *p)
{
    UNUSED(p);
    parcels_released += to == NULL ? 1 : 0;
}

/* Full means refuse; parcels that nobody took are released with the shard. */
TEST(shard, parcel_queue_is_bounded)
{
    static struct shard_parcel p[SHARD_PARCELS_MAX + 1];
    struct fake_world *w = fake_world_create();
    struct env *e = fake_world_add_env(w);
    const struct shard_options o = {.env = e};
    struct shard *s = NULL;

    parcels_released = 0;
    EXPECT_OK(shard_create(&o, &s));
    for (uint32_t i = 0; i < SHARD_PARCELS_MAX; i++) {
        p[i].deliver = parcel_release;
        EXPECT_OK(shard_post_remote(s, &p[i]));
    }
    EXPECT_CODE(STATUS_OVERLOADED, shard_post_remote(s, &p[SHARD_PARCELS_MAX]));
    shard_destroy(s);
    EXPECT_EQ(SHARD_PARCELS_MAX, parcels_released);
    fake_world_destroy(w);
}

TEST(shard, entering_nests_and_restores_log_and_current)
{
    struct fake_world *w = fake_world_create();
    struct shard *a = fake_world_add_shard(w);
    struct shard *b = fake_world_add_shard(w);

    EXPECT_TRUE(shard_current() == NULL);
    EXPECT_FALSE(log_enabled(LOG_LEVEL_ERROR));
    shard_enter(a);
    shard_enter(b);
    shard_enter(b);
    EXPECT_TRUE(shard_current() == b);
    shard_leave(b);
    EXPECT_TRUE(shard_current() == b);
    shard_leave(b);
    EXPECT_TRUE(shard_current() == a);
    EXPECT_TRUE(log_enabled(LOG_LEVEL_ERROR));
    LOG_ERROR("test.error", U64("n", 1));
    shard_leave(a);
    EXPECT_TRUE(shard_current() == NULL);
    EXPECT_FALSE(log_enabled(LOG_LEVEL_ERROR));
    EXPECT_EQ(1, fake_world_errors_logged(w));
    fake_world_destroy(w);
}

TEST(shard, slots_hold_what_layers_hang_there)
{
    struct fake_world *w = fake_world_create();
    struct shard *s = fake_world_add_shard(w);
    int x = 0;

    EXPECT_TRUE(shard_get_slot(s, SHARD_SLOT_KV) == NULL);
    shard_set_slot(s, SHARD_SLOT_KV, &x);
    EXPECT_TRUE(shard_get_slot(s, SHARD_SLOT_KV) == &x);
    EXPECT_TRUE(shard_get_slot(s, SHARD_SLOT_RPC) == NULL);
    EXPECT_TRUE(shard_env(s)->shard == s);
    fake_world_destroy(w);
}
