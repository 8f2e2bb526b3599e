/*
 * double.c -- a store, transactions and a catalog in a few arrays.
 */
#include "tests/unit/sql/double.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/catalog/catalog.h"
#include "node/sql/parse/parse.h"
#include "node/txn/txn.h"

/* ---- store ------------------------------------------------------------------------------------- */

static struct bytes heap_dup(struct bytes b)
{
    uint8_t *p = malloc(b.len + 1);

    if (b.len > 0) {
        memcpy(p, b.ptr, b.len);
    }
    return bytes_of(p, b.len);
}

static uint32_t lower_bound(const struct kv *kv, struct bytes key)
{
    uint32_t lo = 0;
    uint32_t hi = kv->count;

    while (lo < hi) {
        const uint32_t mid = (lo + hi) / 2;

        if (bytes_cmp(kv->rows[mid].key, key) < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

static bool at_key(const struct kv *kv, uint32_t i, struct bytes key)
{
    return i < kv->count && bytes_eq(kv->rows[i].key, key);
}

static void kv_delete(struct kv *kv, struct bytes key)
{
    const uint32_t i = lower_bound(kv, key);

    if (at_key(kv, i, key)) {
        free((void *)(uintptr_t)kv->rows[i].key.ptr);
        free((void *)(uintptr_t)kv->rows[i].value.ptr);
        memmove(&kv->rows[i], &kv->rows[i + 1], (kv->count - i - 1) * sizeof(*kv->rows));
        kv->count--;
    }
}

static void kv_put(struct kv *kv, struct bytes key, struct bytes value)
{
    uint32_t i = 0;

    kv_delete(kv, key);
    i = lower_bound(kv, key);
    kv->rows = realloc(kv->rows, (kv->count + 1) * sizeof(*kv->rows));
    memmove(&kv->rows[i + 1], &kv->rows[i], (kv->count - i) * sizeof(*kv->rows));
    kv->rows[i] = (struct kv_row){heap_dup(key), heap_dup(value)};
    kv->count++;
}

static void kv_free(struct kv *kv)
{
    for (uint32_t i = 0; i < kv->count; i++) {
        free((void *)(uintptr_t)kv->rows[i].key.ptr);
        free((void *)(uintptr_t)kv->rows[i].value.ptr);
    }
    free(kv->rows);
    kv->rows = NULL;
    kv->count = 0;
}

/* ---- transactions ------------------------------------------------------------------------------ */

struct txn {
    struct kv *shared;
    struct kv own; /* The copy. */
    bool implicit;
    bool conflict;
    struct bytes conflict_key;
    uint32_t writes;
    bool ended;
};

static void txn_free(void *arg)
{
    struct txn *t = arg;

    kv_free(&t->own);
    free((void *)(uintptr_t)t->conflict_key.ptr);
}

struct status txn_begin(struct kv *kv, struct arena *arena, const struct txn_options *o,
                        struct txn **out)
{
    struct txn *t = ARENA_NEW(arena, struct txn);

    t->shared = kv;
    t->implicit = o->implicit;
    for (uint32_t i = 0; i < kv->count; i++) {
        kv_put(&t->own, kv->rows[i].key, kv->rows[i].value);
    }
    *out = t;
    return arena_defer(arena, txn_free, t);
}

struct status txn_get(struct txn *t, struct bytes key, struct arena *arena, bool *found,
                      struct bytes *value_out)
{
    const uint32_t i = lower_bound(&t->own, key);

    t->shared->gets++;
    *found = at_key(&t->own, i, key);
    return *found ? bytes_dup(arena, t->own.rows[i].value, value_out) : OK;
}

struct status txn_scan(struct txn *t, struct txn_scan *scan, struct arena *arena)
{
    const uint32_t max = scan->rows_max == 0 ? TXN_SCAN_ROWS_MAX : scan->rows_max;
    const uint32_t lo = lower_bound(&t->own, scan->start);
    const uint32_t hi = lower_bound(&t->own, scan->end);
    uint32_t n = hi > lo ? hi - lo : 0;

    t->shared->scans++;
    scan->more = n > max;
    n = n > max ? max : n;
    scan->rows = ARENA_ARRAY(arena, struct txn_row, n + 1);
    if (scan->rows == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for rows");
    }
    scan->rows_count = n;
    t->shared->scanned_rows += n;
    t->shared->scan_locks += scan->lock.strength == MVCC_NONE ? 0 : n;
    for (uint32_t i = 0; i < n; i++) {
        const struct kv_row *r = &t->own.rows[scan->reverse ? hi - 1 - i : lo + i];

        TRY(bytes_dup(arena, r->key, &scan->rows[i].key));
        TRY(bytes_dup(arena, r->value, &scan->rows[i].value));
    }
    if (scan->more && scan->reverse) {
        scan->end = scan->rows[n - 1].key;
    } else if (scan->more) {
        TRY(bytes_dup(arena, t->own.rows[lo + n].key, &scan->start));
    }
    return OK;
}

struct status txn_multi_get(struct txn *t, const struct bytes *keys, uint32_t count,
                            struct arena *arena, bool *found, struct bytes *values)
{
    const uint32_t gets = t->shared->gets;

    for (uint32_t i = 0; i < count; i++) {
        TRY(txn_get(t, keys[i], arena, &found[i], &values[i]));
    }
    t->shared->gets = gets;
    t->shared->multi_gets += count;
    return OK;
}

struct status txn_multi_get_locked(struct txn *t, const struct txn_lock *lock,
                                   const struct bytes *keys, uint32_t count, struct arena *arena,
                                   bool *found, struct bytes *values)
{
    TRY(count == 1 ? txn_get(t, keys[0], arena, found, values)
                   : txn_multi_get(t, keys, count, arena, found, values));
    for (uint32_t i = 0; i < count; i++) {
        const bool taken = t->shared->locked_elsewhere.ptr != NULL &&
                           bytes_eq(keys[i], t->shared->locked_elsewhere);

        if (taken && lock->wait != RANGE_WAIT_SKIP) {
            return FAIL(STATUS_LOCKED, "locked by another transaction");
        }
        found[i] = found[i] && !taken;
        t->shared->locks += found[i];
    }
    return OK;
}

void txn_statement(struct txn *t)
{
    t->shared->statements++;
}

void txn_set_lock_timeout(struct txn *t, uint64_t lock_timeout_ns)
{
    (void)t;
    (void)lock_timeout_ns;
}

void txn_statement_again(struct txn *t)
{
    txn_statement(t);
}

struct hts txn_began(const struct txn *t)
{
    (void)t;
    return HTS_ZERO;
}

struct status txn_put(struct txn *t, struct bytes key, struct bytes value)
{
    t->shared->puts++;
    t->writes++;
    kv_put(&t->own, key, value);
    return OK;
}

struct status txn_delete(struct txn *t, struct bytes key)
{
    t->writes++;
    kv_delete(&t->own, key);
    return OK;
}

struct status txn_insert(struct txn *t, struct bytes key, struct bytes value)
{
    if (at_key(&t->own, lower_bound(&t->own, key), key)) {
        if (!t->implicit || !at_key(t->shared, lower_bound(t->shared, key), key)) {
            return FAIL(STATUS_EXISTS, "key exists");
        }
        if (!t->conflict) {
            t->conflict = true;
            t->conflict_key = heap_dup(key);
        }
        return OK;
    }
    return txn_put(t, key, value);
}

void txn_limit_commit_ts(struct txn *t, struct hts limit)
{
    (void)t;
    (void)limit;
}

struct status txn_commit(struct txn *t)
{
    struct kv old;

    t->ended = true;
    if (t->conflict) {
        return FAIL(STATUS_EXISTS, "key exists");
    }
    if (t->writes == 0) {
        return OK;
    }
    old = *t->shared;
    t->shared->rows = t->own.rows;
    t->shared->count = t->own.count;
    t->own = (struct kv){.rows = old.rows, .count = old.count};
    return OK;
}

void txn_rollback(struct txn *t)
{
    t->ended = true;
}

uint64_t txn_savepoint(const struct txn *t)
{
    return t->writes;
}

void txn_rollback_to(struct txn *t, uint64_t savepoint)
{
    (void)t;
    (void)savepoint;
}

struct bytes txn_conflict_key(const struct txn *t)
{
    return t->conflict_key;
}

struct hts txn_ts(const struct txn *t)
{
    (void)t;
    return HTS_ZERO;
}

bool txn_has_writes(const struct txn *t)
{
    return t->writes > 0;
}

/* ---- catalog ----------------------------------------------------------------------------------- */

#define TABLES_MAX 32

struct catalog {
    struct table_desc tables[TABLES_MAX];
    bool
        cached[TABLES_MAX]; /* Not before the first catalog_acquire(): analysis starts over once. */
    uint32_t count;
};

struct status catalog_create(struct shard *shard, struct kv *kv, struct hlc *hlc,
                             struct catalog **out)
{
    (void)shard;
    (void)kv;
    (void)hlc;
    *out = calloc(1, sizeof(**out));
    return OK;
}

void catalog_destroy(struct catalog *c)
{
    for (uint32_t i = 0; i < c->count; i++) {
        for (uint32_t k = 0; k < c->tables[i].columns_count; k++) {
            free((void *)(uintptr_t)c->tables[i].columns[k].default_text);
        }
        free(c->tables[i].columns);
    }
    free(c);
}

void catalog_set_node(struct catalog *c, uint32_t node)
{
    (void)c;
    (void)node;
}

int64_t catalog_unique_rowid(struct catalog *c)
{
    (void)c;
    return 1;
}

static int find_table(const struct catalog *c, const char *name)
{
    for (uint32_t i = 0; i < c->count; i++) {
        if (strcmp(c->tables[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

struct status catalog_acquire(struct catalog *c, const char *name, struct table_desc **out)
{
    const int i = find_table(c, name);

    if (i < 0) {
        return FAIL(STATUS_NOT_FOUND, "no such table");
    }
    c->cached[i] = true;
    c->tables[i].refs++;
    *out = &c->tables[i];
    return OK;
}

struct status catalog_acquire_cached(struct catalog *c, const char *name, struct table_desc **out)
{
    const int i = find_table(c, name);

    if (i < 0 || !c->cached[i]) {
        return FAIL(STATUS_WOULD_BLOCK, "not cached");
    }
    c->tables[i].refs++;
    *out = &c->tables[i];
    return OK;
}

bool catalog_still_valid(struct catalog *c, const struct table_desc *d)
{
    (void)c;
    (void)d;
    return true;
}

void catalog_release(struct catalog *c, struct table_desc *d)
{
    (void)c;
    d->refs--;
}

uint64_t catalog_generation(const struct catalog *c)
{
    return c->count;
}

struct status catalog_create_table(struct catalog *c, const struct table_desc *desc)
{
    struct table_desc *t = &c->tables[c->count];

    if (find_table(c, desc->name) >= 0) {
        return FAIL(STATUS_EXISTS, "table exists");
    }
    *t = *desc;
    t->id = CATALOG_FIRST_TABLE_ID + c->count;
    t->version = 1;
    t->valid_until = HTS_MAX;
    t->columns = calloc(desc->columns_count + 1, sizeof(*t->columns));
    for (uint32_t i = 0; i < desc->columns_count; i++) {
        t->columns[i] = desc->columns[i];
        if (desc->columns[i].default_text != NULL) {
            t->columns[i].default_text = strdup(desc->columns[i].default_text);
        }
    }
    c->count++;
    return OK;
}

struct status catalog_drop_table(struct catalog *c, const char *name)
{
    return find_table(c, name) < 0 ? FAIL(STATUS_NOT_FOUND, "no such table") : OK;
}

struct status catalog_list(struct catalog *c, struct arena *arena, struct table_desc ***out,
                           uint32_t *count_out)
{
    (void)c;
    (void)arena;
    *out = NULL;
    *count_out = 0;
    return OK;
}

/* ---- SQL as text ------------------------------------------------------------------------------- */

static int64_t clock_us(void *ctx)
{
    (void)ctx;
    return 4242;
}

static const char *setting(void *ctx, const char *name)
{
    (void)ctx;
    return strcmp(name, "server_version") == 0 ? "15.0" : NULL;
}

void db_init(struct db *db)
{
    memset(db, 0, sizeof(*db));
    arena_init(&db->arena, (size_t)1 << 30);
    if (!status_ok(catalog_create(NULL, &db->kv, NULL, &db->catalog))) {
        abort();
    }
    db->view = (struct sql_view){.types = TYPE_SETTINGS_DEFAULT,
                                 .txn_start_us = 757382400000000, /* 2024-01-01 */
                                 .statement_start_us = 757382400000001,
                                 .clock_us = clock_us,
                                 .setting = setting,
                                 .user = "root",
                                 .session_user = "root",
                                 .database = "defaultdb",
                                 .region = "eu-west-1",
                                 .backend_pid = 7};
}

void db_deinit(struct db *db)
{
    arena_deinit(&db->arena);
    kv_free(&db->kv);
    catalog_destroy(db->catalog);
}

struct text_sink {
    struct row_sink sink;
    struct db *db;
    const struct statement *stmt;
    struct buf out;
};

static struct status text_rows(struct row_sink *sink, const struct row_block *block)
{
    struct text_sink *t = CONTAINER_OF(sink, struct text_sink, sink);
    const uint16_t cols = t->stmt->rows.count;
    char scratch[TYPE_OUT_SIZE];

    for (uint32_t r = 0; r < block->rows; r++) {
        for (uint16_t c = 0; c < cols; c++) {
            const size_t at = (size_t)r * cols + c;

            if (c > 0) {
                TRY(buf_append_u8(&t->out, '|'));
            }
            if (block->nulls[at] != 0) {
                TRY(buf_append_str(&t->out, "NULL"));
            } else {
                TRY(buf_append_bytes(&t->out,
                                     type_out_text(t->stmt->rows.columns[c].type, block->values[at],
                                                   &t->db->view.types, scratch)));
            }
        }
        TRY(buf_append_u8(&t->out, '\n'));
    }
    return OK;
}

static const char *error_text(struct db *db, struct status st)
{
    const struct sql_error *e = &db->err;
    const char *out = NULL;

    if (st.code != STATUS_SQL_ERROR) {
        return arena_printf(&db->arena, "STATUS %s: %s", status_code_text(st.code),
                            status_text(st));
    }
    out = arena_printf(&db->arena, "ERROR %s: %s", e->sqlstate, e->message);
    if (e->detail != NULL) {
        out = arena_printf(&db->arena, "%s DETAIL: %s", out, e->detail);
    }
    if (e->hint != NULL) {
        out = arena_printf(&db->arena, "%s HINT: %s", out, e->hint);
    }
    if (e->position >= 0) {
        out = arena_printf(&db->arena, "%s AT %d", out, e->position);
    }
    return out;
}

static struct status compile(struct db *db, const struct ast_stmt *ast, const oid *types,
                             uint32_t count, struct statement **out)
{
    const struct statement_source src = {.ast = ast,
                                         .catalog = db->catalog,
                                         .param_types = types,
                                         .param_types_count = types == NULL ? 0 : (uint16_t)count,
                                         .view = &db->view};

    return statement_compile(&src, &db->arena, &db->err, out);
}

static struct status read_params(struct db *db, const struct statement *s, uint32_t count,
                                 const char *const *values, union datum *params, uint8_t *nulls)
{
    const struct type_io io = {.arena = &db->arena,
                               .err = &db->err,
                               .position = -1,
                               .settings = &db->view.types,
                               .now_us = db->view.txn_start_us};

    if (count != s->params_count) {
        return FAIL(STATUS_INVALID, "wrong number of parameters");
    }
    for (uint32_t i = 0; i < count; i++) {
        nulls[i] = values[i] == NULL;
        if (values[i] != NULL) {
            TRY(type_in_text(&io, s->params[i], -1, bytes_str(values[i]), &params[i]));
        }
    }
    return OK;
}

static struct status run_ddl(struct db *db, const struct statement *s)
{
    if (s->ddl == STATEMENT_DDL_CREATE_TABLE) {
        return catalog_create_table(db->catalog, s->ddl_create);
    }
    return s->ddl == STATEMENT_DDL_DROP_TABLE ? catalog_drop_table(db->catalog, s->ddl_drop[0])
                                              : OK;
}

static struct status run_in_txn(struct db *db, struct statement *s,
                                const struct statement_context *ctx, struct arena *arena,
                                struct text_sink *sink, uint64_t *rows)
{
    struct statement_run *run = NULL;
    bool done = false;
    struct status st = statement_begin(s, ctx, arena, &db->err, &run);

    while (status_ok(st) && !done) {
        st = statement_fetch(run, db->rows_max, &sink->sink, &db->err, &done);
    }
    if (run != NULL) {
        *rows = statement_rows(run);
    }
    statement_end(run);
    return st;
}

static void keep(struct db *db, const char **text)
{
    *text = *text == NULL ? NULL : arena_strdup(&db->arena, *text);
}

static struct status execute(struct db *db, struct statement *s, uint32_t count,
                             const char *const *values, struct text_sink *sink, uint64_t *rows)
{
    const struct txn_options o = {.implicit = !db->explicit_txn};
    union datum params[16];
    uint8_t nulls[16];
    struct statement_context ctx = {.view = &db->view, .params = params, .param_nulls = nulls};
    struct arena arena;
    struct status st = OK;

    arena_init(&arena, (size_t)512 << 20);
    TRY_OUT(read_params(db, s, count, values, params, nulls));
    TRY_OUT(txn_begin(&db->kv, &arena, &o, &ctx.txn));
    TRY_OUT(run_in_txn(db, s, &ctx, &arena, sink, rows));
    st = txn_commit(ctx.txn);
    if (st.code == STATUS_EXISTS &&
        statement_conflict(s, txn_conflict_key(ctx.txn), &db->arena, &db->err)) {
        st = FAIL(STATUS_SQL_ERROR, "conflict");
    }
out:
    if (st.code == STATUS_SQL_ERROR && db->err.message != NULL) { /* The arena goes away. */
        db->err.message = arena_strdup(&db->arena, db->err.message);
        keep(db, &db->err.detail);
        keep(db, &db->err.table);
        keep(db, &db->err.column);
        keep(db, &db->err.constraint);
    }
    arena_deinit(&arena);
    return st;
}

static const char *run(struct db *db, const struct ast_stmt *ast, const oid *types, uint32_t count,
                       const char *const *values)
{
    struct statement *s = NULL;
    struct text_sink sink = {.sink = {.rows = text_rows}, .db = db};
    uint64_t rows = 0;
    const char *out = NULL;
    struct status st = compile(db, ast, types, count, &s);

    if (!status_ok(st)) {
        return error_text(db, st);
    }
    sink.stmt = s;
    st = s->plan == NULL ? run_ddl(db, s) : execute(db, s, count, values, &sink, &rows);
    if (status_ok(st)) {
        out = arena_printf(&db->arena, "%.*s%s", (int)sink.out.len,
                           sink.out.len > 0 ? (const char *)sink.out.ptr : "",
                           statement_tag(s, rows, &db->arena));
    } else {
        out = error_text(db, st);
    }
    buf_deinit(&sink.out);
    statement_release(s);
    return out;
}

static const char *run_all(struct db *db, const char *text, const oid *types, uint32_t count,
                           const char *const *values)
{
    struct parse_result parsed = {0};
    const char *out = "";
    struct status st = OK;

    db->err = (struct sql_error){.position = -1};
    st = parse_statements(bytes_str(text), &db->arena, &parsed, &db->err);
    if (!status_ok(st)) {
        return error_text(db, st);
    }
    for (uint32_t i = 0; i < parsed.count; i++) {
        out = run(db, parsed.stmts[i], types, count, values);
    }
    return out;
}

const char *db_sql(struct db *db, const char *text)
{
    return run_all(db, text, NULL, 0, NULL);
}

const char *db_params(struct db *db, const char *text, const oid *types, uint32_t count,
                      const char *const *values)
{
    return run_all(db, text, types, count, values);
}

static struct status compile_text(struct db *db, const char *text, const oid *types, uint32_t count,
                                  struct statement **out)
{
    struct parse_result parsed = {0};

    db->err = (struct sql_error){.position = -1};
    TRY(parse_statements(bytes_str(text), &db->arena, &parsed, &db->err));
    return compile(db, parsed.stmts[0], types, count, out);
}

struct statement *db_compile(struct db *db, const char *text)
{
    struct statement *s = NULL;

    return status_ok(compile_text(db, text, NULL, 0, &s)) ? s : NULL;
}

const char *db_describe(struct db *db, const char *text, const oid *types, uint32_t count)
{
    struct statement *s = NULL;
    const char *out = "";
    const struct status st = compile_text(db, text, types, count, &s);

    if (!status_ok(st)) {
        return error_text(db, st);
    }
    for (uint16_t i = 0; i < s->params_count; i++) {
        out =
            arena_printf(&db->arena, "%s%s%s", out, i == 0 ? "" : ",", type_sql_name(s->params[i]));
    }
    out = arena_printf(&db->arena, "%s ->", out);
    for (uint16_t i = 0; i < s->rows.count; i++) {
        out = arena_printf(
            &db->arena, "%s%s%s:%s", out, i == 0 ? " " : ",", s->rows.columns[i].name,
            type_format(s->rows.columns[i].type, s->rows.columns[i].typmod, &db->arena));
    }
    statement_release(s);
    return out;
}
