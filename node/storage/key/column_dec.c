/*
 * column_dec.c -- values out of keys.
 *
 * Keys come from disk and network: whatever the encoders would not have written (a number with
 * superfluous bytes, a second NaN, a digit above 99) is damage, so that decoding and encoding again
 * always gives the same bytes. A descending column is read through a mask that complements it.
 */
#include <math.h>

#include "node/storage/key/key_internal.h"

#define EXPONENT_MAX (1 << 24) /* Of 100; PostgreSQL's numerics stay far below. */

struct tag_kind {
    uint8_t first;
    uint8_t last;
    enum key_kind kind;
};

static const struct tag_kind tag_kinds[] = {
    {TAG_FALSE, TAG_TRUE, KEY_KIND_BOOL},
    {TAG_INT_NEG - 8, TAG_INT_POS + 8, KEY_KIND_INT},
    {TAG_FLOAT, TAG_FLOAT, KEY_KIND_FLOAT},
    {TAG_NUM_NEG_INF, TAG_NUM_NAN, KEY_KIND_NUMERIC},
    {TAG_TEXT, TAG_TEXT, KEY_KIND_TEXT},
    {TAG_BYTEA, TAG_BYTEA, KEY_KIND_BYTEA},
    {TAG_COLLATED, TAG_COLLATED, KEY_KIND_COLLATED},
    {TAG_SORT_KEY, TAG_SORT_KEY, KEY_KIND_SORT_KEY},
    {TAG_UUID, TAG_UUID, KEY_KIND_UUID},
    {TAG_INET, TAG_INET, KEY_KIND_INET},
    {TAG_INTERVAL, TAG_INTERVAL, KEY_KIND_INTERVAL},
    {TAG_TIMETZ, TAG_TIMETZ, KEY_KIND_TIMETZ},
    {TAG_ENUM, TAG_ENUM, KEY_KIND_ENUM},
    {TAG_ARRAY, TAG_ARRAY, KEY_KIND_ARRAY},
};

static enum key_kind kind_of(uint8_t ascending_tag)
{
    for (size_t i = 0; i < ARRAY_COUNT(tag_kinds); i++) {
        if (ascending_tag >= tag_kinds[i].first && ascending_tag <= tag_kinds[i].last) {
            return tag_kinds[i].kind;
        }
    }
    return KEY_KIND_BAD;
}

/* The mask that a column's own tag asks for. */
static uint8_t mask_of(uint8_t tag)
{
    return tag > TAG_MAX ? 0xFF : 0x00;
}

enum key_kind key_dec_peek(const struct reader *r)
{
    uint8_t tag = 0;

    if (r->bad || r->rest.len == 0) {
        return KEY_KIND_BAD;
    }
    tag = r->rest.ptr[0];
    if (tag == TAG_NULL_LOW || tag == TAG_NULL_HIGH) {
        return KEY_KIND_NULL;
    }
    return kind_of(tag ^ mask_of(tag));
}

bool key_dec_null(struct reader *r)
{
    return key_dec_peek(r) == KEY_KIND_NULL && read_u8(r) != 0;
}

bool key_dec_bool(struct reader *r, enum key_order o)
{
    const uint8_t tag = key__read(r, key__mask(o));

    r->bad = r->bad || (tag != TAG_FALSE && tag != TAG_TRUE);
    return !r->bad && tag == TAG_TRUE;
}

static int64_t read_int(struct reader *r, uint8_t mask)
{
    const uint8_t tag = key__read(r, mask);
    const bool negative = tag <= TAG_INT_NEG;
    const unsigned n = (unsigned)(negative ? TAG_INT_NEG - tag : tag - TAG_INT_POS);
    uint64_t u = 0;

    if (r->bad || tag < TAG_INT_NEG - 8 || tag > TAG_INT_POS + 8) {
        r->bad = true;
        return 0;
    }
    u = key__read_be(r, mask, n);
    if (negative && n < 8) {
        u |= UINT64_MAX << (8 * n);
    }
    /* Of the right sign, and no shorter form. */
    r->bad = r->bad || (u >> 63 != 0) != negative || key__bytes_of(negative ? ~u : u) != n;
    return r->bad ? 0 : (int64_t)u;
}

