/*
 * cache.c -- which range holds a key, as far as this shard has heard.
 *
 * Descriptors lie in an array sorted by start key. It is always allowed to be wrong: whoever is asked
 * checks. It must not go back, though: a key that was known by generation g is never known by an older
 * descriptor while that one is cached, or two servers could send us to and fro.
 *
 * Invariants
 *   1. Cached descriptors do not overlap; of two that would, the higher generation stays.
 *   2. The array holds at most KV_CACHE_MAX; who was not used lately goes first.
 */
#include <stdlib.h>

#include "node/kv/internal.h"

static void cached_free(struct cached_range *c)
{
    if (c != NULL) {
        arena_deinit(&c->arena);
        free(c);
    }
}

static struct cached_range *cached_new(const struct range_desc *d)
{
    struct cached_range *c = calloc(1, sizeof(*c));

    if (c == NULL) {
        return NULL;
    }
    arena_init(&c->arena, 0);
    if (!status_ok(range_desc_dup(&c->arena, d, &c->desc))) {
        cached_free(c);
        return NULL;
    }
    return c;
}

/* Index of the first cached range that ends above `key`. */
static uint32_t find_index(const struct kv *kv, struct bytes key)
{
    uint32_t lo = 0;
    uint32_t hi = kv->count;

    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;

        if (bytes_cmp(kv->ranges[mid]->desc.end, key) <= 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

static void remove_at(struct kv *kv, uint32_t i)
{
    cached_free(kv->ranges[i]);
    memmove(&kv->ranges[i], &kv->ranges[i + 1], (kv->count - i - 1) * sizeof(kv->ranges[0]));
    kv->count--;
}

static bool make_room(struct kv *kv)
{
    const uint32_t cap = kv->cap == 0 ? 16 : kv->cap * 2;
    struct cached_range **grown = NULL;

    if (kv->count < kv->cap) {
        return true;
    }
    grown = realloc(kv->ranges, cap * sizeof(grown[0]));
    if (grown == NULL) {
        return false;
    }
    kv->ranges = grown;
    kv->cap = cap;
    return true;
}

/*
 * Cuts `d` down to the keys around `key` that no newer descriptor covers: what is known of its neighbours
 * since does not make it useless here. False: the key itself is covered by a newer one.
 */
static bool trim(const struct kv *kv, struct bytes key, struct range_desc *d)
{
    for (uint32_t i = find_index(kv, d->start);
         i < kv->count && bytes_cmp(kv->ranges[i]->desc.start, d->end) < 0; i++) {
        const struct range_desc *c = &kv->ranges[i]->desc;

        if (c->generation <= d->generation) {
            continue;
        }
        if (range_desc_contains(c, key)) {
            return false;
        }
        if (bytes_cmp(c->start, key) > 0) {
            d->end = c->start;
            return true;
        }
        d->start = c->end;
    }
    return true;
}

/* Second chance: the hand takes the first range that nobody has used since it came by last. */
static void evict_one(struct kv *kv)
{
    for (;; kv->hand++) {
        kv->hand = kv->hand >= kv->count ? 0 : kv->hand;
        if (!kv->ranges[kv->hand]->used) {
            remove_at(kv, kv->hand);
            return;
        }
        kv->ranges[kv->hand]->used = false;
    }
}

void kv__cache_insert(struct kv *kv, struct bytes key, const struct range_desc *whole)
{
    struct range_desc d = *whole;
    struct cached_range *c = NULL;
    store_id leader = {0};
    uint32_t i = 0;

    if (!trim(kv, key, &d)) {
        return;
    }
    c = cached_new(&d); /* First: its bounds may be those of neighbours that go. */
    i = find_index(kv, d.start);
    while (i < kv->count && bytes_cmp(kv->ranges[i]->desc.start, d.end) < 0) {
        if (kv->ranges[i]->desc.id.v == d.id.v) {
            leader = kv->ranges[i]->leader;
        }
        remove_at(kv, i);
    }
    if (kv->count >= KV_CACHE_MAX) {
        evict_one(kv);
        i = c == NULL ? 0 : find_index(kv, c->desc.start);
    }
    if (c == NULL || !make_room(kv)) {
        cached_free(c);
        return;
    }
    c->leader = leader;
    c->used = true;
    memmove(&kv->ranges[i + 1], &kv->ranges[i], (kv->count - i) * sizeof(kv->ranges[0]));
    kv->ranges[i] = c;
    kv->count++;
}

void kv__cache_evict(struct kv *kv, struct bytes key)
{
    const uint32_t i = find_index(kv, key);

    if (i < kv->count && range_desc_contains(&kv->ranges[i]->desc, key)) {
        remove_at(kv, i);
    }
}

/* The first range is not in the array. After it was split or has grown, the newer descriptor is right. */
struct cached_range *kv__cache_find(struct kv *kv, struct bytes key)
{
    const uint32_t i = find_index(kv, key);
    struct cached_range *c =
        i < kv->count && range_desc_contains(&kv->ranges[i]->desc, key) ? kv->ranges[i] : NULL;

    if (c != NULL) {
        c->used = true;
    }
    if (kv->first == NULL || !range_desc_contains(&kv->first->desc, key)) {
        return c;
    }
    return c != NULL && c->desc.generation > kv->first->desc.generation ? c : kv->first;
}

/* Ranges that end above the key just in front of `end`: the first of them whose end is not below `end`. */
struct cached_range *kv__cache_find_before(struct kv *kv, struct bytes end)
{
    const struct cached_range *f = kv->first;
    struct cached_range *c = NULL;
    uint32_t i = find_index(kv, end);

    if (i > 0 && bytes_eq(kv->ranges[i - 1]->desc.end, end)) {
        i--;
    }
    if (i < kv->count && bytes_cmp(kv->ranges[i]->desc.start, end) < 0) {
        c = kv->ranges[i];
        c->used = true;
    }
    if (f == NULL || bytes_cmp(f->desc.start, end) >= 0 || bytes_cmp(f->desc.end, end) < 0) {
        return c;
    }
    return c != NULL && c->desc.generation > f->desc.generation ? c : kv->first;
}

void kv__cache_clear(struct kv *kv)
{
    while (kv->count > 0) {
        remove_at(kv, kv->count - 1);
    }
    cached_free(kv->first);
    kv->first = NULL;
    free(kv->ranges);
    kv->ranges = NULL;
    kv->cap = 0;
}

void kv_set_first_range(struct kv *kv, const struct range_desc *d)
{
    struct cached_range *c = NULL;

    if (d->id.v != RANGE_FIRST_ID ||
        (kv->first != NULL && kv->first->desc.generation >= d->generation)) {
        return;
    }
    c = cached_new(d);
    if (c == NULL) {
        return;
    }
    c->leader = kv->first == NULL ? (store_id){0} : kv->first->leader;
    cached_free(kv->first);
    kv->first = c;
}

const struct range_desc *kv_first_range(const struct kv *kv)
{
    return kv->first == NULL ? NULL : &kv->first->desc;
}

void kv__learn(struct kv *kv, const struct range_desc *descs, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (descs[i].id.v == RANGE_FIRST_ID) {
            kv_set_first_range(kv, &descs[i]);
        } else {
            kv__cache_insert(kv, descs[i].start, &descs[i]);
        }
    }
}
