/*
 * expr.c -- expressions: what each node of the tree means.
 */
#include <string.h>

#include "node/sql/analyze/analyze.h"

struct expr *analyze_new(struct analyzer *a, enum expr_kind kind, oid type, int32_t position,
                         uint32_t args_count)
{
    struct expr *e = ARENA_NEW(a->arena, struct expr);

    if (e == NULL) {
        return NULL;
    }
    e->kind = kind;
    e->type = type;
    e->typmod = TYPE_TYPMOD_NONE;
    e->position = position;
    e->args_count = args_count;
    e->args = args_count == 0 ? NULL : ARENA_ARRAY(a->arena, struct expr *, args_count);
    return args_count > 0 && e->args == NULL ? NULL : e;
}

/* PostgreSQL points at the first byte of an expression, not at its operator. */
int32_t analyze_position(const struct expr *e)
{
    int32_t at = e->position;

    for (uint32_t i = 0; i < e->args_count; i++) {
        const int32_t arg = analyze_position(e->args[i]);

        at = arg >= 0 && (at < 0 || arg < at) ? arg : at;
    }
    return at;
}

struct status analyze_call(struct analyzer *a, const struct func_impl *f, struct expr *const *args,
                           uint32_t count, int32_t position, struct expr **out)
{
    struct expr *e = analyze_new(a, EXPR_CALL, f->ret, position, count);

    if (e == NULL) {
        return analyze_no_memory();
    }
    e->func = f;
    for (uint32_t i = 0; i < count; i++) {
        e->args[i] = args[i];
    }
    *out = e;
    return OK;
}

static struct status to_bool(struct analyzer *a, struct expr *in, const char *what,
                             struct expr **out)
{
    if (in->type != TYPE_BOOL && in->type != TYPE_UNKNOWN) {
        return sql_error_set(a->err, a->arena, "42804", analyze_position(in),
                             "argument of %s must be type boolean, not type %s", what,
                             type_sql_name(in->type));
    }
    return analyze_coerce(a, in, TYPE_BOOL, TYPE_TYPMOD_NONE, CAST_IMPLICIT, in->position, out);
}

struct status analyze_condition(struct analyzer *a, const struct ast_expr *in, const char *clause,
                                struct expr **out)
{
    const char *outer = a->clause;
    struct status st = OK;

    *out = NULL;
    if (in == NULL) {
        return OK;
    }
    a->clause = clause;
    st = analyze_expr(a, in, out);
    a->clause = outer;
    TRY(st);
    return to_bool(a, *out, clause, out);
}

/* ---- leaves ------------------------------------------------------------------------------------ */

static struct status constant(struct analyzer *a, const struct ast_expr *in, struct expr **out)
{
    const struct ast_const *c = &in->constant;
    struct expr *e = analyze_new(a, EXPR_CONST, TYPE_UNKNOWN, in->location, 0);
    struct sql_error ignored = {0};
    const struct type_io io = {.arena = a->arena, .err = &ignored, .position = -1};

    if (e == NULL) {
        return analyze_no_memory();
    }
    *out = e;
    switch (c->kind) {
    case AST_CONST_NULL:
        e->constant.null = true;
        return OK;
    case AST_CONST_BOOL:
        e->type = TYPE_BOOL;
        e->constant.value.i64 = c->boolean;
        return OK;
    case AST_CONST_INT:
        e->type = TYPE_INT4;
        e->constant.value.i64 = c->integer;
        return OK;
    case AST_CONST_NUMERIC:
        if (status_ok(int_in(&io, TYPE_INT8, c->text, &e->constant.value.i64))) {
            e->type = TYPE_INT8;
            return OK;
        }
        e->type = TYPE_NUMERIC;
        e->constant.value.bytes = c->text;
        return OK;
    case AST_CONST_STRING:
        e->constant.value.bytes = c->text;
        return OK;
    case AST_CONST_BIT:
        return analyze_unsupported(a, in->location, "bit string literal");
    }
    return OK;
}

