/*
 * import_expr.c -- expressions, types and the names of result columns.
 *
 * One function per kind of PostgreSQL's node; the dispatcher at the end counts the depth. One thing
 * is not copied as it is: a left-deep chain of operators (a || b || ... with hundreds of terms, as
 * generators write it) becomes one AST_CHAIN, built in a loop, so that its length does not count as
 * depth. AND and OR are flattened by the grammar already.
 *
 * libpg_query's grammar accepts $n in some places where PostgreSQL's does not (date $1, EXTRACT($1
 * FROM x)); these are refused here with PostgreSQL's words.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "node/sql/parse/import_internal.h"

struct ast_expr *import__new_expr(struct import *im, enum ast_expr_kind kind, int location)
{
    struct ast_expr *e = IMPORT_NEW(im, struct ast_expr);

    e->kind = kind;
    e->location = location;
    return e;
}

struct ast_exprs import__exprs(struct import *im, const List *list)
{
    struct ast_exprs out = {.count = (uint32_t)list_length(list)};

    out.items = IMPORT_ARRAY(im, struct ast_expr *, out.count);
    for (uint32_t i = 0; i < out.count; i++) {
        out.items[i] = import__expr(im, list_nth(list, (int)i));
    }
    return out;
}

static enum ast_order_direction direction_of(struct import *im, const SortBy *s)
{
    switch (s->sortby_dir) {
    case SORTBY_DEFAULT:
        return AST_ORDER_DEFAULT;
    case SORTBY_ASC:
        return AST_ORDER_ASC;
    case SORTBY_DESC:
        return AST_ORDER_DESC;
    case SORTBY_USING:
        break;
    }
    import__unsupported(im, "ORDER BY ... USING", s->location);
}

struct ast_orders import__orders(struct import *im, const List *list)
{
    struct ast_orders out = {.count = (uint32_t)list_length(list)};

    out.items = IMPORT_ARRAY(im, struct ast_order, out.count);
    for (uint32_t i = 0; i < out.count; i++) {
        const SortBy *s = list_nth(list, (int)i);
        struct ast_order *o = &out.items[i];

        o->expr = import__expr(im, s->node);
        o->location = o->expr->location;
        o->direction = direction_of(im, s);
        o->nulls = s->sortby_nulls == SORTBY_NULLS_FIRST  ? AST_NULLS_FIRST
                   : s->sortby_nulls == SORTBY_NULLS_LAST ? AST_NULLS_LAST
                                                          : AST_NULLS_DEFAULT;
    }
    return out;
}

struct ast_type *import__type(struct import *im, const TypeName *type)
{
    const int n = list_length(type->names);
    struct ast_type *t;

    if (type->pct_type) {
        import__unsupported(im, "%TYPE", type->location);
    }
    t = IMPORT_NEW(im, struct ast_type);
    t->name = import__str(im, strVal(list_nth(type->names, n - 1)));
    t->schema = n > 1 ? import__str(im, strVal(list_nth(type->names, n - 2))) : NULL;
    t->mods = import__exprs(im, type->typmods);
    t->array_dims = (uint32_t)list_length(type->arrayBounds);
    t->setof = type->setof;
    t->location = type->location;
    return t;
}

static struct bytes import_bytes(struct import *im, const char *s)
{
    return bytes_str(import__str(im, s));
}

/* An integer that the lexer found too large may fit int4 once its sign is folded in. */
static bool fits_int4(const char *digits, int32_t *out)
{
    char *end = NULL;
    long long v;

    if (strlen(digits) > 12 || strspn(digits, "-0123456789") != strlen(digits)) {
        return false;
    }
    v = strtoll(digits, &end, 10);
    if (*end != '\0' || v < INT_MIN || v > INT_MAX) {
        return false;
    }
    *out = (int32_t)v;
    return true;
}

static struct ast_expr *import_const(struct import *im, const A_Const *c)
{
    struct ast_expr *e = import__new_expr(im, AST_CONST, c->location);
    struct ast_const *k = &e->constant;

