/*
 * keyspace.c -- shadow state that commands change.
 *
 * A command is looked at once, when the first replica applies it: the others apply the same (R3).
 *
 * Closed timestamps: a replica that has applied up to index a and reports ts says that nothing with an
 * index above a writes at or below ts. Reports and commands come in any order, so both are remembered:
 * the highest report of the range, and per index the lowest new value. Intents that move or are settled
 * are no new values: they stood in the way of readers all the time.
 */
#include "tests/sim/keyspace.h"

#include <stdlib.h>

#include "node/base/codec.h"
#include "node/base/invariant.h"
#include "node/base/map.h"
#include "node/range/request.h"
#include "node/storage/engine/engine.h"
#include "node/storage/key/key.h"
#include "tests/sim/chaos.h"

#define TXNS_MAX   ((size_t)1 << 20)
#define RECENT_MAX 64u
#define RECENT_LEN 128u
#define BACK_MAX   512u /* So far a report looks ahead of what its replica has applied. */

struct shadow {
    range_id id;
    bool gone;
    struct hts closed;   /* The highest that any replica has reported. */
    struct hts floor;    /* Leases start above: the left side had served it before the split. */
    struct hts *written; /* By index: lowest new value; zero: none. */
    uint64_t cap;
    uint64_t last; /* Highest index seen. */
};

struct recent {
    range_id range;
    size_t len;
    uint8_t key[RECENT_LEN];
};

/* How a transaction's record stood last. */
struct txn_shadow {
    enum range_txn_status status;
    uint64_t record; /* Hash of it, where the timestamp is. */
};

struct keyspace {
    struct sim_world *w;
    struct shadow ranges[SIM_RANGES_MAX];
    uint32_t count;
    struct map slots; /* id -> slot + 1 */
    struct map txns;  /* hash of id -> struct txn_shadow, owned */
    struct recent recent[RECENT_MAX];
    uint64_t recent_count;
};

static struct shadow *find(struct keyspace *k, range_id id)
{
    const uintptr_t slot = (uintptr_t)map_get(&k->slots, id.v);

    if (slot != 0) {
        return &k->ranges[slot - 1];
    }
    INVARIANT(k->count < SIM_RANGES_MAX);
    k->ranges[k->count].id = id;
    k->count++;
    INVARIANT(status_ok(map_put(&k->slots, id.v, (void *)(uintptr_t)k->count))); /* NOLINT */
    return &k->ranges[k->count - 1];
}

struct keyspace *keyspace_create(struct sim_world *w)
{
    struct keyspace *k = calloc(1, sizeof(*k));

    INVARIANT(k != NULL);
    k->w = w;
    map_init(&k->slots, SIM_RANGES_MAX);
    map_init(&k->txns, TXNS_MAX);
    (void)find(k, (range_id){RANGE_FIRST_ID});
    return k;
}

void keyspace_destroy(struct keyspace *k)
{
    void *value = NULL;
    uint64_t key = 0;
    size_t pos = 0;

    for (uint32_t i = 0; i < k->count; i++) {
        free(k->ranges[i].written);
    }
    while (map_next(&k->txns, &pos, &key, &value)) {
        free(value);
    }
    map_deinit(&k->txns);
    map_deinit(&k->slots);
    free(k);
}

uint32_t keyspace_count(const struct keyspace *k)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < k->count; i++) {
        n += k->ranges[i].gone ? 0 : 1;
    }
    return n;
}

range_id keyspace_at(const struct keyspace *k, uint32_t i)
{
    uint32_t n = 0;

    for (uint32_t s = 0; s < k->count; s++) {
        if (!k->ranges[s].gone && n++ == i) {
            return k->ranges[s].id;
        }
    }
    INVARIANT(false);
    return (range_id){0};
}

/* ---- keys ---------------------------------------------------------------------------------------- */

static void remember_key(struct keyspace *k, range_id range, struct bytes key)
{
    struct recent *r = &k->recent[k->recent_count % RECENT_MAX];

    if (key.len <= RECENT_LEN) {
        *r = (struct recent){.range = range, .len = key.len};
        memcpy(r->key, key.ptr, key.len);
        k->recent_count++;
    }
}

