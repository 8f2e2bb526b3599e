/*
 * process.h -- processes that this tool starts, and may find again from another run.
 *
 * A pid alone says little: it may belong to somebody else by now. With the time at which the kernel
 * started it, and the boot that this time counts from, it names one process for good; every signal
 * checks both while it holds a handle of the process.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "node/base/arena.h"
#include "node/base/status.h"

struct process_name {
    int32_t pid;          /* 0: none. */
    uint64_t start_ticks; /* Since boot: field 22 of /proc/PID/stat. */
};

enum process_state {
    PROCESS_GONE, /* Or a zombie, or the pid is somebody else's. */
    PROCESS_RUNNING,
    PROCESS_PAUSED,
};

#define PROCESS_BOOT_SIZE 40u

/* Names this boot of the machine; "" where the kernel does not tell. */
NOYIELD void process_boot(char out[PROCESS_BOOT_SIZE]);

/*
 * Starts a program in a session of its own, so that a Ctrl-C at our terminal is not for it.
 *
 * argv      argv[0] is the path. Ends with NULL.
 * log_path  Gets its output, appended. Its input is empty.
 *
 * Errors:  STATUS_NOT_FOUND (no such program), STATUS_IO.
 */
NOYIELD NODISCARD struct status process_start(const char *const *argv, const char *log_path,
                                              struct arena *msg_arena, struct process_name *out);
NOYIELD enum process_state process_state(struct process_name p);
/* Sends to this process and no other; false when it is gone. */
NOYIELD bool process_signal(struct process_name p, int signum);
/* Collects children of ours that ended, so that their pids become free. */
NOYIELD void process_reap(void);
/* The directory of the running program. Errors: STATUS_IO. */
NOYIELD NODISCARD struct status process_own_directory(struct arena *arena, const char **out);
/* Milliseconds since some point in the past. */
NOYIELD uint64_t process_now_ms(void);
