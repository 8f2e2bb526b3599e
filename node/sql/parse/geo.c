/*
 * geo.c -- recognising dsql's own syntax in a stream of tokens.
 *
 * Two kinds. A *whole statement* (SHOW REGIONS, ALTER DATABASE d ADD REGION ...) is known by its
 * first words; they stand as patterns in one table. A *clause* (LOCALITY, AS OF SYSTEM TIME, PRIMARY
 * REGION) stands inside of a statement that is otherwise PostgreSQL's: it is looked for token by
 * token, at parenthesis depth 0 of CREATE TABLE and CREATE DATABASE, at any depth for AS OF SYSTEM
 * TIME, which no valid PostgreSQL text contains.
 *
 * A clause that is only begun (LOCALITY without GLOBAL or REGIONAL) is not cut; the parser then
 * complains at its first word.
 *
 * INVARIANT  cuts are disjoint, ascending, and lie within one statement each.
 */
#include "node/sql/parse/geo.h"

#include <string.h>

#include "node/base/invariant.h"
#include "node/sql/parse/scan_words.h"

/*
 * First words of our statements. A word may be several, separated by |. `%` is a name: dotted, with
 * IF EXISTS or ONLY before it and @index behind it; `&` is a whole number.
 */
static const struct geo_pattern {
    const char *words;
    const char *feature;
    bool ranges;
} geo_patterns[] = {
    {"show ranges from table", "SHOW RANGES", true},
    {"alter table % split at", "SPLIT AT", true},
    {"alter range & relocate lease to &", "RELOCATE LEASE", true},
    {"show regions", "SHOW REGIONS", false},
    {"show survival goal", "SHOW SURVIVAL GOAL", false},
    {"show super regions", "SHOW SUPER REGIONS", false},
    {"show locality", "SHOW LOCALITY", false},
    {"show range|ranges from|for", "SHOW RANGES", false},
    {"show ranges", "SHOW RANGES", false},
    {"show zone configuration|configurations", "SHOW ZONE CONFIGURATION", false},
    {"show create", "SHOW CREATE", false},
    {"show jobs", "SHOW JOBS", false},
    {"show sessions", "SHOW SESSIONS", false},
    {"show queries", "SHOW QUERIES", false},
    {"show transactions", "SHOW TRANSACTIONS", false},
    {"show statistics for", "SHOW STATISTICS", false},
    {"show tables", "SHOW TABLES", false},
    {"show schemas", "SHOW SCHEMAS", false},
    {"show databases", "SHOW DATABASES", false},
    {"show columns from", "SHOW COLUMNS", false},
    {"show indexes from", "SHOW INDEXES", false},
    {"show backups", "SHOW BACKUPS", false},
    {"show changefeed", "SHOW CHANGEFEED JOBS", false},
    {"show cluster setting", "SHOW CLUSTER SETTING", false},
    {"set|reset cluster setting", "CLUSTER SETTING", false},
    {"alter database % add region", "ALTER DATABASE ADD REGION", false},
    {"alter database % drop region", "ALTER DATABASE DROP REGION", false},
    {"alter database % set primary region", "ALTER DATABASE PRIMARY REGION", false},
    {"alter database % primary region", "ALTER DATABASE PRIMARY REGION", false},
    {"alter database % set|drop secondary region", "ALTER DATABASE SECONDARY REGION", false},
    {"alter database % survive", "ALTER DATABASE SURVIVE", false},
    {"alter database % placement", "ALTER DATABASE PLACEMENT", false},
    {"alter database % add|alter|drop super region", "ALTER DATABASE SUPER REGION", false},
    {"alter database % alter region", "ALTER DATABASE ALTER REGION", false},
    {"alter table % locality", "ALTER TABLE LOCALITY", false},
    {"alter table % set locality", "ALTER TABLE LOCALITY", false},
    {"alter table % set residency", "ALTER TABLE RESIDENCY", false},
    {"alter database|table|index % configure zone", "CONFIGURE ZONE", false},
    {"alter index % split at", "SPLIT AT", false},
    {"alter table|index % unsplit", "UNSPLIT AT", false},
    {"alter table|index % scatter", "SCATTER", false},
    {"alter table|index % relocate", "RELOCATE", false},
    {"alter partition", "ALTER PARTITION", false},
    {"alter range", "ALTER RANGE", false},
    {"backup", "BACKUP", false},
    {"restore", "RESTORE", false},
    {"create changefeed", "CREATE CHANGEFEED", false},
    {"pause|resume|cancel job|jobs", "JOBS", false},
    {"cancel query|queries", "CANCEL QUERY", false},
    {"cancel session|sessions", "CANCEL SESSION", false},
};

