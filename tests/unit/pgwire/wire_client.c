/*
 * wire_client.c -- see wire_client.h.
 */
#include "tests/unit/pgwire/wire_client.h"

#include <stdio.h>
#include <stdlib.h>

#include "node/base/codec.h"
#include "node/base/invariant.h"

static void must(struct status st)
{
    INVARIANT(status_ok(st));
}

struct wire_test *wire_test_create(const struct pgwire_options *options)
{
    struct wire_test *t = calloc(1, sizeof(*t));
    struct pgwire_options o = {0};

    t->world = fake_world_create();
    t->server_shard = fake_world_add_shard(t->world);
    t->client_shard = fake_world_add_shard(t->world);
    if (options != NULL) {
        o = *options;
    }
    o.shard = t->server_shard;
    o.sql = &t->sql;
    (void)snprintf(o.listen.host, sizeof(o.listen.host), "127.0.0.1");
    must(pgwire_create(&o, &t->server));
    return t;
}

void wire_test_destroy(struct wire_test *t)
{
    pgwire_stop(t->server, 0);
    fake_world_advance(t->world, 1000000);
    INVARIANT(pgwire_stopped(t->server));
    INVARIANT(t->sql.sessions == 0);
    pgwire_destroy(t->server);
    fake_world_destroy(t->world);
    free(t);
}

static void on_connected(void *ctx, struct status st)
{
    struct wire_client *c = ctx;

    c->refused = !status_ok(st);
}

static void on_data(void *ctx, struct bytes data)
{
    struct wire_client *c = ctx;

    must(buf_append_bytes(&c->heard, data));
}

static void on_closed(void *ctx, struct status why)
{
    struct wire_client *c = ctx;

    UNUSED(why);
    c->stream = NULL;
}

static const struct env_stream_handler handler = {.on_data = on_data, .on_closed = on_closed};

struct wire_client *wire_client_connect(struct wire_test *t)
{
    struct wire_client *c = calloc(1, sizeof(*c));
    struct env_address to = {.host = "127.0.0.1", .port = pgwire_port(t->server)};

    c->t = t;
    must(env_connect(shard_env(t->client_shard), &to, on_connected, &handler, c, &c->stream));
    fake_world_settle(t->world);
    return c;
}

void wire_client_close(struct wire_client *c)
{
    if (c->stream != NULL) {
        env_stream_close(shard_env(c->t->client_shard), c->stream);
    }
    fake_world_settle(c->t->world);
}

void wire_client_destroy(struct wire_client *c)
{
    wire_client_close(c);
    buf_deinit(&c->heard);
    buf_deinit(&c->text);
    buf_deinit(&c->pending);
    free(c);
}

void wire_say(struct wire_client *c, const void *data, size_t size)
{
    must(buf_append(&c->pending, data, size));
}

void wire_say_message(struct wire_client *c, char type, const void *body, size_t size)
{
    must(buf_append_u8(&c->pending, (uint8_t)type));
    must(buf_append_be32(&c->pending, (uint32_t)size + 4));
    must(buf_append(&c->pending, body, size));
}

void wire_say_startup(struct wire_client *c, uint32_t code, const void *body, size_t size)
{
    must(buf_append_be32(&c->pending, (uint32_t)size + 8));
    must(buf_append_be32(&c->pending, code));
    must(buf_append(&c->pending, body, size));
}

void wire_say_query(struct wire_client *c, const char *text)
{
    wire_say_message(c, 'Q', text, strlen(text) + 1);
}

static void put_name(struct buf *b, const char *name)
{
    must(buf_append(b, name, strlen(name) + 1));
}

static void put_u16(struct buf *b, uint16_t v)
{
    uint8_t bytes[2];

    be16_put(bytes, v);
    must(buf_append(b, bytes, 2));
}

void wire_say_parse(struct wire_client *c, const char *name, const char *text)
{
    struct buf b = {0};

    put_name(&b, name);
    put_name(&b, text);
    put_u16(&b, 0);
    wire_say_message(c, 'P', b.ptr, b.len);
    buf_deinit(&b);
}

void wire_say_bind(struct wire_client *c, const char *portal, const char *statement, int format)
{
    struct buf b = {0};

    put_name(&b, portal);
    put_name(&b, statement);
    put_u16(&b, 0);
    put_u16(&b, 0);
    put_u16(&b, 1);
    put_u16(&b, (uint16_t)format);
    wire_say_message(c, 'B', b.ptr, b.len);
    buf_deinit(&b);
}

void wire_say_describe(struct wire_client *c, char kind, const char *name)
{
    struct buf b = {0};

    must(buf_append_u8(&b, (uint8_t)kind));
    put_name(&b, name);
    wire_say_message(c, 'D', b.ptr, b.len);
    buf_deinit(&b);
}

void wire_say_execute(struct wire_client *c, const char *portal, uint32_t rows)
{
    struct buf b = {0};

    put_name(&b, portal);
    must(buf_append_be32(&b, rows));
    wire_say_message(c, 'E', b.ptr, b.len);
    buf_deinit(&b);
}

