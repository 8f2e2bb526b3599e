/*
 * demo.h -- a cluster of dsqld processes on this machine, and the file that remembers it.
 *
 *     DIR/demo.json   who is who: regions, ports, pids; also what is cut from what
 *     DIR/lock        held while one dsqlctl changes demo.json or the processes
 *     DIR/rtt         simulated round trips (regions/topology/rtt.h); none: no delays
 *     DIR/node1/data  the store of node 1
 *     DIR/node1/log   what it said
 *
 * Nothing else is kept anywhere: `dsqlctl demo stop` in another terminal, or after this program was
 * killed, finds the same processes again, and never touches one that it did not start.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "cli/client/ports.h"
#include "cli/client/process.h"
#include "node/base/arena.h"
#include "node/base/bytes.h"
#include "node/base/status.h"
#include "regions/locality/locality.h"

#define DEMO_NODES_MAX   32u
#define DEMO_ZONES_MAX   26u /* One letter each. */
#define DEMO_NODES       9u
#define DEMO_REGIONS     "us-east-1,eu-west-1,ap-southeast-1"
#define DEMO_ZONES       3u
#define DEMO_TARGETS_MAX 256u

struct demo_node {
    uint32_t id; /* As the cluster numbers it, from 1 without gaps. */
    char region[LOCALITY_VALUE_MAX + 1];
    char zone[LOCALITY_VALUE_MAX + 1];
    uint16_t sql_port;
    uint16_t rpc_port;
    uint16_t http_port;
    struct process_name process;
};

/* Plain data of some KiB: in an arena or on the heap. */
struct demo {
    const char *dir; /* Absolute. Borrowed. */
    bool rtt;        /* Round trips are simulated. */
    uint32_t joined; /* Nodes 1..joined have their ids; the others start empty. */
    uint32_t count;
    struct demo_node nodes[DEMO_NODES_MAX]; /* nodes[i].id is i + 1. */
    /* Whether what i sends to j is dropped. */
    bool cut[DEMO_NODES_MAX][DEMO_NODES_MAX];
};

/* A set of nodes: bit i is nodes[i]. */
typedef struct {
    uint32_t bits;
} demo_set;

/* ---- layout.c: pure ---- */

/*
 * Lays out nodes over regions and zones: d->nodes, d->count; no ports, no processes.
 *
 * regions  "NAME[:ZONES],...". Node 1 stands in the first zone of the first region, and so on.
 * nodes    0: one per zone.
 *
 * Errors:  STATUS_INVALID.
 */
NOYIELD NODISCARD struct status demo_layout(const char *regions, uint32_t nodes,
                                            struct arena *arena, struct demo *d);
/* Which nodes are meant by "3", "node3", a zone, a region, or several of these with commas. Errors:
 * STATUS_NOT_FOUND. */
NOYIELD NODISCARD struct status demo_find(const struct demo *d, const char *target,
                                          struct arena *arena, demo_set *out);
NOYIELD bool demo_in(demo_set s, uint32_t index);
/* The shipped round trips, in the form of regions/topology/rtt.h. */
NOYIELD const char *demo_rtt_text(void);

/* ---- state.c ---- */

/* The directory asked for, or the usual one; absolute. Errors: STATUS_INVALID (no home), STATUS_IO. */
NOYIELD NODISCARD struct status demo_directory(const char *asked, struct arena *arena,
                                               const char **out);
/* Makes it and takes its lock, which lasts until the descriptor is closed or the program ends.
 * Waits for another dsqlctl up to some seconds. Errors: STATUS_IO, STATUS_TIMEOUT. */
MAYYIELD NODISCARD struct status demo_lock(const char *dir, struct arena *msg_arena, int *fd_out);
/* Accepts -1. */
NOYIELD void demo_unlock(int fd);
/* Pids of another boot come back as none. Errors: STATUS_NOT_FOUND (no demo here), STATUS_CORRUPT. */
NOYIELD NODISCARD struct status demo_load(const char *dir, struct arena *arena, struct demo *out);
/* Replaces the file as a whole. Errors: STATUS_IO. */
NOYIELD NODISCARD struct status demo_save(const struct demo *d, struct arena *msg_arena);
/* The same, from and to text. */
NOYIELD NODISCARD struct status demo_decode(struct bytes text, struct arena *arena,
                                            struct demo *out);
NOYIELD NODISCARD struct status demo_encode(const struct demo *d, struct buf *out);

/* ---- nodes.c ---- */

NOYIELD const char *demo_sql_url(const struct demo_node *n, struct arena *arena);
NOYIELD const char *demo_http_url(const struct demo_node *n, const char *path, struct arena *arena);
NOYIELD const char *demo_node_dir(const struct demo *d, const struct demo_node *n,
                                  struct arena *arena);
/* Starts the process of a node that has none; d->nodes[index].process is set. */
NOYIELD NODISCARD struct status demo_start_node(struct demo *d, uint32_t index,
                                                struct arena *arena);
/* The last line that a node wrote, for messages. Never NULL. */
NOYIELD const char *demo_last_words(const struct demo *d, uint32_t index, struct arena *arena);
/* Asks the processes of a set to end, waits, and at last makes them. Returns how many had to be made. */
MAYYIELD uint32_t demo_stop_nodes(struct demo *d, demo_set which);
/* SIGKILL, and waits until they are gone. */
MAYYIELD void demo_kill_nodes(struct demo *d, demo_set which);

enum demo_health {
    DEMO_DOWN,
    DEMO_PAUSED,
    DEMO_STARTING, /* A process that does not (yet) serve SQL. */
    DEMO_LIVE,
};

NOYIELD const char *demo_health_text(enum demo_health h);
/* Asks all nodes at once. */
MAYYIELD NODISCARD struct status demo_ask_health(const struct demo *d, uint32_t timeout_ms,
                                                 struct arena *arena,
                                                 enum demo_health out[DEMO_NODES_MAX]);

/* ---- cluster.c ---- */

/*
 * Starts all nodes of d and waits until each serves SQL and knows all others as live. New nodes start
 * one after the other, so that the cluster numbers them as d does.
 *
 * interrupted  Asked now and then; true ends the wait.
 *
 * Errors:  STATUS_CANCELLED (interrupted), STATUS_TIMEOUT, STATUS_CLOSED (a node ended; the message
 *          says what it wrote last). Processes that were started are left as they are.
 */
MAYYIELD NODISCARD struct status demo_start(struct demo *d, bool (*interrupted)(void *ctx),
                                            void *ctx, struct arena *arena);
/* Waits until the nodes of a set serve SQL; errors as above. */
MAYYIELD NODISCARD struct status demo_wait(struct demo *d, demo_set which, uint32_t timeout_ms,
                                           bool (*interrupted)(void *ctx), void *ctx,
                                           struct arena *arena);

/* ---- links.c ---- */

/* Tells every node that runs which of its links are cut, as d->cut says. Returns how many of them did
 * not answer: those are paused or ending. */
MAYYIELD NODISCARD struct status demo_apply_cuts(const struct demo *d, demo_set which,
                                                 struct arena *arena, uint32_t *silent_out);
