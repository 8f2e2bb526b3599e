/*
 * locality.h -- where a node stands, as tiers from wide to narrow: "region=us-east-1,zone=us-east-1a".
 *
 * The first tier is always the region. Further tiers (zone, rack, ...) are optional and have to come
 * in the same order on every node, because two localities are compared tier by tier.
 *
 * Plain data: copied freely, owns nothing. Pure: no I/O, no clock, no allocation but from an arena.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "node/base/arena.h"
#include "node/base/bytes.h"
#include "node/base/status.h"

#define LOCALITY_TIERS_MAX 6
#define LOCALITY_KEY_MAX   15 /* Bytes of a key, without the final zero. */
#define LOCALITY_VALUE_MAX 63 /* Bytes of a value, without the final zero. */

/* Longest text of a locality, with the final zero. */
#define LOCALITY_TEXT_MAX (LOCALITY_TIERS_MAX * (LOCALITY_KEY_MAX + LOCALITY_VALUE_MAX + 2))

/* The diversity of two localities that differ in their first tier. */
#define LOCALITY_DIVERSITY_MAX 1000u

struct locality_tier {
    char key[LOCALITY_KEY_MAX + 1];     /* Lower-case letters, digits, '_', '-'; never empty. */
    char value[LOCALITY_VALUE_MAX + 1]; /* Letters, digits, '_', '-', '.'; never empty. */
};

struct locality {
    struct locality_tier tiers[LOCALITY_TIERS_MAX]; /* [0, count) are set; keys are distinct. */
    uint32_t count;                                 /* At least 1 in a valid one. */
};

/*
 * Reads "key=value,key=value,..." without blanks.
 *
 * arena  For the message of an error only.
 * out    Unchanged on failure; unused bytes are zero, so that equal localities are equal bytes.
 *
 * Errors:  STATUS_INVALID  no region in front, a bad character, a name too long, a key twice, zone
 *                          before region, more than LOCALITY_TIERS_MAX tiers.
 */
NOYIELD NODISCARD struct status locality_parse(struct bytes text, struct arena *arena,
                                               struct locality *out);

/* Writes the text that locality_parse() reads, cut to fit `size` (at least 1), and a final zero. */
NOYIELD void locality_format(const struct locality *l, char *out, size_t size);

/* The value of the tier `key`, or NULL. Borrowed from `l`. */
NOYIELD const char *locality_value(const struct locality *l, const char *key);

/* The value of the first tier, "" for a locality that was never set. Borrowed from `l`. */
NOYIELD const char *locality_region(const struct locality *l);

/* The value of the tier "zone", "" when there is none. Borrowed from `l`. */
NOYIELD const char *locality_zone(const struct locality *l);

NOYIELD bool locality_eq(const struct locality *a, const struct locality *b);

/*
 * How little two places have in common, 0 (same) to LOCALITY_DIVERSITY_MAX (another region): the
 * share of tiers from the first that differs on. A tier that only one of them has differs.
 */
NOYIELD uint32_t locality_diversity(const struct locality *a, const struct locality *b);
