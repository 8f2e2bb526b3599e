/*
 * chaos.c -- faults at random, out of the kinds that this run has drawn.
 *
 * Each run has about half of the kinds (its profile), so that some runs are all about the network and
 * some about disks. Faults that take a node away are limited to a minority, except in brutal runs: a
 * cluster that never has a quorum does nothing that could be checked. The leaseholder is hit more
 * often than its share.
 *
 * A fault that lasts is an event that undoes it. Healing invalidates them all by a generation.
 */
#include "tests/sim/chaos.h"

#include <stdio.h>
#include <stdlib.h>

#include "node/base/invariant.h"
#include "node/runtime/fiber.h"
#include "tests/sim/check.h"
#include "tests/sim/keyspace.h"
#include "tests/sim/load.h"
#include "tests/sim/process.h"

#define ADMIN_NS (5 * SEC)

struct chaos {
    struct sim_world *w;
    struct sim_event next;
    uint32_t generation; /* Grows when healed. */
    bool on;
    uint64_t impaired_until_ns[SIM_NODES_MAX]; /* Down, paused or cut off, as far as planned. */
};

/* Undoes a fault. */
struct undo {
    struct sim_event event;
    void (*fn)(struct sim_world *w, uint32_t a, uint32_t b);
    uint32_t a;
    uint32_t b;
    uint32_t generation;
};

static void undo_drop(struct sim_event *e)
{
    free(CONTAINER_OF(e, struct undo, event));
}

static void undo_run(struct sim_world *w, struct sim_event *e)
{
    struct undo *u = CONTAINER_OF(e, struct undo, event);

    if (u->generation == w->chaos->generation) {
        sim_trace(w, "undo", u->a, u->b, 0);
        u->fn(w, u->a, u->b);
    }
    free(u);
}

static void later(struct sim_world *w, uint64_t after_ns,
                  void (*fn)(struct sim_world *w, uint32_t a, uint32_t b), uint32_t a, uint32_t b)
{
    struct undo *u = calloc(1, sizeof(*u));

    INVARIANT(u != NULL);
    *u = (struct undo){
        .event = {.run = undo_run, .drop = undo_drop},
        .fn = fn,
        .a = a,
        .b = b,
        .generation = w->chaos->generation,
    };
    sim_events_put(&w->events, &u->event, w->now_ns + after_ns);
}

/* ---- whom ---------------------------------------------------------------------------------------- */

/* The first range, which holds the index, gets more than its share. */
static range_id pick_range(struct sim_world *w)
{
    const struct keyspace *k = check_keyspace(w->check);

    if (rng_permille(&w->rng_chaos, 150)) {
        return (range_id){RANGE_FIRST_ID};
    }
    return keyspace_at(k, (uint32_t)rng_below(&w->rng_chaos, keyspace_count(k)));
}

static uint32_t pick(struct sim_world *w)
{
    const struct sim_node *leader = sim_leaseholder(w, pick_range(w));

    if (leader != NULL && rng_permille(&w->rng_chaos, 350)) {
        return leader->index;
    }
    return (uint32_t)rng_below(&w->rng_chaos, w->nodes_count);
}

static uint32_t pick_other(struct sim_world *w, uint32_t than)
{
    return (than + 1 + (uint32_t)rng_below(&w->rng_chaos, w->nodes_count - 1)) % w->nodes_count;
}

/* May these nodes (a bit each) go away until then? If so they are noted as gone. */
static bool may_impair(struct sim_world *w, uint64_t nodes, uint64_t for_ns)
{
    struct chaos *c = w->chaos;
    uint32_t gone = 0;

    for (uint32_t i = 0; i < w->nodes_count; i++) {
        gone += (nodes >> i & 1) != 0 || c->impaired_until_ns[i] > w->now_ns ? 1 : 0;
    }
    if (gone > (w->nodes_count - 1) / 2) {
        if (!w->params.brutal) {
            return false;
        }
        sim_state(w, SIM_STATE_QUORUM_LOST);
    }
    for (uint32_t i = 0; i < w->nodes_count; i++) {
        if ((nodes >> i & 1) != 0 && c->impaired_until_ns[i] < w->now_ns + for_ns) {
            c->impaired_until_ns[i] = w->now_ns + for_ns;
        }
    }
    return true;
}

