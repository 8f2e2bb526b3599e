/*
 * rpc_frame.h -- the bytes of a frame; layout in rpc.h. For this folder and its tests.
 */
#pragma once

#include "node/rpc/rpc.h"

#define RPC_FRAME_MAX   (RPC_HEADER_BYTES + RPC_BODY_MAX)
#define RPC_PREFIX_SIZE 8u /* Length, magic, version, flags: what a splitter looks at. */

struct rpc_header {
    struct uuid cluster;
    node_id from_node;
    node_id to_node;
    store_id from_store;
    store_id to_store;
    struct hclock hlc;
    uint64_t call_id;
    uint16_t type;
    uint16_t status; /* Of a reply: enum status_code. */
    uint8_t flags;
};

/*
 * Writes the header of a frame with these body parts. checked = false leaves the checksum 0, for
 * frames that never leave the process.
 */
NOYIELD void rpc_frame_header_put(uint8_t out[RPC_HEADER_BYTES], const struct rpc_header *h,
                                  const struct bytes *body, uint32_t body_parts, bool checked);

/* rpc_frame_decode() without the checksum: for frames written with checked = false. */
NOYIELD NODISCARD struct status rpc_frame_decode_local(struct bytes frame, struct rpc_message *m,
                                                       struct uuid *cluster_out,
                                                       enum status_code *reply_status_out);

/*
 * Finds the first frame of a stream. *frame_out is empty when more bytes are needed. Nothing but
 * prefix and length is checked: garbage is refused before anything is allocated for it.
 * Errors: STATUS_CORRUPT (not our protocol, or longer than frame_max).
 */
NOYIELD NODISCARD struct status rpc_frame_split(struct bytes in, size_t frame_max,
                                                struct bytes *frame_out);

/* Fields of a frame that rpc_frame_split() returned, unchecked. */
NOYIELD uint16_t rpc_frame_type(struct bytes frame);
NOYIELD bool rpc_frame_is_call(struct bytes frame);
NOYIELD uint64_t rpc_frame_call_id(struct bytes frame);
NOYIELD node_id rpc_frame_from_node(struct bytes frame);
