/*
 * parse.c -- from a client's text to trees.
 *
 *   text -> limits, UTF-8 -> tokens counted -> dsql's clauses cut -> import.c -> trees
 *              54000, 22021     54000, 54001          geo.c            42601, ...
 *
 * The limits come first because libpg_query has none: it would build a tree of any size, and it takes
 * bytes that are no UTF-8 for letters. Counting tokens bounds the memory of its tree (about 100 bytes
 * each); counting parentheses keeps its parser's stack, which gives up with an unhelpful "memory
 * exhausted" at 10,000, out of reach.
 *
 * A statement that is wholly ours was blanked out, so the library does not see it; it is put back
 * among the others by its place in the text. A clause of ours marks the statement it stood in; the
 * expression of AS OF SYSTEM TIME is parsed by itself and hung onto it. A syntax error anywhere else wins
 * over both.
 */
#include "node/sql/parse/parse.h"

#include <string.h>

#include "node/base/invariant.h"
#include "node/sql/parse/geo.h"
#include "node/sql/parse/import.h"
#include "node/sql/parse/ranges.h"
#include "node/sql/parse/scan.h"

/* ---- UTF-8 ----------------------------------------------------------------------------------- */

/* Bytes of the character by its first one; 1 for what cannot be a first one. */
static size_t utf8_size(uint8_t first)
{
    return (first & 0xE0) == 0xC0 ? 2 : (first & 0xF0) == 0xE0 ? 3 : (first & 0xF8) == 0xF0 ? 4 : 1;
}

/* Is this one valid character? Surrogates, overlong forms and > U+10FFFF are not, nor is NUL. */
static bool utf8_valid(const uint8_t *p, size_t size, size_t left)
{
    const uint8_t low = p[0] == 0xE0 ? 0xA0 : p[0] == 0xF0 ? 0x90 : 0x80;
    const uint8_t high = p[0] == 0xED ? 0x9F : p[0] == 0xF4 ? 0x8F : 0xBF;

    if (size == 1) {
        return p[0] != 0 && p[0] < 0x80;
    }
    if (size > left || p[0] < 0xC2 || p[0] > 0xF4 || p[1] < low || p[1] > high) {
        return false;
    }
    for (size_t i = 2; i < size; i++) {
        if ((p[i] & 0xC0) != 0x80) {
            return false;
        }
    }
    return true;
}

/* PostgreSQL's words for it: as many bytes as the first one promises. */
static struct status utf8_error(struct bytes text, size_t at, struct arena *arena,
                                struct sql_error *err)
{
    const size_t size = utf8_size(text.ptr[at]);
    const char *list = "";

    for (size_t i = 0; i < size && at + i < text.len; i++) {
        list = arena_printf(arena, "%s%s0x%02x", list, i == 0 ? "" : " ", text.ptr[at + i]);
    }
    return sql_error_set(err, arena, "22021", -1, "invalid byte sequence for encoding \"UTF8\": %s",
                         list);
}

static struct status check_utf8(struct bytes text, struct arena *arena, struct sql_error *err)
{
    size_t at = 0;

    while (at < text.len) {
        if (text.ptr[at] - 1u < 0x7F) { /* 1..127 */
            at++;
            continue;
        }
        if (!utf8_valid(text.ptr + at, utf8_size(text.ptr[at]), text.len - at)) {
            return utf8_error(text, at, arena, err);
        }
        at += utf8_size(text.ptr[at]);
    }
    return OK;
}

/* ---- Tokens ---------------------------------------------------------------------------------- */

/* $1a: libpg_query lets it pass, PostgreSQL does not. */
static struct status check_junk(struct bytes text, struct scan_token t, struct arena *arena,
                                struct sql_error *err)
{
    size_t at = t.start + 1;

    if (t.kind != SCAN_ERROR || t.start + 1 >= text.len || text.ptr[t.start] != '$' ||
        text.ptr[at] < '0' || text.ptr[at] > '9') {
        return OK;
    }
    while (at < text.len && text.ptr[at] >= '0' && text.ptr[at] <= '9') {
        at++;
    }
    return sql_error_set(err, arena, "42601", (int32_t)t.start,
                         "trailing junk after parameter at or near \"%.*s\"",
                         (int)(at + 1 - t.start), (const char *)text.ptr + t.start);
}

