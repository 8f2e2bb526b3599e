/*
 * parse_corpus.h -- the statements of parse/corpus.sql, for tests that walk them all. Statements are
 * separated by blank lines.
 */
#pragma once

#include <stdlib.h>

#include "tests/lib/test.h"

/* The whole corpus, owned by the caller (free); NULL when it cannot be read. */
static inline char *corpus_read(void)
{
    FILE *f = fopen("tests/unit/sql/parse/corpus.sql", "rb");
    char *text = calloc(1, 1 << 16);
    size_t n;

    if (f == NULL || text == NULL) {
        free(text);
        return NULL;
    }
    n = fread(text, 1, (1 << 16) - 1, f);
    (void)fclose(f);
    text[n] = '\0';
    return text;
}

/* Cuts the next statement off the front; NULL at the end. Writes a NUL behind it. */
static inline char *corpus_next(char **rest)
{
    char *stmt = *rest;
    char *end;

    if (*stmt == '\0') {
        return NULL;
    }
    end = strstr(stmt, "\n\n");
    if (end == NULL) {
        *rest = stmt + strlen(stmt);
        return stmt;
    }
    *end = '\0';
    *rest = end + 2;
    return stmt;
}
