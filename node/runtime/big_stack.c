/*
 * big_stack.c -- a deep stack for code that recurses over user-shaped data.
 *
 * Fibers have 256 KiB; the walkers of libpg_query, the analyser and Lua may want more. One 8 MiB
 * stack per shard is enough, because what runs on it never yields: it is lent for the length of a
 * call. Behind it is a context that loops for ever: take fn, run it, go back to whoever lent it. A
 * nested call finds itself on the big stack already and is an ordinary call.
 */
#include "node/base/invariant.h"
#include "node/runtime/shard_internal.h"

static void big_stack_main(void *arg)
{
    struct shard *s = arg;
    struct big_stack *b = &s->big;

    fiber_context_arrived(&b->context);
    while (b->fn != NULL) {
        b->fn(b->arg);
        fiber_context_switch(&b->context, b->caller);
    }
    fiber_context_leave(&b->context, b->caller);
}

static void big_stack_prepare(struct shard *s)
{
    const struct status st = fiber_stack_map(&s->big.context, BIG_STACK_BYTES);

    /* Only address space is taken: without 8 MiB of that the process is beyond help. */
    INVARIANT(status_ok(st));
    fiber_context_init(&s->big.context, big_stack_main, s);
}

void big_stack_run(struct shard *s, void (*fn)(void *arg), void *arg)
{
    struct big_stack *b = &s->big;

    INVARIANT(fn != NULL);
    if (b->caller != NULL) {
        fn(arg);
        return;
    }
    if (b->context.stack_low == NULL) {
        big_stack_prepare(s);
    }
    b->caller = s->running != NULL ? &s->running->context : &s->plain;
    b->fn = fn;
    b->arg = arg;
    fiber_context_switch(b->caller, &b->context);
    b->caller = NULL;
}

void big_stack_deinit(struct shard *s)
{
    struct big_stack *b = &s->big;

    if (b->context.stack_low == NULL) {
        return;
    }
    INVARIANT(b->caller == NULL);
    b->caller = &s->plain;
    b->fn = NULL;
    fiber_context_switch(b->caller, &b->context);
    fiber_context_deinit(&b->context);
    fiber_stack_unmap(&b->context);
}
