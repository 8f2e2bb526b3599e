/*
 * raft.c -- the life of the core, the dispatch of messages and the Ready.
 *
 * Everything that happens to the core (a message, a tick, a completion, a proposal) changes state in
 * memory and queues messages; nothing else. raft_ready() then says in one piece what follows:
 *
 *     step, tick, propose, append_done ...          raft_ready()                  owner
 *     --------------------------------------> state -----------> hard state  ---> write, sync
 *                                             log   -----------> entries     ---> write, sync
 *                                             now   -----------> msgs_now    ---> send at once
 *                                             after -----------> msgs_after  ---> send when durable
 *                                             commit, stable --> apply range ---> apply
 *
 * Which messages wait. A message of a leader promises nothing about this replica's disk: its vote for
 * itself was durable before it asked others. Everything else (votes, requests for votes, all
 * responses) tells a peer about our term, vote, log or promise, and waits until that is durable. If
 * nothing is on its way to the disk there is nothing to wait for, and such messages leave at once.
 * Waiting is decided per Ready, by counting marks (log.c): as long as one is not completed, the next
 * such message takes another. Since completions come in order, it is then behind every write before.
 *
 * Apps are not queued as they become possible but built in raft_ready(), so that everything proposed
 * in one turn travels together; see raft__flush().
 *
 * Terms. A message of a higher term makes us follow it only if it proves something: that a leader was
 * elected (App, Heartbeat, Snap, Fortify, DeFortify), or that we may vote. While we support a leader,
 * or lead ourselves, other messages of a higher term do not move us (protocol 3.5.5): a replica that
 * comes back from a partition must not depose a leader whose lease is running. A leader that learns
 * of a peer stranded at a higher term steps down in good order (3.5.8), so that the peer can join.
 */
#include <stdlib.h>
#include <string.h>

#include "node/raft/raft_internal.h"

#define OUTBOX_CAP_FIRST 8u
#define OUTBOX_CAP_KEPT  64u

bool raft__planted(const struct raft *r, enum raft_plant plant)
{
#ifdef DSQL_PLANTS
    return (r->plants & (uint32_t)plant) != 0;
#else
    UNUSED(r);
    UNUSED(plant);
    return false;
#endif
}

static struct status check_options(const struct raft_options *o)
{
    if (o->self.v == 0 || o->store.v == 0 || o->view == NULL || !raft__conf_valid(&o->conf)) {
        return FAIL(STATUS_INVALID, "raft: no identity, view or valid configuration");
    }
    if (o->election_ticks == 0 || o->heartbeat_ticks == 0) {
        return FAIL(STATUS_INVALID, "raft: timeouts must be positive");
    }
    if (o->truncated_index > o->applied_index || o->applied_index > o->last_index ||
        o->hard_state.commit > o->last_index || o->truncated_term > o->hard_state.term) {
        return FAIL(STATUS_INVALID, "raft: stored state contradicts itself");
    }
    if (o->last_index > o->truncated_index && (o->log.term == NULL || o->log.entries == NULL)) {
        return FAIL(STATUS_INVALID, "raft: a stored log needs a reader");
    }
    return OK;
}

struct status raft_create(const struct raft_options *o, struct raft **out)
{
    struct raft *r = NULL;
    struct status st = OK;

    TRY(check_options(o));
    r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    r->self = o->self;
    r->store = o->store;
    r->view = o->view;
    r->election_ticks = o->election_ticks;
    r->election_jitter_ticks = o->election_jitter_ticks;
    r->heartbeat_ticks = o->heartbeat_ticks;
    r->plants = o->plants;
    rng_seed(&r->rng, o->seed);
    r->conf = o->conf;
    TRY_OUT(raft__log_init(&r->log, o));
    if (raft__log_last_term(&r->log) > o->hard_state.term) {
        st = FAIL(STATUS_INVALID, "raft: the log is of a later term than the hard state");
        goto out;
    }
    r->applied = o->applied_index;
    r->apply_handed = o->applied_index;
    r->hs = o->hard_state;
    if (r->hs.commit < r->applied) {
        r->hs.commit = r->applied; /* May lag: what is applied is committed. */
    }
    r->hs_handed = r->hs;
    r->leader = r->hs.lead;
    r->term_handed = r->hs.term;
    r->leader_handed = r->leader;
    raft__restart_timer(r, 0);
    *out = r;
    r = NULL;
out:
    raft_destroy(r);
    return st;
}

