/*
 * program_vector.c -- running programs over columns.
 *
 * Each register is a pointer to a column: input registers point to the batch that came in, constants
 * and temporaries to columns of the program's own. A step whose arguments are all constant computes
 * one value and becomes a constant itself.
 *
 * Narrowing: `lanes` are the rows that the current step computes. AND, OR and CASE save them in a nest,
 * continue with fewer, and restore them at their END. Only rows of the narrowed lanes are written, so
 * an END reads an arm's column only where the arm was evaluated.
 */
#include <string.h>

#include "node/base/invariant.h"
#include "node/sql/exec/exec_internal.h"
#include "node/sql/exec/program.h"

struct program_nest {
    struct lanes outer;
    uint16_t *open;   /* CASE: lanes without a result yet. */
    uint16_t *narrow; /* Lanes of the current arm. */
    uint32_t open_count;
    uint32_t narrow_count;
};

struct vector_state {
    struct program_run *r;
    struct eval *e;
    struct lanes lanes;
    uint32_t rows; /* Of the batch. */
    uint32_t depth;
};

struct status program_reserve(struct program_run *r, uint32_t rows, struct arena *arena)
{
    const struct program *p = r->p;

    if (p == NULL || rows <= r->rows_max) {
        return OK;
    }
    r->regs = ARENA_ARRAY(arena, struct vec *, p->regs_count);
    r->own = ARENA_ARRAY(arena, struct vec, p->regs_count);
    r->nests = ARENA_ARRAY(arena, struct program_nest, p->nest + 1u);
    r->selected = ARENA_ARRAY(arena, uint16_t, rows);
    if (r->regs == NULL || r->own == NULL || r->nests == NULL || r->selected == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for an expression");
    }
    for (uint32_t i = 0; i < p->nest; i++) {
        r->nests[i].open = ARENA_ARRAY(arena, uint16_t, rows);
        r->nests[i].narrow = ARENA_ARRAY(arena, uint16_t, rows);
        if (r->nests[i].open == NULL || r->nests[i].narrow == NULL) {
            return FAIL(STATUS_MEMORY, "no memory for an expression");
        }
    }
    for (uint32_t i = p->inputs; i < p->regs_count; i++) {
        const bool constant = i < (uint32_t)p->inputs + p->consts_count;

        TRY(vec_init(&r->own[i], (enum type_phys)p->phys[i], constant ? 1 : rows, arena));
        r->regs[i] = &r->own[i];
        if (constant) {
            r->own[i].constant = true;
            vec_put(&r->own[i], 0, r->vals[i], r->nulls[i] != 0);
        }
    }
    r->rows_max = rows;
    return OK;
}

static bool lane_is_bool(const struct vec *v, uint32_t row, bool value)
{
    return !vec_is_null(v, row) && (v->i64[v->constant ? 0 : row] != 0) == value;
}

/* Starts a result: a full column again, no NULLs. */
static struct vec *fresh(struct vector_state *s, uint16_t reg)
{
    struct vec *v = s->r->regs[reg];

    v->constant = false;
    vec_clear_nulls(v, s->r->rows_max);
    return v;
}

/* NULL where any argument is. False: an argument is the constant NULL, every lane is NULL. */
static bool merge_nulls(const struct vec *const *args, uint32_t nargs, uint32_t rows,
                        struct vec *out)
{
    for (uint32_t i = 0; i < nargs; i++) {
        if (!args[i]->has_nulls) {
            continue;
        }
        if (args[i]->constant) {
            memset(out->nulls, 0xFF, VEC_NULL_WORDS(rows) * sizeof(uint64_t));
            out->has_nulls = true;
            return false;
        }
        for (uint32_t w = 0; w < VEC_NULL_WORDS(rows); w++) {
            out->nulls[w] |= args[i]->nulls[w];
        }
        out->has_nulls = true;
    }
    return true;
}

static bool call_row(const struct func_impl *f, struct eval *e, const struct vec *const *args,
                     uint32_t row, struct vec *out)
{
    union datum values[FUNC_ARGS_MAX];
    uint8_t nulls[FUNC_ARGS_MAX];
    union datum result = {.bytes = {NULL, 0}};
    uint8_t null = 0;

    DCHECK(f->nargs <= FUNC_ARGS_MAX);
    for (uint32_t i = 0; i < f->nargs; i++) {
        values[i] = vec_get(args[i], row);
        nulls[i] = vec_is_null(args[i], row);
    }
    if (f->strict != NULL) {
        if (!f->strict(e, values, &result)) {
            return false;
        }
    } else if (!f->loose(e, values, nulls, &result, &null)) {
        return false;
    }
    vec_put(out, row, result, null != 0);
    return true;
}

