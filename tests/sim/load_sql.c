/*
 * load_sql.c -- the clients' operations as SQL, each client with a session of its own.
 *
 * Statements go through session_simple() as a client's Query would, text and all. Transfers come in
 * three shapes: two statements in one implicit transaction, BEGIN ... COMMIT in one text, and BEGIN ...
 * COMMIT in several texts with time in between. The sink can take back what it was told, so that the
 * server's own retries run as well.
 */
#include "tests/sim/load_sql.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "node/base/invariant.h"
#include "node/runtime/fiber.h"

#define TEXT_MAX 512

/* ---- the sink ------------------------------------------------------------------------------------ */

static struct answer *answer_of(struct row_sink *s)
{
    return CONTAINER_OF(s, struct answer, sink);
}

static struct status on_begin(struct row_sink *s, const struct row_desc *desc)
{
    answer_of(s)->columns = desc->count;
    return OK;
}

static struct status on_rows(struct row_sink *s, const struct row_block *block)
{
    struct answer *a = answer_of(s);

    for (uint32_t i = 0; i < block->rows * a->columns; i++) {
        if (a->count == a->cap) {
            a->cap = a->cap == 0 ? 16 : a->cap * 2;
            a->values = realloc(a->values, a->cap * sizeof(*a->values));
            INVARIANT(a->values != NULL);
        }
        a->values[a->count++] = block->nulls[i] != 0 ? 0 : block->values[i].i64;
    }
    return OK;
}

static void on_done(struct row_sink *s, const char *tag)
{
    (void)snprintf(answer_of(s)->tag, sizeof(answer_of(s)->tag), "%s", tag == NULL ? "" : tag);
}

static void on_failed(struct row_sink *s, const struct sql_error *err)
{
    struct answer *a = answer_of(s);

    memcpy(a->sqlstate, err->sqlstate, sizeof(a->sqlstate));
    (void)snprintf(a->message, sizeof(a->message), "%s", err->message == NULL ? "" : err->message);
}

static void on_notice(struct row_sink *s, const struct sql_error *note)
{
    UNUSED(s);
    UNUSED(note);
}

static void on_parameter(struct row_sink *s, const char *name, const char *value)
{
    UNUSED(s);
    UNUSED(name);
    UNUSED(value);
}

static uint64_t on_mark(struct row_sink *s)
{
    return answer_of(s)->count;
}

static bool on_rewind(struct row_sink *s, uint64_t mark)
{
    answer_of(s)->count = (uint32_t)mark;
    answer_of(s)->tag[0] = '\0';
    return true;
}

static void on_hold(struct row_sink *s, bool held)
{
    UNUSED(s); /* Nothing is looked at before the call returns. */
    UNUSED(held);
}

static const struct row_sink sink_functions = {
    .begin = on_begin,
    .rows = on_rows,
    .done = on_done,
    .failed = on_failed,
    .notice = on_notice,
    .parameter = on_parameter,
    .mark = on_mark,
    .rewind = on_rewind,
    .hold = on_hold,
};

/* ---- statements ---------------------------------------------------------------------------------- */

const struct answer *load_sql__answer(struct client *c)
{
    return &((struct sql_client *)c->session)->answer;
}

/* Runs a text; its answer replaces the one before. False: it failed, see the answer's SQLSTATE. */
bool load_sql__query(struct client *c, const char *text)
{
    struct sql_client *sc = c->session;
    struct answer *a = &sc->answer;

    a->count = 0;
    a->tag[0] = '\0';
    a->sqlstate[0] = '\0';
    a->message[0] = '\0';
    /* A session that is over has said why. */
    status_ignore(session_simple(sc->session, bytes_str(text), &a->sink));
    if (c->node->world->o.logs && a->sqlstate[0] != '\0' && !c->node->cut &&
        strcmp(a->sqlstate, "40001") != 0) {
        printf("%12.6f n%u sql %s %s: %s\n", (double)c->node->world->now_ns / 1e9, c->node->index,
               a->sqlstate, a->message, text);
    }
    return a->sqlstate[0] == '\0';
}

