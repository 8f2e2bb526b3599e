/*
 * test_tcp.c -- connections: who may talk, what is lost, what is refused, how long it takes.
 *
 * The network is that of env_fake: no latency, and time moves only when the test says so.
 */
#include <stdlib.h>

#include "node/base/codec.h"
#include "node/base/invariant.h"
#include "node/rpc/tcp_internal.h"
#include "tests/unit/rpc/tcp_rig.h"

/* The rigs are large. */
static struct tcp_rig *rig_new(void)
{
    struct tcp_rig *rig = calloc(1, sizeof(*rig));

    INVARIANT(rig != NULL);
    return rig;
}

static void rig_free(struct tcp_rig *rig)
{
    rig_deinit(rig);
    free(rig);
}

TEST(tcp, nodes_call_each_other)
{
    struct tcp_rig *rig = rig_new();

    rig_pair(rig, NULL, NULL);
    EXPECT_OK(call_now(rig, &rig->nodes[0], &rig->nodes[1]));
    EXPECT_OK(call_now(rig, &rig->nodes[1], &rig->nodes[0]));
    EXPECT_OK(call_now(rig, &rig->nodes[0], &rig->nodes[1]));
    EXPECT_EQ(0, fake_world_errors_logged(rig->world));
    rig_free(rig);
}

/* One dials, both talk: the HELLO brings the address, and the connection goes both ways. */
TEST(tcp, node_that_was_dialled_can_call_back)
{
    struct tcp_rig *rig = rig_new();
    struct tcp_node *a = NULL;
    struct tcp_node *b = NULL;

    rig_init(rig);
    a = rig_add(rig, (struct tcp_node_options){.id = 1, .cluster = rig_cluster});
    b = rig_add(rig, (struct tcp_node_options){.id = 2, .cluster = rig_cluster});
    EXPECT_CODE(STATUS_UNAVAILABLE, call_now(rig, b, a));
    EXPECT_OK(rpc_set_node_address(a->rpc, b->id, rpc_tcp_address(b->tcp)));
    EXPECT_OK(call_now(rig, a, b));
    EXPECT_OK(call_now(rig, b, a));
    EXPECT_EQ(1, map_get(&b->tcp->peers, 1) != NULL);
    EXPECT_STREQ(rpc_tcp_address(a->tcp), tcp__peer(b->tcp, a->id)->address);
    EXPECT_TRUE(tcp__peer(b->tcp, a->id)->links[RPC_CLASS_NORMAL].conn == NULL);
    rig_free(rig);
}

TEST(tcp, one_way_messages_keep_their_order)
{
    struct tcp_rig *rig = rig_new();
    const uint32_t count = 3000;

    rig_pair(rig, NULL, NULL);
    for (uint32_t i = 0; i < count; i++) {
        EXPECT_OK(send_number(&rig->nodes[0], &rig->nodes[1], i));
        if (i % 700 == 699) {
            fake_world_settle(rig->world);
        }
    }
    fake_world_settle(rig->world);
    EXPECT_EQ(count, rig->nodes[1].seen_count);
    for (uint32_t i = 0; i < count; i++) {
        EXPECT_EQ(i, rig->nodes[1].seen[i]);
    }
    rig_free(rig);
}

/* Everything of one turn leaves together. */
TEST(tcp, large_and_small_frames_mix)
{
    static uint8_t big[3000000];
    struct tcp_rig *rig = rig_new();
    struct tcp_caller c = {.body = bytes_of(big, sizeof(big))};

    rig_pair(rig, NULL, NULL);
    for (size_t i = 0; i < sizeof(big); i++) {
        big[i] = (uint8_t)(i * 7);
    }
    EXPECT_OK(send_number(&rig->nodes[0], &rig->nodes[1], 1));
    c.to = to_node(&rig->nodes[1], RPC_CLASS_NORMAL);
    call_begin(rig, &rig->nodes[0], &c);
    EXPECT_OK(send_number(&rig->nodes[0], &rig->nodes[1], 2));
    fake_world_settle(rig->world);
    EXPECT_OK(c.st);
    EXPECT_EQ(sizeof(big) + 4, c.reply.len);
    EXPECT_TRUE(memcmp(big, c.reply.ptr + 4, sizeof(big)) == 0);
    EXPECT_EQ(2, rig->nodes[1].seen_count);
    arena_deinit(&c.arena);
    rig_free(rig);
}

