/*
 * row.c -- see row.h.
 *
 * The id of a column is stored as the distance to the one before, so that most headers are one
 * byte. The kind says how long the payload is; readers with an older descriptor skip what they do
 * not know.
 */
#include "node/storage/key/row.h"

#define KIND_BITS 4
#define KIND_MASK ((1u << KIND_BITS) - 1)

static uint64_t zigzag(int64_t v)
{
    return v < 0 ? ~((uint64_t)v << 1) : (uint64_t)v << 1;
}

static int64_t unzigzag(uint64_t v)
{
    return (int64_t)(v >> 1 ^ (~(v & 1) + 1));
}

static struct status put_payload(struct buf *b, const struct key_row_column *c)
{
    uint64_t bits = 0;

    switch (c->kind) {
    case KEY_ROW_FALSE:
    case KEY_ROW_TRUE:
        return OK;
    case KEY_ROW_INT:
        return buf_append_varint(b, zigzag(c->v.i));
    case KEY_ROW_FLOAT:
        memcpy(&bits, &c->v.f, sizeof(bits));
        return buf_append_be64(b, bits);
    case KEY_ROW_BYTES:
    case KEY_ROW_NUMERIC:
        return buf_append_lp(b, c->v.b);
    case KEY_ROW_UUID:
        return buf_append(b, c->v.uuid.b, sizeof(c->v.uuid.b));
    case KEY_ROW_INTERVAL:
        TRY(buf_append_varint(b, zigzag(c->v.interval.months)));
        TRY(buf_append_varint(b, zigzag(c->v.interval.days)));
        return buf_append_varint(b, zigzag(c->v.interval.us));
    case KEY_ROW_TIMETZ:
        TRY(buf_append_varint(b, zigzag(c->v.timetz.us)));
        return buf_append_varint(b, zigzag(c->v.timetz.zone_s));
    case KEY_ROW_KIND_COUNT:
        break;
    }
    return FAIL(STATUS_INVALID, "unknown kind of column value");
}

struct status key_row_put(struct key_row_enc *e, const struct key_row_column *c)
{
    const size_t mark = e->buf->len;
    struct status st = OK;

    if (c->id <= e->last_id) {
        return FAIL(STATUS_INVALID, "columns of a row must come in ascending order");
    }
    TRY_OUT(
        buf_append_varint(e->buf, (uint64_t)(c->id - e->last_id) << KIND_BITS | (unsigned)c->kind));
    TRY_OUT(put_payload(e->buf, c));
    e->last_id = c->id;
    return OK;
out:
    e->buf->len = mark; /* A row is never left with half a column. */
    return st;
}

static int32_t read_i32(struct reader *r)
{
    const int64_t v = unzigzag(read_varint(r));

    if (v < INT32_MIN || v > INT32_MAX) {
        r->bad = true;
        return 0;
    }
    return (int32_t)v;
}

static void read_payload(struct reader *r, struct key_row_column *c)
{
    const uint8_t *p = NULL;
    uint64_t bits = 0;

    switch (c->kind) {
    case KEY_ROW_FALSE:
    case KEY_ROW_TRUE:
        break;
    case KEY_ROW_INT:
        c->v.i = unzigzag(read_varint(r));
        break;
    case KEY_ROW_FLOAT:
        bits = read_be64(r);
        memcpy(&c->v.f, &bits, sizeof(bits));
        break;
    case KEY_ROW_BYTES:
    case KEY_ROW_NUMERIC:
        c->v.b = read_lp_bytes(r);
        break;
    case KEY_ROW_UUID:
        if (reader_take(r, sizeof(c->v.uuid.b), &p)) {
            memcpy(c->v.uuid.b, p, sizeof(c->v.uuid.b));
        }
        break;
    case KEY_ROW_INTERVAL:
        c->v.interval.months = read_i32(r);
        c->v.interval.days = read_i32(r);
        c->v.interval.us = unzigzag(read_varint(r));
        break;
    case KEY_ROW_TIMETZ:
        c->v.timetz.us = unzigzag(read_varint(r));
        c->v.timetz.zone_s = read_i32(r);
        break;
    case KEY_ROW_KIND_COUNT:
        r->bad = true;
        break;
    }
}

bool key_row_next(struct key_row_dec *d, struct key_row_column *out)
{
    uint64_t header = 0;
    uint64_t id = 0;

    if (d->r.bad || d->r.rest.len == 0) {
        return false;
    }
    header = read_varint(&d->r);
    id = d->last_id + (header >> KIND_BITS);
    if (d->r.bad || id <= d->last_id || id > UINT32_MAX ||
        (header & KIND_MASK) >= KEY_ROW_KIND_COUNT) {
        d->r.bad = true;
        return false;
    }
    out->id = (uint32_t)id;
    out->kind = (enum key_row_kind)(header & KIND_MASK);
    read_payload(&d->r, out);
    d->last_id = (uint32_t)id;
    return !d->r.bad;
}
