/*
 * ddl.c -- see ddl.h.
 *
 * Without an overlay several tables of one DROP are dropped one after the other, each in its own
 * transaction. All names
 * are looked up first, so that a name that does not exist stops the statement before anything is
 * gone; what another node drops in between is reported all the same.
 */
#include "node/sql/ddl/ddl.h"

#include "node/catalog/catalog.h"

static struct status no_such_table(const struct ddl_context *c, const char *name, bool if_exists)
{
    if (if_exists) {
        c->notice(c->ctx, "00000",
                  arena_printf(c->arena, "table \"%s\" does not exist, skipping", name));
        return OK;
    }
    return sql_error_set(c->err, c->arena, "42P01", -1, "table \"%s\" does not exist", name);
}

static MAYYIELD struct status create_table(const struct ddl_context *c,
                                           const struct statement *stmt)
{
    const char *name = stmt->ddl_create->name;
    const struct status st = c->overlay == NULL
                                 ? catalog_create_table(c->catalog, stmt->ddl_create)
                                 : catalog_create_table_in(c->overlay, c->txn, stmt->ddl_create);

    if (st.code != STATUS_EXISTS) {
        return st;
    }
    if (stmt->ddl_if_exists) {
        c->notice(c->ctx, "42P07",
                  arena_printf(c->arena, "relation \"%s\" already exists, skipping", name));
        return OK;
    }
    return sql_error_set(c->err, c->arena, "42P07", -1, "relation \"%s\" already exists", name);
}

/* OK: exists. STATUS_NOT_FOUND: does not. */
static MAYYIELD struct status exists(const struct ddl_context *c, const char *name)
{
    struct table_desc *d = NULL;

    TRY(catalog_acquire(c->catalog, name, &d));
    catalog_release(c->catalog, d);
    return OK;
}

static MAYYIELD struct status drop_tables(const struct ddl_context *c, const struct statement *stmt)
{
    for (uint16_t i = 0; i < stmt->ddl_drop_count && !stmt->ddl_if_exists; i++) {
        const struct status st = exists(c, stmt->ddl_drop[i]);

        if (st.code == STATUS_NOT_FOUND) {
            return no_such_table(c, stmt->ddl_drop[i], false);
        }
        TRY(st);
    }
    for (uint16_t i = 0; i < stmt->ddl_drop_count; i++) {
        const char *name = stmt->ddl_drop[i];
        struct status st = c->overlay == NULL ? catalog_drop_table(c->catalog, name)
                                              : catalog_drop_table_in(c->overlay, c->txn, name);

        if (st.code == STATUS_NOT_FOUND) {
            st = no_such_table(c, name, stmt->ddl_if_exists);
        }
        TRY(st);
    }
    return OK;
}

struct status ddl_run(const struct ddl_context *c, const struct statement *stmt)
{
    switch (stmt->ddl) {
    case STATEMENT_DDL_CREATE_TABLE:
        return create_table(c, stmt);
    case STATEMENT_DDL_DROP_TABLE:
        return drop_tables(c, stmt);
    case STATEMENT_DDL_NONE:
        break;
    }
    return FAIL(STATUS_INVALID, "statement is no DDL");
}
