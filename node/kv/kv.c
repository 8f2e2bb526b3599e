/*
 * kv.c -- life of a shard's kv, what it counts and what it knows of time.
 */
#include <stdlib.h>

#include "node/kv/internal.h"

struct status kv_create(const struct kv_options *o, struct kv **out)
{
    struct kv *kv = calloc(1, sizeof(*kv));

    if (kv == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    kv->o = *o;
    shard_set_slot(o->shard, SHARD_SLOT_KV, kv);
    *out = kv;
    return OK;
}

void kv_destroy(struct kv *kv)
{
    if (kv == NULL) {
        return;
    }
    kv__cache_clear(kv);
    free(kv);
}

void kv_set_store(struct kv *kv, struct store *store, store_id id)
{
    kv->store = store;
    kv->store_id = id;
}

struct hts kv_now(struct kv *kv)
{
    return hclock_hts(hlc_now(kv->o.hlc));
}

uint64_t kv_max_offset_ns(const struct kv *kv)
{
    return kv->o.hlc->max_offset_ns;
}

struct shard *kv_shard(const struct kv *kv)
{
    return kv->o.shard;
}

void kv_get_stats(const struct kv *kv, struct kv_stats *out)
{
    *out = kv->stats;
    out->cached = kv->count;
}
