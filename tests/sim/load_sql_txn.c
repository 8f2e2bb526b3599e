/*
 * load_sql_txn.c -- SQL transactions made to collide: lists, forks, unique keys, switches, locks.
 *
 * A list is a set of rows (list, position, element); an append finds the last position and inserts behind
 * it, so that what a transaction depends on is a span in which others insert, and a list may lie in
 * several ranges.
 */
#include <inttypes.h>

#include "node/base/invariant.h"
#include "node/runtime/fiber.h"
#include "tests/sim/append.h"
#include "tests/sim/load_sql.h"

#define THINK_NS (15 * MS)

MAYYIELD static void think(struct client *c)
{
    if (rng_permille(&c->rng, 300)) {
        status_ignore(fiber_sleep(1 + rng_below(&c->rng, THINK_NS)));
    }
}

/* What follows a failed statement of a block: what was said first counts. */
MAYYIELD static enum op_outcome give_up(struct client *c)
{
    const enum op_outcome outcome = load_sql__outcome_of(c);

    (void)load_sql__query(c, "ROLLBACK");
    return outcome;
}

/* ---- lists --------------------------------------------------------------------------------------- */

MAYYIELD static bool list_statement(struct client *c, struct append_op *x)
{
    const struct answer *a = NULL;

    if (x->kind == APPEND_ADD) {
        return load_sql__queryf(c,
                                "INSERT INTO entries SELECT %" PRIu64
                                ", coalesce(max(seq), 0) + 1, %" PRIu64
                                " FROM entries WHERE list = %" PRIu64,
                                x->key, x->value, x->key);
    }
    if (!load_sql__queryf(c, "SELECT el FROM entries WHERE list = %" PRIu64 " ORDER BY seq",
                          x->key)) {
        return false;
    }
    a = load_sql__answer(c);
    for (uint32_t i = 0; i < a->count; i++) {
        load_push(&x->list, &x->count, (uint64_t)a->values[i]);
    }
    x->done = true;
    return true;
}

/* A position that was taken meanwhile is a conflict like any other. */
MAYYIELD static enum op_outcome list_failed(struct client *c)
{
    if (load_sql__is_state(c, "23505")) {
        (void)load_sql__query(c, "ROLLBACK");
        return OP_FAILED;
    }
    return give_up(c);
}

enum op_outcome load_sql__append(struct client *c)
{
    struct append_op *ops = c->op.tx;
    const bool block = c->op.tx_count > 1 || rng_permille(&c->rng, 300);

    if (block && !load_sql__query(c, "BEGIN")) {
        return give_up(c);
    }
    for (uint32_t i = 0; i < c->op.tx_count; i++) {
        if (!list_statement(c, &ops[i])) {
            return list_failed(c);
        }
        think(c);
    }
    if (block && !load_sql__query(c, "COMMIT")) {
        return list_failed(c);
    }
    return load_sql__outcome_of(c);
}

/* ---- forks --------------------------------------------------------------------------------------- */

enum op_outcome load_sql__fork_write(struct client *c)
{
    (void)load_sql__queryf(c, "INSERT INTO forks VALUES (%" PRIu64 ", 1)", c->op.key);
    return load_sql__outcome_of(c);
}

static void take_items(struct client *c)
{
    const struct answer *a = load_sql__answer(c);

    for (uint32_t i = 0; i < a->count; i++) {
        c->op.result |= 1 << ((uint64_t)a->values[i] % FORK_ITEMS);
    }
}

enum op_outcome load_sql__fork_read(struct client *c)
{
    const uint64_t first = c->op.key * FORK_ITEMS;
    const uint64_t start = rng_below(&c->rng, FORK_ITEMS);

    if (rng_permille(&c->rng, 500)) {
        if (load_sql__queryf(c, "SELECT id FROM forks WHERE id >= %" PRIu64 " AND id < %" PRIu64,
                             first, first + FORK_ITEMS)) {
            take_items(c);
        }
        return load_sql__outcome_of(c);
    }
    if (!load_sql__query(c, "BEGIN")) {
        return give_up(c);
    }
    for (uint64_t i = 0; i < FORK_ITEMS; i++) {
        if (!load_sql__queryf(c, "SELECT id FROM forks WHERE id = %" PRIu64,
                              first + (start + i) % FORK_ITEMS)) {
            return give_up(c);
        }
        take_items(c);
        think(c);
    }
    return load_sql__query(c, "COMMIT") ? OP_OK : give_up(c);
}

/* ---- unique keys --------------------------------------------------------------------------------- */

/* The row and its index, both of them tables: what a UNIQUE constraint does, by hand. */
enum op_outcome load_sql__unique(struct client *c)
{
    (void)load_sql__queryf(c,
                           "BEGIN; INSERT INTO claims VALUES (%" PRId64 ", %" PRIu64
                           "); INSERT INTO owners VALUES (%" PRIu64 ", %" PRId64 "); COMMIT",
                           c->op.arg, c->op.key, c->op.key, c->op.arg);
    if (load_sql__is_state(c, "23505")) {
        (void)load_sql__query(c, "ROLLBACK");
        return OP_REFUSED;
    }
    return load_sql__is_state(c, "") ? OP_OK : give_up(c);
}

enum op_outcome load_sql__unique_read(struct client *c)
{
    const struct answer *a = load_sql__answer(c);

