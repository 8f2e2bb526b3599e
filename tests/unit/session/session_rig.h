/*
 * session_rig.h -- a session under test: over statement_fake.c and transactions on an array, its
 * answers as one line of text.
 *
 * What is held by the sink stands in brackets until it is released:
 *     hear(r) after an INSERT of an implicit transaction that is open: "[INSERT 0 1]"
 */
#pragma once

#include "node/runtime/fiber.h"
#include "node/runtime/hlc.h"
#include "node/sql/session/session.h"
#include "tests/lib/env_fake.h"
#include "tests/lib/test.h"
#include "tests/unit/catalog/txn_fake.h"

struct rig {
    struct fake_world *world;
    struct shard *shard;
    struct hlc hlc;
    struct kv kv;
    struct sql *sql;
    struct session *s;
    struct row_sink sink;
    struct buf heard;
    struct buf told; /* What hear() returned. */
    bool held;
    bool no_rewind; /* As if all had left already. */
    uint32_t rewinds;
    struct sql_error last; /* Texts are copied. */
    char message[200];
    const struct row_desc *desc; /* Of the running statement: types of its columns. */
    oid type;                    /* Of the first column when desc is not told (extended). */
    void (*body)(struct rig *r);
    bool done;
};

/* Runs body on a fiber with a session as "u" on database "d" and tables t and u (text). */
void with_session(void (*body)(struct rig *r));
/* What was told since the last time. */
const char *hear(struct rig *r);
/* session_simple(), then hear(). */
const char *query(struct rig *r, const char *text);

/* Parse, Bind (text parameters, NULL ends the list), Execute all rows; no Sync. */
const char *run(struct rig *r, const char *text, ...);
const char *sync_(struct rig *r);
bool parse(struct rig *r, const char *name, const char *text);
bool bind_(struct rig *r, const char *portal, const char *statement, const char *param);
