/*
 * append.h -- do transactions that append to lists and read them behave like a serial execution?
 *
 * A list shows its whole history: the order of its elements is the order in which their transactions
 * took effect, and a reader names everything that came before it. From that follow the dependencies
 * between transactions, ww, wr and rw; a cycle of them is an anomaly. Besides, our guarantee is
 * "serializable, and per key never stale": what was acknowledged before a transaction began is in what
 * it reads of the same key.
 *
 * Source: Adya, "Weak Consistency" (1999); Kingsbury and Alvaro, "Elle" (2020).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/sim/history.h"

enum append_kind {
    APPEND_READ, /* -> list */
    APPEND_ADD,  /* of `value`, which nobody else ever appends */
};

struct append_op {
    enum append_kind kind;
    uint64_t key;
    uint64_t value;
    uint64_t *list; /* What was read, own appends included. */
    uint32_t count;
    bool done; /* A read that was not answered says nothing. */
};

struct append_txn {
    enum op_outcome outcome;
    bool read_committed; /* Others may change what it read before it commits. */
    uint64_t id;         /* For messages. */
    uint64_t called;
    uint64_t returned;
    const struct append_op *ops; /* In program order. */
    uint32_t count;
};

enum append_anomaly {
    APPEND_FINE,
    APPEND_GARBAGE,      /* An element that nobody appended to this list. */
    APPEND_DUPLICATE,    /* An element twice. */
    APPEND_INTERNAL,     /* A transaction does not see what it did itself, or its reads differ. */
    APPEND_G1A,          /* Saw what was never committed. */
    APPEND_G1B,          /* Saw a state in the middle of another transaction. */
    APPEND_INCOMPATIBLE, /* Two readers saw different orders. */
    APPEND_LOST,         /* Acknowledged, read later, and in nobody's list. */
    APPEND_STALE,        /* A read of a key older than what was acknowledged before. */
    APPEND_FUTURE,       /* Saw what was only asked for later. */
    APPEND_G0,           /* A cycle of ww alone. */
    APPEND_G1C,          /* Of ww and wr. */
    APPEND_G_SINGLE,     /* With one rw: read skew, lost update. */
    APPEND_G2_ITEM,      /* With several: write skew, long fork. */
    APPEND_ANOMALY_COUNT
};

const char *append_anomaly_name(enum append_anomaly a);

/* The worst that was found, and in `why` the evidence. */
enum append_anomaly append_check(const struct append_txn *txns, size_t count, char *why,
                                 size_t why_size);
