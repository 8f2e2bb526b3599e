/*
 * mvcc_model.c -- see mvcc_model.h. Every question is answered by looking at everything.
 */
#include "tests/unit/storage/mvcc_model.h"

static bool ignored(const struct mvcc_seq_range *r, uint32_t n, uint32_t seq)
{
    for (uint32_t i = 0; i < n; i++) {
        if (r[i].from <= seq && seq <= r[i].to) {
            return true;
        }
    }
    return false;
}

/* The last write with seq at most `seq` that is not rolled back. */
static const struct model_write *last_write(const struct model_key *k,
                                            const struct mvcc_seq_range *r, uint32_t n,
                                            uint32_t seq)
{
    const struct model_write *best = NULL;

    for (uint32_t i = 0; i < k->write_count; i++) {
        if (k->writes[i].seq <= seq && !ignored(r, n, k->writes[i].seq)) {
            best = &k->writes[i];
        }
    }
    return best;
}

static const struct model_version *newest(const struct model_key *k, struct hts at_most)
{
    const struct model_version *best = NULL;

    for (uint32_t i = 0; i < k->version_count; i++) {
        const struct model_version *v = &k->versions[i];

        if (hts_less_eq(v->ts, at_most) && (best == NULL || hts_less(best->ts, v->ts))) {
            best = v;
        }
    }
    return best;
}

struct model_get model_get(const struct model *m, uint32_t key, const struct mvcc_read *opt,
                           int who)
{
    const struct model_key *k = &m->keys[key];
    const struct hts limit = hts_max(opt->ts, opt->global_limit);
    const struct model_version *v = NULL;
    struct model_get g = {.conflict = MVCC_CONFLICT_NONE};

    if (k->intent && (int)k->owner == who) {
        const struct model_write *w =
            last_write(k, opt->txn->ignored, opt->txn->ignored_count, opt->txn->seq);

        if (k->epoch > opt->txn->epoch) {
            g.conflict = MVCC_CONFLICT_REPLAY;
            return g;
        }
        if (k->epoch == opt->txn->epoch && w != NULL) {
            g.value = w->value;
            g.ts = k->ts;
            g.own = true;
            return g;
        }
    } else if (k->intent && !opt->skip_locked && hts_less_eq(k->ts, limit)) {
        g.conflict = MVCC_CONFLICT_LOCKED;
        return g;
    }
    for (uint32_t i = 0; i < k->version_count; i++) {
        v = &k->versions[i];
        if (hts_less(opt->ts, v->ts) && hts_less_eq(v->ts, opt->global_limit) &&
            hts_less_eq(v->local_ts, opt->local_limit)) {
            g.conflict = MVCC_CONFLICT_UNCERTAIN;
            return g;
        }
    }
    v = newest(k, opt->ts);
    if (v != NULL) {
        g.value = v->value;
        g.ts = v->ts;
    }
    return g;
}

static bool others_exclude(const struct model_key *k, enum mvcc_strength want, int who,
                           uint32_t *count)
{
    *count = k->intent && (int)k->owner != who ? 1 : 0;
    for (int t = 0; t < MODEL_TXNS; t++) {
        if (t == who) {
            continue;
        }
        *count += k->plain[t][MVCC_SHARED] && want >= MVCC_EXCLUSIVE ? 1 : 0;
        *count += k->plain[t][MVCC_EXCLUSIVE] && want >= MVCC_SHARED ? 1 : 0;
    }
    return *count > 0;
}

static bool same(struct model_value a, struct model_value b)
{
    return a.present == b.present && (!a.present || a.v == b.v);
}

static struct model_value value_of(const struct mvcc_write *op)
{
    return (struct model_value){!op->tombstone, op->tombstone ? 0 : op->value.ptr[0]};
}

