/*
 * rocksdb.c -- the engine over RocksDB's C interface; the only file that includes it.
 *
 * Three column families: `raft`, `state` and the `default` one that the library insists on, which
 * holds the number of synced writes (sync_mark.h). All share one write-ahead log, so one sync makes
 * log entries and applied state durable together.
 *
 * What makes point reads fast: `state` is filtered by key_filter_prefix(), in memtables and in
 * files. A version is sought with the prefix of its key, and a key that does not exist is refused
 * by the filter without touching a block. Whole-key filters are off for `state`: keys without a
 * version are their own prefix, so the one filter serves both.
 *
 * What keeps the idle process small: memtables grow in blocks of 256 KiB on demand, index and
 * filter blocks live in the block cache, few files stay open, the statistics threads are off, and
 * the two background threads belong to the process, not to the store.
 *
 * Failures: error strings of the library become a status here and go no further; the text goes into
 * the log. Damage of any file is STATUS_CORRUPT when it is met. A log cut in the middle opens
 * without complaint in the library; the sync mark finds that out.
 */
#include <rocksdb/c.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "node/base/codec.h"
#include "node/base/invariant.h"
#include "node/base/log.h"
#include "node/storage/engine/engine_internal.h"
#include "node/storage/engine/space.h"
#include "node/storage/engine/sync_mark.h"
#include "node/storage/key/key.h"

#define BLOCK_CACHE_DEFAULT  ((size_t)64 << 20)
#define MEMTABLE_DEFAULT     ((size_t)16 << 20)
#define MEMTABLE_MIN         ((size_t)256 << 10)
#define ARENA_BLOCK_MAX      ((size_t)256 << 10)
#define BLOCK_SIZE           ((size_t)8 << 10)
#define BLOOM_BITS_PER_KEY   10
#define OPEN_FILES_MAX       512
#define WAL_TOTAL_MAX        ((uint64_t)96 << 20) /* Bounds what a restart has to replay. */
#define LOG_FILE_SIZE        ((size_t)1 << 20)
#define CHECKSUM_XXH3        4
#define INFO_LEVEL_WARN      2
#define READ_TIER_CACHE_ONLY 1

/* 16 bits a key for rows of 200 bytes: 2 % of the memtable. */
#define MEMTABLE_BLOOM_RATIO 0.02

#define CF_DEFAULT ENGINE_CF_COUNT /* Its place in the array of handles. */
#define CF_HANDLES (ENGINE_CF_COUNT + 1)

static const char sync_count_key[] = "sync_count";

struct rocks_engine {
    struct engine base;
    rocksdb_t *db;
    rocksdb_column_family_handle_t *cf[CF_HANDLES];
    rocksdb_cache_t *cache;
    rocksdb_options_t *options[CF_HANDLES];
    rocksdb_options_t *db_options;
    rocksdb_readoptions_t *read_any;
    rocksdb_readoptions_t *read_cache;
    rocksdb_writeoptions_t *write_sync;
    rocksdb_writeoptions_t *write_nosync;
    rocksdb_writebatch_t *batch; /* Reused: there is one writer. */
    struct engine_sync_mark mark;
    struct engine_space space;
    struct status failed; /* Of a write: final, nothing is written behind it. */
    uint64_t sync_count;  /* Over the life of the store. */
    uint64_t writes;
    uint64_t syncs;
};

struct engine_snap {
    const rocksdb_snapshot_t *snapshot;
};

struct rocks_iter {
    struct engine_iter base;
    rocksdb_iterator_t *it;
    rocksdb_readoptions_t *options;
};

static struct rocks_engine *rocks_of(struct engine *e)
{
    return CONTAINER_OF(e, struct rocks_engine, base);
}

/* ---- errors ---------------------------------------------------------------------------------- */

static bool starts_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

static enum status_code code_of(const char *err)
{
    if (starts_with(err, "Result incomplete")) {
        return STATUS_WOULD_BLOCK;
    }
    if (strstr(err, "No space left") != NULL || starts_with(err, "IO error: No space")) {
        return STATUS_DISK_FULL;
    }
    if (starts_with(err, "Corruption")) {
        return STATUS_CORRUPT;
    }
    return STATUS_IO;
}

