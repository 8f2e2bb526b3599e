/*
 * event.c -- a binary heap that knows where each of its events stands, so that one can be moved.
 */
#include "tests/sim/event.h"

#include <stdlib.h>

#include "node/base/invariant.h"

void sim_events_init(struct sim_events *q)
{
    *q = (struct sim_events){0};
}

static bool before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static void place(struct sim_events *q, size_t i, struct sim_event *e)
{
    q->at[i] = e;
    e->slot = i + 1;
}

static void sift_up(struct sim_events *q, size_t i)
{
    struct sim_event *e = q->at[i];

    while (i > 0 && before(e, q->at[(i - 1) / 2])) {
        place(q, i, q->at[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    place(q, i, e);
}

static void sift_down(struct sim_events *q, size_t i)
{
    struct sim_event *e = q->at[i];

    for (;;) {
        size_t child = 2 * i + 1;

        if (child >= q->count) {
            break;
        }
        if (child + 1 < q->count && before(q->at[child + 1], q->at[child])) {
            child++;
        }
        if (!before(q->at[child], e)) {
            break;
        }
        place(q, i, q->at[child]);
        i = child;
    }
    place(q, i, e);
}

void sim_events_remove(struct sim_events *q, struct sim_event *e)
{
    const size_t i = e->slot - 1;
    struct sim_event *last = NULL;

    if (e->slot == 0) {
        return;
    }
    last = q->at[--q->count];
    e->slot = 0;
    if (last != e) {
        place(q, i, last);
        sift_up(q, i);
        sift_down(q, last->slot - 1);
    }
}

void sim_events_put(struct sim_events *q, struct sim_event *e, uint64_t at_ns)
{
    sim_events_remove(q, e);
    if (q->count == q->cap) {
        q->cap = q->cap == 0 ? 1024 : q->cap * 2;
        q->at = realloc(q->at, q->cap * sizeof(*q->at));
        INVARIANT(q->at != NULL);
    }
    e->at_ns = at_ns;
    e->order = q->next_order++;
    place(q, q->count++, e);
    sift_up(q, q->count - 1);
}

const struct sim_event *sim_events_first(const struct sim_events *q)
{
    return q->count == 0 ? NULL : q->at[0];
}

struct sim_event *sim_events_pop(struct sim_events *q)
{
    struct sim_event *e = q->count == 0 ? NULL : q->at[0];

    if (e != NULL) {
        sim_events_remove(q, e);
    }
    return e;
}

void sim_events_deinit(struct sim_events *q)
{
    struct sim_event *e = NULL;

    while ((e = sim_events_pop(q)) != NULL) {
        e->drop(e);
    }
    free(q->at);
    *q = (struct sim_events){0};
}
