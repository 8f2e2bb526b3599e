/*
 * test_key.c -- the order of keys against PostgreSQL's order, written down here a second time.
 *
 * For each type a set of boundary and random values is encoded, and all pairs are compared: memcmp
 * of the keys must agree with the model's comparison in both directions, equal values must have
 * equal keys, and no key may be a prefix of another (rule PF).
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "node/base/hash.h"
#include "node/storage/key/key.h"
#include "tests/lib/test.h"

#define VALUES_MAX 160
#define KEY_ROOM   256
#define DIGITS_MAX 8
#define STRING_MAX 6

struct value {
    int64_t i;
    int64_t j;
    int64_t k;
    double f;
    struct key_numeric n;
    uint16_t digits[DIGITS_MAX];
    uint8_t s[16];
    size_t len;
    bool null;
};

struct type_case {
    const char *name;
    void (*make)(struct rng *r, struct value *v, size_t index);
    void (*enc)(struct key_enc *e, enum key_order o, const struct value *v);
    int (*cmp)(const struct value *a, const struct value *b);
    bool (*same)(struct reader *r, enum key_order o, struct arena *arena, const struct value *v);
    enum key_kind kind;
};

static int cmp_i64(int64_t a, int64_t b)
{
    return a < b ? -1 : a > b;
}

/* ---- int ------------------------------------------------------------------------------------- */

static int64_t edge_int(struct rng *r, size_t index)
{
    const int64_t base = index % 64 == 0 ? INT64_MIN : (int64_t)(UINT64_C(1) << (index % 63));

    switch (index / 64) {
    case 0:
        return base;
    case 1:
        return base == INT64_MIN ? INT64_MAX : base - 1;
    case 2:
        return base == INT64_MIN ? 0 : -base;
    default:
        return (int64_t)(rng_next(r) >> rng_below(r, 64));
    }
}

static void int_make(struct rng *r, struct value *v, size_t index)
{
    v->i = edge_int(r, index);
    if (rng_permille(r, 500)) {
        v->i = ~v->i;
    }
}

static void int_enc(struct key_enc *e, enum key_order o, const struct value *v)
{
    key_enc_int(e, o, v->i);
}

static int int_cmp(const struct value *a, const struct value *b)
{
    return cmp_i64(a->i, b->i);
}

static bool int_same(struct reader *r, enum key_order o, struct arena *arena, const struct value *v)
{
    UNUSED(arena);
    return key_dec_int(r, o) == v->i;
}

/* ---- bool ------------------------------------------------------------------------------------ */

static void bool_make(struct rng *r, struct value *v, size_t index)
{
    UNUSED(r);
    v->i = (int64_t)(index % 2);
}

static void bool_enc(struct key_enc *e, enum key_order o, const struct value *v)
{
    key_enc_bool(e, o, v->i != 0);
}

static bool bool_same(struct reader *r, enum key_order o, struct arena *arena,
                      const struct value *v)
{
    UNUSED(arena);
    return key_dec_bool(r, o) == (v->i != 0);
}

/* ---- float: PostgreSQL's NaN equals itself and is above everything --------------------------- */

static void float_make(struct rng *r, struct value *v, size_t index)
{
    const double edges[] = {0.0,     -0.0,    1.0,         -1.0,        (double)INFINITY,
                            DBL_MIN, DBL_MAX, -DBL_MIN,    -DBL_MAX,    -(double)INFINITY,
                            5e-324,  -5e-324, (double)NAN, -(double)NAN};
    uint64_t bits = rng_next(r);

    if (index < ARRAY_COUNT(edges)) {
        v->f = edges[index];
    } else if (index % 2 == 0) {
        memcpy(&v->f, &bits, sizeof(bits));
    } else {
        v->f = (double)(int64_t)rng_below(r, 2000) / 8 - 100;
    }
}

static void float_enc(struct key_enc *e, enum key_order o, const struct value *v)
{
    key_enc_float(e, o, v->f);
}

static int float_cmp(const struct value *a, const struct value *b)
{
    if (isnan(a->f) || isnan(b->f)) {
        return (isnan(a->f) ? 1 : 0) - (isnan(b->f) ? 1 : 0);
    }
    return a->f < b->f ? -1 : a->f > b->f;
}

static bool float_same(struct reader *r, enum key_order o, struct arena *arena,
                       const struct value *v)
{
    const double got = key_dec_float(r, o);

    UNUSED(arena);
    return isnan(v->f) ? isnan(got) : got == v->f;
}

/* ---- numeric --------------------------------------------------------------------------------- */

static void numeric_make(struct rng *r, struct value *v, size_t index)
{
    v->n = (struct key_numeric){.class = KEY_NUMERIC_FINITE, .digits = v->digits};
    if (index < 3) {
        v->n.class = (enum key_numeric_class)(KEY_NUMERIC_NEG_INF + index);
        return;
    }
    v->n.negative = rng_permille(r, 500);
    v->n.count = (uint32_t)rng_below(r, 4);
    v->n.weight = (int32_t)rng_between(r, 0, 6) - 3;
    if (rng_permille(r, 200)) {
        v->n.weight = rng_permille(r, 500) ? 32767 : -16384;
    } else if (rng_permille(r, 200)) {
        v->n.weight = (int32_t)rng_between(r, 0, 160) - 80; /* Around the one-byte exponents. */
    }
    for (uint32_t i = 0; i < v->n.count; i++) {
        const uint16_t pool[] = {0, 1, 9, 99, 100, 101, 9900, 9999, 5000};

        v->digits[i] = pool[rng_below(r, ARRAY_COUNT(pool))];
    }
}