static void free_chunks(struct raft *r)
{
    while (r->chunks != NULL) {
        struct raft__chunk *c = r->chunks;

        r->chunks = c->next;
        for (uint32_t i = 0; i < c->count; i++) {
            blob_release(c->entries[i].payload);
        }
        free(c);
    }
}

void raft_destroy(struct raft *r)
{
    if (r == NULL) {
        return;
    }
    raft__free_leader(r);
    free_chunks(r);
    raft__log_deinit(&r->log);
    free(r->snapshot);
    free(r->now.msgs);
    free(r->after.msgs);
    free(r->out_now.msgs);
    free(r->out_after.msgs);
    free(r);
}

/* NULL when memory is out or the box is full: the message is lost, as on any network. */
struct raft_msg *raft__outbox_push(struct raft__outbox *box)
{
    if (box->count == box->cap) {
        const uint32_t cap = box->cap == 0 ? OUTBOX_CAP_FIRST : box->cap * 2;
        struct raft_msg *msgs = NULL;

        if (box->count >= RAFT__OUTBOX_MAX) {
            return NULL;
        }
        msgs = realloc(box->msgs, cap * sizeof(msgs[0]));
        if (msgs == NULL) {
            return NULL;
        }
        box->msgs = msgs;
        box->cap = cap;
    }
    return &box->msgs[box->count++];
}

static bool promises_durability(enum raft_msg_type type)
{
    switch (type) {
    case RAFT_MSG_APP:
    case RAFT_MSG_HEARTBEAT:
    case RAFT_MSG_SNAP:
    case RAFT_MSG_TIMEOUT_NOW:
    case RAFT_MSG_FORTIFY:
    case RAFT_MSG_DE_FORTIFY:
        return false;
    case RAFT_MSG_APP_RESP:
    case RAFT_MSG_PRE_VOTE:
    case RAFT_MSG_PRE_VOTE_RESP:
    case RAFT_MSG_VOTE:
    case RAFT_MSG_VOTE_RESP:
    case RAFT_MSG_HEARTBEAT_RESP:
    case RAFT_MSG_FORTIFY_RESP:
        return true;
    }
    return true;
}

/* One acknowledgement says what several would: only the last of a run is sent. */
static bool merge_ack(struct raft__outbox *box, const struct raft_msg *m)
{
    struct raft_msg *last = box->count == 0 ? NULL : &box->msgs[box->count - 1];

    if (last == NULL || m->type != RAFT_MSG_APP_RESP || last->type != RAFT_MSG_APP_RESP ||
        m->reject || last->reject || m->to.v != last->to.v || m->term != last->term) {
        return false;
    }
    last->index = last->index < m->index ? m->index : last->index;
    last->commit = m->commit;
    return true;
}

void raft__send(struct raft *r, struct raft_msg m)
{
    struct raft__outbox *box = promises_durability(m.type) ? &r->after : &r->now;
    struct raft_msg *slot = NULL;

    m.from = r->self;
    m.term = m.term == 0 ? r->hs.term : m.term;
    if (m.type == RAFT_MSG_APP_RESP || m.type == RAFT_MSG_HEARTBEAT_RESP) {
        m.commit = r->hs.commit;
    }
    if (m.type == RAFT_MSG_APP_RESP && raft__planted(r, RAFT_PLANT_ACK_BEFORE_DURABLE)) {
        box = &r->now;
    }
    if (merge_ack(box, &m)) {
        return;
    }
    slot = raft__outbox_push(box);
    if (slot != NULL) {
        *slot = m;
    }
}

void raft__commit_to(struct raft *r, uint64_t index)
{
    INVARIANT(index <= raft__log_last(&r->log));

    if (index <= r->hs.commit) {
        return;
    }
    if (r->role == RAFT_LEADER) {
        const uint64_t lo = r->hs.commit + 1 < r->log.first ? r->log.first : r->hs.commit + 1;

        for (uint64_t i = lo; i <= index; i++) {
            const uint64_t bytes = blob_bytes(raft__log_at(&r->log, i)->payload).len;

            r->lead->uncommitted_bytes -=
                bytes < r->lead->uncommitted_bytes ? bytes : r->lead->uncommitted_bytes;
        }
        r->flush = true;
    }
    r->hs.commit = index;
}

