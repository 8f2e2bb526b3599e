/*
 * scan.c -- the lexer.
 *
 * PostgreSQL's own lexer sits inside libpg_query behind an exception machinery, copies every
 * identifier and literal, and stops at the first error. Here tokens are only cut: three numbers
 * each, nothing is copied or unescaped, and the text may be in any state. The rules follow scan.l
 * one by one; each branch names the definition it stands for. tests/unit/sql/test_parse_scan.c
 * compares the tokens with pg_query_scan() over a corpus.
 *
 * Where scan.l raises an error (unterminated string, junk behind a number) we return SCAN_ERROR at
 * the start of the construct and let the real parser speak: users of this lexer either hand the
 * text on to it or treat the statement as unknown.
 *
 * One difference: scan.l turns N'x' into the two tokens NCHAR and SCONST. We keep one token,
 * because nothing here cares and offsets stay simple.
 */
#include "node/sql/parse/scan.h"

#include <string.h>

#include "node/base/invariant.h"

/* Classes of characters; one table look-up decides the branch for most bytes. */
enum {
    C_SPACE = 1,
    C_NEWLINE = 2,
    C_IDENT_START = 4, /* ident_start, also dolq_start */
    C_DIGIT = 8,
    C_OPERATOR = 16, /* op_chars */
    C_SELF = 32,
    C_OPERATOR_FREE = 64, /* Characters that let an operator end in + or -. */
};

static uint8_t char_class(uint8_t c)
{
    static const uint8_t classes[128] = {
        ['\t'] = C_SPACE,
        ['\n'] = C_SPACE | C_NEWLINE,
        ['\f'] = C_SPACE,
        ['\r'] = C_SPACE | C_NEWLINE,
        [' '] = C_SPACE,
        ['!'] = C_OPERATOR | C_OPERATOR_FREE,
        ['#'] = C_OPERATOR | C_OPERATOR_FREE,
        ['%'] = C_OPERATOR | C_OPERATOR_FREE | C_SELF,
        ['&'] = C_OPERATOR | C_OPERATOR_FREE,
        ['('] = C_SELF,
        [')'] = C_SELF,
        ['*'] = C_OPERATOR | C_SELF,
        ['+'] = C_OPERATOR | C_SELF,
        [','] = C_SELF,
        ['-'] = C_OPERATOR | C_SELF,
        ['.'] = C_SELF,
        ['/'] = C_OPERATOR | C_SELF,
        ['0' ... '9'] = C_DIGIT,
        [':'] = C_SELF,
        [';'] = C_SELF,
        ['<'] = C_OPERATOR | C_SELF,
        ['='] = C_OPERATOR | C_SELF,
        ['>'] = C_OPERATOR | C_SELF,
        ['?'] = C_OPERATOR | C_OPERATOR_FREE,
        ['@'] = C_OPERATOR | C_OPERATOR_FREE,
        ['A' ... 'Z'] = C_IDENT_START,
        ['['] = C_SELF,
        [']'] = C_SELF,
        ['^'] = C_OPERATOR | C_OPERATOR_FREE | C_SELF,
        ['_'] = C_IDENT_START,
        ['`'] = C_OPERATOR | C_OPERATOR_FREE,
        ['a' ... 'z'] = C_IDENT_START,
        ['|'] = C_OPERATOR | C_OPERATOR_FREE,
        ['~'] = C_OPERATOR | C_OPERATOR_FREE,
    };

    return c >= 128 ? C_IDENT_START : classes[c];
}

static bool is_class(uint8_t c, uint8_t mask)
{
    return (char_class(c) & mask) != 0;
}

static bool is_ident_cont(uint8_t c)
{
    return is_class(c, C_IDENT_START | C_DIGIT) || c == '$';
}

/* The byte at `at`, 0 behind the end (the text holds no NUL that would matter). */
static uint8_t peek(const struct scanner *s, uint32_t at)
{
    return at < s->size ? s->text[at] : 0;
}

static uint32_t skip_line_comment(const struct scanner *s, uint32_t at)
{
    while (at < s->size && !is_class(s->text[at], C_NEWLINE)) {
        at++;
    }
    return at;
}

