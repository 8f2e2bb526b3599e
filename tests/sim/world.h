/*
 * world.h -- the simulated world: time, chance, the nodes and what stands between them.
 *
 * Shared by the files of this folder. The world runs one event after the other in one thread; each
 * event belongs to at most one node and ends with at most one turn of its shard.
 */
#pragma once

#include "node/base/hash.h"
#include "node/base/list.h"
#include "node/base/log.h"
#include "node/runtime/env.h"
#include "node/server/node.h"
#include "tests/sim/clock.h"
#include "tests/sim/event.h"
#include "tests/sim/net.h"
#include "tests/sim/sim.h"

#define MS             ((uint64_t)1000000)
#define SEC            ((uint64_t)1000000000)
#define SIM_REGIONS    3u
#define SIM_ZONES      3u /* Of a region. */
#define SIM_RANGES_MAX 1024u
#define SIM_IDS_MAX    256u
#define SIM_IO_THREADS 4u
#define SIM_EPOCH_NS   ((uint64_t)1700000000 * SEC)

/* Of a clock from the truth. Two differ by at most twice that, which is within max_offset (250 ms). */
#define SIM_OFFSET_MAX_NS ((int64_t)124 * 1000000)

struct check;
struct history;
struct load;
struct chaos;

enum sim_life {
    SIM_DOWN,
    SIM_UP, /* The process runs: starting, ready or stopping. */
};

/* A machine with one disk, and the process on it that comes and goes. */
struct sim_node {
    struct env env; /* Of the process. */
    struct sim_world *world;
    uint32_t index;
    uint32_t region;
    uint32_t zone;
    char address[32];
    struct sim_clock clock;

    /* The process. */
    enum sim_life life;
    uint32_t incarnation; /* Counts starts; nothing of an older one reaches a newer one. */
    struct engine *engine;
    struct shard *shard;
    struct node *node;
    struct log_sink log;
    struct rng random; /* What env_random() gives. */
    char fatal_why[128];
    bool cut;         /* Dying: nothing that it does counts any more. */
    bool fatal;       /* It asked to be stopped. */
    bool powered_off; /* The machine is gone too: nobody even refuses a connection. */
    bool ready;
    bool stopping;                     /* A graceful stop is under way. */
    bool knows_address[SIM_NODES_MAX]; /* Of which nodes the process was told the address. */
    uint64_t started_ns;
    uint64_t ghost_ns; /* Time that passes only for what is torn down. */
    struct sim_event turn;
    uint64_t busy_until_ns;
    struct sim_event restart;

    /* Paused: what is due meanwhile waits in `deferred`. */
    uint64_t paused_until_ns;
    struct sim_event resume;
    struct sim_event **deferred;
    size_t deferred_count;
    size_t deferred_cap;

    /* The disk and the threads in front of it. */
    struct memdisk *disk;
    struct list jobs; /* struct sim_job, in order of submission. */
    uint64_t writer_free_ns;
    uint64_t writer_news_ns; /* When the news of its last job arrive. */
    uint64_t io_free_ns[SIM_IO_THREADS];
    uint64_t stalled_until_ns;
    uint32_t slow_factor;
    bool disk_bad; /* An error was injected: a stop is expected. */
    uint64_t disk_full_until_ns;

    /* For the checks. */
    uint64_t applied[SIM_RANGES_MAX]; /* Of this incarnation; 0: none yet. */
    bool had_snapshot;                /* Likewise: it may jump forward. */
    uint64_t last_write_ok_ns;        /* A client of this node had a write acknowledged. */
    uint64_t last_read_ok_ns;
};

/* Drawn once per run. */
struct sim_params {
    uint32_t clients_per_node;
    uint64_t think_ns;        /* Mean pause of a client. */
    uint32_t keys;            /* Registers that are used at a time. */
    uint32_t lists;           /* Likewise. */
    uint32_t ranges_max;      /* No more splits by hand above; 1: none. */
    uint32_t splits;          /* In the quiet time before the faults. */
    uint64_t disk_write_ns;   /* Typical time of a synced write. */
    uint32_t latency_percent; /* Of the network, 3..120. */
    uint64_t fault_gap_ns;    /* Mean. */
    uint64_t log_bytes_max; /* Of a range's log: small ones are cut, and laggards need snapshots. */
    uint64_t gc_ttl_ns;     /* More than reads of the past go back. */
    uint64_t range_bytes_max; /* 0: ranges are split by hand only. */
    uint64_t merge_after_ns;  /* 0: practically never. */
    uint64_t dead_after_ns;
    uint64_t closed_lag_ns;
    uint64_t side_interval_ns;
    uint32_t election_ticks;
    uint32_t election_jitter_ticks;
    uint32_t padding_max; /* Bytes of an element of the set. */
    bool far_clocks;      /* Offsets are mostly at their bounds. */
    bool quick_support;   /* Promises between stores are short. */
    bool brutal;          /* Faults may take away the majority. */
    uint64_t profile;     /* Bit per fault kind that happens in this run. */
};

struct sim_world {
    struct sim_options o;
    struct sim_params params;
    uint64_t now_ns;
    uint64_t steps; /* Order of what clients see: grows with every call and answer. */
    struct sim_events events;
    uint64_t hash;
    uint64_t events_run;
    uint64_t faults_from_ns; /* 0: none yet. */
    uint64_t recovered_ns;   /* All nodes have made progress after healing; 0: not yet. */
    struct rng rng_net;
    struct rng rng_disk;
    struct rng rng_sched;
    struct rng rng_chaos;
    struct sim_net net;
    struct sim_node nodes[SIM_NODES_MAX];
    uint32_t nodes_count;
    uint8_t id_owner[SIM_IDS_MAX]; /* Machine + 1 by node id; a machine may have had several. */
    struct check *check;
    struct history *history;
    struct load *load;
    struct chaos *chaos;
    uint64_t faults[SIM_FAULT_COUNT];
    uint64_t states[SIM_STATE_COUNT];
    bool failed;
    char failure[SIM_FAILURE_MAX];
};

/* Records the first failure; the run ends at the next event. */
void sim_fail(struct sim_world *w, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Something happened: into the hash, and to stdout when traced. `what` is a literal. */
void sim_trace(struct sim_world *w, const char *what, uint64_t a, uint64_t b, uint64_t c);
void sim_fault(struct sim_world *w, enum sim_fault f, uint64_t a, uint64_t b);

static inline void sim_state(struct sim_world *w, enum sim_state s)
{
    w->states[s]++;
}

/* Exponential with this mean, cut at ten times that. */
uint64_t sim_exponential(struct rng *r, uint64_t mean);
/* An offset for a clock. */
int64_t sim_clock_offset(struct sim_world *w);
/* Between lo and hi, every order of magnitude equally likely. */
uint64_t sim_log_uniform(struct rng *r, uint64_t lo, uint64_t hi);

struct sim_world *sim_world_create(const struct sim_options *o);
void sim_world_destroy(struct sim_world *w);
/* Runs events up to and including that time, or until the run has failed. */
void sim_world_run_until(struct sim_world *w, uint64_t until_ns);

/* The node whose process leads this range with a lease right now; NULL: nobody. */
struct sim_node *sim_leaseholder(struct sim_world *w, range_id range);
/* Is that so for any range? */
bool sim_leads_any(struct sim_world *w, const struct sim_node *n);
