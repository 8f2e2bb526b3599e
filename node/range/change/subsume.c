/*
 * subsume.c -- Raft snapshots on a store where ranges are being split and merged.
 *
 * A snapshot brings keys. On this store they may belong to another replica:
 *
 *   - to the left side of a split that this store has still to apply: then the snapshot is of the right side,
 *     and must wait; applying the split makes its replica anyway (protocol reference 2.11.4);
 *   - to a range that was merged away meanwhile: then the snapshot is of the wider range, its replica
 *     will never apply the MERGE, and the other one has to go in the same write (10.6.8).
 */
#include "node/base/invariant.h"
#include "node/range/change/change.h"

/* Another replica of this store with keys of `d`, from `from` on: the first, or NULL. */
static struct replica *next_overlap(const struct replica *r, struct replica *other,
                                    const struct range_desc *d)
{
    while (other != NULL && (other == r || bytes_cmp(other->desc.end, d->start) <= 0)) {
        other = store__right_of(other);
    }
    return other != NULL && bytes_cmp(other->desc.start, d->end) < 0 ? other : NULL;
}

static struct replica *first_overlap(const struct replica *r, const struct range_desc *d)
{
    struct replica *at = store__find_key(r->store, d->start);

    return next_overlap(r, at != NULL ? at : store__first_from(r->store, d->start), d);
}

/*
 * May `other` make way for descriptor d? Generations only grow where descriptors cover the same key, and a
 * range holds its start key as long as it lives: with a lower generation it is no more, it was merged away.
 * But where a left neighbour of this store stays, that one may still have to apply the merge, and needs it.
 */
static bool may_go(const struct replica *other, const struct range_desc *d)
{
    const struct replica *left = store__left_of(other);
    const int start = bytes_cmp(d->start, other->desc.start);

    if (other->life != REPLICA_INIT || other->desc.generation >= d->generation || start > 0) {
        return false;
    }
    return start < 0 || left == NULL || !bytes_eq(left->desc.end, other->desc.start);
}

bool change__in_the_way(const struct replica *r, const struct range_desc *d)
{
    LIST_FOREACH(it, &r->store->graves) { /* A neighbour may be about to take over its keys. */
        const struct replica *gone = LIST_ENTRY(it, struct replica, grave_link);

        if (gone != r && gone->absorbed && bytes_cmp(gone->desc.start, d->end) < 0 &&
            bytes_cmp(d->start, gone->desc.end) < 0) {
            return true;
        }
    }
    for (struct replica *other = first_overlap(r, d); other != NULL;
         other = next_overlap(r, store__right_of(other), d)) {
        if (!may_go(other, d)) {
            return true;
        }
    }
    return false;
}

void change__subsume(struct replica *r, const struct range_desc *d, struct store_write *w)
{
    struct replica *other = NULL;

    while ((other = first_overlap(r, d)) != NULL && !r->store->failed) {
        INVARIANT(may_go(other, d));
        replica__remove_for_ever(other, w);
    }
}

struct key_span change__keys_held(const struct replica *r)
{
    const struct replica *right = store__right_of(r);
    struct key_span span = {r->desc.start, r->desc.end};

    if (right != NULL && bytes_cmp(right->desc.start, span.end) < 0) {
        span.end = right->desc.start; /* A split that has applied and is not visible yet. */
    }
    return span;
}
