/*
 * env_uv_stream.c -- TCP connections.
 *
 *                   connected                 close, or end            all sent, FIN
 *     CONNECTING ------------> OPEN ------------------> DRAINING --------------------> LINGERING
 *         |        started      |        of the peer      |                                |
 *         |   SILENT ------>    |                         | end of the peer seen           | its end,
 *         |     | (accepted)    |                         | or 1 s over                    | or 1 s over
 *         v     v               v                         v                                v
 *     CLOSING <-------- error, stop of the loop ----------+--------------------------------+
 *
 * Output is copied into chunks and sent once per turn, as one system call when the socket takes it
 * all. Only what it does not take goes through uv_write(), which waits for room; meanwhile new output
 * queues up behind. Up to ENV_STREAM_QUEUE_MAX bytes may wait.
 *
 * Input is read into one buffer per loop, so that an idle connection costs its struct (under 1 KiB)
 * and no buffer. To pause means to offer libuv no buffer: it then reads nothing, and we take the
 * descriptor out of the poll set only when bytes do arrive. A connection that pauses and resumes
 * around each request therefore costs no system call.
 *
 * Close is orderly: closing a socket with unread input resets the connection, and a reset may destroy
 * our last words (the reason why we hang up) on their way. So we send the rest, then FIN, and throw
 * away what comes until the peer ends as well or a second has passed.
 *
 * Invariants:
 *   1. on_connected comes first and once; on_closed comes last and once, never from inside a call.
 *   2. The struct lives until the close callback of libuv; after on_closed nothing refers to it.
 *   3. Chunks under uv_write() are not touched: output is appended behind their end.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "node/base/invariant.h"
#include "node/runtime/env_uv_internal.h"
#include "node/runtime/shard.h"

enum stream_state {
    STREAM_CONNECTING,
    STREAM_SILENT,
    STREAM_OPEN,
    STREAM_DRAINING,
    STREAM_LINGERING,
    STREAM_CLOSING,
    STREAM_STATE_COUNT
};

struct env_stream {
    uv_tcp_t tcp;
    struct env_uv *env;
    struct list link;       /* env.streams */
    struct list dirty_link; /* env.dirty while output is to be sent. */
    enum stream_state state;
    bool reading; /* libuv polls for input. */
    bool paused;
    bool ended; /* The peer's end was seen. */
    bool writing;
    const struct env_stream_handler *handler; /* NULL: not started. */
    void *ctx;
    void (*on_connected)(void *ctx, struct status st);
    struct status why;
    struct env_uv_chunk *first;
    struct env_uv_chunk *last;
    size_t queued_bytes;
    size_t writing_bytes; /* Of these, under uv_write(). */
    struct shard_timer linger;
    union {
        uv_connect_t connect;
        uv_write_t write;
    } req;
};

#define BIT(state) (1u << (state))

static void stream_move(struct env_stream *s, enum stream_state to)
{
    static const unsigned allowed[STREAM_STATE_COUNT] = {
        [STREAM_CONNECTING] = BIT(STREAM_OPEN) | BIT(STREAM_CLOSING),
        [STREAM_SILENT] = BIT(STREAM_OPEN) | BIT(STREAM_DRAINING) | BIT(STREAM_CLOSING),
        [STREAM_OPEN] = BIT(STREAM_DRAINING) | BIT(STREAM_CLOSING),
        [STREAM_DRAINING] = BIT(STREAM_LINGERING) | BIT(STREAM_CLOSING),
        [STREAM_LINGERING] = BIT(STREAM_CLOSING),
    };

    INVARIANT((allowed[s->state] & BIT(to)) != 0);
    s->state = to;
}

static struct env_uv_chunk *chunk_take(struct env_uv *e, size_t size)
{
    struct env_uv_chunk *c = e->chunks;
    const size_t cap = size > ENV_UV_CHUNK_BYTES ? size : ENV_UV_CHUNK_BYTES;

    if (cap == ENV_UV_CHUNK_BYTES && c != NULL) {
        e->chunks = c->next;
        e->chunk_count--;
    } else {
        c = malloc(sizeof(*c) + cap);
        if (c == NULL) {
            return NULL;
        }
        c->cap = cap;
    }
    c->next = NULL;
    c->start = 0;
    c->end = 0;
    return c;
}

static void chunk_give(struct env_uv *e, struct env_uv_chunk *c)
{
    if (c->cap != ENV_UV_CHUNK_BYTES || e->chunk_count == ENV_UV_CHUNKS_KEPT_MAX) {
        free(c);
        return;
    }
    c->next = e->chunks;
    e->chunks = c;
    e->chunk_count++;
}

void env_uv_chunks_free(struct env_uv *e)
{
    while (e->chunks != NULL) {
        struct env_uv_chunk *c = e->chunks;

        e->chunks = c->next;
        free(c);
    }
    e->chunk_count = 0;
}

