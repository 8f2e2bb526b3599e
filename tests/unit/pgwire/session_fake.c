/*
 * session_fake.c -- see session_fake.h.
 */
#include "tests/unit/pgwire/session_fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/base/invariant.h"
#include "node/runtime/fiber.h"
#include "node/sql/session/session.h"
#include "node/sql/types/type_io.h"

#define FAKE_NAMES 8

struct fake_statement {
    char name[16];
    char text[64];
    bool used;
    uint64_t fetched;
};

struct session {
    struct sql *sql;
    struct type_settings types;
    char state;
    bool implicit_write;
    uint64_t mark;
    uint32_t conflicts; /* Left of "conflict N". */
    char text[64];      /* Of the implicit transaction. */
    struct fake_statement statements[FAKE_NAMES];
    struct fake_statement portals[FAKE_NAMES];
    int16_t formats[8];
    uint16_t formats_count;
    struct fiber *fiber;
};

static const struct row_column columns[] = {
    {.name = "n", .type = TYPE_INT4, .typmod = -1, .typlen = 4},
    {.name = "t", .type = TYPE_TEXT, .typmod = -1, .typlen = -1},
};

void sql_stop(struct sql *s)
{
    s->stops++;
}

bool sql_stopped(const struct sql *s)
{
    return s->sessions == 0 && s->stops > 0;
}

struct status session_create(struct sql *sql, const struct session_options *o, struct session **out)
{
    struct session *s = calloc(1, sizeof(*s));

    INVARIANT(s != NULL && o->user[0] != 0 && o->backend_pid != 0);
    s->sql = sql;
    s->state = 'I';
    s->types = TYPE_SETTINGS_DEFAULT;
    sql->sessions++;
    sql->created++;
    *out = s;
    return OK;
}

void session_destroy(struct session *s)
{
    s->sql->sessions--;
    free(s);
}

void session_cancel(struct session *s)
{
    s->sql->cancelled++;
    if (s->fiber != NULL) {
        fiber_cancel(s->fiber);
    }
}

const struct type_settings *session_type_settings(const struct session *s)
{
    return &s->types;
}

bool session_set_parameter(struct session *s, const char *name, const char *value,
                           struct arena *arena, struct sql_error *err)
{
    UNUSED(value);
    if (strcmp(name, s->sql->refuse_parameter) == 0) {
        *err = (struct sql_error){.sqlstate = "22023", .position = -1};
        err->message = arena_printf(arena, "bad \"%s\"", name);
        return false;
    }
    return true;
}

const char *session_get_parameter(struct session *s, const char *name)
{
    UNUSED(s);
    UNUSED(name);
    return NULL;
}

bool session_reported_parameter(struct session *s, uint32_t i, const char **name,
                                const char **value)
{
    UNUSED(s);
    *name = "server_version";
    *value = "15.20 (dsql 0.1)";
    return i == 0;
}

uint64_t session_idle_timeout_ns(const struct session *s, const char **sqlstate,
                                 const char **message)
{
    (void)s;
    *sqlstate = "57P05";
    *message = "silent for too long";
    return 0;
}

char session_txn_state(const struct session *s)
{
    return s->state;
}

static void fail(struct session *s, struct row_sink *sink, const char *sqlstate, int32_t position)
{
    struct sql_error err = {.message = "as asked", .position = position};

    memcpy(err.sqlstate, sqlstate, 6);
    if (s->state == 'T') {
        s->state = 'E';
    }
    sink->failed(sink, &err);
}

static struct status tell_rows(struct row_sink *sink, uint32_t from, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        char text[32];
        const int len = snprintf(text, sizeof(text), "row %u", from + i);
        union datum values[2] = {{.i64 = from + i}, {.bytes = bytes_of(text, (size_t)len)}};
        const uint8_t nulls[2] = {0, (from + i) % 3 == 0};
        const struct row_block block = {.values = values, .nulls = nulls, .rows = 1};

        TRY(sink->rows(sink, &block));
    }
    return OK;
}

