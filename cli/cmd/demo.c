/*
 * demo.c -- `dsqlctl demo`: a cluster of several regions on this machine, in one command.
 *
 * The program stays in the foreground and stops the nodes when it is asked to end; with --background it
 * leaves them to `dsqlctl demo stop`. Other commands may change the cluster meanwhile: so the lock is
 * held only while nodes start or stop, and demo.json is read anew before they are stopped.
 */
#include "cli/cmd/demo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/client/interrupt.h"
#include "cli/client/ports.h"
#include "cli/render/table.h"
#include "regions/topology/rtt.h"

#define PORT_WANTED    26257
#define RTT_FILE_MAX   ((size_t)64 << 10)
#define READ_SIZE      1024
#define PORTS_PER_NODE 3u

struct demo_options {
    uint32_t nodes;
    const char *regions;
    const char *rtt;
    const char *dir;
    bool background;
};

static const struct flag flags[] = {
    {"--nodes", FLAG_NUMBER, offsetof(struct demo_options, nodes), "N",
     "how many nodes (default: one per zone)", 1, DEMO_NODES_MAX},
    {.name = "--regions",
     .kind = FLAG_TEXT,
     .offset = offsetof(struct demo_options, regions),
     .value = "NAME[:ZONES],...",
     .help = "regions, and zones in each (default: three of three)"},
    {.name = "--rtt",
     .kind = FLAG_TEXT,
     .offset = offsetof(struct demo_options, rtt),
     .value = "off|FILE",
     .help = "simulated round trips (default: US, Europe, Asia)"},
    DEMO_DIR_FLAG(struct demo_options),
    {.name = "--background",
     .kind = FLAG_SWITCH,
     .offset = offsetof(struct demo_options, background),
     .help = "return once it works; end it with dsqlctl demo stop"},
};

/* ---- sessions ------------------------------------------------------------------------------------ */

struct status demo_open(struct cli *c, const char *dir, bool change, struct demo_session *out)
{
    const char *at = NULL;
    struct status st = OK;

    *out = (struct demo_session){.demo = ARENA_NEW(&c->arena, struct demo), .lock = -1};
    if (out->demo == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    TRY(demo_directory(dir, &c->arena, &at));
    TRY(demo_load(at, &c->arena, out->demo)); /* First, so that looking creates nothing. */
    if (!change) {
        return OK;
    }
    TRY(demo_lock(at, &c->arena, &out->lock));
    st = demo_load(at, &c->arena, out->demo); /* We waited: it may have changed. */
    if (!status_ok(st)) {
        demo_close(out);
    }
    return st;
}

void demo_close(struct demo_session *s)
{
    demo_unlock(s->lock);
    s->lock = -1;
}

const char *demo_dir_hint(struct cli *c, const struct demo *d)
{
    const char *usual = NULL;

    if (status_ok(demo_directory(NULL, &c->arena, &usual)) && strcmp(usual, d->dir) == 0) {
        return "";
    }
    return arena_printf(&c->arena, " --dir %s", d->dir);
}

/* ---- the simulated network ----------------------------------------------------------------------- */

static struct status read_rtt(struct cli *c, const char *path, struct buf *out)
{
    char chunk[READ_SIZE];
    FILE *f = fopen(path, "re");
    size_t n = 0;
    struct status st = OK;

    if (f == NULL) {
        return FAIL(STATUS_IO, arena_printf(&c->arena, "--rtt: could not open \"%s\": %s", path,
                                            strerror(errno)));
    }
    while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0) {
        TRY_OUT(buf_append(out, chunk, n));
    }
out:
    (void)fclose(f); /* It was only read. */
    return st;
}

