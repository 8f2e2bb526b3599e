/*
 * lease.c -- a lease is a Raft term plus a marker in the log.
 *
 * The problem: a leader that answers reads from its own data must be sure that nobody else was
 * elected meanwhile. A quorum of stores has promised not to elect anyone before LSU (lead support
 * until); below that time the leader of the term may serve, once the marker LEASE_START of its term
 * has applied here, so that everything before it has applied too.
 *
 * Disjointness: whoever is elected next got a vote of a store that had promised until LSU and whose
 * clock has passed it; that reading travelled with the vote, so the next lease starts above LSU,
 * and we serve nothing that needs a time at or above LSU. What we serve needs at least our present plus
 * max_offset: then leases are disjoint in true time as well, and no read of ours is older than a write
 * that the next leader has acknowledged.
 *
 * Source: protocol reference 3.6; CockroachDB's leader leases. Differs: no lease record.
 */
#include "node/base/invariant.h"
#include "node/range/internal.h"

static void start_lease(struct replica *r, uint64_t term)
{
    const struct command c = {
        .kind = COMMAND_LEASE_START,
        /* Read after the election is won and after every vote's envelope moved our clock. */
        .start_ts = hts_max(hclock_hts(hlc_now(r->store->hlc)), r->applied.floor),
        .target = r->id,
    };
    const struct status st = proposal__append(r, &c, RAFT_ENTRY_NORMAL, term, NULL);

    if (!status_ok(st)) {
        LOG_WARN("lease.start_failed", U64("range", r->range.v), STR("why", status_text(st)));
        r->lease_retry_term = term; /* At the next tick. */
        return;
    }
    r->lease_proposed_term = term;
    r->lease_retry_term = 0;
    if (r->store->probe.lease_started != NULL) {
        r->store->probe.lease_started(r->store->probe.ctx, r->store->o.ident.store, r->range, term,
                                      c.start_ts);
    }
}

void lease__opened(struct replica *r, struct hts ts)
{
    r->lease_since_ns = r->lease_open ? r->lease_since_ns : shard_now_ns(r->store->shard);
    r->lease_open = true;
    r->floor =
        hts_max(r->floor, r->inherits && r->applied.lease_sequence == 1 ? r->inherited_floor : ts);
    r->inherits = false;
#ifdef DSQL_PLANTS
    r->floor = (r->store->o.plants & STORE_PLANT_NO_LEASE_FLOOR) != 0 ? HTS_ZERO : r->floor;
#endif
}

void lease__closed(struct replica *r)
{
    r->serving_term = 0;
    if (!r->lease_open) {
        return;
    }
    r->lease_open = false;
    r->floor = HTS_ZERO;
    lock_table_destroy(r->locks);
    r->locks = NULL;
    push__stop(r);
}

void lease__role_changed(struct replica *r)
{
    const struct raft_state rs = raft_get_state(r->raft);

    change__look_at_hold(r);
    if (rs.role != RAFT_LEADER || r->serving_term != rs.term) {
        side__leave(r);
    }
    if (rs.role != RAFT_LEADER) {
        if (list_empty(&r->ask_link)) {
            gone__heard(r); /* Followers wonder whether they still belong. */
        }
        lease__closed(r);
        load__reset(r);
        return;
    }
    if (r->lease_proposed_term == rs.term || r->lease_retry_term == rs.term) {
        return;
    }
    lease__closed(r); /* Of an earlier term, if we led then as well. */
    LOG_INFO("range.leader", U64("range", r->range.v), U64("term", rs.term));
    if (r->store->probe.became_leader != NULL) {
        r->store->probe.became_leader(r->store->probe.ctx, r->store->o.ident.store, r->range,
                                      rs.term);
    }
    start_lease(r, rs.term);
}

void lease__retry(struct replica *r)
{
    const struct raft_state rs = raft_get_state(r->raft);

    if (rs.role == RAFT_LEADER && r->lease_retry_term == rs.term && !rs.transferring) {
        start_lease(r, rs.term);
    }
}

