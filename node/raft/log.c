/*
 * log.c -- the log as the core sees it: a tail in memory, the rest behind a reader.
 *
 * Every entry that is not durable or not applied is in memory; older ones stay as a cache until the
 * owner releases them. Slots are one array with a moving head, so a batch for a message or for the
 * writer is a slice and nothing is copied. The outstanding Ready points into the array ("pinned"): if
 * the array must change underneath it (growth, a conflicting suffix), the log moves to a fresh copy
 * and the old one lives until raft_advance(). That happens rarely and costs no more than it must.
 *
 * Durability (protocol 2.6). Appends complete later, and the log may have been rewritten meanwhile: A
 * appends 5..7, B overwrites 6..7, and then the completion of A's append arrives. Indexes alone would
 * make B's entries look durable (the ABA race of B-2.2). The term of the leader that confirmed the log
 * would not tell them apart either: one leader may first confirm a prefix and only later cut what
 * followed it. So marks are numbered. Cutting or restoring the log voids every mark handed out before;
 * the Ready that carries the replacement carries a mark of its own, and completions come in order.
 *
 *     mark 1 (A: 5..7)      cut at 6: void_seq = 1, stable = min(stable, 5)      mark 2 (B: 6..7)
 *     done 1: ignored       done 2: stable = 7
 */
#include <stdlib.h>
#include <string.h>

#include "node/raft/raft_internal.h"

#define SLOTS_FIRST 16u

struct status raft__log_init(struct raft__log *l, const struct raft_options *o)
{
    uint64_t last_term = o->truncated_term;

    if (o->last_index > o->truncated_index) {
        last_term = o->log.term(o->log.ctx, o->last_index);
        if (last_term == 0) {
            return FAIL(STATUS_INVALID, "the last entry of the log has no term");
        }
    }
    *l = (struct raft__log){
        .reader = o->log,
        .first = o->last_index + 1,
        .base_term = last_term,
        .truncated_index = o->truncated_index,
        .truncated_term = o->truncated_term,
        .handed = o->last_index,
        .stored_last = o->last_index,
        .stable = o->last_index,
    };
    return OK;
}

static void release_slots(struct raft_entry *slots, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        blob_release(slots[i].payload);
    }
}

void raft__log_deinit(struct raft__log *l)
{
    raft__log_unpin(l);
    if (l->slots != NULL) {
        release_slots(l->slots + l->head, l->count);
    }
    free(l->slots);
    l->slots = NULL;
}

void raft__log_unpin(struct raft__log *l)
{
    if (l->pinned_slots != NULL) {
        release_slots(l->pinned_slots + l->pinned_head, l->pinned_count);
        free(l->pinned_slots);
        l->pinned_slots = NULL;
    }
    l->pinned = false;
}

uint64_t raft__log_last(const struct raft__log *l)
{
    return l->first + l->count - 1;
}

uint64_t raft__log_last_term(const struct raft__log *l)
{
    return l->count == 0 ? l->base_term : l->slots[l->head + l->count - 1].term;
}

const struct raft_entry *raft__log_at(const struct raft__log *l, uint64_t index)
{
    INVARIANT(index >= l->first);
    INVARIANT(index - l->first < l->count);
    return &l->slots[l->head + (uint32_t)(index - l->first)];
}

bool raft__log_term(const struct raft__log *l, uint64_t index, uint64_t *term_out)
{
    if (index < l->truncated_index || index > raft__log_last(l)) {
        return false;
    }
    if (index >= l->first) {
        *term_out = raft__log_at(l, index)->term;
        return true;
    }
    if (index == l->first - 1) {
        *term_out = l->base_term;
        return true;
    }
    if (index == l->truncated_index) {
        *term_out = l->truncated_term;
        return true;
    }
    *term_out = l->reader.term(l->reader.ctx, index);
    return *term_out != 0;
}

bool raft__log_matches(const struct raft__log *l, uint64_t index, uint64_t term)
{
    uint64_t have = 0;

    return raft__log_term(l, index, &have) && have == term;
}

uint64_t raft__log_hint(const struct raft__log *l, uint64_t index, uint64_t term,
                        uint64_t *term_out)
{
    const uint64_t last = raft__log_last(l);

    *term_out = 0;
    for (index = index < last ? index : last; index > 0; index--) {
        uint64_t have = 0;

        if (!raft__log_term(l, index, &have)) {
            return index;
        }
        if (have <= term) {
            *term_out = have;
            return index;
        }
    }
    return 0;
}

/* Moves the entries into an array of its own with room for `need` slots. */
static struct status move_slots(struct raft__log *l, uint32_t need)
{
    uint32_t cap = l->cap < SLOTS_FIRST ? SLOTS_FIRST : l->cap;
    struct raft_entry *slots = NULL;

