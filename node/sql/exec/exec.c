/*
 * exec.c -- opening a plan, sending its rows, and the statements that need no operators.
 *
 * A point statement is the common case of a transactional load, so it takes the short way: the key is
 * encoded on the stack, the value decoded straight into the registers of the result's program, and one
 * row block of one row leaves. Its memory is a handful of arrays in the portal's arena.
 */
#include "node/sql/exec/exec.h"

#include <string.h>

#include "node/base/invariant.h"
#include "node/runtime/fiber.h"
#include "node/sql/exec/exec_internal.h"

struct status exec__failed(struct exec *x)
{
    const struct status st = x->eval.st;

    return status_ok(st) ? FAIL(STATUS_INVALID, "an expression failed without a reason") : st;
}

struct status exec__memory_error(struct exec *x, struct status st, const char *what)
{
    if (st.code != STATUS_MEMORY) {
        return st;
    }
    return sql_error_set(x->err, x->arena, "53200", -1,
                         "out of memory: %s needs more than %zu bytes", what, EXEC_SORT_BYTES_MAX);
}

static void deinit_arena(void *arg)
{
    arena_deinit(arg);
}

struct status exec__child_arena(struct exec *x, size_t limit, struct arena **out)
{
    struct arena *a = ARENA_NEW(x->arena, struct arena);

    if (a == NULL) {
        return exec__no_memory();
    }
    arena_init_child(a, x->arena, limit);
    TRY(arena_defer(x->arena, deinit_arena, a));
    *out = a;
    return OK;
}

struct status exec__open_program(struct exec *x, const struct program *p, struct program_run *r)
{
    x->eval.arena = x->arena;
    return program_open(r, p, &x->ctx.params, &x->eval, x->arena) ? OK : exec__failed(x);
}

struct status exec__scalar(struct exec *x, struct program_run *r, struct arena *arena)
{
    x->eval.arena = arena;
    return program_scalar(r, &x->eval) ? OK : exec__failed(x);
}

struct status exec__make_vecs(struct exec *x, const uint8_t *phys, uint16_t cols, uint32_t rows,
                              struct vec **out)
{
    struct vec *v = ARENA_ARRAY(x->arena, struct vec, cols);

    if (v == NULL && cols > 0) {
        return exec__no_memory();
    }
    for (uint32_t i = 0; i < cols; i++) {
        TRY(vec_init(&v[i], (enum type_phys)phys[i], rows, x->arena));
    }
    *out = v;
    return OK;
}

/* The tree is as deep as queries nest, which the parser bounds; this runs on a fiber's stack, so the
 * planner keeps it below PLAN_DEPTH_MAX. */
struct status exec__open_op(struct exec *x, const struct plan_node *node, uint64_t rows_hint,
                            struct op **out)
{
    uint64_t input_hint = 0; /* What it will take from its input. */
    struct op *o = NULL;
    struct status st = OK;

    switch (node->kind) {
    case PLAN_ONE_ROW:
        st = exec__open_one_row(x, &o);
        break;
    case PLAN_VALUES:
        st = exec__open_values(x, node, &o);
        break;
    case PLAN_SERIES:
        st = exec__open_series(x, node, &o);
        break;
    case PLAN_SCAN:
        st = exec__open_scan(x, node, &o);
        break;
    case PLAN_PROJECT:
        st = exec__open_project(x, node, &o);
        input_hint = node->project.filter == NULL ? rows_hint : 0;
        break;
    case PLAN_SORT:
        st = exec__open_sort(x, node, &o);
        break;
    case PLAN_LIMIT:
        st = exec__open_limit(x, node, &o, &input_hint);
        break;
    case PLAN_AGG:
        st = exec__open_agg(x, node, &o);
        break;
    case PLAN_LOCK:
        st = exec__open_lock(x, node, &o);
        /* Skipped rows are replaced by further ones. */
        input_hint = node->lock.lock.wait == RANGE_WAIT_SKIP ? 0 : rows_hint;
        break;
    case PLAN_SPOOL:
        st = exec__open_spool(x, node, &o);
        break;
    case PLAN_MODIFY:
        st = exec__open_modify(x, node, &o);
        break;
    }
    TRY(st);
    o->node = node;
    o->x = x;
    o->rows_hint = rows_hint;
    *out = o;
    return node->input == NULL ? OK : exec__open_op(x, node->input, input_hint, &o->input);
}

