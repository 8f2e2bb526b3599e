/*
 * op_agg.c -- aggregation: one row for all of the input, or one per group.
 *
 * Groups stand in a hash table from the hash of their columns to a chain of groups, and leave in the
 * order in which they were first seen, which is deterministic where hash order is not. NULLs are equal
 * for grouping. The state of an aggregate is one small struct for all kinds.
 *
 * DISTINCT: the values that have counted stand in a second table, keyed by group, item and value.
 */
#include <string.h>

#include "node/runtime/fiber.h"
#include "node/sql/exec/exec_internal.h"

#define AGG_GROUPS_MAX   4000000u
#define AGG_ITEMS_SPREAD 65536u /* Above every number of an item. */

struct agg_state {
    int64_t count;
    union datum value; /* Sum, extreme, or the boolean. */
};

struct agg_group {
    struct agg_group *next_same_hash;
    uint32_t number; /* In order of appearance. */
    union datum *keys;
    uint8_t *nulls;
    struct agg_state states[];
};

/* A value that an aggregate with DISTINCT has counted. */
struct agg_seen {
    struct agg_seen *next_same_hash;
    const struct agg_group *group;
    uint16_t item;
    union datum value;
};

struct op_agg {
    struct op op;
    struct map by_hash;
    struct map seen;
    struct arena *arena;
    struct agg_group **groups; /* In order of appearance. */
    uint32_t groups_count;
    uint32_t groups_cap;
    uint32_t emitted;
    struct vec *cols;
    bool filled;
};

static void deinit_map(void *arg)
{
    map_deinit(arg);
}

static bool same_group(const struct plan_agg *p, const struct agg_group *g, const struct batch *b,
                       uint32_t row)
{
    for (uint16_t i = 0; i < p->groups_count; i++) {
        const struct vec *v = &b->cols[p->groups[i]];
        const bool null = vec_is_null(v, row);

        if (null != (g->nulls[i] != 0) ||
            (!null && datum_cmp(v->phys, g->keys[i], vec_get(v, row)) != 0)) {
            return false;
        }
    }
    return true;
}

static uint64_t hash_group(const struct plan_agg *p, const struct batch *b, uint32_t row)
{
    uint64_t h = 0;

    for (uint16_t i = 0; i < p->groups_count; i++) {
        const struct vec *v = &b->cols[p->groups[i]];

        h = vec_is_null(v, row) ? h * 31 + 1 : datum_hash(v->phys, vec_get(v, row), h + 2);
    }
    return h;
}

static struct status add_group(struct op_agg *s, struct agg_group *g)
{
    if (s->groups_count == AGG_GROUPS_MAX) {
        return FAIL(STATUS_MEMORY, "too many groups");
    }
    if (s->groups_count == s->groups_cap) {
        const uint32_t cap = s->groups_cap == 0 ? 16 : s->groups_cap * 2;
        struct agg_group **more = ARENA_ARRAY(s->arena, struct agg_group *, cap);

        if (more == NULL) {
            return exec__no_memory();
        }
        if (s->groups_count > 0) {
            memcpy(more, s->groups, s->groups_count * sizeof(struct agg_group *));
        }
        s->groups = more;
        s->groups_cap = cap;
    }
    g->number = s->groups_count;
    s->groups[s->groups_count++] = g;
    return OK;
}

static struct status new_group(struct op_agg *s, const struct batch *b, uint32_t row,
                               struct agg_group **out)
{
    const struct plan_agg *p = &s->op.node->agg;
    struct agg_group *g =
        arena_calloc(s->arena, 1, sizeof(*g) + p->items_count * sizeof(struct agg_state));

    if (g == NULL) {
        return exec__no_memory();
    }
    g->keys = ARENA_ARRAY(s->arena, union datum, p->groups_count + 1u);
    g->nulls = ARENA_ARRAY(s->arena, uint8_t, p->groups_count + 1u);
    if (g->keys == NULL || g->nulls == NULL) {
        return exec__no_memory();
    }
    /* The one group of a scalar aggregation is made without a row. */
    for (uint16_t i = 0; b->cols != NULL && i < p->groups_count; i++) {
        const struct vec *v = &b->cols[p->groups[i]];

        g->nulls[i] = vec_is_null(v, row);
        if (g->nulls[i] == 0) {
            TRY(datum_dup(v->phys, vec_get(v, row), s->arena, &g->keys[i]));
        }
    }
    *out = g;
    return add_group(s, g);
}