/* ---- processes ----------------------------------------------------------------------------------- */

/* After a crash it takes some seconds until a store may speak again. */
#define RECOVERY_NS (3 * SEC)

static bool crash_one(struct sim_world *w, enum process_end how)
{
    const uint32_t i = pick(w);
    const uint64_t down_ns = sim_log_uniform(&w->rng_chaos, 20 * MS, 8 * SEC);

    if (w->nodes[i].life != SIM_UP || !may_impair(w, 1ull << i, down_ns + RECOVERY_NS)) {
        return false;
    }
    sim_fault(w, how == PROCESS_KILLED ? SIM_FAULT_KILL : SIM_FAULT_POWER, i, down_ns);
    process_crash(&w->nodes[i], how);
    process_start_in(&w->nodes[i], down_ns);
    return true;
}

/* Kills it again shortly after each start; `left` times. */
static void kill_again(struct sim_world *w, uint32_t i, uint32_t left)
{
    const uint64_t down_ns = sim_log_uniform(&w->rng_chaos, MS, 200 * MS);
    const uint64_t up_ns = sim_log_uniform(&w->rng_chaos, MS, 4 * SEC);

    process_crash(&w->nodes[i],
                  rng_permille(&w->rng_chaos, 500) ? PROCESS_KILLED : PROCESS_POWERED);
    process_start_in(&w->nodes[i], down_ns);
    if (left > 0) {
        later(w, down_ns + up_ns, kill_again, i, left - 1);
    }
}

static bool fault_crash_loop(struct sim_world *w)
{
    const uint32_t i = pick(w);

    if (w->nodes[i].life != SIM_UP || !may_impair(w, 1ull << i, 10 * SEC)) {
        return false;
    }
    sim_fault(w, SIM_FAULT_CRASH_LOOP, i, 0);
    kill_again(w, i, (uint32_t)rng_between(&w->rng_chaos, 2, 6));
    return true;
}

static bool fault_pause(struct sim_world *w)
{
    const uint32_t i = pick(w);
    const uint64_t for_ns = sim_log_uniform(&w->rng_chaos, 10 * MS, 20 * SEC);

    if (w->nodes[i].life != SIM_UP || process_is_paused(&w->nodes[i]) ||
        !may_impair(w, 1ull << i, for_ns)) {
        return false;
    }
    sim_fault(w, SIM_FAULT_PAUSE, i, for_ns);
    if (sim_leads_any(w, &w->nodes[i])) {
        sim_state(w, SIM_STATE_LEADER_PAUSED);
    }
    process_pause(&w->nodes[i], for_ns);
    return true;
}

static bool fault_restart(struct sim_world *w)
{
    const uint32_t i = pick(w);
    const uint64_t down_ns = sim_log_uniform(&w->rng_chaos, MS, 3 * SEC);

    if (w->nodes[i].life != SIM_UP || !w->nodes[i].ready || w->nodes[i].stopping ||
        !may_impair(w, 1ull << i, down_ns + 2 * RECOVERY_NS)) {
        return false;
    }
    sim_fault(w, SIM_FAULT_RESTART, i, down_ns);
    process_restart(&w->nodes[i], down_ns);
    return true;
}

static uint64_t nodes_of(struct sim_world *w, uint32_t region, uint32_t zone)
{
    uint64_t set = 0;

    for (uint32_t i = 0; i < w->nodes_count; i++) {
        if (w->nodes[i].region == region && (zone == SIM_ZONES || w->nodes[i].zone == zone)) {
            set |= 1ull << i;
        }
    }
    return set;
}