    if (c->isnull) {
        k->kind = AST_CONST_NULL;
        return e;
    }
    switch ((int)nodeTag(&c->val)) {
    case T_Integer:
        k->kind = AST_CONST_INT;
        k->integer = c->val.ival.ival;
        break;
    case T_Float:
        k->kind = AST_CONST_NUMERIC;
        if (fits_int4(c->val.fval.fval, &k->integer)) {
            k->kind = AST_CONST_INT;
        } else {
            k->text = import_bytes(im, c->val.fval.fval);
        }
        break;
    case T_Boolean:
        k->kind = AST_CONST_BOOL;
        k->boolean = c->val.boolval.boolval;
        break;
    case T_String:
        k->kind = AST_CONST_STRING;
        k->text = import_bytes(im, c->val.sval.sval);
        break;
    case T_BitString:
        k->kind = AST_CONST_BIT;
        k->text = import_bytes(im, c->val.bsval.bsval);
        break;
    default:
        import__unsupported(im, "this kind of constant", c->location);
    }
    return e;
}

/* The number as it was written: the library's lexer wraps what does not fit. */
static uint32_t param_number(struct import *im, int location)
{
    const char *s = im->text + location + 1;
    uint32_t n = 0;
    int digits = 0;

    for (; s[digits] >= '0' && s[digits] <= '9'; digits++) {
        n = n > AST_PARAMS_MAX ? n : n * 10 + (uint32_t)(s[digits] - '0');
    }
    if (n == 0 || n > AST_PARAMS_MAX) {
        import__error(im, "42P02", location, "there is no parameter $%.*s",
                      digits > 20 ? 20 : digits, s);
    }
    return n;
}

static struct ast_expr *import_param(struct import *im, const ParamRef *p)
{
    struct ast_expr *e = import__new_expr(im, AST_PARAM, p->location);
    const uint32_t n = param_number(im, p->location);

    e->param = (int32_t)n;
    im->params = n > im->params ? (uint16_t)n : im->params;
    return e;
}

/* Where the library accepts a parameter and PostgreSQL does not. */
static void refuse_param(struct import *im, const Node *node)
{
    if (node != NULL && IsA(node, ParamRef)) {
        const int at = ((const ParamRef *)node)->location;

        import__error(im, "42601", at, "syntax error at or near \"$%u\"", param_number(im, at));
    }
}

/* a.b.c as PostgreSQL prints it in messages. */
static const char *dotted(struct import *im, const List *fields)
{
    const char *s = "";

    for (int i = 0; i < list_length(fields); i++) {
        const Node *f = list_nth(fields, i);

        s = arena_printf(im->arena, "%s%s%s", s, i == 0 ? "" : ".",
                         IsA(f, String) ? strVal(f) : "*");
    }
    return s;
}

static struct ast_expr *import_column(struct import *im, const ColumnRef *c)
{
    struct ast_expr *e = import__new_expr(im, AST_COLUMN, c->location);
    int n = list_length(c->fields);

    if (IsA(llast(c->fields), A_Star)) {
        e->column.star = true;
        n--;
    }
    if (n > 4) {
        import__error(im, "42601", c->location,
                      "improper qualified name (too many dotted names): %s",
                      n > 32 ? "..." : dotted(im, c->fields));
    }
    e->column.count = (uint8_t)n;
    e->column.names = IMPORT_ARRAY(im, struct ast_ident, n);
    for (int i = 0; i < n; i++) {
        const Node *f = list_nth(c->fields, i);

        if (!IsA(f, String)) {
            import__error(im, "42601", c->location, "improper use of \"*\"");
        }
        e->column.names[i] = (struct ast_ident){import__str(im, strVal(f)), c->location};
    }
    return e;
}

/* [schema.]operator */
static const char *op_name(struct import *im, const List *name, const char **schema_out)
{
    *schema_out = list_length(name) > 1
                      ? import__str(im, strVal(list_nth(name, list_length(name) - 2)))
                      : NULL;
    return import__str(im, strVal(llast(name)));
}

static bool is_link(const Node *node)
{
    return node != NULL && IsA(node, A_Expr) && ((const A_Expr *)node)->kind == AEXPR_OP &&
           ((const A_Expr *)node)->lexpr != NULL;
}

/* Operators down the left side of an expression. */
static uint32_t chain_length(const A_Expr *a)
{
    const Node *node = (const Node *)a;
    uint32_t n = 0;

    for (; is_link(node); node = ((const A_Expr *)node)->lexpr) {
        n++;
    }
    return n;
}

