/*
 * gone.c -- removed replicas that nobody told.
 *
 * The problem: a replica is dropped from the configuration by an entry of the log, and from the moment
 * it applies, the leader sends it nothing more. Whether the replica itself got that entry is chance. If
 * not, it would keep its data for ever: as a learner it never campaigns, and a sleeping leader is as
 * silent as one that has forgotten us.
 *
 * The idea: whoever removes a replica tells it so. If that is lost as well, a replica that has not heard
 * of anybody for a while asks the peers it knows, more rarely each time. Ids are never used again, so any
 * peer that has applied a descriptor without the asking id, but past it, knows that it was removed for
 * good.
 *
 *     replica -- MEMBER? --> every peer of its descriptor      12 s after the last message, then 24, 48 ...
 *     replica <---- GONE --- one that knows better: the replica removes itself
 *
 * Idle replicas are the rule, so nothing here walks them: they stand in one queue per interval, ordered by
 * when they are due, and a tick looks at the heads only.
 *
 * Source: protocol reference 2.10.2. Differs: peers are asked instead of meta2, so that this works while
 * the first range is down; with splits and merges meta2 will have to be read as well.
 */
#include "node/range/internal.h"

#define ASK_TICKS     120u /* Of RANGE_TICK_NS; doubled RANGE_ASK_LEVELS - 1 times. */
#define ASKS_PER_TICK 500u /* Thousands of replicas may have fallen silent at once. */

static void send_to(struct replica *r, store_id store, replica_id to, uint32_t type)
{
    const struct raft_msg m = {.type = (enum raft_msg_type)type, .from = r->id, .to = to};

    if (store.v != r->store->o.ident.store.v) {
        outbox__add_to(&r->store->outbox, r, store, &m);
    }
}

static bool knows_gone(const struct replica *r, replica_id id)
{
    return r->life == REPLICA_INIT && id.v != 0 && id.v < r->desc.next_replica &&
           range_desc_find_id(&r->desc, id) == NULL;
}

static void ask(struct replica *r)
{
    for (uint32_t i = 0; i < r->desc.replicas_count; i++) {
        send_to(r, r->desc.replicas[i].store, r->desc.replicas[i].id, RANGE_MSG_MEMBER);
    }
    if (r->life == REPLICA_UNINIT && r->last_from_store.v != 0) {
        send_to(r, r->last_from_store, r->last_from, RANGE_MSG_MEMBER);
    }
}

/* Puts the replica at the end of a queue: all in it wait equally long, so the first is due first. */
static void wait_on(struct replica *r, uint32_t level)
{
    list_remove(&r->ask_link);
    r->ask_tick = r->store->ticks + ((uint64_t)ASK_TICKS << level);
    list_push_back(&r->store->ask[level], &r->ask_link);
}

static void tick_level(struct store *s, uint32_t level, uint32_t *budget)
{
    while (!list_empty(&s->ask[level]) && *budget > 0) {
        struct replica *r = LIST_ENTRY(s->ask[level].next, struct replica, ask_link);

        if (r->ask_tick > s->ticks) {
            return;
        }
        (*budget)--;
        if (raft_get_state(r->raft).role == RAFT_LEADER) {
            list_remove(&r->ask_link); /* Comes back with the first message of its successor. */
            continue;
        }
        ask(r);
        change__settle_later(r);
        wait_on(r, level + 1 < RANGE_ASK_LEVELS ? level + 1 : level);
    }
}

void gone__tick(struct store *s)
{
    uint32_t budget = ASKS_PER_TICK;

    for (uint32_t level = 0; level < RANGE_ASK_LEVELS; level++) {
        tick_level(s, level, &budget);
    }
}

void gone__heard(struct replica *r)
{
    wait_on(r, 0);
}

bool gone__check_sender(struct replica *r, replica_id from, store_id from_store)
{
    if (!knows_gone(r, from)) {
        return false;
    }
    send_to(r, from_store, from, RANGE_MSG_GONE);
    return true;
}

void gone__tell(struct replica *r, store_id store, replica_id id)
{
    if (knows_gone(r, id)) {
        send_to(r, store, id, RANGE_MSG_GONE);
    }
}

void gone__told(struct replica *r)
{
    /* A leader knows best; and what is being written must be complete before it can be deleted. */
    if (raft_get_state(r->raft).role != RAFT_LEADER && r->life != REPLICA_INSTALLING) {
        replica__remove(r);
    }
}