static bool crash_place(struct sim_world *w, enum sim_fault f)
{
    const uint32_t region = (uint32_t)rng_below(&w->rng_chaos, SIM_REGIONS);
    const uint32_t zone =
        f == SIM_FAULT_REGION_CRASH ? SIM_ZONES : (uint32_t)rng_below(&w->rng_chaos, SIM_ZONES);
    const uint64_t set = nodes_of(w, region, zone);
    const uint64_t down_ns = sim_log_uniform(&w->rng_chaos, 100 * MS, 8 * SEC);

    if (set == 0 || !may_impair(w, set, down_ns + RECOVERY_NS)) {
        return false;
    }
    sim_fault(w, f, set, down_ns);
    for (uint32_t i = 0; i < w->nodes_count; i++) {
        if ((set >> i & 1) != 0) {
            process_crash(&w->nodes[i], PROCESS_POWERED);
            process_start_in(&w->nodes[i], down_ns + rng_below(&w->rng_chaos, SEC));
        }
    }
    return true;
}

/* Somebody who is in the middle of a transaction: a good guess at who has staged just now. */
static void coordinator_goes(struct sim_world *w, uint32_t dice, uint32_t unused)
{
    const uint64_t for_ns = rng_between(&w->rng_chaos, 500 * MS, 9 * SEC);

    UNUSED(unused);
    for (uint32_t i = 0; i < w->nodes_count; i++) {
        struct sim_node *n = &w->nodes[(dice + i) % w->nodes_count];

        if (n->life != SIM_UP || process_is_paused(n) ||
            load_transactions_of(w->load, n->index) == 0) {
            continue;
        }
        if (!may_impair(w, 1ull << n->index, for_ns + RECOVERY_NS)) {
            break;
        }
        sim_fault(w, SIM_FAULT_COORDINATOR, n->index, for_ns);
        if (dice % 2 == 0) {
            process_pause(n, for_ns);
        } else {
            process_crash(n, PROCESS_KILLED);
            process_start_in(n, for_ns);
        }
        break;
    }
}

void chaos_staged(struct sim_world *w)
{
    if (w->chaos->on && (w->params.profile >> SIM_FAULT_COORDINATOR & 1) != 0 &&
        rng_permille(&w->rng_chaos, 60)) {
        later(w, rng_below(&w->rng_chaos, 3 * MS), coordinator_goes,
              (uint32_t)rng_below(&w->rng_chaos, 1000), 0);
    }
}

/* ---- network ------------------------------------------------------------------------------------- */

static enum sim_block pick_block(struct sim_world *w)
{
    return rng_permille(&w->rng_chaos, 700) ? SIM_BLOCK_DROP : SIM_BLOCK_HOLD;
}

static void release_drop(struct sim_world *w, uint32_t from, uint32_t to)
{
    sim_net_release(w, from, to, SIM_BLOCK_DROP);
}

static void release_hold(struct sim_world *w, uint32_t from, uint32_t to)
{
    sim_net_release(w, from, to, SIM_BLOCK_HOLD);
}

static void block(struct sim_world *w, uint32_t from, uint32_t to, enum sim_block how,
                  uint64_t for_ns)
{
    sim_net_block(w, from, to, how);
    later(w, for_ns, how == SIM_BLOCK_DROP ? release_drop : release_hold, from, to);
}

/* Blocks all links from a node of one set to one of the other. */
static void block_sets(struct sim_world *w, uint64_t from, uint64_t to, enum sim_block how,
                       uint64_t for_ns)
{
    for (uint32_t i = 0; i < w->nodes_count; i++) {
        for (uint32_t k = 0; k < w->nodes_count; k++) {
            if (i != k && (from >> i & 1) != 0 && (to >> k & 1) != 0) {
                block(w, i, k, how, for_ns);
            }
        }
    }
}

/* The worst clocks for a leaseholder that is cut off: its own is behind, all others are ahead, so that
 * they elect somebody while it believes that it has time. */
