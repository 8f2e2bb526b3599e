/*
 * replica.c -- the life of one replica and what it does with its core's Ready.
 *
 *     ABSENT --message--> UNINIT --snapshot--> INSTALLING --> INIT --removed from the descriptor--> REMOVED
 *
 * An UNINIT replica has a term and a vote but no keys; it may vote, it never campaigns. A replica id
 * is never used again: the tombstone remembers the next one that may come.
 *
 * Invariants
 *   1. What a Ready says to store goes into the store's pending write before anything later does.
 *   2. A replica is freed only when no write and no fiber refers to it (`refs`).
 */
#include <stdlib.h>

#include "node/base/codec.h"
#include "node/base/invariant.h"
#include "node/range/internal.h"

#define IDENT_FORMAT      1u
#define HARD_STATE_FORMAT 1u
#define LOG_CUT_FACTOR    4u /* A live follower may hold the log up to this many times its size. */

/* ---- stored forms ------------------------------------------------------------------------------- */

struct status replica__ident_encode(const struct replica *r, struct bytes start_key,
                                    struct buf *out)
{
    TRY(buf_append_u8(out, IDENT_FORMAT));
    TRY(buf_append_varint(out, r->id.v));
    return buf_append_lp(out, start_key);
}

static struct status ident_decode(struct bytes b, replica_id *id, struct bytes *start_key)
{
    struct reader r = reader_of(b);
    const uint8_t format = read_u8(&r);

    id->v = (uint32_t)read_varint(&r);
    *start_key = read_lp_bytes(&r);
    if (r.bad || format != IDENT_FORMAT || id->v == 0) {
        return FAIL(STATUS_CORRUPT, "damaged replica record");
    }
    return OK;
}

struct status replica__hard_state_encode(const struct raft_hard_state *h, struct buf *out)
{
    TRY(buf_append_u8(out, HARD_STATE_FORMAT));
    TRY(buf_append_varint(out, h->term));
    TRY(buf_append_varint(out, h->vote.v));
    TRY(buf_append_varint(out, h->lead.v));
    TRY(buf_append_varint(out, h->lead_epoch));
    return buf_append_varint(out, h->commit);
}

static struct status hard_state_decode(struct bytes b, struct raft_hard_state *out)
{
    struct reader r = reader_of(b);
    const uint8_t format = read_u8(&r);

    out->term = read_varint(&r);
    out->vote.v = (uint32_t)read_varint(&r);
    out->lead.v = (uint32_t)read_varint(&r);
    out->lead_epoch = read_varint(&r);
    out->commit = read_varint(&r);
    if (r.bad || format != HARD_STATE_FORMAT) {
        return FAIL(STATUS_CORRUPT, "damaged hard state");
    }
    return OK;
}

/* ---- what the core sees ------------------------------------------------------------------------- */

static bool view_support_for(void *ctx, store_id store, uint64_t *epoch_out)
{
    return liveness_support_for(((struct replica *)ctx)->store->liveness, store, epoch_out);
}

static void view_support_from(void *ctx, store_id store, uint64_t *epoch_out,
                              struct hts *expiration_out)
{
    liveness_support_from(((struct replica *)ctx)->store->liveness, store, epoch_out,
                          expiration_out);
}

void replica__refresh_view(struct replica *r)
{
    r->view.now = hclock_hts(hlc_now(r->store->hlc));
}

static struct status read_log_record(struct replica *r, uint64_t index, struct arena *arena,
                                     uint64_t *term, uint8_t *kind, struct bytes *payload)
{
    uint8_t mem[KEY_RAFT_LOG_SIZE];
    struct bytes value;

    TRY(engine_get(r->store->engine, ENGINE_CF_RAFT, key_raft_log(mem, r->range, index),
                   ENGINE_TIER_ANY, arena, &value));
    return log_record_decode(value, term, kind, payload);
}

static uint64_t log_term(void *ctx, uint64_t index)
{
    struct replica *r = ctx;
    struct arena arena;
    uint64_t term = 0;
    uint8_t kind = 0;
    struct bytes payload;

    if (index == r->truncated_index) {
        return r->truncated_term;
    }
    if (index < r->truncated_index) {
        return 0;
    }
    arena_init(&arena, 0);
    if (!status_ok(read_log_record(r, index, &arena, &term, &kind, &payload))) {
        term = 0;
    }
    arena_deinit(&arena);
    return term;
}

