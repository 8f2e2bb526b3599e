/*
 * ports.c -- binding without listening.
 *
 * The socket binds without SO_REUSEADDR, which fails beside any other socket of the port; only then
 * the option is set, which admits one that sets it too as long as we do not listen (Linux looks at
 * both sockets when the second one binds). A port that was ours before is kept with the option from the
 * start, since connections that ended lately still stand on it.
 */
#include "cli/client/ports.h"

#include <netinet/in.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "node/base/invariant.h"

#define LOWEST  10000u
#define HIGHEST 32767u
#define TRIES   64u

void ports_init(struct ports *p)
{
    *p = (struct ports){.count = 0};
}

void ports_release(struct ports *p)
{
    for (uint32_t i = 0; i < p->count; i++) {
        (void)close(p->fds[i]);
    }
    p->count = 0;
}

/* `again`: sockets of a program that used the port and ended may still be about. */
static bool keep(struct ports *p, uint16_t port, bool again)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    const struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    INVARIANT(p->count < PORTS_MAX);
    if (fd < 0) {
        return false;
    }
    if ((again && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0) ||
        bind(fd, (const struct sockaddr *)&at, sizeof(at)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0) {
        (void)close(fd);
        return false;
    }
    p->fds[p->count++] = fd;
    return true;
}

static bool keep_row(struct ports *p, uint32_t first, uint32_t count)
{
    const uint32_t before = p->count;

    for (uint32_t i = 0; i < count; i++) {
        if (!keep(p, (uint16_t)(first + i), false)) {
            while (p->count > before) {
                (void)close(p->fds[--p->count]);
            }
            return false;
        }
    }
    return true;
}

struct status ports_find(struct ports *p, uint16_t wanted, uint32_t count, uint16_t *first_out)
{
    uint32_t first = wanted;

    INVARIANT(count <= PORTS_MAX - p->count);
    for (uint32_t i = 0; i < TRIES; i++) {
        uint32_t random = i;

        if (first > 0 && first + count - 1 <= HIGHEST && keep_row(p, first, count)) {
            *first_out = (uint16_t)first;
            return OK;
        }
        if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
            random = i * count; /* The next row then. */
        }
        first = LOWEST + random % (HIGHEST - LOWEST - count);
    }
    return FAIL(STATUS_UNAVAILABLE, "could not find enough free ports below 32768");
}

struct status ports_keep(struct ports *p, uint16_t port, struct arena *msg_arena)
{
    return keep(p, port, true)
               ? OK
               : FAIL(STATUS_EXISTS,
                      arena_printf(msg_arena, "port %u is used by another program", port));
}
