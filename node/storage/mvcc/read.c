/*
 * read.c -- point reads and the judgement on a single key that point reads and scans share.
 *
 * A key is read in two steps. Its INTENT lock first: whose is it, and what does it make of the
 * version at its timestamp? Then its versions from the newest that matters downwards, until one is
 * taken.
 *
 *   lock on the key             what the reader sees
 *   none                        versions
 *   own, same epoch             its newest write with seq <= ours that is not rolled back: the
 *                               version at the lock's timestamp, or one of the lock's history; if
 *                               all are rolled back, the versions below
 *   own, older epoch            the versions below: that attempt is void
 *   own, newer epoch            REPLAY: we are a message from an abandoned attempt
 *   other, ts <= ours           LOCKED, unless told to read below
 *   other, uncertain            LOCKED likewise
 *   other, later                the versions below
 *
 * Both steps are one seek each on one iterator in prefix mode, so a key without a lock costs a
 * filter probe for the lock and a seek for the version.
 */
#include "node/base/invariant.h"
#include "node/storage/mvcc/read_internal.h"

void mvcc_reader_init(struct mvcc_reader *r, struct engine *e, const struct engine_snap *snap,
                      enum engine_tier tier)
{
    *r = (struct mvcc_reader){.engine = e, .snap = snap, .tier = tier};
}

void mvcc_reader_deinit(struct mvcc_reader *r)
{
    mvcc_reader_refresh(r);
}

void mvcc_reader_refresh(struct mvcc_reader *r)
{
    engine_iter_close(r->points);
    r->points = NULL;
}

struct status mvcc__find_intent(struct mvcc_reader *r, struct mvcc__overlay overlay,
                                struct bytes key, struct arena *arena, struct mvcc__lock *out,
                                bool *found)
{
    const struct uuid lowest = {{0}};
    uint8_t stack[MVCC_STACK_KEY];
    struct mvcc__cursor c;
    struct bytes target;

    *found = false;
    TRY(mvcc__lock_key(arena, stack, key, MVCC_INTENT, lowest, &target));
    TRY(mvcc__cursor_seek(&c, r, overlay, key_filter_prefix(target), target));
    if (!c.valid) {
        return OK;
    }
    TRY(mvcc__lock_decode(c.key, c.value, out));
    *found = bytes_eq(out->pub.key, key);
    return OK;
}

struct hts mvcc__read_limit(const struct mvcc_read *opt)
{
    return hts_max(opt->ts, opt->global_limit);
}

static void judge_own(const struct mvcc__lock *l, const struct mvcc_read *opt,
                      struct mvcc__intent *out)
{
    const struct mvcc_txn *txn = opt->txn;
    struct mvcc__old old;

    out->ts = l->pub.write_ts;
    out->view = MVCC__HIDDEN;
    if (l->pub.epoch < txn->epoch) {
        return;
    }
    if (l->pub.seq <= txn->seq &&
        !mvcc__seq_ignored(txn->ignored, txn->ignored_count, l->pub.seq)) {
        out->view = MVCC__CURRENT;
        return;
    }
    if (mvcc__history_find(l, txn->seq, txn->ignored, txn->ignored_count, &old)) {
        out->view = MVCC__OLD;
        out->old_tombstone = old.tombstone;
        out->old_value = old.value;
    }
}

enum mvcc__verdict mvcc__judge_intent(const struct mvcc__lock *l, const struct mvcc_read *opt,
                                      struct mvcc__intent *out)
{
    const bool own = opt->txn != NULL && uuid_eq(l->pub.txn_id, opt->txn->id);

    *out = (struct mvcc__intent){.view = MVCC__HIDDEN, .ts = l->pub.write_ts};
    if (own && l->pub.epoch > opt->txn->epoch) {
        return MVCC__STALE;
    }
    if (own) {
        judge_own(l, opt, out);
        return MVCC__TAKE;
    }
    if (!opt->skip_locked && hts_less_eq(l->pub.write_ts, mvcc__read_limit(opt))) {
        return MVCC__LOCKED;
    }
    return MVCC__TAKE;
}

struct status mvcc__judge_version(struct bytes key, struct hts ts, struct bytes stored,
                                  const struct mvcc_read *opt, const struct mvcc__intent *intent,
                                  struct mvcc_version *v, enum mvcc__verdict *out)
{
    const bool provisional = intent->view != MVCC__NO_INTENT && hts_eq(ts, intent->ts);

    *out = MVCC__SKIP;
    if (provisional && intent->view == MVCC__CURRENT) {
        *out = MVCC__TAKE;
        return mvcc_version_decode(key, ts, stored, v);
    }
    if (provisional || hts_less(mvcc__read_limit(opt), ts)) {
        return OK;
    }
    TRY(mvcc_version_decode(key, ts, stored, v));
    if (hts_less_eq(ts, opt->ts)) {
        *out = MVCC__TAKE;
    } else if (intent->view == MVCC__CURRENT) {
        *out = MVCC__SKIP; /* Our own later write covers it; refreshing will find it. */
    } else if (hts_less_eq(v->local_ts, opt->local_limit)) {
        *out = MVCC__UNCERTAIN;
    }
    return OK;
}

