/*
 * rpc_frame.c -- frames to bytes and back.
 *
 * A frame is trusted only after its checksum: TCP's own 16 bits let an error through every few
 * terabytes, and a flipped bit in a Raft entry would be replicated for ever. The first eight bytes
 * (length, magic, version, flags) stand before the checksum, so they seed it: no bit of a frame may
 * change unseen.
 *
 * The version is looked at before the checksum, because another version may compute that otherwise.
 */
#include "node/rpc/rpc_frame.h"

#include "node/base/codec.h"
#include "node/base/hash.h"
#include "node/base/invariant.h"

#define MAGIC_0         ((uint8_t)'d')
#define MAGIC_1         ((uint8_t)'q')
#define AT_MAGIC        4u
#define AT_VERSION      6u
#define AT_FLAGS        7u
#define AT_CHECKSUM     8u
#define AT_CLUSTER      16u
#define AT_FROM_NODE    32u
#define AT_TO_NODE      36u
#define AT_FROM_STORE   40u
#define AT_TO_STORE     44u
#define AT_HLC_WALL     48u
#define AT_HLC_LOGICAL  56u
#define AT_TYPE         60u
#define AT_STATUS       62u
#define AT_CALL_ID      64u
#define FLAGS_KNOWN     (RPC_FLAG_REPLY | RPC_FLAG_CALL)
#define LENGTH_OWN_SIZE 4u /* The length field does not count itself. */

_Static_assert(AT_CALL_ID + 8 == RPC_HEADER_BYTES, "the header has no holes");
_Static_assert(RPC_FRAME_MAX <= UINT32_MAX, "a length fits its field");

void rpc_frame_header_put(uint8_t out[RPC_HEADER_BYTES], const struct rpc_header *h,
                          const struct bytes *body, uint32_t body_parts, bool checked)
{
    size_t size = RPC_HEADER_BYTES - LENGTH_OWN_SIZE;

    for (uint32_t i = 0; i < body_parts; i++) {
        size += body[i].len;
    }
    INVARIANT(size <= RPC_FRAME_MAX - LENGTH_OWN_SIZE);
    be32_put(out, (uint32_t)size);
    out[AT_MAGIC] = MAGIC_0;
    out[AT_MAGIC + 1] = MAGIC_1;
    out[AT_VERSION] = RPC_PROTO_VERSION;
    out[AT_FLAGS] = h->flags;
    be64_put(out + AT_CHECKSUM, 0);
    memcpy(out + AT_CLUSTER, h->cluster.b, sizeof(h->cluster.b));
    be32_put(out + AT_FROM_NODE, h->from_node.v);
    be32_put(out + AT_TO_NODE, h->to_node.v);
    be32_put(out + AT_FROM_STORE, h->from_store.v);
    be32_put(out + AT_TO_STORE, h->to_store.v);
    be64_put(out + AT_HLC_WALL, h->hlc.wall);
    be32_put(out + AT_HLC_LOGICAL, h->hlc.logical);
    be16_put(out + AT_TYPE, h->type);
    be16_put(out + AT_STATUS, h->status);
    be64_put(out + AT_CALL_ID, h->call_id);
    if (checked) {
        const struct bytes rest = bytes_of(out + AT_CLUSTER, RPC_HEADER_BYTES - AT_CLUSTER);

        be64_put(out + AT_CHECKSUM, hash64_chained(rest, body, body_parts, be64_get(out)));
    }
}

static struct status check_prefix(struct bytes frame)
{
    if (frame.len < RPC_HEADER_BYTES || frame.len > RPC_FRAME_MAX) {
        return FAIL(STATUS_CORRUPT, "a frame of impossible size");
    }
    if (frame.ptr[AT_MAGIC] != MAGIC_0 || frame.ptr[AT_MAGIC + 1] != MAGIC_1) {
        return FAIL(STATUS_CORRUPT, "not a frame of this protocol");
    }
    if (be32_get(frame.ptr) != frame.len - LENGTH_OWN_SIZE) {
        return FAIL(STATUS_CORRUPT, "a frame's length is not what it says");
    }
    if (frame.ptr[AT_VERSION] < RPC_PROTO_VERSION_MIN ||
        frame.ptr[AT_VERSION] > RPC_PROTO_VERSION) {
        return FAIL(STATUS_UNSUPPORTED, "a protocol version that this node does not speak");
    }
    return OK;
}

