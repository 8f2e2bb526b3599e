/*
 * ports.h -- TCP ports of loopback that nobody uses, kept for processes that are about to start.
 *
 * A port that was free a moment ago may be taken by the time a node listens. So a port is kept by a
 * socket that is bound to it but does not listen: another search sees it as taken, while the node, which
 * binds with SO_REUSEADDR, is let in beside it. Ports lie below 32768, where the kernel's own choices
 * for outgoing connections begin.
 */
#pragma once

#include <stdint.h>

#include "node/base/arena.h"
#include "node/base/status.h"

#define PORTS_MAX 96u

struct ports {
    int fds[PORTS_MAX];
    uint32_t count;
};

NOYIELD void ports_init(struct ports *p);
NOYIELD void ports_release(struct ports *p); /* Leaves it as ports_init() does. */

/* Keeps `count` ports in a row, if possible from `wanted` on; 0: anywhere. Errors: STATUS_UNAVAILABLE. */
NOYIELD NODISCARD struct status ports_find(struct ports *p, uint16_t wanted, uint32_t count,
                                           uint16_t *first_out);
/* Keeps this one. Errors: STATUS_EXISTS (somebody else uses it; the message names it). */
NOYIELD NODISCARD struct status ports_keep(struct ports *p, uint16_t port, struct arena *msg_arena);
