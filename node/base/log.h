/*
 * log.h -- events, not sentences.
 *
 *     LOG_INFO("lease.started", U64("range", id.v), NS("took", took_ns));
 *
 * Names are `module.fact`, stable and listed in the folder's README. Values of users pass through
 * REDACT(). ERROR: someone must act, and a simulated run fails on it; WARN: we coped; INFO: a change
 * of state, not traffic; DEBUG: off unless asked for.
 *
 * Where events go is a property of the thread: each shard installs its sink when it starts. That
 * pointer is the one thread-local of `base`; handing a sink through every call would put it into
 * every signature and buy nothing.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "node/base/bytes.h"

enum log_level {
    LOG_LEVEL_DEBUG,
    LOG_LEVEL_INFO,
    LOG_LEVEL_WARN,
    LOG_LEVEL_ERROR,
};

enum log_kind {
    LOG_KIND_U64,
    LOG_KIND_I64,
    LOG_KIND_NS,
    LOG_KIND_STR,
    LOG_KIND_BYTES, /* Printed as hex when not plain text. */
};

struct log_field {
    const char *key;
    enum log_kind kind;
    union {
        uint64_t u64;
        int64_t i64;
        const char *str;
        struct bytes bytes;
    } v;
};

struct log_sink {
    enum log_level min_level;
    void (*emit)(struct log_sink *sink, enum log_level level, const char *name,
                 const struct log_field *fields, size_t count);
};

#define U64(k, x)   ((struct log_field){.key = (k), .kind = LOG_KIND_U64, .v.u64 = (uint64_t)(x)})
#define I64(k, x)   ((struct log_field){.key = (k), .kind = LOG_KIND_I64, .v.i64 = (int64_t)(x)})
#define NS(k, x)    ((struct log_field){.key = (k), .kind = LOG_KIND_NS, .v.u64 = (uint64_t)(x)})
#define STR(k, x)   ((struct log_field){.key = (k), .kind = LOG_KIND_STR, .v.str = (x)})
#define BYTES(k, x) ((struct log_field){.key = (k), .kind = LOG_KIND_BYTES, .v.bytes = (x)})
#define REDACT(k, x) \
    ((struct log_field){.key = (k), .kind = LOG_KIND_U64, .v.u64 = log_redact_hash(x)})

#define LOG_EVENT(level_, name_, ...)                               \
    do {                                                            \
        if (log_enabled(level_)) {                                  \
            const struct log_field log_fields_[] = {__VA_ARGS__};   \
            log_emit((level_), (name_), log_fields_,                \
                     sizeof(log_fields_) / sizeof(log_fields_[0])); \
        }                                                           \
    } while (0)
#define LOG_DEBUG(...) LOG_EVENT(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define LOG_INFO(...)  LOG_EVENT(LOG_LEVEL_INFO, __VA_ARGS__)
#define LOG_WARN(...)  LOG_EVENT(LOG_LEVEL_WARN, __VA_ARGS__)
#define LOG_ERROR(...) LOG_EVENT(LOG_LEVEL_ERROR, __VA_ARGS__)

/* Sink of this thread from now on; NULL drops everything. Borrowed. Returns the one before. */
NOYIELD struct log_sink *log_install(struct log_sink *sink);
NOYIELD bool log_enabled(enum log_level level);
NOYIELD void log_emit(enum log_level level, const char *name, const struct log_field *fields,
                      size_t count);
NOYIELD const char *log_level_text(enum log_level level);

/* One JSON line (without time) of an event into `out`, zero-terminated, cut at `size`. Returns its
 * length. */
NOYIELD size_t log_format(char *out, size_t size, enum log_level level, const char *name,
                          const struct log_field *fields, size_t count);
NOYIELD uint64_t log_redact_hash(struct bytes value);
