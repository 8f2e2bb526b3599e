/*
 * fold.c -- evaluating constants once, when a statement is compiled.
 *
 * A call of an immutable function with constant arguments becomes a constant. PostgreSQL would raise the
 * error of such a call at plan time; we leave the call alone and raise it when a row reaches it, which is
 * allowed (fewer errors, never others) and keeps CASE honest.
 */
#include <string.h>

#include "node/sql/plan/plan_build.h"

static struct expr *make_const(struct arena *arena, const struct expr *like, union datum value,
                               bool null)
{
    struct expr *c = ARENA_NEW(arena, struct expr);

    if (c == NULL) {
        return NULL;
    }
    c->kind = EXPR_CONST;
    c->type = like->type;
    c->typmod = like->typmod;
    c->position = like->position;
    c->constant.value = value;
    c->constant.null = null;
    return c;
}

static bool all_const(const struct expr *e)
{
    for (uint32_t i = 0; i < e->args_count; i++) {
        if (e->args[i]->kind != EXPR_CONST) {
            return false;
        }
    }
    return true;
}

static struct expr *fold_call(struct arena *arena, struct expr *e)
{
    const struct func_impl *f = e->func;
    struct sql_error err = {0};
    struct eval eval = {.arena = arena, .err = &err, .err_arena = arena};
    union datum args[FUNC_ARGS_MAX];
    union datum out = {.bytes = {NULL, 0}};
    struct expr *c = NULL;

    if ((f->flags & (FUNC_STABLE | FUNC_VOLATILE)) != 0 || f->strict == NULL || !all_const(e)) {
        return e;
    }
    for (uint32_t i = 0; i < e->args_count; i++) {
        if (e->args[i]->constant.null) {
            c = make_const(arena, e, out, true);
            return c == NULL ? e : c;
        }
        args[i] = e->args[i]->constant.value;
    }
    if (!f->strict(&eval, args, &out)) {
        return e;
    }
    c = make_const(arena, e, out, false);
    return c == NULL ? e : c;
}

/* Only casts that depend on nothing: timestamps depend on the session's zone. */
static struct expr *fold_cast(struct arena *arena, struct expr *e)
{
    struct sql_error err = {0};
    struct eval eval = {.arena = arena, .err = &err, .err_arena = arena};
    union datum out = {.bytes = {NULL, 0}};
    struct expr *c = NULL;

    if (!all_const(e) || e->type == TYPE_TIMESTAMPTZ || e->args[0]->type == TYPE_TIMESTAMPTZ ||
        e->args[0]->type == TYPE_FLOAT8 || e->args[0]->type == TYPE_NUMERIC) {
        return e;
    }
    if (!e->args[0]->constant.null &&
        !cast_through_text(&eval, e->args[0]->type, e->type, e->args[0]->constant.value, &out)) {
        return e;
    }
    c = make_const(arena, e, out, e->args[0]->constant.null);
    return c == NULL ? e : c;
}

static bool is_bool_const(const struct expr *e, bool value)
{
    return e->kind == EXPR_CONST && !e->constant.null && (e->constant.value.i64 != 0) == value;
}

/* TRUE in AND and FALSE in OR fall away; the opposite decides. */
static struct expr *fold_and_or(struct arena *arena, struct expr *e)
{
    const bool stop = e->kind == EXPR_OR;
    uint32_t kept = 0;
    struct expr *c = NULL;

    for (uint32_t i = 0; i < e->args_count; i++) {
        if (is_bool_const(e->args[i], stop)) {
            return e->args[i];
        }
        if (!is_bool_const(e->args[i], !stop)) {
            e->args[kept++] = e->args[i];
        }
    }
    if (kept == 0) {
        c = make_const(arena, e, (union datum){.i64 = !stop}, false);
        return c == NULL ? e : c;
    }
    e->args_count = kept;
    return kept == 1 ? e->args[0] : e;
}

static struct expr *fold_not(struct arena *arena, struct expr *e)
{
    const struct expr *a = e->args[0];
    struct expr *c = NULL;

    if (a->kind != EXPR_CONST) {
        return e;
    }
    c = make_const(arena, e, (union datum){.i64 = a->constant.value.i64 == 0}, a->constant.null);
    return c == NULL ? e : c;
}

static struct expr *fold_relabel(struct arena *arena, struct expr *e)
{
    const struct expr *a = e->args[0];
    struct expr *c = NULL;

    if (a->kind != EXPR_CONST) {
        return e;
    }
    c = make_const(arena, e, a->constant.value, a->constant.null);
    return c == NULL ? e : c;
}

struct expr *plan_fold(struct arena *arena, struct expr *e)
{
    for (uint32_t i = 0; i < e->args_count; i++) {
        e->args[i] = plan_fold(arena, e->args[i]);
    }
    switch (e->kind) {
    case EXPR_CALL:
        return fold_call(arena, e);
    case EXPR_CAST_IO:
        return fold_cast(arena, e);
    case EXPR_RELABEL:
        return fold_relabel(arena, e);
    case EXPR_AND:
    case EXPR_OR:
        return fold_and_or(arena, e);
    case EXPR_NOT:
        return fold_not(arena, e);
    case EXPR_CONST:
    case EXPR_PARAM:
    case EXPR_COLUMN:
    case EXPR_VARCHAR:
    case EXPR_IS:
    case EXPR_DISTINCT:
    case EXPR_CASE:
    case EXPR_COALESCE:
    case EXPR_NULLIF:
    case EXPR_MINMAX:
    case EXPR_IN:
    case EXPR_AGG:
        return e;
    }
    return e;
}
