/*
 * append.c -- order of lists, dependencies, cycles.
 *
 * Step by step; each needs the ones before:
 *   1. who appended what (elements are unique), and what each read saw without the reader's own appends;
 *   2. one order per key: every read must be a prefix of the longest one;
 *   3. who committed: who was told so, and who was not told but was seen;
 *   4. per read: aborted, intermediate and future elements;
 *   5. per key, in the order of time: nothing acknowledged is missing from later reads, later reads are
 *      not shorter, later appends stand behind;
 *   6. edges and cycles, the worst class first: G0 with ww only, G1c with wr, G-single with one rw,
 *      G2-item with more.
 *
 * Reads of read committed transactions bind nobody until the commit: they have no rw edges.
 */
#include "tests/sim/append.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/base/attributes.h"
#include "node/base/invariant.h"

#define UNSEEN    UINT32_MAX
#define CYCLE_MAX 64u
#define NO_VERTEX UINT32_MAX

enum edge_kind {
    EDGE_WW = 1,
    EDGE_WR = 2,
    EDGE_RW = 4,
};

/* An element and who appended it. */
struct element {
    uint64_t value;
    uint64_t key;
    uint32_t txn;
    bool last;         /* Its transaction appends nothing more to this key. */
    uint32_t position; /* In the order of its key; UNSEEN. */
};

/* A read without the reader's own appends. */
struct view {
    uint64_t key;
    uint32_t txn;
    uint32_t count;
    const uint64_t *list;
};

struct edge {
    uint32_t from;
    uint32_t to;
    enum edge_kind kind;
    uint64_t key;
};

struct judge {
    const struct append_txn *txns;
    size_t txns_count;
    bool *committed;
    struct element *elements; /* By value. */
    size_t elements_count;
    struct element **by_key; /* The same by key. */
    struct view *views;      /* By key, then by length. */
    size_t views_count;
    struct edge *edges; /* By `from`. */
    size_t edges_count;
    size_t edges_cap;
    size_t *first_edge; /* Of a vertex; one more entry than vertices. */
    enum append_anomaly found;
    char *why;
    size_t why_size;
};

const char *append_anomaly_name(enum append_anomaly a)
{
    static const char *const names[APPEND_ANOMALY_COUNT] = {
        "fine", "garbage", "duplicate", "internal", "G1a", "G1b",      "incompatible-order",
        "lost", "stale",   "future",    "G0",       "G1c", "G-single", "G2-item"};

    return names[a];
}

static void found(struct judge *j, enum append_anomaly a, const char *fmt, ...) PRINTF_LIKE(3, 4);

static void found(struct judge *j, enum append_anomaly a, const char *fmt, ...)
{
    va_list args;

    if (j->found != APPEND_FINE) {
        return;
    }
    j->found = a;
    va_start(args, fmt);
    (void)vsnprintf(j->why, j->why_size, fmt, args);
    va_end(args);
}

/* ---- 1. elements and views ------------------------------------------------------------------------ */

static int by_value(const void *a, const void *b)
{
    const struct element *x = a;
    const struct element *y = b;

    return x->value < y->value ? -1 : (x->value > y->value ? 1 : 0);
}

static int by_key(const void *a, const void *b)
{
    const struct element *x = *(struct element *const *)a;
    const struct element *y = *(struct element *const *)b;

    if (x->key != y->key) {
        return x->key < y->key ? -1 : 1;
    }
    return x->value < y->value ? -1 : (x->value > y->value ? 1 : 0);
}

static int by_length(const void *a, const void *b)
{
    const struct view *x = a;
    const struct view *y = b;

    if (x->key != y->key) {
        return x->key < y->key ? -1 : 1;
    }
    if (x->count != y->count) {
        return x->count < y->count ? -1 : 1;
    }
    return x->txn < y->txn ? -1 : (x->txn > y->txn ? 1 : 0);
}

static struct element *find_element(const struct judge *j, uint64_t value)
{
    const struct element key = {.value = value};

    return j->elements_count == 0
               ? NULL
               : bsearch(&key, j->elements, j->elements_count, sizeof(*j->elements), by_value);
}