/* Calls to a dead node fail at once, and the node is found again soon after it is back. */
TEST(tcp, restarted_peer_is_found_again)
{
    struct tcp_rig *rig = rig_new();
    struct tcp_node *b = &rig->nodes[1];
    char address[TCP_ADDRESS_MAX];
    uint64_t back_ns = 0;
    uint64_t tries = 0;

    rig_pair(rig, NULL, NULL);
    EXPECT_OK(call_now(rig, &rig->nodes[0], b));
    fake_world_advance(rig->world, 2 * SECOND);
    memcpy(address, rpc_tcp_address(b->tcp), sizeof(address));
    tcp_node_stop(b);
    fake_world_settle(rig->world);
    for (int i = 0; i < 100; i++) {
        const uint64_t before_ns = fake_world_now_ns(rig->world);

        EXPECT_CODE(STATUS_UNAVAILABLE, call_now(rig, &rig->nodes[0], b));
        EXPECT_TRUE(fake_world_now_ns(rig->world) - before_ns <= MS);
        fake_world_advance(rig->world, 50 * MS);
    }

    tcp_node_restart(b,
                     (struct tcp_node_options){.id = 2, .cluster = rig_cluster, .listen = address});
    back_ns = fake_world_now_ns(rig->world);
    while (!status_ok(call_now(rig, &rig->nodes[0], b))) {
        fake_world_advance(rig->world, 10 * MS);
        EXPECT_TRUE(++tries < 1000);
    }
    EXPECT_TRUE(fake_world_now_ns(rig->world) - back_ns <= 500 * MS);
    rig_free(rig);
}

/* The peer that comes back speaks first: nobody waits for a pause to end. */
TEST(tcp, peer_that_dials_us_ends_the_pause)
{
    struct tcp_rig *rig = rig_new();
    struct tcp_node *b = &rig->nodes[1];
    char address[TCP_ADDRESS_MAX];

    rig_pair(rig, NULL, NULL);
    memcpy(address, rpc_tcp_address(b->tcp), sizeof(address));
    tcp_node_stop(b);
    for (int i = 0; i < 50; i++) {
        EXPECT_CODE(STATUS_UNAVAILABLE, call_now(rig, &rig->nodes[0], b));
        fake_world_advance(rig->world, 20 * MS);
    }
    tcp_node_restart(b,
                     (struct tcp_node_options){.id = 2, .cluster = rig_cluster, .listen = address});
    EXPECT_OK(rpc_set_node_address(b->rpc, rig->nodes[0].id, rpc_tcp_address(rig->nodes[0].tcp)));
    EXPECT_OK(call_now(rig, b, &rig->nodes[0]));
    EXPECT_OK(call_now(rig, &rig->nodes[0], b));
    rig_free(rig);
}

TEST(tcp, calls_under_way_end_when_the_connection_is_lost)
{
    struct tcp_rig *rig = rig_new();
    struct tcp_caller c = {.body = BYTES_LIT("x")};

    rig_pair(rig, NULL, NULL);
    rig->nodes[1].silent = true;
    c.to = to_node(&rig->nodes[1], RPC_CLASS_NORMAL);
    call_begin(rig, &rig->nodes[0], &c);
    EXPECT_FALSE(c.ended);
    tcp_node_stop(&rig->nodes[1]);
    fake_world_settle(rig->world);
    EXPECT_CODE(STATUS_UNAVAILABLE, c.st);
    arena_deinit(&c.arena);
    rig_free(rig);
}

/* --- Strangers ----------------------------------------------------------------------------- */

/* A raw connection to a node. */
struct raw {
    struct env *env;
    struct env_stream *stream;
    struct buf got;
    bool connected;
    bool closed;
};

