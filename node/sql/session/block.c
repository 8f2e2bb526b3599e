/*
 * block.c -- the transaction of a session, as SQL sees it.
 *
 *     state     entered by                 left by
 *     NONE      start, end of transaction  a statement -> IMPLICIT, BEGIN -> OPEN
 *     IMPLICIT  a statement                end of Query or Sync: commit -> NONE; error -> NONE
 *     OPEN      BEGIN                      COMMIT, ROLLBACK -> NONE; error -> FAILED
 *     FAILED    an error in OPEN           COMMIT, ROLLBACK -> NONE; ROLLBACK TO -> OPEN
 *
 * The transaction itself (txn.h) begins with the first statement that reads or writes, so BEGIN, SET
 * and the like cost nothing. Its writes are buffered until the commit; a savepoint is a position in
 * that buffer and a mark in the settings.
 *
 * An implicit transaction can be run again without anybody noticing as long as the sink can take back
 * what it was told (block__restart). An explicit one cannot: the client has seen results and decided
 * what to do next. Statements of a write are remembered, because a commit may find a duplicate key and
 * only the statement knows the name of its constraint.
 */
#include <stdlib.h>

#include "node/base/invariant.h"
#include "node/catalog/catalog.h"
#include "node/sql/session/session_internal.h"
#include "node/txn/txn.h"

#define BLOCK_KEPT_MAX ((size_t)64 << 10)

void block__init(struct block *b)
{
    *b = (struct block){.state = BLOCK_NONE};
    arena_init(&b->arena, SESSION_ARENA_MAX);
    list_init(&b->savepoints);
}

static void hold(struct session *s, bool held)
{
    if (s->sink != NULL && s->sink->hold != NULL) {
        s->sink->hold(s->sink, held);
    }
}

static void drop_savepoint(struct block *b, struct savepoint *p)
{
    list_remove(&p->link);
    b->savepoints_count--;
    free(p);
}

static void forget_executed(struct block *b)
{
    for (uint32_t i = 0; i < b->executed_count; i++) {
        statement_release(b->executed[i]);
    }
    b->executed_count = 0;
    b->executions = 0;
    b->replay = NULL;
}

static void drop_txn(struct block *b)
{
    if (b->txn != NULL) {
        txn_rollback(b->txn);
        b->txn = NULL;
    }
    if (b->arena.used_bytes > BLOCK_KEPT_MAX) {
        arena_deinit(&b->arena);
    } else {
        arena_reset(&b->arena);
    }
}

/* Runs read through the transaction: they end before it does. */
static void end_runs(struct session *s)
{
    LIST_FOREACH(it, &s->portals) {
        struct portal *p = LIST_ENTRY(it, struct portal, link);

        statement_end(p->run);
        p->run = NULL;
    }
    if (s->unnamed_portal != NULL) {
        statement_end(s->unnamed_portal->run);
        s->unnamed_portal->run = NULL;
    }
    s->portals_stale = true;
}

static void finish(struct session *s)
{
    struct block *b = &s->block;

    end_runs(s);
    drop_txn(b);
    catalog_overlay_rollback_to(s->overlay, 0); /* After a commit there is nothing left in it. */
    forget_executed(b);
    while (!list_empty(&b->savepoints)) {
        drop_savepoint(b, LIST_ENTRY(b->savepoints.next, struct savepoint, link));
    }
    b->state = BLOCK_NONE;
    b->read_only = false;
    b->as_of = HTS_ZERO;
    b->began = HTS_ZERO;
    b->again = false;
    b->as_of_once = false;
    b->queried = false;
    b->single = false;
    b->told_write = false;
    b->commit_failed = false;
    b->unrepeatable = false;
    hold(s, false);
}

static void open_block(struct session *s, enum block_state state)
{
    struct block *b = &s->block;

    if (b->state == BLOCK_NONE) {
        b->start_us = s->statement_start_us;
        b->read_only = s->settings.default_read_only;
    }
    b->marked = state == BLOCK_IMPLICIT && s->sink->mark != NULL;
    b->mark = b->marked ? s->sink->mark(s->sink) : 0;
    b->state = state;
}

struct status block__statement(struct session *s, const struct prepared *p, struct sql_error *err)
{
    if (prepared__is_txn_control(p)) {
        return OK;
    }
    if (s->block.state == BLOCK_FAILED) {
        return sql_error_set(err, &s->scratch, "25P02", -1,
                             "current transaction is aborted, commands ignored until end of "
                             "transaction block");
    }
    if (s->block.state == BLOCK_NONE) {
        open_block(s, BLOCK_IMPLICIT);
    }
    return OK;
}

