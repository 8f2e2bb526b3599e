/*
 * coerce.c -- from one type to another.
 *
 * A literal without a type is read by the input function of the type that is wanted, now: its errors
 * carry its position. Times are the exception: what they mean depends on the session's time zone, so
 * they are checked now and read again in each execution. A parameter without a type takes the first
 * type that somebody wants of it (PostgreSQL's rule), and every other use must agree.
 *
 * Numeric literals: there is no numeric type yet. 1.5 is carried as its text, turns into double
 * precision or an integer where one is wanted, and is refused where it would have to stay numeric.
 */
#include <string.h>

#include "node/sql/analyze/analyze.h"

bool analyze_can_coerce(oid from, oid to, enum cast_context context)
{
    if (from == to || from == TYPE_UNKNOWN || to == TYPE_ANY || to == TYPE_ANYNONARRAY) {
        return true;
    }
    return cast_find(from, to, context).method != CAST_NONE;
}

static struct type_io io_of(struct analyzer *a, int32_t position)
{
    return (struct type_io){.arena = a->arena,
                            .err = a->err,
                            .position = position,
                            .settings = &a->view->types,
                            .now_us = a->view->txn_start_us};
}

static struct status require_full(struct analyzer *a, oid type, int32_t position)
{
    const struct type_desc *t = type_find(type);

    if (t != NULL && t->full) {
        return OK;
    }
    return analyze_unsupported(a, position, arena_printf(a->arena, "type %s", type_sql_name(type)));
}

static struct status wrap(struct analyzer *a, enum expr_kind kind, struct expr *in, oid type,
                          struct expr **out)
{
    struct expr *e = analyze_new(a, kind, type, in->position, 1);

    if (e == NULL) {
        return analyze_no_memory();
    }
    e->args[0] = in;
    *out = e;
    return OK;
}

static struct status coerce_literal(struct analyzer *a, struct expr *in, oid to, struct expr **out)
{
    const struct type_io io = io_of(a, in->position);
    struct expr *e = analyze_new(a, EXPR_CONST, to, in->position, 0);
    struct expr *text = NULL;

    if (e == NULL) {
        return analyze_no_memory();
    }
    e->constant.null = in->constant.null;
    *out = e;
    if (in->constant.null) {
        return OK;
    }
    TRY(type_in_text(&io, to, TYPE_TYPMOD_NONE, in->constant.value.bytes, &e->constant.value));
    if (to != TYPE_TIMESTAMPTZ) {
        return OK;
    }
    text = analyze_new(a, EXPR_CONST, TYPE_TEXT, in->position, 0);
    if (text == NULL) {
        return analyze_no_memory();
    }
    text->constant = in->constant;
    return wrap(a, EXPR_CAST_IO, text, TYPE_TIMESTAMPTZ, out);
}

static struct status coerce_param(struct analyzer *a, struct expr *in, oid to, struct expr **out)
{
    oid *type = &a->params[in->param];

    if (*type == TYPE_UNKNOWN) {
        *type = to;
    } else if (*type != to) {
        struct status st =
            sql_error_set(a->err, a->arena, "42P08", in->position,
                          "inconsistent types deduced for parameter $%u", in->param + 1u);

        a->err->detail =
            arena_printf(a->arena, "%s versus %s", type_sql_name(*type), type_sql_name(to));
        return st;
    }
    in->type = to;
    *out = in;
    return OK;
}

/* Digits of the integer part, rounded half away from zero at the point. False: out of range. */
static bool numeric_to_int(struct bytes text, int64_t *out)
{
    const bool negative = text.len > 0 && text.ptr[0] == '-';
    int64_t v = 0;
    size_t i = negative ? 1 : 0;

    for (; i < text.len && text.ptr[i] != '.'; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9' || __builtin_mul_overflow(v, 10, &v) ||
            __builtin_sub_overflow(v, text.ptr[i] - '0', &v)) {
            return false;
        }
    }
    if (i + 1 < text.len && text.ptr[i + 1] >= '5' && text.ptr[i + 1] <= '9' &&
        __builtin_sub_overflow(v, 1, &v)) {
        return false;
    }
    if (!negative && v == INT64_MIN) {
        return false;
    }
    *out = negative ? v : -v;
    return true;
}