static struct status log_entries(void *ctx, uint64_t lo, uint32_t max, size_t bytes_max,
                                 struct raft_entry *out, uint32_t *count_out)
{
    struct replica *r = ctx;
    struct arena arena;
    size_t bytes = 0;
    struct status st = OK;

    *count_out = 0;
    if (lo <= r->truncated_index) {
        return FAIL(STATUS_NOT_FOUND, "log was truncated");
    }
    arena_init(&arena, 0);
    while (*count_out < max && (bytes < bytes_max || *count_out == 0)) {
        struct raft_entry *e = &out[*count_out];
        uint8_t kind = 0;
        struct bytes payload;

        *e = (struct raft_entry){.index = lo + *count_out};
        st = read_log_record(r, e->index, &arena, &e->term, &kind, &payload);
        if (!status_ok(st)) {
            st = *count_out > 0 && st.code == STATUS_NOT_FOUND ? OK : st;
            break;
        }
        e->kind = kind == RAFT_ENTRY_CONF ? RAFT_ENTRY_CONF : RAFT_ENTRY_NORMAL;
        e->payload = payload.len == 0 ? NULL : blob_copy(payload);
        bytes += payload.len;
        (*count_out)++;
        arena_reset(&arena);
    }
    arena_deinit(&arena);
    return st;
}

/* ---- creation ----------------------------------------------------------------------------------- */

struct status replica__set_desc(struct replica *r, const struct range_desc *d)
{
    uint8_t *keys = malloc(d->start.len + d->end.len + 1);

    if (keys == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    if (d->start.len > 0) {
        memcpy(keys, d->start.ptr, d->start.len);
    }
    if (d->end.len > 0) {
        memcpy(keys + d->start.len, d->end.ptr, d->end.len);
    }
    free(r->desc_keys);
    r->desc_keys = keys;
    r->desc = *d;
    r->desc.start = bytes_of(keys, d->start.len);
    r->desc.end = bytes_of(keys + d->start.len, d->end.len);
    store__enter_keys(r);
    return OK;
}

static struct replica *replica_alloc(struct store *s, range_id range, replica_id id)
{
    struct replica *r = calloc(1, sizeof(*r));

    if (r == NULL) {
        return NULL;
    }
    r->store = s;
    r->range = range;
    r->id = id;
    r->desc.id = range;
    r->view = (struct raft_view){
        .ctx = r, .support_for = view_support_for, .support_from = view_support_from};
    list_init(&r->dirty_link);
    list_init(&r->awake_link);
    list_init(&r->ask_link);
    list_init(&r->grave_link);
    list_init(&r->proposals);
    list_init(&r->outgoing);
    closed_init(&r->closed);
    latches_init(&r->latches);
    wait_queue_init(&r->admission.queue);
    wait_queue_init(&r->progress);
    wait_queue_init(&r->serving);
    return r;
}

static struct status start_raft(struct replica *r, const struct raft_hard_state *h,
                                uint64_t last_index)
{
    struct raft_options o = {
        .self = r->id,
        .store = r->store->o.ident.store,
        .hard_state = *h,
        .truncated_index = r->truncated_index,
        .truncated_term = r->truncated_term,
        .last_index = last_index,
        .applied_index = r->applied.index,
        .view = &r->view,
        .log = {.ctx = r, .term = log_term, .entries = log_entries},
        .election_ticks = r->store->o.election_ticks,
        .election_jitter_ticks = r->store->o.election_jitter_ticks,
        .heartbeat_ticks = 5,
        .seed = env_random_u64(shard_env(r->store->shard)),
        .plants = r->store->o.raft_plants,
    };

    range_desc_conf(&r->desc, &o.conf);
    replica__refresh_view(r);
    return raft_create(&o, &r->raft);
}

bool replica__buried(struct store *s, range_id range, replica_id id)
{
    uint8_t mem[KEY_RAFT_SIZE];
    struct arena arena;
    struct bytes value;
    struct status st = OK;
    bool is = false;

    LIST_FOREACH(it, &s->graves) {
        const struct replica *r = LIST_ENTRY(it, struct replica, grave_link);

        if (r->range.v == range.v && (id.v <= r->id.v || r->absorbed)) {
            return true;
        }
    }
    arena_init(&arena, 0);
    st = engine_get(s->engine, ENGINE_CF_RAFT, key_raft(mem, range, KEY_RAFT_TOMBSTONE),
                    ENGINE_TIER_ANY, &arena, &value);
    if (status_ok(st)) {
        struct reader r = reader_of(value);

        is = id.v < read_varint(&r) || r.bad;
    }
    arena_deinit(&arena);
    return is || (!status_ok(st) && st.code != STATUS_NOT_FOUND); /* In doubt nobody comes back. */
}

struct status replica__create(struct store *s, range_id range, replica_id id, struct replica **out)
{
    struct replica *r = NULL;
    struct buf ident = {0};
    uint8_t mem[KEY_RAFT_SIZE];
    struct status st = OK;

