/*
 * pgwire.c -- the server: accepting, counting, finding a connection by its key, stopping.
 *
 * A connection is counted twice: as a socket (connections_max + PGWIRE_LOGIN_MAX) and, once it has
 * logged in, as a client (connections_max). Strangers that connect and say nothing take the first
 * kind only, so they cannot shut out clients, and PGWIRE_LOGIN_NS ends them.
 *
 * A backend pid is node (10 bits), shard (6 bits) and a counter (16 bits), as a cancel request that
 * reaches any node must lead to the right one. Today only the own shard is searched.
 */
#include "node/pgwire/pgwire.h"

#include <stdlib.h>

#include "node/base/invariant.h"
#include "node/base/log.h"
#include "node/pgwire/pgwire_internal.h"

static void on_accept(void *ctx, struct env_stream *s)
{
    struct pgwire *p = ctx;

    if (p->stopping || p->conns_count >= p->o.connections_max + PGWIRE_LOGIN_MAX) {
        env_stream_close(p->env, s);
        return;
    }
    conn__open(p, s);
}

static void on_stop_timeout(struct shard_timer *t)
{
    struct pgwire *p = LIST_ENTRY(t, struct pgwire, stop_timer);

    LIST_FOREACH(it, &p->conns) {
        conn__abort(LIST_ENTRY(it, struct conn, link));
    }
}

struct status pgwire_create(const struct pgwire_options *o, struct pgwire **out)
{
    struct pgwire *p = NULL;
    struct status st = OK;

    if (o->auth == PGWIRE_AUTH_CERT && o->tls == NULL) {
        return FAIL(STATUS_INVALID, "authentication by certificate needs TLS");
    }
    if (o->connections_max > PGWIRE_CONNECTIONS_MAX) {
        return FAIL(STATUS_INVALID, "connections_max is too large");
    }
    p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for the SQL port");
    }
    p->o = *o;
    if (p->o.connections_max == 0) {
        p->o.connections_max = PGWIRE_CONNECTIONS_DEFAULT;
    }
    p->env = shard_env(o->shard);
    p->stop_timer.fn = on_stop_timeout;
    p->stop_at_ns = DEADLINE_NONE;
    list_init(&p->conns);
    list_init(&p->pool);
    map_init(&p->by_pid, PGWIRE_CONNECTIONS_MAX);
    st = env_listen(p->env, &o->listen, o->share_port, on_accept, p, &p->listener);
    if (!status_ok(st)) {
        map_deinit(&p->by_pid);
        free(p);
        return st;
    }
    p->port = env_listener_port(p->env, p->listener);
    *out = p;
    return OK;
}

uint16_t pgwire_port(const struct pgwire *p)
{
    return p->port;
}

uint32_t pgwire_connections(const struct pgwire *p)
{
    return p->conns_count;
}

void pgwire_stop(struct pgwire *p, uint64_t drain_ns)
{
    const uint64_t now = shard_now_ns(p->o.shard);
    const uint64_t at = drain_ns > UINT64_MAX - now ? UINT64_MAX - 1 : now + drain_ns;

    p->stopping = true;
    if (p->conns_count == 0) {
        sql_stop(p->o.sql); /* Otherwise behind the last connection. */
    }
    if (p->listener != NULL) {
        env_listener_close(p->env, p->listener);
        p->listener = NULL;
    }
    if (at < p->stop_at_ns) {
        p->stop_at_ns = at;
        shard_timer_arm(p->o.shard, &p->stop_timer, at);
    }
    LIST_FOREACH(it, &p->conns) {
        wait_queue_wake_all(&LIST_ENTRY(it, struct conn, link)->waiters);
    }
}

bool pgwire_stopped(const struct pgwire *p)
{
    return p->stopping && p->conns_count == 0 && sql_stopped(p->o.sql);
}

void pgwire_destroy(struct pgwire *p)
{
    struct list *it = NULL;

    if (p == NULL) {
        return;
    }
    INVARIANT(p->conns_count == 0);
    if (p->listener != NULL) {
        env_listener_close(p->env, p->listener);
    }
    shard_timer_disarm(p->o.shard, &p->stop_timer);
    while ((it = list_pop_front(&p->pool)) != NULL) {
        conn__free_work(LIST_ENTRY(it, struct wire_work, link));
    }
    map_deinit(&p->by_pid);
    free(p);
}

static uint32_t pid_of(const struct pgwire *p, uint32_t counter)
{
    return (p->o.node & 0x3ff) << 22 | (shard_index(p->o.shard) & 0x3f) << 16 | counter;
}

struct status pgwire__login(struct pgwire *p, struct conn *c)
{
    uint32_t pid = 0;

    if (p->logged_in_count >= p->o.connections_max) {
        return FAIL(STATUS_OVERLOADED, "sorry, too many clients already");
    }
    /* Ends: there are more counters than connections. */
    do {
        p->next_pid = p->next_pid % 0xffff + 1;
        pid = pid_of(p, p->next_pid);
    } while (map_get(&p->by_pid, pid) != NULL);
    TRY(map_put(&p->by_pid, pid, c));
    c->pid = pid;
    env_random(p->env, &c->key, sizeof(c->key));
    c->logged_in = true;
    p->logged_in_count++;
    return OK;
}

void pgwire__logout(struct pgwire *p, struct conn *c)
{
    if (c->logged_in) {
        (void)map_remove(&p->by_pid, c->pid);
        c->logged_in = false;
        p->logged_in_count--;
    }
}

void pgwire__cancel(struct pgwire *p, uint32_t pid, uint32_t key)
{
    struct conn *c = map_get(&p->by_pid, pid);

    if (c != NULL && c->key == key && c->running) {
        session_cancel(c->session);
    }
}