static struct status tell_wide(struct row_sink *sink, uint32_t size)
{
    uint8_t *text = calloc(1, size + 1);
    union datum values[2] = {{.i64 = 1}, {.bytes = bytes_of(text, size)}};
    const uint8_t nulls[2] = {0, 0};
    const struct row_block block = {.values = values, .nulls = nulls, .rows = 1};
    struct status st = OK;

    memset(text, 'w', size);
    st = sink->rows(sink, &block);
    free(text);
    return st;
}

static struct status wait_for_cancel(struct session *s)
{
    struct status st = OK;

    s->fiber = fiber_current();
    st = fiber_sleep(UINT64_MAX / 4);
    s->fiber = NULL;
    fiber_clear_cancel(fiber_current());
    return st;
}

/* Runs one word; false after failed(). */
static bool run(struct session *s, const char *text, uint32_t from, uint32_t max, bool begin,
                struct row_sink *sink)
{
    static const struct row_desc desc = {columns, 2};
    unsigned n = 0;
    char tag[32];

    if (text[0] == 0) {
        sink->done(sink, "");
    } else if ((sscanf(text, "rows %u", &n) == 1 || sscanf(text, "wide %u", &n) == 1) &&
               (s->sql->size_max == 0 || n <= s->sql->size_max) && from <= n) {
        const bool wide = text[0] == 'w';
        const uint32_t left = wide ? 1 : n - from;
        const uint32_t count = max != 0 && max < left ? max : left;
        struct status st = OK;

        if (begin) {
            (void)sink->begin(sink, &desc).code;
        }
        st = wide ? tell_wide(sink, n) : tell_rows(sink, from + 1, count);
        if (!status_ok(st)) {
            fail(s, sink, st.code == STATUS_MEMORY ? "53200" : "57014", -1);
            return false;
        }
        (void)snprintf(tag, sizeof(tag), "SELECT %u", count);
        sink->done(sink, count < left ? NULL : tag);
    } else if (strcmp(text, "write") == 0) {
        s->implicit_write = true;
        sink->hold(sink, true);
        sink->done(sink, "INSERT 0 1");
    } else if (sscanf(text, "conflict %u", &n) == 1) {
        (void)tell_rows(sink, 1, 1).code;
        sink->done(sink, "SELECT 1");
    } else if (strcmp(text, "error") == 0) {
        fail(s, sink, "42601", 3);
        return false;
    } else if (strcmp(text, "notice") == 0) {
        struct sql_error note = {
            .severity = SQL_NOTICE, .sqlstate = "00000", .message = "note", .position = -1};

        sink->notice(sink, &note);
        sink->parameter(sink, "TimeZone", "UTC");
        sink->done(sink, "SET");
    } else if (strcmp(text, "sleep") == 0) {
        (void)wait_for_cancel(s).code;
        fail(s, sink, "57014", -1);
        return false;
    } else if (strcmp(text, "begin") == 0) {
        s->state = 'T';
        sink->done(sink, "BEGIN");
    } else if (strcmp(text, "commit") == 0) {
        sink->done(sink, s->state == 'E' ? "ROLLBACK" : "COMMIT");
        s->state = 'I';
    } else {
        fail(s, sink, "42601", 0);
        return false;
    }
    return true;
}

struct status session_simple(struct session *s, struct bytes text, struct row_sink *sink)
{
    char word[64] = {0};

    memcpy(word, text.ptr, text.len < sizeof(word) ? text.len : sizeof(word) - 1);
    if (strcmp(word, "fatal") == 0) {
        struct sql_error err = {
            .severity = SQL_FATAL, .sqlstate = "57P01", .message = "over", .position = -1};

        sink->failed(sink, &err);
        return FAIL(STATUS_CLOSED, "over");
    }
    (void)run(s, word, 0, 0, true, sink);
    sink->hold(sink, false);
    return OK;
}

static struct fake_statement *find(struct fake_statement *all, const char *name)
{
    for (int i = 0; i < FAKE_NAMES; i++) {
        if (all[i].used && strcmp(all[i].name, name) == 0) {
            return &all[i];
        }
    }
    return NULL;
}

