/*
 * statement_fake.c -- a small stand-in for analysis, plan and exec, so that the session can be tested
 * alone: every path of its state machine, with conflicts and failures where a test wants them.
 *
 *     SELECT a, b                 one row of constants, parameters and casts
 *     SELECT * FROM t             the text after "t/" of every key there, in order
 *     SELECT ... FROM missing     42P01
 *     INSERT INTO t VALUES (x)    txn_insert("t/x"); several rows too; RETURNING tells x
 *     DELETE FROM t               all of them
 *     CREATE TABLE, DROP TABLE    for the catalog
 *
 * Values are text; parameters have their declared type, or text.
 */
#include <stdio.h>
#include <stdlib.h>

#include "node/base/invariant.h"
#include "node/catalog/catalog.h"
#include "node/sql/parse/ast.h"
#include "node/sql/plan/statement.h"
#include "node/sql/types/type_io.h"
#include "node/txn/txn.h"

#define FAKE_COLUMNS_MAX 8
#define FAKE_ROWS_MAX    64

struct plan {
    const struct ast_stmt *ast; /* Outlives the statement: the session keeps the tree. */
    const char *table;          /* NULL: none. */
};

struct statement_run {
    struct statement *s;
    struct statement_context ctx;
    struct arena *arena;
    uint64_t rows;
    uint64_t at; /* Next row of a scan. */
};

static void *need(void *p)
{
    INVARIANT(p != NULL);
    return p;
}

static void text_row(struct statement *s, const char *const *names, const oid *types, uint16_t n)
{
    struct row_column *c = need(ARENA_ARRAY(&s->arena, struct row_column, n));

    for (uint16_t i = 0; i < n; i++) {
        c[i] = (struct row_column){.name = names[i], .type = types[i], .typmod = -1, .typlen = -1};
    }
    s->rows = (struct row_desc){c, n};
    s->has_rows = true;
}

static oid type_of(const struct ast_expr *e, const struct statement *s)
{
    if (e->kind == AST_CAST) {
        const struct type_desc *t = type_find_name(e->cast.type->name);

        return t == NULL ? TYPE_TEXT : t->id;
    }
    if (e->kind == AST_PARAM) {
        return s->params[e->param - 1];
    }
    return e->kind == AST_CONST && e->constant.kind == AST_CONST_INT ? TYPE_INT4 : TYPE_TEXT;
}

static struct status table_of(struct statement *s, const struct statement_source *src,
                              const struct ast_name *name, struct arena *scratch,
                              struct sql_error *err, const char **out)
{
    const struct status st = catalog_acquire(src->catalog, name->name, &s->tables[0]);

    if (st.code == STATUS_NOT_FOUND) {
        return sql_error_set(err, scratch, "42P01", name->location,
                             "relation \"%s\" does not exist", name->name);
    }
    TRY(st);
    s->tables_count = 1;
    *out = s->tables[0]->name;
    return OK;
}

static struct status compile_select(struct statement *s, const struct statement_source *src,
                                    struct plan *plan, struct arena *scratch, struct sql_error *err)
{
    const struct ast_select *a = src->ast->select;
    const char *names[FAKE_COLUMNS_MAX] = {"text"};
    oid types[FAKE_COLUMNS_MAX] = {TYPE_TEXT};
    uint32_t n = 1;

    s->verb = "SELECT";
    s->cls = STATEMENT_QUERY;
    if (a->from.count > 0) {
        TRY(table_of(s, src, &a->from.items[0]->table, scratch, err, &plan->table));
        types[0] = s->tables[0]->columns[0].type; /* So that a test can change the result. */
    } else {
        n = a->targets.count;
        INVARIANT(n <= FAKE_COLUMNS_MAX);
        for (uint32_t i = 0; i < n; i++) {
            if (a->targets.items[i].expr->kind == AST_COLUMN) {
                return sql_error_set(err, scratch, "42703", a->targets.items[i].location,
                                     "column does not exist");
            }
            names[i] = a->targets.items[i].label;
            types[i] = type_of(a->targets.items[i].expr, s);
        }
    }
    text_row(s, names, types, (uint16_t)n);
    return OK;
}

