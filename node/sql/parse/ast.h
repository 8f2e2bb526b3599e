/*
 * ast.h -- a statement as it was written: our own compact tree.
 *
 * parse.h makes it from text; analyze gives it meaning. Nothing is resolved here: names are text,
 * literals keep their spelling, `*` is not expanded. What follows from spelling alone is done:
 * identifiers are folded and truncated as PostgreSQL does, `a + b + c` is nested to the left, result
 * columns have their label ("?column?", "count", ...).
 *
 * Reading it
 *   - Statements and expressions are tagged: look at `kind`, then at the member of the union that
 *     the kind's comment names. Kinds are only ever added; a `switch` without default finds them.
 *   - `location` is a byte offset into the text that was parsed, the whole of a simple-protocol
 *     string and not only the one statement, exactly PostgreSQL's rule; -1 means none.
 *   - An absent part is NULL, an absent list has count 0. Strings end in NUL and are never NULL
 *     unless the comment says so.
 *   - First look at stmt->unsupported. When it is set the tree is incomplete: answer 0A000 with that
 *     name and position (sql_error_unsupported) and read nothing else of the statement.
 *   - Anything else that analysis does not know yet it refuses by name itself.
 *   - Depth: an expression is at most AST_DEPTH_MAX nodes deep, sub-selects and FROM included, so
 *     recursion over a tree is safe on the big stack (fiber.h), never on a fiber's.
 *
 * Memory:  everything lives in the arena given to parse_statements(), pointers included; the text
 *          is not referenced.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/bytes.h"

#define AST_DEPTH_MAX   1000u /* Deeper: 54001. */
#define AST_CHAIN_MIN   64u   /* Links from which a left-deep operator chain is one AST_CHAIN. */
#define AST_NAME_MAX    63u   /* Bytes of an identifier; longer ones were truncated (notice). */
#define AST_PARAMS_MAX  65535u
#define AST_COLUMNS_MAX 1664u /* Entries of a target list, as in PostgreSQL: 54011. */

struct ast_expr;
struct ast_select;
struct ast_stmt;

struct ast_exprs {
    struct ast_expr **items;
    uint32_t count;
};

/* [catalog.][schema.]name */
struct ast_name {
    const char *catalog; /* NULL: not written. */
    const char *schema;  /* NULL: not written. */
    const char *name;
    int32_t location;
};

struct ast_names {
    struct ast_name *items;
    uint32_t count;
};

/* A bare identifier in a list: a column of INSERT, of a key, of an alias. */
struct ast_ident {
    const char *name;
    int32_t location;
};

struct ast_idents {
    struct ast_ident *items;
    uint32_t count;
};

/*
 * A type as written. SQL's own spellings come translated, with schema "pg_catalog": int -> int4,
 * varchar(3) -> varchar + mods {3}, timestamp with time zone -> timestamptz, char -> bpchar + {1}.
 */
struct ast_type {
    const char *schema; /* NULL: search the path. */
    const char *name;
    struct ast_exprs mods; /* As a rule AST_CONST integers; may be anything. */
    uint32_t array_dims;   /* int[][] is 2; bounds are not kept (they mean nothing). */
    bool setof;
    int32_t location;
};

/* ---- Expressions -------------------------------------------------------------------------- */

