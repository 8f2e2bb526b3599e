/*
 * many_rig.c -- see many_rig.h.
 */
#include "tests/unit/txn/many_rig.h"

#include "node/base/invariant.h"
#include "node/runtime/fiber.h"

static bool on_frame(void *ctx, const struct cluster_frame *f)
{
    struct many *m = ctx;

    if (f->type != RPC_TYPE_BATCH) {
        return true;
    }
    if ((f->from == 1 || f->to == 1) && rng_permille(&m->rng, m->drop_permille)) {
        m->requests += !f->reply && f->from == 1 ? 1 : 0;
        m->replies += f->reply && f->to == 1 ? 1 : 0;
        return false;
    }
    if (!f->reply && f->from == 1) {
        const uint64_t now = env_mono_ns(shard_env(m->c.nodes[1].shard));

        m->requests++;
        m->rounds += now != m->last_sent_ns ? 1 : 0;
        m->last_sent_ns = now;
        return true;
    }
    if (f->reply && f->to == 1) {
        const uint32_t n = m->replies++;

        return n < m->drop_from || n >= m->drop_from + m->drop_count;
    }
    return true;
}

static void body_fiber(void *arg)
{
    struct many *m = arg;

    m->body(m);
    txn_service_stop(m->service, env_mono_ns(shard_env(m->c.nodes[1].shard)) + 5000000000u);
    m->done = true;
}

/* From the right: what is split is always the first range. */
static void make_ranges(struct many *m, const char *splits)
{
    for (size_t i = strlen(splits); i > 0; i--) {
        const char key[] = {(char)0x88, splits[i - 1], (char)0x88, '\0'};
        struct cluster_call call = {
            .node = &m->c.nodes[0], .kind = CLUSTER_SPLIT, .key = bytes_str(key)};

        cluster_call_start(&call);
        INVARIANT(cluster_call_wait(&call, 10000));
        INVARIANT(status_ok(call.st));
        cluster_call_end(&call);
        cluster_run_ms(&m->c, 500);
    }
}

static void start_gateway(struct many *m)
{
    struct cluster_node *n = &m->c.nodes[1];
    struct store_range_info info;

    shard_enter(n->shard);
    INVARIANT(status_ok(kv_create(&(struct kv_options){n->shard, n->rpc, &n->hlc}, &m->kv)));
    INVARIANT(status_ok(txn_service_create(n->shard, m->kv, &m->service)));
    INVARIANT(store_find_range(m->c.nodes[0].store, (range_id){RANGE_FIRST_ID}, &m->arena, &info));
    kv_set_first_range(m->kv, &info.desc);
    shard_leave(n->shard);
}

void many_run(const char *splits, void (*body)(struct many *m))
{
    struct many *m = calloc(1, sizeof(*m));

    m->body = body;
    rng_seed(&m->rng, 4711);
    arena_init(&m->arena, (size_t)256 << 20);
    cluster_start(&m->c, 2);
    make_ranges(m, splits);
    start_gateway(m);
    m->c.filter = on_frame;
    m->c.filter_ctx = m;
    m->c.latency_ms = 1;
    INVARIANT(status_ok(fiber_spawn(m->c.nodes[1].shard, "test", body_fiber, m)));
    for (int i = 0; i < 1200000 && !m->done; i++) {
        cluster_run_ms(&m->c, 1);
    }
    INVARIANT(m->done);
    shard_enter(m->c.nodes[1].shard);
    txn_service_destroy(m->service);
    kv_destroy(m->kv);
    shard_leave(m->c.nodes[1].shard);
    arena_deinit(&m->arena);
    cluster_stop(&m->c);
    free(m);
}

static struct bytes full_key(struct many *m, const char *key)
{
    return bytes_str(arena_printf(&m->arena, "\x88%s", key));
}

struct txn *many_begin(struct many *m, struct txn_options o)
{
    struct txn *t = NULL;

