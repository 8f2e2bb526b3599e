/*
 * test_parse_geo.c -- dsql's own statements and clauses: recognised where they may stand, and nowhere
 * else.
 */
#include "node/sql/parse/parse.h"
#include "tests/lib/test.h"

struct geo_case {
    const char *text;
    const char *feature; /* NULL: nothing of ours. */
    int32_t position;
};

static void check_case(const struct geo_case *c)
{
    struct parse_result r = {0};
    struct sql_error err = {0};
    struct arena a;
    struct status st;

    arena_init(&a, 0);
    st = parse_statements(bytes_str(c->text), &a, &r, &err);
    if (!status_ok(st)) {
        test_fail(__FILE__, __LINE__, "%s: %s", c->text, status_text(st));
    } else if (r.count != 1) {
        test_fail(__FILE__, __LINE__, "%s: %u statements", c->text, r.count);
    } else if ((c->feature == NULL) != (r.stmts[0]->unsupported == NULL) ||
               (c->feature != NULL && strcmp(c->feature, r.stmts[0]->unsupported) != 0)) {
        test_fail(__FILE__, __LINE__, "%s: want %s, got %s", c->text,
                  c->feature == NULL ? "nothing" : c->feature,
                  r.stmts[0]->unsupported == NULL ? "nothing" : r.stmts[0]->unsupported);
    } else if (c->feature != NULL && r.stmts[0]->unsupported_location != c->position) {
        test_fail(__FILE__, __LINE__, "%s: want position %d, got %d", c->text, c->position,
                  r.stmts[0]->unsupported_location);
    }
    arena_deinit(&a);
}

TEST(parse_geo, whole_statements_are_ours)
{
    static const struct geo_case cases[] = {
        {"show regions", "SHOW REGIONS", 0},
        {" SHOW Regions FROM DATABASE d", "SHOW REGIONS", 1},
        {"show survival goal from database", "SHOW SURVIVAL GOAL", 0},
        {"show ranges from database d", "SHOW RANGES", 0},
        {"show create table t", "SHOW CREATE", 0},
        {"alter database d add region if not exists 'eu'", "ALTER DATABASE ADD REGION", 0},
        {"alter database \"D\" drop region eu", "ALTER DATABASE DROP REGION", 0},
        {"alter database d set primary region = eu", "ALTER DATABASE PRIMARY REGION", 0},
        {"alter database d survive region failure", "ALTER DATABASE SURVIVE", 0},
        {"alter database d placement restricted", "ALTER DATABASE PLACEMENT", 0},
        {"alter table if exists s.t set locality global", "ALTER TABLE LOCALITY", 0},
        {"alter table t set residency in (eu)", "ALTER TABLE RESIDENCY", 0},
        {"alter index t@i configure zone using a = 1", "CONFIGURE ZONE", 0},
        {"alter index t@i split at values (1)", "SPLIT AT", 0},
        {"alter range 5 relocate voters to 1", "ALTER RANGE", 0},
        {"backup into 'x'", "BACKUP", 0},
        {"create changefeed for t", "CREATE CHANGEFEED", 0},
        {"cancel query 'x'", "CANCEL QUERY", 0},
        {"set cluster setting a.b = 1", "CLUSTER SETTING", 0},
        {"show regions;", "SHOW REGIONS", 0},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        check_case(&cases[i]);
    }
}

TEST(parse_geo, clauses_are_cut_and_mark_their_statement)
{
    static const struct geo_case cases[] = {
        {"create table t (a int) locality global", "LOCALITY", 23},
        {"create table t (a int) locality regional by row as a", "LOCALITY", 23},
        {"create table t (a int) locality regional by table in primary region", "LOCALITY", 23},
        {"create table t (a int) locality regional in 'eu' with (fillfactor = 70)", "LOCALITY", 23},
        {"create table t (a int) residency in (eu, us)", "RESIDENCY", 23},
        {"create table t (a int) locality global residency in ('eu')", "LOCALITY", 23},
        {"create table t locality global as select 1", "CREATE TABLE AS", 0},
        {"update t set a = 1 as of system time '-1s' where a = 1", "AS OF SYSTEM TIME", 19},
        {"insert into t select 1 from t as of system time f(1, 2)", "AS OF SYSTEM TIME", 30},
        {"commit as of system time '-1s'", "AS OF SYSTEM TIME", 7},
        {"create database d primary region eu regions = eu, 'us' survive region failure",
         "CREATE DATABASE", 0},
        {"create database d survive zone failure placement restricted", "CREATE DATABASE", 0},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        check_case(&cases[i]);
    }
}

static const struct ast_expr *as_of(struct arena *a, const char *text)
{
    struct parse_result r = {0};
    struct sql_error err = {0};
    const struct status st = parse_statements(bytes_str(text), a, &r, &err);

    if (!status_ok(st) || r.count != 1 || r.stmts[0]->unsupported != NULL) {
        return NULL;
    }
    return r.stmts[0]->kind == AST_STMT_PREPARE ? r.stmts[0]->prepare->stmt->as_of
                                                : r.stmts[0]->as_of;
}

