/*
 * placement.c -- spreading the voters of a range.
 *
 * The problem: choose k stores such that the loss of a region, then of a zone, takes as few voters as
 * possible, and move no replica without need. Scoring all sets is exponential; adding the most
 * diverse store one after the other depends on the order and ends in 3-1-1 as readily as in 2-2-1.
 *
 * The idea: pour k over the regions like water. Each step gives one voter to the region that has the
 * fewest and still has room; ties go to region_first, then to the region where more voters already
 * stand that it has not been given yet, then to the region of the lowest store id. The share of a
 * region is poured over its zones in the same way, and within a zone voters that are there stay,
 * then ids decide. Pouring makes the shares of any two groups with room differ by at most one, which
 * is the best that a loss of one group can be answered with.
 *
 * Room is counted in nodes, not in stores: of each node at most one store is a candidate, the one
 * that is already a voter, otherwise its live one with the lowest id.
 *
 * Invariants: 1. no two voters on a node; 2. a voter is only chosen where topology says it may be;
 * 3. shares of groups with room left differ by at most one.
 */
#include "regions/placement/placement.h"

#include <string.h>

#include "node/base/invariant.h"

/* A region, or a zone within one, while voters are poured. */
struct group {
    const char *name;
    uint32_t room;  /* Candidate nodes in it. */
    uint32_t held;  /* Candidates in it that are voters now. */
    uint32_t given; /* Its share so far. Invariant: at most room. */
};

/* Groups in the order of their lowest store id, which is the order of topology. */
struct groups {
    struct group items[PLACEMENT_GROUPS_MAX];
    uint32_t count;
};

#define CANDIDATE_WORDS (TOPOLOGY_STORES_MAX / 64)

/* What all steps of one choice look at. */
struct choice {
    const struct topology *topology;
    const struct placement_voters *existing;
    struct placement_voters *out;
    uint64_t candidates[CANDIDATE_WORDS]; /* Bit i: stores[i] may be chosen. At most one a node. */
};
_Static_assert(TOPOLOGY_STORES_MAX % 64 == 0, "candidates are whole words");

uint32_t placement_default_voters(size_t nodes)
{
    if (nodes >= 5) {
        return 5;
    }
    return nodes >= 3 ? 3 : 1;
}

bool placement_has(const struct placement_voters *voters, store_id id)
{
    INVARIANT(voters->count <= PLACEMENT_VOTERS_MAX);
    for (uint32_t i = 0; i < voters->count; i++) {
        if (voters->stores[i].v == id.v) {
            return true;
        }
    }
    return false;
}

/* True if the store may be a voter, its node's other stores aside. */
NOYIELD static bool may_vote(const struct choice *c, const struct topology_store *s)
{
    switch (s->health) {
    case TOPOLOGY_LIVE:
        return true;
    case TOPOLOGY_SUSPECT:
        return placement_has(c->existing, s->id);
    case TOPOLOGY_DEAD:
    case TOPOLOGY_LEAVING:
        return false;
    }
    return false;
}

/* True if `a` stands for its node rather than `b`: voters first, then the lower id. */
NOYIELD static bool stands_before(const struct choice *c, const struct topology_store *a,
                                  const struct topology_store *b)
{
    const bool held_a = placement_has(c->existing, a->id);
    const bool held_b = placement_has(c->existing, b->id);

    return held_a != held_b ? held_a : a->id.v < b->id.v;
}

/* True if the store is the one of its node that may be chosen. Looks at all others. */
NOYIELD static bool represents_node(const struct choice *c, const struct topology_store *s)
{
    if (!may_vote(c, s)) {
        return false;
    }
    for (size_t i = 0; i < c->topology->count; i++) {
        const struct topology_store *other = &c->topology->stores[i];

        if (other->node.v == s->node.v && may_vote(c, other) && stands_before(c, other, s)) {
            return false;
        }
    }
    return true;
}

/* Once per choice, because it compares each store with each. */
NOYIELD static void find_candidates(struct choice *c)
{
    for (size_t i = 0; i < c->topology->count; i++) {
        if (represents_node(c, &c->topology->stores[i])) {
            c->candidates[i / 64] |= UINT64_C(1) << (i % 64);
        }
    }
}