    if (!load_sql__query(c, "BEGIN") ||
        !load_sql__queryf(c, "SELECT row_id FROM owners WHERE key = %" PRIu64, c->op.key)) {
        return give_up(c);
    }
    c->op.found = a->count > 0;
    c->op.result = a->count > 0 ? a->values[0] : 0;
    if (c->op.found) {
        think(c);
        if (!load_sql__queryf(
                c, "SELECT row_id FROM claims WHERE row_id = %" PRId64 " AND key = %" PRIu64,
                c->op.result, c->op.key)) {
            return give_up(c);
        }
        c->op.expect = a->count > 0 ? a->values[0] : 0;
    }
    return load_sql__query(c, "COMMIT") ? OP_OK : give_up(c);
}

/* ---- switches ------------------------------------------------------------------------------------ */

enum op_outcome load_sql__skew(struct client *c)
{
    const struct answer *a = load_sql__answer(c);
    const uint64_t first = 2 * c->op.key;
    const uint64_t own = (uint64_t)c->op.arg;

    if (!load_sql__query(c, "BEGIN") ||
        !load_sql__queryf(c,
                          "SELECT id, lit FROM switches WHERE id >= %" PRIu64 " AND id < %" PRIu64,
                          first, first + 2)) {
        return give_up(c);
    }
    for (uint32_t i = 0; i + 1 < a->count; i += 2) {
        c->op.result |= a->values[i + 1] << (a->values[i] % 2);
    }
    think(c);
    if (!load_sql__queryf(c, "UPDATE switches SET lit = %d WHERE id = %" PRIu64,
                          c->op.result == 3 ? 0 : 1, first + own)) {
        return give_up(c);
    }
    return load_sql__query(c, "COMMIT") ? OP_OK : give_up(c);
}

/* ---- locks --------------------------------------------------------------------------------------- */

MAYYIELD static bool lock_account(struct client *c, uint64_t id, int64_t *balance)
{
    const struct answer *a = load_sql__answer(c);

    if (!load_sql__queryf(c, "SELECT balance FROM locked WHERE id = %" PRIu64 " FOR UPDATE", id)) {
        return false;
    }
    *balance = a->count > 0 ? a->values[0] : 0;
    return true;
}

/* What it read it has locked: read committed is enough to write what was computed outside. */
enum op_outcome load_sql__locked_transfer(struct client *c)
{
    const uint64_t from = c->op.key;
    const uint64_t to = (uint64_t)c->op.expect;
    int64_t a = 0;
    int64_t b = 0;

    if (!load_sql__query(c, "BEGIN ISOLATION LEVEL READ COMMITTED") || !lock_account(c, from, &a)) {
        return give_up(c);
    }
    think(c);
    if (!lock_account(c, to, &b) ||
        !load_sql__queryf(c, "UPDATE locked SET balance = %" PRId64 " WHERE id = %" PRIu64,
                          a - c->op.arg, from)) {
        return give_up(c);
    }
    think(c);
    if (!load_sql__queryf(c, "UPDATE locked SET balance = %" PRId64 " WHERE id = %" PRIu64,
                          b + c->op.arg, to)) {
        return give_up(c);
    }
    return load_sql__query(c, "COMMIT") ? OP_OK : give_up(c);
}

enum op_outcome load_sql__locks(struct client *c)
{
    const uint64_t count = rng_between(&c->rng, 2, LOAD_LOCKS_MAX);
    const uint64_t step = rng_permille(&c->rng, 500) ? 1 : LOAD_LOCKS_MAX - 1; /* Up or down. */
    const char *wait = rng_permille(&c->rng, 100) ? "NOWAIT" : "";

    if (!load_sql__query(c, rng_permille(&c->rng, 500) ? "BEGIN"
                                                       : "BEGIN ISOLATION LEVEL READ COMMITTED")) {
        return give_up(c);
    }
    for (uint64_t i = 0; i < count; i++) {
        if (!load_sql__queryf(c, "SELECT id FROM locked WHERE id = %" PRIu64 " FOR UPDATE %s",
                              (c->op.key + i * step) % LOAD_LOCKS_MAX, wait)) {
            return give_up(c);
        }
        think(c);
    }
    return load_sql__query(c, "COMMIT") ? OP_OK : give_up(c);
}

/* ---- tables -------------------------------------------------------------------------------------- */

bool load_sql__setup_txn(struct client *c)
{
    static const char *const texts[] = {
        "CREATE TABLE IF NOT EXISTS entries (list int8, seq int8, el int8, PRIMARY KEY (list,seq))",
        "CREATE TABLE IF NOT EXISTS forks (id int8 PRIMARY KEY, v int8)",
        "CREATE TABLE IF NOT EXISTS claims (row_id int8 PRIMARY KEY, key int8)",
        "CREATE TABLE IF NOT EXISTS owners (key int8 PRIMARY KEY, row_id int8)",
        "CREATE TABLE IF NOT EXISTS switches (id int8 PRIMARY KEY, lit int8)",
        "CREATE TABLE IF NOT EXISTS locked (id int8 PRIMARY KEY, balance int8)",
    };
    bool ok = true;

    for (size_t i = 0; i < ARRAY_COUNT(texts) && ok; i++) {
        ok = load_sql__query(c, texts[i]);
    }
    for (uint32_t i = 0; i < 2 * LOAD_PAIRS && ok; i++) {
        ok = load_sql__queryf(c, "INSERT INTO switches VALUES (%u, 1) ON CONFLICT DO NOTHING", i);
    }
    for (uint32_t i = 0; i < LOAD_ACCOUNTS && ok; i++) {
        ok = load_sql__queryf(c, "INSERT INTO locked VALUES (%u, %d) ON CONFLICT DO NOTHING", i,
                              LOAD_ACCOUNT_START);
    }
    return ok;
}
