/*
 * anomaly.c -- judges of a few lines each.
 *
 * They go through pairs of operations of one group or key. Groups and keys are used for a short while, so
 * these are few, and they are found by walking the history once per member: a bucket list per group.
 */
#include "tests/sim/anomaly.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "node/base/attributes.h"
#include "node/base/invariant.h"

/* Pointers to the operations for which pick() is true, by group. */
struct picked {
    const struct op **ops;
    size_t count;
};

static uint64_t group_of(const struct op *o)
{
    return o->kind == OP_FORK_WRITE ? o->key / FORK_ITEMS : o->key;
}

static int by_group(const void *a, const void *b)
{
    const struct op *x = *(const struct op *const *)a;
    const struct op *y = *(const struct op *const *)b;

    if (group_of(x) != group_of(y)) {
        return group_of(x) < group_of(y) ? -1 : 1;
    }
    return x->called < y->called ? -1 : (x->called > y->called ? 1 : 0);
}

static struct picked pick(const struct op *ops, size_t count, enum op_kind a, enum op_kind b)
{
    struct picked p = {calloc(count + 1, sizeof(struct op *)), 0};

    INVARIANT(p.ops != NULL);
    for (size_t i = 0; i < count; i++) {
        if (ops[i].kind == a || ops[i].kind == b) {
            p.ops[p.count++] = &ops[i];
        }
    }
    qsort((void *)p.ops, p.count, sizeof(struct op *), by_group);
    return p;
}

static size_t group_end(const struct picked *p, size_t start)
{
    size_t end = start;

    while (end < p->count && group_of(p->ops[end]) == group_of(p->ops[start])) {
        end++;
    }
    return end;
}

static bool wrong(char *why, size_t why_size, const char *fmt, ...) PRINTF_LIKE(3, 4);

static bool wrong(char *why, size_t why_size, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(why, why_size, fmt, args);
    va_end(args);
    return false;
}

/* Runs one judge over all groups. */
typedef bool (*group_judge)(const struct op *const *ops, size_t count, char *why, size_t why_size);

static bool judge_groups(const struct op *ops, size_t count, enum op_kind a, enum op_kind b,
                         group_judge judge, char *why, size_t why_size)
{
    struct picked p = pick(ops, count, a, b);
    bool fine = true;

    for (size_t i = 0; i < p.count && fine;) {
        const size_t end = group_end(&p, i);

        fine = judge(&p.ops[i], end - i, why, why_size);
        i = end;
    }
    free((void *)p.ops);
    return fine;
}

/* ---- long fork ------------------------------------------------------------------------------------ */

static bool fits_write(const struct op *r, const struct op *w, char *why, size_t why_size)
{
    const bool seen = (r->result >> (w->key % FORK_ITEMS) & 1) != 0;

    if (seen && w->outcome == OP_FAILED) {
        return wrong(why, why_size, "fork: item %" PRIu64 " was refused and is seen at %.6f s",
                     w->key, (double)r->called_ns / 1e9);
    }
    if (seen && w->called > r->returned) {
        return wrong(why, why_size, "fork: item %" PRIu64 " is seen before it was written", w->key);
    }
    if (!seen && w->outcome == OP_OK && w->returned < r->called) {
        return wrong(why, why_size,
                     "fork: item %" PRIu64
                     ", acknowledged at %.6f s, is missed by node %u at %.6f s",
                     w->key, (double)w->returned_ns / 1e9, r->node, (double)r->called_ns / 1e9);
    }
    return true;
}

static bool judge_fork(const struct op *const *ops, size_t count, char *why, size_t why_size)
{
    for (size_t i = 0; i < count; i++) {
        const struct op *r = ops[i];

        if (r->kind != OP_FORK_READ || r->outcome != OP_OK) {
            continue;
        }
        for (size_t k = 0; k < count; k++) {
            const struct op *o = ops[k];

            if (o->kind == OP_FORK_WRITE && !fits_write(r, o, why, why_size)) {
                return false;
            }
            if (o->kind == OP_FORK_READ && o->outcome == OP_OK && k < i &&
                (o->result & r->result) != o->result && (o->result & r->result) != r->result) {
                return wrong(why, why_size,
                             "fork: of group %" PRIu64 " node %u saw %" PRIx64
                             " at %.6f s and node %u %" PRIx64 " at %.6f s",
                             r->key, o->node, (uint64_t)o->result, (double)o->called_ns / 1e9,
                             r->node, (uint64_t)r->result, (double)r->called_ns / 1e9);
            }
        }
    }
    return true;
}

bool anomaly_check_forks(const struct op *ops, size_t count, char *why, size_t why_size)
{
    return judge_groups(ops, count, OP_FORK_WRITE, OP_FORK_READ, judge_fork, why, why_size);
}

/* ---- unique keys ---------------------------------------------------------------------------------- */

