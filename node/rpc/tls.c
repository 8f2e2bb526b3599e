/*
 * tls.c -- mbedTLS 2.28 behind tls.h: TLS 1.2, ECDHE on P-256, AEAD suites, tickets.
 *
 * The library wants a blocking pair of send and receive functions. Ours read from the bytes of the
 * present call and write into the caller's buffer; when the bytes are used up they say "would block",
 * upon which the library returns and keeps what it has. So a session is a pure transformation, and
 * the caller decides when to read and write.
 *
 * Names are checked by ourselves, in the hook that the library calls for each certificate of the
 * chain: it can check names only in servers' certificates, and a node must also know that the peer
 * that dialled it is a node and not a client with a certificate of the same CA.
 *
 * Cost: a full handshake is some 7 ms of elliptic curves on each side, and it runs on the shard's
 * thread. Nodes therefore resume (0.1 ms); connections are long-lived. Moving the handshake to the
 * io lane is possible because a session knows no sockets.
 *
 * Randomness is not the env's: keys may not come from a seed. The simulator has no TLS.
 */
#include "node/rpc/tls.h"

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/oid.h>
#include <mbedtls/pk.h>
#include <mbedtls/ssl.h>
#include <mbedtls/ssl_ticket.h>
#include <mbedtls/x509_crt.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>

#include "node/base/arena.h"
#include "node/base/invariant.h"

#define PERSONALISATION    "dsql tls"
#define TICKET_LIFETIME_S  3600u /* Also bounds how long an expired certificate may resume. */
#define RECORD_PLAIN_MAX   16384u
#define ERROR_TEXT_MAX     320u
#define PEER_NAME_MAX      128u
#define ALERT_BYTES        2u
#define SAN_TAG_DNS        (MBEDTLS_ASN1_CONTEXT_SPECIFIC | 2)
#define MODE_OTHERS        (S_IRWXO | S_IWGRP)
#define MODE_GROUP_READ    S_IRGRP
#define ALERT_UNSUPPORTED  43
#define ALERT_CERT_MISSING 116

struct tls_config {
    uint32_t refs;
    bool server;
    char *expect_name; /* NULL: any. */
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
    mbedtls_x509_crt ca;
    mbedtls_x509_crt cert;
    mbedtls_pk_context key;
    mbedtls_ssl_ticket_context tickets;
    mbedtls_ssl_config as_server;
    mbedtls_ssl_config as_client;
    bool has_ca;
    bool has_cert;
};

struct tls_session {
    struct tls_config *config;
    mbedtls_ssl_context ssl;
    bool server;
    bool established;
    bool ticket_taken;
    struct bytes in;    /* What is left of the present input. */
    struct buf *wire;   /* Of the present call. */
    struct status over; /* OK while the session works. */
    char error[ERROR_TEXT_MAX];
    char peer_name[PEER_NAME_MAX];
};

struct tls_ticket {
    mbedtls_ssl_session session;
};

static const mbedtls_ecp_group_id curves[] = {MBEDTLS_ECP_DP_SECP256R1, MBEDTLS_ECP_DP_NONE};

static const int suites[] = {
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    MBEDTLS_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    0,
};

static NOYIELD struct status load_all(struct tls_config *c, const struct tls_config_options *o,
                                      struct arena *msgs);
static NOYIELD int bio_send(void *ctx, const unsigned char *data, size_t size);
static NOYIELD int bio_receive(void *ctx, unsigned char *out, size_t size);

/* --- Config -------------------------------------------------------------------------------- */

struct status tls_config_load(const struct tls_config_options *o, struct arena *msg_arena,
                              struct tls_config **out)
{
    struct tls_config *c = calloc(1, sizeof(*c));
    struct status st = OK;