    if (replica__buried(s, range, id)) {
        return FAIL(STATUS_NOT_FOUND, "this replica was removed");
    }
    r = replica_alloc(s, range, id);
    if (r == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    r->life = REPLICA_UNINIT;
    TRY_OUT(start_raft(r, &(struct raft_hard_state){0}, 0));
    TRY_OUT(replica__ident_encode(r, BYTES_EMPTY, &ident));
    TRY_OUT(engine_batch_put(&store__pending(s)->batch, ENGINE_CF_RAFT,
                             key_raft(mem, range, KEY_RAFT_IDENT), buf_bytes(&ident)));
    store__pending(s)->sync = true;
    TRY_OUT(store__enter(r));
    LOG_INFO("replica.created", U64("range", range.v), U64("replica", id.v));
    *out = r;
out:
    buf_deinit(&ident);
    if (!status_ok(st)) {
        replica__destroy(r);
    }
    return st;
}

struct status replica__create_right(struct store *s, const struct range_desc *d, replica_id id,
                                    const struct applied_state *a, const struct raft_hard_state *h,
                                    struct replica **out)
{
    struct replica *r = replica_alloc(s, d->id, id);
    struct status st = OK;

    if (r == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    r->life = REPLICA_UNINIT;
    r->unborn = true;
    r->applied = *a;
    r->submitted = *a;
    r->hard_state = *h;
    r->truncated_index = a->index;
    r->truncated_term = a->term;
    TRY_OUT(replica__set_desc(r, d));
    TRY_OUT(start_raft(r, h, a->index));
    TRY_OUT(store__enter(r));
    *out = r;
    return OK;
out:
    replica__destroy(r);
    return st;
}

/* ---- loading ------------------------------------------------------------------------------------ */

struct status replica__read_desc(struct engine *e, const struct engine_snap *snap,
                                 struct bytes start_key, struct arena *arena,
                                 struct range_desc *out)
{
    struct mvcc_reader reader;
    struct mvcc_read opt = {.ts = HTS_MAX, .no_intents = true};
    struct mvcc_value value;
    struct mvcc_conflict conflict;
    struct buf key = {0};
    struct key_enc k;
    struct bytes key_bytes;
    struct status st = OK;

    mvcc_reader_init(&reader, e, snap, ENGINE_TIER_ANY);
    key_enc_init_buf(&k, &key);
    key_enc_local(&k, start_key, KEY_LOCAL_DESCRIPTOR);
    TRY_OUT(key_enc_finish(&k, &key_bytes));
    TRY_OUT(mvcc_get(&reader, key_bytes, &opt, arena, &value, &conflict));
    if (!value.found) {
        TRY_OUT(FAIL(STATUS_CORRUPT, "a replica has no range descriptor"));
    }
    TRY_OUT(range_desc_decode(value.value, arena, out));
out:
    mvcc_reader_deinit(&reader);
    buf_deinit(&key);
    return st;
}

static struct status load_desc(struct replica *r, struct bytes start_key, struct arena *arena)
{
    struct range_desc d;

