/*
 * nodes.c -- the processes of a demo cluster, one by one.
 *
 * A node that is asked to end hands its leases over first, which takes it some seconds at most; one
 * that is paused has to run again to notice. After STOP_WAIT_MS it is ended without being asked.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli/client/http_client.h"
#include "cli/demo/demo.h"

#define STOP_WAIT_MS   12000u
#define KILL_WAIT_MS   5000u
#define PAUSE_NS       10000000L
#define LAST_WORDS_MAX 600
#define CACHE_MIB      "32"

const char *demo_sql_url(const struct demo_node *n, struct arena *arena)
{
    return arena_printf(arena, "postgresql://root@127.0.0.1:%u/defaultdb?sslmode=disable",
                        n->sql_port);
}

const char *demo_http_url(const struct demo_node *n, const char *path, struct arena *arena)
{
    return arena_printf(arena, "http://127.0.0.1:%u%s", n->http_port, path);
}

const char *demo_node_dir(const struct demo *d, const struct demo_node *n, struct arena *arena)
{
    return arena_printf(arena, "%s/node%u", d->dir, n->id);
}

/* ---- starting ------------------------------------------------------------------------------------ */

static struct status find_server(struct arena *arena, const char **out)
{
    const char *dir = NULL;

    TRY(process_own_directory(arena, &dir));
    *out = arena_printf(arena, "%s/dsqld", dir);
    return access(*out, X_OK) == 0
               ? OK
               : FAIL(STATUS_NOT_FOUND,
                      arena_printf(arena,
                                   "the server is not installed beside this program: "
                                   "\"%s\" is no program",
                                   *out));
}

static struct status make_node_dir(const struct demo *d, const struct demo_node *n,
                                   struct arena *arena)
{
    const char *dir = demo_node_dir(d, n, arena);

    if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
        return FAIL(STATUS_IO, arena_printf(arena, "could not create directory \"%s\": %s", dir,
                                            strerror(errno)));
    }
    return OK;
}

struct status demo_start_node(struct demo *d, uint32_t index, struct arena *arena)
{
    struct demo_node *n = &d->nodes[index];
    const char *dir = demo_node_dir(d, n, arena);
    const char *argv[26] = {NULL};
    uint32_t k = 0;

    TRY(find_server(arena, &argv[k++]));
    TRY(make_node_dir(d, n, arena));
    argv[k++] = "start";
    argv[k++] = "--store";
    argv[k++] = arena_printf(arena, "%s/data", dir);
    argv[k++] = "--listen-rpc";
    argv[k++] = arena_printf(arena, "127.0.0.1:%u", n->rpc_port);
    argv[k++] = "--listen-sql";
    argv[k++] = arena_printf(arena, "127.0.0.1:%u", n->sql_port);
    argv[k++] = "--listen-http";
    argv[k++] = arena_printf(arena, "127.0.0.1:%u", n->http_port);
    argv[k++] = "--locality";
    argv[k++] = arena_printf(arena, "region=%s,zone=%s", n->region, n->zone);
    argv[k++] = "--cache-mib";
    argv[k++] = CACHE_MIB;
    argv[k++] = "--insecure";
    argv[k++] = "--demo";
    if (d->rtt) {
        argv[k++] = "--rtt";
        argv[k++] = arena_printf(arena, "%s/rtt", d->dir);
    }
    if (index > 0) {
        argv[k++] = "--join";
        argv[k++] = arena_printf(arena, "127.0.0.1:%u", d->nodes[0].rpc_port);
    }
    return process_start(argv, arena_printf(arena, "%s/log", dir), arena, &n->process);
}

