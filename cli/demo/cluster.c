/*
 * cluster.c -- from nothing, or from data on disk, to a cluster that serves SQL everywhere.
 *
 * Ids are given by the cluster in the order in which nodes ask. People should find node 5 under
 * "node5", so new nodes are started one after the other, each as soon as the first node knows the one
 * before: that costs some hundredths of a second per node. Nodes that have ids start all at once, since
 * a restarted cluster needs a majority before any of them can work.
 *
 * If the program is interrupted on the way, demo.json says how many nodes have joined, and the next
 * start goes on from there.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/client/http_client.h"
#include "cli/client/json_read.h"
#include "cli/demo/demo.h"

#define START_WAIT_MS  60000u
#define ASK_TIMEOUT_MS 1000u
#define PAUSE_NS       15000000L

/* One wait: asks, pauses, asks again. */
struct waiting {
    struct demo *d;
    bool (*interrupted)(void *ctx);
    void *ctx;
    uint64_t until_ms;
    struct arena *arena; /* For what outlives a round. */
};

static struct status pause_round(struct waiting *w, const char *what)
{
    const struct timespec pause = {.tv_nsec = PAUSE_NS};

    if (w->interrupted != NULL && w->interrupted(w->ctx)) {
        return FAIL(STATUS_CANCELLED, "interrupted");
    }
    if (process_now_ms() >= w->until_ms) {
        return FAIL(STATUS_TIMEOUT, what);
    }
    (void)nanosleep(&pause, NULL); /* Shorter is no harm. */
    return OK;
}

/* A node that was started and is gone will not come. */
static struct status check_alive(struct waiting *w, demo_set which)
{
    process_reap();
    for (uint32_t i = 0; i < w->d->count; i++) {
        if (demo_in(which, i) && process_state(w->d->nodes[i].process) == PROCESS_GONE) {
            return FAIL(STATUS_CLOSED,
                        arena_printf(w->arena, "node %u ended; the last line of its log: %s",
                                     w->d->nodes[i].id, demo_last_words(w->d, i, w->arena)));
        }
    }
    return OK;
}

static struct status wait_health(struct waiting *w, demo_set which)
{
    enum demo_health health[DEMO_NODES_MAX];

    for (;;) {
        struct arena round;
        struct status st = OK;
        uint32_t late = DEMO_NODES_MAX;

        TRY(check_alive(w, which));
        arena_init(&round, 0);
        st = demo_ask_health(w->d, ASK_TIMEOUT_MS, &round, health);
        arena_deinit(&round);
        if (!status_ok(st)) {
            return FAIL(st.code, "could not ask the nodes for their health");
        }
        for (uint32_t i = w->d->count; i-- > 0;) {
            late = demo_in(which, i) && health[i] != DEMO_LIVE ? i : late;
        }
        if (late == DEMO_NODES_MAX) {
            return OK;
        }
        TRY(pause_round(w, arena_printf(w->arena,
                                        "node %u is not ready after %u seconds; its log is in %s",
                                        w->d->nodes[late].id, START_WAIT_MS / 1000,
                                        demo_node_dir(w->d, &w->d->nodes[late], w->arena))));
    }
}

/* How many nodes node `asked` knows, how many of them as live, and which id it has itself. */
struct census {
    uint32_t known;
    uint32_t live;
    uint64_t self;
};

static struct status take_census(struct waiting *w, uint32_t asked, struct census *out)
{
    struct arena arena;
    struct http_call call = {0};
    const struct json_value *root = NULL;
    struct status st = OK;

    *out = (struct census){0};
    arena_init(&arena, 0);
    call.url = demo_http_url(&w->d->nodes[asked], "/api/v1/nodes", &arena);
    st = http_calls(&call, 1, ASK_TIMEOUT_MS, &arena);
    if (status_ok(st) && call.code == 200 && status_ok(json_read(call.body, &arena, &root))) {
        for (const struct json_value *v = json_items(root, "nodes"); v != NULL; v = v->next) {
            out->known++;
            out->live += json_get_bool(v, "live") ? 1 : 0;
            out->self = json_get_bool(v, "self") ? json_get_u64(v, "id") : out->self;
        }
    }
    arena_deinit(&arena);
    return status_ok(st) ? OK : FAIL(st.code, "could not ask a node who is there");
}

/* ---- phases -------------------------------------------------------------------------------------- */

static demo_set first_nodes(uint32_t count)
{
    return (demo_set){count >= 32 ? UINT32_MAX : (1u << count) - 1u};
}

static struct status start_and_save(struct waiting *w, uint32_t index)
{
    TRY(demo_start_node(w->d, index, w->arena));
    return demo_save(w->d, w->arena);
}

/* Those that have ids: all at once. */
static struct status start_known(struct waiting *w)
{
    if (w->d->joined == 0) {
        return OK;
    }
    for (uint32_t i = 0; i < w->d->joined; i++) {
        TRY(start_and_save(w, i));
    }
    /* Without node 1 nobody can join; with all there it is sure to work. */
    return w->d->joined == w->d->count ? OK : wait_health(w, first_nodes(w->d->joined));
}

/* The others: one after the other. */
static struct status start_new(struct waiting *w)
{
    while (w->d->joined < w->d->count) {
        const uint32_t i = w->d->joined;
        struct census c = {0};

        TRY(start_and_save(w, i));
        if (i == 0) {
            TRY(wait_health(w, first_nodes(1)));
            c.known = 1;
        }
        while (c.known <= i) {
            TRY(check_alive(w, first_nodes(i + 1)));
            TRY(take_census(w, 0, &c));
            if (c.known <= i) {
                TRY(pause_round(w, arena_printf(w->arena,
                                                "node %u could not join; its log is in %s", i + 1,
                                                demo_node_dir(w->d, &w->d->nodes[i], w->arena))));
            }
        }
        w->d->joined++;
        TRY(demo_save(w->d, w->arena));
    }
    return OK;
}

/* Everybody sees everybody, under the ids that demo.json has. */
static struct status wait_all_live(struct waiting *w)
{
    for (uint32_t i = 0; i < w->d->count;) {
        struct census c;

        TRY(take_census(w, i, &c));
        if (c.live < w->d->count) {
            TRY(check_alive(w, first_nodes(w->d->count)));
            TRY(pause_round(w, arena_printf(w->arena, "node %u sees only %u live nodes of %u",
                                            i + 1, c.live, w->d->count)));
            continue;
        }
        if (c.self != w->d->nodes[i].id) {
            return FAIL(
                STATUS_CORRUPT,
                arena_printf(w->arena,
                             "the process of node %u says that it is node %llu: a start was "
                             "interrupted at a bad moment; remove \"%s\" and start anew",
                             i + 1, (unsigned long long)c.self, w->d->dir));
        }
        i++;
    }
    return OK;
}

struct status demo_start(struct demo *d, bool (*interrupted)(void *ctx), void *ctx,
                         struct arena *arena)
{
    struct waiting w = {d, interrupted, ctx, process_now_ms() + START_WAIT_MS, arena};

    TRY(start_known(&w));
    TRY(start_new(&w));
    TRY(wait_health(&w, first_nodes(d->count)));
    return wait_all_live(&w);
}

struct status demo_wait(struct demo *d, demo_set which, uint32_t timeout_ms,
                        bool (*interrupted)(void *ctx), void *ctx, struct arena *arena)
{
    struct waiting w = {d, interrupted, ctx, process_now_ms() + timeout_ms, arena};

    return wait_health(&w, which);
}
