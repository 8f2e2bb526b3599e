/*
 * text.c -- string kernels.
 *
 * All text is valid UTF-8 without NUL (types/type_io.c sees to that), so a character starts at every
 * byte that is no continuation byte, and searching bytes finds characters.
 *
 * LIKE walks text and pattern with one remembered restart: a `%` matches as little as possible, and on
 * a mismatch the last `%` takes one character more. Earlier ones need no second chance: what they would
 * skip further, the last one can skip as well. So it is O(text * pattern) without recursion.
 *
 * Letters change case for ASCII, Latin-1, Latin Extended-A, Greek and Cyrillic; other scripts keep
 * theirs. The mapping is our own so that it is the same on every machine.
 */
#include "node/sql/functions/text.h"

#include <string.h>

static bool too_large(struct eval *e)
{
    return eval_fail(e, "54000", "requested length too large");
}

size_t utf8_clip(struct bytes s, size_t max)
{
    size_t n = s.len < max ? s.len : max;

    while (n > 0 && n < s.len && (s.ptr[n] & 0xC0) == 0x80) {
        n--;
    }
    return n;
}

bool text_concat(struct eval *e, struct bytes a, struct bytes b, struct bytes *out)
{
    uint8_t *p = NULL;

    if (a.len == 0 || b.len == 0) {
        *out = a.len == 0 ? b : a;
        return true;
    }
    if (a.len + b.len > TEXT_RESULT_MAX) {
        return too_large(e);
    }
    p = eval_alloc(e, a.len + b.len);
    if (p == NULL) {
        return false;
    }
    memcpy(p, a.ptr, a.len);
    memcpy(p + a.len, b.ptr, b.len);
    *out = bytes_of(p, a.len + b.len);
    return true;
}

static uint32_t to_lower(uint32_t c)
{
    if ((c >= 'A' && c <= 'Z') || (c >= 0xC0 && c <= 0xDE && c != 0xD7) ||
        (c >= 0x391 && c <= 0x3A9 && c != 0x3A2) || (c >= 0x410 && c <= 0x42F)) {
        return c + 32;
    }
    if (c >= 0x400 && c <= 0x40F) {
        return c + 80;
    }
    if ((c >= 0x100 && c <= 0x137 && c != 0x130) || (c >= 0x14A && c <= 0x177) ||
        (c >= 0x460 && c <= 0x481)) {
        return c | 1;
    }
    if ((c >= 0x139 && c <= 0x148) || (c >= 0x179 && c <= 0x17E)) {
        return (c & 1) != 0 ? c + 1 : c;
    }
    return c == 0x178 ? 0xFF : c;
}

static uint32_t to_upper(uint32_t c)
{
    if ((c >= 'a' && c <= 'z') || (c >= 0xE0 && c <= 0xFE && c != 0xF7) ||
        (c >= 0x3B1 && c <= 0x3C9 && c != 0x3C2) || (c >= 0x430 && c <= 0x44F)) {
        return c - 32;
    }
    if (c >= 0x450 && c <= 0x45F) {
        return c - 80;
    }
    if ((c >= 0x100 && c <= 0x137 && c != 0x131) || (c >= 0x14A && c <= 0x177) ||
        (c >= 0x460 && c <= 0x481)) {
        return c & ~1u;
    }
    if ((c >= 0x139 && c <= 0x148) || (c >= 0x179 && c <= 0x17E)) {
        return (c & 1) == 0 ? c - 1 : c;
    }
    return c == 0xFF ? 0x178 : c;
}

/* Two-byte characters map to two-byte characters, so that the length never changes. */
bool text_case(struct eval *e, struct bytes a, bool upper, struct bytes *out)
{
    uint8_t *p = eval_alloc(e, a.len);

    if (p == NULL) {
        return false;
    }
    for (size_t i = 0; i < a.len;) {
        const uint8_t b = a.ptr[i];

        if (b < 0x80) {
            p[i++] = (uint8_t)(upper ? to_upper(b) : to_lower(b));
        } else if ((b & 0xE0) == 0xC0) {
            uint32_t c = (uint32_t)(b & 0x1F) << 6 | (a.ptr[i + 1] & 0x3F);

            c = upper ? to_upper(c) : to_lower(c);
            p[i++] = (uint8_t)(0xC0 | c >> 6);
            p[i++] = (uint8_t)(0x80 | (c & 0x3F));
        } else {
            p[i++] = b;
        }
    }
    *out = bytes_of(p, a.len);
    return true;
}

bool text_substr(struct eval *e, struct bytes s, int64_t from, int64_t count, bool to_end,
                 struct bytes *out)
{
    int64_t end = INT64_MAX;
    size_t start = 0;

