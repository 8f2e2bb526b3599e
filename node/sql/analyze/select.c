/*
 * select.c -- SELECT and VALUES: what is in scope, the select list, ORDER BY, LIMIT.
 */
#include <string.h>

#include "node/sql/analyze/analyze.h"

struct status analyze_new_query(struct analyzer *a, enum query_kind kind, struct query **out)
{
    struct query *q = ARENA_NEW(a->arena, struct query);

    if (q == NULL) {
        return analyze_no_memory();
    }
    q->kind = kind;
    q->rels = ARENA_ARRAY(a->arena, struct query_rel, QUERY_RELS_MAX);
    if (q->rels == NULL) {
        return analyze_no_memory();
    }
    *out = q;
    return OK;
}

/* ---- tables ------------------------------------------------------------------------------------ */

static struct status no_such_table(struct analyzer *a, const struct ast_name *name)
{
    return sql_error_set(
        a->err, a->arena, "42P01", name->location, "relation \"%s%s%s\" does not exist",
        name->schema == NULL ? "" : name->schema, name->schema == NULL ? "" : ".", name->name);
}

struct status analyze_table(struct analyzer *a, const struct ast_name *name,
                            struct table_desc **out)
{
    struct analyze_tables *t = a->tables;
    struct status st = OK;

    if (name->schema != NULL && strcmp(name->schema, "public") != 0) {
        return no_such_table(a, name);
    }
    for (uint32_t i = 0; i < t->count; i++) {
        if (strcmp(t->items[i]->name, name->name) == 0) {
            *out = t->items[i];
            return OK;
        }
    }
    for (uint32_t i = 0; i < t->absent_count; i++) {
        if (strcmp(t->absent[i], name->name) == 0) {
            return no_such_table(a, name);
        }
    }
    if (t->catalog == NULL) {
        return no_such_table(a, name);
    }
    if (t->count == ANALYZE_TABLES_MAX) {
        return sql_error_set(a->err, a->arena, "54001", name->location, "too many tables");
    }
    st = catalog_acquire_cached(t->catalog, name->name, out);
    if (status_ok(st)) {
        t->items[t->count++] = *out;
    } else if (st.code == STATUS_WOULD_BLOCK) {
        t->missing = name->name;
    } else if (st.code == STATUS_NOT_FOUND) {
        return no_such_table(a, name);
    }
    return st;
}

static struct status new_rel(struct analyzer *a, enum query_rel_kind kind, const char *alias,
                             uint32_t columns, struct query_rel **out)
{
    struct query *q = a->query;
    struct query_rel *r = &q->rels[q->rels_count];

    if (q->rels_count == QUERY_RELS_MAX || columns > QUERY_COLUMNS_MAX) {
        return analyze_unsupported(a, -1, "join");
    }
    memset(r, 0, sizeof(*r));
    r->kind = kind;
    r->alias = alias;
    r->columns_count = (uint16_t)columns;
    r->columns = ARENA_ARRAY(a->arena, struct query_column, columns + 1);
    if (r->columns == NULL) {
        return analyze_no_memory();
    }
    if (q->rels_count > 0) {
        r->offset = (uint16_t)(q->rels[q->rels_count - 1].offset +
                               q->rels[q->rels_count - 1].columns_count);
    }
    q->rels_count++;
    *out = r;
    return OK;
}

struct status analyze_add_table(struct analyzer *a, const struct table_desc *t, const char *alias,
                                struct query_rel **out)
{
    struct query_rel *r = NULL;

    TRY(new_rel(a, QUERY_REL_TABLE, alias == NULL ? t->name : alias, t->columns_count, &r));
    r->real_name = t->name;
    r->table = t;
    for (uint32_t i = 0; i < t->columns_count; i++) {
        r->columns[i] =
            (struct query_column){.name = t->columns[i].name,
                                  .type = t->columns[i].type,
                                  .typmod = t->columns[i].typmod,
                                  .hidden = t->hidden_rowid && i + 1 == t->columns_count,
                                  .table = t->id,
                                  .attnum = (int16_t)t->columns[i].id};
    }
    *out = r;
    return OK;
}

/* ---- FROM -------------------------------------------------------------------------------------- */

