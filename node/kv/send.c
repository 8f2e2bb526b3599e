/*
 * send.c -- the loop that finds a leaseholder.
 *
 * The loop goes in rounds with growing pauses. In a round each replica is asked at most once: first who
 * led last or whom a refusal names, then the others, those that look dead last. What it may repeat is
 * decided by one question: can the request have run? A refusal of the server says no. A lost connection
 * or a missing answer says maybe. Reads go on then. So do intents and records, marked as a replay: the
 * range then finds what it has, or refuses. Writes that commit at once end as STATUS_AMBIGUOUS, and so does a
 * replay that is refused. Whoever did not answer is no longer remembered as the leader, so that later
 * requests start elsewhere.
 */
#include "node/base/invariant.h"
#include "node/kv/internal.h"
#include "node/runtime/fiber.h"

#define ATTEMPT_NS      ((uint64_t)4000000000)
#define READ_ATTEMPT_NS ((uint64_t)1500000000)
#define PAUSE_FIRST_NS  ((uint64_t)5000000)
#define PAUSE_MAX_NS    ((uint64_t)160000000)

/* ---- one attempt -------------------------------------------------------------------------------- */

static bool has_writes(const struct range_batch *b)
{
    for (uint32_t i = 0; i < b->count; i++) {
        if (range_op_writes(b->requests[i].op)) {
            return true;
        }
    }
    return false;
}

static bool decides(const struct range_request *q)
{
    return q->op == RANGE_OP_END_TXN &&
           (q->args->status == RANGE_TXN_STAGING || q->args->status == RANGE_TXN_COMMITTED);
}

bool kv__is_write(const struct range_batch *b)
{
    for (uint32_t i = 0; i < b->count; i++) {
        if (range_op_writes(b->requests[i].op) || decides(&b->requests[i])) {
            return true;
        }
    }
    return false;
}

bool kv__is_repeatable(const struct range_batch *b)
{
    return b->intents || !has_writes(b);
}

/* *left: the request may have reached the other side. */
MAYYIELD static struct status call_remote(struct kv *kv, const struct range_replica *to,
                                          const struct range_batch *b, uint64_t deadline_ns,
                                          struct arena *arena, struct range_result *out, bool *left)
{
    struct arena request; /* Of this attempt: many may follow. */
    struct bytes body;
    struct bytes reply;
    bool unsent = false;
    struct status st = OK;

    arena_init(&request, 0);
    TRY_OUT(range_batch_encode(b, &request, &body));
    st = rpc_try_call(kv->o.rpc, (struct rpc_to){to->node, to->store, RPC_CLASS_NORMAL},
                      RPC_TYPE_BATCH, &body, 1, deadline_ns, arena, &reply, &unsent);
    *left = !unsent;
    TRY_OUT(st);
    TRY_OUT(range_result_decode(reply, b->count, arena, out));
out:
    arena_deinit(&request);
    return st;
}

static const struct hts *find_observed(const struct kv_observed *o, store_id store)
{
    for (uint32_t i = 0; i < o->count; i++) {
        if (o->at[i].store.v == store.v) {
            return &o->at[i].now;
        }
    }
    return NULL;
}

static void observe(struct kv_observed *o, store_id store, struct hts now)
{
    if (o != NULL && !hts_is_zero(now) && o->count < KV_OBSERVED_MAX &&
        find_observed(o, store) == NULL) {
        o->at[o->count].store = store;
        o->at[o->count++].now = now;
    }
}

/* For locks of others. */
static bool may_wait_long(const struct range_batch *b)
{
    return b->intents || b->requests[0].lock != MVCC_NONE;
}

/* How long one replica may take. Our own store is not cut off from us, it may let us wait for locks. */
static uint64_t patience_ns(const struct kv *kv, const struct range_replica *to,
                            const struct range_batch *b)
{
    if (b->requests[0].op == RANGE_OP_PUSH) {
        return READ_ATTEMPT_NS + b->requests[0].args->wait_ns;
    }
    if (may_wait_long(b) && kv->store != NULL && to->store.v == kv->store_id.v) {
        return KV_DEADLINE_NS_DEFAULT;
    }
    return may_wait_long(b) || kv__is_write(b) ? ATTEMPT_NS : READ_ATTEMPT_NS;
}

/* out->st tells what the server said; a returned error means that no answer came. */
MAYYIELD static struct status attempt(struct kv *kv, const struct range_replica *to,
                                      struct range_batch *b, const struct kv_call *call,
                                      struct arena *arena, struct range_result *out, bool *left)
{
    const uint64_t latest = env_mono_ns(shard_env(kv->o.shard)) + patience_ns(kv, to, b);
    const uint64_t until = call->deadline_ns < latest ? call->deadline_ns : latest;
    struct status st = OK;

