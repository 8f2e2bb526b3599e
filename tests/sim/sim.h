/*
 * sim.h -- one simulated life of a cluster, from a seed.
 *
 * sim_run() builds a cluster of nodes (the real node/ code, one shard each) on a simulated clock,
 * network and disk, lets clients work on it while faults happen, heals it and checks what it did.
 * Everything follows from the options: same options, same events, same trace hash.
 *
 * One world per process at a time; nothing is kept between runs.
 * Source: protocol reference 18; FoundationDB's simulation, TigerBeetle's VOPR.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define SIM_NODES_MAX       15u
#define SIM_FAILURE_MAX     768u
#define SIM_SECONDS_DEFAULT 60u

enum sim_fault {
#define X(name, text, required) SIM_FAULT_##name,
#include "tests/sim/faults.def"
#undef X
    SIM_FAULT_COUNT
};

enum sim_state {
#define X(name, text, required) SIM_STATE_##name,
#include "tests/sim/states.def"
#undef X
    SIM_STATE_COUNT
};

/* Deliberate bugs of one run: see plant.h. */
struct sim_plants {
    uint32_t raft;
    uint32_t store;
    uint32_t liveness;
    uint32_t txn;
    bool forget_syncs;
};

struct sim_options {
    uint64_t seed;
    uint32_t seconds; /* Of chaos, simulated. */
    uint32_t nodes;   /* 0: drawn from the seed. */
    struct sim_plants plants;
    bool trace; /* Every event to stdout. */
    bool logs;  /* Log events of the nodes to stdout. */
};

/* Plain data, handed from process to process. */
struct sim_result {
    uint64_t seed;
    uint64_t hash;
    uint64_t events;
    uint64_t simulated_ns;
    uint64_t wall_ns; /* Real time it took. */
    uint64_t ops_ok;
    uint64_t ops_failed;
    uint64_t ops_unknown;
    uint64_t recovery_ns; /* From healing to progress through every node. */
    uint32_t nodes;
    bool sql; /* The clients spoke SQL. */
    bool failed;
    char failure[SIM_FAILURE_MAX];
    uint64_t faults[SIM_FAULT_COUNT];
    uint64_t states[SIM_STATE_COUNT];
};

void sim_run(const struct sim_options *o, struct sim_result *out);

const char *sim_fault_text(enum sim_fault f);
bool sim_fault_required(enum sim_fault f);
const char *sim_state_text(enum sim_state s);
bool sim_state_required(enum sim_state s);
