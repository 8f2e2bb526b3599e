/*
 * receive.c -- chunks of a Raft snapshot come in, are checked, and are offered to the core.
 *
 * A snapshot of one chunk stays in memory until the core has taken it; the chunks of larger ones go to the
 * spool as they come, each answered when it is written (see install.c), so that memory holds no more than one
 * chunk per snapshot. RANGE_SNAPSHOTS_IN_MAX are admitted at a time; others are told to come later. One
 * whose sender has fallen silent gives its place up.
 *
 * Frames may be lost, doubled or reordered: chunks are taken in order, repetitions of those that were taken
 * are not answered again.
 */
#include <stdlib.h>

#include "node/base/codec.h"
#include "node/base/hash.h"
#include "node/base/invariant.h"
#include "node/range/internal.h"
#include "node/rpc/pb_arena.h"

#define SILENCE_NS_MAX ((uint64_t)30000000000)

struct snapshot_in {
    struct list link; /* Of store.incoming. */
    struct replica *replica;
    struct uuid uuid;
    uint32_t seq; /* The next. */
    uint64_t index;
    uint64_t term;
    uint64_t heard_ns;
    struct arena arena;
    struct range_desc desc;
    struct key_span spans[KEY_RANGE_SPANS]; /* What it may contain. */
    struct engine_batch staged;             /* Of a small one. */
    bool spooled;                           /* Chunks 0 .. seq - 1 are, or will be, in the spool. */
    struct applied_state state;             /* Among what came. */
    bool has_state;
    struct hts gc_threshold; /* Likewise; zero: none. */
    bool complete; /* Offered to the core: until that has decided nothing else comes in. */
    struct rpc_reply_to reply; /* Of the last chunk, answered when installed. */
};

void snapshot__drop(struct replica *r)
{
    struct snapshot_in *in = r->snap_in;

    r->snap_in = NULL;
    if (in != NULL) {
        list_remove(&in->link);
        engine_batch_deinit(&in->staged);
        arena_deinit(&in->arena);
        free(in);
    }
}

/* Nobody will install it. */
static void discard(struct replica *r)
{
    if (r->snap_in != NULL && r->snap_in->spooled &&
        !status_ok(install__delete_spool(&store__pending(r->store)->batch, r->range))) {
        LOG_WARN("snapshot.spool_left", U64("range", r->range.v)); /* The next one clears it. */
    }
    snapshot__drop(r);
}

/* Is there a place for one more? Those that nobody sends any more are put out first. */
static bool admit(struct store *s)
{
    const uint64_t now = shard_now_ns(s->shard);
    uint32_t count = 0;

    LIST_FOREACH(it, &s->incoming) {
        struct snapshot_in *in = LIST_ENTRY(it, struct snapshot_in, link);

        if (!in->complete && in->heard_ns + SILENCE_NS_MAX < now) {
            discard(in->replica);
        } else {
            count++;
        }
    }
    return count < RANGE_SNAPSHOTS_IN_MAX;
}

static struct status begin(struct replica *r, const Dsql__Pb__SnapshotChunk *pb)
{
    struct snapshot_in *in = NULL;