static const char *text_of(enum status_code code)
{
    switch ((int)code) {
    case STATUS_WOULD_BLOCK:
        return "not in memory";
    case STATUS_DISK_FULL:
        return "no space left for the store";
    case STATUS_CORRUPT:
        return "store is damaged, see event engine.error";
    default:
        return "store failed, see event engine.error";
    }
}

/* Frees the text of the library. */
static struct status take_error(char *err)
{
    const enum status_code code = code_of(err);

    if (code != STATUS_WOULD_BLOCK) {
        LOG_WARN("engine.error", STR("text", err));
    }
    rocksdb_free(err);
    return FAIL(code, text_of(code));
}

static struct status take_open_error(char *err, const char *path, struct arena *msg_arena)
{
    enum status_code code = code_of(err);
    const char *msg = NULL;

    if (strstr(err, "/LOCK: ") != NULL) {
        msg = arena_printf(msg_arena, "store \"%s\" is in use by another process", path);
    } else {
        msg = arena_printf(msg_arena, "could not open store \"%s\": %s", path, err);
    }
    rocksdb_free(err);
    return FAIL(code, msg);
}

/* ---- options --------------------------------------------------------------------------------- */

static char *filter_transform(void *state, const char *key, size_t length, size_t *dst_length)
{
    const struct bytes p = key_filter_prefix(bytes_of(key, length));

    UNUSED(state);
    *dst_length = p.len;
    return (char *)(uintptr_t)p.ptr; /* The library takes a non-const pointer and only reads. */
}

static unsigned char filter_in_domain(void *state, const char *key, size_t length)
{
    UNUSED(state);
    UNUSED(key);
    UNUSED(length);
    return 1; /* Every key has a prefix: itself, if nothing shorter. */
}

static const char *filter_name(void *state)
{
    UNUSED(state);
    return "dsql.key_filter_prefix.1";
}

static void filter_destroy(void *state)
{
    UNUSED(state);
}

static rocksdb_block_based_table_options_t *table_options(const struct rocks_engine *r, bool state)
{
    rocksdb_block_based_table_options_t *t = rocksdb_block_based_options_create();

    rocksdb_block_based_options_set_block_cache(t, r->cache);
    rocksdb_block_based_options_set_block_size(t, BLOCK_SIZE);
    rocksdb_block_based_options_set_format_version(t, 5);
    rocksdb_block_based_options_set_checksum(t, CHECKSUM_XXH3);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(t, 1);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks_with_high_priority(t, 1);
    rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(t, 1);
    if (state) {
        /* Owned by the table options from here on. */
        rocksdb_block_based_options_set_filter_policy(
            t, rocksdb_filterpolicy_create_bloom_full(BLOOM_BITS_PER_KEY));
        rocksdb_block_based_options_set_whole_key_filtering(t, 0);
    }
    return t;
}

/* A memtable that its first block alone would fill is an assertion of the library. */
static size_t memtable_size(const struct engine_options *o)
{
    const size_t size = o->memtable_bytes == 0 ? MEMTABLE_DEFAULT : o->memtable_bytes;

    return size < MEMTABLE_MIN ? MEMTABLE_MIN : size;
}

static rocksdb_options_t *family_options(const struct rocks_engine *r,
                                         const struct engine_options *o, bool state)
{
    const size_t memtable = memtable_size(o);
    rocksdb_options_t *c = rocksdb_options_create();
    rocksdb_block_based_table_options_t *t = table_options(r, state);

    rocksdb_options_set_block_based_table_factory(c, t);
    rocksdb_block_based_options_destroy(t);
    rocksdb_options_set_write_buffer_size(c, memtable);
    rocksdb_options_set_arena_block_size(c, memtable / 8 < ARENA_BLOCK_MAX ? memtable / 8
                                                                           : ARENA_BLOCK_MAX);
    rocksdb_options_set_compression(c, rocksdb_lz4_compression);
    if (state) {
        rocksdb_options_set_prefix_extractor(
            c, rocksdb_slicetransform_create(NULL, filter_destroy, filter_transform,
                                             filter_in_domain, filter_in_domain, filter_name));
        rocksdb_options_set_memtable_prefix_bloom_size_ratio(c, MEMTABLE_BLOOM_RATIO);
    }
    return c;
}