void wire_say_sync(struct wire_client *c)
{
    wire_say_message(c, 'S', "", 0);
}

void wire_client_login(struct wire_client *c)
{
    wire_say_startup(c, 196608, "user\0u\0\0", 8);
    (void)wire_hear(c);
}

/* ---- hearing ---- */

static const char *name_of(struct reader *r)
{
    const char *s = (const char *)r->rest.ptr;

    (void)read_bytes(r, strlen(s) + 1);
    return s;
}

static void tell_row(struct buf *out, struct reader *r)
{
    const uint16_t count = read_be16(r);

    for (uint16_t i = 0; i < count; i++) {
        const uint32_t len = read_be32(r);

        must(buf_printf(out, "%s", i == 0 ? "" : ","));
        if (len == UINT32_MAX) {
            must(buf_printf(out, "-"));
            continue;
        }
        for (uint32_t k = 0; k < len; k++) {
            const uint8_t byte = read_u8(r);

            if (len <= 64) {
                must(byte >= 32 && byte < 127 ? buf_append_u8(out, byte)
                                              : buf_printf(out, "\\%02x", byte));
            }
        }
        if (len > 64) {
            must(buf_printf(out, "%u bytes", len));
        }
    }
}

static void tell_columns(struct buf *out, struct reader *r)
{
    const uint16_t count = read_be16(r);

    for (uint16_t i = 0; i < count; i++) {
        const char *name = name_of(r);
        uint32_t type = 0;
        uint16_t format = 0;

        (void)read_bytes(r, 6);
        type = read_be32(r);
        (void)read_bytes(r, 6);
        format = read_be16(r);
        must(buf_printf(out, "%s%s:%u%s", i == 0 ? "" : ",", name, type, format == 1 ? "b" : ""));
    }
}

static void tell_error(struct buf *out, struct reader *r)
{
    const char *code = "";
    const char *position = "";
    const char *severity = "";

    for (uint8_t f = read_u8(r); f != 0; f = read_u8(r)) {
        const char *text = name_of(r);

        code = f == 'C' ? text : code;
        position = f == 'P' ? text : position;
        severity = f == 'V' ? text : severity;
    }
    must(buf_printf(out, "%s%s%s%s", strcmp(severity, "FATAL") == 0 ? "FATAL " : "", code,
                    position[0] == 0 ? "" : "@", position));
}

static void tell_body(struct wire_client *c, char type, struct reader *r)
{
    struct buf *out = &c->text;

    switch (type) {
    case 'T':
        tell_columns(out, r);
        break;
    case 'D':
        tell_row(out, r);
        break;
    case 'E':
    case 'N':
        tell_error(out, r);
        break;
    case 'C':
    case 'S':
        must(buf_printf(out, "%s", name_of(r)));
        break;
    case 'Z':
        must(buf_printf(out, "%c", read_u8(r)));
        break;
    case 'K':
        c->pid = read_be32(r);
        c->key = read_be32(r);
        break;
    case 'R':
        must(buf_printf(out, "%u", read_be32(r)));
        break;
    case 't':
    case 'v':
        must(buf_printf(out, "%u", (unsigned)(type == 't' ? read_be16(r) : read_be32(r))));
        break;
    default:
        break;
    }
}

/* A byte that answers SSLRequest has no length behind it. */
static bool is_negotiation(const struct reader *r)
{
    return (r->rest.ptr[0] == 'N' || r->rest.ptr[0] == 'S') &&
           (r->rest.len < 5 || be32_get(r->rest.ptr + 1) > 0xffffff);
}

const char *wire_hear(struct wire_client *c)
{
    struct reader r;

    if (c->stream != NULL && c->pending.len > 0) {
        must(env_stream_write(shard_env(c->t->client_shard), c->stream, buf_bytes(&c->pending)));
    }
    buf_clear(&c->pending);
    fake_world_settle(c->t->world);
    buf_clear(&c->text);
    r = reader_of(buf_bytes(&c->heard));
    while (r.rest.len > 0 && !r.bad) {
        const char type = (char)read_u8(&r);
        struct reader body;

        must(buf_printf(&c->text, "%s%c", c->text.len == 0 ? "" : " ", type));
        r.rest = bytes_of(r.rest.ptr - 1, r.rest.len + 1);
        if (is_negotiation(&r)) {
            r.rest = bytes_skip(r.rest, 1);
            continue;
        }
        r.rest = bytes_skip(r.rest, 1);
        body = reader_of(read_bytes(&r, read_be32(&r) - 4));
        if (strchr("123nsIAV", type) == NULL) {
            must(buf_printf(&c->text, "("));
            tell_body(c, type, &body);
            must(buf_printf(&c->text, ")"));
        }
    }
    buf_clear(&c->heard);
    if (c->stream == NULL) {
        must(buf_printf(&c->text, "%sclosed", c->text.len == 0 ? "" : " "));
    }
    must(buf_append_u8(&c->text, 0));
    return (const char *)c->text.ptr;
}
