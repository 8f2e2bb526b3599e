/*
 * prepared.c -- from text to something that runs, and the shard's cache of it.
 *
 * Clients send the same few texts over and over, with a name (Parse once), without one, or as Query.
 * All of them meet in one cache per shard, keyed by the text, the declared parameter types and what
 * analysis depends on of the session (time zone, user, database). A hit costs a hash and a look at
 * the leases of its tables.
 *
 * A table's lease runs out every few seconds although nothing has changed. Then the leases are
 * renewed (one local read per table) and the compiled statement goes on; only when a descriptor has
 * really changed the tree is compiled again. The result columns may not change under a client that
 * has been told of them: for a statement that somebody holds by name that is an error which drivers
 * know; the cache just forgets its entry and starts over.
 */
#include <stdlib.h>

#include "node/base/invariant.h"
#include "node/catalog/catalog.h"
#include "node/sql/session/session_internal.h"

#define PREPARED_ARENA_MAX ((size_t)64 << 20)
#define REFRESH_TRIES_MAX  10u

struct prepared *prepared__acquire(struct prepared *p)
{
    p->refs++;
    return p;
}

void prepared__release(struct sql *sql, struct prepared *p)
{
    struct prepared *parent = NULL;

    if (p == NULL) {
        return;
    }
    INVARIANT(p->refs > 0);
    if (--p->refs > 0) {
        return;
    }
    INVARIANT(p->key == 0);
    parent = p->parent;
    statement_release(p->stmt);
    arena_deinit(&p->arena);
    free(p);
    prepared__release(sql, parent); /* One level: a PREPARE cannot stand in a PREPARE. */
}

static void cache_evict(struct sql *sql, struct prepared *p)
{
    (void)map_remove(&sql->cache, p->key);
    list_remove(&p->link);
    p->key = 0;
    prepared__release(sql, p);
}

void prepared__drop_cache(struct sql *sql)
{
    while (!list_empty(&sql->lru)) {
        cache_evict(sql, LIST_ENTRY(sql->lru.next, struct prepared, link));
    }
}

static void cache_add(struct sql *sql, struct prepared *p, uint64_t key)
{
    struct prepared *other = map_get(&sql->cache, key);

    if (other != NULL) {
        cache_evict(sql, other); /* Same hash, or compiled twice at the same time. */
    }
    if (sql->cache.count >= SQL_CACHE_STATEMENTS_MAX) {
        cache_evict(sql, LIST_ENTRY(sql->lru.prev, struct prepared, link));
    }
    if (status_ok(map_put(&sql->cache, key, p))) { /* Otherwise it is just not cached. */
        p->key = key;
        list_push_front(&sql->lru, &p->link);
        (void)prepared__acquire(p);
    }
}

/* 0 is no key. */
static uint64_t cache_key(const struct session *s, struct bytes text, const oid *types,
                          uint16_t types_count)
{
    uint64_t h = hash64(bytes_of(types, (size_t)types_count * sizeof(*types)),
                        (uint64_t)(uint32_t)s->settings.types.zone.offset_s);

    h = hash64(bytes_str(s->user), h);
    h = hash64(bytes_str(s->database), h + (uint64_t)s->settings.types.extra_float_digits);
    h = hash64(text, h);
    return h == 0 ? 1 : h;
}

/* EXECUTE and EXPLAIN depend on what else the session has; the others only on their text. */
static bool is_cacheable(const struct prepared *p)
{
    return p->text.len <= SQL_CACHE_TEXT_MAX && p->ast != NULL &&
           p->ast->kind != AST_STMT_EXECUTE && p->ast->kind != AST_STMT_EXPLAIN &&
           (p->stmt == NULL || p->stmt->cls != STATEMENT_DDL);
}

static struct prepared *cache_find(struct sql *sql, uint64_t key, struct bytes text,
                                   const oid *types, uint16_t types_count)
{
    struct prepared *p = map_get(&sql->cache, key);

    if (p == NULL || !bytes_eq(p->text, text) || p->param_types_count != types_count ||
        (types_count > 0 && memcmp(p->param_types, types, types_count * sizeof(*types)) != 0)) {
        return NULL;
    }
    return p;
}

/* ---- parsing and compiling ---- */

struct parse_call {
    struct bytes text;
    struct arena *arena;
    struct parse_result *out;
    struct sql_error *err;
    struct status st;
};

static void parse_on_big_stack(void *arg)
{
    struct parse_call *c = arg;

    c->st = parse_statements(c->text, c->arena, c->out, c->err);
}

struct status prepared__parse(struct session *s, struct bytes text, struct arena *arena,
                              struct parse_result *out, struct sql_error *err)
{
    struct parse_call c = {.text = text, .arena = arena, .out = out, .err = err};

