/*
 * finished.c -- sets of four by the hash of the id; within a set the oldest is replaced.
 */
#include "node/range/conflict/finished.h"

#include "node/base/hash.h"
#include "node/base/invariant.h"

static uint32_t set_of(struct uuid txn)
{
    return (uint32_t)(hash64(bytes_of(txn.b, sizeof(txn.b)), 0) % FINISHED_SETS);
}

const struct finished_txn *finished_find(const struct finished_txns *f, struct uuid txn)
{
    const struct finished_txn *set = f->sets[set_of(txn)];

    for (uint32_t i = 0; i < FINISHED_WAYS; i++) {
        if (uuid_eq(set[i].txn, txn) && !uuid_is_zero(txn)) {
            return &set[i];
        }
    }
    return NULL;
}

void finished_add(struct finished_txns *f, struct uuid txn, enum range_txn_status status,
                  struct hts ts)
{
    const uint32_t set = set_of(txn);
    const struct finished_txn *known = finished_find(f, txn);

    INVARIANT(status == RANGE_TXN_COMMITTED || status == RANGE_TXN_ABORTED);
    INVARIANT(!uuid_is_zero(txn));
    if (known != NULL) {
        return;
    }
    f->sets[set][f->next[set]] = (struct finished_txn){.txn = txn, .status = status, .ts = ts};
    f->next[set] = (uint8_t)((f->next[set] + 1) % FINISHED_WAYS);
}
