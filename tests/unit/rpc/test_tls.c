/*
 * test_tls.c -- sessions against each other, without sockets.
 */
#include <stdlib.h>
#include <sys/stat.h>

#include "node/base/hash.h"
#include "node/base/invariant.h"
#include "tests/lib/test.h"
#include "tests/unit/rpc/cert_rig.h"

/* Two sessions and the lines between them. */
struct wire {
    struct tls_session *client;
    struct tls_session *server;
    struct buf to_server;
    struct buf to_client;
    struct buf at_client;
    struct buf at_server;
    struct status client_st;
    struct status server_st;
    bool client_up;
    bool server_up;
    uint64_t bytes;
};

static void wire_init(struct wire *w, struct tls_config *client, struct tls_config *server)
{
    *w = (struct wire){.client_st = OK, .server_st = OK};
    INVARIANT(status_ok(tls_session_create_as(client, false, &w->client)));
    INVARIANT(status_ok(tls_session_create_as(server, true, &w->server)));
}

static void wire_deinit(struct wire *w)
{
    tls_session_destroy(w->client);
    tls_session_destroy(w->server);
    buf_deinit(&w->to_server);
    buf_deinit(&w->to_client);
    buf_deinit(&w->at_client);
    buf_deinit(&w->at_server);
}

/* Carries what is on the lines in pieces of `chunk` bytes. True if there was something. */
static bool carry(struct wire *w, bool client, size_t chunk)
{
    struct buf *from = client ? &w->to_client : &w->to_server;
    struct buf line = *from;
    size_t at = 0;

    if (line.len == 0) {
        return false;
    }
    w->bytes += line.len;
    buf_init(from, 0);
    while (at < line.len) {
        const size_t n = line.len - at < chunk ? line.len - at : chunk;
        const struct bytes piece = bytes_of(line.ptr + at, n);
        struct status st =
            client
                ? tls_session_input(w->client, piece, &w->at_client, &w->to_server, &w->client_up)
                : tls_session_input(w->server, piece, &w->at_server, &w->to_client, &w->server_up);
        struct status *keep = client ? &w->client_st : &w->server_st;

        *keep = status_ok(*keep) ? st : *keep;
        at += n;
    }
    buf_deinit(&line);
    return true;
}

static void wire_pump(struct wire *w, size_t chunk)
{
    while (carry(w, false, chunk) || carry(w, true, chunk)) {
    }
}

static void wire_handshake(struct wire *w, size_t chunk)
{
    w->client_st =
        tls_session_input(w->client, BYTES_EMPTY, &w->at_client, &w->to_server, &w->client_up);
    wire_pump(w, chunk);
}

TEST(tls, mutual_handshake_and_data_in_any_pieces)
{
    static uint8_t data[70000];
    static const size_t chunks[] = {1000000, 1, 7, 1399};
    struct tls_config *config = NULL;
    struct certs certs;
    struct rng g;

    rng_seed(&g, 3);
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)rng_next(&g);
    }
    certs_init(&certs);
    EXPECT_OK(certs_config(&certs, "node", true, &config));
    for (size_t i = 0; i < ARRAY_COUNT(chunks); i++) {
        struct wire w;

        wire_init(&w, config, config);
        EXPECT_CODE(STATUS_CLOSED, tls_session_output(w.client, BYTES_LIT("x"), &w.to_server));
        wire_handshake(&w, chunks[i]);
        EXPECT_OK(w.client_st);
        EXPECT_OK(w.server_st);
        EXPECT_TRUE(w.client_up && w.server_up);
        EXPECT_STREQ("node", tls_session_peer_name(w.server));
        EXPECT_STREQ("node", tls_session_peer_name(w.client));
        EXPECT_OK(tls_session_output(w.client, bytes_of(data, sizeof(data)), &w.to_server));
        EXPECT_OK(tls_session_output(w.server, BYTES_LIT("fine"), &w.to_client));
        wire_pump(&w, chunks[i] == 1 ? 100 : chunks[i]);
        EXPECT_EQ(sizeof(data), w.at_server.len);
        EXPECT_TRUE(memcmp(data, w.at_server.ptr, sizeof(data)) == 0);
        EXPECT_BYTES_EQ(BYTES_LIT("fine"), buf_bytes(&w.at_client));
        wire_deinit(&w);
    }
    tls_config_release(config);
    certs_deinit(&certs);
}