    *out = (struct range_result){0};
    *left = false;
    if (call->observed != NULL && !hts_is_zero(b->txn.global_limit)) {
        const struct hts *known = kv->store != NULL && to->store.v == kv->store_id.v
                                      ? &call->observed->own
                                      : find_observed(call->observed, to->store);

        b->txn.local_limit = known == NULL ? HTS_ZERO : *known;
    }
    if (kv->store != NULL && to->store.v == kv->store_id.v) {
        kv->stats.batches_local++;
        store_execute(kv->store, b, until, arena, out);
    } else {
        kv->stats.batches_remote++;
        st = call_remote(kv, to, b, until, arena, out, left);
    }
    if (status_ok(st)) {
        observe(call->observed, to->store, out->now);
    }
    return st;
}

/* ---- the loop ----------------------------------------------------------------------------------- */

/* Plain data of one kv_send(), so that the cache may change while we wait. */
struct route {
    range_id range;
    uint64_t generation;
    struct range_replica replicas[RAFT_PEERS_MAX];
    bool live[RAFT_PEERS_MAX];       /* As far as store liveness knows. */
    uint64_t far_ns[RAFT_PEERS_MAX]; /* For followers: how far away. */
    uint32_t count;
    uint32_t asked;  /* Bit per replica: asked in this round already. */
    bool exhausted;  /* All were, and none had an answer. */
    store_id leader; /* 0: not known. */
};

#define FAR_UNKNOWN_NS ((uint64_t)1000000000)

/* The own store first, then by round trip; who looks dead last. */
static uint64_t distance_ns(const struct kv *kv, const struct range_replica *r, bool live)
{
    uint64_t rtt = 0;

    if (kv->store != NULL && r->store.v == kv->store_id.v) {
        return 0;
    }
    rtt = rpc_rtt_ns(kv->o.rpc, r->node);
    return (live ? 1 : 100 * FAR_UNKNOWN_NS) + (rtt == 0 ? FAR_UNKNOWN_NS : rtt);
}

static void add_target(struct kv *kv, struct route *rt, const struct range_replica *r,
                       bool follower)
{
    const bool live =
        kv->store != NULL && (r->store.v == kv->store_id.v || store_peer_live(kv->store, r->store));

    rt->live[rt->count] = live;
    rt->far_ns[rt->count] = follower ? distance_ns(kv, r, live) : 0;
    rt->replicas[rt->count++] = *r;
}

static bool fits(const struct range_desc *d, const struct range_batch *b)
{
    for (uint32_t i = 0; i < b->count; i++) {
        const struct range_request *q = &b->requests[i];

        if (!range_desc_contains(d, q->key) || (q->end.len > 0 && bytes_cmp(q->end, d->end) > 0)) {
            return false;
        }
    }
    return true;
}

/* Of those that hold data, who may be asked for this batch? */
static bool may_answer(enum range_replica_type type, bool follower)
{
    return type != RANGE_LEARNER && (type != RANGE_NON_VOTER || follower);
}

/* The cached range of the key, which is looked up when there is none, or when nobody of it answered
 * (`doubt`): it may have moved. What we know stays when the index cannot be asked either. */
MAYYIELD static struct status find_cached(struct kv *kv, struct bytes key, uint64_t deadline_ns,
                                          bool doubt, struct arena *arena,
                                          struct cached_range **out)
{
    const uint64_t soon = env_mono_ns(shard_env(kv->o.shard)) + READ_ATTEMPT_NS;

    *out = kv__cache_find(kv, key);
    if (*out == NULL) {
        TRY(kv__lookup(kv, key, deadline_ns, arena));
    } else if (doubt && *out != kv->first) {
        status_ignore(kv__lookup(kv, key, deadline_ns < soon ? deadline_ns : soon, arena));
        TRY(fiber_check());
    }
    *out = kv__cache_find(kv, key); /* We yielded: the cache may hold it or not. */
    return OK;
}

MAYYIELD static struct status find_route(struct kv *kv, const struct range_batch *b,
                                         uint64_t deadline_ns, bool doubt, struct arena *arena,
                                         struct route *out)
{
    struct cached_range *c = NULL;

    TRY(find_cached(kv, b->requests[0].key, deadline_ns, doubt, arena, &c));
    if (c == NULL) {
        return FAIL(STATUS_UNAVAILABLE, "no range is known for the key yet");
    }
    if (!fits(&c->desc, b)) {
        return FAIL(STATUS_RANGE_MISMATCH, "the batch lies in several ranges");
    }
    *out =
        (struct route){.range = c->desc.id, .generation = c->desc.generation, .leader = c->leader};
    for (uint32_t i = 0; i < c->desc.replicas_count; i++) {
        if (may_answer(c->desc.replicas[i].type, b->follower)) {
            add_target(kv, out, &c->desc.replicas[i], b->follower);
        }
    }
    return out->count > 0 ? OK : FAIL(STATUS_UNAVAILABLE, "the range has no voters");
}

