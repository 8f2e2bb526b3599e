/*
 * wait.c -- a request that met a lock: stand in the queue, and see to it that the queue moves.
 *
 * Most waits end by themselves within a round trip: the lock is released and the table wakes us. When
 * that does not happen for a while, we push the key's holders (lock_table_blockers()) at their anchors: coordinator may be dead, the transaction may be over already with only this key not settled yet, a read
 * may go below it, and above all a cycle of waits is found by pushes and nowhere else (txn/push.c). That is
 * why not only the first in the queue pushes.
 *
 * A push takes up to seconds and must not keep us from noticing that the lock was released. So each runs
 * in a fiber of its own, which nudges us when it has an answer:
 *
 *     waiting fiber  --- spawns --->  push fiber  --- o.send: PUSH --->  anchor
 *          |  sleeps in the queue         |
 *          | <-- woken by the table       | answer, then either nudges the waiter,
 *          | <-- nudged ------------------+ or frees itself if the waiter has gone
 *
 * The job belongs to both until `abandoned` or `done` is set; whoever comes second frees it. An abandoned
 * push that waits on this store is told to end, so that it is no edge of the graph any more; on other
 * stores it ends within WAIT_PUSH_NS.
 *
 * What a push has found out about a holder is carried out here: intents are settled by a RESOLVE at this
 * replica, locks in memory are taken out of the table, a STAGING transaction that nobody looks after is
 * recovered. Then the request tries again, and finds out by itself whether that was all.
 *
 * Every wait has a timer, and after every yield the replica is looked at again.
 *
 * Source: protocol reference 6.6, 6.7.
 */
#include <stdlib.h>

#include "node/base/invariant.h"
#include "node/range/internal.h"

#define WAIT_READER_NS       ((uint64_t)5000000)  /* An intent lives for one round. */
#define WAIT_LOCKER_NS       ((uint64_t)30000000) /* Nor is a lock held for long. */
#define WAIT_AGAIN_NS        ((uint64_t)100000000)
#define WAIT_LOOK_NS         ((uint64_t)1000000000) /* At the replica, if nothing happens. */
#define WAIT_PUSH_NS         ((uint64_t)3000000000)
#define WAIT_PUSH_SLACK_NS   ((uint64_t)2000000000)
#define WAIT_SETTLE_NS       ((uint64_t)5000000000)
#define WAIT_PUSHES_MAX      4u    /* Of one waiter at a time. */
#define WAIT_PUSHES_SENT_MAX 2000u /* Of a store. */

/* A push on its way: shared by the waiter and the push's fiber. */
struct wait_push {
    struct store *store;
    struct lock_waiter *waiter; /* NULL: abandoned. */
    bool done;
    uint64_t started_ns;
    struct lock_blocker blocker; /* Its bytes are in the arena, like those of args. */
    struct range_txn_args args;
    struct arena arena;
    struct status st;
    struct range_txn_info info;
    bool must_recover;
};

/* One call of wait__blocked(). */
struct waiting {
    struct replica *replica;
    const struct range_batch *batch;
    struct lock_waiter *w;
    enum mvcc_strength want;
    uint64_t deadline_ns;
    uint64_t give_up_ns; /* lock_timeout. */
    uint64_t push_ns;    /* When to push next. */
    struct wait_push *pushes[WAIT_PUSHES_MAX];
    uint32_t pushes_count;
};

