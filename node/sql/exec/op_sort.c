/*
 * op_sort.c -- operators that read all of their input first: sort, top-k, distinct, spool.
 *
 * Sorting is a bottom-up merge sort of row pointers: stable, so that equal rows keep their order and
 * results repeat, and it can yield between merges. When the consumer takes at most k rows (LIMIT), the
 * store is sorted and cut to k whenever it has grown to a few times k, and the survivors move to another
 * arena: memory is O(k) and most rows are dropped after one comparison per level.
 */
#include <string.h>

#include "node/runtime/fiber.h"
#include "node/sql/exec/exec_internal.h"

#define TOP_ROWS_MIN     1024u /* Cutting more often than this does not pay. */
#define MERGE_YIELD_ROWS 4096u

struct op_sort {
    struct op op;
    struct row_store store;
    struct row_store spare; /* Empty: what cut() copies the survivors into. */
    struct vec *cols;
    uint32_t emitted;
    uint32_t vec_rows;
    bool filled;
};

static int compare_rows(const struct op_sort *s, const union datum *a, const union datum *b)
{
    const struct plan_sort *p = &s->op.node->sort;
    const uint8_t *nulls_a = row_store__nulls(&s->store, a);
    const uint8_t *nulls_b = row_store__nulls(&s->store, b);

    for (uint16_t i = 0; i < p->keys_count; i++) {
        const struct plan_sort_key *k = &p->keys[i];
        const uint16_t c = k->column;
        int cmp = 0;

        if (nulls_a[c] != 0 || nulls_b[c] != 0) {
            cmp = (nulls_a[c] - nulls_b[c]) * (k->nulls_first ? -1 : 1);
        } else {
            cmp = datum_cmp((enum type_phys)s->store.phys[c], a[c], b[c]) * (k->desc ? -1 : 1);
        }
        if (cmp != 0) {
            return cmp;
        }
    }
    return 0;
}

static void merge(const struct op_sort *s, union datum **from, union datum **to, uint32_t left,
                  uint32_t middle, uint32_t right)
{
    uint32_t a = left;
    uint32_t b = middle;

    for (uint32_t i = left; i < right; i++) {
        if (a < middle && (b >= right || compare_rows(s, from[a], from[b]) <= 0)) {
            to[i] = from[a++];
        } else {
            to[i] = from[b++];
        }
    }
}

MAYYIELD static struct status sort_rows(struct op_sort *s)
{
    const uint32_t n = s->store.count;
    union datum **from = s->store.rows;
    union datum **to = n < 2 ? NULL : ARENA_ARRAY(s->store.arena, union datum *, s->store.cap);

    if (n < 2) {
        return OK;
    }
    if (to == NULL) {
        return exec__no_memory();
    }
    for (uint32_t width = 1; width < n; width *= 2) {
        union datum **t = from;

        for (uint32_t left = 0; left < n; left += 2 * width) {
            const uint32_t middle = left + width < n ? left + width : n;
            const uint32_t right = middle + width < n ? middle + width : n;

            merge(s, from, to, left, middle, right);
            if (left % MERGE_YIELD_ROWS == 0) {
                TRY(exec__yield());
            }
        }
        from = to;
        to = t;
    }
    s->store.rows = from;
    return OK;
}

/* Of neighbours with equal keys the first stays. */
static void drop_repeats(struct op_sort *s)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < s->store.count; i++) {
        if (kept == 0 || compare_rows(s, s->store.rows[kept - 1], s->store.rows[i]) != 0) {
            s->store.rows[kept++] = s->store.rows[i];
        }
    }
    s->store.count = kept;
}

/* Sorts, keeps the first k, and gives the memory of the others back. */
MAYYIELD static struct status cut(struct op_sort *s, uint64_t k)
{
    struct row_store fresh;

    TRY(sort_rows(s));
    if (s->op.node->sort.distinct) {
        drop_repeats(s);
    }
    if (s->spare.arena == NULL) {
        TRY(row_store__init(&s->spare, s->op.x, s->store.phys, s->store.cols));
    }
    fresh = s->spare;
    for (uint32_t i = 0; i < s->store.count && i < k; i++) {
        TRY(row_store__copy(&fresh, s->store.rows[i]));
    }
    arena_reset(s->store.arena);
    s->spare = s->store;
    s->spare.rows = NULL;
    s->spare.count = 0;
    s->spare.cap = 0;
    s->store = fresh;
    return OK;
}

MAYYIELD static struct status fill(struct op_sort *s)
{
    struct op *in = s->op.input;
    const uint64_t k = s->op.node->kind == PLAN_SORT ? s->op.rows_hint : 0;
    const uint64_t cut_at = k * 4 < TOP_ROWS_MIN ? TOP_ROWS_MIN : k * 4;
    struct batch b = {0};

    for (;;) {
        memset(&b, 0, sizeof(b));
        TRY(in->ops->next(in, &b));
        if (b.lanes.count == 0) {
            break;
        }
        for (uint32_t i = 0; i < b.lanes.count; i++) {
            TRY(row_store__add(&s->store, &b, lane(&b.lanes, i)));
        }
        TRY(exec__yield());
        if (k != 0 && s->store.count >= cut_at) {
            TRY(cut(s, k));
        }
    }
    if (s->op.node->kind == PLAN_SORT) {
        TRY(sort_rows(s));
        if (s->op.node->sort.distinct) {
            drop_repeats(s);
        }
    }
    return OK;
}

MAYYIELD static struct status sort_next(struct op *o, struct batch *out)
{
    struct op_sort *s = CONTAINER_OF(o, struct op_sort, op);
    uint32_t n = 0;

    if (!s->filled) {
        TRY(exec__memory_error(o->x, fill(s), o->node->kind == PLAN_SORT ? "a sort" : "a result"));
        s->filled = true;
        s->vec_rows = s->store.count < VEC_ROWS_MAX ? s->store.count : VEC_ROWS_MAX;
        TRY(exec__make_vecs(o->x, o->node->phys, o->node->cols_count, s->vec_rows, &s->cols));
    }
    n = row_store__emit(&s->store, s->emitted, s->vec_rows, s->cols);
    s->emitted += n;
    *out = (struct batch){s->cols, o->node->cols_count, n, {NULL, n}};
    return OK;
}

static const struct op_ops sort_ops = {sort_next};

struct status exec__open_sort(struct exec *x, const struct plan_node *n, struct op **out)
{
    struct op_sort *s = ARENA_NEW(x->arena, struct op_sort);

    if (s == NULL) {
        return exec__no_memory();
    }
    TRY(row_store__init(&s->store, x, n->phys, n->cols_count));
    s->op.ops = &sort_ops;
    *out = &s->op;
    return OK;
}

struct status exec__open_spool(struct exec *x, const struct plan_node *n, struct op **out)
{
    return exec__open_sort(x, n, out);
}
