/*
 * cert_rig.c -- see cert_rig.h.
 */
#include "tests/unit/rpc/cert_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "node/base/invariant.h"

static const char *const files[] = {"ca.crt",   "ca.key",         "node.crt",
                                    "node.key", "client.ann.crt", "client.ann.key"};

void certs_init(struct certs *c)
{
    struct cert_options o = {.dir = c->dir, .msg_arena = &c->arena};

    (void)snprintf(c->dir, sizeof(c->dir), "/tmp/dsql-certs-XXXXXX");
    INVARIANT(mkdtemp(c->dir) != NULL);
    arena_init(&c->arena, 0);
    INVARIANT(status_ok(cert_create_ca(&o)));
    INVARIANT(status_ok(cert_create_node(&o, NULL, 0)));
    INVARIANT(status_ok(cert_create_client(&o, "ann")));
}

void certs_renew_node(struct certs *c, uint64_t now_unix_s, uint32_t days)
{
    const struct cert_options o = {.dir = c->dir,
                                   .msg_arena = &c->arena,
                                   .overwrite = true,
                                   .now_unix_s = now_unix_s,
                                   .days = days};

    INVARIANT(status_ok(cert_create_node(&o, NULL, 0)));
}

void certs_deinit(struct certs *c)
{
    for (size_t i = 0; i < ARRAY_COUNT(files); i++) {
        (void)unlink(certs_path(c, files[i]));
    }
    (void)rmdir(c->dir);
    arena_deinit(&c->arena);
}

const char *certs_path(struct certs *c, const char *file)
{
    return arena_printf(&c->arena, "%s/%s", c->dir, file);
}

struct status certs_config(struct certs *c, const char *stem, bool server, struct tls_config **out)
{
    const struct tls_config_options o = {
        .ca_file = certs_path(c, "ca.crt"),
        .cert_file = arena_printf(&c->arena, "%s/%s.crt", c->dir, stem),
        .key_file = arena_printf(&c->arena, "%s/%s.key", c->dir, stem),
        .server = server,
        .require_peer_cert = true,
        .expect_name = CERT_NODE_NAME,
    };

    return tls_config_load(&o, &c->arena, out);
}
