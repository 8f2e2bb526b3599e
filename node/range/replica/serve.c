/*
 * serve.c -- a batch on the leaseholder: who may be served, in which order, at which timestamp.
 *
 *   read    lease? -> wait for evaluated writes that matter -> evaluate -> remember the read -> answer
 *   lock    the same with the newest versions, then take the locks of what was found
 *   write   latches -> locks of others? -> timestamp -> evaluate -> append gate -> wait for the commit;
 *           latches go when the command has applied
 *
 * Whatever meets a lock or an intent of another transaction gives up its latches, waits in the key's
 * queue (conflict/wait.c), and starts again.
 *
 * Timestamps. A 1PC commit gets the clock's present: above every read that was answered before, because
 * nobody reads the future. Intents stand where their transaction wants them, but above what others have
 * read (the timestamp cache), above what is closed, and above the start of the lease, below which other
 * stores have served. A read is entered in the cache before a later write of its keys can choose its
 * timestamp: nothing yields between the end of the wait for earlier writers and that.
 *
 * Evaluation reads only memory. When it needs the disk it is repeated as a whole on the io lane; its
 * timestamps are fixed and its reads remembered by then, and what others evaluate meanwhile is above them.
 */
#include <stdlib.h>

#include "node/base/codec.h"
#include "node/base/invariant.h"
#include "node/range/replica/eval.h"

#define WRITE_OVERHEAD     64u    /* Of a write, in the log beside key and value. */
#define RESOLVE_EXPAND_MAX 10000u /* Keys that one RESOLVE of a span settles. */

/* One batch on its way. */
struct serve {
    struct replica *r;
    const struct range_batch *b;
    uint64_t deadline_ns;
    struct arena *arena;
    struct range_result *out;
    struct lock_waiter waiter;
    struct lock_owner who;
    struct hts read_ts;   /* Chosen. */
    struct hts write_min; /* Intents: learnt on the way. */
    struct proposal *p;
    bool appended;
    uint64_t bytes_written; /* For the range's statistics. */
    uint64_t cpu_ns;
    /* What the batch asks for. */
    bool writes;   /* Of rows. */
    bool records;  /* END_TXN, HEARTBEAT, RECOVER, RESOLVE. */
    bool locks;    /* Locking reads. */
    bool prevents; /* QUERY_INTENT. */
};

/* ---- checks ------------------------------------------------------------------------------------- */

static void set_hint(struct replica *r, struct range_result *out)
{
    const struct range_replica *leader =
        range_desc_find_id(&r->desc, raft_get_state(r->raft).leader);

    if (leader != NULL && leader->id.v != r->id.v) {
        out->hint_node = leader->node;
        out->hint_store = leader->store;
    }
}

/* Requests come from other nodes, and a scan without an end would leave the range. */
static bool well_formed(const struct range_request *q, uint32_t count)
{
    switch (q->op) {
    case RANGE_OP_SCAN:
        return bytes_cmp(q->key, q->end) < 0 && q->lock < MVCC_INTENT;
    case RANGE_OP_REFRESH:
        return q->end.len == 0 || bytes_cmp(q->key, q->end) < 0;
    case RANGE_OP_RESOLVE:
        return q->args != NULL &&
               (q->end.len == 0 || (count == 1 && bytes_cmp(q->key, q->end) < 0));
    case RANGE_OP_GET:
        return q->end.len == 0 && q->lock < MVCC_INTENT;
    case RANGE_OP_PUT:
    case RANGE_OP_INSERT:
    case RANGE_OP_DELETE:
    case RANGE_OP_ABSENT:
        return q->end.len == 0;
    case RANGE_OP_PUSH:
    case RANGE_OP_QUERY_TXN:
    case RANGE_OP_QUERY_COMMIT:
        return q->end.len == 0 && q->args != NULL && count == 1;
    case RANGE_OP_QUERY_INTENT:
    case RANGE_OP_END_TXN:
    case RANGE_OP_HEARTBEAT:
    case RANGE_OP_RECOVER:
        return q->end.len == 0 && q->args != NULL;
    case RANGE_OP_COUNT:
        break;
    }
    return false;
}

static bool in_range(const struct replica *r, const struct range_request *q)
{
    return range_desc_contains(&r->desc, q->key) &&
           (q->end.len == 0 || bytes_cmp(q->end, r->desc.end) <= 0);
}

/* For who asked the wrong range: ours, and the one that has the key as far as this store knows. */
static void tell_descs(struct serve *s, struct bytes key)
{
    const struct replica *other = store__find_key(s->r->store, key);
    struct range_desc *copy = ARENA_ARRAY(s->arena, struct range_desc, 2);

    if (copy == NULL || !status_ok(range_desc_dup(s->arena, &s->r->desc, &copy[0]))) {
        return;
    }
    s->out->descs = copy;
    s->out->descs_count = 1;
    if (other != NULL && other != s->r &&
        status_ok(range_desc_dup(s->arena, &other->desc, &copy[1]))) {
        s->out->descs_count = 2;
    }
}

static struct status check_bounds(struct serve *s)
{
    for (uint32_t i = 0; i < s->b->count; i++) {
        if (!well_formed(&s->b->requests[i], s->b->count)) {
            return FAIL(STATUS_INVALID, "a request with an impossible span");
        }
        if (!in_range(s->r, &s->b->requests[i])) {
            tell_descs(s, s->b->requests[i].key);
            return FAIL(STATUS_RANGE_MISMATCH, "the key is not of this range");
        }
    }
    return OK;
}