static void set_clocks_against(struct sim_world *w, uint32_t victim)
{
    for (uint32_t i = 0; i < w->nodes_count; i++) {
        sim_clock_step(&w->nodes[i].clock, w->now_ns,
                       i == victim ? -SIM_OFFSET_MAX_NS : SIM_OFFSET_MAX_NS);
    }
}

static bool cut_off(struct sim_world *w, enum sim_fault f)
{
    const uint64_t all = (1ull << w->nodes_count) - 1;
    const uint32_t i = pick(w);
    const uint64_t set =
        f == SIM_FAULT_REGION_CUT ? nodes_of(w, w->nodes[i].region, SIM_ZONES) : 1ull << i;
    const uint64_t for_ns = sim_log_uniform(&w->rng_chaos, 200 * MS, 15 * SEC);
    const enum sim_block how = pick_block(w);
    const bool sends = f != SIM_FAULT_ONE_WAY || rng_permille(&w->rng_chaos, 500);

    if ((all & ~set) == 0 || !may_impair(w, set, for_ns)) {
        return false;
    }
    sim_fault(w, f, set, for_ns);
    if (w->params.far_clocks && rng_permille(&w->rng_chaos, 400)) {
        set_clocks_against(w, i);
    }
    if (sends) {
        block_sets(w, set, all & ~set, how, for_ns);
    }
    if (f != SIM_FAULT_ONE_WAY || !sends) {
        block_sets(w, all & ~set, set, how, for_ns);
    }
    return true;
}

static bool fault_pair(struct sim_world *w)
{
    const uint32_t a = pick(w);
    const uint32_t b = pick_other(w, a);
    const uint64_t for_ns = sim_log_uniform(&w->rng_chaos, 200 * MS, 15 * SEC);
    const enum sim_block how = pick_block(w);

    sim_fault(w, SIM_FAULT_PAIR, a, b);
    block(w, a, b, how, for_ns);
    block(w, b, a, how, for_ns);
    return true;
}

static void release_class(struct sim_world *w, uint32_t pair, uint32_t cls)
{
    sim_net_release_class(w, pair / SIM_NODES_MAX, pair % SIM_NODES_MAX, (enum rpc_class)cls);
    sim_net_release_class(w, pair % SIM_NODES_MAX, pair / SIM_NODES_MAX, (enum rpc_class)cls);
}

/* Control, normal and bulk traffic of two nodes run over three connections, and one may fail. */
static bool fault_class_cut(struct sim_world *w)
{
    const uint32_t a = pick(w);
    const uint32_t b = pick_other(w, a);
    const enum rpc_class cls = (enum rpc_class)rng_below(&w->rng_chaos, RPC_CLASS_COUNT);

    sim_fault(w, SIM_FAULT_CLASS_CUT, (uint64_t)a << 32 | b, (uint64_t)cls);
    sim_net_block_class(w, a, b, cls);
    sim_net_block_class(w, b, a, cls);
    later(w, sim_log_uniform(&w->rng_chaos, 500 * MS, 15 * SEC), release_class,
          a * SIM_NODES_MAX + b, (uint32_t)cls);
    return true;
}

static void clog_one(struct sim_world *w, uint32_t from, uint32_t to)
{
    block(w, from, to, SIM_BLOCK_HOLD, sim_log_uniform(&w->rng_chaos, 100 * MS, 5 * SEC));
}

/* "Swizzle": links of a random subset stop one after the other and come back in another order. */
static bool fault_clog(struct sim_world *w)
{
    const uint32_t links = (uint32_t)rng_between(&w->rng_chaos, 2, 2 * w->nodes_count);
    uint64_t at_ns = 0;

    sim_fault(w, SIM_FAULT_CLOG, links, 0);
    for (uint32_t i = 0; i < links; i++) {
        const uint32_t from = (uint32_t)rng_below(&w->rng_chaos, w->nodes_count);

        at_ns += rng_below(&w->rng_chaos, 300 * MS) + 1;
        later(w, at_ns, clog_one, from, pick_other(w, from));
    }
    return true;
}

/* Rates of the whole network; `a` says which. */
enum rate {
    RATE_LOSS,
    RATE_DUP,
    RATE_REORDER,
    RATE_SPIKE,
};

