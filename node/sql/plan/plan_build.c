/*
 * plan_build.c -- queries into trees of operators, or into point plans.
 *
 * There is little to choose: one table per query, one index per table. The order of work is fixed:
 *
 *     from -> where -> [group, aggregate, having] -> select list -> [distinct, order] -> [limit]
 *
 * What is decided here: the span of the key (access.c); whether ORDER BY is the order of the key, so that
 * no sort is needed; whether the statement touches one row by its whole key, so that no operators are
 * needed at all.
 */
#include "node/sql/plan/plan_build.h"

#include <string.h>

static struct status no_memory(void)
{
    return FAIL(STATUS_MEMORY, "no memory for a plan");
}

static enum type_phys phys_of(oid type)
{
    const struct type_desc *t = type_find(type);

    return t == NULL ? PHYS_BYTES : t->phys;
}

static struct status new_node(struct plan_builder *b, enum plan_kind kind,
                              const struct plan_node *input, uint16_t cols, struct plan_node **out,
                              uint8_t **phys)
{
    struct plan_node *n = ARENA_NEW(b->arena, struct plan_node);
    uint8_t *p = ARENA_ARRAY(b->arena, uint8_t, cols + 1u);

    if (n == NULL || p == NULL) {
        return no_memory();
    }
    if (++b->depth > PLAN_DEPTH_MAX) {
        return sql_error_set(b->err, b->scratch, "54001", -1, "statement is too complex");
    }
    n->kind = kind;
    n->input = input;
    n->cols_count = cols;
    n->phys = p;
    *phys = p;
    *out = n;
    return OK;
}

/* A node with the columns of its input. */
static struct status new_like(struct plan_builder *b, enum plan_kind kind,
                              const struct plan_node *input, struct plan_node **out)
{
    uint8_t *phys = NULL;

    TRY(new_node(b, kind, input, input->cols_count, out, &phys));
    memcpy(phys, input->phys, input->cols_count);
    return OK;
}

static void phys_of_exprs(struct expr *const *exprs, uint16_t count, uint8_t *phys)
{
    for (uint16_t i = 0; i < count; i++) {
        phys[i] = (uint8_t)phys_of(exprs[i]->type);
    }
}

/* Filter and columns above an input; either may be missing. */
static struct status project(struct plan_builder *b, const struct plan_node *input,
                             struct expr *filter, struct expr *const *exprs, uint16_t count,
                             const struct plan_node **out)
{
    struct plan_node *n = NULL;
    uint8_t *phys = NULL;

    if (exprs == NULL) {
        TRY(new_like(b, PLAN_PROJECT, input, &n));
    } else {
        TRY(new_node(b, PLAN_PROJECT, input, count, &n, &phys));
        phys_of_exprs(exprs, count, phys);
        TRY(plan_program(b, exprs, count, input->cols_count, input->phys, &n->project.columns));
    }
    if (filter != NULL) {
        TRY(plan_program(b, &filter, 1, input->cols_count, input->phys, &n->project.filter));
    }
    *out = n;
    return OK;
}

/* ---- scans ------------------------------------------------------------------------------------- */

static void mark_columns(const struct expr *e, bool *needed)
{
    if (e == NULL) {
        return;
    }
    if (e->kind == EXPR_COLUMN) {
        needed[e->column] = true;
    }
    for (uint32_t i = 0; i < e->args_count; i++) {
        mark_columns(e->args[i], needed);
    }
}

/* Columns of FROM that the clauses above it read. */
static void mark_query(const struct query *q, struct expr *where, bool *needed)
{
    mark_columns(where, needed);
    for (uint16_t i = 0; i < q->groups_count; i++) {
        mark_columns(q->groups[i], needed);
    }
    for (uint16_t i = 0; i < q->aggs_count; i++) {
        mark_columns(q->aggs[i].arg, needed);
        mark_columns(q->aggs[i].filter, needed);
    }
    for (uint16_t i = 0; i < q->targets_count && !q->aggregates; i++) {
        mark_columns(q->targets[i].expr, needed);
    }
}