static struct status from_select(struct analyzer *a, const struct ast_from *f,
                                 struct query_rel **out)
{
    struct query *outer = a->query;
    struct query *q = NULL;

    if (f->lateral) {
        return analyze_unsupported(a, f->location, "LATERAL");
    }
    if (f->alias == NULL) {
        return sql_error_set(a->err, a->arena, "42601", f->location,
                             "subquery in FROM must have an alias");
    }
    a->query = NULL;
    TRY(analyze_select(a, f->select, false, &q));
    a->query = outer;
    TRY(new_rel(a, QUERY_REL_SELECT, f->alias, q->visible_count, out));
    (*out)->select = q;
    for (uint16_t i = 0; i < q->visible_count; i++) {
        (*out)->columns[i] = (struct query_column){.name = q->targets[i].name,
                                                   .type = q->targets[i].expr->type,
                                                   .typmod = q->targets[i].expr->typmod,
                                                   .table = q->targets[i].table,
                                                   .attnum = q->targets[i].attnum};
    }
    return OK;
}

static struct status series_step(struct analyzer *a, const struct ast_function *fn, uint32_t i,
                                 struct expr **out)
{
    if (i < fn->args.count) {
        return analyze_expr(a, fn->args.items[i], out);
    }
    *out = analyze_new(a, EXPR_CONST, TYPE_INT4, -1, 0);
    if (*out == NULL) {
        return analyze_no_memory();
    }
    (*out)->constant.value.i64 = 1;
    return OK;
}

static struct status from_function(struct analyzer *a, const struct ast_from *f,
                                   struct query_rel **out)
{
    const struct ast_function *fn = f->function->function;
    const char *alias = f->alias == NULL ? fn->name.name : f->alias;
    struct query *outer = a->query;
    struct expr *args[3] = {NULL, NULL, NULL};
    oid type = TYPE_INT4;

    if (f->function->kind != AST_FUNCTION || strcmp(fn->name.name, "generate_series") != 0 ||
        fn->args.count < 2 || fn->args.count > 3 || f->with_ordinality) {
        return analyze_unsupported(a, f->location, "this function in FROM");
    }
    a->query = NULL;
    for (uint32_t i = 0; i < 3; i++) {
        TRY(series_step(a, fn, i, &args[i]));
        if (!type_is_int(args[i]->type) && args[i]->type != TYPE_UNKNOWN) {
            return analyze_unsupported(
                a, f->location,
                arena_printf(a->arena, "generate_series of type %s", type_sql_name(args[i]->type)));
        }
        type = args[i]->type == TYPE_INT8 ? TYPE_INT8 : type;
    }
    a->query = outer;
    TRY(new_rel(a, QUERY_REL_SERIES, alias, 1, out));
    (*out)->columns[0] = (struct query_column){.name = alias, .type = type, .typmod = -1};
    for (uint32_t i = 0; i < 3; i++) {
        TRY(analyze_coerce(a, args[i], type, TYPE_TYPMOD_NONE, CAST_IMPLICIT, f->location,
                           &(*out)->series[i]));
    }
    return OK;
}

static struct status from_item(struct analyzer *a, const struct ast_from *f)
{
    struct table_desc *t = NULL;
    struct query_rel *r = NULL;

    switch (f->kind) {
    case AST_FROM_TABLE:
        TRY(analyze_table(a, &f->table, &t));
        TRY(analyze_add_table(a, t, f->alias, &r));
        break;
    case AST_FROM_SELECT:
        TRY(from_select(a, f, &r));
        break;
    case AST_FROM_FUNCTION:
        TRY(from_function(a, f, &r));
        break;
    case AST_FROM_JOIN:
        return analyze_unsupported(a, f->location, "JOIN");
    }
    if (f->column_aliases.count > r->columns_count) {
        return sql_error_set(a->err, a->arena, "42P10", f->location,
                             "table \"%s\" has %u columns available but %u columns specified",
                             r->alias, r->columns_count, f->column_aliases.count);
    }
    for (uint32_t i = 0; i < f->column_aliases.count; i++) {
        r->columns[i].name = f->column_aliases.items[i].name;
    }
    return OK;
}

