/*
 * side.c -- one message closes all idle ranges that two stores share.
 *
 * Sender. A range whose lease is here and that has nothing under way joins the group. From then on it is
 * closed with all others in it: at each interval the group's timestamp moves to the target, and every store
 * with a replica of any of them is told so, together with which ranges joined (with the index that must
 * have been applied, and the term) and which left. A write leaves the group before its timestamp counts, so
 * that no promise passes it; the leaving itself stands in the next message, before its timestamp.
 *
 * The promise must stay below LSU. What LSU was when last looked at is a lower bound while the term
 * lasts, so the group is ordered by it and only ranges whose bound is reached are looked at again: an
 * interval costs what changed, not what exists.
 *
 * Receiver. Per sending store it keeps the ranges in the group and the group's timestamp. Messages of a
 * stream are numbered; after a gap nothing moves until the sender has repeated everything: a missing
 * message may have held a removal. What was adopted before stays: a promise is true for ever.
 *
 * Failure cases. A restarted sender has a new, higher incarnation; a restarted receiver sees a gap. Stores
 * that are not alive are not sent to, and get everything when they are back. A replica that arrives after
 * its range has joined finds the range among what the sender has told (side__attach).
 *
 * Invariants: 1. Whatever is in the group has no write under way, and its log has no end that is not applied.
 *             2. A receiver moves a range only by a stream without gaps since the range was added.
 *             3. A lower term never takes a range from a higher one.
 */
#include "node/range/closed/side.h"

#include <stdlib.h>

#include "node/base/invariant.h"
#include "node/range/internal.h"
#include "node/rpc/pb_arena.h"

#define TRIPLE 3u /* Numbers per range added. */
#define LOOK_MESSAGES \
    64u /* After that many we look whether a store still has anything in the group. */

/* Another store that has replicas of ranges whose lease is here. */
struct side_peer {
    struct list link;
    store_id store;
    uint64_t seq; /* Of the last message. */
    bool full;    /* It has to be told everything. */
    bool active;  /* It was told of ranges that are still in the group, or were not long ago. */
};

/* A range that left the group since the last interval. */
struct side_left {
    struct list link;
    range_id range;
    uint32_t stores_count;
    store_id stores[RAFT_PEERS_MAX];
};

/* A store that closes ranges here. */
struct side_source {
    struct list link;
    store_id store;
    uint64_t incarnation;
    uint64_t seq;
    struct hts closed;
    struct map members; /* By range id. */
};

struct side_member {
    struct side_source *source;
    struct replica *replica; /* NULL: not here, or closed by somebody else. */
    range_id range;
    uint64_t index;
    uint64_t term;
};

struct side {
    struct store *store;
    struct shard_timer timer;
    bool due;
    /* Sending. */
    uint64_t incarnation; /* Zero: nothing was sent yet. */
    struct hts published; /* Of the group. */
    struct tree group;
    struct list waiting; /* Leads, not in the group. */
    struct list joined;  /* In this interval. */
    struct list left;
    struct list peers;
    struct map peer_of; /* By store. */
    /* Receiving. */
    struct list sources;
    struct map source_of; /* By store. */
    struct side_stats stats;
};

/* ---- life --------------------------------------------------------------------------------------- */

struct group_key {
    struct hts until;
    uint64_t range;
};

static struct replica *of_group_node(struct tree_node *node)
{
    return CONTAINER_OF(node, struct replica, closed.group_node);
}

static int compare_group(const struct tree_node *node, const void *key)
{
    const struct replica *r = of_group_node((struct tree_node *)(uintptr_t)node);
    const struct group_key *k = key;
    const int c = hts_cmp(r->closed.group_until, k->until);

    if (c != 0) {
        return c;
    }
    return r->range.v < k->range ? -1 : r->range.v > k->range;
}

static void on_timer(struct shard_timer *t)
{
    struct side *side = CONTAINER_OF(t, struct side, timer);

    side->due = true; /* The hook at the end of this turn does it. */
    shard_timer_arm_in(side->store->shard, t, side->store->o.side_interval_ns);
}

struct status side__create(struct store *s, struct side **out)
{
    struct side *side = calloc(1, sizeof(*side));

