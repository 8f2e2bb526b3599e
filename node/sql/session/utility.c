/*
 * utility.c -- statements that the session carries out itself: SET, SHOW, PREPARE and their kin.
 *
 * EXECUTE's arguments are expressions. Rather than an evaluator of our own they become a query,
 * SELECT CAST(arg AS type), ..., that the ordinary machinery compiles and runs; its one row are the
 * parameters. TRUNCATE becomes DELETE: slower than swapping an index, right in a transaction.
 */
#include "node/sql/session/session_internal.h"
#include "node/sql/types/type.h"

/* ---- SHOW ---- */

static void text_column(struct row_column *c, const char *name)
{
    *c = (struct row_column){.name = name, .type = TYPE_TEXT, .typmod = -1, .typlen = -1};
}

static const struct row_desc *make_rows(struct arena *arena, const char *const *names,
                                        uint16_t count)
{
    struct row_desc *d = ARENA_NEW(arena, struct row_desc);
    struct row_column *columns = ARENA_ARRAY(arena, struct row_column, count);

    if (d == NULL || columns == NULL) {
        return NULL;
    }
    for (uint16_t i = 0; i < count; i++) {
        text_column(&columns[i], names[i]);
    }
    *d = (struct row_desc){columns, count};
    return d;
}

/* Columns of a statement that may go away before the EXECUTE that shows them. */
static const struct row_desc *copy_rows(struct arena *arena, const struct row_desc *rows)
{
    struct row_desc *d = ARENA_NEW(arena, struct row_desc);
    struct row_column *columns =
        rows == NULL ? NULL : ARENA_ARRAY(arena, struct row_column, rows->count);

    if (d == NULL || columns == NULL) {
        return NULL;
    }
    for (uint16_t i = 0; i < rows->count; i++) {
        columns[i] = rows->columns[i];
        columns[i].name = arena_strdup(arena, rows->columns[i].name);
        if (columns[i].name == NULL) {
            return NULL;
        }
    }
    *d = (struct row_desc){columns, rows->count};
    return d;
}

static bool is_show_all(const struct ast_show *show)
{
    return strcmp(show->name, "all") == 0;
}

const struct row_desc *utility__rows(struct session *s, const struct ast_stmt *ast,
                                     struct arena *arena)
{
    static const char *const all[] = {"name", "setting", "description"};
    struct named_statement *n = NULL;
    const char *name = NULL;

    if (ast->kind == AST_STMT_SHOW) {
        if (is_show_all(ast->show)) {
            return make_rows(arena, all, ARRAY_COUNT(all));
        }
        name = arena_strdup(arena, settings_canonical_name(ast->show->name));
        return name == NULL ? NULL : make_rows(arena, &name, 1);
    }
    if (ast->kind == AST_STMT_RANGES) {
        return ranges__rows(ast->ranges, arena);
    }
    if (ast->kind == AST_STMT_EXECUTE) {
        n = session__find_statement(s, ast->execute->name);
        return n == NULL ? NULL : copy_rows(arena, prepared__rows(n->p));
    }
    return NULL;
}

static MAYYIELD struct status tell_texts(struct session *s, const char *const *texts,
                                         uint16_t count)
{
    union datum values[3] = {{0}};
    uint8_t nulls[3] = {0};
    const struct row_block block = {.values = values, .nulls = nulls, .rows = 1};

    for (uint16_t i = 0; i < count; i++) {
        values[i].bytes = bytes_str(texts[i]);
    }
    return s->sink->rows(s->sink, &block);
}

static MAYYIELD struct status show_all(struct session *s)
{
    for (uint32_t i = 0; settings_def(i) != NULL; i++) {
        const struct setting_def *d = settings_def(i);
        const char *const row[] = {d->name, session__show(s, d->name), d->description};

        TRY(tell_texts(s, row, ARRAY_COUNT(row)));
    }
    return OK;
}

static MAYYIELD struct status show(struct session *s, struct portal *p, bool begin,
                                   struct sql_error *err)
{
    const struct ast_show *a = p->p->ast->show;
    const char *value = NULL;

