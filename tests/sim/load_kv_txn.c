/*
 * load_kv_txn.c -- operations over several keys, made to collide: lists, forks, unique keys, switches, locks.
 *
 * A list is one value, its elements one after the other as big-endian numbers. Transactions that only
 * read are declared so half of the time. Clients think between two requests now and then: a transaction
 * that is over within a round trip meets nobody.
 */
#include <stdlib.h>

#include "node/base/codec.h"
#include "node/base/invariant.h"
#include "node/runtime/fiber.h"
#include "tests/sim/append.h"
#include "tests/sim/load_kv.h"

#define THINK_NS (15 * MS)

MAYYIELD static void think(struct client *c)
{
    if (rng_permille(&c->rng, 300)) {
        status_ignore(fiber_sleep(1 + rng_below(&c->rng, THINK_NS)));
    }
}

/* ---- lists --------------------------------------------------------------------------------------- */

static struct status add_to_list(struct client *c, struct txn *t, const struct append_op *x)
{
    const struct bytes key = load_kv__row_key(c, TABLE_LISTS, x->key);
    struct bytes old = BYTES_EMPTY;
    uint8_t *grown = NULL;
    bool found = false;

    TRY(txn_get(t, key, &c->arena, &found, &old));
    grown = arena_alloc(&c->arena, old.len + 8, 1);
    INVARIANT(grown != NULL);
    if (old.len > 0) {
        memcpy(grown, old.ptr, old.len);
    }
    be64_put(grown + old.len, x->value);
    return txn_put(t, key, bytes_of(grown, old.len + 8));
}

static struct status take_list(struct append_op *x, struct bytes value)
{
    if (value.len % 8 != 0) {
        return FAIL(STATUS_CORRUPT, "a list of broken elements");
    }
    for (size_t at = 0; at < value.len; at += 8) {
        load_push(&x->list, &x->count, be64_get(value.ptr + at));
    }
    x->done = true;
    return OK;
}

/* Reads that stand next to each other go out together half of the time. */
static struct status read_lists(struct client *c, struct txn *t, struct append_op *x,
                                uint32_t count)
{
    struct bytes keys[LOAD_LOOK_LISTS] = {BYTES_EMPTY};
    struct bytes values[LOAD_LOOK_LISTS];
    bool found[LOAD_LOOK_LISTS];

    INVARIANT(count > 0 && count <= LOAD_LOOK_LISTS);
    for (uint32_t i = 0; i < count; i++) {
        keys[i] = load_kv__row_key(c, TABLE_LISTS, x[i].key);
    }
    TRY(txn_multi_get(t, keys, count, &c->arena, found, values));
    for (uint32_t i = 0; i < count; i++) {
        TRY(take_list(&x[i], found[i] ? values[i] : BYTES_EMPTY));
    }
    return OK;
}

struct status load_kv__append(struct client *c)
{
    struct append_op *ops = c->op.tx;
    const uint32_t count = c->op.tx_count;
    const bool together = rng_permille(&c->rng, 500);
    bool writes = false;
    struct txn *t = NULL;

    for (uint32_t i = 0; i < count; i++) {
        writes = writes || ops[i].kind == APPEND_ADD;
    }
    TRY(load_kv__begin(c, !writes && together, false, &t));
    for (uint32_t i = 0; i < count;) {
        uint32_t n = 1;

        while (together && i + n < count && ops[i].kind == APPEND_READ &&
               ops[i + n].kind == APPEND_READ) {
            n++;
        }
        if (ops[i].kind == APPEND_ADD) {
            TRY(add_to_list(c, t, &ops[i]));
        } else {
            TRY(read_lists(c, t, &ops[i], n));
        }
        i += n;
        think(c);
    }
    return load_kv__commit(c, t);
}

/* ---- forks --------------------------------------------------------------------------------------- */

struct status load_kv__fork_write(struct client *c)
{
    struct txn *t = NULL;

    TRY(load_kv__begin(c, false, true, &t));
    TRY(load_kv__put_number(c, t, load_kv__row_key(c, TABLE_FORK, c->op.key), 1, false));
    return load_kv__commit(c, t);
}

struct status load_kv__fork_read(struct client *c)
{
    const bool together = rng_permille(&c->rng, 500);
    const uint32_t start = (uint32_t)rng_below(&c->rng, FORK_ITEMS);
    struct bytes keys[FORK_ITEMS];
    struct bytes values[FORK_ITEMS];
    bool found[FORK_ITEMS] = {false};
    struct txn *t = NULL;

    TRY(load_kv__begin(c, true, false, &t));
    for (uint32_t i = 0; i < FORK_ITEMS; i++) {
        keys[i] = load_kv__row_key(c, TABLE_FORK, c->op.key * FORK_ITEMS + i);
    }
    if (together) {
        TRY(txn_multi_get(t, keys, FORK_ITEMS, &c->arena, found, values));
    }
    for (uint32_t i = 0; i < FORK_ITEMS && !together; i++) {
        const uint32_t item = (start + i) % FORK_ITEMS; /* Every reader in another order. */

        TRY(txn_get(t, keys[item], &c->arena, &found[item], &values[item]));
        think(c);
    }
    for (uint32_t i = 0; i < FORK_ITEMS; i++) {
        c->op.result |= found[i] ? 1 << i : 0;
    }
    return load_kv__commit(c, t);
}

/* ---- unique keys --------------------------------------------------------------------------------- */

/* A row and its entry in a unique index, in one transaction. Refused: the key has an owner. */
struct status load_kv__unique(struct client *c, bool *refused)
{
    const struct bytes row = load_kv__row_key(c, TABLE_CLAIMS, (uint64_t)c->op.arg);
    const struct bytes index = load_kv__row_key(c, TABLE_OWNERS, c->op.key);
    struct status st = OK;
    struct txn *t = NULL;

