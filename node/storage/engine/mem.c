/*
 * mem.c -- the in-memory twin of the engine, and the disk below it.
 *
 * The contents at any moment are one root per column family in a persistent tree (tree.h). The disk
 * remembers the roots as of the last sync and after every write since: a power cut picks one of
 * those and drops the rest, which is exactly what a write-ahead log recovered up to a point in time
 * may do. Closing without a power cut loses nothing, as with a process that dies while the
 * operating system lives on.
 *
 * INVARIANTs: 1. a batch is in an image as a whole or not at all; 2. an image contains every batch
 * before its last one; 3. after a synced write there are no unsynced images (unless syncs are
 * forgotten on purpose).
 *
 * One thread: the simulator's. Reads and writes must not run at the same time.
 */
#include <stdlib.h>

#include "node/base/hash.h"
#include "node/base/invariant.h"
#include "node/storage/engine/engine_internal.h"
#include "node/storage/engine/tree.h"
#include "node/storage/key/key.h"

#define MEMDISK_UNSYNCED_MAX 4096

struct image {
    struct engine_tree *root[ENGINE_CF_COUNT];
};

struct mem_engine {
    struct engine base;
    struct memdisk *disk; /* NULL after a power cut: only closing is left, ... */
    bool ghost;           /* ... unless it goes on without a disk. */
    struct image now;
    uint64_t writes;
    uint64_t syncs;
};

struct memdisk {
    struct image durable;
    struct image unsynced[MEMDISK_UNSYNCED_MAX]; /* Oldest first. */
    uint32_t unsynced_count;
    bool forget_syncs;
    enum status_code fail_code;
    uint32_t cold_permille;
    struct rng rng;
    struct mem_engine *engine;
};

struct engine_snap {
    struct image image;
};

struct mem_iter {
    struct engine_iter base;
    struct mem_engine *engine;
    struct image image;
    struct engine_tree_cursor at;
    bool may_block;
    uint8_t *prefix; /* Of the last seek, in prefix mode. */
    size_t prefix_len;
};

static struct image image_acquire(const struct image *i)
{
    struct image copy;

    for (int cf = 0; cf < ENGINE_CF_COUNT; cf++) {
        copy.root[cf] = engine__tree_acquire(i->root[cf]);
    }
    return copy;
}

static void image_release(struct image *i)
{
    for (int cf = 0; cf < ENGINE_CF_COUNT; cf++) {
        engine__tree_release(i->root[cf]);
        i->root[cf] = NULL;
    }
}

/* ---- the disk -------------------------------------------------------------------------------- */

struct status memdisk_create(struct memdisk **out)
{
    struct memdisk *d = calloc(1, sizeof(*d));

    *out = d;
    return d == NULL ? FAIL(STATUS_MEMORY, "no memory for a simulated disk") : OK;
}

/* The first `keep` unsynced images are settled: the last of them becomes the durable one. */
static void disk_settle(struct memdisk *d, uint32_t keep)
{
    for (uint32_t i = 0; i < keep; i++) {
        image_release(&d->durable);
        d->durable = d->unsynced[i];
    }
    memmove(d->unsynced, d->unsynced + keep, (d->unsynced_count - keep) * sizeof(d->unsynced[0]));
    d->unsynced_count -= keep;
}

static void disk_drop_unsynced(struct memdisk *d)
{
    for (uint32_t i = 0; i < d->unsynced_count; i++) {
        image_release(&d->unsynced[i]);
    }
    d->unsynced_count = 0;
}

void memdisk_destroy(struct memdisk *d)
{
    if (d == NULL) {
        return;
    }
    INVARIANT(d->engine == NULL);
    disk_drop_unsynced(d);
    image_release(&d->durable);
    free(d);
}

void memdisk_crash(struct memdisk *d, uint32_t keep)
{
    disk_settle(d, keep < d->unsynced_count ? keep : d->unsynced_count);
    disk_drop_unsynced(d);
    if (d->engine != NULL) {
        d->engine->disk = NULL;
        d->engine = NULL;
    }
}

void memdisk_abandon(struct memdisk *d, uint32_t keep)
{
    if (d->engine != NULL) {
        d->engine->ghost = true;
    }
    memdisk_crash(d, keep);
}

uint32_t memdisk_unsynced(const struct memdisk *d)
{
    return d->unsynced_count;
}

void memdisk_forget_syncs(struct memdisk *d, bool on)
{
    d->forget_syncs = on;
}

void memdisk_fail_writes(struct memdisk *d, enum status_code code)
{
    d->fail_code = code;
}

void memdisk_cold_reads(struct memdisk *d, uint32_t permille, uint64_t seed)
{
    d->cold_permille = permille;
    rng_seed(&d->rng, seed);
}

/* ---- the engine ------------------------------------------------------------------------------ */

static struct mem_engine *mem_of(struct engine *e)
{
    return CONTAINER_OF(e, struct mem_engine, base);
}

