/*
 * ddl.h -- CREATE TABLE and DROP TABLE, carried out against the catalog.
 *
 * In a transaction of their own, committed when it returns, or in the session's (overlay and txn).
 *
 * Runs on: a fiber; a DROP by itself waits for the leases of other nodes (catalog.h).
 */
#pragma once

#include "node/base/arena.h"
#include "node/base/status.h"
#include "node/sql/plan/statement.h"

struct ddl_context {
    struct catalog *catalog;
    struct catalog_overlay *overlay; /* NULL: each table in a transaction of its own. */
    struct txn *txn;                 /* With overlay: the session's. */
    struct arena *arena;             /* Of error texts. */
    struct sql_error *err;
    /* NOTICE with this SQLSTATE: IF [NOT] EXISTS had nothing to do. */
    void (*notice)(void *ctx, const char *sqlstate, const char *message);
    void *ctx;
};

/* Errors: STATUS_SQL_ERROR 42P07, 42P01; those of commits. */
MAYYIELD NODISCARD struct status ddl_run(const struct ddl_context *c, const struct statement *stmt);
