/*
 * election.c -- roles, votes, and how a leader gives up.
 *
 *                    timer, campaign             quorum says it would
 *     FOLLOWER -----------------> PRE_CANDIDATE ----------------------> CANDIDATE
 *      ^  ^  |                                                              | |
 *      |  |  +-------------------- TimeoutNow (transfer) ------------------>+ |  quorum of votes,
 *      |  |                                                                   |  the own one durable
 *      |  +---- a leader of this term, votes lost, higher term ---------------+
 *      |                                                                      v
 *      +--- finish of a transfer, now > LSU_max after stepping down ------- LEADER
 *
 * Pre-vote (thesis 9.6) is always on: a replica that cannot win does not disturb with a new term.
 * A real vote is durable before it leaves, also the own one: a candidate asks others only with the
 * same mark that makes its own vote durable, and counts itself when that mark completes.
 *
 * Who does not campaign:  learners; a replica with a snapshot under way or with a committed but
 * unapplied configuration change (its idea of a quorum is outdated); one that supports a live leader;
 * one that has no support from a quorum itself, since it could win and then serve nothing (protocol
 * 3.5.9). A transfer target skips the last two.
 *
 * Voters being demoted wait for one election timeout more than others, but do campaign. If they never
 * did, a group could be stuck for good: {1,2,3,4,5} commits "demote 1, 4 and 5" on 1, 4 and 5, appends
 * more there, and 1 fails. Now 2 and 3 are behind and 4 and 5 cannot vote for them. Elected like this,
 * such a leader brings the others up to date and transfers leadership before the joint state is left.
 *
 * Requests for votes and answers also carry the sender's commit index with the term of that entry.
 * Whoever has the same entry knows then that it is committed, whatever the terms of the messages are.
 * Without this a group can get stuck between two configurations: {1,2,3,4,5} became {1,4}; 1 knows it,
 * 4 has the entry but has not heard that it is committed, and needs votes of 2, 3 and 5, whose logs
 * are longer than its own; 1 in turn needs 4, whose log is longer by an entry (TiKV raft-rs has the
 * same remedy; the hole is that of etcd#12359).
 *
 * Who does not vote: a replica that supports a live leader, or has heard one within the election
 * timeout, or leads itself. Two things lift that: the transfer flag for exactly the next term (the
 * leader let go), and a candidate whose last entry is of a later term than ours (so a later leader
 * existed, hence the promise had already ended).
 *
 * Stepping down. A leader may have shown others that it leads until LSU_max. When it loses contact,
 * or hears of a higher term without a leader, it stops extending that promise, takes no proposals, and
 * becomes a follower only when the time has passed. A message of a later *elected* leader ends it at
 * once: such a leader exists only if the promise was over.
 */
#include <stdlib.h>
#include <string.h>

#include "node/raft/raft_internal.h"

static int self_position(const struct raft *r)
{
    return raft__conf_find(&r->conf, r->self);
}

void raft__restart_timer(struct raft *r, uint32_t elapsed)
{
    const uint64_t jitter = rng_below(&r->rng, (uint64_t)r->election_jitter_ticks + 1);
    const int at = self_position(r);

    r->elapsed = elapsed;
    r->timeout = r->election_ticks + 1 + (uint32_t)jitter;
    if (at >= 0 && r->conf.peers[at].type == RAFT_VOTER_DEMOTING) {
        r->timeout += r->election_ticks + r->election_jitter_ticks;
    }
}

void raft__free_leader(struct raft *r)
{
    if (r->lead != NULL) {
        for (uint32_t i = 0; i < RAFT_PEERS_MAX; i++) {
            raft__progress_deinit(&r->lead->peers[i]);
        }
        free(r->lead);
        r->lead = NULL;
    }
}

static void reset_candidacy(struct raft *r)
{
    memset(r->votes, RAFT__VOTE_NONE, sizeof(r->votes));
    r->self_vote_wanted = false;
    r->self_vote_seq = 0;
    r->transfer_campaign = false;
}

