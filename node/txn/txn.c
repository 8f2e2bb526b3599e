/*
 * txn.c -- how a transaction begins, who it is, and where its statements begin.
 *
 * Who only reads needs to be nobody. Who locks or commits gets an id and an anchor, the key at whose range the
 * record would lie; one batch to one range needs them only for the question what became of it.
 */
#include "node/base/invariant.h"
#include "node/runtime/shard.h"
#include "node/txn/internal.h"

struct status txn__grow(struct arena *arena, void **array, uint32_t *cap, size_t item_size,
                        uint32_t max)
{
    const uint32_t next = *cap == 0 ? 8 : *cap * 2;
    void *grown = NULL;

    if (*cap >= max) {
        return FAIL(STATUS_TOO_LARGE, "the transaction is too large");
    }
    grown = arena_calloc(arena, next, item_size);
    if (grown == NULL) {
        return txn__no_memory();
    }
    if (*cap > 0) {
        memcpy(grown, *array, *cap * item_size);
    }
    *array = grown;
    *cap = next;
    return OK;
}

struct status txn__keep_message(struct arena *arena, struct status st)
{
    if (st.msg != NULL) {
        st.msg = arena_strdup(arena, st.msg);
        st.msg = st.msg == NULL ? "out of memory" : st.msg;
    }
    return st;
}

/* A new snapshot: whatever was written before `began` has to be seen. Zero: now. */
static void new_snapshot(struct txn *t, struct hts began)
{
    const struct hts now = kv_now(t->kv);

    t->began = hts_is_zero(began) ? now : began;
    t->read_ts = t->o.as_of;
    t->has_read = false;
    t->spans_count = 0;
    t->seen.count = 0;
    t->seen.own = now;
    t->global_limit =
        hts_is_zero(t->o.as_of) ? hts_add_ns(t->began, kv_max_offset_ns(t->kv)) : HTS_ZERO;
}

struct status txn_begin(struct kv *kv, struct arena *arena, const struct txn_options *o,
                        struct txn **out)
{
    struct txn *t = ARENA_NEW(arena, struct txn);

    if (t == NULL) {
        return txn__no_memory();
    }
    t->kv = kv;
    t->arena = arena;
    t->o = *o;
    t->o.read_only = o->read_only || !hts_is_zero(o->as_of);
    t->service = shard_get_slot(kv_shard(kv), SHARD_SLOT_TXN);
    list_init(&t->link);
    new_snapshot(t, o->began);
    t->ref.kv = kv;
    t->ref.min_ts = t->seen.own;
    *out = t;
    return OK;
}

void txn_set_lock_timeout(struct txn *t, uint64_t lock_timeout_ns)
{
    t->o.lock_timeout_ns = lock_timeout_ns;
}

void txn_statement(struct txn *t)
{
    if (t->o.isolation == TXN_READ_COMMITTED && !t->ended) {
        new_snapshot(t, HTS_ZERO);
    }
}

void txn_statement_again(struct txn *t)
{
    if (t->o.isolation == TXN_READ_COMMITTED && !t->ended) {
        new_snapshot(t, t->began);
    }
}

struct hts txn_began(const struct txn *t)
{
    return t->began;
}

static void choose_id(struct txn *t)
{
    struct env *env = shard_env(kv_shard(t->kv));

    while (uuid_is_zero(t->ref.id)) {
        env_random(env, t->ref.id.b, sizeof(t->ref.id.b));
        t->ref.priority = (uint32_t)env_random_u64(env);
    }
}

struct status txn__identify(struct txn *t, struct bytes anchor)
{
    choose_id(t);
    return t->ref.anchor.len > 0 ? OK : bytes_dup(t->arena, anchor, &t->ref.anchor);
}

void txn__identify_by_write(struct txn *t)
{
    choose_id(t);
    if (t->ref.anchor.len == 0) {
        t->ref.anchor = t->writes[t->index[0]].key;
    }
}

void txn__renew(struct txn *t)
{
    t->ref.id = (struct uuid){{0}};
    choose_id(t);
    t->ref.min_ts = kv_now(t->kv);
    t->doomed = false;
    t->beating = false; /* What is on its way is about the old one. */
}

struct range_batch_txn txn__batch_txn(const struct txn *t)
{
    return (struct range_batch_txn){
        .id = t->ref.id,
        .anchor = t->ref.anchor,
        .priority = t->ref.priority,
        .read_committed = t->o.isolation == TXN_READ_COMMITTED,
        .min_ts = uuid_is_zero(t->ref.id) ? HTS_ZERO : t->ref.min_ts,
        .global_limit = t->global_limit,
    };
}

void txn_limit_commit_ts(struct txn *t, struct hts limit)
{
    if (hts_is_zero(t->commit_limit) || hts_less(limit, t->commit_limit)) {
        t->commit_limit = limit;
    }
}

struct bytes txn_conflict_key(const struct txn *t)
{
    return t->conflict_key;
}

struct hts txn_ts(const struct txn *t)
{
    return hts_is_zero(t->commit_ts) ? t->read_ts : t->commit_ts;
}

bool txn_has_writes(const struct txn *t)
{
    return t->index_count > 0;
}
