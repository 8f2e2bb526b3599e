/*
 * node.c -- starting in the right order.
 *
 * Who we are comes first, then clocks: a timestamp given before a crash must never be given again, so
 * a restarted node waits until its wall clock has passed the durable bound of the clock it had. Then
 * the store (which itself keeps silent until its old promises have run out), then routing and SQL, and
 * at last the node's own row in the cluster, which is the proof that the way through kv works.
 *
 * The table of nodes is kept beside the store's data, so that a restarted node knows whom to talk to.
 */
#include "node/server/node.h"

#include <stdlib.h>
#include <string.h>

#include "node/base/invariant.h"
#include "node/rpc/pb_arena.h"
#include "node/server/node_internal.h"
#include "node/storage/key/key.h"
#include "node/txn/txn.h"

#define CLOCK_WAIT_MAX_NS ((uint64_t)20000000000)
#define DRAIN_LEASE_NS    ((uint64_t)1500000000)
#define DRAIN_SETTLE_NS   ((uint64_t)1000000000) /* For what is left behind transactions. */

/* ---- fibers ------------------------------------------------------------------------------------- */

struct status node__spawn(struct node *n, const char *name, void (*fn)(void *arg))
{
    n->fibers++;
    const struct status st = fiber_spawn(n->shard, name, fn, n);

    if (!status_ok(st)) {
        n->fibers--;
    }
    return st;
}

void node__fiber_ended(struct node *n)
{
    INVARIANT(n->fibers > 0);
    n->fibers--;
    wait_queue_wake_all(&n->changed);
}

/* ---- who is there ------------------------------------------------------------------------------- */

void node__add_peer(struct node *n, const struct node_desc *d)
{
    n->registry_changed_ns = shard_now_ns(n->shard);
    n->registry_dirty = true;
    wait_queue_wake_all(&n->changed);
    if (d->id.v == n->ident.node.v || d->rpc_address[0] == '\0') {
        return;
    }
    if (!status_ok(rpc_set_node_address(n->rpc, d->id, d->rpc_address))) {
        LOG_WARN("node.bad_address", U64("node", d->id.v), STR("address", d->rpc_address));
    }
    for (uint32_t i = 0; n->store != NULL && i < d->stores_count; i++) {
        if (!status_ok(store_add_peer(n->store, d->stores[i]))) {
            LOG_WARN("node.too_many_stores", U64("store", d->stores[i].v));
        }
    }
}

bool node__learn(struct node *n, const Dsql__Pb__Gossip *g)
{
    bool news = false;
    struct arena arena;
    struct range_desc first;

    for (size_t i = 0; i < g->n_nodes; i++) {
        struct node_desc d;

        if (node_desc_from_pb(g->nodes[i], &d) && registry_merge(&n->registry, &d)) {
            node__add_peer(n, &d);
            news = true;
        }
    }
    if (g->first_range != NULL) {
        arena_init(&arena, 0);
        if (status_ok(range_desc_from_pb(g->first_range, &arena, &first))) {
            kv_set_first_range(n->kv, &first);
        }
        arena_deinit(&arena);
    }
    if (g->load != NULL) {
        loads__hear(n, g->load);
    }
    wait_queue_wake_all(&n->changed);
    return news;
}

static bool node_of_store(void *ctx, store_id store, node_id *out)
{
    struct node *n = ctx;
    const struct node_desc *d = registry_find_store(&n->registry, store);

    if (store.v == n->ident.store.v) {
        *out = n->ident.node;
        return true;
    }
    if (d == NULL) {
        return false;
    }
    *out = d->id;
    return true;
}

bool node_peer_live(struct node *n, node_id id)
{
    const struct node_desc *d = registry_find(&n->registry, id);

    if (id.v == n->ident.node.v) {
        return true;
    }
    return d != NULL && n->store != NULL && d->stores_count > 0 &&
           store_peer_live(n->store, d->stores[0]);
}

/* ---- the table on disk -------------------------------------------------------------------------- */

struct table_job {
    struct node *node;
    struct bytes value;
    struct arena arena;
    struct status st;
};

