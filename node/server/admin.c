/*
 * admin.c -- splits, moves of leases and lists of ranges, asked for by people on any node.
 *
 * Only the leaseholder of a range can change it. Who that is stores know best, so they are asked: the one
 * that answered last, then this one, then all others. What moves between question and order is answered
 * with NOT_LEADER, and asked for again until the time is up.
 *
 *     SQL, here ──find──► RANGES to stores ──► the range and who leads it ──► SPLIT, TRANSFER to that one
 *
 * A store that does not answer is passed over: its ranges show up under whoever holds a replica.
 */
#include <stdlib.h>

#include "node/base/map.h"
#include "node/rpc/pb_arena.h"
#include "node/server/node_internal.h"

#define ADMIN_ASK_NS     ((uint64_t)2000000000) /* One store. */
#define ADMIN_PAUSE_NS   ((uint64_t)50000000)
#define ADMIN_RANGES_MAX 10000u /* Of one answer. */
#define ADMIN_REPLY_MAX  ((size_t)8 << 20)

enum admin_op {
    ADMIN_RANGES = 1,   /* That overlap [start, end). */
    ADMIN_SPLIT = 2,    /* `range` at start. */
    ADMIN_TRANSFER = 3, /* The lease of `range` to `store`. */
};

static uint64_t now(const struct node *n)
{
    return env_mono_ns(shard_env(n->shard));
}

/* ---- answering ---------------------------------------------------------------------------------- */

struct admin_call {
    struct node *node;
    struct rpc_reply_to reply;
    struct arena arena;
    const Dsql__Pb__AdminRequest *request;
    Dsql__Pb__AdminReply answer;
};

/* An empty end is the end of all keys. */
static bool overlaps(const struct range_desc *d, struct bytes start, struct bytes end)
{
    return (end.len == 0 || bytes_cmp(d->start, end) < 0) &&
           (d->end.len == 0 || bytes_cmp(start, d->end) < 0);
}

struct packed_range {
    Dsql__Pb__AdminRange pb;
    Dsql__Pb__RangeDesc desc;
    Dsql__Pb__ReplicaDesc replicas[RAFT_PEERS_MAX];
    Dsql__Pb__ReplicaDesc *pointers[RAFT_PEERS_MAX];
};

static struct status pack_range(struct arena *arena, const struct store_range_info *info,
                                Dsql__Pb__AdminRange **out)
{
    struct packed_range *p = ARENA_NEW(arena, struct packed_range);

    if (p == NULL) {
        return FAIL(STATUS_MEMORY, "too many ranges");
    }
    dsql__pb__admin_range__init(&p->pb);
    range_desc_to_pb(&info->desc, &p->desc, p->replicas, p->pointers);
    p->pb.desc = &p->desc;
    p->pb.leaseholder = info->leaseholder;
    *out = &p->pb;
    return OK;
}

/* This store's replicas that overlap [start, end). */
static struct status own_ranges(struct node *n, struct bytes start, struct bytes end,
                                struct arena *arena, Dsql__Pb__AdminReply *out)
{
    struct store_range_info info;
    range_id at = {0};

    dsql__pb__admin_reply__init(out);
    out->ranges = ARENA_ARRAY(arena, Dsql__Pb__AdminRange *, ADMIN_RANGES_MAX);
    if (out->ranges == NULL) {
        return FAIL(STATUS_MEMORY, "too many ranges");
    }
    while (n->store != NULL && store_next_range(n->store, at, arena, &info)) {
        at = info.desc.id;
        if (!overlaps(&info.desc, start, end)) {
            continue;
        }
        if (out->n_ranges == ADMIN_RANGES_MAX) {
            return FAIL(STATUS_OVERLOADED, "too many ranges to show at once");
        }
        TRY(pack_range(arena, &info, &out->ranges[out->n_ranges++]));
    }
    return OK;
}

static MAYYIELD struct status carry_out(struct node *n, const Dsql__Pb__AdminRequest *q,
                                        uint64_t deadline_ns, struct arena *arena,
                                        Dsql__Pb__AdminReply *out)
{
    const struct bytes start = bytes_of(q->start.data, q->start.len);

    dsql__pb__admin_reply__init(out);
    if (n->store == NULL || n->stopping) {
        return FAIL(STATUS_UNAVAILABLE, "this node is not ready");
    }
    switch (q->op) {
    case ADMIN_RANGES:
        return own_ranges(n, start, bytes_of(q->end.data, q->end.len), arena, out);
    case ADMIN_SPLIT:
        return store_split(n->store, (range_id){q->range}, start, deadline_ns);
    case ADMIN_TRANSFER:
        return store_transfer_lease(n->store, (range_id){q->range}, (store_id){q->store},
                                    deadline_ns);
    default:
        return FAIL(STATUS_UNSUPPORTED, "this node does not know what was asked for");
    }
}