static void set_rate(struct sim_world *w, uint32_t which, uint32_t permille)
{
    switch ((enum rate)which) {
    case RATE_LOSS:
        w->net.loss_permille = permille;
        break;
    case RATE_DUP:
        w->net.dup_permille = permille;
        break;
    case RATE_REORDER:
        w->net.reorder_permille = permille;
        break;
    case RATE_SPIKE:
        w->net.spike_permille = permille;
        break;
    }
}

static bool bad_network(struct sim_world *w, enum sim_fault f, enum rate which, uint32_t most)
{
    const uint64_t for_ns = sim_log_uniform(&w->rng_chaos, 500 * MS, 10 * SEC);
    const uint32_t permille = (uint32_t)sim_log_uniform(&w->rng_chaos, 5, most);

    sim_fault(w, f, permille, for_ns);
    set_rate(w, (uint32_t)which, permille);
    later(w, for_ns, set_rate, (uint32_t)which, 0);
    return true;
}

static bool fault_reset(struct sim_world *w)
{
    const uint32_t a = pick(w);
    const uint32_t b = pick_other(w, a);

    sim_fault(w, SIM_FAULT_RESET, a, b);
    sim_net_reset(w, a, b);
    return true;
}

/* ---- disks --------------------------------------------------------------------------------------- */

static bool fault_stall(struct sim_world *w)
{
    const uint32_t i = pick(w);
    const uint64_t for_ns = sim_log_uniform(&w->rng_chaos, SEC, 20 * SEC);

    if (!may_impair(w, 1ull << i, for_ns)) {
        return false;
    }
    sim_fault(w, SIM_FAULT_DISK_STALL, i, for_ns);
    w->nodes[i].stalled_until_ns = w->now_ns + for_ns;
    return true;
}

static void normal_speed(struct sim_world *w, uint32_t i, uint32_t unused)
{
    UNUSED(unused);
    w->nodes[i].slow_factor = 1;
}

static bool fault_slow(struct sim_world *w)
{
    const uint32_t i = pick(w);
    const uint64_t for_ns = sim_log_uniform(&w->rng_chaos, SEC, 10 * SEC);

    sim_fault(w, SIM_FAULT_DISK_SLOW, i, for_ns);
    w->nodes[i].slow_factor = (uint32_t)rng_between(&w->rng_chaos, 5, 50);
    later(w, for_ns, normal_speed, i, 0);
    return true;
}

static bool fault_disk_error(struct sim_world *w)
{
    const uint32_t i = pick(w);

    if (w->nodes[i].life != SIM_UP || !may_impair(w, 1ull << i, 8 * SEC)) {
        return false;
    }
    sim_fault(w, SIM_FAULT_DISK_ERROR, i, 0);
    w->nodes[i].disk_bad = true;
    memdisk_fail_writes(w->nodes[i].disk, STATUS_IO);
    return true;
}

static void space_again(struct sim_world *w, uint32_t i, uint32_t unused)
{
    UNUSED(unused);
    w->nodes[i].disk_full_until_ns = 0;
    memdisk_fail_writes(w->nodes[i].disk, STATUS_OK);
}

static bool fault_disk_full(struct sim_world *w)
{
    const uint32_t i = pick(w);
    const uint64_t for_ns = sim_log_uniform(&w->rng_chaos, 100 * MS, 6 * SEC);

    if (!may_impair(w, 1ull << i, for_ns + 2 * RECOVERY_NS)) {
        return false;
    }
    sim_fault(w, SIM_FAULT_DISK_FULL, i, for_ns);
    w->nodes[i].disk_bad = true;
    w->nodes[i].disk_full_until_ns = w->now_ns + for_ns;
    memdisk_fail_writes(w->nodes[i].disk, STATUS_DISK_FULL);
    later(w, for_ns, space_again, i, 0);
    return true;
}