static void enter_term(struct raft *r, uint64_t term)
{
    INVARIANT(term >= r->hs.term);
    if (term != r->hs.term) {
        /* Answers that no Ready took yet would speak of entries, votes and promises that will now
         * never reach the disk. Nobody needs them: their term is over. */
        r->after.count = 0;
        r->hs.term = term;
        r->hs.vote = (replica_id){0};
        r->hs.lead = (replica_id){0};
        r->hs.lead_epoch = 0;
    }
}

void raft__become_follower(struct raft *r, uint64_t term, replica_id leader)
{
    if (r->role == RAFT_LEADER) {
        r->defortify_term = r->hs.term;
    }
    enter_term(r, term);
    raft__free_leader(r);
    reset_candidacy(r);
    r->role = RAFT_FOLLOWER;
    r->leader = leader;
    r->flush = false;
    raft__restart_timer(r, 0);
}

/* Campaigning. */

static bool promotable(const struct raft *r)
{
    const int at = self_position(r);

    return at >= 0 && r->snapshot == NULL && raft__is_voter(r->conf.peers[at].type);
}

/* Support from a quorum, ourselves counted: winning without it would be of no use. */
static bool supported_by_quorum(const struct raft *r)
{
    uint8_t votes[RAFT_PEERS_MAX] = {0};

    for (uint32_t i = 0; i < r->conf.count; i++) {
        const bool self = r->conf.peers[i].id.v == r->self.v;

        votes[i] = self || raft__peer_live(r, i) ? RAFT__VOTE_GRANTED : RAFT__VOTE_REFUSED;
    }
    return raft__conf_votes(&r->conf, votes) == RAFT__VOTES_WON;
}

static bool may_campaign(struct raft *r, enum raft__campaign how)
{
    if (r->role == RAFT_LEADER || !promotable(r) || r->hs.term >= RAFT__NUMBER_MAX) {
        return false;
    }
    if (how == RAFT__CAMPAIGN_ORDINARY && (raft__supporting(r) || !supported_by_quorum(r))) {
        return false;
    }
    if (raft__log_may_have_conf(&r->log, r->applied, r->hs.commit)) {
        return false;
    }
    if (r->lead == NULL) {
        r->lead = calloc(1, sizeof(*r->lead));
    }
    return r->lead != NULL;
}

/* 0 when it cannot be read; the receiver then learns nothing. */
static uint64_t term_of_commit(const struct raft *r)
{
    uint64_t term = 0;

    return raft__log_term(&r->log, r->hs.commit, &term) ? term : 0;
}

void raft__learn_commit(struct raft *r, const struct raft_msg *m)
{
    if (r->role != RAFT_LEADER && m->hint_term != 0 && m->commit > r->hs.commit &&
        raft__log_matches(&r->log, m->commit, m->hint_term)) {
        raft__commit_to(r, m->commit);
        if (r->role != RAFT_FOLLOWER &&
            raft__log_may_have_conf(&r->log, r->applied, r->hs.commit)) {
            raft__become_follower(r, r->hs.term, (replica_id){0}); /* First apply it, then again. */
        }
    }
}

static void ask_for_votes(struct raft *r, enum raft_msg_type type, uint64_t term)
{
    const uint64_t commit_term = term_of_commit(r);

    for (uint32_t i = 0; i < r->conf.count; i++) {
        const struct raft_peer *p = &r->conf.peers[i];

        if (p->id.v != r->self.v && raft__is_voter(p->type)) {
            raft__send(r, (struct raft_msg){.type = type,
                                            .to = p->id,
                                            .term = term,
                                            .index = raft__log_last(&r->log),
                                            .log_term = raft__log_last_term(&r->log),
                                            .commit = r->hs.commit,
                                            .hint_term = commit_term,
                                            .transfer = r->transfer_campaign});
        }
    }
}

static void become_candidate(struct raft *r, bool transfer)
{
    enter_term(r, r->hs.term + 1);
    reset_candidacy(r);
    r->role = RAFT_CANDIDATE;
    r->leader = (replica_id){0};
    r->hs.vote = r->self;
    r->transfer_campaign = transfer;
    r->self_vote_wanted = true;
    raft__restart_timer(r, 0);
    ask_for_votes(r, RAFT_MSG_VOTE, r->hs.term);
}

