/*
 * cluster.h -- a few stores in one thread for tests of node/range: engines in memory, frames handed
 * from one to the other, no faults but those that a test makes.
 */
#pragma once

#include "node/base/hash.h"
#include "node/range/store.h"
#include "node/runtime/fiber.h"
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

/* A frame on its way, as far as a test wants to know. */
struct cluster_frame {
    uint32_t from;
    uint32_t to;
    enum rpc_type type;
    bool reply;
    struct bytes bytes; /* The whole frame. */
};

struct cluster {
    struct fake_world *world;
    struct cluster_node nodes[CLUSTER_MAX];
    uint32_t count;
    struct list frames;
    bool duplicate;      /* Each frame arrives twice. */
    uint64_t latency_ms; /* 0: frames arrive at once. */
    uint64_t ms;
    bool reorder; /* Frames that wait arrive in any order. */
    struct rng rng;
    /* Asked for each frame before it arrives; false: it is lost. NULL: none is. */
    bool (*filter)(void *ctx, const struct cluster_frame *f);
    void *filter_ctx;
    uint64_t log_bytes_max; /* Of stores that start from now on. */
    bool no_send;           /* Likewise. */
    uint64_t closed_lag_ms; /* Likewise. */
    uint64_t side_interval_ms;
    uint32_t plants;
};

/* Zeros: as of the store. */
struct cluster_options {
    uint64_t closed_lag_ms;
    uint64_t side_interval_ms;
    uint32_t plants;
    bool no_send; /* Stores find no other range, nor themselves. */
    /* NULL: the twin in memory. Others cannot crash. */
    struct engine *(*open_engine)(void *ctx, uint32_t i);
    void *open_ctx;
};

/* Node 1 holds the first range. Stores find other ranges with the eyes of the test. */
void cluster_start(struct cluster *c, uint32_t count);
void cluster_start_with(struct cluster *c, uint32_t count, struct cluster_options o);
/* A filter: closed timestamps of idle ranges are lost. */
bool cluster_drop_closed(void *ctx, const struct cluster_frame *f);
void cluster_stop(struct cluster *c);
/* Time passes; frames are delivered in between. */
void cluster_run_ms(struct cluster *c, uint64_t ms);

enum cluster_call_kind {
    CLUSTER_EXECUTE,
    CLUSTER_ADD_VOTER,
    CLUSTER_REMOVE,
    CLUSTER_TRANSFER,
    CLUSTER_SPLIT,
    CLUSTER_MERGE,
    CLUSTER_SETTLE,
    CLUSTER_ADDRESS,
    CLUSTER_SEND, /* As the store itself sends: to whoever leads. */
};

/* Something asked of a node's store on a fiber of its own. Zeroed but for the first fields. */
struct cluster_call {
    struct cluster_node *node;
    enum cluster_call_kind kind;
    uint32_t target;          /* Of the changes: index of the node. */
    uint64_t range;           /* 0: the first. */
    struct bytes key;         /* SPLIT. */
    struct range_request one; /* EXECUTE: used when the batch has no requests. */
    struct range_batch batch; /* EXECUTE; the range is filled in. */
    uint64_t timeout_ms;      /* 0: 9 s. */
    struct fiber *fiber;      /* While it runs. */
    struct arena arena;
    struct range_result result;
    struct status st;
    bool done;
};
void cluster_call_start(struct cluster_call *call);
/* Until it is done, or `ms` have passed; true when done. */
bool cluster_call_wait(struct cluster_call *call, uint64_t ms);
/* Frees what the result lies in. */
void cluster_call_end(struct cluster_call *call);

/* One put on node i, waited for up to 10 s; the code that came back. */
enum status_code cluster_put(struct cluster *c, uint32_t i, const char *key, const char *value);
/* The value, "" when absent, NULL on an error (code in *code). Static memory. */
const char *cluster_get(struct cluster *c, uint32_t i, const char *key, enum status_code *code);
enum status_code cluster_add_voter(struct cluster *c, uint32_t i, uint32_t target);
enum status_code cluster_remove(struct cluster *c, uint32_t i, uint32_t target);
enum status_code cluster_transfer(struct cluster *c, uint32_t i, uint32_t target);
/* Index of the leaseholder of the first range, or -1. */
int cluster_leaseholder(struct cluster *c);
/* Waits up to 10 s for one; -1 when there is none. */
int cluster_wait_leaseholder(struct cluster *c);
/* Voters of the first range as node i sees them, and whether it holds a replica at all. */
uint32_t cluster_voters(struct cluster *c, uint32_t i);
bool cluster_has_replica(struct cluster *c, uint32_t i);
/* All replicas of running nodes hold the same bytes at the same index. */
bool cluster_digests_equal(struct cluster *c);
/* Power is cut: all but `keep` unsynced writes are lost. */
void cluster_crash(struct cluster *c, uint32_t i, uint32_t keep);
void cluster_restart(struct cluster *c, uint32_t i);
