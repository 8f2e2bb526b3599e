/*
 * protected.h -- records of protected timestamps: what garbage collection must leave alone.
 *
 * Who relies on old versions (a backup, a feed, a backfill) writes a record under 0x06 'p' uuid, in the same
 * transaction as his job; every node reads all of them now and then and hands them to its store with the
 * time of the read (store_set_protected()). store_protection_holds() says whether a record came in time.
 *
 * Source: protocol reference 12.4.
 */
#pragma once

#include "node/range/store.h"
#include "node/storage/key/key.h"

struct protected_record {
    struct hts ts;
    const struct key_span *spans;
    uint32_t spans_count;
};

#define PROTECTED_SPANS_MAX 1000u

NOYIELD void protected_key(struct key_enc *e, struct uuid id);
NOYIELD NODISCARD struct status protected_encode(const struct protected_record *p, struct buf *out);
/* Borrows from `b` and the arena. Errors: STATUS_CORRUPT, STATUS_MEMORY. */
NOYIELD NODISCARD struct status protected_decode(struct bytes b, struct arena *arena,
                                                 struct protected_record *out);
