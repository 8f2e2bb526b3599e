/*
 * compile.c -- statement_compile(): from the tree of a statement to something that can run.
 *
 * Analysis and planning recurse over what the user wrote, so they run on the shard's big stack, which
 * cannot yield. A descriptor that is not cached ends such a run; it is fetched here, on the fiber, and the
 * run starts over with one table more. Each round brings a new table, so there are at most as many rounds
 * as tables in the statement.
 *
 * The scratch arena holds trees; the statement's own arena holds the plan, the description of the rows and
 * whatever else outlives the compilation. Leases on descriptors move from the compilation to the statement
 * when it is complete.
 */
#include <stdlib.h>
#include <string.h>

#include "node/base/invariant.h"
#include "node/runtime/fiber.h"
#include "node/sql/analyze/analyze.h"
#include "node/sql/plan/plan_build.h"
#include "node/sql/plan/statement.h"

struct compilation {
    const struct statement_source *src;
    struct arena *scratch;
    struct sql_error *err;
    struct analyze_tables tables;
    struct statement *stmt;
    struct status st;
};

static struct status copy_params(struct compilation *c, const struct analyzer *a)
{
    oid *types = ARENA_ARRAY(&c->stmt->arena, oid, a->params_count + 1u);

    if (types == NULL) {
        return analyze_no_memory();
    }
    for (uint16_t i = 0; i < a->params_count; i++) {
        if (a->params[i] == TYPE_UNKNOWN) {
            return sql_error_set(c->err, c->scratch, "42P18", -1,
                                 "could not determine data type of parameter $%u", i + 1u);
        }
        types[i] = a->params[i];
    }
    c->stmt->params = types;
    c->stmt->params_count = a->params_count;
    return OK;
}

static struct status describe_rows(struct compilation *c, const struct query_target *targets,
                                   uint16_t count)
{
    struct arena *arena = &c->stmt->arena;
    struct row_column *columns = ARENA_ARRAY(arena, struct row_column, count + 1u);

    if (columns == NULL) {
        return analyze_no_memory();
    }
    for (uint16_t i = 0; i < count; i++) {
        const struct expr *e = targets[i].expr;
        const struct type_desc *t = type_find(e->type);

        columns[i] = (struct row_column){.name = arena_strdup(arena, targets[i].name),
                                         .type = e->type,
                                         .typmod = e->typmod,
                                         .table = targets[i].table,
                                         .attnum = targets[i].attnum,
                                         .typlen = t == NULL ? (int16_t)-1 : t->len};
        if (columns[i].name == NULL) {
            return analyze_no_memory();
        }
    }
    c->stmt->rows = (struct row_desc){columns, count};
    c->stmt->has_rows = true;
    return OK;
}

static struct status plan(struct compilation *c, const struct query *q)
{
    struct plan_builder b = {
        .arena = &c->stmt->arena, .scratch = c->scratch, .err = c->err, .view = c->src->view};

    if (q->kind == QUERY_SELECT) {
        TRY(describe_rows(c, q->targets, q->visible_count));
    } else if (q->returning_count > 0) {
        TRY(describe_rows(c, q->returning, q->returning_count));
    }
    return plan_build(&b, q, &c->stmt->plan);
}

static struct status drop_table(struct compilation *c, struct analyzer *a,
                                const struct ast_drop_table *in)
{
    struct arena *arena = &c->stmt->arena;
    const char **names = ARENA_ARRAY(arena, const char *, in->tables.count + 1);

    if (names == NULL) {
        return analyze_no_memory();
    }
    for (uint32_t i = 0; i < in->tables.count; i++) {
        const struct ast_name *n = &in->tables.items[i];

        if (n->schema != NULL && strcmp(n->schema, "public") != 0) {
            return sql_error_set(a->err, a->arena, "3F000", -1, "schema \"%s\" does not exist",
                                 n->schema);
        }
        names[i] = arena_strdup(arena, n->name);
        if (names[i] == NULL) {
            return analyze_no_memory();
        }
    }
    c->stmt->ddl = STATEMENT_DDL_DROP_TABLE;
    c->stmt->ddl_if_exists = in->if_exists;
    c->stmt->ddl_drop = names;
    c->stmt->ddl_drop_count = (uint16_t)in->tables.count;
    return OK;
}

