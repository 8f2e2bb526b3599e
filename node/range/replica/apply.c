/*
 * apply.c -- committed commands become state.
 *
 * Applying is total: a command that was committed changes the engine exactly as it says. All commands
 * that are ready go into the store's pending write together with one AppliedState; when that write
 * has ended they are visible, their latches go, and whoever waits for them is answered, unless he
 * was answered at commit already.
 *
 * Invariant: state and AppliedState are in the same batch, so that a crash never separates them.
 */
#include <stdlib.h>

#include "node/base/invariant.h"
#include "node/range/internal.h"

static void note_lease(struct applied_state *a, const struct raft_entry *e, const struct command *c,
                       struct write_item *item)
{
    a->lease = c->kind == COMMAND_LEASE_START ? LEASE_STARTED : LEASE_REVOKED;
    a->lease_term = e->term;
    a->lease_holder = c->target;
    a->lease_start_ts = c->start_ts;
    item->lease_started = c->kind == COMMAND_LEASE_START;
    if (item->lease_started) {
        a->lease_sequence++;
        item->lease_term = e->term;
        item->lease_ts = c->start_ts;
    }
}

/* Promises never fall along the log: somebody may have read by the earlier one. */
static struct status note_closed(struct replica *r, const struct command *c)
{
    bool fell = !hts_is_zero(c->closed_ts) && hts_less(c->closed_ts, r->submitted.closed_ts);

#ifdef DSQL_PLANTS
    fell = fell && (r->store->o.plants & STORE_PLANT_REORDER_APPLY) == 0;
#endif
    if (fell) {
        return FAIL(STATUS_CORRUPT, "closed timestamps fall along the log");
    }
    r->submitted.closed_ts = hts_max(r->submitted.closed_ts, c->closed_ts);
    return OK;
}

/* A new descriptor: the index has to be told. */
static struct status note_desc(struct replica *r, const struct command *c, struct write_item *item)
{
    struct arena arena;
    struct range_desc d;
    struct status st = OK;

    arena_init(&arena, 0);
    TRY_OUT(range_desc_decode(c->desc, &arena, &d));
    r->submitted.generation = d.generation;
    r->submitted.addressed = false;
    blob_release(item->desc);
    item->desc = blob_copy(c->desc);
    INVARIANT(item->desc != NULL);
out:
    arena_deinit(&arena);
    return st;
}

/* A change of shape is made for one generation of the descriptor. Evaluation sees to that; this is the
 * second lock on the door, the same on every replica. */
static bool overtaken(const struct replica *r, const struct command *c)
{
    const bool shape =
        c->kind == COMMAND_SPLIT || c->kind == COMMAND_MERGE || c->kind == COMMAND_CANCEL_MERGE;

    return shape && c->generation != r->submitted.generation;
}

static bool has_locks(const struct mvcc_stats *s)
{
    return s->intent_count != 0 || s->lock_count != 0;
}

static void add_stats(struct replica *r, uint64_t index, const struct mvcc_stats *delta)
{
    const bool had = has_locks(&r->submitted.stats);

    mvcc_stats_add(&r->submitted.stats, delta);
    if (had || has_locks(&r->submitted.stats)) {
        r->locks_index = index;
    }
}

bool apply__no_locks(const struct replica *r)
{
    return !has_locks(&r->submitted.stats) && r->applied.index >= r->locks_index;
}

/* *last: nothing behind it may be part of the same item. */
static struct status apply_command(struct replica *r, const struct raft_entry *e,
                                   struct store_write *w, struct write_item *item, bool *last)
{
    struct command c;

    *last = false;
    if (e->payload == NULL) {
        return OK; /* An empty entry of the core. */
    }
    TRY(command_decode(blob_bytes(e->payload), &c));
    if (overtaken(r, &c)) {
        return OK;
    }
    if (command_has_desc(c.kind)) {
        *last = true;
        TRY(note_desc(r, &c, item));
    }
    if (c.ops.len > 0) {
        TRY(engine_batch_append(&w->batch, c.ops, true));
    }
    add_stats(r, e->index, &c.stats);
    TRY(note_closed(r, &c));
    switch (c.kind) {
    case COMMAND_LEASE_START:
    case COMMAND_LEASE_REVOKE:
        note_lease(&r->submitted, e, &c, item);
        break;
    case COMMAND_SPLIT:
        return change__apply_split(r, &c, w, item);
    case COMMAND_MERGE:
        return change__apply_merge(r, e, &c, w, item);
    case COMMAND_FREEZE:
        r->submitted.freeze = (struct range_freeze){e->index, c.start_ts, c.left, c.generation};
        break;
    case COMMAND_UNFREEZE:
        if (r->submitted.freeze.index == c.freeze_index) {
            r->submitted.freeze = (struct range_freeze){0};
        }
        break;
    case COMMAND_ADDRESSED:
        if (r->submitted.generation == c.generation) {
            r->submitted.addressed = true;
            r->submitted.merge_index = 0;
        }
        break;
    case COMMAND_GC_THRESHOLD:
        /* Before the write can be seen: see maintain/gc.c. */
        r->gc_threshold = hts_max(r->gc_threshold, c.start_ts);
        break;
    case COMMAND_CHECKSUM:
        *last = true;
        item->checksum_index = e->index;
        break;
    case COMMAND_CONF:
    case COMMAND_CANCEL_MERGE:
    case COMMAND_WRITE:
        recent_note(r->store->recent, c.txn, c.start_ts);
        break;
    case COMMAND_NOOP:
    case COMMAND_KIND_COUNT:
        break;
    }
    return OK;
}

