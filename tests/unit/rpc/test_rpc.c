/*
 * test_rpc.c -- calls, identity, clock and local stores, over a transport in memory.
 */
#include <stdlib.h>

#include "node/rpc/rpc_internal.h"
#include "tests/lib/env_fake.h"
#include "tests/lib/test.h"

#define MS         ((uint64_t)1000000)
#define SECOND     (1000 * MS)
#define NODES_MAX  4u
#define HELD_MAX   32u
#define WALL_START 1700000000000000000u

static const struct uuid cluster_a = {{1, 2, 3}};
static const struct uuid cluster_b = {{9, 9, 9}};

struct rig;

struct node {
    struct rig *rig;
    struct shard *shard;
    struct hlc hlc;
    struct rpc *rpc;
    node_id id;
    store_id store;
    uint32_t handled;
    uint64_t handled_wall; /* Clock when the handler ran. */
    struct rpc_reply_to kept;
    bool keep; /* The handler answers later. */
    struct status answer;
    uint64_t flushes;
};

struct held {
    uint32_t to;
    size_t size;
    uint8_t *frame;
    void *path;
};

/* Frames wait in `held` until deliver(): the test decides on order, loss and repetition. */
struct rig {
    struct fake_world *world;
    struct node nodes[NODES_MAX];
    uint32_t count;
    struct held held[HELD_MAX];
    uint32_t held_count;
    enum status_code refuse_sends; /* STATUS_OK: they are taken. */
};

static struct status memory_send_to(struct rig *rig, uint32_t to, const struct bytes *parts,
                                    uint32_t n, void *path)
{
    struct held *h = &rig->held[rig->held_count];
    struct buf frame = {0};

    if (rig->refuse_sends != STATUS_OK) {
        return FAIL(rig->refuse_sends, "the test says no");
    }
    if (rig->held_count == HELD_MAX) {
        return FAIL(STATUS_OVERLOADED, "too much for this test");
    }
    for (uint32_t i = 0; i < n; i++) {
        TRY(buf_append_bytes(&frame, parts[i]));
    }
    *h = (struct held){.to = to, .frame = frame.ptr, .size = frame.len, .path = path};
    rig->held_count++;
    return OK;
}

static struct status memory_send(void *ctx, node_id to, enum rpc_class cls,
                                 const struct bytes *parts, uint32_t n)
{
    struct node *from = ctx;

    UNUSED(cls);
    if (to.v == 0 || to.v > from->rig->count) {
        return FAIL(STATUS_UNAVAILABLE, "no such node in this test");
    }
    return memory_send_to(from->rig, to.v - 1, parts, n, NULL);
}

/* A path is the index of the node plus one. Its frames carry the sender as the way back. */
static struct status memory_send_path(void *ctx, void *path, const struct bytes *parts, uint32_t n)
{
    struct node *from = ctx;

    return memory_send_to(from->rig, (uint32_t)(uintptr_t)path - 1, parts, n,
                          (void *)(uintptr_t)(from - from->rig->nodes + 1));
}

static struct status memory_open_path(void *ctx, const char *address, void **out)
{
    UNUSED(ctx);
    *out = (void *)(uintptr_t)(address[0] - '0');
    return OK;
}

static void memory_flush(void *ctx)
{
    struct node *n = ctx;

    n->flushes++;
}

static void echo(void *ctx, const struct rpc_message *m)
{
    struct node *n = ctx;
    const struct rpc_reply_to to = rpc_reply_to(m);
    const struct bytes parts[2] = {BYTES_LIT("got "), m->body};

    n->handled++;
    n->handled_wall = n->hlc.last.wall;
    n->kept = to;
    if (!n->keep && (m->flags & RPC_FLAG_CALL) != 0) {
        rpc_reply(n->rpc, &to, n->answer, parts, 2);
    }
}