static struct status param(struct analyzer *a, const struct ast_expr *in, struct expr **out)
{
    const uint16_t i = (uint16_t)(in->param - 1);
    struct expr *e = analyze_new(a, EXPR_PARAM, TYPE_UNKNOWN, in->location, 0);

    if (e == NULL) {
        return analyze_no_memory();
    }
    if (i >= a->params_cap) {
        return sql_error_set(a->err, a->arena, "42P02", in->location, "there is no parameter $%d",
                             (int)in->param);
    }
    if (i >= a->params_count) {
        a->params_count = (uint16_t)(i + 1);
    }
    e->param = i;
    e->type = a->params[i];
    *out = e;
    return OK;
}

static struct status missing_table(struct analyzer *a, const char *name, int32_t position)
{
    for (uint16_t i = 0; a->query != NULL && i < a->query->rels_count; i++) {
        const struct query_rel *r = &a->query->rels[i];

        if (r->real_name != NULL && !r->invisible && strcmp(r->real_name, name) == 0) {
            struct status st =
                sql_error_set(a->err, a->arena, "42P01", position,
                              "invalid reference to FROM-clause entry for table \"%s\"", name);

            a->err->hint = arena_printf(
                a->arena, "Perhaps you meant to reference the table alias \"%s\".", r->alias);
            return st;
        }
    }
    return sql_error_set(a->err, a->arena, "42P01", position,
                         "missing FROM-clause entry for table \"%s\"", name);
}

/* rel NULL: any relation. *found is left alone when there is none. */
static struct status find_column(struct analyzer *a, const struct query_rel *rel, const char *name,
                                 int32_t position, const struct query_rel **found, uint16_t *column)
{
    for (uint16_t i = 0; a->query != NULL && i < a->query->rels_count; i++) {
        const struct query_rel *r = &a->query->rels[i];

        if (r->invisible || (rel != NULL && r != rel)) {
            continue;
        }
        for (uint16_t c = 0; c < r->columns_count; c++) {
            if (strcmp(r->columns[c].name, name) != 0) {
                continue;
            }
            if (*found != NULL) {
                return sql_error_set(a->err, a->arena, "42702", position,
                                     "column reference \"%s\" is ambiguous", name);
            }
            *found = r;
            *column = c;
        }
    }
    return OK;
}

static const struct query_rel *find_rel(const struct analyzer *a, const char *alias)
{
    for (uint16_t i = 0; a->query != NULL && i < a->query->rels_count; i++) {
        if (!a->query->rels[i].invisible && strcmp(a->query->rels[i].alias, alias) == 0) {
            return &a->query->rels[i];
        }
    }
    return NULL;
}

static struct status no_such_column(struct analyzer *a, const char *name, int32_t position)
{
    const struct table_desc *t = a->insert_table;
    struct status st =
        sql_error_set(a->err, a->arena, "42703", position, "column \"%s\" does not exist", name);

    for (uint32_t i = 0; t != NULL && a->query == NULL && i < t->columns_count; i++) {
        if (strcmp(t->columns[i].name, name) == 0) {
            a->err->hint = arena_printf(a->arena,
                                        "There is a column named \"%s\" in table \"%s\", but it "
                                        "cannot be referenced from this part of the query.",
                                        name, t->name);
        }
    }
    return st;
}

static struct status column(struct analyzer *a, const struct ast_expr *in, struct expr **out)
{
    const struct ast_column *c = &in->column;
    const struct query_rel *rel = NULL;
    const struct query_rel *found = NULL;
    const char *name = NULL;
    uint16_t at = 0;
    struct expr *e = NULL;