struct status mvcc__conflict_uncertain(struct arena *arena, struct bytes key, struct hts ts,
                                       struct hts local_ts, struct mvcc_conflict *c)
{
    c->kind = MVCC_CONFLICT_UNCERTAIN;
    c->ts = ts;
    c->local_ts = local_ts;
    return bytes_dup(arena, key, &c->key);
}

struct status mvcc__conflict_at(struct arena *arena, enum mvcc_conflict_kind kind, struct bytes key,
                                struct hts ts, struct mvcc_conflict *c)
{
    c->kind = kind;
    c->ts = ts;
    return bytes_dup(arena, key, &c->key);
}

/* ---- one key --------------------------------------------------------------------------------- */

/* The first step. What is kept of the lock is copied, because the second moves the iterator. */
static struct status get_intent(struct mvcc_reader *r, struct mvcc__overlay overlay,
                                struct bytes key, const struct mvcc_read *opt, struct arena *arena,
                                struct mvcc__intent *intent, struct mvcc_conflict *conflict)
{
    enum mvcc__verdict verdict = MVCC__TAKE;
    struct mvcc__lock l;
    bool found = false;
    bool full = false;

    TRY(mvcc__find_intent(r, overlay, key, arena, &l, &found));
    if (!found) {
        return OK;
    }
    verdict = mvcc__judge_intent(&l, opt, intent);
    if (verdict == MVCC__LOCKED) {
        return mvcc__conflict_add(arena, &l.pub, conflict, &full);
    }
    if (verdict == MVCC__STALE) {
        return mvcc__conflict_at(arena, MVCC_CONFLICT_REPLAY, key, l.pub.write_ts, conflict);
    }
    return bytes_dup(arena, intent->old_value, &intent->old_value);
}

static struct status take(struct arena *arena, const struct mvcc_version *v, struct hts ts,
                          bool own, struct mvcc_value *out)
{
    out->found = (v->flags & MVCC_FLAG_TOMBSTONE) == 0;
    out->own_intent = own;
    out->ts = ts;
    return bytes_dup(arena, v->payload, &out->value);
}

static struct status get_version(struct mvcc_reader *r, struct mvcc__overlay overlay,
                                 struct bytes key, const struct mvcc_read *opt,
                                 const struct mvcc__intent *intent, struct arena *arena,
                                 struct mvcc_value *out, struct mvcc_conflict *conflict)
{
    const struct hts limit = mvcc__read_limit(opt);
    const struct hts from = intent->view == MVCC__CURRENT ? hts_max(limit, intent->ts) : limit;
    uint8_t stack[MVCC_STACK_KEY];
    struct mvcc__cursor c;
    struct bytes target;

    TRY(mvcc__version_key(arena, stack, key, from, &target));
    TRY(mvcc__cursor_seek(&c, r, overlay, key, target));
    while (c.valid) {
        enum mvcc__verdict verdict = MVCC__SKIP;
        struct mvcc_version v;
        struct bytes user;
        struct hts ts;

        if (!key_split_version(c.key, &user, &ts) || user.len != key.len) {
            break; /* Only a damaged store has a key that continues ours. */
        }
        TRY(mvcc__judge_version(key, ts, c.value, opt, intent, &v, &verdict));
        if (verdict == MVCC__TAKE) {
            return take(arena, &v, ts, intent->view == MVCC__CURRENT && hts_eq(ts, intent->ts),
                        out);
        }
        if (verdict == MVCC__UNCERTAIN) {
            return mvcc__conflict_uncertain(arena, key, ts, v.local_ts, conflict);
        }
        TRY(mvcc__cursor_next(&c));
    }
    return OK;
}

struct status mvcc__get(struct mvcc_reader *r, struct mvcc__overlay overlay, struct bytes key,
                        const struct mvcc_read *opt, struct arena *arena, struct mvcc_value *out,
                        struct mvcc_conflict *conflict)
{
    struct mvcc__intent intent = {.view = MVCC__NO_INTENT};

    memset(out, 0, sizeof(*out));
    memset(conflict, 0, sizeof(*conflict));
    TRY(mvcc__check_key(key));
    if (!opt->no_intents || overlay.ops != NULL) {
        TRY(get_intent(r, overlay, key, opt, arena, &intent, conflict));
    }
    if (conflict->kind != MVCC_CONFLICT_NONE) {
        return OK;
    }
    if (intent.view == MVCC__OLD) {
        *out = (struct mvcc_value){.found = !intent.old_tombstone,
                                   .own_intent = true,
                                   .value = intent.old_value,
                                   .ts = intent.ts};
        return OK;
    }
    return get_version(r, overlay, key, opt, &intent, arena, out, conflict);
}

struct status mvcc_get(struct mvcc_reader *r, struct bytes key, const struct mvcc_read *opt,
                       struct arena *arena, struct mvcc_value *out, struct mvcc_conflict *conflict)
{
    const struct mvcc__overlay none = {NULL, NULL};

    return mvcc__get(r, none, key, opt, arena, out, conflict);
}