/* xcstart ... xcstop with nesting. False: unterminated. */
static bool skip_block_comment(const struct scanner *s, uint32_t *at_inout)
{
    uint32_t at = *at_inout + 2;
    uint32_t depth = 1;

    while (at < s->size) {
        if (s->text[at] == '/' && peek(s, at + 1) == '*') {
            depth++;
            at += 2;
        } else if (s->text[at] == '*' && peek(s, at + 1) == '/') {
            at += 2;
            if (--depth == 0) {
                *at_inout = at;
                return true;
            }
        } else {
            at++;
        }
    }
    return false;
}

/* Moves to the next token. False: an unterminated comment starts at s->at. */
static bool skip_blanks(struct scanner *s)
{
    for (;;) {
        while (s->at < s->size && is_class(s->text[s->at], C_SPACE)) {
            s->at++;
        }
        if (peek(s, s->at) == '-' && peek(s, s->at + 1) == '-') {
            s->at = skip_line_comment(s, s->at);
        } else if (peek(s, s->at) == '/' && peek(s, s->at + 1) == '*') {
            s->hint = s->hint || peek(s, s->at + 2) == '+';
            if (!skip_block_comment(s, &s->at)) {
                return false;
            }
        } else {
            return true;
        }
    }
}

/*
 * quotecontinue: whitespace with at least one newline, line comments allowed (a comment must end in
 * a newline), then a quote. Returns the offset behind that quote, or 0.
 */
static uint32_t string_continues(const struct scanner *s, uint32_t at)
{
    bool newline = false;

    while (at < s->size) {
        const uint8_t c = s->text[at];

        if (is_class(c, C_SPACE)) {
            newline = newline || is_class(c, C_NEWLINE);
            at++;
        } else if (c == '-' && peek(s, at + 1) == '-') {
            at = skip_line_comment(s, at);
            if (at == s->size) {
                return 0;
            }
        } else {
            return c == '\'' && newline ? at + 1 : 0;
        }
    }
    return 0;
}

enum string_rule {
    STRING_RAW,     /* xb, xh: a quote always ends it */
    STRING_DOUBLED, /* xq, xus: '' is a quote inside */
    STRING_ESCAPES, /* xe: that, and backslash */
};

/* The end of a string whose opening quote stands before `at`; 0 if it has none. */
static uint32_t string_end(const struct scanner *s, uint32_t at, enum string_rule rule)
{
    while (at < s->size) {
        const uint8_t c = s->text[at];
        const bool escaped = c == '\\' && rule == STRING_ESCAPES;
        const bool doubled = c == '\'' && rule != STRING_RAW && peek(s, at + 1) == '\'';

        if (escaped || doubled) {
            at += 2;
        } else if (c != '\'') {
            at++;
        } else {
            const uint32_t on = string_continues(s, at + 1);

            if (on == 0) {
                return at + 1;
            }
            at = on;
        }
    }
    return 0;
}

/* xdinside: "" is a quote inside. 0 if it has no end. An empty identifier is scan.l's error. */
static uint32_t quoted_end(const struct scanner *s, uint32_t at)
{
    const uint32_t start = at;

    while (at < s->size) {
        if (s->text[at] != '"') {
            at++;
        } else if (peek(s, at + 1) == '"') {
            at += 2;
        } else {
            return at == start ? 0 : at + 1;
        }
    }
    return 0;
}

static struct scan_token token(struct scanner *s, uint16_t kind, uint32_t start, uint32_t end)
{
    s->at = end;
    return (struct scan_token){kind, start, end};
}

static struct scan_token failed(struct scanner *s, uint32_t start)
{
    s->at = s->size;
    return (struct scan_token){SCAN_ERROR, start, s->size};
}

static struct scan_token token_if(struct scanner *s, uint16_t kind, uint32_t start, uint32_t end)
{
    return end == 0 ? failed(s, start) : token(s, kind, start, end);
}

/* identifier, or one of the prefixed strings that begin like one. */
static struct scan_token scan_word(struct scanner *s)
{
    const uint32_t start = s->at;
    const uint8_t second = peek(s, start + 1);
    uint32_t at = start + 1;

