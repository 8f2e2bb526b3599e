/*
 * chaos.h -- what goes wrong, when, and for how long.
 */
#pragma once

#include "tests/sim/world.h"

struct chaos *chaos_create(struct sim_world *w);
void chaos_destroy(struct chaos *c);

/* Splits a range at a place that is in use, by and by. For the quiet time before the faults. */
void chaos_split_some(struct sim_world *w);
/* A transaction over several ranges was staged: now and then its coordinator goes. Called within a turn. */
void chaos_staged(struct sim_world *w);
void chaos_start(struct sim_world *w);
/* No new faults; everything that is broken works again, every node is up. */
void chaos_heal(struct sim_world *w);
