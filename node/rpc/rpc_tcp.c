/*
 * rpc_tcp.c -- which connection a frame takes.
 *
 * To a node, in this order: the connection of the class that we dialled and that is up; one of the
 * class that the peer dialled; an attempt under way, in which frames wait; a new attempt. With no
 * address known, any connection that the peer dialled. So two nodes that talk share connections as
 * soon as one of them has dialled, and a node behind an unknown address can still be answered.
 *
 * Paths are tokens (ids of connections and of dialled addresses from one counter), looked up at each
 * use: an answer may come when its connection is long gone.
 *
 * A connection carries the id that we had when it was greeted. A node that joined or was initialised
 * since then is somebody else: such connections are dropped at their next use, and dialled anew.
 *
 * Without TLS only loopback may be listened on or dialled. There is no way around it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "node/base/invariant.h"
#include "node/rpc/tcp_internal.h"

#define REFUSALS_LOGGED_MAX 10u /* Per REFUSALS_WINDOW_NS; the rest are counted. */
#define REFUSALS_WINDOW_NS  10000000000u

static NOYIELD struct status start_listening(struct rpc_tcp *t, const struct rpc_tcp_options *o);

struct status rpc_tcp_create(const struct rpc_tcp_options *o, struct rpc_tcp **out)
{
    struct rpc_tcp *t = calloc(1, sizeof(*t));
    struct status st = OK;

    *out = NULL;
    if (t == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    t->shard = o->shard;
    t->env = shard_env(o->shard);
    t->tls = o->tls;
    map_init(&t->peers, RPC_NODES_MAX);
    map_init(&t->conns_by_id, TCP_CONNS_MAX);
    list_init(&t->peer_list);
    list_init(&t->paths);
    list_init(&t->conns);
    list_init(&t->dirty);
    buf_init(&t->wire, 2 * RPC_QUEUE_BYTES_MAX);
    t->tick.fn = tcp__conn_tick;
    rng_seed(&t->rng, env_random_u64(t->env));
    st = start_listening(t, o);
    if (!status_ok(st)) {
        rpc_tcp_destroy(t);
        return st;
    }
    *out = t;
    return OK;
}

/* "host:port" with a numeric host, "localhost", or none ("all addresses"). */
static NOYIELD struct status parse_listen(const char *text, struct env_address *out)
{
    char full[TCP_ADDRESS_MAX];
    const char *host = text[0] == ':' ? "0.0.0.0" : "";
    struct status st = OK;

    if (strncmp(text, "localhost:", 10) == 0) {
        host = "127.0.0.1";
        text += 9;
    }
    if (snprintf(full, sizeof(full), "%s%s", host, text) >= (int)sizeof(full)) {
        return FAIL(STATUS_INVALID, "the address to listen on is too long");
    }
    st = dns_parse_numeric(full, out);
    return st.code == STATUS_NOT_FOUND
               ? FAIL(STATUS_INVALID, "the address to listen on must be numeric, as in "
                                      "\"10.0.0.1:26257\"")
               : st;
}

static NOYIELD bool is_wildcard(const struct env_address *a)
{
    return strcmp(a->host, "0.0.0.0") == 0 || strcmp(a->host, "::") == 0;
}

static NOYIELD struct status set_advertised(struct rpc_tcp *t, const char *advertise,
                                            const struct env_address *bound)
{
    const bool v6 = strchr(bound->host, ':') != NULL;
    int n = 0;

    if (advertise != NULL) {
        n = snprintf(t->address, sizeof(t->address), "%s", advertise);
    } else if (is_wildcard(bound)) {
        return FAIL(STATUS_INVALID, "a node that listens on all addresses needs one to advertise");
    } else {
        n = snprintf(t->address, sizeof(t->address), v6 ? "[%s]:%u" : "%s:%u", bound->host,
                     bound->port);
    }
    return n < (int)sizeof(t->address)
               ? OK
               : FAIL(STATUS_INVALID, "the address to advertise is too long");
}

static struct status start_listening(struct rpc_tcp *t, const struct rpc_tcp_options *o)
{
    struct env_address at;

