/* The libuv env on loopback: echo, back pressure, pausing, orderly ends, lanes, stops. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "node/base/hash.h"
#include "node/runtime/env_uv.h"
#include "node/runtime/fiber.h"
#include "node/runtime/shard_internal.h"
#include "tests/lib/test.h"

#define MS    ((uint64_t)1000000)
#define GUARD (20000 * MS) /* No test takes that long: it ends one that hangs. */

/* One shard with its loop, run in the thread of the test. */
struct node {
    struct env *e;
    struct shard *s;
    struct shard_timer guard;
    bool guard_fired;
};

static void on_guard(struct shard_timer *t)
{
    struct node *n = CONTAINER_OF(t, struct node, guard);

    n->guard_fired = true;
    env_uv_stop(n->e);
}

static struct status node_init(struct node *n)
{
    struct shard_options so = {0};

    *n = (struct node){.guard = {.fn = on_guard}};
    TRY(env_uv_create(&(struct env_uv_options){0}, &n->e));
    so.env = n->e;
    TRY(shard_create(&so, &n->s));
    shard_timer_arm_in(n->s, &n->guard, GUARD);
    return OK;
}

static void node_deinit(struct node *n)
{
    shard_destroy(n->s);
    env_uv_destroy(n->e);
}

/* One end of a connection. */
struct side {
    struct node *n;
    struct env_stream *stream;
    void (*data)(struct side *s, struct bytes b); /* NULL: count only. */
    void (*connected)(struct side *s);
    void (*drained)(struct side *s);
    void (*closed)(struct side *s);
    struct side *next_accepted;
    size_t got;
    size_t sent;
    size_t goal;
    unsigned hash;
    unsigned sent_hash;
    int connected_calls;
    int drained_calls;
    int closed_calls;
    enum status_code connect_code;
    enum status_code why;
};

static unsigned mix(unsigned h, struct bytes b)
{
    for (size_t i = 0; i < b.len; i++) {
        h = h * 31u + b.ptr[i];
    }
    return h;
}

static void on_data(void *ctx, struct bytes b)
{
    struct side *s = ctx;

    s->got += b.len;
    s->hash = mix(s->hash, b);
    if (s->data != NULL) {
        s->data(s, b);
    }
}

static void on_drained(void *ctx)
{
    struct side *s = ctx;

    s->drained_calls++;
    if (s->drained != NULL) {
        s->drained(s);
    }
}

static void on_closed(void *ctx, struct status why)
{
    struct side *s = ctx;

    s->closed_calls++;
    s->why = why.code;
    s->stream = NULL;
    if (s->closed != NULL) {
        s->closed(s);
    }
}

static const struct env_stream_handler handler = {on_data, on_drained, on_closed};

static void on_connected(void *ctx, struct status st)
{
    struct side *s = ctx;

    s->connected_calls++;
    s->connect_code = st.code;
    if (s->connected != NULL) {
        s->connected(s);
    }
}

static void on_accept(void *ctx, struct env_stream *stream)
{
    struct side *s = ctx;

    s->stream = stream;
    env_stream_start(s->n->e, stream, &handler, s);
}

static const struct env_address any = {.host = "127.0.0.1", .port = 0};

/* Listens for `server` and connects `client` to it. */
static struct status link_sides(struct node *n, struct side *server, struct side *client,
                                struct env_listener **l)
{
    struct env_address to = any;

    server->n = n;
    client->n = n;
    TRY(env_listen(n->e, &any, false, on_accept, server, l));
    to.port = env_listener_port(n->e, *l);
    /* lint-allow(cppcheck): no status refers to an address */
    TRY(env_connect(n->e, &to, on_connected, &handler, client, &client->stream));
    return OK;
}

static struct status write_some(struct side *s, size_t len)
{
    static uint8_t block[65536];
    struct status st = OK;

    for (size_t i = 0; i < len; i++) {
        block[i] = (uint8_t)((s->sent + i) * 7u);
    }
    st = env_stream_write(s->n->e, s->stream, bytes_of(block, len));
    if (status_ok(st)) {
        s->sent_hash = mix(s->sent_hash, bytes_of(block, len));
        s->sent += len;
    }
    return st;
}

static void echo_back(struct side *s, struct bytes b)
{
    if (!status_ok(env_stream_write(s->n->e, s->stream, b))) {
        env_stream_close(s->n->e, s->stream);
    }
}

