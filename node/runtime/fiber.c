/*
 * fiber.c -- fibers: starting, waiting, waking, ending.
 *
 * A fiber is switched to from the plain stack of the turn and switches back to it; fibers never
 * switch to each other. It is in one of three states: READY in the queue of the shard, RUNNING, or
 * WAITING. A wait ends by exactly one of: the event, the deadline, a cancel. Whichever comes first
 * takes the fiber out of all the places where it waits (fiber_wake), so that the others no longer
 * find it. The fiber then runs in this turn or the next and reports what woke it.
 *
 * Stacks cost a mapping and, once touched, two pages or more; both are kept for the next fiber: the
 * first FIBER_WARM_MAX idle ones with their pages, more without, beyond FIBER_IDLE_MAX none.
 *
 * Looking at the clock costs more than a row of a table, so fiber_yield_if_due() does it on every
 * FIBER_CALLS_PER_CLOCK-th call only, and a slice is measured from the first such look.
 */
#include "node/runtime/fiber.h"

#include <stdlib.h>

#include "node/base/invariant.h"
#include "node/runtime/shard_internal.h"

static void fiber_free(struct fiber *f)
{
    fiber_stack_unmap(&f->context);
    free(f);
}

/* An idle fiber, or a new one. */
static struct status fiber_take(struct shard *s, struct fiber **out)
{
    struct list *it = list_pop_front(&s->idle);
    struct fiber *f = NULL;
    struct status st = OK;

    if (it != NULL) {
        f = LIST_ENTRY(it, struct fiber, link);
        s->idle_count--;
        s->warm_count -= f->warm ? 1 : 0;
        *out = f;
        return OK;
    }
    f = calloc(1, sizeof(*f));
    if (f == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a fiber");
    }
    st = fiber_stack_map(&f->context, s->fiber_stack_bytes);
    if (!status_ok(st)) {
        free(f);
        return st;
    }
    *out = f;
    return OK;
}

static void fiber_recycle(struct shard *s, struct fiber *f)
{
    fiber_context_deinit(&f->context);
    list_remove(&f->live_link);
    s->fiber_count--;
    if (s->idle_count >= FIBER_IDLE_MAX) {
        fiber_free(f);
        return;
    }
    s->idle_count++;
    f->warm = s->warm_count < FIBER_WARM_MAX;
    if (f->warm) {
        s->warm_count++;
        list_push_front(&s->idle, &f->link);
    } else {
        fiber_stack_trim(&f->context);
        list_push_back(&s->idle, &f->link);
    }
}

void fiber__pool_deinit(struct shard *s)
{
    LIST_FOREACH(it, &s->idle) {
        list_remove(it);
        fiber_free(LIST_ENTRY(it, struct fiber, link));
    }
    s->idle_count = 0;
    s->warm_count = 0;
}

static void fiber_make_ready(struct fiber *f)
{
    f->state = FIBER_READY;
    list_push_back(&f->shard->ready, &f->link);
    shard__kick(f->shard);
}

/* Ends the wait of a fiber with a result. */
static void fiber_wake(struct fiber *f, enum status_code why)
{
    INVARIANT(f->state == FIBER_WAITING);
    shard_timer_disarm(f->shard, &f->timer);
    list_remove(&f->link);
    if (f->completion != NULL) {
        f->completion->waiter = NULL;
        f->completion = NULL;
    }
    f->woken = why;
    fiber_make_ready(f);
}

static void fiber_on_timer(struct shard_timer *t)
{
    fiber_wake(CONTAINER_OF(t, struct fiber, timer), STATUS_TIMEOUT);
}

static void fiber_main(void *arg)
{
    struct fiber *f = arg;

    fiber_context_arrived(&f->context);
    f->fn(f->arg);
    f->finished = true;
    fiber_context_leave(&f->context, &f->shard->plain);
}

struct status fiber_spawn(struct shard *s, const char *name, void (*fn)(void *arg), void *arg)
{
    struct fiber *f = NULL;

    if (s->fiber_count >= SHARD_FIBERS_MAX) {
        return FAIL(STATUS_OVERLOADED, "too many fibers on one shard");
    }
    TRY(fiber_take(s, &f));
    f->shard = s;
    f->name = name;
    f->fn = fn;
    f->arg = arg;
    f->state = FIBER_RUNNING;
    f->completion = NULL;
    f->timer = (struct shard_timer){.fn = fiber_on_timer};
    f->deadline_ns = DEADLINE_NONE;
    f->cancelled = false;
    f->finished = false;
    list_init(&f->link);
    list_push_back(&s->live, &f->live_link);
    s->fiber_count++;
    if (s->fiber_count > s->stats.fibers_peak) {
        s->stats.fibers_peak = s->fiber_count;
    }
    fiber_context_init(&f->context, fiber_main, f);
    fiber_make_ready(f);
    return OK;
}

