/*
 * load_kv.c -- the clients' operations as transactions on keys.
 *
 * Keys are those of rows of small tables; a value is one big-endian number. Every operation is one
 * transaction. A client remembers the one that is open, which is rolled back when something fails.
 */
#include "tests/sim/load_kv.h"

#include <stdlib.h>

#include "node/base/codec.h"
#include "node/base/invariant.h"

#define DEADLINE_NS (6 * SEC)
#define KEY_BYTES   64

struct bytes load_kv__row_key(struct client *c, enum kv_table table, uint64_t id)
{
    struct key_enc k;
    struct bytes key = BYTES_EMPTY;

    key_enc_init(&k, arena_alloc(&c->arena, KEY_BYTES, 1), KEY_BYTES);
    key_enc_index(&k, (uint64_t)table, 1);
    key_enc_int(&k, KEY_ASC, (int64_t)id);
    key_enc_family(&k, 0);
    INVARIANT(status_ok(key_enc_finish(&k, &key)));
    return key;
}

void load_kv__table_span(struct client *c, enum kv_table table, struct bytes *start,
                         struct bytes *end)
{
    struct key_enc k;

    key_enc_init(&k, arena_alloc(&c->arena, KEY_BYTES, 1), KEY_BYTES);
    key_enc_index(&k, (uint64_t)table, 1);
    INVARIANT(status_ok(key_enc_finish(&k, start)));
    INVARIANT(status_ok(key_prefix_end(&c->arena, *start, end)));
}

struct status load_kv__begin(struct client *c, bool read_only, bool implicit, struct txn **out)
{
    const struct txn_options o = {
        .implicit = implicit,
        .read_only = read_only,
        .deadline_ns = env_mono_ns(&c->node->env) + DEADLINE_NS,
    };

    TRY(txn_begin(node_kv(c->node->node), &c->arena, &o, out));
    c->session = *out;
    return OK;
}

struct status load_kv__begin_as(struct client *c, enum txn_isolation isolation, struct txn **out)
{
    const struct txn_options o = {
        .isolation = isolation,
        .deadline_ns = env_mono_ns(&c->node->env) + DEADLINE_NS,
    };

    TRY(txn_begin(node_kv(c->node->node), &c->arena, &o, out));
    c->session = *out;
    return OK;
}

struct status load_kv__commit(struct client *c, struct txn *t)
{
    c->session = NULL;
    return txn_commit(t);
}

struct status load_kv__put_number(struct client *c, struct txn *t, struct bytes key, int64_t v,
                                  bool insert)
{
    uint8_t value[8];

    UNUSED(c);
    be64_put(value, (uint64_t)v);
    return insert ? txn_insert(t, key, bytes_of(value, sizeof(value)))
                  : txn_put(t, key, bytes_of(value, sizeof(value)));
}

struct status load_kv__get_number(struct client *c, struct txn *t, struct bytes key, bool *found,
                                  int64_t *out)
{
    struct bytes value;

    *out = 0;
    TRY(txn_get(t, key, &c->arena, found, &value));
    if (*found && value.len != 8) {
        return FAIL(STATUS_CORRUPT, "a value of another size");
    }
    *out = *found ? (int64_t)be64_get(value.ptr) : 0;
    return OK;
}

/* ---- operations --------------------------------------------------------------------------------- */

static struct status do_read(struct client *c)
{
    struct txn *t = NULL;

    TRY(load_kv__begin(c, true, true, &t));
    TRY(load_kv__get_number(c, t, load_kv__row_key(c, TABLE_REGISTER, c->op.key), &c->op.found,
                            &c->op.result));
    return load_kv__commit(c, t);
}

static struct status do_write(struct client *c)
{
    struct txn *t = NULL;

    TRY(load_kv__begin(c, false, true, &t));
    TRY(load_kv__put_number(c, t, load_kv__row_key(c, TABLE_REGISTER, c->op.key), c->op.arg,
                            false));
    return load_kv__commit(c, t);
}

