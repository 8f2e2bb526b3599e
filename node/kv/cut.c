/*
 * cut.c -- a batch over several ranges as a list of parts, and their answers as one.
 *
 * A request goes to the range that holds its key. Spans of REFRESH and RESOLVE fall into pieces, one per
 * range; a SCAN keeps its first piece only, and whoever asked goes on behind it. Neighbouring requests
 * mostly go to the same range (commits are sorted by key), so the last part is tried first.
 *
 * A part that turned out to be cut by an old descriptor is cut again; its pieces know which request of the
 * caller they answer (`origin`), so nothing else changes.
 *
 * An END_TXN that says STAGING promises the writes of all other parts. Which those are is only known here:
 * the record is committed with the writes of its own part in one command, and lists the rest.
 */
#include "node/kv/internal.h"
#include "node/storage/key/key.h"

/* Of one part; the command is larger than its requests: two keys per intent, the anchor in each. */
#define PART_BYTES_MAX (RANGE_COMMAND_MAX / 4 * 3)

/* A request, or a piece of one, and where it goes. */
struct piece {
    struct range_request q;
    uint32_t origin;
    uint32_t part;
};

/* A part while it is being filled. The bounds are copies: the cache may change. */
struct bin {
    range_id range;
    uint64_t generation;
    struct bytes start;
    struct bytes end;
    uint32_t count;
    size_t bytes;
    bool closed; /* Nothing else may join. */
};

struct cut {
    struct kv *kv;
    const struct range_batch *b;
    struct arena *arena;
    uint64_t deadline_ns;
    struct bin *bins;
    uint32_t bins_count;
    uint32_t bins_cap;
    uint32_t last; /* Where the request before went. */
    struct piece *pieces;
    uint32_t pieces_count;
    uint32_t pieces_cap;
};

static struct status no_memory(void)
{
    return FAIL(STATUS_MEMORY, "memory limit reached");
}

/* Doubles an array in the arena. */
static struct status grow(struct arena *arena, void **array, uint32_t *cap, size_t item_size)
{
    const uint32_t next = *cap == 0 ? 4 : *cap * 2;
    void *grown = arena_calloc(arena, next, item_size);

    if (grown == NULL) {
        return no_memory();
    }
    if (*array != NULL) {
        memcpy(grown, *array, *cap * item_size);
    }
    *array = grown;
    *cap = next;
    return OK;
}

/* ---- where a key goes --------------------------------------------------------------------------- */

/* Backwards, the key just in front of `end` is meant: `end` itself may be the next range's first. */
static bool bin_holds(const struct bin *bin, struct bytes key, bool before)
{
    const int c = bytes_cmp(key, bin->start);

    return before ? c > 0 && bytes_cmp(key, bin->end) <= 0 : c >= 0 && bytes_cmp(key, bin->end) < 0;
}

static struct status add_bin(struct cut *c, const struct range_desc *d, uint32_t *out)
{
    struct bin bin = {.range = d->id, .generation = d->generation};

    if (c->bins_count == KV_PARTS_MAX) {
        return FAIL(STATUS_MEMORY, "the request spans too many ranges");
    }
    TRY(bytes_dup(c->arena, d->start, &bin.start));
    TRY(bytes_dup(c->arena, d->end, &bin.end));
    if (c->bins_count == c->bins_cap) {
        TRY(grow(c->arena, (void **)&c->bins, &c->bins_cap, sizeof(bin)));
    }
    *out = c->bins_count;
    c->bins[c->bins_count++] = bin;
    return OK;
}

/* Looks the range up, if need be. Backwards, the index is asked for its left neighbours one by one: from
 * `from` on, which lies in front of `key`. */
