/*
 * work.c -- maintenance that takes long ends when the store stops.
 *
 * Collecting garbage and comparing replicas wait for other nodes, for minutes if need be. Who does that stands in
 * a list of the store, keeps the replica alive, and is cancelled when the store stops.
 */
#include "node/base/invariant.h"
#include "node/range/internal.h"

struct status work__begin(struct maintain_work *w, struct replica *r)
{
    struct store *s = r->store;

    if (s->stopping || s->failed) {
        return FAIL(STATUS_CANCELLED, "the store is stopping");
    }
    *w = (struct maintain_work){.replica = r, .fiber = fiber_current()};
    INVARIANT(w->fiber != NULL);
    list_push_back(&s->maintenance, &w->link);
    replica__acquire(r);
    s->fibers++;
    return OK;
}

void work__end(struct maintain_work *w)
{
    struct store *s = w->replica->store;

    list_remove(&w->link);
    s->fibers--;
    replica__release(w->replica);
    wait_queue_wake_all(&s->idle);
}

void work__stop(struct store *s)
{
    LIST_FOREACH(it, &s->maintenance) {
        struct maintain_work *w = LIST_ENTRY(it, struct maintain_work, link);

        fiber_cancel(w->fiber);
    }
}
