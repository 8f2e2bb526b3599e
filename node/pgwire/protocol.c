/*
 * protocol.c -- the conversation after the login.
 *
 * Each message is looked at when it is whole. The extended protocol answers into the output buffer
 * and sends at Sync or Flush; after an error everything up to the Sync is skipped, unread by the
 * session. A Query is answered and sent at once.
 *
 *     Idle --Query--> Idle                      error inside: told, ReadyForQuery all the same
 *     Idle --Parse/Bind/Describe/Execute/Close--> the same, until Sync
 *     ... --error--> skip_to_sync --Sync--> Idle
 *
 * A message that breaks the framing (length, type) ends the connection: nobody knows where the next
 * one would start. A message whose body is wrong is an error like any other.
 */
#include "node/base/codec.h"
#include "node/base/invariant.h"
#include "node/pgwire/pgwire_internal.h"
#include "node/pgwire/wire_msg.h"

#define FRAME_HEAD 5u /* Type and length. */

void protocol__fatal(struct conn *c, const char *sqlstate, const char *message)
{
    struct sql_error err = {.severity = SQL_FATAL, .message = message, .position = -1};
    struct wire_work *w = conn__work(c);

    if (w == NULL) {
        return;
    }
    memcpy(err.sqlstate, sqlstate, sizeof(err.sqlstate));
    if (w->out.failed) { /* Drop the answer that did not fit, keep the reason. */
        w->out.failed = false;
        buf_clear(&w->out.buf);
    }
    wire_out_error(&w->out, &err, BYTES_EMPTY);
    conn__send_last(c);
}

static void error(struct conn *c, const char *sqlstate, const char *message)
{
    struct sql_error err = {.severity = SQL_ERROR, .message = message, .position = -1};

    memcpy(err.sqlstate, sqlstate, sizeof(err.sqlstate));
    wire_out_error(&c->work->out, &err, BYTES_EMPTY);
    sink__foreign(c);
}

/* Sends, with an error of its own when the answer did not fit. */
static MAYYIELD bool flush(struct conn *c)
{
    struct status st = conn__flush(c);

    if (st.code == STATUS_CANCELLED) {
        fiber_clear_cancel(fiber_current()); /* Came too late for its statement. */
        st = conn__flush(c);
    }
    if (st.code == STATUS_MEMORY) {
        protocol__fatal(c, "53200", st.msg);
    }
    return status_ok(st);
}

static MAYYIELD bool ready(struct conn *c)
{
    wire_out_ready(&c->work->out, session_txn_state(c->session));
    sink__foreign(c);
    return flush(c);
}

/* An empty answer such as ParseComplete. */
static void complete(struct conn *c, char type)
{
    wire_out_empty(&c->work->out, type);
    sink__foreign(c);
}

/* A body that cannot be understood. */
static bool malformed(struct conn *c, struct status st)
{
    error(c, st.code == STATUS_MEMORY ? "53200" : "08P01", status_text(st));
    c->skip_to_sync = true;
    return true;
}

static MAYYIELD bool on_query(struct conn *c, struct bytes body)
{
    struct status st = wire_query_parse(body, &c->text);

    if (!status_ok(st)) {
        error(c, "08P01", status_text(st));
        return ready(c);
    }
    c->running = true;
    st = session_simple(c->session, c->text, &c->sink.base);
    c->running = false;
    c->text = BYTES_EMPTY;
    if (!status_ok(st)) {
        (void)flush(c);
        return false;
    }
    return ready(c);
}

static MAYYIELD bool on_parse(struct conn *c, struct bytes body)
{
    struct wire_parse m;
    const struct status st = wire_parse_parse(body, &c->work->arena, &m);

    if (!status_ok(st)) {
        return malformed(c, st);
    }
    c->text = m.text;
    c->running = true;
    c->skip_to_sync =
        !session_parse(c->session, m.name, m.text, m.types, m.types_count, &c->sink.base);
    c->running = false;
    c->text = BYTES_EMPTY;
    if (!c->skip_to_sync) {
        complete(c, '1');
    }
    return true;
}

static MAYYIELD bool on_bind(struct conn *c, struct bytes body)
{
    struct session_bind m;
    const struct status st = wire_bind_parse(body, &c->work->arena, &m);

    if (!status_ok(st)) {
        return malformed(c, st);
    }
    c->running = true;
    c->skip_to_sync = !session_bind(c->session, &m, &c->sink.base);
    c->running = false;
    if (!c->skip_to_sync) {
        complete(c, '2');
    }
    return true;
}

static MAYYIELD bool on_describe(struct conn *c, struct bytes body)
{
    struct session_description d = {0};
    const char *name = NULL;
    char kind = 0;
    const struct status st = wire_target_parse(body, &kind, &name);

    if (!status_ok(st)) {
        return malformed(c, st);
    }
    c->running = true;
    c->skip_to_sync = kind == 'S' ? !session_describe_statement(c->session, name, &d, &c->sink.base)
                                  : !session_describe_portal(c->session, name, &d, &c->sink.base);
    c->running = false;
    if (c->skip_to_sync) {
        return true;
    }
    if (kind == 'S') {
        wire_out_params(&c->work->out, d.params, d.params_count);
    }
    if (d.has_rows) {
        wire_out_row_description(&c->work->out, &d.rows, d.formats,
                                 kind == 'S' ? 0 : d.formats_count);
    } else {
        wire_out_empty(&c->work->out, 'n');
    }
    sink__foreign(c);
    return true;
}

