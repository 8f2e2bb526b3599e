/*
 * access.c -- which keys a WHERE clause leaves.
 *
 * The clause is taken apart into conjuncts. Going along the key columns we take an equality for each (a
 * value, or a list of alternatives from IN, after which only a range may follow), and then a lower and
 * an upper bound for the next column. Only comparisons count whose other side does not depend on the row
 * and whose types share one key encoding: all integers do, all strings do. What was taken is exact, so it
 * need not be checked again; the rest is the residual filter.
 *
 * Descending key columns take part in equalities only.
 */
#include <string.h>

#include "node/sql/plan/plan_build.h"

#define CONJUNCTS_MAX    256u   /* More: the others are only filters. */
#define ALTERNATIVES_MAX 10000u /* More would cost more than a scan of the prefix. */

struct conjunct {
    struct expr *e;
    bool taken;
};

struct search {
    struct plan_builder *b;
    const struct row_layout *layout;
    struct conjunct *items;
    uint32_t count;
    struct plan_access *out;
};

/* May the expression be evaluated once, before any row is read? */
static bool row_independent(const struct expr *e)
{
    if (e->kind == EXPR_COLUMN || e->kind == EXPR_AGG ||
        (e->kind == EXPR_CALL && (e->func->flags & FUNC_VOLATILE) != 0)) {
        return false;
    }
    for (uint32_t i = 0; i < e->args_count; i++) {
        if (!row_independent(e->args[i])) {
            return false;
        }
    }
    return true;
}

static bool is_column(const struct expr *e, uint16_t column)
{
    while (e->kind == EXPR_RELABEL) {
        e = e->args[0];
    }
    return e->kind == EXPR_COLUMN && e->column == column;
}

static bool same_encoding(oid a, oid b)
{
    return a == b || (type_is_int(a) && type_is_int(b)) || (type_is_string(a) && type_is_string(b));
}

static const char *mirrored(const char *op)
{
    switch (op[0]) {
    case '<':
        return op[1] == '=' ? ">=" : ">";
    case '>':
        return op[1] == '=' ? "<=" : "<";
    default:
        return op;
    }
}

/* If e compares the column with something independent of the row: the operator's name and the other
 * side; otherwise NULL. */
static const char *comparison(const struct expr *e, uint16_t column, oid type, struct expr **other)
{
    const struct operator_desc *op = NULL;
    bool right = false;

    if (e->kind != EXPR_CALL || e->args_count != 2 || e->type != TYPE_BOOL) {
        return NULL;
    }
    op = operator_of_func(e->func->id);
    if (op == NULL || strcmp(op->name, "<>") == 0 ||
        (op->name[0] != '=' && op->name[0] != '<' && op->name[0] != '>') ||
        (op->name[1] != '\0' && op->name[1] != '=')) {
        return NULL;
    }
    right = is_column(e->args[1], column);
    if (!right && !is_column(e->args[0], column)) {
        return NULL;
    }
    *other = e->args[right ? 0 : 1];
    if (!row_independent(*other) || !same_encoding(type, (*other)->type)) {
        return NULL;
    }
    return right ? mirrored(op->name) : op->name;
}

static struct status add_bound(struct search *s, struct expr *e)
{
    s->out->bounds[s->out->bounds_count++] = e;
    return OK;
}

static struct conjunct *find_equality(struct search *s, uint16_t column, oid type,
                                      struct expr **value)
{
    for (uint32_t i = 0; i < s->count; i++) {
        const char *op = s->items[i].taken ? NULL : comparison(s->items[i].e, column, type, value);

        if (op != NULL && strcmp(op, "=") == 0) {
            return &s->items[i];
        }
    }
    return NULL;
}

static struct conjunct *find_alternatives(struct search *s, uint16_t column, oid type)
{
    for (uint32_t i = 0; i < s->count; i++) {
        const struct expr *e = s->items[i].e;
        bool usable = !s->items[i].taken && e->kind == EXPR_IN && !e->flag &&
                      e->args_count - 1 <= ALTERNATIVES_MAX && is_column(e->args[0], column);

        for (uint32_t k = 1; usable && k < e->args_count; k++) {
            usable = row_independent(e->args[k]) && same_encoding(type, e->args[k]->type);
        }
        if (usable) {
            return &s->items[i];
        }
    }
    return NULL;
}

/* Takes one bound of the column per side. */
static struct status take_range(struct search *s, uint16_t column, oid type)
{
    struct plan_span *sp = &s->out->span;

