/*
 * sink.h -- where rows go: pgwire, an internal caller, a test. Filled by sql/, implemented above it.
 *
 * For each statement: begin() when it returns rows, rows() any number of times, then done() or, once,
 * failed(). notice() at any time. A sink may yield in rows() to wait for a slow client.
 */
#pragma once

#include "node/base/status.h"
#include "node/sql/session/error.h"
#include "node/sql/types/datum.h"

struct row_column {
    const char *name;
    oid type;
    int32_t typmod; /* -1: none. */
    oid table;      /* 0 when the column is no plain column of a table. */
    int16_t attnum;
    int16_t typlen; /* As pg_type.typlen. */
};

struct row_desc {
    const struct row_column *columns;
    uint16_t count;
};

/* Row-major: values[row * columns + column]; nulls likewise (1: NULL). Borrowed for the call. */
struct row_block {
    const union datum *values;
    const uint8_t *nulls;
    uint32_t rows;
};

struct row_sink {
    MAYYIELD struct status (*begin)(struct row_sink *s, const struct row_desc *desc);
    MAYYIELD struct status (*rows)(struct row_sink *s, const struct row_block *block);
    /* tag: "SELECT 3", "INSERT 0 1", ...; "" for an empty statement; NULL: portal suspended. */
    NOYIELD void (*done)(struct row_sink *s, const char *tag);
    NOYIELD void (*failed)(struct row_sink *s, const struct sql_error *err);
    NOYIELD void (*notice)(struct row_sink *s, const struct sql_error *note);
    /* A reported parameter changed (ParameterStatus). */
    NOYIELD void (*parameter)(struct row_sink *s, const char *name, const char *value);

    /*
     * For sinks that can take back what they were told; all three are NULL in others.
     * mark    from here on a transaction runs that could be run again: what follows stays at hand
     *         as long as is reasonable.
     * rewind  forgets everything since the mark; false, and nothing happens, when part of it is gone.
     * hold    true: a write was told that is not committed, nothing may leave; false: it is committed
     *         or over, everything may leave and the mark means nothing any more.
     */
    NOYIELD uint64_t (*mark)(struct row_sink *s);
    NOYIELD bool (*rewind)(struct row_sink *s, uint64_t mark);
    NOYIELD void (*hold)(struct row_sink *s, bool held);
};
