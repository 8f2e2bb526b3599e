/*
 * record.c -- keys of rows and of the system's own records.
 *
 * Fixed shapes with fixed-width ids go into the caller's array; what embeds other keys goes through
 * the encoder. Every shape here is prefix-free within its space (rule PF): rows end in one family
 * byte behind self-delimiting columns, embedded keys are escaped and terminated, and tags that
 * differ in length (abort span entries, log entries) differ in their tag byte first.
 */
#include "node/base/invariant.h"
#include "node/storage/key/key_internal.h"

#define RAFT_LEAD  'R'
#define STORE_LEAD 'S'

/* ---- rows ------------------------------------------------------------------------------------ */

void key_enc_index(struct key_enc *e, uint64_t table_id, uint64_t index_id)
{
    key_enc_uvar(e, table_id);
    key_enc_uvar(e, index_id);
}

void key_enc_family(struct key_enc *e, uint32_t family)
{
    INVARIANT(family <= KEY_FAMILY_MAX);
    key_enc_uvar(e, family); /* One byte: a row's prefix is its key without the last byte. */
}

bool key_dec_index(struct reader *r, uint64_t *table_id, uint64_t *index_id)
{
    *table_id = key_dec_uvar(r);
    *index_id = key_dec_uvar(r);
    return !r->bad;
}

struct status key_row_split(struct bytes key, struct bytes *row_prefix, uint32_t *family)
{
    struct reader r = reader_of(key);
    uint64_t table = 0;
    uint64_t index = 0;
    bool good = key_dec_index(&r, &table, &index);

    while (good && r.rest.len > 1) {
        good = key_dec_skip(&r);
    }
    if (!good || r.rest.len != 1 || r.rest.ptr[0] < UVAR_ZERO ||
        r.rest.ptr[0] > UVAR_ZERO + KEY_FAMILY_MAX) {
        return FAIL(STATUS_INVALID, "not the key of a row");
    }
    *row_prefix = bytes_of(key.ptr, key.len - 1);
    *family = (uint32_t)(r.rest.ptr[0] - UVAR_ZERO);
    return OK;
}

/* ---- by range id ----------------------------------------------------------------------------- */

struct bytes key_range_record(uint8_t out[KEY_RANGE_ID_SIZE], range_id r, enum key_range_tag tag)
{
    out[0] = KEY_PREFIX_RANGE_ID;
    be64_put(out + 1, r.v);
    out[9] = (uint8_t)tag;
    return bytes_of(out, KEY_RANGE_ID_SIZE);
}

void key_enc_abort_span(struct key_enc *e, range_id r, struct uuid txn)
{
    uint8_t record[KEY_RANGE_ID_SIZE];

    key_enc_raw(e, key_range_record(record, r, KEY_RANGE_ABORT_SPAN));
    key_enc_raw(e, bytes_of(txn.b, sizeof(txn.b)));
}

/* ---- local, locks, meta, system -------------------------------------------------------------- */

void key_enc_local(struct key_enc *e, struct bytes anchor, enum key_local_tag tag)
{
    key_enc_byte(e, KEY_PREFIX_LOCAL);
    key_enc_escaped(e, anchor);
    key_enc_byte(e, (uint8_t)tag);
}

void key_enc_txn_record(struct key_enc *e, struct bytes anchor, struct uuid txn)
{
    key_enc_local(e, anchor, KEY_LOCAL_TXN);
    key_enc_raw(e, bytes_of(txn.b, sizeof(txn.b)));
}

void key_enc_lock(struct key_enc *e, struct bytes user_key, uint8_t strength, struct uuid txn)
{
    key_enc_byte(e, KEY_PREFIX_LOCK);
    key_enc_raw(e, user_key);
    key_enc_byte(e, strength);
    key_enc_raw(e, bytes_of(txn.b, sizeof(txn.b)));
}