/* The expression behind it, where it stood in the text. */
TEST(parse_geo, as_of_system_time_gives_its_expression)
{
    static const struct {
        const char *text;
        enum ast_expr_kind kind;
        int32_t location;
    } cases[] = {
        {"select 1 from t as of system time '-1s' where a = 1", AST_CONST, 34},
        {"select (select 1 from t as of system time f(1, 2)), 2", AST_FUNCTION, 42},
        {"select 1 as of system time 1700000000000000000.0000000001", AST_CONST, 27},
        {"begin as of system time now()", AST_FUNCTION, 24},
        {"prepare p as select * from t as of system time -'5s'", AST_OP, 47},
        {"select 1 from t as of system time $1 limit 2", AST_PARAM, 34},
        {"select * from (select 1 from t as of system time '-1s') x, "
         "(select 1 from t as of  system time  '-1s' ) y",
         AST_CONST, 49},
    };
    struct arena a;

    arena_init(&a, 0);
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        const struct ast_expr *e = as_of(&a, cases[i].text);

        EXPECT_TRUE(e != NULL);
        if (e != NULL) {
            EXPECT_EQ(cases[i].kind, e->kind);
            EXPECT_EQ(cases[i].location, e->location);
        }
    }
    arena_deinit(&a);
}

TEST(parse_geo, as_of_system_time_must_be_one_expression_and_one_time)
{
    static const struct {
        const char *text;
        int32_t position;
    } cases[] = {
        {"select 1 from t as of system time 'a' 'b'", 38},
        {"select * from (select 1 from t as of system time '-1s') x, "
         "(select 1 from t as of system time '-2s') y",
         76},
        {"select 1 from t as of system time (", -1},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct parse_result r = {0};
        struct sql_error err = {0};
        struct arena a;

        arena_init(&a, 0);
        EXPECT_CODE(STATUS_SQL_ERROR, parse_statements(bytes_str(cases[i].text), &a, &r, &err));
        EXPECT_STREQ("42601", err.sqlstate);
        if (cases[i].position >= 0) {
            EXPECT_EQ(cases[i].position, err.position);
        }
        arena_deinit(&a);
    }
}

/* No word is reserved. */
TEST(parse_geo, the_words_stay_usable_as_names)
{
    static const struct geo_case cases[] = {
        {"select locality, region, survive from regions", NULL, 0},
        {"select 'as of system time', \"as\" of from system as locality", NULL, 0},
        {"create table locality (regional int, locality int default 1)", NULL, 0},
        {"select 1 /* as of system time 1 */", NULL, 0},
        {"select $$ locality global $$", NULL, 0},
        {"show region", NULL, 0},
        {"set locality = 1", NULL, 0},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        check_case(&cases[i]);
    }
}

TEST(parse_geo, statements_keep_their_order)
{
    static const char text[] = "select 1; show regions; select 2 from t as of system time 1; "
                               "show jobs; create table t (a int)";
    static const int32_t want[] = {0, 10, 24, 61, 72};
    struct parse_result r = {0};
    struct sql_error err = {0};
    struct arena a;

    arena_init(&a, 0);
    EXPECT_OK(parse_statements(BYTES_LIT(text), &a, &r, &err));
    EXPECT_EQ(ARRAY_COUNT(want), r.count);
    for (uint32_t i = 0; i < r.count; i++) {
        EXPECT_EQ(want[i], r.stmts[i]->location);
        EXPECT_EQ(i == 1 || i == 3, r.stmts[i]->unsupported != NULL);
        EXPECT_EQ(i == 2, r.stmts[i]->as_of != NULL);
    }
    arena_deinit(&a);
}

/* Cutting must not move what the parser says about the rest. */
TEST(parse_geo, a_syntax_error_beside_a_clause_keeps_its_position)
{
    struct parse_result r = {0};
    struct sql_error err = {0};
    struct arena a;

    arena_init(&a, 0);
    EXPECT_CODE(STATUS_SQL_ERROR,
                parse_statements(BYTES_LIT("create table t (a int) locality global wiht (b)"), &a,
                                 &r, &err));
    EXPECT_STREQ("42601", err.sqlstate);
    EXPECT_EQ(39, err.position);
    EXPECT_CODE(
        STATUS_SQL_ERROR,
        parse_statements(BYTES_LIT("create table t (a int) locality worldwide"), &a, &r, &err));
    EXPECT_STREQ("syntax error at or near \"locality\"", err.message);
    EXPECT_EQ(23, err.position);
    arena_deinit(&a);
}

/* Statements about ranges: names and values are read by PostgreSQL's grammar. */
TEST(parse_geo, statements_about_ranges_are_read)
{
    struct parse_result r = {0};
    struct sql_error err = {0};
    struct arena a;

    arena_init(&a, 0);
    EXPECT_OK(parse_statements(BYTES_LIT("show ranges from table public.\"T\"; "
                                         "alter table split split at values (1, 'a'), (2, $1); "
                                         "alter range 12 relocate lease to 3;"),
                               &a, &r, &err));
    EXPECT_EQ(3, r.count);
    for (uint32_t i = 0; i < r.count; i++) {
        EXPECT_EQ(AST_STMT_RANGES, r.stmts[i]->kind);
    }
    EXPECT_EQ(AST_RANGES_SHOW, r.stmts[0]->ranges->kind);
    EXPECT_STREQ("T", r.stmts[0]->ranges->table.name);
    EXPECT_EQ(23, r.stmts[0]->ranges->table.location);
    EXPECT_EQ(AST_RANGES_SPLIT, r.stmts[1]->ranges->kind);
    EXPECT_STREQ("split", r.stmts[1]->ranges->table.name);
    EXPECT_EQ(2, r.stmts[1]->ranges->rows->rows_count);
    EXPECT_EQ(AST_RANGES_TRANSFER, r.stmts[2]->ranges->kind);
    EXPECT_EQ(12, r.stmts[2]->ranges->range);
    EXPECT_EQ(3, r.stmts[2]->ranges->store);
    arena_deinit(&a);
}
