/*
 * wire_out.c -- see wire_out.h.
 *
 * The length of a message is written when it ends. If the buffer could not grow in between, the
 * message is cut off again, so that a client never sees half of one: it sees the error that follows
 * from `failed`, or the end of the connection.
 *
 * Rows are the hot path: one reservation for the fixed part of a value, the codecs write into a
 * scratch area on the stack or point into the datum, one copy, no allocation in a warm buffer.
 */
#include "node/pgwire/wire_out.h"

#include <stdio.h>

void wire_out_init(struct wire_out *o)
{
    *o = (struct wire_out){0};
    buf_init(&o->buf, WIRE_OUT_MAX);
}

void wire_out_deinit(struct wire_out *o)
{
    buf_deinit(&o->buf);
}

void wire_out_bytes(struct wire_out *o, struct bytes b)
{
    if (!o->failed && !status_ok(buf_append_bytes(&o->buf, b))) {
        o->failed = true;
    }
}

void wire_out_u8(struct wire_out *o, uint8_t v)
{
    wire_out_bytes(o, bytes_of(&v, 1));
}

void wire_out_u16(struct wire_out *o, uint16_t v)
{
    uint8_t b[2];

    be16_put(b, v);
    wire_out_bytes(o, bytes_of(b, sizeof(b)));
}

void wire_out_u32(struct wire_out *o, uint32_t v)
{
    uint8_t b[4];

    be32_put(b, v);
    wire_out_bytes(o, bytes_of(b, sizeof(b)));
}

void wire_out_cstring(struct wire_out *o, const char *s)
{
    wire_out_bytes(o, bytes_of(s, strlen(s) + 1));
}

void wire_out_begin(struct wire_out *o, char type)
{
    o->message = o->buf.len;
    wire_out_u8(o, (uint8_t)type);
    wire_out_u32(o, 0);
}

void wire_out_end(struct wire_out *o)
{
    if (o->failed) {
        o->buf.len = o->message;
        return;
    }
    be32_put(o->buf.ptr + o->message + 1, (uint32_t)(o->buf.len - o->message - 1));
}

void wire_out_empty(struct wire_out *o, char type)
{
    wire_out_begin(o, type);
    wire_out_end(o);
}

void wire_out_ready(struct wire_out *o, char txn_state)
{
    wire_out_begin(o, 'Z');
    wire_out_u8(o, (uint8_t)txn_state);
    wire_out_end(o);
}

void wire_out_parameter(struct wire_out *o, const char *name, const char *value)
{
    wire_out_begin(o, 'S');
    wire_out_cstring(o, name);
    wire_out_cstring(o, value);
    wire_out_end(o);
}

void wire_out_command(struct wire_out *o, const char *tag)
{
    wire_out_begin(o, 'C');
    wire_out_cstring(o, tag);
    wire_out_end(o);
}

void wire_out_params(struct wire_out *o, const oid *types, uint16_t count)
{
    wire_out_begin(o, 't');
    wire_out_u16(o, count);
    for (uint16_t i = 0; i < count; i++) {
        wire_out_u32(o, types[i]);
    }
    wire_out_end(o);
}

void wire_out_row_description(struct wire_out *o, const struct row_desc *d, const int16_t *formats,
                              uint16_t formats_count)
{
    wire_out_begin(o, 'T');
    wire_out_u16(o, d->count);
    for (uint16_t i = 0; i < d->count; i++) {
        const struct row_column *c = &d->columns[i];

        wire_out_cstring(o, c->name);
        wire_out_u32(o, c->table);
        wire_out_u16(o, (uint16_t)c->attnum);
        wire_out_u32(o, c->type);
        wire_out_u16(o, (uint16_t)c->typlen);
        wire_out_u32(o, (uint32_t)c->typmod);
        wire_out_u16(o, (uint16_t)wire_format_of(formats, formats_count, i));
    }
    wire_out_end(o);
}

static void put_value(struct wire_out *o, struct bytes v)
{
    uint8_t *at = NULL;

    if (o->failed || !status_ok(buf_reserve(&o->buf, v.len + 4))) {
        o->failed = true;
        return;
    }
    at = o->buf.ptr + o->buf.len;
    be32_put(at, (uint32_t)v.len);
    if (v.len > 0) {
        memcpy(at + 4, v.ptr, v.len);
    }
    o->buf.len += v.len + 4;
}

void wire_out_row(struct wire_out *o, const struct wire_row_format *f,
                  const struct row_block *block, uint32_t row)
{
    const size_t base = (size_t)row * f->count;
    char scratch[TYPE_OUT_SIZE];

    wire_out_begin(o, 'D');
    wire_out_u16(o, f->count);
    for (uint16_t i = 0; i < f->count; i++) {
        const struct wire_column c = f->columns[i];
        const union datum d = block->values[base + i];

        if (block->nulls[base + i] != 0) {
            wire_out_u32(o, UINT32_MAX);
        } else if (c.format == 0) {
            put_value(o, type_out_text(c.type, d, f->settings, scratch));
        } else {
            put_value(o, type_out_binary(c.type, d, scratch));
        }
    }
    wire_out_end(o);
}

static const char *severity_text(enum sql_severity s)
{
    switch (s) {
    case SQL_ERROR:
        return "ERROR";
    case SQL_FATAL:
        return "FATAL";
    case SQL_WARNING:
        return "WARNING";
    case SQL_NOTICE:
        return "NOTICE";
    }
    return "ERROR";
}

static void field(struct wire_out *o, char code, const char *text)
{
    if (text != NULL) {
        wire_out_u8(o, (uint8_t)code);
        wire_out_cstring(o, text);
    }
}

/* Byte offset to character number, from 1: continuation bytes are no characters. */
static uint32_t character_position(struct bytes text, int32_t offset)
{
    uint32_t characters = 1;

    if ((size_t)offset > text.len) {
        return (uint32_t)offset + 1;
    }
    for (int32_t i = 0; i < offset; i++) {
        characters += (text.ptr[i] & 0xC0) != 0x80 ? 1 : 0;
    }
    return characters;
}

void wire_out_error(struct wire_out *o, const struct sql_error *err, struct bytes text)
{
    const bool note = err->severity == SQL_WARNING || err->severity == SQL_NOTICE;
    char number[12];

    wire_out_begin(o, note ? 'N' : 'E');
    field(o, 'S', severity_text(err->severity));
    field(o, 'V', severity_text(err->severity));
    field(o, 'C', err->sqlstate);
    field(o, 'M', err->message == NULL ? "unknown error" : err->message);
    field(o, 'D', err->detail);
    field(o, 'H', err->hint);
    if (err->position >= 0) {
        (void)snprintf(number, sizeof(number), "%u", character_position(text, err->position));
        field(o, 'P', number);
    }
    field(o, 's', err->schema);
    field(o, 't', err->table);
    field(o, 'c', err->column);
    field(o, 'd', err->type);
    field(o, 'n', err->constraint);
    field(o, 'R', err->routine);
    wire_out_u8(o, 0);
    wire_out_end(o);
}
