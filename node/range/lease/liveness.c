/*
 * liveness.c -- promises between stores.
 *
 * Two roles in one object. As requester we raise `max_requested` durably, then ask every peer for
 * support until then. As supporter we answer only after the promise (epoch, and the highest
 * expiration promised to anyone) is durable, and withdraw when our clock has passed it.
 *
 * Everything that must be durable is one record with a version. What depends on it (messages,
 * withdrawals becoming visible) waits for liveness_durable(version).
 *
 * Invariants
 *   1. A response (epoch, expiration) leaves only when a restart would restore at least that promise.
 *   2. Own support counts only up to the durable max_requested.
 *   3. An epoch, once withdrawn durably, is never supported again.
 *   4. Expirations taken from responses are capped by what we asked for: a restarted supporter may
 *      answer with an inflated value, and ours must not survive our own restart.
 */
#include "node/range/lease/liveness.h"

#include <stdlib.h>

#include "node/base/codec.h"
#include "node/base/invariant.h"
#include "node/base/list.h"

#define RECORD_FORMAT       1u
#define EXPIRATION_ROUND_NS ((uint64_t)1000000000)
#define MSGS_MAX            (4 * LIVENESS_PEERS_MAX)
#define EPOCH_MAX           ((uint64_t)1 << 62) /* Counting up never gets there. */

struct peer {
    store_id store;
    bool asked;          /* We want its support. */
    uint64_t ask_epoch;  /* Of our requests to it: above `epoch` after a withdrawal of its. */
    uint64_t from_epoch; /* Of our requests that it supports; 0: none. */
    struct hts from_expiration;
    bool from_live;            /* It had not run out when we looked last. */
    uint64_t for_epoch;        /* Epoch of its requests that we support, or would next. */
    struct hts for_expiration; /* Zero: not supported. */
    bool withdrawing;          /* Withdrawn in the record, not yet durable: still counts. */
    uint64_t withdraw_version;
    uint64_t withdraw_epoch; /* Epoch that still counts while withdrawing. */
    bool changed;
};

struct queued_msg {
    struct list link;
    struct liveness_msg msg;
    uint64_t version; /* Free once this record version is durable. */
};

struct liveness {
    struct liveness_options o;
    uint64_t epoch;           /* Of the requests of this life, before any withdrawal. */
    uint64_t max_epoch;       /* Highest that any request carried: the next life starts above. */
    struct hts max_requested; /* In the record. */
    struct hts durable_requested;
    struct hts max_withdrawn;
    struct hts max_expiration; /* Highest promise given, rounded up. */
    uint64_t clock_bound;      /* In the record. */
    uint64_t durable_clock_bound;

    struct peer *peers;
    uint32_t peers_count;
    uint32_t peers_cap;

    uint64_t version;       /* Of the record as it should be. */
    uint64_t taken_version; /* Handed out for writing. */
    uint64_t durable_version;
    struct hts taken_requested; /* Values of the version handed out last. */
    uint64_t taken_clock_bound;

    struct list msgs;
    uint32_t msgs_count;
    struct hts next_heartbeat;
    struct hts last_tick;
    struct hts no_withdrawal_before;
    uint32_t plants;
};

static struct peer *find_peer(const struct liveness *l, store_id store)
{
    for (uint32_t i = 0; i < l->peers_count; i++) {
        if (l->peers[i].store.v == store.v) {
            return &l->peers[i];
        }
    }
    return NULL;
}

static struct peer *make_peer(struct liveness *l, store_id store)
{
    struct peer *p = find_peer(l, store);

    if (p != NULL || l->peers_count == LIVENESS_PEERS_MAX) {
        return p;
    }
    if (l->peers_count == l->peers_cap) {
        const uint32_t cap = l->peers_cap == 0 ? 16 : l->peers_cap * 2;
        struct peer *grown = realloc(l->peers, cap * sizeof(*grown));

        if (grown == NULL) {
            return NULL;
        }
        l->peers = grown;
        l->peers_cap = cap;
    }
    p = &l->peers[l->peers_count++];
    *p = (struct peer){.store = store};
    return p;
}

static void queue_msg(struct liveness *l, struct liveness_msg m)
{
    struct queued_msg *q = NULL;

    if (l->msgs_count >= MSGS_MAX) {
        return; /* Heartbeats repeat. */
    }
    q = malloc(sizeof(*q));
    if (q == NULL) {
        return;
    }
    *q = (struct queued_msg){.msg = m, .version = l->version};
    list_push_back(&l->msgs, &q->link);
    l->msgs_count++;
}

