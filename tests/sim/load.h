/*
 * load.h -- the clients: fibers on every node that work on registers, lists, a bank and more.
 *
 * A client lives as long as its node's process; the next process gets new ones. What it does goes into
 * the history. How it does it (SQL, or transactions on keys) is a struct load_api.
 */
#pragma once

#include "node/base/arena.h"
#include "tests/sim/history.h"
#include "tests/sim/world.h"

#define LOAD_ACCOUNTS      8u
#define LOAD_ACCOUNT_START 1000
#define LOAD_TOTAL         ((int64_t)LOAD_ACCOUNTS * LOAD_ACCOUNT_START)
#define LOAD_FIRST_TABLE   9001u /* Of the workloads on keys. */
#define LOAD_PAST_TABLES   8u    /* So many tables are read in the past. */
#define LOAD_LOCKS_MAX     3u    /* Rows that one transaction locks. */
#define LOAD_PAIRS         6u    /* Of switches. */
#define LOAD_APPEND_OPS    5u    /* Of a transaction over lists. */
#define LOAD_LOOK_LISTS    64u   /* The same at the last look. */

struct client {
    struct sim_node *node;
    uint32_t id;
    struct rng rng;
    struct arena arena; /* Of one operation. */
    struct op op;       /* Under way; answers go here. */
    void *session;      /* Of the api. */
};

/*
 * Operations as a client sees them, on c->op; each yields. Reads that fail for any reason are
 * OP_FAILED. OP_UNKNOWN is for writes whose outcome nobody told.
 */
struct load_api {
    const char *name;
    enum op_outcome (*setup)(struct client *c); /* Tables, accounts, counter: once per run. */
    enum op_outcome (*run)(struct client *c);
    void (*close)(struct client *c);
};

/* Elements that a client has read: for op->elements and lists. The caller frees. */
void load_push(uint64_t **list, uint32_t *count, uint64_t element);

/* load_past.c: OP_PAST, for all of them. */
MAYYIELD enum op_outcome load_past(struct client *c);

extern const struct load_api load_kv;
extern const struct load_api load_sql;

/* Tables that clients make and drop while others use them. */
#define LOAD_TABLES 8u
enum load_table_state {
    LOAD_TABLE_FREE,
    LOAD_TABLE_CHANGING, /* CREATE or DROP is under way, or nobody knows how it ended. */
    LOAD_TABLE_THERE,
    LOAD_TABLE_GONE,
};
struct load_table {
    enum load_table_state state;
    uint64_t id; /* Part of its name; never used twice. */
};
struct load_table *load_table(struct load *l, uint32_t i);

struct load *load_create(struct sim_world *w);
void load_destroy(struct load *l);
/* A process got ready: it gets its clients (or does the setup). */
void load_node_ready(struct sim_node *n);
bool load_is_set_up(const struct load *l);
/* The cluster was healed now: until a node has had a write and a read acknowledged, its clients try
 * nothing else. */
void load_probe(struct load *l);
/* No new operations. */
void load_stop(struct load *l);
bool load_is_stopped(const struct load *l);
/* Clients of a node that have not ended; of all. */
uint32_t load_clients_of(const struct load *l, uint32_t node);
uint32_t load_clients(const struct load *l);
/* Of them, those that are in a transaction of several keys. */
uint32_t load_transactions_of(const struct load *l, uint32_t node);
bool load_uses_sql(const struct load *l);

/*
 * A last look from one node: set, counter, bank and lists whole, its share of the registers and unique
 * keys that were ever used, as operations of the history. False: the node could not start it. *done tells when it is over, *ok how it went.
 */
bool load_verify(struct sim_node *n, bool *done, bool *ok);