    TRY(replica__read_desc(r->store->engine, NULL, start_key, arena, &d));
    if (d.id.v != r->range.v) {
        return FAIL(STATUS_CORRUPT, "a replica has another range's descriptor");
    }
    return replica__set_desc(r, &d);
}

static struct status get_optional(struct store *s, enum engine_cf cf, struct bytes key,
                                  struct arena *arena, struct bytes *out)
{
    struct status st = engine_get(s->engine, cf, key, ENGINE_TIER_ANY, arena, out);

    if (st.code == STATUS_NOT_FOUND) {
        *out = BYTES_EMPTY;
        return OK;
    }
    return st;
}

/* Last index of the stored log; every entry up to it must be there. */
static struct status find_last_index(struct replica *r, uint64_t *last_out)
{
    uint8_t lower[KEY_RAFT_LOG_SIZE];
    uint8_t upper[KEY_RAFT_LOG_SIZE];
    struct engine_iter_options io = {
        .cf = ENGINE_CF_RAFT,
        .lower = key_raft_log(lower, r->range, r->truncated_index + 1),
        .upper = key_raft_log(upper, r->range, UINT64_MAX),
    };
    struct engine_iter *it = NULL;
    uint64_t expect = r->truncated_index + 1;
    struct status st = OK;

    TRY(engine_iter_open(r->store->engine, &io, &it));
    for (engine_iter_seek_first(it); engine_iter_valid(it); engine_iter_next(it)) {
        range_id range;
        enum key_raft_tag tag;
        uint64_t index = 0;
        uint64_t term = 0;
        uint8_t kind = 0;
        struct bytes payload;

        if (!key_raft_split(engine_iter_key(it), &range, &tag, &index) || index != expect) {
            TRY_OUT(FAIL(STATUS_CORRUPT, "a log entry is missing"));
        }
        TRY_OUT(log_record_decode(engine_iter_value(it), &term, &kind, &payload));
        r->log_bytes += engine_iter_value(it).len;
        expect++;
    }
    TRY_OUT(engine_iter_status(it));
    *last_out = expect - 1;
#ifdef DSQL_PLANTS
    if ((r->store->o.plants & STORE_PLANT_LOSE_TAIL) != 0 && *last_out > r->applied.index) {
        (*last_out)--;
    }
#endif
out:
    engine_iter_close(it);
    return st;
}

static struct status load_raft(struct replica *r, struct arena *arena)
{
    uint8_t mem[KEY_RAFT_SIZE];
    struct bytes value;
    struct raft_hard_state h = {0};
    struct reader rd;
    uint64_t last = 0;

    TRY(get_optional(r->store, ENGINE_CF_RAFT, key_raft(mem, r->range, KEY_RAFT_HARD_STATE), arena,
                     &value));
    if (value.len > 0) {
        TRY(hard_state_decode(value, &h));
    }
    TRY(get_optional(r->store, ENGINE_CF_RAFT, key_raft(mem, r->range, KEY_RAFT_TRUNCATED), arena,
                     &value));
    if (value.len > 0) {
        rd = reader_of(value);
        r->truncated_index = read_varint(&rd);
        r->truncated_term = read_varint(&rd);
        if (rd.bad) {
            return FAIL(STATUS_CORRUPT, "damaged truncation record");
        }
    }
    TRY(find_last_index(r, &last));
    if (r->applied.index < r->truncated_index || r->applied.index > last) {
        return FAIL(STATUS_CORRUPT, "applied index outside of the log: acknowledged data is lost");
    }
    /* A range starts at a term that nobody was elected in. */
    h.term = h.term < r->truncated_term ? r->truncated_term : h.term;
    h.commit = h.commit < r->applied.index ? r->applied.index : h.commit;
    h.commit = h.commit > last ? last : h.commit;
    r->hard_state = h;
    return start_raft(r, &h, last);
}

struct status replica__load(struct store *s, range_id range, struct bytes ident)
{
    uint8_t mem[KEY_RANGE_ID_SIZE];
    struct arena arena;
    struct replica *r = NULL;
    replica_id id;
    struct bytes start_key;
    struct bytes value;
    bool recovered = false;
    struct status st = OK;