static struct status table_key(struct arena *arena, struct bytes *out)
{
    uint8_t mem[KEY_STACK_SIZE];
    struct key_enc k;

    key_enc_init(&k, mem, sizeof(mem));
    key_enc_store(&k, KEY_STORE_SETTINGS);
    TRY(key_enc_finish(&k, out));
    return bytes_dup(arena, *out, out);
}

static void write_table(void *arg)
{
    struct table_job *j = arg;
    struct engine_batch b;
    struct bytes key;
    struct status st = OK;

    engine_batch_init(&b);
    TRY_OUT(table_key(&j->arena, &key));
    TRY_OUT(engine_batch_put(&b, ENGINE_CF_RAFT, key, j->value));
    TRY_OUT(engine_write(j->node->o.engine, &b, true));
out:
    engine_batch_deinit(&b);
    j->st = st;
}

static void read_table(void *arg)
{
    struct table_job *j = arg;
    struct bytes key;

    j->st = table_key(&j->arena, &key);
    if (status_ok(j->st)) {
        j->st = engine_get(j->node->o.engine, ENGINE_CF_RAFT, key, ENGINE_TIER_ANY, &j->arena,
                           &j->value);
    }
}

static MAYYIELD void load_table(struct node *n)
{
    struct table_job j = {.node = n};
    ProtobufCAllocator allocator;
    const Dsql__Pb__Gossip *g = NULL;

    arena_init(&j.arena, 0);
    fiber_run_blocking(ENV_LANE_IO, read_table, &j);
    if (status_ok(j.st)) {
        allocator = pb_arena_allocator(&j.arena);
        g = dsql__pb__gossip__unpack(&allocator, j.value.len, j.value.ptr);
        if (g != NULL) {
            (void)node__learn(n, g);
        }
    }
    arena_deinit(&j.arena);
    n->registry_dirty = false;
}

static MAYYIELD void save_table(struct node *n)
{
    struct table_job j = {.node = n};
    Dsql__Pb__Gossip g;

    n->registry_dirty = false;
    arena_init(&j.arena, 0);
    if (status_ok(gossip__pack(n, true, false, &j.arena, &g)) &&
        status_ok(pb_pack(&g.base, &j.arena, &j.value))) {
        fiber_run_blocking(ENV_LANE_WRITER, write_table, &j);
        if (!status_ok(j.st) && n->o.on_fatal != NULL) {
            n->o.on_fatal(n->o.ctx, j.st);
        }
    }
    arena_deinit(&j.arena);
}

static MAYYIELD void table_fiber(void *arg)
{
    struct node *n = arg;

    while (!n->stopping) {
        if (n->registry_dirty) {
            save_table(n);
            continue;
        }
        status_ignore(wait_queue_wait(&n->changed, DEADLINE_NONE)); /* Stopping wakes us, too. */
        if (fiber_cancelled()) {
            break;
        }
    }
    node__fiber_ended(n);
}

/* ---- start -------------------------------------------------------------------------------------- */

/* No timestamp of an earlier life may be given out again. */
static MAYYIELD struct status wait_for_clock(struct node *n)
{
    struct env *env = shard_env(n->shard);
    uint64_t bound = 0;

    TRY(store_read_clock_bound(n->o.engine, &bound));
    if (bound > env_wall_ns(env) + CLOCK_WAIT_MAX_NS) {
        return FAIL(STATUS_FENCED, "the wall clock stands far before the time at which this store "
                                   "was last used: set the clock");
    }
    while (env_wall_ns(env) <= bound) {
        TRY(fiber_sleep(bound - env_wall_ns(env) + 1000000));
        if (n->stopping) {
            return FAIL(STATUS_CANCELLED, "stopping");
        }
    }
    return OK;
}

/* What the store asks of other ranges: see store_options.send. */
static MAYYIELD struct status send_batch(void *ctx, struct range_batch *b, uint64_t deadline_ns,
                                         struct arena *arena, struct range_result *out)
{
    struct node *n = ctx;

    return kv_send(n->kv, b, deadline_ns, arena, out);
}

