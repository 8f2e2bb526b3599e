/*
 * parcel.c -- messages from one shard of the process to another.
 *
 * The receiver owns one queue under a mutex that is held for a few instructions. The first parcel
 * into an empty queue wakes the receiver's env; the others find it awake. The receiver looks at a
 * counter without the mutex, takes up to a round's worth at once and delivers outside of the lock, so
 * that a delivery may post again, to itself too.
 *
 * Invariant: a parcel that is not delivered yet is in exactly one queue, and a turn of the receiver
 * is due or under way.
 */
#include "node/base/invariant.h"
#include "node/runtime/shard_internal.h"

void parcel_queue_init(struct parcel_queue *q)
{
    INVARIANT(pthread_mutex_init(&q->mutex, NULL) == 0);
    list_init(&q->parcels);
    q->count = 0;
    atomic_init(&q->published, 0);
}

void parcel_queue_deinit(struct parcel_queue *q)
{
    LIST_FOREACH(it, &q->parcels) {
        struct shard_parcel *p = LIST_ENTRY(it, struct shard_parcel, link);

        list_remove(it);
        p->deliver(NULL, p);
    }
    INVARIANT(pthread_mutex_destroy(&q->mutex) == 0);
}

bool parcel_queue_waiting(struct parcel_queue *q)
{
    return atomic_load_explicit(&q->published, memory_order_acquire) > 0;
}

struct status shard_post_remote(struct shard *to, struct shard_parcel *p)
{
    struct parcel_queue *q = &to->inbox;
    uint32_t before = 0;

    INVARIANT(pthread_mutex_lock(&q->mutex) == 0);
    before = q->count;
    if (before < SHARD_PARCELS_MAX) {
        list_push_back(&q->parcels, &p->link);
        q->count++;
        atomic_store_explicit(&q->published, q->count, memory_order_release);
    }
    INVARIANT(pthread_mutex_unlock(&q->mutex) == 0);
    if (before == SHARD_PARCELS_MAX) {
        return FAIL(STATUS_OVERLOADED, "the queue of the receiving shard is full");
    }
    if (before == 0) {
        to->env->ops->wake_remote(to->env);
    }
    return OK;
}

static void take_round(struct parcel_queue *q, struct list *out)
{
    list_init(out);
    INVARIANT(pthread_mutex_lock(&q->mutex) == 0);
    for (uint32_t n = 0; n < SHARD_PARCELS_PER_ROUND && q->count > 0; n++) {
        list_push_back(out, list_pop_front(&q->parcels));
        q->count--;
    }
    atomic_store_explicit(&q->published, q->count, memory_order_release);
    INVARIANT(pthread_mutex_unlock(&q->mutex) == 0);
}

bool parcel_queue_deliver(struct shard *s)
{
    struct list batch;
    struct list *it = NULL;

    if (!parcel_queue_waiting(&s->inbox)) {
        return false;
    }
    take_round(&s->inbox, &batch);
    while ((it = list_pop_front(&batch)) != NULL) {
        struct shard_parcel *p = LIST_ENTRY(it, struct shard_parcel, link);

        p->deliver(s, p);
    }
    return true;
}
