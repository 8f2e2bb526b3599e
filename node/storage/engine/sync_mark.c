/*
 * sync_mark.c -- see sync_mark.h.
 *
 * The mark is one record of 24 bytes in a file of one sector, overwritten in place, and its own
 * checksum tells a torn one. It is written after each sync and flushed every MARK_FLUSH_EVERY
 * writes only: a mark that is too low makes the check weaker, never wrong.
 *
 * It goes to the system directly, as the library below does: it belongs to the RocksDB engine,
 * which the simulator replaces as a whole.
 */
#include "node/storage/engine/sync_mark.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "node/base/codec.h"
#include "node/base/hash.h"

#define MARK_FILE_SIZE   512 /* One sector. */
#define MARK_SIZE        24
#define MARK_MAGIC       0x6473716c6d61726bu /* "dsqlmark" */
#define MARK_FLUSH_EVERY 256

static void mark_encode(uint8_t p[MARK_SIZE], uint64_t count)
{
    be64_put(p, MARK_MAGIC);
    be64_put(p + 8, count);
    be64_put(p + 16, hash64(bytes_of(p, 16), 0));
}

static uint64_t mark_decode(const uint8_t p[MARK_SIZE])
{
    if (be64_get(p) != MARK_MAGIC || be64_get(p + 16) != hash64(bytes_of(p, 16), 0)) {
        return 0;
    }
    return be64_get(p + 8);
}

struct status engine__sync_mark_open(struct engine_sync_mark *m, const char *dir, uint64_t *count)
{
    char path[1024];
    uint8_t page[MARK_FILE_SIZE] = {0};
    const int n = snprintf(path, sizeof(path), "%s/sync_mark", dir);

    *m = (struct engine_sync_mark){.fd = -1};
    *count = 0;
    if (n < 0 || (size_t)n >= sizeof(path)) {
        return FAIL(STATUS_INVALID, "path of the store is too long");
    }
    /* lint-allow(banned): part of the RocksDB engine, which the simulator replaces */
    m->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (m->fd < 0) {
        return FAIL(STATUS_IO, "could not open the sync mark of the store");
    }
    /* lint-allow(banned): part of the RocksDB engine, which the simulator replaces */
    if (pread(m->fd, page, MARK_SIZE, 0) == MARK_SIZE) {
        *count = mark_decode(page);
        return OK;
    }
    memset(page, 0, sizeof(page));
    mark_encode(page, 0);
    /* lint-allow(banned): part of the RocksDB engine, which the simulator replaces */
    if (pwrite(m->fd, page, sizeof(page), 0) != (ssize_t)sizeof(page) || fsync(m->fd) != 0) {
        const enum status_code code = errno == ENOSPC ? STATUS_DISK_FULL : STATUS_IO;

        engine__sync_mark_close(m);
        return FAIL(code, "could not write the sync mark of the store");
    }
    return OK;
}

void engine__sync_mark_set(struct engine_sync_mark *m, uint64_t count)
{
    uint8_t p[MARK_SIZE];

    mark_encode(p, count);
    /* lint-allow(banned): part of the RocksDB engine, which the simulator replaces */
    if (pwrite(m->fd, p, sizeof(p), 0) == (ssize_t)sizeof(p) &&
        ++m->since_flush == MARK_FLUSH_EVERY) {
        m->since_flush = 0;
        /* lint-allow(banned): part of the RocksDB engine, which the simulator replaces */
        (void)fdatasync(m->fd); /* A lagging mark is a weaker check, not a wrong one. */
    }
}

void engine__sync_mark_close(struct engine_sync_mark *m)
{
    if (m->fd >= 0) {
        /* lint-allow(banned): part of the RocksDB engine, which the simulator replaces */
        (void)fdatasync(m->fd); /* As above. */
        (void)close(m->fd);
        m->fd = -1;
    }
}
