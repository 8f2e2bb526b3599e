/*
 * links.c -- partitions: which of its peers a node does not hear, or is not heard by.
 *
 * Both ends of a cut link are told, each of its own direction and of the other's: a node that was
 * restarted knows nothing of cuts until it is told again, and meanwhile its peer still drops.
 */
#include "cli/client/http_client.h"
#include "cli/demo/demo.h"

#define TIMEOUT_MS 1500u

/* What node `i` has to be told about its link to `k`. */
static const char *cut_url(const struct demo *d, uint32_t i, uint32_t k, struct arena *arena)
{
    return demo_http_url(&d->nodes[i],
                         arena_printf(arena, "/api/v1/demo/cut?node=%u&out=%d&in=%d",
                                      d->nodes[k].id, d->cut[i][k] ? 1 : 0, d->cut[k][i] ? 1 : 0),
                         arena);
}

/* One round: link number `step` of every node, so that no node is asked twice at once. */
static struct status apply_round(const struct demo *d, demo_set which, uint32_t step,
                                 struct http_call *calls, struct arena *arena, demo_set *silent)
{
    uint32_t of[DEMO_NODES_MAX] = {0};
    uint32_t count = 0;

    for (uint32_t i = 0; i < d->count; i++) {
        if (demo_in(which, i) && !demo_in(*silent, i)) {
            calls[count] = (struct http_call){.post = true,
                                              .url = cut_url(d, i, (i + step) % d->count, arena)};
            of[count++] = i;
        }
    }
    TRY(http_calls(calls, count, TIMEOUT_MS, arena));
    for (uint32_t k = 0; k < count; k++) {
        if (calls[k].code != 200) {
            silent->bits |= 1u << of[k];
        }
    }
    return OK;
}

struct status demo_apply_cuts(const struct demo *d, demo_set which, struct arena *arena,
                              uint32_t *silent_out)
{
    struct http_call *calls = ARENA_ARRAY(arena, struct http_call, DEMO_NODES_MAX);
    demo_set running = {0};
    demo_set silent = {0};

    *silent_out = 0;
    if (calls == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    for (uint32_t i = 0; i < d->count; i++) {
        if (demo_in(which, i) && process_state(d->nodes[i].process) == PROCESS_RUNNING) {
            running.bits |= 1u << i;
        }
    }
    for (uint32_t step = 1; step < d->count; step++) {
        TRY(apply_round(d, running, step, calls, arena, &silent));
    }
    *silent_out = (uint32_t)__builtin_popcount(silent.bits);
    return OK;
}
