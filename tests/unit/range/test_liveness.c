/* Promises between stores, one object at a time; a test is the network, the disk and the clock. */
#include "node/base/invariant.h"
#include "node/range/lease/liveness.h"
#include "tests/lib/test.h"

#define MS ((uint64_t)1000000)

struct peer {
    struct liveness *l;
    store_id id;
    struct buf disk;    /* What is durable. */
    struct buf writing; /* Taken, not durable yet. */
    uint64_t version;   /* Of `writing`; 0: none. */
    struct hts wait;
};

static struct hts at_ms(uint64_t ms)
{
    return hts_ms(1000000 + ms);
}

static void start(struct peer *p, uint32_t id, uint64_t now_ms)
{
    const struct liveness_options o = {.self = {id}};

    p->id.v = id;
    buf_clear(&p->writing);
    p->version = 0;
    INVARIANT(status_ok(liveness_create(&o, buf_bytes(&p->disk), at_ms(now_ms), &p->l, &p->wait)));
}

static void end(struct peer *p)
{
    liveness_destroy(p->l);
    buf_deinit(&p->disk);
    buf_deinit(&p->writing);
}

/* Hands the record to the disk; what depends on it waits. */
static bool take(struct peer *p)
{
    uint64_t version = 0;
    struct buf record = {0};
    const bool any = liveness_take_record(p->l, &record, &version);

    if (any) {
        buf_deinit(&p->writing);
        p->writing = record;
        p->version = version;
    }
    return any;
}

static void settle(struct peer *p)
{
    if (p->version != 0) {
        buf_clear(&p->disk);
        INVARIANT(status_ok(buf_append_bytes(&p->disk, buf_bytes(&p->writing))));
        liveness_durable(p->l, p->version);
        p->version = 0;
    }
}

static void sync_disk(struct peer *p)
{
    while (take(p)) {
        settle(p);
    }
}

/* Everything that a has to say to b. Returns the number of messages. */
static int deliver(struct peer *a, struct peer *b, uint64_t now_ms)
{
    struct liveness_msg m;
    int count = 0;

    sync_disk(a);
    while (liveness_take_msg(a->l, &m)) {
        count++;
        if (b != NULL) {
            liveness_receive(b->l, &m, at_ms(now_ms));
        }
    }
    return count;
}

/* Heartbeats both ways and their answers. */
static void exchange(struct peer *a, struct peer *b, uint64_t now_ms)
{
    liveness_tick(a->l, at_ms(now_ms));
    liveness_tick(b->l, at_ms(now_ms));
    for (int i = 0; i < 3; i++) {
        (void)deliver(a, b, now_ms);
        (void)deliver(b, a, now_ms);
    }
    sync_disk(a);
    sync_disk(b);
}

static bool supported(struct peer *a, struct peer *by, uint64_t now_ms)
{
    uint64_t epoch = 0;
    struct hts until;

    liveness_support_from(a->l, by->id, &epoch, &until);
    return epoch != 0 && hts_less(at_ms(now_ms), until);
}

static uint64_t supports(struct peer *p, struct peer *who)
{
    uint64_t epoch = 0;

    return liveness_support_for(p->l, who->id, &epoch) ? epoch : 0;
}

static int changes(struct peer *p)
{
    store_id id;
    int count = 0;

    while (liveness_take_changed(p->l, &id)) {
        count++;
    }
    return count;
}

struct pair {
    struct peer a;
    struct peer b;
};

static void start_pair(struct pair *w)
{
    *w = (struct pair){0};
    start(&w->a, 1, 0);
    start(&w->b, 2, 0);
    INVARIANT(status_ok(liveness_add_peer(w->a.l, w->b.id)));
    INVARIANT(status_ok(liveness_add_peer(w->b.l, w->a.id)));
    exchange(&w->a, &w->b, 0);
}

static void end_pair(struct pair *w)
{
    end(&w->a);
    end(&w->b);
}

TEST(liveness, a_heartbeat_gives_support_to_both)
{
    struct pair w;

    start_pair(&w);
    EXPECT_TRUE(supported(&w.a, &w.b, 100));
    EXPECT_TRUE(supported(&w.b, &w.a, 100));
    EXPECT_EQ(1, supports(&w.a, &w.b));
    EXPECT_TRUE(changes(&w.a) > 0);
    EXPECT_EQ(0, changes(&w.a));
    EXPECT_FALSE(supported(&w.a, &w.b, 2001)); /* Two seconds, no more. */
    end_pair(&w);
}

