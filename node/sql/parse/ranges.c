/*
 * ranges.c -- reading statements about ranges.
 *
 * Names and expressions in them are PostgreSQL's, so libpg_query reads them, each in a copy of the text
 * where everything else is blank: `TABLE name` and `VALUES (...)` are queries by themselves, and the words
 * TABLE and VALUES stand in our statements too, at the right places.
 */
#include "node/sql/parse/ranges.h"

#include <stdlib.h>
#include <string.h>

#include "node/sql/parse/import.h"
#include "node/sql/parse/scan.h"

char *blank_copy(struct bytes text, uint32_t from, uint32_t to, struct arena *arena)
{
    char *copy = arena_alloc(arena, text.len + 1, 1);

    if (copy != NULL) {
        memset(copy, ' ', text.len);
        copy[text.len] = '\0';
        memcpy(copy + from, text.ptr + from, to - from);
    }
    return copy;
}

struct status parse_part(const char *copy, struct arena *arena, struct ast_select **out,
                         struct sql_error *err)
{
    struct parse_result r = {0};

    *out = NULL;
    TRY(import_text(copy, arena, &r, err));
    if (r.count == 1 && r.stmts[0]->unsupported == NULL && r.stmts[0]->kind == AST_STMT_SELECT) {
        *out = r.stmts[0]->select;
    }
    return OK;
}

static struct status read_part(struct bytes text, uint32_t from, uint32_t to, struct arena *arena,
                               struct ast_select **out, struct sql_error *err)
{
    const char *copy = blank_copy(text, from, to, arena);

    if (copy == NULL) {
        return FAIL(STATUS_MEMORY, "statement too long for its arena");
    }
    return parse_part(copy, arena, out, err);
}

/* `from` is at the word TABLE. */
static struct status read_table(struct bytes text, uint32_t from, uint32_t to, struct arena *arena,
                                struct ast_name *out, struct sql_error *err)
{
    struct ast_select *s = NULL;

    TRY(read_part(text, from, to, arena, &s, err));
    if (s == NULL || s->from.count != 1 || s->from.items[0]->kind != AST_FROM_TABLE) {
        return sql_error_set(err, arena, "42601", (int32_t)from, "the name of a table is missing");
    }
    *out = s->from.items[0]->table;
    return OK;
}

/* ALTER TABLE name SPLIT AT rows */
static struct status read_split(struct bytes text, const struct geo_cut *cut, struct scanner *sc,
                                struct arena *arena, struct ast_ranges *out, struct sql_error *err)
{
    const struct scan_token table = scan_next(sc);
    struct scan_token t = scan_next(sc); /* The name's first word; it may be "split". */
    struct scan_token split = scan_next(sc);

    while (split.kind != SCAN_END && (!scan_is(text, split, "split") || t.kind == '.')) {
        t = split;
        split = scan_next(sc);
    }
    t = scan_next(sc); /* AT */
    TRY(read_table(text, table.start, split.start, arena, &out->table, err));
    TRY(read_part(text, t.end, cut->to, arena, &out->rows, err));
    if (out->rows == NULL || !out->rows->is_values) {
        return sql_error_unsupported(err, arena, (int32_t)t.end, "SPLIT AT other than VALUES");
    }
    out->kind = AST_RANGES_SPLIT;
    return OK;
}

static uint64_t number(struct bytes text, struct scan_token t)
{
    char digits[24] = {0};
    const size_t n = t.end - t.start;

    if (n >= sizeof(digits)) {
        return UINT64_MAX;
    }
    memcpy(digits, text.ptr + t.start, n);
    return strtoull(digits, NULL, 10);
}

/* ALTER RANGE range RELOCATE LEASE TO store */
static struct status read_transfer(struct bytes text, struct scanner *sc, struct arena *arena,
                                   struct ast_ranges *out, struct sql_error *err)
{
    struct scan_token t = scan_next(sc);
    uint64_t store = 0;

    out->kind = AST_RANGES_TRANSFER;
    out->range = number(text, t);
    for (int i = 0; i < 4; i++) {
        t = scan_next(sc);
    }
    store = number(text, t);
    if (store == 0 || store > UINT32_MAX) {
        return sql_error_set(err, arena, "22023", (int32_t)t.start, "there is no such store");
    }
    out->store = (uint32_t)store;
    t = scan_next(sc);
    if (t.kind != SCAN_END && t.kind != ';') {
        return sql_error_set(err, arena, "42601", (int32_t)t.start,
                             "syntax error at or near \"%.*s\"", (int)(t.end - t.start),
                             (const char *)text.ptr + t.start);
    }
    return OK;
}

struct status parse_ranges(struct bytes text, const struct geo_cut *cut, struct arena *arena,
                           struct ast_ranges **out, struct sql_error *err)
{
    struct scanner sc;
    struct scan_token t;

    *out = ARENA_NEW(arena, struct ast_ranges);
    if (*out == NULL) {
        return FAIL(STATUS_MEMORY, "too many statements for their arena");
    }
    scan_init(&sc, text, cut->from);
    t = scan_next(&sc);
    if (scan_is(text, t, "show")) {
        (*out)->kind = AST_RANGES_SHOW;
        (void)scan_next(&sc); /* RANGES */
        (void)scan_next(&sc); /* FROM */
        return read_table(text, scan_next(&sc).start, cut->to, arena, &(*out)->table, err);
    }
    t = scan_next(&sc);
    if (scan_is(text, t, "range")) {
        return read_transfer(text, &sc, arena, *out, err);
    }
    scan_init(&sc, text, t.start);
    return read_split(text, cut, &sc, arena, *out, err);
}
