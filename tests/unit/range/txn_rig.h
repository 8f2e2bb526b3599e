/*
 * txn_rig.h -- transactions as a coordinator would run them, for tests of waiting and pushing.
 */
#pragma once

#include "node/range/internal.h"
#include "tests/unit/range/cluster.h"

/* Gives all stores a way to send to other ranges: to whichever of the running stores has the lease. */
void rig_connect(struct cluster *c);
/* Three stores with that many ranges; the lease of range i is on node i % 3. */
void rig_start_ranges(struct cluster *c, uint32_t ranges);
/* Hands over the lease of a range, from whoever has it. True: the target has it by now. */
bool rig_move_lease(struct cluster *c, range_id range, uint32_t target);
/* A key of such a range. `mem` holds 8 bytes. */
struct bytes rig_key(uint8_t *mem, uint32_t range, uint8_t letter);
/* Batches sent so far by all stores. */
uint32_t rig_sent(void);

/* One transaction as its coordinator sees it. */
struct rig_txn {
    struct cluster_node *node;
    struct uuid id;
    struct bytes anchor;
    uint32_t priority;
    struct hts min_ts;
    struct hts write_ts; /* Zero: min_ts. */
};
/* Begins now, without a word to anybody. */
struct rig_txn rig_begin(struct cluster_node *node, uint32_t number, struct bytes anchor);

/* The following run on a fiber of the node's shard. */
/* SELECT FOR UPDATE (or SHARE) of one key. */
MAYYIELD struct status rig_lock(const struct rig_txn *t, struct bytes key, enum mvcc_strength s);
/* Lays an intent. */
MAYYIELD struct status rig_write(const struct rig_txn *t, struct bytes key);
/* Commits PUTs of these keys in one phase. */
MAYYIELD struct status rig_commit(const struct rig_txn *t, const struct bytes *keys,
                                  uint32_t count);
/* Gives up: record and locks go. */
MAYYIELD struct status rig_abort(const struct rig_txn *t, const struct bytes *keys, uint32_t count);
MAYYIELD struct status rig_heartbeat(const struct rig_txn *t);
/* END_TXN at `ts`, with `keys` as what is in flight and what it wrote. */
MAYYIELD struct status rig_end(const struct rig_txn *t, enum range_txn_status status, struct hts ts,
                               const struct bytes *keys, uint32_t count,
                               struct range_txn_info *out);
/* Any batch of one request; `info` (may be NULL) without pointers. */
MAYYIELD struct status rig_one(struct cluster_node *node, struct range_batch b,
                               const struct range_request *q, bool *found,
                               struct range_txn_info *info);
struct hts rig_now(const struct cluster_node *node);
