/*
 * type_io.c -- which form of which type; strings and booleans.
 *
 * One switch per direction. Numbers are in number.c, times in timestamp.c. Every text that becomes a
 * string is checked for UTF-8 here, once: behind this line all strings are well-formed and hold no NUL.
 */
#include "node/sql/types/type_io.h"

#include <stdio.h>
#include <string.h>

#include "node/base/codec.h"

#define NAME_BYTES_MAX 63u

/* Bytes of the sequence that starts with b, 0 when none does. */
static size_t utf8_width(uint8_t b)
{
    if (b < 0x80) {
        return b == 0 ? 0 : 1;
    }
    if (b >= 0xC2 && b <= 0xDF) {
        return 2;
    }
    if ((b & 0xF0) == 0xE0) {
        return 3;
    }
    return b >= 0xF0 && b <= 0xF4 ? 4 : 0;
}

static bool utf8_tail_ok(const uint8_t *p, size_t width)
{
    for (size_t i = 1; i < width; i++) {
        if ((p[i] & 0xC0) != 0x80) {
            return false;
        }
    }
    switch (p[0]) { /* Overlong forms, surrogates, beyond U+10FFFF. */
    case 0xE0:
        return p[1] >= 0xA0;
    case 0xED:
        return p[1] <= 0x9F;
    case 0xF0:
        return p[1] >= 0x90;
    case 0xF4:
        return p[1] <= 0x8F;
    default:
        return true;
    }
}

size_t utf8_check(struct bytes s)
{
    size_t i = 0;

    while (i < s.len) {
        const uint8_t *p = s.ptr + i;

        if (p[0] - 1u < 0x7Fu) { /* Plain ASCII but NUL. */
            i++;
            continue;
        }
        const size_t width = utf8_width(p[0]);
        if (width == 0 || width > s.len - i || !utf8_tail_ok(p, width)) {
            return i;
        }
        i += width;
    }
    return s.len;
}

size_t utf8_length(struct bytes s)
{
    size_t n = 0;

    for (size_t i = 0; i < s.len; i++) {
        n += (s.ptr[i] & 0xC0) != 0x80;
    }
    return n;
}

size_t utf8_offset(struct bytes s, size_t chars)
{
    size_t i = 0;

    while (i < s.len && chars > 0) {
        i++;
        while (i < s.len && (s.ptr[i] & 0xC0) == 0x80) {
            i++;
        }
        chars--;
    }
    return i;
}

struct status type_check_utf8(const struct type_io *io, struct bytes s)
{
    const size_t bad = utf8_check(s);
    char hex[32];
    size_t at = 0;
    size_t width = 0;

    if (bad == s.len) {
        return OK;
    }
    /* PostgreSQL prints as many bytes as the first one promises, as far as there are any. */
    width = s.ptr[bad] >= 0xF0 ? 4 : s.ptr[bad] >= 0xE0 ? 3 : s.ptr[bad] >= 0xC0 ? 2 : 1;
    for (size_t i = 0; i < width && bad + i < s.len; i++) {
        at += (size_t)snprintf(hex + at, sizeof(hex) - at, "%s0x%02x", i == 0 ? "" : " ",
                               s.ptr[bad + i]);
    }
    return sql_error_set(io->err, io->arena, "22021", io->position,
                         "invalid byte sequence for encoding \"UTF8\": %s", hex);
}

struct status type_varchar_fit(const struct type_io *io, int32_t typmod, bool explicit_cast,
                               struct bytes in, struct bytes *out)
{
    size_t keep = 0;

    *out = in;
    if (typmod < 4 || in.len <= (size_t)(typmod - 4)) {
        return OK;
    }
    keep = utf8_offset(in, (size_t)(typmod - 4));
    out->len = keep;
    for (size_t i = keep; i < in.len && !explicit_cast; i++) {
        if (in.ptr[i] != ' ') {
            return sql_error_set(io->err, io->arena, "22001", -1,
                                 "value too long for type character varying(%d)",
                                 (int)(typmod - 4));
        }
    }
    return OK;
}

static struct status string_in(const struct type_io *io, oid type, int32_t typmod,
                               struct bytes text, struct bytes *out)
{
    TRY(type_check_utf8(io, text));
    *out = text;
    if (type == TYPE_VARCHAR) {
        return type_varchar_fit(io, typmod, false, text, out);
    }
    if (type == TYPE_NAME && text.len > NAME_BYTES_MAX) {
        out->len = NAME_BYTES_MAX;
        while (out->len > 0 && (text.ptr[out->len] & 0xC0) == 0x80) {
            out->len--; /* Never within a character. */
        }
    }
    return OK;
}

static struct status unsupported_type(const struct type_io *io, oid type)
{
    return sql_error_unsupported(io->err, io->arena, io->position,
                                 arena_printf(io->arena, "type %s", type_sql_name(type)));
}