bool load_sql__queryf(struct client *c, const char *fmt, ...)
{
    char text[TEXT_MAX];
    va_list args;

    va_start(args, fmt);
    INVARIANT(vsnprintf(text, sizeof(text), fmt, args) < (int)sizeof(text));
    va_end(args);
    return load_sql__query(c, text);
}

static bool open_session(struct client *c)
{
    struct sql_client *sc = c->session;
    const struct session_options o = {.user = "sim", .database = "postgres", .backend_pid = c->id};

    if (sc != NULL) {
        return true;
    }
    sc = calloc(1, sizeof(*sc));
    INVARIANT(sc != NULL);
    if (!status_ok(session_create(node_sql(c->node->node), &o, &sc->session))) {
        free(sc);
        return false;
    }
    sc->answer.sink = sink_functions;
    c->session = sc;
    /* As patient as the clients without SQL: a queue before a row that all want ends, too. */
    if (load_is_stopped(c->node->world->load)) {
        return true; /* The last look takes its time. */
    }
    return load_sql__query(c, "SET statement_timeout = 6000") &&
           (c->id % 2 == 0 || load_sql__query(c, "SET lock_timeout = 2500"));
}

static bool writes(enum op_kind kind)
{
    return kind == OP_WRITE || kind == OP_CAS || kind == OP_INSERT || kind == OP_ADD ||
           kind == OP_TRANSFER || kind == OP_SCHEMA || kind == OP_APPEND || kind == OP_FORK_WRITE ||
           kind == OP_UNIQUE || kind == OP_SKEW || kind == OP_LOCKED_TRANSFER;
}

/* Of the SQLSTATE that the client got last. 40003 is the only one that leaves a write in doubt; all
 * others say that nothing happened. */
enum op_outcome load_sql__outcome_of(struct client *c)
{
    struct sim_world *w = c->node->world;
    const struct answer *a = load_sql__answer(c);

    if (a->sqlstate[0] == '\0') {
        return OP_OK;
    }
    if (strcmp(a->sqlstate, "40003") == 0) {
        return writes(c->op.kind) ? OP_UNKNOWN : OP_FAILED;
    }
    if (strcmp(a->sqlstate, "40001") == 0 || strcmp(a->sqlstate, "40P01") == 0 ||
        strcmp(a->sqlstate, "55P03") == 0) {
        sim_state(w, SIM_STATE_OP_RETRY);
        return OP_FAILED;
    }
    if (strcmp(a->sqlstate, "08006") == 0 || strcmp(a->sqlstate, "57014") == 0 ||
        strncmp(a->sqlstate, "53", 2) == 0) { /* Insufficient resources: not executed. */
        sim_state(w, SIM_STATE_OP_UNAVAILABLE);
        return OP_FAILED;
    }
    if (strcmp(a->sqlstate, "57P01") == 0) {
        return OP_FAILED;
    }
    if (!c->node->cut) {
        sim_fail(w, "node %u: operation %d on %" PRIu64 " ended with SQLSTATE %s: %s",
                 c->node->index, (int)c->op.kind, c->op.key, a->sqlstate, a->message);
    }
    return OP_FAILED;
}

/* ---- operations ---------------------------------------------------------------------------------- */

static enum op_outcome do_read(struct client *c)
{
    const struct answer *a = load_sql__answer(c);

    if (!load_sql__queryf(c, "SELECT v FROM reg WHERE k = %" PRIu64, c->op.key)) {
        return load_sql__outcome_of(c);
    }
    c->op.found = a->count > 0;
    c->op.result = a->count > 0 ? a->values[0] : 0;
    if (a->count > 1) {
        sim_fail(c->node->world, "register %" PRIu64 " has %u rows", c->op.key, a->count);
    }
    return OP_OK;
}

