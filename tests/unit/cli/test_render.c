/*
 * test_render.c -- tables.
 */
#include <stdlib.h>

#include "cli/render/table.h"
#include "node/base/invariant.h"
#include "tests/lib/test.h"

static const struct table_column columns[] = {{"n", true}, {"name", false}, {"x", false}};

struct printed {
    char *text;
    size_t size;
};

static void print(struct printed *p, const struct table *t)
{
    FILE *f = open_memstream(&p->text, &p->size);

    INVARIANT(f != NULL);
    table_print(t, f);
    (void)fclose(f);
}

TEST(table, columns_are_as_wide_as_their_widest_cell)
{
    struct arena arena;
    struct printed p;
    struct table t;

    arena_init(&arena, 0);
    table_init(&t, columns, 3, &arena);
    table_row(&t);
    table_cell_u64(&t, 7);
    table_cell(&t, "long name");
    table_cell(&t, "a");
    table_row(&t);
    table_cell_u64(&t, 1234);
    table_cell(&t, "\xc3\xa9"); /* One character of two bytes. */
    table_row(&t);              /* Cells that are not set are empty. */
    print(&p, &t);
    EXPECT_STREQ("   n  name       x\n"
                 "   7  long name  a\n"
                 "1234  \xc3\xa9          \n"
                 "                 \n",
                 p.text);
    free(p.text);
    arena_deinit(&arena);
}

/* A node's name comes from a configuration file: it must not move the cursor. */
TEST(table, control_characters_do_not_reach_the_terminal)
{
    struct arena arena;
    struct printed p;
    struct table t;

    arena_init(&arena, 0);
    table_init(&t, columns, 1, &arena);
    table_row(&t);
    table_cell(&t, "a\x1b[2Jb\n");
    print(&p, &t);
    EXPECT_TRUE(strstr(p.text, "a?[2Jb?\n") != NULL);
    free(p.text);
    arena_deinit(&arena);
}

TEST(table, says_when_rows_were_left_out)
{
    struct arena arena;
    struct printed p;
    struct table t;

    arena_init(&arena, 0);
    table_init(&t, columns, 1, &arena);
    for (uint32_t i = 0; i <= TABLE_ROWS_MAX; i++) {
        EXPECT_EQ(i, t.rows);
        table_row(&t);
        table_cell_u64(&t, i);
    }
    EXPECT_EQ(TABLE_ROWS_MAX, t.rows);
    print(&p, &t);
    EXPECT_TRUE(strstr(p.text, "4095\n(more rows were left out") != NULL);
    free(p.text);
    arena_deinit(&arena);
}
