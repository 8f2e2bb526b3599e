/*
 * datum.h -- one SQL value, and the types this server knows.
 *
 * A datum is 16 bytes; variable-length values are borrowed bytes. NULL is kept beside the value
 * (vectors keep a bitmap, rows an array of flags). Type OIDs are PostgreSQL's.
 *
 * Physical kinds: bool in i64 (0/1); int2/int4/int8/oid/timestamptz in i64; float8 in f64; text,
 * varchar, name, unknown in bytes. timestamptz counts microseconds since 2000-01-01 00:00 UTC;
 * INT64_MAX and INT64_MIN are +-infinity.
 */
#pragma once

#include <stdint.h>

#include "node/base/bytes.h"

typedef uint32_t oid;

enum type_oid {
    TYPE_INVALID = 0,
    TYPE_BOOL = 16,
    TYPE_BYTEA = 17,
    TYPE_NAME = 19,
    TYPE_INT8 = 20,
    TYPE_INT2 = 21,
    TYPE_INT4 = 23,
    TYPE_TEXT = 25,
    TYPE_OID = 26,
    TYPE_FLOAT4 = 700,
    TYPE_FLOAT8 = 701,
    TYPE_UNKNOWN = 705,
    TYPE_VARCHAR = 1043,
    TYPE_TIMESTAMPTZ = 1184,
    TYPE_NUMERIC = 1700,
    TYPE_UUID = 2950,
    TYPE_VOID = 2278,
};

union datum {
    int64_t i64;
    double f64;
    struct bytes bytes;
};
