/*
 * simple.c -- Query messages: any number of statements in one text.
 *
 * Without BEGIN the whole text is one implicit transaction, committed behind its last statement. All
 * of it is parsed before the first statement runs, so a syntax error anywhere runs nothing.
 *
 * When a conflict asks for another try, and the sink can take back what it was told, we go back to
 * the statement with which the implicit transaction began. A text like "INSERT ...; COMMIT; SELECT
 * ..." has several of them; each is retried by itself.
 */
#include "node/sql/session/session_internal.h"

/* The statements of one Query, and how far it is. */
struct simple {
    struct session *s;
    struct prepared *p; /* Of the whole text. */
    uint32_t count;
    uint32_t next;      /* Statement to run. */
    uint32_t txn_first; /* With it the open implicit transaction began. */
    uint32_t tries;     /* Of that transaction. */
    struct sql_error *err;
};

static MAYYIELD struct status run_prepared(struct session *s, struct prepared *p, bool single,
                                           struct sql_error *err)
{
    struct portal *portal = NULL;
    struct status st = OK;

    TRY(block__statement(s, p, err));
    if (p->stmt != NULL && p->stmt->params_count > 0) {
        return sql_error_set(err, &s->scratch, "42P02", -1, "there is no parameter $1");
    }
    TRY(run__unnamed(s, p, &portal));
    s->block.single = single && s->block.state == BLOCK_IMPLICIT;
    st = run__portal(s, portal, 0, true, err);
    if (s->block.state != BLOCK_NONE) {
        s->block.executions++;
    }
    return st;
}

static MAYYIELD struct status run_next(struct simple *q)
{
    struct session *s = q->s;
    struct prepared *p = NULL;
    struct status st = OK;

    if (q->p->many == NULL) {
        if (q->tries > 0) { /* Its leases may be what the conflict was about. */
            TRY(prepared__refresh(s, q->p, q->err));
        }
        return run_prepared(s, q->p, true, q->err);
    }
    if (s->block.state == BLOCK_FAILED && q->p->many[q->next]->kind != AST_STMT_TXN) {
        return sql_error_set(q->err, &s->scratch, "25P02", -1,
                             "current transaction is aborted, commands ignored until end of "
                             "transaction block");
    }
    TRY(prepared__from_ast(s, q->p->many[q->next], q->p->text, NULL, 0, q->p, q->err, &p));
    st = run_prepared(s, p, false, q->err);
    prepared__release(s->sql, p);
    return st;
}

/* One statement, and the implicit commit behind the last one. */
static MAYYIELD struct status step(struct simple *q)
{
    TRY(run_next(q));
    if (q->next + 1 == q->count && q->s->block.state == BLOCK_IMPLICIT) {
        return block__commit(q->s, q->err);
    }
    return OK;
}

/* Back to the start of the implicit transaction; false: this error is final. */
static MAYYIELD bool start_over(struct simple *q, struct status *st)
{
    struct session *s = q->s;
    struct status waited = OK;

    if (!run__may_retry(*st) || q->tries >= SESSION_RETRIES_MAX || !block__restart(s)) {
        return false;
    }
    q->tries++;
    q->next = q->txn_first;
    waited = run__backoff(s, q->tries);
    if (!status_ok(waited)) {
        *st = waited;
        return false;
    }
    return true;
}

static MAYYIELD void run_all(struct simple *q)
{
    struct session *s = q->s;

    while (q->next < q->count) {
        struct status st = step(q);

        if (!status_ok(st)) {
            if (start_over(q, &st)) {
                continue;
            }
            (void)session__fail_status(s, st, q->err);
            return;
        }
        q->next++;
        if (s->block.state != BLOCK_IMPLICIT) {
            q->txn_first = q->next;
            q->tries = 0;
        }
    }
}

struct status session_simple(struct session *s, struct bytes text, struct row_sink *sink)
{
    struct sql_error err = {.position = -1};
    struct simple q = {.s = s, .err = &err};
    struct named_statement *unnamed = NULL;
    struct status st = OK;

    session__enter(s, sink, true);
    unnamed = session__find_statement(s, "");
    if (unnamed != NULL) {
        session__drop_statement(s, unnamed); /* A Query destroys it, says the protocol. */
    }
    st = prepared__get(s, text, NULL, 0, true, &err, &q.p);
    if (!status_ok(st)) {
        (void)session__fail_status(s, st, &err);
    } else {
        q.count = q.p->many == NULL ? 1 : q.p->many_count;
        run_all(&q);
    }
    s->portals_stale = s->portals_stale || s->block.state == BLOCK_NONE;
    if (s->unnamed_portal != NULL && s->unnamed_portal->p != NULL) {
        session__drop_portal(s, s->unnamed_portal);
    }
    prepared__release(s->sql, q.p);
    session__leave(s);
    return OK;
}