static bool vector_call(const struct step *st, struct vector_state *s)
{
    const struct func_impl *f = st->func;
    const struct vec *args[FUNC_ARGS_MAX] = {s->r->regs[st->a], s->r->regs[st->b],
                                             s->r->regs[st->c]};
    struct vec *out = fresh(s, st->dst);

    DCHECK(f->nargs <= FUNC_ARGS_MAX);
    if (f->strict != NULL && !merge_nulls(args, f->nargs, s->rows, out)) {
        return true;
    }
    if (f->vector != NULL) {
        return f->vector(s->e, args, &s->lanes, out);
    }
    for (uint32_t k = 0; k < s->lanes.count; k++) {
        const uint32_t row = lane(&s->lanes, k);

        if ((f->strict == NULL || !vec_is_null(out, row)) && !call_row(f, s->e, args, row, out)) {
            return false;
        }
    }
    return true;
}

/* Constants stand in vals since program_open(). */
static void load(struct program_run *r, uint16_t reg, uint32_t row)
{
    if (reg >= r->p->inputs && reg < r->p->inputs + r->p->consts_count) {
        return;
    }
    r->vals[reg] = vec_get(r->regs[reg], row);
    r->nulls[reg] = vec_is_null(r->regs[reg], row);
}

/* Steps without a loop of their own: each lane through the interpreter of single rows. */
static bool vector_by_rows(const struct step *st, struct vector_state *s)
{
    struct program_run *r = s->r;
    struct vec *out = fresh(s, st->dst);
    const bool two = st->op == STEP_DISTINCT || st->op == STEP_MINMAX;

    for (uint32_t k = 0; k < s->lanes.count; k++) {
        const uint32_t row = lane(&s->lanes, k);

        load(r, st->a, row);
        if (two) {
            load(r, st->b, row);
        }
        for (uint32_t i = 0; st->op == STEP_IN && i < st->c; i++) {
            load(r, r->p->lists[st->b + i], row);
        }
        if (!program__step(r, st, s->e)) {
            return false;
        }
        vec_put(out, row, r->vals[st->dst], r->nulls[st->dst] != 0);
    }
    return true;
}

static struct program_nest *push(struct vector_state *s)
{
    struct program_nest *n = &s->r->nests[s->depth++];

    n->outer = s->lanes;
    n->open_count = 0;
    n->narrow_count = 0;
    return n;
}

static void pop(struct vector_state *s)
{
    s->lanes = s->r->nests[--s->depth].outer;
}

/* AND (stop FALSE), OR (stop TRUE). True: no lane needs the second operand. */
static bool and_or_begin(const struct step *st, struct vector_state *s, bool stop)
{
    struct program_nest *n = push(s);
    const struct vec *a = s->r->regs[st->a];

    for (uint32_t k = 0; k < s->lanes.count; k++) {
        const uint32_t row = lane(&s->lanes, k);

        if (!lane_is_bool(a, row, stop)) {
            n->narrow[n->narrow_count++] = (uint16_t)row;
        }
    }
    s->lanes = (struct lanes){n->narrow, n->narrow_count};
    return n->narrow_count == 0;
}

static void and_or_end(const struct step *st, struct vector_state *s, bool stop)
{
    const struct vec *a = s->r->regs[st->a];
    const struct vec *b = s->r->regs[st->b];
    struct vec *out = NULL;

    pop(s);
    out = fresh(s, st->dst);
    for (uint32_t k = 0; k < s->lanes.count; k++) {
        const uint32_t row = lane(&s->lanes, k);
        union datum d = {.i64 = stop};

        if (lane_is_bool(a, row, stop) || lane_is_bool(b, row, stop)) {
            vec_put(out, row, d, false);
            continue;
        }
        d.i64 = !stop;
        vec_put(out, row, d, vec_is_null(a, row) || vec_is_null(b, row));
    }
}

static void case_begin(const struct step *st, struct vector_state *s)
{
    struct program_nest *n = push(s);

    (void)fresh(s, st->dst);
    for (uint32_t k = 0; k < s->lanes.count; k++) {
        n->open[n->open_count++] = (uint16_t)lane(&s->lanes, k);
    }
    s->lanes = (struct lanes){n->open, n->open_count};
}

/* True: no lane takes this arm. */
static bool case_when(const struct step *st, struct vector_state *s)
{
    struct program_nest *n = &s->r->nests[s->depth - 1];
    const struct vec *a = s->r->regs[st->a];

    n->narrow_count = 0;
    for (uint32_t k = 0; k < n->open_count; k++) {
        const uint32_t row = n->open[k];

        if (st->op == STEP_CASE_NOT_NULL ? !vec_is_null(a, row) : lane_is_bool(a, row, true)) {
            n->narrow[n->narrow_count++] = (uint16_t)row;
        }
    }
    if (n->narrow_count == 0) {
        return true;
    }
    s->lanes = (struct lanes){n->narrow, n->narrow_count};
    return false;
}

