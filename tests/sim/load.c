/*
 * load.c -- what clients do, and when.
 *
 * Values of registers and elements of the set are never used twice, so that every answer tells which
 * write it comes from. Registers are used for some seconds and then left alone: a history per key that
 * never ends could not be checked. A few operations go back to old ones.
 */
#include "tests/sim/load.h"

#include <stdlib.h>

#include "node/base/invariant.h"
#include "node/catalog/catalog.h"
#include "node/runtime/fiber.h"
#include "tests/sim/append.h"
#include "tests/sim/check.h"
#include "tests/sim/process.h"

#define WINDOW_NS       (12 * SEC)
#define LISTS_NS        (6 * SEC)
#define FORKS_NS        (SEC / 2)  /* A group of items is written and read for so long. */
#define PAST_STEP_NS    (SEC / 20) /* Times in the past are multiples. */
#define CLAIMS_NS       (SEC / 2)  /* A unique key is fought for for so long. */
#define SETUP_PAUSE_NS  (200 * MS)
#define PATIENCE_NS     (8 * SEC)
#define VERIFY_TRIES    40u
#define VERIFY_PAUSE_NS (250 * MS)

struct load {
    struct sim_world *w;
    const struct load_api *api;
    struct rng rng;
    bool setup_running;
    bool set_up;
    bool stopped;
    uint64_t healed_ns; /* 0: not yet. */
    uint32_t clients;
    uint32_t clients_of[SIM_NODES_MAX];
    uint32_t transactions_of[SIM_NODES_MAX];
    uint32_t next_client;
    uint64_t next_value;
    uint64_t next_element;
    uint64_t registers_max; /* Registers above were never used; the same for lists and keys. */
    uint64_t lists_max;
    uint64_t claims_max;
    uint64_t fork_group;
    uint32_t fork_written; /* Items of that group that somebody writes or wrote. */
    struct load_table tables[LOAD_TABLES];
};

struct load_table *load_table(struct load *l, uint32_t i)
{
    return &l->tables[i];
}

struct load *load_create(struct sim_world *w)
{
    struct load *l = calloc(1, sizeof(*l));

    INVARIANT(l != NULL);
    l->w = w;
    rng_seed(&l->rng, w->o.seed * 7 + 3);
    l->api = rng_permille(&l->rng, 800) ? &load_sql : &load_kv;
    return l;
}

void load_destroy(struct load *l)
{
    free(l);
}

bool load_is_set_up(const struct load *l)
{
    return l->set_up;
}

void load_probe(struct load *l)
{
    l->healed_ns = l->w->now_ns;
}

bool load_is_stopped(const struct load *l)
{
    return l->stopped;
}

void load_stop(struct load *l)
{
    l->stopped = true;
}

uint32_t load_clients_of(const struct load *l, uint32_t node)
{
    return l->clients_of[node];
}

uint32_t load_clients(const struct load *l)
{
    return l->clients;
}

uint32_t load_transactions_of(const struct load *l, uint32_t node)
{
    return l->transactions_of[node];
}

bool load_uses_sql(const struct load *l)
{
    return l->api != &load_kv;
}

/* ---- one operation ------------------------------------------------------------------------------ */

static uint64_t pick_register(struct client *c)
{
    struct load *l = c->node->world->load;
    const uint64_t window = l->w->now_ns / WINDOW_NS;
    uint64_t key = window * l->w->params.keys + rng_below(&c->rng, l->w->params.keys);

    if (rng_permille(&c->rng, 50) && window > 0) {
        key = rng_below(&c->rng, key + 1);
    }
    l->registers_max = key >= l->registers_max ? key + 1 : l->registers_max;
    return key;
}

/* The value that was written last to a register, as far as clients know: a good guess for a CAS. */
static int64_t guess_value(const struct history *h, uint64_t key)
{
    for (size_t i = h->count; i > 0 && h->count - i < 400; i--) {
        const struct op *o = &h->ops[i - 1];

        if (o->key == key && (o->kind == OP_WRITE || (o->kind == OP_CAS && o->outcome == OP_OK))) {
            return o->arg;
        }
    }
    return 0;
}

/* What its node has still to prove after healing; OP_KIND_COUNT: nothing. */
static enum op_kind still_to_prove(const struct client *c)
{
    const struct load *l = c->node->world->load;

