/*
 * test_parse_scan.c -- the lexer against libpg_query's, token by token, and the keys of statements.
 */
#include <pg_query.h>
#include <pg_query/pg_query.pb-c.h>

#include "node/base/hash.h"
#include "node/sql/parse/scan.h"
#include "tests/lib/test.h"
#include "tests/unit/sql/parse_corpus.h"

/* Their name of a token that we have; words are compared by place only. */
static bool same_kind(struct scan_token ours, PgQuery__Token theirs)
{
    switch (ours.kind) {
    case SCAN_STRING:
    case SCAN_ESCAPE_STRING:
    case SCAN_DOLLAR_STRING:
    case SCAN_NATIONAL_STRING:
        return theirs == PG_QUERY__TOKEN__SCONST;
    case SCAN_UNICODE_STRING:
        return theirs == PG_QUERY__TOKEN__USCONST;
    case SCAN_UNICODE_QUOTED:
        return theirs == PG_QUERY__TOKEN__UIDENT;
    case SCAN_QUOTED:
        return theirs == PG_QUERY__TOKEN__IDENT;
    case SCAN_BIT_STRING:
        return theirs == PG_QUERY__TOKEN__BCONST;
    case SCAN_HEX_STRING:
        return theirs == PG_QUERY__TOKEN__XCONST;
    case SCAN_PARAM:
        return theirs == PG_QUERY__TOKEN__PARAM;
    case SCAN_INTEGER: /* FCONST when too large for int4. */
        return theirs == PG_QUERY__TOKEN__ICONST || theirs == PG_QUERY__TOKEN__FCONST;
    case SCAN_DECIMAL:
        return theirs == PG_QUERY__TOKEN__FCONST;
    case SCAN_OPERATOR:
        return theirs == PG_QUERY__TOKEN__Op;
    case SCAN_TYPECAST:
        return theirs == PG_QUERY__TOKEN__TYPECAST;
    case SCAN_DOT_DOT:
        return theirs == PG_QUERY__TOKEN__DOT_DOT;
    case SCAN_COLON_EQUALS:
        return theirs == PG_QUERY__TOKEN__COLON_EQUALS;
    case SCAN_EQUALS_GREATER:
        return theirs == PG_QUERY__TOKEN__EQUALS_GREATER;
    case SCAN_LESS_EQUALS:
        return theirs == PG_QUERY__TOKEN__LESS_EQUALS;
    case SCAN_GREATER_EQUALS:
        return theirs == PG_QUERY__TOKEN__GREATER_EQUALS;
    case SCAN_NOT_EQUALS:
        return theirs == PG_QUERY__TOKEN__NOT_EQUALS;
    case SCAN_WORD:
        return theirs >= PG_QUERY__TOKEN__IDENT;
    default:
        return (int)theirs == ours.kind;
    }
}

static bool is_comment(const PgQuery__ScanToken *t)
{
    return t->token == PG_QUERY__TOKEN__SQL_COMMENT || t->token == PG_QUERY__TOKEN__C_COMMENT;
}

/* Compares all tokens of a text that both accept. */
static void compare_tokens(const char *text)
{
    const PgQueryScanResult raw = pg_query_scan(text);
    PgQuery__ScanResult *theirs;
    struct scanner s;
    struct scan_token ours;

    scan_init(&s, bytes_str(text), 0);
    if (raw.error != NULL) {
        do {
            ours = scan_next(&s);
        } while (ours.kind != SCAN_END && ours.kind != SCAN_ERROR);
        pg_query_free_scan_result(raw);
        if (ours.kind != SCAN_ERROR) {
            test_fail(__FILE__, __LINE__, "accepted what PostgreSQL refuses: %s", text);
        }
        return;
    }
    theirs = pg_query__scan_result__unpack(NULL, raw.pbuf.len, (const void *)raw.pbuf.data);
    for (size_t i = 0; i < theirs->n_tokens; i++) {
        const PgQuery__ScanToken *t = theirs->tokens[i];

        if (is_comment(t)) {
            continue;
        }
        ours = scan_next(&s);
        if ((int)ours.start != t->start || !same_kind(ours, t->token)) {
            test_fail(__FILE__, __LINE__, "token at %d (kind %d), want %d (kind %d) in: %s",
                      (int)ours.start, ours.kind, t->start, (int)t->token, text);
            break;
        }
        if (ours.kind == SCAN_NATIONAL_STRING) {
            i++; /* NCHAR and SCONST, see scan.c. */
        }
    }
    pg_query__scan_result__free_unpacked(theirs, NULL);
    pg_query_free_scan_result(raw);
}

