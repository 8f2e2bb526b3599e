/*
 * balance.h -- evening out replicas and leases over stores that are equally good places.
 *
 * placement.h says which places are right; among right ones the emptier is better. One replica or one lease
 * moves at a time, only when the difference is worth it, and never so that the opposite move would follow:
 * a move must leave the two stores closer to each other than before.
 *
 * No I/O, no clock, no allocation.
 */
#pragma once

#include "regions/placement/placement.h"

/*
 * A voter that had better stand on a store with fewer replicas: PLACEMENT_REPLACE, or PLACEMENT_STAY. The
 * set's diversity never falls. The leader is left alone; stores of unknown load too.
 */
NOYIELD struct placement_step placement_rebalance(const struct topology *t,
                                                  const struct placement_voters *existing,
                                                  store_id leader);

/*
 * Which voter should hold the lease of a range that serves so many requests: `leader` to stay. Load
 * decides when there is enough of it, otherwise the number of leases.
 */
NOYIELD store_id placement_choose_lease(const struct topology *t,
                                        const struct placement_voters *existing, store_id leader,
                                        uint64_t requests_per_s);
