/* Random operations beside a naive twin: a table of one letter keys, copied at every savepoint. */
#include "tests/unit/txn/txn_rig.h"

#define KEYS       12
#define SAVEPOINTS 4

struct table {
    int value[KEYS]; /* 0: absent. */
};

struct twin {
    struct rig *r;
    struct rng rng;
    struct txn *txn;
    struct table stored;
    struct table now; /* As the transaction sees it. */
    struct table saved[SAVEPOINTS];
    uint64_t savepoint[SAVEPOINTS];
    uint32_t saved_count;
    bool implicit;
    int next_value;
};

static const char *key_of(struct twin *w, uint64_t k)
{
    return arena_printf(&w->r->arena, "%c", (char)('a' + k));
}

static struct bytes full_key(struct twin *w, uint64_t k)
{
    return bytes_str(arena_printf(&w->r->arena, "\x88%c", (char)('a' + k)));
}

static const char *expected_scan(struct twin *w, uint64_t lo, uint64_t hi, bool reverse)
{
    const char *text = "";

    for (uint64_t i = lo; i < hi; i++) {
        const uint64_t k = reverse ? hi - 1 - (i - lo) : i;

        if (w->now.value[k] != 0) {
            text = arena_printf(&w->r->arena, "%s%s%s=%d", text, *text == '\0' ? "" : " ",
                                key_of(w, k), w->now.value[k]);
        }
    }
    return text;
}

static void begin(struct twin *w)
{
    w->implicit = rng_below(&w->rng, 3) == 0;
    w->txn = rig_begin_with(w->r, (struct txn_options){.implicit = w->implicit});
    w->now = w->stored;
    w->saved_count = 0;
}

static void write(struct twin *w, uint64_t k)
{
    const int value = ++w->next_value;
    const struct bytes text = bytes_str(arena_printf(&w->r->arena, "%d", value));

    switch (rng_below(&w->rng, 3)) {
    case 0:
        EXPECT_OK(txn_put(w->txn, full_key(w, k), text));
        w->now.value[k] = value;
        break;
    case 1:
        EXPECT_OK(txn_delete(w->txn, full_key(w, k)));
        w->now.value[k] = 0;
        break;
    default:
        if (w->implicit && w->now.value[k] != 0) {
            return; /* Would fail at the commit only. */
        }
        EXPECT_CODE(w->now.value[k] == 0 ? STATUS_OK : STATUS_EXISTS,
                    txn_insert(w->txn, full_key(w, k), text));
        w->now.value[k] = w->now.value[k] == 0 ? value : w->now.value[k];
        break;
    }
}

static void read(struct twin *w, uint64_t k)
{
    const uint64_t hi = k + rng_below(&w->rng, KEYS + 1 - k);
    const bool reverse = rng_below(&w->rng, 2) == 0;
    const char *got = NULL;

    if (rng_below(&w->rng, 2) == 0) {
        const char *want =
            w->now.value[k] == 0 ? "" : arena_printf(&w->r->arena, "%d", w->now.value[k]);

        EXPECT_STREQ(want, rig_get(w->r, w->txn, key_of(w, k)));
        return;
    }
    got = rig_scan(w->r, w->txn, key_of(w, k), key_of(w, hi), reverse,
                   (uint32_t)rng_below(&w->rng, 4));
    EXPECT_STREQ(expected_scan(w, k, hi, reverse), got);
}

static void savepoint(struct twin *w)
{
    if (w->saved_count < SAVEPOINTS && rng_below(&w->rng, 2) == 0) {
        w->saved[w->saved_count] = w->now;
        w->savepoint[w->saved_count++] = txn_savepoint(w->txn);
    } else if (w->saved_count > 0) {
        w->saved_count = (uint32_t)rng_below(&w->rng, w->saved_count);
        w->now = w->saved[w->saved_count];
        txn_rollback_to(w->txn, w->savepoint[w->saved_count]);
    }
}

static void end(struct twin *w)
{
    if (rng_below(&w->rng, 4) == 0) {
        txn_rollback(w->txn);
    } else {
        EXPECT_OK(txn_commit(w->txn));
        w->stored = w->now;
    }
    begin(w);
}

static void run_seed(struct rig *r, uint64_t seed)
{
    struct twin w = {.r = r};

    rng_seed(&w.rng, seed);
    begin(&w);
    for (int i = 0; i < 400; i++) {
        const uint64_t what = rng_below(&w.rng, 20);
        const uint64_t k = rng_below(&w.rng, KEYS);

        if (what < 9) {
            write(&w, k);
        } else if (what < 16) {
            read(&w, k);
        } else if (what < 19) {
            savepoint(&w);
        } else {
            end(&w);
        }
    }
    for (uint64_t k = 0; k < KEYS; k++) { /* The next seed starts with nothing. */
        EXPECT_OK(txn_put(w.txn, full_key(&w, k), BYTES_LIT("0")));
    }
    w.txn = rig_begin(r);
    for (uint64_t k = 0; k < KEYS; k++) {
        EXPECT_OK(txn_delete(w.txn, full_key(&w, k)));
    }
    EXPECT_OK(txn_commit(w.txn));
}

static void seeds(struct rig *r)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        run_seed(r, seed);
        arena_reset(&r->arena);
    }
}

TEST(txn_random, as_a_table_that_is_copied_for_each_savepoint)
{
    rig_run(seeds);
}
