/*
 * view.h -- what a running statement may know of its session, as an immutable view.
 *
 * The session fills one for each execution; everything in it stays unchanged and alive until the
 * execution ends. Functions such as now() and current_user answer from here and from nowhere else.
 */
#pragma once

#include <stdint.h>

#include "node/sql/types/type_io.h"

struct env;

/* follower_read_timestamp() is so long ago: what replicas lag behind, what that is told late, a margin. */
#define SQL_FOLLOWER_READ_LAG_US ((int64_t)3700000)

struct sql_view {
    struct type_settings types; /* Time zone, extra_float_digits. */
    int64_t txn_start_us;       /* now(), of the gateway's clock; since 2000-01-01 UTC. */
    int64_t statement_start_us; /* statement_timestamp(). */
    /* clock_timestamp(); NULL answers statement_start_us. */
    int64_t (*clock_us)(void *ctx);
    /* unique_rowid(), for the hidden keys of tables; NULL makes one from clock and backend_pid. */
    int64_t (*unique_rowid)(void *ctx);
    /* current_setting(): NULL when there is no such parameter. May be NULL itself. */
    const char *(*setting)(void *ctx, const char *name);
    void *ctx;
    struct env *env; /* random(), gen_random_uuid(). */
    const char *user;
    const char *session_user;
    const char *database;
    const char *region;
    uint32_t backend_pid;
};