    for (uint32_t i = 0; i < s->count; i++) {
        struct expr *value = NULL;
        const char *op = s->items[i].taken ? NULL : comparison(s->items[i].e, column, type, &value);

        if (op == NULL || op[0] == '=') {
            continue;
        }
        if (op[0] == '>' && sp->low < 0) {
            sp->low = (int16_t)s->out->bounds_count;
            sp->low_inclusive = op[1] == '=';
        } else if (op[0] == '<' && sp->high < 0) {
            sp->high = (int16_t)s->out->bounds_count;
            sp->high_inclusive = op[1] == '=';
        } else {
            continue;
        }
        s->items[i].taken = true;
        TRY(add_bound(s, value));
    }
    return OK;
}

static struct status take_key(struct search *s)
{
    const struct row_layout *l = s->layout;
    struct plan_span *sp = &s->out->span;

    for (uint16_t k = 0; k < l->key_count; k++) {
        const uint16_t column = l->key[k].column;
        const oid type = l->types[column]->id;
        struct expr *value = NULL;
        struct conjunct *c = find_equality(s, column, type, &value);

        if (c != NULL) {
            c->taken = true;
            sp->eq_count++;
            TRY(add_bound(s, value));
            continue;
        }
        c = find_alternatives(s, column, type);
        if (c != NULL) {
            c->taken = true;
            sp->eq_count++;
            sp->in_count = (uint16_t)(c->e->args_count - 1);
            for (uint32_t i = 1; i < c->e->args_count; i++) {
                TRY(add_bound(s, c->e->args[i]));
            }
            if (++k == l->key_count) {
                break;
            }
        }
        if (l->key[k].order == KEY_ASC) {
            TRY(take_range(s, l->key[k].column, l->types[l->key[k].column]->id));
        }
        break;
    }
    s->out->whole_key = sp->eq_count == l->key_count && sp->in_count == 0;
    return OK;
}

/* Depth first, so that the conjuncts keep their order. */
static void flatten(struct expr *e, struct conjunct *items, uint32_t *count)
{
    if (e->kind == EXPR_AND) {
        for (uint32_t i = 0; i < e->args_count; i++) {
            flatten(e->args[i], items, count);
        }
        return;
    }
    items[*count] = (struct conjunct){e, false};
    (*count)++;
}

static uint32_t count_conjuncts(const struct expr *e)
{
    uint32_t n = 0;

    if (e->kind != EXPR_AND) {
        return 1;
    }
    for (uint32_t i = 0; i < e->args_count; i++) {
        n += count_conjuncts(e->args[i]);
    }
    return n;
}

static uint32_t longest_list(const struct search *s)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->count; i++) {
        const struct expr *e = s->items[i].e;

        if (e->kind == EXPR_IN && e->args_count > n && e->args_count - 1 <= ALTERNATIVES_MAX) {
            n = e->args_count;
        }
    }
    return n;
}

static struct status make_residual(struct search *s)
{
    struct expr *all = ARENA_NEW(s->b->scratch, struct expr);
    struct expr **args = ARENA_ARRAY(s->b->scratch, struct expr *, s->count + 1);

    if (all == NULL || args == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a plan");
    }
    *all = (struct expr){
        .kind = EXPR_AND, .type = TYPE_BOOL, .typmod = -1, .position = -1, .args = args};
    for (uint32_t i = 0; i < s->count; i++) {
        if (!s->items[i].taken) {
            args[all->args_count++] = s->items[i].e;
        }
    }
    s->out->residual = all->args_count == 0 ? NULL : all->args_count == 1 ? args[0] : all;
    return OK;
}

struct status plan_access_path(struct plan_builder *b, const struct row_layout *layout,
                               struct expr *where, struct plan_access *out)
{
    struct search s = {.b = b, .layout = layout, .out = out};
    uint32_t count = 0;

    memset(out, 0, sizeof(*out));
    out->span.low = -1;
    out->span.high = -1;
    if (where == NULL) {
        return OK;
    }
    where = plan_fold(b->scratch, where);
    count = count_conjuncts(where);
    if (count > CONJUNCTS_MAX) {
        out->residual = where;
        return OK;
    }
    s.items = ARENA_ARRAY(b->scratch, struct conjunct, count);
    if (s.items == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a plan");
    }
    flatten(where, s.items, &s.count);
    out->bounds = ARENA_ARRAY(b->scratch, struct expr *, layout->key_count + longest_list(&s) + 2u);
    if (out->bounds == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a plan");
    }
    TRY(take_key(&s));
    return make_residual(&s);
}
