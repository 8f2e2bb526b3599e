/*
 * install.c -- a Raft snapshot becomes the state of a replica.
 *
 * The problem: a snapshot is larger than a write may be, and the data it replaces may not be half gone
 * when a crash comes: the replica has acknowledged what it would no longer have.
 *
 * The idea: chunks are kept as they came, under keys of their own in the raft family (the spool), while the
 * replica goes on as it was. Only when all are here and the core has accepted the snapshot is anything old
 * touched:
 *
 *     chunks -> spool                            the old replica stands; a crash leaves rubbish, no more
 *     marker, hard state                         synced: from here on there is no way back
 *     delete the old, spool -> state             write by write, each of one chunk
 *     log, truncation, ident; marker and spool go      synced: the new replica stands
 *
 * A restart that finds a marker does the last two steps again before it loads the replica: all it needs is
 * on its own disk. In between the replica is INSTALLING: nothing is read from it, and no Ready is taken, so
 * that it neither votes nor acknowledges. What the accepted Ready has beside the snapshot waits for the last
 * write.
 *
 * A snapshot of one chunk skips all this: it is one synced write.
 *
 * Source: protocol reference 2.9. Differs: the spool is in the engine instead of in files to ingest, which
 * writes twice but needs nothing of the engine that its twin in memory does not have.
 */
#include <stdlib.h>

#include "node/base/codec.h"
#include "node/base/invariant.h"
#include "node/range/internal.h"

#define PLAN_FORMAT 1u

struct snapshot_install {
    struct replica *replica;
    struct install_plan plan;
    struct arena arena; /* Of the plan. */
    struct applied_state state;
    struct rpc_reply_to reply;
    /* Waits for the end. */
    struct engine_batch last;
    struct outbox after;
    bool has_mark;
    struct raft_mark mark;
    /* One step. */
    struct env_job job;
    bool active;  /* Counted among the store's fibers. */
    bool reading; /* The job is on the io lane. */
    uint64_t next;
    struct engine_batch ops;
    struct status st;
};

/* ---- stored forms ------------------------------------------------------------------------------- */

static struct status plan_encode(const struct install_plan *p, struct buf *out)
{
    struct buf desc = {0};
    struct status st = OK;

    TRY_OUT(range_desc_encode(&p->desc, &desc));
    TRY_OUT(buf_append_u8(out, PLAN_FORMAT));
    TRY_OUT(buf_append_varint(out, p->index));
    TRY_OUT(buf_append_varint(out, p->term));
    TRY_OUT(buf_append_varint(out, p->chunks));
    TRY_OUT(buf_append_lp(out, p->old.start));
    TRY_OUT(buf_append_lp(out, p->old.end));
    TRY_OUT(buf_append_lp(out, buf_bytes(&desc)));
out:
    buf_deinit(&desc);
    return st;
}

static struct status plan_decode(struct bytes b, struct arena *arena, struct install_plan *out)
{
    struct reader r = reader_of(b);
    const uint8_t format = read_u8(&r);
    struct bytes desc;

    *out = (struct install_plan){.index = read_varint(&r)};
    out->term = read_varint(&r);
    out->chunks = read_varint(&r);
    out->old.start = read_lp_bytes(&r);
    out->old.end = read_lp_bytes(&r);
    desc = read_lp_bytes(&r);
    if (r.bad || r.rest.len != 0 || format != PLAN_FORMAT) {
        return FAIL(STATUS_CORRUPT, "damaged record of a snapshot under way");
    }
    return range_desc_decode(desc, arena, &out->desc);
}

struct status install__put_chunk(struct engine_batch *b, range_id range, uint64_t seq,
                                 struct bytes block)
{
    uint8_t mem[KEY_RAFT_LOG_SIZE];

    return engine_batch_put(b, ENGINE_CF_RAFT, key_raft_spool(mem, range, seq), block);
}

