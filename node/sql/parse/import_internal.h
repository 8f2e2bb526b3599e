/*
 * import_internal.h -- what the import*.c files share. Included by them only, and last: PostgreSQL's
 * headers redefine names of the C library and one of ours.
 *
 * Leaving: an import that cannot go on (out of memory, too deep, not supported) leaves through
 * import__fail(), a longjmp to import_statement() in import.c. Everything it allocates is in the
 * arena, so nothing is lost; and the two hundred places that allocate or recurse need not each
 * pass a status on.
 */
#pragma once

#include <setjmp.h>

#include "node/base/arena.h"
#include "node/base/invariant.h"
#include "node/sql/parse/import.h"

/* The library keeps these per thread, the headers do not know it. */
#define PGDLLIMPORT __thread
/* The others need postgres.h before them. */
/* clang-format off */
#include <postgres.h>
#include <nodes/nodes.h>
#include <nodes/parsenodes.h>
#include <nodes/primnodes.h>
#include <nodes/value.h>
#include <parser/parser.h>
#include <utils/memutils.h>
/* clang-format on */

#undef printf
#undef fprintf
#undef sprintf
#undef snprintf
#undef vsnprintf
#undef vsprintf
#undef vfprintf
#undef vprintf
#undef STATUS_OK /* (0), which is what ours is. */
_Static_assert(STATUS_OK == 0, "PostgreSQL's headers saw another STATUS_OK");

struct import {
    struct arena *arena;
    struct sql_error *err;
    const char *text;
    uint32_t depth; /* Of recursion, at most AST_DEPTH_MAX. */
    uint16_t params;
    jmp_buf leave;
    struct status failure; /* Set by import__fail(). */
    const char *unsupported;
    int32_t unsupported_location;
};

NOYIELD _Noreturn void import__fail(struct import *im, struct status st);
/* Fails with an SQL error. */
NOYIELD _Noreturn void import__error(struct import *im, const char *sqlstate, int location,
                                     const char *fmt, ...) PRINTF_LIKE(4, 5);
/* Ends the import of this statement: it is answered with 0A000. feature lives in the arena. */
NOYIELD _Noreturn void import__unsupported(struct import *im, const char *feature, int location);

/* Zeroed memory; never NULL. count 0 gives a valid pointer to nothing. */
NOYIELD void *import__calloc(struct import *im, size_t count, size_t size);
#define IMPORT_NEW(im, type)      ((type *)import__calloc((im), 1, sizeof(type)))
#define IMPORT_ARRAY(im, type, n) ((type *)import__calloc((im), (size_t)(n), sizeof(type)))

/* A copy; NULL stays NULL. */
NOYIELD const char *import__str(struct import *im, const char *s);

/* Counts a level of nesting; import__leave() undoes it. */
NOYIELD void import__enter(struct import *im, int location);
NOYIELD void import__leave(struct import *im);

/* import_expr.c. NULL gives NULL. */
NOYIELD struct ast_expr *import__expr(struct import *im, const Node *node);
NOYIELD struct ast_expr *import__new_expr(struct import *im, enum ast_expr_kind kind, int location);
NOYIELD struct ast_exprs import__exprs(struct import *im, const List *list);
NOYIELD struct ast_orders import__orders(struct import *im, const List *list);
NOYIELD struct ast_type *import__type(struct import *im, const TypeName *type);
NOYIELD const char *import__label(struct import *im, const Node *node);

/* import_query.c */
NOYIELD struct ast_select *import__select(struct import *im, const SelectStmt *s);
NOYIELD struct ast_insert *import__insert(struct import *im, const InsertStmt *s);
NOYIELD struct ast_update *import__update(struct import *im, const UpdateStmt *s);
NOYIELD struct ast_delete *import__delete(struct import *im, const DeleteStmt *s);
NOYIELD struct ast_name import__range_var(struct import *im, const RangeVar *var);
NOYIELD struct ast_names import__range_vars(struct import *im, const List *list);
/* A list of String nodes, a dotted name: the last three parts of it. */
NOYIELD struct ast_name import__name(struct import *im, const List *names, int location);
/* A list of String nodes, each a name of its own. */
NOYIELD struct ast_idents import__idents(struct import *im, const List *names, int location);

/* import_table.c */
NOYIELD struct ast_create_table *import__create_table(struct import *im, const CreateStmt *s);
NOYIELD struct ast_drop_table *import__drop_table(struct import *im, const DropStmt *s);
NOYIELD struct ast_truncate *import__truncate(struct import *im, const TruncateStmt *s);

/* import_session.c */
NOYIELD struct ast_txn *import__txn(struct import *im, const TransactionStmt *s);
NOYIELD struct ast_set *import__set(struct import *im, const VariableSetStmt *s);
NOYIELD struct ast_options import__options(struct import *im, const List *list);
NOYIELD struct ast_copy *import__copy(struct import *im, const CopyStmt *s);

/* import.c: fills kind and body of a statement from the node inside of RawStmt, PREPARE, EXPLAIN. */
NOYIELD void import__stmt(struct import *im, const Node *node, struct ast_stmt *out);
NOYIELD struct ast_stmt *import__nested(struct import *im, const Node *node);
