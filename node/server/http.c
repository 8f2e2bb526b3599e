/*
 * http.c -- a small HTTP/1.1 server on the shard's streams, parsed by http-parser.
 *
 * Requests are answered as a whole from memory; nothing here yields. What a request may cost is bounded:
 * headers and body by HTTP_REQUEST_MAX, connections by HTTP_CONNECTIONS_MAX, silence by a timer.
 */
#include "node/server/http.h"

#include <http_parser.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "node/base/json.h"
#include "node/kv/kv.h"
#include "node/pgwire/pgwire.h"
#include "node/rpc/rpc_tcp.h"
#include "node/server/process.h"

#define IDLE_NS    ((uint64_t)60000000000)
#define TARGET_MAX 1024
/* Browsers do not send it across origins without asking first: what changes something wants it. */
#define ADMIN_HEADER "x-dsql-admin"

struct http {
    struct process *process;
    struct shard *shard;
    struct env_listener *listener;
    char address[80];
    uint32_t connections;
};

struct http_conn {
    struct http *http;
    struct env_stream *stream;
    http_parser parser;
    http_parser_settings settings;
    struct shard_timer idle;
    char target[TARGET_MAX];
    size_t target_len;
    size_t received; /* Of the current request. */
    bool refused;
    bool local;        /* The peer is on this machine. */
    bool admin_header; /* The request says that it comes from no web page. */
    size_t field_len;  /* Of the header's name so far, while it is ADMIN_HEADER's beginning. */
    bool field_matches;
};

/* ---- answers ------------------------------------------------------------------------------------- */

static const char *reason(unsigned code)
{
    switch (code) {
    case 200:
        return "OK";
    case 202:
        return "Accepted";
    case 400:
        return "Bad Request";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 413:
        return "Payload Too Large";
    default:
        return "Service Unavailable";
    }
}

static void respond(struct http_conn *c, unsigned code, const char *type, struct bytes body)
{
    struct env *env = shard_env(c->http->shard);
    struct buf head = {0};
    const bool keep = http_should_keep_alive(&c->parser) != 0 && code < 500 && code != 413;

    if (status_ok(buf_printf(&head,
                             "HTTP/1.1 %u %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                             "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
                             "Connection: %s\r\n\r\n",
                             code, reason(code), type, body.len, keep ? "keep-alive" : "close"))) {
        /* A client that is gone is told by on_closed. */
        status_ignore(env_stream_write(env, c->stream, buf_bytes(&head)));
        status_ignore(env_stream_write(env, c->stream, body));
    }
    buf_deinit(&head);
    if (!keep) {
        env_stream_close(env, c->stream);
    }
}

static void respond_json(struct http_conn *c, unsigned code, struct buf *b, struct json *j)
{
    if (status_ok(json_end(j)) && status_ok(buf_append_u8(b, '\n'))) {
        respond(c, code, "application/json", buf_bytes(b));
    } else {
        respond(c, 503, "text/plain", BYTES_LIT("out of memory\n"));
    }
    buf_deinit(b);
}

static void respond_error(struct http_conn *c, unsigned code, const char *message)
{
    struct buf b = {0};
    struct json j;

    json_begin(&j, &b);
    json_object(&j);
    json_kv_str(&j, "error", message);
    json_object_end(&j);
    respond_json(c, code, &b, &j);
}

static struct node *first_node(struct http *h)
{
    return process_first(h->process)->node;
}

static void get_health(struct http_conn *c)
{
    struct process_shard *ps = process_first(c->http->process);
    const bool up = ps->node != NULL && node_is_ready(ps->node) && ps->pgwire != NULL;
    struct buf b = {0};
    struct json j;

    json_begin(&j, &b);
    json_object(&j);
    json_kv_str(&j, "status", up ? "ok" : "starting or stopping");
    json_object_end(&j);
    respond_json(c, up ? 200 : 503, &b, &j);
}

/* ---- metrics ------------------------------------------------------------------------------------- */

static void metric(struct buf *b, const char *name, const char *type, const char *help, uint64_t v)
{
    /* A metric that does not fit is missing from the page, no more. */
    status_ignore(buf_printf(b, "# HELP dsql_%s %s\n# TYPE dsql_%s %s\ndsql_%s %llu\n", name, help,
                             name, type, name, (unsigned long long)v));
}

