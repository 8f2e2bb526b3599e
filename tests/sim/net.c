/*
 * net.c -- frames under way.
 *
 * A frame is copied when it is sent, gets its time of arrival from the latency of the link, and is an
 * event until then. At arrival it must still make sense: the receiver's process is the one that it
 * was sent to, and the connection was not reset meanwhile. A paused receiver finds it when it goes
 * on. Every arrival goes into the trace hash with the hash of its bytes.
 *
 * What a sender learns: nothing, as in life, unless the other process is gone while its machine lives
 * (the connection is refused: rpc_peer_down() a round trip later) or a blocked link stays silent for
 * so long that keepalives give up.
 */
#include "tests/sim/net.h"

#include <stdio.h>
#include <stdlib.h>

#include "node/base/invariant.h"
#include "node/rpc/rpc_frame.h"
#include "tests/sim/check.h"
#include "tests/sim/process.h"
#include "tests/sim/world.h"

#define NO_NODE          UINT32_MAX
#define KEEPALIVE_NS     (4 * SEC)
#define BYTES_PER_MS     ((uint64_t)100000) /* 100 MB/s per link. */
#define SPIKE_NS_MAX     (2 * SEC)
#define TOKEN_NODE_BITS  8
#define TOKEN_CLASS_BITS 2
#define TOKEN_EPOCH_BITS 22

struct frame {
    struct sim_event event;
    struct list link; /* In sim_link.held. */
    uint32_t from;
    uint32_t to;
    uint32_t from_incarnation;
    uint32_t to_incarnation;
    uint32_t epoch;
    enum rpc_class cls;
    size_t size;
    uint8_t bytes[];
};

/* Tells a node that a peer is down. */
struct notice {
    struct sim_event event;
    uint32_t at;
    uint32_t incarnation;
    uint32_t peer;
    uint32_t peer_incarnation;
    uint32_t epoch;
};

/* ---- tokens ------------------------------------------------------------------------------------ */

static void *token_of(const struct sim_node *peer, uint32_t incarnation, uint32_t epoch,
                      enum rpc_class cls)
{
    uint64_t t = incarnation;

    t = t << TOKEN_EPOCH_BITS | epoch;
    t = t << TOKEN_CLASS_BITS | (uint64_t)cls;
    t = t << TOKEN_NODE_BITS | (peer->index + 1);
    return (void *)(uintptr_t)t; /* NOLINT(performance-no-int-to-ptr): a token. */
}

static uint64_t take_bits(uint64_t *t, unsigned bits)
{
    const uint64_t v = *t & ((1ull << bits) - 1);

    *t >>= bits;
    return v;
}

struct path {
    uint32_t node;
    enum rpc_class cls;
    uint32_t epoch;
    uint32_t incarnation;
};

static struct path path_of(const void *token)
{
    uint64_t t = (uint64_t)(uintptr_t)token;
    struct path p;

    p.node = (uint32_t)take_bits(&t, TOKEN_NODE_BITS) - 1;
    p.cls = (enum rpc_class)take_bits(&t, TOKEN_CLASS_BITS);
    p.epoch = (uint32_t)take_bits(&t, TOKEN_EPOCH_BITS);
    p.incarnation = (uint32_t)t;
    return p;
}

/* ---- latency ----------------------------------------------------------------------------------- */

static uint64_t one_way_ns(struct sim_world *w, uint32_t from, uint32_t to)
{
    const struct sim_node *a = &w->nodes[from];
    const struct sim_node *b = &w->nodes[to];
    uint32_t us = 0;

    if (a->region != b->region) {
        us = w->net.rtt.rtt_us[a->region][b->region] / 2;
    } else {
        us = (a->zone != b->zone ? w->net.rtt.region_us : w->net.rtt.zone_us) / 2;
    }
    return (uint64_t)us * 10 * w->params.latency_percent;
}