static void copy_lanes(const struct step *st, struct vector_state *s)
{
    const struct vec *a = s->r->regs[st->a];
    struct vec *out = s->r->regs[st->dst];

    for (uint32_t k = 0; k < s->lanes.count; k++) {
        const uint32_t row = lane(&s->lanes, k);

        vec_put(out, row, vec_get(a, row), vec_is_null(a, row));
    }
}

/* True: every lane has its result. */
static bool case_then(const struct step *st, struct vector_state *s)
{
    struct program_nest *n = &s->r->nests[s->depth - 1];
    uint32_t kept = 0;
    uint32_t taken = 0;

    copy_lanes(st, s);
    for (uint32_t k = 0; k < n->open_count; k++) { /* Both lists rise. */
        if (taken < n->narrow_count && n->narrow[taken] == n->open[k]) {
            taken++;
        } else {
            n->open[kept++] = n->open[k];
        }
    }
    n->open_count = kept;
    s->lanes = (struct lanes){n->open, n->open_count};
    return kept == 0;
}

/* *jump: continue at st->target. */
static bool run_step(const struct step *st, struct vector_state *s, bool *jump)
{
    *jump = false;
    switch (st->op) {
    case STEP_CALL:
        return vector_call(st, s);
    case STEP_CAST_IO:
    case STEP_VARCHAR:
    case STEP_NOT:
    case STEP_IS:
    case STEP_DISTINCT:
    case STEP_MINMAX:
    case STEP_IN:
        return vector_by_rows(st, s);
    case STEP_AND_BEGIN:
        *jump = and_or_begin(st, s, false);
        return true;
    case STEP_AND_END:
        and_or_end(st, s, false);
        return true;
    case STEP_OR_BEGIN:
        *jump = and_or_begin(st, s, true);
        return true;
    case STEP_OR_END:
        and_or_end(st, s, true);
        return true;
    case STEP_CASE_BEGIN:
        case_begin(st, s);
        return true;
    case STEP_CASE_WHEN:
    case STEP_CASE_NOT_NULL:
        *jump = case_when(st, s);
        return true;
    case STEP_CASE_THEN:
        *jump = case_then(st, s);
        return true;
    case STEP_CASE_ELSE:
        copy_lanes(st, s);
        return true;
    case STEP_CASE_END:
        pop(s);
        return true;
    }
    return true;
}

static bool few_rows(struct program_run *r, const struct batch *in, struct eval *e)
{
    const struct program *p = r->p;

    for (uint32_t i = 0; i < p->outputs_count; i++) {
        if (p->outputs[i] >= p->inputs + p->consts_count) {
            r->regs[p->outputs[i]]->constant = false;
            vec_clear_nulls(r->regs[p->outputs[i]], r->rows_max);
        }
    }
    for (uint32_t k = 0; k < in->lanes.count; k++) {
        const uint32_t row = lane(&in->lanes, k);

        for (uint32_t i = 0; i < p->inputs; i++) {
            load(r, (uint16_t)i, row);
        }
        if (!program_scalar(r, e)) {
            return false;
        }
        for (uint32_t i = 0; i < p->outputs_count; i++) {
            const uint16_t reg = p->outputs[i];

            if (reg >= p->inputs + p->consts_count) {
                vec_put(r->regs[reg], row, r->vals[reg], r->nulls[reg] != 0);
            }
        }
    }
    return true;
}

bool program_vector(struct program_run *r, const struct batch *in, struct eval *e)
{
    const struct program *p = r->p;
    struct vector_state s = {.r = r, .e = e, .lanes = in->lanes, .rows = in->rows};
    bool jump = false;

    INVARIANT(in->rows <= r->rows_max);
    INVARIANT(in->cols_count >= p->inputs);
    for (uint32_t i = 0; i < p->inputs; i++) {
        r->regs[i] = &in->cols[i];
    }
    if (in->lanes.count <= PROGRAM_SCALAR_ROWS) {
        return few_rows(r, in, e);
    }
    for (uint32_t pc = p->prologue_count; pc < p->steps_count;) {
        const struct step *st = &p->steps[pc];

        if (!run_step(st, &s, &jump)) {
            return false;
        }
        pc = jump ? st->target : pc + 1;
    }
    return true;
}

bool program_filter(struct program_run *r, struct batch *in, struct eval *e)
{
    uint32_t count = 0;
    const struct vec *v = NULL;

    if (!program_vector(r, in, e)) {
        return false;
    }
    v = program_output(r, 0);
    for (uint32_t k = 0; k < in->lanes.count; k++) {
        const uint32_t row = lane(&in->lanes, k);

        if (lane_is_bool(v, row, true)) {
            r->selected[count++] = (uint16_t)row;
        }
    }
    in->lanes = (struct lanes){r->selected, count};
    return true;
}
