/* Statuses and SQLSTATEs: none is missing, none is made up. */
#include <ctype.h>

#include "node/sql/session/error.h"
#include "tests/lib/test.h"

/* A status without its line in sqlstate.def would reach clients with an empty code. */
TEST(error, every_status_has_an_sqlstate)
{
    struct arena arena;

    arena_init(&arena, 0);
    for (int code = 0; code < (int)STATUS_CODE_COUNT; code++) {
        struct sql_error err;

        sql_error_from_status(&err, &arena, FAIL((enum status_code)code, "why"));
        EXPECT_EQ(5, strlen(err.sqlstate));
        for (int i = 0; i < 5; i++) {
            EXPECT_TRUE(isdigit((unsigned char)err.sqlstate[i]) ||
                        isupper((unsigned char)err.sqlstate[i]));
        }
        EXPECT_TRUE(err.message != NULL && err.message[0] != 0);
        EXPECT_EQ(-1, err.position);
    }
    arena_deinit(&arena);
}

TEST(error, retries_say_so)
{
    struct sql_error err;
    struct arena arena;

    arena_init(&arena, 0);
    sql_error_from_status(&err, &arena, FAIL(STATUS_TXN_RETRY, "row changed"));
    EXPECT_STREQ("40001", err.sqlstate);
    EXPECT_STREQ("row changed", err.detail);
    EXPECT_STREQ("The transaction might succeed if retried.", err.hint);
    sql_error_from_status(&err, &arena, FAIL(STATUS_AMBIGUOUS, "no answer"));
    EXPECT_STREQ("40003", err.sqlstate);
    sql_error_from_status(&err, &arena, FAIL(STATUS_UNSUPPORTED, "this"));
    EXPECT_STREQ("0A000", err.sqlstate);
    arena_deinit(&arena);
}

/* An error about memory must not need any. */
TEST(error, message_survives_an_empty_arena)
{
    struct sql_error err;
    struct arena arena;

    arena_init(&arena, 1);
    EXPECT_CODE(STATUS_SQL_ERROR, sql_error_set(&err, &arena, "53200", 3, "%s", "long text"));
    EXPECT_STREQ("out of memory", err.message);
    EXPECT_STREQ("53200", err.sqlstate);
    EXPECT_EQ(3, err.position);
    arena_deinit(&arena);
}

TEST(error, unsupported_names_the_feature)
{
    struct sql_error err;
    struct arena arena;

    arena_init(&arena, 0);
    EXPECT_CODE(STATUS_SQL_ERROR, sql_error_unsupported(&err, &arena, 7, "time travel"));
    EXPECT_STREQ("0A000", err.sqlstate);
    EXPECT_STREQ("time travel is not supported yet", err.message);
    arena_deinit(&arena);
}
