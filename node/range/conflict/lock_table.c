/*
 * lock_table.c -- entries by key in a skip list, holders by transaction in a hash.
 *
 *   index --> entry a --> entry c --> entry k        in order of keys
 *                |
 *                +-- holders: at most one per transaction, with its strongest lock
 *                +-- queue:   who wants to lock, by sequence of arrival
 *                +-- readers: who wants to read and met an intent
 *
 * Who is ahead of whom is never stored, it follows from two things: those who hold a lock of the key
 * already come first (a SHARED holder that wants more would otherwise wait for people who wait for it),
 * then the lower sequence. So nothing has to be recomputed when a waiter becomes a holder. A waiter is
 * blocked while a holder, or a waiter ahead, has or wants something that excludes what it wants. A
 * released key needs no mark of reservation either: it belongs to the first in the queue because everybody
 * else is behind that one.
 *
 * After each change of an entry those of its waiters that are not blocked any more are woken, and only
 * those. A woken waiter stays in its queue until it leaves or queues up again: it keeps its turn while it
 * evaluates, and loses nothing when it finds the next lock.
 *
 * The table may be wrong: an intent was settled while somebody was about to report it, or the full table
 * has forgotten locks, so that holders may even exclude each other. Nothing here asserts the contrary;
 * pushing finds out, and the commit validates.
 *
 * An entry exists as long as it has a holder or a waiter. Entries without waiters stand in one of two
 * lists, oldest first, from which they are forgotten when the table is full: intents before locks that
 * are only here.
 */
#include "node/range/conflict/lock_table.h"

#include <stdlib.h>
#include <string.h>

#include "node/base/hash.h"
#include "node/base/invariant.h"

#define LEVELS_MAX  12 /* 4^12 entries; more than LOCK_TABLE_KEYS_MAX. */
#define TXN_BUCKETS 4096u

struct lock_entry {
    struct list quiet_link; /* While it has no waiters. */
    struct list holders;
    struct list queue;
    struct list readers;
    uint32_t waiters; /* In both. */
    struct bytes key; /* Behind `next`. */
    uint32_t levels;
    struct lock_entry *next[];
};

struct lock_holder {
    struct list entry_link;
    struct list txn_link;
    struct lock_entry *entry;
    struct lock_owner owner; /* Anchor: behind this struct. */
    enum mvcc_strength strength;
    struct hts ts; /* INTENT. */
    struct hts since;
    uint8_t anchor[];
};

struct lock_table {
    struct lock_entry *first[LEVELS_MAX];
    struct list txns[TXN_BUCKETS]; /* Holders. */
    struct list quiet_intents;
    struct list quiet_locks;
    uint64_t next_sequence;
    uint32_t keys;
    uint32_t locks;
    uint32_t intents; /* Of the locks. Plain readers look no further when there are none. */
    uint32_t waiters;
};

struct status lock_table_create(struct lock_table **out)
{
    struct lock_table *t = calloc(1, sizeof(*t));

    if (t == NULL) {
        return FAIL(STATUS_MEMORY, "out of memory");
    }
    for (uint32_t i = 0; i < TXN_BUCKETS; i++) {
        list_init(&t->txns[i]);
    }
    list_init(&t->quiet_intents);
    list_init(&t->quiet_locks);
    t->next_sequence = 1;
    *out = t;
    return OK;
}

/* ---- entries by key ----------------------------------------------------------------------------- */

/* The first entry at or above `key`; prev[i]: the link of level i that leads to or over it. */
static struct lock_entry *seek(const struct lock_table *t, struct bytes key,
                               struct lock_entry ***prev)
{
    struct lock_entry **links = (struct lock_entry **)t->first; /* Written only through prev. */
    struct lock_entry *at = NULL;

    for (uint32_t level = LEVELS_MAX; level-- > 0;) {
        while (links[level] != NULL && bytes_cmp(links[level]->key, key) < 0) {
            links = links[level]->next;
        }
        at = links[level];
        if (prev != NULL) {
            prev[level] = &links[level];
        }
    }
    return at;
}

static struct lock_entry *find(const struct lock_table *t, struct bytes key)
{
    struct lock_entry *e = t->keys == 0 ? NULL : seek(t, key, NULL);

    return e != NULL && bytes_eq(e->key, key) ? e : NULL;
}

