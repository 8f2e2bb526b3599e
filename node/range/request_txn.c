/*
 * request_txn.c -- what belongs to transactions over ranges, as protobuf messages.
 *
 * An id is 16 bytes, or none for the zero id. Lists of keys hold no empty key: none has an address.
 */
#include "node/base/arena.h"
#include "node/base/codec.h"
#include "node/range/request_wire.h"
#include "node/rpc/pb_arena.h"

#define UUID_BYTES ((size_t)16)
#define WAIT_BYTES (2 * UUID_BYTES + 4) /* An edge of the graph of waits. */

static struct status no_memory(void)
{
    return FAIL(STATUS_MEMORY, "memory limit reached");
}

static struct status damaged(void)
{
    return FAIL(STATUS_CORRUPT, "damaged fields of a transaction");
}

/* ---- timestamps and ids ------------------------------------------------------------------------- */

struct status request__hts_to_pb(struct hts ts, struct arena *arena, Dsql__Pb__Hts **out)
{
    *out = NULL;
    if (hts_is_zero(ts)) {
        return OK;
    }
    *out = ARENA_NEW(arena, Dsql__Pb__Hts);
    if (*out == NULL) {
        return no_memory();
    }
    dsql__pb__hts__init(*out);
    (*out)->wall = ts.wall;
    (*out)->logical = ts.logical;
    return OK;
}

struct hts request__hts_from_pb(const Dsql__Pb__Hts *pb)
{
    return pb == NULL ? HTS_ZERO : (struct hts){pb->wall, pb->logical};
}

static ProtobufCBinaryData uuid_to_pb(const struct uuid *id)
{
    return pb_binary(uuid_is_zero(*id) ? BYTES_EMPTY : bytes_of(id->b, sizeof(id->b)));
}

static bool uuid_from_pb(ProtobufCBinaryData pb, struct uuid *out)
{
    *out = (struct uuid){{0}};
    if (pb.len == sizeof(out->b)) {
        memcpy(out->b, pb.data, sizeof(out->b));
    }
    return pb.len == 0 || pb.len == sizeof(out->b);
}

/* ---- lists of keys ------------------------------------------------------------------------------ */

static struct status keys_to_pb(const struct bytes *keys, uint32_t count, struct arena *arena,
                                size_t *count_out, ProtobufCBinaryData **out)
{
    *count_out = count;
    if (count == 0) {
        return OK;
    }
    *out = ARENA_ARRAY(arena, ProtobufCBinaryData, count);
    if (*out == NULL) {
        return no_memory();
    }
    for (uint32_t i = 0; i < count; i++) {
        (*out)[i] = pb_binary(keys[i]);
    }
    return OK;
}

static struct status keys_from_pb(const ProtobufCBinaryData *pb, size_t count, struct arena *arena,
                                  const struct bytes **out, uint32_t *count_out)
{
    struct bytes *keys = NULL;

    *out = NULL;
    *count_out = (uint32_t)count;
    if (count > RANGE_REQUESTS_MAX) {
        return damaged();
    }
    if (count == 0) {
        return OK;
    }
    keys = ARENA_ARRAY(arena, struct bytes, count);
    if (keys == NULL) {
        return no_memory();
    }
    for (size_t i = 0; i < count; i++) {
        keys[i] = pb_bytes(pb[i]);
        if (keys[i].len == 0) {
            return damaged();
        }
    }
    *out = keys;
    return OK;
}

static struct status spans_to_pb(const struct range_txn_args *a, struct arena *arena,
                                 Dsql__Pb__TxnArgs *pb)
{
    Dsql__Pb__Span *spans = NULL;

    if (a->spans_count == 0) {
        return OK;
    }
    spans = ARENA_ARRAY(arena, Dsql__Pb__Span, a->spans_count);
    pb->spans = ARENA_ARRAY(arena, Dsql__Pb__Span *, a->spans_count);
    if (spans == NULL || pb->spans == NULL) {
        return no_memory();
    }
    pb->n_spans = a->spans_count;
    for (uint32_t i = 0; i < a->spans_count; i++) {
        dsql__pb__span__init(&spans[i]);
        spans[i].start = pb_binary(a->spans[i].start);
        spans[i].end = pb_binary(a->spans[i].end);
        pb->spans[i] = &spans[i];
    }
    return OK;
}

static struct status spans_from_pb(const Dsql__Pb__TxnArgs *pb, struct arena *arena,
                                   struct range_txn_args *out)
{
    struct key_span *spans = NULL;