/* After every wait: life, lease, bounds. */
static struct status check_serve(struct serve *s, struct hts ts)
{
    struct replica *r = s->r;
    struct status st = OK;

    if (r->life == REPLICA_INIT && !r->store->stopping && change__held(r)) {
        return FAIL(STATUS_WOULD_BLOCK, "a change of the range came in between");
    }
    st = r->life == REPLICA_INIT && !r->store->stopping && !r->store->failed
             ? lease__check(r, ts)
             : FAIL(STATUS_NOT_LEADER, "this replica does not hold the lease");

    if (!status_ok(st)) {
        if (r->life == REPLICA_INIT) {
            set_hint(r, s->out);
        }
        return st;
    }
    return check_bounds(s);
}

/* Whoever tries again and again must end some time. */
static struct status in_time(const struct serve *s)
{
    return env_mono_ns(shard_env(s->r->store->shard)) < s->deadline_ns
               ? OK
               : FAIL(STATUS_TIMEOUT, "gave up trying: others were always faster");
}

static bool plant(const struct replica *r, uint32_t which)
{
#ifdef DSQL_PLANTS
    return (r->store->o.plants & which) != 0;
#else
    UNUSED(r);
    UNUSED(which);
    return false;
#endif
}

static struct hts clock_now(const struct replica *r)
{
    return hclock_hts(hlc_now(r->store->hlc));
}

/* ---- evaluation --------------------------------------------------------------------------------- */

static struct eval eval_of(struct serve *s)
{
    struct replica *r = s->r;
    const struct range_batch_txn *t = &s->b->txn;
    const struct hts now = clock_now(r);

    return (struct eval){
        .skip_refresh = plant(r, STORE_PLANT_REFRESH_NOTHING),
        .engine = r->store->engine,
        .tier = ENGINE_TIER_CACHE,
        .batch = s->b,
        .read_ts = s->read_ts,
        /* Earlier leaseholders wrote by other clocks: what they wrote is below our start. */
        .local_limit = hts_is_zero(t->local_limit) ? hts_max(now, r->floor)
                                                   : hts_max(t->local_limit, r->floor),
        .now = now,
        .latest = s->locks,
        .skip = s->locks && s->b->wait == RANGE_WAIT_SKIP,
        .no_intents = apply__no_locks(r),
        .txn = {.id = t->id,
                .anchor_key = t->anchor,
                .seq = RANGE_TXN_SEQ,
                .priority = t->priority,
                .min_ts = t->min_ts,
                .read_ts = s->read_ts,
                .write_ts = t->write_ts},
        .arena = s->arena,
        .result = s->out,
    };
}

/* The lease's lock table, made when it is first needed. */
static struct status open_locks(struct replica *r)
{
    if (!r->lease_open) {
        return FAIL(STATUS_NOT_LEADER, "this replica does not hold the lease");
    }
    return r->locks != NULL ? OK : lock_table_create(&r->locks);
}

/* Another transaction's locks stand in the way: waits until it may be worth another try. */
MAYYIELD static struct status wait_for_locks(struct serve *s, const struct mvcc_conflict *c,
                                             enum mvcc_strength want, struct hts ts)
{
    struct replica *r = s->r;
    struct lock_want w = {.strength = want, .ts = ts};
    struct lock_blocker blocker;

    TRY(open_locks(r));
    for (uint32_t i = 0; i < c->lock_count; i++) {
        TRY(lock_table_discovered(r->locks, &c->locks[i]));
    }
    for (uint32_t i = 0; i < c->lock_count; i++) {
        w.key = c->locks[i].key;
        if (lock_table_conflict(r->locks, &s->waiter, &s->who, &w, 1, &blocker)) {
            TRY(wait__blocked(r, s->b, &s->waiter, &blocker, want, s->deadline_ns));
            return check_serve(s, HTS_ZERO);
        }
    }
    return OK; /* Settled meanwhile, as far as the table knows. */
}

/* Up to which time others' writes matter to this batch. */
static struct hts read_limit(const struct serve *s)
{
    const struct hts refresh = s->b->txn.write_ts;
    struct hts limit = hts_max(s->read_ts, s->b->txn.global_limit);

    if (s->locks || s->prevents) {
        return HTS_MAX;
    }
    for (uint32_t i = 0; i < s->b->count; i++) {
        limit = s->b->requests[i].op == RANGE_OP_REFRESH ? hts_max(limit, refresh) : limit;
    }
    return limit;
}

static bool reads(enum range_op op)
{
    return op == RANGE_OP_GET || op == RANGE_OP_SCAN || op == RANGE_OP_REFRESH ||
           op == RANGE_OP_QUERY_INTENT;
}

/* Waits until no evaluated write at or below ts stands in the way. *yielded: check again. */
MAYYIELD static struct status wait_for_writes(struct serve *s, const struct latch_guard *self,
                                              struct hts ts, bool *yielded)
{
    struct latches *l = &s->r->latches;

    *yielded = false;
    for (uint32_t i = 0; i < s->b->count && !plant(s->r, STORE_PLANT_SKIP_LATCH); i++) {
        const struct range_request *q = &s->b->requests[i];

        if (reads(q->op) && latch_blocks_read(l, self, q->key, q->end, ts)) {
            *yielded = true;
            TRY(latch_wait_read(l, self, q->key, q->end, ts, s->deadline_ns));
        }
    }
    return OK;
}

/* ---- reads -------------------------------------------------------------------------------------- */

