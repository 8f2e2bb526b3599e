/*
 * test_cert.c -- the files that `dsqlctl cert` makes.
 */
#include <mbedtls/oid.h>
#include <mbedtls/x509_crt.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cert/cert.h"
#include "node/base/invariant.h"
#include "tests/lib/test.h"

#define NOW_S 1700000000u /* 2023-11-14 22:13:20 UTC */

struct rig {
    char dir[64];
    struct arena arena;
    struct cert_options o;
};

static const char *const made[] = {"ca.crt",   "ca.key",           "node.crt",
                                   "node.key", "client.a-b.c.crt", "client.a-b.c.key"};

static const char *path(struct rig *r, const char *file)
{
    return arena_printf(&r->arena, "%s/%s", r->dir, file);
}

static void rig_init(struct rig *r)
{
    (void)snprintf(r->dir, sizeof(r->dir), "/tmp/dsql-cert-XXXXXX");
    INVARIANT(mkdtemp(r->dir) != NULL);
    arena_init(&r->arena, 0);
    r->o = (struct cert_options){.dir = r->dir, .now_unix_s = NOW_S, .msg_arena = &r->arena};
}

/* Nothing else may be left behind: rmdir() would fail. */
static void rig_deinit(struct rig *r)
{
    for (size_t i = 0; i < ARRAY_COUNT(made); i++) {
        (void)unlink(path(r, made[i]));
    }
    EXPECT_EQ(0, rmdir(r->dir));
    arena_deinit(&r->arena);
}

static bool load(struct rig *r, const char *file, mbedtls_x509_crt *out)
{
    mbedtls_x509_crt_init(out);
    return mbedtls_x509_crt_parse_file(out, path(r, file)) == 0;
}

static unsigned mode_of(struct rig *r, const char *file)
{
    struct stat info = {0};

    INVARIANT(stat(path(r, file), &info) == 0);
    return info.st_mode & 0777;
}

TEST(cert, chain_verifies_and_keys_are_private)
{
    const char *const names[] = {"db1.example.org", "10.0.0.7", "fd00::1"};
    mbedtls_x509_crt ca;
    mbedtls_x509_crt crt;
    uint32_t flags = 0;
    struct rig r;
    char text[2048];

    rig_init(&r);
    r.o.now_unix_s = 0; /* Now, because the library verifies against the real clock. */
    EXPECT_OK(cert_create_ca(&r.o));
    EXPECT_OK(cert_create_node(&r.o, names, ARRAY_COUNT(names)));
    EXPECT_OK(cert_create_client(&r.o, "a-b.c"));
    EXPECT_EQ(0600, mode_of(&r, "ca.key"));
    EXPECT_EQ(0600, mode_of(&r, "node.key"));
    EXPECT_EQ(0600, mode_of(&r, "client.a-b.c.key"));
    EXPECT_EQ(0644, mode_of(&r, "node.crt") | 0044); /* The umask may take some. */

    EXPECT_TRUE(load(&r, "ca.crt", &ca));
    EXPECT_EQ(1, ca.ca_istrue);
    EXPECT_TRUE(load(&r, "node.crt", &crt));
    EXPECT_EQ(0, mbedtls_x509_crt_verify(&crt, &ca, NULL, CERT_NODE_NAME, &flags, NULL, NULL));
    EXPECT_EQ(0, mbedtls_x509_crt_verify(&crt, &ca, NULL, "db1.example.org", &flags, NULL, NULL));
    EXPECT_TRUE(mbedtls_x509_crt_verify(&crt, &ca, NULL, "db2.org", &flags, NULL, NULL) != 0);
    EXPECT_EQ(0, mbedtls_x509_crt_check_extended_key_usage(
                     &crt, MBEDTLS_OID_SERVER_AUTH, MBEDTLS_OID_SIZE(MBEDTLS_OID_SERVER_AUTH)));
    EXPECT_EQ(0, crt.ca_istrue);
    EXPECT_TRUE(mbedtls_x509_crt_info(text, sizeof(text), "", &crt) > 0);
    EXPECT_TRUE(strstr(text, "db1.example.org") != NULL);
    mbedtls_x509_crt_free(&crt);

    EXPECT_TRUE(load(&r, "client.a-b.c.crt", &crt));
    EXPECT_EQ(0, mbedtls_x509_crt_verify(&crt, &ca, NULL, NULL, &flags, NULL, NULL));
    EXPECT_EQ(0, mbedtls_x509_crt_check_extended_key_usage(
                     &crt, MBEDTLS_OID_CLIENT_AUTH, MBEDTLS_OID_SIZE(MBEDTLS_OID_CLIENT_AUTH)));
    EXPECT_TRUE(mbedtls_x509_crt_check_extended_key_usage(
                    &crt, MBEDTLS_OID_SERVER_AUTH, MBEDTLS_OID_SIZE(MBEDTLS_OID_SERVER_AUTH)) != 0);
    EXPECT_TRUE(mbedtls_x509_dn_gets(text, sizeof(text), &crt.subject) > 0);
    EXPECT_STREQ("CN=a-b.c, O=dsql", text);
    mbedtls_x509_crt_free(&crt);
    mbedtls_x509_crt_free(&ca);
    rig_deinit(&r);
}

