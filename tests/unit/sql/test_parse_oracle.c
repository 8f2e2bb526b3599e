/*
 * test_parse_oracle.c -- our trees against libpg_query's JSON.
 *
 * import*.c is compiled against PostgreSQL's headers and reads structures that the library made: node
 * numbers and layouts must be the same in both, and an update of either package could change that.
 * The JSON is written by the library from its own numbers. So for each statement of the corpus the
 * kind of statement must agree, and our tree must hold as many constants, columns, calls, ... as the
 * JSON names.
 */
#include <ctype.h>
#include <pg_query.h>
#include <stdlib.h>

#include "node/sql/parse/parse.h"
#include "tests/lib/test.h"
#include "tests/unit/sql/parse_corpus.h"

/* What is counted: our kind and the JSON's word. */
enum counted {
    CONSTS,
    PARAMS,
    COLUMNS,
    FUNCTIONS,
    CASES,
    SUBLINKS,
    CASTS,
    ROWS,
    ARRAYS,
    COALESCES,
    SQL_VALUES,
    TARGETS,
    SORTS,
    JOINS,
    CTES,
    COUNTED,
};

static const char *const json_words[COUNTED] = {
    [CONSTS] = "A_Const",
    [PARAMS] = "ParamRef",
    [COLUMNS] = "ColumnRef",
    [FUNCTIONS] = "FuncCall",
    [CASES] = "CaseExpr",
    [SUBLINKS] = "SubLink",
    [CASTS] = "TypeCast",
    [ROWS] = "RowExpr",
    [ARRAYS] = "A_ArrayExpr",
    [COALESCES] = "CoalesceExpr",
    [SQL_VALUES] = "SQLValueFunction",
    [TARGETS] = "ResTarget",
    [SORTS] = "SortBy",
    [JOINS] = "JoinExpr",
    [CTES] = "CommonTableExpr",
};

struct counts {
    int n[COUNTED];
};

static void count_expr(struct counts *c, const struct ast_expr *e);
static void count_select(struct counts *c, const struct ast_select *s);
static void count_stmt(struct counts *c, const struct ast_stmt *s);

static void count_exprs(struct counts *c, struct ast_exprs list)
{
    for (uint32_t i = 0; i < list.count; i++) {
        count_expr(c, list.items[i]);
    }
}

static void count_type(struct counts *c, const struct ast_type *t)
{
    count_exprs(c, t->mods);
}

static void count_orders(struct counts *c, struct ast_orders list)
{
    c->n[SORTS] += (int)list.count;
    for (uint32_t i = 0; i < list.count; i++) {
        count_expr(c, list.items[i].expr);
    }
}

static void count_function(struct counts *c, const struct ast_function *f)
{
    c->n[FUNCTIONS]++;
    count_exprs(c, f->args);
    count_orders(c, f->agg_order);
    count_expr(c, f->filter);
}

static void count_case(struct counts *c, const struct ast_case *k)
{
    c->n[CASES]++;
    count_expr(c, k->arg);
    for (uint32_t i = 0; i < k->whens_count; i++) {
        count_expr(c, k->whens[i].condition);
        count_expr(c, k->whens[i].result);
    }
    count_expr(c, k->otherwise);
}

static void count_chain(struct counts *c, const struct ast_chain *chain)
{
    count_expr(c, chain->first);
    for (uint32_t i = 0; i < chain->count; i++) {
        count_expr(c, chain->links[i].right);
    }
}

/* Kinds that are only their list of expressions, and the number they count under. */
static void count_list(struct counts *c, const struct ast_expr *e)
{
    c->n[ROWS] += e->kind == AST_ROW;
    c->n[ARRAYS] += e->kind == AST_ARRAY;
    c->n[COALESCES] += e->kind == AST_COALESCE;
    count_exprs(c, e->list);
}

static void count_pair(struct counts *c, const struct ast_expr *a, const struct ast_expr *b)
{
    count_expr(c, a);
    count_expr(c, b);
}

static void count_leaf(struct counts *c, const struct ast_expr *e)
{
    c->n[CONSTS] += e->kind == AST_CONST;
    c->n[PARAMS] += e->kind == AST_PARAM;
    c->n[COLUMNS] += e->kind == AST_COLUMN;
    c->n[SQL_VALUES] += e->kind == AST_SQL_VALUE;
}

