/*
 * cert_rig.h -- throw-away certificates in a temporary directory.
 */
#pragma once

#include "cli/cert/cert.h"
#include "node/rpc/tls.h"

struct certs {
    char dir[64];
    struct arena arena;
};

/* A CA, a node's and a client's certificate ("ann"). now_unix_s: as in struct cert_options. */
void certs_init(struct certs *c);
/* Makes node.crt anew, valid from an hour before `now_unix_s` for `days`. */
void certs_renew_node(struct certs *c, uint64_t now_unix_s, uint32_t days);
void certs_deinit(struct certs *c);

const char *certs_path(struct certs *c, const char *file);
/* Both roles, mutual, expecting the name "node". `stem` is "node" or "client.ann". */
struct status certs_config(struct certs *c, const char *stem, bool server, struct tls_config **out);
