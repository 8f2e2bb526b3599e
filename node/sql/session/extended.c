/*
 * extended.c -- Parse, Bind, Describe, Execute, Close, Sync.
 *
 * Everything between two Syncs is one implicit transaction, which the Sync commits. Nearly always it
 * holds one Execute, and then a conflict, at the Execute or at the Sync, is repaired by running that
 * portal again: its parameters are still there, and the sink takes its rows back. With more than one
 * Execute the client gets the 40001 and decides itself.
 *
 * Parameter values are decoded at Bind into the portal's memory, because the message is gone when
 * the portal runs. The unnamed portal keeps its memory between uses: a prepared statement that runs
 * again and again allocates nothing.
 */
#include "node/base/invariant.h"
#include "node/sql/session/session_internal.h"
#include "node/sql/types/type_io.h"

static struct status aborted(struct session *s, struct sql_error *err)
{
    return sql_error_set(err, &s->scratch, "25P02", -1,
                         "current transaction is aborted, commands ignored until end of "
                         "transaction block");
}

/* ---- Parse ---- */

static MAYYIELD struct status parse(struct session *s, const char *name, struct bytes text,
                                    const oid *types, uint16_t types_count, struct sql_error *err)
{
    struct named_statement *old = session__find_statement(s, name);
    struct prepared *p = NULL;
    struct status st = OK;

    if (old != NULL && name[0] != 0) {
        return sql_error_set(err, &s->scratch, "42P05", -1,
                             "prepared statement \"%s\" already exists", name);
    }
    if (old != NULL) {
        session__drop_statement(s, old);
    }
    st = prepared__get(s, text, types, types_count, false, err, &p);
    if (s->block.state == BLOCK_FAILED && (p == NULL || !prepared__is_txn_control(p))) {
        prepared__release(s->sql, p);
        return aborted(s, err);
    }
    TRY(st);
    st = session__add_statement(s, name, p);
    if (!status_ok(st)) {
        prepared__release(s->sql, p);
    }
    return st;
}

bool session_parse(struct session *s, const char *name, struct bytes text, const oid *types,
                   uint16_t types_count, struct row_sink *sink)
{
    struct sql_error err = {.position = -1};
    struct status st = OK;
    bool ok = true;

    session__enter(s, sink, true);
    st = parse(s, name, text, types, types_count, &err);
    if (!status_ok(st)) {
        ok = session__fail_status(s, st, &err);
    }
    session__leave(s);
    return ok;
}

static struct status find_statement(struct session *s, const char *name, struct sql_error *err,
                                    struct prepared **out)
{
    struct named_statement *n = session__find_statement(s, name);

    if (n == NULL && name[0] == 0) {
        return sql_error_set(err, &s->scratch, "26000", -1,
                             "unnamed prepared statement does not exist");
    }
    if (n == NULL) {
        return sql_error_set(err, &s->scratch, "26000", -1,
                             "prepared statement \"%s\" does not exist", name);
    }
    INVARIANT(n->p != NULL);
    *out = n->p;
    return OK;
}

/* ---- Bind ---- */

static uint16_t params_of(const struct prepared *p)
{
    return p->stmt == NULL ? 0 : p->stmt->params_count;
}

static struct status check_counts(struct session *s, const struct session_bind *b,
                                  const struct prepared *p, struct sql_error *err)
{
    const struct row_desc *rows = prepared__rows(p);
    const uint16_t columns = rows == NULL ? 0 : rows->count;

    if (b->values_count != params_of(p)) {
        return sql_error_set(err, &s->scratch, "08P01", -1,
                             "bind message supplies %u parameters, but prepared statement \"%s\" "
                             "requires %u",
                             b->values_count, b->statement, params_of(p));
    }
    if (b->formats_count > 1 && b->formats_count != b->values_count) {
        return sql_error_set(err, &s->scratch, "08P01", -1,
                             "bind message has %u parameter formats but %u parameters",
                             b->formats_count, b->values_count);
    }
    if (b->result_formats_count > 1 && b->result_formats_count != columns) {
        return sql_error_set(err, &s->scratch, "08P01", -1,
                             "bind message has %u result formats but query has %u columns",
                             b->result_formats_count, columns);
    }
    return OK;
}

static int16_t format_of(const struct session_bind *b, uint16_t i)
{
    if (b->formats_count == 0) {
        return 0;
    }
    return b->formats[b->formats_count == 1 ? 0 : i];
}

static struct status decode_value(const struct type_io *io, oid type, int16_t format,
                                  struct bytes value, union datum *out)
{
    const struct type_desc *t = type_find(type);
    union datum d = {0};

