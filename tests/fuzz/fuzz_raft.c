/*
 * fuzz_raft.c -- what other stores may send, into a store that lives.
 *
 * An input is a list of steps against a fresh store, which leads the first range or holds nothing. A step is raw bytes for
 * one of the handlers (Raft, snapshots, batches, liveness, gossip), or, because no fuzzer guesses a
 * checksum or an encoding, fields out of which a well-formed message is made: terms, indexes, entries
 * with commands, snapshots of ranges, requests. Time passes in between. Nothing may crash; a store that
 * finds damage where only its leader could have put it stops (on_fatal), which ends the input.
 *
 * The first byte 0xff chooses the decoders of stored bytes instead.
 */
#include <stdlib.h>

#include "node/base/codec.h"
#include "node/base/hash.h"
#include "node/base/invariant.h"
#include "node/range/internal.h"
#include "node/rpc/pb_arena.h"
#include "node/rpc/rpc_frame.h"
#include "node/server/node_internal.h"
#include "tests/lib/env_fake.h"

#define STEPS_MAX   64
#define ENTRIES_MAX 4
#define BODY_MAX    8192

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct target {
    struct fake_world *world;
    struct memdisk *disk;
    struct engine *engine;
    struct hlc hlc;
    struct node node; /* Only what gossip needs. */
    struct reader in;
    struct arena arena;
    bool fatal;
    bool stopped;
};

static const struct store_ident ident = {{{7}}, {1}, {1}};

/* ---- a store ------------------------------------------------------------------------------------- */

static struct status drop_frame(void *ctx, node_id to, enum rpc_class cls,
                                const struct bytes *parts, uint32_t count)
{
    UNUSED(ctx);
    UNUSED(to);
    UNUSED(cls);
    UNUSED(parts);
    UNUSED(count);
    return OK;
}

static void on_fatal(void *ctx, struct status why)
{
    UNUSED(why);
    ((struct target *)ctx)->fatal = true;
}

static bool node_of_store(void *ctx, store_id store, node_id *out)
{
    UNUSED(ctx);
    out->v = store.v;
    return store.v > 0 && store.v < 5;
}

static uint8_t u8(struct target *t)
{
    return read_u8(&t->in); /* 0 at the end. */
}

static void start(struct target *t)
{
    struct node *n = &t->node;
    const struct rpc_transport transport = {.ctx = t, .send = drop_frame};
    struct store_options o = {.hlc = &t->hlc,
                              .ident = ident,
                              .on_fatal = on_fatal,
                              .ctx = t,
                              .node_of_store = node_of_store,
                              .log_bytes_max = 2000};

    t->world = fake_world_create();
    n->shard = fake_world_add_shard(t->world);
    INVARIANT(status_ok(memdisk_create(&t->disk)));
    INVARIANT(status_ok(engine_open_mem(t->disk, &t->engine)));
    INVARIANT(status_ok((u8(t) & 1) != 0 ? store_bootstrap(t->engine, &ident, hts_ms(1))
                                         : store_write_ident(t->engine, &ident)));
    shard_enter(n->shard);
    hlc_init(&t->hlc, shard_env(n->shard), HLC_MAX_OFFSET_NS_DEFAULT);
    INVARIANT(status_ok(rpc_create(&(struct rpc_options){n->shard, &t->hlc, transport}, &n->rpc)));
    rpc_set_identity(n->rpc, ident.cluster, ident.node, ident.store);
    o.shard = n->shard;
    o.rpc = n->rpc;
    o.engine = t->engine;
    INVARIANT(status_ok(store_create(&o, NULL, &n->store)));
    INVARIANT(status_ok(store_add_peer(n->store, (store_id){2})));
    INVARIANT(status_ok(kv_create(&(struct kv_options){n->shard, n->rpc, &t->hlc}, &n->kv)));
    n->ident = ident;
    registry_init(&n->registry);
    wait_queue_init(&n->changed);
    gossip__start(n);
    shard_leave(n->shard);
    fake_world_advance(t->world, 300000000);
}

