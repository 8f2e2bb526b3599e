/*
 * program_build.c -- expressions into programs.
 *
 * Registers are handed out in three bands (inputs, constants, temporaries), but how many constants there
 * are is known only at the end. So while building, a constant is numbered from CONST_BASE and a
 * temporary from TEMP_BASE, and a last pass moves both bands down to their places.
 *
 * Calls of stable functions without arguments, and time stamps read from literals, go to the prologue:
 * they are computed once per execution. Both cannot fail there (literals were read once already when
 * the statement was analysed), so an expression that is never reached still raises no error.
 */
#include <string.h>

#include "node/sql/plan/plan_build.h"

#define BAND       0x5000u /* Registers of a band: PROGRAM_REGISTERS_MAX / 3. */
#define CONST_BASE BAND
#define TEMP_BASE  (2u * BAND)

struct step_list {
    struct step *items;
    uint32_t count;
    uint32_t cap;
};

struct building {
    struct plan_builder *b;
    uint16_t inputs;
    const uint8_t *input_phys;
    struct step_list prologue;
    struct step_list steps;
    struct program_const *consts;
    uint8_t *const_phys;
    uint32_t consts_count;
    uint32_t consts_cap;
    uint8_t *temp_phys;
    uint32_t temps_count;
    uint32_t temps_cap;
    uint16_t *lists;
    uint32_t lists_count;
    uint32_t lists_cap;
    uint32_t nest;
    uint32_t nest_max;
};

static struct status no_memory(void)
{
    return FAIL(STATUS_MEMORY, "no memory for a plan");
}

static struct status too_complex(struct building *p)
{
    return sql_error_set(p->b->err, p->b->scratch, "54001", -1, "statement is too complex");
}

/* Doubles an array of the scratch arena. */
static struct status grow(struct arena *arena, void **items, uint32_t count, uint32_t *cap,
                          size_t size)
{
    const uint32_t more = *cap == 0 ? 16 : *cap * 2;
    void *fresh = NULL;

    if (count < *cap) {
        return OK;
    }
    fresh = arena_calloc(arena, more, size);
    if (fresh == NULL) {
        return no_memory();
    }
    if (count > 0) {
        memcpy(fresh, *items, count * size);
    }
    *items = fresh;
    *cap = more;
    return OK;
}

static struct status emit(struct building *p, struct step_list *l, struct step s, uint32_t *at)
{
    TRY(grow(p->b->scratch, (void **)&l->items, l->count, &l->cap, sizeof(s)));
    if (at != NULL) {
        *at = l->count;
    }
    l->items[l->count++] = s;
    return OK;
}

static struct status new_const(struct building *p, struct program_const c, enum type_phys phys,
                               uint16_t *reg)
{
    uint32_t cap = p->consts_cap;

    if (p->consts_count == BAND) {
        return too_complex(p);
    }
    TRY(grow(p->b->scratch, (void **)&p->consts, p->consts_count, &cap, sizeof(c)));
    TRY(grow(p->b->scratch, (void **)&p->const_phys, p->consts_count, &p->consts_cap, 1));
    *reg = (uint16_t)(CONST_BASE + p->consts_count);
    c.reg = *reg;
    p->const_phys[p->consts_count] = (uint8_t)phys;
    p->consts[p->consts_count++] = c;
    return OK;
}

static struct status new_temp(struct building *p, enum type_phys phys, uint16_t *reg)
{
    if (p->temps_count == BAND) {
        return too_complex(p);
    }
    TRY(grow(p->b->scratch, (void **)&p->temp_phys, p->temps_count, &p->temps_cap, 1));
    *reg = (uint16_t)(TEMP_BASE + p->temps_count);
    p->temp_phys[p->temps_count++] = (uint8_t)phys;
    return OK;
}

static enum type_phys phys_of(oid type)
{
    const struct type_desc *t = type_find(type);

    return t == NULL ? PHYS_BYTES : t->phys;
}

static struct status build(struct building *p, const struct expr *e, uint16_t *reg);