static struct status create_table(struct compilation *c, struct analyzer *a,
                                  const struct ast_create_table *in)
{
    struct table_desc *t = NULL;

    TRY(analyze_create_table(a, in, &c->stmt->arena, &t));
    c->stmt->ddl = STATEMENT_DDL_CREATE_TABLE;
    c->stmt->ddl_if_exists = in->if_not_exists;
    c->stmt->ddl_create = t;
    return OK;
}

static struct status compile_query(struct compilation *c, struct analyzer *a,
                                   const struct ast_stmt *ast)
{
    struct statement *s = c->stmt;
    struct query *q = NULL;

    switch (ast->kind) {
    case AST_STMT_SELECT:
        s->verb = "SELECT";
        TRY(analyze_select(a, ast->select, false, &q));
        break;
    case AST_STMT_INSERT:
        s->verb = "INSERT";
        TRY(analyze_insert(a, ast->insert, &q));
        break;
    case AST_STMT_UPDATE:
        s->verb = "UPDATE";
        TRY(analyze_update(a, ast->update, &q));
        break;
    default:
        s->verb = "DELETE";
        TRY(analyze_delete(a, ast->delete_, &q));
        break;
    }
    s->cls = ast->kind == AST_STMT_SELECT ? STATEMENT_QUERY : STATEMENT_WRITE;
    if (a->lock_verb != NULL) {
        s->lock_verb = arena_strdup(&s->arena, a->lock_verb);
        if (s->lock_verb == NULL) {
            return analyze_no_memory();
        }
    }
    TRY(copy_params(c, a));
    return plan(c, q);
}

static struct status compile_kind(struct compilation *c, struct analyzer *a,
                                  const struct ast_stmt *ast)
{
    struct statement *s = c->stmt;

    switch (ast->kind) {
    case AST_STMT_SELECT:
    case AST_STMT_INSERT:
    case AST_STMT_UPDATE:
    case AST_STMT_DELETE:
        return compile_query(c, a, ast);
    case AST_STMT_CREATE_TABLE:
        s->cls = STATEMENT_DDL;
        s->verb = "CREATE TABLE";
        return create_table(c, a, ast->create_table);
    case AST_STMT_DROP_TABLE:
        s->cls = STATEMENT_DDL;
        s->verb = "DROP TABLE";
        return drop_table(c, a, ast->drop_table);
    case AST_STMT_TRUNCATE:
        return analyze_unsupported(a, ast->location, "TRUNCATE");
    case AST_STMT_EXPLAIN:
        return analyze_unsupported(a, ast->location, "EXPLAIN");
    case AST_STMT_COPY:
        return analyze_unsupported(a, ast->location, "COPY");
    case AST_STMT_TXN:
    case AST_STMT_SET:
    case AST_STMT_SHOW:
    case AST_STMT_DISCARD:
    case AST_STMT_PREPARE:
    case AST_STMT_EXECUTE:
    case AST_STMT_DEALLOCATE:
    case AST_STMT_RANGES:
        s->cls = STATEMENT_UTILITY;
        s->verb = "";
        return OK;
    case AST_STMT_OTHER:
    case AST_STMT_KIND_COUNT:
        break;
    }
    return analyze_unsupported(a, ast->location, "this statement");
}

/* Types as declared in Parse; the others are to be found. */
static struct status declare_params(struct compilation *c, struct analyzer *a)
{
    const struct statement_source *src = c->src;
    uint16_t n = src->ast->params;

    n = src->param_types_count > n ? src->param_types_count : n;
    a->params = ARENA_ARRAY(c->scratch, oid, n + 1u);
    if (a->params == NULL) {
        return analyze_no_memory();
    }
    a->params_cap = n;
    for (uint16_t i = 0; i < n; i++) {
        const oid declared = i < src->param_types_count ? src->param_types[i] : TYPE_INVALID;
        const struct type_desc *t = type_find(declared);

        a->params[i] = declared == TYPE_INVALID ? TYPE_UNKNOWN : declared;
        if (declared != TYPE_INVALID && declared != TYPE_UNKNOWN && (t == NULL || !t->full)) {
            return analyze_unsupported(a, -1,
                                       t == NULL
                                           ? arena_printf(c->scratch, "type with OID %u", declared)
                                           : arena_printf(c->scratch, "type %s", t->sql_name));
        }
    }
    a->params_count = src->param_types_count;
    return OK;
}

