/*
 * test_parse.c -- words, flags, help and exit codes of dsqlctl.
 */
#include <stdio.h>
#include <stdlib.h>

#include "cli/cmd/cmd.h"
#include "node/base/invariant.h"
#include "tests/lib/test.h"

struct options {
    const char *text;
    uint32_t number;
    bool on;
    enum cli_output output;
};

static const struct flag flags[] = {
    {.name = "--text", .kind = FLAG_TEXT, .offset = offsetof(struct options, text), .value = "T"},
    {"--number", FLAG_NUMBER, offsetof(struct options, number), "N", "a number", 2, 5},
    {.name = "--on", .kind = FLAG_SWITCH, .offset = offsetof(struct options, on)},
    {.name = "--output",
     .kind = FLAG_OUTPUT,
     .offset = offsetof(struct options, output),
     .value = "table|json"},
};

static const struct command cmd = {
    .path = "do it",
    .args = "<a> [<b>]",
    .flags = flags,
    .flags_count = (uint32_t)ARRAY_COUNT(flags),
    .options_size = sizeof(struct options),
    .args_min = 1,
    .args_max = 2,
};

struct rig {
    struct arena arena;
    struct options o;
    char *args[CLI_ARGUMENTS_MAX];
    uint32_t count;
    struct status st;
};

/* Splits at blanks: no flag of these tests has one in its value. */
static void parse(struct rig *r, const char *line)
{
    char *words[CLI_ARGUMENTS_MAX + 8] = {NULL};
    int n = 0;

    *r = (struct rig){.count = 0};
    arena_init(&r->arena, 0);
    for (const char *at = line; *at != '\0';) {
        const size_t len = strcspn(at, " ");

        words[n] = arena_strndup(&r->arena, at, len);
        INVARIANT(words[n++] != NULL);
        at += len + (at[len] == ' ' ? 1 : 0);
    }
    r->st = cli_parse(&cmd, n, words, &r->arena, &r->o, r->args, &r->count);
}

#define EXPECT_REFUSED(line, message)                \
    do {                                             \
        struct rig r_;                               \
        parse(&r_, (line));                          \
        EXPECT_EQ(STATUS_INVALID, r_.st.code);       \
        EXPECT_STREQ((message), status_text(r_.st)); \
        arena_deinit(&r_.arena);                     \
    } while (0)

TEST(parse, takes_flags_in_both_forms_and_arguments_between_them)
{
    struct rig r;

    parse(&r, "x --text=a=b --number 5 --on y --output json");
    EXPECT_OK(r.st);
    EXPECT_STREQ("a=b", r.o.text);
    EXPECT_EQ(5, r.o.number);
    EXPECT_TRUE(r.o.on);
    EXPECT_EQ(CLI_OUTPUT_JSON, r.o.output);
    EXPECT_EQ(2, r.count);
    EXPECT_STREQ("x", r.args[0]);
    EXPECT_STREQ("y", r.args[1]);
    arena_deinit(&r.arena);
}

TEST(parse, takes_everything_behind_two_dashes_and_a_single_dash_as_arguments)
{
    struct rig r;

    parse(&r, "-- --on -");
    EXPECT_OK(r.st);
    EXPECT_FALSE(r.o.on);
    EXPECT_STREQ("--on", r.args[0]);
    EXPECT_STREQ("-", r.args[1]);
    arena_deinit(&r.arena);
}

TEST(parse, refuses_by_naming_the_word)
{
    EXPECT_REFUSED("x --numbers 3", "unknown flag \"--numbers\"");
    EXPECT_REFUSED("x -n", "unknown flag \"-n\"");
    EXPECT_REFUSED("x --text", "--text wants a value: T");
    EXPECT_REFUSED("x --text=", "--text wants a value that is not empty");
    EXPECT_REFUSED("x --on=1", "--on takes no value");
    EXPECT_REFUSED("x --output xml", "--output wants table or json, not \"xml\"");
    EXPECT_REFUSED("", "\"do it\" wants <a> [<b>]");
    EXPECT_REFUSED("x y z", "\"z\" is one argument too many");
}

