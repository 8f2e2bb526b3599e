/*
 * cursor.c -- one key's versions or locks, as a writer sees them: the engine, and over it what the
 * writer has put into its batch and nobody has applied yet.
 *
 * A request may touch a key several times (insert, then update in the same batch). The engine does
 * not know the batch, so the writer remembers per user key where in the batch the newest change of
 * each physical key stands; the bytes themselves are not copied. A key has a handful of changes at
 * most, hence lists; the keys of a large insert are many, hence a hash table.
 */
#include "node/base/hash.h"
#include "node/base/invariant.h"
#include "node/storage/mvcc/mvcc_internal.h"

#define PENDING_FIRST_CAP 16

struct pending_key {
    struct pending_key *next;
    uint64_t hash;
    struct bytes key;
    struct mvcc__op *ops;
};

struct mvcc_pending {
    struct pending_key **buckets;
    uint32_t cap; /* A power of two. */
    uint32_t count;
};

static struct pending_key *pending_find(const struct mvcc_pending *p, struct bytes key,
                                        uint64_t hash)
{
    struct pending_key *k = p == NULL ? NULL : p->buckets[hash & (p->cap - 1)];

    while (k != NULL && (k->hash != hash || !bytes_eq(k->key, key))) {
        k = k->next;
    }
    return k;
}

struct mvcc__overlay mvcc__overlay_of(const struct mvcc_writer *w, struct bytes key)
{
    const struct pending_key *k =
        w->pending == NULL ? NULL : pending_find(w->pending, key, hash64(key, 0));

    return (struct mvcc__overlay){w->batch, k == NULL ? NULL : k->ops};
}

static struct status pending_grow(struct mvcc_writer *w)
{
    struct mvcc_pending *p = w->pending;
    struct pending_key **old = NULL;
    uint32_t old_cap = 0;

    if (p == NULL) {
        p = ARENA_NEW(w->arena, struct mvcc_pending);
        if (p == NULL) {
            return FAIL(STATUS_MEMORY, "no memory for a batch's changes");
        }
        w->pending = p;
    }
    if (p->cap > 0 && p->count < 2 * p->cap) {
        return OK;
    }
    old = p->buckets;
    old_cap = p->cap;
    p->buckets = ARENA_ARRAY(w->arena, struct pending_key *,
                             old_cap == 0 ? PENDING_FIRST_CAP : 4 * (size_t)old_cap);
    if (p->buckets == NULL) {
        p->buckets = old;
        w->pending = old_cap == 0 ? NULL : p;
        return FAIL(STATUS_MEMORY, "no memory for a batch's changes");
    }
    p->cap = old_cap == 0 ? PENDING_FIRST_CAP : 4 * old_cap;
    for (uint32_t i = 0; i < old_cap; i++) {
        for (struct pending_key *k = old[i], *next = NULL; k != NULL; k = next) {
            struct pending_key **bucket = &p->buckets[k->hash & (p->cap - 1)];

            next = k->next;
            k->next = *bucket;
            *bucket = k;
        }
    }
    return OK;
}

static struct status pending_key_of(struct mvcc_writer *w, struct bytes key,
                                    struct pending_key **out)
{
    const uint64_t hash = hash64(key, 0);
    struct pending_key **bucket = NULL;
    struct pending_key *k = NULL;

    TRY(pending_grow(w));
    k = pending_find(w->pending, key, hash);
    if (k == NULL) {
        k = ARENA_NEW(w->arena, struct pending_key);
        if (k == NULL) {
            return FAIL(STATUS_MEMORY, "no memory for a batch's changes");
        }
        TRY(bytes_dup(w->arena, key, &k->key));
        bucket = &w->pending->buckets[hash & (w->pending->cap - 1)];
        k->hash = hash;
        k->next = *bucket;
        *bucket = k;
        w->pending->count++;
    }
    *out = k;
    return OK;
}

static struct bytes op_key(const struct engine_batch *b, const struct mvcc__op *op)
{
    return bytes_of(b->ops.ptr + op->key_off, op->key_len);
}

/* The list's entry for this physical key, a new one if there is none. */
static struct status op_of(struct mvcc_writer *w, struct bytes key, struct bytes phys,
                           struct mvcc__op **out)
{
    struct pending_key *k = NULL;

    TRY(pending_key_of(w, key, &k));
    for (struct mvcc__op *op = k->ops; op != NULL; op = op->next) {
        if (bytes_eq(op_key(w->batch, op), phys)) {
            *out = op;
            return OK;
        }
    }
    *out = ARENA_NEW(w->arena, struct mvcc__op);
    if (*out == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a batch's changes");
    }
    (*out)->next = k->ops;
    k->ops = *out;
    return OK;
}

