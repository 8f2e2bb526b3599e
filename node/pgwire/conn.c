/*
 * conn.c -- the bytes of a connection: arriving, leaving, waiting, TLS.
 *
 * Bytes arrive in callbacks at any time; the fiber reads messages at its own pace. Two buffers keep
 * them apart: callbacks append to `in`, the fiber reads from `cur`, and only the fiber, between two
 * messages, moves the one to the other. So pointers into a message stay good while its statement
 * runs and yields, and nothing is copied out of the message.
 *
 * Both are bounded. Above WIRE_IN_PAUSE unread bytes the stream is paused, so a client that floods
 * fills its own socket; `cur` holds one message of at most PGWIRE_MESSAGE_MAX, checked before room is
 * made for it. Output gathers in `out` and is handed over once per Sync or Query; a client that does
 * not read parks its fiber when WIRE_QUEUE_MAX bytes wait in the system.
 *
 * An idle connection owns no buffers: they belong to a small pool of the shard and are taken when
 * something arrives, so that ten thousand idle clients cost a fiber's stack each and little else.
 *
 * Life: two parties refer to a conn, the stream (until on_closed) and the fiber (until it returns).
 * The last one frees it.
 */
#include <stdlib.h>

#include "node/base/invariant.h"
#include "node/base/log.h"
#include "node/pgwire/pgwire_internal.h"
#include "node/rpc/tls.h"

#define WIRE_FRAME_SLACK ((size_t)1 << 16)

/* ---- buffers ---- */

static struct wire_work *work_create(void)
{
    struct wire_work *w = calloc(1, sizeof(*w));

    if (w == NULL) {
        return NULL;
    }
    list_init(&w->link);
    buf_init(&w->in, PGWIRE_MESSAGE_MAX + WIRE_FRAME_SLACK);
    buf_init(&w->cur, PGWIRE_MESSAGE_MAX + WIRE_FRAME_SLACK);
    buf_init(&w->cipher, 2 * WIRE_OUT_MAX);
    buf_init(&w->columns, 0);
    wire_out_init(&w->out);
    arena_init(&w->arena, WIRE_ARENA_MAX);
    return w;
}

void conn__free_work(struct wire_work *w)
{
    buf_deinit(&w->in);
    buf_deinit(&w->cur);
    buf_deinit(&w->cipher);
    buf_deinit(&w->columns);
    wire_out_deinit(&w->out);
    arena_deinit(&w->arena);
    free(w);
}

struct wire_work *conn__work(struct conn *c)
{
    struct pgwire *p = c->p;

    if (c->work == NULL) {
        struct list *it = list_pop_front(&p->pool);

        if (it != NULL) {
            p->pool_count--;
            c->work = LIST_ENTRY(it, struct wire_work, link);
        } else {
            c->work = work_create();
        }
    }
    return c->work;
}

static void work_release(struct conn *c)
{
    struct wire_work *w = c->work;
    struct pgwire *p = c->p;

    if (w == NULL) {
        return;
    }
    c->work = NULL;
    c->sink.columns_count = 0;
    if (p->pool_count >= WIRE_POOL_MAX || w->in.cap > WIRE_POOL_BYTES_MAX ||
        w->cur.cap > WIRE_POOL_BYTES_MAX || w->cipher.cap > WIRE_POOL_BYTES_MAX ||
        w->out.buf.cap > WIRE_POOL_BYTES_MAX || w->arena.used_bytes > WIRE_POOL_BYTES_MAX) {
        conn__free_work(w);
        return;
    }
    buf_clear(&w->in);
    buf_clear(&w->cur);
    buf_clear(&w->cipher);
    buf_clear(&w->columns);
    buf_clear(&w->out.buf);
    w->out.failed = false;
    w->cur_pos = 0;
    arena_reset(&w->arena);
    list_push_front(&p->pool, &w->link);
    p->pool_count++;
}

void conn__rest(struct conn *c)
{
    const struct wire_work *w = c->work;

    if (w != NULL && w->in.len == 0 && w->cur_pos == w->cur.len && w->out.buf.len == 0) {
        work_release(c);
    }
}

/* ---- arriving ---- */

static void on_data_tls(struct conn *c, struct wire_work *w, struct bytes data)
{
    const struct status st =
        tls_session_input(c->tls, data, &w->in, &w->cipher, &c->tls_established);

    if (w->cipher.len > 0) {
        (void)env_stream_write(c->p->env, c->stream,
                               buf_bytes(&w->cipher)); /* Closed: told below. */
        buf_clear(&w->cipher);
    }
    if (!status_ok(st)) {
        if (st.code != STATUS_CLOSED) {
            LOG_INFO("pgwire.tls_refused", STR("why", status_text(st)));
        }
        conn__abort(c);
    }
}

