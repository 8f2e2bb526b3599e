/*
 * env_uv.h -- the env of the real server: a libuv loop per shard, a writer thread, a small pool.
 *
 * env_uv_run() is the body of a shard's thread. Standard output belongs to the program, logs go to
 * the sink given to the shard.
 */
#pragma once

#include "node/runtime/env.h"
#include "node/runtime/shard.h"

struct env_uv_options {
    uint32_t io_threads; /* 0: 2. */
};

NOYIELD NODISCARD struct status env_uv_create(const struct env_uv_options *o, struct env **out);

/* Runs turns of env->shard until env_uv_stop(); the loop is empty when it returns. */
NOYIELD void env_uv_run(struct env *e);
/* From any thread or signal-safe context of the loop: leave env_uv_run() soon. */
NOYIELD void env_uv_stop(struct env *e);
NOYIELD void env_uv_destroy(struct env *e);

/* Calls fn(ctx, signum) on the shard when one of the signals arrives (SIGINT, SIGTERM, SIGHUP).
 * Once per process, on shard 0. */
NOYIELD NODISCARD struct status env_uv_on_signal(struct env *e, int signum,
                                                 void (*fn)(void *ctx, int signum), void *ctx);

/* A log sink that writes JSON lines with wall time to a file descriptor. */
NOYIELD NODISCARD struct status log_sink_fd_create(int fd, enum log_level min_level,
                                                   struct log_sink **out);
NOYIELD void log_sink_fd_destroy(struct log_sink *s);