struct fiber *fiber_current(void)
{
    const struct shard *s = shard_current();

    return s == NULL ? NULL : s->running;
}

/* The running fiber; a wait anywhere else has nobody to come back to. */
static struct fiber *fiber_must_run(void)
{
    struct fiber *f = fiber_current();

    INVARIANT(f != NULL);
    INVARIANT(f->state == FIBER_RUNNING);
    INVARIANT(f->shard->big.caller == NULL); /* What runs on the big stack must not yield. */
    return f;
}

static void fiber_resume(struct shard *s, struct fiber *f)
{
    f->state = FIBER_RUNNING;
    f->slice_start_ns = 0;
    f->calls_to_clock = FIBER_CALLS_PER_CLOCK;
    s->running = f;
    fiber_context_switch(&s->plain, &f->context);
    s->running = NULL;
    if (f->finished) {
        fiber_recycle(s, f);
    }
}

bool fiber__run_ready(struct shard *s)
{
    /* Those that become ready meanwhile queue up behind this one and run in the next round. */
    struct list *last = s->ready.prev;
    bool any = false;

    while (!list_empty(&s->ready)) {
        struct list *it = list_pop_front(&s->ready);

        any = true;
        fiber_resume(s, LIST_ENTRY(it, struct fiber, link));
        if (!shard__may_go_on(s) || it == last) {
            break;
        }
    }
    return any;
}

void fiber_yield(void)
{
    struct fiber *f = fiber_must_run();

    fiber_make_ready(f);
    fiber_context_switch(&f->context, &f->shard->plain);
}

void fiber_yield_if_due(void)
{
    struct fiber *f = fiber_current();
    uint64_t now = 0;

    if (f == NULL || f->shard->big.caller != NULL || --f->calls_to_clock > 0) {
        return;
    }
    f->calls_to_clock = FIBER_CALLS_PER_CLOCK;
    now = shard__refresh_now(f->shard);
    if (f->slice_start_ns == 0) {
        f->slice_start_ns = now;
    } else if (now - f->slice_start_ns >= SHARD_TURN_BUDGET_NS) {
        fiber_yield();
    }
}

static struct status woken_status(enum status_code code)
{
    if (code == STATUS_OK) {
        return OK;
    }
    return code == STATUS_TIMEOUT ? FAIL(STATUS_TIMEOUT, "the deadline of the wait passed")
                                  : FAIL(STATUS_CANCELLED, "the wait was cancelled");
}

struct status fiber_check(void)
{
    struct fiber *f = fiber_current();

    if (f == NULL) {
        return OK;
    }
    if (f->cancelled) {
        return woken_status(STATUS_CANCELLED);
    }
    if (f->deadline_ns != DEADLINE_NONE && f->deadline_ns <= shard_now_ns(f->shard)) {
        return woken_status(STATUS_TIMEOUT);
    }
    return OK;
}

/* Waits until fiber_wake(); the caller has put the fiber where the event will find it. */
static enum status_code fiber_block(struct fiber *f, uint64_t deadline_ns, bool cancellable)
{
    f->state = FIBER_WAITING;
    f->cancellable = cancellable;
    if (deadline_ns != DEADLINE_NONE) {
        shard_timer_arm(f->shard, &f->timer, deadline_ns);
    }
    fiber_context_switch(&f->context, &f->shard->plain);
    INVARIANT(f->completion == NULL);
    INVARIANT(f->timer.heap_slot == 0);
    return f->woken;
}

/* Blocks with the fiber's deadline and cancellation taken into account; in `q` if not NULL, else on
 * `c` if not NULL, else for the deadline only. */
static struct status fiber_wait(struct wait_queue *q, struct completion *c, uint64_t deadline_ns)
{
    struct fiber *f = fiber_must_run();
    const uint64_t until = deadline_ns < f->deadline_ns ? deadline_ns : f->deadline_ns;

