/*
 * test_exec.c -- statements from text to rows: what scripts cannot say. Limits of memory, damaged rows,
 * runs that are given up, descriptors that are given back.
 */
#include "node/catalog/catalog.h"
#include "node/sql/exec/row.h"
#include "node/txn/txn.h"
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

/* What must be kept is bounded; what is only needed for a top ten is not kept. */
TEST(exec, sorts_and_groups_have_a_limit)
{
    struct db db;

    db_init(&db);
    EXPECT_TRUE(strncmp(db_sql(&db, "select repeat('x', 2000) || g as s from generate_series(1, "
                                    "40000) g order by s"),
                        "ERROR 53200", 11) == 0);
    EXPECT_TRUE(strncmp(db_sql(&db, "select repeat('x', 2000) || g as s from generate_series(1, "
                                    "40000) g group by repeat('x', 2000) || g"),
                        "ERROR 53200", 11) == 0);
    EXPECT_STREQ("1\n2\nSELECT 2",
                 db_sql(&db, "select g from generate_series(1, 40000) g order by repeat('x', 2000) "
                             "|| (g + 100000) limit 2"));
    db_deinit(&db);
}

/* A row that does not match its table is reported, not read. */
TEST(exec, damaged_rows_are_reported)
{
    struct db db;

    db_init(&db);
    (void)db_sql(&db,
                 "create table t (id int primary key, a text); insert into t values (1, 'abc')");
    EXPECT_EQ(1, db.kv.count);
    for (size_t i = 0; i < db.kv.rows[0].value.len; i++) {
        const struct bytes whole = db.kv.rows[0].value;
        const char *got = NULL;

        db.kv.rows[0].value.len = i; /* Cut off. */
        got = db_sql(&db, "select * from t");
        EXPECT_TRUE(i == 0 ? strcmp(got, "1|NULL\nSELECT 1") == 0
                           : strncmp(got, "STATUS corrupt", 14) == 0);
        db.kv.rows[0].value = whole;
    }
    db_deinit(&db);
}

static void bytes_of_int(struct arena *arena, const struct row_layout *l, int64_t id,
                         struct bytes *key)
{
    union datum values[3] = {{.i64 = id}};
    struct key_enc e;
    uint8_t *mem = arena_alloc(arena, KEY_STACK_SIZE, 1);

    key_enc_init(&e, mem, KEY_STACK_SIZE);
    if (!status_ok(row_key(l, values, &e, key))) {
        *key = BYTES_EMPTY;
    }
}

/* Rows written before a column was added read it as NULL; columns that are gone are skipped. */
TEST(exec, rows_outlive_their_columns)
{
    struct column_desc old[] = {{.id = 1, .name = "id", .type = TYPE_INT4, .typmod = -1},
                                {.id = 2, .name = "a", .type = TYPE_TEXT, .typmod = -1}};
    struct column_desc now[] = {{.id = 1, .name = "id", .type = TYPE_INT4, .typmod = -1},
                                {.id = 3, .name = "b", .type = TYPE_INT8, .typmod = -1}};
    struct table_desc before = {.id = 20000, .columns_count = 2, .columns = old};
    struct table_desc after = {.id = 20000, .columns_count = 2, .columns = now};
    const union datum row[2] = {{.i64 = 7}, {.bytes = BYTES_LIT("gone")}};
    const uint8_t row_nulls[2] = {0, 0};
    union datum values[2];
    uint8_t nulls[2];
    struct row_layout l;
    struct arena arena;
    struct buf value = {0};
    struct bytes key;

    arena_init(&arena, 0);
    before.primary = (struct index_desc){.id = 1, .columns_count = 1, .columns = {{1, false}}};
    after.primary = before.primary;
    EXPECT_OK(row_layout_init(&before, &arena, &l));
    bytes_of_int(&arena, &l, 7, &key);
    EXPECT_OK(row_value(&l, row, row_nulls, &value));
    EXPECT_OK(row_layout_init(&after, &arena, &l));
    EXPECT_OK(row_decode(&l, key, buf_bytes(&value), NULL, &arena, values, nulls));
    EXPECT_EQ(7, values[0].i64);
    EXPECT_EQ(0, nulls[0]);
    EXPECT_EQ(1, nulls[1]);
    EXPECT_CODE(STATUS_CORRUPT, row_decode(&l, BYTES_LIT("elsewhere"), buf_bytes(&value), NULL,
                                           &arena, values, nulls));
    buf_deinit(&value);
    arena_deinit(&arena);
}