    if (o->listen == NULL) {
        const struct env_address nowhere = {.host = "0.0.0.0"};

        /* What this shard says in its HELLOs is the node's address, if it was told. */
        return o->advertise == NULL ? OK : set_advertised(t, o->advertise, &nowhere);
    }
    TRY(parse_listen(o->listen, &at));
    if (t->tls == NULL && !dns_is_loopback(&at)) {
        return FAIL(STATUS_INVALID, "without TLS (--insecure) only loopback addresses may be "
                                    "listened on");
    }
    TRY(env_listen(t->env, &at, false, tcp__conn_accepted, t, &t->listener));
    at.port = env_listener_port(t->env, t->listener);
    return set_advertised(t, o->advertise, &at);
}

void rpc_tcp_destroy(struct rpc_tcp *t)
{
    struct list *item = NULL;

    if (t == NULL) {
        return;
    }
    if (t->listener != NULL) {
        env_listener_close(t->env, t->listener);
    }
    while (!list_empty(&t->conns)) {
        tcp__conn_discard(LIST_ENTRY(t->conns.next, struct tcp_conn, link));
    }
    while ((item = list_pop_front(&t->paths)) != NULL) {
        struct tcp_link *l = LIST_ENTRY(item, struct tcp_link, link);

        tcp__link_deinit(l);
        free(l);
    }
    while ((item = list_pop_front(&t->peer_list)) != NULL) {
        struct tcp_peer *p = LIST_ENTRY(item, struct tcp_peer, link);

        for (int cls = 0; cls < RPC_CLASS_COUNT; cls++) {
            tcp__link_deinit(&p->links[cls]);
        }
        free(p);
    }
    dns_destroy(t->dns);
    shard_timer_disarm(t->shard, &t->tick);
    map_deinit(&t->peers);
    map_deinit(&t->conns_by_id);
    buf_deinit(&t->wire);
    free(t);
}

void rpc_tcp_attach(struct rpc_tcp *t, struct rpc *r)
{
    INVARIANT(r != NULL);
    t->rpc = r;
}

const char *rpc_tcp_address(const struct rpc_tcp *t)
{
    return t->address;
}

/* --- Peers --------------------------------------------------------------------------------- */

struct tcp_peer *tcp__peer(struct rpc_tcp *t, node_id node)
{
    struct tcp_peer *p = map_get(&t->peers, node.v);

    if (p != NULL || node.v == 0) {
        return p;
    }
    p = calloc(1, sizeof(*p));
    if (p == NULL || !status_ok(map_put(&t->peers, node.v, p))) {
        free(p);
        return NULL;
    }
    p->node = node;
    for (int cls = 0; cls < RPC_CLASS_COUNT; cls++) {
        tcp__link_init(&p->links[cls], t, p, (enum rpc_class)cls);
    }
    list_push_back(&t->peer_list, &p->link);
    return p;
}

struct tcp_peer *tcp__conn_peer(const struct tcp_conn *c)
{
    return c->node.v == 0 ? NULL : map_get(&c->t->peers, c->node.v);
}

void rpc_tcp_set_delay(struct rpc_tcp *t, node_id to, uint64_t delay_ns)
{
    struct tcp_peer *p = tcp__peer(t, to);

    if (p != NULL) {
        p->delay_ns = delay_ns;
    }
}

void rpc_tcp_set_cut(struct rpc_tcp *t, node_id peer, bool drop_outgoing, bool drop_incoming)
{
    struct tcp_peer *p = tcp__peer(t, peer);

    if (p != NULL) {
        p->drop_outgoing = drop_outgoing;
        p->drop_incoming = drop_incoming;
    }
}

void tcp__log_refused(struct rpc_tcp *t, const struct tcp_conn *c, const char *reason)
{
    const uint64_t now_ns = shard_now_ns(t->shard);

    if (t->refusals == 0 || now_ns - t->refusals_since_ns >= REFUSALS_WINDOW_NS) {
        if (t->refusals > REFUSALS_LOGGED_MAX) {
            LOG_WARN("rpc.peers_refused", U64("unlogged", t->refusals - REFUSALS_LOGGED_MAX));
        }
        t->refusals_since_ns = now_ns;
        t->refusals = 0;
    }
    if (t->refusals++ < REFUSALS_LOGGED_MAX) {
        LOG_WARN("rpc.peer_refused", STR("address", c->candidates[0].host), U64("node", c->node.v),
                 STR("reason", reason));
    }
}

/* --- The transport ------------------------------------------------------------------------- */

static NOYIELD node_id own_node(const struct rpc_tcp *t)
{
    struct uuid cluster;
    store_id store;
    node_id node;

    rpc__identity(t->rpc, &cluster, &node, &store);
    return node;
}

/* A usable connection, or NULL; one that was greeted under an earlier id of ours is dropped. */
static NOYIELD struct tcp_conn *still_ours(struct rpc_tcp *t, struct tcp_conn *c)
{
    if (c == NULL || c->state != TCP_UP || c->hello_as.v == own_node(t).v) {
        return c;
    }
    if (c->dial != NULL) {
        c->dial->conn = NULL;
    }
    tcp__conn_discard(c);
    return NULL;
}

static NOYIELD struct status conn_to(struct rpc_tcp *t, struct tcp_peer *p, enum rpc_class cls,
                                     struct tcp_conn **out)
{
    struct tcp_link *l = &p->links[cls];

