/*
 * shard_internal.h -- the inside of a shard, for node/runtime and its unit tests.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "node/base/list.h"
#include "node/runtime/env.h"
#include "node/runtime/fiber.h"
#include "node/runtime/fiber_context.h"
#include "node/runtime/shard.h"

#define SHARD_PARCELS_MAX       65536u
#define SHARD_PARCELS_PER_ROUND 256u
#define SHARD_ROUNDS_MAX        64u /* Of one turn, for clocks that stand still. */
#define SHARD_PIECES_PER_CLOCK  8u  /* Callbacks and fibers between two looks at the clock. */
#define FIBER_STACK_BYTES       ((size_t)256 << 10)
#define FIBER_WARM_MAX          32u   /* Idle fibers that keep their pages. */
#define FIBER_IDLE_MAX          4096u /* Idle fibers that keep their mapping. */
#define FIBER_CALLS_PER_CLOCK   16u   /* fiber_yield_if_due() between two looks at the clock. */
#define FIBERS_LOGGED_MAX       32u
#define BIG_STACK_BYTES         ((size_t)8 << 20)

enum fiber_state {
    FIBER_READY,   /* In shard.ready. */
    FIBER_RUNNING, /* shard.running, or new. */
    FIBER_WAITING, /* For a completion, in a wait queue, or for its timer only. */
};

struct fiber {
    struct fiber_context context;
    struct shard *shard;
    struct list link;      /* shard.ready, a wait queue, or shard.idle. */
    struct list live_link; /* shard.live. */
    enum fiber_state state;
    enum status_code woken;        /* Result of the wait that ended. */
    struct completion *completion; /* Waited for; NULL in a wait queue. */
    struct shard_timer timer;      /* Of the wait. */
    uint64_t deadline_ns;
    uint64_t slice_start_ns; /* 0: not looked at the clock yet since it was resumed. */
    uint32_t calls_to_clock;
    bool cancelled;
    bool cancellable; /* The present wait. */
    bool finished;
    bool warm; /* Idle with its pages. */
    const char *name;
    void (*fn)(void *arg);
    void *arg;
};

struct timer_entry {
    uint64_t at_ns;
    uint64_t order;
    struct shard_timer *timer;
};

/* Binary heap by (at_ns, order); slot i of a timer is entries[i - 1]. */
struct timer_heap {
    struct timer_entry *entries;
    uint32_t count;
    uint32_t cap;
    uint64_t next_order;
};

NOYIELD void timer_heap_init(struct timer_heap *h);
NOYIELD void timer_heap_deinit(struct timer_heap *h); /* Disarms all. */
NOYIELD void timer_heap_put(struct timer_heap *h, struct shard_timer *t, uint64_t at_ns);
NOYIELD void timer_heap_remove(struct timer_heap *h, struct shard_timer *t);
/* UINT64_MAX when empty. */
NOYIELD uint64_t timer_heap_next_ns(const struct timer_heap *h);
/* The earliest timer, removed, if it is due. */
NOYIELD struct shard_timer *timer_heap_pop_due(struct timer_heap *h, uint64_t now_ns);

/* Parcels from other threads. The only mutex that two shards share. */
struct parcel_queue {
    pthread_mutex_t mutex;
    struct list parcels;
    uint32_t count;              /* Under the mutex. */
    _Atomic(uint32_t) published; /* Equal to count; read without the mutex. */
};

struct shard_hook {
    bool (*fn)(void *ctx);
    void *ctx;
};

struct big_stack {
    struct fiber_context context;
    struct fiber_context *caller; /* NULL while idle. */
    void (*fn)(void *arg);        /* NULL: end. */
    void *arg;
};

struct shard {
    struct env *env;
    uint32_t index;
    size_t fiber_stack_bytes;

    /* Entering. */
    struct log_sink *log;
    struct log_sink *outer_log;
    struct shard *outer;
    uint32_t depth;

    /* Time. */
    uint64_t now_ns;
    bool now_valid;

    /* The turn. */
    bool in_turn;
    bool kicked; /* The env knows that a turn is due. */
    uint64_t turn_start_ns;
    uint32_t pieces;
    struct list tasks;
    struct timer_heap timers;
    struct shard_hook hooks[SHARD_HOOKS_MAX];
    uint32_t hook_count;
    struct parcel_queue inbox;

    /* Fibers. */
    struct fiber_context plain;
    struct fiber *running;
    struct list ready;
    struct list live;
    struct list idle; /* Warm ones in front. */
    uint32_t idle_count;
    uint32_t warm_count;
    uint32_t fiber_count;
    struct big_stack big;

    struct shard_stats stats;
    void *slots[SHARD_SLOT_COUNT];
};

/* Something became ready: make sure that a turn follows. */
NOYIELD void shard__kick(struct shard *s);
/* Looks at the clock. */
NOYIELD uint64_t shard__refresh_now(struct shard *s);
/* One piece of work was done: false when the turn has used up its budget. */
NOYIELD bool shard__may_go_on(struct shard *s);

NOYIELD void parcel_queue_init(struct parcel_queue *q);
NOYIELD void parcel_queue_deinit(struct parcel_queue *q);
NOYIELD bool parcel_queue_waiting(struct parcel_queue *q);
/* Delivers up to SHARD_PARCELS_PER_ROUND; true if there was one. */
NOYIELD bool parcel_queue_deliver(struct shard *s);

/* Runs the fibers that are ready now; true if there was one. */
NOYIELD bool fiber__run_ready(struct shard *s);
NOYIELD void fiber__pool_deinit(struct shard *s);
NOYIELD void big_stack_deinit(struct shard *s);
