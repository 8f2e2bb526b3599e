/*
 * load.c -- how much a range is used.
 *
 * The replica that serves counts what it does, in total since its lease began and in one bucket per second
 * for the last ten. A replica that serves nothing has no counters at all: an idle range costs nothing.
 *
 * Source: protocol reference 10.8.
 */
#include <stdlib.h>

#include "node/range/internal.h"

#define BUCKETS   10u
#define BUCKET_NS ((uint64_t)1000000000)

struct bucket {
    uint64_t requests;
    uint64_t cpu_ns;
};

struct range_load {
    struct load_sample total;
    uint64_t newest; /* Second of the newest bucket. */
    struct bucket buckets[BUCKETS];
};

/* Empties the buckets of seconds that passed without a request. */
static void move_on(struct range_load *l, uint64_t second)
{
    if (second > l->newest + BUCKETS) {
        l->newest = second - BUCKETS;
    }
    while (l->newest < second) {
        l->newest++;
        l->buckets[l->newest % BUCKETS] = (struct bucket){0};
    }
}

void load__note(struct replica *r, const struct load_sample *x)
{
    struct range_load *l = r->load;
    const uint64_t second = shard_now_ns(r->store->shard) / BUCKET_NS;

    if (l == NULL) {
        l = calloc(1, sizeof(*l));
        if (l == NULL) {
            return; /* Only statistics. */
        }
        l->newest = second;
        r->load = l;
    }
    move_on(l, second);
    l->total.requests += x->requests;
    l->total.bytes_read += x->bytes_read;
    l->total.bytes_written += x->bytes_written;
    l->total.cpu_ns += x->cpu_ns;
    l->buckets[second % BUCKETS].requests += x->requests;
    l->buckets[second % BUCKETS].cpu_ns += x->cpu_ns;
}

struct store_range_load load__read(const struct replica *r)
{
    const struct range_load *l = r->load;
    const uint64_t second = shard_now_ns(r->store->shard) / BUCKET_NS;
    struct store_range_load out = {0};

    if (l == NULL) {
        return out;
    }
    out.requests = l->total.requests;
    out.bytes_read = l->total.bytes_read;
    out.bytes_written = l->total.bytes_written;
    out.cpu_ns = l->total.cpu_ns;
    for (uint32_t i = 0; i < BUCKETS; i++) {
        /* The bucket of second newest - i. */
        if (l->newest >= i && l->newest - i + BUCKETS > second) {
            out.requests_per_s += (double)l->buckets[(l->newest - i) % BUCKETS].requests;
            out.cpu_ns_per_s += (double)l->buckets[(l->newest - i) % BUCKETS].cpu_ns;
        }
    }
    out.requests_per_s /= BUCKETS;
    out.cpu_ns_per_s /= BUCKETS;
    return out;
}

void load__reset(struct replica *r)
{
    free(r->load);
    r->load = NULL;
}