    if (t == NULL) {
        return sql_error_set(io->err, io->arena, "42704", -1, "type with OID %u does not exist",
                             type);
    }
    if (format == 0) {
        TRY(type_in_text(io, type, -1, value, &d));
    } else {
        TRY(type_in_binary(io, type, -1, value, &d));
    }
    return datum_dup(t->phys, d, io->arena, out);
}

static struct status decode_values(struct session *s, const struct session_bind *b,
                                   struct portal *portal, struct sql_error *err)
{
    const struct type_io io = {
        .arena = &portal->arena,
        .err = err,
        .position = -1,
        .settings = &s->settings.types,
        .now_us = s->statement_start_us,
    };
    const oid *types = portal->p->stmt == NULL ? NULL : portal->p->stmt->params;

    INVARIANT(b->values_count == 0 || types != NULL); /* check_counts() */
    portal->params = ARENA_ARRAY(&portal->arena, union datum, b->values_count);
    portal->nulls = ARENA_ARRAY(&portal->arena, uint8_t, b->values_count);
    portal->formats = ARENA_ARRAY(&portal->arena, int16_t, b->result_formats_count);
    if (portal->params == NULL || portal->nulls == NULL || portal->formats == NULL) {
        return FAIL(STATUS_MEMORY, "too many parameters");
    }
    portal->formats_count = b->result_formats_count;
    if (b->result_formats_count > 0) {
        memcpy(portal->formats, b->result_formats,
               b->result_formats_count * sizeof(*portal->formats));
    }
    for (uint16_t i = 0; i < b->values_count; i++) {
        if (b->values[i].ptr == NULL) {
            portal->nulls[i] = 1;
        } else {
            TRY(decode_value(&io, types[i], format_of(b, i), b->values[i], &portal->params[i]));
        }
    }
    return OK;
}

static MAYYIELD struct status bind_portal(struct session *s, const struct session_bind *b,
                                          struct portal **made, struct sql_error *err)
{
    struct prepared *p = NULL;
    struct portal *portal = session__find_portal(s, b->portal);

    TRY(find_statement(s, b->statement, err, &p));
    INVARIANT(p != NULL);
    if (s->block.state == BLOCK_FAILED && !prepared__is_txn_control(p)) {
        return aborted(s, err);
    }
    if (portal != NULL && b->portal[0] != 0) {
        return sql_error_set(err, &s->scratch, "42P03", -1, "cursor \"%s\" already exists",
                             b->portal);
    }
    if (portal != NULL) {
        session__drop_portal(s, portal);
    }
    TRY(prepared__refresh(s, p, err));
    TRY(check_counts(s, b, p, err));
    TRY(session__add_portal(s, b->portal, &portal));
    *made = portal;
    portal->p = prepared__acquire(p);
    portal->done = false;
    return decode_values(s, b, portal, err);
}

bool session_bind(struct session *s, const struct session_bind *b, struct row_sink *sink)
{
    struct sql_error err = {.position = -1};
    struct portal *made = NULL;
    struct status st = OK;
    bool ok = true;

    session__enter(s, sink, true);
    st = bind_portal(s, b, &made, &err);
    if (!status_ok(st)) {
        ok = session__fail_status(s, st, &err);
        if (made != NULL) {
            session__drop_portal(s, made); /* Only now: texts of the error live in it. */
        }
    }
    session__leave(s);
    return ok;
}

/* ---- Describe ---- */

static void describe_rows(const struct prepared *p, struct session_description *out)
{
    const struct row_desc *rows = prepared__rows(p);

    out->has_rows = rows != NULL;
    if (rows != NULL) {
        out->rows = *rows;
    }
}

static MAYYIELD struct status describe_statement(struct session *s, const char *name,
                                                 struct session_description *out,
                                                 struct sql_error *err)
{
    struct prepared *p = NULL;

    TRY(find_statement(s, name, err, &p));
    INVARIANT(p != NULL);
    if (s->block.state == BLOCK_FAILED && prepared__rows(p) != NULL) {
        return aborted(s, err);
    }
    TRY(prepared__refresh(s, p, err));
    *out = (struct session_description){0};
    out->params_count = params_of(p);
    out->params = out->params_count == 0 ? NULL : p->stmt->params;
    describe_rows(p, out);
    return OK;
}

bool session_describe_statement(struct session *s, const char *name,
                                struct session_description *out, struct row_sink *sink)
{
    struct sql_error err = {.position = -1};
    struct status st = OK;
    bool ok = true;

