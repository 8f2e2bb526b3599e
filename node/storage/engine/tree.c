/*
 * tree.c -- a treap with reference counts.
 *
 * The priority of a node is a hash of its key, so the shape depends on the contents alone: equal
 * histories allocate equally, and a simulated run can be repeated. Deleting a range is two splits
 * and a join, whatever the size of the range; counts and sizes are kept per subtree.
 *
 * INVARIANTs: 1. keys in order from left to right; 2. no child has a higher priority than its
 * parent; 3. a node with more than one reference is never changed (own() copies it first).
 *
 * Recursion goes as deep as the tree, see ENGINE_TREE_DEPTH_MAX. Memory running out stops the
 * process: this is the simulator's disk, and a run that lost it would prove nothing.
 */
#include "node/storage/engine/tree.h"

#include <stdlib.h>

#include "node/base/hash.h"
#include "node/base/invariant.h"

struct item {
    uint32_t refs;
    uint32_t key_len;
    uint32_t value_len;
    uint8_t data[]; /* key, value */
};

struct engine_tree {
    uint32_t refs;
    uint64_t priority;
    uint64_t bytes; /* Of keys and values in this subtree. */
    struct engine_tree *left;
    struct engine_tree *right;
    struct item *item;
};

static struct bytes item_key(const struct item *i)
{
    return bytes_of(i->data, i->key_len);
}

static struct item *item_new(struct bytes key, struct bytes value)
{
    struct item *i = NULL;

    INVARIANT(key.len <= UINT32_MAX && value.len <= UINT32_MAX);
    i = malloc(sizeof(*i) + key.len + value.len);
    INVARIANT(i != NULL);
    i->refs = 1;
    i->key_len = (uint32_t)key.len;
    i->value_len = (uint32_t)value.len;
    if (key.len > 0) {
        memcpy(i->data, key.ptr, key.len);
    }
    if (value.len > 0) {
        memcpy(i->data + key.len, value.ptr, value.len);
    }
    return i;
}

static void item_release(struct item *i)
{
    if (--i->refs == 0) {
        free(i);
    }
}

struct engine_tree *engine__tree_acquire(struct engine_tree *t)
{
    if (t != NULL) {
        t->refs++;
    }
    return t;
}

void engine__tree_release(struct engine_tree *t)
{
    if (t != NULL && --t->refs == 0) {
        engine__tree_release(t->left);
        engine__tree_release(t->right);
        item_release(t->item);
        free(t);
    }
}

uint64_t engine__tree_bytes(const struct engine_tree *t)
{
    return t == NULL ? 0 : t->bytes;
}

static void update(struct engine_tree *t)
{
    t->bytes = (uint64_t)t->item->key_len + t->item->value_len + engine__tree_bytes(t->left) +
               engine__tree_bytes(t->right);
}

/* Takes a reference of `t`, returns a node that only the caller holds. */
static struct engine_tree *own(struct engine_tree *t)
{
    struct engine_tree *copy = NULL;

    if (t->refs == 1) {
        return t;
    }
    copy = malloc(sizeof(*copy));
    INVARIANT(copy != NULL);
    *copy = *t;
    copy->refs = 1;
    (void)engine__tree_acquire(copy->left);
    (void)engine__tree_acquire(copy->right);
    copy->item->refs++;
    t->refs--; /* Not the last one: refs was above 1. */
    return copy;
}

/* Takes t; *left gets the keys below `key`, *right the others. */
static void split(struct engine_tree *t, struct bytes key, struct engine_tree **left,
                  struct engine_tree **right)
{
    if (t == NULL) {
        *left = NULL;
        *right = NULL;
        return;
    }
    t = own(t);
    if (bytes_cmp(item_key(t->item), key) < 0) {
        split(t->right, key, &t->right, right);
        *left = t;
    } else {
        split(t->left, key, left, &t->left);
        *right = t;
    }
    update(t);
}

/* Takes both; all keys of `a` are below those of `b`. */
static struct engine_tree *join(struct engine_tree *a, struct engine_tree *b)
{
    if (a == NULL || b == NULL) {
        return a == NULL ? b : a;
    }
    if (a->priority >= b->priority) {
        a = own(a);
        a->right = join(a->right, b);
        update(a);
        return a;
    }
    b = own(b);
    b->left = join(a, b->left);
    update(b);
    return b;
}

/* Takes t and the item, whose key is not in t. */
static struct engine_tree *insert(struct engine_tree *t, struct item *i, uint64_t priority)
{
    struct engine_tree *n = NULL;

    if (t == NULL || priority > t->priority) {
        n = malloc(sizeof(*n));
        INVARIANT(n != NULL);
        *n = (struct engine_tree){.refs = 1, .priority = priority, .item = i};
        split(t, item_key(i), &n->left, &n->right);
        update(n);
        return n;
    }
    t = own(t);
    if (bytes_cmp(item_key(i), item_key(t->item)) < 0) {
        t->left = insert(t->left, i, priority);
    } else {
        t->right = insert(t->right, i, priority);
    }
    update(t);
    return t;
}

