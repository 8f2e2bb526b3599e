/*
 * tcp_internal.h -- what the files of the TCP transport share.
 *
 *     rpc_tcp.c    the transport's functions: which connection a frame takes
 *     tcp_link.c   dialling: names, attempts, backoff
 *     tcp_conn.c   one connection: bytes in and out, TLS, delay, silence
 *     tcp_hello.c  the greeting
 *
 *     peer (node) --- link (class) --- conn (dialled)
 *          \------ accepted[class] --- conn
 *     path (host:port) --- link ------ conn (dialled)
 */
#pragma once

#include "node/base/hash.h"
#include "node/base/list.h"
#include "node/base/map.h"
#include "node/rpc/dns.h"
#include "node/rpc/rpc_internal.h"
#include "node/rpc/rpc_tcp.h"
#include "node/rpc/tls.h"

#define TCP_GREETING_NS    5000000000u  /* From the start of an attempt to the peer's HELLO. */
#define TCP_SILENT_NS      10000000000u /* Written to and heard nothing: dead. */
#define TCP_PROBE_NS       3000000000u  /* Ask after this, so that a living peer says something. */
#define TCP_TICK_NS        500000000u
#define TCP_ADDRESS_MAX    300u
#define TCP_HELLO_MAX      1024u /* Largest frame of a peer that has not said HELLO. */
#define TCP_PATHS_MAX      64u
#define TCP_CONNS_MAX      16384u
#define TCP_STRANGERS_MAX  1024u /* Accepted, not greeted; in all, and of one address. */
#define TCP_STRANGERS_HOST 64u
#define TCP_BUF_KEEP       ((size_t)256 << 10) /* Larger buffers are given back when empty. */

struct tcp_peer;

/* States of a connection, in order. GREETING waits for the peer's HELLO. */
enum tcp_state {
    TCP_RESOLVING,
    TCP_CONNECTING,
    TCP_SECURING,
    TCP_GREETING,
    TCP_UP,
    TCP_CLOSED,
};

/* What we dial: a class of a peer, or an address whose node is not known. */
struct tcp_link {
    struct list link; /* Of rpc_tcp.paths; unused for peers. */
    struct rpc_tcp *t;
    struct tcp_peer *peer; /* NULL: a path. */
    uint64_t id;           /* Token of a path. */
    enum rpc_class cls;
    struct tcp_conn *conn; /* NULL: nothing under way. */
    struct shard_timer retry;
    uint64_t backoff_ns; /* 0: the last attempt was good. */
    uint64_t retry_at_ns;
    bool wanted; /* Something was refused or waits since the last attempt began. */
    bool failure_logged;
    struct tls_ticket *ticket;
    char address[TCP_ADDRESS_MAX]; /* Of a path. */
};

struct tcp_peer {
    struct list link; /* Of rpc_tcp.peer_list. */
    node_id node;
    char address[TCP_ADDRESS_MAX]; /* Empty: not known. */
    struct tcp_link links[RPC_CLASS_COUNT];
    struct tcp_conn *accepted[RPC_CLASS_COUNT]; /* The latest that is up; NULL: none. */
    uint64_t delay_ns;
    bool drop_outgoing;
    bool drop_incoming;
};

/* Bytes on a simulated line. */
struct tcp_delayed {
    struct list link;
    uint64_t due_ns;
    size_t size;
    uint8_t bytes[];
};

struct tcp_conn {
    struct rpc_tcp *t;     /* NULL: the transport is gone, only the stream still ends. */
    struct list link;      /* Of rpc_tcp.conns. */
    struct list dirty;     /* Of rpc_tcp.dirty. */
    uint64_t id;           /* Token of a path. */
    struct tcp_link *dial; /* NULL: accepted. */
    enum tcp_state state;
    struct env_stream *stream;
    struct tls_session *tls;
    node_id node;     /* Of the peer; 0: unknown, or it has none. */
    node_id hello_as; /* Our id in the HELLO that we sent. */
    enum rpc_class cls;
    struct buf in;  /* The start of a frame. */
    struct buf out; /* Frames of this turn, or waiting for TCP_UP. */
    struct list delayed;
    size_t delayed_bytes;
    struct shard_timer delay_timer;
    uint64_t opened_ns;
    uint64_t up_ns;
    uint64_t waiting_ns; /* Since when we heard nothing of what we wrote; 0: not waiting. */
    bool probed;
    bool written;          /* Frames of ours went out. */
    uint64_t stream_bytes; /* Given to the stream in all. */
    uint64_t seen_sent;    /* By the system, at the last tick. */
    size_t seen_queued;
    struct dns_query *query;
    struct env_address candidates[DNS_ADDRESSES_MAX];
    uint32_t candidates_count;
    uint32_t candidate; /* The next to try; for an accepted one, [0] is the peer. */
    struct status connect_error;
};

