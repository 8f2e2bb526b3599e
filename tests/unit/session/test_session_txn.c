/* The transaction of a session: implicit, block, failed, savepoints, running again. */
#include "tests/unit/session/session_rig.h"

#define SESSION_TEST(name)           \
    static void name(struct rig *r); \
    TEST(session_txn, name)          \
    {                                \
        with_session(name);          \
    }                                \
    static void name(struct rig *r)

SESSION_TEST(query_is_committed_at_its_end)
{
    EXPECT_STREQ("INSERT 0 1", query(r, "insert into t values ('a')"));
    EXPECT_EQ('I', session_txn_state(r->s));
    EXPECT_STREQ("(text) 'a' SELECT 1", query(r, "select * from t"));
    EXPECT_STREQ("empty", query(r, ""));
    EXPECT_STREQ("empty", query(r, " ; ; -- nothing"));
}

/* Several statements in one text are one transaction: an error undoes all of them. */
SESSION_TEST(statements_of_one_query_stand_and_fall_together)
{
    const uint64_t commits = r->kv.commits;

    EXPECT_STREQ("INSERT 0 1 INSERT 0 2 (text) 'a' 'b' 'c' SELECT 3",
                 query(r, "insert into t values ('a'); insert into t values ('b'), ('c'); "
                          "select * from t"));
    EXPECT_EQ(commits + 1, r->kv.commits);
    EXPECT_STREQ("INSERT 0 1 42P01!",
                 query(r, "insert into t values ('d'); select * from missing"));
    EXPECT_STREQ("(text) 'a' 'b' 'c' SELECT 3", query(r, "select * from t"));
}

/* A syntax error in the last statement stops the first one from running. */
SESSION_TEST(text_is_parsed_before_anything_runs)
{
    const uint64_t reads = r->kv.reads;

    EXPECT_STREQ("42601!", query(r, "insert into t values ('a'); selec 1"));
    EXPECT_EQ(28, r->last.position);
    EXPECT_EQ(reads, r->kv.reads);
}

SESSION_TEST(block_commits_and_rolls_back)
{
    EXPECT_STREQ("BEGIN", query(r, "begin"));
    EXPECT_EQ('T', session_txn_state(r->s));
    EXPECT_STREQ("INSERT 0 1", query(r, "insert into t values ('a')"));
    EXPECT_STREQ("(text) 'a' SELECT 1", query(r, "select * from t"));
    EXPECT_STREQ("ROLLBACK", query(r, "rollback"));
    EXPECT_EQ('I', session_txn_state(r->s));
    EXPECT_STREQ("(text) SELECT 0", query(r, "select * from t"));
    EXPECT_STREQ("START TRANSACTION INSERT 0 1 COMMIT",
                 query(r, "start transaction; insert into t values ('b'); commit"));
    EXPECT_STREQ("(text) 'b' SELECT 1", query(r, "select * from t"));
}

SESSION_TEST(failed_block_only_ends)
{
    EXPECT_STREQ("BEGIN", query(r, "begin"));
    EXPECT_STREQ("INSERT 0 1", query(r, "insert into t values ('a')"));
    EXPECT_STREQ("42P01!", query(r, "select * from missing"));
    EXPECT_EQ('E', session_txn_state(r->s));
    EXPECT_STREQ("25P02!", query(r, "select 1"));
    EXPECT_STREQ("25P02!", query(r, "show timezone"));
    EXPECT_STREQ("25P02!", query(r, "begin"));
    EXPECT_STREQ("25P02!", query(r, "savepoint a"));
    EXPECT_STREQ("3B001!", query(r, "rollback to a"));
    EXPECT_STREQ("25P02!", query(r, "select 1; select 2"));
    EXPECT_FALSE(parse(r, "", "select 1"));
    EXPECT_STREQ("25P02!", hear(r));
    EXPECT_TRUE(parse(r, "", "commit"));
    EXPECT_TRUE(bind_(r, "", "", NULL));
    EXPECT_TRUE(session_execute(r->s, "", 0, &r->sink));
    EXPECT_STREQ("ROLLBACK", hear(r)); /* A COMMIT that could not. */
    EXPECT_EQ('I', session_txn_state(r->s));
    EXPECT_STREQ("(text) SELECT 0", query(r, "select * from t"));
}