static struct status coerce_numeric(struct analyzer *a, struct expr *in, oid to, struct expr **out)
{
    const struct bytes text = in->constant.value.bytes;
    const struct type_io io = io_of(a, in->position);
    struct expr *e = analyze_new(a, EXPR_CONST, to, in->position, 0);
    const bool exponent =
        memchr(text.ptr, 'e', text.len) != NULL || memchr(text.ptr, 'E', text.len) != NULL;
    int64_t v = 0;

    if (e == NULL) {
        return analyze_no_memory();
    }
    *out = e;
    if (to == TYPE_FLOAT8) {
        TRY(float8_in(&io, text, &e->constant.value.f64));
        if (e->constant.value.f64 == 0) {
            e->constant.value.f64 = 0; /* Numeric has no negative zero. */
        }
        return OK;
    }
    if (!type_is_int(to) || exponent) {
        return analyze_unsupported(a, in->position, "type numeric");
    }
    if (!numeric_to_int(text, &v) || (to == TYPE_INT2 && v != (int16_t)v) ||
        (to == TYPE_INT4 && v != (int32_t)v)) {
        return sql_error_set(a->err, a->arena, "22003", -1, "%s out of range", type_sql_name(to));
    }
    e->constant.value.i64 = v;
    return OK;
}

static struct status fit_varchar(struct analyzer *a, struct expr *in, int32_t typmod,
                                 bool explicit_cast, struct expr **out)
{
    if (in->type != TYPE_VARCHAR || typmod < 4 || in->typmod == typmod) {
        *out = in;
        return OK;
    }
    TRY(wrap(a, EXPR_VARCHAR, in, TYPE_VARCHAR, out));
    (*out)->typmod = typmod;
    (*out)->flag = explicit_cast;
    return OK;
}

static struct status coerce_by_cast(struct analyzer *a, struct expr *in, oid to,
                                    enum cast_context context, int32_t position, struct expr **out)
{
    const struct cast_path path = cast_find(in->type, to, context);

    switch (path.method) {
    case CAST_NONE:
        return sql_error_set(a->err, a->arena, "42846", position, "cannot cast type %s to %s",
                             type_sql_name(in->type), type_sql_name(to));
    case CAST_SAME:
        return wrap(a, EXPR_RELABEL, in, to, out);
    case CAST_FUNCTION:
        if (path.func == NULL || !func_can_run(path.func)) {
            return analyze_unsupported(a, position,
                                       arena_printf(a->arena, "cast from %s to %s",
                                                    type_sql_name(in->type), type_sql_name(to)));
        }
        TRY(analyze_call(a, path.func, &in, 1, in->position, out));
        (*out)->type = to; /* One kernel may serve text and varchar. */
        return OK;
    case CAST_IO:
        TRY(require_full(a, in->type, position));
        return wrap(a, EXPR_CAST_IO, in, to, out);
    }
    return OK;
}

struct status analyze_coerce(struct analyzer *a, struct expr *in, oid to, int32_t typmod,
                             enum cast_context context, int32_t position, struct expr **out)
{
    *out = in;
    if (to == TYPE_ANY) {
        return OK;
    }
    if (in->type == TYPE_UNKNOWN && in->kind == EXPR_PARAM) {
        TRY(require_full(a, to, position));
        TRY(coerce_param(a, in, to, out));
    } else if (in->type == TYPE_UNKNOWN && in->kind == EXPR_CONST) {
        TRY(require_full(a, to, position));
        TRY(coerce_literal(a, in, to, out));
    } else if (in->type == TYPE_NUMERIC && in->kind == EXPR_CONST && to != TYPE_NUMERIC &&
               analyze_can_coerce(TYPE_NUMERIC, to, context)) {
        TRY(coerce_numeric(a, in, to, out));
    } else if (in->type != to) {
        TRY(require_full(a, to, position));
        TRY(coerce_by_cast(a, in, to, context, position, out));
    }
    return fit_varchar(a, *out, typmod, context == CAST_EXPLICIT, out);
}

struct status analyze_settle(struct analyzer *a, struct expr **e)
{
    if ((*e)->type != TYPE_UNKNOWN) {
        return require_full(a, (*e)->type, (*e)->position);
    }
    return analyze_coerce(a, *e, TYPE_TEXT, TYPE_TYPMOD_NONE, CAST_IMPLICIT, (*e)->position, e);
}