static uint64_t latency_ns(struct sim_world *w, uint32_t from, uint32_t to, size_t size)
{
    struct rng *r = &w->rng_net;
    const uint64_t base = one_way_ns(w, from, to);
    uint64_t ns = base + sim_exponential(r, base / 20 + 30000);

    if (rng_permille(r, 3)) {
        ns += sim_exponential(r, 5 * MS); /* A retransmission, a busy switch. */
    }
    if (w->net.spike_permille > 0 && rng_permille(r, w->net.spike_permille)) {
        ns += sim_log_uniform(r, MS, SPIKE_NS_MAX);
    }
    return ns + w->net.links[from][to].slow_ms * MS + size * MS / BYTES_PER_MS;
}

/* ---- telling about loss ------------------------------------------------------------------------- */

static void notice_drop(struct sim_event *e)
{
    free(CONTAINER_OF(e, struct notice, event));
}

static void notice_run(struct sim_world *w, struct sim_event *e)
{
    struct notice *t = CONTAINER_OF(e, struct notice, event);
    struct sim_node *n = &w->nodes[t->at];
    const struct sim_node *peer = &w->nodes[t->peer];
    const node_id id = process_node_id(w, t->peer);

    if (n->incarnation == t->incarnation && process_defer(n, e)) {
        return;
    }
    if (n->incarnation == t->incarnation && process_enter(n)) {
        sim_trace(w, "net.down", t->at, t->peer, t->epoch);
        if (id.v != 0) {
            rpc_peer_down(node_rpc(n->node), id);
        }
        for (int cls = 0; cls < RPC_CLASS_COUNT; cls++) {
            rpc_path_down(node_rpc(n->node),
                          token_of(peer, t->peer_incarnation, t->epoch, (enum rpc_class)cls),
                          FAIL(STATUS_UNAVAILABLE, "the connection was lost or refused"));
        }
        process_leave(n);
    }
    free(t);
}

static void tell_down(struct sim_world *w, uint32_t at, uint32_t peer, uint32_t peer_incarnation,
                      uint64_t after_ns)
{
    struct notice *t = calloc(1, sizeof(*t));

    INVARIANT(t != NULL);
    t->event.run = notice_run;
    t->event.drop = notice_drop;
    t->at = at;
    t->incarnation = w->nodes[at].incarnation;
    t->peer = peer;
    t->peer_incarnation = peer_incarnation;
    t->epoch = w->net.links[at][peer].epoch;
    sim_events_put(&w->events, &t->event, w->now_ns + after_ns);
}

/* ---- frames ------------------------------------------------------------------------------------- */

static void frame_drop(struct sim_event *e)
{
    free(CONTAINER_OF(e, struct frame, event));
}

/* The receiver's process, or its connection, is not the one that the frame was sent over. */
static bool frame_is_stale(struct sim_world *w, const struct frame *f)
{
    const struct sim_node *to = &w->nodes[f->to];

    return to->life != SIM_UP || to->incarnation != f->to_incarnation ||
           w->net.links[f->from][f->to].epoch != f->epoch;
}

static void frame_run(struct sim_world *w, struct sim_event *e)
{
    struct frame *f = CONTAINER_OF(e, struct frame, event);
    struct sim_node *to = &w->nodes[f->to];

    if (frame_is_stale(w, f)) {
        w->net.frames_lost++;
        free(f);
        return;
    }
    if (process_defer(to, e)) {
        return;
    }
    if (process_enter(to)) {
        const struct bytes frame = bytes_of(f->bytes, f->size);
        struct status st = OK;

        sim_trace(w, "net.frame", (uint64_t)f->from << 32 | f->to, f->size, hash64(frame, 0));
        st = rpc_receive(node_rpc(to->node), frame,
                         token_of(&w->nodes[f->from], f->from_incarnation, f->epoch, f->cls));
        process_leave(to);
        if (!status_ok(st) && st.code != STATUS_FENCED) {
            sim_fail(w, "node %u refused a frame of node %u: %s", f->to, f->from, status_text(st));
        }
    }
    free(f);
}