    arena_init(&arena, 0);
    TRY_OUT(ident_decode(ident, &id, &start_key));
    TRY_OUT(install__recover(s, range, id, &recovered));
    if (recovered) {
        TRY_OUT(engine_get(s->engine, ENGINE_CF_RAFT, key_raft(mem, range, KEY_RAFT_IDENT),
                           ENGINE_TIER_ANY, &arena, &ident));
        TRY_OUT(ident_decode(ident, &id, &start_key));
    }
    r = replica_alloc(s, range, id);
    if (r == NULL) {
        TRY_OUT(FAIL(STATUS_MEMORY, "out of memory"));
    }
    r->life = start_key.len == 0 ? REPLICA_UNINIT : REPLICA_INIT;
    if (r->life == REPLICA_INIT) {
        TRY_OUT(engine_get(s->engine, ENGINE_CF_STATE,
                           key_range_record(mem, range, KEY_RANGE_APPLIED), ENGINE_TIER_ANY, &arena,
                           &value));
        TRY_OUT(applied_state_decode(value, &r->applied));
#ifdef DSQL_PLANTS
        if ((s->o.plants & STORE_PLANT_APPLY_TWICE) != 0 && r->applied.index > 0) {
            r->applied.index--;
        }
#endif
        r->submitted = r->applied;
        TRY_OUT(gc__load_threshold(r, &arena));
        TRY_OUT(load_desc(r, start_key, &arena));
    }
    TRY_OUT(load_raft(r, &arena));
    TRY_OUT(store__enter(r));
    store__mark_dirty(r);
out:
    arena_deinit(&arena);
    if (!status_ok(st)) {
        replica__destroy(r);
    }
    return st;
}

/* ---- end ---------------------------------------------------------------------------------------- */

void replica__acquire(struct replica *r)
{
    r->refs++;
}

void replica__release(struct replica *r)
{
    INVARIANT(r->refs > 0);
    if (--r->refs == 0 && r->life == REPLICA_REMOVED) {
        replica__destroy(r);
    }
}

void replica__destroy(struct replica *r)
{
    if (r == NULL) {
        return;
    }
    apply__fail_proposals(r, FAIL(STATUS_AMBIGUOUS, "the replica was removed"));
    closed__forget(r);
    snapshot__drop(r);
    install__destroy(r);
    checksum__destroy(r);
    list_remove(&r->awake_link);
    list_remove(&r->ask_link);
    list_remove(&r->grave_link);
    lease__closed(r);
    raft_destroy(r->raft);
    latches_trim(&r->latches);
    load__reset(r);
    free(r->desc_keys);
    free(r);
}

struct status replica__wait_progress(struct replica *r, uint64_t deadline_ns)
{
    if (!r->store->stopping) {
        TRY(wait_queue_wait(&r->progress, deadline_ns));
    }
    return r->store->stopping ? FAIL(STATUS_CANCELLED, "the store is stopping") : OK;
}

struct status replica__begin_change(struct store *s, range_id range, struct replica **out)
{
    struct replica *r = store__find(s, range);

    if (r == NULL || s->stopping || !status_ok(lease__check(r, HTS_ZERO))) {
        return FAIL(STATUS_NOT_LEADER, "this store does not hold the lease");
    }
    if (r->changing || change__held(r)) {
        return FAIL(STATUS_OVERLOADED, "the range is being changed already");
    }
    r->changing = true;
    replica__acquire(r);
    s->fibers++;
    *out = r;
    return OK;
}

void replica__end_change(struct replica *r)
{
    struct store *s = r->store;

    r->changing = false;
    replica__release(r);
    s->fibers--;
    wait_queue_wake_all(&s->idle);
}

struct status replica__put_raft_removal(struct replica *r, uint64_t next_id, struct engine_batch *b)
{
    uint8_t mem[KEY_RAFT_LOG_SIZE];
    uint8_t end[KEY_RAFT_LOG_SIZE];
    uint8_t value[VARINT_MAX];