/* The batch comes first: an op in a list always describes bytes that are in the batch. Out of
 * memory in between, the caller gives up the batch as a whole. */
struct status mvcc__emit_put(struct mvcc_writer *w, struct bytes key, struct bytes phys,
                             struct bytes value)
{
    struct mvcc__op *op = NULL;
    size_t end = 0;

    TRY(engine_batch_put(w->batch, ENGINE_CF_STATE, phys, value));
    TRY(op_of(w, key, phys, &op));
    end = w->batch->ops.len;
    op->value_off = end - value.len;
    op->value_len = value.len;
    /* Between key and value stands the value's length. */
    for (size_t n = value.len; n >= 0x80; n >>= 7) {
        end--;
    }
    op->key_off = end - 1 - value.len - phys.len;
    op->key_len = phys.len;
    op->deleted = false;
    return OK;
}

struct status mvcc__emit_delete(struct mvcc_writer *w, struct bytes key, struct bytes phys)
{
    struct mvcc__op *op = NULL;

    TRY(engine_batch_delete(w->batch, ENGINE_CF_STATE, phys));
    TRY(op_of(w, key, phys, &op));
    op->key_off = w->batch->ops.len - phys.len;
    op->key_len = phys.len;
    op->deleted = true;
    return OK;
}

/* ---- the cursor ------------------------------------------------------------------------------ */

static struct status point_iter(struct mvcc_reader *r, struct engine_iter **out)
{
    const struct engine_iter_options o = {
        .cf = ENGINE_CF_STATE, .snap = r->snap, .tier = r->tier, .prefix = true};

    if (r->points == NULL) {
        TRY(engine_iter_open(r->engine, &o, &r->points));
    }
    *out = r->points;
    return OK;
}

static bool overridden(const struct mvcc__overlay *o, struct bytes phys)
{
    for (const struct mvcc__op *op = o->ops; op != NULL; op = op->next) {
        if (bytes_eq(op_key(o->batch, op), phys)) {
            return true;
        }
    }
    return false;
}

/* The lowest entry of the batch that is not passed yet. */
static const struct mvcc__op *lowest_op(const struct mvcc__cursor *c)
{
    const struct engine_batch *b = c->overlay.batch;
    const struct mvcc__op *best = NULL;

    for (const struct mvcc__op *op = c->overlay.ops; op != NULL; op = op->next) {
        const struct bytes k = op_key(b, op);

        if (op->deleted || !bytes_starts_with(k, c->prefix) || bytes_cmp(k, c->target) < 0 ||
            (c->last != NULL && bytes_cmp(k, op_key(b, c->last)) <= 0)) {
            continue;
        }
        if (best == NULL || bytes_cmp(k, op_key(b, best)) < 0) {
            best = op;
        }
    }
    return best;
}

static struct status settle(struct mvcc__cursor *c)
{
    const struct engine_batch *b = c->overlay.batch;

    while (c->overlay.ops != NULL && engine_iter_valid(c->it) &&
           overridden(&c->overlay, engine_iter_key(c->it))) {
        engine_iter_next(c->it);
    }
    TRY(engine_iter_status(c->it));
    c->at = c->overlay.ops == NULL ? NULL : lowest_op(c);
    if (c->at != NULL && engine_iter_valid(c->it) &&
        bytes_cmp(engine_iter_key(c->it), op_key(b, c->at)) < 0) {
        c->at = NULL;
    }
    if (c->at != NULL) {
        c->valid = true;
        c->key = op_key(b, c->at);
        c->value = bytes_of(b->ops.ptr + c->at->value_off, c->at->value_len);
    } else {
        c->valid = engine_iter_valid(c->it);
        c->key = engine_iter_key(c->it);
        c->value = engine_iter_value(c->it);
    }
    return OK;
}

struct status mvcc__cursor_seek(struct mvcc__cursor *c, struct mvcc_reader *r,
                                struct mvcc__overlay o, struct bytes prefix, struct bytes target)
{
    *c = (struct mvcc__cursor){.overlay = o, .prefix = prefix, .target = target};
    TRY(point_iter(r, &c->it));
    engine_iter_seek(c->it, target);
    return settle(c);
}

struct status mvcc__cursor_next(struct mvcc__cursor *c)
{
    INVARIANT(c->valid);
    if (c->at != NULL) {
        c->last = c->at;
    } else {
        engine_iter_next(c->it);
    }
    return settle(c);
}
