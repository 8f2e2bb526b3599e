/*
 * import.h -- PostgreSQL's raw parser, and its tree copied into ours.
 *
 * The door to libpg_query: only import*.c include PostgreSQL's headers. parse.c is the one caller.
 */
#pragma once

#include "node/base/arena.h"
#include "node/base/status.h"
#include "node/sql/parse/parse.h"

/*
 * Parses NUL-terminated UTF-8 without further checks (parse.c has made them). Errors and memory as
 * parse_statements().
 */
NOYIELD NODISCARD struct status import_text(const char *text, struct arena *arena,
                                            struct parse_result *out, struct sql_error *err);
