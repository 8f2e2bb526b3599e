/*
 * fuzz_key.c -- foreign bytes against every decoder of node/storage.
 *
 * The first byte selects the decoder, the rest is its input. What is checked beside "no crash":
 * what a decoder accepts, the encoder writes again byte for byte (keys are canonical), and skipping
 * a column agrees with decoding it.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "node/base/arena.h"
#include "node/base/invariant.h"
#include "node/storage/engine/engine.h"
#include "node/storage/key/key.h"
#include "node/storage/key/row.h"
#include "node/storage/mvcc/mvcc.h"

#define FUZZ_KEY_ROOM ((size_t)1 << 16)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Decodes one column of known kind and encodes it again. False: no encoder for what came out. */
static bool again(struct reader *r, enum key_kind kind, enum key_order o, struct arena *arena,
                  struct key_enc *e)
{
    uint8_t addr[16];
    uint8_t prefix_len = 0;
    int family = 0;
    int64_t us = 0;
    int32_t zone = 0;

    if (kind == KEY_KIND_BOOL) {
        key_enc_bool(e, o, key_dec_bool(r, o));
    } else if (kind == KEY_KIND_INT) {
        key_enc_int(e, o, key_dec_int(r, o));
    } else if (kind == KEY_KIND_FLOAT) {
        key_enc_float(e, o, key_dec_float(r, o));
    } else if (kind == KEY_KIND_NUMERIC) {
        const struct key_numeric n = key_dec_numeric(r, o, arena);

        key_enc_numeric(e, o, &n);
    } else if (kind == KEY_KIND_TEXT) {
        key_enc_text(e, o, key_dec_bytes(r, o, arena));
    } else if (kind == KEY_KIND_BYTEA) {
        key_enc_bytea(e, o, key_dec_bytes(r, o, arena));
    } else if (kind == KEY_KIND_ENUM) {
        key_enc_enum(e, o, key_dec_bytes(r, o, arena));
    } else if (kind == KEY_KIND_UUID) {
        key_enc_uuid(e, o, key_dec_uuid(r, o));
    } else if (kind == KEY_KIND_INET) {
        key_dec_inet(r, o, &family, addr, &prefix_len);
        if (!r->bad) {
            key_enc_inet(e, o, family, addr, prefix_len);
        }
    } else if (kind == KEY_KIND_TIMETZ) {
        key_dec_timetz(r, o, &us, &zone);
        key_enc_timetz(e, o, us, zone);
    } else {
        return false;
    }
    return !r->bad;
}

static void fuzz_columns(struct bytes input, struct arena *arena)
{
    uint8_t *mem = malloc(FUZZ_KEY_ROOM);
    struct reader r = reader_of(input);

    while (mem != NULL && !r.bad && r.rest.len > 0) {
        const struct bytes before = r.rest;
        const enum key_order o = before.ptr[0] > 0x60 ? KEY_DESC : KEY_ASC;
        const enum key_kind kind = key_dec_peek(&r);
        struct reader skipped = r;
        struct bytes written = BYTES_EMPTY;
        struct key_enc e;

        if (!key_dec_skip(&skipped)) {
            break;
        }
        key_enc_init(&e, mem, FUZZ_KEY_ROOM);
        if (again(&r, kind, o, arena, &e) && status_ok(key_enc_finish(&e, &written))) {
            INVARIANT(skipped.rest.len == r.rest.len);
            INVARIANT(bytes_eq(written, bytes_of(before.ptr, before.len - r.rest.len)));
        }
        r = skipped;
    }
    free(mem);
}

static void fuzz_row(struct bytes input)
{
    struct key_row_column c;
    struct key_row_dec d;
    struct key_row_enc e;
    struct buf b;

    buf_init(&b, 0);
    key_row_enc_init(&e, &b);
    key_row_dec_init(&d, input);
    while (key_row_next(&d, &c)) {
        INVARIANT(status_ok(key_row_put(&e, &c)));
    }
    buf_deinit(&b);
}

static void fuzz_batch(struct bytes input)
{
    struct engine_batch b;
    struct bytes rest = input;
    struct engine_op op;
    bool bad = false;

    while (engine_ops_next(&rest, &op, &bad)) {
        INVARIANT(op.key.len > 0);
    }
    engine_batch_init(&b);
    INVARIANT(status_ok(engine_batch_append(&b, input, false)) == !bad);
    engine_batch_deinit(&b);
}

static void fuzz_keys(struct bytes input, struct arena *arena)
{
    struct bytes out = BYTES_EMPTY;
    struct uuid txn;
    uint8_t strength = 0;
    uint32_t family = 0;
    enum key_raft_tag tag = KEY_RAFT_LOG;
    uint64_t index = 0;
    range_id id;

    INVARIANT(bytes_starts_with(input, key_filter_prefix(input)));
    (void)key_is_versioned(input);
    (void)key_split_lock(input, &out, &strength, &txn);
    (void)key_raft_split(input, &id, &tag, &index);
    (void)key_dec_meta(input, arena, &out);
    INVARIANT(key_text(arena, input) != NULL);
    if (status_ok(key_row_split(input, &out, &family))) {
        INVARIANT(out.len + 1 == input.len && family <= KEY_FAMILY_MAX);
    }
    if (status_ok(key_address(arena, input, &out))) {
        INVARIANT(out.len <= input.len);
    }
}

static void fuzz_stored(struct bytes input)
{
    const struct bytes key = BYTES_LIT("\x88\x89\x28\x88");
    struct mvcc_version v = {.flags = 0};
    struct mvcc_lock l;
    struct buf b;

    if (status_ok(mvcc_version_decode(key, hts_ms(5), input, &v))) {
        buf_init(&b, 0);
        INVARIANT(status_ok(mvcc_version_encode(&b, key, hts_ms(5), &v)));
        buf_deinit(&b);
    }
    if (input.len > 24 &&
        status_ok(mvcc_lock_decode(bytes_of(input.ptr, 24), bytes_skip(input, 24), &l))) {
        INVARIANT(l.strength >= MVCC_SHARED && l.strength <= MVCC_INTENT);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct bytes input;

    if (size == 0 || size > FUZZ_KEY_ROOM / 4) {
        return 0;
    }
    input = bytes_of(data + 1, size - 1);
    arena_init(&arena, 0);
    switch (data[0] % 5) {
    case 0:
        fuzz_columns(input, &arena);
        break;
    case 1:
        fuzz_row(input);
        break;
    case 2:
        fuzz_batch(input);
        break;
    case 3:
        fuzz_keys(input, &arena);
        break;
    default:
        fuzz_stored(input);
        break;
    }
    arena_deinit(&arena);
    return 0;
}
