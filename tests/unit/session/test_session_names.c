/* Statements and portals by name, parameters, settings, cancelling. */
#include "node/catalog/catalog.h"
#include "tests/unit/session/session_rig.h"

#define SESSION_TEST(name)           \
    static void name(struct rig *r); \
    TEST(session_names, name)        \
    {                                \
        with_session(name);          \
    }                                \
    static void name(struct rig *r)

SESSION_TEST(named_statements_live_until_closed)
{
    EXPECT_TRUE(parse(r, "s", "select $1"));
    EXPECT_FALSE(parse(r, "s", "select 1"));
    EXPECT_STREQ("42P05!", hear(r));
    EXPECT_TRUE(bind_(r, "", "s", "x"));
    EXPECT_TRUE(session_execute(r->s, "", 0, &r->sink));
    EXPECT_STREQ("'x' SELECT 1", hear(r));
    session_close_statement(r->s, "s");
    session_close_statement(r->s, "s"); /* Closing nothing is fine. */
    EXPECT_FALSE(bind_(r, "", "s", "x"));
    EXPECT_STREQ("26000!", hear(r));
    EXPECT_FALSE(bind_(r, "", "", "x"));
    EXPECT_STREQ("26000!", hear(r));
    EXPECT_FALSE(session_execute(r->s, "nobody", 0, &r->sink));
    EXPECT_STREQ("34000!", hear(r));
    EXPECT_FALSE(parse(r, "m", "select 1; select 2"));
    EXPECT_STREQ("42601!", hear(r));
}

/* A Query destroys the unnamed statement and portal. */
SESSION_TEST(query_destroys_the_unnamed_ones)
{
    EXPECT_TRUE(parse(r, "", "select 1"));
    EXPECT_TRUE(bind_(r, "", "", NULL));
    EXPECT_STREQ("(?column?) 2 SELECT 1", query(r, "select 2"));
    EXPECT_FALSE(session_execute(r->s, "", 0, &r->sink));
    EXPECT_STREQ("34000!", hear(r));
    EXPECT_FALSE(bind_(r, "", "", NULL));
    EXPECT_STREQ("26000!", hear(r));
}

SESSION_TEST(statements_are_described)
{
    struct session_description d;

    EXPECT_TRUE(parse(r, "s", "select $1, 2"));
    EXPECT_TRUE(session_describe_statement(r->s, "s", &d, &r->sink));
    EXPECT_EQ(1, d.params_count);
    EXPECT_EQ(TYPE_TEXT, d.params[0]);
    EXPECT_TRUE(d.has_rows);
    EXPECT_EQ(2, d.rows.count);
    EXPECT_EQ(TYPE_INT4, d.rows.columns[1].type);
    EXPECT_TRUE(parse(r, "i", "insert into t values ('a')"));
    EXPECT_TRUE(session_describe_statement(r->s, "i", &d, &r->sink));
    EXPECT_FALSE(d.has_rows);
    EXPECT_TRUE(parse(r, "z", "show timezone"));
    EXPECT_TRUE(session_describe_statement(r->s, "z", &d, &r->sink));
    EXPECT_STREQ("TimeZone", d.rows.columns[0].name);
    EXPECT_TRUE(parse(r, "e", ""));
    EXPECT_TRUE(session_describe_statement(r->s, "e", &d, &r->sink));
    EXPECT_FALSE(d.has_rows);
    EXPECT_FALSE(session_describe_statement(r->s, "nobody", &d, &r->sink));
    EXPECT_STREQ("26000!", hear(r));
    EXPECT_FALSE(session_describe_portal(r->s, "nobody", &d, &r->sink));
    EXPECT_STREQ("34000!", hear(r));
}

SESSION_TEST(bind_counts_and_values_are_checked)
{
    const oid types[] = {TYPE_INT4};
    const struct bytes bad = BYTES_LIT("x");
    const int16_t formats[] = {0, 0, 0};
    struct session_bind b = {.portal = "", .statement = "s", .values = &bad, .values_count = 1};

    EXPECT_TRUE(session_parse(r->s, "s", BYTES_LIT("select $1"), types, 1, &r->sink));
    EXPECT_FALSE(session_bind(r->s, &b, &r->sink));
    EXPECT_STREQ("22P02!", hear(r));
    b.values_count = 0;
    EXPECT_FALSE(session_bind(r->s, &b, &r->sink));
    EXPECT_STREQ("08P01!", hear(r));
    b.values_count = 1;
    b.result_formats = formats;
    b.result_formats_count = 3;
    EXPECT_FALSE(session_bind(r->s, &b, &r->sink));
    EXPECT_STREQ("08P01!", hear(r));
    EXPECT_EQ('I', session_txn_state(r->s));
}