    if (l->healed_ns == 0) {
        return OP_KIND_COUNT;
    }
    if (c->node->last_write_ok_ns <= l->healed_ns) {
        return OP_WRITE;
    }
    return c->node->last_read_ok_ns <= l->healed_ns ? OP_READ : OP_KIND_COUNT;
}

void load_push(uint64_t **list, uint32_t *count, uint64_t element)
{
    if ((*count & (*count - 1)) == 0) { /* A power of two, or none: full. */
        const size_t cap = *count == 0 ? 1 : (size_t)*count * 2;

        *list = realloc(*list, cap * sizeof(**list));
        INVARIANT(*list != NULL);
    }
    (*list)[(*count)++] = element;
}

/* A few appends and reads; a fifth only reads, all lists of the time. */
static void choose_append(struct client *c, struct op *o)
{
    struct load *l = c->node->world->load;
    const uint32_t lists = l->w->params.lists;
    const uint64_t first = l->w->now_ns / LISTS_NS * lists;
    const bool look = rng_permille(&c->rng, 200);

    o->tx_count = look ? lists : (uint32_t)rng_between(&c->rng, 1, LOAD_APPEND_OPS);
    o->tx = calloc(o->tx_count, sizeof(*o->tx));
    INVARIANT(o->tx != NULL);
    for (uint32_t i = 0; i < o->tx_count; i++) {
        struct append_op *x = &o->tx[i];

        x->key = first + (look ? i : rng_below(&c->rng, lists));
        x->kind = !look && rng_permille(&c->rng, 500) ? APPEND_ADD : APPEND_READ;
        x->value = x->kind == APPEND_ADD ? ++l->next_value : 0;
        l->lists_max = x->key >= l->lists_max ? x->key + 1 : l->lists_max;
    }
}

static void choose_fork(struct client *c, struct op *o)
{
    struct load *l = c->node->world->load;
    const uint64_t group = l->w->now_ns / FORKS_NS;
    const uint32_t item = (uint32_t)rng_below(&c->rng, FORK_ITEMS);

    if (group != l->fork_group) {
        l->fork_group = group;
        l->fork_written = 0;
    }
    o->kind = OP_FORK_READ;
    o->key = group;
    if ((l->fork_written >> item & 1) == 0) {
        l->fork_written |= 1u << item;
        o->kind = OP_FORK_WRITE;
        o->key = group * FORK_ITEMS + item;
    }
}

static void choose_unique(struct client *c, struct op *o)
{
    struct load *l = c->node->world->load;

    o->key = l->w->now_ns / CLAIMS_NS;
    o->arg = (int64_t)++l->next_value;
    l->claims_max = o->key >= l->claims_max ? o->key + 1 : l->claims_max;
    if (rng_permille(&c->rng, 300)) {
        o->kind = OP_UNIQUE_READ;
        o->key -= rng_below(&c->rng, 3);
    }
}

static void choose_transfer(struct client *c, struct op *o)
{
    o->key = rng_below(&c->rng, LOAD_ACCOUNTS);
    o->expect = (int64_t)((o->key + 1 + rng_below(&c->rng, LOAD_ACCOUNTS - 1)) % LOAD_ACCOUNTS);
    o->arg = (int64_t)rng_between(&c->rng, 1, 50);
}

/* Tables are small numbers in SQL, too: the first ones are those of the workloads. */
static void choose_past(struct client *c, struct op *o)
{
    const struct load *l = c->node->world->load;
    /* The nearest are not closed everywhere yet. */
    const uint64_t lag_ns = sim_log_uniform(&c->rng, 10 * MS, 10 * SEC);
    const uint64_t now_ns = SIM_EPOCH_NS + l->w->now_ns;

    o->key = load_uses_sql(l) ? CATALOG_FIRST_TABLE_ID : LOAD_FIRST_TABLE;
    o->key += rng_below(&c->rng, LOAD_PAST_TABLES);
    o->arg = (int64_t)((now_ns - lag_ns) / PAST_STEP_NS * PAST_STEP_NS);
}

static void choose_schema(struct client *c, struct op *o)
{
    o->key = rng_below(&c->rng, LOAD_TABLES);
    o->arg = (int64_t)++c->node->world->load->next_value;
}

static void choose_register(struct client *c, struct op *o)
{
    struct load *l = c->node->world->load;

    o->key = pick_register(c);
    o->arg = o->kind == OP_READ ? 0 : (int64_t)++l->next_value;
    o->expect = o->kind == OP_CAS ? guess_value(l->w->history, o->key) : 0;
}

