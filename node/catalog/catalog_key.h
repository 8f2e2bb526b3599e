/*
 * catalog_key.h -- where the catalog stands in the system keyspace (tags of storage/key/key.h).
 *
 *     0x06 'd' uvar(id)                                  descriptor (desc_codec.h)
 *     0x06 'a' uvar(1) uvar(schema) escaped(name)        be32: table id
 *     0x06 'i' escaped("descriptor")                     be32: next table id
 *     0x06 'e' uvar(id) uvar(version) uvar(node) uvar(shard)   empty: who holds leases
 *
 * The parent in a name's key is the database: there is one, with id 1.
 */
#pragma once

#include <stdint.h>

#include "node/base/bytes.h"
#include "node/catalog/catalog.h"

/* Tag, two ordered varints, a name of zero bytes at worst, its terminator; or four varints. */
#define CATALOG_KEY_MAX (2 + 9 + 9 + 2 * CATALOG_NAME_MAX + 2)

struct catalog_key {
    uint8_t data[CATALOG_KEY_MAX];
};

/* Each returns the key, borrowed from k. */
NOYIELD struct bytes catalog_key_descriptor(struct catalog_key *k, uint32_t id);
NOYIELD struct bytes catalog_key_next_id(struct catalog_key *k);
/* name: at most CATALOG_NAME_MAX bytes. */
NOYIELD struct bytes catalog_key_name(struct catalog_key *k, uint32_t schema, const char *name);
/* "This shard has leases on this version." Shard is the index within the node's process. */
NOYIELD struct bytes catalog_key_lease(struct catalog_key *k, uint32_t id, uint32_t version,
                                       uint32_t node, uint32_t shard);
/* All lease records of a table, from start up to end. */
NOYIELD struct bytes catalog_key_leases_start(struct catalog_key *k, uint32_t id);
NOYIELD struct bytes catalog_key_leases_end(struct catalog_key *k, uint32_t id);
/* All names of a schema: from start up to end. */
NOYIELD struct bytes catalog_key_names_start(struct catalog_key *k, uint32_t schema);
NOYIELD struct bytes catalog_key_names_end(struct catalog_key *k, uint32_t schema);

/* The id behind a name, or the next id. Errors: STATUS_CORRUPT. */
NOYIELD NODISCARD struct status catalog_id_decode(struct bytes value, uint32_t *out);