static void raw_connected(void *ctx, struct status st)
{
    struct raw *r = ctx;

    r->connected = status_ok(st);
}

static void raw_data(void *ctx, struct bytes data)
{
    struct raw *r = ctx;

    INVARIANT(status_ok(buf_append_bytes(&r->got, data)));
}

static void raw_closed(void *ctx, struct status why)
{
    struct raw *r = ctx;

    UNUSED(why);
    r->closed = true;
}

static const struct env_stream_handler raw_handler = {raw_data, NULL, raw_closed};

static void raw_open(struct raw *r, struct tcp_rig *rig, struct shard *from, struct tcp_node *to)
{
    struct env_address at;

    *r = (struct raw){.env = shard_env(from)};
    INVARIANT(status_ok(dns_parse_numeric(rpc_tcp_address(to->tcp), &at)));
    INVARIANT(status_ok(env_connect(r->env, &at, raw_connected, &raw_handler, r, &r->stream)));
    fake_world_settle(rig->world);
}

static void raw_close(struct raw *r, struct tcp_rig *rig)
{
    if (!r->closed) {
        env_stream_close(r->env, r->stream);
    }
    fake_world_settle(rig->world);
    buf_deinit(&r->got);
}

TEST(tcp, garbage_ends_the_connection)
{
    static const char *const samples[] = {
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS client",
        ("\x00\x00\x00\x47"
         "dq\x01\x00 a frame that is too short to be true"),
    };
    struct tcp_rig *rig = rig_new();
    struct shard *outside = NULL;

    rig_pair(rig, NULL, NULL);
    outside = fake_world_add_shard(rig->world);
    for (size_t i = 0; i < ARRAY_COUNT(samples); i++) {
        struct raw r;

        raw_open(&r, rig, outside, &rig->nodes[1]);
        EXPECT_TRUE(r.connected && !r.closed);
        EXPECT_OK(env_stream_write(r.env, r.stream, bytes_of(samples[i], 20)));
        fake_world_settle(rig->world);
        EXPECT_EQ(i < 2, r.closed);
        raw_close(&r, rig);
    }
    EXPECT_OK(call_now(rig, &rig->nodes[0], &rig->nodes[1]));
    rig_free(rig);
}

/* A stranger cannot make us wait for, or hold, a large frame. */
TEST(tcp, stranger_may_not_announce_a_large_frame)
{
    uint8_t prefix[8] = {0, 0, 0, 0, 'd', 'q', 1, 0};
    struct tcp_rig *rig = rig_new();
    struct shard *outside = NULL;
    struct raw r;

    rig_pair(rig, NULL, NULL);
    outside = fake_world_add_shard(rig->world);
    raw_open(&r, rig, outside, &rig->nodes[1]);
    be32_put(prefix, TCP_HELLO_MAX);
    EXPECT_OK(env_stream_write(r.env, r.stream, bytes_of(prefix, sizeof(prefix))));
    fake_world_settle(rig->world);
    EXPECT_TRUE(r.closed);
    raw_close(&r, rig);
    rig_free(rig);
}

TEST(tcp, silent_stranger_is_closed_after_five_seconds)
{
    struct tcp_rig *rig = rig_new();
    struct shard *outside = NULL;
    struct raw r;

    rig_pair(rig, NULL, NULL);
    outside = fake_world_add_shard(rig->world);
    raw_open(&r, rig, outside, &rig->nodes[1]);
    fake_world_advance(rig->world, 4900 * MS);
    EXPECT_FALSE(r.closed);
    fake_world_advance(rig->world, 700 * MS);
    EXPECT_TRUE(r.closed);
    EXPECT_EQ(0, rig->nodes[1].tcp->strangers);
    raw_close(&r, rig);
    rig_free(rig);
}