static void warm_again(struct sim_world *w, uint32_t i, uint32_t unused)
{
    UNUSED(unused);
    memdisk_cold_reads(w->nodes[i].disk, 0, 1);
}

static bool fault_cold(struct sim_world *w)
{
    const uint32_t i = pick(w);

    sim_fault(w, SIM_FAULT_COLD_READS, i, 0);
    memdisk_cold_reads(w->nodes[i].disk, (uint32_t)rng_between(&w->rng_chaos, 20, 500),
                       rng_next(&w->rng_chaos));
    later(w, sim_log_uniform(&w->rng_chaos, SEC, 20 * SEC), warm_again, i, 0);
    return true;
}

/* ---- clocks -------------------------------------------------------------------------------------- */

static bool fault_clock(struct sim_world *w, enum sim_fault f)
{
    const uint32_t i = pick(w);
    struct sim_clock *c = &w->nodes[i].clock;
    const int64_t to = sim_clock_offset(w);

    sim_fault(w, f, i, (uint64_t)to);
    if (f == SIM_FAULT_CLOCK_STEP) {
        sim_clock_step(c, w->now_ns, to);
    } else if (f == SIM_FAULT_CLOCK_DRIFT) {
        sim_clock_set_drift(c, w->now_ns, to / (SIM_OFFSET_MAX_NS / 500));
    } else {
        sim_clock_freeze(c, w->now_ns, sim_log_uniform(&w->rng_chaos, MS, 200 * MS));
    }
    return true;
}

/* ---- by hand ------------------------------------------------------------------------------------- */

/* What an operator would do on the leaseholder: runs as a fiber there. */
struct admin {
    struct sim_node *node;
    enum sim_fault what;
    range_id range;
    uint64_t dice;
    size_t key_len; /* SPLIT: a key that was written lately; 0: wherever the store wants. */
    uint8_t key[128];
};

static struct status admin_transfer(struct admin *a, const struct range_desc *d, uint64_t deadline)
{
    const struct range_replica *r = &d->replicas[a->dice % d->replicas_count];

    if (r->store.v == node_ident(a->node->node).store.v) {
        return FAIL(STATUS_INVALID, "it has the lease");
    }
    TRY(store_transfer_lease(node_store(a->node->node), d->id, r->store, deadline));
    sim_state(a->node->world, SIM_STATE_TRANSFER_DONE);
    return OK;
}

static struct status admin_add(struct admin *a, const struct range_desc *d, uint64_t deadline)
{
    const struct registry *g = node_registry(a->node->node);
    const struct node_desc *n = &g->nodes[a->dice / 7 % g->count];

    if (n->stores_count == 0 || range_desc_find(d, n->stores[0]) != NULL) {
        return FAIL(STATUS_INVALID, "no such store, or it has a replica");
    }
    TRY(store_add_voter(node_store(a->node->node), d->id, n->id, n->stores[0], deadline));
    sim_state(a->node->world, SIM_STATE_MEMBER_ADDED);
    return OK;
}

static struct status admin_remove(struct admin *a, const struct range_desc *d, uint64_t deadline)
{
    const struct range_replica *r = &d->replicas[a->dice / 7 % d->replicas_count];

    if (d->replicas_count < 3) {
        return FAIL(STATUS_INVALID, "too few replicas");
    }
    TRY(store_remove_replica(node_store(a->node->node), d->id, r->store, deadline));
    sim_state(a->node->world, SIM_STATE_MEMBER_REMOVED);
    return OK;
}

static struct status admin_split(struct admin *a, struct arena *arena, uint64_t deadline)
{
    struct store *s = node_store(a->node->node);
    struct bytes key = bytes_of(a->key, a->key_len);

    if (key.len == 0) {
        TRY(store_split_key(s, a->range, arena, &key));
    }
    return store_split(s, a->range, key, deadline);
}