static void collect_elements(struct judge *j)
{
    for (size_t t = 0; t < j->txns_count; t++) {
        const struct append_txn *x = &j->txns[t];

        for (uint32_t i = 0; i < x->count; i++) {
            bool last = true;

            if (x->ops[i].kind != APPEND_ADD) {
                continue;
            }
            for (uint32_t k = i + 1; k < x->count; k++) {
                last = last && !(x->ops[k].kind == APPEND_ADD && x->ops[k].key == x->ops[i].key);
            }
            j->elements[j->elements_count++] =
                (struct element){x->ops[i].value, x->ops[i].key, (uint32_t)t, last, UNSEEN};
        }
    }
    if (j->elements_count > 0) {
        qsort(j->elements, j->elements_count, sizeof(*j->elements), by_value);
    }
    for (size_t i = 0; i < j->elements_count; i++) {
        j->by_key[i] = &j->elements[i];
    }
    if (j->elements_count > 0) {
        qsort(j->by_key, j->elements_count, sizeof(struct element *), by_key);
    }
}

/* How many elements at the end of what op `i` read are the transaction's own; they must be there. */
static uint32_t own_tail(struct judge *j, const struct append_txn *x, uint32_t i)
{
    const struct append_op *read = &x->ops[i];
    uint32_t own = 0;

    for (uint32_t k = i; k > 0; k--) {
        const struct append_op *o = &x->ops[k - 1];

        if (o->kind != APPEND_ADD || o->key != read->key) {
            continue;
        }
        own++;
        if (own > read->count || read->list[read->count - own] != o->value) {
            found(j, APPEND_INTERNAL,
                  "T%" PRIu64 " reads list %" PRIu64 " without its own element %" PRIu64, x->id,
                  read->key, o->value);
            return 0;
        }
    }
    return own;
}

static void collect_views(struct judge *j)
{
    for (size_t t = 0; t < j->txns_count; t++) {
        const struct append_txn *x = &j->txns[t];
        const size_t first = j->views_count;

        if (x->outcome == OP_FAILED) {
            continue;
        }
        for (uint32_t i = 0; i < x->count; i++) {
            const struct append_op *o = &x->ops[i];

            if (o->kind != APPEND_READ || !o->done) {
                continue;
            }
            j->views[j->views_count] =
                (struct view){o->key, (uint32_t)t, o->count - own_tail(j, x, i), o->list};
            for (size_t k = first; k < j->views_count && !x->read_committed; k++) {
                if (j->views[k].key == o->key &&
                    j->views[k].count != j->views[j->views_count].count) {
                    found(j, APPEND_INTERNAL,
                          "T%" PRIu64 " reads list %" PRIu64 " with %u and %u elements", x->id,
                          o->key, j->views[k].count, j->views[j->views_count].count);
                }
            }
            j->views_count++;
        }
    }
    if (j->views_count > 0) {
        qsort(j->views, j->views_count, sizeof(*j->views), by_length);
    }
}

/* ---- 2. one order per key ------------------------------------------------------------------------- */

/* Gives the elements of the longest view their positions. */
static void place(struct judge *j, const struct view *v)
{
    for (uint32_t i = 0; i < v->count; i++) {
        struct element *e = find_element(j, v->list[i]);

        if (e == NULL || e->key != v->key) {
            found(j, APPEND_GARBAGE,
                  "T%" PRIu64 " reads %" PRIu64 " in list %" PRIu64 ", which nobody appended",
                  j->txns[v->txn].id, v->list[i], v->key);
            return;
        }
        if (e->position != UNSEEN) {
            found(j, APPEND_DUPLICATE, "T%" PRIu64 " reads %" PRIu64 " twice in list %" PRIu64,
                  j->txns[v->txn].id, v->list[i], v->key);
            return;
        }
        e->position = i;
    }
}

static void order_keys(struct judge *j)
{
    for (size_t i = 0; i < j->views_count && j->found == APPEND_FINE; i++) {
        const struct view *v = &j->views[i];
        const struct view *next = i + 1 < j->views_count ? v + 1 : NULL;

        if (next == NULL || next->key != v->key) {
            place(j, v);
        } else if (v->count > 0 && memcmp(v->list, next->list, v->count * sizeof(*v->list)) != 0) {
            found(j, APPEND_INCOMPATIBLE,
                  "T%" PRIu64 " and T%" PRIu64 " read different orders in list %" PRIu64
                  " (%u and %u elements)",
                  j->txns[v->txn].id, j->txns[next->txn].id, v->key, v->count, next->count);
        }
    }
}

/* ---- 3. who committed ----------------------------------------------------------------------------- */