const char *block__isolation(const struct session *s)
{
    return settings_get(&s->settings, s->block.state == BLOCK_OPEN || s->block.state == BLOCK_FAILED
                                          ? "transaction_isolation"
                                          : "default_transaction_isolation");
}

/* Each level is carried out as itself or as a stronger one. */
static enum txn_isolation isolation_of(const char *name)
{
    const bool weak = strcmp(name, "read committed") == 0 || strcmp(name, "read uncommitted") == 0;

    return weak ? TXN_READ_COMMITTED : TXN_SERIALIZABLE;
}

struct status block__as_of(struct session *s, const struct ast_expr *e, struct sql_error *err)
{
    struct block *b = &s->block;

    if (e == NULL && !b->as_of_once) {
        return OK;
    }
    if (b->state == BLOCK_IMPLICIT && (e == NULL || b->txn != NULL)) { /* Its time is settled. */
        return sql_error_unsupported(err, &s->scratch, e == NULL ? -1 : e->location,
                                     "AS OF SYSTEM TIME beside other statements of one message");
    }
    if (e == NULL) {
        return OK;
    }
    if (b->state == BLOCK_OPEN) {
        (void)sql_error_unsupported(err, &s->scratch, e->location,
                                    "AS OF SYSTEM TIME in a transaction block");
        err->hint = "Write it behind BEGIN.";
        return FAIL(STATUS_SQL_ERROR, err->message);
    }
    TRY(as_of__resolve(s, e, err, &b->as_of));
    b->as_of_once = true;
    b->read_only = true;
    return OK;
}

struct status block__txn(struct session *s, struct txn **out)
{
    struct block *b = &s->block;
    const struct txn_options options = {
        .isolation = isolation_of(block__isolation(s)),
        .began = b->began,
        .as_of = b->as_of,
        .lock_timeout_ns = s->settings.lock_timeout_ms * 1000000u,
        .implicit = b->state == BLOCK_IMPLICIT && b->single,
        .read_only = b->read_only,
        .deadline_ns = DEADLINE_NONE,
    };

    INVARIANT(b->state == BLOCK_IMPLICIT || b->state == BLOCK_OPEN);
    if (b->txn == NULL) {
        TRY(txn_begin(s->sql->o.kv, &b->arena, &options, &b->txn));
        b->began = txn_began(b->txn);
    } else {
        txn_set_lock_timeout(b->txn, options.lock_timeout_ns); /* It may have been SET since. */
    }
    *out = b->txn;
    return OK;
}

void block__snapshot(struct session *s)
{
    if (s->block.again) {
        txn_statement_again(s->block.txn);
    } else {
        txn_statement(s->block.txn);
    }
    s->block.again = false;
}

void block__told_write(struct session *s)
{
    struct block *b = &s->block;

    if (b->state == BLOCK_IMPLICIT && !b->told_write) {
        b->told_write = true;
        hold(s, true);
    }
}

void block__remember(struct session *s, struct statement *stmt)
{
    struct block *b = &s->block;

    block__told_write(s);
    for (uint32_t i = 0; i < b->executed_count; i++) {
        if (b->executed[i] == stmt) {
            return;
        }
    }
    if (b->executed_count < SESSION_EXECUTED_MAX) { /* Others: a message without a name. */
        b->executed[b->executed_count++] = statement_acquire(stmt);
    }
}

/* The commit met a row where an INSERT wanted to put one. */
static struct status duplicate_key(struct session *s, struct sql_error *err)
{
    const struct bytes key = txn_conflict_key(s->block.txn);

    for (uint32_t i = 0; i < s->block.executed_count; i++) {
        if (statement_conflict(s->block.executed[i], key, &s->scratch, err)) {
            return FAIL(STATUS_SQL_ERROR, err->message);
        }
    }
    return sql_error_set(err, &s->scratch, "23505", -1,
                         "duplicate key value violates unique constraint");
}

struct status block__commit(struct session *s, struct sql_error *err)
{
    struct block *b = &s->block;
    struct status st = OK;
    struct hts ts = HTS_ZERO;

