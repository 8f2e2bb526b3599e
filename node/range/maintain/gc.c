/*
 * gc.c -- old versions go, never one that somebody may still read.
 *
 * Two steps, in this order, never in one command:
 *
 *   1. the threshold of the range rises: reads below it fail from then on, on every replica;
 *   2. versions that no reader at or above the threshold can see are deleted, a batch at a time.
 *
 * Why no reader sees a hole. A replica notes a threshold when it hands the command to its writer, before
 * anything of that write can be seen. Deletions come later in the log. So who has seen the effect of a
 * deletion finds a threshold at least as high in memory afterwards: readers check when they are done
 * (gc__check_read()), and need no engine snapshot for it.
 *
 * How far the threshold may rise. Everything that was protected at or before `as_of` is known here;
 * whoever asks for protection later may only rely on what is younger than the time to live. Hence
 * min(now, as_of) - ttl, and below every protection of the span. Stale knowledge means no progress, never
 * loss.
 *
 * Deletions take latches on their keys, so that no writer counts on a version that goes, but are never
 * `evaluated`: readers above the threshold do not wait for them. What is garbage is found and deleted on the
 * io lane, in steps of bounded size.
 *
 * Source: protocol reference 12; CockroachDB's gc queue, and its issues 55293 and 76410.
 */
#include <stdlib.h>

#include "node/base/codec.h"
#include "node/base/invariant.h"
#include "node/range/internal.h"

#define STEP_BYTES_MAX   ((size_t)4 << 20) /* Looked at in one step. */
#define BATCH_BYTES_MAX  ((size_t)1 << 20) /* Of the deletions of one command. */
#define BATCH_KEYS_MAX   1000u
#define KEY_VERSIONS_MAX 10000u /* Of one key in one command. */
#define OP_OVERHEAD      8u

/* ---- threshold ---------------------------------------------------------------------------------- */

struct status gc__put_threshold(struct engine_batch *b, range_id range, struct hts threshold)
{
    uint8_t mem[KEY_RANGE_ID_SIZE];
    uint8_t value[12];

    if (hts_is_zero(threshold)) {
        return OK;
    }
    be64_put(value, threshold.wall);
    be32_put(value + 8, threshold.logical);
    return engine_batch_put(b, ENGINE_CF_STATE,
                            key_range_record(mem, range, KEY_RANGE_GC_THRESHOLD),
                            bytes_of(value, sizeof(value)));
}

struct status gc__decode_threshold(struct bytes value, struct hts *out)
{
    struct reader r = reader_of(value);

    out->wall = read_be64(&r);
    out->logical = read_be32(&r);
    return r.bad || r.rest.len != 0 ? FAIL(STATUS_CORRUPT, "damaged threshold of a range") : OK;
}

struct status gc__load_threshold(struct replica *r, struct arena *arena)
{
    uint8_t mem[KEY_RANGE_ID_SIZE];
    struct bytes value;
    const struct status st = engine_get(r->store->engine, ENGINE_CF_STATE,
                                        key_range_record(mem, r->range, KEY_RANGE_GC_THRESHOLD),
                                        ENGINE_TIER_ANY, arena, &value);

    if (st.code == STATUS_NOT_FOUND) {
        return OK;
    }
    TRY(st);
    return gc__decode_threshold(value, &r->gc_threshold);
}

struct status gc__check_read(const struct replica *r, struct hts read_ts)
{
    return hts_less(read_ts, r->gc_threshold)
               ? FAIL(STATUS_INVALID, "the read is older than the garbage collection threshold")
               : OK;
}

/* ---- protections -------------------------------------------------------------------------------- */

struct gc_protections {
    struct hts as_of;
    struct arena arena;
    struct store_protection *list;
    uint32_t count;
};

void gc__destroy(struct store *s)
{
    if (s->protections != NULL) {
        arena_deinit(&s->protections->arena);
        free(s->protections);
        s->protections = NULL;
    }
}

