/*
 * config.c -- flags, one table; every refusal names the flag and the way out.
 */
#include "node/server/config.h"

#include <stdlib.h>
#include <string.h>

#include "node/base/codec.h"

enum flag_kind {
    FLAG_TEXT,
    FLAG_NUMBER,
    FLAG_SWITCH,
    FLAG_LOCALITY,
    FLAG_JOIN,
    FLAG_LOG_LEVEL,
};

struct flag {
    const char *name;
    enum flag_kind kind;
    size_t offset;
    uint64_t min;
    uint64_t max;
};

#define TEXT(name, field)                                     \
    {                                                         \
        name, FLAG_TEXT, offsetof(struct config, field), 0, 0 \
    }
#define NUMBER(name, field, lo, hi)                               \
    {                                                             \
        name, FLAG_NUMBER, offsetof(struct config, field), lo, hi \
    }
#define SWITCH(name, field)                                     \
    {                                                           \
        name, FLAG_SWITCH, offsetof(struct config, field), 0, 0 \
    }

static const struct flag flags[] = {
    TEXT("--store", store_path),
    TEXT("--listen-rpc", listen_rpc),
    TEXT("--advertise-rpc", advertise_rpc),
    TEXT("--listen-sql", listen_sql),
    TEXT("--listen-http", listen_http),
    {"--locality", FLAG_LOCALITY, 0, 0, 0},
    {"--join", FLAG_JOIN, 0, 0, 0},
    NUMBER("--shards", shards, 1, NODE_SHARDS_MAX),
    TEXT("--certs-dir", certs_dir),
    SWITCH("--insecure", insecure),
    SWITCH("--demo", demo),
    TEXT("--rtt", rtt_file),
    NUMBER("--cache-mib", cache_mib, 1, 1u << 20),
    NUMBER("--max-offset-ms", max_offset_ms, 1, 5000),
    NUMBER("--voters", voters, 0, 7),
    NUMBER("--range-max-kib", range_max_kib, 16, 1u << 24),
    NUMBER("--merge-after-s", merge_after_s, 1, 1u << 24),
    NUMBER("--dead-after-s", dead_after_s, 1, 1u << 24),
    NUMBER("--gc-ttl-s", gc_ttl_s, 1, 1u << 24),
    NUMBER("--check-period-s", check_period_s, 1, 1u << 24),
    {"--log-level", FLAG_LOG_LEVEL, 0, 0, 0},
};

const char *config_help(void)
{
    return "usage: dsqld start --store DIR [flags]\n"
           "\n"
           "  --store DIR               where this node keeps its data (required)\n"
           "  --listen-rpc HOST:PORT    for other nodes            (default 127.0.0.1:26257)\n"
           "  --advertise-rpc HOST:PORT what other nodes dial      (default: the address listened "
           "on)\n"
           "  --listen-sql HOST:PORT    for PostgreSQL clients     (default 127.0.0.1:5433)\n"
           "  --listen-http HOST:PORT   /health, /metrics, admin   (default 127.0.0.1:8080)\n"
           "  --locality region=R,zone=Z  where this node stands   (default "
           "region=local,zone=local)\n"
           "  --join HOST:PORT          a node of the cluster to join; may be repeated or listed "
           "with\n"
           "                            commas. An empty store without --join starts a new "
           "cluster.\n"
           "  --shards N                threads, each with its own store (default 1; cannot change "
           "later)\n"
           "  --certs-dir DIR           ca.crt, node.crt, node.key (see dsqlctl cert)\n"
           "  --insecure                no TLS; loopback addresses only\n"
           "  --cache-mib N             block cache per shard      (default 64)\n"
           "  --max-offset-ms N         bound on clock differences (default 250)\n"
           "  --voters N                replicas that vote, per range; 0: by the number of nodes\n"
           "  --range-max-kib N         a larger range is split    (default 262144)\n"
           "  --merge-after-s N         small neighbours merge after that time (default 300)\n"
           "  --dead-after-s N          replicas of a node silent for that long are replaced "
           "(default "
           "300)\n"
           "  --gc-ttl-s N              old versions are kept that long (default 14400)\n"
           "  --check-period-s N        replicas are compared that often (default 86400)\n"
           "  --log-level LEVEL         debug, info, warn, error   (default info)\n"
           "  --demo, --rtt FILE        simulated round trips and link cuts, used by dsqlctl "
           "demo\n";
}

static struct status parse_number(const struct flag *f, const char *value, struct arena *arena,
                                  struct config *c)
{
    char *end = NULL;
    const unsigned long long v = strtoull(value, &end, 10);
    uint8_t *field = (uint8_t *)c + f->offset;

    if (*value < '0' || *value > '9' || *end != '\0' || v < f->min || v > f->max) {
        return FAIL(STATUS_INVALID,
                    arena_printf(arena, "%s wants a number from %llu to %llu, not \"%s\"", f->name,
                                 (unsigned long long)f->min, (unsigned long long)f->max, value));
    }
    if (f->offset == offsetof(struct config, max_offset_ms)) {
        c->max_offset_ms = v;
    } else {
        const uint32_t v32 = (uint32_t)v;

        memcpy(field, &v32, sizeof(v32));
    }
    return OK;
}

static struct status parse_join(const char *value, struct arena *arena, struct config *c)
{
    const uint32_t before = c->join_count;
    const char *at = value;

    while (*at != '\0') {
        const size_t n = strcspn(at, ",");

        if (n > 0) {
            if (c->join_count == NODE_JOIN_MAX) {
                return FAIL(STATUS_INVALID, "too many addresses behind --join");
            }
            c->join[c->join_count] = arena_strndup(arena, at, n);
            if (c->join[c->join_count++] == NULL) {
                return FAIL(STATUS_MEMORY, "out of memory");
            }
        }
        at += n + (at[n] == ',' ? 1 : 0);
    }
    /* Nobody to join means a new cluster: never by an empty variable in somebody's script. */
    return c->join_count > before
               ? OK
               : FAIL(STATUS_INVALID, "--join wants addresses: HOST:PORT[,HOST:PORT...]");
}

