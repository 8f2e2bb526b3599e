/*
 * tcp_rig.c -- see tcp_rig.h.
 */
#include "tests/unit/rpc/tcp_rig.h"

#include <stdlib.h>

#include "node/base/codec.h"
#include "node/base/invariant.h"

const struct uuid rig_cluster = {{7, 7, 7}};

static void handle_batch(void *ctx, const struct rpc_message *m)
{
    struct tcp_node *n = ctx;
    const struct rpc_reply_to to = rpc_reply_to(m);
    const struct bytes parts[2] = {BYTES_LIT("got "), m->body};

    if ((m->flags & RPC_FLAG_CALL) != 0) {
        if (!n->silent) {
            rpc_reply(n->rpc, &to, OK, parts, 2);
        }
        return;
    }
    INVARIANT(n->seen_count < RIG_SEEN_MAX);
    n->seen[n->seen_count++] = be32_get(m->body.ptr);
    n->seen_at_ns = env_mono_ns(shard_env(n->shard));
}

void tcp_node_restart(struct tcp_node *n, struct tcp_node_options o)
{
    const struct rpc_tcp_options to = {
        .shard = n->shard,
        .listen = o.listen == NULL ? "127.0.0.1:0" : o.listen,
        .tls = o.tls,
    };
    struct rpc_options ro = {.shard = n->shard, .hlc = &n->hlc};

    hlc_init(&n->hlc, shard_env(n->shard), HLC_MAX_OFFSET_NS_DEFAULT);
    INVARIANT(status_ok(rpc_tcp_create(&to, &n->tcp)));
    ro.transport = rpc_tcp_transport(n->tcp);
    INVARIANT(status_ok(rpc_create(&ro, &n->rpc)));
    rpc_tcp_attach(n->tcp, n->rpc);
    if (o.id != 0) {
        n->id.v = o.id;
        n->store.v = o.id * 10;
        rpc_set_identity(n->rpc, o.cluster, n->id, n->store);
    }
    rpc_set_handler(n->rpc, RPC_TYPE_BATCH, handle_batch, n);
    rpc_set_handler(n->rpc, RPC_TYPE_JOIN, handle_batch, n);
}

void tcp_node_stop(struct tcp_node *n)
{
    rpc_destroy(n->rpc);
    rpc_tcp_destroy(n->tcp);
    n->rpc = NULL;
    n->tcp = NULL;
}

void rig_init(struct tcp_rig *rig)
{
    *rig = (struct tcp_rig){.world = fake_world_create()};
}

void rig_deinit(struct tcp_rig *rig)
{
    for (uint32_t i = 0; i < rig->count; i++) {
        tcp_node_stop(&rig->nodes[i]);
    }
    fake_world_settle(rig->world);
    fake_world_destroy(rig->world);
}

struct tcp_node *rig_add(struct tcp_rig *rig, struct tcp_node_options o)
{
    struct tcp_node *n = &rig->nodes[rig->count++];

    n->shard = fake_world_add_shard(rig->world);
    tcp_node_restart(n, o);
    return n;
}

void rig_pair(struct tcp_rig *rig, struct tls_config *tls1, struct tls_config *tls2)
{
    struct tcp_node *a = NULL;
    struct tcp_node *b = NULL;

    rig_init(rig);
    a = rig_add(rig, (struct tcp_node_options){.id = 1, .cluster = rig_cluster, .tls = tls1});
    b = rig_add(rig, (struct tcp_node_options){.id = 2, .cluster = rig_cluster, .tls = tls2});
    INVARIANT(status_ok(rpc_set_node_address(a->rpc, b->id, rpc_tcp_address(b->tcp))));
    INVARIANT(status_ok(rpc_set_node_address(b->rpc, a->id, rpc_tcp_address(a->tcp))));
}

struct rpc_to to_node(const struct tcp_node *n, enum rpc_class cls)
{
    return (struct rpc_to){n->id, n->store, cls};
}

static void caller_body(void *arg)
{
    struct tcp_caller *c = arg;

    c->st = c->address == NULL ? rpc_try_call(c->rpc, c->to, RPC_TYPE_BATCH, &c->body, 1,
                                              c->deadline_ns, &c->arena, &c->reply, &c->unsent)
                               : rpc_call_address(c->rpc, c->address, RPC_TYPE_JOIN, c->body,
                                                  c->deadline_ns, &c->arena, &c->reply);
    c->ended = true;
}

void call_begin(struct tcp_rig *rig, struct tcp_node *from, struct tcp_caller *c)
{
    c->rpc = from->rpc;
    c->deadline_ns =
        c->deadline_ns == 0 ? fake_world_now_ns(rig->world) + 20 * SECOND : c->deadline_ns;
    arena_init(&c->arena, 0);
    INVARIANT(status_ok(fiber_spawn(from->shard, "caller", caller_body, c)));
    fake_world_settle(rig->world);
}

struct status call_now(struct tcp_rig *rig, struct tcp_node *from, const struct tcp_node *to)
{
    struct tcp_caller c = {.to = to_node(to, RPC_CLASS_NORMAL), .body = BYTES_LIT("hello")};

    call_begin(rig, from, &c);
    while (!c.ended) {
        fake_world_advance(rig->world, MS);
    }
    if (status_ok(c.st)) {
        INVARIANT(bytes_eq(c.reply, BYTES_LIT("got hello")));
    }
    arena_deinit(&c.arena);
    c.st.msg = status_code_text(c.st.code); /* Its text lived in the arena. */
    return c.st;
}

static void no_work(struct shard_task *t)
{
    UNUSED(t);
}

struct status send_number(struct tcp_node *from, const struct tcp_node *to, uint32_t number)
{
    uint8_t raw[4];
    const struct bytes body = bytes_of(raw, sizeof(raw));

    be32_put(raw, number);
    /* We are outside of turns, and frames leave at the end of one. */
    from->turn.fn = no_work;
    shard_post(from->shard, &from->turn);
    return rpc_send(from->rpc, to_node(to, RPC_CLASS_NORMAL), RPC_TYPE_BATCH, &body, 1);
}
