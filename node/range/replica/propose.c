/*
 * propose.c -- the append gate: a command is appended in the term in which it was evaluated, or not
 * at all.
 *
 * Because the leader evaluates, (term, index) names a proposal for ever: when the index applies with
 * our term it was ours, with another term it certainly was not executed. Nothing is ever proposed
 * again, and no sequence numbers are checked when applying.
 */
#include <stdlib.h>

#include "node/base/invariant.h"
#include "node/range/internal.h"

struct proposal *proposal__create(const struct bytes *keys, uint32_t count)
{
    size_t bytes = 0;
    struct proposal *p = NULL;
    uint8_t *at = NULL;

    for (uint32_t i = 0; i < count; i++) {
        bytes += keys[i].len;
    }
    p = malloc(sizeof(*p) + count * sizeof(p->points[0]) + bytes);
    if (p == NULL) {
        return NULL;
    }
    memset(p, 0, sizeof(*p));
    list_init(&p->link);
    p->guard.points = p->points;
    p->guard.count = count;
    at = (uint8_t *)&p->points[count];
    for (uint32_t i = 0; i < count; i++) {
        memcpy(at, keys[i].ptr, keys[i].len);
        p->points[i].key = bytes_of(at, keys[i].len);
        at += keys[i].len;
    }
    return p;
}

void proposal__free(struct proposal *p)
{
    if (p != NULL) {
        closed_untrack(&p->write);
    }
    if (p != NULL) {
        admit__done(p);
        free(p);
    }
}

struct status proposal__append(struct replica *r, const struct command *c,
                               enum raft_entry_kind kind, uint64_t term, struct proposal *p)
{
    struct command promising = *c;
    struct raft_entry e = {.kind = kind};
    struct buf bytes = {.limit = RANGE_COMMAND_MAX + 65536};
    struct status st = OK;

    if (raft_get_state(r->raft).role != RAFT_LEADER || raft_get_state(r->raft).term != term) {
        return FAIL(STATUS_NOT_LEADER, "leadership moved during evaluation");
    }
    if (p != NULL && change__held(r)) {
        return FAIL(STATUS_WOULD_BLOCK, "a change of the range came in between");
    }
    if (p != NULL) {
        closed__untrack(r, p); /* A promise binds later entries only. */
    }
    promising.closed_ts = closed__attach(r, c->kind, term);
    TRY_OUT(command_encode(&promising, &bytes));
    e.payload = blob_copy(buf_bytes(&bytes));
    if (e.payload == NULL) {
        TRY_OUT(FAIL(STATUS_MEMORY, "out of memory"));
    }
    replica__refresh_view(r);
    st = c->kind == COMMAND_LEASE_REVOKE ? raft_propose_revoke(r->raft, &e)
                                         : raft_propose(r->raft, &e, 1);
    if (!status_ok(st)) {
        blob_release(e.payload);
        goto out;
    }
    if (p != NULL) {
        p->index = raft_get_state(r->raft).last;
        p->term = term;
        list_push_back(&r->proposals, &p->link);
        r->proposals_count++;
    }
    store__mark_dirty(r);
out:
    buf_deinit(&bytes);
    return st;
}

struct status proposal__wait(struct proposal *p, struct completion *c, const struct status *outcome,
                             uint64_t deadline_ns)
{
    const struct status st = completion_wait(c, deadline_ns);

    if (!status_ok(st) && !c->done) {
        /* Still under way: it will be freed when it applies. Nobody may touch our stack. When it was
         * fired after all, between the end of our wait and now, p is gone and the outcome stands. */
        p->waiter = NULL;
        return FAIL(STATUS_AMBIGUOUS, "gave up waiting for a write; it may still commit");
    }
    return *outcome; /* p may be gone by now. */
}