/* May `claim` be the owner that `o` met? */
static bool may_own(const struct op *claim, const struct op *o)
{
    return claim->kind == OP_UNIQUE && claim != o && claim->called < o->returned &&
           (claim->outcome == OP_OK || claim->outcome == OP_UNKNOWN);
}

static bool judge_refusal(const struct op *const *ops, size_t count, const struct op *o, char *why,
                          size_t why_size)
{
    for (size_t i = 0; i < count; i++) {
        if (may_own(ops[i], o)) {
            return true;
        }
    }
    return wrong(why, why_size,
                 "unique: key %" PRIu64 " was refused to node %u at %.6f s, and nobody had it",
                 o->key, o->node, (double)o->returned_ns / 1e9);
}

static bool judge_lookup(const struct op *const *ops, size_t count, const struct op *r, char *why,
                         size_t why_size)
{
    bool explained = !r->found;

    if (r->found && r->result != r->expect) {
        return wrong(why, why_size,
                     "unique: the index has row %" PRId64 " for key %" PRIu64
                     ", the table %" PRId64,
                     r->result, r->key, r->expect);
    }
    for (size_t i = 0; i < count; i++) {
        const struct op *o = ops[i];

        if (o->kind != OP_UNIQUE) {
            continue;
        }
        if (o->outcome == OP_OK && o->returned < r->called && (!r->found || o->arg != r->result)) {
            return wrong(why, why_size,
                         "unique: row %" PRId64 " has got key %" PRIu64 ", and is gone", o->arg,
                         o->key);
        }
        explained = explained || (may_own(o, r) && o->arg == r->result);
    }
    return explained ||
           wrong(why, why_size, "unique: row %" PRId64 " has key %" PRIu64 " and was refused it",
                 r->result, r->key);
}

static bool judge_unique(const struct op *const *ops, size_t count, char *why, size_t why_size)
{
    const struct op *owner = NULL;

    for (size_t i = 0; i < count; i++) {
        const struct op *o = ops[i];

        if (o->kind == OP_UNIQUE && o->outcome == OP_OK) {
            if (owner != NULL) {
                return wrong(why, why_size,
                             "unique: rows %" PRId64 " and %" PRId64 " both have key %" PRIu64,
                             owner->arg, o->arg, o->key);
            }
            owner = o;
        }
        if (o->kind == OP_UNIQUE && o->outcome == OP_REFUSED &&
            !judge_refusal(ops, count, o, why, why_size)) {
            return false;
        }
        if (o->kind == OP_UNIQUE_READ && o->outcome == OP_OK &&
            !judge_lookup(ops, count, o, why, why_size)) {
            return false;
        }
    }
    return true;
}

bool anomaly_check_unique(const struct op *ops, size_t count, char *why, size_t why_size)
{
    return judge_groups(ops, count, OP_UNIQUE, OP_UNIQUE_READ, judge_unique, why, why_size);
}

/* ---- write skew ----------------------------------------------------------------------------------- */

bool anomaly_check_skew(const struct op *ops, size_t count, char *why, size_t why_size)
{
    for (size_t i = 0; i < count; i++) {
        const struct op *o = &ops[i];

        if (o->kind == OP_SKEW && o->outcome == OP_OK && o->result == 0) {
            return wrong(why, why_size,
                         "skew: both sides of pair %" PRIu64 " are off, seen by node %u at %.6f s",
                         o->key, o->node, (double)o->returned_ns / 1e9);
        }
    }
    return true;
}

/* ---- the past ------------------------------------------------------------------------------------- */

static bool judge_past(const struct op *const *ops, size_t count, char *why, size_t why_size)
{
    for (size_t i = 0; i < count; i++) {
        const struct op *a = ops[i];

        if (a->outcome == OP_OK && a->result != a->expect) {
            return wrong(why, why_size,
                         "past: node %u reads table %" PRIu64 " at %" PRId64
                         " from a near replica differently than from the leaseholder, at %.6f s",
                         a->node, a->key, a->arg, (double)a->called_ns / 1e9);
        }
        for (size_t k = 0; k < i; k++) {
            const struct op *b = ops[k];

            if (a->outcome == OP_OK && b->outcome == OP_OK && a->arg == b->arg &&
                a->result != b->result) {
                return wrong(why, why_size,
                             "past: nodes %u (%.6f s) and %u (%.6f s) read table %" PRIu64
                             " at %" PRId64 " differently",
                             b->node, (double)b->called_ns / 1e9, a->node,
                             (double)a->called_ns / 1e9, a->key, a->arg);
            }
        }
    }
    return true;
}

bool anomaly_check_past(const struct op *ops, size_t count, char *why, size_t why_size)
{
    return judge_groups(ops, count, OP_PAST, OP_PAST, judge_past, why, why_size);
}