static enum op_outcome do_write(struct client *c)
{
    (void)load_sql__queryf(c,
                           "INSERT INTO reg VALUES (%" PRIu64 ", %" PRId64
                           ") ON CONFLICT (k) DO UPDATE SET v = excluded.v",
                           c->op.key, c->op.arg);
    return load_sql__outcome_of(c);
}

static enum op_outcome do_cas(struct client *c)
{
    const struct answer *a = load_sql__answer(c);

    if (!load_sql__queryf(c,
                          "UPDATE reg SET v = %" PRId64 " WHERE k = %" PRIu64 " AND v = %" PRId64,
                          c->op.arg, c->op.key, c->op.expect)) {
        return load_sql__outcome_of(c);
    }
    return strcmp(a->tag, "UPDATE 1") == 0 ? OP_OK : OP_REFUSED;
}

static enum op_outcome do_insert(struct client *c)
{
    const uint64_t padding = rng_below(&c->rng, c->node->world->params.padding_max);

    if (!load_sql__queryf(c, "INSERT INTO elements VALUES (%" PRIu64 ", repeat('x', %" PRIu64 "))",
                          c->op.key, padding) &&
        !c->node->cut && strcmp(load_sql__answer(c)->sqlstate, "23505") == 0) {
        sim_fail(c->node->world,
                 "set: element %" PRIu64 " is refused as existing at its first insert", c->op.key);
    }
    return load_sql__outcome_of(c);
}

enum shape {
    SHAPE_IMPLICIT, /* Two statements, one text. */
    SHAPE_BLOCK,    /* BEGIN ... COMMIT in one text. */
    SHAPE_TALK,     /* BEGIN ... COMMIT in four texts, with time in between. */
    SHAPE_COUNT
};

static bool transfer(struct client *c, enum shape shape, const char *take, const char *give)
{
    char text[2 * TEXT_MAX + 32];

    switch (shape) {
    case SHAPE_IMPLICIT:
        (void)snprintf(text, sizeof(text), "%s; %s", take, give);
        return load_sql__query(c, text);
    case SHAPE_BLOCK:
        (void)snprintf(text, sizeof(text), "BEGIN; %s; %s; COMMIT", take, give);
        return load_sql__query(c, text);
    case SHAPE_TALK:
        if (!load_sql__query(c, "BEGIN") || !load_sql__query(c, take)) {
            return false;
        }
        status_ignore(fiber_sleep(1 + rng_below(&c->rng, 20 * MS))); /* A client that thinks. */
        return load_sql__query(c, give) && load_sql__query(c, "COMMIT");
    case SHAPE_COUNT:
        break;
    }
    return false;
}

static enum op_outcome do_transfer(struct client *c)
{
    char take[TEXT_MAX];
    char give[TEXT_MAX];
    enum op_outcome outcome = OP_OK;

    (void)snprintf(take, sizeof(take),
                   "UPDATE accounts SET balance = balance - %" PRId64 " WHERE id = %" PRIu64,
                   c->op.arg, c->op.key);
    (void)snprintf(give, sizeof(give),
                   "UPDATE accounts SET balance = balance + %" PRId64 " WHERE id = %" PRId64,
                   c->op.arg, c->op.expect);
    if (!transfer(c, (enum shape)rng_below(&c->rng, SHAPE_COUNT), take, give)) {
        outcome = load_sql__outcome_of(c);
        (void)load_sql__query(c, "ROLLBACK"); /* What was said before counts. */
    }
    return outcome;
}

static enum op_outcome do_set_read(struct client *c)
{
    const struct answer *a = load_sql__answer(c);

    if (!load_sql__query(c, "SELECT id FROM elements")) {
        return load_sql__outcome_of(c);
    }
    c->op.elements = calloc((size_t)a->count + 1, sizeof(*c->op.elements));
    INVARIANT(c->op.elements != NULL);
    for (uint32_t i = 0; i < a->count; i++) {
        c->op.elements[i] = (uint64_t)a->values[i];
    }
    c->op.elements_count = a->count;
    return OP_OK;
}

