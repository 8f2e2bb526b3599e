/*
 * statement.c -- statements once they are compiled: shared, run, described.
 */
#include "node/sql/plan/statement.h"

#include <stdlib.h>
#include <string.h>

#include "node/base/invariant.h"
#include "node/catalog/catalog.h"
#include "node/sql/exec/exec.h"
#include "node/sql/exec/row.h"
#include "node/txn/txn.h"

struct statement_run {
    struct statement *stmt;
    struct exec *exec;
};

struct statement *statement_acquire(struct statement *s)
{
    s->refs++;
    return s;
}

void statement_release(struct statement *s)
{
    if (s == NULL) {
        return;
    }
    INVARIANT(s->refs > 0);
    if (--s->refs > 0) {
        return;
    }
    for (uint16_t i = 0; i < s->tables_count; i++) {
        catalog_release(s->catalog, s->tables[i]);
    }
    arena_deinit(&s->arena);
    free(s);
}

bool statement_still_valid(const struct statement *s)
{
    for (uint16_t i = 0; i < s->tables_count; i++) {
        if (!catalog_still_valid(s->catalog, s->tables[i])) {
            return false;
        }
    }
    return true;
}

struct status statement_begin(struct statement *s, const struct statement_context *ctx,
                              struct arena *arena, struct sql_error *err,
                              struct statement_run **out)
{
    const struct exec_context exec_ctx = {
        .txn = ctx->txn, .view = ctx->view, .params = {ctx->params, ctx->param_nulls}};
    struct statement_run *r = ARENA_NEW(arena, struct statement_run);

    if (r == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for the execution of a statement");
    }
    if (s->plan == NULL) {
        return FAIL(STATUS_INVALID, "this statement has no plan");
    }
    for (uint16_t i = 0; i < s->tables_count; i++) {
        txn_limit_commit_ts(ctx->txn, s->tables[i]->valid_until);
    }
    err->position = -1;
    TRY(exec_open(s->plan, &exec_ctx, arena, err, &r->exec));
    r->stmt = statement_acquire(s);
    *out = r;
    return OK;
}

struct status statement_fetch(struct statement_run *run, uint64_t rows_max, struct row_sink *sink,
                              struct sql_error *err, bool *done)
{
    return exec_fetch(run->exec, rows_max, sink, err, done);
}

uint64_t statement_rows(const struct statement_run *run)
{
    return exec_rows(run->exec);
}

const char *statement_tag(const struct statement *s, uint64_t rows, struct arena *arena)
{
    if (s->cls != STATEMENT_QUERY && s->cls != STATEMENT_WRITE) {
        return s->verb;
    }
    return arena_printf(arena, strcmp(s->verb, "INSERT") == 0 ? "%s 0 %llu" : "%s %llu", s->verb,
                        (unsigned long long)rows);
}

void statement_end(struct statement_run *run)
{
    if (run != NULL) {
        exec_close(run->exec);
        statement_release(run->stmt);
        run->stmt = NULL;
    }
}

bool statement_conflict(const struct statement *s, struct bytes key, struct arena *arena,
                        struct sql_error *err)
{
    for (uint16_t i = 0; i < s->tables_count; i++) {
        struct row_layout layout;

        if (status_ok(row_layout_init(s->tables[i], arena, &layout)) &&
            bytes_starts_with(key, row_prefix(&layout))) {
            (void)row_duplicate_error(&layout, key, arena,
                                      err); /* It is the answer, not a fault. */
            return true;
        }
    }
    return false;
}
