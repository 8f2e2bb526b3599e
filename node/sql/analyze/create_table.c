/*
 * create_table.c -- CREATE TABLE as a descriptor.
 *
 * Columns, NOT NULL, DEFAULT and one PRIMARY KEY. A table without a primary key gets a hidden column
 * "rowid" (int8, filled by unique_rowid()) as its key. A default is kept as SQL text that analysis wrote
 * itself (deparse.c), so that reading it back needs no search path and no session.
 */
#include <stdio.h>
#include <string.h>

#include "node/sql/analyze/analyze.h"

#define KEY_COLUMNS_MAX 32u

struct creation {
    struct analyzer *a;
    struct arena *keep;
    const struct ast_create_table *in;
    struct table_desc *t;
    bool has_key;
};

static struct status add_column(struct creation *c, const struct ast_column_def *def)
{
    struct column_desc *d = &c->t->columns[c->t->columns_count];
    oid type = TYPE_UNKNOWN;

    for (uint32_t i = 0; i < c->t->columns_count; i++) {
        if (strcmp(c->t->columns[i].name, def->name) == 0) {
            return sql_error_set(c->a->err, c->a->arena, "42701", -1,
                                 "column \"%s\" specified more than once", def->name);
        }
    }
    if (def->collation != NULL) {
        return analyze_unsupported(c->a, def->location, "COLLATE");
    }
    d->typmod = TYPE_TYPMOD_NONE;
    TRY(analyze_type(c->a, def->type, &type, &d->typmod));
    if (type == TYPE_VOID) {
        return sql_error_set(c->a->err, c->a->arena, "42P16", def->location,
                             "column \"%s\" has pseudo-type %s", def->name, type_sql_name(type));
    }
    d->type = type;
    d->id = c->t->columns_count + 1;
    (void)snprintf(d->name, sizeof(d->name), "%s", def->name);
    c->t->columns_count++;
    return OK;
}

static struct status column_default(struct creation *c, struct column_desc *d,
                                    const struct ast_constraint *k)
{
    struct expr *e = NULL;
    const char *text = NULL;

    if (d->has_default) {
        return sql_error_set(c->a->err, c->a->arena, "42601", k->location,
                             "multiple default values specified for column \"%s\" of table \"%s\"",
                             d->name, c->t->name);
    }
    if (k->expr->kind == AST_COLUMN) {
        return sql_error_set(c->a->err, c->a->arena, "0A000", k->expr->location,
                             "cannot use column reference in DEFAULT expression");
    }
    c->a->clause = "DEFAULT expressions";
    TRY(analyze_expr(c->a, k->expr, &e));
    if (!analyze_can_coerce(e->type, d->type, CAST_ASSIGNMENT)) {
        struct status st =
            sql_error_set(c->a->err, c->a->arena, "42804", -1,
                          "column \"%s\" is of type %s but default expression is of type %s",
                          d->name, type_sql_name(d->type), type_sql_name(e->type));

        c->a->err->hint = "You will need to rewrite or cast the expression.";
        return st;
    }
    TRY(analyze_assign(c->a, d, e, &e));
    if (expr_is_null_const(e)) {
        return OK;
    }
    text = analyze_deparse(c->keep, e);
    if (text == NULL) {
        return analyze_unsupported(c->a, k->location, "this expression in DEFAULT");
    }
    d->has_default = true;
    d->default_text = text;
    return OK;
}

static struct status key_column(struct creation *c, const char *name, int32_t position)
{
    struct index_desc *k = &c->t->primary;

    for (uint32_t i = 0; i < c->t->columns_count; i++) {
        struct column_desc *d = &c->t->columns[i];

        if (strcmp(d->name, name) != 0) {
            continue;
        }
        for (uint16_t j = 0; j < k->columns_count; j++) {
            if (k->columns[j].column == d->id) {
                return sql_error_set(c->a->err, c->a->arena, "42701", position,
                                     "column \"%s\" appears twice in primary key constraint", name);
            }
        }
        d->not_null = true;
        k->columns[k->columns_count++].column = d->id;
        return OK;
    }
    return sql_error_set(c->a->err, c->a->arena, "42703", position,
                         "column \"%s\" named in key does not exist", name);
}

/* column: the one that the constraint stands at, NULL for a constraint of the table. */
static struct status primary_key(struct creation *c, const struct ast_constraint *k,
                                 const char *column)
{
    if (c->has_key) {
        return sql_error_set(c->a->err, c->a->arena, "42P16", k->location,
                             "multiple primary keys for table \"%s\" are not allowed", c->t->name);
    }
    if (k->including.count > 0 || k->columns.count > KEY_COLUMNS_MAX) {
        return analyze_unsupported(c->a, k->location, "such a primary key");
    }
    c->has_key = true;
    if (k->name != NULL) {
        (void)snprintf(c->t->primary.name, sizeof(c->t->primary.name), "%s", k->name);
    }
    if (column != NULL) {
        return key_column(c, column, k->location);
    }
    for (uint32_t i = 0; i < k->columns.count; i++) {
        TRY(key_column(c, k->columns.items[i].name, k->location));
    }
    return OK;
}

