/*
 * descriptor.c -- descriptors as bytes, as Raft configurations, as wire messages.
 *
 * The stored form is our own: varints behind a format byte. It is replicated data, compared between
 * replicas byte by byte, so it may not depend on how some version of a library orders its fields.
 */
#include "node/range/descriptor.h"

#include <string.h>

#include "node/base/codec.h"

#define DESC_FORMAT 1u

bool range_desc_contains(const struct range_desc *d, struct bytes key)
{
    return bytes_cmp(d->start, key) <= 0 && bytes_cmp(key, d->end) < 0;
}

const struct range_replica *range_desc_find(const struct range_desc *d, store_id store)
{
    for (uint32_t i = 0; i < d->replicas_count; i++) {
        if (d->replicas[i].store.v == store.v) {
            return &d->replicas[i];
        }
    }
    return NULL;
}

const struct range_replica *range_desc_find_id(const struct range_desc *d, replica_id id)
{
    for (uint32_t i = 0; i < d->replicas_count; i++) {
        if (d->replicas[i].id.v == id.v) {
            return &d->replicas[i];
        }
    }
    return NULL;
}

static enum raft_peer_type peer_type(enum range_replica_type type)
{
    switch (type) {
    case RANGE_VOTER:
        return RAFT_VOTER;
    case RANGE_VOTER_INCOMING:
        return RAFT_VOTER_INCOMING;
    case RANGE_VOTER_DEMOTING:
        return RAFT_VOTER_DEMOTING;
    case RANGE_NON_VOTER:
    case RANGE_LEARNER:
    case RANGE_REPLICA_TYPE_COUNT:
        break;
    }
    return RAFT_LEARNER;
}

void range_desc_conf(const struct range_desc *d, struct raft_conf *out)
{
    *out = (struct raft_conf){.count = d->replicas_count};
    for (uint32_t i = 0; i < d->replicas_count; i++) {
        const struct range_replica *r = &d->replicas[i];
        uint32_t at = i;

        while (at > 0 && out->peers[at - 1].id.v > r->id.v) {
            out->peers[at] = out->peers[at - 1];
            at--;
        }
        out->peers[at] = (struct raft_peer){r->id, r->store, peer_type(r->type)};
    }
}

bool range_desc_is_joint(const struct range_desc *d)
{
    for (uint32_t i = 0; i < d->replicas_count; i++) {
        if (d->replicas[i].type == RANGE_VOTER_INCOMING ||
            d->replicas[i].type == RANGE_VOTER_DEMOTING) {
            return true;
        }
    }
    return false;
}

struct status range_desc_dup(struct arena *arena, const struct range_desc *d,
                             struct range_desc *out)
{
    *out = *d;
    TRY(bytes_dup(arena, d->start, &out->start));
    return bytes_dup(arena, d->end, &out->end);
}

struct status range_desc_encode(const struct range_desc *d, struct buf *out)
{
    TRY(buf_append_u8(out, DESC_FORMAT));
    TRY(buf_append_varint(out, d->id.v));
    TRY(buf_append_lp(out, d->start));
    TRY(buf_append_lp(out, d->end));
    TRY(buf_append_varint(out, d->generation));
    TRY(buf_append_varint(out, d->next_replica));
    TRY(buf_append_varint(out, d->replicas_count));
    for (uint32_t i = 0; i < d->replicas_count; i++) {
        const struct range_replica *r = &d->replicas[i];

        TRY(buf_append_varint(out, r->node.v));
        TRY(buf_append_varint(out, r->store.v));
        TRY(buf_append_varint(out, r->id.v));
        TRY(buf_append_u8(out, (uint8_t)r->type));
    }
    return OK;
}

/* Somebody must vote, in each half of a joint configuration. */
static bool has_quorums(const struct range_desc *d)
{
    uint32_t before = 0;
    uint32_t after = 0;

    for (uint32_t i = 0; i < d->replicas_count; i++) {
        const enum range_replica_type type = d->replicas[i].type;

        before += type == RANGE_VOTER || type == RANGE_VOTER_DEMOTING ? 1 : 0;
        after += type == RANGE_VOTER || type == RANGE_VOTER_INCOMING ? 1 : 0;
    }
    return before > 0 && after > 0;
}

