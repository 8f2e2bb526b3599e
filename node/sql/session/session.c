/*
 * session.c -- the life of a session: what it owns, what it is called, how it is stopped.
 *
 * A session belongs to one shard and is driven by one fiber at a time. Every call of the API enters
 * and leaves here: entering remembers the fiber, so that another one (CancelRequest, the timeout, a
 * closed socket) can wake it with STATUS_CANCELLED; leaving forgets it and takes a late cancel back,
 * so that it cannot hit the next statement.
 *
 * Errors have one way out, session__fail(): it tells the sink once and moves the transaction to where
 * an error leads (block.c).
 */
#include "node/sql/session/session.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "node/base/invariant.h"
#include "node/base/log.h"
#include "node/catalog/catalog.h"
#include "node/runtime/hlc.h"
#include "node/sql/session/session_internal.h"

#define NAME_SEED          0x73657373696f6eu
#define PG_EPOCH_US        ((int64_t)946684800000000)
#define ARENA_KEPT_MAX     ((size_t)64 << 10) /* Of an idle session. */
#define PORTAL_ARENA_MAX   ((size_t)64 << 20)
#define NOTICE_MESSAGE_MAX 512

/* ---- what sessions of a shard share ---- */

struct status sql_create(const struct sql_options *o, struct sql **out)
{
    struct sql *s = calloc(1, sizeof(*s));
    struct status st = OK;

    if (s == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for SQL");
    }
    s->o = *o;
    map_init(&s->cache, SQL_CACHE_STATEMENTS_MAX + 1);
    list_init(&s->lru);
    st = catalog_create(o->shard, o->kv, o->hlc, &s->catalog);
    if (!status_ok(st)) {
        map_deinit(&s->cache);
        free(s);
        return st;
    }
    catalog_set_node(s->catalog, o->node);
    *out = s;
    return OK;
}

void sql_destroy(struct sql *s)
{
    if (s == NULL) {
        return;
    }
    INVARIANT(s->sessions == 0);
    prepared__drop_cache(s);
    map_deinit(&s->cache);
    catalog_destroy(s->catalog);
    free(s);
}

void sql_stop(struct sql *s)
{
    catalog_stop(s->catalog);
}

bool sql_stopped(const struct sql *s)
{
    return s->sessions == 0 && catalog_stopped(s->catalog);
}

struct catalog *sql_catalog(struct sql *s)
{
    return s->catalog;
}

/* ---- life ---- */

static void on_timeout(struct shard_timer *t)
{
    struct session *s = LIST_ENTRY(t, struct session, timeout);

    s->timed_out = true;
    session_cancel(s);
}

static void on_reported(void *ctx, const char *name, const char *value)
{
    struct session *s = ctx;

    if (s->sink != NULL && s->sink->parameter != NULL) {
        s->sink->parameter(s->sink, name, value);
    }
}

struct status session_create(struct sql *sql, const struct session_options *o, struct session **out)
{
    struct session *s = calloc(1, sizeof(*s));
    struct status st = OK;

    if (s == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a session");
    }
    s->sql = sql;
    sql->sessions++;
    s->user = strdup(o->user);
    s->database = strdup(o->database);
    s->backend_pid = o->backend_pid;
    s->timeout.fn = on_timeout;
    settings_init(&s->settings);
    list_init(&s->statements);
    list_init(&s->portals);
    map_init(&s->statements_by_name, SESSION_STATEMENTS_MAX + 1);
    block__init(&s->block);
    arena_init(&s->scratch, SESSION_ARENA_MAX);
    rng_seed(&s->rng, env_random_u64(shard_env(sql->o.shard)));
    if (s->user == NULL || s->database == NULL) {
        st = FAIL(STATUS_MEMORY, "no memory for a session");
        goto out;
    }
    TRY_OUT(settings_force(&s->settings, "session_authorization", s->user));
    s->settings.on_reported = on_reported;
    s->settings.ctx = s;
    *out = s;
    return OK;
out:
    session_destroy(s);
    return st;
}

void session_destroy(struct session *s)
{
    if (s == NULL) {
        return;
    }
    INVARIANT(s->sink == NULL);
    s->settings.on_reported = NULL;
    block__rollback(s);
    session__drop_portals(s);
    session__drop_statements(s);
    catalog_overlay_destroy(s->overlay);
    if (s->unnamed_portal != NULL) {
        arena_deinit(&s->unnamed_portal->arena);
        arena_deinit(&s->unnamed_portal->run_arena);
        free(s->unnamed_portal);
    }
    shard_timer_disarm(s->sql->o.shard, &s->timeout);
    arena_deinit(&s->block.arena);
    arena_deinit(&s->scratch);
    map_deinit(&s->statements_by_name);
    settings_deinit(&s->settings);
    s->sql->sessions--;
    free(s->user);
    free(s->database);
    free(s);
}

static void recycle(struct arena *a)
{
    if (a->used_bytes > ARENA_KEPT_MAX) {
        arena_deinit(a);
    } else {
        arena_reset(a);
    }
}

