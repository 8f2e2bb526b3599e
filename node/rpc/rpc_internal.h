/*
 * rpc_internal.h -- what the files of struct rpc share. For this folder and its tests.
 */
#pragma once

#include "node/base/list.h"
#include "node/base/map.h"
#include "node/rpc/rpc.h"
#include "node/rpc/rpc_frame.h"
#include "node/runtime/env.h"
#include "node/runtime/fiber.h"

#define RPC_PING_EVERY_NS     1000000000u
#define RPC_PING_GIVE_UP_NS   (5 * (uint64_t)RPC_PING_EVERY_NS)
#define RPC_PING_TRAFFIC_NS   (60 * (uint64_t)RPC_PING_EVERY_NS)
#define RPC_REPLY_MESSAGE_MAX 4096u

struct rpc_handler_slot {
    rpc_handler fn;
    void *ctx;
};

/* What a shard knows of a peer node: its open calls, and how far away it is. */
struct rpc_node {
    struct list link; /* Of rpc.node_list: iteration in order of acquaintance. */
    node_id node;
    struct list calls;     /* struct rpc_call.peer_link */
    uint64_t traffic_ns;   /* Of the last message that was not a ping. */
    uint64_t ping_call_id; /* 0: none under way. */
    uint64_t ping_sent_ns;
    bool ping_warm;  /* A ping was answered over the present connection. */
    uint64_t rtt_ns; /* Smoothed; 0: not measured. */
    /* By how much its clock was ahead of ours at the last ping, give or take the error. */
    int64_t clock_ahead_ns;
    uint64_t clock_error_ns;
    uint64_t clock_at_ns; /* Monotonic; 0: never. */
};

/* A call that waits. It stands on the stack of its fiber, which waits for as long as it is listed. */
struct rpc_call {
    struct list peer_link; /* Of rpc_node.calls or rpc.path_calls. */
    struct completion done;
    uint64_t id;
    node_id node;     /* Whose reply counts; 0 for calls by path. */
    const void *path; /* NULL for calls by node. */
    struct arena *arena;
    struct bytes reply;
    struct status st;
    bool listed; /* In rpc.calls and a list. */
    bool unsent; /* It certainly did not leave. */
};

struct rpc {
    struct shard *shard;
    struct env *env;
    struct hlc *hlc;
    struct rpc_transport transport;

    struct uuid cluster; /* Zero: not known yet. */
    node_id node;
    store_id store;

    struct rpc_handler_slot handlers[RPC_TYPE_MAX];
    struct map local_stores; /* store id -> struct shard * */

    struct map nodes; /* node id -> struct rpc_node * */
    struct list node_list;
    struct shard_timer ping_timer;
    bool ping_armed;

    struct map calls; /* call id -> struct rpc_call * */
    struct list path_calls;
    uint64_t last_call_id;

    struct list own_queue; /* struct rpc_parcel: messages to this very store. */
    struct shard_task own_task;
    size_t own_queue_bytes;

    struct bytes parts[RPC_PARTS_MAX + 1]; /* Scratch of one send: header, body parts. */
    uint64_t clock_logged_ns;
    struct rpc_stats stats;
};

/* rpc.c: sends one message, of a call, a reply or neither. `path` NULL: by node. */
struct rpc_outgoing {
    struct rpc_to to;
    const void *path;
    uint64_t call_id;
    enum rpc_type type;
    enum status_code status;
    uint8_t flags;
};
NOYIELD NODISCARD struct status rpc__send(struct rpc *r, const struct rpc_outgoing *o,
                                          const struct bytes *parts, uint32_t parts_count);
/* The record of a node, made when unknown; NULL at RPC_NODES_MAX or without memory. */
NOYIELD struct rpc_node *rpc__node(struct rpc *r, node_id node);

/* rpc_call.c */
NOYIELD void rpc__reply_arrived(struct rpc *r, const struct rpc_message *m, enum status_code code);
NOYIELD void rpc__calls_cancel_all(struct rpc *r);

/* rpc_ping.c */
NOYIELD void rpc__note_traffic(struct rpc *r, struct rpc_node *n);
/* True when the reply was that of a ping. */
NOYIELD bool rpc__ping_reply(struct rpc *r, const struct rpc_message *m);
NOYIELD void rpc__ping_tick(struct shard_timer *t);

/* For the TCP transport: who this node says that it is. */
NOYIELD void rpc__identity(const struct rpc *r, struct uuid *cluster, node_id *node,
                           store_id *store);
/* A HELLO's or frame's cluster may talk to ours: equal, or one side has none yet. */
NOYIELD bool rpc__cluster_may_talk(struct uuid ours, struct uuid theirs);
NOYIELD uint64_t rpc__next_call_id(struct rpc *r);
