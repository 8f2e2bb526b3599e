/*
 * rtt.h -- round trips between places: a triangle of regions, and two figures for inside one.
 *
 * Text form, one fact per line, '#' starts a comment, times in milliseconds with at most three
 * decimals; every pair of the regions that are named has to be there once, in either order:
 *
 *     zone 0.3                      two nodes of one zone
 *     region 1.2                    two zones of one region
 *     us-east-1 eu-west-1 66        two regions
 *
 * Plain data of several KiB: keep it in an arena or on the heap, not on a fiber's stack.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/arena.h"
#include "node/base/bytes.h"
#include "node/base/status.h"
#include "regions/locality/locality.h"

#define RTT_REGIONS_MAX 32
#define RTT_MAX_US      60000000u /* One minute; a larger figure is a typing error. */

struct rtt_matrix {
    char regions[RTT_REGIONS_MAX][LOCALITY_VALUE_MAX + 1]; /* In the order of the file. */
    uint32_t count;
    uint32_t rtt_us[RTT_REGIONS_MAX][RTT_REGIONS_MAX]; /* Symmetric; the diagonal is region_us. */
    uint32_t zone_us;                                  /* Same region, same zone. */
    uint32_t region_us;                                /* Same region, other zone. */
};

/*
 * Reads the text form.
 *
 * arena  For the message of an error only; it names the line.
 * out    Unchanged on failure.
 *
 * Errors:  STATUS_INVALID  a line of another form, a pair twice or missing, no "zone" or "region",
 *                          too many regions.
 */
NOYIELD NODISCARD struct status rtt_parse(struct bytes text, struct arena *arena,
                                          struct rtt_matrix *out);

/*
 * Half the round trip between two places, in microseconds. Two nodes of one region that name no zone
 * count as one zone.
 *
 * Errors:  STATUS_NOT_FOUND  the matrix does not name one of the regions. Two places of one region
 *                            always have an answer.
 */
NOYIELD NODISCARD struct status rtt_one_way(const struct rtt_matrix *m, const struct locality *a,
                                            const struct locality *b, uint32_t *us_out);
