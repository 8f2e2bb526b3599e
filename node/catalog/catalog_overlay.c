/*
 * catalog_overlay.c -- DDL in a transaction that has not been committed.
 *
 * The rows of the change are ordinary writes of the user's transaction: they commit or vanish with
 * it, and two transactions that create the same name conflict like any others. What remains to do is
 * to let the session see its own changes before, and nobody else. An overlay is the list of them,
 * newest first; looking up a name asks it before the cache.
 *
 * Whose lookup it is we know from the fiber: a session runs on one fiber at a time, and between
 * catalog_overlay_enter() and _leave() that fiber is the session's. So the layers in between
 * (analysis, plans) need not know of overlays at all.
 *
 * A table that was created here is private until the commit: no lease, no limit for the commit
 * timestamp. Its descriptor is dropped when the transaction ends; afterwards the table is found in
 * the store like any other, and statements that were compiled with the private descriptor find it
 * invalid. For a dropped table the work that follows a commit (waiting for leases, deleting rows) is
 * kept until then.
 */
#include <stdio.h>
#include <stdlib.h>

#include "node/base/invariant.h"
#include "node/base/log.h"
#include "node/catalog/catalog_internal.h"
#include "node/catalog/desc_codec.h"
#include "node/runtime/fiber.h"
#include "node/txn/txn.h"

struct change {
    struct list link;
    struct catalog_entry *entry; /* Created; NULL: dropped. */
    struct catalog_drop drop;
    char name[CATALOG_NAME_MAX + 1];
};

struct catalog_overlay {
    struct catalog *c;
    struct fiber *fiber; /* That sees it; NULL: nobody now. */
    struct list link;    /* catalog.overlays, while there are changes. */
    struct list changes; /* Newest first. */
    uint32_t count;
};

struct status catalog_overlay_create(struct catalog *c, struct catalog_overlay **out)
{
    struct catalog_overlay *o = calloc(1, sizeof(*o));

    if (o == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for changes of the schema");
    }
    o->c = c;
    list_init(&o->link);
    list_init(&o->changes);
    *out = o;
    return OK;
}

void catalog_overlay_destroy(struct catalog_overlay *o)
{
    if (o != NULL) {
        catalog_overlay_discard(o);
        free(o);
    }
}

void catalog_overlay_enter(struct catalog_overlay *o)
{
    o->fiber = fiber_current();
}

void catalog_overlay_leave(struct catalog_overlay *o)
{
    o->fiber = NULL;
}

bool catalog_overlay_empty(const struct catalog_overlay *o)
{
    return o == NULL || o->count == 0;
}

uint32_t catalog_overlay_mark(const struct catalog_overlay *o)
{
    return o == NULL ? 0 : o->count;
}

/* The descriptor goes, for lookups at once, for who still holds it at release. */
static void change_free(struct catalog_overlay *o, struct change *x)
{
    list_remove(&x->link);
    o->count--;
    if (x->entry != NULL) {
        x->entry->current = false;
        x->entry->overlay = NULL;
        o->c->generation++;
        catalog__entry_unref(x->entry);
    }
    free(x);
    if (o->count == 0) {
        list_remove(&o->link);
    }
}

void catalog_overlay_rollback_to(struct catalog_overlay *o, uint32_t mark)
{
    while (o != NULL && o->count > mark) {
        change_free(o, LIST_ENTRY(o->changes.next, struct change, link));
    }
}

void catalog_overlay_discard(struct catalog_overlay *o)
{
    catalog_overlay_rollback_to(o, 0);
}

enum overlay_answer catalog__overlay_find(const struct catalog *c, const char *name,
                                          struct catalog_entry **out)
{
    const struct fiber *fiber = NULL;

    if (list_empty(&c->overlays)) {
        return OVERLAY_SILENT;
    }
    fiber = fiber_current();
    LIST_FOREACH(it, &c->overlays) {
        const struct catalog_overlay *o = LIST_ENTRY(it, struct catalog_overlay, link);

        if (o->fiber == NULL || o->fiber != fiber) {
            continue;
        }
        LIST_FOREACH(at, &o->changes) {
            const struct change *x = LIST_ENTRY(at, struct change, link);

            if (strcmp(x->name, name) == 0) {
                *out = x->entry;
                return x->entry != NULL ? OVERLAY_CREATED : OVERLAY_DROPPED;
            }
        }
    }
    return OVERLAY_SILENT;
}

bool catalog__overlay_owns(const struct catalog_entry *e)
{
    struct catalog_entry *now = NULL;

    return e->overlay->fiber != NULL && e->overlay->fiber == fiber_current() &&
           catalog__overlay_find(e->overlay->c, e->d.name, &now) == OVERLAY_CREATED && now == e;
}