void session__enter(struct session *s, struct row_sink *sink, bool timed)
{
    INVARIANT(s->sink == NULL);
    s->sink = sink;
    s->fiber = fiber_current();
    s->cancelled = false;
    s->timed_out = false;
    s->statement_start_us = session__now_us(s);
    if (s->overlay != NULL) {
        catalog_overlay_enter(s->overlay);
    }
    if (timed && s->settings.statement_timeout_ms > 0) {
        shard_timer_arm_in(s->sql->o.shard, &s->timeout,
                           s->settings.statement_timeout_ms * 1000000u);
    }
}

void session__leave(struct session *s)
{
    if (s->settings.statement_timeout_ms > 0 || s->timeout.heap_slot != 0) {
        shard_timer_disarm(s->sql->o.shard, &s->timeout);
    }
    if (s->cancelled && s->fiber != NULL) {
        fiber_clear_cancel(s->fiber);
    }
    if (s->portals_stale) {
        session__drop_portals(s);
    }
    if (s->overlay != NULL) {
        catalog_overlay_leave(s->overlay);
    }
    s->sink = NULL;
    s->fiber = NULL;
    recycle(&s->scratch);
}

void session_cancel(struct session *s)
{
    if (s->sink == NULL) {
        return; /* Nothing runs. */
    }
    s->cancelled = true;
    if (s->fiber != NULL) {
        fiber_cancel(s->fiber);
    }
}

int64_t session__now_us(struct session *s)
{
    return (int64_t)(hlc_now(s->sql->o.hlc).wall / 1000) - PG_EPOCH_US;
}

/* ---- what statements may know ---- */

static int64_t unique_rowid(void *ctx)
{
    const struct session *s = ctx;

    return catalog_unique_rowid(sql_catalog(s->sql));
}

static int64_t clock_us(void *ctx)
{
    return session__now_us(ctx);
}

/* Outside of a block a transaction begins with each statement, at the default level. */
const char *session__show(struct session *s, const char *name)
{
    return strcasecmp(name, "transaction_isolation") == 0
               ? block__isolation(s)
               : settings_show(&s->settings, name, &s->scratch);
}

static const char *current_setting(void *ctx, const char *name)
{
    return session__show(ctx, name);
}

void session__fill_view(struct session *s, struct sql_view *out)
{
    *out = (struct sql_view){
        .types = s->settings.types,
        .txn_start_us = s->block.state == BLOCK_NONE ? s->statement_start_us : s->block.start_us,
        .statement_start_us = s->statement_start_us,
        .clock_us = clock_us,
        .unique_rowid = unique_rowid,
        .setting = current_setting,
        .ctx = s,
        .env = shard_env(s->sql->o.shard),
        .user = s->user,
        .session_user = s->user,
        .database = s->database,
        .region = s->sql->o.region,
        .backend_pid = s->backend_pid,
    };
}

const struct type_settings *session_type_settings(const struct session *s)
{
    return &s->settings.types;
}

bool session_set_parameter(struct session *s, const char *name, const char *value,
                           struct arena *arena, struct sql_error *err)
{
    const struct status st =
        settings_set(&s->settings, name, value, SETTING_STARTUP, false, arena, err);

    if (!status_ok(st) && st.code != STATUS_SQL_ERROR) {
        sql_error_from_status(err, arena, st);
    }
    return status_ok(st);
}

const char *session_get_parameter(struct session *s, const char *name)
{
    return settings_get(&s->settings, name);
}

bool session_reported_parameter(struct session *s, uint32_t i, const char **name,
                                const char **value)
{
    *name = settings_reported(i);
    if (*name == NULL) {
        return false;
    }
    *value = settings_get(&s->settings, *name);
    return true;
}

uint64_t session_idle_timeout_ns(const struct session *s, const char **sqlstate,
                                 const char **message)
{
    switch (s->block.state) {
    case BLOCK_NONE:
        *sqlstate = "57P05";
        *message = "terminating connection due to idle-session timeout";
        return s->settings.idle_timeout_ms * 1000000u;
    case BLOCK_OPEN:
    case BLOCK_FAILED:
        *sqlstate = "25P03";
        *message = "terminating connection due to idle-in-transaction timeout";
        return s->settings.idle_in_txn_timeout_ms * 1000000u;
    case BLOCK_IMPLICIT:
        break; /* Between two messages of one pipeline. */
    }
    return 0;
}

char session_txn_state(const struct session *s)
{
    switch (s->block.state) {
    case BLOCK_NONE:
        return 'I';
    case BLOCK_IMPLICIT:
    case BLOCK_OPEN:
        return 'T';
    case BLOCK_FAILED:
        return 'E';
    }
    return 'E';
}

/* ---- errors ---- */

bool session__fail(struct session *s, const struct sql_error *err)
{
    block__fail(s);
    s->sink->failed(s->sink, err);
    return false;
}

