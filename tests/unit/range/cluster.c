/*
 * cluster.c -- see cluster.h.
 */
#include "tests/unit/range/cluster.h"

#include <stdlib.h>

#include "node/base/codec.h"
#include "node/base/invariant.h"
#include "node/range/internal.h"
#include "node/runtime/fiber.h"

struct frame {
    struct list link;
    uint32_t from;
    uint32_t to;
    struct bytes bytes;
    uint8_t data[];
};

static struct status transport_send(void *ctx, node_id to, enum rpc_class cls,
                                    const struct bytes *parts, uint32_t count)
{
    struct cluster_node *n = ctx;
    size_t size = 0;
    struct frame *f = NULL;

    UNUSED(cls);
    for (uint32_t i = 0; i < count; i++) {
        size += parts[i].len;
    }
    f = malloc(sizeof(*f) + size);
    INVARIANT(f != NULL);
    *f = (struct frame){.from = n->index, .to = to.v - 1, .bytes = bytes_of(f->data, size)};
    size = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (parts[i].len > 0) {
            memcpy(f->data + size, parts[i].ptr, parts[i].len);
            size += parts[i].len;
        }
    }
    list_push_back(&n->cluster->frames, &f->link);
    return OK;
}

static struct status transport_send_path(void *ctx, void *path, const struct bytes *parts,
                                         uint32_t count)
{
    UNUSED(ctx);
    UNUSED(path);
    UNUSED(parts);
    UNUSED(count);
    return FAIL(STATUS_UNAVAILABLE, "no paths here");
}

static struct status transport_open_path(void *ctx, const char *address, void **out)
{
    UNUSED(ctx);
    UNUSED(address);
    UNUSED(out);
    return FAIL(STATUS_UNAVAILABLE, "no paths here");
}

static void transport_set_address(void *ctx, node_id node, const char *address)
{
    UNUSED(ctx);
    UNUSED(node);
    UNUSED(address);
}

static void transport_flush(void *ctx)
{
    UNUSED(ctx);
}

/* Takes a frame out: the first, or any. */
static struct frame *take_frame(struct cluster *c)
{
    struct list *it = c->frames.next;
    uint64_t skip = 0;

    if (list_empty(&c->frames)) {
        return NULL;
    }
    if (c->reorder) {
        uint64_t count = 0;

        LIST_FOREACH(at, &c->frames) {
            count++;
        }
        for (skip = rng_below(&c->rng, count); skip > 0; skip--) {
            it = it->next;
        }
    }
    list_remove(it);
    return LIST_ENTRY(it, struct frame, link);
}

static bool arrives(struct cluster *c, const struct frame *f)
{
    const struct cluster_frame view = {
        .from = f->from,
        .to = f->to,
        .type = (enum rpc_type)be16_get(f->bytes.ptr + 60),
        .reply = (f->bytes.ptr[7] & RPC_FLAG_REPLY) != 0,
        .bytes = f->bytes,
    };

    return f->to < c->count && c->nodes[f->to].up && c->nodes[f->from].up && !c->nodes[f->to].cut &&
           !c->nodes[f->from].cut && (c->filter == NULL || c->filter(c->filter_ctx, &view));
}

static void deliver(struct cluster *c)
{
    struct frame *f = NULL;
    uint64_t left = 0; /* With latency, what is sent now arrives in the next round. */

    LIST_FOREACH(it, &c->frames) {
        left++;
    }
    while ((f = take_frame(c)) != NULL) {
        struct cluster_node *to = &c->nodes[f->to];
        const int times = arrives(c, f) ? (c->duplicate ? 2 : 1) : 0;

        for (int i = 0; i < times; i++) {
            shard_enter(to->shard);
            status_ignore(rpc_receive(to->rpc, f->bytes, NULL)); /* Stale frames are dropped. */
            shard_leave(to->shard);
            shard_env(to->shard)->ops->wake_at(shard_env(to->shard), 0);
        }
        free(f);
        fake_world_settle(c->world);
        if (c->latency_ms > 0 && --left == 0) {
            return;
        }
    }
}

void cluster_run_ms(struct cluster *c, uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i++) {
        fake_world_advance(c->world, 1000000);
        if (c->latency_ms == 0 || ++c->ms % c->latency_ms == 0) {
            deliver(c);
        }
    }
}

static bool node_of_store(void *ctx, store_id store, node_id *out)
{
    UNUSED(ctx);
    out->v = store.v;
    return store.v >= 1 && store.v <= CLUSTER_MAX;
}

static void on_fatal(void *ctx, struct status why)
{
    struct cluster_node *n = ctx;

    UNUSED(why);
    n->fatal++;
}

/* ---- the way to other ranges --------------------------------------------------------------------- */

