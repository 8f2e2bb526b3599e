/*
 * run.c -- a bound statement from begin to tag.
 *
 * Three kinds of statements meet here: those of exec (statement.h), DDL, and what the session does on
 * its own (utility.c).
 *
 * The tag of a write is told before its transaction has committed; block__remember() tells the sink
 * to hold it back until then.
 */
#include "node/catalog/catalog.h"
#include "node/sql/ddl/ddl.h"
#include "node/sql/session/session_internal.h"

#define BACKOFF_FREE_TRIES 2u
#define BACKOFF_FIRST_NS   ((uint64_t)1000000)
#define BACKOFF_MAX_NS     ((uint64_t)100000000)

bool run__may_retry(struct status st)
{
    return st.code == STATUS_TXN_RETRY || st.code == STATUS_NOT_PROPOSED;
}

struct status run__backoff(struct session *s, uint32_t tries)
{
    uint64_t ns = BACKOFF_FIRST_NS;

    if (s->cancelled) {
        return FAIL(STATUS_CANCELLED, "statement was cancelled");
    }
    if (tries <= BACKOFF_FREE_TRIES) {
        return OK;
    }
    for (uint32_t i = BACKOFF_FREE_TRIES + 1; i < tries && ns < BACKOFF_MAX_NS; i++) {
        ns *= 2;
    }
    return fiber_sleep(ns / 2 + rng_below(&s->rng, ns));
}

struct status run__unnamed(struct session *s, struct prepared *p, struct portal **out)
{
    struct portal *portal = NULL;

    TRY(session__add_portal(s, "", &portal));
    if (portal->p != NULL) {
        session__drop_portal(s, portal);
    }
    portal->p = prepared__acquire(p);
    portal->params = NULL;
    portal->nulls = NULL;
    portal->formats_count = 0;
    portal->done = false;
    *out = portal;
    return OK;
}

static struct status check_allowed(struct session *s, const struct statement *stmt,
                                   struct sql_error *err)
{
    if (s->cancelled) {
        return FAIL(STATUS_CANCELLED, "statement was cancelled");
    }
    if (s->block.read_only && (stmt->cls != STATEMENT_QUERY || stmt->lock_verb != NULL)) {
        return sql_error_set(err, &s->scratch, "25006", -1,
                             "cannot execute %s in a read-only transaction",
                             stmt->lock_verb != NULL ? stmt->lock_verb : stmt->verb);
    }
    s->block.queried = true;
    return OK;
}

static bool needs_txn(const struct statement *stmt)
{
    return stmt->cls == STATEMENT_WRITE || stmt->tables_count > 0;
}

/* *held: the statement that runs, with a reference: the prepared one may get another while we wait. */
static MAYYIELD struct status start(struct session *s, struct portal *p, struct sql_error *err,
                                    struct statement **held)
{
    struct statement_context ctx = {.view = &p->view, .params = p->params, .param_nulls = p->nulls};
    struct statement *stmt = NULL;

    TRY(prepared__refresh(s, p->p, err));
    stmt = p->p->stmt;
    TRY(block__as_of(s, p->p->ast->as_of, err));
    TRY(check_allowed(s, stmt, err));
    if (needs_txn(stmt)) {
        TRY(block__txn(s, &ctx.txn));
        block__snapshot(s);
    }
    session__fill_view(s, &p->view);
    arena_reset(&p->run_arena);
    TRY(statement_begin(stmt, &ctx, &p->run_arena, err, &p->run));
    *held = statement_acquire(stmt);
    return OK;
}

/* A portal that ran through: queries have no more rows, anything else cannot run twice. */
static struct status run_again(struct session *s, struct portal *p, struct sql_error *err)
{
    if (p->p->stmt == NULL || p->p->stmt->cls != STATEMENT_QUERY) {
        return sql_error_set(err, &s->scratch, "55000", -1, "portal \"%s\" cannot be run", p->name);
    }
    s->sink->done(s->sink, statement_tag(p->p->stmt, 0, &s->scratch));
    return OK;
}

/* Fetches from a run that has begun, and tells how it ended. */
static MAYYIELD struct status fetch(struct session *s, struct portal *p, struct statement *stmt,
                                    uint64_t rows_max, struct sql_error *err)
{
    struct row_sink *sink = s->sink;
    const uint64_t rows_before = statement_rows(p->run);
    uint64_t rows = 0;
    bool done = false;

    TRY(statement_fetch(p->run, rows_max, sink, err, &done));
    if (!done) {
        sink->done(sink, NULL);
        return OK;
    }
    rows = statement_rows(p->run) - rows_before;
    statement_end(p->run);
    p->run = NULL;
    p->done = true;
    if (stmt->cls == STATEMENT_WRITE) {
        block__remember(s, stmt);
    }
    sink->done(sink, statement_tag(stmt, rows, &s->scratch));
    return OK;
}

static MAYYIELD struct status run_statement(struct session *s, struct portal *p, uint64_t rows_max,
                                            bool begin, struct sql_error *err)
{
    struct statement *stmt = NULL;
    struct status st = OK;

    if (p->run == NULL) {
        TRY(start(s, p, err, &stmt));
        if (begin && stmt->has_rows) {
            TRY_OUT(s->sink->begin(s->sink, &stmt->rows));
        }
    } else {
        stmt = statement_acquire(p->p->stmt);
    }
    st = fetch(s, p, stmt, rows_max, err);
out:
    statement_release(stmt);
    return st;
}

