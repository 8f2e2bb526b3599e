/*
 * check.c -- shadow state of all ranges.
 *
 * Per range: the log as far as anybody has applied it (a hash per index), and per term who leads,
 * when his lease starts and the latest time for which he served. Votes are taken from the answers
 * that leave a node, not from its memory: a vote that was never sent binds nobody.
 */
#include "tests/sim/check.h"

#include <stdlib.h>

#include "node/base/codec.h"
#include "node/base/invariant.h"
#include "node/base/map.h"
#include "node/range/command.h"
#include "node/rpc/pb_arena.h"
#include "node/rpc/range.pb-c.h"
#include "tests/sim/keyspace.h"

#define VOTES_MAX ((size_t)1 << 20)

struct entry {
    uint64_t term; /* 0: nobody has applied it, as far as we saw. */
    uint64_t hash;
};

struct term {
    uint64_t term;
    uint32_t leader; /* Machine. */
    bool led;
    bool leased;
    struct hts start_ts;
    struct hts served; /* Highest need that was served; zero: none. */
};

struct range {
    range_id id;
    struct entry *log; /* By index. */
    uint64_t log_cap;
    struct term *terms; /* Ascending. */
    uint32_t terms_count;
    uint32_t terms_cap;
};

/* What one store has told another about its support. */
struct promise {
    uint64_t epoch;
    uint64_t asked; /* Highest epoch that the other asked for. */
    struct hts until;
};

struct check {
    struct sim_world *w;
    struct promise promises[SIM_IDS_MAX][SIM_IDS_MAX]; /* [supporter][requester] */
    struct range ranges[SIM_RANGES_MAX];
    uint32_t ranges_count;
    struct map slots; /* Range id -> index + 1. */
    struct keyspace *keyspace;
    struct map votes; /* hash(range, term, replica) -> candidate */
    struct arena arena;
    struct probe_ctx {
        struct check *check;
        uint32_t node;
    } probes[SIM_NODES_MAX];
};

struct check *check_create(struct sim_world *w)
{
    struct check *c = calloc(1, sizeof(*c));

    INVARIANT(c != NULL);
    c->w = w;
    c->keyspace = keyspace_create(w);
    map_init(&c->votes, VOTES_MAX);
    map_init(&c->slots, SIM_RANGES_MAX);
    arena_init(&c->arena, 0);
    return c;
}

void check_destroy(struct check *c)
{
    for (uint32_t i = 0; i < c->ranges_count; i++) {
        free(c->ranges[i].log);
        free(c->ranges[i].terms);
    }
    map_deinit(&c->votes);
    map_deinit(&c->slots);
    keyspace_destroy(c->keyspace);
    arena_deinit(&c->arena);
    free(c);
}

/* Index of a range in our tables. */
static uint32_t range_slot(struct check *c, range_id id)
{
    const uintptr_t slot = (uintptr_t)map_get(&c->slots, id.v);

    if (slot != 0) {
        return (uint32_t)slot - 1;
    }
    INVARIANT(c->ranges_count < SIM_RANGES_MAX);
    c->ranges[c->ranges_count++].id = id;
    INVARIANT(status_ok(map_put(&c->slots, id.v, (void *)(uintptr_t)c->ranges_count))); /* NOLINT */
    return c->ranges_count - 1;
}

static struct term *find_term(struct range *r, uint64_t term)
{
    uint32_t i = r->terms_count;

    while (i > 0 && r->terms[i - 1].term > term) {
        i--;
    }
    if (i > 0 && r->terms[i - 1].term == term) {
        return &r->terms[i - 1];
    }
    if (r->terms_count == r->terms_cap) {
        r->terms_cap = r->terms_cap == 0 ? 32 : r->terms_cap * 2;
        r->terms = realloc(r->terms, r->terms_cap * sizeof(*r->terms));
        INVARIANT(r->terms != NULL);
    }
    memmove(&r->terms[i + 1], &r->terms[i], (r->terms_count - i) * sizeof(*r->terms));
    r->terms_count++;
    r->terms[i] = (struct term){.term = term};
    return &r->terms[i];
}

