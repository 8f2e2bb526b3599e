/*
 * replicate.c -- every range led here gets the voters that placement wants.
 *
 * For a range it finishes a change that an earlier leader left half done, asks regions/placement for the
 * next single step, and carries it out: voters where they should be first, then stores that are less full,
 * then a lease where there is less to do. Every step keeps a quorum of live voters; the decisions are pure, so
 * that the same picture gives the same step on whoever leads.
 */
#include <stdlib.h>
#include <string.h>

#include "node/server/node_internal.h"
#include "regions/placement/balance.h"

#define STEP_NS ((uint64_t)30000000000)

/* Live now; silent for a while; or silent for so long that its replicas are to be replaced. */
static enum topology_health health_of(struct node *n, uint32_t row)
{
    const uint64_t now = shard_now_ns(n->shard);
    const uint64_t dead_after = n->o.dead_after_ns == 0 ? NODE_DEAD_AFTER_NS : n->o.dead_after_ns;

    if (node_peer_live(n, n->registry.nodes[row].id)) {
        n->seen_live_ns[row] = now;
        return TOPOLOGY_LIVE;
    }
    if (n->seen_live_ns[row] == 0) {
        n->seen_live_ns[row] = now; /* Never seen: the clock starts when we first look. */
    }
    return now > n->seen_live_ns[row] + dead_after ? TOPOLOGY_DEAD : TOPOLOGY_SUSPECT;
}

/* Rows of the registry are only ever added, in order of id: an insertion shifts what is remembered. */
static struct status grow_seen(struct node *n)
{
    uint64_t *grown = NULL;

    if (n->seen_live_cap == n->registry.count) {
        return OK;
    }
    grown = calloc(n->registry.count, sizeof(grown[0]));
    if (grown == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    free(n->seen_live_ns);
    n->seen_live_ns = grown;
    n->seen_live_cap = n->registry.count;
    return OK;
}

static struct status fill_store(struct node *n, uint32_t row, store_id id, struct arena *arena,
                                struct topology_store *out)
{
    const struct node_desc *d = &n->registry.nodes[row];
    const struct store_load *load = loads__of(n, id);
    const char *text = arena_printf(arena, "region=%s%s%s", d->region,
                                    d->zone[0] == '\0' ? "" : ",zone=", d->zone);

    *out = (struct topology_store){.id = id, .node = d->id, .health = health_of(n, row)};
    if (load != NULL) {
        out->load_known = true;
        out->ranges = load->ranges;
        out->leases = load->leases;
        out->requests_per_s = load->requests_per_s;
    }
    return locality_parse(bytes_str(text), arena, &out->locality);
}

struct status replicate__topology(struct node *n, struct arena *arena, struct topology *out)
{
    struct topology_store *stores = ARENA_ARRAY(arena, struct topology_store, TOPOLOGY_STORES_MAX);
    size_t count = 0;