static struct status start_store(struct node *n)
{
    struct store_options o = {
        .shard = n->shard,
        .hlc = &n->hlc,
        .rpc = n->rpc,
        .engine = n->o.engine,
        .ident = n->ident,
        .liveness = n->o.liveness,
        .log_bytes_max = n->o.log_bytes_max,
        .closed_lag_ns = n->o.closed_lag_ns,
        .side_interval_ns = n->o.side_interval_ns,
        .election_ticks = n->o.election_ticks,
        .election_jitter_ticks = n->o.election_jitter_ticks,
        .plants = n->o.store_plants,
        .raft_plants = n->o.raft_plants,
        .liveness_plants = n->o.liveness_plants,
        .on_fatal = n->o.on_fatal,
        .node_of_store = node_of_store,
        .send = send_batch,
        .send_ctx = n,
        .ctx = n->o.ctx,
        .node_ctx = n,
    };
    struct arena arena;
    struct status st = OK;

    arena_init(&arena, 0);
    TRY_OUT(store_create(&o, &arena, &n->store));
    store_set_probe(n->store, &n->o.probe);
    kv_set_store(n->kv, n->store, n->ident.store);
    gossip__refresh_first_range(n, &arena);
    for (uint32_t i = 0; i < n->registry.count; i++) {
        node__add_peer(n, &n->registry.nodes[i]);
    }
out:
    arena_deinit(&arena);
    return st;
}

static struct status start_local_stores(struct node *n)
{
    const struct node_desc *self = registry_find(&n->registry, n->ident.node);

    for (uint32_t i = 0; self != NULL && i < self->stores_count && i < n->o.shards_count; i++) {
        if (n->o.shards[i] != n->shard) {
            TRY(rpc_add_local_store(n->rpc, self->stores[i], n->o.shards[i]));
        }
    }
    return OK;
}

static struct status start_sql(struct node *n)
{
    return sql_create(&(struct sql_options){.shard = n->shard,
                                            .kv = n->kv,
                                            .hlc = &n->hlc,
                                            .region = n->o.self.region,
                                            .node = n->ident.node.v,
                                            .admin = &n->admin},
                      &n->sql);
}

static MAYYIELD struct status start(struct node *n)
{
    load_table(n);
    TRY(join__identity(n));
    TRY(wait_for_clock(n));
    rpc_set_identity(n->rpc, n->ident.cluster, n->ident.node, n->ident.store);
    TRY(start_store(n));
    gossip__start(n);
    watch__start(n);
    admin__start(n);
    TRY(node__spawn(n, "server.table", table_fiber));
    if (n->primary) {
        TRY(join__register(n));
        gossip__tell_shards(n);
    }
    TRY(start_local_stores(n));
    TRY(start_sql(n));
    TRY(node__spawn(n, "server.gc", maintain__gc_fiber));
    TRY(node__spawn(n, "server.check", maintain__check_fiber));
    return node__spawn(n, "server.ranges", ranges__fiber);
}

static void tell_ready(struct node *n, struct status st)
{
    if (!n->told_ready) {
        n->told_ready = true;
        if (n->o.on_ready != NULL) {
            n->o.on_ready(n->o.ctx, st);
        }
    }
}

static MAYYIELD void start_fiber(void *arg)
{
    struct node *n = arg;
    const struct status st = start(n);

    if (status_ok(st)) {
        n->ready = true;
        LOG_INFO("node.ready", U64("node", n->ident.node.v), U64("store", n->ident.store.v));
    } else {
        LOG_WARN("node.start_failed", STR("why", status_text(st)));
    }
    tell_ready(n, st);
    node__fiber_ended(n);
}

struct status node_create(const struct node_options *o, struct node **out)
{
    struct node *n = calloc(1, sizeof(*n));
    struct status st = OK;

