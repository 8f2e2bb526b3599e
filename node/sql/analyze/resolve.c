/*
 * resolve.c -- which operator and which function a name means, given the types of its arguments.
 *
 * PostgreSQL's algorithm (chapter 10 of its manual, parse_oper.c and parse_func.c): an exact match wins;
 * otherwise the candidates that can be reached by implicit casts are thinned out by exact matches, then by
 * preferred types, then by what unknown literals could be. The tables hold the candidates that PostgreSQL
 * has for our types, including those we cannot run: choosing among fewer could choose another one.
 */
#include <string.h>

#include "node/sql/analyze/analyze.h"

static char category_of(oid type)
{
    const struct type_desc *t = type_find(type);

    return t == NULL ? 'U' : t->category;
}

static bool preferred(oid type)
{
    const struct type_desc *t = type_find(type);

    return t != NULL && t->preferred;
}

/* Keeps the candidates for which score is highest. */
static uint32_t keep_best(struct candidate *c, uint32_t count, const uint32_t *scores)
{
    uint32_t best = 0;
    uint32_t kept = 0;

    for (uint32_t i = 0; i < count; i++) {
        best = scores[i] > best ? scores[i] : best;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (scores[i] == best) {
            c[kept++] = c[i];
        }
    }
    return kept;
}

static uint32_t keep_reachable(struct candidate *c, uint32_t count, const oid *types,
                               uint32_t nargs)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < count; i++) {
        bool ok = true;

        for (uint32_t k = 0; k < nargs && ok; k++) {
            ok = analyze_can_coerce(types[k], c[i].args[k], CAST_IMPLICIT);
        }
        if (ok) {
            c[kept++] = c[i];
        }
    }
    return kept;
}

/* Exact matches of known arguments; with `or_preferred` also preferred types of their category. */
static uint32_t keep_matching(struct candidate *c, uint32_t count, const oid *types, uint32_t nargs,
                              bool or_preferred)
{
    uint32_t scores[ANALYZE_CANDIDATES_MAX] = {0};

    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t k = 0; k < nargs; k++) {
            const oid want = c[i].args[k];

            if (types[k] != TYPE_UNKNOWN &&
                (want == types[k] ||
                 (or_preferred && preferred(want) && category_of(want) == category_of(types[k])))) {
                scores[i]++;
            }
        }
    }
    return keep_best(c, count, scores);
}

/* Category for one unknown argument: string if any candidate takes one, else the one all agree on; 0:
 * they do not. */
static char unknown_category(const struct candidate *c, uint32_t count, uint32_t arg)
{
    char category = category_of(c[0].args[arg]);
    bool agree = true;

    for (uint32_t i = 0; i < count; i++) {
        const char next = category_of(c[i].args[arg]);

        if (next == 'S') {
            return 'S';
        }
        agree = agree && next == category;
    }
    return agree ? category : 0;
}

/* Of the candidates with that category, those that take the preferred type, if there are any. */
static uint32_t keep_category(struct candidate *c, uint32_t count, uint32_t arg, char category)
{
    bool any_preferred = false;
    uint32_t kept = 0;

    for (uint32_t i = 0; i < count; i++) {
        any_preferred =
            any_preferred || (category_of(c[i].args[arg]) == category && preferred(c[i].args[arg]));
    }
    for (uint32_t i = 0; i < count; i++) {
        if (category_of(c[i].args[arg]) == category &&
            (!any_preferred || preferred(c[i].args[arg]))) {
            c[kept++] = c[i];
        }
    }
    return kept;
}

static uint32_t keep_for_unknowns(struct candidate *c, uint32_t count, const oid *types,
                                  uint32_t nargs)
{
    struct candidate saved[ANALYZE_CANDIDATES_MAX];
    const uint32_t saved_count = count;
    char categories[FUNC_ARGS_MAX] = {0};

    memcpy(saved, c, count * sizeof(*c));
    for (uint32_t k = 0; k < nargs; k++) {
        if (types[k] == TYPE_UNKNOWN) {
            categories[k] = unknown_category(saved, saved_count, k);
            if (categories[k] == 0) {
                return count;
            }
        }
    }
    for (uint32_t k = 0; k < nargs && count > 0; k++) {
        if (types[k] == TYPE_UNKNOWN) {
            count = keep_category(c, count, k, categories[k]);
        }
    }
    if (count == 0) {
        memcpy(c, saved, saved_count * sizeof(*c));
        return saved_count;
    }
    return count;
}

