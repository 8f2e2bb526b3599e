/*
 * rpc.h -- messages between shards, on this node or another.
 *
 * A message is a frame: a fixed header (the envelope), then a body. Control bodies are protobuf-c
 * messages (node/rpc/ *.proto); bulk (log entries, rows, snapshot chunks) follows them as an opaque
 * block that is read in place. The envelope carries cluster id, protocol version and the sender's
 * HLC; the receiver checks the first two and forwards its clock BEFORE the handler runs. Proofs of
 * leases depend on that order.
 *
 * Delivery is at most once and unordered in general (ordered within one connection, which may break
 * at any time): protocols above must cope with loss, repetition and reordering. Three connections to
 * each peer node keep control traffic clear of bulk. A message to a store of the same node never
 * touches a socket.
 *
 * Runs on: the shard that owns the struct rpc. Handlers run inside a turn and must not yield; they
 *          may spawn fibers.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "node/base/arena.h"
#include "node/base/bytes.h"
#include "node/base/hts.h"
#include "node/base/ids.h"
#include "node/base/status.h"
#include "node/runtime/hlc.h"
#include "node/runtime/shard.h"

#define RPC_PROTO_VERSION     1u
#define RPC_PROTO_VERSION_MIN 1u
#define RPC_BODY_MAX          ((size_t)16 << 20)
#define RPC_QUEUE_BYTES_MAX   ((size_t)32 << 20) /* Per peer and class; then sends are refused. */
#define RPC_CALLS_MAX         65536u             /* Outstanding calls of a shard. */
#define RPC_NODES_MAX         1024u
#define RPC_PARTS_MAX         1024u /* Parts of one message. */

enum rpc_class {
    RPC_CLASS_CONTROL, /* Liveness, votes, gossip, joins. */
    RPC_CLASS_NORMAL,  /* Raft appends, key-value batches. */
    RPC_CLASS_BULK,    /* Snapshots. */
    RPC_CLASS_COUNT
};

/* Numbers are forever: never reuse one. */
enum rpc_type {
    RPC_TYPE_NONE = 0,
    RPC_TYPE_HELLO = 1,     /* First frame of a connection, both ways; internal to rpc. */
    RPC_TYPE_PING = 2,      /* Call; internal: measures round trips. */
    RPC_TYPE_RAFT = 10,     /* Batch of Raft messages between two stores. */
    RPC_TYPE_LIVENESS = 11, /* Store-liveness heartbeats and answers. */
    RPC_TYPE_SNAPSHOT = 12, /* Call: a chunk of a Raft snapshot. */
    RPC_TYPE_GOSSIP = 13,   /* Node descriptors and the first range's descriptor. */
    RPC_TYPE_CLOSED = 14,   /* Closed timestamps of idle ranges. */
    RPC_TYPE_RANGE = 15,    /* Call: one store asks another about a range. */
    RPC_TYPE_CHECKSUM = 16, /* Call: the digest of a replica. */
    RPC_TYPE_BATCH = 20,    /* Call: key-value batch for one range. */
    RPC_TYPE_ADMIN = 21,    /* Call: administration of a range or node. */
    RPC_TYPE_JOIN = 30,     /* Call: a new node asks for ids. */
    RPC_TYPE_MAX = 64
};

/* Frame header on the wire, big endian, 72 bytes:
 *   0  length of everything behind this field (u32)      4  magic 'd','q'       6  version (u8)
 *   7  flags (u8)          8  checksum XXH3-64 of bytes 16 to the end (u64), seeded with bytes 0..7
 *  16  cluster id (16)    32  from_node  36  to_node  40  from_store  44  to_store (u32 each)
 *  48  HLC wall (u64)     56  HLC logical (u32)  60  type (u16)  62  status code of a reply (u16)
 *  64  call id (u64)      72  body
 */
