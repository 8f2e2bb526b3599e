/*
 * table.c -- two passes: widths, then lines. Nothing is padded behind the last column.
 */
#include "cli/render/table.h"

#include <string.h>

#include "node/base/invariant.h"

#define GAP 2

void table_init(struct table *t, const struct table_column *columns, uint32_t count,
                struct arena *arena)
{
    INVARIANT(count > 0 && count <= TABLE_COLUMNS_MAX);
    *t = (struct table){.columns = columns, .columns_count = count, .arena = arena};
}

static bool grow(struct table *t)
{
    const uint32_t cap = t->rows_cap == 0 ? 16 : t->rows_cap * 2;
    const char **cells = NULL;

    if (t->rows < t->rows_cap) {
        return true;
    }
    if (t->rows >= TABLE_ROWS_MAX) {
        return false;
    }
    cells = ARENA_ARRAY(t->arena, const char *, (size_t)cap * t->columns_count);
    if (cells == NULL) {
        return false;
    }
    if (t->rows > 0) {
        memcpy(cells, t->cells, (size_t)t->rows * t->columns_count * sizeof(cells[0]));
    }
    t->cells = cells;
    t->rows_cap = cap;
    return true;
}

void table_row(struct table *t)
{
    if (t->cut || !grow(t)) {
        t->cut = true;
        return;
    }
    for (uint32_t i = 0; i < t->columns_count; i++) {
        t->cells[(size_t)t->rows * t->columns_count + i] = "";
    }
    t->rows++;
    t->filled = 0;
}

void table_cell(struct table *t, const char *text)
{
    if (t->cut) {
        return;
    }
    INVARIANT(t->rows > 0 && t->filled < t->columns_count);
    t->cells[(size_t)(t->rows - 1) * t->columns_count + t->filled++] = text == NULL ? "" : text;
}

void table_cell_u64(struct table *t, uint64_t v)
{
    table_cell(t, arena_printf(t->arena, "%llu", (unsigned long long)v));
}

/* Characters, not bytes, of UTF-8; wide ones count as one. */
static int width_of(const char *s)
{
    int n = 0;

    for (; *s != '\0'; s++) {
        n += ((unsigned char)*s & 0xC0) != 0x80 ? 1 : 0;
    }
    return n;
}

static int column_width(const struct table *t, uint32_t column)
{
    int widest = width_of(t->columns[column].title);

    for (uint32_t r = 0; r < t->rows; r++) {
        const int w = width_of(t->cells[(size_t)r * t->columns_count + column]);

        widest = w > widest ? w : widest;
    }
    return widest;
}

static void put_text(FILE *out, const char *s)
{
    for (; *s != '\0'; s++) {
        const unsigned char c = (unsigned char)*s;

        (void)fputc(c < 0x20 || c == 0x7F ? '?' : c, out);
    }
}

static void put_cell(const struct table *t, FILE *out, uint32_t column, const char *text, int width)
{
    const int pad = width - width_of(text);
    const bool last = column + 1 == t->columns_count;

    if (t->columns[column].right) {
        (void)fprintf(out, "%*s", pad, "");
    }
    put_text(out, text);
    if (!last) {
        (void)fprintf(out, "%*s", GAP + (t->columns[column].right ? 0 : pad), "");
    }
}

void table_print(const struct table *t, FILE *out)
{
    int widths[TABLE_COLUMNS_MAX] = {0};

    for (uint32_t i = 0; i < t->columns_count; i++) {
        widths[i] = column_width(t, i);
        put_cell(t, out, i, t->columns[i].title, widths[i]);
    }
    (void)fputc('\n', out);
    for (uint32_t r = 0; r < t->rows; r++) {
        for (uint32_t i = 0; i < t->columns_count; i++) {
            put_cell(t, out, i, t->cells[(size_t)r * t->columns_count + i], widths[i]);
        }
        (void)fputc('\n', out);
    }
    if (t->cut) {
        (void)fputs("(more rows were left out; --output json has them all)\n", out);
    }
}
