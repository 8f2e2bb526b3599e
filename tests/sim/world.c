/*
 * world.c -- the loop: the next event happens, and time is when it happens.
 *
 * Chance comes from one generator per concern, each seeded from the seed of the run, so that a change
 * in one concern (another latency, say) does not reshuffle the others more than it must.
 */
#include "tests/sim/world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "node/base/invariant.h"
#include "tests/sim/chaos.h"
#include "tests/sim/check.h"
#include "tests/sim/history.h"
#include "tests/sim/keyspace.h"
#include "tests/sim/load.h"
#include "tests/sim/process.h"

#define EXPONENTIAL_CUT 10u

/* ---- what happened ------------------------------------------------------------------------------ */

void sim_fail(struct sim_world *w, const char *fmt, ...)
{
    va_list args;

    if (w->failed) {
        return;
    }
    w->failed = true;
    va_start(args, fmt);
    (void)vsnprintf(w->failure, sizeof(w->failure), fmt, args);
    va_end(args);
    if (w->o.trace || w->o.logs) {
        printf("%12.6f FAILED %s\n", (double)w->now_ns / 1e9, w->failure);
    }
}

void sim_trace(struct sim_world *w, const char *what, uint64_t a, uint64_t b, uint64_t c)
{
    const uint64_t line[4] = {w->now_ns, a, b, c};

    w->hash = hash64(bytes_str(what), hash64(bytes_of(line, sizeof(line)), w->hash));
    if (w->o.trace) {
        printf("%12.6f %-14s %016llx %016llx %016llx\n", (double)w->now_ns / 1e9, what,
               (unsigned long long)a, (unsigned long long)b, (unsigned long long)c);
    }
}

const char *sim_fault_text(enum sim_fault f)
{
    static const char *const texts[] = {
#define X(name, text, required) text,
#include "tests/sim/faults.def"
#undef X
    };

    return texts[f];
}

bool sim_fault_required(enum sim_fault f)
{
    static const bool list[] = {
#define X(name, text, required) (required) != 0,
#include "tests/sim/faults.def"
#undef X
    };

    return list[f];
}

const char *sim_state_text(enum sim_state s)
{
    static const char *const texts[] = {
#define X(name, text, required) text,
#include "tests/sim/states.def"
#undef X
    };

    return texts[s];
}

bool sim_state_required(enum sim_state s)
{
    static const bool list[] = {
#define X(name, text, required) (required) != 0,
#include "tests/sim/states.def"
#undef X
    };

    return list[s];
}

void sim_fault(struct sim_world *w, enum sim_fault f, uint64_t a, uint64_t b)
{
    w->faults[f]++;
    if (w->o.logs) {
        printf("%12.6f -- %s %llu %llu\n", (double)w->now_ns / 1e9, sim_fault_text(f),
               (unsigned long long)a, (unsigned long long)b);
    }
    sim_trace(w, sim_fault_text(f), a, b, 0);
}

/* ---- chance -------------------------------------------------------------------------------------- */

/* log2 of a fraction v / 2^32 with v in (0, 2^32], in 1/65536, negated: integers only, so that every
 * machine and compiler gives the same. */
static uint64_t minus_log2(uint64_t v)
{
    uint64_t result = 0;
    uint64_t x = v;

    while (x < (uint64_t)1 << 31) {
        x <<= 1;
        result += 65536;
    }
    /* x / 2^32 is in [1/2, 1]: one bit of the logarithm per squaring. */
    for (uint32_t bit = 32768; bit > 0; bit >>= 1) {
        x = (uint64_t)(((unsigned __int128)x * x) >> 32);
        if (x < (uint64_t)1 << 31) {
            x <<= 1;
            result += bit;
        }
    }
    return result;
}

uint64_t sim_exponential(struct rng *r, uint64_t mean)
{
    const uint64_t bits = minus_log2(rng_between(r, 1, (uint64_t)1 << 32)); /* log2, 16 bits. */
    const uint64_t ln = bits * 45426 / 65536;                               /* times ln 2 */
    const uint64_t v = (uint64_t)(((unsigned __int128)mean * ln) >> 16);

    return v > mean * EXPONENTIAL_CUT ? mean * EXPONENTIAL_CUT : v;
}

uint64_t sim_log_uniform(struct rng *r, uint64_t lo, uint64_t hi)
{
    uint64_t from = lo;
    uint32_t doublings = 0;

    INVARIANT(lo > 0 && lo <= hi);
    while (from <= hi / 2) {
        from *= 2;
        doublings++;
    }
    from = lo << rng_below(r, (uint64_t)doublings + 1);
    return rng_between(r, from, from > hi / 2 ? hi : 2 * from);
}

int64_t sim_clock_offset(struct sim_world *w)
{
    struct rng *r = &w->rng_chaos;
    const uint64_t dice = w->params.far_clocks ? rng_below(r, 10) : 9;

    if (dice < 8) {
        return dice % 2 == 0 ? SIM_OFFSET_MAX_NS : -SIM_OFFSET_MAX_NS;
    }
    return (int64_t)rng_below(r, 2 * (uint64_t)SIM_OFFSET_MAX_NS) - SIM_OFFSET_MAX_NS;
}

/* ---- the world ----------------------------------------------------------------------------------- */

