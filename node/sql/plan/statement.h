/*
 * statement.h -- from one parsed statement to rows: what a session needs of analysis, plan and exec.
 *
 *     statement_compile(&src, scratch, &err, &stmt)          once; the result is immutable
 *     statement_begin(stmt, &ctx, arena, &err, &run)         once per portal
 *     statement_fetch(run, rows_max, sink, &done)            any number of times
 *     statement_end(run)
 *
 * Errors: functions with a `struct sql_error *err` return STATUS_SQL_ERROR with err filled (its texts
 * live in the arena that was passed) or another status, which sql_error_from_status() translates.
 *
 * Runs on: the shard that compiled it; statements never cross shards.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/arena.h"
#include "node/base/bytes.h"
#include "node/base/status.h"
#include "node/sql/functions/view.h"
#include "node/sql/session/error.h"
#include "node/sql/session/sink.h"
#include "node/sql/types/datum.h"

struct ast_stmt; /* node/sql/parse/ast.h */
struct catalog;
struct plan;
struct shard;
struct table_desc;
struct txn;

enum statement_class {
    STATEMENT_QUERY,   /* Reads only: runs in a transaction. */
    STATEMENT_WRITE,   /* INSERT, UPDATE, DELETE: runs in a transaction. */
    STATEMENT_DDL,     /* The session hands `ddl` to the catalog. */
    STATEMENT_UTILITY, /* BEGIN, SET, SHOW, ...: the session acts on the AST itself. */
};

enum statement_ddl {
    STATEMENT_DDL_NONE,
    STATEMENT_DDL_CREATE_TABLE,
    STATEMENT_DDL_DROP_TABLE,
};

/* Immutable but for refs, which belongs to statement_acquire() and statement_release(). */
struct statement {
    uint32_t refs;
    enum statement_class cls;
    const char *verb;      /* "SELECT", "INSERT", "CREATE TABLE", ...; utilities: "". */
    const char *lock_verb; /* "SELECT FOR UPDATE", ...; NULL: a query that locks nothing. */

    const oid *params; /* Types of $1..: all known after a compile. */
    uint16_t params_count;
    struct row_desc rows; /* has_rows false: the statement returns none (NoData). */
    bool has_rows;

    /* Leases on the descriptors that were used; held until the last reference goes. */
    struct table_desc **tables;
    uint16_t tables_count;
    struct catalog *catalog;
    uint64_t catalog_generation; /* When it was compiled. */

    enum statement_ddl ddl;
    bool ddl_if_exists;                  /* IF EXISTS or IF NOT EXISTS. */
    const struct table_desc *ddl_create; /* id and version 0. */
    const char *const *ddl_drop;         /* Names of tables. */
    uint16_t ddl_drop_count;

    const struct plan *plan; /* NULL for DDL and utilities. */
    struct arena arena;      /* Holds all of the above. */
};

#define STATEMENT_PARAMS_MAX 65535u
#define STATEMENT_DEPTH_MAX  1000u /* Nesting of expressions: 54001 beyond. */

struct statement_source {
    const struct ast_stmt *ast;
    struct catalog *catalog;
    struct shard *shard;    /* For its big stack; NULL (tests): the caller's stack is used. */
    const oid *param_types; /* As declared; 0: to be inferred. */
    uint16_t param_types_count;
    const struct sql_view *view; /* Time zone of literals; user, database. */
};

/*
 * Names, types, plan. Yields only to fetch descriptors.
 * scratch  Temporary memory and the texts of err; may be reset afterwards.
 * out      One reference.
 */
MAYYIELD NODISCARD struct status statement_compile(const struct statement_source *src,
                                                   struct arena *scratch, struct sql_error *err,
                                                   struct statement **out);
NOYIELD struct statement *statement_acquire(struct statement *s);
NOYIELD void statement_release(struct statement *s); /* Accepts NULL. */

/* May a cached statement still run? False: compile again (and check that the rows are the same). */
NOYIELD bool statement_still_valid(const struct statement *s);

/* Where an execution gets its data. All borrowed until statement_end(). */
struct statement_context {
    struct txn *txn; /* May be NULL for a query without tables. */
    const struct sql_view *view;
    const union datum *params; /* params_count values of the types in statement.params. */
    const uint8_t *param_nulls;
};

struct statement_run;

/* The run and everything it allocates live in `arena`; it holds a reference to the statement.
 * Also limits the transaction's commit timestamp to the leases of the descriptors. */
NOYIELD NODISCARD struct status statement_begin(struct statement *s,
                                                const struct statement_context *ctx,
                                                struct arena *arena, struct sql_error *err,
                                                struct statement_run **out);

/*
 * Produces up to rows_max rows (0: all) into sink->rows(), which is all of the sink it calls. *done
 * tells that there are no more; a statement that returns no rows is always done after one call.
 * After an error only statement_end() may follow.
 */
MAYYIELD NODISCARD struct status statement_fetch(struct statement_run *run, uint64_t rows_max,
                                                 struct row_sink *sink, struct sql_error *err,
                                                 bool *done);

/* Rows returned (queries) or affected (writes) so far: the number of the command tag. */
NOYIELD uint64_t statement_rows(const struct statement_run *run);
/* "SELECT 3", "INSERT 0 1", "CREATE TABLE": for CommandComplete. `rows` as of this portal. */
NOYIELD const char *statement_tag(const struct statement *s, uint64_t rows, struct arena *arena);
NOYIELD void statement_end(struct statement_run *run); /* Accepts NULL. */

/*
 * txn_commit() answered STATUS_EXISTS: if the key belongs to a table of this statement, fills err as
 * 23505 with constraint and detail and returns true.
 */
NOYIELD bool statement_conflict(const struct statement *s, struct bytes key, struct arena *arena,
                                struct sql_error *err);
