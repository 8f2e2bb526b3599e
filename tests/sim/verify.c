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
#include "node/txn/txn.h"
#include "tests/sim/check.h"
#include "tests/sim/keyspace.h"
#include "tests/sim/load.h"
#include "tests/sim/process.h"

#define RECOVERY_MAX_NS (10 * SEC)
#define INDEX_TRIES     20u
#define META_END        BYTES_LIT("\x06") /* Behind meta2. */
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

/* Runs the world until all ranges are at rest and fit together. True: *s holds them; the caller ends its
 * arena. */
static bool wait_for_rest(struct sim_world *w, struct survey *s)
{
    const uint64_t until = w->now_ns + AGREE_MAX_NS;

    while (!w->failed) {
        if (survey_take(w, s)) {
            return true;
        }
        arena_deinit(&s->arena);
        if (w->now_ns >= until) {
            break;
        }
        sim_world_run_until(w, w->now_ns + STEP_NS);
    }
    sim_fail(w, "the ranges are not at rest %llu s after the last client: %s",
             (unsigned long long)(AGREE_MAX_NS / SEC), s->why);
    return false;
}

/* ---- the index of ranges ------------------------------------------------------------------------- */

/* All entries, read by a fiber of a node. */
struct index {
    struct sim_node *node;
    struct arena arena;
    struct range_desc *entries;
    uint32_t count;
    uint32_t max;
    uint32_t meta1_count; /* Of them; the first ones. */
    bool done;
    char why[160]; /* Empty: read. */
};

MAYYIELD static struct status read_level(struct index *x, struct txn *t, struct bytes start,
                                         struct bytes end)
{
    struct txn_scan scan = {.start = start, .end = end};

    do {
        TRY(txn_scan(t, &scan, &x->arena));
        for (uint32_t i = 0; i < scan.rows_count; i++) {
            struct range_desc *d = &x->entries[x->count];
            struct bytes under;

            if (x->count == x->max) {
                return FAIL(STATUS_CORRUPT, "more entries than ranges");
            }
            TRY(range_desc_decode(scan.rows[i].value, &x->arena, d));
            if (!key_dec_meta(scan.rows[i].key, &x->arena, &under) || !bytes_eq(under, d->end)) {
                return FAIL(STATUS_CORRUPT, "an entry stands under another key than its end");
            }
            x->count++;
        }
    } while (scan.more);
    return OK;
}

MAYYIELD static struct status read_entries(struct index *x)
{
    const struct txn_options o = {.read_only = true, .deadline_ns = DEADLINE_NONE};
    struct txn *t = NULL;

    x->count = 0;
    TRY(txn_begin(node_kv(x->node->node), &x->arena, &o, &t));
    TRY(read_level(x, t, KEY_MIN, BYTES_LIT("\x05")));
    x->meta1_count = x->count;
    TRY(read_level(x, t, BYTES_LIT("\x05"), META_END));
    return txn_commit(t);
}

static void index_fiber(void *arg)
{
    struct index *x = arg;
    struct status st = OK;

    for (uint32_t i = 0; i < INDEX_TRIES; i++) {
        st = read_entries(x);
        if (status_ok(st) || !status_ok(fiber_sleep(STEP_NS))) {
            break;
        }
    }
    if (!status_ok(st)) {
        (void)snprintf(x->why, sizeof(x->why), "%s", status_text(st));
    }
    x->done = true;
}

static bool same_desc(const struct range_desc *a, const struct range_desc *b)
{
    bool same = a->id.v == b->id.v && a->generation == b->generation &&
                bytes_eq(a->start, b->start) && bytes_eq(a->end, b->end) &&
                a->replicas_count == b->replicas_count;

    for (uint32_t i = 0; same && i < a->replicas_count; i++) {
        same = a->replicas[i].store.v == b->replicas[i].store.v &&
               a->replicas[i].id.v == b->replicas[i].id.v;
    }
    return same;
}

static bool in_level(const struct range_desc *d, int level)
{
    return level == 1 ? bytes_cmp(d->start, META_END) < 0 : bytes_cmp(d->end, META_END) > 0;
}

/* meta1 has what holds keys of meta2, meta2 what ends behind it; both in order of their keys. Behind the
 * last one of them meta1 may have entries of the time when ranges with its keys ended there: no lookup comes
 * so far. */
static void compare_index(struct sim_world *w, const struct survey *s, const struct index *x)
{
    uint32_t next = 0;

    if (s->count < 2) {
        return; /* A cluster that was never split has no index yet. */
    }
    for (int level = 1; level <= 2; level++) {
        const uint32_t end = level == 1 ? x->meta1_count : x->count;

        for (uint32_t i = 0; i < s->count; i++) {
            const struct range_desc *d = &s->descs[i];

            if (!in_level(d, level)) {
                continue;
            }
            if (next >= end || !same_desc(d, &x->entries[next])) {
                sim_fail(w, "the index knows range %llu, generation %llu, differently at level %d",
                         (unsigned long long)d->id.v, (unsigned long long)d->generation, level);
                return;
            }
            next++;
        }
        next = level == 1 ? x->meta1_count : next;
    }
    if (next != x->count) {
        sim_fail(w, "the index has %u entries too many", x->count - next);
    }
}

static void read_index(struct sim_world *w, const struct survey *s, struct index *x)
{
    const uint64_t until = w->now_ns + READS_MAX_NS;

    arena_init(&x->arena, 0);
    x->max = 4 * s->count;
    x->entries = arena_calloc(&x->arena, x->max, sizeof(*x->entries));
    INVARIANT(x->entries != NULL);
    if (!process_spawn(x->node, "sim.index", index_fiber, x)) {
        sim_fail(w, "node 0 does not read the index");
    }
    while (!w->failed && !x->done && w->now_ns < until) {
        sim_world_run_until(w, w->now_ns + STEP_NS);
    }
    if (!x->done || x->why[0] != '\0') {
        sim_fail(w, "the index could not be read: %s", x->why);
    }
}

static bool same_survey(const struct survey *a, const struct survey *b)
{
    bool same = a->count == b->count;

    for (uint32_t i = 0; same && i < a->count; i++) {
        same = same_desc(&a->descs[i], &b->descs[i]);
    }
    return same;
}

/* What the index says counts if nothing has moved while it was read. */
void verify_replicas(struct sim_world *w)
{
    const uint64_t until = w->now_ns + AGREE_MAX_NS;
    bool settled = false;

    while (!w->failed && !settled) {
        struct survey before = {0};
        struct survey after = {0};
        struct index x = {.node = &w->nodes[0]};

        if (!wait_for_rest(w, &before)) {
            return;
        }
        read_index(w, &before, &x);
        if (wait_for_rest(w, &after)) {
            settled = same_survey(&before, &after);
            if (settled) {
                compare_index(w, &before, &x);
            }
            arena_deinit(&after.arena);
        }
        arena_deinit(&before.arena);
        arena_deinit(&x.arena);
        if (!settled && w->now_ns > until) {
            sim_fail(w, "the ranges are still moved around %llu s after the last client",
                     (unsigned long long)(AGREE_MAX_NS / SEC));
        }
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
