/*
 * verify.h -- after healing: does it work again, do all replicas agree, was everything kept?
 */
#pragma once

#include "tests/sim/world.h"

/* Runs the world until every node is ready and its clients have read and written since `healed_ns`.
 * *took_ns: how long that took. A cluster that needs too long fails the run. */
void verify_recovery(struct sim_world *w, uint64_t healed_ns, uint64_t *took_ns);
/* Waits until all replicas have applied the same and compares their contents. */
void verify_replicas(struct sim_world *w);
/* Reads everything through every node. */
void verify_reads(struct sim_world *w);
/* All replicas and all live fibers, to stdout. */
void verify_dump(struct sim_world *w);