NOYIELD static bool is_candidate(const struct choice *c, size_t index)
{
    return (c->candidates[index / 64] >> (index % 64) & 1) != 0;
}

NOYIELD static struct group *find_or_add(struct groups *g, const char *name)
{
    for (uint32_t i = 0; i < g->count; i++) {
        if (strcmp(g->items[i].name, name) == 0) {
            return &g->items[i];
        }
    }
    if (g->count == PLACEMENT_GROUPS_MAX) {
        return NULL;
    }
    g->items[g->count] = (struct group){.name = name};
    return &g->items[g->count++];
}

/* Counts candidates per region, or per zone of `region` when it is not NULL. */
NOYIELD static void collect(const struct choice *c, const char *region, struct groups *out)
{
    out->count = 0;
    for (size_t i = 0; i < c->topology->count; i++) {
        const struct topology_store *s = &c->topology->stores[i];
        const char *its_region = locality_region(&s->locality);
        struct group *g = NULL;

        if ((region != NULL && strcmp(region, its_region) != 0) || !is_candidate(c, i)) {
            continue;
        }
        g = find_or_add(out, region == NULL ? its_region : locality_zone(&s->locality));
        if (g != NULL) {
            g->room++;
            g->held += placement_has(c->existing, s->id) ? 1 : 0;
        }
    }
}

/* How many voters stand in the group that its share does not cover yet. */
NOYIELD static uint32_t uncovered(const struct group *g)
{
    return g->held > g->given ? g->held - g->given : 0;
}

/* True if the next voter goes to `a` rather than to `b`, which comes earlier in topology. */
NOYIELD static bool pours_before(const struct group *a, const struct group *b, const char *first)
{
    if (a->given != b->given) {
        return a->given < b->given;
    }
    if (first != NULL && strcmp(a->name, b->name) != 0) {
        if (strcmp(a->name, first) == 0) {
            return true;
        }
        if (strcmp(b->name, first) == 0) {
            return false;
        }
    }
    return uncovered(a) > uncovered(b);
}

/* Gives up to `count` voters out, one at a time. */
NOYIELD static void pour(struct groups *g, uint32_t count, const char *first)
{
    for (; count > 0; count--) {
        struct group *best = NULL;

        for (uint32_t i = 0; i < g->count; i++) {
            struct group *item = &g->items[i];

            if (item->given < item->room && (best == NULL || pours_before(item, best, first))) {
                best = item;
            }
        }
        if (best == NULL) {
            return; /* Every node carries one. */
        }
        best->given++;
    }
}

NOYIELD static void insert_sorted(struct placement_voters *v, store_id id)
{
    uint32_t at = v->count;

    INVARIANT(v->count < PLACEMENT_VOTERS_MAX);
    INVARIANT(!placement_has(v, id));
    while (at > 0 && v->stores[at - 1].v > id.v) {
        v->stores[at] = v->stores[at - 1];
        at--;
    }
    v->stores[at] = id;
    v->count++;
}

/* Takes up to `count` candidates of one zone that are voters, or that are none. Returns the rest. */
NOYIELD static uint32_t take(const struct choice *c, const char *region, const char *zone,
                             bool held, uint32_t count)
{
    for (size_t i = 0; i < c->topology->count && count > 0; i++) {
        const struct topology_store *s = &c->topology->stores[i];

        if (is_candidate(c, i) && placement_has(c->existing, s->id) == held &&
            strcmp(locality_region(&s->locality), region) == 0 &&
            strcmp(locality_zone(&s->locality), zone) == 0) {
            insert_sorted(c->out, s->id);
            count--;
        }
    }
    return count;
}

/* Kept out of the caller, so that two tables of groups are never on the stack of one function. */
NOYIELD static void take_from_region(const struct choice *c, const struct group *region)
{
    struct groups zones;

    collect(c, region->name, &zones);
    pour(&zones, region->given, NULL);
    for (uint32_t i = 0; i < zones.count; i++) {
        const struct group *zone = &zones.items[i];
        const uint32_t rest = take(c, region->name, zone->name, true, zone->given);

        INVARIANT(take(c, region->name, zone->name, false, rest) == 0);
    }
}