/* ---- select list ------------------------------------------------------------------------------- */

struct target_list {
    struct query_target *items;
    uint32_t count;
};

static struct status add_target(struct analyzer *a, struct target_list *l, struct expr *e,
                                const char *name)
{
    struct query_target *t = &l->items[l->count];

    if (l->count == QUERY_COLUMNS_MAX) {
        return sql_error_set(a->err, a->arena, "54011", -1,
                             "target lists can have at most %u entries", QUERY_COLUMNS_MAX);
    }
    t->expr = e;
    t->name = name;
    for (uint16_t i = 0; a->query != NULL && e->kind == EXPR_COLUMN && i < a->query->rels_count;
         i++) {
        const struct query_rel *r = &a->query->rels[i];

        if (e->column >= r->offset && e->column < r->offset + r->columns_count) {
            t->table = r->columns[e->column - r->offset].table;
            t->attnum = r->columns[e->column - r->offset].attnum;
        }
    }
    l->count++;
    return OK;
}

static struct status expand_rel(struct analyzer *a, const struct query_rel *r, int32_t position,
                                struct target_list *l)
{
    for (uint16_t i = 0; i < r->columns_count; i++) {
        struct expr *e = NULL;

        if (r->columns[i].hidden) {
            continue;
        }
        e = analyze_new(a, EXPR_COLUMN, r->columns[i].type, position, 0);
        if (e == NULL) {
            return analyze_no_memory();
        }
        e->typmod = r->columns[i].typmod;
        e->column = (uint16_t)(r->offset + i);
        TRY(add_target(a, l, e, r->columns[i].name));
    }
    return OK;
}

static struct status expand_star(struct analyzer *a, const struct ast_expr *in,
                                 struct target_list *l)
{
    const struct ast_column *c = &in->column;
    const char *alias = c->count == 0 ? NULL : c->names[c->count - 1].name;
    bool any = false;

    for (uint16_t i = 0; a->query != NULL && i < a->query->rels_count; i++) {
        const struct query_rel *r = &a->query->rels[i];

        if (!r->invisible && (alias == NULL || strcmp(r->alias, alias) == 0)) {
            any = true;
            TRY(expand_rel(a, r, in->location, l));
        }
    }
    if (any) {
        return OK;
    }
    if (alias == NULL) {
        return sql_error_set(a->err, a->arena, "42601", in->location,
                             "SELECT * with no tables specified is not valid");
    }
    return sql_error_set(a->err, a->arena, "42P01", in->location,
                         "missing FROM-clause entry for table \"%s\"", alias);
}

static struct status targets_into(struct analyzer *a, const struct ast_targets *in,
                                  struct target_list *l)
{
    l->items = ARENA_ARRAY(a->arena, struct query_target, QUERY_COLUMNS_MAX);
    if (l->items == NULL) {
        return analyze_no_memory();
    }
    for (uint32_t i = 0; i < in->count; i++) {
        const struct ast_target *t = &in->items[i];
        struct expr *e = NULL;

        if (t->expr->kind == AST_COLUMN && (t->expr->column.star || t->expr->column.count == 0)) {
            TRY(expand_star(a, t->expr, l));
            continue;
        }
        TRY(analyze_expr(a, t->expr, &e));
        TRY(add_target(a, l, e, t->label));
    }
    return OK;
}

struct status analyze_targets(struct analyzer *a, const struct ast_targets *in, const char *clause,
                              struct query_target **out, uint16_t *count)
{
    struct target_list l = {0};

    *count = 0;
    if (in->count == 0) {
        return OK;
    }
    a->clause = clause;
    TRY(targets_into(a, in, &l));
    for (uint32_t i = 0; i < l.count; i++) {
        TRY(analyze_settle(a, &l.items[i].expr));
    }
    *out = l.items;
    *count = (uint16_t)l.count;
    return OK;
}

/* ---- ORDER BY, GROUP BY ------------------------------------------------------------------------ */