MAYYIELD static struct status find_range(struct cut *c, struct bytes key, struct bytes from,
                                         bool before, struct range_desc *out)
{
    struct cached_range *r =
        before ? kv__cache_find_before(c->kv, key) : kv__cache_find(c->kv, key);
    uint32_t steps = 0;

    while (r == NULL && steps++ < KV_PARTS_MAX) {
        TRY(kv__lookup(c->kv, before ? from : key, c->deadline_ns, c->arena));
        r = before ? kv__cache_find_before(c->kv, key)
                   : kv__cache_find(c->kv, key); /* We yielded. */
        if (r == NULL && before) {
            r = kv__cache_find(c->kv, from);
            if (r == NULL) {
                break;
            }
            TRY(bytes_dup(c->arena, r->desc.end, &from));
            r = bytes_cmp(from, key) >= 0 ? r : NULL;
        }
    }
    if (r == NULL) {
        return FAIL(STATUS_UNAVAILABLE, "no range is known for the key yet");
    }
    *out = r->desc;
    return OK;
}

MAYYIELD static struct status find_bin(struct cut *c, struct bytes key, struct bytes from,
                                       bool before, uint32_t *out)
{
    struct range_desc d;

    if (c->bins_count > 0 && bin_holds(&c->bins[c->last], key, before)) {
        *out = c->last;
        return OK;
    }
    for (uint32_t i = c->bins_count; i > 0; i--) { /* The newest first: it may be a second one. */
        if (bin_holds(&c->bins[i - 1], key, before)) {
            *out = i - 1;
            return OK;
        }
    }
    TRY(find_range(c, key, from, before, &d));
    return add_bin(c, &d, out);
}

/* ---- cutting ------------------------------------------------------------------------------------ */

static size_t bytes_of_write(const struct range_batch *b, const struct range_request *q)
{
    if (!range_op_writes(q->op)) {
        return 0;
    }
    return b->intents ? 2 * q->key.len + q->value.len + b->txn.anchor.len + 160
                      : q->key.len + q->value.len + 64;
}

/* What a write depends on travels with it: the refresh of its key, right before it. */
static bool follows_its_refresh(const struct cut *c, const struct range_request *q, uint32_t bin)
{
    const struct piece *before = c->pieces_count == 0 ? NULL : &c->pieces[c->pieces_count - 1];

    return before != NULL && before->part == bin && before->q.op == RANGE_OP_REFRESH &&
           bytes_eq(before->q.key, q->key);
}

/* Of a range, one bin more. */
static struct status next_bin(struct cut *c, uint32_t *bin)
{
    const struct bin full = c->bins[*bin];
    const struct range_desc same = {
        .id = full.range, .start = full.start, .end = full.end, .generation = full.generation};

    return add_bin(c, &same, bin);
}

static struct status add_piece(struct cut *c, const struct range_request *q, uint32_t origin,
                               uint32_t bin)
{
    const size_t bytes = bytes_of_write(c->b, q);
    const bool alone = q->op == RANGE_OP_RESOLVE && q->end.len > 0;
    const bool full = bytes > 0 && c->bins[bin].bytes > 0 &&
                      c->bins[bin].bytes + bytes > PART_BYTES_MAX &&
                      !follows_its_refresh(c, q, bin);

    if (c->bins[bin].count > 0 && (alone || full || c->bins[bin].closed)) {
        TRY(next_bin(c, &bin));
    }
    if (c->pieces_count == c->pieces_cap) {
        TRY(grow(c->arena, (void **)&c->pieces, &c->pieces_cap, sizeof(c->pieces[0])));
    }
    c->pieces[c->pieces_count++] = (struct piece){*q, origin, bin};
    c->bins[bin].count++;
    c->bins[bin].bytes += bytes;
    c->bins[bin].closed = alone;
    c->last = bin;
    return OK;
}

/* The first range's piece of a scan. */
MAYYIELD static struct status cut_scan(struct cut *c, const struct range_request *q,
                                       uint32_t origin)
{
    struct range_request piece = *q;
    uint32_t bin = 0;

    TRY(find_bin(c, q->reverse ? q->end : q->key, q->key, q->reverse, &bin));
    if (q->reverse && bytes_cmp(piece.key, c->bins[bin].start) < 0) {
        piece.key = c->bins[bin].start;
    }
    if (!q->reverse && bytes_cmp(piece.end, c->bins[bin].end) > 0) {
        piece.end = c->bins[bin].end;
    }
    return add_piece(c, &piece, origin, bin);
}

