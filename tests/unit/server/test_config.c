/* The command line of `dsqld start`: what it means, and every refusal. */
#include "node/server/config.h"
#include "tests/lib/test.h"

#define ARGS_MAX 80

struct parse {
    struct arena arena;
    struct config c;
    struct status st;
};

/* Arguments separated by blanks; "''" is an empty one. */
static struct parse parse(const char *line)
{
    static char text[4096];
    char *argv[ARGS_MAX];
    char *save = NULL;
    int argc = 0;
    struct parse p;

    arena_init(&p.arena, 0);
    (void)snprintf(text, sizeof(text), "%s", line);
    for (char *t = strtok_r(text, " ", &save); t != NULL; t = strtok_r(NULL, " ", &save)) {
        argv[argc++] = arena_strdup(&p.arena, strcmp(t, "''") == 0 ? "" : t);
    }
    p.st = config_parse(argc, argv, &p.arena, &p.c);
    return p;
}

/* Refused, and the message names what is expected. */
static bool refused(const char *line, const char *part)
{
    struct parse p = parse(line);
    const bool ok = p.st.code == STATUS_INVALID && strstr(status_text(p.st), part) != NULL;

    if (!ok) {
        printf("%s: %s\n", line, status_text(p.st));
    }
    arena_deinit(&p.arena);
    return ok;
}

TEST(config, defaults_are_those_of_the_help)
{
    struct parse p = parse("--store d --insecure");

    EXPECT_OK(p.st);
    EXPECT_STREQ("d", p.c.store_path);
    EXPECT_STREQ("127.0.0.1:26257", p.c.listen_rpc);
    EXPECT_STREQ("127.0.0.1:5433", p.c.listen_sql);
    EXPECT_STREQ("127.0.0.1:8080", p.c.listen_http);
    EXPECT_TRUE(p.c.advertise_rpc == NULL);
    EXPECT_EQ(1, p.c.shards);
    EXPECT_EQ(64, p.c.cache_mib);
    EXPECT_EQ(250, p.c.max_offset_ms);
    EXPECT_EQ(0, p.c.voters);
    EXPECT_EQ(0, p.c.join_count);
    EXPECT_EQ(LOG_LEVEL_INFO, p.c.log_level);
    EXPECT_STREQ("local", locality_region(&p.c.locality));
    EXPECT_STREQ("local", locality_zone(&p.c.locality));
    arena_deinit(&p.arena);
}

TEST(config, every_flag_in_both_forms)
{
    struct parse p = parse("--store=d --listen-rpc=a:1 --advertise-rpc b:2 --listen-sql c:3 "
                           "--listen-http=e:4 --locality region=eu,zone=b --join x:1,y:2 "
                           "--join=,z:3, --shards=4 --certs-dir certs --demo --rtt file "
                           "--cache-mib 1 --max-offset-ms=5000 --voters 7 --log-level debug");

    EXPECT_OK(p.st);
    EXPECT_STREQ("a:1", p.c.listen_rpc);
    EXPECT_STREQ("b:2", p.c.advertise_rpc);
    EXPECT_STREQ("c:3", p.c.listen_sql);
    EXPECT_STREQ("e:4", p.c.listen_http);
    EXPECT_STREQ("eu", locality_region(&p.c.locality));
    EXPECT_STREQ("b", locality_zone(&p.c.locality));
    EXPECT_EQ(3, p.c.join_count);
    EXPECT_STREQ("x:1", p.c.join[0]);
    EXPECT_STREQ("z:3", p.c.join[2]);
    EXPECT_EQ(4, p.c.shards);
    EXPECT_STREQ("certs", p.c.certs_dir);
    EXPECT_TRUE(p.c.demo && !p.c.insecure);
    EXPECT_STREQ("file", p.c.rtt_file);
    EXPECT_EQ(1, p.c.cache_mib);
    EXPECT_EQ(5000, p.c.max_offset_ms);
    EXPECT_EQ(7, p.c.voters);
    EXPECT_EQ(LOG_LEVEL_DEBUG, p.c.log_level);
    arena_deinit(&p.arena);
}

TEST(config, numbers_have_limits)
{
    EXPECT_TRUE(refused("--store d --insecure --shards 0", "--shards wants a number from 1 to 64"));
    EXPECT_TRUE(refused("--store d --insecure --shards 65", "not \"65\""));
    EXPECT_TRUE(refused("--store d --insecure --shards -1", "--shards wants"));
    EXPECT_TRUE(refused("--store d --insecure --shards +1", "--shards wants"));
    EXPECT_TRUE(refused("--store d --insecure --shards 1x", "--shards wants"));
    EXPECT_TRUE(refused("--store d --insecure --shards ''", "--shards wants"));
    EXPECT_TRUE(refused("--store d --insecure --shards 18446744073709551617", "--shards wants"));
    EXPECT_TRUE(refused("--store d --insecure --cache-mib 0", "--cache-mib wants"));
    EXPECT_TRUE(refused("--store d --insecure --max-offset-ms 5001", "--max-offset-ms wants"));
    EXPECT_TRUE(refused("--store d --insecure --voters 8", "--voters wants"));
}

