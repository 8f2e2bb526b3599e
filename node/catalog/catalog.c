/*
 * catalog.c -- leases on table descriptors, and the cache of a shard.
 *
 * Problem: a statement needs the schema of its tables, must not read it from the store every time,
 * and must not use it after another node has changed it and told its client so.
 *
 * Idea: leases by time. What was read at timestamp T may be used for transactions that commit before
 * T + CATALOG_LEASE_NS; the transaction layer refuses later commits (txn_limit_commit_ts). Whoever
 * changes a descriptor at timestamp C waits until C + CATALOG_LEASE_NS (and the clock offset) before
 * it answers: all older leases were read below C. Nobody has to be asked.
 *
 * Most changes need not wait at all, because nobody else has used the table. So the first lease of a
 * shard on a version leaves a record (who, which version) in the same transaction that reads the
 * descriptor; renewals only read. The change reads the records in its own transaction: a reader that
 * comes in between makes one of the two run again, and either the record is seen or the change is.
 *
 * Leases in use are renewed at half of their time by a fiber of their own, so that a statement waits
 * for the store only when it meets a table for the first time or after a pause.
 *
 * Invariants
 *   1. valid_until of a descriptor is at most CATALOG_LEASE_NS after a timestamp at which this very
 *      version was read. Reading the same version again only moves it forward.
 *   2. An entry that is not `current` is never handed out again; its holders keep it until they
 *      release it, and catalog_still_valid() is false for it.
 *   3. One fiber at a time reads one name (struct fetch); the others wait for it, so that the end of
 *      a lease under load costs one read and not one per session.
 *
 * The cache is keyed by a hash of the name. Two names with the same hash take turns in one slot: slow
 * and harmless.
 */
#include "node/catalog/catalog.h"

#include <stdlib.h>

#include "node/base/hash.h"
#include "node/base/invariant.h"
#include "node/base/log.h"
#include "node/catalog/catalog_internal.h"
#include "node/catalog/catalog_key.h"
#include "node/catalog/desc_codec.h"
#include "node/runtime/fiber.h"
#include "node/runtime/hlc.h"
#include "node/txn/txn.h"

#define NAME_SEED 0x6361746c6f67u
/* With less than this left somebody renews the lease. */
#define RENEW_NS (CATALOG_LEASE_NS / 2)

/* On the stack of the fiber that reads `name`. */
struct fetch {
    struct list link;
    const char *name;
    struct wait_queue waiters;
};

/* Renews the lease of one entry; of its own fiber. */
struct refresh {
    struct list link;
    struct catalog *c;
    struct catalog_entry *e;
    struct fiber *fiber;
};

static MAYYIELD struct status fetch(struct catalog *c, const char *name);
static struct fetch *fetch_find(struct catalog *c, const char *name);

void catalog__entry_unref(struct catalog_entry *e)
{
    INVARIANT(e->d.refs > 0);
    if (--e->d.refs == 0) {
        INVARIANT(!e->current);
        arena_deinit(&e->arena);
        free(e);
    }
}

static uint64_t name_hash(const char *name)
{
    return hash64(bytes_str(name), NAME_SEED);
}

static void entry_evict(struct catalog *c, struct catalog_entry *e)
{
    INVARIANT(e->current);
    e->current = false;
    c->generation++;
    list_remove(&e->link);
    (void)map_remove(&c->by_name, name_hash(e->d.name));
    catalog__entry_unref(e);
}

struct status catalog_create(struct shard *shard, struct kv *kv, struct hlc *hlc,
                             struct catalog **out)
{
    struct catalog *c = calloc(1, sizeof(*c));

    if (c == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for the catalog");
    }
    c->shard = shard;
    c->kv = kv;
    c->hlc = hlc;
    c->generation = 1;
    map_init(&c->by_name, CATALOG_CACHE_MAX);
    list_init(&c->lru);
    list_init(&c->fetches);
    list_init(&c->refreshes);
    list_init(&c->overlays);
    *out = c;
    return OK;
}

