/*
 * wire_client.h -- a client for tests: says bytes, hears messages as text.
 *
 *     struct wire_test *t = wire_test_create(NULL);
 *     struct wire_client *c = wire_client_connect(t);
 *     wire_client_login(c);
 *     wire_say_query(c, "rows 1");
 *     EXPECT_STREQ("T(n:23,t:25) D(1,row 1) C(SELECT 1) Z(I)", wire_hear(c));
 */
#pragma once

#include "node/base/bytes.h"
#include "node/pgwire/pgwire.h"
#include "tests/lib/env_fake.h"
#include "tests/unit/pgwire/session_fake.h"

struct wire_test {
    struct fake_world *world;
    struct shard *server_shard;
    struct shard *client_shard;
    struct sql sql;
    struct pgwire *server;
};

struct wire_client {
    struct wire_test *t;
    struct env_stream *stream; /* NULL: closed. */
    struct buf heard;
    struct buf text;    /* Of wire_hear(). */
    struct buf pending; /* Said, not sent. */
    uint32_t pid;       /* Of the last BackendKeyData heard. */
    uint32_t key;
    bool refused;
};

/* options NULL: defaults. The fields for shard, sql and address are filled in. */
struct wire_test *wire_test_create(const struct pgwire_options *options);
/* Stops the server, frees clients that were closed by the test. */
void wire_test_destroy(struct wire_test *t);

struct wire_client *wire_client_connect(struct wire_test *t);
void wire_client_destroy(struct wire_client *c);
void wire_client_close(struct wire_client *c);

void wire_say(struct wire_client *c, const void *data, size_t size);
void wire_say_message(struct wire_client *c, char type, const void *body, size_t size);
void wire_say_startup(struct wire_client *c, uint32_t code, const void *body, size_t size);
void wire_say_query(struct wire_client *c, const char *text);
void wire_say_parse(struct wire_client *c, const char *name, const char *text);
/* No parameters; format: of all results. */
void wire_say_bind(struct wire_client *c, const char *portal, const char *statement, int format);
void wire_say_describe(struct wire_client *c, char kind, const char *name);
void wire_say_execute(struct wire_client *c, const char *portal, uint32_t rows);
void wire_say_sync(struct wire_client *c);

/* Startup as user "u"; hears up to ReadyForQuery. */
void wire_client_login(struct wire_client *c);
/* Sends what was said, lets everything run, and tells what came since the last time; "closed" at the
 * end when the server has closed. Valid until the next call. */
const char *wire_hear(struct wire_client *c);
