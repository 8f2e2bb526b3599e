/*
 * test_parse.c -- what the trees look like, errors in PostgreSQL's words, and the limits.
 */
#include <stdlib.h>

#include "node/sql/parse/parse.h"
#include "tests/lib/test.h"

struct parsed {
    struct arena arena;
    struct parse_result r;
    struct sql_error err;
    struct status st;
};

static void parsed_init(struct parsed *p, struct bytes text)
{
    memset(p, 0, sizeof(*p));
    arena_init(&p->arena, (size_t)512 << 20);
    p->st = parse_statements(text, &p->arena, &p->r, &p->err);
}

static void parsed_deinit(struct parsed *p)
{
    arena_deinit(&p->arena);
}

/* The first statement; stops the test run when there is none. */
static const struct ast_stmt *first(struct parsed *p, const char *text)
{
    parsed_init(p, bytes_str(text));
    if (!status_ok(p->st) || p->r.count == 0) {
        test_fail(__FILE__, __LINE__, "%s: %s", text, status_text(p->st));
        abort();
    }
    return p->r.stmts[0];
}

TEST(parse, select_has_its_parts)
{
    struct parsed p;
    const struct ast_stmt *stmt = first(&p, " select a, t.b as c, t.* from s.t as t where id = $2 "
                                            "order by a desc nulls last, 2 limit 10 offset 5 ;");
    const struct ast_select *s = stmt->select;

    EXPECT_EQ(AST_STMT_SELECT, stmt->kind);
    EXPECT_EQ(1, stmt->location);
    EXPECT_EQ(99, stmt->length);
    EXPECT_EQ(2, stmt->params);
    EXPECT_TRUE(stmt->unsupported == NULL);
    EXPECT_EQ(3, s->targets.count);
    EXPECT_STREQ("a", s->targets.items[0].label);
    EXPECT_FALSE(s->targets.items[0].aliased);
    EXPECT_STREQ("c", s->targets.items[1].label);
    EXPECT_STREQ("b", s->targets.items[1].expr->column.names[1].name);
    EXPECT_TRUE(s->targets.items[2].expr->column.star);
    EXPECT_STREQ("", s->targets.items[2].label);
    EXPECT_EQ(AST_FROM_TABLE, s->from.items[0]->kind);
    EXPECT_STREQ("s", s->from.items[0]->table.schema);
    EXPECT_STREQ("t", s->from.items[0]->alias);
    EXPECT_EQ(AST_OP, s->where->kind);
    EXPECT_EQ(48, s->where->location);
    EXPECT_EQ(AST_PARAM, s->where->op.right->kind);
    EXPECT_EQ(2, s->order.count);
    EXPECT_EQ(AST_ORDER_DESC, s->order.items[0].direction);
    EXPECT_EQ(AST_NULLS_LAST, s->order.items[0].nulls);
    EXPECT_EQ(10, s->limit->constant.integer);
    EXPECT_EQ(5, s->offset->constant.integer);
    parsed_deinit(&p);
}

TEST(parse, constants_have_kind_and_value)
{
    static const struct {
        const char *text;
        const char *value;
        enum ast_const_kind kind;
        int32_t integer;
    } cases[] = {
        {"select 42", NULL, AST_CONST_INT, 42},
        {"select -42", NULL, AST_CONST_INT, -42},
        {"select -2147483648", NULL, AST_CONST_INT, INT32_MIN},
        {"select 2147483648", "2147483648", AST_CONST_NUMERIC, 0},
        {"select -1.50", "-1.50", AST_CONST_NUMERIC, 0},
        {"select 1e10", "1e10", AST_CONST_NUMERIC, 0},
        {"select 'it''s'", "it's", AST_CONST_STRING, 0},
        {"select E'a\\tb'", "a\tb", AST_CONST_STRING, 0},
        {"select $x$y$x$", "y", AST_CONST_STRING, 0},
        {"select b'01'", "b01", AST_CONST_BIT, 0},
        {"select x'1F'", "x1F", AST_CONST_BIT, 0},
        {"select null", NULL, AST_CONST_NULL, 0},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct parsed p;
        const struct ast_expr *e = first(&p, cases[i].text)->select->targets.items[0].expr;

        EXPECT_EQ(AST_CONST, e->kind);
        EXPECT_EQ(cases[i].kind, e->constant.kind);
        EXPECT_EQ(cases[i].integer, e->constant.integer);
        EXPECT_EQ(7, e->location);
        if (cases[i].value != NULL) {
            EXPECT_BYTES_EQ(bytes_str(cases[i].value), e->constant.text);
        }
        parsed_deinit(&p);
    }
}