/* Fills in what an operation of that kind is about; may turn it into the one that goes with it. */
static void choose_details(struct client *c, struct op *o)
{
    switch (o->kind) {
    case OP_READ:
    case OP_WRITE:
    case OP_CAS:
        choose_register(c, o);
        break;
    case OP_INSERT:
        o->key = ++c->node->world->load->next_element;
        break;
    case OP_ADD:
        o->arg = 1;
        break;
    case OP_TRANSFER:
    case OP_LOCKED_TRANSFER:
        choose_transfer(c, o);
        break;
    case OP_LOCKS:
        o->key = rng_below(&c->rng, LOAD_LOCKS_MAX);
        break;
    case OP_SCHEMA:
        choose_schema(c, o);
        break;
    case OP_APPEND:
        choose_append(c, o);
        break;
    case OP_FORK_WRITE:
    case OP_FORK_READ:
        choose_fork(c, o);
        break;
    case OP_UNIQUE:
    case OP_UNIQUE_READ:
        choose_unique(c, o);
        break;
    case OP_SKEW:
        o->key = rng_below(&c->rng, LOAD_PAIRS);
        o->arg = (int64_t)rng_below(&c->rng, 2);
        break;
    case OP_PAST:
        choose_past(c, o);
        break;
    case OP_SET_READ:
    case OP_COUNT:
    case OP_BANK:
    case OP_LOCKED_BANK:
    case OP_KIND_COUNT:
        break;
    }
}

static enum op_kind choose_kind(struct client *c)
{
    /* In thousandths. */
    static const struct {
        enum op_kind kind;
        uint32_t weight;
    } mix[] = {
        {OP_PAST, 40},        {OP_READ, 90},     {OP_WRITE, 100},
        {OP_CAS, 70},         {OP_INSERT, 50},   {OP_SET_READ, 10},
        {OP_ADD, 30},         {OP_COUNT, 20},    {OP_APPEND, 230},
        {OP_FORK_READ, 80},   {OP_UNIQUE, 60},   {OP_SKEW, 50},
        {OP_BANK, 30},        {OP_TRANSFER, 60}, {OP_LOCKED_TRANSFER, 40},
        {OP_LOCKED_BANK, 15}, {OP_LOCKS, 25},
    };
    uint64_t dice = rng_below(&c->rng, 1000);

    if (load_uses_sql(c->node->world->load) && rng_permille(&c->rng, 25)) {
        return OP_SCHEMA;
    }
    for (size_t i = 0; i < ARRAY_COUNT(mix); i++) {
        if (dice < mix[i].weight) {
            return mix[i].kind;
        }
        dice -= mix[i].weight;
    }
    INVARIANT(false); /* They add up to 1000. */
    return OP_READ;
}

static void choose_op(struct client *c)
{
    struct op *o = &c->op;

    *o = (struct op){.node = c->node->index, .client = c->id};
    o->kind = still_to_prove(c);
    if (o->kind == OP_KIND_COUNT) {
        o->kind = choose_kind(c);
    }
    choose_details(c, o);
}

static void note_states(struct sim_world *w, const struct op *o, enum op_outcome outcome)
{
    const int64_t all = (1 << FORK_ITEMS) - 1;

    if (outcome == OP_UNKNOWN) {
        sim_state(w, SIM_STATE_OP_AMBIGUOUS);
    } else if (outcome == OP_REFUSED) {
        sim_state(w, o->kind == OP_UNIQUE ? SIM_STATE_KEY_REFUSED : SIM_STATE_CAS_LOST);
    } else if (outcome == OP_OK) {
        w->states[SIM_STATE_LISTS_COMMITTED] += o->kind == OP_APPEND && o->tx_count > 1 ? 1 : 0;
        w->states[SIM_STATE_KEY_CLAIMED] += o->kind == OP_UNIQUE ? 1 : 0;
        w->states[SIM_STATE_PAIR_SWITCHED] += o->kind == OP_SKEW ? 1 : 0;
        w->states[SIM_STATE_FORK_READ] +=
            o->kind == OP_FORK_READ && o->result != 0 && o->result != all ? 1 : 0;
    }
}

