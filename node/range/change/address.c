/*
 * address.c -- the index of ranges learns what a range looks like now.
 *
 * The index maps the end of every range to its descriptor: meta2 for what ends behind meta2, and meta1,
 * one level up, for what holds keys of meta2 (a range that holds keys of both stands in both). A lookup
 * takes the first entry above a key. The index is no authority: it follows, in an order that keeps every
 * lookup useful at any time (node/docs/0006):
 *
 *   1. the left neighbour must be recorded: it ends where we start;
 *   2. our descriptor goes under our end, unless a newer one stands there;
 *   3. older entries strictly inside of us go: ranges that we absorbed;
 *   4. ADDRESSED in our own log; before that the range does not change again.
 *
 * Before 4. a range that has absorbed another waits until a quorum of its stores has removed the other
 * one's replicas for good. Otherwise those that lag could elect a leader among themselves, who would ask
 * us later, when we have been split again at the same key, whether we hold his keys, and start to serve
 * beside our right-hand neighbour (settle.c).
 *
 * Every write here depends on nothing having changed since the entry was read, and after reading it the writer
 * makes sure that he still leads the range, with that descriptor. Otherwise one who was replaced long ago
 * would write an entry again that his successors have deleted, and the right half of a later split take
 * it for its left neighbour's.
 */
#include "node/base/invariant.h"
#include "node/range/change/change.h"

#define META_END      BYTES_LIT("\x06") /* Behind meta2. */
#define WRITE_TRIES   10u
#define LOOK_AGAIN_NS ((uint64_t)50000000)

static bool in_level(const struct range_desc *d, int level)
{
    return level == 1 ? bytes_cmp(d->start, META_END) < 0 : bytes_cmp(d->end, META_END) > 0;
}

static struct status meta_key(struct arena *arena, int level, struct bytes end, struct bytes *out)
{
    struct buf key = {0};
    struct key_enc k;
    struct bytes bytes;
    struct status st = OK;

    key_enc_init_buf(&k, &key);
    key_enc_meta(&k, level, end);
    TRY_OUT(key_enc_finish(&k, &bytes));
    TRY_OUT(bytes_dup(arena, bytes, out));
out:
    buf_deinit(&key);
    return st;
}

/* Generation of an encoded descriptor; of none, or one that nobody can read, 0. */
static uint64_t generation_of(struct bytes value, bool found)
{
    struct arena arena;
    struct range_desc d;
    uint64_t generation = 0;

    arena_init(&arena, 0);
    if (found && status_ok(range_desc_decode(value, &arena, &d))) {
        generation = d.generation;
    }
    arena_deinit(&arena);
    return generation;
}

/* Writes (value empty: deletes) one key if nothing touched it since `read_ts`. */
MAYYIELD static struct status write_if_unchanged(struct store *s, struct bytes key,
                                                 struct bytes value, struct hts read_ts,
                                                 uint64_t deadline_ns, struct arena *arena)
{
    const struct range_request ops[2] = {
        {.op = RANGE_OP_REFRESH, .key = key},
        {.op = value.len > 0 ? RANGE_OP_PUT : RANGE_OP_DELETE, .key = key, .value = value},
    };
    struct range_batch b = {.requests = ops, .count = 2, .read_ts = read_ts};
    struct range_result result;

    return change__send(s, &b, deadline_ns, arena, &result);
}

MAYYIELD static struct status get(struct store *s, struct bytes key, uint64_t deadline_ns,
                                  struct arena *arena, struct range_result *out)
{
    const struct range_request q = {.op = RANGE_OP_GET, .key = key};
    struct range_batch b = {.requests = &q, .count = 1};

    return change__send(s, &b, deadline_ns, arena, out);
}

/* Between reading an entry and writing it. */
static struct status still_ours(struct replica *r, const struct range_desc *d)
{
    if (r->life != REPLICA_INIT || r->desc.generation != d->generation) {
        return FAIL(STATUS_NOT_LEADER, "the range changed while the index was told");
    }
    return lease__check(r, HTS_ZERO);
}