SESSION_TEST(misplaced_control_is_warned_about)
{
    EXPECT_STREQ("warning:25P01 COMMIT", query(r, "commit"));
    EXPECT_STREQ("warning:25P01 ROLLBACK", query(r, "rollback"));
    EXPECT_STREQ("BEGIN warning:25001 BEGIN", query(r, "begin; begin"));
    EXPECT_STREQ("ROLLBACK", query(r, "rollback"));
    EXPECT_STREQ("25P01!", query(r, "savepoint a"));
    EXPECT_STREQ("25P01!", query(r, "release a"));
    EXPECT_STREQ("25P01!", query(r, "rollback to a"));
}

/* BEGIN behind other statements takes them into the block; COMMIT splits a text. */
SESSION_TEST(control_inside_a_text_moves_its_borders)
{
    EXPECT_STREQ("INSERT 0 1 BEGIN INSERT 0 1",
                 query(r, "insert into t values ('a'); begin; insert into t values ('b')"));
    EXPECT_EQ('T', session_txn_state(r->s));
    EXPECT_STREQ("ROLLBACK (text) SELECT 0", query(r, "rollback; select * from t"));
    EXPECT_STREQ("INSERT 0 1 warning:25P01 COMMIT INSERT 0 1 42P01!",
                 query(r, "insert into t values ('c'); commit; insert into t values ('d'); "
                          "select * from missing"));
    EXPECT_STREQ("(text) 'c' SELECT 1", query(r, "select * from t"));
}

SESSION_TEST(savepoints_take_back_what_came_after)
{
    EXPECT_STREQ("BEGIN INSERT 0 1 SAVEPOINT INSERT 0 1 SAVEPOINT INSERT 0 1",
                 query(r, "begin; insert into t values ('a'); savepoint x; "
                          "insert into t values ('b'); savepoint y; insert into t values ('c')"));
    EXPECT_STREQ("ROLLBACK (text) 'a' 'b' SELECT 2", query(r, "rollback to y; select * from t"));
    EXPECT_STREQ("42P01!", query(r, "select * from missing"));
    EXPECT_STREQ("ROLLBACK (text) 'a' SELECT 1", query(r, "rollback to x; select * from t"));
    EXPECT_STREQ("3B001!", query(r, "rollback to y")); /* Gone with x. */
    EXPECT_STREQ("ROLLBACK RELEASE", query(r, "rollback to x; release x"));
    EXPECT_STREQ("INSERT 0 1 COMMIT", query(r, "insert into t values ('d'); commit"));
    EXPECT_STREQ("(text) 'a' 'd' SELECT 2", query(r, "select * from t"));
}

/* A savepoint before the first read or write. */
SESSION_TEST(savepoint_before_anything_happened)
{
    EXPECT_STREQ("BEGIN SAVEPOINT INSERT 0 1 ROLLBACK INSERT 0 1 COMMIT",
                 query(r, "begin; savepoint x; insert into t values ('a'); rollback to x; "
                          "insert into t values ('b'); commit"));
    EXPECT_STREQ("(text) 'b' SELECT 1", query(r, "select * from t"));
}

SESSION_TEST(too_many_savepoints_are_refused)
{
    EXPECT_STREQ("BEGIN", query(r, "begin"));
    for (int i = 0; i < 1000; i++) {
        EXPECT_STREQ("SAVEPOINT", query(r, "savepoint x"));
    }
    EXPECT_STREQ("53400!", query(r, "savepoint x"));
    EXPECT_STREQ("ROLLBACK", query(r, "rollback"));
}

/* ---- running again ---- */

SESSION_TEST(conflicting_query_runs_again_unseen)
{
    EXPECT_STREQ("INSERT 0 1", query(r, "insert into t values ('a')"));
    r->kv.fail_commit = STATUS_TXN_RETRY;
    r->kv.fail_commits = 4;
    EXPECT_STREQ("(text) 'a' SELECT 1 INSERT 0 1",
                 query(r, "select * from t; insert into t values ('b')"));
    EXPECT_EQ(4, r->rewinds);
    r->kv.fail_commits = 1000;
    EXPECT_STREQ("40001!", query(r, "insert into t values ('c')"));
    EXPECT_EQ(1000 - 51, r->kv.fail_commits);
    r->kv.fail_commits = 0;
    EXPECT_STREQ("(text) 'a' 'b' SELECT 2", query(r, "select * from t"));
}

