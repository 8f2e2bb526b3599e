/* Messages as bytes: the pure parts. */
#include "node/pgwire/wire_msg.h"
#include "node/pgwire/wire_out.h"
#include "tests/lib/test.h"

TEST(wire_msg, bind_counts_are_compared_with_what_is_there)
{
    static const char whole[] = "p\0s\0\0\1\0\1\0\2\0\0\0\1x\xff\xff\xff\xff\0\1\0\1";
    const struct bytes body = bytes_of(whole, sizeof(whole) - 1);
    struct session_bind b;
    struct arena arena;

    arena_init(&arena, 0);
    EXPECT_OK(wire_bind_parse(body, &arena, &b));
    EXPECT_STREQ("p", b.portal);
    EXPECT_STREQ("s", b.statement);
    EXPECT_EQ(2, b.values_count);
    EXPECT_BYTES_EQ(BYTES_LIT("x"), b.values[0]);
    EXPECT_TRUE(b.values[1].ptr == NULL);
    EXPECT_EQ(1, b.result_formats[0]);
    for (size_t n = 0; n < body.len; n++) {
        EXPECT_CODE(STATUS_INVALID, wire_bind_parse(bytes_of(whole, n), &arena, &b));
    }
    arena_deinit(&arena);
}

/* An empty value is not NULL. */
TEST(wire_msg, empty_value_is_not_null)
{
    static const char body[] = "\0\0\0\0\0\1\0\0\0\0\0\0";
    struct session_bind b;
    struct arena arena;

    arena_init(&arena, 0);
    EXPECT_OK(wire_bind_parse(bytes_of(body, sizeof(body) - 1), &arena, &b));
    EXPECT_TRUE(b.values[0].ptr != NULL);
    EXPECT_EQ(0, b.values[0].len);
    arena_deinit(&arena);
}

TEST(wire_msg, unknown_format_code_is_refused)
{
    static const char body[] = "\0\0\0\1\0\2\0\0\0\0";
    struct session_bind b;
    struct arena arena;

    arena_init(&arena, 0);
    EXPECT_CODE(STATUS_INVALID, wire_bind_parse(bytes_of(body, sizeof(body) - 1), &arena, &b));
    arena_deinit(&arena);
}

TEST(wire_msg, execute_takes_negative_limits_as_all)
{
    const char *portal = NULL;
    uint64_t rows = 99;

    EXPECT_OK(wire_execute_parse(bytes_of("p\0\xff\xff\xff\xff", 6), &portal, &rows));
    EXPECT_EQ(0, rows);
    EXPECT_OK(wire_execute_parse(bytes_of("p\0\0\0\1\0", 6), &portal, &rows));
    EXPECT_EQ(256, rows);
}

TEST(wire_msg, options_are_split_like_a_command_line)
{
    const char *rest = "-c a=b\\ c  --d-e=f -cg=h x -c";
    const char *name = NULL;
    const char *value = NULL;
    struct arena arena;

    arena_init(&arena, 0);
    EXPECT_TRUE(wire_options_next(&rest, &arena, &name, &value));
    EXPECT_STREQ("a", name);
    EXPECT_STREQ("b c", value);
    EXPECT_TRUE(wire_options_next(&rest, &arena, &name, &value));
    EXPECT_STREQ("d_e", name);
    EXPECT_STREQ("f", value);
    EXPECT_TRUE(wire_options_next(&rest, &arena, &name, &value));
    EXPECT_STREQ("g", name);
    EXPECT_TRUE(wire_options_next(&rest, &arena, &name, &value));
    EXPECT_STREQ("", name);
    EXPECT_TRUE(wire_options_next(&rest, &arena, &name, &value));
    EXPECT_STREQ("", name);
    EXPECT_FALSE(wire_options_next(&rest, &arena, &name, &value));
    arena_deinit(&arena);
}

TEST(wire_out, error_has_all_fields_it_was_given)
{
    static const char want[] = "E\0\0\0\x44SERROR\0VERROR\0C23505\0Mdup\0DKey\0Hhint\0P3\0"
                               "sx\0tT\0cC\0dD\0nN\0RF\0\0";
    const struct sql_error err = {
        .sqlstate = "23505",
        .message = "dup",
        .detail = "Key",
        .hint = "hint",
        .schema = "x",
        .table = "T",
        .column = "C",
        .type = "D",
        .constraint = "N",
        .routine = "F",
        .position = 3,
    };
    struct wire_out o;

    wire_out_init(&o);
    wire_out_error(&o, &err, BYTES_LIT("\xc3\xa4z?"));
    EXPECT_EQ(sizeof(want) - 1, o.buf.len);
    EXPECT_BYTES_EQ(bytes_of(want + 5, sizeof(want) - 6), bytes_of(o.buf.ptr + 5, o.buf.len - 5));
    wire_out_deinit(&o);
}

/* A message that does not fit leaves no half of itself. */
TEST(wire_out, message_is_whole_or_absent)
{
    struct wire_out o;
    char tag[2000];

    memset(tag, 'x', sizeof(tag));
    tag[sizeof(tag) - 1] = 0;
    wire_out_init(&o);
    o.buf.limit = 1000;
    wire_out_command(&o, "SELECT 1");
    EXPECT_EQ(14, o.buf.len);
    wire_out_command(&o, tag);
    EXPECT_TRUE(o.failed);
    EXPECT_EQ(14, o.buf.len);
    wire_out_deinit(&o);
}