static void ping_again(struct side *s, struct bytes b)
{
    UNUSED(b);
    if (s->got >= s->goal || (s->got == s->sent && !status_ok(write_some(s, 100)))) {
        env_stream_close(s->n->e, s->stream);
    }
}

static void ping_first(struct side *s)
{
    if (!status_ok(write_some(s, 100))) {
        env_stream_close(s->n->e, s->stream);
    }
}

static void stop_when_closed(struct side *s)
{
    env_uv_stop(s->n->e);
}

/* 500 requests and answers; a turn or two each, not a spinning loop. */
TEST(env_uv, echo_and_close)
{
    struct node n;
    struct side server = {.data = echo_back};
    struct side client = {.data = ping_again, .connected = ping_first, .goal = 50000};
    struct env_listener *l = NULL;
    struct shard_stats stats;

    EXPECT_OK(node_init(&n));
    server.closed = stop_when_closed;
    EXPECT_OK(link_sides(&n, &server, &client, &l));
    env_uv_run(n.e);
    EXPECT_FALSE(n.guard_fired);
    EXPECT_EQ(50000, server.got);
    EXPECT_EQ(50000, client.got);
    EXPECT_EQ(client.sent_hash, client.hash);
    EXPECT_EQ(1, client.connected_calls);
    EXPECT_EQ(1, client.closed_calls);
    EXPECT_EQ(1, server.closed_calls);
    EXPECT_EQ(STATUS_CLOSED, client.why);
    EXPECT_EQ(STATUS_CLOSED, server.why);
    shard_get_stats(n.s, &stats);
    EXPECT_TRUE(stats.turns < 2500);
    node_deinit(&n);
}

static void fill_until_queued(struct side *s)
{
    /* More than any socket buffer takes: the rest waits in the queue. */
    while (s->sent < s->goal) {
        if (!status_ok(write_some(s, 50000))) {
            break;
        }
    }
}

struct backpressure {
    struct node n;
    struct side server;
    struct side client;
    struct shard_timer look;
    size_t got_while_paused;
    size_t queued_while_paused;
};

static void look_and_resume(struct shard_timer *t)
{
    struct backpressure *b = CONTAINER_OF(t, struct backpressure, look);

    b->got_while_paused = b->server.got;
    b->queued_while_paused = env_stream_queued(b->n.e, b->client.stream);
    env_stream_pause(b->n.e, b->server.stream, false);
}

static void on_accept_paused(void *ctx, struct env_stream *stream)
{
    struct side *s = ctx;

    s->stream = stream;
    env_stream_pause(s->n->e, stream, true);
    env_stream_start(s->n->e, stream, &handler, s);
}

static void close_when_drained(struct side *s)
{
    if (s->sent == s->goal) {
        env_stream_close(s->n->e, s->stream);
    }
}

struct bursts {
    struct node n;
    struct side server;
    struct side client;
    struct shard_timer tick;
    struct rng rng;
};

/* A burst of writes of any size, sometimes a pause of the reader. */
static void burst(struct shard_timer *t)
{
    struct bursts *b = CONTAINER_OF(t, struct bursts, tick);

    for (uint64_t i = rng_below(&b->rng, 200); i > 0 && b->client.sent < b->client.goal; i--) {
        const uint64_t limit = rng_permille(&b->rng, 100) ? 60000 : 3000;

        if (!status_ok(write_some(&b->client, rng_below(&b->rng, limit)))) {
            break;
        }
    }
    if (b->server.stream != NULL) {
        env_stream_pause(b->n.e, b->server.stream, rng_permille(&b->rng, 500));
    }
    if (b->client.sent < b->client.goal) {
        shard_timer_arm_in(b->n.s, t, rng_below(&b->rng, 2) * MS);
        return;
    }
    env_stream_pause(b->n.e, b->server.stream, false);
    env_stream_close(b->n.e, b->client.stream);
}

static void start_bursts(struct side *s)
{
    struct bursts *b = CONTAINER_OF(s, struct bursts, client);

    shard_timer_arm_in(b->n.s, &b->tick, 0);
}

