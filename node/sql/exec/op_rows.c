/*
 * op_rows.c -- operators that make rows out of nothing, and those that only look at one batch at a
 * time: one row, VALUES, generate_series, filter and projection, LIMIT.
 */
#include <string.h>

#include "node/runtime/fiber.h"
#include "node/sql/exec/exec_internal.h"

/* ---- one row ----------------------------------------------------------------------------------- */

struct op_one_row {
    struct op op;
    bool done;
};

static struct status one_row_next(struct op *o, struct batch *out)
{
    struct op_one_row *s = CONTAINER_OF(o, struct op_one_row, op);

    out->lanes.count = s->done ? 0 : 1;
    out->rows = 1;
    s->done = true;
    return OK;
}

static const struct op_ops one_row_ops = {one_row_next};

struct status exec__open_one_row(struct exec *x, struct op **out)
{
    struct op_one_row *s = ARENA_NEW(x->arena, struct op_one_row);

    if (s == NULL) {
        return exec__no_memory();
    }
    s->op.ops = &one_row_ops;
    *out = &s->op;
    return OK;
}

/* ---- VALUES ------------------------------------------------------------------------------------ */

struct op_values {
    struct op op;
    struct program_run *runs; /* One per row. */
    struct vec *cols;
    uint32_t at;
    uint32_t batch_rows;
};

static struct status values_next(struct op *o, struct batch *out)
{
    struct op_values *s = CONTAINER_OF(o, struct op_values, op);
    const struct plan_node *n = o->node;
    uint32_t rows = n->values.rows_count - s->at;

    rows = rows > s->batch_rows ? s->batch_rows : rows;
    for (uint32_t i = 0; i < rows; i++) {
        struct program_run *r = &s->runs[s->at + i];

        TRY(exec__scalar(o->x, r, o->x->arena));
        for (uint16_t c = 0; c < n->cols_count; c++) {
            vec_put(&s->cols[c], i, program_value(r, c), program_is_null(r, c));
        }
    }
    s->at += rows;
    *out = (struct batch){s->cols, n->cols_count, rows, {NULL, rows}};
    return OK;
}

static const struct op_ops values_ops = {values_next};

struct status exec__open_values(struct exec *x, const struct plan_node *n, struct op **out)
{
    struct op_values *s = ARENA_NEW(x->arena, struct op_values);
    struct program_run *runs = ARENA_ARRAY(x->arena, struct program_run, n->values.rows_count);

    if (s == NULL || runs == NULL) {
        return exec__no_memory();
    }
    s->batch_rows = n->values.rows_count < VEC_ROWS_MAX ? n->values.rows_count : VEC_ROWS_MAX;
    TRY(exec__make_vecs(x, n->phys, n->cols_count, s->batch_rows, &s->cols));
    for (uint32_t i = 0; i < n->values.rows_count; i++) {
        TRY(exec__open_program(x, n->values.rows[i], &runs[i]));
    }
    s->runs = runs;
    s->op.ops = &values_ops;
    *out = &s->op;
    return OK;
}

/* ---- generate_series --------------------------------------------------------------------------- */

struct op_series {
    struct op op;
    struct vec *cols;
    int64_t next;
    int64_t stop;
    int64_t step;
    bool ended;
};

static struct status series_next(struct op *o, struct batch *out)
{
    struct op_series *s = CONTAINER_OF(o, struct op_series, op);
    uint32_t rows = 0;

    while (!s->ended && rows < VEC_ROWS_MAX &&
           (s->step > 0 ? s->next <= s->stop : s->next >= s->stop)) {
        s->cols[0].i64[rows++] = s->next;
        s->ended = __builtin_add_overflow(s->next, s->step, &s->next);
    }
    s->ended = s->ended || rows < VEC_ROWS_MAX;
    *out = (struct batch){s->cols, 1, rows, {NULL, rows}};
    return OK;
}

static const struct op_ops series_ops = {series_next};

struct status exec__open_series(struct exec *x, const struct plan_node *n, struct op **out)
{
    struct op_series *s = ARENA_NEW(x->arena, struct op_series);
    struct program_run r;

    if (s == NULL) {
        return exec__no_memory();
    }
    TRY(exec__open_program(x, n->series, &r));
    TRY(exec__scalar(x, &r, x->arena));
    TRY(exec__make_vecs(x, n->phys, 1, VEC_ROWS_MAX, &s->cols));
    s->next = program_value(&r, 0).i64;
    s->stop = program_value(&r, 1).i64;
    s->step = program_value(&r, 2).i64;
    s->ended = program_is_null(&r, 0) || program_is_null(&r, 1) || program_is_null(&r, 2);
    if (!s->ended && s->step == 0) {
        return sql_error_set(x->err, x->arena, "22023", -1, "step size cannot equal zero");
    }
    s->op.ops = &series_ops;
    *out = &s->op;
    return OK;
}

/* ---- filter and projection --------------------------------------------------------------------- */

struct op_project {
    struct op op;
    struct program_run filter;
    struct program_run columns;
    struct vec *cols;
    struct arena *batch_arena; /* Strings that expressions make: until the next batch. */
};