static void compile_create(struct statement *s, const struct ast_create_table *a)
{
    struct table_desc *d = need(ARENA_NEW(&s->arena, struct table_desc));

    s->cls = STATEMENT_DDL;
    s->verb = "CREATE TABLE";
    s->ddl = STATEMENT_DDL_CREATE_TABLE;
    s->ddl_if_exists = a->if_not_exists;
    d->schema = 2200;
    (void)snprintf(d->name, sizeof(d->name), "%s", a->table.name);
    d->columns = need(ARENA_NEW(&s->arena, struct column_desc));
    d->columns_count = 1;
    d->columns[0].id = 1;
    d->columns[0].type = strcmp(a->columns[0].type->name, "int4") == 0 ? TYPE_INT4 : TYPE_TEXT;
    d->columns[0].typmod = -1;
    (void)snprintf(d->columns[0].name, sizeof(d->columns[0].name), "a");
    d->primary = (struct index_desc){.id = 1, .name = "pkey", .columns_count = 1};
    d->primary.columns[0].column = 1;
    s->ddl_create = d;
}

static void compile_drop(struct statement *s, const struct ast_drop_table *a)
{
    const char **names = need(ARENA_ARRAY(&s->arena, const char *, a->tables.count));

    s->cls = STATEMENT_DDL;
    s->verb = "DROP TABLE";
    s->ddl = STATEMENT_DDL_DROP_TABLE;
    s->ddl_if_exists = a->if_exists;
    for (uint32_t i = 0; i < a->tables.count; i++) {
        names[i] = arena_strdup(&s->arena, a->tables.items[i].name);
    }
    s->ddl_drop = names;
    s->ddl_drop_count = (uint16_t)a->tables.count;
}

static struct status compile_write(struct statement *s, const struct statement_source *src,
                                   struct plan *plan, struct arena *scratch, struct sql_error *err)
{
    const bool insert = src->ast->kind == AST_STMT_INSERT;
    const char *name = "a";
    const oid type = TYPE_TEXT;

    s->cls = STATEMENT_WRITE;
    s->verb = insert ? "INSERT" : "DELETE";
    TRY(table_of(s, src, insert ? &src->ast->insert->table : &src->ast->delete_->table, scratch,
                 err, &plan->table));
    if (insert && src->ast->insert->returning.count > 0) {
        text_row(s, &name, &type, 1);
    }
    return OK;
}

struct status statement_compile(const struct statement_source *src, struct arena *scratch,
                                struct sql_error *err, struct statement **out)
{
    struct statement *s = need(calloc(1, sizeof(*s)));
    struct plan *plan = NULL;
    oid *params = NULL;
    struct status st = OK;

    s->refs = 1;
    arena_init(&s->arena, 0);
    plan = need(ARENA_NEW(&s->arena, struct plan));
    plan->ast = src->ast;
    s->plan = plan;
    s->catalog = src->catalog;
    s->tables = need(ARENA_NEW(&s->arena, struct table_desc *));
    s->params_count =
        src->ast->params > src->param_types_count ? src->ast->params : src->param_types_count;
    params = need(ARENA_ARRAY(&s->arena, oid, s->params_count));
    for (uint16_t i = 0; i < s->params_count; i++) {
        params[i] = i < src->param_types_count && src->param_types[i] != 0 ? src->param_types[i]
                                                                           : TYPE_TEXT;
    }
    s->params = params;
    if (src->ast->kind == AST_STMT_SELECT) {
        st = compile_select(s, src, plan, scratch, err);
    } else if (src->ast->kind == AST_STMT_CREATE_TABLE) {
        compile_create(s, src->ast->create_table);
    } else if (src->ast->kind == AST_STMT_DROP_TABLE) {
        compile_drop(s, src->ast->drop_table);
    } else if (src->ast->kind == AST_STMT_INSERT || src->ast->kind == AST_STMT_DELETE) {
        st = compile_write(s, src, plan, scratch, err);
    } else {
        st = sql_error_unsupported(err, scratch, src->ast->location, "this statement");
    }
    if (!status_ok(st)) {
        statement_release(s);
        return st;
    }
    *out = s;
    return OK;
}

