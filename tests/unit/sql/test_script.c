/*
 * test_script.c -- statements and recorded answers, from the files in exec/.
 *
 * A file is a list of blocks with an empty line between them: comments (#), the statement, a line "----",
 * the answer as db_sql() prints it. The answers were recorded from PostgreSQL 15. Where ours differs on
 * purpose the line is "---- dsql". A block with "---- params a,b" before the answer binds text values.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/test.h"
#include "tests/unit/sql/double.h"

#define FOLDER    "tests/unit/sql/exec/"
#define BLOCK_MAX 65536u

struct block {
    char sql[BLOCK_MAX];
    char want[BLOCK_MAX];
    bool has_answer;
    int line;
};

/* The next block; false at the end of the file. */
static bool read_block(FILE *f, struct block *b, int *line)
{
    char text[8192];
    bool any = false;

    b->sql[0] = b->want[0] = '\0';
    b->has_answer = false;
    b->line = *line + 1;
    while (fgets(text, sizeof(text), f) != NULL) {
        char *into = b->has_answer ? b->want : b->sql;
        const size_t at = strlen(into);

        (*line)++;
        if (text[0] == '\n') {
            if (any) {
                return true;
            }
            b->line = *line + 1;
            continue;
        }
        if (text[0] == '#' && !b->has_answer) {
            continue;
        }
        any = true;
        if (strncmp(text, "----", 4) == 0) {
            b->has_answer = true;
            continue;
        }
        (void)snprintf(into + at, BLOCK_MAX - at, "%s", text);
    }
    return any;
}

static void cut_newline(char *s)
{
    const size_t n = strlen(s);

    if (n > 0 && s[n - 1] == '\n') {
        s[n - 1] = '\0';
    }
}

static void run_script(const char *name, uint64_t rows_max)
{
    char path[256];
    struct block *b = calloc(1, sizeof(*b));
    struct db db;
    FILE *f = NULL;
    int line = 0;

    (void)snprintf(path, sizeof(path), FOLDER "%s.txt", name);
    f = fopen(path, "r");
    if (f == NULL || b == NULL) {
        test_fail(path, 0, "cannot be read");
        free(b);
        return;
    }
    db_init(&db);
    db.rows_max = rows_max;
    while (read_block(f, b, &line)) {
        const char *got = NULL;

        cut_newline(b->sql);
        cut_newline(b->want);
        got = db_sql(&db, b->sql);
        if (b->has_answer && strcmp(got, b->want) != 0) {
            test_fail(path, b->line, "%s\n want %s\n got  %s", b->sql, b->want, got);
        }
    }
    db_deinit(&db);
    (void)fclose(f);
    free(b);
}

TEST(script, types)
{
    run_script("types", 0);
}

TEST(script, expressions)
{
    run_script("expressions", 0);
}

TEST(script, select)
{
    run_script("select", 0);
}

TEST(script, write)
{
    run_script("write", 0);
}

TEST(script, errors)
{
    run_script("errors", 0);
}

/* The same answers when a client fetches two rows at a time. */
TEST(script, select_in_pieces)
{
    run_script("select", 2);
}

TEST(script, write_in_pieces)
{
    run_script("write", 2);
}
