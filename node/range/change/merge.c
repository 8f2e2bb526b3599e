/*
 * merge.c -- [a,m) takes over [m,b), its right neighbour.
 *
 * Two logs have to agree without a transaction. The right one gives up first, and only the left one
 * decides (node/docs/0006):
 *
 *   right log:  FREEZE(left range, its generation g)    nothing is served, closed or changed from now on
 *   all stores: have applied FREEZE, durably            so every replica there has the same, final state
 *   left log:   MERGE, if its generation still is g     each store's left replica takes over its neighbour
 *
 *   When it stops half way, the leader of the frozen range asks the left range's leaseholder:
 *   left log:   CANCEL_MERGE: generation g + 1          a MERGE of generation g can never come any more
 *   right log:  UNFREEZE
 *
 * Why the answer is final. Generations only grow, MERGE stands in the left log behind generation g and
 * nothing else, and the one who answers holds the left lease and has nothing undecided in his log. When he
 * holds the frozen range's keys the merge has happened; when he does not and his generation is another,
 * it did not happen, and never will: or it has, and the range was split again since. The latter would be
 * fatal; it is excluded because a range that has merged does not change before a quorum of its stores
 * has removed the frozen replicas for good (address.c): then nobody is left who could commit an UNFREEZE.
 *
 * What has been read from the right side is below the freeze. The left leaseholder's floor rises to it, and
 * MERGE is appended only while his support lasts beyond it, so that any later lease starts above.
 *
 * Source: protocol reference 10.6. Differs: 0006.
 */
#include "node/base/invariant.h"
#include "node/range/change/change.h"

#define ADDRESS_NS    ((uint64_t)2000000000)
#define FREEZE_NS     ((uint64_t)3000000000) /* Not all stores have it by then: the merge is off. */
#define CLEAN_UP_NS   ((uint64_t)3000000000)
#define LOOK_AGAIN_NS ((uint64_t)20000000)

/* ---- what can be merged -------------------------------------------------------------------------- */

/* The same stores in the same roles. */
static bool aligned(const struct range_desc *a, const struct range_desc *b)
{
    for (uint32_t i = 0; i < a->replicas_count; i++) {
        const struct range_replica *other = range_desc_find(b, a->replicas[i].store);

        if (other == NULL || other->type != a->replicas[i].type) {
            return false;
        }
    }
    return a->replicas_count == b->replicas_count;
}

static struct status check_pair(const struct replica *l, const struct replica *r)
{
    if (!bytes_eq(l->desc.end, r->desc.start)) {
        return FAIL(STATUS_INVALID, "the ranges are no neighbours any more");
    }
    if (range_desc_is_joint(&l->desc) || range_desc_is_joint(&r->desc)) {
        return FAIL(STATUS_OVERLOADED, "a change of a range's members is half done");
    }
    return aligned(&l->desc, &r->desc)
               ? OK
               : FAIL(STATUS_INVALID, "the ranges do not stand on the same stores");
}

/* All stores have to answer soon: otherwise the right side would be frozen in vain. */
static struct status check_live(const struct replica *r)
{
    for (uint32_t i = 0; i < r->desc.replicas_count; i++) {
        const store_id store = r->desc.replicas[i].store;

        if (store.v != r->store->o.ident.store.v && !store_peer_live(r->store, store)) {
            return FAIL(STATUS_UNAVAILABLE, "a store of the ranges is not live");
        }
    }
    return OK;
}

/* ---- FREEZE -------------------------------------------------------------------------------------- */

static struct status append_freeze(struct replica *l, struct replica *r)
{
    const struct command c = {.kind = COMMAND_FREEZE,
                              .start_ts = hclock_hts(hlc_now(r->store->hlc)),
                              .left = l->range,
                              .generation = l->desc.generation};

    TRY(check_pair(l, r));
    TRY(lease__check(l, HTS_ZERO));
    TRY(lease__check(r, HTS_ZERO));
    TRY(proposal__append(r, &c, RAFT_ENTRY_NORMAL, raft_get_state(r->raft).term, NULL));
    change__hold_until_applied(r);
    return OK;
}

/* Returns when it has applied here. */
MAYYIELD static struct status freeze(struct replica *l, struct replica *r, uint64_t deadline_ns)
{
    const uint64_t before = r->applied.freeze.index;
    uint64_t term = 0;
    struct status st = OK;

    TRY(change__hold(r, deadline_ns));
    term = raft_get_state(r->raft).term;
    st = append_freeze(l, r);
    if (!status_ok(st)) {
        change__release(r);
        return st;
    }
    while (r->applied.freeze.index == before) {
        const struct raft_state rs = raft_get_state(r->raft);

        if (r->life != REPLICA_INIT || rs.role != RAFT_LEADER || rs.term != term) {
            return FAIL(STATUS_NOT_LEADER, "leadership moved while the range was frozen");
        }
        TRY(replica__wait_progress(r, deadline_ns));
    }
    return OK;
}

/* ---- MERGE --------------------------------------------------------------------------------------- */

