/*
 * service.c -- signs of life of transactions that hold locks, and clean-up behind those that have ended.
 *
 * Once per second every transaction that has held something for that long gets a heartbeat at its record, on
 * a fiber of its own: a range that does not answer must not make others look dead. An answer that says
 * ABORTED dooms the transaction; it learns of it with its next statement.
 *
 * Clean-up is a bounded queue. What finds no place is dropped: whoever meets what was left settles it.
 */
#include <stdlib.h>

#include "node/base/invariant.h"
#include "node/txn/internal.h"

#define SETTLE_QUEUE_MAX       10000u
#define SETTLE_BYTES_MAX       ((size_t)64 << 20)
#define SETTLE_RUNNING_MAX     64u
#define HEARTBEATS_RUNNING_MAX 256u

struct txn_service {
    struct shard *shard;
    struct kv *kv;
    struct list live; /* Transactions. */
    struct list queue;
    struct list running;
    struct list beats;
    uint32_t queued;
    uint32_t running_count;
    uint32_t beats_count;
    size_t bytes; /* Of all jobs. */
    struct shard_timer timer;
    struct wait_queue idle; /* A fiber ended. */
    bool stopping;
    uint32_t plants;
};

/* ---- heartbeats --------------------------------------------------------------------------------- */

/* One on its way; the transaction may end meanwhile. */
struct beat {
    struct list link;
    struct txn_service *service;
    struct fiber *fiber;
    struct txn_ref ref;
    uint8_t anchor[];
};

static struct txn *find_live(struct txn_service *s, struct uuid id)
{
    LIST_FOREACH(it, &s->live) {
        struct txn *t = LIST_ENTRY(it, struct txn, link);

        if (uuid_eq(t->ref.id, id)) {
            return t;
        }
    }
    return NULL;
}

MAYYIELD static bool is_aborted(const struct txn_ref *ref, struct arena *arena)
{
    struct range_txn_args args = {.status = RANGE_TXN_PENDING};
    struct range_txn_info info = {0};
    const struct status st =
        txn__ask_record(ref, RANGE_OP_HEARTBEAT, &args,
                        env_mono_ns(shard_env(kv_shard(ref->kv))) + TXN_EXPIRY_NS, arena, &info);

    return st.code == STATUS_TXN_ABORTED || (status_ok(st) && info.status == RANGE_TXN_ABORTED);
}

MAYYIELD static void beat_fiber(void *arg)
{
    struct beat *b = arg;
    struct txn_service *s = b->service;
    struct txn *t = NULL;
    struct arena arena;
    bool aborted = false;

    b->fiber = fiber_current();
    arena_init(&arena, 0);
    aborted = is_aborted(&b->ref, &arena);
    arena_deinit(&arena);
    t = find_live(s, b->ref.id);
    if (t != NULL) {
        t->beating = false;
        t->doomed = t->doomed || aborted;
    }
    list_remove(&b->link);
    s->beats_count--;
    free(b);
    wait_queue_wake_all(&s->idle);
}

static void start_beat(struct txn_service *s, struct txn *t)
{
    struct beat *b = calloc(1, sizeof(*b) + t->ref.anchor.len);

    if (b == NULL) {
        return;
    }
    b->service = s;
    b->ref = t->ref;
    memcpy(b->anchor, t->ref.anchor.ptr, t->ref.anchor.len);
    b->ref.anchor = bytes_of(b->anchor, t->ref.anchor.len);
    if (!status_ok(fiber_spawn(s->shard, "txn.heartbeat", beat_fiber, b))) {
        free(b);
        return;
    }
    list_push_back(&s->beats, &b->link);
    s->beats_count++;
    t->beating = true;
}

static void start_jobs(struct txn_service *s);

static void tick(struct shard_timer *timer)
{
    struct txn_service *s =
        (struct txn_service *)(void *)((uint8_t *)timer - offsetof(struct txn_service, timer));
    const uint64_t now = env_mono_ns(shard_env(s->shard));

    LIST_FOREACH(it, &s->live) {
        struct txn *t = LIST_ENTRY(it, struct txn, link);

        if (!t->beating && !t->doomed && now - t->holds_since_ns >= TXN_HEARTBEAT_NS &&
            s->beats_count < HEARTBEATS_RUNNING_MAX) {
            start_beat(s, t);
        }
    }
    start_jobs(s);
    if (!list_empty(&s->live) || s->queued > 0) {
        shard_timer_arm_in(s->shard, &s->timer, TXN_HEARTBEAT_NS);
    }
}

static void arm(struct txn_service *s)
{
    if (s->timer.heap_slot == 0 && !s->stopping) {
        shard_timer_arm_in(s->shard, &s->timer, TXN_HEARTBEAT_NS);
    }
}

static void leave_cb(void *arg)
{
    txn__service_leave(arg);
}