/* Time. */

static void tick_leader(struct raft *r, bool beat)
{
    raft__step_down_if_due(r);
    if (r->role == RAFT_LEADER) {
        raft__tick_check_quorum(r);
    }
    if (r->role == RAFT_LEADER && beat) {
        raft__tick_probe(r);
    }
}

void raft_tick(struct raft *r)
{
    const bool beat = ++r->beat_elapsed >= r->heartbeat_ticks;

    if (beat) {
        r->beat_elapsed = 0;
        if (raft__defortify_due(r)) {
            raft__broadcast_defortify(r);
        }
    }
    if (r->role == RAFT_LEADER) {
        tick_leader(r, beat);
        return;
    }
    if (beat && r->leader.v != 0 && r->hs.commit < raft__log_last(&r->log)) {
        /* We know of entries whose fate we do not know (perhaps only since a restart): the leader
         * may sleep, believing that we do. */
        raft__send(r, (struct raft_msg){.type = RAFT_MSG_HEARTBEAT_RESP, .to = r->leader});
    }
    raft__check_support_end(r);
    if (raft__supporting(r)) {
        r->elapsed = 0;
        return;
    }
    r->elapsed++;
    if (r->elapsed >= r->timeout) {
        raft__try_campaign(r, RAFT__CAMPAIGN_ORDINARY);
    }
}

/* Messages. */

static bool from_elected_leader(enum raft_msg_type type)
{
    return type == RAFT_MSG_APP || type == RAFT_MSG_HEARTBEAT || type == RAFT_MSG_SNAP ||
           type == RAFT_MSG_FORTIFY || type == RAFT_MSG_DE_FORTIFY;
}

static bool sane(const struct raft *r, const struct raft_msg *m)
{
    return (unsigned)m->type <= RAFT_MSG_DE_FORTIFY && m->to.v == r->self.v && m->from.v != 0 &&
           m->from.v != r->self.v && m->term > 0 && m->term <= RAFT__NUMBER_MAX &&
           m->index <= RAFT__NUMBER_MAX && m->log_term <= RAFT__NUMBER_MAX &&
           m->commit <= RAFT__NUMBER_MAX && m->hint_index <= RAFT__NUMBER_MAX &&
           (m->entries_count == 0 || m->entries != NULL);
}

/* A message of an older term. Its sender may be a leader that missed an election: tell it. */
static void step_lower_term(struct raft *r, const struct raft_msg *m)
{
    if (m->type == RAFT_MSG_APP || m->type == RAFT_MSG_HEARTBEAT || m->type == RAFT_MSG_SNAP ||
        m->type == RAFT_MSG_FORTIFY) {
        raft__send(r, (struct raft_msg){.type = RAFT_MSG_APP_RESP, .to = m->from, .reject = true});
    } else if (m->type == RAFT_MSG_PRE_VOTE) {
        raft__send(
            r, (struct raft_msg){.type = RAFT_MSG_PRE_VOTE_RESP, .to = m->from, .reject = true});
    }
}

/* Brings us to the term of the message where that is right. False: the message ends here. */
static bool step_higher_term(struct raft *r, const struct raft_msg *m)
{
    if (m->type == RAFT_MSG_PRE_VOTE || m->type == RAFT_MSG_VOTE) {
        return true; /* The handler decides whether it counts. */
    }
    if (m->type == RAFT_MSG_PRE_VOTE_RESP && !m->reject) {
        return true; /* Carries the term that we would campaign at. */
    }
    if (from_elected_leader(m->type)) {
        raft__become_follower(r, m->term,
                              m->type == RAFT_MSG_DE_FORTIFY ? (replica_id){0} : m->from);
        return true;
    }
    if (m->type == RAFT_MSG_TIMEOUT_NOW) {
        return false; /* Whoever sent it was the leader of a term that we never joined. */
    }
    if (r->role == RAFT_LEADER) {
        raft__step_down(r, m->term);
    } else if (!raft__supporting(r)) {
        raft__become_follower(r, m->term, (replica_id){0});
    }
    return false; /* A response to a request of ours would have our term. */
}

