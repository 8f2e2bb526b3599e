/*
 * deparse.c -- expressions as SQL text, for the defaults of columns.
 *
 * Every operator is written as the call of its function, every constant as a quoted literal with its
 * type: reading the text back gives the same expression, whatever the session. Only what defaults need:
 * constants, calls, casts; anything else is refused.
 */
#include <string.h>

#include "node/sql/analyze/analyze.h"

static const char *quoted(struct arena *arena, struct bytes text)
{
    struct buf b = {0};
    struct status st = buf_append_u8(&b, '\'');
    const char *out = NULL;

    for (size_t i = 0; i < text.len && status_ok(st); i++) {
        if (text.ptr[i] == '\'') {
            st = buf_append_u8(&b, '\'');
        }
        if (status_ok(st)) {
            st = buf_append_u8(&b, text.ptr[i]);
        }
    }
    if (status_ok(st)) {
        st = buf_append_u8(&b, '\'');
    }
    if (status_ok(st)) {
        out = arena_strndup(arena, (const char *)b.ptr, b.len);
    }
    buf_deinit(&b);
    return out;
}

static const char *constant(struct arena *arena, const struct expr *e)
{
    const struct type_settings plain = TYPE_SETTINGS_DEFAULT;
    char scratch[TYPE_OUT_SIZE];
    const char *text = NULL;

    if (e->constant.null) {
        return arena_printf(arena, "CAST(NULL AS %s)", type_find(e->type)->name);
    }
    text = quoted(arena, type_out_text(e->type, e->constant.value, &plain, scratch));
    return text == NULL ? NULL
                        : arena_printf(arena, "CAST(%s AS %s)", text, type_find(e->type)->name);
}

static const char *call(struct arena *arena, const struct expr *e)
{
    const char *text = arena_printf(arena, "\"%s\"(", e->func->name);

    if (strchr(e->func->name, '.') != NULL) {
        return NULL; /* A helper without a name in SQL. */
    }
    for (uint32_t i = 0; i < e->args_count; i++) {
        const char *arg = analyze_deparse(arena, e->args[i]);

        if (arg == NULL) {
            return NULL;
        }
        text = arena_printf(arena, "%s%s%s", text, i == 0 ? "" : ", ", arg);
    }
    return arena_printf(arena, "%s)", text);
}

static const char *cast(struct arena *arena, const struct expr *e, const char *type)
{
    const char *arg = analyze_deparse(arena, e->args[0]);

    return arg == NULL ? NULL : arena_printf(arena, "CAST(%s AS %s)", arg, type);
}

const char *analyze_deparse(struct arena *arena, const struct expr *e)
{
    const struct type_desc *t = type_find(e->type);

    switch (e->kind) {
    case EXPR_CONST:
        return constant(arena, e);
    case EXPR_CALL:
        return call(arena, e);
    case EXPR_CAST_IO:
    case EXPR_RELABEL:
        return t == NULL ? NULL : cast(arena, e, t->name);
    case EXPR_VARCHAR:
        return cast(arena, e, type_format(TYPE_VARCHAR, e->typmod, arena));
    case EXPR_PARAM:
    case EXPR_COLUMN:
    case EXPR_AND:
    case EXPR_OR:
    case EXPR_NOT:
    case EXPR_IS:
    case EXPR_DISTINCT:
    case EXPR_CASE:
    case EXPR_COALESCE:
    case EXPR_NULLIF:
    case EXPR_MINMAX:
    case EXPR_IN:
    case EXPR_AGG:
        break;
    }
    return NULL;
}
