/*
 * rpc_call.c -- calls: a message out, a fiber that waits, a reply in.
 *
 * A call stands on the stack of its fiber and is listed under its id (for the reply) and with its
 * peer (for the loss of the connection). Whoever ends it takes it off both lists first, so that a
 * second end finds nothing: a reply that comes late, twice, or from the wrong node is ignored. The
 * fiber that gives up takes its call off itself. After the wait the rpc may be gone when somebody
 * else ended the call, so the fiber touches it only when the call is still listed.
 *
 * The reply's body is copied into the arena of the caller while the frame is there: the fiber runs
 * later, when the transport's buffer has moved on.
 *
 * A handler answers through a struct rpc_reply_to, which is plain values, at any later time. The
 * answer goes where the call came from while that connection lives, and else by the node's address.
 */
#include "node/base/arena.h"
#include "node/base/invariant.h"
#include "node/rpc/rpc_internal.h"

uint64_t rpc__next_call_id(struct rpc *r)
{
    do {
        r->last_call_id++;
    } while (r->last_call_id == 0 || map_get(&r->calls, r->last_call_id) != NULL);
    return r->last_call_id;
}

static NOYIELD struct status call_list(struct rpc *r, struct rpc_call *c)
{
    struct rpc_node *n = NULL;

    if (c->path == NULL) {
        n = rpc__node(r, c->node);
        if (n == NULL) {
            return FAIL(STATUS_UNAVAILABLE, "not a node, or one too many");
        }
    }
    c->id = rpc__next_call_id(r);
    TRY(map_put(&r->calls, c->id, c));
    list_push_back(n == NULL ? &r->path_calls : &n->calls, &c->peer_link);
    c->listed = true;
    return OK;
}

static NOYIELD void call_unlist(struct rpc *r, struct rpc_call *c)
{
    void *removed = map_remove(&r->calls, c->id);

    INVARIANT(c->listed);
    INVARIANT(removed == c);
    list_remove(&c->peer_link);
    c->listed = false;
}

static NOYIELD void call_end(struct rpc *r, struct rpc_call *c, struct status st)
{
    call_unlist(r, c);
    c->st = st;
    completion_fire(&c->done);
}

/* Sends a prepared call and waits. The caller's struct is filled but for id and lists. */
static MAYYIELD struct status call_run(struct rpc *r, struct rpc_call *c, struct rpc_outgoing *o,
                                       const struct bytes *parts, uint32_t parts_count,
                                       uint64_t deadline_ns)
{
    struct status st = OK;

    INVARIANT(fiber_current() != NULL);
    list_init(&c->peer_link);
    c->unsent = true;
    TRY(call_list(r, c));
    o->call_id = c->id;
    o->flags = RPC_FLAG_CALL;
    st = rpc__send(r, o, parts, parts_count);
    if (status_ok(st)) {
        c->unsent = false; /* As far as we know; see rpc_undelivered(). */
        st = completion_wait(&c->done, deadline_ns);
    }
    if (c->listed) {
        call_unlist(r, c); /* Not sent, or we gave up. */
        return st;
    }
    return c
        ->st; /* Ended by somebody else: even if we were cancelled meanwhile, this is what we know.
                   */
}

struct status rpc_call(struct rpc *r, struct rpc_to to, enum rpc_type type,
                       const struct bytes *parts, uint32_t parts_count, uint64_t deadline_ns,
                       struct arena *arena, struct bytes *reply_out)
{
    bool unsent = false;

    return rpc_try_call(r, to, type, parts, parts_count, deadline_ns, arena, reply_out, &unsent);
}

struct status rpc_try_call(struct rpc *r, struct rpc_to to, enum rpc_type type,
                           const struct bytes *parts, uint32_t parts_count, uint64_t deadline_ns,
                           struct arena *arena, struct bytes *reply_out, bool *unsent)
{
    struct rpc_call c = {.node = to.node, .arena = arena};
    struct rpc_outgoing o = {.to = to, .type = type};
    const struct status st = call_run(r, &c, &o, parts, parts_count, deadline_ns);

    *reply_out = status_ok(st) ? c.reply : BYTES_EMPTY;
    *unsent = c.unsent;
    return st;
}

struct status rpc_call_address(struct rpc *r, const char *address, enum rpc_type type,
                               struct bytes body, uint64_t deadline_ns, struct arena *arena,
                               struct bytes *reply_out)
{
    struct rpc_call c = {.arena = arena};
    struct rpc_outgoing o = {.type = type};
    void *path = NULL;

    *reply_out = BYTES_EMPTY;
    if (r->transport.open_path == NULL) {
        return FAIL(STATUS_UNAVAILABLE, "the transport knows no paths");
    }
    TRY(r->transport.open_path(r->transport.ctx, address, &path));
    c.path = path;
    o.path = path;
    TRY(call_run(r, &c, &o, &body, 1, deadline_ns));
    *reply_out = c.reply;
    return OK;
}

struct rpc_reply_to rpc_reply_to(const struct rpc_message *m)
{
    return (struct rpc_reply_to){m->from_node, m->from_store, m->call_id, m->type, m->reply_path};
}

