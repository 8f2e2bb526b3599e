/*
 * conf.c -- quorums of simple and joint configurations.
 *
 * A joint configuration has two halves: the old one (voters and those being demoted) and the new one
 * (voters and those coming in). What needs a quorum needs one in each half, so every answer here is
 * computed per half and the weaker one counts. Without incoming or demoting peers both halves are
 * the same set. Learners are in neither.
 *
 * Changes take effect when they apply, not when they are appended. That is safe because of two rules
 * kept elsewhere: the leader proposes a change only when the one before is applied (raft.c), and a
 * follower stores the commit index of an App together with its entries. A replica that holds the
 * second of two changes therefore knows that the first is committed, and then it does not campaign
 * until it has applied it (election.c). Configurations of rivals are never more than one step apart.
 */
#include "node/raft/raft_internal.h"

enum half {
    HALF_OLD,
    HALF_NEW,
};

static bool in_half(enum raft_peer_type t, enum half h)
{
    switch (t) {
    case RAFT_VOTER:
        return true;
    case RAFT_LEARNER:
        return false;
    case RAFT_VOTER_INCOMING:
        return h == HALF_NEW;
    case RAFT_VOTER_DEMOTING:
        return h == HALF_OLD;
    }
    return false;
}

static uint32_t half_size(const struct raft_conf *c, enum half h)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < c->count; i++) {
        n += in_half(c->peers[i].type, h) ? 1 : 0;
    }
    return n;
}

bool raft__is_voter(enum raft_peer_type t)
{
    return in_half(t, HALF_OLD) || in_half(t, HALF_NEW);
}

bool raft__conf_valid(const struct raft_conf *c)
{
    if (c->count == 0) {
        return true; /* Uninitialised. */
    }
    if (c->count > RAFT_PEERS_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < c->count; i++) {
        const struct raft_peer *p = &c->peers[i];

        if (p->id.v == 0 || p->store.v == 0 || (unsigned)p->type > RAFT_VOTER_DEMOTING) {
            return false;
        }
        if (i > 0 && c->peers[i - 1].id.v >= p->id.v) {
            return false;
        }
    }
    return half_size(c, HALF_OLD) > 0 && half_size(c, HALF_NEW) > 0;
}

bool raft__conf_equal(const struct raft_conf *a, const struct raft_conf *b)
{
    bool equal = a->count == b->count;

    for (uint32_t i = 0; equal && i < a->count; i++) {
        equal = a->peers[i].id.v == b->peers[i].id.v && a->peers[i].type == b->peers[i].type &&
                a->peers[i].store.v == b->peers[i].store.v;
    }
    return equal;
}

int raft__conf_find(const struct raft_conf *c, replica_id id)
{
    for (uint32_t i = 0; i < c->count; i++) {
        if (c->peers[i].id.v == id.v) {
            return (int)i;
        }
    }
    return -1;
}

/* Largest index that a quorum of the half has: insertion sort, descending, of at most 16 numbers. */
static uint64_t half_commit(const struct raft_conf *c, const uint64_t *match, enum half h,
                            uint32_t plants)
{
    uint64_t sorted[RAFT_PEERS_MAX];
    const uint32_t size = half_size(c, h);
    uint32_t quorum = size / 2 + 1;
    uint32_t n = 0;

    for (uint32_t i = 0; i < c->count; i++) {
        bool counts = in_half(c->peers[i].type, h);
        uint32_t at = n;

#ifdef DSQL_PLANTS
        counts = counts ||
                 ((plants & RAFT_PLANT_LEARNER_COUNTS) != 0 && c->peers[i].type == RAFT_LEARNER);
#endif
        if (!counts) {
            continue;
        }
        for (; at > 0 && sorted[at - 1] < match[i]; at--) {
            sorted[at] = sorted[at - 1];
        }
        sorted[at] = match[i];
        n++;
    }
#ifdef DSQL_PLANTS
    quorum -= (plants & RAFT_PLANT_MINORITY_COMMIT) != 0 && quorum > 1 ? 1 : 0;
#else
    UNUSED(plants);
#endif
    return size == 0 ? 0 : sorted[quorum - 1];
}

uint64_t raft__conf_commit(const struct raft_conf *c, const uint64_t *match, uint32_t plants)
{
    const uint64_t old = half_commit(c, match, HALF_OLD, plants);
    const uint64_t new = half_commit(c, match, HALF_NEW, plants);

    return old < new ? old : new;
}

static enum raft__vote_result half_votes(const struct raft_conf *c, const uint8_t *votes,
                                         enum half h)
{
    const uint32_t size = half_size(c, h);
    const uint32_t quorum = size / 2 + 1;
    uint32_t granted = 0;
    uint32_t refused = 0;

    for (uint32_t i = 0; i < c->count; i++) {
        if (in_half(c->peers[i].type, h)) {
            granted += votes[i] == RAFT__VOTE_GRANTED ? 1 : 0;
            refused += votes[i] == RAFT__VOTE_REFUSED ? 1 : 0;
        }
    }
    if (granted >= quorum) {
        return RAFT__VOTES_WON;
    }
    return refused + quorum > size ? RAFT__VOTES_LOST : RAFT__VOTES_PENDING;
}

enum raft__vote_result raft__conf_votes(const struct raft_conf *c, const uint8_t *votes)
{
    const enum raft__vote_result old = half_votes(c, votes, HALF_OLD);
    const enum raft__vote_result new = half_votes(c, votes, HALF_NEW);

    if (old == RAFT__VOTES_LOST || new == RAFT__VOTES_LOST) {
        return RAFT__VOTES_LOST;
    }
    return old == RAFT__VOTES_WON ? new : old;
}

/* The quorum-th largest expiration: until then a quorum of this half keeps its promise. */
static struct hts half_support(const struct raft_conf *c, const struct hts *expirations,
                               enum half h)
{
    struct hts sorted[RAFT_PEERS_MAX];
    const uint32_t size = half_size(c, h);
    uint32_t n = 0;

    for (uint32_t i = 0; i < c->count; i++) {
        uint32_t at = n;

        if (!in_half(c->peers[i].type, h)) {
            continue;
        }
        for (; at > 0 && hts_less(sorted[at - 1], expirations[i]); at--) {
            sorted[at] = sorted[at - 1];
        }
        sorted[at] = expirations[i];
        n++;
    }
    return size == 0 ? HTS_ZERO : sorted[size / 2];
}

struct hts raft__conf_support(const struct raft_conf *c, const struct hts *expirations)
{
    return hts_min(half_support(c, expirations, HALF_OLD), half_support(c, expirations, HALF_NEW));
}