static struct cluster_node *leads_key(struct cluster *c, struct bytes key, struct range_batch *b)
{
    for (uint32_t i = 0; i < c->count; i++) {
        struct cluster_node *n = &c->nodes[i];
        struct replica *r = n->up && !n->cut ? store__find_key(n->store, key) : NULL;

        if (r != NULL && r->life == REPLICA_INIT && status_ok(lease__check(r, HTS_ZERO))) {
            b->range = r->range;
            b->generation = r->desc.generation;
            return n;
        }
    }
    return NULL;
}

MAYYIELD static struct status send_once(struct cluster_node *from, struct range_batch *b,
                                        uint64_t deadline_ns, struct arena *arena,
                                        struct range_result *out)
{
    struct cluster_node *to = leads_key(from->cluster, b->requests[0].key, b);
    struct bytes body;
    struct bytes reply;

    *out = (struct range_result){0};
    if (to == NULL) {
        return FAIL(STATUS_NOT_LEADER, "nobody leads that range");
    }
    if (to == from) {
        store_execute(from->store, b, deadline_ns, arena, out);
        return out->st;
    }
    TRY(range_batch_encode(b, arena, &body));
    TRY(rpc_call(from->rpc, (struct rpc_to){{to->index + 1}, {to->index + 1}, RPC_CLASS_NORMAL},
                 RPC_TYPE_BATCH, &body, 1, deadline_ns, arena, &reply));
    TRY(range_result_decode(reply, b->count, arena, out));
    return out->st;
}

static bool worth_another_try(struct status st)
{
    return st.code == STATUS_NOT_LEADER || st.code == STATUS_RANGE_NOT_FOUND ||
           st.code == STATUS_OVERLOADED || st.code == STATUS_NOT_PROPOSED;
}

MAYYIELD static struct status cluster_send(void *ctx, struct range_batch *b, uint64_t deadline_ns,
                                           struct arena *arena, struct range_result *out)
{
    struct cluster_node *n = ctx;

    for (;;) {
        const struct status st = send_once(n, b, deadline_ns, arena, out);

        if (!worth_another_try(st) || n->store->stopping ||
            env_mono_ns(shard_env(n->shard)) >= deadline_ns) {
            out->st = st;
            return st;
        }
        TRY(fiber_sleep(10000000));
    }
}

static struct store_ident ident_of(const struct cluster_node *n)
{
    return (struct store_ident){{{7}}, {n->index + 1}, {n->index + 1}};
}

static void start_node(struct cluster *c, struct cluster_node *n)
{
    struct store_options o = {.hlc = &n->hlc,
                              .shard = n->shard,
                              .ident = ident_of(n),
                              .on_fatal = on_fatal,
                              .node_of_store = node_of_store,
                              .log_bytes_max = c->log_bytes_max,
                              .closed_lag_ns = c->closed_lag_ms * 1000000u,
                              .side_interval_ns = c->side_interval_ms * 1000000u,
                              .plants = c->plants,
                              .send = c->no_send ? NULL : cluster_send,
                              .send_ctx = n,
                              .ctx = n};
    const struct rpc_transport transport = {.ctx = n,
                                            .send = transport_send,
                                            .send_path = transport_send_path,
                                            .open_path = transport_open_path,
                                            .set_address = transport_set_address,
                                            .flush = transport_flush};

    n->up = true;
    n->fatal = 0;
    shard_enter(n->shard);
    hlc_init(&n->hlc, shard_env(n->shard), HLC_MAX_OFFSET_NS_DEFAULT);
    INVARIANT(status_ok(rpc_create(&(struct rpc_options){n->shard, &n->hlc, transport}, &n->rpc)));
    rpc_set_identity(n->rpc, o.ident.cluster, o.ident.node, o.ident.store);
    o.rpc = n->rpc;
    o.engine = n->engine;
    const struct status st = store_create(&o, NULL, &n->store);
    if (!status_ok(st)) {
        printf("store_create: %s line %u\n", status_text(st), st.origin & 0xFFFFF);
    }
    INVARIANT(status_ok(st));
    for (uint32_t i = 0; i < c->count; i++) {
        if (i != n->index) {
            INVARIANT(status_ok(rpc_set_node_address(n->rpc, (node_id){i + 1}, "x:1")));
            INVARIANT(status_ok(store_add_peer(n->store, (store_id){i + 1})));
        }
    }
    shard_leave(n->shard);
}

bool cluster_drop_closed(void *ctx, const struct cluster_frame *f)
{
    UNUSED(ctx);
    return f->type != RPC_TYPE_CLOSED;
}

void cluster_start(struct cluster *c, uint32_t count)
{
    cluster_start_with(c, count, (struct cluster_options){0});
}

