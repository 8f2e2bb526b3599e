/*
 * test_random.c -- the randomised checker: dice decide everything that may happen to a group of
 * replicas, and after every step the invariants are checked (sim.c).
 *
 * What may happen: messages are delayed, reordered, duplicated, lost; writes complete late; nodes crash
 * and lose what was not durable; the network is cut in one or both directions; support for stores is
 * extended, lost and withdrawn; leadership is transferred; the configuration changes, also jointly;
 * logs are truncated so that snapshots are needed. At the end everything heals, and the group must come
 * to rest: one leader, the same state everywhere, nobody with anything left to say.
 *
 * A failing run names its seed. To repeat it:   RAFT_SEED=1234 build/debug/bin/test_raft random
 * More runs:                                    RAFT_RUNS=5000 build/debug/bin/test_raft random
 */
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "node/base/invariant.h"
#include "tests/unit/raft/sim.h"

#define RUNS_DEFAULT     300u
#define STEPS            2500u
#define HEAL_TICKS       400u
#define PACKETS_MAX      300u
#define PLANT_RUNS       400u
#define PACKETS_PER_STEP 5u
#define NODES_PER_STEP   4u

/* How rough a run is; drawn from its seed. */
struct weather {
    uint32_t loss; /* Permille per delivery ... */
    uint32_t dup;
    uint32_t crash; /* ... and per step. */
    uint32_t cut;
    uint32_t conf;
    uint32_t transfer;
    uint32_t truncate;
    uint32_t tick;
    uint32_t write;
    uint32_t propose;
    uint32_t ambush;
    uint32_t lazy; /* The owner takes its time to append the first entry of a term. */
    uint64_t support_ns;
};

static struct weather draw_weather(struct rng *rng)
{
    static const uint32_t rough[4] = {0, 4, 12, 30};

    struct weather w = {
        .loss = (uint32_t)rng_below(rng, 4) * 60,
        .dup = (uint32_t)rng_below(rng, 3) * 40,
        .crash = rough[rng_below(rng, 4)],
        .cut = rough[rng_below(rng, 4)],
        .conf = rough[rng_below(rng, 4)] * 2,
        .transfer = rough[rng_below(rng, 4)],
        .truncate = rough[rng_below(rng, 4)] * 2,
        .tick = 80 + (uint32_t)rng_below(rng, 3) * 80,
        .write = 150 + (uint32_t)rng_below(rng, 4) * 150,
        .propose = 80,
        .lazy = (uint32_t)rng_below(rng, 3) * 450,
        .support_ns = rng_below(rng, 2) == 0 ? SIM_SUPPORT_NS : 10 * SIM_TICK_NS,
    };

    if (rng_below(rng, 4) == 0) {
        w.ambush = 8;
        w.propose = 2;
        w.lazy = 995;
        w.loss = 0;
        w.crash = 0;
        w.cut = 0;
        w.transfer = 0;
    }
    return w;
}

static struct sim_node *any_node(struct sim *s, struct rng *rng)
{
    return &s->nodes[rng_below(rng, s->count)];
}

static struct sim_node *any_leader(struct sim *s, struct rng *rng)
{
    const uint64_t from = rng_below(rng, s->count);

    for (uint32_t i = 0; i < s->count; i++) {
        struct sim_node *n = &s->nodes[(from + i) % s->count];

        if (sim_is_leader(n)) {
            return n;
        }
    }
    return NULL;
}

/* A new leader begins its lease, as the owner of the core does. */
static void start_lease(struct sim_node *n)
{
    struct raft_state st;

    if (n->r == NULL) {
        return;
    }
    st = raft_get_state(n->r);
    if (st.role == RAFT_LEADER && n->lease_term != st.term) {
        n->lease_term = st.term;
        (void)sim_propose(n, "start", NULL);
    }
}

/* Store liveness. */

