/*
 * side.h -- closed timestamps of ranges that are not written to.
 *
 * An idle range has no entries that could carry its promise, and must not be woken for one. Per pair of
 * stores one small message per interval closes all idle ranges of the one that have a replica on the
 * other, however many there are: it names only those that became idle or ceased to be since the last.
 *
 * Runs on:  the shard.
 * Source:   protocol reference 8.5.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/hts.h"
#include "node/base/status.h"

struct replica;
struct side;
struct store;
struct rpc_message;

NOYIELD NODISCARD struct status side__create(struct store *s, struct side **out);
/* All replicas are gone. Accepts NULL. */
NOYIELD void side__destroy(struct side *side);
/* No more timers. */
NOYIELD void side__stop(struct side *side);
/* At the end of a turn, when all changes of role are known: sends if it is time. */
NOYIELD void side__flush(struct store *s);
NOYIELD void side__on_message(void *store, const struct rpc_message *m);

/* ---- a leader ---- */
/* It leads: as soon as it is idle it joins the group. */
NOYIELD void side__await_idle(struct replica *r);
/* It is written to, hands over or leads no more; what was promised so far stands. */
NOYIELD void side__leave(struct replica *r);
/* What the group has promised for it; zero: it is not in it. */
NOYIELD struct hts side__published(const struct replica *r);

/* ---- a follower ---- */
/* What its leader has closed aside, known to hold when `applied` has been applied. */
NOYIELD struct hts side__adopted(const struct replica *r, uint64_t applied);
/* It has data now: it may have been closed already. */
NOYIELD void side__attach(struct replica *r);

/* It goes. */
NOYIELD void side__forget(struct replica *r);

struct side_stats {
    uint64_t idle;     /* Ranges in the group. */
    uint64_t followed; /* Ranges that others close here. */
    uint64_t messages;
    uint64_t bytes;
    uint64_t full;
    uint64_t gaps;
};
NOYIELD void side__get_stats(const struct store *s, struct side_stats *out);
