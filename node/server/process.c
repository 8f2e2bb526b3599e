/*
 * process.c -- threads, files, ports and signals around the nodes of the shards.
 *
 * Everything that can be refused is refused before anything starts: flags, the store's lock, ports,
 * certificates. Then one thread per shard runs its loop. SIGTERM drains: clients are told 57P01, leases
 * are handed over, every write ends. A second signal ends the process at once.
 */
#include "node/server/process.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "node/base/invariant.h"
#include "node/pgwire/pgwire.h"
#include "node/rpc/rpc_tcp.h"
#include "node/rpc/tls.h"
#include "node/runtime/env_uv.h"
#include "node/runtime/fiber.h"
#include "node/server/http.h"
#include "regions/topology/rtt.h"

#define DRAIN_NS      ((uint64_t)3000000000)
#define OPEN_TRIES    30
#define OPEN_PAUSE_US 100000u
#define STOP_POLL_NS  ((uint64_t)10000000)

struct process {
    struct config c;
    struct arena arena; /* Of start: messages, addresses. */
    struct process_shard shards[NODE_SHARDS_MAX];
    pthread_t threads[NODE_SHARDS_MAX];
    struct log_sink *log;
    struct tls_config *tls_rpc;
    struct tls_config *tls_sql;
    struct env_address sql_address;
    struct env_listener *sql_reserved; /* Holds the port until pgwire listens itself. */
    struct http *http;
    struct rtt_matrix *rtt;
    struct shard_timer delay_timer;
    uint64_t delays_digest; /* Registry for which link delays were set. */
    uint32_t shards_ready;
    bool stopping;
    int exit_code;
};

struct process_shard *process_first(struct process *p)
{
    return &p->shards[0];
}

uint32_t process_shards(const struct process *p)
{
    return p->c.shards;
}

const struct config *process_config(const struct process *p)
{
    return &p->c;
}

/* ---- simulated network of the demo --------------------------------------------------------------- */

static struct status node_locality(const struct node_desc *d, struct arena *arena,
                                   struct locality *out)
{
    return locality_parse(bytes_str(arena_printf(arena, "region=%s,zone=%s", d->region, d->zone)),
                          arena, out);
}

static void set_delays(struct process *p)
{
    struct process_shard *ps = &p->shards[0];
    const struct registry *r = node_registry(ps->node);
    struct arena arena;

    if (r->digest == p->delays_digest) {
        return;
    }
    arena_init(&arena, 0);
    p->delays_digest = r->digest;
    for (uint32_t i = 0; i < r->count; i++) {
        struct locality there;
        uint32_t us = 0;

        if (status_ok(node_locality(&r->nodes[i], &arena, &there)) &&
            status_ok(rtt_one_way(p->rtt, &p->c.locality, &there, &us))) {
            rpc_tcp_set_delay(ps->tcp, r->nodes[i].id, (uint64_t)us * 1000u);
        }
    }
    arena_deinit(&arena);
}

static void on_delay_timer(struct shard_timer *t)
{
    struct process *p = CONTAINER_OF(t, struct process, delay_timer);

    set_delays(p);
    shard_timer_arm_in(p->shards[0].shard, t, 20 * STOP_POLL_NS);
}

static struct status load_rtt(struct process *p)
{
    struct buf text = {0};
    char chunk[1024];
    size_t n = 0;
    FILE *f = fopen(p->c.rtt_file, "re");
    struct status st = OK;

    if (f == NULL) {
        return FAIL(STATUS_IO, arena_printf(&p->arena, "could not open \"%s\": %s", p->c.rtt_file,
                                            strerror(errno)));
    }
    while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0) {
        TRY_OUT(buf_append(&text, chunk, n));
    }
    p->rtt = calloc(1, sizeof(*p->rtt));
    INVARIANT(p->rtt != NULL);
    TRY_OUT(rtt_parse(buf_bytes(&text), &p->arena, p->rtt));
out:
    (void)fclose(f);
    buf_deinit(&text);
    return st;
}

/* ---- stopping ------------------------------------------------------------------------------------ */

