/*
 * ask.c -- questions between stores about ranges that change.
 *
 *   APPLIED  has your replica applied this index, and is that durable? A merge asks all stores of the right
 *            side about the freeze: a store that forgot it in a crash would go on with a range that its
 *            left neighbour has swallowed. The answer waits for both, and forces a sync.
 *   FATE     did the merge come about for which our range is frozen? Answered by the leaseholder of the left
 *            range only, who cancels it if it is still open (merge.c).
 *
 * Calls may be repeated and lost; both questions may be asked any number of times.
 */
#include "node/base/invariant.h"
#include "node/range/change/change.h"
#include "node/rpc/pb_arena.h"

#define ASK_NS        ((uint64_t)400000000) /* Then again: a store that stops waits for nobody long. */
#define SERVE_NS      ((uint64_t)2000000000)
#define LOOK_AGAIN_NS ((uint64_t)50000000)
#define SERVED_MAX    256u /* At a time. */

enum ask_op {
    ASK_APPLIED = 1,
    ASK_FATE = 2,
};

static uint64_t sooner(struct store *s, uint64_t deadline_ns, uint64_t ns)
{
    const uint64_t until = env_mono_ns(shard_env(s->shard)) + ns;

    return until < deadline_ns ? until : deadline_ns;
}

/* ---- has it applied? ----------------------------------------------------------------------------- */

/* Something small that is true anyway, so that there is a write to sync. */
static struct status put_ident(struct replica *r)
{
    uint8_t mem[KEY_RAFT_SIZE];
    struct buf ident = {0};
    struct status st = OK;

    TRY_OUT(replica__ident_encode(r, r->desc.start, &ident));
    TRY_OUT(engine_batch_put(&store__pending(r->store)->batch, ENGINE_CF_RAFT,
                             key_raft(mem, r->range, KEY_RAFT_IDENT), buf_bytes(&ident)));
out:
    buf_deinit(&ident);
    return st;
}

MAYYIELD static struct status wait_applied(struct replica *r, uint64_t index, uint64_t deadline_ns)
{
    while (r->life == REPLICA_INIT && r->applied.index < index) {
        TRY(replica__wait_progress(r, deadline_ns));
    }
    if (r->life != REPLICA_INIT) {
        return FAIL(STATUS_NOT_FOUND, "the replica has no data");
    }
    TRY(put_ident(r));
    return store__wait_synced(r->store, deadline_ns);
}

MAYYIELD static struct status applied_here(struct store *s, range_id range, uint64_t index,
                                           uint64_t deadline_ns)
{
    struct replica *r = store__find(s, range);
    struct status st = OK;

    if (r == NULL || s->stopping) {
        return FAIL(STATUS_NOT_FOUND, "no such range on this store");
    }
    replica__acquire(r);
    st = wait_applied(r, index, deadline_ns);
    replica__release(r);
    return st;
}

/* ---- asking -------------------------------------------------------------------------------------- */

MAYYIELD static struct status call(struct store *s, const struct range_replica *at,
                                   const Dsql__Pb__RangeAsk *pb, uint64_t deadline_ns,
                                   enum ask_fate *out)
{
    const struct rpc_to to = {at->node, at->store, RPC_CLASS_NORMAL};
    ProtobufCAllocator allocator;
    const Dsql__Pb__RangeAnswer *answer = NULL;
    struct arena arena;
    struct bytes body;
    struct bytes reply;
    struct status st = OK;

    arena_init(&arena, 0);
    TRY_OUT(pb_pack(&pb->base, &arena, &body));
    TRY_OUT(rpc_call(s->o.rpc, to, RPC_TYPE_RANGE, &body, 1, sooner(s, deadline_ns, ASK_NS), &arena,
                     &reply));
    allocator = pb_arena_allocator(&arena);
    answer = dsql__pb__range_answer__unpack(&allocator, reply.len, reply.ptr);
    *out = answer != NULL && answer->fate <= ASK_FATE_CANCELLED ? (enum ask_fate)answer->fate
                                                                : ASK_FATE_UNKNOWN;
out:
    arena_deinit(&arena);
    return st.code == STATUS_CANCELLED || status_ok(st)
               ? st
               : FAIL(STATUS_UNAVAILABLE, "a store did not answer about a range");
}

MAYYIELD static struct status ask_applied(struct replica *r, const struct range_replica *at,
                                          uint64_t index, uint64_t deadline_ns)
{
    struct store *s = r->store;
    enum ask_fate none;
    Dsql__Pb__RangeAsk pb;

    if (at->store.v == s->o.ident.store.v) {
        return applied_here(s, r->range, index, sooner(s, deadline_ns, ASK_NS));
    }
    dsql__pb__range_ask__init(&pb);
    pb.op = ASK_APPLIED;
    pb.range_id = r->range.v;
    pb.index = index;
    return call(s, at, &pb, deadline_ns, &none);
}

static bool enough(const struct range_desc *d, uint32_t done, bool all)
{
    uint32_t voters = 0;
    uint32_t have = 0;

    for (uint32_t i = 0; i < d->replicas_count; i++) {
        const bool yes = (done >> i & 1u) != 0;

        if (all && !yes) {
            return false;
        }
        if (d->replicas[i].type == RANGE_VOTER) {
            voters++;
            have += yes ? 1 : 0;
        }
    }
    return have > voters / 2;
}

