/*
 * settings.h -- the run-time parameters of a session: SET, SHOW, RESET, SET LOCAL.
 *
 * All of PostgreSQL's names exist (settings.def). A session stores only what differs from the
 * default. Changes inside a transaction are undone when it is rolled back, and those made with
 * SET LOCAL when it ends either way; marks make the same work for savepoints.
 *
 * Runs on: the session's shard. Not thread-safe.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/arena.h"
#include "node/base/list.h"
#include "node/sql/session/error.h"
#include "node/sql/types/type_io.h"

#define SETTING_VALUE_MAX  8192u /* Bytes of a value. */
#define SETTING_CUSTOM_MAX 256u  /* Parameters "a.b" of a session. */
#define SETTING_NAME_MAX   63u
#define SETTING_UNDO_MAX   4096u /* SETs in one transaction. */

enum setting_type {
    SETTING_TYPE_BOOL,
    SETTING_TYPE_INT,
    SETTING_TYPE_REAL,
    SETTING_TYPE_ENUM,
    SETTING_TYPE_STRING,
};

enum setting_class {
    SETTING_REAL,
    SETTING_STORED,
    SETTING_FIXED,
};

struct setting_def {
    const char *name;
    enum setting_type type;
    enum setting_class cls;
    const char *unit;
    const char *boot;
    const char *values; /* Of an enum: a|b|c. */
    int64_t min;
    int64_t max;
    const char *description;
};

struct settings {
    struct list values; /* struct value: what differs from the default. */
    struct list undo;   /* struct undo, newest first. */
    uint32_t undo_count;
    uint32_t custom_count;
    /* What changes behaviour, ready for use; follows the values. */
    struct type_settings types;
    uint64_t statement_timeout_ms;
    uint64_t lock_timeout_ms; /* 0: none; likewise the others. */
    uint64_t idle_timeout_ms;
    uint64_t idle_in_txn_timeout_ms;
    int notice_level; /* Least severity that is sent: see settings_wants(). */
    bool default_read_only;
    /* Told of every change of a reported parameter. May be NULL. */
    void (*on_reported)(void *ctx, const char *name, const char *value);
    void *ctx;
};

NOYIELD void settings_init(struct settings *s);
NOYIELD void settings_deinit(struct settings *s);

enum setting_scope {
    SETTING_STARTUP, /* By the client's startup packet: becomes what RESET goes back to. */
    SETTING_SESSION, /* SET */
    SETTING_LOCAL,   /* SET LOCAL */
};

/*
 * value NULL: the default. in_txn: the change belongs to a transaction that may roll back.
 * Errors: STATUS_SQL_ERROR 42704 unknown name, 22023 bad value, 55P02 cannot be changed, 0A000.
 */
NOYIELD NODISCARD struct status settings_set(struct settings *s, const char *name,
                                             const char *value, enum setting_scope scope,
                                             bool in_txn, struct arena *arena,
                                             struct sql_error *err);
NOYIELD NODISCARD struct status settings_reset_all(struct settings *s, bool in_txn,
                                                   struct arena *arena, struct sql_error *err);

/* Gives a parameter of the table, FIXED ones too, the value that is this session's default.
 * Errors: STATUS_MEMORY. */
NOYIELD NODISCARD struct status settings_force(struct settings *s, const char *name,
                                               const char *value);

/* Ends the transaction's undo list. */
NOYIELD void settings_commit(struct settings *s);
NOYIELD void settings_rollback(struct settings *s);
NOYIELD uint32_t settings_mark(const struct settings *s);
NOYIELD void settings_rollback_to(struct settings *s, uint32_t mark);

/* As SHOW prints it (units folded), in the arena or borrowed. NULL: no such parameter. */
NOYIELD const char *settings_show(const struct settings *s, const char *name, struct arena *arena);
/* The raw value; NULL: no such parameter. Borrowed until the next change. */
NOYIELD const char *settings_get(const struct settings *s, const char *name);
/* The spelling of the table: "TimeZone" for "timezone"; the name itself when it is not there. */
NOYIELD const char *settings_canonical_name(const char *name);

/* i-th of the table, in order of name; NULL at the end. */
NOYIELD const struct setting_def *settings_def(uint32_t i);
/* i-th parameter that is reported to clients; NULL at the end. */
NOYIELD const char *settings_reported(uint32_t i);

/* Does the client want notes of this severity (client_min_messages)? */
NOYIELD bool settings_wants(const struct settings *s, enum sql_severity severity);
