/*
 * topology.c -- asking a snapshot of the cluster.
 *
 * Stores are sorted by id, so finding one is a binary search. Counting nodes compares each store with
 * those before it: shards of a node have neighbouring ids in practice, and the walk runs backwards
 * to meet them at once.
 */
#include "regions/topology/topology.h"

#include "node/base/invariant.h"

const struct topology_store *topology_find(const struct topology *t, store_id id)
{
    size_t low = 0;
    size_t high = t->count;

    INVARIANT(t->count <= TOPOLOGY_STORES_MAX);
    while (low < high) {
        const size_t mid = low + (high - low) / 2;

        if (t->stores[mid].id.v < id.v) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low < t->count && t->stores[low].id.v == id.v ? &t->stores[low] : NULL;
}

bool topology_is_usable(enum topology_health health)
{
    switch (health) {
    case TOPOLOGY_LIVE:
    case TOPOLOGY_SUSPECT:
        return true;
    case TOPOLOGY_DEAD:
    case TOPOLOGY_LEAVING:
        return false;
    }
    return false;
}

/* True if a usable store before `index` belongs to the same node. */
NOYIELD static bool node_seen_before(const struct topology *t, size_t index)
{
    for (size_t i = index; i-- > 0;) {
        if (t->stores[i].node.v == t->stores[index].node.v &&
            topology_is_usable(t->stores[i].health)) {
            return true;
        }
    }
    return false;
}

size_t topology_count_nodes(const struct topology *t)
{
    size_t count = 0;

    INVARIANT(t->count <= TOPOLOGY_STORES_MAX);
    for (size_t i = 0; i < t->count; i++) {
        if (topology_is_usable(t->stores[i].health) && !node_seen_before(t, i)) {
            count++;
        }
    }
    return count;
}