static struct status open_point(struct exec *x)
{
    const struct plan *p = x->plan;

    TRY(exec__open_program(x, p->key, &x->key));
    TRY(exec__open_program(x, p->filter, &x->filter));
    TRY(exec__open_program(x, p->columns, &x->columns));
    if (p->modify != NULL) {
        TRY(modify__open(&x->modify, x, p->modify));
    }
    return OK;
}

static struct status open_block(struct exec *x, uint32_t rows)
{
    const size_t cols = x->plan->cols_count;

    if (rows <= x->block_rows_max) {
        return OK;
    }
    x->block_values = ARENA_ARRAY(x->arena, union datum, cols * rows);
    x->block_nulls = ARENA_ARRAY(x->arena, uint8_t, cols * rows);
    if (x->block_values == NULL || x->block_nulls == NULL) {
        return exec__no_memory();
    }
    x->block_rows_max = rows;
    return OK;
}

struct status exec_open(const struct plan *plan, const struct exec_context *ctx,
                        struct arena *arena, struct sql_error *err, struct exec **out)
{
    struct exec *x = ARENA_NEW(arena, struct exec);

    if (x == NULL) {
        return exec__no_memory();
    }
    x->plan = plan;
    x->ctx = *ctx;
    x->arena = arena;
    x->err = err;
    x->eval = (struct eval){.arena = arena, .view = ctx->view, .err = err, .err_arena = arena};
    if (plan->shape != PLAN_TREE) {
        TRY(open_point(x));
    } else {
        TRY(exec__open_op(x, plan->root, 0, &x->root));
    }
    *out = x;
    return OK;
}

MAYYIELD MAYYIELD static struct status send_row(struct exec *x, const struct program_run *r,
                                                struct row_sink *sink)
{
    struct row_block block = {.rows = 1};

    TRY(open_block(x, 1));
    for (uint16_t i = 0; i < x->plan->cols_count; i++) {
        x->block_values[i] = program_value(r, i);
        x->block_nulls[i] = program_is_null(r, i);
    }
    block.values = x->block_values;
    block.nulls = x->block_nulls;
    return sink->rows(sink, &block);
}

/* Encodes the key of a point statement. *none: a part is NULL, so no row can match. */
static struct status point_key(struct exec *x, uint8_t *mem, size_t size, struct bytes *out,
                               bool *none)
{
    const struct row_layout *l = x->plan->layout;
    struct key_enc e;

    TRY(exec__scalar(x, &x->key, x->arena));
    for (uint16_t i = 0; i < l->key_count; i++) {
        const union datum d = program_value(&x->key, i);

        if (program_is_null(&x->key, i)) {
            *none = true;
            return OK;
        }
        if (l->types[l->key[i].column]->phys == PHYS_BYTES && d.bytes.len > size / 4) {
            size = 0; /* Does not fit the stack for certain. */
        }
    }
    key_enc_init(&e, mem, size);
    key_enc_raw(&e, row_prefix(l));
    for (uint16_t i = 0; i < l->key_count; i++) {
        row_enc_key_column(l, i, program_value(&x->key, i), &e);
    }
    key_enc_family(&e, 0);
    return key_enc_finish(&e, out);
}

/* As point_key(), in the arena when the stack is too small. */
static struct status point_key_any(struct exec *x, uint8_t *mem, struct bytes *out, bool *none)
{
    const struct row_layout *l = x->plan->layout;
    struct status st = point_key(x, mem, KEY_STACK_SIZE, out, none);
    size_t room = KEY_STACK_SIZE;

