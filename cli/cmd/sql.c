/*
 * sql.c -- `dsqlctl sql`: psql on a node, with the address filled in.
 *
 * psql takes this program's place, so that its terminal, signals and exit code are psql's own.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cmd/demo.h"

#define TIMEOUT_MS 1500u
#define PSQL       "psql"

struct sql_options {
    uint32_t node;
    const char *url;
    const char *dir;
};

static const struct flag flags[] = {
    {"--node", FLAG_NUMBER, offsetof(struct sql_options, node), "N",
     "node of the demo cluster (default: the first live one)", 1, DEMO_NODES_MAX},
    {.name = "--url",
     .kind = FLAG_TEXT,
     .offset = offsetof(struct sql_options, url),
     .value = "URL",
     .help = "postgresql://... of any other cluster"},
    DEMO_DIR_FLAG(struct sql_options),
};

static struct status find_url(struct cli *c, const struct sql_options *o, const char **out)
{
    enum demo_health health[DEMO_NODES_MAX];
    struct demo_session s;

    if (o->url != NULL) {
        *out = o->url;
        return OK;
    }
    TRY(demo_open(c, o->dir, false, &s));
    if (o->node > s.demo->count) {
        return FAIL(STATUS_NOT_FOUND, arena_printf(&c->arena, "there is no node %u, only 1 to %u",
                                                   o->node, s.demo->count));
    }
    if (o->node > 0) {
        *out = demo_sql_url(&s.demo->nodes[o->node - 1], &c->arena);
        return OK;
    }
    TRY(demo_ask_health(s.demo, TIMEOUT_MS, &c->arena, health));
    for (uint32_t i = 0; i < s.demo->count; i++) {
        if (health[i] == DEMO_LIVE) {
            *out = demo_sql_url(&s.demo->nodes[i], &c->arena);
            return OK;
        }
    }
    return FAIL(STATUS_UNAVAILABLE, "no node of the demo cluster is live: see dsqlctl demo status");
}

static int run(struct cli *c, const void *options, char **args, uint32_t args_count)
{
    char *argv[CLI_ARGUMENTS_MAX + 3] = {NULL};
    const char *url = NULL;
    const struct status st = find_url(c, options, &url);

    if (!status_ok(st)) {
        return cli_fail(c, st);
    }
    argv[0] = (char *)PSQL;
    argv[1] = (char *)url;
    for (uint32_t i = 0; i < args_count; i++) {
        argv[i + 2] = args[i];
    }
    (void)execvp(PSQL, argv); /* Comes back only when it failed: errno says why. */
    if (errno != ENOENT) {
        return cli_fail(
            c, FAIL(STATUS_IO, arena_printf(&c->arena, "could not run psql: %s", strerror(errno))));
    }
    return cli_fail(c, FAIL(STATUS_NOT_FOUND,
                            arena_printf(&c->arena,
                                         "psql is not installed (on Debian: apt-get install "
                                         "postgresql-client); any PostgreSQL client can use %s",
                                         url)));
}

const struct command cmd_sql = {
    .path = "sql",
    .args = "[-- <psql argument>...]",
    .summary = "Open a SQL shell (psql) on a node.",
    .details = "As in: dsqlctl sql --node 4 -- -c 'SELECT 1'",
    .flags = flags,
    .flags_count = (uint32_t)ARRAY_COUNT(flags),
    .options_size = sizeof(struct sql_options),
    .args_max = CLI_ARGUMENTS_MAX,
    .run = run,
};
