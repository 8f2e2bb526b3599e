/*
 * parse.h -- text to trees: PostgreSQL 15's grammar through libpg_query, and dsql's own clauses.
 *
 * All statements of a text are parsed before any of them runs, so a syntax error in the third one is
 * reported before the first has had an effect, as PostgreSQL does.
 *
 * Runs on: the big stack of a shard (big_stack_run() in runtime/fiber.h) or any plain stack with
 *          1 MiB to spare; never on a fiber's. Never yields. libpg_query keeps its memory per thread
 *          and it is all given back on return, so parsing is deterministic and leaves no trace.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "node/base/arena.h"
#include "node/base/bytes.h"
#include "node/base/status.h"
#include "node/sql/parse/ast.h"
#include "node/sql/session/error.h"

#define PARSE_TEXT_MAX       ((size_t)16 << 20) /* Longer: 54000. */
#define PARSE_PAREN_MAX      2000u              /* ( and [ nested deeper: 54001. */
#define PARSE_TOKENS_MAX     4000000u           /* Words and signs in one text: 54000. */
#define PARSE_STATEMENTS_MAX 100000u            /* In one text: 54000. */

struct parse_result {
    struct ast_stmt **stmts; /* In the order of the text; empty statements leave none. */
    uint32_t count;
};

/*
 * Parses everything in `text`.
 *
 * text   Need not end in NUL; not referenced afterwards.
 * arena  Receives the trees and the error's texts.
 * out    Unchanged on failure.
 * err    Filled when STATUS_SQL_ERROR is returned; position is a byte offset into `text`.
 *
 * Errors:  STATUS_SQL_ERROR  22021 not UTF-8, 42601 and the other codes of PostgreSQL's raw parser
 *                            with its message, hint and position, 42P02 $0 or too high a $n,
 *                            54000, 54001, 54011 limits;
 *          STATUS_MEMORY     the arena is at its limit.
 * What PostgreSQL or dsql would accept but this tree cannot express is no error here: see
 * ast_stmt.unsupported.
 */
NOYIELD NODISCARD struct status parse_statements(struct bytes text, struct arena *arena,
                                                 struct parse_result *out, struct sql_error *err);