static MAYYIELD void answer_fiber(void *arg)
{
    struct admin_call *c = arg;
    struct node *n = c->node;
    struct bytes body = BYTES_EMPTY;
    struct status st =
        carry_out(n, c->request, now(n) + SQL_ADMIN_TIMEOUT_NS, &c->arena, &c->answer);

    if (status_ok(st)) {
        st = pb_pack(&c->answer.base, &c->arena, &body);
    }
    if (status_ok(st) && body.len > ADMIN_REPLY_MAX) {
        st = FAIL(STATUS_OVERLOADED, "too many ranges to show at once");
    }
    rpc_reply(n->rpc, &c->reply, st, &body, status_ok(st) ? 1 : 0);
    arena_deinit(&c->arena);
    free(c);
    node__fiber_ended(n);
}

static void on_admin(void *ctx, const struct rpc_message *m)
{
    struct node *n = ctx;
    const struct rpc_reply_to reply = rpc_reply_to(m);
    struct admin_call *c = calloc(1, sizeof(*c));
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
    c->request = dsql__pb__admin_request__unpack(&allocator, m->body.len, m->body.ptr);
    if (c->request == NULL) {
        st = FAIL(STATUS_INVALID, "damaged request");
        goto out;
    }
    TRY_OUT(fiber_spawn(n->shard, "server.admin", answer_fiber, c));
    n->fibers++;
    return;
out:
    rpc_reply(n->rpc, &reply, st, NULL, 0);
    arena_deinit(&c->arena);
    free(c);
}

/* ---- asking ------------------------------------------------------------------------------------- */

struct ask {
    enum admin_op op;
    struct bytes start;
    struct bytes end;
    uint64_t range;
    uint32_t store;
};

