/*
 * process.h -- the life of a node's process: start, ready, pause, stop, crash; and its env.
 *
 * A crash tears the process down at once: the world stops listening to it, its disk keeps what a
 * power cut (or a mere kill) would have left, its fibers are cancelled and run to their ends as
 * ghosts, and all its memory is freed. Nothing of it reaches the next life but the disk.
 */
#pragma once

#include "tests/sim/world.h"

void process_init(struct sim_world *w, uint32_t index);
/* Also ends a running process. */
void process_deinit(struct sim_node *n);

void process_start(struct sim_node *n);
/* Starts it after a while, unless it was started meanwhile. */
void process_start_in(struct sim_node *n, uint64_t delay_ns);

enum process_end {
    PROCESS_KILLED,  /* Everything written stays. */
    PROCESS_POWERED, /* Of the unsynced writes a random number of the first ones stay. */
};
void process_crash(struct sim_node *n, enum process_end how);
/* Drains, then ends and starts again after that. */
void process_restart(struct sim_node *n, uint64_t down_ns);

void process_pause(struct sim_node *n, uint64_t for_ns);
void process_resume(struct sim_node *n);
static inline bool process_is_paused(const struct sim_node *n)
{
    return n->paused_until_ns > n->world->now_ns;
}

/* Before an event touches a process: true when it is paused; the event then waits for its end. */
bool process_defer(struct sim_node *n, struct sim_event *e);
/* Becomes the shard of the process; false when it is not there, or not far enough for messages. */
bool process_enter(struct sim_node *n);
/* Leaves it; a turn follows. */
void process_leave(struct sim_node *n);
/* Runs fn(arg) as a fiber of the process. False: there is none that could. */
bool process_spawn(struct sim_node *n, const char *name, void (*fn)(void *arg), void *arg);

/* The id that a machine's store has; 0: none yet. */
node_id process_node_id(const struct sim_world *w, uint32_t index);
/* UINT32_MAX: nobody has it. */
uint32_t process_find_id(const struct sim_world *w, node_id id);

/* ---- env.c ---- */
extern const struct env_ops sim_env_ops;
/* Runs all jobs to their ends now. */
void sim_env_drain(struct sim_node *n);
/* The disk answers normally again: what waits for it is not kept waiting any longer. */
void sim_env_unstall(struct sim_node *n);
/* Is there a job whose work is not done; one that is done without its news having arrived? */
void sim_env_pending(const struct sim_node *n, bool *working, bool *unknown);