bool keyspace_recent_key(const struct keyspace *k, struct rng *r, range_id *range,
                         struct bytes *key)
{
    const uint64_t n = k->recent_count < RECENT_MAX ? k->recent_count : RECENT_MAX;
    const struct recent *one = n == 0 ? NULL : &k->recent[rng_below(r, n)];

    if (one == NULL) {
        return false;
    }
    *range = one->range;
    *key = bytes_of(one->key, one->len);
    return true;
}

/* ---- values -------------------------------------------------------------------------------------- */

/* The user key of a lock or of a version; false: neither. */
static bool user_key_of(struct bytes phys, struct bytes *key, struct hts *ts)
{
    struct uuid txn;
    uint8_t strength = 0;

    if (phys.len > 0 && phys.ptr[0] == 0x03) {
        return key_split_lock(phys, key, &strength, &txn);
    }
    return phys.len > 0 && phys.ptr[0] > 0x03 && key_split_version(phys, key, ts);
}

/* Does the command take away a lock or a version of this key? Then it moves or settles an intent. */
static bool takes_away(struct bytes ops, struct bytes key)
{
    struct engine_op op;
    struct bytes other;
    struct hts ts;
    bool bad = false;

    while (engine_ops_next(&ops, &op, &bad)) {
        if (op.kind == ENGINE_OP_DELETE && user_key_of(op.key, &other, &ts) &&
            bytes_eq(other, key)) {
            return true;
        }
    }
    return false;
}

/* The lowest new value of a command; zero: there is none. */
static struct hts lowest_value(struct keyspace *k, range_id range, struct bytes all)
{
    struct bytes rest = all;
    struct hts lowest = HTS_ZERO;
    struct engine_op op;
    bool deletes = false;
    bool bad = false;

    while (engine_ops_next(&rest, &op, &bad)) {
        deletes = deletes || op.kind == ENGINE_OP_DELETE;
    }
    rest = all;
    while (engine_ops_next(&rest, &op, &bad)) {
        struct bytes key;
        struct hts ts;

        if (op.kind != ENGINE_OP_PUT || op.key.len == 0 || op.key.ptr[0] <= 0x03 ||
            !key_split_version(op.key, &key, &ts)) {
            continue;
        }
        remember_key(k, range, key);
        if ((hts_is_zero(lowest) || hts_less(ts, lowest)) && !(deletes && takes_away(all, key))) {
            lowest = ts;
        }
    }
    return lowest;
}

static void fail_closed(struct keyspace *k, const struct shadow *s, uint64_t index, struct hts ts,
                        struct hts closed)
{
    sim_fail(k->w, "R9: index %llu of range %llu writes at %llu.%u, and %llu.%u was closed before",
             (unsigned long long)index, (unsigned long long)s->id.v, (unsigned long long)ts.wall,
             ts.logical, (unsigned long long)closed.wall, closed.logical);
}

static void note_written(struct keyspace *k, struct shadow *s, uint64_t index, struct hts lowest)
{
    if (index >= s->cap) {
        uint64_t cap = s->cap == 0 ? 1024 : s->cap * 2;

        cap = cap <= index ? index + 1 : cap;
        s->written = realloc(s->written, cap * sizeof(*s->written));
        INVARIANT(s->written != NULL);
        memset(&s->written[s->cap], 0, (cap - s->cap) * sizeof(*s->written));
        s->cap = cap;
    }
    s->written[index] = lowest;
    if (index > s->last) {
        s->last = index;
        if (!hts_is_zero(lowest) && hts_less_eq(lowest, s->closed)) {
            fail_closed(k, s, index, lowest, s->closed);
        }
    }
}

void keyspace_closed(struct keyspace *k, uint32_t node, range_id range, uint64_t index,
                     struct hts ts)
{
    struct shadow *s = find(k, range);
    const uint64_t last = s->last > index + BACK_MAX ? index + BACK_MAX : s->last;

    UNUSED(node);
    for (uint64_t i = index + 1; i <= last && i < s->cap; i++) {
        if (!hts_is_zero(s->written[i]) && hts_less_eq(s->written[i], ts)) {
            fail_closed(k, s, i, s->written[i], ts);
        }
    }
    s->closed = hts_max(s->closed, ts);
}