/* A quarter of the entries reaches each next level. From the key's hash: the same in every run. */
static uint32_t levels_of(struct bytes key)
{
    uint64_t bits = hash64(key, 0x10c7ab1e);
    uint32_t levels = 1;

    for (; levels < LEVELS_MAX && (bits & 3) == 0; bits >>= 2) {
        levels++;
    }
    return levels;
}

static struct lock_entry *entry_create(struct lock_table *t, struct bytes key)
{
    const uint32_t levels = levels_of(key);
    struct lock_entry **prev[LEVELS_MAX];
    struct lock_entry *e = malloc(sizeof(*e) + levels * sizeof(e->next[0]) + key.len);

    if (e == NULL) {
        return NULL;
    }
    *e = (struct lock_entry){.levels = levels};
    memcpy(&e->next[levels], key.ptr, key.len);
    e->key = bytes_of(&e->next[levels], key.len);
    list_init(&e->quiet_link);
    list_init(&e->holders);
    list_init(&e->queue);
    list_init(&e->readers);
    (void)seek(t, key, prev);
    for (uint32_t i = 0; i < levels; i++) {
        e->next[i] = *prev[i];
        *prev[i] = e;
    }
    t->keys++;
    return e;
}

static void entry_free(struct lock_table *t, struct lock_entry *e)
{
    struct lock_entry **prev[LEVELS_MAX];

    INVARIANT(list_empty(&e->holders) && e->waiters == 0);
    (void)seek(t, e->key, prev);
    for (uint32_t i = 0; i < e->levels; i++) {
        INVARIANT(*prev[i] == e);
        *prev[i] = e->next[i];
    }
    list_remove(&e->quiet_link);
    t->keys--;
    free(e);
}

/* ---- holders ------------------------------------------------------------------------------------ */

static struct list *txn_bucket(struct lock_table *t, struct uuid txn)
{
    return &t->txns[hash64(bytes_of(txn.b, sizeof(txn.b)), 0) % TXN_BUCKETS];
}

static struct lock_holder *holder_of(const struct lock_entry *e, struct uuid txn)
{
    if (uuid_is_zero(txn)) {
        return NULL;
    }
    LIST_FOREACH(it, &e->holders) {
        struct lock_holder *h = LIST_ENTRY(it, struct lock_holder, entry_link);

        if (uuid_eq(h->owner.txn, txn)) {
            return h;
        }
    }
    return NULL;
}

static void holder_free(struct lock_table *t, struct lock_holder *h)
{
    list_remove(&h->entry_link);
    list_remove(&h->txn_link);
    t->locks--;
    t->intents -= h->strength == MVCC_INTENT ? 1 : 0;
    free(h);
}

static bool forget_one(struct lock_table *t)
{
    struct list *from = list_empty(&t->quiet_intents) ? &t->quiet_locks : &t->quiet_intents;
    struct lock_entry *e = NULL;

    if (list_empty(from)) {
        return false;
    }
    e = LIST_ENTRY(from->next, struct lock_entry, quiet_link);
    while (!list_empty(&e->holders)) {
        holder_free(t, LIST_ENTRY(e->holders.next, struct lock_holder, entry_link));
    }
    entry_free(t, e);
    return true;
}

/* The entry of a key, made if there is room. NULL: there is none, or no memory. */
static struct lock_entry *take_entry(struct lock_table *t, struct bytes key)
{
    struct lock_entry *e = find(t, key);

    if (e != NULL) {
        return e;
    }
    return t->keys < LOCK_TABLE_KEYS_MAX || forget_one(t) ? entry_create(t, key) : NULL;
}

/* Files the entry where it may be forgotten, or frees it when nobody needs it. */
static void entry_settle(struct lock_table *t, struct lock_entry *e)
{
    bool only_intents = true;

    list_remove(&e->quiet_link);
    if (e->waiters > 0) {
        return;
    }
    if (list_empty(&e->holders)) {
        entry_free(t, e);
        return;
    }
    LIST_FOREACH(it, &e->holders) {
        only_intents =
            only_intents && LIST_ENTRY(it, struct lock_holder, entry_link)->strength == MVCC_INTENT;
    }
    list_push_back(only_intents ? &t->quiet_intents : &t->quiet_locks, &e->quiet_link);
}

/* ---- who is in the way -------------------------------------------------------------------------- */

