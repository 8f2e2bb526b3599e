/*
 * finished.h -- transactions known to be over, so that nobody asks twice.
 *
 * Who was pushed and found committed or aborted often has left more than one intent. What the cache says is
 * final; what it has forgotten is asked again.
 *
 * Owner:   one per store, inside struct store; zero is empty. Allocates nothing.
 * Source:  protocol reference 6.6.
 */
#pragma once

#include <stdint.h>

#include "node/base/hts.h"
#include "node/base/ids.h"
#include "node/range/request.h"

#define FINISHED_SETS 1024u
#define FINISHED_WAYS 4u

struct finished_txn {
    struct uuid txn; /* Zero: free. */
    enum range_txn_status status;
    struct hts ts; /* COMMITTED. */
};

struct finished_txns {
    struct finished_txn sets[FINISHED_SETS][FINISHED_WAYS];
    uint8_t next[FINISHED_SETS]; /* To be replaced. */
};

/* status: COMMITTED or ABORTED. What is known already stays: when the record of a committed transaction has
 * gone, because all its intents are settled, it looks like an aborted one. */
NOYIELD void finished_add(struct finished_txns *f, struct uuid txn, enum range_txn_status status,
                          struct hts ts);
/* NULL: not known. Valid until the next finished_add(). */
NOYIELD const struct finished_txn *finished_find(const struct finished_txns *f, struct uuid txn);
