/*
 * exec_internal.h -- operators among themselves.
 */
#pragma once

#include "node/base/bytes.h"
#include "node/base/map.h"
#include "node/runtime/fiber.h"
#include "node/sql/exec/exec.h"
#include "node/txn/txn.h"

#define EXEC_FIRST_ROWS \
    32u /* First batch of a scan; then four times as many, up to VEC_ROWS_MAX. */

#define EXEC_ROW_MAX \
    ((size_t)7 << 20) /* Bytes of a stored row: it must fit one command of a range. */

struct op;

/* Rows that come and go one by one: INSERT, UPDATE, DELETE, for trees and point plans alike. */
struct modify {
    const struct plan_modify *plan;
    struct exec *x;
    struct buf value;
    union datum *row; /* The row being written: columns_count. */
    uint8_t *row_nulls;
    union datum *old; /* ON CONFLICT: the row that is there, then excluded. */
    uint8_t *old_nulls;
    struct program_run where;
    struct program_run sets;
    struct program_run returning;
    struct map touched; /* ON CONFLICT DO UPDATE: hashes of keys this command has written. */
};

struct op_ops {
    /* The next batch; lanes.count 0 at the end. */
    MAYYIELD struct status (*next)(struct op *o, struct batch *out);
};

struct op {
    const struct op_ops *ops;
    const struct plan_node *node;
    struct exec *x;
    struct op *input;
    uint64_t rows_hint; /* The consumer will not take more than so many rows; 0: unknown. */
};

struct exec {
    const struct plan *plan;
    struct exec_context ctx;
    struct arena *arena;
    struct sql_error *err;
    struct eval eval; /* eval.arena is set by each operator before it evaluates. */
    struct op *root;
    struct batch batch; /* What the root gave last, from `batch_at` on not yet sent. */
    uint32_t batch_at;
    bool ended;
    uint64_t rows;
    union datum *block_values; /* One row block. */
    uint8_t *block_nulls;
    uint32_t block_rows_max;
    /* Point plans. */
    struct program_run key;
    struct program_run filter;
    struct program_run columns;
    struct modify modify;
};

NOYIELD NODISCARD struct status exec__open_op(struct exec *x, const struct plan_node *node,
                                              uint64_t rows_hint, struct op **out);
/* Opens a program for this execution. p may be NULL. */
NOYIELD NODISCARD struct status exec__open_program(struct exec *x, const struct program *p,
                                                   struct program_run *r);
/* The status a kernel left behind. */
NOYIELD struct status exec__failed(struct exec *x);
/* Evaluates a row of inputs that stands in r->vals, with results in `arena`. */
NOYIELD NODISCARD struct status exec__scalar(struct exec *x, struct program_run *r,
                                             struct arena *arena);
static inline struct status exec__no_memory(void)
{
    return FAIL(STATUS_MEMORY, "no memory for the execution of a statement");
}
/* In loops that may be long: lets others run. Errors: STATUS_CANCELLED, STATUS_TIMEOUT. */
MAYYIELD static inline struct status exec__yield(void)
{
    fiber_yield_if_due();
    return fiber_check();
}
/* A child arena that is freed with the execution's. Errors: STATUS_MEMORY. */
NOYIELD NODISCARD struct status exec__child_arena(struct exec *x, size_t limit, struct arena **out);
/* 53200 when a child arena is at its limit; otherwise the status itself. */
NOYIELD struct status exec__memory_error(struct exec *x, struct status st, const char *what);

/* Each makes its operator; o->node, x and input are set by exec__open_op(). */
NOYIELD NODISCARD struct status exec__open_one_row(struct exec *x, struct op **out);
NOYIELD NODISCARD struct status exec__open_values(struct exec *x, const struct plan_node *n,
                                                  struct op **out);
NOYIELD NODISCARD struct status exec__open_series(struct exec *x, const struct plan_node *n,
                                                  struct op **out);
NOYIELD NODISCARD struct status exec__open_scan(struct exec *x, const struct plan_node *n,
                                                struct op **out);
