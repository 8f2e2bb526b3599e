/*
 * batch.c -- lists of changes in our own encoding.
 *
 * A batch is what a replicated command carries through the log, so it outlives the version of the
 * engine that applies it and arrives from the network and the disk: engine_ops_next() checks all
 * that the library below would otherwise assert on. The same walk is used to apply, to check and to
 * append, hence a batch that was accepted once is accepted everywhere.
 */
#include "node/base/codec.h"
#include "node/base/invariant.h"
#include "node/storage/engine/engine.h"

void engine_batch_init(struct engine_batch *b)
{
    buf_init(&b->ops, 0);
    b->count = 0;
}

void engine_batch_deinit(struct engine_batch *b)
{
    buf_deinit(&b->ops);
    b->count = 0;
}

void engine_batch_clear(struct engine_batch *b)
{
    buf_clear(&b->ops);
    b->count = 0;
}

static bool key_is_legal(struct bytes key)
{
    return key.len > 0 && key.len <= ENGINE_KEY_MAX;
}

static struct status batch_add(struct engine_batch *b, enum engine_op_kind kind, enum engine_cf cf,
                               struct bytes key, const struct bytes *second)
{
    const size_t second_len = second == NULL ? 0 : second->len + VARINT_MAX;

    INVARIANT((unsigned)cf < ENGINE_CF_COUNT);
    if (!key_is_legal(key)) {
        return FAIL(STATUS_INVALID, "key is empty or too long for the engine");
    }
    /* All room first: what follows cannot fail, so the batch is never left half-written. */
    TRY(buf_reserve(&b->ops, 2 + VARINT_MAX + key.len + second_len));
    TRY(buf_append_u8(&b->ops, (uint8_t)kind));
    TRY(buf_append_u8(&b->ops, (uint8_t)cf));
    TRY(buf_append_lp(&b->ops, key));
    if (second != NULL) {
        TRY(buf_append_lp(&b->ops, *second));
    }
    b->count++;
    return OK;
}

struct status engine_batch_put(struct engine_batch *b, enum engine_cf cf, struct bytes key,
                               struct bytes value)
{
    return batch_add(b, ENGINE_OP_PUT, cf, key, &value);
}

struct status engine_batch_delete(struct engine_batch *b, enum engine_cf cf, struct bytes key)
{
    return batch_add(b, ENGINE_OP_DELETE, cf, key, NULL);
}

struct status engine_batch_delete_range(struct engine_batch *b, enum engine_cf cf,
                                        struct bytes start, struct bytes end)
{
    const int c = bytes_cmp(start, end);

    if (c > 0 || !key_is_legal(start) || !key_is_legal(end)) {
        return FAIL(STATUS_INVALID, "range to delete is inverted or has an illegal bound");
    }
    return c == 0 ? OK : batch_add(b, ENGINE_OP_DELETE_RANGE, cf, start, &end);
}

struct status engine_batch_append(struct engine_batch *b, struct bytes ops, bool state_only)
{
    struct bytes rest = ops;
    struct engine_op op;
    bool bad = false;
    uint32_t count = 0;

    while (engine_ops_next(&rest, &op, &bad)) {
        if (state_only && op.cf != ENGINE_CF_STATE) {
            return FAIL(STATUS_CORRUPT, "changes touch unreplicated keys");
        }
        count++;
    }
    if (bad) {
        return FAIL(STATUS_CORRUPT, "changes are damaged");
    }
    TRY(buf_append_bytes(&b->ops, ops));
    b->count += count;
    return OK;
}

bool engine_ops_next(struct bytes *rest, struct engine_op *out, bool *bad)
{
    struct reader r = reader_of(*rest);
    uint8_t kind = 0;
    uint8_t cf = 0;

    *bad = false;
    if (rest->len == 0) {
        return false;
    }
    kind = read_u8(&r);
    cf = read_u8(&r);
    *bad = kind < ENGINE_OP_PUT || kind > ENGINE_OP_DELETE_RANGE || cf >= ENGINE_CF_COUNT;
    if (*bad) {
        return false;
    }
    out->kind = (enum engine_op_kind)kind;
    out->cf = (enum engine_cf)cf;
    out->key = read_lp_bytes(&r);
    out->value = out->kind == ENGINE_OP_DELETE ? BYTES_EMPTY : read_lp_bytes(&r);
    *bad = r.bad || !key_is_legal(out->key);
    if (out->kind == ENGINE_OP_DELETE_RANGE) {
        *bad = *bad || !key_is_legal(out->value) || bytes_cmp(out->key, out->value) >= 0;
    }
    if (*bad) {
        return false;
    }
    *rest = r.rest;
    return true;
}