static struct status admin_run(struct admin *a, const struct range_desc *d, struct arena *arena,
                               uint64_t deadline)
{
    switch (a->what) {
    case SIM_FAULT_LEASE_TRANSFER:
        return admin_transfer(a, d, deadline);
    case SIM_FAULT_MEMBERSHIP:
        return a->dice % 2 == 0 ? admin_add(a, d, deadline) : admin_remove(a, d, deadline);
    case SIM_FAULT_SPLIT:
        return admin_split(a, arena, deadline);
    case SIM_FAULT_MERGE:
        return store_merge(node_store(a->node->node), a->range, deadline);
    default: /* Nothing that is done by hand. */
        break;
    }
    return FAIL(STATUS_INVALID, "no such work");
}

static void admin_fiber(void *arg)
{
    struct admin *a = arg;
    struct sim_node *n = a->node;
    const uint64_t deadline = env_mono_ns(&n->env) + ADMIN_NS;
    struct store_range_info info;
    struct arena arena;
    struct status st = FAIL(STATUS_INVALID, "no replica here");

    arena_init(&arena, 0);
    if (!n->cut && store_find_range(node_store(n->node), a->range, &arena, &info) &&
        info.desc.replicas_count > 0) {
        st = admin_run(a, &info.desc, &arena, deadline);
    }
    if (a->what == SIM_FAULT_LEASE_TRANSFER && st.code == STATUS_TIMEOUT) {
        sim_state(n->world, SIM_STATE_TRANSFER_ABORTED);
    }
    if (n->world->o.logs && !n->cut) {
        printf("%12.6f n%u -- %s of range %llu: %s\n", (double)n->world->now_ns / 1e9, n->index,
               sim_fault_text(a->what), (unsigned long long)a->range.v, status_text(st));
    }
    arena_deinit(&arena);
    free(a);
}

static bool do_admin(struct sim_world *w, enum sim_fault f, const struct admin *what)
{
    struct sim_node *n = sim_leaseholder(w, what->range);
    struct admin *a = NULL;

    if (n == NULL || !n->ready || n->stopping) {
        return false;
    }
    a = malloc(sizeof(*a));
    INVARIANT(a != NULL);
    *a = *what;
    a->node = n;
    a->what = f;
    a->dice = rng_next(&w->rng_chaos);
    if (!process_spawn(n, "sim.admin", admin_fiber, a)) {
        free(a);
        return false;
    }
    sim_fault(w, f, n->index, what->range.v);
    return true;
}

static bool fault_admin(struct sim_world *w, enum sim_fault f)
{
    return do_admin(w, f, &(struct admin){.range = pick_range(w)});
}

/* At a key that was written lately, mostly: where it hurts. */
static bool fault_split(struct sim_world *w)
{
    struct admin a = {.range = pick_range(w)};
    struct bytes key;

    if (keyspace_count(check_keyspace(w->check)) >= w->params.ranges_max) {
        return false;
    }
    if (rng_permille(&w->rng_chaos, 700) &&
        keyspace_recent_key(check_keyspace(w->check), &w->rng_chaos, &a.range, &key) &&
        key.len <= sizeof(a.key)) {
        memcpy(a.key, key.ptr, key.len);
        a.key_len = key.len;
    }
    return do_admin(w, SIM_FAULT_SPLIT, &a);
}

void chaos_split_some(struct sim_world *w)
{
    (void)fault_split(w);
}

/* ---- one fault ----------------------------------------------------------------------------------- */

