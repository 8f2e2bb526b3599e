/*
 * engine_internal.h -- what the two implementations of engine.h share.
 *
 * engine.c checks arguments, clamps seeks to the bounds and keeps moves away from invalid iterators
 * (RocksDB asserts on those), so that an implementation sees well-formed calls only.
 */
#pragma once

#include "node/storage/engine/engine.h"

struct engine_vtable {
    void (*close)(struct engine *e);
    struct status (*write)(struct engine *e, const struct engine_batch *b, bool sync);
    struct status (*get)(struct engine *e, enum engine_cf cf, struct bytes key,
                         enum engine_tier tier, struct arena *arena, struct bytes *out);
    struct status (*snap_acquire)(struct engine *e, struct engine_snap **out);
    void (*snap_release)(struct engine *e, struct engine_snap *s);
    struct status (*iter_open)(struct engine *e, const struct engine_iter_options *o,
                               struct engine_iter **out);
    void (*get_stats)(struct engine *e, struct engine_stats *out);
};

struct engine {
    const struct engine_vtable *v;
};

/* Each move fills valid, key, value and st of the base. `key` of the seeks lies within
 * the bounds. */
struct engine_iter_vtable {
    void (*close)(struct engine_iter *it);
    void (*seek)(struct engine_iter *it, struct bytes key);
    void (*seek_prev)(struct engine_iter *it, struct bytes key);
    void (*seek_first)(struct engine_iter *it);
    void (*seek_last)(struct engine_iter *it);
    void (*forward)(struct engine_iter *it);
    void (*backward)(struct engine_iter *it);
};

struct engine_iter {
    const struct engine_iter_vtable *v;
    struct bytes lower; /* Owned by the implementation, alive as long as the iterator. */
    struct bytes upper; /* Empty: none. */
    bool prefix;
    bool valid;
    struct bytes key;
    struct bytes value;
    struct status st;
};

/* `it` is zeroed memory with room for both bounds behind the implementation's struct. */
NOYIELD void engine__iter_init(struct engine_iter *it, const struct engine_iter_vtable *v,
                               const struct engine_iter_options *o, uint8_t *bounds);