static void node_start(struct rig *rig, struct node *n)
{
    struct rpc_options o = {
        .shard = n->shard,
        .hlc = &n->hlc,
        .transport = {.ctx = n,
                      .send = memory_send,
                      .send_path = memory_send_path,
                      .open_path = memory_open_path,
                      .flush = memory_flush},
    };

    UNUSED(rig);
    n->answer = OK;
    hlc_init(&n->hlc, shard_env(n->shard), HLC_MAX_OFFSET_NS_DEFAULT);
    if (!status_ok(rpc_create(&o, &n->rpc))) {
        abort();
    }
    rpc_set_handler(n->rpc, RPC_TYPE_BATCH, echo, n);
    rpc_set_handler(n->rpc, RPC_TYPE_JOIN, echo, n);
}

static void rig_start(struct rig *rig, uint32_t count)
{
    *rig = (struct rig){.world = fake_world_create(), .count = count};
    for (uint32_t i = 0; i < count; i++) {
        struct node *n = &rig->nodes[i];

        n->rig = rig;
        n->id.v = i + 1;
        n->store.v = (i + 1) * 10;
        n->shard = fake_world_add_shard(rig->world);
        node_start(rig, n);
        rpc_set_identity(n->rpc, cluster_a, n->id, n->store);
    }
}

static void rig_stop(struct rig *rig)
{
    for (uint32_t i = 0; i < rig->count; i++) {
        rpc_destroy(rig->nodes[i].rpc);
        rig->nodes[i].rpc = NULL;
    }
    fake_world_settle(rig->world);
    for (uint32_t i = 0; i < rig->held_count; i++) {
        free(rig->held[i].frame);
    }
    fake_world_destroy(rig->world);
}

/* A frame arrives inside a turn of its receiver. */
struct arrival {
    struct shard_task task;
    struct node *n;
    struct held h;
    struct status st;
};

static void arrive(struct shard_task *t)
{
    struct arrival *a = CONTAINER_OF(t, struct arrival, task);

    a->st = rpc_receive(a->n->rpc, bytes_of(a->h.frame, a->h.size), a->h.path);
}

static struct status deliver_held(struct rig *rig, struct held h)
{
    struct arrival a = {.task = {.fn = arrive}, .n = &rig->nodes[h.to], .h = h, .st = OK};

    shard_post(a.n->shard, &a.task);
    fake_world_settle(rig->world);
    return a.st;
}

/* Everything that waits, and what follows from it. The first bad answer of a receiver. */
static struct status deliver(struct rig *rig)
{
    struct status first = OK;

    fake_world_settle(rig->world);
    while (rig->held_count > 0) {
        const struct held h = rig->held[0];
        struct status st = OK;

        rig->held_count--;
        memmove(rig->held, rig->held + 1, rig->held_count * sizeof(h));
        st = deliver_held(rig, h);
        first = status_ok(first) ? st : first;
        free(h.frame);
    }
    return first;
}

struct caller {
    struct rpc *rpc;
    struct rpc_to to;
    const char *address; /* NULL: by node. */
    enum rpc_type type;
    struct bytes body;
    uint64_t deadline_ns;
    struct arena arena;
    struct bytes reply;
    struct status st;
    struct fiber *fiber;
    bool ended;
};

static void caller_body(void *arg)
{
    struct caller *c = arg;

    c->fiber = fiber_current();
    c->st = c->address == NULL ? rpc_call(c->rpc, c->to, c->type, &c->body, 1, c->deadline_ns,
                                          &c->arena, &c->reply)
                               : rpc_call_address(c->rpc, c->address, c->type, c->body,
                                                  c->deadline_ns, &c->arena, &c->reply);
    c->ended = true;
}