    if (c->star || c->count == 0) {
        return analyze_unsupported(a, in->location, "row expansion via \"*\" here");
    }
    name = c->names[c->count - 1].name;
    if (c->count > 1) {
        rel = find_rel(a, c->names[c->count - 2].name);
        if (rel == NULL) {
            return missing_table(a, c->names[c->count - 2].name, in->location);
        }
    }
    TRY(find_column(a, rel, name, in->location, &found, &at));
    if (found == NULL && rel != NULL) {
        return sql_error_set(a->err, a->arena, "42703", in->location, "column %s.%s does not exist",
                             c->names[c->count - 2].name, name);
    }
    if (found == NULL && find_rel(a, name) != NULL) {
        return analyze_unsupported(a, in->location, "whole-row reference");
    }
    if (found == NULL) {
        return no_such_column(a, name, in->location);
    }
    e = analyze_new(a, EXPR_COLUMN, found->columns[at].type, in->location, 0);
    if (e == NULL) {
        return analyze_no_memory();
    }
    e->typmod = found->columns[at].typmod;
    e->column = (uint16_t)(found->offset + at);
    *out = e;
    return OK;
}

/* ---- logic ------------------------------------------------------------------------------------- */

static struct status and_or(struct analyzer *a, const struct ast_expr *in, struct expr **out)
{
    const bool and = in->kind == AST_AND;
    struct expr *e =
        analyze_new(a, and? EXPR_AND : EXPR_OR, TYPE_BOOL, in->location, in->list.count);

    if (e == NULL) {
        return analyze_no_memory();
    }
    for (uint32_t i = 0; i < in->list.count; i++) {
        TRY(analyze_expr(a, in->list.items[i], &e->args[i]));
        TRY(to_bool(a, e->args[i], and? "AND" : "OR", &e->args[i]));
    }
    *out = e;
    return OK;
}

static struct status make_not(struct analyzer *a, struct expr *in, struct expr **out)
{
    struct expr *e = analyze_new(a, EXPR_NOT, TYPE_BOOL, in->position, 1);

    if (e == NULL) {
        return analyze_no_memory();
    }
    e->args[0] = in;
    *out = e;
    return OK;
}

static struct status not_expr(struct analyzer *a, const struct ast_expr *in, struct expr **out)
{
    struct expr *arg = NULL;

    TRY(analyze_expr(a, in->arg, &arg));
    TRY(to_bool(a, arg, "NOT", &arg));
    return make_not(a, arg, out);
}

static struct status is_expr(struct analyzer *a, const struct ast_expr *in, struct expr **out)
{
    static const char *const names[2][4] = {
        {"IS NULL", "IS TRUE", "IS FALSE", "IS UNKNOWN"},
        {"IS NOT NULL", "IS NOT TRUE", "IS NOT FALSE", "IS NOT UNKNOWN"}};
    static const enum step_is steps[] = {STEP_IS_NULL, STEP_IS_TRUE, STEP_IS_FALSE,
                                         STEP_IS_UNKNOWN};
    struct expr *e = analyze_new(a, EXPR_IS, TYPE_BOOL, in->location, 1);

    if (e == NULL) {
        return analyze_no_memory();
    }
    TRY(analyze_expr(a, in->is.arg, &e->args[0]));
    if (in->is.what != AST_IS_NULL) {
        TRY(to_bool(a, e->args[0], names[in->is.negated][in->is.what], &e->args[0]));
    } else if (e->args[0]->kind == EXPR_CONST) {
        TRY(analyze_settle(a, &e->args[0]));
    }
    e->is = steps[in->is.what];
    e->flag = in->is.negated;
    *out = e;
    return OK;
}

/* An equality between two expressions; the operands of the call are coerced. */
static struct status equality(struct analyzer *a, struct expr *left, struct expr *right,
                              int32_t position, struct expr **out)
{
    return analyze_operator(a, "=", left, right, position, out);
}

static struct status distinct(struct analyzer *a, const struct ast_expr *in, struct expr **out)
{
    struct expr *left = NULL;
    struct expr *right = NULL;

    TRY(analyze_expr(a, in->compare.left, &left));
    TRY(analyze_expr(a, in->compare.right, &right));
    TRY(equality(a, left, right, in->location, out));
    (*out)->kind = EXPR_DISTINCT;
    (*out)->flag = in->compare.negated;
    return OK;
}

static struct status compare(struct analyzer *a, const char *op, const struct ast_expr *left,
                             const struct ast_expr *right, int32_t position, struct expr **out)
{
    struct expr *l = NULL;
    struct expr *r = NULL;

    TRY(analyze_expr(a, left, &l));
    TRY(analyze_expr(a, right, &r));
    return analyze_operator(a, op, l, r, position, out);
}

