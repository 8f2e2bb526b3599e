/*
 * op_lock.c -- locking the rows that pass, when the scan could not do it because not all it reads pass.
 *
 * The rows come with the values of their key. As many as the consumer may still want are locked in one
 * request; those of LIMIT 1 are one, then one more if that one was skipped. What was read without a lock
 * may have changed before the lock came: the transaction finds out (STATUS_TXN_RETRY), so the columns
 * that pass here are those of the locked row.
 *
 * Also here: the reads of point plans and scans, which lock what they read in the same request.
 */
#include <string.h>

#include "node/runtime/fiber.h"
#include "node/sql/exec/exec_internal.h"

struct status exec__lock_error(struct exec *x, const struct row_layout *l,
                               const struct txn_lock *lock, struct status st)
{
    if (st.code != STATUS_LOCKED || lock->wait != RANGE_WAIT_ERROR) {
        return st;
    }
    return sql_error_set(x->err, x->arena, "55P03", -1,
                         "could not obtain lock on row in relation \"%s\"", l->table->name);
}

static bool has_long_key(const struct exec_get *g)
{
    for (uint32_t i = 0; i < g->count; i++) {
        if (g->keys[i].len > MVCC_KEY_MAX) {
            return true;
        }
    }
    return false;
}

/* No row has a key beyond the limit; whoever looks for one finds nothing. */
MAYYIELD static struct status get_each(struct exec *x, const struct exec_get *g, bool *found,
                                       struct bytes *values)
{
    for (uint32_t i = 0; i < g->count; i++) {
        struct exec_get one = *g;

        one.keys = &g->keys[i];
        one.count = 1;
        found[i] = false;
        if (g->keys[i].len <= MVCC_KEY_MAX) {
            TRY(exec__get(x, &one, &found[i], &values[i]));
        }
    }
    return OK;
}

struct status exec__get(struct exec *x, const struct exec_get *g, bool *found, struct bytes *values)
{
    if (has_long_key(g)) {
        return get_each(x, g, found, values);
    }
    if (g->lock->strength == MVCC_NONE && g->count == 1) {
        return txn_get(x->ctx.txn, g->keys[0], g->arena, found, values);
    }
    if (g->lock->strength == MVCC_NONE) {
        return txn_multi_get(x->ctx.txn, g->keys, g->count, g->arena, found, values);
    }
    return exec__lock_error(
        x, g->layout, g->lock,
        txn_multi_get_locked(x->ctx.txn, g->lock, g->keys, g->count, g->arena, found, values));
}

struct status exec__row_key(const struct row_layout *l, const union datum *row, struct arena *arena,
                            struct bytes *out)
{
    size_t room = KEY_STACK_SIZE;
    struct key_enc e;
    uint8_t *mem = NULL;

    for (uint16_t i = 0; i < l->key_count; i++) {
        if (l->types[l->key[i].column]->phys == PHYS_BYTES) {
            room += 2 * row[l->key[i].column].bytes.len;
        }
    }
    mem = arena_alloc(arena, room, 1);
    if (mem == NULL) {
        return exec__no_memory();
    }
    key_enc_init(&e, mem, room);
    return row_key(l, row, &e, out);
}

struct op_lock {
    struct op op;
    struct arena *arena; /* Keys and values of one request. */
    struct batch in;
    uint32_t at; /* Rows of it that were handled. */
    uint64_t left;
    uint16_t *index;
    union datum *row;
    struct bytes *keys;
    struct bytes *values;
    bool *found;
};

/* Locks lanes [at, at + n) of the input; those that were found are listed in index. */
MAYYIELD static struct status lock_lanes(struct op_lock *s, uint32_t n, uint32_t *kept)
{
    const struct plan_lock *p = &s->op.node->lock;
    const struct exec_get get = {p->layout, &p->lock, s->keys, n, s->arena};

    arena_reset(s->arena);
    for (uint32_t k = 0; k < n; k++) {
        const uint32_t row = lane(&s->in.lanes, s->at + k);

        for (uint16_t i = 0; i < p->layout->key_count; i++) {
            s->row[p->layout->key[i].column] = vec_get(&s->in.cols[p->key[i]], row);
        }
        TRY(exec__row_key(p->layout, s->row, s->arena, &s->keys[k]));
    }
    TRY(exec__get(s->op.x, &get, s->found, s->values));
    *kept = 0;
    for (uint32_t k = 0; k < n; k++) {
        if (s->found[k]) {
            s->index[(*kept)++] = (uint16_t)lane(&s->in.lanes, s->at + k);
        }
    }
    return OK;
}

MAYYIELD static struct status lock_next(struct op *o, struct batch *out)
{
    struct op_lock *s = CONTAINER_OF(o, struct op_lock, op);
    uint32_t kept = 0;

    if (s->keys == NULL) { /* The first call: rows_hint is known by now. */
        s->keys = ARENA_ARRAY(o->x->arena, struct bytes, VEC_ROWS_MAX);
        s->left = o->rows_hint == 0 ? UINT64_MAX : o->rows_hint;
        if (s->keys == NULL) {
            return exec__no_memory();
        }
    }
    memset(out, 0, sizeof(*out));
    while (kept == 0 && s->left > 0) {
        uint32_t n = 0;

        if (s->at == s->in.lanes.count) {
            memset(&s->in, 0, sizeof(s->in));
            s->at = 0;
            TRY(o->input->ops->next(o->input, &s->in));
            if (s->in.lanes.count == 0) {
                return OK;
            }
        }
        TRY(exec__yield());
        n = s->in.lanes.count - s->at;
        n = n > s->left ? (uint32_t)s->left : n;
        TRY(lock_lanes(s, n, &kept));
        s->at += n;
    }
    s->left -= s->left == UINT64_MAX ? 0 : kept;
    *out = s->in;
    out->lanes = (struct lanes){s->index, kept};
    return OK;
}

static const struct op_ops lock_ops = {lock_next};

struct status exec__open_lock(struct exec *x, const struct plan_node *n, struct op **out)
{
    struct op_lock *s = ARENA_NEW(x->arena, struct op_lock);

    if (s == NULL) {
        return exec__no_memory();
    }
    s->index = ARENA_ARRAY(x->arena, uint16_t, VEC_ROWS_MAX);
    s->row = ARENA_ARRAY(x->arena, union datum, n->lock.layout->columns_count);
    s->values = ARENA_ARRAY(x->arena, struct bytes, VEC_ROWS_MAX);
    s->found = ARENA_ARRAY(x->arena, bool, VEC_ROWS_MAX);
    if (s->index == NULL || s->row == NULL || s->values == NULL || s->found == NULL) {
        return exec__no_memory();
    }
    TRY(exec__child_arena(x, 0, &s->arena));
    s->op.ops = &lock_ops;
    *out = &s->op;
    return OK;
}
