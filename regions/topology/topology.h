/*
 * topology.h -- the stores of a cluster and where they stand, as an immutable snapshot.
 *
 * The server builds one from membership and liveness and hands it down; whoever decides about places
 * (regions/placement, policies) reads nothing else. Plain data.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "node/base/ids.h"
#include "regions/locality/locality.h"
#include "regions/topology/rtt.h"

#define TOPOLOGY_STORES_MAX 1024

/* What a store may be used for. */
enum topology_health {
    TOPOLOGY_LIVE,    /* Takes new replicas. */
    TOPOLOGY_SUSPECT, /* Silent for less than five minutes, or draining: keeps what it has, takes
                         nothing new. */
    TOPOLOGY_DEAD,    /* Silent for longer: its replicas are to be replaced. */
    TOPOLOGY_LEAVING, /* Decommissioning: answers, but its replicas are to be moved away. */
};

struct topology_store {
    store_id id;
    node_id node; /* Stores of one node die together: never two replicas of a range on it. */
    struct locality locality;
    enum topology_health health;
    bool load_known; /* What follows was heard of lately. */
    uint32_t ranges; /* Replicas there. */
    uint32_t leases;
    uint64_t requests_per_s; /* Served under those leases. */
};

struct topology {
    const struct topology_store *stores; /* Borrowed; ascending by id. */
    size_t count;                        /* At most TOPOLOGY_STORES_MAX. */
    const struct rtt_matrix *rtt;        /* Borrowed; NULL when nobody measured. */
};

/* The store with this id, or NULL. Borrowed from the snapshot. */
NOYIELD const struct topology_store *topology_find(const struct topology *t, store_id id);

/* True if replicas may stay there: live or suspect. */
NOYIELD bool topology_is_usable(enum topology_health health);

/* How many distinct nodes have at least one usable store. */
NOYIELD size_t topology_count_nodes(const struct topology *t);