    if (!to_end) {
        if (count < 0) {
            return eval_fail(e, "22011", "negative substring length not allowed");
        }
        end = from + count; /* Both are int4. */
    }
    if (end <= 1) {
        *out = BYTES_EMPTY;
        return true;
    }
    if (from < 1) {
        from = 1;
    }
    start = utf8_offset(s, (size_t)(from - 1));
    *out = bytes_skip(s, start);
    if (!to_end) {
        out->len = utf8_offset(*out, (size_t)(end - from));
    }
    return true;
}

static size_t first_char_size(struct bytes s)
{
    return utf8_offset(s, 1);
}

static size_t last_char_size(struct bytes s)
{
    size_t n = 1;

    while (n < s.len && (s.ptr[s.len - n] & 0xC0) == 0x80) {
        n++;
    }
    return n;
}

static bool set_has(struct bytes set, struct bytes c)
{
    while (set.len > 0) {
        const size_t n = first_char_size(set);

        if (bytes_eq(bytes_of(set.ptr, n), c)) {
            return true;
        }
        set = bytes_skip(set, n);
    }
    return false;
}

struct bytes text_trim(struct bytes s, struct bytes set, bool left, bool right)
{
    while (left && s.len > 0 && set_has(set, bytes_of(s.ptr, first_char_size(s)))) {
        s = bytes_skip(s, first_char_size(s));
    }
    while (right && s.len > 0) {
        const size_t n = last_char_size(s);

        if (!set_has(set, bytes_of(s.ptr + s.len - n, n))) {
            break;
        }
        s.len -= n;
    }
    return s;
}

/* A negative n means all but the last -n characters. */
struct bytes text_left(struct bytes s, int64_t n)
{
    if (n < 0) {
        n += (int64_t)utf8_length(s);
    }
    return bytes_of(s.ptr, n <= 0 ? 0 : utf8_offset(s, (size_t)n));
}

struct bytes text_right(struct bytes s, int64_t n)
{
    const int64_t len = (int64_t)utf8_length(s);
    const int64_t skip = n < 0 ? -n : len - n;

    return bytes_skip(s, utf8_offset(s, skip <= 0 ? 0 : (size_t)skip));
}

static const uint8_t *find(struct bytes s, struct bytes part)
{
    return part.len == 0 || s.len < part.len ? NULL : memmem(s.ptr, s.len, part.ptr, part.len);
}

bool text_replace(struct eval *e, struct bytes s, struct bytes from, struct bytes to,
                  struct bytes *out)
{
    size_t hits = 0;
    size_t at = 0;
    uint8_t *p = NULL;
    const uint8_t *hit = NULL;

    for (struct bytes rest = s; (hit = find(rest, from)) != NULL; hits++) {
        rest = bytes_skip(rest, (size_t)(hit - rest.ptr) + from.len);
    }
    if (hits == 0) {
        *out = s;
        return true;
    }
    if (to.len > 0 && hits > TEXT_RESULT_MAX / to.len) {
        return too_large(e);
    }
    p = eval_alloc(e, s.len - hits * from.len + hits * to.len);
    if (p == NULL) {
        return false;
    }
    while ((hit = find(s, from)) != NULL) {
        const size_t before = (size_t)(hit - s.ptr);

        memcpy(p + at, s.ptr, before);
        at += before;
        if (to.len > 0) {
            memcpy(p + at, to.ptr, to.len);
        }
        at += to.len;
        s = bytes_skip(s, before + from.len);
    }
    if (s.len > 0) {
        memcpy(p + at, s.ptr, s.len);
    }
    *out = bytes_of(p, at + s.len);
    return true;
}

int64_t text_position(struct bytes s, struct bytes part)
{
    const uint8_t *hit = find(s, part);

    if (part.len == 0) {
        return 1;
    }
    return hit == NULL ? 0 : (int64_t)utf8_length(bytes_of(s.ptr, (size_t)(hit - s.ptr))) + 1;
}

bool text_reverse(struct eval *e, struct bytes s, struct bytes *out)
{
    uint8_t *p = eval_alloc(e, s.len);
    size_t at = s.len;

    if (p == NULL) {
        return false;
    }
    *out = bytes_of(p, s.len);
    while (s.len > 0) {
        const size_t n = first_char_size(s);

        at -= n;
        memcpy(p + at, s.ptr, n);
        s = bytes_skip(s, n);
    }
    return true;
}

bool text_repeat(struct eval *e, struct bytes s, int64_t times, struct bytes *out)
{
    uint8_t *p = NULL;

    if (times <= 0 || s.len == 0) {
        *out = BYTES_EMPTY;
        return true;
    }
    if ((size_t)times > TEXT_RESULT_MAX / s.len) {
        return too_large(e);
    }
    p = eval_alloc(e, s.len * (size_t)times);
    if (p == NULL) {
        return false;
    }
    for (int64_t i = 0; i < times; i++) {
        memcpy(p + (size_t)i * s.len, s.ptr, s.len);
    }
    *out = bytes_of(p, s.len * (size_t)times);
    return true;
}

