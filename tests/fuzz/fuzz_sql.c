/*
 * fuzz_sql.c -- foreign text against the lexer and the parser.
 *
 * The first byte chooses: the bytes as they are, which mostly tests the lexer and the errors; or each
 * byte as a word of SQL, which gets deep into grammar and import. Whatever comes, nothing may crash
 * or hang, tokens and statements must lie in the text in order, and what parses must say the same
 * when it is parsed again.
 */
#include "node/base/invariant.h"
#include "node/sql/parse/parse.h"
#include "node/sql/parse/scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const words[] = {
    "select", "a",        ",",         "1",       "from",     "t",        "where",    "(",
    ")",      "=",        "$1",        "'x'",     "and",      "or",       "not",      "order",
    "by",     "desc",     "limit",     "null",    "insert",   "into",     "values",   "update",
    "set",    "delete",   "returning", "*",       "+",        "-",        "::",       "int",
    "as",     "b",        ".",         "in",      "between",  "is",       "true",     "case",
    "when",   "then",     "end",       "join",    "on",       "group",    "having",   "union",
    "all",    "with",     "create",    "table",   "primary",  "key",      "default",  "unique",
    "check",  "if",       "exists",    "drop",    "begin",    "commit",   ";",        "[",
    "]",      "array",    "row",       "like",    "any",      "count",    "distinct", "filter",
    "over",   "conflict", "do",        "nothing", "excluded", "locality", "global",   "regional",
    "of",     "system",   "time",      "show",    "regions",  "alter",    "database", "add",
    "region", "\"q\"",    "1.5",       "e'\\n'",  "--c\n",    "/*c*/",    "$$d$$",    "||",
    "@",      "interval", "cast",      "varchar", "extract",  "year",     "values",   "only",
    "using",  "left",     "lateral",   "explain", "prepare",  "execute",  "copy",     "stdin",
    "to",     "for",
};

static void check_scan(struct bytes text)
{
    struct scanner s;
    struct scan_token t;
    uint32_t at = 0;

    scan_init(&s, text, 0);
    while ((t = scan_next(&s)).kind != SCAN_END) {
        INVARIANT(t.start >= at);
        INVARIANT(t.end > t.start);
        INVARIANT(t.end <= text.len);
        at = t.end;
    }
}

static void check_keys(struct bytes text)
{
    struct scan_statement s = {0};
    struct arena a;

    arena_init(&a, 0);
    while (s.next < text.len) {
        const uint32_t from = s.next;

        INVARIANT(status_ok(scan_statement(text, from, &a, &s)));
        INVARIANT(s.start >= from && s.start <= s.end && s.end <= s.next && s.next > from);
        for (uint32_t i = 0; i < s.literals_count; i++) {
            struct bytes value;

            INVARIANT(s.literals[i].start >= s.start && s.literals[i].end <= s.end);
            INVARIANT(status_ok(scan_literal_value(text, s.literals[i], &a, &value)));
        }
    }
    arena_deinit(&a);
}

/* False when the text is in error; the error must be complete. */
static bool parse(struct bytes text, struct arena *a, struct parse_result *r)
{
    struct sql_error err = {0};
    const struct status st = parse_statements(text, a, r, &err);

    if (st.code == STATUS_SQL_ERROR) {
        INVARIANT(err.message != NULL);
        INVARIANT(strlen(err.sqlstate) == 5);
        INVARIANT(err.position >= -1 && err.position <= (int64_t)text.len);
    }
    return status_ok(st);
}

static void check_parse(struct bytes text)
{
    struct parse_result r = {0};
    struct arena a;
    int64_t at = 0;

    arena_init(&a, 0);
    if (parse(text, &a, &r)) {
        for (uint32_t i = 0; i < r.count; i++) {
            const struct ast_stmt *s = r.stmts[i];
            const struct bytes own = bytes_of(text.ptr + s->location, (size_t)s->length);
            struct parse_result again = {0};

            INVARIANT(s->location >= at && s->length > 0);
            at = (int64_t)s->location + s->length;
            INVARIANT(at <= (int64_t)text.len);
            INVARIANT(parse(own, &a, &again));
            INVARIANT(again.count == 1 && again.stmts[0]->kind == s->kind);
            INVARIANT((again.stmts[0]->unsupported == NULL) == (s->unsupported == NULL));
        }
    }
    arena_deinit(&a);
}

static void check(struct bytes text)
{
    check_scan(text);
    check_keys(text);
    check_parse(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf text;

    if (size == 0) {
        return 0;
    }
    if (data[0] % 2 == 0) {
        check(bytes_of(data + 1, size - 1));
        return 0;
    }
    buf_init(&text, 0);
    for (size_t i = 1; i < size; i++) {
        INVARIANT(status_ok(buf_append_str(&text, words[data[i] % ARRAY_COUNT(words)])));
        INVARIANT(status_ok(buf_append_str(&text, " ")));
    }
    check(buf_bytes(&text));
    buf_deinit(&text);
    return 0;
}
