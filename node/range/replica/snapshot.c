/*
 * snapshot.c -- a replica that is too far behind gets the range as a whole.
 *
 * The sender takes an engine snapshot, reads index and term from the AppliedState inside it, and
 * streams every replicated span in key order, one call per chunk, so that a slow receiver slows the
 * sender down. The receiver collects the chunks; when the core accepts the snapshot they become one
 * synced write together with the truncated log: a crash leaves either the old replica or the new.
 *
 * Limits: a snapshot is held in memory by the receiver, at most RANGE_SNAPSHOT_BYTES_MAX. Larger ones
 * are refused with a message; ranges split long before that size once splits exist.
 *
 * Source: protocol reference 2.9, "small snapshots".
 */
#include <stdlib.h>

#include "node/base/codec.h"
#include "node/base/hash.h"
#include "node/base/invariant.h"
#include "node/range/internal.h"
#include "node/rpc/pb_arena.h"

#define CHUNK_DEADLINE_NS ((uint64_t)20000000000)
#define RETRY_NS          ((uint64_t)500000000)

/* ---- sending ------------------------------------------------------------------------------------ */

struct snapshot_out {
    struct list link;    /* Of replica.outgoing. */
    struct fiber *fiber; /* NULL: not running yet. */
    struct replica *replica;
    replica_id peer;
    struct rpc_to to;
    struct uuid uuid;
    struct engine_snap *snap;
    struct arena arena; /* Of the whole transfer: spans. */
    struct bytes start; /* Of the range; it never changes. */
    struct key_span spans[KEY_RANGE_SPANS];
    struct applied_state state;
    struct range_desc desc; /* As of `state`. */

    /* The chunk that the io lane fills. */
    int span;            /* Next span to read; KEY_RANGE_SPANS: all read. */
    struct buf position; /* Next key inside it; empty: its start. */
    struct buf pairs;
    uint32_t pairs_count;
    struct status st;
};

/* Fills `pairs` from where the last chunk ended. Runs on the io lane. */
static struct status fill_span(struct snapshot_out *o)
{
    struct engine_iter_options io = {
        .cf = ENGINE_CF_STATE,
        .lower = o->position.len > 0 ? buf_bytes(&o->position) : o->spans[o->span].start,
        .upper = o->spans[o->span].end,
        .snap = o->snap,
    };
    struct engine_iter *it = NULL;
    struct status st = OK;

    TRY(engine_iter_open(o->replica->store->engine, &io, &it));
    for (engine_iter_seek_first(it); engine_iter_valid(it); engine_iter_next(it)) {
        if (o->pairs.len >= RANGE_SNAPSHOT_CHUNK_BYTES) {
            buf_clear(&o->position);
            TRY_OUT(buf_append_bytes(&o->position, engine_iter_key(it)));
            goto out;
        }
        TRY_OUT(buf_append_lp(&o->pairs, engine_iter_key(it)));
        TRY_OUT(buf_append_lp(&o->pairs, engine_iter_value(it)));
        o->pairs_count++;
    }
    TRY_OUT(engine_iter_status(it));
    buf_clear(&o->position);
    o->span++;
out:
    engine_iter_close(it);
    return st;
}

/* Value of an unversioned key as the snapshot has it. */
static struct status snap_get(struct snapshot_out *o, struct bytes key, struct bytes *out)
{
    struct engine_iter_options io = {.cf = ENGINE_CF_STATE, .lower = key, .snap = o->snap};
    struct engine_iter *it = NULL;
    struct status st = OK;

    TRY(engine_iter_open(o->replica->store->engine, &io, &it));
    engine_iter_seek(it, key);
    if (!engine_iter_valid(it) || !bytes_eq(engine_iter_key(it), key)) {
        TRY_OUT(FAIL(STATUS_CORRUPT, "a range has no applied state"));
    }
    TRY_OUT(bytes_dup(&o->arena, engine_iter_value(it), out));
out:
    engine_iter_close(it);
    return st;
}