    if (!is_show_all(a)) {
        value = session__show(s, a->name);
        if (value == NULL) {
            return sql_error_set(err, &s->scratch, "42704", -1,
                                 "unrecognized configuration parameter \"%s\"", a->name);
        }
    }
    if (p->p->utility_rows == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    if (begin) {
        TRY(s->sink->begin(s->sink, p->p->utility_rows));
    }
    TRY(value == NULL ? show_all(s) : tell_texts(s, &value, 1));
    s->sink->done(s->sink, "SHOW");
    return OK;
}

/* ---- SET ---- */

/* One or two digits; -1 when there are none. Moves *p behind them. */
static int two_digits(const char **p)
{
    int v = -1;

    for (int i = 0; i < 2 && **p >= '0' && **p <= '9'; i++, (*p)++) {
        v = (v < 0 ? 0 : v * 10) + (**p - '0');
    }
    return v;
}

/* INTERVAL '+02:00' of SET TIME ZONE: hours east of UTC, as a zone that time_zone_parse() knows.
 * NULL: something else. */
static const char *interval_zone(const char *text, struct arena *arena)
{
    const bool negative = text[0] == '-';
    const char *p = text + (negative || text[0] == '+' ? 1 : 0);
    const int hours = two_digits(&p);
    int minutes = 0;

    if (*p == ':') {
        p++;
        minutes = two_digits(&p);
    }
    if (hours < 0 || minutes < 0 || *p != 0) {
        return NULL;
    }
    if (minutes == 0) {
        return arena_printf(arena, "<%c%02d>%c%02d", negative ? '-' : '+', hours,
                            negative ? '+' : '-', hours);
    }
    return arena_printf(arena, "<%c%02d:%02d>%c%02d:%02d", negative ? '-' : '+', hours, minutes,
                        negative ? '+' : '-', hours, minutes);
}

static const char *argument_text(const struct ast_expr *e, struct arena *arena)
{
    if (e->kind == AST_CAST && e->cast.arg->kind == AST_CONST &&
        e->cast.arg->constant.kind == AST_CONST_STRING) {
        return interval_zone((const char *)e->cast.arg->constant.text.ptr, arena);
    }
    if (e->kind != AST_CONST) {
        return NULL;
    }
    switch (e->constant.kind) {
    case AST_CONST_NULL:
    case AST_CONST_BIT:
        return NULL;
    case AST_CONST_BOOL:
        return e->constant.boolean ? "on" : "off";
    case AST_CONST_INT:
        return arena_printf(arena, "%d", e->constant.integer);
    case AST_CONST_NUMERIC:
    case AST_CONST_STRING:
        return arena_strndup(arena, (const char *)e->constant.text.ptr, e->constant.text.len);
    }
    return NULL;
}

/* SET a = x, y: a list of names, which come back with quotes where they need them. */
static const char *list_item(const char *item, struct arena *arena)
{
    for (const char *p = item; *p != 0; p++) {
        const bool plain = (*p >= 'a' && *p <= 'z') || *p == '_' ||
                           (p != item && ((*p >= '0' && *p <= '9') || *p == '$'));

        if (!plain) {
            return arena_printf(arena, "\"%s\"", item);
        }
    }
    return item[0] == 0 ? "\"\"" : item;
}

/* NULL with err filled, or the value as one text. */
static const char *set_value(struct session *s, const struct ast_set *a, struct sql_error *err)
{
    const bool is_list = strcasecmp(a->name, "search_path") == 0;
    const char *all = NULL;

    for (uint32_t i = 0; i < a->args.count; i++) {
        const char *item = argument_text(a->args.items[i], &s->scratch);

        if (item == NULL) {
            (void)sql_error_unsupported(err, &s->scratch, a->args.items[i]->location,
                                        "this kind of value in SET");
            return NULL;
        }
        if (is_list) {
            item = list_item(item, &s->scratch);
        }
        all = all == NULL ? item : arena_printf(&s->scratch, "%s, %s", all, item);
    }
    if (all == NULL) {
        (void)sql_error_set(err, &s->scratch, "22023", -1, "SET %s requires a value", a->name);
    }
    return all;
}

/* transaction_read_only is more than a text. */
static void follow_read_only(struct session *s, const char *name)
{
    if (strcasecmp(name, "transaction_read_only") == 0) {
        s->block.read_only = strcmp(settings_get(&s->settings, name), "on") == 0;
    }
}

static struct status set_one(struct session *s, const struct ast_set *a, const char *value,
                             struct sql_error *err)
{
    if (a->local && s->block.state != BLOCK_OPEN) {
        session__notice(s, SQL_WARNING, "25P01",
                        "SET LOCAL can only be used in transaction blocks");
    }
    TRY(block__check_mode(s, a->name, value, err));
    TRY(settings_set(&s->settings, a->name, value, a->local ? SETTING_LOCAL : SETTING_SESSION, true,
                     &s->scratch, err));
    follow_read_only(s, a->name);
    return OK;
}

static struct status set_transaction(struct session *s, const struct ast_set *a,
                                     struct sql_error *err)
{
    if (s->block.state != BLOCK_OPEN) {
        session__notice(s, SQL_WARNING, "25P01",
                        "SET TRANSACTION can only be used in transaction blocks");
        return OK;
    }
    return block__set_modes(s, &a->modes, err);
}

static struct status set_characteristics(struct session *s, const struct ast_txn_modes *m,
                                         struct sql_error *err)
{
    static const char *const names[] = {
        [AST_ISOLATION_READ_UNCOMMITTED] = "read uncommitted",
        [AST_ISOLATION_READ_COMMITTED] = "read committed",
        [AST_ISOLATION_REPEATABLE_READ] = "repeatable read",
        [AST_ISOLATION_SERIALIZABLE] = "serializable",
    };