/* The edges of the range are in; signs, blanks, other bases and overflow are not. */
TEST(parse, reads_numbers_strictly)
{
    static const char *const wrong[] = {"1",  "6",   "-2",         "+2",
                                        "2x", "0x2", "4294967298", "99999999999999999999999"};
    struct rig r;

    for (uint32_t i = 2; i <= 5; i += 3) {
        char line[32];

        (void)snprintf(line, sizeof(line), "x --number %u", i);
        parse(&r, line);
        EXPECT_OK(r.st);
        EXPECT_EQ(i, r.o.number);
        arena_deinit(&r.arena);
    }
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        char line[64];
        char message[128];

        (void)snprintf(line, sizeof(line), "x --number %s", wrong[i]);
        (void)snprintf(message, sizeof(message), "--number wants a number from 2 to 5, not \"%s\"",
                       wrong[i]);
        EXPECT_REFUSED(line, message);
    }
}

/* ---- the whole program --------------------------------------------------------------------------- */

struct run {
    char *out;
    char *err;
    size_t out_size;
    size_t err_size;
    int code;
};

static void run(struct run *r, int argc, const char *const *argv)
{
    FILE *out = open_memstream(&r->out, &r->out_size);
    FILE *err = open_memstream(&r->err, &r->err_size);

    INVARIANT(out != NULL && err != NULL);
    r->code = cli_run(argc, (char **)argv, out, err);
    (void)fclose(out);
    (void)fclose(err);
}

static void run_deinit(struct run *r)
{
    free(r->out);
    free(r->err);
}

#define RUN(r, ...)                                                         \
    run((r), (int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)), \
        (const char *[]){__VA_ARGS__})

TEST(cli, answers_help_everywhere_even_behind_wrong_words)
{
    struct run r;

    RUN(&r, "demo", "kill", "--wrong", "--help");
    EXPECT_EQ(CLI_OK, r.code);
    EXPECT_TRUE(strstr(r.out, "usage: dsqlctl demo kill <node|zone|region> [flags]\n") != NULL);
    EXPECT_STREQ("", r.err);
    run_deinit(&r);
    RUN(&r, "help", "node", "drain");
    EXPECT_EQ(CLI_OK, r.code);
    EXPECT_TRUE(strstr(r.out, "usage: dsqlctl node drain <node> [flags]\n") != NULL);
    run_deinit(&r);
}

TEST(cli, ends_with_2_and_the_way_out_when_called_wrongly)
{
    struct run r;

    RUN(&r, "frobnicate");
    EXPECT_EQ(CLI_USAGE, r.code);
    EXPECT_STREQ("dsqlctl: unknown command \"frobnicate\"\nsee: dsqlctl --help\n", r.err);
    EXPECT_STREQ("", r.out);
    run_deinit(&r);
    RUN(&r, "demo", "frobnicate");
    EXPECT_EQ(CLI_USAGE, r.code);
    EXPECT_STREQ("dsqlctl: unknown command \"frobnicate\"\nsee: dsqlctl demo --help\n", r.err);
    run_deinit(&r);
    RUN(&r, "demo", "partition", "1");
    EXPECT_EQ(CLI_USAGE, r.code);
    EXPECT_STREQ("dsqlctl: \"demo partition\" wants <a> <b>\nsee: dsqlctl demo partition --help\n",
                 r.err);
    run_deinit(&r);
    RUN(&r, "node");
    EXPECT_EQ(CLI_USAGE, r.code);
    run_deinit(&r);
}

TEST(cli, ends_with_1_when_there_is_nothing_to_work_on)
{
    struct run r;

    RUN(&r, "demo", "status", "--dir", "/nonexistent/demo");
    EXPECT_EQ(CLI_FAILED, r.code);
    EXPECT_STREQ("dsqlctl: there is no demo cluster in \"/nonexistent/demo\": start one with "
                 "dsqlctl demo, or say where with --dir DIR\n",
                 r.err);
    run_deinit(&r);
}

TEST(cli, prints_its_version)
{
    struct run r;

    RUN(&r, "version");
    EXPECT_EQ(CLI_OK, r.code);
    EXPECT_STREQ("dsqlctl " CLI_VERSION "\n", r.out);
    run_deinit(&r);
    RUN(&r, "--version");
    EXPECT_STREQ("dsqlctl " CLI_VERSION "\n", r.out);
    run_deinit(&r);
}