static struct status layout_of(struct plan_builder *b, const struct table_desc *t,
                               const struct row_layout **out)
{
    struct row_layout *l = ARENA_NEW(b->arena, struct row_layout);

    if (l == NULL) {
        return no_memory();
    }
    *out = l;
    return row_layout_init(t, b->arena, l);
}

static struct status table_phys(struct plan_builder *b, const struct row_layout *l, uint8_t **out)
{
    *out = ARENA_ARRAY(b->arena, uint8_t, l->columns_count + 1u);
    if (*out == NULL) {
        return no_memory();
    }
    for (uint16_t i = 0; i < l->columns_count; i++) {
        (*out)[i] = (uint8_t)l->types[i]->phys;
    }
    return OK;
}

/* What a scan of one table is to do. */
struct scan_options {
    const bool *needed;
    bool reverse;
    struct txn_lock lock;
};

static struct status scan(struct plan_builder *b, const struct row_layout *l,
                          const struct plan_access *a, const struct scan_options *o,
                          const struct plan_node **out)
{
    struct plan_node *n = NULL;
    uint8_t *phys = NULL;

    TRY(new_node(b, PLAN_SCAN, NULL, l->columns_count, &n, &phys));
    for (uint16_t i = 0; i < l->columns_count; i++) {
        phys[i] = (uint8_t)l->types[i]->phys;
    }
    n->scan.layout = l;
    n->scan.needed = o->needed;
    n->scan.reverse = o->reverse;
    n->scan.lock = o->lock;
    n->scan.span = a->span;
    if (a->bounds_count > 0) {
        TRY(plan_program(b, a->bounds, a->bounds_count, 0, NULL, &n->scan.span.bounds));
    }
    *out = n;
    return OK;
}

/* Does the order of the key, behind the columns that are fixed, give this ORDER BY? */
static bool key_gives_order(const struct query *q, const struct row_layout *l,
                            const struct plan_access *a, bool *reverse)
{
    uint16_t k = a->span.in_count > 0 ? (uint16_t)(a->span.eq_count - 1) : a->span.eq_count;

    for (uint16_t i = 0; i < q->order_count; i++) {
        const struct query_order *o = &q->order[i];
        const struct expr *e = q->targets[o->target].expr;

        while (e->kind == EXPR_RELABEL) {
            e = e->args[0];
        }
        if (k == l->key_count) {
            return i > 0 || a->whole_key; /* The key is unique: what follows decides nothing. */
        }
        if (e->kind != EXPR_COLUMN || e->column != l->key[k].column || l->key[k].order != KEY_ASC ||
            (i > 0 && o->desc != *reverse)) {
            return false;
        }
        *reverse = o->desc;
        k++;
    }
    return true;
}

/* ---- locks -------------------------------------------------------------------------------------
 *
 * Exactly the rows of the result are locked. When the scan reads no others it locks them itself, in the
 * same request, and what it read is what it locked. Otherwise an operator above filter and sort and
 * below LIMIT locks them by their keys, which come along behind the columns of the result.
 */

static struct txn_lock lock_of(const struct query_rel *r)
{
    struct txn_lock lock = {.strength = MVCC_NONE};

    switch (r->lock) {
    case QUERY_LOCK_NONE:
        return lock;
    case QUERY_LOCK_KEY_SHARE:
    case QUERY_LOCK_SHARE:
        lock.strength = MVCC_SHARED;
        break;
    case QUERY_LOCK_NO_KEY_UPDATE:
    case QUERY_LOCK_UPDATE:
        lock.strength = MVCC_EXCLUSIVE;
        break;
    }
    switch (r->lock_wait) {
    case QUERY_LOCK_BLOCK:
        lock.wait = RANGE_WAIT_BLOCK;
        break;
    case QUERY_LOCK_SKIP:
        lock.wait = RANGE_WAIT_SKIP;
        break;
    case QUERY_LOCK_NOWAIT:
        lock.wait = RANGE_WAIT_ERROR;
        break;
    }
    return lock;
}