static struct status encode_record(const struct liveness *l, struct buf *out)
{
    TRY(buf_append_u8(out, RECORD_FORMAT));
    TRY(buf_append_varint(out, l->max_epoch));
    TRY(buf_append_varint(out, l->max_requested.wall));
    TRY(buf_append_varint(out, l->max_withdrawn.wall));
    TRY(buf_append_varint(out, l->max_expiration.wall));
    TRY(buf_append_varint(out, l->clock_bound));
    TRY(buf_append_varint(out, l->peers_count));
    for (uint32_t i = 0; i < l->peers_count; i++) {
        TRY(buf_append_varint(out, l->peers[i].store.v));
        TRY(buf_append_varint(out, l->peers[i].for_epoch));
    }
    return OK;
}

static struct status decode_record(struct liveness *l, struct bytes record)
{
    struct reader r = reader_of(record);
    const uint8_t format = read_u8(&r);
    uint64_t count = 0;

    l->max_epoch = read_varint(&r);
    l->max_requested.wall = read_varint(&r);
    l->max_withdrawn.wall = read_varint(&r);
    l->max_expiration.wall = read_varint(&r);
    l->clock_bound = read_varint(&r);
    count = read_varint(&r);
    if (r.bad || format != RECORD_FORMAT || count > LIVENESS_PEERS_MAX) {
        return FAIL(STATUS_CORRUPT, "damaged liveness record");
    }
    for (uint64_t i = 0; i < count; i++) {
        struct peer *p = make_peer(l, (store_id){(uint32_t)read_varint(&r)});

        if (p == NULL) {
            return FAIL(STATUS_MEMORY, "out of memory");
        }
        p->for_epoch = read_varint(&r);
        /* What was promised to this one is not known: assume the highest promise ever given. */
        p->for_expiration = p->for_epoch == 0 ? HTS_ZERO : l->max_expiration;
    }
    return r.bad ? FAIL(STATUS_CORRUPT, "damaged liveness record") : OK;
}

static void bump_version(struct liveness *l)
{
    if (l->version == l->taken_version) {
        l->version++;
    }
}

struct status liveness_create(const struct liveness_options *o, struct bytes record, struct hts now,
                              struct liveness **out, struct hts *wait_until_out)
{
    struct liveness *l = calloc(1, sizeof(*l));
    struct status st = OK;

    *wait_until_out = HTS_ZERO;
    if (l == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    l->o = *o;
    l->o.heartbeat_ns = o->heartbeat_ns == 0 ? LIVENESS_HEARTBEAT_NS_DEFAULT : o->heartbeat_ns;
    l->o.support_ns = o->support_ns == 0 ? LIVENESS_SUPPORT_NS_DEFAULT : o->support_ns;
    l->o.grace_ns = o->grace_ns == 0 ? LIVENESS_GRACE_NS_DEFAULT : o->grace_ns;
    list_init(&l->msgs);
    if (record.len > 0) {
        TRY_OUT(decode_record(l, record));
        *wait_until_out = l->max_requested;
    }
    l->epoch = ++l->max_epoch; /* Durable with the first record, before any request uses it. */
    l->durable_clock_bound = l->clock_bound;
    l->version = 1;
    l->last_tick = now;
    l->no_withdrawal_before = hts_add_ns(now, l->o.grace_ns);
    l->next_heartbeat = now;
    *out = l;
    return OK;
out:
    liveness_destroy(l);
    return st;
}

void liveness_destroy(struct liveness *l)
{
    struct list *item = NULL;

    if (l == NULL) {
        return;
    }
    while ((item = list_pop_front(&l->msgs)) != NULL) {
        free(LIST_ENTRY(item, struct queued_msg, link));
    }
    free(l->peers);
    free(l);
}

struct status liveness_add_peer(struct liveness *l, store_id store)
{
    struct peer *p = NULL;

