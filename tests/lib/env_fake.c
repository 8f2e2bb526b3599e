/*
 * env_fake.c -- the env of unit tests.
 *
 * The world goes round its envs in order of creation. A step of one env delivers what has arrived
 * (finished jobs, connections, bytes, ends), runs a turn if something was delivered or asked for, and
 * moves what the turn has written to the other side. The world is settled when a whole round did
 * nothing. Streams are freed only in the step of their own env, after on_closed.
 */
#include "tests/lib/env_fake.h"

#include <stdlib.h>

#include "node/base/hash.h"
#include "node/base/invariant.h"

#define WALL_START_NS 1700000000000000000u
#define STEPS_MAX     1000000u
#define ENVS_MAX      64u

struct fake_env {
    struct env env; /* First. */
    struct fake_world *world;
    struct shard *own_shard; /* NULL if the test made it. */
    uint64_t wall_offset_ns;
    uint64_t wake_ns; /* UINT64_MAX: none. */
    struct rng rng;
    struct list jobs;
    struct list worked; /* Jobs that have ended; done() not called yet. */
    enum fake_hold hold;
    uint32_t let_through;
    struct list streams;
    struct list listeners;
};

struct fake_world {
    uint64_t now_ns;
    bool hold_jobs;
    uint16_t next_port;
    uint64_t errors;
    struct log_sink sink;
    struct fake_env *envs[ENVS_MAX];
    uint32_t env_count;
};

struct env_listener {
    struct fake_env *env;
    struct list link;
    uint16_t port;
    void (*on_accept)(void *ctx, struct env_stream *s);
    void *ctx;
};

struct env_stream {
    struct fake_env *env;
    struct list link;
    struct env_stream *peer;       /* NULL: gone, or never there. */
    struct env_listener *accepted; /* Not handed to its owner yet. */
    void (*on_connected)(void *ctx, struct status st);
    const struct env_stream_handler *handler; /* NULL: not started. */
    void *ctx;
    struct buf out;
    struct buf in;
    uint16_t port;
    bool paused;
    bool drained;
    bool peer_closed;
    bool closing;
    struct status why;
};

static struct fake_env *fake(struct env *e)
{
    return CONTAINER_OF(e, struct fake_env, env);
}

static uint64_t fake_mono_ns(struct env *e)
{
    return fake(e)->world->now_ns;
}

static uint64_t fake_wall_ns(struct env *e)
{
    return fake(e)->world->now_ns + fake(e)->wall_offset_ns;
}

static void fake_random(struct env *e, void *out, size_t size)
{
    uint8_t *p = out;

    for (size_t i = 0; i < size; i++) {
        p[i] = (uint8_t)rng_next(&fake(e)->rng);
    }
}

static void fake_wake_at(struct env *e, uint64_t mono_ns)
{
    if (mono_ns < fake(e)->wake_ns) {
        fake(e)->wake_ns = mono_ns;
    }
}

static void fake_wake_remote(struct env *e)
{
    fake_wake_at(e, 0);
}

static void fake_submit(struct env *e, enum env_lane lane, struct env_job *job)
{
    UNUSED(lane);
    list_push_back(&fake(e)->jobs, &job->link);
}

static struct env_listener *find_listener(struct fake_world *w, uint16_t port)
{
    for (uint32_t i = 0; i < w->env_count; i++) {
        LIST_FOREACH(it, &w->envs[i]->listeners) {
            struct env_listener *l = LIST_ENTRY(it, struct env_listener, link);

            if (l->port == port) {
                return l;
            }
        }
    }
    return NULL;
}

static struct status fake_listen(struct env *e, const struct env_address *at, bool share_port,
                                 void (*on_accept)(void *ctx, struct env_stream *s), void *ctx,
                                 struct env_listener **out)
{
    struct fake_world *w = fake(e)->world;
    struct env_listener *l = NULL;

    if (at->port != 0 && !share_port && find_listener(w, at->port) != NULL) {
        return FAIL(STATUS_EXISTS, "the port is taken");
    }
    l = calloc(1, sizeof(*l));
    INVARIANT(l != NULL);
    l->env = fake(e);
    l->port = at->port != 0 ? at->port : w->next_port++;
    l->on_accept = on_accept;
    l->ctx = ctx;
    list_push_back(&fake(e)->listeners, &l->link);
    *out = l;
    return OK;
}

static uint16_t fake_listener_port(struct env_listener *l)
{
    return l->port;
}

