/*
 * geo.h -- dsql's own statements and clauses, cut out of the text before PostgreSQL's grammar sees it.
 *
 * No word is reserved for them: they are recognised by position in known statements, never inside
 * strings, comments or quoted names. What is cut is overwritten with blanks of the same length, so
 * that all positions stay right.
 *
 * AS OF SYSTEM TIME and the statements about ranges are carried out. The others are recognised only: a
 * statement that has one answers 0A000 with the clause's name and position.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/arena.h"
#include "node/base/bytes.h"
#include "node/base/status.h"
#include "node/sql/parse/scan.h"

struct geo_cut {
    const char *feature; /* "LOCALITY", "SHOW REGIONS", ... A literal. */
    uint32_t from;
    uint32_t to;
    bool ranges; /* Of a whole one: ranges.c reads it. */
    bool whole;  /* The whole statement is ours; nothing of it is left. */
    /* Where the expression of AS OF SYSTEM TIME begins; it ends at `to`. 0: none. */
    uint32_t as_of;
};

struct geo_cuts {
    struct geo_cut *items; /* In the order of the text. */
    uint32_t count;
    char *text; /* A copy with the cuts blanked; NUL-terminated. Unset when count is 0. */
};

/* Could a statement with this token be ours? No trigger in a text: geo_cut() need not be called. */
NOYIELD bool geo_is_trigger(struct bytes text, struct scan_token t);

/* Errors: STATUS_MEMORY. */
NOYIELD NODISCARD struct status geo_cut(struct bytes text, struct arena *arena,
                                        struct geo_cuts *out);
