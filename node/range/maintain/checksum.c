/*
 * checksum.c -- do all replicas hold the same bytes?
 *
 * The leaseholder puts a CHECKSUM into the log. Every replica that applies it takes a digest of all that it
 * replicates, as of exactly that index, and the leaseholder asks for them:
 *
 *     apply CHECKSUM: the write ends with it (store__seal()); behind the write, still on the writer's thread,
 *     an engine snapshot is taken, before any later entry can be in the engine; the digest is computed on the
 *     io lane
 *     ask: CHECKSUM call {range, index} -> {digest}, answered when it is there
 *
 * A replica that differs from the majority has lost or invented data, by a bug or by a disk that lies. It must
 * not answer anybody, nor be counted in a quorum, so its store is told and stops: store__fatal(), which ends
 * the process with a message that says which range. The others serve; whoever operates the cluster replaces
 * the store. Without a majority (two replicas that differ) nobody can say who is right: it is logged as an
 * error and counted, no more.
 *
 * One check per range and one digest per replica at a time; a replica that is still busy with an earlier one
 * is not asked twice, it counts as missing.
 *
 * Source: CockroachDB's consistency checker. Differs: no id, the log index names a check.
 */
#include <stdlib.h>

#include "node/base/invariant.h"
#include "node/range/internal.h"
#include "node/rpc/pb_arena.h"

#define DIGEST_NS_MAX ((uint64_t)120000000000)

struct range_checksum {
    struct replica *replica;
    uint64_t index; /* Of the command; 0: none came yet. */
    bool running;
    bool checking; /* store_check_consistency() is under way. */
    uint64_t digest;
    struct status st; /* Of the digest. */
    struct wait_queue done;
    bool asked; /* Somebody waits for the digest of `asked_index`. */
    uint64_t asked_index;
    struct rpc_reply_to reply;
    /* While running. */
    struct engine_snap *snap;
    struct key_span spans[KEY_RANGE_SPANS];
    struct arena arena;
    struct env_job job;
};

/* NULL without memory. */
static struct range_checksum *of(struct replica *r)
{
    if (r->checksum == NULL) {
        r->checksum = calloc(1, sizeof(*r->checksum));
        if (r->checksum != NULL) {
            r->checksum->replica = r;
            wait_queue_init(&r->checksum->done);
            arena_init(&r->checksum->arena, 0);
        }
    }
    return r->checksum;
}

void checksum__destroy(struct replica *r)
{
    if (r->checksum != NULL) {
        INVARIANT(!r->checksum->running);
        arena_deinit(&r->checksum->arena);
        free(r->checksum);
        r->checksum = NULL;
    }
}

/* ---- the digest --------------------------------------------------------------------------------- */

static void digest_work(struct env_job *job)
{
    struct range_checksum *c = CONTAINER_OF(job, struct range_checksum, job);

    c->st = OK;
    c->digest = 0;
    for (int i = 0; status_ok(c->st) && i < KEY_RANGE_SPANS; i++) {
        uint64_t digest = 0;

        c->st = engine_digest(c->replica->store->engine, c->snap, c->spans[i].start,
                              c->spans[i].end, &digest);
        c->digest = c->digest * 31 + digest;
    }
}

static void send_digest(struct replica *r, const struct rpc_reply_to *to, struct status st,
                        uint64_t digest)
{
    Dsql__Pb__ChecksumReply pb;
    struct store *s = r->store;
    struct bytes body = BYTES_EMPTY;

    dsql__pb__checksum_reply__init(&pb);
    pb.digest = digest;
    arena_reset(&s->scratch);
    st = status_ok(st) ? pb_pack(&pb.base, &s->scratch, &body) : st;
    rpc_reply(s->o.rpc, to, st, &body, status_ok(st) ? 1 : 0);
}

/* Whoever asked is answered if this is the digest he wants, or if it never comes. */
static void answer(struct range_checksum *c)
{
    if (!c->asked || c->running || c->asked_index > c->index) {
        return;
    }
    c->asked = false;
    send_digest(c->replica, &c->reply,
                c->asked_index == c->index ? c->st
                                           : FAIL(STATUS_NOT_FOUND, "there is no such digest"),
                c->digest);
}

static void digest_done(struct env_job *job)
{
    struct range_checksum *c = CONTAINER_OF(job, struct range_checksum, job);
    struct replica *r = c->replica;
    struct store *s = r->store;

    engine_snap_release(s->engine, c->snap);
    c->snap = NULL;
    c->running = false;
    arena_reset(&c->arena);
    if (!s->failed) {
        answer(c);
    }
    wait_queue_wake_all(&c->done);
    s->fibers--;
    replica__release(r);
    wait_queue_wake_all(&s->idle);
}

