/*
 * env_uv.c -- one libuv loop drives one shard.
 *
 * An iteration of the loop is: expired timers, prepare, poll and the callbacks of what is ready,
 * closed handles. The turn hangs on `prepare`: it comes after every batch of callbacks, wherever in
 * the iteration they ran, and just before the loop would sleep. It is followed by the sending of what
 * it has queued. So a request costs one epoll_wait, one read, one write:
 *
 *     epoll_wait -> read -> on_data ... -> [prepare: shard_turn, one write per connection] -> epoll_wait
 *
 * The loop must not sleep while work is left, and not spin while none is: an idle handle, whose mere
 * presence makes poll return at once, is active exactly while another turn is due. One uv_timer holds
 * the earliest time that the shard asked for. libuv counts milliseconds of the same monotonic clock,
 * rounded down; we round up, so a timer is never early and never fires in vain.
 *
 * Other threads reach the loop through one uv_async: they leave a finished job, a parcel or the wish
 * to stop where the loop looks, then send. Any number of sends before it wakes costs one wake-up.
 *
 * Stopping: listeners, watches and streams are closed (every stream gets its on_closed), jobs under
 * way are waited for, turns go on; when nothing is left the loop ends.
 */
#include "node/runtime/env_uv.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "node/base/invariant.h"
#include "node/runtime/env_uv_internal.h"
#include "node/runtime/shard_internal.h"

#define NS_PER_MS          ((uint64_t)1000000)
#define IO_THREADS_DEFAULT 2u

struct status env_uv_status(int code)
{
    if (code >= 0) {
        return OK;
    }
    switch (code) {
    case UV_EADDRINUSE:
    case UV_EEXIST:
        return FAIL(STATUS_EXISTS, uv_strerror(code));
    case UV_EINVAL:
    case UV_EADDRNOTAVAIL:
    case UV_EACCES:
    case UV_EPERM:
    case UV_EBADF:
        return FAIL(STATUS_INVALID, uv_strerror(code));
    case UV_ECONNREFUSED:
    case UV_EHOSTUNREACH:
    case UV_ENETUNREACH:
    case UV_ETIMEDOUT:
        return FAIL(STATUS_UNAVAILABLE, uv_strerror(code));
    case UV_EOF:
        return FAIL(STATUS_CLOSED, "closed by the peer");
    case UV_EPIPE:
    case UV_ECONNRESET:
    case UV_ENOTCONN:
        return FAIL(STATUS_CLOSED, uv_strerror(code));
    case UV_ECANCELED:
        return FAIL(STATUS_CANCELLED, uv_strerror(code));
    case UV_ENOMEM:
    case UV_ENOBUFS:
        return FAIL(STATUS_MEMORY, uv_strerror(code));
    case UV_EMFILE:
    case UV_ENFILE:
    case UV_EAGAIN:
        return FAIL(STATUS_OVERLOADED, uv_strerror(code));
    default:
        /* uv_strerror() allocates for codes that it does not know, and never frees. */
        return FAIL(STATUS_IO, "unexpected system error");
    }
}

