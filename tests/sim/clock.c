/*
 * clock.c -- piecewise linear clocks.
 *
 * Between two changes the wall is true time + offset + drift. A change of anything starts a new piece
 * at the present reading. The bound is enforced when reading, so that no sequence of changes can
 * leave it. Drift of the monotonic clock starts anew with each process and never changes within one:
 * then its readings never go back and can be inverted.
 */
#include "tests/sim/clock.h"

#include "tests/sim/world.h"

#define MONO_DRIFT_PPM 50

static int64_t clamp(int64_t v, int64_t limit)
{
    return v > limit ? limit : (v < -limit ? -limit : v);
}

static int64_t offset_at(const struct sim_clock *c, uint64_t now_ns)
{
    const int64_t elapsed = (int64_t)(now_ns - c->since_ns);

    return clamp(c->offset_ns + elapsed / 1000000 * c->drift_ppm, c->limit_ns);
}

static uint64_t free_wall(const struct sim_clock *c, uint64_t now_ns)
{
    return SIM_EPOCH_NS + now_ns + (uint64_t)offset_at(c, now_ns);
}

uint64_t sim_clock_wall(const struct sim_clock *c, uint64_t now_ns)
{
    return now_ns < c->frozen_until_ns ? c->frozen_wall_ns : free_wall(c, now_ns);
}

/* A new piece from now on, at the present reading. */
static void rebase(struct sim_clock *c, uint64_t now_ns)
{
    c->offset_ns = (int64_t)(sim_clock_wall(c, now_ns) - SIM_EPOCH_NS - now_ns);
    c->since_ns = now_ns;
    c->frozen_until_ns = 0;
}

void sim_clock_init(struct sim_clock *c, uint64_t now_ns, int64_t limit_ns, int64_t offset_ns,
                    int64_t drift_ppm)
{
    *c = (struct sim_clock){
        .limit_ns = limit_ns,
        .offset_ns = clamp(offset_ns, limit_ns),
        .drift_ppm = drift_ppm,
        .since_ns = now_ns,
    };
}

void sim_clock_boot(struct sim_clock *c, uint64_t now_ns, uint64_t mono_base_ns)
{
    c->boot_ns = now_ns;
    c->mono_base_ns = mono_base_ns;
}

uint64_t sim_clock_mono(const struct sim_clock *c, uint64_t now_ns)
{
    const uint64_t elapsed = now_ns - c->boot_ns;

    return c->mono_base_ns + elapsed + elapsed / 1000000 * MONO_DRIFT_PPM;
}

uint64_t sim_clock_when(const struct sim_clock *c, uint64_t mono_ns)
{
    uint64_t elapsed = 0;
    uint64_t now_ns = 0;

    if (mono_ns <= c->mono_base_ns) {
        return c->boot_ns;
    }
    if (mono_ns - c->mono_base_ns > UINT64_MAX / 4) {
        return UINT64_MAX / 2; /* Never, in our terms. */
    }
    elapsed = mono_ns - c->mono_base_ns;
    now_ns = c->boot_ns + elapsed - elapsed / (1000000 + MONO_DRIFT_PPM) * MONO_DRIFT_PPM;
    while (sim_clock_mono(c, now_ns) < mono_ns) {
        now_ns += mono_ns - sim_clock_mono(c, now_ns);
    }
    return now_ns;
}

void sim_clock_step(struct sim_clock *c, uint64_t now_ns, int64_t to_ns)
{
    rebase(c, now_ns);
    c->offset_ns = clamp(to_ns, c->limit_ns);
}

void sim_clock_set_drift(struct sim_clock *c, uint64_t now_ns, int64_t ppm)
{
    rebase(c, now_ns);
    c->drift_ppm = ppm;
}

void sim_clock_freeze(struct sim_clock *c, uint64_t now_ns, uint64_t for_ns)
{
    uint64_t room = 0;

    rebase(c, now_ns);
    room = (uint64_t)(c->offset_ns + c->limit_ns); /* How far it may fall behind. */
    for_ns = for_ns > room ? room : for_ns;
    c->frozen_wall_ns = free_wall(c, now_ns);
    c->frozen_until_ns = now_ns + for_ns;
    c->offset_ns -= (int64_t)for_ns;
    c->since_ns = now_ns + for_ns;
}
