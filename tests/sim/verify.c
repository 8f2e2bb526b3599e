/*
 * verify.c -- the last phase of a run.
 *
 * Nothing is broken any more, so every wait here has a bound, and passing it is a failure: a database
 * that is safe because it stands still is not what we want.
 */
#include "tests/sim/verify.h"

#include <stdarg.h>
#include <stdio.h>

#include "node/base/invariant.h"
#include "node/runtime/fiber.h"
#include "node/storage/key/key.h"
#include "tests/sim/check.h"
#include "tests/sim/keyspace.h"
#include "tests/sim/load.h"
#include "tests/sim/process.h"

#define RECOVERY_MAX_NS (10 * SEC)
#define AGREE_MAX_NS \
    (60 * SEC) /* Replicas may still be on the move; intents that nobody looks after go. */
#define READS_MAX_NS (60 * SEC)
#define STEP_NS      (50 * MS)

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

/* All ranges at one moment. */
struct survey {
    struct arena arena;
    struct range_desc *descs; /* Of the leaseholders, in the arena. */
    uint32_t count;
    char why[160]; /* What does not fit yet. */
};

static bool not_yet(struct survey *s, const char *fmt, ...) PRINTF_LIKE(2, 3);

static bool not_yet(struct survey *s, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(s->why, sizeof(s->why), fmt, args);
    va_end(args);
    return false;
}

static bool has_store(const struct range_desc *d, struct sim_node *n)
{
    return range_desc_find(d, node_ident(n->node).store) != NULL;
}

/* What the leaseholder says of the range, and whether it is at rest. */
static bool ask_leader(struct sim_world *w, range_id id, struct survey *s, struct range_desc *out)
{
    struct sim_node *leader = sim_leaseholder(w, id);
    const unsigned long long range = (unsigned long long)id.v;
    struct store_range_info info = {0};
    bool there = false;

    if (leader == NULL || !leader->ready) {
        return not_yet(s, "the leader of range %llu is not up", range);
    }
    shard_enter(leader->shard);
    there = store_find_range(node_store(leader->node), id, &s->arena, &info);
    shard_leave(leader->shard);
    if (!there || !info.leaseholder) {
        return not_yet(s, "the leader of range %llu has no lease", range);
    }
    if (info.frozen) {
        return not_yet(s, "range %llu is frozen", range);
    }
    if (keyspace_count(check_keyspace(w->check)) > 1 && !info.addressed) {
        return not_yet(s, "range %llu is not addressed", range);
    }
    if (info.stats.intent_count != 0 || info.stats.lock_count != 0) {
        return not_yet(s, "range %llu has %lld intents, %lld locks", range,
                       (long long)info.stats.intent_count, (long long)info.stats.lock_count);
    }
    *out = info.desc;
    return true;
}

/* Equal index must mean equal contents at any time. False: they differ in index. */
static bool compare(struct sim_world *w, const struct range_desc *d,
                    const struct copy copies[SIM_NODES_MAX], struct survey *s)
{
    bool same = true;

    for (uint32_t i = 0; i < w->nodes_count; i++) {
        for (uint32_t k = 0; k < i; k++) {
            if (!copies[i].member || !copies[k].member) {
                continue;
            }
            if (copies[i].index != copies[k].index) {
                same = not_yet(s, "nodes %u and %u stand at index %llu and %llu of range %llu", k,
                               i, (unsigned long long)copies[k].index,
                               (unsigned long long)copies[i].index, (unsigned long long)d->id.v);
            } else if (copies[i].digest != copies[k].digest) {
                sim_fail(w, "replicas of range %llu on nodes %u and %u differ at index %llu",
                         (unsigned long long)d->id.v, k, i, (unsigned long long)copies[i].index);
            }
        }
    }
    return same;
}

/* What each member holds; false when a member is not there, or behind. */
static bool look_at_members(struct sim_world *w, const struct range_desc *d, struct survey *s)
{
    struct copy copies[SIM_NODES_MAX] = {{0}};
    uint32_t members = 0;

    for (uint32_t i = 0; i < w->nodes_count; i++) {
        struct sim_node *n = &w->nodes[i];
        bool there = true;

        copies[i].member = n->ready && has_store(d, n);
        if (copies[i].member) {
            shard_enter(n->shard);
            there = status_ok(store_range_digest(node_store(n->node), d->id, &copies[i].index,
                                                 &copies[i].digest));
            shard_leave(n->shard);
            members++;
        }
        if (!there) {
            return not_yet(s, "node %u has no replica of range %llu, of which it is a member", i,
                           (unsigned long long)d->id.v);
        }
    }
    return compare(w, d, copies, s) &&
           (members > 0 || not_yet(s, "range %llu has no member", (unsigned long long)d->id.v));
}

