/*
 * test_frame.c -- frames survive the wire, and nothing else passes for one.
 */
#include <stdlib.h>

#include "node/base/codec.h"
#include "node/base/hash.h"
#include "node/rpc/rpc_frame.h"
#include "tests/lib/test.h"

#define BODY_BIG 3000u

static struct rpc_header random_header(struct rng *g)
{
    struct rpc_header h = {
        .from_node = {(uint32_t)rng_next(g)},
        .to_node = {(uint32_t)rng_next(g)},
        .from_store = {(uint32_t)rng_next(g)},
        .to_store = {(uint32_t)rng_next(g)},
        .hlc = {rng_next(g), (uint32_t)rng_next(g)},
        .call_id = rng_next(g),
        .type = (uint16_t)rng_next(g),
        .status = (uint16_t)rng_below(g, STATUS_CODE_COUNT),
        .flags = (uint8_t)rng_below(g, 3),
    };

    for (size_t i = 0; i < sizeof(h.cluster.b); i++) {
        h.cluster.b[i] = (uint8_t)rng_next(g);
    }
    return h;
}

/* A whole frame of random parts in memory of exactly its size, so that ASan sees every step too far. */
static uint8_t *make_frame(struct rng *g, const struct rpc_header *h, size_t body, size_t *size_out)
{
    uint8_t *frame = malloc(RPC_HEADER_BYTES + body);
    struct bytes parts[4];
    size_t at = 0;

    for (size_t i = 0; i < body; i++) {
        frame[RPC_HEADER_BYTES + i] = (uint8_t)rng_next(g);
    }
    for (size_t i = 0; i < ARRAY_COUNT(parts); i++) {
        const size_t left = body - at;
        const size_t n = i + 1 == ARRAY_COUNT(parts) ? left : (size_t)rng_between(g, 0, left);

        parts[i] = bytes_of(frame + RPC_HEADER_BYTES + at, n);
        at += n;
    }
    rpc_frame_header_put(frame, h, parts, ARRAY_COUNT(parts), true);
    *size_out = RPC_HEADER_BYTES + body;
    return frame;
}

static struct status decode(const uint8_t *frame, size_t size)
{
    enum status_code code = STATUS_OK;
    struct rpc_message m;
    struct uuid cluster;

    return rpc_frame_decode(bytes_of(frame, size), &m, &cluster, &code);
}

/* The checksum over parts is that over the whole. */
TEST(frame, every_field_survives)
{
    struct rng g;

    rng_seed(&g, 7);
    for (int round = 0; round < 300; round++) {
        const struct rpc_header h = random_header(&g);
        enum status_code code = STATUS_OK;
        struct rpc_message m;
        struct uuid cluster;
        size_t size = 0;
        uint8_t *frame = make_frame(&g, &h, (size_t)rng_below(&g, BODY_BIG), &size);

        EXPECT_OK(rpc_frame_decode(bytes_of(frame, size), &m, &cluster, &code));
        EXPECT_TRUE(uuid_eq(h.cluster, cluster));
        EXPECT_EQ(h.status, code);
        EXPECT_EQ(h.type, m.type);
        EXPECT_EQ(h.flags, m.flags);
        EXPECT_EQ(RPC_PROTO_VERSION, m.version);
        EXPECT_EQ(h.from_node.v, m.from_node.v);
        EXPECT_EQ(h.to_node.v, m.to_node.v);
        EXPECT_EQ(h.from_store.v, m.from_store.v);
        EXPECT_EQ(h.to_store.v, m.to_store.v);
        EXPECT_TRUE(h.hlc.wall == m.hlc.wall && h.hlc.logical == m.hlc.logical);
        EXPECT_TRUE(h.call_id == m.call_id);
        EXPECT_BYTES_EQ(bytes_of(frame + RPC_HEADER_BYTES, size - RPC_HEADER_BYTES), m.body);
        free(frame);
    }
}

