/*
 * hlc.c -- a clock that follows both the wall and every message.
 *
 * A reading is (wall, logical). now() takes the wall clock when that has moved past the last reading
 * and counts `logical` up when it has not: it stood still, stepped back, or a peer is ahead. After
 * update(r), now() is greater than r, so an answer always carries a later time than its question.
 *
 * Invariants:
 *   1. Readings of one clock are strictly increasing.
 *   2. No reading's wall passes the durable upper bound; after a restart the node waits until the
 *      physical clock is past that bound, so invariant 1 holds over restarts as well.
 *   3. A peer more than max_offset ahead of the physical clock cannot drag us along.
 *
 * A carry from logical into wall would move us away from real time, so it happens only after 2^31
 * readings within one wall reading, and never at the bound, where the count simply goes on.
 */
#include "node/runtime/hlc.h"

#include "node/base/invariant.h"

#define LOGICAL_CARRY ((uint32_t)1 << 31)

static bool hclock_less(struct hclock a, struct hclock b)
{
    return hts_less(hclock_hts(a), hclock_hts(b));
}

void hlc_init(struct hlc *c, struct env *env, uint64_t max_offset_ns)
{
    *c = (struct hlc){
        .env = env,
        .upper_bound_wall = UINT64_MAX,
        .max_offset_ns = max_offset_ns,
    };
}

struct hclock hlc_now(struct hlc *c)
{
    const uint64_t physical = env_wall_ns(c->env);
    const uint64_t wall = physical < c->upper_bound_wall ? physical : c->upper_bound_wall;

    if (wall > c->last.wall) {
        c->last = (struct hclock){wall, 0};
    } else if (c->last.logical < LOGICAL_CARRY || c->last.wall >= c->upper_bound_wall) {
        INVARIANT(c->last.logical < UINT32_MAX);
        c->last.logical++;
    } else {
        c->last = (struct hclock){c->last.wall + 1, 0};
    }
    INVARIANT(c->last.wall <= c->upper_bound_wall);
    return c->last;
}

struct status hlc_update(struct hlc *c, struct hclock remote)
{
    const uint64_t physical = env_wall_ns(c->env);

    if (remote.wall > physical && remote.wall - physical > c->max_offset_ns) {
        c->rejected++;
        return FAIL(STATUS_INVALID, "the clock of a peer is too far ahead");
    }
    if (remote.logical > LOGICAL_CARRY) { /* Nobody counts that far; it could exhaust our count. */
        c->rejected++;
        return FAIL(STATUS_INVALID, "the clock of a peer counts too far");
    }
    if (!hclock_less(c->last, remote)) {
        return OK; /* We are ahead: the common case. */
    }
    if (remote.wall > c->upper_bound_wall) {
        return FAIL(STATUS_UNAVAILABLE, "the clock's upper bound was not extended in time");
    }
    c->last = remote;
    return OK;
}

void hlc_set_upper_bound(struct hlc *c, uint64_t wall)
{
    if (c->upper_bound_wall != UINT64_MAX && wall <= c->upper_bound_wall) {
        return;
    }
    /* A bound below a reading already given would promise what is no longer true. */
    INVARIANT(wall >= c->last.wall);
    c->upper_bound_wall = wall;
}

bool hlc_bound_near(const struct hlc *c, uint64_t within_ns)
{
    const uint64_t physical = env_wall_ns(c->env);
    const uint64_t wall = physical > c->last.wall ? physical : c->last.wall;

    if (c->upper_bound_wall == UINT64_MAX) {
        return false;
    }
    return wall >= c->upper_bound_wall || c->upper_bound_wall - wall <= within_ns;
}
