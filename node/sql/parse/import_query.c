/*
 * import_query.c -- SELECT, INSERT, UPDATE, DELETE.
 *
 * A set operation is a binary tree in PostgreSQL, deep to the left when many are written in a row.
 * Here it is a list of arms: the walk down the left side is a loop, so ten thousand UNION ALL are not
 * ten thousand levels. An operand that has its own ORDER BY, LIMIT, WITH or locking keeps its own
 * node.
 */
#include <string.h>

#include "node/sql/parse/import_internal.h"

/* libpg_query puts LIMIT_OPTION_DEFAULT first in its copy of enum LimitOption; the server's headers
 * have it last. */
#define PGQ_LIMIT_WITH_TIES 2

struct ast_name import__name(struct import *im, const List *names, int location)
{
    const int n = list_length(names);
    struct ast_name out = {.location = location};

    if (n > 3) {
        import__error(im, "42601", location, "improper qualified name (too many dotted names)");
    }
    out.name = import__str(im, strVal(list_nth(names, n - 1)));
    out.schema = n > 1 ? import__str(im, strVal(list_nth(names, n - 2))) : NULL;
    out.catalog = n > 2 ? import__str(im, strVal(list_nth(names, n - 3))) : NULL;
    return out;
}

struct ast_idents import__idents(struct import *im, const List *names, int location)
{
    struct ast_idents out = {.count = (uint32_t)list_length(names)};

    out.items = IMPORT_ARRAY(im, struct ast_ident, out.count);
    for (uint32_t i = 0; i < out.count; i++) {
        out.items[i] =
            (struct ast_ident){import__str(im, strVal(list_nth(names, (int)i))), location};
    }
    return out;
}

struct ast_name import__range_var(struct import *im, const RangeVar *var)
{
    return (struct ast_name){import__str(im, var->catalogname), import__str(im, var->schemaname),
                             import__str(im, var->relname), var->location};
}

struct ast_names import__range_vars(struct import *im, const List *list)
{
    struct ast_names out = {.count = (uint32_t)list_length(list)};

    out.items = IMPORT_ARRAY(im, struct ast_name, out.count);
    for (uint32_t i = 0; i < out.count; i++) {
        out.items[i] = import__range_var(im, list_nth(list, (int)i));
    }
    return out;
}

static const char *import_alias(struct import *im, const Alias *alias)
{
    return alias != NULL ? import__str(im, alias->aliasname) : NULL;
}

static struct ast_targets import_targets(struct import *im, const List *list)
{
    struct ast_targets out = {.count = (uint32_t)list_length(list)};

    if (out.count > AST_COLUMNS_MAX) {
        import__error(im, "54011", -1, "target lists can have at most %u entries", AST_COLUMNS_MAX);
    }
    out.items = IMPORT_ARRAY(im, struct ast_target, out.count);
    for (uint32_t i = 0; i < out.count; i++) {
        const ResTarget *r = list_nth(list, (int)i);
        struct ast_target *t = &out.items[i];

        t->expr = import__expr(im, r->val);
        t->aliased = r->name != NULL;
        t->label = t->aliased ? import__str(im, r->name) : import__label(im, r->val);
        t->location = r->location;
    }
    return out;
}

/* ---- FROM ------------------------------------------------------------------------------------ */

static struct ast_from *import_from(struct import *im, const Node *node);

static struct ast_from *new_from(struct import *im, enum ast_from_kind kind, int location,
                                 const Alias *alias)
{
    struct ast_from *f = IMPORT_NEW(im, struct ast_from);

    f->kind = kind;
    f->location = location;
    f->alias = import_alias(im, alias);
    if (alias != NULL) {
        f->column_aliases = import__idents(im, alias->colnames, location);
    }
    return f;
}

static struct ast_from *import_range_function(struct import *im, const RangeFunction *r)
{
    const List *first;
    struct ast_from *f;

