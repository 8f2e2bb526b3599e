/*
 * program.h -- expressions as flat lists of steps over registers.
 *
 * Registers: first the input columns, then constants (literals, parameters, and what the prologue
 * computes once per execution), then temporaries. A step reads registers and writes one. The same
 * steps run over one row of datums (program_scalar) or over columns (program_vector): batches of few
 * rows, point statements and key bounds take the first way.
 *
 * AND, OR, CASE and COALESCE evaluate their later arms only for the rows that need them: in scalar
 * mode they jump, in vector mode they narrow the lanes. So `CASE WHEN b <> 0 THEN a / b END` never
 * divides by zero.
 *
 * A program is immutable and lives in the arena of its statement.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/arena.h"
#include "node/sql/functions/func.h"
#include "node/sql/functions/vec.h"

#define PROGRAM_NEST_MAX      200u /* AND, OR, CASE inside each other: 54001 beyond. */
#define PROGRAM_REGISTERS_MAX 60000u
#define PROGRAM_SCALAR_ROWS   4u /* Batches up to this run row by row. */

enum step_op {
    STEP_CALL,       /* dst = func(a, b, c) */
    STEP_CAST_IO,    /* dst = a of type `from` through text as type `to` */
    STEP_VARCHAR,    /* dst = a cut to or refused by `typmod` (flag: explicit cast) */
    STEP_NOT,        /* dst = NOT a */
    STEP_IS,         /* dst = a IS `what` (flag: negated) */
    STEP_DISTINCT,   /* dst = a IS DISTINCT FROM b by func, an equality (flag: negated) */
    STEP_MINMAX,     /* dst = a or b, NULL when both are; func(a, b) true chooses a */
    STEP_IN,         /* dst = a = any of list[b .. b + c); func is the equality (flag: negated) */
    STEP_AND_BEGIN,  /* narrows to a not FALSE; none left: goes to target, its AND_END */
    STEP_AND_END,    /* dst = a AND b */
    STEP_OR_BEGIN,   /* narrows to a not TRUE; none left: goes to target */
    STEP_OR_END,     /* dst = a OR b */
    STEP_CASE_BEGIN, /* all lanes are still open; dst is the result */
    STEP_CASE_WHEN,  /* narrows the open lanes to a TRUE; none: goes to target, the next arm */
    STEP_CASE_NOT_NULL, /* the same for a NOT NULL (COALESCE) */
    STEP_CASE_THEN,     /* dst = a; these lanes are closed; none open: goes to target, CASE_END */
    STEP_CASE_ELSE,     /* dst = a for the open lanes */
    STEP_CASE_END,
};

enum step_is {
    STEP_IS_NULL,
    STEP_IS_TRUE,
    STEP_IS_FALSE,
    STEP_IS_UNKNOWN,
};

#define STEP_FLAG 1u

struct step {
    enum step_op op;
    uint16_t dst;
    uint16_t a;
    uint16_t b;
    uint16_t c;
    uint32_t target;
    uint32_t flags;
    union {
        const struct func_impl *func;
        enum step_is is;
        int32_t typmod;
        struct {
            oid from;
            oid to;
        };
    };
};

/* What a constant register holds when an execution starts. */
struct program_const {
    uint16_t reg;
    bool is_param;
    bool null;
    uint16_t param; /* From 0. */
    union datum value;
};

struct program {
    uint16_t inputs;
    uint16_t regs_count;
    uint16_t consts_count;
    uint16_t outputs_count;
    uint16_t nest; /* Deepest nesting of AND, OR, CASE. */
    uint32_t steps_count;
    uint32_t prologue_count; /* The first steps: run once, their results are constants. */
    const uint8_t *phys;     /* enum type_phys of each register. */
    const struct program_const *consts;
    const struct step *steps;
    const uint16_t *outputs; /* Registers. */
    const uint16_t *lists;   /* Of STEP_IN. */
};

/* One program in one execution. */
struct program_run {
    const struct program *p;
    /* Scalar: one datum and one NULL flag per register. */
    union datum *vals;
    uint8_t *nulls;
    /* Vector: made by program_reserve(). */
    struct vec **regs;
    struct vec *own; /* Constants and temporaries. */
    struct program_nest *nests;
    uint16_t *selected; /* Result of program_filter(). */
    uint32_t rows_max;
};

struct program_params {
    const union datum *values;
    const uint8_t *nulls;
};

/* Loads constants and runs the prologue. Everything lives in `arena`. p may be NULL: nothing is done.
 * False: see e->st. */
NOYIELD NODISCARD bool program_open(struct program_run *r, const struct program *p,
                                    const struct program_params *params, struct eval *e,
                                    struct arena *arena);

/* Makes room for batches of `rows` rows. Errors: STATUS_MEMORY. */
NOYIELD NODISCARD struct status program_reserve(struct program_run *r, uint32_t rows,
                                                struct arena *arena);

/* One row: inputs are r->vals[0..inputs) and r->nulls, results likewise at p->outputs. */
NOYIELD NODISCARD bool program_scalar(struct program_run *r, struct eval *e);

static inline union datum program_value(const struct program_run *r, uint16_t output)
{
    return r->vals[r->p->outputs[output]];
}

static inline bool program_is_null(const struct program_run *r, uint16_t output)
{
    return r->nulls[r->p->outputs[output]] != 0;
}

/* A boolean program after program_scalar(): is its first output TRUE? */
static inline bool program_is_true(const struct program_run *r)
{
    return !program_is_null(r, 0) && program_value(r, 0).i64 != 0;
}

/* All lanes of a batch; results are program_output() with the same lanes. program_reserve() first. */
NOYIELD NODISCARD bool program_vector(struct program_run *r, const struct batch *in,
                                      struct eval *e);

static inline struct vec *program_output(const struct program_run *r, uint16_t output)
{
    return r->regs[r->p->outputs[output]];
}

/* Runs a boolean program and narrows the batch's lanes to those where it is TRUE. */
NOYIELD NODISCARD bool program_filter(struct program_run *r, struct batch *in, struct eval *e);