enum ast_expr_kind {
    AST_CONST,     /* .constant */
    AST_PARAM,     /* .param: $1 is 1; 1..AST_PARAMS_MAX */
    AST_COLUMN,    /* .column: a, t.a, s.t.a, *, t.* */
    AST_OP,        /* .op: a + b, -a, a = b, a OPERATOR(s.+) b */
    AST_CHAIN,     /* .chain: a + b - c ... with AST_CHAIN_MIN or more operators, left to right */
    AST_AND,       /* .list: two or more */
    AST_OR,        /* .list: two or more */
    AST_NOT,       /* .arg */
    AST_IS,        /* .is: IS [NOT] NULL, TRUE, FALSE, UNKNOWN */
    AST_DISTINCT,  /* .compare: a IS [NOT] DISTINCT FROM b */
    AST_BETWEEN,   /* .between */
    AST_IN,        /* .in: a [NOT] IN (x, y); with a sub-select it is an AST_SUBLINK */
    AST_LIKE,      /* .like: [NOT] LIKE, ILIKE, SIMILAR TO */
    AST_ANY,       /* .quantified: a op ANY (array) */
    AST_ALL,       /* .quantified: a op ALL (array) */
    AST_CASE,      /* .case_ */
    AST_COALESCE,  /* .list */
    AST_NULLIF,    /* .compare */
    AST_GREATEST,  /* .list */
    AST_LEAST,     /* .list */
    AST_FUNCTION,  /* .function */
    AST_CAST,      /* .cast: x::t, CAST(x AS t), t 'literal' */
    AST_SQL_VALUE, /* .sql_value: CURRENT_TIMESTAMP and its family */
    AST_ARRAY,     /* .list: ARRAY[a, b] */
    AST_ROW,       /* .list: ROW(a, b), (a, b) */
    AST_SUBLINK,   /* .sublink: EXISTS, IN, op ANY/ALL (select), (select), ARRAY(select) */
    AST_SUBSCRIPT, /* .subscript: a[1], a[1:2] */
    AST_FIELD,     /* .field: (x).f, (x).* */
    AST_COLLATE,   /* .collate */
    AST_DEFAULT,   /* nothing: DEFAULT in VALUES or SET */
    AST_GROUPING,  /* .list: GROUPING(a, b) */
    AST_EXPR_KIND_COUNT
};

enum ast_const_kind {
    AST_CONST_NULL,
    AST_CONST_BOOL,    /* .boolean */
    AST_CONST_INT,     /* .integer: fits int4, which is its type. -5 comes folded into one. */
    AST_CONST_NUMERIC, /* .text: 3000000000, 1.5, 1e3, a sign folded in. Type int8 if it has only
                        * digits and fits, else numeric. Never fits int4. */
    AST_CONST_STRING,  /* .text, escapes resolved. Type unknown. */
    AST_CONST_BIT,     /* .text: "b0101" or "x1F" */
};

struct ast_const {
    enum ast_const_kind kind;
    bool boolean;
    int32_t integer;
    struct bytes text; /* Also NUL-terminated. */
};

struct ast_column {
    struct ast_ident *names; /* 1..4 of them, outermost first; 0 for a bare `*`. */
    uint8_t count;
    bool star; /* `.*` behind the names. */
};

struct ast_op {
    const char *schema;    /* Of OPERATOR(schema.op); NULL else. */
    const char *name;      /* "+", "=", "<>" (also written !=), "||", "~", ... */
    struct ast_expr *left; /* NULL: prefix operator. */
    struct ast_expr *right;
};

/* (((first op[0] args[0]) op[1] args[1]) ...); every op of the list has its own location. */
struct ast_chain_link {
    const char *schema;
    const char *name;
    struct ast_expr *right;
    int32_t location;
};

struct ast_chain {
    struct ast_expr *first;
    struct ast_chain_link *links;
    uint32_t count;
};

enum ast_is_kind {
    AST_IS_NULL,
    AST_IS_TRUE,
    AST_IS_FALSE,
    AST_IS_UNKNOWN,
};

struct ast_is {
    struct ast_expr *arg;
    enum ast_is_kind what;
    bool negated;
};

struct ast_compare {
    struct ast_expr *left;
    struct ast_expr *right;
    bool negated; /* IS NOT DISTINCT FROM. */
};

struct ast_between {
    struct ast_expr *arg;
    struct ast_expr *low;
    struct ast_expr *high;
    bool negated;
    bool symmetric;
};

struct ast_in {
    struct ast_expr *arg;
    struct ast_exprs list;
    bool negated;
};

enum ast_like_kind {
    AST_LIKE_PLAIN,   /* operator ~~, negated !~~ */
    AST_LIKE_ILIKE,   /* ~~*, !~~* */
    AST_LIKE_SIMILAR, /* ~, !~; pattern is pg_catalog.similar_to_escape(pattern[, escape]) */
};

