/*
 * loads.c -- how full and busy the other stores are, as they last said in gossip.
 */
#include <stdlib.h>

#include "node/server/node_internal.h"

#define FORGET_NS ((uint64_t)120000000000) /* Longer than a round of gossip in a large cluster. */

static struct store_load *find(const struct node *n, store_id id)
{
    for (uint32_t i = 0; i < n->loads_count; i++) {
        if (n->loads[i].store.v == id.v) {
            return &n->loads[i];
        }
    }
    return NULL;
}

static struct store_load *add(struct node *n, store_id id)
{
    if (n->loads_count == n->loads_cap) {
        const uint32_t cap = n->loads_cap == 0 ? 16 : n->loads_cap * 2;
        struct store_load *grown = NULL;

        if (cap > TOPOLOGY_STORES_MAX) {
            return NULL;
        }
        grown = realloc(n->loads, cap * sizeof(grown[0]));
        if (grown == NULL) {
            return NULL;
        }
        n->loads = grown;
        n->loads_cap = cap;
    }
    n->loads[n->loads_count] = (struct store_load){.store = id};
    return &n->loads[n->loads_count++];
}

void loads__hear(struct node *n, const Dsql__Pb__StoreLoad *pb)
{
    const store_id id = {pb->store};
    struct store_load *l = find(n, id);

    if (l == NULL && registry_find_store(&n->registry, id) != NULL) {
        l = add(n, id);
    }
    if (l != NULL) {
        l->ranges = pb->ranges;
        l->leases = pb->leases;
        l->requests_per_s = pb->requests_per_s;
        l->heard_ns = shard_now_ns(n->shard);
        l->touched = false;
    }
}

const struct store_load *loads__of(const struct node *n, store_id id)
{
    const struct store_load *l = id.v == n->ident.store.v ? &n->walk.own : find(n, id);

    return l == NULL || l->heard_ns == 0 || shard_now_ns(n->shard) > l->heard_ns + FORGET_NS ? NULL
                                                                                             : l;
}

static void shift(struct node *n, store_id id, int by, bool lease)
{
    struct store_load *l = id.v == n->ident.store.v ? &n->walk.own : find(n, id);
    uint32_t *count = l == NULL ? NULL : (lease ? &l->leases : &l->ranges);

    if (count != NULL && (by > 0 || *count > 0)) {
        *count = by > 0 ? *count + 1 : *count - 1;
    }
}

void loads__moved(struct node *n, store_id from, store_id to, bool lease)
{
    struct store_load *giver = find(n, from);
    struct store_load *taker = find(n, to);

    shift(n, from, -1, lease);
    shift(n, to, 1, lease);
    if (giver != NULL) {
        giver->touched = true;
    }
    if (taker != NULL) {
        taker->touched = true;
    }
    if (lease && from.v == n->ident.store.v && n->walk.sum.leases > 0) {
        n->walk.sum.leases--; /* This round has counted it. */
    }
}

bool loads__may_move(const struct node *n, store_id from, store_id to)
{
    const struct store_load *giver = find(n, from);
    const struct store_load *taker = find(n, to);

    return (giver == NULL || !giver->touched) && taker != NULL && !taker->touched;
}