static bool excludes(enum mvcc_strength held, enum mvcc_strength want)
{
    switch (want) {
    case MVCC_NONE:
        return held == MVCC_INTENT;
    case MVCC_SHARED:
        return held != MVCC_SHARED;
    case MVCC_EXCLUSIVE:
    case MVCC_INTENT:
        break;
    }
    return true;
}

/* One who asks: in a queue already or not. */
struct asker {
    const struct lock_waiter *self; /* May be NULL. */
    struct uuid txn;
    enum mvcc_strength strength;
    uint64_t sequence;
    bool holds;
    struct hts ts; /* NONE: of the read. */
};

static struct asker asker_of(const struct lock_waiter *w, const struct lock_entry *e)
{
    return (struct asker){
        .self = w,
        .txn = w->owner.txn,
        .strength = w->strength,
        .sequence = w->sequence,
        .holds = w->strength != MVCC_NONE && holder_of(e, w->owner.txn) != NULL,
        .ts = HTS_MAX,
    };
}

static bool holder_blocks(const struct lock_holder *h, const struct asker *a)
{
    return excludes(h->strength, a->strength) && !uuid_eq(h->owner.txn, a->txn) &&
           (a->strength != MVCC_NONE || hts_less_eq(h->ts, a->ts));
}

static const struct lock_holder *blocking_holder(const struct lock_entry *e, const struct asker *a)
{
    LIST_FOREACH(it, &e->holders) {
        const struct lock_holder *h = LIST_ENTRY(it, struct lock_holder, entry_link);

        if (holder_blocks(h, a)) {
            return h;
        }
    }
    return NULL;
}

/* Does `v`, of the queue, stand ahead with something that excludes what is wanted? */
static bool waiter_blocks(const struct lock_entry *e, const struct lock_waiter *v,
                          const struct asker *a)
{
    if (v == a->self || !excludes(v->strength, a->strength) ||
        (!uuid_is_zero(a->txn) && uuid_eq(v->owner.txn, a->txn))) {
        return false;
    }
    if (a->holds) {
        return v->sequence < a->sequence && holder_of(e, v->owner.txn) != NULL;
    }
    return v->sequence < a->sequence || holder_of(e, v->owner.txn) != NULL;
}

static const struct lock_waiter *blocking_waiter(const struct lock_entry *e, const struct asker *a)
{
    if (a->strength == MVCC_NONE) {
        return NULL;
    }
    LIST_FOREACH(it, &e->queue) {
        const struct lock_waiter *v = LIST_ENTRY(it, struct lock_waiter, link);

        if (waiter_blocks(e, v, a)) {
            return v;
        }
    }
    return NULL;
}

static bool is_blocked(const struct lock_entry *e, const struct asker *a)
{
    return blocking_holder(e, a) != NULL || blocking_waiter(e, a) != NULL;
}

static struct lock_blocker blocker_holder(const struct lock_holder *h)
{
    return (struct lock_blocker){.key = h->entry->key,
                                 .owner = h->owner,
                                 .strength = h->strength,
                                 .ts = h->ts,
                                 .since = h->since};
}

static struct lock_blocker blocker_waiter(const struct lock_waiter *v)
{
    const struct lock_entry *e = v->entry;

    return (struct lock_blocker){
        .key = e->key, .owner = v->owner, .strength = v->strength, .is_waiter = true};
}

static bool entry_conflict(const struct lock_entry *e, struct asker *a, struct lock_blocker *out)
{
    const struct lock_holder *h = blocking_holder(e, a);
    const struct lock_waiter *v = NULL;

    if (h != NULL) {
        *out = blocker_holder(h);
        return true;
    }
    if (list_empty(&e->queue)) {
        return false;
    }
    a->holds = a->strength != MVCC_NONE && holder_of(e, a->txn) != NULL;
    v = blocking_waiter(e, a);
    if (v != NULL) {
        *out = blocker_waiter(v);
    }
    return v != NULL;
}

