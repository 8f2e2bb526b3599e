/*
 * program.c -- opening programs, and running them over one row.
 */
#include "node/sql/exec/program.h"

#include <string.h>

#include "node/base/invariant.h"
#include "node/sql/exec/exec_internal.h"

static bool out_of_memory(struct eval *e)
{
    e->st = FAIL(STATUS_MEMORY, "no memory for an expression");
    return false;
}

static bool call(const struct step *s, struct program_run *r, struct eval *e, uint16_t dst)
{
    const struct func_impl *f = s->func;
    const uint16_t regs[FUNC_ARGS_MAX] = {s->a, s->b, s->c};
    union datum args[FUNC_ARGS_MAX];
    uint8_t nulls[FUNC_ARGS_MAX];
    bool any_null = false;

    DCHECK(f->nargs <= FUNC_ARGS_MAX);
    for (uint32_t i = 0; i < f->nargs; i++) {
        args[i] = r->vals[regs[i]];
        nulls[i] = r->nulls[regs[i]];
        any_null = any_null || nulls[i] != 0;
    }
    if (f->strict == NULL) {
        return f->loose(e, args, nulls, &r->vals[dst], &r->nulls[dst]);
    }
    r->nulls[dst] = any_null;
    return any_null || f->strict(e, args, &r->vals[dst]);
}

/* *out: 1 equal, 0 not, only for values that are not NULL. */
static bool equal(const struct func_impl *f, struct eval *e, union datum a, union datum b,
                  bool *out)
{
    const union datum args[2] = {a, b};
    union datum result = {0};

    if (!f->strict(e, args, &result)) {
        return false;
    }
    *out = result.i64 != 0;
    return true;
}

static bool step_is(const struct step *s, const struct program_run *r)
{
    const bool null = r->nulls[s->a] != 0;
    const bool truth = !null && r->vals[s->a].i64 != 0;
    bool is = false;

    switch (s->is) {
    case STEP_IS_NULL:
    case STEP_IS_UNKNOWN:
        is = null;
        break;
    case STEP_IS_TRUE:
        is = truth;
        break;
    case STEP_IS_FALSE:
        is = !null && !truth;
        break;
    }
    return is != ((s->flags & STEP_FLAG) != 0);
}

static bool step_distinct(const struct step *s, struct program_run *r, struct eval *e)
{
    const bool null_a = r->nulls[s->a] != 0;
    const bool null_b = r->nulls[s->b] != 0;
    bool same = null_a && null_b;

    if (!null_a && !null_b && !equal(s->func, e, r->vals[s->a], r->vals[s->b], &same)) {
        return false;
    }
    r->nulls[s->dst] = 0;
    r->vals[s->dst].i64 = same == ((s->flags & STEP_FLAG) != 0);
    return true;
}

static bool step_minmax(const struct step *s, struct program_run *r, struct eval *e)
{
    bool take_a = r->nulls[s->b] != 0;

    if (r->nulls[s->a] == 0 && r->nulls[s->b] == 0 &&
        !equal(s->func, e, r->vals[s->a], r->vals[s->b], &take_a)) {
        return false;
    }
    r->vals[s->dst] = r->vals[take_a ? s->a : s->b];
    r->nulls[s->dst] = r->nulls[take_a ? s->a : s->b];
    return true;
}

/* TRUE when one is equal; else NULL when any comparison is NULL; else FALSE. */
static bool step_in(const struct step *s, struct program_run *r, struct eval *e)
{
    bool null = r->nulls[s->a] != 0;
    bool hit = false;

    for (uint32_t i = 0; i < s->c && !hit && r->nulls[s->a] == 0; i++) {
        const uint16_t reg = r->p->lists[s->b + i];

        if (r->nulls[reg] != 0) {
            null = true;
        } else if (!equal(s->func, e, r->vals[s->a], r->vals[reg], &hit)) {
            return false;
        }
    }
    r->nulls[s->dst] = !hit && null;
    r->vals[s->dst].i64 = hit != ((s->flags & STEP_FLAG) != 0);
    return true;
}

static bool step_varchar(const struct step *s, struct program_run *r, struct eval *e)
{
    const struct type_io io = eval_io(e);

    r->nulls[s->dst] = r->nulls[s->a];
    return r->nulls[s->a] != 0 ||
           eval_check(e, type_varchar_fit(&io, s->typmod, (s->flags & STEP_FLAG) != 0,
                                          r->vals[s->a].bytes, &r->vals[s->dst].bytes));
}

static bool step_cast(const struct step *s, struct program_run *r, struct eval *e)
{
    r->nulls[s->dst] = r->nulls[s->a];
    return r->nulls[s->a] != 0 ||
           cast_through_text(e, s->from, s->to, r->vals[s->a], &r->vals[s->dst]);
}