/* Takes the engine snapshot. Index, term and descriptor come from inside it: the replica in memory may
 * not have heard yet that a write has ended, and the receiver will never apply what the snapshot
 * contains. */
static struct status open_snapshot(struct snapshot_out *o)
{
    struct replica *r = o->replica;
    uint8_t mem[KEY_RANGE_ID_SIZE];
    struct bytes value;

    TRY(engine_snap_acquire(r->store->engine, &o->snap));
    TRY(snap_get(o, key_range_record(mem, r->range, KEY_RANGE_APPLIED), &value));
    TRY(applied_state_decode(value, &o->state));
    TRY(replica__read_desc(r->store->engine, o->snap, o->start, &o->arena, &o->desc));
    return key_range_spans(&o->arena, r->range, o->desc.start, o->desc.end, o->spans);
}

static void fill_chunk(void *arg)
{
    struct snapshot_out *o = arg;

    buf_clear(&o->pairs);
    o->pairs_count = 0;
    o->st = o->snap == NULL ? open_snapshot(o) : OK;
    while (status_ok(o->st) && o->span < KEY_RANGE_SPANS &&
           o->pairs.len < RANGE_SNAPSHOT_CHUNK_BYTES) {
        o->st = fill_span(o);
    }
}

MAYYIELD static struct status send_chunk(struct snapshot_out *o, uint32_t seq)
{
    struct replica *r = o->replica;
    Dsql__Pb__SnapshotChunk pb;
    Dsql__Pb__RangeDesc desc;
    Dsql__Pb__ReplicaDesc replicas[RAFT_PEERS_MAX];
    Dsql__Pb__ReplicaDesc *pointers[RAFT_PEERS_MAX];
    struct arena arena;
    struct bytes parts[3];
    uint8_t prefix[VARINT_MAX];
    struct bytes reply;
    struct status st = OK;

    arena_init(&arena, 0);
    dsql__pb__snapshot_chunk__init(&pb);
    range_desc_to_pb(&o->desc, &desc, replicas, pointers);
    pb.snap_uuid = pb_binary(bytes_of(o->uuid.b, sizeof(o->uuid.b)));
    pb.seq = seq;
    pb.last = o->span == KEY_RANGE_SPANS;
    pb.range_id = r->range.v;
    pb.from_replica = r->id.v;
    pb.to_replica = o->peer.v;
    pb.index = o->state.index;
    pb.term = o->state.term;
    pb.raft_term = raft_get_state(r->raft).term;
    pb.desc = seq == 0 ? &desc : NULL;
    pb.pairs = o->pairs_count;
    pb.checksum = hash64(buf_bytes(&o->pairs), 0);
    TRY_OUT(pb_pack(&pb.base, &arena, &parts[1]));
    parts[0] = bytes_of(prefix, varint_put(prefix, parts[1].len));
    parts[2] = buf_bytes(&o->pairs);
    TRY_OUT(rpc_call(r->store->o.rpc, o->to, RPC_TYPE_SNAPSHOT, parts, 3,
                     env_mono_ns(shard_env(r->store->shard)) + CHUNK_DEADLINE_NS, &arena, &reply));
out:
    arena_deinit(&arena);
    return st;
}

MAYYIELD static struct status stream(struct snapshot_out *o)
{
    struct replica *r = o->replica;

    for (uint32_t seq = 0; seq == 0 || o->span < KEY_RANGE_SPANS; seq++) {
        fiber_run_blocking(ENV_LANE_IO, fill_chunk, o);
        TRY(o->st);
        /* We yielded: only the leader that started the stream may go on with it. */
        if (r->life != REPLICA_INIT || r->store->stopping ||
            raft_get_state(r->raft).role != RAFT_LEADER) {
            return FAIL(STATUS_NOT_LEADER, "leadership moved during a snapshot");
        }
        TRY(send_chunk(o, seq));
    }
    return OK;
}

