/*
 * parse.c -- flags and arguments of one command, from its table.
 *
 * Every refusal names the word that was wrong and what is expected there.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cmd/cmd.h"

static struct status set_number(const struct flag *f, const char *value, struct arena *arena,
                                void *options)
{
    char *end = NULL;
    unsigned long v = 0;
    uint32_t v32 = 0;

    errno = 0;
    v = strtoul(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end != '\0' || errno != 0 || v < f->min ||
        v > f->max) {
        return FAIL(STATUS_INVALID,
                    arena_printf(arena, "%s wants a number from %u to %u, not \"%s\"", f->name,
                                 f->min, f->max, value));
    }
    v32 = (uint32_t)v;
    memcpy((uint8_t *)options + f->offset, &v32, sizeof(v32));
    return OK;
}

static struct status set_output(const struct flag *f, const char *value, struct arena *arena,
                                void *options)
{
    enum cli_output o = CLI_OUTPUT_TABLE;

    if (strcmp(value, "json") == 0) {
        o = CLI_OUTPUT_JSON;
    } else if (strcmp(value, "table") != 0) {
        return FAIL(STATUS_INVALID,
                    arena_printf(arena, "%s wants table or json, not \"%s\"", f->name, value));
    }
    memcpy((uint8_t *)options + f->offset, &o, sizeof(o));
    return OK;
}

static struct status set(const struct flag *f, const char *value, struct arena *arena,
                         void *options)
{
    const bool yes = true;

    switch (f->kind) {
    case FLAG_TEXT:
        if (value[0] == '\0') {
            return FAIL(STATUS_INVALID,
                        arena_printf(arena, "%s wants a value that is not empty", f->name));
        }
        memcpy((uint8_t *)options + f->offset, &value, sizeof(value));
        return OK;
    case FLAG_NUMBER:
        return set_number(f, value, arena, options);
    case FLAG_SWITCH:
        memcpy((uint8_t *)options + f->offset, &yes, sizeof(yes));
        return OK;
    case FLAG_OUTPUT:
        return set_output(f, value, arena, options);
    }
    return OK;
}

static const struct flag *find(const struct command *cmd, const char *word, const char **value_out)
{
    for (uint32_t i = 0; i < cmd->flags_count; i++) {
        const size_t n = strlen(cmd->flags[i].name);

        if (strncmp(word, cmd->flags[i].name, n) == 0 && (word[n] == '\0' || word[n] == '=')) {
            *value_out = word[n] == '=' ? word + n + 1 : NULL;
            return &cmd->flags[i];
        }
    }
    return NULL;
}

/* argv[0] is a flag; *used arguments were consumed. */
static struct status parse_flag(const struct command *cmd, int argc, char **argv,
                                struct arena *arena, void *options, int *used)
{
    const char *value = NULL;
    const struct flag *f = find(cmd, argv[0], &value);

    *used = 1;
    if (f == NULL) {
        return FAIL(STATUS_INVALID, arena_printf(arena, "unknown flag \"%s\"", argv[0]));
    }
    if (f->kind == FLAG_SWITCH) {
        return value == NULL
                   ? set(f, "", arena, options)
                   : FAIL(STATUS_INVALID, arena_printf(arena, "%s takes no value", f->name));
    }
    if (value == NULL) {
        if (argc < 2) {
            return FAIL(STATUS_INVALID,
                        arena_printf(arena, "%s wants a value: %s", f->name, f->value));
        }
        value = argv[1];
        *used = 2;
    }
    return set(f, value, arena, options);
}

static struct status check_count(const struct command *cmd, char **args, uint32_t count,
                                 struct arena *arena)
{
    if (count < cmd->args_min) {
        return FAIL(STATUS_INVALID, arena_printf(arena, "\"%s\" wants %s", cmd->path, cmd->args));
    }
    if (count > cmd->args_max) {
        return FAIL(STATUS_INVALID,
                    arena_printf(arena, "\"%s\" is one argument too many", args[cmd->args_max]));
    }
    return OK;
}

struct status cli_parse(const struct command *cmd, int argc, char **argv, struct arena *arena,
                        void *options, char **args, uint32_t *args_count)
{
    bool only_args = false;

    *args_count = 0;
    for (int i = 0; i < argc;) {
        int used = 1;

        if (!only_args && strcmp(argv[i], "--") == 0) {
            only_args = true;
        } else if (!only_args && argv[i][0] == '-' && argv[i][1] != '\0') {
            TRY(parse_flag(cmd, argc - i, argv + i, arena, options, &used));
        } else if (*args_count == CLI_ARGUMENTS_MAX) {
            return FAIL(STATUS_INVALID, "too many arguments");
        } else {
            args[(*args_count)++] = argv[i];
        }
        i += used;
    }
    return check_count(cmd, args, *args_count, arena);
}