    if (pb->n_spans > RANGE_REQUESTS_MAX) {
        return damaged();
    }
    if (pb->n_spans == 0) {
        return OK;
    }
    spans = ARENA_ARRAY(arena, struct key_span, pb->n_spans);
    if (spans == NULL) {
        return no_memory();
    }
    for (size_t i = 0; i < pb->n_spans; i++) {
        spans[i] = (struct key_span){pb_bytes(pb->spans[i]->start), pb_bytes(pb->spans[i]->end)};
        if (spans[i].start.len == 0 ||
            (spans[i].end.len > 0 && bytes_cmp(spans[i].start, spans[i].end) >= 0)) {
            return damaged();
        }
    }
    out->spans = spans;
    out->spans_count = (uint32_t)pb->n_spans;
    return OK;
}

/* ---- the transaction of a batch ----------------------------------------------------------------- */

static bool txn_is_empty(const struct range_batch_txn *t)
{
    return uuid_is_zero(t->id) && t->anchor.len == 0 && t->priority == 0 && !t->read_committed &&
           hts_is_zero(t->min_ts) && hts_is_zero(t->write_ts) && hts_is_zero(t->global_limit) &&
           hts_is_zero(t->local_limit);
}

struct status request__txn_to_pb(const struct range_batch_txn *t, struct arena *arena,
                                 Dsql__Pb__BatchTxn **out)
{
    Dsql__Pb__BatchTxn *pb = NULL;

    *out = NULL;
    if (txn_is_empty(t)) {
        return OK;
    }
    pb = ARENA_NEW(arena, Dsql__Pb__BatchTxn);
    if (pb == NULL) {
        return no_memory();
    }
    dsql__pb__batch_txn__init(pb);
    pb->id = uuid_to_pb(&t->id);
    pb->anchor = pb_binary(t->anchor);
    pb->priority = t->priority;
    pb->read_committed = t->read_committed;
    TRY(request__hts_to_pb(t->min_ts, arena, &pb->min_ts));
    TRY(request__hts_to_pb(t->write_ts, arena, &pb->write_ts));
    TRY(request__hts_to_pb(t->global_limit, arena, &pb->global_limit));
    TRY(request__hts_to_pb(t->local_limit, arena, &pb->local_limit));
    *out = pb;
    return OK;
}

struct status request__txn_from_pb(const Dsql__Pb__BatchTxn *pb, struct range_batch_txn *out)
{
    *out = (struct range_batch_txn){0};
    if (pb == NULL) {
        return OK;
    }
    *out = (struct range_batch_txn){
        .anchor = pb_bytes(pb->anchor),
        .priority = pb->priority,
        .read_committed = pb->read_committed,
        .min_ts = request__hts_from_pb(pb->min_ts),
        .write_ts = request__hts_from_pb(pb->write_ts),
        .global_limit = request__hts_from_pb(pb->global_limit),
        .local_limit = request__hts_from_pb(pb->local_limit),
    };
    return uuid_from_pb(pb->id, &out->id) ? OK : damaged();
}

/* ---- arguments of operations on transactions ---------------------------------------------------- */

struct status request__args_to_pb(const struct range_txn_args *a, struct arena *arena,
                                  Dsql__Pb__TxnArgs **out)
{
    Dsql__Pb__TxnArgs *pb = ARENA_NEW(arena, Dsql__Pb__TxnArgs);

    if (pb == NULL) {
        return no_memory();
    }
    dsql__pb__txn_args__init(pb);
    pb->txn = uuid_to_pb(&a->txn);
    pb->anchor = pb_binary(a->anchor);
    pb->status = (uint32_t)a->status;
    TRY(request__hts_to_pb(a->ts, arena, &pb->ts));
    TRY(request__hts_to_pb(a->min_ts, arena, &pb->min_ts));
    TRY(request__hts_to_pb(a->seen_ts, arena, &pb->seen_ts));
    pb->push = (uint32_t)a->push;
    pb->force = a->force;
    pb->pusher = uuid_to_pb(&a->pusher);
    pb->pusher_anchor = pb_binary(a->pusher_anchor);
    pb->pusher_priority = a->pusher_priority;
    pb->wait_ns = a->wait_ns;
    TRY(keys_to_pb(a->in_flight, a->in_flight_count, arena, &pb->n_in_flight, &pb->in_flight));
    TRY(spans_to_pb(a, arena, pb));
    *out = pb;
    return OK;
}

