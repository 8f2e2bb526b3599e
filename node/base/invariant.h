/*
 * invariant.h -- what must hold.
 *
 * INVARIANT stays on in production: broken means that this process stops and its replicas carry on.
 * DCHECK is for costly checks in debug and simulator builds. NEVER marks a branch that cannot
 * happen but would hurt. Bytes from users, network and disk are never asserted.
 */
#pragma once

#include <stdbool.h>

#include "node/base/attributes.h"

#define INVARIANT(cond)                                  \
    do {                                                 \
        if (__builtin_expect(!(cond), 0)) {              \
            invariant_broken(#cond, __FILE__, __LINE__); \
        }                                                \
    } while (0)

#ifdef DSQL_DEBUG
#define DCHECK(cond) INVARIANT(cond)
#else
#define DCHECK(cond) ((void)sizeof(cond))
#endif

#define NEVER(cond) (__builtin_expect((cond), 0) && invariant_never(#cond, __FILE__, __LINE__))

/* Prints the condition and a backtrace to stderr and aborts. */
NOYIELD _Noreturn void invariant_broken(const char *cond, const char *file, int line);

/* Reports in debug builds by stopping; in release builds logs and returns true. */
NOYIELD bool invariant_never(const char *cond, const char *file, int line);
