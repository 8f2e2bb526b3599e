/*
 * sim.c -- the replicas, their disks and the checks. See sim.h.
 *
 * The disk model is strict where the contract of raft.h is: writes become durable in order, the stale
 * suffix must be named exactly, only durable entries are applied, an acknowledgement must not name
 * more than its disk holds. What is in the queue is lost in a crash; what was applied but not
 * written is applied again.
 */
#include "tests/unit/raft/sim.h"

#include <stdarg.h>
#include <stdlib.h>

#include "node/base/blob.h"
#include "node/base/invariant.h"

struct sim_written {
    uint64_t index;
    uint64_t term;
    uint64_t prev_term;
    uint64_t payload_hash;
};

bool sim_broken(const struct sim *s)
{
    return s->violation[0] != '\0';
}

void sim_violate(struct sim *s, const char *fmt, ...)
{
    va_list args;

    if (!sim_broken(s)) {
        va_start(args, fmt);
        (void)vsnprintf(s->violation, sizeof(s->violation), fmt, args);
        va_end(args);
    }
}

void sim_trace(struct sim *s, const char *fmt, ...)
{
    char text[512];
    va_list args;

    if (s->trace != NULL) {
        va_start(args, fmt);
        (void)vsnprintf(text, sizeof(text), fmt, args);
        va_end(args);
        INVARIANT(status_ok(buf_append_str(s->trace, text)));
    }
}

static uint64_t payload_hash(const struct raft_entry *e)
{
    return hash64(blob_bytes(e->payload), (uint64_t)e->kind + 1);
}

static void *grow(void *old, uint32_t count, uint32_t *cap, size_t size)
{
    void *p = old;

    if (count == *cap) {
        *cap = *cap == 0 ? 64 : *cap * 2;
        p = realloc(old, *cap * size);
        INVARIANT(p != NULL);
    }
    return p;
}

/* Facts that must never change. */

static struct sim_fact *fact_at(struct sim *s, uint64_t index)
{
    const uint64_t at = index - SIM_INDEX_FIRST;

    while (s->facts_count <= at) {
        s->facts = grow(s->facts, s->facts_count, &s->facts_cap, sizeof(s->facts[0]));
        memset(&s->facts[s->facts_count], 0, sizeof(s->facts[0]));
        s->facts_count++;
    }
    return &s->facts[at];
}

static struct sim_term *term_at(struct sim *s, uint64_t term)
{
    INVARIANT(term < 100000);
    if (term >= s->terms_count) {
        const uint32_t count = (uint32_t)term + 64;

        s->terms = realloc(s->terms, count * sizeof(s->terms[0]));
        INVARIANT(s->terms != NULL);
        memset(s->terms + s->terms_count, 0, (count - s->terms_count) * sizeof(s->terms[0]));
        s->terms_count = count;
    }
    return &s->terms[term];
}

/* Log matching: an (index, term) has one content and one predecessor, whoever writes it. */
static void check_written(struct sim *s, const struct raft_entry *e, uint64_t prev_term)
{
    const struct sim_written w = {e->index, e->term, prev_term, payload_hash(e)};
    const uint64_t key[2] = {e->index, e->term};
    uint32_t i = 0;

    if (s->written_cap == 0 || s->written_count * 2 > s->written_cap) {
        struct sim_written *old = s->written;
        const uint32_t old_cap = s->written_cap;

        s->written_cap = old_cap == 0 ? 256 : old_cap * 2;
        s->written = calloc(s->written_cap, sizeof(s->written[0]));
        INVARIANT(s->written != NULL);
        for (uint32_t k = 0; k < old_cap; k++) {
            const uint64_t old_key[2] = {old[k].index, old[k].term};

            if (old[k].index != 0) {
                for (i = (uint32_t)hash64(bytes_of(old_key, sizeof(old_key)), 1);
                     s->written[i & (s->written_cap - 1)].index != 0; i++) {
                }
                s->written[i & (s->written_cap - 1)] = old[k];
            }
        }
        free(old);
    }
    for (i = (uint32_t)hash64(bytes_of(key, sizeof(key)), 1);; i++) {
        struct sim_written *at = &s->written[i & (s->written_cap - 1)];

        if (at->index == 0) {
            *at = w;
            s->written_count++;
            return;
        }
        if (at->index == w.index && at->term == w.term) {
            if (at->prev_term != w.prev_term || at->payload_hash != w.payload_hash) {
                sim_violate(s, "log matching: two entries at index %" PRIu64 " term %" PRIu64,
                            w.index, w.term);
            }
            return;
        }
    }
}

static void check_committed(struct sim_node *n, const struct raft_entry *e, uint64_t term)
{
    struct sim_fact *f = fact_at(n->sim, e->index);

    if (f->commit_term == 0) {
        f->term = e->term;
        f->payload_hash = payload_hash(e);
        f->commit_term = term;
    } else if (f->term != e->term || f->payload_hash != payload_hash(e)) {
        sim_violate(n->sim,
                    "committed entry changed: index %" PRIu64 " was of term %" PRIu64
                    ", replica %u has term %" PRIu64,
                    e->index, f->term, n->id.v, e->term);
    }
    f->commit_term = f->commit_term < term ? f->commit_term : term;
}

