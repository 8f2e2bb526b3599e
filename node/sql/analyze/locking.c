/*
 * locking.c -- FOR UPDATE and its kin: which tables of a query they lock, and where they make no sense.
 *
 * A clause without OF takes every table of the query, those of sub-selects in FROM included; with OF it
 * takes items of FROM by their alias. Several clauses on one table add up to the strongest and the least
 * patient. Where a row of the result is no row of a table (DISTINCT, GROUP BY, ...) there is nothing to
 * lock, and PostgreSQL refuses; so do we, in its words.
 *
 * The four strengths become two in the planner: locks are shared or exclusive.
 *
 * Source: PostgreSQL 15, src/backend/parser/analyze.c, transformLockingClause().
 */
#include <string.h>

#include "node/sql/analyze/analyze.h"

static const char *clause_name(enum ast_lock_strength s)
{
    switch (s) {
    case AST_LOCK_KEY_SHARE:
        return "FOR KEY SHARE";
    case AST_LOCK_SHARE:
        return "FOR SHARE";
    case AST_LOCK_NO_KEY_UPDATE:
        return "FOR NO KEY UPDATE";
    case AST_LOCK_UPDATE:
        return "FOR UPDATE";
    }
    return "FOR UPDATE";
}

static enum query_lock strength_of(enum ast_lock_strength s)
{
    switch (s) {
    case AST_LOCK_KEY_SHARE:
        return QUERY_LOCK_KEY_SHARE;
    case AST_LOCK_SHARE:
        return QUERY_LOCK_SHARE;
    case AST_LOCK_NO_KEY_UPDATE:
        return QUERY_LOCK_NO_KEY_UPDATE;
    case AST_LOCK_UPDATE:
        return QUERY_LOCK_UPDATE;
    }
    return QUERY_LOCK_UPDATE;
}

static enum query_lock_wait wait_of(enum ast_lock_wait w)
{
    switch (w) {
    case AST_LOCK_BLOCK:
        return QUERY_LOCK_BLOCK;
    case AST_LOCK_SKIP_LOCKED:
        return QUERY_LOCK_SKIP;
    case AST_LOCK_NOWAIT:
        return QUERY_LOCK_NOWAIT;
    }
    return QUERY_LOCK_BLOCK;
}

static struct status refuse(struct analyzer *a, const struct ast_locking *k, const char *what)
{
    return sql_error_set(a->err, a->arena, "0A000", -1, "%s %s", clause_name(k->strength), what);
}

struct status analyze_refuse_locking(struct analyzer *a, const struct ast_select *s)
{
    if (s->locking_count == 0) {
        return OK;
    }
    if (s->is_values) {
        return refuse(a, &s->locking[0], "cannot be applied to VALUES");
    }
    if (s->arms_count > 0) {
        return refuse(a, &s->locking[0], "is not allowed with UNION/INTERSECT/EXCEPT");
    }
    return OK;
}

/* A row of the result must be a row of a table. */
static struct status check_query(struct analyzer *a, const struct query *q,
                                 const struct ast_locking *k)
{
    if (q->distinct) {
        return refuse(a, k, "is not allowed with DISTINCT clause");
    }
    if (q->groups_count > 0) {
        return refuse(a, k, "is not allowed with GROUP BY clause");
    }
    if (q->having != NULL) {
        return refuse(a, k, "is not allowed with HAVING clause");
    }
    if (q->aggregates) {
        return refuse(a, k, "is not allowed with aggregate functions");
    }
    return OK;
}

static struct status lock_all(struct analyzer *a, struct query *q, const struct ast_locking *k);

/* Sub-selects nest no deeper than STATEMENT_DEPTH_MAX. */
static struct status lock_rel(struct analyzer *a, struct query_rel *r, const struct ast_locking *k)
{
    const enum query_lock lock = strength_of(k->strength);
    const enum query_lock_wait wait = wait_of(k->wait);

    if (r->kind == QUERY_REL_SELECT) {
        return lock_all(a, r->select, k);
    }
    if (r->kind != QUERY_REL_TABLE) {
        return OK;
    }
    r->lock = lock > r->lock ? lock : r->lock;
    r->lock_wait = wait > r->lock_wait ? wait : r->lock_wait;
    if (a->lock_verb == NULL) {
        a->lock_verb = arena_printf(a->arena, "SELECT %s", clause_name(k->strength));
    }
    return a->lock_verb == NULL ? analyze_no_memory() : OK;
}

static struct status lock_all(struct analyzer *a, struct query *q, const struct ast_locking *k)
{
    TRY(check_query(a, q, k));
    for (uint16_t i = 0; i < q->rels_count; i++) {
        TRY(lock_rel(a, &q->rels[i], k));
    }
    return OK;
}

static struct status lock_named(struct analyzer *a, struct query *q, const struct ast_locking *k,
                                const struct ast_name *name)
{
    const char *clause = clause_name(k->strength);

    if (name->schema != NULL) {
        return sql_error_set(a->err, a->arena, "42601", name->location,
                             "%s must specify unqualified relation names", clause);
    }
    for (uint16_t i = 0; i < q->rels_count; i++) {
        struct query_rel *r = &q->rels[i];

        if (strcmp(r->alias, name->name) != 0) {
            continue;
        }
        if (r->kind == QUERY_REL_SERIES) {
            return sql_error_set(a->err, a->arena, "0A000", name->location,
                                 "%s cannot be applied to a function", clause);
        }
        return lock_rel(a, r, k);
    }
    return sql_error_set(a->err, a->arena, "42P01", name->location,
                         "relation \"%s\" in %s clause not found in FROM clause", name->name,
                         clause);
}

struct status analyze_locking(struct analyzer *a, const struct ast_select *s, struct query *q)
{
    for (uint32_t i = 0; i < s->locking_count; i++) {
        const struct ast_locking *k = &s->locking[i];

        if (k->tables.count == 0) {
            TRY(lock_all(a, q, k));
            continue;
        }
        TRY(check_query(a, q, k));
        for (uint32_t t = 0; t < k->tables.count; t++) {
            TRY(lock_named(a, q, k, &k->tables.items[t]));
        }
    }
    return OK;
}
