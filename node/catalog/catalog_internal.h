/*
 * catalog_internal.h -- what catalog.c (reading, leases) and catalog_change.c (DDL) share.
 */
#pragma once

#include "node/base/arena.h"
#include "node/base/list.h"
#include "node/base/map.h"
#include "node/catalog/catalog.h"
#include "node/catalog/catalog_key.h"

#define CATALOG_SCHEMA_PUBLIC 2200u
#define CATALOG_CACHE_MAX     10000u
#define CATALOG_TRIES_MAX     20u
#define CATALOG_BACKOFF_NS    ((uint64_t)2000000)
#define CATALOG_BACKOFF_MAX   ((uint64_t)200000000)
#define CATALOG_ARENA_MAX     ((size_t)64 << 20)
#define CATALOG_DROP_ROWS     512u /* Rows deleted per transaction after DROP TABLE. */

/* One version of one table in memory. While `current` the cache holds a reference. */
struct catalog_entry {
    struct table_desc d; /* First: a table_desc of ours is its entry. */
    struct arena arena;  /* Of what d points to. */
    struct list link;    /* catalog.lru */
    bool current;
    bool refreshing;                 /* A fiber is renewing the lease. */
    struct catalog_overlay *overlay; /* Whose uncommitted table this is; NULL: of the cache. */
};

struct catalog {
    struct shard *shard;
    struct kv *kv;
    struct hlc *hlc;
    uint32_t node;
    struct map by_name;    /* hash64(name) -> catalog_entry; a collision evicts. */
    struct list lru;       /* Newest first. */
    struct list fetches;   /* struct fetch: names that a fiber is reading now. */
    struct list refreshes; /* struct refresh: fibers that renew leases ahead of time. */
    struct list overlays;  /* struct catalog_overlay that hold something. */
    bool stopping;
    uint64_t generation;
    uint64_t last_rowid_time;
};

/* Takes whatever is cached under that name out: later lookups read anew. */
NOYIELD void catalog__forget(struct catalog *c, const char *name);

NOYIELD void catalog__entry_unref(struct catalog_entry *e);

/* ---- catalog_overlay.c ---- */

enum overlay_answer {
    OVERLAY_SILENT, /* Nothing about that name: the cache counts. */
    OVERLAY_CREATED,
    OVERLAY_DROPPED,
};
/* What the running fiber's own uncommitted changes say. *out: the entry when CREATED. */
NOYIELD enum overlay_answer catalog__overlay_find(const struct catalog *c, const char *name,
                                                  struct catalog_entry **out);
/* Does the running fiber own this uncommitted table? */
NOYIELD bool catalog__overlay_owns(const struct catalog_entry *e);

/* ---- catalog_change.c ---- */

struct catalog_drop {
    uint32_t id;
    bool others; /* Another shard may have a lease. */
};
/* The writes of CREATE TABLE; desc->id is given. Errors: STATUS_EXISTS. */
MAYYIELD NODISCARD struct status catalog__create_writes(struct txn *t,
                                                        const struct table_desc *desc,
                                                        struct arena *arena);
MAYYIELD NODISCARD struct status catalog__drop_writes(struct catalog *c, struct txn *t,
                                                      const char *name, struct arena *arena,
                                                      struct catalog_drop *out);
/* A new id, committed at once: whoever takes one and fails leaves a gap. */
MAYYIELD NODISCARD struct status catalog__take_id(struct catalog *c, uint32_t *id_out);
MAYYIELD void catalog__wait_for_leases(struct catalog *c, struct hts changed);
MAYYIELD void catalog__delete_rows(struct catalog *c, uint32_t id);

/* ---- catalog.c ---- */

/* Sleeps before try number `tries` of a transaction; first without delay. */
MAYYIELD NODISCARD struct status catalog__backoff(struct catalog *c, uint32_t tries);

/* The lease record of this shard. */
NOYIELD struct bytes catalog__own_lease(const struct catalog *c, struct catalog_key *k, uint32_t id,
                                        uint32_t version);

/* Reads name and descriptor within t. The bytes of the descriptor live in the arena.
 * Errors: STATUS_NOT_FOUND, STATUS_CORRUPT, those of reads. */
MAYYIELD NODISCARD struct status catalog__read(struct txn *t, const char *name, struct arena *arena,
                                               uint32_t *id_out, struct bytes *desc_out);