static MAYYIELD void stop_fiber(void *arg)
{
    struct process_shard *ps = arg;
    const uint64_t deadline = env_mono_ns(ps->env) + 2 * DRAIN_NS;

    if (ps->pgwire != NULL) {
        pgwire_stop(ps->pgwire, DRAIN_NS);
        while (!pgwire_stopped(ps->pgwire) && env_mono_ns(ps->env) < deadline &&
               status_ok(fiber_sleep(STOP_POLL_NS))) {
        }
    }
    node_stop(ps->node, deadline);
    ps->stopped = true;
    env_uv_stop(ps->env);
}

static void stop_shard(struct process_shard *ps)
{
    if (!status_ok(fiber_spawn(ps->shard, "process.stop", stop_fiber, ps))) {
        env_uv_stop(ps->env);
    }
}

struct stop_parcel {
    struct shard_parcel parcel;
    struct process_shard *ps;
};

static void deliver_stop(struct shard *to, struct shard_parcel *parcel)
{
    struct stop_parcel *sp = CONTAINER_OF(parcel, struct stop_parcel, parcel);

    if (to != NULL) {
        stop_shard(sp->ps);
    }
    free(sp);
}

void process_stop(struct process *p)
{
    if (p->stopping) {
        return;
    }
    p->stopping = true;
    LOG_INFO("process.stopping");
    for (uint32_t i = 1; i < p->c.shards; i++) {
        struct stop_parcel *sp = malloc(sizeof(*sp));

        INVARIANT(sp != NULL);
        *sp = (struct stop_parcel){{.deliver = deliver_stop}, &p->shards[i]};
        if (!status_ok(shard_post_remote(p->shards[i].shard, &sp->parcel))) {
            free(sp);
            env_uv_stop(p->shards[i].env);
        }
    }
    stop_shard(&p->shards[0]);
}

static void on_signal(void *ctx, int signum)
{
    struct process *p = ctx;

    if (p->stopping) {
        _exit(128 + signum);
    }
    process_stop(p);
}

static void on_fatal(void *ctx, struct status why)
{
    struct process_shard *ps = ctx;

    UNUSED(ps);
    (void)fprintf(stderr, "dsqld: %s: this process stops at once, its replicas carry on\n",
                  status_text(why));
    (void)fflush(stderr);
    _exit(why.code == STATUS_DISK_FULL ? 74 : 70);
}

/* ---- starting ------------------------------------------------------------------------------------ */

static void on_ready(void *ctx, struct status st)
{
    struct process_shard *ps = ctx;
    struct process *p = ps->process;
    struct pgwire_options o = {
        .shard = ps->shard,
        .listen = p->sql_address,
        .share_port = true,
        .tls = p->tls_sql,
        .auth = p->c.insecure ? PGWIRE_AUTH_TRUST_LOOPBACK : PGWIRE_AUTH_CERT,
    };

    if (status_ok(st)) {
        o.sql = node_sql(ps->node);
        o.node = node_ident(ps->node).node.v;
        st = pgwire_create(&o, &ps->pgwire);
    }
    if (!status_ok(st) && st.code != STATUS_CANCELLED) {
        (void)fprintf(stderr, "dsqld: could not start: %s\n", status_text(st));
        p->exit_code = EXIT_FAILURE;
        if (ps->index == 0) {
            process_stop(p);
        } else {
            _exit(EXIT_FAILURE);
        }
        return;
    }
    if (ps->index == 0 && p->sql_reserved != NULL) {
        env_listener_close(ps->env, p->sql_reserved);
        p->sql_reserved = NULL;
    }
}

static void refuse_early(void *ctx, struct env_stream *s)
{
    struct process_shard *ps = ctx;

    env_stream_close(ps->env, s);
}

static struct status make_directory(struct process *p, const char *path)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return FAIL(STATUS_IO, arena_printf(&p->arena, "could not create directory \"%s\": %s",
                                            path, strerror(errno)));
    }
    return OK;
}

static struct status open_engine(struct process *p, struct process_shard *ps)
{
    const struct engine_options o = {
        .path = arena_printf(&p->arena, "%s/shard-%u", p->c.store_path, ps->index),
        .block_cache_bytes = (size_t)p->c.cache_mib << 20,
        .create_if_missing = true,
    };
    struct status st = engine_open_rocksdb(&o, &p->arena, &ps->engine);

