/*
 * process.h -- a whole dsqld: shards as threads, sockets, RocksDB, signals.
 */
#pragma once

#include "node/server/config.h"
#include "node/server/node.h"

struct process;
struct rpc_tcp;
struct pgwire;

/* Everything of one shard. */
struct process_shard {
    struct process *process;
    uint32_t index;
    struct env *env;
    struct shard *shard;
    struct engine *engine;
    struct rpc_tcp *tcp;
    struct node *node;
    struct pgwire *pgwire;
    bool stopped;
};

/* Runs until SIGTERM or SIGINT or a fatal error; returns the exit code of the program. Messages for
 * people go to stderr, log events to stderr as JSON lines. */
NOYIELD int process_run(const struct config *c);

/* For the admin endpoints: shard 0. */
NOYIELD struct process_shard *process_first(struct process *p);
NOYIELD uint32_t process_shards(const struct process *p);
NOYIELD const struct config *process_config(const struct process *p);
/* Starts an orderly stop, as SIGTERM does. */
NOYIELD void process_stop(struct process *p);
