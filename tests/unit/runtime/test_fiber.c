/* Fibers wait, are woken, cancelled and timed out; stacks are guarded and reused. */
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "node/runtime/fiber.h"
#include "node/runtime/shard_internal.h"
#include "tests/lib/env_fake.h"
#include "tests/lib/test.h"

#define MS ((uint64_t)1000000)

struct fixture {
    struct fake_world *w;
    struct shard *s;
    struct completion c;
    struct wait_queue q;
    struct fiber *fiber;
    char trace[64];
    size_t len;
    struct status st;
    uint64_t deadline_ns;
    uint64_t count;
};

static void fixture_init(struct fixture *f)
{
    *f = (struct fixture){.w = fake_world_create(), .deadline_ns = DEADLINE_NONE};
    f->s = fake_world_add_shard(f->w);
    wait_queue_init(&f->q);
}

static void fixture_deinit(struct fixture *f)
{
    fake_world_destroy(f->w);
}

static void note(struct fixture *f, char c)
{
    if (f->len + 1 < sizeof(f->trace)) {
        f->trace[f->len++] = c;
    }
}

static void trace_body(void *arg)
{
    struct fixture *f = arg;
    const char id = (char)('a' + f->count++);

    note(f, id);
    fiber_yield();
    note(f, (char)(id - 'a' + 'A'));
}

/* Fibers run in the order in which they became ready. */
TEST(fiber, yields_in_turn)
{
    struct fixture f;

    fixture_init(&f);
    for (int i = 0; i < 3; i++) {
        EXPECT_OK(fiber_spawn(f.s, "trace", trace_body, &f));
    }
    EXPECT_TRUE(fiber_current() == NULL);
    fake_world_settle(f.w);
    EXPECT_STREQ("abcABC", f.trace);
    fixture_deinit(&f);
}

static void wait_body(void *arg)
{
    struct fixture *f = arg;

    f->fiber = fiber_current();
    note(f, 'w');
    f->st = completion_wait(&f->c, f->deadline_ns);
    note(f, 'r');
}

TEST(fiber, completion_wakes_its_waiter)
{
    struct fixture f;

    fixture_init(&f);
    EXPECT_OK(fiber_spawn(f.s, "wait", wait_body, &f));
    fake_world_settle(f.w);
    EXPECT_STREQ("w", f.trace);
    completion_fire(&f.c);
    EXPECT_STREQ("w", f.trace); /* Not before the next turn. */
    fake_world_settle(f.w);
    EXPECT_STREQ("wr", f.trace);
    EXPECT_OK(f.st);

    /* Fired before: no wait at all. */
    EXPECT_OK(fiber_spawn(f.s, "wait", wait_body, &f));
    fake_world_settle(f.w);
    EXPECT_STREQ("wrwr", f.trace);
    fixture_deinit(&f);
}

/* The completion is detached by the timeout, and firing it later reaches nobody. */
TEST(fiber, wait_times_out_at_its_deadline)
{
    struct fixture f;
    struct shard_stats stats;

    fixture_init(&f);
    f.deadline_ns = fake_world_now_ns(f.w) + 5 * MS;
    EXPECT_OK(fiber_spawn(f.s, "wait", wait_body, &f));
    fake_world_advance(f.w, 5 * MS - 1);
    EXPECT_STREQ("w", f.trace);
    fake_world_advance(f.w, 1);
    EXPECT_STREQ("wr", f.trace);
    EXPECT_CODE(STATUS_TIMEOUT, f.st);
    EXPECT_TRUE(f.c.waiter == NULL);
    completion_fire(&f.c);
    fake_world_settle(f.w);

    /* A deadline in the past does not even switch. */
    f.c = (struct completion){0};
    EXPECT_OK(fiber_spawn(f.s, "wait", wait_body, &f));
    fake_world_settle(f.w);
    EXPECT_CODE(STATUS_TIMEOUT, f.st);

    shard_get_stats(f.s, &stats);
    EXPECT_EQ(0, stats.timers_armed);
    EXPECT_EQ(0, stats.fibers_live);
    EXPECT_EQ(1, stats.fibers_peak);
    fixture_deinit(&f);
}

