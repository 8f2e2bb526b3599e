/*
 * layout.c -- which node stands where, and what people call it.
 *
 * Nodes of a region follow each other, and go round its zones: with two regions of three zones and
 * eight nodes, 1 to 4 stand in zones a b c a of the first region. Zones are named as the clouds do, the
 * region's name and a letter.
 */
#include <stdlib.h>
#include <string.h>

#include "cli/demo/demo.h"

struct region_plan {
    char name[LOCALITY_VALUE_MAX + 1];
    uint32_t zones;
};

const char *demo_rtt_text(void)
{
    /* A test holds this against regions/examples/us-eu-ap.rtt. */
    return "# Round trips in milliseconds between three regions. Form: regions/topology/rtt.h.\n"
           "#\n"
           "# The triangle 66 / 64 / 146 is the one that CockroachDB's demo cluster is known for; "
           "under other\n"
           "# names of regions it keeps figures comparable. Inside a region: what clouds publish "
           "for zones.\n"
           "\n"
           "zone   0.3      # two nodes of one zone\n"
           "region 1.2      # two zones of one region\n"
           "\n"
           "us-east-1 eu-west-1       66\n"
           "eu-west-1 ap-southeast-1  64\n"
           "ap-southeast-1 us-east-1  146\n";
}

bool demo_in(demo_set s, uint32_t index)
{
    return (s.bits >> index & 1u) != 0;
}

/* The zone's name is the longest thing made of a region's: it has to be a valid one, too. */
static bool valid_name(const char *name, struct arena *arena)
{
    struct locality l;

    return status_ok(locality_parse(
        bytes_str(arena_printf(arena, "region=%s,zone=%sa", name, name)), arena, &l));
}

static struct status parse_region(const char *text, size_t len, struct arena *arena,
                                  struct region_plan *out)
{
    const char *copy = arena_strndup(arena, text, len);
    const char *colon = copy == NULL ? NULL : strchr(copy, ':');
    const size_t n = colon == NULL ? len : (size_t)(colon - copy);
    char *end = NULL;
    unsigned long zones = DEMO_ZONES;

    if (copy == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    *out = (struct region_plan){.zones = 0};
    if (n < sizeof(out->name)) {
        memcpy(out->name, copy, n);
    }
    if (n >= sizeof(out->name) || !valid_name(out->name, arena)) {
        return FAIL(STATUS_INVALID,
                    arena_printf(arena, "--regions: \"%s\" is no name of a region", copy));
    }
    if (colon != NULL) {
        zones = strtoul(colon + 1, &end, 10);
    }
    if (colon != NULL && (colon[1] < '0' || colon[1] > '9' || *end != '\0' || zones == 0 ||
                          zones > DEMO_ZONES_MAX)) {
        return FAIL(STATUS_INVALID,
                    arena_printf(arena, "--regions: \"%s\" wants 1 to %u zones behind the colon",
                                 copy, DEMO_ZONES_MAX));
    }
    out->zones = (uint32_t)zones;
    return OK;
}

static struct status parse_regions(const char *text, struct arena *arena, struct region_plan *out,
                                   uint32_t *count_out)
{
    uint32_t count = 0;

    for (const char *at = text;; at++) {
        const size_t n = strcspn(at, ",");

        if (count == DEMO_NODES_MAX) {
            return FAIL(STATUS_INVALID, "--regions: too many regions");
        }
        TRY(parse_region(at, n, arena, &out[count]));
        for (uint32_t i = 0; i < count; i++) {
            if (strcmp(out[i].name, out[count].name) == 0) {
                return FAIL(STATUS_INVALID,
                            arena_printf(arena, "--regions: \"%s\" is there twice", out[i].name));
            }
        }
        count++;
        at += n;
        if (*at == '\0') {
            *count_out = count;
            return OK;
        }
    }
}

static void place(struct demo *d, const struct region_plan *r, uint32_t nodes)
{
    for (uint32_t i = 0; i < nodes; i++) {
        struct demo_node *n = &d->nodes[d->count];

        *n = (struct demo_node){.id = ++d->count};
        (void)snprintf(n->region, sizeof(n->region), "%s", r->name);
        (void)snprintf(n->zone, sizeof(n->zone), "%.*s%c", LOCALITY_VALUE_MAX - 1, r->name,
                       (char)('a' + i % r->zones));
    }
}

struct status demo_layout(const char *regions, uint32_t nodes, struct arena *arena, struct demo *d)
{
    struct region_plan *plans = ARENA_ARRAY(arena, struct region_plan, DEMO_NODES_MAX);
    uint32_t count = 0;
    uint32_t total = nodes;

    if (plans == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    TRY(parse_regions(regions, arena, plans, &count));
    for (uint32_t i = 0; nodes == 0 && i < count; i++) {
        total += plans[i].zones;
    }
    if (total < count || total > DEMO_NODES_MAX) {
        return FAIL(STATUS_INVALID, arena_printf(arena,
                                                 "%u nodes do not fit %u regions: at least one "
                                                 "each, and at most %u together",
                                                 total, count, DEMO_NODES_MAX));
    }
    d->count = 0;
    for (uint32_t i = 0; i < count; i++) {
        place(d, &plans[i],
              nodes == 0 ? plans[i].zones : nodes / count + (i < nodes % count ? 1 : 0));
    }
    return OK;
}

/* ---- names --------------------------------------------------------------------------------------- */

static bool is_number(const char *word, uint32_t id)
{
    char *end = NULL;
    const char *digits = strncmp(word, "node", 4) == 0 ? word + 4 : word;

    return digits[0] >= '0' && digits[0] <= '9' && strtoul(digits, &end, 10) == id && *end == '\0';
}

static uint32_t match(const struct demo *d, const char *word)
{
    uint32_t bits = 0;

    for (uint32_t i = 0; i < d->count; i++) {
        const struct demo_node *n = &d->nodes[i];

        if (is_number(word, n->id) || strcmp(word, n->region) == 0 || strcmp(word, n->zone) == 0) {
            bits |= 1u << i;
        }
    }
    return bits;
}

struct status demo_find(const struct demo *d, const char *target, struct arena *arena,
                        demo_set *out)
{
    out->bits = 0;
    for (const char *at = target;; at++) {
        const size_t n = strcspn(at, ",");
        const char *word = arena_strndup(arena, at, n);
        const uint32_t bits = word == NULL ? 0 : match(d, word);

        if (bits == 0) {
            return FAIL(STATUS_NOT_FOUND,
                        arena_printf(arena,
                                     "no node, zone or region is called \"%s\"; nodes are numbered "
                                     "1 to %u, see dsqlctl demo status",
                                     word == NULL ? "" : word, d->count));
        }
        out->bits |= bits;
        at += n;
        if (*at == '\0') {
            return OK;
        }
    }
}