struct rpc_tcp {
    struct shard *shard;
    struct env *env;
    struct tls_config *tls;
    struct rpc *rpc;
    struct env_listener *listener;
    char address[TCP_ADDRESS_MAX];
    struct dns *dns; /* Made for the first name. */
    struct map peers;
    struct list peer_list;
    struct list paths; /* struct tcp_link */
    uint32_t paths_count;
    struct map conns_by_id;
    struct list conns;
    struct list dirty;
    uint32_t strangers;
    uint64_t last_id; /* Of conns and paths. */
    struct buf wire;  /* Scratch: what TLS made of a write. */
    struct shard_timer tick;
    bool tick_armed;
    uint64_t refusals_since_ns;
    uint32_t refusals;
    struct rng rng;
};

/* rpc_tcp.c */
/* NULL at RPC_NODES_MAX or without memory. */
NOYIELD struct tcp_peer *tcp__peer(struct rpc_tcp *t, node_id node);
/* The peer of a connection; NULL when unknown. */
NOYIELD struct tcp_peer *tcp__conn_peer(const struct tcp_conn *c);
NOYIELD void tcp__log_refused(struct rpc_tcp *t, const struct tcp_conn *c, const char *reason);

/* tcp_link.c */
NOYIELD void tcp__link_init(struct tcp_link *l, struct rpc_tcp *t, struct tcp_peer *peer,
                            enum rpc_class cls);
NOYIELD void tcp__link_deinit(struct tcp_link *l);
/* A connection under way or up. Errors: STATUS_UNAVAILABLE, STATUS_INVALID, STATUS_MEMORY. */
NOYIELD NODISCARD struct status tcp__link_conn(struct tcp_link *l, struct tcp_conn **out);
NOYIELD NODISCARD struct status tcp__link_connect_next(struct tcp_conn *c);
NOYIELD void tcp__link_up(struct tcp_link *l);
NOYIELD void tcp__link_lost(struct tcp_link *l, const struct tcp_conn *c, struct status why);
/* The peer was heard of: no more waiting. */
NOYIELD void tcp__link_hurry(struct tcp_link *l);
NOYIELD const char *tcp__link_address(const struct tcp_link *l);

/* tcp_conn.c */
NOYIELD struct tcp_conn *tcp__conn_new(struct rpc_tcp *t, struct tcp_link *dial);
/* An accepted socket. */
NOYIELD void tcp__conn_accepted(void *ctx, struct env_stream *s);
extern const struct env_stream_handler tcp__conn_handler;
NOYIELD void tcp__conn_connected(void *ctx, struct status st);
/* Adds a frame to the batch of this turn. Errors: STATUS_OVERLOADED. */
NOYIELD NODISCARD struct status tcp__conn_queue(struct tcp_conn *c, const struct bytes *parts,
                                                uint32_t parts_count);
NOYIELD void tcp__conn_flush(struct tcp_conn *c);
/* Sends a frame past the batch: a greeting or a probe. */
NOYIELD void tcp__conn_ship(struct tcp_conn *c, struct bytes frame);
NOYIELD void tcp__conn_up(struct tcp_conn *c);
/* Ends it for this reason. The connection must not be touched afterwards, except by the callbacks of
 * its stream, for which it stays in TCP_CLOSED. */
NOYIELD void tcp__conn_close(struct tcp_conn *c, struct status why);
/* Without telling anybody. */
NOYIELD void tcp__conn_discard(struct tcp_conn *c);
NOYIELD void tcp__conn_check_time(struct tcp_conn *c, uint64_t now_ns);
NOYIELD void tcp__conn_tick(struct shard_timer *timer);

/* tcp_hello.c */
NOYIELD void tcp__hello_send(struct tcp_conn *c, uint8_t flags);
/* The first frame of a connection. Errors: as rpc_receive(); the caller closes. */
NOYIELD NODISCARD struct status tcp__hello_first(struct tcp_conn *c, struct bytes frame);
/* A later one: a probe or its answer. */
NOYIELD NODISCARD struct status tcp__hello_again(struct tcp_conn *c, struct bytes frame);
