/*
 * descriptor.h -- which keys a range holds and where its replicas stand.
 *
 * The descriptor is a versioned key-value row on the range itself (0x02 esc(start) term 'd'), copied
 * to meta2 under the range's end key. It is also the Raft configuration: voters and learners are
 * derived from it, never stored twice.
 *
 * Source: protocol reference 10.2.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/arena.h"
#include "node/base/bytes.h"
#include "node/base/ids.h"
#include "node/base/status.h"
#include "node/raft/raft.h"
#include "node/rpc/range.pb-c.h"

#define RANGE_FIRST_ID    1u
#define RANGE_FIRST_INDEX 10u /* A new range starts here: an empty log is never a complete one. */
#define RANGE_FIRST_TERM  5u

enum range_replica_type {
    RANGE_VOTER = 0,
    RANGE_NON_VOTER = 1,
    RANGE_LEARNER = 2,        /* On its way to become a voter. */
    RANGE_VOTER_INCOMING = 3, /* Joint configuration. */
    RANGE_VOTER_DEMOTING = 4, /* Joint configuration. */
    RANGE_REPLICA_TYPE_COUNT
};

struct range_replica {
    node_id node;
    store_id store;
    replica_id id;
    enum range_replica_type type;
};

/* Plain data; start and end are borrowed from the arena it was decoded into. */
struct range_desc {
    range_id id;
    struct bytes start; /* Inclusive. */
    struct bytes end;   /* Exclusive. */
    struct range_replica replicas[RAFT_PEERS_MAX];
    uint32_t replicas_count;
    uint32_t next_replica; /* Above every replica id ever used. */
    uint64_t generation;   /* Grows with every change. */
};

NOYIELD bool range_desc_contains(const struct range_desc *d, struct bytes key);
/* NULL when not a member. */
NOYIELD const struct range_replica *range_desc_find(const struct range_desc *d, store_id store);
NOYIELD const struct range_replica *range_desc_find_id(const struct range_desc *d, replica_id id);
/* The Raft configuration that the descriptor means. */
NOYIELD void range_desc_conf(const struct range_desc *d, struct raft_conf *out);
NOYIELD bool range_desc_is_joint(const struct range_desc *d);

NOYIELD NODISCARD struct status range_desc_dup(struct arena *arena, const struct range_desc *d,
                                               struct range_desc *out);
/* Appends the stored form. */
NOYIELD NODISCARD struct status range_desc_encode(const struct range_desc *d, struct buf *out);
/* Errors: STATUS_CORRUPT; everything is checked, bytes may come from anywhere. */
NOYIELD NODISCARD struct status range_desc_decode(struct bytes b, struct arena *arena,
                                                  struct range_desc *out);
/* From and to the wire message; `pb` and `pb_replicas` are the caller's memory, borrowed by pb. */
NOYIELD void range_desc_to_pb(const struct range_desc *d, Dsql__Pb__RangeDesc *pb,
                              Dsql__Pb__ReplicaDesc *pb_replicas,
                              Dsql__Pb__ReplicaDesc **pb_pointers);
NOYIELD NODISCARD struct status range_desc_from_pb(const Dsql__Pb__RangeDesc *pb,
                                                   struct arena *arena, struct range_desc *out);