static void numeric_enc(struct key_enc *e, enum key_order o, const struct value *v)
{
    key_enc_numeric(e, o, &v->n);
}

static int numeric_sign(const struct key_numeric *n)
{
    for (uint32_t i = 0; i < n->count; i++) {
        if (n->digits[i] != 0) {
            return n->negative ? -1 : 1;
        }
    }
    return 0;
}

static int digit_at(const struct key_numeric *n, int32_t weight)
{
    const int32_t i = n->weight - weight;

    return i < 0 || i >= (int32_t)n->count ? 0 : n->digits[i];
}

/* Digit by digit from the highest weight of the two: slow and obvious. */
static int numeric_cmp_n(const struct key_numeric *a, const struct key_numeric *b)
{
    const int rank[] = {[KEY_NUMERIC_NEG_INF] = 0,
                        [KEY_NUMERIC_FINITE] = 1,
                        [KEY_NUMERIC_POS_INF] = 2,
                        [KEY_NUMERIC_NAN] = 3};
    const int32_t top = a->weight > b->weight ? a->weight : b->weight;
    int32_t bottom = a->weight - (int32_t)a->count;
    const int32_t other = b->weight - (int32_t)b->count;

    if (a->class != KEY_NUMERIC_FINITE || b->class != KEY_NUMERIC_FINITE) {
        return cmp_i64(rank[a->class], rank[b->class]);
    }
    if (numeric_sign(a) != numeric_sign(b)) {
        return cmp_i64(numeric_sign(a), numeric_sign(b));
    }
    bottom = bottom < other ? bottom : other;
    for (int32_t w = top; w >= bottom; w--) {
        const int c = cmp_i64(digit_at(a, w), digit_at(b, w));

        if (c != 0) {
            return numeric_sign(a) < 0 ? -c : c;
        }
    }
    return 0;
}

static int numeric_cmp(const struct value *a, const struct value *b)
{
    return numeric_cmp_n(&a->n, &b->n);
}

static bool numeric_same(struct reader *r, enum key_order o, struct arena *arena,
                         const struct value *v)
{
    const struct key_numeric got = key_dec_numeric(r, o, arena);

    return numeric_cmp_n(&got, &v->n) == 0 &&
           (got.count == 0 || (got.digits[0] != 0 && got.digits[got.count - 1] != 0));
}

/* ---- strings --------------------------------------------------------------------------------- */

static void string_make(struct rng *r, struct value *v, size_t index)
{
    const uint8_t pool[] = {0x00, 0x01, 0x02, 0x61, 0xFE, 0xFF};

    v->len = index == 0 ? 0 : rng_below(r, STRING_MAX + 1);
    for (size_t i = 0; i < v->len; i++) {
        v->s[i] = pool[rng_below(r, sizeof(pool))];
    }
}

static int string_cmp(const struct value *a, const struct value *b)
{
    return bytes_cmp(bytes_of(a->s, a->len), bytes_of(b->s, b->len));
}

static void text_enc(struct key_enc *e, enum key_order o, const struct value *v)
{
    key_enc_text(e, o, bytes_of(v->s, v->len));
}

static void bytea_enc(struct key_enc *e, enum key_order o, const struct value *v)
{
    key_enc_bytea(e, o, bytes_of(v->s, v->len));
}

static void enum_enc(struct key_enc *e, enum key_order o, const struct value *v)
{
    key_enc_enum(e, o, bytes_of(v->s, v->len));
}

static void sort_key_enc(struct key_enc *e, enum key_order o, const struct value *v)
{
    key_enc_sort_key(e, o, bytes_of(v->s, v->len));
}

static bool string_same(struct reader *r, enum key_order o, struct arena *arena,
                        const struct value *v)
{
    return bytes_eq(key_dec_bytes(r, o, arena), bytes_of(v->s, v->len));
}

/* A collation that only looks at the length: ties are broken by the bytes. */
static void collated_enc(struct key_enc *e, enum key_order o, const struct value *v)
{
    const uint8_t sort_key[2] = {0, (uint8_t)v->len};

    key_enc_collated(e, o, bytes_of(sort_key, sizeof(sort_key)), bytes_of(v->s, v->len));
}

static int collated_cmp(const struct value *a, const struct value *b)
{
    return a->len != b->len ? cmp_i64((int64_t)a->len, (int64_t)b->len) : string_cmp(a, b);
}

/* ---- uuid, interval, timetz, inet ------------------------------------------------------------ */

static void uuid_make(struct rng *r, struct value *v, size_t index)
{
    UNUSED(index);
    v->len = 16;
    for (size_t i = 0; i < 16; i++) {
        v->s[i] = rng_permille(r, 900) ? 0x80 : (uint8_t)rng_next(r);
    }
}

