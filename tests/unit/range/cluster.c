/*
 * cluster.c -- see cluster.h.
 */
#include "tests/unit/range/cluster.h"

#include <stdlib.h>

#include "node/base/invariant.h"
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
        memcpy(f->data + size, parts[i].ptr, parts[i].len);
        size += parts[i].len;
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

static void deliver(struct cluster *c)
{
    struct list *it = NULL;

    while ((it = list_pop_front(&c->frames)) != NULL) {
        struct frame *f = LIST_ENTRY(it, struct frame, link);
        struct cluster_node *to = &c->nodes[f->to];

        if (f->to < c->count && to->up && c->nodes[f->from].up && !to->cut &&
            !c->nodes[f->from].cut) {
            shard_enter(to->shard);
            status_ignore(rpc_receive(to->rpc, f->bytes, NULL)); /* Stale frames are dropped. */
            shard_leave(to->shard);
            shard_env(to->shard)->ops->wake_at(shard_env(to->shard), 0);
        }
        free(f);
        fake_world_settle(c->world);
    }
}

void cluster_run_ms(struct cluster *c, uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i++) {
        fake_world_advance(c->world, 1000000);
        deliver(c);
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

void cluster_start(struct cluster *c, uint32_t count)
{
    *c = (struct cluster){.world = fake_world_create(), .count = count};
    list_init(&c->frames);
    for (uint32_t i = 0; i < count; i++) {
        struct cluster_node *n = &c->nodes[i];
        const struct store_ident id = {{{7}}, {i + 1}, {i + 1}};

        *n = (struct cluster_node){.cluster = c, .index = i};
        n->shard = fake_world_add_shard(c->world);
        INVARIANT(status_ok(memdisk_create(&n->disk)));
        INVARIANT(status_ok(engine_open_mem(n->disk, &n->engine)));
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

struct call {
    struct cluster_node *node;
    struct range_request request;
    uint32_t target;
    int kind;
    struct arena arena;
    struct range_result result;
    struct status st;
    bool done;
};

static void call_fiber(void *arg)
{
    struct call *c = arg;
    const uint64_t deadline = env_mono_ns(shard_env(c->node->shard)) + 9000000000u;
    const struct range_batch b = {.range = {RANGE_FIRST_ID}, .requests = &c->request, .count = 1};

    switch (c->kind) {
    case 0:
        store_execute(c->node->store, &b, deadline, &c->arena, &c->result);
        c->st = c->result.st;
        break;
    case 1:
        c->st = store_add_voter(c->node->store, b.range, (node_id){c->target + 1},
                                (store_id){c->target + 1}, deadline);
        break;
    case 2:
        c->st = store_remove_replica(c->node->store, b.range, (store_id){c->target + 1}, deadline);
        break;
    default:
        c->st = store_transfer_lease(c->node->store, b.range, (store_id){c->target + 1}, deadline);
        break;
    }
    c->done = true;
}

static void run_call(struct cluster *c, struct call *call)
{
    arena_init(&call->arena, 0);
    INVARIANT(status_ok(fiber_spawn(call->node->shard, "call", call_fiber, call)));
    for (int i = 0; i < 10000 && !call->done; i++) {
        cluster_run_ms(c, 1);
    }
    INVARIANT(call->done);
}

enum status_code cluster_put(struct cluster *c, uint32_t i, const char *key, const char *value)
{
    struct call call = {
        .node = &c->nodes[i],
        .request = {.op = RANGE_OP_PUT, .key = bytes_str(key), .value = bytes_str(value)}};

    run_call(c, &call);
    arena_deinit(&call.arena);
    return call.st.code;
}

const char *cluster_get(struct cluster *c, uint32_t i, const char *key, enum status_code *code)
{
    static char out[256];
    struct call call = {.node = &c->nodes[i],
                        .request = {.op = RANGE_OP_GET, .key = bytes_str(key)}};
    size_t n = 0;

    run_call(c, &call);
    *code = call.st.code;
    if (status_ok(call.st) && call.result.responses[0].found) {
        n = call.result.responses[0].value.len;
        memcpy(out, call.result.responses[0].value.ptr, n);
    }
    out[n] = '\0';
    arena_deinit(&call.arena);
    return status_ok(call.st) ? out : NULL;
}

static enum status_code change(struct cluster *c, uint32_t i, uint32_t target, int kind)
{
    struct call call = {.node = &c->nodes[i], .target = target, .kind = kind};

    run_call(c, &call);
    arena_deinit(&call.arena);
    return call.st.code;
}

enum status_code cluster_add_voter(struct cluster *c, uint32_t i, uint32_t target)
{
    return change(c, i, target, 1);
}

enum status_code cluster_remove(struct cluster *c, uint32_t i, uint32_t target)
{
    return change(c, i, target, 2);
}

enum status_code cluster_transfer(struct cluster *c, uint32_t i, uint32_t target)
{
    return change(c, i, target, 3);
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
