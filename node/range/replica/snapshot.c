/*
 * snapshot.c -- a replica that is too far behind gets the range as a whole: sending.
 *
 * The sender takes an engine snapshot, reads index and term from the AppliedState inside it, and
 * streams every replicated span in key order, one call per chunk, so that a slow receiver slows the
 * sender down. Nothing is held but one chunk. A store sends RANGE_SNAPSHOTS_OUT_MAX at a time, at
 * RANGE_SNAPSHOT_RATE bytes per second together; a receiver that has no place yet is asked again.
 *
 * Receiving is in receive.c, what becomes of the chunks in install.c.
 *
 * Source: protocol reference 2.9.
 */
#include <stdlib.h>

#include "node/base/codec.h"
#include "node/base/hash.h"
#include "node/base/invariant.h"
#include "node/range/internal.h"
#include "node/rpc/pb_arena.h"

#define CHUNK_DEADLINE_NS ((uint64_t)20000000000)
#define INSTALL_RATE      ((uint64_t)4 << 20) /* Bytes per second: the last chunk is answered behind. */
#define STREAM_NS_MAX     ((uint64_t)1800000000000) /* The engine keeps what is replaced meanwhile. */
#define SECOND_NS         ((uint64_t)1000000000)
#define RETRY_NS          ((uint64_t)500000000)
#define QUEUE_MAX         64u /* Streams that wait for their turn; the core asks for others again. */
#define YOUNG_RETRY_NS    ((uint64_t)100000000)

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
    size_t chunk_bytes; /* How large the next may be: they grow, since each costs a round trip. */
    uint64_t sent;      /* Bytes of chunks. */
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
        if (o->pairs.len >= o->chunk_bytes) {
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
    while (status_ok(o->st) && o->span < KEY_RANGE_SPANS && o->pairs.len < o->chunk_bytes) {
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
                     env_mono_ns(shard_env(r->store->shard)) + CHUNK_DEADLINE_NS +
                         (pb.last ? o->sent / INSTALL_RATE * SECOND_NS : 0),
                     &arena, &reply));
out:
    arena_deinit(&arena);
    return st;
}

/* We yielded: only the leader that started the stream may go on with it. */
static struct status check_sender(const struct snapshot_out *o)
{
    const struct replica *r = o->replica;

    return r->life == REPLICA_INIT && !r->store->stopping &&
                   raft_get_state(r->raft).role == RAFT_LEADER
               ? OK
               : FAIL(STATUS_NOT_LEADER, "leadership moved during a snapshot");
}

/* Keeps all streams of the store together below the rate. */
MAYYIELD static struct status pace(struct store *s, size_t bytes)
{
    const uint64_t now = env_mono_ns(shard_env(s->shard));
    const uint64_t from = s->snapshot_free_ns < now ? now : s->snapshot_free_ns;

    s->snapshot_free_ns = from + (uint64_t)bytes * SECOND_NS / RANGE_SNAPSHOT_RATE;
    return from > now ? fiber_sleep(from - now) : OK;
}

/* The first chunk, until the receiver has a place for it. When our keys still belong to another range there
 * (STATUS_RANGE_MISMATCH), whose own snapshot may stand in the queue behind us, we must not wait here. */
MAYYIELD static struct status send_first(struct snapshot_out *o, uint64_t until_ns)
{
    struct status st = send_chunk(o, 0);

    while (st.code == STATUS_OVERLOADED) {
        if (env_mono_ns(shard_env(o->replica->store->shard)) >= until_ns) {
            return st;
        }
        TRY(fiber_sleep(RETRY_NS));
        TRY(check_sender(o));
        st = send_chunk(o, 0);
    }
    return st;
}

MAYYIELD static struct status stream(struct snapshot_out *o)
{
    struct store *s = o->replica->store;
    const uint64_t begin = env_mono_ns(shard_env(s->shard));

    for (uint32_t seq = 0; seq == 0 || o->span < KEY_RANGE_SPANS; seq++) {
        fiber_run_blocking(ENV_LANE_IO, fill_chunk, o);
        TRY(o->st);
        TRY(pace(s, o->pairs.len));
        TRY(check_sender(o));
        TRY(seq == 0 ? send_first(o, begin + CHUNK_DEADLINE_NS) : send_chunk(o, seq));
        o->sent += o->pairs.len;
        o->chunk_bytes = 2 * o->chunk_bytes < RANGE_SNAPSHOT_CHUNK_MAX ? 2 * o->chunk_bytes
                                                                       : RANGE_SNAPSHOT_CHUNK_MAX;
        if (env_mono_ns(shard_env(s->shard)) - begin > STREAM_NS_MAX) {
            return FAIL(STATUS_TIMEOUT, "a snapshot took too long");
        }
    }
    LOG_INFO("snapshot.sent", U64("range", o->replica->range.v), U64("to", o->to.store.v),
             U64("bytes", o->sent), NS("took", env_mono_ns(shard_env(s->shard)) - begin));
    return OK;
}

MAYYIELD static void send_fiber(void *arg)
{
    struct snapshot_out *o = arg;
    struct replica *r = o->replica;
    struct store *s = r->store;
    bool young = false;
    struct status st = OK;

    o->fiber = fiber_current();
    while (status_ok(st) && s->snapshots_out >= RANGE_SNAPSHOTS_OUT_MAX && !s->stopping) {
        st = wait_queue_wait(&s->snapshot_turn, DEADLINE_NONE); /* Looked at again above. */
    }
    s->snapshots_queued--;
    if (status_ok(st) && env_mono_ns(shard_env(s->shard)) < r->young_until_ns) {
        /* The peer has not applied the split yet that made us: it would refuse. */
        young = true;
        st = fiber_sleep(YOUNG_RETRY_NS);
    }
    s->snapshots_out++;
    st = status_ok(st) && !young ? stream(o) : st;
    s->snapshots_out--;
    wait_queue_wake_one(&s->snapshot_turn);
    if (young) {
        st = FAIL(STATUS_OVERLOADED, "the peer will make the replica by itself");
    } else if (status_ok(st)) {
        s->stats.snapshots_sent++;
    } else {
        if (st.code != STATUS_RANGE_MISMATCH) {
            LOG_WARN("snapshot.send_failed", U64("range", r->range.v), U64("to", o->to.store.v),
                     STR("why", status_text(st)));
        }
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
    o->chunk_bytes = RANGE_SNAPSHOT_CHUNK_BYTES;
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
    o = target == NULL || r->store->stopping || r->store->snapshots_queued >= QUEUE_MAX
            ? NULL
            : out_new(r, target);
    if (o == NULL) {
        /* Owed for every request of the core: otherwise the peer would get nothing any more. */
        raft_report_snapshot(r->raft, peer, false);
        return;
    }
    replica__acquire(r);
    r->store->fibers++;
    r->store->snapshots_queued++;
    list_push_back(&r->outgoing, &o->link);
    LOG_INFO("snapshot.sending", U64("range", r->range.v), U64("to", target->store.v));
}