    *out = NULL;
    if (c == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    c->refs = 1;
    c->server = o->server;
    mbedtls_entropy_init(&c->entropy);
    mbedtls_ctr_drbg_init(&c->random);
    mbedtls_x509_crt_init(&c->ca);
    mbedtls_x509_crt_init(&c->cert);
    mbedtls_pk_init(&c->key);
    mbedtls_ssl_ticket_init(&c->tickets);
    mbedtls_ssl_config_init(&c->as_server);
    mbedtls_ssl_config_init(&c->as_client);
    TRY_OUT(load_all(c, o, msg_arena));
    *out = c;
    c = NULL;
out:
    tls_config_release(c);
    return st;
}

void tls_config_release(struct tls_config *c)
{
    if (c == NULL) {
        return;
    }
    INVARIANT(c->refs > 0);
    if (--c->refs > 0) {
        return;
    }
    mbedtls_ssl_config_free(&c->as_server);
    mbedtls_ssl_config_free(&c->as_client);
    mbedtls_ssl_ticket_free(&c->tickets);
    mbedtls_pk_free(&c->key);
    mbedtls_x509_crt_free(&c->cert);
    mbedtls_x509_crt_free(&c->ca);
    mbedtls_ctr_drbg_free(&c->random);
    mbedtls_entropy_free(&c->entropy);
    free(c->expect_name);
    free(c);
}

static NOYIELD struct status load_failed(struct arena *msgs, const char *what, const char *file,
                                         int code)
{
    char text[128] = "";

    mbedtls_strerror(code, text, sizeof(text));
    return FAIL(code == MBEDTLS_ERR_PK_FILE_IO_ERROR || code == MBEDTLS_ERR_X509_FILE_IO_ERROR
                    ? STATUS_IO
                    : STATUS_INVALID,
                arena_printf(msgs, "could not read the %s \"%s\": %s", what, file,
                             code > 0 ? "it holds no valid certificate" : text));
}

static NOYIELD struct status load_certificates(struct arena *msgs, const char *what,
                                               const char *file, mbedtls_x509_crt *out)
{
    const int rc = mbedtls_x509_crt_parse_file(out, file);

    return rc == 0 ? OK : load_failed(msgs, what, file, rc);
}

/* A group may read what root gave it to read, as with PostgreSQL's server.key. */
static NOYIELD struct status load_key(struct tls_config *c, const char *file, struct arena *msgs)
{
    struct stat info;
    int rc = 0;

    /* lint-allow(banned): at start-up, next to a library that reads the file by its name as well. */
    if (stat(file, &info) != 0) {
        return FAIL(STATUS_IO, arena_printf(msgs,
                                            "could not read the key \"%s\": no such file, or "
                                            "no permission",
                                            file));
    }
    if ((info.st_mode & MODE_OTHERS) != 0 ||
        ((info.st_mode & MODE_GROUP_READ) != 0 && info.st_uid != 0)) {
        return FAIL(
            STATUS_INVALID,
            arena_printf(msgs, "the key \"%s\" may be read by others: use mode 0600", file));
    }
    rc = mbedtls_pk_parse_keyfile(&c->key, file, NULL);
    if (rc != 0) {
        return load_failed(msgs, "key", file, rc);
    }
    if (mbedtls_pk_check_pair(&c->cert.pk, &c->key) != 0) {
        return FAIL(STATUS_INVALID,
                    arena_printf(msgs, "the key \"%s\" does not belong to the certificate", file));
    }
    return OK;
}

static NOYIELD struct status load_files(struct tls_config *c, const struct tls_config_options *o,
                                        struct arena *msgs)
{
    if (o->ca_file == NULL && (!o->server || o->require_peer_cert || o->expect_name != NULL)) {
        return FAIL(STATUS_INVALID, "peers cannot be verified without a CA certificate");
    }
    if (o->server && o->cert_file == NULL) {
        return FAIL(STATUS_INVALID, "a TLS server needs a certificate");
    }
    if (o->cert_file != NULL && o->key_file == NULL) {
        return FAIL(STATUS_INVALID, "a certificate needs its key");
    }
    if (o->ca_file != NULL) {
        TRY(load_certificates(msgs, "CA certificate", o->ca_file, &c->ca));
        c->has_ca = true;
    }
    if (o->cert_file != NULL) {
        TRY(load_certificates(msgs, "certificate", o->cert_file, &c->cert));
        TRY(load_key(c, o->key_file, msgs));
        c->has_cert = true;
    }
    return OK;
}

static NOYIELD bool carries_name(const mbedtls_x509_crt *crt, const char *name)
{
    const size_t len = strlen(name);

    if ((crt->ext_types & MBEDTLS_X509_EXT_SUBJECT_ALT_NAME) == 0) {
        return false;
    }
    for (const mbedtls_x509_sequence *s = &crt->subject_alt_names; s != NULL; s = s->next) {
        if (s->buf.tag == SAN_TAG_DNS && s->buf.len == len &&
            strncasecmp((const char *)s->buf.p, name, len) == 0) {
            return true;
        }
    }
    return false;
}

/* Hook of the library: once per certificate of the chain; depth 0 is the peer's own. */
static int verify_name(void *ctx, mbedtls_x509_crt *crt, int depth, uint32_t *flags)
{
    const struct tls_config *c = ctx;

    if (depth == 0 && c->expect_name != NULL && !carries_name(crt, c->expect_name)) {
        *flags |= MBEDTLS_X509_BADCERT_CN_MISMATCH;
    }
    return 0;
}

static NOYIELD int configure_role(struct tls_config *c, mbedtls_ssl_config *conf, int endpoint,
                                  int auth)
{
    const int rc = mbedtls_ssl_config_defaults(conf, endpoint, MBEDTLS_SSL_TRANSPORT_STREAM,
                                               MBEDTLS_SSL_PRESET_DEFAULT);

    if (rc != 0) {
        return rc;
    }
    mbedtls_ssl_conf_rng(conf, mbedtls_ctr_drbg_random, &c->random);
    mbedtls_ssl_conf_min_version(conf, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
    mbedtls_ssl_conf_curves(conf, curves);
    mbedtls_ssl_conf_ciphersuites(conf, suites);
    mbedtls_ssl_conf_authmode(conf, auth);
    mbedtls_ssl_conf_verify(conf, verify_name, c);
    if (c->has_ca) {
        mbedtls_ssl_conf_ca_chain(conf, &c->ca, NULL);
    }
    return c->has_cert ? mbedtls_ssl_conf_own_cert(conf, &c->cert, &c->key) : 0;
}

static NOYIELD int configure(struct tls_config *c, const struct tls_config_options *o)
{
    const int server_auth = o->require_peer_cert ? MBEDTLS_SSL_VERIFY_REQUIRED
                            : c->has_ca          ? MBEDTLS_SSL_VERIFY_OPTIONAL
                                                 : MBEDTLS_SSL_VERIFY_NONE;
    int rc =
        mbedtls_ctr_drbg_seed(&c->random, mbedtls_entropy_func, &c->entropy,
                              (const unsigned char *)PERSONALISATION, sizeof(PERSONALISATION) - 1);

    if (rc == 0 && c->has_cert) {
        rc = configure_role(c, &c->as_server, MBEDTLS_SSL_IS_SERVER, server_auth);
    }
    if (rc == 0 && c->has_ca) {
        rc = configure_role(c, &c->as_client, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_VERIFY_REQUIRED);
    }
    if (rc == 0) {
        rc = mbedtls_ssl_ticket_setup(&c->tickets, mbedtls_ctr_drbg_random, &c->random,
                                      MBEDTLS_CIPHER_AES_256_GCM, TICKET_LIFETIME_S);
    }
    if (rc == 0) {
        mbedtls_ssl_conf_session_tickets_cb(&c->as_server, mbedtls_ssl_ticket_write,
                                            mbedtls_ssl_ticket_parse, &c->tickets);
    }
    return rc;
}

static struct status load_all(struct tls_config *c, const struct tls_config_options *o,
                              struct arena *msgs)
{
    int rc = 0;

    if (o->expect_name != NULL) {
        c->expect_name = strdup(o->expect_name);
        if (c->expect_name == NULL) {
            return FAIL(STATUS_MEMORY, "out of memory");
        }
    }
    TRY(load_files(c, o, msgs));
    rc = configure(c, o);
    if (rc != 0) {
        char text[128] = "";

        mbedtls_strerror(rc, text, sizeof(text));
        return FAIL(STATUS_INVALID, arena_printf(msgs, "could not set up TLS: %s", text));
    }
    return OK;
}

/* --- Session ------------------------------------------------------------------------------- */

struct status tls_session_create(struct tls_config *c, struct tls_session **out)
{
    return tls_session_create_as(c, c->server, out);
}

struct status tls_session_create_as(struct tls_config *c, bool server, struct tls_session **out)
{
    struct tls_session *s = NULL;

    *out = NULL;
    if (server ? !c->has_cert : !c->has_ca) {
        return FAIL(STATUS_INVALID, "this TLS configuration cannot take that role");
    }
    s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    s->server = server;
    s->config = c;
    c->refs++;
    mbedtls_ssl_init(&s->ssl);
    if (mbedtls_ssl_setup(&s->ssl, server ? &c->as_server : &c->as_client) != 0 ||
        (!server && mbedtls_ssl_set_hostname(&s->ssl, c->expect_name) != 0)) {
        tls_session_destroy(s);
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    mbedtls_ssl_set_bio(&s->ssl, s, bio_send, bio_receive, NULL);
    *out = s;
    return OK;
}

void tls_session_destroy(struct tls_session *s)
{
    if (s == NULL) {
        return;
    }
    mbedtls_ssl_free(&s->ssl);
    tls_config_release(s->config);
    free(s);
}

static int bio_send(void *ctx, const unsigned char *data, size_t size)
{
    struct tls_session *s = ctx;

    INVARIANT(s->wire != NULL);
    if (size > INT32_MAX || !status_ok(buf_append(s->wire, data, size))) {
        return MBEDTLS_ERR_SSL_ALLOC_FAILED;
    }
    return (int)size;
}

static int bio_receive(void *ctx, unsigned char *out, size_t size)
{
    struct tls_session *s = ctx;
    const size_t n = size < s->in.len ? size : s->in.len;

    if (n == 0) {
        return MBEDTLS_ERR_SSL_WANT_READ;
    }
    memcpy(out, s->in.ptr, n);
    s->in = bytes_skip(s->in, n);
    return (int)n;
}

/* The gravest reason of several. */
static NOYIELD const char *certificate_problem(uint32_t flags)
{
    static const struct {
        uint32_t flag;
        const char *text;
    } problems[] = {
        {MBEDTLS_X509_BADCERT_MISSING, "it is missing"},
        {MBEDTLS_X509_BADCERT_NOT_TRUSTED, "it was not signed by our certificate authority"},
        {MBEDTLS_X509_BADCERT_REVOKED, "it was revoked"},
        {MBEDTLS_X509_BADCERT_EXPIRED, "it has expired"},
        {MBEDTLS_X509_BADCERT_FUTURE, "it is not valid yet"},
        {MBEDTLS_X509_BADCERT_EXT_KEY_USAGE, "it may not be used for this purpose"},
        {MBEDTLS_X509_BADCERT_KEY_USAGE, "it may not be used for this purpose"},
        {MBEDTLS_X509_BADCERT_CN_MISMATCH, "it carries another name"},
    };

    for (size_t i = 0; i < ARRAY_COUNT(problems); i++) {
        if ((flags & problems[i].flag) != 0) {
            return problems[i].text;
        }
    }
    return "it fails the checks";
}

static NOYIELD const char *alert_meaning(int alert)
{
    switch (alert) {
    case MBEDTLS_SSL_ALERT_MSG_UNKNOWN_CA:
        return "it does not trust the authority that signed our certificate";
    case MBEDTLS_SSL_ALERT_MSG_CERT_EXPIRED:
        return "our certificate has expired";
    case MBEDTLS_SSL_ALERT_MSG_NO_CERT:
    case ALERT_CERT_MISSING:
        return "it wants a certificate from us";
    case MBEDTLS_SSL_ALERT_MSG_BAD_CERT:
    case ALERT_UNSUPPORTED:
    case MBEDTLS_SSL_ALERT_MSG_CERT_REVOKED:
    case MBEDTLS_SSL_ALERT_MSG_CERT_UNKNOWN:
    case MBEDTLS_SSL_ALERT_MSG_ACCESS_DENIED:
        return "it does not accept our certificate";
    case MBEDTLS_SSL_ALERT_MSG_PROTOCOL_VERSION:
        return "it wants another version of TLS";
    default: /* A number from the wire. */
        return "the handshake failed";
    }
}

static NOYIELD struct status session_fail(struct tls_session *s, enum status_code code)
{
    s->over = FAIL(code, s->error);
    return s->over;
}

static NOYIELD struct status session_failed(struct tls_session *s, int rc)
{
    const uint32_t flags = mbedtls_ssl_get_verify_result(&s->ssl);
    char text[128] = "";

    if (rc == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY || rc == 0) {
        (void)snprintf(s->error, sizeof(s->error), "the peer ended the TLS session");
        return session_fail(s, STATUS_CLOSED);
    }
    if (rc == MBEDTLS_ERR_SSL_ALLOC_FAILED) {
        (void)snprintf(s->error, sizeof(s->error), "no memory for TLS");
        return session_fail(s, STATUS_MEMORY);
    }
    if (rc == MBEDTLS_ERR_SSL_NO_CLIENT_CERTIFICATE) {
        (void)snprintf(s->error, sizeof(s->error), "the peer shows no certificate");
    } else if (rc == MBEDTLS_ERR_X509_CERT_VERIFY_FAILED) {
        (void)snprintf(s->error, sizeof(s->error), "the peer's certificate is refused: %s%s%s",
                       certificate_problem(flags),
                       s->config->expect_name == NULL ? "" : "; expected name ",
                       s->config->expect_name == NULL ? "" : s->config->expect_name);
    } else if (rc == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE && s->ssl.in_msg != NULL &&
               s->ssl.in_msglen >= ALERT_BYTES) {
        (void)snprintf(s->error, sizeof(s->error), "the peer refuses us: %s (alert %d)",
                       alert_meaning(s->ssl.in_msg[1]), s->ssl.in_msg[1]);
    } else {
        mbedtls_strerror(rc, text, sizeof(text));
        (void)snprintf(s->error, sizeof(s->error), "%s: %s",
                       s->established ? "broken TLS data" : "no TLS handshake was possible", text);
    }
    return session_fail(s, STATUS_INVALID);
}

static NOYIELD void remember_peer_name(struct tls_session *s)
{
    const mbedtls_x509_crt *crt = mbedtls_ssl_get_peer_cert(&s->ssl);

    for (const mbedtls_x509_name *n = crt == NULL ? NULL : &crt->subject; n != NULL; n = n->next) {
        if (MBEDTLS_OID_CMP(MBEDTLS_OID_AT_CN, &n->oid) == 0 && n->val.len < PEER_NAME_MAX &&
            memchr(n->val.p, 0, n->val.len) == NULL) {
            memcpy(s->peer_name, n->val.p, n->val.len);
            s->peer_name[n->val.len] = '\0';
        }
    }
}

static NOYIELD struct status handshake(struct tls_session *s)
{
    const int rc = mbedtls_ssl_handshake(&s->ssl);
    uint32_t flags = 0;

    if (rc == MBEDTLS_ERR_SSL_WANT_READ) {
        return OK;
    }
    if (rc != 0) {
        return session_failed(s, rc);
    }
    /* A certificate that is optional is still refused when it is shown and wrong. */
    flags = mbedtls_ssl_get_verify_result(&s->ssl);
    if (mbedtls_ssl_get_peer_cert(&s->ssl) != NULL && flags != 0) {
        return session_failed(s, MBEDTLS_ERR_X509_CERT_VERIFY_FAILED);
    }
    s->established = true;
    remember_peer_name(s);
    return OK;
}

static NOYIELD struct status read_plain(struct tls_session *s, struct buf *plain)
{
    for (;;) {
        int rc = 0;

        TRY(buf_reserve(plain, RECORD_PLAIN_MAX));
        rc = mbedtls_ssl_read(&s->ssl, plain->ptr + plain->len, RECORD_PLAIN_MAX);
        if (rc == MBEDTLS_ERR_SSL_WANT_READ) {
            return OK;
        }
        if (rc <= 0) {
            return session_failed(s, rc);
        }
        plain->len += (size_t)rc;
    }
}

struct status tls_session_input(struct tls_session *s, struct bytes from_peer, struct buf *plain,
                                struct buf *wire, bool *established)
{
    struct status st = s->over;

    s->in = from_peer;
    s->wire = wire;
    if (status_ok(st) && !s->established) {
        st = handshake(s);
    }
    if (status_ok(st) && s->established) {
        st = read_plain(s, plain);
    }
    s->in = BYTES_EMPTY;
    s->wire = NULL;
    *established = s->established && status_ok(s->over);
    return st;
}

struct status tls_session_output(struct tls_session *s, struct bytes plain, struct buf *wire)
{
    struct status st = s->over;

    if (!s->established) {
        return FAIL(STATUS_CLOSED, "the TLS session is not established");
    }
    s->wire = wire;
    while (status_ok(st) && plain.len > 0) {
        const int rc = mbedtls_ssl_write(&s->ssl, plain.ptr, plain.len);

        if (rc <= 0) {
            st = session_failed(s, rc);
        } else {
            plain = bytes_skip(plain, (size_t)rc);
        }
    }
    s->wire = NULL;
    return st;
}

const char *tls_session_peer_name(const struct tls_session *s)
{
    return s->peer_name[0] == '\0' ? NULL : s->peer_name;
}

struct tls_ticket *tls_session_take_ticket(struct tls_session *s)
{
    struct tls_ticket *t = NULL;

    if (s->server || !s->established || s->ticket_taken) {
        return NULL;
    }
    t = calloc(1, sizeof(*t));
    if (t == NULL) {
        return NULL;
    }
    mbedtls_ssl_session_init(&t->session);
    if (mbedtls_ssl_get_session(&s->ssl, &t->session) != 0 || t->session.ticket_len == 0) {
        tls_ticket_destroy(t);
        return NULL;
    }
    s->ticket_taken = true;
    return t;
}

void tls_session_resume(struct tls_session *s, const struct tls_ticket *t)
{
    INVARIANT(!s->server);
    INVARIANT(!s->established);
    /* Without it the handshake is a full one: nothing to report. */
    (void)mbedtls_ssl_set_session(&s->ssl, &t->session);
}

void tls_ticket_destroy(struct tls_ticket *t)
{
    if (t == NULL) {
        return;
    }
    mbedtls_ssl_session_free(&t->session);
    free(t);
}
