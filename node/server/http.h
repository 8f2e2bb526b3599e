/*
 * http.h -- the admin port: health, metrics, and what dsqlctl asks.
 *
 *     GET  /health           200 {"status":"ok"} when SQL works, else 503. No data, no login.
 *     GET  /metrics          Prometheus text.
 *     GET  /api/v1/nodes     every node with liveness, replicas and leases as far as known here
 *     GET  /api/v1/ranges    replicas on this node
 *     POST /api/v1/drain     starts an orderly stop
 *     POST /api/v1/demo/cut?node=N&out=0|1&in=0|1   demo clusters only: cut a link
 *
 * There is no login yet: other hosts are answered on /health only, and what changes something wants the
 * header "x-dsql-admin: 1", which no web page can send from elsewhere. With --insecure the port is
 * loopback only. HTTP/1.1, one request at a time per connection, bodies
 * are refused above 64 KiB.
 *
 * Runs on: shard 0.
 */
#pragma once

#include "node/base/arena.h"
#include "node/base/status.h"

struct http;
struct process;
struct shard;

#define HTTP_CONNECTIONS_MAX 256u
#define HTTP_REQUEST_MAX     ((size_t)64 << 10)

struct http_options {
    struct process *process;
    struct shard *shard;
    const char *listen; /* "host:port" */
};

/* Errors: STATUS_INVALID (address; not loopback with --insecure), STATUS_EXISTS (port taken). */
NOYIELD NODISCARD struct status http_create(const struct http_options *o, struct arena *msg_arena,
                                            struct http **out);
NOYIELD const char *http_address(const struct http *h);