bool geo_is_trigger(struct bytes text, struct scan_token t)
{
    return (scan_word_flags(text, t) & SCAN_WORD_OURS) != 0;
}

/* Reading one statement: the current token, and what was found so far. */
struct geo_reader {
    struct bytes text;
    struct arena *arena;
    struct geo_cuts *out;
    uint32_t cap;
    struct scanner scanner;
    struct scan_token now;
    uint32_t end; /* Of the statement. */
};

static void step(struct geo_reader *r)
{
    r->now = scan_next(&r->scanner);
    if (r->now.start >= r->end) {
        r->now = (struct scan_token){SCAN_END, r->end, r->end};
    }
}

static void start(struct geo_reader *r, uint32_t from, uint32_t end)
{
    r->end = end;
    scan_init(&r->scanner, r->text, from);
    step(r);
}

static bool at_word(const struct geo_reader *r, const char *word)
{
    return scan_is(r->text, r->now, word);
}

/* Steps over the word if it is there. */
static bool take_word(struct geo_reader *r, const char *word)
{
    if (!at_word(r, word)) {
        return false;
    }
    step(r);
    return true;
}

static bool take_kind(struct geo_reader *r, uint16_t kind)
{
    if (r->now.kind != kind) {
        return false;
    }
    step(r);
    return true;
}

static bool take_identifier(struct geo_reader *r)
{
    return take_kind(r, SCAN_WORD) || take_kind(r, SCAN_QUOTED) ||
           take_kind(r, SCAN_UNICODE_QUOTED);
}

/* [IF [NOT] EXISTS] [ONLY] name{.name}[@name] */
static bool take_name(struct geo_reader *r)
{
    if (take_word(r, "if")) {
        (void)take_word(r, "not");
        (void)take_word(r, "exists");
    }
    (void)take_word(r, "only");
    if (!take_identifier(r)) {
        return false;
    }
    while (take_kind(r, '.')) {
        if (!take_identifier(r)) {
            return false;
        }
    }
    if (r->now.kind == SCAN_OPERATOR && r->text.ptr[r->now.start] == '@' &&
        r->now.end == r->now.start + 1) {
        step(r);
        return take_identifier(r);
    }
    return true;
}

/* region: a name or a string. */
static bool take_region(struct geo_reader *r)
{
    return take_kind(r, SCAN_STRING) || take_identifier(r);
}

static struct status add_cut(struct geo_reader *r, struct geo_cut cut)
{
    struct geo_cuts *out = r->out;

    INVARIANT(cut.from < cut.to);
    INVARIANT(out->count == 0 || out->items[out->count - 1].to <= cut.from);
    if (out->count == r->cap) {
        const uint32_t cap = r->cap == 0 ? 4 : r->cap * 2;
        struct geo_cut *grown = ARENA_ARRAY(r->arena, struct geo_cut, cap);

        if (grown == NULL) {
            return FAIL(STATUS_MEMORY, "too many clauses for the statement's arena");
        }
        if (out->count > 0) {
            memcpy(grown, out->items, out->count * sizeof(*grown));
        }
        out->items = grown;
        r->cap = cap;
    }
    out->items[out->count++] = cut;
    return OK;
}

/* One word of a pattern, up to its blank: any of its alternatives, or a name. */
static bool take_pattern_word(struct geo_reader *r, const char *p, size_t n)
{
    char word[24];

    if (n == 1 && p[0] == '%') {
        return take_name(r);
    }
    if (n == 1 && p[0] == '&') {
        return take_kind(r, SCAN_INTEGER);
    }
    while (n > 0) {
        const char *bar = memchr(p, '|', n);
        const size_t size = bar == NULL ? n : (size_t)(bar - p);

        INVARIANT(size < sizeof(word));
        memcpy(word, p, size);
        word[size] = '\0';
        if (take_word(r, word)) {
            return true;
        }
        p += bar == NULL ? n : size + 1;
        n -= bar == NULL ? n : size + 1;
    }
    return false;
}

