/*
 * aggregate.c -- aggregates and GROUP BY.
 *
 * While the clauses of a query are analysed, a call of an aggregate becomes an EXPR_AGG that counts into
 * query.aggs. When all clauses are known, what stands above the aggregation (select list, HAVING, ORDER BY)
 * is lowered: an expression equal to a group becomes that group's column, an aggregate becomes its column,
 * and any other column of FROM is 42803, unless the primary key of its table is among the groups, which
 * fixes all columns of the row.
 */
#include <string.h>

#include "node/sql/analyze/analyze.h"

#define AGGS_MAX 1600u

static bool same_value(const struct expr *x, const struct expr *y)
{
    const struct type_desc *t = type_find(x->type);

    if (x->constant.null || y->constant.null) {
        return x->constant.null && y->constant.null;
    }
    return datum_cmp(t == NULL ? PHYS_BYTES : t->phys, x->constant.value, y->constant.value) == 0;
}

bool analyze_same_expr(const struct expr *x, const struct expr *y)
{
    if (x->kind != y->kind || x->type != y->type || x->args_count != y->args_count ||
        x->flag != y->flag) {
        return false;
    }
    for (uint32_t i = 0; i < x->args_count; i++) {
        if (!analyze_same_expr(x->args[i], y->args[i])) {
            return false;
        }
    }
    switch (x->kind) {
    case EXPR_CONST:
        return same_value(x, y);
    case EXPR_PARAM:
        return x->param == y->param;
    case EXPR_COLUMN:
        return x->column == y->column;
    case EXPR_AGG:
        return x->agg == y->agg;
    case EXPR_IS:
        return x->is == y->is;
    case EXPR_CALL:
        return x->func == y->func && (x->func->flags & FUNC_VOLATILE) == 0;
    case EXPR_DISTINCT:
    case EXPR_NULLIF:
    case EXPR_MINMAX:
    case EXPR_IN:
        return x->func == y->func;
    case EXPR_VARCHAR:
        return x->typmod == y->typmod;
    case EXPR_CAST_IO:
    case EXPR_RELABEL:
    case EXPR_AND:
    case EXPR_OR:
    case EXPR_NOT:
    case EXPR_CASE:
    case EXPR_COALESCE:
        break;
    }
    return true;
}

/* ---- calls ------------------------------------------------------------------------------------- */

static struct status check_place(struct analyzer *a, int32_t position)
{
    if (a->in_agg) {
        return sql_error_set(a->err, a->arena, "42803", position,
                             "aggregate function calls cannot be nested");
    }
    if (!a->aggs_allowed || a->query == NULL) {
        return sql_error_set(a->err, a->arena, "42803", position,
                             "aggregate functions are not allowed in %s", a->clause);
    }
    return OK;
}

static int choose(const char *name, oid arg, bool star, const struct agg_desc **out)
{
    struct candidate c[ANALYZE_CANDIDATES_MAX];
    const struct agg_desc *g = NULL;
    uint32_t count = 0;
    size_t pos = 0;
    int i = 0;

    while ((g = agg_next(name, &pos)) != NULL && count < ANALYZE_CANDIDATES_MAX) {
        if ((g->arg == TYPE_INVALID) != star) {
            continue;
        }
        if (star || g->arg == arg || g->arg == TYPE_ANY) {
            *out = g;
            return 0;
        }
        c[count++] = (struct candidate){{g->arg}, g};
    }
    i = analyze_choose(c, count, &arg, 1);
    *out = i < 0 ? NULL : c[i].item;
    return i;
}

static struct status no_such_aggregate(struct analyzer *a, const struct ast_expr *in, int why,
                                       oid arg)
{
    const bool none = why == CANDIDATE_NONE;
    struct status st = sql_error_set(a->err, a->arena, none ? "42883" : "42725", in->location,
                                     "function %s(%s) %s", in->function->name.name,
                                     in->function->args.count == 0 ? "" : type_sql_name(arg),
                                     none ? "does not exist" : "is not unique");

    a->err->hint = "No function matches the given name and argument types. You might need to add "
                   "explicit type casts.";
    return st;
}

