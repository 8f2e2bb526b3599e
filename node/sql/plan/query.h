/*
 * query.h -- a statement with meaning: names and types resolved. What analysis makes and planning reads.
 *
 * Every expression has a type. A column reference is a number: the place in the row that the clause
 * sees. Before aggregation that is the row of FROM (the columns of its items one after the other), after
 * it the group columns and then the aggregates. For ON CONFLICT it is the old row, then `excluded`.
 *
 * Memory: the arena of the compilation. Nothing here survives it; plans copy what they keep.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/catalog/catalog.h"
#include "node/sql/exec/plan.h"
#include "node/sql/functions/func.h"
#include "node/sql/types/type.h"

enum expr_kind {
    EXPR_CONST,
    EXPR_PARAM,
    EXPR_COLUMN,
    EXPR_CALL,    /* func(args): functions and operators. */
    EXPR_CAST_IO, /* args[0] through text. */
    EXPR_RELABEL, /* args[0], the same bits under another type. */
    EXPR_VARCHAR, /* args[0] fitted to typmod; flag: explicit cast. */
    EXPR_AND,
    EXPR_OR,
    EXPR_NOT,
    EXPR_IS,       /* args[0] IS what; flag: negated. */
    EXPR_DISTINCT, /* func is the equality; flag: negated. */
    EXPR_CASE,     /* args: condition, result, ..., else (always there). */
    EXPR_COALESCE,
    EXPR_NULLIF, /* func is the equality, of args[1] and args[2]; the result is args[0]. */
    EXPR_MINMAX, /* GREATEST, LEAST; func(a, b) true keeps a. */
    EXPR_IN,     /* args[0] IN args[1..]; func is the equality; flag: NOT IN. */
    EXPR_AGG,    /* An aggregate before lowering: query.aggs[agg]. */
};

struct expr {
    enum expr_kind kind;
    oid type;
    int32_t typmod;
    int32_t position; /* Byte offset in the text, -1: none. */
    struct expr **args;
    uint32_t args_count;
    bool flag;
    union {
        struct {
            union datum value;
            bool null;
        } constant;
        uint16_t param; /* From 0. */
        uint16_t column;
        uint16_t agg;
        enum step_is is;
        const struct func_impl *func;
    };
};

enum query_rel_kind {
    QUERY_REL_TABLE,
    QUERY_REL_SELECT,
    QUERY_REL_VALUES,
    QUERY_REL_SERIES,
};

/* FOR KEY SHARE and its kin, weakest first. */
enum query_lock {
    QUERY_LOCK_NONE,
    QUERY_LOCK_KEY_SHARE,
    QUERY_LOCK_SHARE,
    QUERY_LOCK_NO_KEY_UPDATE,
    QUERY_LOCK_UPDATE,
};

enum query_lock_wait { /* Of several clauses on one table the greatest counts. */
    QUERY_LOCK_BLOCK,
    QUERY_LOCK_SKIP,
    QUERY_LOCK_NOWAIT,
};

struct query_column {
    const char *name;
    oid type;
    int32_t typmod;
    bool hidden; /* Not in `*`. */
    oid table;   /* 0: not a plain column of a table. */
    int16_t attnum;
};

struct query;

/* One item of FROM. */
struct query_rel {
    enum query_rel_kind kind;
    const char *alias;     /* What qualifies its columns. */
    const char *real_name; /* The table's own name, for error messages; NULL: none. */
    struct query_column *columns;
    uint16_t columns_count;
    uint16_t offset; /* Of its first column in the row of FROM. */
    bool invisible;  /* Names do not find it (excluded, outside of DO UPDATE). */
    const struct table_desc *table;
    enum query_lock lock; /* TABLE: rows that leave the query are locked. */
    enum query_lock_wait lock_wait;
    struct query *select;
    struct expr ***rows; /* VALUES */
    uint32_t rows_count;
    struct expr *series[3];
};

struct query_target {
    struct expr *expr;
    const char *name;
    oid table;
    int16_t attnum;
};

struct query_order {
    uint16_t target; /* Index of the (perhaps invisible) target. */
    bool desc;
    bool nulls_first;
};

struct query_agg {
    const struct agg_desc *desc;
    struct expr *arg;    /* NULL: count(*). */
    struct expr *filter; /* NULL: none. */
    bool distinct;
};

enum query_kind {
    QUERY_SELECT,
    QUERY_INSERT,
    QUERY_UPDATE,
    QUERY_DELETE,
};

struct query {
    enum query_kind kind;
    struct query_rel *rels; /* At most QUERY_RELS_MAX. */
    uint16_t rels_count;
    struct expr *where;
    bool aggregates; /* GROUP BY, HAVING or an aggregate somewhere. */
    struct expr **groups;
    uint16_t groups_count;
    struct query_agg *aggs;
    uint16_t aggs_count;
    struct expr *having;
    struct query_target *targets; /* SELECT list; invisible sort columns behind. */
    uint16_t targets_count;
    uint16_t visible_count;
    bool distinct;
    struct query_order *order;
    uint16_t order_count;
    struct expr *limit;
    struct expr *offset;

    /* INSERT, UPDATE, DELETE: rels[0] is what WHERE sees. */
    const struct table_desc *table;
    struct expr **insert; /* INSERT: all columns of the table, over the row of rels[0]. */
    uint16_t *sets;       /* Columns assigned by UPDATE or DO UPDATE. */
    struct expr **values; /* Their new values. */
    uint16_t sets_count;
    enum plan_conflict conflict;
    struct expr *conflict_where;
    struct query_target *returning; /* Over the columns of the table. */
    uint16_t returning_count;
};

#define QUERY_RELS_MAX    2u
#define QUERY_COLUMNS_MAX 1664u /* Of a target list or a row. */

static inline bool expr_is_null_const(const struct expr *e)
{
    return e->kind == EXPR_CONST && e->constant.null;
}