/* Everything of the right range goes but its keys: its row, and the records under its id. */
static struct status put_end_of(struct replica *l, const struct range_desc *right,
                                struct mvcc_writer *w, struct arena *arena)
{
    struct key_span spans[KEY_RANGE_SPANS];

    TRY(change__put_desc(l, right, true, w));
    TRY(key_range_spans(arena, right->id, right->start, right->end, spans));
    return engine_batch_delete_range(w->batch, ENGINE_CF_STATE, spans[0].start, spans[0].end);
}

static struct status append_merge(struct replica *l, struct replica *r,
                                  const struct range_freeze *f, struct arena *arena)
{
    struct command c = {.kind = COMMAND_MERGE,
                        .start_ts = f->ts,
                        .stats = r->applied.stats,
                        .generation = l->desc.generation,
                        .freeze_index = f->index};
    struct range_desc merged = l->desc;
    struct engine_batch ops;
    struct mvcc_reader reader;
    struct mvcc_writer w;
    struct buf desc = {0};
    struct buf right = {0};
    struct status st = OK;

    merged.end = r->desc.end;
    merged.generation =
        (l->desc.generation > r->desc.generation ? l->desc.generation : r->desc.generation) + 1;
    engine_batch_init(&ops);
    mvcc_reader_init(&reader, l->store->engine, NULL, ENGINE_TIER_ANY);
    mvcc_writer_init(&w, &reader, &ops, arena);
    w.no_intents = true;
    TRY_OUT(change__put_desc(l, &merged, false, &w));
    TRY_OUT(put_end_of(l, &r->desc, &w, arena));
    TRY_OUT(gc__put_threshold(&ops, l->range, hts_max(l->gc_threshold, r->gc_threshold)));
    /* Nothing is under way in either range: what the right one has promised binds the whole. */
    l->closed.assigned = hts_max(l->closed.assigned, closed__effective(r));
    TRY_OUT(range_desc_encode(&merged, &desc));
    TRY_OUT(range_desc_encode(&r->desc, &right));
    c.desc = buf_bytes(&desc);
    c.right = buf_bytes(&right);
    c.ops = buf_bytes(&ops.ops);
    TRY_OUT(proposal__append(l, &c, RAFT_ENTRY_NORMAL, raft_get_state(l->raft).term, NULL));
    change__hold_until_applied(l);
out:
    mvcc_reader_deinit(&reader);
    engine_batch_deinit(&ops);
    buf_deinit(&desc);
    buf_deinit(&right);
    return st;
}

/* The gate of MERGE: nothing yields from here until it is appended. */
static struct status check_gate(struct replica *l, struct replica *r, const struct range_freeze *f)
{
    TRY(lease__check(l, HTS_ZERO));
    TRY(check_pair(l, r));
    if (l->desc.generation != f->generation || r->life != REPLICA_INIT ||
        r->applied.freeze.index != f->index) {
        return FAIL(STATUS_NOT_LEADER, "the merge was cancelled meanwhile");
    }
    return hts_less(f->ts, raft_lead_support_until(l->raft))
               ? OK
               : FAIL(STATUS_NOT_LEADER, "the lease does not last beyond the freeze");
}

/* Returns when the left range is the wider one here. */
MAYYIELD static struct status take_over(struct replica *l, struct replica *r, uint64_t deadline_ns)
{
    const struct range_freeze f = r->applied.freeze;
    const uint64_t before = l->desc.generation;
    uint64_t term = 0;
    struct arena arena;
    struct status st = OK;

    TRY(change__hold(l, deadline_ns));
    term = raft_get_state(l->raft).term;
    arena_init(&arena, 0);
    st = check_gate(l, r, &f);
    st = status_ok(st) ? append_merge(l, r, &f, &arena) : st;
    arena_deinit(&arena);
    if (!status_ok(st)) {
        change__release(l);
        return st;
    }
    return change__wait_generation(l, before + 1, term, deadline_ns);
}

/* ---- the fiber ----------------------------------------------------------------------------------- */

static uint64_t sooner(const struct replica *r, uint64_t deadline_ns, uint64_t ns)
{
    const uint64_t until = env_mono_ns(shard_env(r->store->shard)) + ns;

    return until < deadline_ns ? until : deadline_ns;
}

MAYYIELD static struct status merge(struct replica *l, struct replica *r, uint64_t deadline_ns)
{
    TRY(check_pair(l, r));
    TRY(address__ensure(l, sooner(l, deadline_ns, ADDRESS_NS)));
    TRY(address__ensure(r, sooner(r, deadline_ns, ADDRESS_NS)));
    TRY(check_live(r));
    TRY(freeze(l, r, deadline_ns));
    TRY(ask__applied(r, r->applied.freeze.index, true, sooner(r, deadline_ns, FREEZE_NS)));
    return take_over(l, r, deadline_ns);
}

static struct replica *right_neighbour(struct store *s, range_id left)
{
    struct replica *l = store__find(s, left);

    return l == NULL || l->life != REPLICA_INIT ? NULL : store__right_of(l);
}

struct status store_merge(struct store *s, range_id range, uint64_t deadline_ns)
{
    struct replica *neighbour = right_neighbour(s, range);
    struct replica *l = NULL;
    struct replica *r = NULL;
    struct status st = OK;

