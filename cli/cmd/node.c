/*
 * node.c -- `dsqlctl node list` and `dsqlctl node drain`.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "cli/client/process.h"
#include "cli/cmd/view.h"
#include "cli/render/table.h"
#include "node/base/json.h"

#define CALL_MS          2000u
#define DRAIN_WAIT_S     30u
#define DRAIN_WAIT_S_MAX 3600u
#define PAUSE_NS         50000000L

struct node_options {
    struct view_options view;
    uint32_t wait_s;
};

static const struct flag list_flags[] = {
    VIEW_FLAGS(struct node_options),
    VIEW_OUTPUT_FLAG(struct node_options),
};

static const struct flag drain_flags[] = {
    VIEW_FLAGS(struct node_options),
    {"--wait", FLAG_NUMBER, offsetof(struct node_options, wait_s), "SECONDS",
     "how long to wait for its end (default 30)", 1, DRAIN_WAIT_S_MAX},
};

/* ---- list ---------------------------------------------------------------------------------------- */

static struct status print_json(struct cli *c, const struct view *v)
{
    struct buf b = {0};
    struct json j;
    struct status st = OK;

    json_begin(&j, &b);
    json_object(&j);
    json_key(&j, "nodes");
    json_array(&j);
    for (uint32_t i = 0; i < v->count; i++) {
        const struct view_node *n = &v->nodes[i];

        json_object(&j);
        json_kv_u64(&j, "id", n->id);
        json_kv_str(&j, "region", n->region);
        json_kv_str(&j, "zone", n->zone);
        json_kv_bool(&j, "live", n->live);
        json_kv_bool(&j, "answered", n->self != NULL);
        json_kv_u64(&j, "pid", n->pid);
        json_kv_str(&j, "sql_address", n->sql_address);
        json_kv_str(&j, "rpc_address", n->rpc_address);
        json_kv_str(&j, "http_address", n->http_address);
        if (n->self != NULL) {
            json_kv_u64(&j, "replicas", json_get_u64(n->self, "replicas"));
            json_kv_u64(&j, "leases", json_get_u64(n->self, "leases"));
            json_kv_u64(&j, "live_bytes", json_get_u64(n->self, "live_bytes"));
        }
        json_object_end(&j);
    }
    json_array_end(&j);
    json_object_end(&j);
    st = json_end(&j);
    if (status_ok(st)) {
        (void)fprintf(c->out, "%.*s\n", (int)b.len, (const char *)b.ptr);
    }
    buf_deinit(&b);
    return st;
}

static void own_cell(struct table *t, const struct view_node *n, const char *key)
{
    if (n->self == NULL) {
        table_cell(t, "?");
    } else {
        table_cell_u64(t, json_get_u64(n->self, key));
    }
}

static void print_table(struct cli *c, const struct view *v)
{
    static const struct table_column columns[] = {
        {"node", true},       {"region", false}, {"zone", false},
        {"live", false},      {"leases", true},  {"replicas", true},
        {"live bytes", true}, {"SQL", false},    {"http", false}};
    struct table t;

    table_init(&t, columns, (uint32_t)ARRAY_COUNT(columns), &c->arena);
    for (uint32_t i = 0; i < v->count; i++) {
        const struct view_node *n = &v->nodes[i];

        table_row(&t);
        table_cell_u64(&t, n->id);
        table_cell(&t, n->region);
        table_cell(&t, n->zone);
        table_cell(&t, !n->live ? "no" : (n->self == NULL ? "no answer" : "yes"));
        own_cell(&t, n, "leases");
        own_cell(&t, n, "replicas");
        own_cell(&t, n, "live_bytes");
        table_cell(&t, n->sql_address);
        table_cell(&t, n->http_address);
    }
    table_print(&t, c->out);
}

static int run_list(struct cli *c, const void *options, char **args, uint32_t args_count)
{
    const struct node_options *o = options;
    struct view v;
    struct status st = view_load(c, &o->view, &v);

    UNUSED(args);
    UNUSED(args_count);
    if (status_ok(st) && o->view.output == CLI_OUTPUT_JSON) {
        st = print_json(c, &v);
    } else if (status_ok(st)) {
        print_table(c, &v);
    }
    return status_ok(st) ? CLI_OK : cli_fail(c, st);
}