int64_t key_dec_int(struct reader *r, enum key_order o)
{
    return read_int(r, key__mask(o));
}

double key_dec_float(struct reader *r, enum key_order o)
{
    const uint64_t sign = (uint64_t)1 << 63;
    const uint8_t mask = key__mask(o);
    const double nan_value = (double)NAN;
    uint64_t nan_bits = 0;
    uint64_t bits = 0;
    double v = 0;

    r->bad = r->bad || key__read(r, mask) != TAG_FLOAT;
    bits = key__read_be(r, mask, 8);
    bits = (bits & sign) != 0 ? bits ^ sign : ~bits;
    memcpy(&v, &bits, sizeof(v));
    memcpy(&nan_bits, &nan_value, sizeof(nan_bits));
    r->bad = r->bad || bits == sign || (isnan(v) && bits != (nan_bits & ~sign));
    return r->bad ? 0 : v;
}

/* ---- numeric --------------------------------------------------------------------------------- */

static int64_t read_exponent(struct reader *r, uint8_t mask)
{
    const uint8_t first = key__read(r, mask);
    uint64_t u = 0;
    unsigned n = 0;
    bool good = !r->bad;

    if (first >= UVAR_ZERO && first <= UVAR_ZERO + UVAR_SMALL_MAX) {
        return (int64_t)(first - UVAR_ZERO) - SVAR_BIAS;
    }
    if (first > UVAR_BYTES && first <= UVAR_BYTES + 4) {
        n = (unsigned)(first - UVAR_BYTES);
        u = key__read_be(r, mask, n);
        good = good && u > UVAR_SMALL_MAX && key__bytes_of(u) == n && u < EXPONENT_MAX;
        r->bad = r->bad || !good;
        return r->bad ? 0 : (int64_t)u - SVAR_BIAS;
    }
    if (first < SVAR_BYTES && first >= SVAR_BYTES - 4) {
        n = (unsigned)(SVAR_BYTES - first);
        u = key__read_be(r, (uint8_t)~mask, n);
        good = good && (u == 0 ? n == 1 : key__bytes_of(u) == n) && u < EXPONENT_MAX;
        r->bad = r->bad || !good;
        return r->bad ? 0 : -1 - (int64_t)u - SVAR_BIAS;
    }
    r->bad = true;
    return 0;
}

/* Number of digit bytes, the even one included; 0 when there is no end. */
static size_t digits_extent(const struct reader *r, uint8_t mask)
{
    for (size_t i = 0; i < r->rest.len; i++) {
        if (((r->rest.ptr[i] ^ mask) & 1) == 0) {
            return i + 1;
        }
    }
    return 0;
}

/* Base-100 digits from position `skew` of a base-10000 number; false on a digit that is none. */
static bool gather_digits(struct bytes raw, uint8_t mask, unsigned skew, uint16_t *digits)
{
    for (size_t k = 0; k < raw.len; k++) {
        const uint8_t d = (uint8_t)((raw.ptr[k] ^ mask) >> 1);
        const bool edge = k == 0 || k + 1 == raw.len;

        if (d > 99 || (edge && d == 0)) {
            return false;
        }
        digits[(k + skew) / 2] =
            (uint16_t)(digits[(k + skew) / 2] + ((k + skew) % 2 == 0 ? d * 100 : d));
    }
    return true;
}