struct status install__delete_spool(struct engine_batch *b, range_id range)
{
    uint8_t mem[KEY_RAFT_LOG_SIZE];
    uint8_t end[KEY_RAFT_LOG_SIZE];

    return engine_batch_delete_range(b, ENGINE_CF_RAFT, key_raft_spool(mem, range, 0),
                                     key_raft_spool(end, range, UINT64_MAX));
}

/* ---- the steps ---------------------------------------------------------------------------------- */

struct status install__delete_old(struct engine_batch *b, const struct install_plan *p)
{
    struct arena arena;
    struct key_span spans[KEY_RANGE_SPANS];
    struct status st = OK;

    arena_init(&arena, 0);
    TRY_OUT(key_range_spans(&arena, p->desc.id, p->desc.start, p->desc.end, spans));
    for (int i = 0; i < KEY_RANGE_SPANS; i++) {
        TRY_OUT(engine_batch_delete_range(b, ENGINE_CF_STATE, spans[i].start, spans[i].end));
    }
    if (p->old.start.len > 0 && !bytes_eq(p->old.end, p->desc.end)) {
        /* What it covered may have been more, before splits that it has missed. */
        TRY_OUT(key_range_spans(&arena, p->desc.id, p->old.start, p->old.end, spans));
        for (int i = 0; i < KEY_RANGE_SPANS; i++) {
            TRY_OUT(engine_batch_delete_range(b, ENGINE_CF_STATE, spans[i].start, spans[i].end));
        }
    }
out:
    arena_deinit(&arena);
    return st;
}

struct status install__put_last(struct engine_batch *b, const struct install_plan *p, replica_id id)
{
    const struct replica self = {.id = id};
    const range_id range = p->desc.id;
    uint8_t mem[KEY_RAFT_LOG_SIZE];
    uint8_t end[KEY_RAFT_LOG_SIZE];
    uint8_t value[2 * VARINT_MAX];
    struct buf ident = {0};
    size_t len = 0;
    struct status st = OK;

    TRY_OUT(engine_batch_delete_range(b, ENGINE_CF_RAFT, key_raft_log(mem, range, 0),
                                      key_raft_log(end, range, UINT64_MAX)));
    len = varint_put(value, p->index);
    len += varint_put(value + len, p->term);
    TRY_OUT(engine_batch_put(b, ENGINE_CF_RAFT, key_raft(mem, range, KEY_RAFT_TRUNCATED),
                             bytes_of(value, len)));
    TRY_OUT(replica__ident_encode(&self, p->desc.start, &ident));
    TRY_OUT(engine_batch_put(b, ENGINE_CF_RAFT, key_raft(mem, range, KEY_RAFT_IDENT),
                             buf_bytes(&ident)));
    if (p->chunks > 0) {
        TRY_OUT(
            engine_batch_delete(b, ENGINE_CF_RAFT, key_raft(mem, range, KEY_RAFT_SNAP_PENDING)));
        TRY_OUT(install__delete_spool(b, range));
    }
out:
    buf_deinit(&ident);
    return st;
}

/* One chunk of the spool as puts; the first one also deletes what was there. Reads the disk. */
static struct status chunk_ops(struct engine *e, const struct install_plan *p, uint64_t seq,
                               struct engine_batch *b)
{
    uint8_t mem[KEY_RAFT_LOG_SIZE];
    struct arena arena;
    struct bytes block;
    struct reader r;
    struct status st = OK;

    arena_init(&arena, 0);
    engine_batch_clear(b);
    TRY_OUT(engine_get(e, ENGINE_CF_RAFT, key_raft_spool(mem, p->desc.id, seq), ENGINE_TIER_ANY,
                       &arena, &block));
    if (seq == 0) {
        TRY_OUT(install__delete_old(b, p));
    }
    for (r = reader_of(block); r.rest.len > 0 && !r.bad;) {
        const struct bytes key = read_lp_bytes(&r);
        const struct bytes value = read_lp_bytes(&r);

        if (!r.bad) {
            TRY_OUT(engine_batch_put(b, ENGINE_CF_STATE, key, value));
        }
    }
    st = r.bad ? FAIL(STATUS_CORRUPT, "damaged chunk of a snapshot") : OK;
out:
    arena_deinit(&arena);
    return st;
}

