/*
 * key.h -- SQL values, rows and system records as keys whose memcmp order is the order we need.
 *
 * A key is built front to back by an encoder into the caller's memory (no allocation: point reads
 * encode on the stack) or into a `struct buf`. Errors of the encoder are sticky and are asked once,
 * by key_enc_finish(). Every column encoding is self-delimiting and knows its own direction, so
 * that keys can be walked without a descriptor (key_dec_skip()).
 *
 * Rule PF: no storable key is a strict prefix of another. Each row key ends in one family byte, and
 * what embeds arbitrary bytes does so escaped and terminated. A bound is a prefix of possible keys,
 * or key_after(K); `K | 0x00` is wrong here, because the versions of K sort behind it.
 *
 * Threads: pure functions, any thread.
 * Source:  protocol reference 1.2-1.5; PostgreSQL 15's comparison functions.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "node/base/arena.h"
#include "node/base/bytes.h"
#include "node/base/codec.h"
#include "node/base/hts.h"
#include "node/base/ids.h"
#include "node/base/status.h"

/* First bytes of the `state` family. */
#define KEY_PREFIX_RANGE_ID 0x01 /* Replicated, by range id: applied state, GC threshold, ... */
#define KEY_PREFIX_LOCAL    0x02 /* Range-local, addressed by an anchor key: moves at splits. */
#define KEY_PREFIX_LOCK     0x03 /* Lock table. */
#define KEY_PREFIX_META1    0x04
#define KEY_PREFIX_META2    0x05
#define KEY_PREFIX_SYSTEM   0x06
#define KEY_PREFIX_SQL_MIN  0x88
#define KEY_PREFIX_END      0xFF

/* All addressable keys are in [KEY_MIN, KEY_MAX); the first range starts and the last one ends
 * there. */
#define KEY_MIN BYTES_LIT("\x04")
#define KEY_MAX BYTES_LIT("\xff")

#define KEY_VERSION_SIZE 12 /* be64(~wall) be32(~logical) behind a user key. */
#define KEY_AFTER_SIZE   13 /* 0xFF bytes of key_after(). */
#define KEY_LOCK_SUFFIX  17 /* strength(1) txn uuid(16) behind 0x03 and a user key. */
#define KEY_FAMILY_MAX   109
#define KEY_STACK_SIZE   512 /* A stack buffer of this size holds nearly all keys. */

/* ---- encoder --------------------------------------------------------------------------------- */

struct key_enc {
    uint8_t *ptr; /* The key so far is ptr[0..len). */
    size_t len;
    size_t cap;
    struct buf *buf; /* NULL: caller's memory of `cap` bytes. Otherwise grows. */
    size_t base;     /* Where the key starts in `buf`. */
    bool full;       /* Sticky: something did not fit. */
};

/* Encodes into the caller's memory. */
static inline void key_enc_init(struct key_enc *e, void *mem, size_t cap)
{
    *e = (struct key_enc){.ptr = (uint8_t *)mem, .cap = cap};
}

/* Appends to `b`, which nobody else may touch until key_enc_finish(). */
NOYIELD void key_enc_init_buf(struct key_enc *e, struct buf *b);

/* The finished key, borrowed from the memory or the buffer. Errors: STATUS_MEMORY (did not fit). */
NOYIELD NODISCARD struct status key_enc_finish(struct key_enc *e, struct bytes *out);

NOYIELD void key_enc_raw(struct key_enc *e, struct bytes b);
NOYIELD void key_enc_byte(struct key_enc *e, uint8_t b);
NOYIELD void key_enc_uvar(struct key_enc *e, uint64_t v);        /* Ordered, 1 byte up to 109. */
NOYIELD void key_enc_escaped(struct key_enc *e, struct bytes b); /* esc(b) term */
NOYIELD void key_enc_version(struct key_enc *e, struct hts ts);  /* The MVCC suffix. */

/* ---- columns --------------------------------------------------------------------------------- */

/* PostgreSQL's defaults are KEY_ASC (NULLs last) and KEY_DESC (NULLs first). */
enum key_order {
    KEY_ASC = 0,
    KEY_DESC = 1,
    KEY_ASC_NULLS_FIRST = 2,
    KEY_DESC_NULLS_LAST = 3,
};

/* A number as PostgreSQL holds it: sum of digits[i] * 10000^(weight - i). Leading and trailing zero
 * digits are allowed; the display scale is no part of the order. */
enum key_numeric_class {
    KEY_NUMERIC_FINITE,
    KEY_NUMERIC_NEG_INF,
    KEY_NUMERIC_POS_INF,
    KEY_NUMERIC_NAN,
};

struct key_numeric {
    enum key_numeric_class class;
    bool negative; /* FINITE only. */
    int32_t weight;
    uint32_t count;
    const uint16_t *digits; /* Each 0..9999; borrowed. */
};