    end_runs(s);
    if (b->txn != NULL) {
        st = txn_commit(b->txn);
        ts = txn_ts(b->txn);
        if (st.code == STATUS_EXISTS) {
            st = duplicate_key(s, err);
        }
        if (!status_ok(st) && st.msg != NULL && st.code != STATUS_SQL_ERROR) {
            st.msg =
                arena_printf(&s->scratch, "%s", st.msg); /* Outlives the transaction's arena. */
        }
        b->txn = NULL; /* It is over either way. */
    }
    b->commit_failed = !status_ok(st);
    TRY(st);
    catalog_overlay_committed(s->overlay, ts);
    settings_commit(&s->settings);
    finish(s);
    return OK;
}

void block__rollback(struct session *s)
{
    if (s->block.state != BLOCK_NONE) {
        settings_rollback(&s->settings);
        finish(s);
    }
}

void block__fail(struct session *s)
{
    struct block *b = &s->block;

    switch (b->state) {
    case BLOCK_NONE:
    case BLOCK_FAILED:
        return;
    case BLOCK_IMPLICIT:
        /* A commit that failed: the tags that the sink still holds must not be read as success. After
         * an error in a statement they stay, as in PostgreSQL: the error behind them says it. */
        if (b->commit_failed && b->marked) {
            (void)s->sink->rewind(s->sink, b->mark);
        }
        block__rollback(s);
        return;
    case BLOCK_OPEN:
        end_runs(s);
        if (list_empty(&b->savepoints)) {
            drop_txn(b); /* Nothing can be rolled back to. */
        }
        b->state = BLOCK_FAILED;
        return;
    }
}

bool block__restart(struct session *s)
{
    struct block *b = &s->block;

    if (b->state != BLOCK_IMPLICIT || !b->marked || b->unrepeatable ||
        !s->sink->rewind(s->sink, b->mark)) {
        return false;
    }
    end_runs(s);
    s->portals_stale = false; /* They run again. */
    settings_rollback(&s->settings);
    drop_txn(b);
    catalog_overlay_rollback_to(s->overlay, 0);
    forget_executed(b);
    b->told_write = false;
    b->commit_failed = false;
    hold(s, false);
    b->mark = s->sink->mark(s->sink);
    return true;
}

/* ---- one statement again ---- */

void block__try_begin(struct session *s, struct block_try *out)
{
    const struct block *b = &s->block;

    *out = (struct block_try){.first = b->state == BLOCK_OPEN && b->txn == NULL,
                              .position = b->txn == NULL ? 0 : txn_savepoint(b->txn)};
    if (s->sink->mark != NULL && (b->state == BLOCK_OPEN || b->state == BLOCK_IMPLICIT)) {
        out->marked = true;
        out->mark = s->sink->mark(s->sink);
    }
}

bool block__try_again(struct session *s, const struct block_try *t)
{
    struct block *b = &s->block;
    const bool committed_reads = isolation_of(block__isolation(s)) == TXN_READ_COMMITTED;

    /* Nothing before it in an implicit transaction: our callers run all of that again. */
    if (!t->marked || (!t->first && (!committed_reads || b->executions == 0)) || b->txn == NULL ||
        !s->sink->rewind(s->sink, t->mark)) {
        return false;
    }
    if (t->first) {
        drop_txn(b); /* No savepoint and no portal knows it yet. */
    } else {
        txn_rollback_to(b->txn, t->position);
        b->again = true;
    }
    return true;
}

void block__try_end(struct session *s, const struct block_try *t)
{
    if (t->marked && s->block.state == BLOCK_OPEN) {
        hold(s, false);
    }
}

/* ---- BEGIN and its family ---- */

static const char *isolation_name(enum ast_isolation i)
{
    switch (i) {
    case AST_ISOLATION_DEFAULT:
        break;
    case AST_ISOLATION_READ_UNCOMMITTED:
        return "read uncommitted";
    case AST_ISOLATION_READ_COMMITTED:
        return "read committed";
    case AST_ISOLATION_REPEATABLE_READ:
        return "repeatable read";
    case AST_ISOLATION_SERIALIZABLE:
        return "serializable";
    }
    return NULL;
}

/* A transaction's modes are settled by its first query; to become read-only is always possible. */
struct status block__check_mode(struct session *s, const char *name, const char *value,
                                struct sql_error *err)
{
    const struct block *b = &s->block;

    if (!b->queried || value == NULL || b->state != BLOCK_OPEN) {
        return OK;
    }
    if (strcasecmp(name, "transaction_isolation") == 0 &&
        strcasecmp(value, block__isolation(s)) != 0) {
        return sql_error_set(err, &s->scratch, "25001", -1,
                             "SET TRANSACTION ISOLATION LEVEL must be called before any query");
    }
    if (strcasecmp(name, "transaction_read_only") == 0 && b->read_only &&
        strcasecmp(value, "on") != 0) {
        return sql_error_set(err, &s->scratch, "25001", -1,
                             "transaction read-write mode must be set before any query");
    }
    return OK;
}

