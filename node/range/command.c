/*
 * command.c -- bytes of commands, applied states and log records.
 */
#include "node/range/command.h"

#include "node/base/codec.h"
#include "node/base/hash.h"

#define COMMAND_FORMAT 3u
#define APPLIED_FORMAT 2u
#define STATS_FIELDS   10

static uint64_t zigzag(int64_t v)
{
    return ((uint64_t)v << 1) ^ (uint64_t)(v >> 63);
}

static int64_t unzigzag(uint64_t v)
{
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

static void stats_fields(struct mvcc_stats *s, int64_t *out[STATS_FIELDS])
{
    out[0] = &s->live_count;
    out[1] = &s->live_bytes;
    out[2] = &s->key_count;
    out[3] = &s->key_bytes;
    out[4] = &s->val_count;
    out[5] = &s->val_bytes;
    out[6] = &s->intent_count;
    out[7] = &s->intent_bytes;
    out[8] = &s->lock_count;
    out[9] = &s->lock_bytes;
}

static struct status stats_encode(const struct mvcc_stats *s, struct buf *out)
{
    struct mvcc_stats copy = *s;
    int64_t *fields[STATS_FIELDS];

    stats_fields(&copy, fields);
    for (int i = 0; i < STATS_FIELDS; i++) {
        TRY(buf_append_varint(out, zigzag(*fields[i])));
    }
    return OK;
}

static void stats_decode(struct reader *r, struct mvcc_stats *out)
{
    int64_t *fields[STATS_FIELDS];

    stats_fields(out, fields);
    for (int i = 0; i < STATS_FIELDS; i++) {
        *fields[i] = unzigzag(read_varint(r));
    }
}

static struct status hts_encode(struct hts ts, struct buf *out)
{
    TRY(buf_append_varint(out, ts.wall));
    return buf_append_varint(out, ts.logical);
}

static struct hts hts_decode(struct reader *r)
{
    struct hts ts = {.wall = read_varint(r)};

    ts.logical = (uint32_t)read_varint(r);
    return ts;
}

/* Commands that change ranges are rare: all others do without these fields. */
static bool changes_ranges(enum command_kind kind)
{
    return kind >= COMMAND_SPLIT && kind < COMMAND_KIND_COUNT;
}

static struct status change_encode(const struct command *c, struct buf *out)
{
    TRY(buf_append_lp(out, c->right));
    TRY(stats_encode(&c->right_stats, out));
    TRY(buf_append_varint(out, c->left.v));
    TRY(buf_append_varint(out, c->generation));
    return buf_append_varint(out, c->freeze_index);
}

static void change_decode(struct reader *r, struct command *out)
{
    out->right = read_lp_bytes(r);
    stats_decode(r, &out->right_stats);
    out->left.v = read_varint(r);
    out->generation = read_varint(r);
    out->freeze_index = read_varint(r);
}

static void txn_decode(struct reader *r, struct command *out)
{
    const struct bytes id = read_lp_bytes(r);

    if (id.len == sizeof(out->txn.b)) {
        memcpy(out->txn.b, id.ptr, id.len);
    } else {
        r->bad = r->bad || id.len != 0;
    }
}

struct status command_encode(const struct command *c, struct buf *out)
{
    TRY(buf_append_u8(out, COMMAND_FORMAT));
    TRY(buf_append_u8(out, (uint8_t)c->kind));
    TRY(hts_encode(c->start_ts, out));
    TRY(buf_append_varint(out, c->target.v));
    TRY(hts_encode(c->closed_ts, out));
    TRY(stats_encode(&c->stats, out));
    TRY(buf_append_lp(out, c->desc));
    if (changes_ranges(c->kind)) {
        TRY(change_encode(c, out));
    }
    if (c->kind == COMMAND_WRITE) {
        TRY(buf_append_lp(out, uuid_is_zero(c->txn) ? BYTES_EMPTY
                                                    : bytes_of(c->txn.b, sizeof(c->txn.b))));
    }
    return buf_append_bytes(out, c->ops);
}

struct status command_decode(struct bytes b, struct command *out)
{
    struct reader r = reader_of(b);
    const uint8_t format = read_u8(&r);
    const uint8_t kind = read_u8(&r);

    *out = (struct command){.kind = (enum command_kind)kind};
    out->start_ts = hts_decode(&r);
    out->target.v = (uint32_t)read_varint(&r);
    out->closed_ts = hts_decode(&r);
    stats_decode(&r, &out->stats);
    out->desc = read_lp_bytes(&r);
    if (changes_ranges(out->kind)) {
        change_decode(&r, out);
    }
    if (out->kind == COMMAND_WRITE) {
        txn_decode(&r, out);
    }
    out->ops = r.rest;
    if (r.bad || format != COMMAND_FORMAT || kind < COMMAND_WRITE || kind >= COMMAND_KIND_COUNT) {
        return FAIL(STATUS_CORRUPT, "damaged command in the log");
    }
    return OK;
}

struct status applied_state_encode(const struct applied_state *a, struct buf *out)
{
    TRY(buf_append_u8(out, APPLIED_FORMAT));
    TRY(buf_append_varint(out, a->index));
    TRY(buf_append_varint(out, a->term));
    TRY(buf_append_u8(out, (uint8_t)a->lease));
    TRY(buf_append_varint(out, a->lease_term));
    TRY(buf_append_varint(out, a->lease_holder.v));
    TRY(hts_encode(a->lease_start_ts, out));
    TRY(buf_append_varint(out, a->lease_sequence));
    TRY(hts_encode(a->closed_ts, out));
    TRY(stats_encode(&a->stats, out));
    TRY(buf_append_varint(out, a->generation));
    TRY(buf_append_u8(out, a->addressed ? 1 : 0));
    TRY(buf_append_varint(out, a->merge_index));
    TRY(hts_encode(a->floor, out));
    TRY(buf_append_varint(out, a->freeze.index));
    TRY(hts_encode(a->freeze.ts, out));
    TRY(buf_append_varint(out, a->freeze.left.v));
    return buf_append_varint(out, a->freeze.generation);
}

struct status applied_state_decode(struct bytes b, struct applied_state *out)
{
    struct reader r = reader_of(b);
    const uint8_t format = read_u8(&r);
    uint8_t lease = 0;

    *out = (struct applied_state){.index = read_varint(&r)};
    out->term = read_varint(&r);
    lease = read_u8(&r);
    out->lease = (enum lease_kind)lease;
    out->lease_term = read_varint(&r);
    out->lease_holder.v = (uint32_t)read_varint(&r);
    out->lease_start_ts = hts_decode(&r);
    out->lease_sequence = read_varint(&r);
    out->closed_ts = hts_decode(&r);
    stats_decode(&r, &out->stats);
    out->generation = read_varint(&r);
    out->addressed = read_u8(&r) != 0;
    out->merge_index = read_varint(&r);
    out->floor = hts_decode(&r);
    out->freeze.index = read_varint(&r);
    out->freeze.ts = hts_decode(&r);
    out->freeze.left.v = read_varint(&r);
    out->freeze.generation = read_varint(&r);
    if (r.bad || r.rest.len != 0 || format != APPLIED_FORMAT || lease > LEASE_REVOKED) {
        return FAIL(STATUS_CORRUPT, "damaged applied state");
    }
    return OK;
}

static uint32_t record_checksum(uint64_t term, uint8_t kind, struct bytes payload)
{
    return (uint32_t)hash64(payload, term * 4 + kind);
}

struct status log_record_encode(uint64_t term, uint8_t kind, struct bytes payload, struct buf *out)
{
    TRY(buf_append_varint(out, term));
    TRY(buf_append_u8(out, kind));
    TRY(buf_append_be32(out, record_checksum(term, kind, payload)));
    return buf_append_bytes(out, payload);
}

struct status log_record_decode(struct bytes b, uint64_t *term, uint8_t *kind,
                                struct bytes *payload)
{
    struct reader r = reader_of(b);
    uint32_t checksum = 0;

    *term = read_varint(&r);
    *kind = read_u8(&r);
    checksum = read_be32(&r);
    *payload = r.rest;
    if (r.bad || *term == 0 || checksum != record_checksum(*term, *kind, *payload)) {
        return FAIL(STATUS_CORRUPT, "damaged log entry");
    }
    return OK;
}