/* What has left cannot be taken back: the client hears of the conflict. */
SESSION_TEST(conflict_after_rows_have_left_is_told)
{
    r->no_rewind = true;
    r->kv.fail_commit = STATUS_TXN_RETRY;
    r->kv.fail_commits = 1;
    EXPECT_STREQ("INSERT 0 1 40001!", query(r, "insert into t values ('b')"));
    EXPECT_EQ(0, r->kv.fail_commits);
}

SESSION_TEST(conflict_during_a_read_runs_again)
{
    EXPECT_STREQ("(text) SELECT 0", query(r, "select * from t")); /* Now the lease is there. */
    r->kv.fail = STATUS_TXN_RETRY;
    r->kv.fail_in = 1;
    EXPECT_STREQ("(text) SELECT 0", query(r, "select * from t"));
    EXPECT_EQ(1, r->rewinds);
}

SESSION_TEST(explicit_block_hears_of_its_conflict)
{
    EXPECT_STREQ("BEGIN INSERT 0 1", query(r, "begin; insert into t values ('a')"));
    r->kv.fail_commit = STATUS_TXN_RETRY;
    r->kv.fail_commits = 1;
    EXPECT_STREQ("40001!", query(r, "commit"));
    EXPECT_EQ('I', session_txn_state(r->s));
    EXPECT_STREQ("The transaction might succeed if retried.", r->last.hint);
    EXPECT_STREQ("(text) SELECT 0", query(r, "select * from t"));
}

SESSION_TEST(unknown_outcome_is_40003)
{
    r->kv.fail_commit = STATUS_AMBIGUOUS;
    r->kv.fail_commits = 1;
    EXPECT_STREQ("40003!", query(r, "insert into t values ('a')"));
    r->kv.fail_commits = 1;
    r->kv.fail_commit = STATUS_UNAVAILABLE;
    EXPECT_STREQ("08006!", query(r, "insert into t values ('b')"));
}

SESSION_TEST(duplicate_key_at_the_commit_names_its_constraint)
{
    EXPECT_STREQ("INSERT 0 1", query(r, "insert into t values ('a')"));
    EXPECT_STREQ("23505!", query(r, "insert into t values ('a')"));
    EXPECT_STREQ("duplicate key in \"t\"", r->message);
    EXPECT_STREQ("pkey", r->last.constraint);
    EXPECT_STREQ("BEGIN", query(r, "begin"));
    EXPECT_STREQ("23505!", query(r, "insert into t values ('a')")); /* At once in a block. */
    EXPECT_STREQ("duplicate key at once", r->message);
    EXPECT_STREQ("ROLLBACK", query(r, "rollback"));
}

/* ---- the extended protocol ---- */

SESSION_TEST(write_is_held_until_sync)
{
    EXPECT_STREQ("[INSERT 0 1]", run(r, "insert into t values ($1)", "a"));
    EXPECT_STREQ("INSERT 0 1", sync_(r));
    EXPECT_STREQ("'a' SELECT 1", run(r, "select * from t", NULL));
    EXPECT_STREQ("", sync_(r));
}

SESSION_TEST(everything_up_to_sync_is_one_transaction)
{
    const uint64_t commits = r->kv.commits;

    EXPECT_STREQ("[INSERT 0 1]", run(r, "insert into t values ($1)", "a"));
    EXPECT_STREQ("[INSERT 0 1 INSERT 0 1]", run(r, "insert into t values ($1)", "b"));
    EXPECT_STREQ("INSERT 0 1 INSERT 0 1", sync_(r));
    EXPECT_EQ(commits + 1, r->kv.commits);
    EXPECT_STREQ("[INSERT 0 1]", run(r, "insert into t values ($1)", "c"));
    EXPECT_STREQ("INSERT 0 1 42P01!", run(r, "select * from missing", NULL));
    EXPECT_STREQ("", sync_(r));
    EXPECT_STREQ("(text) 'a' 'b' SELECT 2", query(r, "select * from t"));
}

