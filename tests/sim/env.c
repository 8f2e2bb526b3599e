/*
 * env.c -- the env of a simulated process: clocks, chance, and the threads in front of its disk.
 *
 * The writer lane is a queue, the io lane a few of them. A job takes its time from the disk (typical,
 * slow or stalled); its work happens at the end of that time, and the news of it a little later. A
 * crash in between leaves a write that happened and that nobody knows about.
 *
 * Sockets do not exist: nodes talk through net.c, clients are fibers.
 */
#include <stdlib.h>

#include "node/base/invariant.h"
#include "tests/sim/process.h"

struct sim_job {
    struct sim_event event;
    struct list link; /* Of sim_node.jobs. */
    struct sim_node *node;
    struct env_job *job; /* NULL: already over. */
    enum env_lane lane;
    bool worked;
};

static struct sim_node *node_of(struct env *e)
{
    return CONTAINER_OF(e, struct sim_node, env);
}

static uint64_t true_now(const struct sim_node *n)
{
    return n->world->now_ns + n->ghost_ns;
}

static uint64_t env_mono(struct env *e)
{
    return sim_clock_mono(&node_of(e)->clock, true_now(node_of(e)));
}

static uint64_t env_wall(struct env *e)
{
    return sim_clock_wall(&node_of(e)->clock, true_now(node_of(e)));
}

static void env_random_bytes(struct env *e, void *out, size_t size)
{
    uint8_t *p = out;

    for (size_t i = 0; i < size; i += sizeof(uint64_t)) {
        const uint64_t v = rng_next(&node_of(e)->random);

        memcpy(p + i, &v, size - i < sizeof(v) ? size - i : sizeof(v));
    }
}

static void env_wake(struct env *e, uint64_t mono_ns)
{
    struct sim_node *n = node_of(e);
    uint64_t at_ns = 0;

    if (n->cut) {
        return;
    }
    at_ns = sim_clock_when(&n->clock, mono_ns);
    at_ns = at_ns < n->world->now_ns ? n->world->now_ns : at_ns;
    at_ns = at_ns < n->busy_until_ns ? n->busy_until_ns : at_ns;
    if (n->turn.slot == 0 || n->turn.at_ns > at_ns) {
        sim_events_put(&n->world->events, &n->turn, at_ns);
    }
}

static void env_wake_now(struct env *e)
{
    env_wake(e, 0);
}

/* ---- lanes -------------------------------------------------------------------------------------- */

/* When a job that is handed in now will be done by the disk. */
static uint64_t lane_reserve(struct sim_node *n, enum env_lane lane)
{
    struct sim_world *w = n->world;
    struct rng *r = &w->rng_disk;
    uint64_t *free_ns = &n->writer_free_ns;
    uint64_t took_ns = w->params.disk_write_ns / 4 + sim_exponential(r, w->params.disk_write_ns);

    if (lane == ENV_LANE_IO) {
        took_ns = 20000 + sim_exponential(r, w->params.disk_write_ns / 4);
        free_ns = &n->io_free_ns[0];
        for (uint32_t i = 1; i < SIM_IO_THREADS; i++) {
            free_ns = n->io_free_ns[i] < *free_ns ? &n->io_free_ns[i] : free_ns;
        }
    }
    if (rng_permille(r, 5)) {
        took_ns += sim_log_uniform(r, 2 * MS, 100 * MS);
    }
    took_ns *= n->slow_factor;
    *free_ns = *free_ns < w->now_ns ? w->now_ns : *free_ns;
    *free_ns = *free_ns < n->stalled_until_ns ? n->stalled_until_ns : *free_ns;
    *free_ns += took_ns;
    return *free_ns;
}

/* When the shard hears of a job's end: mostly at once, sometimes its thread was busy elsewhere. News of
 * the writer come in order. */
static uint64_t news_at(struct sim_node *n, enum env_lane lane)
{
    struct sim_world *w = n->world;
    uint64_t at_ns = w->now_ns + 2000 + rng_below(&w->rng_sched, 60000);

    if (rng_permille(&w->rng_sched, 30)) {
        at_ns += sim_log_uniform(&w->rng_sched, 100000, 50 * MS);
    }
    if (lane == ENV_LANE_WRITER) {
        at_ns = at_ns <= n->writer_news_ns ? n->writer_news_ns + 1 : at_ns;
        n->writer_news_ns = at_ns;
    }
    return at_ns;
}

static void job_drop(struct sim_event *e)
{
    free(CONTAINER_OF(e, struct sim_job, event));
}

