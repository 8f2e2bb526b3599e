/*
 * recent.h -- which one-round commits has this store applied lately?
 *
 * A gateway whose leaseholder vanished in the middle of a commit asks the next one. That one has applied
 * everything that was committed before it, and remembers by transaction; what it does not remember, and
 * would, was not committed. So the answer "unknown" is left for restarts and for snapshots in between.
 *
 * Memory is bounded: the oldest are forgotten, and recent_since() says up to when.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/hts.h"
#include "node/base/ids.h"
#include "node/base/status.h"

struct recent;

#define RECENT_COMMITS_MAX (1u << 18)

/* Nothing before `now` is known. */
NOYIELD NODISCARD struct status recent_create(struct hts now, struct recent **out);
NOYIELD void recent_destroy(struct recent *c);
/* A command with the commit of `txn` at `ts` was applied. Zero ids are not kept. */
NOYIELD void recent_note(struct recent *c, struct uuid txn, struct hts ts);
NOYIELD bool recent_find(const struct recent *c, struct uuid txn, struct hts *ts_out);
/* Commits above are all remembered. */
NOYIELD struct hts recent_since(const struct recent *c);
