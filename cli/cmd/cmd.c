/*
 * cmd.c -- the dispatcher: words to a command, flags to its options, errors to messages.
 *
 * A command may have commands below it and still run by itself ("demo" starts, "demo stop" stops): the
 * first word that is no flag decides. A flag is written "--name value" or "--name=value"; "--" ends
 * them. --help is found before anything is checked, because who asks for it has often typed the rest
 * wrongly.
 */
#include "cli/cmd/cmd.h"

#include <stdlib.h>
#include <string.h>

#define HELP_COLUMN 34

static const struct command *const commands[] = {
    &cmd_demo, &cmd_sql, &cmd_node, &cmd_range, &cmd_cert, &cmd_version,
};

static const struct command program = {
    .path = "",
    .args = "",
    .summary = "The tool for people who run dsql.",
    .details = "Exit codes: 0 it worked, 1 it did not, 2 it was called wrongly.",
    .subs = commands,
    .subs_count = (uint32_t)ARRAY_COUNT(commands),
};

/* ---- help ---------------------------------------------------------------------------------------- */

static void line(FILE *out, const char *left, const char *extra, const char *right)
{
    const int used = fprintf(out, "  %s%s%s", left, extra[0] == '\0' ? "" : " ", extra);

    (void)fprintf(out, "%*s%s\n", used < HELP_COLUMN ? HELP_COLUMN - used : 1, "", right);
}

static void usage_line(FILE *out, const struct command *cmd)
{
    const char *gap = cmd->path[0] == '\0' ? "" : " ";
    const char *lead = "usage:";

    if (cmd->run != NULL) {
        (void)fprintf(out, "usage: dsqlctl%s%s%s%s%s\n", gap, cmd->path,
                      cmd->args[0] == '\0' ? "" : " ", cmd->args,
                      cmd->flags_count == 0 ? "" : " [flags]");
        lead = "      ";
    }
    if (cmd->subs_count > 0) {
        (void)fprintf(out, "%s dsqlctl%s%s <command>\n", lead, gap, cmd->path);
    }
}

void cli_help(FILE *out, const struct command *cmd)
{
    const struct command *of = cmd == NULL ? &program : cmd;

    usage_line(out, of);
    (void)fprintf(out, "\n%s\n", of->summary);
    if (of->subs_count > 0) {
        (void)fputs("\ncommands:\n", out);
    }
    for (uint32_t i = 0; i < of->subs_count; i++) {
        line(out, of->subs[i]->path, of->subs[i]->args, of->subs[i]->summary);
    }
    (void)fputs("\nflags:\n", out);
    for (uint32_t i = 0; i < of->flags_count; i++) {
        line(out, of->flags[i].name, of->flags[i].value == NULL ? "" : of->flags[i].value,
             of->flags[i].help);
    }
    line(out, "--help", "", "this text");
    if (of->details != NULL) {
        (void)fprintf(out, "\n%s\n", of->details);
    }
}

/* ---- messages ------------------------------------------------------------------------------------ */

int cli_fail(struct cli *c, struct status st)
{
    (void)fprintf(c->err, "dsqlctl: %s\n", status_text(st));
    return CLI_FAILED;
}

int cli_usage(struct cli *c, const struct command *cmd, const char *message)
{
    const bool top = cmd == NULL || cmd->path[0] == '\0';

    (void)fprintf(c->err, "dsqlctl: %s\nsee: dsqlctl%s%s --help\n", message, top ? "" : " ",
                  top ? "" : cmd->path);
    return CLI_USAGE;
}

/* ---- finding and running ------------------------------------------------------------------------- */

static const char *last_word(const struct command *cmd)
{
    const char *space = strrchr(cmd->path, ' ');

    return space == NULL ? cmd->path : space + 1;
}

static const struct command *find(const struct command *in, const char *word)
{
    for (uint32_t i = 0; i < in->subs_count; i++) {
        if (strcmp(word, last_word(in->subs[i])) == 0) {
            return in->subs[i];
        }
    }
    return NULL;
}

static bool wants_help(int argc, char **argv)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            return true;
        }
    }
    return false;
}

static int run_command(struct cli *c, const struct command *cmd, int argc, char **argv)
{
    char *args[CLI_ARGUMENTS_MAX] = {NULL};
    void *options = arena_calloc(&c->arena, 1, cmd->options_size + 1);
    uint32_t count = 0;
    struct status st = OK;

    if (options == NULL) {
        return cli_fail(c, FAIL(STATUS_MEMORY, "out of memory"));
    }
    st = cli_parse(cmd, argc, argv, &c->arena, options, args, &count);
    if (!status_ok(st)) {
        return cli_usage(c, cmd, status_text(st));
    }
    return cmd->run(c, options, args, count);
}

static int unknown(struct cli *c, const struct command *in, const char *word)
{
    return cli_usage(
        c, in,
        arena_printf(&c->arena, "unknown %s \"%s\"", word[0] == '-' ? "flag" : "command", word));
}

static int dispatch(struct cli *c, int argc, char **argv)
{
    const struct command *cmd = &program;

    if (argc > 0 && strcmp(argv[0], "help") == 0) {
        argc--;
        argv++;
        for (; argc > 0 && find(cmd, argv[0]) != NULL; argc--, argv++) {
            cmd = find(cmd, argv[0]);
        }
        cli_help(c->out, cmd);
        return CLI_OK;
    }
    if (argc > 0 && strcmp(argv[0], "--version") == 0) {
        cmd = &cmd_version;
        argc--;
        argv++;
    }
    for (; argc > 0 && find(cmd, argv[0]) != NULL; argc--, argv++) {
        cmd = find(cmd, argv[0]);
    }
    if (wants_help(argc, argv)) {
        cli_help(c->out, cmd);
        return CLI_OK;
    }
    if (argc > 0 && cmd->subs_count > 0 && (cmd->run == NULL || argv[0][0] != '-')) {
        return unknown(c, cmd, argv[0]);
    }
    if (cmd->run == NULL) {
        cli_help(c->err, cmd);
        return CLI_USAGE;
    }
    return run_command(c, cmd, argc, argv);
}

int cli_run(int argc, char **argv, FILE *out, FILE *err)
{
    struct cli c = {.out = out, .err = err};
    int code = CLI_OK;

    arena_init(&c.arena, 0);
    code = dispatch(&c, argc, argv);
    if (fflush(out) != 0 && code == CLI_OK) {
        code = cli_fail(&c, FAIL(STATUS_IO, "could not write the answer"));
    }
    arena_deinit(&c.arena);
    return code;
}