/* ---- while the store runs ----------------------------------------------------------------------- */

void install__destroy(struct replica *r)
{
    struct snapshot_install *x = r->install;

    if (x == NULL) {
        return;
    }
    INVARIANT(!x->reading);
    r->install = NULL;
    engine_batch_deinit(&x->last);
    engine_batch_deinit(&x->ops);
    outbox__clear(&x->after);
    arena_deinit(&x->arena);
    free(x);
}

static void step_work(struct env_job *job)
{
    struct snapshot_install *x = CONTAINER_OF(job, struct snapshot_install, job);

    x->st = chunk_ops(x->replica->store->engine, &x->plan, x->next, &x->ops);
}

/* The end, good or bad. When the store stops, its next life goes on from the marker. */
static void end(struct snapshot_install *x)
{
    struct replica *r = x->replica;
    struct store *s = r->store;

    x->active = false;
    s->fibers--;
    wait_queue_wake_all(&s->idle);
    replica__release(r);
}

static bool over(const struct replica *r)
{
    return r->store->stopping || r->store->failed || r->life == REPLICA_REMOVED;
}

static void step_read(struct env_job *job)
{
    struct snapshot_install *x = CONTAINER_OF(job, struct snapshot_install, job);
    struct replica *r = x->replica;
    struct store *s = r->store;
    struct store_write *w = NULL;

    x->reading = false;
    if (over(r)) {
        end(x);
        return;
    }
    w = store__pending(s);
    if (status_ok(x->st)) {
        x->st = engine_batch_append(&w->batch, buf_bytes(&x->ops.ops), true);
    }
    if (!status_ok(x->st)) {
        store__fatal(s, x->st);
        end(x);
        return;
    }
    x->next++;
    store__add_item(w, r)->install_step = true;
    shard_timer_arm_in(s->shard, &s->tick, 0);
}

static void finish(struct snapshot_install *x)
{
    struct replica *r = x->replica;
    struct store *s = r->store;
    struct store_write *w = store__pending(s);
    struct write_item *item = store__add_item(w, r);
    struct buf desc = {0};
    struct list *it = NULL;
    struct status st = range_desc_encode(&x->plan.desc, &desc);

    st = status_ok(st) ? engine_batch_append(&w->batch, buf_bytes(&x->last.ops), false) : st;
    item->snapshot = true;
    item->applied = true;
    item->state = x->state;
    item->desc = blob_copy(buf_bytes(&desc));
    item->snapshot_reply = x->reply;
    item->has_mark = x->has_mark;
    item->mark = x->mark;
    w->sync = true;
    while ((it = list_pop_front(&x->after.msgs)) != NULL) {
        list_push_back(&w->outbox.msgs, it);
        w->outbox.count++;
    }
    x->after.count = 0;
    buf_deinit(&desc);
    if (!status_ok(st) || item->desc == NULL) {
        store__fatal(s, FAIL(STATUS_MEMORY, "no memory for the end of a snapshot"));
    }
    replica__acquire(r);
    end(x);
    install__destroy(r);
    store__mark_dirty(r);
    replica__release(r);
}

void install__next(struct replica *r)
{
    struct snapshot_install *x = r->install;
    struct store *s = r->store;

    if (x == NULL || !x->active) {
        return;
    }
    INVARIANT(!x->reading);
    if (over(r)) {
        end(x);
        return;
    }
    if (x->next == x->plan.chunks) {
        finish(x);
        return;
    }
    x->reading = true;
    x->job.work = step_work;
    x->job.done = step_read;
    env_submit(shard_env(s->shard), ENV_LANE_IO, &x->job);
}

