/*
 * resolved.h -- up to when all that has happened in a span is known here.
 *
 * Below the resolved timestamp no value will ever appear any more: nothing new is written there (it is
 * closed), and nothing provisional stands there. For reads of bounded staleness, and for checkpoints of
 * change feeds.
 */
#pragma once

#include "node/base/hts.h"
#include "node/base/ids.h"
#include "node/base/status.h"
#include "node/storage/key/key.h"

struct store;

/*
 * *out = min(closed timestamp of this store's replica, earliest intent in the span - 1). Rises from call to
 * call unless an intent is laid between the two values; what lies below a value once given stays settled.
 * Any replica answers; it may read the disk.
 * Errors:  STATUS_RANGE_NOT_FOUND, STATUS_RANGE_MISMATCH (the span is not all here), STATUS_NOT_LEADER (no
 *          data yet, or the range is changing), STATUS_IO, STATUS_MEMORY, STATUS_CANCELLED.
 */
MAYYIELD NODISCARD struct status store_resolved_ts(struct store *s, range_id range,
                                                   struct key_span span, struct hts *out);