struct status ask__applied(struct replica *r, uint64_t index, bool all, uint64_t deadline_ns)
{
    struct store *s = r->store;
    const struct range_desc d = r->desc; /* Its keys are not looked at. */
    uint32_t done = 0;

    for (;;) {
        for (uint32_t i = 0; i < d.replicas_count && !s->stopping && !enough(&d, done, all); i++) {
            const struct status st =
                (done >> i & 1u) != 0 ? OK : ask_applied(r, &d.replicas[i], index, deadline_ns);

            if (st.code == STATUS_CANCELLED) {
                return st;
            }
            done |= status_ok(st) ? 1u << i : 0u;
        }
        if (enough(&d, done, all)) {
            return OK;
        }
        if (r->life != REPLICA_INIT || s->stopping) {
            return FAIL(STATUS_NOT_LEADER, "the range left this store meanwhile");
        }
        if (env_mono_ns(shard_env(s->shard)) >= deadline_ns) {
            return FAIL(STATUS_TIMEOUT, "not all replicas of the range have applied its change");
        }
        TRY(fiber_sleep(LOOK_AGAIN_NS));
    }
}

struct status ask__fate(struct replica *r, const struct range_replica *at, uint64_t deadline_ns,
                        enum ask_fate *out)
{
    struct store *s = r->store;
    const struct range_freeze f = r->applied.freeze;
    Dsql__Pb__RangeAsk pb;

    *out = ASK_FATE_UNKNOWN;
    if (at->store.v == s->o.ident.store.v) {
        return merge__fate(s, f.left, f.generation, r->desc.start, deadline_ns, out);
    }
    dsql__pb__range_ask__init(&pb);
    pb.op = ASK_FATE;
    pb.range_id = f.left.v;
    pb.generation = f.generation;
    pb.key = pb_binary(r->desc.start);
    return call(s, at, &pb, deadline_ns, out);
}

/* ---- answering ----------------------------------------------------------------------------------- */

struct question {
    struct store *store;
    struct rpc_reply_to reply;
    struct arena arena;
    const Dsql__Pb__RangeAsk *pb; /* In the arena. */
};

MAYYIELD static struct status answer(struct question *q, enum ask_fate *fate)
{
    struct store *s = q->store;
    const uint64_t deadline = sooner(s, DEADLINE_NONE, SERVE_NS);
    const range_id range = {q->pb->range_id};

    if (s->stopping) {
        return FAIL(STATUS_UNAVAILABLE, "the store is stopping");
    }
    if (q->pb->op == ASK_APPLIED) {
        return applied_here(s, range, q->pb->index, deadline);
    }
    if (q->pb->op == ASK_FATE) {
        return merge__fate(s, range, q->pb->generation, bytes_of(q->pb->key.data, q->pb->key.len),
                           deadline, fate);
    }
    return FAIL(STATUS_UNSUPPORTED, "a question about ranges that this version does not know");
}

MAYYIELD static void answer_fiber(void *arg)
{
    struct question *q = arg;
    struct store *s = q->store;
    enum ask_fate fate = ASK_FATE_UNKNOWN;
    struct status st = answer(q, &fate);
    Dsql__Pb__RangeAnswer pb;
    struct bytes body = BYTES_EMPTY;

    dsql__pb__range_answer__init(&pb);
    pb.fate = (uint32_t)fate;
    if (status_ok(st)) {
        st = pb_pack(&pb.base, &q->arena, &body);
    }
    rpc_reply(s->o.rpc, &q->reply, st, &body, status_ok(st) ? 1 : 0);
    arena_deinit(&q->arena);
    free(q);
    s->questions--;
    s->fibers--;
    wait_queue_wake_all(&s->idle);
}

void change__on_ask(void *store, const struct rpc_message *m)
{
    struct store *s = store;
    const struct rpc_reply_to reply = rpc_reply_to(m);
    ProtobufCAllocator allocator;
    struct question *q = NULL;
    struct status st = OK;

    if (!s->awake || s->stopping || s->questions >= SERVED_MAX) {
        rpc_reply(s->o.rpc, &reply, FAIL(STATUS_OVERLOADED, "the store answers no more"), NULL, 0);
        return;
    }
    q = calloc(1, sizeof(*q));
    if (q == NULL) {
        rpc_reply(s->o.rpc, &reply, FAIL(STATUS_MEMORY, "out of memory"), NULL, 0);
        return;
    }
    q->store = s;
    q->reply = reply;
    arena_init(&q->arena, 0);
    allocator = pb_arena_allocator(&q->arena);
    q->pb = dsql__pb__range_ask__unpack(&allocator, m->body.len, m->body.ptr);
    if (q->pb == NULL) {
        TRY_OUT(FAIL(STATUS_CORRUPT, "damaged question about a range"));
    }
    TRY_OUT(fiber_spawn(s->shard, "range.answer", answer_fiber, q));
    s->questions++;
    s->fibers++; /* Also while it waits for its first turn. */
    return;
out:
    rpc_reply(s->o.rpc, &reply, st, NULL, 0);
    arena_deinit(&q->arena);
    free(q);
}