    if (store.v == l->o.self.v) {
        return OK;
    }
    p = make_peer(l, store);
    if (p == NULL) {
        return FAIL(STATUS_OVERLOADED, "too many stores");
    }
    if (!p->asked) {
        p->asked = true;
        p->ask_epoch = l->epoch;
        l->next_heartbeat = hts_min(l->next_heartbeat, l->last_tick);
    }
    return OK;
}

static void send_heartbeats(struct liveness *l, struct hts now)
{
    const struct hts until = {now.wall + l->o.support_ns, 0};
    const uint64_t bound = now.wall + LIVENESS_CLOCK_AHEAD_NS;

    l->max_requested = hts_max(l->max_requested, until);
    l->clock_bound = bound > l->clock_bound ? bound : l->clock_bound;
    /* Else a store whose disk stalls would see its clock stand still below the end of its lease. */
    l->clock_bound = until.wall > l->clock_bound ? until.wall : l->clock_bound;
    bump_version(l);
    for (uint32_t i = 0; i < l->peers_count; i++) {
        if (l->peers[i].asked) {
            queue_msg(l, (struct liveness_msg){.from = l->o.self,
                                               .to = l->peers[i].store,
                                               .epoch = l->peers[i].ask_epoch,
                                               .expiration = until});
        }
    }
    l->next_heartbeat = hts_add_ns(now, l->o.heartbeat_ns);
}

static void withdraw(struct liveness *l, struct peer *p, struct hts now)
{
    p->withdrawing = true;
    p->withdraw_epoch = p->for_epoch;
    p->for_epoch++;
    p->for_expiration = HTS_ZERO;
    l->max_withdrawn = hts_max(l->max_withdrawn, (struct hts){now.wall, 0});
    bump_version(l);
    p->withdraw_version = l->version;
#ifdef DSQL_PLANTS
    if ((l->plants & LIVENESS_PLANT_FORGET_WITHDRAWAL) != 0) {
        p->withdrawing = false;
        p->changed = true;
    }
#endif
}

/* Support that runs out, or comes back, is news without any message of its own. */
static void note_from_live(struct peer *p, struct hts now)
{
    const bool live = hts_less(now, p->from_expiration);

    p->changed = p->changed || live != p->from_live;
    p->from_live = live;
}

void liveness_tick(struct liveness *l, struct hts now)
{
    if (now.wall > l->last_tick.wall + l->o.support_ns / 2) {
        /* We were not running: others' heartbeats wait in our queue. Do not dethrone everybody. */
        l->no_withdrawal_before = hts_add_ns(now, l->o.grace_ns);
    }
    l->last_tick = now;
    if (hts_less_eq(l->next_heartbeat, now)) {
        send_heartbeats(l, now);
    }
    for (uint32_t i = 0; i < l->peers_count; i++) {
        note_from_live(&l->peers[i], now);
    }
    if (hts_less(now, l->no_withdrawal_before)) {
        return;
    }
    for (uint32_t i = 0; i < l->peers_count; i++) {
        struct peer *p = &l->peers[i];

        if (!hts_is_zero(p->for_expiration) && hts_less_eq(p->for_expiration, now)) {
            withdraw(l, p, now);
        }
    }
}

static void receive_request(struct liveness *l, const struct liveness_msg *m)
{
    struct peer *p = make_peer(l, m->from);

    if (p == NULL) {
        return;
    }
    if (m->epoch > p->for_epoch) {
        /* A new life of the peer, or it accepted a withdrawal: it gave up the old epoch itself. */
        p->for_epoch = m->epoch;
        p->for_expiration = m->expiration;
        p->withdrawing = false;
        p->changed = true;
        bump_version(l);
    } else if (m->epoch == p->for_epoch) {
        if (hts_is_zero(p->for_expiration)) {
            p->changed = true;
        }
        p->for_expiration = hts_max(p->for_expiration, m->expiration);
    }
    if (hts_less(l->max_expiration, p->for_expiration)) {
        l->max_expiration = (struct hts){p->for_expiration.wall + EXPIRATION_ROUND_NS, 0};
        bump_version(l);
    }
    queue_msg(l, (struct liveness_msg){.from = l->o.self,
                                       .to = m->from,
                                       .epoch = p->for_epoch,
                                       .expiration = p->for_expiration,
                                       .response = true});
}

static void receive_response(struct liveness *l, const struct liveness_msg *m, struct hts now)
{
    struct peer *p = find_peer(l, m->from);

    if (p == NULL || m->epoch < p->ask_epoch) {
        return;
    }
    if (m->epoch > p->ask_epoch) {
        /* It withdrew. Only its own epoch moves on: the promises of the others still bind them, and
         * our leases may rest on them until they run out. */
        p->ask_epoch = m->epoch;
        p->from_epoch = 0;
        p->from_expiration = HTS_ZERO;
        p->changed = true;
        l->max_epoch = m->epoch > l->max_epoch ? m->epoch : l->max_epoch;
        bump_version(l);
        l->next_heartbeat = HTS_ZERO;
        return;
    }
    if (p->from_epoch != p->ask_epoch) {
        p->from_epoch = p->ask_epoch;
        p->from_expiration = HTS_ZERO;
        p->changed = true;
    }
    p->from_expiration = hts_max(p->from_expiration, hts_min(m->expiration, l->durable_requested));
    note_from_live(p, now);
}

void liveness_receive(struct liveness *l, const struct liveness_msg *m, struct hts now)
{
    if (m->to.v != l->o.self.v || m->from.v == 0 || m->from.v == l->o.self.v || m->epoch == 0 ||
        m->epoch > EPOCH_MAX) {
        return;
    }
    if (m->response) {
        receive_response(l, m, now);
    } else if (m->expiration.wall <= now.wall ||
               m->expiration.wall - now.wall <= LIVENESS_PROMISE_NS_MAX) {
        receive_request(l, m);
    }
}

struct hts liveness_next_due(const struct liveness *l)
{
    struct hts due = l->next_heartbeat;