void cluster_start_with(struct cluster *c, uint32_t count, struct cluster_options o)
{
    *c = (struct cluster){.world = fake_world_create(),
                          .count = count,
                          .closed_lag_ms = o.closed_lag_ms,
                          .side_interval_ms = o.side_interval_ms,
                          .no_send = o.no_send,
                          .plants = o.plants};
    list_init(&c->frames);
    rng_seed(&c->rng, 1);
    for (uint32_t i = 0; i < count; i++) {
        struct cluster_node *n = &c->nodes[i];
        const struct store_ident id = {{{7}}, {i + 1}, {i + 1}};

        *n = (struct cluster_node){.cluster = c, .index = i};
        n->shard = fake_world_add_shard(c->world);
        INVARIANT(status_ok(memdisk_create(&n->disk)));
        if (o.open_engine != NULL) {
            n->engine = o.open_engine(o.open_ctx, i);
        } else {
            INVARIANT(status_ok(engine_open_mem(n->disk, &n->engine)));
        }
        INVARIANT(status_ok(i == 0 ? store_bootstrap(n->engine, &id, hts_ms(1))
                                   : store_write_ident(n->engine, &id)));
        start_node(c, n);
    }
    cluster_run_ms(c, 1500);
}

static void stop_fiber(void *arg)
{
    struct cluster_node *n = arg;

    store_stop(n->store);
    n->up = false;
}

static void stop_node(struct cluster *c, struct cluster_node *n)
{
    if (!n->up) {
        return;
    }
    INVARIANT(status_ok(fiber_spawn(n->shard, "stop", stop_fiber, n)));
    for (int i = 0; i < 100 && n->up; i++) {
        cluster_run_ms(c, 10);
    }
    INVARIANT(!n->up);
    shard_enter(n->shard);
    store_destroy(n->store);
    rpc_destroy(n->rpc);
    shard_leave(n->shard);
    n->store = NULL;
    n->rpc = NULL;
}

void cluster_stop(struct cluster *c)
{
    for (uint32_t i = 0; i < c->count; i++) {
        stop_node(c, &c->nodes[i]);
    }
    cluster_run_ms(c, 1);
    fake_world_destroy(c->world);
    for (uint32_t i = 0; i < c->count; i++) {
        engine_close(c->nodes[i].engine);
        memdisk_destroy(c->nodes[i].disk);
    }
}

void cluster_crash(struct cluster *c, uint32_t i, uint32_t keep)
{
    struct cluster_node *n = &c->nodes[i];

    memdisk_crash(n->disk, keep);
    n->cut = true;
    stop_node(c, n); /* Its writes fail from now on; nothing of it reaches anybody. */
    engine_close(n->engine);
    n->engine = NULL;
}

void cluster_restart(struct cluster *c, uint32_t i)
{
    struct cluster_node *n = &c->nodes[i];

    n->cut = false;
    n->shard = fake_world_add_shard(c->world);
    INVARIANT(status_ok(engine_open_mem(n->disk, &n->engine)));
    start_node(c, n);
}

/* ---- requests ------------------------------------------------------------------------------------ */

static void call_fiber(void *arg)
{
    struct cluster_call *c = arg;
    struct store *s = c->node->store;
    const uint64_t ms = c->timeout_ms == 0 ? 9000 : c->timeout_ms;
    const uint64_t deadline = env_mono_ns(shard_env(c->node->shard)) + ms * 1000000u;
    const range_id range = {c->range == 0 ? RANGE_FIRST_ID : c->range};
    const store_id target = {c->target + 1};

    c->fiber = fiber_current();
    switch (c->kind) {
    case CLUSTER_EXECUTE:
        store_execute(s, &c->batch, deadline, &c->arena, &c->result);
        c->st = c->result.st;
        break;
    case CLUSTER_ADD_VOTER:
        c->st = store_add_voter(s, range, (node_id){target.v}, target, deadline);
        break;
    case CLUSTER_REMOVE:
        c->st = store_remove_replica(s, range, target, deadline);
        break;
    case CLUSTER_TRANSFER:
        c->st = store_transfer_lease(s, range, target, deadline);
        break;
    case CLUSTER_SPLIT:
        c->st = store_split(s, range, c->key, deadline);
        break;
    case CLUSTER_MERGE:
        c->st = store_merge(s, range, deadline);
        break;
    case CLUSTER_SETTLE:
        c->st = store_settle_merge(s, range, deadline);
        break;
    case CLUSTER_ADDRESS:
        c->st = store_address(s, range, deadline);
        break;
    case CLUSTER_SEND:
        c->st = cluster_send(c->node, &c->batch, deadline, &c->arena, &c->result);
        break;
    }
    c->fiber = NULL;
    c->done = true;
}

void cluster_call_start(struct cluster_call *call)
{
    arena_init(&call->arena, 0);
    call->done = false;
    call->batch.range.v = call->range == 0 ? RANGE_FIRST_ID : call->range;
    if (call->batch.count == 0) {
        call->batch.requests = &call->one;
        call->batch.count = 1;
    }
    INVARIANT(status_ok(fiber_spawn(call->node->shard, "call", call_fiber, call)));
}

