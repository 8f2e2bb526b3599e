/*
 * ddl.h -- CREATE TABLE and DROP TABLE, carried out against the catalog.
 *
 * Each runs in a transaction of its own and is committed when it returns: the session does not let
 * one into an explicit transaction.
 *
 * Runs on: a fiber; a DROP waits for the leases of other nodes (catalog.h).
 */
#pragma once

#include "node/base/arena.h"
#include "node/base/status.h"
#include "node/sql/plan/statement.h"

struct ddl_context {
    struct catalog *catalog;
    struct arena *arena; /* Of error texts. */
    struct sql_error *err;
    /* NOTICE with this SQLSTATE: IF [NOT] EXISTS had nothing to do. */
    void (*notice)(void *ctx, const char *sqlstate, const char *message);
    void *ctx;
};

/* Errors: STATUS_SQL_ERROR 42P07, 42P01; those of commits. */
MAYYIELD NODISCARD struct status ddl_run(const struct ddl_context *c, const struct statement *stmt);