MAYYIELD static void send_fiber(void *arg)
{
    struct snapshot_out *o = arg;
    struct replica *r = o->replica;
    struct store *s = r->store;
    struct status st = OK;

    o->fiber = fiber_current();
    while (status_ok(st) && s->snapshots_out >= RANGE_SNAPSHOTS_OUT_MAX && !s->stopping) {
        st = fiber_sleep(RETRY_NS); /* Looked at again above. */
    }
    s->snapshots_out++;
    st = status_ok(st) ? stream(o) : st;
    s->snapshots_out--;
    if (status_ok(st)) {
        s->stats.snapshots_sent++;
    } else {
        LOG_WARN("snapshot.send_failed", U64("range", r->range.v), U64("to", o->to.store.v),
                 STR("why", status_text(st)));
        status_ignore(fiber_sleep(RETRY_NS)); /* Not at once again. */
    }
    list_remove(&o->link);
    if (r->life == REPLICA_INIT) {
        replica__refresh_view(r);
        raft_report_snapshot(r->raft, o->peer, status_ok(st));
        store__mark_dirty(r);
    }
    engine_snap_release(s->engine, o->snap);
    buf_deinit(&o->position);
    buf_deinit(&o->pairs);
    arena_deinit(&o->arena);
    free(o);
    s->fibers--;
    replica__release(r);
    wait_queue_wake_all(&s->idle);
}

void snapshot__stop(struct replica *r)
{
    LIST_FOREACH(it, &r->outgoing) {
        struct snapshot_out *o = LIST_ENTRY(it, struct snapshot_out, link);

        if (o->fiber != NULL) {
            fiber_cancel(o->fiber); /* One that has not started yet sees that the store stops. */
        }
    }
}

/* With its fiber spawned; NULL when that is not possible now. */
static struct snapshot_out *out_new(struct replica *r, const struct range_replica *target)
{
    struct snapshot_out *o = calloc(1, sizeof(*o));

    if (o == NULL) {
        return NULL;
    }
    o->replica = r;
    o->peer = target->id;
    o->to = (struct rpc_to){target->node, target->store, RPC_CLASS_BULK};
    env_random(shard_env(r->store->shard), o->uuid.b, sizeof(o->uuid.b));
    arena_init(&o->arena, 0);
    buf_init(&o->pairs, 2 * RPC_BODY_MAX);
    if (!status_ok(bytes_dup(&o->arena, r->desc.start, &o->start)) ||
        !status_ok(fiber_spawn(r->store->shard, "range.snapshot", send_fiber, o))) {
        arena_deinit(&o->arena);
        free(o);
        return NULL;
    }
    return o;
}

void snapshot__send(struct replica *r, replica_id peer)
{
    const struct range_replica *target = range_desc_find_id(&r->desc, peer);
    struct snapshot_out *o = NULL;

    LIST_FOREACH(it, &r->outgoing) {
        if (LIST_ENTRY(it, struct snapshot_out, link)->peer.v == peer.v) {
            return; /* On its way. */
        }
    }
    o = target == NULL || r->store->stopping ? NULL : out_new(r, target);
    if (o == NULL) {
        /* Owed for every request of the core: otherwise the peer would get nothing any more. */
        raft_report_snapshot(r->raft, peer, false);
        return;
    }
    replica__acquire(r);
    r->store->fibers++;
    list_push_back(&r->outgoing, &o->link);
    LOG_INFO("snapshot.sending", U64("range", r->range.v), U64("to", target->store.v));
}

/* ---- receiving ---------------------------------------------------------------------------------- */

struct snapshot_in {
    struct uuid uuid;
    uint32_t seq;
    uint64_t index;
    uint64_t term;
    struct arena arena;
    struct range_desc desc;
    struct key_span spans[KEY_RANGE_SPANS]; /* What it may contain. */
    struct engine_batch staged;
    struct applied_state state; /* Among what was staged. */
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
        engine_batch_deinit(&in->staged);
        arena_deinit(&in->arena);
        free(in);
    }
}