static void stop_fiber(void *arg)
{
    struct target *t = arg;

    store_stop(t->node.store);
    t->stopped = true;
}

static void stop(struct target *t)
{
    struct node *n = &t->node;

    INVARIANT(status_ok(fiber_spawn(n->shard, "stop", stop_fiber, t)));
    for (int i = 0; i < 100 && !t->stopped; i++) {
        fake_world_advance(t->world, 1000000000);
    }
    INVARIANT(t->stopped);
    shard_enter(n->shard);
    shard_timer_disarm(n->shard, &n->gossip_timer);
    kv_destroy(n->kv);
    store_destroy(n->store);
    rpc_destroy(n->rpc);
    registry_deinit(&n->registry);
    shard_leave(n->shard);
    fake_world_destroy(t->world);
    engine_close(t->engine);
    memdisk_destroy(t->disk);
}

/* ---- frames -------------------------------------------------------------------------------------- */

static struct bytes some(struct target *t, size_t max)
{
    const size_t n = u8(t) % (max + 1);

    return read_bytes(&t->in, n < t->in.rest.len ? n : t->in.rest.len);
}

static void deliver(struct target *t, enum rpc_type type, const struct bytes *parts, uint32_t count)
{
    static uint8_t frame[RPC_HEADER_BYTES + 4 * BODY_MAX];
    const uint32_t from = 2 + u8(t) % 3;
    const struct rpc_header h = {
        .cluster = ident.cluster,
        .from_node = {from},
        .from_store = {from},
        .to_node = ident.node,
        .to_store = ident.store,
        .hlc = hlc_now(&t->hlc),
        .call_id = 77,
        .type = (uint16_t)type,
        .flags = type == RPC_TYPE_SNAPSHOT || type == RPC_TYPE_BATCH ? RPC_FLAG_CALL : 0};
    size_t n = RPC_HEADER_BYTES;

    for (uint32_t i = 0; i < count; i++) {
        if (parts[i].len > sizeof(frame) - n) {
            return;
        }
        if (parts[i].len > 0) {
            memcpy(frame + n, parts[i].ptr, parts[i].len);
        }
        n += parts[i].len;
    }
    rpc_frame_header_put(frame, &h, parts, count, true);
    shard_enter(t->node.shard);
    status_ignore(rpc_receive(t->node.rpc, bytes_of(frame, n), NULL));
    shard_leave(t->node.shard);
    shard_env(t->node.shard)->ops->wake_at(shard_env(t->node.shard), 0);
    fake_world_settle(t->world);
}

/* A protobuf head, its length in front, and a block behind it. */
static void deliver_block(struct target *t, enum rpc_type type, const ProtobufCMessage *head,
                          const struct buf *block)
{
    uint8_t prefix[VARINT_MAX];
    struct bytes parts[3];

    if (status_ok(pb_pack(head, &t->arena, &parts[1]))) {
        parts[0] = bytes_of(prefix, varint_put(prefix, parts[1].len));
        parts[2] = buf_bytes(block);
        deliver(t, type, parts, 3);
    }
}

static void raw(struct target *t, enum rpc_type type)
{
    const size_t n = (size_t)u8(t) * 4;
    const struct bytes body = read_bytes(&t->in, n < t->in.rest.len ? n : t->in.rest.len);

    deliver(t, type, &body, 1);
}

/* ---- well-formed messages ------------------------------------------------------------------------ */

static struct range_desc some_desc(struct target *t, uint64_t range)
{
    static const uint8_t starts[] = {0x88, 0x89, 0x90, 0x91, 0x92};
    struct range_desc d = {.id = {range},
                           .start = range == 1 ? KEY_MIN : bytes_of(&starts[range % 4], 1),
                           .end = range == 1 ? KEY_MAX : bytes_of(&starts[range % 4 + 1], 1),
                           .replicas_count = u8(t) % 5,
                           .next_replica = 9,
                           .generation = u8(t)};

