/*
 * A Raft snapshot larger than memory should have to hold, on RocksDB. A release build moves 300 MiB and prints how
 * fast.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "node/base/invariant.h"
#include "node/range/internal.h"
#include "tests/unit/range/cluster.h"
#include "tests/unit/storage/tmpdir.h"

#ifdef DSQL_DEBUG
#define VALUES 12
#else
#define VALUES 300
#endif
#define VALUE_BYTES ((size_t)1 << 20)

struct disks {
    char path[2][64];
};

static struct engine *open_engine(void *ctx, uint32_t i)
{
    struct disks *d = ctx;
    struct engine_options o = {.block_cache_bytes = (size_t)8 << 20, .create_if_missing = true};
    struct engine *e = NULL;

    INVARIANT(tmpdir_make(d->path[i]));
    o.path = d->path[i];
    INVARIANT(status_ok(engine_open_rocksdb(&o, NULL, &e)));
    return e;
}

static long peak_kib(void)
{
    struct rusage u;

    INVARIANT(getrusage(RUSAGE_SELF, &u) == 0);
    return u.ru_maxrss;
}

TEST(snapshot_large, moves_between_disks_with_little_memory)
{
    struct cluster c;
    struct disks d;
    struct cluster_call call;
    struct store_stats stats;
    char *value = malloc(VALUE_BYTES);
    uint64_t seed = 88172645463325252u;
    clock_t begin = 0;
    long peak = 0;

    INVARIANT(value != NULL);
    cluster_start_with(&c, 2, (struct cluster_options){.open_engine = open_engine, .open_ctx = &d});
    for (int n = 0; n < VALUES; n++) {
        char k[] = {(char)0x88, 'b', (char)('a' + n / 26), (char)('a' + n % 26), (char)0x88, '\0'};

        for (size_t i = 0; i < VALUE_BYTES - 1; i++) { /* Not to be compressed. */
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            value[i] = (char)(1 + seed % 255);
        }
        value[VALUE_BYTES - 1] = '\0';
        EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, k, value));
    }
    free(value);
    peak = peak_kib();
    begin = clock();
    call = (struct cluster_call){
        .node = &c.nodes[0], .kind = CLUSTER_ADD_VOTER, .target = 1, .timeout_ms = 120000};
    cluster_call_start(&call);
    EXPECT_TRUE(cluster_call_wait(&call, 120000));
    EXPECT_OK(call.st);
    cluster_call_end(&call);
    printf("snapshot of %d MiB: %ld ms of CPU, peak memory grew by %ld KiB\n", VALUES,
           (long)((clock() - begin) * 1000 / CLOCKS_PER_SEC), peak_kib() - peak);
    store_get_stats(c.nodes[1].store, &stats);
    EXPECT_EQ(1, stats.snapshots_installed);
    cluster_run_ms(&c, 1000);
    EXPECT_TRUE(cluster_digests_equal(&c));
    cluster_stop(&c);
    tmpdir_remove(d.path[0]);
    tmpdir_remove(d.path[1]);
}
