/*
 * dns.c -- c-ares driven by the env's descriptor watches and one timer.
 *
 * c-ares tells which descriptors it wants to hear of (socket_state()), we watch them and hand events
 * back; after everything that may change its timeouts the timer is set anew. Both halves call back
 * from inside, so nothing of ours is freed or told there: a finished query posts itself to the shard.
 *
 * A query has up to two steps: SRV records give targets, targets give addresses. SRV answers come
 * unsorted: lowest priority first, within one priority a weighted draw (RFC 2782), so that nodes that
 * join by the same record spread over the cluster. Each target is then asked for one after the other
 * until DNS_ADDRESSES_MAX addresses are known or no target is left. IPv4 goes before IPv6: "localhost"
 * should find what listens on 127.0.0.1.
 *
 * A cancelled query that c-ares still works on stays as an orphan until c-ares lets go of it.
 *
 * ares_library_init() is left out: it is for Windows and Android, and a process-wide counter.
 */
#include "node/rpc/dns.h"

#include <ares.h>
#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/base/hash.h"
#include "node/base/invariant.h"
#include "node/base/list.h"

#define SOCKETS_MAX       32u
#define SRV_TARGETS_MAX   8u
#define SERVER_TIMEOUT_MS 1000
#define SERVER_TRIES      2
#define PORT_MAX          65535u

struct dns_socket {
    struct dns *d;
    int fd;
    struct env_watch *watch; /* NULL: free slot. */
};

struct dns {
    struct shard *shard;
    struct env *env;
    ares_channel channel;
    struct shard_timer timer;
    struct dns_socket sockets[SOCKETS_MAX];
    struct list queries; /* All, orphans included. */
    uint32_t queries_count;
    bool destroying;
};

struct srv_target {
    char host[DNS_NAME_MAX + 1];
    uint16_t port;
    uint16_t priority;
    uint16_t weight;
};

struct dns_query {
    struct dns *d;
    struct list link;
    struct shard_task task; /* Tells the owner. */
    dns_done done;          /* NULL: orphan. */
    void *ctx;
    bool in_ares; /* c-ares holds a pointer to us. */
    struct status st;
    struct srv_target targets[SRV_TARGETS_MAX];
    uint32_t targets_count;
    uint32_t target; /* Being asked for. */
    struct env_address addresses[DNS_ADDRESSES_MAX];
    uint32_t count;
};

static NOYIELD void socket_state(void *ctx, ares_socket_t fd, int readable, int writable);
static NOYIELD void timer_fired(struct shard_timer *t);
static NOYIELD void query_tell(struct shard_task *t);
static NOYIELD void query_next_target(struct dns_query *q);
static NOYIELD void query_ask_srv(struct dns_query *q, const char *name);

/* --- Addresses as text --------------------------------------------------------------------- */

static NOYIELD bool parse_port(const char *text, uint16_t *out)
{
    uint32_t v = 0;

    if (*text == '\0') {
        return false;
    }
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9' || v > PORT_MAX) {
            return false;
        }
        v = v * 10 + (uint32_t)(*text - '0');
    }
    *out = (uint16_t)v;
    return v <= PORT_MAX;
}

/* "host:port" or "[host]:port" into its two halves. */
static NOYIELD struct status split_address(const char *address, char host[DNS_NAME_MAX + 1],
                                           uint16_t *port)
{
    const bool bracket = address[0] == '[';
    const char *end = bracket ? strchr(address, ']') : strrchr(address, ':');
    const char *start = bracket ? address + 1 : address;

    if (end == NULL || (bracket && end[1] != ':') || !parse_port(end + (bracket ? 2 : 1), port)) {
        return FAIL(STATUS_INVALID, "an address must look like \"host:port\"");
    }
    if (end == start || (size_t)(end - start) > DNS_NAME_MAX ||
        (!bracket && memchr(start, ':', (size_t)(end - start)) != NULL)) {
        return FAIL(STATUS_INVALID, "an address must look like \"host:port\" or \"[v6]:port\"");
    }
    memcpy(host, start, (size_t)(end - start));
    host[end - start] = '\0';
    return OK;
}

