/* From the first byte to the session: negotiation, login, limits. */
#include "node/base/codec.h"
#include "tests/lib/test.h"
#include "tests/unit/pgwire/wire_client.h"

#define VERSION_3 196608u
#define USER      "user\0u\0\0"

/* Startup packet with a literal body. */
#define SAY(c, version, body) wire_say_startup((c), (version), (body), sizeof(body) - 1)

TEST(startup, login_tells_parameters_key_and_ready)
{
    struct wire_test *t = wire_test_create(NULL);
    struct wire_client *c = wire_client_connect(t);

    SAY(c, VERSION_3, "user\0u\0database\0d\0application_name\0x\0\0");
    EXPECT_STREQ("R(0) S(server_version) K() Z(I)", wire_hear(c));
    EXPECT_TRUE(c->pid != 0);
    EXPECT_EQ(1, t->sql.sessions);
    wire_client_destroy(c);
    wire_test_destroy(t);
}

TEST(startup, ssl_and_gss_requests_are_answered_no)
{
    struct wire_test *t = wire_test_create(NULL);
    struct wire_client *c = wire_client_connect(t);

    wire_say_startup(c, 80877104, "", 0);
    EXPECT_STREQ("N", wire_hear(c));
    wire_say_startup(c, 80877103, "", 0);
    EXPECT_STREQ("N", wire_hear(c));
    wire_client_login(c);
    EXPECT_EQ(1, t->sql.sessions);
    wire_client_destroy(c);
    wire_test_destroy(t);
}

TEST(startup, endless_negotiation_is_cut)
{
    struct wire_test *t = wire_test_create(NULL);
    struct wire_client *c = wire_client_connect(t);

    for (int i = 0; i < 4; i++) {
        wire_say_startup(c, 80877103, "", 0);
    }
    EXPECT_TRUE(strstr(wire_hear(c), "closed") != NULL);
    EXPECT_EQ(0, pgwire_connections(t->server));
    wire_client_destroy(c);
    wire_test_destroy(t);
}

TEST(startup, broken_packets_are_refused)
{
    const struct {
        const char *bytes;
        size_t size;
        const char *want;
    } cases[] = {
        {"\0\0\0\7", 4, "E(FATAL 08P01) closed"},                   /* Too short. */
        {"\0\0\x27\x11", 4, "E(FATAL 08P01) closed"},               /* 10,001 bytes. */
        {"GET / HTTP/1.1\r\n\r\n", 18, "E(FATAL 08P01) closed"},    /* Somebody lost. */
        {"\0\0\0\x08\0\2\0\0", 8, "E(FATAL 0A000) closed"},         /* Protocol 2. */
        {"\0\0\0\x08\0\3\0\0", 8, "E(FATAL 08P01) closed"},         /* No terminator. */
        {"\0\0\0\x09\0\3\0\0\0", 9, "E(FATAL 28000) closed"},       /* No user. */
        {"\0\0\0\x0d\0\3\0\0user\0", 13, "E(FATAL 08P01) closed"},  /* Name without value. */
        {"\0\0\0\x10\4\xd2\x16\x2e\0\0\0\0\0\0\0\0", 16, "closed"}, /* Cancels nobody. */
        {"\0\0\0\x0c\4\xd2\x16\x2e\0\0\0\0", 12, "E(FATAL 08P01) closed"},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct wire_test *t = wire_test_create(NULL);
        struct wire_client *c = wire_client_connect(t);

        wire_say(c, cases[i].bytes, cases[i].size);
        EXPECT_STREQ(cases[i].want, wire_hear(c));
        EXPECT_EQ(0, t->sql.created);
        wire_client_destroy(c);
        wire_test_destroy(t);
    }
}

TEST(startup, newer_minor_version_and_options_are_negotiated)
{
    struct wire_test *t = wire_test_create(NULL);
    struct wire_client *c = wire_client_connect(t);

    SAY(c, VERSION_3 + 2, "user\0u\0_pq_.x\0y\0\0");
    EXPECT_STREQ("v(0) R(0) S(server_version) K() Z(I)", wire_hear(c));
    wire_client_destroy(c);
    wire_test_destroy(t);
}