/* The first eight bytes stand before the checksum and seed it: they count too. */
TEST(frame, every_flipped_bit_is_seen)
{
    struct rng g;
    struct rpc_header h;
    size_t size = 0;
    uint8_t *frame = NULL;

    rng_seed(&g, 11);
    h = random_header(&g);
    frame = make_frame(&g, &h, 40, &size);
    EXPECT_OK(decode(frame, size));
    for (size_t bit = 0; bit < size * 8; bit++) {
        frame[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        if (status_ok(decode(frame, size))) {
            test_fail(__FILE__, __LINE__, "bit %zu flipped unseen", bit);
        }
        frame[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    EXPECT_OK(decode(frame, size));
    free(frame);
}

TEST(frame, truncation_is_seen)
{
    struct rng g;
    struct rpc_header h;
    size_t size = 0;
    uint8_t *frame = NULL;

    rng_seed(&g, 13);
    h = random_header(&g);
    frame = make_frame(&g, &h, 100, &size);
    for (size_t n = 0; n < size; n++) {
        uint8_t *cut = malloc(n + 1);

        memcpy(cut, frame, n);
        EXPECT_CODE(STATUS_CORRUPT, decode(cut, n));
        free(cut);
    }
    free(frame);
}

TEST(frame, other_version_is_named)
{
    struct rng g;
    struct rpc_header h;
    size_t size = 0;
    uint8_t *frame = NULL;

    rng_seed(&g, 17);
    h = random_header(&g);
    frame = make_frame(&g, &h, 10, &size);
    frame[6] = RPC_PROTO_VERSION + 1;
    EXPECT_CODE(STATUS_UNSUPPORTED, decode(frame, size));
    frame[6] = RPC_PROTO_VERSION_MIN - 1;
    EXPECT_CODE(STATUS_UNSUPPORTED, decode(frame, size));
    free(frame);
}

/* A reply whose code we do not know leaves its outcome open. */
TEST(frame, unknown_status_of_a_newer_peer_is_unavailable)
{
    const struct rpc_header h = {.flags = RPC_FLAG_REPLY, .status = STATUS_CODE_COUNT};
    enum status_code code = STATUS_OK;
    uint8_t frame[RPC_HEADER_BYTES];
    struct rpc_message m;
    struct uuid cluster;

    rpc_frame_header_put(frame, &h, NULL, 0, true);
    EXPECT_OK(rpc_frame_decode(bytes_of(frame, sizeof(frame)), &m, &cluster, &code));
    EXPECT_EQ(STATUS_UNAVAILABLE, code);
}

TEST(frame, call_and_reply_exclude_each_other)
{
    const struct rpc_header h = {.flags = RPC_FLAG_REPLY | RPC_FLAG_CALL};
    uint8_t frame[RPC_HEADER_BYTES];

    rpc_frame_header_put(frame, &h, NULL, 0, true);
    EXPECT_CODE(STATUS_CORRUPT, decode(frame, sizeof(frame)));
}

/* However a stream is cut into reads, the same frames come out. */
TEST(frame, splitter_finds_frames_in_any_chunks)
{
    struct rng g;
    struct buf stream = {0};
    size_t sizes[20];

    rng_seed(&g, 19);
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        const struct rpc_header h = random_header(&g);
        uint8_t *frame = make_frame(&g, &h, (size_t)rng_below(&g, 200), &sizes[i]);

        EXPECT_OK(buf_append(&stream, frame, sizes[i]));
        free(frame);
    }
    for (int round = 0; round < 50; round++) {
        size_t start = 0;
        size_t end = 0;
        size_t found = 0;

        while (found < ARRAY_COUNT(sizes)) {
            struct bytes frame;

            EXPECT_OK(rpc_frame_split(bytes_of(stream.ptr + start, end - start), 4096, &frame));
            if (frame.len > 0) {
                EXPECT_EQ(sizes[found], frame.len);
                EXPECT_OK(decode(frame.ptr, frame.len));
                start += frame.len;
                found++;
            } else {
                EXPECT_TRUE(end < stream.len);
                end += (size_t)rng_between(&g, 1, stream.len - end);
            }
        }
        EXPECT_EQ(stream.len, start);
    }
    buf_deinit(&stream);
}

TEST(frame, splitter_refuses_garbage_before_it_grows)
{
    uint8_t prefix[RPC_PREFIX_SIZE] = {0, 0, 0, 0, 'd', 'q', 1, 0};
    struct bytes frame;

    EXPECT_CODE(STATUS_CORRUPT,
                rpc_frame_split(BYTES_LIT("GET / HTTP/1.1\r\n"), RPC_FRAME_MAX, &frame));
    EXPECT_OK(rpc_frame_split(BYTES_LIT("GET / H"), RPC_FRAME_MAX, &frame));
    EXPECT_EQ(0, frame.len);

    be32_put(prefix, RPC_FRAME_MAX - 4);
    EXPECT_OK(rpc_frame_split(bytes_of(prefix, sizeof(prefix)), RPC_FRAME_MAX, &frame));
    be32_put(prefix, RPC_FRAME_MAX - 3);
    EXPECT_CODE(STATUS_CORRUPT,
                rpc_frame_split(bytes_of(prefix, sizeof(prefix)), RPC_FRAME_MAX, &frame));
    be32_put(prefix, UINT32_MAX);
    EXPECT_CODE(STATUS_CORRUPT,
                rpc_frame_split(bytes_of(prefix, sizeof(prefix)), RPC_FRAME_MAX, &frame));
    be32_put(prefix, RPC_HEADER_BYTES - 5);
    EXPECT_CODE(STATUS_CORRUPT,
                rpc_frame_split(bytes_of(prefix, sizeof(prefix)), RPC_FRAME_MAX, &frame));
}

TEST(frame, chained_hash_is_the_hash_of_the_whole)
{
    uint8_t data[1000];
    struct rng g;

    rng_seed(&g, 23);
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)rng_next(&g);
    }
    for (size_t n = 0; n <= sizeof(data); n += 37) {
        const size_t cut = n / 3;
        const struct bytes parts[2] = {BYTES_EMPTY, bytes_of(data + cut, n - cut)};

        EXPECT_TRUE(hash64(bytes_of(data, n), 99) ==
                    hash64_chained(bytes_of(data, cut), parts, 2, 99));
    }
}