/* ---- drain --------------------------------------------------------------------------------------- */

static struct status find_node(struct cli *c, const struct view *v, const char *word,
                               const struct view_node **out)
{
    char *end = NULL;
    unsigned long id = 0;

    errno = 0;
    id = strtoul(word, &end, 10);
    for (uint32_t i = 0; errno == 0 && *end == '\0' && i < v->count; i++) {
        if (v->nodes[i].id == id) {
            *out = &v->nodes[i];
            return OK;
        }
    }
    return FAIL(STATUS_NOT_FOUND,
                arena_printf(&c->arena, "there is no node \"%s\": see dsqlctl node list", word));
}

static struct status wait_ended(struct cli *c, const struct view_node *n, uint32_t wait_s)
{
    const uint64_t until = process_now_ms() + (uint64_t)wait_s * 1000u;
    const struct timespec pause = {.tv_nsec = PAUSE_NS};

    for (;;) {
        struct http_call call = {0};
        struct arena round;
        struct status st = OK;

        arena_init(&round, 0);
        call.url = view_url(c, n, "/health");
        st = http_calls(&call, 1, CALL_MS, &round);
        arena_deinit(&round);
        if (!status_ok(st) || call.code == 0) {
            return status_ok(st) ? OK : FAIL(st.code, "could not ask the node");
        }
        if (process_now_ms() >= until) {
            return FAIL(STATUS_TIMEOUT,
                        arena_printf(&c->arena,
                                     "node %llu was asked to end, but after %u seconds "
                                     "it still runs",
                                     (unsigned long long)n->id, wait_s));
        }
        (void)nanosleep(&pause, NULL); /* Shorter is no harm. */
    }
}

static struct status drain(struct cli *c, const struct node_options *o, const char *word)
{
    const struct view_node *n = NULL;
    struct http_call call = {.post = true};
    struct view v;

    TRY(view_load(c, &o->view, &v));
    TRY(find_node(c, &v, word, &n));
    call.url = view_url(c, n, "/api/v1/drain");
    TRY(http_calls(&call, 1, CALL_MS, &c->arena));
    if (call.code != 200) {
        return FAIL(STATUS_UNAVAILABLE,
                    arena_printf(&c->arena, "node %llu does not take the request: %s",
                                 (unsigned long long)n->id,
                                 call.code == 0 ? call.reason : "it refuses"));
    }
    TRY(wait_ended(c, n, o->wait_s == 0 ? DRAIN_WAIT_S : o->wait_s));
    (void)fprintf(c->out, "Node %llu handed its work over and ended.\n", (unsigned long long)n->id);
    return OK;
}

static int run_drain(struct cli *c, const void *options, char **args, uint32_t args_count)
{
    const struct status st = drain(c, options, args[0]);

    UNUSED(args_count);
    return status_ok(st) ? CLI_OK : cli_fail(c, st);
}

/* ---- declarations -------------------------------------------------------------------------------- */

static const struct command cmd_list = {
    .path = "node list",
    .args = "",
    .summary = "Show all nodes, and what each holds.",
    .details =
        "Leases and replicas are asked from every live node itself; \"?\": it did not answer.",
    .flags = list_flags,
    .flags_count = (uint32_t)ARRAY_COUNT(list_flags),
    .options_size = sizeof(struct node_options),
    .run = run_list,
};

static const struct command cmd_drain = {
    .path = "node drain",
    .args = "<node>",
    .summary = "Stop a node in order: clients leave, leases move, then it ends.",
    .flags = drain_flags,
    .flags_count = (uint32_t)ARRAY_COUNT(drain_flags),
    .options_size = sizeof(struct node_options),
    .args_min = 1,
    .args_max = 1,
    .run = run_drain,
};

static const struct command *const subs[] = {&cmd_list, &cmd_drain};

const struct command cmd_node = {
    .path = "node",
    .args = "",
    .summary = "Nodes: who is there, and an orderly stop.",
    .subs = subs,
    .subs_count = (uint32_t)ARRAY_COUNT(subs),
};
