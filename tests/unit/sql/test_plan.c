/*
 * test_plan.c -- parameters, and how much of the store a statement touches.
 */
#include "node/sql/exec/plan.h"
#include "tests/lib/test.h"
#include "tests/unit/sql/double.h"

static void fill(struct db *db)
{
    db_init(db);
    (void)db_sql(db,
                 "create table t (a int, b int, c text, primary key (a, b));"
                 "insert into t select g / 10, g % 10, 'c' || g from generate_series(0, 999) g");
    db->kv.gets = db->kv.scans = db->kv.multi_gets = db->kv.scanned_rows = 0;
}

TEST(plan, parameter_types_are_found)
{
    struct db db;

    fill(&db);
    EXPECT_STREQ("integer -> c:text", db_describe(&db, "select c from t where a = $1", NULL, 0));
    EXPECT_STREQ("integer,integer,text -> ?column?:integer",
                 db_describe(&db, "select a + $1 from t where b < $2 and c like $3", NULL, 0));
    EXPECT_STREQ("text -> ?column?:text", db_describe(&db, "select $1", NULL, 0));
    EXPECT_STREQ("bigint,bigint -> a:integer",
                 db_describe(&db, "select a from t limit $1 offset $2", NULL, 0));
    EXPECT_STREQ("integer,integer,text ->",
                 db_describe(&db, "insert into t values ($1, $2, $3)", NULL, 0));
    EXPECT_STREQ("text,integer,integer ->",
                 db_describe(&db, "update t set c = $1 where a = $2 and b = $3", NULL, 0));
    EXPECT_STREQ("timestamp with time zone -> b:boolean",
                 db_describe(&db, "select now() > $1 as b", NULL, 0));
    EXPECT_STREQ("integer,integer -> a:integer",
                 db_describe(&db, "select a from t where a in ($1, $2)", NULL, 0));
    EXPECT_STREQ("double precision -> f:double precision",
                 db_describe(&db, "select $1::float8 as f", NULL, 0));
    db_deinit(&db);
}

/* Types declared in Parse win: JDBC sends int8 for an int4 column. */
TEST(plan, declared_parameter_types_win)
{
    const oid int8[] = {TYPE_INT8};
    const oid text[] = {TYPE_TEXT, TYPE_INVALID};
    const char *const five[] = {"5", "3"};
    struct db db;

    fill(&db);
    EXPECT_STREQ("bigint -> c:text",
                 db_describe(&db, "select c from t where a = $1 and b = 1", int8, 1));
    EXPECT_STREQ("c51\nSELECT 1",
                 db_params(&db, "select c from t where a = $1 and b = 1", int8, 1, five));
    EXPECT_EQ(1, db.kv.gets);
    EXPECT_EQ(0, db.kv.scans);
    EXPECT_STREQ("5|3\nSELECT 1", db_params(&db, "select $1, $2::int", text, 2, five));
    db_deinit(&db);
}

TEST(plan, parameter_types_must_agree)
{
    struct db db;

    fill(&db);
    EXPECT_STREQ(
        "ERROR 42883: operator does not exist: text = integer HINT: No operator matches the "
        "given name and argument types. You might need to add explicit type casts. AT 35",
        db_describe(&db, "select 1 from t where a = $1 and c = $1", NULL, 0));
    EXPECT_STREQ("ERROR 42P18: could not determine data type of parameter $1",
                 db_describe(&db, "select $1 is null", NULL, 0));
    EXPECT_STREQ("ERROR 42P18: could not determine data type of parameter $1",
                 db_describe(&db, "select $2::int", NULL, 0));
    EXPECT_STREQ("ERROR 42725: operator is not unique: unknown + unknown HINT: Could not choose a "
                 "best candidate operator. You might need to add explicit type casts. AT 10",
                 db_describe(&db, "select $1 + $2", NULL, 0));
    db_deinit(&db);
}

/* One row by its whole key: one get and no scan, whatever else stands in the statement. */
TEST(plan, whole_key_is_a_point)
{
    static const char *const statements[] = {
        "select * from t where a = 3 and b = 4",
        "select c from t where b = 4 and 3 = a and c like 'c%'",
        "select c from t where a = 3 and b = 4 order by c limit 1",
        "update t set c = 'x' where a = 3 and b = 4",
        "delete from t where a = 3 and b = 4 and c = 'x'",
    };
    struct db db;

    fill(&db);
    for (size_t i = 0; i < ARRAY_COUNT(statements); i++) {
        struct statement *s = db_compile(&db, statements[i]);

        EXPECT_TRUE(s != NULL);
        EXPECT_TRUE(s->plan->shape != PLAN_TREE);
        statement_release(s);
        db.kv.gets = 0;
        (void)db_sql(&db, statements[i]);
        EXPECT_EQ(1, db.kv.gets);
    }
    EXPECT_EQ(0, db.kv.scans);
    db_deinit(&db);
}