    TRY(engine_batch_delete_range(b, ENGINE_CF_RAFT, key_raft_log(mem, r->range, 0),
                                  key_raft_log(end, r->range, UINT64_MAX)));
    TRY(engine_batch_delete(b, ENGINE_CF_RAFT, key_raft(mem, r->range, KEY_RAFT_HARD_STATE)));
    TRY(engine_batch_delete(b, ENGINE_CF_RAFT, key_raft(mem, r->range, KEY_RAFT_IDENT)));
    TRY(engine_batch_delete(b, ENGINE_CF_RAFT, key_raft(mem, r->range, KEY_RAFT_TRUNCATED)));
    TRY(install__delete_spool(b, r->range));
    return engine_batch_put(b, ENGINE_CF_RAFT, key_raft(mem, r->range, KEY_RAFT_TOMBSTONE),
                            bytes_of(value, varint_put(value, next_id)));
}

/* Deletes everything of the replica and leaves a tombstone, in the pending write. */
static struct status put_removal(struct replica *r, uint64_t next_id, struct engine_batch *b)
{
    struct arena arena;
    struct key_span spans[KEY_RANGE_SPANS];
    struct status st = OK;

    arena_init(&arena, 0);
    if (r->life == REPLICA_INIT) {
        TRY_OUT(key_range_spans(&arena, r->range, r->desc.start, r->desc.end, spans));
        for (int i = 0; i < KEY_RANGE_SPANS; i++) {
            TRY_OUT(engine_batch_delete_range(b, ENGINE_CF_STATE, spans[i].start, spans[i].end));
        }
    }
    TRY_OUT(replica__put_raft_removal(r, next_id, b));
out:
    arena_deinit(&arena);
    return st;
}

void replica__retire(struct replica *r)
{
    replica__acquire(r);
    store__leave(r);
    closed__forget(r);
    r->life = REPLICA_REMOVED;
    snapshot__stop(r); /* Nobody finds them here when the store stops. */
    snapshot__drop(r);
    lease__closed(r);
    apply__fail_proposals(r, FAIL(STATUS_AMBIGUOUS, "the replica was removed"));
    change__release(r);
    wait_queue_wake_all(&r->progress);
    replica__release(r);
}

static void bury(struct replica *r, uint64_t next_id, struct store_write *w)
{
    const struct status st = put_removal(r, next_id, &w->batch);

    if (!status_ok(st)) {
        store__fatal(r->store, st);
        return;
    }
    w->sync = true;
    LOG_INFO("replica.removed", U64("range", r->range.v), U64("replica", r->id.v));
    /* Lives at least until the tombstone is durable: a message of now must not bring it back. */
    (void)store__add_item(w, r);
    list_push_back(&r->store->graves, &r->grave_link);
    replica__retire(r);
}

void replica__remove(struct replica *r)
{
    bury(r, (uint64_t)r->id.v + 1, store__pending(r->store));
}

void replica__remove_for_ever(struct replica *r, struct store_write *w)
{
    r->absorbed = true;
    bury(r, UINT64_MAX, w);
}

/* ---- ready -------------------------------------------------------------------------------------- */

static struct status put_entries(struct replica *r, const struct raft_ready *rd,
                                 struct engine_batch *b)
{
    uint8_t mem[KEY_RAFT_LOG_SIZE];
    struct buf *value = &r->store->block;

    for (uint32_t i = 0; i < rd->entries_count; i++) {
        const struct raft_entry *e = &rd->entries[i];

        buf_clear(value);
        TRY(log_record_encode(e->term, (uint8_t)e->kind, blob_bytes(e->payload), value));
        TRY(engine_batch_put(b, ENGINE_CF_RAFT, key_raft_log(mem, r->range, e->index),
                             buf_bytes(value)));
        r->log_bytes += value->len;
    }
    for (uint64_t i = rd->stale_first; i <= rd->stale_last && rd->stale_last != 0; i++) {
        TRY(engine_batch_delete(b, ENGINE_CF_RAFT, key_raft_log(mem, r->range, i)));
    }
    r->store->stats.entries += rd->entries_count;
    return OK;
}

static struct status put_hard_state(struct replica *r, const struct raft_hard_state *h,
                                    struct engine_batch *b)
{
    uint8_t mem[KEY_RAFT_SIZE];
    struct buf *value = &r->store->block;

#ifdef DSQL_PLANTS
    if ((r->store->o.plants & STORE_PLANT_NO_VOTE_PERSIST) != 0) {
        return OK;
    }
#endif
    buf_clear(value);
    TRY(replica__hard_state_encode(h, value));
    return engine_batch_put(b, ENGINE_CF_RAFT, key_raft(mem, r->range, KEY_RAFT_HARD_STATE),
                            buf_bytes(value));
}

static void queue_msgs(struct replica *r, struct outbox *o, const struct raft_msg *msgs,
                       uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (msgs[i].type == RAFT_MSG_SNAP) {
            snapshot__send(r, msgs[i].to);
        } else {
            outbox__add(o, r, &msgs[i]);
        }
    }
}

/* Entries and hard state into the pending write, and what waits for it. */
static struct status put_ready(struct replica *r, const struct raft_ready *rd)
{
    struct store_write *w = store__pending(r->store);
    struct engine_batch *log = &w->batch;
    struct outbox *after = &w->outbox;