static enum op_outcome add_up(struct client *c, const char *text)
{
    const struct answer *a = load_sql__answer(c);

    if (!load_sql__query(c, text)) {
        return load_sql__outcome_of(c);
    }
    for (uint32_t i = 1; i < a->count; i += 2) {
        c->op.result += a->values[i];
    }
    return OP_OK;
}

static enum op_outcome do_count(struct client *c)
{
    const struct answer *a = load_sql__answer(c);

    if (!load_sql__query(c, "SELECT n FROM counter WHERE id = 0")) {
        return load_sql__outcome_of(c);
    }
    c->op.found = a->count == 1;
    c->op.result = a->count == 1 ? a->values[0] : -1;
    return OP_OK;
}

/* ---- tables that come and go --------------------------------------------------------------------- */

bool load_sql__is_state(struct client *c, const char *sqlstate)
{
    return strcmp(load_sql__answer(c)->sqlstate, sqlstate) == 0;
}

static enum op_outcome create_table(struct client *c, struct load_table *t)
{
    enum op_outcome outcome = OP_OK;

    t->state = LOAD_TABLE_CHANGING;
    t->id = (uint64_t)c->op.arg;
    (void)load_sql__queryf(c, "CREATE TABLE t%" PRIu64 " (id int8 PRIMARY KEY, v int8)", t->id);
    outcome = load_sql__outcome_of(c);
    if (outcome == OP_OK && !c->node->cut) {
        t->state = LOAD_TABLE_THERE;
    } else if (outcome == OP_FAILED && !c->node->cut) {
        t->state = LOAD_TABLE_FREE;
    } /* Else nobody knows: this slot is lost. */
    return outcome;
}

static enum op_outcome drop_table(struct client *c, struct load_table *t)
{
    enum op_outcome outcome = OP_OK;

    t->state = LOAD_TABLE_CHANGING;
    (void)load_sql__queryf(c, "DROP TABLE t%" PRIu64, t->id);
    outcome = load_sql__outcome_of(c);
    if (outcome == OP_OK && !c->node->cut) {
        t->state = LOAD_TABLE_GONE;
    } else if (outcome == OP_FAILED && !c->node->cut) {
        t->state = LOAD_TABLE_THERE;
    }
    return outcome;
}

/* What was made is there for everybody, at once, until somebody starts to drop it. */
static enum op_outcome use_table(struct client *c, struct load_table *t)
{
    const uint64_t id = t->id;
    bool ok =
        load_sql__queryf(c, "INSERT INTO t%" PRIu64 " VALUES (%" PRId64 ", 7)", id, c->op.arg);

    if (ok) {
        ok = load_sql__queryf(c, "SELECT v FROM t%" PRIu64 " WHERE id = %" PRId64, id, c->op.arg);
        if (ok && !c->node->cut && load_sql__answer(c)->count != 1) {
            sim_fail(c->node->world,
                     "table t%" PRIu64 ": a row is not there right after its insert", id);
        }
    }
    if (!ok && load_sql__is_state(c, "42P01") && (t->id != id || t->state != LOAD_TABLE_THERE)) {
        return OP_FAILED; /* It went meanwhile. */
    }
    return load_sql__outcome_of(c);
}

static enum op_outcome miss_table(struct client *c, struct load_table *t)
{
    const uint64_t id = t->id;

    if (load_sql__queryf(c, "SELECT v FROM t%" PRIu64 " WHERE id = 1", id) && !c->node->cut) {
        sim_fail(c->node->world, "table t%" PRIu64 " answers node %u after it was dropped", id,
                 c->node->index);
    }
    if (load_sql__is_state(c, "42P01")) {
        if (t->id == id && t->state == LOAD_TABLE_GONE && rng_permille(&c->rng, 300)) {
            t->state = LOAD_TABLE_FREE;
        }
        return OP_OK;
    }
    return load_sql__outcome_of(c);
}

