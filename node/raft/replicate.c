/*
 * replicate.c -- getting the leader's log to everybody and knowing when a quorum has it.
 *
 * Follower. An App names the entry before its first one; if we have that entry, the logs agree up to
 * it (log matching) and the rest is appended, replacing a conflicting suffix. If not, the reject
 * carries a hint: our largest index whose term is not above the one asked for. The leader skips in
 * the same way on its side, so that finding the common point costs one round trip per term (2.4.5).
 * The acknowledgement names what will be durable when it leaves; it is queued behind the write.
 *
 * What is committed is never replaced. An App that would is nonsense and refused; if a real leader
 * sent it, Raft itself would be broken, and nothing here could repair it.
 *
 * Leader. raft__flush() builds Apps once per Ready, straight from the log. Three things make it look
 * at a peer: new entries, a higher commit index, and `ping`: an empty App behind everything sent
 * before. Without heartbeats (fortified ranges have none) the ping is what notices a lost App: the
 * peer rejects it if something before it is missing. An unanswered peer is pinged once per interval
 * until it has acknowledged the last entry and the last commit index.
 *
 * Commit. The largest index that a quorum (of both halves) has durable, our own disk included, but
 * only if its entry is of our own term (thesis 3.6.2): an older entry, even on a quorum, may still be
 * overwritten by a leader that does not have it. It is committed by the first one of our term.
 */
#include <stdlib.h>

#include "node/raft/raft_internal.h"

/* Follower. */

static void acknowledge(struct raft *r, replica_id to, uint64_t index)
{
    raft__send(r, (struct raft_msg){.type = RAFT_MSG_APP_RESP, .to = to, .index = index});
}

static void reject(struct raft *r, const struct raft_msg *m)
{
    uint64_t hint_term = 0;
    const uint64_t hint = raft__log_hint(&r->log, m->index, m->log_term, &hint_term);

    raft__send(r, (struct raft_msg){.type = RAFT_MSG_APP_RESP,
                                    .to = m->from,
                                    .index = m->index,
                                    .reject = true,
                                    .hint_index = hint,
                                    .hint_term = hint_term});
}

static bool entries_consistent(const struct raft_msg *m)
{
    uint64_t term = m->log_term;

    for (uint32_t i = 0; i < m->entries_count; i++) {
        const struct raft_entry *e = &m->entries[i];

        if (e->index != m->index + 1 + i || e->term < term || e->term > m->term ||
            (unsigned)e->kind > RAFT_ENTRY_CONF || e->term == 0) {
            return false;
        }
        term = e->term;
    }
    return m->log_term <= m->term;
}

/* Appends what is new; whatever contradicts it goes. */
static struct status append_entries(struct raft *r, const struct raft_msg *m)
{
    uint32_t skip = 0;
    bool cut = false;

    while (skip < m->entries_count &&
           raft__log_matches(&r->log, m->entries[skip].index, m->entries[skip].term)) {
        skip++;
    }
    if (skip == m->entries_count) {
        return OK;
    }
    cut = m->entries[skip].index <= raft__log_last(&r->log);
    if (cut && m->entries[skip].index <= r->hs.commit) {
        return FAIL(STATUS_INVALID, "raft: would replace a committed entry");
    }
    if (cut && raft__planted(r, RAFT_PLANT_NO_TRUNCATE_CONFLICT)) {
        while (skip < m->entries_count && m->entries[skip].index <= raft__log_last(&r->log)) {
            skip++;
        }
        cut = false;
        if (skip < m->entries_count && m->entries[skip].term < raft__log_last_term(&r->log)) {
            return OK;
        }
    }
    TRY(raft__log_reserve(&r->log, m->entries_count - skip, cut));
    if (cut) {
        raft__log_cut(&r->log, m->entries[skip].index,
                      skip == 0 ? m->log_term : m->entries[skip - 1].term);
    }
    for (; skip < m->entries_count; skip++) {
        (void)blob_acquire(m->entries[skip].payload);
        raft__log_push(&r->log, m->entries[skip]);
    }
    return OK;
}

struct status raft__handle_app(struct raft *r, const struct raft_msg *m)
{
    const uint64_t last_new = m->index + m->entries_count;

