/*
 * double.h -- a store, transactions and a catalog in a few arrays, and SQL on top as text.
 *
 * The double defines every function of txn.h and catalog.h, so the program takes these and not the real
 * ones from the libraries. A transaction works on a copy of the store and swaps it in when it commits.
 *
 *     struct db db;
 *     db_init(&db);
 *     EXPECT_STREQ("1|a\nSELECT 1", db_sql(&db, "select * from t"));
 *     db_deinit(&db);
 */
#pragma once

#include "node/base/arena.h"
#include "node/base/bytes.h"
#include "node/sql/functions/view.h"
#include "node/sql/plan/statement.h"

struct kv_row {
    struct bytes key;
    struct bytes value;
};

struct kv {
    struct kv_row *rows; /* Ascending. */
    uint32_t count;
    uint32_t gets; /* Calls of txn_get, rows asked for by txn_multi_get, calls of txn_scan. */
    uint32_t multi_gets;
    uint32_t scans;
    uint32_t scanned_rows;
    uint32_t puts;
    uint32_t locks;                /* Rows that were locked by key. */
    uint32_t scan_locks;           /* Rows that a scan locked. */
    struct bytes locked_elsewhere; /* This key somebody else has locked. ptr NULL: none. */
    uint32_t statements;
};

struct db {
    struct arena arena; /* Results of db_sql(): until db_deinit(). */
    struct kv kv;
    struct catalog *catalog;
    struct sql_view view;
    uint64_t rows_max; /* Of each fetch; 0: all at once. */
    bool explicit_txn; /* Inserts check at once. */
    struct sql_error err;
};

void db_init(struct db *db);
void db_deinit(struct db *db);

/*
 * Runs the statements of `text`, each in its own transaction. The answer of the last one: its rows, one
 * per line with | between columns and NULL as "NULL", and the command tag; or
 * "ERROR 42703: message" with " DETAIL: ..", " HINT: .." and " AT n" (byte offset) where there are some.
 */
const char *db_sql(struct db *db, const char *text);
/* One statement with parameters in text form; NULL is SQL NULL. types: declared OIDs or NULL. */
const char *db_params(struct db *db, const char *text, const oid *types, uint32_t count,
                      const char *const *values);
/* Compiles only: "int4,text -> id:integer,name:text" (parameters, columns), or the error. */
const char *db_describe(struct db *db, const char *text, const oid *types, uint32_t count);
/* Compiles and hands out the statement; NULL after an error (db->err). */
struct statement *db_compile(struct db *db, const char *text);