    big_stack_run(s->sql->o.shard, parse_on_big_stack, &c);
    return c.st;
}

static bool is_compiled_kind(enum ast_stmt_kind kind)
{
    switch (kind) {
    case AST_STMT_SELECT:
    case AST_STMT_INSERT:
    case AST_STMT_UPDATE:
    case AST_STMT_DELETE:
    case AST_STMT_CREATE_TABLE:
    case AST_STMT_DROP_TABLE:
        return true;
    case AST_STMT_OTHER:
    case AST_STMT_TRUNCATE:
    case AST_STMT_TXN:
    case AST_STMT_SET:
    case AST_STMT_SHOW:
    case AST_STMT_DISCARD:
    case AST_STMT_PREPARE:
    case AST_STMT_EXECUTE:
    case AST_STMT_DEALLOCATE:
    case AST_STMT_EXPLAIN:
    case AST_STMT_COPY:
    case AST_STMT_RANGES:
    case AST_STMT_KIND_COUNT:
        break;
    }
    return false;
}

static MAYYIELD struct status compile(struct session *s, const struct prepared *p,
                                      struct sql_error *err, struct statement **out)
{
    struct sql_view view;
    struct statement_source source = {
        .ast = p->ast,
        .catalog = s->sql->catalog,
        .shard = s->sql->o.shard,
        .param_types = p->param_types,
        .param_types_count = p->param_types_count,
        .view = &view,
    };

    session__fill_view(s, &view);
    return statement_compile(&source, &s->scratch, err, out);
}

/* Gives p->ast its meaning. */
static MAYYIELD struct status prepare(struct session *s, struct prepared *p, struct sql_error *err)
{
    if (p->ast == NULL) {
        return OK;
    }
    if (p->ast->unsupported != NULL) {
        return sql_error_unsupported(err, &s->scratch, p->ast->unsupported_location,
                                     p->ast->unsupported);
    }
    if (is_compiled_kind(p->ast->kind)) {
        return compile(s, p, err, &p->stmt);
    }
    p->utility_rows = utility__rows(s, p->ast, &p->arena);
    return OK;
}

static struct status prepared_create(const oid *types, uint16_t types_count, struct prepared **out)
{
    struct prepared *p = calloc(1, sizeof(*p));
    oid *own = NULL;

    if (p == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a statement");
    }
    p->refs = 1;
    list_init(&p->link);
    arena_init(&p->arena, PREPARED_ARENA_MAX);
    own = ARENA_ARRAY(&p->arena, oid, types_count);
    if (own == NULL) {
        arena_deinit(&p->arena);
        free(p);
        return FAIL(STATUS_MEMORY, "no memory for a statement");
    }
    if (types_count > 0) {
        memcpy(own, types, types_count * sizeof(*types));
    }
    p->param_types = own;
    p->param_types_count = types_count;
    *out = p;
    return OK;
}

struct release_later {
    struct sql *sql;
    struct prepared *p;
};

static void release_deferred(void *arg)
{
    struct release_later *r = arg;

    prepared__release(r->sql, r->p);
}

/* Texts of an error may live in p's arena: it goes when the call's scratch memory does. */
static void release_with_scratch(struct session *s, struct prepared *p)
{
    struct release_later *r = ARENA_NEW(&s->scratch, struct release_later);

    if (r == NULL) {
        return; /* At the limit of memory: rather leak a statement than read freed memory. */
    }
    *r = (struct release_later){s->sql, p};
    if (!status_ok(arena_defer(&s->scratch, release_deferred, r))) {
        return;
    }
}

static MAYYIELD struct status prepared_parse(struct session *s, struct prepared *p,
                                             struct bytes text, bool many, struct sql_error *err)
{
    struct parse_result result = {0};

    TRY(bytes_dup(&p->arena, text, &p->text));
    TRY(prepared__parse(s, p->text, &p->arena, &result, err));
    if (result.count > 1 && many) {
        p->many = result.stmts;
        p->many_count = result.count;
        return OK;
    }
    if (result.count > 1) {
        return sql_error_set(err, &s->scratch, "42601", -1,
                             "cannot insert multiple commands into a prepared statement");
    }
    p->ast = result.count == 0 ? NULL : result.stmts[0];
    return prepare(s, p, err);
}

/* Renews the leases of a statement's tables; true when it may go on as it is. */
static MAYYIELD bool renew_leases(struct session *s, const struct statement *stmt)
{
    for (uint16_t i = 0; i < stmt->tables_count; i++) {
        struct table_desc *d = NULL;

        if (!status_ok(catalog_acquire(s->sql->catalog, stmt->tables[i]->name, &d))) {
            return false; /* Compiling says what is wrong. */
        }
        catalog_release(s->sql->catalog, d);
    }
    return statement_still_valid(stmt);
}