void catalog_destroy(struct catalog *c)
{
    if (c == NULL) {
        return;
    }
    INVARIANT(list_empty(&c->fetches));
    INVARIANT(list_empty(&c->refreshes));
    INVARIANT(list_empty(&c->overlays));
    while (!list_empty(&c->lru)) {
        entry_evict(c, LIST_ENTRY(c->lru.next, struct catalog_entry, link));
    }
    map_deinit(&c->by_name);
    free(c);
}

void catalog_set_node(struct catalog *c, uint32_t node)
{
    c->node = node;
}

uint64_t catalog_generation(const struct catalog *c)
{
    return c->generation;
}

void catalog_stop(struct catalog *c)
{
    c->stopping = true;
    LIST_FOREACH(it, &c->refreshes) {
        struct refresh *r = LIST_ENTRY(it, struct refresh, link);

        if (r->fiber != NULL) {
            fiber_cancel(r->fiber);
        }
    }
}

bool catalog_stopped(const struct catalog *c)
{
    return list_empty(&c->refreshes);
}

static MAYYIELD void refresh_main(void *arg)
{
    struct refresh *r = arg;
    struct catalog *c = r->c;

    r->fiber = fiber_current();
    if (!c->stopping && r->e->current && fetch_find(c, r->e->d.name) == NULL) {
        const struct status st = fetch(c, r->e->d.name);

        if (!status_ok(st) && st.code != STATUS_NOT_FOUND && st.code != STATUS_CANCELLED) {
            LOG_WARN("catalog.lease_not_renewed", U64("table", r->e->d.id),
                     STR("why", status_code_text(st.code)));
        }
    }
    r->e->refreshing = false;
    list_remove(&r->link);
    catalog__entry_unref(r->e);
    free(r);
}

static void refresh_start(struct catalog *c, struct catalog_entry *e)
{
    struct refresh *r = c->stopping ? NULL : calloc(1, sizeof(*r));

    if (r == NULL) {
        return; /* The next statement tries again, or waits for the read itself. */
    }
    r->c = c;
    r->e = e;
    if (!status_ok(fiber_spawn(c->shard, "catalog.refresh", refresh_main, r))) {
        free(r);
        return;
    }
    e->refreshing = true;
    e->d.refs++;
    list_push_back(&c->refreshes, &r->link);
}

static bool lease_is_valid(struct catalog *c, struct catalog_entry *e)
{
    const struct hts now = hclock_hts(hlc_now(c->hlc));
    struct catalog_entry *other = NULL;

    if (e->overlay != NULL) {
        return catalog__overlay_owns(e);
    }
    if (!list_empty(&c->overlays) &&
        catalog__overlay_find(c, e->d.name, &other) != OVERLAY_SILENT) {
        return false; /* This session has dropped or replaced it. */
    }
    if (!e->current || !hts_less(now, e->d.valid_until)) {
        return false;
    }
    if (e->d.valid_until.wall - now.wall < RENEW_NS && !e->refreshing) {
        refresh_start(c, e);
    }
    return true;
}

/* The entry in the cache, its lease valid or not; NULL. */
static struct catalog_entry *cache_find(struct catalog *c, const char *name)
{
    struct catalog_entry *e = map_get(&c->by_name, name_hash(name));

    return e != NULL && strcmp(e->d.name, name) == 0 ? e : NULL;
}

void catalog__forget(struct catalog *c, const char *name)
{
    struct catalog_entry *e = cache_find(c, name);

    if (e != NULL) {
        entry_evict(c, e);
    }
}

bool catalog_still_valid(struct catalog *c, const struct table_desc *d)
{
    return lease_is_valid(c,
                          CONTAINER_OF((struct table_desc *)(uintptr_t)d, struct catalog_entry, d));
}

struct status catalog_acquire_cached(struct catalog *c, const char *name, struct table_desc **out)
{
    struct catalog_entry *e = NULL;

    switch (catalog__overlay_find(c, name, &e)) {
    case OVERLAY_CREATED:
        e->d.refs++;
        *out = &e->d;
        return OK;
    case OVERLAY_DROPPED:
        return FAIL(STATUS_NOT_FOUND, "no table of that name");
    case OVERLAY_SILENT:
        break;
    }
    e = cache_find(c, name);
    if (e == NULL || !lease_is_valid(c, e)) {
        return FAIL(STATUS_WOULD_BLOCK, "table is not in the cache");
    }
    list_remove(&e->link);
    list_push_front(&c->lru, &e->link);
    e->d.refs++;
    *out = &e->d;
    return OK;
}