static bool expected(const struct mvcc_write *op, struct model_value seen)
{
    const bool equal = seen.present && op->expected.len == 1 && op->expected.ptr[0] == seen.v;

    switch (op->expect) {
    case MVCC_EXPECT_ANY:
        return true;
    case MVCC_EXPECT_ABSENT:
        return !seen.present;
    case MVCC_EXPECT_VALUE:
        return equal;
    case MVCC_EXPECT_ABSENT_OR_VALUE:
        return equal || !seen.present;
    case MVCC_EXPECT_PRESENT:
        return seen.present;
    }
    return false;
}

/* What became of a repeated sequence number. */
static enum mvcc_conflict_kind replay(const struct model_key *k, const struct mvcc_write *op)
{
    for (uint32_t i = 0; i < k->write_count; i++) {
        if (k->writes[i].seq == op->txn->seq && same(k->writes[i].value, value_of(op))) {
            return MVCC_CONFLICT_NONE;
        }
    }
    return MVCC_CONFLICT_REPLAY;
}

static struct hts effective_local(const struct mvcc_write *op, struct hts ts)
{
    return hts_is_zero(op->local_ts) || hts_less_eq(ts, op->local_ts) ? ts : op->local_ts;
}

static void lay(struct model_key *k, const struct mvcc_write *op, struct hts ts, int who,
                bool same_epoch)
{
    if (op->txn == NULL) {
        k->versions[k->version_count++] =
            (struct model_version){ts, effective_local(op, ts), value_of(op)};
        return;
    }
    if (!same_epoch) {
        k->write_count = 0;
    }
    k->intent = true;
    k->owner = (uint32_t)who;
    k->epoch = op->txn->epoch;
    k->ts = ts;
    k->local_ts = effective_local(op, ts);
    k->writes[k->write_count++] = (struct model_write){op->txn->seq, value_of(op)};
}

struct model_put model_put(struct model *m, uint32_t key, const struct mvcc_write *op, int who)
{
    struct model_key *k = &m->keys[key];
    const struct model_version *v = newest(k, HTS_MAX);
    const bool own = k->intent && (int)k->owner == who;
    const bool same_epoch = own && k->epoch == op->txn->epoch;
    const struct model_write *w =
        same_epoch ? last_write(k, op->txn->ignored, op->txn->ignored_count, UINT32_MAX) : NULL;
    const struct model_value none = {false, 0};
    const struct model_value seen = w != NULL ? w->value : (v != NULL ? v->value : none);
    struct hts ts = op->txn == NULL ? op->ts : op->txn->write_ts;
    struct model_put r = {.conflict = MVCC_CONFLICT_NONE};
    uint32_t count = 0;

    if (others_exclude(k, MVCC_INTENT, who, &count)) {
        r.conflict = MVCC_CONFLICT_LOCKED;
        return r;
    }
    r.out.had_value = seen.present;
    if (own && k->epoch > op->txn->epoch) {
        r.conflict = MVCC_CONFLICT_REPLAY;
        return r;
    }
    if (same_epoch && op->txn->seq <= k->writes[k->write_count - 1].seq) {
        r.out.replayed = true;
        r.out.ts = k->ts;
        r.conflict = replay(k, op);
        return r;
    }
    if (v != NULL) {
        const bool read_newer = op->expect != MVCC_EXPECT_ANY && op->txn != NULL && !same_epoch &&
                                hts_less(op->txn->read_ts, v->ts);
        const bool above = !hts_is_zero(op->newest_max) && hts_less(op->newest_max, v->ts);
        const bool late = hts_less_eq(ts, v->ts);

        if (read_newer || above || (late && (!op->bump || op->expect != MVCC_EXPECT_ANY))) {
            r.conflict = MVCC_CONFLICT_TOO_OLD;
            return r;
        }
        r.out.bumped = late;
        ts = late ? hts_next(v->ts) : ts;
    }
    if (!expected(op, seen)) {
        r.conflict = MVCC_CONFLICT_CONDITION;
        return r;
    }
    r.out.ts = own ? hts_max(ts, k->ts) : ts;
    lay(k, op, r.out.ts, who, same_epoch);
    return r;
}