static void check_new_commits(struct sim_node *n, const struct raft_state *st)
{
    while (n->commit_seen < st->commit) {
        struct raft_entry got[32];
        uint32_t count = 0;

        if (!status_ok(raft_read_entries(n->r, n->commit_seen + 1, st->commit, ARRAY_COUNT(got),
                                         got, &count))) {
            n->commit_seen = st->commit; /* Came with a snapshot. */
            return;
        }
        for (uint32_t i = 0; i < count; i++) {
            check_committed(n, &got[i], st->term);
            blob_release(got[i].payload);
        }
        n->commit_seen += count;
    }
}

/* Leader completeness: what was committed in earlier terms is in the log of a new leader. */
static void check_complete(struct sim_node *n, const struct raft_state *st)
{
    struct sim *s = n->sim;

    for (uint32_t i = 0; i < s->facts_count; i++) {
        const uint64_t index = SIM_INDEX_FIRST + i;
        struct raft_entry got;
        uint32_t count = 0;

        if (s->facts[i].commit_term == 0 || s->facts[i].commit_term >= st->term ||
            index <= n->disk.truncated_index || index <= n->mem.index) {
            continue;
        }
        if (!status_ok(raft_read_entries(n->r, index, index, 1, &got, &count))) {
            sim_violate(s, "leader %u of term %" PRIu64 " lacks committed index %" PRIu64, n->id.v,
                        st->term, index);
            return;
        }
        if (got.term != s->facts[i].term) {
            sim_violate(s, "leader %u of term %" PRIu64 " has another entry at committed %" PRIu64,
                        n->id.v, st->term, index);
        }
        blob_release(got.payload);
    }
}

static void check_leader(struct sim_node *n, const struct raft_state *st)
{
    struct sim *s = n->sim;
    struct sim_term *t = term_at(s, st->term);

    if (t->leader != 0 && t->leader != n->id.v) {
        sim_violate(s, "two leaders of term %" PRIu64 ": %u and %u", st->term, t->leader, n->id.v);
    }
    if (n->led_term != st->term) {
        n->led_term = st->term;
        check_complete(n, st);
        for (uint64_t i = 0; i < st->term; i++) {
            if (!s->terms[i].released && hts_less(n->view.now, s->terms[i].lsu)) {
                sim_violate(s, "leader %u of term %" PRIu64 " although term %" PRIu64 " may serve",
                            n->id.v, st->term, i);
            }
        }
    }
    t = term_at(s, st->term);
    t->leader = n->id.v;
    if (hts_less(raft_lead_support_until(n->r), t->lsu)) {
        sim_violate(s, "LSU went back in term %" PRIu64, st->term);
    }
    t->lsu = raft_lead_support_until(n->r);
}

void sim_observe(struct sim_node *n)
{
    struct raft_state st;

    if (n->r == NULL || sim_broken(n->sim)) {
        return;
    }
    st = raft_get_state(n->r);
    if (st.applied > st.stable || st.stable > st.last || st.commit > st.last) {
        sim_violate(n->sim, "replica %u: applied %" PRIu64 " stable %" PRIu64 " last %" PRIu64,
                    n->id.v, st.applied, st.stable, st.last);
    }
    if (st.role == RAFT_LEADER) {
        check_leader(n, &st);
    }
    check_new_commits(n, &st);
}

/* Store liveness as one replica sees it. */

static bool view_for(void *ctx, store_id store, uint64_t *epoch_out)
{
    const struct sim_node *n = ctx;
    const struct sim_support *p = NULL;

    if (store.v == 0 || store.v > SIM_NODES_MAX) {
        return false;
    }
    p = &n->sim->support[store.v - 1][n->slot];
    *epoch_out = p->epoch;
    return p->epoch != 0 && !hts_is_zero(p->expiration);
}

static void view_from(void *ctx, store_id store, uint64_t *epoch_out, struct hts *expiration_out)
{
    const struct sim_node *n = ctx;

    *epoch_out = 0;
    *expiration_out = HTS_ZERO;
    if (store.v == n->slot + 1) {
        *epoch_out = n->own_epoch;
        *expiration_out = n->max_requested;
    } else if (store.v != 0 && store.v <= SIM_NODES_MAX) {
        const struct sim_support *p = &n->sim->support[n->slot][store.v - 1];

        *epoch_out = hts_is_zero(p->from_expiration) ? 0 : p->from_epoch;
        *expiration_out = p->from_expiration;
    }
}

void sim_support_changed(struct sim_node *n, uint32_t slot)
{
    if (n->r != NULL) {
        raft_support_changed(n->r, (store_id){slot + 1});
        sim_observe(n);
    }
}