static void renew(struct sim *s, struct rng *rng, uint32_t requester, const struct weather *w)
{
    struct sim_node *n = &s->nodes[requester];
    const struct hts until = {s->now_ns + w->support_ns, 0};
    const uint32_t loss = w->loss;

    n->max_requested = hts_max(n->max_requested, until);
    for (uint32_t i = 0; i < s->count; i++) {
        struct sim_node *p = &s->nodes[i];
        struct sim_support *sup = &s->support[requester][i];

        if (i == requester || p->r == NULL || s->cut[requester][i] || rng_permille(rng, loss)) {
            continue;
        }
        if (s->cut[i][requester] || rng_permille(rng, loss)) {
            /* The answer is lost: it promised more than the requester will ever know. */
            if (sup->from_epoch >= sup->epoch && sup->epoch != 0) {
                sup->epoch = sup->from_epoch;
                sup->expiration = hts_max(sup->expiration, until);
            }
            continue;
        }
        sim_support(s, requester, i, until);
    }
}

static void expire(struct sim *s)
{
    for (uint32_t i = 0; i < s->count; i++) {
        for (uint32_t k = 0; k < s->count; k++) {
            struct sim_support *p = &s->support[i][k];

            if (s->nodes[k].r != NULL && !hts_is_zero(p->expiration) &&
                p->expiration.wall <= s->now_ns) {
                sim_withdraw(s, i, k);
            }
            if (s->nodes[i].r != NULL && !hts_is_zero(p->from_expiration) &&
                p->from_expiration.wall <= s->now_ns) {
                p->from_expiration = HTS_ZERO;
                sim_support_changed(&s->nodes[i], k);
            }
        }
    }
}

static void tick(struct sim *s, struct rng *rng, const struct weather *w)
{
    sim_set_time(s, s->now_ns + SIM_TICK_NS);
    expire(s);
    for (uint32_t i = 0; i < s->count; i++) {
        struct sim_node *n = &s->nodes[i];

        sim_boot_if_due(n);
        if (n->r == NULL) {
            continue;
        }
        if ((s->now_ns / SIM_TICK_NS) % 8 == i % 8) {
            renew(s, rng, i, w);
        }
        if (!raft_quiet(n->r)) { /* A sleeping replica has no timer. */
            raft_tick(n->r);
        }
        sim_observe(n);
        sim_transfer_poll(n);
    }
}

/* Faults. */

static void redraw_cuts(struct sim *s, struct rng *rng)
{
    const struct sim_node *leader = any_leader(s, rng);
    const bool heal = rng_below(rng, 2) == 0;
    uint64_t side = rng_next(rng);

    if (leader != NULL && rng_below(rng, 2) == 0) {
        side = (uint64_t)1 << leader->slot | (side & rng_next(rng) & rng_next(rng));
    }

    for (uint32_t i = 0; i < SIM_NODES_MAX; i++) {
        for (uint32_t k = 0; k < SIM_NODES_MAX; k++) {
            s->cut[i][k] =
                !heal && ((side >> i) & 1) != ((side >> k) & 1) && rng_below(rng, 8) != 0;
        }
    }
}

/* A leader writes something that only its own disk will ever see, and is cut off; the one before comes
 * back. Chains of such leaders make old entries compete (figure 8 of the Raft paper). */
static void ambush(struct sim *s, struct rng *rng)
{
    struct sim_node *n = any_leader(s, rng);

    if (n == NULL) {
        return;
    }
    memset(s->cut, 0, sizeof(s->cut));
    (void)sim_propose(n, "private", NULL);
    (void)sim_ready(n);
    while (sim_write_done(n)) {
    }
    for (uint32_t i = 0; i < SIM_NODES_MAX; i++) {
        s->cut[n->slot][i] = true;
        s->cut[i][n->slot] = true;
    }
}

/* Mostly a minority is down, so that there is somebody left to get into trouble. */
static void crash_or_restart(struct sim *s, struct rng *rng)
{
    struct sim_node *n = any_node(s, rng);
    uint32_t down = 0;

    for (uint32_t i = 0; i < s->count; i++) {
        down += s->nodes[i].id.v != 0 && s->nodes[i].r == NULL ? 1 : 0;
    }
    if (down > 0 && (down * 2 >= s->count || rng_below(rng, 2) == 0)) {
        while (n->id.v == 0 || n->r != NULL) {
            n = any_node(s, rng);
        }
        if (!n->booting) {
            sim_restart(n);
        }
    } else if (n->r != NULL) {
        sim_crash(n);
    }
}