enum mvcc_conflict_kind model_lock(struct model *m, uint32_t key, enum mvcc_strength strength,
                                   const struct mvcc_txn *txn, int who)
{
    struct model_key *k = &m->keys[key];
    uint32_t count = 0;

    if (others_exclude(k, strength, who, &count)) {
        return MVCC_CONFLICT_LOCKED;
    }
    if (!k->plain[who][strength] || k->plain_epoch[who][strength] != txn->epoch ||
        ignored(txn->ignored, txn->ignored_count, k->plain_seq[who][strength])) {
        k->plain_epoch[who][strength] = txn->epoch;
        k->plain_seq[who][strength] = txn->seq;
    }
    k->plain[who][strength] = true;
    return MVCC_CONFLICT_NONE;
}

bool model_resolve(struct model *m, uint32_t key, const struct mvcc_resolve *how, int who)
{
    struct model_key *k = &m->keys[key];
    const struct model_write *w = last_write(k, how->ignored, how->ignored_count, UINT32_MAX);

    for (int s = MVCC_SHARED; s < MVCC_INTENT; s++) {
        if (how->resolution != MVCC_PUSH || k->plain_epoch[who][s] < how->epoch ||
            ignored(how->ignored, how->ignored_count, k->plain_seq[who][s])) {
            k->plain[who][s] = false;
        }
    }
    if (!k->intent || (int)k->owner != who) {
        return false;
    }
    if (how->resolution == MVCC_PUSH && k->epoch >= how->epoch) {
        k->ts = hts_max(k->ts, how->ts);
        return true;
    }
    k->intent = false;
    if (how->resolution == MVCC_COMMIT && k->epoch == how->epoch && w != NULL) {
        k->versions[k->version_count++] = (struct model_version){how->ts, k->local_ts, w->value};
    }
    k->write_count = 0;
    return true;
}

uint32_t model_gc(struct model *m, uint32_t key, struct hts threshold)
{
    struct model_key *k = &m->keys[key];
    const struct model_version *v = newest(k, threshold);
    const struct hts keep = v == NULL ? HTS_ZERO : v->ts;
    const bool keep_it = v != NULL && v->value.present;
    uint32_t kept = 0;
    uint32_t gone = 0;

    for (uint32_t i = 0; i < k->version_count; i++) {
        const bool below = v != NULL && hts_less(k->versions[i].ts, keep);
        const bool edge = v != NULL && hts_eq(k->versions[i].ts, keep) && !keep_it;

        if (below || edge) {
            gone++;
        } else {
            k->versions[kept++] = k->versions[i];
        }
    }
    k->version_count = kept;
    return gone;
}

enum mvcc_conflict_kind model_refresh(const struct model *m, uint32_t key, struct hts from,
                                      struct hts to, int who)
{
    const struct model_key *k = &m->keys[key];

    if (k->intent && (int)k->owner != who && hts_less(from, k->ts) && hts_less_eq(k->ts, to)) {
        return MVCC_CONFLICT_LOCKED; /* The newest version of its key: met first. */
    }
    for (uint32_t i = 0; i < k->version_count; i++) {
        if (hts_less(from, k->versions[i].ts) && hts_less_eq(k->versions[i].ts, to)) {
            return MVCC_CONFLICT_TOO_OLD;
        }
    }
    return MVCC_CONFLICT_NONE;
}

enum mvcc_intent_state model_query(const struct model *m, uint32_t key, int who, uint32_t epoch,
                                   uint32_t seq, struct hts ts)
{
    const struct model_key *k = &m->keys[key];

    if (!k->intent || (int)k->owner != who || k->epoch < epoch) {
        return MVCC_INTENT_MISSING;
    }
    if (k->epoch > epoch || hts_less(ts, k->ts)) {
        return MVCC_INTENT_MOVED;
    }
    return k->writes[k->write_count - 1].seq >= seq ? MVCC_INTENT_FOUND : MVCC_INTENT_MISSING;
}

uint32_t model_locks(const struct model *m, uint32_t key, enum mvcc_strength want, int who)
{
    uint32_t count = 0;

    (void)others_exclude(&m->keys[key], want, who, &count);
    return count;
}
