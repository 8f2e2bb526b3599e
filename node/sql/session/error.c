/*
 * error.c -- errors as clients see them.
 *
 * Two ways lead here. Code that knows what it refuses says so with an SQLSTATE, a text and a place
 * (sql_error_set). Everything else fails with a status, and a status has one SQLSTATE, sqlstate.def.
 * Some of those texts are fixed, because clients read them: that of a cancelled statement, and that
 * of a transaction that should be run again.
 */
#include "node/sql/session/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "node/base/invariant.h"

#define MESSAGE_MAX 4096

static const char *const sqlstates[STATUS_CODE_COUNT] = {
#define X(name, sqlstate) [STATUS_##name] = (sqlstate),
#include "node/sql/session/sqlstate.def"
#undef X
};

static void error_init(struct sql_error *err, const char *sqlstate, int32_t position,
                       const char *message)
{
    *err = (struct sql_error){.severity = SQL_ERROR, .position = position, .message = message};
    memcpy(err->sqlstate, sqlstate, sizeof(err->sqlstate));
}

void sql_error_fill(struct sql_error *err, struct arena *arena, const char *sqlstate,
                    int32_t position, const char *fmt, ...)
{
    char *text = NULL;
    va_list args;
    int len = 0;

    INVARIANT(strlen(sqlstate) == 5);
    va_start(args, fmt);
    len = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (len >= 0) {
        len = len > MESSAGE_MAX ? MESSAGE_MAX : len;
        text = arena_alloc(arena, (size_t)len + 1, 1);
    }
    if (text != NULL) {
        va_start(args, fmt);
        (void)vsnprintf(text, (size_t)len + 1, fmt, args);
        va_end(args);
    }
    error_init(err, sqlstate, position,
               text == NULL ? "out of memory" : text); /* An error about memory needs none. */
}

void sql_error_from_status(struct sql_error *err, struct arena *arena, struct status st)
{
    const char *message = arena_strdup(arena, status_text(st));

    error_init(err, sqlstates[st.code], -1, message == NULL ? "out of memory" : message);
    switch (st.code) {
    case STATUS_TXN_RETRY:
    case STATUS_TXN_ABORTED:
    case STATUS_UNCERTAIN:
    case STATUS_NOT_PROPOSED:
        err->message = "could not serialize access due to concurrent update";
        err->detail = message;
        err->hint = "The transaction might succeed if retried.";
        break;
    case STATUS_AMBIGUOUS:
        err->message = "the result of the commit is not known";
        err->detail = message;
        err->hint = "Look whether the changes are there before doing them again.";
        break;
    case STATUS_CANCELLED:
        err->message = "canceling statement due to user request";
        break;
    case STATUS_TIMEOUT:
        err->message = "canceling statement due to statement timeout";
        break;
    case STATUS_DEADLOCK:
        err->message = "deadlock detected";
        err->detail = message;
        break;
    case STATUS_LOCKED: /* NOWAIT has a text of its own (exec). */
        err->message = "canceling statement due to lock timeout";
        break;
    case STATUS_TOO_LARGE: /* Of a transaction: it says which limit. */
        err->hint = "Do it in several transactions, each with fewer rows.";
        break;
    case STATUS_MEMORY:
        err->message = "out of memory";
        err->detail = message;
        break;
    default: /* The message says it. */
        break;
    }
}