static void call_start(struct rig *rig, struct caller *c, uint32_t from, uint32_t to)
{
    struct node *n = &rig->nodes[from];

    c->rpc = n->rpc;
    c->to = (struct rpc_to){{to + 1}, {(to + 1) * 10}, RPC_CLASS_NORMAL};
    c->type = c->type == RPC_TYPE_NONE ? RPC_TYPE_BATCH : c->type;
    c->deadline_ns = fake_world_now_ns(rig->world) + 10 * SECOND;
    arena_init(&c->arena, 0);
    if (!status_ok(fiber_spawn(n->shard, "caller", caller_body, c))) {
        abort();
    }
    fake_world_settle(rig->world);
}

TEST(rpc, call_brings_back_the_answer)
{
    struct caller c = {.body = BYTES_LIT("hello")};
    struct rpc_stats stats;
    struct rig rig;

    rig_start(&rig, 2);
    call_start(&rig, &c, 0, 1);
    EXPECT_FALSE(c.ended);
    rpc_get_stats(rig.nodes[0].rpc, &stats);
    EXPECT_EQ(1, stats.calls_open);
    EXPECT_OK(deliver(&rig));
    EXPECT_TRUE(c.ended);
    EXPECT_OK(c.st);
    EXPECT_BYTES_EQ(BYTES_LIT("got hello"), c.reply);
    rpc_get_stats(rig.nodes[0].rpc, &stats);
    EXPECT_EQ(0, stats.calls_open);
    EXPECT_EQ(1, stats.frames_sent);
    EXPECT_EQ(1, stats.frames_received);
    EXPECT_EQ(RPC_HEADER_BYTES + 5, stats.bytes_sent);
    EXPECT_TRUE(rig.nodes[0].flushes > 0);
    arena_deinit(&c.arena);
    rig_stop(&rig);
}

TEST(rpc, handlers_error_comes_back_with_its_message)
{
    struct caller c = {.body = BYTES_LIT("x")};
    struct rig rig;

    rig_start(&rig, 2);
    rig.nodes[1].answer = FAIL(STATUS_NOT_LEADER, "ask store 7");
    call_start(&rig, &c, 0, 1);
    EXPECT_OK(deliver(&rig));
    EXPECT_CODE(STATUS_NOT_LEADER, c.st);
    EXPECT_STREQ("ask store 7", c.st.msg);
    arena_deinit(&c.arena);
    rig_stop(&rig);
}

TEST(rpc, answer_after_the_deadline_is_ignored)
{
    struct caller c = {.body = BYTES_LIT("x")};
    struct rig rig;

    rig_start(&rig, 2);
    rig.nodes[1].keep = true;
    call_start(&rig, &c, 0, 1);
    EXPECT_OK(deliver(&rig));
    fake_world_advance(rig.world, 11 * SECOND);
    EXPECT_CODE(STATUS_TIMEOUT, c.st);
    rpc_reply(rig.nodes[1].rpc, &rig.nodes[1].kept, OK, NULL, 0);
    rpc_reply(rig.nodes[1].rpc, &rig.nodes[1].kept, OK, NULL, 0);
    EXPECT_OK(deliver(&rig));
    arena_deinit(&c.arena);
    rig_stop(&rig);
}

/* Twice the same answer: the second finds no call. */
TEST(rpc, repeated_answer_is_ignored)
{
    struct caller c = {.body = BYTES_LIT("x")};
    struct held copy;
    struct rig rig;

    rig_start(&rig, 2);
    call_start(&rig, &c, 0, 1);
    copy = rig.held[0]; /* The request, once more. */
    copy.frame = malloc(copy.size);
    memcpy(copy.frame, rig.held[0].frame, copy.size);
    EXPECT_OK(deliver(&rig));
    EXPECT_OK(c.st);
    EXPECT_OK(deliver_held(&rig, copy));
    EXPECT_OK(deliver(&rig));
    EXPECT_EQ(2, rig.nodes[1].handled);
    free(copy.frame);
    arena_deinit(&c.arena);
    rig_stop(&rig);
}