/* Enters what the batch reads in the cache; done: what was covered is known. */
static void remember_reads(struct serve *s, struct hts ts, bool done)
{
    struct tscache *c = s->r->store->tscache;
    const struct hts closed = closed__assigned(s->r);

    for (uint32_t i = 0; i < s->b->count && !plant(s->r, STORE_PLANT_NO_TSCACHE); i++) {
        const struct range_request *q = &s->b->requests[i];
        const struct range_response *a = &s->out->responses[i];
        struct bytes start = q->key;
        struct bytes end = q->end;

        if (q->op == RANGE_OP_QUERY_INTENT) {
            if (!(done && a->found) && !plant(s->r, STORE_PLANT_RECOVER_NO_PREVENT)) {
                tscache_read(c, q->key, BYTES_EMPTY, q->args->ts, (struct uuid){{0}});
            }
            continue;
        }
        if (!reads(q->op)) {
            continue;
        }
        if (done && q->op == RANGE_OP_SCAN && a->more) {
            start = q->reverse ? a->resume : start;
            end = q->reverse ? end : a->resume;
        }
        if (hts_less(closed, ts)) {
            tscache_read(c, start, end, ts, s->b->txn.id);
        }
    }
}

static struct hts read_at(const struct serve *s)
{
    const struct hts refresh = s->b->txn.write_ts;
    struct hts ts = s->read_ts;

    for (uint32_t i = 0; i < s->b->count; i++) {
        ts = s->b->requests[i].op == RANGE_OP_REFRESH ? hts_max(ts, refresh) : ts;
    }
    return ts;
}

/* Nobody may read what is still to come: writes get the clock's time, and would land below the read. */
static struct status choose_read_ts(struct serve *s)
{
    const struct hts now = clock_now(s->r);

    if (hts_is_zero(s->read_ts)) {
        s->read_ts = now;
    }
    return hts_less(now, read_at(s)) ? FAIL(STATUS_INVALID, "a read timestamp in the future") : OK;
}

MAYYIELD static struct status evaluate_reads(struct serve *s, struct eval *e)
{
    const uint64_t begin = env_mono_ns(shard_env(s->r->store->shard));
    const uint32_t installs = s->r->installs;
    bool yielded = false;
    struct status st = eval_run(e);

    s->cpu_ns += env_mono_ns(shard_env(s->r->store->shard)) - begin;
    if (st.code == STATUS_WOULD_BLOCK) {
        remember_reads(s, read_at(s), false); /* Before anybody else gets a turn. */
        st = evaluate(e, &yielded);
        if (yielded && s->r->life != REPLICA_INIT) {
            return check_serve(s, read_at(s)); /* Removed: there is nothing left to read. */
        }
        if (yielded && s->r->installs != installs) {
            return FAIL(STATUS_NOT_LEADER, "a snapshot has replaced what was read");
        }
    }
    return status_ok(st) ? gc__check_read(s->r, s->read_ts) : st;
}

/* A read timestamp that we chose ourselves may still move. */
static bool may_move(const struct serve *s)
{
    return hts_is_zero(s->b->read_ts) || s->b->can_forward;
}

/* One try. *again: something was in the way, and is gone or has been learnt. */
MAYYIELD static struct status read_once(struct serve *s, bool *again)
{
    struct eval e;
    bool yielded = false;
    struct engine_batch none;
    struct status st = OK;

    *again = false;
    TRY(choose_read_ts(s));
    TRY(check_serve(s, read_at(s)));
    TRY(wait_for_writes(s, NULL, read_limit(s), &yielded));
    if (yielded) {
        TRY(check_serve(s, read_at(s)));
    }
    e = eval_of(s);
    engine_batch_init(&none);
    e.ops = &none;
    st = evaluate_reads(s, &e);
    engine_batch_deinit(&none);
    if (st.code == STATUS_LOCKED) {
        *again = true;
        return wait_for_locks(s, &e.conflict, MVCC_NONE, read_limit(s));
    }
    if (st.code == STATUS_UNCERTAIN && may_move(s)) {
        s->read_ts = s->out->uncertain_ts;
        *again = true;
        return OK;
    }
    TRY(st);
    remember_reads(s, read_at(s), true);
    s->out->read_ts = s->read_ts;
    return OK;
}

MAYYIELD static struct status read_batch(struct serve *s)
{
    struct status st = OK;
    bool again = true;

    while (again && status_ok(st)) {
        st = in_time(s);
        st = status_ok(st) ? read_once(s, &again) : st;
    }
    return st;
}

/* ---- locking reads ------------------------------------------------------------------------------ */

/* Rows of a response, one after the other. */
static bool next_row(struct reader *rows, uint32_t *left, struct bytes *key, struct bytes *value)
{
    if (*left == 0) {
        return false;
    }
    (*left)--;
    *key = read_lp_bytes(rows);
    *value = read_lp_bytes(rows);
    return !rows->bad;
}

/* Does another transaction hold, or wait for, the key in the table? */
static bool key_locked(struct serve *s, struct bytes key, enum mvcc_strength want,
                       struct lock_blocker *blocker)
{
    const struct lock_want w = {.key = key, .strength = want, .ts = s->read_ts};

    return lock_table_conflict(s->r->locks, &s->waiter, &s->who, &w, 1, blocker);
}