    if (side == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    side->store = s;
    tree_init(&side->group, compare_group);
    list_init(&side->waiting);
    list_init(&side->joined);
    list_init(&side->left);
    list_init(&side->peers);
    list_init(&side->sources);
    map_init(&side->peer_of, LIVENESS_PEERS_MAX);
    map_init(&side->source_of, LIVENESS_PEERS_MAX);
    side->timer.fn = on_timer;
    shard_timer_arm_in(s->shard, &side->timer, s->o.side_interval_ns);
    *out = side;
    return OK;
}

void side__stop(struct side *side)
{
    shard_timer_disarm(side->store->shard, &side->timer);
    side->due = false;
}

static void left_clear(struct side *side)
{
    struct list *it = NULL;

    while ((it = list_pop_front(&side->left)) != NULL) {
        free(LIST_ENTRY(it, struct side_left, link));
    }
}

static void member_drop(struct side_member *m);

static void source_clear(struct side_source *src)
{
    size_t pos = 0;
    uint64_t key = 0;
    void *value = NULL;

    while (map_next(&src->members, &pos, &key, &value)) {
        member_drop(value);
    }
    map_deinit(&src->members);
    map_init(&src->members, STORE_RANGES_MAX);
}

void side__destroy(struct side *side)
{
    struct list *it = NULL;

    if (side == NULL) {
        return;
    }
    side__stop(side);
    left_clear(side);
    while ((it = list_pop_front(&side->peers)) != NULL) {
        free(LIST_ENTRY(it, struct side_peer, link));
    }
    while ((it = list_pop_front(&side->sources)) != NULL) {
        struct side_source *src = LIST_ENTRY(it, struct side_source, link);

        source_clear(src);
        map_deinit(&src->members);
        free(src);
    }
    map_deinit(&side->peer_of);
    map_deinit(&side->source_of);
    free(side);
}

/* ---- the group ---------------------------------------------------------------------------------- */

static bool in_group(const struct replica *r)
{
    return tree_linked(&r->closed.group_node);
}

struct hts side__published(const struct replica *r)
{
    return in_group(r) ? r->store->side->published : HTS_ZERO;
}

void side__await_idle(struct replica *r)
{
    if (!in_group(r) && list_empty(&r->closed.wait_link)) {
        list_push_back(&r->store->side->waiting, &r->closed.wait_link);
    }
}

/* May the range be closed at `ts` now, beside its log? */
static bool is_idle(struct replica *r, struct hts ts)
{
    const struct raft_state rs = raft_get_state(r->raft);

    return rs.role == RAFT_LEADER && r->serving_term == rs.term && !rs.transferring &&
           !rs.stepping_down && r->revoked_index == 0 && !change__held(r) &&
           rs.last == r->applied.index && r->applied.freeze.index == 0 &&
           r->closed.writes.count == 0 && hts_less(closed__assigned(r), ts) &&
           hts_less(ts, raft_lead_support_until(r->raft));
}

static void group_enter(struct side *side, struct replica *r)
{
    struct group_key key = {.range = r->range.v};

    r->closed.group_until = raft_lead_support_until(r->raft);
    r->closed.group_term = raft_get_state(r->raft).term;
    key.until = r->closed.group_until;
    INVARIANT(tree_insert(&side->group, &r->closed.group_node, &key));
}

/* Whom to tell. Without memory everybody is told everything. */
static void note_left(struct side *side, const struct replica *r)
{
    struct side_left *l = calloc(1, sizeof(*l));

    if (l == NULL) {
        LIST_FOREACH(it, &side->peers) {
            LIST_ENTRY(it, struct side_peer, link)->full = true;
        }
        return;
    }
    l->range = r->range;
    for (uint32_t i = 0; i < r->desc.replicas_count; i++) {
        l->stores[l->stores_count++] = r->desc.replicas[i].store;
    }
    list_push_back(&side->left, &l->link);
}

void side__leave(struct replica *r)
{
    struct side *side = r->store->side;

    if (!in_group(r)) {
        return;
    }
    /* What was published holds: it is below whatever comes now. */
    r->closed.assigned = hts_max(r->closed.assigned, side->published);
    r->closed.aside = hts_max(r->closed.aside, side->published);
    tree_remove(&side->group, &r->closed.group_node);
    list_remove(&r->closed.wait_link); /* Joined just now, and not told yet: harmless. */
    note_left(side, r);
    side__await_idle(r);
}

/* Ranges whose promise would reach the LSU that we know are looked at again, or leave. */
static void check_support(struct side *side, struct hts target)
{
    for (;;) {
        struct tree_node *node = tree_first(&side->group);
        struct replica *r = node == NULL ? NULL : of_group_node(node);

        if (r == NULL || hts_less(target, r->closed.group_until)) {
            return;
        }
        replica__refresh_view(r);
        if (!is_idle(r, target)) {
            side__leave(r);
            continue;
        }
        tree_remove(&side->group, node);
        group_enter(side, r);
    }
}

/* Who leads and is idle by now joins; who does not lead any more is nobody of ours. */
static void take_waiting(struct side *side, struct hts target)
{
    LIST_FOREACH(it, &side->waiting) {
        struct replica *r = CONTAINER_OF(it, struct replica, closed.wait_link);

        if (raft_get_state(r->raft).role != RAFT_LEADER) {
            list_remove(it);
            continue;
        }
        replica__refresh_view(r);
        if (is_idle(r, target)) {
            list_remove(it);
            group_enter(side, r);
            list_push_back(&side->joined, it);
        }
    }
}

/* ---- sending ------------------------------------------------------------------------------------ */

static struct side_peer *peer_get(struct side *side, store_id store)
{
    struct side_peer *p = map_get(&side->peer_of, store.v);