/* *refused: it met another value, and nothing was written. */
static struct status do_cas(struct client *c, bool *refused)
{
    const struct bytes key = load_kv__row_key(c, TABLE_REGISTER, c->op.key);
    struct txn *t = NULL;

    TRY(load_kv__begin(c, false, false, &t));
    TRY(load_kv__get_number(c, t, key, &c->op.found, &c->op.result));
    if (!c->op.found || c->op.result != c->op.expect) {
        c->op.result_known = true;
        *refused = true;
        return OK;
    }
    TRY(load_kv__put_number(c, t, key, c->op.arg, false));
    return load_kv__commit(c, t);
}

static struct status do_insert(struct client *c)
{
    struct txn *t = NULL;

    TRY(load_kv__begin(c, false, true, &t));
    TRY(load_kv__put_number(c, t, load_kv__row_key(c, TABLE_SET, c->op.key), (int64_t)c->op.key,
                            true));
    return load_kv__commit(c, t);
}

static struct status do_add(struct client *c)
{
    const struct bytes key = load_kv__row_key(c, TABLE_COUNTER, 0);
    struct txn *t = NULL;
    bool found = false;
    int64_t v = 0;

    TRY(load_kv__begin(c, false, false, &t));
    TRY(load_kv__get_number(c, t, key, &found, &v));
    TRY(load_kv__put_number(c, t, key, v + c->op.arg, false));
    return load_kv__commit(c, t);
}

static struct status do_count(struct client *c)
{
    struct txn *t = NULL;

    TRY(load_kv__begin(c, true, true, &t));
    TRY(load_kv__get_number(c, t, load_kv__row_key(c, TABLE_COUNTER, 0), &c->op.found,
                            &c->op.result));
    return load_kv__commit(c, t);
}

static struct status do_transfer(struct client *c)
{
    const struct bytes from = load_kv__row_key(c, TABLE_BANK, c->op.key);
    const struct bytes to = load_kv__row_key(c, TABLE_BANK, (uint64_t)c->op.expect);
    struct txn *t = NULL;
    bool found = false;
    int64_t a = 0;
    int64_t b = 0;

    TRY(load_kv__begin(c, false, false, &t));
    TRY(load_kv__get_number(c, t, from, &found, &a));
    TRY(load_kv__get_number(c, t, to, &found, &b));
    TRY(load_kv__put_number(c, t, from, a - c->op.arg, false));
    TRY(load_kv__put_number(c, t, to, b + c->op.arg, false));
    return load_kv__commit(c, t);
}

static struct status scan_table(struct client *c, enum kv_table table)
{
    struct txn_scan scan = {.rows_max = 100};
    struct txn *t = NULL;

    TRY(load_kv__begin(c, true, true, &t));
    load_kv__table_span(c, table, &scan.start, &scan.end);
    do {
        TRY(txn_scan(t, &scan, &c->arena));
        for (uint32_t i = 0; i < scan.rows_count; i++) {
            const int64_t v = (int64_t)be64_get(scan.rows[i].value.ptr);

            if (table == TABLE_SET) {
                load_push(&c->op.elements, &c->op.elements_count, (uint64_t)v);
            } else {
                c->op.result += v;
            }
        }
    } while (scan.more);
    return load_kv__commit(c, t);
}

static struct status dispatch(struct client *c, bool *refused)
{
    switch (c->op.kind) {
    case OP_READ:
        return do_read(c);
    case OP_WRITE:
        return do_write(c);
    case OP_CAS:
        return do_cas(c, refused);
    case OP_INSERT:
        return do_insert(c);
    case OP_SET_READ:
        return scan_table(c, TABLE_SET);
    case OP_ADD:
        return do_add(c);
    case OP_COUNT:
        return do_count(c);
    case OP_TRANSFER:
        return do_transfer(c);
    case OP_BANK:
        return scan_table(c, TABLE_BANK);
    case OP_APPEND:
        return load_kv__append(c);
    case OP_FORK_WRITE:
        return load_kv__fork_write(c);
    case OP_FORK_READ:
        return load_kv__fork_read(c);
    case OP_UNIQUE:
        return load_kv__unique(c, refused);
    case OP_UNIQUE_READ:
        return load_kv__unique_read(c);
    case OP_SKEW:
        return load_kv__skew(c);
    case OP_LOCKED_TRANSFER:
        return load_kv__locked_transfer(c);
    case OP_LOCKED_BANK:
        return scan_table(c, TABLE_LOCKED);
    case OP_LOCKS:
        return load_kv__locks(c);
    case OP_SCHEMA: /* There are no tables. */
    case OP_PAST:   /* Of no api. */
    case OP_KIND_COUNT:
        break;
    }
    return FAIL(STATUS_INVALID, "no such operation");
}

