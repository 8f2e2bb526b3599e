/*
 * catalog_change.c -- creating and dropping tables.
 *
 * A new table takes an id (in a transaction of its own, so that creators do not wait for each other;
 * a failure leaves a gap) and makes two writes: the name, which must not exist, and the descriptor. Nobody can hold a lease on a table that did not exist, and "no such table" is never
 * cached, so nothing has to be waited for.
 *
 * Dropping removes name, descriptor and lease records, then waits until every lease that another shard
 * may have taken before has run out (catalog.c), if there were records of others, then deletes the
 * rows in bounded transactions. The order matters: a writer with an old lease may add rows until its
 * lease ends. (Writers of our own shard that are under way when we answer count as before the drop.) Ids are never used again, so rows that
 * stay behind because this node dies in the middle are out of reach for every statement; a later
 * clean-up may delete spans of table ids without a descriptor.
 *
 * A commit whose outcome is unknown is looked up: the id that we took is ours alone, so the name
 * leading to it proves the commit. The opposite proves nothing (it may still be under way).
 */
#include <stdlib.h>

#include "node/base/codec.h"
#include "node/base/invariant.h"
#include "node/base/log.h"
#include "node/catalog/catalog_internal.h"
#include "node/catalog/catalog_key.h"
#include "node/catalog/desc_codec.h"
#include "node/runtime/fiber.h"
#include "node/runtime/hlc.h"
#include "node/storage/key/key.h"
#include "node/txn/txn.h"

static const struct txn_options write_options = {.implicit = false, .deadline_ns = DEADLINE_NONE};

static MAYYIELD struct status take_id_once(struct catalog *c, struct arena *arena, uint32_t *id_out)
{
    struct catalog_key k;
    struct bytes value = BYTES_EMPTY;
    struct txn *t = NULL;
    struct status st = OK;
    uint8_t next[4];
    uint32_t id = CATALOG_FIRST_TABLE_ID;
    bool found = false;

    TRY(txn_begin(c->kv, arena, &write_options, &t));
    TRY_OUT(txn_get(t, catalog_key_next_id(&k), arena, &found, &value));
    if (found) {
        TRY_OUT(catalog_id_decode(value, &id));
    }
    if (id == UINT32_MAX) {
        st = FAIL(STATUS_OVERLOADED, "no table ids left");
        goto out;
    }
    be32_put(next, id + 1);
    TRY_OUT(txn_put(t, catalog_key_next_id(&k), bytes_of(next, sizeof(next))));
    *id_out = id;
    return txn_commit(t);
out:
    txn_rollback(t);
    return st;
}

struct status catalog__take_id(struct catalog *c, uint32_t *id_out)
{
    struct status st = OK;
    struct arena arena;

    arena_init(&arena, CATALOG_ARENA_MAX);
    for (uint32_t tries = 0; tries < CATALOG_TRIES_MAX; tries++) {
        TRY_OUT(catalog__backoff(c, tries));
        st = take_id_once(c, &arena, id_out);
        if (st.code != STATUS_TXN_RETRY && st.code != STATUS_AMBIGUOUS) {
            break; /* Of an unknown outcome we take the next one. */
        }
        arena_reset(&arena);
    }
out:
    if (st.msg != NULL) {
        st.msg = status_code_text(st.code); /* The text may live in our arena. */
    }
    arena_deinit(&arena);
    return st;
}

struct status catalog__create_writes(struct txn *t, const struct table_desc *desc,
                                     struct arena *arena)
{
    struct catalog_key k;
    struct buf body = {0};
    struct bytes value = BYTES_EMPTY;
    struct status st = OK;
    uint8_t id[4];
    bool found = false;

    TRY(txn_get(t, catalog_key_name(&k, desc->schema, desc->name), arena, &found, &value));
    if (found) {
        return FAIL(STATUS_EXISTS, "table exists already");
    }
    buf_init(&body, DESC_BYTES_MAX);
    TRY_OUT(desc_encode(desc, &body));
    be32_put(id, desc->id);
    TRY_OUT(txn_put(t, catalog_key_name(&k, desc->schema, desc->name), bytes_of(id, sizeof(id))));
    TRY_OUT(txn_put(t, catalog_key_descriptor(&k, desc->id), buf_bytes(&body)));
out:
    buf_deinit(&body);
    return st;
}

/* Is the name free? Asked first, so that a name in use costs no id. */
static MAYYIELD struct status check_free(struct catalog *c, const struct table_desc *desc,
                                         struct arena *arena)
{
    struct catalog_key k;
    struct bytes value = BYTES_EMPTY;
    struct txn *t = NULL;
    struct status st = OK;
    bool found = false;