struct ast_like {
    struct ast_expr *arg;
    struct ast_expr *pattern; /* With ESCAPE: a call of pg_catalog.like_escape(pattern, escape). */
    enum ast_like_kind what;
    bool negated;
};

struct ast_quantified {
    struct ast_expr *arg;
    struct ast_expr *array;
    const char *schema;
    const char *op;
};

struct ast_when {
    struct ast_expr *condition; /* A value to compare with when the CASE has an arg. */
    struct ast_expr *result;
    int32_t location;
};

struct ast_case {
    struct ast_expr *arg; /* NULL: searched CASE. */
    struct ast_when *whens;
    struct ast_expr *otherwise; /* NULL: NULL. */
    uint32_t whens_count;
};

enum ast_order_direction {
    AST_ORDER_DEFAULT, /* Ascending. */
    AST_ORDER_ASC,
    AST_ORDER_DESC,
};

enum ast_order_nulls {
    AST_NULLS_DEFAULT, /* Last for ascending, first for descending. */
    AST_NULLS_FIRST,
    AST_NULLS_LAST,
};

struct ast_order {
    struct ast_expr
        *expr; /* A bare AST_CONST_INT is a column number, a bare name may be a label. */
    enum ast_order_direction direction;
    enum ast_order_nulls nulls;
    int32_t location; /* Of the expression. */
};

struct ast_orders {
    struct ast_order *items;
    uint32_t count;
};

/*
 * Any call. SQL's special forms (EXTRACT, POSITION, SUBSTRING ... FROM, TRIM, OVERLAY, AT TIME ZONE)
 * arrive as calls of pg_catalog functions: extract, position, substring, btrim/ltrim/rtrim, overlay,
 * timezone.
 */
struct ast_function {
    struct ast_name name;
    struct ast_exprs args;
    struct ast_orders agg_order; /* Inside the parentheses, or WITHIN GROUP. */
    struct ast_expr *filter;     /* FILTER (WHERE ...). NULL: none. */
    bool star;                   /* count(*) */
    bool distinct;
    bool variadic; /* The last argument is marked VARIADIC. */
    bool within_group;
    bool over; /* A window function call. Its window is not kept yet: refuse by name. */
};

struct ast_cast {
    struct ast_expr *arg;
    struct ast_type *type;
};

enum ast_sql_value_kind {
    AST_CURRENT_DATE,
    AST_CURRENT_TIME,
    AST_CURRENT_TIMESTAMP,
    AST_LOCALTIME,
    AST_LOCALTIMESTAMP,
    AST_CURRENT_ROLE,
    AST_CURRENT_USER,
    AST_USER,
    AST_SESSION_USER,
    AST_CURRENT_CATALOG,
    AST_CURRENT_SCHEMA,
};

struct ast_sql_value {
    enum ast_sql_value_kind what;
    int32_t precision; /* CURRENT_TIMESTAMP(3): 3. -1: none. */
};

enum ast_sublink_kind {
    AST_SUBLINK_EXISTS,
    AST_SUBLINK_SCALAR,
    AST_SUBLINK_ANY, /* arg op ANY (select); IN (select) has op NULL, which means "=". */
    AST_SUBLINK_ALL,
    AST_SUBLINK_ARRAY,
};

struct ast_sublink {
    enum ast_sublink_kind what;
    struct ast_expr *arg; /* NULL for EXISTS, SCALAR, ARRAY. */
    const char *op;       /* NULL: see AST_SUBLINK_ANY. */
    struct ast_select *select;
};

struct ast_subscript {
    struct ast_expr *arg;
    struct ast_expr *lower; /* Of a slice; may be NULL there. */
    struct ast_expr *upper; /* The subscript; NULL only in an open slice. */
    bool slice;
};

struct ast_field {
    struct ast_expr *arg;
    const char *name; /* NULL: (x).* */
};

struct ast_collate {
    struct ast_expr *arg;
    struct ast_name name;
};