static void uuid_enc(struct key_enc *e, enum key_order o, const struct value *v)
{
    struct uuid u;

    memcpy(u.b, v->s, sizeof(u.b));
    key_enc_uuid(e, o, u);
}

static bool uuid_same(struct reader *r, enum key_order o, struct arena *arena,
                      const struct value *v)
{
    const struct uuid u = key_dec_uuid(r, o);

    UNUSED(arena);
    return memcmp(u.b, v->s, sizeof(u.b)) == 0;
}

static void interval_make(struct rng *r, struct value *v, size_t index)
{
    const int64_t months[] = {0, 1, -1, 12, INT32_MAX, INT32_MIN};
    const int64_t days[] = {0, 30, -30, 1, 29, INT32_MAX, INT32_MIN};
    const int64_t us[] = {0, 86400000000, -86400000000, 1, -1, INT64_MAX, INT64_MIN};

    UNUSED(index);
    v->i = months[rng_below(r, ARRAY_COUNT(months))];
    v->j = days[rng_below(r, ARRAY_COUNT(days))];
    v->k = us[rng_below(r, ARRAY_COUNT(us))];
}

static void interval_enc(struct key_enc *e, enum key_order o, const struct value *v)
{
    key_enc_interval(e, o, (int32_t)v->i, (int32_t)v->j, v->k);
}

static __int128 interval_sum(const struct value *v)
{
    return ((__int128)v->i * 30 + v->j) * 86400000000 + v->k;
}

static int interval_cmp(const struct value *a, const struct value *b)
{
    const __int128 x = interval_sum(a);
    const __int128 y = interval_sum(b);

    return x < y ? -1 : x > y;
}

static bool interval_same(struct reader *r, enum key_order o, struct arena *arena,
                          const struct value *v)
{
    int64_t hi = 0;
    uint64_t lo = 0;

    UNUSED(arena);
    key_dec_interval(r, o, &hi, &lo);
    return (((__int128)hi * ((__int128)1 << 64)) + lo) == interval_sum(v);
}

static void timetz_make(struct rng *r, struct value *v, size_t index)
{
    UNUSED(index);
    v->i = (int64_t)rng_below(r, 25) * 3600000000;
    v->j = ((int64_t)rng_below(r, 31) - 15) * 3600;
}

static void timetz_enc(struct key_enc *e, enum key_order o, const struct value *v)
{
    key_enc_timetz(e, o, v->i, (int32_t)v->j);
}

static int timetz_cmp(const struct value *a, const struct value *b)
{
    const int c = cmp_i64(a->i + a->j * 1000000, b->i + b->j * 1000000);

    return c != 0 ? c : cmp_i64(a->j, b->j);
}

static bool timetz_same(struct reader *r, enum key_order o, struct arena *arena,
                        const struct value *v)
{
    int64_t us = 0;
    int32_t zone = 0;

    UNUSED(arena);
    key_dec_timetz(r, o, &us, &zone);
    return us == v->i && zone == v->j;
}

static void inet_make(struct rng *r, struct value *v, size_t index)
{
    const uint8_t pool[] = {0, 1, 127, 128, 255};

    v->i = index % 2 == 0 ? 4 : 6;
    v->len = v->i == 4 ? 4 : 16;
    for (size_t i = 0; i < v->len; i++) {
        v->s[i] = rng_permille(r, 700) ? 10 : pool[rng_below(r, sizeof(pool))];
    }
    v->j = (int64_t)rng_below(r, 8 * v->len + 1);
}

static void inet_enc(struct key_enc *e, enum key_order o, const struct value *v)
{
    key_enc_inet(e, o, (int)v->i, v->s, (uint8_t)v->j);
}

static int bits_cmp(const uint8_t *a, const uint8_t *b, int64_t bits)
{
    for (int64_t i = 0; i < bits; i++) {
        const int x = a[i / 8] >> (7 - i % 8) & 1;
        const int y = b[i / 8] >> (7 - i % 8) & 1;

        if (x != y) {
            return x - y;
        }
    }
    return 0;
}

/* As network_cmp_internal of PostgreSQL. */
static int inet_cmp(const struct value *a, const struct value *b)
{
    int c = 0;

    if (a->i != b->i) {
        return cmp_i64(a->i, b->i);
    }
    c = bits_cmp(a->s, b->s, a->j < b->j ? a->j : b->j);
    if (c == 0) {
        c = cmp_i64(a->j, b->j);
    }
    return c != 0 ? c : bits_cmp(a->s, b->s, (int64_t)(8 * a->len));
}

static bool inet_same(struct reader *r, enum key_order o, struct arena *arena,
                      const struct value *v)
{
    int family = 0;
    uint8_t addr[16];
    uint8_t len = 0;

    UNUSED(arena);
    key_dec_inet(r, o, &family, addr, &len);
    return family == v->i && len == v->j && memcmp(addr, v->s, v->len) == 0;
}

/* ---- arrays of small integers and NULLs ------------------------------------------------------ */