static struct entry *find_entry(struct range *r, uint64_t index)
{
    if (index >= r->log_cap) {
        uint64_t cap = r->log_cap == 0 ? 4096 : r->log_cap * 2;

        cap = cap <= index ? index + 1 : cap;
        r->log = realloc(r->log, cap * sizeof(*r->log));
        INVARIANT(r->log != NULL);
        memset(&r->log[r->log_cap], 0, (cap - r->log_cap) * sizeof(*r->log));
        r->log_cap = cap;
    }
    return &r->log[index];
}

/* ---- probes ------------------------------------------------------------------------------------- */

/* NULL: the process is dying, what it says does not count. */
static struct check *heard(void *ctx, uint32_t *node)
{
    struct probe_ctx *p = ctx;

    *node = p->node;
    return p->check->w->nodes[p->node].cut || p->check->w->failed ? NULL : p->check;
}

static void probe_became_leader(void *ctx, store_id s, range_id id, uint64_t term)
{
    uint32_t node = 0;
    struct check *c = heard(ctx, &node);
    struct range *r = NULL;
    struct term *t = NULL;

    UNUSED(s);
    if (c == NULL) {
        return;
    }
    r = &c->ranges[range_slot(c, id)];
    t = find_term(r, term);
    sim_trace(c->w, "leader", node, id.v, term);
    if (t->led && t->leader != node) {
        sim_fail(c->w, "R1: range %llu has two leaders in term %llu: nodes %u and %u",
                 (unsigned long long)id.v, (unsigned long long)term, t->leader, node);
    }
    if (r->terms_count > 1) {
        sim_state(c->w, SIM_STATE_LEADER_CHANGED);
    }
    t->led = true;
    t->leader = node;
}

static void fail_overlap(struct check *c, range_id id, const struct term *old,
                         const struct term *new)
{
    sim_fail(c->w,
             "R5: leases of range %llu overlap: term %llu (node %u) served %llu.%u, term %llu "
             "(node %u) starts at %llu.%u",
             (unsigned long long)id.v, (unsigned long long)old->term, old->leader,
             (unsigned long long)old->served.wall, old->served.logical,
             (unsigned long long)new->term, new->leader, (unsigned long long)new->start_ts.wall,
             new->start_ts.logical);
}

static void probe_lease_started(void *ctx, store_id s, range_id id, uint64_t term,
                                struct hts start_ts)
{
    uint32_t node = 0;
    struct check *c = heard(ctx, &node);
    struct range *r = NULL;
    struct term *t = NULL;

    UNUSED(s);
    if (c == NULL) {
        return;
    }
    r = &c->ranges[range_slot(c, id)];
    t = find_term(r, term);
    sim_trace(c->w, "lease", node, term, start_ts.wall);
    if (!t->leased) {
        t->leased = true;
        t->start_ts = start_ts;
        keyspace_lease_started(c->keyspace, id, start_ts);
    }
    for (const struct term *old = r->terms; old < t; old++) {
        if (!hts_is_zero(old->served) && hts_less_eq(start_ts, old->served)) {
            fail_overlap(c, id, old, t);
        }
    }
}

static void probe_served(void *ctx, store_id s, range_id id, uint64_t term, struct hts need)
{
    uint32_t node = 0;
    struct check *c = heard(ctx, &node);
    struct range *r = NULL;
    struct term *t = NULL;

    UNUSED(s);
    if (c == NULL) {
        return;
    }
    r = &c->ranges[range_slot(c, id)];
    t = find_term(r, term);
    sim_trace(c->w, "served", node, term, need.wall);
    if (!t->led || t->leader != node) {
        sim_fail(c->w, "R6: node %u serves range %llu in term %llu, which it does not lead", node,
                 (unsigned long long)id.v, (unsigned long long)term);
    }
    t->served = hts_max(t->served, need);
    for (const struct term *new = t + 1; new < r->terms + r->terms_count; new ++) {
        if (new->leased && hts_less_eq(new->start_ts, need)) {
            fail_overlap(c, id, t, new);
        }
        if (!hts_is_zero(new->served)) {
            sim_fail(c->w,
                     "R5: node %u serves range %llu in term %llu after node %u has served it in "
                     "term %llu",
                     node, (unsigned long long)id.v, (unsigned long long)term, new->leader,
                     (unsigned long long)new->term);
        }
    }
}

