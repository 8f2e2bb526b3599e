/*
 * write.c -- INSERT, UPDATE, DELETE.
 *
 * An INSERT ends in rows of all columns of the table: what the statement gives, cast as an assignment,
 * and defaults for the rest. For VALUES the cast is part of each row's expressions, so that a literal is
 * read as the column's type; for a query it stands above the query.
 */
#include <string.h>

#include "node/sql/analyze/analyze.h"
#include "node/sql/parse/parse.h"

static struct status find_target(struct analyzer *a, const struct table_desc *t,
                                 const struct ast_ident *name, uint16_t *out)
{
    const uint32_t visible = t->columns_count - (t->hidden_rowid ? 1u : 0u);

    for (uint32_t i = 0; i < visible; i++) {
        if (strcmp(t->columns[i].name, name->name) == 0) {
            *out = (uint16_t)i;
            return OK;
        }
    }
    return sql_error_set(a->err, a->arena, "42703", name->location,
                         "column \"%s\" of relation \"%s\" does not exist", name->name, t->name);
}

/* The default is SQL text in the descriptor: parsed and analysed here, out of any scope. */
static struct status parse_default(struct analyzer *a, const struct column_desc *c,
                                   struct expr **out)
{
    struct parse_result parsed = {0};
    const char *text = arena_printf(a->arena, "SELECT %s", c->default_text);
    struct query *outer = a->query;
    struct status st = parse_statements(bytes_str(text), a->arena, &parsed, a->err);

    if (!status_ok(st) || parsed.count != 1 || parsed.stmts[0]->unsupported != NULL ||
        parsed.stmts[0]->kind != AST_STMT_SELECT || parsed.stmts[0]->select->targets.count != 1) {
        return FAIL(STATUS_CORRUPT, "the default of a column cannot be read");
    }
    a->query = NULL;
    st = analyze_expr(a, parsed.stmts[0]->select->targets.items[0].expr, out);
    a->query = outer;
    return st;
}

struct status analyze_default(struct analyzer *a, const struct column_desc *c, struct expr **out)
{
    struct expr *e = NULL;

    if (!c->has_default || c->default_text == NULL) {
        e = analyze_new(a, EXPR_CONST, TYPE_UNKNOWN, -1, 0);
        if (e == NULL) {
            return analyze_no_memory();
        }
        e->constant.null = true;
    } else {
        TRY(parse_default(a, c, &e));
    }
    TRY(analyze_assign(a, c, e, out));
    return OK;
}

static struct status target_value(struct analyzer *a, const struct column_desc *c,
                                  const struct ast_expr *in, struct expr **out)
{
    struct expr *e = NULL;

    if (in->kind == AST_DEFAULT) {
        return analyze_default(a, c, out);
    }
    TRY(analyze_expr(a, in, &e));
    return analyze_assign(a, c, e, out);
}

/* ---- INSERT ------------------------------------------------------------------------------------ */

struct insert_targets {
    uint16_t *columns;
    uint32_t count;
    bool all; /* No list was written: missing values at the end are defaults. */
};

static struct status insert_columns(struct analyzer *a, const struct ast_insert *in,
                                    const struct table_desc *t, struct insert_targets *out)
{
    const uint32_t visible = t->columns_count - (t->hidden_rowid ? 1u : 0u);

    out->all = in->columns.count == 0;
    out->count = out->all ? visible : in->columns.count;
    out->columns = ARENA_ARRAY(a->arena, uint16_t, out->count + 1);
    if (out->columns == NULL) {
        return analyze_no_memory();
    }
    for (uint32_t i = 0; i < out->count; i++) {
        if (out->all) {
            out->columns[i] = (uint16_t)i;
            continue;
        }
        TRY(find_target(a, t, &in->columns.items[i], &out->columns[i]));
        for (uint32_t k = 0; k < i; k++) {
            if (out->columns[k] == out->columns[i]) {
                return sql_error_set(a->err, a->arena, "42701", in->columns.items[i].location,
                                     "column \"%s\" specified more than once",
                                     in->columns.items[i].name);
            }
        }
    }
    return OK;
}