/* ---- the steps ----------------------------------------------------------------------------------- */

MAYYIELD static struct status check_left(struct store *s, const struct range_desc *d,
                                         uint64_t deadline_ns, struct arena *arena)
{
    struct range_result result;
    struct bytes key;

    if (bytes_eq(d->start, KEY_MIN)) {
        return OK;
    }
    TRY(meta_key(arena, bytes_cmp(d->start, META_END) > 0 ? 2 : 1, d->start, &key));
    TRY(get(s, key, deadline_ns, arena, &result));
    return result.responses[0].found
               ? OK
               : FAIL(STATUS_UNAVAILABLE, "the left neighbour is not in the index yet");
}

MAYYIELD static struct status put_entry(struct replica *r, const struct range_desc *d, int level,
                                        struct bytes value, uint64_t deadline_ns,
                                        struct arena *arena)
{
    struct store *s = r->store;
    struct status st = OK;
    struct bytes key;

    TRY(meta_key(arena, level, d->end, &key));
    for (uint32_t i = 0; i < WRITE_TRIES; i++) {
        struct range_result result;

        TRY(get(s, key, deadline_ns, arena, &result));
        if (generation_of(result.responses[0].value, result.responses[0].found) >= d->generation) {
            return OK;
        }
        TRY(still_ours(r, d));
        st = write_if_unchanged(s, key, value, result.read_ts, deadline_ns, arena);
        if (st.code != STATUS_TXN_RETRY && st.code != STATUS_AMBIGUOUS) {
            return st;
        }
    }
    return st;
}

/* Deletes the older ones of these entries. */
MAYYIELD static struct status drop_rows(struct replica *r, const struct range_desc *d,
                                        const struct range_result *scan, uint64_t deadline_ns,
                                        struct arena *arena)
{
    struct reader rows = reader_of(scan->responses[0].rows);

    for (uint32_t i = 0; i < scan->responses[0].rows_count; i++) {
        const struct bytes key = read_lp_bytes(&rows);
        const struct bytes value = read_lp_bytes(&rows);

        if (generation_of(value, true) < d->generation) {
            TRY(still_ours(r, d));
            TRY(write_if_unchanged(r->store, key, BYTES_EMPTY, scan->read_ts, deadline_ns, arena));
        }
    }
    return OK;
}

/* How far the range reaches that answered "not all of this is mine". */
static bool clip(const struct range_result *result, struct range_request *q, struct arena *arena)
{
    return result->descs_count > 0 && range_desc_contains(&result->descs[0], q->key) &&
           bytes_cmp(result->descs[0].end, q->end) < 0 &&
           status_ok(bytes_dup(arena, result->descs[0].end, &q->end));
}

/* The index may itself stand on several ranges: the scan goes from one to the next. */
MAYYIELD static struct status drop_inside(struct replica *r, const struct range_desc *d, int level,
                                          uint64_t deadline_ns, struct arena *arena)
{
    struct range_request q = {.op = RANGE_OP_SCAN, .rows_max = 100};
    struct bytes first;
    struct bytes end;

    TRY(meta_key(arena, level, d->start, &first));
    TRY(key_after(arena, first, &q.key));
    TRY(meta_key(arena, level, d->end, &end));
    q.end = end;
    while (bytes_cmp(q.key, end) < 0) {
        struct range_batch b = {.requests = &q, .count = 1};
        struct range_result result = {0}; /* Not every failure fills it. */
        const struct status st = change__send(r->store, &b, deadline_ns, arena, &result);

        if (!status_ok(st) && clip(&result, &q, arena)) {
            continue;
        }
        TRY(st);
        TRY(drop_rows(r, d, &result, deadline_ns, arena));
        q.key = result.responses[0].more ? result.responses[0].resume : q.end;
        q.end = end;
    }
    return OK;
}

/* ---- the whole ----------------------------------------------------------------------------------- */