    if (r->is_rowsfrom) {
        import__unsupported(im, "ROWS FROM", -1);
    }
    if (r->coldeflist != NIL) {
        import__unsupported(im, "a column definition list", -1);
    }
    first = linitial(r->functions);
    f = new_from(im, AST_FROM_FUNCTION, -1, r->alias);
    f->function = import__expr(im, linitial(first));
    f->location = f->function->location;
    f->lateral = r->lateral;
    f->with_ordinality = r->ordinality;
    return f;
}

static enum ast_join_kind join_of(struct import *im, JoinType type)
{
    switch ((int)type) {
    case JOIN_INNER:
        return AST_JOIN_INNER;
    case JOIN_LEFT:
        return AST_JOIN_LEFT;
    case JOIN_RIGHT:
        return AST_JOIN_RIGHT;
    case JOIN_FULL:
        return AST_JOIN_FULL;
    default:
        import__unsupported(im, "this kind of join", -1);
    }
}

static struct ast_from *import_join(struct import *im, const JoinExpr *j)
{
    struct ast_from *f = new_from(im, AST_FROM_JOIN, -1, j->alias);

    if (j->join_using_alias != NULL) {
        import__unsupported(im, "JOIN ... USING ... AS", -1);
    }
    f->join = IMPORT_NEW(im, struct ast_join);
    f->join->what = join_of(im, j->jointype);
    f->join->natural = j->isNatural;
    f->join->left = import_from(im, j->larg);
    f->join->right = import_from(im, j->rarg);
    f->join->using_columns = import__idents(im, j->usingClause, -1);
    f->join->on = import__expr(im, j->quals);
    f->location = f->join->left->location;
    return f;
}

static struct ast_from *import_from_kind(struct import *im, const Node *node)
{
    struct ast_from *f;

    switch ((int)nodeTag(node)) {
    case T_RangeVar: {
        const RangeVar *v = (const RangeVar *)node;

        f = new_from(im, AST_FROM_TABLE, v->location, v->alias);
        f->table = import__range_var(im, v);
        f->only = !v->inh;
        return f;
    }
    case T_RangeSubselect: {
        const RangeSubselect *s = (const RangeSubselect *)node;

        f = new_from(im, AST_FROM_SELECT, -1, s->alias);
        f->select = import__select(im, castNode(SelectStmt, s->subquery));
        f->location = f->select->location;
        f->lateral = s->lateral;
        return f;
    }
    case T_RangeFunction:
        return import_range_function(im, (const RangeFunction *)node);
    case T_JoinExpr:
        return import_join(im, (const JoinExpr *)node);
    case T_RangeTableSample:
        import__unsupported(im, "TABLESAMPLE", ((const RangeTableSample *)node)->location);
    case T_RangeTableFunc:
        import__unsupported(im, "XMLTABLE", ((const RangeTableFunc *)node)->location);
    default:
        import__unsupported(im, "this kind of table", -1);
    }
}

static struct ast_from *import_from(struct import *im, const Node *node)
{
    struct ast_from *f;

    import__enter(im, -1);
    f = import_from_kind(im, node);
    import__leave(im);
    return f;
}

static struct ast_froms import_froms(struct import *im, const List *list)
{
    struct ast_froms out = {.count = (uint32_t)list_length(list)};

    out.items = IMPORT_ARRAY(im, struct ast_from *, out.count);
    for (uint32_t i = 0; i < out.count; i++) {
        out.items[i] = import_from(im, list_nth(list, (int)i));
    }
    return out;
}

/* ---- SELECT ---------------------------------------------------------------------------------- */

static struct ast_with *import_with(struct import *im, const WithClause *w)
{
    struct ast_with *out;