static bool writes(enum op_kind kind)
{
    return kind == OP_WRITE || kind == OP_CAS || kind == OP_INSERT || kind == OP_ADD ||
           kind == OP_TRANSFER || kind == OP_APPEND || kind == OP_FORK_WRITE || kind == OP_UNIQUE ||
           kind == OP_SKEW || kind == OP_LOCKED_TRANSFER;
}

/* What the codes mean is the contract of txn.h. */
static enum op_outcome outcome_of(struct client *c, struct status st)
{
    struct sim_world *w = c->node->world;

    switch (st.code) {
    case STATUS_OK:
        return OP_OK;
    case STATUS_TXN_RETRY:
    case STATUS_DEADLOCK:
    case STATUS_LOCKED:
        sim_state(w, SIM_STATE_OP_RETRY);
        return OP_FAILED;
    case STATUS_UNAVAILABLE:
    case STATUS_OVERLOADED:
    case STATUS_FENCED: /* By the clock of a node that slept: certainly not executed. */
    case STATUS_TIMEOUT:
        sim_state(w, SIM_STATE_OP_UNAVAILABLE);
        return OP_FAILED;
    case STATUS_AMBIGUOUS:
    case STATUS_CANCELLED:
        return writes(c->op.kind) ? OP_UNKNOWN : OP_FAILED;
    case STATUS_EXISTS:
        if (!c->node->cut) {
            sim_fail(w, "set: element %llu is refused as existing at its first insert",
                     (unsigned long long)c->op.key);
        }
        return OP_FAILED;
    default:
        if (!c->node->cut) {
            sim_fail(w, "node %u: operation %d ended with \"%s\" (%s)", c->node->index,
                     (int)c->op.kind, status_text(st), status_code_text(st.code));
        }
        return OP_FAILED;
    }
}

static enum op_outcome kv_run(struct client *c)
{
    bool refused = false;
    const struct status st = dispatch(c, &refused);

    if (c->session != NULL) {
        txn_rollback(c->session);
        c->session = NULL;
    }
    return status_ok(st) && refused ? OP_REFUSED : outcome_of(c, st);
}

static struct status setup(struct client *c)
{
    struct txn *t = NULL;

    TRY(load_kv__begin(c, false, false, &t));
    for (uint64_t i = 0; i < LOAD_ACCOUNTS; i++) {
        TRY(load_kv__put_number(c, t, load_kv__row_key(c, TABLE_BANK, i), LOAD_ACCOUNT_START,
                                false));
        TRY(load_kv__put_number(c, t, load_kv__row_key(c, TABLE_LOCKED, i), LOAD_ACCOUNT_START,
                                false));
    }
    for (uint64_t i = 0; i < 2 * (uint64_t)LOAD_PAIRS; i++) {
        TRY(load_kv__put_number(c, t, load_kv__row_key(c, TABLE_SKEW, i), 1, false));
    }
    TRY(load_kv__put_number(c, t, load_kv__row_key(c, TABLE_COUNTER, 0), 0, false));
    return load_kv__commit(c, t);
}

static enum op_outcome kv_setup(struct client *c)
{
    const struct status st = setup(c);

    if (c->session != NULL) {
        txn_rollback(c->session);
        c->session = NULL;
    }
    return status_ok(st) ? OP_OK : OP_FAILED;
}

const struct load_api load_kv = {.name = "kv", .setup = kv_setup, .run = kv_run};
