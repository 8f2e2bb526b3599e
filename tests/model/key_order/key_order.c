/*
 * key_order.c -- values as SQL literals with their keys, for a real PostgreSQL to order.
 *
 *     key_order SEED    one line per value: type <TAB> literal <TAB> key ASC <TAB> DESC <TAB> ASC NULLS
 *                       FIRST <TAB> DESC NULLS LAST, keys in hex
 *
 * key_order.py gives the literals to the server and compares its ranks with those of the keys. The unit
 * test of the codec has a model of PostgreSQL's comparisons; this asks PostgreSQL itself.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/base/hash.h"
#include "node/storage/key/key.h"

#define VALUES_PER_TYPE 120
#define LITERAL_MAX     512

struct gen {
    struct rng rng;
    size_t index;
    char literal[LITERAL_MAX];
    enum key_order order;
    struct key_enc *e;
};

/* Makes literal and key of one value; called with the same generator state for each order. */
typedef void make_fn(struct gen *g);

static int64_t random_int(struct rng *r)
{
    const int64_t v = (int64_t)(rng_next(r) >> rng_between(r, 1, 63));

    return rng_permille(r, 500) ? v : -v - 1;
}

static void make_int8(struct gen *g)
{
    const int64_t edges[] = {0, 1, -1, 255, 256, -256, -257, INT64_MAX, INT64_MIN};
    const int64_t v = g->index < 9 ? edges[g->index] : random_int(&g->rng);

    (void)snprintf(g->literal, LITERAL_MAX, "%" PRId64, v);
    key_enc_int(g->e, g->order, v);
}

static void make_float8(struct gen *g)
{
    const char *const edges[] = {"0", "-0", "NaN", "Infinity", "-Infinity", "5e-324", "-5e-324"};
    double v = 0;

    if (g->index < 7) {
        (void)snprintf(g->literal, LITERAL_MAX, "%s", edges[g->index]);
    } else {
        v = (double)random_int(&g->rng) / (double)(1 + rng_below(&g->rng, 1000));
        (void)snprintf(g->literal, LITERAL_MAX, "%.17g", v);
    }
    key_enc_float(g->e, g->order, strtod(g->literal, NULL));
}

static size_t append_digits(char *out, size_t at, const uint16_t *digits, uint32_t from,
                            uint32_t to)
{
    for (uint32_t i = from; i < to; i++) {
        at += (size_t)snprintf(out + at, LITERAL_MAX - at, "%04d", (int)digits[i]);
    }
    return at;
}

static void make_numeric(struct gen *g)
{
    const char *const special[] = {"NaN", "Infinity", "-Infinity"};
    const enum key_numeric_class classes[] = {KEY_NUMERIC_NAN, KEY_NUMERIC_POS_INF,
                                              KEY_NUMERIC_NEG_INF};
    const uint16_t pool[] = {0, 0, 1, 9, 10, 99, 100, 9900, 9999, 1234};
    uint16_t digits[12];
    struct key_numeric n = {.class = KEY_NUMERIC_FINITE, .digits = digits};
    size_t at = 0;

    if (g->index < 3) {
        n.class = classes[g->index];
        (void)snprintf(g->literal, LITERAL_MAX, "%s", special[g->index]);
        key_enc_numeric(g->e, g->order, &n);
        return;
    }
    n.negative = rng_permille(&g->rng, 500);
    n.weight = (int32_t)rng_below(&g->rng, 6);
    n.count = (uint32_t)n.weight + 1 + (uint32_t)rng_below(&g->rng, 5);
    for (uint32_t i = 0; i < n.count; i++) {
        digits[i] = pool[rng_below(&g->rng, ARRAY_COUNT(pool))];
    }
    at = (size_t)snprintf(g->literal, LITERAL_MAX, "%s", n.negative ? "-" : "");
    at = append_digits(g->literal, at, digits, 0, (uint32_t)n.weight + 1);
    if (n.count > (uint32_t)n.weight + 1) {
        at += (size_t)snprintf(g->literal + at, LITERAL_MAX - at, ".");
        (void)append_digits(g->literal, at, digits, (uint32_t)n.weight + 1, n.count);
    }
    key_enc_numeric(g->e, g->order, &n);
}