NOYIELD void key_enc_null(struct key_enc *e, enum key_order o);
NOYIELD void key_enc_bool(struct key_enc *e, enum key_order o, bool v);
/* int2/4/8, oid, date, time, timestamp(tz): infinities are INT64_MIN and INT64_MAX. */
NOYIELD void key_enc_int(struct key_enc *e, enum key_order o, int64_t v);
/* float4 is widened by the caller. -0 encodes as 0; all NaNs are one, above infinity. */
NOYIELD void key_enc_float(struct key_enc *e, enum key_order o, double v);
NOYIELD void key_enc_numeric(struct key_enc *e, enum key_order o, const struct key_numeric *v);
/* C collation. For char(n) the caller strips trailing blanks with key_strip_blanks(). */
NOYIELD void key_enc_text(struct key_enc *e, enum key_order o, struct bytes v);
NOYIELD void key_enc_bytea(struct key_enc *e, enum key_order o, struct bytes v);
/* Deterministic collation: ties of the sort key are broken by the text. */
NOYIELD void key_enc_collated(struct key_enc *e, enum key_order o, struct bytes sort_key,
                              struct bytes text);
/* Nondeterministic collation: only the sort key counts; the text is stored in the row's value. */
NOYIELD void key_enc_sort_key(struct key_enc *e, enum key_order o, struct bytes sort_key);
NOYIELD void key_enc_uuid(struct key_enc *e, enum key_order o, struct uuid v);
/* family 4 or 6; addr holds 4 or 16 bytes; prefix_len in bits. */
NOYIELD void key_enc_inet(struct key_enc *e, enum key_order o, int family, const uint8_t *addr,
                          uint8_t prefix_len);
/* Orders as PostgreSQL: a month is 30 days, a day 24 hours. Not reversible (1 mon = 30 days). */
NOYIELD void key_enc_interval(struct key_enc *e, enum key_order o, int32_t months, int32_t days,
                              int64_t us);
/* us: local time of day; zone_s: seconds west of UTC, as PostgreSQL stores it. */
NOYIELD void key_enc_timetz(struct key_enc *e, enum key_order o, int64_t us, int32_t zone_s);
NOYIELD void key_enc_enum(struct key_enc *e, enum key_order o, struct bytes order_string);

/* Arrays: begin, then per element _elem() and the element's own KEY_ASC encoding, or _null(), then
 * end with the mark that begin returned. Nest freely. */
NOYIELD size_t key_enc_array_begin(struct key_enc *e);
NOYIELD void key_enc_array_elem(struct key_enc *e);
NOYIELD void key_enc_array_null(struct key_enc *e);
NOYIELD void key_enc_array_end(struct key_enc *e, enum key_order o, size_t mark);

NOYIELD struct bytes key_strip_blanks(struct bytes text);

/* What the next column holds, from its tag alone; the direction too. */
enum key_kind {
    KEY_KIND_BAD, /* Not a column tag, or nothing left. */
    KEY_KIND_NULL,
    KEY_KIND_BOOL,
    KEY_KIND_INT,
    KEY_KIND_FLOAT,
    KEY_KIND_NUMERIC,
    KEY_KIND_TEXT,
    KEY_KIND_BYTEA,
    KEY_KIND_COLLATED,
    KEY_KIND_SORT_KEY,
    KEY_KIND_UUID,
    KEY_KIND_INET,
    KEY_KIND_INTERVAL,
    KEY_KIND_TIMETZ,
    KEY_KIND_ENUM,
    KEY_KIND_ARRAY,
};

NOYIELD enum key_kind key_dec_peek(const struct reader *r);
/* Consumes a NULL if there is one. */
NOYIELD bool key_dec_null(struct reader *r);
/* Each sets r->bad when the next column is of another kind or damaged. The order's NULL placement
 * does not matter; its direction must be the one encoded. */
NOYIELD bool key_dec_bool(struct reader *r, enum key_order o);
NOYIELD int64_t key_dec_int(struct reader *r, enum key_order o);
NOYIELD double key_dec_float(struct reader *r, enum key_order o);
/* Text, bytea, enum order string, or the text of a collated column, unescaped into the arena
 * (r->bad at its limit). For KEY_KIND_SORT_KEY: the sort key. */
NOYIELD struct bytes key_dec_bytes(struct reader *r, enum key_order o, struct arena *arena);
/* Digits into the arena; no leading or trailing zero digits. */
NOYIELD struct key_numeric key_dec_numeric(struct reader *r, enum key_order o, struct arena *arena);
NOYIELD struct uuid key_dec_uuid(struct reader *r, enum key_order o);
NOYIELD void key_dec_inet(struct reader *r, enum key_order o, int *family, uint8_t addr[16],
                          uint8_t *prefix_len);