static rocksdb_options_t *database_options(const struct engine_options *o)
{
    rocksdb_options_t *d = rocksdb_options_create();

    rocksdb_options_set_create_if_missing(d, o->create_if_missing ? 1 : 0);
    rocksdb_options_set_create_missing_column_families(d, o->create_if_missing ? 1 : 0);
    rocksdb_options_set_wal_recovery_mode(d, rocksdb_point_in_time_recovery);
    rocksdb_options_set_recycle_log_file_num(d, 0);
    rocksdb_options_set_max_total_wal_size(d, WAL_TOTAL_MAX);
    rocksdb_options_set_max_open_files(d, OPEN_FILES_MAX);
    rocksdb_options_set_max_file_opening_threads(d, 1);
    rocksdb_options_set_skip_stats_update_on_db_open(d, 1);
    rocksdb_options_set_max_background_jobs(d, 2);
    rocksdb_options_set_bytes_per_sync(d, (uint64_t)1 << 20);
    rocksdb_options_set_stats_dump_period_sec(d, 0);
    rocksdb_options_set_stats_persist_period_sec(d, 0);
    rocksdb_options_set_keep_log_file_num(d, 2);
    rocksdb_options_set_max_log_file_size(d, LOG_FILE_SIZE);
    rocksdb_options_set_info_log_level(d, INFO_LEVEL_WARN);
    return d;
}

/* ---- opening and closing --------------------------------------------------------------------- */

static void rocks_close(struct engine *e)
{
    struct rocks_engine *r = rocks_of(e);

    for (int i = 0; i < CF_HANDLES; i++) {
        if (r->cf[i] != NULL) {
            rocksdb_column_family_handle_destroy(r->cf[i]);
        }
    }
    if (r->db != NULL) {
        rocksdb_close(r->db);
    }
    engine__sync_mark_close(&r->mark);
    engine__space_close(&r->space);
    for (int i = 0; i < CF_HANDLES; i++) {
        rocksdb_options_destroy(r->options[i]);
    }
    rocksdb_options_destroy(r->db_options);
    rocksdb_cache_destroy(r->cache);
    rocksdb_readoptions_destroy(r->read_any);
    rocksdb_readoptions_destroy(r->read_cache);
    rocksdb_writeoptions_destroy(r->write_sync);
    rocksdb_writeoptions_destroy(r->write_nosync);
    rocksdb_writebatch_destroy(r->batch);
    free(r);
}

static void make_options(struct rocks_engine *r, const struct engine_options *o)
{
    r->cache = rocksdb_cache_create_lru(o->block_cache_bytes == 0 ? BLOCK_CACHE_DEFAULT
                                                                  : o->block_cache_bytes);
    for (int i = 0; i < CF_HANDLES; i++) {
        r->options[i] = family_options(r, o, i == ENGINE_CF_STATE);
    }
    r->db_options = database_options(o);
    r->read_any = rocksdb_readoptions_create();
    r->read_cache = rocksdb_readoptions_create();
    rocksdb_readoptions_set_read_tier(r->read_cache, READ_TIER_CACHE_ONLY);
    r->write_sync = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(r->write_sync, 1);
    r->write_nosync = rocksdb_writeoptions_create();
    r->batch = rocksdb_writebatch_create();
}

/* Compares what the database knows of its synced writes with the mark beside it. */
static struct status check_sync_mark(struct rocks_engine *r, const char *path,
                                     struct arena *msg_arena)
{
    uint64_t marked = 0;
    char *err = NULL;
    size_t len = 0;
    char *stored = rocksdb_get_cf(r->db, r->read_any, r->cf[CF_DEFAULT], sync_count_key,
                                  sizeof(sync_count_key) - 1, &len, &err);

    if (err != NULL) {
        return take_open_error(err, path, msg_arena);
    }
    r->sync_count = stored != NULL && len == 8 ? be64_get((const uint8_t *)stored) : 0;
    rocksdb_free(stored);
    TRY(engine__sync_mark_open(&r->mark, path, &marked));
    if (marked > r->sync_count) {
        return FAIL(STATUS_CORRUPT,
                    arena_printf(msg_arena, "store \"%s\" has lost acknowledged writes", path));
    }
    return OK;
}

