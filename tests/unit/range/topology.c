/*
 * topology.c -- see topology.h.
 */
#include "tests/unit/range/topology.h"

#include <stdio.h>

#include "node/base/codec.h"
#include "node/base/invariant.h"
#include "node/range/internal.h"

#define RANGES_MAX 64

static struct replica *leader_of(struct cluster *c, struct bytes key, uint32_t *node_out)
{
    for (uint32_t i = 0; i < c->count; i++) {
        struct replica *r =
            c->nodes[i].up && !c->nodes[i].cut ? store__find_key(c->nodes[i].store, key) : NULL;

        if (r != NULL && r->life == REPLICA_INIT && status_ok(lease__check(r, HTS_ZERO))) {
            *node_out = i;
            return r;
        }
    }
    return NULL;
}

int topo_leads(struct cluster *c, const char *key, uint64_t *range_out)
{
    uint32_t node = 0;
    const struct replica *r = leader_of(c, bytes_str(key), &node);

    if (r == NULL) {
        return -1;
    }
    if (range_out != NULL) {
        *range_out = r->range.v;
    }
    return (int)node;
}

int topo_wait_leads(struct cluster *c, const char *key, uint64_t *range_out)
{
    for (int i = 0; i < 1500; i++) {
        const int node = topo_leads(c, key, range_out);

        if (node >= 0) {
            return node;
        }
        cluster_run_ms(c, 10);
    }
    return -1;
}

static void run(struct cluster_call *call)
{
    cluster_call_start(call);
    INVARIANT(cluster_call_wait(call, 12000));
}

static struct cluster_node *any_node(struct cluster *c)
{
    for (uint32_t i = 0; i < c->count; i++) {
        if (c->nodes[i].up && !c->nodes[i].cut) {
            return &c->nodes[i];
        }
    }
    return NULL;
}

enum status_code topo_put(struct cluster *c, const char *key, const char *value)
{
    struct cluster_call call = {
        .node = any_node(c),
        .kind = CLUSTER_SEND,
        .one = {.op = RANGE_OP_PUT, .key = bytes_str(key), .value = bytes_str(value)}};

    run(&call);
    cluster_call_end(&call);
    return call.st.code;
}

const char *topo_get(struct cluster *c, const char *key, enum status_code *code)
{
    static char out[256];
    struct cluster_call call = {.node = any_node(c),
                                .kind = CLUSTER_SEND,
                                .one = {.op = RANGE_OP_GET, .key = bytes_str(key)}};
    size_t n = 0;

    run(&call);
    *code = call.st.code;
    if (status_ok(call.st) && call.result.responses[0].found) {
        n = call.result.responses[0].value.len;
        INVARIANT(n < sizeof(out));
        memcpy(out, call.result.responses[0].value.ptr, n);
    }
    out[n] = '\0';
    cluster_call_end(&call);
    return *code == STATUS_OK ? out : NULL;
}

static enum status_code change(struct cluster *c, const char *key, enum cluster_call_kind kind,
                               uint32_t target)
{
    uint64_t range = 0;
    const int node = topo_wait_leads(c, key, &range);
    struct cluster_call call = {.kind = kind, .target = target, .key = bytes_str(key)};

    if (node < 0) {
        return STATUS_UNAVAILABLE;
    }
    call.node = &c->nodes[node];
    call.range = range;
    run(&call);
    cluster_call_end(&call);
    return call.st.code;
}

enum status_code topo_split(struct cluster *c, const char *key)
{
    return change(c, key, CLUSTER_SPLIT, 0);
}

enum status_code topo_merge(struct cluster *c, const char *key)
{
    return change(c, key, CLUSTER_MERGE, 0);
}

enum status_code topo_transfer(struct cluster *c, const char *key, uint32_t target)
{
    return change(c, key, CLUSTER_TRANSFER, target);
}

enum status_code topo_add_voter(struct cluster *c, const char *key, uint32_t target)
{
    return change(c, key, CLUSTER_ADD_VOTER, target);
}

enum status_code topo_remove(struct cluster *c, const char *key, uint32_t target)
{
    return change(c, key, CLUSTER_REMOVE, target);
}

/* ---- does it fit --------------------------------------------------------------------------------- */

/* Leaders in order of their keys; 0 when some keys are led by nobody. */
static uint32_t leaders(struct cluster *c, struct replica *out[RANGES_MAX])
{
    struct bytes at = KEY_MIN;
    uint32_t count = 0;

    while (bytes_cmp(at, KEY_MAX) < 0) {
        uint32_t node = 0;
        struct replica *r = leader_of(c, at, &node);

        if (r == NULL || !bytes_eq(r->desc.start, at)) {
            return 0;
        }
        INVARIANT(count < RANGES_MAX);
        out[count++] = r;
        at = r->desc.end;
    }
    return count;
}

uint32_t topo_ranges(struct cluster *c)
{
    struct replica *all[RANGES_MAX];

    return leaders(c, all);
}

static const char *replicas_equal(struct cluster *c, const struct replica *leader)
{
    uint64_t index = 0;
    uint64_t digest = 0;

    if (!status_ok(store_range_digest(leader->store, leader->range, &index, &digest))) {
        return "no digest";
    }
    for (uint32_t i = 0; i < leader->desc.replicas_count; i++) {
        const uint32_t node = leader->desc.replicas[i].store.v - 1;
        uint64_t other_index = 0;
        uint64_t other = 0;

        if (!c->nodes[node].up || c->nodes[node].cut) {
            continue;
        }
        if (!status_ok(
                store_range_digest(c->nodes[node].store, leader->range, &other_index, &other))) {
            return "a replica is missing";
        }
        if (other_index != index) {
            return "a replica is behind";
        }
        if (other != digest) {
            return "replicas differ";
        }
    }
    return NULL;
}