static uint32_t scanned(struct db *db, const char *text)
{
    db->kv.scanned_rows = 0;
    (void)db_sql(db, text);
    return db->kv.scanned_rows;
}

TEST(plan, prefixes_and_ranges_bound_the_scan)
{
    struct db db;

    fill(&db);
    EXPECT_EQ(10, scanned(&db, "select * from t where a = 7"));
    EXPECT_EQ(3, scanned(&db, "select * from t where a = 7 and b > 2 and b <= 5"));
    EXPECT_EQ(30, scanned(&db, "select * from t where a between 4 and 6"));
    EXPECT_EQ(20, scanned(&db, "select * from t where a in (1, 5, 1)"));
    EXPECT_EQ(2, scanned(&db, "select * from t where a in (1, 5) and b < 1"));
    EXPECT_EQ(10, scanned(&db, "select * from t where a >= 99"));
    EXPECT_EQ(0, scanned(&db, "select * from t where a > 10 and a < 5"));
    EXPECT_EQ(0, scanned(&db, "select * from t where a = null"));
    EXPECT_EQ(1000, scanned(&db, "select * from t where b = 1"));
    EXPECT_EQ(1000, scanned(&db, "select * from t where a + 0 = 7"));
    EXPECT_EQ(5, scanned(&db, "delete from t where a = 7 and b >= 5"));
    db_deinit(&db);
}

/* ORDER BY that the key gives needs no sort, so LIMIT reads no more than it returns. */
TEST(plan, key_order_saves_the_sort)
{
    struct db db;

    fill(&db);
    EXPECT_EQ(3, scanned(&db, "select * from t order by a, b limit 3"));
    EXPECT_EQ(3, scanned(&db, "select * from t order by a desc, b desc limit 3"));
    EXPECT_EQ(2, scanned(&db, "select * from t where a = 5 order by b desc limit 2"));
    EXPECT_EQ(2, scanned(&db, "select * from t limit 2"));
    EXPECT_EQ(5, scanned(&db, "select c from t limit 2 offset 3"));
    EXPECT_EQ(1000, scanned(&db, "select * from t order by a, b desc limit 3"));
    EXPECT_EQ(1000, scanned(&db, "select * from t order by c limit 3"));
    db_deinit(&db);
}

TEST(plan, lists_of_whole_keys_are_one_multi_get)
{
    struct db db;

    fill(&db);
    EXPECT_STREQ("c11\nc13\nSELECT 2",
                 db_sql(&db, "select c from t where a = 1 and b in (3, 1, 55, 3)"));
    EXPECT_EQ(3, db.kv.multi_gets);
    EXPECT_EQ(0, db.kv.scans);
    db_deinit(&db);
}

static uint32_t locked(struct db *db, const char *text)
{
    db->kv.locks = 0;
    db->kv.scan_locks = 0;
    (void)db_sql(db, text);
    return db->kv.locks + db->kv.scan_locks;
}

/* The rows of the result and no others, however they are found. */
TEST(plan, locks_what_it_returns)
{
    struct db db;

    fill(&db);
    EXPECT_EQ(0, locked(&db, "select * from t where a = 3 and b = 4"));
    EXPECT_EQ(1, locked(&db, "select * from t where a = 3 and b = 4 for update"));
    EXPECT_EQ(0, locked(&db, "select * from t where a = 3 and b = 4 and c = 'no' for update"));
    EXPECT_EQ(10, locked(&db, "select c from t where a = 3 for share"));
    EXPECT_EQ(100, locked(&db, "select c from t where b = 3 for update"));
    EXPECT_EQ(2, locked(&db, "select c from t where b = 3 limit 2 for update"));
    EXPECT_EQ(5, locked(&db, "select c from t order by c limit 2 offset 3 for update"));
    EXPECT_EQ(2, locked(&db, "select c from t order by c desc limit 2 for update skip locked"));
    EXPECT_EQ(3, locked(&db, "select c from t where a = 1 and b in (3, 1, 55, 7) for update"));
    EXPECT_EQ(1, locked(&db, "select * from (select a, c from t) as s limit 1 for update"));
    db_deinit(&db);
}

TEST(plan, changes_lock_what_they_change)
{
    struct db db;

    fill(&db);
    EXPECT_EQ(1, locked(&db, "update t set c = 'x' where a = 3 and b = 4"));
    EXPECT_EQ(10, locked(&db, "update t set c = 'x' where a = 4"));
    EXPECT_EQ(100, locked(&db, "update t set b = b + 100 where b = 5"));
    EXPECT_EQ(1, locked(&db, "delete from t where a = 3 and b = 4"));
    EXPECT_EQ(99, locked(&db, "delete from t where b = 4"));
    EXPECT_EQ(0, locked(&db, "insert into t values (1000, 1, 'x') on conflict do nothing"));
    EXPECT_EQ(1, locked(&db, "insert into t values (1, 1, 'x') on conflict (a, b) do update "
                             "set c = 'y'"));
    db_deinit(&db);
}