static void on_data(void *ctx, struct bytes data)
{
    struct conn *c = ctx;
    struct wire_work *w = conn__work(c);

    c->received_bytes += data.len;
    if (w == NULL || (!c->logged_in && c->received_bytes > PGWIRE_LOGIN_BYTES_MAX)) {
        conn__abort(c);
        return;
    }
    if (c->tls != NULL) {
        on_data_tls(c, w, data);
    } else if (!status_ok(buf_append_bytes(&w->in, data))) {
        conn__abort(c);
        return;
    }
    if (w->in.len >= WIRE_IN_PAUSE && !c->paused && !c->closing) {
        c->paused = true;
        env_stream_pause(c->p->env, c->stream, true);
    }
    wait_queue_wake_all(&c->waiters);
}

static void on_drained(void *ctx)
{
    struct conn *c = ctx;

    wait_queue_wake_all(&c->waiters);
}

static void on_closed(void *ctx, struct status why)
{
    struct conn *c = ctx;

    UNUSED(why);
    c->stream = NULL;
    c->closed = true;
    if (c->running) {
        session_cancel(c->session); /* Nobody is left to read the answer. */
    }
    wait_queue_wake_all(&c->waiters);
    conn__unref(c);
}

static const struct env_stream_handler stream_handler = {
    .on_data = on_data,
    .on_drained = on_drained,
    .on_closed = on_closed,
};

static void close_stream(struct conn *c)
{
    if (c->stream != NULL && !c->closing) {
        c->closing = true;
        env_stream_close(c->p->env, c->stream);
    }
}

void conn__abort(struct conn *c)
{
    c->closed = true;
    close_stream(c);
    if (c->running) {
        session_cancel(c->session);
    }
    wait_queue_wake_all(&c->waiters);
}

/* From `in` to `cur`: only between messages. */
static struct status refill(struct conn *c, struct wire_work *w)
{
    if (w->cur_pos == w->cur.len) {
        const struct buf swap = w->cur;

        w->cur = w->in;
        w->in = swap;
        buf_clear(&w->in);
    } else {
        if (w->cur_pos > 0) {
            memmove(w->cur.ptr, w->cur.ptr + w->cur_pos, w->cur.len - w->cur_pos);
            w->cur.len -= w->cur_pos;
        }
        TRY(buf_append_bytes(&w->cur, buf_bytes(&w->in)));
        buf_clear(&w->in);
    }
    w->cur_pos = 0;
    if (c->paused && c->stream != NULL && !c->closing) {
        c->paused = false;
        env_stream_pause(c->p->env, c->stream, false);
    }
    return OK;
}

struct status conn__wait_bytes(struct conn *c, size_t n, const struct conn_idle *idle,
                               struct bytes *out)
{
    const uint64_t deadline = idle == NULL ? DEADLINE_NONE : idle->deadline_ns;

    for (;;) {
        struct wire_work *w = c->work;

        if (w != NULL && w->cur.len - w->cur_pos < n && w->in.len > 0) {
            TRY(refill(c, w));
        }
        if (w != NULL && w->cur.len - w->cur_pos >= n) {
            *out = bytes_of(w->cur.ptr + w->cur_pos, w->cur.len - w->cur_pos);
            return OK;
        }
        if (c->closed) {
            return FAIL(STATUS_CLOSED, "connection closed");
        }
        if (idle != NULL && idle->between && c->p->stopping) {
            return FAIL(STATUS_CANCELLED, "server is stopping");
        }
        conn__rest(c);
        const struct status st = wait_queue_wait(&c->waiters, deadline);

        if (st.code == STATUS_TIMEOUT) {
            return st;
        }
        if (!status_ok(st)) {
            /* A cancel that came too late for its statement; there is nothing to cancel here. */
            fiber_clear_cancel(fiber_current());
        }
    }
}

void conn__consume(struct conn *c, size_t n)
{
    INVARIANT(c->work != NULL && n <= c->work->cur.len - c->work->cur_pos);
    c->work->cur_pos += n;
}

bool conn__all_consumed(const struct conn *c)
{
    return c->work == NULL || (c->work->in.len == 0 && c->work->cur_pos == c->work->cur.len);
}