static void check_order(struct check *c, uint32_t node, uint32_t slot, uint64_t index)
{
    uint64_t *last = &c->w->nodes[node].applied[slot];

    if (*last != 0 && index <= *last) {
        sim_fail(c->w, "R4: node %u applies index %llu of range %llu after %llu", node,
                 (unsigned long long)index, (unsigned long long)c->ranges[slot].id.v,
                 (unsigned long long)*last);
    }
    if (*last != 0 && index > *last + 1 && !c->w->nodes[node].had_snapshot) {
        sim_fail(c->w, "R4: node %u applies index %llu of range %llu right after %llu", node,
                 (unsigned long long)index, (unsigned long long)c->ranges[slot].id.v,
                 (unsigned long long)*last);
    }
    *last = index;
}

static struct hts served_by(const struct range *r)
{
    struct hts served = HTS_ZERO;

    for (uint32_t i = 0; i < r->terms_count; i++) {
        served = hts_max(served, r->terms[i].served);
    }
    return served;
}

/* A command that nobody has applied before. */
static void look_at_command(struct check *c, const struct range *r, uint64_t index,
                            struct bytes command)
{
    struct command cmd;
    struct range_desc d;

    if (command.len == 0 || !status_ok(command_decode(command, &cmd))) {
        return;
    }
    keyspace_command(c->keyspace, r->id, index, &cmd, served_by(r));
    if (cmd.kind != COMMAND_CONF) {
        return;
    }
    arena_reset(&c->arena);
    if (status_ok(range_desc_decode(cmd.desc, &c->arena, &d)) && range_desc_is_joint(&d)) {
        sim_state(c->w, SIM_STATE_JOINT);
    }
}

static void probe_applied(void *ctx, store_id s, range_id id, uint64_t index, uint64_t term,
                          struct bytes command)
{
    uint32_t node = 0;
    struct check *c = heard(ctx, &node);
    const uint64_t hash = hash64(command, term);
    uint32_t slot = 0;
    struct range *r = NULL;
    struct entry *e = NULL;

    UNUSED(s);
    if (c == NULL) {
        return;
    }
    slot = range_slot(c, id);
    r = &c->ranges[slot];
    sim_trace(c->w, "apply", (uint64_t)node << 32 | id.v, index, hash);
    check_order(c, node, slot, index);
    e = find_entry(r, index);
    if (e->term == 0) {
        look_at_command(c, r, index, command);
    }
    if (e->term != 0 && (e->term != term || e->hash != hash)) {
        sim_fail(c->w,
                 "R3: node %u applies another entry at index %llu of range %llu (term %llu) than "
                 "was applied before (term %llu)",
                 node, (unsigned long long)index, (unsigned long long)id.v,
                 (unsigned long long)term, (unsigned long long)e->term);
    }
    if (index > 0 && find_entry(r, index - 1)->term > term) {
        sim_fail(c->w, "R7: terms of range %llu go back at index %llu", (unsigned long long)id.v,
                 (unsigned long long)index);
    }
    e = find_entry(r, index);
    *e = (struct entry){term, hash};
}

/* How far a replica is; after a snapshot it has not told us. 0: unknown. */
static uint64_t applied_by(struct check *c, uint32_t node, range_id id)
{
    struct sim_node *n = &c->w->nodes[node];
    const uint64_t applied = n->applied[range_slot(c, id)];
    struct store_range_info info = {0};

    if ((applied != 0 && !n->had_snapshot) || n->node == NULL || node_store(n->node) == NULL) {
        return applied;
    }
    arena_reset(&c->arena);
    return store_find_range(node_store(n->node), id, &c->arena, &info) ? info.applied : applied;
}