    TRY(replica__begin_change(s, range, &l));
    st = neighbour == NULL || !bytes_eq(neighbour->desc.start, l->desc.end)
             ? FAIL(STATUS_INVALID, "the range has no right neighbour on this store")
             : replica__begin_change(s, neighbour->range, &r);
    if (!status_ok(st)) {
        replica__end_change(l);
        return st;
    }
    st = merge(l, r, deadline_ns);
    replica__end_change(l);
    if (!status_ok(st) && r->life == REPLICA_INIT && r->applied.freeze.index != 0 && !s->stopping) {
        /* Not left to the next tick: requests wait. */
        status_ignore(settle__merge(r, env_mono_ns(shard_env(s->shard)) + CLEAN_UP_NS));
    }
    replica__end_change(r);
    return st;
}

/* ---- the left side's word ------------------------------------------------------------------------ */

/* The same descriptor with the next generation. */
static struct status append_cancel(struct replica *l, struct arena *arena)
{
    struct command c = {.kind = COMMAND_CANCEL_MERGE, .generation = l->desc.generation};
    struct range_desc d = l->desc;
    struct engine_batch ops;
    struct mvcc_reader reader;
    struct mvcc_writer w;
    struct buf desc = {0};
    struct status st = OK;

    d.generation++;
    engine_batch_init(&ops);
    mvcc_reader_init(&reader, l->store->engine, NULL, ENGINE_TIER_ANY);
    mvcc_writer_init(&w, &reader, &ops, arena);
    w.no_intents = true;
    TRY_OUT(lease__check(l, HTS_ZERO));
    TRY_OUT(change__put_desc(l, &d, false, &w));
    TRY_OUT(range_desc_encode(&d, &desc));
    c.desc = buf_bytes(&desc);
    c.ops = buf_bytes(&ops.ops);
    TRY_OUT(proposal__append(l, &c, RAFT_ENTRY_NORMAL, raft_get_state(l->raft).term, NULL));
    change__hold_until_applied(l);
out:
    mvcc_reader_deinit(&reader);
    engine_batch_deinit(&ops);
    buf_deinit(&desc);
    return st;
}

MAYYIELD static struct status cancel(struct replica *l, uint64_t generation, uint64_t deadline_ns)
{
    struct arena arena;
    uint64_t term = 0;
    struct status st = OK;

    TRY(change__hold(l, deadline_ns));
    if (l->desc.generation != generation) {
        change__release(l);
        return FAIL(STATUS_OVERLOADED, "the range changed meanwhile");
    }
    term = raft_get_state(l->raft).term;
    arena_init(&arena, 0);
    st = append_cancel(l, &arena);
    arena_deinit(&arena);
    if (!status_ok(st)) {
        change__release(l);
        return st;
    }
    return change__wait_generation(l, generation + 1, term, deadline_ns);
}

struct status merge__fate(struct store *s, range_id left, uint64_t generation, struct bytes key,
                          uint64_t deadline_ns, enum ask_fate *out)
{
    struct replica *l = NULL;
    struct status st = replica__begin_change(s, left, &l);

    *out = ASK_FATE_UNKNOWN;
    if (!status_ok(st)) {
        return st.code == STATUS_CANCELLED ? st : OK; /* Not ours to say, or not decided yet. */
    }
    if (range_desc_contains(&l->desc, key)) {
        *out = ASK_FATE_MERGED;
    } else if (l->desc.generation != generation) {
        *out = ASK_FATE_CANCELLED;
    } else {
        st = cancel(l, generation, deadline_ns);
        *out = status_ok(st) ? ASK_FATE_CANCELLED : ASK_FATE_UNKNOWN;
    }
    replica__end_change(l);
    return st;
}

/* ---- applying ------------------------------------------------------------------------------------ */

/* The neighbour has been here and frozen since before MERGE was appended: it was asked. */
static struct replica *find_frozen(struct replica *l, const struct command *c,
                                   const struct range_desc *right)
{
    struct replica *r = store__find(l->store, right->id);

    return r != NULL && r->life == REPLICA_INIT && r->submitted.freeze.index == c->freeze_index &&
                   r->submitted.freeze.left.v == l->range.v
               ? r
               : NULL;
}

struct status change__apply_merge(struct replica *l, const struct raft_entry *e,
                                  const struct command *c, struct store_write *w,
                                  struct write_item *item)
{
    struct arena arena;
    struct range_desc right;
    struct replica *r = NULL;
    struct status st = OK;

    UNUSED(item);
    arena_init(&arena, 0);
    TRY_OUT(range_desc_decode(c->right, &arena, &right));
    r = find_frozen(l, c, &right);
    if (r == NULL) {
        TRY_OUT(FAIL(STATUS_CORRUPT, "the range to be merged is not here, or not frozen"));
    }
    l->submitted.merge_index = e->index;
    l->submitted.floor = hts_max(l->submitted.floor, c->start_ts);
    l->gc_threshold = hts_max(l->gc_threshold, r->gc_threshold);
    TRY_OUT(birth__absorb(r, w));
out:
    arena_deinit(&arena);
    return st;
}
