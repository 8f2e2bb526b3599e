/*
 * type.h -- descriptors of types; comparison and hashing of their values.
 *
 * One table (type.def). Types that are not `full` can be named but not used: whoever
 * resolves a name refuses them with 0A000.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/arena.h"
#include "node/base/status.h"
#include "node/sql/types/datum.h"

/* OIDs that datum.h does not need. */
enum type_oid_more {
    TYPE_CHAR = 18,
    TYPE_REGPROC = 24,
    TYPE_JSON = 114,
    TYPE_XML = 142,
    TYPE_POINT = 600,
    TYPE_CIDR = 650,
    TYPE_MONEY = 790,
    TYPE_INET = 869,
    TYPE_BPCHAR = 1042,
    TYPE_DATE = 1082,
    TYPE_TIME = 1083,
    TYPE_TIMESTAMP = 1114,
    TYPE_INTERVAL = 1186,
    TYPE_TIMETZ = 1266,
    TYPE_BIT = 1560,
    TYPE_VARBIT = 1562,
    TYPE_REGCLASS = 2205,
    TYPE_REGTYPE = 2206,
    TYPE_RECORD = 2249,
    TYPE_JSONB = 3802,
};

/* Which member of union datum holds a value. */
enum type_phys {
    PHYS_I64,
    PHYS_F64,
    PHYS_BYTES,
};

struct type_desc {
    oid id;
    const char *name;     /* pg_type.typname: "int4". */
    const char *sql_name; /* As messages print it: "integer". */
    int16_t len;          /* pg_type.typlen: -1 variable. */
    enum type_phys phys;
    char category;
    bool preferred; /* In its category. */
    oid array;      /* 0: none. */
    bool full;      /* Usable, not only nameable. */
};

#define TYPE_VARCHAR_MAX 10485760 /* Largest n of varchar(n). */
#define TYPE_TYPMOD_NONE (-1)

/* NULL: no such type. */
NOYIELD const struct type_desc *type_find(oid id);
/* By pg_type.typname ("int4"), case-sensitive as PostgreSQL after folding. */
NOYIELD const struct type_desc *type_find_name(const char *name);
/* For messages: "integer", "character varying"; "???" for an OID that is not in the table. */
NOYIELD const char *type_sql_name(oid id);
/* With the modifier: "character varying(10)"; in the arena. */
NOYIELD const char *type_format(oid id, int32_t typmod, struct arena *arena);

static inline bool type_is_int(oid id)
{
    return id == TYPE_INT2 || id == TYPE_INT4 || id == TYPE_INT8;
}

/* text, varchar, name: the same bytes, order and key encoding. */
static inline bool type_is_string(oid id)
{
    return id == TYPE_TEXT || id == TYPE_VARCHAR || id == TYPE_NAME;
}

/* -0 equals 0; NaN equals NaN and is greater than everything else, as PostgreSQL orders. */
static inline int float8_cmp(double a, double b)
{
    if (a != a || b != b) {
        return (a != a) - (b != b);
    }
    return (a > b) - (a < b);
}

/* Order of two values that are not NULL. Negative, 0 or positive. */
static inline int datum_cmp(enum type_phys phys, union datum a, union datum b)
{
    switch (phys) {
    case PHYS_I64:
        return (a.i64 > b.i64) - (a.i64 < b.i64);
    case PHYS_F64:
        return float8_cmp(a.f64, b.f64);
    case PHYS_BYTES:
        break;
    }
    return bytes_cmp(a.bytes, b.bytes);
}

/* Equal values have equal hashes. */
NOYIELD uint64_t datum_hash(enum type_phys phys, union datum d, uint64_t seed);

/* Copies what a datum borrows. Errors: STATUS_MEMORY. */
NOYIELD NODISCARD struct status datum_dup(enum type_phys phys, union datum d, struct arena *arena,
                                          union datum *out);
