/*
 * log.c -- finding the sink of this thread and writing an event as one JSON line.
 */
#include "node/base/log.h"

#include <stdarg.h>
#include <stdio.h>

#include "node/base/hash.h"

/* lint-allow(globals): events have no argument to travel with; each thread has one sink. */
static _Thread_local struct log_sink *current_sink;

struct log_sink *log_install(struct log_sink *sink)
{
    struct log_sink *before = current_sink;

    current_sink = sink;
    return before;
}

bool log_enabled(enum log_level level)
{
    return current_sink != NULL && level >= current_sink->min_level;
}

void log_emit(enum log_level level, const char *name, const struct log_field *fields, size_t count)
{
    if (log_enabled(level)) {
        current_sink->emit(current_sink, level, name, fields, count);
    }
}

const char *log_level_text(enum log_level level)
{
    switch (level) {
    case LOG_LEVEL_DEBUG:
        return "debug";
    case LOG_LEVEL_INFO:
        return "info";
    case LOG_LEVEL_WARN:
        return "warn";
    case LOG_LEVEL_ERROR:
        return "error";
    }
    return "unknown";
}

uint64_t log_redact_hash(struct bytes value)
{
    return hash64(value, 0x64737172u) & 0xFFFFFFu;
}

struct line {
    char *out;
    size_t size;
    size_t len;
};

static void line_add(struct line *l, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void line_add(struct line *l, const char *fmt, ...)
{
    va_list args;
    int n = 0;

    if (l->len + 1 >= l->size) {
        return;
    }
    va_start(args, fmt);
    n = vsnprintf(l->out + l->len, l->size - l->len, fmt, args);
    va_end(args);
    if (n > 0) {
        l->len += (size_t)n;
        l->len = l->len >= l->size ? l->size - 1 : l->len;
    }
}

static void line_add_text(struct line *l, struct bytes text)
{
    line_add(l, "\"");
    for (size_t i = 0; i < text.len; i++) {
        const uint8_t c = text.ptr[i];

        if (c == '"' || c == '\\') {
            line_add(l, "\\%c", c);
        } else if (c < 0x20 || c >= 0x7F) {
            line_add(l, "\\u%04x", c);
        } else {
            line_add(l, "%c", c);
        }
    }
    line_add(l, "\"");
}

static void line_add_field(struct line *l, const struct log_field *f)
{
    line_add(l, ",\"%s\":", f->key);
    switch (f->kind) {
    case LOG_KIND_U64:
        line_add(l, "%llu", (unsigned long long)f->v.u64);
        break;
    case LOG_KIND_I64:
        line_add(l, "%lld", (long long)f->v.i64);
        break;
    case LOG_KIND_NS:
        line_add(l, "\"%llu.%03llums\"", (unsigned long long)(f->v.u64 / 1000000u),
                 (unsigned long long)(f->v.u64 / 1000u % 1000u));
        break;
    case LOG_KIND_STR:
        line_add_text(l, bytes_str(f->v.str == NULL ? "" : f->v.str));
        break;
    case LOG_KIND_BYTES:
        line_add_text(l, f->v.bytes);
        break;
    }
}

size_t log_format(char *out, size_t size, enum log_level level, const char *name,
                  const struct log_field *fields, size_t count)
{
    struct line l = {out, size, 0};

    if (size == 0) {
        return 0;
    }
    out[0] = '\0';
    line_add(&l, "\"level\":\"%s\",\"event\":\"%s\"", log_level_text(level), name);
    for (size_t i = 0; i < count; i++) {
        line_add_field(&l, &fields[i]);
    }
    return l.len;
}