#define RPC_HEADER_BYTES 72u
enum rpc_flag {
    RPC_FLAG_REPLY = 1, /* Answers the call with the same call id. */
    RPC_FLAG_CALL = 2,  /* Wants an answer. */
};

/* A received message, borrowed for the call of the handler. */
struct rpc_message {
    enum rpc_type type;
    uint8_t flags;
    uint8_t version;
    node_id from_node; /* 0: a node that has no id yet (joining). */
    store_id from_store;
    node_id to_node;
    store_id to_store;
    struct hclock hlc;
    uint64_t call_id;
    struct bytes body;
    void
        *reply_path; /* Of the transport: where it came from. Answers go there first. NULL: none. */
};

/*
 * How frames leave and arrive. The TCP implementation is rpc_tcp.h; the simulator has its own.
 * `send` takes the frame in parts (gathered; the first is the header, whole), copies what it keeps,
 * and never calls back. A path is a token, not a pointer: the transport checks it, so that an answer
 * may be late. A transport without paths leaves both functions NULL.
 */
struct rpc_transport {
    void *ctx;
    /* Errors: STATUS_OVERLOADED (queue full), STATUS_UNAVAILABLE (unknown address, or the peer was
     * found dead a moment ago), STATUS_INVALID (an address that may not be dialled). */
    struct status (*send)(void *ctx, node_id to, enum rpc_class cls, const struct bytes *parts,
                          uint32_t parts_count);
    /* To a peer known only by the connection it came from, or by address (joining). */
    struct status (*send_path)(void *ctx, void *path, const struct bytes *parts,
                               uint32_t parts_count);
    /* A path to host:port for calls before the peer's id is known. Owned by the transport. */
    struct status (*open_path)(void *ctx, const char *address, void **path_out);
    /* The address of a node became known or changed ("host:port", names allowed). */
    void (*set_address)(void *ctx, node_id node, const char *address);
    /* Everything sent in this turn goes out now. Called by the rpc's end-of-turn hook. */
    void (*flush)(void *ctx);
};

struct rpc;

struct rpc_options {
    struct shard *shard;
    struct hlc *hlc;
    struct rpc_transport transport;
};

NOYIELD NODISCARD struct status rpc_create(const struct rpc_options *o, struct rpc **out);
/* Outstanding calls end with STATUS_CANCELLED. Accepts NULL. One rpc per shard: it stands in
 * SHARD_SLOT_RPC, and a new one may be made after this. */
NOYIELD void rpc_destroy(struct rpc *r);

/* Identity, once known: before that only calls by path work. */
NOYIELD void rpc_set_identity(struct rpc *r, struct uuid cluster, node_id node, store_id store);

/* Another shard of this process: messages to its store go through shard_post_remote(). */
NOYIELD NODISCARD struct status rpc_add_local_store(struct rpc *r, store_id store,
                                                    struct shard *shard);
NOYIELD NODISCARD struct status rpc_set_node_address(struct rpc *r, node_id node,
                                                     const char *address);

typedef void (*rpc_handler)(void *ctx, const struct rpc_message *m);
/* One handler per type. */
NOYIELD void rpc_set_handler(struct rpc *r, enum rpc_type type, rpc_handler fn, void *ctx);

struct rpc_to {
    node_id node;
    store_id store;
    enum rpc_class cls;
};

/* One-way. Parts are gathered into the body. Errors: STATUS_OVERLOADED, STATUS_UNAVAILABLE,
 * STATUS_INVALID (body too large). Success does not mean delivery. */
NOYIELD NODISCARD struct status rpc_send(struct rpc *r, struct rpc_to to, enum rpc_type type,
                                         const struct bytes *parts, uint32_t parts_count);

/*
 * Sends and waits for the reply, whose body is copied into the arena.
 *
 * Errors:  STATUS_TIMEOUT; STATUS_UNAVAILABLE (connection lost or refused: the call may or may not
 *          have run); STATUS_CANCELLED; STATUS_OVERLOADED; or the status code that the handler
 *          replied with, its message in the arena. Only from a fiber.
 */