    while (cap < need) {
        cap *= 2;
    }
    slots = malloc(cap * sizeof(slots[0]));
    if (slots == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    if (l->count > 0) {
        memcpy(slots, l->slots + l->head, l->count * sizeof(slots[0]));
    }
    if (l->pinned) {
        for (uint32_t i = 0; i < l->count; i++) {
            (void)blob_acquire(slots[i].payload);
        }
        l->pinned_slots = l->slots;
        l->pinned_head = l->head;
        l->pinned_count = l->count;
        l->pinned = false;
    } else {
        free(l->slots);
    }
    l->slots = slots;
    l->head = 0;
    l->cap = cap;
    return OK;
}

struct status raft__log_reserve(struct raft__log *l, uint32_t count, bool cut)
{
    if (count > UINT32_MAX / 4 - l->count) {
        return FAIL(STATUS_MEMORY, "log tail is too long");
    }
    if (l->cap - l->head - l->count < count) {
        /* Sliding down suffices when half of the array is free in front. */
        if (!l->pinned && l->head >= l->cap / 2 && l->cap - l->count >= count) {
            memmove(l->slots, l->slots + l->head, l->count * sizeof(l->slots[0]));
            l->head = 0;
            return OK;
        }
        return move_slots(l, l->count + count);
    }
    return cut && l->pinned && l->count > 0 ? move_slots(l, l->count + count) : OK;
}

void raft__log_cut(struct raft__log *l, uint64_t index, uint64_t prev_term)
{
    const uint64_t keep = index <= l->first ? 0 : index - l->first;

    INVARIANT(index > l->truncated_index);
    INVARIANT(!l->pinned || l->count == 0);

    if (keep < l->count) {
        release_slots(l->slots + l->head + keep, l->count - (uint32_t)keep);
        l->count = (uint32_t)keep;
    }
    if (index < l->first) {
        l->first = index;
        l->base_term = prev_term;
        l->head = 0;
    }
    l->handed = l->handed < index ? l->handed : index - 1;
    l->stable = l->stable < index ? l->stable : index - 1;
    l->void_seq = l->mark_seq;
}

void raft__log_push(struct raft__log *l, struct raft_entry e)
{
    INVARIANT(l->head + l->count < l->cap);
    INVARIANT(e.index == raft__log_last(l) + 1);
    INVARIANT(e.term >= raft__log_last_term(l));

    l->slots[l->head + l->count] = e;
    l->count++;
}

struct raft_mark raft__log_mark(struct raft__log *l)
{
    l->mark_seq++;
    return (struct raft_mark){raft__log_last(l), l->mark_seq};
}

bool raft__log_mark_done(struct raft__log *l, struct raft_mark mark)
{
    INVARIANT(mark.seq <= l->mark_seq);

    l->done_seq = l->done_seq < mark.seq ? mark.seq : l->done_seq;
    if (mark.seq <= l->void_seq) {
        return false;
    }
    INVARIANT(mark.last_index <= raft__log_last(l));
    return true;
}

void raft__log_restore(struct raft__log *l, uint64_t index, uint64_t term)
{
    if (l->count > 0) {
        release_slots(l->slots + l->head, l->count);
    }
    l->count = 0;
    l->head = 0;
    l->first = index + 1;
    l->base_term = term;
    l->truncated_index = index;
    l->truncated_term = term;
    l->handed = index;
    l->stored_last = l->stored_last < index ? index : l->stored_last;
    l->stable = l->stable < index ? l->stable : index - 1;
    l->void_seq = l->mark_seq;
}

void raft__log_drop_memory(struct raft__log *l, uint64_t upto)
{
    if (l->pinned) {
        return; /* Only a hint: the next release catches up. */
    }
    while (l->count > 0 && l->first <= upto) {
        l->base_term = l->slots[l->head].term;
        blob_release(l->slots[l->head].payload);
        l->head++;
        l->count--;
        l->first++;
    }
    if (l->count == 0 && l->cap > SLOTS_FIRST) {
        free(l->slots);
        l->slots = NULL;
        l->cap = 0;
    }
    if (l->count == 0) {
        l->head = 0;
    }
}

void raft__log_trim(struct raft__log *l)
{
    if (l->count == 0 && !l->pinned) {
        free(l->slots);
        l->slots = NULL;
        l->cap = 0;
        l->head = 0;
    }
}

static bool stored_may_have_conf(const struct raft__log *l, uint64_t after, uint64_t upto)
{
    while (after < upto) {
        struct raft_entry got[8];
        uint32_t count = 0;
        bool found = false;

        if (!status_ok(l->reader.entries(l->reader.ctx, after + 1, ARRAY_COUNT(got),
                                         RAFT_APP_BYTES_TARGET, got, &count)) ||
            count == 0) {
            return true;
        }
        for (uint32_t i = 0; i < count; i++) {
            found = found || (got[i].kind == RAFT_ENTRY_CONF && got[i].index <= upto);
        }
        release_slots(got, count);
        if (found) {
            return true;
        }
        after += count;
    }
    return false;
}

bool raft__log_may_have_conf(const struct raft__log *l, uint64_t after, uint64_t upto)
{
    if (after + 1 < l->first && after < upto) {
        const uint64_t stored = upto < l->first - 1 ? upto : l->first - 1;

        if (stored_may_have_conf(l, after, stored)) {
            return true;
        }
        after = stored;
    }
    for (uint64_t i = after + 1; i <= upto; i++) {
        if (raft__log_at(l, i)->kind == RAFT_ENTRY_CONF) {
            return true;
        }
    }
    return false;
}
