/*
 * latch.c -- points in a hash, guards in a list.
 *
 * A point blocks every later point of the same key, so a guard counts how many earlier points stand
 * in its way and starts when that count reaches zero. A release walks its own points' buckets and
 * takes one off the count of every later guard it met: the work is proportional to the conflicts.
 */
#include "node/range/conflict/latch.h"

#include <stdlib.h>

#include "node/base/hash.h"
#include "node/base/invariant.h"

void latches_init(struct latches *l)
{
    *l = (struct latches){.next_sequence = 1};
    list_init(&l->guards);
}

void latches_trim(struct latches *l)
{
    if (l->guards_count == 0) {
        free(l->buckets);
        l->buckets = NULL;
    }
}

static struct status make_buckets(struct latches *l)
{
    if (l->buckets != NULL) {
        return OK;
    }
    l->buckets = malloc(LATCH_BUCKETS * sizeof(l->buckets[0]));
    if (l->buckets == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    for (uint32_t i = 0; i < LATCH_BUCKETS; i++) {
        list_init(&l->buckets[i]);
    }
    return OK;
}

static struct list *bucket_of(struct latches *l, uint64_t hash)
{
    return &l->buckets[hash % LATCH_BUCKETS];
}

static bool same_key(const struct latch_point *a, const struct latch_point *b)
{
    return a->hash == b->hash && bytes_eq(a->key, b->key);
}

/* Later guards that wait for this one lose one blocker per point. */
static void unblock_later(struct latches *l, struct latch_point *p)
{
    LIST_FOREACH(it, bucket_of(l, p->hash)) {
        struct latch_point *other = LIST_ENTRY(it, struct latch_point, bucket_link);

        if (other->guard->sequence > p->guard->sequence && same_key(other, p)) {
            INVARIANT(other->guard->blockers > 0);
            if (--other->guard->blockers == 0) {
                completion_fire(&other->guard->ready);
            }
        }
    }
}

void latch_release(struct latches *l, struct latch_guard *g)
{
    for (uint32_t i = 0; i < g->count; i++) {
        unblock_later(l, &g->points[i]);
        list_remove(&g->points[i].bucket_link);
    }
    list_remove(&g->link);
    l->guards_count--;
    wait_queue_wake_all(&g->readers);
}

struct status latch_acquire(struct latches *l, struct latch_guard *g, uint64_t deadline_ns)
{
    struct status st = OK;

    if (l->guards_count >= LATCH_GUARDS_MAX) {
        return FAIL(STATUS_OVERLOADED, "too many writes under way on this range");
    }
    TRY(make_buckets(l));
    g->sequence = l->next_sequence++;
    g->blockers = 0;
    g->evaluated = false;
    g->ready = (struct completion){0};
    wait_queue_init(&g->readers);
    for (uint32_t i = 0; i < g->count; i++) {
        struct latch_point *p = &g->points[i];
        struct list *bucket = NULL;

        p->guard = g;
        p->hash = hash64(p->key, 0);
        bucket = bucket_of(l, p->hash);
        LIST_FOREACH(it, bucket) {
            const struct latch_point *other = LIST_ENTRY(it, struct latch_point, bucket_link);

            g->blockers += other->guard != g && same_key(other, p) ? 1 : 0;
        }
        list_push_back(bucket, &p->bucket_link);
    }
    list_push_back(&l->guards, &g->link);
    l->guards_count++;
    if (g->blockers > 0) {
        st = completion_wait(&g->ready, deadline_ns);
        if (!status_ok(st)) {
            latch_release(l, g);
        }
    }
    return st;
}

void latch_evaluated(struct latch_guard *g, struct hts ts)
{
    g->evaluated = true;
    g->ts = ts;
}

static bool guard_blocks(const struct latch_guard *g, const struct latch_guard *self, struct hts ts)
{
    return g != self && g->evaluated && hts_less_eq(g->ts, ts);
}

/* The first guard that a reader must wait for, or NULL. */
static struct latch_guard *find_blocker(struct latches *l, const struct latch_guard *self,
                                        struct bytes start, struct bytes end, struct hts ts)
{
    if (l->guards_count == 0) {
        return NULL;
    }
    if (end.len == 0) {
        const uint64_t hash = hash64(start, 0);

        LIST_FOREACH(it, bucket_of(l, hash)) {
            struct latch_point *p = LIST_ENTRY(it, struct latch_point, bucket_link);

            if (p->hash == hash && guard_blocks(p->guard, self, ts) && bytes_eq(p->key, start)) {
                return p->guard;
            }
        }
        return NULL;
    }
    LIST_FOREACH(it, &l->guards) {
        struct latch_guard *g = LIST_ENTRY(it, struct latch_guard, link);

        for (uint32_t i = 0; guard_blocks(g, self, ts) && i < g->count; i++) {
            if (bytes_cmp(start, g->points[i].key) <= 0 && bytes_cmp(g->points[i].key, end) < 0) {
                return g;
            }
        }
    }
    return NULL;
}

bool latch_blocks_read(struct latches *l, const struct latch_guard *self, struct bytes start,
                       struct bytes end, struct hts ts)
{
    return find_blocker(l, self, start, end, ts) != NULL;
}

struct status latch_wait_read(struct latches *l, const struct latch_guard *self, struct bytes start,
                              struct bytes end, struct hts ts, uint64_t deadline_ns)
{
    struct latch_guard *g = find_blocker(l, self, start, end, ts);

    while (g != NULL) {
        TRY(wait_queue_wait(&g->readers, deadline_ns));
        g = find_blocker(l, self, start, end, ts); /* We yielded: look again. */
    }
    return OK;
}