/* One walk over all tokens: limits, and whether geo.c has to look. */
static struct status check_tokens(struct bytes text, struct arena *arena, bool *ours_out,
                                  struct sql_error *err)
{
    struct scanner s;
    struct scan_token t;
    uint32_t depth = 0;
    uint32_t count = 0;

    *ours_out = false;
    scan_init(&s, text, 0);
    while ((t = scan_next(&s)).kind != SCAN_END) {
        if (++count > PARSE_TOKENS_MAX) {
            return sql_error_set(err, arena, "54000", -1,
                                 "statement is too long: more than %u words and signs",
                                 PARSE_TOKENS_MAX);
        }
        if (t.kind == '(' || t.kind == '[') {
            if (++depth > PARSE_PAREN_MAX) {
                return sql_error_set(err, arena, "54001", (int32_t)t.start,
                                     "statement is nested too deeply: more than %u parentheses",
                                     PARSE_PAREN_MAX);
            }
        } else if ((t.kind == ')' || t.kind == ']') && depth > 0) {
            depth--;
        } else if (t.kind == SCAN_WORD && !*ours_out) {
            *ours_out = geo_is_trigger(text, t);
        } else if (t.kind == SCAN_ERROR) {
            TRY(check_junk(text, t, arena, err));
        }
    }
    return OK;
}

/* ---- dsql's own clauses ------------------------------------------------------------------------ */

static struct status own_statement(struct bytes text, const struct geo_cut *cut,
                                   struct arena *arena, struct ast_stmt **out,
                                   struct sql_error *err)
{
    struct ast_stmt *stmt = ARENA_NEW(arena, struct ast_stmt);

    if (stmt == NULL) {
        return FAIL(STATUS_MEMORY, "too many statements for their arena");
    }
    *out = stmt;
    stmt->kind = AST_STMT_OTHER;
    stmt->location = (int32_t)cut->from;
    stmt->length = (int32_t)(cut->to - cut->from);
    stmt->unsupported_location = (int32_t)cut->from;
    if (cut->ranges) {
        stmt->kind = AST_STMT_RANGES;
        return parse_ranges(text, cut, arena, &stmt->ranges, err);
    }
    stmt->unsupported = cut->feature;
    return OK;
}

/* Marks the statement that the clause was cut from; the first clause of several names it. */
static void mark_statement(struct ast_stmt *stmt, const struct geo_cut *cut)
{
    if (stmt->unsupported == NULL || stmt->unsupported_location >= (int32_t)cut->from) {
        stmt->unsupported = cut->feature;
        stmt->unsupported_location = (int32_t)cut->from;
    }
}

/* The statement that an AS OF SYSTEM TIME may belong to; NULL: this one cannot have it. */
static struct ast_stmt *as_of_target(struct ast_stmt *stmt)
{
    if (stmt->unsupported != NULL) {
        return NULL;
    }
    if (stmt->kind == AST_STMT_PREPARE) {
        return stmt->prepare->stmt->kind == AST_STMT_SELECT ? stmt->prepare->stmt : NULL;
    }
    return stmt->kind == AST_STMT_SELECT ||
                   (stmt->kind == AST_STMT_TXN && stmt->txn->kind == AST_TXN_BEGIN)
               ? stmt
               : NULL;
}

/*
 * The expression behind AS OF SYSTEM TIME: parsed by the library as "SELECT expression" in a text that is
 * otherwise blank, so that positions stay right. SELECT fits where AS OF SYSTEM TIME stood.
 */
static struct status parse_as_of(struct bytes text, const struct geo_cut *cut, struct arena *arena,
                                 const struct ast_expr **out, struct sql_error *err)
{
    static const char select[] = "SELECT";
    char *copy = blank_copy(text, cut->as_of, cut->to, arena);
    struct ast_select *s = NULL;

    if (copy == NULL) {
        return FAIL(STATUS_MEMORY, "statement too long for its arena");
    }
    memcpy(copy + cut->from, select, sizeof(select) - 1);
    TRY(parse_part(copy, arena, &s, err));
    if (s == NULL || s->targets.count != 1 || s->from.count > 0) {
        return sql_error_set(err, arena, "42601", (int32_t)cut->as_of,
                             "AS OF SYSTEM TIME needs one expression");
    }
    *out = s->targets.items[0].expr;
    return OK;
}

