/*
 * json.c -- a writer that counts commas.
 */
#include "node/base/json.h"

#include "node/base/invariant.h"

void json_begin(struct json *j, struct buf *out)
{
    *j = (struct json){.out = out, .st = OK};
}

static void add(struct json *j, const char *s, size_t n)
{
    if (status_ok(j->st)) {
        j->st = buf_append(j->out, s, n);
    }
}

/* What goes in front of a value. */
static void value_starts(struct json *j)
{
    if (j->after_key) {
        j->after_key = false;
        return;
    }
    if (j->comma[j->depth]) {
        add(j, ",", 1);
    }
    j->comma[j->depth] = true;
}

static void open_level(struct json *j, const char *bracket)
{
    value_starts(j);
    add(j, bracket, 1);
    INVARIANT(j->depth + 1 < JSON_DEPTH_MAX);
    j->comma[++j->depth] = false;
}

static void close_level(struct json *j, const char *bracket)
{
    INVARIANT(j->depth > 0);
    j->depth--;
    add(j, bracket, 1);
}

void json_object(struct json *j)
{
    open_level(j, "{");
}

void json_object_end(struct json *j)
{
    close_level(j, "}");
}

void json_array(struct json *j)
{
    open_level(j, "[");
}

void json_array_end(struct json *j)
{
    close_level(j, "]");
}

static void add_text(struct json *j, const char *s)
{
    static const char hex[] = "0123456789abcdef";

    add(j, "\"", 1);
    for (; *s != '\0'; s++) {
        const unsigned char c = (unsigned char)*s;
        const char esc[] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};

        if (c == '"' || c == '\\') {
            add(j, "\\", 1);
            add(j, s, 1);
        } else if (c < 0x20) {
            add(j, esc, sizeof(esc));
        } else {
            add(j, s, 1);
        }
    }
    add(j, "\"", 1);
}

void json_key(struct json *j, const char *key)
{
    value_starts(j);
    add_text(j, key);
    add(j, ":", 1);
    j->after_key = true;
}

void json_str(struct json *j, const char *s)
{
    value_starts(j);
    if (s == NULL) {
        add(j, "null", 4);
    } else {
        add_text(j, s);
    }
}

void json_u64(struct json *j, uint64_t v)
{
    value_starts(j);
    if (status_ok(j->st)) {
        j->st = buf_printf(j->out, "%llu", (unsigned long long)v);
    }
}

void json_i64(struct json *j, int64_t v)
{
    value_starts(j);
    if (status_ok(j->st)) {
        j->st = buf_printf(j->out, "%lld", (long long)v);
    }
}

void json_bool(struct json *j, bool v)
{
    value_starts(j);
    add(j, v ? "true" : "false", v ? 4 : 5);
}

struct status json_end(struct json *j)
{
    INVARIANT(!status_ok(j->st) || j->depth == 0);
    return j->st;
}

void json_kv_str(struct json *j, const char *key, const char *s)
{
    json_key(j, key);
    json_str(j, s);
}

void json_kv_u64(struct json *j, const char *key, uint64_t v)
{
    json_key(j, key);
    json_u64(j, v);
}

void json_kv_bool(struct json *j, const char *key, bool v)
{
    json_key(j, key);
    json_bool(j, v);
}