/* A bare number is the place of a result column. *found -1: the expression is something else. */
static struct status by_position(struct analyzer *a, const struct ast_expr *e,
                                 const struct target_list *l, const char *clause, int32_t *found)
{
    *found = -1;
    if (e->kind != AST_CONST || e->constant.kind == AST_CONST_NULL) {
        return OK;
    }
    if (e->constant.kind != AST_CONST_INT) {
        return sql_error_set(a->err, a->arena, "42601", e->location, "non-integer constant in %s",
                             clause);
    }
    if (e->constant.integer < 1 || (uint32_t)e->constant.integer > l->count) {
        return sql_error_set(a->err, a->arena, "42P10", e->location,
                             "%s position %d is not in select list", clause,
                             (int)e->constant.integer);
    }
    *found = e->constant.integer - 1;
    return OK;
}

/* A bare name may be the name of a result column. */
static struct status by_name(struct analyzer *a, const struct ast_expr *e,
                             const struct target_list *l, const char *clause, int32_t *found)
{
    *found = -1;
    if (e->kind != AST_COLUMN || e->column.count != 1 || e->column.star) {
        return OK;
    }
    for (uint32_t i = 0; i < l->count; i++) {
        if (strcmp(l->items[i].name, e->column.names[0].name) != 0) {
            continue;
        }
        if (*found >= 0 && !analyze_same_expr(l->items[*found].expr, l->items[i].expr)) {
            return sql_error_set(a->err, a->arena, "42702", e->location, "%s \"%s\" is ambiguous",
                                 clause, e->column.names[0].name);
        }
        *found = *found < 0 ? (int32_t)i : *found;
    }
    return OK;
}

static bool names_input_column(const struct analyzer *a, const struct ast_expr *e)
{
    if (e->kind != AST_COLUMN || e->column.count != 1 || a->query == NULL) {
        return false;
    }
    for (uint16_t i = 0; i < a->query->rels_count; i++) {
        for (uint16_t c = 0; c < a->query->rels[i].columns_count; c++) {
            if (strcmp(a->query->rels[i].columns[c].name, e->column.names[0].name) == 0) {
                return true;
            }
        }
    }
    return false;
}

static struct status group_by(struct analyzer *a, const struct ast_exprs *in,
                              const struct target_list *l)
{
    struct query *q = a->query;

    if (in->count == 0) {
        return OK;
    }
    q->aggregates = true;
    q->groups = ARENA_ARRAY(a->arena, struct expr *, in->count);
    if (q->groups == NULL) {
        return analyze_no_memory();
    }
    a->clause = "GROUP BY";
    a->aggs_allowed = false;
    for (uint32_t i = 0; i < in->count; i++) {
        int32_t found = -1;
        struct expr *e = NULL;

        TRY(by_position(a, in->items[i], l, "GROUP BY", &found));
        if (found < 0 && !names_input_column(a, in->items[i])) {
            TRY(by_name(a, in->items[i], l, "GROUP BY", &found));
        }
        if (found >= 0) {
            e = l->items[found].expr;
        } else {
            TRY(analyze_expr(a, in->items[i], &e));
            TRY(analyze_settle(a, &e));
        }
        if (e->kind == EXPR_AGG) {
            return sql_error_set(a->err, a->arena, "42803", e->position,
                                 "aggregate functions are not allowed in GROUP BY");
        }
        q->groups[q->groups_count++] = e;
    }
    return OK;
}

static struct status order_target(struct analyzer *a, const struct ast_expr *in,
                                  struct target_list *l, uint16_t visible, uint16_t *out)
{
    const struct target_list shown = {l->items, visible};
    int32_t found = -1;
    struct expr *e = NULL;

    TRY(by_position(a, in, &shown, "ORDER BY", &found));
    if (found < 0) {
        TRY(by_name(a, in, &shown, "ORDER BY", &found));
    }
    if (found >= 0) {
        *out = (uint16_t)found;
        return OK;
    }
    TRY(analyze_expr(a, in, &e));
    TRY(analyze_settle(a, &e));
    for (uint32_t i = 0; i < l->count; i++) {
        if (analyze_same_expr(l->items[i].expr, e)) {
            *out = (uint16_t)i;
            return OK;
        }
    }
    if (a->query->distinct) {
        return sql_error_set(
            a->err, a->arena, "42P10", analyze_position(e),
            "for SELECT DISTINCT, ORDER BY expressions must appear in select list");
    }
    *out = (uint16_t)l->count;
    return add_target(a, l, e, "");
}