void keyspace_lease_started(struct keyspace *k, range_id range, struct hts start_ts)
{
    const struct shadow *s = find(k, range);

    if (!hts_is_zero(s->floor) && hts_less_eq(start_ts, s->floor)) {
        sim_fail(
            k->w,
            "R11: a lease of range %llu starts at %llu.%u; before the split %llu.%u was served",
            (unsigned long long)range.v, (unsigned long long)start_ts.wall, start_ts.logical,
            (unsigned long long)s->floor.wall, s->floor.logical);
    }
}

/* ---- transactions -------------------------------------------------------------------------------- */

/* 0x02 esc(anchor) term 't' uuid; behind the format number of the value stands the state. */
static bool is_record(struct bytes key)
{
    return key.len > 18 && key.ptr[0] == 0x02 && key.ptr[key.len - 17] == (uint8_t)KEY_LOCAL_TXN;
}

static void note_record(struct keyspace *k, const struct engine_op *op)
{
    const uint64_t id = hash64(bytes_of(op->key.ptr + op->key.len - 16, 16), 0);
    const uint64_t record = hash64(op->value, 0);
    struct txn_shadow *t = map_get(&k->txns, id);
    enum range_txn_status status = RANGE_TXN_PENDING;

    if (op->value.len < 2) {
        return;
    }
    status = (enum range_txn_status)op->value.ptr[1];
    if (t == NULL) {
        t = calloc(1, sizeof(*t));
        INVARIANT(t != NULL);
        INVARIANT(status_ok(map_put(&k->txns, id, t)));
        if (status == RANGE_TXN_STAGING) {
            sim_state(k->w, SIM_STATE_STAGED);
            chaos_staged(k->w);
        }
    } else {
        k->w->states[SIM_STATE_RESTAGED] +=
            status == RANGE_TXN_STAGING && t->status == RANGE_TXN_STAGING && t->record != record;
        if (t->status == RANGE_TXN_COMMITTED && status != RANGE_TXN_COMMITTED) {
            sim_fail(k->w, "R10: a transaction that was committed is %s again",
                     status == RANGE_TXN_STAGING ? "staging" : "pending");
        }
    }
    *t = (struct txn_shadow){status, record};
}

static void look_at_records(struct keyspace *k, struct bytes ops)
{
    struct engine_op op;
    bool bad = false;

    while (engine_ops_next(&ops, &op, &bad)) {
        if (op.kind == ENGINE_OP_PUT && is_record(op.key)) {
            note_record(k, &op);
        }
    }
}

/* ---- commands ------------------------------------------------------------------------------------ */

static range_id id_of(struct bytes desc)
{
    struct range_desc d = {0};
    struct arena arena;

    arena_init(&arena, 0);
    if (!status_ok(range_desc_decode(desc, &arena, &d))) {
        d.id = (range_id){0};
    }
    arena_deinit(&arena);
    return d.id;
}

static void note_split(struct keyspace *k, const struct shadow *left, const struct command *c,
                       struct hts served)
{
    const struct hts closed = left->closed;
    struct shadow *right = find(k, id_of(c->right));

    right->closed = hts_max(right->closed, closed);
    right->floor = served;
    sim_state(k->w, SIM_STATE_SPLIT_DONE);
    if (c->right_stats.intent_count > 0) {
        sim_state(k->w, SIM_STATE_SPLIT_WITH_INTENTS);
    }
}

void keyspace_command(struct keyspace *k, range_id range, uint64_t index, const struct command *c,
                      struct hts served)
{
    struct shadow *s = find(k, range);
    struct hts lowest = HTS_ZERO;

    if (c->ops.len > 0 && c->kind == COMMAND_WRITE) {
        lowest = lowest_value(k, range, c->ops);
        look_at_records(k, c->ops);
    }
    note_written(k, s, index, lowest);
    if (c->kind == COMMAND_SPLIT) {
        note_split(k, s, c, served);
    } else if (c->kind == COMMAND_MERGE) {
        find(k, id_of(c->right))->gone = true;
        sim_state(k->w, SIM_STATE_MERGE_DONE);
    } else if (c->kind == COMMAND_CANCEL_MERGE) {
        sim_state(k->w, SIM_STATE_MERGE_CANCELLED);
    } else if (c->kind == COMMAND_FREEZE) {
        sim_state(k->w, SIM_STATE_FROZEN);
    }
}