/* Asks one store; this one without a message. */
static MAYYIELD struct status ask_store(struct node *n, store_id to, const struct ask *a,
                                        uint64_t deadline_ns, struct arena *arena,
                                        const Dsql__Pb__AdminReply **out)
{
    const struct node_desc *d = registry_find_store(&n->registry, to);
    ProtobufCAllocator allocator = pb_arena_allocator(arena);
    Dsql__Pb__AdminReply *own = ARENA_NEW(arena, Dsql__Pb__AdminReply);
    Dsql__Pb__AdminRequest q;
    struct bytes body;
    struct bytes reply;

    if (d == NULL) {
        return FAIL(STATUS_NOT_FOUND, "there is no such store");
    }
    if (own == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    dsql__pb__admin_request__init(&q);
    q.op = a->op;
    q.start = pb_binary(a->start);
    q.end = pb_binary(a->end);
    q.range = a->range;
    q.store = a->store;
    if (to.v == n->ident.store.v) {
        *out = own;
        return carry_out(n, &q, deadline_ns, arena, own);
    }
    TRY(pb_pack(&q.base, arena, &body));
    TRY(rpc_call(n->rpc, (struct rpc_to){d->id, to, RPC_CLASS_NORMAL}, RPC_TYPE_ADMIN, &body, 1,
                 deadline_ns, arena, &reply));
    *out = dsql__pb__admin_reply__unpack(&allocator, reply.len, reply.ptr);
    return *out != NULL ? OK : FAIL(STATUS_CORRUPT, "damaged answer");
}

/* All stores, the likeliest first, in the arena: the registry may change while we ask. */
static struct status stores_to_ask(struct node *n, struct arena *arena, store_id **out,
                                   uint32_t *count)
{
    uint32_t max = 2;

    for (uint32_t i = 0; i < n->registry.count; i++) {
        max += n->registry.nodes[i].stores_count;
    }
    *out = ARENA_ARRAY(arena, store_id, max);
    *count = 0;
    if (*out == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    if (n->admin_last.v != 0 && n->admin_last.v != n->ident.store.v) {
        (*out)[(*count)++] = n->admin_last;
    }
    (*out)[(*count)++] = n->ident.store;
    for (uint32_t i = 0; i < n->registry.count; i++) {
        for (uint32_t k = 0; k < n->registry.nodes[i].stores_count; k++) {
            const store_id s = n->registry.nodes[i].stores[k];

            if (s.v != n->admin_last.v && s.v != n->ident.store.v) {
                (*out)[(*count)++] = s;
            }
        }
    }
    return OK;
}

/* ---- one range and who leads it ------------------------------------------------------------------ */

struct target {
    uint64_t range;
    struct bytes start;
    store_id leader; /* Zero: nobody says so. */
};

static bool is_wanted(const Dsql__Pb__AdminRange *r, const struct ask *a)
{
    return r->desc != NULL && (a->range == 0 || r->desc->range_id == a->range);
}

/* By key (a->start, a->end), or by id. */
static MAYYIELD struct status find(struct node *n, const struct ask *a, struct arena *arena,
                                   struct target *out)
{
    const struct ask ranges = {.op = ADMIN_RANGES, .start = a->start, .end = a->end};
    store_id *stores = NULL;
    uint32_t count = 0;

    *out = (struct target){0};
    TRY(stores_to_ask(n, arena, &stores, &count));
    for (uint32_t i = 0; i < count; i++) {
        const Dsql__Pb__AdminReply *reply = NULL;
        const struct status st =
            ask_store(n, stores[i], &ranges, now(n) + ADMIN_ASK_NS, arena, &reply);

        if (st.code == STATUS_CANCELLED || st.code == STATUS_MEMORY) {
            return st;
        }
        for (size_t k = 0; status_ok(st) && k < reply->n_ranges; k++) {
            const Dsql__Pb__AdminRange *r = reply->ranges[k];

            if (is_wanted(r, a) && r->leaseholder) {
                out->range = r->desc->range_id;
                out->start = bytes_of(r->desc->start.data, r->desc->start.len);
                out->leader = stores[i];
                n->admin_last = stores[i];
                return OK;
            }
        }
    }
    return FAIL(STATUS_UNAVAILABLE, "nobody says that it leads this range");
}

static bool may_repeat(struct status st)
{
    return st.code == STATUS_NOT_LEADER || st.code == STATUS_RANGE_NOT_FOUND ||
           st.code == STATUS_RANGE_MISMATCH || st.code == STATUS_OVERLOADED ||
           st.code == STATUS_UNAVAILABLE || st.code == STATUS_INVALID;
}

/* One attempt. A range that moved or was cut in between is looked for again by the caller. */
static MAYYIELD struct status order_once(struct node *n, struct ask *a, bool by_key,
                                         uint64_t deadline_ns, bool *done)
{
    const Dsql__Pb__AdminReply *reply = NULL;
    struct arena arena;
    struct target t;
    struct status st = OK;

    arena_init(&arena, 0);
    *done = false;
    TRY_OUT(find(n,
                 &(struct ask){.start = by_key ? a->start : BYTES_EMPTY,
                               .end = by_key ? a->end : BYTES_EMPTY,
                               .range = by_key ? 0 : a->range},
                 &arena, &t));
    if ((by_key && bytes_eq(t.start, a->start)) || (!by_key && t.leader.v == a->store)) {
        *done = true;
        goto out;
    }
    a->range = by_key ? t.range : a->range;
    TRY_OUT(ask_store(n, t.leader, a, deadline_ns, &arena, &reply));
    *done = true;
out:
    arena_deinit(&arena);
    return st;
}

static MAYYIELD struct status order(struct node *n, struct ask *a, bool by_key)
{
    const uint64_t deadline = now(n) + SQL_ADMIN_TIMEOUT_NS;
    struct status st = OK;
    bool done = false;

    do {
        st = order_once(n, a, by_key, deadline, &done);
        if (done || !may_repeat(st)) {
            break;
        }
        TRY(fiber_sleep(ADMIN_PAUSE_NS));
    } while (now(n) < deadline && !n->stopping);
    if (!done && status_ok(st)) {
        return FAIL(STATUS_UNAVAILABLE, "the range keeps changing");
    }
    return st.code == STATUS_NOT_LEADER ? FAIL(STATUS_UNAVAILABLE, "the range keeps moving") : st;
}

static MAYYIELD struct status admin_split(void *ctx, struct bytes key)
{
    struct node *n = ctx;
    struct arena arena;
    struct ask a = {.op = ADMIN_SPLIT, .start = key};
    struct status st = OK;

    arena_init(&arena, 0);
    TRY_OUT(key_prefix_end(&arena, key, &a.end));
    st = order(n, &a, true);
out:
    arena_deinit(&arena);
    return st;
}

static MAYYIELD struct status admin_transfer(void *ctx, uint64_t range, uint32_t store)
{
    struct ask a = {.op = ADMIN_TRANSFER, .range = range, .store = store};

    return order(ctx, &a, false);
}

/* ---- many ranges --------------------------------------------------------------------------------- */

struct gathered {
    struct sql_range *items;
    uint64_t *generations;
    uint32_t count;
    struct map by_id; /* Place in items + 1. */
};

static struct status add_range(struct gathered *g, const Dsql__Pb__AdminRange *r, store_id from,
                               struct arena *arena)
{
    uint32_t *replicas = ARENA_ARRAY(arena, uint32_t, r->desc->n_replicas + 1);
    const uintptr_t known = (uintptr_t)map_get(&g->by_id, r->desc->range_id);
    const uint32_t i = known > 0 ? (uint32_t)known - 1 : g->count;

    if (replicas == NULL) {
        return FAIL(STATUS_MEMORY, "too many ranges");
    }
    if (known == 0 && g->count == ADMIN_RANGES_MAX) {
        return FAIL(STATUS_OVERLOADED, "too many ranges to show at once");
    }
    if (known > 0 && !r->leaseholder &&
        (g->items[i].leaseholder != 0 || g->generations[i] >= r->desc->generation)) {
        return OK;
    }
    for (size_t k = 0; k < r->desc->n_replicas; k++) {
        replicas[k] = r->desc->replicas[k]->store;
    }
    g->generations[i] = r->desc->generation;
    g->items[i] = (struct sql_range){.id = r->desc->range_id,
                                     .start = bytes_of(r->desc->start.data, r->desc->start.len),
                                     .end = bytes_of(r->desc->end.data, r->desc->end.len),
                                     .leaseholder = r->leaseholder ? from.v : 0,
                                     .replicas = replicas,
                                     .replicas_count = (uint32_t)r->desc->n_replicas};
    g->count += known == 0;
    return known > 0 ? OK : map_put(&g->by_id, r->desc->range_id, (void *)(uintptr_t)(i + 1));
}

static int by_start(const void *a, const void *b)
{
    return bytes_cmp(((const struct sql_range *)a)->start, ((const struct sql_range *)b)->start);
}

/* Ranges that nobody leads and that others cover are what a split or a merge has left on somebody's disk. */
static void drop_stale(struct gathered *g)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < g->count; i++) {
        bool covered = false;

        for (uint32_t k = 0; k < g->count && g->items[i].leaseholder == 0; k++) {
            const struct range_desc d = {.start = g->items[k].start, .end = g->items[k].end};

            covered = covered || (k != i && g->items[k].leaseholder != 0 &&
                                  overlaps(&d, g->items[i].start, g->items[i].end));
        }
        if (!covered) {
            g->items[kept++] = g->items[i];
        }
    }
    g->count = kept;
}