TEST(tls, resumed_session_is_short_and_knows_its_peer)
{
    struct tls_config *client = NULL;
    struct tls_config *server = NULL;
    struct tls_ticket *ticket = NULL;
    uint64_t full_bytes = 0;
    struct certs certs;
    struct wire w;

    certs_init(&certs);
    EXPECT_OK(certs_config(&certs, "node", true, &client));
    EXPECT_OK(certs_config(&certs, "node", true, &server));
    wire_init(&w, client, server);
    EXPECT_TRUE(tls_session_take_ticket(w.client) == NULL);
    wire_handshake(&w, 100000);
    full_bytes = w.bytes;
    EXPECT_TRUE(tls_session_take_ticket(w.server) == NULL);
    ticket = tls_session_take_ticket(w.client);
    EXPECT_TRUE(ticket != NULL);
    wire_deinit(&w);

    wire_init(&w, client, server);
    tls_session_resume(w.client, ticket);
    wire_handshake(&w, 100000);
    EXPECT_TRUE(w.client_up && w.server_up);
    EXPECT_TRUE(w.bytes < full_bytes * 3 / 4);
    EXPECT_STREQ("node", tls_session_peer_name(w.server));
    wire_deinit(&w);

    /* A server that was restarted does not know the ticket: a full handshake, and no error. */
    tls_config_release(server);
    EXPECT_OK(certs_config(&certs, "node", true, &server));
    wire_init(&w, client, server);
    tls_session_resume(w.client, ticket);
    wire_handshake(&w, 100000);
    EXPECT_TRUE(w.client_up && w.server_up);
    wire_deinit(&w);
    tls_ticket_destroy(ticket);
    tls_config_release(client);
    tls_config_release(server);
    certs_deinit(&certs);
}

static bool mentions(struct status st, const char *what)
{
    return !status_ok(st) && strstr(status_text(st), what) != NULL;
}

/* Both sides learn why, in words. */
TEST(tls, certificate_of_another_ca_is_refused)
{
    struct tls_config *ours = NULL;
    struct tls_config *theirs = NULL;
    struct certs a;
    struct certs b;
    struct wire w;

    certs_init(&a);
    certs_init(&b);
    EXPECT_OK(certs_config(&a, "node", true, &ours));
    EXPECT_OK(certs_config(&b, "node", true, &theirs));
    wire_init(&w, ours, theirs);
    wire_handshake(&w, 100000);
    EXPECT_FALSE(w.client_up || w.server_up);
    EXPECT_CODE(STATUS_INVALID, w.client_st);
    EXPECT_TRUE(mentions(w.client_st, "not signed by our certificate authority"));
    EXPECT_CODE(STATUS_INVALID, w.server_st);
    EXPECT_TRUE(mentions(w.server_st, "does not trust the authority"));
    EXPECT_CODE(STATUS_CLOSED, tls_session_output(w.client, BYTES_LIT("x"), &w.to_server));
    wire_deinit(&w);
    tls_config_release(ours);
    tls_config_release(theirs);
    certs_deinit(&a);
    certs_deinit(&b);
}

TEST(tls, expired_and_future_certificates_are_refused)
{
    struct tls_config *config = NULL;
    struct certs certs;
    struct wire w;

    certs_init(&certs);
    certs_renew_node(&certs, 1600000000, 30); /* September 2020. */
    EXPECT_OK(certs_config(&certs, "node", true, &config));
    wire_init(&w, config, config);
    wire_handshake(&w, 100000);
    EXPECT_TRUE(mentions(w.client_st, "expired"));
    EXPECT_FALSE(w.client_up || w.server_up);
    wire_deinit(&w);
    tls_config_release(config);

    certs_renew_node(&certs, 7000000000, 30); /* The year 2191. */
    EXPECT_OK(certs_config(&certs, "node", true, &config));
    wire_init(&w, config, config);
    wire_handshake(&w, 100000);
    EXPECT_TRUE(mentions(w.client_st, "not valid yet"));
    wire_deinit(&w);
    tls_config_release(config);
    certs_deinit(&certs);
}

/* Of the same CA, but a user's: may not dial as a node, and may not answer as one. */
TEST(tls, client_certificate_is_no_nodes_certificate)
{
    struct tls_config *node = NULL;
    struct tls_config *ann = NULL;
    struct certs certs;
    struct wire w;

    certs_init(&certs);
    EXPECT_OK(certs_config(&certs, "node", true, &node));
    EXPECT_OK(certs_config(&certs, "client.ann", true, &ann));
    wire_init(&w, ann, node);
    wire_handshake(&w, 100000);
    EXPECT_FALSE(w.server_up);
    EXPECT_TRUE(mentions(w.server_st, "another name; expected name node"));
    EXPECT_TRUE(mentions(w.client_st, "the peer refuses us"));
    wire_deinit(&w);
    wire_init(&w, node, ann);
    wire_handshake(&w, 100000);
    EXPECT_FALSE(w.client_up);
    /* The library does not even offer it as a server's. */
    EXPECT_TRUE(mentions(w.client_st, "the handshake failed"));
    wire_deinit(&w);
    tls_config_release(node);
    tls_config_release(ann);
    certs_deinit(&certs);
}

