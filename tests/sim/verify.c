/*
 * verify.c -- the last phase of a run.
 *
 * Nothing is broken any more, so every wait here has a bound, and passing it is a failure: a database
 * that is safe because it stands still is not what we want.
 */
#include "tests/sim/verify.h"

#include <stdio.h>

#include "node/base/invariant.h"
#include "tests/sim/check.h"
#include "tests/sim/load.h"
#include "tests/sim/process.h"

#define RECOVERY_MAX_NS (10 * SEC)
#define AGREE_MAX_NS    (20 * SEC)
#define READS_MAX_NS    (60 * SEC)
#define STEP_NS         (50 * MS)
#define FIRST           ((range_id){RANGE_FIRST_ID})

/* ---- progress ------------------------------------------------------------------------------------ */

static const struct sim_node *first_stuck(const struct sim_world *w, uint64_t healed_ns)
{
    for (uint32_t i = 0; i < w->nodes_count; i++) {
        const struct sim_node *n = &w->nodes[i];

        if (!n->ready || n->last_write_ok_ns <= healed_ns || n->last_read_ok_ns <= healed_ns) {
            return n;
        }
    }
    return NULL;
}

void verify_recovery(struct sim_world *w, uint64_t healed_ns, uint64_t *took_ns)
{
    const struct sim_node *stuck = first_stuck(w, healed_ns);

    while (!w->failed && stuck != NULL && w->now_ns < healed_ns + RECOVERY_MAX_NS) {
        sim_world_run_until(w, w->now_ns + STEP_NS);
        stuck = first_stuck(w, healed_ns);
    }
    *took_ns = w->now_ns - healed_ns;
    if (stuck != NULL) {
        sim_fail(w,
                 "liveness: node %u (%s, life %u) has not served a read and a write %llu s after "
                 "healing; last write %.3f s, last read %.3f s, healed %.3f s",
                 stuck->index, stuck->ready ? "ready" : "not ready", stuck->incarnation,
                 (unsigned long long)(RECOVERY_MAX_NS / SEC), (double)stuck->last_write_ok_ns / 1e9,
                 (double)stuck->last_read_ok_ns / 1e9, (double)healed_ns / 1e9);
    }
}

/* ---- replicas ------------------------------------------------------------------------------------ */

struct copy {
    bool member;
    uint64_t index;
    uint64_t digest;
};

static bool has_store(const struct range_desc *d, struct sim_node *n)
{
    return range_desc_find(d, node_ident(n->node).store) != NULL;
}

/* What each member holds; false when the leaseholder is unknown or a member is not there. */
static bool look(struct sim_world *w, struct copy copies[SIM_NODES_MAX], const char **why)
{
    struct sim_node *leader = sim_leaseholder(w, FIRST);
    struct store_range_info info;
    struct arena arena;
    bool whole = false;

    *why = "the leader is not up";
    if (leader == NULL || !leader->ready) {
        return false;
    }
    *why = "the leader has no lease";
    arena_init(&arena, 0);
    shard_enter(leader->shard);
    whole = store_find_range(node_store(leader->node), FIRST, &arena, &info) && info.leaseholder;
    shard_leave(leader->shard);
    for (uint32_t i = 0; whole && i < w->nodes_count; i++) {
        struct sim_node *n = &w->nodes[i];

        copies[i] = (struct copy){.member = n->ready && has_store(&info.desc, n)};
        if (copies[i].member) {
            *why = "a member has no replica";
            shard_enter(n->shard);
            whole = status_ok(store_range_digest(node_store(n->node), FIRST, &copies[i].index,
                                                 &copies[i].digest));
            shard_leave(n->shard);
        }
    }
    arena_deinit(&arena);
    return whole;
}

/* Equal index must mean equal contents at any time; *same: all have the same index. */
static void compare(struct sim_world *w, const struct copy copies[SIM_NODES_MAX], bool *same)
{
    *same = true;
    for (uint32_t i = 0; i < w->nodes_count; i++) {
        for (uint32_t k = 0; k < i; k++) {
            if (!copies[i].member || !copies[k].member) {
                continue;
            }
            if (copies[i].index != copies[k].index) {
                *same = false;
            } else if (copies[i].digest != copies[k].digest) {
                sim_fail(w, "replicas of nodes %u and %u differ at index %llu", k, i,
                         (unsigned long long)copies[i].index);
            }
        }
    }
}

void verify_replicas(struct sim_world *w)
{
    const uint64_t until = w->now_ns + AGREE_MAX_NS;
    struct copy copies[SIM_NODES_MAX] = {{0}};
    const char *why = "";

    while (!w->failed) {
        bool same = false;

        if (look(w, copies, &why)) {
            why = "they differ in index";
            compare(w, copies, &same);
        }
        if (same) {
            return;
        }
        if (w->now_ns >= until) {
            break;
        }
        sim_world_run_until(w, w->now_ns + STEP_NS);
    }
    sim_fail(w, "replicas have not come to the same index %llu s after the last client: %s",
             (unsigned long long)(AGREE_MAX_NS / SEC), why);
    for (uint32_t i = 0; i < w->nodes_count && (w->o.logs || w->o.trace); i++) {
        printf("    node %u: %s at index %llu\n", i, copies[i].member ? "member" : "no member",
               (unsigned long long)copies[i].index);
    }
}

/* ---- reads --------------------------------------------------------------------------------------- */

void verify_reads(struct sim_world *w)
{
    const uint64_t until = w->now_ns + READS_MAX_NS;
    bool done[SIM_NODES_MAX] = {false};
    bool ok[SIM_NODES_MAX] = {false};
    bool all = false;

    for (uint32_t i = 0; i < w->nodes_count && !w->failed; i++) {
        if (!load_verify(&w->nodes[i], &done[i], &ok[i])) {
            sim_fail(w, "node %u does not take the last reads", i);
        }
    }
    while (!w->failed && !all && w->now_ns < until) {
        sim_world_run_until(w, w->now_ns + STEP_NS);
        all = true;
        for (uint32_t i = 0; i < w->nodes_count; i++) {
            all = all && done[i];
        }
    }
    for (uint32_t i = 0; i < w->nodes_count; i++) {
        if (!done[i] || !ok[i]) {
            sim_fail(w, "node %u did not finish the last reads", i);
        }
    }
    if (load_clients(w->load) != 0) { /* Their results point to this frame. */
        INVARIANT(w->failed);
    }
}
