/*
 * log_fd.c -- events as JSON lines on a file descriptor.
 *
 *     {"time":"2024-05-01T12:00:00.123456Z","level":"info","event":"lease.started","range":7}
 *
 * A log must not become the load that it reports: each event name may write LINES_PER_SECOND lines in
 * a second; the next line of that name after a silence says how many were "dropped". Names are kept
 * in a table of fixed size by hash; two names that meet in one place share it, which drops too little
 * rather than too much. One line is one write(2), so that lines of several processes do not mix.
 *
 * A sink may serve several shards: the mutex is held for the formatting and the write.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "node/base/hash.h"
#include "node/base/invariant.h"
#include "node/base/log.h"
#include "node/runtime/env_uv.h"

#define LINE_BYTES       4096u
#define NAMES_MAX        256u
#define LINES_PER_SECOND 20u

struct log_name {
    uint64_t hash;
    int64_t second; /* Of the count. */
    uint32_t count;
    uint64_t dropped;
};

struct log_sink_fd {
    struct log_sink sink; /* First. */
    int fd;
    pthread_mutex_t mutex;
    struct log_name names[NAMES_MAX];
    char line[LINE_BYTES];
};

/* Counts a line; false when it must be dropped. */
static bool admit(struct log_sink_fd *s, const char *name, int64_t second, uint64_t *dropped_out)
{
    const uint64_t hash = hash64(bytes_str(name), 0);
    struct log_name *n = &s->names[hash % NAMES_MAX];

    if (n->hash != hash) {
        *n = (struct log_name){.hash = hash, .second = second};
    }
    if (n->second != second) {
        n->second = second;
        n->count = 0;
    }
    if (n->count >= LINES_PER_SECOND) {
        n->dropped++;
        return false;
    }
    n->count++;
    *dropped_out = n->dropped;
    n->dropped = 0;
    return true;
}

static size_t put_time(char *out, size_t size, const struct timespec *now)
{
    struct tm tm;
    int n = 0;

    /* lint-allow(banned): UTC, the same everywhere; the log is written by machines for people */
    INVARIANT(gmtime_r(&now->tv_sec, &tm) != NULL);
    n = snprintf(out, size, "{\"time\":\"%04d-%02d-%02dT%02d:%02d:%02d.%06ldZ\",",
                 tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                 now->tv_nsec / 1000);
    INVARIANT(n > 0 && (size_t)n < size);
    return (size_t)n;
}

static void write_line(int fd, const char *line, size_t len)
{
    while (len > 0) {
        const ssize_t n = write(fd, line, len);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return; /* Nowhere left to complain. */
        }
        line += n;
        len -= (size_t)n;
    }
}

/* Formats what fits: fields from the front, and a mark if some had to go, so that the line stays JSON. */
static size_t put_event(char *out, size_t size, enum log_level level, const char *name,
                        const struct log_field *fields, size_t count)
{
    static const char mark[] = ",\"cut\":true";
    const size_t room = size - sizeof(mark);
    size_t len = log_format(out, room, level, name, fields, count);

    if (len + 1 < room) {
        return len;
    }
    while (len + 1 >= room && count > 0) {
        len = log_format(out, room, level, name, fields, --count);
    }
    memcpy(out + len, mark, sizeof(mark) - 1);
    return len + sizeof(mark) - 1;
}

static void emit(struct log_sink *sink, enum log_level level, const char *name,
                 const struct log_field *fields, size_t count)
{
    struct log_sink_fd *s = CONTAINER_OF(sink, struct log_sink_fd, sink);
    const size_t tail = sizeof(",\"dropped\":18446744073709551615}\n");
    struct timespec now;
    uint64_t dropped = 0;
    size_t len = 0;

    INVARIANT(clock_gettime(CLOCK_REALTIME, &now) == 0);
    INVARIANT(pthread_mutex_lock(&s->mutex) == 0);
    if (admit(s, name, now.tv_sec, &dropped)) {
        len = put_time(s->line, sizeof(s->line), &now);
        len += put_event(s->line + len, sizeof(s->line) - len - tail, level, name, fields, count);
        if (dropped > 0) {
            len += (size_t)snprintf(s->line + len, tail, ",\"dropped\":%llu",
                                    (unsigned long long)dropped);
        }
        s->line[len++] = '}';
        s->line[len++] = '\n';
        write_line(s->fd, s->line, len);
    }
    INVARIANT(pthread_mutex_unlock(&s->mutex) == 0);
}

struct status log_sink_fd_create(int fd, enum log_level min_level, struct log_sink **out)
{
    struct log_sink_fd *s = calloc(1, sizeof(*s));

    if (s == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a log");
    }
    s->sink = (struct log_sink){.min_level = min_level, .emit = emit};
    s->fd = fd;
    INVARIANT(pthread_mutex_init(&s->mutex, NULL) == 0);
    *out = &s->sink;
    return OK;
}

void log_sink_fd_destroy(struct log_sink *sink)
{
    struct log_sink_fd *s = NULL;

    if (sink == NULL) {
        return;
    }
    s = CONTAINER_OF(sink, struct log_sink_fd, sink);
    INVARIANT(pthread_mutex_destroy(&s->mutex) == 0);
    free(s);
}
