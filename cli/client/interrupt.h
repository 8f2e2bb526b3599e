/*
 * interrupt.h -- Ctrl-C as a question that is asked, not as an interruption that happens.
 *
 * The signals are blocked for as long as the program runs and taken from the kernel's queue when it
 * suits, so that no handler and no global variable is needed, and nothing is ever half done.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>

#include "node/base/attributes.h"

struct interrupt {
    sigset_t set;
    int seen; /* The first SIGINT, SIGTERM or SIGHUP; 0: none. */
};

NOYIELD void interrupt_init(struct interrupt *i);
/* Whether somebody asked us to end. `ctx` is a struct interrupt: fits the callbacks of waits. */
NOYIELD bool interrupt_pending(void *ctx);
/* Sleeps until somebody asks us to end; collects children meanwhile. */
MAYYIELD void interrupt_wait(struct interrupt *i);
