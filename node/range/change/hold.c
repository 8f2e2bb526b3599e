/*
 * hold.c -- a range stops serving for the moment in which it changes its shape.
 *
 * A split must not be overtaken by a read or write of the span that it gives away, a freeze not by any of
 * the range. So the leaseholder lets nothing new into the log, waits until what is there has applied
 * ("drained"), and appends the change as the next entry. Requests wait in front of the range meanwhile and
 * look at everything anew afterwards: bounds, lease, latches.
 *
 *     serving --hold()--> draining --hold_until_applied()--> undecided --applied, or not our term--> serving
 *                            '------------ release() --------------------------------------------------^
 *
 * Invariant: once the change is appended, serving goes on only when it has applied here or we lead
 * its term no longer. Whoever leads then has applied it, or it is not in the log. The fiber that
 * asked for the change may have given up long before.
 *
 * A frozen range is held by its applied state, whoever leads.
 */
#include "node/base/invariant.h"
#include "node/range/internal.h"

/* Then the client shall look around: the range may be gone. */
#define WAIT_NS ((uint64_t)3000000000)
/* What is in the log shall have applied by then; without a quorum it would not, and nothing be served. */
#define DRAIN_NS ((uint64_t)2000000000)

static bool frozen(const struct replica *r)
{
#ifdef DSQL_PLANTS
    if ((r->store->o.plants & STORE_PLANT_MERGE_NO_FREEZE) != 0) {
        return false;
    }
#endif
    return r->applied.freeze.index != 0;
}

bool change__held(const struct replica *r)
{
    return r->held || frozen(r);
}

struct status change__wait_serving(struct replica *r, uint64_t deadline_ns)
{
    const uint64_t latest = env_mono_ns(shard_env(r->store->shard)) + WAIT_NS;
    const uint64_t until = deadline_ns < latest ? deadline_ns : latest;

    while (r->life == REPLICA_INIT && !r->store->stopping && change__held(r)) {
        const struct status st = wait_queue_wait(&r->serving, until);

        if (st.code == STATUS_TIMEOUT) {
            return FAIL(STATUS_OVERLOADED, "the range is being split or merged");
        }
        TRY(st);
    }
    return OK;
}

void change__release(struct replica *r)
{
    r->held = false;
    r->hold_index = 0;
    r->hold_term = 0;
    wait_queue_wake_all(&r->serving);
}

MAYYIELD static struct status drain(struct replica *r, uint64_t term, uint64_t deadline_ns)
{
    for (;;) {
        const struct raft_state rs = raft_get_state(r->raft);

        if (r->life != REPLICA_INIT || rs.role != RAFT_LEADER || rs.term != term) {
            return FAIL(STATUS_NOT_LEADER, "leadership moved while the range was drained");
        }
        if (r->proposals_count == 0 && r->applied.index == rs.last) {
            return OK;
        }
        TRY(replica__wait_progress(r, deadline_ns));
    }
}

struct status change__hold(struct replica *r, uint64_t deadline_ns)
{
    const uint64_t latest = env_mono_ns(shard_env(r->store->shard)) + DRAIN_NS;
    struct status st = OK;

    INVARIANT(r->changing);
    if (change__held(r)) {
        return FAIL(STATUS_OVERLOADED, "another change of the range is not decided yet");
    }
    r->held = true;
    st = drain(r, raft_get_state(r->raft).term, deadline_ns < latest ? deadline_ns : latest);
    if (!status_ok(st)) {
        change__release(r);
    }
    return st;
}

void change__hold_until_applied(struct replica *r)
{
    const struct raft_state rs = raft_get_state(r->raft);

    INVARIANT(r->held);
    r->hold_index = rs.last;
    r->hold_term = rs.term;
}

void change__look_at_hold(struct replica *r)
{
    const struct raft_state rs = raft_get_state(r->raft);

    if (r->hold_index != 0 &&
        (r->applied.index >= r->hold_index || rs.role != RAFT_LEADER || rs.term != r->hold_term)) {
        change__release(r);
    } else if (!change__held(r)) {
        wait_queue_wake_all(&r->serving); /* An UNFREEZE. */
    }
}