    for (uint32_t i = 0; i < d.replicas_count; i++) {
        d.replicas[i] = (struct range_replica){{i + 1}, {i + 1}, {i + 1}, u8(t) % 6};
    }
    return d;
}

static void put_command(struct target *t, uint64_t range, struct buf *out)
{
    struct command c = {.kind = (enum command_kind)(1 + u8(t) % COMMAND_NOOP),
                        .start_ts = {u8(t), 0},
                        .target = {u8(t) % 4}};
    struct engine_batch ops;
    struct buf desc = {0};
    const struct range_desc d = some_desc(t, range);

    engine_batch_init(&ops);
    status_ignore(engine_batch_put(&ops, ENGINE_CF_STATE, BYTES_LIT("\x90k"), some(t, 8)));
    status_ignore(range_desc_encode(&d, &desc));
    c.ops = u8(t) % 4 == 0 ? some(t, 16) : buf_bytes(&ops.ops);
    c.desc = c.kind == COMMAND_CONF ? buf_bytes(&desc) : BYTES_EMPTY;
    status_ignore(command_encode(&c, out));
    engine_batch_deinit(&ops);
    buf_deinit(&desc);
}

static void put_entries(struct target *t, Dsql__Pb__RaftMsg *m, struct buf *block)
{
    const size_t before = block->len;

    m->entries_count = u8(t) % (ENTRIES_MAX + 1);
    for (uint32_t i = 0; i < m->entries_count; i++) {
        struct buf payload = {0};

        if (u8(t) % 8 == 0) {
            status_ignore(buf_append_bytes(&payload, some(t, 16)));
        } else if (u8(t) % 8 != 0) {
            put_command(t, m->range_id, &payload);
        }
        status_ignore(buf_append_varint(block, u8(t) % 16));
        status_ignore(buf_append_u8(block, u8(t) % 3));
        status_ignore(buf_append_lp(block, buf_bytes(&payload)));
        buf_deinit(&payload);
    }
    m->block_bytes = (uint32_t)(block->len - before) + (u8(t) == 255 ? 1 : 0);
}

static void raft_messages(struct target *t)
{
    static const uint8_t types[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 100, 101, 200};
    Dsql__Pb__RaftMsg msgs[3];
    Dsql__Pb__RaftMsg *pointers[3];
    Dsql__Pb__RaftBatch batch;
    struct buf block = {0};

    dsql__pb__raft_batch__init(&batch);
    batch.msgs = pointers;
    batch.n_msgs = 1 + u8(t) % 3;
    for (size_t i = 0; i < batch.n_msgs; i++) {
        Dsql__Pb__RaftMsg *m = &msgs[i];

        pointers[i] = m;
        dsql__pb__raft_msg__init(m);
        m->range_id = u8(t) % 4;
        m->from = u8(t) % 5;
        m->to = u8(t) % 4;
        m->type = types[u8(t) % ARRAY_COUNT(types)];
        m->term = u8(t) % 16;
        m->index = u8(t) % 40;
        m->log_term = u8(t) % 16;
        m->commit = u8(t) % 40;
        m->match = u8(t) % 40;
        m->hint_index = u8(t);
        m->hint_term = u8(t) % 16;
        m->support_epoch = u8(t) % 4;
        m->truncate_hint = u8(t);
        m->reject = (u8(t) & 1) != 0;
        m->transfer = (u8(t) & 1) != 0;
        put_entries(t, m, &block);
    }
    deliver_block(t, RPC_TYPE_RAFT, &batch.base, &block);
    buf_deinit(&block);
}