struct statement *statement_acquire(struct statement *s)
{
    s->refs++;
    return s;
}

void statement_release(struct statement *s)
{
    if (s != NULL && --s->refs == 0) {
        if (s->tables_count > 0) {
            catalog_release(s->catalog, s->tables[0]);
        }
        arena_deinit(&s->arena);
        free(s);
    }
}

bool statement_still_valid(const struct statement *s)
{
    return s->tables_count == 0 || catalog_still_valid(s->catalog, s->tables[0]);
}

struct status statement_begin(struct statement *s, const struct statement_context *ctx,
                              struct arena *arena, struct sql_error *err,
                              struct statement_run **out)
{
    UNUSED(err);
    *out = need(ARENA_NEW(arena, struct statement_run));
    **out = (struct statement_run){.s = statement_acquire(s), .ctx = *ctx, .arena = arena};
    if (s->tables_count > 0) {
        INVARIANT(ctx->txn != NULL);
        INVARIANT(statement_still_valid(s)); /* The session has looked, for itself. */
        txn_limit_commit_ts(ctx->txn, s->tables[0]->valid_until);
    }
    return OK;
}

void statement_end(struct statement_run *run)
{
    if (run != NULL) {
        statement_release(run->s);
    }
}

uint64_t statement_rows(const struct statement_run *run)
{
    return run->rows;
}

static struct status value_of(struct statement_run *r, const struct ast_expr *e, oid type,
                              struct sql_error *err, union datum *out, uint8_t *null)
{
    const struct type_io io = {
        .arena = r->arena, .err = err, .position = -1, .settings = &r->ctx.view->types};

    *null = 0;
    switch (e->kind) {
    case AST_PARAM:
        *null = r->ctx.param_nulls[e->param - 1];
        *out = r->ctx.params[e->param - 1];
        return OK;
    case AST_CAST:
        if (e->cast.arg->kind == AST_CONST && e->cast.arg->constant.kind == AST_CONST_STRING) {
            return type_in_text(&io, type, -1, e->cast.arg->constant.text, out);
        }
        return value_of(r, e->cast.arg, type, err, out, null);
    case AST_CONST:
        *null = e->constant.kind == AST_CONST_NULL ? 1 : 0;
        if (e->constant.kind == AST_CONST_INT) {
            out->i64 = e->constant.integer;
        } else {
            out->bytes = e->constant.text;
        }
        return OK;
    default:
        return sql_error_set(err, r->arena, "0A000", e->location, "fake cannot");
    }
}

static struct status fetch_constants(struct statement_run *r, struct row_sink *sink,
                                     struct sql_error *err)
{
    const struct ast_select *a = r->s->plan->ast->select;
    union datum values[FAKE_COLUMNS_MAX];
    uint8_t nulls[FAKE_COLUMNS_MAX];
    const struct row_block block = {.values = values, .nulls = nulls, .rows = 1};

    for (uint32_t i = 0; i < a->targets.count; i++) {
        TRY(value_of(r, a->targets.items[i].expr, r->s->rows.columns[i].type, err, &values[i],
                     &nulls[i]));
    }
    r->rows = 1;
    return sink->rows(sink, &block);
}

static struct bytes row_key(struct statement_run *r, struct bytes text)
{
    const char *key =
        arena_printf(r->arena, "%s/%.*s", r->s->plan->table, (int)text.len, (const char *)text.ptr);

    return bytes_str(key);
}

