/*
 * load_past.c -- one table as it stood at an exact time, read twice: once from whichever replica is near
 * and has that time behind it, once from the leaseholders.
 *
 * Times are rounded, so that many clients ask for the same one at different moments and through different
 * replicas: all must get the same rows for ever (anomaly.c). Rows are read below SQL and transactions,
 * whatever the clients of this run speak.
 */
#include "node/base/codec.h"
#include "node/base/invariant.h"
#include "node/catalog/catalog.h"
#include "tests/sim/check.h"
#include "tests/sim/load_kv.h"
#include "tests/sim/process.h"

#define DEADLINE_NS (6 * SEC)
#define ROWS_MAX    64u

/* Rows of a response, into the digest. */
static uint64_t add_rows(const struct range_response *resp, uint64_t digest)
{
    struct reader rows = reader_of(resp->rows);

    for (uint32_t i = 0; i < resp->rows_count; i++) {
        const struct bytes key = read_lp_bytes(&rows);

        digest = hash64(read_lp_bytes(&rows), hash64(key, digest));
    }
    return digest;
}

static void note_server(struct sim_world *w, const struct range_batch *b,
                        const struct range_result *r)
{
    const uint32_t server = process_find_id(w, r->server);

    if (server != UINT32_MAX && server != check_leader(w->check, b->range)) {
        sim_state(w, SIM_STATE_FOLLOWER_READ);
    }
}

MAYYIELD static struct status read_table(struct client *c, bool follower, uint64_t *digest)
{
    struct range_request q = {.op = RANGE_OP_SCAN, .rows_max = ROWS_MAX};
    struct range_batch b = {
        .requests = &q, .count = 1, .follower = follower, .read_ts = {(uint64_t)c->op.arg, 0}};
    struct range_result result;
    bool more = true;

    *digest = 0;
    load_kv__table_span(c, (enum kv_table)c->op.key, &q.key, &q.end);
    while (more) {
        TRY(kv_send(node_kv(c->node->node), &b, env_mono_ns(&c->node->env) + DEADLINE_NS, &c->arena,
                    &result));
        if (follower && !c->node->cut) {
            note_server(c->node->world, &b, &result);
        }
        *digest = add_rows(&result.responses[0], *digest);
        more = result.responses[0].more;
        q.key = more ? result.responses[0].resume : q.key;
    }
    return OK;
}

enum op_outcome load_past(struct client *c)
{
    uint64_t near = 0;
    uint64_t leader = 0;

    if (!status_ok(read_table(c, true, &near))) {
        return OP_FAILED;
    }
    c->op.result = (int64_t)near;
    c->op.expect = (int64_t)near;
    if (rng_permille(&c->rng, 500)) {
        if (!status_ok(read_table(c, false, &leader))) {
            return OP_FAILED;
        }
        c->op.expect = (int64_t)leader;
    }
    return OP_OK;
}