static void snapshot_chunk(struct target *t)
{
    Dsql__Pb__SnapshotChunk pb;
    Dsql__Pb__RangeDesc desc;
    Dsql__Pb__ReplicaDesc replicas[RAFT_PEERS_MAX];
    Dsql__Pb__ReplicaDesc *pointers[RAFT_PEERS_MAX];
    struct applied_state a = {.index = 10 + u8(t) % 40, .term = 5 + u8(t) % 8};
    struct range_desc d;
    struct buf value = {0};
    struct buf pairs = {0};
    uint8_t mem[KEY_RANGE_ID_SIZE];

    dsql__pb__snapshot_chunk__init(&pb);
    pb.range_id = 1 + u8(t) % 3;
    d = some_desc(t, pb.range_id);
    range_desc_to_pb(&d, &desc, replicas, pointers);
    pb.snap_uuid =
        pb_binary(u8(t) % 2 == 0 ? BYTES_LIT("0123456789abcdef") : BYTES_LIT("123456789abcdefg"));
    pb.seq = u8(t) % 3;
    pb.last = (u8(t) & 1) != 0;
    pb.from_replica = 2;
    pb.to_replica = u8(t) % 4;
    pb.index = a.index;
    pb.term = a.term;
    pb.raft_term = u8(t) % 20;
    pb.desc = pb.seq == 0 ? &desc : NULL;
    if (u8(t) % 4 != 0) {
        status_ignore(applied_state_encode(&a, &value));
        status_ignore(buf_append_lp(
            &pairs, key_range_record(mem, (range_id){pb.range_id}, KEY_RANGE_APPLIED)));
        status_ignore(buf_append_lp(&pairs, buf_bytes(&value)));
        pb.pairs++;
    }
    status_ignore(buf_append_bytes(&pairs, some(t, 32)));
    pb.pairs += u8(t) % 3;
    pb.checksum = hash64(buf_bytes(&pairs), 0);
    deliver_block(t, RPC_TYPE_SNAPSHOT, &pb.base, &pairs);
    buf_deinit(&value);
    buf_deinit(&pairs);
}

static void batch(struct target *t)
{
    struct range_request q[3];
    struct range_batch b = {.range = {u8(t) % 3}, .requests = q, .count = 1 + u8(t) % 3};
    struct bytes body;

    if (u8(t) % 4 == 0) {
        b.read_ts = (struct hts){u8(t) % 2 == 0 ? 5 : UINT64_MAX, u8(t)};
    }
    if (u8(t) % 4 == 0) {
        b.commit_limit = (struct hts){u8(t), 0};
    }
    for (uint32_t i = 0; i < b.count; i++) {
        q[i] = (struct range_request){.op = (enum range_op)(u8(t) % (RANGE_OP_COUNT + 1)),
                                      .key = some(t, 6),
                                      .end = some(t, 6),
                                      .value = some(t, 16),
                                      .rows_max = u8(t),
                                      .bytes_max = u8(t),
                                      .reverse = (u8(t) & 1) != 0};
    }
    if (status_ok(range_batch_encode(&b, &t->arena, &body))) {
        deliver(t, RPC_TYPE_BATCH, &body, 1);
    }
}

static void liveness(struct target *t)
{
    Dsql__Pb__Liveness pb;
    Dsql__Pb__Hts expiration;
    struct bytes body;

    dsql__pb__liveness__init(&pb);
    dsql__pb__hts__init(&expiration);
    pb.from_store = 2 + u8(t) % 3;
    pb.to_store = u8(t) % 3;
    pb.epoch = u8(t) == 255 ? UINT64_MAX : u8(t) % 8;
    expiration.wall = u8(t) == 255 ? UINT64_MAX : hlc_now(&t->hlc).wall + u8(t) * 20000000u;
    pb.expiration = u8(t) == 255 ? NULL : &expiration;
    pb.response = (u8(t) & 1) != 0;
    if (status_ok(pb_pack(&pb.base, &t->arena, &body))) {
        deliver(t, RPC_TYPE_LIVENESS, &body, 1);
    }
}

