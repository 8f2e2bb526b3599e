/*
 * Placement by tables: stores are written as text, answers are lists of ids, so that a case reads as
 * the cluster it is about.
 */
#include <stdlib.h>

#include "node/base/hash.h"
#include "regions/placement/placement.h"
#include "tests/lib/test.h"

#define STORES_MAX 64

struct cluster {
    struct topology_store stores[STORES_MAX];
    struct topology topology;
};

/*
 * One word a store, ids ascending from 1: "us.a" is live, "us.a?" suspect, "us.a!" dead, "us.a-"
 * leaving; "us.a@1" is a further store of node 1.
 */
static void cluster_init(struct cluster *c, const char *text)
{
    uint32_t count = 0;
    int used = 0;
    char word[32];

    memset(c, 0, sizeof(*c));
    for (; sscanf(text, "%31s%n", word, &used) == 1; text += used) {
        struct topology_store *s = &c->stores[count++];
        char *flag = strpbrk(word, "?!-@");
        char locality[80];
        char *dot = NULL;

        s->id.v = count;
        s->node.v = count;
        if (flag != NULL) {
            s->health = *flag == '?'   ? TOPOLOGY_SUSPECT
                        : *flag == '!' ? TOPOLOGY_DEAD
                        : *flag == '-' ? TOPOLOGY_LEAVING
                                       : TOPOLOGY_LIVE;
            s->node.v = *flag == '@' ? (uint32_t)strtoul(flag + 1, NULL, 10) : count;
            *flag = '\0';
        }
        dot = strchr(word, '.');
        if (dot == NULL || count == STORES_MAX) {
            abort();
        }
        *dot = '\0';
        (void)snprintf(locality, sizeof(locality), "region=%s,zone=%s", word, dot + 1);
        if (!status_ok(locality_parse(bytes_str(locality), NULL, &s->locality))) {
            abort();
        }
    }
    c->topology = (struct topology){.stores = c->stores, .count = count};
}

/* "1 2 5" */
static struct placement_voters voters(const char *text)
{
    struct placement_voters v = {.count = 0};
    char *end = NULL;

    for (uint32_t id = (uint32_t)strtoul(text, &end, 10); id != 0;
         id = (uint32_t)strtoul(end, &end, 10)) {
        v.stores[v.count++].v = id;
    }
    return v;
}

static const char *text_of(const struct placement_voters *v)
{
    static char text[128];
    size_t len = 0;

    text[0] = '\0';
    for (uint32_t i = 0; i < v->count; i++) {
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%u", i == 0 ? "" : " ",
                                v->stores[i].v);
    }
    return text;
}

TEST(placement, default_voters_follow_the_nodes)
{
    static const uint32_t want[] = {1, 1, 1, 3, 3, 5, 5, 5, 5, 5};

    for (size_t nodes = 0; nodes < ARRAY_COUNT(want); nodes++) {
        EXPECT_EQ(want[nodes], placement_default_voters(nodes));
    }
}