TEST(tcp, strangers_of_one_address_are_limited)
{
    struct raw *raws = calloc(TCP_STRANGERS_HOST + 1, sizeof(*raws));
    struct tcp_rig *rig = rig_new();
    struct shard *outside = NULL;

    rig_pair(rig, NULL, NULL);
    outside = fake_world_add_shard(rig->world);
    for (uint32_t i = 0; i <= TCP_STRANGERS_HOST; i++) {
        raw_open(&raws[i], rig, outside, &rig->nodes[1]);
    }
    EXPECT_FALSE(raws[0].closed || raws[TCP_STRANGERS_HOST - 1].closed);
    EXPECT_TRUE(raws[TCP_STRANGERS_HOST].closed);
    for (uint32_t i = 0; i <= TCP_STRANGERS_HOST; i++) {
        raw_close(&raws[i], rig);
    }
    EXPECT_OK(call_now(rig, &rig->nodes[0], &rig->nodes[1]));
    free(raws);
    rig_free(rig);
}

/* A HELLO, or any frame, as node `id`. */
static void raw_write_frame(struct raw *r, uint32_t id, enum rpc_type type, struct bytes body)
{
    const struct rpc_header h = {
        .cluster = rig_cluster, .from_node = {id}, .type = (uint16_t)type, .hlc = {1, 0}};
    uint8_t header[RPC_HEADER_BYTES];

    rpc_frame_header_put(header, &h, &body, 1, true);
    INVARIANT(status_ok(env_stream_write(r->env, r->stream, bytes_of(header, sizeof(header)))));
    INVARIANT(status_ok(env_stream_write(r->env, r->stream, body)));
}

static const uint8_t hello_body[] = {RPC_CLASS_NORMAL, 1, 1, 0, 0};

/* The id of the HELLO is the only one that a connection may speak for. */
TEST(tcp, frame_under_another_id_ends_the_connection)
{
    struct tcp_rig *rig = rig_new();
    struct shard *outside = NULL;
    struct raw r;

    rig_pair(rig, NULL, NULL);
    outside = fake_world_add_shard(rig->world);
    raw_open(&r, rig, outside, &rig->nodes[1]);
    raw_write_frame(&r, 5, RPC_TYPE_HELLO, bytes_of(hello_body, sizeof(hello_body)));
    raw_write_frame(&r, 5, RPC_TYPE_BATCH, BYTES_LIT("1234"));
    fake_world_settle(rig->world);
    EXPECT_FALSE(r.closed);
    EXPECT_TRUE(r.got.len > RPC_HEADER_BYTES);
    EXPECT_EQ(1, rig->nodes[1].seen_count);
    raw_write_frame(&r, 1, RPC_TYPE_BATCH, BYTES_LIT("5678"));
    fake_world_settle(rig->world);
    EXPECT_TRUE(r.closed);
    EXPECT_EQ(1, rig->nodes[1].seen_count);
    raw_close(&r, rig);
    rig_free(rig);
}

TEST(tcp, hellos_that_do_not_fit_are_refused)
{
    static const struct {
        uint32_t id;
        enum rpc_type type;
        uint8_t body[6];
        uint32_t len;
    } bad[] = {
        {5, RPC_TYPE_BATCH, {RPC_CLASS_NORMAL, 1, 1, 0, 0}, 5},    /* Something else first. */
        {5, RPC_TYPE_HELLO, {RPC_CLASS_COUNT, 1, 1, 0, 0}, 5},     /* No such class. */
        {5, RPC_TYPE_HELLO, {RPC_CLASS_NORMAL, 1, 1, 0, 9}, 5},    /* Address cut. */
        {5, RPC_TYPE_HELLO, {RPC_CLASS_NORMAL, 1, 1, 0, 1, 0}, 6}, /* Zero in the address. */
        {5, RPC_TYPE_HELLO, {RPC_CLASS_NORMAL, 1}, 2},             /* Cut. */
        {2, RPC_TYPE_HELLO, {RPC_CLASS_NORMAL, 1, 1, 0, 0}, 5},    /* Our own id. */
        {5, RPC_TYPE_HELLO, {RPC_CLASS_NORMAL, 2, 9, 0, 0}, 5},    /* Only newer versions. */
    };
    struct tcp_rig *rig = rig_new();
    struct shard *outside = NULL;

    rig_pair(rig, NULL, NULL);
    outside = fake_world_add_shard(rig->world);
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        struct raw r;

        raw_open(&r, rig, outside, &rig->nodes[1]);
        raw_write_frame(&r, bad[i].id, bad[i].type, bytes_of(bad[i].body, bad[i].len));
        fake_world_settle(rig->world);
        EXPECT_TRUE(r.closed);
        raw_close(&r, rig);
    }
    EXPECT_EQ(0, rig->nodes[1].seen_count);
    rig_free(rig);
}