TEST(fiber, cancel_ends_present_and_later_waits)
{
    struct fixture f;

    fixture_init(&f);
    EXPECT_OK(fiber_spawn(f.s, "wait", wait_body, &f));
    fake_world_settle(f.w);
    fiber_cancel(f.fiber);
    fake_world_settle(f.w);
    EXPECT_CODE(STATUS_CANCELLED, f.st);
    EXPECT_TRUE(f.c.waiter == NULL);
    fixture_deinit(&f);
}

static void deadline_body(void *arg)
{
    struct fixture *f = arg;
    const uint64_t now = shard_now_ns(f->s);

    f->fiber = fiber_current();
    fiber_set_deadline(now + 3 * MS);
    f->st = fiber_check();
    note(f, status_ok(f->st) ? '0' : '?');
    f->st = completion_wait(&f->c, now + 9 * MS);
    note(f, f->st.code == STATUS_TIMEOUT && shard_now_ns(f->s) == now + 3 * MS ? '1' : '?');
    note(f, fiber_check().code == STATUS_TIMEOUT ? '2' : '?');
    note(f, fiber_sleep(MS).code == STATUS_TIMEOUT ? '3' : '?');
    fiber_set_deadline(DEADLINE_NONE);
    note(f, fiber_sleep(MS).code == STATUS_OK ? '4' : '?');
    fiber_cancel(fiber_current());
    note(f, fiber_cancelled() && fiber_check().code == STATUS_CANCELLED ? '5' : '?');
    note(f, fiber_sleep(MS).code == STATUS_CANCELLED ? '6' : '?');
    fiber_clear_cancel(fiber_current());
    note(f, fiber_sleep(MS).code == STATUS_OK && !fiber_cancelled() ? '7' : '?');
}

TEST(fiber, own_deadline_bounds_every_wait)
{
    struct fixture f;

    fixture_init(&f);
    EXPECT_OK(fiber_spawn(f.s, "deadline", deadline_body, &f));
    fake_world_advance(f.w, 20 * MS);
    EXPECT_STREQ("01234567", f.trace);
    EXPECT_OK(fiber_check()); /* Outside of fibers. */
    fixture_deinit(&f);
}

static void queue_body(void *arg)
{
    struct fixture *f = arg;
    const char id = (char)('a' + f->count++);
    struct status st = OK;

    f->fiber = f->fiber == NULL ? fiber_current() : f->fiber;
    st = wait_queue_wait(&f->q, f->deadline_ns);
    note(f, status_ok(st) ? id : (st.code == STATUS_CANCELLED ? 'X' : 'T'));
}

TEST(fiber, wait_queue_wakes_in_order_of_arrival)
{
    struct fixture f;

    fixture_init(&f);
    for (int i = 0; i < 5; i++) {
        EXPECT_OK(fiber_spawn(f.s, "queue", queue_body, &f));
    }
    fake_world_settle(f.w);
    wait_queue_wake_one(&f.q);
    fake_world_settle(f.w);
    EXPECT_STREQ("a", f.trace);
    wait_queue_wake_all(&f.q);
    wait_queue_wake_all(&f.q);
    wait_queue_wake_one(&f.q);
    fake_world_settle(f.w);
    EXPECT_STREQ("abcde", f.trace);
    fixture_deinit(&f);
}

/* Who gives up leaves the queue: the wake-up goes to the next. */
TEST(fiber, wait_queue_skips_those_that_gave_up)
{
    struct fixture f;

    fixture_init(&f);
    EXPECT_OK(fiber_spawn(f.s, "queue", queue_body, &f));
    fake_world_settle(f.w);
    f.deadline_ns = fake_world_now_ns(f.w) + MS;
    EXPECT_OK(fiber_spawn(f.s, "queue", queue_body, &f));
    fake_world_settle(f.w);
    f.deadline_ns = DEADLINE_NONE;
    EXPECT_OK(fiber_spawn(f.s, "queue", queue_body, &f));
    fake_world_settle(f.w);
    fiber_cancel(f.fiber);
    fake_world_advance(f.w, MS);
    EXPECT_STREQ("XT", f.trace);
    wait_queue_wake_one(&f.q);
    fake_world_settle(f.w);
    EXPECT_STREQ("XTc", f.trace);
    fixture_deinit(&f);
}

