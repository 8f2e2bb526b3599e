/*
 * push.c -- where transactions wait for transactions, and how cycles of waits are broken.
 *
 * A push comes to the leaseholder of the pushee's anchor, where it is known how the pushee stands. It is
 * answered at once if the pushee is over, has shown no life for too long (it is aborted then), or only has
 * to commit above a timestamp (a marker is left). Otherwise it waits here; push__changed() wakes it.
 *
 * Marker first, record second: a command that stages or commits the pushee either is evaluated behind the
 * marker and heeds it, or was evaluated before, and record__read() waits for it and tells of it.
 *
 * A waiting push is an edge pusher -> pushee of the graph of waits. From time to time it asks the anchor of
 * its own pusher who waits for that one, and keeps the edges it is told:
 *
 *     known(P -> H) = edges(P),  asked at P's anchor
 *     edges(T)      = all pushes X -> T that wait at T's anchor, with known(X -> T), and on from X as far
 *                     as the pushes of this store go
 *
 * so that edges travel along the waits, one store per question. When the pushee reaches the pusher over known
 * edges there is a cycle. Its members are on that path, and everybody who finds the cycle finds the same
 * victim: the one with the lowest (priority, id). The victim's own push ends with STATUS_DEADLOCK; should
 * that not help (its answer was lost), who waits for the victim aborts it by force.
 *
 * Edges are taken anew with each answer, never added to old ones, and edges(T) takes edges that end at T
 * only from the pushes that wait here: what has gone disappears from the graph. A cycle counts when two
 * answers in a row show it.
 *
 * Whoever lost a lease wakes all pushes there; they come again where the lease is. Nothing here is
 * replicated, and losing it costs a little time.
 *
 * Source: protocol reference 5.11, 6.6, 6.7; CockroachDB's txnwait. Differs: edges instead of sets of
 * dependents.
 */
#include "node/base/hash.h"
#include "node/base/invariant.h"
#include "node/range/internal.h"

#define PUSH_WAIT_MAX_NS     ((uint64_t)5000000000)
#define PUSH_ASK_FIRST_NS    ((uint64_t)20000000) /* Short waits are the rule: no questions. */
#define PUSH_ASK_OFTEN_NS    ((uint64_t)50000000)
#define PUSH_ASK_LATER_NS    ((uint64_t)250000000)
#define PUSH_ASKS_OFTEN      20u
#define PUSH_ASK_DEADLINE_NS ((uint64_t)500000000)
#define CYCLE_ANSWERS        2u  /* Show it before the victim gives way, */
#define CYCLE_ANSWERS_FORCE  10u /* or is made to. */

/* One push; on the stack of its fiber. */
struct push_wait {
    struct push_wait *next; /* Of the bucket, while queued. */
    bool queued;
    bool stopped;   /* The lease has gone. */
    bool withdrawn; /* Nobody waits for the answer any more. */
    struct replica *replica;
    struct bytes anchor; /* Of the pushee. */
    const struct range_txn_args *args;
    struct completion changed;
    uint64_t until_ns;
    uint64_t deadline_ns;
    uint64_t ask_ns; /* When to ask next. */
    uint32_t asks;
    uint32_t cycle_answers;             /* In a row. */
    bool force;                         /* The pushee is the victim, and does not give way. */
    struct arena memory;                /* Of waits. */
    const struct range_txn_wait *waits; /* For the pusher, directly or not. */
    uint32_t waits_count;
    bool unwanted; /* As of the last answer nobody waits for the pusher. */
    struct range_txn_info info;
    bool must_recover;
};

static uint64_t mono_ns(const struct replica *r)
{
    return env_mono_ns(shard_env(r->store->shard));
}

static struct hts clock_of(const struct replica *r)
{
    return hclock_hts(hlc_now(r->store->hlc));
}

static bool is_over(const struct range_txn_info *i)
{
    return i->status == RANGE_TXN_COMMITTED || i->status == RANGE_TXN_ABORTED;
}

/* ---- the queue ---------------------------------------------------------------------------------- */

static struct push_wait **bucket_of(struct store *s, struct uuid pushee)
{
    return &s->pushes.buckets[hash64(bytes_of(pushee.b, sizeof(pushee.b)), 0) % PUSH_BUCKETS];
}