    if (p != NULL || store.v == side->store->o.ident.store.v) {
        return p;
    }
    p = calloc(1, sizeof(*p));
    if (p == NULL || !status_ok(map_put(&side->peer_of, store.v, p))) {
        free(p);
        return NULL; /* It is not told: it closes nothing. */
    }
    p->store = store;
    p->full = true;
    list_push_back(&side->peers, &p->link);
    return p;
}

static bool left_concerns(const struct side_left *l, store_id store)
{
    for (uint32_t i = 0; i < l->stores_count; i++) {
        if (l->stores[i].v == store.v) {
            return true;
        }
    }
    return false;
}

static void add_triple(Dsql__Pb__ClosedSide *pb, const struct replica *r)
{
    pb->added[pb->n_added++] = r->range.v;
    pb->added[pb->n_added++] = r->applied.index;
    pb->added[pb->n_added++] = r->closed.group_term;
}

static bool fill_changes(struct side *side, const struct side_peer *p, Dsql__Pb__ClosedSide *pb,
                         size_t joined, size_t left)
{
    pb->added = ARENA_ARRAY(&side->store->scratch, uint64_t, TRIPLE * joined + 1);
    pb->removed = ARENA_ARRAY(&side->store->scratch, uint64_t, left + 1);
    if (pb->added == NULL || pb->removed == NULL) {
        return false;
    }
    LIST_FOREACH(it, &side->left) {
        const struct side_left *l = LIST_ENTRY(it, struct side_left, link);

        if (left_concerns(l, p->store)) {
            pb->removed[pb->n_removed++] = l->range.v;
        }
    }
    LIST_FOREACH(it, &side->joined) {
        const struct replica *r = CONTAINER_OF(it, struct replica, closed.wait_link);

        if (range_desc_find(&r->desc, p->store) != NULL) {
            add_triple(pb, r);
        }
    }
    return true;
}

static bool has_any(const struct side *side, store_id store)
{
    for (struct tree_node *n = tree_first(&side->group); n != NULL; n = tree_next(n)) {
        if (range_desc_find(&of_group_node(n)->desc, store) != NULL) {
            return true;
        }
    }
    return false;
}

static bool fill_all(struct side *side, const struct side_peer *p, Dsql__Pb__ClosedSide *pb)
{
    pb->full = true;
    pb->added = ARENA_ARRAY(&side->store->scratch, uint64_t, TRIPLE * side->group.count + 1);
    if (pb->added == NULL) {
        return false;
    }
    for (struct tree_node *n = tree_first(&side->group); n != NULL; n = tree_next(n)) {
        const struct replica *r = of_group_node(n);

        if (range_desc_find(&r->desc, p->store) != NULL) {
            add_triple(pb, r);
        }
    }
    return true;
}

static struct status send_pb(struct store *s, store_id store, const Dsql__Pb__ClosedSide *pb)
{
    struct rpc_to to = {.store = store, .cls = RPC_CLASS_CONTROL};
    struct bytes body;

