/*
 * json_read.c -- a recursive descent with a depth argument.
 */
#include "cli/client/json_read.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct reader {
    const char *start;
    const char *at;
    const char *end;
    struct arena *arena;
};

static struct status read_value(struct reader *r, uint32_t depth, struct json_value *out);

static struct status bad(struct reader *r, const char *what)
{
    return FAIL(STATUS_INVALID, arena_printf(r->arena, "no valid JSON at byte %zu: %s",
                                             (size_t)(r->at - r->start), what));
}

static void skip_blanks(struct reader *r)
{
    while (r->at < r->end &&
           (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r')) {
        r->at++;
    }
}

static bool take(struct reader *r, char c)
{
    skip_blanks(r);
    if (r->at < r->end && *r->at == c) {
        r->at++;
        return true;
    }
    return false;
}

static bool take_word(struct reader *r, const char *word)
{
    const size_t n = strlen(word);

    if ((size_t)(r->end - r->at) >= n && memcmp(r->at, word, n) == 0) {
        r->at += n;
        return true;
    }
    return false;
}

/* ---- strings ------------------------------------------------------------------------------------- */

static bool hex4(struct reader *r, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        const char c = r->at < r->end ? *r->at : '\0';
        uint32_t digit = 0;

        if (c >= '0' && c <= '9') {
            digit = (uint32_t)(c - '0');
        } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
            digit = (uint32_t)((c | 0x20) - 'a') + 10;
        } else {
            return false;
        }
        *out = *out * 16 + digit;
    }
    return true;
}