/* At our term from its leader: stop campaigning, start following. False when it contradicts. */
static bool follow(struct raft *r, const struct raft_msg *m)
{
    if (r->role == RAFT_LEADER || (r->leader.v != 0 && r->leader.v != m->from.v)) {
        return false;
    }
    if (m->type == RAFT_MSG_DE_FORTIFY) {
        return true;
    }
    if (r->role != RAFT_FOLLOWER) {
        raft__become_follower(r, m->term, m->from);
    }
    r->leader = m->from;
    r->elapsed = 0;
    return true;
}

static struct status step_same_term(struct raft *r, const struct raft_msg *m)
{
    if (from_elected_leader(m->type) && !follow(r, m)) {
        return FAIL(STATUS_INVALID, "raft: a second leader of one term");
    }
    switch (m->type) {
    case RAFT_MSG_APP:
        return raft__handle_app(r, m);
    case RAFT_MSG_APP_RESP:
        return raft__handle_app_resp(r, m);
    case RAFT_MSG_PRE_VOTE:
    case RAFT_MSG_VOTE:
        raft__handle_vote_request(r, m);
        return OK;
    case RAFT_MSG_PRE_VOTE_RESP:
    case RAFT_MSG_VOTE_RESP:
        raft__handle_vote_response(r, m);
        return OK;
    case RAFT_MSG_HEARTBEAT:
        raft__handle_heartbeat(r, m);
        return OK;
    case RAFT_MSG_HEARTBEAT_RESP:
        raft__handle_heartbeat_resp(r, m);
        return OK;
    case RAFT_MSG_SNAP:
        return raft__handle_snapshot(r, m);
    case RAFT_MSG_TIMEOUT_NOW:
        raft__handle_timeout_now(r, m);
        return OK;
    case RAFT_MSG_FORTIFY:
        raft__handle_fortify(r, m);
        return OK;
    case RAFT_MSG_FORTIFY_RESP:
        raft__handle_fortify_resp(r, m);
        return OK;
    case RAFT_MSG_DE_FORTIFY:
        raft__handle_defortify(r, m);
        return OK;
    }
    return OK;
}

struct status raft_step(struct raft *r, const struct raft_msg *m)
{
    if (!sane(r, m)) {
        return FAIL(STATUS_INVALID, "raft: nonsensical message");
    }
    if (r->role == RAFT_LEADER) {
        raft__step_down_if_due(r);
    }
    raft__check_support_end(r);
    if (m->type >= RAFT_MSG_PRE_VOTE && m->type <= RAFT_MSG_VOTE_RESP) {
        raft__learn_commit(r, m);
    }
    if (m->term < r->hs.term) {
        step_lower_term(r, m);
        return OK;
    }
    if (m->term > r->hs.term && !step_higher_term(r, m)) {
        return OK;
    }
    return step_same_term(r, m);
}

void raft_campaign(struct raft *r)
{
    raft__check_support_end(r);
    raft__try_campaign(r, RAFT__CAMPAIGN_ORDINARY);
}

/* The Ready. */

static bool hard_state_equal(const struct raft_hard_state *a, const struct raft_hard_state *b)
{
    return a->term == b->term && a->vote.v == b->vote.v && a->lead.v == b->lead.v &&
           a->lead_epoch == b->lead_epoch && a->commit == b->commit;
}

static bool promise_changed(const struct raft *r)
{
    struct raft_hard_state a = r->hs;

    a.commit = r->hs_handed.commit;
    return !hard_state_equal(&a, &r->hs_handed);
}

static bool soft_state_changed(const struct raft *r)
{
    return r->role != r->role_handed || r->hs.term != r->term_handed ||
           r->leader.v != r->leader_handed.v;
}

static uint64_t apply_limit(const struct raft *r)
{
    if (r->snapshot != NULL) {
        return r->apply_handed; /* Nothing between here and the snapshot can be applied any more. */
    }
    return r->hs.commit < r->log.stable ? r->hs.commit : r->log.stable;
}

bool raft_has_ready(const struct raft *r)
{
    return r->flush || r->now.count > 0 || r->after.count > 0 ||
           r->log.handed < raft__log_last(&r->log) || apply_limit(r) > r->apply_handed ||
           (r->snapshot != NULL && !r->snapshot->handed) || soft_state_changed(r) ||
           !hard_state_equal(&r->hs, &r->hs_handed);
}

static void ready_hard_state(struct raft *r, struct raft_ready *out)
{
    out->hard_state_changed = !hard_state_equal(&r->hs, &r->hs_handed);
    out->must_sync = promise_changed(r);
    out->hard_state = r->hs;
    r->hs_handed = r->hs;
}