/* Whoever waits for locks is through within seconds while nothing is broken. */
static void check_patience(struct sim_world *w, const struct op *o)
{
    const uint64_t took_ns = w->now_ns - o->called_ns;

    if (o->kind != OP_LOCKS || took_ns < PATIENCE_NS) {
        return;
    }
    if (w->faults_from_ns == 0 || (w->recovered_ns != 0 && o->called_ns > w->recovered_ns)) {
        sim_fail(w, "locks: node %u took %.3f s for a few locks at %.6f s", o->node,
                 (double)took_ns / 1e9, (double)o->called_ns / 1e9);
    }
}

static void note_progress(struct client *c, enum op_outcome outcome)
{
    struct sim_node *n = c->node;
    const struct sim_node *leader = sim_leaseholder(n->world, (range_id){RANGE_FIRST_ID});

    note_states(n->world, &c->op, outcome);
    if (outcome != OP_OK) {
        return;
    }
    if (c->op.kind == OP_WRITE || c->op.kind == OP_INSERT) {
        n->last_write_ok_ns = n->world->now_ns;
    } else if (c->op.kind == OP_READ) {
        n->last_read_ok_ns = n->world->now_ns;
        if (leader != NULL && leader->region != n->region) {
            sim_state(n->world, SIM_STATE_READ_ACROSS);
        }
    }
}

/* The process died; whatever it was told, it told nobody. */
static void forget_answers(struct op *o)
{
    free(o->elements);
    o->elements = NULL;
    o->elements_count = 0;
    for (uint32_t i = 0; i < o->tx_count; i++) {
        o->tx[i].done = false;
    }
}

static bool is_transaction(const struct op *o)
{
    return (o->kind == OP_APPEND && o->tx_count > 1) || o->kind == OP_TRANSFER ||
           o->kind == OP_LOCKED_TRANSFER || o->kind == OP_UNIQUE || o->kind == OP_SKEW;
}

/* o->tx belongs to the history from here on. */
static enum op_outcome run_op(struct client *c)
{
    struct sim_world *w = c->node->world;
    const size_t i = history_call(w, &c->op);
    uint32_t *transactions = &w->load->transactions_of[c->node->index];
    const uint32_t weight = is_transaction(&c->op) ? 1 : 0;
    enum op_outcome outcome = OP_UNKNOWN;
    struct op *o = NULL;

    *transactions += weight;
    outcome = c->op.kind == OP_PAST ? load_past(c) : w->load->api->run(c);
    *transactions -= weight;
    o = &w->history->ops[i];
    if (c->node->cut) {
        outcome = OP_UNKNOWN;
        forget_answers(&c->op);
    }
    o->result = c->op.result;
    o->expect = c->op.expect;
    o->found = c->op.found;
    o->result_known = c->op.result_known;
    o->elements = c->op.elements;
    o->elements_count = c->op.elements_count;
    c->op.elements = NULL;
    history_return(w, i, outcome);
    if (!c->node->cut) {
        check_patience(w, &w->history->ops[i]);
    }
    note_progress(c, outcome);
    arena_reset(&c->arena);
    return outcome;
}

/* ---- clients ------------------------------------------------------------------------------------ */

static struct client *client_new(struct sim_node *n)
{
    struct load *l = n->world->load;
    struct client *c = calloc(1, sizeof(*c));

    INVARIANT(c != NULL);
    c->node = n;
    c->id = ++l->next_client;
    rng_seed(&c->rng, rng_next(&l->rng));
    arena_init(&c->arena, 0);
    l->clients++;
    l->clients_of[n->index]++;
    return c;
}

static void client_free(struct client *c)
{
    struct load *l = c->node->world->load;

    if (l->api->close != NULL) {
        l->api->close(c);
    }
    l->clients--;
    l->clients_of[c->node->index]--;
    free(c->op.elements);
    arena_deinit(&c->arena);
    free(c);
}

static void client_fiber(void *arg)
{
    struct client *c = arg;
    const struct load *l = c->node->world->load;
    const uint64_t think_ns = c->node->world->params.think_ns;

    while (!l->stopped && status_ok(fiber_sleep(MS + sim_exponential(&c->rng, think_ns)))) {
        if (l->stopped || c->node->cut || c->node->stopping) {
            break;
        }
        choose_op(c);
        (void)run_op(c);
    }
    client_free(c);
}

static void start_clients(struct sim_node *n)
{
    for (uint32_t i = 0; i < n->world->params.clients_per_node; i++) {
        struct client *c = client_new(n);

        if (!process_spawn(n, "sim.client", client_fiber, c)) {
            client_free(c);
        }
    }
}