static struct status order_by(struct analyzer *a, const struct ast_orders *in,
                              struct target_list *l)
{
    struct query *q = a->query;
    const uint16_t visible = (uint16_t)l->count;

    if (in->count == 0) {
        return OK;
    }
    q->order = ARENA_ARRAY(a->arena, struct query_order, in->count);
    if (q->order == NULL) {
        return analyze_no_memory();
    }
    a->clause = "ORDER BY";
    for (uint32_t i = 0; i < in->count; i++) {
        struct query_order *o = &q->order[q->order_count++];

        TRY(order_target(a, in->items[i].expr, l, visible, &o->target));
        o->desc = in->items[i].direction == AST_ORDER_DESC;
        o->nulls_first = in->items[i].nulls == AST_NULLS_DEFAULT
                             ? o->desc
                             : in->items[i].nulls == AST_NULLS_FIRST;
    }
    return OK;
}

static struct status limit(struct analyzer *a, const struct ast_expr *in, const char *clause,
                           struct expr **out)
{
    struct query *q = a->query;
    struct expr *e = NULL;

    if (in == NULL) {
        return OK;
    }
    a->query = NULL; /* Columns are not in scope here. */
    a->clause = clause;
    a->aggs_allowed = false;
    if (in->kind == AST_COLUMN) {
        return sql_error_set(a->err, a->arena, "42P10", in->location,
                             "argument of %s must not contain variables", clause);
    }
    TRY(analyze_expr(a, in, &e));
    a->query = q;
    if (!analyze_can_coerce(e->type, TYPE_INT8, CAST_ASSIGNMENT)) {
        return sql_error_set(a->err, a->arena, "42804", analyze_position(e),
                             "argument of %s must be type bigint, not type %s", clause,
                             type_sql_name(e->type));
    }
    return analyze_coerce(a, e, TYPE_INT8, TYPE_TYPMOD_NONE, CAST_ASSIGNMENT, e->position, out);
}

/* ---- VALUES ------------------------------------------------------------------------------------ */

static struct status values_rows(struct analyzer *a, const struct ast_select *s,
                                 struct expr ****out)
{
    const uint32_t cols = s->rows[0].count;
    struct expr ***rows = ARENA_ARRAY(a->arena, struct expr **, s->rows_count);

    if (rows == NULL) {
        return analyze_no_memory();
    }
    for (uint32_t i = 0; i < s->rows_count; i++) {
        if (s->rows[i].count != cols) {
            return sql_error_set(a->err, a->arena, "42601",
                                 s->rows[i].count > 0 ? s->rows[i].items[0]->location : -1,
                                 "VALUES lists must all be the same length");
        }
        rows[i] = ARENA_ARRAY(a->arena, struct expr *, cols + 1);
        if (rows[i] == NULL) {
            return analyze_no_memory();
        }
        for (uint32_t c = 0; c < cols; c++) {
            TRY(analyze_expr(a, s->rows[i].items[c], &rows[i][c]));
        }
    }
    *out = rows;
    return OK;
}

/* VALUES is SELECT * from its rows. */
static struct status values_rel(struct analyzer *a, const struct ast_select *s)
{
    const uint32_t cols = s->rows[0].count;
    struct expr **column = ARENA_ARRAY(a->arena, struct expr *, s->rows_count);
    struct expr ***rows = NULL;
    struct query *q = a->query;
    struct query_rel *r = NULL;

    if (column == NULL) {
        return analyze_no_memory();
    }
    a->clause = "VALUES";
    a->aggs_allowed = false;
    a->query = NULL;
    TRY(values_rows(a, s, &rows));
    a->query = q;
    TRY(new_rel(a, QUERY_REL_VALUES, "*VALUES*", cols, &r));
    for (uint32_t c = 0; c < cols; c++) {
        oid type = TYPE_TEXT;

        for (uint32_t i = 0; i < s->rows_count; i++) {
            column[i] = rows[i][c];
        }
        TRY(analyze_to_common(a, column, s->rows_count, "VALUES", &type));
        for (uint32_t i = 0; i < s->rows_count; i++) {
            TRY(analyze_settle(a, &column[i]));
            rows[i][c] = column[i];
        }
        r->columns[c] = (struct query_column){
            .name = arena_printf(a->arena, "column%u", c + 1), .type = type, .typmod = -1};
    }
    r->rows = rows;
    r->rows_count = s->rows_count;
    return OK;
}

