/*
 * shard.c -- the turn of a shard.
 *
 * The env calls back with bytes, finished jobs and signals; none of these callbacks does much more
 * than to note work: post a task, wake a fiber, arm a timer. Then comes the turn:
 *
 *     due timers -> { parcels -> tasks -> ready fibers } repeated until nothing is left -> hooks
 *
 * and the env sends what the turn has queued on each connection. Because hooks come last and once,
 * everything that a whole batch of events caused leaves together: one log write, one send per peer.
 *
 * Invariants:
 *   1. Work never waits for an event: whoever makes something ready outside of a turn kicks the env
 *      (shard__kick), and a turn that ends with work left says so.
 *   2. A turn ends. Each kind of work gets at least one piece per turn, so none starves another; past
 *      SHARD_TURN_BUDGET_NS, or SHARD_ROUNDS_MAX where the clock stands still, the rest waits for the
 *      next turn and sockets are served in between.
 *   3. What happens depends on the order of events only, never on addresses: queues are first in first
 *      out, timers are ordered by time and then by arming.
 *
 * The clock is read at the start and the end of a turn and after every few pieces; everybody else
 * uses the cached reading (shard_now_ns).
 */
#include "node/runtime/shard.h"

#include <stdlib.h>

#include "node/base/invariant.h"
#include "node/runtime/shard_internal.h"

/* In the simulator many shards share a thread, hence current is per turn and not per thread life. */
static _Thread_local struct shard *current_shard; /* lint-allow(globals): one per thread */

struct status shard_create(const struct shard_options *o, struct shard **out)
{
    struct shard *s = calloc(1, sizeof(*s));

    if (s == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a shard");
    }
    INVARIANT(o->env->shard == NULL);
    s->env = o->env;
    s->index = o->index;
    s->log = o->log;
    s->fiber_stack_bytes = o->fiber_stack_bytes == 0 ? FIBER_STACK_BYTES : o->fiber_stack_bytes;
    list_init(&s->tasks);
    list_init(&s->ready);
    list_init(&s->live);
    list_init(&s->idle);
    timer_heap_init(&s->timers);
    parcel_queue_init(&s->inbox);
    s->env->shard = s;
    *out = s;
    return OK;
}

void shard_destroy(struct shard *s)
{
    if (s == NULL) {
        return;
    }
    INVARIANT(s->depth == 0);
    if (s->fiber_count != 0) {
        fiber_log_live(s); /* Says whom to look for. */
    }
    INVARIANT(s->fiber_count == 0);
    LIST_FOREACH(it, &s->tasks) {
        shard_unpost(s, LIST_ENTRY(it, struct shard_task, link));
    }
    parcel_queue_deinit(&s->inbox);
    timer_heap_deinit(&s->timers);
    fiber__pool_deinit(s);
    big_stack_deinit(s);
    s->env->shard = NULL;
    free(s);
}

struct env *shard_env(struct shard *s)
{
    return s->env;
}

uint32_t shard_index(const struct shard *s)
{
    return s->index;
}

struct shard *shard_current(void)
{
    return current_shard;
}

void shard_set_slot(struct shard *s, enum shard_slot slot, void *value)
{
    INVARIANT(slot < SHARD_SLOT_COUNT);
    s->slots[slot] = value;
}

void *shard_get_slot(const struct shard *s, enum shard_slot slot)
{
    INVARIANT(slot < SHARD_SLOT_COUNT);
    return s->slots[slot];
}

void shard_enter(struct shard *s)
{
    if (current_shard == s) {
        s->depth++;
        return;
    }
    INVARIANT(s->depth == 0);
    s->depth = 1;
    s->outer = current_shard;
    s->outer_log = log_install(s->log);
    s->now_valid = false; /* Time has passed since this shard was left. */
    current_shard = s;
}

void shard_leave(struct shard *s)
{
    INVARIANT(current_shard == s);
    INVARIANT(s->depth > 0);
    if (--s->depth > 0) {
        return;
    }
    (void)log_install(s->outer_log); /* Ours comes back: nothing to remember. */
    current_shard = s->outer;
    s->outer = NULL;
}

uint64_t shard__refresh_now(struct shard *s)
{
    const uint64_t now = env_mono_ns(s->env);

    INVARIANT(now >= s->now_ns);
    s->now_ns = now;
    s->now_valid = true;
    return now;
}

uint64_t shard_now_ns(struct shard *s)
{
    return s->now_valid ? s->now_ns : shard__refresh_now(s);
}

void shard__kick(struct shard *s)
{
    if (!s->in_turn && !s->kicked) {
        s->kicked = true;
        s->env->ops->wake_at(s->env, 0);
    }
}

bool shard__may_go_on(struct shard *s)
{
    if (++s->pieces % SHARD_PIECES_PER_CLOCK == 0) {
        (void)shard__refresh_now(s); /* For the comparison below. */
    }
    return s->now_ns - s->turn_start_ns < SHARD_TURN_BUDGET_NS;
}