TEST(parse_scan, cuts_the_corpus_as_postgresql_does)
{
    char *text = corpus_read();
    char *rest = text;

    EXPECT_TRUE(text != NULL);
    for (const char *stmt = corpus_next(&rest); stmt != NULL; stmt = corpus_next(&rest)) {
        if (strstr(stmt, " N'") == NULL) { /* Two tokens there, one here: see scan.c. */
            compare_tokens(stmt);
        }
    }
    free(text);
}

/* The corners of scan.l that ordinary statements do not reach. */
TEST(parse_scan, cuts_odd_texts_as_postgresql_does)
{
    static const char *const texts[] = {
        "",
        "   ",
        "a.b..c",
        "1..10",
        "1.5.3",
        "1.e5 2.E-3",
        "'a' 'b'",
        "'a'\n'b'",
        "'a' /* c */\n 'b'",
        "'a'\n'b''c'\n'd'",
        "E'a\\'b'\n'c\\'d'",
        "b'01'\n'10'",
        "x'1''2'",
        "$$a$$ $a$b$$c$a$ $_1$x$_1$",
        "a$b$c",
        "a-- b\n+c",
        "a/*b*//c",
        "a+--b\nc",
        "a@-b a+-b a*-b a<-b a~-b a|-b a-+b",
        "a =- 1 a @=- 1",
        "=> := :: .. <= >= <> != <=> !== =+ <+ *-",
        "a?b ?| ?& #- @@@ &&& ||/ |/ !",
        ":a :b: [1:2] a[:]",
        "\"a\"\"b\" U&\"x\"",
        "\xc3\xa9t\xc3\xa9 = '\xe2\x82\xac'",
        "e'x' E'x' n u& b x u&a",
        "select'a'from\"b\"where$1=1",
        "/* /* */ */ 1 /**/ 2 /***/ 3 /*/**/*/ 4",
        "--\n--x\r1",
        "a\tb\fc\rd",
        "'unterminated",
        "\"unterminated",
        "/* unterminated",
        "$$ unterminated $a$",
        "$a$ unterminated $$",
        "1a",
        "1.5a",
        "1e",
        "1e+",
        "\"\"",
    };

    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        compare_tokens(texts[i]);
    }
}

/* Random bytes from an alphabet that begins everything: both lexers must agree on every token. */
TEST(parse_scan, cuts_random_texts_as_postgresql_does)
{
    static const char alphabet[] = "aeEuUxb01.'\"$-+*/=<>!@~|&?:;()[], \n\\_";
    struct rng r;

    rng_seed(&r, 7);
    for (int i = 0; i < 20000; i++) {
        char text[24];
        const size_t n = rng_below(&r, sizeof(text) - 1);

        for (size_t k = 0; k < n; k++) {
            text[k] = alphabet[rng_below(&r, sizeof(alphabet) - 1)];
        }
        text[n] = '\0';
        /* Left out: a lone dollar, one token for them and an error for us; and escapes, which they
         * resolve and so find malformed. */
        if (strchr(text, '$') == NULL && strchr(text, '\\') == NULL && strstr(text, "&'") == NULL) {
            compare_tokens(text);
        }
    }
}

/* libpg_query's lexer has comments as tokens and ends the string there; PostgreSQL's goes on. */
TEST(parse_scan, strings_continue_behind_line_comments)
{
    static const char text[] = "'a' --it's\n--c\n 'b' c";
    struct scanner s;

    scan_init(&s, bytes_str(text), 0);
    EXPECT_EQ(SCAN_STRING, scan_next(&s).kind);
    EXPECT_EQ(SCAN_WORD, scan_next(&s).kind);
}

