/*
 * fuzz_frame.c -- foreign bytes against the frame decoder and the splitter of the TCP stream.
 *
 * The first byte chooses: the bytes as one frame; as a stream that arrives in pieces; or, because no
 * fuzzer guesses a checksum, as fields of a frame that is then made whole and must survive.
 */
#include <stdlib.h>

#include "node/base/codec.h"
#include "node/base/hash.h"
#include "node/base/invariant.h"
#include "node/rpc/rpc_frame.h"

#define FRAME_MAX 65536u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode(struct bytes frame)
{
    enum status_code code = STATUS_OK;
    struct rpc_message m;
    struct uuid cluster;

    if (!status_ok(rpc_frame_decode(frame, &m, &cluster, &code))) {
        return;
    }
    INVARIANT(m.body.len + RPC_HEADER_BYTES == frame.len);
    INVARIANT(code < STATUS_CODE_COUNT);
    INVARIANT(m.flags <= RPC_FLAG_CALL);
}

/* Both ways of cutting must find the same frames: all at once, and byte by byte. */
static size_t split_all(struct bytes in, size_t step, bool *corrupt)
{
    size_t start = 0;
    size_t end = 0;

    *corrupt = false;
    for (;;) {
        struct bytes frame;

        if (!status_ok(rpc_frame_split(bytes_of(in.ptr + start, end - start), FRAME_MAX, &frame))) {
            *corrupt = true;
            return start;
        }
        INVARIANT(frame.len == 0 || (frame.len >= RPC_HEADER_BYTES && frame.len <= FRAME_MAX));
        if (frame.len > 0) {
            INVARIANT(frame.ptr == in.ptr + start && frame.len <= end - start);
            (void)rpc_frame_type(frame);
            (void)rpc_frame_from_node(frame);
            decode(frame);
            start += frame.len;
        } else if (end == in.len) {
            return start;
        } else {
            end = in.len - end < step ? in.len : end + step;
        }
    }
}

static void split(struct bytes in)
{
    bool corrupt_whole = false;
    bool corrupt_bytes = false;

    INVARIANT(split_all(in, in.len + 1, &corrupt_whole) == split_all(in, 1, &corrupt_bytes));
    INVARIANT(corrupt_whole == corrupt_bytes);
}

static void round_trip(struct bytes in)
{
    struct reader r = reader_of(in);
    struct rpc_header h = {
        .from_node = {read_be32(&r)},
        .to_node = {read_be32(&r)},
        .from_store = {read_be32(&r)},
        .to_store = {read_be32(&r)},
        .hlc = {read_be64(&r), read_be32(&r)},
        .call_id = read_be64(&r),
        .type = read_be16(&r),
        .status = (uint16_t)(read_be16(&r) % STATUS_CODE_COUNT),
        .flags = (uint8_t)(read_u8(&r) % 3),
    };
    enum status_code code = STATUS_OK;
    struct rpc_message m;
    struct uuid cluster;
    uint8_t *frame = NULL;

    if (r.bad) {
        return;
    }
    frame = malloc(RPC_HEADER_BYTES + r.rest.len);
    INVARIANT(frame != NULL);
    rpc_frame_header_put(frame, &h, &r.rest, 1, true);
    if (r.rest.len > 0) {
        memcpy(frame + RPC_HEADER_BYTES, r.rest.ptr, r.rest.len);
    }
    INVARIANT(status_ok(
        rpc_frame_decode(bytes_of(frame, RPC_HEADER_BYTES + r.rest.len), &m, &cluster, &code)));
    INVARIANT(m.from_node.v == h.from_node.v && m.to_store.v == h.to_store.v);
    INVARIANT(m.call_id == h.call_id && m.flags == h.flags && code == (enum status_code)h.status);
    INVARIANT(bytes_eq(m.body, r.rest));
    free(frame);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes rest;

    if (size == 0) {
        return 0;
    }
    rest = bytes_of(data + 1, size - 1);
    switch (data[0] % 3) {
    case 0:
        decode(rest);
        break;
    case 1:
        split(rest);
        break;
    default:
        round_trip(rest);
        break;
    }
    return 0;
}