    discard(r);
    if (pb->desc == NULL || pb->desc->range_id != r->range.v) {
        return FAIL(STATUS_CORRUPT, "damaged snapshot header");
    }
    if (!admit(r->store)) {
        return FAIL(STATUS_OVERLOADED, "other snapshots are coming in");
    }
    in = calloc(1, sizeof(*in));
    if (in == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    r->snap_in = in;
    in->replica = r;
    list_push_back(&r->store->incoming, &in->link);
    memcpy(in->uuid.b, pb->snap_uuid.data, sizeof(in->uuid.b));
    in->index = pb->index;
    in->term = pb->term;
    arena_init(&in->arena, 0);
    engine_batch_init(&in->staged);
    in->staged.ops.limit = 2 * RPC_BODY_MAX;
    TRY(range_desc_from_pb(pb->desc, &in->arena, &in->desc));
    if (change__in_the_way(r, &in->desc)) { /* Most likely a split that is still to apply here. */
        return FAIL(STATUS_RANGE_MISMATCH, "the range overlaps one that this store holds");
    }
    return key_range_spans(&in->arena, r->range, in->desc.start, in->desc.end, in->spans);
}

static bool belongs(const struct snapshot_in *in, struct bytes key)
{
    for (int i = 0; i < KEY_RANGE_SPANS; i++) {
        if (bytes_cmp(in->spans[i].start, key) <= 0 && bytes_cmp(key, in->spans[i].end) < 0) {
            return true;
        }
    }
    return false;
}

/* One pair of a chunk. AppliedState travels with the data; it must be that of the header. */
static struct status check_pair(struct replica *r, struct bytes key, struct bytes value)
{
    struct snapshot_in *in = r->snap_in;
    uint8_t mem[KEY_RANGE_ID_SIZE];

    if (!belongs(in, key)) {
        return FAIL(STATUS_CORRUPT, "a snapshot with keys of another range");
    }
    if (bytes_eq(key, key_range_record(mem, r->range, KEY_RANGE_APPLIED))) {
        TRY(applied_state_decode(value, &in->state));
        if (in->state.index != in->index || in->state.term != in->term) {
            return FAIL(STATUS_CORRUPT, "a snapshot of another index than it says");
        }
        in->has_state = true;
    } else if (bytes_eq(key, key_range_record(mem, r->range, KEY_RANGE_GC_THRESHOLD))) {
        TRY(gc__decode_threshold(value, &in->gc_threshold));
    }
    return OK;
}

static struct status check_block(struct replica *r, const Dsql__Pb__SnapshotChunk *pb,
                                 struct bytes block, bool keep)
{
    struct reader rd = reader_of(block);

    if (hash64(block, 0) != pb->checksum) {
        return FAIL(STATUS_CORRUPT, "a snapshot chunk was damaged on its way");
    }
    for (uint32_t i = 0; i < pb->pairs; i++) {
        const struct bytes key = read_lp_bytes(&rd);
        const struct bytes value = read_lp_bytes(&rd);

        if (rd.bad) {
            return FAIL(STATUS_CORRUPT, "damaged snapshot chunk");
        }
        TRY(check_pair(r, key, value));
        if (keep) {
            TRY(engine_batch_put(&r->snap_in->staged, ENGINE_CF_STATE, key, value));
        }
    }
    return rd.rest.len == 0 ? OK : FAIL(STATUS_CORRUPT, "a snapshot chunk with more than it says");
}

/* A chunk goes to the spool. *m is answered when it is written, unless it is the last. */
static struct status spool(struct replica *r, const Dsql__Pb__SnapshotChunk *pb, struct bytes block,
                           const struct rpc_message *m)
{
    struct store *s = r->store;
    struct store_write *w = store__pending(s);

    if (pb->seq == 0) {
        TRY(install__delete_spool(&w->batch, r->range)); /* Of one that a crash has ended. */
    }
    TRY(install__put_chunk(&w->batch, r->range, pb->seq, block));
    r->snap_in->spooled = true;
    if (!pb->last) {
        struct write_item *item = store__add_item(w, r);

        item->chunk = true;
        item->snapshot_reply = rpc_reply_to(m);
    }
    shard_timer_arm_in(s->shard, &s->tick, 0);
    return OK;
}

/* All chunks are here: offer the snapshot to the core. *done: nothing is to be installed. */
static struct status offer(struct replica *r, const Dsql__Pb__SnapshotChunk *pb, bool *done)
{
    struct raft_conf conf;
    const struct raft_state before = raft_get_state(r->raft);
    const struct raft_msg m = {
        .type = RAFT_MSG_SNAP,
        .from = {pb->from_replica},
        .to = r->id,
        .term = pb->raft_term,
        .index = pb->index,
        .log_term = pb->term,
        .conf = &conf,
    };

