/*
 * env.h -- the world outside: clock, randomness, sockets, threads for blocking work, other shards.
 *
 * Nothing above node/runtime asks the system for any of these. There are two implementations: libuv
 * (env_uv.h), and the simulator's (tests/sim), in which a whole cluster runs in one thread on
 * simulated time. One env belongs to one shard; all calls come from the shard's thread unless the
 * contract says otherwise, and every callback runs on the shard's thread, inside a shard turn.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "node/base/bytes.h"
#include "node/base/list.h"
#include "node/base/status.h"

struct env;
struct shard;
struct env_stream;
struct env_listener;
struct env_watch;

/* Where blocking work runs. Jobs of the writer lane run one after the other in order of submission;
 * the io lane is a small pool without order. */
enum env_lane {
    ENV_LANE_WRITER,
    ENV_LANE_IO,
    ENV_LANE_COUNT
};

/* Embedded in what it works for; owned by the env from env_submit() until done() is called. */
struct env_job {
    void (*work)(struct env_job *job); /* On the lane's thread: touches only the job. */
    void (*done)(struct env_job *job); /* On the shard. */
    struct list link;                  /* Of the env. */
    void *env_private;
};

/* Callbacks of a stream. After closed() the stream no longer exists. */
struct env_stream_handler {
    /* Bytes arrived; borrowed for the call. Not called while reading is paused. */
    void (*on_data)(void *ctx, struct bytes data);
    /* Everything queued was handed to the system: a chance to send more. May be NULL. */
    void (*on_drained)(void *ctx);
    /* End, error or local close: exactly once, the last callback. */
    void (*on_closed)(void *ctx, struct status why);
};

struct env_address {
    char host[64]; /* Numeric IPv4 or IPv6. */
    uint16_t port;
};

/* Does the numeric host name this machine itself? */
static inline bool env_host_is_loopback(const char *host)
{
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0 ||
           strncmp(host, "::ffff:127.", 11) == 0;
}

struct env_ops {
    uint64_t (*mono_ns)(struct env *e);
    uint64_t (*wall_ns)(struct env *e);
    void (*random)(struct env *e, void *out, size_t size);
    /* Some later turn of the shard is due at this monotonic time, or at once; the earliest wins. */
    void (*wake_at)(struct env *e, uint64_t mono_ns);
    /* From any thread: a turn of the shard is due. */
    void (*wake_remote)(struct env *e);
    void (*submit)(struct env *e, enum env_lane lane, struct env_job *job);
    struct status (*listen)(struct env *e, const struct env_address *at, bool share_port,
                            void (*on_accept)(void *ctx, struct env_stream *s), void *ctx,
                            struct env_listener **out);
    uint16_t (*listener_port)(struct env_listener *l);
    void (*listener_close)(struct env_listener *l);
    /* Asynchronous: on_connected(ctx, OK or why not) once, before any other callback. */
    struct status (*connect)(struct env *e, const struct env_address *to,
                             void (*on_connected)(void *ctx, struct status st),
                             const struct env_stream_handler *h, void *ctx,
                             struct env_stream **out);
    void (*stream_start)(struct env_stream *s, const struct env_stream_handler *h, void *ctx);
    struct status (*stream_write)(struct env_stream *s, struct bytes data);
    size_t (*stream_queued)(const struct env_stream *s);
    void (*stream_pause)(struct env_stream *s, bool paused);
    void (*stream_close)(struct env_stream *s);
    void (*stream_peer)(const struct env_stream *s, struct env_address *out);
    /* Readiness of a file descriptor of a library (c-ares). */
    struct status (*watch)(struct env *e, int fd, bool readable, bool writable,
                           void (*on_ready)(void *ctx, bool readable, bool writable), void *ctx,
                           struct env_watch **out);
    void (*watch_close)(struct env_watch *w);
};

/* Embedded first in each implementation. */
struct env {
    const struct env_ops *ops;
    struct shard *shard; /* Whose turns this env drives. */
};

/* Monotonic, starts anywhere; never goes back. */
static inline uint64_t env_mono_ns(struct env *e)
{
    return e->ops->mono_ns(e);
}

/* Unix time; may jump either way. Only the HLC may ask. */
static inline uint64_t env_wall_ns(struct env *e)
{
    return e->ops->wall_ns(e);
}

static inline void env_random(struct env *e, void *out, size_t size)
{
    e->ops->random(e, out, size);
}

static inline uint64_t env_random_u64(struct env *e)
{
    uint64_t v = 0;

    e->ops->random(e, &v, sizeof(v));
    return v;
}

/* done() is never called from inside this call. */
static inline void env_submit(struct env *e, enum env_lane lane, struct env_job *job)
{
    e->ops->submit(e, lane, job);
}

/* Port 0 takes a free one, see env_listener_port(). share_port lets every shard of the process
 * listen on the same port. Errors: STATUS_EXISTS (occupied), STATUS_INVALID (address), STATUS_IO. */
static inline struct status env_listen(struct env *e, const struct env_address *at, bool share_port,
                                       void (*on_accept)(void *ctx, struct env_stream *s),
                                       void *ctx, struct env_listener **out)
{
    return e->ops->listen(e, at, share_port, on_accept, ctx, out);
}

static inline uint16_t env_listener_port(struct env *e, struct env_listener *l)
{
    return e->ops->listener_port(l);
}

static inline void env_listener_close(struct env *e, struct env_listener *l)
{
    e->ops->listener_close(l);
}

static inline struct status env_connect(struct env *e, const struct env_address *to,
                                        void (*on_connected)(void *ctx, struct status st),
                                        const struct env_stream_handler *h, void *ctx,
                                        struct env_stream **out)
{
    return e->ops->connect(e, to, on_connected, h, ctx, out);
}

/* An accepted stream is silent until started. */
static inline void env_stream_start(struct env *e, struct env_stream *s,
                                    const struct env_stream_handler *h, void *ctx)
{
    e->ops->stream_start(s, h, ctx);
}

/*
 * Queues a copy of the bytes; everything queued within one turn leaves in one system call where
 * possible. Errors: STATUS_OVERLOADED when ENV_STREAM_QUEUE_MAX bytes wait, STATUS_CLOSED.
 */
static inline struct status env_stream_write(struct env *e, struct env_stream *s, struct bytes data)
{
    return e->ops->stream_write(s, data);
}

#define ENV_STREAM_QUEUE_MAX ((size_t)64 << 20)

static inline size_t env_stream_queued(struct env *e, const struct env_stream *s)
{
    return e->ops->stream_queued(s);
}

static inline void env_stream_pause(struct env *e, struct env_stream *s, bool paused)
{
    e->ops->stream_pause(s, paused);
}

/* on_closed follows, not from inside this call. What is queued is still sent if that takes < 1 s. */
static inline void env_stream_close(struct env *e, struct env_stream *s)
{
    e->ops->stream_close(s);
}

static inline void env_stream_peer(struct env *e, const struct env_stream *s,
                                   struct env_address *out)
{
    e->ops->stream_peer(s, out);
}

static inline struct status env_watch_fd(struct env *e, int fd, bool readable, bool writable,
                                         void (*on_ready)(void *ctx, bool readable, bool writable),
                                         void *ctx, struct env_watch **out)
{
    return e->ops->watch(e, fd, readable, writable, on_ready, ctx, out);
}

static inline void env_watch_close(struct env *e, struct env_watch *w)
{
    e->ops->watch_close(w);
}