static void count_body(void *arg)
{
    struct fixture *f = arg;
    volatile char touched[512];

    touched[0] = 1;
    f->st = wait_queue_wait(&f->q, DEADLINE_NONE);
    f->count += (uint64_t)touched[0];
}

TEST(fiber, ten_thousand_at_once_and_again)
{
    struct fixture f;

    fixture_init(&f);
    for (int round = 1; round <= 2; round++) {
        for (int i = 0; i < 10000; i++) {
            EXPECT_OK(fiber_spawn(f.s, "count", count_body, &f));
        }
        fake_world_settle(f.w);
        wait_queue_wake_all(&f.q);
        fake_world_settle(f.w);
        EXPECT_EQ(10000 * round, f.count);
    }
    EXPECT_EQ(FIBER_IDLE_MAX, f.s->idle_count);
    EXPECT_EQ(FIBER_WARM_MAX, f.s->warm_count);
    fixture_deinit(&f);
}

static void nothing_body(void *arg)
{
    UNUSED(arg);
}

/* At the limit a new fiber is refused, and one end makes room for one start. */
TEST(fiber, refuses_beyond_the_limit)
{
    struct fixture f;

    fixture_init(&f);
    f.s->fiber_count = SHARD_FIBERS_MAX - 1; /* Pretend: mapping 20,000 stacks proves no more. */
    EXPECT_OK(fiber_spawn(f.s, "last", nothing_body, NULL));
    EXPECT_CODE(STATUS_OVERLOADED, fiber_spawn(f.s, "over", nothing_body, NULL));
    fake_world_settle(f.w);
    EXPECT_OK(fiber_spawn(f.s, "last", nothing_body, NULL));
    fake_world_settle(f.w);
    f.s->fiber_count = 0;
    fixture_deinit(&f);
}

static void busy_body(void *arg)
{
    struct fixture *f = arg;

    for (uint32_t i = 0; i < 6 * FIBER_CALLS_PER_CLOCK; i++) {
        fake_world_pass(f->w, SHARD_TURN_BUDGET_NS / FIBER_CALLS_PER_CLOCK);
        fiber_yield_if_due();
    }
    note(f, 'b');
}

static void short_body(void *arg)
{
    note(arg, 's');
}

/* A loop that calls fiber_yield_if_due() lets others run once its budget is spent. */
TEST(fiber, busy_loop_yields_when_due)
{
    struct fixture f;

    fixture_init(&f);
    EXPECT_OK(fiber_spawn(f.s, "busy", busy_body, &f));
    EXPECT_OK(fiber_spawn(f.s, "short", short_body, &f));
    fiber_yield_if_due(); /* No effect here. */
    fake_world_settle(f.w);
    EXPECT_STREQ("sb", f.trace);
    fixture_deinit(&f);
}

static void blocking_add(void *arg)
{
    struct fixture *f = arg;

    f->count++;
}

static void blocking_body(void *arg)
{
    struct fixture *f = arg;

    f->fiber = fiber_current();
    fiber_run_blocking(ENV_LANE_IO, blocking_add, f);
    note(f, (char)('0' + f->count));
}

TEST(fiber, blocking_work_cannot_be_cancelled)
{
    struct fixture f;

    fixture_init(&f);
    fake_world_hold_jobs(f.w, true);
    EXPECT_OK(fiber_spawn(f.s, "blocking", blocking_body, &f));
    fake_world_settle(f.w);
    fiber_cancel(f.fiber);
    fake_world_advance(f.w, MS);
    EXPECT_STREQ("", f.trace);
    fake_world_hold_jobs(f.w, false);
    fake_world_settle(f.w);
    EXPECT_STREQ("1", f.trace);
    fixture_deinit(&f);
}

