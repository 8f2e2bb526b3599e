/*
 * cert.c -- `dsqlctl cert`: the files that nodes and clients of a cluster with TLS need.
 *
 * The work is done by cli/cert; here are the words.
 */
#include "cli/cert/cert.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cmd/cmd.h"

#define DIR_DEFAULT "certs"

struct cert_flags {
    const char *dir;
    bool overwrite;
    uint32_t days;
};

static const struct flag flags[] = {
    {.name = "--certs-dir",
     .kind = FLAG_TEXT,
     .offset = offsetof(struct cert_flags, dir),
     .value = "DIR",
     .help = "where the files are and go (default " DIR_DEFAULT ")"},
    {.name = "--overwrite",
     .kind = FLAG_SWITCH,
     .offset = offsetof(struct cert_flags, overwrite),
     .help = "replace files that are there"},
    {"--days", FLAG_NUMBER, offsetof(struct cert_flags, days), "N",
     "how long it is valid (default: CA 3650, others 730)", 1, CERT_DAYS_MAX},
};

static struct status prepare(struct cli *c, const struct cert_flags *f, struct cert_options *out)
{
    *out = (struct cert_options){.dir = f->dir == NULL ? DIR_DEFAULT : f->dir,
                                 .overwrite = f->overwrite,
                                 .days = f->days,
                                 .msg_arena = &c->arena};
    if (mkdir(out->dir, 0700) != 0 && errno != EEXIST) {
        return FAIL(STATUS_IO, arena_printf(&c->arena, "could not create directory \"%s\": %s",
                                            out->dir, strerror(errno)));
    }
    return OK;
}

static int finish(struct cli *c, const struct cert_options *o, struct status st, const char *stem,
                  const char *note)
{
    if (!status_ok(st)) {
        return cli_fail(c, st);
    }
    (void)fprintf(c->out, "Wrote %s/%s.crt and %s/%s.key.%s\n", o->dir, stem, o->dir, stem, note);
    return CLI_OK;
}

static int run_ca(struct cli *c, const void *options, char **args, uint32_t args_count)
{
    struct cert_options o;
    struct status st = prepare(c, options, &o);

    UNUSED(args);
    UNUSED(args_count);
    st = status_ok(st) ? cert_create_ca(&o) : st;
    return finish(c, &o, st, "ca", " Keep ca.key away from the nodes: it signs all others.");
}

static int run_node(struct cli *c, const void *options, char **args, uint32_t args_count)
{
    struct cert_options o;
    struct status st = prepare(c, options, &o);

    st = status_ok(st) ? cert_create_node(&o, (const char *const *)args, args_count) : st;
    return finish(c, &o, st, "node", "");
}

static int run_client(struct cli *c, const void *options, char **args, uint32_t args_count)
{
    struct cert_options o;
    struct status st = prepare(c, options, &o);

    UNUSED(args_count);
    st = status_ok(st) ? cert_create_client(&o, args[0]) : st;
    return finish(c, &o, st, arena_printf(&c->arena, "client.%s", args[0]), "");
}

static const struct command cmd_create_ca = {
    .path = "cert create-ca",
    .args = "",
    .summary = "Make the certificate authority of a cluster.",
    .flags = flags,
    .flags_count = (uint32_t)ARRAY_COUNT(flags),
    .options_size = sizeof(struct cert_flags),
    .run = run_ca,
};

static const struct command cmd_create_node = {
    .path = "cert create-node",
    .args = "[<host>...]",
    .summary = "Make a node's certificate.",
    .details = "Hosts are the names and addresses under which clients reach the node.",
    .flags = flags,
    .flags_count = (uint32_t)ARRAY_COUNT(flags),
    .options_size = sizeof(struct cert_flags),
    .args_max = CERT_NAMES_MAX,
    .run = run_node,
};

static const struct command cmd_create_client = {
    .path = "cert create-client",
    .args = "<user>",
    .summary = "Make the certificate that a SQL user logs in with.",
    .flags = flags,
    .flags_count = (uint32_t)ARRAY_COUNT(flags),
    .options_size = sizeof(struct cert_flags),
    .args_min = 1,
    .args_max = 1,
    .run = run_client,
};

static const struct command *const subs[] = {&cmd_create_ca, &cmd_create_node, &cmd_create_client};

const struct command cmd_cert = {
    .path = "cert",
    .args = "",
    .summary = "Make certificates for a cluster with TLS.",
    .details = "First create-ca, then create-node per node, then create-client per SQL user.",
    .subs = subs,
    .subs_count = (uint32_t)ARRAY_COUNT(subs),
};