    session__enter(s, sink, false);
    st = describe_statement(s, name, out, &err);
    if (!status_ok(st)) {
        ok = session__fail_status(s, st, &err);
    }
    session__leave(s);
    return ok;
}

static struct status find_portal(struct session *s, const char *name, struct sql_error *err,
                                 struct portal **out)
{
    *out = session__find_portal(s, name);
    if (*out == NULL) {
        return sql_error_set(err, &s->scratch, "34000", -1, "portal \"%s\" does not exist", name);
    }
    return OK;
}

bool session_describe_portal(struct session *s, const char *name, struct session_description *out,
                             struct row_sink *sink)
{
    struct sql_error err = {.position = -1};
    struct portal *portal = session__find_portal(s, name);

    if (portal == NULL) {
        session__enter(s, sink, false);
        (void)session__fail_status(s, find_portal(s, name, &err, &portal), &err);
        session__leave(s);
        return false;
    }
    *out = (struct session_description){0};
    describe_rows(portal->p, out);
    out->formats = portal->formats;
    out->formats_count = portal->formats_count;
    return true;
}

/* ---- Execute and Sync ---- */

/* Forgets what the portal has done, its parameters stay. */
static void rewind_portal(struct portal *p)
{
    statement_end(p->run);
    p->run = NULL;
    p->done = false;
}

/* Runs `portal`, the only one of its transaction, until no conflict is in the way. `commit`: also
 * commits. st is what the first try ended with. */
static MAYYIELD struct status retry(struct session *s, struct portal *portal, bool commit,
                                    struct status st, struct sql_error *err)
{
    for (uint32_t tries = 1; run__may_retry(st) && tries <= SESSION_RETRIES_MAX; tries++) {
        if (!block__restart(s)) {
            break;
        }
        TRY(run__backoff(s, tries));
        rewind_portal(portal);
        TRY(prepared__refresh(s, portal->p, err)); /* Leases may be what it was about. */
        st = run__portal(s, portal, 0, false, err);
        s->block.executions++;
        s->block.replay = portal;
        if (status_ok(st) && commit) {
            st = block__commit(s, err);
        }
    }
    return st;
}

static MAYYIELD struct status execute(struct session *s, const char *name, uint64_t rows_max,
                                      struct sql_error *err)
{
    struct portal *portal = NULL;
    struct status st = OK;
    bool first = false;

    TRY(find_portal(s, name, err, &portal));
    TRY(block__statement(s, portal->p, err));
    first = s->block.state == BLOCK_IMPLICIT && s->block.executions == 0 && rows_max == 0 &&
            portal->run == NULL;
    s->block.single = s->block.state == BLOCK_IMPLICIT;
    st = run__portal(s, portal, rows_max, false, err);
    if (s->block.state != BLOCK_IMPLICIT) {
        return st; /* The portal itself may be over: COMMIT. */
    }
    s->block.executions++;
    s->block.replay = first && portal->p->stmt != NULL ? portal : NULL;
    if (s->block.replay != NULL) {
        st = retry(s, portal, false, st, err);
    }
    return st;
}

bool session_execute(struct session *s, const char *portal, uint64_t rows_max,
                     struct row_sink *sink)
{
    struct sql_error err = {.position = -1};
    struct status st = OK;
    bool ok = true;

    session__enter(s, sink, true);
    st = execute(s, portal, rows_max, &err);
    if (!status_ok(st)) {
        ok = session__fail_status(s, st, &err);
    }
    session__leave(s);
    return ok;
}

void session_close_statement(struct session *s, const char *name)
{
    struct named_statement *n = session__find_statement(s, name);

    if (n != NULL) {
        session__drop_statement(s, n);
    }
}

void session_close_portal(struct session *s, const char *name)
{
    struct portal *p = session__find_portal(s, name);

    if (p != NULL) {
        session__drop_portal(s, p);
    }
}

struct status session_sync(struct session *s, struct row_sink *sink)
{
    struct sql_error err = {.position = -1};
    struct portal *replay = NULL;
    struct status st = OK;

    if (s->block.state != BLOCK_IMPLICIT) {
        return OK;
    }
    session__enter(s, sink, true);
    replay = s->block.executions == 1 ? s->block.replay : NULL;
    st = block__commit(s, &err);
    if (replay != NULL) {
        st = retry(s, replay, true, st, &err);
    }
    if (!status_ok(st)) {
        (void)session__fail_status(s, st, &err);
    }
    session__leave(s);
    return OK;
}
