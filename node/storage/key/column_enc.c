/*
 * column_enc.c -- SQL values as ordered bytes.
 *
 * Each column starts with a tag that tells its kind; within a kind memcmp order is PostgreSQL's
 * order. A descending column is the complement of the whole ascending one. Since no encoding is a
 * prefix of another of the same kind, complementing reverses the order exactly, and the tags of
 * both directions do not overlap (ascending up to 0x60, descending from 0x9F), so that a key tells
 * its directions.
 *
 * Where equal values may look different (-0 and 0, 1.0 and 1.00, one month and 30 days) the key
 * holds the class of equal values, and the row's value the datum itself.
 */
#include <math.h>

#include "node/base/invariant.h"
#include "node/storage/key/key_internal.h"

#define US_PER_DAY     INT64_C(86400000000)
#define DAYS_PER_MONTH 30
#define US_PER_SECOND  INT64_C(1000000)

void key_enc_null(struct key_enc *e, enum key_order o)
{
    /* Lowest or highest as the reader of the index sees it, so not complemented. */
    const bool first = o == KEY_DESC || o == KEY_ASC_NULLS_FIRST;

    key_enc_byte(e, first ? TAG_NULL_LOW : TAG_NULL_HIGH);
}

void key_enc_bool(struct key_enc *e, enum key_order o, bool v)
{
    key_enc_byte(e, (uint8_t)((v ? TAG_TRUE : TAG_FALSE) ^ key__mask(o)));
}

/* Ascending only. */
static void put_int(struct key_enc *e, int64_t v)
{
    const unsigned n = key__bytes_of((uint64_t)(v < 0 ? ~v : v));
    uint8_t *p = key__grow(e, 1 + n);

    if (p == NULL) {
        return;
    }
    /* More bytes mean farther from zero; the low bytes of a negative number already rise
     * with it. */
    p[0] = v < 0 ? (uint8_t)(TAG_INT_NEG - n) : (uint8_t)(TAG_INT_POS + n);
    for (unsigned i = 0; i < n; i++) {
        p[1 + i] = (uint8_t)((uint64_t)v >> (8 * (n - 1 - i)));
    }
}

void key_enc_int(struct key_enc *e, enum key_order o, int64_t v)
{
    const size_t mark = e->len;

    put_int(e, v);
    key__direct(e, o, mark);
}

void key_enc_float(struct key_enc *e, enum key_order o, double v)
{
    const uint64_t sign = (uint64_t)1 << 63;
    const size_t mark = e->len;
    uint8_t *p = key__grow(e, 9);
    uint64_t bits = 0;

    if (p == NULL) {
        return;
    }
    if (isnan(v)) {
        v = (double)NAN; /* One NaN: its bits sort above those of infinity. */
    } else if (v == 0) {
        v = 0; /* Also for -0. */
    }
    memcpy(&bits, &v, sizeof(bits));
    if (isnan(v)) {
        bits &= ~sign;
    }
    p[0] = TAG_FLOAT;
    be64_put(p + 1, (bits & sign) != 0 ? ~bits : bits ^ sign);
    key__direct(e, o, mark);
}

/* ---- numeric --------------------------------------------------------------------------------- */

/* Digit k in base 100 of digits in base 10000. */
static uint8_t digit100(const struct key_numeric *v, uint32_t k)
{
    const uint16_t d = v->digits[k / 2];

    return (uint8_t)(k % 2 == 0 ? d / 100 : d % 100);
}

/* Ordered exponent: one byte for -SVAR_BIAS..55, farther ones with their bytes, as uvar in both
 * directions. */
static void put_exponent(struct key_enc *e, int64_t exponent)
{
    const int64_t v = exponent + SVAR_BIAS;
    uint64_t u = 0;
    unsigned n = 0;

    if (v >= 0) {
        key_enc_uvar(e, (uint64_t)v);
        return;
    }
    u = (uint64_t)~v;
    n = u == 0 ? 1 : key__bytes_of(u);
    key_enc_byte(e, (uint8_t)(SVAR_BYTES - n));
    for (unsigned i = 0; i < n; i++) {
        key_enc_byte(e, (uint8_t) ~(u >> (8 * (n - 1 - i))));
    }
}

/* |v| = 0.d1 d2 .. dn * 100^E with d1 and dn not zero: digits [first, last] of base 100. */
static void put_magnitude(struct key_enc *e, const struct key_numeric *v, uint32_t first,
                          uint32_t last)
{
    uint8_t *p = NULL;

    put_exponent(e, 2 * ((int64_t)v->weight + 1) - first);
    p = key__grow(e, last - first + 1);
    if (p == NULL) {
        return;
    }
    /* Odd means that more digits follow; an even last digit is below all that continue it. */
    for (uint32_t k = first; k <= last; k++) {
        *p++ = (uint8_t)(2 * digit100(v, k) + (k == last ? 0 : 1));
    }
}

static void put_finite(struct key_enc *e, const struct key_numeric *v)
{
    uint32_t first = 0;
    uint32_t last = 2 * v->count;
    size_t mark = 0;

    while (first < 2 * v->count && digit100(v, first) == 0) {
        first++;
    }
    if (first == 2 * v->count) {
        key_enc_byte(e, TAG_NUM_ZERO);
        return;
    }
    for (last--; digit100(v, last) == 0; last--) {
    }
    key_enc_byte(e, v->negative ? TAG_NUM_NEG : TAG_NUM_POS);
    mark = e->len;
    put_magnitude(e, v, first, last);
    key__direct(e, v->negative ? KEY_DESC : KEY_ASC, mark);
}