static void probe_closed(void *ctx, store_id s, range_id id, struct hts ts)
{
    uint32_t node = 0;
    struct check *c = heard(ctx, &node);
    const uint64_t index = c == NULL ? 0 : applied_by(c, node, id);

    UNUSED(s);
    if (index != 0) {
        keyspace_closed(c->keyspace, node, id, index, ts);
    }
}

void check_fill_probe(struct sim_world *w, uint32_t node, struct store_probe *out)
{
    struct probe_ctx *p = &w->check->probes[node];

    *p = (struct probe_ctx){w->check, node};
    *out = (struct store_probe){
        .ctx = p,
        .became_leader = probe_became_leader,
        .served = probe_served,
        .lease_started = probe_lease_started,
        .applied = probe_applied,
        .closed = probe_closed,
    };
}

struct keyspace *check_keyspace(const struct check *c)
{
    return c->keyspace;
}

uint32_t check_leader(const struct check *c, range_id range)
{
    const uintptr_t slot = (uintptr_t)map_get(&c->slots, range.v);
    const struct range *r = slot == 0 ? NULL : &c->ranges[slot - 1];

    for (uint32_t k = r == NULL ? 0 : r->terms_count; k > 0; k--) {
        if (r->terms[k - 1].led) {
            return r->terms[k - 1].leader;
        }
    }
    return UINT32_MAX;
}

/* ---- frames ------------------------------------------------------------------------------------- */

static void check_vote(struct check *c, const Dsql__Pb__RaftMsg *m)
{
    uint64_t key[3] = {m->range_id, m->term, m->from};
    const uint32_t candidate = m->type == RAFT_MSG_VOTE ? m->from : m->to;
    const uint64_t slot = hash64(bytes_of(key, sizeof(key)), 0);
    const uintptr_t before = (uintptr_t)map_get(&c->votes, slot);

    if (before != 0 && before != candidate) {
        sim_fail(c->w, "R2: replica %u of range %llu votes for %u and %u in term %llu", m->from,
                 (unsigned long long)m->range_id, (unsigned)before, candidate,
                 (unsigned long long)m->term);
    }
    INVARIANT(status_ok(map_put(&c->votes, slot, (void *)(uintptr_t)candidate))); /* NOLINT */
}

static void look_at_raft(struct check *c, const Dsql__Pb__RaftMsg *m)
{
    switch (m->type) {
    case RAFT_MSG_VOTE: /* A candidate has voted for itself. */
        check_vote(c, m);
        break;
    case RAFT_MSG_VOTE_RESP:
        sim_state(c->w, m->reject ? SIM_STATE_VOTE_REFUSED : SIM_STATE_VOTE_GRANTED);
        if (!m->reject) {
            check_vote(c, m);
        }
        break;
    case RAFT_MSG_APP_RESP:
        if (m->reject) {
            sim_state(c->w, SIM_STATE_APPEND_REFUSED);
        }
        break;
    default: /* The rest promises nothing that we check. */
        break;
    }
}