static bool any_live(const struct route *rt)
{
    for (uint32_t i = 0; i < rt->count; i++) {
        if (rt->live[i]) {
            return true;
        }
    }
    return false;
}

/*
 * The next replica of this round, NULL when all were asked: first who leads if he lives, then others
 * that live, then the rest. A write goes to a store that looks dead only when all do: it would most
 * likely end without an answer, and the client with an ambiguous result. What a follower may answer goes to
 * the nearest replica first; when that one cannot, the leaseholder is next.
 */
static const struct range_replica *choose(struct route *rt, const struct range_batch *b)
{
    const bool only_live = kv__is_write(b) && any_live(rt);
    const bool nearest = b->follower && rt->asked == 0;
    uint32_t best = rt->count;
    uint64_t best_rank = UINT64_MAX;

    for (uint32_t i = 0; i < rt->count; i++) {
        const uint64_t rank =
            nearest ? rt->far_ns[i]
                    : (rt->live[i] ? 0u : 2u) + (rt->replicas[i].store.v == rt->leader.v ? 0u : 1u);

        if ((rt->asked >> i & 1u) == 0 && (rt->live[i] || !only_live) && rank < best_rank) {
            best = i;
            best_rank = rank;
        }
    }
    if (best == rt->count) {
        return NULL;
    }
    rt->asked |= 1u << best;
    return &rt->replicas[best];
}

static void note_leader(struct kv *kv, struct bytes key, store_id leader)
{
    struct cached_range *c = kv__cache_find(kv, key);

    if (c != NULL) {
        c->leader = leader;
    }
}

/* `store` does not lead, or cannot be reached: later requests shall not start with it. */
static void forget_leader(struct kv *kv, struct bytes key, struct route *rt, store_id store)
{
    struct cached_range *c = kv__cache_find(kv, key);

    if (rt->leader.v == store.v) {
        rt->leader.v = 0;
    }
    if (c != NULL && c->leader.v == store.v) {
        c->leader.v = 0;
    }
}

enum verdict {
    VERDICT_DONE,
    VERDICT_NEXT,    /* At once, elsewhere. */
    VERDICT_PAUSE,   /* After a pause. */
    VERDICT_REROUTE, /* The descriptor was wrong. */
};

/* A server does not know what became of it. What may be repeated is, and says so. */
static enum verdict judge_ambiguous(struct range_batch *b)
{
    if (!kv__is_repeatable(b) || (kv__is_write(b) && b->replay)) {
        return VERDICT_DONE;
    }
    b->replay = kv__is_write(b);
    return VERDICT_PAUSE;
}

static enum verdict judge_answer(struct kv *kv, struct range_batch *b, struct route *rt,
                                 const struct range_replica *to, struct range_result *out)
{
    const struct bytes key = b->requests[0].key;

    switch (out->st.code) {
    case STATUS_OK:
    case STATUS_TXN_RETRY:
    case STATUS_TXN_ABORTED:
    case STATUS_UNCERTAIN:
    case STATUS_EXISTS:
        if (!b->follower) {
            note_leader(kv, key, to->store);
        }
        return VERDICT_DONE;
    case STATUS_NOT_LEADER:
        forget_leader(kv, key, rt, to->store);
        if (out->hint_store.v != 0 && out->hint_store.v != to->store.v) {
            rt->leader = out->hint_store;
            note_leader(kv, key, out->hint_store);
        }
        return VERDICT_NEXT;
    case STATUS_RANGE_MISMATCH:
        kv__learn(kv, out->descs, out->descs_count);
        return VERDICT_REROUTE;
    case STATUS_RANGE_NOT_FOUND:
        forget_leader(kv, key, rt, to->store);
        return VERDICT_NEXT;
    case STATUS_NOT_PROPOSED:
    case STATUS_OVERLOADED:
    case STATUS_TIMEOUT: /* It waited for others in front of it, and did not run. */
        return VERDICT_PAUSE;
    case STATUS_AMBIGUOUS:
        forget_leader(kv, key, rt, to->store);
        return judge_ambiguous(b);
    default: /* Every other code is the caller's. */
        return VERDICT_DONE;
    }
}

/* No answer came from `to`. A write that may have left may have run: whatever went wrong later. */
static enum verdict judge_silence(struct kv *kv, struct range_batch *b, struct route *rt,
                                  const struct range_replica *to, bool left, struct status st,
                                  struct range_result *out)
{
    const bool maybe_ran = left && kv__is_write(b);

