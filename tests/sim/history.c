/*
 * history.c -- the record of a run, and the questions asked of it afterwards.
 *
 *   registers   one order per key explains all reads, writes and compare-and-sets (linear.c)
 *   set         what was acknowledged stays, what was refused never shows, nothing shows twice
 *   counter     a count lies between what was certainly added and what may have been added
 *   bank        every total that was read is the initial one
 *   lists       dependencies between transactions have no cycle, nothing is stale (append.c)
 *   the rest    long forks, unique keys, write skew (anomaly.c)
 */
#include "tests/sim/history.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/base/invariant.h"
#include "tests/sim/anomaly.h"
#include "tests/sim/append.h"
#include "tests/sim/linear.h"
#include "tests/sim/world.h"

#define SHOWN_MAX 200u

struct history *history_create(void)
{
    struct history *h = calloc(1, sizeof(*h));

    INVARIANT(h != NULL);
    return h;
}

void history_destroy(struct history *h)
{
    for (size_t i = 0; i < h->count; i++) {
        struct op *o = &h->ops[i];

        for (uint32_t k = 0; k < o->tx_count; k++) {
            free(o->tx[k].list);
        }
        free(o->tx);
        free(o->elements);
    }
    free(h->ops);
    free(h);
}

size_t history_call(struct sim_world *w, const struct op *op)
{
    struct history *h = w->history;
    struct op *o = NULL;

    if (h->count == h->cap) {
        h->cap = h->cap == 0 ? 4096 : h->cap * 2;
        h->ops = realloc(h->ops, h->cap * sizeof(*h->ops));
        INVARIANT(h->ops != NULL);
    }
    o = &h->ops[h->count];
    *o = *op;
    o->outcome = OP_UNKNOWN;
    o->called = ++w->steps;
    o->returned = OP_NEVER;
    o->called_ns = w->now_ns;
    o->returned_ns = OP_NEVER;
    sim_trace(w, "call", (uint64_t)op->kind << 32 | op->node, op->key, (uint64_t)op->arg);
    return h->count++;
}

void history_return(struct sim_world *w, size_t i, enum op_outcome outcome)
{
    struct op *o = &w->history->ops[i];

    o->outcome = outcome;
    w->history->outcomes[outcome]++;
    if (outcome != OP_UNKNOWN) {
        o->returned = ++w->steps;
        o->returned_ns = w->now_ns;
    }
    sim_trace(w, "return", i, (uint64_t)outcome, (uint64_t)o->result);
}

const char *op_text(const struct op *op, char *out, size_t size)
{
    static const char *const kinds[OP_KIND_COUNT] = {
        "read",        "write", "cas",    "insert",          "set-read",    "add",       "count",
        "transfer",    "bank",  "schema", "append",          "fork-write",  "fork-read", "unique",
        "unique-read", "skew",  "past",   "locked-transfer", "locked-bank", "locks"};
    static const char *const outcomes[] = {"unknown", "ok", "failed", "refused"};

    (void)snprintf(out, size,
                   "%s %s key %" PRIu64 " arg %" PRId64 " expect %" PRId64 " result %s%" PRId64
                   " node %u client %u steps %" PRIu64 "..%" PRIu64 " at %.6f..%.6f",
                   kinds[op->kind], outcomes[op->outcome], op->key, op->arg, op->expect,
                   op->found ? "" : "absent/", op->result, op->node, op->client, op->called,
                   op->returned, (double)op->called_ns / 1e9,
                   op->returned_ns == OP_NEVER ? -1.0 : (double)op->returned_ns / 1e9);
    return out;
}

static void show(const struct op *const *ops, size_t count)
{
    char line[256];

    for (size_t i = 0; i < count && i < SHOWN_MAX; i++) {
        fprintf(stderr, "    %s\n", op_text(ops[i], line, sizeof(line)));
    }
}

/* ---- registers ---------------------------------------------------------------------------------- */

static bool of_register(const struct op *op)
{
    return op->kind == OP_READ || op->kind == OP_WRITE || op->kind == OP_CAS;
}

/* An operation that changes nothing and told nothing explains nothing. */
static bool matters(const struct op *op)
{
    return of_register(op) && op->outcome != OP_FAILED &&
           !(op->kind == OP_READ && op->outcome == OP_UNKNOWN);
}

static int by_key(const void *a, const void *b)
{
    const struct op *x = *(const struct op *const *)a;
    const struct op *y = *(const struct op *const *)b;

    if (x->key != y->key) {
        return x->key < y->key ? -1 : 1;
    }
    return x->called < y->called ? -1 : (x->called > y->called ? 1 : 0);
}

/* Nobody ever saw what an unknown write would have written: it may as well not have happened, unless
 * a refused compare-and-set that does not know why needs it. */