/* Leaves out rows that are locked: SKIP LOCKED. */
static struct status skip_locked_rows(struct serve *s, const struct range_request *q,
                                      struct range_response *a)
{
    struct reader rows = reader_of(a->rows);
    struct buf kept = {.limit = 2 * RANGE_SCAN_BYTES_MAX};
    struct lock_blocker blocker;
    struct bytes key;
    struct bytes value;
    uint32_t left = a->rows_count;
    uint32_t count = 0;
    struct status st = OK;

    if (q->op == RANGE_OP_GET) {
        a->found = a->found && !key_locked(s, q->key, q->lock, &blocker);
        return OK;
    }
    while (next_row(&rows, &left, &key, &value)) {
        if (!key_locked(s, key, q->lock, &blocker)) {
            TRY_OUT(buf_append_lp(&kept, key));
            TRY_OUT(buf_append_lp(&kept, value));
            count++;
        }
    }
    TRY_OUT(bytes_dup(s->arena, buf_bytes(&kept), &a->rows));
    a->rows_count = count;
out:
    buf_deinit(&kept);
    return st;
}

/* The first found row that somebody else has locked. */
static bool find_blocker(struct serve *s, struct lock_blocker *blocker, enum mvcc_strength *want)
{
    for (uint32_t i = 0; i < s->b->count; i++) {
        const struct range_request *q = &s->b->requests[i];
        const struct range_response *a = &s->out->responses[i];
        struct reader rows = reader_of(a->rows);
        uint32_t left = a->rows_count;
        struct bytes key;
        struct bytes value;

        *want = q->lock;
        if (q->op == RANGE_OP_GET && a->found && key_locked(s, q->key, q->lock, blocker)) {
            return true;
        }
        while (q->op == RANGE_OP_SCAN && next_row(&rows, &left, &key, &value)) {
            if (key_locked(s, key, q->lock, blocker)) {
                return true;
            }
        }
    }
    return false;
}

static void take_locks(struct serve *s)
{
    for (uint32_t i = 0; i < s->b->count; i++) {
        const struct range_request *q = &s->b->requests[i];
        const struct range_response *a = &s->out->responses[i];
        struct reader rows = reader_of(a->rows);
        uint32_t left = a->rows_count;
        struct bytes key;
        struct bytes value;

        if (q->op == RANGE_OP_GET && a->found) {
            lock_table_acquire(s->r->locks, &s->who, q->lock, q->key, clock_now(s->r));
        }
        while (q->op == RANGE_OP_SCAN && next_row(&rows, &left, &key, &value)) {
            lock_table_acquire(s->r->locks, &s->who, q->lock, key, clock_now(s->r));
        }
    }
}

/* The newest versions are to be locked; if they are newer than the snapshot that must move first. */
static struct status check_newest(struct serve *s, const struct eval *e, bool *again)
{
    if (!hts_less(s->read_ts, e->newest)) {
        return OK;
    }
    if (may_move(s)) {
        *again = true;
        s->read_ts = HTS_ZERO;
        return OK;
    }
    /* It keeps its turn: with the locks it comes back, and who waits behind it does not overtake. */
    take_locks(s);
    s->out->uncertain_ts = e->newest;
    return FAIL(STATUS_UNCERTAIN, "a row was changed after the transaction's snapshot");
}

/* Everything was found without a yield: whom do we have to wait for, or what do we get? */
MAYYIELD static struct status lock_found(struct serve *s, const struct eval *e, bool *again)
{
    struct lock_blocker blocker;
    enum mvcc_strength want = MVCC_EXCLUSIVE;

    TRY(open_locks(s->r));
    for (uint32_t i = 0; s->b->wait == RANGE_WAIT_SKIP && i < s->b->count; i++) {
        TRY(skip_locked_rows(s, &s->b->requests[i], &s->out->responses[i]));
    }
    if (find_blocker(s, &blocker, &want)) {
        *again = true;
        TRY(wait__blocked(s->r, s->b, &s->waiter, &blocker, want, s->deadline_ns));
        return check_serve(s, HTS_ZERO);
    }
    TRY(check_newest(s, e, again));
    if (*again) {
        return OK;
    }
    take_locks(s);
    remember_reads(s, s->read_ts, true);
    s->out->read_ts = s->read_ts;
    return OK;
}

MAYYIELD static struct status lock_once(struct serve *s, bool *again)
{
    struct eval e;
    struct engine_batch none;
    bool waited = false;
    bool yielded = false;
    struct status st = OK;

    *again = false;
    if (may_move(s)) {
        s->read_ts = HTS_ZERO; /* After a wait the present is another one. */
    }
    TRY(choose_read_ts(s));
    TRY(check_serve(s, s->read_ts));
    TRY(wait_for_writes(s, NULL, HTS_MAX, &waited));
    if (waited) {
        *again = true;
        return OK;
    }
    e = eval_of(s);
    engine_batch_init(&none);
    e.ops = &none;
    st = evaluate(&e, &yielded);
    engine_batch_deinit(&none);
    if (yielded && (status_ok(st) || st.code == STATUS_LOCKED)) {
        *again = true; /* It is in memory now. */
        return OK;
    }
    if (st.code == STATUS_LOCKED) {
        *again = true;
        return wait_for_locks(s, &e.conflict, MVCC_EXCLUSIVE, HTS_MAX);
    }
    TRY(st);
    return lock_found(s, &e, again);
}

MAYYIELD static struct status lock_batch(struct serve *s)
{
    struct status st = OK;
    bool again = true;

    if (uuid_is_zero(s->b->txn.id)) {
        return FAIL(STATUS_INVALID, "only a transaction can lock");
    }
    while (again && status_ok(st)) {
        st = in_time(s);
        st = status_ok(st) ? lock_once(s, &again) : st;
    }
    return st;
}