TEST(parse, true_is_a_constant)
{
    struct parsed p;
    const struct ast_target *t = &first(&p, "select true")->select->targets.items[0];

    EXPECT_EQ(AST_CONST, t->expr->kind);
    EXPECT_EQ(AST_CONST_BOOL, t->expr->constant.kind);
    EXPECT_TRUE(t->expr->constant.boolean);
    EXPECT_STREQ("?column?", t->label);
    parsed_deinit(&p);
}

/* As PostgreSQL 15 answers them. */
TEST(parse, result_columns_are_called_as_in_postgresql)
{
    static const char *const cases[][2] = {
        {"select 1", "?column?"},
        {"select a + b", "?column?"},
        {"select count(*)", "count"},
        {"select s.f(x)", "f"},
        {"select 'x'::text", "text"},
        {"select a::text", "a"},
        {"select 1::int", "int4"},
        {"select true", "?column?"},
        {"select case when a then 1 end", "case"},
        {"select case when a then 1 else b end", "b"},
        {"select coalesce(a, 1)", "coalesce"},
        {"select nullif(a, 1)", "nullif"},
        {"select greatest(a, 1)", "greatest"},
        {"select least(a, 1)", "least"},
        {"select exists (select 1)", "exists"},
        {"select (select max(b) as m)", "m"},
        {"select (select a from t)", "a"},
        {"select (values (1))", "column1"},
        {"select array[1]", "array"},
        {"select array(select 1)", "array"},
        {"select row(1, 2)", "row"},
        {"select current_timestamp", "current_timestamp"},
        {"select current_user", "current_user"},
        {"select date '2020-01-01'", "date"},
        {"select (x).f", "f"},
        {"select a[1]", "a"},
        {"select a collate \"C\"", "a"},
        {"select a is null", "?column?"},
        {"select extract(year from a)", "extract"},
        {"select trim(a)", "btrim"},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct parsed p;

        EXPECT_STREQ(cases[i][1], first(&p, cases[i][0])->select->targets.items[0].label);
        parsed_deinit(&p);
    }
}

static const struct ast_expr *where_of(struct parsed *p, const char *text)
{
    return first(p, text)->select->where;
}

TEST(parse, predicates_have_their_kinds)
{
    struct parsed p;
    const struct ast_expr *e = where_of(
        &p, "select where a is not null and not b and c is not true and d is not distinct from 1 "
            "and e not between 1 and 2 and f not in (1, 2) and g not like 'x' and h = any ($1)");
    struct ast_expr *const *items = e->list.items;

    EXPECT_EQ(AST_AND, e->kind);
    EXPECT_EQ(8, e->list.count);
    EXPECT_TRUE(items[0]->kind == AST_IS && items[0]->is.what == AST_IS_NULL);
    EXPECT_TRUE(items[0]->is.negated);
    EXPECT_EQ(AST_NOT, items[1]->kind);
    EXPECT_TRUE(items[2]->is.what == AST_IS_TRUE && items[2]->is.negated);
    EXPECT_TRUE(items[3]->kind == AST_DISTINCT && items[3]->compare.negated);
    EXPECT_TRUE(items[4]->kind == AST_BETWEEN && items[4]->between.negated);
    EXPECT_TRUE(items[5]->kind == AST_IN && items[5]->in.negated && items[5]->in.list.count == 2);
    EXPECT_TRUE(items[6]->kind == AST_LIKE && items[6]->like.negated);
    EXPECT_TRUE(items[7]->kind == AST_ANY && strcmp(items[7]->quantified.op, "=") == 0);
    parsed_deinit(&p);
}

TEST(parse, types_have_modifiers_and_dimensions)
{
    struct parsed p;
    const struct ast_expr *e =
        first(&p, "select a::numeric(10,2)[][]")->select->targets.items[0].expr;

    EXPECT_EQ(AST_CAST, e->kind);
    EXPECT_STREQ("pg_catalog", e->cast.type->schema);
    EXPECT_STREQ("numeric", e->cast.type->name);
    EXPECT_EQ(2, e->cast.type->mods.count);
    EXPECT_EQ(2, e->cast.type->mods.items[1]->constant.integer);
    EXPECT_EQ(2, e->cast.type->array_dims);
    EXPECT_EQ(8, e->location);
    parsed_deinit(&p);
}