TEST(placement, chooses_voters)
{
    static const struct {
        const char *about;
        const char *cluster;
        const char *existing;
        const char *first;
        const char *want;
    } cases[] = {
        {"no stores", "", "", NULL, ""},
        {"one node", "us.a", "1", NULL, "1"},
        {"two nodes carry one", "us.a us.b", "2", NULL, "2"},
        {"three nodes carry three", "us.a us.b us.c", "1", NULL, "1 2 3"},
        {"four nodes carry three", "us.a us.b eu.a ap.a", "1", NULL, "1 3 4"},
        {"nine nodes, three regions: 2-2-1", "us.a us.b us.c eu.a eu.b eu.c ap.a ap.b ap.c", "",
         NULL, "1 2 4 5 7"},
        {"the home region gets two", "us.a us.b us.c eu.a eu.b eu.c ap.a ap.b ap.c", "", "ap",
         "1 2 4 7 8"},
        {"who is there stays", "us.a us.b us.c eu.a eu.b eu.c ap.a ap.b ap.c", "3 5 6 8 9", NULL,
         "3 5 6 8 9"},
        {"3-2-0 gives one up for the new region", "us.a us.b us.c eu.a eu.b eu.c ap.a ap.b ap.c",
         "1 2 3 4 5", NULL, "1 2 4 5 7"},
        {"one region: zones before ids", "us.a us.a us.b us.b us.c us.c", "", NULL, "1 2 3 4 5"},
        {"one region, three of two zones", "us.a us.a us.a us.b", "1 2 3", NULL, "1 2 4"},
        {"small regions are filled up", "us.a us.b us.c us.d eu.a ap.a", "", NULL, "1 2 3 5 6"},
        {"a dead one is replaced in its region", "us.a us.b! us.c eu.a eu.b eu.c ap.a ap.b ap.c",
         "1 2 4 5 7", NULL, "1 3 4 5 7"},
        {"a leaving one too", "us.a us.b- us.c eu.a eu.b eu.c ap.a ap.b ap.c", "1 2 4 5 7", NULL,
         "1 3 4 5 7"},
        {"a suspect one stays", "us.a us.b? us.c eu.a eu.b eu.c ap.a ap.b ap.c", "1 2 4 5 7", NULL,
         "1 2 4 5 7"},
        {"a suspect one receives nothing", "us.a? us.b us.c", "2", NULL, "2 3"},
        {"a region is lost: the others take over",
         "us.a! us.b! us.c! eu.a eu.b eu.c ap.a ap.b ap.c", "1 2 4 5 7", NULL, "4 5 6 7 8"},
        {"one store of a node", "us.a us.a@1 us.b us.b@3 us.c us.c@5", "", NULL, "1 3 5"},
        {"the store that is there stands for its node", "us.a us.a@1 us.b us.b@3 us.c us.c@5", "4",
         NULL, "1 4 5"},
        {"unknown voters are forgotten", "us.a us.b us.c", "9", NULL, "1 2 3"},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct cluster c;
        const struct placement_voters existing = voters(cases[i].existing);
        const struct placement_options options = {.region_first = cases[i].first};
        struct placement_voters got;

        cluster_init(&c, cases[i].cluster);
        placement_choose_voters(&c.topology, &existing, &options, &got);
        if (strcmp(cases[i].want, text_of(&got)) != 0) {
            test_fail(__FILE__, __LINE__, "%s: want %s, got %s", cases[i].about, cases[i].want,
                      text_of(&got));
        }
    }
}

TEST(placement, as_many_as_asked_and_possible)
{
    static const struct {
        uint32_t asked;
        uint32_t want;
    } cases[] = {{1, 1}, {3, 3}, {5, 5}, {7, 5}, {99, 5}};
    struct cluster c;

    cluster_init(&c, "us.a us.b us.c eu.a eu.b eu.c");
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        const struct placement_voters none = {.count = 0};
        const struct placement_options options = {.voters_wanted = cases[i].asked};
        struct placement_voters got;

        placement_choose_voters(&c.topology, &none, &options, &got);
        EXPECT_EQ(cases[i].want, got.count);
    }
}

