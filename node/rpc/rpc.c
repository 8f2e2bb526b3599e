/*
 * rpc.c -- messages out and in: identity, checks, clock, dispatch, stores of this process.
 *
 * Out: a header on the stack, the caller's parts behind it, one call into the transport. Nothing is
 * allocated here; the transport copies the parts into its buffer of the connection.
 *
 * In, in this order, which proofs of leases rely on:
 *   1. length, magic, version, checksum      wrong: the transport closes the connection
 *   2. cluster                               another: STATUS_FENCED, the same
 *   3. node                                  another: dropped (an address was given to a new node)
 *   4. store of another shard                copied into a parcel, goes on there at 5
 *   5. clock                                 forwarded; too far ahead: dropped
 *   6. reply, ping or handler
 * Dropping is always allowed: delivery is at most once.
 *
 * A message to a store of this process is a frame too, without checksum, in a parcel: one path of
 * code for all receivers, and the simulator sees the same bytes.
 *
 * Without an identity (a node that has not joined) only JOIN and PING are understood, and replies to
 * own calls.
 */
#include <stdlib.h>

#include "node/base/codec.h"
#include "node/base/invariant.h"
#include "node/rpc/rpc_internal.h"

#define CLOCK_LOG_EVERY_NS  10000000000u
#define LOCAL_STORES_MAX    1024u
#define OWN_QUEUE_BYTES_MAX RPC_QUEUE_BYTES_MAX

/* A frame on its way to a store of this process. */
struct rpc_parcel {
    struct shard_parcel parcel; /* Between shards. */
    struct list link;           /* In rpc.own_queue. */
    size_t size;
    uint8_t frame[];
};

static NOYIELD void own_queue_run(struct shard_task *task);
static NOYIELD bool end_of_turn(void *ctx);
static NOYIELD struct status receive_checked(struct rpc *r, struct bytes frame,
                                             struct rpc_message *m, struct uuid cluster,
                                             enum status_code reply_status);

struct status rpc_create(const struct rpc_options *o, struct rpc **out)
{
    struct rpc *r = calloc(1, sizeof(*r));
    struct status st = OK;

    *out = NULL;
    if (r == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    r->shard = o->shard;
    r->env = shard_env(o->shard);
    r->hlc = o->hlc;
    r->transport = o->transport;
    map_init(&r->local_stores, LOCAL_STORES_MAX);
    map_init(&r->nodes, RPC_NODES_MAX);
    map_init(&r->calls, RPC_CALLS_MAX);
    list_init(&r->node_list);
    list_init(&r->path_calls);
    list_init(&r->own_queue);
    r->own_task.fn = own_queue_run;
    r->ping_timer.fn = rpc__ping_tick;
    /* Random start: replies to an earlier life of this store must not match calls of this one. */
    r->last_call_id = env_random_u64(r->env);

    INVARIANT(shard_get_slot(r->shard, SHARD_SLOT_RPC) == NULL);
    st = shard_add_hook(r->shard, end_of_turn, r->shard);
    if (!status_ok(st)) {
        free(r);
        return st;
    }
    shard_set_slot(r->shard, SHARD_SLOT_RPC, r);
    *out = r;
    return OK;
}

void rpc_destroy(struct rpc *r)
{
    struct list *item = NULL;

    if (r == NULL) {
        return;
    }
    rpc__calls_cancel_all(r);
    shard_set_slot(r->shard, SHARD_SLOT_RPC, NULL);
    shard_timer_disarm(r->shard, &r->ping_timer);
    shard_unpost(r->shard, &r->own_task);
    while ((item = list_pop_front(&r->own_queue)) != NULL) {
        free(LIST_ENTRY(item, struct rpc_parcel, link));
    }
    while ((item = list_pop_front(&r->node_list)) != NULL) {
        free(LIST_ENTRY(item, struct rpc_node, link));
    }
    map_deinit(&r->nodes);
    map_deinit(&r->calls);
    map_deinit(&r->local_stores);
    free(r);
}

/* Goes by the slot, because a hook cannot be taken back when the rpc is destroyed. */
static bool end_of_turn(void *ctx)
{
    struct rpc *r = shard_get_slot(ctx, SHARD_SLOT_RPC);

    if (r != NULL && r->transport.flush != NULL) {
        r->transport.flush(r->transport.ctx);
    }
    return false;
}

void rpc_set_identity(struct rpc *r, struct uuid cluster, node_id node, store_id store)
{
    INVARIANT(!uuid_is_zero(cluster));
    INVARIANT(node.v != 0);
    INVARIANT(store.v != 0);
    r->cluster = cluster;
    r->node = node;
    r->store = store;
}

void rpc__identity(const struct rpc *r, struct uuid *cluster, node_id *node, store_id *store)
{
    *cluster = r->cluster;
    *node = r->node;
    *store = r->store;
}

struct status rpc_add_local_store(struct rpc *r, store_id store, struct shard *shard)
{
    INVARIANT(store.v != 0);
    return map_put(&r->local_stores, store.v, shard);
}

struct status rpc_set_node_address(struct rpc *r, node_id node, const char *address)
{
    if (node.v == 0 || address[0] == '\0') {
        return FAIL(STATUS_INVALID, "an address needs a node id and a text");
    }
    if (r->transport.set_address != NULL) {
        r->transport.set_address(r->transport.ctx, node, address);
    }
    return OK;
}

void rpc_set_handler(struct rpc *r, enum rpc_type type, rpc_handler fn, void *ctx)
{
    INVARIANT(type > RPC_TYPE_PING && type < RPC_TYPE_MAX);
    r->handlers[type] = (struct rpc_handler_slot){fn, ctx};
}

struct rpc_node *rpc__node(struct rpc *r, node_id node)
{
    struct rpc_node *n = map_get(&r->nodes, node.v);