static struct status add_agg(struct analyzer *a, struct query_agg g, int32_t position,
                             struct expr **out)
{
    struct query *q = a->query;
    struct expr *e = analyze_new(a, EXPR_AGG, g.desc->ret, position, 0);

    if (e == NULL) {
        return analyze_no_memory();
    }
    if (q->aggs == NULL) {
        q->aggs = ARENA_ARRAY(a->arena, struct query_agg, AGGS_MAX);
    }
    if (q->aggs == NULL) {
        return analyze_no_memory();
    }
    if (q->aggs_count == AGGS_MAX) {
        return sql_error_set(a->err, a->arena, "54011", position, "too many aggregates");
    }
    e->agg = q->aggs_count;
    q->aggs[q->aggs_count++] = g;
    q->aggregates = true;
    *out = e;
    return OK;
}

static struct status aggregate_arg(struct analyzer *a, const struct ast_function *fn,
                                   struct expr **out)
{
    struct status st = OK;

    a->in_agg = true;
    st = analyze_expr(a, fn->args.items[0], out);
    a->in_agg = false;
    return st;
}

static struct status refuse_forms(struct analyzer *a, const struct ast_expr *in)
{
    const struct ast_function *fn = in->function;

    if (fn->star && fn->distinct) {
        return sql_error_set(a->err, a->arena, "42601", in->location,
                             "DISTINCT specified, but %s has no argument", fn->name.name);
    }
    if (fn->args.count == 0 && !fn->star) {
        return sql_error_set(a->err, a->arena, "42809", in->location,
                             "%s(*) must be used to call a parameterless aggregate function",
                             fn->name.name);
    }
    if (fn->args.count > 1) {
        return analyze_unsupported(a, in->location, "aggregate with several arguments");
    }
    if (fn->agg_order.count > 0) {
        return analyze_unsupported(a, in->location, "ORDER BY in an aggregate");
    }
    return OK;
}

struct status analyze_aggregate(struct analyzer *a, const struct ast_expr *in, struct expr **out,
                                bool *is)
{
    const struct ast_function *fn = in->function;
    struct query_agg g = {0};
    size_t pos = 0;
    oid type = TYPE_INVALID;
    int why = 0;

    *is = agg_next(fn->name.name, &pos) != NULL;
    if (!*is) {
        return OK;
    }
    TRY(check_place(a, in->location));
    TRY(refuse_forms(a, in));
    if (!fn->star) {
        TRY(aggregate_arg(a, fn, &g.arg));
        type = g.arg->type;
    }
    why = choose(fn->name.name, type, fn->star, &g.desc);
    if (g.desc == NULL) {
        return no_such_aggregate(a, in, why, type);
    }
    if (g.desc->kind == AGG_UNSUPPORTED) {
        return analyze_unsupported(
            a, in->location,
            arena_printf(a->arena, "aggregate %s(%s)", g.desc->name, type_sql_name(g.desc->arg)));
    }
    if (g.arg != NULL && g.desc->arg != TYPE_ANY) {
        TRY(analyze_coerce(a, g.arg, g.desc->arg, TYPE_TYPMOD_NONE, CAST_IMPLICIT, in->location,
                           &g.arg));
    } else if (g.arg != NULL && g.arg->type == TYPE_UNKNOWN) {
        TRY(analyze_settle(a, &g.arg));
    }
    if (fn->filter != NULL) {
        a->in_agg = true;
        TRY(analyze_condition(a, fn->filter, "FILTER", &g.filter));
        a->in_agg = false;
    }
    g.distinct = fn->distinct;
    return add_agg(a, g, in->location, out);
}

/* ---- lowering ---------------------------------------------------------------------------------- */

static const struct query_column *column_of(const struct query *q, uint16_t column,
                                            const struct query_rel **rel)
{
    for (uint16_t i = 0; i < q->rels_count; i++) {
        const struct query_rel *r = &q->rels[i];

        if (column >= r->offset && column < r->offset + r->columns_count) {
            *rel = r;
            return &r->columns[column - r->offset];
        }
    }
    return NULL;
}