bool lock_table_conflict(struct lock_table *t, const struct lock_waiter *w,
                         const struct lock_owner *who, const struct lock_want *wants,
                         uint32_t count, struct lock_blocker *out)
{
    for (uint32_t i = 0; i < count && t->keys > 0; i++) {
        struct lock_entry *e = NULL;
        struct asker a = {
            .self = w,
            .txn = who->txn,
            .strength = wants[i].strength,
            .sequence = w == NULL || w->sequence == 0 ? UINT64_MAX : w->sequence,
            .ts = wants[i].ts,
        };

        if (a.strength == MVCC_NONE && t->intents == 0) {
            continue;
        }
        e = wants[i].end.len == 0 ? find(t, wants[i].key) : seek(t, wants[i].key, NULL);
        for (; e != NULL; e = e->next[0]) {
            if (wants[i].end.len > 0 && bytes_cmp(e->key, wants[i].end) >= 0) {
                break;
            }
            if (entry_conflict(e, &a, out)) {
                return true;
            }
            if (wants[i].end.len == 0) {
                break;
            }
        }
    }
    return false;
}

/* ---- waiting ------------------------------------------------------------------------------------ */

static void wake(struct lock_waiter *w)
{
    w->woken = true;
    completion_fire(&w->wake);
}

/* After each change: whoever is not blocked any more may go on. */
static void wake_unblocked(struct lock_entry *e, bool all_readers)
{
    LIST_FOREACH(it, &e->queue) {
        struct lock_waiter *w = LIST_ENTRY(it, struct lock_waiter, link);
        const struct asker a = asker_of(w, e);

        if (!w->woken && !is_blocked(e, &a)) {
            wake(w);
        }
    }
    LIST_FOREACH(it, &e->readers) {
        struct lock_waiter *w = LIST_ENTRY(it, struct lock_waiter, link);
        const struct asker a = asker_of(w, e);

        if (!w->woken && (all_readers || !is_blocked(e, &a))) {
            wake(w);
        }
    }
}

static void changed(struct lock_table *t, struct lock_entry *e)
{
    wake_unblocked(e, false);
    entry_settle(t, e);
}

/* Behind everybody with a lower sequence. */
static void queue_insert(struct list *queue, struct lock_waiter *w)
{
    struct list *behind = queue;

    while (behind->prev != queue &&
           LIST_ENTRY(behind->prev, struct lock_waiter, link)->sequence > w->sequence) {
        behind = behind->prev;
    }
    list_insert_before(behind, &w->link);
}

struct status lock_table_enqueue(struct lock_table *t, struct lock_waiter *w,
                                 const struct lock_owner *who, enum mvcc_strength strength,
                                 struct bytes key)
{
    struct lock_entry *e = find(t, key);

    if (e != NULL && e != w->entry && e->waiters >= LOCK_QUEUE_MAX) {
        return FAIL(STATUS_OVERLOADED, "500 requests wait for this key already (LOCK_QUEUE_MAX)");
    }
    /* The entry must outlive the waiter's leaving of it, and the new one must not be forgotten. */
    if (e == NULL || e != w->entry) {
        lock_table_leave(w);
        e = take_entry(t, key);
        if (e == NULL) {
            return FAIL(STATUS_OVERLOADED, "the range's lock table is full of waiters");
        }
        t->waiters++;
        e->waiters++;
    } else {
        list_remove(&w->link);
    }
    w->sequence = w->sequence == 0 ? t->next_sequence++ : w->sequence;
    w->table = t;
    w->entry = e;
    w->owner = *who;
    w->strength = strength;
    w->woken = false;
    w->wake = (struct completion){0};
    queue_insert(strength == MVCC_NONE ? &e->readers : &e->queue, w);
    changed(t, e); /* Perhaps nothing is in the way any more. */
    return OK;
}

struct status lock_table_wait(struct lock_waiter *w, uint64_t deadline_ns)
{
    if (w->table != NULL) {
        const struct status st = completion_wait(&w->wake, deadline_ns);

        if (!status_ok(st)) {
            return st;
        }
        if (!w->woken) { /* Nudged: may be so again. */
            w->wake = (struct completion){0};
        }
    }
    return w->table != NULL ? OK : FAIL(STATUS_NOT_LEADER, "the lease ended while waiting");
}

void lock_table_nudge(struct lock_waiter *w)
{
    completion_fire(&w->wake);
}

void lock_table_leave(struct lock_waiter *w)
{
    struct lock_table *t = w->table;
    struct lock_entry *e = w->entry;

    if (t == NULL) {
        return;
    }
    list_remove(&w->link);
    w->table = NULL;
    w->entry = NULL;
    t->waiters--;
    e->waiters--;
    changed(t, e);
}