static struct ast_expr *import_chain(struct import *im, const A_Expr *a, uint32_t count)
{
    struct ast_expr *e = import__new_expr(im, AST_CHAIN, a->location);
    const Node *node = (const Node *)a;

    e->chain.count = count;
    e->chain.links = IMPORT_ARRAY(im, struct ast_chain_link, count);
    for (uint32_t i = count; i-- > 0;) {
        const A_Expr *link = (const A_Expr *)node;
        struct ast_chain_link *l = &e->chain.links[i];

        l->name = op_name(im, link->name, &l->schema);
        l->right = import__expr(im, link->rexpr);
        l->location = link->location;
        node = link->lexpr;
    }
    e->chain.first = import__expr(im, node);
    return e;
}

static struct ast_expr *import_op(struct import *im, const A_Expr *a)
{
    const uint32_t links = chain_length(a);
    struct ast_expr *e;

    if (links >= AST_CHAIN_MIN) {
        return import_chain(im, a, links);
    }
    e = import__new_expr(im, AST_OP, a->location);
    e->op.name = op_name(im, a->name, &e->op.schema);
    e->op.left = import__expr(im, a->lexpr);
    e->op.right = import__expr(im, a->rexpr);
    return e;
}

static struct ast_expr *import_quantified(struct import *im, const A_Expr *a)
{
    struct ast_expr *e =
        import__new_expr(im, a->kind == AEXPR_OP_ANY ? AST_ANY : AST_ALL, a->location);

    e->quantified.op = op_name(im, a->name, &e->quantified.schema);
    e->quantified.arg = import__expr(im, a->lexpr);
    e->quantified.array = import__expr(im, a->rexpr);
    return e;
}

static struct ast_expr *import_compare(struct import *im, const A_Expr *a, enum ast_expr_kind kind)
{
    struct ast_expr *e = import__new_expr(im, kind, a->location);

    e->compare.left = import__expr(im, a->lexpr);
    e->compare.right = import__expr(im, a->rexpr);
    e->compare.negated = a->kind == AEXPR_NOT_DISTINCT;
    return e;
}

static struct ast_expr *import_in(struct import *im, const A_Expr *a)
{
    struct ast_expr *e = import__new_expr(im, AST_IN, a->location);

    e->in.arg = import__expr(im, a->lexpr);
    e->in.list = import__exprs(im, (const List *)a->rexpr);
    e->in.negated = strcmp(strVal(linitial(a->name)), "<>") == 0;
    return e;
}

static struct ast_expr *import_like(struct import *im, const A_Expr *a, enum ast_like_kind what)
{
    struct ast_expr *e = import__new_expr(im, AST_LIKE, a->location);

    e->like.what = what;
    e->like.arg = import__expr(im, a->lexpr);
    e->like.pattern = import__expr(im, a->rexpr);
    e->like.negated = strVal(linitial(a->name))[0] == '!';
    return e;
}

static struct ast_expr *import_between(struct import *im, const A_Expr *a, bool negated,
                                       bool symmetric)
{
    struct ast_expr *e = import__new_expr(im, AST_BETWEEN, a->location);
    const List *bounds = (const List *)a->rexpr;

    e->between.arg = import__expr(im, a->lexpr);
    e->between.low = import__expr(im, linitial(bounds));
    e->between.high = import__expr(im, lsecond(bounds));
    e->between.negated = negated;
    e->between.symmetric = symmetric;
    return e;
}

static struct ast_expr *import_a_expr(struct import *im, const A_Expr *a)
{
    switch (a->kind) {
    case AEXPR_OP:
        return import_op(im, a);
    case AEXPR_OP_ANY:
    case AEXPR_OP_ALL:
        return import_quantified(im, a);
    case AEXPR_DISTINCT:
    case AEXPR_NOT_DISTINCT:
        return import_compare(im, a, AST_DISTINCT);
    case AEXPR_NULLIF:
        return import_compare(im, a, AST_NULLIF);
    case AEXPR_IN:
        return import_in(im, a);
    case AEXPR_LIKE:
        return import_like(im, a, AST_LIKE_PLAIN);
    case AEXPR_ILIKE:
        return import_like(im, a, AST_LIKE_ILIKE);
    case AEXPR_SIMILAR:
        return import_like(im, a, AST_LIKE_SIMILAR);
    case AEXPR_BETWEEN:
        return import_between(im, a, false, false);
    case AEXPR_NOT_BETWEEN:
        return import_between(im, a, true, false);
    case AEXPR_BETWEEN_SYM:
        return import_between(im, a, false, true);
    case AEXPR_NOT_BETWEEN_SYM:
        return import_between(im, a, true, true);
    }
    import__unsupported(im, "this operator", a->location);
}