static char *put_utf8(char *to, uint32_t c)
{
    if (c < 0x80) {
        *to++ = (char)c;
    } else if (c < 0x800) {
        *to++ = (char)(0xC0 | (c >> 6));
        *to++ = (char)(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
        *to++ = (char)(0xE0 | (c >> 12));
        *to++ = (char)(0x80 | ((c >> 6) & 0x3F));
        *to++ = (char)(0x80 | (c & 0x3F));
    } else {
        *to++ = (char)(0xF0 | (c >> 18));
        *to++ = (char)(0x80 | ((c >> 12) & 0x3F));
        *to++ = (char)(0x80 | ((c >> 6) & 0x3F));
        *to++ = (char)(0x80 | (c & 0x3F));
    }
    return to;
}

/* Behind "\u": one code unit, or a pair of surrogates. */
static struct status read_unicode(struct reader *r, char **to)
{
    uint32_t c = 0;
    uint32_t low = 0;

    if (!hex4(r, &c) || c == 0) {
        return bad(r, "four hexadecimal digits other than 0000 are expected");
    }
    if (c >= 0xD800 && c < 0xDC00) {
        if (!take_word(r, "\\u") || !hex4(r, &low) || low < 0xDC00 || low > 0xDFFF) {
            return bad(r, "half of a surrogate pair");
        }
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
    } else if (c >= 0xDC00 && c <= 0xDFFF) {
        return bad(r, "half of a surrogate pair");
    }
    *to = put_utf8(*to, c);
    return OK;
}

static struct status read_escape(struct reader *r, char **to)
{
    static const char from[] = "\"\\/bfnrt";
    static const char into[] = "\"\\/\b\f\n\r\t";
    const char *found = NULL;
    char c = '\0';

    if (r->at == r->end) {
        return bad(r, "the text ends inside a string");
    }
    c = *r->at++;
    if (c == 'u') {
        return read_unicode(r, to);
    }
    found = c == '\0' ? NULL : strchr(from, c);
    if (found == NULL) {
        return bad(r, "unknown escape");
    }
    *(*to)++ = into[found - from];
    return OK;
}

/* The opening quote was taken. No escape makes a text longer, so the source's length is room enough. */
static struct status read_string(struct reader *r, const char **out)
{
    const char *close = r->at;
    char *to = NULL;

    while (close < r->end && *close != '"') {
        close += *close == '\\' ? 2 : 1;
    }
    if (close >= r->end) {
        return bad(r, "the text ends inside a string");
    }
    to = arena_calloc(r->arena, (size_t)(close - r->at) + 1, 1);
    if (to == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    *out = to;
    while (*r->at != '"') {
        const char c = *r->at++;

        if (c == '\\') {
            TRY(read_escape(r, &to));
        } else if ((unsigned char)c < 0x20) {
            return bad(r, "control character in a string");
        } else {
            *to++ = c;
        }
    }
    r->at++;
    return OK;
}

/* ---- the rest ------------------------------------------------------------------------------------ */

static bool take_digits(struct reader *r)
{
    const char *from = r->at;

    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') {
        r->at++;
    }
    return r->at > from;
}

static struct status read_number(struct reader *r, struct json_value *out)
{
    const char *from = r->at;
    bool fine = true;

    (void)take_word(r, "-");
    fine = take_word(r, "0") || take_digits(r);
    if (fine && take_word(r, ".")) {
        fine = take_digits(r);
    }
    if (fine && r->at < r->end && (*r->at | 0x20) == 'e') {
        r->at++;
        if (r->at < r->end && (*r->at == '+' || *r->at == '-')) {
            r->at++;
        }
        fine = take_digits(r);
    }
    if (!fine) {
        return bad(r, "a value is expected");
    }
    out->kind = JSON_NUMBER;
    out->text = arena_strndup(r->arena, from, (size_t)(r->at - from));
    return out->text == NULL ? FAIL(STATUS_MEMORY, "out of memory") : OK;
}

static struct status read_key(struct reader *r, struct json_value *v)
{
    if (!take(r, '"')) {
        return bad(r, "a key in quotes is expected");
    }
    TRY(read_string(r, &v->key));
    return take(r, ':') ? OK : bad(r, "':' is expected");
}

/* The opening bracket was taken. */
static struct status read_items(struct reader *r, uint32_t depth, struct json_value *out)
{
    const char closing = out->kind == JSON_OBJECT ? '}' : ']';
    struct json_value **tail = &out->first;

    if (take(r, closing)) {
        return OK;
    }
    do {
        struct json_value *v = ARENA_NEW(r->arena, struct json_value);

        if (v == NULL) {
            return FAIL(STATUS_MEMORY, "out of memory");
        }
        if (out->kind == JSON_OBJECT) {
            TRY(read_key(r, v));
        }
        TRY(read_value(r, depth + 1, v));
        *tail = v;
        tail = &v->next;
    } while (take(r, ','));
    return take(r, closing) ? OK : bad(r, "',' or a closing bracket is expected");
}

static struct status read_value(struct reader *r, uint32_t depth, struct json_value *out)
{
    if (depth >= JSON_READ_DEPTH_MAX) {
        return bad(r, "nested too deeply");
    }
    if (take(r, '{')) {
        out->kind = JSON_OBJECT;
        return read_items(r, depth, out);
    }
    if (take(r, '[')) {
        out->kind = JSON_ARRAY;
        return read_items(r, depth, out);
    }
    if (take(r, '"')) {
        out->kind = JSON_STRING;
        return read_string(r, &out->text);
    }
    if (take_word(r, "true") || take_word(r, "false")) {
        out->kind = JSON_BOOL;
        out->truth = r->at[-2] == 'u';
        return OK;
    }
    if (take_word(r, "null")) {
        out->kind = JSON_NULL;
        return OK;
    }
    return read_number(r, out);
}

struct status json_read(struct bytes text, struct arena *arena, const struct json_value **out)
{
    struct reader r = {.start = (const char *)text.ptr,
                       .at = (const char *)text.ptr,
                       .end = (const char *)text.ptr + text.len,
                       .arena = arena};
    struct json_value *v = ARENA_NEW(arena, struct json_value);

    *out = NULL;
    if (v == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    if (text.len == 0) {
        return bad(&r, "the text is empty");
    }
    TRY(read_value(&r, 0, v));
    skip_blanks(&r);
    if (r.at != r.end) {
        return bad(&r, "something follows the value");
    }
    *out = v;
    return OK;
}

/* ---- asking -------------------------------------------------------------------------------------- */

const struct json_value *json_get(const struct json_value *object, const char *key)
{
    if (object == NULL || object->kind != JSON_OBJECT) {
        return NULL;
    }
    for (const struct json_value *v = object->first; v != NULL; v = v->next) {
        if (strcmp(v->key, key) == 0) {
            return v;
        }
    }
    return NULL;
}

const char *json_get_str(const struct json_value *object, const char *key)
{
    const struct json_value *v = json_get(object, key);

    return v != NULL && v->kind == JSON_STRING ? v->text : "";
}

uint64_t json_as_u64(const struct json_value *v)
{
    char *end = NULL;
    unsigned long long n = 0;

    if (v == NULL || v->kind != JSON_NUMBER || v->text[0] == '-') {
        return 0;
    }
    errno = 0;
    n = strtoull(v->text, &end, 10);
    return errno == 0 && *end == '\0' ? n : 0;
}

uint64_t json_get_u64(const struct json_value *object, const char *key)
{
    return json_as_u64(json_get(object, key));
}

bool json_get_bool(const struct json_value *object, const char *key)
{
    const struct json_value *v = json_get(object, key);

    return v != NULL && v->kind == JSON_BOOL && v->truth;
}

const struct json_value *json_items(const struct json_value *object, const char *key)
{
    const struct json_value *v = json_get(object, key);

    return v != NULL && (v->kind == JSON_ARRAY || v->kind == JSON_OBJECT) ? v->first : NULL;
}