void txn__service_enter(struct txn *t)
{
    if (t->service == NULL || t->service->stopping || !list_empty(&t->link) ||
        !status_ok(arena_defer(t->arena, leave_cb, t))) {
        return;
    }
    t->holds_since_ns = env_mono_ns(shard_env(t->service->shard));
    list_push_back(&t->service->live, &t->link);
    arm(t->service);
}

void txn__service_leave(struct txn *t)
{
    list_remove(&t->link);
}

/* ---- clean-up ----------------------------------------------------------------------------------- */

static void forget(struct txn_service *s, struct settle *job)
{
    s->bytes -= job->bytes;
    txn__settle_destroy(job);
}

MAYYIELD static void settle_fiber(void *arg)
{
    struct settle *job = arg;
    struct txn_service *s = job->service;

    job->fiber = fiber_current();
    txn__settle_run(job);
    list_remove(&job->link);
    s->running_count--;
    forget(s, job);
    start_jobs(s);
    wait_queue_wake_all(&s->idle);
}

static void start_jobs(struct txn_service *s)
{
    while (s->queued > 0 && s->running_count < SETTLE_RUNNING_MAX && !s->stopping) {
        struct settle *job = LIST_ENTRY(s->queue.next, struct settle, link);

        if (!status_ok(fiber_spawn(s->shard, "txn.settle", settle_fiber, job))) {
            arm(s); /* Later. */
            return;
        }
        list_remove(&job->link);
        list_push_back(&s->running, &job->link);
        s->queued--;
        s->running_count++;
    }
}

void txn__service_settle_later(struct txn_service *s, struct settle *job)
{
    if (s == NULL || s->stopping || s->queued >= SETTLE_QUEUE_MAX ||
        job->bytes > SETTLE_BYTES_MAX - s->bytes) {
        txn__settle_destroy(job);
        return;
    }
    job->service = s;
    s->bytes += job->bytes;
    list_push_back(&s->queue, &job->link);
    s->queued++;
    start_jobs(s);
}

void txn__service_settle(struct txn_service *s, struct settle *job)
{
    if (s != NULL) {
        txn__service_settle_later(s, job);
        return;
    }
    txn__settle_run(job);
    txn__settle_destroy(job);
}

/* ---- life --------------------------------------------------------------------------------------- */

struct status txn_service_create(struct shard *shard, struct kv *kv, struct txn_service **out)
{
    struct txn_service *s = calloc(1, sizeof(*s));

    if (s == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    s->shard = shard;
    s->kv = kv;
    s->timer.fn = tick;
    list_init(&s->live);
    list_init(&s->queue);
    list_init(&s->running);
    list_init(&s->beats);
    wait_queue_init(&s->idle);
    shard_set_slot(shard, SHARD_SLOT_TXN, s);
    *out = s;
    return OK;
}

static void drop_queue(struct txn_service *s)
{
    while (s->queued > 0) {
        struct settle *job = LIST_ENTRY(list_pop_front(&s->queue), struct settle, link);

        s->queued--;
        forget(s, job);
    }
}

static void cancel_all(struct txn_service *s)
{
    LIST_FOREACH(it, &s->running) {
        struct settle *job = LIST_ENTRY(it, struct settle, link);

        if (job->fiber != NULL) {
            fiber_cancel(job->fiber);
        }
    }
    LIST_FOREACH(it, &s->beats) {
        struct beat *b = LIST_ENTRY(it, struct beat, link);

        if (b->fiber != NULL) {
            fiber_cancel(b->fiber);
        }
    }
}

void txn_service_stop(struct txn_service *s, uint64_t deadline_ns)
{
    bool cancelled = false;

    while (s->queued + s->running_count > 0 && !cancelled) {
        cancelled = !status_ok(wait_queue_wait(&s->idle, deadline_ns));
    }
    s->stopping = true;
    shard_timer_disarm(s->shard, &s->timer);
    drop_queue(s);
    while (s->running_count + s->beats_count > 0) {
        cancel_all(s);
        if (wait_queue_wait(&s->idle, DEADLINE_NONE).code == STATUS_CANCELLED) {
            /* Everybody is told to end, we too; but the others work with what is ours. */
            fiber_clear_cancel(fiber_current());
            cancelled = true;
        }
    }
}

void txn_service_plant(struct txn_service *s, uint32_t plants)
{
    s->plants = plants;
}

bool txn__plant(const struct txn *t, enum txn_plant plant)
{
#ifdef DSQL_PLANTS
    return t->service != NULL && (t->service->plants & (uint32_t)plant) != 0;
#else
    UNUSED(t);
    UNUSED(plant);
    return false;
#endif
}

void txn_service_destroy(struct txn_service *s)
{
    if (s == NULL) {
        return;
    }
    INVARIANT(s->running_count == 0);
    INVARIANT(s->beats_count == 0);
    while (!list_empty(&s->live)) {
        struct txn *t = LIST_ENTRY(list_pop_front(&s->live), struct txn, link);

        t->service = NULL;
    }
    drop_queue(s);
    shard_timer_disarm(s->shard, &s->timer);
    shard_set_slot(s->shard, SHARD_SLOT_TXN, NULL);
    free(s);
}