static bool locks_in_scan(const struct query *q, const struct expr *filter)
{
    return filter == NULL && q->limit == NULL && q->offset == NULL;
}

/* `key` are the columns of the input that hold the key. */
static struct status lock_rows(struct plan_builder *b, const struct row_layout *l,
                               struct txn_lock lock, const uint16_t *key,
                               const struct plan_node **node)
{
    struct plan_node *n = NULL;

    TRY(new_like(b, PLAN_LOCK, *node, &n));
    n->lock = (struct plan_lock){l, key, lock};
    *node = n;
    return OK;
}

/* Locks above a select list: the key follows behind `first` columns. */
static struct status lock_selected(struct plan_builder *b, const struct row_layout *l,
                                   struct txn_lock lock, uint16_t first,
                                   const struct plan_node **node)
{
    uint16_t *key = ARENA_ARRAY(b->arena, uint16_t, l->key_count + 1u);

    if (key == NULL) {
        return no_memory();
    }
    for (uint16_t i = 0; i < l->key_count; i++) {
        key[i] = (uint16_t)(first + i);
    }
    return lock_rows(b, l, lock, key, node);
}

/* Locks below a change, which has all columns of the table in front. */
static struct status lock_changed(struct plan_builder *b, const struct row_layout *l,
                                  struct txn_lock lock, const struct plan_node **node)
{
    uint16_t *key = ARENA_ARRAY(b->arena, uint16_t, l->key_count + 1u);

    if (key == NULL) {
        return no_memory();
    }
    for (uint16_t i = 0; i < l->key_count; i++) {
        key[i] = l->key[i].column;
    }
    return lock_rows(b, l, lock, key, node);
}

/* ---- FROM -------------------------------------------------------------------------------------- */

static struct status plan_select(struct plan_builder *b, const struct query *q,
                                 const struct plan_node **out);

static struct status values_node(struct plan_builder *b, struct expr *const *const *rows,
                                 uint32_t rows_count, uint16_t cols, const struct plan_node **out)
{
    const struct program **programs = ARENA_ARRAY(b->arena, const struct program *, rows_count + 1);
    struct plan_node *n = NULL;
    uint8_t *phys = NULL;

    if (programs == NULL) {
        return no_memory();
    }
    TRY(new_node(b, PLAN_VALUES, NULL, cols, &n, &phys));
    if (rows_count > 0) {
        phys_of_exprs(rows[0], cols, phys);
    }
    for (uint32_t i = 0; i < rows_count; i++) {
        TRY(plan_program(b, rows[i], cols, 0, NULL, &programs[i]));
    }
    n->values.rows = programs;
    n->values.rows_count = rows_count;
    n->rows_max = rows_count;
    *out = n;
    return OK;
}

static struct status series_node(struct plan_builder *b, const struct query_rel *r,
                                 const struct plan_node **out)
{
    struct plan_node *n = NULL;
    uint8_t *phys = NULL;

    TRY(new_node(b, PLAN_SERIES, NULL, 1, &n, &phys));
    phys[0] = PHYS_I64;
    *out = n;
    return plan_program(b, r->series, 3, 0, NULL, &n->series);
}

/* What plan_from() found out. */
struct from_plan {
    const struct plan_node *node;
    struct expr *filter;             /* Left to be applied. */
    bool ordered;                    /* The rows come in the order of ORDER BY. */
    const struct row_layout *layout; /* Of a table. */
    struct txn_lock lock;            /* Of rows that are still to be locked. */
};

static struct status plan_table(struct plan_builder *b, const struct query *q,
                                struct from_plan *out)
{
    const struct query_rel *r = q->rels;
    const struct row_layout *l = NULL;
    struct scan_options o = {.lock = lock_of(r)};
    struct plan_access a;
    bool *needed = NULL;
    bool reverse = false;