static NOYIELD bool is_numeric(const char *host)
{
    uint8_t raw[16];

    return inet_pton(AF_INET, host, raw) == 1 || inet_pton(AF_INET6, host, raw) == 1;
}

struct status dns_parse_numeric(const char *address, struct env_address *out)
{
    char host[DNS_NAME_MAX + 1];

    if (address[0] == '_') {
        return FAIL(STATUS_NOT_FOUND, "a service name");
    }
    TRY(split_address(address, host, &out->port));
    if (!is_numeric(host)) {
        return FAIL(STATUS_NOT_FOUND, "a name");
    }
    INVARIANT(strlen(host) < sizeof(out->host));
    memcpy(out->host, host, strlen(host) + 1);
    return OK;
}

bool dns_is_loopback(const struct env_address *a)
{
    return env_host_is_loopback(a->host);
}

/* --- c-ares and the loop ------------------------------------------------------------------- */

struct status dns_create(const struct dns_options *o, struct dns **out)
{
    struct dns *d = calloc(1, sizeof(*d));
    struct ares_options options = {
        .timeout = SERVER_TIMEOUT_MS,
        .tries = SERVER_TRIES,
        .sock_state_cb = socket_state,
        .sock_state_cb_data = d,
    };
    int rc = 0;

    *out = NULL;
    if (d == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    d->shard = o->shard;
    d->env = shard_env(o->shard);
    d->timer.fn = timer_fired;
    list_init(&d->queries);
    rc = ares_init_options(&d->channel, &options,
                           ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB);
    if (rc != ARES_SUCCESS) {
        free(d);
        return FAIL(STATUS_IO, "could not set up the name resolver");
    }
    if (o->servers != NULL && ares_set_servers_ports_csv(d->channel, o->servers) != ARES_SUCCESS) {
        dns_destroy(d);
        return FAIL(STATUS_INVALID, "the name servers are not \"host:port\" pairs");
    }
    *out = d;
    return OK;
}

void dns_destroy(struct dns *d)
{
    struct list *item = NULL;

    if (d == NULL) {
        return;
    }
    d->destroying = true;
    ares_destroy(d->channel); /* Ends all queries, closes all sockets. */
    while ((item = list_pop_front(&d->queries)) != NULL) {
        struct dns_query *q = LIST_ENTRY(item, struct dns_query, link);

        shard_unpost(d->shard, &q->task);
        free(q);
    }
    shard_timer_disarm(d->shard, &d->timer);
    free(d);
}

static NOYIELD void arm_timer(struct dns *d)
{
    struct timeval left;

    if (d->destroying) {
        return;
    }
    if (ares_timeout(d->channel, NULL, &left) == NULL) {
        shard_timer_disarm(d->shard, &d->timer);
        return;
    }
    shard_timer_arm_in(d->shard, &d->timer,
                       (uint64_t)left.tv_sec * 1000000000u + (uint64_t)left.tv_usec * 1000u);
}

static void timer_fired(struct shard_timer *t)
{
    struct dns *d = CONTAINER_OF(t, struct dns, timer);

    ares_process_fd(d->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    arm_timer(d);
}

static NOYIELD void socket_ready(void *ctx, bool readable, bool writable)
{
    struct dns_socket *s = ctx;
    struct dns *d = s->d;
    const int fd = s->fd;

    ares_process_fd(d->channel, readable ? fd : ARES_SOCKET_BAD, writable ? fd : ARES_SOCKET_BAD);
    arm_timer(d);
}

static NOYIELD struct dns_socket *socket_slot(struct dns *d, int fd)
{
    struct dns_socket *unused = NULL;

    for (size_t i = 0; i < SOCKETS_MAX; i++) {
        struct dns_socket *s = &d->sockets[i];

        if (s->watch != NULL && s->fd == fd) {
            return s;
        }
        if (s->watch == NULL && unused == NULL) {
            unused = s;
        }
    }
    return unused;
}

/* Without a slot or a watch the query runs into its timeout. */
static void socket_state(void *ctx, ares_socket_t fd, int readable, int writable)
{
    struct dns *d = ctx;
    struct dns_socket *s = socket_slot(d, fd);

    if (s == NULL) {
        return;
    }
    if (s->watch != NULL) {
        env_watch_close(d->env, s->watch);
        s->watch = NULL;
    }
    if (readable != 0 || writable != 0) {
        s->d = d;
        s->fd = fd;
        if (!status_ok(env_watch_fd(d->env, fd, readable != 0, writable != 0, socket_ready, s,
                                    &s->watch))) {
            s->watch = NULL;
        }
    }
}

/* --- Queries ------------------------------------------------------------------------------- */

struct status dns_query_start(struct dns *d, const char *address, dns_done done, void *ctx,
                              struct dns_query **out)
{
    const bool srv = address[0] == '_';
    struct dns_query *q = NULL;
    struct status st = OK;

    *out = NULL;
    if (d->queries_count >= DNS_QUERIES_MAX) {
        return FAIL(STATUS_OVERLOADED, "too many names are being resolved");
    }
    if (srv && strlen(address) > DNS_NAME_MAX) {
        return FAIL(STATUS_INVALID, "a service name is too long");
    }
    q = calloc(1, sizeof(*q));
    if (q == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    if (!srv) {
        st = split_address(address, q->targets[0].host, &q->targets[0].port);
        q->targets_count = 1;
    }
    if (!status_ok(st)) {
        free(q);
        return st;
    }
    q->d = d;
    q->done = done;
    q->ctx = ctx;
    q->task.fn = query_tell;
    list_push_back(&d->queries, &q->link);
    d->queries_count++;
    *out = q;
    if (srv) {
        query_ask_srv(q, address);
    } else {
        query_next_target(q);
    }
    arm_timer(d);
    return OK;
}

static NOYIELD void query_free(struct dns_query *q)
{
    INVARIANT(!q->in_ares);
    list_remove(&q->link);
    q->d->queries_count--;
    free(q);
}

void dns_query_cancel(struct dns_query *q)
{
    if (q == NULL) {
        return;
    }
    q->done = NULL;
    shard_unpost(q->d->shard, &q->task);
    if (!q->in_ares) {
        query_free(q);
    }
}

static void query_tell(struct shard_task *t)
{
    struct dns_query *q = CONTAINER_OF(t, struct dns_query, task);

    /* Off the list first: the owner may destroy the resolver. */
    list_remove(&q->link);
    q->d->queries_count--;
    INVARIANT(!q->in_ares);
    INVARIANT(q->done != NULL);
    q->done(q->ctx, q->st, q->addresses, q->count);
    free(q);
}

static NOYIELD void query_end(struct dns_query *q, struct status st)
{
    q->st = q->count > 0 ? OK : st;
    shard_post(q->d->shard, &q->task);
}

static NOYIELD struct status resolver_failed(int code)
{
    switch (code) {
    case ARES_ENODATA:
    case ARES_ENOTFOUND:
    case ARES_ENONAME:
        return FAIL(STATUS_UNAVAILABLE, "the name is not known to the name servers");
    case ARES_ETIMEOUT:
    case ARES_ECONNREFUSED:
        return FAIL(STATUS_UNAVAILABLE, "no name server answers");
    default: /* Of many; all mean: try later. */
        return FAIL(STATUS_UNAVAILABLE, "the name could not be resolved");
    }
}

/* True when c-ares called for the last time: the query is an orphan or everything ends. */
static NOYIELD bool query_left_alone(struct dns_query *q)
{
    q->in_ares = false;
    if (q->d->destroying) {
        return true; /* dns_destroy() frees it. */
    }
    if (q->done == NULL) {
        query_free(q);
        return true;
    }
    return false;
}

static NOYIELD void add_addresses(struct dns_query *q, const struct ares_addrinfo *info, int family)
{
    const uint16_t port = q->targets[q->target].port;

    for (const struct ares_addrinfo_node *n = info->nodes; n != NULL; n = n->ai_next) {
        struct env_address *a = &q->addresses[q->count];
        const void *raw = NULL;

        if (n->ai_family != family || q->count == DNS_ADDRESSES_MAX) {
            continue;
        }
        raw = family == AF_INET
                  ? (const void *)&((struct sockaddr_in *)(void *)n->ai_addr)->sin_addr
                  : &((struct sockaddr_in6 *)(void *)n->ai_addr)->sin6_addr;
        if (inet_ntop(family, raw, a->host, sizeof(a->host)) != NULL) {
            a->port = port;
            q->count++;
        }
    }
}

static void addresses_arrived(void *ctx, int status, int timeouts, struct ares_addrinfo *info)
{
    struct dns_query *q = ctx;

    UNUSED(timeouts);
    if (query_left_alone(q)) {
        ares_freeaddrinfo(info);
        return;
    }
    if (status == ARES_SUCCESS) {
        add_addresses(q, info, AF_INET);
        add_addresses(q, info, AF_INET6);
    } else {
        q->st = resolver_failed(status);
    }
    ares_freeaddrinfo(info);
    q->target++;
    query_next_target(q);
}

static void query_next_target(struct dns_query *q)
{
    /* Our own order, see above; and sorting by c-ares opens sockets to find routes. */
    const struct ares_addrinfo_hints hints = {.ai_flags = ARES_AI_NOSORT, .ai_family = AF_UNSPEC};

    if (q->target == q->targets_count || q->count == DNS_ADDRESSES_MAX) {
        query_end(q,
                  status_ok(q->st) ? FAIL(STATUS_UNAVAILABLE, "the name has no addresses") : q->st);
        return;
    }
    q->in_ares = true;
    ares_getaddrinfo(q->d->channel, q->targets[q->target].host, NULL, &hints, addresses_arrived, q);
}

/* Moves the next target to the front of those from `at` on: least priority, then by weight. */
static NOYIELD void draw_target(struct dns_query *q, uint32_t at, struct rng *g)
{
    uint32_t sum = 0;
    uint32_t pick = at;
    uint64_t draw = 0;
    struct srv_target t;

    for (uint32_t i = at; i < q->targets_count; i++) {
        if (q->targets[i].priority < q->targets[pick].priority) {
            pick = i;
        }
    }
    t.priority = q->targets[pick].priority;
    for (uint32_t i = at; i < q->targets_count; i++) {
        sum += q->targets[i].priority == t.priority ? q->targets[i].weight + 1u : 0u;
    }
    draw = rng_below(g, sum);
    for (uint32_t i = at; i < q->targets_count; i++) {
        if (q->targets[i].priority != t.priority) {
            continue;
        }
        if (draw <= q->targets[i].weight) {
            pick = i;
            break;
        }
        draw -= q->targets[i].weight + 1u;
    }
    t = q->targets[at];
    q->targets[at] = q->targets[pick];
    q->targets[pick] = t;
}

static NOYIELD void take_targets(struct dns_query *q, const struct ares_srv_reply *list)
{
    struct rng g;

    for (; list != NULL && q->targets_count < SRV_TARGETS_MAX; list = list->next) {
        struct srv_target *t = &q->targets[q->targets_count];

        if (strlen(list->host) > 0 && strlen(list->host) <= DNS_NAME_MAX) {
            memcpy(t->host, list->host, strlen(list->host) + 1);
            t->port = list->port;
            t->priority = list->priority;
            t->weight = list->weight;
            q->targets_count++;
        }
    }
    rng_seed(&g, env_random_u64(q->d->env));
    for (uint32_t i = 0; i + 1 < q->targets_count; i++) {
        draw_target(q, i, &g);
    }
}

static void srv_arrived(void *ctx, int status, int timeouts, unsigned char *answer, int size)
{
    struct dns_query *q = ctx;
    struct ares_srv_reply *list = NULL;

    UNUSED(timeouts);
    if (query_left_alone(q)) {
        return;
    }
    if (status == ARES_SUCCESS) {
        status = ares_parse_srv_reply(answer, size, &list);
    }
    if (status != ARES_SUCCESS) {
        query_end(q, resolver_failed(status));
        return;
    }
    take_targets(q, list);
    ares_free_data(list);
    query_next_target(q);
}

static void query_ask_srv(struct dns_query *q, const char *name)
{
    q->in_ares = true;
    ares_query(q->d->channel, name, ns_c_in, ns_t_srv, srv_arrived, q);
}