    for (uint32_t i = 0; i < l->peers_count; i++) {
        if (!hts_is_zero(l->peers[i].for_expiration)) {
            due = hts_min(due, hts_max(l->peers[i].for_expiration, l->no_withdrawal_before));
        }
    }
    return due;
}

bool liveness_take_record(struct liveness *l, struct buf *record_out, uint64_t *version_out)
{
    if (l->taken_version == l->version || !status_ok(encode_record(l, record_out))) {
        return false;
    }
    l->taken_version = l->version;
    l->taken_requested = l->max_requested;
    l->taken_clock_bound = l->clock_bound;
    *version_out = l->version;
    return true;
}

void liveness_durable(struct liveness *l, uint64_t version)
{
    INVARIANT(version <= l->taken_version);
    if (version > l->durable_version) {
        l->durable_version = version;
    }
    if (version == l->taken_version) {
        l->durable_requested = l->taken_requested;
        l->durable_clock_bound = l->taken_clock_bound;
    }
    for (uint32_t i = 0; i < l->peers_count; i++) {
        struct peer *p = &l->peers[i];

        if (p->withdrawing && p->withdraw_version <= l->durable_version) {
            p->withdrawing = false;
            p->changed = true;
        }
    }
}

bool liveness_take_msg(struct liveness *l, struct liveness_msg *out)
{
    struct queued_msg *q = NULL;

    if (list_empty(&l->msgs)) {
        return false;
    }
    q = LIST_ENTRY(l->msgs.next, struct queued_msg, link);
    if (q->version > l->durable_version) {
        return false;
    }
    list_remove(&q->link);
    l->msgs_count--;
    *out = q->msg;
    free(q);
    return true;
}

bool liveness_take_changed(struct liveness *l, store_id *out)
{
    for (uint32_t i = 0; i < l->peers_count; i++) {
        if (l->peers[i].changed) {
            l->peers[i].changed = false;
            *out = l->peers[i].store;
            return true;
        }
    }
    return false;
}

bool liveness_support_for(const struct liveness *l, store_id peer, uint64_t *epoch_out)
{
    const struct peer *p = find_peer(l, peer);

    *epoch_out = 0;
    if (peer.v == l->o.self.v) {
        *epoch_out = l->epoch;
        return true;
    }
    if (p == NULL || (hts_is_zero(p->for_expiration) && !p->withdrawing)) {
        return false;
    }
    *epoch_out = p->withdrawing ? p->withdraw_epoch : p->for_epoch;
    return true;
}

void liveness_support_from(const struct liveness *l, store_id peer, uint64_t *epoch_out,
                           struct hts *expiration_out)
{
    const struct peer *p = find_peer(l, peer);

    *epoch_out = 0;
    *expiration_out = HTS_ZERO;
    if (peer.v == l->o.self.v) {
        *epoch_out = l->epoch;
        *expiration_out = l->durable_requested;
    } else if (p != NULL && p->from_epoch != 0) {
        *epoch_out = p->from_epoch;
        *expiration_out = p->from_expiration;
    }
}

uint64_t liveness_clock_bound(const struct liveness *l)
{
    return l->durable_clock_bound;
}

void liveness_set_plants(struct liveness *l, uint32_t plants)
{
    l->plants = plants;
}
