/*
 * kv_rig.c -- see kv_rig.h.
 */
#include "tests/unit/kv/kv_rig.h"

#include "node/base/invariant.h"

static const struct rig_answer *next_answer(struct rig_node *n)
{
    const uint32_t i = n->asked < n->answers_count ? n->asked : n->answers_count - 1;

    INVARIANT(n->answers_count > 0);
    n->asked++;
    return &n->answers[i];
}

/* A GET finds its own key. */
static struct status build(const struct rig_answer *a, const struct range_batch *b,
                           struct arena *arena, struct bytes *out)
{
    struct range_result result = {
        .st = a->code == STATUS_OK ? OK : FAIL(a->code, "as scripted"),
        .hint_node = {a->hint},
        .hint_store = {a->hint},
        .descs = a->desc,
        .descs_count = a->desc == NULL ? 0 : 1,
        .conflict = a->conflict,
        .read_ts = b->read_ts,
        .commit_ts = a->commit_ts,
        .uncertain_ts = a->uncertain_ts,
        .now = a->now,
    };

    result.responses = ARENA_ARRAY(arena, struct range_response, b->count);
    for (uint32_t i = 0; i < b->count; i++) {
        if (b->requests[i].op == RANGE_OP_GET) {
            result.responses[i].found = true;
            result.responses[i].value = b->requests[i].key;
        }
    }
    result.responses[0].rows = a->rows;
    result.responses[0].rows_count = a->rows.len > 0 ? 1 : 0;
    return range_result_encode(&result, b->count, arena, out);
}

static const char *const op_names[RANGE_OP_COUNT] = {
    "",      "get", "scan", "put",  "insert",    "delete",  "refresh", "absent",
    "query", "end", "beat", "push", "query_txn", "recover", "resolve",
};

/* Keys without the byte of user data in front. */
static const char *key_name(struct rig *r, struct bytes key)
{
    return key.len == 0 ? "" : arena_strndup(&r->arena, (const char *)key.ptr + 1, key.len - 1);
}

static void note(struct rig_node *n, const struct rpc_message *m)
{
    struct rig *r = n->rig;
    struct bytes body;

    INVARIANT(status_ok(bytes_dup(&r->arena, m->body, &body)));
    INVARIANT(status_ok(range_batch_decode(body, &r->arena, &n->last)));
    n->log = arena_printf(&r->arena, "%s%s%llu:", n->log == NULL ? "" : n->log,
                          n->log == NULL ? "" : " ", (unsigned long long)n->last.range.v);
    for (uint32_t i = 0; i < n->last.count; i++) {
        const struct range_request *q = &n->last.requests[i];

        n->log =
            arena_printf(&r->arena, "%s%s%s %s%s%s", n->log, i == 0 ? "" : ",", op_names[q->op],
                         key_name(r, q->key), q->end.len == 0 ? "" : "..", key_name(r, q->end));
    }
}

static void on_batch(void *ctx, const struct rpc_message *m)
{
    struct rig_node *n = ctx;
    struct rpc *rpc = n->rig->c.nodes[m->to_store.v - 1].rpc;
    const struct rpc_reply_to to = rpc_reply_to(m);
    const struct rig_answer *a = next_answer(n);
    struct range_batch b;
    struct bytes body = BYTES_LIT("\xff\xff");
    struct arena arena;

    arena_init(&arena, 0);
    INVARIANT(status_ok(range_batch_decode(m->body, &arena, &b)));
    n->last_range = b.range;
    note(n, m);
    if (a->refuse != STATUS_OK) {
        rpc_reply(rpc, &to, FAIL(a->refuse, "refused as scripted"), NULL, 0);
    } else if (!a->silent) {
        INVARIANT(a->garbage || status_ok(build(a, &b, &arena, &body)));
        rpc_reply(rpc, &to, OK, &body, 1);
    }
    arena_deinit(&arena);
}

void rig_start(struct rig *r)
{
    *r = (struct rig){.first = {.id = {RANGE_FIRST_ID},
                                .start = KEY_MIN,
                                .end = KEY_MAX,
                                .next_replica = 9,
                                .generation = 5}};
    cluster_start(&r->c, RIG_NODES);
    arena_init(&r->arena, 0);
    for (uint32_t i = 1; i < RIG_NODES; i++) {
        r->nodes[i].rig = r;
        rpc_set_handler(r->c.nodes[i].rpc, RPC_TYPE_BATCH, on_batch, &r->nodes[i]);
        r->first.replicas[r->first.replicas_count++] =
            (struct range_replica){{i + 1}, {i + 1}, {i}, RANGE_VOTER};
    }
    INVARIANT(status_ok(kv_create(
        &(struct kv_options){r->c.nodes[0].shard, r->c.nodes[0].rpc, &r->c.nodes[0].hlc}, &r->kv)));
    kv_set_first_range(r->kv, &r->first);
}

void rig_stop(struct rig *r)
{
    kv_destroy(r->kv);
    arena_deinit(&r->arena);
    cluster_stop(&r->c);
}

void rig_answer(struct rig *r, uint32_t node, struct rig_answer a)
{
    struct rig_node *n = &r->nodes[node];

    INVARIANT(n->answers_count < RIG_ANSWERS_MAX);
    n->answers[n->answers_count++] = a;
}

uint32_t rig_asked(const struct rig *r)
{
    uint32_t asked = 0;

    for (uint32_t i = 1; i < RIG_NODES; i++) {
        asked += r->nodes[i].asked;
    }
    return asked;
}

static void send_fiber(void *arg)
{
    struct rig_call *call = arg;
    struct rig *r = call->rig;
    struct range_batch b = call->batch;
    const uint64_t deadline = call->deadline_ms == 0 ? DEADLINE_NONE
                                                     : env_mono_ns(shard_env(r->c.nodes[0].shard)) +
                                                           call->deadline_ms * 1000000u;

    call->fiber = fiber_current();
    if (b.count == 0) {
        b.requests = &call->request;
        b.count = 1;
    }
    call->call.deadline_ns = deadline;
    call->st = kv_send_call(r->kv, &b, &call->call, &r->arena, &call->result);
    INVARIANT(call->st.code == call->result.st.code);
    call->done = true;
}

void rig_send_start(struct rig *r, struct rig_call *call)
{
    call->rig = r;
    call->done = false;
    INVARIANT(status_ok(fiber_spawn(r->c.nodes[0].shard, "kv", send_fiber, call)));
    fake_world_settle(r->c.world);
}

struct status rig_send(struct rig *r, struct rig_call *call)
{
    rig_send_start(r, call);
    for (int i = 0; i < 12000 && !call->done; i++) {
        cluster_run_ms(&r->c, 1);
    }
    INVARIANT(call->done);
    return call->st;
}

struct status rig_get(struct rig *r)
{
    struct rig_call call = {.request = {.op = RANGE_OP_GET, .key = BYTES_LIT("\x88k\x88")}};

    return rig_send(r, &call);
}

struct status rig_put(struct rig *r)
{
    struct rig_call call = {.request = {
                                .op = RANGE_OP_PUT,
                                .key = BYTES_LIT("\x88k\x88"),
                                .value = BYTES_LIT("v"),
                            }};

    return rig_send(r, &call);
}