static void ready_log(struct raft *r, struct raft_ready *out)
{
    struct raft__log *l = &r->log;
    const uint64_t last = raft__log_last(l);

    if (r->snapshot != NULL && !r->snapshot->handed) {
        r->snapshot->handed = true;
        out->has_snapshot = true;
        out->snapshot_index = r->snapshot->index;
        out->snapshot_term = r->snapshot->term;
        out->must_sync = true;
    }
    if (l->handed < last) {
        out->entries = raft__log_at(l, l->handed + 1);
        out->entries_count = (uint32_t)(last - l->handed);
        out->must_sync = true;
        l->handed = last;
    }
    out->stale_first = 1;
    if ((out->entries_count > 0 || out->has_snapshot) && l->stored_last > last) {
        out->stale_first = last + 1;
        out->stale_last = l->stored_last;
        l->stored_last = last;
    }
    l->stored_last = l->stored_last < last ? last : l->stored_last;
}

/* Decides whether the waiting messages still have something to wait for. */
static void ready_messages(struct raft *r, struct raft_ready *out)
{
    bool wait = out->must_sync || r->log.done_seq < r->log.mark_seq;

    for (uint32_t i = 0; !wait && i < r->out_after.count; i++) {
        struct raft_msg *slot = raft__outbox_push(&r->out_now);

        if (slot != NULL) {
            *slot = r->out_after.msgs[i];
        }
    }
    if (!wait) {
        r->out_after.count = 0;
    }
    out->has_mark = out->must_sync || r->out_after.count > 0;
    if (out->has_mark) {
        out->mark = raft__log_mark(&r->log);
        if (r->self_vote_wanted) {
            r->self_vote_wanted = false;
            r->self_vote_seq = out->mark.seq;
        }
    }
    out->msgs_now = r->out_now.msgs;
    out->msgs_now_count = r->out_now.count;
    out->msgs_after_append = r->out_after.msgs;
    out->msgs_after_append_count = r->out_after.count;
}

static void swap_outboxes(struct raft__outbox *a, struct raft__outbox *b)
{
    const struct raft__outbox t = *a;

    *a = *b;
    *b = t;
}

void raft_ready(struct raft *r, struct raft_ready *out)
{
    INVARIANT(!r->ready_out);

    memset(out, 0, sizeof(*out));
    r->ready_out = true;
    swap_outboxes(&r->now, &r->out_now);
    swap_outboxes(&r->after, &r->out_after);
    ready_hard_state(r, out);
    ready_log(r, out);
    if (r->flush) {
        r->flush = false;
        raft__flush(r);
    }
    ready_messages(r, out);
    r->log.pinned = true;

    out->apply_after = r->apply_handed;
    out->apply_upto = apply_limit(r) > r->apply_handed ? apply_limit(r) : r->apply_handed;
    r->apply_handed = out->apply_upto;
    out->role_changed = soft_state_changed(r);
    r->role_handed = r->role;
    r->term_handed = r->hs.term;
    r->leader_handed = r->leader;
}

static void outbox_clear(struct raft__outbox *box)
{
    box->count = 0;
    if (box->cap > OUTBOX_CAP_KEPT) {
        free(box->msgs);
        *box = (struct raft__outbox){NULL, 0, 0};
    }
}

void raft_advance(struct raft *r)
{
    INVARIANT(r->ready_out);

    r->ready_out = false;
    outbox_clear(&r->out_now);
    outbox_clear(&r->out_after);
    free_chunks(r);
    raft__log_unpin(&r->log);
}

/* Completions. */

static void snapshot_installed(struct raft *r)
{
    struct raft__snapshot *s = r->snapshot;

    r->snapshot = NULL;
    r->applied = s->index;
    r->apply_handed = s->index;
    raft_apply_conf(r, &s->conf);
    free(s);
}

void raft_append_done(struct raft *r, struct raft_mark mark)
{
    if (raft__log_mark_done(&r->log, mark)) {
        if (r->snapshot != NULL) {
            snapshot_installed(r);
        }
        if (mark.last_index > r->log.stable) {
            r->log.stable = mark.last_index;
            raft__maybe_commit(r);
        }
    }
    if (r->self_vote_seq != 0 && mark.seq >= r->self_vote_seq) {
        r->self_vote_seq = 0;
        raft__count_self_vote(r);
    }
}