    if (rd->has_snapshot) {
        snapshot__install(r, rd, w);
    }
    if (r->install != NULL) { /* The rest waits until the snapshot stands. */
        log = install__last_batch(r);
        after = install__outbox(r);
    }
    TRY(put_entries(r, rd, log));
    if (rd->hard_state_changed) {
        r->hard_state = rd->hard_state;
        TRY(put_hard_state(r, &rd->hard_state, &w->batch));
        if (r->store->probe.voted != NULL && rd->hard_state.vote.v != 0) {
            r->store->probe.voted(r->store->probe.ctx, r->store->o.ident.store, r->range,
                                  rd->hard_state.term, rd->hard_state.vote);
        }
    }
    w->sync = w->sync || rd->must_sync;
    if (rd->has_mark && r->install != NULL) {
        install__set_mark(r, rd->mark);
    } else if (rd->has_mark) {
        struct write_item *item = store__add_item(w, r);

        item->has_mark = true;
        item->mark = rd->mark;
    }
    queue_msgs(r, after, rd->msgs_after_append, rd->msgs_after_append_count);
    return OK;
}

/* The log may lose what everybody has; see protocol reference 2.8. */
static struct status truncate_log(struct replica *r)
{
    const uint64_t bytes_max = r->store->o.log_bytes_max;
    uint64_t upto = r->log_bytes < LOG_CUT_FACTOR * bytes_max ? raft_truncate_hint(r->raft)
                                                              : raft_truncate_cut(r->raft);
    uint8_t mem[KEY_RAFT_LOG_SIZE];
    uint8_t end[KEY_RAFT_LOG_SIZE];
    uint8_t value[2 * VARINT_MAX];
    size_t len = 0;
    struct raft_entry e;
    uint32_t count = 0;
    struct store_write *w = NULL;
    struct write_item *item = NULL;