static bool was_seen(const struct op *const *ops, size_t count, const struct op *write)
{
    for (size_t i = 0; i < count; i++) {
        const struct op *o = ops[i];

        if (o->outcome == OP_REFUSED && !o->result_known) {
            return true;
        }
        if (((o->kind == OP_READ || o->outcome == OP_REFUSED) && o->found &&
             o->result == write->arg) ||
            (o->kind == OP_CAS && o->outcome != OP_REFUSED && o->expect == write->arg)) {
            return true;
        }
    }
    return false;
}

static size_t drop_unseen(const struct op **ops, size_t count)
{
    size_t kept = 0;

    for (size_t i = 0; i < count; i++) {
        if (ops[i]->outcome != OP_UNKNOWN || was_seen(ops, count, ops[i])) {
            ops[kept++] = ops[i];
        }
    }
    return kept;
}

static void check_register(struct sim_world *w, const struct op **ops, size_t count)
{
    const size_t kept = drop_unseen(ops, count);

    switch (linear_check(ops, kept)) {
    case LINEAR_YES:
        break;
    case LINEAR_TOO_HARD:
        sim_fail(w, "register %" PRIu64 ": %zu operations are too many to decide", ops[0]->key,
                 kept);
        break;
    case LINEAR_NO:
        sim_fail(w, "register %" PRIu64 " is not linearizable (%zu operations)", ops[0]->key, kept);
        show(ops, kept);
        break;
    }
}

static void check_registers(struct sim_world *w)
{
    const struct history *h = w->history;
    const struct op **ops = calloc(h->count + 1, sizeof(*ops));
    size_t count = 0;

    INVARIANT(ops != NULL);
    for (size_t i = 0; i < h->count; i++) {
        if (matters(&h->ops[i])) {
            ops[count++] = &h->ops[i];
        }
    }
    qsort(ops, count, sizeof(*ops), by_key);
    for (size_t i = 0; i < count && !w->failed;) {
        size_t n = i;

        while (n < count && ops[n]->key == ops[i]->key) {
            n++;
        }
        check_register(w, &ops[i], n - i);
        i = n;
    }
    free(ops);
}

/* ---- set ---------------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a;
    const uint64_t y = *(const uint64_t *)b;

    return x < y ? -1 : (x > y ? 1 : 0);
}

static bool contains(const struct op *read, uint64_t element)
{
    return read->elements_count > 0 && bsearch(&element, read->elements, read->elements_count,
                                               sizeof(element), by_value) != NULL;
}

static void check_set_read(struct sim_world *w, const struct op *read)
{
    const struct history *h = w->history;
    uint64_t explained = 0;

    if (read->elements_count > 0) {
        qsort(read->elements, read->elements_count, sizeof(uint64_t), by_value);
    }
    for (uint32_t i = 1; i < read->elements_count; i++) {
        if (read->elements[i] == read->elements[i - 1]) {
            sim_fail(w, "set: element %" PRIu64 " appears twice", read->elements[i]);
        }
    }
    for (size_t i = 0; i < h->count; i++) {
        const struct op *o = &h->ops[i];
        bool in = false;

        if (o->kind != OP_INSERT) {
            continue;
        }
        in = contains(read, o->key);
        explained += in ? 1 : 0;
        if (!in && o->outcome == OP_OK && o->returned < read->called) {
            sim_fail(w, "set: acknowledged element %" PRIu64 " (node %u, %.6f s) is lost at %.6f s",
                     o->key, o->node, (double)o->returned_ns / 1e9, (double)read->called_ns / 1e9);
        }
        if (in && o->outcome == OP_FAILED) {
            sim_fail(w, "set: element %" PRIu64 " was refused and is there", o->key);
        }
        if (in && o->called > read->returned) {
            sim_fail(w, "set: element %" PRIu64 " was read before it was inserted", o->key);
        }
    }
    if (explained != read->elements_count) {
        sim_fail(w, "set: %" PRIu64 " of %u elements were never inserted",
                 read->elements_count - explained, read->elements_count);
    }
}

/* ---- counter and bank --------------------------------------------------------------------------- */

static void check_count(struct sim_world *w, const struct op *read)
{
    const struct history *h = w->history;
    int64_t least = 0;
    int64_t most = 0;

    for (size_t i = 0; i < h->count; i++) {
        const struct op *o = &h->ops[i];

        if (o->kind != OP_ADD || o->outcome == OP_FAILED) {
            continue;
        }
        least += o->outcome == OP_OK && o->returned < read->called ? o->arg : 0;
        most += o->called < read->returned ? o->arg : 0;
    }
    if (read->result < least || read->result > most) {
        sim_fail(w, "counter: read %" PRId64 " at %.6f s, possible are %" PRId64 " to %" PRId64,
                 read->result, (double)read->returned_ns / 1e9, least, most);
    }
}

