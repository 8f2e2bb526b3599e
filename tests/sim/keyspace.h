/*
 * keyspace.h -- which ranges there are, what was written where, what was closed, how transactions stood:
 * as the logs of all ranges say, taken together.
 *
 * Part of the checks (check.h); it is told of every command when the first replica applies it.
 *
 * Rules:
 *   R9  a command writes no new value at or below a timestamp that any replica had closed before it;
 *       what a split leaves to the right inherits this;
 *   R10 a transaction that was committed stays so, at the same timestamp;
 *   R11 the lease of a new right-hand range starts above what its left one had served by then.
 */
#pragma once

#include "node/base/bytes.h"
#include "node/range/command.h"
#include "tests/sim/world.h"

struct keyspace;

struct keyspace *keyspace_create(struct sim_world *w);
void keyspace_destroy(struct keyspace *k);

/* A command nobody has applied before. `served`: the highest time that the range has served so far. */
void keyspace_command(struct keyspace *k, range_id range, uint64_t index, const struct command *c,
                      struct hts served);
/* A replica that has applied up to `index` may serve reads up to ts. */
void keyspace_closed(struct keyspace *k, uint32_t node, range_id range, uint64_t index,
                     struct hts ts);
void keyspace_lease_started(struct keyspace *k, range_id range, struct hts start_ts);

/* Ranges that exist: made by a split (or the first one) and not merged away. */
uint32_t keyspace_count(const struct keyspace *k);
range_id keyspace_at(const struct keyspace *k, uint32_t i);
/* A key that was written lately, and the range it was in. False: none. Borrowed. */
bool keyspace_recent_key(const struct keyspace *k, struct rng *r, range_id *range,
                         struct bytes *key);