const char *demo_last_words(const struct demo *d, uint32_t index, struct arena *arena)
{
    const char *path = arena_printf(arena, "%s/log", demo_node_dir(d, &d->nodes[index], arena));
    char text[LAST_WORDS_MAX + 1];
    FILE *f = fopen(path, "re");
    size_t n = 0;
    char *from = NULL;

    if (f == NULL) {
        return "(nothing)";
    }
    if (fseek(f, -LAST_WORDS_MAX, SEEK_END) != 0) {
        rewind(f); /* Shorter than that. */
    }
    n = fread(text, 1, LAST_WORDS_MAX, f);
    (void)fclose(f); /* It was only read. */
    while (n > 0 && text[n - 1] == '\n') {
        n--;
    }
    text[n] = '\0';
    from = strrchr(text, '\n');
    return n == 0 ? "(nothing)" : arena_printf(arena, "%s", from == NULL ? text : from + 1);
}

/* ---- ending -------------------------------------------------------------------------------------- */

static bool all_gone(const struct demo *d, demo_set which)
{
    for (uint32_t i = 0; i < d->count; i++) {
        if (demo_in(which, i) && process_state(d->nodes[i].process) != PROCESS_GONE) {
            return false;
        }
    }
    return true;
}

static bool wait_gone(const struct demo *d, demo_set which, uint32_t timeout_ms)
{
    const uint64_t until = process_now_ms() + timeout_ms;
    const struct timespec pause = {.tv_nsec = PAUSE_NS};

    for (;;) {
        process_reap();
        if (all_gone(d, which)) {
            return true;
        }
        if (process_now_ms() >= until) {
            return false;
        }
        (void)nanosleep(&pause, NULL); /* Shorter is no harm. */
    }
}

static uint32_t signal_all(const struct demo *d, demo_set which, int signum)
{
    uint32_t sent = 0;

    for (uint32_t i = 0; i < d->count; i++) {
        if (demo_in(which, i) && process_signal(d->nodes[i].process, signum)) {
            sent++;
        }
    }
    return sent;
}

static void forget(struct demo *d, demo_set which)
{
    for (uint32_t i = 0; i < d->count; i++) {
        if (demo_in(which, i)) {
            d->nodes[i].process = (struct process_name){0};
        }
    }
}

void demo_kill_nodes(struct demo *d, demo_set which)
{
    (void)signal_all(d, which, SIGKILL);
    if (wait_gone(d, which, KILL_WAIT_MS)) {
        forget(d, which);
    }
}

uint32_t demo_stop_nodes(struct demo *d, demo_set which)
{
    uint32_t made = 0;

    (void)signal_all(d, which, SIGTERM);
    (void)signal_all(d, which, SIGCONT);
    if (!wait_gone(d, which, STOP_WAIT_MS)) {
        made = signal_all(d, which, SIGKILL);
        (void)wait_gone(d, which, KILL_WAIT_MS);
    }
    if (all_gone(d, which)) {
        forget(d, which);
    }
    return made;
}

/* ---- health -------------------------------------------------------------------------------------- */

const char *demo_health_text(enum demo_health h)
{
    switch (h) {
    case DEMO_DOWN:
        return "down";
    case DEMO_PAUSED:
        return "paused";
    case DEMO_STARTING:
        return "not ready";
    case DEMO_LIVE:
        return "live";
    }
    return "unknown";
}

struct status demo_ask_health(const struct demo *d, uint32_t timeout_ms, struct arena *arena,
                              enum demo_health out[DEMO_NODES_MAX])
{
    struct http_call *calls = ARENA_ARRAY(arena, struct http_call, DEMO_NODES_MAX);
    uint32_t of[DEMO_NODES_MAX] = {0};
    uint32_t count = 0;

    if (calls == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    process_reap();
    for (uint32_t i = 0; i < d->count; i++) {
        const enum process_state s = process_state(d->nodes[i].process);

        out[i] =
            s == PROCESS_GONE ? DEMO_DOWN : (s == PROCESS_PAUSED ? DEMO_PAUSED : DEMO_STARTING);
        if (s == PROCESS_RUNNING) {
            calls[count].url = demo_http_url(&d->nodes[i], "/health", arena);
            of[count++] = i;
        }
    }
    TRY(http_calls(calls, count, timeout_ms, arena));
    for (uint32_t k = 0; k < count; k++) {
        if (calls[k].code == 200) {
            out[of[k]] = DEMO_LIVE;
        }
    }
    return OK;
}
