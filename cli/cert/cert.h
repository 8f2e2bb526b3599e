/*
 * cert.h -- certificates of a cluster: one CA, one certificate per node, one per client user.
 *
 * Files in one directory: ca.crt ca.key node.crt node.key client.NAME.crt client.NAME.key, PEM, keys
 * with mode 0600. ca.key signs the others and belongs on no node. All keys are P-256.
 *
 * A node's certificate carries the DNS name "node" besides its own names: peers check that one,
 * whatever address they dialled. A client's carries the user's name as its common name and may not be
 * used as a server's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/arena.h"
#include "node/base/status.h"

#define CERT_NODE_NAME       "node"
#define CERT_DAYS_CA_DEFAULT 3650u
#define CERT_DAYS_DEFAULT    730u
#define CERT_DAYS_MAX        36500u
#define CERT_NAMES_MAX       64u
#define CERT_USER_NAME_MAX   63u

struct cert_options {
    const char *dir;
    bool overwrite;          /* False: files that exist are an error. */
    uint32_t days;           /* Of validity; 0: the default. */
    uint64_t now_unix_s;     /* 0: the system's clock. Validity starts an hour earlier. */
    struct arena *msg_arena; /* Of error messages. */
};

/* Errors of all three: STATUS_EXISTS (files are there and overwrite is off), STATUS_INVALID (names,
 * days, or a CA that does not fit its key), STATUS_IO. On an error no file is half written, but a key
 * without its certificate may be left. */
NOYIELD NODISCARD struct status cert_create_ca(const struct cert_options *o);
/* names: DNS names and IP addresses of the node, may be none. Needs ca.crt and ca.key. */
NOYIELD NODISCARD struct status cert_create_node(const struct cert_options *o,
                                                 const char *const *names, uint32_t count);
/* user: letters, digits and "_.@-", at most CERT_USER_NAME_MAX. */
NOYIELD NODISCARD struct status cert_create_client(const struct cert_options *o, const char *user);