SESSION_TEST(single_portal_runs_again_at_sync)
{
    r->kv.fail_commit = STATUS_TXN_RETRY;
    r->kv.fail_commits = 3;
    EXPECT_STREQ("['a' INSERT 0 1]", run(r, "insert into t values ($1) returning a", "a"));
    EXPECT_STREQ("'a' INSERT 0 1", sync_(r));
    EXPECT_EQ(3, r->rewinds);
    EXPECT_STREQ("(text) 'a' SELECT 1", query(r, "select * from t"));
}

/* With two the client decides. */
SESSION_TEST(several_portals_do_not_run_again)
{
    r->kv.fail_commit = STATUS_TXN_RETRY;
    r->kv.fail_commits = 1;
    EXPECT_STREQ("[INSERT 0 1]", run(r, "insert into t values ($1)", "a"));
    EXPECT_STREQ("[INSERT 0 1 INSERT 0 1]", run(r, "insert into t values ($1)", "b"));
    EXPECT_STREQ("40001!", sync_(r));
    EXPECT_EQ('I', session_txn_state(r->s));
    EXPECT_STREQ("(text) SELECT 0", query(r, "select * from t"));
}

SESSION_TEST(duplicate_key_at_sync_replaces_the_tag)
{
    EXPECT_STREQ("INSERT 0 1", query(r, "insert into t values ('a')"));
    EXPECT_STREQ("[INSERT 0 1]", run(r, "insert into t values ($1)", "a"));
    EXPECT_STREQ("23505!", sync_(r));
}

SESSION_TEST(block_spans_syncs)
{
    EXPECT_STREQ("BEGIN", run(r, "begin", NULL));
    EXPECT_STREQ("", sync_(r));
    EXPECT_EQ('T', session_txn_state(r->s));
    EXPECT_STREQ("INSERT 0 1", run(r, "insert into t values ($1)", "a")); /* Not held. */
    EXPECT_STREQ("", sync_(r));
    EXPECT_STREQ("COMMIT", run(r, "commit", NULL));
    EXPECT_STREQ("", sync_(r));
    EXPECT_STREQ("(text) 'a' SELECT 1", query(r, "select * from t"));
}

/* ---- modes ---- */

SESSION_TEST(read_only_refuses_writes)
{
    EXPECT_STREQ("BEGIN", query(r, "begin read only"));
    EXPECT_STREQ("(transaction_read_only) 'on' SHOW", query(r, "show transaction_read_only"));
    EXPECT_STREQ("25006!", query(r, "insert into t values ('a')"));
    EXPECT_STREQ("ROLLBACK", query(r, "rollback"));
    EXPECT_STREQ("default_transaction_read_only=on SET",
                 query(r, "set default_transaction_read_only = on"));
    EXPECT_STREQ("25006!", query(r, "insert into t values ('a')"));
    EXPECT_STREQ("25006!", query(r, "create table v (a text)"));
    EXPECT_STREQ("BEGIN INSERT 0 1 COMMIT",
                 query(r, "begin read write; insert into t values ('a'); commit"));
}

SESSION_TEST(isolation_is_shown_as_asked)
{
    EXPECT_STREQ("BEGIN (transaction_isolation) 'repeatable read' SHOW COMMIT",
                 query(r, "begin isolation level repeatable read; show transaction_isolation; "
                          "commit"));
    EXPECT_STREQ("(transaction_isolation) 'serializable' SHOW",
                 query(r, "show transaction isolation level"));
    EXPECT_STREQ("BEGIN (text) SELECT 0 SET 25001!",
                 query(r, "begin; select * from t; set transaction isolation level serializable; "
                          "set transaction isolation level read committed"));
    EXPECT_STREQ("ROLLBACK", query(r, "rollback"));
    EXPECT_STREQ("SET BEGIN (transaction_isolation) 'read committed' SHOW COMMIT",
                 query(r, "set session characteristics as transaction isolation level read "
                          "committed; begin; show transaction_isolation; commit"));
    EXPECT_STREQ("warning:25P01 SET", query(r, "set transaction read only"));
}

SESSION_TEST(what_is_not_there_is_refused_by_name)
{
    EXPECT_STREQ("0A000!", query(r, "commit and chain"));
    EXPECT_STREQ("0A000!", query(r, "prepare transaction 'x'"));
    EXPECT_STREQ("0A000!", query(r, "explain select 1"));
    EXPECT_STREQ("0A000!", query(r, "copy t from stdin"));
    EXPECT_STREQ("0A000!", query(r, "create view v as select 1"));
}