    upto = upto > r->applied.index ? r->applied.index : upto;
    if (r->log_bytes < bytes_max || upto <= r->truncated_index || r->truncating) {
        return OK;
    }
    TRY(raft_read_entries(r->raft, upto, upto, 1, &e, &count));
    blob_release(e.payload);
    w = store__pending(r->store);
    len = varint_put(value, upto);
    len += varint_put(value + len, e.term);
    TRY(engine_batch_put(&w->batch, ENGINE_CF_RAFT, key_raft(mem, r->range, KEY_RAFT_TRUNCATED),
                         bytes_of(value, len)));
    TRY(engine_batch_delete_range(&w->batch, ENGINE_CF_RAFT,
                                  key_raft_log(mem, r->range, r->truncated_index + 1),
                                  key_raft_log(end, r->range, upto + 1)));
    item = store__add_item(w, r);
    item->truncated_index = upto;
    item->truncated_term = e.term;
    r->truncating = true;
    return OK;
}

void replica__handle_ready(struct replica *r)
{
    struct raft_ready rd;
    bool role_changed = false;

    if (r->install != NULL) {
        return; /* Deaf and mute until it is done. */
    }
    replica__refresh_view(r);
    while (r->install == NULL && raft_has_ready(r->raft)) {
        struct status st = OK;

        raft_ready(r->raft, &rd);
        queue_msgs(r, &r->store->outbox, rd.msgs_now, rd.msgs_now_count);
        st = put_ready(r, &rd);
        if (!status_ok(st)) {
            store__fatal(r->store, st);
            return;
        }
        role_changed = rd.role_changed;
        if (rd.apply_upto > r->submitted.index && r->life == REPLICA_INIT) {
            apply__submit(r, r->submitted.index + 1, rd.apply_upto);
        }
        raft_advance(r->raft);
        if (role_changed) {
            lease__role_changed(r);
        }
    }
    snapshot__settle(r);
    apply__answer_committed(r);
    if (!status_ok(truncate_log(r))) {
        LOG_WARN("replica.truncate_failed", U64("range", r->range.v));
    }
    wait_queue_wake_all(&r->progress);
}

static void adopt_desc(struct replica *r, struct blob *encoded)
{
    struct arena arena;
    struct range_desc d;
    struct raft_conf conf;

    arena_init(&arena, 0);
    if (!status_ok(range_desc_decode(blob_bytes(encoded), &arena, &d)) ||
        !status_ok(replica__set_desc(r, &d))) {
        store__fatal(r->store, FAIL(STATUS_CORRUPT, "damaged descriptor in the log"));
        arena_deinit(&arena);
        return;
    }
    arena_deinit(&arena);
    range_desc_conf(&r->desc, &conf);
    replica__refresh_view(r);
    raft_apply_conf(r->raft, &conf);
    LOG_INFO("range.descriptor", U64("range", r->range.v), U64("generation", r->desc.generation),
             U64("replicas", r->desc.replicas_count));
}

static void applied_done(struct replica *r, struct write_item *item)
{
    r->applied = item->state;
    if (item->desc != NULL) {
        adopt_desc(r, item->desc);
        change__applied(r, item->born);
    }
    if (item->snapshot) {
        r->life = REPLICA_INIT;
        side__attach(r);
        apply__fail_proposals(r, FAIL(STATUS_AMBIGUOUS, "the replica was replaced by a snapshot"));
        rpc_reply(r->store->o.rpc, &item->snapshot_reply, OK, NULL, 0);
    } else {
        raft_apply_done(r->raft, item->state.index);
    }
    if (item->lease_started) {
        r->serving_term = item->lease_term;
        if (raft_get_state(r->raft).role == RAFT_LEADER &&
            raft_get_state(r->raft).term == item->lease_term) {
            lease__opened(r, item->lease_ts);
        }
        r->lease_start_ts = item->lease_ts;
    }
    closed__applied(r);
    apply__resolve_proposals(r, item->state.index);
    change__look_at_hold(r);
    raft_cache_release(r->raft, item->state.index);
    if (r->life == REPLICA_INIT && range_desc_find_id(&r->desc, r->id) == NULL) {
        replica__remove(r);
    }
}

static void log_was_truncated(struct replica *r, const struct write_item *item)
{
    const uint64_t last = raft_get_state(r->raft).last;
    double left = 0;

    if (item->truncated_index <= r->truncated_index) {
        return; /* A snapshot that was accepted meanwhile starts the log behind it. */
    }
    /* What is left, as if all entries were equally large. */
    left = last <= item->truncated_index
               ? 0
               : (double)(last - item->truncated_index) / (double)(last - r->truncated_index);
    r->log_bytes = (uint64_t)((double)r->log_bytes * left);
    r->truncated_index = item->truncated_index;
    r->truncated_term = item->truncated_term;
    raft_log_truncated(r->raft, item->truncated_index, item->truncated_term);
}

void replica__write_done(struct store *s, struct write_item *item)
{
    struct replica *r = item->replica;

    UNUSED(s);
    if (r->life == REPLICA_REMOVED) {
        install__next(r); /* Sees that it is over. */
        return;
    }
    replica__refresh_view(r);
    if (item->has_mark) {
        raft_append_done(r->raft, item->mark);
    }
    if (item->chunk) {
        snapshot__chunk_written(r, &item->snapshot_reply);
    }
    if (item->install_step) {
        install__next(r);
    }
    if (item->truncated_index != 0) {
        r->truncating = false;
        log_was_truncated(r, item);
    }
    if (item->applied) {
        applied_done(r, item);
    }
    store__mark_dirty(r);
}