static struct ast_expr *import_list_expr(struct import *im, enum ast_expr_kind kind,
                                         const List *list, int location)
{
    struct ast_expr *e = import__new_expr(im, kind, location);

    e->list = import__exprs(im, list);
    return e;
}

static struct ast_expr *import_bool(struct import *im, const BoolExpr *b)
{
    struct ast_expr *e;

    if (b->boolop != NOT_EXPR) {
        return import_list_expr(im, b->boolop == AND_EXPR ? AST_AND : AST_OR, b->args, b->location);
    }
    e = import__new_expr(im, AST_NOT, b->location);
    e->arg = import__expr(im, linitial(b->args));
    return e;
}

static struct ast_expr *import_null_test(struct import *im, const NullTest *t)
{
    struct ast_expr *e = import__new_expr(im, AST_IS, t->location);

    e->is.arg = import__expr(im, (const Node *)t->arg);
    e->is.what = AST_IS_NULL;
    e->is.negated = t->nulltesttype == IS_NOT_NULL;
    return e;
}

static struct ast_expr *import_bool_test(struct import *im, const BooleanTest *t)
{
    struct ast_expr *e = import__new_expr(im, AST_IS, t->location);

    e->is.arg = import__expr(im, (const Node *)t->arg);
    switch (t->booltesttype) {
    case IS_TRUE:
    case IS_NOT_TRUE:
        e->is.what = AST_IS_TRUE;
        break;
    case IS_FALSE:
    case IS_NOT_FALSE:
        e->is.what = AST_IS_FALSE;
        break;
    case IS_UNKNOWN:
    case IS_NOT_UNKNOWN:
        e->is.what = AST_IS_UNKNOWN;
        break;
    }
    e->is.negated = t->booltesttype == IS_NOT_TRUE || t->booltesttype == IS_NOT_FALSE ||
                    t->booltesttype == IS_NOT_UNKNOWN;
    return e;
}

static struct ast_expr *import_case(struct import *im, const CaseExpr *c)
{
    struct ast_expr *e = import__new_expr(im, AST_CASE, c->location);
    struct ast_case *k = &e->case_;

    k->arg = import__expr(im, (const Node *)c->arg);
    k->whens_count = (uint32_t)list_length(c->args);
    k->whens = IMPORT_ARRAY(im, struct ast_when, k->whens_count);
    for (uint32_t i = 0; i < k->whens_count; i++) {
        const CaseWhen *w = list_nth(c->args, (int)i);

        k->whens[i].condition = import__expr(im, (const Node *)w->expr);
        k->whens[i].result = import__expr(im, (const Node *)w->result);
        k->whens[i].location = w->location;
    }
    k->otherwise = import__expr(im, (const Node *)c->defresult);
    return e;
}

static bool is_extract(const FuncCall *f)
{
    return f->funcformat == COERCE_SQL_SYNTAX && list_length(f->funcname) == 2 &&
           strcmp(strVal(lsecond(f->funcname)), "extract") == 0;
}

static struct ast_expr *import_function(struct import *im, const FuncCall *f)
{
    struct ast_expr *e = import__new_expr(im, AST_FUNCTION, f->location);
    struct ast_function *fn = IMPORT_NEW(im, struct ast_function);
    ListCell *cell;

    if (is_extract(f) && f->args != NIL) {
        refuse_param(im, linitial(f->args));
    }
    foreach(cell, f->args)
    {
        if (IsA(lfirst(cell), NamedArgExpr)) {
            import__unsupported(im, "a named argument",
                                ((const NamedArgExpr *)lfirst(cell))->location);
        }
    }
    e->function = fn;
    fn->name = import__name(im, f->funcname, f->location);
    fn->args = import__exprs(im, f->args);
    fn->agg_order = import__orders(im, f->agg_order);
    fn->filter = import__expr(im, f->agg_filter);
    fn->star = f->agg_star;
    fn->distinct = f->agg_distinct;
    fn->variadic = f->func_variadic;
    fn->within_group = f->agg_within_group;
    fn->over = f->over != NULL;
    return e;
}