/* Who may not wait fails or goes round it, and takes the next one instead. */
TEST(plan, locked_rows_fail_or_are_skipped)
{
    struct db db;

    fill(&db);
    db.kv.locked_elsewhere = db.kv.rows[0].key; /* (0, 0): the first of all. */
    EXPECT_STREQ("ERROR 55P03: could not obtain lock on row in relation \"t\"",
                 db_sql(&db, "select a, b from t where c <> '' limit 1 for update nowait"));
    EXPECT_STREQ("0|1\nSELECT 1", db_sql(&db, "select a, b from t where c <> '' order by a, b "
                                              "limit 1 for update skip locked"));
    db_deinit(&db);
}

/* A transaction of several statements learns of a duplicate at once, not at its end. */
TEST(plan, duplicates_in_explicit_transactions)
{
    struct db db;

    fill(&db);
    db.explicit_txn = true;
    EXPECT_STREQ("ERROR 23505: duplicate key value violates unique constraint \"t_pkey\" DETAIL: "
                 "Key (a, b)=(1, 1) already exists.",
                 db_sql(&db, "insert into t values (1, 1, 'x')"));
    EXPECT_STREQ("t", db.err.table);
    EXPECT_STREQ("t_pkey", db.err.constraint);
    EXPECT_STREQ("public", db.err.schema);
    db_deinit(&db);
}

TEST(plan, null_parameters_find_nothing)
{
    const char *const values[] = {NULL};
    struct db db;

    fill(&db);
    EXPECT_STREQ("SELECT 0",
                 db_params(&db, "select c from t where a = $1 and b = 1", NULL, 1, values));
    EXPECT_STREQ("SELECT 0", db_params(&db, "select c from t where a > $1", NULL, 1, values));
    EXPECT_STREQ("UPDATE 0",
                 db_params(&db, "update t set c = 'x' where a = $1 and b = 1", NULL, 1, values));
    EXPECT_STREQ(
        "c0\nSELECT 1",
        db_params(&db, "select c from t order by a, b limit coalesce($1, 1)", NULL, 1, values));
    EXPECT_EQ(0, db.kv.gets);
    db_deinit(&db);
}

/* Keys longer than the stack buffer of point statements. */
TEST(plan, long_keys)
{
    struct db db;

    db_init(&db);
    (void)db_sql(&db, "create table k (s text primary key, n int)");
    EXPECT_STREQ("INSERT 0 1", db_sql(&db, "insert into k values (repeat('ab', 3000), 1)"));
    EXPECT_STREQ("1\nSELECT 1", db_sql(&db, "select n from k where s = repeat('ab', 3000)"));
    EXPECT_STREQ("UPDATE 1", db_sql(&db, "update k set n = 2 where s = repeat('ab', 3000)"));
    EXPECT_STREQ("DELETE 1", db_sql(&db, "delete from k where s = repeat('ab', 3000)"));
    EXPECT_STREQ("SELECT 0", db_sql(&db, "select n from k where s = repeat('ab', 3000)"));
    db_deinit(&db);
}

TEST(plan, deep_and_wide_statements_are_refused_or_run)
{
    struct db db;
    struct buf b = {0};

    db_init(&db);
    EXPECT_OK(buf_append_str(&b, "select 1"));
    for (int i = 0; i < 4000; i++) {
        EXPECT_OK(buf_append_str(&b, "+1"));
    }
    EXPECT_OK(buf_append_u8(&b, 0));
    EXPECT_STREQ("4001\nSELECT 1", db_sql(&db, (const char *)b.ptr));
    buf_clear(&b);
    EXPECT_OK(buf_append_str(&b, "select 1"));
    for (int i = 0; i < 6000; i++) {
        EXPECT_OK(buf_append_str(&b, "+1"));
    }
    EXPECT_OK(buf_append_u8(&b, 0));
    EXPECT_TRUE(strncmp(db_sql(&db, (const char *)b.ptr), "ERROR 54001", 11) == 0);
    buf_clear(&b);
    EXPECT_OK(buf_append_str(&b, "select g from generate_series(1, 20) g where "));
    for (int i = 0; i < 300; i++) {
        EXPECT_OK(buf_printf(&b, "%sg = %d", i == 0 ? "" : " or ", i));
    }
    EXPECT_OK(buf_append_u8(&b, 0));
    EXPECT_TRUE(strstr(db_sql(&db, (const char *)b.ptr), "SELECT 20") != NULL);
    buf_deinit(&b);
    db_deinit(&db);
}
