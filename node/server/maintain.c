/*
 * maintain.c -- garbage is collected and replicas are compared, one range after the other.
 *
 * Two fibers walk the ranges led here in order of id, each at a pace that visits all of them once per
 * period: an eighth of the time to live for garbage, a day for comparisons. So the cost is spread, and a
 * lease that moves is visited by its new holder in time.
 *
 * Collecting reads the range, so a visit only looks for versions when a good part of the range is garbage, or
 * every eighth round when there is a little. What transactions left behind is looked for in every visit.
 *
 * What is protected is read at the present before ranges are visited, and handed to the store with the
 * timestamp of the read. If that fails the store knows less than it could: less is collected, no more.
 */
#include <stdlib.h>

#include "node/server/node_internal.h"
#include "node/server/protected.h"

#define PERIOD_NS_MAX    ((uint64_t)1800000000000)
#define PERIOD_NS_MIN    ((uint64_t)1000000000)
#define STEP_NS_MAX      ((uint64_t)10000000000) /* Leases come and go meanwhile. */
#define STEP_NS_MIN      ((uint64_t)10000000)
#define PROTECTED_NS     ((uint64_t)30000000000)
#define COLLECT_NS       ((uint64_t)300000000000)
#define CHECK_NS         ((uint64_t)120000000000)
#define CHECK_PERIOD_NS  ((uint64_t)86400000000000)
#define GARBAGE_MUCH     ((int64_t)64 << 20)
#define THOROUGH_ROUNDS  8u
#define PROTECTED_PER_RQ 1000u

/* ---- protections -------------------------------------------------------------------------------- */

struct protections {
    struct arena arena;
    struct store_protection *list;
    uint32_t count;
    struct hts as_of;
};

static struct status add_record(struct protections *p, struct bytes value)
{
    struct protected_record r;

    TRY(protected_decode(value, &p->arena, &r));
    for (uint32_t i = 0; i < r.spans_count; i++) {
        if (p->count == STORE_PROTECTIONS_MAX) {
            return FAIL(STATUS_OVERLOADED, "too many protected timestamps");
        }
        p->list[p->count++] = (struct store_protection){r.spans[i].start, r.spans[i].end, r.ts};
    }
    return OK;
}

static struct status add_rows(struct protections *p, const struct range_response *rows)
{
    struct reader r = reader_of(rows->rows);

    for (uint32_t i = 0; i < rows->rows_count; i++) {
        struct bytes value;

        (void)read_lp_bytes(&r);
        value = read_lp_bytes(&r);
        if (r.bad) {
            return FAIL(STATUS_CORRUPT, "damaged rows");
        }
        TRY(add_record(p, value));
    }
    return OK;
}

