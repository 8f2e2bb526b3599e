/*
 * txn_rig.c -- see txn_rig.h.
 */
#include "tests/unit/range/txn_rig.h"

#include "node/base/codec.h"
#include "node/base/invariant.h"
#include "tests/unit/range/ranges.h"

#define RIG_TIMEOUT_NS ((uint64_t)20000000000)

static uint32_t batches_sent;

/* The range that holds the key here. */
static range_id range_of(struct store *s, struct bytes key)
{
    struct store_range_info info = {.desc.id = {0}};
    struct arena arena;
    range_id found = {RANGE_FIRST_ID};

    arena_init(&arena, 0);
    for (range_id at = {0}; store_next_range(s, at, &arena, &info); at = info.desc.id) {
        if (range_desc_contains(&info.desc, key)) {
            found = info.desc.id;
        }
    }
    arena_deinit(&arena);
    return found;
}

MAYYIELD static struct status call(struct cluster_node *n, uint32_t to, const struct range_batch *b,
                                   uint64_t deadline_ns, struct arena *arena,
                                   struct range_result *out)
{
    struct bytes body;
    struct bytes reply;

    TRY(range_batch_encode(b, arena, &body));
    TRY(rpc_call(n->rpc, (struct rpc_to){{to}, {to}, 0}, RPC_TYPE_BATCH, &body, 1, deadline_ns,
                 arena, &reply));
    return range_result_decode(reply, b->count, arena, out);
}

/* What kv does: to the leaseholder, of which the replica here has an idea. */
MAYYIELD static struct status rig_send(void *ctx, struct range_batch *b, uint64_t deadline_ns,
                                       struct arena *arena, struct range_result *out)
{
    struct cluster_node *n = ctx;
    struct status st = OK;

    batches_sent++;
    b->range = range_of(n->store, b->requests[0].key);
    for (uint32_t tries = 0; tries < 20; tries++) {
        store_execute(n->store, b, deadline_ns, arena, out);
        if (out->st.code == STATUS_NOT_LEADER && out->hint_node.v != 0) {
            st = call(n, out->hint_node.v, b, deadline_ns, arena, out);
            out->st = status_ok(st) ? out->st : st;
        }
        if (out->st.code != STATUS_NOT_LEADER) {
            break;
        }
        TRY(fiber_sleep(20000000)); /* Somebody is about to take the lease. */
    }
    return out->st;
}

void rig_connect(struct cluster *c)
{
    batches_sent = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        c->nodes[i].store->o.send = rig_send;
        c->nodes[i].store->o.send_ctx = &c->nodes[i];
    }
}

uint32_t rig_sent(void)
{
    return batches_sent;
}

struct hts rig_now(const struct cluster_node *node)
{
    struct cluster_node *n = (struct cluster_node *)(uintptr_t)node;
    struct hts now;

    shard_enter(n->shard);
    now = hclock_hts(hlc_now(&n->hlc));
    shard_leave(n->shard);
    return now;
}

struct rig_txn rig_begin(struct cluster_node *node, uint32_t number, struct bytes anchor)
{
    struct rig_txn t = {.node = node, .anchor = anchor, .priority = 1};

    be32_put(t.id.b, number);
    t.min_ts = hclock_hts(hlc_now(&node->hlc));
    return t;
}

MAYYIELD struct status rig_one(struct cluster_node *node, struct range_batch b,
                               const struct range_request *q, bool *found,
                               struct range_txn_info *info)
{
    const uint64_t deadline = env_mono_ns(shard_env(node->shard)) + RIG_TIMEOUT_NS;
    struct range_result result;
    struct arena arena;

    b.requests = q;
    b.count = b.count == 0 ? 1 : b.count;
    arena_init(&arena, 0);
    result.st = rig_send(node, &b, deadline, &arena, &result);
    if (status_ok(result.st) && found != NULL) {
        *found = result.responses[0].found;
    }
    if (status_ok(result.st) && info != NULL && result.responses[0].txn != NULL) {
        *info = *result.responses[0].txn;
        info->in_flight = NULL;
        info->waits = NULL;
    }
    arena_deinit(&arena);
    return result.st.code == STATUS_OK ? OK
                                       : FAIL(result.st.code, status_code_text(result.st.code));
}

static struct range_batch batch_of(const struct rig_txn *t)
{
    return (struct range_batch){.txn = {.id = t->id,
                                        .anchor = t->anchor,
                                        .priority = t->priority,
                                        .min_ts = t->min_ts,
                                        .write_ts = hts_max(t->min_ts, t->write_ts)}};
}

MAYYIELD struct status rig_lock(const struct rig_txn *t, struct bytes key, enum mvcc_strength s)
{
    const struct range_request q = {.op = RANGE_OP_GET, .key = key, .lock = s};
    struct range_batch b = batch_of(t);

    b.can_forward = true;
    return rig_one(t->node, b, &q, NULL, NULL);
}