/* Whatever the sizes and pauses: every byte arrives, once and in order. */
TEST(env_uv, bursts_arrive_whole_and_in_order)
{
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct bursts b = {.tick = {.fn = burst}};
        struct env_listener *l = NULL;

        EXPECT_OK(node_init(&b.n));
        rng_seed(&b.rng, seed);
        b.server.closed = stop_when_closed;
        b.client.connected = start_bursts;
        b.client.goal = 5000000;
        EXPECT_OK(link_sides(&b.n, &b.server, &b.client, &l));
        env_uv_run(b.n.e);
        EXPECT_FALSE(b.n.guard_fired);
        EXPECT_EQ(b.client.sent, b.server.got);
        EXPECT_EQ(b.client.sent_hash, b.server.hash);
        EXPECT_EQ(1, b.client.closed_calls);
        node_deinit(&b.n);
    }
}

/* A reader that pauses holds the writer's output back; resumed, it gets everything, in order. */
TEST(env_uv, paused_reader_pushes_back)
{
    struct backpressure b = {.look = {.fn = look_and_resume}};
    struct env_listener *l = NULL;
    struct env_address to = any;

    EXPECT_OK(node_init(&b.n));
    b.server = (struct side){.n = &b.n, .closed = stop_when_closed};
    b.client = (struct side){
        .n = &b.n, .connected = fill_until_queued, .drained = close_when_drained, .goal = 20000000};
    EXPECT_OK(env_listen(b.n.e, &any, false, on_accept_paused, &b.server, &l));
    to.port = env_listener_port(b.n.e, l);
    EXPECT_OK(env_connect(b.n.e, &to, on_connected, &handler, &b.client, &b.client.stream));
    shard_timer_arm_in(b.n.s, &b.look, 30 * MS);
    env_uv_run(b.n.e);
    EXPECT_FALSE(b.n.guard_fired);
    EXPECT_EQ(0, b.got_while_paused);
    EXPECT_TRUE(b.queued_while_paused > 1000000);
    EXPECT_EQ(b.client.goal, b.server.got);
    EXPECT_EQ(b.client.sent_hash, b.server.hash);
    EXPECT_TRUE(b.client.drained_calls >= 1);
    node_deinit(&b.n);
}

static void overfill(struct side *s)
{
    static uint8_t block[1 << 20];
    size_t blocks = 0;
    struct status st = OK;

    while (status_ok(st = env_stream_write(s->n->e, s->stream, bytes_of(block, sizeof(block))))) {
        blocks++;
    }
    s->sent = blocks << 20;
    s->connect_code = st.code;
    env_uv_stop(s->n->e);
}

TEST(env_uv, output_queue_is_bounded)
{
    struct node n;
    struct side server = {0};
    struct side client = {.connected = overfill};
    struct env_listener *l = NULL;

    EXPECT_OK(node_init(&n));
    EXPECT_OK(link_sides(&n, &server, &client, &l));
    env_uv_run(n.e);
    EXPECT_EQ(ENV_STREAM_QUEUE_MAX, client.sent);
    EXPECT_EQ(STATUS_OVERLOADED, client.connect_code);
    EXPECT_EQ(1, client.closed_calls);
    node_deinit(&n);
}

static void say_and_hang_up(struct side *s, struct bytes b)
{
    UNUSED(b);
    if (s->sent == 0 && status_ok(write_some(s, 30000))) {
        env_stream_close(s->n->e, s->stream);
    }
}

static void send_much(struct side *s)
{
    s->goal = 400000;
    fill_until_queued(s);
}

/* The last words arrive although the one who hangs up has not read all that was sent to it. */
TEST(env_uv, close_sends_the_rest_before_a_reset_can)
{
    struct node n;
    struct side server = {.data = say_and_hang_up};
    struct side client = {.connected = send_much, .closed = stop_when_closed};
    struct env_listener *l = NULL;

    EXPECT_OK(node_init(&n));
    EXPECT_OK(link_sides(&n, &server, &client, &l));
    env_uv_run(n.e);
    EXPECT_FALSE(n.guard_fired);
    EXPECT_EQ(30000, client.got);
    EXPECT_EQ(server.sent_hash, client.hash);
    EXPECT_EQ(STATUS_CLOSED, client.why);
    node_deinit(&n);
}

static void close_at_once(struct side *s)
{
    env_stream_close(s->n->e, s->stream);
}

