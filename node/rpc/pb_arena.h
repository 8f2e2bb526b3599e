/*
 * pb_arena.h -- protobuf-c messages in arenas: unpacked objects are freed with the arena.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>

#include "node/base/arena.h"
#include "node/base/bytes.h"

static inline void *pb_arena_alloc(void *arena, size_t size)
{
    return arena_alloc((struct arena *)arena, size, 16);
}

static inline void pb_arena_free(void *arena, void *p)
{
    (void)arena;
    (void)p;
}

static inline ProtobufCAllocator pb_arena_allocator(struct arena *arena)
{
    return (ProtobufCAllocator){pb_arena_alloc, pb_arena_free, arena};
}

static inline struct bytes pb_bytes(ProtobufCBinaryData b)
{
    return bytes_of(b.data, b.len);
}

static inline ProtobufCBinaryData pb_binary(struct bytes b)
{
    return (ProtobufCBinaryData){b.len, (uint8_t *)(uintptr_t)b.ptr};
}

/* Packs into the arena. Errors: STATUS_MEMORY. */
static inline struct status pb_pack(const ProtobufCMessage *m, struct arena *arena,
                                    struct bytes *out)
{
    const size_t size = protobuf_c_message_get_packed_size(m);
    uint8_t *mem = arena_alloc(arena, size == 0 ? 1 : size, 1);

    if (mem == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    *out = bytes_of(mem, protobuf_c_message_pack(m, mem));
    return OK;
}