/* A store that does not answer has nothing to add. */
static MAYYIELD struct status gather(struct node *n, store_id store, const struct ask *a,
                                     struct arena *arena, struct gathered *g)
{
    const Dsql__Pb__AdminReply *reply = NULL;
    const struct status st = ask_store(n, store, a, now(n) + ADMIN_ASK_NS, arena, &reply);

    if (st.code == STATUS_CANCELLED || st.code == STATUS_MEMORY) {
        return st;
    }
    for (size_t k = 0; status_ok(st) && k < reply->n_ranges; k++) {
        if (reply->ranges[k]->desc != NULL) {
            TRY(add_range(g, reply->ranges[k], store, arena));
        }
    }
    return OK;
}

static MAYYIELD struct status admin_ranges(void *ctx, struct bytes start, struct bytes end,
                                           struct arena *arena, struct sql_range **out,
                                           uint32_t *count)
{
    const struct ask a = {.op = ADMIN_RANGES, .start = start, .end = end};
    struct node *n = ctx;
    struct gathered g = {.items = ARENA_ARRAY(arena, struct sql_range, ADMIN_RANGES_MAX),
                         .generations = ARENA_ARRAY(arena, uint64_t, ADMIN_RANGES_MAX)};
    store_id *stores = NULL;
    uint32_t stores_count = 0;
    struct status st = OK;

    map_init(&g.by_id, ADMIN_RANGES_MAX + 1);
    if (g.items == NULL || g.generations == NULL) {
        st = FAIL(STATUS_MEMORY, "too many ranges");
        goto out;
    }
    TRY_OUT(stores_to_ask(n, arena, &stores, &stores_count));
    for (uint32_t i = 0; i < stores_count; i++) {
        TRY_OUT(gather(n, stores[i], &a, arena, &g));
    }
    drop_stale(&g);
    qsort(g.items, g.count, sizeof(*g.items), by_start);
    *out = g.items;
    *count = g.count;
out:
    map_deinit(&g.by_id);
    return st;
}

void admin__start(struct node *n)
{
    n->admin = (struct sql_admin){
        .ctx = n, .split = admin_split, .transfer = admin_transfer, .ranges = admin_ranges};
    rpc_set_handler(n->rpc, RPC_TYPE_ADMIN, on_admin, n);
}