static void find_committed(struct judge *j)
{
    for (size_t t = 0; t < j->txns_count; t++) {
        j->committed[t] = j->txns[t].outcome == OP_OK;
    }
    for (size_t i = 0; i < j->elements_count; i++) {
        const struct element *e = &j->elements[i];

        if (e->position == UNSEEN) {
            continue;
        }
        if (j->txns[e->txn].outcome == OP_FAILED) {
            found(j, APPEND_G1A,
                  "element %" PRIu64 " of list %" PRIu64 " was read, but T%" PRIu64 " failed",
                  e->value, e->key, j->txns[e->txn].id);
        }
        j->committed[e->txn] = true;
    }
}

/* ---- 4. single reads ------------------------------------------------------------------------------ */

static void check_view(struct judge *j, const struct view *v)
{
    const struct append_txn *reader = &j->txns[v->txn];
    const struct element *last = v->count == 0 ? NULL : find_element(j, v->list[v->count - 1]);

    if (last != NULL && !last->last && last->txn != v->txn) {
        found(j, APPEND_G1B,
              "T%" PRIu64 " sees element %" PRIu64 " of list %" PRIu64 ", but not what T%" PRIu64
              " appended after it",
              reader->id, last->value, v->key, j->txns[last->txn].id);
    }
    for (uint32_t i = 0; i < v->count; i++) {
        const struct element *e = find_element(j, v->list[i]);

        if (j->txns[e->txn].called > reader->returned) {
            found(j, APPEND_FUTURE,
                  "T%" PRIu64 " read element %" PRIu64 " of list %" PRIu64 " before T%" PRIu64
                  " began",
                  reader->id, e->value, v->key, j->txns[e->txn].id);
        }
    }
}

/* ---- 5. time, per key ----------------------------------------------------------------------------- */

/* Something with a place in its list and a time; reads stand behind the elements they saw. */
struct moment {
    uint64_t called;
    uint64_t returned;
    uint64_t rank; /* 2 * position + 1 of an element; 2 * count of a read. */
    uint32_t txn;
    bool read;
};

static int by_called(const void *a, const void *b)
{
    const struct moment *x = *(const struct moment *const *)a;
    const struct moment *y = *(const struct moment *const *)b;

    return x->called < y->called ? -1 : (x->called > y->called ? 1 : 0);
}

static int by_returned(const void *a, const void *b)
{
    const struct moment *x = *(const struct moment *const *)a;
    const struct moment *y = *(const struct moment *const *)b;

    return x->returned < y->returned ? -1 : (x->returned > y->returned ? 1 : 0);
}

static void fail_time(struct judge *j, uint64_t key, const struct moment *before,
                      const struct moment *m)
{
    const enum append_anomaly a =
        !before->read && before->rank == UINT64_MAX ? APPEND_LOST : APPEND_STALE;

    found(j, a,
          "list %" PRIu64 ": T%" PRIu64 " %s and returned at step %" PRIu64 ", then T%" PRIu64
          " was called at step %" PRIu64 " and %s",
          key, j->txns[before->txn].id, before->read ? "read" : "appended", before->returned,
          j->txns[m->txn].id, m->called,
          m->read ? (a == APPEND_LOST ? "does not see it, nor does anybody else" : "saw less")
                  : "stands before it");
}

/* Whatever returned before something was called has a lower or equal rank. */
static void check_moments(struct judge *j, uint64_t key, struct moment *list, size_t count)
{
    const struct moment **calls = calloc(2 * count + 1, sizeof(struct moment *));
    const struct moment **returns = calls + count;
    const struct moment *highest = NULL;
    size_t done = 0;

    INVARIANT(calls != NULL);
    for (size_t i = 0; i < count; i++) {
        calls[i] = &list[i];
        returns[i] = &list[i];
    }
    qsort(calls, count, sizeof(struct moment *), by_called);
    qsort(returns, count, sizeof(struct moment *), by_returned);
    for (size_t i = 0; i < count; i++) {
        for (; done < count && returns[done]->returned < calls[i]->called; done++) {
            if (highest == NULL || returns[done]->rank > highest->rank) {
                highest = returns[done];
            }
        }
        if (highest != NULL && calls[i]->rank < highest->rank && calls[i]->txn != highest->txn) {
            fail_time(j, key, highest, calls[i]);
            break;
        }
    }
    free(calls);
}

static size_t add_element_moments(const struct judge *j, size_t *next, uint64_t key,
                                  struct moment *list)
{
    size_t n = 0;