static void mem_close(struct engine *e)
{
    struct mem_engine *m = mem_of(e);

    if (m->disk != NULL) {
        m->disk->engine = NULL;
    }
    image_release(&m->now);
    free(m);
}

static struct status usable(const struct mem_engine *m)
{
    return m->disk == NULL && !m->ghost ? FAIL(STATUS_IO, "the simulated machine lost power") : OK;
}

static bool is_cold(struct mem_engine *m, enum engine_tier tier)
{
    struct memdisk *d = m->disk;

    return tier == ENGINE_TIER_CACHE && d != NULL && d->cold_permille > 0 &&
           rng_permille(&d->rng, d->cold_permille);
}

static struct status check_ops(struct bytes rest)
{
    struct engine_op op;
    bool bad = false;

    while (engine_ops_next(&rest, &op, &bad)) {
    }
    return bad ? FAIL(STATUS_CORRUPT, "changes are damaged") : OK;
}

static void apply_ops(struct image *i, struct bytes rest)
{
    struct engine_op op;
    bool bad = false;

    while (engine_ops_next(&rest, &op, &bad)) {
        struct engine_tree **root = &i->root[op.cf];

        switch (op.kind) {
        case ENGINE_OP_PUT:
            *root = engine__tree_put(*root, op.key, op.value);
            break;
        case ENGINE_OP_DELETE:
            *root = engine__tree_delete(*root, op.key);
            break;
        case ENGINE_OP_DELETE_RANGE:
            *root = engine__tree_delete_range(*root, op.key, op.value);
            break;
        }
    }
    INVARIANT(!bad); /* check_ops() has walked them. */
}

static void disk_remember(struct memdisk *d, const struct image *now, bool sync)
{
    if (sync && !d->forget_syncs) {
        disk_drop_unsynced(d);
        image_release(&d->durable);
        d->durable = image_acquire(now);
        return;
    }
    if (d->unsynced_count == MEMDISK_UNSYNCED_MAX) {
        disk_settle(d, 1); /* As the operating system writes back old pages by itself. */
    }
    d->unsynced[d->unsynced_count++] = image_acquire(now);
}

static struct status mem_write(struct engine *e, const struct engine_batch *b, bool sync)
{
    struct mem_engine *m = mem_of(e);

    TRY(usable(m));
    if (m->disk != NULL && m->disk->fail_code != STATUS_OK) {
        return FAIL(m->disk->fail_code, "the simulated disk refused a write");
    }
    TRY(check_ops(buf_bytes(&b->ops)));
    apply_ops(&m->now, buf_bytes(&b->ops));
    m->writes++;
    m->syncs += sync ? 1 : 0;
    if (m->disk != NULL) {
        disk_remember(m->disk, &m->now, sync);
    }
    return OK;
}

static struct status mem_get(struct engine *e, enum engine_cf cf, struct bytes key,
                             enum engine_tier tier, struct arena *arena, struct bytes *out)
{
    struct mem_engine *m = mem_of(e);
    struct bytes value = BYTES_EMPTY;

    TRY(usable(m));
    if (is_cold(m, tier)) {
        return FAIL(STATUS_WOULD_BLOCK, "not in memory");
    }
    if (!engine__tree_get(m->now.root[cf], key, &value)) {
        return FAIL(STATUS_NOT_FOUND, "no such key");
    }
    return bytes_dup(arena, value, out);
}

static struct status mem_snap_acquire(struct engine *e, struct engine_snap **out)
{
    struct mem_engine *m = mem_of(e);
    struct engine_snap *s = NULL;

    TRY(usable(m));
    s = malloc(sizeof(*s));
    if (s == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for an engine snapshot");
    }
    s->image = image_acquire(&m->now);
    *out = s;
    return OK;
}

static void mem_snap_release(struct engine *e, struct engine_snap *s)
{
    UNUSED(e);
    image_release(&s->image);
    free(s);
}

static void mem_get_stats(struct engine *e, struct engine_stats *out)
{
    const struct mem_engine *m = mem_of(e);

    for (int cf = 0; cf < ENGINE_CF_COUNT; cf++) {
        out->live_bytes += engine__tree_bytes(m->now.root[cf]);
    }
    out->memtable_bytes = out->live_bytes;
    out->writes = m->writes;
    out->syncs = m->syncs;
}

/* ---- iterators ------------------------------------------------------------------------------- */

static struct mem_iter *iter_of(struct engine_iter *it)
{
    return CONTAINER_OF(it, struct mem_iter, base);
}