    TRY(layout_of(b, r->table, &l));
    TRY(plan_access_path(b, l, q->where, &a));
    needed = ARENA_ARRAY(b->arena, bool, l->columns_count + 1u);
    if (needed == NULL) {
        return no_memory();
    }
    mark_query(q, a.residual, needed);
    out->layout = l;
    out->ordered = !q->aggregates && key_gives_order(q, l, &a, &reverse);
    out->filter = a.residual;
    if (o.lock.strength != MVCC_NONE && !locks_in_scan(q, a.residual)) {
        out->lock = o.lock;
        o.lock = (struct txn_lock){.strength = MVCC_NONE};
        for (uint16_t i = 0; i < l->key_count; i++) {
            needed[l->key[i].column] = true;
        }
    }
    o.needed = needed;
    o.reverse = out->ordered && reverse;
    return scan(b, l, &a, &o, &out->node);
}

/* FROM and WHERE of a query. */
static struct status plan_from(struct plan_builder *b, const struct query *q, struct from_plan *out)
{
    const struct query_rel *r = q->rels;
    struct plan_node *n = NULL;
    uint8_t *phys = NULL;

    *out = (struct from_plan){.filter = q->where};
    if (q->rels_count == 0) {
        TRY(new_node(b, PLAN_ONE_ROW, NULL, 0, &n, &phys));
        out->node = n;
        return OK;
    }
    switch (r->kind) {
    case QUERY_REL_SELECT:
        return plan_select(b, r->select, &out->node);
    case QUERY_REL_VALUES:
        return values_node(b, (struct expr *const *const *)r->rows, r->rows_count, r->columns_count,
                           &out->node);
    case QUERY_REL_SERIES:
        return series_node(b, r, &out->node);
    case QUERY_REL_TABLE:
        break;
    }
    return plan_table(b, q, out);
}

/* ---- above FROM -------------------------------------------------------------------------------- */

static struct status aggregate(struct plan_builder *b, const struct query *q,
                               const struct plan_node *from, struct expr *filter,
                               const struct plan_node **out)
{
    const uint16_t wide = (uint16_t)(q->groups_count + 2 * q->aggs_count);
    struct expr **exprs = ARENA_ARRAY(b->scratch, struct expr *, wide + 1u);
    struct plan_agg_item *items = ARENA_ARRAY(b->arena, struct plan_agg_item, q->aggs_count + 1u);
    uint16_t *groups = ARENA_ARRAY(b->arena, uint16_t, q->groups_count + 1u);
    const struct plan_node *in = NULL;
    struct plan_node *n = NULL;
    uint8_t *phys = NULL;
    uint16_t count = 0;

    if (exprs == NULL || items == NULL || groups == NULL) {
        return no_memory();
    }
    for (uint16_t i = 0; i < q->groups_count; i++) {
        groups[i] = count;
        exprs[count++] = q->groups[i];
    }
    for (uint16_t i = 0; i < q->aggs_count; i++) {
        const struct query_agg *g = &q->aggs[i];

        items[i] = (struct plan_agg_item){
            .kind = g->desc->kind, .column = -1, .filter = -1, .distinct = g->distinct};
        if (g->arg != NULL) {
            items[i].phys = phys_of(g->arg->type);
            items[i].column = (int16_t)count;
            exprs[count++] = g->arg;
        }
        if (g->filter != NULL) {
            items[i].filter = (int16_t)count;
            exprs[count++] = g->filter;
        }
    }
    TRY(project(b, from, filter, exprs, count, &in));
    TRY(new_node(b, PLAN_AGG, in, (uint16_t)(q->groups_count + q->aggs_count), &n, &phys));
    phys_of_exprs(q->groups, q->groups_count, phys);
    for (uint16_t i = 0; i < q->aggs_count; i++) {
        phys[q->groups_count + i] = (uint8_t)phys_of(q->aggs[i].desc->ret);
    }
    n->agg = (struct plan_agg){.items = items,
                               .groups = groups,
                               .items_count = q->aggs_count,
                               .groups_count = q->groups_count,
                               .scalar = q->groups_count == 0};
    *out = n;
    return OK;
}