NOYIELD NODISCARD struct status exec__open_project(struct exec *x, const struct plan_node *n,
                                                   struct op **out);
NOYIELD NODISCARD struct status exec__open_sort(struct exec *x, const struct plan_node *n,
                                                struct op **out);
NOYIELD NODISCARD struct status exec__open_limit(struct exec *x, const struct plan_node *n,
                                                 struct op **out, uint64_t *hint);
NOYIELD NODISCARD struct status exec__open_agg(struct exec *x, const struct plan_node *n,
                                               struct op **out);
NOYIELD NODISCARD struct status exec__open_lock(struct exec *x, const struct plan_node *n,
                                                struct op **out);
NOYIELD NODISCARD struct status exec__open_spool(struct exec *x, const struct plan_node *n,
                                                 struct op **out);
NOYIELD NODISCARD struct status exec__open_modify(struct exec *x, const struct plan_node *n,
                                                  struct op **out);

/* op_lock.c: point reads, locking when the lock says so. */
struct exec_get {
    const struct row_layout *layout;
    const struct txn_lock *lock;
    const struct bytes *keys;
    uint32_t count;
    struct arena *arena; /* Of the values. */
};
/* found and values as txn_multi_get(). Errors also: 55P03 with NOWAIT. */
MAYYIELD NODISCARD struct status exec__get(struct exec *x, const struct exec_get *g, bool *found,
                                           struct bytes *values);
/* STATUS_LOCKED of a NOWAIT in PostgreSQL's words; other statuses as they are. */
NOYIELD struct status exec__lock_error(struct exec *x, const struct row_layout *l,
                                       const struct txn_lock *lock, struct status st);
/* The key of a row, in the arena, however long. Errors: STATUS_MEMORY. */
NOYIELD NODISCARD struct status exec__row_key(const struct row_layout *l, const union datum *row,
                                              struct arena *arena, struct bytes *out);

/* Rows that are kept: arrays of datums in an arena, for sort, spool and aggregation. */
struct row_store {
    struct arena *arena; /* Limited to EXEC_SORT_BYTES_MAX. */
    const uint8_t *phys;
    uint16_t cols;
    union datum **rows; /* Each: cols datums, then cols NULL flags. */
    uint32_t count;
    uint32_t cap;
};
#define ROW_STORE_ROWS_MAX 16000000u

NOYIELD NODISCARD struct status row_store__init(struct row_store *s, struct exec *x,
                                                const uint8_t *phys, uint16_t cols);
/* Copies a row of a batch, strings included. */
NOYIELD NODISCARD struct status row_store__add(struct row_store *s, const struct batch *b,
                                               uint32_t row);
/* Copies a row of another store with the same columns. */
NOYIELD NODISCARD struct status row_store__copy(struct row_store *s, const union datum *row);
static inline const uint8_t *row_store__nulls(const struct row_store *s, const union datum *row)
{
    return (const uint8_t *)(row + s->cols);
}
/* Fills vectors (made for `max` rows) with rows [from, from + max). Returns how many. */
NOYIELD uint32_t row_store__emit(const struct row_store *s, uint32_t from, uint32_t max,
                                 struct vec *cols);
NOYIELD NODISCARD struct status exec__make_vecs(struct exec *x, const uint8_t *phys, uint16_t cols,
                                                uint32_t rows, struct vec **out);

/* program.c: one step over the registers of one row. */
NOYIELD bool program__step(struct program_run *r, const struct step *s, struct eval *e);

NOYIELD NODISCARD struct status modify__open(struct modify *m, struct exec *x,
                                             const struct plan_modify *plan);
/* m->row holds the new row. *changed: false when ON CONFLICT left it alone. */
MAYYIELD NODISCARD struct status modify__insert(struct modify *m, bool *changed);
/* `old` is the row as read; m->row the new one. */
MAYYIELD NODISCARD struct status modify__update(struct modify *m, const union datum *old);
/* `old` needs its key columns only. */
NOYIELD NODISCARD struct status modify__delete(struct modify *m, const union datum *old);
