/*
 * closed.c -- promises in the log.
 *
 * A write has a dangerous time: from the choice of its timestamp to its place in the log. Whatever is
 * promised meanwhile must stay below it. The tree of writes holds exactly those; its lowest bounds the
 * promise. A write that comes later chooses a timestamp above `assigned`. So at every append
 *
 *     promise = max(assigned, min(now - lag, lowest tracked - 1, LSU - 1))
 *
 * The entry's own write is taken out first: a promise binds later entries only.
 *
 * Below LSU nobody else is elected, and the next lease, with it the floor of its writes, starts above. A
 * leader that hands over releases its voters before LSU: it promises nothing from the beginning of the transfer
 * on, and its REVOKE carries what it has promised aside. Entries of a leader that does not serve yet carry no
 * promise (zero), and leave what the range had.
 *
 * Invariants: 1. Promises never fall along the log.
 *             2. No entry writes a new value at or below the promise of an earlier one.
 *             3. closed__effective() of a replica never falls while it lives.
 */
#include "node/range/closed/closed.h"

#include "node/base/invariant.h"
#include "node/range/internal.h"

/* ---- the tracker -------------------------------------------------------------------------------- */

static const struct closed_write *of_node(const struct tree_node *node)
{
    return (const struct closed_write *)(const void *)((const char *)node -
                                                       offsetof(struct closed_write, node));
}

static int compare_writes(const struct tree_node *node, const void *key)
{
    const struct closed_write *a = of_node(node);
    const struct closed_write *b = key;
    const int c = hts_cmp(a->ts, b->ts);

    if (c != 0) {
        return c;
    }
    return a->sequence < b->sequence ? -1 : a->sequence > b->sequence;
}

void closed_init(struct closed_ts *c)
{
    *c = (struct closed_ts){0};
    tree_init(&c->writes, compare_writes);
    list_init(&c->wait_link);
}

void closed_track(struct closed_ts *c, struct closed_write *w, struct hts ts)
{
    INVARIANT(hts_less(c->assigned, ts));
    closed_untrack(w);
    w->in = c;
    w->ts = ts;
    w->sequence = c->next_sequence++;
    INVARIANT(tree_insert(&c->writes, &w->node, w));
}

void closed_untrack(struct closed_write *w)
{
    if (w->in != NULL) {
        tree_remove(&w->in->writes, &w->node);
        w->in = NULL;
    }
}

struct hts closed_low(const struct closed_ts *c)
{
    const struct tree_node *first = tree_first(&c->writes);

    return first == NULL ? HTS_MAX : of_node(first)->ts;
}

struct hts closed_assign(struct closed_ts *c, struct hts target, struct hts until)
{
    const struct hts limit = hts_prev(hts_min(closed_low(c), until));

    c->assigned = hts_max(c->assigned, hts_min(target, limit));
    return c->assigned;
}

/* ---- of a replica ------------------------------------------------------------------------------- */

static bool closes_in_flight(const struct replica *r)
{
#ifdef DSQL_PLANTS
    return (r->store->o.plants & STORE_PLANT_CLOSE_IN_FLIGHT) != 0;
#else
    UNUSED(r);
    return false;
#endif
}

struct hts closed__assigned(const struct replica *r)
{
    return hts_max(r->closed.assigned, side__published(r));
}

void closed__track(struct replica *r, struct proposal *p, struct hts ts)
{
    if (closes_in_flight(r)) {
        return;
    }
    side__leave(r);
    closed_track(&r->closed, &p->write, ts);
}

void closed__untrack(struct replica *r, struct proposal *p)
{
    UNUSED(r);
    closed_untrack(&p->write);
}

struct hts closed__target(const struct store *s)
{
    const struct hts now = hclock_hts(hlc_now(s->hlc));

    return now.wall < s->o.closed_lag_ns ? HTS_ZERO
                                         : (struct hts){now.wall - s->o.closed_lag_ns, 0};
}

struct hts closed__attach(struct replica *r, enum command_kind kind, uint64_t term)
{
    const struct raft_state rs = raft_get_state(r->raft);

    side__leave(r);
    if (r->serving_term != term || r->revoked_index != 0 || kind == COMMAND_LEASE_START ||
        r->submitted.freeze.index != 0) {
        return HTS_ZERO;
    }
    if (rs.transferring) {
        return r->closed.assigned; /* The revocation; the next lease may start at any time. */
    }
    return closed_assign(&r->closed, closed__target(r->store), raft_lead_support_until(r->raft));
}

struct hts closed__effective(const struct replica *r)
{
    struct hts ts = hts_max(r->applied.closed_ts, r->closed.aside);

    ts = hts_max(ts, side__adopted(r, r->applied.index));
    return hts_max(ts, side__published(r));
}

void closed__tell(struct replica *r)
{
    const struct store_probe *probe = &r->store->probe;
    struct hts ts;

    if (probe->closed == NULL || r->life != REPLICA_INIT) {
        return;
    }
    ts = closed__effective(r);
    if (hts_less(r->closed.told, ts)) {
        r->closed.told = ts;
        probe->closed(probe->ctx, r->store->o.ident.store, r->range, ts);
    }
}

void closed__applied(struct replica *r)
{
    const struct raft_state rs = raft_get_state(r->raft);

    if (rs.role == RAFT_LEADER && r->serving_term == rs.term) {
        /* Promises of earlier leaders bind us: our lease, hence all our writes, are above them. */
        r->closed.assigned = hts_max(r->closed.assigned, closed__effective(r));
        side__await_idle(r);
    }
    closed__tell(r);
}

void closed__forget(struct replica *r)
{
    side__forget(r);
    list_remove(&r->closed.wait_link);
}
