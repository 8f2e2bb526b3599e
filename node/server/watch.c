/*
 * watch.c -- a peer that falls silent has its calls ended, instead of everybody waiting for them.
 *
 * A process that dies closes its connections, and calls to it fail at once. One that is stopped, or cut off,
 * says nothing: whoever called it would wait until his own patience ends. Store liveness knows much earlier.
 * What a call to such a node was about is then asked elsewhere; kv knows how to do that safely, because the
 * call may have been executed.
 */
#include <stdlib.h>

#include "node/server/node_internal.h"

#define WATCH_NS ((uint64_t)250000000)

/* Rows of the registry shift when one is added: then the memory begins anew. */
static bool remember_rows(struct node *n)
{
    bool *grown = NULL;

    if (n->was_live_count == n->registry.count) {
        return true;
    }
    grown = calloc(n->registry.count, sizeof(grown[0]));
    if (grown == NULL) {
        return false;
    }
    free(n->was_live);
    n->was_live = grown;
    n->was_live_count = n->registry.count;
    return true;
}

static void watch_tick(struct shard_timer *t)
{
    struct node *n = CONTAINER_OF(t, struct node, watch_timer);

    if (n->stopping) {
        return;
    }
    for (uint32_t i = 0; remember_rows(n) && i < n->registry.count; i++) {
        const node_id id = n->registry.nodes[i].id;
        const bool live = node_peer_live(n, id);

        if (n->was_live[i] && !live) {
            LOG_INFO("node.peer_silent", U64("node", id.v));
            rpc_peer_down(n->rpc, id);
        }
        n->was_live[i] = live;
    }
    shard_timer_arm_in(n->shard, t, WATCH_NS);
}

void watch__start(struct node *n)
{
    n->watch_timer.fn = watch_tick;
    shard_timer_arm_in(n->shard, &n->watch_timer, WATCH_NS);
}

void watch__stop(struct node *n)
{
    shard_timer_disarm(n->shard, &n->watch_timer);
    free(n->was_live);
    n->was_live = NULL;
    n->was_live_count = 0;
}