struct status block__set_modes(struct session *s, const struct ast_txn_modes *m,
                               struct sql_error *err)
{
    const char *isolation = isolation_name(m->isolation);

    if (isolation != NULL) {
        TRY(block__check_mode(s, "transaction_isolation", isolation, err));
        TRY(settings_set(&s->settings, "transaction_isolation", isolation, SETTING_LOCAL, true,
                         &s->scratch, err));
    }
    if (m->read_only >= 0) {
        TRY(block__check_mode(s, "transaction_read_only", m->read_only == 1 ? "on" : "off", err));
        s->block.read_only = m->read_only == 1;
        TRY(settings_set(&s->settings, "transaction_read_only", m->read_only == 1 ? "on" : "off",
                         SETTING_LOCAL, true, &s->scratch, err));
    }
    return OK;
}

static struct status begin_as_of(struct session *s, const struct ast_txn *t,
                                 const struct ast_expr *as_of, struct sql_error *err)
{
    static const struct ast_txn_modes read_only = {AST_ISOLATION_DEFAULT, 1, -1};

    if (t->modes.read_only == 0) {
        return sql_error_set(err, &s->scratch, "42601", as_of->location,
                             "AS OF SYSTEM TIME specified with READ WRITE mode");
    }
    if (s->block.txn != NULL) {
        return sql_error_set(err, &s->scratch, "25001", as_of->location,
                             "AS OF SYSTEM TIME must be specified before any query");
    }
    TRY(as_of__resolve(s, as_of, err, &s->block.as_of));
    return block__set_modes(s, &read_only, err);
}

static struct status begin(struct session *s, const struct ast_txn *t, const struct ast_expr *as_of,
                           struct sql_error *err, const char **tag)
{
    const char *isolation = settings_get(&s->settings, "default_transaction_isolation");

    *tag = t->start ? "START TRANSACTION" : "BEGIN";
    switch (s->block.state) {
    case BLOCK_OPEN:
        session__notice(s, SQL_WARNING, "25001", "there is already a transaction in progress");
        return OK;
    case BLOCK_FAILED:
        return sql_error_set(err, &s->scratch, "25P02", -1,
                             "current transaction is aborted, commands ignored until end of "
                             "transaction block");
    case BLOCK_NONE:
    case BLOCK_IMPLICIT: /* Later in a Query of several: what went before joins the block. */
        break;
    }
    hold(s, false);
    open_block(s, BLOCK_OPEN);
    if (t->modes.isolation == AST_ISOLATION_DEFAULT) {
        TRY(settings_set(&s->settings, "transaction_isolation", isolation, SETTING_LOCAL, true,
                         &s->scratch, err));
    }
    TRY(block__set_modes(s, &t->modes, err));
    return as_of == NULL ? OK : begin_as_of(s, t, as_of, err);
}

static MAYYIELD struct status commit(struct session *s, struct sql_error *err, const char **tag)
{
    struct status st = OK;

    *tag = "COMMIT";
    switch (s->block.state) {
    case BLOCK_NONE:
        session__notice(s, SQL_WARNING, "25P01", "there is no transaction in progress");
        return OK;
    case BLOCK_FAILED:
        *tag = "ROLLBACK";
        block__rollback(s);
        return OK;
    case BLOCK_IMPLICIT:
        session__notice(s, SQL_WARNING, "25P01", "there is no transaction in progress");
        return block__commit(s, err);
    case BLOCK_OPEN:
        break;
    }
    st = block__commit(s, err);
    if (!status_ok(st)) {
        block__rollback(s); /* A COMMIT ends the block whatever comes of it. */
    }
    return st;
}

static struct savepoint *find_savepoint(struct block *b, const char *name)
{
    LIST_FOREACH(it, &b->savepoints) {
        struct savepoint *p = LIST_ENTRY(it, struct savepoint, link);

        if (strcmp(p->name, name) == 0) {
            return p;
        }
    }
    return NULL;
}

static struct status set_savepoint(struct session *s, const char *name, struct sql_error *err)
{
    const size_t size = strlen(name) + 1;
    struct block *b = &s->block;
    struct savepoint *p = NULL;