/* Ranges tile the keyspace: insertion sort by start, then neighbour by neighbour. */
static bool tile(struct survey *s)
{
    for (uint32_t i = 1; i < s->count; i++) {
        const struct range_desc d = s->descs[i];
        uint32_t k = i;

        for (; k > 0 && bytes_cmp(s->descs[k - 1].start, d.start) > 0; k--) {
            s->descs[k] = s->descs[k - 1];
        }
        s->descs[k] = d;
    }
    if (!bytes_eq(s->descs[0].start, KEY_MIN) || !bytes_eq(s->descs[s->count - 1].end, KEY_MAX)) {
        return not_yet(s, "the ranges do not cover the first or the last key");
    }
    for (uint32_t i = 1; i < s->count; i++) {
        if (!bytes_eq(s->descs[i - 1].end, s->descs[i].start)) {
            return not_yet(s, "between ranges %llu and %llu is a gap or an overlap",
                           (unsigned long long)s->descs[i - 1].id.v,
                           (unsigned long long)s->descs[i].id.v);
        }
    }
    return true;
}

static const struct range_desc *find_desc(const struct survey *s, range_id id)
{
    for (uint32_t i = 0; i < s->count; i++) {
        if (s->descs[i].id.v == id.v) {
            return &s->descs[i];
        }
    }
    return NULL;
}

/* A store that was away keeps what is not its own any more until it has asked; that may take a while, and
 * harms nobody as long as it only follows. */
static bool no_strays(struct sim_world *w, struct survey *s)
{
    for (uint32_t i = 0; i < w->nodes_count; i++) {
        struct sim_node *n = &w->nodes[i];
        struct store_range_info info = {0};
        range_id at = {0};
        bool fine = true;

        if (!n->ready) {
            return not_yet(s, "node %u is not ready", i);
        }
        shard_enter(n->shard);
        while (fine && store_next_range(node_store(n->node), at, &s->arena, &info)) {
            const struct range_desc *d = find_desc(s, info.desc.id);
            const bool stray = d == NULL || !has_store(d, n);

            at = info.desc.id;
            fine = !stray || info.role != RAFT_LEADER;
            w->states[SIM_STATE_STRAY_LEFT] += stray ? 1 : 0;
        }
        shard_leave(n->shard);
        if (!fine) {
            return not_yet(s, "node %u leads range %llu, of which it is no member", i,
                           (unsigned long long)at.v);
        }
    }
    return true;
}

static bool survey_take(struct sim_world *w, struct survey *s)
{
    const struct keyspace *k = check_keyspace(w->check);
    const uint32_t count = keyspace_count(k);

    arena_init(&s->arena, 0);
    s->descs = arena_calloc(&s->arena, count, sizeof(*s->descs));
    INVARIANT(s->descs != NULL);
    for (s->count = 0; s->count < count; s->count++) {
        struct range_desc *d = &s->descs[s->count];

        if (!ask_leader(w, keyspace_at(k, s->count), s, d) || !look_at_members(w, d, s)) {
            return false;
        }
    }
    return tile(s) && no_strays(w, s);
}

void verify_replicas(struct sim_world *w)
{
    const uint64_t until = w->now_ns + AGREE_MAX_NS;
    struct survey s = {0};

    while (!w->failed) {
        const bool fits = survey_take(w, &s);

        arena_deinit(&s.arena);
        if (fits) {
            return;
        }
        if (w->now_ns >= until) {
            break;
        }
        sim_world_run_until(w, w->now_ns + STEP_NS);
    }
    sim_fail(w, "the ranges are not at rest %llu s after the last client: %s",
             (unsigned long long)(AGREE_MAX_NS / SEC), s.why);
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

/* ---- for people ---------------------------------------------------------------------------------- */

static void dump_range(const struct sim_node *n, const struct store_range_info *i)
{
    printf(
        "    node %u range %llu: %s%s term %llu applied %llu commit %llu generation %llu%s%s, %u "
        "replicas, %lld intents, %lld locks\n",
        n->index, (unsigned long long)i->desc.id.v, i->role == RAFT_LEADER ? "leader" : "follower",
        i->leaseholder ? " with lease" : "", (unsigned long long)i->term,
        (unsigned long long)i->applied, (unsigned long long)i->commit,
        (unsigned long long)i->desc.generation, i->addressed ? "" : " unaddressed",
        i->frozen ? " frozen" : "", i->desc.replicas_count, (long long)i->stats.intent_count,
        (long long)i->stats.lock_count);
}

void verify_dump(struct sim_world *w)
{
    for (uint32_t i = 0; i < w->nodes_count; i++) {
        struct sim_node *n = &w->nodes[i];
        struct store_range_info info;
        struct arena arena;
        range_id at = {0};

        if (n->life != SIM_UP || n->cut || n->node == NULL || node_store(n->node) == NULL) {
            printf("    node %u is not up\n", i);
            continue;
        }
        arena_init(&arena, 0);
        shard_enter(n->shard);
        while (store_next_range(node_store(n->node), at, &arena, &info)) {
            at = info.desc.id;
            dump_range(n, &info);
        }
        fiber_log_live(n->shard);
        shard_leave(n->shard);
        arena_deinit(&arena);
    }
}