static struct status check_count(struct analyzer *a, const struct ast_insert *in,
                                 const struct insert_targets *t, uint32_t given,
                                 int32_t extra_position)
{
    if (given > t->count) {
        return sql_error_set(a->err, a->arena, "42601", extra_position,
                             "INSERT has more expressions than target columns");
    }
    if (given < t->count && !t->all) {
        return sql_error_set(a->err, a->arena, "42601", in->columns.items[given].location,
                             "INSERT has more target columns than expressions");
    }
    return OK;
}

/* Fills the columns that nothing was given for. */
static struct status fill_defaults(struct analyzer *a, const struct table_desc *t,
                                   struct expr **row)
{
    for (uint32_t i = 0; i < t->columns_count; i++) {
        if (row[i] == NULL) {
            TRY(analyze_default(a, &t->columns[i], &row[i]));
        }
    }
    return OK;
}

static struct status insert_row(struct analyzer *a, const struct ast_insert *in,
                                const struct table_desc *t, const struct insert_targets *targets,
                                const struct ast_row *given, struct expr ***out)
{
    struct expr **row = ARENA_ARRAY(a->arena, struct expr *, t->columns_count + 1);

    if (row == NULL) {
        return analyze_no_memory();
    }
    TRY(check_count(a, in, targets, given->count,
                    given->count > targets->count ? given->items[targets->count]->location : -1));
    for (uint32_t i = 0; i < given->count; i++) {
        const uint16_t c = targets->columns[i];

        TRY(target_value(a, &t->columns[c], given->items[i], &row[c]));
    }
    *out = row;
    return fill_defaults(a, t, row);
}

static struct status insert_values(struct analyzer *a, const struct ast_insert *in,
                                   const struct table_desc *t, const struct insert_targets *targets,
                                   struct query_rel *r)
{
    static const struct ast_row nothing = {0};
    const uint32_t count = in->source == NULL ? 1 : in->source->rows_count;
    const struct ast_row *first = in->source == NULL ? &nothing : &in->source->rows[0];
    const struct insert_targets none = {.columns = targets->columns, .all = true};

    r->kind = QUERY_REL_VALUES;
    r->rows = ARENA_ARRAY(a->arena, struct expr **, count);
    r->rows_count = count;
    if (r->rows == NULL) {
        return analyze_no_memory();
    }
    a->clause = "VALUES";
    for (uint32_t i = 0; i < count; i++) {
        const struct ast_row *row = in->source == NULL ? &nothing : &in->source->rows[i];

        if (row->count != first->count) {
            return sql_error_set(a->err, a->arena, "42601", row->items[0]->location,
                                 "VALUES lists must all be the same length");
        }
        TRY(insert_row(a, in, t, in->source == NULL ? &none : targets, row, &r->rows[i]));
    }
    return OK;
}

/* A literal in the select list takes the type of its column right there. */
static struct status settle_targets(struct analyzer *a, const struct table_desc *t,
                                    const struct insert_targets *targets, struct query *q)
{
    for (uint16_t i = 0; i < q->visible_count; i++) {
        struct expr **e = &q->targets[i].expr;

        if ((*e)->type == TYPE_UNKNOWN || (*e)->type == TYPE_NUMERIC) {
            TRY(analyze_assign(a, &t->columns[targets->columns[i]], *e, e));
        }
    }
    return OK;
}

static struct status insert_select(struct analyzer *a, const struct ast_insert *in,
                                   const struct table_desc *t, const struct insert_targets *targets,
                                   struct query *q)
{
    struct query_rel *r = &q->rels[0];
    struct query *s = NULL;