TEST(tcp, another_cluster_is_refused)
{
    const struct uuid other = {{8, 8, 8}};
    struct tcp_rig *rig = rig_new();
    struct tcp_node *a = NULL;
    struct tcp_node *b = NULL;

    rig_init(rig);
    a = rig_add(rig, (struct tcp_node_options){.id = 1, .cluster = rig_cluster});
    b = rig_add(rig, (struct tcp_node_options){.id = 2, .cluster = other});
    EXPECT_OK(rpc_set_node_address(a->rpc, b->id, rpc_tcp_address(b->tcp)));
    EXPECT_CODE(STATUS_UNAVAILABLE, call_now(rig, a, b));
    rig_free(rig);
}

/* The address was handed to another node of the cluster. */
TEST(tcp, another_node_at_the_address_is_noticed)
{
    struct tcp_rig *rig = rig_new();
    struct tcp_node *a = NULL;
    struct tcp_node *c = NULL;
    struct tcp_node *ghost = &rig->nodes[RIG_NODES_MAX - 1]; /* Only its id. */

    rig_init(rig);
    ghost->id.v = 2;
    ghost->store.v = 20;
    a = rig_add(rig, (struct tcp_node_options){.id = 1, .cluster = rig_cluster});
    c = rig_add(rig, (struct tcp_node_options){.id = 3, .cluster = rig_cluster});
    EXPECT_OK(rpc_set_node_address(a->rpc, ghost->id, rpc_tcp_address(c->tcp)));
    EXPECT_CODE(STATUS_UNAVAILABLE, call_now(rig, a, ghost));
    rig_free(rig);
}

/* --- Delay, cuts, silence ------------------------------------------------------------------ */

TEST(tcp, delay_is_honoured_one_way_and_in_order)
{
    struct tcp_rig *rig = rig_new();
    struct tcp_node *a = &rig->nodes[0];
    struct tcp_node *b = &rig->nodes[1];
    uint64_t start_ns = 0;

    rig_pair(rig, NULL, NULL);
    EXPECT_OK(call_now(rig, a, b));
    rpc_tcp_set_delay(a->tcp, b->id, 50 * MS);
    start_ns = fake_world_now_ns(rig->world);
    EXPECT_OK(send_number(a, b, 1));
    fake_world_advance(rig->world, 49 * MS);
    EXPECT_EQ(0, b->seen_count);
    rpc_tcp_set_delay(a->tcp, b->id, 0);
    EXPECT_OK(send_number(a, b, 2)); /* May not overtake. */
    fake_world_settle(rig->world);
    EXPECT_EQ(0, b->seen_count);
    fake_world_advance(rig->world, MS);
    EXPECT_EQ(2, b->seen_count);
    EXPECT_EQ(1, b->seen[0]);
    EXPECT_EQ(start_ns + 50 * MS, b->seen_at_ns);

    rpc_tcp_set_delay(a->tcp, b->id, 30 * MS);
    rpc_tcp_set_delay(b->tcp, a->id, 20 * MS);
    start_ns = fake_world_now_ns(rig->world);
    EXPECT_OK(call_now(rig, a, b));
    EXPECT_EQ(50 * MS, fake_world_now_ns(rig->world) - start_ns);
    rig_free(rig);
}

