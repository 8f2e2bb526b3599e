/* Writes that are more than a range can take wait at the door, and are told when it takes too long. */
#include <stdlib.h>

#include "node/base/invariant.h"
#include "node/range/internal.h"
#include "tests/unit/range/cluster.h"

#define CALLS 12u

struct writers {
    struct cluster_call calls[CALLS];
    char keys[CALLS][5];
    char *value;
};

static struct replica *replica_of(struct cluster *c)
{
    return store__find(c->nodes[0].store, (range_id){RANGE_FIRST_ID});
}

/* Each writes a key of its own, of so many bytes. */
static struct writers *start(struct cluster *c, size_t bytes, uint64_t timeout_ms)
{
    struct writers *w = calloc(1, sizeof(*w));

    INVARIANT(w != NULL);
    w->value = calloc(1, bytes);
    INVARIANT(w->value != NULL);
    for (uint32_t i = 0; i < CALLS; i++) {
        memcpy(w->keys[i], "\x88k\x88", 4);
        w->keys[i][1] = (char)('a' + i);
        w->calls[i] = (struct cluster_call){.node = &c->nodes[0],
                                            .one = {.op = RANGE_OP_PUT,
                                                    .key = bytes_str(w->keys[i]),
                                                    .value = bytes_of(w->value, bytes)},
                                            .timeout_ms = timeout_ms};
        cluster_call_start(&w->calls[i]);
    }
    cluster_run_ms(c, 1);
    return w;
}

/* How many came to an end with that code. */
static uint32_t ended(const struct writers *w, enum status_code code)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < CALLS; i++) {
        n += w->calls[i].done && w->calls[i].st.code == code ? 1 : 0;
    }
    return n;
}

static void finish(struct cluster *c, struct writers *w)
{
    for (uint32_t i = 0; i < CALLS; i++) {
        INVARIANT(cluster_call_wait(&w->calls[i], 20000));
        cluster_call_end(&w->calls[i]);
    }
    EXPECT_EQ(0, replica_of(c)->admission.count);
    EXPECT_EQ(0, replica_of(c)->admission.bytes);
    free(w->value);
    free(w);
}

/* The disk stands still for a while: those that do not fit wait, and all of them succeed. */
TEST(admit, writes_wait_for_room)
{
    struct cluster c;
    struct writers *w = NULL;

    cluster_start(&c, 1);
    fake_env_hold(shard_env(c.nodes[0].shard), FAKE_HOLD_JOBS);
    w = start(&c, (size_t)3 << 20, 9000);
    EXPECT_EQ(4, replica_of(&c)->admission.count); /* Of 3 MiB and a little, below 15. */
    EXPECT_TRUE(replica_of(&c)->admission.bytes <= RANGE_ADMITTED_BYTES_MAX);
    cluster_run_ms(&c, 1000);
    EXPECT_EQ(0, ended(w, STATUS_OK));
    fake_env_hold(shard_env(c.nodes[0].shard), FAKE_HOLD_NOTHING);
    cluster_run_ms(&c, 2000);
    EXPECT_EQ(CALLS, ended(w, STATUS_OK));
    finish(&c, w);
    cluster_stop(&c);
}

TEST(admit, who_waits_too_long_is_refused_and_wrote_nothing)
{
    struct cluster c;
    struct writers *w = NULL;
    enum status_code code = STATUS_OK;

    cluster_start(&c, 1);
    fake_env_hold(shard_env(c.nodes[0].shard), FAKE_HOLD_JOBS);
    w = start(&c, (size_t)3 << 20, 9000);
    cluster_run_ms(&c, 2500);
    EXPECT_EQ(CALLS - 4, ended(w, STATUS_OVERLOADED));
    EXPECT_EQ(4, replica_of(&c)->admission.count);
    fake_env_hold(shard_env(c.nodes[0].shard), FAKE_HOLD_NOTHING);
    cluster_run_ms(&c, 3000);
    EXPECT_EQ(4, ended(w, STATUS_OK));
    EXPECT_STREQ("", cluster_get(&c, 0, w->keys[CALLS - 1], &code));
    EXPECT_EQ(STATUS_OK, code);
    finish(&c, w);
    EXPECT_EQ(STATUS_OK, cluster_put(&c, 0, "\x88z\x88", "goes on"));
    cluster_stop(&c);
}

/* One that is larger than the limit by itself passes when it is alone; whoever waits is woken by a stop. */
TEST(admit, a_large_one_passes_alone_and_a_stop_wakes_all)
{
    struct cluster c;
    struct proposal *p = NULL;
    struct writers *w = NULL;

    cluster_start(&c, 1);
    p = proposal__create(NULL, 0);
    INVARIANT(p != NULL);
    EXPECT_OK(admit__write(replica_of(&c), p, 2 * RANGE_ADMITTED_BYTES_MAX, DEADLINE_NONE));
    w = start(&c, 100, 9000);
    cluster_run_ms(&c, 100);
    EXPECT_EQ(0, ended(w, STATUS_OK));
    proposal__free(p);
    cluster_run_ms(&c, 100);
    EXPECT_EQ(CALLS, ended(w, STATUS_OK));
    finish(&c, w);
    fake_env_hold(shard_env(c.nodes[0].shard), FAKE_HOLD_JOBS);
    w = start(&c, (size_t)3 << 20, 500);
    fake_env_hold(shard_env(c.nodes[0].shard), FAKE_HOLD_NOTHING);
    finish(&c, w);
    cluster_stop(&c);
}
