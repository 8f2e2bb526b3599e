/*
 * wire_out.h -- messages to the client, appended to a buffer.
 *
 * Failures are sticky (`failed`: the buffer is at its limit) and asked once, before the buffer is
 * sent. A message is either whole in the buffer or not at all.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/bytes.h"
#include "node/base/codec.h"
#include "node/sql/session/error.h"
#include "node/sql/session/sink.h"
#include "node/sql/types/type_io.h"

struct wire_out {
    struct buf buf;
    size_t message; /* Where the message under construction starts. */
    bool failed;
};

#define WIRE_OUT_MAX ((size_t)64 << 20)

NOYIELD void wire_out_init(struct wire_out *o);
NOYIELD void wire_out_deinit(struct wire_out *o);

/* A message of any type: begin, put..., end. */
NOYIELD void wire_out_begin(struct wire_out *o, char type);
NOYIELD void wire_out_u8(struct wire_out *o, uint8_t v);
NOYIELD void wire_out_u16(struct wire_out *o, uint16_t v);
NOYIELD void wire_out_u32(struct wire_out *o, uint32_t v);
NOYIELD void wire_out_bytes(struct wire_out *o, struct bytes b);
NOYIELD void wire_out_cstring(struct wire_out *o, const char *s);
NOYIELD void wire_out_end(struct wire_out *o);

/* Messages without a body: '1', '2', '3', 'n', 's', 'I'. */
NOYIELD void wire_out_empty(struct wire_out *o, char type);
NOYIELD void wire_out_ready(struct wire_out *o, char txn_state);
NOYIELD void wire_out_parameter(struct wire_out *o, const char *name, const char *value);
NOYIELD void wire_out_command(struct wire_out *o, const char *tag);
NOYIELD void wire_out_params(struct wire_out *o, const oid *types, uint16_t count);
/* formats: 0, 1 or one per column. */
NOYIELD void wire_out_row_description(struct wire_out *o, const struct row_desc *d,
                                      const int16_t *formats, uint16_t formats_count);

/* How one column of a row is written. */
struct wire_column {
    oid type;
    int16_t format; /* 0 text, 1 binary. */
};

struct wire_row_format {
    const struct wire_column *columns;
    uint16_t count;
    const struct type_settings *settings;
};
/* Row number `row` of the block as a DataRow. */
NOYIELD void wire_out_row(struct wire_out *o, const struct wire_row_format *f,
                          const struct row_block *block, uint32_t row);

/* The format of a column where Bind gave none, one for all, or one each. */
static inline int16_t wire_format_of(const int16_t *formats, uint16_t count, uint16_t column)
{
    if (count == 0) {
        return 0;
    }
    return formats[count == 1 ? 0 : column];
}

/* 'E' or 'N' by severity. `text`: what position counts in, empty when unknown. */
NOYIELD void wire_out_error(struct wire_out *o, const struct sql_error *err, struct bytes text);
