/*
 * status.h -- the one error type.
 *
 * A status is returned by value in two registers. `code` is for logic, `origin` (file and line) for
 * logs only, `msg` for people: a literal, or it lives in the arena that the callee was given.
 * Messages are lower case, without a final stop, values quoted.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/attributes.h"

enum status_code {
#define X(name, text) STATUS_##name,
#include "node/base/status_codes.def"
#undef X
    STATUS_CODE_COUNT
};

struct status {
    enum status_code code;
    uint32_t origin; /* File number and line: see status_origin_text(). Never for logic. */
    const char *msg; /* NULL when OK. */
};

#define OK ((struct status){STATUS_OK, 0, (const char *)0})

/* 12 bits of a hash of the file's name, 20 bits of the line. */
#define STATUS_ORIGIN     status_origin(__FILE__, (uint32_t)__LINE__)
#define FAIL(code_, msg_) ((struct status){(code_), STATUS_ORIGIN, (msg_)})

#define TRY(expr)                        \
    do {                                 \
        struct status try_st_ = (expr);  \
        if (try_st_.code != STATUS_OK) { \
            return try_st_;              \
        }                                \
    } while (0)

/* Wants `struct status st` and a label `out` in the function. */
#define TRY_OUT(expr)               \
    do {                            \
        st = (expr);                \
        if (st.code != STATUS_OK) { \
            goto out;               \
        }                           \
    } while (0)

static inline bool status_ok(struct status st)
{
    return st.code == STATUS_OK;
}

/* Drops a result on purpose; the reason stands beside the call. (gcc warns about a cast to void.) */
static inline void status_ignore(struct status st)
{
    UNUSED(st);
}

/* Packs where an error was made. */
NOYIELD uint32_t status_origin(const char *file, uint32_t line);

/* Short fixed text of a code, "ok" for STATUS_OK. Never NULL. */
NOYIELD const char *status_code_text(enum status_code code);

/* The message, or the text of the code when there is none. Never NULL. */
NOYIELD const char *status_text(struct status st);
