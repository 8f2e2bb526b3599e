/*
 * interrupt.c -- sigwait and its kin.
 */
#include "cli/client/interrupt.h"

#include <time.h>

#include "cli/client/process.h"

void interrupt_init(struct interrupt *i)
{
    i->seen = 0;
    (void)sigemptyset(&i->set);
    (void)sigaddset(&i->set, SIGINT);
    (void)sigaddset(&i->set, SIGTERM);
    (void)sigaddset(&i->set, SIGHUP);
    (void)sigaddset(&i->set, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &i->set, NULL); /* Fails only for arguments that make no sense. */
}

static void take(struct interrupt *i, int signum)
{
    if (signum == SIGCHLD) {
        process_reap();
    } else if (signum > 0 && i->seen == 0) {
        i->seen = signum;
    }
}

bool interrupt_pending(void *ctx)
{
    struct interrupt *i = ctx;
    const struct timespec none = {0};
    int signum = 0;

    while ((signum = sigtimedwait(&i->set, NULL, &none)) > 0) {
        take(i, signum);
    }
    return i->seen != 0;
}

void interrupt_wait(struct interrupt *i)
{
    while (i->seen == 0) {
        take(i, sigwaitinfo(&i->set, NULL));
    }
}