struct status lease__check(struct replica *r, struct hts ts)
{
    const struct raft_state rs = raft_get_state(r->raft);
    struct hts need;
    struct hts limit;

#ifdef DSQL_PLANTS
    if ((r->store->o.plants & STORE_PLANT_READ_WITHOUT_LEASE) != 0 && r->applied.index > 0 &&
        r->applied.lease_holder.v == r->id.v) {
        return OK;
    }
#endif
    if (rs.role != RAFT_LEADER || r->serving_term != rs.term || rs.transferring ||
        r->revoked_index != 0) {
        return FAIL(STATUS_NOT_LEADER, "this replica does not hold the lease");
    }
    replica__refresh_view(r);
    /* Whoever is elected next may have a clock that is ahead of ours: what he has acknowledged before
     * our clock gets there must not be missed by a read of ours. */
    need = hts_max(ts, r->view.now);
    limit = hts_max(ts, hts_add_ns(r->view.now, r->store->hlc->max_offset_ns));
#ifdef DSQL_PLANTS
    limit = (r->store->o.plants & STORE_PLANT_SERVE_TO_THE_END) != 0 ? need : limit;
#endif
    if (!hts_less(limit, raft_lead_support_until(r->raft))) {
        return FAIL(STATUS_NOT_LEADER, "the lease is not supported by a quorum at present");
    }
    if (!hts_is_zero(ts) && r->store->probe.served != NULL) {
        r->store->probe.served(r->store->probe.ctx, r->store->o.ident.store, r->range, rs.term,
                               need);
    }
    return OK;
}

/* ---- handing over ------------------------------------------------------------------------------- */

#define TRANSFER_NS ((uint64_t)1000000000)

/* Waits until `index` is committed and the target has it, while we lead this term. */
MAYYIELD static struct status wait_revoked(struct replica *r, replica_id target, uint64_t index,
                                           uint64_t term, uint64_t deadline_ns)
{
    for (;;) {
        const struct raft_state rs = raft_get_state(r->raft);
        struct raft_progress pr;

        if (r->life != REPLICA_INIT || rs.role != RAFT_LEADER || rs.term != term) {
            return FAIL(STATUS_NOT_LEADER, "leadership moved during the transfer");
        }
        if (rs.commit >= index && raft_get_progress(r->raft, target, &pr) && pr.match >= index) {
            return OK;
        }
        TRY(replica__wait_progress(r, deadline_ns));
    }
}

MAYYIELD static struct status wait_drained(struct replica *r, uint64_t deadline_ns)
{
    while (r->proposals_count > 0) {
        TRY(replica__wait_progress(r, deadline_ns));
    }
    return OK;
}

MAYYIELD static struct status transfer(struct replica *r, replica_id target, uint64_t deadline_ns)
{
    const uint64_t term = raft_get_state(r->raft).term;
    struct command c = {.kind = COMMAND_LEASE_REVOKE, .target = target};
    struct status st = OK;

    replica__refresh_view(r);
    TRY(raft_transfer_begin(r->raft, target)); /* From here on lease__check() refuses. */
    side__leave(r); /* Nor may anything be closed: the next lease may start at any time. */
    TRY_OUT(wait_drained(r, deadline_ns));
    c.start_ts = hclock_hts(hlc_now(r->store->hlc));
    TRY_OUT(proposal__append(r, &c, RAFT_ENTRY_NORMAL, term, NULL));
    r->revoked_index = raft_get_state(r->raft).last;
    TRY_OUT(wait_revoked(r, target, r->revoked_index, term, deadline_ns));
    replica__refresh_view(r);
    TRY_OUT(raft_transfer_finish(r->raft));
    r->revoked_index = 0;
    lease__closed(r);
    store__mark_dirty(r);
    return OK;
out:
    if (r->life == REPLICA_INIT && raft_get_state(r->raft).role == RAFT_LEADER &&
        raft_get_state(r->raft).term == term) {
        raft_transfer_abort(r->raft);
        if (r->revoked_index != 0) {
            r->revoked_index = 0;
            lease__closed(r);
            start_lease(r, term); /* A new interval of the same term. */
        }
        store__mark_dirty(r);
    }
    r->revoked_index = 0;
    return st;
}

struct status store_transfer_lease(struct store *s, range_id range, store_id target,
                                   uint64_t deadline_ns)
{
    struct replica *r = NULL;
    const struct range_replica *peer = NULL;
    const uint64_t latest = env_mono_ns(shard_env(s->shard)) + TRANSFER_NS;
    struct status st = FAIL(STATUS_INVALID, "the target is no voter of the range");

    TRY(replica__begin_change(s, range, &r));
    peer = range_desc_find(&r->desc, target);
    if (peer != NULL && peer->type == RANGE_VOTER) {
        st = transfer(r, peer->id, deadline_ns < latest ? deadline_ns : latest);
    }
    replica__end_change(r);
    return st;
}
