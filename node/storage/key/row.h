/*
 * row.h -- values of rows: the non-key columns of one family, and composites.
 *
 * Columns in ascending id order, each `uvarint((delta_id << 4) | kind) payload`. A NULL column is
 * absent, so that adding a column rewrites nothing; payloads are self-delimiting by kind alone, so
 * that a reader skips columns that it does not know. The MVCC header (mvcc.h) is not part of this.
 *
 * Threads: pure functions, any thread.
 * Source:  protocol reference 1.5.2.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/bytes.h"
#include "node/base/codec.h"
#include "node/base/ids.h"
#include "node/base/status.h"

enum key_row_kind {
    KEY_ROW_FALSE = 0,
    KEY_ROW_TRUE = 1,
    KEY_ROW_INT = 2,      /* zigzag varint: every integer-like type */
    KEY_ROW_FLOAT = 3,    /* be64 of the bits, exact */
    KEY_ROW_BYTES = 4,    /* varint length, bytes: text, bytea, and what the type encodes itself */
    KEY_ROW_UUID = 5,     /* 16 bytes */
    KEY_ROW_INTERVAL = 6, /* zigzag months, days, microseconds */
    KEY_ROW_TIMETZ = 7,   /* zigzag microseconds, zone */
    KEY_ROW_NUMERIC = 8,  /* varint length, bytes: the numeric type's own form, scale included */
    KEY_ROW_KIND_COUNT
};

struct key_row_interval {
    int32_t months;
    int32_t days;
    int64_t us;
};

struct key_row_timetz {
    int64_t us;
    int32_t zone_s;
};

struct key_row_column {
    uint32_t id; /* 1.. */
    enum key_row_kind kind;
    union {
        int64_t i;
        double f;
        struct bytes b; /* Borrowed. BYTES and NUMERIC. */
        struct uuid uuid;
        struct key_row_interval interval;
        struct key_row_timetz timetz;
    } v;
};

/* Appends to a buffer of the caller. */
struct key_row_enc {
    struct buf *buf;
    uint32_t last_id;
};

static inline void key_row_enc_init(struct key_row_enc *e, struct buf *b)
{
    *e = (struct key_row_enc){b, 0};
}

/* Ids must rise. Errors: STATUS_INVALID (id not above the last), STATUS_MEMORY. */
NOYIELD NODISCARD struct status key_row_put(struct key_row_enc *e, const struct key_row_column *c);

struct key_row_dec {
    struct reader r;
    uint32_t last_id;
};

static inline void key_row_dec_init(struct key_row_dec *d, struct bytes row)
{
    *d = (struct key_row_dec){reader_of(row), 0};
}

/* The next column, its bytes borrowed from the row. False at the end, or with d->r.bad
 * on damage. */
NOYIELD bool key_row_next(struct key_row_dec *d, struct key_row_column *out);