    if (b->savepoints_count >= SESSION_SAVEPOINTS_MAX) {
        return sql_error_set(err, &s->scratch, "53400", -1, "too many savepoints");
    }
    p = calloc(1, sizeof(*p) + size);
    if (p == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a savepoint");
    }
    memcpy(p->name, name, size);
    p->has_txn = b->txn != NULL;
    p->position = p->has_txn ? txn_savepoint(b->txn) : 0;
    p->settings = settings_mark(&s->settings);
    p->overlay = catalog_overlay_mark(s->overlay);
    list_push_front(&b->savepoints, &p->link);
    b->savepoints_count++;
    return OK;
}

/* Everything newer than p goes, and p itself if `self`. */
static void drop_savepoints_down_to(struct block *b, struct savepoint *p, bool self)
{
    while (b->savepoints.next != &p->link) {
        drop_savepoint(b, LIST_ENTRY(b->savepoints.next, struct savepoint, link));
    }
    if (self) {
        drop_savepoint(b, p);
    }
}

static void rollback_to(struct session *s, struct savepoint *p)
{
    struct block *b = &s->block;

    end_runs(s);
    drop_savepoints_down_to(b, p, false);
    settings_rollback_to(&s->settings, p->settings);
    catalog_overlay_rollback_to(s->overlay, p->overlay);
    if (p->has_txn) {
        txn_rollback_to(b->txn, p->position);
    } else {
        drop_txn(b); /* Nothing had been read or written: begins anew with the next statement. */
        b->began = HTS_ZERO;
    }
    b->state = BLOCK_OPEN;
}

static struct status savepoint_control(struct session *s, const struct ast_txn *t,
                                       struct sql_error *err, const char **tag)
{
    const char *verb = t->kind == AST_TXN_SAVEPOINT ? "SAVEPOINT"
                       : t->kind == AST_TXN_RELEASE ? "RELEASE SAVEPOINT"
                                                    : "ROLLBACK TO SAVEPOINT";
    struct savepoint *p = NULL;

    *tag = t->kind == AST_TXN_SAVEPOINT ? "SAVEPOINT"
           : t->kind == AST_TXN_RELEASE ? "RELEASE"
                                        : "ROLLBACK";
    if (s->block.state == BLOCK_NONE || s->block.state == BLOCK_IMPLICIT) {
        return sql_error_set(err, &s->scratch, "25P01", -1,
                             "%s can only be used in transaction blocks", verb);
    }
    if (s->block.state == BLOCK_FAILED && t->kind != AST_TXN_ROLLBACK_TO) {
        return sql_error_set(err, &s->scratch, "25P02", -1,
                             "current transaction is aborted, commands ignored until end of "
                             "transaction block");
    }
    if (t->kind == AST_TXN_SAVEPOINT) {
        return set_savepoint(s, t->name, err);
    }
    p = find_savepoint(&s->block, t->name);
    if (p == NULL) {
        return sql_error_set(err, &s->scratch, "3B001", -1, "savepoint \"%s\" does not exist",
                             t->name);
    }
    if (t->kind == AST_TXN_RELEASE) {
        drop_savepoints_down_to(&s->block, p, true);
    } else {
        rollback_to(s, p);
    }
    return OK;
}

struct status block__control(struct session *s, const struct ast_stmt *ast, struct sql_error *err,
                             const char **tag)
{
    const struct ast_txn *t = ast->txn;

    if (t->chain) {
        return sql_error_unsupported(err, &s->scratch, -1, "AND CHAIN");
    }
    switch (t->kind) {
    case AST_TXN_BEGIN:
        return begin(s, t, ast->as_of, err, tag);
    case AST_TXN_COMMIT:
        return commit(s, err, tag);
    case AST_TXN_ROLLBACK:
        *tag = "ROLLBACK";
        if (s->block.state == BLOCK_NONE || s->block.state == BLOCK_IMPLICIT) {
            session__notice(s, SQL_WARNING, "25P01", "there is no transaction in progress");
        }
        block__rollback(s);
        return OK;
    case AST_TXN_SAVEPOINT:
    case AST_TXN_RELEASE:
    case AST_TXN_ROLLBACK_TO:
        return savepoint_control(s, t, err, tag);
    case AST_TXN_PREPARE:
    case AST_TXN_COMMIT_PREPARED:
    case AST_TXN_ROLLBACK_PREPARED:
        break;
    }
    return sql_error_unsupported(err, &s->scratch, -1, "two-phase commit");
}