static void frame_schedule(struct sim_world *w, struct frame *f)
{
    struct sim_link *l = &w->net.links[f->from][f->to];
    uint64_t at_ns = w->now_ns + latency_ns(w, f->from, f->to, f->size);

    if (w->net.reorder_permille > 0 && rng_permille(&w->rng_net, w->net.reorder_permille)) {
        at_ns += sim_log_uniform(&w->rng_net, MS / 10, 200 * MS);
    } else {
        at_ns = at_ns <= l->last_at_ns[f->cls] ? l->last_at_ns[f->cls] + 1 : at_ns;
        l->last_at_ns[f->cls] = at_ns;
    }
    sim_events_put(&w->events, &f->event, at_ns);
}

static struct frame *frame_new(struct sim_node *from, struct sim_node *to, enum rpc_class cls,
                               const struct bytes *parts, uint32_t count)
{
    size_t size = 0;
    struct frame *f = NULL;

    for (uint32_t i = 0; i < count; i++) {
        size += parts[i].len;
    }
    f = malloc(sizeof(*f) + size);
    INVARIANT(f != NULL);
    *f = (struct frame){
        .event = {.run = frame_run, .drop = frame_drop},
        .from = from->index,
        .to = to->index,
        .from_incarnation = from->incarnation,
        .to_incarnation = to->incarnation,
        .epoch = from->world->net.links[from->index][to->index].epoch,
        .cls = cls,
    };
    list_init(&f->link);
    for (uint32_t i = 0; i < count; i++) {
        if (parts[i].len > 0) {
            memcpy(f->bytes + f->size, parts[i].ptr, parts[i].len);
            f->size += parts[i].len;
        }
    }
    return f;
}

static void frame_launch(struct sim_world *w, struct frame *f)
{
    struct sim_link *l = &w->net.links[f->from][f->to];

    if (l->drops > 0 || l->class_drops[f->cls] > 0 ||
        (w->net.loss_permille > 0 && rng_permille(&w->rng_net, w->net.loss_permille))) {
        w->net.frames_lost++;
        free(f);
        return;
    }
    if (l->holds > 0) {
        list_push_back(&l->held, &f->link);
        return;
    }
    frame_schedule(w, f);
}

/* Calls are delivered at most once (rpc.h): connections do not repeat, and the range relies on it, since
 * a batch that is a whole transaction carries no mark by which a second copy would be known. All else
 * has to stand being repeated. */
static bool may_repeat(const struct frame *f)
{
    const struct bytes frame = bytes_of(f->bytes, f->size);
    const enum rpc_type type = (enum rpc_type)rpc_frame_type(frame);

    return type != RPC_TYPE_BATCH && type != RPC_TYPE_JOIN && type != RPC_TYPE_ADMIN;
}

static struct status launch(struct sim_node *n, uint32_t to, enum rpc_class cls,
                            const struct bytes *parts, uint32_t count)
{
    struct sim_world *w = n->world;
    struct sim_node *peer = &w->nodes[to];
    struct frame *f = NULL;

    if (n->cut) {
        return OK; /* It speaks, nobody hears it. */
    }
    w->net.frames++;
    if (peer->life != SIM_UP && peer->powered_off) {
        return OK;
    }
    if (peer->life != SIM_UP) {
        tell_down(w, n->index, to, peer->incarnation, 2 * one_way_ns(w, n->index, to) + MS);
        return OK;
    }
    f = frame_new(n, peer, cls, parts, count);
    check_frame_sent(w, n->index, bytes_of(f->bytes, f->size));
    if (w->net.dup_permille > 0 && may_repeat(f) &&
        rng_permille(&w->rng_net, w->net.dup_permille)) {
        frame_launch(w, frame_new(n, peer, cls, parts, count));
    }
    frame_launch(w, f);
    return OK;
}

/* ---- the transport ------------------------------------------------------------------------------ */