bool cluster_call_wait(struct cluster_call *call, uint64_t ms)
{
    for (uint64_t i = 0; i < ms && !call->done; i++) {
        cluster_run_ms(call->node->cluster, 1);
    }
    return call->done;
}

void cluster_call_end(struct cluster_call *call)
{
    arena_deinit(&call->arena);
}

static void run_call(struct cluster_call *call)
{
    cluster_call_start(call);
    INVARIANT(cluster_call_wait(call, 10000));
}

enum status_code cluster_put(struct cluster *c, uint32_t i, const char *key, const char *value)
{
    struct cluster_call call = {
        .node = &c->nodes[i],
        .one = {.op = RANGE_OP_PUT, .key = bytes_str(key), .value = bytes_str(value)}};

    run_call(&call);
    cluster_call_end(&call);
    return call.st.code;
}

const char *cluster_get(struct cluster *c, uint32_t i, const char *key, enum status_code *code)
{
    static char out[256];
    struct cluster_call call = {.node = &c->nodes[i],
                                .one = {.op = RANGE_OP_GET, .key = bytes_str(key)}};
    size_t n = 0;

    run_call(&call);
    *code = call.st.code;
    if (status_ok(call.st) && call.result.responses[0].found) {
        n = call.result.responses[0].value.len;
        memcpy(out, call.result.responses[0].value.ptr, n);
    }
    out[n] = '\0';
    cluster_call_end(&call);
    return status_ok(call.st) ? out : NULL;
}

static enum status_code change(struct cluster *c, uint32_t i, uint32_t target,
                               enum cluster_call_kind kind)
{
    struct cluster_call call = {.node = &c->nodes[i], .target = target, .kind = kind};

    run_call(&call);
    cluster_call_end(&call);
    return call.st.code;
}

enum status_code cluster_add_voter(struct cluster *c, uint32_t i, uint32_t target)
{
    return change(c, i, target, CLUSTER_ADD_VOTER);
}

enum status_code cluster_remove(struct cluster *c, uint32_t i, uint32_t target)
{
    return change(c, i, target, CLUSTER_REMOVE);
}

enum status_code cluster_transfer(struct cluster *c, uint32_t i, uint32_t target)
{
    return change(c, i, target, CLUSTER_TRANSFER);
}

int cluster_leaseholder(struct cluster *c)
{
    int found = -1;

    for (uint32_t i = 0; i < c->count; i++) {
        struct store_range_info info;
        struct arena arena;

        arena_init(&arena, 0);
        if (c->nodes[i].up &&
            store_find_range(c->nodes[i].store, (range_id){RANGE_FIRST_ID}, &arena, &info) &&
            info.leaseholder) {
            INVARIANT(found == -1); /* Two at once would be a disaster. */
            found = (int)i;
        }
        arena_deinit(&arena);
    }
    return found;
}

int cluster_wait_leaseholder(struct cluster *c)
{
    for (int i = 0; i < 1000; i++) {
        const int found = cluster_leaseholder(c);

        if (found >= 0) {
            return found;
        }
        cluster_run_ms(c, 10);
    }
    return -1;
}

uint32_t cluster_voters(struct cluster *c, uint32_t i)
{
    struct store_range_info info;
    struct arena arena;
    uint32_t voters = 0;

    arena_init(&arena, 0);
    if (store_find_range(c->nodes[i].store, (range_id){RANGE_FIRST_ID}, &arena, &info)) {
        for (uint32_t k = 0; k < info.desc.replicas_count; k++) {
            voters += info.desc.replicas[k].type == RANGE_VOTER ? 1 : 0;
        }
    }
    arena_deinit(&arena);
    return voters;
}

bool cluster_has_replica(struct cluster *c, uint32_t i)
{
    struct store_range_info info;
    struct arena arena;
    bool has = false;

    arena_init(&arena, 0);
    has = store_find_range(c->nodes[i].store, (range_id){RANGE_FIRST_ID}, &arena, &info);
    arena_deinit(&arena);
    return has;
}

bool cluster_digests_equal(struct cluster *c)
{
    uint64_t first = 0;
    uint64_t first_index = 0;

    for (uint32_t i = 0; i < c->count; i++) {
        uint64_t digest = 0;
        uint64_t index = 0;

        if (!c->nodes[i].up || !cluster_has_replica(c, i)) {
            continue;
        }
        if (!status_ok(store_range_digest(c->nodes[i].store, (range_id){RANGE_FIRST_ID}, &index,
                                          &digest)) ||
            (first_index != 0 && (digest != first || index != first_index))) {
            return false;
        }
        first = digest;
        first_index = index;
    }
    return true;
}