/* Configuration changes that the leader's owner might order. */

static uint32_t fresh_id(const struct sim *s, uint32_t slot)
{
    const uint32_t old = s->used_id[slot];

    return old == 0 ? slot + 1 : old + 16;
}

static void insert_peer(struct raft_conf *c, struct raft_peer p)
{
    uint32_t at = c->count++;

    for (; at > 0 && c->peers[at - 1].id.v > p.id.v; at--) {
        c->peers[at] = c->peers[at - 1];
    }
    c->peers[at] = p;
}

static bool is_joint(const struct raft_conf *c)
{
    bool joint = false;

    for (uint32_t i = 0; i < c->count; i++) {
        joint = joint || c->peers[i].type == RAFT_VOTER_INCOMING ||
                c->peers[i].type == RAFT_VOTER_DEMOTING;
    }
    return joint;
}

static void leave_joint(struct raft_conf *c)
{
    for (uint32_t i = 0; i < c->count; i++) {
        c->peers[i].type = c->peers[i].type == RAFT_VOTER_INCOMING   ? RAFT_VOTER
                           : c->peers[i].type == RAFT_VOTER_DEMOTING ? RAFT_LEARNER
                                                                     : c->peers[i].type;
    }
}

static uint32_t count_type(const struct raft_conf *c, enum raft_peer_type t)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < c->count; i++) {
        n += c->peers[i].type == t ? 1 : 0;
    }
    return n;
}

/* Adds a learner where none lives, or removes one, or promotes one alone, or swaps jointly. */
static void change_peers(struct sim *s, struct rng *rng, replica_id leader, struct raft_conf *c)
{
    const uint32_t what = (uint32_t)rng_below(rng, 4);
    const uint32_t at = (uint32_t)rng_below(rng, c->count);
    uint32_t slot = (uint32_t)rng_below(rng, 7);

    if (what == 0 && c->count < 7) {
        for (uint32_t i = 0; i < c->count; i++) {
            if (c->peers[i].store.v == slot + 1) {
                return;
            }
        }
        insert_peer(c, (struct raft_peer){{fresh_id(s, slot)}, {slot + 1}, RAFT_LEARNER});
    } else if (what == 1 && c->peers[at].type == RAFT_LEARNER) {
        memmove(&c->peers[at], &c->peers[at + 1], (c->count - at - 1) * sizeof(c->peers[0]));
        c->count--;
    } else if (what == 2 && c->peers[at].type == RAFT_LEARNER) {
        c->peers[at].type = RAFT_VOTER;
    } else if (what == 3) {
        for (uint32_t i = 0; i < c->count; i++) {
            if (c->peers[i].type == RAFT_LEARNER && rng_below(rng, 2) == 0) {
                c->peers[i].type = RAFT_VOTER_INCOMING;
            } else if (c->peers[i].type == RAFT_VOTER && c->peers[i].id.v != leader.v &&
                       count_type(c, RAFT_VOTER) > 2 && rng_below(rng, 2) == 0) {
                c->peers[i].type = RAFT_VOTER_DEMOTING;
            }
        }
    }
}

static void change_conf(struct sim *s, struct rng *rng)
{
    struct sim_node *n = any_leader(s, rng);
    struct raft_conf c;

    if (n == NULL) {
        return;
    }
    c = *raft_get_conf(n->r);
    if (is_joint(&c)) {
        const int self = (int)n->slot;

        for (uint32_t i = 0; i < c.count; i++) {
            if ((int)c.peers[i].store.v - 1 == self && c.peers[i].type == RAFT_VOTER_DEMOTING) {
                return; /* A leader that is being demoted hands over first (I-3.6). */
            }
        }
        leave_joint(&c);
    } else {
        change_peers(s, rng, n->id, &c);
    }
    (void)sim_propose(n, NULL, &c);
}