/* About 3 MiB of stack for a depth of 3000: far more than a fiber has. */
static uint64_t recurse(uint64_t depth)
{
    uint8_t pad[1000];
    uint64_t below = 0;

    memset(pad, (int)(depth & 0xFF), sizeof(pad));
    __asm__ volatile("" : : "r"(pad) : "memory"); /* Or the optimiser makes a loop of it. */
    below = depth == 0 ? 0 : recurse(depth - 1) + 1;
    __asm__ volatile("" : : "r"(pad) : "memory");
    return below;
}

struct deep {
    struct fixture *f;
    uint64_t result;
    int nested;
};

static void deep_fn(void *arg)
{
    struct deep *d = arg;

    d->result = recurse(3000);
    fiber_yield_if_due(); /* Must not leave the big stack. */
    if (d->nested-- > 0) {
        big_stack_run(d->f->s, deep_fn, d);
    }
}

static void deep_body(void *arg)
{
    struct deep *d = arg;

    for (int i = 0; i < 3; i++) {
        d->result = 0;
        d->nested = 1;
        big_stack_run(d->f->s, deep_fn, d);
        d->f->count += d->result;
        fiber_yield();
    }
}

TEST(fiber, big_stack_serves_fibers_and_plain_code)
{
    struct fixture f;
    struct deep d = {.f = &f};
    struct deep e = {.f = &f};

    fixture_init(&f);
    big_stack_run(f.s, deep_fn, &d);
    EXPECT_EQ(3000, d.result);
    EXPECT_OK(fiber_spawn(f.s, "deep", deep_body, &d));
    EXPECT_OK(fiber_spawn(f.s, "deep", deep_body, &e));
    fake_world_settle(f.w);
    EXPECT_EQ(6 * 3000, f.count);
    fixture_deinit(&f);
}

static void float_body(void *arg)
{
    struct fixture *f = arg;
    const double id = (double)f->count++;
    double x = id;

    for (int i = 0; i < 10; i++) {
        x = x * 2.0 + 1.0;
        fiber_yield();
    }
    note(f, x == id * 1024.0 + 1023.0 ? '.' : '?');
}

/* Registers that a call preserves, and floating point, survive switches. */
TEST(fiber, arithmetic_survives_switches)
{
    struct fixture f;

    fixture_init(&f);
    for (int i = 0; i < 8; i++) {
        EXPECT_OK(fiber_spawn(f.s, "float", float_body, &f));
    }
    fake_world_settle(f.w);
    EXPECT_STREQ("........", f.trace);
    fixture_deinit(&f);
}

static void overflow_body(void *arg)
{
    UNUSED(arg);
    (void)recurse(100000); /* Never returns: the guard page ends the process. */
}

static void wait_outside(struct fixture *f)
{
    f->st = completion_wait(&f->c, DEADLINE_NONE); /* Nobody to come back to. */
}

static void overflow_stack(struct fixture *f)
{
    if (status_ok(fiber_spawn(f->s, "overflow", overflow_body, NULL))) {
        fake_world_settle(f->w);
    }
}

/* True if fn ends a child of this process by a signal (or by the report of a sanitizer). */
static bool dies(void (*fn)(struct fixture *f), struct fixture *f)
{
    int wstatus = 0;
    pid_t pid = 0;

    (void)fflush(stdout);
    pid = fork();
    if (pid == 0) {
        (void)close(STDERR_FILENO); /* What it has to say is expected. */
        fn(f);
        _exit(0);
    }
    if (pid < 0 || waitpid(pid, &wstatus, 0) != pid) {
        return false;
    }
    return WIFSIGNALED(wstatus) || (WIFEXITED(wstatus) && WEXITSTATUS(wstatus) != 0);
}

/* Running over the end of a stack stops at the guard page instead of in a neighbour's memory. */
TEST(fiber, stack_overflow_meets_the_guard_page)
{
    struct fixture f;

    fixture_init(&f);
    EXPECT_TRUE(dies(overflow_stack, &f));
    fixture_deinit(&f);
}

TEST(fiber, waiting_outside_of_a_fiber_is_a_broken_invariant)
{
    struct fixture f;

    fixture_init(&f);
    EXPECT_TRUE(dies(wait_outside, &f));
    fixture_deinit(&f);
}
