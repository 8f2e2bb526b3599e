/*
 * catalog.h -- tables as versioned descriptors.
 *
 * Descriptors are rows of the system keyspace (by id, and by name). A shard caches what it has read
 * together with a time until which it may be used: CATALOG_LEASE_NS after the timestamp of the read.
 * A transaction that used a descriptor must commit below that time (txn_limit_commit_ts), and a
 * change of a descriptor is acknowledged only after every older lease of another shard has run out;
 * who has ever taken one is on record. So every node sees a new schema within a bounded time and no
 * transaction mixes two.
 *
 * Runs on: the shard that owns the struct catalog. Descriptors are immutable and refcounted.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/arena.h"
#include "node/base/hts.h"
#include "node/base/status.h"

struct catalog;
struct kv;
struct hlc;
struct shard;
struct txn;

#define CATALOG_LEASE_NS       ((uint64_t)2000000000)
#define CATALOG_COLUMNS_MAX    1600u
#define CATALOG_NAME_MAX       63u
#define CATALOG_FIRST_TABLE_ID 16384u /* As PostgreSQL's first user OID; the table id is its OID. */

/* Same numbers as enum type_oid of sql/types. */
struct column_desc {
    uint32_t id; /* = attnum, from 1; never reused. */
    char name[CATALOG_NAME_MAX + 1];
    uint32_t type;  /* OID. */
    int32_t typmod; /* -1: none. */
    bool not_null;
    bool has_default;
    const char *default_text; /* SQL text of the expression, or NULL. */
};

struct index_desc {
    uint32_t id; /* 1: primary. */
    char name[CATALOG_NAME_MAX + 1];
    bool unique;
    uint16_t columns_count;
    struct {
        uint32_t column; /* Column id. */
        bool desc;
    } columns[32];
};

struct table_desc {
    uint32_t id;
    uint32_t version;
    char name[CATALOG_NAME_MAX + 1];
    uint32_t schema; /* 2200: public. */
    uint32_t columns_count;
    struct column_desc *columns; /* In order of attnum. */
    struct index_desc primary;   /* Without a PRIMARY KEY: the hidden column "rowid" (int8). */
    bool hidden_rowid;           /* The last column is hidden: not in SELECT *. */
    struct hts valid_until;      /* Of this lease. */
    uint32_t refs;               /* Of catalog.c. */
};

NOYIELD NODISCARD struct status catalog_create(struct shard *shard, struct kv *kv, struct hlc *hlc,
                                               struct catalog **out);
/* Its fibers must have ended (catalog_stopped), its descriptors been released. Accepts NULL. */
NOYIELD void catalog_destroy(struct catalog *c);
/* Ends the fibers that renew leases; no more are started. */
NOYIELD void catalog_stop(struct catalog *c);
NOYIELD bool catalog_stopped(const struct catalog *c);
/* Id of this node, which goes into catalog_unique_rowid(). At most 1023; 0 until told. */
NOYIELD void catalog_set_node(struct catalog *c, uint32_t node);

/*
 * A lease on the table of that name in schema public. Release it when the statement ends.
 * Errors: STATUS_NOT_FOUND; those of reads.
 */
MAYYIELD NODISCARD struct status catalog_acquire(struct catalog *c, const char *name,
                                                 struct table_desc **out);
/* The same without yielding: only from the cache. STATUS_WOULD_BLOCK: fetch with catalog_acquire(). */
NOYIELD NODISCARD struct status catalog_acquire_cached(struct catalog *c, const char *name,
                                                       struct table_desc **out);
/* Is this descriptor (by id and version) still the one to use now? For cached plans. */
NOYIELD bool catalog_still_valid(struct catalog *c, const struct table_desc *d);
NOYIELD void catalog_release(struct catalog *c, struct table_desc *d);

/* Changes whenever anything in the cache changed: cached plans compare it first. */
NOYIELD uint64_t catalog_generation(const struct catalog *c);

/* Creates a table in its own transaction. `desc` without id and version.
 * Errors: STATUS_EXISTS; those of commits. */
MAYYIELD NODISCARD struct status catalog_create_table(struct catalog *c,
                                                      const struct table_desc *desc);
/* Drops it, deletes its rows, and waits until no other node can still use it.
 * Errors: STATUS_NOT_FOUND; those of commits. */
MAYYIELD NODISCARD struct status catalog_drop_table(struct catalog *c, const char *name);
/*
 * DDL inside a transaction of the caller: its rows are the transaction's, and an overlay lets this
 * session see them before the commit, and nobody else. One overlay per session:
 *
 *     enter ... create_in, drop_in, acquire ... leave    within each call of the session
 *     mark, rollback_to                                  savepoints
 *     discard                                            the transaction was rolled back
 *     committed                                          it was committed
 *
 * The fiber between enter and leave sees the overlay.
 */
struct catalog_overlay;
NOYIELD NODISCARD struct status catalog_overlay_create(struct catalog *c,
                                                       struct catalog_overlay **out);
NOYIELD void catalog_overlay_destroy(struct catalog_overlay *o); /* Accepts NULL. Discards. */
NOYIELD void catalog_overlay_enter(struct catalog_overlay *o);
NOYIELD void catalog_overlay_leave(struct catalog_overlay *o);
NOYIELD bool catalog_overlay_empty(const struct catalog_overlay *o);
NOYIELD uint32_t catalog_overlay_mark(const struct catalog_overlay *o);
NOYIELD void catalog_overlay_rollback_to(struct catalog_overlay *o, uint32_t mark);
NOYIELD void catalog_overlay_discard(struct catalog_overlay *o);
/* ts: of the commit. Waits for the leases on what was dropped, then deletes its rows; not to be
 * cancelled, the commit has happened. */
MAYYIELD void catalog_overlay_committed(struct catalog_overlay *o, struct hts ts);

#define CATALOG_OVERLAY_MAX 10000u /* Changes in one transaction. */

/* Errors: STATUS_EXISTS, STATUS_OVERLOADED; those of reads and writes of a transaction. */
MAYYIELD NODISCARD struct status catalog_create_table_in(struct catalog_overlay *o, struct txn *t,
                                                         const struct table_desc *desc);
/* Errors: STATUS_NOT_FOUND, STATUS_OVERLOADED; those of reads and writes of a transaction. */
MAYYIELD NODISCARD struct status catalog_drop_table_in(struct catalog_overlay *o, struct txn *t,
                                                       const char *name);

/* All tables, for \d and information_schema; in the arena, ordered by name. */
MAYYIELD NODISCARD struct status catalog_list(struct catalog *c, struct arena *arena,
                                              struct table_desc ***out, uint32_t *count_out);

/* A value for the hidden rowid column: unique in the cluster, positive, rising on one shard. */
NOYIELD int64_t catalog_unique_rowid(struct catalog *c);
