/*
 * list.h -- intrusive doubly linked list with a sentinel head.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "node/base/attributes.h"

struct list {
    struct list *prev;
    struct list *next;
};

static inline void list_init(struct list *l)
{
    l->prev = l;
    l->next = l;
}

static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

static inline void list_insert_before(struct list *at, struct list *item)
{
    item->prev = at->prev;
    item->next = at;
    at->prev->next = item;
    at->prev = item;
}

static inline void list_push_back(struct list *head, struct list *item)
{
    list_insert_before(head, item);
}

static inline void list_push_front(struct list *head, struct list *item)
{
    list_insert_before(head->next, item);
}

/* Leaves the item initialised, so that removing twice is harmless. */
static inline void list_remove(struct list *item)
{
    item->prev->next = item->next;
    item->next->prev = item->prev;
    list_init(item);
}

/* First item or NULL; removes it. */
static inline struct list *list_pop_front(struct list *head)
{
    struct list *item = head->next;

    if (item == head) {
        return NULL;
    }
    /* The analyser forgets that what was freed had left its list. */
    list_remove(item); /* NOLINT(clang-analyzer-unix.Malloc) */
    return item;
}

/* The body may remove the current item. */
#define LIST_FOREACH(it, head)                                                \
    for (struct list *it = (head)->next, *it##_next = it->next; it != (head); \
         it = it##_next, it##_next = it->next)

#define LIST_ENTRY(ptr, type, field) CONTAINER_OF(ptr, type, field)
