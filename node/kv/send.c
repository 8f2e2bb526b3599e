/*
 * send.c -- the loop that finds a leaseholder.
 *
 * The loop goes in rounds with growing pauses. In a round each replica is asked at most once: first who
 * led last or whom a refusal names, then the others, those that look dead last. What it may repeat is
 * decided by one question: can the request have run? A refusal of the server says no. A lost connection
 * or a missing answer says maybe; for a batch with writes that ends as STATUS_AMBIGUOUS, for reads we go
 * on. Whoever did not answer is no longer remembered as the leader, so that later requests start
 * elsewhere.
 */
#include "node/base/invariant.h"
#include "node/kv/internal.h"
#include "node/runtime/fiber.h"

#define ATTEMPT_NS      ((uint64_t)4000000000)
#define READ_ATTEMPT_NS ((uint64_t)1500000000)
#define PAUSE_FIRST_NS  ((uint64_t)5000000)
#define PAUSE_MAX_NS    ((uint64_t)160000000)
#define MISMATCHES_MAX  8u /* Then the keys are of several ranges, not our cache stale. */

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

/* out->st tells what the server said; a returned error means that no answer came. */
MAYYIELD static struct status attempt(struct kv *kv, const struct range_replica *to,
                                      const struct range_batch *b, uint64_t deadline_ns,
                                      struct arena *arena, struct range_result *out, bool *left)
{
    const uint64_t now = env_mono_ns(shard_env(kv->o.shard));
    const uint64_t latest = now + (has_writes(b) ? ATTEMPT_NS : READ_ATTEMPT_NS);
    const uint64_t until = deadline_ns < latest ? deadline_ns : latest;

    *out = (struct range_result){0};
    *left = false;
    if (kv->store != NULL && to->store.v == kv->store_id.v) {
        kv->stats.batches_local++;
        store_execute(kv->store, b, until, arena, out);
        return OK;
    }
    kv->stats.batches_remote++;
    return call_remote(kv, to, b, until, arena, out, left);
}

/* ---- the loop ----------------------------------------------------------------------------------- */

/* Plain data of one kv_send(), so that the cache may change while we wait. */
struct route {
    range_id range;
    uint64_t generation;
    struct range_replica replicas[RAFT_PEERS_MAX];
    bool live[RAFT_PEERS_MAX]; /* As far as store liveness knows. */
    uint32_t count;
    uint32_t asked;  /* Bit per replica: asked in this round already. */
    store_id leader; /* 0: not known. */
};

static void add_target(struct kv *kv, struct route *rt, const struct range_replica *r)
{
    rt->live[rt->count] =
        kv->store != NULL && (r->store.v == kv->store_id.v || store_peer_live(kv->store, r->store));
    rt->replicas[rt->count++] = *r;
}

MAYYIELD static struct status find_route(struct kv *kv, struct bytes key, uint64_t deadline_ns,
                                         struct arena *arena, struct route *out)
{
    struct cached_range *c = kv__cache_find(kv, key);