static struct status parse_log_level(const char *value, struct arena *arena, struct config *c)
{
    for (int level = LOG_LEVEL_DEBUG; level <= LOG_LEVEL_ERROR; level++) {
        if (strcmp(value, log_level_text((enum log_level)level)) == 0) {
            c->log_level = (enum log_level)level;
            return OK;
        }
    }
    return FAIL(
        STATUS_INVALID,
        arena_printf(arena, "--log-level wants debug, info, warn or error, not \"%s\"", value));
}

static struct status parse_locality(const char *value, struct arena *arena, struct config *c)
{
    const struct status st = locality_parse(bytes_str(value), arena, &c->locality);

    return status_ok(st) ? OK
                         : FAIL(STATUS_INVALID, arena_printf(arena, "--locality \"%s\": %s", value,
                                                             status_text(st)));
}

static struct status set_flag(const struct flag *f, const char *value, struct arena *arena,
                              struct config *c)
{
    switch (f->kind) {
    case FLAG_TEXT:
        memcpy((uint8_t *)c + f->offset, &value, sizeof(value));
        return OK;
    case FLAG_NUMBER:
        return parse_number(f, value, arena, c);
    case FLAG_SWITCH:
        *((bool *)c + f->offset) = true; /* bool is one byte. */
        return OK;
    case FLAG_LOCALITY:
        return parse_locality(value, arena, c);
    case FLAG_JOIN:
        return parse_join(value, arena, c);
    case FLAG_LOG_LEVEL:
        return parse_log_level(value, arena, c);
    }
    return OK;
}

/* "--flag value" or "--flag=value"; *used arguments were consumed. */
static struct status parse_one(int argc, char **argv, int i, struct arena *arena, struct config *c,
                               int *used)
{
    for (size_t k = 0; k < ARRAY_COUNT(flags); k++) {
        const struct flag *f = &flags[k];
        const size_t n = strlen(f->name);
        const char *value = NULL;

        if (strncmp(argv[i], f->name, n) != 0 || (argv[i][n] != '\0' && argv[i][n] != '=')) {
            continue;
        }
        *used = 1;
        if (argv[i][n] == '=' && f->kind == FLAG_SWITCH) {
            return FAIL(STATUS_INVALID, arena_printf(arena, "%s takes no value", f->name));
        }
        if (argv[i][n] == '=') {
            value = argv[i] + n + 1;
        } else if (f->kind != FLAG_SWITCH) {
            if (i + 1 >= argc) {
                return FAIL(STATUS_INVALID, arena_printf(arena, "%s wants a value", f->name));
            }
            value = argv[i + 1];
            *used = 2;
        }
        return set_flag(f, value, arena, c);
    }
    return FAIL(STATUS_INVALID,
                arena_printf(arena, "unknown flag \"%s\"; see dsqld start --help", argv[i]));
}

static struct status check(struct config *c)
{
    if (c->store_path == NULL || c->store_path[0] == '\0') {
        return FAIL(STATUS_INVALID, "--store is missing: name the directory for this node's data");
    }
    if (c->insecure == (c->certs_dir != NULL)) {
        return FAIL(STATUS_INVALID, "either --certs-dir DIR (see dsqlctl cert) or --insecure, "
                                    "which listens on loopback only");
    }
    if (c->rtt_file != NULL && !c->demo) {
        return FAIL(STATUS_INVALID, "--rtt simulates a network and wants --demo");
    }
    return OK;
}

struct status config_parse(int argc, char **argv, struct arena *arena, struct config *out)
{
    *out = (struct config){
        .listen_rpc = "127.0.0.1:26257",
        .listen_sql = "127.0.0.1:5433",
        .listen_http = "127.0.0.1:8080",
        .shards = CONFIG_SHARDS_DEFAULT,
        .cache_mib = CONFIG_CACHE_MIB_DEFAULT,
        .max_offset_ms = HLC_MAX_OFFSET_NS_DEFAULT / 1000000u,
        .log_level = LOG_LEVEL_INFO,
    };
    TRY(locality_parse(BYTES_LIT("region=local,zone=local"), arena, &out->locality));
    for (int i = 0; i < argc;) {
        int used = 0;

        TRY(parse_one(argc, argv, i, arena, out, &used));
        i += used;
    }
    return check(out);
}

struct status config_address(const char *text, struct arena *arena, struct env_address *out)
{
    const char *colon = strrchr(text, ':');
    const char *host = text;
    size_t n = colon == NULL ? 0 : (size_t)(colon - text);
    char *end = NULL;
    unsigned long port = 0;

    *out = (struct env_address){0};
    if (colon != NULL) {
        port = strtoul(colon + 1, &end, 10);
    }
    if (colon == NULL || colon[1] < '0' || colon[1] > '9' || *end != '\0' || port > 65535) {
        return FAIL(STATUS_INVALID,
                    arena_printf(arena, "\"%s\" is no address: HOST:PORT is expected", text));
    }
    if (n >= 2 && host[0] == '[' && host[n - 1] == ']') {
        host++;
        n -= 2;
    }
    if (n == 0 || (n == 9 && memcmp(host, "localhost", 9) == 0)) {
        host = "127.0.0.1";
        n = 9;
    }
    if (n >= sizeof(out->host)) {
        return FAIL(STATUS_INVALID, arena_printf(arena, "the host in \"%s\" is too long", text));
    }
    memcpy(out->host, host, n);
    out->port = (uint16_t)port;
    return OK;
}