TEST(parse, insert_has_rows_conflict_and_returning)
{
    struct parsed p;
    const struct ast_insert *s =
        first(&p, "insert into t as x (a, b) values (1, default), ($1, 'y') on conflict (a) do "
                  "update set b = excluded.b where x.b < 5 returning a, b as c")
            ->insert;

    EXPECT_STREQ("t", s->table.name);
    EXPECT_STREQ("x", s->alias);
    EXPECT_EQ(2, s->columns.count);
    EXPECT_STREQ("b", s->columns.items[1].name);
    EXPECT_EQ(23, s->columns.items[1].location);
    EXPECT_TRUE(s->source->is_values);
    EXPECT_EQ(2, s->source->rows_count);
    EXPECT_EQ(AST_DEFAULT, s->source->rows[0].items[1]->kind);
    EXPECT_EQ(AST_CONFLICT_UPDATE, s->conflict.action);
    EXPECT_STREQ("a", s->conflict.columns.items[0].name);
    EXPECT_STREQ("excluded", s->conflict.sets.items[0].value->column.names[0].name);
    EXPECT_TRUE(s->conflict.where != NULL);
    EXPECT_EQ(2, s->returning.count);
    parsed_deinit(&p);
}

TEST(parse, update_spreads_rows_over_columns)
{
    struct parsed p;
    const struct ast_update *s =
        first(&p, "update t set a = a + 1, (b, c) = (2, default) where id = 1 returning *")->update;

    EXPECT_EQ(3, s->sets.count);
    EXPECT_STREQ("c", s->sets.items[2].column.name);
    EXPECT_EQ(2, s->sets.items[1].value->constant.integer);
    EXPECT_EQ(AST_DEFAULT, s->sets.items[2].value->kind);
    EXPECT_EQ(1, s->returning.count);
    parsed_deinit(&p);
}

TEST(parse, create_table_has_columns_and_constraints)
{
    struct parsed p;
    const struct ast_create_table *s =
        first(&p, "create table if not exists s.t (id bigint primary key, a varchar(10) not null "
                  "default 'x', b int references u (c) on delete cascade deferrable, "
                  "constraint k unique (a, b)) with (fillfactor = 70)")
            ->create_table;

    EXPECT_TRUE(s->if_not_exists);
    EXPECT_EQ(3, s->columns_count);
    EXPECT_STREQ("int8", s->columns[0].type->name);
    EXPECT_EQ(AST_CONSTRAINT_PRIMARY_KEY, s->columns[0].constraints.items[0].kind);
    EXPECT_EQ(2, s->columns[1].constraints.count);
    EXPECT_EQ(AST_CONSTRAINT_DEFAULT, s->columns[1].constraints.items[1].kind);
    EXPECT_EQ(1, s->columns[2].constraints.count);
    EXPECT_EQ('c', s->columns[2].constraints.items[0].on_delete);
    EXPECT_TRUE(s->columns[2].constraints.items[0].deferrable);
    EXPECT_EQ(1, s->constraints.count);
    EXPECT_STREQ("k", s->constraints.items[0].name);
    EXPECT_EQ(2, s->constraints.items[0].columns.count);
    EXPECT_STREQ("70", s->options.items[0].value);
    parsed_deinit(&p);
}

TEST(parse, session_statements_have_their_parts)
{
    struct parsed p;
    const struct ast_stmt *s;

    s = first(&p, "begin isolation level repeatable read, read only");
    EXPECT_EQ(AST_TXN_BEGIN, s->txn->kind);
    EXPECT_EQ(AST_ISOLATION_REPEATABLE_READ, s->txn->modes.isolation);
    EXPECT_EQ(1, s->txn->modes.read_only);
    EXPECT_EQ(-1, s->txn->modes.deferrable);
    parsed_deinit(&p);

    s = first(&p, "rollback to savepoint a");
    EXPECT_EQ(AST_TXN_ROLLBACK_TO, s->txn->kind);
    EXPECT_STREQ("a", s->txn->name);
    parsed_deinit(&p);

    s = first(&p, "set local a.b to 'x', 3");
    EXPECT_EQ(AST_SET_VALUE, s->set->kind);
    EXPECT_TRUE(s->set->local);
    EXPECT_STREQ("a.b", s->set->name);
    EXPECT_EQ(2, s->set->args.count);
    parsed_deinit(&p);

    s = first(&p, "show transaction isolation level");
    EXPECT_STREQ("transaction_isolation", s->show->name);
    parsed_deinit(&p);

    s = first(&p, "prepare x (int, text) as select $1, $2");
    EXPECT_EQ(2, s->prepare->types_count);
    EXPECT_EQ(AST_STMT_SELECT, s->prepare->stmt->kind);
    EXPECT_EQ(2, s->params);
    parsed_deinit(&p);

    s = first(&p, "explain (analyze, format json) select 1");
    EXPECT_EQ(2, s->explain->options.count);
    EXPECT_STREQ("json", s->explain->options.items[1].value);
    parsed_deinit(&p);
}