    if (c == NULL) {
        TRY(kv__lookup(kv, key, deadline_ns, arena));
        c = kv__cache_find(kv, key); /* We yielded: the cache may hold it or not. */
    }
    if (c == NULL) {
        return FAIL(STATUS_UNAVAILABLE, "no range is known for the key yet");
    }
    *out =
        (struct route){.range = c->desc.id, .generation = c->desc.generation, .leader = c->leader};
    for (uint32_t i = 0; i < c->desc.replicas_count; i++) {
        if (c->desc.replicas[i].type != RANGE_LEARNER &&
            c->desc.replicas[i].type != RANGE_NON_VOTER) {
            add_target(kv, out, &c->desc.replicas[i]);
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
 * likely end without an answer, and the client with an ambiguous result.
 */
static const struct range_replica *choose(struct route *rt, bool writes)
{
    const bool only_live = writes && any_live(rt);
    uint32_t best = rt->count;
    uint32_t best_rank = UINT32_MAX;

    for (uint32_t i = 0; i < rt->count; i++) {
        const uint32_t rank =
            (rt->live[i] ? 0u : 2u) + (rt->replicas[i].store.v == rt->leader.v ? 0u : 1u);

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

static enum verdict judge_answer(struct kv *kv, struct bytes key, struct route *rt,
                                 const struct range_replica *to, struct range_result *out)
{
    switch (out->st.code) {
    case STATUS_OK:
    case STATUS_TXN_RETRY:
    case STATUS_EXISTS:
        note_leader(kv, key, to->store);
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
        return VERDICT_DONE;
    default: /* Every other code is the caller's. */
        return VERDICT_DONE;
    }
}

/* No answer came from `to`. A write that may have left may have run: whatever went wrong later. */
static enum verdict judge_silence(struct kv *kv, struct bytes key, struct route *rt,
                                  const struct range_replica *to, bool maybe_ran, struct status st,
                                  struct range_result *out)
{
    forget_leader(kv, key, rt, to->store);
    switch (st.code) {
    case STATUS_OVERLOADED:  /* Refused at a full queue, here or there. */
    case STATUS_UNSUPPORTED: /* Nobody serves ranges there yet. */
        return VERDICT_NEXT;
    case STATUS_INVALID: /* Too large to be sent. */
        out->st = st;
        return VERDICT_DONE;
    case STATUS_CANCELLED:
    case STATUS_MEMORY:
        out->st = st;
        break;
    default:
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

/* Pause before the n-th further round; half of it random so that many do not march in step. */
MAYYIELD static struct status pause_before(struct kv *kv, uint32_t round)
{
    uint64_t ns = PAUSE_FIRST_NS << (round > 5 ? 5 : round);

    ns = ns > PAUSE_MAX_NS ? PAUSE_MAX_NS : ns;
    kv->stats.retries++;
    return fiber_sleep(ns / 2 + env_random_u64(shard_env(kv->o.shard)) % (ns / 2 + 1));
}

/* Asks one replica, if the round has one left. */
MAYYIELD static enum verdict ask_one(struct kv *kv, struct range_batch *b, struct route *rt,
                                     uint64_t deadline_ns, struct arena *arena,
                                     struct range_result *out, struct status *last)
{
    const struct bytes key = b->requests[0].key;
    const bool writes = has_writes(b);
    const struct range_replica *to = choose(rt, writes);
    bool left = false;
    struct status st = OK;

    if (to == NULL) {
        return VERDICT_PAUSE;
    }
    b->range = rt->range;
    b->generation = rt->generation;
    st = attempt(kv, to, b, deadline_ns, arena, out, &left);
    if (status_ok(st)) {
        *last = out->st;
        return judge_answer(kv, key, rt, to, out);
    }
    *last = st.code == STATUS_UNSUPPORTED ? FAIL(STATUS_UNAVAILABLE, "a node is starting") : st;
    return judge_silence(kv, key, rt, to, writes && left, st, out);
}

MAYYIELD static struct status send_loop(struct kv *kv, struct range_batch *b, uint64_t deadline_ns,
                                        struct arena *arena, struct range_result *out)
{
    const struct bytes key = b->requests[0].key;
    struct route rt = {0};
    struct status last = FAIL(STATUS_UNAVAILABLE, "no leaseholder could be reached");
    uint32_t round = 0;
    uint32_t mismatches = 0;

    while (env_mono_ns(shard_env(kv->o.shard)) < deadline_ns) {
        const struct status st = rt.count == 0 ? find_route(kv, key, deadline_ns, arena, &rt) : OK;
        enum verdict v = VERDICT_PAUSE;

        if (status_ok(st)) {
            v = ask_one(kv, b, &rt, deadline_ns, arena, out, &last);
        } else {
            last = st;
        }
        switch (v) {
        case VERDICT_DONE:
            return out->st;
        case VERDICT_NEXT:
            break;
        case VERDICT_REROUTE:
            rt.count = 0;
            if (++mismatches > MISMATCHES_MAX) {
                return FAIL(STATUS_UNSUPPORTED, "a batch over several ranges is not supported yet");
            }
            break;
        case VERDICT_PAUSE:
            TRY(pause_before(kv, round++));
            kv__cache_evict(kv, key); /* It may have moved. */
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
    case STATUS_RANGE_MISMATCH:
    case STATUS_NOT_PROPOSED:
        return FAIL(STATUS_UNAVAILABLE, "no leaseholder could be reached for the range in time");
    default:
        return st;
    }
}

struct status kv_send(struct kv *kv, struct range_batch *b, uint64_t deadline_ns,
                      struct arena *arena, struct range_result *out)
{
    const uint64_t latest = env_mono_ns(shard_env(kv->o.shard)) + KV_DEADLINE_NS_DEFAULT;
    struct status st = OK;

    INVARIANT(b->count > 0);
    kv->stats.batches++;
    *out = (struct range_result){0};
    st = give_up_text(
        send_loop(kv, b, deadline_ns == DEADLINE_NONE ? latest : deadline_ns, arena, out));
    out->st = st;
    return st;
}
