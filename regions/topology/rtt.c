/*
 * rtt.c -- reading a table of round trips and looking two places up.
 *
 * The file is read line by line into a matrix in which 0xFFFFFFFF means "nobody said". What is still
 * unsaid at the end is an error, not a guess: a demo or a simulation with one forgotten pair would
 * otherwise run with a link of no delay and prove nothing.
 *
 * Times are kept in whole microseconds; the decimals are read by hand, because strtod() listens to
 * the locale.
 */
#include "regions/topology/rtt.h"

#include <string.h>

#include "node/base/invariant.h"

#define UNSAID    UINT32_MAX
#define WORDS_MAX 4 /* One more than any line may have, to notice it. */

struct line {
    struct bytes words[WORDS_MAX];
    size_t count;
};

NOYIELD static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* Cuts the first line off *rest and splits it at blanks, up to WORDS_MAX words, without comment. */
NOYIELD static struct line next_line(struct bytes *rest)
{
    const uint8_t *end = memchr(rest->ptr, '\n', rest->len);
    const size_t len = end == NULL ? rest->len : (size_t)(end - rest->ptr);
    struct line line = {.count = 0};
    size_t i = 0;

    while (i < len && rest->ptr[i] != '#' && line.count < WORDS_MAX) {
        const size_t start = i;

        while (i < len && !is_blank(rest->ptr[i]) && rest->ptr[i] != '#') {
            i++;
        }
        if (i > start) {
            line.words[line.count++] = bytes_of(rest->ptr + start, i - start);
        } else {
            i++; /* A blank. */
        }
    }
    *rest = bytes_skip(*rest, end == NULL ? len : len + 1);
    return line;
}

/* "66", "0.25" in milliseconds to microseconds; false for anything else or above RTT_MAX_US. */
NOYIELD static bool parse_ms(struct bytes text, uint32_t *us_out)
{
    uint64_t us = 0;
    uint32_t decimals = 0;
    bool point = false;

    for (size_t i = 0; i < text.len; i++) {
        const uint8_t c = text.ptr[i];

        if (c == '.' && !point && i > 0 && i + 1 < text.len) {
            point = true;
            continue;
        }
        if (c < '0' || c > '9' || decimals == 3 || us > RTT_MAX_US) {
            return false;
        }
        us = us * 10 + (uint64_t)(c - '0');
        decimals += point ? 1 : 0;
    }
    for (; decimals < 3; decimals++) {
        us *= 10;
    }
    *us_out = (uint32_t)us;
    return text.len > 0 && us <= RTT_MAX_US;
}

/* The row of a region, or m->count when it has none yet. */
NOYIELD static uint32_t find_region(const struct rtt_matrix *m, struct bytes name)
{
    uint32_t i = 0;

    while (i < m->count && !bytes_eq(bytes_str(m->regions[i]), name)) {
        i++;
    }
    return i;
}

/* The row of a region, added when it is new. Returns why it cannot be, or NULL. */
NOYIELD static const char *use_region(struct rtt_matrix *m, struct bytes name, uint32_t *row_out)
{
    *row_out = find_region(m, name);
    if (*row_out < m->count) {
        return NULL;
    }
    if (m->count == RTT_REGIONS_MAX) {
        return "too many regions";
    }
    if (name.len > LOCALITY_VALUE_MAX) {
        return "the name of a region is too long";
    }
    memcpy(m->regions[m->count++], name.ptr, name.len);
    return NULL;
}

NOYIELD static const char *set_pair(struct rtt_matrix *m, const struct line *line, uint32_t us)
{
    uint32_t a = 0;
    uint32_t b = 0;
    const char *why = use_region(m, line->words[0], &a);

    if (why == NULL) {
        why = use_region(m, line->words[1], &b);
    }
    if (why != NULL) {
        return why;
    }
    if (a == b) {
        return "a region has no round trip to itself; say \"region\"";
    }
    if (m->rtt_us[a][b] != UNSAID) {
        return "the pair was already there";
    }
    m->rtt_us[a][b] = us;
    m->rtt_us[b][a] = us;
    return NULL;
}

/* Takes one line in. Returns why it is refused, or NULL. */
NOYIELD static const char *take_line(struct rtt_matrix *m, const struct line *line)
{
    uint32_t us = 0;
    uint32_t *inside = NULL;

    if (line->count == 0) {
        return NULL;
    }
    if (line->count != 2 && line->count != 3) {
        return "not \"zone MS\", \"region MS\" or \"REGION REGION MS\"";
    }
    if (!parse_ms(line->words[line->count - 1], &us)) {
        return "not a time in milliseconds";
    }
    if (line->count == 3) {
        return set_pair(m, line, us);
    }
    if (bytes_eq(line->words[0], BYTES_LIT("zone"))) {
        inside = &m->zone_us;
    } else if (bytes_eq(line->words[0], BYTES_LIT("region"))) {
        inside = &m->region_us;
    } else {
        return "not \"zone MS\", \"region MS\" or \"REGION REGION MS\"";
    }
    if (*inside != UNSAID) {
        return "it was already there";
    }
    *inside = us;
    return NULL;
}

/* Fills the diagonal and finds what nobody said. */
NOYIELD static struct status check_complete(struct rtt_matrix *m, struct arena *arena)
{
    if (m->zone_us == UNSAID || m->region_us == UNSAID) {
        return FAIL(STATUS_INVALID, "round trips inside a zone and a region are missing");
    }
    for (uint32_t a = 0; a < m->count; a++) {
        m->rtt_us[a][a] = m->region_us;
        for (uint32_t b = a + 1; b < m->count; b++) {
            if (m->rtt_us[a][b] == UNSAID) {
                return FAIL(STATUS_INVALID,
                            arena_printf(arena, "round trip between \"%s\" and \"%s\" is missing",
                                         m->regions[a], m->regions[b]));
            }
        }
    }
    return OK;
}

struct status rtt_parse(struct bytes text, struct arena *arena, struct rtt_matrix *out)
{
    struct rtt_matrix *m = ARENA_NEW(arena, struct rtt_matrix);
    struct bytes rest = text;

    if (m == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a table of round trips");
    }
    m->zone_us = UNSAID;
    m->region_us = UNSAID;
    memset(m->rtt_us, 0xFF, sizeof(m->rtt_us)); /* UNSAID everywhere. */
    for (uint32_t number = 1; rest.len > 0; number++) {
        const struct line line = next_line(&rest);
        const char *why = take_line(m, &line);

        if (why != NULL) {
            return FAIL(STATUS_INVALID, arena_printf(arena, "line %u: %s", number, why));
        }
    }
    TRY(check_complete(m, arena));
    *out = *m;
    return OK;
}

struct status rtt_one_way(const struct rtt_matrix *m, const struct locality *a,
                          const struct locality *b, uint32_t *us_out)
{
    const char *region_a = locality_region(a);
    const char *region_b = locality_region(b);

    if (strcmp(region_a, region_b) == 0) {
        const bool same_zone = strcmp(locality_zone(a), locality_zone(b)) == 0;

        *us_out = (same_zone ? m->zone_us : m->region_us) / 2;
        return OK;
    }

    const uint32_t row_a = find_region(m, bytes_str(region_a));
    const uint32_t row_b = find_region(m, bytes_str(region_b));

    if (row_a == m->count || row_b == m->count) {
        return FAIL(STATUS_NOT_FOUND, "region without round trips");
    }
    INVARIANT(m->rtt_us[row_a][row_b] == m->rtt_us[row_b][row_a]);
    *us_out = m->rtt_us[row_a][row_b] / 2;
    return OK;
}