/* All known arguments have one type: assume the unknown ones have it too. */
static int last_chance(const struct candidate *c, uint32_t count, const oid *types, uint32_t nargs)
{
    oid known = TYPE_UNKNOWN;
    int found = CANDIDATE_AMBIGUOUS;

    for (uint32_t k = 0; k < nargs; k++) {
        if (types[k] == TYPE_UNKNOWN) {
            continue;
        }
        if (known != TYPE_UNKNOWN && known != types[k]) {
            return CANDIDATE_AMBIGUOUS;
        }
        known = types[k];
    }
    if (known == TYPE_UNKNOWN) {
        return CANDIDATE_AMBIGUOUS;
    }
    for (uint32_t i = 0; i < count; i++) {
        bool ok = true;

        for (uint32_t k = 0; k < nargs && ok; k++) {
            ok = analyze_can_coerce(known, c[i].args[k], CAST_IMPLICIT);
        }
        if (ok && found >= 0) {
            return CANDIDATE_AMBIGUOUS;
        }
        if (ok) {
            found = (int)i;
        }
    }
    return found;
}

int analyze_choose(struct candidate *c, uint32_t count, const oid *types, uint32_t nargs)
{
    bool any_unknown = false;

    for (uint32_t k = 0; k < nargs; k++) {
        any_unknown = any_unknown || types[k] == TYPE_UNKNOWN;
    }
    count = keep_reachable(c, count, types, nargs);
    if (count > 1) {
        count = keep_matching(c, count, types, nargs, false);
    }
    if (count > 1) {
        count = keep_matching(c, count, types, nargs, true);
    }
    if (count > 1 && any_unknown) {
        count = keep_for_unknowns(c, count, types, nargs);
    }
    if (count == 0) {
        return CANDIDATE_NONE;
    }
    if (count == 1) {
        return 0;
    }
    return any_unknown ? last_chance(c, count, types, nargs) : CANDIDATE_AMBIGUOUS;
}

/* ---- operators --------------------------------------------------------------------------------- */

static const struct operator_desc *exact_operator(const char *name, oid left, oid right)
{
    size_t pos = 0;
    const struct operator_desc *op = NULL;

    if (left == TYPE_UNKNOWN) { /* An unknown operand is taken to have the other's type. */
        left = right;
    } else if (right == TYPE_UNKNOWN && left != TYPE_INVALID) {
        right = left;
    }
    if (left == TYPE_UNKNOWN || right == TYPE_UNKNOWN) {
        return NULL;
    }
    while ((op = operator_next(name, &pos)) != NULL) {
        if (op->left == left && op->right == right) {
            return op;
        }
    }
    return NULL;
}

static int choose_operator(const char *name, oid left, oid right, const struct operator_desc **out)
{
    struct candidate c[ANALYZE_CANDIDATES_MAX];
    const bool prefix = left == TYPE_INVALID;
    const oid types[2] = {prefix ? right : left, right};
    const struct operator_desc *op = NULL;
    uint32_t count = 0;
    size_t pos = 0;
    int i = 0;

    while ((op = operator_next(name, &pos)) != NULL && count < ANALYZE_CANDIDATES_MAX) {
        if ((op->left == TYPE_INVALID) == prefix) {
            c[count++] = (struct candidate){{prefix ? op->right : op->left, op->right}, op};
        }
    }
    i = analyze_choose(c, count, types, prefix ? 1 : 2);
    *out = i < 0 ? NULL : c[i].item;
    return i;
}

static struct status operator_error(struct analyzer *a, const char *name, const struct expr *left,
                                    const struct expr *right, int why, int32_t position)
{
    const bool none = why == CANDIDATE_NONE;
    struct status st = sql_error_set(
        a->err, a->arena, none ? "42883" : "42725", position, "operator %s: %s%s%s %s",
        none ? "does not exist" : "is not unique", left == NULL ? "" : type_sql_name(left->type),
        left == NULL ? "" : " ", name, type_sql_name(right->type));

    a->err->hint = none && left == NULL
                       ? "No operator matches the given name and argument type. You might need to "
                         "add an explicit type cast."
                   : none ? "No operator matches the given name and argument types. You might "
                            "need to add explicit type casts."
                          : "Could not choose a best candidate operator. You might need to add "
                            "explicit type casts.";
    return st;
}

