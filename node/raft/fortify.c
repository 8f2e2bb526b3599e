/*
 * fortify.c -- promises of followers to their leader, and what the leader may conclude from them.
 *
 * Store liveness (outside) lets store B support store A up to some time of A's clock, under an epoch
 * that ends for good when B withdraws. A follower that fortified its leader ties itself to that: as
 * long as its store supports the leader's store at the recorded epoch, it neither campaigns nor votes
 * for others. So heartbeats between stores replace those of thousands of ranges.
 *
 *     leader                          follower
 *       | Fortify{T} ------------------> | supports the store at epoch e: lead, lead_epoch = e
 *       |                                | (durable)
 *       | <-------------- FortifyResp{e} |
 *       | fortified[follower] = e        |
 *
 * The leader derives LSU, `lead support until`: per half of the configuration, the time that a quorum
 * of promises reaches; its own is what its store made durable (max_requested). LSU_max is the largest
 * value ever shown; the lease layer serves below it. It stands: any later quorum of voters shares a
 * replica with the one that promised, and that replica's clock has passed the promise before it votes.
 *
 * The promise ends when the store withdraws support, or by DeFortify: a leader that stopped leading
 * (for example because of a peer at a higher term) tells its followers, whose support for the store
 * would otherwise go on and block every election. It repeats that until it knows an entry of a later
 * term to be committed.
 */
#include "node/raft/raft_internal.h"

static const struct raft_peer *find_peer(const struct raft *r, replica_id id)
{
    const int at = raft__conf_find(&r->conf, id);

    return at < 0 ? NULL : &r->conf.peers[at];
}

/* A leader that is no peer in our applied configuration was replaced by a later leader: only such a
 * one could commit its removal (I-3.6). So an unknown store cannot be owed a promise. */
bool raft__supporting(const struct raft *r)
{
    const struct raft_peer *lead = find_peer(r, r->hs.lead);
    uint64_t epoch = 0;

    if (r->hs.lead_epoch == 0 || lead == NULL) {
        return false;
    }
    return r->view->support_for(r->view->ctx, lead->store, &epoch) && epoch == r->hs.lead_epoch;
}

/* `grace` ticks are left to others before our own jitter starts. */
static void end_support(struct raft *r, uint32_t grace)
{
    r->hs.lead = (replica_id){0};
    r->hs.lead_epoch = 0;
    if (r->role == RAFT_FOLLOWER) {
        r->leader = (replica_id){0};
        raft__restart_timer(r, grace < r->election_ticks ? r->election_ticks - grace : 0);
    }
}

void raft__check_support_end(struct raft *r)
{
    if (r->hs.lead_epoch != 0 && !raft__supporting(r)) {
        end_support(r, 0);
    }
}

static bool live_from(const struct raft *r, store_id store, uint64_t *epoch_out,
                      struct hts *expiration_out)
{
    *epoch_out = 0;
    *expiration_out = HTS_ZERO;
    r->view->support_from(r->view->ctx, store, epoch_out, expiration_out);
    return *epoch_out != 0 && hts_less(r->view->now, *expiration_out);
}

bool raft__peer_live(const struct raft *r, uint32_t at)
{
    uint64_t epoch = 0;
    struct hts expiration;

    return live_from(r, r->conf.peers[at].store, &epoch, &expiration);
}

bool raft__peer_fortified(const struct raft *r, uint32_t at)
{
    uint64_t epoch = 0;
    struct hts expiration;

    return live_from(r, r->conf.peers[at].store, &epoch, &expiration) &&
           r->lead->peers[at].fortified_epoch == epoch;
}

void raft__fortify_peer(struct raft *r, uint32_t at)
{
    if (r->conf.peers[at].id.v != r->self.v && !r->lead->stepping_down) {
        raft__send(r, (struct raft_msg){.type = RAFT_MSG_FORTIFY, .to = r->conf.peers[at].id});
    }
}

void raft__handle_fortify(struct raft *r, const struct raft_msg *m)
{
    const struct raft_peer *lead = find_peer(r, m->from);
    uint64_t epoch = 0;

    if (lead == NULL || !r->view->support_for(r->view->ctx, lead->store, &epoch) || epoch == 0) {
        raft__send(r,
                   (struct raft_msg){.type = RAFT_MSG_FORTIFY_RESP, .to = m->from, .reject = true});
        return;
    }
    r->hs.lead = m->from;
    r->hs.lead_epoch = epoch;
    raft__send(
        r, (struct raft_msg){.type = RAFT_MSG_FORTIFY_RESP, .to = m->from, .support_epoch = epoch});
}

