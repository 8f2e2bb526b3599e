/*
 * process.c -- processes that start, run turn by turn, and end in every way there is.
 *
 * The end of a process must not depend on its goodwill, yet its memory has to be freed without a leak
 * or the sanitizers would be of no use. So a dying process becomes a ghost: the disk is settled first
 * and the engine above it goes on in memory only (memdisk_abandon), frames go nowhere, jobs are done at
 * once, checks and clients ignore it. Its fibers are cancelled and run until none is left. A fiber that
 * does not end when cancelled would keep a real node from draining: that fails the run.
 */
#include "tests/sim/process.h"

#include <stdio.h>
#include <stdlib.h>

#include "node/base/invariant.h"
#include "node/runtime/fiber.h"
#include "tests/sim/check.h"
#include "tests/sim/load.h"

#define TURN_COST_MIN_NS  2000u
#define TURN_COST_MEAN_NS 15000u
#define GHOST_TURNS_MAX   100000u
#define GHOST_TIME_NS     (60 * SEC)
#define STOP_DEADLINE_NS  (10 * SEC)
#define INTENT_AGE_NS     (8 * SEC)
#define SESSIONS_NS       (3 * SEC)
#define FIBER_STACK       ((size_t)256 << 10)

/* ---- turns -------------------------------------------------------------------------------------- */

static void nothing_to_drop(struct sim_event *e)
{
    UNUSED(e); /* Embedded in the node. */
}

static void want_turn(struct sim_node *n)
{
    n->env.ops->wake_at(&n->env, 0);
}

/* Outside of the shard's turn. */
static void end_if_fatal(struct sim_node *n)
{
    if (!n->fatal || n->life != SIM_UP) {
        return;
    }
    if (!n->disk_bad) {
        sim_fail(n->world, "node %u stopped itself: %s", n->index, n->fatal_why);
        return;
    }
    sim_state(n->world, SIM_STATE_FATAL_STOP);
    process_crash(n, PROCESS_POWERED);
    process_start_in(n, sim_log_uniform(&n->world->rng_chaos, 50 * MS, 5 * SEC));
}

static void turn_run(struct sim_world *w, struct sim_event *e)
{
    struct sim_node *n = CONTAINER_OF(e, struct sim_node, turn);
    bool more = false;

    if (n->life != SIM_UP || process_defer(n, e)) {
        return;
    }
    if (w->now_ns < n->busy_until_ns) {
        sim_events_put(&w->events, e, n->busy_until_ns);
        return;
    }
    sim_trace(w, "turn", n->index, 0, 0);
    more = shard_turn(n->shard);
    n->busy_until_ns =
        w->now_ns + TURN_COST_MIN_NS + sim_exponential(&w->rng_sched, TURN_COST_MEAN_NS);
    if (more) {
        want_turn(n);
    }
    end_if_fatal(n);
}

bool process_enter(struct sim_node *n)
{
    if (n->life != SIM_UP || n->node == NULL || node_rpc(n->node) == NULL) {
        return false;
    }
    shard_enter(n->shard);
    return true;
}

void process_leave(struct sim_node *n)
{
    shard_leave(n->shard);
    want_turn(n); /* Hooks have to run after whatever happened. */
    end_if_fatal(n);
}

bool process_spawn(struct sim_node *n, const char *name, void (*fn)(void *arg), void *arg)
{
    struct status st = OK;

    if (n->life != SIM_UP || !n->ready || n->cut) {
        return false;
    }
    shard_enter(n->shard);
    st = fiber_spawn(n->shard, name, fn, arg);
    shard_leave(n->shard);
    want_turn(n);
    return status_ok(st);
}

/* ---- logs --------------------------------------------------------------------------------------- */

static void log_print(const struct sim_node *n, enum log_level level, const char *name,
                      const struct log_field *fields, size_t count)
{
    char line[1024];

    (void)log_format(line, sizeof(line), level, name, fields, count); /* Cut when longer. */
    printf("%12.6f n%u %s\n", (double)n->world->now_ns / 1e9, n->index, line);
}