TEST(parse, set_operations_are_lists_of_arms)
{
    struct parsed p;
    const struct ast_select *s =
        first(&p, "select 1 union all select 2 except (select 3 order by 1) limit 5")->select;

    EXPECT_EQ(2, s->arms_count);
    EXPECT_EQ(AST_UNION, s->arms[0].op);
    EXPECT_TRUE(s->arms[0].all);
    EXPECT_EQ(AST_EXCEPT, s->arms[1].op);
    EXPECT_EQ(1, s->arms[1].select->order.count);
    EXPECT_EQ(1, s->first->targets.items[0].expr->constant.integer);
    EXPECT_EQ(5, s->limit->constant.integer);
    parsed_deinit(&p);
}

/* The library's enum has another order than the server's headers. */
TEST(parse, with_ties_is_told_from_plain_limits)
{
    static const struct {
        const char *text;
        bool with_ties;
    } cases[] = {
        {"select 1", false},
        {"select 1 limit 1", false},
        {"select 1 order by 1 fetch first 1 row only", false},
        {"select 1 order by 1 fetch first 1 row with ties", true},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct parsed p;

        EXPECT_EQ(cases[i].with_ties, first(&p, cases[i].text)->select->with_ties);
        parsed_deinit(&p);
    }
}

TEST(parse, statements_are_split_and_empty_ones_dropped)
{
    struct parsed p;

    parsed_init(&p, BYTES_LIT(";; select 1 ;; /* x */ ; select ';' -- y"));
    EXPECT_OK(p.st);
    EXPECT_EQ(2, p.r.count);
    EXPECT_EQ(3, p.r.stmts[0]->location);
    EXPECT_EQ(8, p.r.stmts[0]->length);
    EXPECT_EQ(25, p.r.stmts[1]->location);
    parsed_deinit(&p);

    parsed_init(&p, BYTES_EMPTY);
    EXPECT_OK(p.st);
    EXPECT_EQ(0, p.r.count);
    parsed_deinit(&p);
}

/* Messages, codes and positions (bytes from 0) as PostgreSQL 15 gives them. */
TEST(parse, errors_are_postgresqls)
{
    static const struct {
        const char *text;
        const char *sqlstate;
        const char *message;
        int32_t position;
    } cases[] = {
        {"selec 1", "42601", "syntax error at or near \"selec\"", 0},
        {"select 1 from", "42601", "syntax error at end of input", 13},
        {"select 1; selec", "42601", "syntax error at or near \"selec\"", 10},
        {"select '\xc3\xa9' from where", "42601", "syntax error at or near \"where\"", 17},
        {"select 'x", "42601", "unterminated quoted string at or near \"'x\"", 7},
        {"select \"x", "42601", "unterminated quoted identifier at or near \"\"x\"", 7},
        {"select \"\"", "42601", "zero-length delimited identifier at or near \"\"\"\"", 7},
        {"select /* x", "42601", "unterminated /* comment at or near \"/* x\"", 7},
        {"select 1a", "42601", "trailing junk after numeric literal at or near \"1a\"", 7},
        {"select $1a", "42601", "trailing junk after parameter at or near \"$1a\"", 7},
        {"select e'\\u12'", "22025", "invalid Unicode escape", 9},
        {"select $0", "42P02", "there is no parameter $0", 7},
        {"select $65536", "42P02", "there is no parameter $65536", 7},
        {"select $99999999999", "42P02", "there is no parameter $99999999999", 7},
        {"select date $1", "42601", "syntax error at or near \"$1\"", 12},
        {"select extract($1 from x)", "42601", "syntax error at or near \"$1\"", 15},
        {"set x = $1", "42601", "syntax error at or near \"$1\"", 8},
        {"select a.b.c.d.e", "42601", "improper qualified name (too many dotted names): a.b.c.d.e",
         7},
        {"update t set (a, b) = (1)", "0A000",
         "source for a multiple-column UPDATE item must be a sub-SELECT or ROW() expression", 23},
        {"update t set (a, b) = row(1)", "42601",
         "number of columns does not match number of values", 22},
        {"create assertion x check (true)", "0A000", "CREATE ASSERTION is not yet implemented", -1},
        {"select '\xff'", "22021", "invalid byte sequence for encoding \"UTF8\": 0xff", -1},
        {"select '\xe2\x28\xa1'", "22021",
         "invalid byte sequence for encoding \"UTF8\": 0xe2 0x28 0xa1", -1},
        {"select '\xed\xa0\x80'", "22021",
         "invalid byte sequence for encoding \"UTF8\": 0xed 0xa0 0x80", -1},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct parsed p;

        parsed_init(&p, bytes_str(cases[i].text));
        EXPECT_CODE(STATUS_SQL_ERROR, p.st);
        EXPECT_STREQ(cases[i].message, p.err.message);
        EXPECT_STREQ(cases[i].sqlstate, p.err.sqlstate);
        EXPECT_EQ(cases[i].position, p.err.position);
        parsed_deinit(&p);
    }
}