/* All pieces of a span. */
MAYYIELD static struct status cut_span(struct cut *c, const struct range_request *q,
                                       uint32_t origin)
{
    struct range_request piece = *q;
    uint32_t bin = 0;

    while (bytes_cmp(piece.key, q->end) < 0) {
        TRY(find_bin(c, piece.key, piece.key, false, &bin));
        piece.end = bytes_cmp(c->bins[bin].end, q->end) < 0 ? c->bins[bin].end : q->end;
        TRY(add_piece(c, &piece, origin, bin));
        piece.key = piece.end;
    }
    return OK;
}

MAYYIELD static struct status cut_request(struct cut *c, const struct range_request *q,
                                          uint32_t origin)
{
    uint32_t bin = 0;

    if (q->op == RANGE_OP_SCAN) {
        return bytes_cmp(q->key, q->end) < 0
                   ? cut_scan(c, q, origin)
                   : FAIL(STATUS_INVALID, "a request with an impossible span");
    }
    if (q->end.len > 0) {
        return bytes_cmp(q->key, q->end) < 0
                   ? cut_span(c, q, origin)
                   : FAIL(STATUS_INVALID, "a request with an impossible span");
    }
    TRY(find_bin(c, q->key, q->key, false, &bin));
    return add_piece(c, q, origin, bin);
}

/* ---- parts -------------------------------------------------------------------------------------- */

/* Bins and pieces become parts behind those that exist. */
static struct status add_parts(struct cut *c, struct kv_parts *p)
{
    const uint32_t base = p->count;
    struct kv_part *parts = NULL;

    if (base + c->bins_count > KV_PARTS_MAX) {
        return FAIL(STATUS_MEMORY, "the request spans too many ranges");
    }
    parts = ARENA_ARRAY(c->arena, struct kv_part, base + c->bins_count);
    if (parts == NULL) {
        return no_memory();
    }
    if (base > 0) {
        memcpy(parts, p->parts, base * sizeof(parts[0]));
    }
    for (uint32_t i = 0; i < c->bins_count; i++) {
        struct kv_part *part = &parts[base + i];

        part->batch = *c->b;
        part->batch.count = 0;
        part->requests = ARENA_ARRAY(c->arena, struct range_request, c->bins[i].count + 1);
        part->origin = ARENA_ARRAY(c->arena, uint32_t, c->bins[i].count + 1);
        if (part->requests == NULL || part->origin == NULL) {
            return no_memory();
        }
        part->batch.requests = part->requests;
    }
    for (uint32_t i = 0; i < c->pieces_count; i++) {
        const struct piece *piece = &c->pieces[i];
        struct kv_part *part = &parts[base + piece->part];

        part->requests[part->batch.count] = piece->q;
        part->origin[part->batch.count++] = piece->origin;
        p->home[piece->origin] = base + piece->part;
    }
    p->parts = parts;
    p->count = base + c->bins_count;
    return OK;
}

/* A staged record lists, besides what it was told, the writes of the whole that are not in its part. */
static struct status list_in_flight(const struct kv_parts *p, uint32_t part,
                                    struct range_request *q, uint32_t origin, struct arena *arena)
{
    const struct range_txn_args *told = p->whole->requests[origin].args;
    struct range_txn_args *args = ARENA_NEW(arena, struct range_txn_args);
    struct bytes *keys = NULL;
    uint32_t count = told->in_flight_count;

    for (uint32_t i = 0; i < p->whole->count; i++) {
        count += range_op_writes(p->whole->requests[i].op) && p->home[i] != part ? 1 : 0;
    }
    keys = ARENA_ARRAY(arena, struct bytes, count + 1);
    if (args == NULL || keys == NULL) {
        return no_memory();
    }
    for (uint32_t i = 0; i < told->in_flight_count; i++) {
        keys[i] = told->in_flight[i];
    }
    *args = *told;
    args->in_flight = keys;
    args->in_flight_count = told->in_flight_count;
    for (uint32_t i = 0; i < p->whole->count; i++) {
        if (range_op_writes(p->whole->requests[i].op) && p->home[i] != part) {
            keys[args->in_flight_count++] = p->whole->requests[i].key;
        }
    }
    q->args = args;
    return OK;
}