/* Every pair of the demo's regions has to have a figure: one that is forgotten would be 0 ms. */
static struct status check_rtt(struct cli *c, struct bytes text, const struct demo *d,
                               bool *fits_out)
{
    struct rtt_matrix *m = ARENA_NEW(&c->arena, struct rtt_matrix);

    if (m == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    TRY(rtt_parse(text, &c->arena, m));
    *fits_out = true;
    for (uint32_t i = 0; i < d->count; i++) {
        bool found = false;

        for (uint32_t k = 0; k < m->count; k++) {
            found = found || strcmp(m->regions[k], d->nodes[i].region) == 0;
        }
        *fits_out = *fits_out && found;
    }
    return OK;
}

static struct status write_rtt(struct cli *c, const struct demo *d, struct bytes text)
{
    const char *path = arena_printf(&c->arena, "%s/rtt", d->dir);
    FILE *f = fopen(path, "we");
    bool fine = f != NULL && fwrite(text.ptr, 1, text.len, f) == text.len;

    if (f != NULL) {
        fine = fclose(f) == 0 && fine;
    }
    return fine ? OK
                : FAIL(STATUS_IO, arena_printf(&c->arena, "could not write \"%s\": %s", path,
                                               strerror(errno)));
}

static struct status prepare_rtt(struct cli *c, const struct demo_options *o, struct demo *d)
{
    struct buf text;
    bool fits = false;
    struct status st = OK;

    if (o->rtt != NULL && strcmp(o->rtt, "off") == 0) {
        d->rtt = false;
        return OK;
    }
    buf_init(&text, RTT_FILE_MAX);
    if (o->rtt == NULL) {
        TRY_OUT(buf_append_str(&text, demo_rtt_text()));
    } else {
        TRY_OUT(read_rtt(c, o->rtt, &text));
    }
    st = check_rtt(c, buf_bytes(&text), d, &fits);
    if (!status_ok(st)) {
        st = FAIL(st.code, arena_printf(&c->arena, "--rtt \"%s\": %s", o->rtt, status_text(st)));
        goto out;
    }
    if (!fits) {
        st = FAIL(STATUS_INVALID, "the simulated round trips do not name all regions: give them "
                                  "with --rtt FILE, or say --rtt off");
        goto out;
    }
    TRY_OUT(write_rtt(c, d, buf_bytes(&text)));
    d->rtt = true;
out:
    buf_deinit(&text);
    return st;
}

/* ---- a new cluster, or the one that is there ----------------------------------------------------- */

static struct status lay_out(struct cli *c, const struct demo_options *o, struct demo *d)
{
    return demo_layout(o->regions == NULL ? DEMO_REGIONS : o->regions, o->nodes, &c->arena, d);
}

static struct status create(struct cli *c, const struct demo_options *o, struct demo *d,
                            struct ports *ports)
{
    uint16_t first = 0;

    TRY(lay_out(c, o, d));
    TRY(prepare_rtt(c, o, d));
    TRY(ports_find(ports, PORT_WANTED, d->count * PORTS_PER_NODE, &first));
    for (uint32_t i = 0; i < d->count; i++) {
        d->nodes[i].sql_port = (uint16_t)(first + i);
        d->nodes[i].rpc_port = (uint16_t)(first + d->count + i);
        d->nodes[i].http_port = (uint16_t)(first + 2 * d->count + i);
    }
    return demo_save(d, &c->arena);
}

/* What was asked for has to be what is there. */
static struct status check_same(struct cli *c, const struct demo_options *o, const struct demo *d)
{
    struct demo *asked = ARENA_NEW(&c->arena, struct demo);
    bool same = true;

    if (asked == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    if (o->nodes == 0 && o->regions == NULL) {
        return OK;
    }
    TRY(lay_out(c, o, asked));
    same = asked->count == d->count;
    for (uint32_t i = 0; same && i < d->count; i++) {
        same = strcmp(asked->nodes[i].zone, d->nodes[i].zone) == 0;
    }
    return same ? OK
                : FAIL(STATUS_EXISTS,
                       arena_printf(&c->arena,
                                    "\"%s\" holds a cluster of %u nodes with other regions: start "
                                    "it without --nodes and --regions, give another --dir, or "
                                    "remove that directory",
                                    d->dir, d->count));
}

static struct status reopen(struct cli *c, const struct demo_options *o, struct demo *d,
                            struct ports *ports)
{
    for (uint32_t i = 0; i < d->count; i++) {
        if (process_state(d->nodes[i].process) != PROCESS_GONE) {
            return FAIL(STATUS_EXISTS,
                        arena_printf(&c->arena,
                                     "a demo cluster runs in \"%s\" already: see dsqlctl demo "
                                     "status%s, end it with dsqlctl demo stop%s",
                                     d->dir, demo_dir_hint(c, d), demo_dir_hint(c, d)));
        }
    }
    TRY(check_same(c, o, d));
    if (o->rtt != NULL) {
        TRY(prepare_rtt(c, o, d));
    }
    memset(d->cut, 0, sizeof(d->cut));
    for (uint32_t i = 0; i < d->count; i++) {
        TRY(ports_keep(ports, d->nodes[i].sql_port, &c->arena));
        TRY(ports_keep(ports, d->nodes[i].rpc_port, &c->arena));
        TRY(ports_keep(ports, d->nodes[i].http_port, &c->arena));
    }
    return demo_save(d, &c->arena);
}

static struct status start(struct cli *c, const struct demo_options *o, struct demo *d,
                           struct interrupt *interrupt)
{
    struct ports ports;
    struct status st = OK;

    ports_init(&ports);
    st = demo_load(d->dir, &c->arena, d);
    if (st.code == STATUS_NOT_FOUND) {
        TRY_OUT(create(c, o, d, &ports));
    } else {
        TRY_OUT(st);
        TRY_OUT(reopen(c, o, d, &ports));
    }
    st = demo_start(d, interrupt_pending, interrupt, &c->arena);
    if (!status_ok(st)) {
        (void)demo_stop_nodes(d, (demo_set){UINT32_MAX}); /* How they ended is of no interest. */
        status_ignore(demo_save(d, &c->arena));           /* The first error is the one to tell. */
    }
out:
    ports_release(&ports);
    return st;
}

/* ---- telling ------------------------------------------------------------------------------------- */

static void hint(struct cli *c, const char *command, const char *what)
{
    (void)fprintf(c->out, "  %-40s %s\n", command, what);
}

static void tell(struct cli *c, const struct demo_options *o, const struct demo *d, uint64_t ms)
{
    static const struct table_column columns[] = {
        {"node", true}, {"region", false}, {"zone", false}, {"SQL", false}};
    const char *dir = demo_dir_hint(c, d);
    struct table t;

    table_init(&t, columns, (uint32_t)ARRAY_COUNT(columns), &c->arena);
    for (uint32_t i = 0; i < d->count; i++) {
        table_row(&t);
        table_cell_u64(&t, d->nodes[i].id);
        table_cell(&t, d->nodes[i].region);
        table_cell(&t, d->nodes[i].zone);
        table_cell(&t, demo_sql_url(&d->nodes[i], &c->arena));
    }
    (void)fprintf(c->out, "%u nodes are live after %llu.%llu s%s.\n\n", d->count,
                  (unsigned long long)(ms / 1000), (unsigned long long)(ms % 1000 / 100),
                  d->rtt ? "; round trips between them are simulated" : "");
    table_print(&t, c->out);
    (void)fputc('\n', c->out);
    hint(c, arena_printf(&c->arena, "dsqlctl sql%s", dir), "a SQL shell; --node N picks the node");
    hint(c, arena_printf(&c->arena, "dsqlctl demo status%s", dir), "who is there");
    hint(c, arena_printf(&c->arena, "dsqlctl demo kill %s%s", d->nodes[d->count - 1].region, dir),
         "what happens then; demo restart brings it back");
    (void)fprintf(c->out, "\nData and logs: %s\n", d->dir);
    if (o->background) {
        (void)fprintf(c->out, "To end it: dsqlctl demo stop%s\n", dir);
    } else {
        (void)fputs("Ctrl-C ends the cluster; its data stays for the next time.\n", c->out);
    }
    (void)fflush(c->out);
}

/* ---- running ------------------------------------------------------------------------------------- */

static int stop_all(struct cli *c, const char *dir)
{
    struct demo_session s;
    struct status st = demo_open(c, dir, true, &s);

    if (!status_ok(st)) {
        return cli_fail(c, st);
    }
    (void)fputs("\nStopping ...\n", c->out);
    (void)fflush(c->out);
    (void)demo_stop_nodes(s.demo, (demo_set){UINT32_MAX}); /* Ended is ended. */
    st = demo_save(s.demo, &c->arena);
    demo_close(&s);
    return status_ok(st) ? CLI_OK : cli_fail(c, st);
}

static int run(struct cli *c, const void *options, char **args, uint32_t args_count)
{
    const struct demo_options *o = options;
    const uint64_t began_ms = process_now_ms();
    struct demo *d = ARENA_NEW(&c->arena, struct demo);
    struct interrupt interrupt;
    struct status st = OK;
    int lock = -1;

    UNUSED(args);
    UNUSED(args_count);
    if (d == NULL) {
        return cli_fail(c, FAIL(STATUS_MEMORY, "out of memory"));
    }
    interrupt_init(&interrupt);
    TRY_OUT(demo_directory(o->dir, &c->arena, &d->dir));
    TRY_OUT(demo_lock(d->dir, &c->arena, &lock));
    TRY_OUT(start(c, o, d, &interrupt));
    tell(c, o, d, process_now_ms() - began_ms);
out:
    demo_unlock(lock);
    if (!status_ok(st)) {
        return st.code == STATUS_CANCELLED ? CLI_INTERRUPTED : cli_fail(c, st);
    }
    if (o->background) {
        return CLI_OK;
    }
    interrupt_wait(&interrupt);
    return stop_all(c, d->dir);
}

static const struct command *const subs[] = {
    &cmd_demo_status, &cmd_demo_stop,   &cmd_demo_kill,      &cmd_demo_restart,
    &cmd_demo_pause,  &cmd_demo_resume, &cmd_demo_partition, &cmd_demo_heal,
};

const struct command cmd_demo = {
    .path = "demo",
    .args = "",
    .summary = "Start a cluster of several regions on this machine.",
    .details =
        "Nodes are processes of dsqld on loopback, without TLS and without passwords; who may "
        "log in\non this machine may use them. Their data stays in DIR and is used again by the "
        "next start.",
    .flags = flags,
    .flags_count = (uint32_t)ARRAY_COUNT(flags),
    .options_size = sizeof(struct demo_options),
    .subs = subs,
    .subs_count = (uint32_t)ARRAY_COUNT(subs),
    .run = run,
};