static void become_leader(struct raft *r);

static void count_votes(struct raft *r)
{
    switch (raft__conf_votes(&r->conf, r->votes)) {
    case RAFT__VOTES_PENDING:
        return;
    case RAFT__VOTES_WON:
        if (r->role == RAFT_PRE_CANDIDATE) {
            become_candidate(r, false);
        } else if (r->votes[self_position(r)] == RAFT__VOTE_GRANTED) {
            become_leader(r); /* Never before our own vote, and with it the log, is durable. */
        }
        return;
    case RAFT__VOTES_LOST:
        raft__become_follower(r, r->hs.term, (replica_id){0});
        return;
    }
}

void raft__try_campaign(struct raft *r, enum raft__campaign how)
{
    if (!may_campaign(r, how)) {
        if (r->role != RAFT_LEADER) {
            raft__restart_timer(r, r->election_ticks); /* Soon again: only jitter in between. */
        }
        return;
    }
    if (how == RAFT__CAMPAIGN_TRANSFER) {
        become_candidate(r, true);
        return;
    }
    reset_candidacy(r);
    r->role = RAFT_PRE_CANDIDATE;
    r->leader = (replica_id){0};
    r->votes[self_position(r)] = RAFT__VOTE_GRANTED; /* Promises nothing, needs no disk. */
    raft__restart_timer(r, 0);
    if (raft__conf_votes(&r->conf, r->votes) != RAFT__VOTES_WON) {
        ask_for_votes(r, RAFT_MSG_PRE_VOTE, r->hs.term + 1);
    }
    count_votes(r);
}

static uint64_t tail_bytes(const struct raft *r)
{
    uint64_t bytes = 0;
    uint64_t i = r->hs.commit + 1 < r->log.first ? r->log.first : r->hs.commit + 1;

    for (; i <= raft__log_last(&r->log); i++) {
        bytes += blob_bytes(raft__log_at(&r->log, i)->payload).len;
    }
    return bytes;
}

static void become_leader(struct raft *r)
{
    const uint64_t last = raft__log_last(&r->log);

    INVARIANT(r->role == RAFT_CANDIDATE);
    INVARIANT(r->lead != NULL);
    INVARIANT(r->log.stable == last); /* Its own vote was durable, and all before it. */

    reset_candidacy(r);
    r->role = RAFT_LEADER;
    r->leader = r->self;
    r->defortify_term = 0;
    *r->lead = (struct raft__leader){
        .lsu_max = HTS_ZERO,
        .pending_conf = last, /* There may be one in the part that is not applied yet. */
        .uncommitted_bytes = tail_bytes(r),
    };
    raft__restart_timer(r, 0);
    r->beat_elapsed = 0;
    for (uint32_t i = 0; i < r->conf.count; i++) {
        raft__progress_init(&r->lead->peers[i], last);
        raft__fortify_peer(r, i);
    }
}

void raft__count_self_vote(struct raft *r)
{
    const int at = self_position(r);

    if (r->role == RAFT_CANDIDATE && at >= 0) {
        r->votes[at] = RAFT__VOTE_GRANTED;
        count_votes(r);
    }
}

void raft__handle_vote_response(struct raft *r, const struct raft_msg *m)
{
    const int at = raft__conf_find(&r->conf, m->from);
    bool mine = r->role == RAFT_CANDIDATE && m->type == RAFT_MSG_VOTE_RESP;

    if (m->type == RAFT_MSG_PRE_VOTE_RESP) {
        mine = r->role == RAFT_PRE_CANDIDATE && (m->reject || m->term == r->hs.term + 1);
    }
    if (!mine || at < 0 || r->votes[at] != RAFT__VOTE_NONE) {
        return;
    }
    r->votes[at] = m->reject ? RAFT__VOTE_REFUSED : RAFT__VOTE_GRANTED;
    count_votes(r);
}

