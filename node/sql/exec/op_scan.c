/*
 * op_scan.c -- reading a table: spans of its primary key, or many single keys.
 *
 * When every key column has a value the keys are read together (multi-get), otherwise as spans. Pages
 * start small and grow: a statement that wants a few rows must not pay for many. The rows of a page
 * live in an arena that the next page resets; strings in the columns point into it.
 *
 * Alternatives (IN lists) become one key or span each, sorted by encoded key and without repeats, so
 * that rows come out in key order and each only once.
 */
#include <stdlib.h>
#include <string.h>

#include "node/runtime/fiber.h"
#include "node/sql/exec/exec_internal.h"

struct op_scan {
    struct op op;
    struct key_span *spans;
    uint32_t spans_count;
    uint32_t at;       /* Current span. */
    uint32_t page_max; /* Rows of the next page. */
    bool points;       /* spans[].start are whole keys. */
    bool begun;        /* `scan` holds the rest of the current span. */
    struct txn_scan scan;
    struct arena *page;
    struct vec *cols;
    uint32_t cols_rows;
    union datum *row;
    uint8_t *row_nulls;
};

/* ---- spans ------------------------------------------------------------------------------------- */

/* Encodes the prefix, `eq` equality values (alternative `alt` for the last one), and `extra` if it is
 * an output. Memory from the arena, large enough for any value. */
static struct status encode_bound(struct exec *x, const struct plan_scan *p,
                                  const struct program_run *r, uint16_t alt, int16_t extra,
                                  bool family, struct bytes *out)
{
    const struct plan_span *sp = &p->span;
    size_t room = ROW_PREFIX_MAX + 16;
    struct key_enc e;
    uint8_t *mem = NULL;

    for (uint16_t i = 0; r->p != NULL && i < r->p->outputs_count; i++) {
        const bool bytes = r->p->phys[r->p->outputs[i]] == PHYS_BYTES;

        room += 16 + (bytes && !program_is_null(r, i) ? 2 * program_value(r, i).bytes.len : 0);
    }
    mem = arena_alloc(x->arena, room, 1);
    if (mem == NULL) {
        return exec__no_memory();
    }
    key_enc_init(&e, mem, room);
    key_enc_raw(&e, row_prefix(p->layout));
    for (uint16_t i = 0; i < sp->eq_count; i++) {
        const bool last = i + 1 == sp->eq_count && sp->in_count > 0;

        row_enc_key_column(p->layout, i, program_value(r, (uint16_t)(last ? i + alt : i)), &e);
    }
    if (extra >= 0) {
        row_enc_key_column(p->layout, sp->eq_count, program_value(r, (uint16_t)extra), &e);
    }
    if (family) {
        key_enc_family(&e, 0);
    }
    return key_enc_finish(&e, out);
}

/* A bound beyond the limit of keys, cut to it: no key lies between the cut bound, which is a key of
 * maximal length or none, and the one that was asked for. */
static struct status fit_bound(struct exec *x, struct bytes *bound)
{
    if (bound->len <= MVCC_KEY_MAX) {
        return OK;
    }
    bound->len = MVCC_KEY_MAX;
    return key_prefix_end(x->arena, *bound, bound);
}

static struct status make_span(struct op_scan *s, const struct program_run *r, uint16_t alt,
                               struct key_span *out)
{
    struct exec *x = s->op.x;
    const struct plan_scan *p = &s->op.node->scan;
    const struct plan_span *sp = &p->span;

    TRY(encode_bound(x, p, r, alt, sp->low, s->points, &out->start));
    if (s->points) {
        return OK;
    }
    if (sp->low >= 0 && !sp->low_inclusive) {
        TRY(key_prefix_end(x->arena, out->start, &out->start));
    }
    TRY(encode_bound(x, p, r, alt, sp->high, false, &out->end));
    if (sp->high < 0 || sp->high_inclusive) {
        TRY(key_prefix_end(x->arena, out->end, &out->end));
    }
    TRY(fit_bound(x, &out->start));
    TRY(fit_bound(x, &out->end));
    return OK;
}

static int span_cmp(const void *a, const void *b)
{
    return bytes_cmp(((const struct key_span *)a)->start, ((const struct key_span *)b)->start);
}