static struct txn_scan whole_table(struct statement_run *r)
{
    return (struct txn_scan){.start = bytes_str(arena_printf(r->arena, "%s/", r->s->plan->table)),
                             .end = bytes_str(arena_printf(r->arena, "%s0", r->s->plan->table))};
}

static struct status fetch_table(struct statement_run *r, uint64_t rows_max, struct row_sink *sink,
                                 bool *done)
{
    struct txn_scan scan = whole_table(r);
    const size_t prefix = strlen(r->s->plan->table) + 1;
    uint64_t told = 0;

    TRY(txn_scan(r->ctx.txn, &scan, r->arena));
    for (; r->at < scan.rows_count && (rows_max == 0 || told < rows_max); r->at++, told++) {
        const struct bytes text = bytes_skip(scan.rows[r->at].key, prefix);
        const union datum value = {.bytes = text};
        const uint8_t null = 0;
        const struct row_block block = {.values = &value, .nulls = &null, .rows = 1};

        r->rows++;
        TRY(sink->rows(sink, &block));
    }
    *done = r->at == scan.rows_count;
    return OK;
}

static struct status fetch_insert(struct statement_run *r, struct row_sink *sink,
                                  struct sql_error *err)
{
    const struct ast_select *values = r->s->plan->ast->insert->source;

    for (uint32_t i = 0; i < values->rows_count; i++) {
        union datum d = {0};
        uint8_t null = 0;
        struct status st = OK;

        TRY(value_of(r, values->rows[i].items[0], TYPE_TEXT, err, &d, &null));
        if (null != 0) {
            return sql_error_set(err, r->arena, "23502", -1, "null value");
        }
        st = txn_insert(r->ctx.txn, row_key(r, d.bytes), BYTES_LIT("x"));
        if (st.code == STATUS_EXISTS) {
            return sql_error_set(err, r->arena, "23505", -1, "duplicate key at once");
        }
        TRY(st);
        r->rows++;
        if (r->s->has_rows) {
            const struct row_block block = {.values = &d, .nulls = &null, .rows = 1};

            TRY(sink->rows(sink, &block));
        }
    }
    return OK;
}

static struct status fetch_delete(struct statement_run *r)
{
    struct txn_scan scan = whole_table(r);

    TRY(txn_scan(r->ctx.txn, &scan, r->arena));
    for (uint32_t i = 0; i < scan.rows_count; i++) {
        TRY(txn_delete(r->ctx.txn, scan.rows[i].key));
    }
    r->rows = scan.rows_count;
    return OK;
}

struct status statement_fetch(struct statement_run *run, uint64_t rows_max, struct row_sink *sink,
                              struct sql_error *err, bool *done)
{
    *done = true;
    switch (run->s->plan->ast->kind) {
    case AST_STMT_SELECT:
        if (run->s->tables_count > 0) {
            return fetch_table(run, rows_max, sink, done);
        }
        return fetch_constants(run, sink, err);
    case AST_STMT_INSERT:
        return fetch_insert(run, sink, err);
    case AST_STMT_DELETE:
        return fetch_delete(run);
    default:
        return FAIL(STATUS_UNSUPPORTED, "fake cannot");
    }
}

const char *statement_tag(const struct statement *s, uint64_t rows, struct arena *arena)
{
    if (s->cls == STATEMENT_DDL) {
        return s->verb;
    }
    return arena_printf(arena, strcmp(s->verb, "INSERT") == 0 ? "%s 0 %llu" : "%s %llu", s->verb,
                        (unsigned long long)rows);
}

bool statement_conflict(const struct statement *s, struct bytes key, struct arena *arena,
                        struct sql_error *err)
{
    if (s->tables_count == 0 || !bytes_starts_with(key, bytes_str(s->plan->table))) {
        return false;
    }
    (void)sql_error_set(err, arena, "23505", -1, "duplicate key in \"%s\"", s->plan->table);
    err->constraint = "pkey";
    return true;
}