    if (w == NULL) {
        return NULL;
    }
    out = IMPORT_NEW(im, struct ast_with);
    out->recursive = w->recursive;
    out->location = w->location;
    out->count = (uint32_t)list_length(w->ctes);
    out->items = IMPORT_ARRAY(im, struct ast_cte, out->count);
    for (uint32_t i = 0; i < out->count; i++) {
        const CommonTableExpr *c = list_nth(w->ctes, (int)i);
        struct ast_cte *cte = &out->items[i];

        if (c->search_clause != NULL || c->cycle_clause != NULL) {
            import__unsupported(im, "WITH ... SEARCH or CYCLE", c->location);
        }
        cte->name = import__str(im, c->ctename);
        cte->columns = import__idents(im, c->aliascolnames, c->location);
        cte->materialized = c->ctematerialized == CTEMaterializeAlways  ? AST_CTE_MATERIALIZED
                            : c->ctematerialized == CTEMaterializeNever ? AST_CTE_NOT_MATERIALIZED
                                                                        : AST_CTE_DEFAULT;
        cte->location = c->location;
        cte->stmt = import__nested(im, c->ctequery);
    }
    return out;
}

static enum ast_lock_strength strength_of(LockClauseStrength strength)
{
    switch (strength) {
    case LCS_NONE:
    case LCS_FORKEYSHARE:
        return AST_LOCK_KEY_SHARE;
    case LCS_FORSHARE:
        return AST_LOCK_SHARE;
    case LCS_FORNOKEYUPDATE:
        return AST_LOCK_NO_KEY_UPDATE;
    case LCS_FORUPDATE:
        return AST_LOCK_UPDATE;
    }
    return AST_LOCK_UPDATE;
}

static void import_locking(struct import *im, const List *list, struct ast_select *out)
{
    out->locking_count = (uint32_t)list_length(list);
    out->locking = IMPORT_ARRAY(im, struct ast_locking, out->locking_count);
    for (uint32_t i = 0; i < out->locking_count; i++) {
        const LockingClause *l = list_nth(list, (int)i);
        struct ast_locking *k = &out->locking[i];

        k->strength = strength_of(l->strength);
        k->wait = l->waitPolicy == LockWaitSkip    ? AST_LOCK_SKIP_LOCKED
                  : l->waitPolicy == LockWaitError ? AST_LOCK_NOWAIT
                                                   : AST_LOCK_BLOCK;
        k->tables = import__range_vars(im, l->lockedRels);
    }
}

static void import_values(struct import *im, const List *rows, struct ast_select *out)
{
    out->is_values = true;
    out->rows_count = (uint32_t)list_length(rows);
    out->rows = IMPORT_ARRAY(im, struct ast_row, out->rows_count);
    for (uint32_t i = 0; i < out->rows_count; i++) {
        const struct ast_exprs row = import__exprs(im, list_nth(rows, (int)i));

        out->rows[i] = (struct ast_row){row.items, row.count};
    }
    if (out->rows_count > 0 && out->rows[0].count > 0) {
        out->location = out->rows[0].items[0]->location;
    }
}

static void import_plain(struct import *im, const SelectStmt *s, struct ast_select *out)
{
    if (s->intoClause != NULL) {
        import__unsupported(im, "SELECT INTO", s->intoClause->rel->location);
    }
    if (s->windowClause != NIL) {
        import__unsupported(im, "WINDOW", ((const WindowDef *)linitial(s->windowClause))->location);
    }
    if (s->groupDistinct) {
        import__unsupported(im, "GROUP BY DISTINCT", -1);
    }
    out->distinct = s->distinctClause != NIL;
    if (out->distinct && linitial(s->distinctClause) != NULL) {
        out->distinct_on = import__exprs(im, s->distinctClause);
    }
    out->targets = import_targets(im, s->targetList);
    out->from = import_froms(im, s->fromClause);
    out->where = import__expr(im, s->whereClause);
    out->group_by = import__exprs(im, s->groupClause);
    out->having = import__expr(im, s->havingClause);
    if (out->targets.count > 0) {
        out->location = out->targets.items[0].location;
    }
}