    TRY(txn_begin(c->kv, arena, &write_options, &t));
    st = txn_get(t, catalog_key_name(&k, desc->schema, desc->name), arena, &found, &value);
    txn_rollback(t);
    TRY(st);
    return found ? FAIL(STATUS_EXISTS, "table exists already") : OK;
}

static MAYYIELD struct status create_once(struct catalog *c, const struct table_desc *desc,
                                          struct arena *arena)
{
    struct txn *t = NULL;
    struct status st = OK;

    TRY(txn_begin(c->kv, arena, &write_options, &t));
    st = catalog__create_writes(t, desc, arena);
    if (!status_ok(st)) {
        txn_rollback(t);
        return st;
    }
    return txn_commit(t);
}

/* After an ambiguous commit: OK when the name leads to `id`. */
static MAYYIELD struct status create_confirm(struct catalog *c, const char *name, uint32_t id,
                                             struct arena *arena, struct status ambiguous)
{
    struct bytes desc = BYTES_EMPTY;
    struct txn *t = NULL;
    uint32_t found_id = 0;
    struct status st = OK;

    TRY(txn_begin(c->kv, arena, &write_options, &t));
    st = catalog__read(t, name, arena, &found_id, &desc);
    txn_rollback(t);
    return status_ok(st) && found_id == id ? OK : ambiguous;
}

struct status catalog_create_table(struct catalog *c, const struct table_desc *desc)
{
    struct table_desc d = *desc;
    struct status st = OK;
    struct arena arena;

    TRY(desc_check(desc));
    arena_init(&arena, CATALOG_ARENA_MAX);
    d.version = 1;
    for (uint32_t tries = 0; tries < CATALOG_TRIES_MAX; tries++) {
        TRY_OUT(catalog__backoff(c, tries));
        if (d.id == 0) {
            TRY_OUT(check_free(c, desc, &arena));
            TRY_OUT(catalog__take_id(c, &d.id));
        }
        st = create_once(c, &d, &arena);
        if (st.code == STATUS_AMBIGUOUS) {
            st = create_confirm(c, d.name, d.id, &arena, st);
        }
        if (st.code != STATUS_TXN_RETRY) {
            break;
        }
        arena_reset(&arena);
    }
    catalog__forget(c, d.name);
    if (status_ok(st)) {
        LOG_INFO("catalog.table_created", U64("table", d.id));
    }
out:
    if (st.msg != NULL) {
        st.msg = status_code_text(st.code); /* The text may live in our arena. */
    }
    arena_deinit(&arena);
    return st;
}

/* Deletes the lease records of the table and looks whose they were. */
static MAYYIELD struct status drop_leases(struct catalog *c, struct txn *t, struct arena *arena,
                                          struct catalog_drop *d, uint32_t version)
{
    struct catalog_key from;
    struct catalog_key to;
    struct catalog_key own_memory;
    const struct bytes own = catalog__own_lease(c, &own_memory, d->id, version);
    struct txn_scan scan = {.start = catalog_key_leases_start(&from, d->id),
                            .end = catalog_key_leases_end(&to, d->id)};

    d->others = c->node == 0; /* Without an id our record could be anybody's. */
    do {
        TRY(txn_scan(t, &scan, arena));
        for (uint32_t i = 0; i < scan.rows_count; i++) {
            d->others = d->others || !bytes_eq(scan.rows[i].key, own);
            TRY(txn_delete(t, scan.rows[i].key));
        }
    } while (scan.more);
    return OK;
}

struct status catalog__drop_writes(struct catalog *c, struct txn *t, const char *name,
                                   struct arena *arena, struct catalog_drop *out)
{
    struct bytes bytes = BYTES_EMPTY;
    struct table_desc desc;
    struct catalog_key k;

    TRY(catalog__read(t, name, arena, &out->id, &bytes));
    TRY(desc_decode(bytes, arena, &desc));
    TRY(drop_leases(c, t, arena, out, desc.version));
    TRY(txn_delete(t, catalog_key_name(&k, CATALOG_SCHEMA_PUBLIC, name)));
    return txn_delete(t, catalog_key_descriptor(&k, out->id));
}

static MAYYIELD struct status drop_once(struct catalog *c, const char *name, struct arena *arena,
                                        struct catalog_drop *d, struct hts *ts_out)
{
    struct txn *t = NULL;
    struct status st = OK;

    TRY(txn_begin(c->kv, arena, &write_options, &t));
    st = catalog__drop_writes(c, t, name, arena, d);
    if (!status_ok(st)) {
        txn_rollback(t);
        return st;
    }
    TRY(txn_commit(t));
    *ts_out = txn_ts(t);
    return OK;
}