void key_enc_numeric(struct key_enc *e, enum key_order o, const struct key_numeric *v)
{
    const size_t mark = e->len;

    switch (v->class) {
    case KEY_NUMERIC_FINITE:
        put_finite(e, v);
        break;
    case KEY_NUMERIC_NEG_INF:
        key_enc_byte(e, TAG_NUM_NEG_INF);
        break;
    case KEY_NUMERIC_POS_INF:
        key_enc_byte(e, TAG_NUM_POS_INF);
        break;
    case KEY_NUMERIC_NAN:
        key_enc_byte(e, TAG_NUM_NAN);
        break;
    }
    key__direct(e, o, mark);
}

/* ---- strings --------------------------------------------------------------------------------- */

static void put_string(struct key_enc *e, enum key_order o, uint8_t tag, struct bytes v)
{
    const size_t mark = e->len;

    key_enc_byte(e, tag);
    key_enc_escaped(e, v);
    key__direct(e, o, mark);
}

void key_enc_text(struct key_enc *e, enum key_order o, struct bytes v)
{
    put_string(e, o, TAG_TEXT, v);
}

void key_enc_bytea(struct key_enc *e, enum key_order o, struct bytes v)
{
    put_string(e, o, TAG_BYTEA, v);
}

void key_enc_collated(struct key_enc *e, enum key_order o, struct bytes sort_key, struct bytes text)
{
    const size_t mark = e->len;

    key_enc_byte(e, TAG_COLLATED);
    key_enc_escaped(e, sort_key);
    key_enc_escaped(e, text);
    key__direct(e, o, mark);
}

void key_enc_sort_key(struct key_enc *e, enum key_order o, struct bytes sort_key)
{
    put_string(e, o, TAG_SORT_KEY, sort_key);
}

void key_enc_enum(struct key_enc *e, enum key_order o, struct bytes order_string)
{
    put_string(e, o, TAG_ENUM, order_string);
}

struct bytes key_strip_blanks(struct bytes text)
{
    while (text.len > 0 && text.ptr[text.len - 1] == ' ') {
        text.len--;
    }
    return text;
}

/* ---- fixed sizes ----------------------------------------------------------------------------- */

void key_enc_uuid(struct key_enc *e, enum key_order o, struct uuid v)
{
    const size_t mark = e->len;

    key_enc_byte(e, TAG_UUID);
    key_enc_raw(e, bytes_of(v.b, sizeof(v.b)));
    key__direct(e, o, mark);
}

/*
 * PostgreSQL compares the common prefix of two networks, then the prefix lengths, then the whole
 * addresses. An address masked to its own length is at most as large as one that agrees with it so
 * far, hence: family, masked address, length, full address.
 */
void key_enc_inet(struct key_enc *e, enum key_order o, int family, const uint8_t *addr,
                  uint8_t prefix_len)
{
    const size_t addr_len = family == 4 ? 4 : 16;
    const size_t mark = e->len;
    uint8_t full[16] = {0};
    uint8_t masked[16] = {0};

    INVARIANT(family == 4 || family == 6);
    INVARIANT(prefix_len <= 8 * addr_len);
    memcpy(full, addr, addr_len);
    for (size_t i = 0; i < addr_len; i++) {
        const int bits = (int)prefix_len - (int)(8 * i);
        const unsigned keep = bits >= 8 ? 0xFFu : (bits <= 0 ? 0 : 0xFFu << (8 - bits));

        masked[i] = (uint8_t)(full[i] & keep);
    }
    key_enc_byte(e, TAG_INET);
    key_enc_byte(e, (uint8_t)family);
    key_enc_raw(e, bytes_of(masked, sizeof(masked)));
    key_enc_byte(e, prefix_len);
    key_enc_raw(e, bytes_of(full, sizeof(full)));
    key__direct(e, o, mark);
}

void key_enc_interval(struct key_enc *e, enum key_order o, int32_t months, int32_t days, int64_t us)
{
    const __int128 all_days = (__int128)months * DAYS_PER_MONTH + days;
    const __int128 total = all_days * US_PER_DAY + us;
    const unsigned __int128 biased = (unsigned __int128)total + ((unsigned __int128)1 << 127);
    const size_t mark = e->len;
    uint8_t *p = key__grow(e, 17);

    if (p == NULL) {
        return;
    }
    p[0] = TAG_INTERVAL;
    be64_put(p + 1, (uint64_t)(biased >> 64));
    be64_put(p + 9, (uint64_t)biased);
    key__direct(e, o, mark);
}

void key_enc_timetz(struct key_enc *e, enum key_order o, int64_t us, int32_t zone_s)
{
    const size_t mark = e->len;

    key_enc_byte(e, TAG_TIMETZ);
    put_int(e, us + zone_s * US_PER_SECOND);
    put_int(e, zone_s);
    key__direct(e, o, mark);
}

/* ---- arrays ---------------------------------------------------------------------------------- */

size_t key_enc_array_begin(struct key_enc *e)
{
    const size_t mark = e->len;

    key_enc_byte(e, TAG_ARRAY);
    return mark;
}

void key_enc_array_elem(struct key_enc *e)
{
    key_enc_byte(e, ARRAY_ELEM);
}

void key_enc_array_null(struct key_enc *e)
{
    key_enc_byte(e, ARRAY_NULL);
}

void key_enc_array_end(struct key_enc *e, enum key_order o, size_t mark)
{
    key_enc_byte(e, ARRAY_END);
    key__direct(e, o, mark);
}
