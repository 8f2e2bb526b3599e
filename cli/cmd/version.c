/*
 * version.c -- `dsqlctl version`.
 */
#include "cli/cmd/cmd.h"

static int run(struct cli *c, const void *options, char **args, uint32_t args_count)
{
    UNUSED(options);
    UNUSED(args);
    UNUSED(args_count);
    (void)fputs("dsqlctl " CLI_VERSION "\n", c->out);
    return CLI_OK;
}

const struct command cmd_version = {
    .path = "version",
    .args = "",
    .summary = "Print the version of this program.",
    .run = run,
};
