/*
 * exec.h -- running a plan.
 *
 * Operators pull batches from their inputs; the rows of the root leave as row blocks through the sink.
 * All state of an execution is in its struct and its arena, nothing on the fiber's stack, so it can
 * rest between two calls while others run.
 *
 * Runs on: a fiber of the session's shard.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/arena.h"
#include "node/sql/exec/plan.h"
#include "node/sql/session/error.h"
#include "node/sql/session/sink.h"

struct exec;
struct txn;

struct exec_context {
    struct txn *txn; /* NULL: the plan reads no table. */
    const struct sql_view *view;
    struct program_params params;
};

/* Everything lives in `arena`, which also gets the texts of errors. */
NOYIELD NODISCARD struct status exec_open(const struct plan *plan, const struct exec_context *ctx,
                                          struct arena *arena, struct sql_error *err,
                                          struct exec **out);
/* Up to rows_max rows (0: all) into sink->rows(). After an error only exec_close() may follow. */
MAYYIELD NODISCARD struct status exec_fetch(struct exec *x, uint64_t rows_max,
                                            struct row_sink *sink, struct sql_error *err,
                                            bool *done);
/* Rows that left, or rows that were changed. */
NOYIELD uint64_t exec_rows(const struct exec *x);
NOYIELD void exec_close(struct exec *x); /* Accepts NULL. */

#define EXEC_SORT_BYTES_MAX \
    ((size_t)64 << 20) /* Of one sort, aggregation or spool: 53200 beyond. */