TEST(placement, next_step)
{
    static const struct {
        const char *cluster;
        const char *existing;
        const char *target;
        uint32_t leader;
        struct placement_step want;
    } cases[] = {
        {"us.a us.b us.c", "1 2 3", "1 2 3", 1, {PLACEMENT_STAY, {0}, {0}, NULL}},
        {"us.a us.b us.c", "1", "1 2 3", 1, {PLACEMENT_ADD, {2}, {0}, NULL}},
        {"us.a us.b us.c", "1 2 3", "2", 2, {PLACEMENT_REMOVE, {0}, {1}, NULL}},
        {"us.a us.b us.c us.d", "1 2 3", "1 2 4", 1, {PLACEMENT_REPLACE, {4}, {3}, NULL}},
        {"us.a us.b us.c! us.d", "1 2 3", "1 2 4", 1, {PLACEMENT_REPLACE, {4}, {3}, NULL}},
        /* Dead before alive, although its id is higher. */
        {"us.a us.b us.c us.d us.e!", "1 2 3 4 5", "1 2 3", 1, {PLACEMENT_REMOVE, {0}, {5}, NULL}},
        /* The leader stays until it has handed over. */
        {"us.a us.b us.c us.d", "1 2 3", "2 3 4", 1, {PLACEMENT_STAY, {0}, {0}, NULL}},
        {"us.a us.b us.c us.d", "1 2 3", "2 3 4", 2, {PLACEMENT_REPLACE, {4}, {1}, NULL}},
        /* Nobody to hand over to: one more for a while. */
        {"us.a- us.b", "1", "2", 1, {PLACEMENT_ADD, {2}, {0}, NULL}},
        {"us.a- us.b", "1 2", "2", 1, {PLACEMENT_STAY, {0}, {0}, NULL}},
        {"us.a- us.b", "1 2", "2", 2, {PLACEMENT_REMOVE, {0}, {1}, NULL}},
        /* Nobody usable: stay. */
        {"us.a! us.b! us.c!", "1 2 3", "", 1, {PLACEMENT_STAY, {0}, {0}, NULL}},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct cluster c;
        const struct placement_voters existing = voters(cases[i].existing);
        const struct placement_voters target = voters(cases[i].target);
        struct placement_step got;

        cluster_init(&c, cases[i].cluster);
        got = placement_next_step(&c.topology, &existing, &target, (store_id){cases[i].leader});
        EXPECT_EQ(cases[i].want.kind, got.kind);
        EXPECT_EQ(cases[i].want.add.v, got.add.v);
        EXPECT_EQ(cases[i].want.remove.v, got.remove.v);
        EXPECT_TRUE(got.why != NULL);
    }
}

/* Highest minus lowest number of voters over regions that have a node to spare. */
static uint32_t unevenness(const struct cluster *c, const struct placement_voters *v)
{
    uint32_t low = UINT32_MAX;
    uint32_t high = 0;

    for (int r = 'a'; r <= 'd'; r++) {
        uint32_t here = 0;
        uint32_t room = 0;

        for (size_t i = 0; i < c->topology.count; i++) {
            const struct topology_store *s = &c->stores[i];

            if (locality_region(&s->locality)[0] == r && s->health == TOPOLOGY_LIVE) {
                room++;
                here += placement_has(v, s->id) ? 1 : 0;
            }
        }
        high = here > high ? here : high;
        low = here < low && here < room ? here : low;
    }
    return high > low ? high - low : 0;
}

/* Up to twelve stores in up to four regions with three zones each; every eighth is dead. */
static void random_cluster(struct rng *rng, struct cluster *c, struct placement_voters *now)
{
    const uint64_t stores = rng_between(rng, 1, 12);
    struct buf text;

    *now = (struct placement_voters){.count = 0};
    buf_init(&text, 0);
    for (uint32_t id = 1; id <= stores; id++) {
        const int region = 'a' + (int)rng_below(rng, 4);
        const int zone = 'x' + (int)rng_below(rng, 3);
        const char *dead = rng_permille(rng, 125) ? "!" : "";

        if (!status_ok(buf_printf(&text, "%c.%c%s ", region, zone, dead))) {
            abort();
        }
        if (now->count < 5 && rng_permille(rng, 333)) {
            now->stores[now->count++].v = id;
        }
    }
    if (!status_ok(buf_append_u8(&text, 0))) {
        abort();
    }
    cluster_init(c, (const char *)text.ptr);
    buf_deinit(&text);
}

/* Does what a step says. */
static void carry_out(struct placement_voters *now, struct placement_step step)
{
    struct placement_voters next = {.count = 0};
    bool added = step.add.v == 0;

    for (uint32_t i = 0; i < now->count; i++) {
        if (!added && step.add.v < now->stores[i].v) {
            next.stores[next.count++] = step.add;
            added = true;
        }
        if (now->stores[i].v != step.remove.v) {
            next.stores[next.count++] = now->stores[i];
        }
    }
    if (!added) {
        next.stores[next.count++] = step.add;
    }
    *now = next;
}