/* The peer neither reads nor ends: after a second of linger the stream is gone all the same. */
TEST(env_uv, linger_ends_after_a_second)
{
    struct node n;
    struct side server = {.n = &n};
    struct side client = {.n = &n, .connected = close_at_once, .closed = stop_when_closed};
    struct env_listener *l = NULL;
    struct env_address to = any;
    uint64_t start = 0;

    EXPECT_OK(node_init(&n));
    EXPECT_OK(env_listen(n.e, &any, false, on_accept_paused, &server, &l));
    to.port = env_listener_port(n.e, l);
    EXPECT_OK(env_connect(n.e, &to, on_connected, &handler, &client, &client.stream));
    start = env_mono_ns(n.e);
    env_uv_run(n.e);
    EXPECT_FALSE(n.guard_fired);
    EXPECT_EQ(1, client.closed_calls);
    EXPECT_TRUE(env_mono_ns(n.e) - start >= 1000 * MS);
    EXPECT_TRUE(env_mono_ns(n.e) - start < 5000 * MS);
    node_deinit(&n);
}

TEST(env_uv, refused_connection_says_so_once)
{
    struct node n;
    struct side client = {.n = &n, .closed = stop_when_closed};
    struct side server = {.n = &n};
    struct env_listener *l = NULL;
    struct env_address to = any;

    EXPECT_OK(node_init(&n));
    /* A port that was free a moment ago, and that nobody listens on now. */
    EXPECT_OK(env_listen(n.e, &any, false, on_accept, &server, &l));
    to.port = env_listener_port(n.e, l);
    env_listener_close(n.e, l);
    EXPECT_OK(env_connect(n.e, &to, on_connected, &handler, &client, &client.stream));
    env_uv_run(n.e);
    EXPECT_FALSE(n.guard_fired);
    EXPECT_EQ(1, client.connected_calls);
    EXPECT_EQ(STATUS_UNAVAILABLE, client.connect_code);
    EXPECT_EQ(1, client.closed_calls);
    node_deinit(&n);
}

TEST(env_uv, close_before_connected_cancels)
{
    struct node n;
    struct side server = {0};
    struct side client = {.closed = stop_when_closed};
    struct env_listener *l = NULL;

    EXPECT_OK(node_init(&n));
    EXPECT_OK(link_sides(&n, &server, &client, &l));
    env_stream_close(n.e, client.stream);
    EXPECT_EQ(0, client.closed_calls);
    EXPECT_CODE(STATUS_CLOSED, env_stream_write(n.e, client.stream, BYTES_LIT("x")));
    env_uv_run(n.e);
    EXPECT_EQ(1, client.connected_calls);
    EXPECT_TRUE(client.connect_code != STATUS_OK);
    EXPECT_EQ(1, client.closed_calls);
    node_deinit(&n);
}

TEST(env_uv, listening_twice_and_bad_addresses_are_refused)
{
    struct node n;
    struct side server = {.n = &n};
    struct env_listener *l = NULL;
    struct env_listener *shared[2] = {NULL, NULL};
    struct env_address at = any;
    struct env_address bad = {.host = "localhost", .port = 0};

    EXPECT_OK(node_init(&n));
    EXPECT_OK(env_listen(n.e, &any, false, on_accept, &server, &l));
    at.port = env_listener_port(n.e, l);
    EXPECT_TRUE(at.port != 0);
    EXPECT_CODE(STATUS_EXISTS, env_listen(n.e, &at, false, on_accept, &server, &l));
    EXPECT_CODE(STATUS_INVALID, env_listen(n.e, &bad, false, on_accept, &server, &l));
    EXPECT_CODE(STATUS_INVALID,
                env_connect(n.e, &bad, on_connected, &handler, &server, &server.stream));
    EXPECT_OK(env_listen(n.e, &any, true, on_accept, &server, &shared[0]));
    at.port = env_listener_port(n.e, shared[0]);
    EXPECT_OK(env_listen(n.e, &at, true, on_accept, &server, &shared[1]));
    EXPECT_EQ(at.port, env_listener_port(n.e, shared[1]));
    env_uv_stop(n.e);
    env_uv_run(n.e);
    node_deinit(&n);
}

static void look_at_peer(struct side *s)
{
    struct env_address a;

    env_stream_peer(s->n->e, s->stream, &a);
    s->goal = strcmp(a.host, "127.0.0.1") == 0 ? a.port : 0;
    env_uv_stop(s->n->e);
}