static void array_make(struct rng *r, struct value *v, size_t index)
{
    v->len = index == 0 ? 0 : rng_below(r, 4);
    for (size_t i = 0; i < v->len; i++) {
        v->s[i] = (uint8_t)rng_below(r, 3); /* 2 stands for NULL, which sorts high. */
    }
}

static void array_enc(struct key_enc *e, enum key_order o, const struct value *v)
{
    const size_t mark = key_enc_array_begin(e);

    for (size_t i = 0; i < v->len; i++) {
        if (v->s[i] == 2) {
            key_enc_array_null(e);
        } else {
            key_enc_array_elem(e);
            key_enc_int(e, KEY_ASC, v->s[i]);
        }
    }
    key_enc_array_end(e, o, mark);
}

/* ---- the frame ------------------------------------------------------------------------------- */

static const struct type_case cases[] = {
    {"bool", bool_make, bool_enc, int_cmp, bool_same, KEY_KIND_BOOL},
    {"int", int_make, int_enc, int_cmp, int_same, KEY_KIND_INT},
    {"float", float_make, float_enc, float_cmp, float_same, KEY_KIND_FLOAT},
    {"numeric", numeric_make, numeric_enc, numeric_cmp, numeric_same, KEY_KIND_NUMERIC},
    {"text", string_make, text_enc, string_cmp, string_same, KEY_KIND_TEXT},
    {"bytea", string_make, bytea_enc, string_cmp, string_same, KEY_KIND_BYTEA},
    {"collated", string_make, collated_enc, collated_cmp, string_same, KEY_KIND_COLLATED},
    {"sort_key", string_make, sort_key_enc, string_cmp, string_same, KEY_KIND_SORT_KEY},
    {"uuid", uuid_make, uuid_enc, string_cmp, uuid_same, KEY_KIND_UUID},
    {"inet", inet_make, inet_enc, inet_cmp, inet_same, KEY_KIND_INET},
    {"interval", interval_make, interval_enc, interval_cmp, interval_same, KEY_KIND_INTERVAL},
    {"timetz", timetz_make, timetz_enc, timetz_cmp, timetz_same, KEY_KIND_TIMETZ},
    {"enum", string_make, enum_enc, string_cmp, string_same, KEY_KIND_ENUM},
    {"array", array_make, array_enc, string_cmp, NULL, KEY_KIND_ARRAY},
};

struct encoded {
    uint8_t mem[KEY_ROOM];
    struct bytes key;
};

static const enum key_order orders[] = {KEY_ASC, KEY_DESC, KEY_ASC_NULLS_FIRST,
                                        KEY_DESC_NULLS_LAST};

static bool is_descending(enum key_order o)
{
    return o == KEY_DESC || o == KEY_DESC_NULLS_LAST;
}

/* What ORDER BY says about two values of which some may be NULL. */
static int model_cmp(const struct type_case *t, enum key_order o, const struct value *a,
                     const struct value *b)
{
    const bool first = o == KEY_DESC || o == KEY_ASC_NULLS_FIRST;
    int c = 0;

    if (a->null || b->null) {
        c = (a->null ? 1 : 0) - (b->null ? 1 : 0);
        return first ? -c : c;
    }
    c = t->cmp(a, b);
    return is_descending(o) ? -c : c;
}

static bool pair_agrees(const struct type_case *t, enum key_order o, const struct value *a,
                        const struct value *b, struct bytes x, struct bytes y)
{
    const int want = model_cmp(t, o, a, b);
    const int got = bytes_cmp(x, y);

    if ((want < 0) != (got < 0) || (want > 0) != (got > 0)) {
        return false;
    }
    return got == 0 || (!bytes_starts_with(x, y) && !bytes_starts_with(y, x));
}

static bool decodes(const struct type_case *t, enum key_order o, const struct value *v,
                    struct bytes key, struct arena *arena)
{
    struct reader r = reader_of(key);
    struct reader skipped = reader_of(key);

    if (!key_dec_skip(&skipped) || skipped.rest.len != 0) {
        return false;
    }
    if (v->null) {
        return key_dec_peek(&r) == KEY_KIND_NULL && key_dec_null(&r) && r.rest.len == 0;
    }
    if (key_dec_peek(&r) != t->kind || key_dec_null(&r)) {
        return false;
    }
    return t->same == NULL || (t->same(&r, o, arena, v) && !r.bad && r.rest.len == 0);
}

/* Any cut of a key is damage, never a read beyond it. */
static bool cuts_are_damage(const struct type_case *t, enum key_order o, struct bytes key,
                            struct arena *arena, const struct value *v)
{
    for (size_t n = 0; n < key.len; n++) {
        struct reader r = reader_of(bytes_of(key.ptr, n));

        if (key_dec_skip(&r)) {
            return false;
        }
        r = reader_of(bytes_of(key.ptr, n));
        if (t->same != NULL && !v->null && t->same(&r, o, arena, v) && !r.bad) {
            return false;
        }
    }
    return true;
}