static void log_emit_event(struct log_sink *sink, enum log_level level, const char *name,
                           const struct log_field *fields, size_t count)
{
    struct sim_node *n = CONTAINER_OF(sink, struct sim_node, log);

    if (n->cut) {
        return;
    }
    if (n->world->o.logs) {
        log_print(n, level, name, fields, count);
    }
    check_log_event(n->world, n->index, name);
    if (level == LOG_LEVEL_ERROR && !n->disk_bad) {
        char line[512];

        (void)log_format(line, sizeof(line), level, name, fields, count);
        sim_fail(n->world, "node %u logged an error: %s", n->index, line);
    }
}

/* ---- start -------------------------------------------------------------------------------------- */

static void on_ready(void *ctx, struct status st)
{
    struct sim_node *n = ctx;

    if (n->cut) {
        return;
    }
    sim_trace(n->world, "ready", n->index, st.code, 0);
    if (!status_ok(st)) {
        if (!n->disk_bad) {
            sim_fail(n->world, "node %u refused to start: %s", n->index, status_text(st));
        }
        n->fatal = true;
        return;
    }
    n->ready = true;
    if (n->incarnation > 1) {
        sim_state(n->world, SIM_STATE_REJOINED);
    }
    load_node_ready(n);
}

static void on_fatal(void *ctx, struct status why)
{
    struct sim_node *n = ctx;

    if (n->cut) {
        return;
    }
    /* The real process ends inside this call: from here on nothing that it does is seen. */
    sim_trace(n->world, "fatal", n->index, why.code, 0);
    (void)snprintf(n->fatal_why, sizeof(n->fatal_why), "%s", status_text(why));
    n->fatal = true;
    n->cut = true;
}

static void restart_run(struct sim_world *w, struct sim_event *e)
{
    UNUSED(w);
    process_start(CONTAINER_OF(e, struct sim_node, restart));
}

static void resume_run(struct sim_world *w, struct sim_event *e)
{
    UNUSED(w);
    process_resume(CONTAINER_OF(e, struct sim_node, resume));
}

void process_init(struct sim_world *w, uint32_t index)
{
    struct sim_node *n = &w->nodes[index];

    *n = (struct sim_node){
        .env.ops = &sim_env_ops,
        .world = w,
        .index = index,
        .region = index % SIM_REGIONS,
        .zone = index / SIM_REGIONS % SIM_ZONES,
        .slow_factor = 1,
        .log = {.min_level = LOG_LEVEL_DEBUG, .emit = log_emit_event},
        .turn = {.run = turn_run, .drop = nothing_to_drop},
        .restart = {.run = restart_run, .drop = nothing_to_drop},
        .resume = {.run = resume_run, .drop = nothing_to_drop},
    };
    (void)snprintf(n->address, sizeof(n->address), "sim%u:26257", index);
    list_init(&n->jobs);
    INVARIANT(status_ok(memdisk_create(&n->disk)));
    memdisk_forget_syncs(n->disk, w->o.plants.forget_syncs);
    sim_clock_init(&n->clock, w->now_ns, SIM_OFFSET_MAX_NS, sim_clock_offset(w),
                   (int64_t)rng_below(&w->rng_chaos, 200) - 100);
}

static void describe_self(const struct sim_node *n, struct node_desc *d)
{
    const struct rtt_matrix *rtt = &n->world->net.rtt;

    *d = (struct node_desc){.pid = n->index * 1000 + n->incarnation};
    (void)snprintf(d->rpc_address, sizeof(d->rpc_address), "%s", n->address);
    (void)snprintf(d->sql_address, sizeof(d->sql_address), "sim%u:5432", n->index);
    (void)snprintf(d->http_address, sizeof(d->http_address), "sim%u:8080", n->index);
    (void)snprintf(d->region, sizeof(d->region), "%s", rtt->regions[n->region]);
    (void)snprintf(d->zone, sizeof(d->zone), "zone-%c", (char)('a' + n->zone));
}

