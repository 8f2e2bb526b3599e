/*
 * startup.c -- from the first byte of a stranger to a session.
 *
 *     SSLRequest / GSSENCRequest (a few)  ->  N, or S and a TLS handshake
 *     CancelRequest                       ->  deliver, close
 *     StartupMessage                      ->  who are you, may you come in, settings
 *                                         ->  AuthenticationOk, parameters, key, ReadyForQuery
 *
 * Until then a client may send PGWIRE_LOGIN_BYTES_MAX bytes and take PGWIRE_LOGIN_NS. Plain bytes
 * behind an SSLRequest would be read as if they had come through TLS (CVE-2021-23214): whoever sends
 * some is refused.
 *
 * There are two ways in so far, pgwire.h names them. There is one database; it answers to every
 * name, so that the defaults of clients (database = user) work.
 */
#include "node/base/log.h"
#include "node/pgwire/pgwire_internal.h"
#include "node/pgwire/wire_msg.h"
#include "node/rpc/tls.h"

#define NEGOTIATIONS_MAX   4u
#define TLS_HANDSHAKE_BYTE 0x16

static const struct conn_idle starting = {.between = true, .deadline_ns = DEADLINE_NONE};

struct login {
    const char *user;
    const char *database;
    const char *options;
    uint32_t minor;
    uint32_t unknown_count; /* Names that start with _pq_. */
};

static void fatal(struct conn *c, const char *sqlstate, const char *message)
{
    protocol__fatal(c, sqlstate, message);
}

/* One byte, not a message. */
static bool answer_byte(struct conn *c, char byte)
{
    struct wire_work *w = conn__work(c);

    if (w == NULL) {
        return false;
    }
    wire_out_u8(&w->out, (uint8_t)byte);
    return status_ok(conn__send(c));
}

/* The whole packet, copied into the arena of the connection and consumed. */
static MAYYIELD bool read_packet(struct conn *c, struct bytes *packet)
{
    struct bytes in = BYTES_EMPTY;
    struct status st = OK;
    size_t length = 0;

    if (!status_ok(conn__wait_bytes(c, 1, &starting, &in))) {
        return false;
    }
    if (in.ptr[0] == TLS_HANDSHAKE_BYTE && c->tls == NULL && c->p->o.tls != NULL &&
        !status_ok(conn__start_tls(c))) {
        return false;
    }
    if (!status_ok(conn__wait_bytes(c, 4, &starting, &in))) {
        return false;
    }
    st = wire_startup_length(in, &length);
    if (!status_ok(st)) {
        fatal(c, "08P01", st.msg);
        return false;
    }
    if (!status_ok(conn__wait_bytes(c, length, &starting, &in)) ||
        !status_ok(bytes_dup(&c->work->arena, bytes_of(in.ptr, length), packet))) {
        return false;
    }
    conn__consume(c, length);
    return true;
}

static bool answer_ssl(struct conn *c)
{
    if (c->p->o.tls == NULL || c->tls != NULL) {
        return answer_byte(c, 'N');
    }
    if (!conn__all_consumed(c)) {
        fatal(c, "08P01", "received unencrypted data after SSL request");
        return false;
    }
    return answer_byte(c, 'S') && status_ok(conn__start_tls(c));
}

/* False: over. */
static MAYYIELD bool read_startup(struct conn *c, struct wire_startup *out)
{
    for (uint32_t i = 0; i < NEGOTIATIONS_MAX; i++) {
        struct bytes packet = BYTES_EMPTY;
        struct status st = OK;

        if (!read_packet(c, &packet)) {
            return false;
        }
        st = wire_startup_parse(packet, out);
        if (!status_ok(st)) {
            fatal(c, "08P01", st.msg);
            return false;
        }
        if (out->code == WIRE_CANCEL_REQUEST) {
            pgwire__cancel(c->p, out->cancel_pid, out->cancel_key);
            return false;
        }
        if (out->code == WIRE_SSL_REQUEST) {
            if (!answer_ssl(c)) {
                return false;
            }
        } else if (out->code == WIRE_GSS_REQUEST) {
            if (!answer_byte(c, 'N')) {
                return false;
            }
        } else if (out->code >> 16 != WIRE_VERSION_MAJOR) {
            fatal(c, "0A000", "unsupported frontend protocol: server supports 3.0");
            return false;
        } else {
            return true;
        }
    }
    fatal(c, "08P01", "too many requests before the startup packet");
    return false;
}

static bool is_protocol_option(const char *name)
{
    return strncmp(name, "_pq_.", 5) == 0;
}

static bool read_login(struct conn *c, const struct wire_startup *s, struct login *out)
{
    struct bytes rest = s->params;
    const char *name = NULL;
    const char *value = NULL;

    *out = (struct login){.minor = s->code & 0xffff};
    while (wire_startup_param(&rest, &name, &value)) {
        if (strcmp(name, "user") == 0) {
            out->user = value;
        } else if (strcmp(name, "database") == 0) {
            out->database = value;
        } else if (strcmp(name, "options") == 0) {
            out->options = value;
        } else if (strcmp(name, "replication") == 0) {
            if (strcmp(value, "false") != 0 && strcmp(value, "0") != 0 &&
                strcmp(value, "off") != 0 && strcmp(value, "no") != 0) {
                fatal(c, "0A000", "replication connections are not supported yet");
                return false;
            }
        } else if (is_protocol_option(name)) {
            out->unknown_count++;
        }
    }
    if (out->user == NULL || out->user[0] == 0) {
        fatal(c, "28000", "no PostgreSQL user name specified in startup packet");
        return false;
    }
    if (out->database == NULL || out->database[0] == 0) {
        out->database = out->user;
    }
    return true;
}