TEST(rpc, only_the_node_that_was_asked_may_answer)
{
    struct caller c = {.body = BYTES_LIT("x")};
    struct rpc_reply_to stolen;
    struct rig rig;

    rig_start(&rig, 3);
    rig.nodes[1].keep = true;
    call_start(&rig, &c, 0, 1);
    EXPECT_OK(deliver(&rig));
    stolen = rig.nodes[1].kept;
    rpc_reply(rig.nodes[2].rpc, &stolen, OK, NULL, 0);
    EXPECT_OK(deliver(&rig));
    EXPECT_FALSE(c.ended);
    rpc_reply(rig.nodes[1].rpc, &stolen, OK, NULL, 0);
    EXPECT_OK(deliver(&rig));
    EXPECT_OK(c.st);
    arena_deinit(&c.arena);
    rig_stop(&rig);
}

TEST(rpc, lost_peer_ends_its_calls_only)
{
    struct caller lost = {.body = BYTES_LIT("x")};
    struct caller other = {.body = BYTES_LIT("y")};
    struct rig rig;

    rig_start(&rig, 3);
    call_start(&rig, &lost, 0, 1);
    call_start(&rig, &other, 0, 2);
    rpc_peer_down(rig.nodes[0].rpc, (node_id){2});
    rpc_peer_down(rig.nodes[0].rpc, (node_id){77});
    fake_world_settle(rig.world);
    EXPECT_CODE(STATUS_UNAVAILABLE, lost.st);
    EXPECT_FALSE(other.ended);
    EXPECT_OK(deliver(&rig));
    EXPECT_OK(other.st);
    arena_deinit(&lost.arena);
    arena_deinit(&other.arena);
    rig_stop(&rig);
}

TEST(rpc, destroy_cancels_open_calls)
{
    struct caller c = {.body = BYTES_LIT("x")};
    struct rig rig;

    rig_start(&rig, 2);
    call_start(&rig, &c, 0, 1);
    rpc_destroy(rig.nodes[0].rpc);
    rig.nodes[0].rpc = NULL;
    fake_world_settle(rig.world);
    EXPECT_CODE(STATUS_CANCELLED, c.st);
    arena_deinit(&c.arena);
    rig_stop(&rig);
}

TEST(rpc, cancelled_fiber_leaves_no_call_behind)
{
    struct caller c = {.body = BYTES_LIT("x")};
    struct rpc_stats stats;
    struct rig rig;

    rig_start(&rig, 2);
    call_start(&rig, &c, 0, 1);
    fiber_cancel(c.fiber);
    fake_world_settle(rig.world);
    EXPECT_CODE(STATUS_CANCELLED, c.st);
    rpc_get_stats(rig.nodes[0].rpc, &stats);
    EXPECT_EQ(0, stats.calls_open);
    EXPECT_OK(deliver(&rig));
    arena_deinit(&c.arena);
    rig_stop(&rig);
}

TEST(rpc, refused_send_ends_the_call_at_once)
{
    struct caller c = {.body = BYTES_LIT("x")};
    struct rig rig;

    rig_start(&rig, 2);
    rig.refuse_sends = STATUS_OVERLOADED;
    call_start(&rig, &c, 0, 1);
    EXPECT_CODE(STATUS_OVERLOADED, c.st);
    arena_deinit(&c.arena);
    rig_stop(&rig);
}

/* A reply larger than its arena is the caller's problem, and nobody else's. */
TEST(rpc, reply_larger_than_the_arena_is_an_error_of_memory)
{
    static uint8_t big[100000];
    struct caller c = {.body = bytes_of(big, sizeof(big))};
    struct rig rig;

    rig_start(&rig, 2);
    c.rpc = rig.nodes[0].rpc;
    call_start(&rig, &c, 0, 1);
    arena_deinit(&c.arena);
    arena_init(&c.arena, 1000);
    EXPECT_OK(deliver(&rig));
    EXPECT_CODE(STATUS_MEMORY, c.st);
    arena_deinit(&c.arena);
    rig_stop(&rig);
}

