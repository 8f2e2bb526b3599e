/*
 * tls.h -- TLS behind one thin door, so that another library could stand behind it.
 *
 * A session transforms bytes: it knows no sockets. Peers of the cluster are verified by the CA and by
 * the name in their certificate ("node"), clients by the CA; IP names are not matched.
 */
#pragma once

#include <stdbool.h>

#include "node/base/bytes.h"
#include "node/base/status.h"

struct tls_config;
struct tls_session;

struct tls_config_options {
    const char *ca_file;   /* PEM. */
    const char *cert_file; /* PEM, with chain. */
    const char *key_file;  /* PEM, must not be readable by others. */
    bool server;
    bool require_peer_cert;  /* Mutual. */
    const char *expect_name; /* DNS name that the peer's certificate must carry; NULL: any. */
};

/* Errors: STATUS_IO, STATUS_INVALID with a message in the arena that names the file. */
NOYIELD NODISCARD struct status tls_config_load(const struct tls_config_options *o,
                                                struct arena *msg_arena, struct tls_config **out);
NOYIELD void tls_config_release(struct tls_config *c);

NOYIELD NODISCARD struct status tls_session_create(struct tls_config *c, struct tls_session **out);
NOYIELD void tls_session_destroy(struct tls_session *s);

/*
 * Feeds bytes of the peer and appends plain bytes to `plain` and bytes for the peer to `wire`. The
 * handshake runs inside; *established tells when plain bytes may be written.
 * Errors: STATUS_INVALID (not TLS, wrong certificate: message says which), STATUS_CLOSED.
 */
NOYIELD NODISCARD struct status tls_session_input(struct tls_session *s, struct bytes from_peer,
                                                  struct buf *plain, struct buf *wire,
                                                  bool *established);
NOYIELD NODISCARD struct status tls_session_output(struct tls_session *s, struct bytes plain,
                                                   struct buf *wire);
/* Common name of the peer's certificate, or NULL. Borrowed. */
NOYIELD const char *tls_session_peer_name(const struct tls_session *s);