static void setup_fiber(void *arg)
{
    struct client *c = arg;
    struct sim_world *w = c->node->world;

    while (!w->load->set_up) {
        const enum op_outcome outcome = w->load->api->setup(c);

        arena_reset(&c->arena);
        w->load->set_up = outcome == OP_OK && !c->node->cut;
        if (!w->load->set_up && !status_ok(fiber_sleep(SETUP_PAUSE_NS))) {
            break;
        }
    }
    w->load->setup_running = false;
    client_free(c);
    for (uint32_t i = 0; w->load->set_up && i < w->nodes_count; i++) {
        start_clients(&w->nodes[i]); /* Those that are not ready yet get theirs when they are. */
    }
}

void load_node_ready(struct sim_node *n)
{
    struct load *l = n->world->load;
    struct client *c = NULL;

    if (l->stopped) {
        return;
    }
    if (l->set_up) {
        start_clients(n);
        return;
    }
    if (!l->setup_running) {
        c = client_new(n);
        l->setup_running = process_spawn(n, "sim.setup", setup_fiber, c);
        if (!l->setup_running) {
            client_free(c);
        }
    }
}

/* ---- the last look ------------------------------------------------------------------------------- */

struct verify {
    struct client *client;
    bool *done;
    bool *ok;
};

/* Again until it succeeds: the cluster is healthy now. */
static bool insist(struct client *c, enum op_kind kind, uint64_t key)
{
    for (uint32_t i = 0; i < VERIFY_TRIES; i++) {
        c->op = (struct op){.kind = kind, .node = c->node->index, .client = c->id, .key = key};
        if (run_op(c) == OP_OK) {
            return true;
        }
        if (!status_ok(fiber_sleep(VERIFY_PAUSE_NS))) {
            break;
        }
    }
    return false;
}

/* Some lists in one transaction: of a commit that was done by halves one would show it. */
static bool look_at_lists(struct client *c)
{
    const uint64_t lists = c->node->world->load->lists_max;

    for (uint64_t first = 0; first < lists; first += LOAD_LOOK_LISTS / 2) {
        bool ok = false;

        for (uint32_t i = 0; i < VERIFY_TRIES && !ok; i++) {
            struct op *o = &c->op;

            *o = (struct op){.kind = OP_APPEND, .node = c->node->index, .client = c->id};
            o->tx_count =
                (uint32_t)(lists - first < LOAD_LOOK_LISTS ? lists - first : LOAD_LOOK_LISTS);
            o->tx = calloc(o->tx_count, sizeof(*o->tx));
            INVARIANT(o->tx != NULL);
            for (uint32_t k = 0; k < o->tx_count; k++) {
                o->tx[k] = (struct append_op){.kind = APPEND_READ, .key = first + k};
            }
            ok = run_op(c) == OP_OK;
            if (!ok && !status_ok(fiber_sleep(VERIFY_PAUSE_NS))) {
                return false;
            }
        }
        if (!ok) {
            return false;
        }
    }
    return true;
}

static void verify_fiber(void *arg)
{
    struct verify *v = arg;
    struct client *c = v->client;
    const uint64_t registers = c->node->world->load->registers_max;
    const uint64_t claims = c->node->world->load->claims_max;
    const uint64_t step = c->node->world->nodes_count;
    bool ok = insist(c, OP_SET_READ, 0) && insist(c, OP_COUNT, 0) && insist(c, OP_BANK, 0) &&
              insist(c, OP_LOCKED_BANK, 0);

    for (uint64_t key = c->node->index; ok && key < registers; key += step) {
        ok = insist(c, OP_READ, key); /* There are many: each node takes its share. */
    }
    for (uint64_t key = c->node->index; ok && key < claims; key += step) {
        ok = insist(c, OP_UNIQUE_READ, key);
    }
    ok = ok && look_at_lists(c);
    client_free(c);
    *v->ok = ok;
    *v->done = true;
    free(v);
}

bool load_verify(struct sim_node *n, bool *done, bool *ok)
{
    struct verify *v = calloc(1, sizeof(*v));

    INVARIANT(v != NULL);
    *done = false;
    *ok = false;
    *v = (struct verify){client_new(n), done, ok};
    if (!process_spawn(n, "sim.verify", verify_fiber, v)) {
        client_free(v->client);
        free(v);
        return false;
    }
    return true;
}