static void read_magnitude(struct reader *r, uint8_t mask, struct arena *arena,
                           struct key_numeric *out)
{
    const int64_t exponent = read_exponent(r, mask);
    const size_t n = r->bad ? 0 : digits_extent(r, mask);
    /* ceil(exponent / 2) - 1, and whether the first digit is the low half of its base-10000 one. */
    const int64_t weight = ((exponent + 1) >> 1) - 1;
    const unsigned skew = (unsigned)(2 * (weight + 1) - exponent);
    uint16_t *digits = NULL;

    if (n == 0) {
        r->bad = true;
        return;
    }
    out->count = (uint32_t)((n + skew + 1) / 2);
    out->weight = (int32_t)weight;
    digits = ARENA_ARRAY(arena, uint16_t, out->count);
    if (digits == NULL || !gather_digits(read_bytes(r, n), mask, skew, digits)) {
        r->bad = true;
        out->count = 0;
        return;
    }
    out->digits = digits;
}

struct key_numeric key_dec_numeric(struct reader *r, enum key_order o, struct arena *arena)
{
    const uint8_t mask = key__mask(o);
    struct key_numeric v = {.class = KEY_NUMERIC_FINITE};

    switch (key__read(r, mask)) {
    case TAG_NUM_NEG_INF:
        v.class = KEY_NUMERIC_NEG_INF;
        break;
    case TAG_NUM_POS_INF:
        v.class = KEY_NUMERIC_POS_INF;
        break;
    case TAG_NUM_NAN:
        v.class = KEY_NUMERIC_NAN;
        break;
    case TAG_NUM_ZERO:
        break;
    case TAG_NUM_NEG:
        v.negative = true;
        read_magnitude(r, (uint8_t)~mask, arena, &v);
        break;
    case TAG_NUM_POS:
        read_magnitude(r, mask, arena, &v);
        break;
    default:
        r->bad = true;
        break;
    }
    return v;
}

/* ---- the others ------------------------------------------------------------------------------ */

struct bytes key_dec_bytes(struct reader *r, enum key_order o, struct arena *arena)
{
    const uint8_t mask = key__mask(o);

    switch (key__read(r, mask)) {
    case TAG_TEXT:
    case TAG_BYTEA:
    case TAG_SORT_KEY:
    case TAG_ENUM:
        return key__read_escaped(r, mask, arena);
    case TAG_COLLATED:
        (void)key__read_escaped(r, mask, NULL); /* The sort key; damage leaves r->bad. */
        return key__read_escaped(r, mask, arena);
    default:
        r->bad = true;
        return BYTES_EMPTY;
    }
}

static void read_masked(struct reader *r, uint8_t mask, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = key__read(r, mask);
    }
}

struct uuid key_dec_uuid(struct reader *r, enum key_order o)
{
    const uint8_t mask = key__mask(o);
    struct uuid v = {{0}};

    r->bad = key__read(r, mask) != TAG_UUID || r->bad;
    read_masked(r, mask, v.b, sizeof(v.b));
    return v;
}

void key_dec_inet(struct reader *r, enum key_order o, int *family, uint8_t addr[16],
                  uint8_t *prefix_len)
{
    const uint8_t mask = key__mask(o);
    uint8_t masked[16];

    r->bad = key__read(r, mask) != TAG_INET || r->bad;
    *family = key__read(r, mask);
    read_masked(r, mask, masked, sizeof(masked));
    *prefix_len = key__read(r, mask);
    read_masked(r, mask, addr, 16);
    r->bad = r->bad || (*family != 4 && *family != 6) || *prefix_len > (*family == 4 ? 32 : 128);
    /* The masked address follows from the others; the encoder is the judge of that. */
    if (!r->bad) {
        uint8_t again[35];
        struct key_enc e;

        key_enc_init(&e, again, sizeof(again));
        key_enc_inet(&e, KEY_ASC, *family, addr, *prefix_len);
        r->bad = memcmp(again + 2, masked, sizeof(masked)) != 0 ||
                 (*family == 4 && memcmp(again + 23, addr + 4, 12) != 0);
    }
}