    if (f->cancelled) {
        return woken_status(STATUS_CANCELLED);
    }
    if (until != DEADLINE_NONE && until <= shard_now_ns(f->shard)) {
        return woken_status(STATUS_TIMEOUT);
    }
    if (c != NULL) {
        INVARIANT(c->waiter == NULL); /* One fiber waits. */
        c->waiter = f;
        f->completion = c;
    }
    if (q != NULL) {
        list_push_back(&q->waiters, &f->link);
    }
    return woken_status(fiber_block(f, until, true));
}

struct status fiber_sleep(uint64_t ns)
{
    struct fiber *f = fiber_must_run();
    const uint64_t now = shard_now_ns(f->shard);
    const uint64_t until = ns > UINT64_MAX - 1 - now ? UINT64_MAX - 1 : now + ns;
    const struct status st = fiber_wait(NULL, NULL, until);

    /* To have slept long enough is no error; to have met the fiber's own deadline is. */
    if (st.code == STATUS_TIMEOUT && until <= f->deadline_ns) {
        return OK;
    }
    return st;
}

struct status completion_wait(struct completion *c, uint64_t deadline_ns)
{
    return c->done ? OK : fiber_wait(NULL, c, deadline_ns);
}

void completion_fire(struct completion *c)
{
    c->done = true;
    if (c->waiter != NULL) {
        fiber_wake(c->waiter, STATUS_OK);
    }
}

void wait_queue_init(struct wait_queue *q)
{
    list_init(&q->waiters);
}

struct status wait_queue_wait(struct wait_queue *q, uint64_t deadline_ns)
{
    return fiber_wait(q, NULL, deadline_ns);
}

void wait_queue_wake_one(struct wait_queue *q)
{
    if (!list_empty(&q->waiters)) {
        fiber_wake(LIST_ENTRY(q->waiters.next, struct fiber, link), STATUS_OK);
    }
}

void wait_queue_wake_all(struct wait_queue *q)
{
    while (!list_empty(&q->waiters)) {
        wait_queue_wake_one(q);
    }
}

void fiber_cancel(struct fiber *f)
{
    f->cancelled = true;
    if (f->state == FIBER_WAITING && f->cancellable) {
        fiber_wake(f, STATUS_CANCELLED);
    }
}

void fiber_cancel_all(struct shard *s)
{
    LIST_FOREACH(it, &s->live) {
        fiber_cancel(LIST_ENTRY(it, struct fiber, live_link));
    }
}

void fiber_log_live(struct shard *s)
{
    static const char *const states[] = {"ready", "running", "waiting"};
    uint32_t left = FIBERS_LOGGED_MAX;

    shard_enter(s);
    LIST_FOREACH(it, &s->live) {
        const struct fiber *f = LIST_ENTRY(it, struct fiber, live_link);

        if (left-- == 0) {
            break;
        }
        LOG_WARN("fiber.live", U64("shard", s->index), STR("name", f->name),
                 STR("state", states[f->state]));
    }
    shard_leave(s);
}

void fiber_clear_cancel(struct fiber *f)
{
    f->cancelled = false;
}

bool fiber_cancelled(void)
{
    const struct fiber *f = fiber_current();

    return f != NULL && f->cancelled;
}

void fiber_set_deadline(uint64_t deadline_ns)
{
    struct fiber *f = fiber_current();

    INVARIANT(f != NULL);
    f->deadline_ns = deadline_ns;
}

/* Lives on the stack of the waiting fiber, which stays until done() has run. */
struct blocking_call {
    struct env_job job;
    struct completion done;
    void (*work)(void *arg);
    void *arg;
};

static void blocking_work(struct env_job *job)
{
    struct blocking_call *b = CONTAINER_OF(job, struct blocking_call, job);

    /* lint-allow(yields): a thread of its own, outside of any shard: nothing can yield */
    b->work(b->arg);
}

static void blocking_done(struct env_job *job)
{
    completion_fire(&CONTAINER_OF(job, struct blocking_call, job)->done);
}

void fiber_run_blocking(enum env_lane lane, void (*work)(void *arg), void *arg)
{
    struct fiber *f = fiber_must_run();
    struct blocking_call b = {
        .job = {.work = blocking_work, .done = blocking_done},
        .work = work,
        .arg = arg,
    };

    f->completion = &b.done;
    b.done.waiter = f;
    env_submit(f->shard->env, lane, &b.job);
    /* Neither deadline nor cancel: the other thread uses this stack. */
    (void)fiber_block(f, DEADLINE_NONE, false); /* Only the event can end it. */
    INVARIANT(b.done.done);
}