static struct status build_const(struct building *p, const struct expr *e, uint16_t *reg)
{
    struct program_const c = {.null = e->constant.null};
    const enum type_phys phys = phys_of(e->type);

    if (!c.null) {
        TRY(datum_dup(phys, e->constant.value, p->b->arena, &c.value));
    }
    return new_const(p, c, phys, reg);
}

/* A parameter that is used twice has one register. */
static struct status build_param(struct building *p, const struct expr *e, uint16_t *reg)
{
    for (uint32_t i = 0; i < p->consts_count; i++) {
        if (p->consts[i].is_param && p->consts[i].param == e->param) {
            *reg = p->consts[i].reg;
            return OK;
        }
    }
    return new_const(p, (struct program_const){.is_param = true, .param = e->param},
                     phys_of(e->type), reg);
}

/* Into the prologue, with its result among the constants. */
static struct status build_once(struct building *p, struct step s, oid type, uint16_t *reg)
{
    TRY(new_const(p, (struct program_const){.null = true}, phys_of(type), reg));
    s.dst = *reg;
    return emit(p, &p->prologue, s, NULL);
}

static struct status build_call(struct building *p, const struct expr *e, uint16_t *reg)
{
    uint16_t regs[FUNC_ARGS_MAX] = {0};
    struct step s = {.op = STEP_CALL, .func = e->func};

    if (e->args_count == 0 && (e->func->flags & FUNC_STABLE) != 0) {
        return build_once(p, s, e->type, reg);
    }
    for (uint32_t i = 0; i < e->args_count; i++) {
        TRY(build(p, e->args[i], &regs[i]));
    }
    s.a = regs[0];
    s.b = regs[1];
    s.c = regs[2];
    if (e->args_count < 2) { /* Unused operands must name a register all the same. */
        s.b = s.a;
    }
    if (e->args_count < 3) {
        s.c = s.a;
    }
    TRY(new_temp(p, phys_of(e->type), &s.dst));
    *reg = s.dst;
    if (e->args_count == 0) {
        s.a = s.b = s.c = s.dst;
    }
    return emit(p, &p->steps, s, NULL);
}

static struct status build_one_arg(struct building *p, const struct expr *e, struct step s,
                                   uint16_t *reg)
{
    TRY(build(p, e->args[0], &s.a));
    s.b = s.c = s.a;
    if (s.op == STEP_CAST_IO && e->type == TYPE_TIMESTAMPTZ && e->args[0]->kind == EXPR_CONST) {
        return build_once(p, s, e->type, reg);
    }
    TRY(new_temp(p, phys_of(e->type), &s.dst));
    *reg = s.dst;
    return emit(p, &p->steps, s, NULL);
}

static struct status enter(struct building *p)
{
    if (++p->nest > PROGRAM_NEST_MAX) {
        return too_complex(p);
    }
    p->nest_max = p->nest > p->nest_max ? p->nest : p->nest_max;
    return OK;
}

/* a AND b AND c: ((a AND b) AND c), each with a jump over its right side. */
static struct status build_and_or(struct building *p, const struct expr *e, uint16_t *reg)
{
    const bool and = e->kind == EXPR_AND;
    uint16_t left = 0;

    TRY(build(p, e->args[0], &left));
    for (uint32_t i = 1; i < e->args_count; i++) {
        struct step begin = {.op = and? STEP_AND_BEGIN : STEP_OR_BEGIN, .a = left};
        struct step end = {.op = and? STEP_AND_END : STEP_OR_END, .a = left};
        uint32_t at = 0;

        TRY(enter(p));
        begin.b = begin.c = begin.dst = left;
        TRY(emit(p, &p->steps, begin, &at));
        TRY(build(p, e->args[i], &end.b));
        end.c = left;
        TRY(new_temp(p, PHYS_I64, &end.dst));
        p->steps.items[at].target = p->steps.count;
        TRY(emit(p, &p->steps, end, NULL));
        left = end.dst;
        p->nest--;
    }
    *reg = left;
    return OK;
}