    if (!s->o.node_of_store(s->o.node_ctx, store, &to.node)) {
        return FAIL(STATUS_UNAVAILABLE, "the node of a store is unknown");
    }
    TRY(pb_pack(&pb->base, &s->scratch, &body));
    s->side->stats.messages++;
    s->side->stats.bytes += body.len + RPC_HEADER_BYTES;
    return rpc_send(s->o.rpc, to, RPC_TYPE_CLOSED, &body, 1);
}

static void send_to_peer(struct side *side, struct side_peer *p, size_t joined, size_t left)
{
    struct store *s = side->store;
    Dsql__Pb__ClosedSide pb;
    Dsql__Pb__Hts closed;
    bool filled = false;

    if (!store_peer_live(s, p->store)) {
        p->full = true; /* Everything, when it is back. */
        return;
    }
    arena_reset(&s->scratch);
    dsql__pb__closed_side__init(&pb);
    dsql__pb__hts__init(&closed);
    filled = p->full ? fill_all(side, p, &pb) : fill_changes(side, p, &pb, joined, left);
    if (!p->active && pb.n_added == 0 && pb.n_removed == 0) {
        return; /* Nothing of it is in the group. */
    }
    closed.wall = side->published.wall;
    closed.logical = side->published.logical;
    pb.closed = &closed;
    pb.incarnation = side->incarnation;
    pb.seq = ++p->seq;
    side->stats.full += pb.full ? 1 : 0;
    p->active = pb.n_added > 0 || (p->active && !pb.full);
    if (p->seq % LOOK_MESSAGES == 0) {
        p->active = has_any(side, p->store);
    }
    p->full = !filled || !status_ok(send_pb(s, p->store, &pb));
}

static void send_all(struct side *side)
{
    size_t joined = 0;
    size_t left = 0;

    LIST_FOREACH(it, &side->joined) {
        const struct replica *r = CONTAINER_OF(it, struct replica, closed.wait_link);

        joined++;
        for (uint32_t i = 0; i < r->desc.replicas_count; i++) {
            (void)peer_get(side, r->desc.replicas[i].store);
        }
    }
    LIST_FOREACH(it, &side->left) {
        left++;
    }
    LIST_FOREACH(it, &side->peers) {
        send_to_peer(side, LIST_ENTRY(it, struct side_peer, link), joined, left);
    }
}

static void tell_group(struct side *side)
{
    struct tree_node *n = side->store->probe.closed == NULL ? NULL : tree_first(&side->group);

    for (; n != NULL; n = tree_next(n)) {
        closed__tell(of_group_node(n));
    }
}

void side__flush(struct store *s)
{
    struct side *side = s->side;
    struct hts target;

    if (!side->due || s->stopping) {
        return;
    }
    side->due = false;
    target = closed__target(s);
    if (!hts_less(side->published, target)) {
        return; /* The clock stands. */
    }
    if (side->incarnation == 0) {
        side->incarnation = hlc_now(s->hlc).wall;
    }
    check_support(side, target);
    take_waiting(side, target);
    side->published = target;
    send_all(side);
    while (list_pop_front(&side->joined) != NULL) {
    }
    left_clear(side);
    tell_group(side);
    if (s->tscache != NULL) {
        tscache_forget_below(s->tscache, target); /* Who writes there is moved up anyway. */
    }
}

/* ---- receiving ---------------------------------------------------------------------------------- */

struct hts side__adopted(const struct replica *r, uint64_t applied)
{
    const struct side_member *m = r->closed.member;

    return m != NULL && applied >= m->index ? m->source->closed : HTS_ZERO;
}

/* The replica is not closed by this one any more; what was, stays. */
static void member_detach(struct side_member *m)
{
    struct replica *r = m->replica;

    if (r != NULL) {
        r->closed.aside = hts_max(r->closed.aside, side__adopted(r, r->applied.index));
        r->closed.member = NULL;
        m->replica = NULL;
    }
}

static void member_drop(struct side_member *m)
{
    member_detach(m);
    free(m);
}

/* The one of the highest term has it. */
static void member_attach(struct side_member *m, struct replica *r)
{
    struct side_member *old = r->closed.member;

    if (m->term < raft_get_state(r->raft).term || (old != NULL && old->term > m->term)) {
        return;
    }
    if (old != NULL) {
        member_detach(old);
    }
    m->replica = r;
    r->closed.member = m;
}

void side__attach(struct replica *r)
{
    LIST_FOREACH(it, &r->store->side->sources) {
        struct side_member *m =
            map_get(&LIST_ENTRY(it, struct side_source, link)->members, r->range.v);

        if (m != NULL && m->replica == NULL) {
            member_attach(m, r);
        }
    }
}

void side__forget(struct replica *r)
{
    if (r->closed.member != NULL) {
        member_detach(r->closed.member);
    }
    if (in_group(r)) {
        side__leave(r);
    }
}

static struct side_source *source_get(struct side *side, store_id store)
{
    struct side_source *src = map_get(&side->source_of, store.v);