    if (m->isolation != AST_ISOLATION_DEFAULT) {
        TRY(settings_set(&s->settings, "default_transaction_isolation", names[m->isolation],
                         SETTING_SESSION, true, &s->scratch, err));
    }
    if (m->read_only >= 0) {
        TRY(settings_set(&s->settings, "default_transaction_read_only",
                         m->read_only == 1 ? "on" : "off", SETTING_SESSION, true, &s->scratch,
                         err));
    }
    if (m->deferrable >= 0) {
        TRY(settings_set(&s->settings, "default_transaction_deferrable",
                         m->deferrable == 1 ? "on" : "off", SETTING_SESSION, true, &s->scratch,
                         err));
    }
    return OK;
}

static struct status set(struct session *s, const struct ast_set *a, struct sql_error *err)
{
    const char *value = NULL;

    switch (a->kind) {
    case AST_SET_VALUE:
        value = set_value(s, a, err);
        if (value == NULL) {
            return FAIL(STATUS_SQL_ERROR, err->message);
        }
        return set_one(s, a, value, err);
    case AST_SET_DEFAULT:
    case AST_SET_RESET:
        return set_one(s, a, NULL, err);
    case AST_SET_TXN:
        return set_transaction(s, a, err);
    case AST_SET_TXN_SESSION:
        return set_characteristics(s, &a->modes, err);
    case AST_SET_RESET_ALL:
        return settings_reset_all(&s->settings, true, &s->scratch, err);
    case AST_SET_CURRENT:
        break;
    }
    return sql_error_unsupported(err, &s->scratch, -1, "SET FROM CURRENT");
}

/* ---- PREPARE, EXECUTE, DEALLOCATE ---- */

static struct status type_by_name(struct session *s, const struct ast_type *t,
                                  struct sql_error *err, oid *out)
{
    const struct type_desc *d =
        t->schema == NULL || strcmp(t->schema, "pg_catalog") == 0 ? type_find_name(t->name) : NULL;

    if (d == NULL) {
        return sql_error_set(err, &s->scratch, "42704", t->location, "type \"%s\" does not exist",
                             t->name);
    }
    if (t->array_dims > 0 || !d->full) {
        return sql_error_unsupported(
            err, &s->scratch, t->location,
            arena_printf(&s->scratch, "type \"%s%s\"", t->name, t->array_dims > 0 ? "[]" : ""));
    }
    *out = d->id;
    return OK;
}

static MAYYIELD struct status prepare(struct session *s, struct prepared *outer,
                                      struct sql_error *err)
{
    const struct ast_prepare *a = outer->ast->prepare;
    oid *types = ARENA_ARRAY(&s->scratch, oid, a->types_count);
    struct prepared *p = NULL;
    struct status st = OK;