TEST(parse, a_zero_byte_is_not_utf8)
{
    struct parsed p;

    parsed_init(&p, BYTES_LIT("select 1\0"));
    EXPECT_STREQ("22021", p.err.sqlstate);
    EXPECT_STREQ("invalid byte sequence for encoding \"UTF8\": 0x00", p.err.message);
    parsed_deinit(&p);
}

TEST(parse, what_the_tree_cannot_hold_is_named)
{
    static const struct {
        const char *text;
        const char *feature;
        int32_t position;
    } cases[] = {
        {"create view v as select 1", "CREATE VIEW", 0},
        {" alter table t add column a int", "ALTER TABLE", 1},
        {"drop index i", "DROP INDEX", 0},
        {"create table t (like u)", "LIKE in CREATE TABLE", 21},
        {"create table t (a int) partition by hash (a)", "PARTITION BY", 13},
        {"select 1 into t", "SELECT INTO", 14},
        {"update t set a[1] = 2", "assignment to an element or a field", 13},
        {"select f(a => 1)", "a named argument", 9},
        {"select * from t tablesample system (1)", "TABLESAMPLE", 28},
        {"insert into t values (1) on conflict (lower(a)) do nothing",
         "ON CONFLICT on an expression", 37},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct parsed p;
        const struct ast_stmt *stmt = first(&p, cases[i].text);

        EXPECT_STREQ(cases[i].feature, stmt->unsupported);
        EXPECT_EQ(cases[i].position, stmt->unsupported_location);
        parsed_deinit(&p);
    }
}

/* ---- Limits ------------------------------------------------------------------------------------ */

/* head, then n times unit, core, n times tail. */
static char *nest(const char *head, const char *unit, const char *core, const char *tail, size_t n)
{
    char *text = calloc(1, strlen(head) + strlen(core) + n * (strlen(unit) + strlen(tail)) + 1);
    char *at = text;

    at = stpcpy(at, head);
    for (size_t i = 0; i < n; i++) {
        at = stpcpy(at, unit);
    }
    at = stpcpy(at, core);
    for (size_t i = 0; i < n; i++) {
        at = stpcpy(at, tail);
    }
    return text;
}

static void expect_nesting(const char *head, const char *unit, const char *core, const char *tail,
                           size_t n, const char *sqlstate)
{
    char *text = nest(head, unit, core, tail, n);
    struct parsed p;

    parsed_init(&p, bytes_str(text));
    if (sqlstate == NULL ? !status_ok(p.st) : strcmp(p.err.sqlstate, sqlstate) != 0) {
        test_fail(__FILE__, __LINE__, "%s%s... x %zu: want %s, got %s", head, unit, n,
                  sqlstate == NULL ? "ok" : sqlstate, status_text(p.st));
    }
    parsed_deinit(&p);
    free(text);
}

TEST(parse, parentheses_are_limited)
{
    expect_nesting("select ", "(", "1", ")", PARSE_PAREN_MAX, NULL);
    expect_nesting("select ", "(", "1", ")", PARSE_PAREN_MAX + 1, "54001");
    expect_nesting("select ", "(", "1", "", 1000000, "54001");
}