/* location: of the operator for AST_OP and its kin, else of the first byte of the construct. */
struct ast_expr {
    enum ast_expr_kind kind;
    int32_t location;
    union {
        struct ast_const constant;
        int32_t param;
        struct ast_column column;
        struct ast_op op;
        struct ast_chain chain;
        struct ast_exprs list;
        struct ast_expr *arg;
        struct ast_is is;
        struct ast_compare compare;
        struct ast_between between;
        struct ast_in in;
        struct ast_like like;
        struct ast_quantified quantified;
        struct ast_case case_;
        struct ast_function *function;
        struct ast_cast cast;
        struct ast_sql_value sql_value;
        struct ast_sublink sublink;
        struct ast_subscript subscript;
        struct ast_field field;
        struct ast_collate *collate;
    };
};

/* ---- SELECT and what shares its parts ----------------------------------------------------- */

/* A result column of SELECT or RETURNING. `*` and `t.*` are AST_COLUMN with star. */
struct ast_target {
    struct ast_expr *expr;
    const char *label; /* The alias, else what PostgreSQL calls such a column: a column's or
                        * function's name, "case", "coalesce", "?column?". "" for a star. */
    bool aliased;
    int32_t location;
};

struct ast_targets {
    struct ast_target *items;
    uint32_t count;
};

enum ast_from_kind {
    AST_FROM_TABLE,    /* .table */
    AST_FROM_SELECT,   /* .select: (SELECT ...) or (VALUES ...) */
    AST_FROM_FUNCTION, /* .function: a call as a table */
    AST_FROM_JOIN,     /* .join */
};

enum ast_join_kind {
    AST_JOIN_INNER, /* CROSS JOIN too: no condition. */
    AST_JOIN_LEFT,
    AST_JOIN_RIGHT,
    AST_JOIN_FULL,
};

struct ast_from;

struct ast_join {
    enum ast_join_kind what;
    bool natural;
    struct ast_from *left;
    struct ast_from *right;
    struct ast_idents using_columns;
    struct ast_expr *on;
};

struct ast_from {
    enum ast_from_kind kind;
    int32_t location;
    const char *alias; /* NULL: none. */
    struct ast_idents column_aliases;
    bool lateral;
    bool only; /* FROM ONLY t; means nothing while there is no inheritance. */
    bool with_ordinality;
    union {
        struct ast_name table;
        struct ast_select *select;
        struct ast_expr *function;
        struct ast_join *join;
    };
};

struct ast_froms {
    struct ast_from **items;
    uint32_t count;
};

struct ast_cte {
    const char *name;
    struct ast_idents columns;
    struct ast_stmt *stmt; /* SELECT, INSERT, UPDATE or DELETE. */
    enum {
        AST_CTE_DEFAULT,
        AST_CTE_MATERIALIZED,
        AST_CTE_NOT_MATERIALIZED,
    } materialized;
    int32_t location;
};

struct ast_with {
    struct ast_cte *items;
    uint32_t count;
    bool recursive;
    int32_t location; /* Of WITH. */
};

enum ast_lock_strength {
    AST_LOCK_KEY_SHARE,
    AST_LOCK_SHARE,
    AST_LOCK_NO_KEY_UPDATE,
    AST_LOCK_UPDATE,
};

enum ast_lock_wait {
    AST_LOCK_BLOCK,
    AST_LOCK_SKIP_LOCKED,
    AST_LOCK_NOWAIT,
};

/* FOR UPDATE [OF tables] [NOWAIT | SKIP LOCKED] */
struct ast_locking {
    enum ast_lock_strength strength;
    enum ast_lock_wait wait;
    struct ast_names tables; /* count 0: all. */
};

enum ast_setop {
    AST_UNION,
    AST_INTERSECT,
    AST_EXCEPT,
};

/* One more arm of a set operation; arms combine from left to right. */
struct ast_arm {
    enum ast_setop op;
    bool all;
    struct ast_select *select;
    int32_t location; /* Of the arm's select, -1 if unknown. */
};

struct ast_row {
    struct ast_expr **items;
    uint32_t count;
};

/*
 * One of three shapes:
 *   plain    targets, from, where, ...; arms_count and rows_count are 0. (SELECT without a target
 *            list has targets.count 0 too.)
 *   VALUES   is_values; rows
 *   set op   first is the leftmost operand, arms the others: ((first op arm0) op arm1) ...
 * with, order, limit, offset and locking may stand on each of them.
 */
