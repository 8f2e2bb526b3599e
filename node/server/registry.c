/*
 * registry.c -- a sorted table of nodes that only ever learns.
 */
#include "node/server/registry.h"

#include <stdlib.h>
#include <string.h>

#include "node/base/codec.h"
#include "node/base/hash.h"

void registry_init(struct registry *r)
{
    *r = (struct registry){0};
}

void registry_deinit(struct registry *r)
{
    free(r->nodes);
    *r = (struct registry){0};
}

static void update_digest(struct registry *r)
{
    r->digest = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        uint8_t row[12];

        be32_put(row, r->nodes[i].id.v);
        be64_put(row + 4, r->nodes[i].generation);
        r->digest = hash64(bytes_of(row, sizeof(row)), r->digest);
    }
}

static bool make_room(struct registry *r)
{
    const uint32_t cap = r->cap == 0 ? 16 : r->cap * 2;
    struct node_desc *grown = NULL;

    if (r->count < r->cap) {
        return true;
    }
    grown = realloc(r->nodes, cap * sizeof(grown[0]));
    if (grown == NULL) {
        return false;
    }
    r->nodes = grown;
    r->cap = cap;
    return true;
}

bool registry_merge(struct registry *r, const struct node_desc *d)
{
    uint32_t i = 0;

    if (d->id.v == 0 || d->stores_count > REGISTRY_STORES_MAX) {
        return false;
    }
    while (i < r->count && r->nodes[i].id.v < d->id.v) {
        i++;
    }
    if (i < r->count && r->nodes[i].id.v == d->id.v) {
        if (r->nodes[i].generation >= d->generation) {
            return false;
        }
        r->nodes[i] = *d;
    } else {
        if (r->count >= REGISTRY_NODES_MAX || !make_room(r)) {
            return false;
        }
        memmove(&r->nodes[i + 1], &r->nodes[i], (r->count - i) * sizeof(r->nodes[0]));
        r->nodes[i] = *d;
        r->count++;
    }
    update_digest(r);
    return true;
}

const struct node_desc *registry_find(const struct registry *r, node_id id)
{
    for (uint32_t i = 0; i < r->count; i++) {
        if (r->nodes[i].id.v == id.v) {
            return &r->nodes[i];
        }
    }
    return NULL;
}

const struct node_desc *registry_find_store(const struct registry *r, store_id store)
{
    for (uint32_t i = 0; i < r->count; i++) {
        for (uint32_t k = 0; k < r->nodes[i].stores_count; k++) {
            if (r->nodes[i].stores[k].v == store.v) {
                return &r->nodes[i];
            }
        }
    }
    return NULL;
}

static char *text(const char *s)
{
    return (char *)(uintptr_t)s; /* protobuf-c wants it so; packing does not write. */
}

struct status node_desc_to_pb(const struct node_desc *d, struct arena *arena,
                              Dsql__Pb__NodeDesc *out)
{
    dsql__pb__node_desc__init(out);
    out->node = d->id.v;
    out->rpc_address = text(d->rpc_address);
    out->sql_address = text(d->sql_address);
    out->http_address = text(d->http_address);
    out->region = text(d->region);
    out->zone = text(d->zone);
    out->generation = d->generation;
    out->pid = d->pid;
    out->n_stores = d->stores_count;
    out->stores = ARENA_ARRAY(arena, uint32_t, (size_t)d->stores_count + 1);
    if (out->stores == NULL) {
        return FAIL(STATUS_MEMORY, "memory limit reached");
    }
    for (uint32_t i = 0; i < d->stores_count; i++) {
        out->stores[i] = d->stores[i].v;
    }
    return OK;
}

static bool copy_text(char *out, size_t size, const char *s)
{
    const size_t n = s == NULL ? 0 : strlen(s);

    if (n >= size) {
        return false;
    }
    if (n > 0) {
        memcpy(out, s, n);
    }
    out[n] = '\0';
    return true;
}

bool node_desc_from_pb(const Dsql__Pb__NodeDesc *pb, struct node_desc *out)
{
    *out = (struct node_desc){.id = {pb->node}, .generation = pb->generation, .pid = pb->pid};
    if (pb->n_stores > REGISTRY_STORES_MAX) {
        return false;
    }
    for (size_t i = 0; i < pb->n_stores; i++) {
        out->stores[i].v = pb->stores[i];
    }
    out->stores_count = (uint32_t)pb->n_stores;
    return copy_text(out->rpc_address, sizeof(out->rpc_address), pb->rpc_address) &&
           copy_text(out->sql_address, sizeof(out->sql_address), pb->sql_address) &&
           copy_text(out->http_address, sizeof(out->http_address), pb->http_address) &&
           copy_text(out->region, sizeof(out->region), pb->region) &&
           copy_text(out->zone, sizeof(out->zone), pb->zone);
}
