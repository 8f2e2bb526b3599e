/*
 * json_read.h -- JSON text into a tree, for answers of the admin port and for demo.json.
 *
 * The whole of RFC 8259 but for one thing: numbers are kept as text and read as unsigned integers,
 * which is all that the admin port sends. Depth is limited. Writing is node/base/json.h.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/arena.h"
#include "node/base/bytes.h"
#include "node/base/status.h"

#define JSON_READ_DEPTH_MAX 32u

enum json_kind {
    JSON_NULL,
    JSON_BOOL,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT,
};

/* In the arena, zero-terminated texts. */
struct json_value {
    enum json_kind kind;
    bool truth;               /* Of a bool. */
    const char *text;         /* Of a string or a number. */
    const char *key;          /* In an object, else NULL. */
    struct json_value *first; /* Of an array or object, in the order of the text. */
    struct json_value *next;  /* Behind this one in the same array or object. */
};

/* Errors: STATUS_INVALID (the message says where), STATUS_MEMORY. */
NOYIELD NODISCARD struct status json_read(struct bytes text, struct arena *arena,
                                          const struct json_value **out);

/* All of these accept NULL and values of another kind. */
NOYIELD const struct json_value *json_get(const struct json_value *object, const char *key);
NOYIELD const char *json_get_str(const struct json_value *object, const char *key); /* Or "". */
/* 0 when it is not there, no whole number, or too large. */
NOYIELD uint64_t json_get_u64(const struct json_value *object, const char *key);
NOYIELD uint64_t json_as_u64(const struct json_value *v);
NOYIELD bool json_get_bool(const struct json_value *object, const char *key);
/* First child of an array or object under `key`, or NULL: for (v = json_items(...); v; v = v->next). */
NOYIELD const struct json_value *json_items(const struct json_value *object, const char *key);