    TRY(load_kv__begin(c, false, rng_permille(&c->rng, 500), &t));
    st = load_kv__put_number(c, t, row, (int64_t)c->op.key, false);
    if (status_ok(st)) {
        st = load_kv__put_number(c, t, index, c->op.arg, true);
    }
    if (status_ok(st)) {
        st = load_kv__commit(c, t);
    }
    *refused = st.code == STATUS_EXISTS;
    return *refused ? OK : st;
}

struct status load_kv__unique_read(struct client *c)
{
    struct txn *t = NULL;
    bool row = false;
    int64_t key = 0;

    TRY(load_kv__begin(c, true, false, &t));
    TRY(load_kv__get_number(c, t, load_kv__row_key(c, TABLE_OWNERS, c->op.key), &c->op.found,
                            &c->op.result));
    if (c->op.found) {
        TRY(load_kv__get_number(c, t, load_kv__row_key(c, TABLE_CLAIMS, (uint64_t)c->op.result),
                                &row, &key));
    }
    c->op.expect = row && key == (int64_t)c->op.key ? c->op.result : 0;
    return load_kv__commit(c, t);
}

/* ---- switches ------------------------------------------------------------------------------------ */

/* Turns its side off if the other one is on; on if not. */
struct status load_kv__skew(struct client *c)
{
    const uint64_t own = (uint64_t)c->op.arg;
    struct bytes sides[2];
    struct bytes values[2];
    bool found[2] = {false};
    struct txn *t = NULL;
    int64_t on[2] = {0};

    for (uint64_t i = 0; i < 2; i++) {
        sides[i] = load_kv__row_key(c, TABLE_SKEW, 2 * c->op.key + i);
    }
    TRY(load_kv__begin(c, false, false, &t));
    TRY(txn_multi_get(t, sides, 2, &c->arena, found, values));
    for (uint32_t i = 0; i < 2; i++) {
        on[i] = found[i] && values[i].len == 8 ? (int64_t)be64_get(values[i].ptr) : 0;
    }
    c->op.result = on[0] | on[1] << 1;
    think(c);
    TRY(load_kv__put_number(c, t, sides[own], on[1 - own] == 0 || on[own] == 0 ? 1 : 0, false));
    return load_kv__commit(c, t);
}

/* ---- locks --------------------------------------------------------------------------------------- */

MAYYIELD static struct status lock_rows(struct client *c, struct txn *t, const struct bytes *keys,
                                        uint32_t count, enum range_wait wait, int64_t *numbers)
{
    const struct txn_lock lock = {.strength = MVCC_EXCLUSIVE, .wait = wait};
    struct bytes values[LOAD_LOCKS_MAX];
    bool found[LOAD_LOCKS_MAX];

    INVARIANT(count <= LOAD_LOCKS_MAX);
    TRY(txn_multi_get_locked(t, &lock, keys, count, &c->arena, found, values));
    for (uint32_t i = 0; i < count; i++) {
        numbers[i] = found[i] && values[i].len == 8 ? (int64_t)be64_get(values[i].ptr) : 0;
    }
    return OK;
}

/* Locks both accounts, at once or one after the other, and moves money. What it read it has locked: read
 * committed is enough. */
struct status load_kv__locked_transfer(struct client *c)
{
    const bool together = rng_permille(&c->rng, 400);
    struct bytes keys[2] = {load_kv__row_key(c, TABLE_LOCKED, c->op.key),
                            load_kv__row_key(c, TABLE_LOCKED, (uint64_t)c->op.expect)};
    int64_t balance[2];
    struct txn *t = NULL;

    TRY(load_kv__begin_as(c, TXN_READ_COMMITTED, &t));
    txn_statement(t);
    if (together) {
        TRY(lock_rows(c, t, keys, 2, RANGE_WAIT_BLOCK, balance));
    } else {
        TRY(lock_rows(c, t, &keys[0], 1, RANGE_WAIT_BLOCK, &balance[0]));
        think(c);
        txn_statement(t);
        TRY(lock_rows(c, t, &keys[1], 1, RANGE_WAIT_BLOCK, &balance[1]));
    }
    think(c);
    txn_statement(t);
    TRY(load_kv__put_number(c, t, keys[0], balance[0] - c->op.arg, false));
    TRY(load_kv__put_number(c, t, keys[1], balance[1] + c->op.arg, false));
    return load_kv__commit(c, t);
}

/* Two or three rows in an order of its own: a deadlock when another one does the same. */
struct status load_kv__locks(struct client *c)
{
    const uint64_t count = rng_between(&c->rng, 2, LOAD_LOCKS_MAX);
    const uint64_t step = rng_permille(&c->rng, 500) ? 1 : LOAD_LOCKS_MAX - 1; /* Up or down. */
    const enum range_wait wait = rng_permille(&c->rng, 100) ? RANGE_WAIT_ERROR : RANGE_WAIT_BLOCK;
    const bool read_committed = rng_permille(&c->rng, 500);
    struct txn *t = NULL;

    TRY(load_kv__begin_as(c, read_committed ? TXN_READ_COMMITTED : TXN_SERIALIZABLE, &t));
    for (uint64_t i = 0; i < count; i++) {
        const struct bytes key =
            load_kv__row_key(c, TABLE_LOCKED, (c->op.key + i * step) % LOAD_LOCKS_MAX);
        int64_t ignored = 0;

        txn_statement(t);
        TRY(lock_rows(c, t, &key, 1, wait, &ignored));
        think(c);
    }
    return load_kv__commit(c, t);
}