void catalog_release(struct catalog *c, struct table_desc *d)
{
    UNUSED(c);
    if (d != NULL) {
        catalog__entry_unref(CONTAINER_OF(d, struct catalog_entry, d));
    }
}

struct status catalog__backoff(struct catalog *c, uint32_t tries)
{
    uint64_t ns = CATALOG_BACKOFF_NS;

    if (tries == 0) {
        return OK;
    }
    for (uint32_t i = 1; i < tries && ns < CATALOG_BACKOFF_MAX; i++) {
        ns *= 2;
    }
    return fiber_sleep(ns / 2 + env_random_u64(shard_env(c->shard)) % ns);
}

struct status catalog__read(struct txn *t, const char *name, struct arena *arena, uint32_t *id_out,
                            struct bytes *desc_out)
{
    struct catalog_key k;
    struct bytes value = BYTES_EMPTY;
    bool found = false;

    TRY(txn_get(t, catalog_key_name(&k, CATALOG_SCHEMA_PUBLIC, name), arena, &found, &value));
    if (!found) {
        return FAIL(STATUS_NOT_FOUND, "no table of that name");
    }
    TRY(catalog_id_decode(value, id_out));
    TRY(txn_get(t, catalog_key_descriptor(&k, *id_out), arena, &found, desc_out));
    if (!found) {
        return FAIL(STATUS_CORRUPT, "table name without a descriptor");
    }
    return OK;
}

/* Puts what was read at `ts` into the cache, or extends the lease on it. */
static struct status cache_install(struct catalog *c, const char *name, struct bytes desc,
                                   struct hts ts)
{
    const struct hts valid_until = hts_add_ns(ts, CATALOG_LEASE_NS);
    struct catalog_entry *old = map_get(&c->by_name, name_hash(name));
    struct catalog_entry *e = calloc(1, sizeof(*e));
    struct status st = OK;

    if (e == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a table descriptor");
    }
    arena_init(&e->arena, 0);
    TRY_OUT(desc_decode(desc, &e->arena, &e->d));
    INVARIANT(strcmp(e->d.name, name) == 0); /* read_and_record() looked. */
    if (old != NULL && old->d.id == e->d.id && old->d.version == e->d.version) {
        old->d.valid_until = hts_max(old->d.valid_until, valid_until);
        goto out;
    }
    if (old != NULL) {
        entry_evict(c, old);
    }
    if (c->by_name.count >= CATALOG_CACHE_MAX) {
        entry_evict(c, LIST_ENTRY(c->lru.prev, struct catalog_entry, link));
    }
    TRY_OUT(map_put(&c->by_name, name_hash(name), e));
    e->d.valid_until = valid_until;
    e->d.refs = 1;
    e->current = true;
    list_push_front(&c->lru, &e->link);
    c->generation++;
    return OK;
out:
    arena_deinit(&e->arena);
    free(e);
    return st;
}

struct bytes catalog__own_lease(const struct catalog *c, struct catalog_key *k, uint32_t id,
                                uint32_t version)
{
    return catalog_key_lease(k, id, version, c->node, shard_index(c->shard));
}

/* Is our record for this version in the store? It is if we have it in the cache. */
static bool is_recorded(struct catalog *c, const struct table_desc *d)
{
    const struct catalog_entry *e = cache_find(c, d->name);

    return e != NULL && e->d.id == d->id && e->d.version == d->version;
}

/* Reads the descriptor; with the first lease on a version goes our record. */
static MAYYIELD struct status read_and_record(struct catalog *c, const char *name, struct txn *t,
                                              struct arena *arena, struct bytes *desc_out)
{
    struct catalog_key k;
    struct table_desc d;
    uint32_t id = 0;