/* Is somebody ahead whom no holder lets pass? */
static bool behind_exclusive(const struct lock_entry *e, const struct asker *a)
{
    LIST_FOREACH(it, &e->queue) {
        const struct lock_waiter *v = LIST_ENTRY(it, struct lock_waiter, link);

        if (v->strength != MVCC_SHARED && waiter_blocks(e, v, a)) {
            return true;
        }
    }
    return false;
}

uint32_t lock_table_blockers(const struct lock_waiter *w, struct lock_blocker *out, uint32_t max)
{
    const struct lock_entry *e = w->entry;
    struct asker a = {0};
    bool behind = false;
    uint32_t count = 0;

    if (w->table == NULL) {
        return 0;
    }
    a = asker_of(w, e);
    behind = w->strength != MVCC_NONE && behind_exclusive(e, &a);
    LIST_FOREACH(it, &e->holders) {
        const struct lock_holder *h = LIST_ENTRY(it, struct lock_holder, entry_link);

        if (count < max && h->owner.anchor.len > 0 && !uuid_eq(h->owner.txn, a.txn) &&
            (behind || holder_blocks(h, &a))) {
            out[count++] = blocker_holder(h);
        }
    }
    return count;
}

/* ---- locks come and go -------------------------------------------------------------------------- */

static struct lock_holder *holder_create(struct lock_table *t, struct lock_entry *e,
                                         const struct lock_owner *who)
{
    struct lock_holder *h = NULL;

    /* Our own entry may be the oldest without waiters: it is not to be forgotten now. */
    list_remove(&e->quiet_link);
    if (t->locks >= LOCK_TABLE_LOCKS_MAX && !forget_one(t)) {
        return NULL;
    }
    h = malloc(sizeof(*h) + who->anchor.len);
    if (h == NULL) {
        return NULL;
    }
    *h = (struct lock_holder){.entry = e, .owner = *who};
    if (who->anchor.len > 0) {
        memcpy(h->anchor, who->anchor.ptr, who->anchor.len);
    }
    h->owner.anchor = bytes_of(h->anchor, who->anchor.len);
    list_push_back(&e->holders, &h->entry_link);
    list_push_back(txn_bucket(t, who->txn), &h->txn_link);
    t->locks++;
    return h;
}

/* False: no room. */
static bool hold(struct lock_table *t, const struct lock_owner *who, enum mvcc_strength strength,
                 struct bytes key, struct hts ts)
{
    struct lock_entry *e = take_entry(t, key);
    struct lock_holder *h = e == NULL ? NULL : holder_of(e, who->txn);

    if (e == NULL) {
        return false;
    }
    h = h == NULL ? holder_create(t, e, who) : h;
    if (h != NULL) {
        if (strength != MVCC_INTENT || h->strength != MVCC_INTENT) {
            h->since = hts_max(h->since, ts); /* An intent that others push shows no life. */
        }
        if (strength == MVCC_INTENT) {
            t->intents += h->strength == MVCC_INTENT ? 0 : 1;
            h->ts = hts_max(h->ts, ts); /* Of locks it stays zero. */
        }
        h->strength = strength > h->strength ? strength : h->strength;
    }
    changed(t, e); /* A waiter that holds something now goes in front. */
    return h != NULL;
}

struct status lock_table_discovered(struct lock_table *t, const struct mvcc_lock *lock)
{
    const struct lock_owner who = {
        .txn = lock->txn_id,
        .anchor = lock->anchor_key,
        .min_ts = lock->min_ts,
        .priority = lock->priority,
    };

    return hold(t, &who, lock->strength, lock->key, lock->write_ts)
               ? OK
               : FAIL(STATUS_OVERLOADED, "the range's lock table is full of waiters");
}

void lock_table_acquire(struct lock_table *t, const struct lock_owner *who,
                        enum mvcc_strength strength, struct bytes key, struct hts now)
{
    if (!uuid_is_zero(who->txn) && strength != MVCC_NONE) {
        (void)hold(t, who, strength, key, now); /* Without room it is not taken: see the head. */
    }
}

static void release(struct lock_table *t, struct lock_holder *h)
{
    struct lock_entry *e = h->entry;

    holder_free(t, h);
    changed(t, e);
}

static void move_up(struct lock_holder *h, struct hts ts)
{
    if (h->strength == MVCC_INTENT && hts_less(h->ts, ts)) {
        h->ts = ts;
        wake_unblocked(h->entry, true); /* We do not know their timestamps; they look again. */
    }
}