struct status request__args_from_pb(const Dsql__Pb__TxnArgs *pb, struct arena *arena,
                                    const struct range_txn_args **out)
{
    struct range_txn_args *a = ARENA_NEW(arena, struct range_txn_args);

    if (a == NULL) {
        return no_memory();
    }
    if (pb->status > RANGE_TXN_ABORTED || pb->push > RANGE_PUSH_ABORT) {
        return damaged();
    }
    *a = (struct range_txn_args){
        .anchor = pb_bytes(pb->anchor),
        .status = (enum range_txn_status)pb->status,
        .ts = request__hts_from_pb(pb->ts),
        .min_ts = request__hts_from_pb(pb->min_ts),
        .seen_ts = request__hts_from_pb(pb->seen_ts),
        .push = (enum range_push)pb->push,
        .force = pb->force,
        .pusher_anchor = pb_bytes(pb->pusher_anchor),
        .pusher_priority = pb->pusher_priority,
        .wait_ns = pb->wait_ns,
    };
    if (!uuid_from_pb(pb->txn, &a->txn) || uuid_is_zero(a->txn) ||
        !uuid_from_pb(pb->pusher, &a->pusher)) {
        return damaged();
    }
    TRY(keys_from_pb(pb->in_flight, pb->n_in_flight, arena, &a->in_flight, &a->in_flight_count));
    TRY(spans_from_pb(pb, arena, a));
    *out = a;
    return OK;
}

/* ---- how a transaction stands ------------------------------------------------------------------- */

static struct status waits_to_pb(const struct range_txn_wait *waits, uint32_t count,
                                 struct arena *arena, ProtobufCBinaryData *out)
{
    uint8_t *p = arena_alloc(arena, (size_t)count * WAIT_BYTES + 1, 1);

    if (p == NULL) {
        return no_memory();
    }
    *out = pb_binary(bytes_of(p, (size_t)count * WAIT_BYTES));
    for (uint32_t i = 0; i < count; i++, p += WAIT_BYTES) {
        memcpy(p, waits[i].waiter.b, UUID_BYTES);
        memcpy(p + UUID_BYTES, waits[i].holder.b, UUID_BYTES);
        be32_put(p + 2 * UUID_BYTES, waits[i].waiter_priority);
    }
    return OK;
}

static struct status waits_from_pb(ProtobufCBinaryData pb, struct arena *arena,
                                   struct range_txn_info *out)
{
    const uint32_t count = (uint32_t)(pb.len / WAIT_BYTES);
    struct range_txn_wait *waits = NULL;

    if (pb.len % WAIT_BYTES != 0 || pb.len / WAIT_BYTES > RANGE_TXN_WAITS_MAX) {
        return damaged();
    }
    waits = ARENA_ARRAY(arena, struct range_txn_wait, (size_t)count + 1);
    if (waits == NULL) {
        return no_memory();
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *p = pb.data + (size_t)i * WAIT_BYTES;

        memcpy(waits[i].waiter.b, p, UUID_BYTES);
        memcpy(waits[i].holder.b, p + UUID_BYTES, UUID_BYTES);
        waits[i].waiter_priority = be32_get(p + 2 * UUID_BYTES);
    }
    out->waits = waits;
    out->waits_count = count;
    return OK;
}

struct status request__info_to_pb(const struct range_txn_info *i, struct arena *arena,
                                  Dsql__Pb__TxnInfo **out)
{
    Dsql__Pb__TxnInfo *pb = ARENA_NEW(arena, Dsql__Pb__TxnInfo);

    if (pb == NULL) {
        return no_memory();
    }
    dsql__pb__txn_info__init(pb);
    pb->id = uuid_to_pb(&i->id);
    pb->has_record = i->has_record;
    pb->status = (uint32_t)i->status;
    TRY(request__hts_to_pb(i->ts, arena, &pb->ts));
    TRY(request__hts_to_pb(i->min_ts, arena, &pb->min_ts));
    TRY(request__hts_to_pb(i->last_heartbeat, arena, &pb->last_heartbeat));
    pb->priority = i->priority;
    TRY(keys_to_pb(i->in_flight, i->in_flight_count, arena, &pb->n_in_flight, &pb->in_flight));
    TRY(waits_to_pb(i->waits, i->waits_count, arena, &pb->waits));
    *out = pb;
    return OK;
}

struct status request__info_from_pb(const Dsql__Pb__TxnInfo *pb, struct arena *arena,
                                    const struct range_txn_info **out)
{
    struct range_txn_info *i = ARENA_NEW(arena, struct range_txn_info);

    if (i == NULL) {
        return no_memory();
    }
    if (pb->status > RANGE_TXN_ABORTED) {
        return damaged();
    }
    *i = (struct range_txn_info){
        .has_record = pb->has_record,
        .status = (enum range_txn_status)pb->status,
        .ts = request__hts_from_pb(pb->ts),
        .min_ts = request__hts_from_pb(pb->min_ts),
        .last_heartbeat = request__hts_from_pb(pb->last_heartbeat),
        .priority = pb->priority,
    };
    if (!uuid_from_pb(pb->id, &i->id)) {
        return damaged();
    }
    TRY(keys_from_pb(pb->in_flight, pb->n_in_flight, arena, &i->in_flight, &i->in_flight_count));
    TRY(waits_from_pb(pb->waits, arena, i));
    *out = i;
    return OK;
}
