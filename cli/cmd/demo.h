/*
 * demo.h -- what the commands below "dsqlctl demo" share.
 */
#pragma once

#include "cli/cmd/cmd.h"
#include "cli/demo/demo.h"

extern const struct command cmd_demo_status;
extern const struct command cmd_demo_stop;
extern const struct command cmd_demo_kill;
extern const struct command cmd_demo_restart;
extern const struct command cmd_demo_pause;
extern const struct command cmd_demo_resume;
extern const struct command cmd_demo_partition;
extern const struct command cmd_demo_heal;

#define DEMO_DIR_FLAG(type)                                                                \
    {                                                                                      \
        .name = "--dir", .kind = FLAG_TEXT, .offset = offsetof(type, dir), .value = "DIR", \
        .help = "where the demo cluster stands (default ~/.local/state/dsql-demo)"         \
    }

/* A demo cluster that a command works on. */
struct demo_session {
    struct demo *demo;
    int lock; /* -1: it only looks. */
};

/* Finds and loads it; with `change` under its lock. Errors: as demo_load() and demo_lock(). */
MAYYIELD NODISCARD struct status demo_open(struct cli *c, const char *dir, bool change,
                                           struct demo_session *out);
/* Gives the lock back. */
NOYIELD void demo_close(struct demo_session *s);
/* " --dir DIR" when the directory is not the usual one, for hints. */
NOYIELD const char *demo_dir_hint(struct cli *c, const struct demo *d);