static struct status begin(struct replica *r, const Dsql__Pb__SnapshotChunk *pb)
{
    struct snapshot_in *in = NULL;

    snapshot__drop(r);
    if (pb->desc == NULL || pb->desc->range_id != r->range.v || pb->snap_uuid.len != 16) {
        return FAIL(STATUS_CORRUPT, "damaged snapshot header");
    }
    in = calloc(1, sizeof(*in));
    if (in == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    r->snap_in = in;
    memcpy(in->uuid.b, pb->snap_uuid.data, 16);
    in->index = pb->index;
    in->term = pb->term;
    arena_init(&in->arena, 0);
    engine_batch_init(&in->staged);
    in->staged.ops.limit = RANGE_SNAPSHOT_BYTES_MAX;
    TRY(range_desc_from_pb(pb->desc, &in->arena, &in->desc));
    return key_range_spans(&in->arena, r->range, in->desc.start, in->desc.end, in->spans);
}

/* Keys that another replica of this store holds: it would lose them. */
static bool overlaps(struct replica *r, const struct range_desc *d)
{
    size_t pos = 0;
    uint64_t key = 0;
    void *value = NULL;

    while (map_next(&r->store->replicas, &pos, &key, &value)) {
        const struct replica *other = value;

        if (other != r && other->life == REPLICA_INIT && bytes_cmp(other->desc.start, d->end) < 0 &&
            bytes_cmp(d->start, other->desc.end) < 0) {
            return true;
        }
    }
    return false;
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
static struct status stage_pair(struct replica *r, struct bytes key, struct bytes value)
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
    return engine_batch_put(&in->staged, ENGINE_CF_STATE, key, value);
}

static struct status stage(struct replica *r, const Dsql__Pb__SnapshotChunk *pb, struct bytes block)
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
        TRY(stage_pair(r, key, value));
    }
    r->snap_in->seq++;
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
    if (overlaps(r, &r->snap_in->desc)) {
        return FAIL(STATUS_INVALID, "the range overlaps one that this store holds");
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
    snapshot__drop(r);
}

static struct status take_chunk(struct store *s, const struct rpc_message *m, bool *answered)
{
    struct reader rd = reader_of(m->body);
    const struct bytes head = read_lp_bytes(&rd);
    ProtobufCAllocator allocator;
    const Dsql__Pb__SnapshotChunk *pb = NULL;
    struct replica *r = NULL;
    bool done = false;

    arena_reset(&s->scratch);
    allocator = pb_arena_allocator(&s->scratch);
    pb = rd.bad ? NULL : dsql__pb__snapshot_chunk__unpack(&allocator, head.len, head.ptr);
    if (pb == NULL || pb->snap_uuid.len != 16 || pb->to_replica == 0) {
        return FAIL(STATUS_CORRUPT, "damaged snapshot chunk");
    }
    r = store__find(s, (range_id){pb->range_id});
    if (r == NULL || r->id.v != pb->to_replica) {
        /* Raft's messages create replicas; by the time of a snapshot it exists. */
        return FAIL(STATUS_NOT_FOUND, "the replica to receive the snapshot does not exist");
    }
    r->last_from.v = pb->from_replica;
    r->last_from_store = m->from_store;
    if (r->snap_in != NULL && r->snap_in->complete) {
        /* A repetition of its last chunk is answered when it is installed. */
        *answered = memcmp(r->snap_in->uuid.b, pb->snap_uuid.data, 16) == 0;
        return FAIL(STATUS_OVERLOADED, "a snapshot is being installed");
    }
    if (pb->seq == 0) {
        TRY(begin(r, pb));
    }
    if (r->snap_in == NULL || r->snap_in->seq != pb->seq ||
        memcmp(r->snap_in->uuid.b, pb->snap_uuid.data, 16) != 0) {
        return FAIL(STATUS_INVALID, "a snapshot chunk out of order");
    }
    TRY(stage(r, pb, rd.rest));
    if (!pb->last) {
        return OK;
    }
    r->snap_in->reply = rpc_reply_to(m);
    TRY(offer(r, pb, &done));
    *answered = !done; /* Else when the install is durable. */
    return OK;
}

