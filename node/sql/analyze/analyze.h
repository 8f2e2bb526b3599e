/*
 * analyze.h -- giving names and types to a parsed statement: the parts of analysis among themselves.
 *
 * Analysis is pure and restartable. A table that is not in the catalog's cache sets tables.missing and
 * unwinds with STATUS_WOULD_BLOCK; the caller fetches it and starts over. So analysis never yields and
 * never holds a half-built tree across a wait.
 *
 * Runs on: the big stack. Errors are PostgreSQL's: SQLSTATE, message and position.
 */
#pragma once

#include "node/base/arena.h"
#include "node/catalog/catalog.h"
#include "node/sql/parse/ast.h"
#include "node/sql/plan/query.h"
#include "node/sql/plan/statement.h"
#include "node/sql/session/error.h"

#define ANALYZE_TABLES_MAX     32u
#define ANALYZE_CANDIDATES_MAX 160u
#define ANALYZE_CHAIN_MAX      5000u /* Operators in one chain: 54001 beyond. */

/* Descriptors that the statement uses; each holds a lease. */
struct analyze_tables {
    struct catalog *catalog;
    struct table_desc *items[ANALYZE_TABLES_MAX];
    uint32_t count;
    const char *missing;                    /* Set with STATUS_WOULD_BLOCK; in the arena. */
    const char *absent[ANALYZE_TABLES_MAX]; /* Looked for, and not there. */
    uint32_t absent_count;
};

struct analyzer {
    struct arena *arena;
    struct sql_error *err;
    struct analyze_tables *tables;
    const struct sql_view *view;
    oid *params; /* TYPE_UNKNOWN: not yet known. STATEMENT_PARAMS_MAX entries at most. */
    uint16_t params_count;
    uint16_t params_cap;
    uint32_t depth;
    struct query *query;                   /* Whose names are in scope. NULL: none. */
    const char *clause;                    /* For messages: "WHERE", "VALUES", ... */
    const struct table_desc *insert_table; /* Target of INSERT, for a hint. */
    const char *lock_verb;                 /* First row lock: "SELECT FOR SHARE". NULL: none. */
    bool aggs_allowed;
    bool in_agg;
};

static inline struct status analyze_no_memory(void)
{
    return FAIL(STATUS_MEMORY, "no memory to analyse a statement");
}

static inline struct status analyze_unsupported(struct analyzer *a, int32_t position,
                                                const char *feature)
{
    return sql_error_unsupported(a->err, a->arena, position, feature);
}

/* ---- expr.c ------------------------------------------------------------------------------------ */

NOYIELD NODISCARD struct status analyze_expr(struct analyzer *a, const struct ast_expr *in,
                                             struct expr **out);
/* A condition: boolean, or 42804 "argument of WHERE must be type boolean, ...". */
NOYIELD NODISCARD struct status analyze_condition(struct analyzer *a, const struct ast_expr *in,
                                                  const char *clause, struct expr **out);
NOYIELD struct expr *analyze_new(struct analyzer *a, enum expr_kind kind, oid type,
                                 int32_t position, uint32_t args_count);
NOYIELD int32_t analyze_position(const struct expr *e);
NOYIELD NODISCARD struct status analyze_call(struct analyzer *a, const struct func_impl *f,
                                             struct expr *const *args, uint32_t count,
                                             int32_t position, struct expr **out);

/* ---- resolve.c: which operator, which function -------------------------------------------------- */

/* left NULL: prefix operator. The arguments are coerced. */
NOYIELD NODISCARD struct status analyze_operator(struct analyzer *a, const char *name,
                                                 struct expr *left, struct expr *right,
                                                 int32_t position, struct expr **out);
NOYIELD NODISCARD struct status analyze_function(struct analyzer *a, const struct ast_expr *in,
                                                 struct expr **out);
struct candidate {
    oid args[FUNC_ARGS_MAX];
    const void *item;
};
#define CANDIDATE_NONE      (-1)
#define CANDIDATE_AMBIGUOUS (-2)
/* PostgreSQL's rules for choosing among candidates; `types` may hold TYPE_UNKNOWN. Index, or one of the
 * above. Reorders the candidates. */
NOYIELD int analyze_choose(struct candidate *c, uint32_t count, const oid *types, uint32_t nargs);

/* ---- locking.c --------------------------------------------------------------------------------- */