struct status kv__cut(struct kv *kv, struct kv_parts *p, const struct range_batch *b,
                      const uint32_t *origin, uint64_t deadline_ns, struct arena *arena)
{
    struct cut c = {.kv = kv, .b = b, .arena = arena, .deadline_ns = deadline_ns};
    const uint32_t base = p->count;

    for (uint32_t i = 0; i < b->count; i++) {
        TRY(cut_request(&c, &b->requests[i], origin == NULL ? i : origin[i]));
    }
    TRY(add_parts(&c, p));
    for (uint32_t k = base; k < p->count; k++) {
        struct kv_part *part = &p->parts[k];

        for (uint32_t i = 0; i < part->batch.count; i++) {
            if (part->requests[i].op == RANGE_OP_END_TXN &&
                part->requests[i].args->status == RANGE_TXN_STAGING) {
                TRY(list_in_flight(p, k, &part->requests[i], part->origin[i], arena));
            }
        }
    }
    return OK;
}

/* ---- answers ------------------------------------------------------------------------------------ */

/* Which of several failures the caller hears of: the highest. NOT_PROPOSED is a part that was not sent
 * because another one had failed. */
static int weight(enum status_code code)
{
    if (code == STATUS_OK || code == STATUS_NOT_PROPOSED) {
        return 0;
    }
    if (code == STATUS_AMBIGUOUS) {
        return 1;
    }
    return code == STATUS_EXISTS ? 2 : 3;
}

static uint32_t place_of(const struct kv_part *part)
{
    const uint32_t i = part->result.conflict;

    return part->origin[i < part->batch.count ? i : 0];
}

static const struct kv_part *worst_of(const struct kv_parts *p)
{
    const struct kv_part *worst = NULL;

    for (uint32_t i = 0; i < p->count; i++) {
        const struct kv_part *part = &p->parts[i];

        if (part->state == KV_PART_CUT || weight(part->result.st.code) == 0) {
            continue;
        }
        if (worst == NULL || weight(part->result.st.code) > weight(worst->result.st.code) ||
            (weight(part->result.st.code) == weight(worst->result.st.code) &&
             place_of(part) < place_of(worst))) {
            worst = part;
        }
    }
    return worst;
}

/* A scan that was cut at the bounds of a range goes on behind them. */
static void merge_response(const struct range_request *asked, const struct range_request *sent,
                           const struct range_response *in, struct range_response *out)
{
    if (asked->op == RANGE_OP_REFRESH || (asked->op == RANGE_OP_RESOLVE && asked->end.len > 0)) {
        return; /* Pieces of a span say nothing. */
    }
    *out = *in;
    if (asked->op != RANGE_OP_SCAN || in->more) {
        return;
    }
    if (asked->reverse && !bytes_eq(asked->key, sent->key)) {
        out->more = true;
        out->resume = sent->key;
    }
    if (!asked->reverse && !bytes_eq(asked->end, sent->end)) {
        out->more = true;
        out->resume = sent->end;
    }
}

struct status kv__merge(const struct kv_parts *p, struct arena *arena, struct range_result *out)
{
    const struct kv_part *worst = worst_of(p);

    *out = (struct range_result){.st = worst == NULL ? OK : worst->result.st};
    out->conflict = worst == NULL ? 0 : place_of(worst);
    out->responses = ARENA_ARRAY(arena, struct range_response, (size_t)p->whole->count + 1);
    if (out->responses == NULL) {
        return no_memory();
    }
    for (uint32_t k = 0; k < p->count; k++) {
        const struct kv_part *part = &p->parts[k];
        const struct range_result *r = &part->result;

        if (part->state == KV_PART_CUT) {
            continue;
        }
        out->read_ts = hts_max(out->read_ts, r->read_ts);
        out->commit_ts = hts_max(out->commit_ts, r->commit_ts);
        out->uncertain_ts = hts_max(out->uncertain_ts, r->uncertain_ts);
        out->now = r->now;
        out->server = r->server;
        for (uint32_t i = 0; worst == NULL && i < part->batch.count; i++) {
            merge_response(&p->whole->requests[part->origin[i]], &part->requests[i],
                           &r->responses[i], &out->responses[part->origin[i]]);
        }
    }
    return OK;
}
