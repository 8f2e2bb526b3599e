/*
 * pending.c -- parts of this folder that are being built: waiting for locks, pushes.
 *
 * Each goes with the file that brings the real one. Until then whoever meets a lock tries again after a
 * pause, and pushes are refused.
 */
#include "node/range/internal.h"

#define RETRY_NS ((uint64_t)10000000)

struct status push__serve(struct replica *r, const struct range_request *q, uint64_t deadline_ns,
                          struct arena *arena, struct range_response *out)
{
    UNUSED(r);
    UNUSED(q);
    UNUSED(deadline_ns);
    UNUSED(arena);
    UNUSED(out);
    return FAIL(STATUS_UNSUPPORTED, "pushes are not supported yet");
}

struct status push__serve_query(struct replica *r, const struct range_request *q,
                                struct arena *arena, struct range_response *out)
{
    UNUSED(r);
    UNUSED(q);
    UNUSED(arena);
    UNUSED(out);
    return FAIL(STATUS_UNSUPPORTED, "pushes are not supported yet");
}

void push__changed(struct replica *r, struct uuid txn)
{
    UNUSED(r);
    UNUSED(txn);
}

void push__stop(struct replica *r)
{
    UNUSED(r);
}

struct status wait__blocked(struct replica *r, const struct range_batch *b, struct lock_waiter *w,
                            const struct lock_blocker *blocker, enum mvcc_strength want,
                            uint64_t deadline_ns)
{
    UNUSED(r);
    UNUSED(b);
    UNUSED(w);
    UNUSED(blocker);
    UNUSED(want);
    UNUSED(deadline_ns);
    return fiber_sleep(RETRY_NS);
}