    /* A killed predecessor may hold the lock until the system has taken its memory apart. */
    for (int i = 0; i < OPEN_TRIES && st.code == STATUS_IO; i++) {
        /* lint-allow(banned): nothing runs yet that this could hold up. */
        (void)usleep(OPEN_PAUSE_US);
        st = engine_open_rocksdb(&o, &p->arena, &ps->engine);
    }
    return st;
}

static struct status load_tls(struct process *p)
{
    struct tls_config_options o = {
        .ca_file = arena_printf(&p->arena, "%s/ca.crt", p->c.certs_dir),
        .cert_file = arena_printf(&p->arena, "%s/node.crt", p->c.certs_dir),
        .key_file = arena_printf(&p->arena, "%s/node.key", p->c.certs_dir),
        .server = true,
        .require_peer_cert = true,
        .expect_name = "node",
    };

    TRY(tls_config_load(&o, &p->arena, &p->tls_rpc));
    o.expect_name = NULL;
    return tls_config_load(&o, &p->arena, &p->tls_sql);
}

static struct status create_shard(struct process *p, struct process_shard *ps)
{
    TRY(env_uv_create(&(struct env_uv_options){0}, &ps->env));
    return shard_create(&(struct shard_options){.env = ps->env, .index = ps->index, .log = p->log},
                        &ps->shard);
}

static struct status listen_rpc(struct process *p, struct process_shard *ps)
{
    const struct rpc_tcp_options o = {
        .shard = ps->shard,
        .listen = ps->index == 0 ? p->c.listen_rpc : NULL,
        .advertise = p->c.advertise_rpc,
        .tls = p->tls_rpc,
    };
    const struct status st = rpc_tcp_create(&o, &ps->tcp);

    return status_ok(st) ? OK
                         : FAIL(st.code, arena_printf(&p->arena, "--listen-rpc %s: %s",
                                                      p->c.listen_rpc, status_text(st)));
}

/* The port for clients is ours from the start, so that a wrong one is refused now; who comes before
 * SQL works is turned away. */
static struct status reserve_sql(struct process *p)
{
    struct process_shard *ps = &p->shards[0];
    struct status st = OK;

    TRY(config_address(p->c.listen_sql, &p->arena, &p->sql_address));
    if (p->c.insecure && !env_host_is_loopback(p->sql_address.host)) {
        return FAIL(STATUS_INVALID, "--insecure listens on loopback only: give --listen-sql a "
                                    "loopback address, or --certs-dir");
    }
    st = env_listen(ps->env, &p->sql_address, false, refuse_early, ps, &p->sql_reserved);
    if (status_ok(st)) { /* Free. Now so that pgwire may listen beside it. */
        p->sql_address.port = env_listener_port(ps->env, p->sql_reserved);
        env_listener_close(ps->env, p->sql_reserved);
        st = env_listen(ps->env, &p->sql_address, true, refuse_early, ps, &p->sql_reserved);
    }
    return status_ok(st) ? OK
                         : FAIL(st.code, arena_printf(&p->arena, "--listen-sql %s: %s",
                                                      p->c.listen_sql, status_text(st)));
}

static void fill_self(struct process *p, struct node_desc *d)
{
    const bool v6 = strchr(p->sql_address.host, ':') != NULL;

    *d = (struct node_desc){.pid = (uint32_t)getpid()};
    (void)snprintf(d->rpc_address, sizeof(d->rpc_address), "%s", rpc_tcp_address(p->shards[0].tcp));
    (void)snprintf(d->sql_address, sizeof(d->sql_address), v6 ? "[%s]:%u" : "%s:%u",
                   p->sql_address.host, p->sql_address.port);
    (void)snprintf(d->http_address, sizeof(d->http_address), "%s", http_address(p->http));
    (void)snprintf(d->region, sizeof(d->region), "%s", locality_region(&p->c.locality));
    (void)snprintf(d->zone, sizeof(d->zone), "%s", locality_zone(&p->c.locality));
}

