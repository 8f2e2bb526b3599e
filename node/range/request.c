/*
 * request.c -- batches and results as protobuf messages.
 *
 * Decoding trusts nothing: enums, sizes of ids and counts are checked here, so that evaluation meets only
 * values that its switches know. Whether a request makes sense (its span, its range) is evaluation's to say.
 * What belongs to transactions over ranges stands in request_txn.c.
 */
#include "node/range/request.h"

#include "node/base/arena.h"
#include "node/range/request_wire.h"
#include "node/rpc/pb_arena.h"

static struct status request_to_pb(const struct range_request *q, struct arena *arena,
                                   Dsql__Pb__Request *p)
{
    dsql__pb__request__init(p);
    p->op = (uint32_t)q->op;
    p->key = pb_binary(q->key);
    p->end = pb_binary(q->end);
    p->value = pb_binary(q->value);
    p->rows_max = q->rows_max;
    p->bytes_max = q->bytes_max;
    p->reverse = q->reverse;
    p->lock = (uint32_t)q->lock;
    TRY(request__hts_to_pb(q->since, arena, &p->since));
    return q->args == NULL ? OK : request__args_to_pb(q->args, arena, &p->args);
}

struct status range_batch_encode(const struct range_batch *b, struct arena *arena,
                                 struct bytes *out)
{
    Dsql__Pb__BatchRequest pb;
    Dsql__Pb__Request *requests = ARENA_ARRAY(arena, Dsql__Pb__Request, b->count + 1);
    Dsql__Pb__Request **pointers = ARENA_ARRAY(arena, Dsql__Pb__Request *, b->count + 1);

    if (requests == NULL || pointers == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    dsql__pb__batch_request__init(&pb);
    pb.range_id = b->range.v;
    pb.generation = b->generation;
    TRY(request__hts_to_pb(b->read_ts, arena, &pb.read_ts));
    TRY(request__hts_to_pb(b->commit_limit, arena, &pb.commit_limit));
    TRY(request__txn_to_pb(&b->txn, arena, &pb.txn));
    pb.intents = b->intents;
    pb.can_forward = b->can_forward;
    pb.replay = b->replay;
    pb.follower = b->follower;
    pb.wait = (uint32_t)b->wait;
    pb.lock_wait_ns = b->lock_wait_ns;
    pb.n_requests = b->count;
    pb.requests = pointers;
    for (uint32_t i = 0; i < b->count; i++) {
        TRY(request_to_pb(&b->requests[i], arena, &requests[i]));
        pointers[i] = &requests[i];
    }
    return pb_pack(&pb.base, arena, out);
}

static struct status damaged(void)
{
    return FAIL(STATUS_CORRUPT, "damaged batch request");
}

static struct status request_from_pb(const Dsql__Pb__Request *p, struct arena *arena,
                                     struct range_request *q)
{
    *q = (struct range_request){
        .op = (enum range_op)p->op,
        .key = pb_bytes(p->key),
        .end = pb_bytes(p->end),
        .value = pb_bytes(p->value),
        .rows_max = p->rows_max,
        .bytes_max = p->bytes_max,
        .reverse = p->reverse,
        .lock = (enum mvcc_strength)p->lock,
        .since = request__hts_from_pb(p->since),
    };
    if (p->op < RANGE_OP_GET || p->op >= RANGE_OP_COUNT || q->key.len == 0 ||
        p->lock >= MVCC_INTENT) {
        return damaged();
    }
    if (range_op_on_txn(q->op) != (p->args != NULL)) {
        return damaged();
    }
    return p->args == NULL ? OK : request__args_from_pb(p->args, arena, &q->args);
}

struct status range_batch_decode(struct bytes b, struct arena *arena, struct range_batch *out)
{
    ProtobufCAllocator allocator = pb_arena_allocator(arena);
    const Dsql__Pb__BatchRequest *pb = dsql__pb__batch_request__unpack(&allocator, b.len, b.ptr);
    struct range_request *requests = NULL;

    if (pb == NULL || pb->n_requests == 0 || pb->n_requests > RANGE_REQUESTS_MAX ||
        pb->wait > RANGE_WAIT_SKIP) {
        return damaged();
    }
    requests = ARENA_ARRAY(arena, struct range_request, pb->n_requests);
    if (requests == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    for (size_t i = 0; i < pb->n_requests; i++) {
        TRY(request_from_pb(pb->requests[i], arena, &requests[i]));
    }
    *out = (struct range_batch){
        .range.v = pb->range_id,
        .generation = pb->generation,
        .read_ts = request__hts_from_pb(pb->read_ts),
        .commit_limit = request__hts_from_pb(pb->commit_limit),
        .requests = requests,
        .count = (uint32_t)pb->n_requests,
        .intents = pb->intents,
        .can_forward = pb->can_forward,
        .replay = pb->replay,
        .follower = pb->follower,
        .wait = (enum range_wait)pb->wait,
        .lock_wait_ns = pb->lock_wait_ns,
    };
    return request__txn_from_pb(pb->txn, &out->txn);
}

/* ---- results ------------------------------------------------------------------------------------ */

static struct status descs_to_pb(const struct range_result *r, struct arena *arena,
                                 Dsql__Pb__BatchResponse *pb)
{
    Dsql__Pb__RangeDesc *descs = ARENA_ARRAY(arena, Dsql__Pb__RangeDesc, r->descs_count);

    pb->descs = ARENA_ARRAY(arena, Dsql__Pb__RangeDesc *, r->descs_count);
    pb->n_descs = r->descs_count;
    for (uint32_t i = 0; i < r->descs_count; i++) {
        Dsql__Pb__ReplicaDesc *reps = ARENA_ARRAY(arena, Dsql__Pb__ReplicaDesc, RAFT_PEERS_MAX);
        Dsql__Pb__ReplicaDesc **ptrs = ARENA_ARRAY(arena, Dsql__Pb__ReplicaDesc *, RAFT_PEERS_MAX);

        if (descs == NULL || pb->descs == NULL || reps == NULL || ptrs == NULL) {
            return FAIL(STATUS_MEMORY, "memory limit reached");
        }
        range_desc_to_pb(&r->descs[i], &descs[i], reps, ptrs);
        pb->descs[i] = &descs[i];
    }
    return OK;
}

static struct status responses_to_pb(const struct range_result *r, uint32_t count,
                                     struct arena *arena, Dsql__Pb__BatchResponse *pb)
{
    Dsql__Pb__Response *items = ARENA_ARRAY(arena, Dsql__Pb__Response, count + 1);