/* Only for answers whose connection is gone: those that live go back the way they came. */
static NOYIELD enum rpc_class reply_class(enum rpc_type type)
{
    switch (type) {
    case RPC_TYPE_SNAPSHOT:
        return RPC_CLASS_BULK;
    case RPC_TYPE_RAFT:
    case RPC_TYPE_BATCH:
    case RPC_TYPE_ADMIN:
    case RPC_TYPE_CHECKSUM:
        return RPC_CLASS_NORMAL;
    case RPC_TYPE_NONE:
    case RPC_TYPE_HELLO:
    case RPC_TYPE_PING:
    case RPC_TYPE_LIVENESS:
    case RPC_TYPE_CLOSED:
    case RPC_TYPE_RANGE:
    case RPC_TYPE_GOSSIP:
    case RPC_TYPE_JOIN:
    case RPC_TYPE_MAX:
        return RPC_CLASS_CONTROL;
    }
    return RPC_CLASS_CONTROL; /* A number from the wire. */
}

void rpc_reply(struct rpc *r, const struct rpc_reply_to *to, struct status st,
               const struct bytes *parts, uint32_t parts_count)
{
    struct rpc_outgoing o = {
        .to = {.node = to->node, .store = to->store, .cls = reply_class(to->type)},
        .path = to->path,
        .call_id = to->call_id,
        .type = to->type,
        .status = st.code,
        .flags = RPC_FLAG_REPLY,
    };
    struct bytes message = BYTES_EMPTY;

    if (to->call_id == 0) {
        return; /* A one-way message wants no answer. */
    }
    if (!status_ok(st)) {
        message = bytes_str(status_text(st));
        message.len = message.len < RPC_REPLY_MESSAGE_MAX ? message.len : RPC_REPLY_MESSAGE_MAX;
        parts = &message;
        parts_count = 1;
    }
    if (o.path != NULL && status_ok(rpc__send(r, &o, parts, parts_count))) {
        return;
    }
    o.path = NULL;
    if (o.to.node.v != 0 && !status_ok(rpc__send(r, &o, parts, parts_count))) {
        LOG_DEBUG("rpc.reply_dropped", U64("node", o.to.node.v), U64("type", o.type));
    }
}

/* A status whose message lives in the call's arena. */
static NOYIELD struct status failure_for(struct rpc_call *c, enum status_code code,
                                         struct bytes message)
{
    const char *text = arena_strndup(c->arena, (const char *)message.ptr, message.len);

    return FAIL(code, text == NULL ? status_code_text(code) : text);
}

void rpc__reply_arrived(struct rpc *r, const struct rpc_message *m, enum status_code code)
{
    struct rpc_call *c = map_get(&r->calls, m->call_id);

    if (c == NULL) {
        (void)rpc__ping_reply(r, m); /* Or a call that was given up. */
        return;
    }
    if (c->path == NULL && c->node.v != m->from_node.v) {
        r->stats.frames_refused++; /* Only the node that was asked may answer. */
        return;
    }
    if (code != STATUS_OK) {
        call_end(r, c, failure_for(c, code, m->body));
        return;
    }
    call_end(r, c, bytes_dup(c->arena, m->body, &c->reply));
}

void rpc_undelivered(struct rpc *r, struct bytes frames)
{
    struct bytes frame;

    while (status_ok(rpc_frame_split(frames, RPC_FRAME_MAX, &frame)) && frame.len > 0) {
        struct rpc_call *c =
            rpc_frame_is_call(frame) ? map_get(&r->calls, rpc_frame_call_id(frame)) : NULL;

        if (c != NULL) {
            c->unsent = true;
            call_end(r, c, FAIL(STATUS_UNAVAILABLE, "the node could not be reached"));
        }
        frames = bytes_skip(frames, frame.len);
    }
}

void rpc_peer_down(struct rpc *r, node_id node)
{
    struct rpc_node *n = map_get(&r->nodes, node.v);

    if (n == NULL) {
        return;
    }
    n->ping_call_id = 0;
    n->ping_warm = false;
    LIST_FOREACH(it, &n->calls) {
        call_end(r, LIST_ENTRY(it, struct rpc_call, peer_link),
                 FAIL(STATUS_UNAVAILABLE, "the connection to the node was lost or refused"));
    }
}

void rpc_path_down(struct rpc *r, const void *path, struct status why)
{
    const struct bytes text = bytes_str(status_text(why));

    LIST_FOREACH(it, &r->path_calls) {
        struct rpc_call *c = LIST_ENTRY(it, struct rpc_call, peer_link);

        if (c->path == path) {
            call_end(r, c, failure_for(c, why.code, text));
        }
    }
}

static NOYIELD void cancel_list(struct rpc *r, struct list *calls)
{
    LIST_FOREACH(it, calls) {
        call_end(r, LIST_ENTRY(it, struct rpc_call, peer_link),
                 FAIL(STATUS_CANCELLED, "the node is stopping"));
    }
}

void rpc__calls_cancel_all(struct rpc *r)
{
    cancel_list(r, &r->path_calls);
    LIST_FOREACH(it, &r->node_list) {
        cancel_list(r, &LIST_ENTRY(it, struct rpc_node, link)->calls);
    }
    INVARIANT(r->calls.count == 0);
}
