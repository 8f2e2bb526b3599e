/*
 * import_session.c -- transactions, settings, COPY, and the options that several statements take.
 */
#include <string.h>

#include "node/sql/parse/import_internal.h"

/* The text of an option's value: a word, a number or a string, all the same to those who read it. */
static const char *option_value(struct import *im, const DefElem *d)
{
    const Node *arg = d->arg;

    if (arg == NULL) {
        return NULL;
    }
    switch ((int)nodeTag(arg)) {
    case T_Integer:
        return arena_printf(im->arena, "%d", intVal(arg));
    case T_Float:
        return import__str(im, ((const Float *)arg)->fval);
    case T_Boolean:
        return boolVal(arg) ? "true" : "false";
    case T_String:
        return import__str(im, strVal(arg));
    case T_TypeName: /* WITH (a = word): the grammar takes the word for a type. */
        return import__str(im, strVal(llast(((const TypeName *)arg)->names)));
    case T_A_Star:
        return "*";
    default:
        import__unsupported(im, "this kind of option value", d->location);
    }
}

struct ast_options import__options(struct import *im, const List *list)
{
    struct ast_options out = {.count = (uint32_t)list_length(list)};

    out.items = IMPORT_ARRAY(im, struct ast_option, out.count);
    for (uint32_t i = 0; i < out.count; i++) {
        const DefElem *d = list_nth(list, (int)i);
        struct ast_option *o = &out.items[i];

        o->name = d->defnamespace == NULL
                      ? import__str(im, d->defname)
                      : arena_printf(im->arena, "%s.%s", d->defnamespace, d->defname);
        o->value = option_value(im, d);
        o->location = d->location;
    }
    return out;
}

static enum ast_isolation isolation_of(const char *name)
{
    if (strcmp(name, "read uncommitted") == 0) {
        return AST_ISOLATION_READ_UNCOMMITTED;
    }
    if (strcmp(name, "read committed") == 0) {
        return AST_ISOLATION_READ_COMMITTED;
    }
    if (strcmp(name, "repeatable read") == 0) {
        return AST_ISOLATION_REPEATABLE_READ;
    }
    return AST_ISOLATION_SERIALIZABLE;
}

/* BEGIN, SET TRANSACTION: DefElems whose values are constants. The last of a kind holds. */
static struct ast_txn_modes import_modes(const List *list)
{
    struct ast_txn_modes modes = {AST_ISOLATION_DEFAULT, -1, -1};
    ListCell *cell;

    foreach(cell, list)
    {
        const DefElem *d = lfirst(cell);
        const A_Const *value = (const A_Const *)d->arg;

        if (strcmp(d->defname, "transaction_isolation") == 0) {
            modes.isolation = isolation_of(value->val.sval.sval);
        } else if (strcmp(d->defname, "transaction_read_only") == 0) {
            modes.read_only = value->val.ival.ival != 0;
        } else if (strcmp(d->defname, "transaction_deferrable") == 0) {
            modes.deferrable = value->val.ival.ival != 0;
        }
    }
    return modes;
}

static enum ast_txn_kind txn_kind(TransactionStmtKind kind)
{
    switch (kind) {
    case TRANS_STMT_BEGIN:
    case TRANS_STMT_START:
        return AST_TXN_BEGIN;
    case TRANS_STMT_COMMIT:
        return AST_TXN_COMMIT;
    case TRANS_STMT_ROLLBACK:
        return AST_TXN_ROLLBACK;
    case TRANS_STMT_SAVEPOINT:
        return AST_TXN_SAVEPOINT;
    case TRANS_STMT_RELEASE:
        return AST_TXN_RELEASE;
    case TRANS_STMT_ROLLBACK_TO:
        return AST_TXN_ROLLBACK_TO;
    case TRANS_STMT_PREPARE:
        return AST_TXN_PREPARE;
    case TRANS_STMT_COMMIT_PREPARED:
        return AST_TXN_COMMIT_PREPARED;
    case TRANS_STMT_ROLLBACK_PREPARED:
        return AST_TXN_ROLLBACK_PREPARED;
    }
    return AST_TXN_BEGIN;
}

struct ast_txn *import__txn(struct import *im, const TransactionStmt *s)
{
    struct ast_txn *out = IMPORT_NEW(im, struct ast_txn);

    out->kind = txn_kind(s->kind);
    out->start = s->kind == TRANS_STMT_START;
    out->chain = s->chain;
    out->name = import__str(im, s->savepoint_name != NULL ? s->savepoint_name : s->gid);
    out->modes = import_modes(s->options);
    return out;
}

/* libpg_query accepts SET x = $1, PostgreSQL does not. */
static void refuse_params(struct import *im, const List *args)
{
    ListCell *cell;

    foreach(cell, args)
    {
        if (IsA(lfirst(cell), ParamRef)) {
            const int at = ((const ParamRef *)lfirst(cell))->location;
            const struct ast_expr *p = import__expr(im, lfirst(cell));

            import__error(im, "42601", at, "syntax error at or near \"$%d\"", p->param);
        }
    }
}

static void import_multi(struct import *im, const VariableSetStmt *s, struct ast_set *out)
{
    if (strcmp(s->name, "TRANSACTION") == 0) {
        out->kind = AST_SET_TXN;
    } else if (strcmp(s->name, "SESSION CHARACTERISTICS") == 0) {
        out->kind = AST_SET_TXN_SESSION;
    } else {
        import__unsupported(im, "SET TRANSACTION SNAPSHOT", -1);
    }
    out->modes = import_modes(s->args);
}

struct ast_set *import__set(struct import *im, const VariableSetStmt *s)
{
    struct ast_set *out = IMPORT_NEW(im, struct ast_set);

    out->local = s->is_local;
    out->modes = import_modes(NIL);
    if (s->kind == VAR_SET_MULTI) {
        import_multi(im, s, out);
        return out;
    }
    refuse_params(im, s->args);
    out->name = import__str(im, s->name);
    out->args = import__exprs(im, s->args);
    switch (s->kind) {
    case VAR_SET_VALUE:
        out->kind = AST_SET_VALUE;
        break;
    case VAR_SET_DEFAULT:
        out->kind = AST_SET_DEFAULT;
        break;
    case VAR_SET_CURRENT:
        out->kind = AST_SET_CURRENT;
        break;
    case VAR_RESET:
        out->kind = AST_SET_RESET;
        break;
    case VAR_RESET_ALL:
        out->kind = AST_SET_RESET_ALL;
        break;
    case VAR_SET_MULTI:
        break; /* Above. */
    }
    return out;
}

struct ast_copy *import__copy(struct import *im, const CopyStmt *s)
{
    struct ast_copy *out = IMPORT_NEW(im, struct ast_copy);

    out->table.location = -1;
    if (s->relation != NULL) {
        out->table = import__range_var(im, s->relation);
    }
    out->columns = import__idents(im, s->attlist, -1);
    out->query = s->query != NULL ? import__nested(im, s->query) : NULL;
    out->from = s->is_from;
    out->program = s->is_program;
    out->file = import__str(im, s->filename);
    out->options = import__options(im, s->options);
    out->where = import__expr(im, s->whereClause);
    return out;
}
