/*
 * birth.c -- replicas that come and go because a neighbour's log says so.
 *
 * Applying SPLIT makes the right-hand replica on every store, in the same write as the left side's applied
 * state: a crash leaves both or neither. Three cases, protocol reference 2.11:
 *
 *   - The right side was removed here, or came again under a larger id, before this store learned of
 *     the split: its keys are dropped, nothing is made.
 *   - Messages of its peers made an uninitialised replica: it has a term and perhaps a vote, which hold.
 *   - Nothing is there: it starts at the first index and term of every range.
 *
 * Between the decision and the end of the write the new replica stands in the maps: no message makes a second
 * one. Its core hears what comes, but no Ready is taken from it (`unborn`): nothing of it is said before
 * it is written. Votes that would be lost here are those that elect its first leader. Nothing here yields.
 */
#include "node/base/codec.h"
#include "node/base/invariant.h"
#include "node/range/change/change.h"

/* How long peers that do not know of the split yet are not sent a snapshot. */
#define YOUNG_NS ((uint64_t)2000000000)

static struct status drop_keys(const struct range_desc *d, struct engine_batch *b)
{
    struct arena arena;
    struct key_span spans[KEY_RANGE_SPANS];
    struct status st = OK;

    arena_init(&arena, 0);
    TRY_OUT(key_range_spans(&arena, d->id, d->start, d->end, spans));
    for (int i = 0; i < KEY_RANGE_SPANS; i++) {
        TRY_OUT(engine_batch_delete_range(b, ENGINE_CF_STATE, spans[i].start, spans[i].end));
    }
out:
    arena_deinit(&arena);
    return st;
}

/* What an uninitialised replica has promised; then it makes way for the new one, without a tombstone. */
static void take_over(struct replica *old, struct raft_hard_state *h)
{
    replica__handle_ready(old); /* What it says goes into the pending write, in front of ours. */
    *h = old->hard_state;
    replica__retire(old);
}

static struct status put_records(struct replica *r, struct engine_batch *b)
{
    uint8_t mem[KEY_RAFT_LOG_SIZE];
    struct buf value = {0};
    struct status st = OK;

    TRY_OUT(applied_state_encode(&r->applied, &value));
    TRY_OUT(engine_batch_put(b, ENGINE_CF_STATE, key_range_record(mem, r->range, KEY_RANGE_APPLIED),
                             buf_bytes(&value)));
    buf_clear(&value);
    TRY_OUT(replica__ident_encode(r, r->desc.start, &value));
    TRY_OUT(engine_batch_put(b, ENGINE_CF_RAFT, key_raft(mem, r->range, KEY_RAFT_IDENT),
                             buf_bytes(&value)));
    buf_clear(&value);
    TRY_OUT(replica__hard_state_encode(&r->hard_state, &value));
    TRY_OUT(engine_batch_put(b, ENGINE_CF_RAFT, key_raft(mem, r->range, KEY_RAFT_HARD_STATE),
                             buf_bytes(&value)));
    buf_clear(&value);
    TRY_OUT(buf_append_varint(&value, r->truncated_index));
    TRY_OUT(buf_append_varint(&value, r->truncated_term));
    TRY_OUT(engine_batch_put(b, ENGINE_CF_RAFT, key_raft(mem, r->range, KEY_RAFT_TRUNCATED),
                             buf_bytes(&value)));
out:
    buf_deinit(&value);
    return st;
}

struct status birth__right(struct store *s, const struct range_desc *right,
                           const struct applied_state *initial, struct store_write *w,
                           struct replica **out)
{
    const struct range_replica *self = range_desc_find(right, s->o.ident.store);
    struct replica *old = store__find(s, right->id);
    struct raft_hard_state h = {0};

    *out = NULL;
    INVARIANT(old == NULL ||
              old->life == REPLICA_UNINIT); /* No snapshot gets past the left side. */
    if (self == NULL || replica__buried(s, right->id, self->id) ||
        (old != NULL && old->id.v > self->id.v)) {
        LOG_INFO("range.split_drops", U64("range", right->id.v));
        return drop_keys(right, &w->batch);
    }
    if (old != NULL) {
        take_over(old, &h);
    }
    if (h.term < RANGE_FIRST_TERM) {
        h = (struct raft_hard_state){.term = RANGE_FIRST_TERM};
    }
    h.commit = RANGE_FIRST_INDEX;
    TRY(replica__create_right(s, right, self->id, initial, &h, out));
    return put_records(*out, &w->batch);
}

void birth__done(struct replica *r, bool lead)
{
    if (r->life != REPLICA_UNINIT) {
        return; /* Stopped or removed meanwhile. */
    }
    r->unborn = false;
    r->life = REPLICA_INIT;
    r->young_until_ns = env_mono_ns(shard_env(r->store->shard)) + YOUNG_NS;
    LOG_INFO("range.born", U64("range", r->range.v), U64("replica", r->id.v));
    replica__refresh_view(r);
    if (lead) {
        raft_campaign(r->raft);
    }
    store__mark_dirty(r);
}

struct status birth__absorb(struct replica *r, struct store_write *w)
{
    struct store *s = r->store;

    LOG_INFO("range.absorbed", U64("range", r->range.v));
    TRY(replica__put_raft_removal(r, UINT64_MAX, &w->batch));
    w->sync = true;
    r->absorbed = true;
    (void)store__add_item(w, r); /* Lives until its tombstone is durable. */
    list_push_back(&s->graves, &r->grave_link);
    replica__retire(r);
    return OK;
}
