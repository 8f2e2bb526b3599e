/*
 * gossip.c -- everybody learns of every node and of where the first range is.
 *
 * Once a second a node tells one other node, in turn, a digest of what it knows; one that knows
 * something else answers with its table and asks for ours. News spreads at once to all. So an idle
 * cluster sends one small message per node and second.
 */
#include <stdlib.h>

#include "node/base/codec.h"
#include "node/base/hash.h"
#include "node/rpc/pb_arena.h"
#include "node/server/node_internal.h"

#define GOSSIP_ARENA_MAX ((size_t)8 << 20)

struct gossip_parts {
    Dsql__Pb__RangeDesc first;
    Dsql__Pb__ReplicaDesc replicas[RAFT_PEERS_MAX];
    Dsql__Pb__ReplicaDesc *pointers[RAFT_PEERS_MAX];
    Dsql__Pb__StoreLoad load;
    uint8_t digest[16];
};

/* Our own replica of the first range knows best. */
void gossip__refresh_first_range(struct node *n, struct arena *arena)
{
    struct store_range_info info;

    if (n->store != NULL && store_find_range(n->store, (range_id){RANGE_FIRST_ID}, arena, &info) &&
        info.desc.generation > 0) {
        kv_set_first_range(n->kv, &info.desc);
    }
}

static void fill_digest(const struct node *n, const struct range_desc *first, uint8_t out[16])
{
    be64_put(out, n->registry.digest);
    be64_put(out + 8, first == NULL ? 0 : first->generation);
}