static MAYYIELD bool is_valid(struct session *s, struct prepared *p)
{
    struct statement *stmt = p->stmt;
    bool valid = true;

    if (stmt == NULL || stmt->cls == STATEMENT_DDL || statement_still_valid(stmt)) {
        return true;
    }
    (void)statement_acquire(stmt); /* Renewing yields, and p is shared. */
    valid = renew_leases(s, stmt);
    statement_release(stmt);
    return valid;
}

struct status prepared__get(struct session *s, struct bytes text, const oid *types,
                            uint16_t types_count, bool many, struct sql_error *err,
                            struct prepared **out)
{
    const uint64_t key = cache_key(s, text, types, types_count);
    struct prepared *p = cache_find(s->sql, key, text, types, types_count);
    struct status st = OK;

    if (p != NULL) {
        (void)prepared__acquire(p);
        if (is_valid(s, p)) {
            if (p->key != 0) {
                list_remove(&p->link);
                list_push_front(&s->sql->lru, &p->link);
            }
            *out = p;
            return OK;
        }
        if (p->key != 0) {
            cache_evict(s->sql, p);
        }
        prepared__release(s->sql, p);
    }
    TRY(prepared_create(types, types_count, &p));
    st = prepared_parse(s, p, text, many, err);
    if (!status_ok(st)) {
        release_with_scratch(s, p);
        return st;
    }
    if (is_cacheable(p) && catalog_overlay_empty(s->overlay)) {
        cache_add(s->sql, p, key);
    }
    *out = p;
    return OK;
}

struct status prepared__from_ast(struct session *s, struct ast_stmt *ast, struct bytes text,
                                 const oid *types, uint16_t types_count, struct prepared *parent,
                                 struct sql_error *err, struct prepared **out)
{
    struct prepared *p = NULL;
    struct status st = OK;

    TRY(prepared_create(types, types_count, &p));
    p->ast = ast;
    p->text = text;
    p->parent = parent == NULL ? NULL : prepared__acquire(parent);
    st = prepare(s, p, err);
    if (!status_ok(st)) {
        release_with_scratch(s, p);
        return st;
    }
    *out = p;
    return OK;
}

/* ---- after a change of the schema ---- */

static bool same_columns(const struct statement *a, const struct statement *b)
{
    if (a->has_rows != b->has_rows || a->rows.count != b->rows.count ||
        a->params_count != b->params_count) {
        return false;
    }
    for (uint16_t i = 0; i < a->rows.count; i++) {
        if (a->rows.columns[i].type != b->rows.columns[i].type ||
            a->rows.columns[i].typmod != b->rows.columns[i].typmod) {
            return false;
        }
    }
    return a->params_count == 0 ||
           memcmp(a->params, b->params, a->params_count * sizeof(*a->params)) == 0;
}

/* Compiles once more and puts it in the place of what there is. */
static MAYYIELD struct status recompile(struct session *s, struct prepared *p,
                                        struct sql_error *err)
{
    struct statement *fresh = NULL;
    struct status st = compile(s, p, err, &fresh);

    TRY(st);
    if (!same_columns(p->stmt, fresh)) {
        statement_release(fresh);
        st =
            sql_error_set(err, &s->scratch, "0A000", -1, "cached plan must not change result type");
        err->routine = "RevalidateCachedQuery"; /* Drivers look for it and prepare anew. */
        return st;
    }
    statement_release(p->stmt);
    p->stmt = fresh;
    return OK;
}

/* p is shared: while we renew or compile, another session may put a statement there that is good for
 * itself only (compiled against tables that it has not committed). So we look again after each wait,
 * and return in the same stretch in which p->stmt was found valid for us. */
struct status prepared__refresh(struct session *s, struct prepared *p, struct sql_error *err)
{
    for (uint32_t tries = 0; tries < REFRESH_TRIES_MAX; tries++) {
        if (p->stmt == NULL || p->stmt->cls == STATEMENT_DDL || statement_still_valid(p->stmt)) {
            return OK;
        }
        (void)is_valid(s, p); /* Renews. */
        if (!statement_still_valid(p->stmt)) {
            TRY(recompile(s, p, err));
        }
    }
    return FAIL(STATUS_TXN_RETRY, "tables keep changing under the statement");
}

const struct row_desc *prepared__rows(const struct prepared *p)
{
    if (p->stmt != NULL) {
        return p->stmt->has_rows ? &p->stmt->rows : NULL;
    }
    return p->utility_rows;
}

bool prepared__is_txn_control(const struct prepared *p)
{
    return p->ast != NULL && p->ast->kind == AST_STMT_TXN;
}