static uint64_t clock_ns(clockid_t id)
{
    struct timespec ts;

    INVARIANT(clock_gettime(id, &ts) == 0);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t uv_env_mono_ns(struct env *e)
{
    UNUSED(e);
    return clock_ns(CLOCK_MONOTONIC);
}

static uint64_t uv_env_wall_ns(struct env *e)
{
    UNUSED(e);
    return clock_ns(CLOCK_REALTIME);
}

static void refill_random(struct env_uv *e)
{
    size_t got = 0;

    while (got < sizeof(e->random)) {
        const ssize_t n = getrandom(e->random + got, sizeof(e->random) - got, 0);

        INVARIANT(n > 0 || (n < 0 && errno == EINTR)); /* The kernel has no other answer. */
        got += n > 0 ? (size_t)n : 0;
    }
    e->random_left = sizeof(e->random);
}

/* From a small store, because ids of 8 to 16 bytes are drawn often. What is given away is erased. */
static void uv_env_random(struct env *env, void *out, size_t size)
{
    struct env_uv *e = env_uv_of(env);
    uint8_t *to = out;

    while (size > 0) {
        const size_t n = size < e->random_left ? size : e->random_left;
        uint8_t *from = e->random + e->random_left - n;

        memcpy(to, from, n);
        memset(from, 0, n);
        e->random_left -= n;
        to += n;
        size -= n;
        if (e->random_left == 0) {
            refill_random(e);
        }
    }
}

static void on_timer(uv_timer_t *t)
{
    /* Nothing to do but to have woken up: the turn follows. */
    CONTAINER_OF(t, struct env_uv, timer)->timer_ms = UINT64_MAX;
}

static void uv_env_wake_at(struct env *env, uint64_t mono_ns)
{
    struct env_uv *e = env_uv_of(env);
    const uint64_t at_ms = mono_ns / NS_PER_MS + (mono_ns % NS_PER_MS != 0 ? 1 : 0);
    const uint64_t now_ms = uv_now(&e->loop);

    if (at_ms <= now_ms) {
        e->turn_due = true;
        return;
    }
    if (at_ms < e->timer_ms) {
        e->timer_ms = at_ms;
        INVARIANT(uv_timer_start(&e->timer, on_timer, at_ms - now_ms, 0) == 0);
    }
}

static void uv_env_wake_remote(struct env *env)
{
    INVARIANT(uv_async_send(&env_uv_of(env)->async) == 0);
}

static const struct env_ops uv_env_ops = {
    .mono_ns = uv_env_mono_ns,
    .wall_ns = uv_env_wall_ns,
    .random = uv_env_random,
    .wake_at = uv_env_wake_at,
    .wake_remote = uv_env_wake_remote,
    .submit = env_uv_submit,
    .listen = env_uv_listen,
    .listener_port = env_uv_listener_port,
    .listener_close = env_uv_listener_close,
    .connect = env_uv_connect,
    .stream_start = env_uv_stream_start,
    .stream_write = env_uv_stream_write,
    .stream_queued = env_uv_stream_queued,
    .stream_pause = env_uv_stream_pause,
    .stream_close = env_uv_stream_close,
    .stream_peer = env_uv_stream_peer,
    .watch = env_uv_watch,
    .watch_close = env_uv_watch_close,
};

static void on_idle(uv_idle_t *i)
{
    UNUSED(i); /* Its being active is all that matters. */
}

static void begin_stopping(struct env_uv *e)
{
    e->stopping = true;
    env_uv_listeners_close(e);
    env_uv_watches_close(e);
    env_uv_streams_close(e);
}

static bool nothing_left(const struct env_uv *e)
{
    return e->jobs_live == 0 && list_empty(&e->streams) && list_empty(&e->listeners) &&
           list_empty(&e->watches);
}

static void on_prepare(uv_prepare_t *p)
{
    struct env_uv *e = CONTAINER_OF(p, struct env_uv, prepare);
    bool again = false;

    if (!e->stopping && atomic_load(&e->stop_asked)) {
        begin_stopping(e);
    }
    e->turn_due = false;
    again = shard_turn(e->env.shard);
    env_uv_streams_flush(e);
    again = again || e->turn_due || !list_empty(&e->dirty);
    if (again) {
        INVARIANT(uv_idle_start(&e->idle, on_idle) == 0);
        return;
    }
    INVARIANT(uv_idle_stop(&e->idle) == 0);
    if (e->stopping && nothing_left(e)) {
        uv_stop(&e->loop);
    }
    /* After a long turn the loop's idea of time is old, and it would sleep longer than asked. */
    if (e->env.shard->stats.last_turn_ended_ns / NS_PER_MS > uv_now(&e->loop) + 1) {
        uv_update_time(&e->loop);
    }
}

static void on_async(uv_async_t *a)
{
    /* Parcels and the wish to stop are looked after in the turn that follows. */
    env_uv_collect_done(CONTAINER_OF(a, struct env_uv, async));
}

static void init_handles(struct env_uv *e)
{
    /* None of these can fail but for memory and descriptors, which uv_loop_init() has just got. */
    INVARIANT(uv_prepare_init(&e->loop, &e->prepare) == 0);
    INVARIANT(uv_prepare_start(&e->prepare, on_prepare) == 0);
    INVARIANT(uv_idle_init(&e->loop, &e->idle) == 0);
    INVARIANT(uv_timer_init(&e->loop, &e->timer) == 0);
}

static struct status start_lanes(struct env_uv *e, uint32_t io_threads)
{
    TRY(env_uv_lane_start(e, &e->lanes[ENV_LANE_WRITER], 1, "dsql-writer"));
    return env_uv_lane_start(e, &e->lanes[ENV_LANE_IO], io_threads, "dsql-io");
}

struct status env_uv_create(const struct env_uv_options *o, struct env **out)
{
    const uint32_t io_threads = o->io_threads == 0 ? IO_THREADS_DEFAULT : o->io_threads;
    struct env_uv *e = calloc(1, sizeof(*e));
    uint8_t *read_buffer = malloc(ENV_UV_READ_BYTES);
    struct status st = OK;

    if (e == NULL || read_buffer == NULL) {
        st = FAIL(STATUS_MEMORY, "no memory for an event loop");
        goto out;
    }
    TRY_OUT(env_uv_status(uv_loop_init(&e->loop)));
    /* Writing to a connection that is gone is an error code to us, not the end of the process. */
    INVARIANT(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    e->env.ops = &uv_env_ops;
    e->read_buffer = read_buffer;
    e->timer_ms = UINT64_MAX;
    atomic_init(&e->stop_asked, false);
    list_init(&e->done);
    list_init(&e->streams);
    list_init(&e->dirty);
    list_init(&e->listeners);
    list_init(&e->watches);
    INVARIANT(pthread_mutex_init(&e->done_mutex, NULL) == 0);
    init_handles(e);
    refill_random(e);
    st = env_uv_status(uv_async_init(&e->loop, &e->async, on_async));
    if (status_ok(st)) {
        st = start_lanes(e, io_threads);
    }
    if (!status_ok(st)) {
        env_uv_destroy(&e->env); /* Frees e and its buffer. */
        return st;
    }
    *out = &e->env;
    return OK;
out:
    free(read_buffer);
    free(e);
    return st;
}

void env_uv_run(struct env *env)
{
    struct env_uv *e = env_uv_of(env);

    INVARIANT(env->shard != NULL);
    /* The thread is the shard's: it is current, and its log installed, in every callback. */
    shard_enter(env->shard);
    uv_update_time(&e->loop);
    (void)uv_run(&e->loop, UV_RUN_DEFAULT); /* Says whether handles are left: ours are. */
    INVARIANT(nothing_left(e));
    shard_leave(env->shard);
}

void env_uv_stop(struct env *env)
{
    struct env_uv *e = env_uv_of(env);

    atomic_store(&e->stop_asked, true);
    INVARIANT(uv_async_send(&e->async) == 0);
}

static void close_handle(uv_handle_t *h, void *arg)
{
    UNUSED(arg);
    if (!uv_is_closing(h)) {
        uv_close(h, NULL);
    }
}

void env_uv_destroy(struct env *env)
{
    struct env_uv *e = env_uv_of(env);

    INVARIANT(nothing_left(e));
    for (int i = 0; i < ENV_LANE_COUNT; i++) {
        env_uv_lane_stop(&e->lanes[i]);
    }
    uv_walk(&e->loop, close_handle, NULL);
    while (uv_run(&e->loop, UV_RUN_DEFAULT) != 0) {
    }
    INVARIANT(uv_loop_close(&e->loop) == 0);
    INVARIANT(pthread_mutex_destroy(&e->done_mutex) == 0);
    env_uv_chunks_free(e);
    memset(e->random, 0, sizeof(e->random));
    free(e->read_buffer);
    free(e);
}

static void on_signal(uv_signal_t *h, int signum)
{
    struct env_uv_signal *s = CONTAINER_OF(h, struct env_uv_signal, handle);

    s->fn(s->ctx, signum);
}

struct status env_uv_on_signal(struct env *env, int signum, void (*fn)(void *ctx, int signum),
                               void *ctx)
{
    struct env_uv *e = env_uv_of(env);
    struct env_uv_signal *s = &e->signals[e->signal_count];

    if (e->signal_count == ENV_UV_SIGNALS_MAX) {
        return FAIL(STATUS_OVERLOADED, "too many signals watched");
    }
    TRY(env_uv_status(uv_signal_init(&e->loop, &s->handle)));
    e->signal_count++; /* The handle belongs to the loop from here on. */
    s->env = e;
    s->fn = fn;
    s->ctx = ctx;
    return env_uv_status(uv_signal_start(&s->handle, on_signal, signum));
}