TEST(env_uv, peer_is_who_was_dialled)
{
    struct node n;
    struct side server = {0};
    struct side client = {.connected = look_at_peer};
    struct env_listener *l = NULL;
    uint16_t port = 0;

    EXPECT_OK(node_init(&n));
    EXPECT_OK(link_sides(&n, &server, &client, &l));
    port = env_listener_port(n.e, l);
    env_uv_run(n.e);
    EXPECT_EQ(port, client.goal);
    node_deinit(&n);
}

struct lane_test {
    struct node n;
    struct env_job jobs[500];
    int next_work; /* On the writer thread. */
    int next_done; /* On the shard. */
    bool in_order;
};

static struct lane_test *lane_test;

static void lane_work(struct env_job *job)
{
    if (job != &lane_test->jobs[lane_test->next_work++]) {
        lane_test->in_order = false;
    }
}

static void lane_done(struct env_job *job)
{
    if (job != &lane_test->jobs[lane_test->next_done++] || shard_current() != lane_test->n.s) {
        lane_test->in_order = false;
    }
    if (lane_test->next_done == 500) {
        env_uv_stop(lane_test->n.e);
    }
}

TEST(env_uv, writer_lane_keeps_order)
{
    static struct lane_test t;

    lane_test = &t;
    t.in_order = true;
    EXPECT_OK(node_init(&t.n));
    for (int i = 0; i < 500; i++) {
        t.jobs[i] = (struct env_job){.work = lane_work, .done = lane_done};
        env_submit(t.n.e, ENV_LANE_WRITER, &t.jobs[i]);
    }
    env_uv_run(t.n.e);
    EXPECT_EQ(500, t.next_done);
    EXPECT_TRUE(t.in_order);
    EXPECT_FALSE(t.n.guard_fired);
    node_deinit(&t.n);
}

static void add_one(void *arg)
{
    (*(int *)arg)++;
}

struct blocking_test {
    struct node n;
    int sum;
    int ended;
};

static void blocking_body(void *arg)
{
    struct blocking_test *t = arg;
    int mine = 0;

    for (int i = 0; i < 50; i++) {
        fiber_run_blocking(i % 2 == 0 ? ENV_LANE_IO : ENV_LANE_WRITER, add_one, &mine);
    }
    t->sum += mine;
    if (++t->ended == 10) {
        env_uv_stop(t->n.e);
    }
}

TEST(env_uv, fibers_run_blocking_work_on_lanes)
{
    struct blocking_test t = {0};

    EXPECT_OK(node_init(&t.n));
    for (int i = 0; i < 10; i++) {
        EXPECT_OK(fiber_spawn(t.n.s, "blocking", blocking_body, &t));
    }
    env_uv_run(t.n.e);
    EXPECT_EQ(500, t.sum);
    node_deinit(&t.n);
}

struct timer_test {
    struct node n;
    struct shard_timer timers[20];
    uint64_t at[20];
    int fired;
    bool early;
    bool disorder;
};

static struct timer_test *timer_test;

static void timer_fired(struct shard_timer *t)
{
    const long i = t - timer_test->timers;

    timer_test->early = timer_test->early || env_mono_ns(timer_test->n.e) < timer_test->at[i];
    timer_test->disorder = timer_test->disorder || i != timer_test->fired;
    if (++timer_test->fired == 20) {
        env_uv_stop(timer_test->n.e);
    }
}