static struct scan_statement scan_one(struct arena *a, const char *text)
{
    struct scan_statement s = {0};

    if (!status_ok(scan_statement(bytes_str(text), 0, a, &s))) {
        test_fail(__FILE__, __LINE__, "out of memory: %s", text);
    }
    return s;
}

static bool same_key(const char *left, const char *right)
{
    struct arena a;
    struct scan_statement l;
    struct scan_statement r;
    bool same;

    arena_init(&a, 0);
    l = scan_one(&a, left);
    r = scan_one(&a, right);
    same = l.abstract && r.abstract && l.key.hi == r.key.hi && l.key.lo == r.key.lo;
    arena_deinit(&a);
    return same;
}

TEST(parse_scan, statements_that_differ_in_values_share_a_key)
{
    EXPECT_TRUE(same_key("select a from t where id = 7", "select a from t where id = 8"));
    EXPECT_TRUE(same_key("select a from t where id = 7", "select  a\nfrom t where id=7 -- x"));
    EXPECT_TRUE(same_key("select a from t where s = 'x'", "select a from t where s = 'it''s'"));
    EXPECT_TRUE(
        same_key("insert into t (a, b) values (1, 'x')", "insert into t (a, b) values (2, '')"));
    EXPECT_TRUE(same_key("update t set a = a + 5 where b in (1, 2)",
                         "update t set a = a + 6 where b in (3, 4)"));
    EXPECT_TRUE(
        same_key("delete from t where a between 1 and 2", "delete from t where a between 5 and 6"));
    EXPECT_TRUE(same_key("select a from t where b = 1 order by a",
                         "select a from t where b = 2 order by a"));
}

TEST(parse_scan, what_changes_the_tree_changes_the_key)
{
    /* Class */
    EXPECT_FALSE(same_key("select a from t where id = 7", "select a from t where id = 3000000000"));
    EXPECT_FALSE(same_key("select a from t where id = 7", "select a from t where id = 7.0"));
    EXPECT_FALSE(same_key("select a from t where id = 7", "select a from t where id = '7'"));
    /* Pinned, in the order of the list at the head of scan_statement.c */
    EXPECT_FALSE(same_key("select a, b from t order by 1", "select a, b from t order by 2"));
    EXPECT_FALSE(same_key("select a from t limit 1", "select a from t limit 2"));
    EXPECT_FALSE(
        same_key("select a + 1 from t group by a + 1", "select a + 2 from t group by a + 1"));
    EXPECT_FALSE(same_key("select distinct a + 1 from t", "select distinct a + 2 from t"));
    EXPECT_FALSE(same_key("select a::varchar(1) from t", "select a::varchar(2) from t"));
    EXPECT_FALSE(
        same_key("select cast(a as numeric(5,1)) from t", "select cast(a as numeric(5,2)) from t"));
    EXPECT_FALSE(same_key("select a::int[1]", "select a::int[2]"));
    EXPECT_FALSE(same_key("select current_timestamp(1)", "select current_timestamp(2)"));
    EXPECT_FALSE(
        same_key("select a::interval day to second(1)", "select a::interval day to second(2)"));
    EXPECT_FALSE(same_key("select date '2020-01-01'", "select date '2020-01-02'"));
    EXPECT_FALSE(same_key("select a like 'x%' from t", "select a like 'y%' from t"));
    EXPECT_FALSE(same_key("select a from t where b = -5", "select a from t where b = -6"));
    EXPECT_FALSE(same_key("select a from t where b ~ 'x'", "select a from t where b ~ 'y'"));
    EXPECT_FALSE(same_key("select extract('year' from a)", "select extract('month' from a)"));
    /* Names and structure */
    EXPECT_FALSE(same_key("select a from t", "select b from t"));
    EXPECT_FALSE(same_key("select \"a\" from t", "select a from t"));
    EXPECT_FALSE(same_key("select a b from t", "select ab from t"));
    EXPECT_FALSE(same_key("select a in (1)", "select a in (1, 2)"));
}

