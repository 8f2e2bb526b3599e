/*
 * plan_build.h -- from queries to plans.
 *
 * Runs on: the big stack (it recurses over expressions). Never yields.
 */
#pragma once

#include "node/base/arena.h"
#include "node/sql/exec/plan.h"
#include "node/sql/plan/query.h"
#include "node/sql/session/error.h"

#define PLAN_DEPTH_MAX 64u /* Operators above each other: 54001 beyond. */

/* Where plans are made. */
struct plan_builder {
    struct arena *arena;   /* The statement's: everything of the plan. */
    struct arena *scratch; /* The compilation's. */
    struct sql_error *err; /* Texts in scratch. */
    const struct sql_view *view;
    uint32_t depth;
};

/* Errors: 54001, 54011 and what constant folding finds wrong for certain; STATUS_MEMORY. */
NOYIELD NODISCARD struct status plan_build(struct plan_builder *b, const struct query *q,
                                           const struct plan **out);

/* Expressions into one program with so many inputs; outputs in order. */
NOYIELD NODISCARD struct status plan_program(struct plan_builder *b, struct expr *const *exprs,
                                             uint16_t count, uint16_t inputs,
                                             const uint8_t *input_phys, const struct program **out);

/* Evaluates what is constant. An expression that would fail is left alone: it fails when, and only if,
 * it is reached. */
NOYIELD struct expr *plan_fold(struct arena *arena, struct expr *e);

/* Which span of the primary key do these conjuncts leave? Writes the bounds' expressions. */
struct plan_access {
    struct expr **bounds;
    uint16_t bounds_count;
    struct plan_span span; /* Without its program. */
    bool whole_key;        /* Every key column has exactly one value. */
    struct expr *residual; /* What the span does not say; NULL: nothing. */
};

NOYIELD NODISCARD struct status plan_access_path(struct plan_builder *b,
                                                 const struct row_layout *layout,
                                                 struct expr *where, struct plan_access *out);