static bool group_has_column(const struct query *q, uint16_t column)
{
    for (uint16_t i = 0; i < q->groups_count; i++) {
        if (q->groups[i]->kind == EXPR_COLUMN && q->groups[i]->column == column) {
            return true;
        }
    }
    return false;
}

/* Are all primary key columns of the relation among the groups? */
static bool key_is_grouped(const struct query *q, const struct query_rel *r)
{
    if (r->kind != QUERY_REL_TABLE) {
        return false;
    }
    for (uint16_t i = 0; i < r->table->primary.columns_count; i++) {
        uint16_t c = 0;

        while (c < r->columns_count &&
               r->table->columns[c].id != r->table->primary.columns[i].column) {
            c++;
        }
        if (c == r->columns_count || !group_has_column(q, (uint16_t)(r->offset + c))) {
            return false;
        }
    }
    return true;
}

static struct status ungrouped(struct analyzer *a, struct query *q, struct expr *e,
                               struct expr **out)
{
    const struct query_rel *r = NULL;
    const struct query_column *c = column_of(q, e->column, &r);
    struct expr **groups = NULL;

    if (c == NULL || !key_is_grouped(q, r)) {
        return sql_error_set(
            a->err, a->arena, "42803", e->position,
            "column \"%s%s%s\" must appear in the GROUP BY clause or be used in an aggregate "
            "function",
            r == NULL ? "" : r->alias, r == NULL ? "" : ".", c == NULL ? "?" : c->name);
    }
    groups = ARENA_ARRAY(a->arena, struct expr *, q->groups_count + 1u);
    if (groups == NULL) {
        return analyze_no_memory();
    }
    memcpy(groups, q->groups, q->groups_count * sizeof(*groups));
    groups[q->groups_count++] = e;
    q->groups = groups;
    *out = e;
    return OK;
}

/* First pass: every column below is a group, part of one, or inside an aggregate. */
static struct status check_grouped(struct analyzer *a, struct query *q, struct expr *e)
{
    for (uint16_t i = 0; i < q->groups_count; i++) {
        if (analyze_same_expr(e, q->groups[i])) {
            return OK;
        }
    }
    if (e->kind == EXPR_COLUMN) {
        return ungrouped(a, q, e, &e);
    }
    for (uint32_t i = 0; i < e->args_count; i++) {
        TRY(check_grouped(a, q, e->args[i]));
    }
    return OK;
}

/* Second pass, when the number of groups is settled. */
static struct status lower(struct analyzer *a, const struct query *q, struct expr **e)
{
    for (uint16_t i = 0; i < q->groups_count; i++) {
        if (analyze_same_expr(*e, q->groups[i])) {
            struct expr *c = analyze_new(a, EXPR_COLUMN, (*e)->type, (*e)->position, 0);

            if (c == NULL) {
                return analyze_no_memory();
            }
            c->typmod = (*e)->typmod;
            c->column = i;
            *e = c;
            return OK;
        }
    }
    if ((*e)->kind == EXPR_AGG) {
        const uint16_t column = (uint16_t)(q->groups_count + (*e)->agg);

        (*e)->kind = EXPR_COLUMN;
        (*e)->column = column;
        return OK;
    }
    for (uint32_t i = 0; i < (*e)->args_count; i++) {
        TRY(lower(a, q, &(*e)->args[i]));
    }
    return OK;
}

struct status analyze_lower_aggregates(struct analyzer *a, struct query *q)
{
    for (uint16_t i = 0; i < q->targets_count; i++) {
        TRY(check_grouped(a, q, q->targets[i].expr));
    }
    if (q->having != NULL) {
        TRY(check_grouped(a, q, q->having));
    }
    for (uint16_t i = 0; i < q->targets_count; i++) {
        TRY(lower(a, q, &q->targets[i].expr));
    }
    return q->having == NULL ? OK : lower(a, q, &q->having);
}
