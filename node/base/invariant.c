/*
 * invariant.c -- stopping a process that can no longer trust itself.
 *
 * The text goes straight to stderr: the log may be part of what is broken.
 */
#include "node/base/invariant.h"

#include <execinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define FRAMES_MAX 48

void invariant_broken(const char *cond, const char *file, int line)
{
    void *frames[FRAMES_MAX];
    int count = 0;

    (void)fprintf(stderr, "invariant broken at %s:%d: %s\n", file, line, cond);
    (void)fflush(stderr);
    count = backtrace(frames, FRAMES_MAX);
    backtrace_symbols_fd(frames, count, STDERR_FILENO);
    abort();
}

bool invariant_never(const char *cond, const char *file, int line)
{
#ifdef DSQL_DEBUG
    invariant_broken(cond, file, line);
#else
    (void)fprintf(stderr, "never-branch taken at %s:%d: %s\n", file, line, cond);
    return true;
#endif
}