/* All of them at one timestamp. */
MAYYIELD static struct status read_protected(struct node *n, struct protections *p)
{
    static const uint8_t first[] = {KEY_PREFIX_SYSTEM, KEY_SYSTEM_PROTECTED};
    static const uint8_t behind[] = {KEY_PREFIX_SYSTEM, KEY_SYSTEM_PROTECTED + 1};
    struct range_request q = {.op = RANGE_OP_SCAN,
                              .key = bytes_of(first, sizeof(first)),
                              .end = bytes_of(behind, sizeof(behind)),
                              .rows_max = PROTECTED_PER_RQ};
    bool more = true;

    p->list = ARENA_ARRAY(&p->arena, struct store_protection, STORE_PROTECTIONS_MAX);
    if (p->list == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    while (more) {
        struct range_batch b = {.requests = &q, .count = 1, .read_ts = p->as_of};
        const uint64_t deadline = env_mono_ns(shard_env(n->shard)) + NODE_CALL_NS;
        struct range_result result;

        TRY(kv_send(n->kv, &b, deadline, &p->arena, &result));
        TRY(add_rows(p, &result.responses[0]));
        p->as_of = result.read_ts;
        more = result.responses[0].more;
        q.key = result.responses[0].resume;
    }
    return OK;
}

MAYYIELD static void refresh_protected(struct node *n)
{
    struct protections p = {.count = 0};
    struct status st = OK;

    arena_init(&p.arena, 0);
    st = read_protected(n, &p);
    if (status_ok(st) && !n->stopping) {
        st = store_set_protected(n->store, p.as_of, p.list, p.count);
    }
    if (!status_ok(st)) {
        LOG_WARN("maintain.protected_unknown", STR("why", status_text(st)));
    }
    arena_deinit(&p.arena);
}

/* False: the node stops. */
MAYYIELD static bool nap(struct node *n, uint64_t ns)
{
    const uint64_t until = env_mono_ns(shard_env(n->shard)) + ns;
    struct status st = OK;

    while (!n->stopping && status_ok(st)) {
        st = wait_queue_wait(&n->changed, until);
    }
    return !n->stopping && st.code == STATUS_TIMEOUT;
}

/* ---- the walks ---------------------------------------------------------------------------------- */

struct walk {
    range_id at;
    uint32_t round;
};

/* The next range that is led here, from the first again behind the last. */
static bool next_led(struct node *n, struct walk *w, struct arena *arena,
                     struct store_range_info *out)
{
    for (int turn = 0; turn < 2; turn++) {
        arena_reset(arena);
        while (store_next_range(n->store, w->at, arena, out)) {
            w->at = out->desc.id;
            if (out->leaseholder) {
                return true;
            }
            arena_reset(arena);
        }
        w->at = (range_id){0};
        w->round++;
    }
    return false;
}

/* Time between visits, so that a round takes a period. */
static uint64_t step_ns(const struct node *n, uint64_t period_ns)
{
    const uint64_t step = period_ns / (n->walk.own.leases + 1u);

    if (step < STEP_NS_MIN) {
        return STEP_NS_MIN;
    }
    return step < STEP_NS_MAX ? step : STEP_NS_MAX;
}

/* ---- garbage ------------------------------------------------------------------------------------ */

static uint64_t gc_ttl(const struct node *n)
{
    return n->o.gc_ttl_ns == 0 ? STORE_GC_TTL_NS_DEFAULT : n->o.gc_ttl_ns;
}

static uint64_t gc_period(const struct node *n)
{
    const uint64_t period = gc_ttl(n) / 8;

    if (period < PERIOD_NS_MIN) {
        return PERIOD_NS_MIN;
    }
    return period < PERIOD_NS_MAX ? period : PERIOD_NS_MAX;
}

static bool worth_reading(const struct store_range_info *info, uint32_t round)
{
    const int64_t total = info->stats.key_bytes + info->stats.val_bytes;
    const int64_t garbage = total - info->stats.live_bytes;

    return garbage >= GARBAGE_MUCH || garbage * 5 >= total || round % THOROUGH_ROUNDS == 0;
}

MAYYIELD static void collect(struct node *n, const struct store_range_info *info, uint32_t round)
{
    const struct store_gc_options o = {
        .ttl_ns = gc_ttl(n),
        .intent_age_ns =
            n->o.intent_age_ns == 0 ? STORE_GC_INTENT_AGE_NS_DEFAULT : n->o.intent_age_ns,
        .record_age_ns = STORE_GC_RECORD_AGE_NS_DEFAULT,
        .keep_versions = !worth_reading(info, round),
    };
    const uint64_t deadline = env_mono_ns(shard_env(n->shard)) + COLLECT_NS;
    const range_id range = info->desc.id;
    struct store_gc_result r;
    const struct status st = store_gc(n->store, range, &o, deadline, &r);

    if (!status_ok(st)) {
        LOG_INFO("maintain.gc_ended_early", U64("range", range.v), STR("why", status_text(st)));
    }
    if (r.versions + r.intents + r.records > 0) {
        LOG_INFO("maintain.collected", U64("range", range.v), U64("versions", r.versions),
                 U64("intents", r.intents), U64("records", r.records));
    }
}

void maintain__gc_fiber(void *node)
{
    struct node *n = node;
    struct walk w = {.round = 0};
    struct store_range_info info;
    struct arena arena;
    uint64_t protected_ns = 0;

    arena_init(&arena, 0);
    while (nap(n, step_ns(n, gc_period(n)))) {
        const uint64_t now = shard_now_ns(n->shard);
        const uint64_t stale = PROTECTED_NS < gc_period(n) ? PROTECTED_NS : gc_period(n);

        if (!next_led(n, &w, &arena, &info)) {
            continue;
        }
        if (protected_ns == 0 || now >= protected_ns + stale) {
            refresh_protected(n);
            protected_ns = now;
        }
        if (!n->stopping) { /* We yielded; store_gc() asks again who leads. */
            collect(n, &info, w.round);
        }
    }
    arena_deinit(&arena);
    node__fiber_ended(n);
}

/* ---- comparisons -------------------------------------------------------------------------------- */

MAYYIELD static void check(struct node *n, range_id range)
{
    const uint64_t deadline = env_mono_ns(shard_env(n->shard)) + CHECK_NS;
    struct store_consistency r;
    const struct status st = store_check_consistency(n->store, range, deadline, &r);

    if (!status_ok(st)) {
        LOG_INFO("maintain.check_failed", U64("range", range.v), STR("why", status_text(st)));
        return;
    }
    LOG_INFO("maintain.checked", U64("range", range.v), U64("compared", r.compared),
             U64("missing", r.missing), U64("differing", r.differing));
}

void maintain__check_fiber(void *node)
{
    struct node *n = node;
    const uint64_t period = n->o.check_period_ns == 0 ? CHECK_PERIOD_NS : n->o.check_period_ns;
    struct walk w = {.round = 0};
    struct store_range_info info;
    struct arena arena;
    uint64_t due = shard_now_ns(n->shard) + period / 2;

    arena_init(&arena, 0);
    while (nap(n, step_ns(n, period))) {
        const uint64_t now = shard_now_ns(n->shard);

        if (now < due || !next_led(n, &w, &arena, &info)) {
            continue;
        }
        due = now + period / (n->walk.own.leases + 1u);
        check(n, info.desc.id);
    }
    arena_deinit(&arena);
    node__fiber_ended(n);
}

/* ---- on demand ---------------------------------------------------------------------------------- */

struct demand {
    struct node *node;
    range_id range;
};

MAYYIELD static void demand_body(void *arg)
{
    struct demand *d = arg;
    struct node *n = d->node;

    if (!n->stopping) {
        check(n, d->range);
    }
    free(d);
    node__fiber_ended(n);
}

struct status maintain__check_now(struct node *n, range_id range)
{
    struct demand *d = n->stopping || n->store == NULL ? NULL : calloc(1, sizeof(*d));
    struct status st = OK;

    if (d == NULL) {
        return FAIL(STATUS_UNAVAILABLE, "the node is starting or stopping");
    }
    *d = (struct demand){n, range};
    n->fibers++;
    st = fiber_spawn(n->shard, "server.check_now", demand_body, d);
    if (!status_ok(st)) {
        n->fibers--;
        free(d);
    }
    return st;
}