static struct status find_group(struct op_agg *s, const struct batch *b, uint32_t row,
                                struct agg_group **out)
{
    const struct plan_agg *p = &s->op.node->agg;
    const uint64_t hash = hash_group(p, b, row);
    struct agg_group *first = map_get(&s->by_hash, hash);

    for (struct agg_group *g = first; g != NULL; g = g->next_same_hash) {
        if (same_group(p, g, b, row)) {
            *out = g;
            return OK;
        }
    }
    TRY(new_group(s, b, row, out));
    (*out)->next_same_hash = first;
    return map_put(&s->by_hash, hash, *out);
}

static struct status step_extreme(struct op_agg *s, struct agg_state *st,
                                  const struct plan_agg_item *it, union datum d)
{
    const int cmp = st->count == 0 ? 0 : datum_cmp(it->phys, d, st->value);
    const bool better = st->count == 0 || (it->kind == AGG_MAX ? cmp > 0 : cmp < 0);

    return better ? datum_dup(it->phys, d, s->arena, &st->value) : OK;
}

static struct status step(struct op_agg *s, struct agg_state *st, const struct plan_agg_item *it,
                          union datum d)
{
    switch (it->kind) {
    case AGG_COUNT_STAR:
    case AGG_COUNT:
        break;
    case AGG_SUM_INT:
        if (__builtin_add_overflow(st->value.i64, d.i64, &st->value.i64)) {
            return sql_error_set(s->op.x->err, s->op.x->arena, "22003", -1, "bigint out of range");
        }
        break;
    case AGG_SUM_FLOAT:
    case AGG_AVG_FLOAT:
        st->value.f64 += d.f64;
        break;
    case AGG_MIN:
    case AGG_MAX:
        TRY(step_extreme(s, st, it, d));
        break;
    case AGG_BOOL_AND:
        st->value.i64 = st->count == 0 ? d.i64 : (st->value.i64 & d.i64);
        break;
    case AGG_BOOL_OR:
        st->value.i64 |= d.i64;
        break;
    case AGG_UNSUPPORTED:
        return FAIL(STATUS_UNSUPPORTED, "an aggregate that cannot run was planned");
    }
    st->count++;
    return OK;
}

/* *first: this value is new to the group's aggregate, and is remembered. */
static struct status count_distinct(struct op_agg *s, const struct agg_group *g, uint16_t item,
                                    union datum d, bool *first)
{
    const enum type_phys phys = s->op.node->agg.items[item].phys;
    const uint64_t hash = datum_hash(phys, d, (uint64_t)g->number * AGG_ITEMS_SPREAD + item);
    struct agg_seen *same = map_get(&s->seen, hash);
    struct agg_seen *fresh = NULL;

    *first = false;
    for (const struct agg_seen *i = same; i != NULL; i = i->next_same_hash) {
        if (i->group == g && i->item == item && datum_cmp(phys, i->value, d) == 0) {
            return OK;
        }
    }
    fresh = ARENA_NEW(s->arena, struct agg_seen);
    if (fresh == NULL) {
        return exec__no_memory();
    }
    fresh->next_same_hash = same;
    fresh->group = g;
    fresh->item = item;
    TRY(datum_dup(phys, d, s->arena, &fresh->value));
    *first = true;
    return map_put(&s->seen, hash, fresh);
}

static struct status consume_row(struct op_agg *s, const struct batch *b, uint32_t row)
{
    const struct plan_agg *p = &s->op.node->agg;
    struct agg_group *g = p->scalar ? s->groups[0] : NULL;