    while (*next < j->elements_count && j->by_key[*next]->key < key) {
        (*next)++; /* Of lists that nobody read. */
    }
    for (; *next < j->elements_count && j->by_key[*next]->key == key; (*next)++) {
        const struct element *e = j->by_key[*next];
        const struct append_txn *x = &j->txns[e->txn];

        if (j->committed[e->txn]) {
            list[n++] = (struct moment){
                x->called, x->returned,
                e->position == UNSEEN ? UINT64_MAX : 2 * (uint64_t)e->position + 1, e->txn, false};
        }
    }
    return n;
}

static void check_time(struct judge *j)
{
    struct moment *list = calloc(j->views_count + j->elements_count + 1, sizeof(*list));
    size_t next = 0;

    INVARIANT(list != NULL);
    for (size_t i = 0; i < j->views_count && j->found == APPEND_FINE;) {
        const uint64_t key = j->views[i].key;
        size_t n = add_element_moments(j, &next, key, list);

        for (; i < j->views_count && j->views[i].key == key; i++) {
            const struct append_txn *x = &j->txns[j->views[i].txn];

            list[n++] = (struct moment){x->called, x->returned, 2 * (uint64_t)j->views[i].count,
                                        j->views[i].txn, true};
        }
        check_moments(j, key, list, n);
    }
    free(list);
}

/* ---- 6. edges ------------------------------------------------------------------------------------- */

static int by_from(const void *a, const void *b)
{
    const struct edge *x = a;
    const struct edge *y = b;

    if (x->from != y->from) {
        return x->from < y->from ? -1 : 1;
    }
    if (x->to != y->to) {
        return x->to < y->to ? -1 : 1;
    }
    return (int)x->kind - (int)y->kind;
}

static void add_edge(struct judge *j, uint32_t from, uint32_t to, enum edge_kind kind, uint64_t key)
{
    if (from == to) {
        return;
    }
    if (j->edges_count == j->edges_cap) {
        j->edges_cap = j->edges_cap == 0 ? 1024 : 2 * j->edges_cap;
        j->edges = realloc(j->edges, j->edges_cap * sizeof(*j->edges));
        INVARIANT(j->edges != NULL);
    }
    j->edges[j->edges_count++] = (struct edge){from, to, kind, key};
}

/* Of one key: views[i..end), the last of which is its order; elements in by_key[lo..hi). */
static void add_edges_of_key(struct judge *j, size_t i, size_t end, size_t lo, size_t hi)
{
    const struct view *longest = &j->views[end - 1];
    uint32_t *writers = calloc((size_t)longest->count + 1, sizeof(*writers));

    INVARIANT(writers != NULL);
    for (uint32_t p = 0; p < longest->count; p++) {
        writers[p] = find_element(j, longest->list[p])->txn;
        if (p > 0) {
            add_edge(j, writers[p - 1], writers[p], EDGE_WW, longest->key);
        }
    }
    for (; i < end; i++) {
        const struct view *v = &j->views[i];
        const bool binds = !j->txns[v->txn].read_committed;

        if (v->count > 0) {
            add_edge(j, writers[v->count - 1], v->txn, EDGE_WR, v->key);
        }
        if (v->count < longest->count && binds) {
            add_edge(j, v->txn, writers[v->count], EDGE_RW, v->key);
        }
        /* What committed and nobody saw comes after everything that was seen. */
        for (size_t k = lo; k < hi && v->count == longest->count && binds; k++) {
            if (j->by_key[k]->position == UNSEEN && j->committed[j->by_key[k]->txn]) {
                add_edge(j, v->txn, j->by_key[k]->txn, EDGE_RW, v->key);
            }
        }
    }
    free(writers);
}

static void add_edges(struct judge *j)
{
    size_t hi = 0;

    for (size_t i = 0; i < j->views_count;) {
        const uint64_t key = j->views[i].key;
        size_t end = i;
        size_t lo = 0;

        while (end < j->views_count && j->views[end].key == key) {
            end++;
        }
        while (hi < j->elements_count && j->by_key[hi]->key < key) {
            hi++;
        }
        for (lo = hi; hi < j->elements_count && j->by_key[hi]->key == key; hi++) {
        }
        add_edges_of_key(j, i, end, lo, hi);
        i = end;
    }
    if (j->edges_count > 0) {
        qsort(j->edges, j->edges_count, sizeof(*j->edges), by_from);
    }
    j->first_edge = calloc(j->txns_count + 2, sizeof(*j->first_edge));
    INVARIANT(j->first_edge != NULL);
    for (size_t i = 0; i < j->edges_count; i++) {
        j->first_edge[j->edges[i].from + 1]++;
    }
    for (size_t t = 0; t < j->txns_count; t++) {
        j->first_edge[t + 1] += j->first_edge[t];
    }
}