NOYIELD void key_dec_timetz(struct reader *r, enum key_order o, int64_t *us, int32_t *zone_s);
/* The 128-bit sum of microseconds, high and low half. */
NOYIELD void key_dec_interval(struct reader *r, enum key_order o, int64_t *hi, uint64_t *lo);
/* Skips one column of any kind and direction; nesting up to KEY_NESTING_MAX. False: r->bad. */
#define KEY_NESTING_MAX 32
NOYIELD bool key_dec_skip(struct reader *r);

NOYIELD uint64_t key_dec_uvar(struct reader *r);
NOYIELD struct bytes key_dec_escaped(struct reader *r, struct arena *arena);

/* ---- rows ------------------------------------------------------------------------------------ */

/* Key of a row: key_enc_index(), the columns, key_enc_family(). Secondary indexes use family 0. */
NOYIELD void key_enc_index(struct key_enc *e, uint64_t table_id, uint64_t index_id);
NOYIELD void key_enc_family(struct key_enc *e, uint32_t family); /* 0..KEY_FAMILY_MAX */
/* Consumes both ids. */
NOYIELD bool key_dec_index(struct reader *r, uint64_t *table_id, uint64_t *index_id);
/* The row's prefix (a legal range boundary) and its family. Errors: STATUS_INVALID, not a
 * row key. */
NOYIELD NODISCARD struct status key_row_split(struct bytes key, struct bytes *row_prefix,
                                              uint32_t *family);

/* ---- versions and bounds --------------------------------------------------------------------- */

static inline void key_version_put(uint8_t p[KEY_VERSION_SIZE], struct hts ts)
{
    be64_put(p, ~ts.wall);
    be32_put(p + 8, ~ts.logical);
}

static inline struct hts key_version_get(const uint8_t p[KEY_VERSION_SIZE])
{
    return (struct hts){~be64_get(p), ~be32_get(p + 8)};
}

/* Splits a physical key; false when it is too short to carry a version. */
static inline bool key_split_version(struct bytes phys, struct bytes *key, struct hts *ts)
{
    if (phys.len <= KEY_VERSION_SIZE) {
        return false;
    }
    *key = bytes_of(phys.ptr, phys.len - KEY_VERSION_SIZE);
    *ts = key_version_get(phys.ptr + key->len);
    return true;
}

/* The smallest bound above K and all its versions. */
NOYIELD void key_enc_after(struct key_enc *e, struct bytes key);
NOYIELD NODISCARD struct status key_after(struct arena *arena, struct bytes key, struct bytes *out);
/* The smallest key above everything that starts with `prefix`: empty when there is none. */
NOYIELD void key_enc_prefix_end(struct key_enc *e, struct bytes prefix);
NOYIELD NODISCARD struct status key_prefix_end(struct arena *arena, struct bytes prefix,
                                               struct bytes *out);

/* Do stored keys with this first byte carry versions? (0x02 depends on its tag.) */
NOYIELD bool key_is_versioned(struct bytes key);

/* What the filters of the engine's `state` family are built on: a versioned key without its
 * version, a lock key without strength and transaction, anything else whole. */
NOYIELD struct bytes key_filter_prefix(struct bytes phys);

/* ---- records of ranges, locks, the store ----------------------------------------------------- */

/* 0x01 be64(range) tag */
enum key_range_tag {
    KEY_RANGE_ABORT_SPAN = 'x', /* + uuid */
    KEY_RANGE_APPLIED = 'a',
    KEY_RANGE_GC_THRESHOLD = 'g',
    KEY_RANGE_READ_SUMMARY = 's',
    KEY_RANGE_VERSION = 'v',
};
#define KEY_RANGE_ID_SIZE 10
NOYIELD struct bytes key_range_record(uint8_t out[KEY_RANGE_ID_SIZE], range_id r,
                                      enum key_range_tag tag);
NOYIELD void key_enc_abort_span(struct key_enc *e, range_id r, struct uuid txn);

/* 0x02 esc(anchor) term tag */
enum key_local_tag {
    KEY_LOCAL_DESCRIPTOR = 'd', /* Versioned. */
    KEY_LOCAL_PROBE = 'p',
    KEY_LOCAL_TXN = 't', /* + uuid */
};
NOYIELD void key_enc_local(struct key_enc *e, struct bytes anchor, enum key_local_tag tag);
NOYIELD void key_enc_txn_record(struct key_enc *e, struct bytes anchor, struct uuid txn);

/* 0x03 user_key strength uuid. Strengths are enum mvcc_strength (1..3). */
NOYIELD void key_enc_lock(struct key_enc *e, struct bytes user_key, uint8_t strength,
                          struct uuid txn);