struct ast_select {
    struct ast_with *with;

    struct ast_exprs distinct_on; /* DISTINCT ON (...). */
    struct ast_targets targets;
    struct ast_froms from; /* Comma list; joins nest inside. */
    struct ast_expr *where;
    struct ast_exprs group_by;
    struct ast_expr *having;

    struct ast_row *rows; /* VALUES */

    struct ast_select *first; /* Set operation. */
    struct ast_arm *arms;
    uint32_t rows_count;
    uint32_t arms_count;

    struct ast_orders order;
    struct ast_expr *limit; /* NULL also for LIMIT ALL. */
    struct ast_expr *offset;
    struct ast_locking *locking;
    uint32_t locking_count;

    int32_t location; /* Of the first thing in it that has one, else -1. */
    bool is_values;
    bool distinct;  /* SELECT DISTINCT, with or without ON. */
    bool with_ties; /* FETCH FIRST ... WITH TIES */
};

/* ---- INSERT, UPDATE, DELETE ---------------------------------------------------------------- */

/* column = value. (a, b) = (1, 2) and = ROW(1, 2) come as two of them. */
struct ast_assign {
    struct ast_ident column;
    struct ast_expr *value; /* May be AST_DEFAULT. */
};

struct ast_assigns {
    struct ast_assign *items;
    uint32_t count;
};

enum ast_conflict_action {
    AST_CONFLICT_NONE, /* No ON CONFLICT clause. */
    AST_CONFLICT_NOTHING,
    AST_CONFLICT_UPDATE,
};

struct ast_conflict {
    enum ast_conflict_action action;
    struct ast_idents columns;    /* (a, b). An expression or an operator class is `unsupported`. */
    const char *constraint;       /* ON CONSTRAINT name. NULL: none. */
    struct ast_expr *index_where; /* Of a partial index. */
    struct ast_assigns sets;      /* The new row is the table `excluded`. */
    struct ast_expr *where;
    int32_t location;       /* Of ON. */
    int32_t infer_location; /* Of the parenthesis or ON CONSTRAINT, -1: no target. */
};

struct ast_insert {
    struct ast_with *with;
    struct ast_name table;
    const char *alias;         /* NULL: none. */
    struct ast_idents columns; /* count 0: all. */
    struct ast_select *source; /* VALUES or any query. NULL: DEFAULT VALUES. */
    bool overriding_system;    /* OVERRIDING SYSTEM VALUE */
    bool overriding_user;
    struct ast_conflict conflict;
    struct ast_targets returning;
};

struct ast_update {
    struct ast_with *with;
    struct ast_name table;
    const char *alias;
    struct ast_assigns sets;
    struct ast_froms from;
    struct ast_expr *where;
    struct ast_targets returning;
};

struct ast_delete {
    struct ast_with *with;
    struct ast_name table;
    const char *alias;
    struct ast_froms using_;
    struct ast_expr *where;
    struct ast_targets returning;
};

/* ---- Tables -------------------------------------------------------------------------------- */

enum ast_constraint_kind {
    AST_CONSTRAINT_NULL,
    AST_CONSTRAINT_NOT_NULL,
    AST_CONSTRAINT_DEFAULT,     /* expr */
    AST_CONSTRAINT_PRIMARY_KEY, /* columns (none for a column constraint: the column itself) */
    AST_CONSTRAINT_UNIQUE,      /* columns, nulls_not_distinct */
    AST_CONSTRAINT_CHECK,       /* expr */
    AST_CONSTRAINT_FOREIGN_KEY, /* columns, ref_table, ref_columns, on_delete, on_update */
    AST_CONSTRAINT_IDENTITY,    /* GENERATED {ALWAYS | BY DEFAULT} AS IDENTITY: always */
    AST_CONSTRAINT_GENERATED,   /* GENERATED ALWAYS AS (expr) STORED: expr */
};

