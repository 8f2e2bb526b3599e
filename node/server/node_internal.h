/*
 * node_internal.h -- the parts of a node, shared by the files of this folder.
 */
#pragma once

#include "node/base/log.h"
#include "node/runtime/fiber.h"
#include "node/server/node.h"
#include "node/sql/session/admin.h"
#include "regions/topology/topology.h"

#define NODE_GOSSIP_NS    ((uint64_t)1000000000)
#define NODE_REPLICATE_NS ((uint64_t)250000000)
#define NODE_CALL_NS      ((uint64_t)5000000000)

#define NODE_RANGE_BYTES_MAX ((uint64_t)256 << 20)
#define NODE_MERGE_AFTER_NS  ((uint64_t)300000000000)
#define NODE_DEAD_AFTER_NS   ((uint64_t)300000000000)

/* What a store last said of itself. */
struct store_load {
    store_id store;
    uint32_t ranges;
    uint32_t leases;
    uint64_t requests_per_s;
    uint64_t heard_ns;
    bool touched; /* We have moved something from or to it since it was heard of. */
};

/* The walk over the ranges of the store, a few at a time; see ranges.c. */
struct range_walk {
    range_id at;
    bool busy;             /* The last round changed something, or the cluster did. */
    bool did;              /* This round, so far. */
    struct store_load sum; /* Of this round, so far. */
    struct store_load own; /* Of the last round. */
};

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
    struct sql_admin admin; /* What SQL may do to ranges. */
    store_id admin_last;    /* Which store led the range that was asked for last. */
    bool primary;
    bool ready;
    bool stopping;
    bool told_ready;
    uint32_t fibers;           /* Of this folder. */
    struct wait_queue changed; /* A fiber ended, identity arrived, stopping. */
    struct shard_timer gossip_timer;
    bool gossip_to_all; /* Something changed: do not wait for chance. */
    uint64_t registry_changed_ns;
    struct store_load *loads; /* Of other stores; loads_count of them, in no order. */
    uint32_t loads_count;
    uint32_t loads_cap;
    uint64_t *seen_live_ns; /* Per row of the registry: when it was last seen alive. */
    uint32_t seen_live_cap;
    struct range_walk walk;
    struct shard_timer watch_timer;
    bool *was_live; /* Per row of the registry, as of the last look of watch.c. */
    uint32_t was_live_count;
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

/* ---- loads.c ---- */
NOYIELD void loads__hear(struct node *n, const Dsql__Pb__StoreLoad *pb);
/* NULL: not heard of for a while. */
NOYIELD const struct store_load *loads__of(const struct node *n, store_id id);
/* One replica or lease has just moved from here to there: until the stores say so themselves. */
NOYIELD void loads__moved(struct node *n, store_id from, store_id to, bool lease);
/* Others may be moving things there, too: one thing at a time, before both have been heard of again. */
NOYIELD bool loads__may_move(const struct node *n, store_id from, store_id to);

/* ---- admin.c ---- */
/* Answers other nodes, and fills n->admin. */
NOYIELD void admin__start(struct node *n);

/* ---- watch.c ---- */
NOYIELD void watch__start(struct node *n);
NOYIELD void watch__stop(struct node *n);

/* ---- replicate.c ---- */
/* The stores of the cluster, in the arena. */
NOYIELD NODISCARD struct status replicate__topology(struct node *n, struct arena *arena,
                                                    struct topology *out);
/* One step of a range led here towards the replicas that placement wants. *did: something was
 * attempted. */
MAYYIELD NODISCARD struct status replicate__step(struct node *n, const struct topology *t,
                                                 const struct store_range_info *info, bool *did);

/* ---- maintain.c ---- */
/* Fibers: collect the garbage of every range led here, compare its replicas. */
MAYYIELD void maintain__gc_fiber(void *node);
MAYYIELD void maintain__check_fiber(void *node);
/* Starts a comparison; what it finds is in the log and the metrics. Errors: STATUS_UNAVAILABLE,
 * STATUS_OVERLOADED, STATUS_MEMORY. */
NOYIELD NODISCARD struct status maintain__check_now(struct node *n, range_id range);

/* ---- ranges.c ---- */
/* Fiber: looks after every range led here. */
MAYYIELD void ranges__fiber(void *node);