    forget_leader(kv, b->requests[0].key, rt, to->store);
    switch (st.code) {
    case STATUS_OVERLOADED:  /* Refused at a full queue, here or there. */
    case STATUS_UNSUPPORTED: /* Nobody serves ranges there yet. */
    case STATUS_FENCED:      /* Our clocks are too far apart. */
        return VERDICT_NEXT;
    case STATUS_INVALID: /* Too large to be sent. */
        out->st = st;
        return VERDICT_DONE;
    case STATUS_CANCELLED:
    case STATUS_MEMORY:
        out->st = st;
        break;
    default:
        if (maybe_ran && kv__is_repeatable(b)) {
            b->replay = true;
            return VERDICT_NEXT;
        }
        if (!maybe_ran) {
            return VERDICT_NEXT;
        }
        break;
    }
    if (maybe_ran) {
        out->st = FAIL(STATUS_AMBIGUOUS, "the leaseholder did not answer; the write may or may "
                                         "not have been committed");
    }
    return VERDICT_DONE;
}

struct status kv__pause(struct kv *kv, uint32_t round)
{
    uint64_t ns = PAUSE_FIRST_NS << (round > 5 ? 5 : round);

    ns = ns > PAUSE_MAX_NS ? PAUSE_MAX_NS : ns;
    kv->stats.retries++;
    return fiber_sleep(ns / 2 + env_random_u64(shard_env(kv->o.shard)) % (ns / 2 + 1));
}

/* Asks one replica, if the round has one left. */
MAYYIELD static enum verdict ask_one(struct kv *kv, struct range_batch *b, struct route *rt,
                                     const struct kv_call *call, struct arena *arena,
                                     struct range_result *out, struct status *last)
{
    const struct range_replica *to = choose(rt, b);
    bool left = false;
    struct status st = OK;

    if (to == NULL) {
        rt->exhausted = true;
        return VERDICT_PAUSE;
    }
    b->range = rt->range;
    b->generation = rt->generation;
    st = attempt(kv, to, b, call, arena, out, &left);
    if (status_ok(st)) {
        *last = out->st;
        return judge_answer(kv, b, rt, to, out);
    }
    *last = st.code == STATUS_UNSUPPORTED ? FAIL(STATUS_UNAVAILABLE, "a node is starting") : st;
    return judge_silence(kv, b, rt, to, left, st, out);
}

MAYYIELD static struct status send_loop(struct kv *kv, struct range_batch *b,
                                        const struct kv_call *call, struct arena *arena,
                                        struct range_result *out)
{
    struct route rt = {0};
    struct status last = FAIL(STATUS_UNAVAILABLE, "no leaseholder could be reached");
    uint32_t round = 0;
    bool doubt = false;

    while (env_mono_ns(shard_env(kv->o.shard)) < call->deadline_ns) {
        const struct status st =
            rt.count == 0 ? find_route(kv, b, call->deadline_ns, doubt, arena, &rt) : OK;
        enum verdict v = VERDICT_PAUSE;

        if (status_ok(st)) {
            v = ask_one(kv, b, &rt, call, arena, out, &last);
        } else if (st.code == STATUS_RANGE_MISMATCH) {
            return st;
        } else {
            last = st;
        }
        switch (v) {
        case VERDICT_DONE:
            return out->st;
        case VERDICT_REROUTE:
            return out->st;
        case VERDICT_NEXT:
            break;
        case VERDICT_PAUSE:
            TRY(kv__pause(kv, round++));
            doubt = rt.count > 0 && rt.exhausted;
            rt.count = 0;
            break;
        }
    }
    return last;
}

/* What the caller learns when the loop gave up: nothing was written. */
static struct status give_up_text(struct status st)
{
    switch (st.code) {
    case STATUS_NOT_LEADER:
    case STATUS_RANGE_NOT_FOUND:
    case STATUS_NOT_PROPOSED:
        return FAIL(STATUS_UNAVAILABLE, "no leaseholder could be reached for the range in time");
    default:
        return st;
    }
}

struct status kv__send_range(struct kv *kv, struct range_batch *b, const struct kv_call *call,
                             struct arena *arena, struct range_result *out)
{
    const struct status st = send_loop(kv, b, call, arena, out);

    if (b->replay && !status_ok(st) && st.code != STATUS_RANGE_MISMATCH) {
        /* An earlier attempt may have run; this refusal may even be its consequence. */
        return FAIL(STATUS_AMBIGUOUS, "an answer was lost; the write may or may not stand");
    }
    return give_up_text(st);
}
