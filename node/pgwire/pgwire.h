/*
 * pgwire.h -- PostgreSQL clients: a listening port, and a fiber per connection that speaks protocol 3.
 *
 * One server object per shard. With share_port every shard of the process listens on the same port
 * and the system spreads connections over them; a connection stays with its shard.
 *
 * Runs on: its shard.
 * Source:  PostgreSQL 15, chapter 55, "Frontend/Backend Protocol".
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/status.h"
#include "node/runtime/env.h"

struct pgwire;
struct shard;
struct sql;
struct tls_config;

/* Who may come in. Nobody is let in on any other ground: no passwords yet. */
enum pgwire_auth {
    /* Anybody, under any name, from 127.0.0.0/8 and ::1. Others are refused with 28000. */
    PGWIRE_AUTH_TRUST_LOOPBACK,
    /* TLS with a certificate of our CA; its common name is the user. Others are refused with 28000. */
    PGWIRE_AUTH_CERT,
};

#define PGWIRE_CONNECTIONS_DEFAULT 5000u
#define PGWIRE_CONNECTIONS_MAX     15000u /* Fibers are SHARD_FIBERS_MAX. */
#define PGWIRE_LOGIN_MAX           1000u /* Connections that have not logged in yet, beside those. */
#define PGWIRE_LOGIN_BYTES_MAX     65536u /* What one of them may send. */
#define PGWIRE_LOGIN_NS            ((uint64_t)10000000000)
#define PGWIRE_MESSAGE_MAX         ((size_t)64 << 20)

struct pgwire_options {
    struct shard *shard;
    struct sql *sql;           /* Borrowed; outlives the server. */
    struct env_address listen; /* Port 0: any free one. */
    bool share_port;
    struct tls_config *tls; /* Borrowed; NULL: TLS is answered with 'N'. Its
                             * require_peer_cert belongs to PGWIRE_AUTH_CERT. */
    enum pgwire_auth auth;
    uint32_t connections_max; /* 0: PGWIRE_CONNECTIONS_DEFAULT. More are refused with 53300. */
    uint32_t node;            /* Node id: part of the backend pids. */
};

/* Errors: STATUS_INVALID (PGWIRE_AUTH_CERT without tls, limits), those of env_listen(). */
NOYIELD NODISCARD struct status pgwire_create(const struct pgwire_options *o, struct pgwire **out);
NOYIELD uint16_t pgwire_port(const struct pgwire *p);
NOYIELD uint32_t pgwire_connections(const struct pgwire *p);

/*
 * Accepts nobody from now on. Idle connections are told 57P01 and closed; the others end their
 * transaction first, but at most drain_ns from now: then their statements are cancelled and they are
 * closed. Calling it again can only shorten that.
 */
NOYIELD void pgwire_stop(struct pgwire *p, uint64_t drain_ns);
/* Has every connection ended, and what sql runs in the background? Only then may the server, and
 * after it sql, be destroyed. */
NOYIELD bool pgwire_stopped(const struct pgwire *p);
/* Accepts NULL. */
NOYIELD void pgwire_destroy(struct pgwire *p);