void sim_support(struct sim *s, uint32_t requester, uint32_t supporter, struct hts until)
{
    struct sim_support *p = &s->support[requester][supporter];

    p->from_epoch = p->from_epoch == 0 ? 1 : p->from_epoch;
    if (p->epoch > p->from_epoch) {
        p->from_epoch = p->epoch; /* The answer says that support was withdrawn. */
    }
    p->epoch = p->from_epoch;
    p->expiration = hts_max(p->expiration, until);
    p->from_expiration = hts_max(p->from_expiration, until);
    sim_support_changed(&s->nodes[requester], supporter);
    sim_support_changed(&s->nodes[supporter], requester);
}

void sim_withdraw(struct sim *s, uint32_t requester, uint32_t supporter)
{
    struct sim_support *p = &s->support[requester][supporter];

    p->epoch++;
    p->expiration = HTS_ZERO;
    sim_support_changed(&s->nodes[supporter], requester);
}

void sim_set_time(struct sim *s, uint64_t now_ns)
{
    s->now_ns = now_ns;
    for (uint32_t i = 0; i < SIM_NODES_MAX; i++) {
        s->nodes[i].view.now = (struct hts){now_ns, 0};
    }
}

/* The disk as the core may read it. */

static uint64_t disk_last(const struct sim_disk *d)
{
    return d->truncated_index + d->log_count;
}

static uint64_t disk_term(void *ctx, uint64_t index)
{
    const struct sim_node *n = ctx;
    const struct sim_disk *d = &n->disk;

    if (index == d->truncated_index) {
        return d->truncated_term;
    }
    return index < d->truncated_index || index > disk_last(d)
               ? 0
               : d->log[index - d->truncated_index - 1].term;
}

static struct status disk_entries(void *ctx, uint64_t lo, uint32_t max, size_t bytes_max,
                                  struct raft_entry *out, uint32_t *count_out)
{
    const struct sim_node *n = ctx;
    const struct sim_disk *d = &n->disk;
    size_t bytes = 0;

    *count_out = 0;
    if (lo <= d->truncated_index) {
        return FAIL(STATUS_NOT_FOUND, "truncated");
    }
    for (uint64_t i = lo; i <= disk_last(d) && *count_out < max; i++) {
        const struct raft_entry *e = &d->log[i - d->truncated_index - 1];

        bytes += blob_bytes(e->payload).len;
        if (*count_out > 0 && bytes > bytes_max) {
            break;
        }
        out[*count_out] = *e;
        (void)blob_acquire(e->payload);
        (*count_out)++;
    }
    return OK;
}

static void disk_cut(struct sim_disk *d, uint64_t last)
{
    while (d->log_count > 0 && disk_last(d) > last) {
        d->log_count--;
        blob_release(d->log[d->log_count].payload);
    }
}

static void disk_drop_prefix(struct sim_disk *d, uint64_t upto, uint64_t term)
{
    uint32_t n = 0;

    while (n < d->log_count && d->truncated_index + n < upto) {
        blob_release(d->log[n].payload);
        n++;
    }
    if (n > 0) {
        memmove(d->log, d->log + n, (d->log_count - n) * sizeof(d->log[0]));
        d->log_count -= n;
    }
    d->truncated_index = upto;
    d->truncated_term = term;
}

static void disk_write(struct sim_node *n, const struct sim_write *w)
{
    struct sim_disk *d = &n->disk;

    if (w->has_hs) {
        if (w->hs.term < d->hs.term || w->hs.commit < d->hs.commit) {
            sim_violate(n->sim, "replica %u: hard state went back", n->id.v);
        }
        d->hs = w->hs;
    }
    if (w->has_snapshot) {
        /* The log goes; what it said above the snapshot must have been named stale. */
        const uint64_t last = w->snapshot.index + w->entries_count;

        if (disk_last(d) > last && w->stale_last < disk_last(d)) {
            sim_violate(n->sim, "replica %u: a suffix above the snapshot is kept", n->id.v);
        }
        disk_cut(d, 0);
        disk_drop_prefix(d, w->snapshot.index, w->snapshot.term);
        d->applied = w->snapshot;
        n->sim->snapshots++;
    }
    if (w->entries_count > 0) {
        const uint64_t first = w->entries[0].index;
        const uint64_t last = w->entries[w->entries_count - 1].index;

        if (first > disk_last(d) + 1 || first <= d->truncated_index) {
            sim_violate(n->sim, "replica %u: entries from %" PRIu64 " leave a hole", n->id.v,
                        first);
            return;
        }
        if (disk_last(d) > last && (w->stale_first != last + 1 || w->stale_last < disk_last(d))) {
            sim_violate(n->sim, "replica %u: the stale suffix is not named", n->id.v);
        }
        disk_cut(d, first - 1);
        for (uint32_t i = 0; i < w->entries_count; i++) {
            check_written(n->sim, &w->entries[i], disk_term(n, w->entries[i].index - 1));
            d->log = grow(d->log, d->log_count, &d->log_cap, sizeof(d->log[0]));
            d->log[d->log_count] = w->entries[i];
            (void)blob_acquire(w->entries[i].payload);
            d->log_count++;
        }
    }
    if (w->has_applied) {
        d->applied = w->applied;
    }
}

