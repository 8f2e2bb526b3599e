/*
 * import_table.c -- CREATE TABLE, DROP TABLE, TRUNCATE.
 *
 * Constraints stay as they were written, contradictions included: whether NULL NOT NULL is an error
 * is the business of ddl, which knows the words for it. Only DEFERRABLE and its kin, which the
 * grammar gives as constraints of their own, are folded into the one before them.
 */
#include <string.h>

#include "node/sql/parse/import_internal.h"

static const struct {
    ConstrType from;
    enum ast_constraint_kind to;
} constraint_kinds[] = {
    {CONSTR_NULL, AST_CONSTRAINT_NULL},           {CONSTR_NOTNULL, AST_CONSTRAINT_NOT_NULL},
    {CONSTR_DEFAULT, AST_CONSTRAINT_DEFAULT},     {CONSTR_IDENTITY, AST_CONSTRAINT_IDENTITY},
    {CONSTR_GENERATED, AST_CONSTRAINT_GENERATED}, {CONSTR_CHECK, AST_CONSTRAINT_CHECK},
    {CONSTR_PRIMARY, AST_CONSTRAINT_PRIMARY_KEY}, {CONSTR_UNIQUE, AST_CONSTRAINT_UNIQUE},
    {CONSTR_FOREIGN, AST_CONSTRAINT_FOREIGN_KEY},
};

static enum ast_constraint_kind constraint_kind(struct import *im, const Constraint *c)
{
    for (size_t i = 0; i < ARRAY_COUNT(constraint_kinds); i++) {
        if (constraint_kinds[i].from == c->contype) {
            return constraint_kinds[i].to;
        }
    }
    import__unsupported(im, "EXCLUDE", c->location);
}

static struct ast_constraint import_constraint(struct import *im, const Constraint *c)
{
    struct ast_constraint out = {.kind = constraint_kind(im, c), .location = c->location};

    if (c->indexname != NULL) {
        import__unsupported(im, "USING INDEX", c->location);
    }
    out.name = import__str(im, c->conname);
    out.expr = import__expr(im, c->raw_expr);
    out.columns = import__idents(im, c->contype == CONSTR_FOREIGN ? c->fk_attrs : c->keys, -1);
    out.including = import__idents(im, c->including, -1);
    if (c->contype == CONSTR_FOREIGN) {
        out.ref_table = import__range_var(im, c->pktable);
        out.ref_columns = import__idents(im, c->pk_attrs, -1);
        out.on_delete = c->fk_del_action;
        out.on_update = c->fk_upd_action;
    }
    out.always = c->generated_when == 'a';
    out.nulls_not_distinct = c->nulls_not_distinct;
    out.deferrable = c->deferrable;
    out.initially_deferred = c->initdeferred;
    out.not_valid = c->skip_validation;
    out.no_inherit = c->is_no_inherit;
    return out;
}

/* True when c only says more about the constraint before it. */
static bool fold_attribute(struct import *im, const Constraint *c, struct ast_constraints *out)
{
    struct ast_constraint *last = out->count > 0 ? &out->items[out->count - 1] : NULL;

    switch ((int)c->contype) {
    case CONSTR_ATTR_DEFERRABLE:
    case CONSTR_ATTR_NOT_DEFERRABLE:
    case CONSTR_ATTR_DEFERRED:
    case CONSTR_ATTR_IMMEDIATE:
        break;
    default:
        return false;
    }
    if (last == NULL) {
        import__error(im, "42601", c->location, "misplaced %s clause",
                      c->contype == CONSTR_ATTR_DEFERRABLE       ? "DEFERRABLE"
                      : c->contype == CONSTR_ATTR_NOT_DEFERRABLE ? "NOT DEFERRABLE"
                      : c->contype == CONSTR_ATTR_DEFERRED       ? "INITIALLY DEFERRED"
                                                                 : "INITIALLY IMMEDIATE");
    }
    if (c->contype == CONSTR_ATTR_DEFERRABLE || c->contype == CONSTR_ATTR_DEFERRED) {
        last->deferrable = true;
    }
    if (c->contype == CONSTR_ATTR_DEFERRED) {
        last->initially_deferred = true;
    }
    return true;
}

static struct ast_constraints import_constraints(struct import *im, const List *list)
{
    struct ast_constraints out = {0};
    ListCell *cell;

