/*
 * lock_table.h -- who holds which key of a range, and who waits for it, in order of arrival.
 *
 * The table keeps locks taken in memory (SHARED, EXCLUSIVE) and intents that requests have met
 * (discovered). Losing it loses nothing but order: what must hold is checked when a transaction commits.
 * A request never waits here while it holds latches.
 *
 *   held \ wanted     NONE                       SHARED   EXCLUSIVE   INTENT
 *   SHARED            ok                         ok       wait        wait
 *   EXCLUSIVE         ok                         wait     wait        wait
 *   INTENT at t       ok below t, else wait      wait     wait        wait
 *
 * Locks of one transaction never conflict. A waiter that wants to lock waits behind earlier such waiters
 * of the key, too; a released key is reserved for the first. A holder of SHARED that wants more goes in
 * front of those who hold nothing.
 *
 * Invariant: every waiter has a holder, a reservation or an earlier waiter in front of it.
 *
 * Owner:   the replica; exists while the lease is held here.
 * Source:  protocol reference 6.4-6.8.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/bytes.h"
#include "node/base/hts.h"
#include "node/base/ids.h"
#include "node/base/list.h"
#include "node/base/status.h"
#include "node/runtime/fiber.h"
#include "node/storage/mvcc/mvcc.h"

#define LOCK_TABLE_KEYS_MAX \
    100000u                       /* Per range; locks that nobody waits for are forgotten first. */
#define LOCK_QUEUE_MAX       500u /* Waiters per key. */
#define LOCK_TABLE_LOCKS_MAX 200000u /* Likewise: one key may have many SHARED holders. */

struct lock_table;

/* Who asks; id zero: not a transaction, it can wait but not hold. */
struct lock_owner {
    struct uuid txn;
    struct bytes anchor;
    struct hts min_ts;
    uint32_t priority;
};

struct lock_want {
    struct bytes key;
    struct bytes end; /* Empty: one key. Spans are for readers. */
    enum mvcc_strength strength;
    struct hts ts; /* NONE: of the read, uncertainty included. */
};

/* Why one must wait: the holder, or the waiter in front. Valid until the next yield. */
struct lock_blocker {
    struct bytes key;
    struct lock_owner owner;
    enum mvcc_strength strength;
    struct hts ts;    /* INTENT. */
    struct hts since; /* A holder's sign of life: it took the lock, or laid the intent, then. */
    bool is_waiter;
};

/* A request's place in the queues; embedded in its fiber's stack, zero before first use. */
struct lock_waiter {
    struct list link;
    struct lock_table *table; /* NULL: in no queue. */
    void *entry;
    uint64_t sequence;         /* Of arrival; kept over all its waits. */
    uint64_t waiting_since_ns; /* The caller's. */
    struct lock_owner owner;
    enum mvcc_strength strength;
    bool woken;
    struct completion wake;
};

NOYIELD NODISCARD struct status lock_table_create(struct lock_table **out);
/* Wakes everybody with STATUS_NOT_LEADER. */
NOYIELD void lock_table_destroy(struct lock_table *t);

/* Must the request wait for one of these? True: *out says for whom first. `w` may stand in a queue or
 * hold a reservation already. */
NOYIELD bool lock_table_conflict(struct lock_table *t, const struct lock_waiter *w,
                                 const struct lock_owner *who, const struct lock_want *wants,
                                 uint32_t count, struct lock_blocker *out);
/* Queues up at the blocker's key. Errors: STATUS_OVERLOADED (LOCK_QUEUE_MAX), STATUS_MEMORY. */
NOYIELD NODISCARD struct status lock_table_enqueue(struct lock_table *t, struct lock_waiter *w,
                                                   const struct lock_owner *who,
                                                   enum mvcc_strength strength, struct bytes key);
/* Until nothing is in front any more (w->woken), or until it was nudged. Stays in the queue. Errors:
 * STATUS_TIMEOUT, STATUS_CANCELLED, STATUS_NOT_LEADER (the table is gone; so is the place). */
MAYYIELD NODISCARD struct status lock_table_wait(struct lock_waiter *w, uint64_t deadline_ns);
/* Ends the present or next lock_table_wait(): something else happened that concerns the waiter. */
NOYIELD void lock_table_nudge(struct lock_waiter *w);
/*
 * Whom must `w`, which is in a queue, push? The holders that it or somebody ahead of it waits for: who is
 * ahead waits for them as well, so that cycles of waits go through holders alone, and are short. Not those
 * without an anchor. Returns the count; valid until the next yield.
 */
NOYIELD uint32_t lock_table_blockers(const struct lock_waiter *w, struct lock_blocker *out,
                                     uint32_t max);
/* Leaves its queue and gives up its reservation; wakes who is next. May be called when in none. */
NOYIELD void lock_table_leave(struct lock_waiter *w);

/* An intent (or other replicated lock) met in storage. */
NOYIELD NODISCARD struct status lock_table_discovered(struct lock_table *t,
                                                      const struct mvcc_lock *lock);
/* Takes a lock in memory, at `now`; conflicts were excluded, without a yield in between. Full: nothing is
 * taken. */
NOYIELD void lock_table_acquire(struct lock_table *t, const struct lock_owner *who,
                                enum mvcc_strength strength, struct bytes key, struct hts now);
/* The transaction is finished, or its intents have moved up to ts (zero: finished): in [key, end), end
 * empty: one key. */
NOYIELD void lock_table_update(struct lock_table *t, struct uuid txn, struct bytes key,
                               struct bytes end, struct hts ts);
/* Everything of the transaction, e.g. when a 1PC commit of its has applied. */
NOYIELD void lock_table_release_all(struct lock_table *t, struct uuid txn);
/* Keys at or above `from` leave the range (a split): who waits there is woken with STATUS_NOT_LEADER. */
NOYIELD void lock_table_drop_from(struct lock_table *t, struct bytes from);

NOYIELD uint32_t lock_table_keys(const struct lock_table *t);
NOYIELD uint32_t lock_table_waiters(const struct lock_table *t);
/* Checks the invariant, everywhere: for tests. */
NOYIELD void lock_table_check(const struct lock_table *t);