void checksum__applied(struct replica *r, uint64_t index, struct engine_snap *snap)
{
    struct range_checksum *c = of(r);
    struct store *s = r->store;

    if (c == NULL || c->running || snap == NULL || s->stopping || r->life != REPLICA_INIT ||
        !status_ok(key_range_spans(&c->arena, r->range, r->desc.start, r->desc.end, c->spans))) {
        engine_snap_release(s->engine, snap); /* Then it is missing. */
        return;
    }
    c->index = index;
    c->snap = snap;
    c->running = true;
    replica__acquire(r);
    s->fibers++;
    c->job.work = digest_work;
    c->job.done = digest_done;
    env_submit(shard_env(s->shard), ENV_LANE_IO, &c->job);
}

/* ---- asked by others ---------------------------------------------------------------------------- */

static struct status take_question(struct store *s, const struct rpc_message *m, bool *answered)
{
    ProtobufCAllocator allocator;
    const Dsql__Pb__ChecksumRequest *pb = NULL;
    struct range_checksum *c = NULL;
    struct replica *r = NULL;

    arena_reset(&s->scratch);
    allocator = pb_arena_allocator(&s->scratch);
    pb = dsql__pb__checksum_request__unpack(&allocator, m->body.len, m->body.ptr);
    if (pb == NULL || pb->index == 0) {
        return FAIL(STATUS_CORRUPT, "damaged question for a digest");
    }
    r = store__find(s, (range_id){pb->range_id});
    if (r == NULL || r->life != REPLICA_INIT) {
        return FAIL(STATUS_RANGE_NOT_FOUND, "no such range on this store");
    }
    if (pb->differs) {
        LOG_ERROR("range.inconsistent", U64("range", r->range.v), U64("index", pb->index),
                  U64("digest", pb->digest));
        store__fatal(s, FAIL(STATUS_CORRUPT, "a replica differs from what the majority holds"));
        return OK;
    }
    c = of(r);
    if (c == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    if (c->asked && c->asked_index != pb->index) {
        send_digest(r, &c->reply, FAIL(STATUS_NOT_FOUND, "another digest is wanted by now"), 0);
    }
    c->asked = true;
    c->asked_index = pb->index;
    c->reply = rpc_reply_to(m);
    answer(c);
    *answered = true;
    return OK;
}

void checksum__on_ask(void *store, const struct rpc_message *m)
{
    struct store *s = store;
    const struct rpc_reply_to reply = rpc_reply_to(m);
    bool answered = false;
    struct status st = FAIL(STATUS_UNAVAILABLE, "the store is stopping");

    if (!s->stopping && !s->failed) {
        st = take_question(s, m, &answered);
    }
    if (!answered) {
        rpc_reply(s->o.rpc, &reply, st, NULL, 0);
    }
}

/* ---- asking ------------------------------------------------------------------------------------- */

struct check {
    struct replica *replica;
    struct range_checksum *own;
    uint64_t index;
    uint64_t deadline_ns;
    struct range_replica peers[RAFT_PEERS_MAX]; /* As of the command. */
    uint64_t digests[RAFT_PEERS_MAX];
    bool known[RAFT_PEERS_MAX];
    uint32_t count;
};

/* `differs` zero: for its digest. */
MAYYIELD static struct status ask(struct check *k, uint32_t i, bool differs)
{
    struct store *s = k->replica->store;
    struct rpc_to to = {.store = k->peers[i].store, .cls = RPC_CLASS_NORMAL};
    Dsql__Pb__ChecksumRequest pb;
    const Dsql__Pb__ChecksumReply *reply = NULL;
    ProtobufCAllocator allocator;
    struct arena arena;
    struct bytes body;
    struct bytes got;
    struct status st = OK;

    if (!s->o.node_of_store(s->o.node_ctx, to.store, &to.node)) {
        return FAIL(STATUS_UNAVAILABLE, "nobody knows where that store is");
    }
    arena_init(&arena, 0);
    dsql__pb__checksum_request__init(&pb);
    pb.range_id = k->replica->range.v;
    pb.index = k->index;
    pb.differs = differs;
    pb.digest = k->digests[i];
    TRY_OUT(pb_pack(&pb.base, &arena, &body));
    TRY_OUT(rpc_call(s->o.rpc, to, RPC_TYPE_CHECKSUM, &body, 1, k->deadline_ns, &arena, &got));
    allocator = pb_arena_allocator(&arena);
    reply = dsql__pb__checksum_reply__unpack(&allocator, got.len, got.ptr);
    st = reply == NULL ? FAIL(STATUS_CORRUPT, "damaged digest") : OK;
    if (reply != NULL && !differs) {
        k->digests[i] = reply->digest;
        k->known[i] = true;
    }
out:
    arena_deinit(&arena);
    return st;
}

MAYYIELD static struct status own_digest(struct check *k, uint32_t i)
{
    struct range_checksum *c = k->own;

    while (c->index < k->index || (c->index == k->index && c->running)) {
        if (k->replica->life != REPLICA_INIT || k->replica->store->stopping) {
            return FAIL(STATUS_CANCELLED, "the store is stopping");
        }
        TRY(wait_queue_wait(&c->done, k->deadline_ns));
    }
    if (c->index != k->index) {
        return FAIL(STATUS_NOT_FOUND, "there is no such digest");
    }
    TRY(c->st);
    k->digests[i] = c->digest;
    k->known[i] = true;
    return OK;
}

/* Puts the command into the log. */
MAYYIELD static struct status propose(struct check *k)
{
    struct replica *r = k->replica;
    struct command c = {.kind = COMMAND_CHECKSUM};
    struct proposal *p = proposal__create(NULL, 0);
    struct completion done = {0};
    struct status outcome = OK;
    struct status st = OK;

    if (p == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    p->waiter = &done;
    p->outcome = &outcome;
    st = proposal__append(r, &c, RAFT_ENTRY_NORMAL, raft_get_state(r->raft).term, p);
    if (!status_ok(st)) {
        proposal__free(p);
        return st;
    }
    k->index = p->index;
    k->count = r->desc.replicas_count;
    memcpy(k->peers, r->desc.replicas, sizeof(k->peers));
    return proposal__wait(p, &done, &outcome, k->deadline_ns);
}

/* Position of the digest that more than half of those known have; -1: there is none. */
static int majority(const struct check *k, uint32_t known)
{
    for (uint32_t i = 0; i < k->count; i++) {
        uint32_t same = 0;

        for (uint32_t j = 0; j < k->count; j++) {
            same += k->known[j] && k->digests[j] == k->digests[i] ? 1 : 0;
        }
        if (k->known[i] && same * 2 > known) {
            return (int)i;
        }
    }
    return -1;
}

/* What differs is logged loudly, and stopped if it is known to be wrong. */
MAYYIELD static void judge(struct check *k, struct store_consistency *out)
{
    struct store *s = k->replica->store;
    int right = -1;
    bool own_is_wrong = false;

    for (uint32_t i = 0; i < k->count; i++) {
        out->compared += k->known[i] ? 1 : 0;
        out->missing += k->known[i] ? 0 : 1;
    }
    right = majority(k, out->compared);
    for (uint32_t i = 0; i < k->count; i++) {
        if (!k->known[i] || (right >= 0 && k->digests[i] == k->digests[right])) {
            continue;
        }
        out->differing++;
        LOG_ERROR("range.inconsistent", U64("range", k->replica->range.v), U64("index", k->index),
                  U64("store", k->peers[i].store.v), U64("digest", k->digests[i]));
        if (right < 0) {
            continue;
        }
        if (k->peers[i].store.v == s->o.ident.store.v) {
            own_is_wrong = true;
        } else {
            status_ignore(ask(k, i, true)); /* It stops, perhaps without an answer. */
        }
    }
    s->stats.inconsistencies += out->differing > 0 ? 1 : 0;
    out->digest = right >= 0 ? k->digests[right] : 0;
    if (own_is_wrong) {
        store__fatal(s, FAIL(STATUS_CORRUPT, "a replica differs from what the majority holds"));
    }
}

MAYYIELD static struct status check(struct check *k, struct store_consistency *out)
{
    struct store *s = k->replica->store;

    TRY(lease__check(k->replica, HTS_ZERO));
    TRY(propose(k));
    out->index = k->index;
    for (uint32_t i = 0; i < k->count; i++) {
        /* Whoever does not answer is missing. */
        status_ignore(k->peers[i].store.v == s->o.ident.store.v ? own_digest(k, i)
                                                                : ask(k, i, false));
        if (s->stopping || s->failed) {
            return FAIL(STATUS_CANCELLED, "the store is stopping");
        }
    }
    judge(k, out);
    s->stats.consistency_checks++;
    return OK;
}

struct status store_check_consistency(struct store *s, range_id range, uint64_t deadline_ns,
                                      struct store_consistency *out)
{
    struct replica *r = store__find(s, range);
    const uint64_t latest = env_mono_ns(shard_env(s->shard)) + DIGEST_NS_MAX;
    struct maintain_work work;
    struct check *k = NULL;
    struct status st = OK;

    *out = (struct store_consistency){.index = 0};
    if (r == NULL || s->stopping || s->failed) {
        return FAIL(STATUS_RANGE_NOT_FOUND, "no such range on this store");
    }
    k = calloc(1, sizeof(*k));
    if (k == NULL || of(r) == NULL) {
        free(k);
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    if (r->checksum->checking) {
        free(k);
        return FAIL(STATUS_OVERLOADED, "the range is being checked already");
    }
    st = work__begin(&work, r);
    if (!status_ok(st)) {
        free(k);
        return st;
    }
    k->replica = r;
    k->own = r->checksum;
    k->deadline_ns = deadline_ns < latest ? deadline_ns : latest;
    r->checksum->checking = true;
    st = check(k, out);
    k->own->checking = false;
    work__end(&work);
    free(k);
    return st;
}