    *out = still_ours(t, l->conn);
    if (*out != NULL && (*out)->state == TCP_UP) {
        return OK;
    }
    *out = still_ours(t, p->accepted[cls]);
    for (int any = 0; *out == NULL && p->address[0] == '\0' && any < RPC_CLASS_COUNT; any++) {
        *out = still_ours(t, p->accepted[any]);
    }
    return *out != NULL ? OK : tcp__link_conn(l, out);
}

static struct status tcp_send(void *ctx, node_id to, enum rpc_class cls, const struct bytes *parts,
                              uint32_t parts_count)
{
    struct rpc_tcp *t = ctx;
    struct tcp_peer *p = tcp__peer(t, to);
    struct tcp_conn *c = NULL;

    if (p == NULL) {
        return FAIL(STATUS_UNAVAILABLE, "not a node, or one too many");
    }
    TRY(conn_to(t, p, cls, &c));
    return tcp__conn_queue(c, parts, parts_count);
}

static NOYIELD struct tcp_link *path_by_id(struct rpc_tcp *t, uint64_t id)
{
    LIST_FOREACH(it, &t->paths) {
        struct tcp_link *l = LIST_ENTRY(it, struct tcp_link, link);

        if (l->id == id) {
            return l;
        }
    }
    return NULL;
}

static struct status tcp_send_path(void *ctx, void *path, const struct bytes *parts,
                                   uint32_t parts_count)
{
    struct rpc_tcp *t = ctx;
    const uint64_t id = (uint64_t)(uintptr_t)path;
    struct tcp_link *l = path_by_id(t, id);
    struct tcp_conn *c = l == NULL ? map_get(&t->conns_by_id, id) : l->conn;

    c = still_ours(t, c);
    if (c == NULL && l != NULL) {
        TRY(tcp__link_conn(l, &c));
    }
    if (c == NULL || (l == NULL && c->state != TCP_UP)) {
        return FAIL(STATUS_UNAVAILABLE, "the connection is gone");
    }
    return tcp__conn_queue(c, parts, parts_count);
}

/* Room for one more: the oldest path that has no connection goes. */
static NOYIELD bool forget_a_path(struct rpc_tcp *t)
{
    LIST_FOREACH(it, &t->paths) {
        struct tcp_link *l = LIST_ENTRY(it, struct tcp_link, link);

        if (l->conn == NULL) {
            tcp__link_deinit(l);
            free(l);
            t->paths_count--;
            return true;
        }
    }
    return false;
}

static NOYIELD struct status check_dialable(const struct rpc_tcp *t, const char *address)
{
    struct env_address a;
    const struct status st = dns_parse_numeric(address, &a);

    if (status_ok(st) && t->tls == NULL && !dns_is_loopback(&a)) {
        return FAIL(STATUS_INVALID, "without TLS (--insecure) only loopback addresses may be "
                                    "dialled");
    }
    return st.code == STATUS_INVALID ? st : OK;
}

static struct status tcp_open_path(void *ctx, const char *address, void **path_out)
{
    struct rpc_tcp *t = ctx;
    struct tcp_link *l = NULL;

    if (address[0] == '\0' || strlen(address) >= TCP_ADDRESS_MAX) {
        return FAIL(STATUS_INVALID, "an address is empty or too long");
    }
    TRY(check_dialable(t, address));
    LIST_FOREACH(it, &t->paths) {
        l = LIST_ENTRY(it, struct tcp_link, link);
        if (strcmp(l->address, address) == 0) {
            *path_out = (void *)(uintptr_t)l->id;
            return OK;
        }
    }
    if (t->paths_count >= TCP_PATHS_MAX && !forget_a_path(t)) {
        return FAIL(STATUS_OVERLOADED, "too many addresses are being called");
    }
    l = malloc(sizeof(*l));
    if (l == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    tcp__link_init(l, t, NULL, RPC_CLASS_CONTROL);
    l->id = ++t->last_id;
    memcpy(l->address, address, strlen(address) + 1);
    list_push_back(&t->paths, &l->link);
    t->paths_count++;
    *path_out = (void *)(uintptr_t)l->id;
    return OK;
}

static void tcp_set_address(void *ctx, node_id node, const char *address)
{
    struct rpc_tcp *t = ctx;
    struct tcp_peer *p = tcp__peer(t, node);

    if (p == NULL || strlen(address) >= TCP_ADDRESS_MAX || strcmp(p->address, address) == 0) {
        return;
    }
    memcpy(p->address, address, strlen(address) + 1);
    for (int cls = 0; cls < RPC_CLASS_COUNT; cls++) {
        tcp__link_hurry(&p->links[cls]);
    }
}

static void tcp_flush(void *ctx)
{
    struct rpc_tcp *t = ctx;

    while (!list_empty(&t->dirty)) {
        tcp__conn_flush(LIST_ENTRY(t->dirty.next, struct tcp_conn, dirty));
    }
}

struct rpc_transport rpc_tcp_transport(struct rpc_tcp *t)
{
    return (struct rpc_transport){
        .ctx = t,
        .send = tcp_send,
        .send_path = tcp_send_path,
        .open_path = tcp_open_path,
        .set_address = tcp_set_address,
        .flush = tcp_flush,
    };
}
