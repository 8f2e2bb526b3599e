/*
 * number.c -- integers, booleans and double precision as text.
 *
 * Reading follows PostgreSQL's own parsers: blanks around the number are skipped, digits that do not
 * fit are 22003, anything else that does not belong is 22P02 with the whole input quoted.
 *
 * Writing a double: the shortest decimal that reads back as the same bits. We try 15, 16 and 17
 * significant digits and take the first that survives strtod(). The n-digit decimal that printf()
 * rounds to is the one closest to the value, so this is what a Ryu printer gives too, but for
 * denormals, which we start at one digit. Fixed notation for exponents from -4 to 14, as PostgreSQL.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "node/sql/types/type_io.h"

/* Of decimal and hexadecimal numbers; strtod() reads both, and so does PostgreSQL. */
#define FLOAT_CHARACTERS "0123456789+-.abcdefxpABCDEFXP"
#define FLOAT_TEXT_MAX   400u /* Longest number that is tried: beyond, only zeros can matter. */

static bool is_blank(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct bytes trim(struct bytes s)
{
    while (s.len > 0 && is_blank(s.ptr[0])) {
        s = bytes_skip(s, 1);
    }
    while (s.len > 0 && is_blank(s.ptr[s.len - 1])) {
        s.len--;
    }
    return s;
}

static struct status bad_syntax(const struct type_io *io, oid type, struct bytes text)
{
    return sql_error_set(io->err, io->arena, "22P02", io->position,
                         "invalid input syntax for type %s: \"%.*s\"", type_sql_name(type),
                         (int)text.len, (const char *)text.ptr);
}

static struct status out_of_range(const struct type_io *io, oid type, struct bytes text)
{
    return sql_error_set(io->err, io->arena, "22003", io->position,
                         "value \"%.*s\" is out of range for type %s", (int)text.len,
                         (const char *)text.ptr, type_sql_name(type));
}

static bool int_fits(oid type, int64_t v)
{
    switch (type) {
    case TYPE_INT2:
        return v == (int16_t)v;
    case TYPE_INT4:
        return v == (int32_t)v;
    case TYPE_OID:
        /* strtoul() of a negative number wraps: PostgreSQL takes -1 for 4294967295. */
        return v >= INT32_MIN && v <= (int64_t)UINT32_MAX;
    default:
        return true;
    }
}

struct status int_in(const struct type_io *io, oid type, struct bytes text, int64_t *out)
{
    struct bytes s = trim(text);
    bool negative = false;
    bool overflow = false;
    int64_t v = 0;

    if (s.len > 0 && (s.ptr[0] == '-' || s.ptr[0] == '+')) {
        negative = s.ptr[0] == '-';
        s = bytes_skip(s, 1);
    }
    if (s.len == 0) {
        return bad_syntax(io, type, text);
    }
    for (size_t i = 0; i < s.len; i++) { /* Downwards, so that the least number fits. */
        if (s.ptr[i] < '0' || s.ptr[i] > '9') {
            return bad_syntax(io, type, text);
        }
        overflow = overflow || __builtin_mul_overflow(v, 10, &v) ||
                   __builtin_sub_overflow(v, s.ptr[i] - '0', &v);
    }
    overflow = overflow || (!negative && v == INT64_MIN);
    if (overflow || !int_fits(type, negative ? v : -v)) {
        return out_of_range(io, type, text);
    }
    v = negative ? v : -v;
    *out = type == TYPE_OID ? (int64_t)(uint32_t)v : v;
    return OK;
}

struct status bool_in(const struct type_io *io, struct bytes text, int64_t *out)
{
    static const struct {
        const char *word;
        size_t min; /* Letters needed to be unique. */
        bool value;
    } words[] = {{"true", 1, true}, {"false", 1, false}, {"yes", 1, true}, {"no", 1, false},
                 {"on", 2, true},   {"off", 2, false},   {"1", 1, true},   {"0", 1, false}};
    const struct bytes s = trim(text);

    for (size_t i = 0; i < ARRAY_COUNT(words); i++) {
        if (s.len >= words[i].min && s.len <= strlen(words[i].word) &&
            strncasecmp((const char *)s.ptr, words[i].word, s.len) == 0) {
            *out = words[i].value;
            return OK;
        }
    }
    return bad_syntax(io, TYPE_BOOL, text);
}

/* PostgreSQL takes these whatever the C library makes of them. */
static bool float_word(struct bytes s, double *out)
{
    static const struct {
        const char *word;
        double value;
    } words[] = {{"nan", NAN},       {"infinity", INFINITY}, {"+infinity", INFINITY},
                 {"inf", INFINITY},  {"+inf", INFINITY},     {"-infinity", -INFINITY},
                 {"-inf", -INFINITY}};

    for (size_t i = 0; i < ARRAY_COUNT(words); i++) {
        if (s.len == strlen(words[i].word) &&
            strncasecmp((const char *)s.ptr, words[i].word, s.len) == 0) {
            *out = words[i].value;
            return true;
        }
    }
    return false;
}

struct status float8_in(const struct type_io *io, struct bytes text, double *out)
{
    const struct bytes s = trim(text);
    char copy[FLOAT_TEXT_MAX + 1];
    char *end = NULL;

    if (float_word(s, out)) {
        return OK;
    }
    if (s.len == 0 || s.len > FLOAT_TEXT_MAX) {
        return bad_syntax(io, TYPE_FLOAT8, text);
    }
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == 0 || strchr(FLOAT_CHARACTERS, s.ptr[i]) == NULL) {
            return bad_syntax(io, TYPE_FLOAT8, text);
        }
    }
    memcpy(copy, s.ptr, s.len);
    copy[s.len] = '\0';
    errno = 0;
    *out = strtod(copy, &end);
    if (end != copy + s.len) {
        return bad_syntax(io, TYPE_FLOAT8, text);
    }
    if (errno == ERANGE && (*out == 0 || fabs(*out) >= HUGE_VAL)) {
        return sql_error_set(io->err, io->arena, "22003", io->position,
                             "\"%s\" is out of range for type double precision", copy);
    }
    return OK;
}