/* ---- cycles --------------------------------------------------------------------------------------- */

/* Tarjan's strongly connected components with a stack of our own. component[v]: the same number for
 * those that reach each other over edges of these kinds. */
struct tarjan {
    uint32_t *component;
    uint32_t *order; /* 0: not visited. */
    uint32_t *low;
    uint32_t *stack;
    uint32_t *calls;
    size_t *next_edge;
    uint32_t stack_count;
    uint32_t visited;
    uint32_t components;
};

static void tarjan_enter(struct tarjan *t, const struct judge *j, uint32_t v, uint32_t *depth)
{
    t->order[v] = ++t->visited;
    t->low[v] = t->visited;
    t->stack[t->stack_count++] = v;
    t->next_edge[v] = j->first_edge[v];
    t->calls[(*depth)++] = v;
}

static void tarjan_close(struct tarjan *t, uint32_t v)
{
    uint32_t u = NO_VERTEX;

    if (t->low[v] != t->order[v]) {
        return;
    }
    t->components++;
    do {
        u = t->stack[--t->stack_count];
        t->component[u] = t->components;
    } while (u != v);
}

static void tarjan_visit(struct tarjan *t, const struct judge *j, uint32_t root, unsigned kinds)
{
    uint32_t depth = 0;

    tarjan_enter(t, j, root, &depth);
    while (depth > 0) {
        const uint32_t v = t->calls[depth - 1];
        const struct edge *e = NULL;

        if (t->next_edge[v] == j->first_edge[v + 1]) {
            tarjan_close(t, v);
            depth--;
            if (depth > 0 && t->low[v] < t->low[t->calls[depth - 1]]) {
                t->low[t->calls[depth - 1]] = t->low[v];
            }
            continue;
        }
        e = &j->edges[t->next_edge[v]++];
        if (((unsigned)e->kind & kinds) == 0) {
            continue;
        }
        if (t->order[e->to] == 0) {
            tarjan_enter(t, j, e->to, &depth);
        } else if (t->component[e->to] == 0 && t->order[e->to] < t->low[v]) {
            t->low[v] = t->order[e->to];
        }
    }
}

/* Returns the components by vertex; the caller frees. */
static uint32_t *components(const struct judge *j, unsigned kinds)
{
    const size_t n = j->txns_count + 1;
    struct tarjan t = {
        .component = calloc(n, sizeof(uint32_t)),
        .order = calloc(n, sizeof(uint32_t)),
        .low = calloc(n, sizeof(uint32_t)),
        .stack = calloc(n, sizeof(uint32_t)),
        .calls = calloc(n, sizeof(uint32_t)),
        .next_edge = calloc(n, sizeof(size_t)),
    };

    INVARIANT(t.component != NULL && t.order != NULL && t.low != NULL);
    INVARIANT(t.stack != NULL && t.calls != NULL && t.next_edge != NULL);
    for (uint32_t v = 0; v < j->txns_count; v++) {
        if (t.order[v] == 0) {
            tarjan_visit(&t, j, v, kinds);
        }
    }
    free(t.order);
    free(t.low);
    free(t.stack);
    free(t.calls);
    free(t.next_edge);
    return t.component;
}

/* The shortest path from `from` to `to` over those kinds, as edges in via[] by vertex. */
static bool shortest(const struct judge *j, uint32_t from, uint32_t to, unsigned kinds,
                     const struct edge **via)
{
    uint32_t *queue = calloc(j->txns_count + 1, sizeof(*queue));
    size_t head = 0;
    size_t tail = 0;
    bool reached = false;

    INVARIANT(queue != NULL);
    memset((void *)via, 0, j->txns_count * sizeof(*via));
    queue[tail++] = from;
    while (head < tail && !reached) {
        const uint32_t v = queue[head++];

        for (size_t i = j->first_edge[v]; i < j->first_edge[v + 1]; i++) {
            const struct edge *e = &j->edges[i];

            if (((unsigned)e->kind & kinds) != 0 && e->to != from && via[e->to] == NULL) {
                via[e->to] = e;
                queue[tail++] = e->to;
                reached = reached || e->to == to;
            }
        }
    }
    free(queue);
    return reached;
}