MAYYIELD struct status rig_write(const struct rig_txn *t, struct bytes key)
{
    const struct range_request q = {.op = RANGE_OP_PUT, .key = key, .value = BYTES_LIT("w")};
    struct range_batch b = batch_of(t);

    b.intents = true;
    b.can_forward = true;
    return rig_one(t->node, b, &q, NULL, NULL);
}

MAYYIELD struct status rig_commit(const struct rig_txn *t, const struct bytes *keys, uint32_t count)
{
    struct range_request q[8];
    struct range_batch b = batch_of(t);

    INVARIANT(count <= ARRAY_COUNT(q));
    for (uint32_t i = 0; i < count; i++) {
        q[i] = (struct range_request){.op = RANGE_OP_PUT, .key = keys[i], .value = BYTES_LIT("w")};
    }
    b.count = count;
    return rig_one(t->node, b, q, NULL, NULL);
}

MAYYIELD struct status rig_abort(const struct rig_txn *t, const struct bytes *keys, uint32_t count)
{
    const struct range_txn_args args = {
        .txn = t->id, .anchor = t->anchor, .status = RANGE_TXN_ABORTED};
    const struct range_request end = {.op = RANGE_OP_END_TXN, .key = t->anchor, .args = &args};

    TRY(rig_one(t->node, batch_of(t), &end, NULL, NULL));
    for (uint32_t i = 0; i < count; i++) {
        const struct range_request q = {.op = RANGE_OP_RESOLVE, .key = keys[i], .args = &args};

        TRY(rig_one(t->node, (struct range_batch){0}, &q, NULL, NULL));
    }
    return OK;
}

MAYYIELD struct status rig_heartbeat(const struct rig_txn *t)
{
    const struct range_txn_args args = {.txn = t->id, .anchor = t->anchor};
    const struct range_request q = {.op = RANGE_OP_HEARTBEAT, .key = t->anchor, .args = &args};

    return rig_one(t->node, batch_of(t), &q, NULL, NULL);
}

MAYYIELD struct status rig_end(const struct rig_txn *t, enum range_txn_status status, struct hts ts,
                               const struct bytes *keys, uint32_t count, struct range_txn_info *out)
{
    struct key_span spans[8];
    const struct range_txn_args args = {.txn = t->id,
                                        .anchor = t->anchor,
                                        .status = status,
                                        .ts = ts,
                                        .in_flight = keys,
                                        .in_flight_count = count,
                                        .spans = spans,
                                        .spans_count = count};
    const struct range_request q = {.op = RANGE_OP_END_TXN, .key = t->anchor, .args = &args};

    INVARIANT(count <= ARRAY_COUNT(spans));
    for (uint32_t i = 0; i < count; i++) {
        spans[i] = (struct key_span){keys[i], BYTES_EMPTY};
    }
    return rig_one(t->node, batch_of(t), &q, NULL, out);
}

/* ---- several ranges ------------------------------------------------------------------------------ */

struct transfer {
    struct store *store;
    range_id range;
    store_id target;
    bool done;
};

static void transfer_body(void *arg)
{
    struct transfer *t = arg;

    status_ignore(store_transfer_lease(t->store, t->range, t->target, DEADLINE_NONE));
    t->done = true;
}

bool rig_move_lease(struct cluster *c, range_id range, uint32_t target)
{
    struct transfer t = {.range = range, .target = {target + 1}};

    for (uint32_t i = 0; i < c->count; i++) {
        struct store_range_info info = {.leaseholder = false};
        struct arena arena;

        arena_init(&arena, 0);
        (void)store_find_range(c->nodes[i].store, range, &arena, &info); /* Or it has none. */
        arena_deinit(&arena);
        if (info.leaseholder && i == target) {
            return true;
        }
        if (info.leaseholder) {
            t.store = c->nodes[i].store;
            INVARIANT(status_ok(fiber_spawn(c->nodes[i].shard, "transfer", transfer_body, &t)));
            while (!t.done) {
                cluster_run_ms(c, 1);
            }
            return false;
        }
    }
    cluster_run_ms(c, 100);
    return false;
}

void rig_start_ranges(struct cluster *c, uint32_t ranges)
{
    cluster_start(c, 3);
    for (uint32_t i = 0; i < 3; i++) {
        cluster_crash(c, i, 1000);
        INVARIANT(status_ok(engine_open_mem(c->nodes[i].disk, &c->nodes[i].engine)));
        ranges_write(c->nodes[i].engine, i + 1, 3, ranges);
        engine_close(c->nodes[i].engine);
        cluster_restart(c, i);
    }
    cluster_run_ms(c, 8000);
    for (uint32_t i = 0; i < ranges; i++) {
        uint32_t tries = 0;

        while (!rig_move_lease(c, RANGES_ID(i), i % 3)) {
            INVARIANT(++tries < 100);
        }
    }
    rig_connect(c);
}

struct bytes rig_key(uint8_t *mem, uint32_t range, uint8_t letter)
{
    struct bytes start = ranges_start(mem, range);

    mem[start.len] = letter;
    return bytes_of(mem, start.len + 1);
}
