/*
 * tcp_rig.h -- nodes that talk by rpc_tcp over the in-memory network of env_fake.
 */
#pragma once

#include "node/rpc/rpc_internal.h"
#include "node/rpc/rpc_tcp.h"
#include "tests/lib/env_fake.h"
#include "tests/lib/test.h"

#define MS     ((uint64_t)1000000)
#define SECOND (1000 * MS)

#define RIG_NODES_MAX 8u
#define RIG_SEEN_MAX  4096u

struct tcp_node {
    struct shard *shard;
    struct hlc hlc;
    struct rpc *rpc;
    struct rpc_tcp *tcp;
    node_id id;
    store_id store;
    uint32_t seen[RIG_SEEN_MAX]; /* First four bytes of the one-way bodies, in order of arrival. */
    uint32_t seen_count;
    uint64_t seen_at_ns; /* The last one. */
    bool silent;         /* Calls are not answered. */
    struct shard_task turn;
};

struct tcp_rig {
    struct fake_world *world;
    struct tcp_node nodes[RIG_NODES_MAX];
    uint32_t count;
};

/* Set before a node is started; NULL members are defaults. */
struct tcp_node_options {
    const char *listen; /* NULL: "127.0.0.1:0". */
    struct tls_config *tls;
    uint32_t id; /* 0: no identity. */
    struct uuid cluster;
};

struct tcp_caller {
    struct rpc *rpc;
    struct rpc_to to;
    const char *address; /* NULL: by node. */
    struct bytes body;
    uint64_t deadline_ns; /* 0: 20 s from now. */
    struct arena arena;
    struct bytes reply;
    struct status st;
    bool unsent;
    bool ended;
};

extern const struct uuid rig_cluster;

void rig_init(struct tcp_rig *rig);
void rig_deinit(struct tcp_rig *rig);
struct tcp_node *rig_add(struct tcp_rig *rig, struct tcp_node_options o);
/* Two nodes 1 and 2 in one cluster that know each other's address. */
void rig_pair(struct tcp_rig *rig, struct tls_config *tls1, struct tls_config *tls2);
void tcp_node_stop(struct tcp_node *n);
/* On the node's shard, as before. */
void tcp_node_restart(struct tcp_node *n, struct tcp_node_options o);

struct rpc_to to_node(const struct tcp_node *n, enum rpc_class cls);
/* Spawns the fiber; the world is settled. The arena is the caller's to deinit. */
void call_begin(struct tcp_rig *rig, struct tcp_node *from, struct tcp_caller *c);
/* A call of class NORMAL from one node to the other, advancing time until it ends. */
struct status call_now(struct tcp_rig *rig, struct tcp_node *from, const struct tcp_node *to);
/* One-way message that carries a number. */
struct status send_number(struct tcp_node *from, const struct tcp_node *to, uint32_t number);
