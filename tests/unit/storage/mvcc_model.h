/*
 * mvcc_model.h -- what mvcc must do, said naively: arrays, loops, no bytes.
 */
#pragma once

#include "node/storage/mvcc/mvcc.h"

#define MODEL_KEYS     8
#define MODEL_TXNS     3
#define MODEL_VERSIONS 96
#define MODEL_WRITES   64

struct model_value {
    bool present;
    uint8_t v; /* Values are one byte. */
};

struct model_version {
    struct hts ts;
    struct hts local_ts;
    struct model_value value;
};

struct model_write {
    uint32_t seq;
    struct model_value value;
};

struct model_key {
    struct model_version versions[MODEL_VERSIONS]; /* Committed ones, in no order. */
    uint32_t version_count;
    bool intent;
    uint32_t owner;
    uint32_t epoch;
    struct hts ts;
    struct hts local_ts;
    struct model_write writes[MODEL_WRITES];
    uint32_t write_count;
    bool plain[MODEL_TXNS][MVCC_INTENT]; /* SHARED and EXCLUSIVE locks. */
    uint32_t plain_epoch[MODEL_TXNS][MVCC_INTENT];
    uint32_t plain_seq[MODEL_TXNS][MVCC_INTENT];
};

struct model {
    struct model_key keys[MODEL_KEYS];
};

struct model_get {
    enum mvcc_conflict_kind conflict;
    struct model_value value;
    struct hts ts;
    bool own;
};

/* `who`: index of the reading transaction in the array, or -1. */
struct model_get model_get(const struct model *m, uint32_t key, const struct mvcc_read *opt,
                           int who);

struct model_put {
    enum mvcc_conflict_kind conflict;
    struct mvcc_written out;
};

struct model_put model_put(struct model *m, uint32_t key, const struct mvcc_write *op, int who);
enum mvcc_conflict_kind model_lock(struct model *m, uint32_t key, enum mvcc_strength strength,
                                   const struct mvcc_txn *txn, int who);
/* True if there was an intent. */
bool model_resolve(struct model *m, uint32_t key, const struct mvcc_resolve *how, int who);
uint32_t model_gc(struct model *m, uint32_t key, struct hts threshold);
enum mvcc_conflict_kind model_refresh(const struct model *m, uint32_t key, struct hts from,
                                      struct hts to, int who);
enum mvcc_intent_state model_query(const struct model *m, uint32_t key, int who, uint32_t epoch,
                                   uint32_t seq, struct hts ts);
/* Locks of others on the key that exclude `want`. */
uint32_t model_locks(const struct model *m, uint32_t key, enum mvcc_strength want, int who);