/* A new connection over a delayed line: the greeting takes its time as well. */
TEST(tcp, delayed_line_can_be_dialled)
{
    struct tcp_rig *rig = rig_new();
    struct tcp_node *a = &rig->nodes[0];
    struct tcp_node *b = &rig->nodes[1];

    rig_pair(rig, NULL, NULL);
    rpc_tcp_set_delay(a->tcp, b->id, 100 * MS);
    rpc_tcp_set_delay(b->tcp, a->id, 100 * MS);
    EXPECT_OK(call_now(rig, a, b));
    fake_world_advance(rig->world, 5 * SECOND);
    EXPECT_EQ(200 * MS, rpc_rtt_ns(a->rpc, b->id));
    rig_free(rig);
}

TEST(tcp, cut_link_drops_one_direction)
{
    struct tcp_rig *rig = rig_new();
    struct tcp_node *a = &rig->nodes[0];
    struct tcp_node *b = &rig->nodes[1];

    rig_pair(rig, NULL, NULL);
    EXPECT_OK(call_now(rig, a, b));
    rpc_tcp_set_cut(a->tcp, b->id, true, false);
    EXPECT_OK(send_number(a, b, 1));
    EXPECT_OK(send_number(b, a, 2));
    fake_world_settle(rig->world);
    EXPECT_EQ(0, b->seen_count);
    EXPECT_EQ(1, a->seen_count);
    rpc_tcp_set_cut(a->tcp, b->id, false, true);
    EXPECT_OK(send_number(a, b, 3));
    EXPECT_OK(send_number(b, a, 4));
    fake_world_settle(rig->world);
    EXPECT_EQ(1, b->seen_count);
    EXPECT_EQ(1, a->seen_count);
    rpc_tcp_set_cut(a->tcp, b->id, false, false);
    EXPECT_OK(call_now(rig, a, b));
    rig_free(rig);
}

/* A line that swallows everything: found dead after ten seconds, and usable when it heals. */
TEST(tcp, silent_peer_is_declared_dead)
{
    struct tcp_rig *rig = rig_new();
    struct tcp_node *a = &rig->nodes[0];
    struct tcp_node *b = &rig->nodes[1];
    struct tcp_caller c = {.body = BYTES_LIT("x")};
    uint64_t start_ns = 0;

    rig_pair(rig, NULL, NULL);
    EXPECT_OK(call_now(rig, a, b));
    fake_world_advance(rig->world, SECOND);
    rpc_tcp_set_cut(a->tcp, b->id, true, true);
    start_ns = fake_world_now_ns(rig->world);
    c.to = to_node(b, RPC_CLASS_NORMAL);
    call_begin(rig, a, &c);
    while (!c.ended) {
        fake_world_advance(rig->world, 100 * MS);
    }
    EXPECT_CODE(STATUS_UNAVAILABLE, c.st);
    EXPECT_TRUE(fake_world_now_ns(rig->world) - start_ns >= 9 * SECOND);
    EXPECT_TRUE(fake_world_now_ns(rig->world) - start_ns <= 11 * SECOND);
    arena_deinit(&c.arena);
    rpc_tcp_set_cut(a->tcp, b->id, false, false);
    fake_world_advance(rig->world, 3 * SECOND);
    EXPECT_OK(call_now(rig, a, b));
    rig_free(rig);
}

/* Whether a call can have run: not when nobody listened or it was refused at once; perhaps when the line
 * was up. */
TEST(tcp, calls_that_never_left_say_so)
{
    struct tcp_rig *rig = rig_new();
    struct tcp_node *a = &rig->nodes[0];
    struct tcp_node *b = &rig->nodes[1];
    struct tcp_caller lost = {.body = BYTES_LIT("x")};
    struct tcp_caller refused = lost;
    struct tcp_caller early = lost;

    rig_pair(rig, NULL, NULL);
    EXPECT_OK(call_now(rig, a, b));
    lost.to = to_node(b, RPC_CLASS_NORMAL);
    refused.to = lost.to;
    early.to = lost.to;
    b->silent = true;
    call_begin(rig, a, &lost);
    tcp_node_stop(b);
    fake_world_advance(rig->world, 10 * MS);
    EXPECT_TRUE(lost.ended);
    EXPECT_CODE(STATUS_UNAVAILABLE, lost.st);
    EXPECT_FALSE(lost.unsent);
    call_begin(rig, a, &refused); /* Dials, and nobody is there. */
    fake_world_advance(rig->world, 10 * MS);
    EXPECT_TRUE(refused.ended);
    EXPECT_CODE(STATUS_UNAVAILABLE, refused.st);
    EXPECT_TRUE(refused.unsent);
    call_begin(rig, a, &early); /* During the pause. */
    EXPECT_TRUE(early.ended);
    EXPECT_CODE(STATUS_UNAVAILABLE, early.st);
    EXPECT_TRUE(early.unsent);
    arena_deinit(&lost.arena);
    arena_deinit(&refused.arena);
    arena_deinit(&early.arena);
    rig_free(rig);
}

