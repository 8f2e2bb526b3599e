/*
 * join.c -- how a process finds out who it is.
 *
 * A store that was here before remembers its ids. An empty one starts a new cluster when it was told
 * of nobody to join; otherwise it asks the given addresses in turn until somebody gives it ids. Ids
 * come from counters in the system keyspace, taken in the same transaction that writes the new node's
 * row, so that no id is ever given twice.
 */
#include <stdlib.h>

#include "node/base/codec.h"
#include "node/rpc/pb_arena.h"
#include "node/server/node_internal.h"
#include "node/storage/key/key.h"
#include "node/txn/txn.h"

#define JOIN_PAUSE_NS  ((uint64_t)200000000)
#define REGISTER_TRIES 50u

/* ---- keys --------------------------------------------------------------------------------------- */

static struct status counter_key(struct arena *arena, struct bytes name, struct bytes *out)
{
    uint8_t mem[KEY_STACK_SIZE];
    struct key_enc k;

    key_enc_init(&k, mem, sizeof(mem));
    key_enc_system(&k, KEY_SYSTEM_ID);
    key_enc_escaped(&k, name);
    TRY(key_enc_finish(&k, out));
    return bytes_dup(arena, *out, out);
}

static struct status node_key(struct arena *arena, node_id id, struct bytes *out)
{
    uint8_t mem[KEY_STACK_SIZE];
    struct key_enc k;

    key_enc_init(&k, mem, sizeof(mem));
    key_enc_system(&k, KEY_SYSTEM_NODE);
    key_enc_uvar(&k, id.v);
    TRY(key_enc_finish(&k, out));
    return bytes_dup(arena, *out, out);
}

/* Takes the next `count` ids of a counter that starts at `first`. */
static MAYYIELD struct status take_ids(struct txn *t, struct arena *arena, const char *name,
                                       uint32_t count, uint32_t *first_out)
{
    struct bytes key;
    struct bytes value;
    uint8_t next[4];
    bool found = false;

    TRY(counter_key(arena, bytes_str(name), &key));
    TRY(txn_get(t, key, arena, &found, &value));
    if (found && value.len != 4) {
        return FAIL(STATUS_CORRUPT, "damaged id counter");
    }
    *first_out = found ? be32_get(value.ptr) : 1;
    be32_put(next, *first_out + count);
    return txn_put(t, key, bytes_of(next, sizeof(next)));
}

static struct status put_row(struct txn *t, struct arena *arena, const struct node_desc *d)
{
    Dsql__Pb__NodeDesc pb;
    struct bytes key;
    struct bytes value;

    TRY(node_desc_to_pb(d, arena, &pb));
    TRY(pb_pack(&pb.base, arena, &value));
    TRY(node_key(arena, d->id, &key));
    return txn_put(t, key, value);
}

/* ---- giving ids --------------------------------------------------------------------------------- */

struct join_call {
    struct node *node;
    struct rpc_reply_to reply;
    struct arena arena;
    struct node_desc desc;
    struct uuid instance;
    uint32_t stores;
};

/* The ids that an earlier request of the same process was given: its answer was lost. */
static MAYYIELD struct status find_given(struct txn *t, struct arena *arena, struct bytes key,
                                         struct node_desc *d, bool *found)
{
    ProtobufCAllocator allocator = pb_arena_allocator(arena);
    const Dsql__Pb__NodeDesc *pb = NULL;
    struct bytes value;

    TRY(txn_get(t, key, arena, found, &value));
    if (!*found) {
        return OK;
    }
    pb = dsql__pb__node_desc__unpack(&allocator, value.len, value.ptr);
    return pb != NULL && node_desc_from_pb(pb, d) ? OK
                                                  : FAIL(STATUS_CORRUPT, "damaged join record");
}

static MAYYIELD struct status add_node_once(struct node *n, struct arena *arena,
                                            struct join_call *c)
{
    struct node_desc *d = &c->desc;
    struct txn *t = NULL;
    const struct txn_options o = {.deadline_ns = env_mono_ns(shard_env(n->shard)) + NODE_CALL_NS};
    Dsql__Pb__NodeDesc pb;
    struct bytes given_key;
    struct bytes given;
    uint32_t first_store = 0;
    bool found = false;

