/*
 * membership.c -- replicas come and go by changing the descriptor.
 *
 *     absent -> LEARNER -> (snapshot, catches up) -> VOTER_INCOMING -> VOTER
 *     VOTER -> VOTER_DEMOTING -> LEARNER -> absent
 *
 * Each arrow is one command in the range's own log that carries the whole new descriptor: the Raft
 * configuration and the range-local row change at the same index, the index of ranges follows before the
 * next arrow (address.c). A voter is
 * added or removed through a joint configuration, so that the same code serves several at once
 * later. A change that stops half way (its leader died) is finished by whoever leads next.
 *
 * Source: protocol reference 10.7; Ongaro's thesis 4.3.
 */
#include "node/range/change/change.h"

#define STEP_RETRY_NS ((uint64_t)50000000)

static struct status propose_desc(struct replica *r, const struct range_desc *d)
{
    struct command c = {.kind = COMMAND_CONF};
    struct engine_batch ops;
    struct mvcc_reader reader;
    struct mvcc_writer w;
    struct arena arena;
    struct buf desc = {0};
    const uint64_t term = raft_get_state(r->raft).term;
    struct status st = OK;

    engine_batch_init(&ops);
    arena_init(&arena, 0);
    mvcc_reader_init(&reader, r->store->engine, NULL, ENGINE_TIER_ANY);
    mvcc_writer_init(&w, &reader, &ops, &arena);
    w.no_intents = true;
    TRY_OUT(lease__check(r, HTS_ZERO));
    TRY_OUT(range_desc_encode(d, &desc));
    TRY_OUT(change__put_desc(r, d, false, &w));
    c.desc = buf_bytes(&desc);
    c.ops = buf_bytes(&ops.ops);
    c.stats = w.stats;
    TRY_OUT(proposal__append(r, &c, RAFT_ENTRY_CONF, term, NULL));
out:
    mvcc_reader_deinit(&reader);
    engine_batch_deinit(&ops);
    arena_deinit(&arena);
    buf_deinit(&desc);
    return st;
}

/* Proposes until the core takes it: an earlier change must have applied, support must have caught up
 * with the old configuration. */
MAYYIELD static struct status propose_until_taken(struct replica *r, const struct range_desc *d,
                                                  uint64_t deadline_ns)
{
    for (;;) {
        const struct status st = propose_desc(r, d);

        if (st.code != STATUS_NOT_PROPOSED && st.code != STATUS_OVERLOADED) {
            return st;
        }
        if (env_mono_ns(shard_env(r->store->shard)) >= deadline_ns) {
            return FAIL(STATUS_TIMEOUT, "the range does not take a configuration change");
        }
        TRY(fiber_sleep(STEP_RETRY_NS));
        if (r->life != REPLICA_INIT || r->store->stopping ||
            r->desc.generation != d->generation - 1) {
            return FAIL(STATUS_NOT_LEADER, "the range changed meanwhile");
        }
    }
}

/* Proposes, waits until it applies and until the index knows. What applies in another term may be another
 * leader's change of the same generation: then ours was overwritten. */
MAYYIELD static struct status change_desc(struct replica *r, struct range_desc *d,
                                          uint64_t deadline_ns)
{
    const uint64_t base = d->generation; /* It was made from that one. */

    TRY(address__ensure(r, deadline_ns));
    if (r->desc.generation != base) {
        return FAIL(STATUS_NOT_LEADER, "the range changed meanwhile");
    }
    d->generation = base + 1;
    TRY(propose_until_taken(r, d, deadline_ns));
    TRY(change__wait_generation(r, d->generation, raft_get_state(r->raft).term, deadline_ns));
    return address__ensure(r, deadline_ns);
}

static void set_type(struct range_desc *d, store_id store, enum range_replica_type type)
{
    for (uint32_t i = 0; i < d->replicas_count; i++) {
        if (d->replicas[i].store.v == store.v) {
            d->replicas[i].type = type;
        }
    }
}

static void drop(struct range_desc *d, store_id store)
{
    for (uint32_t i = 0; i < d->replicas_count; i++) {
        if (d->replicas[i].store.v == store.v) {
            d->replicas[i] = d->replicas[--d->replicas_count];
            return;
        }
    }
}

/* One arrow of the drawing above. The copy keeps its bytes although r->desc changes under us. */
MAYYIELD static struct status step_type(struct replica *r, store_id store,
                                        enum range_replica_type type, uint64_t deadline_ns)
{
    struct arena arena;
    struct range_desc d;
    struct status st = OK;

    arena_init(&arena, 0);
    TRY_OUT(range_desc_dup(&arena, &r->desc, &d));
    set_type(&d, store, type);
    TRY_OUT(change_desc(r, &d, deadline_ns));
out:
    arena_deinit(&arena);
    return st;
}

MAYYIELD static struct status step_drop(struct replica *r, store_id store, uint64_t deadline_ns)
{
    struct arena arena;
    struct range_desc d;
    struct status st = OK;

    arena_init(&arena, 0);
    TRY_OUT(range_desc_dup(&arena, &r->desc, &d));
    drop(&d, store);
    TRY_OUT(change_desc(r, &d, deadline_ns));
out:
    arena_deinit(&arena);
    return st;
}

