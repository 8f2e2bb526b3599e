/*
 * test_client.c -- processes, ports, and HTTP against a server of a few lines.
 */
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/client/http_client.h"
#include "cli/client/ports.h"
#include "cli/client/process.h"
#include "node/base/invariant.h"
#include "tests/lib/test.h"

/* ---- processes ----------------------------------------------------------------------------------- */

static enum process_state wait_state(struct process_name p, enum process_state want)
{
    const uint64_t until = process_now_ms() + 10000;

    while (process_state(p) != want && process_now_ms() < until) {
        process_reap();
    }
    return process_state(p);
}

TEST(process, is_started_paused_and_ended_by_its_name)
{
    const char *argv[] = {"/bin/sleep", "60", NULL};
    struct process_name p;
    struct process_name wrong;
    struct arena arena;

    arena_init(&arena, 0);
    EXPECT_OK(process_start(argv, "/dev/null", &arena, &p));
    EXPECT_EQ(PROCESS_RUNNING, process_state(p));
    wrong = p;
    wrong.start_ticks++;
    EXPECT_EQ(PROCESS_GONE, process_state(wrong));
    EXPECT_FALSE(process_signal(wrong, SIGKILL)); /* Not the one we mean: left alone. */
    EXPECT_EQ(PROCESS_RUNNING, process_state(p));
    EXPECT_TRUE(process_signal(p, SIGSTOP));
    EXPECT_EQ(PROCESS_PAUSED, wait_state(p, PROCESS_PAUSED));
    EXPECT_TRUE(process_signal(p, SIGKILL));
    EXPECT_EQ(PROCESS_GONE, wait_state(p, PROCESS_GONE));
    EXPECT_FALSE(process_signal(p, SIGKILL));
    arena_deinit(&arena);
}

/* Signals that we block or ignore must not stay so in a node. */
TEST(process, starts_with_no_signal_blocked)
{
    const char *argv[] = {"/bin/sleep", "60", NULL};
    struct process_name p;
    struct arena arena;
    sigset_t term;
    sigset_t before;

    arena_init(&arena, 0);
    (void)sigemptyset(&term);
    (void)sigaddset(&term, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &term, &before);
    EXPECT_OK(process_start(argv, "/dev/null", &arena, &p));
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    EXPECT_TRUE(process_signal(p, SIGTERM));
    EXPECT_EQ(PROCESS_GONE, wait_state(p, PROCESS_GONE));
    arena_deinit(&arena);
}

TEST(process, says_what_could_not_be_started)
{
    const char *argv[] = {"/nonexistent/dsqld", NULL};
    struct process_name p;
    struct arena arena;
    struct status st = OK;

    arena_init(&arena, 0);
    st = process_start(argv, "/dev/null", &arena, &p);
    EXPECT_EQ(STATUS_NOT_FOUND, st.code);
    EXPECT_STREQ("could not start \"/nonexistent/dsqld\": No such file or directory",
                 status_text(st));
    EXPECT_EQ(0, p.pid);
    EXPECT_EQ(PROCESS_GONE, process_state(p));
    arena_deinit(&arena);
}

/* ---- ports --------------------------------------------------------------------------------------- */

static int listen_on(uint16_t port)
{
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    const int on = 1;
    const struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, (const struct sockaddr *)&at, sizeof(at)) != 0 || listen(fd, 8) != 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

/* The whole point: kept from other searches, open to the node that listens. */
TEST(ports, kept_ones_are_taken_for_searches_and_free_for_nodes)
{
    struct ports mine;
    struct ports others;
    struct arena arena;
    uint16_t first = 0;
    uint16_t second = 0;
    int fd = -1;

    arena_init(&arena, 0);
    ports_init(&mine);
    ports_init(&others);
    EXPECT_OK(ports_find(&mine, 0, 3, &first));
    EXPECT_TRUE(first >= 1024 && first + 2 <= 32767);
    EXPECT_OK(ports_find(&others, first, 3, &second));
    EXPECT_TRUE(second != first);
    fd = listen_on((uint16_t)(first + 1));
    EXPECT_TRUE(fd >= 0);
    ports_release(&mine);
    EXPECT_OK(ports_keep(&mine, first, &arena));
    EXPECT_CODE(STATUS_EXISTS, ports_keep(&mine, (uint16_t)(first + 1), &arena));
    (void)close(fd);
    EXPECT_OK(ports_keep(&mine, (uint16_t)(first + 1), &arena));
    ports_release(&mine);
    ports_release(&others);
    arena_deinit(&arena);
}