static bool order_holds(const struct type_case *t, enum key_order o, const struct value *values,
                        struct encoded *enc, struct arena *arena)
{
    for (size_t i = 0; i < VALUES_MAX; i++) {
        struct key_enc e;

        key_enc_init(&e, enc[i].mem, sizeof(enc[i].mem));
        if (values[i].null) {
            key_enc_null(&e, o);
        } else {
            t->enc(&e, o, &values[i]);
        }
        if (!status_ok(key_enc_finish(&e, &enc[i].key)) ||
            !decodes(t, o, &values[i], enc[i].key, arena) ||
            !cuts_are_damage(t, o, enc[i].key, arena, &values[i])) {
            return false;
        }
    }
    for (size_t i = 0; i < VALUES_MAX; i++) {
        for (size_t j = 0; j < VALUES_MAX; j++) {
            if (!pair_agrees(t, o, &values[i], &values[j], enc[i].key, enc[j].key)) {
                return false;
            }
        }
    }
    return true;
}

TEST(key, order_is_that_of_postgresql_for_every_type)
{
    struct value *values = calloc(VALUES_MAX, sizeof(*values));
    struct encoded *enc = calloc(VALUES_MAX, sizeof(*enc));
    const char *failed = NULL;
    struct arena arena;
    uint64_t seed = 0;

    arena_init(&arena, 0);
    for (size_t c = 0; c < 5 * ARRAY_COUNT(cases) && failed == NULL; c++) {
        const struct type_case *t = &cases[c % ARRAY_COUNT(cases)];
        struct rng r;

        seed = c;
        rng_seed(&r, seed);
        for (size_t i = 0; i < VALUES_MAX; i++) {
            memset(&values[i], 0, sizeof(values[i]));
            t->make(&r, &values[i], i);
            values[i].null = rng_permille(&r, 20);
        }
        for (size_t o = 0; o < ARRAY_COUNT(orders) && failed == NULL; o++) {
            failed = order_holds(t, orders[o], values, enc, &arena) ? NULL : t->name;
        }
        arena_reset(&arena);
    }
    arena_deinit(&arena);
    free(values);
    free(enc);
    if (failed != NULL) {
        test_fail(__FILE__, __LINE__, "order of %s broken, seed %" PRIu64, failed, seed);
    }
}

/* ---- the building blocks --------------------------------------------------------------------- */

TEST(key, uvar_is_ordered_and_canonical)
{
    const uint64_t values[] = {0,       1,         109,       110,        255,
                               256,     65535,     65536,     UINT32_MAX, (uint64_t)UINT32_MAX + 1,
                               1 << 24, INT64_MAX, UINT64_MAX};
    const uint8_t long_form[] = {0xF6, 0x05};
    const uint8_t padded[] = {0xF7, 0x00, 0xFF};
    struct bytes last = BYTES_EMPTY;
    uint8_t mem[2][16];
    struct reader r;

    for (size_t i = 0; i < ARRAY_COUNT(values); i++) {
        struct bytes key = BYTES_EMPTY;
        struct key_enc e;

        if (i > 0 && values[i] < values[i - 1]) {
            last = BYTES_EMPTY;
        }
        key_enc_init(&e, mem[i % 2], sizeof(mem[0]));
        key_enc_uvar(&e, values[i]);
        EXPECT_OK(key_enc_finish(&e, &key));
        EXPECT_TRUE(bytes_cmp(last, key) < 0);
        r = reader_of(key);
        EXPECT_TRUE(key_dec_uvar(&r) == values[i]);
        EXPECT_FALSE(r.bad);
        last = key;
    }
    EXPECT_EQ(1, key_range_record(mem[0], (range_id){1}, KEY_RANGE_APPLIED).ptr[0]);
    r = reader_of(bytes_of(long_form, sizeof(long_form)));
    (void)key_dec_uvar(&r);
    EXPECT_TRUE(r.bad);
    r = reader_of(bytes_of(padded, sizeof(padded)));
    (void)key_dec_uvar(&r);
    EXPECT_TRUE(r.bad);
}

TEST(key, encoder_refuses_what_does_not_fit)
{
    struct bytes out = BYTES_LIT("x");
    uint8_t large[300];
    struct key_enc e;
    uint8_t mem[4];
    struct buf b;

    key_enc_init(&e, mem, sizeof(mem));
    key_enc_text(&e, KEY_DESC, BYTES_LIT("abcd"));
    key_enc_byte(&e, 1);
    EXPECT_CODE(STATUS_MEMORY, key_enc_finish(&e, &out));
    EXPECT_EQ(0, out.len);

    memset(large, 'x', sizeof(large));
    buf_init(&b, 256);
    EXPECT_OK(buf_append_str(&b, "head"));
    key_enc_init_buf(&e, &b);
    key_enc_text(&e, KEY_DESC, BYTES_LIT("abcd"));
    EXPECT_OK(key_enc_finish(&e, &out));
    EXPECT_EQ(7, out.len); /* Only the key, not what was in the buffer before. */
    EXPECT_EQ(11, b.len);
    key_enc_bytea(&e, KEY_ASC, bytes_of(large, sizeof(large)));
    EXPECT_CODE(STATUS_MEMORY, key_enc_finish(&e, &out));
    buf_deinit(&b);
}

TEST(key, blanks_are_stripped_for_char_n)
{
    EXPECT_BYTES_EQ(BYTES_LIT("a b"), key_strip_blanks(BYTES_LIT("a b   ")));
    EXPECT_EQ(0, key_strip_blanks(BYTES_LIT("   ")).len);
}