/* Until no lease read at or below `changed` is valid anywhere, whatever its node's clock says. The
 * change has been committed: a cancel comes too late, and the wait is short. */
void catalog__wait_for_leases(struct catalog *c, struct hts changed)
{
    const struct hts over = hts_add_ns(changed, CATALOG_LEASE_NS + c->hlc->max_offset_ns);
    struct hts now = hclock_hts(hlc_now(c->hlc));

    while (hts_less(now, over)) {
        if (!status_ok(fiber_sleep(over.wall - now.wall + 1))) {
            fiber_clear_cancel(fiber_current());
        }
        now = hclock_hts(hlc_now(c->hlc));
    }
}

/* Deletes at most CATALOG_DROP_ROWS rows; *more tells whether some were left. */
static MAYYIELD struct status delete_batch(struct catalog *c, struct bytes start, struct bytes end,
                                           struct arena *arena, bool *more)
{
    struct txn_scan scan = {.start = start, .end = end, .rows_max = CATALOG_DROP_ROWS};
    struct txn *t = NULL;
    struct status st = OK;

    TRY(txn_begin(c->kv, arena, &write_options, &t));
    TRY_OUT(txn_scan(t, &scan, arena));
    for (uint32_t i = 0; i < scan.rows_count; i++) {
        TRY_OUT(txn_delete(t, scan.rows[i].key));
    }
    *more = scan.more;
    return txn_commit(t);
out:
    txn_rollback(t);
    return st;
}

static MAYYIELD struct status delete_span(struct catalog *c, uint32_t id)
{
    uint8_t start_memory[16];
    uint8_t end_memory[16];
    struct bytes start = BYTES_EMPTY;
    struct bytes end = BYTES_EMPTY;
    struct status st = OK;
    struct key_enc e;
    struct arena arena;
    uint32_t tries = 0;
    bool more = true;

    key_enc_init(&e, start_memory, sizeof(start_memory));
    key_enc_uvar(&e, id);
    TRY(key_enc_finish(&e, &start));
    key_enc_init(&e, end_memory, sizeof(end_memory));
    key_enc_prefix_end(&e, start);
    TRY(key_enc_finish(&e, &end));
    arena_init(&arena, CATALOG_ARENA_MAX);
    while (more && tries < CATALOG_TRIES_MAX) {
        TRY_OUT(catalog__backoff(c, tries));
        st = delete_batch(c, start, end, &arena, &more);
        arena_reset(&arena);
        if (status_ok(st)) {
            tries = 0;
        } else if (st.code == STATUS_TXN_RETRY || st.code == STATUS_AMBIGUOUS) {
            tries++; /* Deleting twice does no harm. */
        } else {
            break;
        }
    }
out:
    arena_deinit(&arena);
    return st;
}

void catalog__delete_rows(struct catalog *c, uint32_t id)
{
    const struct status st = delete_span(c, id);

    if (!status_ok(st)) {
        /* The table is gone, its rows cannot be reached any more: no error of a statement. */
        LOG_WARN("catalog.rows_left", U64("table", id), STR("why", status_code_text(st.code)));
    }
}

static MAYYIELD struct status drop_descriptor(struct catalog *c, const char *name,
                                              struct catalog_drop *d, struct hts *ts_out)
{
    struct status st = OK;
    struct arena arena;

    arena_init(&arena, CATALOG_ARENA_MAX);
    for (uint32_t tries = 0; tries < CATALOG_TRIES_MAX; tries++) {
        TRY_OUT(catalog__backoff(c, tries));
        st = drop_once(c, name, &arena, d, ts_out);
        if (st.code != STATUS_TXN_RETRY) {
            break;
        }
        arena_reset(&arena);
    }
out:
    if (st.msg != NULL) {
        st.msg = status_code_text(st.code); /* The text may live in our arena. */
    }
    arena_deinit(&arena);
    return st;
}

struct status catalog_drop_table(struct catalog *c, const char *name)
{
    struct catalog_drop d = {0};
    struct hts ts = HTS_ZERO;

    if (strnlen(name, CATALOG_NAME_MAX + 1) > CATALOG_NAME_MAX) {
        return FAIL(STATUS_NOT_FOUND, "no table of that name");
    }
    TRY(drop_descriptor(c, name, &d, &ts));
    catalog__forget(c, name);
    LOG_INFO("catalog.table_dropped", U64("table", d.id));
    if (d.others) {
        catalog__wait_for_leases(c, ts);
    }
    catalog__delete_rows(c, d.id);
    return OK;
}