static struct status enter(struct push_wait *p)
{
    struct push_waits *all = &p->replica->store->pushes;
    struct push_wait **bucket = bucket_of(p->replica->store, p->args->txn);

    if (p->queued) {
        return OK;
    }
    if (all->count >= PUSH_WAITS_MAX) {
        return FAIL(STATUS_OVERLOADED, "too many transactions wait for others (PUSH_WAITS_MAX)");
    }
    p->queued = true;
    p->next = *bucket;
    *bucket = p;
    all->count++;
    return OK;
}

static void leave(struct push_wait *p)
{
    struct push_wait **link = bucket_of(p->replica->store, p->args->txn);

    if (!p->queued) {
        return;
    }
    for (; *link != p; link = &(*link)->next) {
        INVARIANT(*link != NULL);
    }
    *link = p->next;
    p->queued = false;
    p->replica->store->pushes.count--;
}

void push__changed(struct replica *r, struct uuid txn)
{
    for (struct push_wait *p = *bucket_of(r->store, txn); p != NULL; p = p->next) {
        if (uuid_eq(p->args->txn, txn)) {
            completion_fire(&p->changed);
        }
    }
}

void push__withdraw(struct store *s, struct uuid pushee, struct uuid pusher)
{
    for (struct push_wait *p = *bucket_of(s, pushee); p != NULL; p = p->next) {
        if (uuid_eq(p->args->txn, pushee) && uuid_eq(p->args->pusher, pusher)) {
            p->withdrawn = true;
            completion_fire(&p->changed);
        }
    }
}

void push__stop(struct replica *r)
{
    for (uint32_t i = 0; i < PUSH_BUCKETS && r->store->pushes.count > 0; i++) {
        for (struct push_wait *p = r->store->pushes.buckets[i]; p != NULL; p = p->next) {
            if (p->replica == r) {
                p->stopped = true;
                completion_fire(&p->changed);
            }
        }
    }
}

/* After each yield: is the pushee's fate still decided here? */
static struct status check_here(const struct push_wait *p)
{
    struct replica *r = p->replica;

    if (p->stopped || r->life != REPLICA_INIT || r->store->stopping || r->store->failed) {
        return FAIL(STATUS_NOT_LEADER, "the lease moved while a push was waiting");
    }
    if (!range_desc_contains(&r->desc, p->anchor)) {
        return FAIL(STATUS_RANGE_MISMATCH, "the anchor is not of this range");
    }
    return lease__check(r, clock_of(r));
}

/* ---- cycles ------------------------------------------------------------------------------------- */

/* A member of a cycle, as candidate for its victim. */
struct member {
    struct uuid txn;
    uint32_t priority;
};

static bool gives_way_to(const struct member *a, const struct member *b)
{
    if (a->priority != b->priority) {
        return a->priority < b->priority;
    }
    return memcmp(a->txn.b, b->txn.b, sizeof(a->txn.b)) < 0;
}

/* A walk over known edges, breadth first. */
struct walk {
    uint16_t via[RANGE_TXN_WAITS_MAX]; /* The edge before each; the first: itself. */
    uint16_t queue[RANGE_TXN_WAITS_MAX];
    bool reached[RANGE_TXN_WAITS_MAX];
    uint32_t count; /* In the queue. */
};

/* Enters the edges that leave `at`; `via` NULL: it is where the walk begins. */
static void walk_on(struct walk *w, const struct push_wait *p, struct uuid at, const uint16_t *via)
{
    for (uint32_t i = 0; i < p->waits_count; i++) {
        if (!w->reached[i] && uuid_eq(p->waits[i].waiter, at)) {
            w->reached[i] = true;
            w->via[i] = via == NULL ? (uint16_t)i : *via;
            w->queue[w->count++] = (uint16_t)i;
        }
    }
}

/* From the pushee to the pusher: the last edge of the shortest path, or waits_count. */
static uint32_t find_path(const struct push_wait *p, struct walk *w)
{
    walk_on(w, p, p->args->txn, NULL);
    for (uint32_t head = 0; head < w->count; head++) {
        const uint16_t edge = w->queue[head];

        if (uuid_eq(p->waits[edge].holder, p->args->pusher)) {
            return edge;
        }
        walk_on(w, p, p->waits[edge].holder, &edge);
    }
    return p->waits_count;
}