    pb->responses = ARENA_ARRAY(arena, Dsql__Pb__Response *, count + 1);
    if (items == NULL || pb->responses == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    pb->n_responses = count;
    for (uint32_t i = 0; i < count; i++) {
        const struct range_response *src = &r->responses[i];

        dsql__pb__response__init(&items[i]);
        items[i].found = src->found;
        items[i].value = pb_binary(src->value);
        items[i].rows = pb_binary(src->rows);
        items[i].rows_count = src->rows_count;
        items[i].more = src->more;
        items[i].resume = pb_binary(src->resume);
        if (src->txn != NULL) {
            TRY(request__info_to_pb(src->txn, arena, &items[i].txn));
        }
        pb->responses[i] = &items[i];
    }
    return OK;
}

struct status range_result_encode(const struct range_result *r, uint32_t count, struct arena *arena,
                                  struct bytes *out)
{
    Dsql__Pb__BatchResponse pb;

    dsql__pb__batch_response__init(&pb);
    pb.status = (uint32_t)r->st.code;
    pb.message = (char *)(uintptr_t)(r->st.msg == NULL ? "" : r->st.msg);
    TRY(request__hts_to_pb(r->read_ts, arena, &pb.read_ts));
    TRY(request__hts_to_pb(r->commit_ts, arena, &pb.commit_ts));
    TRY(request__hts_to_pb(r->uncertain_ts, arena, &pb.uncertain_ts));
    TRY(request__hts_to_pb(r->now, arena, &pb.now));
    pb.server = r->server.v;
    pb.conflict = r->conflict;
    pb.hint_node = r->hint_node.v;
    pb.hint_store = r->hint_store.v;
    if (r->descs_count > 0) {
        TRY(descs_to_pb(r, arena, &pb));
    }
    if (status_ok(r->st)) {
        TRY(responses_to_pb(r, count, arena, &pb));
    }
    return pb_pack(&pb.base, arena, out);
}

static struct status descs_from_pb(const Dsql__Pb__BatchResponse *pb, struct arena *arena,
                                   struct range_result *out)
{
    struct range_desc *descs = ARENA_ARRAY(arena, struct range_desc, pb->n_descs);

    if (descs == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    for (size_t i = 0; i < pb->n_descs; i++) {
        TRY(range_desc_from_pb(pb->descs[i], arena, &descs[i]));
    }
    out->descs = descs;
    out->descs_count = (uint32_t)pb->n_descs;
    return OK;
}

static struct status response_from_pb(const Dsql__Pb__Response *pb, struct arena *arena,
                                      struct range_response *out)
{
    *out = (struct range_response){
        .found = pb->found,
        .value = pb_bytes(pb->value),
        .rows = pb_bytes(pb->rows),
        .rows_count = pb->rows_count,
        .more = pb->more,
        .resume = pb_bytes(pb->resume),
    };
    return pb->txn == NULL ? OK : request__info_from_pb(pb->txn, arena, &out->txn);
}

struct status range_result_decode(struct bytes b, uint32_t count, struct arena *arena,
                                  struct range_result *out)
{
    ProtobufCAllocator allocator = pb_arena_allocator(arena);
    const Dsql__Pb__BatchResponse *pb = dsql__pb__batch_response__unpack(&allocator, b.len, b.ptr);

    if (pb == NULL || pb->status >= STATUS_CODE_COUNT ||
        (pb->status == STATUS_OK && pb->n_responses != count)) {
        return FAIL(STATUS_CORRUPT, "damaged batch response");
    }
    *out = (struct range_result){
        .st = pb->status == STATUS_OK ? OK : FAIL((enum status_code)pb->status, pb->message),
        .read_ts = request__hts_from_pb(pb->read_ts),
        .commit_ts = request__hts_from_pb(pb->commit_ts),
        .uncertain_ts = request__hts_from_pb(pb->uncertain_ts),
        .now = request__hts_from_pb(pb->now),
        .server.v = pb->server,
        .conflict = pb->conflict,
        .hint_node.v = pb->hint_node,
        .hint_store.v = pb->hint_store,
    };
    if (pb->n_descs > 0) {
        TRY(descs_from_pb(pb, arena, out));
    }
    if (pb->status != STATUS_OK) {
        return OK;
    }
    out->responses = ARENA_ARRAY(arena, struct range_response, count + 1);
    if (out->responses == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    for (uint32_t i = 0; i < count; i++) {
        TRY(response_from_pb(pb->responses[i], arena, &out->responses[i]));
    }
    return OK;
}