/* ---- DDL ---- */

SESSION_TEST(tables_come_and_go)
{
    EXPECT_STREQ("42P07!", query(r, "create table t (a text)"));
    EXPECT_STREQ("notice:42P07 CREATE TABLE", query(r, "create table if not exists t (a text)"));
    EXPECT_STREQ("42P01!", query(r, "drop table t, missing"));
    EXPECT_STREQ("(text) SELECT 0", query(r, "select * from t")); /* Still there. */
    EXPECT_STREQ("DROP TABLE", query(r, "drop table t"));
    EXPECT_STREQ("42P01!", query(r, "select * from t"));
    EXPECT_STREQ("notice:00000 DROP TABLE", query(r, "drop table if exists t"));
}

SESSION_TEST(ddl_stands_and_falls_with_its_transaction)
{
    EXPECT_STREQ("INSERT 0 1 CREATE TABLE INSERT 0 1 (text) 'b' SELECT 1 42P01!",
                 query(r, "insert into t values ('a'); create table v (a text); "
                          "insert into v values ('b'); select * from v; select * from missing"));
    EXPECT_STREQ("(text) SELECT 0", query(r, "select * from t"));
    EXPECT_STREQ("42P01!", query(r, "select * from v"));
    EXPECT_STREQ("BEGIN CREATE TABLE INSERT 0 1 COMMIT",
                 query(r, "begin; create table v (a text); insert into v values ('c'); commit"));
    EXPECT_STREQ("(text) 'c' SELECT 1", query(r, "select * from v"));
    EXPECT_STREQ("BEGIN DROP TABLE 42P01!", query(r, "begin; drop table v; select * from v"));
    EXPECT_STREQ("ROLLBACK (text) 'c' SELECT 1", query(r, "rollback; select * from v"));
    EXPECT_STREQ("BEGIN DROP TABLE COMMIT", query(r, "begin; drop table v; commit"));
    EXPECT_STREQ("42P01!", query(r, "select * from v"));
}

/* Statements that are cached for everybody may not be used behind a DROP that only we can see. */
SESSION_TEST(cached_statement_is_not_used_behind_own_drop)
{
    EXPECT_STREQ("(text) SELECT 0", query(r, "select * from t"));
    EXPECT_STREQ("BEGIN", query(r, "begin"));
    EXPECT_STREQ("DROP TABLE", query(r, "drop table t"));
    EXPECT_STREQ("42P01!", query(r, "select * from t"));
    EXPECT_STREQ("ROLLBACK", query(r, "rollback"));
    EXPECT_STREQ("(text) SELECT 0", query(r, "select * from t"));
    EXPECT_STREQ("BEGIN DROP TABLE CREATE TABLE", query(r, "begin; drop table t; "
                                                           "create table t (a int4)"));
    EXPECT_STREQ("(text) SELECT 0", query(r, "select * from t"));
    EXPECT_STREQ("42P07!", query(r, "create table t (a text)"));
    EXPECT_STREQ("ROLLBACK", query(r, "rollback"));
}

SESSION_TEST(savepoints_take_back_ddl)
{
    EXPECT_STREQ("BEGIN CREATE TABLE SAVEPOINT DROP TABLE CREATE TABLE",
                 query(r, "begin; create table v (a text); savepoint s; drop table v; "
                          "create table w (a text)"));
    EXPECT_STREQ("SAVEPOINT", query(r, "savepoint u"));
    EXPECT_STREQ("42P01!", query(r, "select * from v"));
    EXPECT_STREQ("ROLLBACK (text) SELECT 0", query(r, "rollback to s; select * from v"));
    EXPECT_STREQ("42P01!", query(r, "select * from w"));
    EXPECT_STREQ("ROLLBACK COMMIT", query(r, "rollback to s; commit"));
    EXPECT_STREQ("(text) SELECT 0", query(r, "select * from v"));
    EXPECT_STREQ("42P01!", query(r, "select * from w"));
}

