/*
 * space.h -- stopping before the disk is full.
 *
 * RocksDB flushes and compacts in threads of its own, and a disk that fills up under them ends the
 * process in an assertion of the library (Debian's build has them on), whatever we would have said. So
 * a part of the file system is left alone: writes are refused while less than that is free, and what
 * is in memory already still finds room.
 *
 * Threads: opened and closed with the engine, asked on the writer lane.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "node/base/arena.h"
#include "node/base/attributes.h"
#include "node/base/status.h"

#define ENGINE_SPACE_SHARE  32u                 /* One part in so many of the file system, */
#define ENGINE_SPACE_MAX    ((uint64_t)1 << 30) /* but no more than this, for compactions; */
#define ENGINE_SPACE_TABLES 4u                  /* and so many memtables, to flush. */

struct engine_space {
    int fd; /* The directory; -1: not open. */
    uint64_t reserve_bytes;
    uint64_t unasked_bytes; /* Written since the system was asked. */
};

/* What is left alone on a file system of `disk_bytes`. */
NOYIELD uint64_t engine__space_reserve(uint64_t disk_bytes, size_t memtable_bytes);

/* A directory that cannot be opened has no limit: opening the database will say what is wrong with it.
 * Errors: STATUS_DISK_FULL (less than the reserve is free; the message has the figures). */
NOYIELD NODISCARD struct status engine__space_open(struct engine_space *s, const char *dir,
                                                   size_t memtable_bytes, struct arena *msg_arena);
/* Before `bytes` are written. Errors: STATUS_DISK_FULL. */
NOYIELD NODISCARD struct status engine__space_take(struct engine_space *s, size_t bytes);
NOYIELD void engine__space_close(struct engine_space *s);