static void move(struct program_run *r, uint16_t dst, uint16_t src)
{
    r->vals[dst] = r->vals[src];
    r->nulls[dst] = r->nulls[src];
}

/* Three-valued AND (stop: FALSE) and OR (stop: TRUE); b was not evaluated when a is the stop value. */
static void and_or(const struct step *s, struct program_run *r, int64_t stop)
{
    const bool null_a = r->nulls[s->a] != 0;
    const bool null_b = r->nulls[s->b] != 0;

    if ((!null_a && r->vals[s->a].i64 == stop) || (!null_b && r->vals[s->b].i64 == stop)) {
        r->vals[s->dst].i64 = stop;
        r->nulls[s->dst] = 0;
        return;
    }
    r->vals[s->dst].i64 = !stop;
    r->nulls[s->dst] = null_a || null_b;
}

static bool is_bool(const struct program_run *r, uint16_t reg, int64_t value)
{
    return r->nulls[reg] == 0 && (r->vals[reg].i64 != 0) == (value != 0);
}

/* Computes one step from the registers of one row; control flow is the caller's. */
bool program__step(struct program_run *r, const struct step *s, struct eval *e)
{
    switch (s->op) {
    case STEP_CALL:
        return call(s, r, e, s->dst);
    case STEP_CAST_IO:
        return step_cast(s, r, e);
    case STEP_VARCHAR:
        return step_varchar(s, r, e);
    case STEP_NOT:
        r->nulls[s->dst] = r->nulls[s->a];
        r->vals[s->dst].i64 = r->vals[s->a].i64 == 0;
        return true;
    case STEP_IS:
        r->vals[s->dst].i64 = step_is(s, r);
        r->nulls[s->dst] = 0;
        return true;
    case STEP_DISTINCT:
        return step_distinct(s, r, e);
    case STEP_MINMAX:
        return step_minmax(s, r, e);
    case STEP_IN:
        return step_in(s, r, e);
    case STEP_AND_END:
        and_or(s, r, 0);
        return true;
    case STEP_OR_END:
        and_or(s, r, 1);
        return true;
    case STEP_CASE_THEN:
    case STEP_CASE_ELSE:
        move(r, s->dst, s->a);
        return true;
    case STEP_AND_BEGIN:
    case STEP_OR_BEGIN:
    case STEP_CASE_BEGIN:
    case STEP_CASE_WHEN:
    case STEP_CASE_NOT_NULL:
    case STEP_CASE_END:
        return true;
    }
    return true;
}

/* Does control leave for s->target behind this step? */
static bool jumps(const struct step *s, const struct program_run *r)
{
    switch (s->op) {
    case STEP_AND_BEGIN:
        return is_bool(r, s->a, 0);
    case STEP_OR_BEGIN:
        return is_bool(r, s->a, 1);
    case STEP_CASE_WHEN:
        return !is_bool(r, s->a, 1);
    case STEP_CASE_NOT_NULL:
        return r->nulls[s->a] != 0;
    case STEP_CASE_THEN:
        return true;
    default: /* Everything else falls through to the next step. */
        return false;
    }
}

static bool run_steps(struct program_run *r, struct eval *e, uint32_t from, uint32_t to)
{
    const struct step *steps = r->p->steps;
    uint32_t pc = from;

    while (pc < to) {
        const struct step *s = &steps[pc];

        if (s->op == STEP_CALL) { /* The usual one, without the detour. */
            if (!call(s, r, e, s->dst)) {
                return false;
            }
            pc++;
            continue;
        }
        if (!program__step(r, s, e)) {
            return false;
        }
        pc = jumps(s, r) ? s->target : pc + 1;
    }
    return true;
}

bool program_scalar(struct program_run *r, struct eval *e)
{
    return run_steps(r, e, r->p->prologue_count, r->p->steps_count);
}

bool program_open(struct program_run *r, const struct program *p,
                  const struct program_params *params, struct eval *e, struct arena *arena)
{
    struct arena *batch_arena = e->arena;
    bool ok = true;

    memset(r, 0, sizeof(*r));
    if (p == NULL) {
        return true;
    }
    r->p = p;
    r->vals = ARENA_ARRAY(arena, union datum, p->regs_count);
    r->nulls = ARENA_ARRAY(arena, uint8_t, p->regs_count);
    if (r->vals == NULL || r->nulls == NULL) {
        return out_of_memory(e);
    }
    for (uint32_t i = 0; i < p->consts_count; i++) {
        const struct program_const *c = &p->consts[i];

        if (c->is_param) {
            r->vals[c->reg] = params->values[c->param];
            r->nulls[c->reg] = params->nulls[c->param];
        } else {
            r->vals[c->reg] = c->value;
            r->nulls[c->reg] = c->null;
        }
    }
    e->arena = arena; /* What the prologue computes lives as long as the program. */
    ok = run_steps(r, e, 0, p->prologue_count);
    e->arena = batch_arena;
    return ok;
}
