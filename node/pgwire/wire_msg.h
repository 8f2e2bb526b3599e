/*
 * wire_msg.h -- the bodies of a client's messages, taken apart.
 *
 * Pure functions over bytes that a stranger sent. Every count is compared with the bytes that are
 * there before anything is allocated. Strings are borrowed from the body (they end in NUL there),
 * arrays live in the arena.
 *
 * Errors of all:  STATUS_INVALID  not what the protocol says (08P01), with a message;
 *                 STATUS_MEMORY   the arena is at its limit.
 * Source:         PostgreSQL 15, chapter 55.7, "Message Formats".
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/arena.h"
#include "node/base/bytes.h"
#include "node/base/status.h"
#include "node/sql/session/session.h"

/* Codes in the place of a protocol version. */
#define WIRE_CANCEL_REQUEST 80877102u
#define WIRE_SSL_REQUEST    80877103u
#define WIRE_GSS_REQUEST    80877104u
#define WIRE_VERSION_MAJOR  3u

#define WIRE_STARTUP_MAX 10000u

/*
 * Length of the startup packet at the head of `in`, 0 when its first 4 bytes are not there yet.
 * Errors: STATUS_INVALID (shorter than 8 or longer than WIRE_STARTUP_MAX).
 */
NOYIELD NODISCARD struct status wire_startup_length(struct bytes in, size_t *length_out);

struct wire_startup {
    uint32_t code;       /* One of the above, or major << 16 | minor. */
    uint32_t cancel_pid; /* CancelRequest only. */
    uint32_t cancel_key;
    struct bytes params; /* Read with wire_startup_param(). */
};
/* `packet` is whole, its length included. */
NOYIELD NODISCARD struct status wire_startup_parse(struct bytes packet, struct wire_startup *out);
/* The next parameter; false at the end. Errors were found by wire_startup_parse(). */
NOYIELD bool wire_startup_param(struct bytes *params, const char **name, const char **value);

/*
 * The next word of the startup parameter `options` ("-c a=b --c=d -cx=1"): name and value, cut out of
 * a copy in the arena. false at the end. A word that is no setting gives name "".
 */
NOYIELD bool wire_options_next(const char **rest, struct arena *arena, const char **name,
                               const char **value);

NOYIELD NODISCARD struct status wire_query_parse(struct bytes body, struct bytes *text);

struct wire_parse {
    const char *name;
    struct bytes text;
    const oid *types;
    uint16_t types_count;
};
NOYIELD NODISCARD struct status wire_parse_parse(struct bytes body, struct arena *arena,
                                                 struct wire_parse *out);
NOYIELD NODISCARD struct status wire_bind_parse(struct bytes body, struct arena *arena,
                                                struct session_bind *out);
/* Describe and Close: kind is 'S' or 'P'. */
NOYIELD NODISCARD struct status wire_target_parse(struct bytes body, char *kind, const char **name);
/* rows_max 0: all. */
NOYIELD NODISCARD struct status wire_execute_parse(struct bytes body, const char **portal,
                                                   uint64_t *rows_max);