static void create_node(struct sim_node *n)
{
    const struct sim_plants *p = &n->world->o.plants;
    struct node_options o = {
        .shard = n->shard,
        .engine = n->engine,
        .transport = sim_net_transport(n),
        .shards_count = 1,
        .range_bytes_max = n->world->params.range_bytes_max,
        .merge_after_ns = n->world->params.merge_after_ns,
        .dead_after_ns = n->world->params.dead_after_ns,
        .gc_ttl_ns = n->world->params.gc_ttl_ns,
        .intent_age_ns = INTENT_AGE_NS,
        .closed_lag_ns = n->world->params.closed_lag_ns,
        .side_interval_ns = n->world->params.side_interval_ns,
        .log_bytes_max = n->world->params.log_bytes_max,
        .election_ticks = n->world->params.election_ticks,
        .election_jitter_ticks = n->world->params.election_jitter_ticks,
        .shards = {n->shard},
        .raft_plants = p->raft,
        .store_plants = p->store,
        .liveness_plants = p->liveness,
        .txn_plants = p->txn,
        .on_ready = on_ready,
        .on_fatal = on_fatal,
        .ctx = n,
    };
    struct status st = OK;

    if (n->world->params.quick_support) {
        o.liveness = (struct liveness_options){
            .heartbeat_ns = 250 * MS, .support_ns = SEC, .grace_ns = 700 * MS};
    }
    describe_self(n, &o.self);
    check_fill_probe(n->world, n->index, &o.probe);
    if (n->index != 0) {
        o.join[o.join_count++] = n->world->nodes[0].address;
    }
    shard_enter(n->shard);
    st = node_create(&o, &n->node);
    shard_leave(n->shard);
    if (!status_ok(st)) {
        sim_fail(n->world, "node %u could not be created: %s", n->index, status_text(st));
    }
}

void process_start(struct sim_node *n)
{
    struct sim_world *w = n->world;
    struct shard_options so = {.env = &n->env, .log = &n->log, .fiber_stack_bytes = FIBER_STACK};

    if (n->life == SIM_UP || w->failed) {
        return;
    }
    sim_events_remove(&w->events, &n->restart);
    n->incarnation++;
    sim_trace(w, "start", n->index, n->incarnation, 0);
    rng_seed(&n->random, w->o.seed ^ (uint64_t)n->index << 48 ^ (uint64_t)n->incarnation << 32);
    sim_clock_boot(&n->clock, w->now_ns, SEC + rng_below(&n->random, 1000 * SEC));
    n->life = SIM_UP;
    n->cut = false;
    n->fatal = false;
    n->powered_off = false;
    n->ready = false;
    n->stopping = false;
    n->disk_bad = w->now_ns < n->disk_full_until_ns;
    if (!n->disk_bad) {
        memdisk_fail_writes(n->disk, STATUS_OK); /* The disk was replaced or emptied meanwhile. */
    }
    n->started_ns = w->now_ns;
    n->busy_until_ns = w->now_ns;
    n->writer_free_ns = 0;
    n->writer_news_ns = 0;
    memset(n->io_free_ns, 0, sizeof(n->io_free_ns));
    memset(n->knows_address, 0, sizeof(n->knows_address));
    memset(n->applied, 0, sizeof(n->applied));
    n->had_snapshot = false;
    INVARIANT(status_ok(engine_open_mem(n->disk, &n->engine)));
    INVARIANT(status_ok(shard_create(&so, &n->shard)));
    create_node(n);
    want_turn(n);
    end_if_fatal(n);
}

void process_start_in(struct sim_node *n, uint64_t delay_ns)
{
    if (n->life == SIM_DOWN) {
        sim_events_put(&n->world->events, &n->restart, n->world->now_ns + delay_ns);
    }
}

/* ---- end ---------------------------------------------------------------------------------------- */

static bool sql_is_gone(struct sim_node *n)
{
    return node_sql(n->node) == NULL || sql_stopped(node_sql(n->node));
}