    TRY(txn_begin(n->kv, arena, &o, &t));
    TRY(counter_key(arena, bytes_of(c->instance.b, sizeof(c->instance.b)), &given_key));
    TRY(find_given(t, arena, given_key, d, &found));
    if (found) {
        return OK;
    }
    TRY(take_ids(t, arena, "node", 1, &d->id.v));
    TRY(take_ids(t, arena, "store", c->stores, &first_store));
    d->stores_count = c->stores;
    for (uint32_t i = 0; i < c->stores; i++) {
        d->stores[i].v = first_store + i;
    }
    TRY(put_row(t, arena, d));
    TRY(node_desc_to_pb(d, arena, &pb));
    TRY(pb_pack(&pb.base, arena, &given));
    TRY(txn_put(t, given_key, given));
    return txn_commit(t);
}

static MAYYIELD struct status add_node(struct node *n, struct arena *arena, struct join_call *c)
{
    struct status st = OK;

    for (uint32_t i = 0; i < REGISTER_TRIES; i++) {
        st = add_node_once(n, arena, c);
        if (st.code != STATUS_TXN_RETRY) {
            break;
        }
        TRY(fiber_sleep(env_random_u64(shard_env(n->shard)) % JOIN_PAUSE_NS));
    }
    return st;
}

static MAYYIELD struct status answer_join(struct join_call *c)
{
    struct node *n = c->node;
    Dsql__Pb__JoinReply reply;
    Dsql__Pb__Gossip gossip;
    struct bytes body;

    TRY(add_node(n, &c->arena, c));
    /* Nobody is told yet: the new node does so itself, as soon as it answers to its id. */
    dsql__pb__join_reply__init(&reply);
    TRY(gossip__pack(n, true, false, &c->arena, &gossip));
    reply.cluster = pb_binary(bytes_of(n->ident.cluster.b, sizeof(n->ident.cluster.b)));
    reply.node = c->desc.id.v;
    reply.n_stores = c->desc.stores_count;
    reply.stores = ARENA_ARRAY(&c->arena, uint32_t, (size_t)c->desc.stores_count + 1);
    if (reply.stores == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    for (uint32_t i = 0; i < c->desc.stores_count; i++) {
        reply.stores[i] = c->desc.stores[i].v;
    }
    reply.gossip = &gossip;
    TRY(pb_pack(&reply.base, &c->arena, &body));
    rpc_reply(n->rpc, &c->reply, OK, &body, 1);
    LOG_INFO("node.joined", U64("node", c->desc.id.v), STR("address", c->desc.rpc_address));
    return OK;
}

static MAYYIELD void join_fiber(void *arg)
{
    struct join_call *c = arg;
    struct node *n = c->node;
    const struct status st = answer_join(c);

    if (!status_ok(st)) {
        rpc_reply(n->rpc, &c->reply, st, NULL, 0);
    }
    arena_deinit(&c->arena);
    free(c);
    node__fiber_ended(n);
}

static struct status check_join(struct node *n, const Dsql__Pb__JoinRequest *pb,
                                struct join_call *c)
{
    if (!n->ready || n->stopping) {
        return FAIL(STATUS_UNAVAILABLE, "this node is not ready yet");
    }
    if (pb == NULL || pb->node == NULL || !node_desc_from_pb(pb->node, &c->desc) ||
        pb->stores == 0 || pb->stores > REGISTRY_STORES_MAX ||
        pb->instance.len != sizeof(c->instance.b)) {
        return FAIL(STATUS_INVALID, "damaged join request");
    }
    if (pb->proto_version < RPC_PROTO_VERSION_MIN) {
        return FAIL(STATUS_UNSUPPORTED, "the joining node's version is too old");
    }
    memcpy(c->instance.b, pb->instance.data, sizeof(c->instance.b));
    c->stores = pb->stores;
    c->desc.generation = 1;
    return OK;
}

static void on_join(void *ctx, const struct rpc_message *m)
{
    struct node *n = ctx;
    const struct rpc_reply_to reply = rpc_reply_to(m);
    struct join_call *c = calloc(1, sizeof(*c));
    ProtobufCAllocator allocator;
    struct status st = OK;

    if (c == NULL) {
        rpc_reply(n->rpc, &reply, FAIL(STATUS_MEMORY, "out of memory"), NULL, 0);
        return;
    }
    c->node = n;
    c->reply = reply;
    arena_init(&c->arena, 0);
    allocator = pb_arena_allocator(&c->arena);
    TRY_OUT(check_join(n, dsql__pb__join_request__unpack(&allocator, m->body.len, m->body.ptr), c));
    TRY_OUT(fiber_spawn(n->shard, "server.join", join_fiber, c));
    n->fibers++;
    return;
out:
    rpc_reply(n->rpc, &reply, st, NULL, 0);
    arena_deinit(&c->arena);
    free(c);
}

void join__serve(struct node *n)
{
    rpc_set_handler(n->rpc, RPC_TYPE_JOIN, on_join, n);
}

/* ---- asking for ids ----------------------------------------------------------------------------- */

static struct status take_reply(struct node *n, const Dsql__Pb__JoinReply *r)
{
    struct uuid cluster = {{0}};

    if (r == NULL || r->cluster.len != sizeof(n->ident.cluster.b) || r->node == 0 ||
        r->n_stores != n->o.shards_count || r->gossip == NULL || r->stores[0] == 0) {
        return FAIL(STATUS_CORRUPT, "damaged answer to a join request");
    }
    memcpy(cluster.b, r->cluster.data, r->cluster.len);
    if (uuid_is_zero(cluster)) {
        return FAIL(STATUS_CORRUPT, "an answer to a join request without a cluster");
    }
    n->ident.cluster = cluster;
    n->ident.node.v = r->node;
    n->ident.store.v = r->stores[0];
    (void)node__learn(n, r->gossip);
    return OK;
}

static MAYYIELD struct status ask(struct node *n, const char *address, struct arena *arena)
{
    Dsql__Pb__JoinRequest req;
    Dsql__Pb__NodeDesc desc;
    ProtobufCAllocator allocator = pb_arena_allocator(arena);
    struct bytes body;
    struct bytes reply;

    dsql__pb__join_request__init(&req);
    TRY(node_desc_to_pb(&n->o.self, arena, &desc));
    req.proto_version = RPC_PROTO_VERSION;
    req.node = &desc;
    req.stores = n->o.shards_count;
    req.instance = pb_binary(bytes_of(n->instance.b, sizeof(n->instance.b)));
    TRY(pb_pack(&req.base, arena, &body));
    TRY(rpc_call_address(n->rpc, address, RPC_TYPE_JOIN, body,
                         env_mono_ns(shard_env(n->shard)) + NODE_CALL_NS, arena, &reply));
    return take_reply(n, dsql__pb__join_reply__unpack(&allocator, reply.len, reply.ptr));
}

/* Until somebody answers; a reason that will not go away ends it. */
static MAYYIELD struct status join_cluster(struct node *n)
{
    for (uint32_t i = 0;; i = (i + 1) % n->o.join_count) {
        struct arena arena;
        struct status st = OK;

        arena_init(&arena, 0);
        st = ask(n, n->o.join[i], &arena);
        if (status_ok(st)) {
            arena_deinit(&arena);
            return OK;
        }
        LOG_INFO("node.join_waits", STR("address", n->o.join[i]), STR("why", status_text(st)));
        arena_deinit(&arena);
        if (st.code == STATUS_FENCED || st.code == STATUS_UNSUPPORTED) {
            return FAIL(st.code, "the cluster refused this node");
        }
        TRY(fiber_sleep(JOIN_PAUSE_NS));
        if (n->stopping) {
            return FAIL(STATUS_CANCELLED, "stopping");
        }
    }
}

struct ident_job {
    struct engine *engine;
    struct store_ident ident;
    struct hts now;
    struct status st;
};

static void read_ident(void *arg)
{
    struct ident_job *j = arg;

    j->st = store_read_ident(j->engine, &j->ident);
}

static void bootstrap(void *arg)
{
    struct ident_job *j = arg;

    j->st = store_bootstrap(j->engine, &j->ident, j->now);
}

static void write_ident(void *arg)
{
    struct ident_job *j = arg;

    j->st = store_write_ident(j->engine, &j->ident);
}

static MAYYIELD struct status start_cluster(struct node *n, struct ident_job *j)
{
    env_random(shard_env(n->shard), n->ident.cluster.b, sizeof(n->ident.cluster.b));
    n->ident.cluster.b[6] = (uint8_t)((n->ident.cluster.b[6] & 0x0F) | 0x40);
    n->ident.cluster.b[8] = (uint8_t)((n->ident.cluster.b[8] & 0x3F) | 0x80);
    n->ident.node.v = 1;
    n->ident.store.v = 1;
    j->ident = n->ident;
    j->now = hclock_hts(hlc_now(&n->hlc));
    fiber_run_blocking(ENV_LANE_WRITER, bootstrap, j);
    LOG_INFO("node.bootstrapped");
    return j->st;
}

static MAYYIELD struct status wait_given(struct node *n)
{
    while (!n->has_identity) {
        if (n->stopping) {
            return FAIL(STATUS_CANCELLED, "stopping");
        }
        TRY(wait_queue_wait(&n->changed, DEADLINE_NONE));
    }
    n->ident = n->given;
    return OK;
}

struct status join__identity(struct node *n)
{
    struct ident_job j = {.engine = n->o.engine};

    fiber_run_blocking(ENV_LANE_IO, read_ident, &j);
    if (status_ok(j.st)) {
        n->ident = j.ident;
        return OK;
    }
    if (j.st.code != STATUS_NOT_FOUND) {
        return j.st;
    }
    if (n->primary && n->o.join_count == 0) {
        return start_cluster(n, &j);
    }
    TRY(n->primary ? join_cluster(n) : wait_given(n));
    j.ident = n->ident;
    fiber_run_blocking(ENV_LANE_WRITER, write_ident, &j);
    return j.st;
}

/* ---- the own row -------------------------------------------------------------------------------- */

static bool same_row(const struct node_desc *a, const struct node_desc *b)
{
    return strcmp(a->rpc_address, b->rpc_address) == 0 &&
           strcmp(a->sql_address, b->sql_address) == 0 &&
           strcmp(a->http_address, b->http_address) == 0 && strcmp(a->region, b->region) == 0 &&
           strcmp(a->zone, b->zone) == 0 && a->pid == b->pid && a->stores_count > 0;
}

/* The first node's row comes without a join: it takes ids 1 and 1.. itself. */
static MAYYIELD struct status first_row(struct node *n, struct txn *t, struct arena *arena,
                                        struct node_desc *d)
{
    uint32_t id = 0;
    uint32_t store = 0;

    TRY(take_ids(t, arena, "node", 1, &id));
    TRY(take_ids(t, arena, "store", n->o.shards_count, &store));
    if (id != n->ident.node.v || store != n->ident.store.v) {
        return FAIL(STATUS_CORRUPT, "this node has no row in the cluster that it belongs to");
    }
    d->stores_count = n->o.shards_count;
    for (uint32_t i = 0; i < d->stores_count; i++) {
        d->stores[i].v = store + i;
    }
    return OK;
}

static MAYYIELD struct status register_once(struct node *n, struct arena *arena,
                                            struct node_desc *d)
{
    struct txn *t = NULL;
    const struct txn_options o = {.deadline_ns = env_mono_ns(shard_env(n->shard)) + NODE_CALL_NS};
    ProtobufCAllocator allocator = pb_arena_allocator(arena);
    const Dsql__Pb__NodeDesc *pb = NULL;
    struct node_desc old = {0};
    struct bytes key;
    struct bytes value;
    bool found = false;

    *d = n->o.self;
    d->id = n->ident.node;
    TRY(txn_begin(n->kv, arena, &o, &t));
    TRY(node_key(arena, d->id, &key));
    TRY(txn_get(t, key, arena, &found, &value));
    if (found) {
        pb = dsql__pb__node_desc__unpack(&allocator, value.len, value.ptr);
        if (pb == NULL || !node_desc_from_pb(pb, &old)) {
            return FAIL(STATUS_CORRUPT, "damaged row of this node");
        }
        memcpy(d->stores, old.stores, sizeof(d->stores));
        d->stores_count = old.stores_count;
    } else {
        TRY(first_row(n, t, arena, d));
    }
    d->generation = old.generation + (same_row(d, &old) ? 0 : 1);
    if (d->stores_count != n->o.shards_count) {
        return FAIL(STATUS_INVALID, "the number of shards of a node cannot change: start it with "
                                    "--shards as before");
    }
    if (d->generation != old.generation) {
        TRY(put_row(t, arena, d));
    }
    return txn_commit(t);
}

struct status join__register(struct node *n)
{
    for (;;) {
        struct arena arena;
        struct node_desc d;
        struct status st = OK;

        arena_init(&arena, 0);
        st = register_once(n, &arena, &d);
        arena_deinit(&arena);
        if (status_ok(st)) {
            if (registry_merge(&n->registry, &d)) {
                node__add_peer(n, &d);
            }
            gossip__broadcast(n);
            return OK;
        }
        if (st.code == STATUS_INVALID || st.code == STATUS_CORRUPT || st.code == STATUS_CANCELLED ||
            n->stopping) {
            return st;
        }
        LOG_DEBUG("join.register_failed", STR("why", status_text(st)));
        TRY(fiber_sleep(JOIN_PAUSE_NS));
    }
}