/* One attempt, on the big stack. */
static void compile_once(void *arg)
{
    struct compilation *c = arg;
    const struct ast_stmt *ast = c->src->ast;
    struct analyzer a = {.arena = c->scratch,
                         .err = c->err,
                         .tables = &c->tables,
                         .view = c->src->view,
                         .clause = "SELECT"};

    if (ast->unsupported != NULL) {
        c->st =
            sql_error_unsupported(c->err, c->scratch, ast->unsupported_location, ast->unsupported);
        return;
    }
    c->st = declare_params(c, &a);
    if (status_ok(c->st)) {
        c->st = compile_kind(c, &a, ast);
    }
}

static struct status new_statement(struct compilation *c)
{
    struct statement *s = calloc(1, sizeof(*s));

    if (s == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a statement");
    }
    s->refs = 1;
    s->catalog = c->src->catalog;
    arena_init(&s->arena, 0);
    c->stmt = s;
    return OK;
}

/* Fetches the table that the last attempt lacked. A table that does not exist is remembered as absent,
 * and the next attempt says so with the position of its name. */
MAYYIELD static struct status fetch_missing(struct compilation *c)
{
    struct analyze_tables *t = &c->tables;
    const char *name = t->missing;
    struct table_desc *desc = NULL;
    struct status st = OK;

    t->missing = NULL;
    if (t->count == ANALYZE_TABLES_MAX || t->absent_count == ANALYZE_TABLES_MAX) {
        return sql_error_set(c->err, c->scratch, "54001", -1, "too many tables");
    }
    st = catalog_acquire(t->catalog, name, &desc);
    if (st.code == STATUS_NOT_FOUND) {
        t->absent[t->absent_count++] = name;
        return OK;
    }
    TRY(st);
    t->items[t->count++] = desc;
    return OK;
}

static void release_tables(struct compilation *c)
{
    for (uint32_t i = 0; i < c->tables.count; i++) {
        catalog_release(c->tables.catalog, c->tables.items[i]);
    }
    c->tables.count = 0;
}

/* The leases become the statement's. */
static struct status keep_tables(struct compilation *c)
{
    struct statement *s = c->stmt;

    s->tables = ARENA_ARRAY(&s->arena, struct table_desc *, c->tables.count + 1);
    if (s->tables == NULL) {
        return analyze_no_memory();
    }
    for (uint32_t i = 0; i < c->tables.count; i++) {
        s->tables[i] = c->tables.items[i];
    }
    s->tables_count = (uint16_t)c->tables.count;
    c->tables.count = 0;
    return OK;
}

struct status statement_compile(const struct statement_source *src, struct arena *scratch,
                                struct sql_error *err, struct statement **out)
{
    struct compilation c = {.src = src, .scratch = scratch, .err = err};
    struct status st = OK;

    c.tables.catalog = src->catalog;
    memset(err, 0, sizeof(*err));
    err->position = -1;
    do {
        statement_release(c.stmt);
        c.stmt = NULL;
        TRY_OUT(new_statement(&c));
        c.stmt->catalog_generation = src->catalog == NULL ? 0 : catalog_generation(src->catalog);
        if (src->shard != NULL) {
            big_stack_run(src->shard, compile_once, &c);
        } else {
            compile_once(&c);
        }
        if (c.st.code != STATUS_WOULD_BLOCK || c.tables.missing == NULL) {
            break;
        }
        TRY_OUT(fetch_missing(&c));
    } while (true);
    TRY_OUT(c.st);
    TRY_OUT(keep_tables(&c));
    *out = c.stmt;
    c.stmt = NULL;
out:
    statement_release(c.stmt);
    release_tables(&c);
    return st;
}