static struct ast_expr *import_cast(struct import *im, const TypeCast *c)
{
    struct ast_expr *e;

    if (c->location < 0) {
        refuse_param(im, c->arg); /* date $1 */
    }
    e = import__new_expr(im, AST_CAST, c->location);
    e->cast.arg = import__expr(im, c->arg);
    e->cast.type = import__type(im, c->typeName);
    if (e->location < 0) {
        e->location = c->typeName->location; /* date '...': the type stands first. */
    }
    return e;
}

static enum ast_sql_value_kind sql_value_of(SQLValueFunctionOp op)
{
    switch (op) {
    case SVFOP_CURRENT_DATE:
        return AST_CURRENT_DATE;
    case SVFOP_CURRENT_TIME:
    case SVFOP_CURRENT_TIME_N:
        return AST_CURRENT_TIME;
    case SVFOP_CURRENT_TIMESTAMP:
    case SVFOP_CURRENT_TIMESTAMP_N:
        return AST_CURRENT_TIMESTAMP;
    case SVFOP_LOCALTIME:
    case SVFOP_LOCALTIME_N:
        return AST_LOCALTIME;
    case SVFOP_LOCALTIMESTAMP:
    case SVFOP_LOCALTIMESTAMP_N:
        return AST_LOCALTIMESTAMP;
    case SVFOP_CURRENT_ROLE:
        return AST_CURRENT_ROLE;
    case SVFOP_CURRENT_USER:
        return AST_CURRENT_USER;
    case SVFOP_USER:
        return AST_USER;
    case SVFOP_SESSION_USER:
        return AST_SESSION_USER;
    case SVFOP_CURRENT_CATALOG:
        return AST_CURRENT_CATALOG;
    case SVFOP_CURRENT_SCHEMA:
        return AST_CURRENT_SCHEMA;
    }
    return AST_CURRENT_DATE;
}

static struct ast_expr *import_sql_value(struct import *im, const SQLValueFunction *v)
{
    struct ast_expr *e = import__new_expr(im, AST_SQL_VALUE, v->location);

    e->sql_value.what = sql_value_of(v->op);
    e->sql_value.precision = v->typmod;
    return e;
}

static struct ast_expr *import_sublink(struct import *im, const SubLink *s)
{
    struct ast_expr *e = import__new_expr(im, AST_SUBLINK, s->location);

    switch (s->subLinkType) {
    case EXISTS_SUBLINK:
        e->sublink.what = AST_SUBLINK_EXISTS;
        break;
    case ALL_SUBLINK:
        e->sublink.what = AST_SUBLINK_ALL;
        break;
    case ANY_SUBLINK:
        e->sublink.what = AST_SUBLINK_ANY;
        break;
    case EXPR_SUBLINK:
        e->sublink.what = AST_SUBLINK_SCALAR;
        break;
    case ARRAY_SUBLINK:
        e->sublink.what = AST_SUBLINK_ARRAY;
        break;
    case ROWCOMPARE_SUBLINK:
    case MULTIEXPR_SUBLINK:
    case CTE_SUBLINK:
        import__unsupported(im, "this kind of sub-select", s->location);
    }
    e->sublink.arg = import__expr(im, s->testexpr);
    e->sublink.op = s->operName != NIL ? import__str(im, strVal(llast(s->operName))) : NULL;
    e->sublink.select = import__select(im, castNode(SelectStmt, s->subselect));
    return e;
}

/* x[1].f[2:3]: from the inside out. Its length counts as depth for those who walk the tree. */
static struct ast_expr *import_indirection(struct import *im, const A_Indirection *ind)
{
    struct ast_expr *e = import__expr(im, ind->arg);
    const uint32_t depth = im->depth;
    ListCell *cell;