static enum op_outcome do_schema(struct client *c)
{
    struct load_table *t = load_table(c->node->world->load, (uint32_t)c->op.key);

    switch (t->state) {
    case LOAD_TABLE_FREE:
        return create_table(c, t);
    case LOAD_TABLE_THERE:
        return rng_permille(&c->rng, 100) ? drop_table(c, t) : use_table(c, t);
    case LOAD_TABLE_GONE:
        return miss_table(c, t);
    case LOAD_TABLE_CHANGING:
        break;
    }
    return OP_FAILED;
}

static enum op_outcome sql_run(struct client *c)
{
    if (!open_session(c)) {
        return OP_FAILED;
    }
    switch (c->op.kind) {
    case OP_READ:
        return do_read(c);
    case OP_WRITE:
        return do_write(c);
    case OP_CAS:
        return do_cas(c);
    case OP_INSERT:
        return do_insert(c);
    case OP_SET_READ:
        return do_set_read(c);
    case OP_ADD:
        (void)load_sql__queryf(c, "UPDATE counter SET n = n + %" PRId64 " WHERE id = 0", c->op.arg);
        return load_sql__outcome_of(c);
    case OP_COUNT:
        return do_count(c);
    case OP_TRANSFER:
        return do_transfer(c);
    case OP_BANK:
        return add_up(c, "SELECT id, balance FROM accounts");
    case OP_SCHEMA:
        return do_schema(c);
    case OP_APPEND:
        return load_sql__append(c);
    case OP_FORK_WRITE:
        return load_sql__fork_write(c);
    case OP_FORK_READ:
        return load_sql__fork_read(c);
    case OP_UNIQUE:
        return load_sql__unique(c);
    case OP_UNIQUE_READ:
        return load_sql__unique_read(c);
    case OP_SKEW:
        return load_sql__skew(c);
    case OP_LOCKED_TRANSFER:
        return load_sql__locked_transfer(c);
    case OP_LOCKED_BANK:
        return add_up(c, "SELECT id, balance FROM locked");
    case OP_LOCKS:
        return load_sql__locks(c);
    case OP_PAST: /* Of no api. */
    case OP_KIND_COUNT:
        break;
    }
    INVARIANT(false);
    return OP_FAILED;
}

static enum op_outcome sql_setup(struct client *c)
{
    bool ok =
        open_session(c) &&
        load_sql__query(c,
                        "CREATE TABLE IF NOT EXISTS reg (k int8 PRIMARY KEY, v int8 NOT NULL)") &&
        load_sql__query(c, "CREATE TABLE IF NOT EXISTS elements (id int8 PRIMARY KEY, pad text)") &&
        load_sql__query(c, "CREATE TABLE IF NOT EXISTS counter (id int8 PRIMARY KEY, n int8)") &&
        load_sql__query(
            c, "CREATE TABLE IF NOT EXISTS accounts (id int8 PRIMARY KEY, balance int8)") &&
        load_sql__query(c, "INSERT INTO counter VALUES (0, 0) ON CONFLICT DO NOTHING");

    for (uint32_t i = 0; ok && i < LOAD_ACCOUNTS; i++) {
        ok = load_sql__queryf(c, "INSERT INTO accounts VALUES (%u, %d) ON CONFLICT DO NOTHING", i,
                              LOAD_ACCOUNT_START);
    }
    ok = ok && load_sql__setup_txn(c);
    return ok ? OP_OK : OP_FAILED;
}

static void sql_close(struct client *c)
{
    struct sql_client *sc = c->session;

    c->session = NULL;
    if (sc != NULL) {
        session_destroy(sc->session);
        free(sc->answer.values);
        free(sc);
    }
}

const struct load_api load_sql = {
    .name = "sql", .setup = sql_setup, .run = sql_run, .close = sql_close};