/* Decoding a number that the encoder would have written differently is damage. */
TEST(key, other_spellings_are_damage)
{
    const struct {
        const char *hex;
        size_t len;
    } bad[] = {
        {"\x29\x00", 2},                             /* 0 in one byte */
        {"\x26\xff", 2},                             /* -1 in one byte */
        {"\x30\xff\xff\xff\xff\xff\xff\xff\xff", 9}, /* positive tag, negative number */
        {"\x31\x7f\xff\xff\xff\xff\xff\xff\xff", 9}, /* -0 */
        {"\x31\xff\xff\xff\xff\xff\xff\xff\xff", 9}, /* another NaN */
        {"\x36\xbf\x00", 3},                         /* last digit 0 */
        {"\x36\xbf\x01\x02", 4},                     /* first digit 0 */
        {"\x36\xbf\xc8", 3},                         /* digit 100 */
        {"\x12", 1},                                 /* no such tag */
        {"\x61", 1},
    };

    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        struct reader r = reader_of(bytes_of(bad[i].hex, bad[i].len));
        struct arena arena;

        arena_init(&arena, 0);
        switch (key_dec_peek(&r)) {
        case KEY_KIND_INT:
            (void)key_dec_int(&r, KEY_ASC);
            break;
        case KEY_KIND_FLOAT:
            (void)key_dec_float(&r, KEY_ASC);
            break;
        default:
            (void)key_dec_numeric(&r, KEY_ASC, &arena);
            break;
        }
        arena_deinit(&arena);
        EXPECT_TRUE(r.bad);
    }
}

TEST(key, nesting_is_bounded)
{
    uint8_t mem[256];
    size_t n = 0;
    struct reader r;

    while (n < 2 * (KEY_NESTING_MAX + 8)) {
        mem[n++] = 0x60;
        mem[n++] = 0x02;
    }
    r = reader_of(bytes_of(mem, n));
    EXPECT_FALSE(key_dec_skip(&r));
}

/* ---- rows and records ------------------------------------------------------------------------ */

static struct bytes row_key(uint8_t *mem, size_t cap, uint32_t family)
{
    struct bytes key = BYTES_EMPTY;
    struct key_enc e;

    key_enc_init(&e, mem, cap);
    key_enc_index(&e, 51, 200);
    key_enc_int(&e, KEY_ASC, -7);
    key_enc_text(&e, KEY_DESC, BYTES_LIT("a\0b"));
    key_enc_family(&e, family);
    return status_ok(key_enc_finish(&e, &key)) ? key : BYTES_EMPTY;
}

TEST(key, row_key_splits_before_its_family)
{
    uint8_t mem[64];
    uint32_t family = 99;
    struct bytes row = BYTES_EMPTY;
    uint64_t table = 0;
    uint64_t index = 0;
    struct reader r;

    for (uint32_t f = 0; f <= KEY_FAMILY_MAX; f++) {
        const struct bytes key = row_key(mem, sizeof(mem), f);

        EXPECT_OK(key_row_split(key, &row, &family));
        EXPECT_EQ(f, family);
        EXPECT_EQ(key.len - 1, row.len);
    }
    r = reader_of(row);
    EXPECT_TRUE(key_dec_index(&r, &table, &index));
    EXPECT_EQ(51, table);
    EXPECT_EQ(200, index);
    EXPECT_CODE(STATUS_INVALID, key_row_split(row, &row, &family));
    EXPECT_CODE(STATUS_INVALID, key_row_split(BYTES_LIT("\x04x"), &row, &family));
    EXPECT_CODE(STATUS_INVALID, key_row_split(BYTES_EMPTY, &row, &family));
}

TEST(key, versions_sort_newest_first_and_stay_below_the_successor)
{
    uint8_t mem[2][64];
    struct bytes keys[2];
    struct bytes after = BYTES_EMPTY;
    struct bytes user = BYTES_EMPTY;
    struct arena arena;
    struct hts ts;

    arena_init(&arena, 0);
    for (int i = 0; i < 2; i++) {
        struct key_enc e;

        key_enc_init(&e, mem[i], sizeof(mem[i]));
        key_enc_raw(&e, BYTES_LIT("\x88\x89\x28\x88"));
        key_enc_version(&e, i == 0 ? HTS_ZERO : (struct hts){5, 6});
        EXPECT_OK(key_enc_finish(&e, &keys[i]));
    }
    EXPECT_TRUE(bytes_cmp(keys[1], keys[0]) < 0);
    EXPECT_TRUE(key_split_version(keys[1], &user, &ts));
    EXPECT_HTS_EQ(((struct hts){5, 6}), ts);
    EXPECT_OK(key_after(&arena, user, &after));
    EXPECT_TRUE(bytes_cmp(keys[0], after) <
                0); /* Even the version at time zero: twelve FF bytes. */
    EXPECT_EQ(user.len + KEY_AFTER_SIZE, after.len);
    EXPECT_FALSE(key_split_version(BYTES_LIT("123456789012"), &user, &ts));
    arena_deinit(&arena);
}