void raft__handle_fortify_resp(struct raft *r, const struct raft_msg *m)
{
    const int at = raft__conf_find(&r->conf, m->from);
    struct raft__progress *p = NULL;

    if (r->role != RAFT_LEADER || at < 0) {
        return;
    }
    p = &r->lead->peers[at];
    p->recent_active = true;
    if (!m->reject && m->support_epoch > p->fortified_epoch) {
        p->fortified_epoch = m->support_epoch;
    }
}

void raft__handle_defortify(struct raft *r, const struct raft_msg *m)
{
    if (r->hs.lead.v == m->from.v || r->leader.v == m->from.v) {
        end_support(r, r->heartbeat_ticks); /* A transfer target goes first. */
    }
}

void raft__broadcast_defortify(struct raft *r)
{
    for (uint32_t i = 0; i < r->conf.count; i++) {
        if (r->conf.peers[i].id.v != r->self.v) {
            raft__send(r, (struct raft_msg){.type = RAFT_MSG_DE_FORTIFY,
                                            .to = r->conf.peers[i].id,
                                            .term = r->defortify_term});
        }
    }
}

bool raft__defortify_due(struct raft *r)
{
    uint64_t term = 0;

    if (r->defortify_term == 0) {
        return false;
    }
    if (raft__log_term(&r->log, r->hs.commit, &term) && term > r->defortify_term) {
        r->defortify_term = 0;
    }
    return r->defortify_term != 0;
}

struct hts raft__lsu_now(const struct raft *r)
{
    struct hts expirations[RAFT_PEERS_MAX];

    for (uint32_t i = 0; i < r->conf.count; i++) {
        const bool self = r->conf.peers[i].id.v == r->self.v;
        const store_id store = self ? r->store : r->conf.peers[i].store;
        uint64_t epoch = 0;

        expirations[i] = HTS_ZERO;
        r->view->support_from(r->view->ctx, store, &epoch, &expirations[i]);
        if (epoch == 0 || (!self && r->lead->peers[i].fortified_epoch != epoch)) {
            expirations[i] = HTS_ZERO;
        }
    }
    return raft__conf_support(&r->conf, expirations);
}

struct hts raft_lead_support_until(struct raft *r)
{
    if (r->role != RAFT_LEADER) {
        return HTS_ZERO;
    }
    if (!r->lead->stepping_down) {
        r->lead->lsu_max = hts_max(r->lead->lsu_max, raft__lsu_now(r));
    }
    return r->lead->lsu_max;
}

void raft_support_changed(struct raft *r, store_id store)
{
    raft__check_support_end(r);
    if (r->role != RAFT_LEADER) {
        return;
    }
    for (uint32_t i = 0; i < r->conf.count; i++) {
        if (r->conf.peers[i].store.v != store.v || r->conf.peers[i].id.v == r->self.v) {
            continue;
        }
        if (raft__peer_live(r, i) && !raft__peer_fortified(r, i)) {
            raft__fortify_peer(r, i);
            r->lead->peers[i].probe_sent = false; /* It slept: look at once what it has. */
            r->lead->peers[i].ping = true;
            r->flush = true;
        }
    }
}

/* A leader sleeps when it has told everybody everything that a live peer could want to know. */
static bool leader_quiet(const struct raft *r)
{
    const uint64_t last = raft__log_last(&r->log);
    uint8_t votes[RAFT_PEERS_MAX] = {0};

    if (r->lead->stepping_down || r->lead->transfer_target.v != 0 || r->hs.commit != last ||
        r->applied != last) {
        return false;
    }
    for (uint32_t i = 0; i < r->conf.count; i++) {
        const struct raft__progress *p = &r->lead->peers[i];

        votes[i] = RAFT__VOTE_GRANTED;
        if (r->conf.peers[i].id.v == r->self.v) {
            continue;
        }
        if (!raft__peer_live(r, i)) {
            votes[i] = RAFT__VOTE_REFUSED; /* Parked until raft_support_changed(). */
        } else if (!raft__peer_fortified(r, i) || p->state != RAFT_PROGRESS_REPLICATE ||
                   p->match != last || p->acked_commit != last) {
            return false;
        }
    }
    return raft__conf_votes(&r->conf, votes) == RAFT__VOTES_WON;
}

bool raft_quiet(const struct raft *r)
{
    if (raft_has_ready(r) || r->log.done_seq < r->log.mark_seq || r->snapshot != NULL) {
        return false;
    }
    if (r->role == RAFT_LEADER) {
        return leader_quiet(r);
    }
    return r->role == RAFT_FOLLOWER && r->defortify_term == 0 && raft__supporting(r) &&
           r->applied == r->hs.commit && r->hs.commit == raft__log_last(&r->log);
}
