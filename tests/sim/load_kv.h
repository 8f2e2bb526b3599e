/*
 * load_kv.h -- what the two halves of the transactions on keys share.
 */
#pragma once

#include "node/storage/key/key.h"
#include "node/txn/txn.h"
#include "tests/sim/load.h"

enum kv_table {
    TABLE_REGISTER = LOAD_FIRST_TABLE,
    TABLE_SET,
    TABLE_COUNTER,
    TABLE_BANK,
    TABLE_LISTS,
    TABLE_FORK,
    TABLE_CLAIMS, /* By row. */
    TABLE_OWNERS, /* By key: the index of the one above. */
    TABLE_SKEW,
    TABLE_LOCKED, /* A second bank. */
};

/* In the client's arena. */
struct bytes load_kv__row_key(struct client *c, enum kv_table table, uint64_t id);
void load_kv__table_span(struct client *c, enum kv_table table, struct bytes *start,
                         struct bytes *end);
struct status load_kv__begin(struct client *c, bool read_only, bool implicit, struct txn **out);
struct status load_kv__begin_as(struct client *c, enum txn_isolation isolation, struct txn **out);
MAYYIELD struct status load_kv__commit(struct client *c, struct txn *t);
MAYYIELD struct status load_kv__put_number(struct client *c, struct txn *t, struct bytes key,
                                           int64_t v, bool insert);
MAYYIELD struct status load_kv__get_number(struct client *c, struct txn *t, struct bytes key,
                                           bool *found, int64_t *out);

/* load_kv_txn.c: operations on c->op. */
MAYYIELD struct status load_kv__append(struct client *c);
MAYYIELD struct status load_kv__fork_write(struct client *c);
MAYYIELD struct status load_kv__fork_read(struct client *c);
MAYYIELD struct status load_kv__unique(struct client *c, bool *refused);
MAYYIELD struct status load_kv__unique_read(struct client *c);
MAYYIELD struct status load_kv__skew(struct client *c);
MAYYIELD struct status load_kv__locked_transfer(struct client *c);
MAYYIELD struct status load_kv__locks(struct client *c);