TEST(key, prefix_end_carries)
{
    struct bytes out = BYTES_EMPTY;
    struct arena arena;

    arena_init(&arena, 0);
    EXPECT_OK(key_prefix_end(&arena, BYTES_LIT("ab"), &out));
    EXPECT_BYTES_EQ(BYTES_LIT("ac"), out);
    EXPECT_OK(key_prefix_end(&arena, BYTES_LIT("a\xff\xff"), &out));
    EXPECT_BYTES_EQ(BYTES_LIT("b"), out);
    EXPECT_OK(key_prefix_end(&arena, BYTES_LIT("\xff\xff"), &out));
    EXPECT_EQ(0, out.len);
    arena_deinit(&arena);
}

/* All that a range owns lies in its spans, in none of its neighbour's. */
TEST(key, spans_of_a_range_hold_what_is_addressed_to_it)
{
    const char *const bounds[] = {"\x04", "\x88\x89", "\x88\x89\xff", "\x8a", "\xff"};
    const struct bytes anchors[] = {BYTES_LIT("\x04"),
                                    BYTES_LIT("\x05"
                                              "a\0b"),
                                    BYTES_LIT("\x88\x89"),
                                    BYTES_LIT("\x88\x89\0"),
                                    BYTES_LIT("\x88\x89\xff"),
                                    BYTES_LIT("\x88\x89\xfe\xff"),
                                    BYTES_LIT("\x8a"),
                                    BYTES_LIT("\xfe\xff")};
    const struct uuid txn = {{7}};
    struct arena arena;

    arena_init(&arena, 0);
    for (size_t a = 0; a < ARRAY_COUNT(anchors); a++) {
        uint8_t mem[4][64];
        struct bytes keys[4];
        struct key_enc e;

        key_enc_init(&e, mem[0], sizeof(mem[0]));
        key_enc_raw(&e, anchors[a]);
        EXPECT_OK(key_enc_finish(&e, &keys[0]));
        key_enc_init(&e, mem[1], sizeof(mem[1]));
        key_enc_txn_record(&e, anchors[a], txn);
        EXPECT_OK(key_enc_finish(&e, &keys[1]));
        key_enc_init(&e, mem[2], sizeof(mem[2]));
        key_enc_lock(&e, anchors[a], 3, txn);
        EXPECT_OK(key_enc_finish(&e, &keys[2]));
        key_enc_init(&e, mem[3], sizeof(mem[3]));
        key_enc_lock(&e, keys[1], 3, txn);
        EXPECT_OK(key_enc_finish(&e, &keys[3]));
        for (size_t k = 0; k < 4; k++) {
            struct bytes address = BYTES_EMPTY;

            EXPECT_OK(key_address(&arena, keys[k], &address));
            EXPECT_BYTES_EQ(anchors[a], address);
            for (size_t i = 0; i + 1 < ARRAY_COUNT(bounds); i++) {
                const struct bytes lo = bytes_str(bounds[i]);
                const struct bytes hi = bytes_str(bounds[i + 1]);
                const bool inside = bytes_cmp(anchors[a], lo) >= 0 && bytes_cmp(anchors[a], hi) < 0;
                struct key_span spans[KEY_RANGE_SPANS];
                bool found = false;

                EXPECT_OK(key_range_spans(&arena, (range_id){9}, lo, hi, spans));
                for (size_t s = 0; s < KEY_RANGE_SPANS; s++) {
                    EXPECT_TRUE(bytes_cmp(spans[s].start, spans[s].end) < 0);
                    EXPECT_TRUE(s == 0 || bytes_cmp(spans[s - 1].end, spans[s].start) <= 0);
                    found = found || (bytes_cmp(keys[k], spans[s].start) >= 0 &&
                                      bytes_cmp(keys[k], spans[s].end) < 0);
                }
                EXPECT_EQ(inside, found);
            }
        }
    }
    arena_deinit(&arena);
}

TEST(key, range_id_keys_have_no_address)
{
    uint8_t mem[KEY_RANGE_ID_SIZE];
    struct bytes out = BYTES_EMPTY;
    struct arena arena;

    arena_init(&arena, 0);
    EXPECT_CODE(STATUS_INVALID,
                key_address(&arena, key_range_record(mem, (range_id){3}, KEY_RANGE_APPLIED), &out));
    EXPECT_CODE(STATUS_INVALID, key_address(&arena, BYTES_EMPTY, &out));
    EXPECT_CODE(STATUS_CORRUPT, key_address(&arena,
                                            BYTES_LIT("\x02"
                                                      "abc"),
                                            &out));
    EXPECT_CODE(STATUS_CORRUPT, key_address(&arena,
                                            BYTES_LIT("\x03"
                                                      "abc"),
                                            &out));
    arena_deinit(&arena);
}