    if (types == NULL) {
        return FAIL(STATUS_MEMORY, "too many parameters");
    }
    if (session__find_statement(s, a->name) != NULL) {
        return sql_error_set(err, &s->scratch, "42P05", -1,
                             "prepared statement \"%s\" already exists", a->name);
    }
    for (uint32_t i = 0; i < a->types_count; i++) {
        TRY(type_by_name(s, a->types[i], err, &types[i]));
    }
    a->stmt->params = outer->ast->params; /* The inner tree does not say it. */
    TRY(prepared__from_ast(s, a->stmt, outer->text, types, (uint16_t)a->types_count, outer, err,
                           &p));
    st = session__add_statement(s, a->name, p);
    if (!status_ok(st)) {
        prepared__release(s->sql, p);
    }
    return st;
}

/* The sink that takes the one row of EXECUTE's arguments. */
struct capture {
    struct row_sink base;
    struct arena *arena;
    const oid *types;
    uint16_t count;
    union datum *values;
    uint8_t *nulls;
};

static struct status capture_rows(struct row_sink *sink, const struct row_block *block)
{
    struct capture *c = CONTAINER_OF(sink, struct capture, base);

    for (uint16_t i = 0; i < c->count; i++) {
        c->nulls[i] = block->nulls[i];
        if (c->nulls[i] == 0) {
            TRY(datum_dup(type_find(c->types[i])->phys, block->values[i], c->arena, &c->values[i]));
        }
    }
    return OK;
}

/* SELECT CAST(arg AS type), ... */
static struct ast_stmt *arguments_query(struct session *s, const struct ast_exprs *args,
                                        const oid *types)
{
    struct arena *a = &s->scratch;
    struct ast_stmt *stmt = ARENA_NEW(a, struct ast_stmt);
    struct ast_select *select = ARENA_NEW(a, struct ast_select);
    struct ast_target *targets = ARENA_ARRAY(a, struct ast_target, args->count);
    struct ast_expr *casts = ARENA_ARRAY(a, struct ast_expr, args->count);
    struct ast_type *names = ARENA_ARRAY(a, struct ast_type, args->count);

    if (stmt == NULL || select == NULL || targets == NULL || casts == NULL || names == NULL) {
        return NULL;
    }
    for (uint32_t i = 0; i < args->count; i++) {
        const int32_t at = args->items[i]->location;

        names[i] = (struct ast_type){
            .schema = "pg_catalog", .name = type_find(types[i])->name, .location = at};
        casts[i] = (struct ast_expr){.kind = AST_CAST, .location = at};
        casts[i].cast = (struct ast_cast){args->items[i], &names[i]};
        targets[i] = (struct ast_target){.expr = &casts[i], .label = "arg", .location = at};
    }
    select->location = -1;
    select->targets = (struct ast_targets){targets, args->count};
    stmt->kind = AST_STMT_SELECT;
    stmt->location = -1;
    stmt->select = select;
    return stmt;
}

static MAYYIELD struct status evaluate(struct session *s, const struct ast_exprs *args,
                                       struct capture *c, struct bytes text, struct sql_error *err)
{
    struct ast_stmt *query = arguments_query(s, args, c->types);
    struct run_inner run = {.sink = &c->base};
    struct status st = OK;

    c->base.rows = capture_rows;
    c->values = ARENA_ARRAY(c->arena, union datum, c->count);
    c->nulls = ARENA_ARRAY(c->arena, uint8_t, c->count);
    if (query == NULL || c->values == NULL || c->nulls == NULL) {
        return FAIL(STATUS_MEMORY, "too many parameters");
    }
    TRY(prepared__from_ast(s, query, text, NULL, 0, NULL, err, &run.p));
    st = run__inner(s, &run, err);
    prepared__release(s->sql, run.p);
    return st;
}

struct status utility__evaluate(struct session *s, const struct ast_exprs *args, const oid *types,
                                struct bytes text, struct sql_error *err, union datum **values,
                                uint8_t **nulls)
{
    struct capture c = {.arena = &s->scratch, .types = types, .count = (uint16_t)args->count};

    TRY(evaluate(s, args, &c, text, err));
    *values = c.values;
    *nulls = c.nulls;
    return OK;
}

static MAYYIELD struct status execute_utility(struct session *s, struct portal *p,
                                              struct prepared *target, bool begin,
                                              struct sql_error *err)
{
    struct prepared *own = p->p;
    struct status st = OK;