static uint32_t parse_address(struct sim_world *w, const char *address)
{
    unsigned index = 0;

    if (sscanf(address, "sim%u:", &index) != 1 || index >= w->nodes_count) {
        return NO_NODE;
    }
    return index;
}

static struct status net_send(void *ctx, node_id to, enum rpc_class cls, const struct bytes *parts,
                              uint32_t parts_count)
{
    struct sim_node *n = ctx;
    const uint32_t peer = process_find_id(n->world, to);

    if (peer == NO_NODE || !n->knows_address[peer]) {
        return FAIL(STATUS_UNAVAILABLE, "the node's address is not known");
    }
    return launch(n, peer, cls, parts, parts_count);
}

static struct status net_send_path(void *ctx, void *path, const struct bytes *parts,
                                   uint32_t parts_count)
{
    struct sim_node *n = ctx;
    const struct path p = path_of(path);
    const struct sim_node *peer = &n->world->nodes[p.node];

    INVARIANT(p.node < n->world->nodes_count);
    if (peer->incarnation != p.incarnation || peer->life != SIM_UP ||
        n->world->net.links[n->index][p.node].epoch != p.epoch) {
        return FAIL(STATUS_UNAVAILABLE, "the connection is gone");
    }
    return launch(n, p.node, p.cls, parts, parts_count);
}

static struct status net_open_path(void *ctx, const char *address, void **path_out)
{
    struct sim_node *n = ctx;
    const uint32_t to = parse_address(n->world, address);

    if (to == NO_NODE) {
        return FAIL(STATUS_UNAVAILABLE, "no such host");
    }
    if (n->world->nodes[to].life != SIM_UP) {
        return FAIL(STATUS_UNAVAILABLE, "connection refused");
    }
    *path_out = token_of(&n->world->nodes[to], n->world->nodes[to].incarnation,
                         n->world->net.links[n->index][to].epoch, RPC_CLASS_CONTROL);
    return OK;
}

static void net_set_address(void *ctx, node_id node, const char *address)
{
    struct sim_node *n = ctx;
    const uint32_t to = parse_address(n->world, address);
    const uint32_t is = process_find_id(n->world, node);

    if (n->cut) {
        return;
    }
    if (to == NO_NODE || node.v >= SIM_IDS_MAX || (is != NO_NODE && is != to)) {
        sim_fail(n->world, "node %u believes node id %u at \"%s\"", n->index, node.v, address);
        return;
    }
    n->world->id_owner[node.v] = (uint8_t)(to + 1);
    n->knows_address[to] = true;
}

struct rpc_transport sim_net_transport(struct sim_node *n)
{
    return (struct rpc_transport){
        .ctx = n,
        .send = net_send,
        .send_path = net_send_path,
        .open_path = net_open_path,
        .set_address = net_set_address,
    };
}

/* ---- faults ------------------------------------------------------------------------------------- */

void sim_net_block(struct sim_world *w, uint32_t from, uint32_t to, enum sim_block how)
{
    struct sim_link *l = &w->net.links[from][to];

    if (how == SIM_BLOCK_HOLD) {
        l->holds++;
        return;
    }
    l->drops++;
    if (w->nodes[from].life == SIM_UP && rng_permille(&w->rng_net, 700)) {
        tell_down(w, from, to, w->nodes[to].incarnation,
                  KEEPALIVE_NS + rng_below(&w->rng_net, KEEPALIVE_NS));
    }
}

static void release_held(struct sim_world *w, struct sim_link *l)
{
    struct list *it = NULL;

    while ((it = list_pop_front(&l->held)) != NULL) {
        frame_schedule(w, LIST_ENTRY(it, struct frame, link));
    }
}

void sim_net_release(struct sim_world *w, uint32_t from, uint32_t to, enum sim_block how)
{
    struct sim_link *l = &w->net.links[from][to];
    uint32_t *count = how == SIM_BLOCK_HOLD ? &l->holds : &l->drops;

    if (*count > 0) {
        (*count)--;
    }
    if (l->holds == 0) {
        release_held(w, l);
    }
}

