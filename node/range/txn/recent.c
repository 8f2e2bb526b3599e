/*
 * recent.c -- a ring of commits in order of arrival, and a hash over it.
 *
 * The ring grows by doubling until its limit; then each newcomer takes the place of the oldest, whose
 * timestamp raises the bound of what is known. Slots of the hash hold positions in the ring; linear probing,
 * deletion by moving back what follows (Knuth 6.4, algorithm R), so that there are no tombstones.
 */
#include "node/range/txn/recent.h"

#include <stdlib.h>
#include <string.h>

#include "node/base/invariant.h"

#define FIRST_CAP 256u

struct commit {
    struct uuid txn;
    struct hts ts;
};

struct recent {
    struct commit *ring;
    uint32_t *slots; /* Position in the ring plus one; 0: free. Twice as many as the ring holds. */
    uint32_t cap;
    uint32_t count;
    uint32_t oldest;
    struct hts since;
};

/* Ids are random: their first bytes are as good as a hash. */
static uint32_t home(const struct recent *c, struct uuid txn)
{
    uint32_t h = 0;

    memcpy(&h, txn.b, sizeof(h));
    return h & (2 * c->cap - 1);
}

static uint32_t next(const struct recent *c, uint32_t slot)
{
    return (slot + 1) & (2 * c->cap - 1);
}

/* The slot of the transaction, or the free one where it would go. */
static uint32_t find_slot(const struct recent *c, struct uuid txn)
{
    uint32_t slot = home(c, txn);

    while (c->slots[slot] != 0 && !uuid_eq(c->ring[c->slots[slot] - 1].txn, txn)) {
        slot = next(c, slot);
    }
    return slot;
}

static void remove_slot(struct recent *c, uint32_t hole)
{
    const uint32_t mask = 2 * c->cap - 1;

    for (uint32_t i = next(c, hole); c->slots[i] != 0; i = next(c, i)) {
        const uint32_t want = home(c, c->ring[c->slots[i] - 1].txn);

        if (((i - want) & mask) >= ((i - hole) & mask)) {
            c->slots[hole] = c->slots[i];
            hole = i;
        }
    }
    c->slots[hole] = 0;
}

static bool grow(struct recent *c)
{
    const uint32_t cap = c->cap == 0 ? FIRST_CAP : 2 * c->cap;
    struct commit *ring = NULL;
    uint32_t *slots = NULL;

    if (cap > RECENT_COMMITS_MAX) {
        return false;
    }
    ring = calloc(cap, sizeof(ring[0]));
    slots = calloc((size_t)cap * 2, sizeof(slots[0]));
    if (ring == NULL || slots == NULL) {
        free(ring);
        free(slots);
        return false;
    }
    for (uint32_t i = 0; i < c->count; i++) {
        ring[i] = c->ring[(c->oldest + i) & (c->cap - 1)];
    }
    free(c->ring);
    free(c->slots);
    c->ring = ring;
    c->slots = slots;
    c->cap = cap;
    c->oldest = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        c->slots[find_slot(c, ring[i].txn)] = i + 1;
    }
    return true;
}

struct status recent_create(struct hts now, struct recent **out)
{
    struct recent *c = calloc(1, sizeof(*c));

    if (c == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    c->since = now;
    *out = c;
    return OK;
}

void recent_destroy(struct recent *c)
{
    if (c != NULL) {
        free(c->ring);
        free(c->slots);
        free(c);
    }
}

void recent_note(struct recent *c, struct uuid txn, struct hts ts)
{
    uint32_t at = 0;

    if (uuid_is_zero(txn)) {
        return;
    }
    if (c->count == c->cap && !grow(c)) {
        if (c->cap == 0) {
            c->since = hts_max(c->since, ts); /* No memory at all. */
            return;
        }
        c->since = hts_max(c->since, c->ring[c->oldest].ts);
        remove_slot(c, find_slot(c, c->ring[c->oldest].txn));
        c->oldest = (c->oldest + 1) & (c->cap - 1);
        c->count--;
    }
    if (c->slots[find_slot(c, txn)] != 0) {
        return; /* Applied again after a restart. */
    }
    at = (c->oldest + c->count) & (c->cap - 1);
    c->ring[at] = (struct commit){txn, ts};
    c->slots[find_slot(c, txn)] = at + 1;
    c->count++;
}

bool recent_find(const struct recent *c, struct uuid txn, struct hts *ts_out)
{
    uint32_t slot = 0;

    if (c->cap == 0) {
        return false;
    }
    slot = find_slot(c, txn);
    if (c->slots[slot] == 0) {
        return false;
    }
    *ts_out = c->ring[c->slots[slot] - 1].ts;
    return true;
}

struct hts recent_since(const struct recent *c)
{
    return c->since;
}
