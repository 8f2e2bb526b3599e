/*
 * map.c -- linear probing with backward-shift deletion, so that there are no tombstones to clean up.
 */
#include "node/base/map.h"

#include <stdlib.h>

#include "node/base/invariant.h"

#define CAP_FIRST 8u

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 32)) * 0xD6E8FEB86659FD93u;
    x = (x ^ (x >> 32)) * 0xD6E8FEB86659FD93u;
    return x ^ (x >> 32);
}

static size_t find_slot(const struct map *m, uint64_t key)
{
    size_t i = (size_t)mix(key) & (m->cap - 1);

    while (m->slots[i].value != NULL && m->slots[i].key != key) {
        i = (i + 1) & (m->cap - 1);
    }
    return i;
}

void map_init(struct map *m, size_t max)
{
    *m = (struct map){.max = max};
}

void map_deinit(struct map *m)
{
    free(m->slots);
    *m = (struct map){.max = m->max};
}

void *map_get(const struct map *m, uint64_t key)
{
    return m->cap == 0 ? NULL : m->slots[find_slot(m, key)].value;
}

static struct status grow(struct map *m)
{
    struct map next = {.cap = m->cap == 0 ? CAP_FIRST : m->cap * 2, .max = m->max};

    next.slots = calloc(next.cap, sizeof(next.slots[0]));
    if (next.slots == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    for (size_t i = 0; i < m->cap; i++) {
        if (m->slots[i].value != NULL) {
            next.slots[find_slot(&next, m->slots[i].key)] = m->slots[i];
            next.count++;
        }
    }
    free(m->slots);
    *m = next;
    return OK;
}

struct status map_put(struct map *m, uint64_t key, void *value)
{
    size_t i = 0;

    INVARIANT(value != NULL);
    if (map_get(m, key) == NULL && m->count >= m->max) {
        return FAIL(STATUS_OVERLOADED, "map is full");
    }
    if (m->cap == 0 || m->count >= m->cap - m->cap / 4) {
        TRY(grow(m));
    }
    i = find_slot(m, key);
    if (m->slots[i].value == NULL) {
        m->count++;
    }
    m->slots[i] = (struct map_slot){key, value};
    return OK;
}

void *map_remove(struct map *m, uint64_t key)
{
    size_t hole = 0;
    void *value = NULL;

    if (m->cap == 0) {
        return NULL;
    }
    hole = find_slot(m, key);
    value = m->slots[hole].value;
    if (value == NULL) {
        return NULL;
    }
    m->slots[hole].value = NULL;
    m->count--;
    for (size_t i = (hole + 1) & (m->cap - 1); m->slots[i].value != NULL;
         i = (i + 1) & (m->cap - 1)) {
        const size_t home = (size_t)mix(m->slots[i].key) & (m->cap - 1);

        if (((i - home) & (m->cap - 1)) >= ((i - hole) & (m->cap - 1))) {
            m->slots[hole] = m->slots[i];
            m->slots[i].value = NULL;
            hole = i;
        }
    }
    return value;
}

bool map_next(const struct map *m, size_t *pos, uint64_t *key_out, void **value_out)
{
    while (*pos < m->cap) {
        const struct map_slot *s = &m->slots[(*pos)++];

        if (s->value != NULL) {
            *key_out = s->key;
            *value_out = s->value;
            return true;
        }
    }
    return false;
}