    if (!entries_consistent(m)) {
        return FAIL(STATUS_INVALID, "raft: entries contradict themselves");
    }
    r->truncate_hint = r->truncate_hint < m->truncate_hint ? m->truncate_hint : r->truncate_hint;
    if (m->index < r->hs.commit) {
        acknowledge(r, m->from, r->hs.commit); /* The logs agree at least that far. */
        return OK;
    }
    if (!raft__log_matches(&r->log, m->index, m->log_term)) {
        reject(r, m);
        return OK;
    }
    TRY(append_entries(r, m));
    raft__commit_to(r, m->commit < last_new ? m->commit : last_new);
    acknowledge(r, m->from, last_new);
    return OK;
}

void raft__handle_heartbeat(struct raft *r, const struct raft_msg *m)
{
    const uint64_t last = raft__log_last(&r->log);

    raft__commit_to(r, m->commit < last ? m->commit : last);
    raft__send(r, (struct raft_msg){.type = RAFT_MSG_HEARTBEAT_RESP, .to = m->from});
}

struct status raft__handle_snapshot(struct raft *r, const struct raft_msg *m)
{
    struct raft__snapshot *s = NULL;

    if (m->conf == NULL || !raft__conf_valid(m->conf) || raft__conf_find(m->conf, r->self) < 0 ||
        m->log_term == 0 || m->log_term > m->term || m->index == 0) {
        return FAIL(STATUS_INVALID, "raft: nonsensical snapshot");
    }
    if (m->index <= r->hs.commit) {
        acknowledge(r, m->from, r->hs.commit);
        return OK;
    }
    if (raft__log_matches(&r->log, m->index, m->log_term)) {
        raft__commit_to(r, m->index); /* We have all of it: no need to start over. */
        acknowledge(r, m->from, m->index);
        return OK;
    }
    s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    if (!status_ok(raft__log_reserve(&r->log, 0, true))) {
        free(s);
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    *s = (struct raft__snapshot){m->index, m->log_term, false, *m->conf};
    free(r->snapshot); /* An older one that is under way is superseded. */
    r->snapshot = s;
    raft__log_restore(&r->log, m->index, m->log_term);
    raft__commit_to(r, m->index);
    acknowledge(r, m->from, m->index);
    return OK;
}

/* Leader: answers. */

static struct raft__progress *progress_of(struct raft *r, replica_id id)
{
    const int at = r->role == RAFT_LEADER ? raft__conf_find(&r->conf, id) : -1;

    return at < 0 ? NULL : &r->lead->peers[at];
}

static void note_answer(struct raft__progress *p)
{
    p->recent_active = true;
    p->heard = true;
}

static void handle_ack(struct raft *r, struct raft__progress *p, uint64_t index)
{
    const bool news = raft__progress_ack(p, index);

    switch (p->state) {
    case RAFT_PROGRESS_PROBE:
        if (news || index == p->match) {
            raft__progress_replicate(p);
        }
        break;
    case RAFT_PROGRESS_REPLICATE:
        break;
    case RAFT_PROGRESS_SNAPSHOT:
        if (p->match >= r->log.truncated_index && news) {
            raft__progress_replicate(p); /* It arrived, or is not needed any more. */
        }
        break;
    }
    if (news) {
        raft__maybe_commit(r);
    }
    r->flush = true;
}

struct status raft__handle_app_resp(struct raft *r, const struct raft_msg *m)
{
    struct raft__progress *p = progress_of(r, m->from);
    uint64_t hint_term = 0;