/* ---- writes ------------------------------------------------------------------------------------- */

static bool latched(enum range_op op)
{
    return range_op_writes(op) || op == RANGE_OP_END_TXN || op == RANGE_OP_HEARTBEAT ||
           op == RANGE_OP_RECOVER || op == RANGE_OP_RESOLVE;
}

/* Latches on the keys that the batch writes, those of records included. */
static struct status create_proposal(struct serve *s)
{
    struct bytes *keys = ARENA_ARRAY(s->arena, struct bytes, (size_t)s->b->count + 1);
    uint32_t count = 0;

    if (keys == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    for (uint32_t i = 0; i < s->b->count; i++) {
        const struct range_request *q = &s->b->requests[i];

        if (range_op_writes(q->op) || q->op == RANGE_OP_RESOLVE) {
            keys[count++] = q->key;
        } else if (latched(q->op)) {
            TRY(record__key(q->key, q->args->txn, s->arena, &keys[count++]));
        }
    }
    s->p = proposal__create(keys, count);
    return s->p == NULL ? FAIL(STATUS_MEMORY, "out of memory") : OK;
}

/* Waits for room among the writes of the range, holding nothing. */
MAYYIELD static struct status admit(struct serve *s)
{
    size_t bytes = 0;

    for (uint32_t i = 0; i < s->b->count; i++) {
        bytes += s->b->requests[i].key.len + s->b->requests[i].value.len + WRITE_OVERHEAD;
    }
    TRY(admit__write(s->r, s->p, bytes, s->deadline_ns));
    return check_serve(s, HTS_ZERO);
}

/* Does a lock in memory stand in the way of what the batch writes? */
static bool writes_blocked(struct serve *s, struct lock_blocker *blocker)
{
    struct lock_want w = {.strength = MVCC_INTENT};

    if (s->r->locks == NULL || lock_table_keys(s->r->locks) == 0) {
        return false;
    }
    for (uint32_t i = 0; i < s->b->count; i++) {
        w.key = s->b->requests[i].key;
        if (range_op_writes(s->b->requests[i].op) &&
            lock_table_conflict(s->r->locks, &s->waiter, &s->who, &w, 1, blocker)) {
            return true;
        }
    }
    return false;
}

/* 1PC: a commit timestamp below which nothing that we read is still under way. */
MAYYIELD static struct status choose_commit_ts(struct serve *s, struct hts *ts_out)
{
    bool yielded = true;

    while (yielded) {
        *ts_out = hts_max(clock_now(s->r), hts_next(closed__assigned(s->r)));
        TRY(check_serve(s, *ts_out));
        TRY(wait_for_writes(s, &s->p->guard, *ts_out, &yielded));
    }
    latch_evaluated(&s->p->guard, *ts_out);
    closed__track(s->r, s->p, *ts_out);
    if (hts_less(*ts_out, s->b->read_ts)) {
        return FAIL(STATUS_INVALID, "a read timestamp in the future");
    }
    if (!hts_is_zero(s->b->commit_limit) && hts_less(s->b->commit_limit, *ts_out)) {
        return FAIL(STATUS_TXN_RETRY, "the schema that the transaction used has expired");
    }
    return OK;
}

/* Intents: where the transaction wants them, above reads, closed timestamps, and the lease's start. */
static struct status choose_intent_ts(struct serve *s, struct hts *ts_out)
{
    const struct range_batch_txn *t = &s->b->txn;
    const struct tscache *c = s->r->store->tscache;
    struct hts ts = hts_max(t->write_ts, s->write_min);

