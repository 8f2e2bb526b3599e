/*
 * plant.h -- deliberate bugs by name: what the simulator has to find.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "tests/sim/sim.h"

struct plant {
    const char *name;
    const char *what;
    struct sim_plants bits;
};

/* NULL: no such name. */
const struct plant *plant_find(const char *name);
/* The i-th, NULL at the end. */
const struct plant *plant_at(size_t i);
/* Were they compiled in at all? */
bool plants_are_built(void);