static void store_metrics(struct buf *b, struct store *s)
{
    struct store_stats st;

    store_get_stats(s, &st);
    metric(b, "replicas", "gauge", "Replicas on shard 0.", st.replicas);
    metric(b, "leases", "gauge", "Ranges led by shard 0.", st.leases);
    metric(b, "store_writes_total", "counter", "Engine writes.", st.writes);
    metric(b, "store_syncs_total", "counter", "Engine writes that were synced.", st.syncs);
    metric(b, "raft_entries_total", "counter", "Log entries appended.", st.entries);
    metric(b, "raft_commands_total", "counter", "Commands applied.", st.commands);
    metric(b, "proposals_open", "gauge", "Commands under way.", st.proposals_open);
    metric(b, "snapshots_sent_total", "counter", "Raft snapshots sent.", st.snapshots_sent);
    metric(b, "snapshots_installed_total", "counter", "Raft snapshots installed.",
           st.snapshots_installed);
    metric(b, "consistency_checks_total", "counter", "Comparisons of replicas.",
           st.consistency_checks);
    metric(b, "inconsistencies_total", "counter", "Of them, those that found a difference.",
           st.inconsistencies);
    metric(b, "live_bytes", "gauge", "Bytes of live rows.", st.bytes_live);
}

static void get_metrics(struct http_conn *c)
{
    struct node *n = first_node(c->http);
    struct process_shard *ps = process_first(c->http->process);
    struct buf b = {0};
    struct rpc_stats rs;
    struct kv_stats ks;
    struct shard_stats ss;

    rpc_get_stats(node_rpc(n), &rs);
    kv_get_stats(node_kv(n), &ks);
    shard_get_stats(c->http->shard, &ss);
    if (node_store(n) != NULL) {
        store_metrics(&b, node_store(n));
    }
    metric(&b, "up", "gauge", "1 when SQL works.", node_is_ready(n) ? 1 : 0);
    metric(&b, "nodes", "gauge", "Nodes known.", node_registry(n)->count);
    metric(&b, "sql_connections", "gauge", "Client connections of shard 0.",
           ps->pgwire == NULL ? 0 : pgwire_connections(ps->pgwire));
    metric(&b, "rpc_frames_sent_total", "counter", "Frames sent.", rs.frames_sent);
    metric(&b, "rpc_frames_received_total", "counter", "Frames received.", rs.frames_received);
    metric(&b, "rpc_bytes_sent_total", "counter", "Bytes sent.", rs.bytes_sent);
    metric(&b, "rpc_bytes_received_total", "counter", "Bytes received.", rs.bytes_received);
    metric(&b, "rpc_frames_refused_total", "counter", "Frames refused.", rs.frames_refused);
    metric(&b, "kv_batches_total", "counter", "Batches sent.", ks.batches);
    metric(&b, "kv_batches_remote_total", "counter", "Batches to other nodes.", ks.batches_remote);
    metric(&b, "kv_retries_total", "counter", "Batches repeated after a pause.", ks.retries);
    metric(&b, "shard_turns_total", "counter", "Turns of the loop.", ss.turns);
    metric(&b, "fibers", "gauge", "Fibers alive.", ss.fibers_live);
    respond(c, 200, "text/plain; version=0.0.4", buf_bytes(&b));
    buf_deinit(&b);
}

/* ---- nodes and ranges ----------------------------------------------------------------------------- */

static void node_json(struct json *j, struct node *n, const struct node_desc *d)
{
    const bool self = d->id.v == node_ident(n).node.v;

    json_object(j);
    json_kv_u64(j, "id", d->id.v);
    json_kv_str(j, "region", d->region);
    json_kv_str(j, "zone", d->zone);
    json_kv_bool(j, "live", node_peer_live(n, d->id));
    json_kv_bool(j, "self", self);
    json_kv_u64(j, "pid", d->pid);
    json_kv_str(j, "sql_address", d->sql_address);
    json_kv_str(j, "rpc_address", d->rpc_address);
    json_kv_str(j, "http_address", d->http_address);
    json_kv_u64(j, "rtt_us", rpc_rtt_ns(node_rpc(n), d->id) / 1000u);
    json_key(j, "stores");
    json_array(j);
    for (uint32_t i = 0; i < d->stores_count; i++) {
        json_u64(j, d->stores[i].v);
    }
    json_array_end(j);
    if (self && node_store(n) != NULL) {
        struct store_stats st;

        store_get_stats(node_store(n), &st);
        json_kv_u64(j, "replicas", st.replicas);
        json_kv_u64(j, "leases", st.leases);
        json_kv_u64(j, "live_bytes", st.bytes_live);
    }
    json_object_end(j);
}