static bool authenticate(struct conn *c, const struct login *l)
{
    struct arena *arena = &c->work->arena;
    struct env_address peer = {0};
    const char *name = NULL;

    switch (c->p->o.auth) {
    case PGWIRE_AUTH_TRUST_LOOPBACK:
        env_stream_peer(c->p->env, c->stream, &peer);
        if (env_host_is_loopback(peer.host)) {
            return true;
        }
        fatal(c, "28000",
              arena_printf(arena, "no way to log in from host \"%s\": only local clients may",
                           peer.host));
        break;
    case PGWIRE_AUTH_CERT:
        if (c->tls == NULL) {
            fatal(c, "28000", "this server wants TLS with a client certificate");
            break;
        }
        name = tls_session_peer_name(c->tls);
        if (name == NULL) {
            fatal(c, "28000", "connection requires a valid client certificate");
            break;
        }
        if (strcmp(name, l->user) == 0) {
            return true;
        }
        fatal(c, "28000",
              arena_printf(arena, "certificate authentication failed for user \"%s\"", l->user));
        break;
    }
    LOG_INFO("pgwire.login_refused", REDACT("user", bytes_str(l->user)));
    return false;
}

static bool set_parameter(struct conn *c, const char *name, const char *value)
{
    struct sql_error err = {.position = -1};

    if (session_set_parameter(c->session, name, value, &c->work->arena, &err)) {
        return true;
    }
    err.severity = SQL_FATAL;
    wire_out_error(&c->work->out, &err, BYTES_EMPTY);
    conn__send_last(c);
    return false;
}

/* `options` first, so that parameters of their own win. */
static bool set_parameters(struct conn *c, const struct wire_startup *s, const struct login *l)
{
    const char *rest = l->options == NULL ? "" : l->options;
    struct bytes params = s->params;
    const char *name = NULL;
    const char *value = NULL;

    while (wire_options_next(&rest, &c->work->arena, &name, &value)) {
        if (name[0] == 0) {
            fatal(c, "42601", "invalid command-line argument in parameter \"options\"");
            return false;
        }
        if (!set_parameter(c, name, value)) {
            return false;
        }
    }
    while (wire_startup_param(&params, &name, &value)) {
        if (strcmp(name, "user") != 0 && strcmp(name, "database") != 0 &&
            strcmp(name, "options") != 0 && strcmp(name, "replication") != 0 &&
            !is_protocol_option(name) && !set_parameter(c, name, value)) {
            return false;
        }
    }
    return true;
}

static void tell_version(struct conn *c, const struct wire_startup *s, const struct login *l)
{
    struct wire_out *o = &c->work->out;
    struct bytes params = s->params;
    const char *name = NULL;
    const char *value = NULL;

    if (l->minor == 0 && l->unknown_count == 0) {
        return;
    }
    wire_out_begin(o, 'v');
    wire_out_u32(o, 0); /* Newest minor version that we speak. */
    wire_out_u32(o, l->unknown_count);
    while (wire_startup_param(&params, &name, &value)) {
        if (is_protocol_option(name)) {
            wire_out_cstring(o, name);
        }
    }
    wire_out_end(o);
}

static void welcome(struct conn *c)
{
    struct wire_out *o = &c->work->out;
    const char *name = NULL;
    const char *value = NULL;

    wire_out_begin(o, 'R');
    wire_out_u32(o, 0);
    wire_out_end(o);
    for (uint32_t i = 0; session_reported_parameter(c->session, i, &name, &value); i++) {
        wire_out_parameter(o, name, value);
    }
    wire_out_begin(o, 'K');
    wire_out_u32(o, c->pid);
    wire_out_u32(o, c->key);
    wire_out_end(o);
    wire_out_ready(o, session_txn_state(c->session));
}

static bool open_session(struct conn *c, const struct wire_startup *s, const struct login *l)
{
    struct session_options options = {.user = l->user, .database = l->database};
    struct status st = pgwire__login(c->p, c);

    if (!status_ok(st)) {
        fatal(c, "53300", st.msg);
        return false;
    }
    options.backend_pid = c->pid;
    st = session_create(c->p->o.sql, &options, &c->session);
    if (!status_ok(st)) {
        fatal(c, "53200", status_text(st));
        return false;
    }
    return set_parameters(c, s, l);
}

bool startup__run(struct conn *c)
{
    struct wire_startup s;
    struct login l;

    if (!read_startup(c, &s) || !read_login(c, &s, &l) || conn__work(c) == NULL) {
        return false;
    }
    if (c->p->stopping) {
        fatal(c, "57P03", "the database system is shutting down");
        return false;
    }
    if (!authenticate(c, &l)) {
        return false;
    }
    tell_version(c, &s, &l);
    if (!open_session(c, &s, &l)) {
        return false;
    }
    welcome(c);
    arena_reset(&c->work->arena);
    return status_ok(conn__flush(c));
}