    if (st.code != STATUS_MEMORY) {
        return st;
    }
    for (uint16_t i = 0; i < l->key_count; i++) {
        if (l->types[l->key[i].column]->phys == PHYS_BYTES) {
            room += program_value(&x->key, i).bytes.len * 4 + 16; /* size / 4, see above. */
        }
    }
    mem = arena_alloc(x->arena, room, 1);
    return mem == NULL ? exec__no_memory() : point_key(x, mem, room, out, none);
}

/* Reads the row into r's inputs and applies the residual filter. */
MAYYIELD static struct status point_read(struct exec *x, struct bytes key, struct program_run *r,
                                         bool *found)
{
    const struct plan *p = x->plan;
    struct program_run *into = p->filter != NULL ? &x->filter : r;
    const struct exec_get get = {p->layout, &p->lock, &key, 1, x->arena};
    struct bytes value = BYTES_EMPTY;

    TRY(exec__get(x, &get, found, &value));
    if (!*found) {
        return OK;
    }
    TRY(row_decode(p->layout, key, value, p->needed, x->arena, into->vals, into->nulls));
    if (p->filter != NULL) {
        TRY(exec__scalar(x, &x->filter, x->arena));
        *found = program_is_true(&x->filter);
        memcpy(r->vals, into->vals, p->layout->columns_count * sizeof(*r->vals));
        memcpy(r->nulls, into->nulls, p->layout->columns_count);
    }
    return OK;
}

MAYYIELD static struct status point_get(struct exec *x, struct row_sink *sink)
{
    uint8_t mem[KEY_STACK_SIZE];
    struct bytes key = BYTES_EMPTY;
    bool none = false;
    bool found = false;

    TRY(point_key_any(x, mem, &key, &none));
    if (none) {
        return OK;
    }
    TRY(point_read(x, key, &x->columns, &found));
    if (!found) {
        return OK;
    }
    TRY(exec__scalar(x, &x->columns, x->arena));
    x->rows = 1;
    return send_row(x, &x->columns, sink);
}

MAYYIELD static struct status point_returning(struct exec *x, struct row_sink *sink)
{
    struct modify *m = &x->modify;

    x->rows++;
    if (m->plan->returning == NULL) {
        return OK;
    }
    memcpy(m->returning.vals, m->row, x->plan->layout->columns_count * sizeof(*m->row));
    memcpy(m->returning.nulls, m->row_nulls, x->plan->layout->columns_count);
    TRY(exec__scalar(x, &m->returning, x->arena));
    return send_row(x, &m->returning, sink);
}

static void copy_outputs(const struct program_run *r, union datum *values, uint8_t *nulls)
{
    for (uint16_t i = 0; i < r->p->outputs_count; i++) {
        values[i] = program_value(r, i);
        nulls[i] = program_is_null(r, i);
    }
}

MAYYIELD static struct status point_insert(struct exec *x, struct row_sink *sink)
{
    bool changed = false;

    TRY(exec__scalar(x, &x->columns, x->arena));
    copy_outputs(&x->columns, x->modify.row, x->modify.row_nulls);
    TRY(modify__insert(&x->modify, &changed));
    return changed ? point_returning(x, sink) : OK;
}