static struct status open_database(struct rocks_engine *r, const struct engine_options *o,
                                   struct arena *msg_arena)
{
    const char *const names[CF_HANDLES] = {
        [ENGINE_CF_RAFT] = "raft", [ENGINE_CF_STATE] = "state", [CF_DEFAULT] = "default"};
    char *err = NULL;

    r->db = rocksdb_open_column_families(r->db_options, o->path, CF_HANDLES, names,
                                         (const rocksdb_options_t *const *)r->options, r->cf, &err);
    if (err != NULL) {
        r->db = NULL;
        memset(r->cf, 0, sizeof(r->cf));
        return take_open_error(err, o->path, msg_arena);
    }
    return check_sync_mark(r, o->path, msg_arena);
}

/* Before the library opens its files, since it writes while it does. */
static struct status open_space(struct rocks_engine *r, const struct engine_options *o,
                                struct arena *msg_arena)
{
    if (o->create_if_missing) {
        /* lint-allow(banned): part of the RocksDB engine, which the simulator replaces */
        (void)mkdir(o->path, 0755); /* The library tells better why it cannot be. */
    }
    return engine__space_open(&r->space, o->path, memtable_size(o), msg_arena);
}

static struct status rocks_write(struct engine *e, const struct engine_batch *b, bool sync);
static struct status rocks_get(struct engine *e, enum engine_cf cf, struct bytes key,
                               enum engine_tier tier, struct arena *arena, struct bytes *out);
static struct status rocks_snap_acquire(struct engine *e, struct engine_snap **out);
static void rocks_snap_release(struct engine *e, struct engine_snap *s);
static struct status rocks_iter_open(struct engine *e, const struct engine_iter_options *o,
                                     struct engine_iter **out);
static void rocks_get_stats(struct engine *e, struct engine_stats *out);

static const struct engine_vtable rocks_vtable = {
    .close = rocks_close,
    .write = rocks_write,
    .get = rocks_get,
    .snap_acquire = rocks_snap_acquire,
    .snap_release = rocks_snap_release,
    .iter_open = rocks_iter_open,
    .get_stats = rocks_get_stats,
};

struct status engine_open_rocksdb(const struct engine_options *o, struct arena *msg_arena,
                                  struct engine **out)
{
    struct rocks_engine *r = NULL;
    struct status st = OK;

    *out = NULL;
    if (o->path == NULL || o->path[0] == '\0') {
        return FAIL(STATUS_INVALID, "a store needs a path");
    }
    r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a store");
    }
    r->base.v = &rocks_vtable;
    r->mark.fd = -1;
    r->space.fd = -1;
    r->failed = OK;
    make_options(r, o);
    st = open_space(r, o, msg_arena);
    st = status_ok(st) ? open_database(r, o, msg_arena) : st;
    if (!status_ok(st)) {
        rocks_close(&r->base);
        return st;
    }
    *out = &r->base;
    return OK;
}

/* ---- writing --------------------------------------------------------------------------------- */

static struct status fill_batch(struct rocks_engine *r, struct bytes rest)
{
    struct engine_op op;
    bool bad = false;

    rocksdb_writebatch_clear(r->batch);
    while (engine_ops_next(&rest, &op, &bad)) {
        const char *key = (const char *)op.key.ptr;
        const char *value = op.value.len == 0 ? "" : (const char *)op.value.ptr;

        switch (op.kind) {
        case ENGINE_OP_PUT:
            rocksdb_writebatch_put_cf(r->batch, r->cf[op.cf], key, op.key.len, value, op.value.len);
            break;
        case ENGINE_OP_DELETE:
            rocksdb_writebatch_delete_cf(r->batch, r->cf[op.cf], key, op.key.len);
            break;
        case ENGINE_OP_DELETE_RANGE:
            rocksdb_writebatch_delete_range_cf(r->batch, r->cf[op.cf], key, op.key.len, value,
                                               op.value.len);
            break;
        }
    }
    return bad ? FAIL(STATUS_CORRUPT, "changes are damaged") : OK;
}

static struct status rocks_write(struct engine *e, const struct engine_batch *b, bool sync)
{
    struct rocks_engine *r = rocks_of(e);
    uint8_t count[8];
    char *err = NULL;