struct status store_set_protected(struct store *s, struct hts as_of,
                                  const struct store_protection *list, uint32_t count)
{
    struct gc_protections *p = NULL;

    if (count > STORE_PROTECTIONS_MAX) {
        return FAIL(STATUS_OVERLOADED, "too many protected timestamps");
    }
    p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    p->as_of = as_of;
    p->count = count;
    arena_init(&p->arena, 0);
    p->list = ARENA_ARRAY(&p->arena, struct store_protection, (size_t)count + 1);
    for (uint32_t i = 0; p->list != NULL && i < count; i++) {
        p->list[i] = list[i];
        if (!status_ok(bytes_dup(&p->arena, list[i].start, &p->list[i].start)) ||
            !status_ok(bytes_dup(&p->arena, list[i].end, &p->list[i].end))) {
            p->list = NULL;
        }
    }
    if (p->list == NULL) {
        arena_deinit(&p->arena);
        free(p);
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    gc__destroy(s);
    s->protections = p;
    return OK;
}

static struct hts below_protections(const struct replica *r, struct hts ts)
{
    const struct gc_protections *p = r->store->protections;

    for (uint32_t i = 0; i < p->count; i++) {
        const struct store_protection *x = &p->list[i];

        if (bytes_cmp(x->start, r->desc.end) < 0 && bytes_cmp(r->desc.start, x->end) < 0 &&
            hts_less_eq(x->ts, ts)) {
            ts = hts_is_zero(x->ts) ? HTS_ZERO : hts_prev(x->ts);
        }
    }
    return ts;
}

/* Zero: nothing may go. */
static struct hts highest_threshold(struct replica *r, uint64_t ttl_ns)
{
    const struct gc_protections *p = r->store->protections;
    struct hts ts = HTS_ZERO;

    if (p == NULL) {
        return HTS_ZERO;
    }
    ts = hts_min(hclock_hts(hlc_now(r->store->hlc)), p->as_of);
    ts = (struct hts){ts.wall > ttl_ns ? ts.wall - ttl_ns : 0, 0};
#ifdef DSQL_PLANTS
    if ((r->store->o.plants & STORE_PLANT_GC_BELOW_PROTECTED) != 0) {
        return ts;
    }
#endif
    return below_protections(r, ts);
}

struct status store_protection_holds(struct store *s, range_id range, struct hts ts,
                                     struct hts created)
{
    const struct replica *r = store__find(s, range);

    if (r == NULL || !status_ok(lease__check(store__find(s, range), HTS_ZERO))) {
        return FAIL(STATUS_NOT_LEADER, "this store does not hold the lease");
    }
    if (s->protections == NULL || hts_less(s->protections->as_of, created)) {
        return FAIL(STATUS_UNAVAILABLE, "the protection is not known here yet");
    }
    return gc__check_read(r, ts);
}

/* ---- one run ------------------------------------------------------------------------------------ */

struct gc_run {
    struct replica *replica;
    uint64_t term;
    uint64_t generation; /* Of the descriptor: keys may leave the range. */
    uint64_t deadline_ns;
    struct hts threshold;
    struct store_gc_result *result;

    /* Where the next step goes on. */
    struct key_span spans[2]; /* Range-local keys, data. */
    uint32_t span;            /* 2: done. */
    struct buf position;      /* Empty: start of the span. */
    struct arena span_arena;

    /* Of one step. */
    struct arena arena;
    struct bytes keys[BATCH_KEYS_MAX];
    uint32_t keys_count;
    size_t bytes;     /* Of deletions, estimated. */
    struct hts limit; /* The threshold, or less: a key with too many versions goes in pieces. */
    struct engine_batch ops;
    struct mvcc_stats stats;
    uint64_t versions;
    struct status st;

    /* The key that the walk is in. */
    struct buf key;
    bool newest_below;                 /* Its newest version at or below the threshold was met. */
    uint32_t garbage;                  /* Versions of it that can go. */
    struct hts last[KEY_VERSIONS_MAX]; /* Of those, as a ring. */
};

enum taken {
    TAKEN_GO_ON,
    TAKEN_FULL, /* The step ends behind the key ... */
    TAKEN_AGAIN /* ... or at it, because more of it is to go. */
};

/* The walk leaves a key: remembers it if something of it can go. */
static enum taken take_key(struct gc_run *g)
{
    struct bytes copy;

    if (g->garbage == 0) {
        return TAKEN_GO_ON;
    }
    if (g->garbage > KEY_VERSIONS_MAX && g->keys_count > 0) {
        return TAKEN_AGAIN; /* First those before it. */
    }
    g->st = bytes_dup(&g->arena, buf_bytes(&g->key), &copy);
    if (!status_ok(g->st)) {
        return TAKEN_AGAIN;
    }
    g->keys[g->keys_count++] = copy;
    if (g->garbage > KEY_VERSIONS_MAX) {
        g->limit = g->last[g->garbage % KEY_VERSIONS_MAX]; /* The newest of the oldest ones. */
        return TAKEN_AGAIN;
    }
    g->bytes += g->garbage * (copy.len + KEY_VERSION_SIZE + OP_OVERHEAD);
    return g->bytes >= BATCH_BYTES_MAX || g->keys_count == BATCH_KEYS_MAX ? TAKEN_FULL
                                                                          : TAKEN_GO_ON;
}

static struct status enter_key(struct gc_run *g, struct bytes key)
{
    buf_clear(&g->key);
    g->newest_below = false;
    g->garbage = 0;
    return buf_append_bytes(&g->key, key);
}

/* Versions come newest first. */
static struct status look_at_version(struct gc_run *g, struct bytes key, struct hts ts,
                                     struct bytes stored)
{
    struct mvcc_version v;
    bool goes = g->newest_below;

    if (hts_less(g->threshold, ts)) {
        return OK;
    }
    if (!g->newest_below) {
        g->newest_below = true;
        TRY(mvcc_version_decode(key, ts, stored, &v));
        goes = (v.flags & MVCC_FLAG_TOMBSTONE) != 0;
    }
    if (goes) {
        g->last[g->garbage++ % KEY_VERSIONS_MAX] = ts;
    }
    return OK;
}

static struct status go_on_at(struct gc_run *g, struct bytes position)
{
    TRY(g->st);
    buf_clear(&g->position);
    return buf_append_bytes(&g->position, position);
}

static struct status walk(struct gc_run *g, struct engine_iter *it)
{
    enum taken taken = TAKEN_GO_ON;
    size_t looked = 0;

    TRY(enter_key(g, BYTES_EMPTY));
    for (engine_iter_seek_first(it); engine_iter_valid(it); engine_iter_next(it)) {
        const struct bytes phys = engine_iter_key(it);
        struct bytes key;
        struct hts ts;

        if (!key_is_versioned(phys) || !key_split_version(phys, &key, &ts)) {
            continue; /* A record of a transaction. */
        }
        if (!bytes_eq(key, buf_bytes(&g->key))) {
            taken = take_key(g);
            if (taken == TAKEN_AGAIN) {
                return go_on_at(g, buf_bytes(&g->key));
            }
            if (taken == TAKEN_FULL || looked >= STEP_BYTES_MAX) {
                return go_on_at(g, phys);
            }
            TRY(enter_key(g, key));
        }
        looked += phys.len + engine_iter_value(it).len;
        TRY(look_at_version(g, key, ts, engine_iter_value(it)));
    }
    TRY(engine_iter_status(it));
    if (take_key(g) == TAKEN_AGAIN) {
        return go_on_at(g, buf_bytes(&g->key));
    }
    g->span++;
    return go_on_at(g, BYTES_EMPTY);
}

/* Finds the next batch. On the io lane. */
static void find_blocking(void *arg)
{
    struct gc_run *g = arg;
    struct engine_iter_options io = {
        .cf = ENGINE_CF_STATE,
        .lower = g->position.len > 0 ? buf_bytes(&g->position) : g->spans[g->span].start,
        .upper = g->spans[g->span].end,
    };
    struct engine_iter *it = NULL;

    arena_reset(&g->arena);
    g->keys_count = 0;
    g->bytes = 0;
    g->limit = g->threshold;
    g->st = engine_iter_open(g->replica->store->engine, &io, &it);
    if (status_ok(g->st)) {
        g->st = walk(g, it);
        engine_iter_close(it);
    }
}

/* The deletions of the keys that were found, latched by now. On the io lane. */
static void delete_blocking(void *arg)
{
    struct gc_run *g = arg;
    struct mvcc_reader reader;
    struct mvcc_writer w;

    engine_batch_clear(&g->ops);
    g->st = OK;
    g->versions = 0;
    mvcc_reader_init(&reader, g->replica->store->engine, NULL, ENGINE_TIER_ANY);
    mvcc_writer_init(&w, &reader, &g->ops, &g->arena);
    for (uint32_t i = 0; status_ok(g->st) && i < g->keys_count; i++) {
        uint32_t deleted = 0;

        g->st = mvcc_gc(&w, g->keys[i], g->limit, &deleted);
        g->versions += deleted;
    }
    g->stats = w.stats;
    mvcc_reader_deinit(&reader);
}

/* Behind every wait: is this still our range to change? */
static struct status check_run(const struct gc_run *g)
{
    struct replica *r = g->replica;

    if (r->life != REPLICA_INIT || r->store->stopping || r->store->failed ||
        raft_get_state(r->raft).term != g->term) {
        return FAIL(STATUS_NOT_LEADER, "leadership moved during garbage collection");
    }
    if (r->desc.generation != g->generation) {
        return FAIL(STATUS_RANGE_MISMATCH, "the range changed during garbage collection");
    }
    return lease__check(r, HTS_ZERO);
}

/* Appends and waits for the commit. Owns `p` from here on. */
MAYYIELD static struct status propose(struct gc_run *g, const struct command *c, struct proposal *p)
{
    struct replica *r = g->replica;
    struct completion done = {0};
    struct status outcome = OK;
    struct status st = check_run(g);

    p->waiter = &done;
    p->outcome = &outcome;
    st = status_ok(st) ? proposal__append(r, c, RAFT_ENTRY_NORMAL, g->term, p) : st;
    if (!status_ok(st)) {
        if (p->latched) {
            latch_release(&r->latches, &p->guard);
        }
        proposal__free(p);
        return st;
    }
    return proposal__wait(p, &done, &outcome, g->deadline_ns);
}

MAYYIELD static struct status raise_threshold(struct gc_run *g)
{
    struct proposal *p = proposal__create(NULL, 0);
    struct command c = {.kind = COMMAND_GC_THRESHOLD, .start_ts = g->threshold};
    struct status st = OK;

    if (p == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    engine_batch_clear(&g->ops);
    st = gc__put_threshold(&g->ops, g->replica->range, g->threshold);
    if (!status_ok(st)) {
        proposal__free(p);
        return st;
    }
    c.ops = buf_bytes(&g->ops.ops);
    return propose(g, &c, p);
}

MAYYIELD static struct status delete_batch(struct gc_run *g)
{
    struct replica *r = g->replica;
    struct proposal *p = proposal__create(g->keys, g->keys_count);
    struct command c = {.kind = COMMAND_WRITE};
    struct status st = OK;

    if (p == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    st = latch_acquire(&r->latches, &p->guard, g->deadline_ns);
    if (!status_ok(st)) {
        proposal__free(p);
        return st;
    }
    p->latched = true;
    fiber_run_blocking(ENV_LANE_IO, delete_blocking, g);
    if (!status_ok(g->st) || g->versions == 0) {
        latch_release(&r->latches, &p->guard);
        proposal__free(p);
        return g->st;
    }
    c.stats = g->stats;
    c.ops = buf_bytes(&g->ops.ops);
    TRY(propose(g, &c, p));
    g->result->keys += g->keys_count;
    g->result->versions += g->versions;
    return OK;
}

MAYYIELD static struct status collect_versions(struct gc_run *g)
{
    while (g->span < ARRAY_COUNT(g->spans)) {
        fiber_run_blocking(ENV_LANE_IO, find_blocking, g);
        TRY(g->st);
        TRY(check_run(g));
        if (g->keys_count > 0) {
            TRY(delete_batch(g));
        }
    }
    return OK;
}

static struct status start_run(struct gc_run *g, const struct store_gc_options *o)
{
    struct replica *r = g->replica;
    struct key_span all[KEY_RANGE_SPANS];

    g->term = raft_get_state(r->raft).term;
    g->generation = r->desc.generation;
    arena_init(&g->arena, 0);
    arena_init(&g->span_arena, 0);
    engine_batch_init(&g->ops);
    g->ops.ops.limit = RANGE_COMMAND_MAX;
    TRY(check_run(g));
    TRY(key_range_spans(&g->span_arena, r->range, r->desc.start, r->desc.end, all));
    g->spans[0] = all[1];
    g->spans[1] = all[4];
    g->threshold = hts_max(r->gc_threshold, highest_threshold(r, o->ttl_ns));
    return OK;
}

static void end_run(struct gc_run *g)
{
    engine_batch_deinit(&g->ops);
    buf_deinit(&g->position);
    buf_deinit(&g->key);
    arena_deinit(&g->arena);
    arena_deinit(&g->span_arena);
    free(g);
}

/* Is there anything that is not live? Cheap: idle ranges are asked, too. */
static bool has_garbage(const struct replica *r)
{
    return r->applied.stats.val_count > r->applied.stats.live_count;
}

MAYYIELD static struct status run(struct replica *r, const struct store_gc_options *o,
                                  uint64_t deadline_ns, struct store_gc_result *out)
{
    struct gc_run *g = calloc(1, sizeof(*g));
    struct status st = OK;

    if (g == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    g->replica = r;
    g->result = out;
    g->deadline_ns = deadline_ns;
    TRY_OUT(start_run(g, o));
    if (!hts_is_zero(g->threshold) && has_garbage(r)) {
        if (hts_less(r->gc_threshold, g->threshold)) {
            TRY_OUT(raise_threshold(g));
        }
        TRY_OUT(collect_versions(g));
    }
    out->threshold = g->threshold;
out:
    end_run(g);
    return st;
}

struct status store_gc(struct store *s, range_id range, const struct store_gc_options *o,
                       uint64_t deadline_ns, struct store_gc_result *out)
{
    struct replica *r = store__find(s, range);
    struct maintain_work work;
    struct status st = OK;

    *out = (struct store_gc_result){.threshold = HTS_ZERO};
    if (r == NULL || s->stopping) {
        return FAIL(STATUS_RANGE_NOT_FOUND, "no such range on this store");
    }
    if (r->collecting) {
        return FAIL(STATUS_OVERLOADED, "garbage of the range is being collected already");
    }
    TRY(work__begin(&work, r));
    r->collecting = true;
    st = leftovers__settle(r, o, deadline_ns, out);
    if (!o->keep_versions && r->life == REPLICA_INIT && !s->stopping) {
        const struct status versions = run(r, o, deadline_ns, out);

        st = status_ok(st) ? versions : st;
    }
    r->collecting = false;
    work__end(&work);
    return st;
}