static struct status create_node(struct process *p, struct process_shard *ps)
{
    struct node_options o = {
        .shard = ps->shard,
        .engine = ps->engine,
        .transport = rpc_tcp_transport(ps->tcp),
        .join_count = p->c.join_count,
        .shards_count = p->c.shards,
        .max_offset_ns = p->c.max_offset_ms * 1000000u,
        .voters_wanted = p->c.voters,
        .range_bytes_max = (uint64_t)p->c.range_max_kib << 10,
        .merge_after_ns = (uint64_t)p->c.merge_after_s * 1000000000u,
        .gc_ttl_ns = (uint64_t)p->c.gc_ttl_s * 1000000000u,
        .check_period_ns = (uint64_t)p->c.check_period_s * 1000000000u,
        .dead_after_ns = (uint64_t)p->c.dead_after_s * 1000000000u,
        .on_ready = on_ready,
        .on_fatal = on_fatal,
        .ctx = ps,
    };

    fill_self(p, &o.self);
    memcpy(o.join, p->c.join, sizeof(o.join));
    for (uint32_t i = 0; i < p->c.shards; i++) {
        o.shards[i] = p->shards[i].shard;
    }
    TRY(node_create(&o, &ps->node));
    rpc_tcp_attach(ps->tcp, node_rpc(ps->node));
    return OK;
}

static struct status open_http(struct process *p)
{
    const struct http_options o = {
        .process = p, .shard = p->shards[0].shard, .listen = p->c.listen_http};
    const struct status st = http_create(&o, &p->arena, &p->http);

    return status_ok(st) ? OK
                         : FAIL(st.code, arena_printf(&p->arena, "--listen-http %s: %s",
                                                      p->c.listen_http, status_text(st)));
}

static struct status open_all(struct process *p)
{
    if (p->c.rtt_file != NULL) {
        TRY(load_rtt(p));
    }
    if (!p->c.insecure) {
        TRY(load_tls(p));
    }
    TRY(make_directory(p, p->c.store_path));
    for (uint32_t i = 0; i < p->c.shards; i++) {
        p->shards[i] = (struct process_shard){.process = p, .index = i};
        TRY(open_engine(p, &p->shards[i]));
        TRY(create_shard(p, &p->shards[i]));
    }
    TRY(reserve_sql(p));
    TRY(open_http(p));
    for (uint32_t i = 0; i < p->c.shards; i++) {
        TRY(listen_rpc(p, &p->shards[i]));
    }
    for (uint32_t i = 0; i < p->c.shards; i++) {
        TRY(create_node(p, &p->shards[i]));
    }
    if (p->rtt != NULL) {
        p->delay_timer.fn = on_delay_timer;
        shard_timer_arm_in(p->shards[0].shard, &p->delay_timer, 0);
    }
    TRY(env_uv_on_signal(p->shards[0].env, SIGTERM, on_signal, p));
    return env_uv_on_signal(p->shards[0].env, SIGINT, on_signal, p);
}

static void *shard_thread(void *arg)
{
    struct process_shard *ps = arg;

    env_uv_run(ps->env);
    return NULL;
}

static void run_all(struct process *p)
{
    for (uint32_t i = 1; i < p->c.shards; i++) {
        INVARIANT(pthread_create(&p->threads[i], NULL, shard_thread, &p->shards[i]) == 0);
    }
    env_uv_run(p->shards[0].env);
    for (uint32_t i = 1; i < p->c.shards; i++) {
        (void)pthread_join(p->threads[i], NULL);
    }
}

int process_run(const struct config *c)
{
    struct process *p = calloc(1, sizeof(*p));
    struct status st = OK;

    INVARIANT(p != NULL);
    p->c = *c;
    arena_init(&p->arena, 0);
    if (!status_ok(log_sink_fd_create(STDERR_FILENO, c->log_level, &p->log))) {
        return EXIT_FAILURE;
    }
    (void)log_install(p->log);
    st = open_all(p);
    if (!status_ok(st)) {
        (void)fprintf(stderr, "dsqld: %s\n", status_text(st));
        (void)fflush(stderr);
        _exit(EXIT_FAILURE); /* Nothing was promised to anybody. */
    }
    run_all(p);
    for (uint32_t i = 0; i < p->c.shards; i++) {
        engine_close(p->shards[i].engine); /* All that was acknowledged is synced. */
    }
    LOG_INFO("process.stopped");
    (void)fflush(stderr);
    /* Memory of sockets and fibers goes with the process. */
    _exit(p->exit_code);
}
