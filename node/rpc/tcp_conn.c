/*
 * tcp_conn.c -- one connection, from the first byte to the last.
 *
 *     RESOLVING -> CONNECTING -> SECURING -> GREETING -> UP -> CLOSED      dialled
 *                                SECURING -> GREETING -> UP -> CLOSED      accepted
 *     (SECURING is skipped without TLS; any state may go to CLOSED)
 *
 * Out: frames of one turn gather in `out`, and at its end leave as one write, which with TLS means
 * records of 16 KiB instead of one per frame. Before UP they wait there. With a simulated delay each
 * batch waits in `delayed` until it is due; never before the batch in front of it.
 *
 * In: whole frames are handled where they lie in the read; only the start of an unfinished one is
 * copied to `in`. A peer that has not said HELLO may not make us hold more than TCP_HELLO_MAX.
 *
 * Ends: closing tells the link (backoff), the rpc (calls in vain) and the stream, once. The struct
 * lives on until the stream says that it is closed. Silence: a connection that we wrote to must say
 * something within TCP_SILENT_NS, at least to a probe; a kernel that keeps resending into a dead line
 * would otherwise hide that for a quarter of an hour.
 */
#include <stdlib.h>

#include "node/base/invariant.h"
#include "node/rpc/tcp_internal.h"

static NOYIELD void delay_fired(struct shard_timer *timer);
static NOYIELD void tick_arm(struct rpc_tcp *t);

struct tcp_conn *tcp__conn_new(struct rpc_tcp *t, struct tcp_link *dial)
{
    struct tcp_conn *c = calloc(1, sizeof(*c));

    if (c == NULL) {
        return NULL;
    }
    c->t = t;
    c->id = ++t->last_id;
    c->dial = dial;
    c->opened_ns = shard_now_ns(t->shard);
    c->connect_error = OK;
    c->delay_timer.fn = delay_fired;
    list_init(&c->dirty);
    list_init(&c->delayed);
    /* A read may end with the start of the largest frame and bring another TLS record. */
    buf_init(&c->in, 2 * RPC_FRAME_MAX);
    buf_init(&c->out, RPC_QUEUE_BYTES_MAX);
    if (!status_ok(map_put(&t->conns_by_id, c->id, c))) {
        free(c);
        return NULL;
    }
    list_push_back(&t->conns, &c->link);
    tick_arm(t);
    return c;
}

static NOYIELD void conn_free(struct tcp_conn *c)
{
    INVARIANT(c->stream == NULL);
    tls_session_destroy(c->tls);
    buf_deinit(&c->in);
    buf_deinit(&c->out);
    free(c);
}

/* Takes it out of everything that could find it; the stream, if any, still has to end. */
static NOYIELD void conn_detach(struct tcp_conn *c)
{
    struct rpc_tcp *t = c->t;
    struct tcp_peer *p = tcp__conn_peer(c);
    struct list *item = NULL;

    if (p != NULL && p->accepted[c->cls] == c) {
        p->accepted[c->cls] = NULL;
    }
    if (c->dial == NULL && c->state < TCP_UP) {
        INVARIANT(t->strangers > 0);
        t->strangers--;
    }
    c->state = TCP_CLOSED;
    (void)map_remove(&t->conns_by_id, c->id);
    list_remove(&c->link);
    list_remove(&c->dirty);
    shard_timer_disarm(t->shard, &c->delay_timer);
    while ((item = list_pop_front(&c->delayed)) != NULL) {
        free(LIST_ENTRY(item, struct tcp_delayed, link));
    }
    c->delayed_bytes = 0;
    dns_query_cancel(c->query);
    c->query = NULL;
    c->t = NULL;
}

static NOYIELD void conn_end(struct tcp_conn *c, struct env *env)
{
    if (c->stream == NULL) {
        conn_free(c);
    } else {
        env_stream_close(env, c->stream); /* on_closed() frees. */
    }
}

void tcp__conn_discard(struct tcp_conn *c)
{
    struct env *env = c->t->env;

    conn_detach(c);
    conn_end(c, env);
}

