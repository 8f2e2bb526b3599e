/*
 * rpc_ping.c -- how far away the peers are.
 *
 * Once a second each node that was heard from or written to during the last minute gets a PING on
 * the control class, and the time to its answer is smoothed as TCP does it (RFC 6298: one eighth of
 * each sample). One ping is under way at a time; one that is not answered within five seconds is
 * forgotten and gives no sample; nor does the first one over a connection, which may have had to wait
 * for dialling and the TLS handshake. Pings do not count as traffic, otherwise two idle nodes would keep
 * each other awake for ever. Without traffic there is no timer either.
 *
 * The answer carries the peer's wall clock. A clock that is more than max_offset away from those of most
 * peers is wrong, whatever it says itself: see rpc_compare_clocks().
 *
 * A ping waits in no fiber: there may be a thousand peers.
 */
#include "node/base/codec.h"
#include "node/rpc/rpc_internal.h"

#define SMOOTH_SHARE   8u
#define CLOCK_VALID_NS ((uint64_t)10000000000)

static NOYIELD void arm(struct rpc *r)
{
    if (!r->ping_armed) {
        r->ping_armed = true;
        shard_timer_arm_in(r->shard, &r->ping_timer, RPC_PING_EVERY_NS);
    }
}

void rpc__note_traffic(struct rpc *r, struct rpc_node *n)
{
    n->traffic_ns = shard_now_ns(r->shard);
    arm(r);
}

static NOYIELD void ping(struct rpc *r, struct rpc_node *n, uint64_t now_ns)
{
    struct rpc_outgoing o = {
        .to = {.node = n->node, .cls = RPC_CLASS_CONTROL},
        .type = RPC_TYPE_PING,
        .flags = RPC_FLAG_CALL,
    };

    if (n->ping_call_id != 0 && now_ns - n->ping_sent_ns < RPC_PING_GIVE_UP_NS) {
        return;
    }
    o.call_id = rpc__next_call_id(r);
    n->ping_call_id = 0;
    if (status_ok(rpc__send(r, &o, NULL, 0))) {
        n->ping_call_id = o.call_id;
        n->ping_sent_ns = env_mono_ns(r->env);
    }
}

void rpc__ping_tick(struct shard_timer *t)
{
    struct rpc *r = CONTAINER_OF(t, struct rpc, ping_timer);
    const uint64_t now_ns = shard_now_ns(r->shard);
    bool active = false;

    r->ping_armed = false;
    LIST_FOREACH(it, &r->node_list) {
        struct rpc_node *n = LIST_ENTRY(it, struct rpc_node, link);

        if (n->traffic_ns != 0 && now_ns - n->traffic_ns < RPC_PING_TRAFFIC_NS) {
            ping(r, n, now_ns);
            active = true;
        }
    }
    if (active) {
        arm(r);
    }
}

/* The peer read its clock at some time between our asking and now. */
static NOYIELD void compare_clock(struct rpc *r, struct rpc_node *n, struct bytes body)
{
    const uint64_t now_ns = env_mono_ns(r->env);
    const uint64_t half = (now_ns - n->ping_sent_ns) / 2;

    if (body.len == sizeof(uint64_t)) {
        n->clock_ahead_ns = (int64_t)(be64_get(body.ptr) + half - env_wall_ns(r->env));
        n->clock_error_ns = half;
        n->clock_at_ns = now_ns;
    }
}

void rpc_compare_clocks(const struct rpc *r, struct rpc_clock *out)
{
    const uint64_t now_ns = env_mono_ns(r->env);
    uint64_t worst = 0;

    *out = (struct rpc_clock){0};
    LIST_FOREACH(it, &r->node_list) {
        const struct rpc_node *n = LIST_ENTRY(it, struct rpc_node, link);
        const uint64_t away =
            (uint64_t)(n->clock_ahead_ns < 0 ? -n->clock_ahead_ns : n->clock_ahead_ns);

        if (n->clock_at_ns == 0 || now_ns - n->clock_at_ns > CLOCK_VALID_NS) {
            continue;
        }
        out->peers++;
        if (away > n->clock_error_ns + r->hlc->max_offset_ns) {
            out->beyond++;
            out->ahead_ns = away > worst ? -n->clock_ahead_ns : out->ahead_ns;
            worst = away > worst ? away : worst;
        }
    }
}

bool rpc__ping_reply(struct rpc *r, const struct rpc_message *m)
{
    struct rpc_node *n = map_get(&r->nodes, m->from_node.v);
    uint64_t sample_ns = 0;

    if (m->type != RPC_TYPE_PING || n == NULL || n->ping_call_id == 0 ||
        n->ping_call_id != m->call_id) {
        return false;
    }
    n->ping_call_id = 0;
    compare_clock(r, n, m->body);
    if (!n->ping_warm) {
        n->ping_warm = true;
        return true;
    }
    sample_ns = env_mono_ns(r->env) - n->ping_sent_ns;
    sample_ns = sample_ns == 0 ? 1 : sample_ns; /* 0 says: not measured. */
    n->rtt_ns = n->rtt_ns == 0 ? sample_ns
                               : n->rtt_ns - n->rtt_ns / SMOOTH_SHARE + sample_ns / SMOOTH_SHARE;
    return true;
}

uint64_t rpc_rtt_ns(const struct rpc *r, node_id node)
{
    const struct rpc_node *n = map_get(&r->nodes, node.v);

    return n == NULL ? 0 : n->rtt_ns;
}
