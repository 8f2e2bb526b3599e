/*
 * cmd.h -- how a command of dsqlctl is declared, parsed, explained and run.
 *
 * A command is a constant: its words, its flags, its help and the function behind it. The dispatcher
 * finds it, fills its options, checks the number of arguments and answers --help, so that all commands
 * behave alike: exit 0 when it worked, 1 when it did not, 2 when it was called wrongly.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "node/base/arena.h"
#include "node/base/status.h"

#define CLI_VERSION       "0.1.0"
#define CLI_OK            0
#define CLI_FAILED        1
#define CLI_USAGE         2
#define CLI_INTERRUPTED   130
#define CLI_ARGUMENTS_MAX 64u

/* One run of the program. */
struct cli {
    struct arena arena; /* Lives until the program ends. */
    FILE *out;
    FILE *err;
};

enum flag_kind {
    FLAG_TEXT,   /* const char *, NULL when not given. */
    FLAG_NUMBER, /* uint32_t */
    FLAG_SWITCH, /* bool */
    FLAG_OUTPUT, /* enum cli_output */
};

enum cli_output {
    CLI_OUTPUT_TABLE,
    CLI_OUTPUT_JSON,
};

struct flag {
    const char *name; /* With its dashes. */
    enum flag_kind kind;
    size_t offset;     /* Into the command's options. */
    const char *value; /* What follows, in capitals; NULL for a switch. */
    const char *help;
    uint32_t min; /* Of a number. */
    uint32_t max;
};

struct command {
    const char *path; /* All words, as in "demo kill". */
    const char *args; /* As in "<node|zone|region>", "" when there are none. */
    const char *summary;
    const char *details; /* Whole paragraphs behind the flags, or NULL. */
    const struct flag *flags;
    uint32_t flags_count;
    size_t options_size;
    uint32_t args_min;
    uint32_t args_max;
    const struct command *const *subs;
    uint32_t subs_count;
    /* NULL: only a group of commands. `options` is zeroed, then filled from the flags. */
    int (*run)(struct cli *c, const void *options, char **args, uint32_t args_count);
};

/* The commands, a file each. */
extern const struct command cmd_demo;
extern const struct command cmd_node;
extern const struct command cmd_range;
extern const struct command cmd_sql;
extern const struct command cmd_cert;
extern const struct command cmd_version;

/* Runs the words behind the program's name. Returns the exit code. */
NOYIELD int cli_run(int argc, char **argv, FILE *out, FILE *err);

/* Says what went wrong, on c->err, and returns CLI_FAILED. */
NOYIELD int cli_fail(struct cli *c, struct status st);
/* The same for a call that was wrong: returns CLI_USAGE. */
NOYIELD int cli_usage(struct cli *c, const struct command *cmd, const char *message);
/* Writes the help of a command, NULL: of the program. */
NOYIELD void cli_help(FILE *out, const struct command *cmd);

/*
 * Reads flags and arguments of one command into `options` (of cmd->options_size bytes, zeroed).
 *
 * args  Room for CLI_ARGUMENTS_MAX; receives what is no flag, and all that follows "--".
 *
 * Errors:  STATUS_INVALID; the message names the word and the way out.
 */
NOYIELD NODISCARD struct status cli_parse(const struct command *cmd, int argc, char **argv,
                                          struct arena *arena, void *options, char **args,
                                          uint32_t *args_count);