    ts = hts_max(ts, hts_next(closed__assigned(s->r)));
    ts = hts_max(ts, hts_next(s->r->floor));
    ts = hts_max(ts, hts_next(s->r->gc_threshold)); /* A tombstone that went may have been above. */
    for (uint32_t i = 0; i < s->b->count && !plant(s->r, STORE_PLANT_NO_TSCACHE); i++) {
        if (range_op_writes(s->b->requests[i].op)) {
            ts = hts_max(ts, hts_next(tscache_max(c, s->b->requests[i].key, t->id)));
        }
    }
    TRY(check_serve(s, ts));
    latch_evaluated(&s->p->guard, ts);
    closed__track(s->r, s->p, ts);
    *ts_out = ts;
    return OK;
}

/* The timestamps of an evaluation and what the shard knows; does not yield between that and evaluating. */
MAYYIELD static struct status prepare_write(struct serve *s, struct eval *e)
{
    struct hts ts = HTS_ZERO;

    if (s->writes && s->b->intents) {
        TRY(choose_intent_ts(s, &ts));
    } else if (s->writes) {
        TRY(choose_commit_ts(s, &ts));
    } else {
        TRY(check_serve(s, clock_now(s->r)));
        latch_evaluated(&s->p->guard,
                        HTS_ZERO); /* Readers of these keys wait, whatever their time. */
    }
    for (uint32_t i = 0; i < s->b->count; i++) {
        if (s->b->requests[i].op == RANGE_OP_RESOLVE) {
            latch_evaluated(&s->p->guard, HTS_ZERO);
        }
    }
    s->read_ts = hts_is_zero(s->b->read_ts) ? ts : s->b->read_ts;
    *e = eval_of(s);
    e->commit_ts = ts;
    e->txn.write_ts = ts;
    e->txn.read_ts = ts;
    for (uint32_t i = 0; i < s->b->count; i++) {
        const struct range_request *q = &s->b->requests[i];

        if (latched(q->op) && !range_op_writes(q->op)) {
            e->marker = tscache_marker_of(s->r->store->tscache, q->args->txn);
            e->may_create = record__may_create(s->r, s->b->txn.min_ts);
            /* A push may have been forgotten, here or with the last leaseholder. */
            e->marker.pushed = hts_max(e->marker.pushed, record__floor(s->r));
        }
    }
    if (plant(s->r, STORE_PLANT_PUSH_IGNORED)) {
        e->marker.pushed = HTS_ZERO;
    }
    if (plant(s->r, STORE_PLANT_RECORD_REBORN)) {
        e->marker.finished = false;
    }
    return OK;
}

/* What became certain with the command, for who waits. */
static void note_outcome(struct serve *s, const struct eval *e)
{
    struct replica *r = s->r;

    for (uint32_t i = 0; i < s->b->count; i++) {
        const struct range_request *q = &s->b->requests[i];

        if (q->op == RANGE_OP_RESOLVE && r->locks != NULL) {
            lock_table_update(r->locks, q->args->txn, q->key, q->end,
                              q->args->status == RANGE_TXN_PENDING ? q->args->ts : HTS_ZERO);
        } else if (latched(q->op) && !range_op_writes(q->op) && e->record_changed) {
            push__changed(r, q->args->txn);
        }
    }
    if (s->writes && !s->b->intents && !uuid_is_zero(s->b->txn.id) && r->locks != NULL) {
        lock_table_release_all(r->locks, s->b->txn.id);
    }
}

/* Whoever comes after the command must find the marker: before the command is proposed. When it fails the
 * record still says how things are. */
static void mark_finished(struct serve *s, const struct eval *e)
{
    for (uint32_t i = 0; e->record_finished && i < s->b->count; i++) {
        const struct range_request *q = &s->b->requests[i];

        if (latched(q->op) && !range_op_writes(q->op) && q->op != RANGE_OP_RESOLVE) {
            tscache_mark_finished(s->r->store->tscache, q->args->txn, e->now);
        }
    }
}

/* A one-round commit whose gateway has asked somebody what became of it must not come about any more: the
 * answer may have been "nothing". Who asked before our lease asked another store. */
static struct status check_not_given_up(const struct serve *s)
{
    const struct range_batch_txn *t = &s->b->txn;

    if (!s->writes || s->b->intents || uuid_is_zero(t->id) || hts_is_zero(t->write_ts)) {
        return OK;
    }
    if (tscache_marker_of(s->r->store->tscache, t->id).finished ||
        !record__may_create(s->r, t->write_ts)) {
        return FAIL(STATUS_TXN_ABORTED,
                    "the commit came too late: its gateway has given it up, or the "
                    "leaseholder has changed");
    }
    return OK;
}

MAYYIELD static struct status propose_and_wait(struct serve *s, struct eval *e, uint64_t term)
{
    const bool one_round = s->writes && !s->b->intents;
    const struct command c = {.kind = COMMAND_WRITE,
                              .start_ts = one_round ? e->commit_ts : HTS_ZERO,
                              .txn = one_round ? s->b->txn.id : (struct uuid){{0}},
                              .stats = e->stats,
                              .ops = buf_bytes(&e->ops->ops)};
    struct completion done = {0};
    struct status outcome = OK;
    struct status st = OK;

    /* The append gate: nothing below yields until the entry is in the core. */
    TRY(check_serve(s, hts_max(e->commit_ts, e->laid)));
    TRY(check_not_given_up(s));
    mark_finished(s, e);
    if (e->ops->count == 0) {
        note_outcome(s, e); /* Nothing to write. */
        return OK;
    }
    s->bytes_written += e->ops->ops.len;
    s->p->waiter = &done;
    s->p->outcome = &outcome;
    TRY(proposal__append(s->r, &c, RAFT_ENTRY_NORMAL, term, s->p));
    s->appended = true;
    st = proposal__wait(s->p, &done, &outcome, s->deadline_ns);
    if (status_ok(st)) {
        note_outcome(s, e);
    }
    return st;
}

/* A retry may find its intents or lay them as before, never higher: see node/docs/0007. */
static struct status check_replay(const struct serve *s, const struct eval *e)
{
    const bool higher = hts_less(s->b->txn.write_ts, e->laid) ||
                        (e->ops->count > 0 && hts_less(s->b->txn.write_ts, e->commit_ts));

