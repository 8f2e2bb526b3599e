/* How transactions wait for transactions, and how they stop when they wait for each other. */
#include "node/base/invariant.h"
#include "tests/unit/range/txn_rig.h"

#define MEMBERS_MAX 20
#define ROUNDS_MAX  200

static struct bytes key_of(uint32_t n)
{
    static const char names[20][4] = {"\x88/a", "\x88/b", "\x88/c", "\x88/d", "\x88/e",
                                      "\x88/f", "\x88/g", "\x88/h", "\x88/i", "\x88/j",
                                      "\x88/k", "\x88/l", "\x88/m", "\x88/n", "\x88/o",
                                      "\x88/p", "\x88/q", "\x88/r", "\x88/s", "\x88/t"};

    return bytes_of(names[n], 3);
}

static void start(struct cluster *c, uint32_t nodes)
{
    cluster_start(c, nodes);
    for (uint32_t i = 0; i < 20; i++) {
        char key[4] = {0};

        memcpy(key, key_of(i).ptr, 3);
        INVARIANT(cluster_put(c, 0, key, "v") == STATUS_OK);
    }
    rig_connect(c);
}

/* A client that takes two steps, and begins anew when it is told to. */
struct member {
    struct cluster_node *node;
    uint32_t number;
    uint32_t priority;
    uint32_t first;
    uint32_t second;
    bool intents;
    bool again; /* Until it succeeds. */
    struct rng *rng;
    uint32_t deadlocks;
    uint32_t retries;
    struct status st;
    uint64_t done_ms;
};

MAYYIELD static struct status step(const struct member *m, const struct rig_txn *t, uint32_t key)
{
    return m->intents ? rig_write(t, key_of(key)) : rig_lock(t, key_of(key), MVCC_EXCLUSIVE);
}

MAYYIELD static struct status attempt(struct member *m)
{
    struct rig_txn t = rig_begin(m->node, m->number, key_of(m->first));
    const struct bytes keys[] = {key_of(m->first), key_of(m->second)};
    struct status st = OK;

    t.priority = m->priority;
    st = step(m, &t, m->first);
    if (status_ok(st)) {
        st = fiber_sleep(10000000);
    }
    if (status_ok(st)) {
        st = step(m, &t, m->second);
    }
    if (status_ok(st) && !m->intents) {
        st = rig_commit(&t, keys, 2);
    } else {
        const struct status ended = rig_abort(&t);

        st = status_ok(st) ? ended : st;
    }
    return st;
}

static void member_body(void *arg)
{
    struct member *m = arg;

    for (uint32_t i = 0; i < ROUNDS_MAX; i++) {
        m->st = attempt(m);
        m->deadlocks += m->st.code == STATUS_DEADLOCK ? 1 : 0;
        m->retries += m->st.code == STATUS_TXN_RETRY ? 1 : 0;
        if (!m->again || status_ok(m->st)) {
            break;
        }
        m->number = (uint32_t)rng_next(m->rng);
        m->priority++;                       /* Who has lost more often goes first. */
        status_ignore(fiber_sleep(5000000)); /* Only a pause. */
    }
    m->done_ms = env_mono_ns(shard_env(m->node->shard)) / 1000000;
}

static uint32_t run_members(struct cluster *c, struct member *m, uint32_t count, uint32_t ms)
{
    uint32_t done = 0;

    for (uint32_t i = 0; i < count; i++) {
        m[i].node = &c->nodes[0];
        m[i].priority = m[i].priority == 0 ? 1 : m[i].priority;
        INVARIANT(status_ok(fiber_spawn(c->nodes[0].shard, "member", member_body, &m[i])));
    }
    for (uint32_t t = 0; t < ms && done < count; t++) {
        cluster_run_ms(c, 1);
        done = 0;
        for (uint32_t i = 0; i < count; i++) {
            done += m[i].done_ms != 0 ? 1 : 0;
        }
    }
    return done;
}

/* Exactly one gives way, the one with the lowest (priority, id), and soon. */
static bool one_victim(uint32_t members, bool intents, uint32_t low)
{
    struct cluster c;
    struct member m[MEMBERS_MAX] = {{0}};
    bool good = true;

    start(&c, 1);
    for (uint32_t i = 0; i < members; i++) {
        m[i].number = 10 + i;
        m[i].priority = i == low ? 1 : 2;
        m[i].first = i;
        m[i].second = (i + 1) % members;
        m[i].intents = intents;
    }
    good = run_members(&c, m, members, 1000) == members;
    for (uint32_t i = 0; i < members; i++) {
        good = good && m[i].st.code == (i == low ? STATUS_DEADLOCK : STATUS_OK);
    }
    if (!good) {
        for (uint32_t i = 0; i < members; i++) {
            printf("member %u: %s at %llu ms\n", i, status_text(m[i].st),
                   (unsigned long long)m[i].done_ms);
        }
    }
    cluster_run_ms(&c, 2500);
    good = good && c.nodes[0].store->pushes.count == 0 && c.nodes[0].store->pushes.sent == 0;
    cluster_stop(&c);
    return good;
}

TEST(push, a_cycle_of_locks_costs_one_transaction)
{
    for (uint32_t members = 2; members <= 6; members++) {
        EXPECT_TRUE(one_victim(members, false, members / 2));
    }
}

TEST(push, a_cycle_of_intents_costs_one_transaction)
{
    EXPECT_TRUE(one_victim(2, true, 0));
    EXPECT_TRUE(one_victim(3, true, 2));
}

/* Everybody gets through in the end, whatever order they take the keys in. */
TEST(push, twenty_transactions_on_five_hot_keys)
{
    struct cluster c;
    struct member m[20] = {{0}};
    struct rng rng;
    uint32_t rounds = 0;
    uint64_t last = 0;

    start(&c, 1);
    rng_seed(&rng, 11);
    for (uint32_t i = 0; i < 20; i++) {
        m[i].number = 10 + i;
        m[i].first = (uint32_t)rng_below(&rng, 5);
        m[i].second = (m[i].first + 1 + (uint32_t)rng_below(&rng, 4)) % 5;
        m[i].again = true;
        m[i].rng = &rng;
    }
    EXPECT_EQ(20, run_members(&c, m, 20, 30000));
    for (uint32_t i = 0; i < 20; i++) {
        EXPECT_OK(m[i].st);
        EXPECT_EQ(0, m[i].retries);
        rounds += m[i].deadlocks;
        last = m[i].done_ms > last ? m[i].done_ms : last;
    }
    EXPECT_TRUE(rounds > 0 && last < 10000);
    cluster_run_ms(&c, 2500);
    EXPECT_EQ(0, c.nodes[0].store->pushes.count);
    cluster_stop(&c);
}