/* What a peer did wrong, as opposed to lines and processes that go away. */
static NOYIELD bool is_refusal(enum status_code code)
{
    return code == STATUS_CORRUPT || code == STATUS_FENCED || code == STATUS_UNSUPPORTED ||
           code == STATUS_INVALID;
}

/* Attempts of ours that fail are the link's to log; strangers that only leave are not worth a line. */
static NOYIELD void log_end(const struct tcp_conn *c, struct status why)
{
    const bool stranger = c->dial == NULL && c->state < TCP_UP;

    if ((stranger && (is_refusal(why.code) || why.code == STATUS_TIMEOUT)) ||
        (c->state == TCP_UP && is_refusal(why.code))) {
        tcp__log_refused(c->t, c, status_text(why));
    } else if (c->state == TCP_UP) {
        LOG_INFO("rpc.disconnected", U64("node", c->node.v), U64("class", c->cls),
                 STR("reason", status_text(why)));
    }
}

void tcp__conn_close(struct tcp_conn *c, struct status why)
{
    struct rpc_tcp *t = c->t;
    struct tcp_link *l = c->dial;
    const bool owed = l != NULL || c->written; /* Calls may wait for answers on it. */

    if (c->state == TCP_CLOSED) {
        return;
    }
    log_end(c, why);
    conn_detach(c);
    if (l != NULL) {
        tcp__link_lost(l, c, why);
        if (l->peer == NULL) {
            rpc_path_down(t->rpc, (const void *)(uintptr_t)l->id, why);
        }
    }
    if (!c->written) {
        rpc_undelivered(t->rpc, buf_bytes(&c->out)); /* Never up: all of it is still here. */
    }
    if (owed && c->node.v != 0) {
        rpc_peer_down(t->rpc, c->node);
    }
    conn_end(c, t->env);
}

/* --- Out ----------------------------------------------------------------------------------- */

static NOYIELD struct status stream_write(struct tcp_conn *c, struct bytes wire)
{
    c->stream_bytes += wire.len;
    return env_stream_write(c->t->env, c->stream, wire);
}

static NOYIELD struct status conn_write(struct tcp_conn *c, struct bytes plain)
{
    struct rpc_tcp *t = c->t;
    struct status st = OK;

    if (c->tls == NULL) {
        return stream_write(c, plain);
    }
    buf_clear(&t->wire);
    st = tls_session_output(c->tls, plain, &t->wire);
    if (status_ok(st)) {
        st = stream_write(c, buf_bytes(&t->wire));
    }
    if (t->wire.cap > TCP_BUF_KEEP) {
        buf_deinit(&t->wire);
    }
    return st;
}

static NOYIELD struct status conn_delay(struct tcp_conn *c, struct bytes plain, uint64_t delay_ns)
{
    struct tcp_delayed *d = malloc(sizeof(*d) + plain.len);
    const uint64_t due_ns = shard_now_ns(c->t->shard) + delay_ns;

    if (d == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for delayed frames");
    }
    memcpy(d->bytes, plain.ptr, plain.len);
    d->size = plain.len;
    d->due_ns = due_ns;
    if (list_empty(&c->delayed)) {
        shard_timer_arm(c->t->shard, &c->delay_timer, due_ns);
    } else {
        const struct tcp_delayed *last =
            LIST_ENTRY(c->delayed.prev, struct tcp_delayed, link); /* Keeps the order. */

        d->due_ns = due_ns < last->due_ns ? last->due_ns : due_ns;
    }
    list_push_back(&c->delayed, &d->link);
    c->delayed_bytes += plain.len;
    return OK;
}

static void delay_fired(struct shard_timer *timer)
{
    struct tcp_conn *c = CONTAINER_OF(timer, struct tcp_conn, delay_timer);
    const uint64_t now_ns = shard_now_ns(c->t->shard);

    while (!list_empty(&c->delayed)) {
        struct tcp_delayed *d = LIST_ENTRY(c->delayed.next, struct tcp_delayed, link);
        struct status st = OK;

        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): what was freed had left the list. */
        if (d->due_ns > now_ns) {
            shard_timer_arm(c->t->shard, &c->delay_timer, d->due_ns);
            return;
        }
        list_remove(&d->link);
        c->delayed_bytes -= d->size;
        st = conn_write(c, bytes_of(d->bytes, d->size));
        free(d);
        if (!status_ok(st)) {
            tcp__conn_close(c, st);
            return;
        }
    }
}