/* Nothing is asked and nothing is promised before it is durable. */
TEST(liveness, messages_wait_for_the_disk)
{
    struct peer a = {0};
    struct peer b = {0};
    struct liveness_msg m;

    start(&a, 1, 0);
    start(&b, 2, 0);
    EXPECT_OK(liveness_add_peer(a.l, b.id));
    liveness_tick(a.l, at_ms(0));
    EXPECT_FALSE(liveness_take_msg(a.l, &m));
    EXPECT_TRUE(take(&a));
    EXPECT_FALSE(liveness_take_msg(a.l, &m));
    settle(&a);
    EXPECT_TRUE(liveness_take_msg(a.l, &m));
    liveness_receive(b.l, &m, at_ms(1));
    EXPECT_FALSE(liveness_take_msg(b.l, &m));
    sync_disk(&b);
    EXPECT_TRUE(liveness_take_msg(b.l, &m));
    EXPECT_TRUE(m.response);
    end(&a);
    end(&b);
}

/* Own support is a promise to oneself: until the durable max_requested. */
TEST(liveness, own_support_counts_once_durable)
{
    struct peer a = {0};
    uint64_t epoch = 0;
    struct hts until;

    start(&a, 1, 0);
    sync_disk(&a);
    liveness_tick(a.l, at_ms(0));
    liveness_support_from(a.l, a.id, &epoch, &until);
    EXPECT_TRUE(hts_is_zero(until));
    EXPECT_TRUE(take(&a));
    liveness_support_from(a.l, a.id, &epoch, &until);
    EXPECT_TRUE(hts_is_zero(until));
    settle(&a);
    liveness_support_from(a.l, a.id, &epoch, &until);
    EXPECT_HTS_EQ(at_ms(2000), until);
    EXPECT_TRUE(liveness_support_for(a.l, a.id, &epoch));
    EXPECT_TRUE(liveness_clock_bound(a.l) >= at_ms(0).wall + LIVENESS_CLOCK_AHEAD_NS);
    end(&a);
}

static void silence(struct pair *w, uint64_t from_ms, uint64_t to_ms)
{
    for (uint64_t ms = from_ms; ms <= to_ms; ms += 100) {
        liveness_tick(w->a.l, at_ms(ms));
        (void)deliver(&w->a, NULL, ms);
    }
}

/* The promise runs out, is withdrawn for good, and the peer goes on under the next epoch. */
TEST(liveness, support_that_ran_out_is_withdrawn_and_comes_back_under_another_epoch)
{
    struct pair w;

    start_pair(&w);
    for (uint64_t ms = 100; ms <= 1600; ms += 100) {
        exchange(&w.a, &w.b, ms); /* Past the grace after the start. */
    }
    EXPECT_EQ(1, supports(&w.a, &w.b));
    (void)changes(&w.a);
    silence(&w, 1700, 3400);
    EXPECT_EQ(1, supports(&w.a, &w.b));
    silence(&w, 3500, 3700);
    EXPECT_EQ(0, supports(&w.a, &w.b));
    EXPECT_EQ(1, changes(&w.a));
    exchange(&w.a, &w.b, 3800); /* b hears that its epoch is over ... */
    exchange(&w.a, &w.b, 3900); /* ... and asks under the next. */
    EXPECT_EQ(2, supports(&w.a, &w.b));
    EXPECT_TRUE(supported(&w.b, &w.a, 4000));
    EXPECT_TRUE(changes(&w.a) > 0);
    end_pair(&w);
}

/* A heartbeat of the old epoch that was under way does not bring it back. */
TEST(liveness, an_epoch_that_was_withdrawn_never_returns)
{
    struct pair w;
    struct liveness_msg old = {.from = {2}, .to = {1}, .epoch = 1, .expiration = at_ms(60000)};
    struct liveness_msg m;

    start_pair(&w);
    silence(&w, 100, 4000);
    EXPECT_EQ(0, supports(&w.a, &w.b));
    liveness_receive(w.a.l, &old, at_ms(4000));
    EXPECT_EQ(0, supports(&w.a, &w.b));
    sync_disk(&w.a);
    while (liveness_take_msg(w.a.l, &m) && !m.response) {
    }
    EXPECT_TRUE(m.response);
    EXPECT_EQ(2, m.epoch);
    EXPECT_TRUE(hts_is_zero(m.expiration));
    end_pair(&w);
}

