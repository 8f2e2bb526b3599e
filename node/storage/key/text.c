/*
 * text.c -- keys for people: logs, the range view, error messages.
 *
 * Only the shape of a key is known here, not its table: integers that are dates print as integers.
 * A key that does not parse is shown as hex, whole: half a key would mislead.
 */
#include <stdio.h>

#include "node/storage/key/key_internal.h"

#define TEXT_LIMIT ((size_t)64 << 10)

static void put_hex(struct buf *b, struct bytes v)
{
    struct status st = buf_append_str(b, "x");

    for (size_t i = 0; i < v.len && status_ok(st); i++) {
        st = buf_printf(b, "%02x", v.ptr[i]);
    }
}

static void put_quoted(struct buf *b, struct bytes v)
{
    bool plain = true;
    struct status st = OK;

    for (size_t i = 0; i < v.len; i++) {
        plain = plain && v.ptr[i] >= 0x20 && v.ptr[i] != 0x7F && v.ptr[i] != '\'';
    }
    if (!plain) {
        put_hex(b, v);
        return;
    }
    st = buf_append_str(b, "'");
    st = status_ok(st) ? buf_append_bytes(b, v) : st;
    st = status_ok(st) ? buf_append_str(b, "'") : st;
    (void)st; /* Cut text at the limit is still text. */
}

/* One column; false when it is damaged. */
static bool put_column(struct buf *b, struct reader *r, struct arena *arena)
{
    const enum key_kind kind = key_dec_peek(r);
    const bool down = r->rest.len > 0 && r->rest.ptr[0] > TAG_MAX;
    const enum key_order o = down ? KEY_DESC : KEY_ASC;
    const struct bytes before = r->rest;
    struct status st = buf_append_str(b, "/");

    if (kind == KEY_KIND_NULL) {
        st = buf_append_str(b, key_dec_null(r) ? "NULL" : "");
    } else if (kind == KEY_KIND_BOOL) {
        st = buf_append_str(b, key_dec_bool(r, o) ? "true" : "false");
    } else if (kind == KEY_KIND_INT) {
        st = buf_printf(b, "%lld", (long long)key_dec_int(r, o));
    } else if (kind == KEY_KIND_FLOAT) {
        st = buf_printf(b, "%.17g", key_dec_float(r, o));
    } else if (kind == KEY_KIND_TEXT || kind == KEY_KIND_ENUM || kind == KEY_KIND_COLLATED) {
        put_quoted(b, key_dec_bytes(r, o, arena));
    } else if (key_dec_skip(r)) {
        put_hex(b, bytes_of(before.ptr, before.len - r->rest.len));
    }
    (void)st; /* Cut text at the limit is still text. */
    return !r->bad;
}

/* "/table/index/col/col", and "/f0" if the family byte follows. A row prefix is fine too. */
static bool put_row(struct buf *b, struct bytes key, struct arena *arena)
{
    struct reader r = reader_of(key);
    struct status st = OK;

    for (int i = 0; i < 2 && r.rest.len > 0; i++) {
        st = buf_printf(b, "/%llu", (unsigned long long)key_dec_uvar(&r));
    }
    while (status_ok(st) && !r.bad && r.rest.len > 1) {
        if (!put_column(b, &r, arena)) {
            return false;
        }
    }
    if (!r.bad && r.rest.len == 1) {
        if (r.rest.ptr[0] < UVAR_ZERO || r.rest.ptr[0] > UVAR_ZERO + KEY_FAMILY_MAX ||
            key_dec_peek(&r) != KEY_KIND_BAD) {
            return put_column(b, &r, arena); /* A prefix that ends in a column of one byte. */
        }
        st = buf_printf(b, "/f%u", (unsigned)(r.rest.ptr[0] - UVAR_ZERO));
    }
    (void)st; /* Cut text at the limit is still text. */
    return !r.bad;
}

static const char *lead_text(uint8_t lead)
{
    switch (lead) {
    case KEY_PREFIX_RANGE_ID:
        return "/range-id/";
    case KEY_PREFIX_LOCAL:
        return "/local/";
    case KEY_PREFIX_LOCK:
        return "/lock/";
    case KEY_PREFIX_META1:
        return "/meta1/";
    case KEY_PREFIX_META2:
        return "/meta2/";
    case KEY_PREFIX_SYSTEM:
        return "/system/";
    default:
        return "/";
    }
}

const char *key_text(struct arena *arena, struct bytes key)
{
    struct buf b;
    const char *text = NULL;

    if (key.len == 0) {
        return "/min";
    }
    if (key.len == 1 && key.ptr[0] == KEY_PREFIX_END) {
        return "/max";
    }
    buf_init(&b, TEXT_LIMIT);
    if (key.ptr[0] < KEY_PREFIX_SQL_MIN || !put_row(&b, key, arena)) {
        buf_clear(&b);
        if (status_ok(buf_append_str(&b, lead_text(key.ptr[0])))) {
            put_hex(&b, key.ptr[0] < KEY_PREFIX_SQL_MIN ? bytes_skip(key, 1) : key);
        }
    }
    text = arena_strndup(arena, (const char *)b.ptr, b.len);
    buf_deinit(&b);
    return text == NULL ? "out of memory" : text;
}
