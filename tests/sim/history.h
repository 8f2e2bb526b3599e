/*
 * history.h -- what clients asked, what they were told, and whether one database could have done so.
 *
 * Every operation ends in one of three ways: it was acknowledged, it certainly did not happen, or
 * nobody told (a timeout, a crash): then it may have happened at any time after its call, or never.
 *
 * `called` and `returned` count the steps of the world, which order everything that clients see.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct append_op;
struct sim_world;

enum op_kind {
    OP_READ,        /* of a register -> found, result */
    OP_WRITE,       /* of a register: arg */
    OP_CAS,         /* of a register: expect -> arg; refused: result is what was there, if known */
    OP_INSERT,      /* of element `key` into the set */
    OP_SET_READ,    /* of the whole set -> elements */
    OP_ADD,         /* of arg to the counter */
    OP_COUNT,       /* of the counter -> result */
    OP_TRANSFER,    /* between two accounts */
    OP_BANK,        /* all accounts -> result is the total */
    OP_SCHEMA,      /* a table made, used from anywhere, or dropped; judged on the spot */
    OP_APPEND,      /* a transaction over lists -> tx; append.h */
    OP_FORK_WRITE,  /* of item `key`, once for ever */
    OP_FORK_READ,   /* of all items of group `key` -> result, a bit each */
    OP_UNIQUE,      /* row `arg` claims `key`; refused: somebody has it */
    OP_UNIQUE_READ, /* who has `key` -> found, result by the index, expect by the table */
    OP_SKEW, /* one side (arg) of pair `key` changes, never both off -> result, what it saw */
    OP_PAST, /* table `key` at time arg -> result near, expect by the leaseholder; digests */
    OP_LOCKED_TRANSFER, /* the same as TRANSFER, read committed, of locked rows of another bank */
    OP_LOCKED_BANK,     /* its total */
    OP_LOCKS,           /* some rows locked in any order; of `key` */
    OP_KIND_COUNT
};

enum op_outcome {
    OP_UNKNOWN, /* Also while it is under way. */
    OP_OK,
    OP_FAILED,  /* Certainly without effect. */
    OP_REFUSED, /* CAS that met another value: a read in truth. */
};

#define OP_NEVER UINT64_MAX /* `returned` of an operation that did not return. */

struct op {
    enum op_kind kind;
    enum op_outcome outcome;
    uint32_t node;
    uint32_t client;
    uint64_t key;
    int64_t arg;
    int64_t expect;
    int64_t result;
    bool found;         /* READ, refused CAS: there was a value. */
    bool result_known;  /* Refused CAS. */
    uint64_t *elements; /* SET_READ; owned. */
    uint32_t elements_count;
    struct append_op *tx; /* APPEND; owned by the history. */
    uint32_t tx_count;
    uint64_t called;
    uint64_t returned;
    uint64_t called_ns;
    uint64_t returned_ns;
};

#define FORK_ITEMS 4u /* Of a group; its items are group * FORK_ITEMS + i. */

struct history {
    struct op *ops;
    size_t count;
    size_t cap;
    uint64_t outcomes[4];
};

struct history *history_create(void);
void history_destroy(struct history *h);

/* A call begins; the index names it from now on. */
size_t history_call(struct sim_world *w, const struct op *op);
/* It ends; fills in when. Unknown outcomes never return. */
void history_return(struct sim_world *w, size_t i, enum op_outcome outcome);

/* All checks; the first thing found goes to sim_fail(). `total`: what the accounts must add up to. */
void history_check(struct sim_world *w, int64_t total);

const char *op_text(const struct op *op, char *out, size_t size);