static struct bytes as_of_text(struct bytes text, const struct geo_cut *cut)
{
    size_t end = cut->to;

    while (end > cut->as_of && (text.ptr[end - 1] == ' ' || text.ptr[end - 1] == '\n' ||
                                text.ptr[end - 1] == '\t' || text.ptr[end - 1] == '\r')) {
        end--;
    }
    return bytes_of(text.ptr + cut->as_of, end - cut->as_of);
}

/* All clauses of a statement say the same: it reads at one time. */
static struct status put_as_of(struct bytes text, const struct geo_cuts *cuts, uint32_t i,
                               struct ast_stmt *stmt, struct arena *arena, struct sql_error *err)
{
    const struct geo_cut *cut = &cuts->items[i];
    struct ast_stmt *target = as_of_target(stmt);

    if (target == NULL) {
        mark_statement(stmt, cut);
        return OK;
    }
    if (target->as_of == NULL) {
        return parse_as_of(text, cut, arena, &target->as_of, err);
    }
    if (!bytes_eq(as_of_text(text, cut), as_of_text(text, &cuts->items[i - 1]))) {
        return sql_error_set(err, arena, "42601", (int32_t)cut->from,
                             "cannot specify AS OF SYSTEM TIME with different timestamps");
    }
    return OK;
}

/*
 * Merges what was cut with what was parsed, both in the order of the text. A clause belongs to the
 * last statement that begins before it: no statement begins with a clause.
 */
static struct status put_back(struct bytes text, const struct geo_cuts *cuts,
                              const struct parse_result *parsed, struct arena *arena,
                              struct parse_result *out, struct sql_error *err)
{
    struct parse_result all = {0};
    uint32_t next = 0;

    all.stmts = ARENA_ARRAY(arena, struct ast_stmt *, parsed->count + cuts->count);
    if (all.stmts == NULL) {
        return FAIL(STATUS_MEMORY, "too many statements for their arena");
    }
    for (uint32_t i = 0; i < cuts->count; i++) {
        const struct geo_cut *cut = &cuts->items[i];

        while (next < parsed->count && parsed->stmts[next]->location < (int32_t)cut->from) {
            all.stmts[all.count++] = parsed->stmts[next++];
        }
        if (cut->whole) {
            TRY(own_statement(text, cut, arena, &all.stmts[all.count], err));
            all.count++;
        } else if (!NEVER(all.count == 0) && cut->as_of > 0) {
            TRY(put_as_of(text, cuts, i, all.stmts[all.count - 1], arena, err));
        } else if (!NEVER(all.count == 0)) {
            mark_statement(all.stmts[all.count - 1], cut);
        }
    }
    while (next < parsed->count) {
        all.stmts[all.count++] = parsed->stmts[next++];
    }
    *out = all;
    return OK;
}

static struct status parse_with_cuts(struct bytes text, struct arena *arena,
                                     struct parse_result *out, struct sql_error *err)
{
    struct geo_cuts cuts;
    struct parse_result parsed = {0};
    const char *copy;

    TRY(geo_cut(text, arena, &cuts));
    copy = cuts.count > 0 ? cuts.text : arena_strndup(arena, (const char *)text.ptr, text.len);
    if (copy == NULL) {
        return FAIL(STATUS_MEMORY, "statement too long for its arena");
    }
    TRY(import_text(copy, arena, &parsed, err));
    return put_back(text, &cuts, &parsed, arena, out, err);
}

struct status parse_statements(struct bytes text, struct arena *arena, struct parse_result *out,
                               struct sql_error *err)
{
    const char *copy;
    bool ours = false;

    if (text.len > PARSE_TEXT_MAX) {
        return sql_error_set(err, arena, "54000", -1,
                             "statement is too long: %zu bytes, the limit is %zu", text.len,
                             PARSE_TEXT_MAX);
    }
    if (text.len == 0) {
        *out = (struct parse_result){0};
        return OK;
    }
    TRY(check_utf8(text, arena, err));
    TRY(check_tokens(text, arena, &ours, err));
    if (ours) {
        return parse_with_cuts(text, arena, out, err);
    }
    copy = arena_strndup(arena, (const char *)text.ptr, text.len);
    if (copy == NULL) {
        return FAIL(STATUS_MEMORY, "statement too long for its arena");
    }
    return import_text(copy, arena, out, err);
}
