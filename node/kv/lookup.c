/*
 * lookup.c -- asking the index of ranges.
 *
 * A row of the index stands under the end key of the range that it describes, so that the first row above
 * a key belongs to the range that holds it. There are two levels: meta2 knows all ranges that end behind
 * meta2, meta1 those that hold keys of meta2. The range with meta1 is known by gossip and never split there.
 * A level may lie in several ranges: the row may be in the next one.
 */
#include "node/kv/internal.h"
#include "node/storage/key/key.h"

#define META1_END BYTES_LIT("\x05")
#define META2_END BYTES_LIT("\x06")

/* The span in which the entry of `key` is the first row. */
static struct status index_span(struct bytes key, struct arena *arena, struct range_request *q)
{
    const bool in_meta2 = bytes_cmp(key, META2_END) < 0;
    struct buf start = {0};
    struct buf after = {0};
    struct bytes meta;
    struct key_enc k;
    struct status st = OK;

    key_enc_init_buf(&k, &start);
    key_enc_meta(&k, in_meta2 ? 1 : 2, key);
    TRY_OUT(key_enc_finish(&k, &meta));
    key_enc_init_buf(&k, &after);
    key_enc_after(&k, meta);
    TRY_OUT(key_enc_finish(&k, &q->key));
    TRY_OUT(bytes_dup(arena, q->key, &q->key));
    q->end = in_meta2 ? META1_END : META2_END;
out:
    buf_deinit(&start);
    buf_deinit(&after);
    return st;
}

struct status kv__lookup(struct kv *kv, struct bytes key, uint64_t deadline_ns, struct arena *arena)
{
    struct range_request q = {.op = RANGE_OP_SCAN, .rows_max = 1};
    struct range_batch b = {.requests = &q, .count = 1};
    const struct range_response *resp = NULL;
    struct range_result result;
    struct range_desc d;
    struct reader rows;

    if (kv->first == NULL) {
        return FAIL(STATUS_UNAVAILABLE, "the first range is not known yet");
    }
    kv->stats.lookups++;
    TRY(index_span(key, arena, &q));
    for (;;) {
        TRY(kv_send(kv, &b, deadline_ns, arena, &result));
        resp = &result.responses[0];
        if (resp->rows_count > 0 || !resp->more) {
            break;
        }
        q.key = resp->resume; /* That part of the index ends here. */
    }
    rows = reader_of(resp->rows);
    (void)read_lp_bytes(&rows);
    if (resp->rows_count != 1) {
        return FAIL(STATUS_UNAVAILABLE, "no range is recorded for the key");
    }
    TRY(range_desc_decode(read_lp_bytes(&rows), arena, &d));
    if (!range_desc_contains(&d, key)) {
        return FAIL(STATUS_UNAVAILABLE, "no range is recorded for the key");
    }
    kv__cache_insert(kv, key, &d);
    return OK;
}
