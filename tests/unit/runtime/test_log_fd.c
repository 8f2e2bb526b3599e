/* The log on a descriptor: one JSON line per event, a bounded number per name and second. */
#include <unistd.h>

#include "node/runtime/env_uv.h"
#include "tests/lib/test.h"

static size_t read_all(int fd, char *out, size_t size)
{
    size_t len = 0;
    ssize_t n = 0;

    while (len + 1 < size && (n = read(fd, out + len, size - len - 1)) > 0) {
        len += (size_t)n;
    }
    out[len] = '\0';
    return len;
}

static int count_lines(const char *text)
{
    int n = 0;

    for (; *text != '\0'; text++) {
        n += *text == '\n' ? 1 : 0;
    }
    return n;
}

TEST(log_fd, writes_timed_json_lines)
{
    static char text[8192];
    struct log_sink *sink = NULL;
    int fds[2];

    EXPECT_EQ(0, pipe(fds));
    EXPECT_OK(log_sink_fd_create(fds[1], LOG_LEVEL_INFO, &sink));
    (void)log_install(sink);
    LOG_INFO("test.first", U64("n", 1));
    LOG_DEBUG("test.hidden", U64("n", 2));
    LOG_WARN("test.second", STR("why", "because"));
    (void)log_install(NULL);
    EXPECT_EQ(0, close(fds[1]));
    EXPECT_TRUE(read_all(fds[0], text, sizeof(text)) > 0);
    EXPECT_EQ(2, count_lines(text));
    EXPECT_TRUE(strncmp(text, "{\"time\":\"20", 11) == 0);
    EXPECT_TRUE(strstr(text, "Z\",\"level\":\"info\",\"event\":\"test.first\",\"n\":1}\n") != NULL);
    EXPECT_TRUE(strstr(text, "\"event\":\"test.second\",\"why\":\"because\"}\n") != NULL);
    EXPECT_EQ(0, close(fds[0]));
    log_sink_fd_destroy(sink);
}

/* A flood of one event leaves room for others. (The second may change once meanwhile.) */
TEST(log_fd, limits_repeats_per_name)
{
    static char text[16384];
    struct log_sink *sink = NULL;
    int fds[2];

    EXPECT_EQ(0, pipe(fds));
    EXPECT_OK(log_sink_fd_create(fds[1], LOG_LEVEL_INFO, &sink));
    (void)log_install(sink);
    for (int i = 0; i < 500; i++) {
        LOG_INFO("test.flood", U64("n", i));
    }
    LOG_INFO("test.other", U64("n", 0));
    (void)log_install(NULL);
    EXPECT_EQ(0, close(fds[1]));
    (void)read_all(fds[0], text, sizeof(text));
    EXPECT_TRUE(count_lines(text) == 21 || count_lines(text) == 41);
    EXPECT_TRUE(strstr(text, "test.other") != NULL);
    EXPECT_TRUE(count_lines(text) == 21 || strstr(text, "\"dropped\":") != NULL);
    EXPECT_EQ(0, close(fds[0]));
    log_sink_fd_destroy(sink);
}

/* A line that is too long loses fields from the end and is still JSON. */
TEST(log_fd, cuts_long_lines)
{
    static char text[16384];
    static char big[8000];
    struct log_sink *sink = NULL;
    int fds[2];

    memset(big, 'x', sizeof(big) - 1);
    EXPECT_EQ(0, pipe(fds));
    EXPECT_OK(log_sink_fd_create(fds[1], LOG_LEVEL_INFO, &sink));
    (void)log_install(sink);
    LOG_INFO("test.big", U64("n", 7), STR("k", big));
    (void)log_install(NULL);
    EXPECT_EQ(0, close(fds[1]));
    EXPECT_TRUE(read_all(fds[0], text, sizeof(text)) <= 4096);
    EXPECT_EQ(1, count_lines(text));
    EXPECT_TRUE(strstr(text, "\"event\":\"test.big\",\"n\":7,\"cut\":true}\n") != NULL);
    EXPECT_EQ(0, close(fds[0]));
    log_sink_fd_destroy(sink);
}
