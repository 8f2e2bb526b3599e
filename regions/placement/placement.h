/*
 * placement.h -- on which stores the voters of a range should stand, and the next step there.
 *
 * Two pure questions. placement_choose_voters(): given the stores of the cluster and where the voters
 * are now, where should they be? placement_next_step(): which single change leads there? The leader's
 * replica queue asks both, carries the step out, and asks again.
 *
 * The goal, in this order: as many voters as are wanted; spread evenly over regions, then over the
 * zones of each region; as few moves as possible; lower ids first. So five voters in three regions
 * stand 2-2-1, and the same input gives the same answer on every node and in every replay.
 *
 * No I/O, no clock, no allocation. Source: protocols of CockroachDB's allocator (diversity first),
 * without its random choice among the best two.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "node/base/ids.h"
#include "regions/topology/topology.h"

#define PLACEMENT_VOTERS_MAX 7

/* Groups (regions, zones of a region) that are told apart; stores beyond them are not used. */
#define PLACEMENT_GROUPS_MAX 32

struct placement_options {
    uint32_t voters_wanted;   /* 0: placement_default_voters(). Cut to what the nodes can carry. */
    const char *region_first; /* Gets the odd voter in a tie; NULL: the region that holds more. */
};

/* A set of stores; [0, count) are set, ascending by id. */
struct placement_voters {
    store_id stores[PLACEMENT_VOTERS_MAX];
    uint32_t count;
};

enum placement_step_kind {
    PLACEMENT_STAY,    /* Nothing to do. */
    PLACEMENT_ADD,     /* `add` becomes a voter. */
    PLACEMENT_REMOVE,  /* `remove` stops being one. */
    PLACEMENT_REPLACE, /* Both in one (joint) change: the number of voters stays. */
};

struct placement_step {
    enum placement_step_kind kind;
    store_id add;    /* Zero when unused. */
    store_id remove; /* Zero when unused. */
    const char *why; /* Static text for people. */
};

/* 5 with at least five nodes, 3 with three or four, 1 with less: odd, so that no voter is idle. */
NOYIELD uint32_t placement_default_voters(size_t nodes);

/*
 * Chooses where the voters should stand.
 *
 * t         Stores that are dead or leaving are never chosen; suspect ones only where they already
 *           are a voter. At most one store of a node.
 * existing  Where they stand now; may name stores that `t` does not know.
 * out       Has fewer voters than wanted when there are not enough nodes, also none at all.
 */
NOYIELD void placement_choose_voters(const struct topology *t,
                                     const struct placement_voters *existing,
                                     const struct placement_options *options,
                                     struct placement_voters *out);

/*
 * The first change on the way from `existing` to `target`, which keeps a quorum of live voters at
 * every step: a store is added before another is removed, or both at once; dead ones leave first.
 * An empty target moves nothing: with no usable store known, staying is the only safe answer.
 *
 * leader  Never removed: the answer is then another change, or PLACEMENT_STAY with a `why` that asks
 *         to hand leadership over first.
 */
NOYIELD struct placement_step placement_next_step(const struct topology *t,
                                                  const struct placement_voters *existing,
                                                  const struct placement_voters *target,
                                                  store_id leader);

/* True if the set has this store. */
NOYIELD bool placement_has(const struct placement_voters *voters, store_id id);

/* Mean diversity over all pairs, 0 to LOCALITY_DIVERSITY_MAX; unknown stores are left out. */
NOYIELD uint32_t placement_diversity(const struct topology *t,
                                     const struct placement_voters *voters);
