/*
 * tree.h -- a persistent ordered map of byte strings: old versions stay as long as somebody holds
 * their root.
 *
 * A version is one pointer. Updates copy the path to what they change and share the rest; nodes
 * that nobody else holds are changed in place. So a snapshot, an iterator, the durable image of a
 * disk and every write that is not synced yet each cost one reference.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/base/bytes.h"

struct engine_tree; /* A version's root; NULL is the empty map. */

/* All that return a tree take over the reference passed in and return an owned one. */
NOYIELD struct engine_tree *engine__tree_put(struct engine_tree *t, struct bytes key,
                                             struct bytes value);
NOYIELD struct engine_tree *engine__tree_delete(struct engine_tree *t, struct bytes key);
NOYIELD struct engine_tree *engine__tree_delete_range(struct engine_tree *t, struct bytes start,
                                                      struct bytes end);
NOYIELD struct engine_tree *engine__tree_acquire(struct engine_tree *t);
NOYIELD void engine__tree_release(struct engine_tree *t);

/* Borrowed from the version. */
NOYIELD bool engine__tree_get(const struct engine_tree *t, struct bytes key, struct bytes *value);
NOYIELD uint64_t engine__tree_bytes(const struct engine_tree *t);

/*
 * The depth of a treap of n keys with random priorities exceeds 4.3 ln n + t with a probability
 * that falls exponentially in t: for a billion keys the mean is about 90, and 256 is out of reach.
 */
#define ENGINE_TREE_DEPTH_MAX 256

/* A position: the path from the root. The version must be held while it is used. */
struct engine_tree_cursor {
    const struct engine_tree *root;
    const struct engine_tree *path[ENGINE_TREE_DEPTH_MAX];
    uint32_t depth; /* 0: no position. */
};

NOYIELD void engine__tree_seek(struct engine_tree_cursor *c, struct bytes key); /* >= key */
NOYIELD void engine__tree_seek_prev(struct engine_tree_cursor *c, struct bytes key,
                                    bool or_equal); /* <= or < key */
NOYIELD void engine__tree_last(struct engine_tree_cursor *c);
NOYIELD void engine__tree_next(struct engine_tree_cursor *c);
NOYIELD void engine__tree_prev(struct engine_tree_cursor *c);
NOYIELD bool engine__tree_at(const struct engine_tree_cursor *c, struct bytes *key,
                             struct bytes *value);