bool text_pad(struct eval *e, struct bytes s, int64_t width, struct bytes fill, bool left,
              struct bytes *out)
{
    const size_t have = utf8_length(s);
    size_t want = width < 0 ? 0 : (size_t)width;
    size_t fill_len = 0;
    uint8_t *p = NULL;

    if (want <= have || fill.len == 0) {
        *out = bytes_of(s.ptr, utf8_offset(s, want));
        return true;
    }
    want -= have;
    if (want > TEXT_RESULT_MAX / 4) {
        return too_large(e);
    }
    {
        const size_t fill_chars = utf8_length(fill);

        fill_len = want / fill_chars * fill.len + utf8_offset(fill, want % fill_chars);
    }
    p = eval_alloc(e, s.len + fill_len);
    if (p == NULL) {
        return false;
    }
    for (size_t i = 0; i < fill_len; i++) {
        p[(left ? 0 : s.len) + i] = fill.ptr[i % fill.len];
    }
    if (s.len > 0) {
        memcpy(p + (left ? fill_len : 0), s.ptr, s.len);
    }
    *out = bytes_of(p, s.len + fill_len);
    return true;
}

static size_t count_parts(struct bytes s, struct bytes by)
{
    const uint8_t *hit = NULL;
    size_t n = 1;

    while ((hit = find(s, by)) != NULL) {
        s = bytes_skip(s, (size_t)(hit - s.ptr) + by.len);
        n++;
    }
    return n;
}

bool text_split_part(struct eval *e, struct bytes s, struct bytes by, int64_t n, struct bytes *out)
{
    const uint8_t *hit = NULL;

    if (n == 0) {
        return eval_fail(e, "22023", "field position must not be zero");
    }
    if (n < 0) { /* From the end. */
        n += (int64_t)count_parts(s, by) + 1;
    }
    *out = BYTES_EMPTY;
    if (n <= 0) {
        return true;
    }
    for (; n > 1; n--) {
        hit = find(s, by);
        if (hit == NULL) {
            return true;
        }
        s = bytes_skip(s, (size_t)(hit - s.ptr) + by.len);
    }
    hit = find(s, by);
    *out = hit == NULL ? s : bytes_of(s.ptr, (size_t)(hit - s.ptr));
    return true;
}

static uint32_t decode_char(struct bytes s)
{
    const uint8_t *p = s.ptr;

    switch (first_char_size(s)) {
    case 1:
        return p[0];
    case 2:
        return (uint32_t)(p[0] & 0x1F) << 6 | (p[1] & 0x3F);
    case 3:
        return (uint32_t)(p[0] & 0x0F) << 12 | (uint32_t)(p[1] & 0x3F) << 6 | (p[2] & 0x3F);
    default:
        return (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3F) << 12 |
               (uint32_t)(p[2] & 0x3F) << 6 | (p[3] & 0x3F);
    }
}

int64_t text_ascii(struct bytes s)
{
    return s.len == 0 ? 0 : decode_char(s);
}

bool text_chr(struct eval *e, int64_t code, struct bytes *out)
{
    const uint32_t c = (uint32_t)code;
    uint8_t *p = eval_alloc(e, 4);
    size_t n = 0;

    if (p == NULL) {
        return false;
    }
    if (code == 0) {
        return eval_fail(e, "54000", "null character not permitted");
    }
    if (code < 0) {
        return eval_fail(e, "22023", "character number must be positive");
    }
    if (c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) {
        return eval_fail(e, "54000", "requested character too large for encoding: %u", c);
    }
    if (c < 0x80) {
        p[n++] = (uint8_t)c;
    } else if (c < 0x800) {
        p[n++] = (uint8_t)(0xC0 | c >> 6);
    } else if (c < 0x10000) {
        p[n++] = (uint8_t)(0xE0 | c >> 12);
        p[n++] = (uint8_t)(0x80 | (c >> 6 & 0x3F));
    } else {
        p[n++] = (uint8_t)(0xF0 | c >> 18);
        p[n++] = (uint8_t)(0x80 | (c >> 12 & 0x3F));
        p[n++] = (uint8_t)(0x80 | (c >> 6 & 0x3F));
    }
    if (c >= 0x80) {
        p[n++] = (uint8_t)(0x80 | (c & 0x3F));
    }
    *out = bytes_of(p, n);
    return true;
}

bool text_hex(struct eval *e, uint64_t v, struct bytes *out)
{
    uint8_t *p = eval_alloc(e, 16);
    size_t at = 16;

    if (p == NULL) {
        return false;
    }
    do {
        p[--at] = (uint8_t) "0123456789abcdef"[v & 15];
        v >>= 4;
    } while (v > 0);
    *out = bytes_of(p + at, 16 - at);
    return true;
}

