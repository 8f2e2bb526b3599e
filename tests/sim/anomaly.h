/*
 * anomaly.h -- small judges: long forks, unique keys, write skew, the past.
 *
 * Each looks at the operations of its kinds in a whole history, in any order, and ignores the rest.
 * False: something happened that cannot; `why` says what.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "tests/sim/history.h"

/* Every item is written once, so what readers of a group saw is a chain: of two readers that each miss
 * an item which the other saw, one is wrong. Nor may a reader miss what was acknowledged before. */
bool anomaly_check_forks(const struct op *ops, size_t count, char *why, size_t why_size);

/* A key has one owner, who was told so or was told nothing; whoever was refused was so for a reason; index
 * and table agree. */
bool anomaly_check_unique(const struct op *ops, size_t count, char *why, size_t why_size);

/* Of a pair of switches at least one is on: everybody who turns one off has seen the other one on. */
bool anomaly_check_skew(const struct op *ops, size_t count, char *why, size_t why_size);

/* Who reads the same table at the same exact time gets the same rows, whenever and from whom. */
bool anomaly_check_past(const struct op *ops, size_t count, char *why, size_t why_size);
