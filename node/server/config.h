/*
 * config.h -- what the command line of `dsqld start` says.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/arena.h"
#include "node/base/log.h"
#include "node/base/status.h"
#include "node/server/node.h"
#include "regions/locality/locality.h"

#define CONFIG_DELAYS_MAX 1024u

/* Texts are borrowed from argv or live in the arena. */
struct config {
    const char *store_path;
    const char *listen_rpc;    /* "host:port" */
    const char *advertise_rpc; /* NULL: the bound address. */
    const char *listen_sql;
    const char *listen_http;
    struct locality locality;
    const char *join[NODE_JOIN_MAX];
    uint32_t join_count;
    uint32_t shards;
    const char *certs_dir; /* NULL with insecure. */
    bool insecure;
    bool demo;            /* Allows the endpoints that delay and cut links. */
    const char *rtt_file; /* Demo: simulated round trips between localities; NULL: none. */
    uint32_t cache_mib;
    uint64_t max_offset_ms;
    uint32_t voters;        /* 0: by the number of nodes. */
    uint32_t range_max_kib; /* 0: the default; these three. */
    uint32_t merge_after_s;
    uint32_t dead_after_s;
    uint32_t gc_ttl_s;
    uint32_t check_period_s;
    enum log_level log_level;
};

#define CONFIG_SHARDS_DEFAULT    1u
#define CONFIG_CACHE_MIB_DEFAULT 64u

/* Reads the arguments behind the verb. Errors: STATUS_INVALID; the message names the flag and says
 * what is expected. */
NOYIELD NODISCARD struct status config_parse(int argc, char **argv, struct arena *arena,
                                             struct config *out);
/* Text of `dsqld start --help`. */
NOYIELD const char *config_help(void);
/* Splits "host:port" or "[v6]:port"; the host may be empty ("" means 127.0.0.1). */
NOYIELD NODISCARD struct status config_address(const char *text, struct arena *arena,
                                               struct env_address *out);