/* Has this operand of a set operation clauses of its own, besides being one itself? */
static bool is_bare_setop(const SelectStmt *s)
{
    return s->op != SETOP_NONE && s->sortClause == NIL && s->limitOffset == NULL &&
           s->limitCount == NULL && s->lockingClause == NIL && s->withClause == NULL;
}

static enum ast_setop setop_of(SetOperation op)
{
    return op == SETOP_INTERSECT ? AST_INTERSECT : op == SETOP_EXCEPT ? AST_EXCEPT : AST_UNION;
}

static void import_arms(struct import *im, const SelectStmt *top, struct ast_select *out)
{
    const SelectStmt *s = top;
    uint32_t count = 1;

    for (; is_bare_setop(s->larg); s = s->larg) {
        count++;
    }
    out->arms_count = count;
    out->arms = IMPORT_ARRAY(im, struct ast_arm, count);
    s = top;
    for (uint32_t i = count; i-- > 0; s = s->larg) {
        struct ast_arm *arm = &out->arms[i];

        arm->op = setop_of(s->op);
        arm->all = s->all;
        arm->select = import__select(im, s->rarg);
        arm->location = arm->select->location;
    }
    out->first = import__select(im, s);
    out->location = out->first->location;
}

/* LIMIT ALL is a NULL constant. */
static bool is_null_const(const Node *node)
{
    return node != NULL && IsA(node, A_Const) && ((const A_Const *)node)->isnull;
}

struct ast_select *import__select(struct import *im, const SelectStmt *s)
{
    struct ast_select *out = IMPORT_NEW(im, struct ast_select);

    import__enter(im, -1);
    out->location = -1;
    out->with = import_with(im, s->withClause);
    if (s->op != SETOP_NONE) {
        import_arms(im, s, out);
    } else if (s->valuesLists != NIL) {
        import_values(im, s->valuesLists, out);
    } else {
        import_plain(im, s, out);
    }
    out->order = import__orders(im, s->sortClause);
    out->limit = is_null_const(s->limitCount) ? NULL : import__expr(im, s->limitCount);
    out->offset = import__expr(im, s->limitOffset);
    out->with_ties = (int)s->limitOption == PGQ_LIMIT_WITH_TIES;
    import_locking(im, s->lockingClause, out);
    import__leave(im);
    return out;
}

/* ---- INSERT, UPDATE, DELETE ------------------------------------------------------------------ */

/* ResTargets that name columns. */
static struct ast_idents import_columns(struct import *im, const List *list)
{
    struct ast_idents out = {.count = (uint32_t)list_length(list)};

    out.items = IMPORT_ARRAY(im, struct ast_ident, out.count);
    for (uint32_t i = 0; i < out.count; i++) {
        const ResTarget *r = list_nth(list, (int)i);

        if (r->indirection != NIL) {
            import__unsupported(im, "assignment to an element or a field", r->location);
        }
        out.items[i] = (struct ast_ident){import__str(im, r->name), r->location};
    }
    return out;
}

/* The value of one column of (a, b) = ROW(x, y). */
static const Node *multi_value(struct import *im, const MultiAssignRef *m)
{
    const RowExpr *row;

    if (IsA(m->source, SubLink)) {
        import__unsupported(im, "SET (...) = (SELECT ...)", ((const SubLink *)m->source)->location);
    }
    if (!IsA(m->source, RowExpr)) {
        import__error(im, "0A000", import__expr(im, m->source)->location,
                      "source for a multiple-column UPDATE item must be a sub-SELECT or ROW() "
                      "expression");
    }
    row = (const RowExpr *)m->source;
    if (list_length(row->args) != m->ncolumns) {
        import__error(im, "42601", row->location,
                      "number of columns does not match number of values");
    }
    return list_nth(row->args, m->colno - 1);
}