/* A peer that only listens is asked whether it lives, and stays. */
TEST(tcp, one_way_traffic_is_not_taken_for_silence)
{
    struct tcp_rig *rig = rig_new();
    struct tcp_node *a = &rig->nodes[0];
    struct tcp_node *b = &rig->nodes[1];
    struct tcp_conn *conn = NULL;

    rig_pair(rig, NULL, NULL);
    EXPECT_OK(send_number(a, b, 0));
    fake_world_settle(rig->world);
    conn = tcp__peer(a->tcp, b->id)->links[RPC_CLASS_NORMAL].conn;
    for (uint32_t i = 1; i <= 60; i++) {
        EXPECT_OK(send_number(a, b, i));
        fake_world_advance(rig->world, 500 * MS);
    }
    EXPECT_TRUE(conn == tcp__peer(a->tcp, b->id)->links[RPC_CLASS_NORMAL].conn);
    EXPECT_EQ(61, b->seen_count);
    rig_free(rig);
}

/* --- Limits -------------------------------------------------------------------------------- */

/* The class that is full refuses; the others do not care. */
TEST(tcp, full_queue_refuses_its_class_only)
{
    static uint8_t block[1 << 20];
    struct tcp_rig *rig = rig_new();
    struct tcp_node *a = &rig->nodes[0];
    struct tcp_node *b = &rig->nodes[1];
    const struct bytes body = bytes_of(block, sizeof(block));
    size_t taken = 0;

    rig_pair(rig, NULL, NULL);
    EXPECT_OK(send_number(a, b, 0)); /* And so a turn. */
    fake_world_settle(rig->world);
    while (status_ok(rpc_send(a->rpc, to_node(b, RPC_CLASS_BULK), RPC_TYPE_GOSSIP, &body, 1))) {
        taken += RPC_HEADER_BYTES + sizeof(block);
        EXPECT_TRUE(taken <= RPC_QUEUE_BYTES_MAX);
    }
    EXPECT_TRUE(taken + RPC_HEADER_BYTES + sizeof(block) > RPC_QUEUE_BYTES_MAX);
    EXPECT_CODE(STATUS_OVERLOADED,
                rpc_send(a->rpc, to_node(b, RPC_CLASS_BULK), RPC_TYPE_GOSSIP, &body, 1));
    EXPECT_OK(send_number(a, b, 1));
    fake_world_settle(rig->world);
    EXPECT_EQ(2, b->seen_count);
    EXPECT_OK(rpc_send(a->rpc, to_node(b, RPC_CLASS_BULK), RPC_TYPE_GOSSIP, &body, 1));
    rig_free(rig);
}