MAYYIELD static struct status tell_index(struct replica *r, const struct range_desc *d,
                                         uint64_t deadline_ns, struct arena *arena)
{
    struct buf encoded = {0};
    struct bytes value;
    struct status st = OK;

    TRY_OUT(check_left(r->store, d, deadline_ns, arena));
    TRY_OUT(range_desc_encode(d, &encoded));
    TRY_OUT(bytes_dup(arena, buf_bytes(&encoded), &value));
    for (int level = 1; level <= 2; level++) {
        if (in_level(d, level)) {
            TRY_OUT(put_entry(r, d, level, value, deadline_ns, arena));
            TRY_OUT(drop_inside(r, d, level, deadline_ns, arena));
        }
    }
out:
    buf_deinit(&encoded);
    return st;
}

MAYYIELD static struct status append_addressed(struct replica *r, uint64_t generation,
                                               uint64_t deadline_ns)
{
    const struct command c = {.kind = COMMAND_ADDRESSED, .generation = generation};
    const uint64_t term = raft_get_state(r->raft).term;

    TRY(lease__check(r, HTS_ZERO));
    TRY(proposal__append(r, &c, RAFT_ENTRY_NORMAL, term, NULL));
    while (!r->applied.addressed) {
        const struct raft_state rs = raft_get_state(r->raft);

        if (r->life != REPLICA_INIT || rs.role != RAFT_LEADER || rs.term != term ||
            r->desc.generation != generation) {
            return FAIL(STATUS_NOT_LEADER, "leadership moved while the index was told");
        }
        TRY(replica__wait_progress(r, deadline_ns));
    }
    return OK;
}

struct status address__run(struct replica *r, uint64_t deadline_ns)
{
    struct arena arena;
    struct range_desc d;
    struct status st = OK;

    if (r->applied.addressed) {
        return OK;
    }
    if (r->addressing) {
        return FAIL(STATUS_OVERLOADED, "the index is being told");
    }
    r->addressing = true;
    arena_init(&arena, 0);
    TRY_OUT(lease__check(r, HTS_ZERO));
    TRY_OUT(range_desc_dup(&arena, &r->desc, &d));
    TRY_OUT(tell_index(r, &d, deadline_ns, &arena));
    if (r->applied.merge_index != 0) {
        TRY_OUT(ask__applied(r, r->applied.merge_index, false, deadline_ns));
    }
    TRY_OUT(append_addressed(r, d.generation, deadline_ns));
    LOG_DEBUG("range.addressed", U64("range", r->range.v), U64("generation", d.generation));
out:
    r->addressing = false;
    wait_queue_wake_all(&r->progress);
    arena_deinit(&arena);
    return st;
}

struct status address__ensure(struct replica *r, uint64_t deadline_ns)
{
    struct status st = OK;

    while (!r->applied.addressed) {
        if (env_mono_ns(shard_env(r->store->shard)) >= deadline_ns) {
            return FAIL(STATUS_OVERLOADED, "the index of ranges is behind");
        }
        st = address__run(r, deadline_ns);
        if (st.code == STATUS_NOT_LEADER || st.code == STATUS_CANCELLED) {
            return st;
        }
        if (!status_ok(st)) {
            TRY(fiber_sleep(LOOK_AGAIN_NS));
        }
        if (r->life != REPLICA_INIT || r->store->stopping) {
            return FAIL(STATUS_NOT_LEADER, "the range left this store meanwhile");
        }
    }
    return OK;
}

bool store_is_addressed(struct store *s, range_id range)
{
    const struct replica *r = store__find(s, range);

    return r != NULL && r->life == REPLICA_INIT && r->applied.addressed;
}

struct status store_address(struct store *s, range_id range, uint64_t deadline_ns)
{
    struct replica *r = store__find(s, range);
    struct status st = OK;

    if (r == NULL || r->life != REPLICA_INIT || s->stopping) {
        return FAIL(STATUS_RANGE_NOT_FOUND, "no such range on this store");
    }
    replica__acquire(r);
    s->fibers++;
    st = address__run(r, deadline_ns);
    s->fibers--;
    replica__release(r);
    wait_queue_wake_all(&s->idle);
    return st;
}
