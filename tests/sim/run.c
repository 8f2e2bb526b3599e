/*
 * run.c -- warm-up, chaos, heal, verify.
 *
 *     start nodes -> all ready, tables there -> some quiet seconds -> faults -> heal
 *         -> progress through every node -> clients stop -> replicas agree -> last reads -> history
 */
#include <string.h>

#include "node/base/invariant.h"
#include "tests/sim/chaos.h"
#include "tests/sim/history.h"
#include "tests/sim/load.h"
#include "tests/sim/process.h"
#include "tests/sim/verify.h"

#define WARM_UP_MAX_NS (60 * SEC)
#define QUIET_NS       (5 * SEC)
#define AFTER_NS       (5 * SEC)
#define DRAIN_MAX_NS   (30 * SEC)
#define STEP_NS        (50 * MS)
#define OPS_OK_MIN     100u /* A run with less has proven nothing. */

static bool all_ready(const struct sim_world *w)
{
    for (uint32_t i = 0; i < w->nodes_count; i++) {
        if (!w->nodes[i].ready) {
            return false;
        }
    }
    return load_is_set_up(w->load);
}

/* Clients work and nothing fails, but ranges are split. */
static void quiet_time(struct sim_world *w)
{
    for (uint32_t i = 0; i < w->params.splits && !w->failed; i++) {
        sim_world_run_until(w, w->now_ns + QUIET_NS / (w->params.splits + 1));
        chaos_split_some(w);
    }
    sim_world_run_until(w, w->now_ns + QUIET_NS);
}

static void warm_up(struct sim_world *w)
{
    const uint64_t until = w->now_ns + WARM_UP_MAX_NS;

    process_start(&w->nodes[0]);
    for (uint32_t i = 1; i < w->nodes_count; i++) {
        process_start_in(&w->nodes[i], 1 + rng_below(&w->rng_sched, 2 * SEC));
    }
    while (!w->failed && !all_ready(w) && w->now_ns < until) {
        sim_world_run_until(w, w->now_ns + STEP_NS);
    }
    if (!all_ready(w)) {
        sim_fail(w, "the cluster did not come up within %llu s",
                 (unsigned long long)(WARM_UP_MAX_NS / SEC));
    }
    quiet_time(w);
}

static void stop_clients(struct sim_world *w)
{
    const uint64_t until = w->now_ns + DRAIN_MAX_NS;

    load_stop(w->load);
    while (!w->failed && load_clients(w->load) > 0 && w->now_ns < until) {
        sim_world_run_until(w, w->now_ns + STEP_NS);
    }
    if (load_clients(w->load) > 0) {
        sim_fail(w, "%u operations have not ended %llu s after healing", load_clients(w->load),
                 (unsigned long long)(DRAIN_MAX_NS / SEC));
    }
}

static void fill_result(const struct sim_world *w, struct sim_result *out)
{
    out->seed = w->o.seed;
    out->hash = w->hash;
    out->events = w->events_run;
    out->simulated_ns = w->now_ns;
    out->nodes = w->nodes_count;
    out->sql = load_uses_sql(w->load);
    out->ops_ok = w->history->outcomes[OP_OK] + w->history->outcomes[OP_REFUSED];
    out->ops_failed = w->history->outcomes[OP_FAILED];
    out->ops_unknown = w->history->outcomes[OP_UNKNOWN];
    out->failed = w->failed;
    memcpy(out->failure, w->failure, sizeof(out->failure));
    memcpy(out->faults, w->faults, sizeof(out->faults));
    memcpy(out->states, w->states, sizeof(out->states));
}

void sim_run(const struct sim_options *o, struct sim_result *out)
{
    struct sim_world *w = sim_world_create(o);
    uint64_t healed_ns = 0;

    *out = (struct sim_result){0};
    warm_up(w);
    if (!w->failed) {
        w->faults_from_ns = w->now_ns;
        chaos_start(w);
        sim_world_run_until(w, w->now_ns + o->seconds * SEC);
        chaos_heal(w);
        load_probe(w->load);
        healed_ns = w->now_ns;
        verify_recovery(w, healed_ns, &out->recovery_ns);
        w->recovered_ns = w->now_ns;
        sim_world_run_until(w, w->now_ns + AFTER_NS);
    }
    stop_clients(w);
    if (!w->failed) {
        verify_replicas(w);
        verify_reads(w);
        verify_replicas(w);
    }
    if (!w->failed) {
        history_check(w, LOAD_TOTAL);
    }
    if (!w->failed && w->history->outcomes[OP_OK] < OPS_OK_MIN) {
        sim_fail(w, "only %llu operations succeeded: this run proves nothing",
                 (unsigned long long)w->history->outcomes[OP_OK]);
    }
    if (w->failed && o->logs) {
        verify_dump(w);
    }
    fill_result(w, out);
    sim_world_destroy(w);
}