static void count_expr(struct counts *c, const struct ast_expr *e)
{
    if (e == NULL) {
        return;
    }
    switch (e->kind) {
    case AST_CONST:
    case AST_PARAM:
    case AST_COLUMN:
    case AST_SQL_VALUE:
    case AST_DEFAULT:
    case AST_EXPR_KIND_COUNT:
        count_leaf(c, e);
        break;
    case AST_OP:
        count_pair(c, e->op.left, e->op.right);
        break;
    case AST_CHAIN:
        count_chain(c, &e->chain);
        break;
    case AST_AND:
    case AST_OR:
    case AST_COALESCE:
    case AST_GREATEST:
    case AST_LEAST:
    case AST_ARRAY:
    case AST_ROW:
    case AST_GROUPING:
        count_list(c, e);
        break;
    case AST_NOT:
        count_expr(c, e->arg);
        break;
    case AST_IS:
        count_expr(c, e->is.arg);
        break;
    case AST_DISTINCT:
    case AST_NULLIF:
        count_pair(c, e->compare.left, e->compare.right);
        break;
    case AST_BETWEEN:
        count_expr(c, e->between.arg);
        count_pair(c, e->between.low, e->between.high);
        break;
    case AST_IN:
        count_expr(c, e->in.arg);
        count_exprs(c, e->in.list);
        break;
    case AST_LIKE:
        count_pair(c, e->like.arg, e->like.pattern);
        break;
    case AST_ANY:
    case AST_ALL:
        count_pair(c, e->quantified.arg, e->quantified.array);
        break;
    case AST_CASE:
        count_case(c, &e->case_);
        break;
    case AST_FUNCTION:
        count_function(c, e->function);
        break;
    case AST_CAST:
        c->n[CASTS]++;
        count_expr(c, e->cast.arg);
        count_type(c, e->cast.type);
        break;
    case AST_SUBLINK:
        c->n[SUBLINKS]++;
        count_expr(c, e->sublink.arg);
        count_select(c, e->sublink.select);
        break;
    case AST_SUBSCRIPT:
        count_expr(c, e->subscript.arg);
        count_pair(c, e->subscript.lower, e->subscript.upper);
        break;
    case AST_FIELD:
        count_expr(c, e->field.arg);
        break;
    case AST_COLLATE:
        count_expr(c, e->collate->arg);
        break;
    }
}

static void count_targets(struct counts *c, struct ast_targets list)
{
    c->n[TARGETS] += (int)list.count;
    for (uint32_t i = 0; i < list.count; i++) {
        count_expr(c, list.items[i].expr);
    }
}

static void count_from(struct counts *c, const struct ast_from *f)
{
    switch (f->kind) {
    case AST_FROM_TABLE:
        break;
    case AST_FROM_SELECT:
        count_select(c, f->select);
        break;
    case AST_FROM_FUNCTION:
        count_expr(c, f->function);
        break;
    case AST_FROM_JOIN:
        c->n[JOINS]++;
        count_from(c, f->join->left);
        count_from(c, f->join->right);
        count_expr(c, f->join->on);
        break;
    }
}

static void count_froms(struct counts *c, struct ast_froms list)
{
    for (uint32_t i = 0; i < list.count; i++) {
        count_from(c, list.items[i]);
    }
}

static void count_with(struct counts *c, const struct ast_with *w)
{
    for (uint32_t i = 0; w != NULL && i < w->count; i++) {
        c->n[CTES]++;
        count_stmt(c, w->items[i].stmt);
    }
}

static void count_select(struct counts *c, const struct ast_select *s)
{
    if (s == NULL) {
        return;
    }
    count_with(c, s->with);
    count_exprs(c, s->distinct_on);
    count_targets(c, s->targets);
    count_froms(c, s->from);
    count_expr(c, s->where);
    count_exprs(c, s->group_by);
    count_expr(c, s->having);
    for (uint32_t i = 0; i < s->rows_count; i++) {
        count_exprs(c, (struct ast_exprs){s->rows[i].items, s->rows[i].count});
    }
    count_select(c, s->first);
    for (uint32_t i = 0; i < s->arms_count; i++) {
        count_select(c, s->arms[i].select);
    }
    count_orders(c, s->order);
    count_expr(c, s->limit);
    count_expr(c, s->offset);
}

static void count_assigns(struct counts *c, struct ast_assigns list)
{
    c->n[TARGETS] += (int)list.count;
    for (uint32_t i = 0; i < list.count; i++) {
        count_expr(c, list.items[i].value);
    }
}

static void count_insert(struct counts *c, const struct ast_insert *s)
{
    count_with(c, s->with);
    c->n[TARGETS] += (int)s->columns.count;
    count_select(c, s->source);
    count_expr(c, s->conflict.index_where);
    count_assigns(c, s->conflict.sets);
    count_expr(c, s->conflict.where);
    count_targets(c, s->returning);
}