struct ast_constraint {
    enum ast_constraint_kind kind;
    int32_t location;
    const char *name; /* CONSTRAINT name. NULL: to be chosen. */
    struct ast_expr *expr;
    struct ast_idents columns;   /* Without locations (-1). */
    struct ast_idents including; /* INCLUDE (...), likewise. */
    struct ast_name ref_table;
    struct ast_idents ref_columns;
    char on_delete; /* 'a' no action, 'r' restrict, 'c' cascade, 'n' set null, 'd' set default. */
    char on_update;
    bool always;
    bool nulls_not_distinct;
    bool deferrable;
    bool initially_deferred;
    bool not_valid;
    bool no_inherit;
};

struct ast_constraints {
    struct ast_constraint *items;
    uint32_t count;
};

struct ast_column_def {
    const char *name;
    struct ast_type *type;
    struct ast_name *collation;         /* NULL: none. */
    struct ast_constraints constraints; /* As written, conflicts included. */
    int32_t location;
};

/* name [= value] in WITH (...), EXPLAIN (...), COPY (...). */
struct ast_option {
    const char *name;
    const char *value; /* NULL: only the name. Numbers, words and strings alike as text. */
    int32_t location;
};

struct ast_options {
    struct ast_option *items;
    uint32_t count;
};

enum ast_persistence {
    AST_PERMANENT,
    AST_UNLOGGED,
    AST_TEMPORARY,
};

struct ast_create_table {
    struct ast_name table;
    bool if_not_exists;
    enum ast_persistence persistence;
    struct ast_column_def *columns;
    uint32_t columns_count;
    struct ast_constraints constraints; /* Of the table; those of columns stay with them. */
    struct ast_options options;
};

/* DROP TABLE. Other objects come as AST_STMT_OTHER. */
struct ast_drop_table {
    struct ast_names tables;
    bool if_exists;
    bool cascade;
};

struct ast_truncate {
    struct ast_names tables;
    bool restart_identity;
    bool cascade;
};

/* ---- Session ------------------------------------------------------------------------------- */

enum ast_txn_kind {
    AST_TXN_BEGIN, /* Also START TRANSACTION: see `start`. */
    AST_TXN_COMMIT,
    AST_TXN_ROLLBACK,
    AST_TXN_SAVEPOINT,
    AST_TXN_RELEASE,
    AST_TXN_ROLLBACK_TO,
    AST_TXN_PREPARE, /* PREPARE TRANSACTION 'name', COMMIT PREPARED, ROLLBACK PREPARED */
    AST_TXN_COMMIT_PREPARED,
    AST_TXN_ROLLBACK_PREPARED,
};

enum ast_isolation {
    AST_ISOLATION_DEFAULT, /* Not written. */
    AST_ISOLATION_READ_UNCOMMITTED,
    AST_ISOLATION_READ_COMMITTED,
    AST_ISOLATION_REPEATABLE_READ,
    AST_ISOLATION_SERIALIZABLE,
};

struct ast_txn_modes {
    enum ast_isolation isolation;
    int8_t read_only;  /* -1 not written, 0 READ WRITE, 1 READ ONLY. */
    int8_t deferrable; /* Likewise. */
};

struct ast_txn {
    enum ast_txn_kind kind;
    bool start;       /* START TRANSACTION: the command tag differs. */
    bool chain;       /* AND CHAIN */
    const char *name; /* Savepoint or global id; NULL else. */
    struct ast_txn_modes modes;
};

enum ast_set_kind {
    AST_SET_VALUE,       /* SET name = args */
    AST_SET_DEFAULT,     /* SET name TO DEFAULT */
    AST_SET_CURRENT,     /* SET name FROM CURRENT */
    AST_SET_TXN,         /* SET TRANSACTION modes */
    AST_SET_TXN_SESSION, /* SET SESSION CHARACTERISTICS AS TRANSACTION modes */
    AST_SET_RESET,       /* RESET name: as DEFAULT, other command tag */
    AST_SET_RESET_ALL,   /* RESET ALL */
};

struct ast_set {
    enum ast_set_kind kind;
    bool local;
    const char *name; /* Lower-cased only as the identifier was. SET TIME ZONE is "timezone", SET
                       * NAMES "client_encoding". NULL for TXN and RESET ALL. */
    struct ast_exprs args; /* AST_CONST, or AST_CAST of one to interval (SET TIME ZONE INTERVAL). */
    struct ast_txn_modes modes;
};