void tcp__conn_ship(struct tcp_conn *c, struct bytes frames)
{
    const struct tcp_peer *p = tcp__conn_peer(c);
    struct status st = OK;

    if (c->waiting_ns == 0) {
        c->waiting_ns = shard_now_ns(c->t->shard);
    }
    if (p != NULL && p->drop_outgoing) {
        return;
    }
    if ((p != NULL && p->delay_ns > 0) || !list_empty(&c->delayed)) {
        st = conn_delay(c, frames, p == NULL ? 0 : p->delay_ns);
    } else {
        st = conn_write(c, frames);
    }
    if (!status_ok(st)) {
        tcp__conn_close(c, st);
    }
}

static NOYIELD size_t queued_bytes(const struct tcp_conn *c)
{
    const size_t own = c->out.len + c->delayed_bytes;

    return c->state == TCP_UP ? own + env_stream_queued(c->t->env, c->stream) : own;
}

struct status tcp__conn_queue(struct tcp_conn *c, const struct bytes *parts, uint32_t parts_count)
{
    const size_t before = queued_bytes(c);
    size_t size = 0;

    for (uint32_t i = 0; i < parts_count; i++) {
        size += parts[i].len;
    }
    if (before > RPC_QUEUE_BYTES_MAX || size > RPC_QUEUE_BYTES_MAX - before) {
        return FAIL(STATUS_OVERLOADED, "too much waits to be sent to the node");
    }
    TRY(buf_reserve(&c->out, size));
    for (uint32_t i = 0; i < parts_count; i++) {
        if (parts[i].len > 0) {
            memcpy(c->out.ptr + c->out.len, parts[i].ptr, parts[i].len);
            c->out.len += parts[i].len;
        }
    }
    if (c->state == TCP_UP && list_empty(&c->dirty)) {
        list_push_back(&c->t->dirty, &c->dirty);
    }
    return OK;
}

void tcp__conn_flush(struct tcp_conn *c)
{
    list_remove(&c->dirty);
    if (c->state != TCP_UP || c->out.len == 0) {
        return;
    }
    c->written = true;
    tcp__conn_ship(c, buf_bytes(&c->out)); /* May close; the struct lives until its stream ends. */
    buf_clear(&c->out);
    if (c->out.cap > TCP_BUF_KEEP) {
        buf_deinit(&c->out);
    }
}

/* --- In ------------------------------------------------------------------------------------ */

static NOYIELD struct status take_frame(struct tcp_conn *c, struct bytes frame)
{
    const struct tcp_peer *p = tcp__conn_peer(c);

    if (c->state == TCP_GREETING) {
        return tcp__hello_first(c, frame);
    }
    INVARIANT(c->state == TCP_UP);
    if (rpc_frame_type(frame) == RPC_TYPE_HELLO) {
        return tcp__hello_again(c, frame);
    }
    if (p != NULL && p->drop_incoming) {
        return OK;
    }
    if (rpc_frame_from_node(frame).v != c->node.v) {
        return FAIL(STATUS_CORRUPT, "a frame under another node's id");
    }
    return rpc_receive(c->t->rpc, frame, (void *)(uintptr_t)c->id);
}

static NOYIELD struct status take_frames(struct tcp_conn *c, struct bytes *rest)
{
    while (c->state != TCP_CLOSED) {
        struct bytes frame;

        TRY(rpc_frame_split(*rest, c->state == TCP_UP ? RPC_FRAME_MAX : TCP_HELLO_MAX, &frame));
        if (frame.len == 0) {
            return OK;
        }
        TRY(take_frame(c, frame));
        *rest = bytes_skip(*rest, frame.len);
    }
    return OK;
}

/* What is left of an input: it lies in `in` already, or in the read. */
static NOYIELD struct status keep_rest(struct tcp_conn *c, struct bytes rest)
{
    const bool inside = c->in.len > 0;

    if (rest.len == 0) {
        buf_clear(&c->in);
        if (c->in.cap > TCP_BUF_KEEP) {
            buf_deinit(&c->in);
        }
        return OK;
    }
    if (!inside) {
        return buf_append_bytes(&c->in, rest);
    }
    if (rest.ptr != c->in.ptr) {
        memmove(c->in.ptr, rest.ptr, rest.len);
        c->in.len = rest.len;
    }
    return OK;
}