/* Voting. */

/* True when a promise or recent contact forbids to help anybody against the present leader. */
static bool bound_to_leader(const struct raft *r, const struct raft_msg *m)
{
    if (r->role == RAFT_LEADER) {
        /* Also with proof of a later leader: only its messages, or the end of our promise, count. */
        return true;
    }
    if (m->log_term > r->hs.term) {
        return false;
    }
    if (m->type == RAFT_MSG_VOTE && m->transfer && m->term == r->hs.term + 1) {
        return false;
    }
    if (raft__planted(r, RAFT_PLANT_IGNORE_SUPPORT)) {
        return false;
    }
    return raft__supporting(r) || (r->leader.v != 0 && r->elapsed < r->election_ticks);
}

static bool log_up_to_date(const struct raft *r, const struct raft_msg *m)
{
    const uint64_t last_term = raft__log_last_term(&r->log);

    return m->log_term > last_term ||
           (m->log_term == last_term && m->index >= raft__log_last(&r->log));
}

static void answer(struct raft *r, const struct raft_msg *m, bool grant)
{
    const bool pre = m->type == RAFT_MSG_PRE_VOTE;

    raft__send(r, (struct raft_msg){
                      .type = pre ? RAFT_MSG_PRE_VOTE_RESP : RAFT_MSG_VOTE_RESP,
                      .to = m->from,
                      .term = pre && grant ? m->term : r->hs.term,
                      .commit = r->hs.commit,
                      .hint_term = term_of_commit(r),
                      .reject = !grant,
                  });
}

void raft__handle_vote_request(struct raft *r, const struct raft_msg *m)
{
    bool can_vote = false;

    if (m->term > r->hs.term) {
        if (bound_to_leader(r, m)) {
            return;
        }
        if (m->type == RAFT_MSG_VOTE) {
            raft__become_follower(r, m->term, (replica_id){0});
        }
    }
    can_vote = r->hs.vote.v == m->from.v || (r->hs.vote.v == 0 && r->leader.v == 0) ||
               (m->type == RAFT_MSG_PRE_VOTE && m->term > r->hs.term) ||
               (raft__planted(r, RAFT_PLANT_VOTE_TWICE) && r->role == RAFT_FOLLOWER);
    can_vote = can_vote && log_up_to_date(r, m);
    answer(r, m, can_vote);
    if (can_vote && m->type == RAFT_MSG_VOTE) {
        r->hs.vote = m->from;
        r->elapsed = 0;
    }
}

/* Giving up. */

void raft__step_down(struct raft *r, uint64_t term)
{
    INVARIANT(r->role == RAFT_LEADER);

    r->lead->stepping_down = true;
    r->lead->down_term = r->lead->down_term < term ? term : r->lead->down_term;
    raft__step_down_if_due(r);
}

void raft__step_down_if_due(struct raft *r)
{
    INVARIANT(r->role == RAFT_LEADER);

    if (!r->lead->stepping_down || !hts_less(r->lead->lsu_max, r->view->now)) {
        return;
    }
    raft__become_follower(r, r->lead->down_term, (replica_id){0});
    raft__broadcast_defortify(r);
}

/* Once per election timeout: have we heard of a quorum, or does one support us? */
void raft__tick_check_quorum(struct raft *r)
{
    uint8_t votes[RAFT_PEERS_MAX] = {0};

    if (++r->elapsed < r->election_ticks) {
        return;
    }
    r->elapsed = 0;
    for (uint32_t i = 0; i < r->conf.count; i++) {
        const bool self = r->conf.peers[i].id.v == r->self.v;
        const bool active = self || r->lead->peers[i].recent_active || raft__peer_fortified(r, i);

        votes[i] = active ? RAFT__VOTE_GRANTED : RAFT__VOTE_REFUSED;
        r->lead->peers[i].recent_active = false;
    }
    if (raft__conf_votes(&r->conf, votes) != RAFT__VOTES_WON) {
        raft__step_down(r, r->hs.term);
    }
}