static void transfer(struct sim *s, struct rng *rng)
{
    struct sim_node *n = any_leader(s, rng);

    if (n != NULL) {
        const struct raft_conf *c = raft_get_conf(n->r);

        (void)sim_transfer(n, c->peers[rng_below(rng, c->count)].id);
        sim_observe(n);
    }
}

static void truncate_some(struct sim *s, struct rng *rng)
{
    struct sim_node *n = any_node(s, rng);

    if (n->r != NULL) {
        /* Mostly what the leader allows; sometimes more, so that somebody needs a snapshot. */
        sim_truncate(n, rng_below(rng, 3) != 0 ? raft_truncate_hint(n->r) : n->disk.applied.index);
    }
}

static void deliver_some(struct sim *s, struct rng *rng, const struct weather *w)
{
    for (uint32_t k = 0; k < PACKETS_PER_STEP && s->packets_count > 0; k++) {
        const uint32_t i = (uint32_t)rng_below(rng, s->packets_count < 20 ? s->packets_count : 20);
        const struct raft_msg *m = &s->packets[i].m;
        const struct sim_node *from = sim_find(s, m->from);
        const struct sim_node *to = sim_find(s, m->to);
        const bool cut = from == NULL || to == NULL || s->cut[from->slot][to->slot];

        if (cut || rng_permille(rng, w->loss) || s->packets_count > PACKETS_MAX) {
            sim_drop(s, i);
        } else {
            sim_deliver(s, i, m->type != RAFT_MSG_SNAP && rng_permille(rng, w->dup));
        }
    }
}

static void step(struct sim *s, struct rng *rng, const struct weather *w)
{
    struct sim_node *n = NULL;

    deliver_some(s, rng, w);
    for (uint32_t i = 0; i < NODES_PER_STEP; i++) {
        n = any_node(s, rng);
        if (!rng_permille(rng, w->lazy)) {
            start_lease(n);
        }
        (void)sim_ready(n);
        if (rng_permille(rng, w->write)) {
            (void)sim_write_done(any_node(s, rng));
        }
    }
    if (rng_permille(rng, w->tick)) {
        tick(s, rng, w);
    }
    if (rng_permille(rng, w->propose) && (n = any_leader(s, rng)) != NULL) {
        char text[32];

        (void)snprintf(text, sizeof(text), "p%" PRIu64, s->payloads++);
        (void)sim_propose(n, text, NULL);
    }
    if (rng_permille(rng, w->crash)) {
        crash_or_restart(s, rng);
    }
    if (rng_permille(rng, w->cut)) {
        redraw_cuts(s, rng);
    }
    if (rng_permille(rng, w->ambush)) {
        ambush(s, rng);
    }
    if (rng_permille(rng, w->conf)) {
        change_conf(s, rng);
    }
    if (rng_permille(rng, w->transfer)) {
        transfer(s, rng);
    }
    if (rng_permille(rng, w->truncate)) {
        truncate_some(s, rng);
    }
    if (rng_permille(rng, 5) && (n = any_node(s, rng))->r != NULL) {
        raft_campaign(n->r);
        sim_observe(n);
    }
}

/* Where everybody stands, for the one who has to understand a failed run. */
static void print_nodes(const struct sim *s)
{
    for (uint32_t i = 0; i < s->count; i++) {
        const struct sim_node *n = &s->nodes[i];
        struct raft_state st;

        if (n->r == NULL) {
            printf("  slot %u: replica %u is %s\n", i, n->id.v, n->booting ? "booting" : "down");
            continue;
        }
        st = raft_get_state(n->r);
        printf("  slot %u: replica %u %s term %" PRIu64 " leader %u applied %" PRIu64
               " stable %" PRIu64 " commit %" PRIu64 " last %" PRIu64 "%s%s%s conf",
               i, n->id.v, raft_role_text(st.role), st.term, st.leader.v, st.applied, st.stable,
               st.commit, st.last, raft_quiet(n->r) ? " quiet" : "",
               st.transferring ? " transferring" : "", st.stepping_down ? " stepping-down" : "");
        for (uint32_t k = 0; k < raft_get_conf(n->r)->count; k++) {
            const struct raft_peer *p = &raft_get_conf(n->r)->peers[k];
            struct raft_progress pr;

            printf(" %u%c", p->id.v, "VLID"[p->type]);
            if (raft_get_progress(n->r, p->id, &pr)) {
                printf("[%c %" PRIu64 " %" PRIu64 "%s]", "PRS"[pr.state], pr.match, pr.next,
                       pr.fortified ? " f" : "");
            }
        }
        printf("\n");
    }
}

