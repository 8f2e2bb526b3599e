/*
 * process.c -- posix_spawn(), pidfds and /proc.
 *
 * Between looking at /proc/PID and sending a signal the process may end and its pid be given away. A
 * pidfd closes that gap: it is opened first, then the start time is compared, and the signal goes to
 * what the pidfd holds.
 */
#include "cli/client/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STAT_MAX          1024
#define START_TIME_FIELD  22
#define FIELD_BEHIND_NAME 3 /* The first one behind "(name)" is the state. */
#define PATH_BYTES_MAX    1024

uint64_t process_now_ms(void)
{
    struct timespec t = {0};

    (void)clock_gettime(CLOCK_MONOTONIC, &t); /* Cannot fail for this clock. */
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

static bool read_small(const char *path, char *out, size_t size)
{
    FILE *f = fopen(path, "re");
    size_t n = 0;

    if (f == NULL) {
        return false;
    }
    n = fread(out, 1, size - 1, f);
    out[n] = '\0';
    (void)fclose(f);
    return n > 0;
}

void process_boot(char out[PROCESS_BOOT_SIZE])
{
    if (!read_small("/proc/sys/kernel/random/boot_id", out, PROCESS_BOOT_SIZE)) {
        out[0] = '\0';
    }
    out[strcspn(out, "\n")] = '\0';
}

/* State letter and start time of a pid. The name, in brackets, may hold blanks and brackets. */
static bool read_stat(int32_t pid, char *state, uint64_t *start_ticks)
{
    char path[64];
    char text[STAT_MAX];
    char *at = NULL;
    char *rest = NULL;

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    if (!read_small(path, text, sizeof(text))) {
        return false;
    }
    at = strrchr(text, ')');
    if (at == NULL || at[1] != ' ') {
        return false;
    }
    at += 2;
    *state = *at;
    for (int field = FIELD_BEHIND_NAME; field < START_TIME_FIELD; field++) {
        at = strchr(at, ' ');
        if (at == NULL) {
            return false;
        }
        at++;
    }
    *start_ticks = strtoull(at, &rest, 10);
    return rest != at;
}

enum process_state process_state(struct process_name p)
{
    char state = '\0';
    uint64_t start_ticks = 0;

    if (p.pid <= 0 || !read_stat(p.pid, &state, &start_ticks) || start_ticks != p.start_ticks ||
        state == 'Z' || state == 'X') {
        return PROCESS_GONE;
    }
    return state == 'T' || state == 't' ? PROCESS_PAUSED : PROCESS_RUNNING;
}

bool process_signal(struct process_name p, int signum)
{
    const int fd = p.pid <= 0 ? -1 : pidfd_open(p.pid, 0);
    bool sent = false;

    if (fd < 0) {
        return false;
    }
    sent = process_state(p) != PROCESS_GONE && pidfd_send_signal(fd, signum, NULL, 0) == 0;
    (void)close(fd);
    return sent;
}

void process_reap(void)
{
    int ignored = 0;

    while (waitpid(-1, &ignored, WNOHANG) > 0) {
    }
}

/* ---- starting ------------------------------------------------------------------------------------ */

static int fill_actions(posix_spawn_file_actions_t *actions, const char *log_path)
{
    int rc = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);

    rc = rc != 0 ? rc
                 : posix_spawn_file_actions_addopen(actions, STDOUT_FILENO, log_path,
                                                    O_WRONLY | O_CREAT | O_APPEND, 0600);
    return rc != 0 ? rc : posix_spawn_file_actions_adddup2(actions, STDOUT_FILENO, STDERR_FILENO);
}

/* A session of its own, and none of the signals that we block or ignore. */
static int fill_attributes(posix_spawnattr_t *attributes)
{
    sigset_t none;
    sigset_t all;
    int rc = 0;

    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    rc = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK |
                                                  POSIX_SPAWN_SETSIGDEF);
    rc = rc != 0 ? rc : posix_spawnattr_setsigmask(attributes, &none);
    return rc != 0 ? rc : posix_spawnattr_setsigdefault(attributes, &all);
}

static int spawn(const char *const *argv, const char *log_path, pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    char *empty[] = {NULL};
    int rc = posix_spawn_file_actions_init(&actions);

    if (rc != 0) {
        return rc;
    }
    rc = posix_spawnattr_init(&attributes);
    if (rc == 0) {
        rc = fill_actions(&actions, log_path);
        rc = rc != 0 ? rc : fill_attributes(&attributes);
        rc = rc != 0 ? rc
                     : posix_spawn(pid, argv[0], &actions, &attributes, (char *const *)argv,
                                   environ == NULL ? empty : environ);
        (void)posix_spawnattr_destroy(&attributes);
    }
    (void)posix_spawn_file_actions_destroy(&actions);
    return rc;
}

struct status process_start(const char *const *argv, const char *log_path, struct arena *msg_arena,
                            struct process_name *out)
{
    pid_t pid = 0;
    char state = '\0';
    const int rc = spawn(argv, log_path, &pid);

    *out = (struct process_name){0};
    if (rc != 0) {
        return FAIL(rc == ENOENT ? STATUS_NOT_FOUND : STATUS_IO,
                    arena_printf(msg_arena, "could not start \"%s\": %s", argv[0], strerror(rc)));
    }
    out->pid = (int32_t)pid;
    if (!read_stat(out->pid, &state, &out->start_ticks)) {
        /* Our child is there, a zombie at least, until it is reaped. */
        return FAIL(STATUS_IO, "/proc does not tell when a process was started");
    }
    return OK;
}

struct status process_own_directory(struct arena *arena, const char **out)
{
    char path[PATH_BYTES_MAX];
    const ssize_t n = readlink("/proc/self/exe", path, sizeof(path));
    const char *slash = NULL;

    if (n <= 0 || (size_t)n >= sizeof(path)) {
        return FAIL(STATUS_IO, "could not find out where this program stands");
    }
    path[n] = '\0';
    slash = strrchr(path, '/');
    *out = slash == NULL ? NULL : arena_strndup(arena, path, (size_t)(slash - path));
    return *out == NULL ? FAIL(STATUS_MEMORY, "out of memory") : OK;
}