/* Until the withdrawal is durable a restart would bring the promise back: so it counts until then. */
TEST(liveness, a_withdrawal_counts_once_durable)
{
    struct pair w;

    start_pair(&w);
    (void)changes(&w.a);
    liveness_tick(w.a.l, at_ms(1600)); /* A long pause: the grace starts anew. */
    sync_disk(&w.a);
    liveness_tick(w.a.l, at_ms(2500));
    liveness_tick(w.a.l, at_ms(3200));
    EXPECT_EQ(1, supports(&w.a, &w.b));
    EXPECT_TRUE(take(&w.a));
    EXPECT_EQ(1, supports(&w.a, &w.b));
    (void)changes(&w.a);
    settle(&w.a);
    EXPECT_EQ(0, supports(&w.a, &w.b));
    EXPECT_EQ(1, changes(&w.a));
    end_pair(&w);
}

/* After a start or a pause others' heartbeats wait in our queue: nobody is dethroned at once. */
TEST(liveness, nothing_is_withdrawn_within_the_grace)
{
    struct pair w;

    start_pair(&w);
    silence(&w, 100, 1900);
    liveness_tick(w.a.l, at_ms(60000));
    sync_disk(&w.a);
    EXPECT_EQ(1, supports(&w.a, &w.b));
    for (uint64_t ms = 60100; ms < 61500; ms += 100) {
        liveness_tick(w.a.l, at_ms(ms));
        sync_disk(&w.a);
        EXPECT_EQ(1, supports(&w.a, &w.b));
    }
    liveness_tick(w.a.l, at_ms(61600));
    sync_disk(&w.a);
    EXPECT_EQ(0, supports(&w.a, &w.b));
    end_pair(&w);
}

/* The requester notices that its support runs out, and that it comes back, without any message. */
TEST(liveness, running_out_and_coming_back_are_news)
{
    struct pair w;

    start_pair(&w);
    (void)changes(&w.b);
    for (uint64_t ms = 100; ms < 2000; ms += 100) {
        liveness_tick(w.b.l, at_ms(ms));
        EXPECT_EQ(0, changes(&w.b));
    }
    liveness_tick(w.b.l, at_ms(2000));
    EXPECT_EQ(1, changes(&w.b));
    EXPECT_FALSE(supported(&w.b, &w.a, 2000));
    exchange(&w.b, &w.a, 2100);
    EXPECT_EQ(1, changes(&w.b));
    EXPECT_TRUE(supported(&w.b, &w.a, 2200));
    end_pair(&w);
}

/* A restarted store keeps its promises to others and waits for its own to run out. */
TEST(liveness, a_restart_restores_promises)
{
    struct pair w;
    const struct hts promised = at_ms(2000);

    start_pair(&w);
    EXPECT_EQ(1, supports(&w.a, &w.b));
    liveness_destroy(w.a.l);
    start(&w.a, 1, 500);
    EXPECT_FALSE(hts_less(w.a.wait, promised));
    EXPECT_EQ(1, supports(&w.a, &w.b));
    silence(&w, 600, 2600);
    EXPECT_EQ(1, supports(&w.a, &w.b)); /* At least what was promised, rounded up. */
    silence(&w, 2700, 4000);
    EXPECT_EQ(0, supports(&w.a, &w.b));
    end_pair(&w);
}

/* A new life asks under a new epoch, and a supporter of the old one goes along. */
TEST(liveness, a_restart_starts_a_new_epoch)
{
    struct pair w;

    start_pair(&w);
    liveness_destroy(w.b.l);
    start(&w.b, 2, 500);
    EXPECT_OK(liveness_add_peer(w.b.l, w.a.id));
    EXPECT_FALSE(supported(&w.b, &w.a, 500));
    (void)changes(&w.a);
    exchange(&w.a, &w.b, 600);
    EXPECT_EQ(2, supports(&w.a, &w.b));
    EXPECT_TRUE(changes(&w.a) > 0);
    EXPECT_TRUE(supported(&w.b, &w.a, 700));
    end_pair(&w);
}

/* A restarted supporter answers with more than was asked: we count on what we asked for. */
TEST(liveness, inflated_answers_are_cut)
{
    struct pair w;
    const struct liveness_msg inflated = {
        .from = {1}, .to = {2}, .epoch = 1, .expiration = at_ms(50000), .response = true};
    uint64_t epoch = 0;
    struct hts until;

    start_pair(&w);
    liveness_receive(w.b.l, &inflated, at_ms(10));
    liveness_support_from(w.b.l, w.a.id, &epoch, &until);
    EXPECT_HTS_EQ(at_ms(2000), until);
    end_pair(&w);
}

