/*
 * txn_rig.c -- see txn_rig.h. Keys of tests are short texts; a byte in front puts them among user data.
 */
#include "tests/unit/txn/txn_rig.h"

#include "node/base/invariant.h"

static struct bytes full_key(struct rig *r, const char *key)
{
    return bytes_str(arena_printf(&r->arena, "\x88%s", key));
}

static void body_fiber(void *arg)
{
    struct rig *r = arg;

    r->body(r);
    r->done = true;
}

static void learn_first_range(struct rig *r)
{
    struct store_range_info info;

    INVARIANT(store_find_range(r->c.nodes[0].store, (range_id){RANGE_FIRST_ID}, &r->arena, &info));
    kv_set_first_range(r->kv, &info.desc);
}

void rig_run(void (*body)(struct rig *r))
{
    struct rig r = {.body = body};

    arena_init(&r.arena, 4 * TXN_BYTES_MAX);
    cluster_start(&r.c, 1);
    INVARIANT(status_ok(kv_create(
        &(struct kv_options){r.c.nodes[0].shard, r.c.nodes[0].rpc, &r.c.nodes[0].hlc}, &r.kv)));
    kv_set_store(r.kv, r.c.nodes[0].store, (store_id){1});
    learn_first_range(&r);
    INVARIANT(status_ok(fiber_spawn(r.c.nodes[0].shard, "test", body_fiber, &r)));
    for (int i = 0; i < 60000 && !r.done; i++) {
        cluster_run_ms(&r.c, 1);
    }
    INVARIANT(r.done);
    kv_destroy(r.kv);
    arena_deinit(&r.arena);
    cluster_stop(&r.c);
}

struct txn *rig_begin_with(struct rig *r, struct txn_options o)
{
    struct txn *t = NULL;

    o.deadline_ns = o.deadline_ns == 0 ? DEADLINE_NONE : o.deadline_ns;
    INVARIANT(status_ok(txn_begin(r->kv, &r->arena, &o, &t)));
    return t;
}

struct txn *rig_begin(struct rig *r)
{
    return rig_begin_with(r, (struct txn_options){0});
}

enum status_code rig_put(struct rig *r, const char *key, const char *value)
{
    struct txn *t = rig_begin(r);
    const struct status st = txn_put(t, full_key(r, key), bytes_str(value));

    return status_ok(st) ? txn_commit(t).code : st.code;
}

const char *rig_get(struct rig *r, struct txn *t, const char *key)
{
    struct bytes value = BYTES_EMPTY;
    bool found = false;

    if (!status_ok(txn_get(t, full_key(r, key), &r->arena, &found, &value))) {
        return NULL;
    }
    return found ? arena_strndup(&r->arena, (const char *)value.ptr, value.len) : "";
}

const char *rig_scan(struct rig *r, struct txn *t, const char *start, const char *end, bool reverse,
                     uint32_t rows_max)
{
    struct txn_scan scan = {.start = full_key(r, start),
                            .end = full_key(r, end),
                            .reverse = reverse,
                            .rows_max = rows_max};
    const char *text = "";

    do {
        if (!status_ok(txn_scan(t, &scan, &r->arena))) {
            return NULL;
        }
        for (uint32_t i = 0; i < scan.rows_count; i++) {
            const struct txn_row *row = &scan.rows[i];

            text = arena_printf(&r->arena, "%s%s%.*s=%.*s", text, *text == '\0' ? "" : " ",
                                (int)row->key.len - 1, (const char *)row->key.ptr + 1,
                                (int)row->value.len, (const char *)row->value.ptr);
        }
    } while (scan.more);
    return text;
}
