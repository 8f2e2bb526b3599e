/*
 * sink.c -- answers of a session as messages in the connection's output buffer.
 *
 * What is in the buffer has not been said yet. That makes two promises cheap: a transaction that has
 * to be run again takes its rows back (rewind), and nothing that acknowledges a write leaves before
 * its commit (hold). Both end where the buffer must be sent: a marked transaction may keep
 * WIRE_OUT_RETRY bytes of rows, then they leave and it cannot be run again unseen; a held buffer only
 * leaves when the client asks for it (Flush), or not at all when it is full.
 *
 * Positions are counted from the first byte of the connection, so a mark stays meaningful when the
 * buffer is emptied. Messages that are not the session's own (ParseComplete, BindComplete, ...) behind
 * a mark forbid to rewind it: they answer other messages and would be lost.
 */
#include "node/pgwire/pgwire_internal.h"

static struct conn *conn_of(struct row_sink *s)
{
    return CONTAINER_OF(CONTAINER_OF(s, struct wire_sink, base), struct conn, sink);
}

static struct wire_out *out_of(struct conn *c)
{
    return &c->work->out; /* There is one: the message being answered is in it. */
}

struct status sink__columns(struct conn *c, const struct row_desc *rows, const int16_t *formats,
                            uint16_t formats_count)
{
    struct buf *columns = &c->work->columns;

    c->sink.columns_count = 0;
    buf_clear(columns);
    TRY(buf_reserve(columns, rows->count * sizeof(struct wire_column)));
    for (uint16_t i = 0; i < rows->count; i++) {
        const struct wire_column column = {rows->columns[i].type,
                                           wire_format_of(formats, formats_count, i)};

        TRY(buf_append(columns, &column, sizeof(column)));
    }
    c->sink.columns_count = rows->count;
    return OK;
}

static struct status sink_begin(struct row_sink *s, const struct row_desc *desc)
{
    struct conn *c = conn_of(s);

    TRY(sink__columns(c, desc, NULL, 0));
    wire_out_row_description(out_of(c), desc, NULL, 0);
    return OK;
}

static MAYYIELD struct status sink_rows(struct row_sink *s, const struct row_block *block)
{
    struct conn *c = conn_of(s);
    struct wire_out *o = out_of(c);
    const struct wire_row_format format = {
        .columns = (const struct wire_column *)(const void *)c->work->columns.ptr,
        .count = c->sink.columns_count,
        .settings = session_type_settings(c->session),
    };

    for (uint32_t i = 0; i < block->rows; i++) {
        wire_out_row(o, &format, block, i);
    }
    if (o->failed) {
        return FAIL(STATUS_MEMORY, "answer is too large to be held back until the commit");
    }
    if (c->closed) {
        return FAIL(STATUS_CLOSED, "connection closed");
    }
    if (!c->sink.held && o->buf.len >= (c->sink.marked ? WIRE_OUT_RETRY : WIRE_OUT_FLUSH)) {
        return conn__flush(c);
    }
    return OK;
}

static void sink_done(struct row_sink *s, const char *tag)
{
    struct wire_out *o = out_of(conn_of(s));

    if (tag == NULL) {
        wire_out_empty(o, 's');
    } else if (tag[0] == 0) {
        wire_out_empty(o, 'I');
    } else {
        wire_out_command(o, tag);
    }
}

static void sink_error(struct row_sink *s, const struct sql_error *err)
{
    struct conn *c = conn_of(s);

    wire_out_error(out_of(c), err, c->text);
}

static void sink_parameter(struct row_sink *s, const char *name, const char *value)
{
    wire_out_parameter(out_of(conn_of(s)), name, value);
}

static uint64_t position(struct conn *c)
{
    return c->sink.sent + out_of(c)->buf.len;
}

static uint64_t sink_mark(struct row_sink *s)
{
    struct conn *c = conn_of(s);

    c->sink.marked = true;
    return position(c);
}

static bool sink_rewind(struct row_sink *s, uint64_t mark)
{
    struct conn *c = conn_of(s);

    if (mark < c->sink.sent || mark < c->sink.foreign || mark > position(c)) {
        return false;
    }
    out_of(c)->buf.len = (size_t)(mark - c->sink.sent);
    out_of(c)->failed = false;
    return true;
}

static void sink_hold(struct row_sink *s, bool held)
{
    struct conn *c = conn_of(s);

    c->sink.held = held;
    if (!held) {
        c->sink.marked = false;
    }
}

void sink__foreign(struct conn *c)
{
    c->sink.foreign = position(c);
}

void sink__init(struct conn *c)
{
    c->sink.base = (struct row_sink){
        .begin = sink_begin,
        .rows = sink_rows,
        .done = sink_done,
        .failed = sink_error,
        .notice = sink_error,
        .parameter = sink_parameter,
        .mark = sink_mark,
        .rewind = sink_rewind,
        .hold = sink_hold,
    };
}