static bool matches_pattern(struct geo_reader *r, const char *pattern)
{
    while (*pattern != '\0') {
        const size_t n = strcspn(pattern, " ");

        if (!take_pattern_word(r, pattern, n)) {
            return false;
        }
        pattern += n;
        pattern += strspn(pattern, " ");
    }
    return true;
}

/* LOCALITY (GLOBAL | REGIONAL [BY TABLE] [IN region] | REGIONAL BY ROW [AS column]) */
static bool take_locality(struct geo_reader *r)
{
    if (!take_word(r, "locality")) {
        return false;
    }
    if (take_word(r, "global")) {
        return true;
    }
    if (!take_word(r, "regional")) {
        return false;
    }
    if (take_word(r, "by")) {
        if (take_word(r, "row")) {
            return !take_word(r, "as") || take_identifier(r);
        }
        if (!take_word(r, "table")) {
            return false;
        }
    }
    if (take_word(r, "in")) {
        return take_word(r, "primary") ? take_word(r, "region") : take_region(r);
    }
    return true;
}

/* RESIDENCY IN (region, ...) */
static bool take_residency(struct geo_reader *r)
{
    if (!take_word(r, "residency") || !take_word(r, "in") || !take_kind(r, '(')) {
        return false;
    }
    do {
        if (!take_region(r)) {
            return false;
        }
    } while (take_kind(r, ','));
    return take_kind(r, ')');
}

/* PRIMARY REGION ['='] region | SECONDARY REGION ['='] region */
static bool take_main_region(struct geo_reader *r)
{
    if (!take_word(r, "primary") && !take_word(r, "secondary")) {
        return false;
    }
    if (!take_word(r, "region")) {
        return false;
    }
    (void)take_kind(r, '=');
    return take_region(r);
}

/* REGIONS ['='] region {, region} */
static bool take_regions(struct geo_reader *r)
{
    if (!take_word(r, "regions")) {
        return false;
    }
    (void)take_kind(r, '=');
    do {
        if (!take_region(r)) {
            return false;
        }
    } while (take_kind(r, ','));
    return true;
}

/* SURVIVE ['='] (ZONE | AVAILABILITY ZONE | REGION) FAILURE */
static bool take_survive(struct geo_reader *r)
{
    if (!take_word(r, "survive")) {
        return false;
    }
    (void)take_kind(r, '=');
    (void)take_word(r, "availability");
    return (take_word(r, "zone") || take_word(r, "region")) && take_word(r, "failure");
}

static bool take_placement(struct geo_reader *r)
{
    return take_word(r, "placement") && (take_word(r, "restricted") || take_word(r, "default"));
}

/* AS OF SYSTEM TIME expression, up to what can only follow it. */
static bool take_as_of(struct geo_reader *r)
{
    static const char *const followers[] = {"where", "group",  "having",   "window", "order",
                                            "limit", "offset", "fetch",    "for",    "union",
                                            "with",  "except", "intersect"};
    uint32_t depth = 0;

    if (!take_word(r, "as") || !take_word(r, "of") || !take_word(r, "system") ||
        !take_word(r, "time") || r->now.kind == SCAN_END) {
        return false;
    }
    for (;; step(r)) {
        if (r->now.kind == SCAN_END || r->now.kind == SCAN_ERROR ||
            (depth == 0 && (r->now.kind == ',' || r->now.kind == ')'))) {
            return true;
        }
        for (size_t i = 0; i < ARRAY_COUNT(followers) && depth == 0; i++) {
            if (at_word(r, followers[i])) {
                return true;
            }
        }
        depth += r->now.kind == '(';
        depth -= r->now.kind == ')';
    }
}

typedef bool (*geo_take)(struct geo_reader *r);

struct geo_clause {
    geo_take take;
    const char *feature;
};

/* AS OF SYSTEM TIME that take_as_of() has found at `first`: where its expression begins. */
static uint32_t as_of_expression(struct geo_reader *r, uint32_t first)
{
    struct scanner s;

    scan_init(&s, r->text, first);
    for (int i = 0; i < 4; i++) {
        (void)scan_next(&s);
    }
    return scan_next(&s).start;
}

/*
 * Tries the clauses at the current token. found_out: one stood there and was cut; the reader is
 * behind it. Else the reader has not moved.
 */