void raft_apply_done(struct raft *r, uint64_t index)
{
    INVARIANT(index <= r->apply_handed);
    r->applied = r->applied < index ? index : r->applied;
}

static void box_free(struct raft__outbox *box)
{
    if (box->count == 0) {
        free(box->msgs);
        *box = (struct raft__outbox){NULL, 0, 0};
    }
}

void raft_trim(struct raft *r)
{
    if (r->ready_out || !raft_quiet(r)) {
        return;
    }
    box_free(&r->now);
    box_free(&r->after);
    box_free(&r->out_now);
    box_free(&r->out_after);
    raft__log_drop_memory(&r->log, r->applied < r->log.stable ? r->applied : r->log.stable);
    raft__log_trim(&r->log);
    if (r->role == RAFT_LEADER) {
        for (uint32_t i = 0; i < r->conf.count; i++) {
            raft__progress_trim(&r->lead->peers[i]);
        }
    } else {
        raft__free_leader(r); /* Left over from a campaign. */
    }
}

static void remap_progress(struct raft *r, const struct raft_conf *conf)
{
    struct raft__progress was[RAFT_PEERS_MAX];

    memcpy(was, r->lead->peers, sizeof(was));
    for (uint32_t i = 0; i < conf->count; i++) {
        const int at = raft__conf_find(&r->conf, conf->peers[i].id);

        if (at >= 0) {
            r->lead->peers[i] = was[at];
            was[at].ring = NULL;
        } else {
            raft__progress_init(&r->lead->peers[i], raft__log_last(&r->log));
        }
    }
    for (uint32_t i = 0; i < r->conf.count; i++) {
        raft__progress_deinit(&was[i]); /* Of those that are gone. */
    }
    for (uint32_t i = conf->count; i < RAFT_PEERS_MAX; i++) {
        r->lead->peers[i] = (struct raft__progress){.ring = NULL};
    }
}

void raft_apply_conf(struct raft *r, const struct raft_conf *conf)
{
    const int self = raft__conf_find(conf, r->self);

    INVARIANT(raft__conf_valid(conf));
    INVARIANT(conf->count > 0);
    if (raft__conf_equal(conf, &r->conf)) {
        return;
    }
    if (r->role == RAFT_LEADER) {
        remap_progress(r, conf);
    }
    r->conf = *conf;
    if (r->role != RAFT_LEADER) {
        if (r->role != RAFT_FOLLOWER) {
            raft__become_follower(r, r->hs.term,
                                  (replica_id){0}); /* Votes were for another conf. */
        }
        return;
    }
    if (self < 0 || !raft__is_voter(conf->peers[self].type)) {
        raft__step_down(r, r->hs.term); /* Should have been transferred away before (I-3.6). */
    }
    for (uint32_t i = 0; r->role == RAFT_LEADER && i < conf->count; i++) {
        if (r->lead->peers[i].fortified_epoch == 0) {
            raft__fortify_peer(r, i);
        }
    }
    raft__maybe_commit(r);
    r->flush = true;
}

/* Proposals. */

static struct status check_conf_change(const struct raft *r, const struct raft_entry *entries,
                                       uint32_t count)
{
    uint32_t changes = 0;

    for (uint32_t i = 0; i < count; i++) {
        changes += entries[i].kind == RAFT_ENTRY_CONF ? 1 : 0;
    }
    if (changes == 0) {
        return OK;
    }
    if (changes > 1 || r->lead->pending_conf > r->applied) {
        return FAIL(STATUS_NOT_PROPOSED, "another configuration change is not applied yet");
    }
    if (hts_less(raft__lsu_now(r), r->lead->lsu_max)) {
        return FAIL(STATUS_NOT_PROPOSED, "the quorum's promise lags behind what was shown");
    }
    return OK;
}

struct status raft_propose(struct raft *r, struct raft_entry *entries, uint32_t count)
{
    uint64_t bytes = 0;

