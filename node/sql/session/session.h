/*
 * session.h -- one client's conversation with the database, without a wire.
 *
 * pgwire drives it with the messages of the protocol; the simulator and internal callers use
 * session_simple(). All results, errors included, go to the sink; a returned status other than OK
 * means that the session itself is over (FATAL). After an error in the extended protocol the caller
 * skips messages until Sync, as the protocol says.
 *
 * Runs on: a fiber of the shard that accepted the connection.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/bytes.h"
#include "node/base/status.h"
#include "node/sql/session/sink.h"

struct catalog;
struct session;
struct sql_admin;
struct sql;
struct type_settings;

/* One per shard: statement cache, catalog, what sessions share. */
struct sql_options {
    struct shard *shard;
    struct kv *kv;
    struct hlc *hlc;
    const char *region;            /* Of this node, for gateway_region(). */
    uint32_t node;                 /* Node id, for backend pids. */
    const struct sql_admin *admin; /* What statements about ranges use. NULL: there are none. */
};
NOYIELD NODISCARD struct status sql_create(const struct sql_options *o, struct sql **out);
/* All its sessions must have ended, and sql_stopped(). Accepts NULL. */
NOYIELD void sql_destroy(struct sql *s);
/* Ends what runs in the background; pgwire_stop() calls it. */
NOYIELD void sql_stop(struct sql *s);
NOYIELD bool sql_stopped(const struct sql *s);
/* Borrowed. */
NOYIELD struct catalog *sql_catalog(struct sql *s);

#define SESSION_STATEMENTS_MAX 10000u
#define SESSION_PORTALS_MAX    1000u
#define SESSION_PARAMS_MAX     65535u
#define SESSION_TEXT_MAX       ((size_t)16 << 20)
/* Times that one statement runs again while the rest of its transaction stays. */
#define SESSION_STATEMENT_RETRIES_MAX 10u

struct session_options {
    const char *user;
    const char *database;
    uint32_t backend_pid;
};
NOYIELD NODISCARD struct status session_create(struct sql *sql, const struct session_options *o,
                                               struct session **out);
/* Rolls back what is open. Not while one of its calls is running. */
NOYIELD void session_destroy(struct session *s);

/* From another fiber: the running statement fails with 57014 at its next chance. */
NOYIELD void session_cancel(struct session *s);

/* A startup parameter or SET: false with err filled when the name or value is wrong. */
NOYIELD bool session_set_parameter(struct session *s, const char *name, const char *value,
                                   struct arena *arena, struct sql_error *err);
/* NULL when there is no such parameter. */
NOYIELD const char *session_get_parameter(struct session *s, const char *name);
/* Name and value of the i-th parameter that is reported to clients at start; false at the end. */
NOYIELD bool session_reported_parameter(struct session *s, uint32_t i, const char **name,
                                        const char **value);

/* How values print now (time zone, digits). Borrowed; changes with SET. */
NOYIELD const struct type_settings *session_type_settings(const struct session *s);

/* How long the client may now be silent before its connection ends, and the error that says so; 0: as
 * long as it likes (idle_session_timeout, idle_in_transaction_session_timeout). */
NOYIELD uint64_t session_idle_timeout_ns(const struct session *s, const char **sqlstate,
                                         const char **message);

/* 'I', 'T' or 'E' for ReadyForQuery. */
NOYIELD char session_txn_state(const struct session *s);

/* A Query message: any number of statements, one implicit transaction around them. */
MAYYIELD NODISCARD struct status session_simple(struct session *s, struct bytes text,
                                                struct row_sink *sink);

/*
 * Extended protocol. Each returns true, or false after it told sink->failed().
 * A parameter type of 0 is to be inferred.
 */
MAYYIELD bool session_parse(struct session *s, const char *name, struct bytes text,
                            const oid *types, uint16_t types_count, struct row_sink *sink);

struct session_bind {
    const char *portal;
    const char *statement;
    const int16_t *formats; /* 0, 1 or one per parameter; 0 text, 1 binary. */
    uint16_t formats_count;
    const struct bytes *values; /* ptr NULL: SQL NULL. Borrowed. */
    uint16_t values_count;
    const int16_t *result_formats; /* Kept for the caller: session_portal_formats(). */
    uint16_t result_formats_count;
};
MAYYIELD bool session_bind(struct session *s, const struct session_bind *b, struct row_sink *sink);

struct session_description {
    const oid *params; /* Statement only. */
    uint16_t params_count;
    struct row_desc rows; /* count 0 and has_rows false: NoData. */
    bool has_rows;
    const int16_t *formats; /* Portal only: result formats as bound. */
    uint16_t formats_count;
};
/* Borrowed until the statement or portal goes away. */
MAYYIELD bool session_describe_statement(struct session *s, const char *name,
                                         struct session_description *out, struct row_sink *sink);
MAYYIELD bool session_describe_portal(struct session *s, const char *name,
                                      struct session_description *out, struct row_sink *sink);
/* rows_max 0: all. sink->done(tag), or done(NULL) when suspended. begin() is not called. */
MAYYIELD bool session_execute(struct session *s, const char *portal, uint64_t rows_max,
                              struct row_sink *sink);
NOYIELD void session_close_statement(struct session *s, const char *name);
NOYIELD void session_close_portal(struct session *s, const char *name);
/* Ends the implicit transaction: commits it, or rolls back after an error. A commit that fails is
 * told to sink->failed(). */
MAYYIELD NODISCARD struct status session_sync(struct session *s, struct row_sink *sink);