MAYYIELD NODISCARD struct status rpc_call(struct rpc *r, struct rpc_to to, enum rpc_type type,
                                          const struct bytes *parts, uint32_t parts_count,
                                          uint64_t deadline_ns, struct arena *arena,
                                          struct bytes *reply_out);

/* As rpc_call(). *unsent: it failed, and nothing of it has left this node, so that it certainly did not
 * run: refused at once, or nobody listened. */
MAYYIELD NODISCARD struct status rpc_try_call(struct rpc *r, struct rpc_to to, enum rpc_type type,
                                              const struct bytes *parts, uint32_t parts_count,
                                              uint64_t deadline_ns, struct arena *arena,
                                              struct bytes *reply_out, bool *unsent);

/* The same to "host:port" before the peer's id is known. */
MAYYIELD NODISCARD struct status rpc_call_address(struct rpc *r, const char *address,
                                                  enum rpc_type type, struct bytes body,
                                                  uint64_t deadline_ns, struct arena *arena,
                                                  struct bytes *reply_out);

/* What a handler keeps to answer later (from a fiber, say). */
struct rpc_reply_to {
    node_id node;
    store_id store;
    uint64_t call_id;
    enum rpc_type type;
    void *path;
};
NOYIELD struct rpc_reply_to rpc_reply_to(const struct rpc_message *m);
/* Answers a call: status and, when OK, a body. Failure to send is dropped: the caller times out. */
NOYIELD void rpc_reply(struct rpc *r, const struct rpc_reply_to *to, struct status st,
                       const struct bytes *parts, uint32_t parts_count);

/* For transports: a whole frame arrived. Checks, forwards the clock, dispatches. A frame that fails
 * its checks is STATUS_CORRUPT / STATUS_FENCED (other cluster) / STATUS_UNSUPPORTED (version): the
 * transport closes the connection and logs once. */
NOYIELD NODISCARD struct status rpc_receive(struct rpc *r, struct bytes frame, void *path);

/* For transports: whole frames that were queued and have certainly not left. Calls among them end with
 * STATUS_UNAVAILABLE, as unsent. */
NOYIELD void rpc_undelivered(struct rpc *r, struct bytes frames);
/* For transports: everything sent to this node in vain; its calls end with STATUS_UNAVAILABLE. */
NOYIELD void rpc_peer_down(struct rpc *r, node_id node);
/* The same for calls by address; they end with `why`. */
NOYIELD void rpc_path_down(struct rpc *r, const void *path, struct status why);

/* Checks length, magic and checksum of a frame (fuzzed). `m` borrows from the frame.
 * Errors: STATUS_CORRUPT, STATUS_UNSUPPORTED. */
NOYIELD NODISCARD struct status rpc_frame_decode(struct bytes frame, struct rpc_message *m,
                                                 struct uuid *cluster_out,
                                                 enum status_code *reply_status_out);

/* Smoothed round trip to a node by the pings of the CONTROL class; 0: not measured. */
NOYIELD uint64_t rpc_rtt_ns(const struct rpc *r, node_id node);

/* What pings of the last ten seconds say of our clock. */
struct rpc_clock {
    uint32_t peers;   /* That were compared. */
    uint32_t beyond;  /* Of them, certainly more than max_offset away. */
    int64_t ahead_ns; /* We are ahead of the farthest of those; negative: behind. */
};
NOYIELD void rpc_compare_clocks(const struct rpc *r, struct rpc_clock *out);

struct rpc_stats {
    uint64_t frames_sent;
    uint64_t frames_received;
    uint64_t bytes_sent;
    uint64_t bytes_received;
    uint64_t frames_refused;
    uint64_t calls_open;
};
NOYIELD void rpc_get_stats(const struct rpc *r, struct rpc_stats *out);