static struct status try_clauses(struct geo_reader *r, const struct geo_clause *clauses,
                                 size_t count, bool *found_out)
{
    const struct scanner before = r->scanner;
    const struct scan_token first = r->now;

    *found_out = false;
    for (size_t i = 0; i < count && first.kind == SCAN_WORD; i++) {
        if (clauses[i].take(r)) {
            /* Up to the next token, less the blanks between: they are blanks already. */
            const uint32_t to = r->now.kind == SCAN_END ? r->end : r->now.start;

            *found_out = true;
            return add_cut(
                r,
                (struct geo_cut){
                    .feature = clauses[i].feature,
                    .from = first.start,
                    .to = to,
                    .as_of = clauses[i].take == take_as_of ? as_of_expression(r, first.start) : 0,
                });
        }
        r->scanner = before;
        r->now = first;
    }
    return OK;
}

/* Walks on from the current token; `top` clauses count at depth 0 only, AS OF everywhere. */
static struct status cut_clauses(struct geo_reader *r, const struct geo_clause *top, size_t count)
{
    static const struct geo_clause as_of = {take_as_of, "AS OF SYSTEM TIME"};
    uint32_t depth = 0;

    while (r->now.kind != SCAN_END && r->now.kind != SCAN_ERROR) {
        bool found = false;

        if (depth == 0 && count > 0) {
            TRY(try_clauses(r, top, count, &found));
        }
        if (!found && at_word(r, "as")) {
            TRY(try_clauses(r, &as_of, 1, &found));
        }
        if (found) {
            continue;
        }
        if (r->now.kind == '(') {
            depth++;
        } else if (r->now.kind == ')' && depth > 0) {
            depth--;
        }
        step(r);
    }
    return OK;
}

/* CREATE [GLOBAL | LOCAL] [TEMP | TEMPORARY | UNLOGGED] TABLE name, and CREATE DATABASE name. */
static bool is_create(struct geo_reader *r, const char *what)
{
    static const char *const between[] = {"global", "local", "temp", "temporary", "unlogged"};

    if (!take_word(r, "create")) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_COUNT(between); i++) {
        (void)take_word(r, between[i]);
    }
    return take_word(r, what) && take_name(r);
}

static struct status cut_statement(struct geo_reader *r, struct scan_statement stmt)
{
    static const struct geo_clause table[] = {{take_locality, "LOCALITY"},
                                              {take_residency, "RESIDENCY"}};
    static const struct geo_clause database[] = {{take_main_region, "PRIMARY REGION"},
                                                 {take_regions, "REGIONS"},
                                                 {take_survive, "SURVIVE"},
                                                 {take_placement, "PLACEMENT"}};

    for (size_t i = 0; i < ARRAY_COUNT(geo_patterns); i++) {
        start(r, stmt.start, stmt.end);
        if (matches_pattern(r, geo_patterns[i].words)) {
            return add_cut(r, (struct geo_cut){.feature = geo_patterns[i].feature,
                                               .from = stmt.start,
                                               .to = stmt.end,
                                               .whole = true,
                                               .ranges = geo_patterns[i].ranges});
        }
    }
    start(r, stmt.start, stmt.end);
    if (is_create(r, "table")) {
        return cut_clauses(r, table, ARRAY_COUNT(table));
    }
    start(r, stmt.start, stmt.end);
    if (is_create(r, "database")) {
        return cut_clauses(r, database, ARRAY_COUNT(database));
    }
    start(r, stmt.start, stmt.end);
    step(r); /* Never a clause: something must be left for the clause to belong to. */
    return cut_clauses(r, NULL, 0);
}

struct status geo_cut(struct bytes text, struct arena *arena, struct geo_cuts *out)
{
    struct geo_reader r = {.text = text, .arena = arena, .out = out};
    struct scan_statement stmt = {0};

    *out = (struct geo_cuts){0};
    while (stmt.next < text.len) {
        scan_split(text, stmt.next, &stmt);
        if (stmt.start < stmt.end) {
            TRY(cut_statement(&r, stmt));
        }
    }
    if (out->count == 0) {
        return OK;
    }
    out->text = arena_strndup(arena, (const char *)text.ptr, text.len);
    if (out->text == NULL) {
        return FAIL(STATUS_MEMORY, "statement too long for its arena");
    }
    for (uint32_t i = 0; i < out->count; i++) {
        memset(out->text + out->items[i].from, ' ', out->items[i].to - out->items[i].from);
    }
    return OK;
}