static void count_update(struct counts *c, const struct ast_update *s)
{
    count_with(c, s->with);
    count_assigns(c, s->sets);
    count_froms(c, s->from);
    count_expr(c, s->where);
    count_targets(c, s->returning);
}

static void count_delete(struct counts *c, const struct ast_delete *s)
{
    count_with(c, s->with);
    count_froms(c, s->using_);
    count_expr(c, s->where);
    count_targets(c, s->returning);
}

static void count_constraints(struct counts *c, struct ast_constraints list)
{
    for (uint32_t i = 0; i < list.count; i++) {
        count_expr(c, list.items[i].expr);
    }
}

static void count_create_table(struct counts *c, const struct ast_create_table *s)
{
    for (uint32_t i = 0; i < s->columns_count; i++) {
        count_type(c, s->columns[i].type);
        count_constraints(c, s->columns[i].constraints);
    }
    count_constraints(c, s->constraints);
}

static void count_stmt(struct counts *c, const struct ast_stmt *s)
{
    switch (s->kind) {
    case AST_STMT_SELECT:
        count_select(c, s->select);
        break;
    case AST_STMT_INSERT:
        count_insert(c, s->insert);
        break;
    case AST_STMT_UPDATE:
        count_update(c, s->update);
        break;
    case AST_STMT_DELETE:
        count_delete(c, s->delete_);
        break;
    case AST_STMT_CREATE_TABLE:
        count_create_table(c, s->create_table);
        break;
    case AST_STMT_PREPARE:
        count_stmt(c, s->prepare->stmt);
        break;
    case AST_STMT_EXECUTE:
        count_exprs(c, s->execute->args);
        break;
    case AST_STMT_EXPLAIN:
        count_stmt(c, s->explain->stmt);
        break;
    case AST_STMT_SET:
        count_exprs(c, s->set->args);
        break;
    case AST_STMT_COPY:
        if (s->copy->query != NULL) {
            count_stmt(c, s->copy->query);
        }
        count_expr(c, s->copy->where);
        break;
    case AST_STMT_OTHER:
    case AST_STMT_DROP_TABLE:
    case AST_STMT_TRUNCATE:
    case AST_STMT_TXN:
    case AST_STMT_SHOW:
    case AST_STMT_DISCARD:
    case AST_STMT_DEALLOCATE:
    case AST_STMT_RANGES:
    case AST_STMT_KIND_COUNT:
        break;
    }
}

/* How often the JSON has an object called `word`. */
static int json_count(const char *json, const char *word)
{
    char needle[40];
    int n = 0;

    (void)snprintf(needle, sizeof(needle), "\"%s\":{", word);
    for (const char *at = strstr(json, needle); at != NULL; at = strstr(at + 1, needle)) {
        n++;
    }
    return n;
}

/* The JSON's name of the first statement, "" when there is none. */
static void json_tag(const char *json, char *out, size_t size)
{
    const char *at = strstr(json, "\"stmt\":{\"");
    size_t n = 0;

    out[0] = '\0';
    if (at != NULL) {
        at += strlen("\"stmt\":{\"");
        while (at[n] != '"' && n + 1 < size) {
            out[n] = at[n];
            n++;
        }
        out[n] = '\0';
    }
}