/* Forgets the first n bytes of the output. */
static void queue_consume(struct env_stream *s, size_t n)
{
    INVARIANT(n <= s->queued_bytes);
    s->queued_bytes -= n;
    while (s->first != NULL) {
        struct env_uv_chunk *c = s->first;
        const size_t has = c->end - c->start;

        if (n < has) {
            c->start += n;
            return;
        }
        n -= has;
        s->first = c->next;
        if (s->first == NULL) {
            s->last = NULL;
        }
        chunk_give(s->env, c);
    }
    INVARIANT(n == 0);
}

/* Describes the front of the output; returns the number of pieces. */
static unsigned queue_pieces(const struct env_stream *s, uv_buf_t *out, size_t *bytes_out)
{
    unsigned n = 0;

    *bytes_out = 0;
    for (struct env_uv_chunk *c = s->first; c != NULL && n < ENV_UV_IOV_MAX; c = c->next) {
        out[n].base = (char *)c->data + c->start;
        out[n].len = c->end - c->start;
        *bytes_out += out[n].len;
        n++;
    }
    return n;
}

static void stream_mark_dirty(struct env_stream *s)
{
    if (list_empty(&s->dirty_link)) {
        list_push_back(&s->env->dirty, &s->dirty_link);
        s->env->turn_due = true; /* It is sent at the end of the turn: there must be one. */
    }
}

static void on_gone(uv_handle_t *h)
{
    struct env_stream *s = CONTAINER_OF(h, struct env_stream, tcp);

    queue_consume(s, s->queued_bytes);
    list_remove(&s->link);
    if (s->handler != NULL) {
        s->handler->on_closed(s->ctx, s->why);
    }
    free(s);
}

/* Ends the stream now; on_closed follows from the loop. */
static void stream_end(struct env_stream *s)
{
    if (s->state == STREAM_CLOSING) {
        return;
    }
    stream_move(s, STREAM_CLOSING);
    list_remove(&s->dirty_link);
    shard_timer_disarm(s->env->env.shard, &s->linger);
    uv_close((uv_handle_t *)&s->tcp, on_gone);
}

static void stream_fail(struct env_stream *s, struct status why)
{
    if (status_ok(s->why)) { /* The first reason counts. */
        s->why = why;
    }
    stream_end(s);
}

static void on_linger_over(struct shard_timer *t)
{
    stream_end(CONTAINER_OF(t, struct env_stream, linger));
}

/* All was sent after close: say so, and wait for the peer to do the same. */
static void stream_finish(struct env_stream *s)
{
    uv_os_fd_t fd = -1;

    if (s->ended || uv_fileno((const uv_handle_t *)&s->tcp, &fd) != 0 ||
        shutdown(fd, SHUT_WR) != 0) {
        stream_end(s);
        return;
    }
    stream_move(s, STREAM_LINGERING);
}

static void stream_sent_all(struct env_stream *s)
{
    if (s->state == STREAM_DRAINING) {
        stream_finish(s);
    } else if (s->state == STREAM_OPEN && s->handler->on_drained != NULL) {
        s->handler->on_drained(s->ctx);
    }
}

static void on_written(uv_write_t *req, int code)
{
    struct env_stream *s = CONTAINER_OF(req, struct env_stream, req.write);
    const size_t n = s->writing_bytes;

    s->writing = false;
    s->writing_bytes = 0;
    if (code < 0) {
        stream_fail(s, env_uv_status(code));
        return;
    }
    if (s->state == STREAM_CLOSING) {
        return;
    }
    queue_consume(s, n);
    if (s->queued_bytes > 0) {
        stream_mark_dirty(s);
    } else {
        stream_sent_all(s);
    }
}

/* The socket is full: let libuv wait for room. */
static void stream_write_later(struct env_stream *s)
{
    uv_buf_t pieces[ENV_UV_IOV_MAX];
    const unsigned count = queue_pieces(s, pieces, &s->writing_bytes);
    int code = 0;

    s->writing = true;
    code = uv_write(&s->req.write, (uv_stream_t *)&s->tcp, pieces, count, on_written);
    if (code < 0) {
        s->writing = false;
        s->writing_bytes = 0;
        stream_fail(s, env_uv_status(code));
    }
}

static void stream_flush(struct env_stream *s)
{
    uv_buf_t pieces[ENV_UV_IOV_MAX];

    if (s->writing || s->state == STREAM_CONNECTING || s->state == STREAM_CLOSING) {
        return; /* What is under way continues here when it is done. */
    }
    while (s->queued_bytes > 0) {
        size_t bytes = 0;
        const unsigned count = queue_pieces(s, pieces, &bytes);
        const int n = uv_try_write((uv_stream_t *)&s->tcp, pieces, count);

        if (n < 0 && n != UV_EAGAIN) {
            stream_fail(s, env_uv_status(n));
            return;
        }
        queue_consume(s, n < 0 ? 0 : (size_t)n);
        if (n < 0 || (size_t)n < bytes) {
            stream_write_later(s);
            return;
        }
    }
    stream_sent_all(s);
}

