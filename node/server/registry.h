/*
 * registry.h -- which nodes exist, where they stand and which stores they carry.
 *
 * Rows live in the system keyspace (key_enc_system KEY_SYSTEM_NODE); every shard keeps a copy that
 * gossip fills. Of two rows of a node the higher generation wins, so merging is idempotent and order
 * does not matter.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/arena.h"
#include "node/base/ids.h"
#include "node/base/status.h"
#include "node/rpc/server.pb-c.h"

#define REGISTRY_NODES_MAX  1024u
#define REGISTRY_STORES_MAX 64u /* Of one node. */
#define REGISTRY_TEXT_MAX   255u

struct node_desc {
    node_id id;
    char rpc_address[REGISTRY_TEXT_MAX + 1];
    char sql_address[REGISTRY_TEXT_MAX + 1];
    char http_address[REGISTRY_TEXT_MAX + 1];
    char region[64];
    char zone[64];
    store_id stores[REGISTRY_STORES_MAX];
    uint32_t stores_count;
    uint64_t generation;
    uint32_t pid;
};

struct registry {
    struct node_desc *nodes; /* Ascending by id. */
    uint32_t count;
    uint32_t cap;
    uint64_t digest; /* Equal on equal contents. */
};

NOYIELD void registry_init(struct registry *r);
NOYIELD void registry_deinit(struct registry *r);
/* True when it was news. Errors are no news: an impossible row is ignored. */
NOYIELD bool registry_merge(struct registry *r, const struct node_desc *d);
NOYIELD const struct node_desc *registry_find(const struct registry *r, node_id id);
NOYIELD const struct node_desc *registry_find_store(const struct registry *r, store_id store);

/* Wire form, in the arena. Errors: STATUS_MEMORY. */
NOYIELD NODISCARD struct status node_desc_to_pb(const struct node_desc *d, struct arena *arena,
                                                Dsql__Pb__NodeDesc *out);
/* False when the row is impossible (no id, texts too long). */
NOYIELD bool node_desc_from_pb(const Dsql__Pb__NodeDesc *pb, struct node_desc *out);