    if (p == NULL) {
        return OK;
    }
    if (!m->reject && m->index > raft__log_last(&r->log)) {
        return FAIL(STATUS_INVALID, "raft: acknowledges what was never sent");
    }
    note_answer(p);
    if (!m->reject) {
        if (m->commit > p->acked_commit) {
            p->acked_commit = m->commit;
        }
        handle_ack(r, p, m->index);
        return OK;
    }
    if (raft__progress_reject(
            p, m->index,
            m->hint_term == 0 ? m->hint_index
                              : raft__log_hint(&r->log, m->hint_index, m->hint_term, &hint_term))) {
        r->flush = true;
    }
    return OK;
}

void raft__handle_heartbeat_resp(struct raft *r, const struct raft_msg *m)
{
    struct raft__progress *p = progress_of(r, m->from);

    if (p == NULL) {
        return;
    }
    p->recent_active = true;
    if (m->commit < p->acked_commit) {
        p->acked_commit = m->commit; /* It forgot: a commit index need not survive a restart. */
        p->ping = true;
        r->flush = true;
    }
    if (p->state == RAFT_PROGRESS_PROBE && p->probe_sent) {
        p->probe_sent = false;
        r->flush = true;
    }
}

void raft_report_unreachable(struct raft *r, replica_id peer)
{
    struct raft__progress *p = progress_of(r, peer);

    if (p != NULL && p->state == RAFT_PROGRESS_REPLICATE) {
        raft__progress_probe(p);
        p->probe_sent = true; /* The next interval looks again. */
    }
}

void raft_report_snapshot(struct raft *r, replica_id peer, bool ok)
{
    struct raft__progress *p = progress_of(r, peer);

    if (p == NULL || p->state != RAFT_PROGRESS_SNAPSHOT) {
        return;
    }
    if (!ok) {
        p->snapshot_index = 0;
    }
    raft__progress_probe(p);
    p->probe_sent = true;
}

void raft__maybe_commit(struct raft *r)
{
    uint64_t match[RAFT_PEERS_MAX] = {0};
    uint64_t term = 0;
    uint64_t index = 0;

    if (r->role != RAFT_LEADER) {
        return;
    }
    for (uint32_t i = 0; i < r->conf.count; i++) {
        const bool self = r->conf.peers[i].id.v == r->self.v;

        match[i] = self ? r->log.stable : r->lead->peers[i].match;
    }
    index = raft__conf_commit(&r->conf, match, r->plants);
    if (index <= r->hs.commit || !raft__log_term(&r->log, index, &term)) {
        return;
    }
    if (term == r->hs.term || raft__planted(r, RAFT_PLANT_COMMIT_OLD_TERM)) {
        raft__commit_to(r, index);
    }
}

/* Leader: sending. */

/* Entries from `lo` on for one App; from memory as a slice, else read back into a chunk. */
static struct status fetch(struct raft *r, uint64_t lo, const struct raft_entry **out,
                           uint32_t *count_out, uint64_t *bytes_out)
{
    const uint64_t last = raft__log_last(&r->log);
    uint32_t max =
        last - lo + 1 < RAFT_APP_ENTRIES_MAX ? (uint32_t)(last - lo + 1) : RAFT_APP_ENTRIES_MAX;
    struct raft__chunk *c = NULL;

    *bytes_out = 0;
    *count_out = 0;
    if (lo >= r->log.first) {
        *out = raft__log_at(&r->log, lo);
        while (*count_out < max) {
            const uint64_t len = blob_bytes((*out)[*count_out].payload).len;

            if (*count_out > 0 && *bytes_out + len > RAFT_APP_BYTES_TARGET) {
                break;
            }
            *bytes_out += len;
            (*count_out)++;
        }
        return OK;
    }
    c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    max = r->log.first - lo < max ? (uint32_t)(r->log.first - lo) : max;
    c->next = r->chunks;
    r->chunks = c;
    TRY(r->log.reader.entries(r->log.reader.ctx, lo, max, RAFT_APP_BYTES_TARGET, c->entries,
                              &c->count));
    for (uint32_t i = 0; i < c->count; i++) {
        *bytes_out += blob_bytes(c->entries[i].payload).len;
    }
    *out = c->entries;
    *count_out = c->count;
    return c->count > 0 ? OK : FAIL(STATUS_NOT_FOUND, "entries are not in the log");
}

/* The peer needs entries that are gone. Asks the owner for a snapshot, if the peer is there. */
static void want_snapshot(struct raft *r, uint32_t at)
{
    struct raft__progress *p = &r->lead->peers[at];
    struct raft_msg *m = NULL;

    if (!p->recent_active || r->applied == 0) {
        /* No snapshot for the void: first find out whether somebody is there. */
        raft__send(r, (struct raft_msg){.type = RAFT_MSG_HEARTBEAT, .to = r->conf.peers[at].id});
        p->probe_sent = true;
        return;
    }
    m = raft__outbox_push(&r->out_now);
    if (m != NULL) {
        *m = (struct raft_msg){.type = RAFT_MSG_SNAP,
                               .from = r->self,
                               .to = r->conf.peers[at].id,
                               .term = r->hs.term,
                               .index = r->applied};
        raft__progress_snapshot(p, r->applied);
    }
}

/* One App behind everything sent before. False when nothing more can be sent to this peer now. */
static bool send_app(struct raft *r, uint32_t at, bool with_entries, uint64_t hint)
{
    struct raft__progress *p = &r->lead->peers[at];
    const uint64_t prev = p->next - 1;
    const struct raft_entry *entries = NULL;
    uint64_t prev_term = 0;
    uint64_t bytes = 0;
    uint32_t count = 0;
    struct raft_msg *m = NULL;

    if (!raft__log_term(&r->log, prev, &prev_term)) {
        want_snapshot(r, at);
        return false;
    }
    if (with_entries && p->next <= raft__log_last(&r->log) &&
        !status_ok(fetch(r, p->next, &entries, &count, &bytes))) {
        p->probe_sent = true; /* Cannot be read now: the next interval tries again. */
        return false;
    }
    m = raft__outbox_push(&r->out_now);
    if (m == NULL) {
        return false;
    }
    *m = (struct raft_msg){
        .type = RAFT_MSG_APP,
        .from = r->self,
        .to = r->conf.peers[at].id,
        .term = r->hs.term,
        .index = prev,
        .log_term = prev_term,
        .commit = r->hs.commit,
        .match = p->match,
        .truncate_hint = hint,
        .entries = entries,
        .entries_count = count,
    };
    p->ping = false;
    p->sent_commit = r->hs.commit < prev + count ? r->hs.commit : prev + count;
    if (p->state == RAFT_PROGRESS_PROBE) {
        p->probe_sent = true;
    } else if (count > 0) {
        raft__progress_sent(p, prev + count, bytes);
    }
    return true;
}

void raft__flush(struct raft *r)
{
    const uint64_t last = raft__log_last(&r->log);
    uint64_t hint = 0;

    if (r->role != RAFT_LEADER) {
        return;
    }
    hint = raft_truncate_hint(r);
    for (uint32_t i = 0; i < r->conf.count; i++) {
        struct raft__progress *p = &r->lead->peers[i];
        bool more = r->conf.peers[i].id.v != r->self.v;

        while (more && p->state != RAFT_PROGRESS_SNAPSHOT && p->next <= last &&
               !raft__progress_paused(p)) {
            /* A probe of a peer that does not answer carries no payload. */
            more = send_app(r, i, p->state == RAFT_PROGRESS_REPLICATE || p->recent_active, hint);
        }
        if (more && p->state == RAFT_PROGRESS_PROBE && !p->probe_sent) {
            (void)send_app(r, i, false, hint);
        }
        if (more && p->state == RAFT_PROGRESS_REPLICATE &&
            (p->ping || (p->sent_commit < r->hs.commit && p->sent_commit < p->next - 1))) {
            (void)send_app(r, i, false, hint);
        }
    }
}

/* Once per interval: whoever owes us an answer is asked again, whoever is not fortified hears us. */
void raft__tick_probe(struct raft *r)
{
    const uint64_t last = raft__log_last(&r->log);

    for (uint32_t i = 0; i < r->conf.count; i++) {
        struct raft__progress *p = &r->lead->peers[i];

        if (r->conf.peers[i].id.v == r->self.v) {
            continue;
        }
        if (!raft__peer_fortified(r, i)) {
            raft__fortify_peer(r, i);
            raft__send(
                r, (struct raft_msg){.type = RAFT_MSG_HEARTBEAT,
                                     .to = r->conf.peers[i].id,
                                     .commit = p->match < r->hs.commit ? p->match : r->hs.commit});
        }
        p->probe_sent = false;
        p->ping = !p->heard && (p->match < last || p->acked_commit < r->hs.commit);
        p->heard = false;
        r->flush = true;
    }
}

/* Peers that need what is below `cut` do not count. */
static uint64_t truncate_hint(const struct raft *r, uint64_t cut)
{
    uint64_t hint = r->applied < r->log.stable ? r->applied : r->log.stable;

    if (r->role != RAFT_LEADER) {
        const uint64_t said = r->truncate_hint < cut ? cut : r->truncate_hint;

        return said < hint ? said : hint;
    }
    for (uint32_t i = 0; i < r->conf.count; i++) {
        const struct raft__progress *p = &r->lead->peers[i];
        uint64_t need = p->match;

        if (r->conf.peers[i].id.v == r->self.v) {
            continue;
        }
        if (p->state == RAFT_PROGRESS_SNAPSHOT) {
            need = p->snapshot_index;
        } else if ((!p->recent_active && !raft__peer_live(r, i)) || need < cut) {
            continue;
        }
        hint = need < hint ? need : hint;
    }
    return hint;
}

uint64_t raft_truncate_hint(const struct raft *r)
{
    return truncate_hint(r, 0);
}

uint64_t raft_truncate_cut(const struct raft *r)
{
    return truncate_hint(r, r->log.truncated_index +
                                (raft__log_last(&r->log) - r->log.truncated_index) / 2);
}