    foreach(cell, ind->indirection)
    {
        const Node *step = lfirst(cell);
        struct ast_expr *outer;

        import__enter(im, e->location);
        if (IsA(step, A_Indices)) {
            const A_Indices *i = (const A_Indices *)step;

            outer = import__new_expr(im, AST_SUBSCRIPT, e->location);
            outer->subscript.arg = e;
            outer->subscript.lower = import__expr(im, i->lidx);
            outer->subscript.upper = import__expr(im, i->uidx);
            outer->subscript.slice = i->is_slice;
        } else {
            outer = import__new_expr(im, AST_FIELD, e->location);
            outer->field.arg = e;
            outer->field.name = IsA(step, String) ? import__str(im, strVal(step)) : NULL;
        }
        e = outer;
    }
    im->depth = depth;
    return e;
}

static struct ast_expr *import_collate(struct import *im, const CollateClause *c)
{
    struct ast_expr *e = import__new_expr(im, AST_COLLATE, c->location);

    e->collate = IMPORT_NEW(im, struct ast_collate);
    e->collate->arg = import__expr(im, c->arg);
    e->collate->name = import__name(im, c->collname, c->location);
    return e;
}

static struct ast_expr *import_minmax(struct import *im, const MinMaxExpr *m)
{
    return import_list_expr(im, m->op == IS_GREATEST ? AST_GREATEST : AST_LEAST, m->args,
                            m->location);
}

/* Kinds that need no function of their own, and those that we do not have. */
static struct ast_expr *import_rare(struct import *im, const Node *node)
{
    switch ((int)nodeTag(node)) {
    case T_CoalesceExpr:
        return import_list_expr(im, AST_COALESCE, ((const CoalesceExpr *)node)->args,
                                ((const CoalesceExpr *)node)->location);
    case T_MinMaxExpr:
        return import_minmax(im, (const MinMaxExpr *)node);
    case T_A_ArrayExpr:
        return import_list_expr(im, AST_ARRAY, ((const A_ArrayExpr *)node)->elements,
                                ((const A_ArrayExpr *)node)->location);
    case T_RowExpr:
        return import_list_expr(im, AST_ROW, ((const RowExpr *)node)->args,
                                ((const RowExpr *)node)->location);
    case T_GroupingFunc:
        return import_list_expr(im, AST_GROUPING, ((const GroupingFunc *)node)->args,
                                ((const GroupingFunc *)node)->location);
    case T_SetToDefault:
        return import__new_expr(im, AST_DEFAULT, ((const SetToDefault *)node)->location);
    case T_CurrentOfExpr:
        import__unsupported(im, "WHERE CURRENT OF", -1);
    case T_GroupingSet:
        import__unsupported(im, "GROUPING SETS", ((const GroupingSet *)node)->location);
    case T_XmlExpr:
        import__unsupported(im, "XML", ((const XmlExpr *)node)->location);
    case T_XmlSerialize:
        import__unsupported(im, "XML", ((const XmlSerialize *)node)->location);
    default:
        import__unsupported(im, "this kind of expression", -1);
    }
}

static struct ast_expr *import_kind(struct import *im, const Node *node)
{
    switch ((int)nodeTag(node)) {
    case T_A_Const:
        return import_const(im, (const A_Const *)node);
    case T_ParamRef:
        return import_param(im, (const ParamRef *)node);
    case T_ColumnRef:
        return import_column(im, (const ColumnRef *)node);
    case T_A_Expr:
        return import_a_expr(im, (const A_Expr *)node);
    case T_BoolExpr:
        return import_bool(im, (const BoolExpr *)node);
    case T_NullTest:
        return import_null_test(im, (const NullTest *)node);
    case T_BooleanTest:
        return import_bool_test(im, (const BooleanTest *)node);
    case T_CaseExpr:
        return import_case(im, (const CaseExpr *)node);
    case T_FuncCall:
        return import_function(im, (const FuncCall *)node);
    case T_TypeCast:
        return import_cast(im, (const TypeCast *)node);
    case T_SQLValueFunction:
        return import_sql_value(im, (const SQLValueFunction *)node);
    case T_SubLink:
        return import_sublink(im, (const SubLink *)node);
    case T_A_Indirection:
        return import_indirection(im, (const A_Indirection *)node);
    case T_CollateClause:
        return import_collate(im, (const CollateClause *)node);
    default:
        return import_rare(im, node);
    }
}

struct ast_expr *import__expr(struct import *im, const Node *node)
{
    struct ast_expr *e;

    if (node == NULL) {
        return NULL;
    }
    import__enter(im, -1);
    e = import_kind(im, node);
    import__leave(im);
    return e;
}
