/*
 * map.h -- open-addressing hash map from uint64_t to a pointer.
 *
 * Iteration (map_next) is in slot order: deterministic for equal histories, but never use it where
 * the order shows. Bounded by `max`; NULL values are not stored.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "node/base/status.h"

struct map_slot {
    uint64_t key;
    void *value; /* NULL: empty. */
};

struct map {
    struct map_slot *slots;
    size_t cap; /* 0 or a power of two. */
    size_t count;
    size_t max;
};

NOYIELD void map_init(struct map *m, size_t max);
NOYIELD void map_deinit(struct map *m);

/* NULL when absent. */
NOYIELD void *map_get(const struct map *m, uint64_t key);

/* Adds or replaces. Errors: STATUS_OVERLOADED at max, STATUS_MEMORY. */
NOYIELD NODISCARD struct status map_put(struct map *m, uint64_t key, void *value);

/* Returns what was removed, or NULL. */
NOYIELD void *map_remove(struct map *m, uint64_t key);

/* *pos starts at 0; false at the end. Not valid across map_put and map_remove. */
NOYIELD bool map_next(const struct map *m, size_t *pos, uint64_t *key_out, void **value_out);
