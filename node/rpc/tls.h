/*
 * tls.h -- TLS behind one thin door, so that another library could stand behind it.
 *
 * A session transforms bytes: it knows no sockets. Peers of the cluster are verified by the CA and by
 * the name in their certificate ("node"), clients by the CA; IP names are not matched.
 *
 * Runs on: one shard per config. A config holds a random generator and ticket keys, and its sessions
 *          use both: load one per shard.
 */
#pragma once

#include <stdbool.h>

#include "node/base/bytes.h"
#include "node/base/status.h"

struct tls_config;
struct tls_session;
struct tls_ticket;

struct tls_config_options {
    const char *ca_file;     /* PEM. NULL: peers show no certificate (servers only). */
    const char *cert_file;   /* PEM, with chain. NULL: we show none (clients only). */
    const char *key_file;    /* PEM, must not be readable by others. */
    bool server;             /* Role of tls_session_create(). */
    bool require_peer_cert;  /* Mutual. A client always requires one. */
    const char *expect_name; /* DNS name that the peer's certificate must carry; NULL: any. */
};

/* Reads files: for start-up and rotation. Sessions keep the config they were made of.
 * Errors: STATUS_IO, STATUS_INVALID with a message in the arena that names the file. */
NOYIELD NODISCARD struct status tls_config_load(const struct tls_config_options *o,
                                                struct arena *msg_arena, struct tls_config **out);
/* Accepts NULL. Sessions may live on. */
NOYIELD void tls_config_release(struct tls_config *c);

NOYIELD NODISCARD struct status tls_session_create(struct tls_config *c, struct tls_session **out);
/* The same in a given role: nodes both dial and listen with one certificate. */
NOYIELD NODISCARD struct status tls_session_create_as(struct tls_config *c, bool server,
                                                      struct tls_session **out);
/* Accepts NULL. */
NOYIELD void tls_session_destroy(struct tls_session *s);

/*
 * Feeds bytes of the peer and appends plain bytes to `plain` and bytes for the peer to `wire`. The
 * handshake runs inside; *established tells when plain bytes may be written. A client starts with an
 * empty input. What is in `wire` should be sent even after an error: it tells the peer why.
 *
 * A full handshake costs some 7 ms of CPU on each side, on this shard; a resumed one 0.1 ms.
 *
 * Errors: STATUS_INVALID (not TLS, wrong certificate: message says which), STATUS_CLOSED (the peer
 *         said good-bye; `plain` may hold its last bytes), STATUS_MEMORY. Messages live in the
 *         session. After an error the session stays failed.
 */
NOYIELD NODISCARD struct status tls_session_input(struct tls_session *s, struct bytes from_peer,
                                                  struct buf *plain, struct buf *wire,
                                                  bool *established);
/* Errors: STATUS_CLOSED (not established, or over), STATUS_MEMORY. */
NOYIELD NODISCARD struct status tls_session_output(struct tls_session *s, struct bytes plain,
                                                   struct buf *wire);
/* Common name of the peer's certificate, or NULL. Borrowed. */
NOYIELD const char *tls_session_peer_name(const struct tls_session *s);

/* What lets the next session with the same server skip most of the handshake. From an established
 * client session; NULL when there is none. Owned by the caller. */
NOYIELD struct tls_ticket *tls_session_take_ticket(struct tls_session *s);
/* Before the first input of a client session. A server that forgot it costs a full handshake. */
NOYIELD void tls_session_resume(struct tls_session *s, const struct tls_ticket *t);
/* Accepts NULL. */
NOYIELD void tls_ticket_destroy(struct tls_ticket *t);