    if (src != NULL) {
        return src;
    }
    src = calloc(1, sizeof(*src));
    if (src == NULL || !status_ok(map_put(&side->source_of, store.v, src))) {
        free(src);
        return NULL;
    }
    src->store = store;
    map_init(&src->members, STORE_RANGES_MAX);
    list_push_back(&side->sources, &src->link);
    return src;
}

static void remove_members(struct side_source *src, const Dsql__Pb__ClosedSide *pb)
{
    for (size_t i = 0; i < pb->n_removed; i++) {
        struct side_member *m = map_remove(&src->members, pb->removed[i]);

        if (m != NULL) {
            member_drop(m);
        }
    }
}

/* False: no memory, a part is missing. */
static bool add_members(struct side *side, struct side_source *src, const Dsql__Pb__ClosedSide *pb)
{
    for (size_t i = 0; i + TRIPLE <= pb->n_added; i += TRIPLE) {
        struct side_member *m = map_get(&src->members, pb->added[i]);
        struct replica *r = store__find(side->store, (range_id){pb->added[i]});

        if (m != NULL) {
            member_detach(m); /* Left and joined again: only the index has moved. */
        } else {
            m = calloc(1, sizeof(*m));
            if (m == NULL || !status_ok(map_put(&src->members, pb->added[i], m))) {
                free(m);
                return false;
            }
            m->source = src;
            m->range.v = pb->added[i];
        }
        m->index = pb->added[i + 1];
        m->term = pb->added[i + 2];
        if (r != NULL) {
            member_attach(m, r);
        }
    }
    return true;
}

static void tell_members(const struct side_source *src)
{
    size_t pos = 0;
    uint64_t key = 0;
    void *value = NULL;

    while (map_next(&src->members, &pos, &key, &value)) {
        const struct side_member *m = value;

        if (m->replica != NULL) {
            closed__tell(m->replica);
        }
    }
}

static void ask_for_all(struct side *side, const struct side_source *src, uint64_t incarnation)
{
    Dsql__Pb__ClosedSide pb;

    dsql__pb__closed_side__init(&pb);
    pb.want_full = true;
    pb.incarnation = incarnation;
    side->stats.gaps++;
    status_ignore(send_pb(side->store, src->store, &pb)); /* The next message asks again. */
}

static void receive(struct side *side, store_id from, const Dsql__Pb__ClosedSide *pb)
{
    struct side_source *src = source_get(side, from);

    if (src == NULL || pb->incarnation < src->incarnation ||
        (pb->incarnation == src->incarnation && pb->seq <= src->seq)) {
        return; /* Old, or a copy. */
    }
    if (pb->full) {
        source_clear(src);
        src->incarnation = pb->incarnation;
    } else if (pb->incarnation != src->incarnation || pb->seq != src->seq + 1) {
        ask_for_all(side, src, pb->incarnation);
        return;
    }
    src->seq = pb->seq;
    remove_members(src, pb); /* With what they had before. */
    src->closed = hts_max(src->closed, (struct hts){pb->closed->wall, pb->closed->logical});
    if (!add_members(side, src, pb)) {
        src->seq--; /* The next one is a gap. */
    }
    if (side->store->probe.closed != NULL) {
        tell_members(src);
    }
}

void side__on_message(void *store, const struct rpc_message *m)
{
    struct store *s = store;
    ProtobufCAllocator allocator;
    const Dsql__Pb__ClosedSide *pb = NULL;
    struct side_peer *p = map_get(&s->side->peer_of, m->from_store.v);

    arena_reset(&s->scratch);
    allocator = pb_arena_allocator(&s->scratch);
    pb = dsql__pb__closed_side__unpack(&allocator, m->body.len, m->body.ptr);
    if (pb == NULL || s->stopping || s->failed) {
        return;
    }
    if (pb->want_full && p != NULL && pb->incarnation == s->side->incarnation) {
        p->full = true;
    } else if (!pb->want_full && pb->closed != NULL && pb->n_added % TRIPLE == 0 && pb->seq > 0) {
        receive(s->side, m->from_store, pb);
    }
}

void side__get_stats(const struct store *s, struct side_stats *out)
{
    *out = s->side->stats;
    out->idle = s->side->group.count;
    out->followed = 0;
    LIST_FOREACH(it, &s->side->sources) {
        out->followed += LIST_ENTRY(it, struct side_source, link)->members.count;
    }
}