    if (!s->b->replay || !s->b->intents || !s->writes || e->over || !higher) {
        return OK;
    }
    return FAIL(STATUS_AMBIGUOUS, "a repeated write would land above the first attempt");
}

/* Evaluation met something. *again: try once more. */
MAYYIELD static struct status write_obstacle(struct serve *s, const struct eval *e,
                                             struct status st, bool *again)
{
    if (st.code == STATUS_TXN_RETRY && s->b->intents && e->conflict.kind == MVCC_CONFLICT_TOO_OLD &&
        !s->b->replay) {
        s->write_min = hts_next(e->conflict.ts);
        *again = true;
        return OK;
    }
    if (s->b->replay && (st.code == STATUS_TXN_RETRY || st.code == STATUS_EXISTS) &&
        e->conflict.kind != MVCC_CONFLICT_LOCKED) {
        return FAIL(STATUS_AMBIGUOUS, "a repeated write met what may be its own commit");
    }
    if (st.code ==
        STATUS_EXISTS) { /* Its failure is a read, for a late duplicate of its own too. */
        tscache_read(s->r->store->tscache, s->b->requests[s->out->conflict].key, BYTES_EMPTY,
                     e->commit_ts, (struct uuid){{0}});
    }
    return st;
}

MAYYIELD static struct status write_latched(struct serve *s, struct mvcc_conflict *locked,
                                            bool *again)
{
    const uint64_t term = raft_get_state(s->r->raft).term;
    struct eval e = {0};
    struct engine_batch ops;
    bool yielded = false;
    struct status st = OK;

    engine_batch_init(&ops);
    ops.ops.limit = RANGE_COMMAND_MAX;
    TRY_OUT(prepare_write(s, &e));
    e.ops = &ops;
    remember_reads(s, e.commit_ts, false); /* What is refreshed is read up to the commit. */
    st = evaluate(&e, &yielded);
    *locked = e.conflict;
    if (!status_ok(st)) {
        st = write_obstacle(s, &e, st, again);
        goto out;
    }
    TRY_OUT(s->writes ? gc__check_read(s->r, s->read_ts) : OK);
    TRY_OUT(check_replay(s, &e));
    s->out->read_ts = s->read_ts;
    s->out->commit_ts = s->b->intents ? e.laid : e.commit_ts;
    TRY_OUT(propose_and_wait(s, &e, term));
out:
    engine_batch_deinit(&ops);
    return st;
}

MAYYIELD static struct status write_once(struct serve *s, bool *again)
{
    struct lock_blocker blocker;
    struct mvcc_conflict locked = {0};
    bool blocked = false;
    struct status st = OK;

    *again = false;
    TRY(check_serve(s, HTS_ZERO));
    TRY(create_proposal(s));
    st = s->writes ? admit(s) : OK;
    st = status_ok(st) ? latch_acquire(&s->r->latches, &s->p->guard, s->deadline_ns) : st;
    if (!status_ok(st)) {
        proposal__free(s->p);
        return st;
    }
    s->p->latched = true;
    s->appended = false;
    blocked = writes_blocked(s, &blocker);
    st = blocked ? OK : write_latched(s, &locked, again);
    if (!s->appended) { /* Otherwise it belongs to the log and is freed when it applies. */
        closed__untrack(s->r, s->p);
        latch_release(&s->r->latches, &s->p->guard);
        proposal__free(s->p);
    }
    if (blocked) {
        *again = true;
        return wait__blocked(s->r, s->b, &s->waiter, &blocker, MVCC_INTENT, s->deadline_ns);
    }
    if (st.code == STATUS_LOCKED && locked.kind == MVCC_CONFLICT_LOCKED) {
        *again = true;
        return wait_for_locks(s, &locked, s->writes ? MVCC_INTENT : MVCC_NONE, HTS_MAX);
    }
    return st;
}

/* A RESOLVE of a span becomes one per key that the transaction holds there. */
struct expand {
    struct store *store;
    const struct range_request *q;
    struct arena *arena;
    struct range_request *out;
    uint32_t count;
    struct status st;
};

static void expand_blocking(void *arg)
{
    struct expand *x = arg;
    struct mvcc_reader reader;
    struct mvcc_lock *locks = NULL;
    struct bytes from = x->q->key;
    uint32_t count = 0;
    bool more = true;

    mvcc_reader_init(&reader, x->store->engine, NULL, ENGINE_TIER_ANY);
    while (more && status_ok(x->st) && x->count < RESOLVE_EXPAND_MAX) {
        x->st = mvcc_locks(&reader, from, x->q->end, MVCC_INTENT, NULL, x->arena, &locks, &count,
                           &more);
        for (uint32_t i = 0; status_ok(x->st) && i < count && x->count < RESOLVE_EXPAND_MAX; i++) {
            if (uuid_eq(locks[i].txn_id, x->q->args->txn)) {
                x->out[x->count] = *x->q;
                x->out[x->count].key = locks[i].key;
                x->out[x->count++].end = BYTES_EMPTY;
            }
        }
        more = more && count > 0;
        if (more && status_ok(x->st)) {
            x->st = key_after(x->arena, locks[count - 1].key, &from);
        }
    }
    mvcc_reader_deinit(&reader);
}

MAYYIELD static struct status resolve_span(struct serve *s, const struct range_request *q)
{
    struct expand x = {.store = s->r->store, .q = q, .arena = s->arena};
    struct range_batch b = *s->b;

    TRY(check_serve(s, HTS_ZERO));
    x.out = ARENA_ARRAY(s->arena, struct range_request, RESOLVE_EXPAND_MAX);
    if (x.out == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    fiber_run_blocking(ENV_LANE_IO, expand_blocking, &x);
    TRY(x.st);
    if (x.count > 0) {
        struct range_result result;

        b.requests = x.out;
        b.count = x.count;
        store_execute(s->r->store, &b, s->deadline_ns, s->arena, &result);
        TRY(result.st);
    }
    if (s->r->locks != NULL && x.count < RESOLVE_EXPAND_MAX) {
        lock_table_update(s->r->locks, q->args->txn, q->key, q->end,
                          q->args->status == RANGE_TXN_PENDING ? q->args->ts : HTS_ZERO);
    }
    return OK;
}

MAYYIELD static struct status write_batch(struct serve *s)
{
    struct status st = OK;
    bool again = true;

    while (again && status_ok(st)) {
        st = in_time(s);
        st = status_ok(st) ? write_once(s, &again) : st;
    }
    return st;
}

/* ---- what became of it -------------------------------------------------------------------------- */

/* Everything that stands in the log by now has applied. */
MAYYIELD static struct status wait_applied(struct serve *s)
{
    const uint64_t last = raft_get_state(s->r->raft).last;

    while (s->r->applied.index < last) {
        TRY(replica__wait_progress(s->r, s->deadline_ns));
        TRY(check_serve(s, HTS_ZERO));
    }
    return OK;
}

/* Prevents the commit, then looks whether it is there: see check_not_given_up(). */
MAYYIELD static struct status query_commit(struct serve *s, const struct range_request *q)
{
    struct replica *r = s->r;
    struct range_txn_info *info = ARENA_NEW(s->arena, struct range_txn_info);

    if (info == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    TRY(check_serve(s, clock_now(r)));
    tscache_mark_finished(r->store->tscache, q->args->txn, clock_now(r));
    TRY(wait_applied(s));
    info->id = q->args->txn;
    info->status = RANGE_TXN_PENDING;
    if (recent_find(r->store->recent, q->args->txn, &info->ts)) {
        info->status = RANGE_TXN_COMMITTED;
    } else if (hts_less(recent_since(r->store->recent), q->args->min_ts) &&
               hts_less(r->known_since, q->args->min_ts)) {
        info->status = RANGE_TXN_ABORTED;
    }
    s->out->responses[0].txn = info;
    return OK;
}

/* ---- entrance ----------------------------------------------------------------------------------- */

static void classify(struct serve *s)
{
    for (uint32_t i = 0; i < s->b->count; i++) {
        const struct range_request *q = &s->b->requests[i];

        s->writes = s->writes || range_op_writes(q->op);
        s->records = s->records || (latched(q->op) && !range_op_writes(q->op));
        s->locks = s->locks || (q->lock != MVCC_NONE && reads(q->op));
        s->prevents = s->prevents || q->op == RANGE_OP_QUERY_INTENT;
    }
}

MAYYIELD static struct status execute_once(struct serve *s)
{
    const struct range_request *q = s->b->requests;

    TRY(change__wait_serving(s->r, s->deadline_ns));
    if (s->r->life != REPLICA_INIT) {
        return FAIL(STATUS_NOT_LEADER, "this replica has no data");
    }
    TRY(check_bounds(s));
    if (s->b->follower) {
        const struct status st = follower__read(s->r, s->b, s->arena, s->out);

        if (st.code != STATUS_NOT_LEADER) {
            return st;
        }
        *s->out = (struct range_result){.server = s->out->server}; /* The leaseholder always may. */
    }
    s->out->responses = ARENA_ARRAY(s->arena, struct range_response, (size_t)s->b->count + 1);
    if (s->out->responses == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    if (q->op == RANGE_OP_PUSH || q->op == RANGE_OP_QUERY_TXN) {
        TRY(check_serve(s, clock_now(s->r)));
        return q->op == RANGE_OP_PUSH
                   ? push__serve(s->r, q, s->deadline_ns, s->arena, s->out->responses)
                   : push__serve_query(s->r, q, s->arena, s->out->responses);
    }
    if (q->op == RANGE_OP_RESOLVE && q->end.len > 0) {
        return resolve_span(s, q);
    }
    if (q->op == RANGE_OP_QUERY_COMMIT) {
        return query_commit(s, q);
    }
    classify(s);
    if (s->writes || s->records) {
        return write_batch(s);
    }
    return s->locks ? lock_batch(s) : read_batch(s);
}

/* A split or merge may come in between: what was checked does not hold any more then. */
MAYYIELD static struct status execute(struct serve *s)
{
    struct status st = FAIL(STATUS_WOULD_BLOCK, "not tried yet");

    while (st.code == STATUS_WOULD_BLOCK) {
        s->read_ts = s->b->read_ts;
        st = execute_once(s);
    }
    return st;
}

static size_t result_bytes(const struct serve *s)
{
    size_t bytes = 0;

    for (uint32_t i = 0; i < s->b->count; i++) {
        bytes += s->out->responses[i].value.len + s->out->responses[i].rows.len;
    }
    return bytes;
}

void store_execute(struct store *st, const struct range_batch *b, uint64_t deadline_ns,
                   struct arena *arena, struct range_result *out)
{
    struct replica *r = store__find(st, b->range);
    struct serve s = {
        .r = r,
        .b = b,
        .deadline_ns = deadline_ns,
        .arena = arena,
        .out = out,
        .read_ts = b->read_ts,
        .who = {b->txn.id, b->txn.anchor, b->txn.min_ts, b->txn.priority},
    };

    *out = (struct range_result){.server = st->o.ident.node};
    if (r == NULL || st->stopping) {
        out->st = FAIL(STATUS_RANGE_NOT_FOUND, "no such range on this store");
        return;
    }
    replica__acquire(r);
    st->fibers++;
    out->st = execute(&s);
    lock_table_leave(&s.waiter);
    if (status_ok(out->st)) {
        load__note(r, &(struct load_sample){.requests = 1,
                                            .bytes_read = result_bytes(&s),
                                            .bytes_written = s.bytes_written,
                                            .cpu_ns = s.cpu_ns});
    }
    out->now = hclock_hts(hlc_now(st->hlc));
    st->fibers--;
    replica__release(r);
    if (st->stopping) {
        wait_queue_wake_all(&st->idle);
    }
}