    TRY(catalog__read(t, name, arena, &id, desc_out));
    TRY(desc_decode(*desc_out, arena, &d));
    if (strcmp(d.name, name) != 0 || d.id != id) {
        return FAIL(STATUS_CORRUPT, "table descriptor under another name");
    }
    if (!is_recorded(c, &d)) {
        TRY(txn_put(t, catalog__own_lease(c, &k, d.id, d.version), BYTES_EMPTY));
    }
    return OK;
}

static MAYYIELD struct status fetch_once(struct catalog *c, const char *name, struct arena *arena)
{
    const struct txn_options options = {.implicit = true, .deadline_ns = DEADLINE_NONE};
    struct bytes desc = BYTES_EMPTY;
    struct txn *t = NULL;
    struct hts ts = HTS_ZERO;
    struct status st = OK;

    TRY(txn_begin(c->kv, arena, &options, &t));
    st = read_and_record(c, name, t, arena, &desc);
    if (!status_ok(st)) {
        txn_rollback(t);
        if (st.code == STATUS_NOT_FOUND) {
            catalog__forget(c, name);
        }
        return st;
    }
    ts = txn_ts(t); /* Of the reads: the commit's is later, and may not be known (AMBIGUOUS). */
    st = txn_commit(t);
    if (st.code == STATUS_AMBIGUOUS) {
        st = FAIL(STATUS_TXN_RETRY, "lease record may be missing");
    }
    TRY(st);
    return cache_install(c, name, desc, ts);
}

static MAYYIELD struct status fetch_with_retries(struct catalog *c, const char *name)
{
    struct status st = OK;
    struct arena arena;

    arena_init(&arena, CATALOG_ARENA_MAX);
    for (uint32_t tries = 0; tries < CATALOG_TRIES_MAX; tries++) {
        TRY_OUT(catalog__backoff(c, tries));
        st = fetch_once(c, name, &arena);
        if (st.code != STATUS_TXN_RETRY) {
            break;
        }
        arena_reset(&arena);
    }
out:
    if (st.msg != NULL) { /* It may live in the arena that goes away. */
        st.msg = status_code_text(st.code);
    }
    arena_deinit(&arena);
    return st;
}

static struct fetch *fetch_find(struct catalog *c, const char *name)
{
    LIST_FOREACH(it, &c->fetches) {
        struct fetch *f = LIST_ENTRY(it, struct fetch, link);

        if (strcmp(f->name, name) == 0) {
            return f;
        }
    }
    return NULL;
}

/* Reads `name` into the cache; others that want it meanwhile wait for us. */
static MAYYIELD struct status fetch(struct catalog *c, const char *name)
{
    struct fetch mine = {.name = name};
    struct status st = OK;

    wait_queue_init(&mine.waiters);
    list_push_back(&c->fetches, &mine.link);
    st = fetch_with_retries(c, name);
    list_remove(&mine.link);
    wait_queue_wake_all(&mine.waiters);
    return st;
}

struct status catalog_acquire(struct catalog *c, const char *name, struct table_desc **out)
{
    struct fetch *other = NULL;
    struct status st = OK;

    if (strnlen(name, CATALOG_NAME_MAX + 1) > CATALOG_NAME_MAX) {
        return FAIL(STATUS_NOT_FOUND, "no table of that name");
    }
    for (;;) {
        st = catalog_acquire_cached(c, name, out);
        if (st.code != STATUS_WOULD_BLOCK) {
            return st;
        }
        other = fetch_find(c, name);
        if (other == NULL) {
            break;
        }
        /* Whatever comes of it, we look again: it may have failed for reasons of its own. */
        TRY(wait_queue_wait(&other->waiters, DEADLINE_NONE));
    }
    TRY(fetch(c, name));
    /* No yield since the entry was installed. Its lease can only have ended if the read took longer
     * than the lease: then the store is too slow to work with. */
    st = catalog_acquire_cached(c, name, out);
    return st.code == STATUS_WOULD_BLOCK
               ? FAIL(STATUS_TIMEOUT, "table lease ended while it was read")
               : st;
}

/* 47 bits of time in units of 10 us since 2024, 10 bits of node, 6 bits of shard: positive, rising,
 * and unique as long as a shard makes fewer than 100,000 a second on average (it runs ahead then). */
