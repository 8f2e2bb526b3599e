/*
 * closed.h -- how far the past of a range is settled.
 *
 * With each entry it appends the leader promises that no later entry writes at or below a closed
 * timestamp. A replica that has applied the entry may then serve reads up to it on its own. For ranges
 * that are not written to, the promise travels aside (side.h), without an entry.
 *
 * What a promise rests on: writes whose timestamp is chosen hold it below themselves until they are
 * appended or given up; later ones are moved above what is assigned; and it stays below the time until which
 * nobody else can be elected (LSU), above which the next lease starts.
 *
 * Units:    struct hts, MVCC timestamps.
 * Owner:    one struct closed_ts per replica, inside struct replica; allocates nothing.
 * Runs on:  the shard of the replica.
 * Source:   protocol reference 8; CockroachDB's closed timestamps v2. Differs: writes are tracked exactly, which
 *           one thread per range makes cheap, instead of in two buckets.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/hts.h"
#include "node/base/list.h"
#include "node/base/tree.h"

struct closed_ts;
struct side_member;

/* A write between the choice of its timestamp and its append. Zeroed: not tracked. */
struct closed_write {
    struct tree_node node; /* Of in->writes. */
    struct closed_ts *in;  /* NULL: not tracked. */
    struct hts ts;
    uint64_t sequence; /* Tells writes of one timestamp apart. */
};

struct closed_ts {
    struct tree writes; /* By timestamp. */
    uint64_t next_sequence;
    struct hts assigned; /* The highest that was promised as a leader. Never falls. */
    struct hts aside;    /* The highest adopted without an entry. Never falls. */
    struct hts told;     /* To the probe. */

    /* Of side.c, as a leader: */
    struct list wait_link;       /* Leads, is not idle: of side.waiting. */
    struct tree_node group_node; /* Idle: closed together with all others like it. */
    struct hts group_until;      /* LSU, as last looked at: the promise stays below it. */
    uint64_t group_term;
    /* As a follower: */
    struct side_member *member; /* NULL: nobody closes it aside. */
};

NOYIELD void closed_init(struct closed_ts *c);

/* Holds promises below `ts`, which is above c->assigned. A write that is tracked already moves there. */
NOYIELD void closed_track(struct closed_ts *c, struct closed_write *w, struct hts ts);
/* Accepts writes that are not tracked. */
NOYIELD void closed_untrack(struct closed_write *w);
/* The lowest timestamp of a tracked write; HTS_MAX: none. */
NOYIELD struct hts closed_low(const struct closed_ts *c);

/* The promise for the entry about to be appended, its own write untracked: at most `target`, below every
 * tracked write and below `until` (LSU). Never lower than any returned before. */
NOYIELD struct hts closed_assign(struct closed_ts *c, struct hts target, struct hts until);
