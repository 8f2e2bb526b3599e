/*
 * txn_fake.h -- transactions over a sorted array, in place of node/txn at link time.
 *
 * One version per key with the timestamp of its last change; a read of something newer than the read
 * timestamp, or a commit over a span that has changed, is STATUS_TXN_RETRY. No ranges, no yields
 * unless asked for. struct kv is the store.
 */
#pragma once

#include "node/base/arena.h"
#include "node/runtime/hlc.h"
#include "node/txn/txn.h"

struct fake_row {
    struct bytes key;
    struct bytes value; /* ptr NULL: deleted. */
    struct hts changed;
};

struct kv {
    struct hlc *hlc;
    struct arena arena;
    struct fake_row *rows;
    uint32_t count;
    uint32_t cap;
    uint64_t reads;
    uint64_t commits;      /* With writes. */
    enum status_code fail; /* STATUS_OK: nothing. Given by the operation that counts down to 0. */
    uint32_t fail_in;      /* Operations (reads, commits) until then, from 1. */
    enum status_code fail_always; /* The same, of every one. */
    enum status_code fail_commit; /* Commits with writes: answered instead of committing... */
    uint32_t fail_commits;        /* ... this many times, */
    uint32_t fail_after;          /* after this many have gone through. */
    bool commit_anyway;           /* ... but done all the same (STATUS_AMBIGUOUS). */
    uint64_t read_takes_ns;       /* Reads sleep. */
    uint64_t locks;               /* Rows that were locked by key. */
    uint64_t statements;          /* Calls of txn_statement(). */
    struct txn_options begun;     /* With which the last transaction began. */
};

NOYIELD void fake_kv_init(struct kv *kv, struct hlc *hlc);
NOYIELD void fake_kv_deinit(struct kv *kv);
/* Rows that are there. */
NOYIELD uint32_t fake_kv_rows(const struct kv *kv);
/* A write from outside of any transaction. */
NOYIELD void fake_kv_put(struct kv *kv, struct bytes key, struct bytes value);