/* Nobody else sees a table before its commit, nor what was compiled against it. */
SESSION_TEST(uncommitted_table_is_private)
{
    const struct session_options options = {.user = "u", .database = "d", .backend_pid = 8};
    struct session *mine = r->s;
    struct session *other = NULL;

    EXPECT_OK(session_create(r->sql, &options, &other));
    EXPECT_STREQ("BEGIN CREATE TABLE INSERT 0 1",
                 query(r, "begin; create table v (a text); insert into v values ('a')"));
    EXPECT_STREQ("(text) 'a' SELECT 1", query(r, "select * from v"));
    r->s = other;
    EXPECT_STREQ("42P01!", query(r, "select * from v"));
    r->s = mine;
    EXPECT_STREQ("COMMIT", query(r, "commit"));
    r->s = other;
    EXPECT_STREQ("(text) 'a' SELECT 1", query(r, "select * from v"));
    EXPECT_STREQ("BEGIN DROP TABLE", query(r, "begin; drop table v"));
    r->s = mine;
    EXPECT_STREQ("(text) 'a' SELECT 1", query(r, "select * from v"));
    session_destroy(other); /* With its transaction open. */
    EXPECT_STREQ("(text) 'a' SELECT 1", query(r, "select * from v"));
}

/* Two creators of one name: the second to commit hears of it. */
SESSION_TEST(creators_of_one_name_conflict)
{
    const struct session_options options = {.user = "u", .database = "d", .backend_pid = 8};
    struct session *mine = r->s;
    struct session *other = NULL;

    EXPECT_OK(session_create(r->sql, &options, &other));
    EXPECT_STREQ("BEGIN CREATE TABLE", query(r, "begin; create table v (a text)"));
    r->s = other;
    EXPECT_STREQ("BEGIN CREATE TABLE COMMIT", query(r, "begin; create table v (a text); commit"));
    session_destroy(other);
    r->s = mine;
    EXPECT_STREQ("40001!", query(r, "commit"));
    EXPECT_STREQ("(text) SELECT 0", query(r, "select * from v"));
}

/* A conflict among DDL of one text: run again from the start, seen once. */
SESSION_TEST(conflicting_ddl_runs_again)
{
    r->kv.fail_commit = STATUS_TXN_RETRY;
    r->kv.fail_commits = 6;
    EXPECT_STREQ("CREATE TABLE INSERT 0 1",
                 query(r, "create table v (a text); insert into v values ('a')"));
    EXPECT_EQ(0, r->kv.fail_commits);
    EXPECT_STREQ("(text) 'a' SELECT 1", query(r, "select * from v"));
}

SESSION_TEST(truncate_empties_in_the_transaction)
{
    EXPECT_STREQ("INSERT 0 2 INSERT 0 1",
                 query(r, "insert into t values ('a'), ('b'); insert into u values ('c')"));
    EXPECT_STREQ("BEGIN TRUNCATE TABLE (text) SELECT 0 ROLLBACK",
                 query(r, "begin; truncate t, u; select * from t; rollback"));
    EXPECT_STREQ("(text) 'a' 'b' SELECT 2", query(r, "select * from t"));
    EXPECT_STREQ("TRUNCATE TABLE (text) SELECT 0 (text) 'c' SELECT 1",
                 query(r, "truncate table t; select * from t; select * from u"));
}

/* ---- isolation, locks ---- */

SESSION_TEST(isolation_and_lock_timeout_reach_the_transaction)
{
    EXPECT_STREQ("BEGIN (text) SELECT 0 COMMIT", query(r, "begin; select * from t; commit"));
    EXPECT_EQ(TXN_SERIALIZABLE, r->kv.begun.isolation);
    EXPECT_EQ(0, r->kv.begun.lock_timeout_ns);
    EXPECT_STREQ("SET BEGIN (text) SELECT 0 COMMIT",
                 query(r, "set lock_timeout = '2s'; begin isolation level read uncommitted; "
                          "select * from t; commit"));
    EXPECT_EQ(TXN_READ_COMMITTED, r->kv.begun.isolation);
    EXPECT_EQ(2000000000, r->kv.begun.lock_timeout_ns);
    EXPECT_STREQ("BEGIN (text) SELECT 0 SET (text) SELECT 0 COMMIT",
                 query(r, "begin; select * from t; set local lock_timeout = 5; select * from t; "
                          "commit"));
    EXPECT_EQ(5000000, r->kv.begun.lock_timeout_ns);
    EXPECT_STREQ("BEGIN (text) SELECT 0 COMMIT",
                 query(r, "begin isolation level repeatable read; select * from t; commit"));
    EXPECT_EQ(TXN_SERIALIZABLE, r->kv.begun.isolation);
}