    *done = before.commit >= pb->index;
    if (*done) {
        return OK; /* The log got there by itself. */
    }
    if (before.term > pb->raft_term) {
        return FAIL(STATUS_NOT_LEADER, "the snapshot comes from an older leader");
    }
    if (!r->snap_in->has_state) {
        return FAIL(STATUS_CORRUPT, "a snapshot without applied state");
    }
    if (change__in_the_way(r, &r->snap_in->desc)) {
        return FAIL(STATUS_RANGE_MISMATCH, "the range overlaps one that this store holds");
    }
    range_desc_conf(&r->snap_in->desc, &conf);
    replica__refresh_view(r);
    TRY(raft_step(r->raft, &m));
    r->snap_in->complete = true;
    store__mark_dirty(r);
    return OK;
}

void snapshot__settle(struct replica *r)
{
    struct snapshot_in *in = r->snap_in;
    struct status st = OK;

    if (in == NULL || !in->complete) {
        return;
    }
    if (raft_get_state(r->raft).commit < in->index) {
        st = FAIL(STATUS_NOT_LEADER, "the snapshot was refused");
    }
    rpc_reply(r->store->o.rpc, &in->reply, st, NULL, 0);
    discard(r);
}

static bool is_of(const struct snapshot_in *in, const Dsql__Pb__SnapshotChunk *pb)
{
    return in != NULL && memcmp(in->uuid.b, pb->snap_uuid.data, sizeof(in->uuid.b)) == 0;
}

/* *answered: now or later, but not by the caller. */
static struct status take_for(struct replica *r, const Dsql__Pb__SnapshotChunk *pb,
                              struct bytes block, const struct rpc_message *m, bool *answered)
{
    bool done = false;

    if (r->install != NULL || (r->snap_in != NULL && r->snap_in->complete)) {
        /* A repetition of its last chunk is answered when it is installed. */
        *answered = is_of(r->snap_in, pb) || install__answers(r, m);
        return FAIL(STATUS_OVERLOADED, "a snapshot is being installed");
    }
    if (is_of(r->snap_in, pb) && pb->seq < r->snap_in->seq) {
        *answered = true;
        return OK;
    }
    if (pb->seq == 0) {
        TRY(begin(r, pb));
    }
    if (!is_of(r->snap_in, pb) || r->snap_in->seq != pb->seq) {
        return FAIL(STATUS_INVALID, "a snapshot chunk out of order");
    }
    r->snap_in->heard_ns = shard_now_ns(r->store->shard);
    TRY(check_block(r, pb, block, pb->seq == 0 && pb->last));
    if (pb->seq > 0 || !pb->last) {
        TRY(spool(r, pb, block, m));
    }
    r->snap_in->seq++;
    if (!pb->last) {
        *answered = true;
        return OK;
    }
    r->snap_in->reply = rpc_reply_to(m);
    TRY(offer(r, pb, &done));
    *answered = !done; /* Else when the install is durable. */
    if (done) {
        discard(r);
    }
    return OK;
}

static struct status take_chunk(struct store *s, const struct rpc_message *m, bool *answered)
{
    struct reader rd = reader_of(m->body);
    const struct bytes head = read_lp_bytes(&rd);
    ProtobufCAllocator allocator;
    const Dsql__Pb__SnapshotChunk *pb = NULL;
    struct replica *r = NULL;
    struct status st = OK;

