/*
 * many_rig.h -- transactions over several ranges. The ranges stand on node 0; the gateway is node 1, so that
 * every batch travels and any answer can get lost.
 */
#pragma once

#include "node/base/hash.h"
#include "node/kv/kv.h"
#include "node/txn/txn.h"
#include "tests/unit/range/cluster.h"

struct many {
    struct cluster c;
    struct kv *kv;
    struct txn_service *service;
    struct arena arena;
    void (*body)(struct many *m);
    uint32_t workers; /* Fibers of the test besides its own. */
    bool done;
    /* The network. */
    uint32_t requests;  /* Batches sent by the gateway so far. */
    uint32_t replies;   /* And answered. */
    uint32_t drop_from; /* The replies number drop_from.. are lost, drop_count of them. */
    uint32_t drop_count;
    uint32_t drop_permille; /* Of all, by chance. */
    struct rng rng;
    uint64_t rounds; /* Moments at which requests left. */
    uint64_t last_sent_ns;
};

/* Runs `body` on a fiber of the gateway, with a range from each of the letters in `splits` on. */
void many_run(const char *splits, void (*body)(struct many *m));

struct txn *many_begin(struct many *m, struct txn_options o);
/* Keys are letters with a byte in front. The code of the operation. */
enum status_code many_put(struct txn *t, const char *key, const char *value);
/* A value, "" when absent, NULL on an error. */
const char *many_get(struct many *m, struct txn *t, const char *key);
const char *many_lock(struct many *m, struct txn *t, const char *key, enum status_code *code);
/* All rows as "a=1 b=2", as a transaction of its own sees them. */
const char *many_all(struct many *m);
const char *many_scan(struct many *m, struct txn *t, bool reverse, uint32_t rows_max);
/* Writes both in a transaction of its own. */
enum status_code many_put_two(struct many *m, const char *a, const char *b, const char *value);
/* Intents that stand anywhere. */
uint64_t many_intents(struct many *m);
void many_sleep_ms(uint64_t ms);
/* Waits until nothing is left of any transaction; false: something is after 8 s. */
bool many_settles(struct many *m);
/* Another fiber of the gateway. The body waits for all with many_join(). */
void many_spawn(struct many *m, void (*fn)(void *arg), void *arg);
void many_ended(struct many *m);
void many_join(struct many *m);