    a->query = NULL;
    TRY(analyze_select(a, in->source, true, &s));
    a->query = q;
    TRY(check_count(a, in, targets, s->visible_count,
                    s->visible_count > targets->count
                        ? analyze_position(s->targets[targets->count].expr)
                        : -1));
    TRY(settle_targets(a, t, targets, s));
    r->kind = QUERY_REL_SELECT;
    r->select = s;
    q->insert = ARENA_ARRAY(a->arena, struct expr *, t->columns_count + 1);
    if (q->insert == NULL) {
        return analyze_no_memory();
    }
    for (uint16_t i = 0; i < s->visible_count; i++) {
        const struct expr *from = s->targets[i].expr;
        struct expr *e = analyze_new(a, EXPR_COLUMN, from->type, analyze_position(from), 0);

        if (e == NULL) {
            return analyze_no_memory();
        }
        e->typmod = from->typmod;
        e->column = i;
        TRY(analyze_assign(a, &t->columns[targets->columns[i]], e,
                           &q->insert[targets->columns[i]]));
    }
    return fill_defaults(a, t, q->insert);
}

/* Is the conflict target the primary key, whatever the order of its columns? */
static struct status check_arbiter(struct analyzer *a, const struct ast_conflict *c,
                                   const struct table_desc *t)
{
    uint32_t matched = 0;

    if (c->constraint != NULL) {
        if (strcmp(c->constraint, t->primary.name) == 0) {
            return OK;
        }
        return sql_error_set(a->err, a->arena, "42704", -1,
                             "constraint \"%s\" for table \"%s\" does not exist", c->constraint,
                             t->name);
    }
    if (c->columns.count == 0) {
        return OK;
    }
    for (uint32_t i = 0; i < c->columns.count; i++) {
        uint16_t column = 0;

        if (!status_ok(find_target(a, t, &c->columns.items[i], &column))) {
            return sql_error_set(a->err, a->arena, "42703", c->columns.items[i].location,
                                 "column \"%s\" does not exist", c->columns.items[i].name);
        }
        for (uint16_t k = 0; k < t->primary.columns_count; k++) {
            matched += t->primary.columns[k].column == t->columns[column].id;
        }
    }
    if (matched != c->columns.count || matched != t->primary.columns_count ||
        c->index_where != NULL) {
        return sql_error_set(a->err, a->arena, "42P10", -1,
                             "there is no unique or exclusion constraint matching the ON CONFLICT "
                             "specification");
    }
    return OK;
}

static struct status assignments(struct analyzer *a, const struct ast_assigns *in,
                                 const struct table_desc *t, struct query *q)
{
    q->sets = ARENA_ARRAY(a->arena, uint16_t, in->count + 1);
    q->values = ARENA_ARRAY(a->arena, struct expr *, in->count + 1);
    if (q->sets == NULL || q->values == NULL) {
        return analyze_no_memory();
    }
    a->clause = "UPDATE";
    for (uint32_t i = 0; i < in->count; i++) {
        const struct ast_assign *s = &in->items[i];

        TRY(find_target(a, t, &s->column, &q->sets[i]));
        for (uint32_t k = 0; k < i; k++) {
            if (q->sets[k] == q->sets[i]) {
                return sql_error_set(a->err, a->arena, "42601", -1,
                                     "multiple assignments to same column \"%s\"", s->column.name);
            }
        }
        TRY(target_value(a, &t->columns[q->sets[i]], s->value, &q->values[i]));
        q->sets_count++;
    }
    return OK;
}

/* DO UPDATE sees the row that is there, and the one that was to be inserted as `excluded`. */
static struct status conflict(struct analyzer *a, const struct ast_insert *in,
                              const struct table_desc *t, struct query *q)
{
    const struct ast_conflict *c = &in->conflict;
    struct query *scope = NULL;
    struct query_rel *r = NULL;
    struct status st = OK;

    if (c->action == AST_CONFLICT_NONE) {
        return OK;
    }
    TRY(check_arbiter(a, c, t));
    if (c->action == AST_CONFLICT_NOTHING) {
        q->conflict = PLAN_CONFLICT_NOTHING;
        return OK;
    }
    if (c->columns.count == 0 && c->constraint == NULL) {
        st = sql_error_set(
            a->err, a->arena, "42601", c->location,
            "ON CONFLICT DO UPDATE requires inference specification or constraint name");
        a->err->hint = "For example, ON CONFLICT (column_name).";
        return st;
    }
    q->conflict = PLAN_CONFLICT_UPDATE;
    TRY(analyze_new_query(a, QUERY_SELECT, &scope));
    a->query = scope;
    TRY(analyze_add_table(a, t, in->alias, &r));
    TRY(analyze_add_table(a, t, "excluded", &r));
    r->real_name = NULL;
    TRY(assignments(a, &c->sets, t, q));
    st = analyze_condition(a, c->where, "WHERE", &q->conflict_where);
    a->query = q;
    return st;
}

