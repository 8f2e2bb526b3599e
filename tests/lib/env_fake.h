/*
 * env_fake.h -- a small env for unit tests: a clock set by hand, jobs done inline, sockets in memory.
 *
 * A world holds one clock, one network and any number of shards, all in the thread of the test:
 *
 *     struct fake_world *w = fake_world_create();
 *     struct shard *s = fake_world_add_shard(w);
 *     EXPECT_OK(fiber_spawn(s, "t", body, &ctx));
 *     fake_world_settle(w);                    // until nothing is due at the present time
 *     fake_world_advance(w, 5 * 1000 * 1000);  // 5 ms later, every timer on the way
 *     fake_world_destroy(w);
 *
 * Time stands still except in fake_world_advance(). Everything is in a fixed order: same calls, same
 * result. It has no faults and no latency; the simulator in tests/sim has.
 *
 * Network: env_connect() reaches the listener of the same port in the world, whatever the host says;
 * nobody there is STATUS_UNAVAILABLE. Watches of descriptors are STATUS_UNSUPPORTED.
 */
#pragma once

#include "node/runtime/env.h"
#include "node/runtime/shard.h"

struct fake_world;

NOYIELD struct fake_world *fake_world_create(void);
/* Closes all streams (on_closed is called), then destroys the shards: their fibers must have ended. */
NOYIELD void fake_world_destroy(struct fake_world *w);

/* A new shard on a new env; index counts from 0. Borrowed. */
NOYIELD struct shard *fake_world_add_shard(struct fake_world *w);
/* Only the env, for tests that create their own shard on it (and destroy it before the world). */
NOYIELD struct env *fake_world_add_env(struct fake_world *w);

/* Runs turns and delivers events until nothing is due now. */
NOYIELD void fake_world_settle(struct fake_world *w);
/* Settles, then moves the clock on by `ns`, stopping and settling at every time that was asked for. */
NOYIELD void fake_world_advance(struct fake_world *w, uint64_t ns);
NOYIELD uint64_t fake_world_now_ns(const struct fake_world *w);
/* Moves the clock only; nothing runs. For tests of what takes long within a turn. */
NOYIELD void fake_world_pass(struct fake_world *w, uint64_t ns);

/* While held, submitted jobs wait; released, they are done in order at the next settle. */
NOYIELD void fake_world_hold_jobs(struct fake_world *w, bool hold);

/* Holds back the jobs of one env: whole, or only the news that they have ended, so that what they did is
 * visible before their shard knows. */
enum fake_hold {
    FAKE_HOLD_NOTHING,
    FAKE_HOLD_JOBS,
    FAKE_HOLD_DONE,
};
NOYIELD void fake_env_hold(struct env *e, enum fake_hold what);
/* Lets that many of them go on at the next settle. */
NOYIELD void fake_env_let_through(struct env *e, uint32_t jobs);

/* Wall clock of one env, from now on moving with the world's clock. Starts at 2023-11-14T22:13:20Z. */
NOYIELD void fake_env_set_wall(struct env *e, uint64_t wall_ns);

/* Errors and above that were logged on shards of this world (they fail nothing by themselves). */
NOYIELD uint64_t fake_world_errors_logged(const struct fake_world *w);