    o.deadline_ns = o.deadline_ns == 0 ? DEADLINE_NONE : o.deadline_ns;
    INVARIANT(status_ok(txn_begin(m->kv, &m->arena, &o, &t)));
    return t;
}

enum status_code many_put(struct txn *t, const char *key, const char *value)
{
    char full[64];

    full[0] = (char)0x88;
    (void)snprintf(full + 1, sizeof(full) - 1, "%s", key);
    return txn_put(t, bytes_str(full), bytes_str(value)).code;
}

const char *many_get(struct many *m, struct txn *t, const char *key)
{
    struct bytes value = BYTES_EMPTY;
    bool found = false;

    if (!status_ok(txn_get(t, full_key(m, key), &m->arena, &found, &value))) {
        return NULL;
    }
    return found ? arena_strndup(&m->arena, (const char *)value.ptr, value.len) : "";
}

const char *many_lock(struct many *m, struct txn *t, const char *key, enum status_code *code)
{
    const struct txn_lock lock = {.strength = MVCC_EXCLUSIVE};
    const struct bytes full = full_key(m, key);
    struct bytes value = BYTES_EMPTY;
    bool found = false;

    *code = txn_multi_get_locked(t, &lock, &full, 1, &m->arena, &found, &value).code;
    if (*code != STATUS_OK) {
        return NULL;
    }
    return found ? arena_strndup(&m->arena, (const char *)value.ptr, value.len) : "";
}

const char *many_scan(struct many *m, struct txn *t, bool reverse, uint32_t rows_max)
{
    struct txn_scan scan = {.start = full_key(m, ""),
                            .end = full_key(m, "{"),
                            .reverse = reverse,
                            .rows_max = rows_max};
    const char *text = "";

    do {
        if (!status_ok(txn_scan(t, &scan, &m->arena))) {
            return NULL;
        }
        for (uint32_t i = 0; i < scan.rows_count; i++) {
            const struct txn_row *row = &scan.rows[i];

            text = arena_printf(&m->arena, "%s%s%.*s=%.*s", text, *text == '\0' ? "" : " ",
                                (int)row->key.len - 1, (const char *)row->key.ptr + 1,
                                (int)row->value.len, (const char *)row->value.ptr);
        }
    } while (scan.more);
    return text;
}

const char *many_all(struct many *m)
{
    struct txn *t = many_begin(m, (struct txn_options){.read_only = true});
    const char *text = many_scan(m, t, false, 0);

    INVARIANT(status_ok(txn_commit(t)));
    return text;
}

enum status_code many_put_two(struct many *m, const char *a, const char *b, const char *value)
{
    struct txn *t = many_begin(m, (struct txn_options){0});

    INVARIANT(many_put(t, a, value) == STATUS_OK);
    INVARIANT(many_put(t, b, value) == STATUS_OK);
    return txn_commit(t).code;
}

uint64_t many_intents(struct many *m)
{
    struct store_range_info info;
    uint64_t count = 0;
    range_id at = {0};

    while (store_next_range(m->c.nodes[0].store, at, &m->arena, &info)) {
        at = info.desc.id;
        count += (uint64_t)(info.stats.intent_count + info.stats.lock_count);
    }
    return count;
}

void many_sleep_ms(uint64_t ms)
{
    INVARIANT(status_ok(fiber_sleep(ms * 1000000u)));
}

bool many_settles(struct many *m)
{
    for (int i = 0; i < 800; i++) {
        if (many_intents(m) == 0) {
            return true;
        }
        many_sleep_ms(10);
    }
    return false;
}

void many_spawn(struct many *m, void (*fn)(void *arg), void *arg)
{
    m->workers++;
    INVARIANT(status_ok(fiber_spawn(m->c.nodes[1].shard, "worker", fn, arg)));
}

void many_ended(struct many *m)
{
    m->workers--;
}

void many_join(struct many *m)
{
    while (m->workers > 0) {
        many_sleep_ms(1);
    }
}
