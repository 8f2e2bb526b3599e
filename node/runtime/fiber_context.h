/*
 * fiber_context.h -- a stack and the point where its code stopped. Internal to node/runtime.
 *
 * Three kinds of context exist: fibers, the big stack, and the plain stack of the thread, which
 * nobody mapped here and whose bounds are learned from the sanitizer at the first switch.
 */
#pragma once

#include <stddef.h>

#include "node/base/attributes.h"
#include "node/base/status.h"

struct fiber_context {
    void *sp;        /* Where it stopped; meaningless while it runs. */
    void *stack_low; /* Lowest usable byte, just above the guard page. */
    size_t stack_size;
    struct fiber_context *came_from; /* Who switched here last. */
    void *asan_fake;                 /* Fake stack while switched away, ASan only. */
    void *tsan;                      /* TSan's idea of this context. */
};

/* Maps a stack of `size` usable bytes (a multiple of the page) below which one page is forbidden.
 * Errors: STATUS_MEMORY. */
NOYIELD NODISCARD struct status fiber_stack_map(struct fiber_context *c, size_t size);
NOYIELD void fiber_stack_unmap(struct fiber_context *c);
/* Gives the pages back to the system; the next use finds zeroes. */
NOYIELD void fiber_stack_trim(struct fiber_context *c);

/* Prepares a mapped context: the first switch to it calls entry(arg), which must begin with
 * fiber_context_arrived() and end with fiber_context_leave(). */
NOYIELD void fiber_context_init(struct fiber_context *c, void (*entry)(void *arg), void *arg);
/* Frees what sanitizers keep for a context that has left for good. */
NOYIELD void fiber_context_deinit(struct fiber_context *c);

NOYIELD void fiber_context_arrived(struct fiber_context *me);
NOYIELD void fiber_context_switch(struct fiber_context *from, struct fiber_context *to);
/* The last switch of `from`: nobody will switch back. */
NOYIELD _Noreturn void fiber_context_leave(struct fiber_context *from, struct fiber_context *to);
