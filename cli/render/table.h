/*
 * table.h -- rows for people: columns as wide as their widest cell, numbers to the right.
 *
 * Programs get JSON instead (node/base/json.h). Cells are borrowed until the table is printed. Bytes
 * that a terminal would act upon are printed as '?'.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "node/base/arena.h"
#include "node/base/status.h"

#define TABLE_COLUMNS_MAX 12u
#define TABLE_ROWS_MAX    4096u

struct table_column {
    const char *title;
    bool right; /* Numbers. */
};

struct table {
    const struct table_column *columns;
    uint32_t columns_count;
    const char **cells; /* Row after row. */
    uint32_t rows;
    uint32_t rows_cap;
    uint32_t filled; /* Cells of the last row that are set. */
    bool cut;        /* Rows were left out: TABLE_ROWS_MAX, or no memory. */
    struct arena *arena;
};

NOYIELD void table_init(struct table *t, const struct table_column *columns, uint32_t count,
                        struct arena *arena);
/* Starts a row; its cells are "" until set, left to right. */
NOYIELD void table_row(struct table *t);
NOYIELD void table_cell(struct table *t, const char *text);
NOYIELD void table_cell_u64(struct table *t, uint64_t v);
/* Says behind the rows when some were left out. */
NOYIELD void table_print(const struct table *t, FILE *out);
