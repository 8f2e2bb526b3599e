/*
 * tscache.h -- up to which timestamp has a key been read, and by whom.
 *
 * A write must land above every read of its key that was answered before it. The cache answers "above
 * what?", never too low: it forgets by raising a floor. It belongs to the store, not to a replica: an
 * entry of a range whose lease has gone is only too careful, and splits and merges move nothing. Reads
 * that other stores have served are covered by the start of the lease, which the caller adds.
 *
 * It also keeps what leaseholders remember of transactions without a record (markers): `finished`, after
 * which no record may be created, and `pushed`, above which alone it may commit.
 *
 * Cost:    adding a point allocates nothing; memory is bounded by the options.
 * Source:  protocol reference 7; node/docs/0007. Differs: one per store, hand-over by floors.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/bytes.h"
#include "node/base/hts.h"
#include "node/base/ids.h"
#include "node/base/status.h"

struct tscache;

struct tscache_options {
    uint32_t
        points; /* Slots for single keys, a power of two; keys that share one are too careful. 0: 65536. */
    uint32_t spans;   /* Spans remembered; 0: 4096. */
    uint32_t markers; /* Transactions remembered; 0: 65536. */
};

NOYIELD NODISCARD struct status tscache_create(const struct tscache_options *o,
                                               struct tscache **out);
NOYIELD void tscache_destroy(struct tscache *c);

/* [start, end) was read at ts; end empty: one key. reader zero: nobody in particular. A transaction may
 * write at the timestamp of its own reads. Without memory the floor rises. */
NOYIELD void tscache_read(struct tscache *c, struct bytes start, struct bytes end, struct hts ts,
                          struct uuid reader);
/* The highest timestamp at which others than `writer` (zero: anybody) may have read `key`. */
NOYIELD struct hts tscache_max(const struct tscache *c, struct bytes key, struct uuid writer);

/* Everything below is useless from now on: nobody writes there any more. */
NOYIELD void tscache_forget_below(struct tscache *c, struct hts ts);

struct tscache_marker {
    bool finished; /* Aborted, or ended and cleaned up. */
    struct hts pushed;
};
NOYIELD void tscache_mark_finished(struct tscache *c, struct uuid txn, struct hts now);
NOYIELD void tscache_mark_pushed(struct tscache *c, struct uuid txn, struct hts to, struct hts now);
NOYIELD struct tscache_marker tscache_marker_of(const struct tscache *c, struct uuid txn);
/* Markers made before this time may have been forgotten: who began earlier and has no record must be
 * taken as finished. */
NOYIELD struct hts tscache_marker_floor(const struct tscache *c);
