/*
 * transfer.c -- handing leadership to a chosen voter without waiting for a promise to run out.
 *
 *     leader                                                      target
 *       begin: no more proposals
 *       propose_revoke: the lease ends with this entry  -- App -->  (like every entry)
 *       revocation committed, target has it
 *       finish: TimeoutNow, follower, DeFortify to all  --------->  campaigns at T+1, votes carry
 *                                                                   the transfer flag
 *
 * The revocation is committed before any voter is released. Every possible winner of the next
 * election, the target or another, therefore has it in its log and knows what the old lease served
 * (protocol 3.7.4). This is why finish insists on both conditions and why, after it, there is no way
 * back: TimeoutNow is out. Before it, abort simply lets proposals in again.
 */
#include "node/raft/raft_internal.h"

struct status raft__append_own(struct raft *r, struct raft_entry *entries, uint32_t count)
{
    TRY(raft__log_reserve(&r->log, count, false));
    for (uint32_t i = 0; i < count; i++) {
        entries[i].index = raft__log_last(&r->log) + 1;
        entries[i].term = r->hs.term;
        raft__log_push(&r->log, entries[i]);
        r->lead->uncommitted_bytes += blob_bytes(entries[i].payload).len;
        if (entries[i].kind == RAFT_ENTRY_CONF) {
            r->lead->pending_conf = entries[i].index;
        }
    }
    r->flush = true;
    return OK;
}

struct status raft_transfer_begin(struct raft *r, replica_id target)
{
    const int at = raft__conf_find(&r->conf, target);
    const struct raft__progress *p = NULL;

    if (r->role != RAFT_LEADER || r->lead->stepping_down) {
        return FAIL(STATUS_NOT_LEADER, "not leader");
    }
    if (r->lead->transfer_target.v != 0) {
        return FAIL(STATUS_INVALID, "another transfer is under way");
    }
    if (at < 0 || target.v == r->self.v) {
        return FAIL(STATUS_INVALID, "the target is no other peer");
    }
    p = &r->lead->peers[at];
    if (r->conf.peers[at].type != RAFT_VOTER && r->conf.peers[at].type != RAFT_VOTER_INCOMING) {
        return FAIL(STATUS_INVALID, "the target is no voter");
    }
    if (p->state != RAFT_PROGRESS_REPLICATE ||
        p->match + RAFT__TRANSFER_LAG_MAX < raft__log_last(&r->log)) {
        return FAIL(STATUS_INVALID, "the target is not caught up");
    }
    if (!raft__peer_live(r, (uint32_t)at)) {
        return FAIL(STATUS_INVALID, "the target's store is not live");
    }
    r->lead->transfer_target = target;
    r->lead->revoke_index = 0;
    return OK;
}

struct status raft_propose_revoke(struct raft *r, struct raft_entry *entry)
{
    if (r->role != RAFT_LEADER || r->lead->stepping_down) {
        return FAIL(STATUS_NOT_LEADER, "not leader");
    }
    if (r->lead->transfer_target.v == 0 || r->lead->revoke_index != 0 ||
        entry->kind != RAFT_ENTRY_NORMAL) {
        return FAIL(STATUS_INVALID, "no transfer that waits for its revocation");
    }
    TRY(raft__append_own(r, entry, 1));
    r->lead->revoke_index = entry->index;
    return OK;
}

struct status raft_transfer_finish(struct raft *r)
{
    const uint64_t term = r->hs.term;
    replica_id target = {0};
    int at = -1;

    if (r->role != RAFT_LEADER || r->lead->stepping_down) {
        return FAIL(STATUS_NOT_LEADER, "not leader");
    }
    target = r->lead->transfer_target;
    at = raft__conf_find(&r->conf, target);
    if (target.v == 0 || at < 0) {
        return FAIL(STATUS_INVALID, "no transfer to a present peer");
    }
    if (r->lead->revoke_index == 0 || r->hs.commit < r->lead->revoke_index ||
        r->lead->peers[at].match < r->lead->revoke_index) {
        return FAIL(STATUS_INVALID, "the revocation is not committed at the target yet");
    }
    raft__send(r, (struct raft_msg){.type = RAFT_MSG_TIMEOUT_NOW, .to = target});
    raft__become_follower(r, term, (replica_id){0});
    raft__broadcast_defortify(r);
    return OK;
}

void raft_transfer_abort(struct raft *r)
{
    if (r->role == RAFT_LEADER) {
        r->lead->transfer_target = (replica_id){0};
        r->lead->revoke_index = 0;
    }
}

void raft__handle_timeout_now(struct raft *r, const struct raft_msg *m)
{
    if (r->role == RAFT_FOLLOWER && (r->leader.v == 0 || r->leader.v == m->from.v)) {
        raft__try_campaign(r, RAFT__CAMPAIGN_TRANSFER);
    }
}