static struct status build_two_args(struct building *p, const struct expr *e, struct step s,
                                    uint16_t *reg)
{
    TRY(build(p, e->args[0], &s.a));
    TRY(build(p, e->args[1], &s.b));
    s.c = s.a;
    TRY(new_temp(p, phys_of(e->type), &s.dst));
    *reg = s.dst;
    return emit(p, &p->steps, s, NULL);
}

/* NULLIF(a, b): the comparison may need casts, the result is the uncast a. */
static struct status build_nullif(struct building *p, const struct expr *e, uint16_t *reg)
{
    const struct expr equality = {.kind = EXPR_CALL,
                                  .type = TYPE_BOOL,
                                  .args = e->args + 1,
                                  .args_count = 2,
                                  .func = e->func};
    struct step begin = {.op = STEP_CASE_BEGIN};
    struct step when = {.op = STEP_CASE_WHEN};
    struct step then = {.op = STEP_CASE_THEN};
    uint16_t value = 0;
    uint16_t null = 0;
    uint16_t dst = 0;
    uint32_t when_at = 0;
    uint32_t then_at = 0;

    TRY(build(p, e->args[0], &value));
    TRY(new_const(p, (struct program_const){.null = true}, phys_of(e->type), &null));
    TRY(new_temp(p, phys_of(e->type), &dst));
    TRY(enter(p));
    begin.dst = begin.a = begin.b = begin.c = dst;
    TRY(emit(p, &p->steps, begin, NULL));
    TRY(build(p, &equality, &when.a));
    when.b = when.c = when.dst = when.a;
    TRY(emit(p, &p->steps, when, &when_at));
    then.dst = dst;
    then.a = then.b = then.c = null;
    TRY(emit(p, &p->steps, then, &then_at));
    p->steps.items[when_at].target = p->steps.count;
    then.op = STEP_CASE_ELSE;
    then.a = then.b = then.c = value;
    TRY(emit(p, &p->steps, then, NULL));
    p->steps.items[then_at].target = p->steps.count;
    then.op = STEP_CASE_END;
    TRY(emit(p, &p->steps, then, NULL));
    p->nest--;
    *reg = dst;
    return OK;
}

/* One arm of CASE or COALESCE: a test, and the result when it holds. then_at: its jump to the end. */
static struct status build_arm(struct building *p, enum step_op test, const struct expr *condition,
                               const struct expr *result, uint16_t dst, uint32_t *then_at)
{
    struct step when = {.op = test};
    struct step then = {.op = STEP_CASE_THEN, .dst = dst};
    uint32_t when_at = 0;

    TRY(build(p, condition, &when.a));
    when.b = when.c = when.dst = when.a;
    TRY(emit(p, &p->steps, when, &when_at));
    if (result == condition) {
        then.a = when.a;
    } else {
        TRY(build(p, result, &then.a));
    }
    then.b = then.c = then.a;
    TRY(emit(p, &p->steps, then, then_at));
    p->steps.items[when_at].target = p->steps.count;
    return OK;
}

static struct status build_case(struct building *p, const struct expr *e, uint16_t *reg)
{
    const bool coalesce = e->kind == EXPR_COALESCE;
    const uint32_t stride = coalesce ? 1 : 2;
    const uint32_t arms = coalesce ? e->args_count - 1 : (e->args_count - 1) / 2;
    uint32_t *jumps = ARENA_ARRAY(p->b->scratch, uint32_t, arms + 1);
    struct step s = {.op = STEP_CASE_BEGIN};