/* ---- lists -------------------------------------------------------------------------------------- */

static void show_lists(const struct op *o, size_t id)
{
    fprintf(stderr, "    T%zu node %u outcome %d steps %" PRIu64 "..%" PRIu64 " at %.6f..%.6f:", id,
            o->node, (int)o->outcome, o->called, o->returned, (double)o->called_ns / 1e9,
            o->returned_ns == OP_NEVER ? -1.0 : (double)o->returned_ns / 1e9);
    for (uint32_t i = 0; i < o->tx_count; i++) {
        const struct append_op *x = &o->tx[i];

        if (x->kind == APPEND_ADD) {
            fprintf(stderr, " %" PRIu64 "+%" PRIu64, x->key, x->value);
            continue;
        }
        fprintf(stderr, " %" PRIu64 "=[", x->key);
        for (uint32_t k = 0; k < x->count; k++) {
            fprintf(stderr, "%s%" PRIu64, k > 0 ? " " : "", x->list[k]);
        }
        fprintf(stderr, x->done ? "]" : "?]");
    }
    fprintf(stderr, "\n");
}

/* The transactions that the verdict names. */
static void show_named(const struct history *h, const char *why)
{
    for (const char *at = strchr(why, 'T'); at != NULL; at = strchr(at + 1, 'T')) {
        const unsigned long long id = strtoull(at + 1, NULL, 10);

        if (id < h->count && h->ops[id].kind == OP_APPEND) {
            show_lists(&h->ops[id], (size_t)id);
        }
    }
}

static bool touches(const struct op *o, uint64_t list)
{
    for (uint32_t i = 0; i < o->tx_count; i++) {
        if (o->tx[i].key == list) {
            return true;
        }
    }
    return false;
}

/* Everybody who had to do with a list that the verdict names. */
static void show_list(const struct history *h, const char *why)
{
    const char *at = strstr(why, "list ");
    const unsigned long long list = at == NULL ? 0 : strtoull(at + 5, NULL, 10);

    for (size_t i = 0; at != NULL && i < h->count; i++) {
        if (h->ops[i].kind == OP_APPEND && touches(&h->ops[i], list)) {
            show_lists(&h->ops[i], i);
        }
    }
}

static void check_lists(struct sim_world *w)
{
    const struct history *h = w->history;
    struct append_txn *txns = calloc(h->count + 1, sizeof(*txns));
    enum append_anomaly a = APPEND_FINE;
    char why[SIM_FAILURE_MAX - 64];
    size_t count = 0;

    INVARIANT(txns != NULL);
    for (size_t i = 0; i < h->count; i++) {
        const struct op *o = &h->ops[i];

        if (o->kind == OP_APPEND) {
            txns[count++] = (struct append_txn){
                .outcome = o->outcome,
                .id = i,
                .called = o->called,
                .returned = o->returned,
                .ops = o->tx,
                .count = o->tx_count,
            };
        }
    }
    a = append_check(txns, count, why, sizeof(why));
    free(txns);
    if (a != APPEND_FINE) {
        sim_fail(w, "lists: %s: %s", append_anomaly_name(a), why);
        show_named(h, why);
        if (w->o.logs) {
            show_list(h, why);
        }
    }
}

static void check_others(struct sim_world *w)
{
    const struct history *h = w->history;
    char why[SIM_FAILURE_MAX - 64];

    if (!anomaly_check_forks(h->ops, h->count, why, sizeof(why)) ||
        !anomaly_check_unique(h->ops, h->count, why, sizeof(why)) ||
        !anomaly_check_skew(h->ops, h->count, why, sizeof(why)) ||
        !anomaly_check_past(h->ops, h->count, why, sizeof(why))) {
        sim_fail(w, "%s", why);
    }
}

void history_check(struct sim_world *w, int64_t total)
{
    const struct history *h = w->history;

    for (size_t i = 0; i < h->count && !w->failed; i++) {
        const struct op *o = &h->ops[i];

        if (o->outcome != OP_OK) {
            continue;
        }
        if (o->kind == OP_SET_READ) {
            check_set_read(w, o);
        } else if (o->kind == OP_COUNT) {
            check_count(w, o);
        } else if ((o->kind == OP_BANK || o->kind == OP_LOCKED_BANK) && o->result != total) {
            sim_fail(w, "%s: node %u read a total of %" PRId64 " instead of %" PRId64 " at %.6f s",
                     o->kind == OP_BANK ? "bank" : "locked bank", o->node, o->result, total,
                     (double)o->returned_ns / 1e9);
        }
    }
    if (!w->failed) {
        check_others(w);
    }
    if (!w->failed) {
        check_lists(w);
    }
    if (!w->failed) {
        check_registers(w);
    }
}