    p->p = target; /* The portal's own statement is only the EXECUTE around it. */
    st = utility__run(s, p, begin, err);
    p->p = own;
    return st;
}

/* The client was told columns when it sent EXECUTE through Parse: are they still those? */
static bool same_rows(const struct row_desc *told, const struct row_desc *now)
{
    if (told == NULL || now == NULL || told->count != now->count) {
        return told == now;
    }
    for (uint16_t i = 0; i < now->count; i++) {
        if (told->columns[i].type != now->columns[i].type) {
            return false;
        }
    }
    return true;
}

static MAYYIELD struct status execute(struct session *s, struct portal *p, bool begin,
                                      struct sql_error *err)
{
    const struct ast_execute *a = p->p->ast->execute;
    struct named_statement *n = session__find_statement(s, a->name);
    struct capture c = {.arena = &s->scratch};
    struct run_inner run = {.sink = s->sink};
    struct status st = OK;
    const char *tag = NULL;

    if (n == NULL) {
        return sql_error_set(err, &s->scratch, "26000", -1,
                             "prepared statement \"%s\" does not exist", a->name);
    }
    run.p = prepared__acquire(n->p); /* Evaluating yields: somebody may DEALLOCATE it. */
    TRY_OUT(prepared__refresh(s, run.p, err));
    if (run.p->ast == NULL) {
        s->sink->done(s->sink, "");
        goto out;
    }
    if (run.p->stmt == NULL) {
        st = execute_utility(s, p, run.p, begin, err);
        goto out;
    }
    if (run.p->stmt->cls == STATEMENT_DDL) {
        st = sql_error_unsupported(err, &s->scratch, -1, "EXECUTE of a prepared DDL statement");
        goto out;
    }
    if (!begin && !same_rows(p->p->utility_rows, prepared__rows(run.p))) {
        st =
            sql_error_set(err, &s->scratch, "0A000", -1, "cached plan must not change result type");
        err->routine = "RevalidateCachedQuery";
        goto out;
    }
    c.types = run.p->stmt->params;
    c.count = run.p->stmt->params_count;
    if (a->args.count != c.count) {
        st = sql_error_set(err, &s->scratch, "42601", -1,
                           "wrong number of parameters for prepared statement \"%s\"", a->name);
        err->detail =
            arena_printf(&s->scratch, "Expected %u parameters but got %u.", c.count, a->args.count);
        goto out;
    }
    if (c.count > 0) {
        TRY_OUT(evaluate(s, &a->args, &c, p->p->text, err));
    }
    run.params = c.values;
    run.nulls = c.nulls;
    if (begin && run.p->stmt->has_rows) {
        TRY_OUT(s->sink->begin(s->sink, &run.p->stmt->rows));
    }
    TRY_OUT(run__inner(s, &run, err));
    tag = statement_tag(run.p->stmt, run.rows, &s->scratch);
    s->sink->done(s->sink, tag);
out:
    prepared__release(s->sql, run.p);
    return st;
}

static struct status deallocate(struct session *s, const struct ast_deallocate *a,
                                struct sql_error *err)
{
    struct named_statement *n = NULL;

    if (a->name == NULL) {
        session__drop_statements(s);
        return OK;
    }
    n = session__find_statement(s, a->name);
    if (n == NULL) {
        return sql_error_set(err, &s->scratch, "26000", -1,
                             "prepared statement \"%s\" does not exist", a->name);
    }
    session__drop_statement(s, n);
    return OK;
}

/* ---- the rest ---- */

static struct status discard(struct session *s, enum ast_discard what, struct sql_error *err)
{
    if (what != AST_DISCARD_ALL) {
        return OK; /* Plans are revalidated anyway; there are no sequences or temporary tables. */
    }
    if (s->block.state == BLOCK_OPEN) {
        return sql_error_set(err, &s->scratch, "25001", -1,
                             "DISCARD ALL cannot run inside a transaction block");
    }
    s->portals_stale = true;
    session__drop_statements(s);
    return settings_reset_all(&s->settings, true, &s->scratch, err);
}

static MAYYIELD struct status truncate_tables(struct session *s, struct prepared *p,
                                              struct sql_error *err)
{
    const struct ast_truncate *a = p->ast->truncate;

