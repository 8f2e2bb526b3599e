/*
 * replicate.c -- the replica queue: every range led here gets the voters that placement wants.
 *
 * Twice a second or so it looks at each range whose lease is held here, finishes a change that an
 * earlier leader left half done, asks regions/placement for the next single step, and carries it out.
 * Every step keeps a quorum of live voters; the decision is pure, so that the same picture gives the
 * same step on whoever leads.
 */
#include <stdlib.h>
#include <string.h>

#include "node/server/node_internal.h"
#include "regions/placement/placement.h"

#define STEP_NS ((uint64_t)30000000000)
/* Joining nodes come in bunches: the first placement of a new cluster waits until they stop. */
#define SETTLE_NS ((uint64_t)1000000000)

static struct status fill_store(struct node *n, const struct node_desc *d, store_id id,
                                struct arena *arena, struct topology_store *out)
{
    const char *text = arena_printf(arena, "region=%s%s%s", d->region,
                                    d->zone[0] == '\0' ? "" : ",zone=", d->zone);

    *out = (struct topology_store){
        .id = id,
        .node = d->id,
        .health = node_peer_live(n, d->id) ? TOPOLOGY_LIVE : TOPOLOGY_SUSPECT,
    };
    return locality_parse(bytes_str(text), arena, &out->locality);
}

static struct status build_topology(struct node *n, struct arena *arena, struct topology *out)
{
    struct topology_store *stores = ARENA_ARRAY(arena, struct topology_store, TOPOLOGY_STORES_MAX);
    size_t count = 0;

    if (stores == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    for (uint32_t i = 0; i < n->registry.count; i++) {
        const struct node_desc *d = &n->registry.nodes[i];

        for (uint32_t k = 0; k < d->stores_count && count < TOPOLOGY_STORES_MAX; k++) {
            size_t at = count;

            while (at > 0 && stores[at - 1].id.v > d->stores[k].v) {
                stores[at] = stores[at - 1];
                at--;
            }
            TRY(fill_store(n, d, d->stores[k], arena, &stores[at]));
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

static MAYYIELD struct status take_step(struct node *n, const struct topology *t,
                                        const struct range_desc *d, bool *did)
{
    const uint64_t deadline = env_mono_ns(shard_env(n->shard)) + STEP_NS;
    const struct placement_options o = {.voters_wanted = n->o.voters_wanted};
    struct placement_voters existing;
    struct placement_voters target;
    struct placement_step step;

    voters_of(d, &existing);
    placement_choose_voters(t, &existing, &o, &target);
    TRY(finish_half_done(n, d, &target, deadline, did));
    if (*did) {
        return OK;
    }
    step = placement_next_step(t, &existing, &target, n->ident.store);
    *did = step.kind != PLACEMENT_STAY;
    switch (step.kind) {
    case PLACEMENT_STAY:
        return step_aside(n, d, &existing, &target, deadline);
    case PLACEMENT_ADD:
        return add(n, t, d->id, step.add, deadline);
    case PLACEMENT_REMOVE:
        return store_remove_replica(n->store, d->id, step.remove, deadline);
    case PLACEMENT_REPLACE:
        TRY(add(n, t, d->id, step.add, deadline));
        return store_remove_replica(n->store, d->id, step.remove, deadline);
    }
    return OK;
}

/* One look at every range; true when something was changed. */
static MAYYIELD bool look(struct node *n)
{
    struct arena arena;
    struct topology t;
    struct store_range_info info;
    range_id at = {0};
    bool changed = false;

    arena_init(&arena, 0);
    if (!status_ok(build_topology(n, &arena, &t))) {
        arena_deinit(&arena);
        return false;
    }
    while (!n->stopping && store_next_range(n->store, at, &arena, &info)) {
        bool did = false;
        struct status st = OK;

        at = info.desc.id;
        if (!info.leaseholder) {
            continue;
        }
        st = take_step(n, &t, &info.desc, &did); /* Yields: the next range is looked up anew. */
        if (!status_ok(st)) {
            LOG_WARN("replicate.step_failed", U64("range", info.desc.id.v),
                     STR("why", status_text(st)));
        }
        changed = changed || did;
    }
    arena_deinit(&arena);
    return changed;
}

void replicate__fiber(void *node)
{
    struct node *n = node;

    while (!n->stopping && status_ok(fiber_sleep(NODE_REPLICATE_NS))) {
        if (n->registry.count < 2 || shard_now_ns(n->shard) < n->registry_changed_ns + SETTLE_NS) {
            continue;
        }
        if (look(n) && n->primary) {
            n->gossip_to_all = true; /* The first range may have moved. */
            shard_timer_arm_in(n->shard, &n->gossip_timer, 0);
        }
    }
    node__fiber_ended(n);
}