/* ORDER BY, and for DISTINCT every other column behind it. */
static struct status sort(struct plan_builder *b, const struct query *q, bool ordered,
                          const struct plan_node **node)
{
    const uint16_t max = (uint16_t)(q->order_count + q->targets_count);
    struct plan_sort_key *keys = ARENA_ARRAY(b->arena, struct plan_sort_key, max + 1u);
    struct plan_node *n = NULL;
    uint16_t count = 0;

    if (!q->distinct && (q->order_count == 0 || ordered)) {
        return OK;
    }
    if (keys == NULL) {
        return no_memory();
    }
    for (uint16_t i = 0; i < q->order_count; i++) {
        const struct query_order *o = &q->order[i];

        keys[count++] = (struct plan_sort_key){o->target, o->desc, o->nulls_first};
    }
    for (uint16_t i = 0; q->distinct && i < q->visible_count; i++) {
        keys[count++] = (struct plan_sort_key){i, false, false};
    }
    TRY(new_like(b, PLAN_SORT, *node, &n));
    n->sort = (struct plan_sort){.keys = keys, .keys_count = count, .distinct = q->distinct};
    *node = n;
    return OK;
}

static struct status limit(struct plan_builder *b, const struct query *q,
                           const struct plan_node **node)
{
    struct expr null_count = {
        .kind = EXPR_CONST, .type = TYPE_INT8, .typmod = -1, .position = -1, .constant.null = true};
    struct expr *counts[2] = {q->limit == NULL ? &null_count : q->limit,
                              q->offset == NULL ? &null_count : q->offset};
    struct plan_node *n = NULL;

    if (q->limit == NULL && q->offset == NULL) {
        return OK;
    }
    TRY(new_like(b, PLAN_LIMIT, *node, &n));
    TRY(plan_program(b, counts, 2, 0, NULL, &n->limit.counts));
    *node = n;
    return OK;
}

static struct status exprs_of(struct plan_builder *b, const struct query_target *targets,
                              uint16_t count, uint16_t room, struct expr ***out)
{
    *out = ARENA_ARRAY(b->scratch, struct expr *, count + room + 1u);
    if (*out == NULL) {
        return no_memory();
    }
    for (uint16_t i = 0; i < count; i++) {
        (*out)[i] = targets[i].expr;
    }
    return OK;
}

static struct expr column_expr(const struct row_layout *l, uint16_t column)
{
    return (struct expr){.kind = EXPR_COLUMN,
                         .type = l->types[column]->id,
                         .typmod = -1,
                         .position = -1,
                         .column = column};
}

/* The select list, and behind it the key when rows are to be locked by it. */
static struct status target_exprs(struct plan_builder *b, const struct query *q,
                                  const struct from_plan *from, struct expr ***out, uint16_t *count)
{
    const uint16_t keys = from->lock.strength == MVCC_NONE ? 0 : from->layout->key_count;
    struct expr *columns = ARENA_ARRAY(b->scratch, struct expr, keys + 1u);

    TRY(exprs_of(b, q->targets, q->targets_count, keys, out));
    if (columns == NULL) {
        return no_memory();
    }
    for (uint16_t i = 0; i < keys; i++) {
        columns[i] = column_expr(from->layout, from->layout->key[i].column);
        (*out)[q->targets_count + i] = &columns[i];
    }
    *count = (uint16_t)(q->targets_count + keys);
    return OK;
}

static struct status plan_select(struct plan_builder *b, const struct query *q,
                                 const struct plan_node **out)
{
    const struct plan_node *n = NULL;
    struct from_plan from;
    struct expr **exprs = NULL;
    uint16_t count = q->targets_count;

    TRY(plan_from(b, q, &from));
    n = from.node;
    if (q->aggregates) {
        TRY(aggregate(b, q, n, from.filter, &n));
        from.filter = q->having;
    }
    TRY(target_exprs(b, q, &from, &exprs, &count));
    TRY(project(b, n, from.filter, exprs, count, &n));
    TRY(sort(b, q, from.ordered, &n));
    if (from.lock.strength != MVCC_NONE) {
        TRY(lock_selected(b, from.layout, from.lock, q->targets_count, &n));
    }
    TRY(limit(b, q, &n));
    *out = n;
    return OK;
}