static uint64_t mono_ns(const struct store *s)
{
    return env_mono_ns(shard_env(s->shard));
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* May the caller go on at all? Whether it may serve a timestamp it checks itself. */
static struct status check_here(const struct replica *r)
{
    if (r->life != REPLICA_INIT || r->locks == NULL || r->store->stopping || r->store->failed) {
        return FAIL(STATUS_NOT_LEADER, "the lease moved while a request was waiting");
    }
    return OK;
}

/* ---- settling ----------------------------------------------------------------------------------- */

/* The intent of a transaction that is over, or has to commit above `ts`, by a command of this range. */
MAYYIELD static struct status resolve(struct replica *r, const struct lock_blocker *b,
                                      enum range_txn_status status, struct hts ts,
                                      uint64_t deadline_ns)
{
    const struct range_txn_args args = {
        .txn = b->owner.txn, .anchor = b->owner.anchor, .status = status, .ts = ts};
    const struct range_request q = {.op = RANGE_OP_RESOLVE, .key = b->key, .args = &args};
    const struct range_batch batch = {.range = r->range, .requests = &q, .count = 1};
    struct range_result result;
    struct arena arena;

    arena_init(&arena, 0);
    store_execute(r->store, &batch, min_u64(deadline_ns, mono_ns(r->store) + WAIT_SETTLE_NS),
                  &arena, &result);
    arena_deinit(&arena);
    /* Its message may have lived in the arena. */
    return status_ok(result.st) ? OK : FAIL(result.st.code, "a lock could not be settled");
}

/* Takes a holder that is over out of the way, or its intent up. *b is ours: we yield. */
MAYYIELD static struct status settle(struct replica *r, const struct lock_blocker *b,
                                     enum range_txn_status status, struct hts ts,
                                     uint64_t deadline_ns)
{
    const struct hts moved = status == RANGE_TXN_PENDING ? ts : HTS_ZERO;

    if (b->strength == MVCC_INTENT) {
        TRY(resolve(r, b, status, ts, deadline_ns));
    }
    TRY(check_here(r));
    lock_table_update(r->locks, b->owner.txn, b->key, BYTES_EMPTY, moved);
    return OK;
}

/* ---- pushing ------------------------------------------------------------------------------------ */

/* Up to which time the batch reads, as far as that is not in the future: the holder shall commit above. */
static struct hts reads_up_to(const struct replica *r, const struct range_batch *b)
{
    const struct hts now = hclock_hts(hlc_now(r->store->hlc));
    struct hts ts = hts_max(b->read_ts, b->txn.global_limit);

    for (uint32_t i = 0; i < b->count; i++) {
        ts = b->requests[i].op == RANGE_OP_REFRESH ? hts_max(ts, b->txn.write_ts) : ts;
    }
    return hts_is_zero(b->read_ts) ? now : hts_min(ts, now);
}

static struct range_txn_args push_args(const struct replica *r, const struct range_batch *b,
                                       enum mvcc_strength want, const struct lock_blocker *blocker)
{
    return (struct range_txn_args){
        .txn = blocker->owner.txn,
        .min_ts = blocker->owner.min_ts,
        .seen_ts = blocker->since,
        .push = want == MVCC_NONE ? RANGE_PUSH_TIMESTAMP : RANGE_PUSH_ABORT,
        .ts = want == MVCC_NONE ? reads_up_to(r, b) : HTS_ZERO,
        .pusher = b->txn.id,
        .pusher_anchor = b->txn.anchor,
        .pusher_priority = b->txn.priority,
        .wait_ns = WAIT_PUSH_NS,
    };
}

/* Sends it; the answer's memory is in p->arena. */
MAYYIELD static void push_send(struct wait_push *p)
{
    struct store *s = p->store;
    const struct range_request q = {
        .op = RANGE_OP_PUSH, .key = p->blocker.owner.anchor, .args = &p->args};
    struct range_batch b = {.requests = &q, .count = 1};
    const uint64_t deadline = mono_ns(s) + p->args.wait_ns + WAIT_PUSH_SLACK_NS;
    struct range_result result = {.st = OK};

    p->st = s->o.send(s->o.send_ctx, &b, deadline, &p->arena, &result);
    p->st = status_ok(p->st) ? result.st : p->st;
    if (!status_ok(p->st)) {
        return;
    }
    if (result.responses[0].txn == NULL) {
        p->st = FAIL(STATUS_CORRUPT, "a push without an answer");
        return;
    }
    p->info = *result.responses[0].txn;
    p->must_recover = result.responses[0].found;
}

static void push_free(struct wait_push *p)
{
    arena_deinit(&p->arena);
    free(p);
}

MAYYIELD static void push_body(void *arg)
{
    struct wait_push *p = arg;
    struct store *s = p->store;

    if (p->waiter != NULL) { /* Not given up before its first turn. */
        push_send(p);
    }
    p->done = true;
    s->pushes.sent--;
    s->fibers--;
    if (p->waiter != NULL) {
        lock_table_nudge(p->waiter);
    } else {
        push_free(p);
    }
    if (s->stopping) {
        wait_queue_wake_all(&s->idle);
    }
}

static struct wait_push *push_create(const struct waiting *x, const struct lock_blocker *b)
{
    struct wait_push *p = calloc(1, sizeof(*p));

    if (p == NULL) {
        return NULL;
    }
    p->store = x->replica->store;
    p->waiter = x->w;
    p->started_ns = mono_ns(p->store);
    p->blocker = *b;
    p->args = push_args(x->replica, x->batch, x->want, b);
    arena_init(&p->arena, 0);
    if (!status_ok(bytes_dup(&p->arena, b->key, &p->blocker.key)) ||
        !status_ok(bytes_dup(&p->arena, b->owner.anchor, &p->blocker.owner.anchor)) ||
        !status_ok(bytes_dup(&p->arena, p->args.pusher_anchor, &p->args.pusher_anchor))) {
        push_free(p);
        return NULL;
    }
    return p;
}

static bool is_pushed(const struct waiting *x, struct uuid txn)
{
    for (uint32_t i = 0; i < x->pushes_count; i++) {
        if (uuid_eq(x->pushes[i]->args.txn, txn)) {
            return true;
        }
    }
    return false;
}

/* One push. Without memory or too many of them: later. */
static void push_start(struct waiting *x, const struct lock_blocker *b)
{
    struct store *s = x->replica->store;
    struct wait_push *p = NULL;

    if (s->pushes.sent >= WAIT_PUSHES_SENT_MAX || is_pushed(x, b->owner.txn)) {
        return;
    }
    p = push_create(x, b);
    if (p == NULL) {
        return;
    }
    if (!status_ok(fiber_spawn(s->shard, "range.push", push_body, p))) {
        push_free(p);
        return;
    }
    s->pushes.sent++;
    s->fibers++;
    x->pushes[x->pushes_count++] = p;
}

static void push_forget(struct waiting *x, uint32_t i)
{
    struct wait_push *p = x->pushes[i];

    x->pushes[i] = x->pushes[--x->pushes_count];
    if (p->done) {
        push_free(p);
        return;
    }
    p->waiter = NULL;
    if (!uuid_is_zero(p->args.pusher)) {
        push__withdraw(p->store, p->args.txn, p->args.pusher);
    }
}

static void push_forget_all(struct waiting *x)
{
    while (x->pushes_count > 0) {
        push_forget(x, x->pushes_count - 1);
    }
}

/* Every holder in the way is pushed; who is not in the way any more need not be. */
static void push_all(struct waiting *x)
{
    struct lock_blocker b[WAIT_PUSHES_MAX];
    const uint32_t count = lock_table_blockers(x->w, b, WAIT_PUSHES_MAX);

    for (uint32_t i = x->pushes_count; i-- > 0;) {
        bool still = false;

        for (uint32_t k = 0; k < count; k++) {
            still = still || uuid_eq(b[k].owner.txn, x->pushes[i]->args.txn);
        }
        if (!still && !x->pushes[i]->done) {
            push_forget(x, i);
        }
    }
    for (uint32_t k = 0; k < count && x->pushes_count < WAIT_PUSHES_MAX; k++) {
        if (x->replica->store->o.send != NULL) {
            push_start(x, &b[k]);
        }
    }
    x->push_ns = mono_ns(x->replica->store) + WAIT_AGAIN_NS;
}

/* ---- answers ------------------------------------------------------------------------------------ */

/* A push was answered. *settled: the request may try again. Yields; `p` is the caller's. */
MAYYIELD static struct status use_answer(struct waiting *x, struct wait_push *p, bool *settled)
{
    struct store *s = x->replica->store;
    struct range_txn_info *i = &p->info;
    const bool reads = p->args.push == RANGE_PUSH_TIMESTAMP;

    *settled = false;
#ifdef DSQL_PLANTS
    if (i->status == RANGE_TXN_STAGING && (s->o.plants & STORE_PLANT_RESOLVE_EARLY) != 0) {
        i->status = RANGE_TXN_COMMITTED;
    }
#endif
    if (i->status == RANGE_TXN_STAGING && p->must_recover) {
        const struct range_txn_info staging = *i;

        TRY(recover__txn(s, p->blocker.owner.anchor, &staging,
                         min_u64(x->deadline_ns, mono_ns(s) + WAIT_SETTLE_NS), &p->arena, i));
        TRY(check_here(x->replica));
    }
    if (i->status == RANGE_TXN_COMMITTED || i->status == RANGE_TXN_ABORTED) {
        const struct finished_txn *f = NULL;

        finished_add(&s->finished, p->args.txn, i->status, i->ts);
        f = finished_find(&s->finished, p->args.txn);
        TRY(settle(x->replica, &p->blocker, f->status, f->ts, x->deadline_ns));
        *settled = true;
    } else if (i->status == RANGE_TXN_PENDING && reads && hts_less_eq(p->args.ts, i->ts)) {
        TRY(settle(x->replica, &p->blocker, RANGE_TXN_PENDING, hts_next(p->args.ts),
                   x->deadline_ns));
        *settled = true;
    }
    return OK;
}

/* These concern the request itself; with all others the push is repeated later. */
static bool is_verdict(enum status_code code)
{
    return code == STATUS_DEADLOCK || code == STATUS_TXN_RETRY || code == STATUS_CANCELLED;
}

/* Looks at what the pushes have brought. *settled: try the request again. */
MAYYIELD static struct status reap(struct waiting *x, bool *settled)
{
    *settled = false;
    for (uint32_t i = x->pushes_count; i-- > 0 && !*settled;) {
        struct wait_push *p = x->pushes[i];
        struct status st = p->st;

        if (!p->done) {
            continue;
        }
        x->pushes[i] = x->pushes[--x->pushes_count]; /* From here on it is only ours. */
        if (status_ok(st)) {
            st = use_answer(x, p, settled);
            /* Nobody has found out anything about ourselves there. */
            st = is_verdict(st.code) && st.code != STATUS_CANCELLED
                     ? FAIL(STATUS_UNAVAILABLE, "recovery did not succeed")
                     : st;
        }
        /* A push that came back after waiting is sent again at once, others after a pause. */
        if (status_ok(st) && mono_ns(p->store) - p->started_ns >= p->args.wait_ns) {
            x->push_ns = mono_ns(p->store);
        }
        st = status_ok(st) ? OK : FAIL(st.code, status_code_text(st.code));
        push_free(p);
        if (is_verdict(st.code)) {
            return st;
        }
    }
    return check_here(x->replica);
}

/* ---- waiting ------------------------------------------------------------------------------------ */

/* Until the next thing happens. Errors: those of the request's end. */
MAYYIELD static struct status wait_once(struct waiting *x)
{
    struct store *s = x->replica->store;
    const uint64_t now = mono_ns(s);
    const uint64_t until =
        min_u64(min_u64(x->deadline_ns, x->give_up_ns), min_u64(x->push_ns, now + WAIT_LOOK_NS));
    const struct status st = lock_table_wait(x->w, until);

    if (status_ok(st) || st.code != STATUS_TIMEOUT) {
        return st;
    }
    TRY(fiber_check()); /* A deadline of the fiber would make each wait end at once. */
    if (mono_ns(s) >= x->give_up_ns) {
        return FAIL(STATUS_LOCKED, "lock timeout");
    }
    return mono_ns(s) >= x->deadline_ns ? FAIL(STATUS_TIMEOUT, "timed out waiting for a lock") : OK;
}

MAYYIELD static struct status wait_until_free(struct waiting *x)
{
    bool settled = false;

    while (!settled && !x->w->woken) {
        TRY(wait_once(x));
        TRY(check_here(x->replica));
        if (x->w->woken) {
            break;
        }
        TRY(reap(x, &settled));
        if (!settled && !x->w->woken && mono_ns(x->replica->store) >= x->push_ns) {
            push_all(x);
        }
    }
    return OK;
}

static struct status locked(void)
{
    return FAIL(STATUS_LOCKED, "locked by another transaction");
}

/* NOWAIT means not to wait for a transaction; that it is one is asked for. */
MAYYIELD static struct status refuse_unless_over(struct replica *r, const struct range_batch *b,
                                                 const struct lock_blocker *blocker,
                                                 uint64_t deadline_ns)
{
    struct waiting x = {.replica = r, .batch = b, .want = MVCC_EXCLUSIVE};
    struct wait_push *p = NULL;
    bool settled = false;

    if (blocker->is_waiter || blocker->owner.anchor.len == 0 || r->store->o.send == NULL) {
        return locked();
    }
    p = push_create(&x, blocker);
    if (p == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    x.deadline_ns = deadline_ns;
    p->args.push = RANGE_PUSH_TOUCH;
    p->args.wait_ns = 0;
    push_send(p);
    if (status_ok(p->st) && status_ok(check_here(r))) {
        status_ignore(use_answer(&x, p, &settled)); /* Then it is locked as far as we know. */
    }
    push_free(p);
    return settled ? OK : locked();
}

/* A holder that is known to be over needs no push. *settled: it was one; try again. */
MAYYIELD static struct status settle_known(struct replica *r, const struct lock_blocker *blocker,
                                           uint64_t deadline_ns, bool *settled)
{
    const struct finished_txn *f = finished_find(&r->store->finished, blocker->owner.txn);
    struct lock_blocker mine = *blocker;
    struct arena arena;
    struct status st = OK;

    *settled = f != NULL && !blocker->is_waiter;
    if (!*settled) {
        return OK;
    }
    arena_init(&arena, 0);
    TRY_OUT(bytes_dup(&arena, blocker->key, &mine.key));
    TRY_OUT(bytes_dup(&arena, blocker->owner.anchor, &mine.owner.anchor));
    st = settle(r, &mine, f->status, f->ts, deadline_ns);
    if (!status_ok(st) && status_ok(check_here(r))) {
        st = fiber_sleep(WAIT_LOCKER_NS); /* Whatever it was, it was not our request. */
    }
out:
    arena_deinit(&arena);
    return st;
}

struct status wait__blocked(struct replica *r, const struct range_batch *b, struct lock_waiter *w,
                            const struct lock_blocker *blocker, enum mvcc_strength want,
                            uint64_t deadline_ns)
{
    const struct lock_owner who = {b->txn.id, b->txn.anchor, b->txn.min_ts, b->txn.priority};
    const uint64_t now = mono_ns(r->store);
    struct waiting x = {
        .replica = r,
        .batch = b,
        .w = w,
        .want = want,
        .deadline_ns = deadline_ns,
        .give_up_ns = UINT64_MAX,
        .push_ns = now + (want == MVCC_NONE ? WAIT_READER_NS : WAIT_LOCKER_NS),
    };
    bool settled = false;
    struct status st = OK;

    TRY(settle_known(r, blocker, deadline_ns, &settled));
    if (settled) {
        return OK;
    }
    if (b->wait == RANGE_WAIT_ERROR) {
        return refuse_unless_over(r, b, blocker, deadline_ns);
    }
    w->waiting_since_ns = w->waiting_since_ns == 0 ? now : w->waiting_since_ns;
    if (b->lock_wait_ns > 0 && b->lock_wait_ns < UINT64_MAX - w->waiting_since_ns) {
        x.give_up_ns = w->waiting_since_ns + b->lock_wait_ns;
    }
    TRY(lock_table_enqueue(r->locks, w, &who, want, blocker->key));
    st = wait_until_free(&x);
    push_forget_all(&x);
    return st;
}