/* Rows in portions; the portal dies with its transaction. */
SESSION_TEST(portal_is_suspended_until_its_transaction_ends)
{
    EXPECT_STREQ("INSERT 0 3", query(r, "insert into t values ('a'), ('b'), ('c')"));
    EXPECT_STREQ("BEGIN", query(r, "begin"));
    EXPECT_TRUE(parse(r, "s", "select * from t"));
    EXPECT_TRUE(bind_(r, "p", "s", NULL));
    EXPECT_FALSE(bind_(r, "p", "s", NULL));
    EXPECT_STREQ("42P03!", hear(r));
    EXPECT_STREQ("ROLLBACK BEGIN", query(r, "rollback; begin"));
    EXPECT_TRUE(bind_(r, "p", "s", NULL));
    EXPECT_TRUE(session_execute(r->s, "p", 2, &r->sink));
    EXPECT_STREQ("'a' 'b' suspended", hear(r));
    EXPECT_STREQ("(?column?) 7 SELECT 1", query(r, "select 7")); /* In between. */
    EXPECT_TRUE(session_execute(r->s, "p", 2, &r->sink));
    EXPECT_STREQ("'c' SELECT 1", hear(r));
    EXPECT_TRUE(session_execute(r->s, "p", 2, &r->sink));
    EXPECT_STREQ("SELECT 0", hear(r));
    EXPECT_STREQ("COMMIT", query(r, "commit"));
    EXPECT_FALSE(session_execute(r->s, "p", 2, &r->sink));
    EXPECT_STREQ("34000!", hear(r));
}

SESSION_TEST(write_portal_runs_once)
{
    EXPECT_TRUE(parse(r, "", "insert into t values ('a')"));
    EXPECT_TRUE(bind_(r, "p", "", NULL));
    EXPECT_TRUE(session_execute(r->s, "p", 0, &r->sink));
    EXPECT_FALSE(session_execute(r->s, "p", 0, &r->sink));
    EXPECT_STREQ("INSERT 0 1 55000!", hear(r));
    EXPECT_STREQ("", sync_(r));
    EXPECT_STREQ("(text) SELECT 0", query(r, "select * from t"));
}

/* ---- PREPARE and EXECUTE ---- */

SESSION_TEST(execute_evaluates_its_arguments)
{
    EXPECT_STREQ("PREPARE", query(r, "prepare p (int4) as select $1"));
    EXPECT_STREQ("(?column?) 42 SELECT 1", query(r, "execute p (42)"));
    EXPECT_STREQ("(?column?) 43 SELECT 1", query(r, "execute p ('43')"));
    EXPECT_STREQ("22P02!", query(r, "execute p ('x')"));
    EXPECT_STREQ("42601!", query(r, "execute p"));
    EXPECT_STREQ("42P05!", query(r, "prepare p as select 1"));
    EXPECT_STREQ("PREPARE (?column?) 'y' SELECT 1",
                 query(r, "prepare n as select $1; execute n ('y')")); /* Type not declared. */
    EXPECT_STREQ("26000!", query(r, "execute nobody"));
    EXPECT_STREQ("42704!", query(r, "prepare q (nonsense) as select $1"));
    EXPECT_STREQ("PREPARE INSERT 0 1", query(r, "prepare i (text) as insert into t values ($1); "
                                                "execute i ('a')"));
    EXPECT_TRUE(bind_(r, "", "p", "44")); /* One name space with the protocol. */
    EXPECT_TRUE(session_execute(r->s, "", 0, &r->sink));
    r->type = 0;
    (void)hear(r);
    EXPECT_STREQ("", sync_(r));
    EXPECT_STREQ("DEALLOCATE 26000!", query(r, "deallocate p; execute p (1)"));
    EXPECT_STREQ("DEALLOCATE ALL 26000!", query(r, "deallocate all; execute i ('b')"));
    EXPECT_STREQ("26000!", query(r, "deallocate p"));
    EXPECT_STREQ("(text) 'a' SELECT 1", query(r, "select * from t"));
}