static struct status nullability(struct creation *c, const struct ast_constraint *k,
                                 struct column_desc *d)
{
    const struct ast_constraints *all = &c->in->columns[d - c->t->columns].constraints;

    for (uint32_t i = 0; i < all->count && &all->items[i] != k; i++) {
        const enum ast_constraint_kind other = all->items[i].kind;

        if (other != k->kind &&
            (other == AST_CONSTRAINT_NULL || other == AST_CONSTRAINT_NOT_NULL)) {
            return sql_error_set(
                c->a->err, c->a->arena, "42601", k->location,
                "conflicting NULL/NOT NULL declarations for column \"%s\" of table \"%s\"", d->name,
                c->t->name);
        }
    }
    d->not_null = d->not_null || k->kind == AST_CONSTRAINT_NOT_NULL;
    return OK;
}

/* d NULL: a constraint of the table. */
static struct status constraint(struct creation *c, const struct ast_constraint *k,
                                struct column_desc *d)
{
    if (k->deferrable || k->not_valid) {
        return analyze_unsupported(c->a, k->location, "DEFERRABLE and NOT VALID constraints");
    }
    switch (k->kind) {
    case AST_CONSTRAINT_NULL:
    case AST_CONSTRAINT_NOT_NULL:
        return d == NULL ? OK : nullability(c, k, d);
    case AST_CONSTRAINT_DEFAULT:
        return d == NULL ? OK : column_default(c, d, k);
    case AST_CONSTRAINT_PRIMARY_KEY:
        return primary_key(c, k, d == NULL ? NULL : d->name);
    case AST_CONSTRAINT_UNIQUE:
        return analyze_unsupported(c->a, k->location, "UNIQUE constraint");
    case AST_CONSTRAINT_CHECK:
        return analyze_unsupported(c->a, k->location, "CHECK constraint");
    case AST_CONSTRAINT_FOREIGN_KEY:
        return analyze_unsupported(c->a, k->location, "FOREIGN KEY constraint");
    case AST_CONSTRAINT_IDENTITY:
        return analyze_unsupported(c->a, k->location, "IDENTITY column");
    case AST_CONSTRAINT_GENERATED:
        return analyze_unsupported(c->a, k->location, "GENERATED column");
    }
    return OK;
}

static void add_hidden_key(struct creation *c)
{
    struct column_desc *d = &c->t->columns[c->t->columns_count++];

    d->id = c->t->columns_count;
    d->type = TYPE_INT8;
    d->typmod = TYPE_TYPMOD_NONE;
    d->not_null = true;
    d->has_default = true;
    d->default_text = "unique_rowid()";
    (void)snprintf(d->name, sizeof(d->name), "rowid");
    c->t->primary.columns_count = 1;
    c->t->primary.columns[0].column = d->id;
    c->t->hidden_rowid = true;
}

static struct status refuse_forms(struct analyzer *a, const struct ast_create_table *in)
{
    if (in->table.schema != NULL && strcmp(in->table.schema, "public") != 0) {
        return sql_error_set(a->err, a->arena, "3F000", in->table.location,
                             "schema \"%s\" does not exist", in->table.schema);
    }
    if (in->persistence == AST_TEMPORARY) {
        return analyze_unsupported(a, in->table.location, "temporary table");
    }
    if (in->columns_count + 1 > CATALOG_COLUMNS_MAX) {
        return sql_error_set(a->err, a->arena, "54011", -1, "tables can have at most %u columns",
                             CATALOG_COLUMNS_MAX);
    }
    return OK;
}

static struct status all_columns(struct creation *c)
{
    for (uint32_t i = 0; i < c->in->columns_count; i++) {
        TRY(add_column(c, &c->in->columns[i]));
    }
    for (uint32_t i = 0; i < c->in->columns_count; i++) {
        const struct ast_constraints *k = &c->in->columns[i].constraints;

        for (uint32_t j = 0; j < k->count; j++) {
            TRY(constraint(c, &k->items[j], &c->t->columns[i]));
        }
    }
    for (uint32_t i = 0; i < c->in->constraints.count; i++) {
        TRY(constraint(c, &c->in->constraints.items[i], NULL));
    }
    return OK;
}

struct status analyze_create_table(struct analyzer *a, const struct ast_create_table *in,
                                   struct arena *keep, struct table_desc **out)
{
    struct creation c = {.a = a, .keep = keep, .in = in};

    TRY(refuse_forms(a, in));
    c.t = ARENA_NEW(keep, struct table_desc);
    if (c.t == NULL) {
        return analyze_no_memory();
    }
    c.t->columns = ARENA_ARRAY(keep, struct column_desc, in->columns_count + 1);
    if (c.t->columns == NULL) {
        return analyze_no_memory();
    }
    c.t->schema = 2200;
    (void)snprintf(c.t->name, sizeof(c.t->name), "%s", in->table.name);
    c.t->primary.id = 1;
    c.t->primary.unique = true;
    /* PostgreSQL shortens the table's part so that the name fits. */
    (void)snprintf(c.t->primary.name, sizeof(c.t->primary.name), "%.58s_pkey", in->table.name);
    TRY(all_columns(&c));
    if (!c.has_key) {
        add_hidden_key(&c);
    }
    *out = c.t;
    return OK;
}