/* ---- HTTP ---------------------------------------------------------------------------------------- */

/* Answers one connection with this text, in a process of its own. NULL: says nothing. */
static pid_t serve_once(int fd, const char *answer)
{
    const pid_t pid = fork();

    INVARIANT(pid >= 0);
    if (pid == 0) {
        char request[1024];
        const int c = accept(fd, NULL, NULL);
        const ssize_t n = read(c, request, sizeof(request) - 1);

        request[n > 0 ? n : 0] = '\0';
        if (answer == NULL) {
            (void)pause();
        } else if (strcmp(answer, "echo") == 0) {
            (void)dprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%.*s",
                          strcspn(request, "\r"), (int)strcspn(request, "\r"), request);
        } else {
            (void)dprintf(c, "%s", answer);
        }
        (void)close(c);
        _exit(0);
    }
    (void)close(fd);
    return pid;
}

static pid_t serve(const char *answer, struct arena *arena, const char *path, const char **url_out)
{
    struct ports p;
    uint16_t port = 0;
    pid_t pid = 0;

    ports_init(&p);
    INVARIANT(status_ok(ports_find(&p, 0, 1, &port)));
    pid = serve_once(listen_on(port), answer);
    ports_release(&p);
    *url_out = arena_printf(arena, "http://127.0.0.1:%u%s", port, path);
    return pid;
}

static void end(pid_t pid)
{
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
}

/* A node that is frozen costs the time limit, not the answers of the others. */
TEST(http_client, asks_all_at_once_and_tells_who_did_not_answer)
{
    struct http_call calls[4] = {{.post = false}, {.post = true}, {.post = false}, {.post = false}};
    struct arena arena;
    pid_t pids[3];

    arena_init(&arena, 0);
    pids[0] = serve("echo", &arena, "/a?b=1", &calls[0].url);
    pids[1] = serve("echo", &arena, "/p", &calls[1].url);
    pids[2] = serve(NULL, &arena, "/", &calls[2].url);
    calls[3].url = "http://127.0.0.1:1/";
    EXPECT_OK(http_calls(calls, 4, 500, &arena));
    EXPECT_EQ(200, calls[0].code);
    EXPECT_BYTES_EQ(BYTES_LIT("GET /a?b=1 HTTP/1.1"), calls[0].body);
    EXPECT_EQ(200, calls[1].code);
    EXPECT_BYTES_EQ(BYTES_LIT("POST /p HTTP/1.1"), calls[1].body);
    EXPECT_EQ(0, calls[2].code);
    EXPECT_TRUE(calls[2].reason != NULL);
    EXPECT_EQ(0, calls[3].code);
    EXPECT_TRUE(calls[3].reason != NULL);
    for (size_t i = 0; i < ARRAY_COUNT(pids); i++) {
        end(pids[i]);
    }
    arena_deinit(&arena);
}

TEST(http_client, takes_refusals_and_nonsense_for_what_they_are)
{
    struct http_call calls[3] = {{.post = false}, {.post = false}, {.post = false}};
    struct arena arena;
    pid_t pids[2];

    arena_init(&arena, 0);
    pids[0] = serve("HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno", &arena, "/", &calls[0].url);
    pids[1] = serve("SSH-2.0-x\r\n", &arena, "/", &calls[1].url);
    calls[2].url = "file:///etc/passwd";
    EXPECT_OK(http_calls(calls, 3, 2000, &arena));
    EXPECT_EQ(503, calls[0].code);
    EXPECT_BYTES_EQ(BYTES_LIT("no"), calls[0].body);
    EXPECT_EQ(0, calls[1].code);
    EXPECT_EQ(0, calls[2].code);
    end(pids[0]);
    end(pids[1]);
    arena_deinit(&arena);
}