static struct status pair(struct analyzer *a, enum expr_kind kind, struct expr *x, struct expr *y,
                          struct expr **out)
{
    struct expr *e = analyze_new(a, kind, TYPE_BOOL, x->position, 2);

    if (e == NULL) {
        return analyze_no_memory();
    }
    e->args[0] = x;
    e->args[1] = y;
    *out = e;
    return OK;
}

static struct status between_bounds(struct analyzer *a, const struct ast_expr *in,
                                    const struct ast_expr *low, const struct ast_expr *high,
                                    struct expr **out)
{
    const struct ast_between *b = &in->between;
    struct expr *x = NULL;
    struct expr *y = NULL;

    TRY(compare(a, b->negated ? "<" : ">=", b->arg, low, in->location, &x));
    TRY(compare(a, b->negated ? ">" : "<=", b->arg, high, in->location, &y));
    return pair(a, b->negated ? EXPR_OR : EXPR_AND, x, y, out);
}

static struct status between(struct analyzer *a, const struct ast_expr *in, struct expr **out)
{
    const struct ast_between *b = &in->between;
    struct expr *x = NULL;
    struct expr *y = NULL;

    TRY(between_bounds(a, in, b->low, b->high, &x));
    if (!b->symmetric) {
        *out = x;
        return OK;
    }
    TRY(between_bounds(a, in, b->high, b->low, &y));
    return pair(a, b->negated ? EXPR_AND : EXPR_OR, x, y, out);
}

/* IN as a chain of equalities, for lists without a common type. */
static struct status in_chain(struct analyzer *a, const struct ast_expr *in, struct expr **out)
{
    const struct ast_exprs *list = &in->in.list;
    struct expr *e =
        analyze_new(a, in->in.negated ? EXPR_AND : EXPR_OR, TYPE_BOOL, in->location, list->count);

    if (e == NULL) {
        return analyze_no_memory();
    }
    for (uint32_t i = 0; i < list->count; i++) {
        TRY(compare(a, in->in.negated ? "<>" : "=", in->in.arg, list->items[i], in->location,
                    &e->args[i]));
    }
    *out = e;
    return OK;
}

static struct status in_list(struct analyzer *a, const struct ast_expr *in, struct expr **out)
{
    const uint32_t count = in->in.list.count;
    struct expr *e = analyze_new(a, EXPR_IN, TYPE_BOOL, in->location, count + 1);
    struct sql_error saved = *a->err;
    struct expr *eq = NULL;
    oid common = TYPE_UNKNOWN;
    oid right = TYPE_UNKNOWN;

    if (e == NULL) {
        return analyze_no_memory();
    }
    TRY(analyze_expr(a, in->in.arg, &e->args[0]));
    for (uint32_t i = 0; i < count; i++) {
        TRY(analyze_expr(a, in->in.list.items[i], &e->args[i + 1]));
    }
    if (count == 1) { /* Simply an equality. */
        return analyze_operator(a, in->in.negated ? "<>" : "=", e->args[0], e->args[1],
                                in->location, out);
    }
    if (!status_ok(analyze_common_type(a, e->args, count + 1, "IN", &common))) {
        *a->err = saved;
        return in_chain(a, in, out);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!analyze_can_coerce(e->args[i + 1]->type, common, CAST_IMPLICIT)) {
            return in_chain(a, in, out);
        }
        TRY(analyze_coerce(a, e->args[i + 1], common, TYPE_TYPMOD_NONE, CAST_IMPLICIT,
                           e->args[i + 1]->position, &e->args[i + 1]));
    }
    TRY(equality(a, e->args[0], e->args[1], in->location, &eq));
    right = eq->args[1]->type;
    e->func = eq->func;
    e->args[0] = eq->args[0];
    e->args[1] = eq->args[1];
    for (uint32_t i = 1; i < count; i++) {
        TRY(analyze_coerce(a, e->args[i + 1], right, TYPE_TYPMOD_NONE, CAST_IMPLICIT,
                           e->args[i + 1]->position, &e->args[i + 1]));
    }
    e->flag = in->in.negated;
    *out = e;
    return OK;
}