size_t int64_text(int64_t v, char *out)
{
    char tmp[20];
    size_t n = 0;
    size_t at = 0;
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;

    do {
        tmp[n++] = (char)('0' + u % 10);
        u /= 10;
    } while (u > 0);
    if (v < 0) {
        out[at++] = '-';
    }
    while (n > 0) {
        out[at++] = tmp[--n];
    }
    return at;
}

/* Digits (no point, no trailing zeros) and decimal exponent of v > 0; shortest that reads back. */
static size_t shortest_digits(double v, char digits[20], int *exponent)
{
    char text[40] = "";
    const char *e = NULL;
    size_t n = 0;

    for (int precision = v < 2.2250738585072014e-308 ? 1 : 15; precision <= 17; precision++) {
        (void)snprintf(text, sizeof(text), "%.*e", precision - 1, v);
        if (strtod(text, NULL) == v) {
            break;
        }
    }
    e = strchr(text, 'e');
    *exponent = e == NULL ? 0 : (int)strtol(e + 1, NULL, 10);
    for (const char *p = text; p != e && *p != '\0'; p++) {
        if (*p != '.') {
            digits[n++] = *p;
        }
    }
    while (n > 1 && digits[n - 1] == '0') {
        n--;
    }
    return n;
}

static size_t fixed_notation(const char *digits, size_t n, int exponent, char *out)
{
    size_t at = 0;

    if (exponent < 0) {
        out[at++] = '0';
        out[at++] = '.';
        for (int i = exponent + 1; i < 0; i++) {
            out[at++] = '0';
        }
        memcpy(out + at, digits, n);
        return at + n;
    }
    for (size_t i = 0; i < n || i <= (size_t)exponent; i++) {
        if (i == (size_t)exponent + 1) {
            out[at++] = '.';
        }
        out[at++] = i < n ? digits[i] : '0';
    }
    return at;
}

static size_t scientific_notation(const char *digits, size_t n, int exponent, char *out)
{
    size_t at = 0;

    out[at++] = digits[0];
    if (n > 1) {
        out[at++] = '.';
        memcpy(out + at, digits + 1, n - 1);
        at += n - 1;
    }
    return at + (size_t)snprintf(out + at, TYPE_OUT_SIZE - at, "e%c%02d", exponent < 0 ? '-' : '+',
                                 abs(exponent));
}

static size_t copy_word(char *out, const char *word)
{
    const size_t n = strlen(word);

    memcpy(out, word, n);
    return n;
}

size_t float8_text(double v, int32_t extra_float_digits, char out[TYPE_OUT_SIZE])
{
    char digits[20] = "0";
    int exponent = 0;
    size_t at = 0;
    size_t n = 0;

    if (isnan(v)) {
        return copy_word(out, "NaN");
    }
    if (isinf(v)) {
        return copy_word(out, v > 0 ? "Infinity" : "-Infinity");
    }
    if (extra_float_digits < 1) {
        const int precision = 15 + extra_float_digits < 1 ? 1 : 15 + extra_float_digits;

        return (size_t)snprintf(out, TYPE_OUT_SIZE, "%.*g", precision, v);
    }
    if (signbit(v)) {
        out[at++] = '-';
    }
    if (v == 0) {
        out[at++] = '0';
        return at;
    }
    n = shortest_digits(fabs(v), digits, &exponent);
    if (exponent < -4 || exponent >= 15) {
        return at + scientific_notation(digits, n, exponent, out + at);
    }
    return at + fixed_notation(digits, n, exponent, out + at);
}