/* A store withdraws a promise only when its clock has passed it, and never goes back to an older epoch. */
static void check_promise(struct check *c, const Dsql__Pb__Liveness *pb, struct hts now)
{
    struct promise *p = NULL;

    if (pb->from_store >= SIM_IDS_MAX || pb->to_store >= SIM_IDS_MAX) {
        return;
    }
    p = &c->promises[pb->from_store][pb->to_store];
    if (!pb->response) {
        /* The requester gives up its older epochs itself. */
        p = &c->promises[pb->to_store][pb->from_store];
        p->asked = pb->epoch > p->asked ? pb->epoch : p->asked;
        return;
    }
    if (pb->epoch < p->epoch) {
        sim_fail(c->w, "R8: store %u supports store %u at epoch %llu again, after %llu",
                 pb->from_store, pb->to_store, (unsigned long long)pb->epoch,
                 (unsigned long long)p->epoch);
    }
    if (pb->epoch > p->epoch && p->asked < pb->epoch && hts_less(now, p->until)) {
        sim_fail(c->w, "R8: store %u withdraws support of store %u %llu ns too early",
                 pb->from_store, pb->to_store, (unsigned long long)(p->until.wall - now.wall));
    }
    if (pb->epoch > p->epoch) {
        p->until = HTS_ZERO;
    }
    p->epoch = pb->epoch;
    p->until = hts_max(p->until, (struct hts){pb->expiration->wall, pb->expiration->logical});
}

static void look_at_liveness(struct check *c, struct bytes body, struct hts now)
{
    ProtobufCAllocator allocator = pb_arena_allocator(&c->arena);
    const Dsql__Pb__Liveness *pb = dsql__pb__liveness__unpack(&allocator, body.len, body.ptr);

    if (pb == NULL || pb->expiration == NULL) {
        return;
    }
    if (pb->response && pb->expiration->wall == 0) {
        sim_state(c->w, SIM_STATE_SUPPORT_WITHDRAWN);
    }
    check_promise(c, pb, now);
}

void check_frame_sent(struct sim_world *w, uint32_t node, struct bytes frame)
{
    struct check *c = w->check;
    enum status_code reply_status = STATUS_OK;
    struct rpc_message m;
    struct uuid cluster;

    UNUSED(node);
    if (!status_ok(rpc_frame_decode(frame, &m, &cluster, &reply_status))) {
        sim_fail(w, "node %u sends a damaged frame", node);
        return;
    }
    arena_reset(&c->arena);
    if (m.type == RPC_TYPE_RAFT) {
        ProtobufCAllocator allocator = pb_arena_allocator(&c->arena);
        struct reader r = reader_of(m.body);
        const struct bytes head = read_lp_bytes(&r);
        const Dsql__Pb__RaftBatch *b = dsql__pb__raft_batch__unpack(&allocator, head.len, head.ptr);

        for (size_t i = 0; b != NULL && i < b->n_msgs; i++) {
            look_at_raft(c, b->msgs[i]);
        }
    } else if (m.type == RPC_TYPE_LIVENESS) {
        look_at_liveness(c, m.body, hclock_hts(m.hlc));
    }
}

/* ---- logs --------------------------------------------------------------------------------------- */

void check_log_event(struct sim_world *w, uint32_t node, const char *name)
{
    static const struct {
        const char *name;
        enum sim_state state;
    } known[] = {
        {"snapshot.sending", SIM_STATE_SNAPSHOT_SENT},
        {"snapshot.installing", SIM_STATE_SNAPSHOT_INSTALLED},
        {"replica.created", SIM_STATE_REPLICA_CREATED},
        {"replica.removed", SIM_STATE_REPLICA_TOMBSTONE},
        {"store.awake", SIM_STATE_WAITED_FOR_PROMISES},
        {"txn.recovered", SIM_STATE_TXN_RECOVERED},
        {"txn.deadlock", SIM_STATE_DEADLOCK_BROKEN},
        {"txn.push_aborted", SIM_STATE_PUSH_ABORTED},
        {"txn.pushed", SIM_STATE_PUSHED},
        {"rpc.clock_rejected", SIM_STATE_CLOCK_REJECTED},
    };

    for (size_t i = 0; i < ARRAY_COUNT(known); i++) {
        if (strcmp(name, known[i].name) == 0) {
            sim_state(w, known[i].state);
        }
    }
    if (strcmp(name, "snapshot.installing") == 0) {
        if (w->nodes[node].applied[0] != 0) {
            sim_state(w, SIM_STATE_LAGGARD_REPLACED);
        }
        w->nodes[node].had_snapshot = true;
    }
}