    if (jumps == NULL) {
        return no_memory();
    }
    TRY(enter(p));
    TRY(new_temp(p, phys_of(e->type), reg));
    s.dst = s.a = s.b = s.c = *reg;
    TRY(emit(p, &p->steps, s, NULL));
    for (uint32_t i = 0; i < arms; i++) {
        const struct expr *condition = e->args[i * stride];

        TRY(build_arm(p, coalesce ? STEP_CASE_NOT_NULL : STEP_CASE_WHEN, condition,
                      e->args[i * stride + stride - 1], *reg, &jumps[i]));
    }
    s.op = STEP_CASE_ELSE;
    TRY(build(p, e->args[e->args_count - 1], &s.a));
    s.b = s.c = s.a;
    TRY(emit(p, &p->steps, s, NULL));
    for (uint32_t i = 0; i < arms; i++) {
        p->steps.items[jumps[i]].target = p->steps.count;
    }
    s.op = STEP_CASE_END;
    TRY(emit(p, &p->steps, s, NULL));
    p->nest--;
    return OK;
}

static struct status build_minmax(struct building *p, const struct expr *e, uint16_t *reg)
{
    TRY(build(p, e->args[0], reg));
    for (uint32_t i = 1; i < e->args_count; i++) {
        struct step s = {.op = STEP_MINMAX, .a = *reg, .func = e->func};

        TRY(build(p, e->args[i], &s.b));
        s.c = s.a;
        TRY(new_temp(p, phys_of(e->type), &s.dst));
        TRY(emit(p, &p->steps, s, NULL));
        *reg = s.dst;
    }
    return OK;
}

static struct status build_in(struct building *p, const struct expr *e, uint16_t *reg)
{
    const uint32_t count = e->args_count - 1;
    struct step s = {.op = STEP_IN, .func = e->func, .flags = e->flag ? STEP_FLAG : 0};
    uint16_t *list = ARENA_ARRAY(p->b->scratch, uint16_t, count);

    if (list == NULL) {
        return no_memory();
    }
    if (p->lists_count + count > BAND) {
        return too_complex(p);
    }
    TRY(build(p, e->args[0], &s.a));
    for (uint32_t i = 0; i < count; i++) {
        TRY(build(p, e->args[i + 1], &list[i]));
    }
    s.b = (uint16_t)p->lists_count; /* Behind the lists of the arguments themselves. */
    s.c = (uint16_t)count;
    for (uint32_t i = 0; i < count; i++) {
        TRY(grow(p->b->scratch, (void **)&p->lists, p->lists_count, &p->lists_cap,
                 sizeof(*p->lists)));
        p->lists[p->lists_count++] = list[i];
    }
    TRY(new_temp(p, PHYS_I64, &s.dst));
    *reg = s.dst;
    return emit(p, &p->steps, s, NULL);
}

static struct status build(struct building *p, const struct expr *e, uint16_t *reg)
{
    const uint32_t flag = e->flag ? STEP_FLAG : 0;
    struct step s = {.flags = flag};

    switch (e->kind) {
    case EXPR_CONST:
        return build_const(p, e, reg);
    case EXPR_PARAM:
        return build_param(p, e, reg);
    case EXPR_COLUMN:
        *reg = e->column;
        return OK;
    case EXPR_CALL:
        return build_call(p, e, reg);
    case EXPR_RELABEL:
        return build(p, e->args[0], reg);
    case EXPR_CAST_IO:
        s.op = STEP_CAST_IO;
        s.from = e->args[0]->type;
        s.to = e->type;
        return build_one_arg(p, e, s, reg);
    case EXPR_VARCHAR:
        s.op = STEP_VARCHAR;
        s.typmod = e->typmod;
        return build_one_arg(p, e, s, reg);
    case EXPR_NOT:
        s.op = STEP_NOT;
        return build_one_arg(p, e, s, reg);
    case EXPR_IS:
        s.op = STEP_IS;
        s.is = e->is;
        return build_one_arg(p, e, s, reg);
    case EXPR_DISTINCT:
        s.op = STEP_DISTINCT;
        s.func = e->func;
        return build_two_args(p, e, s, reg);
    case EXPR_AND:
    case EXPR_OR:
        return build_and_or(p, e, reg);
    case EXPR_CASE:
    case EXPR_COALESCE:
        return build_case(p, e, reg);
    case EXPR_NULLIF:
        return build_nullif(p, e, reg);
    case EXPR_MINMAX:
        return build_minmax(p, e, reg);
    case EXPR_IN:
        return build_in(p, e, reg);
    case EXPR_AGG:
        break;
    }
    return FAIL(STATUS_INVALID, "an aggregate where none may stand");
}

