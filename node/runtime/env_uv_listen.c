/*
 * env_uv_listen.c -- listening sockets and watched descriptors.
 *
 * The socket is made here and not by libuv: the shards of a process share a port by SO_REUSEPORT,
 * which this libuv does not set, and an occupied port shall be known at once, not on the first
 * connection. SO_REUSEADDR lets a restarted node have its port back while old connections linger.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "node/base/invariant.h"
#include "node/base/log.h"
#include "node/runtime/env_uv_internal.h"

struct env_listener {
    uv_tcp_t tcp;
    struct env_uv *env;
    struct list link;
    uint16_t port;
    void (*on_accept)(void *ctx, struct env_stream *s);
    void *ctx;
};

struct env_watch {
    uv_poll_t poll;
    struct env_uv *env;
    struct list link;
    void (*on_ready)(void *ctx, bool readable, bool writable);
    void *ctx;
};

struct status env_uv_parse_address(const struct env_address *a, struct sockaddr_storage *out)
{
    *out = (struct sockaddr_storage){0};
    if (uv_ip4_addr(a->host, a->port, (struct sockaddr_in *)out) == 0 ||
        uv_ip6_addr(a->host, a->port, (struct sockaddr_in6 *)out) == 0) {
        return OK;
    }
    return FAIL(STATUS_INVALID, "not a numeric address");
}

static socklen_t address_size(const struct sockaddr_storage *a)
{
    return a->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

static struct status bind_socket(int fd, const struct sockaddr_storage *to, bool share_port)
{
    const int on = 1;

    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        (share_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0) ||
        bind(fd, (const struct sockaddr *)to, address_size(to)) != 0) {
        return env_uv_status(-errno);
    }
    return OK;
}

static uint16_t bound_port(const struct env_listener *l)
{
    struct sockaddr_storage at = {0};
    int size = sizeof(at);

    INVARIANT(uv_tcp_getsockname(&l->tcp, (struct sockaddr *)&at, &size) == 0);
    return ntohs(at.ss_family == AF_INET ? ((struct sockaddr_in *)&at)->sin_port
                                         : ((struct sockaddr_in6 *)&at)->sin6_port);
}

static void on_connection(uv_stream_t *server, int code)
{
    struct env_listener *l = CONTAINER_OF(server, struct env_listener, tcp);
    struct env_stream *s = NULL;
    struct status st = env_uv_status(code);

    if (status_ok(st)) {
        st = env_uv_accept(l->env, server, &s);
    }
    if (!status_ok(st)) {
        LOG_WARN("env.accept_failed", U64("port", l->port), STR("why", status_text(st)));
        return;
    }
    l->on_accept(l->ctx, s);
}

static void on_listener_gone(uv_handle_t *h)
{
    struct env_listener *l = CONTAINER_OF(h, struct env_listener, tcp);

    list_remove(&l->link);
    free(l);
}

static struct status listener_open(struct env_listener *l, int *fd,
                                   const struct sockaddr_storage *to, bool share_port)
{
    TRY(bind_socket(*fd, to, share_port));
    TRY(env_uv_status(uv_tcp_open(&l->tcp, *fd)));
    *fd = -1; /* The handle owns it. */
    return env_uv_status(uv_listen((uv_stream_t *)&l->tcp, ENV_UV_BACKLOG, on_connection));
}

struct status env_uv_listen(struct env *env, const struct env_address *at, bool share_port,
                            void (*on_accept)(void *ctx, struct env_stream *s), void *ctx,
                            struct env_listener **out)
{
    struct env_uv *e = env_uv_of(env);
    struct env_listener *l = NULL;
    struct sockaddr_storage to;
    struct status st = OK;
    int fd = -1;

    if (e->stopping) {
        return FAIL(STATUS_CLOSED, "the event loop is stopping");
    }
    TRY(env_uv_parse_address(at, &to));
    l = calloc(1, sizeof(*l));
    if (l == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a listener");
    }
    fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        free(l);
        return env_uv_status(-errno);
    }
    l->env = e;
    l->on_accept = on_accept;
    l->ctx = ctx;
    INVARIANT(uv_tcp_init(&e->loop, &l->tcp) == 0); /* Without a family it opens nothing. */
    list_push_back(&e->listeners, &l->link);
    st = listener_open(l, &fd, &to, share_port);
    if (!status_ok(st)) {
        if (fd >= 0) {
            (void)close(fd); /* Never used: nothing can be lost. */
        }
        env_uv_listener_close(l);
        return st;
    }
    l->port = bound_port(l);
    *out = l;
    return OK;
}

uint16_t env_uv_listener_port(struct env_listener *l)
{
    return l->port;
}

void env_uv_listener_close(struct env_listener *l)
{
    if (!uv_is_closing((uv_handle_t *)&l->tcp)) {
        uv_close((uv_handle_t *)&l->tcp, on_listener_gone);
    }
}

void env_uv_listeners_close(struct env_uv *e)
{
    LIST_FOREACH(it, &e->listeners) {
        env_uv_listener_close(LIST_ENTRY(it, struct env_listener, link));
    }
}

static void on_poll(uv_poll_t *p, int code, int events)
{
    struct env_watch *w = CONTAINER_OF(p, struct env_watch, poll);
    const bool failed = code < 0; /* Whoever reads or writes then learns what is wrong. */

    w->on_ready(w->ctx, failed || (events & UV_READABLE) != 0,
                failed || (events & UV_WRITABLE) != 0);
}

static void on_watch_gone(uv_handle_t *h)
{
    struct env_watch *w = CONTAINER_OF(h, struct env_watch, poll);

    list_remove(&w->link);
    free(w);
}

struct status env_uv_watch(struct env *env, int fd, bool readable, bool writable,
                           void (*on_ready)(void *ctx, bool readable, bool writable), void *ctx,
                           struct env_watch **out)
{
    struct env_uv *e = env_uv_of(env);
    const int events = (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0);
    struct env_watch *w = NULL;
    struct status st = OK;

    INVARIANT(events != 0);
    if (e->stopping) {
        return FAIL(STATUS_CLOSED, "the event loop is stopping");
    }
    w = calloc(1, sizeof(*w));
    if (w == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a watch");
    }
    st = env_uv_status(uv_poll_init(&e->loop, &w->poll, fd));
    if (!status_ok(st)) {
        free(w);
        return st;
    }
    w->env = e;
    w->on_ready = on_ready;
    w->ctx = ctx;
    list_push_back(&e->watches, &w->link);
    st = env_uv_status(uv_poll_start(&w->poll, events, on_poll));
    if (!status_ok(st)) {
        env_uv_watch_close(w);
        return st;
    }
    *out = w;
    return OK;
}

/* Takes the descriptor out of the loop at once: its owner may close it right after this call. */
void env_uv_watch_close(struct env_watch *w)
{
    if (!uv_is_closing((uv_handle_t *)&w->poll)) {
        uv_close((uv_handle_t *)&w->poll, on_watch_gone);
    }
}

void env_uv_watches_close(struct env_uv *e)
{
    LIST_FOREACH(it, &e->watches) {
        env_uv_watch_close(LIST_ENTRY(it, struct env_watch, link));
    }
}
