/*
 * shard.h -- one thread of the server: its turns, timers, tasks and fibers.
 *
 * A shard is driven by its env: something happens (bytes, a finished job, a timer, a message from
 * another shard), callbacks run, then shard_turn() runs what became ready, and at the end of the turn
 * the hooks, which is where a layer batches what the whole turn produced (one log write for all
 * ranges, one send per connection).
 *
 * Runs on: its own thread only. The exceptions say so: shard_post_remote().
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/list.h"
#include "node/base/log.h"
#include "node/base/status.h"
#include "node/runtime/env.h"

struct fiber;

#define SHARD_HOOKS_MAX      8
#define SHARD_TURN_BUDGET_NS 500000u
#define SHARD_FIBERS_MAX     20000u
#define SHARD_TIMERS_MAX     200000u

/* Runs once in this turn or the next; embedded in its owner. Posting twice runs it once. */
struct shard_task {
    void (*fn)(struct shard_task *t);
    struct list link;
    bool posted;
};

/* Fires once at or after `at_ns`; embedded in its owner; zero-initialised is disarmed. */
struct shard_timer {
    void (*fn)(struct shard_timer *t);
    uint64_t at_ns;     /* Monotonic. */
    uint64_t order;     /* Of arming: equal times fire in this order. */
    uint32_t heap_slot; /* 1-based; 0 when disarmed. */
};

/* A parcel for another shard: copied or moved bytes, never shared pointers. */
struct shard_parcel {
    /* On the receiving shard; owns p. When that shard is destroyed first, `to` is NULL: release only. */
    void (*deliver)(struct shard *to, struct shard_parcel *p);
    struct list link;
};

struct shard_options {
    struct env *env;
    uint32_t index;           /* Within the process, from 0. */
    struct log_sink *log;     /* Borrowed; NULL drops events. */
    size_t fiber_stack_bytes; /* 0: 256 KiB. */
};

/* Layers above hang their state here, each under its own slot. */
enum shard_slot {
    SHARD_SLOT_RPC,
    SHARD_SLOT_STORE,
    SHARD_SLOT_KV,
    SHARD_SLOT_TXN,
    SHARD_SLOT_CATALOG,
    SHARD_SLOT_SQL,
    SHARD_SLOT_PGWIRE,
    SHARD_SLOT_SERVER,
    SHARD_SLOT_COUNT
};

NOYIELD NODISCARD struct status shard_create(const struct shard_options *o, struct shard **out);
/* All fibers must have ended; timers are disarmed, tasks dropped. Accepts NULL. */
NOYIELD void shard_destroy(struct shard *s);

NOYIELD struct env *shard_env(struct shard *s);
NOYIELD uint32_t shard_index(const struct shard *s);
/* The shard whose turn runs on this thread; NULL outside of turns. */
NOYIELD struct shard *shard_current(void);
NOYIELD void shard_set_slot(struct shard *s, enum shard_slot slot, void *value);
NOYIELD void *shard_get_slot(const struct shard *s, enum shard_slot slot);

/*
 * For env implementations: enter and leave make `s` the current shard (and install its log sink)
 * around callbacks; a turn runs due timers, tasks and ready fibers until none is left or the budget
 * is spent, then the hooks. Returns true when work is left for another turn at once. Arms
 * env wake_at for the earliest timer.
 */
NOYIELD void shard_enter(struct shard *s);
NOYIELD void shard_leave(struct shard *s);
NOYIELD bool shard_turn(struct shard *s);

/* Runs fn(ctx) at the end of every turn, the one registered last first: layers register bottom up, and
 * what an upper one hands down leaves in the same turn. A hook that returns true asks for
 * another turn at once. Errors: STATUS_OVERLOADED. */
NOYIELD NODISCARD struct status shard_add_hook(struct shard *s, bool (*fn)(void *ctx), void *ctx);
/* Takes back every hook with this ctx. Not from inside a hook. */
NOYIELD void shard_remove_hooks(struct shard *s, void *ctx);

NOYIELD void shard_post(struct shard *s, struct shard_task *t);
NOYIELD void shard_unpost(struct shard *s, struct shard_task *t);

/* Re-arms when armed already. A time in the past fires in the next turn. */
NOYIELD void shard_timer_arm(struct shard *s, struct shard_timer *t, uint64_t at_ns);
NOYIELD void shard_timer_arm_in(struct shard *s, struct shard_timer *t, uint64_t delay_ns);
NOYIELD void shard_timer_disarm(struct shard *s, struct shard_timer *t);

/* Monotonic time at the start of the current callback or turn: cheap, good enough for timeouts. */
NOYIELD uint64_t shard_now_ns(struct shard *s);

/*
 * Hands a parcel to another shard of the process. May be called from any shard's thread. FIFO per
 * pair. Errors: STATUS_OVERLOADED when the receiver's queue is full (65,536); p stays the caller's.
 */
NOYIELD NODISCARD struct status shard_post_remote(struct shard *to, struct shard_parcel *p);

struct shard_stats {
    uint64_t turns;
    uint64_t fibers_live;
    uint64_t fibers_peak;
    uint64_t timers_armed;
    uint64_t longest_turn_ns;
    uint64_t last_turn_ended_ns; /* For the watchdog of store liveness. */
};
NOYIELD void shard_get_stats(struct shard *s, struct shard_stats *out);