TEST(rpc, another_cluster_is_fenced)
{
    struct caller c = {.body = BYTES_LIT("x")};
    struct rig rig;

    rig_start(&rig, 2);
    rpc_set_identity(rig.nodes[1].rpc, cluster_b, rig.nodes[1].id, rig.nodes[1].store);
    call_start(&rig, &c, 0, 1);
    EXPECT_CODE(STATUS_FENCED, deliver(&rig));
    EXPECT_EQ(0, rig.nodes[1].handled);
    arena_deinit(&c.arena);
    rig_stop(&rig);
}

/* The address was given to another node meanwhile: nothing to answer, the caller looks again. */
TEST(rpc, message_to_another_node_is_dropped)
{
    struct caller c = {.body = BYTES_LIT("x")};
    struct rpc_stats stats;
    struct rig rig;

    rig_start(&rig, 2);
    rpc_set_identity(rig.nodes[1].rpc, cluster_a, (node_id){7}, (store_id){70});
    call_start(&rig, &c, 0, 1);
    EXPECT_OK(deliver(&rig));
    EXPECT_EQ(0, rig.nodes[1].handled);
    EXPECT_FALSE(c.ended);
    rpc_get_stats(rig.nodes[1].rpc, &stats);
    EXPECT_EQ(1, stats.frames_refused);
    rpc_peer_down(rig.nodes[0].rpc, (node_id){2});
    fake_world_settle(rig.world);
    arena_deinit(&c.arena);
    rig_stop(&rig);
}

TEST(rpc, unknown_store_and_unknown_type_are_answered)
{
    struct caller store = {.body = BYTES_LIT("x")};
    struct caller type = {.body = BYTES_LIT("x"), .type = RPC_TYPE_ADMIN};
    struct rig rig;

    rig_start(&rig, 2);
    rpc_set_identity(rig.nodes[1].rpc, cluster_a, (node_id){2}, (store_id){99});
    call_start(&rig, &store, 0, 1);
    EXPECT_OK(deliver(&rig));
    EXPECT_CODE(STATUS_UNAVAILABLE, store.st);
    rpc_set_identity(rig.nodes[1].rpc, cluster_a, (node_id){2}, (store_id){20});
    call_start(&rig, &type, 0, 1);
    EXPECT_OK(deliver(&rig));
    EXPECT_CODE(STATUS_UNSUPPORTED, type.st);
    arena_deinit(&store.arena);
    arena_deinit(&type.arena);
    rig_stop(&rig);
}

/* Proofs of leases depend on this order. */
TEST(rpc, clock_is_forwarded_before_the_handler_runs)
{
    struct caller c = {.body = BYTES_LIT("x")};
    struct rig rig;

    rig_start(&rig, 2);
    fake_env_set_wall(shard_env(rig.nodes[0].shard), WALL_START + 100 * MS);
    fake_env_set_wall(shard_env(rig.nodes[1].shard), WALL_START);
    call_start(&rig, &c, 0, 1);
    EXPECT_OK(deliver(&rig));
    EXPECT_OK(c.st);
    EXPECT_TRUE(rig.nodes[1].handled_wall >= WALL_START + 100 * MS);
    arena_deinit(&c.arena);
    rig_stop(&rig);
}

TEST(rpc, clock_too_far_ahead_drops_the_message)
{
    struct caller c = {.body = BYTES_LIT("x")};
    struct rig rig;

    rig_start(&rig, 2);
    fake_env_set_wall(shard_env(rig.nodes[0].shard), WALL_START + 10 * SECOND);
    fake_env_set_wall(shard_env(rig.nodes[1].shard), WALL_START);
    call_start(&rig, &c, 0, 1);
    EXPECT_OK(deliver(&rig));
    EXPECT_EQ(0, rig.nodes[1].handled);
    EXPECT_EQ(1, rig.nodes[1].hlc.rejected);
    EXPECT_OK(deliver(&rig));
    EXPECT_CODE(STATUS_FENCED, c.st); /* It is told why. */
    arena_deinit(&c.arena);
    rig_stop(&rig);
}