TEST(parse_scan, what_is_unusual_is_not_abstracted)
{
    static const char *const texts[] = {
        "create table t (a int default 5)",
        "select $1 + 5",
        "select E'a'",
        "select U&'a'",
        "select 1 union select 2",
        "with a as (select 1) select * from a",
        "select 1 from t as of system time '-1s'",
        "select /*+ SeqScan(t) */ 1 from t",
        "select rank() over () from t",
        "select 1 into x",
        "select numeric(5,2) '1.5'",
        "select (1",
        "select 1)",
        "select 'x",
        "select b'01'",
        "begin",
        "set x = 1",
    };
    struct arena a;

    arena_init(&a, 0);
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        const struct scan_statement s = scan_one(&a, texts[i]);

        if (s.abstract) {
            test_fail(__FILE__, __LINE__, "abstracted: %s", texts[i]);
        }
    }
    arena_deinit(&a);
}

TEST(parse_scan, literals_have_class_pin_and_value)
{
    static const char text[] = "select 'a''b' from t where x = 7 and y = 3000000000 and z = 1.5 "
                               "and w = $$d$$ and v = 'p' -- it's\n 'q' limit 3";
    static const struct {
        uint8_t class_;
        bool pinned;
        const char *value;
    } want[] = {
        {SCAN_CLASS_STRING, false, "a'b"},      {SCAN_CLASS_INT4, false, "7"},
        {SCAN_CLASS_INT8, false, "3000000000"}, {SCAN_CLASS_NUMERIC, false, "1.5"},
        {SCAN_CLASS_STRING, false, "d"},        {SCAN_CLASS_STRING, false, "pq"},
        {SCAN_CLASS_INT4, true, "3"},
    };
    struct arena a;
    struct scan_statement s;

    arena_init(&a, 0);
    s = scan_one(&a, text);
    EXPECT_TRUE(s.abstract);
    EXPECT_EQ(ARRAY_COUNT(want), s.literals_count);
    for (size_t i = 0; i < ARRAY_COUNT(want); i++) {
        struct bytes value;

        EXPECT_OK(scan_literal_value(bytes_str(text), s.literals[i], &a, &value));
        EXPECT_BYTES_EQ(bytes_str(want[i].value), value);
        EXPECT_EQ(want[i].class_, s.literals[i].class_);
        EXPECT_EQ(want[i].pinned, s.literals[i].pinned);
    }
    arena_deinit(&a);
}

/* At the limit it is abstracted, one more literal and it is not. */
TEST(parse_scan, too_many_literals_are_not_abstracted)
{
    for (uint32_t n = SCAN_LITERALS_MAX; n <= SCAN_LITERALS_MAX + 1; n++) {
        struct buf text;
        struct arena a;

        buf_init(&text, 0);
        EXPECT_OK(buf_append_str(&text, "select a in (1"));
        for (uint32_t i = 1; i < n; i++) {
            EXPECT_OK(buf_append_str(&text, ",1"));
        }
        EXPECT_OK(buf_append(&text, ")", 2));
        arena_init(&a, 0);
        EXPECT_EQ(n == SCAN_LITERALS_MAX, scan_one(&a, (const char *)text.ptr).abstract);
        arena_deinit(&a);
        buf_deinit(&text);
    }
}

TEST(parse_scan, splits_at_semicolons)
{
    static const char text[] = " select ';' ; ; create function f() returns int begin atomic "
                               "select 1; select case 1 when 1 then 2 end; end; select (1;2) -- ;";
    static const char *const want[] = {
        "select ';'",
        "",
        ("create function f() returns int begin atomic select 1; select case 1 when 1 then 2 end; "
         "end"),
        "select (1;2)",
    };
    struct scan_statement s = {0};

    for (size_t i = 0; i < ARRAY_COUNT(want); i++) {
        scan_split(bytes_str(text), s.next, &s);
        EXPECT_BYTES_EQ(bytes_str(want[i]), bytes_of(text + s.start, s.end - s.start));
    }
    EXPECT_EQ(strlen(text), s.next);
}
