/*
 * plan.h -- what the executor runs: an immutable tree of nodes in the arena of its statement.
 *
 * Each node yields rows of `cols_count` columns. The executor knows no names and no expressions, only
 * columns by number and programs. Statements that touch one row by its key have a point plan instead of
 * a tree: no operators, no batches.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/sql/exec/program.h"
#include "node/sql/exec/row.h"
#include "node/txn/txn.h"

enum plan_kind {
    PLAN_ONE_ROW, /* One row without columns: SELECT 1. */
    PLAN_VALUES,
    PLAN_SERIES, /* generate_series() */
    PLAN_SCAN,
    PLAN_PROJECT, /* Filter, then compute columns. */
    PLAN_SORT,
    PLAN_LIMIT,
    PLAN_AGG,
    PLAN_LOCK,  /* Locks the rows that pass. */
    PLAN_SPOOL, /* Reads its input to the end before the first row leaves. */
    PLAN_MODIFY,
};

/*
 * Which keys a scan reads. `bounds` computes, from constants and parameters only: values of the first
 * eq_count key columns; if in_count > 0, in_count alternatives for the last of these; the bounds of
 * the next column. A NULL among them, or alternatives that are all NULL, means no row at all.
 */
struct plan_span {
    const struct program *bounds; /* NULL: the whole table. */
    uint16_t eq_count;            /* Key columns with one value (or alternatives, for the last). */
    uint16_t in_count;            /* 0: no alternatives. */
    int16_t low;                  /* Output of `bounds`, -1: open. */
    int16_t high;
    bool low_inclusive;
    bool high_inclusive;
};

struct plan_scan {
    const struct row_layout *layout;
    const bool *needed; /* Columns to decode; the others read as NULL. */
    struct plan_span span;
    bool reverse;
    struct txn_lock lock; /* Every row that is read. */
};

/* Rows of a table by the key columns that came along. What cannot be locked is an error, or (SKIP) left
 * out. Not more rows are locked than are asked for. */
struct plan_lock {
    const struct row_layout *layout;
    const uint16_t *key; /* Columns of the input: values of the key columns, in key order. */
    struct txn_lock lock;
};

struct plan_project {
    const struct program *filter;  /* NULL: every row. */
    const struct program *columns; /* NULL: those of the input. */
};

struct plan_sort_key {
    uint16_t column;
    bool desc;
    bool nulls_first;
};

struct plan_sort {
    const struct plan_sort_key *keys;
    uint16_t keys_count;
    bool distinct; /* Of rows with equal keys only the first leaves. */
};

struct plan_limit {
    const struct program *counts; /* Outputs: limit, offset (int8; NULL is none). */
};

struct plan_agg_item {
    enum agg_kind kind;
    enum type_phys phys; /* Of the argument. */
    int16_t column;      /* Argument, -1: count(*). */
    int16_t filter;      /* Boolean column, -1: none. */
    bool distinct;       /* Each value of a group counts once. */
};

/* Rows with equal values of the group columns become one row: the group columns, then the items. */
struct plan_agg {
    const struct plan_agg_item *items;
    const uint16_t *groups; /* Columns of the input. */
    uint16_t items_count;
    uint16_t groups_count;
    bool scalar; /* No GROUP BY: exactly one row, also for no input. */
};

enum plan_modify_kind {
    PLAN_INSERT, /* Input: all columns of the table. */
    PLAN_UPDATE, /* Input: all old columns, then the new values of sets[]. */
    PLAN_DELETE, /* Input: all columns; those that are not needed read as NULL. */
};

enum plan_conflict {
    PLAN_CONFLICT_ERROR,
    PLAN_CONFLICT_NOTHING,
    PLAN_CONFLICT_UPDATE,
};

struct plan_modify {
    enum plan_modify_kind kind;
    enum plan_conflict conflict;
    const struct row_layout *layout;
    const uint16_t *sets; /* Columns that UPDATE or DO UPDATE assigns. */
    uint16_t sets_count;
    bool key_changes;                     /* UPDATE may move rows. */
    const struct program *conflict_where; /* Inputs: old columns, excluded columns. NULL: none. */
    const struct program *conflict_sets;
    const struct program *returning; /* Inputs: columns of the new (deleted) row. NULL: none. */
};

struct plan_node {
    enum plan_kind kind;
    uint16_t cols_count;
    uint32_t rows_max;   /* At most so many rows, 0: unknown. Sizes batches. */
    const uint8_t *phys; /* enum type_phys of each column. */
    const struct plan_node *input;
    union {
        struct {
            const struct program *const *rows;
            uint32_t rows_count;
        } values;
        const struct program *series; /* Outputs: start, stop, step (int8). */
        struct plan_scan scan;
        struct plan_lock lock;
        struct plan_project project;
        struct plan_sort sort;
        struct plan_limit limit;
        struct plan_agg agg;
        struct plan_modify modify;
    };
};

enum plan_shape {
    PLAN_TREE,
    PLAN_POINT_GET,
    PLAN_POINT_INSERT,
    PLAN_POINT_UPDATE,
    PLAN_POINT_DELETE,
};

struct plan {
    enum plan_shape shape;
    bool returns_rows;
    uint16_t cols_count;          /* Columns that leave; a tree's root may have more (sort keys). */
    const struct plan_node *root; /* PLAN_TREE. */
    /* Point shapes. */
    const struct row_layout *layout;
    const struct program *key; /* GET, UPDATE, DELETE: values of all key columns, in key order. */
    struct txn_lock lock;      /* GET, UPDATE, DELETE. */
    const bool *needed;
    const struct program *filter;  /* On the row found; NULL: none. */
    const struct program *columns; /* GET: result; INSERT: all columns; UPDATE: the new values. */
    const struct plan_modify *modify;
};