static void get_nodes(struct http_conn *c)
{
    struct node *n = first_node(c->http);
    const struct registry *r = node_registry(n);
    struct buf b = {0};
    struct json j;

    json_begin(&j, &b);
    json_object(&j);
    json_key(&j, "nodes");
    json_array(&j);
    for (uint32_t i = 0; i < r->count; i++) {
        node_json(&j, n, &r->nodes[i]);
    }
    json_array_end(&j);
    json_object_end(&j);
    respond_json(c, 200, &b, &j);
}

static const char *replica_type_text(enum range_replica_type t)
{
    switch (t) {
    case RANGE_VOTER:
        return "voter";
    case RANGE_NON_VOTER:
        return "non-voter";
    case RANGE_LEARNER:
        return "learner";
    case RANGE_VOTER_INCOMING:
        return "voter-incoming";
    case RANGE_VOTER_DEMOTING:
        return "voter-demoting";
    case RANGE_REPLICA_TYPE_COUNT:
        break;
    }
    return "unknown";
}

static void range_json(struct json *j, const struct store_range_info *info)
{
    json_object(j);
    json_kv_u64(j, "id", info->desc.id.v);
    json_kv_u64(j, "generation", info->desc.generation);
    json_kv_str(j, "role", raft_role_text(info->role));
    json_kv_bool(j, "leaseholder", info->leaseholder);
    json_kv_u64(j, "term", info->term);
    json_kv_u64(j, "applied", info->applied);
    json_kv_u64(j, "commit", info->commit);
    json_kv_u64(j, "live_bytes", (uint64_t)info->stats.live_bytes);
    json_key(j, "replicas");
    json_array(j);
    for (uint32_t i = 0; i < info->desc.replicas_count; i++) {
        json_object(j);
        json_kv_u64(j, "node", info->desc.replicas[i].node.v);
        json_kv_u64(j, "store", info->desc.replicas[i].store.v);
        json_kv_u64(j, "replica", info->desc.replicas[i].id.v);
        json_kv_str(j, "type", replica_type_text(info->desc.replicas[i].type));
        json_object_end(j);
    }
    json_array_end(j);
    json_object_end(j);
}

static void get_ranges(struct http_conn *c)
{
    struct node *n = first_node(c->http);
    struct store_range_info info;
    range_id at = {0};
    struct arena arena;
    struct buf b = {0};
    struct json j;

    arena_init(&arena, 0);
    json_begin(&j, &b);
    json_object(&j);
    json_key(&j, "ranges");
    json_array(&j);
    while (node_store(n) != NULL && store_next_range(node_store(n), at, &arena, &info)) {
        at = info.desc.id;
        range_json(&j, &info);
    }
    json_array_end(&j);
    json_object_end(&j);
    respond_json(c, 200, &b, &j);
    arena_deinit(&arena);
}

/* ---- actions -------------------------------------------------------------------------------------- */

/* The number behind "name=" in the query; false when it is missing. */
static bool query_u64(const char *query, const char *name, uint64_t *out)
{
    const size_t n = strlen(name);

    for (const char *at = query; at != NULL && *at != '\0';) {
        const char *next = strchr(at, '&');

        if (strncmp(at, name, n) == 0 && at[n] == '=') {
            char *end = NULL;

            *out = strtoull(at + n + 1, &end, 10);
            return end != at + n + 1 && (*end == '\0' || *end == '&');
        }
        at = next == NULL ? NULL : next + 1;
    }
    return false;
}

static void post_cut(struct http_conn *c, const char *query)
{
    struct process *p = c->http->process;
    uint64_t node = 0;
    uint64_t out = 0;
    uint64_t in = 0;

    if (!process_config(p)->demo) {
        respond_error(c, 404, "links are only cut in demo clusters");
        return;
    }
    if (!query_u64(query, "node", &node) || !query_u64(query, "out", &out) ||
        !query_u64(query, "in", &in) || node == 0 || node > UINT32_MAX) {
        respond_error(c, 400, "node=N, out=0|1 and in=0|1 are expected");
        return;
    }
    rpc_tcp_set_cut(process_first(p)->tcp, (node_id){(uint32_t)node}, out != 0, in != 0);
    respond(c, 200, "application/json", BYTES_LIT("{}\n"));
}