/* Strings travel as hex: \x6162. Text avoids zero bytes and is valid UTF-8. */
static struct bytes random_string(struct gen *g, bool text, uint8_t out[16])
{
    const uint8_t any[] = {0x00, 0x01, 0x61, 0x62, 0xFE, 0xFF};
    const size_t len = rng_below(&g->rng, 7);
    size_t at = 0;

    for (size_t i = 0; i < len; i++) {
        if (text && rng_permille(&g->rng, 300)) {
            out[at++] = 0xC3; /* e acute, u umlaut, ... */
            out[at++] = (uint8_t)(0xA0 + rng_below(&g->rng, 16));
        } else if (text) {
            out[at++] = (uint8_t)(" !aAbz~\x01"[rng_below(&g->rng, 8)]);
        } else {
            out[at++] = any[rng_below(&g->rng, sizeof(any))];
        }
    }
    memcpy(g->literal, "\\x", 3);
    for (size_t i = 0; i < at; i++) {
        (void)snprintf(g->literal + 2 + 2 * i, LITERAL_MAX - 2 - 2 * i, "%02x", out[i]);
    }
    return bytes_of(out, at);
}

static void make_text(struct gen *g)
{
    uint8_t mem[16];

    key_enc_text(g->e, g->order, random_string(g, true, mem));
}

static void make_bytea(struct gen *g)
{
    uint8_t mem[16];

    key_enc_bytea(g->e, g->order, random_string(g, false, mem));
}

static void make_uuid(struct gen *g)
{
    struct uuid u;
    size_t at = 0;

    for (size_t i = 0; i < sizeof(u.b); i++) {
        u.b[i] = rng_permille(&g->rng, 800) ? 0x7F : (uint8_t)rng_next(&g->rng);
        at += (size_t)snprintf(g->literal + at, LITERAL_MAX - at, "%02x", u.b[i]);
    }
    key_enc_uuid(g->e, g->order, u);
}

static void make_inet(struct gen *g)
{
    const bool four = rng_permille(&g->rng, 500);
    const size_t len = four ? 4 : 16;
    const uint8_t prefix = (uint8_t)rng_below(&g->rng, 8 * len + 1);
    uint8_t addr[16];
    size_t at = 0;

    for (size_t i = 0; i < len; i++) {
        addr[i] = rng_permille(&g->rng, 700) ? 10 : (uint8_t)(rng_next(&g->rng) & 0x81);
        if (four) {
            at += (size_t)snprintf(g->literal + at, LITERAL_MAX - at, "%s%d", i > 0 ? "." : "",
                                   addr[i]);
        } else {
            at += (size_t)snprintf(g->literal + at, LITERAL_MAX - at, "%s%02x",
                                   i > 0 && i % 2 == 0 ? ":" : "", addr[i]);
        }
    }
    (void)snprintf(g->literal + at, LITERAL_MAX - at, "/%d", prefix);
    key_enc_inet(g->e, g->order, four ? 4 : 6, addr, prefix);
}

static void make_interval(struct gen *g)
{
    const int32_t months[] = {0, 1, -1, 12, 100000};
    const int32_t days[] = {0, 30, -30, 29, 31, 360};
    const int64_t us[] = {0, 86400000000, -86400000000, 1, -1, 3600000000};
    const int32_t m = months[rng_below(&g->rng, 5)];
    const int32_t d = days[rng_below(&g->rng, 6)];
    const int64_t u = us[rng_below(&g->rng, 6)];

    (void)snprintf(g->literal, LITERAL_MAX, "%d months %d days %" PRId64 " microseconds", m, d, u);
    key_enc_interval(g->e, g->order, m, d, u);
}

static void make_timetz(struct gen *g)
{
    const int hour = (int)rng_below(&g->rng, 24);
    const int east = (int)rng_below(&g->rng, 29) - 14;

    (void)snprintf(g->literal, LITERAL_MAX, "%02d:30:00%c%02d", hour, east < 0 ? '-' : '+',
                   abs(east));
    key_enc_timetz(g->e, g->order, (int64_t)(hour * 60 + 30) * 60000000, -east * 3600);
}