/* The leader hands over to a usable voter of the target, as the replica queue would. */
static store_id hand_over(const struct placement_voters *now, const struct placement_voters *target,
                          store_id leader)
{
    for (uint32_t i = 0; i < now->count; i++) {
        if (placement_has(target, now->stores[i])) {
            return now->stores[i];
        }
    }
    return leader;
}

static bool has_quorum(const struct cluster *c, const struct placement_voters *v)
{
    uint32_t usable = 0;

    for (uint32_t i = 0; i < v->count; i++) {
        const struct topology_store *s = topology_find(&c->topology, v->stores[i]);

        usable += s != NULL && topology_is_usable(s->health) ? 1 : 0;
    }
    return usable > v->count / 2;
}

static store_id first_usable(const struct cluster *c, const struct placement_voters *v)
{
    for (uint32_t i = 0; i < v->count; i++) {
        const struct topology_store *s = topology_find(&c->topology, v->stores[i]);

        if (s != NULL && topology_is_usable(s->health)) {
            return s->id;
        }
    }
    return (store_id){0};
}

/*
 * Random clusters and voters: the answer is even, stays when asked again, and following the steps
 * from anywhere arrives there without ever removing the leader or losing a quorum.
 */
TEST(placement, random_clusters_converge)
{
    const struct placement_options options = {0};
    struct rng rng;

    rng_seed(&rng, 42);
    for (int round = 0; round < 3000; round++) {
        struct cluster c;
        struct placement_voters now;
        struct placement_voters target;
        struct placement_voters again;
        store_id leader;
        int steps = 0;

        random_cluster(&rng, &c, &now);
        placement_choose_voters(&c.topology, &now, &options, &target);
        EXPECT_TRUE(unevenness(&c, &target) <= 1);
        placement_choose_voters(&c.topology, &target, &options, &again);
        EXPECT_BYTES_EQ(bytes_of(&target, sizeof(target)), bytes_of(&again, sizeof(again)));
        if (!has_quorum(&c, &now)) {
            continue; /* Nobody leads and nobody could change anything. */
        }
        leader = first_usable(&c, &now);
        while (memcmp(&now, &target, sizeof(now)) != 0) {
            const struct placement_step step =
                placement_next_step(&c.topology, &now, &target, leader);

            EXPECT_TRUE(++steps < 20);
            EXPECT_TRUE(step.remove.v != leader.v);
            if (step.kind == PLACEMENT_STAY) {
                leader = hand_over(&now, &target, leader);
            }
            carry_out(&now, step);
            EXPECT_TRUE(has_quorum(&c, &now));
        }
    }
}

TEST(placement, diversity_is_the_mean_over_pairs)
{
    struct cluster c;
    const struct placement_voters spread = voters("1 3 4");
    const struct placement_voters tight = voters("1 2");
    const struct placement_voters one = voters("1");
    const struct placement_voters unknown = voters("1 99");

    cluster_init(&c, "us.a us.b eu.a ap.a");
    EXPECT_EQ(1000, placement_diversity(&c.topology, &spread));
    EXPECT_EQ(500, placement_diversity(&c.topology, &tight));
    EXPECT_EQ(0, placement_diversity(&c.topology, &one));
    EXPECT_EQ(0, placement_diversity(&c.topology, &unknown));
}

TEST(topology, finds_stores_and_counts_nodes)
{
    struct cluster c;

    cluster_init(&c, "us.a us.a@1 us.b? us.c! us.d-");
    EXPECT_EQ(2, topology_count_nodes(&c.topology));
    EXPECT_EQ(1, topology_find(&c.topology, (store_id){2})->node.v);
    EXPECT_TRUE(topology_find(&c.topology, (store_id){6}) == NULL);
    EXPECT_TRUE(topology_find(&c.topology, (store_id){0}) == NULL);
}