/* Does the push close a cycle? Then who of it has to give way. */
static bool find_victim(const struct push_wait *p, struct uuid *victim)
{
    struct walk w = {.count = 0};
    struct member lowest = {p->args->pusher, p->args->pusher_priority};
    uint32_t at = find_path(p, &w);

    if (at == p->waits_count) {
        return false;
    }
    for (;;) {
        const struct member m = {p->waits[at].waiter, p->waits[at].waiter_priority};

        if (gives_way_to(&m, &lowest)) {
            lowest = m;
        }
        if (w.via[at] == at) {
            break;
        }
        at = w.via[at];
    }
    *victim = lowest.txn;
    return true;
}

static bool can_ask(const struct push_wait *p)
{
    return !uuid_is_zero(p->args->pusher) && p->args->pusher_anchor.len > 0 &&
           p->replica->store->o.send != NULL;
}

/* Asks who waits for the pusher. An answer that does not come changes nothing. */
MAYYIELD static struct status ask(struct push_wait *p)
{
    struct store *s = p->replica->store;
    const uint64_t deadline = mono_ns(p->replica) + PUSH_ASK_DEADLINE_NS;
    const struct range_txn_args args = {.txn = p->args->pusher};
    const struct range_request q = {
        .op = RANGE_OP_QUERY_TXN, .key = p->args->pusher_anchor, .args = &args};
    struct range_batch b = {.requests = &q, .count = 1};
    struct range_result result;
    struct arena memory;
    const struct range_txn_info *info = NULL;

    p->asks++;
    arena_init(&memory, 0);
    if (!status_ok(s->o.send(s->o.send_ctx, &b, deadline, &memory, &result)) ||
        result.responses[0].txn == NULL) {
        arena_deinit(&memory);
        return OK;
    }
    info = result.responses[0].txn;
    arena_deinit(&p->memory);
    p->memory = memory;
    p->waits = info->waits;
    p->waits_count =
        info->waits_count < RANGE_TXN_WAITS_MAX ? info->waits_count : RANGE_TXN_WAITS_MAX;
    p->unwanted = !result.responses[0].found;
    return info->status == RANGE_TXN_ABORTED
               ? FAIL(STATUS_TXN_RETRY, "the transaction was aborted while it was waiting")
               : OK;
}

/* The victim has to see the cycle itself; if it waits on this store it looks now. */
static void wake_victim(struct store *s, struct uuid victim)
{
    for (uint32_t i = 0; i < PUSH_BUCKETS; i++) {
        for (struct push_wait *p = s->pushes.buckets[i]; p != NULL; p = p->next) {
            if (uuid_eq(p->args->pusher, victim)) {
                p->ask_ns = 0;
                completion_fire(&p->changed);
            }
        }
    }
}

/* Asks, and looks for a cycle. Errors: STATUS_DEADLOCK, STATUS_TXN_RETRY. */
MAYYIELD static struct status detect(struct push_wait *p)
{
    struct uuid victim = {{0}};

    TRY(ask(p));
    if (!find_victim(p, &victim)) {
        p->cycle_answers = 0;
        return OK;
    }
    p->cycle_answers++;
    if (!uuid_eq(victim, p->args->pusher)) {
        wake_victim(p->replica->store, victim);
    } else if (p->cycle_answers >= CYCLE_ANSWERS) {
        LOG_DEBUG("txn.deadlock", U64("range", p->replica->range.v));
        return FAIL(STATUS_DEADLOCK, "the transactions wait for each other in a circle");
    }
    p->force = uuid_eq(victim, p->args->txn) && p->cycle_answers >= CYCLE_ANSWERS_FORCE;
    return OK;
}

/* ---- pushing ------------------------------------------------------------------------------------ */

static bool has_expired(const struct push_wait *p)
{
    const struct hts record = hts_max(p->info.last_heartbeat, p->info.min_ts);
    const struct hts alive = hts_max(record, p->args->seen_ts);

    return hts_less(hts_add_ns(alive, TXN_EXPIRY_NS), clock_of(p->replica));
}

