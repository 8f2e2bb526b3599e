/*
 * net.h -- the network between the nodes: frames, latency, and what goes wrong with them.
 *
 * A link is one direction between two nodes. Frames of one class stay in order on a link unless the
 * fault REORDER says otherwise. Links that are blocked either drop frames, as a firewall does, or
 * hold them, as TCP does until a cut is over.
 *
 * A path token names a node, its incarnation and the connection epoch of the pair: an answer to a
 * path of an older life goes nowhere.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/list.h"
#include "node/rpc/rpc.h"
#include "regions/topology/rtt.h"
#include "tests/sim/sim.h"

struct sim_world;
struct sim_node;

struct sim_link {
    uint32_t drops;                        /* Faults that drop frames here now. */
    uint32_t holds;                        /* Faults that hold them back. */
    uint32_t class_drops[RPC_CLASS_COUNT]; /* The same for one class only. */
    uint32_t epoch;   /* Of the connection of the pair; grows with every reset. */
    uint32_t slow_ms; /* Extra delay while a fault says so. */
    struct list held;
    uint64_t last_at_ns[RPC_CLASS_COUNT]; /* Arrival of the frame before. */
};

struct sim_net {
    struct sim_link links[SIM_NODES_MAX][SIM_NODES_MAX]; /* [from][to] */
    struct rtt_matrix rtt;
    uint32_t loss_permille;
    uint32_t dup_permille;
    uint32_t reorder_permille;
    uint32_t spike_permille;
    uint64_t frames;
    uint64_t frames_lost;
};

void sim_net_init(struct sim_world *w);
void sim_net_deinit(struct sim_world *w);

/* The transport of a node's present process. */
struct rpc_transport sim_net_transport(struct sim_node *n);

enum sim_block {
    SIM_BLOCK_DROP,
    SIM_BLOCK_HOLD,
};
/* One direction; blocks add up. Release lets held frames go on when it was the last one. */
void sim_net_block(struct sim_world *w, uint32_t from, uint32_t to, enum sim_block how);
void sim_net_release(struct sim_world *w, uint32_t from, uint32_t to, enum sim_block how);
/* The same for one class, dropping. */
void sim_net_block_class(struct sim_world *w, uint32_t from, uint32_t to, enum rpc_class cls);
void sim_net_release_class(struct sim_world *w, uint32_t from, uint32_t to, enum rpc_class cls);
/* Breaks the connections of a pair: what is under way is lost, both sides are told. */
void sim_net_reset(struct sim_world *w, uint32_t a, uint32_t b);
/* A process ended. abrupt: its machine is gone too, and nobody is told by it. */
void sim_net_process_gone(struct sim_world *w, uint32_t node, bool abrupt);
/* Everything works again: blocks, delays, rates. */
void sim_net_heal(struct sim_world *w);
