/*
 * tcp_hello.c -- the first frame of a connection, both ways: who are you?
 *
 *     dialler                                   listener
 *        | ---- HELLO (cluster, node, class) -----> | checks; is up
 *        | <--- HELLO --------------------------- - |
 *   checks; is up
 *
 * Body: class (u8), lowest and highest version spoken (u8, u8), address to dial back (u16, text).
 *
 * A node of another cluster, of no common version, or under our own id (a cloned disk) is refused.
 * When the listener refuses, it says its own HELLO first: the dialler then sees the same and can log
 * the reason. A node without an id says 0 and may only ask to join; what it sends later must carry 0
 * too, so no one slips in under another node's id.
 *
 * Later HELLOs are probes: one marked as a call is answered with one marked as a reply, on the same
 * connection, which is how a silent line is told from a dead one.
 */
#include "node/base/codec.h"
#include "node/rpc/tcp_internal.h"

#define HELLO_BODY_MAX (5 + TCP_ADDRESS_MAX)

_Static_assert(RPC_HEADER_BYTES + HELLO_BODY_MAX <= TCP_HELLO_MAX, "our HELLO passes the limit");

void tcp__hello_send(struct tcp_conn *c, uint8_t flags)
{
    struct rpc_header h = {.type = RPC_TYPE_HELLO, .flags = flags, .to_node = c->node};
    const size_t address_len = strlen(c->t->address);
    uint8_t frame[RPC_HEADER_BYTES + HELLO_BODY_MAX];
    uint8_t *body = frame + RPC_HEADER_BYTES;
    struct bytes part;

    rpc__identity(c->t->rpc, &h.cluster, &h.from_node, &h.from_store);
    body[0] = (uint8_t)c->cls;
    body[1] = RPC_PROTO_VERSION_MIN;
    body[2] = RPC_PROTO_VERSION;
    be16_put(body + 3, (uint16_t)address_len);
    memcpy(body + 5, c->t->address, address_len);
    part = bytes_of(body, 5 + address_len);
    rpc_frame_header_put(frame, &h, &part, 1, true);
    c->hello_as = h.from_node;
    tcp__conn_ship(c, bytes_of(frame, RPC_HEADER_BYTES + part.len));
}

struct hello {
    struct uuid cluster;
    struct rpc_message m;
    enum rpc_class cls;
    uint8_t version_min;
    uint8_t version_max;
    struct bytes address;
};

static NOYIELD struct status hello_decode(struct bytes frame, struct hello *out)
{
    enum status_code ignored = STATUS_OK;
    struct reader r;
    uint8_t cls = 0;

    TRY(rpc_frame_decode(frame, &out->m, &out->cluster, &ignored));
    r = reader_of(out->m.body);
    cls = read_u8(&r);
    out->version_min = read_u8(&r);
    out->version_max = read_u8(&r);
    out->address = read_bytes(&r, read_be16(&r));
    if (out->m.type != RPC_TYPE_HELLO || r.bad || cls >= RPC_CLASS_COUNT ||
        out->address.len >= TCP_ADDRESS_MAX ||
        memchr(out->m.body.ptr + 5, 0, out->address.len) != NULL) {
        return FAIL(STATUS_CORRUPT, "the first frame is no HELLO");
    }
    out->cls = (enum rpc_class)cls;
    return OK;
}

static NOYIELD struct status hello_check(const struct tcp_conn *c, const struct hello *h)
{
    const bool dialled = c->dial != NULL;
    struct uuid cluster;
    store_id store;
    node_id node;

    rpc__identity(c->t->rpc, &cluster, &node, &store);
    if (!rpc__cluster_may_talk(cluster, h->cluster)) {
        return FAIL(STATUS_FENCED, "a node of another cluster");
    }
    if (h->version_max < RPC_PROTO_VERSION_MIN || h->version_min > RPC_PROTO_VERSION) {
        return FAIL(STATUS_UNSUPPORTED, "no common protocol version");
    }
    if (h->m.from_node.v != 0 && h->m.from_node.v == node.v) {
        return FAIL(STATUS_FENCED, "a node with our own id");
    }
    if (h->m.to_node.v != 0 && node.v != 0 && h->m.to_node.v != node.v) {
        return FAIL(STATUS_FENCED, "it wanted another node");
    }
    if (dialled && c->node.v != 0 && h->m.from_node.v != c->node.v) {
        return FAIL(STATUS_FENCED, "another node answers at this address");
    }
    if (dialled && h->cls != c->cls) {
        return FAIL(STATUS_CORRUPT, "a HELLO of another class");
    }
    return OK;
}

/* An accepted connection has a name now: it can carry answers, and tells where to dial back. */
static NOYIELD struct status take_in(struct tcp_conn *c, const struct hello *h)
{
    struct tcp_peer *p = NULL;

    c->cls = h->cls;
    if (h->m.from_node.v == 0) {
        return OK;
    }
    p = tcp__peer(c->t, h->m.from_node);
    if (p == NULL) {
        return FAIL(STATUS_OVERLOADED, "too many nodes");
    }
    c->node = h->m.from_node;
    if (h->address.len > 0) {
        memcpy(p->address, h->address.ptr, h->address.len);
        p->address[h->address.len] = '\0';
    }
    return OK;
}

static NOYIELD bool incoming_is_cut(const struct tcp_conn *c, node_id from)
{
    const struct tcp_peer *p = map_get(&c->t->peers, from.v);

    return p != NULL && p->drop_incoming;
}

struct status tcp__hello_first(struct tcp_conn *c, struct bytes frame)
{
    struct hello h;
    struct status st = OK;

    TRY(hello_decode(frame, &h));
    if (incoming_is_cut(c, h.m.from_node)) {
        return OK; /* As if it had never arrived. */
    }
    st = hello_check(c, &h);
    if (c->dial == NULL) {
        if (status_ok(st)) {
            TRY(take_in(c, &h));
        }
        if (status_ok(st) || st.code == STATUS_FENCED || st.code == STATUS_UNSUPPORTED) {
            tcp__hello_send(c, 0);
        }
    } else if (status_ok(st)) {
        c->node = h.m.from_node;
    }
    if (status_ok(st) && c->state == TCP_GREETING) { /* Sending may have found it broken. */
        tcp__conn_up(c);
    }
    return st;
}

struct status tcp__hello_again(struct tcp_conn *c, struct bytes frame)
{
    struct hello h;

    TRY(hello_decode(frame, &h));
    if ((h.m.flags & RPC_FLAG_CALL) != 0 && !incoming_is_cut(c, h.m.from_node)) {
        tcp__hello_send(c, RPC_FLAG_REPLY);
    }
    return OK;
}