void env_uv_streams_flush(struct env_uv *e)
{
    struct list batch;
    struct list *it = NULL;

    if (list_empty(&e->dirty)) {
        return;
    }
    /* What callbacks write meanwhile is for the next turn. */
    list_init(&batch);
    list_insert_before(e->dirty.next, &batch);
    list_remove(&e->dirty);
    while ((it = list_pop_front(&batch)) != NULL) {
        stream_flush(LIST_ENTRY(it, struct env_stream, dirty_link));
    }
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *out)
{
    struct env_stream *s = CONTAINER_OF(h, struct env_stream, tcp);
    const bool refuse = s->paused && s->state == STREAM_OPEN;

    UNUSED(suggested);
    *out = uv_buf_init(refuse ? NULL : (char *)s->env->read_buffer, refuse ? 0 : ENV_UV_READ_BYTES);
}

/* Nothing more will come. What we still have to say may be said. */
static void stream_peer_ended(struct env_stream *s)
{
    s->ended = true;
    s->reading = false; /* libuv stops by itself. */
    if (status_ok(s->why)) {
        s->why = env_uv_status(UV_EOF);
    }
    if (s->state == STREAM_OPEN && s->queued_bytes > 0) {
        stream_move(s, STREAM_DRAINING);
        shard_timer_arm_in(s->env->env.shard, &s->linger, ENV_UV_LINGER_NS);
    } else if (s->state != STREAM_DRAINING) {
        stream_end(s);
    }
}

static void on_read(uv_stream_t *h, ssize_t n, const uv_buf_t *buf)
{
    struct env_stream *s = CONTAINER_OF(h, struct env_stream, tcp);

    if (n == UV_ENOBUFS && s->paused && s->state == STREAM_OPEN) {
        (void)uv_read_stop(h); /* Cannot fail. */
        s->reading = false;
    } else if (n == UV_EOF) {
        stream_peer_ended(s);
    } else if (n < 0) {
        stream_fail(s, env_uv_status((int)n));
    } else if (n > 0 && s->state == STREAM_OPEN) {
        s->handler->on_data(s->ctx, bytes_of(buf->base, (size_t)n));
    }
}

static void stream_read_start(struct env_stream *s)
{
    int code = 0;

    if (s->reading || s->ended) {
        return;
    }
    code = uv_read_start((uv_stream_t *)&s->tcp, on_alloc, on_read);
    if (code < 0) {
        stream_fail(s, env_uv_status(code));
        return;
    }
    s->reading = true;
}

static struct env_stream *stream_new(struct env_uv *e, enum stream_state state)
{
    struct env_stream *s = calloc(1, sizeof(*s));

    if (s == NULL) {
        return NULL;
    }
    s->env = e;
    s->state = state;
    s->linger.fn = on_linger_over;
    list_init(&s->dirty_link);
    INVARIANT(uv_tcp_init(&e->loop, &s->tcp) == 0); /* Without a family it opens nothing. */
    list_push_back(&e->streams, &s->link);
    return s;
}

static void stream_tune(struct env_stream *s)
{
    /* Both fail only on sockets that are gone, which the next read reports. */
    (void)uv_tcp_nodelay(&s->tcp, 1);
    (void)uv_tcp_keepalive(&s->tcp, 1, ENV_UV_KEEPALIVE_S);
}

struct status env_uv_accept(struct env_uv *e, uv_stream_t *from, struct env_stream **out)
{
    struct env_stream *s = stream_new(e, STREAM_SILENT);
    int code = 0;

    /* libuv stops listening if its connection is not taken: nothing to go on with. */
    INVARIANT(s != NULL);
    code = uv_accept(from, (uv_stream_t *)&s->tcp);
    if (code < 0) {
        stream_end(s);
        return env_uv_status(code);
    }
    stream_tune(s);
    *out = s;
    return OK;
}

static void on_connect(uv_connect_t *req, int code)
{
    struct env_stream *s = CONTAINER_OF(req, struct env_stream, req.connect);
    const struct status st = env_uv_status(code);

    if (status_ok(st) && s->state == STREAM_CONNECTING) {
        stream_move(s, STREAM_OPEN);
        stream_tune(s);
        s->on_connected(s->ctx, OK);
        if (s->state == STREAM_OPEN) { /* It may have been closed just now. */
            stream_read_start(s);
        }
        if (s->state == STREAM_OPEN && s->queued_bytes > 0) {
            stream_mark_dirty(s);
        }
        return;
    }
    s->on_connected(s->ctx, status_ok(s->why) ? st : s->why);
    stream_fail(s, st);
}