    if (stores == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    TRY(grow_seen(n));
    for (uint32_t i = 0; i < n->registry.count; i++) {
        const struct node_desc *d = &n->registry.nodes[i];

        for (uint32_t k = 0; k < d->stores_count && count < TOPOLOGY_STORES_MAX; k++) {
            size_t at = count;

            while (at > 0 && stores[at - 1].id.v > d->stores[k].v) {
                stores[at] = stores[at - 1];
                at--;
            }
            TRY(fill_store(n, i, d->stores[k], arena, &stores[at]));
            count++;
        }
    }
    *out = (struct topology){.stores = stores, .count = count};
    return OK;
}

static void voters_of(const struct range_desc *d, struct placement_voters *out)
{
    *out = (struct placement_voters){0};
    for (uint32_t i = 0; i < d->replicas_count && out->count < PLACEMENT_VOTERS_MAX; i++) {
        uint32_t at = out->count;

        if (d->replicas[i].type != RANGE_VOTER) {
            continue;
        }
        while (at > 0 && out->stores[at - 1].v > d->replicas[i].store.v) {
            out->stores[at] = out->stores[at - 1];
            at--;
        }
        out->stores[at] = d->replicas[i].store;
        out->count++;
    }
}

/* What a leader that died left in the middle. *did: something was attempted. */
static MAYYIELD struct status finish_half_done(struct node *n, const struct range_desc *d,
                                               const struct placement_voters *target,
                                               uint64_t deadline_ns, bool *did)
{
    for (uint32_t i = 0; i < d->replicas_count; i++) {
        const struct range_replica *r = &d->replicas[i];

        if (r->type == RANGE_VOTER || r->type == RANGE_NON_VOTER) {
            continue;
        }
        *did = true;
        if (r->type == RANGE_VOTER_INCOMING ||
            (placement_has(target, r->store) && node_peer_live(n, r->node))) {
            return store_add_voter(n->store, d->id, r->node, r->store, deadline_ns);
        }
        return store_remove_replica(n->store, d->id, r->store, deadline_ns);
    }
    return OK;
}

static MAYYIELD struct status add(struct node *n, const struct topology *t, range_id range,
                                  store_id id, uint64_t deadline_ns)
{
    const struct topology_store *s = topology_find(t, id);

    return s == NULL ? FAIL(STATUS_NOT_FOUND, "unknown store")
                     : store_add_voter(n->store, range, s->node, id, deadline_ns);
}

/* The leader itself should go: hand the lease to a voter that stays. */
static MAYYIELD struct status step_aside(struct node *n, const struct range_desc *d,
                                         const struct placement_voters *existing,
                                         const struct placement_voters *target,
                                         uint64_t deadline_ns)
{
    if (placement_has(target, n->ident.store) || target->count == 0) {
        return OK;
    }
    for (uint32_t i = 0; i < existing->count; i++) {
        if (placement_has(target, existing->stores[i])) {
            return store_transfer_lease(n->store, d->id, existing->stores[i], deadline_ns);
        }
    }
    return OK;
}

static MAYYIELD struct status replace(struct node *n, const struct topology *t, range_id range,
                                      const struct placement_step *step, uint64_t deadline_ns)
{
    TRY(add(n, t, range, step->add, deadline_ns));
    TRY(store_remove_replica(n->store, range, step->remove, deadline_ns));
    loads__moved(n, step->remove, step->add, false);
    return OK;
}

static MAYYIELD struct status carry_out(struct node *n, const struct topology *t,
                                        const struct range_desc *d,
                                        const struct placement_voters *existing,
                                        const struct placement_voters *target, bool *did)
{
    const uint64_t deadline = env_mono_ns(shard_env(n->shard)) + STEP_NS;
    const struct placement_step step = placement_next_step(t, existing, target, n->ident.store);

    *did = step.kind != PLACEMENT_STAY;
    switch (step.kind) {
    case PLACEMENT_STAY:
        return step_aside(n, d, existing, target, deadline);
    case PLACEMENT_ADD:
        return add(n, t, d->id, step.add, deadline);
    case PLACEMENT_REMOVE:
        return store_remove_replica(n->store, d->id, step.remove, deadline);
    case PLACEMENT_REPLACE:
        return replace(n, t, d->id, &step, deadline);
    }
    return OK;
}

/* All is where it may be: is there something better? */
static MAYYIELD struct status even_out(struct node *n, const struct topology *t,
                                       const struct store_range_info *info,
                                       const struct placement_voters *existing, bool *did)
{
    const uint64_t deadline = env_mono_ns(shard_env(n->shard)) + STEP_NS;
    const struct placement_step step = placement_rebalance(t, existing, n->ident.store);
    store_id lease = n->ident.store;

    if (step.kind == PLACEMENT_REPLACE && loads__may_move(n, step.remove, step.add)) {
        *did = true;
        return replace(n, t, info->desc.id, &step, deadline);
    }
    lease =
        placement_choose_lease(t, existing, n->ident.store, (uint64_t)info->load.requests_per_s);
    if (lease.v != n->ident.store.v && loads__may_move(n, n->ident.store, lease)) {
        *did = true;
        TRY(store_transfer_lease(n->store, info->desc.id, lease, deadline));
        loads__moved(n, n->ident.store, lease, true);
    }
    return OK;
}

struct status replicate__step(struct node *n, const struct topology *t,
                              const struct store_range_info *info, bool *did)
{
    const uint64_t deadline = env_mono_ns(shard_env(n->shard)) + STEP_NS;
    const struct placement_options o = {.voters_wanted = n->o.voters_wanted};
    struct placement_voters existing;
    struct placement_voters target;

    voters_of(&info->desc, &existing);
    placement_choose_voters(t, &existing, &o, &target);
    TRY(finish_half_done(n, &info->desc, &target, deadline, did));
    if (!*did) {
        TRY(carry_out(n, t, &info->desc, &existing, &target, did));
    }
    return *did ? OK : even_out(n, t, info, &existing, did);
}