struct status gossip__pack(struct node *n, bool full, bool want_answer, struct arena *arena,
                           Dsql__Pb__Gossip *out)
{
    struct gossip_parts *p = ARENA_NEW(arena, struct gossip_parts);
    Dsql__Pb__NodeDesc *rows = ARENA_ARRAY(arena, Dsql__Pb__NodeDesc, n->registry.count + 1);
    const struct range_desc *first = NULL;

    if (p == NULL || rows == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    gossip__refresh_first_range(n, arena);
    first = kv_first_range(n->kv);
    dsql__pb__gossip__init(out);
    fill_digest(n, first, p->digest);
    out->digest = pb_binary(bytes_of(p->digest, sizeof(p->digest)));
    out->want_answer = want_answer;
    if (n->walk.own.heard_ns != 0) {
        dsql__pb__store_load__init(&p->load);
        p->load.store = n->walk.own.store.v;
        p->load.ranges = n->walk.own.ranges;
        p->load.leases = n->walk.own.leases;
        p->load.requests_per_s = n->walk.own.requests_per_s;
        out->load = &p->load;
    }
    if (!full) {
        return OK;
    }
    if (first != NULL) {
        range_desc_to_pb(first, &p->first, p->replicas, p->pointers);
        out->first_range = &p->first;
    }
    out->nodes = ARENA_ARRAY(arena, Dsql__Pb__NodeDesc *, n->registry.count + 1);
    if (out->nodes == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    for (uint32_t i = 0; i < n->registry.count; i++) {
        TRY(node_desc_to_pb(&n->registry.nodes[i], arena, &rows[i]));
        out->nodes[out->n_nodes++] = &rows[i];
    }
    return OK;
}

static void send_to(struct node *n, const struct node_desc *to, bool full, bool want_answer)
{
    struct arena arena;
    Dsql__Pb__Gossip g;
    struct bytes body;

    if (to->id.v == n->ident.node.v || to->stores_count == 0) {
        return;
    }
    arena_init(&arena, GOSSIP_ARENA_MAX);
    if (status_ok(gossip__pack(n, full, want_answer, &arena, &g)) &&
        status_ok(pb_pack(&g.base, &arena, &body))) {
        /* Lost gossip is repeated next second. */
        status_ignore(rpc_send(n->rpc, (struct rpc_to){to->id, to->stores[0], RPC_CLASS_CONTROL},
                               RPC_TYPE_GOSSIP, &body, 1));
    }
    arena_deinit(&arena);
}

void gossip__broadcast(struct node *n)
{
    for (uint32_t i = 0; i < n->registry.count; i++) {
        send_to(n, &n->registry.nodes[i], true, false);
    }
    gossip__tell_shards(n);
}

static void on_gossip(void *ctx, const struct rpc_message *m)
{
    struct node *n = ctx;
    struct arena arena;
    ProtobufCAllocator allocator;
    const Dsql__Pb__Gossip *g = NULL;
    const struct node_desc *from = NULL;
    uint8_t mine[16];

    arena_init(&arena, GOSSIP_ARENA_MAX);
    allocator = pb_arena_allocator(&arena);
    g = dsql__pb__gossip__unpack(&allocator, m->body.len, m->body.ptr);
    if (g != NULL && !n->stopping) {
        if (node__learn(n, g)) {
            n->gossip_to_all = true;
            shard_timer_arm_in(n->shard, &n->gossip_timer, 0);
        }
        gossip__refresh_first_range(n, &arena);
        fill_digest(n, kv_first_range(n->kv), mine);
        from = registry_find(&n->registry, m->from_node);
        if (from != NULL && g->digest.len == sizeof(mine) &&
            memcmp(g->digest.data, mine, sizeof(mine)) != 0 &&
            (g->want_answer || g->n_nodes == 0)) {
            send_to(n, from, true, g->n_nodes == 0);
        }
    }
    arena_deinit(&arena);
}

/*
 * A clock that is out of bounds breaks promises about time: reads of others would miss what we write. With two
 * peers or more against us it is ours that is wrong, and we stop; with one nobody can tell.
 */
static void check_clock(struct node *n)
{
    struct rpc_clock c;
    struct arena arena;
    const char *why = NULL;

    rpc_compare_clocks(n->rpc, &c);
    if (c.beyond < 2 || c.beyond * 2 <= c.peers) {
        return;
    }
    arena_init(&arena, 0);
    why = arena_printf(
        &arena,
        "the clock is %lld ms %s those of %u of %u peers, the bound is %llu ms: set it "
        "right and start again",
        (long long)((c.ahead_ns < 0 ? -c.ahead_ns : c.ahead_ns) / 1000000),
        c.ahead_ns < 0 ? "behind" : "ahead of", c.beyond, c.peers,
        (unsigned long long)(n->hlc.max_offset_ns / 1000000));
    LOG_ERROR("node.clock_out_of_bounds", STR("why", why == NULL ? "out of memory" : why));
    n->o.on_fatal(n->o.ctx, FAIL(STATUS_FENCED, why == NULL ? "the clock is wrong" : why));
    arena_deinit(&arena);
}

static void gossip_tick(struct shard_timer *t)
{
    struct node *n = CONTAINER_OF(t, struct node, gossip_timer);

    if (n->stopping) {
        return;
    }
    check_clock(n);
    if (n->gossip_to_all) {
        n->gossip_to_all = false;
        gossip__broadcast(n);
    } else if (n->registry.count > 1) {
        const uint64_t pick = env_random_u64(shard_env(n->shard)) % n->registry.count;

        send_to(n, &n->registry.nodes[pick], false, false);
    }
    shard_timer_arm_in(n->shard, t, NODE_GOSSIP_NS);
}

/* ---- within the process ------------------------------------------------------------------------- */

/* What the primary tells another shard: identity, then the table as a packed Gossip. */
struct shard_news {
    struct shard_parcel parcel;
    struct store_ident ident;
    size_t len;
    uint8_t gossip[];
};

static void deliver_news(struct shard *to, struct shard_parcel *p)
{
    struct shard_news *news = CONTAINER_OF(p, struct shard_news, parcel);
    struct node *n = to == NULL ? NULL : shard_get_slot(to, SHARD_SLOT_SERVER);
    struct arena arena;

    if (n != NULL && !n->stopping) {
        ProtobufCAllocator allocator;
        const Dsql__Pb__Gossip *g = NULL;

        arena_init(&arena, GOSSIP_ARENA_MAX);
        allocator = pb_arena_allocator(&arena);
        n->given = news->ident;
        n->has_identity = true;
        g = dsql__pb__gossip__unpack(&allocator, news->len, news->gossip);
        if (g != NULL) {
            (void)node__learn(n, g);
        }
        arena_deinit(&arena);
        wait_queue_wake_all(&n->changed);
    }
    free(news);
}

static void tell_shard(struct node *n, uint32_t i, struct bytes gossip)
{
    const struct node_desc *self = registry_find(&n->registry, n->ident.node);
    struct shard_news *news = NULL;

    if (self == NULL || i >= self->stores_count) {
        return;
    }
    news = malloc(sizeof(*news) + gossip.len);
    if (news == NULL) {
        return;
    }
    *news = (struct shard_news){.parcel = {.deliver = deliver_news}, .ident = n->ident};
    news->ident.store = self->stores[i];
    news->len = gossip.len;
    memcpy(news->gossip, gossip.ptr, gossip.len);
    if (!status_ok(shard_post_remote(n->o.shards[i], &news->parcel))) {
        free(news); /* The next round tells again. */
    }
}

void gossip__tell_shards(struct node *n)
{
    struct arena arena;
    Dsql__Pb__Gossip g;
    struct bytes body;

    if (!n->primary || n->o.shards_count < 2) {
        return;
    }
    arena_init(&arena, GOSSIP_ARENA_MAX);
    if (status_ok(gossip__pack(n, true, false, &arena, &g)) &&
        status_ok(pb_pack(&g.base, &arena, &body))) {
        for (uint32_t i = 1; i < n->o.shards_count; i++) {
            tell_shard(n, i, body);
        }
    }
    arena_deinit(&arena);
}

void gossip__start(struct node *n)
{
    n->gossip_timer.fn = gossip_tick;
    rpc_set_handler(n->rpc, RPC_TYPE_GOSSIP, on_gossip, n);
    if (n->primary) {
        shard_timer_arm_in(n->shard, &n->gossip_timer, NODE_GOSSIP_NS);
    }
}