struct status analyze_common_type(struct analyzer *a, struct expr *const *exprs, uint32_t count,
                                  const char *what, oid *out)
{
    oid type = exprs[0]->type;

    for (uint32_t i = 1; i < count; i++) {
        const oid next = exprs[i]->type;
        const struct type_desc *t = type_find(type);
        const struct type_desc *n = type_find(next);

        if (next == TYPE_UNKNOWN || next == type) {
            continue;
        }
        if (type == TYPE_UNKNOWN) {
            type = next;
        } else if (t == NULL || n == NULL || t->category != n->category) {
            return sql_error_set(a->err, a->arena, "42804", analyze_position(exprs[i]),
                                 "%s types %s and %s cannot be matched", what, type_sql_name(type),
                                 type_sql_name(next));
        } else if (!t->preferred && analyze_can_coerce(type, next, CAST_IMPLICIT) &&
                   !analyze_can_coerce(next, type, CAST_IMPLICIT)) {
            type = next;
        }
    }
    *out = type == TYPE_UNKNOWN ? TYPE_TEXT : type;
    return OK;
}

struct status analyze_to_common(struct analyzer *a, struct expr **exprs, uint32_t count,
                                const char *what, oid *out)
{
    TRY(analyze_common_type(a, exprs, count, what, out));
    for (uint32_t i = 0; i < count; i++) {
        if (!analyze_can_coerce(exprs[i]->type, *out, CAST_IMPLICIT)) {
            return sql_error_set(a->err, a->arena, "42846", analyze_position(exprs[i]),
                                 "%s could not convert type %s to %s", what,
                                 type_sql_name(exprs[i]->type), type_sql_name(*out));
        }
        TRY(analyze_coerce(a, exprs[i], *out, TYPE_TYPMOD_NONE, CAST_IMPLICIT, exprs[i]->position,
                           &exprs[i]));
    }
    return OK;
}

struct status analyze_assign(struct analyzer *a, const struct column_desc *c, struct expr *in,
                             struct expr **out)
{
    struct status st = OK;

    if (analyze_can_coerce(in->type, c->type, CAST_ASSIGNMENT)) {
        return analyze_coerce(a, in, c->type, c->typmod, CAST_ASSIGNMENT, in->position, out);
    }
    st = sql_error_set(a->err, a->arena, "42804", analyze_position(in),
                       "column \"%s\" is of type %s but expression is of type %s", c->name,
                       type_sql_name(c->type), type_sql_name(in->type));
    a->err->hint = "You will need to rewrite or cast the expression.";
    return st;
}

/* ---- names of types ---------------------------------------------------------------------------- */

static struct status varchar_typmod(struct analyzer *a, const struct ast_type *t, int32_t *typmod)
{
    const struct ast_expr *mod = t->mods.items[0];

    if (t->mods.count != 1 || mod->kind != AST_CONST || mod->constant.kind != AST_CONST_INT) {
        return sql_error_set(a->err, a->arena, "22023", t->location, "invalid type modifier");
    }
    if (mod->constant.integer < 1) {
        return sql_error_set(a->err, a->arena, "22023", t->location,
                             "length for type varchar must be at least 1");
    }
    if (mod->constant.integer > TYPE_VARCHAR_MAX) {
        return sql_error_set(a->err, a->arena, "22023", t->location,
                             "length for type varchar cannot exceed %d", TYPE_VARCHAR_MAX);
    }
    *typmod = mod->constant.integer + 4;
    return OK;
}

struct status analyze_type(struct analyzer *a, const struct ast_type *t, oid *type, int32_t *typmod)
{
    const struct type_desc *d = type_find_name(t->name);

    *typmod = TYPE_TYPMOD_NONE;
    if (d == NULL || d->id == TYPE_UNKNOWN ||
        (t->schema != NULL && strcmp(t->schema, "pg_catalog") != 0)) {
        return sql_error_set(a->err, a->arena, "42704", t->location,
                             "type \"%s%s%s\" does not exist", t->schema == NULL ? "" : t->schema,
                             t->schema == NULL ? "" : ".", t->name);
    }
    if (t->array_dims > 0 || t->setof) {
        return analyze_unsupported(a, t->location,
                                   arena_printf(a->arena, "type %s[]", d->sql_name));
    }
    TRY(require_full(a, d->id, t->location));
    *type = d->id;
    if (t->mods.count == 0) {
        return OK;
    }
    if (d->id != TYPE_VARCHAR) {
        return analyze_unsupported(a, t->location,
                                   arena_printf(a->arena, "precision of type %s", d->sql_name));
    }
    return varchar_typmod(a, t, typmod);
}