struct ast_show {
    const char *name; /* SHOW ALL is "all". */
};

enum ast_discard {
    AST_DISCARD_ALL,
    AST_DISCARD_PLANS,
    AST_DISCARD_SEQUENCES,
    AST_DISCARD_TEMP,
};

struct ast_prepare {
    const char *name;
    struct ast_type **types;
    uint32_t types_count;
    struct ast_stmt *stmt;
};

struct ast_execute {
    const char *name;
    struct ast_exprs args;
};

struct ast_deallocate {
    const char *name; /* NULL: ALL. */
};

struct ast_explain {
    struct ast_stmt *stmt;
    struct ast_options options; /* analyze, verbose, ... in the order written. */
};

struct ast_copy {
    struct ast_name table; /* name NULL when it copies a query. */
    struct ast_idents columns;
    struct ast_stmt *query; /* COPY (query) TO. NULL: a table. */
    bool from;              /* COPY ... FROM */
    bool program;
    const char *file; /* NULL: STDIN or STDOUT. */
    struct ast_options options;
    struct ast_expr *where;
};

/* ---- Ranges: dsql's own -------------------------------------------------------------------- */

enum ast_ranges_kind {
    AST_RANGES_SHOW,     /* SHOW RANGES FROM TABLE table */
    AST_RANGES_SPLIT,    /* ALTER TABLE table SPLIT AT VALUES (..), .. */
    AST_RANGES_TRANSFER, /* ALTER RANGE range RELOCATE LEASE TO store */
};

struct ast_ranges {
    enum ast_ranges_kind kind;
    struct ast_name table;
    struct ast_select *rows; /* SPLIT: values of the first columns of the key. */
    uint64_t range;
    uint32_t store;
};

/* ---- The statement -------------------------------------------------------------------------- */

enum ast_stmt_kind {
    AST_STMT_OTHER, /* Parsed, but nothing of it is kept: `unsupported` says what it is. */
    AST_STMT_SELECT,
    AST_STMT_INSERT,
    AST_STMT_UPDATE,
    AST_STMT_DELETE,
    AST_STMT_CREATE_TABLE,
    AST_STMT_DROP_TABLE,
    AST_STMT_TRUNCATE,
    AST_STMT_TXN,
    AST_STMT_SET, /* SET and RESET */
    AST_STMT_SHOW,
    AST_STMT_DISCARD, /* .discard */
    AST_STMT_PREPARE,
    AST_STMT_EXECUTE,
    AST_STMT_DEALLOCATE,
    AST_STMT_EXPLAIN,
    AST_STMT_COPY,
    AST_STMT_RANGES,
    AST_STMT_KIND_COUNT
};

struct ast_stmt {
    enum ast_stmt_kind kind;
    int32_t location; /* First byte of the statement in the text, blanks and comments skipped. */
    int32_t length;   /* Bytes, without the `;`. */
    uint16_t params;  /* Highest $n in it. */

    /* Not NULL: the statement holds something that the tree cannot express. Then answer 0A000
     * "<unsupported> is not supported yet" at unsupported_location and read no further. */
    const char *unsupported;
    int32_t unsupported_location;

    /* AS OF SYSTEM TIME of a SELECT (wherever in it) or BEGIN; NULL: none. Of PREPARE: on the inner
     * statement. */
    const struct ast_expr *as_of;

    union {
        struct ast_select *select;
        struct ast_insert *insert;
        struct ast_update *update;
        struct ast_delete *delete_;
        struct ast_create_table *create_table;
        struct ast_drop_table *drop_table;
        struct ast_truncate *truncate;
        struct ast_txn *txn;
        struct ast_set *set;
        struct ast_show *show;
        enum ast_discard discard;
        struct ast_prepare *prepare;
        struct ast_execute *execute;
        struct ast_deallocate *deallocate;
        struct ast_explain *explain;
        struct ast_copy *copy;
        struct ast_ranges *ranges;
    };
};
