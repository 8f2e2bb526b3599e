/*
 * tcp_link.c -- dialling: from an address to a connection that is up, again and again.
 *
 * A link is asked for a connection when something is to be sent. It has one, starts one, or refuses:
 *
 *     last attempt good (or none)   dial at once; frames wait in the new connection
 *     last attempt failed           refuse until the pause is over; then dial, if anybody asked
 *
 * Refusing at once during the pause is what makes calls to a dead node fail fast instead of waiting
 * for their deadlines. The pause doubles from 20 ms up to 2 s, a quarter of it random, so that nodes
 * do not return in step. An attempt that failed at once (nobody listens: a process that restarts)
 * cost next to nothing, and its pause ends at 400 ms. When the peer itself dials us, the pause ends.
 *
 * A name may have several addresses: they are tried in turn within one attempt.
 */
#include <stdio.h>

#include "node/base/invariant.h"
#include "node/rpc/tcp_internal.h"

#define BACKOFF_FIRST_NS    20000000u
#define BACKOFF_MAX_NS      2000000000u
#define BACKOFF_FAST_MAX_NS 400000000u
#define FAST_FAILURE_NS     100000000u
#define STABLE_NS           1000000000u /* Up for less: as bad as an attempt that failed. */

static NOYIELD void retry_fired(struct shard_timer *timer);

void tcp__link_init(struct tcp_link *l, struct rpc_tcp *t, struct tcp_peer *peer,
                    enum rpc_class cls)
{
    *l = (struct tcp_link){.t = t, .peer = peer, .cls = cls};
    list_init(&l->link);
    l->retry.fn = retry_fired;
}

void tcp__link_deinit(struct tcp_link *l)
{
    shard_timer_disarm(l->t->shard, &l->retry);
    tls_ticket_destroy(l->ticket);
    l->ticket = NULL;
    list_remove(&l->link);
}

const char *tcp__link_address(const struct tcp_link *l)
{
    return l->peer != NULL ? l->peer->address : l->address;
}

static NOYIELD void set_pause(struct tcp_link *l, uint64_t max_ns)
{
    struct rpc_tcp *t = l->t;
    const uint64_t doubled_ns = l->backoff_ns == 0 ? BACKOFF_FIRST_NS : l->backoff_ns * 2;

    l->backoff_ns = doubled_ns < max_ns ? doubled_ns : max_ns;
    l->retry_at_ns =
        shard_now_ns(t->shard) + l->backoff_ns - rng_below(&t->rng, l->backoff_ns / 4 + 1);
    if (l->peer != NULL && l->wanted) {
        shard_timer_arm(t->shard, &l->retry, l->retry_at_ns);
    }
}

static NOYIELD void query_done(void *ctx, struct status st, const struct env_address *addresses,
                               uint32_t count)
{
    struct tcp_conn *c = ctx;

    c->query = NULL;
    if (status_ok(st)) {
        INVARIANT(count > 0 && count <= DNS_ADDRESSES_MAX);
        memcpy(c->candidates, addresses, count * sizeof(addresses[0]));
        c->candidates_count = count;
        st = tcp__link_connect_next(c);
    }
    if (!status_ok(st)) {
        tcp__conn_close(c, st);
    }
}

/* Numeric addresses connect now, names are asked for first. */
static NOYIELD struct status start_attempt(struct tcp_conn *c)
{
    struct rpc_tcp *t = c->t;
    const char *address = tcp__link_address(c->dial);
    const struct status st = dns_parse_numeric(address, &c->candidates[0]);

    if (status_ok(st)) {
        c->candidates_count = 1;
        return tcp__link_connect_next(c);
    }
    if (st.code != STATUS_NOT_FOUND) {
        return st;
    }
    if (t->dns == NULL) {
        const struct dns_options o = {.shard = t->shard};

        TRY(dns_create(&o, &t->dns));
    }
    return dns_query_start(t->dns, address, query_done, c, &c->query);
}

struct status tcp__link_connect_next(struct tcp_conn *c)
{
    struct rpc_tcp *t = c->t;
    struct status st = FAIL(STATUS_UNAVAILABLE, "no address to dial");

