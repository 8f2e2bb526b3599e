/*
 * view.h -- what the nodes of a cluster say about themselves, asked one by one.
 *
 * One node knows all others by name, address and whether they are live; what a node holds, only itself
 * knows. So a command asks one for the list and then every live one for its own part.
 */
#pragma once

#include "cli/client/http_client.h"
#include "cli/client/json_read.h"
#include "cli/cmd/cmd.h"

#define VIEW_NODES_MAX HTTP_CALLS_MAX

/* Embedded as `view` in the options of a command. */
struct view_options {
    const char *url; /* NULL: the demo cluster. */
    const char *dir;
    enum cli_output output;
};

#define VIEW_FLAGS(type)                                                                        \
    {.name = "--url",                                                                           \
     .kind = FLAG_TEXT,                                                                         \
     .offset = offsetof(type, view.url),                                                        \
     .value = "URL",                                                                            \
     .help = "admin address of a node, http://HOST:PORT (default: the demo)"},                  \
    {                                                                                           \
        .name = "--dir", .kind = FLAG_TEXT, .offset = offsetof(type, view.dir), .value = "DIR", \
        .help = "where the demo cluster stands"                                                 \
    }

#define VIEW_OUTPUT_FLAG(type)                                                          \
    {                                                                                   \
        .name = "--output", .kind = FLAG_OUTPUT, .offset = offsetof(type, view.output), \
        .value = "table|json", .help = "for people or for programs (default table)"     \
    }

struct view_node {
    uint64_t id;
    const char *region;
    const char *zone;
    const char *sql_address;
    const char *rpc_address;
    const char *http_address;
    uint64_t pid;
    bool live;                     /* In the eyes of the node that gave the list. */
    const struct json_value *self; /* Its own words; NULL: it was not asked or did not answer. */
};

struct view {
    struct view_node *nodes; /* By id. */
    uint32_t count;
};

/* Errors: STATUS_UNAVAILABLE (nobody answers; the message says why), STATUS_CORRUPT (an answer that
 * is none), and those of finding the demo cluster. */
MAYYIELD NODISCARD struct status view_load(struct cli *c, const struct view_options *o,
                                           struct view *out);
/* Asks every live node for `path`; answers[i] is NULL where none came. */
MAYYIELD NODISCARD struct status view_ask(struct cli *c, const struct view *v, const char *path,
                                          const struct json_value **answers);
NOYIELD const char *view_url(struct cli *c, const struct view_node *n, const char *path);