static struct status add_change(struct catalog_overlay *o, const char *name, struct change **out)
{
    struct change *x = NULL;

    if (o->count >= CATALOG_OVERLAY_MAX) {
        return FAIL(STATUS_OVERLOADED, "too many changes of the schema in one transaction");
    }
    x = calloc(1, sizeof(*x));
    if (x == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a change of the schema");
    }
    (void)snprintf(x->name, sizeof(x->name), "%s", name);
    if (o->count == 0) {
        list_push_back(&o->c->overlays, &o->link);
    }
    list_push_front(&o->changes, &x->link);
    o->count++;
    *out = x;
    return OK;
}

/* A private copy of the descriptor, with one reference. */
static struct status make_entry(struct catalog_overlay *o, const struct table_desc *d,
                                struct catalog_entry **out)
{
    struct catalog_entry *e = calloc(1, sizeof(*e));
    struct buf body = {0};
    struct status st = OK;

    if (e == NULL) {
        return FAIL(STATUS_MEMORY, "no memory for a table descriptor");
    }
    arena_init(&e->arena, 0);
    buf_init(&body, DESC_BYTES_MAX);
    TRY_OUT(desc_encode(d, &body));
    TRY_OUT(desc_decode(buf_bytes(&body), &e->arena, &e->d));
    e->d.valid_until = HTS_MAX;
    e->d.refs = 1;
    e->current = true;
    e->overlay = o;
    list_init(&e->link);
    *out = e;
out:
    buf_deinit(&body);
    if (!status_ok(st)) {
        arena_deinit(&e->arena);
        free(e);
    }
    return st;
}

struct status catalog_create_table_in(struct catalog_overlay *o, struct txn *t,
                                      const struct table_desc *desc)
{
    struct table_desc d = *desc;
    struct catalog_entry *e = NULL;
    struct change *x = NULL;
    struct status st = OK;
    struct arena arena;

    TRY(desc_check(desc));
    TRY(catalog__take_id(o->c, &d.id));
    d.version = 1;
    arena_init(&arena, CATALOG_ARENA_MAX);
    TRY_OUT(catalog__create_writes(t, &d, &arena));
    TRY_OUT(make_entry(o, &d, &e));
    st = add_change(o, d.name, &x);
    if (status_ok(st)) {
        x->entry = e;
        o->c->generation++;
    } else {
        e->current = false;
        catalog__entry_unref(e);
    }
out:
    if (st.msg != NULL) {
        st.msg = status_code_text(st.code); /* The text may live in our arena. */
    }
    arena_deinit(&arena);
    return st;
}

struct status catalog_drop_table_in(struct catalog_overlay *o, struct txn *t, const char *name)
{
    struct catalog_drop drop = {0};
    struct change *x = NULL;
    struct status st = OK;
    struct arena arena;

    if (strnlen(name, CATALOG_NAME_MAX + 1) > CATALOG_NAME_MAX) {
        return FAIL(STATUS_NOT_FOUND, "no table of that name");
    }
    arena_init(&arena, CATALOG_ARENA_MAX);
    st = catalog__drop_writes(o->c, t, name, &arena, &drop);
    if (st.msg != NULL) {
        st.msg = status_code_text(st.code); /* The text may live in our arena. */
    }
    arena_deinit(&arena);
    TRY(st);
    TRY(add_change(o, name, &x));
    x->drop = drop;
    o->c->generation++;
    return OK;
}

/* Logs, forgets and counts what was committed; *others: somebody may have a lease on a dropped one. */
static void publish(struct catalog_overlay *o, bool *others)
{
    LIST_FOREACH(it, &o->changes) {
        struct change *x = LIST_ENTRY(it, struct change, link);

        catalog__forget(o->c, x->name);
        if (x->entry != NULL) {
            LOG_INFO("catalog.table_created", U64("table", x->entry->d.id));
        } else {
            LOG_INFO("catalog.table_dropped", U64("table", x->drop.id));
            *others = *others || x->drop.others;
        }
    }
}

void catalog_overlay_committed(struct catalog_overlay *o, struct hts ts)
{
    bool others = false;

    if (catalog_overlay_empty(o)) {
        return;
    }
    publish(o, &others);
    list_remove(&o->link); /* From here on this session looks into the store like everybody. */
    if (others) {
        catalog__wait_for_leases(o->c, ts);
    }
    LIST_FOREACH(it, &o->changes) {
        const struct change *x = LIST_ENTRY(it, struct change, link);

        if (x->entry == NULL) {
            catalog__delete_rows(o->c, x->drop.id);
        }
    }
    catalog_overlay_discard(o);
}
