/*
 * vec.h -- columns of values, and which of their rows count.
 *
 * A vec is a column of up to VEC_ROWS_MAX values of one physical kind, or one value that stands for
 * all rows (constant). NULL is a bit in `nulls`; the value below a NULL is undefined but readable.
 * Filters never move values: they hand on a shorter list of lanes.
 *
 * Memory: allocated once per operator, from the arena of the portal; variable-length values point
 * into the batch's arena or into the page they were read from.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "node/base/arena.h"
#include "node/sql/types/type.h"

#define VEC_ROWS_MAX         1024u
#define VEC_NULL_WORDS(rows) (((rows) + 63u) / 64u)

struct vec {
    enum type_phys phys;
    bool constant;  /* One value, at index 0. */
    bool has_nulls; /* False: every bit of `nulls` is clear. */
    uint64_t *nulls;
    union {
        int64_t *i64;
        double *f64;
        struct bytes *bytes;
        void *data;
    };
};

/* Rows 0..count-1, or those that `index` lists in rising order. */
struct lanes {
    const uint16_t *index; /* NULL: all. */
    uint32_t count;
};

/* Columns of one round. Valid until the operator that made it is asked for the next one. */
struct batch {
    struct vec *cols;
    uint16_t cols_count;
    uint32_t rows;      /* Above every lane: columns that are not constant hold so many. */
    struct lanes lanes; /* count 0: the end. */
};

/* Room for `rows` values. Errors: STATUS_MEMORY. */
static inline struct status vec_init(struct vec *v, enum type_phys phys, uint32_t rows,
                                     struct arena *arena)
{
    const size_t size = phys == PHYS_BYTES ? sizeof(struct bytes) : sizeof(int64_t);

    memset(v, 0, sizeof(*v));
    v->phys = phys;
    v->nulls = ARENA_ARRAY(arena, uint64_t, VEC_NULL_WORDS(rows));
    v->data = arena_calloc(arena, rows, size);
    if (v->nulls == NULL || v->data == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a column of rows");
    }
    return OK;
}

static inline uint32_t lane(const struct lanes *l, uint32_t k)
{
    return l->index == NULL ? k : l->index[k];
}

static inline bool vec_is_null(const struct vec *v, uint32_t row)
{
    row = v->constant ? 0 : row;
    return v->has_nulls && (v->nulls[row / 64] >> (row % 64) & 1) != 0;
}

static inline void vec_set_null(struct vec *v, uint32_t row, bool null)
{
    const uint64_t bit = (uint64_t)1 << (row % 64);

    if (null) {
        v->nulls[row / 64] |= bit;
        v->has_nulls = true;
    } else {
        v->nulls[row / 64] &= ~bit;
    }
}

static inline void vec_clear_nulls(struct vec *v, uint32_t rows)
{
    if (v->has_nulls) {
        memset(v->nulls, 0, VEC_NULL_WORDS(rows) * sizeof(uint64_t));
        v->has_nulls = false;
    }
}

static inline union datum vec_get(const struct vec *v, uint32_t row)
{
    union datum d;

    row = v->constant ? 0 : row;
    switch (v->phys) {
    case PHYS_I64:
        d.bytes = BYTES_EMPTY;
        d.i64 = v->i64[row];
        return d;
    case PHYS_F64:
        d.bytes = BYTES_EMPTY;
        d.f64 = v->f64[row];
        return d;
    case PHYS_BYTES:
        break;
    }
    d.bytes = v->bytes[row];
    return d;
}

/* Also clears the row's NULL bit. */
static inline void vec_set(struct vec *v, uint32_t row, union datum d)
{
    if (v->has_nulls) {
        vec_set_null(v, row, false);
    }
    switch (v->phys) {
    case PHYS_I64:
        v->i64[row] = d.i64;
        return;
    case PHYS_F64:
        v->f64[row] = d.f64;
        return;
    case PHYS_BYTES:
        break;
    }
    v->bytes[row] = d.bytes;
}

static inline void vec_put(struct vec *v, uint32_t row, union datum d, bool null)
{
    if (null) {
        vec_set_null(v, row, true);
    } else {
        vec_set(v, row, d);
    }
}