    if (n != NULL || node.v == 0) {
        return n;
    }
    n = calloc(1, sizeof(*n));
    if (n == NULL || !status_ok(map_put(&r->nodes, node.v, n))) {
        free(n);
        return NULL;
    }
    n->node = node;
    list_init(&n->calls);
    list_push_back(&r->node_list, &n->link);
    return n;
}

/* --- Out ----------------------------------------------------------------------------------- */

static NOYIELD struct status body_size(const struct bytes *parts, uint32_t count, size_t *size_out)
{
    size_t size = 0;

    if (count > RPC_PARTS_MAX) {
        return FAIL(STATUS_INVALID, "a message in too many parts");
    }
    for (uint32_t i = 0; i < count; i++) {
        if (parts[i].len > RPC_BODY_MAX - size) {
            return FAIL(STATUS_INVALID, "a message is larger than RPC_BODY_MAX");
        }
        size += parts[i].len;
    }
    *size_out = size;
    return OK;
}

static NOYIELD struct rpc_header header_of(struct rpc *r, const struct rpc_outgoing *o)
{
    return (struct rpc_header){
        .cluster = r->cluster,
        .from_node = r->node,
        .to_node = o->to.node,
        .from_store = r->store,
        .to_store = o->to.store,
        .hlc = hlc_now(r->hlc),
        .call_id = o->call_id,
        .type = (uint16_t)o->type,
        .status = (uint16_t)o->status,
        .flags = o->flags,
    };
}

static NOYIELD void parcel_deliver(struct shard *to, struct shard_parcel *p);

/* A message to this store comes back in a later task of the shard, never from inside the send. */
static NOYIELD struct status queue_own(struct rpc *r, struct rpc_parcel *p)
{
    if (p->size > OWN_QUEUE_BYTES_MAX - r->own_queue_bytes) {
        free(p);
        return FAIL(STATUS_OVERLOADED, "too many messages wait for this store");
    }
    r->own_queue_bytes += p->size;
    list_push_back(&r->own_queue, &p->link);
    shard_post(r->shard, &r->own_task);
    return OK;
}

static NOYIELD struct status post_to(struct shard *to, struct rpc_parcel *p)
{
    const struct status st = shard_post_remote(to, &p->parcel);

    if (!status_ok(st)) {
        free(p);
    }
    return st;
}

static NOYIELD struct rpc_parcel *parcel_new(size_t size)
{
    struct rpc_parcel *p = malloc(sizeof(*p) + size);

    if (p != NULL) {
        p->parcel = (struct shard_parcel){.deliver = parcel_deliver};
        p->size = size;
    }
    return p;
}

static NOYIELD struct status send_local(struct rpc *r, const struct rpc_outgoing *o,
                                        const struct bytes *parts, uint32_t count, size_t body)
{
    const bool own = o->to.store.v == 0 || o->to.store.v == r->store.v;
    struct shard *to = own ? r->shard : map_get(&r->local_stores, o->to.store.v);
    const struct rpc_header h = header_of(r, o);
    struct rpc_parcel *p = NULL;
    size_t at = RPC_HEADER_BYTES;

    if (to == NULL) {
        return FAIL(STATUS_UNAVAILABLE, "no such store on this node");
    }
    p = parcel_new(RPC_HEADER_BYTES + body);
    if (p == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    rpc_frame_header_put(p->frame, &h, parts, count, false);
    for (uint32_t i = 0; i < count; i++) {
        if (parts[i].len > 0) {
            memcpy(p->frame + at, parts[i].ptr, parts[i].len);
            at += parts[i].len;
        }
    }
    return to == r->shard ? queue_own(r, p) : post_to(to, p);
}

static NOYIELD struct status send_frame(struct rpc *r, const struct rpc_outgoing *o,
                                        const struct bytes *parts, uint32_t count)
{
    const struct rpc_header h = header_of(r, o);
    struct rpc_transport *t = &r->transport;
    uint8_t header[RPC_HEADER_BYTES];

    rpc_frame_header_put(header, &h, parts, count, true);
    r->parts[0] = bytes_of(header, sizeof(header));
    if (count > 0) {
        memcpy(r->parts + 1, parts, count * sizeof(parts[0]));
    }
    if (o->path == NULL) {
        return t->send(t->ctx, o->to.node, o->to.cls, r->parts, count + 1);
    }
    if (t->send_path == NULL) {
        return FAIL(STATUS_UNAVAILABLE, "the transport knows no paths");
    }
    return t->send_path(t->ctx, (void *)(uintptr_t)o->path, r->parts, count + 1);
}

struct status rpc__send(struct rpc *r, const struct rpc_outgoing *o, const struct bytes *parts,
                        uint32_t parts_count)
{
    size_t body = 0;

    TRY(body_size(parts, parts_count, &body));
    if (o->path == NULL) {
        struct rpc_node *n = NULL;

        if (r->node.v == 0) {
            return FAIL(STATUS_UNAVAILABLE, "this node has not joined a cluster yet");
        }
        if (o->to.node.v == r->node.v) {
            return send_local(r, o, parts, parts_count, body);
        }
        n = rpc__node(r, o->to.node);
        if (n == NULL) {
            return FAIL(STATUS_UNAVAILABLE, "not a node, or one too many");
        }
        if (o->type != RPC_TYPE_PING) {
            rpc__note_traffic(r, n);
        }
    }
    TRY(send_frame(r, o, parts, parts_count));
    r->stats.frames_sent++;
    r->stats.bytes_sent += RPC_HEADER_BYTES + body;
    return OK;
}

struct status rpc_send(struct rpc *r, struct rpc_to to, enum rpc_type type,
                       const struct bytes *parts, uint32_t parts_count)
{
    const struct rpc_outgoing o = {.to = to, .type = type};

    return rpc__send(r, &o, parts, parts_count);
}

/* --- In ------------------------------------------------------------------------------------ */

bool rpc__cluster_may_talk(struct uuid ours, struct uuid theirs)
{
    return uuid_eq(ours, theirs) || uuid_is_zero(ours) || uuid_is_zero(theirs);
}

static NOYIELD bool cluster_fits(const struct rpc *r, struct uuid cluster,
                                 const struct rpc_message *m)
{
    const bool stranger = uuid_is_zero(r->cluster) || uuid_is_zero(cluster);

    if (!rpc__cluster_may_talk(r->cluster, cluster)) {
        return false;
    }
    return !stranger || m->type == RPC_TYPE_JOIN || m->type == RPC_TYPE_PING ||
           (uuid_is_zero(r->cluster) && (m->flags & RPC_FLAG_REPLY) != 0);
}

struct status rpc_receive(struct rpc *r, struct bytes frame, void *path)
{
    enum status_code reply_status = STATUS_OK;
    struct uuid cluster = {{0}};
    struct rpc_message m;
    struct status st = rpc_frame_decode(frame, &m, &cluster, &reply_status);

    if (status_ok(st)) {
        m.reply_path = path;
        r->stats.frames_received++;
        r->stats.bytes_received += frame.len;
        st = receive_checked(r, frame, &m, cluster, reply_status);
    }
    if (!status_ok(st)) {
        r->stats.frames_refused++;
    }
    return st;
}

static NOYIELD void refuse(struct rpc *r, const struct rpc_message *m, enum status_code code,
                           const char *why)
{
    r->stats.frames_refused++;
    if ((m->flags & RPC_FLAG_CALL) != 0) {
        const struct rpc_reply_to to = rpc_reply_to(m);

        rpc_reply(r, &to, FAIL(code, why), NULL, 0);
    }
}

/* Another shard's message. A full queue over there is a lost message. */
static NOYIELD void hand_over(struct rpc *r, struct shard *to, struct bytes frame,
                              const struct rpc_message *m)
{
    struct rpc_parcel *p = parcel_new(frame.len);

    if (p == NULL) {
        refuse(r, m, STATUS_OVERLOADED, "out of memory");
        return;
    }
    memcpy(p->frame, frame.ptr, frame.len);
    if (!status_ok(post_to(to, p))) {
        refuse(r, m, STATUS_OVERLOADED, "the store's queue of messages is full");
    }
}

static NOYIELD bool forward_clock(struct rpc *r, const struct rpc_message *m)
{
    const uint64_t now_ns = shard_now_ns(r->shard);

    if (status_ok(hlc_update(r->hlc, m->hlc))) {
        return true;
    }
    if (r->clock_logged_ns == 0 || now_ns - r->clock_logged_ns >= CLOCK_LOG_EVERY_NS) {
        r->clock_logged_ns = now_ns;
        LOG_WARN("rpc.clock_rejected", U64("from_node", m->from_node.v),
                 U64("rejected", r->hlc->rejected));
    }
    r->stats.frames_refused++;
    return false;
}

static NOYIELD void answer_ping(struct rpc *r, const struct rpc_message *m)
{
    const struct rpc_reply_to to = rpc_reply_to(m);

    uint8_t wall[8];
    const struct bytes body = bytes_of(wall, sizeof(wall));

    if ((m->flags & RPC_FLAG_CALL) != 0) {
        be64_put(wall, env_wall_ns(r->env));
        rpc_reply(r, &to, OK, &body, 1);
    }
}

static NOYIELD void dispatch(struct rpc *r, const struct rpc_message *m, enum status_code status)
{
    if (m->from_node.v != 0 && m->from_node.v != r->node.v && m->type != RPC_TYPE_PING) {
        struct rpc_node *n = rpc__node(r, m->from_node);

        if (n != NULL) {
            rpc__note_traffic(r, n);
        }
    }
    if ((m->flags & RPC_FLAG_REPLY) != 0) {
        rpc__reply_arrived(r, m, status);
    } else if (m->type == RPC_TYPE_PING) {
        answer_ping(r, m);
    } else if ((uint32_t)m->type >= RPC_TYPE_MAX || r->handlers[m->type].fn == NULL) {
        refuse(r, m, STATUS_UNSUPPORTED, "this node does not know such messages");
    } else {
        r->handlers[m->type].fn(r->handlers[m->type].ctx, m);
    }
}

static struct status receive_checked(struct rpc *r, struct bytes frame, struct rpc_message *m,
                                     struct uuid cluster, enum status_code reply_status)
{
    if (!cluster_fits(r, cluster, m)) {
        return FAIL(STATUS_FENCED, "a message of another cluster");
    }
    if (m->to_node.v != 0 && m->to_node.v != r->node.v) {
        r->stats.frames_refused++;
        return OK;
    }
    if (m->to_store.v != 0 && m->to_store.v != r->store.v) {
        struct shard *other = map_get(&r->local_stores, m->to_store.v);

        if (other == NULL || other == r->shard) {
            refuse(r, m, STATUS_UNAVAILABLE, "no such store on this node");
        } else {
            hand_over(r, other, frame, m);
        }
        return OK;
    }
    /* Pings are heard from anybody: they are how a node with a wrong clock finds out. */
    if (forward_clock(r, m) || m->type == RPC_TYPE_PING) {
        dispatch(r, m, reply_status);
    } else {
        refuse(r, m, STATUS_FENCED,
               "the clock of the node that asks is too far ahead of this one's");
    }
    return OK;
}

/* --- Stores of this process ---------------------------------------------------------------- */

/* What came from this process was made or checked by this process. */
static NOYIELD void receive_local(struct rpc *r, struct bytes frame)
{
    enum status_code reply_status = STATUS_OK;
    struct uuid cluster = {{0}};
    struct rpc_message m;

    if (NEVER(!status_ok(rpc_frame_decode_local(frame, &m, &cluster, &reply_status)))) {
        return;
    }
    if (!status_ok(receive_checked(r, frame, &m, cluster, reply_status))) {
        r->stats.frames_refused++;
    }
}

static void parcel_deliver(struct shard *to, struct shard_parcel *parcel)
{
    struct rpc_parcel *p = CONTAINER_OF(parcel, struct rpc_parcel, parcel);
    /* Without a shard: it was destroyed before it read its parcels. */
    struct rpc *r = to == NULL ? NULL : shard_get_slot(to, SHARD_SLOT_RPC);

    if (r != NULL) {
        receive_local(r, bytes_of(p->frame, p->size));
    }
    free(p);
}

/* Takes what waits now; what handlers add comes in the next round, so that others get a turn. */
static void own_queue_run(struct shard_task *task)
{
    struct rpc *r = CONTAINER_OF(task, struct rpc, own_task);
    struct list *last = r->own_queue.prev;
    bool more = !list_empty(&r->own_queue);

    while (more) {
        struct list *item = list_pop_front(&r->own_queue);
        struct rpc_parcel *p = LIST_ENTRY(item, struct rpc_parcel, link);

        more = item != last;
        r->own_queue_bytes -= p->size;
        receive_local(r, bytes_of(p->frame, p->size));
        free(p);
    }
    if (!list_empty(&r->own_queue)) {
        shard_post(r->shard, &r->own_task);
    }
}

void rpc_get_stats(const struct rpc *r, struct rpc_stats *out)
{
    *out = r->stats;
    out->calls_open = r->calls.count;
}