bool key_split_lock(struct bytes lock_key, struct bytes *user_key, uint8_t *strength,
                    struct uuid *txn)
{
    const uint8_t *suffix = NULL;

    if (lock_key.len <= 1 + KEY_LOCK_SUFFIX || lock_key.ptr[0] != KEY_PREFIX_LOCK) {
        return false;
    }
    *user_key = bytes_of(lock_key.ptr + 1, lock_key.len - 1 - KEY_LOCK_SUFFIX);
    suffix = user_key->ptr + user_key->len;
    *strength = suffix[0];
    memcpy(txn->b, suffix + 1, sizeof(txn->b));
    return true;
}

void key_enc_meta(struct key_enc *e, int level, struct bytes end_key)
{
    INVARIANT(level == 1 || level == 2);
    key_enc_byte(e, level == 1 ? KEY_PREFIX_META1 : KEY_PREFIX_META2);
    key_enc_escaped(e, end_key);
}

bool key_dec_meta(struct bytes key, struct arena *arena, struct bytes *end_key)
{
    struct reader r = reader_of(key);
    const uint8_t lead = read_u8(&r);

    *end_key = key_dec_escaped(&r, arena);
    return !r.bad && r.rest.len == 0 && (lead == KEY_PREFIX_META1 || lead == KEY_PREFIX_META2);
}

void key_enc_system(struct key_enc *e, enum key_system_tag tag)
{
    key_enc_byte(e, KEY_PREFIX_SYSTEM);
    key_enc_byte(e, (uint8_t)tag);
}

/* ---- the raft family ------------------------------------------------------------------------- */

struct bytes key_raft(uint8_t out[KEY_RAFT_SIZE], range_id r, enum key_raft_tag tag)
{
    out[0] = RAFT_LEAD;
    be64_put(out + 1, r.v);
    out[9] = (uint8_t)tag;
    return bytes_of(out, KEY_RAFT_SIZE);
}

struct bytes key_raft_log(uint8_t out[KEY_RAFT_LOG_SIZE], range_id r, uint64_t index)
{
    (void)key_raft(out, r, KEY_RAFT_LOG);
    be64_put(out + KEY_RAFT_SIZE, index);
    return bytes_of(out, KEY_RAFT_LOG_SIZE);
}

struct bytes key_raft_spool(uint8_t out[KEY_RAFT_LOG_SIZE], range_id r, uint64_t seq)
{
    (void)key_raft(out, r, KEY_RAFT_SPOOL);
    be64_put(out + KEY_RAFT_SIZE, seq);
    return bytes_of(out, KEY_RAFT_LOG_SIZE);
}

bool key_raft_split(struct bytes key, range_id *r, enum key_raft_tag *tag, uint64_t *index)
{
    static const char tags[] = {KEY_RAFT_HARD_STATE,   KEY_RAFT_IDENT, KEY_RAFT_LOG,
                                KEY_RAFT_SNAP_PENDING, KEY_RAFT_SPOOL, KEY_RAFT_TRUNCATED,
                                KEY_RAFT_TOMBSTONE};
    bool numbered = false;

    if (key.len < KEY_RAFT_SIZE || key.ptr[0] != RAFT_LEAD ||
        memchr(tags, key.ptr[9], sizeof(tags)) == NULL) {
        return false;
    }
    numbered = key.ptr[9] == KEY_RAFT_LOG || key.ptr[9] == KEY_RAFT_SPOOL;
    if (key.len != (numbered ? KEY_RAFT_LOG_SIZE : KEY_RAFT_SIZE)) {
        return false;
    }
    *r = (range_id){be64_get(key.ptr + 1)};
    *tag = (enum key_raft_tag)key.ptr[9];
    *index = numbered ? be64_get(key.ptr + KEY_RAFT_SIZE) : 0;
    return true;
}

void key_enc_store(struct key_enc *e, enum key_store_tag tag)
{
    key_enc_byte(e, STORE_LEAD);
    key_enc_byte(e, (uint8_t)tag);
}