/* A leader that is being demoted hands over to a voter that stays. */
static void hand_over(struct sim_node *n)
{
    const struct raft_conf *c = n->r == NULL ? NULL : raft_get_conf(n->r);
    bool demoting = false;

    if (!sim_is_leader(n)) {
        return;
    }
    for (uint32_t i = 0; i < c->count; i++) {
        demoting =
            demoting || (c->peers[i].id.v == n->id.v && c->peers[i].type == RAFT_VOTER_DEMOTING);
    }
    for (uint32_t i = 0; demoting && i < c->count; i++) {
        if (c->peers[i].type == RAFT_VOTER && status_ok(sim_transfer(n, c->peers[i].id))) {
            return;
        }
    }
}

/* Everything works again: run until nobody has anything to do. */
static void settle(struct sim *s)
{
    bool busy = true;

    for (uint32_t round = 0; busy && round < 200 && !sim_broken(s); round++) {
        busy = s->packets_count > 0;
        while (s->packets_count > 0) {
            sim_deliver(s, 0, false);
        }
        for (uint32_t i = 0; i < s->count; i++) {
            start_lease(&s->nodes[i]);
            hand_over(&s->nodes[i]);
            sim_transfer_poll(&s->nodes[i]);
            busy = sim_ready(&s->nodes[i]) || busy;
            while (sim_write_done(&s->nodes[i])) {
                busy = true;
            }
        }
    }
    if (busy && !sim_broken(s)) {
        sim_violate(s, "messages without end");
    }
}

static bool at_rest(const struct sim *s)
{
    uint64_t index = 0;
    uint32_t leaders = 0;

    for (uint32_t i = 0; i < s->count; i++) {
        const struct sim_node *n = &s->nodes[i];

        if (n->id.v == 0) {
            continue;
        }
        if (n->r == NULL || !raft_quiet(n->r) || (index != 0 && n->disk.applied.index != index)) {
            return false;
        }
        index = n->disk.applied.index;
        leaders += sim_is_leader(n) ? 1 : 0;
    }
    return leaders == 1;
}

static void heal(struct sim *s, struct rng *rng)
{
    const struct weather fair = {.support_ns = SIM_SUPPORT_NS};

    memset(s->cut, 0, sizeof(s->cut));
    for (uint32_t i = 0; i < s->count; i++) {
        if (s->nodes[i].r == NULL && s->nodes[i].id.v != 0 && !s->nodes[i].booting) {
            sim_restart(&s->nodes[i]);
        }
    }
    for (uint32_t t = 0; t < HEAL_TICKS && !sim_broken(s); t++) {
        settle(s);
        if (t > 50 && at_rest(s)) {
            return;
        }
        tick(s, rng, &fair);
    }
    if (!sim_broken(s)) {
        sim_violate(s, "no rest after healing");
    }
}

/* What the runs reached, so that nobody is fooled by a checker that checks nothing. */
struct stats {
    uint64_t indexes;
    uint64_t leaders;
    uint64_t snapshots;
};