/* How many voters the range should have: what is wanted, odd, and no more than there are nodes. */
NOYIELD static uint32_t count_wanted(const struct topology *t, uint32_t asked)
{
    const size_t nodes = topology_count_nodes(t);
    uint32_t wanted = asked == 0 ? placement_default_voters(nodes) : asked;

    if (wanted > PLACEMENT_VOTERS_MAX) {
        wanted = PLACEMENT_VOTERS_MAX;
    }
    if (wanted > nodes) {
        wanted = nodes == 0 ? 0 : (uint32_t)(nodes - (nodes % 2 == 0 ? 1 : 0));
    }
    return wanted;
}

void placement_choose_voters(const struct topology *t, const struct placement_voters *existing,
                             const struct placement_options *options, struct placement_voters *out)
{
    struct choice c = {.topology = t, .existing = existing, .out = out};
    struct groups regions;

    INVARIANT(existing != out);
    INVARIANT(t->count <= TOPOLOGY_STORES_MAX);
    *out = (struct placement_voters){.count = 0};
    find_candidates(&c);
    collect(&c, NULL, &regions);
    pour(&regions, count_wanted(t, options->voters_wanted), options->region_first);
    for (uint32_t i = 0; i < regions.count; i++) {
        take_from_region(&c, &regions.items[i]);
    }
}

/* The first voter of `in` that `without` lacks and whose usability is `usable`; zero if none. */
NOYIELD static store_id first_missing(const struct topology *t, const struct placement_voters *in,
                                      const struct placement_voters *without, bool usable,
                                      store_id but_not)
{
    for (uint32_t i = 0; i < in->count; i++) {
        const store_id id = in->stores[i];
        const struct topology_store *s = topology_find(t, id);
        const bool is_usable = s != NULL && topology_is_usable(s->health);

        if (id.v != but_not.v && is_usable == usable && !placement_has(without, id)) {
            return id;
        }
    }
    return (store_id){0};
}

NOYIELD static bool have_common(const struct placement_voters *a, const struct placement_voters *b)
{
    for (uint32_t i = 0; i < a->count; i++) {
        if (placement_has(b, a->stores[i])) {
            return true;
        }
    }
    return false;
}

struct placement_step placement_next_step(const struct topology *t,
                                          const struct placement_voters *existing,
                                          const struct placement_voters *target, store_id leader)
{
    const store_id none = {0};
    const store_id add = first_missing(t, target, existing, true, none);
    store_id remove = first_missing(t, existing, target, false, leader);

    if (target->count == 0) {
        return (struct placement_step){PLACEMENT_STAY, none, none, "no usable store is known"};
    }
    if (remove.v == 0) {
        remove = first_missing(t, existing, target, true, leader);
    }
    if (add.v != 0 && existing->count < target->count) {
        return (struct placement_step){PLACEMENT_ADD, add, none, "too few voters"};
    }
    if (remove.v != 0 && existing->count > target->count) {
        return (struct placement_step){PLACEMENT_REMOVE, none, remove, "too many voters"};
    }
    if (add.v != 0 && remove.v != 0) {
        return (struct placement_step){PLACEMENT_REPLACE, add, remove, "a better place"};
    }
    if (add.v != 0 && !have_common(existing, target)) {
        return (struct placement_step){PLACEMENT_ADD, add, none, "nobody could take over"};
    }
    if (placement_has(existing, leader) && !placement_has(target, leader)) {
        return (struct placement_step){PLACEMENT_STAY, none, none,
                                       "the leader has to hand over before it may leave"};
    }
    return (struct placement_step){PLACEMENT_STAY, none, none, "voters are where they should be"};
}

uint32_t placement_diversity(const struct topology *t, const struct placement_voters *voters)
{
    uint32_t sum = 0;
    uint32_t pairs = 0;

    for (uint32_t i = 0; i < voters->count; i++) {
        const struct topology_store *a = topology_find(t, voters->stores[i]);

        for (uint32_t j = i + 1; a != NULL && j < voters->count; j++) {
            const struct topology_store *b = topology_find(t, voters->stores[j]);

            if (b != NULL) {
                sum += locality_diversity(&a->locality, &b->locality);
                pairs++;
            }
        }
    }
    return pairs == 0 ? 0 : sum / pairs;
}