static struct status like(struct analyzer *a, const struct ast_expr *in, struct expr **out)
{
    static const char *const names[2][2] = {{"~~", "!~~"}, {"~~*", "!~~*"}};

    if (in->like.what == AST_LIKE_SIMILAR) {
        return analyze_unsupported(a, in->location, "SIMILAR TO");
    }
    return compare(a, names[in->like.what == AST_LIKE_ILIKE][in->like.negated], in->like.arg,
                   in->like.pattern, in->location, out);
}

/* ---- conditional expressions -------------------------------------------------------------------- */

/* PostgreSQL looks at the ELSE first when it chooses the common type. */
static struct status case_types(struct analyzer *a, struct expr *e)
{
    const uint32_t arms = (e->args_count - 1) / 2;
    struct expr **results = ARENA_ARRAY(a->arena, struct expr *, arms + 1);

    if (results == NULL) {
        return analyze_no_memory();
    }
    results[0] = e->args[e->args_count - 1];
    for (uint32_t i = 0; i < arms; i++) {
        results[i + 1] = e->args[2 * i + 1];
    }
    TRY(analyze_to_common(a, results, arms + 1, "CASE", &e->type));
    e->args[e->args_count - 1] = results[0];
    for (uint32_t i = 0; i < arms; i++) {
        e->args[2 * i + 1] = results[i + 1];
    }
    return OK;
}

static struct status case_expr(struct analyzer *a, const struct ast_expr *in, struct expr **out)
{
    const struct ast_case *c = &in->case_;
    struct expr *e = analyze_new(a, EXPR_CASE, TYPE_UNKNOWN, in->location, 2 * c->whens_count + 1);

    if (e == NULL || e->args == NULL) {
        return analyze_no_memory();
    }
    for (uint32_t i = 0; i < c->whens_count; i++) {
        struct expr **condition = &e->args[2 * i];

        if (c->arg != NULL) {
            TRY(compare(a, "=", c->arg, c->whens[i].condition, c->whens[i].location, condition));
        } else {
            TRY(analyze_expr(a, c->whens[i].condition, condition));
        }
        TRY(to_bool(a, *condition, "CASE/WHEN", condition));
        TRY(analyze_expr(a, c->whens[i].result, &e->args[2 * i + 1]));
    }
    if (c->otherwise != NULL) {
        TRY(analyze_expr(a, c->otherwise, &e->args[e->args_count - 1]));
    } else {
        struct expr *null = analyze_new(a, EXPR_CONST, TYPE_UNKNOWN, -1, 0);

        if (null == NULL) {
            return analyze_no_memory();
        }
        null->constant.null = true;
        e->args[e->args_count - 1] = null;
    }
    *out = e;
    return case_types(a, e);
}

static struct status list_expr(struct analyzer *a, const struct ast_expr *in, enum expr_kind kind,
                               const char *what, struct expr **out)
{
    struct expr *e = analyze_new(a, kind, TYPE_UNKNOWN, in->location, in->list.count);

    if (e == NULL) {
        return analyze_no_memory();
    }
    for (uint32_t i = 0; i < in->list.count; i++) {
        TRY(analyze_expr(a, in->list.items[i], &e->args[i]));
    }
    TRY(analyze_to_common(a, e->args, e->args_count, what, &e->type));
    *out = e;
    return OK;
}

static struct status minmax(struct analyzer *a, const struct ast_expr *in, struct expr **out)
{
    const bool greatest = in->kind == AST_GREATEST;
    struct expr *cmp = NULL;

    TRY(list_expr(a, in, EXPR_MINMAX, greatest ? "GREATEST" : "LEAST", out));
    TRY(analyze_operator(a, greatest ? ">=" : "<=", (*out)->args[0], (*out)->args[0], in->location,
                         &cmp));
    (*out)->func = cmp->func;
    return OK;
}