struct status rpc_frame_decode_local(struct bytes frame, struct rpc_message *m,
                                     struct uuid *cluster_out, enum status_code *reply_status_out)
{
    const uint8_t *p = frame.ptr;

    TRY(check_prefix(frame));
    if ((p[AT_FLAGS] & ~FLAGS_KNOWN) != 0 || (p[AT_FLAGS] & FLAGS_KNOWN) == FLAGS_KNOWN) {
        return FAIL(STATUS_CORRUPT, "a frame with impossible flags");
    }
    /* A newer peer's code means to us: not done as far as we can tell. */
    *reply_status_out = be16_get(p + AT_STATUS) < STATUS_CODE_COUNT
                            ? (enum status_code)be16_get(p + AT_STATUS)
                            : STATUS_UNAVAILABLE;
    memcpy(cluster_out->b, p + AT_CLUSTER, sizeof(cluster_out->b));
    *m = (struct rpc_message){
        .type = (enum rpc_type)rpc_frame_type(frame),
        .flags = p[AT_FLAGS],
        .version = p[AT_VERSION],
        .from_node = {be32_get(p + AT_FROM_NODE)},
        .from_store = {be32_get(p + AT_FROM_STORE)},
        .to_node = {be32_get(p + AT_TO_NODE)},
        .to_store = {be32_get(p + AT_TO_STORE)},
        .hlc = {be64_get(p + AT_HLC_WALL), be32_get(p + AT_HLC_LOGICAL)},
        .call_id = be64_get(p + AT_CALL_ID),
        .body = bytes_skip(frame, RPC_HEADER_BYTES),
    };
    return OK;
}

struct status rpc_frame_decode(struct bytes frame, struct rpc_message *m, struct uuid *cluster_out,
                               enum status_code *reply_status_out)
{
    TRY(check_prefix(frame));
    if (hash64(bytes_skip(frame, AT_CLUSTER), be64_get(frame.ptr)) !=
        be64_get(frame.ptr + AT_CHECKSUM)) {
        return FAIL(STATUS_CORRUPT, "a frame fails its checksum");
    }
    return rpc_frame_decode_local(frame, m, cluster_out, reply_status_out);
}

struct status rpc_frame_split(struct bytes in, size_t frame_max, struct bytes *frame_out)
{
    size_t size = 0;

    *frame_out = BYTES_EMPTY;
    if (in.len < RPC_PREFIX_SIZE) {
        return OK;
    }
    size = (size_t)be32_get(in.ptr) + LENGTH_OWN_SIZE;
    if (in.ptr[AT_MAGIC] != MAGIC_0 || in.ptr[AT_MAGIC + 1] != MAGIC_1) {
        return FAIL(STATUS_CORRUPT, "not a frame of this protocol");
    }
    if (size < RPC_HEADER_BYTES || size > frame_max) {
        return FAIL(STATUS_CORRUPT, "a frame of impossible size");
    }
    if (in.len >= size) {
        *frame_out = bytes_of(in.ptr, size);
    }
    return OK;
}

uint16_t rpc_frame_type(struct bytes frame)
{
    return be16_get(frame.ptr + AT_TYPE);
}

bool rpc_frame_is_call(struct bytes frame)
{
    return (frame.ptr[AT_FLAGS] & RPC_FLAG_CALL) != 0;
}

uint64_t rpc_frame_call_id(struct bytes frame)
{
    return be64_get(frame.ptr + AT_CALL_ID);
}

node_id rpc_frame_from_node(struct bytes frame)
{
    return (node_id){be32_get(frame.ptr + AT_FROM_NODE)};
}
