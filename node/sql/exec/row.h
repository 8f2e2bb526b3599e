/*
 * row.h -- rows of a table as keys and values of the store.
 *
 * The layout is compiled once per statement from a table's descriptor. Columns are numbered by their
 * place in the descriptor ("index", from 0), not by id.
 *
 *     key    uvar(table) uvar(index) primary key columns.. family 0
 *     value  tagged columns in id order; columns of the key are not repeated, except double precision,
 *            whose key has lost the sign of zero
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/arena.h"
#include "node/base/bytes.h"
#include "node/catalog/catalog.h"
#include "node/sql/session/error.h"
#include "node/sql/types/type_io.h"
#include "node/storage/key/key.h"
#include "node/storage/key/row.h"

#define ROW_PREFIX_MAX 20u

struct row_key_column {
    uint16_t column;
    enum key_order order;
};

struct row_layout {
    const struct table_desc *table; /* The statement holds its lease. */
    uint16_t columns_count;
    uint16_t key_count;
    uint16_t ids_count;          /* Largest column id + 1. */
    const int16_t *column_of_id; /* -1: no such column (any more). */
    const struct type_desc **types;
    const bool *stored; /* Is the column in the value? */
    struct row_key_column *key;
    uint8_t prefix[ROW_PREFIX_MAX]; /* Of every key of the primary index. */
    uint8_t prefix_len;
};

NOYIELD NODISCARD struct status row_layout_init(const struct table_desc *table, struct arena *arena,
                                                struct row_layout *out);

static inline struct bytes row_prefix(const struct row_layout *l)
{
    return bytes_of(l->prefix, l->prefix_len);
}

/* One value of a key column; not NULL. */
NOYIELD void row_enc_key_column(const struct row_layout *l, uint16_t key_column, union datum d,
                                struct key_enc *e);
/* The whole key from the values of all columns. Errors: STATUS_MEMORY. */
NOYIELD NODISCARD struct status row_key(const struct row_layout *l, const union datum *values,
                                        struct key_enc *e, struct bytes *out);
/* The value; `buf` is cleared first. Errors: STATUS_MEMORY. */
NOYIELD NODISCARD struct status row_value(const struct row_layout *l, const union datum *values,
                                          const uint8_t *nulls, struct buf *buf);

/* The beginning of a key: `count` values of the first key columns, in key order; in the arena. */
NOYIELD NODISCARD struct status row_key_start(const struct row_layout *l, const union datum *values,
                                              uint16_t count, struct arena *arena,
                                              struct bytes *out);
/* "/1/abc" of a key of this table or of its beginning, in the arena; hexadecimal when it is neither.
 * NULL: no memory. */
NOYIELD const char *row_key_text(const struct row_layout *l, struct bytes key, struct arena *arena);

/*
 * Decodes what `needed` marks (NULL: everything) into values[column] and nulls[column]; the others
 * become NULL. Strings borrow from `value` or are unescaped into the arena.
 * Errors: STATUS_CORRUPT, STATUS_MEMORY.
 */
NOYIELD NODISCARD struct status row_decode(const struct row_layout *l, struct bytes key,
                                           struct bytes value, const bool *needed,
                                           struct arena *arena, union datum *values,
                                           uint8_t *nulls);

/* 23505 of the primary key, from the key that is there. */
NOYIELD struct status row_duplicate_error(const struct row_layout *l, struct bytes key,
                                          struct arena *arena, struct sql_error *err);
/* 23502: the column is NULL in this row. */
NOYIELD struct status row_null_error(const struct row_layout *l, uint16_t column,
                                     const union datum *values, const uint8_t *nulls,
                                     const struct type_settings *settings, struct arena *arena,
                                     struct sql_error *err);