static void gossip(struct target *t)
{
    Dsql__Pb__Gossip g;
    Dsql__Pb__NodeDesc node;
    Dsql__Pb__NodeDesc *nodes = &node;
    Dsql__Pb__RangeDesc desc;
    Dsql__Pb__ReplicaDesc replicas[RAFT_PEERS_MAX];
    Dsql__Pb__ReplicaDesc *pointers[RAFT_PEERS_MAX];
    const struct range_desc d = some_desc(t, 1);
    uint32_t stores[3] = {u8(t), u8(t), u8(t)};
    struct bytes body;

    dsql__pb__gossip__init(&g);
    dsql__pb__node_desc__init(&node);
    range_desc_to_pb(&d, &desc, replicas, pointers);
    node.node = u8(t) % 8;
    node.generation = u8(t);
    node.rpc_address = (char *)(uintptr_t)(u8(t) % 2 == 0 ? "" : "host:1");
    node.stores = stores;
    node.n_stores = u8(t) % 4;
    g.nodes = &nodes;
    g.n_nodes = u8(t) % 2;
    g.first_range = u8(t) % 2 == 0 ? NULL : &desc;
    g.want_answer = (u8(t) & 1) != 0;
    g.digest = pb_binary(some(t, 16));
    if (status_ok(pb_pack(&g.base, &t->arena, &body))) {
        deliver(t, RPC_TYPE_GOSSIP, &body, 1);
    }
}

static void step(struct target *t)
{
    static const enum rpc_type types[] = {RPC_TYPE_RAFT, RPC_TYPE_SNAPSHOT, RPC_TYPE_BATCH,
                                          RPC_TYPE_LIVENESS, RPC_TYPE_GOSSIP};
    const uint8_t what = u8(t) % 16;

    arena_reset(&t->arena);
    switch (what) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
        raw(t, types[what]);
        break;
    case 5:
    case 6:
    case 7:
    case 8:
        raft_messages(t);
        break;
    case 9:
    case 10:
        snapshot_chunk(t);
        break;
    case 11:
        batch(t);
        break;
    case 12:
        liveness(t);
        break;
    case 13:
        gossip(t);
        break;
    default:
        fake_world_advance(t->world, (uint64_t)u8(t) * 20000000u);
        break;
    }
}

/* ---- stored bytes -------------------------------------------------------------------------------- */

static void decode(struct bytes b)
{
    struct range_desc d;
    struct range_batch batch_out;
    struct range_result result;
    struct command c;
    struct applied_state a;
    struct bytes payload;
    struct arena arena;
    struct buf again = {0};
    uint64_t term = 0;
    uint8_t kind = 0;

    arena_init(&arena, (size_t)8 << 20);
    if (status_ok(range_desc_decode(b, &arena, &d))) {
        struct raft_conf conf;

        range_desc_conf(&d, &conf);
        INVARIANT(conf.count == d.replicas_count);
    }
    status_ignore(range_batch_decode(b, &arena, &batch_out));
    status_ignore(range_result_decode(b, 1, &arena, &result));
    if (status_ok(command_decode(b, &c))) {
        INVARIANT(status_ok(command_encode(&c, &again)));
    }
    status_ignore(applied_state_decode(b, &a));
    status_ignore(log_record_decode(b, &term, &kind, &payload));
    buf_deinit(&again);
    arena_deinit(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct target *t = NULL;

    if (size > 0 && data[0] == 0xff) {
        decode(bytes_of(data + 1, size - 1));
        return 0;
    }
    t = calloc(1, sizeof(*t));
    INVARIANT(t != NULL);
    t->in = reader_of(bytes_of(data, size));
    arena_init(&t->arena, (size_t)1 << 20);
    start(t);
    for (int i = 0; i < STEPS_MAX && !t->fatal && t->in.rest.len > 0; i++) {
        step(t);
    }
    stop(t);
    arena_deinit(&t->arena);
    free(t);
    return 0;
}