/* The network. */

static void send_packet(struct sim *s, const struct raft_msg *m)
{
    struct sim_packet *p = NULL;

    s->packets = grow(s->packets, s->packets_count, &s->packets_cap, sizeof(s->packets[0]));
    p = &s->packets[s->packets_count++];
    memset(p, 0, sizeof(*p));
    p->m = *m;
    p->m.entries = NULL;
    if (m->entries_count > 0) {
        p->entries = malloc(m->entries_count * sizeof(p->entries[0]));
        INVARIANT(p->entries != NULL);
        for (uint32_t i = 0; i < m->entries_count; i++) {
            p->entries[i] = m->entries[i];
            (void)blob_acquire(m->entries[i].payload);
        }
    }
}

static void free_packet(struct sim_packet *p)
{
    for (uint32_t i = 0; i < p->m.entries_count; i++) {
        blob_release(p->entries[i].payload);
    }
    free(p->entries);
}

static struct sim_packet take_packet(struct sim *s, uint32_t i)
{
    const struct sim_packet p = s->packets[i];

    s->packets_count--;
    memmove(&s->packets[i], &s->packets[i + 1], (s->packets_count - i) * sizeof(s->packets[0]));
    return p;
}

/* The owner tells how a snapshot ended, also when it got lost. */
static void report_snapshot(struct sim *s, const struct raft_msg *m, bool ok)
{
    struct sim_node *from = sim_find(s, m->from);

    if (m->type == RAFT_MSG_SNAP && from != NULL && from->r != NULL) {
        raft_report_snapshot(from->r, m->to, ok);
        sim_observe(from);
    }
}

void sim_drop(struct sim *s, uint32_t i)
{
    struct sim_packet p = take_packet(s, i);

    report_snapshot(s, &p.m, false);
    free_packet(&p);
}

/* The owner's part of a snapshot: what the sender has applied durably. */
static bool fill_snapshot(struct sim *s, struct sim_node *from, struct sim_packet *p)
{
    if (from == NULL || from->r == NULL) {
        return false;
    }
    if (from->disk.applied.index < p->m.index) {
        sim_violate(s, "snapshot wanted at %" PRIu64 ", applied only %" PRIu64, p->m.index,
                    from->disk.applied.index);
    }
    p->m.index = from->disk.applied.index;
    p->m.log_term = from->disk.applied.term;
    p->conf = from->disk.applied.conf;
    p->m.conf = &p->conf;
    return true;
}

void sim_deliver(struct sim *s, uint32_t i, bool keep)
{
    struct sim_packet p = keep ? s->packets[i] : take_packet(s, i);
    struct sim_node *to = sim_find(s, p.m.to);
    bool ok = to != NULL && to->r != NULL;

    p.m.entries = p.entries;
    if (p.m.type == RAFT_MSG_SNAP) {
        ok = fill_snapshot(s, sim_find(s, p.m.from), &p) && ok;
    }
    if (ok) {
        const struct status st = raft_step(to->r, &p.m);

        if (!status_ok(st) && s->plants == 0) {
            sim_violate(s, "replica %u refused a %s: %s", to->id.v, raft_msg_type_text(p.m.type),
                        status_text(st));
        }
        sim_observe(to);
    }
    if (!keep) {
        report_snapshot(s, &p.m, ok);
        free_packet(&p);
    }
}

/* Tracing: one line per message, in the words of the protocol. */

static void trace_entry(struct sim *s, const struct raft_entry *e)
{
    const struct bytes b = blob_bytes(e->payload);

    if (e->kind == RAFT_ENTRY_CONF) {
        sim_trace(s, " %" PRIu64 "/%" PRIu64 " conf", e->term, e->index);
    } else {
        sim_trace(s, " %" PRIu64 "/%" PRIu64 " %.*s", e->term, e->index, (int)b.len,
                  (const char *)b.ptr);
    }
}