/* Every kind of recursion stops in time, and none overflows the stack before. */
TEST(parse, depth_is_limited)
{
    expect_nesting("select ", "not ", "a", "", AST_DEPTH_MAX - 10, NULL);
    expect_nesting("select ", "not ", "a", "", AST_DEPTH_MAX + 1, "54001");
    expect_nesting("select ", "not ", "a", "", 5000, "54001");
    expect_nesting("select ", "- ", "a", "", 5000, "54001");
    expect_nesting("select ", "f(", "a", ")", AST_DEPTH_MAX + 1, "54001");
    expect_nesting("select ", "case when a then ", "b", " end", AST_DEPTH_MAX + 1, "54001");
    expect_nesting("select ", "array[", "1", "]", AST_DEPTH_MAX + 1, "54001");
    expect_nesting("select ", "(select ", "1", ")", AST_DEPTH_MAX + 1, "54001");
    expect_nesting("select ", "", "a", "::int", 100000, "54001");
    expect_nesting("select ", "", "(a)", ".b", 100000, "54001");
    expect_nesting("select ", "", "a", "[1]", 100000, "54001");
    expect_nesting("select * from ", "", "t", " cross join t", 100000, "54001");
    expect_nesting("", "explain ", "select 1", "", 10, "42601");
    expect_nesting("select * from ", "(select * from ", "t", ") x", AST_DEPTH_MAX + 1, "54001");
}

/* What only is long is not deep. */
TEST(parse, long_chains_are_not_deep)
{
    expect_nesting("select ", "", "1", " + 1", 100000, NULL);
    expect_nesting("select ", "", "a", " and b", 100000, NULL);
    expect_nesting("select ", "", "a", " or b", 100000, NULL);
    expect_nesting("", "", "select 1", " union all select 1", 20000, NULL);
    expect_nesting("select a in (1", "", "", ", 1", 100000, "42601");
    expect_nesting("insert into t values (1)", "", "", ", (1)", 100000, NULL);
}

TEST(parse, a_chain_keeps_order_and_places)
{
    char *text = nest("select a", "", "", " - b", AST_CHAIN_MIN);
    struct parsed p;
    const struct ast_expr *e;

    e = first(&p, text)->select->targets.items[0].expr;
    EXPECT_EQ(AST_CHAIN, e->kind);
    EXPECT_EQ(AST_CHAIN_MIN, e->chain.count);
    EXPECT_STREQ("a", e->chain.first->column.names[0].name);
    EXPECT_EQ(9, e->chain.links[0].location);
    EXPECT_EQ(13, e->chain.links[1].location);
    EXPECT_STREQ("-", e->chain.links[1].name);
    parsed_deinit(&p);
    free(text);
}

TEST(parse, text_tokens_and_targets_are_limited)
{
    char *text = calloc(1, PARSE_TEXT_MAX + 2);
    struct parsed p;

    memset(text, ' ', PARSE_TEXT_MAX + 1);
    parsed_init(&p, bytes_of(text, PARSE_TEXT_MAX));
    EXPECT_OK(p.st);
    parsed_deinit(&p);
    parsed_init(&p, bytes_of(text, PARSE_TEXT_MAX + 1));
    EXPECT_STREQ("54000", p.err.sqlstate);
    parsed_deinit(&p);

    memset(text, ',', PARSE_TOKENS_MAX + 1);
    parsed_init(&p, bytes_of(text, PARSE_TOKENS_MAX));
    EXPECT_STREQ("42601", p.err.sqlstate);
    parsed_deinit(&p);
    parsed_init(&p, bytes_of(text, PARSE_TOKENS_MAX + 1));
    EXPECT_STREQ("54000", p.err.sqlstate);
    parsed_deinit(&p);
    free(text);

    expect_nesting("select 1", "", "", ", 1", AST_COLUMNS_MAX - 1, NULL);
    expect_nesting("select 1", "", "", ", 1", AST_COLUMNS_MAX, "54011");
}

/* An arena that is too small is an error at any point, and never more than that. */
TEST(parse, memory_may_run_out_anywhere)
{
    static const char text[] =
        "insert into t (a, b) select f(x), case when y then 1 end from u join "
        "v using (w) where z in (1, 2) order by 1; create table t (a int)";
    bool passed = false;

    for (size_t limit = 1024; limit < 64 << 10 && !passed; limit += 512) {
        struct arena a;
        struct parse_result r = {0};
        struct sql_error err = {0};
        struct status st;

        arena_init(&a, limit);
        st = parse_statements(BYTES_LIT(text), &a, &r, &err);
        passed = status_ok(st);
        EXPECT_TRUE(passed || st.code == STATUS_MEMORY);
        arena_deinit(&a);
    }
    EXPECT_TRUE(passed);
}