    if (second == '\'') {
        switch (s->text[start] | 0x20) {
        case 'b':
            return token_if(s, SCAN_BIT_STRING, start, string_end(s, start + 2, STRING_RAW));
        case 'x':
            return token_if(s, SCAN_HEX_STRING, start, string_end(s, start + 2, STRING_RAW));
        case 'e':
            return token_if(s, SCAN_ESCAPE_STRING, start, string_end(s, start + 2, STRING_ESCAPES));
        case 'n':
            return token_if(s, SCAN_NATIONAL_STRING, start,
                            string_end(s, start + 2, STRING_DOUBLED));
        default:
            break;
        }
    }
    if (second == '&' && (s->text[start] | 0x20) == 'u') {
        if (peek(s, start + 2) == '\'') {
            return token_if(s, SCAN_UNICODE_STRING, start,
                            string_end(s, start + 3, STRING_DOUBLED));
        }
        if (peek(s, start + 2) == '"') {
            return token_if(s, SCAN_UNICODE_QUOTED, start, quoted_end(s, start + 3));
        }
    }
    while (at < s->size && is_ident_cont(s->text[at])) {
        at++;
    }
    return token(s, SCAN_WORD, start, at);
}

/* integer, decimal, real, and their _junk forms. `.5` arrives here too. */
static struct scan_token scan_number(struct scanner *s)
{
    const uint32_t start = s->at;
    uint32_t at = start;
    uint16_t kind = SCAN_INTEGER;

    while (is_class(peek(s, at), C_DIGIT)) {
        at++;
    }
    if (peek(s, at) == '.' && peek(s, at + 1) != '.') { /* decimalfail: 1..10 is 1 and `..` */
        kind = SCAN_DECIMAL;
        at++;
        while (is_class(peek(s, at), C_DIGIT)) {
            at++;
        }
    }
    if ((peek(s, at) | 0x20) == 'e') {
        uint32_t exponent = at + 1;

        if (peek(s, exponent) == '+' || peek(s, exponent) == '-') {
            exponent++;
        }
        if (!is_class(peek(s, exponent), C_DIGIT)) {
            return failed(s, start); /* realfail, or junk */
        }
        while (is_class(peek(s, exponent), C_DIGIT)) {
            exponent++;
        }
        kind = SCAN_DECIMAL;
        at = exponent;
    }
    if (is_class(peek(s, at), C_IDENT_START)) {
        return failed(s, start); /* integer_junk, decimal_junk, real_junk */
    }
    return token(s, kind, start, at);
}

/* param, dolqdelim, or a lone dollar. */
static struct scan_token scan_dollar(struct scanner *s)
{
    const uint32_t start = s->at;
    uint32_t at = start + 1;
    uint32_t delimiter_size;

    if (is_class(peek(s, at), C_DIGIT)) {
        while (is_class(peek(s, at), C_DIGIT)) {
            at++;
        }
        if (is_class(peek(s, at), C_IDENT_START)) {
            return failed(s, start); /* param_junk */
        }
        return token(s, SCAN_PARAM, start, at);
    }
    if (is_class(peek(s, at), C_IDENT_START)) {
        while (is_class(peek(s, at), C_IDENT_START | C_DIGIT)) {
            at++;
        }
    }
    if (peek(s, at) != '$') {
        return failed(s, start); /* dolqfailed: a dollar is no token of SQL. */
    }
    at++;
    delimiter_size = at - start;
    while (at + delimiter_size <= s->size) {
        const uint8_t *found = memchr(s->text + at, '$', s->size - delimiter_size - at + 1);

        if (found == NULL) {
            break;
        }
        at = (uint32_t)(found - s->text);
        if (memcmp(found, s->text + start, delimiter_size) == 0) {
            return token(s, SCAN_DOLLAR_STRING, start, at + delimiter_size);
        }
        at++;
    }
    return failed(s, start);
}