TEST(startup, bad_parameter_is_fatal)
{
    struct wire_test *t = wire_test_create(NULL);
    struct wire_client *c = wire_client_connect(t);

    (void)snprintf(t->sql.refuse_parameter, sizeof(t->sql.refuse_parameter), "TimeZone");
    SAY(c, VERSION_3, "user\0u\0TimeZone\0Mars\0\0");
    EXPECT_STREQ("E(FATAL 22023) closed", wire_hear(c));
    EXPECT_EQ(0, t->sql.sessions);
    wire_client_destroy(c);
    wire_test_destroy(t);
}

TEST(startup, options_are_settings)
{
    struct wire_test *t = wire_test_create(NULL);
    struct wire_client *c = wire_client_connect(t);

    (void)snprintf(t->sql.refuse_parameter, sizeof(t->sql.refuse_parameter), "work_mem");
    SAY(c, VERSION_3, "user\0u\0options\0-c a=b --work-mem=1\0\0");
    EXPECT_STREQ("E(FATAL 22023) closed", wire_hear(c));
    wire_client_destroy(c);
    c = wire_client_connect(t);
    SAY(c, VERSION_3, "user\0u\0options\0nonsense\0\0");
    EXPECT_STREQ("E(FATAL 42601) closed", wire_hear(c));
    wire_client_destroy(c);
    wire_test_destroy(t);
}

TEST(startup, silent_stranger_is_closed_in_time)
{
    struct wire_test *t = wire_test_create(NULL);
    struct wire_client *c = wire_client_connect(t);

    wire_say(c, "\0", 1);
    EXPECT_STREQ("", wire_hear(c));
    fake_world_advance(t->world, PGWIRE_LOGIN_NS - 1);
    EXPECT_STREQ("", wire_hear(c));
    fake_world_advance(t->world, 2);
    EXPECT_STREQ("closed", wire_hear(c));
    EXPECT_EQ(0, pgwire_connections(t->server));
    wire_client_destroy(c);
    wire_test_destroy(t);
}

/* The clock of the login does not hurt who has logged in. */
TEST(startup, login_time_ends_with_the_login)
{
    struct wire_test *t = wire_test_create(NULL);
    struct wire_client *c = wire_client_connect(t);

    wire_client_login(c);
    fake_world_advance(t->world, 2 * PGWIRE_LOGIN_NS);
    wire_say_query(c, "rows 1");
    EXPECT_STREQ("T(n:23,t:25) D(1,row 1) C(SELECT 1) Z(I)", wire_hear(c));
    wire_client_destroy(c);
    wire_test_destroy(t);
}

TEST(startup, flood_before_the_login_is_cut)
{
    struct wire_test *t = wire_test_create(NULL);
    struct wire_client *c = wire_client_connect(t);
    static const uint8_t flood[PGWIRE_LOGIN_BYTES_MAX + 1];

    wire_say(c, "\0\0\x27\x10", 4);
    wire_say(c, flood, sizeof(flood));
    EXPECT_TRUE(strstr(wire_hear(c), "closed") != NULL);
    EXPECT_EQ(0, t->sql.created);
    wire_client_destroy(c);
    wire_test_destroy(t);
}

TEST(startup, one_client_too_many_is_told)
{
    const struct pgwire_options o = {.connections_max = 2};
    struct wire_test *t = wire_test_create(&o);
    struct wire_client *c[3];

    for (int i = 0; i < 3; i++) {
        c[i] = wire_client_connect(t);
        SAY(c[i], VERSION_3, USER);
        EXPECT_STREQ(i < 2 ? "R(0) S(server_version) K() Z(I)" : "E(FATAL 53300) closed",
                     wire_hear(c[i]));
    }
    wire_client_close(c[0]);
    wire_client_destroy(c[2]);
    c[2] = wire_client_connect(t);
    wire_client_login(c[2]);
    EXPECT_EQ(2, t->sql.sessions);
    for (int i = 0; i < 3; i++) {
        wire_client_destroy(c[i]);
    }
    wire_test_destroy(t);
}

TEST(startup, replication_is_refused_by_name)
{
    struct wire_test *t = wire_test_create(NULL);
    struct wire_client *c = wire_client_connect(t);

    SAY(c, VERSION_3, "user\0u\0replication\0database\0\0");
    EXPECT_STREQ("E(FATAL 0A000) closed", wire_hear(c));
    wire_client_destroy(c);
    wire_test_destroy(t);
}

TEST(startup, certificates_need_tls)
{
    const struct pgwire_options o = {.auth = PGWIRE_AUTH_CERT, .sql = NULL};
    struct pgwire *p = NULL;

    EXPECT_CODE(STATUS_INVALID, pgwire_create(&o, &p));
}