MAYYIELD static struct status abort_pushee(struct push_wait *p, struct arena *arena)
{
    TRY(record__abort(p->replica, p->anchor, p->args->txn, p->deadline_ns, arena, &p->info));
    LOG_DEBUG("txn.push_aborted", U64("range", p->replica->range.v),
              U64("force", p->force ? 1 : 0));
    return check_here(p);
}

/* How does the pushee stand, and is that what the pusher wanted? */
MAYYIELD static struct status push_once(struct push_wait *p, struct arena *arena, bool *done)
{
    struct replica *r = p->replica;
    const struct range_txn_args *a = p->args;
    bool end = p->force || (a->force && a->push == RANGE_PUSH_ABORT);

    if (a->push == RANGE_PUSH_TIMESTAMP) {
        tscache_mark_pushed(r->store->tscache, a->txn, a->ts, clock_of(r));
    }
    TRY(record__read(r, p->anchor, a->txn, a->min_ts, p->deadline_ns, arena, &p->info));
    TRY(check_here(p));
    *done = is_over(&p->info) || a->push == RANGE_PUSH_TOUCH;
    if (is_over(&p->info)) {
        return OK;
    }
    end = end || has_expired(p);
    if (end && p->info.status == RANGE_TXN_PENDING) {
        TRY(abort_pushee(p, arena));
        *done = is_over(&p->info) || *done;
    }
    if (p->info.status == RANGE_TXN_STAGING) {
        p->must_recover = end;
        *done = end || *done;
    } else if (a->push == RANGE_PUSH_TIMESTAMP) {
        *done = *done || hts_less_eq(a->ts, p->info.ts); /* The marker says so to everybody. */
        LOG_DEBUG("txn.pushed", U64("range", r->range.v));
    }
    return OK;
}

static void plan_next_ask(struct push_wait *p)
{
    const uint64_t now = mono_ns(p->replica);

    if (p->asks == 0 || p->cycle_answers == 1) { /* The second answer confirms. */
        p->ask_ns = now + PUSH_ASK_FIRST_NS;
    } else {
        p->ask_ns = now + (p->asks < PUSH_ASKS_OFTEN ? PUSH_ASK_OFTEN_NS : PUSH_ASK_LATER_NS);
    }
}

/* Until the pushee has changed, or it is time to ask and to look again. *late: the wait is over. */
MAYYIELD static struct status wait_for_change(struct push_wait *p, bool *late)
{
    const uint64_t until = p->ask_ns < p->until_ns ? p->ask_ns : p->until_ns;
    struct status st = OK;

    TRY(enter(p));
    st = completion_wait(&p->changed, until);
    p->changed = (struct completion){0};
    if (!status_ok(st) && st.code != STATUS_TIMEOUT) {
        return st;
    }
    TRY(fiber_check()); /* A deadline of the fiber would make each wait end at once. */
    TRY(check_here(p));
    *late = p->withdrawn || mono_ns(p->replica) >= p->until_ns;
    if (!*late && mono_ns(p->replica) >= p->ask_ns) {
        if (can_ask(p)) {
            TRY(detect(p));
            TRY(check_here(p));
        }
        plan_next_ask(p);
    }
    return OK;
}

static struct status answer(const struct push_wait *p, struct arena *arena,
                            struct range_response *out)
{
    struct range_txn_info *info = ARENA_NEW(arena, struct range_txn_info);

    if (info == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    *info = p->info;
    out->txn = info;
    out->found = p->must_recover;
    return OK;
}

/* Each look takes memory from the arena: the time is bounded, and so are the changes of one transaction. */
MAYYIELD static struct status push_until_done(struct push_wait *p, struct arena *arena)
{
    bool done = false;
    bool late = p->args->wait_ns == 0;

    plan_next_ask(p);
    for (;;) {
        TRY(push_once(p, arena, &done));
        if (done || late) {
            return OK;
        }
        TRY(wait_for_change(p, &late));
    }
}

struct status push__serve(struct replica *r, const struct range_request *q, uint64_t deadline_ns,
                          struct arena *arena, struct range_response *out)
{
    const uint64_t wait_ns =
        q->args->wait_ns < PUSH_WAIT_MAX_NS ? q->args->wait_ns : PUSH_WAIT_MAX_NS;
    const uint64_t until = mono_ns(r) + wait_ns;
    struct push_wait p = {
        .replica = r,
        .anchor = q->key,
        .args = q->args,
        .until_ns = until < deadline_ns ? until : deadline_ns,
        .deadline_ns = deadline_ns,
    };
    struct status st = OK;