static struct status returning(struct analyzer *a, const struct ast_targets *in,
                               const struct table_desc *t, const char *alias, struct query *q)
{
    struct query *scope = NULL;
    struct query_rel *r = NULL;

    TRY(analyze_new_query(a, QUERY_SELECT, &scope));
    a->query = scope;
    TRY(analyze_add_table(a, t, alias, &r));
    TRY(analyze_targets(a, in, "RETURNING", &q->returning, &q->returning_count));
    a->query = q;
    return OK;
}

static bool plain_values(const struct ast_select *s)
{
    return s == NULL || (s->is_values && s->order.count == 0 && s->limit == NULL &&
                         s->offset == NULL && s->with == NULL);
}

struct status analyze_insert(struct analyzer *a, const struct ast_insert *in, struct query **out)
{
    struct insert_targets targets = {0};
    struct table_desc *t = NULL;
    struct query *q = NULL;

    if (in->with != NULL) {
        return analyze_unsupported(a, in->with->location, "WITH");
    }
    TRY(analyze_table(a, &in->table, &t));
    TRY(analyze_new_query(a, QUERY_INSERT, &q));
    q->table = t;
    a->insert_table = t;
    q->rels_count = 1;
    q->rels[0].alias = "";
    *out = q;
    TRY(insert_columns(a, in, t, &targets));
    a->query = NULL;
    if (plain_values(in->source)) {
        TRY(insert_values(a, in, t, &targets, &q->rels[0]));
    } else {
        TRY(insert_select(a, in, t, &targets, q));
    }
    TRY(conflict(a, in, t, q));
    return returning(a, &in->returning, t, in->alias, q);
}

/* ---- UPDATE, DELETE ---------------------------------------------------------------------------- */

static struct status change_target(struct analyzer *a, enum query_kind kind,
                                   const struct ast_name *name, const char *alias,
                                   struct table_desc **t, struct query **out)
{
    struct query_rel *r = NULL;

    TRY(analyze_table(a, name, t));
    TRY(analyze_new_query(a, kind, out));
    (*out)->table = *t;
    a->query = *out;
    return analyze_add_table(a, *t, alias, &r);
}

struct status analyze_update(struct analyzer *a, const struct ast_update *in, struct query **out)
{
    struct table_desc *t = NULL;

    if (in->with != NULL || in->from.count > 0) {
        return analyze_unsupported(
            a, in->with != NULL ? in->with->location : in->from.items[0]->location,
            in->with != NULL ? "WITH" : "UPDATE ... FROM");
    }
    TRY(change_target(a, QUERY_UPDATE, &in->table, in->alias, &t, out));
    TRY(analyze_condition(a, in->where, "WHERE", &(*out)->where));
    TRY(assignments(a, &in->sets, t, *out));
    return returning(a, &in->returning, t, in->alias, *out);
}

struct status analyze_delete(struct analyzer *a, const struct ast_delete *in, struct query **out)
{
    struct table_desc *t = NULL;

    if (in->with != NULL || in->using_.count > 0) {
        return analyze_unsupported(
            a, in->with != NULL ? in->with->location : in->using_.items[0]->location,
            in->with != NULL ? "WITH" : "DELETE ... USING");
    }
    TRY(change_target(a, QUERY_DELETE, &in->table, in->alias, &t, out));
    TRY(analyze_condition(a, in->where, "WHERE", &(*out)->where));
    return returning(a, &in->returning, t, in->alias, *out);
}