/* Connections that were not accepted yet are dropped. */
static void fake_listener_close(struct env_listener *l)
{
    LIST_FOREACH(it, &l->env->streams) {
        struct env_stream *s = LIST_ENTRY(it, struct env_stream, link);

        if (s->accepted == l) {
            s->accepted = NULL;
            s->closing = true;
        }
    }
    list_remove(&l->link);
    free(l);
}

static struct env_stream *stream_new(struct fake_env *e, uint16_t port)
{
    struct env_stream *s = calloc(1, sizeof(*s));

    INVARIANT(s != NULL);
    s->env = e;
    s->port = port;
    buf_init(&s->out, ENV_STREAM_QUEUE_MAX);
    buf_init(&s->in, 2 * ENV_STREAM_QUEUE_MAX);
    list_push_back(&e->streams, &s->link);
    return s;
}

static struct status fake_connect(struct env *e, const struct env_address *to,
                                  void (*on_connected)(void *ctx, struct status st),
                                  const struct env_stream_handler *h, void *ctx,
                                  struct env_stream **out)
{
    struct env_listener *l = find_listener(fake(e)->world, to->port);
    struct env_stream *s = stream_new(fake(e), to->port);

    s->on_connected = on_connected;
    s->handler = h;
    s->ctx = ctx;
    if (l == NULL) {
        s->why = FAIL(STATUS_UNAVAILABLE, "connection refused");
    } else {
        s->peer = stream_new(l->env, l->port);
        s->peer->peer = s;
        s->peer->accepted = l;
    }
    *out = s;
    return OK;
}

static void fake_stream_start(struct env_stream *s, const struct env_stream_handler *h, void *ctx)
{
    s->handler = h;
    s->ctx = ctx;
}

static struct status fake_stream_write(struct env_stream *s, struct bytes data)
{
    if (s->closing || s->peer_closed) {
        return FAIL(STATUS_CLOSED, "the stream is closing");
    }
    if (!status_ok(buf_append_bytes(&s->out, data))) {
        return FAIL(STATUS_OVERLOADED, "too much queued on a stream");
    }
    fake_wake_at(&s->env->env, 0);
    return OK;
}

static size_t fake_stream_queued(const struct env_stream *s)
{
    return s->out.len;
}

static void fake_stream_pause(struct env_stream *s, bool paused)
{
    s->paused = paused;
}

static void fake_stream_close(struct env_stream *s)
{
    if (!s->closing) {
        s->closing = true;
        s->why = FAIL(STATUS_CLOSED, "closed locally");
    }
}

static void fake_stream_peer(const struct env_stream *s, struct env_address *out)
{
    *out = (struct env_address){.host = "127.0.0.1", .port = s->port};
}

static struct status fake_watch(struct env *e, int fd, bool readable, bool writable,
                                void (*on_ready)(void *ctx, bool readable, bool writable),
                                void *ctx, struct env_watch **out)
{
    UNUSED(e);
    UNUSED(fd);
    UNUSED(readable);
    UNUSED(writable);
    UNUSED(on_ready);
    UNUSED(ctx);
    UNUSED(out);
    return FAIL(STATUS_UNSUPPORTED, "the fake env watches no descriptors");
}

static void fake_watch_close(struct env_watch *w)
{
    UNUSED(w);
}

static const struct env_ops fake_ops = {
    .mono_ns = fake_mono_ns,
    .wall_ns = fake_wall_ns,
    .random = fake_random,
    .wake_at = fake_wake_at,
    .wake_remote = fake_wake_remote,
    .submit = fake_submit,
    .listen = fake_listen,
    .listener_port = fake_listener_port,
    .listener_close = fake_listener_close,
    .connect = fake_connect,
    .stream_start = fake_stream_start,
    .stream_write = fake_stream_write,
    .stream_queued = fake_stream_queued,
    .stream_pause = fake_stream_pause,
    .stream_close = fake_stream_close,
    .stream_peer = fake_stream_peer,
    .watch = fake_watch,
    .watch_close = fake_watch_close,
};

static void stream_free(struct env_stream *s)
{
    if (s->peer != NULL) {
        s->peer->peer_closed = true;
        s->peer->peer = NULL;
    }
    list_remove(&s->link);
    buf_deinit(&s->in);
    buf_deinit(&s->out);
    free(s);
}

