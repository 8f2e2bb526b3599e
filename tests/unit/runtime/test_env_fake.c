/* The env of unit tests keeps the contract of env.h: order of callbacks, limits, refusal. */
#include <stdlib.h>

#include "node/runtime/fiber.h"
#include "tests/lib/env_fake.h"
#include "tests/lib/test.h"

struct side {
    struct fake_world *w;
    struct shard *s;
    struct env_stream *stream;
    char trace[32];
    size_t len;
    char got[64];
    size_t got_len;
    enum status_code connected;
    enum status_code why;
};

static void note(struct side *s, char c)
{
    if (s->len + 1 < sizeof(s->trace)) {
        s->trace[s->len++] = c;
    }
}

static void on_data(void *ctx, struct bytes data)
{
    struct side *s = ctx;

    note(s, 'd');
    for (size_t i = 0; i < data.len && s->got_len + 1 < sizeof(s->got); i++) {
        s->got[s->got_len++] = (char)data.ptr[i];
    }
}

static void on_drained(void *ctx)
{
    note(ctx, 'w');
}

static void on_closed(void *ctx, struct status why)
{
    struct side *s = ctx;

    note(s, 'x');
    s->why = why.code;
    s->stream = NULL;
}

static const struct env_stream_handler handler = {on_data, on_drained, on_closed};

static void on_accept(void *ctx, struct env_stream *stream)
{
    struct side *s = ctx;

    note(s, 'a');
    s->stream = stream;
    env_stream_start(shard_env(s->s), stream, &handler, s);
}

static void on_connected(void *ctx, struct status st)
{
    struct side *s = ctx;

    note(s, 'c');
    s->connected = st.code;
}

static const struct env_address here = {.host = "127.0.0.1", .port = 0};

TEST(env_fake, stream_carries_bytes_both_ways_and_closes)
{
    struct fake_world *w = fake_world_create();
    struct side server = {.w = w, .s = fake_world_add_shard(w)};
    struct side client = {.w = w, .s = fake_world_add_shard(w)};
    struct env *se = shard_env(server.s);
    struct env *ce = shard_env(client.s);
    struct env_listener *l = NULL;
    struct env_address to = here;

    EXPECT_OK(env_listen(se, &here, false, on_accept, &server, &l));
    to.port = env_listener_port(se, l);
    EXPECT_CODE(STATUS_EXISTS, env_listen(se, &to, false, on_accept, &server, &l));
    EXPECT_OK(env_connect(ce, &to, on_connected, &handler, &client, &client.stream));
    EXPECT_OK(env_stream_write(ce, client.stream, BYTES_LIT("hello ")));
    EXPECT_OK(env_stream_write(ce, client.stream, BYTES_LIT("world")));
    fake_world_settle(w);
    EXPECT_STREQ("ad", server.trace);
    EXPECT_STREQ("hello world", server.got);
    EXPECT_STREQ("cw", client.trace);

    /* Paused, the bytes wait, and so does the end behind them. */
    env_stream_pause(ce, client.stream, true);
    EXPECT_OK(env_stream_write(se, server.stream, BYTES_LIT("bye")));
    env_stream_close(se, server.stream);
    EXPECT_CODE(STATUS_CLOSED, env_stream_write(se, server.stream, BYTES_LIT("late")));
    fake_world_settle(w);
    EXPECT_STREQ("cw", client.trace);
    EXPECT_STREQ("adx", server.trace);
    env_stream_pause(ce, client.stream, false);
    fake_world_settle(w);
    EXPECT_STREQ("cwdx", client.trace);
    EXPECT_STREQ("bye", client.got);
    EXPECT_EQ(STATUS_CLOSED, client.why);
    fake_world_destroy(w);
}

TEST(env_fake, connecting_to_nobody_is_refused)
{
    struct fake_world *w = fake_world_create();
    struct side client = {.w = w, .s = fake_world_add_shard(w)};
    const struct env_address to = {.host = "127.0.0.1", .port = 9};

    EXPECT_OK(
        env_connect(shard_env(client.s), &to, on_connected, &handler, &client, &client.stream));
    fake_world_settle(w);
    EXPECT_STREQ("cx", client.trace);
    EXPECT_EQ(STATUS_UNAVAILABLE, client.connected);
    EXPECT_EQ(STATUS_UNAVAILABLE, client.why);
    fake_world_destroy(w);
}

/* A connection that the listener did not take in time ends for the client as well. */
TEST(env_fake, closing_a_listener_drops_what_was_not_accepted)
{
    struct fake_world *w = fake_world_create();
    struct side server = {.w = w, .s = fake_world_add_shard(w)};
    struct side client = {.w = w, .s = fake_world_add_shard(w)};
    struct env_listener *l = NULL;
    struct env_address to = here;

    EXPECT_OK(env_listen(shard_env(server.s), &here, false, on_accept, &server, &l));
    to.port = env_listener_port(shard_env(server.s), l);
    EXPECT_OK(
        env_connect(shard_env(client.s), &to, on_connected, &handler, &client, &client.stream));
    env_listener_close(shard_env(server.s), l);
    fake_world_settle(w);
    EXPECT_STREQ("", server.trace);
    EXPECT_STREQ("cx", client.trace);
    fake_world_destroy(w);
}