static void trace_msg(struct sim *s, const char *when, const struct raft_msg *m)
{
    sim_trace(s, "  %s %u->%u %s term=%" PRIu64, when, m->from.v, m->to.v,
              raft_msg_type_text(m->type), m->term);
    switch (m->type) {
    case RAFT_MSG_APP:
        sim_trace(s, " prev=%" PRIu64 "/%" PRIu64 " commit=%" PRIu64, m->log_term, m->index,
                  m->commit);
        for (uint32_t i = 0; i < m->entries_count; i++) {
            trace_entry(s, &m->entries[i]);
            sim_trace(s, "%s", i + 1 < m->entries_count ? "," : "");
        }
        break;
    case RAFT_MSG_APP_RESP:
        sim_trace(s, m->reject ? " rejects %" PRIu64 : " index=%" PRIu64, m->index);
        if (m->reject) {
            sim_trace(s, " hint=%" PRIu64 "/%" PRIu64, m->hint_term, m->hint_index);
        }
        sim_trace(s, " commit=%" PRIu64, m->commit);
        break;
    case RAFT_MSG_PRE_VOTE:
    case RAFT_MSG_VOTE:
        sim_trace(s, " last=%" PRIu64 "/%" PRIu64 " commit=%" PRIu64 "%s", m->log_term, m->index,
                  m->commit, m->transfer ? " transfer" : "");
        break;
    case RAFT_MSG_PRE_VOTE_RESP:
    case RAFT_MSG_VOTE_RESP:
        sim_trace(s, "%s", m->reject ? " no" : " yes");
        break;
    case RAFT_MSG_HEARTBEAT:
    case RAFT_MSG_HEARTBEAT_RESP:
        sim_trace(s, " commit=%" PRIu64, m->commit);
        break;
    case RAFT_MSG_SNAP:
        sim_trace(s, " at %" PRIu64 " or later", m->index);
        break;
    case RAFT_MSG_FORTIFY_RESP:
        sim_trace(s, m->reject ? " no" : " epoch=%" PRIu64, m->support_epoch);
        break;
    case RAFT_MSG_TIMEOUT_NOW:
    case RAFT_MSG_FORTIFY:
    case RAFT_MSG_DE_FORTIFY:
        break;
    }
    sim_trace(s, "\n");
}

static void trace_ready(struct sim_node *n, const struct raft_ready *rd)
{
    struct sim *s = n->sim;
    const struct raft_state st = raft_get_state(n->r);

    if (s->trace == NULL) {
        return;
    }
    sim_trace(s, "%u ready:", n->id.v);
    if (rd->role_changed) {
        sim_trace(s, " %s of term %" PRIu64, raft_role_text(st.role), st.term);
        sim_trace(s, st.leader.v == 0 ? " (no leader)" : " (leader %u)", st.leader.v);
    }
    sim_trace(s, "\n");
    if (rd->hard_state_changed) {
        const struct raft_hard_state *hs = &rd->hard_state;

        sim_trace(s, "  hard state: term=%" PRIu64 " vote=%u commit=%" PRIu64, hs->term, hs->vote.v,
                  hs->commit);
        if (hs->lead_epoch != 0) {
            sim_trace(s, " lead=%u epoch=%" PRIu64, hs->lead.v, hs->lead_epoch);
        }
        sim_trace(s, "\n");
    }
    if (rd->has_snapshot) {
        sim_trace(s, "  install snapshot: %" PRIu64 "/%" PRIu64 "\n", rd->snapshot_term,
                  rd->snapshot_index);
    }
    if (rd->stale_first <= rd->stale_last) {
        sim_trace(s, "  delete: %" PRIu64 "..%" PRIu64 "\n", rd->stale_first, rd->stale_last);
    }
    if (rd->entries_count > 0) {
        sim_trace(s, "  append:");
        for (uint32_t i = 0; i < rd->entries_count; i++) {
            trace_entry(s, &rd->entries[i]);
            sim_trace(s, "%s", i + 1 < rd->entries_count ? "," : "\n");
        }
    }
    for (uint32_t i = 0; i < rd->msgs_now_count; i++) {
        trace_msg(s, "now  ", &rd->msgs_now[i]);
    }
    for (uint32_t i = 0; i < rd->msgs_after_append_count; i++) {
        trace_msg(s, "after", &rd->msgs_after_append[i]);
    }
    if (rd->apply_upto > rd->apply_after) {
        sim_trace(s, "  apply: %" PRIu64 "..%" PRIu64 "\n", rd->apply_after + 1, rd->apply_upto);
    }
}

/* Replicas. */

struct sim_node *sim_find(struct sim *s, replica_id id)
{
    struct sim_node *n = &s->nodes[(id.v - 1) % 16 % SIM_NODES_MAX];

    return id.v != 0 && (id.v - 1) % 16 < SIM_NODES_MAX && n->id.v == id.v ? n : NULL;
}

bool sim_is_leader(const struct sim_node *n)
{
    return n->r != NULL && raft_get_state(n->r).role == RAFT_LEADER;
}

