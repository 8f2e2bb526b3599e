/*
 * remote.c -- batches of other nodes: each on a fiber of its own.
 */
#include <stdlib.h>

#include "node/range/internal.h"

#define BATCH_ARENA_MAX   ((size_t)64 << 20)
#define SERVE_DEADLINE_NS ((uint64_t)10000000000)

struct remote_batch {
    struct store *store;
    struct rpc_reply_to reply;
    struct arena arena;
    struct bytes body; /* In the arena. */
};

static bool changes(const struct range_batch *b)
{
    for (uint32_t i = 0; i < b->count; i++) {
        if (range_op_writes(b->requests[i].op) || range_op_on_txn(b->requests[i].op)) {
            return true;
        }
    }
    return false;
}

/* An answer that does not fit must not say that nothing was done: a write stands in the log by now. */
static struct status encode_answer(struct remote_batch *rb, const struct range_batch *b,
                                   struct range_result *result, struct bytes *body)
{
    const struct status st = range_result_encode(result, b->count, &rb->arena, body);

    if (status_ok(st) && body->len <= RPC_BODY_MAX) {
        return OK;
    }
    if (!status_ok(result->st)) {
        return result->st; /* Without its hints. */
    }
    return changes(b) ? FAIL(STATUS_AMBIGUOUS, "the write was done, its answer cannot be sent")
                      : FAIL(STATUS_MEMORY, "the answer is larger than a message may be");
}

MAYYIELD static void serve_remote(void *arg)
{
    struct remote_batch *rb = arg;
    struct store *s = rb->store;
    struct range_batch b;
    struct range_result result = {0};
    struct bytes body;
    struct status st = range_batch_decode(rb->body, &rb->arena, &b);

    if (status_ok(st)) {
        const uint64_t deadline = env_mono_ns(shard_env(s->shard)) + SERVE_DEADLINE_NS;

        store_execute(s, &b, deadline, &rb->arena, &result);
        st = encode_answer(rb, &b, &result, &body);
    }
    rpc_reply(s->o.rpc, &rb->reply, st, &body, status_ok(st) ? 1 : 0);
    arena_deinit(&rb->arena);
    free(rb);
    s->fibers--;
    wait_queue_wake_all(&s->idle);
}

void range__on_batch(void *store, const struct rpc_message *m)
{
    struct store *s = store;
    const struct rpc_reply_to reply = rpc_reply_to(m);
    struct remote_batch *rb = calloc(1, sizeof(*rb));
    struct status st = OK;

    if (rb == NULL) {
        rpc_reply(s->o.rpc, &reply, FAIL(STATUS_MEMORY, "out of memory"), NULL, 0);
        return;
    }
    rb->store = s;
    rb->reply = reply;
    arena_init(&rb->arena, BATCH_ARENA_MAX);
    TRY_OUT(bytes_dup(&rb->arena, m->body, &rb->body));
    TRY_OUT(fiber_spawn(s->shard, "range.batch", serve_remote, rb));
    s->fibers++; /* Also while it waits for its first turn. */
    return;
out:
    rpc_reply(s->o.rpc, &reply, st, NULL, 0);
    arena_deinit(&rb->arena);
    free(rb);
}
