/*
 * type.c -- the table of types.
 *
 * Lookups are a linear search over some forty entries, of which the first dozen are what statements
 * ordinarily use. They happen while a statement is compiled and once per column when rows are
 * written out; running programs know the physical kind and never ask.
 */
#include "node/sql/types/type.h"

#include <string.h>

#include "node/base/hash.h"

static const struct type_desc types[] = {
#define X(id_, name_, sql_, len_, phys_, cat_, pref_, arr_, full_) \
    {id_, name_, sql_, len_, PHYS_##phys_, cat_, pref_, arr_, full_},
#include "node/sql/types/type.def"
#undef X
};

const struct type_desc *type_find(oid id)
{
    for (size_t i = 0; i < ARRAY_COUNT(types); i++) {
        if (types[i].id == id) {
            return &types[i];
        }
    }
    return NULL;
}

const struct type_desc *type_find_name(const char *name)
{
    for (size_t i = 0; i < ARRAY_COUNT(types); i++) {
        if (strcmp(types[i].name, name) == 0) {
            return &types[i];
        }
    }
    return NULL;
}

const char *type_sql_name(oid id)
{
    const struct type_desc *t = type_find(id);

    return t == NULL ? "???" : t->sql_name;
}

const char *type_format(oid id, int32_t typmod, struct arena *arena)
{
    const char *name = type_sql_name(id);

    if (typmod < 4 || (id != TYPE_VARCHAR && id != TYPE_BPCHAR)) {
        return name;
    }
    return arena_printf(arena, "%s(%d)", name, (int)(typmod - 4));
}

uint64_t datum_hash(enum type_phys phys, union datum d, uint64_t seed)
{
    double f = d.f64;

    switch (phys) {
    case PHYS_I64:
        return hash64(bytes_of(&d.i64, sizeof(d.i64)), seed);
    case PHYS_F64:
        if (f == 0) {
            f = 0; /* -0 equals 0. */
        } else if (f != f) {
            f = __builtin_nan("");
        }
        return hash64(bytes_of(&f, sizeof(f)), seed);
    case PHYS_BYTES:
        break;
    }
    return hash64(d.bytes, seed);
}

struct status datum_dup(enum type_phys phys, union datum d, struct arena *arena, union datum *out)
{
    if (phys != PHYS_BYTES) {
        *out = d;
        return OK;
    }
    return bytes_dup(arena, d.bytes, &out->bytes);
}