static struct status nullif(struct analyzer *a, const struct ast_expr *in, struct expr **out)
{
    struct expr *left = NULL;
    struct expr *right = NULL;
    struct expr *eq = NULL;
    struct expr *e = NULL;

    TRY(analyze_expr(a, in->compare.left, &left));
    TRY(analyze_expr(a, in->compare.right, &right));
    TRY(equality(a, left, right, in->location, &eq));
    if (left->type == TYPE_UNKNOWN || left->type == TYPE_VARCHAR) {
        left = eq->args[0]; /* The type of the comparison: text, or what a literal has become. */
    }
    e = analyze_new(a, EXPR_NULLIF, left->type, in->location, 3);
    if (e == NULL) {
        return analyze_no_memory();
    }
    e->args[0] = left;
    e->args[1] = eq->args[0];
    e->args[2] = eq->args[1];
    e->func = eq->func;
    *out = e;
    return OK;
}

/* ---- the rest ---------------------------------------------------------------------------------- */

static struct status negative_numeric(struct analyzer *a, struct expr *e, struct expr **out)
{
    const struct bytes t = e->constant.value.bytes;

    e->constant.value.bytes =
        bytes_str(arena_printf(a->arena, "-%.*s", (int)t.len, (const char *)t.ptr));
    *out = e;
    return OK;
}

static struct status check_operator_schema(struct analyzer *a, const char *schema, const char *name,
                                           int32_t position)
{
    if (schema == NULL || strcmp(schema, "pg_catalog") == 0) {
        return OK;
    }
    return sql_error_set(a->err, a->arena, "42883", position, "operator does not exist: %s.%s",
                         schema, name);
}

static struct status op_expr(struct analyzer *a, const struct ast_expr *in, struct expr **out)
{
    struct expr *left = NULL;
    struct expr *right = NULL;

    TRY(check_operator_schema(a, in->op.schema, in->op.name, in->location));
    if (in->op.left != NULL) {
        TRY(analyze_expr(a, in->op.left, &left));
    }
    TRY(analyze_expr(a, in->op.right, &right));
    if (left == NULL && strcmp(in->op.name, "-") == 0 && right->kind == EXPR_CONST &&
        right->type == TYPE_NUMERIC && right->constant.value.bytes.ptr[0] != '-') {
        return negative_numeric(a, right, out);
    }
    return analyze_operator(a, in->op.name, left, right, in->location, out);
}

static struct status chain(struct analyzer *a, const struct ast_expr *in, struct expr **out)
{
    struct expr *left = NULL;

    if (in->chain.count > ANALYZE_CHAIN_MAX) {
        return sql_error_set(a->err, a->arena, "54001", in->location, "statement is too complex");
    }
    TRY(analyze_expr(a, in->chain.first, &left));
    for (uint32_t i = 0; i < in->chain.count; i++) {
        const struct ast_chain_link *l = &in->chain.links[i];
        struct expr *right = NULL;

        TRY(check_operator_schema(a, l->schema, l->name, l->location));
        TRY(analyze_expr(a, l->right, &right));
        TRY(analyze_operator(a, l->name, left, right, l->location, &left));
    }
    *out = left;
    return OK;
}

static struct status cast(struct analyzer *a, const struct ast_expr *in, struct expr **out)
{
    struct expr *arg = NULL;
    oid type = TYPE_UNKNOWN;
    int32_t typmod = TYPE_TYPMOD_NONE;

    TRY(analyze_type(a, in->cast.type, &type, &typmod));
    TRY(analyze_expr(a, in->cast.arg, &arg));
    TRY(analyze_coerce(a, arg, type, typmod, CAST_EXPLICIT, in->location, out));
    return OK;
}