/* Compares the replicas of a range that this node leads. The outcome is in the log and the metrics. */
static void post_check(struct http_conn *c, const char *query)
{
    struct node *n = first_node(c->http);
    struct store_range_info info;
    struct arena arena;
    uint64_t range = 0;
    bool led = false;

    if (!query_u64(query, "range", &range)) {
        respond_error(c, 400, "range=N is expected");
        return;
    }
    arena_init(&arena, 0);
    led = node_store(n) != NULL &&
          store_find_range(node_store(n), (range_id){range}, &arena, &info) && info.leaseholder;
    arena_deinit(&arena);
    if (!led) {
        respond_error(c, 404, "this node does not lead the range");
    } else if (!status_ok(node_check_range(n, (range_id){range}))) {
        respond_error(c, 503, "the node is busy or stopping");
    } else {
        respond(c, 202, "application/json", BYTES_LIT("{}\n"));
    }
}

struct route {
    enum http_method method;
    const char *path;
    void (*get)(struct http_conn *c);
};

static const struct route routes[] = {
    {HTTP_GET, "/health", get_health},      {HTTP_GET, "/metrics", get_metrics},
    {HTTP_GET, "/api/v1/nodes", get_nodes}, {HTTP_GET, "/api/v1/ranges", get_ranges},
    {HTTP_POST, "/api/v1/check", NULL},     {HTTP_POST, "/api/v1/drain", NULL},
    {HTTP_POST, "/api/v1/demo/cut", NULL},
};

static void post(struct http_conn *c, const char *path, const char *query)
{
    if (strcmp(path, "/api/v1/drain") == 0) {
        respond(c, 200, "application/json", BYTES_LIT("{}\n"));
        process_stop(c->http->process);
        return;
    }
    if (strcmp(path, "/api/v1/check") == 0) {
        post_check(c, query);
        return;
    }
    post_cut(c, query);
}

/* There is no login yet: all but /health is for this machine's own people and programs. */
static bool allowed(struct http_conn *c)
{
    if (!c->local && strcmp(c->target, "/health") != 0) {
        respond_error(c, 403, "other hosts may only ask for /health: there is no login yet");
        return false;
    }
    if (c->parser.method != HTTP_GET && !c->admin_header) {
        respond_error(c, 403, "what changes something wants the header " ADMIN_HEADER ": 1");
        return false;
    }
    return true;
}

static void dispatch(struct http_conn *c)
{
    char *query = strchr(c->target, '?');

    if (query != NULL) {
        *query++ = '\0';
    }
    if (!allowed(c)) {
        return;
    }
    for (size_t i = 0; i < ARRAY_COUNT(routes); i++) {
        if (strcmp(c->target, routes[i].path) != 0) {
            continue;
        }
        if (c->parser.method != routes[i].method) {
            respond_error(c, 405, "this address wants another method");
        } else if (routes[i].get != NULL) {
            routes[i].get(c);
        } else {
            post(c, c->target, query == NULL ? "" : query);
        }
        return;
    }
    respond_error(c, 404, "nothing here; see /health, /metrics, /api/v1/nodes, /api/v1/ranges");
}

/* ---- connections ----------------------------------------------------------------------------------- */

static int on_url(http_parser *parser, const char *at, size_t n)
{
    struct http_conn *c = parser->data;

    if (n >= TARGET_MAX - c->target_len) {
        c->refused = true;
        return 1;
    }
    memcpy(c->target + c->target_len, at, n);
    c->target_len += n;
    c->target[c->target_len] = '\0';
    return 0;
}

static int on_header_field(http_parser *parser, const char *at, size_t n)
{
    struct http_conn *c = parser->data;
    const size_t want = sizeof(ADMIN_HEADER) - 1;

    if (c->field_len == 0) {
        c->field_matches = true;
    }
    c->field_matches = c->field_matches && c->field_len + n <= want &&
                       strncasecmp(at, &ADMIN_HEADER[c->field_len], n) == 0;
    c->field_len += n;
    return 0;
}

