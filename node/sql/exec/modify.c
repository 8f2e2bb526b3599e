/*
 * modify.c -- writing rows: INSERT, UPDATE, DELETE, ON CONFLICT.
 *
 * One row at a time; the transaction buffers the writes and sends them in one batch. The order for a
 * row is PostgreSQL's: NOT NULL, then the unique check of the primary key.
 *
 * Who checks that a key is new? A plain INSERT leaves it to txn_insert(), which in a transaction of one
 * statement postpones it to the commit: one round trip. ON CONFLICT has to know, so it reads first; the
 * read is part of the transaction, so a row that appears in between fails the commit and the statement
 * runs again.
 *
 * Rows that UPDATE, DELETE and DO UPDATE change are locked before they get here, so that those who want
 * the same row wait for each other instead of failing at their commits.
 *
 * INVARIANT: an operator that feeds this one never sees its writes. Scans deliver each key once and keys
 * of rows do not move unless key_changes, and then the planner puts a spool below.
 */
#include <string.h>

#include "node/base/hash.h"
#include "node/runtime/fiber.h"
#include "node/sql/exec/exec_internal.h"

#define MODIFY_KEYS_MAX 1000000u /* Keys remembered by ON CONFLICT DO UPDATE in one command. */

static void deinit_value(void *arg)
{
    buf_deinit(arg);
}

static void deinit_map(void *arg)
{
    map_deinit(arg);
}

struct status modify__open(struct modify *m, struct exec *x, const struct plan_modify *plan)
{
    const uint16_t n = plan->layout->columns_count;

    memset(m, 0, sizeof(*m));
    m->plan = plan;
    m->x = x;
    m->row = ARENA_ARRAY(x->arena, union datum, n);
    m->row_nulls = ARENA_ARRAY(x->arena, uint8_t, n);
    if (m->row == NULL || m->row_nulls == NULL) {
        return exec__no_memory();
    }
    buf_init(&m->value, 0);
    map_init(&m->touched, MODIFY_KEYS_MAX);
    TRY(arena_defer(x->arena, deinit_value, &m->value));
    TRY(arena_defer(x->arena, deinit_map, &m->touched));
    TRY(exec__open_program(x, plan->conflict_where, &m->where));
    TRY(exec__open_program(x, plan->conflict_sets, &m->sets));
    return exec__open_program(x, plan->returning, &m->returning);
}

static struct status check_not_null(struct modify *m)
{
    const struct row_layout *l = m->plan->layout;

    for (uint16_t i = 0; i < l->columns_count; i++) {
        if (m->row_nulls[i] != 0 && l->table->columns[i].not_null) {
            return row_null_error(l, i, m->row, m->row_nulls, &m->x->ctx.view->types, m->x->arena,
                                  m->x->err);
        }
    }
    return OK;
}

/* The row as it is stored, in m->value. */
static struct status encode_row(struct modify *m)
{
    TRY(row_value(m->plan->layout, m->row, m->row_nulls, &m->value));
    if (m->value.len > EXEC_ROW_MAX) {
        return sql_error_set(m->x->err, m->x->arena, "54000", -1,
                             "row is too big: size %zu, maximum size %zu", m->value.len,
                             EXEC_ROW_MAX);
    }
    return OK;
}

static struct status check_key(struct modify *m, struct bytes key)
{
    if (key.len <= MVCC_KEY_MAX) {
        return OK;
    }
    return sql_error_set(m->x->err, m->x->arena, "54000", -1,
                         "index row size %zu exceeds maximum %zu for index \"%s\"", key.len,
                         MVCC_KEY_MAX, m->plan->layout->table->primary.name);
}

/* Key of a row in `mem` (KEY_STACK_SIZE) or, when it is longer, in the arena. */
static struct status key_of(struct modify *m, const union datum *row, uint8_t *mem,
                            struct bytes *out)
{
    const struct row_layout *l = m->plan->layout;
    struct key_enc e;
    struct status st = OK;

    key_enc_init(&e, mem, KEY_STACK_SIZE);
    st = row_key(l, row, &e, out);
    if (st.code == STATUS_MEMORY) {
        st = exec__row_key(l, row, m->x->arena, out);
    }
    TRY(st);
    return check_key(m, *out);
}

MAYYIELD static struct status insert_new(struct modify *m, struct bytes key)
{
    struct status st = OK;

    TRY(encode_row(m));
    st = txn_insert(m->x->ctx.txn, key, buf_bytes(&m->value));
    if (st.code == STATUS_EXISTS) {
        return row_duplicate_error(m->plan->layout, key, m->x->arena, m->x->err);
    }
    return st;
}

/* A command must not change the same row twice: 21000. Keys are remembered by hash; equal hashes of
 * different keys are a false alarm in 1 of 2^64 pairs. */
