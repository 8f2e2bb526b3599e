/*
 * lookup.c -- asking the index of ranges.
 *
 * Its rows stand under the end key of the range that they describe, so that the first row above a key is of the
 * range that holds it. Rows of meta2 describe the ranges of everything else and may stand on many ranges;
 * those of meta1 describe the ranges of meta2 and stand on the first range, which is known by gossip. So a
 * lookup is one scan when the range of meta2 is known, and two otherwise.
 *
 * A row may be one change behind (node/docs/0006): it still covers the key, and the replicas that it names know
 * better.
 */
#include "node/kv/internal.h"
#include "node/storage/key/key.h"

#define META2_START BYTES_LIT("\x05")
#define META2_END   BYTES_LIT("\x06")

/* The bound above which the row of `key` stands, in the arena. */
static struct status row_bound(int level, struct bytes key, struct arena *arena, struct bytes *out)
{
    struct buf meta = {0};
    struct key_enc k;
    struct bytes bytes;
    struct status st = OK;

    key_enc_init_buf(&k, &meta);
    key_enc_meta(&k, level, key);
    TRY_OUT(key_enc_finish(&k, &bytes));
    TRY_OUT(key_after(arena, bytes, out));
out:
    buf_deinit(&meta);
    return st;
}

/* The first row at or above q->key; the scan goes on where a range of meta2 ends. */
MAYYIELD static struct status first_row(struct kv *kv, struct range_request *q,
                                        uint64_t deadline_ns, struct arena *arena,
                                        struct bytes *value_out)
{
    for (;;) {
        struct range_batch b = {.requests = q, .count = 1};
        struct range_result result;
        struct reader rows;

        TRY(kv_send(kv, &b, deadline_ns, arena, &result));
        if (result.responses[0].rows_count > 0) {
            rows = reader_of(result.responses[0].rows);
            (void)read_lp_bytes(&rows);
            *value_out = read_lp_bytes(&rows);
            return OK;
        }
        if (!result.responses[0].more) {
            return FAIL(STATUS_UNAVAILABLE, "no range is recorded for the key");
        }
        q->key = result.responses[0].resume;
    }
}

struct status kv__lookup(struct kv *kv, struct bytes key, uint64_t deadline_ns, struct arena *arena)
{
    const int level = bytes_cmp(key, META2_END) < 0 ? 1 : 2;
    struct range_request q = {.op = RANGE_OP_SCAN, .rows_max = 1};
    struct range_desc d;
    struct bytes value;

    /* Rows of meta1 are never looked up: the first range holds them all. */
    if (kv->first == NULL || bytes_cmp(key, META2_START) < 0) {
        return FAIL(STATUS_UNAVAILABLE, "the first range is not known yet");
    }
    kv->stats.lookups++;
    TRY(row_bound(level, key, arena, &q.key));
    q.end = level == 1 ? META2_START : META2_END;
    TRY(first_row(kv, &q, deadline_ns, arena, &value));
    TRY(range_desc_decode(value, arena, &d));
    if (!range_desc_contains(&d, key)) {
        return FAIL(STATUS_UNAVAILABLE, "no range is recorded for the key");
    }
    kv__cache_insert(kv, key, &d);
    return OK;
}
