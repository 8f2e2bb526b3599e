/*
 * load_sql.h -- what the two halves of the SQL clients share.
 */
#pragma once

#include "tests/sim/load.h"

/* What a client was told. */
struct answer {
    struct row_sink sink;
    uint32_t columns;
    int64_t *values; /* Of all rows, one after the other; owned. */
    uint32_t count;
    uint32_t cap;
    char tag[64]; /* Of the last statement. */
    char sqlstate[6];
    char message[160];
};

struct sql_client {
    struct session *session;
    struct answer answer;
};

/* Of the last query. */
const struct answer *load_sql__answer(struct client *c);
/* Runs a text; its answer replaces the one before. False: it failed, see the answer's SQLSTATE. */
MAYYIELD bool load_sql__query(struct client *c, const char *text);
MAYYIELD bool load_sql__queryf(struct client *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Of the SQLSTATE that the client got last. */
enum op_outcome load_sql__outcome_of(struct client *c);
bool load_sql__is_state(struct client *c, const char *sqlstate);

/* load_sql_txn.c: operations on c->op. */
MAYYIELD bool load_sql__setup_txn(struct client *c);
MAYYIELD enum op_outcome load_sql__append(struct client *c);
MAYYIELD enum op_outcome load_sql__fork_write(struct client *c);
MAYYIELD enum op_outcome load_sql__fork_read(struct client *c);
MAYYIELD enum op_outcome load_sql__unique(struct client *c);
MAYYIELD enum op_outcome load_sql__unique_read(struct client *c);
MAYYIELD enum op_outcome load_sql__skew(struct client *c);
MAYYIELD enum op_outcome load_sql__locked_transfer(struct client *c);
MAYYIELD enum op_outcome load_sql__locks(struct client *c);
