/*
 * fuzz_desc.c -- arbitrary bytes as a table descriptor: refused, or the same again when encoded.
 */
#include "node/base/invariant.h"
#include "node/catalog/desc_codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct table_desc d;
    struct table_desc again;
    struct buf b = {0};
    struct arena arena;
    struct status st = OK;

    arena_init(&arena, 0);
    st = desc_decode(bytes_of(data, size), &arena, &d);
    if (status_ok(st)) {
        st = desc_encode(&d, &b);
        INVARIANT(status_ok(st));
        st = desc_decode(buf_bytes(&b), &arena, &again);
        INVARIANT(status_ok(st));
        INVARIANT(again.columns_count == d.columns_count);
        INVARIANT(strcmp(again.name, d.name) == 0);
        buf_deinit(&b);
    }
    arena_deinit(&arena);
    return 0;
}
