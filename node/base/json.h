/*
 * json.h -- writing JSON into a buffer.
 *
 * Commas are kept by a depth stack, so that callers only say what comes. Errors are sticky and asked
 * once, by json_end().
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/bytes.h"
#include "node/base/status.h"

#define JSON_DEPTH_MAX 16

struct json {
    struct buf *out;
    struct status st;
    uint32_t depth;
    bool comma[JSON_DEPTH_MAX]; /* Something stands before in this object or array. */
    bool after_key;
};

NOYIELD void json_begin(struct json *j, struct buf *out);
NOYIELD void json_object(struct json *j);     /* { */
NOYIELD void json_object_end(struct json *j); /* } */
NOYIELD void json_array(struct json *j);
NOYIELD void json_array_end(struct json *j);
NOYIELD void json_key(struct json *j, const char *key);
NOYIELD void json_str(struct json *j,
                      const char *s); /* NULL: null. Bytes below 0x20 are escaped. */
NOYIELD void json_u64(struct json *j, uint64_t v);
NOYIELD void json_i64(struct json *j, int64_t v);
NOYIELD void json_bool(struct json *j, bool v);
/* Errors: STATUS_MEMORY. */
NOYIELD NODISCARD struct status json_end(struct json *j);

/* Key and value at once. */
NOYIELD void json_kv_str(struct json *j, const char *key, const char *s);
NOYIELD void json_kv_u64(struct json *j, const char *key, uint64_t v);
NOYIELD void json_kv_bool(struct json *j, const char *key, bool v);
