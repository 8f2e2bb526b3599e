/*
 * internal.h -- a transaction, its commit and what goes on behind it, shared by the files of this folder.
 */
#pragma once

#include "node/base/list.h"
#include "node/kv/kv.h"
#include "node/runtime/fiber.h"
#include "node/txn/txn.h"

#define TXN_LOCKS_MAX 100000u

enum write_kind {
    WRITE_PUT,
    WRITE_INSERT, /* The commit checks that the key is absent. */
    WRITE_DELETE,
    WRITE_UNDONE, /* Inserted and deleted again: the commit still checks that the key is absent. */
};

static inline bool leaves_row(enum write_kind kind)
{
    return kind == WRITE_PUT || kind == WRITE_INSERT;
}

struct write {
    enum write_kind kind;
    struct bytes key;
    struct bytes value;
    struct hts since; /* READ COMMITTED: what the statement saw of the key; zero: nothing. */
};

struct span {
    struct bytes start;
    struct bytes end; /* Empty: the single key. */
};

/* What was locked in some leaseholder's memory. */
struct held {
    struct span span;
    struct hts since; /* READ COMMITTED: the snapshot that saw it; zero: nothing to validate. */
};

/* Who a transaction is to ranges. Bytes are borrowed. */
struct txn_ref {
    struct kv *kv;
    struct uuid id; /* Zero: none yet. */
    struct bytes anchor;
    struct hts min_ts;
    uint32_t priority;
};

struct txn {
    struct kv *kv;
    struct arena *arena;
    struct txn_options o;
    struct txn_ref ref; /* Its anchor: where the record is, or would be. */
    struct hts began;   /* This snapshot's first try. */
    struct hts global_limit;
    struct kv_observed seen;
    struct hts read_ts;
    struct hts commit_ts;
    struct hts commit_limit; /* Zero: none. */
    struct write *writes;
    uint32_t count;
    uint32_t cap;
    uint32_t *index;
    uint32_t index_count;
    uint32_t index_cap;
    size_t bytes;
    struct span *spans;
    uint32_t spans_count;
    uint32_t spans_cap;
    bool has_read; /* Something at read_ts: it may not just move. */
    struct held *held;
    uint32_t held_count;
    uint32_t held_cap;
    struct bytes conflict_key;
    bool ended;

    /* With the service. */
    struct txn_service *service; /* NULL: the shard has none. */
    struct list link;            /* While it needs heartbeats. */
    bool beating;                /* A heartbeat is on its way. */
    bool doomed;                 /* Another transaction aborted it. */
    uint64_t holds_since_ns;     /* Monotonic. */
};

static inline struct status txn__no_memory(void)
{
    return FAIL(STATUS_MEMORY, "memory limit reached");
}

/* Doubles an array in the arena; the old one stays until the arena goes.
 * Errors: STATUS_MEMORY, also when *cap is `max` or above. */
NOYIELD NODISCARD struct status txn__grow(struct arena *arena, void **array, uint32_t *cap,
                                          size_t item_size, uint32_t max);

/* The status with its message in `arena`: before the arena that it lives in goes. */
NOYIELD struct status txn__keep_message(struct arena *arena, struct status st);

/* ---- buffer.c ---- */
/* First position in the index whose key is not below `key`. */
NOYIELD uint32_t txn__index_find(const struct txn *t, struct bytes key);
/* The newest write of the key; NULL: none. */
NOYIELD struct write *txn__find_write(const struct txn *t, struct bytes key);

/* ---- spans.c ---- */
/* Remembers that [start, end) was read at read_ts; end empty: one key. */
NOYIELD NODISCARD struct status txn__add_span(struct txn *t, struct bytes start, struct bytes end);
/* Everything that was read is as it was up to `to`: the snapshot moves there.
 * Errors: STATUS_TXN_RETRY, those of sending. */
MAYYIELD NODISCARD struct status txn__refresh(struct txn *t, struct hts to);
/* Waits until this node's clock has reached ts: nobody may be asked about the future. */
MAYYIELD NODISCARD struct status txn__wait_clock(struct kv *kv, struct hts ts);

/* ---- txn.c ---- */
/* Gives it an id and, if it has none, an anchor, which is copied. */
NOYIELD NODISCARD struct status txn__identify(struct txn *t, struct bytes anchor);
/* The same with the key of its first write. */
NOYIELD void txn__identify_by_write(struct txn *t);
/* Another id, as if it began now; its anchor, writes and reads stay. Locks are the old one's. */
NOYIELD void txn__renew(struct txn *t);
NOYIELD struct range_batch_txn txn__batch_txn(const struct txn *t);

/* ---- record.c ---- */
/* A batch of one request about the record of a transaction.
 * *out: how it stands. Errors: those of kv_send(). */
MAYYIELD NODISCARD struct status txn__ask_record(const struct txn_ref *ref, enum range_op op,
                                                 struct range_txn_args *args, uint64_t deadline_ns,
                                                 struct arena *arena, struct range_txn_info *out);
/* What became of a transaction of our own of which answers were lost; it is ended on the way.
 * *committed; *ts then. Errors: STATUS_AMBIGUOUS. */
MAYYIELD NODISCARD struct status txn__recover(const struct txn_ref *ref, uint64_t deadline_ns,
                                              struct arena *arena, bool *committed, struct hts *ts);

/* ---- settle.c ---- */
/* What is left to do when the outcome is clear, or when it has to be found out. */
struct settle {
    struct list link;
    struct txn_service *service;
    struct fiber *fiber;           /* While it runs. */
    struct txn_ref ref;            /* Its bytes are owned. */
    enum range_txn_status outcome; /* COMMITTED, ABORTED; PENDING: find out. */
    struct hts ts;                 /* Of the commit. */
    bool record;                   /* There may be a record. */
    bool decided;                  /* It says COMMITTED. */
    uint32_t count;
    size_t bytes;
    struct span spans[]; /* Of intents and locks, then their bytes. */
};
/* NULL without memory. Writes come first if `writes`; then all that is held. */
NOYIELD struct settle *txn__settle_create(const struct txn *t, bool writes);
NOYIELD void txn__settle_destroy(struct settle *s);
MAYYIELD void txn__settle_run(struct settle *s);
/* All that was written, as a record lists it for whoever cleans up: at most SETTLE_SPANS_MAX spans. */
#define SETTLE_SPANS_MAX 64u
NOYIELD NODISCARD struct status txn__settle_spans(const struct span *spans, uint32_t count,
                                                  struct arena *arena, struct key_span **out,
                                                  uint32_t *count_out);

/* ---- service.c ---- */
/* It holds locks or intents from now on: heartbeats begin after TXN_HEARTBEAT_NS. May be called again. */
NOYIELD void txn__service_enter(struct txn *t);
NOYIELD void txn__service_leave(struct txn *t);
/* Is this bug asked for? Never outside of builds with DSQL_PLANTS. */
NOYIELD bool txn__plant(const struct txn *t, enum txn_plant plant);
/* Runs it behind the caller's back; takes it. Without a service, at once. */
MAYYIELD void txn__service_settle(struct txn_service *service, struct settle *s);
/* The same for who may not yield: without a service nothing is done. */
NOYIELD void txn__service_settle_later(struct txn_service *service, struct settle *s);