static void create_core(struct sim_node *n)
{
    const struct raft_options o = {
        .self = n->id,
        .store = {n->slot + 1},
        .conf = n->disk.applied.conf,
        .hard_state = n->disk.hs,
        .truncated_index = n->disk.truncated_index,
        .truncated_term = n->disk.truncated_term,
        .last_index = disk_last(&n->disk),
        .applied_index = n->disk.applied.index,
        .view = &n->view,
        .log = {n, disk_term, disk_entries},
        .election_ticks = 5,
        .election_jitter_ticks = 5,
        .heartbeat_ticks = 3,
        .seed = n->sim->seed * 31 + n->id.v + n->own_epoch * 1000,
        .plants = n->sim->plants,
    };

    n->view = (struct raft_view){n, view_for, view_from, {n->sim->now_ns, 0}};
    n->mem = n->disk.applied;
    n->commit_seen = n->disk.applied.index;
    n->led_term = 0;
    n->lease_term = 0;
    INVARIANT(status_ok(raft_create(&o, &n->r)));
}

static void add_node(struct sim *s, replica_id id, const struct raft_conf *conf)
{
    struct sim_node *n = &s->nodes[(id.v - 1) % 16];
    const uint64_t own_epoch = n->own_epoch == 0 ? 1 : n->own_epoch;
    const struct hts max_requested = n->max_requested;

    INVARIANT(n->r == NULL);
    free(n->disk.log);
    *n = (struct sim_node){.sim = s, .slot = (id.v - 1) % 16, .id = id, .own_epoch = own_epoch};
    n->max_requested = max_requested;
    n->writes_end = &n->writes;
    s->used_id[n->slot] = id.v;
    if (conf != NULL) {
        n->disk.hs = (struct raft_hard_state){.term = SIM_TERM_FIRST, .commit = SIM_INDEX_FIRST};
        n->disk.truncated_index = SIM_INDEX_FIRST;
        n->disk.truncated_term = SIM_TERM_FIRST;
        n->disk.applied = (struct sim_applied){SIM_INDEX_FIRST, SIM_TERM_FIRST, 1, *conf};
    }
    s->count = s->count < n->slot + 1 ? n->slot + 1 : s->count;
    create_core(n);
}

void sim_init(struct sim *s, uint32_t voters, uint32_t learners, uint64_t seed, uint32_t plants)
{
    struct raft_conf conf = {.count = voters + learners};

    memset(s, 0, sizeof(*s));
    s->seed = seed;
    s->plants = plants;
    s->now_ns = 1000000000;
    for (uint32_t i = 0; i < conf.count; i++) {
        conf.peers[i] =
            (struct raft_peer){{i + 1}, {i + 1}, i < voters ? RAFT_VOTER : RAFT_LEARNER};
    }
    *fact_at(s, SIM_INDEX_FIRST) =
        (struct sim_fact){.term = SIM_TERM_FIRST, .state_hash = 1, .applied = true, .conf = conf};
    (void)term_at(s, SIM_TERM_FIRST);
    for (uint32_t i = 0; i < conf.count; i++) {
        add_node(s, (replica_id){i + 1}, &conf);
    }
}

static void free_write(struct sim_write *w)
{
    for (uint32_t i = 0; i < w->entries_count; i++) {
        blob_release(w->entries[i].payload);
    }
    free(w->entries);
    free(w->msgs);
    free(w);
}

void sim_crash(struct sim_node *n)
{
    while (n->writes != NULL) {
        struct sim_write *w = n->writes;

        n->writes = w->next;
        free_write(w);
    }
    n->writes_end = &n->writes;
    raft_destroy(n->r);
    n->r = NULL;
    n->booting = false;
    n->transfer_deadline_ns = 0;
    for (uint32_t i = 0; i < SIM_NODES_MAX; i++) {
        n->sim->support[n->slot][i].from_expiration = HTS_ZERO;
    }
}

static void remove_node(struct sim_node *n)
{
    sim_crash(n);
    disk_cut(&n->disk, 0);
    n->id = (replica_id){0};
}

void sim_deinit(struct sim *s)
{
    for (uint32_t i = 0; i < SIM_NODES_MAX; i++) {
        if (s->nodes[i].sim != NULL) {
            remove_node(&s->nodes[i]);
        }
        free(s->nodes[i].disk.log);
    }
    while (s->packets_count > 0) {
        sim_drop(s, s->packets_count - 1);
    }
    free(s->packets);
    free(s->facts);
    free(s->terms);
    free(s->written);
}

void sim_restart(struct sim_node *n)
{
    INVARIANT(n->r == NULL);

    /* 3.3.3: a new epoch, and silence until everything this store ever asked for has passed. */
    n->own_epoch++;
    for (uint32_t i = 0; i < SIM_NODES_MAX; i++) {
        struct sim_support *asked = &n->sim->support[n->slot][i];
        struct sim_support *given = &n->sim->support[i][n->slot];

        asked->from_epoch = asked->from_epoch < asked->epoch ? asked->epoch : asked->from_epoch;
        asked->from_epoch++;
        asked->from_expiration = HTS_ZERO;
        if (!hts_is_zero(given->expiration)) { /* 3.4.4: only the maximum of all was stored. */
            given->expiration = hts_add_ns(given->expiration, SIM_SUPPORT_NS / 8);
        }
    }
    n->booting = true;
    n->boot_at_ns = n->max_requested.wall + 1;
    sim_boot_if_due(n);
}