void key_dec_timetz(struct reader *r, enum key_order o, int64_t *us, int32_t *zone_s)
{
    const uint8_t mask = key__mask(o);
    int64_t utc = 0;
    int64_t zone = 0;

    r->bad = key__read(r, mask) != TAG_TIMETZ || r->bad;
    utc = read_int(r, mask);
    zone = read_int(r, mask);
    r->bad = r->bad || zone < INT32_MIN || zone > INT32_MAX ||
             __builtin_sub_overflow(utc, zone * 1000000, us);
    *zone_s = r->bad ? 0 : (int32_t)zone;
    *us = r->bad ? 0 : *us;
}

void key_dec_interval(struct reader *r, enum key_order o, int64_t *hi, uint64_t *lo)
{
    const uint8_t mask = key__mask(o);

    r->bad = key__read(r, mask) != TAG_INTERVAL || r->bad;
    *hi = (int64_t)(key__read_be(r, mask, 8) ^ ((uint64_t)1 << 63));
    *lo = key__read_be(r, mask, 8);
}

/* ---- skipping -------------------------------------------------------------------------------- */

static void skip_value(struct reader *r, uint8_t mask, enum key_kind kind)
{
    const enum key_order o = mask == 0 ? KEY_ASC : KEY_DESC;
    const size_t fixed[] = {[KEY_KIND_BOOL] = 1,
                            [KEY_KIND_FLOAT] = 9,
                            [KEY_KIND_UUID] = 17,
                            [KEY_KIND_INET] = 35,
                            [KEY_KIND_INTERVAL] = 17};
    uint8_t tag = 0;

    if ((size_t)kind < ARRAY_COUNT(fixed) && fixed[kind] > 0) {
        (void)read_bytes(r, fixed[kind]); /* A short key leaves r->bad. */
        return;
    }
    if (kind == KEY_KIND_INT) {
        (void)key_dec_int(r, o);
        return;
    }
    tag = key__read(r, mask);
    if (kind == KEY_KIND_TIMETZ) {
        (void)read_int(r, mask);
        (void)read_int(r, mask);
    } else if (kind == KEY_KIND_NUMERIC) {
        if (tag == TAG_NUM_NEG || tag == TAG_NUM_POS) {
            const uint8_t m = tag == TAG_NUM_NEG ? (uint8_t)~mask : mask;
            size_t n = 0;

            (void)read_exponent(r, m);
            n = digits_extent(r, m);
            r->bad = r->bad || n == 0;
            (void)read_bytes(r, n);
        }
    } else {
        (void)key__read_escaped(r, mask, NULL);
        if (kind == KEY_KIND_COLLATED) {
            (void)key__read_escaped(r, mask, NULL);
        }
    }
}

/* The mask is that of the outermost column: a descending array complements its elements too. */
static void skip_column(struct reader *r, uint8_t mask, int depth)
{
    enum key_kind kind = KEY_KIND_BAD;

    if (r->bad || r->rest.len == 0 || depth > KEY_NESTING_MAX) {
        r->bad = true;
        return;
    }
    kind = kind_of(r->rest.ptr[0] ^ mask);
    if (kind == KEY_KIND_BAD) {
        r->bad = true;
        return;
    }
    if (kind != KEY_KIND_ARRAY) {
        skip_value(r, mask, kind);
        return;
    }
    (void)read_u8(r);
    for (;;) {
        const uint8_t next = key__read(r, mask);

        if (r->bad || next == ARRAY_END) {
            return;
        }
        if (next == ARRAY_ELEM) {
            skip_column(r, mask, depth + 1);
        } else if (next != ARRAY_NULL) {
            r->bad = true;
        }
    }
}

bool key_dec_skip(struct reader *r)
{
    if (!key_dec_null(r)) {
        skip_column(r, r->rest.len == 0 ? 0 : mask_of(r->rest.ptr[0]), 0);
    }
    return !r->bad;
}