    TRY(r->failed);
    TRY(fill_batch(r, buf_bytes(&b->ops)));
    r->failed = engine__space_take(&r->space, b->ops.len);
    TRY(r->failed);
    if (sync) {
        be64_put(count, r->sync_count + 1);
        rocksdb_writebatch_put_cf(r->batch, r->cf[CF_DEFAULT], sync_count_key,
                                  sizeof(sync_count_key) - 1, (const char *)count, sizeof(count));
    }
    rocksdb_write(r->db, sync ? r->write_sync : r->write_nosync, r->batch, &err);
    if (err != NULL) {
        r->failed = take_error(err);
        return r->failed;
    }
    r->writes++;
    if (sync) {
        r->syncs++;
        r->sync_count++;
        engine__sync_mark_set(&r->mark, r->sync_count);
    }
    return OK;
}

/* ---- reading --------------------------------------------------------------------------------- */

static struct status rocks_get(struct engine *e, enum engine_cf cf, struct bytes key,
                               enum engine_tier tier, struct arena *arena, struct bytes *out)
{
    struct rocks_engine *r = rocks_of(e);
    const rocksdb_readoptions_t *ro = tier == ENGINE_TIER_CACHE ? r->read_cache : r->read_any;
    rocksdb_pinnableslice_t *pinned = NULL;
    struct status st = OK;
    char *err = NULL;
    size_t len = 0;

    pinned = rocksdb_get_pinned_cf(r->db, ro, r->cf[cf], (const char *)key.ptr, key.len, &err);
    if (err != NULL) {
        return take_error(err);
    }
    if (pinned == NULL) {
        return FAIL(STATUS_NOT_FOUND, "no such key");
    }
    const char *value = rocksdb_pinnableslice_value(pinned, &len);

    st = bytes_dup(arena, bytes_of(value, len), out);
    rocksdb_pinnableslice_destroy(pinned);
    return st;
}

static struct status rocks_snap_acquire(struct engine *e, struct engine_snap **out)
{
    struct engine_snap *s = malloc(sizeof(*s));

    if (s == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for an engine snapshot");
    }
    s->snapshot = rocksdb_create_snapshot(rocks_of(e)->db);
    *out = s;
    return OK;
}

static void rocks_snap_release(struct engine *e, struct engine_snap *s)
{
    rocksdb_release_snapshot(rocks_of(e)->db, s->snapshot);
    free(s);
}

static struct rocks_iter *iter_of(struct engine_iter *it)
{
    return CONTAINER_OF(it, struct rocks_iter, base);
}

static void settle(struct rocks_iter *i)
{
    struct engine_iter *it = &i->base;
    char *err = NULL;

    it->valid = rocksdb_iter_valid(i->it) != 0;
    if (it->valid) {
        it->key.ptr = (const uint8_t *)rocksdb_iter_key(i->it, &it->key.len);
        it->value.ptr = (const uint8_t *)rocksdb_iter_value(i->it, &it->value.len);
        it->st = OK;
        return;
    }
    it->key = BYTES_EMPTY;
    it->value = BYTES_EMPTY;
    rocksdb_iter_get_error(i->it, &err);
    it->st = err == NULL ? OK : take_error(err);
}

static void rocks_iter_close(struct engine_iter *it)
{
    struct rocks_iter *i = iter_of(it);

    rocksdb_iter_destroy(i->it);
    rocksdb_readoptions_destroy(i->options); /* The iterator points to the bounds in it. */
    free(i);
}

static void rocks_iter_seek(struct engine_iter *it, struct bytes key)
{
    struct rocks_iter *i = iter_of(it);

    rocksdb_iter_seek(i->it, key.len == 0 ? "" : (const char *)key.ptr, key.len);
    settle(i);
}

static void rocks_iter_seek_prev(struct engine_iter *it, struct bytes key)
{
    struct rocks_iter *i = iter_of(it);

    rocksdb_iter_seek_for_prev(i->it, key.len == 0 ? "" : (const char *)key.ptr, key.len);
    settle(i);
}

static void rocks_iter_seek_first(struct engine_iter *it)
{
    struct rocks_iter *i = iter_of(it);

    rocksdb_iter_seek_to_first(i->it);
    settle(i);
}

static void rocks_iter_seek_last(struct engine_iter *it)
{
    struct rocks_iter *i = iter_of(it);

    rocksdb_iter_seek_to_last(i->it);
    settle(i);
}