/* anynonarray || text: the other side becomes text first, as the SQL function of PostgreSQL does. */
static struct status coerce_operand(struct analyzer *a, struct expr *e, oid to, struct expr **out)
{
    if (to == TYPE_ANYNONARRAY) {
        return analyze_coerce(a, e, TYPE_TEXT, TYPE_TYPMOD_NONE, CAST_EXPLICIT, e->position, out);
    }
    return analyze_coerce(a, e, to, TYPE_TYPMOD_NONE, CAST_IMPLICIT, e->position, out);
}

struct status analyze_operator(struct analyzer *a, const char *name, struct expr *left,
                               struct expr *right, int32_t position, struct expr **out)
{
    const oid left_type = left == NULL ? TYPE_INVALID : left->type;
    const struct operator_desc *op = exact_operator(name, left_type, right->type);
    const struct func_impl *f = NULL;
    struct expr *args[2] = {left == NULL ? right : left, right};
    const uint32_t nargs = left == NULL ? 1 : 2;

    if (op == NULL) {
        const int why = choose_operator(name, left_type, right->type, &op);

        if (op == NULL) {
            return operator_error(a, name, left, right, why, position);
        }
    }
    f = func_find(op->func);
    if (f == NULL || !func_can_run(f)) {
        return analyze_unsupported(
            a, position,
            left == NULL ? arena_printf(a->arena, "operator %s %s", name, type_sql_name(op->right))
                         : arena_printf(a->arena, "operator %s %s %s", type_sql_name(op->left),
                                        name, type_sql_name(op->right)));
    }
    TRY(coerce_operand(a, args[0], left == NULL ? op->right : op->left, &args[0]));
    if (nargs == 2) {
        TRY(coerce_operand(a, args[1], op->right, &args[1]));
    }
    return analyze_call(a, f, args, nargs, position, out);
}

/* ---- functions --------------------------------------------------------------------------------- */

static const char *signature(struct analyzer *a, const char *name, struct expr *const *args,
                             uint32_t count)
{
    const char *text = arena_printf(a->arena, "%s(", name);

    for (uint32_t i = 0; i < count; i++) {
        text = arena_printf(a->arena, "%s%s%s", text, i == 0 ? "" : ", ",
                            type_sql_name(args[i]->type));
    }
    return arena_printf(a->arena, "%s)", text);
}

static struct status function_error(struct analyzer *a, const char *name, struct expr *const *args,
                                    uint32_t count, int why, int32_t position)
{
    const bool none = why == CANDIDATE_NONE;
    struct status st =
        sql_error_set(a->err, a->arena, none ? "42883" : "42725", position, "function %s %s",
                      signature(a, name, args, count), none ? "does not exist" : "is not unique");

    a->err->hint = none ? "No function matches the given name and argument types. You might need "
                          "to add explicit type casts."
                        : "Could not choose a best candidate function. You might need to add "
                          "explicit type casts.";
    return st;
}

static int choose_function(const char *name, const oid *types, uint32_t nargs,
                           const struct func_impl **out)
{
    struct candidate c[ANALYZE_CANDIDATES_MAX];
    const struct func_impl *f = NULL;
    uint32_t count = 0;
    size_t pos = 0;
    int i = 0;

    while ((f = func_next(name, &pos)) != NULL && count < ANALYZE_CANDIDATES_MAX) {
        if (f->nargs != nargs) {
            continue;
        }
        if (nargs == 0 || memcmp(f->args, types, nargs * sizeof(*types)) == 0) {
            *out = f;
            return 0;
        }
        c[count] = (struct candidate){{0}, f};
        memcpy(c[count].args, f->args, sizeof(f->args));
        count++;
    }
    i = analyze_choose(c, count, types, nargs);
    *out = i < 0 ? NULL : c[i].item;
    return i;
}

/* As its output function prints it, which is not the cast to text for boolean ("t", not "true"). */
static struct status as_output(struct analyzer *a, struct expr *in, struct expr **out)
{
    if (in->type != TYPE_BOOL) {
        return analyze_coerce(a, in, TYPE_TEXT, TYPE_TYPMOD_NONE, CAST_EXPLICIT, in->position, out);
    }
    *out = analyze_new(a, EXPR_CAST_IO, TYPE_TEXT, in->position, 1);
    if (*out == NULL) {
        return analyze_no_memory();
    }
    (*out)->args[0] = in;
    return OK;
}

