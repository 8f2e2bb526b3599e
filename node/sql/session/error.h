/*
 * error.h -- an error as a PostgreSQL client sees it.
 *
 * Functions of sql/ that can fail with more than a status take a `struct sql_error *err`; they fill it
 * and return FAIL(STATUS_SQL_ERROR, ...). Any other status is translated by sqlstate.def.
 * Texts live in the statement's arena.
 */
#pragma once

#include <stdint.h>

#include "node/base/arena.h"
#include "node/base/status.h"

enum sql_severity {
    SQL_ERROR,
    SQL_FATAL,
    SQL_WARNING,
    SQL_NOTICE,
};

struct sql_error {
    enum sql_severity severity;
    char sqlstate[6];
    const char *message;
    const char *detail; /* NULL: none. So for all below. */
    const char *hint;
    const char *schema;
    const char *table;
    const char *column;
    const char *type;
    const char *constraint;
    const char *routine;
    int32_t position; /* Byte offset into the statement's text, -1: none. */
};

/* Fills err; the message is formatted into the arena. */
NOYIELD void sql_error_fill(struct sql_error *err, struct arena *arena, const char *sqlstate,
                            int32_t position, const char *fmt, ...) PRINTF_LIKE(5, 6);
/* The same, and is STATUS_SQL_ERROR with that message and the place of the call:
 * sql_error_set(err, arena, sqlstate, position, fmt, ...) */
#define sql_error_set(err_, ...) \
    (sql_error_fill((err_), __VA_ARGS__), FAIL(STATUS_SQL_ERROR, (err_)->message))
/* 0A000 with the name of the feature: "<feature> is not supported yet". */
#define sql_error_unsupported(err_, arena_, position_, feature_) \
    sql_error_set((err_), (arena_), "0A000", (position_), "%s is not supported yet", (feature_))
/* An sql_error for any status that did not come with one. */
NOYIELD void sql_error_from_status(struct sql_error *err, struct arena *arena, struct status st);
