/*
 * test_exec.c -- statements from text to rows. What PostgreSQL 15 answers was recorded from it.
 */
#include "tests/lib/test.h"
#include "tests/unit/sql/double.h"

TEST(exec, creates_inserts_and_selects)
{
    struct db db;

    db_init(&db);
    EXPECT_STREQ("CREATE TABLE",
                 db_sql(&db, "create table t (id int primary key, name text, v float8)"));
    EXPECT_STREQ("INSERT 0 1", db_sql(&db, "insert into t values (1, 'one', 1.5)"));
    EXPECT_STREQ("INSERT 0 2", db_sql(&db, "insert into t (name, id) values ('two', 2), ('3', 3)"));
    EXPECT_STREQ("1|one|1.5\nSELECT 1", db_sql(&db, "select * from t where id = 1"));
    EXPECT_STREQ("1|one|1.5\n2|two|NULL\n3|3|NULL\nSELECT 3", db_sql(&db, "select * from t"));
    EXPECT_STREQ("two\nSELECT 1", db_sql(&db, "select name from t where v is null and id < 3"));
    EXPECT_STREQ("SELECT 0", db_sql(&db, "select name from t where id = 9"));
    db_deinit(&db);
}