    if (r->role != RAFT_LEADER || r->lead->stepping_down) {
        return FAIL(STATUS_NOT_LEADER, "not leader");
    }
    if (count == 0) {
        return FAIL(STATUS_INVALID, "nothing to propose");
    }
    if (r->lead->transfer_target.v != 0) {
        return FAIL(STATUS_NOT_PROPOSED, "leadership is being transferred");
    }
    TRY(check_conf_change(r, entries, count));
    for (uint32_t i = 0; i < count; i++) {
        bytes += blob_bytes(entries[i].payload).len;
    }
    /* The first entry of a term always passes: without it nothing before it can ever commit. */
    if (r->lead->uncommitted_bytes > 0 && raft__log_last_term(&r->log) == r->hs.term &&
        r->lead->uncommitted_bytes + bytes > RAFT_UNCOMMITTED_BYTES_MAX) {
        return FAIL(STATUS_OVERLOADED, "too much is uncommitted");
    }
    return raft__append_own(r, entries, count);
}

/* Answers. */

struct raft_state raft_get_state(const struct raft *r)
{
    const bool leads = r->role == RAFT_LEADER;

    return (struct raft_state){
        .role = r->role,
        .term = r->hs.term,
        .leader = r->leader,
        .commit = r->hs.commit,
        .applied = r->applied,
        .stable = r->log.stable,
        .last = raft__log_last(&r->log),
        .transferring = leads && r->lead->transfer_target.v != 0,
        .stepping_down = leads && r->lead->stepping_down,
    };
}

const struct raft_conf *raft_get_conf(const struct raft *r)
{
    return &r->conf;
}

bool raft_get_progress(const struct raft *r, replica_id peer, struct raft_progress *out)
{
    const int at = raft__conf_find(&r->conf, peer);
    const struct raft__progress *p = NULL;

    if (at < 0 || r->role != RAFT_LEADER) {
        return false;
    }
    p = &r->lead->peers[at];
    *out = (struct raft_progress){
        .state = p->state,
        .match = p->match,
        .next = p->next,
        .recent_active = p->recent_active,
        .fortified = raft__peer_fortified(r, (uint32_t)at),
    };
    return true;
}

void raft_log_truncated(struct raft *r, uint64_t index, uint64_t term)
{
    if (index <= r->log.truncated_index) {
        return;
    }
    INVARIANT(index <= r->applied);
    INVARIANT(index <= r->log.stable);
    raft__log_drop_memory(&r->log, index);
    r->log.truncated_index = index;
    r->log.truncated_term = term;
}

void raft_cache_release(struct raft *r, uint64_t index)
{
    uint64_t upto = r->applied < r->log.stable ? r->applied : r->log.stable;

    if (r->snapshot == NULL && index > 0) {
        upto = index - 1 < upto ? index - 1 : upto;
        raft__log_drop_memory(&r->log, upto);
    }
}

struct status raft_read_entries(struct raft *r, uint64_t lo, uint64_t hi, uint32_t max,
                                struct raft_entry *out, uint32_t *count_out)
{
    uint64_t count = 0;

    *count_out = 0;
    if (lo <= r->log.truncated_index || lo > hi || hi > raft__log_last(&r->log)) {
        return FAIL(STATUS_NOT_FOUND, "entries are not in the log");
    }
    count = hi - lo + 1 < max ? hi - lo + 1 : max;
    if (lo < r->log.first) {
        count = r->log.first - lo < count ? r->log.first - lo : count;
        return r->log.reader.entries(r->log.reader.ctx, lo, (uint32_t)count, SIZE_MAX, out,
                                     count_out);
    }
    for (uint64_t i = 0; i < count; i++) {
        out[i] = *raft__log_at(&r->log, lo + i);
        (void)blob_acquire(out[i].payload);
    }
    *count_out = (uint32_t)count;
    return OK;
}

const char *raft_role_text(enum raft_role role)
{
    switch (role) {
    case RAFT_FOLLOWER:
        return "follower";
    case RAFT_PRE_CANDIDATE:
        return "pre-candidate";
    case RAFT_CANDIDATE:
        return "candidate";
    case RAFT_LEADER:
        return "leader";
    }
    return "?";
}

const char *raft_msg_type_text(enum raft_msg_type type)
{
    static const char *const names[] = {
        "App",      "AppResp",     "PreVote",       "PreVoteResp", "Vote",
        "VoteResp", "Heartbeat",   "HeartbeatResp", "Snap",        "TimeoutNow",
        "Fortify",  "FortifyResp", "DeFortify",
    };

    return (unsigned)type < ARRAY_COUNT(names) ? names[type] : "?";
}
