/*
 * sync_mark.h -- a small file beside the database that remembers how many synced writes there were.
 *
 * Recovering a write-ahead log "to a point in time" also succeeds when the middle of the log has
 * become unreadable: everything behind it, acknowledged writes included, is silently gone. The
 * database therefore counts its synced writes in itself, and this file counts them once more. A
 * database that knows of fewer than its mark has lost acknowledged data.
 *
 * Threads: opened and closed with the engine, set on the writer lane.
 * Source:  protocol reference 2.12.1.
 */
#pragma once

#include <stdint.h>

#include "node/base/attributes.h"
#include "node/base/status.h"

struct engine_sync_mark {
    int fd; /* -1: not open. */
    uint32_t since_flush;
};

/* Opens or creates `dir`/sync_mark. *count is 0 for a new or unreadable mark: it then proves
 * nothing. Errors: STATUS_IO, STATUS_DISK_FULL. */
NOYIELD NODISCARD struct status engine__sync_mark_open(struct engine_sync_mark *m, const char *dir,
                                                       uint64_t *count);
/* After the sync of write number `count` has returned. Failures are ignored: the mark only lags. */
NOYIELD void engine__sync_mark_set(struct engine_sync_mark *m, uint64_t count);
NOYIELD void engine__sync_mark_close(struct engine_sync_mark *m);
