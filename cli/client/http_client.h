/*
 * http_client.h -- requests to the admin ports of several nodes at once.
 *
 * A node that is paused or cut off must not hold up what the others say: all requests of a call run
 * side by side, each with the same time limit. No proxy, no redirects, no cookies: the only
 * addresses are the ones the caller gives.
 */
#pragma once

#include <stdint.h>

#include "node/base/arena.h"
#include "node/base/bytes.h"
#include "node/base/status.h"

#define HTTP_CALLS_MAX  256u
#define HTTP_ANSWER_MAX ((size_t)16 << 20)

struct http_call {
    bool post; /* Else GET. */
    const char *url;
    uint32_t code;      /* Out: HTTP status, 0 when no answer came. */
    struct bytes body;  /* Out: in the arena. */
    const char *reason; /* Out: why no answer came, in the arena; NULL when one came. */
};

/*
 * Sends all and waits until each has its answer or has failed; that a call failed is told by its code.
 *
 * Errors:  STATUS_MEMORY, STATUS_UNAVAILABLE (the library does not work here).
 */
MAYYIELD NODISCARD struct status http_calls(struct http_call *calls, uint32_t count,
                                            uint32_t timeout_ms, struct arena *arena);