TEST(config, what_is_missing_or_contradicts_itself)
{
    EXPECT_TRUE(refused("--insecure", "--store is missing"));
    EXPECT_TRUE(refused("--store '' --insecure", "--store is missing"));
    EXPECT_TRUE(refused("--store d", "either --certs-dir DIR"));
    EXPECT_TRUE(refused("--store d --insecure --certs-dir c", "either --certs-dir DIR"));
    EXPECT_TRUE(refused("--store d --insecure --rtt f", "--rtt simulates a network"));
    EXPECT_TRUE(refused("--store d --insecure --shards", "--shards wants a value"));
    EXPECT_TRUE(refused("--store d --insecure --frobnicate", "unknown flag \"--frobnicate\""));
    EXPECT_TRUE(refused("--store d --insecure --shardsx 1", "unknown flag"));
    EXPECT_TRUE(refused("--store d --insecure now", "unknown flag \"now\""));
    EXPECT_TRUE(refused("--store d --insecure=no", "--insecure takes no value"));
    EXPECT_TRUE(refused("--store d --insecure --locality nonsense", "--locality \"nonsense\""));
    EXPECT_TRUE(refused("--store d --insecure --log-level loud", "debug, info, warn or error"));
}

/* An empty list would start a second cluster. */
TEST(config, join_wants_somebody)
{
    char line[2048] = "--store d --insecure --join a:1";
    size_t n = strlen(line);

    EXPECT_TRUE(refused("--store d --insecure --join ''", "--join wants addresses"));
    EXPECT_TRUE(refused("--store d --insecure --join=,,", "--join wants addresses"));
    EXPECT_TRUE(refused("--store d --insecure --join", "--join wants a value"));
    for (uint32_t i = 1; i < NODE_JOIN_MAX; i++) {
        n += (size_t)snprintf(line + n, sizeof(line) - n, ",a:%u", i);
    }
    {
        struct parse p = parse(line);

        EXPECT_OK(p.st);
        EXPECT_EQ(NODE_JOIN_MAX, p.c.join_count);
        arena_deinit(&p.arena);
    }
    (void)snprintf(line + n, sizeof(line) - n, ",one:1");
    EXPECT_TRUE(refused(line, "too many addresses behind --join"));
}

TEST(config, the_help_names_every_flag)
{
    static const char *const names[] = {
        "--store",       "--listen-rpc",    "--advertise-rpc", "--listen-sql",
        "--listen-http", "--locality",      "--join",          "--shards",
        "--certs-dir",   "--insecure",      "--demo",          "--rtt",
        "--cache-mib",   "--max-offset-ms", "--voters",        "--log-level"};

    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        EXPECT_TRUE(strstr(config_help(), names[i]) != NULL);
    }
}

/* ---- addresses ----------------------------------------------------------------------------------- */

static bool address_is(const char *text, const char *host, uint16_t port)
{
    struct env_address at;
    struct arena arena;
    struct status st = OK;

    arena_init(&arena, 0);
    st = config_address(text, &arena, &at);
    arena_deinit(&arena);
    return status_ok(st) && strcmp(at.host, host) == 0 && at.port == port;
}

TEST(config, addresses)
{
    struct arena arena;
    struct env_address at;
    char big[400];

    EXPECT_TRUE(address_is("10.1.2.3:80", "10.1.2.3", 80));
    EXPECT_TRUE(address_is(":80", "127.0.0.1", 80));
    EXPECT_TRUE(address_is("localhost:0", "127.0.0.1", 0));
    EXPECT_TRUE(address_is("[::1]:65535", "::1", 65535));
    EXPECT_TRUE(address_is("[]:1", "127.0.0.1", 1));
    arena_init(&arena, 0);
    EXPECT_CODE(STATUS_INVALID, config_address("80", &arena, &at));
    EXPECT_CODE(STATUS_INVALID, config_address("a:", &arena, &at));
    EXPECT_CODE(STATUS_INVALID, config_address("a:65536", &arena, &at));
    EXPECT_CODE(STATUS_INVALID, config_address("a:8o", &arena, &at));
    EXPECT_CODE(STATUS_INVALID, config_address("a:-1", &arena, &at));
    EXPECT_CODE(STATUS_INVALID, config_address("a:+1", &arena, &at));
    EXPECT_CODE(STATUS_INVALID, config_address("", &arena, &at));
    memset(big, 'a', sizeof(big));
    memcpy(big + sizeof(big) - 3, ":1", 3);
    EXPECT_CODE(STATUS_INVALID, config_address(big, &arena, &at));
    arena_deinit(&arena);
}
