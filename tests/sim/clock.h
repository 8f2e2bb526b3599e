/*
 * clock.h -- the clocks of a machine: a monotonic one with drift, and a wall clock with an offset that
 * drifts, jumps and freezes but stays within a bound of the truth.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct sim_clock {
    int64_t limit_ns;  /* The wall is never further from the truth. */
    int64_t offset_ns; /* At since_ns. */
    int64_t drift_ppm; /* Of wall and monotonic clock. */
    uint64_t since_ns; /* True time from which offset and drift count. */
    uint64_t frozen_until_ns;
    uint64_t frozen_wall_ns;
    uint64_t mono_base_ns; /* Reading of the monotonic clock at boot_ns. */
    uint64_t boot_ns;
};

void sim_clock_init(struct sim_clock *c, uint64_t now_ns, int64_t limit_ns, int64_t offset_ns,
                    int64_t drift_ppm);
/* A process starts: its monotonic clock begins anywhere. */
void sim_clock_boot(struct sim_clock *c, uint64_t now_ns, uint64_t mono_base_ns);

uint64_t sim_clock_wall(const struct sim_clock *c, uint64_t now_ns);
uint64_t sim_clock_mono(const struct sim_clock *c, uint64_t now_ns);
/* A true time at which the monotonic clock shows at least this; at most 100 ns after the first one. */
uint64_t sim_clock_when(const struct sim_clock *c, uint64_t mono_ns);

/* Jumps to that offset. */
void sim_clock_step(struct sim_clock *c, uint64_t now_ns, int64_t to_ns);
void sim_clock_set_drift(struct sim_clock *c, uint64_t now_ns, int64_t ppm);
/* The wall stands still for so long (at most what the bound allows), then goes on from there. */
void sim_clock_freeze(struct sim_clock *c, uint64_t now_ns, uint64_t for_ns);