bool session__fail_status(struct session *s, struct status st, struct sql_error *err)
{
    if (st.code == STATUS_CANCELLED && s->timed_out) {
        st.code = STATUS_TIMEOUT;
    } else if (st.code == STATUS_TIMEOUT) {
        st.code = STATUS_UNAVAILABLE; /* A deadline of ours, not one that the client has set. */
    }
    if (st.code != STATUS_SQL_ERROR) {
        sql_error_from_status(err, &s->scratch, st);
        if (err->sqlstate[0] == 'X') {
            LOG_ERROR("session.internal_error", STR("why", status_text(st)),
                      U64("origin", st.origin));
        }
    }
    return session__fail(s, err);
}

void session__notice(struct session *s, enum sql_severity severity, const char *sqlstate,
                     const char *fmt, ...)
{
    struct sql_error note = {.severity = severity, .position = -1};
    char message[NOTICE_MESSAGE_MAX];
    va_list args;

    if (!settings_wants(&s->settings, severity) || s->sink->notice == NULL) {
        return;
    }
    va_start(args, fmt);
    (void)vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    note.message = message;
    memcpy(note.sqlstate, sqlstate, sizeof(note.sqlstate));
    s->sink->notice(s->sink, &note);
}

/* ---- names ---- */

static uint64_t name_hash(const char *name)
{
    return hash64(bytes_str(name), NAME_SEED);
}

struct named_statement *session__find_statement(struct session *s, const char *name)
{
    struct named_statement *n = map_get(&s->statements_by_name, name_hash(name));

    return n != NULL && strcmp(n->name, name) == 0 ? n : NULL;
}

struct status session__add_statement(struct session *s, const char *name, struct prepared *p)
{
    const size_t size = strlen(name) + 1;
    struct named_statement *n = NULL;
    struct status st = OK;

    if (s->statements_count >= SESSION_STATEMENTS_MAX) {
        return FAIL(STATUS_OVERLOADED, "too many prepared statements");
    }
    n = calloc(1, sizeof(*n) + size);
    if (n == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a prepared statement");
    }
    memcpy(n->name, name, size);
    INVARIANT(map_get(&s->statements_by_name, name_hash(name)) == NULL);
    st = map_put(&s->statements_by_name, name_hash(name), n);
    if (!status_ok(st)) {
        free(n);
        return st;
    }
    n->p = p;
    list_push_back(&s->statements, &n->link);
    s->statements_count++;
    return OK;
}

void session__drop_statement(struct session *s, struct named_statement *n)
{
    (void)map_remove(&s->statements_by_name, name_hash(n->name));
    list_remove(&n->link);
    s->statements_count--;
    prepared__release(s->sql, n->p);
    free(n);
}

void session__drop_statements(struct session *s)
{
    while (!list_empty(&s->statements)) {
        session__drop_statement(s, LIST_ENTRY(s->statements.next, struct named_statement, link));
    }
}

struct portal *session__find_portal(struct session *s, const char *name)
{
    if (name[0] == 0) {
        return s->unnamed_portal != NULL && s->unnamed_portal->p != NULL ? s->unnamed_portal : NULL;
    }
    LIST_FOREACH(it, &s->portals) {
        struct portal *p = LIST_ENTRY(it, struct portal, link);

        if (strcmp(p->name, name) == 0) {
            return p;
        }
    }
    return NULL;
}

static struct portal *portal_alloc(const char *name)
{
    const size_t size = strlen(name) + 1;
    struct portal *p = calloc(1, sizeof(*p) + size);

    if (p != NULL) {
        memcpy(p->name, name, size);
        list_init(&p->link);
        arena_init(&p->arena, PORTAL_ARENA_MAX);
        arena_init(&p->run_arena, SESSION_ARENA_MAX);
    }
    return p;
}

struct status session__add_portal(struct session *s, const char *name, struct portal **out)
{
    struct portal *p = NULL;

    if (name[0] == 0 && s->unnamed_portal != NULL) {
        *out = s->unnamed_portal;
        return OK;
    }
    if (s->portals_count >= SESSION_PORTALS_MAX) {
        return FAIL(STATUS_OVERLOADED, "too many portals");
    }
    p = portal_alloc(name);
    if (p == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a portal");
    }
    if (name[0] == 0) {
        s->unnamed_portal = p;
    } else {
        list_push_back(&s->portals, &p->link);
        s->portals_count++;
    }
    *out = p;
    return OK;
}

/* What it runs ends; an unnamed one keeps its warm memory for the next Bind. */
void session__drop_portal(struct session *s, struct portal *p)
{
    statement_end(p->run);
    p->run = NULL;
    prepared__release(s->sql, p->p);
    p->p = NULL;
    if (s->block.replay == p) {
        s->block.replay = NULL;
    }
    if (p == s->unnamed_portal) {
        recycle(&p->arena);
        recycle(&p->run_arena);
        return;
    }
    list_remove(&p->link);
    s->portals_count--;
    arena_deinit(&p->arena);
    arena_deinit(&p->run_arena);
    free(p);
}

void session__drop_portals(struct session *s)
{
    s->portals_stale = false;
    while (!list_empty(&s->portals)) {
        session__drop_portal(s, LIST_ENTRY(s->portals.next, struct portal, link));
    }
    if (s->unnamed_portal != NULL && s->unnamed_portal->p != NULL) {
        session__drop_portal(s, s->unnamed_portal);
    }
}