/* Leases end with the last reference to the statement, also when a compilation fails half way. */
TEST(exec, leases_are_given_back)
{
    struct db db;
    struct table_desc *t = NULL;
    struct statement *s = NULL;

    db_init(&db);
    (void)db_sql(&db, "create table t (id int primary key)");
    EXPECT_TRUE(db_compile(&db, "select nope from t") == NULL);
    EXPECT_TRUE(db_compile(&db, "select * from nope") == NULL);
    EXPECT_OK(catalog_acquire(db.catalog, "t", &t));
    EXPECT_EQ(1, t->refs);
    s = db_compile(&db, "select * from t");
    EXPECT_TRUE(s != NULL);
    EXPECT_EQ(2, t->refs);
    EXPECT_TRUE(statement_still_valid(s));
    statement_release(statement_acquire(s));
    EXPECT_EQ(2, t->refs);
    statement_release(s);
    EXPECT_EQ(1, t->refs);
    catalog_release(db.catalog, t);
    db_deinit(&db);
}

static struct status refuse_rows(struct row_sink *sink, const struct row_block *block)
{
    (void)sink;
    (void)block;
    return FAIL(STATUS_CLOSED, "nobody listens");
}

/* A sink that fails ends the statement with its status; a run may be dropped at any point. */
TEST(exec, runs_can_be_given_up)
{
    struct row_sink sink = {.rows = refuse_rows};
    const struct txn_options o = {.implicit = true};
    struct statement_context ctx = {0};
    struct statement_run *run = NULL;
    struct statement *s = NULL;
    struct sql_error err = {0};
    struct arena arena;
    struct db db;
    bool done = false;

    db_init(&db);
    arena_init(&arena, 0);
    (void)db_sql(&db, "create table t (id int primary key); insert into t values (1), (2)");
    s = db_compile(&db, "select * from t");
    EXPECT_TRUE(s != NULL);
    ctx.view = &db.view;
    EXPECT_OK(txn_begin(&db.kv, &arena, &o, &ctx.txn));
    EXPECT_OK(statement_begin(s, &ctx, &arena, &err, &run));
    EXPECT_EQ(2, s->refs);
    EXPECT_CODE(STATUS_CLOSED, statement_fetch(run, 0, &sink, &err, &done));
    statement_end(run);
    EXPECT_EQ(1, s->refs);
    EXPECT_OK(statement_begin(s, &ctx, &arena, &err, &run));
    statement_end(run);
    statement_end(NULL);
    EXPECT_STREQ("SELECT 3", statement_tag(s, 3, &arena));
    statement_release(s);
    arena_deinit(&arena);
    db_deinit(&db);
}

/* An arena too small for the statement is an error of the statement at any point where it runs out. */
TEST(exec, memory_runs_out_everywhere)
{
    static const char *const statements[] = {
        "select * from t where id = 1",
        "select id, count(*), max(a) from t where a like 'x%' or id = 1 group by id order by 2",
        "insert into t select g, 'y' from generate_series(100, 120) g returning *",
        "update t set a = upper(a) || case when id > 1 then 'z' else 'w' end",
    };
    const struct txn_options o = {.implicit = true};
    struct db db;

    db_init(&db);
    (void)db_sql(&db, "create table t (id int primary key, a text);"
                      "insert into t select g, 'x' || g from generate_series(1, 40) g");
    for (size_t i = 0; i < ARRAY_COUNT(statements); i++) {
        struct statement *s = db_compile(&db, statements[i]);
        struct status st = FAIL(STATUS_MEMORY, "not tried");

        EXPECT_TRUE(s != NULL);
        for (size_t limit = 1024; limit < ((size_t)4 << 20); limit += limit / 8) {
            struct statement_context ctx = {.view = &db.view};
            struct statement_run *run = NULL;
            struct sql_error err = {0};
            struct arena arena;
            struct arena txn_arena;
            struct row_sink sink = {.rows = NULL};

            arena_init(&txn_arena, 0);
            arena_init(&arena, limit);
            sink.rows = refuse_rows; /* The first row ends it: everything is made by then. */
            EXPECT_OK(txn_begin(&db.kv, &txn_arena, &o, &ctx.txn));
            st = statement_begin(s, &ctx, &arena, &err, &run);
            if (status_ok(st)) {
                bool done = false;

                st = statement_fetch(run, 0, &sink, &err, &done);
            }
            EXPECT_TRUE(status_ok(st) || st.code == STATUS_MEMORY || st.code == STATUS_CLOSED ||
                        (st.code == STATUS_SQL_ERROR && strcmp(err.sqlstate, "53200") == 0));
            statement_end(run);
            arena_deinit(&arena);
            arena_deinit(&txn_arena);
        }
        EXPECT_TRUE(status_ok(st) || st.code == STATUS_CLOSED); /* Enough in the end. */
        EXPECT_EQ(1, s->refs);
        statement_release(s);
    }
    db_deinit(&db);
}