struct status env_uv_connect(struct env *env, const struct env_address *to,
                             void (*on_connected)(void *ctx, struct status st),
                             const struct env_stream_handler *h, void *ctx, struct env_stream **out)
{
    struct env_uv *e = env_uv_of(env);
    struct env_stream *s = NULL;
    struct sockaddr_storage at;
    int code = 0;

    if (e->stopping) {
        return FAIL(STATUS_CLOSED, "the event loop is stopping");
    }
    TRY(env_uv_parse_address(to, &at));
    s = stream_new(e, STREAM_CONNECTING);
    if (s == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a connection");
    }
    code = uv_tcp_connect(&s->req.connect, &s->tcp, (const struct sockaddr *)&at, on_connect);
    if (code < 0) {
        stream_end(s); /* Silently: it has no handler yet. */
        return env_uv_status(code);
    }
    s->on_connected = on_connected;
    s->handler = h;
    s->ctx = ctx;
    *out = s;
    return OK;
}

void env_uv_stream_start(struct env_stream *s, const struct env_stream_handler *h, void *ctx)
{
    INVARIANT(s->handler == NULL);
    s->handler = h;
    s->ctx = ctx;
    if (s->state == STREAM_SILENT) {
        stream_move(s, STREAM_OPEN);
        stream_read_start(s);
    }
}

struct status env_uv_stream_write(struct env_stream *s, struct bytes data)
{
    struct env_uv_chunk *c = s->last;
    size_t room = c == NULL ? 0 : c->cap - c->end;

    if (s->state > STREAM_OPEN) {
        return FAIL(STATUS_CLOSED, "the stream is closing");
    }
    if (data.len > ENV_STREAM_QUEUE_MAX - s->queued_bytes) {
        return FAIL(STATUS_OVERLOADED, "too much queued on a stream");
    }
    if (data.len > room) {
        struct env_uv_chunk *fresh = chunk_take(s->env, data.len - room);

        if (fresh == NULL) {
            return FAIL(STATUS_MEMORY, "no memory for output");
        }
        if (c == NULL) {
            s->first = fresh;
        } else {
            memcpy(c->data + c->end, data.ptr, room);
            c->end += room;
            c->next = fresh;
        }
        s->last = fresh;
        c = fresh;
    } else {
        room = 0;
    }
    if (data.len > 0) {
        memcpy(c->data + c->end, data.ptr + room, data.len - room);
        c->end += data.len - room;
        s->queued_bytes += data.len;
        stream_mark_dirty(s);
    }
    return OK;
}

size_t env_uv_stream_queued(const struct env_stream *s)
{
    return s->queued_bytes;
}

void env_uv_stream_pause(struct env_stream *s, bool paused)
{
    s->paused = paused;
    if (!paused && s->state == STREAM_OPEN) {
        stream_read_start(s);
    }
}

void env_uv_stream_close(struct env_stream *s)
{
    if (s->state > STREAM_OPEN) {
        return;
    }
    s->why = FAIL(STATUS_CLOSED, "closed locally");
    if (s->state == STREAM_CONNECTING) {
        stream_end(s);
        return;
    }
    stream_move(s, STREAM_DRAINING);
    shard_timer_arm_in(s->env->env.shard, &s->linger, ENV_UV_LINGER_NS);
    stream_read_start(s); /* To throw away, and to see the peer's end. */
    if (s->state == STREAM_DRAINING) {
        stream_mark_dirty(s);
    }
}

void env_uv_streams_close(struct env_uv *e)
{
    LIST_FOREACH(it, &e->streams) {
        struct env_stream *s = LIST_ENTRY(it, struct env_stream, link);

        if (s->state == STREAM_OPEN) {
            stream_flush(s); /* What the socket takes without waiting is still sent. */
        }
        stream_fail(s, FAIL(STATUS_CLOSED, "the event loop is stopping"));
    }
}

void env_uv_stream_peer(const struct env_stream *s, struct env_address *out)
{
    struct sockaddr_storage at = {0};
    int size = sizeof(at);

    *out = (struct env_address){0};
    if (uv_tcp_getpeername(&s->tcp, (struct sockaddr *)&at, &size) != 0) {
        return; /* Gone already: an empty host. */
    }
    /* The texts fit: 64 bytes hold any numeric address. */
    if (at.ss_family == AF_INET) {
        (void)uv_ip4_name((struct sockaddr_in *)&at, out->host, sizeof(out->host));
        out->port = ntohs(((struct sockaddr_in *)&at)->sin_port);
    } else {
        (void)uv_ip6_name((struct sockaddr_in6 *)&at, out->host, sizeof(out->host));
        out->port = ntohs(((struct sockaddr_in6 *)&at)->sin6_port);
    }
}