static void draw_params(struct sim_world *w)
{
    struct rng *r = &w->rng_chaos;
    static const uint32_t sizes[] = {3, 3, 5, 5, 5, 6, 9, 9, 9, 9};

    w->nodes_count = w->o.nodes != 0 ? w->o.nodes : sizes[rng_below(r, ARRAY_COUNT(sizes))];
    w->params = (struct sim_params){
        .clients_per_node = (uint32_t)rng_between(r, 1, w->nodes_count > 5 ? 2 : 4),
        .think_ns = sim_log_uniform(r, 10 * MS, 200 * MS),
        .keys = (uint32_t)rng_between(r, 3, 12),
        .lists = (uint32_t)rng_between(r, 2, 6),
        .disk_write_ns = sim_log_uniform(r, 100000, 8 * MS),
        .latency_percent = (uint32_t)sim_log_uniform(r, 3, 120),
        .fault_gap_ns = sim_log_uniform(r, 300 * MS, 4 * SEC),
        .log_bytes_max = rng_permille(r, 600) ? sim_log_uniform(r, 2048, 256 << 10) : 0,
        .election_ticks = (uint32_t)rng_between(r, 2, 10),
        .election_jitter_ticks = (uint32_t)rng_between(r, 1, 10),
        .padding_max = rng_permille(r, 300) ? (uint32_t)sim_log_uniform(r, 100, 60000) : 1,
        .far_clocks = rng_permille(r, 500),
        .quick_support = rng_permille(r, 400),
        .brutal = rng_permille(r, 300),
        .profile = 0,
    };
    w->params.gc_ttl_ns = rng_between(r, 25, 60) * SEC;
    w->params.range_bytes_max = rng_permille(r, 400) ? sim_log_uniform(r, 32 << 10, 512 << 10) : 0;
    w->params.merge_after_ns = rng_permille(r, 400) ? sim_log_uniform(r, 2 * SEC, 20 * SEC) : 0;
    w->params.dead_after_ns = rng_permille(r, 300) ? rng_between(r, 5, 20) * SEC : 0;
    /* Short ones bring promises close to what is being written. */
    w->params.closed_lag_ns = rng_permille(r, 400) ? sim_log_uniform(r, 20 * MS, 60 * MS)
                                                   : sim_log_uniform(r, 60 * MS, 4 * SEC);
    w->params.side_interval_ns = w->params.closed_lag_ns / rng_between(r, 4, 12);
    w->params.ranges_max = rng_permille(r, 850) ? (uint32_t)rng_between(r, 2, 24) : 1;
    w->params.splits = (uint32_t)rng_below(r, w->params.ranges_max);
    for (uint32_t f = 0; f < SIM_FAULT_COUNT; f++) {
        w->params.profile |= rng_permille(r, 550) ? 1ull << f : 0;
    }
}

struct sim_world *sim_world_create(const struct sim_options *o)
{
    struct sim_world *w = calloc(1, sizeof(*w));

    INVARIANT(w != NULL);
    w->o = *o;
    w->now_ns = SEC;
    sim_events_init(&w->events);
    rng_seed(&w->rng_net, o->seed * 4 + 0x6e6574);
    rng_seed(&w->rng_disk, o->seed * 4 + 0x6469736b);
    rng_seed(&w->rng_sched, o->seed * 4 + 0x7363686564);
    rng_seed(&w->rng_chaos, o->seed * 4 + 0x6368616f73);
    draw_params(w);
    sim_net_init(w);
    w->check = check_create(w);
    w->history = history_create();
    w->load = load_create(w);
    w->chaos = chaos_create(w);
    for (uint32_t i = 0; i < w->nodes_count; i++) {
        process_init(w, i);
    }
    return w;
}

void sim_world_destroy(struct sim_world *w)
{
    for (uint32_t i = 0; i < w->nodes_count; i++) {
        process_deinit(&w->nodes[i]);
    }
    sim_events_deinit(&w->events);
    chaos_destroy(w->chaos);
    load_destroy(w->load);
    history_destroy(w->history);
    check_destroy(w->check);
    sim_net_deinit(w);
    free(w);
}

void sim_world_run_until(struct sim_world *w, uint64_t until_ns)
{
    while (!w->failed) {
        const struct sim_event *first = sim_events_first(&w->events);
        struct sim_event *e = NULL;

        if (first == NULL || first->at_ns > until_ns) {
            break;
        }
        e = sim_events_pop(&w->events);
        w->now_ns = e->at_ns > w->now_ns ? e->at_ns : w->now_ns;
        w->events_run++;
        e->run(w, e);
    }
    if (!w->failed) {
        w->now_ns = until_ns;
    }
}

struct sim_node *sim_leaseholder(struct sim_world *w, range_id range)
{
    const uint32_t node = check_leader(w->check, range);

    if (node >= w->nodes_count || w->nodes[node].life != SIM_UP || w->nodes[node].cut) {
        return NULL;
    }
    return &w->nodes[node];
}

bool sim_leads_any(struct sim_world *w, const struct sim_node *n)
{
    const struct keyspace *k = check_keyspace(w->check);

    for (uint32_t i = 0; i < keyspace_count(k); i++) {
        if (sim_leaseholder(w, keyspace_at(k, i)) == n) {
            return true;
        }
    }
    return false;
}
