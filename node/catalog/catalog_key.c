/*
 * catalog_key.c -- see catalog_key.h for the layout.
 *
 * The buffers are sized for the longest key, so that an encoder which runs over is a mistake of this
 * file and not of its input.
 */
#include "node/catalog/catalog_key.h"

#include "node/base/codec.h"
#include "node/base/invariant.h"
#include "node/storage/key/key.h"

#define DATABASE_ID 1u

static void key_begin(struct key_enc *e, struct catalog_key *k, enum key_system_tag tag)
{
    key_enc_init(e, k->data, sizeof(k->data));
    key_enc_system(e, tag);
}

static struct bytes key_end(struct key_enc *e)
{
    struct bytes key = BYTES_EMPTY;
    const struct status st = key_enc_finish(e, &key);

    INVARIANT(status_ok(st));
    return key;
}

struct bytes catalog_key_descriptor(struct catalog_key *k, uint32_t id)
{
    struct key_enc e;

    key_begin(&e, k, KEY_SYSTEM_DESCRIPTOR);
    key_enc_uvar(&e, id);
    return key_end(&e);
}

struct bytes catalog_key_next_id(struct catalog_key *k)
{
    struct key_enc e;

    key_begin(&e, k, KEY_SYSTEM_ID);
    key_enc_escaped(&e, BYTES_LIT("descriptor"));
    return key_end(&e);
}

struct bytes catalog_key_name(struct catalog_key *k, uint32_t schema, const char *name)
{
    struct key_enc e;

    key_begin(&e, k, KEY_SYSTEM_NAME);
    key_enc_uvar(&e, DATABASE_ID);
    key_enc_uvar(&e, schema);
    key_enc_escaped(&e, bytes_str(name));
    return key_end(&e);
}

struct bytes catalog_key_names_start(struct catalog_key *k, uint32_t schema)
{
    struct key_enc e;

    key_begin(&e, k, KEY_SYSTEM_NAME);
    key_enc_uvar(&e, DATABASE_ID);
    key_enc_uvar(&e, schema);
    return key_end(&e);
}

struct bytes catalog_key_names_end(struct catalog_key *k, uint32_t schema)
{
    INVARIANT(schema < UINT32_MAX);
    return catalog_key_names_start(k, schema + 1);
}

struct bytes catalog_key_lease(struct catalog_key *k, uint32_t id, uint32_t version, uint32_t node,
                               uint32_t shard)
{
    struct key_enc e;

    key_begin(&e, k, KEY_SYSTEM_LEASE);
    key_enc_uvar(&e, id);
    key_enc_uvar(&e, version);
    key_enc_uvar(&e, node);
    key_enc_uvar(&e, shard);
    return key_end(&e);
}

struct bytes catalog_key_leases_start(struct catalog_key *k, uint32_t id)
{
    struct key_enc e;

    key_begin(&e, k, KEY_SYSTEM_LEASE);
    key_enc_uvar(&e, id);
    return key_end(&e);
}

struct bytes catalog_key_leases_end(struct catalog_key *k, uint32_t id)
{
    INVARIANT(id < UINT32_MAX);
    return catalog_key_leases_start(k, id + 1);
}

struct status catalog_id_decode(struct bytes value, uint32_t *out)
{
    if (value.len != 4) {
        return FAIL(STATUS_CORRUPT, "damaged table id");
    }
    *out = be32_get(value.ptr);
    return OK;
}