/* EXECUTE through Parse shows the columns of what it names; that may go away or change. */
SESSION_TEST(execute_survives_what_happens_to_its_statement)
{
    struct session_description d;

    EXPECT_STREQ("PREPARE", query(r, "prepare p as select 1"));
    EXPECT_TRUE(parse(r, "e", "execute p"));
    EXPECT_STREQ("DEALLOCATE", query(r, "deallocate p"));
    EXPECT_TRUE(session_describe_statement(r->s, "e", &d, &r->sink));
    EXPECT_STREQ("?column?", d.rows.columns[0].name);
    EXPECT_TRUE(bind_(r, "", "e", NULL));
    EXPECT_FALSE(session_execute(r->s, "", 0, &r->sink));
    EXPECT_STREQ("26000!", hear(r));
    EXPECT_STREQ("PREPARE", query(r, "prepare p as select 1, 2"));
    EXPECT_TRUE(bind_(r, "", "e", NULL));
    EXPECT_FALSE(session_execute(r->s, "", 0, &r->sink));
    EXPECT_STREQ("0A000!", hear(r));
    EXPECT_STREQ("DEALLOCATE PREPARE", query(r, "deallocate p; prepare p as select 3"));
    EXPECT_TRUE(bind_(r, "", "e", NULL));
    r->type = TYPE_INT4;
    EXPECT_TRUE(session_execute(r->s, "", 0, &r->sink));
    EXPECT_STREQ("3 SELECT 1", hear(r));
}

/* PREPARE cannot be taken back, so what ran with it is not run again. */
SESSION_TEST(prepare_is_not_repeated)
{
    r->kv.fail_commit = STATUS_TXN_RETRY;
    r->kv.fail_commits = 1;
    EXPECT_STREQ("40001!", query(r, "prepare p as select 1; insert into t values ('a')"));
    EXPECT_STREQ("(?column?) 1 SELECT 1", query(r, "execute p"));
}

/* ---- after a change of the schema ---- */

/* Two sessions share one compiled statement; one of them sees a table that the other must not use. */
SESSION_TEST(shared_statement_is_checked_for_each_session)
{
    const struct session_options options = {.user = "u", .database = "d", .backend_pid = 8};
    struct session *mine = r->s;
    struct session *other = NULL;

    EXPECT_OK(session_create(r->sql, &options, &other));
    EXPECT_TRUE(parse(r, "s", "insert into t values ($1)"));
    r->s = other;
    EXPECT_TRUE(parse(r, "s", "insert into t values ($1)"));
    EXPECT_TRUE(bind_(r, "", "s", "theirs")); /* Bound, not run yet. */
    r->s = mine;
    EXPECT_STREQ("BEGIN DROP TABLE CREATE TABLE",
                 query(r, "begin; drop table t; create table t (a text)"));
    EXPECT_TRUE(bind_(r, "", "s", "mine")); /* Compiles against the private table. */
    EXPECT_TRUE(session_execute(r->s, "", 0, &r->sink));
    EXPECT_STREQ("INSERT 0 1", hear(r));
    r->s = other;
    EXPECT_TRUE(session_execute(r->s, "", 0, &r->sink));
    EXPECT_STREQ("[INSERT 0 1]", hear(r));
    EXPECT_STREQ("INSERT 0 1", sync_(r));
    session_destroy(other);
    r->s = mine;
    EXPECT_STREQ("ROLLBACK", query(r, "rollback"));
    EXPECT_STREQ("(text) 'theirs' SELECT 1", query(r, "select * from t"));
}

SESSION_TEST(statement_survives_the_end_of_its_lease)
{
    EXPECT_TRUE(parse(r, "s", "select * from t"));
    EXPECT_OK(fiber_sleep(3 * CATALOG_LEASE_NS));
    EXPECT_TRUE(bind_(r, "", "s", NULL));
    EXPECT_TRUE(session_execute(r->s, "", 0, &r->sink));
    EXPECT_STREQ("SELECT 0", hear(r));
    EXPECT_STREQ("", sync_(r));
}

SESSION_TEST(changed_result_type_is_the_error_that_drivers_know)
{
    EXPECT_TRUE(parse(r, "s", "select * from t"));
    EXPECT_STREQ("DROP TABLE CREATE TABLE", query(r, "drop table t; create table t (a text)"));
    EXPECT_TRUE(bind_(r, "", "s", NULL)); /* Another table, same columns: goes on. */
    EXPECT_STREQ("DROP TABLE CREATE TABLE", query(r, "drop table t; create table t (a int4)"));
    EXPECT_FALSE(bind_(r, "", "s", NULL));
    EXPECT_STREQ("0A000!", hear(r));
    EXPECT_STREQ("cached plan must not change result type", r->message);
    EXPECT_STREQ("RevalidateCachedQuery", r->last.routine);
    EXPECT_STREQ("(text) SELECT 0", query(r, "select * from t")); /* By text: compiled anew. */
}