static struct status sql_value(struct analyzer *a, const struct ast_expr *in, struct expr **out)
{
    static const struct {
        const char *function; /* NULL: not supported. */
        const char *name;
    } values[] = {
        [AST_CURRENT_DATE] = {NULL, "CURRENT_DATE"},
        [AST_CURRENT_TIME] = {NULL, "CURRENT_TIME"},
        [AST_CURRENT_TIMESTAMP] = {"now", "CURRENT_TIMESTAMP"},
        [AST_LOCALTIME] = {NULL, "LOCALTIME"},
        [AST_LOCALTIMESTAMP] = {NULL, "LOCALTIMESTAMP"},
        [AST_CURRENT_ROLE] = {"current_user", "CURRENT_ROLE"},
        [AST_CURRENT_USER] = {"current_user", "CURRENT_USER"},
        [AST_USER] = {"current_user", "USER"},
        [AST_SESSION_USER] = {"session_user", "SESSION_USER"},
        [AST_CURRENT_CATALOG] = {"current_database", "CURRENT_CATALOG"},
        [AST_CURRENT_SCHEMA] = {"current_schema", "CURRENT_SCHEMA"},
    };
    const char *function = values[in->sql_value.what].function;
    size_t pos = 0;

    if (function == NULL || in->sql_value.precision >= 0) {
        return analyze_unsupported(a, in->location, values[in->sql_value.what].name);
    }
    return analyze_call(a, func_next(function, &pos), NULL, 0, in->location, out);
}

static struct status expr_of(struct analyzer *a, const struct ast_expr *in, struct expr **out)
{
    switch (in->kind) {
    case AST_CONST:
        return constant(a, in, out);
    case AST_PARAM:
        return param(a, in, out);
    case AST_COLUMN:
        return column(a, in, out);
    case AST_OP:
        return op_expr(a, in, out);
    case AST_CHAIN:
        return chain(a, in, out);
    case AST_AND:
    case AST_OR:
        return and_or(a, in, out);
    case AST_NOT:
        return not_expr(a, in, out);
    case AST_IS:
        return is_expr(a, in, out);
    case AST_DISTINCT:
        return distinct(a, in, out);
    case AST_BETWEEN:
        return between(a, in, out);
    case AST_IN:
        return in_list(a, in, out);
    case AST_LIKE:
        return like(a, in, out);
    case AST_CASE:
        return case_expr(a, in, out);
    case AST_COALESCE:
        return list_expr(a, in, EXPR_COALESCE, "COALESCE", out);
    case AST_NULLIF:
        return nullif(a, in, out);
    case AST_GREATEST:
    case AST_LEAST:
        return minmax(a, in, out);
    case AST_FUNCTION:
        return analyze_function(a, in, out);
    case AST_CAST:
        return cast(a, in, out);
    case AST_SQL_VALUE:
        return sql_value(a, in, out);
    case AST_ANY:
        return analyze_unsupported(a, in->location, "ANY (array)");
    case AST_ALL:
        return analyze_unsupported(a, in->location, "ALL (array)");
    case AST_ARRAY:
        return analyze_unsupported(a, in->location, "ARRAY constructor");
    case AST_ROW:
        return analyze_unsupported(a, in->location, "ROW constructor");
    case AST_SUBLINK:
        return analyze_unsupported(a, in->location, "subquery in an expression");
    case AST_SUBSCRIPT:
        return analyze_unsupported(a, in->location, "subscript");
    case AST_FIELD:
        return analyze_unsupported(a, in->location, "field selection");
    case AST_COLLATE:
        return analyze_unsupported(a, in->location, "COLLATE");
    case AST_DEFAULT:
        return sql_error_set(a->err, a->arena, "42601", in->location,
                             "DEFAULT is not allowed in this context");
    case AST_GROUPING:
        return analyze_unsupported(a, in->location, "GROUPING");
    case AST_EXPR_KIND_COUNT:
        break;
    }
    return analyze_unsupported(a, in->location, "this expression");
}

struct status analyze_expr(struct analyzer *a, const struct ast_expr *in, struct expr **out)
{
    struct status st = OK;

    if (++a->depth > STATEMENT_DEPTH_MAX) {
        return sql_error_set(a->err, a->arena, "54001", in->location, "stack depth limit exceeded");
    }
    st = expr_of(a, in, out);
    a->depth--;
    return st;
}
