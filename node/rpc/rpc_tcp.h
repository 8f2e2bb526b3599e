/*
 * rpc_tcp.h -- frames over TCP: three connections per peer, TLS, reconnect, simulated WAN.
 *
 * Each shard dials its own connections; shard 0 listens for the node and hands frames for other
 * shards' stores over. The first frame both ways is HELLO (cluster id, node id, versions, class);
 * a peer of another cluster, version or certificate is refused with a logged reason. Lost
 * connections are dialled again with exponential backoff (20 ms .. 2 s, jitter) while something
 * waits to be sent.
 *
 * Names: "host:port", "[v6]:port", or "_service._proto.domain" (SRV); resolved by c-ares.
 */
#pragma once

#include "node/rpc/rpc.h"

struct rpc_tcp;
struct tls_config;

struct rpc_tcp_options {
    struct shard *shard;
    const char *listen; /* "host:port", numeric or localhost; NULL: this shard does not listen. */
    const char *advertise;  /* What peers dial; NULL: the bound address, unless that is all. */
    struct tls_config *tls; /* NULL: --insecure, loopback addresses only. Borrowed. */
};

/* Errors: STATUS_INVALID (address, or not loopback without TLS), STATUS_EXISTS (port taken), STATUS_IO.
 * Nothing is accepted before rpc_tcp_attach(). */
NOYIELD NODISCARD struct status rpc_tcp_create(const struct rpc_tcp_options *o,
                                               struct rpc_tcp **out);
/* In the same turn as rpc_destroy(), in any order: each knows the other. Before the loop stops: an env
 * that stops closes listeners and watches by itself. Sockets end a little later. Accepts NULL. */
NOYIELD void rpc_tcp_destroy(struct rpc_tcp *t);
NOYIELD struct rpc_transport rpc_tcp_transport(struct rpc_tcp *t);
/* Frames go to this rpc from now on. */
NOYIELD void rpc_tcp_attach(struct rpc_tcp *t, struct rpc *r);
/* "host:port" that peers should dial. */
NOYIELD const char *rpc_tcp_address(const struct rpc_tcp *t);

/* Demo clusters: one-way delay of everything sent to a node; cutting of a link, per direction. */
NOYIELD void rpc_tcp_set_delay(struct rpc_tcp *t, node_id to, uint64_t delay_ns);
NOYIELD void rpc_tcp_set_cut(struct rpc_tcp *t, node_id peer, bool drop_outgoing,
                             bool drop_incoming);