/* ---- INSERT, UPDATE, DELETE -------------------------------------------------------------------- */

static struct status spool(struct plan_builder *b, const struct plan_node **node)
{
    struct plan_node *n = NULL;

    TRY(new_like(b, PLAN_SPOOL, *node, &n));
    *node = n;
    return OK;
}

static struct status conflict_programs(struct plan_builder *b, const struct query *q,
                                       const struct row_layout *l, const uint8_t *phys,
                                       struct plan_modify *m)
{
    const uint16_t n = l->columns_count;
    uint8_t *both = ARENA_ARRAY(b->arena, uint8_t, 2u * n + 1u);
    struct expr *where = q->conflict_where;

    if (both == NULL) {
        return no_memory();
    }
    memcpy(both, phys, n);
    memcpy(both + n, phys, n);
    if (where != NULL) {
        TRY(plan_program(b, &where, 1, (uint16_t)(2 * n), both, &m->conflict_where));
    }
    return plan_program(b, q->values, q->sets_count, (uint16_t)(2 * n), both, &m->conflict_sets);
}

static bool key_column(const struct row_layout *l, uint16_t column)
{
    for (uint16_t i = 0; i < l->key_count; i++) {
        if (l->key[i].column == column) {
            return true;
        }
    }
    return false;
}

static struct status plan_modify_of(struct plan_builder *b, const struct query *q,
                                    const struct row_layout *l, struct plan_modify *m)
{
    uint16_t *sets = ARENA_ARRAY(b->arena, uint16_t, q->sets_count + 1u);
    struct expr **returning = NULL;
    uint8_t *phys = NULL;

    if (sets == NULL) {
        return no_memory();
    }
    TRY(table_phys(b, l, &phys));
    m->kind = q->kind == QUERY_INSERT   ? PLAN_INSERT
              : q->kind == QUERY_UPDATE ? PLAN_UPDATE
                                        : PLAN_DELETE;
    m->conflict = q->conflict;
    m->layout = l;
    m->sets = sets;
    m->sets_count = q->sets_count;
    for (uint16_t i = 0; i < q->sets_count; i++) {
        sets[i] = q->sets[i];
        m->key_changes = m->key_changes || key_column(l, sets[i]);
    }
    if (q->conflict == PLAN_CONFLICT_UPDATE) {
        TRY(conflict_programs(b, q, l, phys, m));
    }
    if (q->returning_count == 0) {
        return OK;
    }
    TRY(exprs_of(b, q->returning, q->returning_count, 0, &returning));
    return plan_program(b, returning, q->returning_count, l->columns_count, phys, &m->returning);
}

static bool reads_table(const struct query *q, uint32_t table)
{
    if (q->rels_count == 0) {
        return false;
    }
    if (q->rels[0].kind == QUERY_REL_SELECT) {
        return reads_table(q->rels[0].select, table);
    }
    return q->rels[0].kind == QUERY_REL_TABLE && q->rels[0].table->id == table;
}

/* Rows to insert: VALUES as they are, a query through the casts of its columns. */
static struct status insert_source(struct plan_builder *b, const struct query *q,
                                   const struct row_layout *l, const struct plan_node **out)
{
    const struct query_rel *r = &q->rels[0];

    if (r->kind == QUERY_REL_VALUES) {
        return values_node(b, (struct expr *const *const *)r->rows, r->rows_count, l->columns_count,
                           out);
    }
    TRY(plan_select(b, r->select, out));
    TRY(project(b, *out, NULL, q->insert, l->columns_count, out));
    return reads_table(r->select, q->table->id) ? spool(b, out) : OK;
}