/* Where a run of op_chars really ends: before a comment, and not in + or - without licence. */
static uint32_t operator_end(const struct scanner *s, uint32_t start)
{
    uint32_t end = start;
    bool free_end = false;

    while (end < s->size && is_class(s->text[end], C_OPERATOR)) {
        const uint8_t c = s->text[end];
        const uint8_t after = peek(s, end + 1);

        if ((c == '/' && after == '*') || (c == '-' && after == '-')) {
            break;
        }
        end++;
    }
    for (uint32_t i = start; i + 1 < end; i++) {
        free_end = free_end || is_class(s->text[i], C_OPERATOR_FREE);
    }
    if (!free_end) {
        while (end - start > 1 && (s->text[end - 1] == '+' || s->text[end - 1] == '-')) {
            end--;
        }
    }
    return end;
}

static struct scan_token scan_operator(struct scanner *s)
{
    const uint32_t start = s->at;
    const uint32_t end = operator_end(s, start);
    const uint8_t a = s->text[start];
    const uint8_t b = peek(s, start + 1);

    if (end - start == 1 && is_class(a, C_SELF)) {
        return token(s, a, start, end);
    }
    if (end - start == 2) {
        if (a == '=' && b == '>') {
            return token(s, SCAN_EQUALS_GREATER, start, end);
        }
        if (a == '>' && b == '=') {
            return token(s, SCAN_GREATER_EQUALS, start, end);
        }
        if (a == '<' && b == '=') {
            return token(s, SCAN_LESS_EQUALS, start, end);
        }
        if ((a == '<' && b == '>') || (a == '!' && b == '=')) {
            return token(s, SCAN_NOT_EQUALS, start, end);
        }
    }
    return token(s, SCAN_OPERATOR, start, end);
}

/* Punctuation that is no op_char: , ( ) [ ] . ; : */
static struct scan_token scan_self(struct scanner *s)
{
    const uint32_t start = s->at;
    const uint8_t a = s->text[start];
    const uint8_t b = peek(s, start + 1);

    if (a == ':' && b == ':') {
        return token(s, SCAN_TYPECAST, start, start + 2);
    }
    if (a == ':' && b == '=') {
        return token(s, SCAN_COLON_EQUALS, start, start + 2);
    }
    if (a == '.' && b == '.') {
        return token(s, SCAN_DOT_DOT, start, start + 2);
    }
    return token(s, a, start, start + 1);
}

void scan_init(struct scanner *s, struct bytes text, uint32_t from)
{
    INVARIANT(text.len <= SCAN_TEXT_MAX);
    INVARIANT(from <= text.len);
    *s = (struct scanner){text.ptr, (uint32_t)text.len, from, false};
}

struct scan_token scan_next(struct scanner *s)
{
    uint8_t c;

    if (!skip_blanks(s)) {
        return failed(s, s->at);
    }
    if (s->at == s->size) {
        return (struct scan_token){SCAN_END, s->size, s->size};
    }
    c = s->text[s->at];
    if (is_class(c, C_IDENT_START)) {
        return scan_word(s);
    }
    if (is_class(c, C_DIGIT) || (c == '.' && is_class(peek(s, s->at + 1), C_DIGIT))) {
        return scan_number(s);
    }
    if (c == '\'') {
        return token_if(s, SCAN_STRING, s->at, string_end(s, s->at + 1, STRING_DOUBLED));
    }
    if (c == '"') {
        return token_if(s, SCAN_QUOTED, s->at, quoted_end(s, s->at + 1));
    }
    if (c == '$') {
        return scan_dollar(s);
    }
    if (is_class(c, C_OPERATOR)) {
        return scan_operator(s);
    }
    if (is_class(c, C_SELF)) {
        return scan_self(s);
    }
    return failed(s, s->at); /* `other`: no token of SQL begins like this. */
}

bool scan_is(struct bytes text, struct scan_token t, const char *word)
{
    const size_t n = t.end - t.start;

    if (t.kind != SCAN_WORD) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        const uint8_t c = text.ptr[t.start + i];
        const uint8_t lower = c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;

        if (lower != (uint8_t)word[i]) { /* Also stops at the end of word: c is never 0 here. */
            return false;
        }
    }
    return word[n] == '\0';
}
