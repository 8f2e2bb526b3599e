/*
 * demo_status.c -- `dsqlctl demo status`: everything that one may want to know to reach a node.
 */
#include "cli/cmd/demo.h"
#include "cli/render/table.h"
#include "node/base/json.h"

#define TIMEOUT_MS 1500u

struct status_options {
    const char *dir;
    enum cli_output output;
};

static const struct flag flags[] = {
    {.name = "--output",
     .kind = FLAG_OUTPUT,
     .offset = offsetof(struct status_options, output),
     .value = "table|json",
     .help = "for people or for programs (default table)"},
    DEMO_DIR_FLAG(struct status_options),
};

static void put_node(struct cli *c, struct json *j, const struct demo *d, uint32_t i,
                     enum demo_health h)
{
    const struct demo_node *n = &d->nodes[i];
    const bool here = h != DEMO_DOWN;

    json_object(j);
    json_kv_u64(j, "id", n->id);
    json_kv_str(j, "region", n->region);
    json_kv_str(j, "zone", n->zone);
    json_kv_str(j, "state", demo_health_text(h));
    json_kv_bool(j, "live", h == DEMO_LIVE);
    json_kv_u64(j, "pid", here ? (uint64_t)n->process.pid : 0);
    json_kv_str(j, "sql_url", demo_sql_url(n, &c->arena));
    json_kv_str(j, "rpc_address", arena_printf(&c->arena, "127.0.0.1:%u", n->rpc_port));
    json_kv_str(j, "http_url", demo_http_url(n, "", &c->arena));
    json_kv_str(j, "data_directory",
                arena_printf(&c->arena, "%s/data", demo_node_dir(d, n, &c->arena)));
    json_kv_str(j, "log", arena_printf(&c->arena, "%s/log", demo_node_dir(d, n, &c->arena)));
    json_key(j, "cut_to");
    json_array(j);
    for (uint32_t k = 0; k < d->count; k++) {
        if (d->cut[i][k]) {
            json_u64(j, d->nodes[k].id);
        }
    }
    json_array_end(j);
    json_object_end(j);
}

static struct status print_json(struct cli *c, const struct demo *d,
                                const enum demo_health health[DEMO_NODES_MAX])
{
    struct buf b = {0};
    struct json j;
    struct status st = OK;

    json_begin(&j, &b);
    json_object(&j);
    json_kv_str(&j, "directory", d->dir);
    json_kv_bool(&j, "simulated_round_trips", d->rtt);
    json_key(&j, "nodes");
    json_array(&j);
    for (uint32_t i = 0; i < d->count; i++) {
        put_node(c, &j, d, i, health[i]);
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

static const char *cuts_of(struct cli *c, const struct demo *d, uint32_t i)
{
    const char *text = "";

    for (uint32_t k = 0; k < d->count; k++) {
        if (d->cut[i][k]) {
            text =
                arena_printf(&c->arena, "%s%s%u", text, text[0] == '\0' ? "" : ",", d->nodes[k].id);
        }
    }
    return text;
}

static bool any_cut(const struct demo *d)
{
    for (uint32_t i = 0; i < d->count; i++) {
        for (uint32_t k = 0; k < d->count; k++) {
            if (d->cut[i][k]) {
                return true;
            }
        }
    }
    return false;
}

static void print_table(struct cli *c, const struct demo *d,
                        const enum demo_health health[DEMO_NODES_MAX])
{
    static const struct table_column columns[] = {
        {"node", true}, {"region", false}, {"zone", false}, {"state", false}, {"pid", true},
        {"SQL", false}, {"rpc", false},    {"http", false}, {"cut to", false}};
    const uint32_t shown = (uint32_t)ARRAY_COUNT(columns) - (any_cut(d) ? 0 : 1);
    struct table t;

    table_init(&t, columns, shown, &c->arena);
    for (uint32_t i = 0; i < d->count; i++) {
        const struct demo_node *n = &d->nodes[i];

        table_row(&t);
        table_cell_u64(&t, n->id);
        table_cell(&t, n->region);
        table_cell(&t, n->zone);
        table_cell(&t, demo_health_text(health[i]));
        table_cell(&t,
                   health[i] == DEMO_DOWN ? "-" : arena_printf(&c->arena, "%d", n->process.pid));
        table_cell(&t, demo_sql_url(n, &c->arena));
        table_cell(&t, arena_printf(&c->arena, "127.0.0.1:%u", n->rpc_port));
        table_cell(&t, arena_printf(&c->arena, "127.0.0.1:%u", n->http_port));
        if (shown == ARRAY_COUNT(columns)) {
            table_cell(&t, cuts_of(c, d, i));
        }
    }
    table_print(&t, c->out);
    (void)fprintf(c->out, "\nData and logs: %s/node1 and so on\n", d->dir);
}

static struct status show(struct cli *c, const struct status_options *o)
{
    enum demo_health health[DEMO_NODES_MAX];
    struct demo_session s;

    TRY(demo_open(c, o->dir, false, &s));
    TRY(demo_ask_health(s.demo, TIMEOUT_MS, &c->arena, health));
    if (o->output == CLI_OUTPUT_JSON) {
        return print_json(c, s.demo, health);
    }
    print_table(c, s.demo, health);
    return OK;
}

static int run(struct cli *c, const void *options, char **args, uint32_t args_count)
{
    const struct status st = show(c, options);

    UNUSED(args);
    UNUSED(args_count);
    return status_ok(st) ? CLI_OK : cli_fail(c, st);
}

const struct command cmd_demo_status = {
    .path = "demo status",
    .args = "",
    .summary = "Show the nodes of the demo cluster.",
    .details = "States: live (serves SQL), not ready, paused, down.",
    .flags = flags,
    .flags_count = (uint32_t)ARRAY_COUNT(flags),
    .options_size = sizeof(struct status_options),
    .run = run,
};