    if (n == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    n->o = *o;
    n->shard = o->shard;
    n->primary = shard_index(o->shard) == 0;
    registry_init(&n->registry);
    env_random(shard_env(o->shard), n->instance.b, sizeof(n->instance.b));
    wait_queue_init(&n->changed);
    hlc_init(&n->hlc, shard_env(o->shard),
             o->max_offset_ns == 0 ? HLC_MAX_OFFSET_NS_DEFAULT : o->max_offset_ns);
    shard_set_slot(o->shard, SHARD_SLOT_SERVER, n);
    TRY_OUT(rpc_create(&(struct rpc_options){o->shard, &n->hlc, o->transport}, &n->rpc));
    TRY_OUT(kv_create(&(struct kv_options){o->shard, n->rpc, &n->hlc}, &n->kv));
    TRY_OUT(txn_service_create(o->shard, n->kv, &n->txns));
    txn_service_plant(n->txns, o->txn_plants);
    if (n->primary) {
        join__serve(n); /* Early: who asks too soon is told to come again. */
    }
    TRY_OUT(node__spawn(n, "server.start", start_fiber));
    *out = n;
    return OK;
out:
    node_destroy(n);
    return st;
}

/* ---- stop --------------------------------------------------------------------------------------- */

/* Hands every lease to some other live voter; what does not move in time fails over. */
static MAYYIELD void hand_over_leases(struct node *n, uint64_t deadline_ns)
{
    struct store_range_info info;
    struct arena arena;
    range_id at = {0};

    arena_init(&arena, 0);
    while (store_next_range(n->store, at, &arena, &info)) {
        at = info.desc.id;
        for (uint32_t k = 0; info.leaseholder && k < info.desc.replicas_count; k++) {
            const struct range_replica *r = &info.desc.replicas[k];

            if (r->type == RANGE_VOTER && r->store.v != n->ident.store.v &&
                node_peer_live(n, r->node) &&
                status_ok(store_transfer_lease(n->store, info.desc.id, r->store, deadline_ns))) {
                break;
            }
        }
    }
    arena_deinit(&arena);
}

void node_stop(struct node *n, uint64_t deadline_ns)
{
    const uint64_t lease_deadline = env_mono_ns(shard_env(n->shard)) + DRAIN_LEASE_NS;
    const uint64_t settle_deadline = env_mono_ns(shard_env(n->shard)) + DRAIN_SETTLE_NS;

    txn_service_stop(n->txns, deadline_ns < settle_deadline ? deadline_ns : settle_deadline);
    if (n->store != NULL && n->registry.count > 1) {
        hand_over_leases(n, deadline_ns < lease_deadline ? deadline_ns : lease_deadline);
    }
    n->stopping = true;
    n->ready = false;
    shard_timer_disarm(n->shard, &n->gossip_timer);
    wait_queue_wake_all(&n->changed);
    if (n->store != NULL) {
        store_stop(n->store);
    }
    while (n->fibers > 0 && status_ok(wait_queue_wait(&n->changed, deadline_ns))) {
    }
}

void node_destroy(struct node *n)
{
    if (n == NULL) {
        return;
    }
    watch__stop(n);
    shard_timer_disarm(n->shard, &n->gossip_timer);
    sql_destroy(n->sql);
    txn_service_destroy(n->txns);
    kv_destroy(n->kv);
    store_destroy(n->store);
    rpc_destroy(n->rpc);
    registry_deinit(&n->registry);
    free(n->loads);
    free(n->seen_live_ns);
    shard_set_slot(n->shard, SHARD_SLOT_SERVER, NULL);
    free(n);
}

/* ---- looking in --------------------------------------------------------------------------------- */

bool node_is_ready(const struct node *n)
{
    return n->ready;
}

struct status node_check_range(struct node *n, range_id range)
{
    return maintain__check_now(n, range);
}

struct store *node_store(struct node *n)
{
    return n->store;
}

struct kv *node_kv(struct node *n)
{
    return n->kv;
}

struct sql *node_sql(struct node *n)
{
    return n->sql;
}

struct rpc *node_rpc(struct node *n)
{
    return n->rpc;
}

const struct registry *node_registry(const struct node *n)
{
    return &n->registry;
}

struct store_ident node_ident(const struct node *n)
{
    return n->ident;
}

struct hlc *node_hlc(struct node *n)
{
    return &n->hlc;
}