static struct status project_columns(struct op_project *s, struct batch *in, struct batch *out)
{
    const uint16_t n = s->op.node->cols_count;

    TRY(program_reserve(&s->columns, in->rows, s->op.x->arena));
    if (!program_vector(&s->columns, in, &s->op.x->eval)) {
        return exec__failed(s->op.x);
    }
    for (uint16_t i = 0; i < n; i++) {
        s->cols[i] = *program_output(&s->columns, i);
    }
    *out = (struct batch){s->cols, n, in->rows, in->lanes};
    return OK;
}

MAYYIELD static struct status project_next(struct op *o, struct batch *out)
{
    struct op_project *s = CONTAINER_OF(o, struct op_project, op);
    struct batch in = {0};

    do {
        arena_reset(s->batch_arena);
        memset(&in, 0, sizeof(in));
        TRY(o->input->ops->next(o->input, &in));
        if (in.lanes.count == 0) {
            *out = in;
            return OK;
        }
        TRY(exec__yield());
        o->x->eval.arena = s->batch_arena;
        if (o->node->project.filter != NULL) {
            TRY(program_reserve(&s->filter, in.rows, o->x->arena));
            if (!program_filter(&s->filter, &in, &o->x->eval)) {
                return exec__failed(o->x);
            }
        }
    } while (in.lanes.count == 0);
    if (o->node->project.columns == NULL) {
        *out = in;
        return OK;
    }
    return project_columns(s, &in, out);
}

static const struct op_ops project_ops = {project_next};

struct status exec__open_project(struct exec *x, const struct plan_node *n, struct op **out)
{
    struct op_project *s = ARENA_NEW(x->arena, struct op_project);

    if (s == NULL) {
        return exec__no_memory();
    }
    s->cols = ARENA_ARRAY(x->arena, struct vec, n->cols_count);
    if (s->cols == NULL) {
        return exec__no_memory();
    }
    TRY(exec__child_arena(x, 0, &s->batch_arena));
    TRY(exec__open_program(x, n->project.filter, &s->filter));
    TRY(exec__open_program(x, n->project.columns, &s->columns));
    s->op.ops = &project_ops;
    *out = &s->op;
    return OK;
}

/* ---- LIMIT and OFFSET -------------------------------------------------------------------------- */

struct op_limit {
    struct op op;
    uint64_t left; /* UINT64_MAX: no limit. */
    uint64_t skip;
    uint16_t *index;
};

static struct status count_of(struct exec *x, const struct program_run *r, uint16_t output,
                              const char *sqlstate, const char *word, uint64_t none, uint64_t *out)
{
    const int64_t v = program_value(r, output).i64;

    *out = none;
    if (program_is_null(r, output)) {
        return OK;
    }
    if (v < 0) {
        return sql_error_set(x->err, x->arena, sqlstate, -1, "%s must not be negative", word);
    }
    *out = (uint64_t)v;
    return OK;
}

/* Lanes [from, from + count) of the batch. */
static void cut_lanes(struct op_limit *s, struct batch *b, uint32_t from, uint32_t count)
{
    if (from == 0) {
        b->lanes.count = count;
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        s->index[i] = (uint16_t)lane(&b->lanes, from + i);
    }
    b->lanes = (struct lanes){s->index, count};
}

MAYYIELD static struct status limit_next(struct op *o, struct batch *out)
{
    struct op_limit *s = CONTAINER_OF(o, struct op_limit, op);

    while (s->left > 0) {
        uint32_t from = 0;
        uint32_t count = 0;

        memset(out, 0, sizeof(*out));
        TRY(o->input->ops->next(o->input, out));
        if (out->lanes.count == 0) {
            return OK;
        }
        if (s->skip >= out->lanes.count) {
            s->skip -= out->lanes.count;
            continue;
        }
        from = (uint32_t)s->skip;
        s->skip = 0;
        count = out->lanes.count - from;
        count = count > s->left ? (uint32_t)s->left : count;
        s->left -= s->left == UINT64_MAX ? 0 : count;
        cut_lanes(s, out, from, count);
        return OK;
    }
    memset(out, 0, sizeof(*out));
    return OK;
}

static const struct op_ops limit_ops = {limit_next};

struct status exec__open_limit(struct exec *x, const struct plan_node *n, struct op **out,
                               uint64_t *hint)
{
    struct op_limit *s = ARENA_NEW(x->arena, struct op_limit);
    struct program_run r;

    if (s == NULL) {
        return exec__no_memory();
    }
    s->index = ARENA_ARRAY(x->arena, uint16_t, VEC_ROWS_MAX);
    if (s->index == NULL) {
        return exec__no_memory();
    }
    TRY(exec__open_program(x, n->limit.counts, &r));
    TRY(exec__scalar(x, &r, x->arena));
    TRY(count_of(x, &r, 0, "2201W", "LIMIT", UINT64_MAX, &s->left));
    TRY(count_of(x, &r, 1, "2201X", "OFFSET", 0, &s->skip));
    *hint = s->left > UINT32_MAX || s->skip > UINT32_MAX ? 0 : s->left + s->skip;
    s->op.ops = &limit_ops;
    *out = &s->op;
    return OK;
}