int64_t catalog_unique_rowid(struct catalog *c)
{
    const uint64_t epoch_ns = (uint64_t)1704067200 * 1000000000u;
    const uint64_t wall = hlc_now(c->hlc).wall;
    uint64_t time = wall > epoch_ns ? (wall - epoch_ns) / 10000u : 1;

    if (time <= c->last_rowid_time) {
        time = c->last_rowid_time + 1;
    }
    c->last_rowid_time = time;
    return (int64_t)((time & (((uint64_t)1 << 47) - 1)) << 16 | (uint64_t)(c->node & 0x3ff) << 6 |
                     (shard_index(c->shard) & 0x3f));
}

/* Descriptors of one page of names, in one round trip. */
static MAYYIELD struct status list_page(struct txn *t, const struct txn_scan *page,
                                        struct arena *arena, struct table_desc **out)
{
    const uint32_t n = page->rows_count;
    struct catalog_key *memory = ARENA_ARRAY(arena, struct catalog_key, n);
    struct bytes *keys = ARENA_ARRAY(arena, struct bytes, n);
    struct bytes *values = ARENA_ARRAY(arena, struct bytes, n);
    bool *found = ARENA_ARRAY(arena, bool, n);

    if (memory == NULL || keys == NULL || values == NULL || found == NULL) {
        return FAIL(STATUS_MEMORY, "too many tables to list");
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t id = 0;

        TRY(catalog_id_decode(page->rows[i].value, &id));
        keys[i] = catalog_key_descriptor(&memory[i], id);
    }
    TRY(txn_multi_get(t, keys, n, arena, found, values));
    for (uint32_t i = 0; i < n; i++) {
        if (!found[i]) {
            return FAIL(STATUS_CORRUPT, "table name without a descriptor");
        }
        out[i] = ARENA_NEW(arena, struct table_desc);
        if (out[i] == NULL) {
            return FAIL(STATUS_MEMORY, "too many tables to list");
        }
        TRY(desc_decode(values[i], arena, out[i]));
    }
    return OK;
}

/* Room for `more` entries behind `count`; the old array stays in the arena. */
static struct status list_grow(struct arena *arena, struct table_desc ***tables, uint32_t count,
                               uint32_t more)
{
    struct table_desc **grown = ARENA_ARRAY(arena, struct table_desc *, (size_t)count + more);

    if (grown == NULL) {
        return FAIL(STATUS_MEMORY, "too many tables to list");
    }
    if (count > 0) {
        memcpy(grown, *tables, count * sizeof(**tables));
    }
    *tables = grown;
    return OK;
}

static MAYYIELD struct status list_once(struct catalog *c, struct arena *arena,
                                        struct table_desc ***out, uint32_t *count_out)
{
    const struct txn_options options = {
        .implicit = true, .read_only = true, .deadline_ns = DEADLINE_NONE};
    struct catalog_key from;
    struct catalog_key to;
    struct txn_scan scan = {0};
    struct txn *t = NULL;
    uint32_t count = 0;
    struct status st = OK;

    *out = NULL;
    TRY(txn_begin(c->kv, arena, &options, &t));
    scan.start = catalog_key_names_start(&from, CATALOG_SCHEMA_PUBLIC);
    scan.end = catalog_key_names_end(&to, CATALOG_SCHEMA_PUBLIC);
    do {
        TRY_OUT(txn_scan(t, &scan, arena));
        TRY_OUT(list_grow(arena, out, count, scan.rows_count));
        TRY_OUT(list_page(t, &scan, arena, *out + count));
        count += scan.rows_count;
    } while (scan.more);
    *count_out = count;
out:
    txn_rollback(t);
    return st;
}

struct status catalog_list(struct catalog *c, struct arena *arena, struct table_desc ***out,
                           uint32_t *count_out)
{
    struct status st = OK;

    for (uint32_t tries = 0; tries < CATALOG_TRIES_MAX; tries++) {
        TRY(catalog__backoff(c, tries));
        st = list_once(c, arena, out, count_out);
        if (st.code != STATUS_TXN_RETRY) {
            return st;
        }
    }
    return st;
}