TEST(liveness, nonsense_is_ignored)
{
    struct pair w;
    const struct liveness_msg good = {
        .from = {2}, .to = {1}, .epoch = 1, .expiration = at_ms(2100)};
    struct liveness_msg m = good;
    struct liveness_msg out;

    start_pair(&w);
    (void)deliver(&w.a, NULL, 0);
    m.to.v = 3; /* Somebody else's. */
    liveness_receive(w.a.l, &m, at_ms(100));
    m = good;
    m.from.v = 1; /* Ourselves. */
    liveness_receive(w.a.l, &m, at_ms(100));
    m.from.v = 0;
    liveness_receive(w.a.l, &m, at_ms(100));
    m = good;
    m.epoch = 0;
    liveness_receive(w.a.l, &m, at_ms(100));
    m.epoch = UINT64_MAX; /* Could not be counted up any more. */
    liveness_receive(w.a.l, &m, at_ms(100));
    m = good;
    m.expiration = HTS_MAX; /* For ever. */
    liveness_receive(w.a.l, &m, at_ms(100));
    m = good;
    m.from.v = 9;
    m.response = true; /* Of somebody whom we never asked. */
    liveness_receive(w.a.l, &m, at_ms(100));
    m = good;
    m.response = true;
    m.epoch = 0;
    liveness_receive(w.a.l, &m, at_ms(100));
    sync_disk(&w.a);
    EXPECT_FALSE(liveness_take_msg(w.a.l, &out));
    EXPECT_EQ(1, supports(&w.a, &w.b));
    silence(&w, 200, 4000);
    EXPECT_EQ(0, supports(&w.a, &w.b));
    end_pair(&w);
}

/* A late answer to an epoch that was given up. */
TEST(liveness, answers_to_older_epochs_are_ignored)
{
    struct pair w;
    const struct liveness_msg late = {
        .from = {1}, .to = {2}, .epoch = 1, .expiration = at_ms(9000), .response = true};
    const struct liveness_msg newer = {.from = {1}, .to = {2}, .epoch = 7, .response = true};
    uint64_t epoch = 0;
    struct hts until;

    start_pair(&w);
    liveness_receive(w.b.l, &newer, at_ms(100)); /* Withdrawn: on with epoch 7. */
    liveness_support_from(w.b.l, w.a.id, &epoch, &until);
    EXPECT_EQ(0, epoch);
    liveness_receive(w.b.l, &late, at_ms(110));
    liveness_support_from(w.b.l, w.a.id, &epoch, &until);
    EXPECT_EQ(0, epoch);
    exchange(&w.b, &w.a, 200);
    EXPECT_EQ(7, supports(&w.a, &w.b));
    end_pair(&w);
}

TEST(liveness, a_damaged_record_is_refused)
{
    struct pair w;
    struct liveness *l = NULL;
    struct hts wait;

    start_pair(&w);
    for (size_t n = 1; n < w.a.disk.len; n++) {
        const struct bytes cut = bytes_of(w.a.disk.ptr, n);

        EXPECT_CODE(STATUS_CORRUPT, liveness_create(&(struct liveness_options){.self = {1}}, cut,
                                                    at_ms(0), &l, &wait));
    }
    w.a.disk.ptr[0] = 77;
    EXPECT_CODE(STATUS_CORRUPT, liveness_create(&(struct liveness_options){.self = {1}},
                                                buf_bytes(&w.a.disk), at_ms(0), &l, &wait));
    liveness_destroy(NULL);
    end_pair(&w);
}

TEST(liveness, as_many_stores_as_there_may_be)
{
    struct peer a = {0};

    start(&a, 1, 0);
    for (uint32_t i = 0; i < LIVENESS_PEERS_MAX; i++) {
        EXPECT_OK(liveness_add_peer(a.l, (store_id){i + 2}));
    }
    EXPECT_CODE(STATUS_OVERLOADED, liveness_add_peer(a.l, (store_id){5000}));
    EXPECT_OK(liveness_add_peer(a.l, (store_id){2}));
    EXPECT_OK(liveness_add_peer(a.l, (store_id){1}));
    for (uint64_t ms = 0; ms < 60000;
         ms += 500) { /* The disk stands still: the queue is bounded. */
        liveness_tick(a.l, at_ms(ms));
    }
    EXPECT_EQ(4 * LIVENESS_PEERS_MAX, (uint32_t)deliver(&a, NULL, 60000));
    EXPECT_FALSE(hts_less(at_ms(60500), liveness_next_due(a.l)));
    end(&a);
}