static struct status check_untouched(struct modify *m, struct bytes key)
{
    struct status st = OK;

    if (map_get(&m->touched, hash64(key, 0)) == NULL) {
        return OK;
    }
    st = sql_error_set(m->x->err, m->x->arena, "21000", -1,
                       "ON CONFLICT DO UPDATE command cannot affect row a second time");
    m->x->err->hint = "Ensure that no rows proposed for insertion within the same command have "
                      "duplicate constrained values.";
    return st;
}

static struct status remember(struct modify *m, struct bytes key)
{
    return map_put(&m->touched, hash64(key, 0), m);
}

/* Old row and excluded row into the inputs of a program, then the program. */
static struct status run_conflict(struct modify *m, struct program_run *r)
{
    const uint16_t n = m->plan->layout->columns_count;

    memcpy(r->vals, m->old, n * sizeof(*m->old));
    memcpy(r->nulls, m->old_nulls, n);
    memcpy(r->vals + n, m->row, n * sizeof(*m->row));
    memcpy(r->nulls + n, m->row_nulls, n);
    return exec__scalar(m->x, r, m->x->arena);
}

MAYYIELD static struct status update_conflict(struct modify *m, struct bytes key,
                                              struct bytes value, bool *changed)
{
    const struct row_layout *l = m->plan->layout;
    const uint16_t n = l->columns_count;

    if (m->old == NULL) {
        m->old = ARENA_ARRAY(m->x->arena, union datum, n);
        m->old_nulls = ARENA_ARRAY(m->x->arena, uint8_t, n);
        if (m->old == NULL || m->old_nulls == NULL) {
            return exec__no_memory();
        }
    }
    TRY(check_untouched(m, key));
    TRY(row_decode(l, key, value, NULL, m->x->arena, m->old, m->old_nulls));
    if (m->plan->conflict_where != NULL) {
        TRY(run_conflict(m, &m->where));
        if (!program_is_true(&m->where)) {
            *changed = false;
            return OK; /* Left alone: the command may meet it again. */
        }
    }
    TRY(remember(m, key));
    TRY(run_conflict(m, &m->sets));
    memcpy(m->row, m->old, n * sizeof(*m->row));
    memcpy(m->row_nulls, m->old_nulls, n);
    for (uint16_t i = 0; i < m->plan->sets_count; i++) {
        m->row[m->plan->sets[i]] = program_value(&m->sets, i);
        m->row_nulls[m->plan->sets[i]] = program_is_null(&m->sets, i);
    }
    *changed = true;
    return modify__update(m, m->old);
}

/* The row that is there, if any; one that is going to be updated is locked. */
MAYYIELD static struct status read_conflict(struct modify *m, struct bytes key, bool *found,
                                            struct bytes *value)
{
    const bool updates = m->plan->conflict == PLAN_CONFLICT_UPDATE;
    const struct txn_lock lock = {.strength = updates ? MVCC_EXCLUSIVE : MVCC_NONE};
    const struct exec_get get = {m->plan->layout, &lock, &key, 1, m->x->arena};

    return exec__get(m->x, &get, found, value);
}

struct status modify__insert(struct modify *m, bool *changed)
{
    uint8_t mem[KEY_STACK_SIZE];
    struct bytes key = BYTES_EMPTY;
    struct bytes value = BYTES_EMPTY;
    bool found = false;

    *changed = true;
    TRY(check_not_null(m));
    TRY(key_of(m, m->row, mem, &key));
    if (m->plan->conflict == PLAN_CONFLICT_ERROR) {
        return insert_new(m, key);
    }
    TRY(read_conflict(m, key, &found, &value));
    if (!found) {
        if (m->plan->conflict == PLAN_CONFLICT_UPDATE) {
            TRY(remember(m, key));
        }
        TRY(encode_row(m));
        return txn_put(m->x->ctx.txn, key, buf_bytes(&m->value));
    }
    if (m->plan->conflict == PLAN_CONFLICT_NOTHING) {
        *changed = false;
        return OK;
    }
    return update_conflict(m, key, value, changed);
}

static bool same_key(const struct row_layout *l, const union datum *a, const union datum *b)
{
    for (uint16_t i = 0; i < l->key_count; i++) {
        const uint16_t c = l->key[i].column;

        if (datum_cmp(l->types[c]->phys, a[c], b[c]) != 0) {
            return false;
        }
    }
    return true;
}

struct status modify__update(struct modify *m, const union datum *old)
{
    const struct row_layout *l = m->plan->layout;
    uint8_t mem[KEY_STACK_SIZE];
    struct bytes key = BYTES_EMPTY;