/* ---- SELECT ------------------------------------------------------------------------------------ */

static struct status refuse_forms(struct analyzer *a, const struct ast_select *s)
{
    if (s->with != NULL) {
        return analyze_unsupported(a, s->with->location, "WITH");
    }
    if (s->arms_count > 0) {
        return analyze_unsupported(a, s->location, "UNION, INTERSECT, EXCEPT");
    }
    if (s->distinct_on.count > 0) {
        return analyze_unsupported(a, s->location, "DISTINCT ON");
    }
    if (s->with_ties) {
        return analyze_unsupported(a, s->location, "WITH TIES");
    }
    if (s->from.count > 1) {
        return analyze_unsupported(a, s->from.items[1]->location, "join");
    }
    return OK;
}

static struct status select_list(struct analyzer *a, const struct ast_select *s, bool keep_unknown,
                                 struct target_list *l)
{
    a->clause = "SELECT";
    a->aggs_allowed = true;
    if (s->is_values) {
        l->items = ARENA_ARRAY(a->arena, struct query_target, QUERY_COLUMNS_MAX);
        if (l->items == NULL) {
            return analyze_no_memory();
        }
        return expand_rel(a, &a->query->rels[0], -1, l);
    }
    TRY(targets_into(a, &s->targets, l));
    for (uint32_t i = 0; i < l->count; i++) {
        if (!keep_unknown || l->items[i].expr->type != TYPE_UNKNOWN) {
            if (keep_unknown && l->items[i].expr->type == TYPE_NUMERIC) {
                continue; /* The target column decides. */
            }
            TRY(analyze_settle(a, &l->items[i].expr));
        }
    }
    return OK;
}

static struct status select_clauses(struct analyzer *a, const struct ast_select *s,
                                    bool keep_unknown)
{
    struct query *q = a->query;
    struct target_list l = {0};

    a->aggs_allowed = false;
    TRY(analyze_condition(a, s->where, "WHERE", &q->where));
    TRY(select_list(a, s, keep_unknown, &l));
    q->visible_count = (uint16_t)l.count;
    q->distinct = s->distinct;
    TRY(group_by(a, &s->group_by, &l));
    a->aggs_allowed = true;
    TRY(analyze_condition(a, s->having, "HAVING", &q->having));
    q->aggregates = q->aggregates || q->having != NULL;
    TRY(order_by(a, &s->order, &l));
    q->targets = l.items;
    q->targets_count = (uint16_t)l.count;
    TRY(limit(a, s->limit, "LIMIT", &q->limit));
    TRY(limit(a, s->offset, "OFFSET", &q->offset));
    TRY(analyze_locking(a, s, q));
    return q->aggregates ? analyze_lower_aggregates(a, q) : OK;
}

struct status analyze_select(struct analyzer *a, const struct ast_select *s, bool keep_unknown,
                             struct query **out)
{
    struct query *outer = a->query;
    const char *clause = a->clause;
    const bool aggs_allowed = a->aggs_allowed;
    struct status st = OK;

    TRY(analyze_refuse_locking(a, s));
    TRY(refuse_forms(a, s));
    TRY(analyze_new_query(a, QUERY_SELECT, out));
    if (++a->depth > STATEMENT_DEPTH_MAX) {
        return sql_error_set(a->err, a->arena, "54001", s->location, "stack depth limit exceeded");
    }
    a->query = *out;
    if (s->is_values) {
        TRY(values_rel(a, s));
    } else if (s->from.count > 0) {
        TRY(from_item(a, s->from.items[0]));
    }
    st = select_clauses(a, s, keep_unknown && !s->is_values);
    a->depth--;
    a->query = outer;
    a->clause = clause;
    a->aggs_allowed = aggs_allowed;
    return st;
}