    if (g == NULL) {
        TRY(find_group(s, b, row, &g));
    }
    for (uint16_t i = 0; i < p->items_count; i++) {
        const struct plan_agg_item *it = &p->items[i];
        const struct vec *v = it->column < 0 ? NULL : &b->cols[it->column];
        union datum d = {.bytes = {NULL, 0}};

        if (it->filter >= 0 && (vec_is_null(&b->cols[it->filter], row) ||
                                vec_get(&b->cols[it->filter], row).i64 == 0)) {
            continue;
        }
        if (v != NULL && vec_is_null(v, row)) {
            continue;
        }
        if (v != NULL) {
            d = vec_get(v, row);
        }
        if (it->distinct && v != NULL) {
            bool first = false;

            TRY(count_distinct(s, g, i, d, &first));
            if (!first) {
                continue;
            }
        }
        TRY(step(s, &g->states[i], it, d));
    }
    return OK;
}

/* The value of an aggregate; *null: no row counted. */
static union datum finish(const struct plan_agg_item *it, const struct agg_state *st, bool *null)
{
    union datum d = st->value;

    *null = st->count == 0;
    switch (it->kind) {
    case AGG_COUNT_STAR:
    case AGG_COUNT:
        *null = false;
        d.i64 = st->count;
        return d;
    case AGG_AVG_FLOAT:
        d.f64 = st->count == 0 ? 0 : st->value.f64 / (double)st->count;
        return d;
    case AGG_SUM_INT:
    case AGG_SUM_FLOAT:
    case AGG_MIN:
    case AGG_MAX:
    case AGG_BOOL_AND:
    case AGG_BOOL_OR:
    case AGG_UNSUPPORTED:
        break;
    }
    return d;
}

MAYYIELD static struct status fill(struct op_agg *s)
{
    struct op *in = s->op.input;
    struct batch b = {0};

    if (s->op.node->agg.scalar) {
        struct agg_group *g = NULL;

        TRY(new_group(s, &b, 0, &g));
    }
    for (;;) {
        memset(&b, 0, sizeof(b));
        TRY(in->ops->next(in, &b));
        if (b.lanes.count == 0) {
            return OK;
        }
        for (uint32_t i = 0; i < b.lanes.count; i++) {
            TRY(consume_row(s, &b, lane(&b.lanes, i)));
        }
        TRY(exec__yield());
    }
}

static void emit(struct op_agg *s, const struct agg_group *g, uint32_t at)
{
    const struct plan_agg *p = &s->op.node->agg;

    for (uint16_t i = 0; i < p->groups_count; i++) {
        vec_put(&s->cols[i], at, g->keys[i], g->nulls[i] != 0);
    }
    for (uint16_t i = 0; i < p->items_count; i++) {
        bool null = false;
        const union datum d = finish(&p->items[i], &g->states[i], &null);

        vec_put(&s->cols[p->groups_count + i], at, d, null);
    }
}

MAYYIELD static struct status aggregate_next(struct op *o, struct batch *out)
{
    struct op_agg *s = CONTAINER_OF(o, struct op_agg, op);
    uint32_t n = 0;

    if (!s->filled) {
        TRY(exec__memory_error(o->x, fill(s), "an aggregation"));
        s->filled = true;
        n = s->groups_count < VEC_ROWS_MAX ? s->groups_count : VEC_ROWS_MAX;
        TRY(exec__make_vecs(o->x, o->node->phys, o->node->cols_count, n, &s->cols));
    }
    for (n = 0; n < VEC_ROWS_MAX && s->emitted < s->groups_count; n++) {
        emit(s, s->groups[s->emitted++], n);
    }
    *out = (struct batch){s->cols, o->node->cols_count, n, {NULL, n}};
    return OK;
}

static const struct op_ops agg_ops = {aggregate_next};

struct status exec__open_agg(struct exec *x, const struct plan_node *n, struct op **out)
{
    struct op_agg *s = ARENA_NEW(x->arena, struct op_agg);

    UNUSED(n);
    if (s == NULL) {
        return exec__no_memory();
    }
    map_init(&s->by_hash, AGG_GROUPS_MAX);
    map_init(&s->seen, AGG_GROUPS_MAX);
    TRY(arena_defer(x->arena, deinit_map, &s->by_hash));
    TRY(arena_defer(x->arena, deinit_map, &s->seen));
    TRY(exec__child_arena(x, EXEC_SORT_BYTES_MAX, &s->arena));
    s->op.ops = &agg_ops;
    *out = &s->op;
    return OK;
}