/* Lets the ghost's fibers end. False: they do not; the run has failed for it. */
static bool exorcise(struct sim_node *n)
{
    struct shard_stats stats;
    bool more = true;

    /* A store that has failed does not extend the bound of its clock; some waits are for the clock. */
    node_hlc(n->node)->upper_bound_wall = UINT64_MAX - 1;
    if (node_sql(n->node) != NULL) {
        shard_enter(n->shard);
        sql_stop(node_sql(n->node));
        shard_leave(n->shard);
    }
    for (uint32_t i = 0; i < GHOST_TURNS_MAX; i++) {
        sim_env_drain(n);
        shard_enter(n->shard);
        fiber_cancel_all(n->shard); /* Again: some start while others end. */
        shard_leave(n->shard);
        more = shard_turn(n->shard);
        shard_get_stats(n->shard, &stats);
        if (stats.fibers_live == 0 && list_empty(&n->jobs) && sql_is_gone(n)) {
            return true;
        }
        if (!more && i > 100) {
            n->ghost_ns += 100 * MS;
            if (n->ghost_ns > GHOST_TIME_NS) {
                break;
            }
        }
    }
    n->cut = false; /* Their names are wanted in the log. */
    fiber_log_live(n->shard);
    n->cut = true;
    sim_fail(n->world, "node %u: %llu fibers do not end when cancelled, or SQL does not stop",
             n->index, (unsigned long long)stats.fibers_live);
    return false;
}

static void tear_down(struct sim_node *n, uint32_t keep)
{
    n->cut = true;
    n->ready = false;
    memdisk_abandon(n->disk, keep);
    sim_events_remove(&n->world->events, &n->turn);
    process_resume(n);
    if (n->node != NULL) {
        if (!exorcise(n)) {
            return; /* The rest leaks. */
        }
        shard_enter(n->shard);
        node_destroy(n->node);
        shard_leave(n->shard);
    }
    n->node = NULL;
    shard_destroy(n->shard);
    n->shard = NULL;
    engine_close(n->engine);
    n->engine = NULL;
    n->ghost_ns = 0;
    n->life = SIM_DOWN;
    sim_events_remove(&n->world->events, &n->turn);
}

static void note_circumstances(struct sim_node *n, bool leads)
{
    bool writing = false;
    bool unknown = false;

    sim_env_pending(n, &writing, &unknown);
    n->world->states[SIM_STATE_CRASH_WHILE_WRITING] += writing ? 1 : 0;
    n->world->states[SIM_STATE_DONE_BUT_UNKNOWN] += unknown ? 1 : 0;
    n->world->states[SIM_STATE_CRASH_IN_RECOVERY] += n->ready ? 0 : 1;
    n->world->states[SIM_STATE_LEADER_CRASHED] += leads ? 1 : 0;
}

void process_crash(struct sim_node *n, enum process_end how)
{
    struct sim_world *w = n->world;
    const uint32_t unsynced = n->life == SIM_UP ? memdisk_unsynced(n->disk) : 0;
    uint32_t keep = unsynced;

    if (n->life != SIM_UP) {
        return;
    }
    if (how == PROCESS_POWERED) {
        keep = (uint32_t)rng_below(&w->rng_chaos, (uint64_t)unsynced + 1);
        n->powered_off = true;
    }
    if (keep < unsynced) {
        sim_fault(w, SIM_FAULT_UNSYNCED_LOST, n->index, unsynced - keep);
    }
    sim_trace(w, "crash", n->index, (uint64_t)how, keep);
    note_circumstances(n, sim_leads_any(w, n));
    sim_net_process_gone(w, n->index, how == PROCESS_POWERED);
    tear_down(n, keep);
}

struct stop_call {
    struct sim_node *node;
    uint32_t incarnation;
    uint64_t down_ns;
    struct sim_event event; /* The fiber has ended: take the process away, outside of its turn. */
};

static void stop_drop(struct sim_event *e)
{
    free(CONTAINER_OF(e, struct stop_call, event));
}

