/*
 * timer_heap.c -- which timer is next.
 *
 * A binary heap whose entries carry their own keys, so that sifting does not touch the timers'
 * memory. Each timer knows its slot, which makes disarming O(log n) as well. Equal times fire in
 * order of arming: the order number breaks ties, and that makes the simulator repeatable.
 *
 * Arming cannot fail: callers arm timers on paths that have no way back. Hence the limit is an
 * invariant, far above what fibers (one each) and replicas (none when idle) can ask for.
 */
#include <stdlib.h>

#include "node/base/invariant.h"
#include "node/runtime/shard_internal.h"

#define TIMERS_FIRST 64u

static bool entry_less(const struct timer_entry *a, const struct timer_entry *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static void entry_place(struct timer_heap *h, uint32_t i, struct timer_entry e)
{
    h->entries[i] = e;
    e.timer->heap_slot = i + 1;
}

static void sift_up(struct timer_heap *h, uint32_t i, struct timer_entry e)
{
    while (i > 0) {
        const uint32_t parent = (i - 1) / 2;

        if (!entry_less(&e, &h->entries[parent])) {
            break;
        }
        entry_place(h, i, h->entries[parent]);
        i = parent;
    }
    entry_place(h, i, e);
}

static void sift_down(struct timer_heap *h, uint32_t i, struct timer_entry e)
{
    for (;;) {
        uint32_t child = 2 * i + 1;

        if (child >= h->count) {
            break;
        }
        if (child + 1 < h->count && entry_less(&h->entries[child + 1], &h->entries[child])) {
            child++;
        }
        if (!entry_less(&h->entries[child], &e)) {
            break;
        }
        entry_place(h, i, h->entries[child]);
        i = child;
    }
    entry_place(h, i, e);
}

static void reserve_one(struct timer_heap *h)
{
    const uint32_t cap = h->cap == 0 ? TIMERS_FIRST : h->cap * 2;

    if (h->count < h->cap) {
        return;
    }
    INVARIANT(h->count < SHARD_TIMERS_MAX);
    h->entries = realloc(h->entries, cap * sizeof(*h->entries));
    INVARIANT(h->entries != NULL);
    h->cap = cap;
}

void timer_heap_init(struct timer_heap *h)
{
    *h = (struct timer_heap){0};
}

void timer_heap_deinit(struct timer_heap *h)
{
    for (uint32_t i = 0; i < h->count; i++) {
        h->entries[i].timer->heap_slot = 0;
    }
    free(h->entries);
    *h = (struct timer_heap){0};
}

void timer_heap_put(struct timer_heap *h, struct shard_timer *t, uint64_t at_ns)
{
    struct timer_entry e = {at_ns, h->next_order++, t};

    timer_heap_remove(h, t);
    reserve_one(h);
    t->at_ns = at_ns;
    t->order = e.order;
    sift_up(h, h->count++, e);
}

void timer_heap_remove(struct timer_heap *h, struct shard_timer *t)
{
    const uint32_t i = t->heap_slot - 1;
    struct timer_entry last;

    if (t->heap_slot == 0) {
        return;
    }
    INVARIANT(i < h->count);
    INVARIANT(h->entries[i].timer == t);
    t->heap_slot = 0;
    last = h->entries[--h->count];
    if (i == h->count) {
        return;
    }
    if (i > 0 && entry_less(&last, &h->entries[(i - 1) / 2])) {
        sift_up(h, i, last);
    } else {
        sift_down(h, i, last);
    }
}

uint64_t timer_heap_next_ns(const struct timer_heap *h)
{
    return h->count == 0 ? UINT64_MAX : h->entries[0].at_ns;
}

struct shard_timer *timer_heap_pop_due(struct timer_heap *h, uint64_t now_ns)
{
    struct shard_timer *t = NULL;

    if (h->count == 0 || h->entries[0].at_ns > now_ns) {
        return NULL;
    }
    t = h->entries[0].timer;
    timer_heap_remove(h, t);
    return t;
}
