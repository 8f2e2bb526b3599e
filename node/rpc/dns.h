/*
 * dns.h -- names of peers to numeric addresses, by c-ares on the shard's loop.
 *
 * Names: "host:port", "[v6]:port", or "_service._proto.domain" (SRV). Numeric hosts need no resolver:
 * ask dns_parse_numeric() first.
 *
 * Runs on: one shard; callbacks in its turns, never from inside dns_query_start().
 */
#pragma once

#include "node/base/status.h"
#include "node/runtime/env.h"
#include "node/runtime/shard.h"

#define DNS_NAME_MAX      255u
#define DNS_ADDRESSES_MAX 8u
#define DNS_QUERIES_MAX   256u

struct dns;
struct dns_query;

struct dns_options {
    struct shard *shard;
    const char *servers; /* "127.0.0.1:5353,..."; NULL: the system's. */
};

NOYIELD NODISCARD struct status dns_create(const struct dns_options *o, struct dns **out);
/* Forgets all queries; their callbacks are not called. Accepts NULL. */
NOYIELD void dns_destroy(struct dns *d);

/* Errors: STATUS_NOT_FOUND (it is a name), STATUS_INVALID (neither a name nor an address). */
NOYIELD NODISCARD struct status dns_parse_numeric(const char *address, struct env_address *out);
NOYIELD bool dns_is_loopback(const struct env_address *a);

/* `count` is at least 1 when OK; addresses in the order in which they should be tried. */
typedef void (*dns_done)(void *ctx, struct status st, const struct env_address *addresses,
                         uint32_t count);

/* Errors: STATUS_INVALID (not a name), STATUS_OVERLOADED, STATUS_MEMORY; done is not called then. */
NOYIELD NODISCARD struct status dns_query_start(struct dns *d, const char *address, dns_done done,
                                                void *ctx, struct dns_query **out);
/* Before done was called; it will not be. Accepts NULL. */
NOYIELD void dns_query_cancel(struct dns_query *q);
