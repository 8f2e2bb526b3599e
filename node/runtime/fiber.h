/*
 * fiber.h -- work that waits, written top to bottom.
 *
 * A fiber runs on its own stack (guard page below it) on its shard's thread until it calls something
 * marked MAYYIELD. After such a call everything may have changed. Switches are announced to ASan and
 * TSan.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/status.h"
#include "node/runtime/shard.h"

struct fiber;

/* Starts fn(arg) as a fiber in this turn or the next. `name` is a literal, for logs.
 * Errors: STATUS_OVERLOADED at SHARD_FIBERS_MAX, STATUS_MEMORY. */
NOYIELD NODISCARD struct status fiber_spawn(struct shard *s, const char *name,
                                            void (*fn)(void *arg), void *arg);

/* The running fiber, or NULL on the plain stack of the shard. */
NOYIELD struct fiber *fiber_current(void);

/* Lets others run; continues in this turn or the next. */
MAYYIELD void fiber_yield(void);
/* Yields when the fiber has run for SHARD_TURN_BUDGET_NS. No effect outside of fibers. */
MAYYIELD void fiber_yield_if_due(void);
/* Errors: STATUS_CANCELLED; STATUS_TIMEOUT when the fiber's own deadline comes first. */
MAYYIELD NODISCARD struct status fiber_sleep(uint64_t ns);

/*
 * A one-shot event that one fiber waits for. Zero-initialised is armed. The waiter owns it; whoever
 * fires it must know that it still exists (a waiter that gave up detaches itself first).
 */
struct completion {
    struct fiber *waiter;
    bool done;
};

#define DEADLINE_NONE UINT64_MAX

/*
 * Waits until completion_fire(). Returns at once when it was fired before.
 * deadline_ns  Monotonic; DEADLINE_NONE waits for ever. The fiber's own deadline counts too.
 * Errors:  STATUS_TIMEOUT, STATUS_CANCELLED (fiber_cancel). The completion is detached then.
 */
MAYYIELD NODISCARD struct status completion_wait(struct completion *c, uint64_t deadline_ns);
NOYIELD void completion_fire(struct completion *c);

/* Queue of fibers waiting for a condition that they test themselves, in order of arrival. */
struct wait_queue {
    struct list waiters;
};
NOYIELD void wait_queue_init(struct wait_queue *q);
/* Errors as completion_wait(). */
MAYYIELD NODISCARD struct status wait_queue_wait(struct wait_queue *q, uint64_t deadline_ns);
NOYIELD void wait_queue_wake_one(struct wait_queue *q);
NOYIELD void wait_queue_wake_all(struct wait_queue *q);

/* Wakes the fiber's current and later waits with STATUS_CANCELLED until cleared. */
NOYIELD void fiber_cancel(struct fiber *f);
/* The same for every fiber of the shard: before it stops. Those that start later are not affected. */
NOYIELD void fiber_cancel_all(struct shard *s);
/* Logs `fiber.live` with the name of each fiber, at most 32: who keeps a shard from stopping? */
NOYIELD void fiber_log_live(struct shard *s);
NOYIELD void fiber_clear_cancel(struct fiber *f);
NOYIELD bool fiber_cancelled(void);
/* For loops that do not wait: STATUS_CANCELLED or STATUS_TIMEOUT (the fiber's deadline), as a wait
 * would answer now. OK outside of fibers. */
NOYIELD NODISCARD struct status fiber_check(void);
/* Deadline of everything the current fiber waits for; DEADLINE_NONE removes it. */
NOYIELD void fiber_set_deadline(uint64_t deadline_ns);

/* Runs fn(arg) on the shard's big stack (8 MiB, guarded), for code that recurses over user-shaped
 * data: parser, analyser, planner, Lua. fn must not yield. Works from fibers and plain stack. */
NOYIELD void big_stack_run(struct shard *s, void (*fn)(void *arg), void *arg);

/* Runs work(arg) on a lane and waits for it, from a fiber. Not cancellable: the work is under way. */
MAYYIELD void fiber_run_blocking(enum env_lane lane, void (*work)(void *arg), void *arg);