/* concat(a, b, ...): each becomes text, NULLs count as nothing. */
static struct status analyze_concat(struct analyzer *a, struct expr **args, uint32_t count,
                                    int32_t position, struct expr **out)
{
    size_t pos = 0;
    const struct func_impl *f = func_next("dsql.concat2", &pos);
    struct expr *left = analyze_new(a, EXPR_CONST, TYPE_TEXT, position, 0);

    if (left == NULL) {
        return analyze_no_memory();
    }
    left->constant.value.bytes = BYTES_EMPTY;
    for (uint32_t i = 0; i < count; i++) {
        struct expr *pair[2] = {left, args[i]};

        TRY(as_output(a, args[i], &pair[1]));
        TRY(analyze_call(a, f, pair, 2, position, &left));
    }
    *out = left;
    return OK;
}

/* int4('7'), text(5): a call that is a cast. *is tells. */
static struct status function_as_cast(struct analyzer *a, const char *name, struct expr *arg,
                                      int32_t position, struct expr **out, bool *is)
{
    const struct type_desc *t = type_find_name(name);

    *is = t != NULL && t->full &&
          (arg->type == TYPE_UNKNOWN ||
           cast_find(arg->type, t->id, CAST_EXPLICIT).method == CAST_SAME ||
           cast_find(arg->type, t->id, CAST_EXPLICIT).method == CAST_IO);
    if (!*is) {
        return OK;
    }
    return analyze_coerce(a, arg, t->id, TYPE_TYPMOD_NONE, CAST_EXPLICIT, position, out);
}

static struct status call_plain(struct analyzer *a, const struct ast_function *in,
                                struct expr **args, uint32_t count, int32_t position,
                                struct expr **out)
{
    const struct func_impl *f = NULL;
    oid types[FUNC_ARGS_MAX] = {0};
    int why = CANDIDATE_NONE;

    if (strcmp(in->name.name, "concat") == 0 && count > 0) {
        return analyze_concat(a, args, count, position, out);
    }
    for (uint32_t i = 0; i < count && i < FUNC_ARGS_MAX; i++) {
        types[i] = args[i]->type;
    }
    if (count <= FUNC_ARGS_MAX) {
        why = choose_function(in->name.name, types, count, &f);
    }
    if (f == NULL && count == 1) {
        bool is = false;

        TRY(function_as_cast(a, in->name.name, args[0], position, out, &is));
        if (is) {
            return OK;
        }
    }
    if (f == NULL) {
        return function_error(a, in->name.name, args, count, why, position);
    }
    if (!func_can_run(f)) {
        return analyze_unsupported(
            a, position,
            arena_printf(a->arena, "function %s", signature(a, in->name.name, args, count)));
    }
    for (uint32_t i = 0; i < count; i++) {
        TRY(coerce_operand(a, args[i], f->args[i], &args[i]));
    }
    return analyze_call(a, f, args, count, position, out);
}

struct status analyze_function(struct analyzer *a, const struct ast_expr *in, struct expr **out)
{
    const struct ast_function *fn = in->function;
    struct expr **args = NULL;
    bool is_aggregate = false;

    if (fn->over) {
        return analyze_unsupported(a, in->location, "window function");
    }
    if (fn->variadic || fn->within_group) {
        return analyze_unsupported(a, in->location, fn->variadic ? "VARIADIC" : "WITHIN GROUP");
    }
    if (fn->name.schema == NULL || strcmp(fn->name.schema, "pg_catalog") == 0) {
        TRY(analyze_aggregate(a, in, out, &is_aggregate));
        if (is_aggregate) {
            return OK;
        }
    }
    if (fn->distinct || fn->filter != NULL || fn->agg_order.count > 0) {
        return sql_error_set(a->err, a->arena, "42809", in->location,
                             "%s specified, but %s is not an aggregate function",
                             fn->distinct         ? "DISTINCT"
                             : fn->filter != NULL ? "FILTER"
                                                  : "ORDER BY",
                             fn->name.name);
    }
    args = ARENA_ARRAY(a->arena, struct expr *, fn->args.count + 1);
    if (args == NULL) {
        return analyze_no_memory();
    }
    for (uint32_t i = 0; i < fn->args.count; i++) {
        TRY(analyze_expr(a, fn->args.items[i], &args[i]));
    }
    if (fn->name.schema != NULL && strcmp(fn->name.schema, "pg_catalog") != 0) {
        return function_error(a, arena_printf(a->arena, "%s.%s", fn->name.schema, fn->name.name),
                              args, fn->args.count, CANDIDATE_NONE, in->location);
    }
    return call_plain(a, fn, args, fn->args.count, in->location, out);
}