/* Pings get through to whoever has a wrong clock, so that he can find out. */
TEST(rpc, clocks_are_compared_by_pings)
{
    struct rpc_clock clock;
    struct rig rig;

    rig_start(&rig, 3);
    for (uint32_t i = 1; i < 3; i++) {
        struct caller c = {.body = BYTES_LIT("x")};

        call_start(&rig, &c, 0, i);
        EXPECT_OK(deliver(&rig));
        EXPECT_OK(deliver(&rig));
        arena_deinit(&c.arena);
    }
    rpc_compare_clocks(rig.nodes[0].rpc, &clock);
    EXPECT_EQ(0, clock.peers);
    fake_env_set_wall(shard_env(rig.nodes[0].shard), WALL_START + 20 * SECOND);
    for (int k = 0; k < 3; k++) {
        fake_world_advance(rig.world, SECOND);
        EXPECT_OK(deliver(&rig));
        EXPECT_OK(deliver(&rig));
    }
    rpc_compare_clocks(rig.nodes[0].rpc, &clock);
    EXPECT_EQ(2, clock.peers);
    EXPECT_EQ(2, clock.beyond);
    EXPECT_TRUE(clock.ahead_ns > (int64_t)(10 * SECOND));
    rpc_compare_clocks(rig.nodes[1].rpc, &clock);
    EXPECT_TRUE(clock.beyond <= 1); /* One peer of two: not its own fault. */
    rig_stop(&rig);
}

TEST(rpc, flipped_frame_is_corrupt)
{
    struct caller c = {.body = BYTES_LIT("x")};
    struct rig rig;

    rig_start(&rig, 2);
    call_start(&rig, &c, 0, 1);
    rig.held[0].frame[RPC_HEADER_BYTES] ^= 1;
    EXPECT_CODE(STATUS_CORRUPT, deliver(&rig));
    EXPECT_EQ(0, rig.nodes[1].handled);
    rpc_peer_down(rig.nodes[0].rpc, (node_id){2});
    fake_world_settle(rig.world);
    arena_deinit(&c.arena);
    rig_stop(&rig);
}

/* Two shards of one node: parcels, never the transport. */
TEST(rpc, other_shard_of_the_node_is_reached_without_the_transport)
{
    struct caller c = {.body = BYTES_LIT("x")};
    struct rig rig;

    rig_start(&rig, 2);
    rpc_set_identity(rig.nodes[1].rpc, cluster_a, (node_id){1}, (store_id){11});
    EXPECT_OK(rpc_add_local_store(rig.nodes[0].rpc, (store_id){11}, rig.nodes[1].shard));
    EXPECT_OK(rpc_add_local_store(rig.nodes[1].rpc, (store_id){10}, rig.nodes[0].shard));
    call_start(&rig, &c, 0, 0);
    arena_deinit(&c.arena);
    EXPECT_OK(c.st);
    EXPECT_EQ(1, rig.nodes[0].handled);

    c = (struct caller){.body = BYTES_LIT("y"), .rpc = rig.nodes[0].rpc};
    c.to = (struct rpc_to){{1}, {11}, RPC_CLASS_NORMAL};
    c.type = RPC_TYPE_BATCH;
    c.deadline_ns = DEADLINE_NONE;
    arena_init(&c.arena, 0);
    EXPECT_OK(fiber_spawn(rig.nodes[0].shard, "caller", caller_body, &c));
    fake_world_settle(rig.world);
    EXPECT_OK(c.st);
    EXPECT_BYTES_EQ(BYTES_LIT("got y"), c.reply);
    EXPECT_EQ(1, rig.nodes[1].handled);
    EXPECT_EQ(0, rig.held_count);
    arena_deinit(&c.arena);
    rig_stop(&rig);
}