/* FOR UPDATE and its kin on forms that have no rows of tables: 0A000. Before anything else. */
NOYIELD NODISCARD struct status analyze_refuse_locking(struct analyzer *a,
                                                       const struct ast_select *s);
/* Marks the tables of q, whose clauses are analysed but not lowered. Errors: 0A000, 42P01, 42601. */
NOYIELD NODISCARD struct status analyze_locking(struct analyzer *a, const struct ast_select *s,
                                                struct query *q);

/* ---- coerce.c ---------------------------------------------------------------------------------- */

NOYIELD bool analyze_can_coerce(oid from, oid to, enum cast_context context);
/* Errors: 42846 "cannot cast type ...", those of input functions, 0A000. */
NOYIELD NODISCARD struct status analyze_coerce(struct analyzer *a, struct expr *in, oid to,
                                               int32_t typmod, enum cast_context context,
                                               int32_t position, struct expr **out);
/* Common type of CASE, COALESCE, ...; `what` for 42804 "CASE types ... cannot be matched". */
NOYIELD NODISCARD struct status analyze_common_type(struct analyzer *a, struct expr *const *exprs,
                                                    uint32_t count, const char *what, oid *out);
NOYIELD NODISCARD struct status analyze_to_common(struct analyzer *a, struct expr **exprs,
                                                  uint32_t count, const char *what, oid *out);
/* Unknown literals and parameters become text. */
NOYIELD NODISCARD struct status analyze_settle(struct analyzer *a, struct expr **e);
/* The value of an expression for a column: assignment cast, or 42804 with PostgreSQL's hint. */
NOYIELD NODISCARD struct status analyze_assign(struct analyzer *a, const struct column_desc *c,
                                               struct expr *in, struct expr **out);
/* 42704 when there is no such type, 0A000 when it cannot be used. */
NOYIELD NODISCARD struct status analyze_type(struct analyzer *a, const struct ast_type *t,
                                             oid *type, int32_t *typmod);

/* ---- select.c ---------------------------------------------------------------------------------- */

/* keep_unknown: literals of unknown type in the select list stay so (INSERT ... SELECT). */
NOYIELD NODISCARD struct status analyze_select(struct analyzer *a, const struct ast_select *s,
                                               bool keep_unknown, struct query **out);
NOYIELD NODISCARD struct status analyze_targets(struct analyzer *a, const struct ast_targets *in,
                                                const char *clause, struct query_target **out,
                                                uint16_t *count);
NOYIELD NODISCARD struct status analyze_table(struct analyzer *a, const struct ast_name *name,
                                              struct table_desc **out);
/* Adds a table to the query's FROM. */
NOYIELD NODISCARD struct status analyze_add_table(struct analyzer *a, const struct table_desc *t,
                                                  const char *alias, struct query_rel **out);
NOYIELD NODISCARD struct status analyze_new_query(struct analyzer *a, enum query_kind kind,
                                                  struct query **out);
/* aggregate.c: replaces groups and aggregates by columns of the aggregated row. */
NOYIELD NODISCARD struct status analyze_lower_aggregates(struct analyzer *a, struct query *q);
NOYIELD NODISCARD struct status analyze_aggregate(struct analyzer *a, const struct ast_expr *in,
                                                  struct expr **out, bool *is);
NOYIELD bool analyze_same_expr(const struct expr *x, const struct expr *y);

/* ---- write.c ----------------------------------------------------------------------------------- */

NOYIELD NODISCARD struct status analyze_insert(struct analyzer *a, const struct ast_insert *in,
                                               struct query **out);
NOYIELD NODISCARD struct status analyze_update(struct analyzer *a, const struct ast_update *in,
                                               struct query **out);
NOYIELD NODISCARD struct status analyze_delete(struct analyzer *a, const struct ast_delete *in,
                                               struct query **out);
/* The default of a column: its expression, or NULL of its type. */
NOYIELD NODISCARD struct status analyze_default(struct analyzer *a, const struct column_desc *c,
                                                struct expr **out);

/* ---- create_table.c ---------------------------------------------------------------------------- */

/* The descriptor lives in `keep`. */
NOYIELD NODISCARD struct status analyze_create_table(struct analyzer *a,
                                                     const struct ast_create_table *in,
                                                     struct arena *keep, struct table_desc **out);
/* SQL text that analyses to the same expression; NULL when there is none (0A000 for the caller). */
NOYIELD const char *analyze_deparse(struct arena *arena, const struct expr *e);