static void run_due_timers(struct shard *s)
{
    struct shard_timer *t = NULL;

    /* Bounded: what is armed during the turn is later than its start, see shard_timer_arm(). */
    while ((t = timer_heap_pop_due(&s->timers, s->turn_start_ns)) != NULL) {
        t->fn(t);
        if (!shard__may_go_on(s)) {
            break;
        }
    }
}

/* Runs the tasks that are there now, not those that they post; true if there was one. */
static bool run_tasks(struct shard *s)
{
    struct list batch;
    struct list *it = NULL;
    bool any = false;

    if (list_empty(&s->tasks)) {
        return false;
    }
    /* The batch takes the place of the head, so that shard_unpost() works on both. */
    batch = s->tasks;
    batch.next->prev = &batch;
    batch.prev->next = &batch;
    list_init(&s->tasks);
    while ((it = list_pop_front(&batch)) != NULL) {
        struct shard_task *t = LIST_ENTRY(it, struct shard_task, link);

        any = true;
        t->posted = false;
        t->fn(t);
        if (!shard__may_go_on(s)) {
            break;
        }
    }
    /* What the budget did not reach goes before what was posted meanwhile. */
    while (!list_empty(&batch)) {
        it = batch.prev;
        list_remove(it);
        list_push_front(&s->tasks, it);
    }
    return any;
}

static bool run_hooks(struct shard *s)
{
    bool again = false;

    /* Upper layers are created later: what they hand down must still leave in this turn. */
    for (uint32_t i = s->hook_count; i > 0; i--) {
        again = s->hooks[i - 1].fn(s->hooks[i - 1].ctx) || again;
    }
    return again;
}

static void note_turn(struct shard *s)
{
    const uint64_t now = shard__refresh_now(s);
    const uint64_t took = now - s->turn_start_ns;

    s->stats.turns++;
    s->stats.last_turn_ended_ns = now;
    if (took > s->stats.longest_turn_ns) {
        s->stats.longest_turn_ns = took;
    }
}

bool shard_turn(struct shard *s)
{
    bool more = false;

    INVARIANT(!s->in_turn);
    shard_enter(s);
    s->in_turn = true;
    s->kicked = false;
    s->pieces = 0;
    s->turn_start_ns = shard__refresh_now(s);
    run_due_timers(s);
    for (uint32_t round = 0; round < SHARD_ROUNDS_MAX; round++) {
        const bool parcels = parcel_queue_deliver(s);
        const bool tasks = run_tasks(s);
        const bool fibers = fiber__run_ready(s);

        if ((!parcels && !tasks && !fibers) || !shard__may_go_on(s)) {
            break;
        }
    }
    more = run_hooks(s);
    more = more || !list_empty(&s->tasks) || !list_empty(&s->ready);
    more = more || parcel_queue_waiting(&s->inbox);
    note_turn(s);
    if (timer_heap_next_ns(&s->timers) != UINT64_MAX) {
        s->env->ops->wake_at(s->env, timer_heap_next_ns(&s->timers));
    }
    s->in_turn = false;
    s->now_valid = false; /* The env may sleep now. */
    shard_leave(s);
    return more;
}

struct status shard_add_hook(struct shard *s, bool (*fn)(void *ctx), void *ctx)
{
    if (s->hook_count == SHARD_HOOKS_MAX) {
        return FAIL(STATUS_OVERLOADED, "too many hooks on one shard");
    }
    s->hooks[s->hook_count++] = (struct shard_hook){fn, ctx};
    return OK;
}

void shard_remove_hooks(struct shard *s, void *ctx)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < s->hook_count; i++) {
        if (s->hooks[i].ctx != ctx) {
            s->hooks[kept++] = s->hooks[i];
        }
    }
    s->hook_count = kept;
}

void shard_post(struct shard *s, struct shard_task *t)
{
    if (t->posted) {
        return;
    }
    t->posted = true;
    list_push_back(&s->tasks, &t->link);
    shard__kick(s);
}

void shard_unpost(struct shard *s, struct shard_task *t)
{
    UNUSED(s);
    if (t->posted) {
        t->posted = false;
        list_remove(&t->link);
    }
}

void shard_timer_arm(struct shard *s, struct shard_timer *t, uint64_t at_ns)
{
    INVARIANT(t->fn != NULL);
    /* A timer that arms itself for the past would otherwise keep the turn from ending. */
    if (s->in_turn && at_ns <= s->turn_start_ns) {
        at_ns = s->turn_start_ns + 1;
    }
    timer_heap_put(&s->timers, t, at_ns);
    if (!s->in_turn && timer_heap_next_ns(&s->timers) == at_ns) {
        s->env->ops->wake_at(s->env, at_ns);
    }
}

void shard_timer_arm_in(struct shard *s, struct shard_timer *t, uint64_t delay_ns)
{
    const uint64_t now = shard_now_ns(s);

    shard_timer_arm(s, t, delay_ns > UINT64_MAX - 1 - now ? UINT64_MAX - 1 : now + delay_ns);
}

void shard_timer_disarm(struct shard *s, struct shard_timer *t)
{
    timer_heap_remove(&s->timers, t);
}

void shard_get_stats(struct shard *s, struct shard_stats *out)
{
    *out = s->stats;
    out->fibers_live = s->fiber_count;
    out->timers_armed = s->timers.count;
}
