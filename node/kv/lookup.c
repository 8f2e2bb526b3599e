/*
 * lookup.c -- asking the index of ranges.
 *
 * The first range holds the index. Its rows stand under the end key of the range that they describe, so
 * that the first row above a key belongs to the range that holds it.
 */
#include "node/kv/internal.h"
#include "node/storage/key/key.h"

/* First meta2 entry whose end lies above the key. */
struct status kv__lookup(struct kv *kv, struct bytes key, uint64_t deadline_ns, struct arena *arena)
{
    struct buf start = {0};
    struct buf after = {0};
    struct key_enc k;
    struct range_request q = {.op = RANGE_OP_SCAN, .rows_max = 1};
    struct range_batch b = {.requests = &q, .count = 1};
    struct range_result result;
    struct range_desc d;
    struct reader rows;
    struct bytes meta;
    struct status st = OK;

    if (kv->first == NULL) {
        return FAIL(STATUS_UNAVAILABLE, "the first range is not known yet");
    }
    kv->stats.lookups++;
    key_enc_init_buf(&k, &start);
    key_enc_meta(&k, 2, key);
    TRY_OUT(key_enc_finish(&k, &meta));
    key_enc_init_buf(&k, &after);
    key_enc_after(&k, meta);
    TRY_OUT(key_enc_finish(&k, &q.key));
    TRY_OUT(bytes_dup(arena, q.key, &q.key));
    q.end = BYTES_LIT("\x06");
    TRY_OUT(kv_send(kv, &b, deadline_ns, arena, &result));
    rows = reader_of(result.responses[0].rows);
    (void)read_lp_bytes(&rows);
    if (result.responses[0].rows_count != 1) {
        TRY_OUT(FAIL(STATUS_UNAVAILABLE, "no range is recorded for the key"));
    }
    TRY_OUT(range_desc_decode(read_lp_bytes(&rows), arena, &d));
    if (!range_desc_contains(&d, key)) {
        TRY_OUT(FAIL(STATUS_UNAVAILABLE, "no range is recorded for the key"));
    }
    kv__cache_insert(kv, key, &d);
out:
    buf_deinit(&start);
    buf_deinit(&after);
    return st;
}