/* Replicas that no leader's descriptor knows. */
static const char *strays(struct cluster *c)
{
    for (uint32_t i = 0; i < c->count; i++) {
        struct store_range_info info;
        struct arena arena;
        range_id after = {0};
        bool stray = false;

        if (!c->nodes[i].up || c->nodes[i].cut) {
            continue;
        }
        arena_init(&arena, 0);
        while (!stray && store_next_range(c->nodes[i].store, after, &arena, &info)) {
            const struct replica *mine = store__find(c->nodes[i].store, info.desc.id);
            uint32_t node = 0;
            const struct replica *leader = leader_of(c, mine->desc.start, &node);

            stray = mine->life != REPLICA_INIT || leader == NULL ||
                    leader->range.v != mine->range.v ||
                    range_desc_find(&leader->desc, (store_id){i + 1}) == NULL;
            after = info.desc.id;
        }
        arena_deinit(&arena);
        if (stray) {
            return "a store holds a replica of no range";
        }
    }
    return NULL;
}

static const char *in_the_way(struct cluster *c)
{
    struct replica *all[RANGES_MAX];
    const uint32_t count = leaders(c, all);

    for (uint32_t i = 0; i < c->count; i++) {
        if (c->nodes[i].fatal > 0) {
            return "a store has failed";
        }
    }
    if (count == 0) {
        return "not all keys are led";
    }
    for (uint32_t i = 0; i < count; i++) {
        const char *why = NULL;

        if (!all[i]->applied.addressed) {
            return "not addressed";
        }
        if (change__held(all[i]) || all[i]->changing) {
            return "held";
        }
        why = replicas_equal(c, all[i]);
        if (why != NULL) {
            return why;
        }
    }
    return strays(c);
}

bool topo_settles(struct cluster *c, uint64_t ms)
{
    const char *why = in_the_way(c);

    for (uint64_t i = 0; i < ms && why != NULL; i += 20) {
        cluster_run_ms(c, 20);
        why = in_the_way(c);
    }
    if (why != NULL) {
        printf("not settled: %s\n", why);
    }
    return why == NULL;
}

/* The first entry of the index above a key, as a lookup finds it. */
static bool first_above(struct cluster *c, int level, struct bytes key, struct arena *arena,
                        struct range_desc *out)
{
    uint8_t mem[KEY_STACK_SIZE];
    struct key_enc k;
    struct bytes meta;
    struct bytes from;
    const struct bytes end = level == 1 ? BYTES_LIT("\x05") : BYTES_LIT("\x06");
    bool found = false;

    key_enc_init(&k, mem, sizeof(mem));
    key_enc_meta(&k, level, key);
    INVARIANT(status_ok(key_enc_finish(&k, &meta)));
    INVARIANT(status_ok(key_after(arena, meta, &from)));
    while (!found && bytes_cmp(from, end) < 0) {
        struct cluster_call call = {.node = any_node(c), .kind = CLUSTER_SEND};
        struct range_desc upper = {.end = end};

        /* As far as the range goes that the upper level names. */
        if (level == 2 && !first_above(c, 1, from, arena, &upper)) {
            return false;
        }
        upper.end = bytes_cmp(upper.end, end) < 0 ? upper.end : end;
        call.one = (struct range_request){
            .op = RANGE_OP_SCAN, .rows_max = 1, .key = from, .end = upper.end};
        run(&call);
        INVARIANT(status_ok(call.st));
        if (call.result.responses[0].rows_count == 1) {
            struct reader rows = reader_of(call.result.responses[0].rows);

            (void)read_lp_bytes(&rows);
            found = status_ok(range_desc_decode(read_lp_bytes(&rows), arena, out));
        }
        cluster_call_end(&call);
        from = upper.end;
    }
    return found;
}

bool topo_index_is_right(struct cluster *c)
{
    struct replica *all[RANGES_MAX];
    const uint32_t count = leaders(c, all);
    struct arena arena;
    bool right = count > 0;

    arena_init(&arena, 0);
    for (uint32_t i = 0; i < count && right; i++) {
        for (int level = 1; level <= 2 && right; level++) {
            struct range_desc d;
            const bool there = level == 1 ? bytes_cmp(all[i]->desc.start, BYTES_LIT("\x06")) < 0
                                          : bytes_cmp(all[i]->desc.end, BYTES_LIT("\x06")) > 0;

            if (!there) {
                continue;
            }
            right = first_above(c, level, all[i]->desc.start, &arena, &d) &&
                    d.id.v == all[i]->range.v && d.generation == all[i]->desc.generation;
        }
        if (!right) {
            printf("the index is wrong about range %lu\n", (unsigned long)all[i]->range.v);
        }
    }
    arena_deinit(&arena);
    return right;
}

bool topo_counts_are_right(struct cluster *c)
{
    struct replica *all[RANGES_MAX];
    const uint32_t count = leaders(c, all);
    bool right = count > 0;

    for (uint32_t i = 0; i < count; i++) {
        struct mvcc_reader reader;
        struct mvcc_stats stats;

        mvcc_reader_init(&reader, all[i]->store->engine, NULL, ENGINE_TIER_ANY);
        right =
            right &&
            status_ok(mvcc_stats_compute(&reader, all[i]->desc.start, all[i]->desc.end, &stats)) &&
            memcmp(&stats, &all[i]->applied.stats, sizeof(stats)) == 0;
        mvcc_reader_deinit(&reader);
    }
    return right;
}
