/*
 * admit.c -- no more writes of a range under way than its log can take.
 *
 * A write counts from before it takes its latches until its command has applied, or certainly never will: by
 * the bytes that it asks to write, and as one. Beyond the limits it waits here, in order of arrival, holding
 * nothing; when that takes too long it is refused as STATUS_OVERLOADED, which certainly wrote nothing and
 * may be tried again. So a slow disk or a lost quorum shows as waiting at the door, and memory is bounded:
 * the limit stays below what the core takes uncommitted (RAFT_UNCOMMITTED_BYTES_MAX).
 *
 * What ends transactions (records, intents to be settled) always passes: it makes room.
 *
 * Source: protocol reference 16.2.
 */
#include "node/base/invariant.h"
#include "node/range/internal.h"

#define WAIT_NS_MAX ((uint64_t)2000000000)

_Static_assert(RANGE_ADMITTED_BYTES_MAX + RANGE_COMMAND_MAX / 8 <= RAFT_UNCOMMITTED_BYTES_MAX,
               "what is admitted must fit into the core");

static bool full(const struct replica *r, size_t bytes)
{
    const struct admission *a = &r->admission;

    return a->count > 0 &&
           (a->count >= RANGE_ADMITTED_MAX || a->bytes + bytes > RANGE_ADMITTED_BYTES_MAX);
}

static void let_in(struct replica *r)
{
    if (!full(r, 0)) {
        wait_queue_wake_one(&r->admission.queue);
    }
}

struct status admit__write(struct replica *r, struct proposal *p, size_t bytes,
                           uint64_t deadline_ns)
{
    struct admission *a = &r->admission;
    const uint64_t latest = env_mono_ns(shard_env(r->store->shard)) + WAIT_NS_MAX;
    const uint64_t until = deadline_ns < latest ? deadline_ns : latest;
    bool wait = full(r, bytes) || !list_empty(&a->queue.waiters);

    INVARIANT(p->admitted_by == NULL);
    while (wait) {
        const struct status st = wait_queue_wait(&a->queue, until);

        if (st.code == STATUS_TIMEOUT) {
            let_in(r); /* We may have stood in front of somebody smaller. */
            return FAIL(STATUS_OVERLOADED,
                        "too many writes to the range are under way: try again later");
        }
        TRY(st);
        if (r->life != REPLICA_INIT || r->store->stopping) {
            wait_queue_wake_all(&a->queue);
            return FAIL(STATUS_NOT_LEADER, "the replica has gone");
        }
        wait = full(r, bytes);
    }
    a->count++;
    a->bytes += bytes;
    p->admitted_by = r;
    p->admitted_bytes = bytes;
    let_in(r);
    return OK;
}

void admit__done(struct proposal *p)
{
    struct replica *r = p->admitted_by;

    if (r == NULL) {
        return;
    }
    INVARIANT(r->admission.count > 0);
    INVARIANT(r->admission.bytes >= p->admitted_bytes);
    r->admission.count--;
    r->admission.bytes -= p->admitted_bytes;
    p->admitted_by = NULL;
    let_in(r);
}