/* ---- settings ---- */

SESSION_TEST(settings_are_set_shown_and_undone)
{
    EXPECT_STREQ("TimeZone=<+02>-02 SET", query(r, "set timezone = '<+02>-02'"));
    EXPECT_STREQ("(TimeZone) '<+02>-02' SHOW", query(r, "show time zone"));
    EXPECT_STREQ("SET TimeZone=<-05>+05 SET TimeZone=<+02>-02 SET",
                 query(r, "set timezone = '<+02>-02'; "
                          "set time zone interval '-05:00' hour to minute; "
                          "set time zone interval '+02:00' hour to minute"));
    EXPECT_STREQ("0A000!", query(r, "set time zone interval '1 day'"));
    EXPECT_STREQ("BEGIN TimeZone=UTC SET TimeZone=<+02>-02 ROLLBACK",
                 query(r, "begin; set timezone = 'UTC'; rollback"));
    EXPECT_STREQ("BEGIN application_name=x SET application_name= COMMIT",
                 query(r, "begin; set local application_name = 'x'; commit"));
    EXPECT_STREQ("warning:25P01 application_name=y SET application_name=",
                 query(r, "set local application_name = 'y'"));
    EXPECT_STREQ("TimeZone=UTC RESET", query(r, "reset timezone"));
    EXPECT_STREQ("SET (work_mem) '64MB' SHOW", query(r, "set work_mem = '64MB'; show work_mem"));
    EXPECT_STREQ("SET (statement_timeout) '1min' SHOW RESET",
                 query(r, "set statement_timeout = 60000; show statement_timeout; reset all"));
    EXPECT_STREQ("22023!", query(r, "set work_mem = 'much'"));
    EXPECT_STREQ("22023!", query(r, "set work_mem = 1"));
    EXPECT_STREQ("22023!", query(r, "set timezone = 'Mars'"));
    EXPECT_STREQ("55P02!", query(r, "set server_version = '9'"));
    EXPECT_STREQ("42704!", query(r, "set nonsense = 1"));
    EXPECT_STREQ("42704!", query(r, "show nonsense"));
    EXPECT_STREQ("0A000!", query(r, "set client_encoding = 'LATIN1'"));
    EXPECT_STREQ("SET (a.b) 'c' SHOW", query(r, "set a.b = 'c'; show a.b"));
    EXPECT_STREQ("SET (search_path) '\"$user\", public, x' SHOW",
                 query(r, "set search_path = '$user', public, x; show search_path"));
    EXPECT_STREQ("(server_version) '15.20 (dsql 0.1)' SHOW", query(r, "show server_version"));
    EXPECT_STREQ("DISCARD ALL (search_path) '\"$user\", public' SHOW",
                 query(r, "discard all; show search_path"));
}

/* SET before and after SET LOCAL, in one transaction and around savepoints. */
SESSION_TEST(settings_follow_savepoints)
{
    EXPECT_STREQ("BEGIN SET SAVEPOINT SET ROLLBACK (work_mem) '2MB' SHOW COMMIT",
                 query(r, "begin; set work_mem = '2MB'; savepoint s; set work_mem = '3MB'; "
                          "rollback to s; show work_mem; commit"));
    EXPECT_STREQ("(work_mem) '2MB' SHOW", query(r, "show work_mem"));
    EXPECT_STREQ("BEGIN SET SET COMMIT (work_mem) '4MB' SHOW",
                 query(r, "begin; set work_mem = '4MB'; set local work_mem = '5MB'; commit; "
                          "show work_mem"));
    EXPECT_STREQ("BEGIN SET SET COMMIT (work_mem) '7MB' SHOW",
                 query(r, "begin; set local work_mem = '6MB'; set work_mem = '7MB'; commit; "
                          "show work_mem"));
}

SESSION_TEST(reported_parameters_come_in_postgres_order)
{
    const char *name = NULL;
    const char *value = NULL;

    EXPECT_TRUE(session_reported_parameter(r->s, 0, &name, &value));
    EXPECT_STREQ("application_name", name);
    EXPECT_TRUE(session_reported_parameter(r->s, 9, &name, &value));
    EXPECT_STREQ("server_version", name);
    EXPECT_STREQ("15.20 (dsql 0.1)", value);
    EXPECT_TRUE(session_reported_parameter(r->s, 10, &name, &value));
    EXPECT_STREQ("u", value); /* session_authorization */
    EXPECT_TRUE(session_reported_parameter(r->s, 12, &name, &value));
    EXPECT_FALSE(session_reported_parameter(r->s, 13, &name, &value));
}

