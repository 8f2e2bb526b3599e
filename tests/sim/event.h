/*
 * event.h -- the queue of what is going to happen, by time and then by order of entry.
 *
 * Events are embedded in what they are about. The queue owns them while they are in it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim_world;

struct sim_event {
    uint64_t at_ns;
    uint64_t order;
    /* Happens. The event is out of the queue and belongs to this function. */
    void (*run)(struct sim_world *w, struct sim_event *e);
    /* The world ends first: only release. */
    void (*drop)(struct sim_event *e);
    size_t slot; /* 1-based; 0: not queued. */
};

/* A binary heap; slot i of an event is at[i - 1]. */
struct sim_events {
    struct sim_event **at;
    size_t count;
    size_t cap;
    uint64_t next_order;
};

void sim_events_init(struct sim_events *q);
/* Drops what is left. */
void sim_events_deinit(struct sim_events *q);
/* Queues, or moves an event that is queued already (it then stands behind others of that time). */
void sim_events_put(struct sim_events *q, struct sim_event *e, uint64_t at_ns);
void sim_events_remove(struct sim_events *q, struct sim_event *e);
/* NULL when empty. */
const struct sim_event *sim_events_first(const struct sim_events *q);
struct sim_event *sim_events_pop(struct sim_events *q);