static int on_header_value(http_parser *parser, const char *at, size_t n)
{
    struct http_conn *c = parser->data;

    UNUSED(at);
    UNUSED(n);
    if (c->field_matches && c->field_len == sizeof(ADMIN_HEADER) - 1) {
        c->admin_header = true;
    }
    c->field_len = 0;
    return 0;
}

static int on_complete(http_parser *parser)
{
    struct http_conn *c = parser->data;

    dispatch(c);
    c->admin_header = false;
    c->field_len = 0;
    c->target_len = 0;
    c->target[0] = '\0';
    c->received = 0;
    return 0;
}

static void on_data(void *ctx, struct bytes data)
{
    struct http_conn *c = ctx;
    size_t n = 0;

    if (c->refused) {
        return;
    }
    shard_timer_arm_in(c->http->shard, &c->idle, IDLE_NS);
    c->received += data.len;
    if (c->received > HTTP_REQUEST_MAX) {
        c->refused = true;
        respond_error(c, 413, "the request is too large");
        return;
    }
    n = http_parser_execute(&c->parser, &c->settings, (const char *)data.ptr, data.len);
    if (n != data.len && !c->refused) {
        c->refused = true;
        respond_error(c, 400, "this is no HTTP request");
        env_stream_close(shard_env(c->http->shard), c->stream);
    } else if (c->refused) {
        respond_error(c, 413, "the request's address is too long");
        env_stream_close(shard_env(c->http->shard), c->stream);
    }
}

static void on_closed(void *ctx, struct status why)
{
    struct http_conn *c = ctx;

    UNUSED(why);
    shard_timer_disarm(c->http->shard, &c->idle);
    c->http->connections--;
    free(c);
}

static void on_idle(struct shard_timer *t)
{
    struct http_conn *c = CONTAINER_OF(t, struct http_conn, idle);

    env_stream_close(shard_env(c->http->shard), c->stream);
}

static const struct env_stream_handler handler = {.on_data = on_data, .on_closed = on_closed};

static void drop_stream(void *ctx, struct status why)
{
    UNUSED(ctx);
    UNUSED(why);
}

static const struct env_stream_handler dropper = {.on_closed = drop_stream};

static void on_accept(void *ctx, struct env_stream *s)
{
    struct http *h = ctx;
    struct env *env = shard_env(h->shard);
    struct http_conn *c = h->connections < HTTP_CONNECTIONS_MAX ? calloc(1, sizeof(*c)) : NULL;
    struct env_address peer = {0};

    if (c == NULL) {
        env_stream_start(env, s, &dropper, NULL);
        env_stream_close(env, s);
        return;
    }
    env_stream_peer(env, s, &peer);
    h->connections++;
    c->http = h;
    c->local = env_host_is_loopback(peer.host);
    c->stream = s;
    http_parser_init(&c->parser, HTTP_REQUEST);
    http_parser_settings_init(&c->settings);
    c->settings.on_url = on_url;
    c->settings.on_header_field = on_header_field;
    c->settings.on_header_value = on_header_value;
    c->settings.on_message_complete = on_complete;
    c->parser.data = c;
    c->idle.fn = on_idle;
    shard_timer_arm_in(h->shard, &c->idle, IDLE_NS);
    env_stream_start(env, s, &handler, c);
}

struct status http_create(const struct http_options *o, struct arena *msg_arena, struct http **out)
{
    struct http *h = calloc(1, sizeof(*h));
    struct env_address at;
    struct status st = OK;

    if (h == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    h->process = o->process;
    h->shard = o->shard;
    TRY_OUT(config_address(o->listen, msg_arena, &at));
    if (process_config(o->process)->insecure && !env_host_is_loopback(at.host)) {
        TRY_OUT(FAIL(STATUS_INVALID, "--insecure listens on loopback only"));
    }
    TRY_OUT(env_listen(shard_env(o->shard), &at, false, on_accept, h, &h->listener));
    (void)snprintf(h->address, sizeof(h->address),
                   strchr(at.host, ':') == NULL ? "%s:%u" : "[%s]:%u", at.host,
                   env_listener_port(shard_env(o->shard), h->listener));
    *out = h;
    return OK;
out:
    free(h);
    return st;
}

const char *http_address(const struct http *h)
{
    return h->address;
}