/* Takes t and the item, whose key is in t. */
static struct engine_tree *replace(struct engine_tree *t, struct item *i)
{
    const int c = bytes_cmp(item_key(i), item_key(t->item));

    t = own(t);
    if (c == 0) {
        item_release(t->item);
        t->item = i;
    } else if (c < 0) {
        t->left = replace(t->left, i);
    } else {
        t->right = replace(t->right, i);
    }
    update(t);
    return t;
}

struct engine_tree *engine__tree_put(struct engine_tree *t, struct bytes key, struct bytes value)
{
    struct bytes old = BYTES_EMPTY;
    const bool there = engine__tree_get(t, key, &old);
    struct item *i = item_new(key, value);

    return there ? replace(t, i) : insert(t, i, hash64(key, 0));
}

/* Takes t, which holds the key. */
static struct engine_tree *cut(struct engine_tree *t, struct bytes key)
{
    struct engine_tree *joined = NULL;
    int c = 0;

    INVARIANT(t != NULL);
    c = bytes_cmp(key, item_key(t->item));
    t = own(t);
    if (c != 0) {
        struct engine_tree **child = c < 0 ? &t->left : &t->right;

        *child = cut(*child, key);
        update(t);
        return t;
    }
    joined = join(t->left, t->right);
    t->left = NULL;
    t->right = NULL;
    engine__tree_release(t);
    return joined;
}

struct engine_tree *engine__tree_delete(struct engine_tree *t, struct bytes key)
{
    struct bytes old = BYTES_EMPTY;

    return engine__tree_get(t, key, &old) ? cut(t, key) : t;
}

struct engine_tree *engine__tree_delete_range(struct engine_tree *t, struct bytes start,
                                              struct bytes end)
{
    struct engine_tree *left = NULL;
    struct engine_tree *middle = NULL;
    struct engine_tree *right = NULL;

    split(t, start, &left, &middle);
    split(middle, end, &middle, &right);
    engine__tree_release(middle);
    return join(left, right);
}

bool engine__tree_get(const struct engine_tree *t, struct bytes key, struct bytes *value)
{
    while (t != NULL) {
        const int c = bytes_cmp(key, item_key(t->item));

        if (c == 0) {
            *value = bytes_of(t->item->data + t->item->key_len, t->item->value_len);
            return true;
        }
        t = c < 0 ? t->left : t->right;
    }
    return false;
}

/* ---- cursors --------------------------------------------------------------------------------- */

static void push(struct engine_tree_cursor *c, const struct engine_tree *t)
{
    INVARIANT(c->depth < ENGINE_TREE_DEPTH_MAX);
    c->path[c->depth++] = t;
}

/* Walks down to where `key` would be; the answer is the last node that lay on the wanted side. */
void engine__tree_seek(struct engine_tree_cursor *c, struct bytes key)
{
    const struct engine_tree *t = c->root;
    uint32_t best = 0;

    c->depth = 0;
    while (t != NULL) {
        push(c, t);
        if (bytes_cmp(item_key(t->item), key) >= 0) {
            best = c->depth;
            t = t->left;
        } else {
            t = t->right;
        }
    }
    c->depth = best;
}

void engine__tree_seek_prev(struct engine_tree_cursor *c, struct bytes key, bool or_equal)
{
    const struct engine_tree *t = c->root;
    uint32_t best = 0;

    c->depth = 0;
    while (t != NULL) {
        const int cmp = bytes_cmp(item_key(t->item), key);

        push(c, t);
        if (cmp < 0 || (cmp == 0 && or_equal)) {
            best = c->depth;
            t = t->right;
        } else {
            t = t->left;
        }
    }
    c->depth = best;
}

void engine__tree_last(struct engine_tree_cursor *c)
{
    c->depth = 0;
    for (const struct engine_tree *t = c->root; t != NULL; t = t->right) {
        push(c, t);
    }
}

void engine__tree_next(struct engine_tree_cursor *c)
{
    const struct engine_tree *t = c->path[c->depth - 1];

    if (t->right != NULL) {
        for (t = t->right; t != NULL; t = t->left) {
            push(c, t);
        }
        return;
    }
    /* Up, until we come from a left child. */
    for (c->depth--; c->depth > 0 && c->path[c->depth - 1]->right == t; c->depth--) {
        t = c->path[c->depth - 1];
    }
}

void engine__tree_prev(struct engine_tree_cursor *c)
{
    const struct engine_tree *t = c->path[c->depth - 1];

    if (t->left != NULL) {
        for (t = t->left; t != NULL; t = t->right) {
            push(c, t);
        }
        return;
    }
    for (c->depth--; c->depth > 0 && c->path[c->depth - 1]->left == t; c->depth--) {
        t = c->path[c->depth - 1];
    }
}

bool engine__tree_at(const struct engine_tree_cursor *c, struct bytes *key, struct bytes *value)
{
    if (c->depth == 0) {
        return false;
    }
    const struct item *i = c->path[c->depth - 1]->item;

    *key = item_key(i);
    *value = bytes_of(i->data + i->key_len, i->value_len);
    return true;
}
