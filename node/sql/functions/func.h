/*
 * func.h -- functions, operators, casts and aggregates: their signatures and kernels.
 *
 * Each function is declared once in a .def file, from which both a kernel for one row and a loop over
 * columns are made. The tables also hold functions without a kernel: candidates that PostgreSQL's
 * resolution must see, refused with 0A000 when they win (all of numeric, for example).
 *
 * OIDs are PostgreSQL's; our own functions are 15100..15999.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/arena.h"
#include "node/sql/functions/vec.h"
#include "node/sql/functions/view.h"
#include "node/sql/session/error.h"
#include "node/sql/types/type_io.h"

/* What a kernel may use. */
struct eval {
    struct arena *arena;         /* Results: lives as long as the current batch. */
    const struct sql_view *view; /* NULL while constants are folded. */
    struct sql_error *err;
    struct arena *err_arena; /* Texts of err: outlives the batch. */
    struct status st;        /* Why a kernel answered false. */
    int64_t rowid_last_us;   /* Of unique_rowid(). */
};

/* Fills e->err and e->st and returns false. */
NOYIELD bool eval_fail(struct eval *e, const char *sqlstate, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
/* Keeps a status and returns whether it was OK. */
NOYIELD bool eval_check(struct eval *e, struct status st);
/* NULL (and e->st) at the arena's limit. */
NOYIELD uint8_t *eval_alloc(struct eval *e, size_t size);
/* For conversions inside an expression: no position, as PostgreSQL at run time. */
NOYIELD struct type_io eval_io(struct eval *e);

#define FUNC_ARGS_MAX 3u

enum func_flags {
    FUNC_STABLE = 1,   /* The same within one statement. */
    FUNC_VOLATILE = 2, /* Never folded, hoisted or duplicated. */
    FUNC_PURE = 4,     /* Cannot fail: may run on rows that do not count. */
};

/* Strict kernel: never called with a NULL. False: failed, see e->st. */
typedef bool func_strict(struct eval *e, const union datum *args, union datum *out);
/* Looks at NULLs itself. */
typedef bool func_loose(struct eval *e, const union datum *args, const uint8_t *nulls,
                        union datum *out, uint8_t *null_out);
/* The strict kernel over lanes. out->nulls already holds the union of the arguments' NULLs. */
typedef bool func_vector(struct eval *e, const struct vec *const *args, const struct lanes *lanes,
                         struct vec *out);

struct func_impl {
    oid id;
    const char *name;
    oid ret;
    uint8_t nargs;
    uint8_t flags;
    oid args[FUNC_ARGS_MAX];
    func_strict *strict; /* Both NULL: known, but cannot run. */
    func_loose *loose;
    func_vector *vector; /* NULL: only row by row. */
};

static inline bool func_can_run(const struct func_impl *f)
{
    return f->strict != NULL || f->loose != NULL;
}

/* NULL: not in the table. */
NOYIELD const struct func_impl *func_find(oid id);
/* Functions of that name one after the other: start with *pos = 0; NULL at the end. */
NOYIELD const struct func_impl *func_next(const char *name, size_t *pos);

struct operator_desc {
    oid id;
    const char *name;
    oid left; /* TYPE_INVALID: prefix. */
    oid right;
    oid result;
    oid func;
    oid commutator; /* 0: none. */
};

/* The operator that this function implements: NULL, none. */
NOYIELD const struct operator_desc *operator_of_func(oid func);

/* Pseudo-type of operator_desc.left and right: anything that is no array. */
#define TYPE_ANYNONARRAY ((oid)2776)

NOYIELD const struct operator_desc *operator_next(const char *name, size_t *pos);
NOYIELD const struct operator_desc *operator_find(oid id);

enum cast_context {
    CAST_IMPLICIT,
    CAST_ASSIGNMENT,
    CAST_EXPLICIT,
};

enum cast_method {
    CAST_NONE,     /* There is no such cast. */
    CAST_SAME,     /* The same bits. */
    CAST_FUNCTION, /* .func */
    CAST_IO,       /* Through text. */
};

struct cast_path {
    enum cast_method method;
    const struct func_impl *func; /* NULL: known, but cannot run. */
};

/* How `from` becomes `to` in this context, the rules about strings and text included. Not for
 * TYPE_UNKNOWN, which analysis reads as a literal. */
NOYIELD struct cast_path cast_find(oid from, oid to, enum cast_context context);

/* Converts one value through text. Errors: those of type_in_text(). */
NOYIELD bool cast_through_text(struct eval *e, oid from, oid to, union datum in, union datum *out);

enum agg_kind {
    AGG_COUNT_STAR,
    AGG_COUNT,
    AGG_SUM_INT, /* int8 result, 22003 on overflow. */
    AGG_SUM_FLOAT,
    AGG_AVG_FLOAT,
    AGG_MIN,
    AGG_MAX,
    AGG_BOOL_AND,
    AGG_BOOL_OR,
    AGG_UNSUPPORTED,
};

struct agg_desc {
    oid id;
    const char *name;
    oid arg; /* TYPE_INVALID: count(*); TYPE_ANY: anything. */
    oid ret;
    enum agg_kind kind;
};

#define TYPE_ANY ((oid)2276)

NOYIELD const struct agg_desc *agg_next(const char *name, size_t *pos);