static void job_run(struct sim_world *w, struct sim_event *e)
{
    struct sim_job *j = CONTAINER_OF(e, struct sim_job, event);
    struct sim_node *n = j->node;

    if (j->job == NULL) {
        free(j);
        return;
    }
    if (process_defer(n, e)) {
        return;
    }
    if (!j->worked && w->now_ns < n->stalled_until_ns && j->lane == ENV_LANE_WRITER) {
        sim_events_put(&w->events, e, n->stalled_until_ns + 1); /* The stall met it half way. */
        return;
    }
    if (!j->worked) {
        sim_trace(w, "disk.work", n->index, (uint64_t)j->lane, 0);
        j->worked = true;
        j->job->work(j->job);
        sim_events_put(&w->events, e, news_at(n, j->lane));
        return;
    }
    sim_trace(w, "disk.done", n->index, (uint64_t)j->lane, 0);
    list_remove(&j->link);
    shard_enter(n->shard);
    j->job->done(j->job);
    process_leave(n);
    free(j);
}

static void env_submit_job(struct env *e, enum env_lane lane, struct env_job *job)
{
    struct sim_node *n = node_of(e);
    struct sim_job *j = calloc(1, sizeof(*j));

    INVARIANT(j != NULL);
    j->event.run = job_run;
    j->event.drop = job_drop;
    j->node = n;
    j->job = job;
    j->lane = lane;
    list_push_back(&n->jobs, &j->link);
    if (!n->cut) {
        sim_events_put(&n->world->events, &j->event, lane_reserve(n, lane));
    }
}

void sim_env_drain(struct sim_node *n)
{
    struct list *it = NULL;

    while ((it = list_pop_front(&n->jobs)) != NULL) {
        struct sim_job *j = LIST_ENTRY(it, struct sim_job, link);
        struct env_job *job = j->job;

        if (!j->worked) {
            job->work(job);
        }
        j->job = NULL;
        if (j->event.slot != 0) {
            sim_events_remove(&n->world->events, &j->event);
        }
        shard_enter(n->shard);
        job->done(job);
        shard_leave(n->shard);
        free(j);
    }
}

void sim_env_unstall(struct sim_node *n)
{
    struct sim_world *w = n->world;
    uint64_t at_ns = w->now_ns;

    n->stalled_until_ns = 0;
    LIST_FOREACH(it, &n->jobs) {
        struct sim_job *j = LIST_ENTRY(it, struct sim_job, link);

        if (!j->worked && j->event.slot != 0) {
            at_ns += 1 + sim_exponential(&w->rng_disk, w->params.disk_write_ns);
            sim_events_put(&w->events, &j->event, at_ns);
        }
    }
    n->writer_free_ns = at_ns;
    for (uint32_t i = 0; i < SIM_IO_THREADS; i++) {
        n->io_free_ns[i] = at_ns;
    }
}

void sim_env_pending(const struct sim_node *n, bool *working, bool *unknown)
{
    LIST_FOREACH(it, &n->jobs) {
        const struct sim_job *j = LIST_ENTRY(it, struct sim_job, link);

        *working = *working || !j->worked;
        *unknown = *unknown || j->worked;
    }
}

/* ---- what is not there -------------------------------------------------------------------------- */

static struct status env_no_listen(struct env *e, const struct env_address *at, bool share_port,
                                   void (*on_accept)(void *ctx, struct env_stream *s), void *ctx,
                                   struct env_listener **out)
{
    UNUSED(e);
    UNUSED(at);
    UNUSED(share_port);
    UNUSED(on_accept);
    UNUSED(ctx);
    *out = NULL;
    return FAIL(STATUS_UNSUPPORTED, "the simulator has no sockets");
}

static struct status env_no_connect(struct env *e, const struct env_address *to,
                                    void (*on_connected)(void *ctx, struct status st),
                                    const struct env_stream_handler *h, void *ctx,
                                    struct env_stream **out)
{
    UNUSED(e);
    UNUSED(to);
    UNUSED(on_connected);
    UNUSED(h);
    UNUSED(ctx);
    *out = NULL;
    return FAIL(STATUS_UNSUPPORTED, "the simulator has no sockets");
}

static struct status env_no_watch(struct env *e, int fd, bool readable, bool writable,
                                  void (*on_ready)(void *ctx, bool readable, bool writable),
                                  void *ctx, struct env_watch **out)
{
    UNUSED(e);
    UNUSED(fd);
    UNUSED(readable);
    UNUSED(writable);
    UNUSED(on_ready);
    UNUSED(ctx);
    *out = NULL;
    return FAIL(STATUS_UNSUPPORTED, "the simulator watches no descriptors");
}

/* The functions on listeners, streams and watches stay NULL: nobody ever gets one. */
const struct env_ops sim_env_ops = {
    .mono_ns = env_mono,
    .wall_ns = env_wall,
    .random = env_random_bytes,
    .wake_at = env_wake,
    .wake_remote = env_wake_now,
    .submit = env_submit_job,
    .listen = env_no_listen,
    .connect = env_no_connect,
    .watch = env_no_watch,
};