/* Shard 0 listens for the node: what is for another shard's store goes on, and the answer comes. */
TEST(rpc, frame_from_outside_is_handed_to_the_store_it_names)
{
    struct caller c = {.body = BYTES_LIT("x")};
    struct rig rig;

    rig_start(&rig, 3);
    /* Node 2 has the stores 20 (listening) and 21. */
    rpc_set_identity(rig.nodes[2].rpc, cluster_a, (node_id){2}, (store_id){21});
    EXPECT_OK(rpc_add_local_store(rig.nodes[1].rpc, (store_id){21}, rig.nodes[2].shard));
    call_start(&rig, &c, 0, 1);
    EXPECT_OK(deliver(&rig));
    EXPECT_OK(c.st);
    EXPECT_EQ(1, rig.nodes[1].handled);
    arena_deinit(&c.arena);

    c = (struct caller){.body = BYTES_LIT("y"), .rpc = rig.nodes[0].rpc};
    c.to = (struct rpc_to){{2}, {21}, RPC_CLASS_NORMAL};
    c.type = RPC_TYPE_BATCH;
    c.deadline_ns = DEADLINE_NONE;
    arena_init(&c.arena, 0);
    EXPECT_OK(fiber_spawn(rig.nodes[0].shard, "caller", caller_body, &c));
    EXPECT_OK(deliver(&rig));
    EXPECT_OK(c.st);
    EXPECT_EQ(1, rig.nodes[2].handled);
    arena_deinit(&c.arena);
    rig_stop(&rig);
}

struct self_sender {
    struct shard_task task;
    struct node *n;
    struct status st;
    uint32_t handled_inside;
};

static void self_send(struct shard_task *t)
{
    struct self_sender *s = CONTAINER_OF(t, struct self_sender, task);
    const struct rpc_to own = {s->n->id, s->n->store, RPC_CLASS_NORMAL};

    s->st = rpc_send(s->n->rpc, own, RPC_TYPE_BATCH, NULL, 0);
    s->handled_inside = s->n->handled;
}

TEST(rpc, message_to_oneself_never_runs_inside_the_send)
{
    struct self_sender s = {.task = {.fn = self_send}};
    struct rig rig;

    rig_start(&rig, 1);
    s.n = &rig.nodes[0];
    shard_post(s.n->shard, &s.task);
    fake_world_settle(rig.world);
    EXPECT_OK(s.st);
    EXPECT_EQ(0, s.handled_inside);
    EXPECT_EQ(1, s.n->handled);
    rig_stop(&rig);
}

TEST(rpc, limits_of_a_message)
{
    static uint8_t big[RPC_BODY_MAX + 1];
    static struct bytes parts[RPC_PARTS_MAX + 1];
    const struct rpc_to to = {{2}, {20}, RPC_CLASS_NORMAL};
    struct bytes body = bytes_of(big, RPC_BODY_MAX);
    struct rig rig;

    rig_start(&rig, 2);
    EXPECT_OK(rpc_send(rig.nodes[0].rpc, to, RPC_TYPE_BATCH, &body, 1));
    body.len++;
    EXPECT_CODE(STATUS_INVALID, rpc_send(rig.nodes[0].rpc, to, RPC_TYPE_BATCH, &body, 1));
    EXPECT_OK(rpc_send(rig.nodes[0].rpc, to, RPC_TYPE_BATCH, parts, RPC_PARTS_MAX));
    EXPECT_CODE(STATUS_INVALID,
                rpc_send(rig.nodes[0].rpc, to, RPC_TYPE_BATCH, parts, RPC_PARTS_MAX + 1));
    EXPECT_OK(deliver(&rig));
    EXPECT_EQ(2, rig.nodes[1].handled);
    rig_stop(&rig);
}

