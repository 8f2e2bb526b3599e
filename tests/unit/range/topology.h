/*
 * topology.h -- many ranges on the stores of cluster.h: who leads which keys, and whether everything fits.
 */
#pragma once

#include "tests/unit/range/cluster.h"

/* Node that leads the range with `key` and that range's id, or -1. */
int topo_leads(struct cluster *c, const char *key, uint64_t *range_out);
/* Waits up to 15 s for one. */
int topo_wait_leads(struct cluster *c, const char *key, uint64_t *range_out);
/* A put or get wherever the key is led, over splits and merges; up to 10 s. */
enum status_code topo_put(struct cluster *c, const char *key, const char *value);
const char *topo_get(struct cluster *c, const char *key, enum status_code *code);
/* By whoever leads the range that holds the key. */
enum status_code topo_split(struct cluster *c, const char *key);
enum status_code topo_merge(struct cluster *c, const char *key);
enum status_code topo_transfer(struct cluster *c, const char *key, uint32_t target);
enum status_code topo_add_voter(struct cluster *c, const char *key, uint32_t target);
enum status_code topo_remove(struct cluster *c, const char *key, uint32_t target);

/* Ranges that are led; they tile all keys. 0: they do not (yet). */
uint32_t topo_ranges(struct cluster *c);
/* Waits up to `ms` until all ranges are led, addressed, not frozen, and all replicas of all running nodes
 * are equal. Prints what is in the way when they do not get there. */
bool topo_settles(struct cluster *c, uint64_t ms);
/* The index says of every range what it is: looked up as kv does, through meta1 and meta2. */
bool topo_index_is_right(struct cluster *c);
/* Counts of every led range are what a recount says. */
bool topo_counts_are_right(struct cluster *c);
