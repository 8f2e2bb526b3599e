/* The queue of events against a sorted list, and clocks that stay within their bound. */
#include "node/base/hash.h"
#include "tests/lib/test.h"
#include "tests/sim/clock.h"
#include "tests/sim/event.h"
#include "tests/sim/world.h"

#define EVENTS 200

static void nothing(struct sim_event *e)
{
    (void)e;
}

TEST(events, come_by_time_and_then_by_order_of_entry)
{
    struct sim_event e[EVENTS] = {{0}};
    struct sim_events q;
    struct rng r;
    uint64_t last_at = 0;
    uint64_t last_order = 0;
    unsigned count = 0;

    rng_seed(&r, 7);
    sim_events_init(&q);
    for (unsigned i = 0; i < EVENTS; i++) {
        e[i].drop = nothing;
        sim_events_put(&q, &e[i], rng_below(&r, 20));
    }
    for (unsigned i = 0; i < EVENTS; i += 3) {
        sim_events_put(&q, &e[i], rng_below(&r, 20)); /* Moved. */
    }
    for (unsigned i = 1; i < EVENTS; i += 10) {
        sim_events_remove(&q, &e[i]);
        sim_events_remove(&q, &e[i]); /* Twice is harmless. */
    }
    for (struct sim_event *at = sim_events_pop(&q); at != NULL; at = sim_events_pop(&q)) {
        EXPECT_TRUE(count == 0 || at->at_ns > last_at ||
                    (at->at_ns == last_at && at->order > last_order));
        last_at = at->at_ns;
        last_order = at->order;
        count++;
    }
    EXPECT_EQ(EVENTS - EVENTS / 10, count);
    sim_events_deinit(&q);
}

TEST(clock, stays_within_its_bound_whatever_is_done_to_it)
{
    struct sim_clock c;
    struct rng r;
    uint64_t now = SEC;
    uint64_t mono = 0;

    rng_seed(&r, 9);
    sim_clock_init(&c, now, 100 * (int64_t)MS, 0, 100);
    sim_clock_boot(&c, now, 55);
    for (unsigned i = 0; i < 20000; i++) {
        const int64_t by = (int64_t)rng_below(&r, 400 * MS) - 200 * (int64_t)MS;
        int64_t off = 0;

        now += rng_below(&r, 50 * MS);
        switch (rng_below(&r, 20)) {
        case 0:
            sim_clock_step(&c, now, by);
            break;
        case 1:
            sim_clock_set_drift(&c, now, by / (int64_t)MS);
            break;
        case 2:
            sim_clock_freeze(&c, now, rng_below(&r, 300 * MS));
            break;
        default:
            break;
        }
        off = (int64_t)(sim_clock_wall(&c, now) - SIM_EPOCH_NS - now);
        EXPECT_TRUE(off >= -100 * (int64_t)MS && off <= 100 * (int64_t)MS);
        EXPECT_TRUE(sim_clock_mono(&c, now) >= mono);
        mono = sim_clock_mono(&c, now);
    }
}

/* Never too early: a shard that is woken too early would have to ask again. */
TEST(clock, tells_when_a_reading_will_be)
{
    struct sim_clock c;
    struct rng r;

    rng_seed(&r, 11);
    sim_clock_init(&c, SEC, 1, 0, 0);
    sim_clock_boot(&c, SEC, 1000);
    for (unsigned i = 0; i < 20000; i++) {
        const uint64_t want = 1000 + rng_below(&r, 5000 * SEC);
        const uint64_t when = sim_clock_when(&c, want);

        EXPECT_TRUE(sim_clock_mono(&c, when) >= want);
        EXPECT_TRUE(when < SEC + 101 || sim_clock_mono(&c, when - 101) < want);
    }
    EXPECT_EQ(SEC, sim_clock_when(&c, 0));
    EXPECT_TRUE(sim_clock_when(&c, UINT64_MAX) > (uint64_t)1 << 60);
}

TEST(chance, exponential_and_log_uniform_keep_their_bounds)
{
    struct rng r;
    uint64_t sum = 0;

    rng_seed(&r, 3);
    for (unsigned i = 0; i < 20000; i++) {
        const uint64_t e = sim_exponential(&r, 1000);
        const uint64_t u = sim_log_uniform(&r, 10, 70);

        EXPECT_TRUE(e <= 10000);
        EXPECT_TRUE(u >= 10 && u <= 70);
        sum += e;
    }
    EXPECT_TRUE(sum / 20000 > 950 && sum / 20000 < 1050);
}