/* Surrounds with `quote` and doubles it inside. */
static bool quote_with(struct eval *e, struct bytes s, uint8_t quote, bool escapes,
                       struct bytes *out)
{
    uint8_t *p = eval_alloc(e, s.len * 2 + 4);
    size_t n = 0;

    if (p == NULL) {
        return false;
    }
    if (escapes && memchr(s.ptr, '\\', s.len) != NULL) {
        p[n++] = 'E';
    } else {
        escapes = false;
    }
    p[n++] = quote;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == quote || (escapes && s.ptr[i] == '\\')) {
            p[n++] = s.ptr[i];
        }
        p[n++] = s.ptr[i];
    }
    p[n++] = quote;
    *out = bytes_of(p, n);
    return true;
}

bool text_quote_ident(struct eval *e, struct bytes s, struct bytes *out)
{
    bool plain = s.len > 0 && !(s.ptr[0] >= '0' && s.ptr[0] <= '9');

    for (size_t i = 0; i < s.len && plain; i++) {
        const uint8_t c = s.ptr[i];

        plain = (c >= 'a' && c <= 'z') || c == '_' || (c >= '0' && c <= '9');
    }
    if (plain) {
        *out = s;
        return true;
    }
    return quote_with(e, s, '"', false, out);
}

bool text_quote_literal(struct eval *e, struct bytes s, struct bytes *out)
{
    return quote_with(e, s, '\'', s.len > 0, out);
}

/* One pattern element against the text at s: 1 matched, 0 not, -1 the pattern ends in an escape. */
static int like_step(struct bytes *s, struct bytes *p)
{
    size_t n = 0;

    if (p->ptr[0] == '_') {
        n = first_char_size(*s);
        *p = bytes_skip(*p, 1);
        *s = bytes_skip(*s, n);
        return 1;
    }
    if (p->ptr[0] == '\\') {
        if (p->len == 1) {
            return -1;
        }
        if (p->ptr[1] != s->ptr[0]) {
            return 0;
        }
        *p = bytes_skip(*p, 2);
        *s = bytes_skip(*s, 1);
        return 1;
    }
    if (p->ptr[0] != s->ptr[0]) {
        return 0;
    }
    *p = bytes_skip(*p, 1);
    *s = bytes_skip(*s, 1);
    return 1;
}

/* 1, 0, or -1 when a character meets the escape character that ends the pattern. */
static int like_match(struct bytes s, struct bytes p)
{
    struct bytes retry_s = BYTES_EMPTY;
    struct bytes retry_p = BYTES_EMPTY;
    bool can_retry = false;

    for (;;) {
        if (p.len > 0 && p.ptr[0] == '%') {
            p = bytes_skip(p, 1);
            retry_s = s;
            retry_p = p;
            can_retry = true;
            continue;
        }
        if (s.len == 0) {
            return p.len == 0;
        }
        if (p.len > 0) {
            const int step = like_step(&s, &p);

            if (step != 0) {
                if (step < 0) {
                    return -1;
                }
                continue;
            }
        } else if (can_retry && retry_p.len == 0) {
            return 1; /* Ends in %. */
        }
        if (!can_retry || retry_s.len == 0) {
            return 0;
        }
        retry_s = bytes_skip(retry_s, first_char_size(retry_s));
        s = retry_s;
        p = retry_p;
    }
}

bool text_like(struct eval *e, struct bytes s, struct bytes pattern, bool any_case, bool negated,
               int64_t *out)
{
    int match = 0;

    if (any_case && (!text_case(e, s, false, &s) || !text_case(e, pattern, false, &pattern))) {
        return false;
    }
    match = like_match(s, pattern);
    if (match < 0) {
        return eval_fail(e, "22025", "LIKE pattern must not end with escape character");
    }
    *out = (match != 0) != negated;
    return true;
}

bool text_like_escape(struct eval *e, struct bytes pattern, struct bytes escape, struct bytes *out)
{
    uint8_t *p = eval_alloc(e, pattern.len * 2);
    bool after_escape = false;
    size_t n = 0;

    if (p == NULL) {
        return false;
    }
    if (utf8_length(escape) > 1) {
        (void)eval_fail(e, "22025", "invalid escape string");
        e->err->hint = "Escape string must be empty or one character.";
        return false;
    }
    while (pattern.len > 0) {
        const size_t size = first_char_size(pattern);

        if (!after_escape && escape.len > 0 && bytes_starts_with(pattern, escape)) {
            p[n++] = '\\';
            after_escape = true;
        } else {
            if (pattern.ptr[0] == '\\' && !after_escape) {
                p[n++] = '\\';
            }
            memcpy(p + n, pattern.ptr, size);
            n += size;
            after_escape = false;
        }
        pattern = bytes_skip(pattern, size);
    }
    *out = bytes_of(p, n);
    return true;
}
