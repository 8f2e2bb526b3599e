/*
 * env_uv_internal.h -- the inside of the libuv env, for the files env_uv*.c.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#include "node/base/list.h"
#include "node/runtime/env.h"

#define ENV_UV_READ_BYTES      65536u /* One buffer per loop, lent to on_data(). */
#define ENV_UV_CHUNK_BYTES     4096u /* Of queued output; larger writes get a chunk of their size. */
#define ENV_UV_CHUNKS_KEPT_MAX 64u
#define ENV_UV_IOV_MAX         64u
#define ENV_UV_LINGER_NS       ((uint64_t)1000000000)
#define ENV_UV_IO_THREADS_MAX  16u
#define ENV_UV_SIGNALS_MAX     4u
#define ENV_UV_BACKLOG         1024
#define ENV_UV_KEEPALIVE_S     60u
#define ENV_UV_RANDOM_BYTES    256u

struct env_uv;

struct env_uv_lane {
    struct env_uv *env;
    pthread_mutex_t mutex;
    pthread_cond_t more;
    struct list jobs; /* Under the mutex. */
    bool stop;        /* Under the mutex. */
    uint32_t thread_count;
    pthread_t threads[ENV_UV_IO_THREADS_MAX];
};

struct env_uv_signal {
    uv_signal_t handle;
    struct env_uv *env;
    void (*fn)(void *ctx, int signum);
    void *ctx;
};

/* Output that waits: data[start, end). */
struct env_uv_chunk {
    struct env_uv_chunk *next;
    size_t start;
    size_t end;
    size_t cap;
    uint8_t data[];
};

struct env_uv {
    struct env env; /* First. */
    uv_loop_t loop;
    uv_prepare_t prepare; /* The turn, after each batch of callbacks. */
    uv_idle_t idle;       /* Active while another turn is due at once. */
    uv_timer_t timer;     /* The earliest time asked for. */
    uv_async_t async;     /* Finished jobs, parcels, stop. */
    bool turn_due;
    uint64_t timer_ms; /* When `timer` fires, in the loop's time; UINT64_MAX: not armed. */

    atomic_bool stop_asked;
    bool stopping;

    struct env_uv_lane lanes[ENV_LANE_COUNT];
    pthread_mutex_t done_mutex;
    struct list done;   /* Under done_mutex. */
    uint64_t jobs_live; /* Submitted, done() not called yet. */

    struct list streams;
    struct list dirty; /* Streams with output to send at the end of the turn. */
    struct list listeners;
    struct list watches;
    struct env_uv_chunk *chunks; /* Kept for reuse. */
    uint32_t chunk_count;
    uint8_t *read_buffer;
    struct env_uv_signal signals[ENV_UV_SIGNALS_MAX];
    uint32_t signal_count;
    uint8_t random[ENV_UV_RANDOM_BYTES];
    size_t random_left;
};

static inline struct env_uv *env_uv_of(struct env *e)
{
    return CONTAINER_OF(e, struct env_uv, env);
}

/* What a code of libuv means to callers; 0 and more is OK. */
NOYIELD struct status env_uv_status(int code);

/* Lanes. */
NOYIELD NODISCARD struct status env_uv_lane_start(struct env_uv *e, struct env_uv_lane *l,
                                                  uint32_t threads, const char *name);
NOYIELD void env_uv_lane_stop(struct env_uv_lane *l); /* Harmless if it was not started. */
NOYIELD void env_uv_submit(struct env *e, enum env_lane lane, struct env_job *job);
NOYIELD void env_uv_collect_done(struct env_uv *e); /* Calls done() of what has finished. */

/* Sockets. */
NOYIELD struct status env_uv_listen(struct env *e, const struct env_address *at, bool share_port,
                                    void (*on_accept)(void *ctx, struct env_stream *s), void *ctx,
                                    struct env_listener **out);
NOYIELD uint16_t env_uv_listener_port(struct env_listener *l);
NOYIELD void env_uv_listener_close(struct env_listener *l);
NOYIELD void env_uv_listeners_close(struct env_uv *e);
NOYIELD NODISCARD struct status env_uv_parse_address(const struct env_address *a,
                                                     struct sockaddr_storage *out);

NOYIELD struct status env_uv_connect(struct env *e, const struct env_address *to,
                                     void (*on_connected)(void *ctx, struct status st),
                                     const struct env_stream_handler *h, void *ctx,
                                     struct env_stream **out);
/* Takes one connection off a listener. Errors: the connection is gone. */
NOYIELD NODISCARD struct status env_uv_accept(struct env_uv *e, uv_stream_t *from,
                                              struct env_stream **out);
NOYIELD void env_uv_stream_start(struct env_stream *s, const struct env_stream_handler *h,
                                 void *ctx);
NOYIELD struct status env_uv_stream_write(struct env_stream *s, struct bytes data);
NOYIELD size_t env_uv_stream_queued(const struct env_stream *s);
NOYIELD void env_uv_stream_pause(struct env_stream *s, bool paused);
NOYIELD void env_uv_stream_close(struct env_stream *s);
NOYIELD void env_uv_stream_peer(const struct env_stream *s, struct env_address *out);
/* Sends what the turn has queued. */
NOYIELD void env_uv_streams_flush(struct env_uv *e);
/* Ends all without lingering; on_closed() follows. */
NOYIELD void env_uv_streams_close(struct env_uv *e);
NOYIELD void env_uv_chunks_free(struct env_uv *e);

NOYIELD struct status env_uv_watch(struct env *e, int fd, bool readable, bool writable,
                                   void (*on_ready)(void *ctx, bool readable, bool writable),
                                   void *ctx, struct env_watch **out);
NOYIELD void env_uv_watch_close(struct env_watch *w);
NOYIELD void env_uv_watches_close(struct env_uv *e);