/* Runs one seed; the text of the violation or "". */
static bool run(uint64_t seed, uint32_t plants, char *violation, size_t size, struct stats *stats)
{
    struct rng rng;
    struct weather w;
    struct sim *s = calloc(1, sizeof(*s));
    bool ok = false;

    INVARIANT(s != NULL);
    rng_seed(&rng, seed);
    w = draw_weather(&rng);
    sim_init(s, 1 + 2 * (uint32_t)rng_below(&rng, 3), (uint32_t)rng_below(&rng, 3), seed, plants);
    for (uint32_t i = 0; i < 8; i++) {
        tick(s, &rng, &w); /* Everybody supports everybody. */
    }
    for (uint32_t i = 0; i < STEPS && !sim_broken(s); i++) {
        step(s, &rng, &w);
    }
    heal(s, &rng);
    ok = !sim_broken(s);
    if (!ok && plants == 0) {
        print_nodes(s);
    }
    (void)snprintf(violation, size, "%s", s->violation);
    if (stats != NULL) {
        stats->indexes += s->facts_count;
        for (uint32_t i = 0; i < s->terms_count; i++) {
            stats->leaders += s->terms[i].leader != 0 ? 1 : 0;
        }
        stats->snapshots += s->snapshots;
    }
    sim_deinit(s);
    free(s);
    return ok;
}

static uint64_t env_number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text == NULL ? otherwise : strtoull(text, NULL, 10);
}

TEST(random, invariants_hold_whatever_the_dice_say)
{
    const uint64_t only = env_number("RAFT_SEED", 0);
    const uint64_t runs = only != 0 ? 1 : env_number("RAFT_RUNS", RUNS_DEFAULT);
    struct stats stats = {0};

    for (uint64_t i = 0; i < runs; i++) {
        const uint64_t seed = only != 0 ? only : i + 1;
        char violation[256];

        if (!run(seed, 0, violation, sizeof(violation), &stats)) {
            test_fail(__FILE__, __LINE__,
                      "%s\n  repeat with: RAFT_SEED=%" PRIu64 " build/debug/bin/test_raft random",
                      violation, seed);
            return;
        }
    }
    printf("random: %" PRIu64 " runs, %" PRIu64 " indexes, %" PRIu64 " leaders, %" PRIu64
           " snapshots\n",
           runs, stats.indexes, stats.leaders, stats.snapshots);
    EXPECT_TRUE(only != 0 || runs < 100 || stats.snapshots > 0);
}

#ifdef DSQL_PLANTS
/* Runs seeds with a planted bug in a process of its own: the core may stop at its own INVARIANT,
 * which counts as found too. Returns the number of the run that found it, 0 for none. */
static uint32_t find_plant(uint32_t plant)
{
    uint32_t found = 0;
    int ends[2];
    pid_t child = 0;
    int status = 0;

    INVARIANT(pipe(ends) == 0);
    (void)fflush(NULL);
    child = fork();
    INVARIANT(child >= 0);
    if (child == 0) {
        (void)close(ends[0]);
        INVARIANT(freopen("/dev/null", "w", stderr) != NULL);
        for (uint32_t i = 1; i <= PLANT_RUNS; i++) {
            char violation[256];

            (void)!write(ends[1], &i, sizeof(i));
            if (!run(i, plant, violation, sizeof(violation), NULL)) {
                _exit(3);
            }
        }
        _exit(0);
    }
    (void)close(ends[1]);
    while (read(ends[0], &found, sizeof(found)) == (ssize_t)sizeof(found)) {
    }
    (void)close(ends[0]);
    INVARIANT(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : found;
}

TEST(random, every_planted_bug_is_found)
{
    static const struct {
        uint32_t plant;
        const char *name;
    } plants[] = {
        {RAFT_PLANT_VOTE_TWICE, "vote twice"},
        {RAFT_PLANT_ACK_BEFORE_DURABLE, "acknowledge before durable"},
        {RAFT_PLANT_COMMIT_OLD_TERM, "commit old term"},
        {RAFT_PLANT_NO_TRUNCATE_CONFLICT, "no truncate conflict"},
        {RAFT_PLANT_IGNORE_SUPPORT, "ignore support"},
        {RAFT_PLANT_MINORITY_COMMIT, "minority commit"},
        {RAFT_PLANT_LEARNER_COUNTS, "learner counts"},
    };

    for (size_t i = 0; i < ARRAY_COUNT(plants); i++) {
        const uint32_t run_number = find_plant(plants[i].plant);

        printf("random: planted bug \"%s\" found by run %u\n", plants[i].name, run_number);
        if (run_number == 0) {
            test_fail(__FILE__, __LINE__, "planted bug \"%s\" was not found", plants[i].name);
        }
    }
}
#endif
