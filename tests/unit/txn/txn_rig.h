/*
 * txn_rig.h -- transactions over one store in memory.
 */
#pragma once

#include "node/kv/kv.h"
#include "node/txn/txn.h"
#include "tests/unit/range/cluster.h"

struct rig {
    struct cluster c;
    struct kv *kv;
    struct arena arena; /* For the results of a test. */
    void (*body)(struct rig *r);
    bool done;
};

/* Runs `body` on a fiber of a fresh store. */
void rig_run(void (*body)(struct rig *r));

/* Begins an explicit transaction. */
struct txn *rig_begin(struct rig *r);
struct txn *rig_begin_with(struct rig *r, struct txn_options o);
/* A write of its own, committed. */
enum status_code rig_put(struct rig *r, const char *key, const char *value);
/* "" when absent, NULL on an error. In the rig's arena. */
const char *rig_get(struct rig *r, struct txn *t, const char *key);
/* All rows of the span as "a=1 b=2", by scans of `rows_max` rows. */
const char *rig_scan(struct rig *r, struct txn *t, const char *start, const char *end, bool reverse,
                     uint32_t rows_max);
