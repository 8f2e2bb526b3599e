/*
 * cluster.h -- a few stores in one thread for tests of node/range: engines in memory, frames handed
 * from one to the other, no faults but those that a test makes.
 */
#pragma once

#include "node/range/store.h"
#include "tests/lib/env_fake.h"
#include "tests/lib/test.h"

#define CLUSTER_MAX 5

struct cluster;

struct cluster_node {
    struct cluster *cluster;
    uint32_t index;
    bool up;
    bool cut; /* Frames from and to it vanish. */
    struct shard *shard;
    struct hlc hlc;
    struct rpc *rpc;
    struct memdisk *disk;
    struct engine *engine;
    struct store *store;
    uint32_t fatal;
};

struct cluster {
    struct fake_world *world;
    struct cluster_node nodes[CLUSTER_MAX];
    uint32_t count;
    struct list frames;
};

/* Node 1 holds the first range. */
void cluster_start(struct cluster *c, uint32_t count);
void cluster_stop(struct cluster *c);
/* Time passes; frames are delivered in between. */
void cluster_run_ms(struct cluster *c, uint64_t ms);
/* One put on node i, waited for up to 10 s; the code that came back. */
enum status_code cluster_put(struct cluster *c, uint32_t i, const char *key, const char *value);
/* The value, "" when absent, NULL on an error (code in *code). Static memory. */
const char *cluster_get(struct cluster *c, uint32_t i, const char *key, enum status_code *code);
enum status_code cluster_add_voter(struct cluster *c, uint32_t i, uint32_t target);
enum status_code cluster_remove(struct cluster *c, uint32_t i, uint32_t target);
enum status_code cluster_transfer(struct cluster *c, uint32_t i, uint32_t target);
/* Index of the leaseholder of the first range, or -1. */
int cluster_leaseholder(struct cluster *c);
/* Power is cut: all but `keep` unsynced writes are lost. */
void cluster_crash(struct cluster *c, uint32_t i, uint32_t keep);
void cluster_restart(struct cluster *c, uint32_t i);
