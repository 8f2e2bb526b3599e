/*
 * ranges.h -- many small ranges for tests, written into the engines of stores that do not run.
 */
#pragma once

#include "node/range/store.h"

/* Start key of the i-th range made here; it ends where the next begins. `mem` holds 8 bytes. */
struct bytes ranges_start(uint8_t *mem, uint32_t i);
#define RANGES_ID(i) ((range_id){100u + (i)})

/* Replicas of `count` empty ranges, with voters on stores 1..voters, on the engine of `store`. */
void ranges_write(struct engine *e, uint32_t store, uint32_t voters, uint32_t count);