void sim_boot_if_due(struct sim_node *n)
{
    if (n->booting && n->sim->now_ns >= n->boot_at_ns) {
        n->booting = false;
        create_core(n);
        sim_observe(n);
    }
}

/* Applies entries to the state machine; the result goes to the disk with the write. */
static void apply(struct sim_node *n, struct sim_write *w, uint64_t upto)
{
    struct sim *s = n->sim;

    while (n->mem.index < upto) {
        struct raft_entry e;
        struct sim_fact *f = NULL;
        uint64_t parts[3];
        uint32_t count = 0;

        if (!status_ok(raft_read_entries(n->r, n->mem.index + 1, upto, 1, &e, &count)) ||
            count != 1) {
            sim_violate(s, "replica %u cannot read %" PRIu64 " to apply it", n->id.v,
                        n->mem.index + 1);
            return;
        }
        if (e.index > disk_last(&n->disk)) {
            sim_violate(s, "replica %u applies %" PRIu64 " before it is durable", n->id.v, e.index);
        }
        check_committed(n, &e, raft_get_state(n->r).term);
        parts[0] = n->mem.hash;
        parts[1] = e.term;
        parts[2] = payload_hash(&e);
        n->mem.index = e.index;
        n->mem.term = e.term;
        n->mem.hash = hash64(bytes_of(parts, sizeof(parts)), e.index);
        if (e.kind == RAFT_ENTRY_CONF) {
            memcpy(&n->mem.conf, blob_bytes(e.payload).ptr, sizeof(n->mem.conf));
        }
        f = fact_at(s, e.index);
        if (!f->applied) {
            f->applied = true;
            f->state_hash = n->mem.hash;
            f->is_conf = e.kind == RAFT_ENTRY_CONF;
            f->conf = n->mem.conf;
        } else if (f->state_hash != n->mem.hash) {
            sim_violate(s, "replica %u applied something else up to %" PRIu64, n->id.v, e.index);
        }
        blob_release(e.payload);
    }
    w->has_applied = true;
    w->applied = n->mem;
}

bool sim_ready(struct sim_node *n)
{
    struct raft_ready rd;
    struct sim_write *w = NULL;

    if (n->r == NULL || !raft_has_ready(n->r)) {
        return false;
    }
    w = calloc(1, sizeof(*w));
    INVARIANT(w != NULL);
    raft_ready(n->r, &rd);
    trace_ready(n, &rd);
    for (uint32_t i = 0; i < rd.msgs_now_count; i++) {
        const struct raft_msg *m = &rd.msgs_now[i];

        if (m->type == RAFT_MSG_APP_RESP && !m->reject && m->index > disk_last(&n->disk)) {
            sim_violate(n->sim, "replica %u acknowledges %" PRIu64 ", durable is %" PRIu64, n->id.v,
                        m->index, disk_last(&n->disk));
        }
        send_packet(n->sim, m);
    }
    if (rd.msgs_after_append_count > 0) {
        const size_t size = rd.msgs_after_append_count * sizeof(rd.msgs_after_append[0]);

        w->msgs = malloc(size);
        INVARIANT(w->msgs != NULL);
        memcpy(w->msgs, rd.msgs_after_append, size);
        w->msgs_count = rd.msgs_after_append_count;
    }
    w->has_hs = rd.hard_state_changed;
    w->hs = rd.hard_state;
    w->has_snapshot = rd.has_snapshot;
    if (rd.has_snapshot) {
        const struct sim_fact *f = fact_at(n->sim, rd.snapshot_index);

        w->snapshot =
            (struct sim_applied){rd.snapshot_index, rd.snapshot_term, f->state_hash, f->conf};
        if (!f->applied || f->term != rd.snapshot_term) {
            sim_violate(n->sim, "snapshot of what was never applied: %" PRIu64, rd.snapshot_index);
        }
        n->mem = w->snapshot;
    }
    if (rd.entries_count > 0) {
        w->entries = malloc(rd.entries_count * sizeof(w->entries[0]));
        INVARIANT(w->entries != NULL);
        for (; w->entries_count < rd.entries_count; w->entries_count++) {
            w->entries[w->entries_count] = rd.entries[w->entries_count];
            (void)blob_acquire(rd.entries[w->entries_count].payload);
        }
    }
    w->stale_first = rd.stale_first;
    w->stale_last = rd.stale_last;
    w->has_mark = rd.has_mark;
    w->mark = rd.mark;
    if (rd.apply_upto > rd.apply_after) {
        apply(n, w, rd.apply_upto);
    }
    raft_advance(n->r);
    *n->writes_end = w;
    n->writes_end = &w->next;
    sim_observe(n);
    return true;
}

