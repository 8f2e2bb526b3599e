/*
 * ranges.c -- SHOW RANGES FROM TABLE, ALTER TABLE ... SPLIT AT, ALTER RANGE ... RELOCATE LEASE.
 *
 * The session turns rows into keys and keys into rows; what is to be done to ranges it asks of `struct
 * sql_admin`. None of it belongs to a transaction: a split stays when the block around it is rolled back,
 * so in a block it is refused.
 */
#include <stdio.h>

#include "node/catalog/catalog.h"
#include "node/sql/exec/row.h"
#include "node/sql/session/admin.h"
#include "node/sql/session/session_internal.h"
#include "node/sql/types/type.h"

#define SPLIT_ROWS_MAX 1000u /* Of one statement. */

struct column {
    const char *name;
    oid type;
    int16_t len;
};

static const struct column show_columns[] = {
    {"start_key", TYPE_TEXT, -1}, {"end_key", TYPE_TEXT, -1},     {"range_id", TYPE_INT8, 8},
    {"replicas", TYPE_TEXT, -1},  {"lease_holder", TYPE_INT8, 8},
};
static const struct column split_columns[] = {{"key", TYPE_TEXT, -1}, {"pretty", TYPE_TEXT, -1}};

#define RANGES_COLUMNS_MAX ARRAY_COUNT(show_columns)

static const struct row_desc *describe(const struct column *columns, uint16_t count,
                                       struct arena *arena)
{
    struct row_desc *d = ARENA_NEW(arena, struct row_desc);
    struct row_column *out = ARENA_ARRAY(arena, struct row_column, count);

    if (d == NULL || out == NULL) {
        return NULL;
    }
    for (uint16_t i = 0; i < count; i++) {
        out[i] = (struct row_column){.name = columns[i].name,
                                     .type = columns[i].type,
                                     .typmod = -1,
                                     .typlen = columns[i].len};
    }
    *d = (struct row_desc){out, count};
    return d;
}

const struct row_desc *ranges__rows(const struct ast_ranges *r, struct arena *arena)
{
    switch (r->kind) {
    case AST_RANGES_SHOW:
        return describe(show_columns, ARRAY_COUNT(show_columns), arena);
    case AST_RANGES_SPLIT:
        return describe(split_columns, ARRAY_COUNT(split_columns), arena);
    case AST_RANGES_TRANSFER:
        break;
    }
    return NULL;
}

static MAYYIELD struct status tell(struct session *s, const union datum *values,
                                   const uint8_t *nulls)
{
    const struct row_block block = {.values = values, .nulls = nulls, .rows = 1};

    return s->sink->rows(s->sink, &block);
}

/* ---- the table ---- */

static MAYYIELD struct status acquire(struct session *s, const struct ast_name *name,
                                      struct sql_error *err, struct table_desc **out)
{
    struct status st = name->schema != NULL && strcmp(name->schema, "public") != 0
                           ? FAIL(STATUS_NOT_FOUND, "no such schema")
                           : catalog_acquire(s->sql->catalog, name->name, out);

    if (st.code == STATUS_NOT_FOUND) {
        return sql_error_set(err, &s->scratch, "42P01", name->location,
                             "relation \"%s\" does not exist", name->name);
    }
    return st;
}

/* What ranges cannot do as they stand now is no fault of ours: 55000. */
static struct status refused(struct session *s, struct status st, struct sql_error *err)
{
    if (st.code == STATUS_INVALID || st.code == STATUS_RANGE_TOO_SMALL) {
        return sql_error_set(err, &s->scratch, "55000", -1, "%s", status_text(st));
    }
    return st;
}

/* ---- SHOW RANGES ---- */

static const char *replicas_text(const struct sql_range *r, struct arena *arena)
{
    const char *list = "";

    for (uint32_t i = 0; i < r->replicas_count && list != NULL; i++) {
        list = arena_printf(arena, "%s%s%u", list, i == 0 ? "" : ",", r->replicas[i]);
    }
    return list == NULL ? NULL : arena_printf(arena, "{%s}", list);
}

static MAYYIELD struct status show_range(struct session *s, const struct row_layout *l,
                                         struct bytes table_end, const struct sql_range *r)
{
    const bool from_start = bytes_cmp(r->start, row_prefix(l)) <= 0;
    const bool to_end = r->end.len == 0 || bytes_cmp(r->end, table_end) >= 0;
    const char *texts[] = {row_key_text(l, r->start, &s->scratch),
                           row_key_text(l, r->end, &s->scratch), replicas_text(r, &s->scratch)};
    uint8_t nulls[RANGES_COLUMNS_MAX] = {from_start, to_end, 0, 0, r->leaseholder == 0};
    union datum values[RANGES_COLUMNS_MAX] = {{0}};

    if (texts[0] == NULL || texts[1] == NULL || texts[2] == NULL) {
        return FAIL(STATUS_MEMORY, "too many ranges to show");
    }
    values[0].bytes = bytes_str(texts[0]);
    values[1].bytes = bytes_str(texts[1]);
    values[2].i64 = (int64_t)r->id;
    values[3].bytes = bytes_str(texts[2]);
    values[4].i64 = r->leaseholder;
    return tell(s, values, nulls);
}

static MAYYIELD struct status show(struct session *s, const struct row_layout *l)
{
    const struct sql_admin *admin = s->sql->o.admin;
    struct sql_range *ranges = NULL;
    struct bytes end = BYTES_EMPTY;
    uint32_t count = 0;

    TRY(key_prefix_end(&s->scratch, row_prefix(l), &end));
    TRY(admin->ranges(admin->ctx, row_prefix(l), end, &s->scratch, &ranges, &count));
    for (uint32_t i = 0; i < count; i++) {
        TRY(show_range(s, l, end, &ranges[i]));
    }
    s->sink->done(s->sink, arena_printf(&s->scratch, "SHOW %u", count));
    return OK;
}

