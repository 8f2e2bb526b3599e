/*
 * linear.c -- a search through the orders in which operations may have taken effect.
 *
 * Calls and returns stand in a list in order of time. An operation may come next if its call stands
 * before the first return in the list: everything that returned before it was called is then already
 * out of the list. We take one, remember where we were, and lift it out; at a return that we cannot
 * pass, the last choice was wrong and goes back in. What was tried is remembered as (set of
 * operations taken, value of the register): coming there again by another order is no use.
 *
 * An operation of unknown outcome has a call and no return, so it may be taken at any time, and the
 * search is over when no return is left.
 */
#include "tests/sim/linear.h"

#include <stdlib.h>
#include <string.h>

#include "node/base/hash.h"
#include "node/base/invariant.h"

#define ABSENT INT64_MIN

struct entry {
    struct entry *prev;
    struct entry *next;
    const struct op *op;
    struct entry *match; /* Of a call: its return, or NULL. Of a return: NULL. */
    bool is_call;
    uint32_t id; /* Of the operation. */
    uint64_t at;
};

struct choice {
    struct entry *call;
    int64_t before; /* Value of the register. */
};

/* Sets of operations that were tried, by hash of set and value; 64 bits collide too rarely to matter
 * and then only hide an error. */
struct memory {
    uint64_t *slots;
    size_t cap;
    size_t count;
};

struct search {
    struct entry head;
    struct entry *entries;
    size_t entries_count;
    struct choice *stack;
    size_t depth;
    uint64_t *taken; /* Bit per operation. */
    size_t words;
    size_t returns_left;
    struct memory memory;
    int64_t value;
};

static bool remember(struct memory *m, uint64_t key)
{
    key = key == 0 ? 1 : key;
    if (m->count * 2 >= m->cap) {
        const struct memory old = *m;

        m->cap = old.cap == 0 ? 1024 : old.cap * 2;
        m->slots = calloc(m->cap, sizeof(*m->slots));
        m->count = 0;
        INVARIANT(m->slots != NULL);
        for (size_t i = 0; i < old.cap; i++) {
            if (old.slots[i] != 0) {
                (void)remember(m, old.slots[i]);
            }
        }
        free(old.slots);
    }
    for (size_t i = key & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        if (m->slots[i] == key) {
            return false;
        }
        if (m->slots[i] == 0) {
            m->slots[i] = key;
            m->count++;
            return true;
        }
    }
}

/* Could `op` take effect when the register holds *value? Then *value is what it leaves. */
static bool step(const struct op *op, int64_t *value)
{
    INVARIANT(op->kind == OP_READ || op->kind == OP_WRITE || op->kind == OP_CAS);
    if (op->kind == OP_READ) {
        return *value == (op->found ? op->result : ABSENT);
    }
    if (op->kind == OP_CAS && op->outcome == OP_REFUSED) {
        return op->result_known ? *value == (op->found ? op->result : ABSENT)
                                : *value != op->expect;
    }
    if (op->kind == OP_CAS && *value != op->expect) {
        return false;
    }
    *value = op->arg;
    return true;
}

static int by_time(const void *a, const void *b)
{
    const struct entry *x = a;
    const struct entry *y = b;

    return x->at < y->at ? -1 : (x->at > y->at ? 1 : 0);
}

static void lift(struct search *s, struct entry *call)
{
    call->prev->next = call->next;
    call->next->prev = call->prev;
    if (call->match != NULL) {
        call->match->prev->next = call->match->next;
        call->match->next->prev = call->match->prev;
        s->returns_left--;
    }
    s->taken[call->id / 64] |= 1ull << (call->id % 64);
}

static void unlift(struct search *s, struct entry *call)
{
    if (call->match != NULL) {
        call->match->prev->next = call->match;
        call->match->next->prev = call->match;
        s->returns_left++;
    }
    call->prev->next = call;
    call->next->prev = call;
    s->taken[call->id / 64] &= ~(1ull << (call->id % 64));
}