static void sort_spans(struct op_scan *s, bool reverse)
{
    uint32_t kept = 0;

    qsort(s->spans, s->spans_count, sizeof(*s->spans), span_cmp);
    for (uint32_t i = 0; i < s->spans_count; i++) {
        if (kept == 0 || !bytes_eq(s->spans[kept - 1].start, s->spans[i].start)) {
            s->spans[kept++] = s->spans[i];
        }
    }
    s->spans_count = kept;
    for (uint32_t i = 0; reverse && i < kept / 2; i++) {
        const struct key_span t = s->spans[i];

        s->spans[i] = s->spans[kept - 1 - i];
        s->spans[kept - 1 - i] = t;
    }
}

/* A NULL compares with nothing: no span. */
static bool bounds_null(const struct plan_span *sp, const struct program_run *r)
{
    const uint16_t single = (uint16_t)(sp->in_count > 0 ? sp->eq_count - 1 : sp->eq_count);

    for (uint16_t i = 0; i < single; i++) {
        if (program_is_null(r, i)) {
            return true;
        }
    }
    return (sp->low >= 0 && program_is_null(r, (uint16_t)sp->low)) ||
           (sp->high >= 0 && program_is_null(r, (uint16_t)sp->high));
}

static struct status make_spans(struct op_scan *s)
{
    struct exec *x = s->op.x;
    const struct plan_scan *p = &s->op.node->scan;
    const struct plan_span *sp = &p->span;
    const uint16_t alternatives = sp->in_count > 0 ? sp->in_count : 1;
    struct program_run r = {0};

    s->points = sp->eq_count == p->layout->key_count;
    s->spans = ARENA_ARRAY(x->arena, struct key_span, alternatives);
    if (s->spans == NULL) {
        return exec__no_memory();
    }
    if (sp->bounds != NULL) {
        TRY(exec__open_program(x, sp->bounds, &r));
        TRY(exec__scalar(x, &r, x->arena));
        if (bounds_null(sp, &r)) {
            return OK;
        }
    }
    for (uint16_t i = 0; i < alternatives; i++) {
        if (sp->in_count > 0 && program_is_null(&r, (uint16_t)(sp->eq_count - 1 + i))) {
            continue;
        }
        TRY(make_span(s, &r, i, &s->spans[s->spans_count]));
        s->spans_count++;
    }
    sort_spans(s, p->reverse);
    return OK;
}

/* ---- pages ------------------------------------------------------------------------------------- */

static struct status reserve(struct op_scan *s, uint32_t rows)
{
    const struct plan_node *n = s->op.node;

    if (rows <= s->cols_rows) {
        return OK;
    }
    TRY(exec__make_vecs(s->op.x, n->phys, n->cols_count, rows, &s->cols));
    s->cols_rows = rows;
    for (uint16_t i = 0; i < n->cols_count; i++) {
        if (!n->scan.needed[i]) {
            s->cols[i].constant = true;
            vec_set_null(&s->cols[i], 0, true);
        }
    }
    return OK;
}

static struct status decode(struct op_scan *s, uint32_t at, struct bytes key, struct bytes value)
{
    const struct plan_scan *p = &s->op.node->scan;

    TRY(row_decode(p->layout, key, value, p->needed, s->page, s->row, s->row_nulls));
    for (uint16_t i = 0; i < s->op.node->cols_count; i++) {
        if (p->needed[i]) {
            vec_put(&s->cols[i], at, s->row[i], s->row_nulls[i] != 0);
        }
    }
    return OK;
}

static void start_page(struct op_scan *s)
{
    arena_reset(s->page);
    for (uint16_t i = 0; i < s->op.node->cols_count; i++) {
        if (s->cols != NULL && !s->cols[i].constant) {
            vec_clear_nulls(&s->cols[i], s->cols_rows);
        }
    }
}