static void release_or_move(struct lock_table *t, struct lock_holder *h, struct hts ts)
{
    if (hts_is_zero(ts)) {
        release(t, h);
    } else {
        move_up(h, ts);
    }
}

/* Transactions release their locks one by one, and may have very many: only spans look at all of them. */
void lock_table_update(struct lock_table *t, struct uuid txn, struct bytes key, struct bytes end,
                       struct hts ts)
{
    if (end.len == 0) {
        const struct lock_entry *e = find(t, key);
        struct lock_holder *h = e == NULL ? NULL : holder_of(e, txn);

        if (h != NULL) {
            release_or_move(t, h, ts);
        }
        return;
    }
    LIST_FOREACH(it, txn_bucket(t, txn)) {
        struct lock_holder *h = LIST_ENTRY(it, struct lock_holder, txn_link);

        if (uuid_eq(h->owner.txn, txn) && bytes_cmp(h->entry->key, key) >= 0 &&
            bytes_cmp(h->entry->key, end) < 0) {
            release_or_move(t, h, ts);
        }
    }
}

void lock_table_release_all(struct lock_table *t, struct uuid txn)
{
    LIST_FOREACH(it, txn_bucket(t, txn)) {
        struct lock_holder *h = LIST_ENTRY(it, struct lock_holder, txn_link);

        if (uuid_eq(h->owner.txn, txn)) {
            release(t, h);
        }
    }
}

static void send_away(struct lock_table *t, struct lock_entry *e, struct list *queue)
{
    for (struct list *it = list_pop_front(queue); it != NULL; it = list_pop_front(queue)) {
        struct lock_waiter *w = LIST_ENTRY(it, struct lock_waiter, link);

        w->table = NULL;
        w->entry = NULL;
        t->waiters--;
        e->waiters--;
        wake(w);
    }
}

void lock_table_drop_from(struct lock_table *t, struct bytes from)
{
    struct lock_entry *next = NULL;

    for (struct lock_entry *e = seek(t, from, NULL); e != NULL; e = next) {
        next = e->next[0];
        send_away(t, e, &e->queue);
        send_away(t, e, &e->readers);
        while (!list_empty(&e->holders)) {
            holder_free(t, LIST_ENTRY(e->holders.next, struct lock_holder, entry_link));
        }
        entry_free(t, e);
    }
}

void lock_table_destroy(struct lock_table *t)
{
    if (t != NULL) {
        lock_table_drop_from(t, BYTES_EMPTY);
        INVARIANT(t->keys == 0 && t->locks == 0 && t->waiters == 0 && t->intents == 0);
        free(t);
    }
}

/* ---- looking at it ------------------------------------------------------------------------------ */

uint32_t lock_table_keys(const struct lock_table *t)
{
    return t->keys;
}

uint32_t lock_table_waiters(const struct lock_table *t)
{
    return t->waiters;
}

static uint32_t check_queue(const struct lock_table *t, const struct lock_entry *e,
                            const struct list *queue)
{
    uint32_t count = 0;

    LIST_FOREACH(it, queue) {
        const struct lock_waiter *w = LIST_ENTRY(it, struct lock_waiter, link);
        const struct asker a = asker_of(w, e);

        INVARIANT(w->table == t && w->entry == e);
        INVARIANT(!w->woken || w->wake.done);
        INVARIANT(w->woken || is_blocked(e, &a));
        INVARIANT(it->next == queue ||
                  w->sequence <= LIST_ENTRY(it->next, struct lock_waiter, link)->sequence);
        count++;
    }
    return count;
}

void lock_table_check(const struct lock_table *t)
{
    uint32_t keys = 0;
    uint32_t waiters = 0;

    for (const struct lock_entry *e = t->first[0]; e != NULL; e = e->next[0]) {
        const uint32_t here = check_queue(t, e, &e->queue) + check_queue(t, e, &e->readers);

        INVARIANT(e->next[0] == NULL || bytes_cmp(e->key, e->next[0]->key) < 0);
        INVARIANT(here == e->waiters);
        INVARIANT(here > 0 || !list_empty(&e->holders));
        INVARIANT((here > 0) == list_empty(&e->quiet_link));
        waiters += here;
        keys++;
    }
    INVARIANT(keys == t->keys);
    INVARIANT(waiters == t->waiters);
}