static struct fake_statement *add(struct fake_statement *all, const char *name, const char *text)
{
    struct fake_statement *f = find(all, name);

    for (int i = 0; f == NULL && i < FAKE_NAMES; i++) {
        f = all[i].used ? NULL : &all[i];
    }
    if (f == NULL) {
        f = &all[0]; /* Full: takes the place of the first. */
    }
    *f = (struct fake_statement){.used = true};
    (void)snprintf(f->name, sizeof(f->name), "%s", name);
    (void)snprintf(f->text, sizeof(f->text), "%s", text);
    return f;
}

bool session_parse(struct session *s, const char *name, struct bytes text, const oid *types,
                   uint16_t types_count, struct row_sink *sink)
{
    UNUSED(types);
    UNUSED(types_count);
    if (bytes_eq(text, BYTES_LIT("bad"))) {
        fail(s, sink, "42601", 1);
        return false;
    }
    (void)add(s->statements, name, (const char *)text.ptr);
    return true;
}

bool session_bind(struct session *s, const struct session_bind *b, struct row_sink *sink)
{
    const struct fake_statement *f = find(s->statements, b->statement);

    if (f == NULL) {
        fail(s, sink, "26000", -1);
        return false;
    }
    s->formats_count = b->result_formats_count;
    for (uint16_t i = 0; i < b->result_formats_count && i < 8; i++) {
        s->formats[i] = b->result_formats[i];
    }
    (void)add(s->portals, b->portal, f->text);
    return true;
}

static void describe(struct session *s, const char *text, struct session_description *out)
{
    *out = (struct session_description){.formats = s->formats, .formats_count = s->formats_count};
    if (strncmp(text, "rows", 4) == 0 || strncmp(text, "wide", 4) == 0 ||
        strncmp(text, "conflict", 8) == 0) {
        out->has_rows = true;
        out->rows = (struct row_desc){columns, 2};
    }
}

bool session_describe_statement(struct session *s, const char *name,
                                struct session_description *out, struct row_sink *sink)
{
    static const oid params[] = {TYPE_INT8};
    const struct fake_statement *f = find(s->statements, name);

    if (f == NULL) {
        fail(s, sink, "26000", -1);
        return false;
    }
    describe(s, f->text, out);
    out->params = params;
    out->params_count = 1;
    return true;
}

bool session_describe_portal(struct session *s, const char *name, struct session_description *out,
                             struct row_sink *sink)
{
    const struct fake_statement *f = find(s->portals, name);

    if (f == NULL) {
        fail(s, sink, "34000", -1);
        return false;
    }
    describe(s, f->text, out);
    return true;
}

bool session_execute(struct session *s, const char *portal, uint64_t rows_max,
                     struct row_sink *sink)
{
    struct fake_statement *f = find(s->portals, portal);
    bool ok = true;

    if (sscanf(f->text, "conflict %u", &s->conflicts) == 1) {
        (void)snprintf(s->text, sizeof(s->text), "%s", f->text);
        s->mark = sink->mark(sink);
    }
    ok = run(s, f->text, (uint32_t)f->fetched, (uint32_t)rows_max, false, sink);
    f->fetched += rows_max;
    return ok;
}

void session_close_statement(struct session *s, const char *name)
{
    struct fake_statement *f = find(s->statements, name);

    if (f != NULL) {
        f->used = false;
    }
}

void session_close_portal(struct session *s, const char *name)
{
    struct fake_statement *f = find(s->portals, name);

    if (f != NULL) {
        f->used = false;
    }
}

struct status session_sync(struct session *s, struct row_sink *sink)
{
    while (s->conflicts > 0) {
        s->conflicts--;
        if (!sink->rewind(sink, s->mark)) {
            s->conflicts = 0;
            fail(s, sink, "40001", -1);
            break;
        }
        s->mark = sink->mark(sink);
        (void)run(s, s->text, 0, 0, false, sink);
    }
    s->implicit_write = false;
    sink->hold(sink, false);
    return OK;
}