TEST(key, raft_keys_split_again)
{
    uint8_t mem[KEY_RAFT_LOG_SIZE];
    enum key_raft_tag tag = KEY_RAFT_IDENT;
    uint64_t index = 0;
    range_id r = {0};

    EXPECT_TRUE(key_raft_split(key_raft_log(mem, (range_id){77}, 12), &r, &tag, &index));
    EXPECT_EQ(77, r.v);
    EXPECT_EQ(KEY_RAFT_LOG, tag);
    EXPECT_EQ(12, index);
    EXPECT_TRUE(key_raft_split(key_raft_spool(mem, (range_id){77}, 13), &r, &tag, &index));
    EXPECT_EQ(KEY_RAFT_SPOOL, tag);
    EXPECT_EQ(13, index);
    EXPECT_TRUE(
        key_raft_split(key_raft(mem, (range_id){78}, KEY_RAFT_HARD_STATE), &r, &tag, &index));
    EXPECT_EQ(78, r.v);
    EXPECT_EQ(KEY_RAFT_HARD_STATE, tag);
    EXPECT_FALSE(key_raft_split(bytes_of(mem, 9), &r, &tag, &index));
    mem[9] = '?';
    EXPECT_FALSE(key_raft_split(bytes_of(mem, KEY_RAFT_SIZE), &r, &tag, &index));
}

TEST(key, locks_and_meta_keys_split_again)
{
    const struct uuid txn = {{1, 2, 3}};
    struct bytes user = BYTES_EMPTY;
    struct bytes key = BYTES_EMPTY;
    struct uuid got = {{0}};
    uint8_t strength = 0;
    struct arena arena;
    struct key_enc e;
    uint8_t mem[64];

    arena_init(&arena, 0);
    key_enc_init(&e, mem, sizeof(mem));
    key_enc_lock(&e, BYTES_LIT("\x88k"), 2, txn);
    EXPECT_OK(key_enc_finish(&e, &key));
    EXPECT_TRUE(key_split_lock(key, &user, &strength, &got));
    EXPECT_BYTES_EQ(BYTES_LIT("\x88k"), user);
    EXPECT_EQ(2, strength);
    EXPECT_TRUE(uuid_eq(txn, got));
    EXPECT_BYTES_EQ(bytes_of(mem, 3), key_filter_prefix(key));
    EXPECT_FALSE(key_split_lock(bytes_of(mem, 18), &user, &strength, &got));

    key_enc_init(&e, mem, sizeof(mem));
    key_enc_meta(&e, 2, BYTES_LIT("\x88\0z"));
    EXPECT_OK(key_enc_finish(&e, &key));
    EXPECT_EQ(KEY_PREFIX_META2, key.ptr[0]);
    EXPECT_TRUE(key_is_versioned(key));
    EXPECT_TRUE(key_dec_meta(key, &arena, &user));
    EXPECT_BYTES_EQ(BYTES_LIT("\x88\0z"), user);
    EXPECT_FALSE(key_dec_meta(BYTES_LIT("\x04"
                                        "a"),
                              &arena, &user));
    arena_deinit(&arena);
}

/* Of the local keys only descriptors have versions; a record of a transaction is its own prefix. */
TEST(key, filter_prefix_strips_versions_only)
{
    struct bytes key = BYTES_EMPTY;
    struct key_enc e;
    uint8_t mem[64];

    key_enc_init(&e, mem, sizeof(mem));
    key_enc_local(&e, BYTES_LIT("\x88"), KEY_LOCAL_DESCRIPTOR);
    EXPECT_TRUE(key_is_versioned(bytes_of(e.ptr, e.len)));
    key_enc_version(&e, (struct hts){1, 2});
    EXPECT_OK(key_enc_finish(&e, &key));
    EXPECT_EQ(key.len - KEY_VERSION_SIZE, key_filter_prefix(key).len);

    key_enc_init(&e, mem, sizeof(mem));
    key_enc_txn_record(&e, BYTES_LIT("\x88"), (struct uuid){{1}});
    EXPECT_OK(key_enc_finish(&e, &key));
    EXPECT_FALSE(key_is_versioned(key));
    EXPECT_EQ(key.len, key_filter_prefix(key).len);

    key_enc_init(&e, mem, sizeof(mem));
    key_enc_abort_span(&e, (range_id){5}, (struct uuid){{1}});
    EXPECT_OK(key_enc_finish(&e, &key));
    EXPECT_EQ(26, key.len);
    EXPECT_EQ(key.len, key_filter_prefix(key).len);
    EXPECT_EQ(0, key_filter_prefix(BYTES_EMPTY).len);
    EXPECT_EQ(1, key_filter_prefix(BYTES_LIT("\x02")).len);
    EXPECT_FALSE(key_is_versioned(BYTES_EMPTY));
}

TEST(key, text_shows_the_columns)
{
    uint8_t mem[64];
    struct arena arena;

    arena_init(&arena, 0);
    EXPECT_STREQ("/51/200/-7/x610062/f3", key_text(&arena, row_key(mem, sizeof(mem), 3)));
    EXPECT_STREQ("/min", key_text(&arena, BYTES_EMPTY));
    EXPECT_STREQ("/max", key_text(&arena, KEY_MAX));
    EXPECT_STREQ("/meta2/x88", key_text(&arena, BYTES_LIT("\x05\x88")));
    EXPECT_STREQ("/x888905", key_text(&arena, BYTES_LIT("\x88\x89\x05")));
    arena_deinit(&arena);
}