TEST(tcp, without_tls_only_loopback)
{
    struct tcp_rig *rig = rig_new();
    struct rpc_tcp *t = NULL;
    struct rpc_tcp_options o = {0};
    struct tcp_node *a = NULL;
    void *path = NULL;

    rig_init(rig);
    a = rig_add(rig, (struct tcp_node_options){.id = 1, .cluster = rig_cluster});
    o.shard = a->shard;
    o.listen = "10.1.2.3:0";
    EXPECT_CODE(STATUS_INVALID, rpc_tcp_create(&o, &t));
    o.listen = ":0";
    EXPECT_CODE(STATUS_INVALID, rpc_tcp_create(&o, &t));
    o.listen = "somewhere:0";
    EXPECT_CODE(STATUS_INVALID, rpc_tcp_create(&o, &t));
    o.listen = "127.0.0.1:x";
    EXPECT_CODE(STATUS_INVALID, rpc_tcp_create(&o, &t));
    EXPECT_OK(rpc_set_node_address(a->rpc, (node_id){2}, "10.1.2.3:26257"));
    EXPECT_CODE(STATUS_INVALID, rpc_send(a->rpc, (struct rpc_to){{2}, {20}, RPC_CLASS_NORMAL},
                                         RPC_TYPE_BATCH, NULL, 0));
    EXPECT_CODE(STATUS_INVALID, rpc_tcp_transport(a->tcp).open_path(a->tcp, "10.1.2.3:1", &path));
    EXPECT_CODE(STATUS_INVALID, rpc_tcp_transport(a->tcp).open_path(a->tcp, "no port", &path));
    o.listen = "localhost:0";
    EXPECT_OK(rpc_tcp_create(&o, &t));
    rpc_tcp_destroy(t);
    rig_free(rig);
}

/* --- Paths --------------------------------------------------------------------------------- */

TEST(tcp, node_without_id_joins_by_address)
{
    struct tcp_rig *rig = rig_new();
    struct tcp_caller c = {.body = BYTES_LIT("me")};
    struct tcp_node *a = NULL;
    struct tcp_node *fresh = NULL;

    rig_init(rig);
    a = rig_add(rig, (struct tcp_node_options){.id = 1, .cluster = rig_cluster});
    fresh = rig_add(rig, (struct tcp_node_options){0});
    c.address = rpc_tcp_address(a->tcp);
    call_begin(rig, fresh, &c);
    EXPECT_OK(c.st);
    EXPECT_BYTES_EQ(BYTES_LIT("got me"), c.reply);
    arena_deinit(&c.arena);

    /* With its id it greets anew, under the same address. */
    fresh->id.v = 9;
    fresh->store.v = 90;
    rpc_set_identity(fresh->rpc, rig_cluster, fresh->id, fresh->store);
    c = (struct tcp_caller){.body = BYTES_LIT("again"), .address = rpc_tcp_address(a->tcp)};
    call_begin(rig, fresh, &c);
    EXPECT_OK(c.st);
    arena_deinit(&c.arena);
    EXPECT_OK(call_now(rig, a, fresh));
    rig_free(rig);
}

TEST(tcp, call_to_an_address_where_nobody_is_says_so)
{
    struct tcp_rig *rig = rig_new();
    struct tcp_caller c = {.body = BYTES_LIT("me"), .address = "127.0.0.1:1"};
    struct tcp_node *a = NULL;

    rig_init(rig);
    a = rig_add(rig, (struct tcp_node_options){0});
    call_begin(rig, a, &c);
    EXPECT_CODE(STATUS_UNAVAILABLE, c.st);
    EXPECT_STREQ("connection refused", c.st.msg);
    arena_deinit(&c.arena);
    c = (struct tcp_caller){.body = BYTES_LIT("me"), .address = "nonsense"};
    call_begin(rig, a, &c);
    EXPECT_CODE(STATUS_INVALID, c.st);
    arena_deinit(&c.arena);
    rig_free(rig);
}

TEST(tcp, idle_paths_make_room)
{
    struct tcp_rig *rig = rig_new();
    struct rpc_transport t;
    struct tcp_node *a = NULL;
    void *path = NULL;

    rig_init(rig);
    a = rig_add(rig, (struct tcp_node_options){0});
    t = rpc_tcp_transport(a->tcp);
    for (uint32_t i = 0; i < 3 * TCP_PATHS_MAX; i++) {
        char address[32];

        (void)snprintf(address, sizeof(address), "127.0.0.1:%u", 1000 + i);
        EXPECT_OK(t.open_path(t.ctx, address, &path));
    }
    EXPECT_EQ(TCP_PATHS_MAX, a->tcp->paths_count);
    rig_free(rig);
}
