/*
 * scan_words.h -- what the token rules have to know about a word: one look-up gives all.
 */
#pragma once

#include <stdint.h>

#include "node/base/bytes.h"
#include "node/sql/parse/scan.h"

enum scan_word_flag {
    SCAN_WORD_RESERVED = 1 << 0, /* Cannot be a name, so a sign behind it is unary. */
    SCAN_WORD_OPENS = 1 << 1,    /* A literal behind it is an expression of its own. */
    SCAN_WORD_UNUSUAL = 1 << 2,  /* Takes a statement out of abstraction. */
    SCAN_WORD_TARGETS = 1 << 3,  /* Begins a list of result columns. */
    SCAN_WORD_PLAIN = 1 << 4,    /* Begins a clause without rules for literals. */
    SCAN_WORD_PINS = 1 << 5,     /* Begins a clause whose literals are pinned. */
    SCAN_WORD_MATCHES = 1 << 6,  /* Its clause matches expressions of the select list. */
    SCAN_WORD_MODIFIED = 1 << 7, /* Parentheses behind it hold type modifiers. */
    SCAN_WORD_OURS = 1 << 15,    /* Stands in every statement or clause of dsql's own. */
    /* Single words. */
    SCAN_WORD_ATOMIC = 1 << 16,
    SCAN_WORD_BEGIN = 1 << 17,
    SCAN_WORD_CASE = 1 << 18,
    SCAN_WORD_END = 1 << 19,
    SCAN_WORD_AS = 1 << 8,
    SCAN_WORD_DISTINCT = 1 << 9,
    SCAN_WORD_EXTRACT = 1 << 10,
    SCAN_WORD_FROM = 1 << 11,
    SCAN_WORD_INTO = 1 << 12,
    SCAN_WORD_TIME = 1 << 13,
    SCAN_WORD_WITH = 1 << 14,
};

/* The flags of an unquoted word; 0 for any other token and for words without a meaning here. */
NOYIELD uint32_t scan_word_flags(struct bytes text, struct scan_token t);