static NOYIELD struct status take_plain(struct tcp_conn *c, struct bytes data)
{
    struct bytes rest = data;

    if (c->in.len > 0) {
        TRY(buf_append_bytes(&c->in, data));
        rest = buf_bytes(&c->in);
    }
    TRY(take_frames(c, &rest));
    return keep_rest(c, rest);
}

static NOYIELD struct status take_tls(struct tcp_conn *c, struct bytes data)
{
    struct rpc_tcp *t = c->t;
    bool established = false;
    struct status st = OK;
    struct bytes rest;

    buf_clear(&t->wire);
    st = tls_session_input(c->tls, data, &c->in, &t->wire, &established);
    if (t->wire.len > 0) {
        const struct status sent = stream_write(c, buf_bytes(&t->wire));

        st = status_ok(st) ? sent : st; /* Even a failed handshake says why. */
    }
    TRY(st);
    if (established && c->state == TCP_SECURING) {
        c->state = TCP_GREETING;
        if (c->dial != NULL) {
            tcp__hello_send(c, 0);
        }
    }
    rest = buf_bytes(&c->in);
    TRY(take_frames(c, &rest));
    return keep_rest(c, rest);
}

static NOYIELD void on_data(void *ctx, struct bytes data)
{
    struct tcp_conn *c = ctx;
    const struct tcp_peer *p = NULL;
    struct status st = OK;

    if (c->state == TCP_CLOSED) {
        return;
    }
    p = tcp__conn_peer(c);
    if (p == NULL || !p->drop_incoming) {
        c->waiting_ns = 0;
        c->probed = false;
    }
    st = c->tls == NULL ? take_plain(c, data) : take_tls(c, data);
    if (!status_ok(st)) {
        tcp__conn_close(c, st);
    }
}

/* --- Beginning and end --------------------------------------------------------------------- */

/* The socket stands: TLS, or at once the greeting. */
static NOYIELD struct status conn_begin(struct tcp_conn *c)
{
    struct rpc_tcp *t = c->t;

    if (t->tls == NULL) {
        c->state = TCP_GREETING;
        if (c->dial != NULL) {
            tcp__hello_send(c, 0);
        }
        return OK;
    }
    c->state = TCP_SECURING;
    TRY(tls_session_create_as(t->tls, c->dial == NULL, &c->tls));
    if (c->dial == NULL) {
        return OK;
    }
    if (c->dial->ticket != NULL) {
        tls_session_resume(c->tls, c->dial->ticket);
    }
    return take_tls(c, BYTES_EMPTY);
}

void tcp__conn_connected(void *ctx, struct status st)
{
    struct tcp_conn *c = ctx;

    if (c->state == TCP_CLOSED) {
        return;
    }
    if (!status_ok(st)) {
        c->connect_error = st; /* on_closed() follows and tries the next address. */
        return;
    }
    st = conn_begin(c);
    if (!status_ok(st)) {
        tcp__conn_close(c, st);
    }
}

static NOYIELD void on_closed(void *ctx, struct status why)
{
    struct tcp_conn *c = ctx;

    c->stream = NULL;
    if (c->state == TCP_CLOSED) {
        conn_free(c);
        return;
    }
    if (c->state == TCP_CONNECTING) {
        if (c->candidate < c->candidates_count && status_ok(tcp__link_connect_next(c))) {
            return;
        }
        why = status_ok(c->connect_error) ? why : c->connect_error;
    }
    if (status_ok(why)) {
        why = FAIL(STATUS_CLOSED, "closed by the peer");
    }
    tcp__conn_close(c, why);
}

const struct env_stream_handler tcp__conn_handler = {
    .on_data = on_data,
    .on_closed = on_closed,
};

static NOYIELD uint32_t strangers_of(const struct rpc_tcp *t, const char *host)
{
    uint32_t count = 0;

    LIST_FOREACH(it, &t->conns) {
        const struct tcp_conn *c = LIST_ENTRY(it, struct tcp_conn, link);

        count += c->dial == NULL && c->state < TCP_UP && strcmp(c->candidates[0].host, host) == 0;
    }
    return count;
}

