/*
 * scan.h -- text to tokens, exactly as PostgreSQL's scan.l cuts them, and what can be said about a
 * statement from its tokens alone.
 *
 * Three users: parse.c (limits, where statements begin), geo.c (dsql's own clauses), and the
 * statement cache, which wants to know that `... WHERE id = 7` and `... WHERE id = 8` are one
 * statement without parsing either.
 *
 * Units:    offsets are bytes from the start of the text.
 * Runs on:  any stack; nothing here recurses or yields.
 * Source:   PostgreSQL 15, src/backend/parser/scan.l, with standard_conforming_strings on.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/arena.h"
#include "node/base/bytes.h"
#include "node/base/hash.h"
#include "node/base/status.h"

/* Single characters of SQL ( , ( ) [ ] . ; : + - * / % ^ < > = ) are themselves. */
enum scan_kind {
    SCAN_END = 0,
    SCAN_ERROR = 1,  /* Unterminated or malformed: let the parser say it, it has the right words. */
    SCAN_WORD = 256, /* Identifier or keyword, not quoted. */
    SCAN_QUOTED,     /* "Identifier" */
    SCAN_UNICODE_QUOTED,  /* U&"identifier" */
    SCAN_PARAM,           /* $1 */
    SCAN_INTEGER,         /* 42: digits only, of any length */
    SCAN_DECIMAL,         /* 4.2, 1e3 */
    SCAN_STRING,          /* 'text', with its continuations on later lines */
    SCAN_ESCAPE_STRING,   /* E'text' */
    SCAN_DOLLAR_STRING,   /* $tag$text$tag$ */
    SCAN_UNICODE_STRING,  /* U&'text' */
    SCAN_NATIONAL_STRING, /* N'text'. scan.l gives the word nchar and a string: see scan.c. */
    SCAN_BIT_STRING,      /* B'01' */
    SCAN_HEX_STRING,      /* X'1F' */
    SCAN_OPERATOR,        /* Any operator but the following. */
    SCAN_TYPECAST,        /* :: */
    SCAN_DOT_DOT,         /* .. */
    SCAN_COLON_EQUALS,
    SCAN_EQUALS_GREATER,
    SCAN_LESS_EQUALS,
    SCAN_GREATER_EQUALS,
    SCAN_NOT_EQUALS, /* <> and != */
};

struct scan_token {
    uint16_t kind; /* enum scan_kind or a character. */
    uint32_t start;
    uint32_t end;
};

struct scanner {
    const uint8_t *text;
    uint32_t size;
    uint32_t at;
    bool hint; /* A comment that starts with "+" was skipped. */
};

#define SCAN_TEXT_MAX ((size_t)UINT32_MAX / 2)

/* text must stay while the scanner is used; at most SCAN_TEXT_MAX bytes. */
NOYIELD void scan_init(struct scanner *s, struct bytes text, uint32_t from);

/*
 * The next token; SCAN_END for ever at the end. After SCAN_ERROR the scanner is at the end too: its
 * token says where the bad construct starts.
 */
NOYIELD struct scan_token scan_next(struct scanner *s);

/* True when the token is this unquoted word; `word` in lower case. */
NOYIELD bool scan_is(struct bytes text, struct scan_token t, const char *word);

/* What a literal would be if analysis saw it: grammar and types branch on nothing else. */
enum scan_class {
    SCAN_CLASS_INT4,
    SCAN_CLASS_INT8,
    SCAN_CLASS_NUMERIC,
    SCAN_CLASS_STRING, /* unknown */
};

struct scan_literal {
    uint32_t start; /* Quotes included. */
    uint32_t end;
    uint8_t class_; /* enum scan_class */
    bool pinned;    /* Its value is part of the key; it is no slot. */
};

#define SCAN_LITERALS_MAX 1024u              /* More: not abstracted. */
#define SCAN_ABSTRACT_MAX ((size_t)64 << 10) /* Longer text: not abstracted. */

/*
 * One statement of a text. Two statements with the same key have the same tree but for the values of
 * their literals that are not pinned, ordinal by ordinal.
 *
 * abstract is false for anything but plain SELECT, INSERT, UPDATE, DELETE and VALUES, for statements
 * with parameters, hints, escape strings, and wherever the lexer alone cannot know: then only start,
 * end and next are set. False is always a right answer.
 */
struct scan_statement {
    uint32_t start; /* First token. start == end: an empty statement. */
    uint32_t end;   /* End of the last token, without the `;`. */
    uint32_t next;  /* Where to go on; the size of the text when it was the last. */
    bool abstract;
    struct hash128 key;
    struct scan_literal *literals;
    uint32_t literals_count;
};

/* Only start, end and next of the statement that begins at `from`. */
NOYIELD void scan_split(struct bytes text, uint32_t from, struct scan_statement *out);

/*
 * Looks at the statement that begins at `from`.
 *
 * text   At most SCAN_TEXT_MAX bytes.
 * arena  Receives literals; what is needed beside them is given back by the caller's reset.
 *
 * Errors:  STATUS_MEMORY.
 */
NOYIELD NODISCARD struct status scan_statement(struct bytes text, uint32_t from,
                                               struct arena *arena, struct scan_statement *out);

/*
 * The value of a literal of class STRING, quotes and doubling resolved: borrowed from the text when
 * nothing had to be resolved, else in the arena. Numbers come as written.
 * Errors:  STATUS_MEMORY.
 */
NOYIELD NODISCARD struct status scan_literal_value(struct bytes text, struct scan_literal lit,
                                                   struct arena *arena, struct bytes *out);