/* The configuration after an applied index: who is new starts empty, who is gone goes. */
static void conf_applied(struct sim_node *n, const struct raft_conf *conf)
{
    struct sim *s = n->sim;

    raft_apply_conf(n->r, conf);
    for (uint32_t i = 0; i < conf->count; i++) {
        struct sim_node *p = &s->nodes[conf->peers[i].store.v - 1];

        if (p->id.v < conf->peers[i].id.v) {
            if (p->id.v != 0) {
                remove_node(p);
            }
            if (p->r == NULL && !p->booting) {
                add_node(s, conf->peers[i].id, NULL);
            }
        }
    }
}

static void writes_applied(struct sim_node *n, const struct sim_write *w, uint64_t before)
{
    struct sim *s = n->sim;

    for (uint64_t i = before + 1; i <= w->applied.index && n->r != NULL; i++) {
        if (fact_at(s, i)->is_conf) {
            const struct raft_conf conf = fact_at(s, i)->conf;

            conf_applied(n, &conf);
        }
    }
    raft_apply_done(n->r, w->applied.index);
    if (w->applied.index >= s->newest.index) {
        s->newest = w->applied;
    }
    for (uint32_t i = 0; i < SIM_NODES_MAX; i++) {
        struct sim_node *p = &s->nodes[i];
        bool present = false;

        for (uint32_t k = 0; k < s->newest.conf.count; k++) {
            present = present || s->newest.conf.peers[k].id.v == p->id.v;
        }
        if (!present && p->id.v != 0 && p != n) {
            remove_node(p); /* Only learners are removed: nobody needs it any more. */
        }
    }
}

bool sim_write_done(struct sim_node *n)
{
    struct sim_write *w = n->writes;
    const uint64_t before = n->disk.applied.index;

    if (n->r == NULL || w == NULL) {
        return false;
    }
    n->writes = w->next;
    if (n->writes == NULL) {
        n->writes_end = &n->writes;
    }
    disk_write(n, w);
    if (w->has_mark) {
        raft_append_done(n->r, w->mark);
        sim_observe(n);
    }
    for (uint32_t i = 0; i < w->msgs_count; i++) {
        const struct raft_msg *m = &w->msgs[i];

        if (m->type == RAFT_MSG_APP_RESP && !m->reject && m->index > disk_last(&n->disk)) {
            sim_violate(n->sim, "replica %u acknowledges %" PRIu64 ", durable is %" PRIu64, n->id.v,
                        m->index, disk_last(&n->disk));
        }
        send_packet(n->sim, m);
    }
    if (w->has_applied) {
        writes_applied(n, w, before);
        sim_observe(n);
    }
    free_write(w);
    return true;
}

struct status sim_propose(struct sim_node *n, const char *text, const struct raft_conf *conf)
{
    struct raft_entry e = {.kind = conf == NULL ? RAFT_ENTRY_NORMAL : RAFT_ENTRY_CONF};
    struct status st = OK;

    e.payload = blob_copy(conf == NULL ? bytes_str(text) : bytes_of(conf, sizeof(*conf)));
    INVARIANT(e.payload != NULL);
    st = raft_propose(n->r, &e, 1);
    if (!status_ok(st)) {
        blob_release(e.payload);
    }
    sim_observe(n);
    return st;
}

struct status sim_transfer(struct sim_node *n, replica_id target)
{
    struct raft_entry e = {.kind = RAFT_ENTRY_NORMAL};

    TRY(raft_transfer_begin(n->r, target));
    e.payload = blob_copy(BYTES_LIT("revoke"));
    INVARIANT(e.payload != NULL);
    if (!status_ok(raft_propose_revoke(n->r, &e))) {
        blob_release(e.payload);
        raft_transfer_abort(n->r);
        return FAIL(STATUS_NOT_PROPOSED, "not revoked");
    }
    n->transfer_deadline_ns = n->sim->now_ns + 10 * SIM_TICK_NS;
    return OK;
}

void sim_transfer_poll(struct sim_node *n)
{
    if (n->r == NULL || n->transfer_deadline_ns == 0) {
        return;
    }
    if (sim_is_leader(n) && raft_get_state(n->r).transferring) {
        const uint64_t term = raft_get_state(n->r).term;

        if (status_ok(raft_transfer_finish(n->r))) {
            term_at(n->sim, term)->released = true;
        } else if (n->sim->now_ns < n->transfer_deadline_ns) {
            return;
        } else {
            raft_transfer_abort(n->r);
        }
        sim_observe(n);
    }
    n->transfer_deadline_ns = 0;
}

void sim_truncate(struct sim_node *n, uint64_t index)
{
    const uint64_t max = n->disk.applied.index;

    index = index < max ? index : max;
    if (n->r != NULL && n->writes == NULL && index > n->disk.truncated_index) {
        const uint64_t term = disk_term(n, index);

        disk_drop_prefix(&n->disk, index, term);
        raft_log_truncated(n->r, index, term);
        raft_cache_release(n->r, index + 1);
        sim_observe(n);
    }
}