/* Days since 2000-01-01; the literal is an offset that the script adds. */
static void make_date(struct gen *g)
{
    const int64_t days = (int64_t)rng_below(&g->rng, 60000) - 30000;

    if (g->index < 2) {
        (void)snprintf(g->literal, LITERAL_MAX, "%sinfinity", g->index == 0 ? "" : "-");
        key_enc_int(g->e, g->order, g->index == 0 ? INT64_MAX : INT64_MIN);
        return;
    }
    (void)snprintf(g->literal, LITERAL_MAX, "J%" PRId64, days + 2451545);
    key_enc_int(g->e, g->order, days);
}

static void make_bool(struct gen *g)
{
    const bool v = rng_permille(&g->rng, 500);

    (void)snprintf(g->literal, LITERAL_MAX, "%s", v ? "true" : "false");
    key_enc_bool(g->e, g->order, v);
}

static void make_int_array(struct gen *g)
{
    const size_t mark = key_enc_array_begin(g->e);
    const size_t count = rng_below(&g->rng, 4);
    size_t at = (size_t)snprintf(g->literal, LITERAL_MAX, "{");

    for (size_t i = 0; i < count; i++) {
        const int64_t v = (int64_t)rng_below(&g->rng, 4) - 1;

        at += (size_t)snprintf(g->literal + at, LITERAL_MAX - at, "%s", i > 0 ? "," : "");
        if (v == 2) {
            key_enc_array_null(g->e);
            at += (size_t)snprintf(g->literal + at, LITERAL_MAX - at, "NULL");
        } else {
            key_enc_array_elem(g->e);
            key_enc_int(g->e, KEY_ASC, v);
            at += (size_t)snprintf(g->literal + at, LITERAL_MAX - at, "%" PRId64, v);
        }
    }
    (void)snprintf(g->literal + at, LITERAL_MAX - at, "}");
    key_enc_array_end(g->e, g->order, mark);
}

static void make_null(struct gen *g)
{
    g->literal[0] = '\0';
    key_enc_null(g->e, g->order);
}

static const struct {
    const char *type;
    make_fn *make;
} types[] = {
    {"bigint", make_int8},     {"double precision", make_float8},
    {"numeric", make_numeric}, {"text", make_text},
    {"bytea", make_bytea},     {"uuid", make_uuid},
    {"inet", make_inet},       {"interval", make_interval},
    {"timetz", make_timetz},   {"date", make_date},
    {"boolean", make_bool},    {"bigint[]", make_int_array},
};

static bool print_value(const char *type, make_fn *make, size_t index, const struct rng *state,
                        struct rng *after)
{
    for (int o = KEY_ASC; o <= KEY_DESC_NULLS_LAST; o++) {
        uint8_t mem[KEY_STACK_SIZE];
        struct key_enc e;
        struct bytes key;
        struct gen g = {.rng = *state, .index = index, .order = (enum key_order)o, .e = &e};

        key_enc_init(&e, mem, sizeof(mem));
        make(&g);
        if (!status_ok(key_enc_finish(&e, &key))) {
            return false;
        }
        if (o == KEY_ASC) {
            printf("%s\t%s", type, make == make_null ? "\\N" : g.literal);
        }
        printf("\t");
        for (size_t i = 0; i < key.len; i++) {
            printf("%02x", key.ptr[i]);
        }
        *after = g.rng;
    }
    printf("\n");
    return true;
}

int main(int argc, char **argv)
{
    struct rng rng;

    if (argc != 2) {
        fprintf(stderr, "usage: key_order SEED\n");
        return 2;
    }
    rng_seed(&rng, strtoull(argv[1], NULL, 10));
    for (size_t t = 0; t < ARRAY_COUNT(types); t++) {
        for (size_t i = 0; i < VALUES_PER_TYPE; i++) {
            const struct rng state = rng;

            if (!print_value(types[t].type, i == VALUES_PER_TYPE - 1 ? make_null : types[t].make, i,
                             &state, &rng)) {
                fprintf(stderr, "a key did not fit\n");
                return 1;
            }
        }
    }
    return 0;
}