MAYYIELD static struct status step_add(struct replica *r, node_id node, store_id store,
                                       uint64_t deadline_ns)
{
    struct arena arena;
    struct range_desc d;
    struct status st = OK;

    if (r->desc.replicas_count == RAFT_PEERS_MAX) {
        return FAIL(STATUS_INVALID, "the range has as many replicas as it can have");
    }
    arena_init(&arena, 0);
    TRY_OUT(range_desc_dup(&arena, &r->desc, &d));
    d.replicas[d.replicas_count++] =
        (struct range_replica){node, store, {d.next_replica++}, RANGE_LEARNER};
    TRY_OUT(change_desc(r, &d, deadline_ns));
out:
    arena_deinit(&arena);
    return st;
}

/* A learner is promoted when it has what is committed now. */
MAYYIELD static struct status wait_caught_up(struct replica *r, store_id store,
                                             uint64_t deadline_ns)
{
    const uint64_t target = raft_get_state(r->raft).commit;

    for (;;) {
        const struct range_replica *peer = range_desc_find(&r->desc, store);
        struct raft_progress pr;

        if (r->life != REPLICA_INIT || peer == NULL ||
            raft_get_state(r->raft).role != RAFT_LEADER) {
            return FAIL(STATUS_NOT_LEADER, "leadership moved while a learner caught up");
        }
        if (raft_get_progress(r->raft, peer->id, &pr) && pr.match >= target) {
            return OK;
        }
        TRY(replica__wait_progress(r, deadline_ns));
    }
}

MAYYIELD static struct status promote(struct replica *r, store_id store, uint64_t deadline_ns)
{
    TRY(wait_caught_up(r, store, deadline_ns));
    TRY(step_type(r, store, RANGE_VOTER_INCOMING, deadline_ns));
    return step_type(r, store, RANGE_VOTER, deadline_ns);
}

/* While the configuration is joint only what made it so goes on: changes do not pile up. */
static struct status check_joint(const struct replica *r, store_id store)
{
    const struct range_replica *peer = range_desc_find(&r->desc, store);

    if (!range_desc_is_joint(&r->desc) || (peer != NULL && (peer->type == RANGE_VOTER_INCOMING ||
                                                            peer->type == RANGE_VOTER_DEMOTING))) {
        return OK;
    }
    return FAIL(STATUS_INVALID, "another change of the range is half done: finish it first");
}

MAYYIELD static struct status add_voter(struct replica *r, node_id node, store_id store,
                                        uint64_t deadline_ns)
{
    const struct range_replica *peer = NULL;

    TRY(check_joint(r, store));
    peer = range_desc_find(&r->desc, store);
    if (peer == NULL) {
        TRY(step_add(r, node, store, deadline_ns));
        peer = range_desc_find(&r->desc, store);
    }
    switch (peer->type) {
    case RANGE_VOTER:
        return OK;
    case RANGE_VOTER_INCOMING:
        return step_type(r, store, RANGE_VOTER, deadline_ns);
    case RANGE_VOTER_DEMOTING:
        TRY(step_type(r, store, RANGE_LEARNER, deadline_ns));
        break;
    case RANGE_LEARNER:
    case RANGE_NON_VOTER:
    case RANGE_REPLICA_TYPE_COUNT:
        break;
    }
    return promote(r, store, deadline_ns);
}

MAYYIELD static struct status remove_replica(struct replica *r, store_id store,
                                             uint64_t deadline_ns)
{
    const struct range_replica *peer = range_desc_find(&r->desc, store);
    replica_id gone = {0};

    if (peer == NULL) {
        return OK;
    }
    TRY(check_joint(r, store));
    if (peer->id.v == r->id.v) {
        return FAIL(STATUS_INVALID, "a leaseholder does not remove itself: move the lease first");
    }
    if (peer->type == RANGE_VOTER || peer->type == RANGE_VOTER_INCOMING) {
        TRY(step_type(r, store, RANGE_VOTER_DEMOTING, deadline_ns));
    }
    peer = range_desc_find(&r->desc, store);
    if (peer != NULL && peer->type == RANGE_VOTER_DEMOTING) {
        TRY(step_type(r, store, RANGE_LEARNER, deadline_ns));
    }
    gone = peer == NULL ? gone : peer->id;
    TRY(step_drop(r, store, deadline_ns));
    gone__tell(r, store, gone); /* It may not get the entry that removes it any more. */
    return OK;
}

struct status store_add_voter(struct store *s, range_id range, node_id node, store_id store,
                              uint64_t deadline_ns)
{
    struct replica *r = NULL;
    struct status st = OK;

    TRY(replica__begin_change(s, range, &r));
    st = add_voter(r, node, store, deadline_ns);
    replica__end_change(r);
    return st;
}

struct status store_remove_replica(struct store *s, range_id range, store_id store,
                                   uint64_t deadline_ns)
{
    struct replica *r = NULL;
    struct status st = OK;

    TRY(replica__begin_change(s, range, &r));
    st = remove_replica(r, store, deadline_ns);
    replica__end_change(r);
    return st;
}