/*
 * Tells proposals which term applies at their index. Terms never fall along the log, so a proposal
 * behind these entries but of a lower term was overwritten. Its index may not be reached for long:
 * it would keep its latches and its place in front of what we propose in a later term.
 */
static void note_proposals(struct replica *r, const struct raft_entry *entries, uint32_t count)
{
    const struct raft_entry *last = &entries[count - 1];

    LIST_FOREACH(it, &r->proposals) {
        struct proposal *p = LIST_ENTRY(it, struct proposal, link);

        if (p->index > last->index && p->term >= last->term) {
            break; /* So are all that follow: they were appended later. */
        }
        if (p->index > last->index) {
            p->applied_term = last->term;
        } else if (p->index >= entries[0].index) {
            p->applied_term = entries[p->index - entries[0].index].term;
        }
    }
}

static void probe_applied(struct replica *r, const struct raft_entry *e)
{
    const struct store_probe *probe = &r->store->probe;

    if (probe->applied != NULL) {
        probe->applied(probe->ctx, r->store->o.ident.store, r->range, e->index, e->term,
                       blob_bytes(e->payload));
    }
}

static struct status put_applied_state(struct replica *r, struct store_write *w)
{
    uint8_t mem[KEY_RANGE_ID_SIZE];
    struct buf *value = &r->store->block;

    buf_clear(value);
    TRY(applied_state_encode(&r->submitted, value));
    return engine_batch_put(&w->batch, ENGINE_CF_STATE,
                            key_range_record(mem, r->range, KEY_RANGE_APPLIED), buf_bytes(value));
}

/* Entries of a page into the pending write, up to one that changes the range's shape. */
static struct status submit_page(struct replica *r, struct raft_entry *entries, uint32_t read,
                                 uint32_t *done)
{
    struct store_write *w = store__pending(r->store);
    struct write_item *item = store__add_item(w, r);
    uint32_t count = 0;
    bool last = false;

#ifdef DSQL_PLANTS
    if ((r->store->o.plants & STORE_PLANT_REORDER_APPLY) != 0 && read >= 2) {
        struct blob *swap = entries[0].payload;

        entries[0].payload = entries[1].payload;
        entries[1].payload = swap;
    }
#endif
    while (count < read && !last) {
        TRY(apply_command(r, &entries[count], w, item, &last));
        probe_applied(r, &entries[count]);
        count++;
    }
    r->submitted.index = entries[count - 1].index;
    r->submitted.term = entries[count - 1].term;
    r->store->stats.commands += count;
    TRY(put_applied_state(r, w));
    item->applied = true;
    item->state = r->submitted;
    note_proposals(r, entries, count);
    if (item->checksum_index != 0) {
        w->wants_snap = true;
        store__seal(r->store); /* Nothing later may be in what the digest is taken of. */
    }
    *done = count;
    return OK;
}

void apply__submit(struct replica *r, uint64_t lo, uint64_t hi)
{
    struct raft_entry *entries = r->store->apply_page;

    while (lo <= hi) {
        const uint64_t upto =
            hi - lo < RANGE_APPLY_ENTRIES_MAX ? hi : lo + RANGE_APPLY_ENTRIES_MAX - 1;
        uint32_t count = 0;
        uint32_t done = 0;
        struct status st =
            raft_read_entries(r->raft, lo, upto, RANGE_APPLY_ENTRIES_MAX, entries, &count);

        if (status_ok(st) && count > 0) {
            st = submit_page(r, entries, count, &done);
        }
        for (uint32_t i = 0; i < count; i++) {
            blob_release(entries[i].payload);
        }
        if (!status_ok(st) || count == 0) {
            store__fatal(r->store,
                         status_ok(st) ? FAIL(STATUS_CORRUPT, "committed entry missing") : st);
            return;
        }
        lo += done;
    }
}

/* ---- who waits ---------------------------------------------------------------------------------- */

static void answer(struct proposal *p, struct status st)
{
    if (p->waiter != NULL && !p->answered) {
        *p->outcome = st;
        completion_fire(p->waiter);
    }
    p->answered = true;
    p->waiter = NULL;
}

static void finish(struct replica *r, struct proposal *p, struct status st)
{
    answer(p, st);
    list_remove(&p->link);
    r->proposals_count--;
    if (p->latched) {
        latch_release(&r->latches, &p->guard);
    }
    proposal__free(p);
}

void apply__answer_committed(struct replica *r)
{
    const struct raft_state rs = raft_get_state(r->raft);

    if (rs.role != RAFT_LEADER) {
        return; /* Whether it committed is known when the index applies. */
    }
    LIST_FOREACH(it, &r->proposals) {
        struct proposal *p = LIST_ENTRY(it, struct proposal, link);

        if (p->term != rs.term) {
            continue; /* Of an earlier leadership. */
        }
        if (p->index > rs.commit) {
            break;
        }
        answer(p, OK);
    }
}

void apply__resolve_proposals(struct replica *r, uint64_t upto)
{
    LIST_FOREACH(it, &r->proposals) {
        struct proposal *p = LIST_ENTRY(it, struct proposal, link);

        if (p->applied_term != 0 && p->applied_term != p->term) {
            finish(r, p, FAIL(STATUS_NOT_PROPOSED, "another leader overwrote the write"));
        } else if (p->index > upto) {
            return;
        } else if (p->applied_term == 0) {
            finish(r, p, FAIL(STATUS_AMBIGUOUS, "the outcome of the write is unknown"));
        } else {
            finish(r, p, OK);
        }
    }
}

void apply__fail_proposals(struct replica *r, struct status why)
{
    while (!list_empty(&r->proposals)) {
        finish(r, LIST_ENTRY(r->proposals.next, struct proposal, link), why);
    }
}