    TRY(check_not_null(m));
    if (!same_key(l, old, m->row)) {
        TRY(modify__delete(m, old));
        TRY(key_of(m, m->row, mem, &key));
        return insert_new(m, key);
    }
    TRY(key_of(m, m->row, mem, &key));
    TRY(encode_row(m));
    return txn_put(m->x->ctx.txn, key, buf_bytes(&m->value));
}

struct status modify__delete(struct modify *m, const union datum *old)
{
    uint8_t mem[KEY_STACK_SIZE];
    struct bytes key = BYTES_EMPTY;

    TRY(key_of(m, old, mem, &key));
    return txn_delete(m->x->ctx.txn, key);
}

/* ---- the operator ------------------------------------------------------------------------------ */

struct op_modify {
    struct op op;
    struct modify m;
    union datum *old;
    struct arena *batch_arena;
    struct vec *cols; /* RETURNING. */
    uint32_t cols_rows;
};

static void load_row(struct op_modify *s, const struct batch *b, uint32_t row)
{
    const struct plan_modify *p = s->m.plan;
    const uint16_t n = p->layout->columns_count;

    for (uint16_t i = 0; i < n; i++) {
        s->m.row[i] = vec_get(&b->cols[i], row);
        s->m.row_nulls[i] = vec_is_null(&b->cols[i], row);
    }
    if (p->kind == PLAN_UPDATE) {
        memcpy(s->old, s->m.row, n * sizeof(*s->old));
        for (uint16_t i = 0; i < p->sets_count; i++) {
            s->m.row[p->sets[i]] = vec_get(&b->cols[n + i], row);
            s->m.row_nulls[p->sets[i]] = vec_is_null(&b->cols[n + i], row);
        }
    }
}

MAYYIELD static struct status write_row(struct op_modify *s, bool *changed)
{
    *changed = true;
    switch (s->m.plan->kind) {
    case PLAN_INSERT:
        return modify__insert(&s->m, changed);
    case PLAN_UPDATE:
        return modify__update(&s->m, s->old);
    case PLAN_DELETE:
        return modify__delete(&s->m, s->m.row);
    }
    return OK;
}

static struct status return_row(struct op_modify *s, uint32_t at)
{
    const uint16_t n = s->m.plan->layout->columns_count;
    struct program_run *r = &s->m.returning;

    memcpy(r->vals, s->m.row, n * sizeof(*s->m.row));
    memcpy(r->nulls, s->m.row_nulls, n);
    TRY(exec__scalar(s->op.x, r, s->batch_arena));
    for (uint16_t i = 0; i < s->op.node->cols_count; i++) {
        vec_put(&s->cols[i], at, program_value(r, i), program_is_null(r, i));
    }
    return OK;
}

MAYYIELD static struct status modify_batch(struct op_modify *s, const struct batch *in,
                                           uint32_t *returned)
{
    const bool returning = s->m.plan->returning != NULL;

    if (returning && in->lanes.count > s->cols_rows) {
        TRY(exec__make_vecs(s->op.x, s->op.node->phys, s->op.node->cols_count, in->lanes.count,
                            &s->cols));
        s->cols_rows = in->lanes.count;
    }
    for (uint32_t k = 0; k < in->lanes.count; k++) {
        bool changed = false;

        load_row(s, in, lane(&in->lanes, k));
        TRY(write_row(s, &changed));
        s->op.x->rows += changed;
        if (changed && returning) {
            TRY(return_row(s, (*returned)++));
        }
        TRY(exec__yield());
    }
    return OK;
}

MAYYIELD static struct status modify_next(struct op *o, struct batch *out)
{
    struct op_modify *s = CONTAINER_OF(o, struct op_modify, op);
    struct batch in = {0};
    uint32_t returned = 0;

    do {
        arena_reset(s->batch_arena);
        memset(&in, 0, sizeof(in));
        TRY(o->input->ops->next(o->input, &in));
        TRY(modify_batch(s, &in, &returned));
    } while (in.lanes.count > 0 && returned == 0);
    *out = (struct batch){s->cols, o->node->cols_count, returned, {NULL, returned}};
    return OK;
}

static const struct op_ops modify_ops = {modify_next};

struct status exec__open_modify(struct exec *x, const struct plan_node *n, struct op **out)
{
    struct op_modify *s = ARENA_NEW(x->arena, struct op_modify);

    if (s == NULL) {
        return exec__no_memory();
    }
    s->old = ARENA_ARRAY(x->arena, union datum, n->modify.layout->columns_count);
    if (s->old == NULL) {
        return exec__no_memory();
    }
    TRY(exec__child_arena(x, 0, &s->batch_arena));
    TRY(modify__open(&s->m, x, &n->modify));
    s->op.ops = &modify_ops;
    *out = &s->op;
    return OK;
}