void snapshot__on_chunk(void *store, const struct rpc_message *m)
{
    struct store *s = store;
    const struct rpc_reply_to reply = rpc_reply_to(m);
    bool answered = false;
    struct status st = FAIL(STATUS_UNAVAILABLE, "the store is starting or stopping");

    if (s->awake && !s->stopping) {
        st = take_chunk(s, m, &answered);
    }
    if (!answered) {
        rpc_reply(s->o.rpc, &reply, st, NULL, 0);
    }
}

static struct status put_snapshot(struct replica *r, const struct raft_ready *rd,
                                  struct engine_batch *b)
{
    struct snapshot_in *in = r->snap_in;
    uint8_t mem[KEY_RAFT_LOG_SIZE];
    uint8_t end[KEY_RAFT_LOG_SIZE];
    uint8_t value[2 * VARINT_MAX];
    struct buf ident = {0};
    size_t len = 0;
    struct status st = OK;

    for (int i = 0; i < KEY_RANGE_SPANS; i++) {
        TRY(engine_batch_delete_range(b, ENGINE_CF_STATE, in->spans[i].start, in->spans[i].end));
    }
    TRY(engine_batch_append(b, buf_bytes(&in->staged.ops), true));
    TRY(engine_batch_delete_range(b, ENGINE_CF_RAFT, key_raft_log(mem, r->range, 0),
                                  key_raft_log(end, r->range, UINT64_MAX)));
    len = varint_put(value, rd->snapshot_index);
    len += varint_put(value + len, rd->snapshot_term);
    TRY(engine_batch_put(b, ENGINE_CF_RAFT, key_raft(mem, r->range, KEY_RAFT_TRUNCATED),
                         bytes_of(value, len)));
    TRY_OUT(replica__ident_encode(r, in->desc.start, &ident));
    TRY_OUT(engine_batch_put(b, ENGINE_CF_RAFT, key_raft(mem, r->range, KEY_RAFT_IDENT),
                             buf_bytes(&ident)));
out:
    buf_deinit(&ident);
    return st;
}

void snapshot__install(struct replica *r, const struct raft_ready *rd, struct store_write *w)
{
    struct snapshot_in *in = r->snap_in;
    struct write_item *item = NULL;
    struct buf desc = {0};
    struct status st = OK;

    INVARIANT(in != NULL && in->complete);
    INVARIANT(in->index == rd->snapshot_index);
    TRY_OUT(put_snapshot(r, rd, &w->batch));
    TRY_OUT(range_desc_encode(&in->desc, &desc));
    item = store__add_item(w, r);
    item->snapshot = true;
    item->applied = true;
    item->state = in->state;
    item->desc = blob_copy(buf_bytes(&desc));
    INVARIANT(item->desc != NULL);
    item->snapshot_reply = in->reply;
    w->sync = true;
    r->submitted = in->state;
    r->gc_threshold = hts_max(r->gc_threshold, in->gc_threshold);
    r->truncated_index = rd->snapshot_index;
    r->truncated_term = rd->snapshot_term;
    r->log_bytes = 0;
    lease__closed(r);
    r->store->stats.snapshots_installed++;
    LOG_INFO("snapshot.installing", U64("range", r->range.v), U64("index", rd->snapshot_index));
    snapshot__drop(r);
out:
    buf_deinit(&desc);
    if (!status_ok(st)) {
        store__fatal(r->store, st);
    }
}