static const struct txn_lock change_lock = {MVCC_EXCLUSIVE, RANGE_WAIT_BLOCK};

/* UPDATE hands on the old row and the new values, DELETE the old row. */
static struct status change_source(struct plan_builder *b, const struct query *q,
                                   const struct row_layout *l, const struct plan_access *a,
                                   bool key_changes, const struct plan_node **out)
{
    const uint16_t n = l->columns_count;
    bool *needed = ARENA_ARRAY(b->arena, bool, n + 1u);
    struct expr **exprs = ARENA_ARRAY(b->scratch, struct expr *, n + q->sets_count + 1u);
    struct expr *columns = ARENA_ARRAY(b->scratch, struct expr, n + 1u);
    struct scan_options o = {.needed = needed};

    if (needed == NULL || exprs == NULL || columns == NULL) {
        return no_memory();
    }
    for (uint16_t i = 0; i < n; i++) {
        needed[i] = q->kind == QUERY_UPDATE || q->returning_count > 0 || key_column(l, i);
        columns[i] = column_expr(l, i);
        exprs[i] = &columns[i];
    }
    mark_columns(a->residual, needed);
    if (a->residual == NULL) {
        o.lock = change_lock;
    }
    TRY(scan(b, l, a, &o, out));
    for (uint16_t i = 0; i < q->sets_count; i++) {
        exprs[n + i] = q->values[i];
    }
    if (q->kind == QUERY_UPDATE) {
        TRY(project(b, *out, a->residual, exprs, (uint16_t)(n + q->sets_count), out));
    } else if (a->residual != NULL) {
        TRY(project(b, *out, a->residual, NULL, 0, out));
    }
    if (a->residual != NULL) {
        TRY(lock_changed(b, l, change_lock, out));
    }
    return key_changes ? spool(b, out) : OK;
}

static struct status modify_tree(struct plan_builder *b, const struct query *q, struct plan *plan,
                                 const struct plan_modify *m, const struct plan_node *source)
{
    struct plan_node *n = NULL;
    uint8_t *phys = NULL;

    TRY(new_node(b, PLAN_MODIFY, source, q->returning_count, &n, &phys));
    for (uint16_t i = 0; i < q->returning_count; i++) {
        phys[i] = (uint8_t)phys_of(q->returning[i].expr->type);
    }
    n->modify = *m;
    plan->root = n;
    return q->returning_count == 0 ? OK : spool(b, &plan->root);
}

static struct status point_key_program(struct plan_builder *b, const struct plan_access *a,
                                       struct plan *plan)
{
    return plan_program(b, a->bounds, a->bounds_count, 0, NULL, &plan->key);
}

/* UPDATE or DELETE of one row by its key. */
static struct status point_change(struct plan_builder *b, const struct query *q,
                                  const struct row_layout *l, const struct plan_access *a,
                                  struct plan *plan)
{
    bool *needed = ARENA_ARRAY(b->arena, bool, l->columns_count + 1u);
    struct expr *filter = a->residual;
    uint8_t *phys = NULL;

    if (needed == NULL) {
        return no_memory();
    }
    TRY(table_phys(b, l, &phys));
    for (uint16_t i = 0; i < l->columns_count; i++) {
        needed[i] = q->kind == QUERY_UPDATE || q->returning_count > 0;
    }
    mark_columns(a->residual, needed);
    plan->shape = q->kind == QUERY_UPDATE ? PLAN_POINT_UPDATE : PLAN_POINT_DELETE;
    plan->lock =
        change_lock; /* Also when the filter refuses the row: cheaper than to read twice. */
    plan->needed = needed;
    TRY(point_key_program(b, a, plan));
    if (filter != NULL) {
        TRY(plan_program(b, &filter, 1, l->columns_count, phys, &plan->filter));
    }
    return plan_program(b, q->values, q->kind == QUERY_UPDATE ? q->sets_count : 0, l->columns_count,
                        phys, &plan->columns);
}

