/*
 * range.c -- `dsqlctl range list`: where the copies of each range stand.
 *
 * Every live node tells of its own replicas. Of one range the leaseholder's words count most, and among
 * equals those with the newer descriptor.
 */
#include <stdlib.h>

#include "cli/cmd/view.h"
#include "cli/render/table.h"
#include "node/base/json.h"

#define RANGES_MAX 65536u

struct range_options {
    struct view_options view;
};

static const struct flag flags[] = {
    VIEW_FLAGS(struct range_options),
    VIEW_OUTPUT_FLAG(struct range_options),
};

struct told {
    uint64_t id;
    uint64_t teller; /* The node whose words these are. */
    const struct json_value *words;
};

struct told_list {
    struct told *items;
    uint32_t count;
};

static bool better(const struct json_value *a, const struct json_value *b)
{
    const bool a_leads = json_get_bool(a, "leaseholder");
    const bool b_leads = json_get_bool(b, "leaseholder");

    if (a_leads != b_leads) {
        return a_leads;
    }
    if (json_get_u64(a, "generation") != json_get_u64(b, "generation")) {
        return json_get_u64(a, "generation") > json_get_u64(b, "generation");
    }
    return json_get_u64(a, "term") > json_get_u64(b, "term");
}

/* By id, the best words of each first. */
static int compare(const void *a, const void *b)
{
    const struct told *x = a;
    const struct told *y = b;

    if (x->id != y->id) {
        return x->id < y->id ? -1 : 1;
    }
    if (better(x->words, y->words)) {
        return -1;
    }
    return better(y->words, x->words) ? 1 : 0;
}

static void keep_best(struct told_list *l)
{
    uint32_t kept = 0;

    qsort(l->items, l->count, sizeof(l->items[0]), compare);
    for (uint32_t i = 0; i < l->count; i++) {
        if (kept == 0 || l->items[kept - 1].id != l->items[i].id) {
            l->items[kept++] = l->items[i];
        }
    }
    l->count = kept;
}

static uint32_t count_ranges(const struct json_value *root)
{
    uint32_t n = 0;

    for (const struct json_value *v = json_items(root, "ranges"); v != NULL; v = v->next) {
        n++;
    }
    return n;
}

static struct status gather(struct cli *c, const struct view_options *o, struct told_list *out)
{
    const struct json_value **answers =
        ARENA_ARRAY(&c->arena, const struct json_value *, VIEW_NODES_MAX);
    struct view v;
    uint32_t total = 0;

    if (answers == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    TRY(view_load(c, o, &v));
    TRY(view_ask(c, &v, "/api/v1/ranges", answers));
    for (uint32_t i = 0; i < v.count; i++) {
        total += count_ranges(answers[i]);
    }
    *out = (struct told_list){ARENA_ARRAY(&c->arena, struct told, (size_t)total + 1), 0};
    if (out->items == NULL || total > RANGES_MAX) {
        return FAIL(STATUS_MEMORY, "too many ranges to show");
    }
    for (uint32_t i = 0; i < v.count; i++) {
        for (const struct json_value *r = json_items(answers[i], "ranges"); r != NULL;
             r = r->next) {
            out->items[out->count++] = (struct told){json_get_u64(r, "id"), v.nodes[i].id, r};
        }
    }
    keep_best(out);
    return OK;
}

static bool leads(const struct told *t)
{
    return json_get_bool(t->words, "leaseholder");
}

/* "1 2 3, 4 (learner)": voters by their node alone. */
static const char *replicas_text(struct cli *c, const struct told *t)
{
    const char *text = "";

    for (const struct json_value *r = json_items(t->words, "replicas"); r != NULL; r = r->next) {
        const char *type = json_get_str(r, "type");
        const bool voter = type[0] == 'v' && type[5] == '\0';

        text = arena_printf(&c->arena, voter ? "%s%s%llu" : "%s%s%llu (%s)", text,
                            text[0] == '\0' ? "" : ", ",
                            (unsigned long long)json_get_u64(r, "node"), type);
    }
    return text;
}

static void print_table(struct cli *c, const struct told_list *l)
{
    static const struct table_column columns[] = {
        {"range", true},   {"leaseholder", true}, {"term", true},
        {"applied", true}, {"live bytes", true},  {"replicas on nodes", false}};
    struct table t;

    table_init(&t, columns, (uint32_t)ARRAY_COUNT(columns), &c->arena);
    for (uint32_t i = 0; i < l->count; i++) {
        const struct told *r = &l->items[i];

        table_row(&t);
        table_cell_u64(&t, r->id);
        table_cell(&t,
                   leads(r) ? arena_printf(&c->arena, "%llu", (unsigned long long)r->teller) : "?");
        table_cell_u64(&t, json_get_u64(r->words, "term"));
        table_cell_u64(&t, json_get_u64(r->words, "applied"));
        table_cell_u64(&t, json_get_u64(r->words, "live_bytes"));
        table_cell(&t, replicas_text(c, r));
    }
    table_print(&t, c->out);
}

static void put_range(struct json *j, const struct told *r)
{
    json_object(j);
    json_kv_u64(j, "id", r->id);
    json_kv_u64(j, "generation", json_get_u64(r->words, "generation"));
    json_kv_u64(j, "leaseholder", leads(r) ? r->teller : 0);
    json_kv_u64(j, "term", json_get_u64(r->words, "term"));
    json_kv_u64(j, "applied", json_get_u64(r->words, "applied"));
    json_kv_u64(j, "live_bytes", json_get_u64(r->words, "live_bytes"));
    json_key(j, "replicas");
    json_array(j);
    for (const struct json_value *p = json_items(r->words, "replicas"); p != NULL; p = p->next) {
        json_object(j);
        json_kv_u64(j, "node", json_get_u64(p, "node"));
        json_kv_u64(j, "store", json_get_u64(p, "store"));
        json_kv_str(j, "type", json_get_str(p, "type"));
        json_object_end(j);
    }
    json_array_end(j);
    json_object_end(j);
}

static struct status print_json(struct cli *c, const struct told_list *l)
{
    struct buf b = {0};
    struct json j;
    struct status st = OK;

    json_begin(&j, &b);
    json_object(&j);
    json_key(&j, "ranges");
    json_array(&j);
    for (uint32_t i = 0; i < l->count; i++) {
        put_range(&j, &l->items[i]);
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

static int run(struct cli *c, const void *options, char **args, uint32_t args_count)
{
    const struct range_options *o = options;
    struct told_list l;
    struct status st = gather(c, &o->view, &l);

    UNUSED(args);
    UNUSED(args_count);
    if (status_ok(st) && o->view.output == CLI_OUTPUT_JSON) {
        st = print_json(c, &l);
    } else if (status_ok(st)) {
        print_table(c, &l);
    }
    return status_ok(st) ? CLI_OK : cli_fail(c, st);
}

static const struct command cmd_list = {
    .path = "range list",
    .args = "",
    .summary = "Show all ranges, their leaseholders and where their replicas stand.",
    .details = "\"?\" as leaseholder: no live node says that it holds the lease.",
    .flags = flags,
    .flags_count = (uint32_t)ARRAY_COUNT(flags),
    .options_size = sizeof(struct range_options),
    .run = run,
};

static const struct command *const subs[] = {&cmd_list};

const struct command cmd_range = {
    .path = "range",
    .args = "",
    .summary = "Ranges: where the data stands.",
    .subs = subs,
    .subs_count = (uint32_t)ARRAY_COUNT(subs),
};