/* Every parameter shows what it holds and takes it back. */
SESSION_TEST(show_all_tells_every_parameter)
{
    const char *heard = query(r, "show all");

    EXPECT_TRUE(strstr(heard, "SHOW") != NULL);
    EXPECT_TRUE(strstr(heard, "'TimeZone'") != NULL);
}

SESSION_TEST(startup_values_are_what_reset_goes_back_to)
{
    struct sql_error err;
    struct arena arena;

    arena_init(&arena, 0);
    EXPECT_TRUE(session_set_parameter(r->s, "application_name", "psql", &arena, &err));
    EXPECT_TRUE(session_set_parameter(r->s, "client_encoding", "'utf-8'", &arena, &err));
    EXPECT_STREQ("UTF8", session_get_parameter(r->s, "client_encoding"));
    EXPECT_STREQ("application_name=x SET application_name=psql RESET",
                 query(r, "set application_name = x; reset application_name"));
    EXPECT_FALSE(session_set_parameter(r->s, "nonsense", "1", &arena, &err));
    EXPECT_STREQ("42704", err.sqlstate);
    arena_deinit(&arena);
}

SESSION_TEST(quiet_clients_hear_no_notices)
{
    EXPECT_STREQ("SET DROP TABLE",
                 query(r, "set client_min_messages = warning; drop table if exists x"));
    EXPECT_STREQ("SET COMMIT", query(r, "set client_min_messages = error; commit"));
}

/* ---- cancelling ---- */

static void cancel_it(void *arg)
{
    struct rig *r = arg;

    if (status_ok(fiber_sleep(1000000))) {
        session_cancel(r->s);
    }
}

SESSION_TEST(cancel_ends_the_running_statement_only)
{
    session_cancel(r->s); /* Nothing runs: no effect. */
    EXPECT_STREQ("(?column?) 1 SELECT 1", query(r, "select 1"));
    r->kv.read_takes_ns = 1000000000;
    EXPECT_OK(fiber_spawn(r->shard, "cancel", cancel_it, r));
    EXPECT_STREQ("(text) 57014!", query(r, "select * from t"));
    EXPECT_STREQ("canceling statement due to user request", r->message);
    r->kv.read_takes_ns = 0;
    EXPECT_STREQ("(text) SELECT 0", query(r, "select * from t"));
}

SESSION_TEST(statement_timeout_has_its_own_words)
{
    EXPECT_STREQ("SET", query(r, "set statement_timeout = '5ms'"));
    r->kv.read_takes_ns = 1000000000;
    EXPECT_STREQ("(text) 57014!", query(r, "select * from t"));
    EXPECT_STREQ("canceling statement due to statement timeout", r->message);
    r->kv.read_takes_ns = 0;
    EXPECT_STREQ("(text) SELECT 0", query(r, "select * from t"));
    EXPECT_OK(fiber_sleep(10000000)); /* Idle: no statement, no timeout. */
    EXPECT_STREQ("RESET", query(r, "reset statement_timeout"));
}

/* ---- limits ---- */

SESSION_TEST(portals_are_bounded)
{
    char name[16];

    EXPECT_TRUE(parse(r, "s", "select 1"));
    for (int i = 0; i < (int)SESSION_PORTALS_MAX; i++) {
        (void)snprintf(name, sizeof(name), "p%d", i);
        EXPECT_TRUE(bind_(r, name, "s", NULL));
    }
    EXPECT_FALSE(bind_(r, "more", "s", NULL));
    EXPECT_STREQ("53400!", hear(r));
}

SESSION_TEST(statements_are_bounded)
{
    char name[16];

    for (int i = 0; i < (int)SESSION_STATEMENTS_MAX; i++) {
        (void)snprintf(name, sizeof(name), "s%d", i);
        EXPECT_TRUE(parse(r, name, "select 1"));
    }
    EXPECT_FALSE(parse(r, "more", "select 1"));
    EXPECT_STREQ("53400!", hear(r));
}

/* More texts than the cache holds: the oldest go, nothing else happens. */
SESSION_TEST(cache_is_bounded)
{
    char text[32];

    for (int i = 0; i < 5000; i++) {
        (void)snprintf(text, sizeof(text), "select %d", i);
        (void)query(r, text);
    }
    EXPECT_STREQ("(?column?) 0 SELECT 1", query(r, "select 0"));
}
