/*
 * pgwire_internal.h -- a connection, as its parts see it: conn.c moves bytes, startup.c lets clients
 * in, protocol.c speaks with them, sink.c writes rows, pgwire.c is the server around all of them.
 */
#pragma once

#include "node/base/arena.h"
#include "node/base/list.h"
#include "node/base/map.h"
#include "node/pgwire/pgwire.h"
#include "node/pgwire/wire_out.h"
#include "node/runtime/fiber.h"
#include "node/runtime/shard.h"
#include "node/sql/session/session.h"

#define WIRE_ARENA_MAX      ((size_t)160 << 20)
#define WIRE_IN_PAUSE       ((size_t)256 << 10) /* Arrived and not looked at: reading stops. */
#define WIRE_OUT_FLUSH      ((size_t)64 << 10)  /* Rows leave from here on, unless held. */
#define WIRE_OUT_RETRY      ((size_t)512 << 10) /* Rows of a statement that could be run again. */
#define WIRE_QUEUE_MAX      ((size_t)1 << 20)   /* Unsent bytes above which the fiber waits. */
#define WIRE_POOL_MAX       64u                 /* Idle sets of buffers that are kept. */
#define WIRE_POOL_BYTES_MAX ((size_t)256 << 10) /* Larger buffers are not kept. */

/* What a connection needs only while it has something to do. */
struct wire_work {
    struct list link;   /* pgwire.pool */
    struct buf in;      /* Arrived, not looked at. Only conn.c touches it. */
    struct buf cur;     /* What the fiber reads messages from. */
    size_t cur_pos;     /* Up to here they are done. */
    struct buf cipher;  /* TLS: on its way out. */
    struct buf columns; /* struct wire_column: of the rows that are or may come. */
    struct arena arena; /* Of one message. */
    struct wire_out out;
};

struct wire_sink {
    struct row_sink base;
    uint16_t columns_count; /* In wire_work.columns. */
    uint64_t sent;          /* Bytes that ever left out.buf: marks count from the first. */
    uint64_t foreign; /* Where in that count the last bytes end that are not the session's own. */
    bool marked;      /* The session might want to rewind: rows stay for a while. */
    bool held;        /* Nothing leaves. */
};

struct conn {
    struct pgwire *p;
    struct env_stream *stream; /* NULL after on_closed. */
    struct list link;          /* pgwire.conns */
    struct wait_queue waiters; /* The connection's fiber, waiting for bytes or for room. */
    struct tls_session *tls;
    bool tls_established;
    struct wire_work *work; /* NULL while idle. */
    struct session *session;
    struct wire_sink sink;
    struct bytes text; /* Of the statement being run, for error positions. */
    uint32_t pid;
    uint32_t key;
    uint64_t received_bytes;
    struct shard_timer login_timer;
    bool logged_in;
    bool running; /* Inside a call of the session. */
    bool paused;
    bool closed;  /* The stream is gone, or about to be. */
    bool closing; /* env_stream_close() was called. */
    bool skip_to_sync;
    bool fiber_done;
};

struct pgwire {
    struct pgwire_options o;
    struct env *env;
    struct env_listener *listener;
    uint16_t port;
    struct list conns;
    uint32_t conns_count;
    uint32_t logged_in_count;
    struct map by_pid;
    uint32_t next_pid;
    struct list pool;
    uint32_t pool_count;
    struct shard_timer stop_timer;
    uint64_t stop_at_ns;
    bool stopping;
};

/* ---- conn.c ---- */

/* Starts reading and the fiber. On failure the stream is closed and nothing is left. */
NOYIELD void conn__open(struct pgwire *p, struct env_stream *stream);
/* Frees when fiber and stream have both ended. */
NOYIELD void conn__unref(struct conn *c);
/* Closes the stream and makes every wait of the fiber end. */
NOYIELD void conn__abort(struct conn *c);
/* The work set, taken from the pool when there is none. NULL: no memory. */
NOYIELD struct wire_work *conn__work(struct conn *c);
NOYIELD void conn__free_work(struct wire_work *w);
/* Gives the work set back if nothing is in it. */
NOYIELD void conn__rest(struct conn *c);

/* Waiting where the client has nothing to expect from us. */
struct conn_idle {
    bool between;         /* Nor has it left anything open: a stopping server may close here. */
    uint64_t deadline_ns; /* Monotonic. */
};

/* Bytes that the fiber may look at: cur from cur_pos. Waits until there are at least n. idle may be NULL.
 * Errors: STATUS_CLOSED; STATUS_CANCELLED between transactions on a stopping server; STATUS_TIMEOUT. */
MAYYIELD NODISCARD struct status conn__wait_bytes(struct conn *c, size_t n,
                                                  const struct conn_idle *idle, struct bytes *out);
NOYIELD void conn__consume(struct conn *c, size_t n);
/* Are all bytes that arrived so far consumed? */
NOYIELD bool conn__all_consumed(const struct conn *c);
/* Hands what is in out to the system. Errors: STATUS_CLOSED, STATUS_MEMORY. */
NOYIELD NODISCARD struct status conn__send(struct conn *c);
/* The same before the connection ends anyway: nobody is left to tell when it fails. */
NOYIELD void conn__send_last(struct conn *c);
/* Also waits while the client is slow. Errors: also STATUS_CANCELLED (session_cancel). */
MAYYIELD NODISCARD struct status conn__flush(struct conn *c);
/* From now on the stream speaks TLS, unread bytes included. */
NOYIELD NODISCARD struct status conn__start_tls(struct conn *c);

/* ---- startup.c ---- */

/* Up to the first ReadyForQuery; false: it is over, the client has been told what there is to tell. */
MAYYIELD bool startup__run(struct conn *c);

/* ---- protocol.c ---- */

MAYYIELD void protocol__run(struct conn *c);
/* Tells a FATAL error and sends it; the caller ends the connection. */
NOYIELD void protocol__fatal(struct conn *c, const char *sqlstate, const char *message);

/* ---- sink.c ---- */

NOYIELD void sink__init(struct conn *c);
/* Rows of these columns follow. Copied: a Sync may run the portal again.
 * Errors: STATUS_MEMORY. */
NOYIELD NODISCARD struct status sink__columns(struct conn *c, const struct row_desc *rows,
                                              const int16_t *formats, uint16_t formats_count);
/* Something that is not the session's own answer was put into out: an older mark cannot be rewound. */
NOYIELD void sink__foreign(struct conn *c);

/* ---- pgwire.c ---- */

/* Errors: STATUS_OVERLOADED. */
NOYIELD NODISCARD struct status pgwire__login(struct pgwire *p, struct conn *c);
NOYIELD void pgwire__logout(struct pgwire *p, struct conn *c);
NOYIELD void pgwire__cancel(struct pgwire *p, uint32_t pid, uint32_t key);
