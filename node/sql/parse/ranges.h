/*
 * ranges.h -- statements about ranges: SHOW RANGES FROM TABLE, SPLIT AT, RELOCATE LEASE.
 */
#pragma once

#include "node/base/arena.h"
#include "node/base/bytes.h"
#include "node/sql/parse/ast.h"
#include "node/sql/parse/geo.h"
#include "node/sql/session/error.h"

/* What geo.c has recognised, read. Errors: 42601 and those of names and expressions, STATUS_MEMORY. */
NOYIELD NODISCARD struct status parse_ranges(struct bytes text, const struct geo_cut *cut,
                                             struct arena *arena, struct ast_ranges **out,
                                             struct sql_error *err);

/* A copy of the text that is blank but for [from, to), so that positions in it are right; in the arena,
 * NUL-terminated. NULL: no memory. */
NOYIELD char *blank_copy(struct bytes text, uint32_t from, uint32_t to, struct arena *arena);
/* Parses what such a copy holds. *out NULL: it is no single SELECT, VALUES or TABLE. */
NOYIELD NODISCARD struct status parse_part(const char *copy, struct arena *arena,
                                           struct ast_select **out, struct sql_error *err);