MAYYIELD static struct status next_points(struct op_scan *s, struct batch *out)
{
    const uint32_t left = s->spans_count - s->at;
    const uint32_t count = left < VEC_ROWS_MAX ? left : VEC_ROWS_MAX;
    struct bytes *keys = NULL;
    struct bytes *values = NULL;
    bool *found = NULL;
    const struct plan_scan *p = &s->op.node->scan;
    struct exec_get get = {0};
    uint32_t rows = 0;

    start_page(s);
    keys = ARENA_ARRAY(s->page, struct bytes, count);
    values = ARENA_ARRAY(s->page, struct bytes, count);
    found = ARENA_ARRAY(s->page, bool, count);
    if (keys == NULL || values == NULL || found == NULL) {
        return exec__no_memory();
    }
    for (uint32_t i = 0; i < count; i++) {
        keys[i] = s->spans[s->at + i].start;
    }
    get = (struct exec_get){p->layout, &p->lock, keys, count, s->page};
    TRY(reserve(s, count));
    TRY(exec__get(s->op.x, &get, found, values));
    s->at += count;
    for (uint32_t i = 0; i < count; i++) {
        if (found[i]) {
            TRY(decode(s, rows++, keys[i], values[i]));
        }
    }
    *out = (struct batch){s->cols, s->op.node->cols_count, rows, {NULL, rows}};
    return OK;
}

MAYYIELD static struct status next_page(struct op_scan *s, struct batch *out)
{
    const struct plan_node *n = s->op.node;
    uint32_t rows = 0;

    if (!s->begun) {
        memset(&s->scan, 0, sizeof(s->scan));
        s->scan.start = s->spans[s->at].start;
        s->scan.end = s->spans[s->at].end;
        s->scan.reverse = n->scan.reverse;
        s->scan.lock = n->scan.lock;
        s->begun = true;
        if (bytes_cmp(s->scan.start, s->scan.end) >= 0) { /* BETWEEN 2 AND 1. */
            s->begun = false;
            s->at++;
            return OK;
        }
    } else {
        /* The bounds that the last page left may stand in the arena that we are about to reset. */
        TRY(bytes_dup(s->op.x->arena, s->scan.start, &s->scan.start));
        TRY(bytes_dup(s->op.x->arena, s->scan.end, &s->scan.end));
    }
    start_page(s);
    s->scan.rows_max = s->page_max;
    TRY(exec__lock_error(s->op.x, n->scan.layout, &n->scan.lock,
                         txn_scan(s->op.x->ctx.txn, &s->scan, s->page)));
    TRY(reserve(s, s->scan.rows_count));
    for (uint32_t i = 0; i < s->scan.rows_count; i++) {
        TRY(decode(s, rows++, s->scan.rows[i].key, s->scan.rows[i].value));
    }
    if (!s->scan.more) {
        s->begun = false;
        s->at++;
    }
    s->page_max = s->page_max * 4 < VEC_ROWS_MAX ? s->page_max * 4 : VEC_ROWS_MAX;
    *out = (struct batch){s->cols, n->cols_count, rows, {NULL, rows}};
    return OK;
}

MAYYIELD static struct status scan_next(struct op *o, struct batch *out)
{
    struct op_scan *s = CONTAINER_OF(o, struct op_scan, op);

    if (s->page_max == 0) { /* The first call: o->rows_hint is known by now. */
        TRY(make_spans(s));
        s->page_max = o->rows_hint == 0             ? EXEC_FIRST_ROWS
                      : o->rows_hint < VEC_ROWS_MAX ? (uint32_t)o->rows_hint
                                                    : VEC_ROWS_MAX;
    }
    memset(out, 0, sizeof(*out));
    while (s->at < s->spans_count && out->lanes.count == 0) {
        TRY(exec__yield());
        TRY(s->points ? next_points(s, out) : next_page(s, out));
    }
    return OK;
}

static const struct op_ops scan_ops = {scan_next};

struct status exec__open_scan(struct exec *x, const struct plan_node *n, struct op **out)
{
    struct op_scan *s = ARENA_NEW(x->arena, struct op_scan);

    if (s == NULL) {
        return exec__no_memory();
    }
    s->row = ARENA_ARRAY(x->arena, union datum, n->cols_count);
    s->row_nulls = ARENA_ARRAY(x->arena, uint8_t, n->cols_count);
    if (s->row == NULL || s->row_nulls == NULL) {
        return exec__no_memory();
    }
    TRY(exec__child_arena(x, 0, &s->page));
    s->op.ops = &scan_ops;
    *out = &s->op;
    return OK;
}
