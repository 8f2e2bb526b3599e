/*
 * check.h -- what must hold at every moment, seen from outside of all nodes.
 *
 * The checks are fed by the probes of each store, by the frames that nodes send (a promise counts
 * from the moment it leaves), and by log events. They know the true order of everything. A dying
 * process is not heard. The first broken rule ends the run (sim_fail).
 *
 * Rules (protocol reference 2.13, 3.10, 18.5):
 *   R1 one leader per range and term;
 *   R2 a replica grants its vote to one candidate per term, over restarts as well;
 *   R3 an index that was applied anywhere holds the same term and command everywhere, for ever;
 *   R4 a replica applies without gaps, except that a snapshot may take it forward;
 *   R5 leases do not overlap: what an older term served lies below the start of every newer lease, and
 *      once a newer one has served, no older one does, in true time;
 *   R6 only the elected leader of the term serves;
 *   R7 terms of applied entries never go back;
 *   R8 a promise of support is withdrawn only when the promiser's clock has passed it, and for good;
 *   R9 to R11: see keyspace.h.
 */
#pragma once

#include "node/base/bytes.h"
#include "node/range/store.h"
#include "tests/sim/world.h"

struct keyspace;

struct check *check_create(struct sim_world *w);
void check_destroy(struct check *c);

/* The probe for a process of that machine. */
void check_fill_probe(struct sim_world *w, uint32_t node, struct store_probe *out);
/* A node hands a frame to the network. */
void check_frame_sent(struct sim_world *w, uint32_t node, struct bytes frame);
/* A node logs; `name` is a literal. */
void check_log_event(struct sim_world *w, uint32_t node, const char *name);

struct keyspace *check_keyspace(const struct check *c);
/* The machine that led the range in the highest term so far; UINT32_MAX: nobody. */
uint32_t check_leader(const struct check *c, range_id range);
