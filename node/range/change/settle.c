/*
 * settle.c -- a range that is frozen, and nobody comes to merge it.
 *
 * Its leader asks who knows: the leaseholder of the left range, which stood on the same stores when the
 * freeze was written, and is found through the index if it has moved. Merged: then there is nothing to do
 * but to wait until the left replica of this store applies that, or, when there is none, to go. Not
 * merged and never to be: UNFREEZE.
 *
 * A replica that cannot win an election any more, because its peers are merged away, asks as well, more
 * rarely (gone.c). It may go only if no left neighbour of this store could still want to absorb it
 * (protocol reference 10.6.9).
 */
#include "node/base/invariant.h"
#include "node/range/change/change.h"

#define META_END BYTES_LIT("\x06")

/* Asks the stores of a descriptor until one knows. */
MAYYIELD static struct status ask_stores(struct replica *r, const struct range_desc *d,
                                         uint64_t deadline_ns, enum ask_fate *out)
{
    for (uint32_t i = 0; i < d->replicas_count && *out == ASK_FATE_UNKNOWN; i++) {
        const struct status st = ask__fate(r, &d->replicas[i], deadline_ns, out);

        if (st.code == STATUS_CANCELLED) {
            return st;
        }
        if (r->life != REPLICA_INIT || r->applied.freeze.index == 0) {
            return OK; /* It was settled meanwhile. */
        }
        if (r->store->stopping) {
            return FAIL(STATUS_CANCELLED, "the store is stopping");
        }
    }
    return OK;
}

/* The left range as the index has it under its end, our start. */
MAYYIELD static struct status find_left(struct replica *r, uint64_t deadline_ns,
                                        struct arena *arena, bool *found, struct range_desc *out)
{
    struct range_request q = {.op = RANGE_OP_GET};
    struct range_batch b = {.requests = &q, .count = 1};
    struct range_result result;
    struct buf key = {0};
    struct key_enc k;
    struct status st = OK;

    *found = false;
    key_enc_init_buf(&k, &key);
    key_enc_meta(&k, bytes_cmp(r->desc.start, META_END) > 0 ? 2 : 1, r->desc.start);
    TRY_OUT(key_enc_finish(&k, &q.key));
    TRY_OUT(change__send(r->store, &b, deadline_ns, arena, &result));
    if (result.responses[0].found) {
        TRY_OUT(range_desc_decode(result.responses[0].value, arena, out));
        *found = out->id.v == r->applied.freeze.left.v;
    }
out:
    buf_deinit(&key);
    return st;
}

MAYYIELD static struct status find_fate(struct replica *r, uint64_t deadline_ns, enum ask_fate *out)
{
    const struct range_desc here = r->desc; /* Its keys are not looked at. */
    struct range_desc left;
    struct arena arena;
    bool found = false;
    struct status st = OK;

    *out = ASK_FATE_UNKNOWN;
    TRY(ask_stores(r, &here, deadline_ns, out));
    if (*out != ASK_FATE_UNKNOWN || r->life != REPLICA_INIT) {
        return OK;
    }
    arena_init(&arena, 0);
    st = find_left(r, deadline_ns, &arena, &found, &left);
    if (status_ok(st) && found && r->life == REPLICA_INIT) {
        st = ask_stores(r, &left, deadline_ns, out);
    }
    arena_deinit(&arena);
    return st;
}

MAYYIELD static struct status unfreeze(struct replica *r, uint64_t freeze_index,
                                       uint64_t deadline_ns)
{
    const struct command c = {.kind = COMMAND_UNFREEZE, .freeze_index = freeze_index};
    const uint64_t term = raft_get_state(r->raft).term;

    TRY(proposal__append(r, &c, RAFT_ENTRY_NORMAL, term, NULL));
    LOG_INFO("range.unfreezing", U64("range", r->range.v));
    while (r->applied.freeze.index == freeze_index) {
        const struct raft_state rs = raft_get_state(r->raft);

        if (r->life != REPLICA_INIT || rs.role != RAFT_LEADER || rs.term != term) {
            return FAIL(STATUS_NOT_LEADER, "leadership moved while the range was thawed");
        }
        TRY(replica__wait_progress(r, deadline_ns));
    }
    return OK;
}

/* Could a replica of this store still apply a MERGE that needs ours? */
static bool left_may_want(const struct replica *r)
{
    const struct replica *left = store__left_of(r);

    return store__find(r->store, r->applied.freeze.left) != NULL ||
           (left != NULL && bytes_eq(left->desc.end, r->desc.start));
}

MAYYIELD static struct status settle(struct replica *r, uint64_t deadline_ns)
{
    const uint64_t freeze_index = r->applied.freeze.index;
    enum ask_fate fate = ASK_FATE_UNKNOWN;

    TRY(find_fate(r, deadline_ns, &fate));
    /* We yielded: the answer is final, but it is about that freeze. */
    if (r->life != REPLICA_INIT || r->applied.freeze.index != freeze_index) {
        return OK;
    }
    switch (fate) {
    case ASK_FATE_UNKNOWN:
        return FAIL(STATUS_UNAVAILABLE, "nobody knows yet whether the range was merged");
    case ASK_FATE_MERGED:
        if (!left_may_want(r)) {
            replica__remove_for_ever(r, store__pending(r->store));
        }
        return OK;
    case ASK_FATE_CANCELLED:
        break;
    }
    return raft_get_state(r->raft).role == RAFT_LEADER
               ? unfreeze(r, freeze_index, deadline_ns)
               : FAIL(STATUS_NOT_LEADER, "the leader of the range has to thaw it");
}

struct status settle__merge(struct replica *r, uint64_t deadline_ns)
{
    struct status st = OK;

    if (r->applied.freeze.index == 0) {
        return OK;
    }
    if (r->settling) {
        return FAIL(STATUS_OVERLOADED, "the merge is being settled");
    }
    r->settling = true;
    st = settle(r, deadline_ns);
    r->settling = false;
    return st;
}

struct status store_settle_merge(struct store *s, range_id range, uint64_t deadline_ns)
{
    struct replica *r = store__find(s, range);
    struct status st = OK;

    if (r == NULL || r->life != REPLICA_INIT || s->stopping) {
        return FAIL(STATUS_RANGE_NOT_FOUND, "no such range on this store");
    }
    replica__acquire(r);
    s->fibers++;
    st = settle__merge(r, deadline_ns);
    s->fibers--;
    replica__release(r);
    wait_queue_wake_all(&s->idle);
    return st;
}