/* Takes over the cursor's position, unless it lies beyond a bound or the prefix. */
static void settle(struct mem_iter *i)
{
    struct engine_iter *it = &i->base;

    it->st = OK;
    it->valid = engine__tree_at(&i->at, &it->key, &it->value) &&
                bytes_cmp(it->key, it->lower) >= 0 &&
                (it->upper.len == 0 || bytes_cmp(it->key, it->upper) < 0);
    if (it->valid && it->prefix) {
        it->valid = bytes_eq(key_filter_prefix(it->key), bytes_of(i->prefix, i->prefix_len));
    }
    if (!it->valid) {
        it->key = BYTES_EMPTY;
        it->value = BYTES_EMPTY;
    }
}

static bool went_cold(struct mem_iter *i)
{
    struct engine_iter *it = &i->base;

    if (!is_cold(i->engine, i->may_block ? ENGINE_TIER_ANY : ENGINE_TIER_CACHE)) {
        return false;
    }
    it->valid = false;
    it->key = BYTES_EMPTY;
    it->value = BYTES_EMPTY;
    it->st = FAIL(STATUS_WOULD_BLOCK, "not in memory");
    return true;
}

static void mem_iter_close(struct engine_iter *it)
{
    struct mem_iter *i = iter_of(it);

    image_release(&i->image);
    free(i->prefix);
    free(i);
}

static void mem_iter_seek(struct engine_iter *it, struct bytes key)
{
    struct mem_iter *i = iter_of(it);

    if (went_cold(i)) {
        return;
    }
    if (it->prefix) {
        const struct bytes p = key_filter_prefix(key);

        i->prefix = realloc(i->prefix, p.len + 1);
        INVARIANT(i->prefix != NULL);
        memcpy(i->prefix, p.ptr, p.len);
        i->prefix_len = p.len;
    }
    engine__tree_seek(&i->at, key);
    settle(i);
}

static void mem_iter_seek_prev(struct engine_iter *it, struct bytes key)
{
    struct mem_iter *i = iter_of(it);

    if (!went_cold(i)) {
        engine__tree_seek_prev(&i->at, key, true);
        settle(i);
    }
}

static void mem_iter_seek_first(struct engine_iter *it)
{
    mem_iter_seek(it, it->lower);
}

static void mem_iter_seek_last(struct engine_iter *it)
{
    struct mem_iter *i = iter_of(it);

    if (went_cold(i)) {
        return;
    }
    if (it->upper.len > 0) {
        engine__tree_seek_prev(&i->at, it->upper, false);
    } else {
        engine__tree_last(&i->at);
    }
    settle(i);
}

static void mem_iter_next(struct engine_iter *it)
{
    struct mem_iter *i = iter_of(it);

    if (!went_cold(i)) {
        engine__tree_next(&i->at);
        settle(i);
    }
}

static void mem_iter_prev(struct engine_iter *it)
{
    struct mem_iter *i = iter_of(it);

    if (!went_cold(i)) {
        engine__tree_prev(&i->at);
        settle(i);
    }
}

static const struct engine_iter_vtable mem_iter_vtable = {
    .close = mem_iter_close,
    .seek = mem_iter_seek,
    .seek_prev = mem_iter_seek_prev,
    .seek_first = mem_iter_seek_first,
    .seek_last = mem_iter_seek_last,
    .forward = mem_iter_next,
    .backward = mem_iter_prev,
};

static struct status mem_iter_open(struct engine *e, const struct engine_iter_options *o,
                                   struct engine_iter **out)
{
    struct mem_engine *m = mem_of(e);
    struct mem_iter *i = NULL;

    TRY(usable(m));
    i = malloc(sizeof(*i) + o->lower.len + o->upper.len);
    if (i == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for an iterator");
    }
    memset(&i->base, 0, sizeof(i->base));
    engine__iter_init(&i->base, &mem_iter_vtable, o, (uint8_t *)(i + 1));
    i->engine = m;
    i->image = image_acquire(o->snap != NULL ? &o->snap->image : &m->now);
    i->at.root = i->image.root[o->cf];
    i->at.depth = 0;
    i->may_block = o->tier == ENGINE_TIER_ANY;
    i->prefix = NULL;
    i->prefix_len = 0;
    *out = &i->base;
    return OK;
}

static const struct engine_vtable mem_vtable = {
    .close = mem_close,
    .write = mem_write,
    .get = mem_get,
    .snap_acquire = mem_snap_acquire,
    .snap_release = mem_snap_release,
    .iter_open = mem_iter_open,
    .get_stats = mem_get_stats,
};

struct status engine_open_mem(struct memdisk *d, struct engine **out)
{
    struct mem_engine *m = NULL;

    *out = NULL;
    if (d->engine != NULL) {
        return FAIL(STATUS_IO, "the simulated disk is in use");
    }
    m = calloc(1, sizeof(*m));
    if (m == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for an engine");
    }
    m->base.v = &mem_vtable;
    m->disk = d;
    m->now =
        image_acquire(d->unsynced_count > 0 ? &d->unsynced[d->unsynced_count - 1] : &d->durable);
    d->engine = m;
    *out = &m->base;
    return OK;
}