MAYYIELD static struct status point_update(struct exec *x, struct row_sink *sink)
{
    const struct plan *p = x->plan;
    const uint16_t n = p->layout->columns_count;
    struct modify *m = &x->modify;
    uint8_t mem[KEY_STACK_SIZE];
    struct bytes key = BYTES_EMPTY;
    bool none = false;
    bool found = false;

    TRY(point_key_any(x, mem, &key, &none));
    if (none) {
        return OK;
    }
    TRY(point_read(x, key, &x->columns, &found));
    if (!found) {
        return OK;
    }
    memcpy(m->row, x->columns.vals, n * sizeof(*m->row));
    memcpy(m->row_nulls, x->columns.nulls, n);
    if (p->shape == PLAN_POINT_DELETE) {
        TRY(txn_delete(x->ctx.txn, key));
        return point_returning(x, sink);
    }
    TRY(exec__scalar(x, &x->columns, x->arena));
    for (uint16_t i = 0; i < m->plan->sets_count; i++) {
        m->row[m->plan->sets[i]] = program_value(&x->columns, i);
        m->row_nulls[m->plan->sets[i]] = program_is_null(&x->columns, i);
    }
    TRY(modify__update(m, x->columns.vals));
    return point_returning(x, sink);
}

MAYYIELD static struct status fetch_point(struct exec *x, struct row_sink *sink)
{
    switch (x->plan->shape) {
    case PLAN_POINT_GET:
        return point_get(x, sink);
    case PLAN_POINT_INSERT:
        return point_insert(x, sink);
    case PLAN_POINT_UPDATE:
    case PLAN_POINT_DELETE:
        return point_update(x, sink);
    case PLAN_TREE:
        break;
    }
    return FAIL(STATUS_INVALID, "not a point plan");
}

/* Turns columns into rows. */
static void fill_block(struct exec *x, uint32_t rows)
{
    const uint16_t cols = x->plan->cols_count;

    for (uint16_t c = 0; c < cols; c++) {
        const struct vec *v = &x->batch.cols[c];

        for (uint32_t k = 0; k < rows; k++) {
            const uint32_t row = lane(&x->batch.lanes, x->batch_at + k);

            x->block_values[(size_t)k * cols + c] = vec_get(v, row);
            x->block_nulls[(size_t)k * cols + c] = vec_is_null(v, row);
        }
    }
}

/* Sends at most `max` rows (0: all) of the current batch. */
MAYYIELD static struct status send_batch(struct exec *x, uint64_t max, struct row_sink *sink,
                                         uint32_t *sent)
{
    uint32_t n = x->batch.lanes.count - x->batch_at;
    struct row_block block = {0};

    n = max != 0 && n > max ? (uint32_t)max : n;
    TRY(open_block(x, n));
    fill_block(x, n);
    x->batch_at += n;
    block = (struct row_block){x->block_values, x->block_nulls, n};
    *sent = n;
    return sink->rows(sink, &block);
}

MAYYIELD static struct status fetch_tree(struct exec *x, uint64_t rows_max, struct row_sink *sink,
                                         bool *done)
{
    const bool modifies = x->plan->modify != NULL;
    uint64_t total = 0;

    while (!x->ended) {
        uint32_t sent = 0;

        if (x->batch_at == x->batch.lanes.count) {
            TRY(exec__yield());
            memset(&x->batch, 0, sizeof(x->batch));
            x->batch_at = 0;
            TRY(x->root->ops->next(x->root, &x->batch));
            x->ended = x->batch.lanes.count == 0;
            continue;
        }
        TRY(send_batch(x, rows_max == 0 ? 0 : rows_max - total, sink, &sent));
        total += sent;
        x->rows += modifies ? 0 : sent; /* Otherwise the operator counts. */
        if (rows_max != 0 && total == rows_max) {
            break;
        }
    }
    *done = x->ended;
    return OK;
}

struct status exec_fetch(struct exec *x, uint64_t rows_max, struct row_sink *sink,
                         struct sql_error *err, bool *done)
{
    x->err = err;
    x->eval.err = err;
    if (x->plan->shape == PLAN_TREE) {
        return fetch_tree(x, rows_max, sink, done);
    }
    *done = true;
    if (x->ended) {
        return OK;
    }
    x->ended = true;
    return fetch_point(x, sink);
}

uint64_t exec_rows(const struct exec *x)
{
    return x->rows;
}

void exec_close(struct exec *x)
{
    if (x != NULL) {
        x->ended = true; /* All memory is the arena's. */
    }
}