static MAYYIELD bool on_execute(struct conn *c, struct bytes body)
{
    struct session_description d = {0};
    const char *portal = NULL;
    uint64_t rows_max = 0;
    struct status st = wire_execute_parse(body, &portal, &rows_max);

    if (!status_ok(st)) {
        return malformed(c, st);
    }
    c->running = true;
    c->skip_to_sync = !session_describe_portal(c->session, portal, &d, &c->sink.base);
    if (!c->skip_to_sync) {
        st = sink__columns(c, &d.rows, d.formats, d.formats_count);
        c->skip_to_sync =
            !status_ok(st) || !session_execute(c->session, portal, rows_max, &c->sink.base);
    }
    c->running = false;
    return status_ok(st) ? true : malformed(c, st);
}

static bool on_close(struct conn *c, struct bytes body)
{
    const char *name = NULL;
    char kind = 0;
    const struct status st = wire_target_parse(body, &kind, &name);

    if (!status_ok(st)) {
        return malformed(c, st);
    }
    if (kind == 'S') {
        session_close_statement(c->session, name);
    } else {
        session_close_portal(c->session, name);
    }
    complete(c, '3');
    return true;
}

static MAYYIELD bool on_sync(struct conn *c, struct bytes body)
{
    struct status st = OK;

    c->skip_to_sync = false;
    if (body.len != 0) {
        error(c, "08P01", "invalid Sync message");
    }
    c->running = true;
    st = session_sync(c->session, &c->sink.base);
    c->running = false;
    if (!status_ok(st)) {
        (void)flush(c);
        return false;
    }
    return ready(c);
}

static MAYYIELD bool on_function_call(struct conn *c)
{
    error(c, "0A000", "function call messages are not supported yet");
    return ready(c);
}

static MAYYIELD bool dispatch(struct conn *c, char type, struct bytes body)
{
    if (c->skip_to_sync && type != 'S' && type != 'X') {
        return true;
    }
    switch (type) {
    case 'Q':
        return on_query(c, body);
    case 'P':
        return on_parse(c, body);
    case 'B':
        return on_bind(c, body);
    case 'D':
        return on_describe(c, body);
    case 'E':
        return on_execute(c, body);
    case 'C':
        return on_close(c, body);
    case 'S':
        return on_sync(c, body);
    case 'H':
        return flush(c);
    case 'F':
        return on_function_call(c);
    case 'd':
    case 'c':
    case 'f':
        return true; /* COPY that failed before it began: PostgreSQL ignores these as well. */
    default:
        return false; /* 'X': next_message() lets no others through. */
    }
}

/* The next whole message, still in the buffer. False: the connection ends. */
static MAYYIELD bool next_message(struct conn *c, char *type, struct bytes *body)
{
    const char *sqlstate = NULL;
    const char *why = NULL;
    const uint64_t silence_ns = session_idle_timeout_ns(c->session, &sqlstate, &why);
    const struct conn_idle idle = {
        .between = session_txn_state(c->session) == 'I',
        .deadline_ns = silence_ns == 0 ? DEADLINE_NONE : env_mono_ns(c->p->env) + silence_ns,
    };
    struct bytes in = BYTES_EMPTY;
    struct status st = conn__wait_bytes(c, FRAME_HEAD, &idle, &in);
    uint32_t length = 0;

    if (st.code == STATUS_TIMEOUT) {
        protocol__fatal(c, sqlstate, why);
    }
    if (st.code == STATUS_CANCELLED) {
        protocol__fatal(c, "57P01", "terminating connection due to administrator command");
    }
    if (!status_ok(st)) {
        return false;
    }
    *type = (char)in.ptr[0];
    length = be32_get(in.ptr + 1);
    if (*type == 0 || strchr("QPBDECSHFXdcf", *type) == NULL) {
        protocol__fatal(
            c, "08P01",
            arena_printf(&c->work->arena, "invalid frontend message type %u", (unsigned)in.ptr[0]));
        return false;
    }
    if (length < 4 || length > PGWIRE_MESSAGE_MAX) {
        protocol__fatal(c, "08P01", "invalid message length");
        return false;
    }
    if (!status_ok(conn__wait_bytes(c, (size_t)length + 1, NULL, &in))) {
        return false;
    }
    *body = bytes_of(in.ptr + FRAME_HEAD, length - 4);
    return true;
}

void protocol__run(struct conn *c)
{
    struct bytes body = BYTES_EMPTY;
    char type = 0;

    while (next_message(c, &type, &body)) {
        if (!dispatch(c, type, body)) {
            return;
        }
        arena_reset(&c->work->arena);
        conn__consume(c, FRAME_HEAD + body.len);
    }
}