void sim_net_block_class(struct sim_world *w, uint32_t from, uint32_t to, enum rpc_class cls)
{
    w->net.links[from][to].class_drops[cls]++;
}

void sim_net_release_class(struct sim_world *w, uint32_t from, uint32_t to, enum rpc_class cls)
{
    uint32_t *drops = &w->net.links[from][to].class_drops[cls];

    *drops -= *drops > 0 ? 1 : 0;
}

static void drop_held(struct sim_link *l)
{
    struct list *it = NULL;

    while ((it = list_pop_front(&l->held)) != NULL) {
        free(LIST_ENTRY(it, struct frame, link));
    }
}

void sim_net_reset(struct sim_world *w, uint32_t a, uint32_t b)
{
    if (w->nodes[a].life == SIM_UP) {
        tell_down(w, a, b, w->nodes[b].incarnation, MS);
    }
    if (w->nodes[b].life == SIM_UP) {
        tell_down(w, b, a, w->nodes[a].incarnation, MS);
    }
    w->net.links[a][b].epoch++;
    w->net.links[b][a].epoch++;
    drop_held(&w->net.links[a][b]);
    drop_held(&w->net.links[b][a]);
}

void sim_net_process_gone(struct sim_world *w, uint32_t node, bool abrupt)
{
    for (uint32_t i = 0; i < w->nodes_count; i++) {
        if (i == node) {
            continue;
        }
        if (!abrupt && w->nodes[i].life == SIM_UP && w->net.links[node][i].drops == 0) {
            tell_down(w, i, node, w->nodes[node].incarnation, one_way_ns(w, node, i));
        }
        if (abrupt) { /* What it sent last stays in its own buffers, in part. */
            w->net.links[node][i].epoch++;
            w->net.links[i][node].epoch++;
        }
        drop_held(&w->net.links[i][node]);
    }
}

void sim_net_heal(struct sim_world *w)
{
    w->net.loss_permille = 0;
    w->net.dup_permille = 0;
    w->net.reorder_permille = 0;
    w->net.spike_permille = 0;
    for (uint32_t i = 0; i < w->nodes_count; i++) {
        for (uint32_t k = 0; k < w->nodes_count; k++) {
            struct sim_link *l = &w->net.links[i][k];

            l->drops = 0;
            memset(l->class_drops, 0, sizeof(l->class_drops));
            l->holds = 0;
            l->slow_ms = 0;
            release_held(w, l);
        }
    }
}

/* ---- life --------------------------------------------------------------------------------------- */

/* regions/examples/us-eu-ap.rtt, so that the program needs no file. */
static const char rtt_text[] = "zone 0.3\n"
                               "region 1.2\n"
                               "us-east-1 eu-west-1 66\n"
                               "eu-west-1 ap-southeast-1 64\n"
                               "ap-southeast-1 us-east-1 146\n";

void sim_net_init(struct sim_world *w)
{
    struct arena arena;

    arena_init(&arena, 0);
    INVARIANT(status_ok(rtt_parse(bytes_str(rtt_text), &arena, &w->net.rtt)));
    INVARIANT(w->net.rtt.count == SIM_REGIONS);
    arena_deinit(&arena);
    for (uint32_t i = 0; i < SIM_NODES_MAX; i++) {
        for (uint32_t k = 0; k < SIM_NODES_MAX; k++) {
            list_init(&w->net.links[i][k].held);
            w->net.links[i][k].epoch = 1;
        }
    }
}

void sim_net_deinit(struct sim_world *w)
{
    for (uint32_t i = 0; i < SIM_NODES_MAX; i++) {
        for (uint32_t k = 0; k < SIM_NODES_MAX; k++) {
            drop_held(&w->net.links[i][k]);
        }
    }
}
