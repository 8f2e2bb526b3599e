/*
 * node_internal.h -- the parts of a node, shared by the files of this folder.
 */
#pragma once

#include "node/base/log.h"
#include "node/runtime/fiber.h"
#include "node/server/node.h"

#define NODE_GOSSIP_NS    ((uint64_t)1000000000)
#define NODE_REPLICATE_NS ((uint64_t)250000000)
#define NODE_CALL_NS      ((uint64_t)5000000000)

struct node {
    struct node_options o;
    struct shard *shard;
    struct hlc hlc;
    struct rpc *rpc;
    struct store_ident ident;
    struct uuid instance; /* Of this life: makes joining repeatable. */
    struct registry registry;
    struct store *store;
    struct kv *kv;
    struct txn_service *txns;
    struct sql *sql;
    bool primary;
    bool ready;
    bool stopping;
    bool told_ready;
    uint32_t fibers;           /* Of this folder. */
    struct wait_queue changed; /* A fiber ended, identity arrived, stopping. */
    struct shard_timer gossip_timer;
    bool gossip_to_all; /* Something changed: do not wait for chance. */
    uint64_t registry_changed_ns;
    bool registry_dirty; /* Not on disk yet. */
    /* Identity for shards other than the primary, from its parcel. */
    bool has_identity;
    struct store_ident given;
};

/* ---- node.c ---- */
/* Adopts everything a gossip message says. True when something was news. */
NOYIELD bool node__learn(struct node *n, const Dsql__Pb__Gossip *g);
NOYIELD void node__add_peer(struct node *n, const struct node_desc *d);
NOYIELD NODISCARD struct status node__spawn(struct node *n, const char *name,
                                            void (*fn)(void *arg));
NOYIELD void node__fiber_ended(struct node *n);

/* ---- gossip.c ---- */
NOYIELD void gossip__start(struct node *n);
NOYIELD void gossip__broadcast(struct node *n);
/* Tells kv what our own replica of the first range says of where it is. */
NOYIELD void gossip__refresh_first_range(struct node *n, struct arena *arena);
/* The whole table, in the arena. */
NOYIELD NODISCARD struct status gossip__pack(struct node *n, bool full, bool want_answer,
                                             struct arena *arena, Dsql__Pb__Gossip *out);
/* To the other shards of the process, with the identity of each. */
NOYIELD void gossip__tell_shards(struct node *n);

/* ---- join.c ---- */
/* Finds or makes the identity of a primary shard: reads it, starts a cluster or joins one. */
MAYYIELD NODISCARD struct status join__identity(struct node *n);
/* Writes the own row into the cluster; repeats until it stands. */
MAYYIELD NODISCARD struct status join__register(struct node *n);
NOYIELD void join__serve(struct node *n);

/* ---- replicate.c ---- */
/* Fiber: brings every range led here to the replicas that placement wants. */
MAYYIELD void replicate__fiber(void *node);
