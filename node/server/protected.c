/*
 * protected.c -- see protected.h.
 */
#include "node/server/protected.h"

#define PROTECTED_FORMAT 1u

void protected_key(struct key_enc *e, struct uuid id)
{
    key_enc_system(e, KEY_SYSTEM_PROTECTED);
    key_enc_raw(e, bytes_of(id.b, sizeof(id.b)));
}

struct status protected_encode(const struct protected_record *p, struct buf *out)
{
    TRY(buf_append_u8(out, PROTECTED_FORMAT));
    TRY(buf_append_varint(out, p->ts.wall));
    TRY(buf_append_varint(out, p->ts.logical));
    TRY(buf_append_varint(out, p->spans_count));
    for (uint32_t i = 0; i < p->spans_count; i++) {
        TRY(buf_append_lp(out, p->spans[i].start));
        TRY(buf_append_lp(out, p->spans[i].end));
    }
    return OK;
}

struct status protected_decode(struct bytes b, struct arena *arena, struct protected_record *out)
{
    struct reader r = reader_of(b);
    const uint8_t format = read_u8(&r);
    struct key_span *spans = NULL;
    uint64_t count = 0;

    out->ts.wall = read_varint(&r);
    out->ts.logical = (uint32_t)read_varint(&r);
    count = read_varint(&r);
    if (r.bad || format != PROTECTED_FORMAT || count > PROTECTED_SPANS_MAX) {
        return FAIL(STATUS_CORRUPT, "damaged record of a protected timestamp");
    }
    spans = ARENA_ARRAY(arena, struct key_span, count + 1);
    if (spans == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    for (uint64_t i = 0; i < count; i++) {
        spans[i].start = read_lp_bytes(&r);
        spans[i].end = read_lp_bytes(&r);
    }
    out->spans = spans;
    out->spans_count = (uint32_t)count;
    return r.bad || r.rest.len != 0
               ? FAIL(STATUS_CORRUPT, "damaged record of a protected timestamp")
               : OK;
}