    arena_reset(&s->scratch);
    allocator = pb_arena_allocator(&s->scratch);
    pb = rd.bad ? NULL : dsql__pb__snapshot_chunk__unpack(&allocator, head.len, head.ptr);
    if (pb == NULL || pb->snap_uuid.len != sizeof(struct uuid) || pb->to_replica == 0) {
        return FAIL(STATUS_CORRUPT, "damaged snapshot chunk");
    }
    r = store__find(s, (range_id){pb->range_id});
    if (r == NULL || r->unborn || r->id.v != pb->to_replica) {
        /* Raft's messages create replicas; by the time of a snapshot it exists. */
        return FAIL(STATUS_NOT_FOUND, "the replica to receive the snapshot does not exist");
    }
    r->last_from.v = pb->from_replica;
    r->last_from_store = m->from_store;
    st = take_for(r, pb, rd.rest, m, answered);
    if (!status_ok(st) && is_of(r->snap_in, pb) && !r->snap_in->complete) {
        discard(r); /* Its sender begins anew, with another. */
    }
    return st;
}

void snapshot__on_chunk(void *store, const struct rpc_message *m)
{
    struct store *s = store;
    const struct rpc_reply_to reply = rpc_reply_to(m);
    bool answered = false;
    struct status st = FAIL(STATUS_UNAVAILABLE, "the store is starting or stopping");

    if (s->awake && !s->stopping && !s->failed) {
        st = take_chunk(s, m, &answered);
    }
    if (!answered) {
        rpc_reply(s->o.rpc, &reply, st, NULL, 0);
    }
}

void snapshot__chunk_written(struct replica *r, const struct rpc_reply_to *reply)
{
    if (r->snap_in != NULL) {
        r->snap_in->heard_ns = shard_now_ns(r->store->shard);
    }
    rpc_reply(r->store->o.rpc, reply, OK, NULL, 0);
}

/* ---- the core has accepted it ------------------------------------------------------------------- */

static struct status install_small(struct replica *r, const struct install_plan *p,
                                   struct store_write *w)
{
    struct snapshot_in *in = r->snap_in;
    struct write_item *item = NULL;
    struct buf desc = {0};
    struct status st = OK;

    TRY_OUT(install__delete_old(&w->batch, p));
    TRY_OUT(engine_batch_append(&w->batch, buf_bytes(&in->staged.ops), true));
    TRY_OUT(install__put_last(&w->batch, p, r->id));
    TRY_OUT(range_desc_encode(&in->desc, &desc));
    item = store__add_item(w, r);
    item->snapshot = true;
    item->applied = true;
    item->state = in->state;
    item->desc = blob_copy(buf_bytes(&desc));
    INVARIANT(item->desc != NULL);
    item->snapshot_reply = in->reply;
    w->sync = true;
    r->life = REPLICA_INSTALLING;
    r->installs++;
out:
    buf_deinit(&desc);
    return st;
}

void snapshot__install(struct replica *r, const struct raft_ready *rd, struct store_write *w)
{
    struct snapshot_in *in = r->snap_in;
    struct install_plan p;
    struct status st = OK;

    INVARIANT(in != NULL && in->complete);
    INVARIANT(in->index == rd->snapshot_index);
    p = (struct install_plan){.index = rd->snapshot_index,
                              .term = rd->snapshot_term,
                              .chunks = in->spooled ? in->seq : 0,
                              .old = change__keys_held(r),
                              .desc = in->desc};
    change__subsume(r, &in->desc, w);
    st = in->spooled ? install__start(r, &p, &in->state, &in->reply, w) : install_small(r, &p, w);
    st = status_ok(st) ? replica__set_desc(r, &in->desc) : st; /* Its keys are taken from now on. */
    if (!status_ok(st)) {
        store__fatal(r->store, st);
    }
    r->submitted = in->state;
    r->locks_index = in->state.index;
    r->gc_threshold = hts_max(r->gc_threshold, in->gc_threshold);
    r->truncated_index = rd->snapshot_index;
    r->truncated_term = rd->snapshot_term;
    r->log_bytes = 0;
    lease__closed(r);
    r->known_since = hclock_hts(hlc_now(r->store->hlc));
    r->store->stats.snapshots_installed++;
    LOG_INFO("snapshot.installing", U64("range", r->range.v), U64("index", rd->snapshot_index),
             U64("chunks", p.chunks));
    snapshot__drop(r);
}
