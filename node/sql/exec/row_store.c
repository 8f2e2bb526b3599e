/*
 * row_store.c -- rows that an operator keeps: copied out of batches, in an arena of their own.
 *
 * A row is one block: its datums, then its NULL flags. Strings are copied. The arena's limit is what
 * stops a sort or an aggregation from eating the node (53200); spilling to disk would go here.
 */
#include <string.h>

#include "node/sql/exec/exec_internal.h"

struct status row_store__init(struct row_store *s, struct exec *x, const uint8_t *phys,
                              uint16_t cols)
{
    memset(s, 0, sizeof(*s));
    s->phys = phys;
    s->cols = cols;
    return exec__child_arena(x, EXEC_SORT_BYTES_MAX, &s->arena);
}

static struct status grow(struct row_store *s)
{
    const uint32_t cap = s->cap == 0 ? 64 : s->cap * 2;
    union datum **rows = NULL;

    if (cap > ROW_STORE_ROWS_MAX) {
        return FAIL(STATUS_MEMORY, "too many rows to keep");
    }
    rows = ARENA_ARRAY(s->arena, union datum *, cap);
    if (rows == NULL) {
        return exec__no_memory();
    }
    if (s->count > 0) {
        memcpy(rows, s->rows, s->count * sizeof(union datum *));
    }
    s->rows = rows;
    s->cap = cap;
    return OK;
}

static struct status new_row(struct row_store *s, union datum **out)
{
    if (s->count == s->cap) {
        TRY(grow(s));
    }
    *out = arena_alloc(s->arena, s->cols * (sizeof(**out) + 1u) + 1u, sizeof(void *));
    return *out == NULL ? exec__no_memory() : OK;
}

static struct status put(struct row_store *s, union datum *row, uint16_t column, union datum d,
                         bool null)
{
    ((uint8_t *)(row + s->cols))[column] = null;
    if (null) {
        row[column].bytes = BYTES_EMPTY;
        return OK;
    }
    return datum_dup((enum type_phys)s->phys[column], d, s->arena, &row[column]);
}

struct status row_store__add(struct row_store *s, const struct batch *b, uint32_t row)
{
    union datum *out = NULL;

    TRY(new_row(s, &out));
    for (uint16_t i = 0; i < s->cols; i++) {
        TRY(put(s, out, i, vec_get(&b->cols[i], row), vec_is_null(&b->cols[i], row)));
    }
    s->rows[s->count++] = out;
    return OK;
}

struct status row_store__copy(struct row_store *s, const union datum *row)
{
    union datum *out = NULL;

    TRY(new_row(s, &out));
    for (uint16_t i = 0; i < s->cols; i++) {
        TRY(put(s, out, i, row[i], row_store__nulls(s, row)[i] != 0));
    }
    s->rows[s->count++] = out;
    return OK;
}

uint32_t row_store__emit(const struct row_store *s, uint32_t from, uint32_t max, struct vec *cols)
{
    const uint32_t left = s->count - from;
    const uint32_t n = left < max ? left : max;

    for (uint16_t c = 0; c < s->cols; c++) {
        vec_clear_nulls(&cols[c], max);
        for (uint32_t i = 0; i < n; i++) {
            const union datum *row = s->rows[from + i];

            vec_put(&cols[c], i, row[c], row_store__nulls(s, row)[c] != 0);
        }
    }
    return n;
}