/* A new node has no cluster and no id: it may call by address, and only to join. */
TEST(rpc, stranger_may_join_and_nothing_else)
{
    struct caller join = {.body = BYTES_LIT("me"), .address = "1", .type = RPC_TYPE_JOIN};
    struct caller batch = {.body = BYTES_LIT("me"), .address = "1", .type = RPC_TYPE_BATCH};
    const struct rpc_to to = {{1}, {10}, RPC_CLASS_NORMAL};
    struct node *stranger = NULL;
    struct rig rig;

    rig_start(&rig, 1);
    stranger = &rig.nodes[1];
    stranger->rig = &rig;
    stranger->shard = fake_world_add_shard(rig.world);
    rig.count = 2;
    node_start(&rig, stranger);

    EXPECT_CODE(STATUS_UNAVAILABLE, rpc_send(stranger->rpc, to, RPC_TYPE_BATCH, NULL, 0));
    call_start(&rig, &join, 1, 0);
    EXPECT_OK(deliver(&rig));
    EXPECT_OK(join.st);
    EXPECT_BYTES_EQ(BYTES_LIT("got me"), join.reply);

    call_start(&rig, &batch, 1, 0);
    EXPECT_CODE(STATUS_FENCED, deliver(&rig));
    EXPECT_EQ(1, rig.nodes[0].handled);
    rpc_path_down(stranger->rpc, (void *)(uintptr_t)1, FAIL(STATUS_INVALID, "wrong door"));
    fake_world_settle(rig.world);
    EXPECT_CODE(STATUS_INVALID, batch.st);
    EXPECT_STREQ("wrong door", batch.st.msg);
    arena_deinit(&join.arena);
    arena_deinit(&batch.arena);
    rig_stop(&rig);
}

/* Pings go where there is traffic, one at a time, and stop a minute after the last of it. */
TEST(rpc, round_trip_is_measured_while_there_is_traffic)
{
    const struct rpc_to to = {{2}, {20}, RPC_CLASS_NORMAL};
    struct rig rig;

    rig_start(&rig, 2);
    fake_world_advance(rig.world, 5 * SECOND);
    EXPECT_EQ(0, rig.held_count);
    EXPECT_OK(rpc_send(rig.nodes[0].rpc, to, RPC_TYPE_BATCH, NULL, 0));
    EXPECT_EQ(1, rig.held_count);
    free(rig.held[0].frame); /* Lost. */
    rig.held_count = 0;

    fake_world_advance(rig.world, SECOND);
    EXPECT_EQ(1, rig.held_count);
    fake_world_advance(rig.world, 500 * MS); /* May have waited for a handshake: does not count. */
    EXPECT_OK(deliver(&rig));
    EXPECT_EQ(0, rpc_rtt_ns(rig.nodes[0].rpc, (node_id){2}));
    fake_world_advance(rig.world, 500 * MS);
    fake_world_advance(rig.world, 40 * MS); /* On the line. */
    EXPECT_OK(deliver(&rig));
    EXPECT_EQ(40 * MS, rpc_rtt_ns(rig.nodes[0].rpc, (node_id){2}));
    EXPECT_EQ(0, rpc_rtt_ns(rig.nodes[0].rpc, (node_id){3}));

    fake_world_advance(rig.world, 960 * MS);
    fake_world_advance(rig.world, 120 * MS);
    EXPECT_OK(deliver(&rig));
    EXPECT_EQ(50 * MS, rpc_rtt_ns(rig.nodes[0].rpc, (node_id){2}));

    fake_world_advance(rig.world, 4 * SECOND); /* The one under way counts as lost, then another. */
    EXPECT_EQ(1, rig.held_count);
    EXPECT_OK(deliver(&rig));
    for (int i = 0; i < 70; i++) {
        fake_world_advance(rig.world, SECOND);
        EXPECT_OK(deliver(&rig));
    }
    fake_world_advance(rig.world, 10 * SECOND);
    EXPECT_EQ(0, rig.held_count);
    EXPECT_EQ(0, rig.nodes[1].handled);
    rig_stop(&rig);
}