/* As for SQL clients: a certificate is welcome but not asked for. */
TEST(tls, server_without_mutual_takes_clients_without_certificate)
{
    struct tls_config_options o = {.server = true};
    struct tls_config *server = NULL;
    struct tls_config *anonymous = NULL;
    struct tls_config *mutual = NULL;
    struct certs certs;
    struct wire w;

    certs_init(&certs);
    o.ca_file = certs_path(&certs, "ca.crt");
    o.cert_file = certs_path(&certs, "node.crt");
    o.key_file = certs_path(&certs, "node.key");
    EXPECT_OK(tls_config_load(&o, &certs.arena, &server));
    EXPECT_OK(
        tls_config_load(&(struct tls_config_options){.ca_file = o.ca_file, .expect_name = "node"},
                        &certs.arena, &anonymous));
    EXPECT_OK(certs_config(&certs, "node", true, &mutual));
    wire_init(&w, anonymous, server);
    wire_handshake(&w, 100000);
    EXPECT_TRUE(w.client_up && w.server_up);
    EXPECT_TRUE(tls_session_peer_name(w.server) == NULL);
    wire_deinit(&w);

    wire_init(&w, anonymous, mutual);
    wire_handshake(&w, 100000);
    EXPECT_FALSE(w.server_up);
    EXPECT_TRUE(mentions(w.server_st, "no certificate"));
    wire_deinit(&w);
    EXPECT_CODE(STATUS_INVALID, tls_session_create_as(anonymous, true, &w.server));
    tls_config_release(server);
    tls_config_release(anonymous);
    tls_config_release(mutual);
    certs_deinit(&certs);
}

TEST(tls, garbage_and_changed_bytes_are_errors)
{
    struct tls_config *config = NULL;
    struct certs certs;
    struct wire w;

    certs_init(&certs);
    EXPECT_OK(certs_config(&certs, "node", true, &config));
    wire_init(&w, config, config);
    EXPECT_OK(buf_append_str(&w.to_server, "GET / HTTP/1.1\r\n\r\n"));
    wire_pump(&w, 100000);
    EXPECT_CODE(STATUS_INVALID, w.server_st);
    EXPECT_TRUE(mentions(w.server_st, "no TLS handshake was possible"));
    wire_deinit(&w);

    wire_init(&w, config, config);
    wire_handshake(&w, 100000);
    EXPECT_OK(tls_session_output(w.client, BYTES_LIT("secret"), &w.to_server));
    w.to_server.ptr[w.to_server.len - 1] ^= 1;
    wire_pump(&w, 100000);
    EXPECT_CODE(STATUS_INVALID, w.server_st);
    EXPECT_EQ(0, w.at_server.len);
    wire_deinit(&w);
    tls_config_release(config);
    certs_deinit(&certs);
}

TEST(tls, files_that_do_not_do_are_named)
{
    struct tls_config *config = NULL;
    struct tls_config_options o = {.server = true};
    struct certs certs;
    struct certs other;
    struct status st = OK;

    certs_init(&certs);
    certs_init(&other);
    o.ca_file = certs_path(&certs, "ca.crt");
    o.cert_file = certs_path(&certs, "missing.crt");
    o.key_file = certs_path(&certs, "node.key");
    st = tls_config_load(&o, &certs.arena, &config);
    EXPECT_CODE(STATUS_IO, st);
    EXPECT_TRUE(mentions(st, "missing.crt"));
    EXPECT_TRUE(config == NULL);

    o.cert_file = certs_path(&certs, "node.key");
    st = tls_config_load(&o, &certs.arena, &config);
    EXPECT_CODE(STATUS_INVALID, st);

    o.cert_file = certs_path(&certs, "node.crt");
    o.key_file = certs_path(&other, "node.key");
    st = tls_config_load(&o, &certs.arena, &config);
    EXPECT_CODE(STATUS_INVALID, st);
    EXPECT_TRUE(mentions(st, "does not belong"));

    o.key_file = certs_path(&certs, "node.key");
    EXPECT_EQ(0, chmod(o.key_file, 0604));
    st = tls_config_load(&o, &certs.arena, &config);
    EXPECT_CODE(STATUS_INVALID, st);
    EXPECT_TRUE(mentions(st, "0600"));

    o.key_file = certs_path(&certs, "missing.key");
    EXPECT_CODE(STATUS_IO, tls_config_load(&o, &certs.arena, &config));
    o = (struct tls_config_options){.server = true};
    EXPECT_CODE(STATUS_INVALID, tls_config_load(&o, &certs.arena, &config));
    o = (struct tls_config_options){.server = false};
    EXPECT_CODE(STATUS_INVALID, tls_config_load(&o, &certs.arena, &config));
    certs_deinit(&certs);
    certs_deinit(&other);
}