/* ---- putting it together ----------------------------------------------------------------------- */

static uint16_t settle(const struct building *p, uint16_t reg)
{
    if (reg < CONST_BASE) {
        return reg;
    }
    if (reg < TEMP_BASE) {
        return (uint16_t)(reg - CONST_BASE + p->inputs);
    }
    return (uint16_t)(reg - TEMP_BASE + p->inputs + p->consts_count);
}

static void settle_steps(const struct building *p, const struct step_list *l, uint32_t base,
                         struct step *out)
{
    for (uint32_t i = 0; i < l->count; i++) {
        struct step s = l->items[i];

        s.dst = settle(p, s.dst);
        s.a = settle(p, s.a);
        if (s.op != STEP_IN) { /* There b and c say where its list is. */
            s.b = settle(p, s.b);
            s.c = settle(p, s.c);
        }
        s.target += base;
        out[base + i] = s;
    }
}

static struct status finish(struct building *p, uint16_t *outputs, uint16_t count,
                            const struct program **out)
{
    struct arena *a = p->b->arena;
    const uint32_t steps = p->prologue.count + p->steps.count;
    const uint32_t regs = p->inputs + p->consts_count + p->temps_count;
    struct program *r = ARENA_NEW(a, struct program);
    struct step *all = ARENA_ARRAY(a, struct step, steps + 1);
    struct program_const *consts = ARENA_ARRAY(a, struct program_const, p->consts_count + 1);
    uint8_t *phys = ARENA_ARRAY(a, uint8_t, regs + 1);
    uint16_t *lists = ARENA_ARRAY(a, uint16_t, p->lists_count + 1);

    if (r == NULL || all == NULL || consts == NULL || phys == NULL || lists == NULL) {
        return no_memory();
    }
    settle_steps(p, &p->prologue, 0, all);
    settle_steps(p, &p->steps, p->prologue.count, all);
    for (uint32_t i = 0; i < p->consts_count; i++) {
        consts[i] = p->consts[i];
        consts[i].reg = settle(p, consts[i].reg);
        phys[p->inputs + i] = p->const_phys[i];
    }
    for (uint32_t i = 0; i < p->inputs; i++) {
        phys[i] = p->input_phys[i];
    }
    for (uint32_t i = 0; i < p->temps_count; i++) {
        phys[p->inputs + p->consts_count + i] = p->temp_phys[i];
    }
    for (uint32_t i = 0; i < p->lists_count; i++) {
        lists[i] = settle(p, p->lists[i]);
    }
    for (uint32_t i = 0; i < count; i++) {
        outputs[i] = settle(p, outputs[i]);
    }
    *r = (struct program){.inputs = p->inputs,
                          .regs_count = (uint16_t)regs,
                          .consts_count = (uint16_t)p->consts_count,
                          .outputs_count = count,
                          .nest = (uint16_t)p->nest_max,
                          .steps_count = steps,
                          .prologue_count = p->prologue.count,
                          .phys = phys,
                          .consts = consts,
                          .steps = all,
                          .outputs = outputs,
                          .lists = lists};
    *out = r;
    return OK;
}

struct status plan_program(struct plan_builder *b, struct expr *const *exprs, uint16_t count,
                           uint16_t inputs, const uint8_t *input_phys, const struct program **out)
{
    struct building p = {.b = b, .inputs = inputs, .input_phys = input_phys};
    uint16_t *outputs = ARENA_ARRAY(b->arena, uint16_t, count + 1u);

    if (outputs == NULL) {
        return no_memory();
    }
    for (uint16_t i = 0; i < count; i++) {
        TRY(build(&p, plan_fold(b->scratch, exprs[i]), &outputs[i]));
    }
    return finish(&p, outputs, count, out);
}