    out.items = IMPORT_ARRAY(im, struct ast_constraint, list_length(list));
    foreach(cell, list)
    {
        const Constraint *c = lfirst_node(Constraint, cell);

        if (!fold_attribute(im, c, &out)) {
            out.items[out.count] = import_constraint(im, c);
            out.count++;
        }
    }
    return out;
}

static struct ast_column_def import_column_def(struct import *im, const ColumnDef *c)
{
    struct ast_column_def out = {.location = c->location};

    if (c->compression != NULL || c->fdwoptions != NIL) {
        import__unsupported(im, "COMPRESSION", c->location);
    }
    out.name = import__str(im, c->colname);
    out.type = import__type(im, c->typeName);
    if (c->collClause != NULL) {
        out.collation = IMPORT_NEW(im, struct ast_name);
        *out.collation = import__name(im, c->collClause->collname, c->collClause->location);
    }
    out.constraints = import_constraints(im, c->constraints);
    return out;
}

static enum ast_persistence persistence_of(char relpersistence)
{
    return relpersistence == 't'   ? AST_TEMPORARY
           : relpersistence == 'u' ? AST_UNLOGGED
                                   : AST_PERMANENT;
}

/* What CREATE TABLE can say and our tree cannot. */
static void refuse_table_features(struct import *im, const CreateStmt *s)
{
    if (s->partbound != NULL || s->partspec != NULL) {
        import__unsupported(im, "PARTITION BY", s->relation->location);
    }
    if (s->inhRelations != NIL) {
        import__unsupported(im, "INHERITS", s->relation->location);
    }
    if (s->ofTypename != NULL) {
        import__unsupported(im, "CREATE TABLE OF", s->ofTypename->location);
    }
    if (s->oncommit != ONCOMMIT_NOOP) {
        import__unsupported(im, "ON COMMIT", s->relation->location);
    }
    if (s->tablespacename != NULL) {
        import__unsupported(im, "TABLESPACE", s->relation->location);
    }
    if (s->accessMethod != NULL) {
        import__unsupported(im, "USING", s->relation->location);
    }
}

static void import_elements(struct import *im, const List *elements, struct ast_create_table *out)
{
    const uint32_t count = (uint32_t)list_length(elements);
    const Constraint **own = IMPORT_ARRAY(im, const Constraint *, count);
    uint32_t own_count = 0;
    ListCell *cell;

    out->columns = IMPORT_ARRAY(im, struct ast_column_def, count);
    foreach(cell, elements)
    {
        const Node *node = lfirst(cell);

        if (IsA(node, ColumnDef)) {
            out->columns[out->columns_count] = import_column_def(im, (const ColumnDef *)node);
            out->columns_count++;
        } else if (IsA(node, Constraint)) {
            own[own_count++] = (const Constraint *)node;
        } else {
            import__unsupported(im, "LIKE in CREATE TABLE",
                                ((const TableLikeClause *)node)->relation->location);
        }
    }
    out->constraints.items = IMPORT_ARRAY(im, struct ast_constraint, own_count);
    for (uint32_t i = 0; i < own_count; i++) {
        out->constraints.items[i] = import_constraint(im, own[i]);
    }
    out->constraints.count = own_count;
}

struct ast_create_table *import__create_table(struct import *im, const CreateStmt *s)
{
    struct ast_create_table *out = IMPORT_NEW(im, struct ast_create_table);

    refuse_table_features(im, s);
    out->table = import__range_var(im, s->relation);
    out->if_not_exists = s->if_not_exists;
    out->persistence = persistence_of(s->relation->relpersistence);
    import_elements(im, s->tableElts, out);
    out->options = import__options(im, s->options);
    return out;
}

struct ast_drop_table *import__drop_table(struct import *im, const DropStmt *s)
{
    struct ast_drop_table *out = IMPORT_NEW(im, struct ast_drop_table);

    out->if_exists = s->missing_ok;
    out->cascade = s->behavior == DROP_CASCADE;
    out->tables.count = (uint32_t)list_length(s->objects);
    out->tables.items = IMPORT_ARRAY(im, struct ast_name, out->tables.count);
    for (uint32_t i = 0; i < out->tables.count; i++) {
        out->tables.items[i] = import__name(im, list_nth(s->objects, (int)i), -1);
    }
    return out;
}

struct ast_truncate *import__truncate(struct import *im, const TruncateStmt *s)
{
    struct ast_truncate *out = IMPORT_NEW(im, struct ast_truncate);

    out->tables = import__range_vars(im, s->relations);
    out->restart_identity = s->restart_seqs;
    out->cascade = s->behavior == DROP_CASCADE;
    return out;
}