    if (uuid_is_zero(q->args->txn) || uuid_eq(q->args->txn, q->args->pusher)) {
        return FAIL(STATUS_INVALID, "a transaction cannot push itself");
    }
    arena_init(&p.memory, 0);
    st = push_until_done(&p, arena);
    leave(&p);
    arena_deinit(&p.memory);
    return status_ok(st) ? answer(&p, arena, out) : st;
}

/* ---- questions ---------------------------------------------------------------------------------- */

static void add_edge(struct range_txn_wait *edges, uint32_t *count, const struct range_txn_wait *e)
{
    for (uint32_t i = 0; i < *count; i++) {
        if (uuid_eq(edges[i].waiter, e->waiter) && uuid_eq(edges[i].holder, e->holder)) {
            return;
        }
    }
    if (*count < RANGE_TXN_WAITS_MAX) {
        edges[(*count)++] = *e;
    }
}

/* A push that makes an edge: by a transaction that still waits. */
static bool is_edge(const struct push_wait *p, struct uuid pushee)
{
    return uuid_eq(p->args->txn, pushee) && !uuid_is_zero(p->args->pusher) && !p->withdrawn;
}

static bool is_waited_for(struct store *s, struct uuid txn)
{
    for (const struct push_wait *p = *bucket_of(s, txn); p != NULL; p = p->next) {
        if (is_edge(p, txn)) {
            return true;
        }
    }
    return false;
}

/* Edges that end at txn. A transaction for which certainly nobody waits is in no cycle: most of those that
 * wait for a much wanted lock are left out. */
static void add_edges_to(struct store *s, struct uuid txn, struct range_txn_wait *edges,
                         uint32_t *count)
{
    for (const struct push_wait *p = *bucket_of(s, txn); p != NULL; p = p->next) {
        const struct range_txn_wait e = {p->args->pusher, txn, p->args->pusher_priority};

        if (!is_edge(p, txn) || (p->unwanted && !is_waited_for(s, e.waiter))) {
            continue;
        }
        add_edge(edges, count, &e);
        for (uint32_t i = 0; i < p->waits_count; i++) {
            if (!uuid_eq(p->waits[i].holder, txn)) { /* Who waits for it we know best. */
                add_edge(edges, count, &p->waits[i]);
            }
        }
    }
}

/* All known edges that lead to txn; with those of other transactions whose anchors are here as well it
 * costs no questions to follow them. */
static uint32_t collect(struct store *s, struct uuid txn, struct range_txn_wait *edges)
{
    uint32_t count = 0;

    add_edges_to(s, txn, edges, &count);
    for (uint32_t i = 0; i < count; i++) {
        add_edges_to(s, edges[i].waiter, edges, &count);
    }
    return count;
}

struct status push__serve_query(struct replica *r, const struct range_request *q,
                                struct arena *arena, struct range_response *out)
{
    struct range_txn_info *info = ARENA_NEW(arena, struct range_txn_info);
    struct range_txn_wait *edges = ARENA_ARRAY(arena, struct range_txn_wait, RANGE_TXN_WAITS_MAX);
    const struct push_wait self = {.replica = r, .anchor = q->key, .args = q->args};
    /* Who does not know when it began asks whether it certainly has ended. */
    const struct hts min_ts = hts_is_zero(q->args->min_ts) ? HTS_MAX : q->args->min_ts;

    if (info == NULL || edges == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    TRY(record__read(r, q->key, q->args->txn, min_ts, mono_ns(r) + PUSH_ASK_DEADLINE_NS, arena,
                     info));
    TRY(check_here(&self));
    info->waits = edges;
    info->waits_count = collect(r->store, q->args->txn, edges);
    out->found = is_waited_for(r->store, q->args->txn);
    out->txn = info;
    return OK;
}