static void build(struct search *s, const struct op *const *ops, size_t count)
{
    struct entry **calls = calloc(count + 1, sizeof(*calls));

    s->entries = calloc(2 * count + 1, sizeof(*s->entries));
    s->stack = calloc(count + 1, sizeof(*s->stack));
    s->words = count / 64 + 1;
    s->taken = calloc(s->words, sizeof(*s->taken));
    INVARIANT(s->entries != NULL && s->stack != NULL && s->taken != NULL && calls != NULL);
    for (size_t i = 0; i < count; i++) {
        s->entries[s->entries_count++] =
            (struct entry){.op = ops[i], .is_call = true, .id = (uint32_t)i, .at = ops[i]->called};
        if (ops[i]->outcome != OP_UNKNOWN) {
            s->entries[s->entries_count++] =
                (struct entry){.op = ops[i], .id = (uint32_t)i, .at = ops[i]->returned};
            s->returns_left++;
        }
    }
    qsort(s->entries, s->entries_count, sizeof(*s->entries), by_time);
    s->head.next = &s->head;
    s->head.prev = &s->head;
    for (size_t i = 0; i < s->entries_count; i++) {
        struct entry *e = &s->entries[i];

        e->prev = s->head.prev;
        e->next = &s->head;
        s->head.prev->next = e;
        s->head.prev = e;
        if (e->is_call) {
            calls[e->id] = e;
        } else {
            calls[e->id]->match = e;
        }
    }
    free(calls);
}

/* The value is hashed by itself first: as a plain seed, small numbers and sets of few operations meet. */
static uint64_t state_key(const struct search *s, int64_t value)
{
    return hash64(bytes_of(s->taken, s->words * sizeof(*s->taken)),
                  hash64(bytes_of(&value, sizeof(value)), 1));
}

static bool try_call(struct search *s, struct entry *e)
{
    int64_t value = s->value;

    if (!step(e->op, &value)) {
        return false;
    }
    lift(s, e);
    if (!remember(&s->memory, state_key(s, value))) {
        unlift(s, e);
        return false;
    }
    s->stack[s->depth++] = (struct choice){e, s->value};
    s->value = value;
    return true;
}

static enum linear_verdict run(struct search *s)
{
    struct entry *e = s->head.next;

    for (size_t steps = 0; s->returns_left > 0; steps++) {
        if (steps > LINEAR_STEPS_MAX) {
            return LINEAR_TOO_HARD;
        }
        if (e != &s->head && e->is_call) {
            e = try_call(s, e) ? s->head.next : e->next;
            continue;
        }
        if (s->depth == 0) {
            return LINEAR_NO;
        }
        s->depth--;
        s->value = s->stack[s->depth].before;
        e = s->stack[s->depth].call;
        unlift(s, e);
        e = e->next;
    }
    return LINEAR_YES;
}

enum linear_verdict linear_check(const struct op *const *ops, size_t count)
{
    struct search s = {.value = ABSENT};
    enum linear_verdict v = LINEAR_YES;

    if (count > LINEAR_OPS_MAX) {
        return LINEAR_TOO_HARD;
    }
    build(&s, ops, count);
    v = run(&s);
    free(s.entries);
    free(s.stack);
    free(s.taken);
    free(s.memory.slots);
    return v;
}

/* ---- the naive twin ------------------------------------------------------------------------------ */

static bool may_come_next(const struct op *const *ops, size_t count, uint32_t left, size_t i)
{
    for (size_t k = 0; k < count; k++) {
        if (k != i && (left & 1u << k) != 0 && ops[k]->outcome != OP_UNKNOWN &&
            ops[k]->returned < ops[i]->called) {
            return false;
        }
    }
    return true;
}

static bool explain(const struct op *const *ops, size_t count, uint32_t left, int64_t value)
{
    bool only_unknown = true;

    for (size_t i = 0; i < count; i++) {
        int64_t after = value;

        if ((left & 1u << i) == 0) {
            continue;
        }
        only_unknown = only_unknown && ops[i]->outcome == OP_UNKNOWN;
        if (may_come_next(ops, count, left, i) && step(ops[i], &after) &&
            explain(ops, count, left & ~(1u << i), after)) {
            return true;
        }
    }
    return only_unknown;
}

bool linear_check_naive(const struct op *const *ops, size_t count)
{
    INVARIANT(count <= 8); /* Factorial. */
    return explain(ops, count, (1u << count) - 1, ABSENT);
}