/* ---- leaving ---- */

static struct status send_bytes(struct conn *c, struct wire_work *w)
{
    struct status st = OK;

    if (c->tls == NULL) {
        return env_stream_write(c->p->env, c->stream, buf_bytes(&w->out.buf));
    }
    st = tls_session_output(c->tls, buf_bytes(&w->out.buf), &w->cipher);
    if (status_ok(st)) {
        st = env_stream_write(c->p->env, c->stream, buf_bytes(&w->cipher));
    }
    buf_clear(&w->cipher);
    return st;
}

struct status conn__send(struct conn *c)
{
    struct wire_work *w = c->work;
    struct status st = OK;

    if (w == NULL || w->out.buf.len == 0) {
        return OK;
    }
    if (w->out.failed) {
        return FAIL(STATUS_MEMORY, "answer is too large");
    }
    if (c->closed || c->stream == NULL) {
        st = FAIL(STATUS_CLOSED, "connection closed");
    } else {
        st = send_bytes(c, w);
    }
    c->sink.sent += w->out.buf.len;
    buf_clear(&w->out.buf);
    return st;
}

void conn__send_last(struct conn *c)
{
    const struct status st = conn__send(c);

    UNUSED(st);
}

struct status conn__flush(struct conn *c)
{
    TRY(conn__send(c));
    while (!c->closed && c->stream != NULL &&
           env_stream_queued(c->p->env, c->stream) > WIRE_QUEUE_MAX) {
        TRY(wait_queue_wait(&c->waiters, DEADLINE_NONE));
    }
    return OK;
}

struct status conn__start_tls(struct conn *c)
{
    struct wire_work *w = conn__work(c);
    struct bytes raw = BYTES_EMPTY;

    if (w == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a connection");
    }
    if (w->in.len > 0) {
        TRY(refill(c, w)); /* `in` is where plain bytes go from here on. */
    }
    TRY(tls_session_create(c->p->o.tls, &c->tls));
    raw = bytes_of(w->cur.ptr + w->cur_pos, w->cur.len - w->cur_pos);
    if (raw.len > 0) {
        on_data_tls(c, w, raw);
        w->cur_pos = w->cur.len;
    }
    return c->closed ? FAIL(STATUS_CLOSED, "TLS handshake failed") : OK;
}

/* ---- life ---- */

void conn__unref(struct conn *c)
{
    struct pgwire *p = c->p;

    if (!c->fiber_done || c->stream != NULL) {
        return;
    }
    INVARIANT(c->session == NULL);
    shard_timer_disarm(p->o.shard, &c->login_timer);
    work_release(c);
    tls_session_destroy(c->tls);
    list_remove(&c->link);
    p->conns_count--;
    free(c);
    if (p->stopping && p->conns_count == 0) {
        sql_stop(p->o.sql);
    }
}

static MAYYIELD void conn_main(void *arg)
{
    struct conn *c = arg;

    if (startup__run(c)) {
        protocol__run(c);
    }
    if (c->session != NULL) {
        session_destroy(c->session);
        c->session = NULL;
    }
    pgwire__logout(c->p, c);
    fiber_clear_cancel(fiber_current());
    c->closed = true;
    c->fiber_done = true;
    close_stream(c);
    conn__unref(c);
}

static void on_login_timeout(struct shard_timer *t)
{
    struct conn *c = LIST_ENTRY(t, struct conn, login_timer);

    if (!c->logged_in) {
        LOG_INFO("pgwire.login_timeout", U64("pid", c->pid));
        conn__abort(c);
    }
}

void conn__open(struct pgwire *p, struct env_stream *stream)
{
    struct conn *c = calloc(1, sizeof(*c));

    if (c == NULL) {
        env_stream_close(p->env, stream);
        return;
    }
    c->p = p;
    c->stream = stream;
    c->login_timer.fn = on_login_timeout;
    wait_queue_init(&c->waiters);
    sink__init(c);
    list_push_back(&p->conns, &c->link);
    p->conns_count++;
    env_stream_start(p->env, stream, &stream_handler, c);
    shard_timer_arm_in(p->o.shard, &c->login_timer, PGWIRE_LOGIN_NS);
    if (!status_ok(fiber_spawn(p->o.shard, "pgwire.conn", conn_main, c))) {
        LOG_WARN("pgwire.refused", STR("why", "no fiber"));
        c->fiber_done = true;
        close_stream(c); /* on_closed() frees. */
    }
}