/* Statements without BEGIN run, and say that they run, at the default level. */
SESSION_TEST(default_isolation_is_that_of_implicit_transactions)
{
    EXPECT_STREQ("SET (transaction_isolation) 'read committed' SHOW",
                 query(r, "set default_transaction_isolation = 'read committed'; "
                          "show transaction_isolation"));
    EXPECT_STREQ("(text) SELECT 0", query(r, "select * from t"));
    EXPECT_EQ(TXN_READ_COMMITTED, r->kv.begun.isolation);
    EXPECT_STREQ("BEGIN SET (transaction_isolation) 'serializable' SHOW (text) SELECT 0 COMMIT",
                 query(r, "begin; set transaction_isolation = 'serializable'; "
                          "show transaction_isolation; select * from t; commit"));
    EXPECT_EQ(TXN_SERIALIZABLE, r->kv.begun.isolation);
    EXPECT_STREQ("(transaction_isolation) 'read committed' SHOW",
                 query(r, "show transaction_isolation"));
}

SESSION_TEST(modes_are_settled_by_the_first_query)
{
    EXPECT_STREQ("BEGIN SET (text) SELECT 0 25001!",
                 query(r, "begin; set transaction isolation level read committed; "
                          "select * from t; set transaction_isolation = 'serializable'"));
    EXPECT_STREQ("ROLLBACK", query(r, "rollback"));
}

/* Nothing came before it, so the whole transaction can be begun anew. */
SESSION_TEST(first_statement_of_a_block_runs_again)
{
    fake_kv_put(&r->kv, BYTES_LIT("t/a"), BYTES_LIT("a"));
    EXPECT_STREQ("BEGIN SAVEPOINT", query(r, "begin; savepoint x"));
    r->kv.fail = STATUS_TXN_RETRY;
    r->kv.fail_in = 1;
    EXPECT_STREQ("(text) 'a' SELECT 1", query(r, "select * from t"));
    EXPECT_EQ(1, r->rewinds);
    EXPECT_FALSE(hts_is_zero(r->kv.begun.began)); /* It began with its first try. */
    EXPECT_STREQ("ROLLBACK (text) 'a' SELECT 1 COMMIT",
                 query(r, "rollback to x; select * from t; commit"));
}

SESSION_TEST(first_statement_is_not_repeated_under_the_clients_eyes)
{
    r->no_rewind = true;
    EXPECT_STREQ("BEGIN", query(r, "begin"));
    r->kv.fail = STATUS_TXN_RETRY;
    r->kv.fail_in = 1;
    EXPECT_STREQ("(text) 40001!", query(r, "select * from t"));
    EXPECT_EQ('E', session_txn_state(r->s));
}

/* What an earlier statement has read must stay true: only the client can begin anew. */
SESSION_TEST(later_statements_of_serializable_blocks_fail)
{
    EXPECT_STREQ("BEGIN (text) SELECT 0", query(r, "begin; select * from t"));
    r->kv.fail = STATUS_TXN_RETRY;
    r->kv.fail_in = 1;
    EXPECT_STREQ("40001!", query(r, "insert into t values ('b')"));
    EXPECT_STREQ("ROLLBACK", query(r, "rollback"));
}

SESSION_TEST(later_statements_run_again_when_reads_are_committed)
{
    EXPECT_STREQ("BEGIN INSERT 0 1",
                 query(r, "begin isolation level read committed; insert into t values ('a')"));
    r->kv.fail = STATUS_TXN_RETRY;
    r->kv.fail_in = 2;
    EXPECT_STREQ("INSERT 0 2", query(r, "insert into t values ('b'), ('c')"));
    EXPECT_STREQ("(text) 'a' 'b' 'c' SELECT 3 COMMIT", query(r, "select * from t; commit"));
}

