/*
 * session_rig.c -- see session_rig.h.
 */
#include "tests/unit/session/session_rig.h"

#include <stdarg.h>

#include "node/base/invariant.h"

static struct rig *rig_of(struct row_sink *s)
{
    return CONTAINER_OF(s, struct rig, sink);
}

static void tell(struct rig *r, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void tell(struct rig *r, const char *fmt, ...)
{
    char text[512];
    va_list args;
    struct status st = OK;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    st = buf_printf(&r->heard, "%s%s", r->heard.len == 0 ? "" : " ", text);
    INVARIANT(status_ok(st));
}

static struct status on_begin(struct row_sink *s, const struct row_desc *desc)
{
    struct rig *r = rig_of(s);

    r->desc = desc;
    r->type = desc->columns[0].type;
    tell(r, "(%s)", desc->columns[0].name);
    return OK;
}

static struct status on_rows(struct row_sink *s, const struct row_block *block)
{
    struct rig *r = rig_of(s);
    const oid type = r->type == 0 ? TYPE_TEXT : r->type;

    for (uint32_t i = 0; i < block->rows; i++) { /* One column at most matters here. */
        if (block->nulls[i] != 0) {
            tell(r, "null");
        } else if (type == TYPE_INT4 || type == TYPE_INT8) {
            tell(r, "%lld", (long long)block->values[i].i64);
        } else {
            tell(r, "'%.*s'", (int)block->values[i].bytes.len,
                 (const char *)block->values[i].bytes.ptr);
        }
    }
    return OK;
}

static void on_done(struct row_sink *s, const char *tag)
{
    tell(rig_of(s), "%s", tag == NULL ? "suspended" : tag[0] == 0 ? "empty" : tag);
    rig_of(s)->type = 0;
}

static void on_failed(struct row_sink *s, const struct sql_error *err)
{
    struct rig *r = rig_of(s);

    (void)snprintf(r->message, sizeof(r->message), "%s", err->message);
    r->last = *err;
    r->last.message = r->message;
    tell(r, "%s!", err->sqlstate);
    r->type = 0;
}

static void on_notice(struct row_sink *s, const struct sql_error *note)
{
    tell(rig_of(s), "%s:%s", note->severity == SQL_WARNING ? "warning" : "notice", note->sqlstate);
}

static void on_parameter(struct row_sink *s, const char *name, const char *value)
{
    tell(rig_of(s), "%s=%s", name, value);
}

static uint64_t on_mark(struct row_sink *s)
{
    return rig_of(s)->heard.len;
}

static bool on_rewind(struct row_sink *s, uint64_t mark)
{
    struct rig *r = rig_of(s);

    if (r->no_rewind || mark > r->heard.len) {
        return false;
    }
    r->rewinds++;
    r->heard.len = mark;
    return true;
}

static void on_hold(struct row_sink *s, bool held)
{
    rig_of(s)->held = held;
}

static const struct row_sink sink_functions = {
    .begin = on_begin,
    .rows = on_rows,
    .done = on_done,
    .failed = on_failed,
    .notice = on_notice,
    .parameter = on_parameter,
    .mark = on_mark,
    .rewind = on_rewind,
    .hold = on_hold,
};

const char *hear(struct rig *r)
{
    struct status st = OK;

    buf_clear(&r->told);
    st = buf_printf(&r->told, r->held ? "[%.*s]" : "%.*s", (int)r->heard.len,
                    r->heard.ptr == NULL ? "" : (const char *)r->heard.ptr);
    INVARIANT(status_ok(st));
    if (!r->held) {
        buf_clear(&r->heard);
    }
    return (const char *)r->told.ptr;
}

const char *query(struct rig *r, const char *text)
{
    const struct status st = session_simple(r->s, bytes_str(text), &r->sink);

    INVARIANT(status_ok(st));
    return hear(r);
}

bool parse(struct rig *r, const char *name, const char *text)
{
    return session_parse(r->s, name, bytes_str(text), NULL, 0, &r->sink);
}

bool bind_(struct rig *r, const char *portal, const char *statement, const char *param)
{
    struct bytes value = param == NULL ? BYTES_EMPTY : bytes_str(param);
    const struct session_bind b = {
        .portal = portal,
        .statement = statement,
        .values = &value,
        .values_count = param == NULL ? 0 : 1,
    };

    return session_bind(r->s, &b, &r->sink);
}

const char *run(struct rig *r, const char *text, ...)
{
    va_list args;
    const char *param = NULL;

    va_start(args, text);
    param = va_arg(args, const char *);
    va_end(args);
    if (parse(r, "", text) && bind_(r, "", "", param)) {
        (void)session_execute(r->s, "", 0, &r->sink);
    }
    return hear(r);
}

const char *sync_(struct rig *r)
{
    const struct status st = session_sync(r->s, &r->sink);

    INVARIANT(status_ok(st));
    return hear(r);
}

static void run_body(void *arg)
{
    struct rig *r = arg;

    INVARIANT(strcmp(query(r, "create table t (a text)"), "CREATE TABLE") == 0);
    INVARIANT(strcmp(query(r, "create table u (a text)"), "CREATE TABLE") == 0);
    (void)query(r, "select * from t; select * from u"); /* Leases are there, their records too. */
    r->body(r);
    session_destroy(r->s);
    r->done = true;
}

void with_session(void (*body)(struct rig *r))
{
    const struct session_options session = {.user = "u", .database = "d", .backend_pid = 7};
    struct sql_options options = {.region = "eu-west-1", .node = 1};
    struct rig r = {.body = body, .sink = sink_functions};

    r.world = fake_world_create();
    r.shard = fake_world_add_shard(r.world);
    hlc_init(&r.hlc, shard_env(r.shard), 250000000);
    hlc_set_upper_bound(&r.hlc, UINT64_MAX);
    fake_kv_init(&r.kv, &r.hlc);
    options.shard = r.shard;
    options.kv = &r.kv;
    options.hlc = &r.hlc;
    EXPECT_OK(sql_create(&options, &r.sql));
    EXPECT_OK(session_create(r.sql, &session, &r.s));
    EXPECT_OK(fiber_spawn(r.shard, "test", run_body, &r));
    for (int i = 0; i < 1000 && !r.done; i++) {
        fake_world_advance(r.world, 100000000);
    }
    EXPECT_TRUE(r.done);
    sql_stop(r.sql);
    fake_world_settle(r.world);
    EXPECT_TRUE(sql_stopped(r.sql));
    sql_destroy(r.sql);
    fake_kv_deinit(&r.kv);
    buf_deinit(&r.heard);
    buf_deinit(&r.told);
    fake_world_destroy(r.world);
}
