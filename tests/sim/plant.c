/*
 * plant.c -- the table of plants.
 */
#include "tests/sim/plant.h"

#include <string.h>

#include "node/base/attributes.h"
#include "node/raft/raft.h"
#include "node/range/lease/liveness.h"
#include "node/range/store.h"
#include "node/txn/txn.h"

static const struct plant plants[] = {
    {"vote-twice", "a voter forgets whom it voted for", {.raft = RAFT_PLANT_VOTE_TWICE}},
    {"ack-before-durable",
     "a follower acknowledges what is only in memory",
     {.raft = RAFT_PLANT_ACK_BEFORE_DURABLE}},
    {"commit-old-term",
     "a leader counts replicas of an older term's entry",
     {.raft = RAFT_PLANT_COMMIT_OLD_TERM}},
    {"no-truncate-conflict",
     "a follower keeps a conflicting suffix",
     {.raft = RAFT_PLANT_NO_TRUNCATE_CONFLICT}},
    {"ignore-support",
     "a voter votes although it supports a live leader",
     {.raft = RAFT_PLANT_IGNORE_SUPPORT}},
    {"minority-commit",
     "a leader commits with one acknowledgement fewer",
     {.raft = RAFT_PLANT_MINORITY_COMMIT}},
    {"learner-counts", "learners count toward commit", {.raft = RAFT_PLANT_LEARNER_COUNTS}},
    {"no-sync", "log writes are not synced", {.store = STORE_PLANT_NO_SYNC}},
    {"read-without-lease",
     "whoever held the lease last goes on serving",
     {.store = STORE_PLANT_READ_WITHOUT_LEASE}},
    {"apply-twice",
     "a restarted replica applies its last command again",
     {.store = STORE_PLANT_APPLY_TWICE}},
    {"skip-latch", "readers do not wait for writers", {.store = STORE_PLANT_SKIP_LATCH}},
    {"lose-tail", "recovery drops the last log entry", {.store = STORE_PLANT_LOSE_TAIL}},
    {"no-vote-persist", "the hard state is not written", {.store = STORE_PLANT_NO_VOTE_PERSIST}},
    {"refresh-nothing",
     "commits do not check what was read",
     {.store = STORE_PLANT_REFRESH_NOTHING}},
    {"reorder-apply",
     "neighbouring commands are swapped when applied",
     {.store = STORE_PLANT_REORDER_APPLY}},
    {"serve-to-the-end",
     "a lease is used up to its last moment, whatever the clocks",
     {.store = STORE_PLANT_SERVE_TO_THE_END}},
    {"recover-blindly",
     "recovery commits without asking for the intents",
     {.store = STORE_PLANT_RECOVER_BLINDLY}},
    {"recover-no-prevent",
     "an intent that recovery has missed may still arrive",
     {.store = STORE_PLANT_RECOVER_NO_PREVENT}},
    {"no-tscache", "intents land below reads", {.store = STORE_PLANT_NO_TSCACHE}},
    {"no-lease-floor",
     "a new lease does not know of earlier reads",
     {.store = STORE_PLANT_NO_LEASE_FLOOR}},
    {"split-forgets-reads",
     "the right half of a split does not know of earlier reads",
     {.store = STORE_PLANT_SPLIT_FORGETS_READS}},
    {"close-in-flight",
     "a timestamp is closed at which a write is evaluated",
     {.store = STORE_PLANT_CLOSE_IN_FLIGHT}},
    {"follower-ahead",
     "a follower reads above its closed timestamp",
     {.store = STORE_PLANT_FOLLOWER_AHEAD}},
    {"gc-below-protected",
     "garbage collection ignores protections",
     {.store = STORE_PLANT_GC_BELOW_PROTECTED}},
    {"record-reborn",
     "a record is made although the transaction was aborted",
     {.store = STORE_PLANT_RECORD_REBORN}},
    {"merge-no-freeze",
     "the right side goes on serving during a merge",
     {.store = STORE_PLANT_MERGE_NO_FREEZE}},
    {"resolve-early",
     "intents of a staging transaction are taken as committed",
     {.store = STORE_PLANT_RESOLVE_EARLY}},
    {"push-ignored",
     "a commit does not look at the push marker",
     {.store = STORE_PLANT_PUSH_IGNORED}},
    {"commit-pushed",
     "a coordinator does not care that intents landed above",
     {.txn = TXN_PLANT_COMMIT_PUSHED}},
    {"no-validation",
     "a commit that was pushed does not look again at what it read",
     {.txn = TXN_PLANT_NO_VALIDATION}},
    {"no-refresh",
     "a snapshot moves without a look at what was read",
     {.txn = TXN_PLANT_NO_REFRESH}},
    {"forget-withdrawal",
     "a withdrawal counts before it is durable",
     {.liveness = LIVENESS_PLANT_FORGET_WITHDRAWAL}},
    {"no-restart-wait",
     "a restarted store does not wait for its promises",
     {.liveness = LIVENESS_PLANT_NO_RESTART_WAIT}},
    {"forget-syncs", "the disk lies about syncs", {.forget_syncs = true}},
};

const struct plant *plant_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_COUNT(plants); i++) {
        if (strcmp(plants[i].name, name) == 0) {
            return &plants[i];
        }
    }
    return NULL;
}

const struct plant *plant_at(size_t i)
{
    return i < ARRAY_COUNT(plants) ? &plants[i] : NULL;
}

bool plants_are_built(void)
{
#ifdef DSQL_PLANTS
    return true;
#else
    return false;
#endif
}
