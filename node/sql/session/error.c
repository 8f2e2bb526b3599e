/*
 * error.c -- making errors for clients.
 *
 * An error is formatted into the statement's arena, which may be the very thing that ran out. Then
 * the message is a literal: an error about memory must not need any.
 */
#include "node/sql/session/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "node/base/invariant.h"

static const char *format(struct arena *arena, const char *fmt, va_list args)
{
    va_list again;
    char *text;
    int size;

    va_copy(again, args);
    size = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    if (size < 0) {
        return "an error without a message";
    }
    text = arena_alloc(arena, (size_t)size + 1, 1);
    if (text == NULL) {
        return "out of memory";
    }
    (void)vsnprintf(text, (size_t)size + 1, fmt, args);
    return text;
}

struct status sql_error_set(struct sql_error *err, struct arena *arena, const char *sqlstate,
                            int32_t position, const char *fmt, ...)
{
    va_list args;

    INVARIANT(strlen(sqlstate) == 5);
    *err = (struct sql_error){.severity = SQL_ERROR, .position = position};
    memcpy(err->sqlstate, sqlstate, sizeof(err->sqlstate));
    va_start(args, fmt);
    err->message = format(arena, fmt, args);
    va_end(args);
    return FAIL(STATUS_SQL_ERROR, err->message);
}

struct status sql_error_unsupported(struct sql_error *err, struct arena *arena, int32_t position,
                                    const char *feature)
{
    return sql_error_set(err, arena, "0A000", position, "%s is not supported yet", feature);
}