static void rocks_iter_next(struct engine_iter *it)
{
    struct rocks_iter *i = iter_of(it);

    rocksdb_iter_next(i->it);
    settle(i);
}

static void rocks_iter_prev(struct engine_iter *it)
{
    struct rocks_iter *i = iter_of(it);

    rocksdb_iter_prev(i->it);
    settle(i);
}

static const struct engine_iter_vtable rocks_iter_vtable = {
    .close = rocks_iter_close,
    .seek = rocks_iter_seek,
    .seek_prev = rocks_iter_seek_prev,
    .seek_first = rocks_iter_seek_first,
    .seek_last = rocks_iter_seek_last,
    .forward = rocks_iter_next,
    .backward = rocks_iter_prev,
};

static rocksdb_readoptions_t *iter_read_options(const struct engine_iter *it,
                                                const struct engine_iter_options *o)
{
    rocksdb_readoptions_t *ro = rocksdb_readoptions_create();

    if (it->lower.len > 0) {
        rocksdb_readoptions_set_iterate_lower_bound(ro, (const char *)it->lower.ptr, it->lower.len);
    }
    if (it->upper.len > 0) {
        rocksdb_readoptions_set_iterate_upper_bound(ro, (const char *)it->upper.ptr, it->upper.len);
    }
    if (o->snap != NULL) {
        rocksdb_readoptions_set_snapshot(ro, o->snap->snapshot);
    }
    if (o->tier == ENGINE_TIER_CACHE) {
        rocksdb_readoptions_set_read_tier(ro, READ_TIER_CACHE_ONLY);
    }
    rocksdb_readoptions_set_total_order_seek(ro, o->prefix ? 0 : 1);
    rocksdb_readoptions_set_prefix_same_as_start(ro, o->prefix ? 1 : 0);
    return ro;
}

static struct status rocks_iter_open(struct engine *e, const struct engine_iter_options *o,
                                     struct engine_iter **out)
{
    struct rocks_engine *r = rocks_of(e);
    struct rocks_iter *i = NULL;

    i = calloc(1, sizeof(*i) + o->lower.len + o->upper.len);
    if (i == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for an iterator");
    }
    engine__iter_init(&i->base, &rocks_iter_vtable, o, (uint8_t *)(i + 1));
    i->options = iter_read_options(&i->base, o);
    i->it = rocksdb_create_iterator_cf(r->db, i->options, r->cf[o->cf]);
    *out = &i->base;
    return OK;
}

/* ---- properties ------------------------------------------------------------------------------ */

/* 0 when the library does not know the property. */
static uint64_t property(const struct rocks_engine *r, int cf, const char *name)
{
    uint64_t v = 0;

    return rocksdb_property_int_cf(r->db, r->cf[cf], name, &v) == 0 ? v : 0;
}

static uint64_t file_count(const struct rocks_engine *r, int cf)
{
    uint64_t files = 0;

    for (int level = 0; level < rocksdb_options_get_num_levels(r->options[cf]); level++) {
        char name[64];
        char *text = NULL;

        (void)snprintf(name, sizeof(name), "rocksdb.num-files-at-level%d", level);
        text = rocksdb_property_value_cf(r->db, r->cf[cf], name);
        files += text == NULL ? 0 : strtoull(text, NULL, 10);
        rocksdb_free(text);
    }
    return files;
}

static void rocks_get_stats(struct engine *e, struct engine_stats *out)
{
    const struct rocks_engine *r = rocks_of(e);

    for (int cf = 0; cf < ENGINE_CF_COUNT; cf++) {
        out->live_bytes += property(r, cf, "rocksdb.estimate-live-data-size");
        out->memtable_bytes += property(r, cf, "rocksdb.cur-size-all-mem-tables");
        out->files += file_count(r, cf);
    }
    out->cache_bytes = property(r, ENGINE_CF_STATE, "rocksdb.block-cache-usage");
    out->writes = r->writes;
    out->syncs = r->syncs;
    out->write_stalled = property(r, ENGINE_CF_STATE, "rocksdb.is-write-stopped") != 0 ||
                         property(r, ENGINE_CF_STATE, "rocksdb.actual-delayed-write-rate") != 0;
}