static const char *edge_name(enum edge_kind kind)
{
    switch (kind) {
    case EDGE_WW:
        return "ww";
    case EDGE_WR:
        return "wr";
    case EDGE_RW:
        break;
    }
    return "rw";
}

/* Writes "T1 -rw 5-> T2 -wr 6-> T1": `closing` and the path from its end back to its start. */
static void tell_cycle(struct judge *j, enum append_anomaly a, const struct edge *closing,
                       const struct edge *const *via)
{
    const struct edge *path[CYCLE_MAX];
    uint32_t count = 0;
    size_t used = 0;

    if (j->found != APPEND_FINE) {
        return;
    }
    j->found = a;
    for (uint32_t v = closing->from; v != closing->to && count < CYCLE_MAX; v = via[v]->from) {
        path[count++] = via[v];
    }
    used = (size_t)snprintf(j->why, j->why_size, "T%" PRIu64 " -%s %" PRIu64 "-> T%" PRIu64,
                            j->txns[closing->from].id, edge_name(closing->kind), closing->key,
                            j->txns[closing->to].id);
    while (count > 0 && used < j->why_size) {
        const struct edge *e = path[--count];

        used += (size_t)snprintf(j->why + used, j->why_size - used, " -%s %" PRIu64 "-> T%" PRIu64,
                                 edge_name(e->kind), e->key, j->txns[e->to].id);
    }
}

/* A cycle over `kinds` that contains an edge of the kind `with`, closed over `back` only. */
static void find_cycle(struct judge *j, enum append_anomaly a, unsigned kinds, enum edge_kind with,
                       unsigned back)
{
    uint32_t *component = components(j, kinds);
    const struct edge **via = calloc(j->txns_count + 1, sizeof(struct edge *));

    INVARIANT(via != NULL);
    for (size_t i = 0; i < j->edges_count && j->found == APPEND_FINE; i++) {
        const struct edge *e = &j->edges[i];

        if (e->kind == with && component[e->from] == component[e->to] &&
            shortest(j, e->to, e->from, back, via)) {
            tell_cycle(j, a, e, via);
        }
    }
    free((void *)via);
    free(component);
}

static void find_cycles(struct judge *j)
{
    const unsigned ww = EDGE_WW;
    const unsigned seen = EDGE_WW | EDGE_WR;
    const unsigned all = EDGE_WW | EDGE_WR | EDGE_RW;

    add_edges(j);
    find_cycle(j, APPEND_G0, ww, EDGE_WW, ww);
    find_cycle(j, APPEND_G1C, seen, EDGE_WR, seen);
    find_cycle(j, APPEND_G_SINGLE, all, EDGE_RW, seen);
    find_cycle(j, APPEND_G2_ITEM, all, EDGE_RW, all);
}

/* Views of transactions that may not have committed are dropped; the rest keeps its order. */
static void keep_committed_views(struct judge *j)
{
    size_t kept = 0;

    for (size_t i = 0; i < j->views_count; i++) {
        if (j->committed[j->views[i].txn]) {
            j->views[kept++] = j->views[i];
        }
    }
    j->views_count = kept;
}

static void judge_init(struct judge *j)
{
    size_t ops = 1;

    for (size_t t = 0; t < j->txns_count; t++) {
        ops += j->txns[t].count;
    }
    j->committed = calloc(j->txns_count + 1, sizeof(*j->committed));
    j->elements = calloc(ops, sizeof(*j->elements));
    j->by_key = calloc(ops, sizeof(struct element *));
    j->views = calloc(ops, sizeof(*j->views));
    INVARIANT(j->committed != NULL && j->elements != NULL);
    INVARIANT(j->by_key != NULL && j->views != NULL);
}

enum append_anomaly append_check(const struct append_txn *txns, size_t count, char *why,
                                 size_t why_size)
{
    struct judge j = {.txns = txns, .txns_count = count, .why = why, .why_size = why_size};

    judge_init(&j);
    collect_elements(&j);
    collect_views(&j);
    order_keys(&j);
    if (j.found == APPEND_FINE) {
        find_committed(&j);
        keep_committed_views(&j);
    }
    for (size_t i = 0; i < j.views_count && j.found == APPEND_FINE; i++) {
        check_view(&j, &j.views[i]);
    }
    if (j.found == APPEND_FINE) {
        find_cycles(&j);
        check_time(&j);
    }
    free(j.committed);
    free(j.elements);
    free((void *)j.by_key);
    free(j.views);
    free(j.edges);
    free(j.first_edge);
    return j.found;
}