TEST(cert, validity_starts_an_hour_early_and_ends_as_asked)
{
    mbedtls_x509_crt crt;
    struct rig r;

    rig_init(&r);
    r.o.days = 10;
    EXPECT_OK(cert_create_ca(&r.o));
    EXPECT_TRUE(load(&r, "ca.crt", &crt));
    EXPECT_EQ(2023, crt.valid_from.year);
    EXPECT_EQ(14, crt.valid_from.day);
    EXPECT_EQ(21, crt.valid_from.hour);
    EXPECT_EQ(24, crt.valid_to.day);
    EXPECT_EQ(22, crt.valid_to.hour);
    mbedtls_x509_crt_free(&crt);
    r.o.days = CERT_DAYS_MAX + 1;
    r.o.overwrite = true;
    EXPECT_CODE(STATUS_INVALID, cert_create_ca(&r.o));
    rig_deinit(&r);
}

/* A new CA over an old one would lock every node out. */
TEST(cert, files_are_not_overwritten_unless_asked)
{
    struct status st = OK;
    struct rig r;

    rig_init(&r);
    EXPECT_OK(cert_create_ca(&r.o));
    st = cert_create_ca(&r.o);
    EXPECT_CODE(STATUS_EXISTS, st);
    EXPECT_TRUE(strstr(st.msg, "ca.crt\" exists already") != NULL);
    EXPECT_EQ(0, unlink(path(&r, "ca.crt")));
    EXPECT_CODE(STATUS_EXISTS, cert_create_ca(&r.o)); /* The key alone counts too. */
    r.o.overwrite = true;
    EXPECT_OK(cert_create_ca(&r.o));
    EXPECT_EQ(0600, mode_of(&r, "ca.key"));
    rig_deinit(&r);
}

TEST(cert, needs_a_ca_that_fits)
{
    struct status st = OK;
    struct rig r;

    rig_init(&r);
    st = cert_create_node(&r.o, NULL, 0);
    EXPECT_CODE(STATUS_INVALID, st);
    EXPECT_TRUE(strstr(st.msg, "create the CA first") != NULL);
    EXPECT_OK(cert_create_ca(&r.o));
    EXPECT_EQ(0, rename(path(&r, "ca.crt"), path(&r, "node.crt")));
    r.o.overwrite = true;
    EXPECT_OK(cert_create_ca(&r.o));
    EXPECT_EQ(0, rename(path(&r, "node.crt"), path(&r, "ca.crt")));
    st = cert_create_client(&r.o, "a-b.c");
    EXPECT_CODE(STATUS_INVALID, st);
    EXPECT_TRUE(strstr(st.msg, "does not fit its key") != NULL);
    r.o.dir = "/nonexistent/dir";
    EXPECT_CODE(STATUS_IO, cert_create_ca(&r.o));
    rig_deinit(&r);
}

TEST(cert, hostile_names_are_refused)
{
    static const char *const users[] = {"", "a/b", "../x", "a,CN=root", "a b", ".hidden", "a\nb"};
    static const char *const hosts[] = {"", "a b", "a,b", "h/x"};
    char long_name[CERT_USER_NAME_MAX + 2];
    struct rig r;

    rig_init(&r);
    EXPECT_OK(cert_create_ca(&r.o));
    for (size_t i = 0; i < ARRAY_COUNT(users); i++) {
        EXPECT_CODE(STATUS_INVALID, cert_create_client(&r.o, users[i]));
    }
    memset(long_name, 'x', sizeof(long_name));
    long_name[sizeof(long_name) - 1] = '\0';
    EXPECT_CODE(STATUS_INVALID, cert_create_client(&r.o, long_name));
    for (size_t i = 0; i < ARRAY_COUNT(hosts); i++) {
        EXPECT_CODE(STATUS_INVALID, cert_create_node(&r.o, &hosts[i], 1));
    }
    rig_deinit(&r);
}