/* Not for ever: a statement that always meets a conflict ends with 40001. */
SESSION_TEST(statements_run_again_a_bounded_number_of_times)
{
    EXPECT_STREQ("BEGIN (text) SELECT 0",
                 query(r, "begin isolation level read committed; select * from t"));
    r->kv.fail_always = STATUS_TXN_RETRY;
    r->kv.statements = 0;
    EXPECT_STREQ("(text) 40001!", query(r, "select * from t"));
    EXPECT_EQ(1 + SESSION_STATEMENT_RETRIES_MAX, r->kv.statements);
    r->kv.fail_always = STATUS_OK;
    EXPECT_STREQ("ROLLBACK", query(r, "rollback"));
}

SESSION_TEST(lock_errors_have_postgres_texts)
{
    r->kv.fail = STATUS_LOCKED;
    r->kv.fail_in = 1;
    EXPECT_STREQ("(text) 55P03!", query(r, "select * from t"));
    EXPECT_STREQ("canceling statement due to lock timeout", r->message);
    r->kv.fail = STATUS_DEADLOCK;
    r->kv.fail_in = 1;
    EXPECT_STREQ("(text) 40P01!", query(r, "select * from t"));
    EXPECT_STREQ("deadlock detected", r->message);
}

/* ---- AS OF SYSTEM TIME ---- */

SESSION_TEST(past_is_read_at_the_time_that_is_named)
{
    const uint64_t second = 1000000000;
    uint64_t now = hclock_hts(hlc_now(&r->hlc)).wall;

    EXPECT_STREQ("(text) SELECT 0", query(r, "select * from t as of system time '-1m30s'"));
    EXPECT_TRUE(r->kv.begun.read_only);
    EXPECT_TRUE(r->kv.begun.as_of.wall >= now - 90 * second);
    now = hclock_hts(hlc_now(&r->hlc)).wall;
    EXPECT_TRUE(r->kv.begun.as_of.wall <= now - 90 * second);
    EXPECT_STREQ("(text) SELECT 0",
                 query(r, "select * from t as of system time '1400000000000000000.0000000007'"));
    EXPECT_EQ(1400000000000000000, r->kv.begun.as_of.wall);
    EXPECT_EQ(7, r->kv.begun.as_of.logical);
    EXPECT_STREQ(
        "(text) SELECT 0",
        query(r, "select * from t as of system time timestamptz '2001-09-09 01:46:40+00'"));
    EXPECT_EQ(1000000000 * second, r->kv.begun.as_of.wall);
    EXPECT_STREQ("(text) SELECT 0",
                 query(r, "select * from t as of system time follower_read_timestamp()"));
    EXPECT_TRUE(r->kv.begun.as_of.wall < now);
    EXPECT_STREQ("(text) SELECT 0", query(r, "select * from t"));
    EXPECT_TRUE(hts_is_zero(r->kv.begun.as_of));
}

SESSION_TEST(past_of_a_block_is_that_of_begin)
{
    EXPECT_STREQ("BEGIN (text) SELECT 0 25006!",
                 query(r, "begin as of system time '1400000000000000000'; select * from t; "
                          "insert into t values ('a')"));
    EXPECT_EQ(1400000000000000000, r->kv.begun.as_of.wall);
    EXPECT_STREQ("ROLLBACK", query(r, "rollback"));
    EXPECT_STREQ("BEGIN 0A000!", query(r, "begin; select * from t as of system time '-1s'"));
    EXPECT_STREQ("ROLLBACK", query(r, "rollback"));
    EXPECT_STREQ("42601!", query(r, "begin read write as of system time '-1s'"));
    EXPECT_STREQ("ROLLBACK", query(r, "rollback"));
    EXPECT_STREQ("INSERT 0 1", query(r, "insert into t values ('a')"));
}

SESSION_TEST(past_that_cannot_be_is_refused)
{
    EXPECT_STREQ("22023!", query(r, "select * from t as of system time '5s'"));
    EXPECT_STREQ("22023!", query(r, "select * from t as of system time '2999-01-01'"));
    EXPECT_STREQ("22023!", query(r, "select * from t as of system time 'yesterday evening'"));
    EXPECT_STREQ("22023!", query(r, "select * from t as of system time '-5 fathoms'"));
    EXPECT_STREQ("0A000!", query(r, "select * from t as of system time with_max_staleness('1s')"));
    EXPECT_STREQ("0A000!", query(r, "select * from t as of system time now() - '1s'"));
    EXPECT_STREQ("(text) SELECT 0 0A000!",
                 query(r, "select * from t as of system time '-1s'; select * from t"));
}
