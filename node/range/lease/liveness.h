/*
 * liveness.h -- which stores promise each other what, and until when.
 *
 * A store asks every other store for support: "until this time of my clock do not help to elect
 * anybody in my place". One heartbeat per pair of stores carries all ranges. The promises are what
 * leader leases stand on, so they are durable before they are spoken: like the Raft core this is a
 * pure state machine whose owner writes and sends what liveness_take() hands out.
 *
 * Epochs: a store's requests carry an epoch, its own for each peer: a supporter whose promise has run
 * out withdraws it by moving on to the next epoch, and the requester follows with that peer alone. The
 * others' promises still stand, and leases may rest on them. A restart starts above all epochs used.
 *
 * Units:   struct hts of the HLC; durations in ns.
 * Source:  protocol reference 3.2-3.4; store liveness of CockroachDB. Differs: of the extensions only
 *          the highest is persisted, rounded up.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/bytes.h"
#include "node/base/hts.h"
#include "node/base/ids.h"
#include "node/base/status.h"

struct liveness;

#define LIVENESS_PEERS_MAX 1024u

struct liveness_options {
    store_id self;
    uint64_t heartbeat_ns; /* 0: 500 ms. */
    uint64_t
        support_ns;    /* 0: 2 s. Above 2 x heartbeat + round trip; half LIVENESS_PROMISE_NS_MAX. */
    uint64_t grace_ns; /* 0: 1.5 s. After a start or pause nothing is withdrawn for that long. */
};

#define LIVENESS_HEARTBEAT_NS_DEFAULT ((uint64_t)500000000)
#define LIVENESS_SUPPORT_NS_DEFAULT   ((uint64_t)2000000000)
#define LIVENESS_GRACE_NS_DEFAULT     ((uint64_t)1500000000)
/* Nobody asks for more: a broken peer must not keep our support for ever. */
#define LIVENESS_PROMISE_NS_MAX ((uint64_t)60000000000)
/* The HLC's durable upper bound runs this far ahead; it rides on the heartbeat's write. */
#define LIVENESS_CLOCK_AHEAD_NS ((uint64_t)2000000000)

struct liveness_msg {
    store_id from;
    store_id to;
    uint64_t epoch;
    struct hts expiration;
    bool response;
};

/*
 * record  What liveness_take() gave to persist last, or empty for a new store.
 * now     HLC reading. *wait_until_out: no Raft message may be handled before the clock has passed
 *         it (own promises of the life before); HTS_ZERO for a new store.
 * Errors: STATUS_CORRUPT, STATUS_MEMORY.
 */
NOYIELD NODISCARD struct status liveness_create(const struct liveness_options *o,
                                                struct bytes record, struct hts now,
                                                struct liveness **out, struct hts *wait_until_out);
NOYIELD void liveness_destroy(struct liveness *l);

/* Starts asking that store for support. Known ones are ignored. */
NOYIELD NODISCARD struct status liveness_add_peer(struct liveness *l, store_id peer);

/* Call at least every 100 ms: sends heartbeats that are due, withdraws promises that have run out. */
NOYIELD void liveness_tick(struct liveness *l, struct hts now);
/* A message of a peer; the envelope's clock was forwarded before. */
NOYIELD void liveness_receive(struct liveness *l, const struct liveness_msg *m, struct hts now);

/* When the next heartbeat or withdrawal is due. */
NOYIELD struct hts liveness_next_due(const struct liveness *l);

/*
 * A record to persist (synced) with its version, or false. After that write is durable call
 * liveness_durable(version): messages and changes that depend on it come free.
 */
NOYIELD bool liveness_take_record(struct liveness *l, struct buf *record_out,
                                  uint64_t *version_out);
NOYIELD void liveness_durable(struct liveness *l, uint64_t version);
/* Next message that may be sent, or false. */
NOYIELD bool liveness_take_msg(struct liveness *l, struct liveness_msg *out);
/* Next store whose support changed, in either direction, or false. */
NOYIELD bool liveness_take_changed(struct liveness *l, store_id *out);

/* Does this store support `peer` (true: with which epoch)? Withdrawals count once durable. */
NOYIELD bool liveness_support_for(const struct liveness *l, store_id peer, uint64_t *epoch_out);
/* Support that this store has; for itself its own durable promise. Epoch 0: none. */
NOYIELD void liveness_support_from(const struct liveness *l, store_id peer, uint64_t *epoch_out,
                                   struct hts *expiration_out);
/* Durable upper bound for the HLC, 0 before the first write. */
NOYIELD uint64_t liveness_clock_bound(const struct liveness *l);

/* Planted bugs for the simulator (builds with DSQL_PLANTS). */
enum liveness_plant {
    LIVENESS_PLANT_FORGET_WITHDRAWAL = 1, /* withdraws in memory before it is durable */
    LIVENESS_PLANT_NO_RESTART_WAIT = 2,   /* a restarted store does not wait for its promises */
};
NOYIELD void liveness_set_plants(struct liveness *l, uint32_t plants);