NOYIELD bool key_split_lock(struct bytes lock_key, struct bytes *user_key, uint8_t *strength,
                            struct uuid *txn);

/* 0x04 or 0x05, esc(end_key) term */
NOYIELD void key_enc_meta(struct key_enc *e, int level, struct bytes end_key);
/* The end key inside. */
NOYIELD bool key_dec_meta(struct bytes key, struct arena *arena, struct bytes *end_key);

/* 0x06 tag, then what the owner of the tag appends (uvar, escaped), self-delimiting. */
enum key_system_tag {
    KEY_SYSTEM_SETTING = 's',     /* escaped name */
    KEY_SYSTEM_ID = 'i',          /* escaped name of the generator */
    KEY_SYSTEM_NODE = 'n',        /* uvar node id */
    KEY_SYSTEM_STORE = 'r',       /* uvar store id */
    KEY_SYSTEM_PROTECTED = 'p',   /* uuid */
    KEY_SYSTEM_SPAN_CONFIG = 'c', /* escaped start key */
    KEY_SYSTEM_JOB = 'j',         /* uvar job id */
    KEY_SYSTEM_DESCRIPTOR = 'd',  /* uvar descriptor id */
    KEY_SYSTEM_NAME = 'a',        /* uvar parent, uvar schema, escaped name */
    KEY_SYSTEM_POLICY = 'l',      /* escaped name, uvar version */
    KEY_SYSTEM_LEASE = 'e',       /* uvar descriptor id, uvar version, uvar node */
};
NOYIELD void key_enc_system(struct key_enc *e, enum key_system_tag tag);

/* CF raft: R be64(range) tag, and for log entries be64(index). */
enum key_raft_tag {
    KEY_RAFT_HARD_STATE = 'h',
    KEY_RAFT_IDENT = 'i',
    KEY_RAFT_LOG = 'l', /* + be64(index) */
    KEY_RAFT_SNAP_PENDING = 'n',
    KEY_RAFT_SPOOL = 's', /* + be64(seq): chunks of a snapshot that comes in. */
    KEY_RAFT_TRUNCATED = 't',
    KEY_RAFT_TOMBSTONE = 'z',
};
#define KEY_RAFT_SIZE     10
#define KEY_RAFT_LOG_SIZE 18
NOYIELD struct bytes key_raft(uint8_t out[KEY_RAFT_SIZE], range_id r, enum key_raft_tag tag);
NOYIELD struct bytes key_raft_log(uint8_t out[KEY_RAFT_LOG_SIZE], range_id r, uint64_t index);
NOYIELD struct bytes key_raft_spool(uint8_t out[KEY_RAFT_LOG_SIZE], range_id r, uint64_t seq);
/* Range, tag and, for log and spool keys, index (otherwise 0). False: not such a key. */
NOYIELD bool key_raft_split(struct bytes key, range_id *r, enum key_raft_tag *tag, uint64_t *index);

/* CF raft: S tag */
enum key_store_tag {
    KEY_STORE_CLUSTER_VERSION = 'v',
    KEY_STORE_HLC_BOUND = 'h',
    KEY_STORE_IDENT = 'i',
    KEY_STORE_LIVENESS = 'l',
    KEY_STORE_NODE_TOMBSTONE = 'z', /* + be32(node) */
    KEY_STORE_RECOVERY_PLAN = 'r',
    KEY_STORE_SETTINGS = 's',
    KEY_STORE_SUPPORT = 'u', /* + be32(store) */
};
NOYIELD void key_enc_store(struct key_enc *e, enum key_store_tag tag);

/* ---- ranges ---------------------------------------------------------------------------------- */

struct key_span {
    struct bytes start; /* Inclusive. */
    struct bytes end;   /* Exclusive. */
};

/* All physical spans of CF state that a range [start, end) owns, in key order: by range id, local,
 * locks on local keys, locks, data. They cover exactly what a Raft snapshot carries. */
#define KEY_RANGE_SPANS 5
NOYIELD NODISCARD struct status key_range_spans(struct arena *arena, range_id r, struct bytes start,
                                                struct bytes end,
                                                struct key_span out[KEY_RANGE_SPANS]);

/* Where a key is routed: the anchor of a local key, the user key of a lock key, else the key
 * itself. Errors: STATUS_INVALID (0x01 keys and empty ones have no address), STATUS_CORRUPT,
 * STATUS_MEMORY. */
NOYIELD NODISCARD struct status key_address(struct arena *arena, struct bytes key,
                                            struct bytes *out);

/* Text for people and logs: "/51/1/42/'abc'/f0". Damaged keys are shown as hex. */
NOYIELD const char *key_text(struct arena *arena, struct bytes key);