/* What the statement is by the JSON's tag: our kind, or the name of what is not supported. */
static const struct tag {
    const char *tag;
    enum ast_stmt_kind kind;
    const char *unsupported;
} tags[] = {
    {"SelectStmt", AST_STMT_SELECT, NULL},
    {"InsertStmt", AST_STMT_INSERT, NULL},
    {"UpdateStmt", AST_STMT_UPDATE, NULL},
    {"DeleteStmt", AST_STMT_DELETE, NULL},
    {"CreateStmt", AST_STMT_CREATE_TABLE, NULL},
    {"DropStmt", AST_STMT_DROP_TABLE, NULL},
    {"TruncateStmt", AST_STMT_TRUNCATE, NULL},
    {"TransactionStmt", AST_STMT_TXN, NULL},
    {"VariableSetStmt", AST_STMT_SET, NULL},
    {"VariableShowStmt", AST_STMT_SHOW, NULL},
    {"DiscardStmt", AST_STMT_DISCARD, NULL},
    {"PrepareStmt", AST_STMT_PREPARE, NULL},
    {"ExecuteStmt", AST_STMT_EXECUTE, NULL},
    {"DeallocateStmt", AST_STMT_DEALLOCATE, NULL},
    {"ExplainStmt", AST_STMT_EXPLAIN, NULL},
    {"CopyStmt", AST_STMT_COPY, NULL},
    {"IndexStmt", AST_STMT_OTHER, "CREATE INDEX"},
    {"ViewStmt", AST_STMT_OTHER, "CREATE VIEW"},
    {"CreateFunctionStmt", AST_STMT_OTHER, "CREATE FUNCTION"},
    {"AlterTableStmt", AST_STMT_OTHER, "ALTER TABLE"},
    {"CreatedbStmt", AST_STMT_OTHER, "CREATE DATABASE"},
    {"CreateRoleStmt", AST_STMT_OTHER, "CREATE ROLE"},
    {"GrantStmt", AST_STMT_OTHER, "GRANT"},
    {"CreateSeqStmt", AST_STMT_OTHER, "CREATE SEQUENCE"},
    {"CreateSchemaStmt", AST_STMT_OTHER, "CREATE SCHEMA"},
    {"CreateEnumStmt", AST_STMT_OTHER, "CREATE TYPE"},
    {"CommentStmt", AST_STMT_OTHER, "COMMENT"},
    {"VacuumStmt", AST_STMT_OTHER, "VACUUM"},
    {"LockStmt", AST_STMT_OTHER, "LOCK TABLE"},
    {"DeclareCursorStmt", AST_STMT_OTHER, "DECLARE CURSOR"},
    {"FetchStmt", AST_STMT_OTHER, "FETCH"},
    {"ClosePortalStmt", AST_STMT_OTHER, "CLOSE"},
    {"ListenStmt", AST_STMT_OTHER, "LISTEN"},
    {"DoStmt", AST_STMT_OTHER, "DO"},
    {"CallStmt", AST_STMT_OTHER, "CALL"},
    {"CreateTableAsStmt", AST_STMT_OTHER, "CREATE TABLE AS"},
};

static void compare_tag(const char *text, const char *json, const struct ast_stmt *stmt)
{
    char tag[40];

    json_tag(json, tag, sizeof(tag));
    for (size_t i = 0; i < ARRAY_COUNT(tags); i++) {
        if (strcmp(tag, tags[i].tag) != 0) {
            continue;
        }
        if (tags[i].kind == AST_STMT_DROP_TABLE && stmt->kind == AST_STMT_OTHER) {
            return; /* DROP of something else. */
        }
        if (stmt->kind != tags[i].kind ||
            (tags[i].unsupported != NULL && strcmp(stmt->unsupported, tags[i].unsupported) != 0)) {
            test_fail(__FILE__, __LINE__, "%s: kind %d for a %s", text, stmt->kind, tag);
        }
        return;
    }
    test_fail(__FILE__, __LINE__, "%s: no expectation for a %s", text, tag);
}

static void compare_counts(const char *text, const char *json, const struct parse_result *r)
{
    struct counts c = {0};

    for (uint32_t i = 0; i < r->count; i++) {
        if (r->stmts[i]->unsupported != NULL) {
            return; /* Incomplete by contract. */
        }
        count_stmt(&c, r->stmts[i]);
    }
    /* Left out: the JSON repeats the source of (a, b) = ROW(...), and transaction modes are constants
     * there and an enum here. */
    if (json_count(json, "MultiAssignRef") > 0 || strstr(json, "\"transaction_") != NULL) {
        return;
    }
    for (int i = 0; i < COUNTED; i++) {
        if (c.n[i] != json_count(json, json_words[i])) {
            test_fail(__FILE__, __LINE__, "%s: %d x %s, the library has %d", text, c.n[i],
                      json_words[i], json_count(json, json_words[i]));
        }
    }
}

static void compare_with_json(const char *text)
{
    const PgQueryParseResult json = pg_query_parse(text);
    struct parse_result r = {0};
    struct sql_error err = {0};
    struct arena a;
    struct status st;

    arena_init(&a, 0);
    st = parse_statements(bytes_str(text), &a, &r, &err);
    if (json.error != NULL || !status_ok(st)) {
        test_fail(__FILE__, __LINE__, "%s: library says %s, we say %s", text,
                  json.error == NULL ? "ok" : json.error->message, status_text(st));
    } else if (r.count > 0) {
        compare_tag(text, json.parse_tree, r.stmts[0]);
        compare_counts(text, json.parse_tree, &r);
    }
    arena_deinit(&a);
    pg_query_free_parse_result(json);
}

TEST(parse_oracle, trees_hold_what_the_library_sees)
{
    char *text = corpus_read();
    char *rest = text;
    int n = 0;

    EXPECT_TRUE(text != NULL);
    for (const char *stmt = corpus_next(&rest); stmt != NULL; stmt = corpus_next(&rest)) {
        compare_with_json(stmt);
        n++;
    }
    EXPECT_TRUE(n > 100);
    free(text);
}