    while (c->candidate < c->candidates_count) {
        const struct env_address *to = &c->candidates[c->candidate++];

        if (t->tls == NULL && !dns_is_loopback(to)) {
            st = FAIL(STATUS_INVALID, "without TLS (--insecure) only loopback addresses may be "
                                      "dialled");
            continue;
        }
        st = env_connect(t->env, to, tcp__conn_connected, &tcp__conn_handler, c, &c->stream);
        if (status_ok(st)) {
            c->state = TCP_CONNECTING;
            return OK;
        }
        c->stream = NULL;
    }
    return st;
}

static NOYIELD struct status dial(struct tcp_link *l)
{
    struct tcp_conn *c = NULL;
    struct status st = OK;

    INVARIANT(l->conn == NULL);
    shard_timer_disarm(l->t->shard, &l->retry);
    l->wanted = false;
    c = tcp__conn_new(l->t, l);
    if (c == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a connection");
    }
    c->cls = l->cls;
    c->node = l->peer == NULL ? (node_id){0} : l->peer->node;
    l->conn = c;
    st = start_attempt(c);
    if (!status_ok(st)) {
        l->conn = NULL;
        tcp__conn_discard(c);
        set_pause(l, BACKOFF_MAX_NS);
    }
    return st;
}

static void retry_fired(struct shard_timer *timer)
{
    struct tcp_link *l = CONTAINER_OF(timer, struct tcp_link, retry);

    if (l->conn == NULL && l->wanted) {
        (void)dial(l); /* A failure sets the next pause. */
    }
}

struct status tcp__link_conn(struct tcp_link *l, struct tcp_conn **out)
{
    const uint64_t now_ns = shard_now_ns(l->t->shard);

    if (l->conn == NULL) {
        if (tcp__link_address(l)[0] == '\0') {
            return FAIL(STATUS_UNAVAILABLE, "the address of the node is not known");
        }
        if (l->peer != NULL && now_ns < l->retry_at_ns) {
            if (!l->wanted) {
                l->wanted = true;
                shard_timer_arm(l->t->shard, &l->retry, l->retry_at_ns);
            }
            return FAIL(STATUS_UNAVAILABLE, "the node could not be reached a moment ago");
        }
        TRY(dial(l));
    }
    *out = l->conn;
    return OK;
}

void tcp__link_up(struct tcp_link *l)
{
    struct tls_ticket *ticket = l->conn->tls == NULL ? NULL : tls_session_take_ticket(l->conn->tls);

    l->retry_at_ns = 0;
    l->failure_logged = false;
    if (ticket != NULL) {
        tls_ticket_destroy(l->ticket);
        l->ticket = ticket;
    }
}

void tcp__link_lost(struct tcp_link *l, const struct tcp_conn *c, struct status why)
{
    const uint64_t now_ns = shard_now_ns(l->t->shard);
    const bool was_up = c->up_ns != 0;

    INVARIANT(l->conn == c);
    l->conn = NULL;
    if (was_up && now_ns - c->up_ns >= STABLE_NS) {
        l->backoff_ns = 0;
        l->retry_at_ns = 0;
        return;
    }
    /* A ticket might be what the peer dislikes. */
    tls_ticket_destroy(l->ticket);
    l->ticket = NULL;
    l->wanted = l->wanted || c->out.len > 0;
    set_pause(l, now_ns - c->opened_ns < FAST_FAILURE_NS ? BACKOFF_FAST_MAX_NS : BACKOFF_MAX_NS);
    if (!l->failure_logged) {
        l->failure_logged = true;
        LOG_WARN("rpc.dial_failed", U64("node", c->node.v), STR("address", tcp__link_address(l)),
                 STR("reason", status_text(why)));
    }
}

void tcp__link_hurry(struct tcp_link *l)
{
    l->backoff_ns = 0;
    l->retry_at_ns = 0;
    if (l->conn == NULL && l->wanted) {
        shard_timer_arm_in(l->t->shard, &l->retry, 0);
    }
}
