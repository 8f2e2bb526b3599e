/*
 * view.c -- who to ask first, then everybody at once.
 *
 * In a demo cluster any node may be down, paused or cut off, so all are asked for the list and the
 * answer that names most live nodes is taken: a node that is cut off sees only itself.
 */
#include "cli/cmd/view.h"

#include <stdlib.h>
#include <string.h>

#include "cli/cmd/demo.h"

#define TIMEOUT_MS 2000u

const char *view_url(struct cli *c, const struct view_node *n, const char *path)
{
    return arena_printf(&c->arena, "http://%s%s", n->http_address, path);
}

/* ---- the list ------------------------------------------------------------------------------------ */

static const char *with_scheme(struct cli *c, const char *url)
{
    const size_t n = strlen(url);
    const char *whole =
        strstr(url, "://") == NULL ? arena_printf(&c->arena, "http://%s", url) : url;

    return n > 0 && url[n - 1] == '/'
               ? arena_printf(&c->arena, "%.*s", (int)strlen(whole) - 1, whole)
               : whole;
}

static struct status first_calls(struct cli *c, const struct view_options *o,
                                 struct http_call *calls, uint32_t *count_out)
{
    struct demo_session s;

    if (o->url != NULL) {
        calls[0].url = arena_printf(&c->arena, "%s/api/v1/nodes", with_scheme(c, o->url));
        *count_out = 1;
        return OK;
    }
    TRY(demo_open(c, o->dir, false, &s));
    *count_out = 0;
    for (uint32_t i = 0; i < s.demo->count; i++) {
        if (process_state(s.demo->nodes[i].process) == PROCESS_RUNNING) {
            calls[(*count_out)++].url =
                demo_http_url(&s.demo->nodes[i], "/api/v1/nodes", &c->arena);
        }
    }
    return *count_out > 0 ? OK
                          : FAIL(STATUS_UNAVAILABLE,
                                 arena_printf(&c->arena,
                                              "no node of the demo cluster runs: start it with "
                                              "dsqlctl demo%s",
                                              demo_dir_hint(c, s.demo)));
}

static uint32_t count_live(const struct json_value *root)
{
    uint32_t live = 0;

    for (const struct json_value *v = json_items(root, "nodes"); v != NULL; v = v->next) {
        live += json_get_bool(v, "live") ? 1 : 0;
    }
    return live;
}

static struct status parse_answer(struct cli *c, const struct http_call *call,
                                  const struct json_value **out)
{
    if (call->code == 0) {
        return FAIL(STATUS_UNAVAILABLE,
                    arena_printf(&c->arena, "%s does not answer: %s", call->url, call->reason));
    }
    if (call->code != 200) {
        return FAIL(STATUS_UNAVAILABLE, arena_printf(&c->arena, "%s answers with HTTP status %u",
                                                     call->url, call->code));
    }
    if (!status_ok(json_read(call->body, &c->arena, out)) || json_get(*out, "nodes") == NULL) {
        return FAIL(STATUS_CORRUPT,
                    arena_printf(&c->arena, "%s answers, but it is no node of dsql", call->url));
    }
    return OK;
}

static struct status best_list(struct cli *c, const struct view_options *o,
                               const struct json_value **out)
{
    struct http_call *calls = ARENA_ARRAY(&c->arena, struct http_call, HTTP_CALLS_MAX);
    struct status st = FAIL(STATUS_UNAVAILABLE, "nobody was asked");
    uint32_t count = 0;
    uint32_t most = 0;

    if (calls == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    *out = NULL;
    TRY(first_calls(c, o, calls, &count));
    TRY(http_calls(calls, count, TIMEOUT_MS, &c->arena));
    for (uint32_t i = 0; i < count; i++) {
        const struct json_value *root = NULL;

        st = parse_answer(c, &calls[i], &root);
        if (status_ok(st) && (*out == NULL || count_live(root) > most)) {
            *out = root;
            most = count_live(root);
        }
    }
    return *out == NULL ? st : OK;
}

static int by_id(const void *a, const void *b)
{
    const struct view_node *x = a;
    const struct view_node *y = b;

    return x->id < y->id ? -1 : (x->id > y->id ? 1 : 0);
}

static struct status read_list(struct cli *c, const struct json_value *root, struct view *out)
{
    *out = (struct view){.nodes = ARENA_ARRAY(&c->arena, struct view_node, VIEW_NODES_MAX)};
    if (out->nodes == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    for (const struct json_value *v = json_items(root, "nodes"); v != NULL; v = v->next) {
        if (out->count == VIEW_NODES_MAX) {
            return FAIL(STATUS_UNSUPPORTED,
                        arena_printf(&c->arena, "clusters of more than %u nodes cannot be shown",
                                     VIEW_NODES_MAX));
        }
        out->nodes[out->count++] = (struct view_node){
            .id = json_get_u64(v, "id"),
            .region = json_get_str(v, "region"),
            .zone = json_get_str(v, "zone"),
            .sql_address = json_get_str(v, "sql_address"),
            .rpc_address = json_get_str(v, "rpc_address"),
            .http_address = json_get_str(v, "http_address"),
            .pid = json_get_u64(v, "pid"),
            .live = json_get_bool(v, "live"),
        };
    }
    qsort(out->nodes, out->count, sizeof(out->nodes[0]), by_id);
    return OK;
}

/* ---- everybody ----------------------------------------------------------------------------------- */

struct status view_ask(struct cli *c, const struct view *v, const char *path,
                       const struct json_value **answers)
{
    struct http_call *calls = ARENA_ARRAY(&c->arena, struct http_call, HTTP_CALLS_MAX);
    uint32_t *of = ARENA_ARRAY(&c->arena, uint32_t, HTTP_CALLS_MAX);
    uint32_t count = 0;

    if (calls == NULL || of == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    for (uint32_t i = 0; i < v->count; i++) {
        answers[i] = NULL;
        if (v->nodes[i].live && v->nodes[i].http_address[0] != '\0') {
            calls[count].url = view_url(c, &v->nodes[i], path);
            of[count++] = i;
        }
    }
    TRY(http_calls(calls, count, TIMEOUT_MS, &c->arena));
    for (uint32_t k = 0; k < count; k++) {
        if (calls[k].code == 200 &&
            !status_ok(json_read(calls[k].body, &c->arena, &answers[of[k]]))) {
            answers[of[k]] = NULL;
        }
    }
    return OK;
}

static const struct json_value *find_self(const struct json_value *root, uint64_t id)
{
    for (const struct json_value *v = json_items(root, "nodes"); v != NULL; v = v->next) {
        if (json_get_bool(v, "self") && json_get_u64(v, "id") == id) {
            return v;
        }
    }
    return NULL;
}

struct status view_load(struct cli *c, const struct view_options *o, struct view *out)
{
    const struct json_value *list = NULL;
    const struct json_value **answers =
        ARENA_ARRAY(&c->arena, const struct json_value *, VIEW_NODES_MAX);

    if (answers == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    TRY(best_list(c, o, &list));
    TRY(read_list(c, list, out));
    TRY(view_ask(c, out, "/api/v1/nodes", answers));
    for (uint32_t i = 0; i < out->count; i++) {
        out->nodes[i].self = find_self(answers[i], out->nodes[i].id);
    }
    return OK;
}
