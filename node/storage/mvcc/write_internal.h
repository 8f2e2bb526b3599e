/*
 * write_internal.h -- shared by laying (write.c) and resolving (resolve.c).
 */
#pragma once

#include "node/storage/mvcc/mvcc_internal.h"

/* A version that stands at a key; its payload is in the arena. */
struct mvcc__held {
    bool exists;
    struct hts ts;
    size_t stored_len;
    struct mvcc_version v;
};

/* What a writer finds at a key. */
struct mvcc__state {
    bool own;               /* There is an INTENT of the writing transaction. */
    struct mvcc__lock lock; /* That one, copied to the arena. */
    size_t own_stored_len;
    struct mvcc__held provisional; /* Its version. */
    struct mvcc__held committed;   /* The newest other one. */
};

/* Reads locks and newest versions. Others' locks that exclude `want` go into the conflict; the
 * versions are not read then. */
NOYIELD NODISCARD struct status mvcc__look(struct mvcc_writer *w, struct bytes key,
                                           enum mvcc_strength want, const struct uuid *txn,
                                           struct mvcc__state *s, struct mvcc_conflict *conflict);
/* The versions only; s->own and s->lock are set. */
NOYIELD NODISCARD struct status mvcc__look_at_versions(struct mvcc_writer *w, struct bytes key,
                                                       struct mvcc__overlay overlay,
                                                       struct mvcc__state *s);

/* A buffer of exactly `cap` bytes of the arena. */
NOYIELD NODISCARD struct status mvcc__scratch(struct arena *arena, size_t cap, struct buf *out);
NOYIELD NODISCARD struct status mvcc__encode_version(struct arena *arena, struct bytes key,
                                                     struct hts ts, const struct mvcc_version *v,
                                                     struct bytes *out);
/* `add`, if not NULL, becomes the newest entry of the history. */
NOYIELD NODISCARD struct status mvcc__encode_lock(struct arena *arena, const struct mvcc__lock *l,
                                                  const struct mvcc__old *add, struct bytes *out);

/* Both keep count of versions, not of what is newest. The payload of `v` must not stand in the
 * batch. */
NOYIELD NODISCARD struct status mvcc__lay_version(struct mvcc_writer *w, struct bytes key,
                                                  struct hts ts, const struct mvcc_version *v,
                                                  struct mvcc__held *laid);
NOYIELD NODISCARD struct status mvcc__drop_version(struct mvcc_writer *w, struct bytes key,
                                                   const struct mvcc__held *held);

/* sign 1: has become so, -1: is no longer. */
NOYIELD void mvcc__count_newest(struct mvcc_writer *w, struct bytes key,
                                const struct mvcc__held *newest, int sign);
NOYIELD void mvcc__count_version(struct mvcc_writer *w, struct bytes key, size_t stored_len,
                                 int sign);
NOYIELD void mvcc__count_lock(struct mvcc_writer *w, struct bytes key, size_t stored_len, int sign);
NOYIELD void mvcc__count_intent(struct mvcc_writer *w, struct bytes key, size_t stored_len,
                                int sign);