static void stop_finish(struct sim_world *w, struct sim_event *e)
{
    struct stop_call *s = CONTAINER_OF(e, struct stop_call, event);
    struct sim_node *n = s->node;

    if (n->life == SIM_UP && n->incarnation == s->incarnation) {
        sim_trace(w, "stopped", n->index, 0, 0);
        sim_net_process_gone(w, n->index, false);
        tear_down(n, UINT32_MAX);
        process_start_in(n, s->down_ns);
    }
    free(s);
}

static void stop_fiber(void *arg)
{
    struct stop_call *s = arg;
    struct sim_node *n = s->node;
    const uint64_t sessions_until = env_mono_ns(&n->env) + SESSIONS_NS;

    /* What pgwire does in a server: sessions end, then what SQL does in the background. */
    while (!n->cut && load_clients_of(n->world->load, n->index) > 0 &&
           env_mono_ns(&n->env) < sessions_until && status_ok(fiber_sleep(10 * MS))) {
    }
    if (!n->cut) {
        sql_stop(node_sql(n->node));
        node_stop(n->node, env_mono_ns(&n->env) + STOP_DEADLINE_NS);
    }
    /* A crash may have come first; then the event only frees. */
    sim_events_put(&n->world->events, &s->event, n->world->now_ns);
}

void process_restart(struct sim_node *n, uint64_t down_ns)
{
    struct stop_call *s = NULL;

    if (n->life != SIM_UP || !n->ready || n->stopping) {
        return;
    }
    s = calloc(1, sizeof(*s));
    INVARIANT(s != NULL);
    *s = (struct stop_call){
        .node = n,
        .incarnation = n->incarnation,
        .down_ns = down_ns,
        .event = {.run = stop_finish, .drop = stop_drop},
    };
    if (!process_spawn(n, "sim.stop", stop_fiber, s)) {
        free(s);
        return;
    }
    n->stopping = true;
    sim_trace(n->world, "stop", n->index, 0, 0);
}

void process_deinit(struct sim_node *n)
{
    if (n->life == SIM_UP) {
        tear_down(n, UINT32_MAX);
    }
    if (n->life == SIM_DOWN) {
        memdisk_destroy(n->disk);
    }
    free(n->deferred);
}

/* ---- pause -------------------------------------------------------------------------------------- */

bool process_defer(struct sim_node *n, struct sim_event *e)
{
    if (!process_is_paused(n) || n->life != SIM_UP) {
        return false;
    }
    if (n->deferred_count == n->deferred_cap) {
        n->deferred_cap = n->deferred_cap == 0 ? 64 : n->deferred_cap * 2;
        n->deferred = realloc(n->deferred, n->deferred_cap * sizeof(*n->deferred));
        INVARIANT(n->deferred != NULL);
    }
    n->deferred[n->deferred_count++] = e;
    return true;
}

void process_pause(struct sim_node *n, uint64_t for_ns)
{
    const uint64_t until = n->world->now_ns + for_ns;

    if (n->life != SIM_UP || n->paused_until_ns >= until) {
        return;
    }
    n->paused_until_ns = until;
    sim_events_put(&n->world->events, &n->resume, until);
}

void process_resume(struct sim_node *n)
{
    const size_t count = n->deferred_count;

    n->paused_until_ns = 0;
    sim_events_remove(&n->world->events, &n->resume);
    n->deferred_count = 0;
    for (size_t i = 0; i < count; i++) {
        sim_events_put(&n->world->events, n->deferred[i], n->world->now_ns);
    }
}

/* ---- identity ----------------------------------------------------------------------------------- */

node_id process_node_id(const struct sim_world *w, uint32_t index)
{
    node_id last = {0};

    /* The newest: an answer to a join may have been lost, and the id with it. */
    for (uint32_t id = 1; id < SIM_IDS_MAX; id++) {
        last.v = w->id_owner[id] == index + 1 ? id : last.v;
    }
    return last;
}

uint32_t process_find_id(const struct sim_world *w, node_id id)
{
    if (id.v >= SIM_IDS_MAX || w->id_owner[id.v] == 0) {
        return UINT32_MAX;
    }
    return w->id_owner[id.v] - 1u;
}
