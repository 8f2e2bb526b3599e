/*
 * tree.h -- intrusive ordered set: a treap with parent pointers.
 *
 * The caller compares; nothing is allocated. Priorities come from a generator of the tree's own, so that
 * equal histories make equal trees.
 *
 * Cost:    all operations O(log n), steps to a neighbour O(1) on average.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "node/base/attributes.h"

struct tree_node {
    struct tree_node *parent;
    struct tree_node *left;
    struct tree_node *right;
    uint32_t priority; /* 0: in no tree. */
};

/* Negative when `node` stands before `key`, 0 when it is it, positive behind. */
typedef int tree_compare_fn(const struct tree_node *node, const void *key);

struct tree {
    struct tree_node *root;
    tree_compare_fn *compare;
    size_t count;
    uint64_t state; /* Of the priorities. */
};

NOYIELD void tree_init(struct tree *t, tree_compare_fn *compare);

/* `key` is the node's. False: an equal one is there, nothing changed. */
NOYIELD bool tree_insert(struct tree *t, struct tree_node *node, const void *key);
/* Does nothing when the node is in no tree. */
NOYIELD void tree_remove(struct tree *t, struct tree_node *node);

static inline bool tree_linked(const struct tree_node *node)
{
    return node->priority != 0;
}

/* NULL when there is none: the node equal to key; the first at or behind; the last at or before. */
NOYIELD struct tree_node *tree_find(const struct tree *t, const void *key);
NOYIELD struct tree_node *tree_at_or_after(const struct tree *t, const void *key);
NOYIELD struct tree_node *tree_at_or_before(const struct tree *t, const void *key);
NOYIELD struct tree_node *tree_first(const struct tree *t);
NOYIELD struct tree_node *tree_next(const struct tree_node *node);
NOYIELD struct tree_node *tree_prev(const struct tree_node *node);