/* ---- SPLIT AT ---- */

static MAYYIELD struct status split_key(struct session *s, const struct prepared *p,
                                        const struct row_layout *l, const struct ast_row *row,
                                        struct sql_error *err, struct bytes *out)
{
    const struct ast_exprs args = {row->items, row->count};
    oid *types = ARENA_ARRAY(&s->scratch, oid, l->key_count);
    union datum *values = NULL;
    uint8_t *nulls = NULL;

    if (types == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a key");
    }
    if (row->count == 0 || row->count > l->key_count) {
        return sql_error_set(err, &s->scratch, "42601",
                             row->count == 0 ? -1 : row->items[0]->location,
                             "SPLIT AT expects at most %u values: the primary key of \"%s\" has no "
                             "more columns",
                             l->key_count, l->table->name);
    }
    for (uint32_t i = 0; i < row->count; i++) {
        types[i] = l->types[l->key[i].column]->id;
    }
    TRY(utility__evaluate(s, &args, types, p->text, err, &values, &nulls));
    for (uint32_t i = 0; i < row->count; i++) {
        if (nulls[i] != 0) {
            return sql_error_set(err, &s->scratch, "22004", row->items[i]->location,
                                 "a key has no null values");
        }
    }
    return row_key_start(l, values, (uint16_t)row->count, &s->scratch, out);
}

static MAYYIELD struct status split(struct session *s, const struct prepared *p,
                                    const struct row_layout *l, struct sql_error *err)
{
    const struct sql_admin *admin = s->sql->o.admin;
    const struct ast_select *rows = p->ast->ranges->rows;

    if (rows->rows_count > SPLIT_ROWS_MAX) {
        return sql_error_set(err, &s->scratch, "54000", -1, "SPLIT AT of more than %u rows",
                             SPLIT_ROWS_MAX);
    }
    for (uint32_t i = 0; i < rows->rows_count; i++) {
        const uint8_t nulls[ARRAY_COUNT(split_columns)] = {0};
        union datum values[ARRAY_COUNT(split_columns)] = {{0}};
        struct bytes key = BYTES_EMPTY;
        const char *text = NULL;
        char *hex = NULL;

        TRY(split_key(s, p, l, &rows->rows[i], err, &key));
        TRY(refused(s, admin->split(admin->ctx, key), err));
        text = row_key_text(l, key, &s->scratch);
        hex = arena_alloc(&s->scratch, 2 * key.len + 1, 1);
        if (text == NULL || hex == NULL) {
            return FAIL(STATUS_MEMORY, "no memory for a key");
        }
        for (size_t k = 0; k < key.len; k++) {
            (void)snprintf(hex + 2 * k, 3, "%02x", key.ptr[k]);
        }
        values[0].bytes = bytes_of((const uint8_t *)hex, 2 * key.len);
        values[1].bytes = bytes_str(text);
        TRY(tell(s, values, nulls));
    }
    s->sink->done(s->sink, arena_printf(&s->scratch, "SPLIT %u", rows->rows_count));
    return OK;
}

/* ---- all of them ---- */

static MAYYIELD struct status on_table(struct session *s, struct prepared *p, bool begin,
                                       struct sql_error *err)
{
    const struct ast_ranges *r = p->ast->ranges;
    struct table_desc *t = NULL;
    struct row_layout layout;
    struct status st = OK;

    TRY(acquire(s, &r->table, err, &t));
    TRY_OUT(row_layout_init(t, &s->scratch, &layout));
    if (begin && p->utility_rows != NULL) {
        TRY_OUT(s->sink->begin(s->sink, p->utility_rows));
    }
    st = r->kind == AST_RANGES_SHOW ? show(s, &layout) : split(s, p, &layout, err);
out:
    catalog_release(s->sql->catalog, t);
    return st;
}

static MAYYIELD struct status transfer(struct session *s, const struct ast_ranges *r,
                                       struct sql_error *err)
{
    const struct sql_admin *admin = s->sql->o.admin;

    TRY(refused(s, admin->transfer(admin->ctx, r->range, r->store), err));
    s->sink->done(s->sink, "ALTER RANGE");
    return OK;
}

struct status ranges__run(struct session *s, struct portal *p, bool begin, struct sql_error *err)
{
    static const char *const names[] = {
        [AST_RANGES_SHOW] = "SHOW RANGES",
        [AST_RANGES_SPLIT] = "ALTER TABLE SPLIT AT",
        [AST_RANGES_TRANSFER] = "ALTER RANGE RELOCATE LEASE",
    };
    struct prepared *prepared = p->p;
    const struct ast_ranges *r = prepared->ast->ranges;

    if (s->sql->o.admin == NULL) {
        return sql_error_unsupported(err, &s->scratch, -1, names[r->kind]);
    }
    if (r->kind != AST_RANGES_SHOW && s->block.state == BLOCK_OPEN) {
        return sql_error_set(err, &s->scratch, "25001", -1,
                             "%s cannot run inside a transaction block", names[r->kind]);
    }
    if (r->kind != AST_RANGES_SHOW) {
        s->block.unrepeatable = true;
    }
    return r->kind == AST_RANGES_TRANSFER ? transfer(s, r, err) : on_table(s, prepared, begin, err);
}