    for (uint32_t i = 0; i < a->tables.count; i++) {
        struct ast_stmt *stmt = ARENA_NEW(&s->scratch, struct ast_stmt);
        struct ast_delete *del = ARENA_NEW(&s->scratch, struct ast_delete);
        struct run_inner run = {.sink = s->sink};
        struct status st = OK;

        if (stmt == NULL || del == NULL) {
            return FAIL(STATUS_MEMORY, "out of memory");
        }
        del->table = a->tables.items[i];
        stmt->kind = AST_STMT_DELETE;
        stmt->location = -1;
        stmt->delete_ = del;
        st = prepared__from_ast(s, stmt, p->text, NULL, 0, p, err, &run.p);
        if (status_ok(st)) {
            st = run__inner(s, &run, err);
            prepared__release(s->sql, run.p);
        }
        err->position = -1; /* PostgreSQL's TRUNCATE does not say where. */
        TRY(st);
    }
    return OK;
}

static const char *discard_tag(enum ast_discard what)
{
    switch (what) {
    case AST_DISCARD_ALL:
        return "DISCARD ALL";
    case AST_DISCARD_PLANS:
        return "DISCARD PLANS";
    case AST_DISCARD_SEQUENCES:
        return "DISCARD SEQUENCES";
    case AST_DISCARD_TEMP:
        return "DISCARD TEMP";
    }
    return "DISCARD";
}

static const char *set_tag(const struct ast_set *a)
{
    return a->kind == AST_SET_RESET || a->kind == AST_SET_RESET_ALL ? "RESET" : "SET";
}

/* Those that end in a tag and nothing else. */
static MAYYIELD struct status run_plain(struct session *s, struct prepared *p,
                                        struct sql_error *err, const char **tag)
{
    const struct ast_stmt *ast = p->ast;

    switch (ast->kind) {
    case AST_STMT_TXN:
        return block__control(s, ast, err, tag);
    case AST_STMT_SET:
        *tag = set_tag(ast->set);
        return set(s, ast->set, err);
    case AST_STMT_DISCARD:
        s->block.unrepeatable = true;
        *tag = discard_tag(ast->discard);
        return discard(s, ast->discard, err);
    case AST_STMT_PREPARE:
        s->block.unrepeatable = true;
        *tag = "PREPARE";
        return prepare(s, p, err);
    case AST_STMT_DEALLOCATE:
        s->block.unrepeatable = true;
        *tag = ast->deallocate->name == NULL ? "DEALLOCATE ALL" : "DEALLOCATE";
        return deallocate(s, ast->deallocate, err);
    case AST_STMT_TRUNCATE:
        *tag = "TRUNCATE TABLE";
        return truncate_tables(s, p, err);
    case AST_STMT_EXPLAIN:
        return sql_error_unsupported(err, &s->scratch, ast->location, "EXPLAIN");
    case AST_STMT_COPY:
        return sql_error_unsupported(err, &s->scratch, ast->location, "COPY");
    case AST_STMT_OTHER:
    case AST_STMT_SELECT:
    case AST_STMT_INSERT:
    case AST_STMT_UPDATE:
    case AST_STMT_DELETE:
    case AST_STMT_CREATE_TABLE:
    case AST_STMT_DROP_TABLE:
    case AST_STMT_SHOW:
    case AST_STMT_EXECUTE:
    case AST_STMT_RANGES:
    case AST_STMT_KIND_COUNT:
        break;
    }
    return FAIL(STATUS_INVALID, "statement is no utility");
}

struct status utility__run(struct session *s, struct portal *p, bool begin, struct sql_error *err)
{
    const char *tag = NULL;

    if (p->p->ast->kind == AST_STMT_SHOW) {
        return show(s, p, begin, err);
    }
    if (p->p->ast->kind == AST_STMT_EXECUTE) {
        return execute(s, p, begin, err);
    }
    if (p->p->ast->kind == AST_STMT_RANGES) {
        return ranges__run(s, p, begin, err);
    }
    TRY(run_plain(s, p->p, err, &tag));
    s->sink->done(s->sink, tag);
    return OK;
}