/* Times between milliseconds: never early, in order, and the loop sleeps in between. */
TEST(env_uv, timers_are_never_early_and_waiting_is_free)
{
    struct timer_test t = {0};
    struct shard_stats stats;
    struct rusage before;
    struct rusage after;
    uint64_t cpu_us = 0;

    timer_test = &t;
    EXPECT_OK(node_init(&t.n));
    for (int i = 0; i < 20; i++) {
        t.timers[i].fn = timer_fired;
        t.at[i] = env_mono_ns(t.n.e) + (uint64_t)(i + 1) * 5 * MS + (uint64_t)i * 50001;
        shard_timer_arm(t.n.s, &t.timers[i], t.at[i]);
    }
    EXPECT_EQ(0, getrusage(RUSAGE_SELF, &before));
    env_uv_run(t.n.e);
    EXPECT_EQ(0, getrusage(RUSAGE_SELF, &after));
    cpu_us = (uint64_t)(after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1000000u +
             (uint64_t)(after.ru_utime.tv_usec - before.ru_utime.tv_usec);
    EXPECT_EQ(20, t.fired);
    EXPECT_FALSE(t.early);
    EXPECT_FALSE(t.disorder);
    shard_get_stats(t.n.s, &stats);
    EXPECT_TRUE(stats.turns < 60);
    EXPECT_TRUE(cpu_us < 80000); /* Of 100 ms; it is near 1,000 in fact. */
    node_deinit(&t.n);
}

struct watch_test {
    struct node n;
    struct env_watch *w;
    int fds[2];
    int calls;
    bool readable;
};

static void on_ready(void *ctx, bool readable, bool writable)
{
    struct watch_test *t = ctx;

    UNUSED(writable);
    t->calls++;
    t->readable = readable;
    env_watch_close(t->n.e, t->w);
    env_uv_stop(t->n.e);
}

TEST(env_uv, watch_reports_readiness)
{
    struct watch_test t = {0};
    struct env_watch *again = NULL;

    EXPECT_OK(node_init(&t.n));
    EXPECT_EQ(0, pipe(t.fds));
    EXPECT_OK(env_watch_fd(t.n.e, t.fds[0], true, false, on_ready, &t, &t.w));
    EXPECT_CODE(STATUS_EXISTS, env_watch_fd(t.n.e, t.fds[0], true, false, on_ready, &t, &again));
    EXPECT_EQ(1, write(t.fds[1], "x", 1));
    env_uv_run(t.n.e);
    EXPECT_EQ(1, t.calls);
    EXPECT_TRUE(t.readable);
    EXPECT_EQ(0, close(t.fds[0]));
    EXPECT_EQ(0, close(t.fds[1]));
    node_deinit(&t.n);
}

static void on_signal(void *ctx, int signum)
{
    struct blocking_test *t = ctx;

    t->sum = signum;
    env_uv_stop(t->n.e);
}

TEST(env_uv, signal_reaches_the_loop)
{
    struct blocking_test t = {0};

    EXPECT_OK(node_init(&t.n));
    EXPECT_OK(env_uv_on_signal(t.n.e, SIGHUP, on_signal, &t));
    EXPECT_EQ(0, kill(getpid(), SIGHUP));
    env_uv_run(t.n.e);
    EXPECT_EQ(SIGHUP, t.sum);
    node_deinit(&t.n);
}

TEST(env_uv, random_is_not_repeated)
{
    struct node n;
    uint64_t a[100];

    EXPECT_OK(node_init(&n));
    for (int i = 0; i < 100; i++) {
        a[i] = env_random_u64(n.e);
        for (int k = 0; k < i; k++) {
            EXPECT_TRUE(a[i] != a[k]);
        }
    }
    env_uv_stop(n.e);
    env_uv_run(n.e);
    node_deinit(&n);
}

/* Two real threads throw a ball: each parcel goes back as soon as it comes. */
struct ball {
    struct shard_parcel parcel;
    struct node *n; /* The two. */
    int left;
    uint64_t hops;
};

static void ball_deliver(struct shard *to, struct shard_parcel *p)
{
    struct ball *b = CONTAINER_OF(p, struct ball, parcel);
    struct node *other = &b->n[to == b->n[0].s ? 1 : 0];

    b->hops++;
    if (b->left-- == 0 || !status_ok(shard_post_remote(other->s, p))) {
        env_uv_stop(b->n[0].e);
        env_uv_stop(b->n[1].e);
    }
}

static void *node_thread(void *arg)
{
    struct node *n = arg;

    env_uv_run(n->e);
    return NULL;
}

TEST(env_uv, parcels_travel_between_threads)
{
    struct node n[2];
    struct ball b = {.parcel = {.deliver = ball_deliver}, .n = n, .left = 2000};
    pthread_t thread;

    EXPECT_OK(node_init(&n[0]));
    EXPECT_OK(node_init(&n[1]));
    EXPECT_EQ(0, pthread_create(&thread, NULL, node_thread, &n[1]));
    EXPECT_OK(shard_post_remote(n[1].s, &b.parcel));
    env_uv_run(n[0].e);
    EXPECT_EQ(0, pthread_join(thread, NULL));
    EXPECT_EQ(2001, b.hops);
    node_deinit(&n[0]);
    node_deinit(&n[1]);
}
