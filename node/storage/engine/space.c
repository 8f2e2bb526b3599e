/*
 * space.c -- see space.h.
 *
 * The system is asked once per ASK_BYTES written: what others write to the same file system meanwhile
 * comes out of the reserve. A system that does not answer is taken to have room; RocksDB will tell.
 */
#include "node/storage/engine/space.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define ASK_BYTES ((uint64_t)256 << 10)
#define MIB       ((uint64_t)1 << 20)

uint64_t engine__space_reserve(uint64_t disk_bytes, size_t memtable_bytes)
{
    const uint64_t share = disk_bytes / ENGINE_SPACE_SHARE;

    return (share < ENGINE_SPACE_MAX ? share : ENGINE_SPACE_MAX) +
           (uint64_t)ENGINE_SPACE_TABLES * memtable_bytes;
}

static bool ask(int fd, uint64_t *disk_bytes, uint64_t *free_bytes)
{
    struct statvfs v;

    if (fstatvfs(fd, &v) != 0) {
        return false;
    }
    *disk_bytes = (uint64_t)v.f_blocks * v.f_frsize;
    *free_bytes = (uint64_t)v.f_bavail * v.f_frsize;
    return true;
}

struct status engine__space_open(struct engine_space *s, const char *dir, size_t memtable_bytes,
                                 struct arena *msg_arena)
{
    uint64_t disk_bytes = 0;
    uint64_t free_bytes = 0;

    /* lint-allow(banned): part of the RocksDB engine, which the simulator replaces */
    *s = (struct engine_space){.fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (s->fd < 0 || !ask(s->fd, &disk_bytes, &free_bytes)) {
        return OK;
    }
    s->reserve_bytes = engine__space_reserve(disk_bytes, memtable_bytes);
    if (free_bytes < s->reserve_bytes) {
        return FAIL(STATUS_DISK_FULL,
                    arena_printf(msg_arena,
                                 "no space left for store \"%s\": %llu MiB are free, %llu MiB are "
                                 "needed to work",
                                 dir, (unsigned long long)(free_bytes / MIB),
                                 (unsigned long long)(s->reserve_bytes / MIB)));
    }
    return OK;
}

struct status engine__space_take(struct engine_space *s, size_t bytes)
{
    uint64_t disk_bytes = 0;
    uint64_t free_bytes = 0;

    s->unasked_bytes += bytes;
    if (s->unasked_bytes < ASK_BYTES) {
        return OK;
    }
    if (s->fd >= 0 && ask(s->fd, &disk_bytes, &free_bytes) && free_bytes < s->reserve_bytes) {
        return FAIL(STATUS_DISK_FULL, "no space left for the store"); /* Asked again next time. */
    }
    s->unasked_bytes = 0;
    return OK;
}

void engine__space_close(struct engine_space *s)
{
    if (s->fd >= 0) {
        (void)close(s->fd); /* A directory that was only read. */
        s->fd = -1;
    }
}