static struct ast_assigns import_assigns(struct import *im, const List *list)
{
    struct ast_assigns out = {.count = (uint32_t)list_length(list)};
    const struct ast_idents columns = import_columns(im, list);

    out.items = IMPORT_ARRAY(im, struct ast_assign, out.count);
    for (uint32_t i = 0; i < out.count; i++) {
        const Node *value = ((const ResTarget *)list_nth(list, (int)i))->val;

        if (IsA(value, MultiAssignRef)) {
            value = multi_value(im, (const MultiAssignRef *)value);
        }
        out.items[i].column = columns.items[i];
        out.items[i].value = import__expr(im, value);
    }
    return out;
}

/* ON CONFLICT (a, b): plain columns only. */
static struct ast_idents import_infer_columns(struct import *im, const InferClause *infer)
{
    struct ast_idents out = {.count = (uint32_t)list_length(infer->indexElems)};

    out.items = IMPORT_ARRAY(im, struct ast_ident, out.count);
    for (uint32_t i = 0; i < out.count; i++) {
        const IndexElem *e = list_nth(infer->indexElems, (int)i);

        if (e->name == NULL || e->collation != NIL || e->opclass != NIL) {
            import__unsupported(im, "ON CONFLICT on an expression", infer->location);
        }
        out.items[i] = (struct ast_ident){import__str(im, e->name), infer->location};
    }
    return out;
}

static struct ast_conflict import_conflict(struct import *im, const OnConflictClause *c)
{
    struct ast_conflict out = {.action = AST_CONFLICT_NONE, .location = -1, .infer_location = -1};

    if (c == NULL) {
        return out;
    }
    out.action = c->action == ONCONFLICT_UPDATE ? AST_CONFLICT_UPDATE : AST_CONFLICT_NOTHING;
    out.location = c->location;
    if (c->infer != NULL) {
        out.infer_location = c->infer->location;
        out.columns = import_infer_columns(im, c->infer);
        out.constraint = import__str(im, c->infer->conname);
        out.index_where = import__expr(im, c->infer->whereClause);
    }
    out.sets = import_assigns(im, c->targetList);
    out.where = import__expr(im, c->whereClause);
    return out;
}

struct ast_insert *import__insert(struct import *im, const InsertStmt *s)
{
    struct ast_insert *out = IMPORT_NEW(im, struct ast_insert);

    out->with = import_with(im, s->withClause);
    out->table = import__range_var(im, s->relation);
    out->alias = import_alias(im, s->relation->alias);
    out->columns = import_columns(im, s->cols);
    out->source =
        s->selectStmt != NULL ? import__select(im, castNode(SelectStmt, s->selectStmt)) : NULL;
    out->overriding_system = s->override == OVERRIDING_SYSTEM_VALUE;
    out->overriding_user = s->override == OVERRIDING_USER_VALUE;
    out->conflict = import_conflict(im, s->onConflictClause);
    out->returning = import_targets(im, s->returningList);
    return out;
}

struct ast_update *import__update(struct import *im, const UpdateStmt *s)
{
    struct ast_update *out = IMPORT_NEW(im, struct ast_update);

    out->with = import_with(im, s->withClause);
    out->table = import__range_var(im, s->relation);
    out->alias = import_alias(im, s->relation->alias);
    out->sets = import_assigns(im, s->targetList);
    out->from = import_froms(im, s->fromClause);
    out->where = import__expr(im, s->whereClause);
    out->returning = import_targets(im, s->returningList);
    return out;
}

struct ast_delete *import__delete(struct import *im, const DeleteStmt *s)
{
    struct ast_delete *out = IMPORT_NEW(im, struct ast_delete);

    out->with = import_with(im, s->withClause);
    out->table = import__range_var(im, s->relation);
    out->alias = import_alias(im, s->relation->alias);
    out->using_ = import_froms(im, s->usingClause);
    out->where = import__expr(im, s->whereClause);
    out->returning = import_targets(im, s->returningList);
    return out;
}