void install__stop(struct replica *r)
{
    if (r->install != NULL && r->install->active && !r->install->reading) {
        end(r->install);
    }
}

static struct status start(struct replica *r, const struct install_plan *p, struct store_write *w)
{
    struct snapshot_install *x = r->install;
    struct buf record = {0};
    uint8_t mem[KEY_RAFT_SIZE];
    struct status st = OK;

    x->plan = *p;
    TRY_OUT(range_desc_dup(&x->arena, &p->desc, &x->plan.desc));
    TRY_OUT(bytes_dup(&x->arena, p->old.start, &x->plan.old.start));
    TRY_OUT(bytes_dup(&x->arena, p->old.end, &x->plan.old.end));
    TRY_OUT(plan_encode(p, &record));
    TRY_OUT(engine_batch_put(&w->batch, ENGINE_CF_RAFT,
                             key_raft(mem, r->range, KEY_RAFT_SNAP_PENDING), buf_bytes(&record)));
    TRY_OUT(install__put_last(&x->last, p, r->id));
out:
    buf_deinit(&record);
    return st;
}

struct status install__start(struct replica *r, const struct install_plan *p,
                             const struct applied_state *state, const struct rpc_reply_to *reply,
                             struct store_write *w)
{
    struct snapshot_install *x = calloc(1, sizeof(*x));

    if (x == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    x->replica = r;
    x->active = true;
    x->state = *state;
    x->reply = *reply;
    arena_init(&x->arena, 0);
    engine_batch_init(&x->last);
    engine_batch_init(&x->ops);
    outbox__init(&x->after);
    r->install = x;
    r->life = REPLICA_INSTALLING;
    r->installs++;
    replica__acquire(r);
    r->store->fibers++;
    w->sync = true;
    store__add_item(w, r)->install_step = true;
    return start(r, p, w);
}

bool install__answers(const struct replica *r, const struct rpc_message *m)
{
    const struct rpc_reply_to again = rpc_reply_to(m);

    return r->install != NULL && again.call_id == r->install->reply.call_id &&
           again.node.v == r->install->reply.node.v && again.store.v == r->install->reply.store.v;
}

struct engine_batch *install__last_batch(struct replica *r)
{
    return &r->install->last;
}

struct outbox *install__outbox(struct replica *r)
{
    return &r->install->after;
}

void install__set_mark(struct replica *r, struct raft_mark mark)
{
    r->install->has_mark = true;
    r->install->mark = mark;
}

/* ---- after a crash ------------------------------------------------------------------------------ */

struct status install__recover(struct store *s, range_id range, replica_id id, bool *done)
{
    uint8_t mem[KEY_RAFT_SIZE];
    struct install_plan plan;
    struct engine_batch b;
    struct arena arena;
    struct bytes record;
    struct status st = OK;

    *done = false;
    arena_init(&arena, 0);
    engine_batch_init(&b);
    st = engine_get(s->engine, ENGINE_CF_RAFT, key_raft(mem, range, KEY_RAFT_SNAP_PENDING),
                    ENGINE_TIER_ANY, &arena, &record);
    if (st.code == STATUS_NOT_FOUND) {
        st = OK;
        goto out;
    }
    TRY_OUT(st);
    TRY_OUT(plan_decode(record, &arena, &plan));
    LOG_INFO("snapshot.resumed", U64("range", range.v), U64("index", plan.index),
             U64("chunks", plan.chunks));
    for (uint64_t seq = 0; seq < plan.chunks; seq++) {
        TRY_OUT(chunk_ops(s->engine, &plan, seq, &b));
        TRY_OUT(engine_write(s->engine, &b, false));
    }
    engine_batch_clear(&b);
    TRY_OUT(install__put_last(&b, &plan, id));
    TRY_OUT(engine_write(s->engine, &b, true));
    *done = true;
out:
    engine_batch_deinit(&b);
    arena_deinit(&arena);
    return st;
}