static bool inject(struct sim_world *w, enum sim_fault f)
{
    switch (f) {
    case SIM_FAULT_KILL:
        return crash_one(w, PROCESS_KILLED);
    case SIM_FAULT_POWER:
        return crash_one(w, PROCESS_POWERED);
    case SIM_FAULT_CRASH_LOOP:
        return fault_crash_loop(w);
    case SIM_FAULT_PAUSE:
        return fault_pause(w);
    case SIM_FAULT_RESTART:
        return fault_restart(w);
    case SIM_FAULT_ZONE_CRASH:
    case SIM_FAULT_REGION_CRASH:
        return crash_place(w, f);
    case SIM_FAULT_ISOLATE:
    case SIM_FAULT_ONE_WAY:
    case SIM_FAULT_REGION_CUT:
        return cut_off(w, f);
    case SIM_FAULT_PAIR:
        return fault_pair(w);
    case SIM_FAULT_CLASS_CUT:
        return fault_class_cut(w);
    case SIM_FAULT_CLOG:
        return fault_clog(w);
    case SIM_FAULT_LOSS:
        return bad_network(w, f, RATE_LOSS, 200);
    case SIM_FAULT_DUP:
        return bad_network(w, f, RATE_DUP, 500);
    case SIM_FAULT_REORDER:
        return bad_network(w, f, RATE_REORDER, 500);
    case SIM_FAULT_DELAY:
        return bad_network(w, f, RATE_SPIKE, 100);
    case SIM_FAULT_RESET:
        return fault_reset(w);
    case SIM_FAULT_DISK_STALL:
        return fault_stall(w);
    case SIM_FAULT_DISK_SLOW:
        return fault_slow(w);
    case SIM_FAULT_DISK_ERROR:
        return fault_disk_error(w);
    case SIM_FAULT_DISK_FULL:
        return fault_disk_full(w);
    case SIM_FAULT_COLD_READS:
        return fault_cold(w);
    case SIM_FAULT_CLOCK_STEP:
    case SIM_FAULT_CLOCK_DRIFT:
    case SIM_FAULT_CLOCK_FREEZE:
        return fault_clock(w, f);
    case SIM_FAULT_LEASE_TRANSFER:
    case SIM_FAULT_MEMBERSHIP:
    case SIM_FAULT_MERGE:
        return fault_admin(w, f);
    case SIM_FAULT_SPLIT:
        return fault_split(w);
    case SIM_FAULT_UNSYNCED_LOST: /* Comes with POWER. */
    case SIM_FAULT_COORDINATOR:   /* When something is staged. */
    case SIM_FAULT_COUNT:
        break;
    }
    return false;
}

static void next_run(struct sim_world *w, struct sim_event *e)
{
    if (!w->chaos->on) {
        return;
    }
    for (uint32_t tries = 0; tries < 2 * SIM_FAULT_COUNT; tries++) {
        const enum sim_fault f = (enum sim_fault)rng_below(&w->rng_chaos, SIM_FAULT_COUNT);

        if ((w->params.profile >> f & 1) != 0 && inject(w, f)) {
            break;
        }
    }
    sim_events_put(&w->events, e,
                   w->now_ns + 1 + sim_exponential(&w->rng_chaos, w->params.fault_gap_ns));
}

static void next_drop(struct sim_event *e)
{
    UNUSED(e); /* Embedded. */
}

struct chaos *chaos_create(struct sim_world *w)
{
    struct chaos *c = calloc(1, sizeof(*c));

    INVARIANT(c != NULL);
    c->w = w;
    c->next = (struct sim_event){.run = next_run, .drop = next_drop};
    return c;
}

void chaos_destroy(struct chaos *c)
{
    free(c);
}

void chaos_start(struct sim_world *w)
{
    w->chaos->on = true;
    sim_events_put(&w->events, &w->chaos->next, w->now_ns + 1);
}

void chaos_heal(struct sim_world *w)
{
    struct chaos *c = w->chaos;

    sim_trace(w, "heal", 0, 0, 0);
    c->on = false;
    c->generation++;
    sim_events_remove(&w->events, &c->next);
    sim_net_heal(w);
    for (uint32_t i = 0; i < w->nodes_count; i++) {
        struct sim_node *n = &w->nodes[i];

        n->slow_factor = 1;
        n->disk_full_until_ns = 0;
        memdisk_cold_reads(n->disk, 0, 1);
        if (!n->disk_bad) { /* Else it has a failed write before it: it has to stop first. */
            memdisk_fail_writes(n->disk, STATUS_OK);
        }
        process_resume(n);
        sim_env_unstall(n);
        process_start_in(n, 1 + rng_below(&w->rng_chaos, 500 * MS));
    }
}
