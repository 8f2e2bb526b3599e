/*
 * tree.c -- a binary search tree by key that is a heap by random priority, hence balanced on average.
 *
 * Insertion hangs the node below a leaf and rotates it up past smaller priorities; removal rotates it down
 * until it has one child at most. Neither recurses.
 */
#include "node/base/tree.h"

#include "node/base/invariant.h"

void tree_init(struct tree *t, tree_compare_fn *compare)
{
    *t = (struct tree){.compare = compare, .state = 0x9E3779B97F4A7C15u};
}

static uint32_t draw(struct tree *t)
{
    t->state ^= t->state << 13;
    t->state ^= t->state >> 7;
    t->state ^= t->state << 17;
    return (uint32_t)(t->state >> 32) | 1u;
}

/* Puts `child` (may be NULL) where `node` hangs. */
static void replace(struct tree *t, struct tree_node *node, struct tree_node *child)
{
    struct tree_node *parent = node->parent;

    if (parent == NULL) {
        t->root = child;
    } else if (parent->left == node) {
        parent->left = child;
    } else {
        parent->right = child;
    }
    if (child != NULL) {
        child->parent = parent;
    }
}

/* A child takes the place of its parent, which becomes its other child. */
static void rotate_up(struct tree *t, struct tree_node *child)
{
    struct tree_node *parent = child->parent;
    struct tree_node *moved = NULL;

    replace(t, parent, child);
    if (parent->left == child) {
        moved = child->right;
        parent->left = moved;
        child->right = parent;
    } else {
        moved = child->left;
        parent->right = moved;
        child->left = parent;
    }
    if (moved != NULL) {
        moved->parent = parent;
    }
    parent->parent = child;
}

bool tree_insert(struct tree *t, struct tree_node *node, const void *key)
{
    struct tree_node *parent = NULL;
    struct tree_node **at = &t->root;

    INVARIANT(!tree_linked(node));
    while (*at != NULL) {
        const int c = t->compare(*at, key);

        if (c == 0) {
            return false;
        }
        parent = *at;
        at = c < 0 ? &parent->right : &parent->left;
    }
    *node = (struct tree_node){.parent = parent, .priority = draw(t)};
    *at = node;
    t->count++;
    while (node->parent != NULL && node->parent->priority < node->priority) {
        rotate_up(t, node);
    }
    return true;
}

void tree_remove(struct tree *t, struct tree_node *node)
{
    if (!tree_linked(node)) {
        return;
    }
    while (node->left != NULL && node->right != NULL) {
        rotate_up(t, node->left->priority < node->right->priority ? node->right : node->left);
    }
    replace(t, node, node->left != NULL ? node->left : node->right);
    *node = (struct tree_node){.priority = 0};
    t->count--;
}

struct tree_node *tree_at_or_after(const struct tree *t, const void *key)
{
    struct tree_node *best = NULL;
    struct tree_node *at = t->root;

    while (at != NULL) {
        if (t->compare(at, key) < 0) {
            at = at->right;
        } else {
            best = at;
            at = at->left;
        }
    }
    return best;
}

struct tree_node *tree_at_or_before(const struct tree *t, const void *key)
{
    struct tree_node *best = NULL;
    struct tree_node *at = t->root;

    while (at != NULL) {
        if (t->compare(at, key) > 0) {
            at = at->left;
        } else {
            best = at;
            at = at->right;
        }
    }
    return best;
}

struct tree_node *tree_find(const struct tree *t, const void *key)
{
    struct tree_node *at = tree_at_or_after(t, key);

    return at != NULL && t->compare(at, key) == 0 ? at : NULL;
}

struct tree_node *tree_first(const struct tree *t)
{
    struct tree_node *at = t->root;

    while (at != NULL && at->left != NULL) {
        at = at->left;
    }
    return at;
}

struct tree_node *tree_next(const struct tree_node *node)
{
    struct tree_node *at = node->right;

    if (at != NULL) {
        while (at->left != NULL) {
            at = at->left;
        }
        return at;
    }
    for (at = node->parent; at != NULL && at->right == node; at = at->parent) {
        node = at;
    }
    return at;
}

struct tree_node *tree_prev(const struct tree_node *node)
{
    struct tree_node *at = node->left;

    if (at != NULL) {
        while (at->right != NULL) {
            at = at->right;
        }
        return at;
    }
    for (at = node->parent; at != NULL && at->left == node; at = at->parent) {
        node = at;
    }
    return at;
}
