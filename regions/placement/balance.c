/*
 * balance.c -- one move towards even stores.
 *
 * The problem: whoever moves things to the emptiest store by itself finds, a moment later, that everybody
 * has done so. The idea: a difference counts only beyond a margin that the same move by everybody else does not
 * turn around. Each store moves one thing to another before it hears of it again; so with n stores a difference
 * of d may become 2n - d the other way, which must not be worth a move: the margin is above n.
 */
#include "regions/placement/balance.h"

#define REPLICAS_MARGIN_MIN 4u  /* Fewer apart are even. */
#define MARGIN_DIVISOR      20u /* Or five percent of the giver's. */
#define LEASES_MARGIN_MIN   3u
#define LEASES_DIVISOR      5u
#define LOAD_MIN_PER_S      200u /* Below, requests say nothing. */

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static uint32_t replicas_margin(const struct topology *t, uint32_t of)
{
    return larger(larger(of / MARGIN_DIVISOR, REPLICAS_MARGIN_MIN), (uint32_t)t->count + 2);
}

/* Only who leads gives, and knows what it has: half as many may err at once. */
static uint32_t leases_margin(const struct topology *t, uint32_t of)
{
    return larger(larger(of / LEASES_DIVISOR, LEASES_MARGIN_MIN), (uint32_t)t->count / 2 + 1);
}

/* The set with `out` in place of `in`. */
static struct placement_voters swapped(const struct placement_voters *v, store_id in, store_id out)
{
    struct placement_voters s = *v;

    for (uint32_t i = 0; i < s.count; i++) {
        if (s.stores[i].v == in.v) {
            s.stores[i] = out;
        }
    }
    return s;
}

static bool node_in_use(const struct topology *t, const struct placement_voters *v, node_id node,
                        store_id but)
{
    for (uint32_t i = 0; i < v->count; i++) {
        const struct topology_store *s = topology_find(t, v->stores[i]);

        if (s != NULL && s->id.v != but.v && s->node.v == node.v) {
            return true;
        }
    }
    return false;
}

/* May `to` take the place of `from`, and is it worth it? */
static bool worth_moving(const struct topology *t, const struct placement_voters *existing,
                         const struct topology_store *from, const struct topology_store *to)
{
    struct placement_voters after;

    if (to->health != TOPOLOGY_LIVE || !to->load_known || placement_has(existing, to->id) ||
        to->ranges + replicas_margin(t, from->ranges) > from->ranges ||
        node_in_use(t, existing, to->node, from->id)) {
        return false;
    }
    after = swapped(existing, from->id, to->id);
    return placement_diversity(t, &after) >= placement_diversity(t, existing);
}

struct placement_step placement_rebalance(const struct topology *t,
                                          const struct placement_voters *existing, store_id leader)
{
    struct placement_step best = {.kind = PLACEMENT_STAY, .why = "replicas are even"};
    uint32_t gain = 0;

    for (uint32_t i = 0; i < existing->count; i++) {
        const struct topology_store *from = topology_find(t, existing->stores[i]);

        if (from == NULL || from->id.v == leader.v || !from->load_known ||
            !topology_is_usable(from->health)) {
            continue;
        }
        for (size_t k = 0; k < t->count; k++) {
            const struct topology_store *to = &t->stores[k];

            if (worth_moving(t, existing, from, to) && from->ranges - to->ranges > gain) {
                gain = from->ranges - to->ranges;
                best = (struct placement_step){PLACEMENT_REPLACE, to->id, from->id,
                                               "a store with fewer replicas"};
            }
        }
    }
    return best;
}

/* Is the lease better off there than here? Load first, numbers where load says nothing. */
static bool better_lease(const struct topology *t, const struct topology_store *here,
                         const struct topology_store *there, uint64_t requests_per_s)
{
    const uint64_t least = here->requests_per_s / MARGIN_DIVISOR + LOAD_MIN_PER_S;

    if (requests_per_s >= LOAD_MIN_PER_S) {
        return here->requests_per_s > there->requests_per_s + requests_per_s + least;
    }
    return here->leases >= there->leases + leases_margin(t, here->leases) &&
           here->requests_per_s + least >= there->requests_per_s;
}

store_id placement_choose_lease(const struct topology *t, const struct placement_voters *existing,
                                store_id leader, uint64_t requests_per_s)
{
    const struct topology_store *here = topology_find(t, leader);
    const struct topology_store *best = here;

    if (here == NULL || !here->load_known) {
        return leader;
    }
    for (uint32_t i = 0; i < existing->count; i++) {
        const struct topology_store *there = topology_find(t, existing->stores[i]);

        if (there == NULL || there->health != TOPOLOGY_LIVE || !there->load_known ||
            !better_lease(t, here, there, requests_per_s)) {
            continue;
        }
        if (best == here || there->leases < best->leases ||
            (requests_per_s >= LOAD_MIN_PER_S && there->requests_per_s < best->requests_per_s)) {
            best = there;
        }
    }
    return best->id;
}
