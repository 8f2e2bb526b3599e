/*
 * test_json_read.c -- JSON text into trees.
 */
#include "cli/client/json_read.h"
#include "tests/lib/test.h"

static const struct json_value *read_text(struct arena *arena, const char *text)
{
    const struct json_value *v = NULL;

    return status_ok(json_read(bytes_str(text), arena, &v)) ? v : NULL;
}

TEST(json_read, keeps_all_kinds_and_their_order)
{
    struct arena arena;
    const struct json_value *v = NULL;
    const struct json_value *item = NULL;

    arena_init(&arena, 0);
    v = read_text(&arena, " {\"s\" : \"x\", \"n\":18446744073709551615,\n\"t\":true,\"f\":false,"
                          "\"z\":null,\"a\":[1, -2.5e+3, {}, []],\"o\":{\"k\":0}} ");
    EXPECT_TRUE(v != NULL);
    EXPECT_STREQ("x", json_get_str(v, "s"));
    EXPECT_TRUE(json_get_u64(v, "n") == UINT64_MAX);
    EXPECT_TRUE(json_get_bool(v, "t"));
    EXPECT_FALSE(json_get_bool(v, "f"));
    EXPECT_EQ(JSON_NULL, json_get(v, "z")->kind);
    EXPECT_EQ(0, json_get_u64(json_get(v, "o"), "k"));
    item = json_items(v, "a");
    EXPECT_EQ(1, json_as_u64(item));
    EXPECT_STREQ("-2.5e+3", item->next->text);
    EXPECT_EQ(0, json_as_u64(item->next)); /* No whole number. */
    EXPECT_EQ(JSON_OBJECT, item->next->next->kind);
    EXPECT_EQ(JSON_ARRAY, item->next->next->next->kind);
    EXPECT_TRUE(item->next->next->next->next == NULL);
    arena_deinit(&arena);
}

TEST(json_read, decodes_escapes)
{
    struct arena arena;
    const struct json_value *v = NULL;

    arena_init(&arena, 0);
    v = read_text(&arena, "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e9\\u20ac\\ud83d\\ude00\"");
    EXPECT_TRUE(v != NULL);
    EXPECT_STREQ("\"\\/\b\f\n\r\tA\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", v->text);
    arena_deinit(&arena);
}

/* Each of these is wrong in one place; none may be read, nor any byte behind its end. */
TEST(json_read, refuses_what_is_no_json)
{
    static const char *const wrong[] = {
        "",
        " ",
        "{",
        "}",
        "[1,]",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "\"a",
        "\"\\",
        "\"\\x\"",
        "\"\n\"",
        "\"\\u12\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "\"\\ude00\"",
        "01x",
        "1.",
        "1e",
        "-",
        "tru",
        "nul",
        "1 2",
        "[1 2]",
        "{\"a\":1,}",
        "\"\\ud83dx\"",
        "+1",
        "'a'",
    };

    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        const struct json_value *v = NULL;
        struct arena arena;
        struct status st = OK;

        arena_init(&arena, 0);
        st = json_read(bytes_str(wrong[i]), &arena, &v);
        arena_deinit(&arena);
        if (st.code != STATUS_INVALID) {
            test_fail(__FILE__, __LINE__, "was read: %s", wrong[i]);
            return;
        }
    }
}

TEST(json_read, limits_the_depth)
{
    struct arena arena;
    char text[2 * JSON_READ_DEPTH_MAX + 1] = {0};

    arena_init(&arena, 0);
    memset(text, '[', JSON_READ_DEPTH_MAX);
    memset(text + JSON_READ_DEPTH_MAX, ']', JSON_READ_DEPTH_MAX);
    EXPECT_TRUE(read_text(&arena, text) != NULL);
    memset(text, '[', sizeof(text) - 1);
    EXPECT_TRUE(read_text(&arena, text) == NULL);
    arena_deinit(&arena);
}

TEST(json_read, questions_to_nothing_are_answered)
{
    struct arena arena;
    const struct json_value *v = NULL;

    arena_init(&arena, 0);
    v = read_text(&arena, "[\"a\",-1,99999999999999999999]");
    EXPECT_TRUE(json_get(NULL, "a") == NULL);
    EXPECT_TRUE(json_get(v, "a") == NULL);
    EXPECT_STREQ("", json_get_str(NULL, "a"));
    EXPECT_EQ(0, json_get_u64(v, "a"));
    EXPECT_FALSE(json_get_bool(NULL, "a"));
    EXPECT_TRUE(json_items(v, "a") == NULL);
    EXPECT_EQ(0, json_as_u64(v->first));
    EXPECT_EQ(0, json_as_u64(v->first->next));
    EXPECT_EQ(0, json_as_u64(v->first->next->next));
    arena_deinit(&arena);
}