/* What no descriptor of ours would say. */
static struct status check(const struct range_desc *d)
{
    if (!has_quorums(d)) {
        return FAIL(STATUS_CORRUPT, "range descriptor without voters");
    }
    if (d->id.v == 0 || bytes_cmp(d->start, d->end) >= 0) {
        return FAIL(STATUS_CORRUPT, "range descriptor without keys");
    }
    for (uint32_t i = 0; i < d->replicas_count; i++) {
        const struct range_replica *r = &d->replicas[i];

        if (r->node.v == 0 || r->store.v == 0 || r->id.v == 0 || r->id.v >= d->next_replica ||
            (unsigned)r->type >= RANGE_REPLICA_TYPE_COUNT) {
            return FAIL(STATUS_CORRUPT, "range descriptor with an impossible replica");
        }
        for (uint32_t k = 0; k < i; k++) {
            if (d->replicas[k].id.v == r->id.v || d->replicas[k].store.v == r->store.v) {
                return FAIL(STATUS_CORRUPT, "range descriptor with a replica twice");
            }
        }
    }
    return OK;
}

static uint32_t read_u32(struct reader *r)
{
    const uint64_t v = read_varint(r);

    if (v > UINT32_MAX) {
        r->bad = true;
    }
    return (uint32_t)v;
}

struct status range_desc_decode(struct bytes b, struct arena *arena, struct range_desc *out)
{
    struct reader r = reader_of(b);
    const uint8_t format = read_u8(&r);

    *out = (struct range_desc){.id.v = read_varint(&r)};
    out->start = read_lp_bytes(&r);
    out->end = read_lp_bytes(&r);
    out->generation = read_varint(&r);
    out->next_replica = read_u32(&r);
    out->replicas_count = read_u32(&r);
    if (format != DESC_FORMAT || r.bad || out->replicas_count > RAFT_PEERS_MAX) {
        return FAIL(STATUS_CORRUPT, "damaged range descriptor");
    }
    for (uint32_t i = 0; i < out->replicas_count; i++) {
        out->replicas[i].node.v = read_u32(&r);
        out->replicas[i].store.v = read_u32(&r);
        out->replicas[i].id.v = read_u32(&r);
        out->replicas[i].type = (enum range_replica_type)read_u8(&r);
    }
    if (r.bad || r.rest.len != 0) {
        return FAIL(STATUS_CORRUPT, "damaged range descriptor");
    }
    TRY(check(out));
    return range_desc_dup(arena, out, out);
}

void range_desc_to_pb(const struct range_desc *d, Dsql__Pb__RangeDesc *pb,
                      Dsql__Pb__ReplicaDesc *pb_replicas, Dsql__Pb__ReplicaDesc **pb_pointers)
{
    dsql__pb__range_desc__init(pb);
    pb->range_id = d->id.v;
    pb->start = (ProtobufCBinaryData){d->start.len, (uint8_t *)(uintptr_t)d->start.ptr};
    pb->end = (ProtobufCBinaryData){d->end.len, (uint8_t *)(uintptr_t)d->end.ptr};
    pb->next_replica = d->next_replica;
    pb->generation = d->generation;
    pb->n_replicas = d->replicas_count;
    pb->replicas = pb_pointers;
    for (uint32_t i = 0; i < d->replicas_count; i++) {
        dsql__pb__replica_desc__init(&pb_replicas[i]);
        pb_replicas[i].node = d->replicas[i].node.v;
        pb_replicas[i].store = d->replicas[i].store.v;
        pb_replicas[i].replica = d->replicas[i].id.v;
        pb_replicas[i].type = (uint32_t)d->replicas[i].type;
        pb_pointers[i] = &pb_replicas[i];
    }
}

struct status range_desc_from_pb(const Dsql__Pb__RangeDesc *pb, struct arena *arena,
                                 struct range_desc *out)
{
    if (pb->n_replicas > RAFT_PEERS_MAX) {
        return FAIL(STATUS_CORRUPT, "range descriptor with too many replicas");
    }
    *out = (struct range_desc){
        .id.v = pb->range_id,
        .start = bytes_of(pb->start.data, pb->start.len),
        .end = bytes_of(pb->end.data, pb->end.len),
        .next_replica = pb->next_replica,
        .generation = pb->generation,
        .replicas_count = (uint32_t)pb->n_replicas,
    };
    for (size_t i = 0; i < pb->n_replicas; i++) {
        out->replicas[i] = (struct range_replica){{pb->replicas[i]->node},
                                                  {pb->replicas[i]->store},
                                                  {pb->replicas[i]->replica},
                                                  (enum range_replica_type)pb->replicas[i]->type};
    }
    TRY(check(out));
    return range_desc_dup(arena, out, out);
}