static void ddl_notice(void *ctx, const char *sqlstate, const char *message)
{
    session__notice(ctx, SQL_NOTICE, sqlstate, "%s", message);
}

static struct status ddl_in_block(struct session *s, struct ddl_context *ctx)
{
    TRY(block__txn(s, &ctx->txn));
    if (s->overlay == NULL) {
        TRY(catalog_overlay_create(s->sql->catalog, &s->overlay));
        catalog_overlay_enter(s->overlay);
    }
    ctx->overlay = s->overlay;
    return OK;
}

/*
 * DDL that is a transaction of its own is carried out by the catalog alone, which can also find out
 * what became of a commit that nobody answered for. In a block, or among other statements, it is part
 * of the session's transaction.
 */
static MAYYIELD struct status run_ddl(struct session *s, struct portal *p, struct sql_error *err)
{
    struct ddl_context ctx = {
        .catalog = s->sql->catalog,
        .arena = &s->scratch,
        .err = err,
        .notice = ddl_notice,
        .ctx = s,
    };
    struct statement *stmt = p->p->stmt;

    TRY(check_allowed(s, stmt, err));
    if (s->block.state == BLOCK_OPEN || !s->block.single || s->block.executions > 0) {
        TRY(ddl_in_block(s, &ctx));
    }
    TRY(ddl_run(&ctx, stmt));
    p->done = true;
    block__told_write(s);
    s->sink->done(s->sink, statement_tag(stmt, 0, &s->scratch));
    return OK;
}

static MAYYIELD struct status run_once(struct session *s, struct portal *p, uint64_t rows_max,
                                       bool begin, struct sql_error *err)
{
    struct status st = OK;

    if (p->p->stmt == NULL) {
        return utility__run(s, p, begin, err);
    }
    st = run_statement(s, p, rows_max, begin, err);
    if (!status_ok(st)) {
        statement_end(p->run);
        p->run = NULL;
    }
    return st;
}

/*
 * A conflict inside of a transaction that has other statements: the statement alone runs again when that
 * can do no harm (block__try_again()). A whole implicit transaction is run again by our callers.
 */
static MAYYIELD struct status run_retrying(struct session *s, struct portal *p, uint64_t rows_max,
                                           bool begin, struct sql_error *err)
{
    struct block_try try;
    struct status st = OK;

    block__try_begin(s, &try);
    st = run_once(s, p, rows_max, begin, err);
    for (uint32_t n = 1; run__may_retry(st) && n <= SESSION_STATEMENT_RETRIES_MAX; n++) {
        if (!block__try_again(s, &try)) {
            break;
        }
        TRY_OUT(run__backoff(s, n));
        TRY_OUT(prepared__refresh(s, p->p, err)); /* Leases may be what it was about. */
        st = run_once(s, p, rows_max, begin, err);
    }
out:
    block__try_end(s, &try);
    return st;
}

struct status run__portal(struct session *s, struct portal *p, uint64_t rows_max, bool begin,
                          struct sql_error *err)
{
    struct status st = OK;

    if (p->done) {
        return run_again(s, p, err);
    }
    if (p->p->ast == NULL) {
        s->sink->done(s->sink, "");
        return OK;
    }
    if (p->p->stmt == NULL && p->p->ast->kind != AST_STMT_EXECUTE) {
        st = utility__run(s, p, begin, err);
        p->done = true;
        return st;
    }
    if (p->p->stmt != NULL && p->p->stmt->cls == STATEMENT_DDL) {
        return run_ddl(s, p, err);
    }
    if (p->run != NULL) { /* The rest of a portal: its beginning is with the client. */
        return run_once(s, p, rows_max, begin, err);
    }
    st = run_retrying(s, p, rows_max, begin, err);
    p->done = p->done || p->p->stmt == NULL;
    return st;
}

struct status run__inner(struct session *s, struct run_inner *r, struct sql_error *err)
{
    struct statement *stmt = NULL;
    struct sql_view view;
    struct statement_context ctx = {.view = &view, .params = r->params, .param_nulls = r->nulls};
    struct statement_run *run = NULL;
    struct status st = OK;
    struct arena arena;
    bool done = false;

    TRY(prepared__refresh(s, r->p, err));
    stmt = r->p->stmt;
    TRY(block__as_of(s, r->p->ast->as_of, err));
    TRY(check_allowed(s, stmt, err));
    if (needs_txn(stmt)) {
        TRY(block__txn(s, &ctx.txn));
        block__snapshot(s);
    }
    (void)statement_acquire(stmt);
    session__fill_view(s, &view);
    arena_init(&arena, SESSION_ARENA_MAX);
    st = statement_begin(stmt, &ctx, &arena, err, &run);
    if (status_ok(st)) {
        st = statement_fetch(run, 0, r->sink, err, &done);
    }
    if (status_ok(st)) {
        r->rows = statement_rows(run);
        if (stmt->cls == STATEMENT_WRITE) {
            block__remember(s, stmt);
        }
    } else if (st.code == STATUS_SQL_ERROR && err->message != NULL) {
        err->message = arena_printf(&s->scratch, "%s", err->message); /* Our arena goes away. */
        err->detail = err->detail == NULL ? NULL : arena_printf(&s->scratch, "%s", err->detail);
        err->hint = err->hint == NULL ? NULL : arena_printf(&s->scratch, "%s", err->hint);
        st.msg = err->message;
    }
    statement_end(run);
    statement_release(stmt);
    arena_deinit(&arena);
    return st;
}