/* Moves what was written to the other side. True if there was something. */
static bool stream_flush(struct env_stream *s)
{
    if (s->out.len == 0 || s->on_connected != NULL) {
        return false;
    }
    if (s->peer != NULL) {
        INVARIANT(status_ok(buf_append_bytes(&s->peer->in, buf_bytes(&s->out))));
    }
    buf_clear(&s->out);
    s->drained = true;
    return true;
}

static bool stream_deliver_data(struct env_stream *s)
{
    struct buf in = s->in;

    if (s->in.len == 0 || s->paused || s->closing || s->handler == NULL) {
        return false;
    }
    buf_init(&s->in, 2 * ENV_STREAM_QUEUE_MAX);
    s->handler->on_data(s->ctx, buf_bytes(&in));
    buf_deinit(&in);
    return true;
}

static bool stream_deliver_connected(struct env_stream *s)
{
    void (*on_connected)(void *ctx, struct status st) = s->on_connected;
    struct status st = s->why;

    if (on_connected == NULL) {
        return false;
    }
    s->on_connected = NULL;
    if (!status_ok(st)) {
        s->closing = true;
    }
    on_connected(s->ctx, st);
    return true;
}

/* One event of a stream. True if there was one; the stream may be gone then. */
static bool stream_step(struct env_stream *s)
{
    struct env_listener *l = s->accepted;

    if (l != NULL) {
        s->accepted = NULL;
        l->on_accept(l->ctx, s);
        return true;
    }
    if (stream_deliver_connected(s) || stream_deliver_data(s)) {
        return true;
    }
    if (s->drained) {
        s->drained = false;
        if (!s->closing && s->handler != NULL && s->handler->on_drained != NULL) {
            s->handler->on_drained(s->ctx);
            return true;
        }
    }
    if (s->peer_closed && !s->closing && !s->paused && s->handler != NULL) {
        s->closing = true;
        s->why = FAIL(STATUS_CLOSED, "closed by the peer");
    }
    if (s->closing && s->out.len == 0) {
        if (s->handler != NULL) {
            s->handler->on_closed(s->ctx, s->why);
        }
        stream_free(s);
        return true;
    }
    return false;
}

/* May a job pass the place where this env holds them back? */
static bool passes(struct fake_env *e, enum fake_hold place)
{
    if (e->hold != place) {
        return true;
    }
    if (e->let_through == 0) {
        return false;
    }
    e->let_through--;
    return true;
}

static bool jobs_step(struct fake_env *e)
{
    struct env_job *job = NULL;

    if (!list_empty(&e->worked) && passes(e, FAKE_HOLD_DONE)) {
        job = LIST_ENTRY(list_pop_front(&e->worked), struct env_job, link);
        job->done(job);
        return true;
    }
    if (list_empty(&e->jobs) || e->world->hold_jobs || !passes(e, FAKE_HOLD_JOBS)) {
        return false;
    }
    job = LIST_ENTRY(list_pop_front(&e->jobs), struct env_job, link);
    job->work(job);
    list_push_back(&e->worked, &job->link);
    return true;
}

/* The first stream that has something, from the front each time: a callback may close any stream. */
static bool streams_step(struct fake_env *e)
{
    LIST_FOREACH(it, &e->streams) {
        if (stream_step(LIST_ENTRY(it, struct env_stream, link))) {
            return true;
        }
    }
    return false;
}

static bool streams_flush(struct fake_env *e)
{
    bool any = false;

    LIST_FOREACH(it, &e->streams) {
        any = stream_flush(LIST_ENTRY(it, struct env_stream, link)) || any;
    }
    return any;
}

static bool env_step(struct fake_env *e)
{
    struct shard *s = e->env.shard;
    bool any = false;

    if (s == NULL) {
        return false;
    }
    shard_enter(s);
    while (jobs_step(e) || streams_step(e)) {
        any = true;
    }
    shard_leave(s);
    if (any || e->wake_ns <= e->world->now_ns) {
        any = true;
        e->wake_ns = UINT64_MAX;
        if (shard_turn(s)) {
            fake_wake_at(&e->env, 0);
        }
    }
    return streams_flush(e) || any;
}

static void sink_emit(struct log_sink *sink, enum log_level level, const char *name,
                      const struct log_field *fields, size_t count)
{
    UNUSED(name);
    UNUSED(fields);
    UNUSED(count);
    if (level == LOG_LEVEL_ERROR) {
        CONTAINER_OF(sink, struct fake_world, sink)->errors++;
    }
}

