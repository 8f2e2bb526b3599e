/*
 * stats.c -- counting a span from scratch.
 *
 * Writers keep the counts of a range by differences. This is the other way to the same numbers: for
 * the halves of a split, and for the checks that the differences are right.
 */
#include "node/base/invariant.h"
#include "node/storage/mvcc/mvcc_internal.h"

static struct status open_span(struct mvcc_reader *r, struct bytes start, struct bytes end,
                               struct engine_iter **out)
{
    const struct engine_iter_options o = {
        .cf = ENGINE_CF_STATE, .lower = start, .upper = end, .snap = r->snap, .tier = r->tier};

    return engine_iter_open(r->engine, &o, out);
}

static void count_first(struct mvcc_stats *s, struct bytes key, uint8_t flags, size_t stored_len)
{
    s->key_count++;
    s->key_bytes += (int64_t)key.len;
    if ((flags & MVCC_FLAG_TOMBSTONE) == 0) {
        s->live_count++;
        s->live_bytes += (int64_t)(key.len + KEY_VERSION_SIZE + stored_len);
    }
}

static struct status count_versions(struct engine_iter *it, struct buf *last, struct mvcc_stats *s)
{
    for (engine_iter_seek_first(it); engine_iter_valid(it); engine_iter_next(it)) {
        const struct bytes stored = engine_iter_value(it);
        struct mvcc_version v;
        struct bytes key;
        struct hts ts;

        if (!key_split_version(engine_iter_key(it), &key, &ts)) {
            return FAIL(STATUS_CORRUPT, "key without a version among versioned keys");
        }
        TRY(mvcc_version_decode(key, ts, stored, &v));
        if (!bytes_eq(key, buf_bytes(last))) {
            buf_clear(last);
            TRY(buf_append_bytes(last, key));
            count_first(s, key, v.flags, stored.len);
        }
        s->key_bytes += KEY_VERSION_SIZE;
        s->val_count++;
        s->val_bytes += (int64_t)stored.len;
    }
    return engine_iter_status(it);
}

static struct status count_locks(struct mvcc_reader *r, struct engine_iter *it, struct arena *arena,
                                 struct mvcc_stats *s)
{
    for (engine_iter_seek_first(it); engine_iter_valid(it); engine_iter_next(it)) {
        const struct mvcc__overlay none = {NULL, NULL};
        uint8_t stack[MVCC_STACK_KEY];
        struct mvcc__cursor c;
        struct mvcc_lock l;
        struct bytes phys;

        TRY(mvcc_lock_decode(engine_iter_key(it), engine_iter_value(it), &l));
        s->lock_count++;
        s->lock_bytes += (int64_t)(engine_iter_key(it).len + engine_iter_value(it).len);
        if (l.strength != MVCC_INTENT) {
            continue;
        }
        arena_reset(arena);
        TRY(mvcc__version_key(arena, stack, l.key, l.write_ts, &phys));
        TRY(mvcc__cursor_seek(&c, r, none, l.key, phys));
        if (!c.valid || !bytes_eq(c.key, phys)) {
            return FAIL(STATUS_CORRUPT, "intent without a version");
        }
        s->intent_count++;
        s->intent_bytes += (int64_t)c.value.len;
    }
    return engine_iter_status(it);
}

struct status mvcc_stats_compute(struct mvcc_reader *r, struct bytes start, struct bytes end,
                                 struct mvcc_stats *out)
{
    struct engine_iter *it = NULL;
    struct engine_iter *locks = NULL;
    struct arena arena;
    struct bytes lock_start;
    struct bytes lock_end;
    struct status st = OK;
    struct buf last;

    memset(out, 0, sizeof(*out));
    arena_init(&arena, 0);
    buf_init(&last, 0);
    if (bytes_cmp(start, KEY_MIN) < 0 || end.len == 0 || bytes_cmp(end, KEY_MAX) > 0) {
        st = FAIL(STATUS_INVALID, "span is not one of versioned keys");
        goto out;
    }
    TRY_OUT(open_span(r, start, end, &it));
    TRY_OUT(count_versions(it, &last, out));
    TRY_OUT(mvcc__lock_bound(&arena, start, &lock_start));
    TRY_OUT(mvcc__lock_bound(&arena, end, &lock_end));
    TRY_OUT(open_span(r, lock_start, lock_end, &locks));
    TRY_OUT(count_locks(r, locks, &arena, out));
out:
    engine_iter_close(it);
    engine_iter_close(locks);
    buf_deinit(&last);
    arena_deinit(&arena);
    return st;
}
