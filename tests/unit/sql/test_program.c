/*
 * test_program.c -- the two interpreters of programs are each other's naive twin.
 *
 * Random expressions over the columns of generated rows run once through batches (columns) and once row
 * by row, by asking for each row alone: results and errors must agree.
 */
#include "node/base/hash.h"
#include "tests/lib/test.h"
#include "tests/unit/sql/double.h"

#define ROWS        200
#define EXPRESSIONS 150

/* An integer or boolean expression over g (1..ROWS), at most `depth` deep. */
static const char *make(struct rng *r, struct arena *a, int depth, bool boolean)
{
    static const char *const int_ops[] = {"+", "-", "*", "%", "/"};
    static const char *const cmp_ops[] = {"=", "<>", "<", ">=", "is distinct from"};
    const uint64_t pick = rng_below(r, 8);

    if (depth == 0) {
        return boolean     ? arena_printf(a, "(g %% %d = 0)", (int)rng_between(r, 2, 5))
               : pick < 4  ? "g"
               : pick == 4 ? "nullif(g % 5, 2)"
                           : arena_printf(a, "%d", (int)rng_between(r, 0, 12));
    }
    depth--;
    if (!boolean) {
        switch (pick) {
        case 0:
            return arena_printf(a, "case when %s then %s when %s then %s end",
                                make(r, a, depth, true), make(r, a, depth, false),
                                make(r, a, depth, true), make(r, a, depth, false));
        case 1:
            return arena_printf(a, "coalesce(%s, %s)", make(r, a, depth, false),
                                make(r, a, depth, false));
        case 2:
            return arena_printf(a, "greatest(%s, %s, 3)", make(r, a, depth, false),
                                make(r, a, depth, false));
        case 3:
            return arena_printf(a, "nullif(%s, %s)", make(r, a, depth, false),
                                make(r, a, depth, false));
        case 4:
            return arena_printf(a, "length(repeat('ab', (%s) %% 7))", make(r, a, depth, false));
        default:
            return arena_printf(a, "(%s %s %s)", make(r, a, depth, false),
                                int_ops[rng_below(r, ARRAY_COUNT(int_ops))],
                                make(r, a, depth, false));
        }
    }
    switch (pick) {
    case 0:
    case 1:
        return arena_printf(a, "(%s and %s)", make(r, a, depth, true), make(r, a, depth, true));
    case 2:
    case 3:
        return arena_printf(a, "(%s or %s)", make(r, a, depth, true), make(r, a, depth, true));
    case 4:
        return arena_printf(a, "(not %s)", make(r, a, depth, true));
    case 5:
        return arena_printf(a, "(%s in (%s, 3, null))", make(r, a, depth, false),
                            make(r, a, depth, false));
    default:
        return arena_printf(a, "(%s %s %s)", make(r, a, depth, false),
                            cmp_ops[rng_below(r, ARRAY_COUNT(cmp_ops))], make(r, a, depth, false));
    }
}

/* The answers of single rows, one after the other, up to the first error. */
static const char *row_by_row(struct db *db, const char *expr)
{
    const char *out = "";
    uint32_t rows = 0;

    for (int g = 1; g <= ROWS; g++) {
        const char *one = db_sql(
            db, arena_printf(&db->arena, "select %s from generate_series(%d, %d) g", expr, g, g));
        const char *end = strstr(one, "SELECT 1");

        if (end == NULL) {
            return one;
        }
        out = arena_printf(&db->arena, "%s%.*s", out, (int)(end - one), one);
        rows++;
    }
    return arena_printf(&db->arena, "%sSELECT %u", out, rows);
}

TEST(program, columns_and_rows_agree)
{
    struct rng r;

    rng_seed(&r, 20240101);
    for (int i = 0; i < EXPRESSIONS; i++) {
        struct db db;
        const char *expr = NULL;
        const char *batch = NULL;

        db_init(&db);
        expr = make(&r, &db.arena, (int)rng_between(&r, 1, 4), rng_below(&r, 2) == 0);
        batch = db_sql(
            &db, arena_printf(&db.arena, "select %s from generate_series(1, %d) g", expr, ROWS));
        if (strncmp(batch, "ERROR", 5) == 0) {
            /* A batch may meet the error of a later row first; that there is one must agree. */
            const char *rows = row_by_row(&db, expr);

            EXPECT_TRUE(strncmp(rows, "ERROR", 5) == 0);
        } else {
            EXPECT_STREQ(row_by_row(&db, expr), batch);
        }
        db_deinit(&db);
    }
}

/* Filters see the same rows, whatever came before them. */
TEST(program, filters_narrow_lanes)
{
    struct db db;

    db_init(&db);
    EXPECT_STREQ("334\nSELECT 1",
                 db_sql(&db,
                        "select count(*) from (select g from generate_series(1, 2000) g where g "
                        "% 2 = 0) s where g % 3 = 0 and 10 / g < 10 or g = 4"));
    EXPECT_STREQ("9|1\nSELECT 1",
                 db_sql(&db,
                        "select g * g, case g when 3 then 1 else 1 / (g - g) end from (select g "
                        "from generate_series(1, 100) g where g = 3) s"));
    db_deinit(&db);
}