static struct status plan_write(struct plan_builder *b, const struct query *q, struct plan *plan)
{
    struct plan_modify *m = ARENA_NEW(b->arena, struct plan_modify);
    const struct row_layout *l = NULL;
    const struct plan_node *source = NULL;
    struct plan_access a;

    if (m == NULL) {
        return no_memory();
    }
    TRY(layout_of(b, q->table, &l));
    TRY(plan_modify_of(b, q, l, m));
    plan->layout = l;
    plan->modify = m;
    plan->cols_count = q->returning_count;
    plan->returns_rows = q->returning_count > 0;
    if (q->kind == QUERY_INSERT) {
        const struct query_rel *r = &q->rels[0];

        if (r->kind == QUERY_REL_VALUES && r->rows_count == 1) {
            plan->shape = PLAN_POINT_INSERT;
            return plan_program(b, r->rows[0], l->columns_count, 0, NULL, &plan->columns);
        }
        TRY(insert_source(b, q, l, &source));
        return modify_tree(b, q, plan, m, source);
    }
    TRY(plan_access_path(b, l, q->where, &a));
    if (a.whole_key) {
        return point_change(b, q, l, &a, plan);
    }
    TRY(change_source(b, q, l, &a, m->key_changes, &source));
    return modify_tree(b, q, plan, m, source);
}

/* ---- entry ------------------------------------------------------------------------------------- */

/* LIMIT that cannot cut a result of one row. */
static bool limit_allows_one(struct plan_builder *b, const struct query *q)
{
    const struct expr *e = q->limit == NULL ? NULL : plan_fold(b->scratch, q->limit);

    return q->offset == NULL && (e == NULL || (e->kind == EXPR_CONST && !e->constant.null &&
                                               e->constant.value.i64 >= 1));
}

/* SELECT of one row by its whole key? *is: plan filled. */
static struct status point_select(struct plan_builder *b, const struct query *q, struct plan *plan,
                                  bool *is)
{
    const struct row_layout *l = NULL;
    struct plan_access a;
    struct expr **exprs = NULL;
    struct expr *filter = NULL;
    bool *needed = NULL;
    uint8_t *phys = NULL;

    *is = false;
    if (q->rels_count != 1 || q->rels[0].kind != QUERY_REL_TABLE || q->aggregates ||
        !limit_allows_one(b, q)) {
        return OK;
    }
    TRY(layout_of(b, q->rels[0].table, &l));
    TRY(plan_access_path(b, l, q->where, &a));
    if (!a.whole_key || (q->rels[0].lock != QUERY_LOCK_NONE && a.residual != NULL)) {
        return OK; /* A row that does not pass is not to be locked. */
    }
    *is = true;
    needed = ARENA_ARRAY(b->arena, bool, l->columns_count + 1u);
    if (needed == NULL) {
        return no_memory();
    }
    mark_query(q, a.residual, needed);
    TRY(table_phys(b, l, &phys));
    plan->shape = PLAN_POINT_GET;
    plan->lock = lock_of(&q->rels[0]);
    plan->layout = l;
    plan->needed = needed;
    TRY(point_key_program(b, &a, plan));
    filter = a.residual;
    if (filter != NULL) {
        TRY(plan_program(b, &filter, 1, l->columns_count, phys, &plan->filter));
    }
    TRY(exprs_of(b, q->targets, q->visible_count, 0, &exprs));
    return plan_program(b, exprs, q->visible_count, l->columns_count, phys, &plan->columns);
}

struct status plan_build(struct plan_builder *b, const struct query *q, const struct plan **out)
{
    struct plan *plan = ARENA_NEW(b->arena, struct plan);
    bool point = false;

    if (plan == NULL) {
        return no_memory();
    }
    *out = plan;
    if (q->kind != QUERY_SELECT) {
        return plan_write(b, q, plan);
    }
    plan->cols_count = q->visible_count;
    plan->returns_rows = true;
    TRY(point_select(b, q, plan, &point));
    return point ? OK : plan_select(b, q, &plan->root);
}