struct status type_in_text(const struct type_io *io, oid type, int32_t typmod, struct bytes text,
                           union datum *out)
{
    memset(out, 0, sizeof(*out));
    switch (type) {
    case TYPE_BOOL:
        return bool_in(io, text, &out->i64);
    case TYPE_INT2:
    case TYPE_INT4:
    case TYPE_INT8:
    case TYPE_OID:
        return int_in(io, type, text, &out->i64);
    case TYPE_FLOAT8:
        return float8_in(io, text, &out->f64);
    case TYPE_TIMESTAMPTZ:
        return timestamptz_in(io, text, &out->i64);
    case TYPE_TEXT:
    case TYPE_VARCHAR:
    case TYPE_NAME:
    case TYPE_UNKNOWN:
        return string_in(io, type, typmod, text, &out->bytes);
    case TYPE_VOID:
        return OK;
    default:
        return unsupported_type(io, type);
    }
}

static struct status binary_size(const struct type_io *io, struct bytes data, size_t want)
{
    if (data.len < want) {
        return sql_error_set(io->err, io->arena, "08P01", -1, "insufficient data left in message");
    }
    if (data.len > want) {
        return sql_error_set(io->err, io->arena, "22P03", -1,
                             "incorrect binary data format in bind parameter");
    }
    return OK;
}

static struct status timestamptz_binary_in(const struct type_io *io, struct bytes data,
                                           int64_t *out)
{
    TRY(binary_size(io, data, 8));
    *out = (int64_t)be64_get(data.ptr);
    if (*out != TIMESTAMP_INFINITY && *out != TIMESTAMP_MINUS_INFINITY &&
        (*out < TIMESTAMP_MIN || *out >= TIMESTAMP_END)) {
        return sql_error_set(io->err, io->arena, "22008", -1, "timestamp out of range");
    }
    return OK;
}

static struct status float8_binary_in(const struct type_io *io, struct bytes data, double *out)
{
    uint64_t bits = 0;

    TRY(binary_size(io, data, 8));
    bits = be64_get(data.ptr);
    memcpy(out, &bits, sizeof(*out));
    return OK;
}

struct status type_in_binary(const struct type_io *io, oid type, int32_t typmod, struct bytes data,
                             union datum *out)
{
    memset(out, 0, sizeof(*out));
    switch (type) {
    case TYPE_BOOL:
        TRY(binary_size(io, data, 1));
        out->i64 = data.ptr[0] != 0;
        return OK;
    case TYPE_INT2:
        TRY(binary_size(io, data, 2));
        out->i64 = (int16_t)be16_get(data.ptr);
        return OK;
    case TYPE_INT4:
        TRY(binary_size(io, data, 4));
        out->i64 = (int32_t)be32_get(data.ptr);
        return OK;
    case TYPE_OID:
        TRY(binary_size(io, data, 4));
        out->i64 = be32_get(data.ptr);
        return OK;
    case TYPE_INT8:
        TRY(binary_size(io, data, 8));
        out->i64 = (int64_t)be64_get(data.ptr);
        return OK;
    case TYPE_FLOAT8:
        return float8_binary_in(io, data, &out->f64);
    case TYPE_TIMESTAMPTZ:
        return timestamptz_binary_in(io, data, &out->i64);
    case TYPE_TEXT:
    case TYPE_VARCHAR:
    case TYPE_NAME:
    case TYPE_UNKNOWN:
        return string_in(io, type, typmod, data, &out->bytes);
    case TYPE_VOID:
        return OK;
    default:
        return unsupported_type(io, type);
    }
}

struct bytes type_out_text(oid type, union datum d, const struct type_settings *s,
                           char scratch[TYPE_OUT_SIZE])
{
    switch (type) {
    case TYPE_BOOL:
        return d.i64 != 0 ? BYTES_LIT("t") : BYTES_LIT("f");
    case TYPE_INT2:
    case TYPE_INT4:
    case TYPE_INT8:
    case TYPE_OID:
        return bytes_of(scratch, int64_text(d.i64, scratch));
    case TYPE_FLOAT8:
        return bytes_of(scratch, float8_text(d.f64, s->extra_float_digits, scratch));
    case TYPE_TIMESTAMPTZ:
        return bytes_of(scratch, timestamptz_text(d.i64, &s->zone, scratch));
    case TYPE_VOID:
        return BYTES_EMPTY;
    default:
        return d.bytes;
    }
}

struct bytes type_out_binary(oid type, union datum d, char scratch[TYPE_OUT_SIZE])
{
    uint8_t *p = (uint8_t *)scratch;
    uint64_t bits = 0;

    switch (type) {
    case TYPE_BOOL:
        p[0] = d.i64 != 0;
        return bytes_of(p, 1);
    case TYPE_INT2:
        be16_put(p, (uint16_t)d.i64);
        return bytes_of(p, 2);
    case TYPE_INT4:
    case TYPE_OID:
        be32_put(p, (uint32_t)d.i64);
        return bytes_of(p, 4);
    case TYPE_INT8:
    case TYPE_TIMESTAMPTZ:
        be64_put(p, (uint64_t)d.i64);
        return bytes_of(p, 8);
    case TYPE_FLOAT8:
        memcpy(&bits, &d.f64, sizeof(bits));
        be64_put(p, bits);
        return bytes_of(p, 8);
    case TYPE_VOID:
        return BYTES_EMPTY;
    default:
        return d.bytes;
    }
}
