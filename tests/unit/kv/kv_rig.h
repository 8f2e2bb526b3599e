/*
 * kv_rig.h -- a kv on one node, and other nodes that answer as a test tells them.
 *
 * Node 0 has the kv and no store behind it, so that every batch travels. Nodes 1..3 stand in for the
 * stores 2..4: each request takes the next answer of the node's script, the last one for ever.
 */
#pragma once

#include "node/kv/kv.h"
#include "node/storage/key/key.h"
#include "tests/unit/range/cluster.h"

#define RIG_ANSWERS_MAX 8
#define RIG_NODES       4

struct rig;

struct rig_answer {
    enum status_code code;   /* Inside the result. */
    enum status_code refuse; /* Not OK: the call itself ends with it. */
    bool silent;             /* No answer at all. */
    bool garbage;            /* An answer that cannot be read. */
    uint32_t hint;           /* Store that leads, 0: none. */
    const struct range_desc *desc;
    struct bytes rows; /* Of the first response, with one row. */
    uint32_t conflict;
    struct hts commit_ts;
    struct hts uncertain_ts;
    struct hts now;
};

struct rig_node {
    struct rig *rig;
    struct rig_answer answers[RIG_ANSWERS_MAX];
    uint32_t answers_count;
    uint32_t asked;
    range_id last_range;
    struct range_batch last; /* In the rig's arena. */
    const char *log;         /* Of all batches: "7:get k,get l 8:put m". */
};

struct rig {
    struct cluster c;
    struct kv *kv;
    struct range_desc first; /* Voters on the stores 2, 3 and 4. */
    struct rig_node nodes[RIG_NODES];
    struct arena arena;
};

void rig_start(struct rig *r);
void rig_stop(struct rig *r);
void rig_answer(struct rig *r, uint32_t node, struct rig_answer a);
uint32_t rig_asked(const struct rig *r);

struct rig_call {
    struct rig *rig;
    struct range_request request; /* Used when the batch has none. */
    struct range_batch batch;
    struct kv_call call;
    uint64_t deadline_ms; /* 0: DEADLINE_NONE. */
    struct fiber *fiber;
    struct range_result result;
    struct status st;
    bool done;
};
/* Sends and waits up to 12 s. The result lives in the rig's arena. */
struct status rig_send(struct rig *r, struct rig_call *call);
void rig_send_start(struct rig *r, struct rig_call *call);
/* A read and a write of one key. */
struct status rig_get(struct rig *r);
struct status rig_put(struct rig *r);