/* Limits what strangers can make us hold: each has a buffer, and with TLS 40 KiB and our CPU. */
void tcp__conn_accepted(void *ctx, struct env_stream *s)
{
    struct rpc_tcp *t = ctx;
    struct tcp_conn *c = NULL;
    struct env_address from;
    struct status st = OK;

    env_stream_peer(t->env, s, &from);
    if (t->rpc == NULL || t->strangers >= TCP_STRANGERS_MAX ||
        strangers_of(t, from.host) >= TCP_STRANGERS_HOST || (c = tcp__conn_new(t, NULL)) == NULL) {
        env_stream_close(t->env, s);
        return;
    }
    c->candidates[0] = from;
    c->stream = s;
    t->strangers++;
    env_stream_start(t->env, s, &tcp__conn_handler, c);
    st = conn_begin(c);
    if (!status_ok(st)) {
        tcp__conn_close(c, st);
    }
}

void tcp__conn_up(struct tcp_conn *c)
{
    struct rpc_tcp *t = c->t;
    struct tcp_peer *p = tcp__conn_peer(c);

    INVARIANT(c->state == TCP_GREETING);
    c->state = TCP_UP;
    c->up_ns = shard_now_ns(t->shard);
    if (c->dial != NULL) {
        tcp__link_up(c->dial);
    } else {
        INVARIANT(t->strangers > 0);
        t->strangers--;
        if (p != NULL) {
            p->accepted[c->cls] = c;
            for (int cls = 0; cls < RPC_CLASS_COUNT; cls++) {
                tcp__link_hurry(&p->links[cls]);
            }
        }
    }
    LOG_INFO("rpc.connected", U64("node", c->node.v), U64("class", c->cls),
             U64("dialled", c->dial != NULL), STR("address", c->candidates[0].host));
    tcp__conn_flush(c);
}

/* --- Time ---------------------------------------------------------------------------------- */

/* A backlog that shrinks is a sign of life: the peer's kernel acknowledges. Without a backlog it says
 * nothing, because our own kernel takes what we write. */
static NOYIELD bool backlog_moves(struct tcp_conn *c)
{
    const size_t queued = env_stream_queued(c->t->env, c->stream);
    const uint64_t sent = c->stream_bytes - queued;
    const bool moves = c->seen_queued > 0 && sent > c->seen_sent;

    c->seen_queued = queued;
    c->seen_sent = sent;
    return moves;
}

void tcp__conn_check_time(struct tcp_conn *c, uint64_t now_ns)
{
    if (c->state < TCP_UP) {
        if (now_ns - c->opened_ns >= TCP_GREETING_NS) {
            tcp__conn_close(c, FAIL(STATUS_TIMEOUT, "no greeting within 5 s"));
        }
        return;
    }
    if (backlog_moves(c) && c->waiting_ns != 0) {
        c->waiting_ns = now_ns;
        c->probed = false;
    }
    if (c->waiting_ns == 0) {
        return;
    }
    if (now_ns - c->waiting_ns >= TCP_SILENT_NS) {
        tcp__conn_close(c, FAIL(STATUS_UNAVAILABLE, "silent for 10 s"));
    } else if (!c->probed && now_ns - c->waiting_ns >= TCP_PROBE_NS) {
        c->probed = true;
        tcp__hello_send(c, RPC_FLAG_CALL);
    }
}

void tcp__conn_tick(struct shard_timer *timer)
{
    struct rpc_tcp *t = CONTAINER_OF(timer, struct rpc_tcp, tick);
    const uint64_t now_ns = shard_now_ns(t->shard);

    t->tick_armed = false;
    LIST_FOREACH(it, &t->conns) {
        tcp__conn_check_time(LIST_ENTRY(it, struct tcp_conn, link), now_ns);
    }
    if (!list_empty(&t->conns)) {
        tick_arm(t);
    }
}

static void tick_arm(struct rpc_tcp *t)
{
    if (!t->tick_armed) {
        t->tick_armed = true;
        shard_timer_arm_in(t->shard, &t->tick, TCP_TICK_NS);
    }
}