struct fake_world *fake_world_create(void)
{
    struct fake_world *w = calloc(1, sizeof(*w));

    INVARIANT(w != NULL);
    w->now_ns = 1000000000u; /* Not 0: zero-initialised times are in the past. */
    w->next_port = 40000;
    w->sink = (struct log_sink){.min_level = LOG_LEVEL_INFO, .emit = sink_emit};
    return w;
}

struct env *fake_world_add_env(struct fake_world *w)
{
    struct fake_env *e = calloc(1, sizeof(*e));

    INVARIANT(e != NULL);
    INVARIANT(w->env_count < ENVS_MAX);
    e->env.ops = &fake_ops;
    e->world = w;
    e->wall_offset_ns = WALL_START_NS;
    e->wake_ns = 0;
    rng_seed(&e->rng, w->env_count + 1);
    list_init(&e->jobs);
    list_init(&e->worked);
    list_init(&e->streams);
    list_init(&e->listeners);
    w->envs[w->env_count++] = e;
    return &e->env;
}

struct shard *fake_world_add_shard(struct fake_world *w)
{
    struct env *e = fake_world_add_env(w);
    const struct shard_options o = {.env = e, .index = w->env_count - 1, .log = &w->sink};

    INVARIANT(status_ok(shard_create(&o, &fake(e)->own_shard)));
    return fake(e)->own_shard;
}

static void env_close_streams(struct fake_env *e)
{
    struct list *first = NULL;

    while ((first = list_pop_front(&e->listeners)) != NULL) {
        fake_listener_close(LIST_ENTRY(first, struct env_listener, link));
    }
    LIST_FOREACH(it, &e->streams) {
        fake_stream_close(LIST_ENTRY(it, struct env_stream, link));
    }
}

void fake_world_destroy(struct fake_world *w)
{
    for (uint32_t i = 0; i < w->env_count; i++) {
        env_close_streams(w->envs[i]);
    }
    w->hold_jobs = false;
    for (uint32_t i = 0; i < w->env_count; i++) {
        w->envs[i]->hold = FAKE_HOLD_NOTHING;
    }
    fake_world_settle(w);
    for (uint32_t i = 0; i < w->env_count; i++) {
        struct fake_env *e = w->envs[i];
        struct list *it = NULL;

        shard_destroy(e->own_shard);
        INVARIANT(e->env.shard == NULL);
        while ((it = list_pop_front(&e->streams)) != NULL) {
            stream_free(LIST_ENTRY(it, struct env_stream, link));
        }
        free(e);
    }
    free(w);
}

void fake_world_settle(struct fake_world *w)
{
    bool any = true;

    for (uint32_t steps = 0; any; steps++) {
        INVARIANT(steps < STEPS_MAX); /* Somebody waits for a time that does not pass. */
        any = false;
        for (uint32_t i = 0; i < w->env_count; i++) {
            any = env_step(w->envs[i]) || any;
        }
    }
}

static uint64_t next_wake_ns(const struct fake_world *w)
{
    uint64_t next = UINT64_MAX;

    for (uint32_t i = 0; i < w->env_count; i++) {
        if (w->envs[i]->env.shard != NULL && w->envs[i]->wake_ns < next) {
            next = w->envs[i]->wake_ns;
        }
    }
    return next;
}

void fake_world_advance(struct fake_world *w, uint64_t ns)
{
    const uint64_t until = w->now_ns + ns;

    fake_world_settle(w);
    while (next_wake_ns(w) <= until) {
        w->now_ns = next_wake_ns(w);
        fake_world_settle(w);
    }
    w->now_ns = until;
    fake_world_settle(w);
}

void fake_world_pass(struct fake_world *w, uint64_t ns)
{
    w->now_ns += ns;
}

uint64_t fake_world_now_ns(const struct fake_world *w)
{
    return w->now_ns;
}

void fake_world_hold_jobs(struct fake_world *w, bool hold)
{
    w->hold_jobs = hold;
}

void fake_env_hold(struct env *e, enum fake_hold what)
{
    fake(e)->hold = what;
    fake(e)->let_through = 0;
}

void fake_env_let_through(struct env *e, uint32_t jobs)
{
    fake(e)->let_through = jobs;
}

void fake_env_set_wall(struct env *e, uint64_t wall_ns)
{
    fake(e)->wall_offset_ns = wall_ns - fake(e)->world->now_ns;
}

uint64_t fake_world_errors_logged(const struct fake_world *w)
{
    return w->errors;
}
